"""Run a study: plan, estimate, fill the stores, train what is missing, and keep what came."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy.special import softmax

from sevenfold.data import Split
from sevenfold.engines import Engine, Json
from sevenfold.engines.cluster import OnRay
from sevenfold.practices import ensembling
from sevenfold.progress import Progress, duration
from sevenfold.recipe import Recipe
from sevenfold.studies import folder
from sevenfold.studies.evidence import folds, trials
from sevenfold.studies.evidence.arms import Arm, Plan, Training
from sevenfold.studies.evidence.estimate import CARVED_SECONDS, TRIAL_SECONDS, Gauge
from sevenfold.studies.evidence.outcomes import Outcome, Study
from sevenfold.studies.evidence.trials import Ground

Watch = Callable[[Study, Sequence[Outcome], float], None]
"""Is told the study, what has come so far, and how many seconds are left."""

EVIDENCE_BLOCKS: Final = 1
"""Blocks that are trained where the recipe does not say: the last alone, so that a training
of 3,000 pictures takes half a minute on one core."""
_SEEDS: Final = 10_000  # of one study: repetitions times members
OURS: Final = {"trials", "evidence.json", "evidence.html", "recommended.toml"}


@dataclass(frozen=True)
class Asked:
    """Say what is measured.

    Args:
        recipe: that the reference stands for.
        practices: names; empty: all seven.
        repetitions: folds, each judged once.
        budget: as the user named it, for the head of the table.
        kept: whether checkpoints lie in the run, so that a stopped trial goes on.
        seed: of the study; another number draws other folds, views and seeds of training.
        blocks: trained blocks of the recipe that is advised, where the study trains fewer to
            be cheap; None: those of `recipe`.
    """

    recipe: Recipe
    practices: tuple[str, ...] = ()
    repetitions: int = folds.CLAIMING
    budget: str = ""
    kept: bool = True
    seed: int = 0
    blocks: int | None = None

    @property
    def wanted(self) -> Recipe:
        """Return the recipe that advice changes: as it trains, which measures no practices."""
        transfer = self.recipe.transfer
        blocks = transfer.trainable_blocks if self.blocks is None else self.blocks
        return replace(
            self.recipe, transfer=replace(transfer, trainable_blocks=blocks), evidence_minutes=0.0
        )

    def shared(self, repetition: int) -> int:
        """Return the seed that all arms of a repetition have in common."""
        return _SEEDS * self.seed + repetition


@dataclass(frozen=True)
class Task:
    """Name one trial of a study.

    Args:
        training: what is trained.
        repetition: from 0.
        key: of its file.
        call: that an engine is given.
    """

    training: Training
    repetition: int
    key: str
    call: Json


@dataclass(frozen=True, eq=False)
class Course:
    """Hold a study that is planned and not yet run.

    Args:
        study: what is compared.
        plan: its arms.
        ground: the data.
        parted: the roles of each repetition.
        gauges: of each arm's file.
        tasks: all trials, in their order.
        fills: calls that fill the stores.
        seconds: of each training, estimated.
        folder: where results lie.
    """

    study: Study
    plan: Plan
    ground: Ground
    parted: tuple[Split, ...]
    gauges: Mapping[str, Gauge]
    tasks: tuple[Task, ...]
    fills: tuple[Json, ...]
    seconds: Mapping[str, float]
    folder: Path


def run(course: Course, engine: Engine, progress: Progress, watch: Watch) -> list[Outcome]:
    """Train what is missing and return all outcomes. Writes each result when it comes.

    Args:
        course: from `laid`.
        engine: where trials run.
        progress: is told the stores.
        watch: is told whenever a trial has ended.

    Raises:
        SevenfoldError: as a trial raised it; what has ended before is kept.
    """
    found = recalled(course)
    calls = {task.key: task.call for task in course.tasks if task.key not in found}
    made: Made = {}

    def seen() -> None:
        watch(course.study, outcomes_of(course, found, made), left(course, found, engine))

    seen()
    if calls:
        rows = len(course.fills)
        for done, _ in enumerate(_filled(course.fills, engine), 1):
            progress("stores", done, rows)
    folder.complete(found, calls, trials.TRAIN, engine, course.folder, ended=seen)
    return outcomes_of(course, found, made)


def _filled(calls: Sequence[Json], engine: Engine) -> Iterator[object]:
    """Fill the stores: each part once, or on every node of a cluster whose nodes share none."""
    if isinstance(engine, OnRay) and not all(call["ground"]["shared"] for call in calls):
        return (engine.everywhere(call, trials.FILL) for call in calls)
    return engine.run(calls, trials.FILL)


def recalled(course: Course) -> dict[str, dict[str, Any]]:
    """Read the results that are there, by key."""
    return folder.recalled(course.folder, [task.key for task in course.tasks])


def left(course: Course, found: Mapping[str, Any], engine: Engine) -> float:
    """Estimate the seconds that are left, by how far the estimate was off until now."""
    expected = {task.key: course.seconds[task.key] for task in course.tasks}
    missing = sum(took for key, took in expected.items() if key not in found)
    before = sum(took for key, took in expected.items() if key in found)
    real = sum(_took(result) for result in found.values())
    return missing * (real / before if before else 1.0) / engine.workers


def _took(result: Mapping[str, Any]) -> float:
    """Return the seconds of a trial with all its parts, each of which holds the first's."""
    parts = result["parts"]
    first = float(parts[""]["seconds"])
    beside = TRIAL_SECONDS + (CARVED_SECONDS if len(parts) > 1 else 0.0)  # that nobody timed
    parted = sum(float(one["seconds"]) - first for name, one in parts.items() if name)
    return first + parted + beside


def needed(course: Course, engine: Engine) -> float:
    """Estimate the seconds that a study will take, with its stores."""
    found = recalled(course)
    stores = course.seconds[""] if len(found) < len(course.tasks) else 0.0
    return left(course, found, engine) + stores / engine.workers


def whole(course: Course, engine: Engine) -> str:
    """Say what the study will take, before it starts."""
    found, seconds = recalled(course), needed(course, engine)
    size = course.study.regime["store_megabytes"]
    return (
        f"{len(course.tasks)} trainings, {len(found)} of them done; about {duration(seconds)} with "
        f"{engine.workers} at a time, up to {size:,.0f} MB of disk"
    )


Made = dict[tuple[str, int], Outcome]
"""Outcomes by arm and repetition."""


def outcomes_of(
    course: Course, found: Mapping[str, Mapping[str, Any]], made: Made
) -> list[Outcome]:
    """Return the outcomes of all arms whose trainings are there. Adds new ones to `made`."""
    tasks = {(str(task.training), task.repetition): task.key for task in course.tasks}
    for repetition, split in enumerate(course.parted):
        for arm in course.plan.arms:
            keys = [tasks[str(one), repetition] for one in arm.trainings]
            if (arm.name, repetition) not in made and all(key in found for key in keys):
                parts = [found[key]["parts"][arm.part] for key in keys]
                made[arm.name, repetition] = _outcome(course, arm, repetition, split, parts)
    every = ((arm.name, at) for at in range(len(course.parted)) for arm in course.plan.arms)
    return [made[one] for one in every if one in made]


def _outcome(
    course: Course, arm: Arm, repetition: int, split: Split, parts: Sequence[Mapping[str, Any]]
) -> Outcome:
    labels = split.dataset.labels
    tuning, judged = (
        ensembling.pool(
            np.stack([trials.unpacked(part[name]) for part in parts]),
            np.full(len(parts), 1 / len(parts)),
            "soft",
        )
        for name in ("tuning", "judged")
    )
    temperature = trials.temperature_of(tuning, labels[split.val])
    detail = dict(parts[0]["detail"]) | {"temperature": temperature, "members": len(parts)}
    detail["diverged"] = any(part["diverged"] for part in parts)
    gauge = course.gauges[arm.name]
    return Outcome(
        arm.name,
        repetition,
        split.test,
        softmax(judged / temperature, axis=1),
        float(sum(part["seconds"] for part in parts)),
        gauge.megabytes * float(detail.get("megabytes_left", 1.0)),
        gauge.latency_ms[repetition] * float(detail.get("latency_left", 1.0)),
        detail,
    )
