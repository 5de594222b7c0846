"""Plan a study: its arms, what they share, every trial by name, and what all of it costs."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Int64

from sevenfold import account, atomic, latency, train, trial
from sevenfold.data import Split
from sevenfold.engines import Json
from sevenfold.errors import SevenfoldError, UsageError
from sevenfold.image import shown
from sevenfold.place import Place
from sevenfold.practices import growth, pruning
from sevenfold.practices.augmentation import Augmentation
from sevenfold.practices.growth import Growth
from sevenfold.progress import Progress
from sevenfold.recipe import PRACTICES, Recipe, to_toml
from sevenfold.studies.evidence import arms as plans
from sevenfold.studies.evidence import folds, trials
from sevenfold.studies.evidence.arms import Arm, Plan, Training
from sevenfold.studies.evidence.course import Asked, Course, Task
from sevenfold.studies.evidence.estimate import Gauge, estimated, gauged
from sevenfold.studies.evidence.frozen import frozen
from sevenfold.studies.evidence.outcomes import Study
from sevenfold.studies.evidence.trials import Ground
from sevenfold.studies.folder import kept
from sevenfold.studies.pictures import contents_of, digest, seen_apart, trained_at
from sevenfold.train import bench, refusals

_PICTURES_AT_ONCE: Final = 256  # of a call that fills the stores


def laid(
    ground: Ground,
    reading: Mapping[str, Any],
    asked: Asked,
    out: Path,
    progress: Progress,
    *,
    workers: int = 1,
    planner: Callable[..., Plan] = plans.planned,
) -> Course:
    """Plan a study of some data. Measures what a step and an exported file cost.

    Args:
        ground: the data.
        reading: from `pictures.ground_of`, with the digest.
        asked: what is measured.
        out: the study's folder.
        progress: is told the stages.
        workers: trials at a time, for the estimate of the whole study that its facts hold.
        planner: lists the arms; see `arms.planned`.

    Raises:
        UsageError: a practice that was named is off, or `out` holds evidence of other data.
        DataError: there is too little data for any claim.
    """
    split = ground.split
    folds.check(split, asked.repetitions)
    _own(out, digest(split.dataset, split), split)
    parted = tuple(ground.folded(at) for at in range(asked.repetitions))
    recipe = plans.single(train.settle(seeded(asked), parted[0]))
    classes, some = len(split.dataset.classes), folds.outside_test(split)
    counts = np.bincount(split.dataset.labels[parted[0].train], minlength=classes)
    progress("plan", 0, 3)
    # Also where pruning is not asked for: verdicts are adjusted for all practices in use.
    prunable = _unprunable(recipe, classes)
    plan = planner(recipe, counts, asked.practices, prunable=prunable)
    progress("plan", 1, 3)
    gauges = _gauged(plan.arms, classes, len(parted), out)
    progress("plan", 2, 3)
    trainings = list({str(one): one for arm in plan.arms for one in arm.trainings}.values())
    # Where there are no views, pixels are augmented whenever they are needed.
    stored = seen_apart(one.recipe for one in trainings if one.recipe.views)
    cost = estimated(trainings, stored, len(some), counts, ground.place)
    progress("plan", 3, 3)
    tasks = [
        _task(one, at, parted[at], ground, reading, asked, out)
        for at in range(asked.repetitions)
        for one in trainings
    ]
    seconds = {task.key: cost.seconds[at % len(trainings)] for at, task in enumerate(tasks)} | {
        "": cost.rows * cost.row_seconds
    }
    costs = {
        "store_megabytes": cost.rows * cost.row_bytes / 1e6,
        "estimated_seconds": round(sum(seconds.values()) / workers),
    }
    study = Study(
        split.dataset.name,
        split.dataset.classes,
        frozen(split.dataset.labels),
        frozen(_numbered(split.dataset.groups)),
        recipe.objective,
        asked.repetitions,
        tuple(arm.name for arm in plan.arms),
        plan.contrasts,
        frozen(plan.not_in_use),
        to_toml(replace(asked.wanted, objective=recipe.objective)),
        frozen(_regime(recipe, asked, parted[0], split, ground.place) | costs),
        family=_family(recipe, counts, prunable),
        trained_on=frozen(_trained_on(plan, parted, asked)),
    )
    fills = tuple(_fills(stored, some, reading))
    return Course(study, plan, ground, parted, gauges, tuple(tasks), fills, seconds, out / "trials")


def _family(recipe: Recipe, counts: Int64[np.ndarray, "classes"], prunable: str) -> int:
    """Count the practices that are in use, whether they are asked for or not."""
    unused = {*plans.idle(recipe, counts), *(("pruning",) if prunable else ())}
    return len(set(PRACTICES) - unused)


def _trained_on(plan: Plan, parted: Sequence[Split], asked: Asked) -> dict[str, float]:
    """Return how many pictures each arm's weights are fitted to, on average."""
    shares = {arm.name: arm.trainings[0].share for arm in plan.arms}
    counts = {
        share: [
            len(growth.given(split, Growth(share), asked.shared(at)))
            for at, split in enumerate(parted)
        ]
        for share in set(shares.values())
    }
    return {name: float(np.mean(counts[share])) for name, share in shares.items()}


def seeded(asked: Asked) -> Recipe:
    """Return the recipe with the views of the study's seed."""
    views = asked.recipe.augmentation
    if not asked.seed or views == Augmentation.off:
        return asked.recipe
    return replace(asked.recipe, augmentation=replace(views, seed=views.seed + asked.seed))


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
        some = partial(iter, [noise])
        how = pruning.Trimming(plans.CUT, limits, some, some, recipe.side, 0)
        least = pruning.cost(pruning.smallest(network, how), recipe.side).macs
    except SevenfoldError as error:
        return error.problem
    whole = pruning.cost(network, recipe.side).macs
    if least > plans.LEFT * whole:
        return f"floors of channels leave {least / whole:.0%} of the network's work at least"
    return ""


def _gauged(arms: Sequence[Arm], classes: int, repetitions: int, out: Path) -> dict[str, Gauge]:
    """Measure the arms' files, or recall what was measured here."""
    name = f"{[(arm.name, arm.trainings) for arm in arms]} {classes} {repetitions}"
    state = f"{name} {latency.processor()} {account.versions()} {trial.source_hash()}"
    key = hashlib.blake2b(state.encode(), digest_size=8).hexdigest()
    path = out / "trials" / f"files-{key}.json"
    if not (held := kept(path)):
        held = {name: vars(one) for name, one in gauged(arms, classes, repetitions).items()}
        atomic.write(path, json.dumps(held))
    return {name: Gauge(**one) for name, one in held.items()}


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
    """Name a trial by all that its result depends on.

    Raises:
        UsageError: settings that a training refuses, or that leave its way with rare classes
            no room.
    """
    shared = asked.shared(repetition)
    seed = shared + training.number * asked.repetitions
    trained_on = growth.given(split, Growth(training.share), shared)
    refusals.refuse(training.recipe, split)
    refusals.refuse_data(training.recipe, split, trained_on)
    place = trained_at(ground.place, reading)
    key = trial.key(training.recipe, replace(split, train=trained_on), seed, place)
    if training.carving:
        key = f"{key} {training.carving}"
        key = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    call = {
        "training": trials.told_of(training),
        "repetition": repetition,
        "seed": seed,
        "shared": shared,
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
        "seed": asked.seed,
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
        "contents": contents_of(split),
        "members": plans.MEMBERS,
        "macs_left": plans.LEFT,
        "retrained_on": plans.RETRAINED,
        "resolved": round(
            folds.resolved(len(folds.outside_test(split)), folds.groups_of(split)), 4
        ),
        "device": place.device,
        "threads": place.threads,
        "processor": latency.processor(),
        "versions": account.versions(),
    }
