"""Make one model of the vote of a finished run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sevenfold import account, release, runs, train, trial, versions
from sevenfold.errors import UsageError
from sevenfold.place import Place
from sevenfold.practices import ensembling, pruning
from sevenfold.progress import Progress
from sevenfold.remake.record import asked, first_seed, going_on, members


def distil(
    folder: Path,
    *,
    data: str,
    lessons: int,
    seed: int,
    threads: int,
    device: str,
    progress: Progress,
) -> dict[str, Any]:
    """Make one model of the vote of a run's members, which then ships in their place.

    Writes to the run: checkpoints into `trials/` and at the end a new version; what shipped
    before is kept, the members stay, and a whole model is served at any moment. Test is
    opened once more.

    Args:
        folder: of the run.
        data: where its pictures are now, or "" for where they were.
        lessons: epochs of the student; 0 takes the members' average where it keeps enough of
            the vote's gain, and is otherwise as many as a member's.
        seed: of the student's training.
        threads: 0 is one for each core.
        device: `auto`, `cpu`, `cuda` or `mps`.
        progress: is told what is under way.

    Returns:
        The object of `train --json`, with `vote` and `student`: accuracy and loss of both
        where choices are made.

    Raises:
        UsageError: the run has one model, or too few pictures for this.
        ResourceError: another command changes the run.
    """
    versions.check(folder)
    command = versions.asked("distill", data, lessons, seed)
    with versions.locked(folder):
        facts = versions.ended(folder, command) or _distilled(
            folder,
            data=data,
            lessons=lessons,
            seed=seed,
            place=trial.place(device, threads),
            progress=progress,
            command=command,
        )
        release.clear(folder)
        versions.forget(folder)
    return facts


def _distilled(
    folder: Path,
    *,
    data: str,
    lessons: int,
    seed: int,
    place: Place,
    progress: Progress,
    command: str,
) -> dict[str, Any]:
    """Make one network of the vote, and serve it."""
    clock = release.Clock()
    with clock.stage("read"):
        run = runs.reopened(folder, data=data, threads=place.threads, progress=progress)
    _distillable(run, lessons)
    # An average that keeps enough needs no lessons, unless they are asked for.
    average = train.alike(run.recipe) and not lessons
    settings = replace(run.recipe.ensembling, average=average, distil=True, lessons=lessons)
    ensembling.check(settings)
    recipe = replace(run.recipe, ensembling=settings, pruning=pruning.Pruning.off)
    # A student that had a member's seed would see the blends that the member has learnt.
    teachers = members(run)
    apart = ensembling.seed_of(seed, len(teachers))
    while apart in {one.seed for one in teachers}:
        apart = ensembling.seed_of(apart, 1)
    # The members are those of a version, which names their weights.
    parent = versions.keep(folder)
    key = trial.key(going_on(recipe), run.split, apart, place)
    with clock.stage("distil"):
        fitted = train.distil(
            recipe,
            run.split,
            teachers,
            np.array(run.weights),
            run.facts["training"]["rate"],
            origin=first_seed(run),
            seed=apart,
            place=place,
            pixels=run.pixels,
            folder=folder / "trials" / f"distil-{parent}-{key}",
            progress=progress,
        )
    told = account.voting(fitted)

    def make(part: Path) -> dict[str, Any]:
        facts = release.release(
            part, asked(run), fitted, run.split, place=place, clock=clock, progress=progress
        )
        return facts | {
            "schema": "sevenfold.distill/1",
            "vote": told["pooled"],
            "student": told["student"],
        }

    return versions.renewed(folder, parent, {"distilled": len(run.members)}, make, command)


def _distillable(run: runs.Run, lessons: int) -> None:
    """Refuse a run that has no vote, or no pictures for its student, or that is distilled."""
    told = run.facts["ensembling"]
    if told.get("ships") == "student" and told.get("averaged") is True and not lessons:
        raise UsageError(
            f"{run.folder} ships the average of its members already, one model",
            "give --lessons 8 or so to teach it further",
        )
    if np.count_nonzero(run.weights) < 2:
        raise UsageError(
            f"{run.folder} holds one model: there is no vote to distil",
            "train with --set ensembling.members=3, or --budget normal",
        )
    if not len(run.split.val):
        raise UsageError(
            f"{run.folder} has no validation pictures: a student needs the members of each fold",
            "train with --set ensembling.distil=true",
        )
