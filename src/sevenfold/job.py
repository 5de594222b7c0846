"""The main job: a folder of labelled photos in, a verified classifier and a report out.

Data → fit → export → score once on test → report, and where the recipe asks for it what
each practice contributed.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sevenfold import data as datasets
from sevenfold import operating, swap, versions
from sevenfold.errors import DataError, ModelError, ResourceError, SevenfoldError, UsageError
from sevenfold.image import is_leftover
from sevenfold.progress import Progress, silent

if TYPE_CHECKING:
    from sevenfold.place import Place
    from sevenfold.recipe import Recipe
    from sevenfold.release import Clock

# Solar cells have no up and no left, and what is published of them is accuracy.
DEMO: Final = (
    "objective=accuracy",
    "augmentation.flip_vertical=0.5",
    "augmentation.quarter_turns=true",
)


@dataclass(frozen=True)
class Request:
    """Hold what the user asked for.

    Args:
        budget: see `recipe.default`.
        overrides: settings such as `side=160`.
        recipe: path of a TOML file, or "".
        seed: of everything random.
        columns: names of a table's columns, by what they hold.
        group_by: pattern that takes the group from the file name, or "".
        small_classes: `refuse`, `drop` or `other`.
        licence: SPDX expression for the model card, or "".
        replace: whether a finished run may be replaced.
        threads: 0 is one for each core.
        workers: members trained at a time; 0 is as many as the threads have room for.
        device: `auto`, `cpu`, `cuda` or `mps`.
        costs: path of a TOML file of what mistakes cost, or "".
        min_recall: least recalls of classes, such as `crack=0.99`.
    """

    budget: str = "quick"
    overrides: tuple[str, ...] = ()
    recipe: str = ""
    seed: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)
    group_by: str = ""
    small_classes: datasets.SmallClasses = "refuse"
    licence: str = ""
    replace: bool = False
    threads: int = 0
    workers: int = 0
    device: str = "auto"
    costs: str = ""
    min_recall: tuple[str, ...] = ()


def demo(out: Path, *, request: Request, progress: Progress) -> dict[str, Any]:
    """Run the main job on the packaged photos of solar cells."""
    return train(
        "elpv",
        out,
        request=replace(request, overrides=(*DEMO, *request.overrides)),
        progress=progress,
    )


def train_run(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    budget: str = "quick",
    settings: Sequence[str] = (),
    seed: int = 0,
    replace: bool = False,
    threads: int = 0,
    device: str = "auto",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train a classifier and write its run, as the command `train` does.

    Writes to `out` and to the stores; goes on with what an interrupted call of
    the same request left.

    Args:
        data: folder, table or packaged name.
        out: folder of the run, which `load` and all commands take.
        budget: `quick`, `normal`, `thorough`, or a time such as `20m`.
        settings: of the recipe, such as `("side=160", "ensembling.members=3")`.
        seed: of everything random.
        replace: whether a finished run may be replaced.
        threads: 0 is one for each core.
        device: `auto`, `cpu`, `cuda` or `mps`.
        progress: is told what is under way.

    Returns:
        The object of `train --json`, schema "sevenfold.train/1".

    Raises:
        SevenfoldError: of the kind that says what went wrong.
    """
    request = Request(
        budget=budget,
        overrides=tuple(settings),
        seed=seed,
        replace=replace,
        threads=threads,
        device=device,
    )
    return train(os.fspath(data), Path(out), request=request, progress=progress)


def train(data: str, out: Path, *, request: Request, progress: Progress) -> dict[str, Any]:
    """Train, verify, export, score once on test, and write the run.

    Writes to `out` and to the stores; goes on with what an interrupted call of
    the same request left.

    Args:
        data: folder, table or packaged name.
        out: folder of the run.
        request: what else was asked for.
        progress: is told what is under way.

    Returns:
        The object of `train --json`, schema "sevenfold.train/1".

    Raises:
        SevenfoldError: with the exit code of its kind.
    """
    recipe, wish = _recipe(request), _wish(request)
    datasets.refuse_among(data, out)
    command = versions.asked("train", data, request)
    _prepare(out, request, command)
    from sevenfold import account, doctor, release

    clock = release.Clock()
    account.check_licence(request.licence)
    place = _place(request)
    for line in (doctor.gpu_line(), _stands_for(request.budget)):
        if line:
            progress(line, 0, 0)
    recipe = _stronger(recipe, request, place)
    with versions.locked(out):  # another training may have begun in this folder
        _refuse_finished(out, request, command)
        facts = versions.ended(out, command) or _made(
            data, out, recipe, wish, request, place, clock, progress, command
        )
        release.clear(out)
    if recipe.evidence_minutes:
        with clock.stage("evidence"):
            alone = replace(recipe, evidence_minutes=0.0)
            facts["evidence"] = _evidence(
                data, out, alone, request, _allowed(recipe, request, clock), progress
            )
        facts |= {"seconds": clock.seconds, "stages": clock.noted()}
    versions.forget(out)
    return facts


def _made(
    data: str,
    out: Path,
    recipe: "Recipe",
    wish: operating.Wish,
    request: Request,
    place: "Place",
    clock: "Clock",
    progress: Progress,
    command: str,
) -> dict[str, Any]:
    """Read, fit, judge and write the run."""
    from sevenfold import guards, judging, release, train, trial
    from sevenfold.features.pixels import opened

    with clock.stage("read"):
        pixels, dataset = opened(
            data,
            recipe.side,
            columns=request.columns,
            group_by=request.group_by,
            small_classes=request.small_classes,
            threads=place.threads,
            progress=progress,
        )
        split = datasets.split(dataset)
    if line := _trained_on_val(split):
        progress(line, 0, 0)
    if not len(split.test):
        raise DataError(f"{dataset.name} has no test pictures", "add some, or give no roles at all")
    guards.promised(wish, split)
    alone = replace(recipe, evidence_minutes=0.0)  # a training is the same with it and without
    folder = out / "trials" / trial.key(alone, split, request.seed, place)
    with clock.stage("fit"):
        fitted = train.fit(
            recipe,
            split,
            seed=request.seed,
            place=place,
            pixels=pixels,
            folder=folder,
            progress=progress,
        )
    train.refuse_diverged(fitted.members)
    found = judging.settled(fitted, split, place=place, clock=clock, progress=progress)
    reading = {
        "columns": dict(request.columns),
        "group_by": request.group_by,
        "small_classes": request.small_classes,
    }
    asked = release.Asked(
        data, request.budget, request.seed, request.licence, reading, _opened(out, split), wish
    )
    return versions.replaced(
        out,
        lambda part: release.release(
            part,
            asked,
            found.fitted,
            split,
            place=place,
            clock=clock,
            progress=progress,
            made=found.made,
            pruning=found.told,
        ),
        command,
    )


def _opened(out: Path, split: datasets.Split) -> datasets.Manifest:
    """Return when the run that is replaced opened any of these test pictures, and no more of it."""
    try:
        known = datasets.known(out)
    except ModelError:
        return datasets.EMPTY
    theirs = {row.hash for row in known.rows if row.role == "test"}
    mine = {split.dataset.hashes[at] for at in split.test.tolist()}
    return replace(datasets.EMPTY, openings=known.openings if theirs & mine else ())


def _allowed(recipe: "Recipe", request: Request, clock: "Clock") -> float:
    """Return the seconds that a study may take: what a budget that is a time leaves, at most."""
    from sevenfold.recipe import minutes_of

    whole = 60 * minutes_of(request.budget)
    left = whole - clock.seconds if whole else math.inf
    return max(0.0, min(60 * recipe.evidence_minutes, left))


def _evidence(
    data: str, out: Path, recipe: "Recipe", request: Request, seconds: float, progress: Progress
) -> dict[str, Any]:
    """Measure the practices of a finished run, and show them in its report.

    Writes to `out/evidence`. The run is whole without it, so that what hinders it is told.

    Returns:
        `folder`, and either the `verdicts` by practice or why it was `left_out`.
    """
    from sevenfold.studies import evidence as study
    from sevenfold.studies.append import append

    folder = out / "evidence"
    blocks = recipe.transfer.trainable_blocks
    if not _names_transfer(request):
        cheap = replace(recipe.transfer, trainable_blocks=study.EVIDENCE_BLOCKS)
        recipe = replace(recipe, transfer=cheap)
    try:
        found = study.evidence(
            study.Reading(data, request.columns, request.group_by, request.small_classes),
            folder,
            study.Asked(recipe, budget=request.budget, seed=request.seed, blocks=blocks),
            study.Where(device=request.device, cores=request.threads),
            progress=progress,
            announce=lambda line: progress(f"evidence: {line}", 0, 0),
            watch=lambda about, come, _: progress(
                "evidence", len(come), len(about.arms) * about.repetitions
            ),
            most_seconds=seconds,
        )
        append(out, [folder])
    except SevenfoldError as error:
        return {"folder": str(folder), "left_out": error.problem, "verdicts": {}}
    except Exception as error:  # whatever it is, the run is there
        reason = f"{type(error).__name__}: {error}"
        return {"folder": str(folder), "left_out": reason, "verdicts": {}}
    told = {name: one["verdict"] for name, one in found["practices"].items()}
    return {"folder": str(folder), "left_out": "", "verdicts": told}


def _recipe(request: Request) -> "Recipe":
    from sevenfold import recipe as recipes

    return recipes.asked(request.budget, request.recipe, request.overrides)


def _wish(request: Request) -> operating.Wish:
    costs, unsure = operating.read_costs(Path(request.costs)) if request.costs else ({}, 0.0)
    return operating.Wish(operating.read_recalls(request.min_recall), costs, unsure)


def _prepare(out: Path, request: Request, command: str) -> None:
    """Make the folder of the run, or refuse one that holds something else.

    A finished run that is to be replaced stays until its successor is written.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file", "name a folder")
    swap.finish(out)
    _refuse_finished(out, request, command)
    # Some programs that copy a run leave out its empty folder.
    ours = (out / "trials").exists() or (out / "bundle" / "SHA256SUMS").is_file()
    if out.exists() and not ours and not all(is_leftover(one.name) for one in out.iterdir()):
        raise UsageError(f"--out {out} holds other files", "name a new or an empty folder")
    try:
        (out / "trials").mkdir(parents=True, exist_ok=True)
        (out / "trials" / "writable").write_bytes(b"")
    except OSError as error:
        raise ResourceError(
            f"--out {out} cannot be written to: {error.strerror}", "choose another folder"
        ) from error


def _refuse_finished(out: Path, request: Request, command: str) -> None:
    """Refuse a finished run, unless this very command was stopped after it had written it."""
    finished = (out / "report.json").exists()
    if finished and not request.replace and not versions.serves(out, command):
        raise UsageError(f"{out} holds a finished run", "choose another --out, or pass --replace")


def _trained_on_val(split: datasets.Split) -> str:
    """Say that validation pictures joined training, which those who gave them may not expect."""
    given = sum(photo.role == "val" for photo in split.dataset.photos)
    if not given or len(split.val):
        return ""
    return (
        f"the {given:,} validation pictures are trained on: with fewer than "
        f"{datasets.SMALL_DATA:,} outside test, five folds make the choices"
    )


def _stands_for(budget: str) -> str:
    """Say which budget a time is, since it bounds nothing."""
    from sevenfold.recipe import minutes_of, named

    if not minutes_of(budget):
        return ""
    return f"--budget {budget} stands for {named(budget)}, and does not bound the training"


def _place(request: Request) -> "Place":
    from sevenfold import trial

    return trial.place(request.device, request.threads, request.workers)


def _stronger(recipe: "Recipe", request: Request, place: "Place") -> "Recipe":
    """With a GPU and time, take a stronger backbone if its weights are at hand."""
    from sevenfold import recipe as recipes
    from sevenfold.practices import transfer

    quick = recipes.named(request.budget) == "quick"
    if place.device == "cpu" or quick or _names_transfer(request):
        return recipe
    return replace(recipe, transfer=transfer.stronger(recipe.transfer))


def _names_transfer(request: Request) -> bool:
    """Tell whether backbone or cut were chosen, so that nothing else may choose them."""
    named = any(one.startswith("transfer") for one in request.overrides)
    return named or bool(request.recipe)
