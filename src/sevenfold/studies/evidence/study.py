"""Measure the seven practices from start to end: the command and the Python call."""

import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sevenfold import atomic, trial
from sevenfold.data import Split, scan
from sevenfold.engines import Inline
from sevenfold.errors import ResourceError
from sevenfold.features.pixels import fill, for_training
from sevenfold.place import Place, narrowed
from sevenfold.progress import Progress, duration, silent
from sevenfold.recipe import Recipe
from sevenfold.studies import pictures
from sevenfold.studies import where as places
from sevenfold.studies.evidence import arms, course, folds, page, planning, trials
from sevenfold.studies.evidence.course import Asked, Course, Watch
from sevenfold.studies.evidence.effects import Evidence, weigh
from sevenfold.studies.evidence.facts import facts
from sevenfold.studies.evidence.outcomes import Outcome, Study
from sevenfold.studies.evidence.trials import Ground
from sevenfold.studies.folder import prepare
from sevenfold.studies.pictures import Reading
from sevenfold.studies.where import Where


def check(asked: Asked, where: Where) -> None:
    """Refuse what makes no sense, before any work.

    Raises:
        UsageError: a name is no practice, or of one that is off, or an option speaks to an
            engine that is not asked for.
    """
    arms.check(asked.practices, asked.recipe)
    places.check(where)


def unwatched(study: Study, outcomes: Sequence[Outcome], left: float) -> None:
    """Look away."""


def evidence(
    reading: Reading,
    out: Path,
    asked: Asked,
    where: Where,
    *,
    progress: Progress,
    announce: Callable[[str], None],
    watch: Watch,
    most_seconds: float = math.inf,
) -> dict[str, Any]:
    """Measure what each practice contributes on the user's pictures.

    Every arm is trained in every repetition, and each repetition is one fold of the pictures
    outside test, with a seed of its own: six trainings an arm, every picture judged once by
    each. Arms of a repetition share pictures, roles and draws, so that what differs between
    them is the practice. The data's test pictures stay closed.

    Writes each trial's result to `out/trials` when it ends and goes on after what is there;
    writes `evidence.json` and `evidence.html` after each repetition, and when it is stopped.

    Args:
        reading: which pictures.
        out: folder of the study.
        asked: what is measured.
        where: on what.
        progress: is told the stages.
        announce: is given the estimate, one line, before the work starts.
        watch: is told whenever a trial has ended.
        most_seconds: that it may take by its own estimate.

    Returns:
        The object of `evidence --json`, schema "sevenfold.evidence/1".

    Raises:
        DataError: there is too little data for any claim, said before anything is decoded where
            the list of pictures tells.
        ResourceError: it would take longer than it may.
        SevenfoldError: with the exit code of its kind.
    """
    began = time.perf_counter()
    check(asked, where)
    folds.check_repetitions(asked.repetitions)
    prepare(out, course.OURS, "a study of evidence", reading.data)
    listing = scan(reading.data, columns=reading.columns, group_by=reading.group_by)
    folds.check_listed(listing, asked.repetitions)
    site = places.opened(where)
    asked = replace(asked, kept=site.cluster is None)
    split, told = site.read(
        reading, asked.recipe.side, progress, repetitions=asked.repetitions, seed=asked.seed
    )
    ground = Ground(split, site.place, asked.repetitions, asked.seed)
    engine = site.engine({}, apart=True)
    planned = planning.laid(ground, told, asked, out, progress, workers=engine.workers)
    announce(course.whole(planned, engine))
    if (seconds := course.needed(planned, engine)) > most_seconds:
        raise ResourceError(
            f"measuring the practices would take about {duration(seconds)}, and "
            f"{duration(most_seconds)} are left",
            "give more time, or run `sevenfold evidence` by itself",
        )
    come: list[Outcome] = []

    def seen(study: Study, outcomes: Sequence[Outcome], left: float) -> None:
        before, come[:] = len(come), outcomes
        if len(come) // len(study.arms) > before // len(study.arms):
            written(out, weigh(study, come))
        watch(study, outcomes, left)

    try:
        course.run(planned, engine, progress, seen)
    finally:
        # Also after Ctrl-C, and after a trial that failed: what there is, is valid.
        found = written(out, weigh(planned.study, come))
    return found | {"evidence": str(out), "wall_seconds": time.perf_counter() - began}


def written(out: Path, evidence: Evidence) -> dict[str, Any]:
    """Write what evidence says, and return it.

    To `evidence.json` and `evidence.html`; once the study is complete also the recipe that it
    recommends, to `recommended.toml`.
    """
    told = facts(evidence)
    atomic.write(out / "evidence.json", json.dumps(told, indent=1, allow_nan=False))
    atomic.write(out / "evidence.html", page.render(told))
    if told["complete"]:
        atomic.write(out / "recommended.toml", told["recommended"])
    return told


def measure(
    recipe: Recipe,
    split: Split,
    *,
    practices: Sequence[str] = (),
    repetitions: int = folds.CLAIMING,
    folder: str | os.PathLike[str] | None = None,
    seed: int = 0,
    threads: int = 0,
    device: str = "auto",
    progress: Progress = silent,
    watch: Watch = unwatched,
) -> Evidence:
    """Measure what each practice of a recipe contributes, in this process, one after another.

    Several trainings at a time are processes that read the pictures anew, which a split that a
    program made may not let them: `sevenfold evidence` runs them.

    Args:
        recipe: that the reference stands for, taken as it is.
        split: the pictures; those of test stay closed.
        practices: names; empty: all seven.
        repetitions: folds, each judged once, 6 or more.
        folder: where results are kept, to go on after a stop, and what the command writes at
            the end: `evidence.json`, `evidence.html` and `recommended.toml`; None keeps none.
        seed: another number draws other folds, views and seeds of training.
        threads: 0 is one for each core.
        device: `auto`, `cpu`, `cuda` or `mps`.
        progress: is told the stages.
        watch: is told whenever a trial has ended.

    Returns:
        What was found, frozen in depth; a notebook shows it as a table, and `print` as text.

    Raises:
        UsageError: a practice is unknown or off, or there are too few repetitions.
        DataError: there is too little data for any claim.

    Example:
        >>> measure(Recipe(), None, practices=["magic"])  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        UsageError: 'magic' is no practice
    """
    arms.check(practices, recipe)
    folds.check_repetitions(repetitions)
    folds.check(split, repetitions)
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="sevenfold-") as place:
            return measure(
                recipe,
                split,
                practices=practices,
                repetitions=repetitions,
                folder=Path(place),
                seed=seed,
                threads=threads,
                device=device,
                progress=progress,
                watch=watch,
            )
    with narrowed(torch.get_num_threads()):  # a notebook goes on afterwards
        where = trial.place(device, threads)
        return _measured(
            recipe, split, practices, repetitions, Path(folder), seed, where, progress, watch
        )


def _measured(
    recipe: Recipe,
    split: Split,
    practices: Sequence[str],
    repetitions: int,
    folder: Path,
    seed: int,
    where: Place,
    progress: Progress,
    watch: Watch,
) -> Evidence:
    """Measure practices in this process, and write what is found into a folder."""
    prepare(folder, course.OURS, "a study of evidence", split.dataset.source.location)
    asked = Asked(recipe, tuple(practices), repetitions, seed=seed)
    reading = pictures.ground_of(Reading(split.dataset.name), recipe.side, where)
    reading |= {"repetitions": repetitions, "seed": seed}
    ground = Ground(split, where, repetitions, seed)
    pixels = for_training(recipe.side)
    some = folds.outside_test(split)
    fill(pixels, split.dataset, some, threads=where.threads, progress=progress)
    planned: Course = planning.laid(ground, reading, asked, folder, progress)
    engine = Inline(
        {
            trials.TRAIN: partial(trials.trained, ground),
            trials.FILL: partial(trials.fill_stores, ground),
        }
    )
    found = weigh(planned.study, course.run(planned, engine, progress, watch))
    written(folder, found)
    return found
