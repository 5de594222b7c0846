"""Run a study: plan, estimate, fill the stores, train what is missing, and keep what came."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float64, Int64

from sevenfold import account, atomic, latency, train, trial
from sevenfold.data import SmallClasses, Split
from sevenfold.errors import SevenfoldError, UsageError
from sevenfold.image import shown
from sevenfold.loop import Place
from sevenfold.practices import ensembling, growth, pruning
from sevenfold.practices.growth import Growth
from sevenfold.progress import Progress, duration
from sevenfold.recipe import PRACTICES, Recipe, to_toml
from sevenfold.studies.evidence import arms as plans
from sevenfold.studies.evidence import folds, trials
from sevenfold.studies.evidence.arms import Arm, Plan, Training
from sevenfold.studies.evidence.engines import Engine, Json
from sevenfold.studies.evidence.estimate import Gauge, estimated, gauged
from sevenfold.studies.evidence.outcomes import Outcome, Study
from sevenfold.studies.evidence.trials import Ground
from sevenfold.studies.folder import kept
from sevenfold.train import bench

Watch = Callable[[Study, Sequence[Outcome], float], None]
"""Is told the study, what has come so far, and how many seconds are left."""

EVIDENCE_BLOCKS: Final = 1
"""Blocks that are trained where the recipe does not say: the last alone, so that a training
of 3,000 pictures takes half a minute on one core."""
OURS: Final = {"trials", "evidence.json", "evidence.html"}
_PICTURES_AT_ONCE: Final = 256  # of a call that fills the stores


@dataclass(frozen=True)
class Asked:
    """Say what is measured.

    Args:
        recipe: that the reference stands for.
        practices: names; empty: all seven.
        repetitions: folds, each judged once.
        budget: as the user named it, for the head of the table.
        kept: whether checkpoints lie in the run, so that a stopped trial goes on.
    """

    recipe: Recipe
    practices: tuple[str, ...] = ()
    repetitions: int = folds.CLAIMING
    budget: str = ""
    kept: bool = True


@dataclass(frozen=True)
class Reading:
    """Say which pictures, in words that every worker understands.

    Args:
        data: folder, table or packaged name.
        columns: names of a table's columns, by what they hold.
        group_by: pattern that takes the group from the file name, or "".
        small_classes: `refuse`, `drop` or `other`.
    """

    data: str
    columns: Mapping[str, str]
    group_by: str = ""
    small_classes: SmallClasses = "refuse"


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


def told(reading: Reading, asked: Asked, place: Place) -> dict[str, Any]:
    """Say which pictures, for `trials.read`, whatever they are."""
    return {
        "data": reading.data
        if not Path(reading.data).exists()
        else str(Path(reading.data).resolve()),
        "columns": dict(reading.columns),
        "group_by": reading.group_by,
        "small_classes": reading.small_classes,
        "side": asked.recipe.side,
        "repetitions": asked.repetitions,
        "threads": place.threads,
        "device": place.device,
        "digest": "",
    }


def laid(
    ground: Ground,
    reading: Mapping[str, Any],
    asked: Asked,
    out: Path,
    progress: Progress,
    *,
    planner: Callable[..., Plan] = plans.planned,
) -> Course:
    """Plan a study of some data. Measures what a step and an exported file cost.

    Args:
        ground: the data.
        reading: from `told`, with the digest.
        asked: what is measured.
        out: the study's folder.
        progress: is told the stages.
        planner: lists the arms; see `arms.planned`.

    Raises:
        UsageError: a practice that was named is off, or `out` holds evidence of other data.
        DataError: there is too little data for any claim.
    """
    split = ground.split
    folds.check(split, asked.repetitions)
    _own(out, folds.digest(split.dataset, split), split)
    parted = tuple(ground.folded(at) for at in range(asked.repetitions))
    recipe = plans.single(train.settle(asked.recipe, parted[0]))
    counts = np.bincount(
        split.dataset.labels[parted[0].train], minlength=len(split.dataset.classes)
    )
    progress("plan", 0, 3)
    prunable = ""
    if "pruning" in (asked.practices or PRACTICES):
        prunable = _unprunable(recipe, len(split.dataset.classes))
    plan = planner(recipe, counts, asked.practices, prunable=prunable)
    progress("plan", 1, 3)
    gauges = _gauged(plan.arms, len(split.dataset.classes), out)
    progress("plan", 2, 3)
    trainings = list({str(one): one for arm in plan.arms for one in arm.trainings}.values())
    stored = _stored(trainings)
    cost = estimated(
        trainings,
        stored,
        len(folds.outside_test(split)),
        len(parted[0].train),
        len(split.dataset.classes),
        ground.place,
    )
    progress("plan", 3, 3)
    tasks = [
        _task(one, at, parted[at], ground, reading, asked, out)
        for at in range(asked.repetitions)
        for one in trainings
    ]
    seconds = {task.key: cost.seconds[at % len(trainings)] for at, task in enumerate(tasks)} | {
        "": cost.rows * cost.row_seconds
    }
    study = Study(
        split.dataset.name,
        split.dataset.classes,
        split.dataset.labels,
        _numbered(split.dataset.groups),
        recipe.objective,
        asked.repetitions,
        tuple(arm.name for arm in plan.arms),
        plan.contrasts,
        plan.not_in_use,
        to_toml(replace(asked.recipe, objective=recipe.objective)),
        _regime(recipe, asked, parted[0], split, ground.place)
        | {"store_megabytes": cost.rows * cost.row_bytes / 1e6},
    )
    fills = tuple(_fills(stored, folds.outside_test(split), reading))
    return Course(study, plan, ground, parted, gauges, tuple(tasks), fills, seconds, out / "trials")


def _own(out: Path, digest: str, split: Split) -> None:
    """Refuse a folder with evidence of other pictures; write down which these are."""
    path = out / "trials" / "data.json"
    held = kept(path).get("digest", digest)
    if held != digest:
        raise UsageError(
            f"--out {out} holds evidence of other pictures than {shown(split.dataset.name)}",
            "name a new folder, or give the pictures that the folder is about",
        )
    atomic.write(path, json.dumps({"digest": digest}))


def _unprunable(recipe: Recipe, classes: int) -> str:
    """Tell why the network cannot be pruned by the step that is measured, or ""."""
    network, _ = bench.start(recipe, classes, 0)
    try:
        coupling = pruning.couple(network.eval(), recipe.side)
        limits = pruning.Limits(dense={one.name: one.channels for one in coupling.groups})
        noise = torch.rand(2, 3, recipe.side, recipe.side) * 255, torch.zeros(2, classes)
        how = pruning.Trimming(pruning.Pruning(), limits, lambda: iter([noise]), recipe.side, 0)
        least = pruning.cost(pruning.smallest(network, how), recipe.side).macs
    except SevenfoldError as error:
        return error.problem
    whole = pruning.cost(network, recipe.side).macs
    if least > plans.LEFT * whole:
        return f"floors of channels leave {least / whole:.0%} of the network's work at least"
    return ""


def _gauged(arms: Sequence[Arm], classes: int, out: Path) -> dict[str, Gauge]:
    """Measure the arms' files, or recall what was measured here."""
    name = f"{[(arm.name, arm.trainings) for arm in arms]} {classes} {latency.processor()}"
    state = f"{name} {account.versions()} {trial.source_hash()}"
    key = hashlib.blake2b(state.encode(), digest_size=8).hexdigest()
    path = out / "trials" / f"files-{key}.json"
    if not (held := kept(path)):
        held = {name: vars(one) for name, one in gauged(arms, classes).items()}
        atomic.write(path, json.dumps(held))
    return {name: Gauge(**one) for name, one in held.items()}


def _stored(trainings: Sequence[Training]) -> list[Recipe]:
    """Return a recipe of each set of views that the stores hold."""
    found: dict[str, Recipe] = {}
    for one in trainings:
        recipe = one.recipe
        if recipe.views:  # otherwise pixels, which are augmented whenever they are needed
            name = str((recipe.side, recipe.views, recipe.transfer, recipe.augmentation))
            found.setdefault(name, recipe)
    return list(found.values())


def _fills(
    stored: Sequence[Recipe], pictures: Int64[np.ndarray, "pictures"], reading: Mapping[str, Any]
) -> Iterator[Json]:
    for recipe in stored:
        for start in range(0, len(pictures), _PICTURES_AT_ONCE):
            some = pictures[start : start + _PICTURES_AT_ONCE].tolist()
            yield {
                "recipe": trials.told_of(Training(recipe))["recipe"],
                "pictures": some,
                "ground": reading,
            }


def _task(
    training: Training,
    repetition: int,
    split: Split,
    ground: Ground,
    reading: Mapping[str, Any],
    asked: Asked,
    out: Path,
) -> Task:
    """Name a trial by all that its result depends on."""
    seed = repetition + training.number * asked.repetitions
    trained_on = growth.given(split, Growth(training.share), repetition)
    key = trial.key(training.recipe, replace(split, train=trained_on), seed, ground.place)
    if training.carving or reading["device"] != ground.place.device:
        key = f"{key} {training.carving} {reading['device']}"
        key = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    call = {
        "training": trials.told_of(training),
        "repetition": repetition,
        "seed": seed,
        "folder": str((out / "trials" / key).resolve()) if asked.kept else "",
        "ground": reading,
    }
    return Task(training, repetition, key, call)


def _numbered(groups: Sequence[str]) -> Int64[np.ndarray, "pictures"]:
    return np.unique(np.array(groups), return_inverse=True)[1].astype(np.int64)


def _regime(
    recipe: Recipe, asked: Asked, fold: Split, split: Split, place: Place
) -> dict[str, Any]:
    """Say in which regime the evidence holds."""
    return {
        "budget": asked.budget,
        "backbone": recipe.transfer.backbone,
        "trainable_blocks": recipe.transfer.trainable_blocks,
        "side": recipe.side,
        "views": recipe.views,
        "epochs": recipe.epochs,
        "batch": recipe.batch,
        "pictures": len(folds.outside_test(split)),
        "trained_on": len(fold.train),
        "stopped_by": len(fold.val),
        "closed": len(split.test),
        "members": plans.MEMBERS,
        "macs_left": plans.LEFT,
        "retrained_on": plans.RETRAINED,
        "resolved": folds.resolved(len(folds.outside_test(split))),
        "device": place.device,
        "threads": place.threads,
        "processor": latency.processor(),
        "versions": account.versions(),
    }


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
    missing = [task for task in course.tasks if task.key not in found]
    if missing:
        rows = len(course.fills)
        for done, _ in enumerate(engine.run(course.fills, trials.FILL), 1):
            progress("stores", done, rows)
    watch(course.study, outcomes_of(course, found), left(course, found, engine))
    for number, result in engine.run([task.call for task in missing], trials.TRAIN):
        key = missing[number].key
        atomic.write(course.folder / f"{key}.json", json.dumps(result, allow_nan=False))
        found[key] = dict(result)
        watch(course.study, outcomes_of(course, found), left(course, found, engine))
    return outcomes_of(course, found)


def recalled(course: Course) -> dict[str, dict[str, Any]]:
    """Read the results that are there, by key."""
    found = {task.key: kept(course.folder / f"{task.key}.json") for task in course.tasks}
    return {key: result for key, result in found.items() if "parts" in result}


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
    return first + sum(float(one["seconds"]) - first for name, one in parts.items() if name)


def whole(course: Course, engine: Engine) -> str:
    """Say what the study will take, before it starts."""
    found = recalled(course)
    seconds = left(course, found, engine)
    if len(found) < len(course.tasks):
        seconds += course.seconds[""] / engine.workers
    size = course.study.regime["store_megabytes"]
    return (
        f"{len(course.tasks)} trainings, {len(found)} of them done; about {duration(seconds)} with "
        f"{engine.workers} at a time, up to {size:,.0f} MB of disk"
    )


def outcomes_of(course: Course, found: Mapping[str, Mapping[str, Any]]) -> list[Outcome]:
    """Return the outcomes of all arms whose trainings are there."""
    tasks = {(str(task.training), task.repetition): task.key for task in course.tasks}
    made = []
    for repetition, split in enumerate(course.parted):
        for arm in course.plan.arms:
            keys = [tasks[str(one), repetition] for one in arm.trainings]
            if all(key in found for key in keys):
                parts = [found[key]["parts"][arm.part] for key in keys]
                made.append(_outcome(course, arm, repetition, split, parts))
    return made


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
    gauge = course.gauges[arm.name]
    return Outcome(
        arm.name,
        repetition,
        split.test,
        _softmax(judged / temperature),
        float(sum(part["seconds"] for part in parts)),
        gauge.megabytes * float(detail.get("megabytes_left", 1.0)),
        gauge.latency_ms * float(detail.get("latency_left", 1.0)),
        detail,
    )


def _softmax(logits: Float64[np.ndarray, "rows classes"]) -> Float64[np.ndarray, "rows classes"]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def workers_of(threads: int) -> tuple[int, int]:
    """Return processes and the threads of each, on this machine.

    Args:
        threads: of each; 0 is one for every eight cores, since trainings side by side waste
            less than threads of one.
    """
    cores = os.cpu_count() or 1
    each = threads or max(1, cores // 8)
    return max(1, cores // each), each
