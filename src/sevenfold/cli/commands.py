"""Train a model, use it, and look after what it needs."""

import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from sevenfold import terminal
from sevenfold.cells import SUFFIXES
from sevenfold.cli.options import (
    READING,
    TRAINING,
    Count,
    Reading,
    Training,
    app,
    columns,
    path_column,
    release,
    request_of,
)
from sevenfold.errors import DataError, ModelError, ResourceError, UsageError
from sevenfold.terminal import plain, show, warn

if TYPE_CHECKING:
    from sevenfold.answers import Written

DEMO_RUN = Path("runs") / "demo"
MAPS = Path("maps")


@app.command
def demo(*, out: Path = DEMO_RUN, training: Training = TRAINING) -> None:
    """Run the main job on packaged photos of solar cells, for non-commercial use.

    Args:
        out: the folder of the run; without it the last demonstration is replaced.
    """
    from sevenfold import job, progress

    again = replace(training, replace=training.replace or out == DEMO_RUN)
    request = request_of(again, READING)
    facts = job.demo(out, request=request, progress=progress.Lines(sys.stderr))
    show(facts, terminal.run(facts), as_json=training.json)


@app.command
def train(
    data: str,
    /,
    *,
    out: Path,
    training: Training = TRAINING,
    reading: Reading = READING,
) -> None:
    """Train, verify and export a classifier, and write a report.

    The same command goes on after a stop.

    Args:
        data: a folder (class/photo.jpg), a CSV or parquet file, elpv or fashion-mnist.
        out: the folder of the run.
    """
    from sevenfold import job, progress

    request = request_of(training, reading)
    facts = job.train(data, out, request=request, progress=progress.Lines(sys.stderr))
    show(facts, terminal.run(facts), as_json=training.json)


@app.command
def predict(
    model: Path,
    /,
    *photos: str,
    out: Path | None = None,
    explain: bool = False,
    maps: Path = MAPS,
    columns: str = "",
    top: Annotated[int, Parameter(validator=Number(gte=1))] = 1,
    threads: Count = 0,
    json: bool = False,
) -> None:
    """Say what is in pictures, and whether they differ from those trained on. Needs no torch.

    Args:
        model: a run, or a bundle copied out of one.
        photos: pictures, folders of them, or a CSV with a column `path`, and `box` for parts.
        out: a .csv or .parquet file for the answers; the same command goes on with it.
        explain: draw PNGs that show where the evidence for each answer lies.
        maps: the folder for them.
        columns: which column of a CSV holds the paths, such as path=file.
        top: classes to print for each picture, the answer first; --json and tables have all.
        threads: processor threads; 0 is one for each core.
        json: print one JSON object instead of lines.
    """
    from sevenfold import answers, drift
    from sevenfold import predict as prediction
    from sevenfold.data import refuse_among

    if not photos:
        raise UsageError("no photos are named", "sevenfold predict MODEL PHOTO, or a folder")
    column = path_column(columns)
    if columns and not any(map(_is_table, photos)):
        raise UsageError(f"--columns {columns}: no CSV is named", "leave it out")
    predictor = prediction.load(model, threads=1)  # pictures side by side use all cores
    listed = prediction.sources(photos, column=column)
    named = 0

    def found() -> Iterator[Any]:
        nonlocal named
        for one in listed:
            named += 1
            yield one

    if maps != MAPS and not explain:
        raise UsageError(f"--maps {maps}: nothing is explained", "add --explain")
    if explain:
        if maps.exists() and not maps.is_dir():
            raise UsageError(f"--maps {maps} is a file", "name a folder")
        for photo in photos:
            refuse_among(photo, maps, "--maps")
            beside = Path(photo).resolve().parent
            if not _is_table(photo) and maps.resolve() == beside:
                refuse_among(str(beside), maps, "--maps")
        prediction.check_maps(predictor)
        maps.mkdir(parents=True, exist_ok=True)
    tally = drift.Tally(predictor.bundle.reference, predictor.classes)
    drawn = maps if explain else None
    outcomes = partial(prediction.predict, predictor, threads=threads, explain=drawn, tally=tally)
    facts: dict[str, Any] = {"schema": "sevenfold.predict/1", "out": "", "predictions": []}
    if not out:
        facts["predictions"], written = _told(outcomes(found()), predictor.classes, json, top)
    else:
        digest = predictor.bundle.digest
        rest = answers.unanswered(out, found(), predictor.classes, digest)
        written = answers.write(out, outcomes(rest), predictor.classes)
        facts["out"] = str(out)
    failed = [{"path": one.path, "reason": one.reason} for one in written.failures]
    facts |= {"answers": written.answers, "failed": failed}
    before = named - facts["answers"] - len(facts["failed"]) if out else 0
    # Of a part of the pictures, which come sorted, drift would tell what is not so.
    facts |= {"kept": before, "drift": None if before else tally.to_json()}
    show(facts, [f"answers added to {out}: {facts['answers']:,}"] * bool(out), as_json=json)
    if before and predictor.bundle.reference.pictures:
        warn(f"answers kept from before: {before:,}; drift is told where all are given at once")
    elif not before and not json:
        for line in terminal.drift(facts["drift"]):
            warn(line)
    for one in facts["failed"]:
        warn(f"no answer for {one['path']}: {one['reason']}")
    if not named:
        raise DataError(f"there are no pictures in {', '.join(photos)}", "name others")
    if named == len(failed) and all(one.of_model for one in written.failures):
        raise ModelError(f"{model} answers none of the pictures", "see the reasons above")
    if named == len(failed):
        raise DataError("none of the pictures could be read", "see the reasons above")


def _is_table(photo: str) -> bool:
    return Path(photo).suffix.lower() in SUFFIXES


def _told(
    outcomes: Iterable[Any], classes: Sequence[str], as_json: bool, top: int
) -> tuple[list[dict[str, Any]], "Written"]:
    """Print answers as they come, or keep them for JSON; count them and name the failures."""
    from sevenfold.answers import Failure, Written

    count, predictions, failures = 0, [], []
    for one in outcomes:
        if isinstance(one, Failure):
            failures.append(one)
            continue
        count += 1
        if as_json:
            shares = dict(zip(classes, one.probabilities, strict=True))
            found: dict[str, Any] = {"path": one.path, "label": one.label}
            found |= {"probability": one.probability}
            found |= {"sure": one.sure, "unlike": one.unlike, "distance": one.distance}
            found |= {"map": one.map} if one.map else {}
            predictions.append({**found, "probabilities": shares})
        else:
            marks = ["not sure"] * (not one.sure) + ["unlike anything trained on"] * one.unlike
            cells = [one.path, one.label, f"{one.probability:.4f}"]
            if top > 1:
                ranked = sorted(zip(one.probabilities, classes, strict=True), reverse=True)
                for share, name in [pair for pair in ranked if pair[1] != one.label][: top - 1]:
                    cells += [name, f"{share:.4f}"]
            print("\t".join(map(plain, [*cells, *marks])))
    return predictions, Written(count, tuple(failures))


@app.command
def evaluate(
    model: Path,
    data: str,
    /,
    *,
    split: Literal["test", "val", "train", "all"] = "test",
    out: Path | None = None,
    threads: Count = 0,
    reading: Reading = READING,
    json: bool = False,
) -> None:
    """Score a model on labelled pictures. Needs no torch.

    Args:
        model: a run, or a bundle copied out of one.
        data: labelled pictures, as for `train`.
        split: which role to score. A run's own pictures have the role that it gave them,
            others that of the data; data in which no picture has one is scored whole.
        out: a new CSV for the label, most probable class and probabilities of each picture.
        threads: processor threads; 0 is one for each core.
        json: print one JSON object instead of a summary.
    """
    from sevenfold import progress, scoring

    facts = scoring.evaluate(
        model,
        data,
        split=split,
        columns=columns(reading.columns),
        group_by=reading.group_by,
        small_classes=reading.small_classes,
        threads=threads,
        out=out,
        progress=progress.Lines(sys.stderr),
    )
    lines = [
        *terminal.scores(facts["scores"]),
        *terminal.classes(facts["classes"]),
        *terminal.decided(facts),
    ]
    if left_out := facts["left_out"]:
        lines.append(f"{'left out':<18} {left_out:,} pictures of other roles than {split}")
    if new := facts["new"]:
        lines.append(f"{'new':<18} {new:,} of these pictures, which are none of the run's own")
    if split != "all" and not facts["roles"]:
        lines.append(f"{'roles':<18} none in the data: all pictures are scored")
    lines += terminal.unusable(facts)
    if facts["learnt_from"] is None:
        lines.append(f"{'learnt from':<18} not known: a bundle alone does not hold its pictures")
    if learnt := facts["learnt_from"]:
        lines.append(f"{'learnt from':<18} {learnt:,} of these pictures: the scores flatter it")
    if out:
        lines.append(f"{'answers':<18} {out}")
    show(facts, lines, as_json=json)


@app.command
def cache(
    *,
    clear: Annotated[
        list[Literal["all", "pixels", "activations", "fingerprints", "trunks"]] | None,
        Parameter(consume_multiple=(0, 1)),
    ] = None,
    json: bool = False,
) -> None:
    """List what is stored to make the next training faster, or clear it.

    Args:
        clear: delete all stores, or those of one kind.
        json: print one JSON object instead of a table.
    """
    from sevenfold.features import store

    freed, used = (0.0, 0) if clear is None else store.clear(clear[0] if clear else "all")
    stores = store.caches()
    facts = {
        "schema": "sevenfold.cache/1",
        "path": str(store.home()),
        "freed_megabytes": freed,
        "in_use": used,
        "stores": stores,
    }
    show(facts, terminal.stores(facts), as_json=json)
    if used:
        warn(f"in use by another process, and kept: {used} store{'s' * (used > 1)}")


@app.command
def recipe(
    *,
    budget: str = "quick",
    file: Annotated[str, Parameter("--recipe")] = "",
    set: tuple[str, ...] = (),
    json: bool = False,
) -> None:
    """Print all settings as TOML, each with its meaning and, if no default, its source.

    Args:
        budget: quick, normal, thorough, or a time such as 20m, which stands for quick, from 15
            minutes for normal, from 90 for thorough, and does not bound the training.
        file: a TOML file of settings to start from.
        set: one setting, such as side=160 or transfer.backbone=NAME; may be repeated.
        json: print one JSON object instead of TOML.
    """
    from sevenfold import recipe as recipes

    asked = recipes.asked(budget, file, set)
    sources = recipes.sources(asked, budget, file)
    text = recipes.to_toml(asked, sources)
    facts = {"schema": "sevenfold.recipe/1", "recipe": tomllib.loads(text), "toml": text}
    facts |= {"sources": sources}
    show(facts, text.splitlines(), as_json=json)


@app.command
def doctor(*, json: bool = False) -> None:
    """Describe the environment for a bug report, and what is wrong with it.

    Args:
        json: print one JSON object instead of lines.
    """
    from sevenfold import doctor as examination

    stores: Path | None
    try:
        from sevenfold.features.store import home

        stores = home()
    except (ImportError, OSError, ResourceError):  # which may be what the report is about
        stores = examination.user_home()
    facts = examination.facts(stores)
    show(facts, terminal.flat(facts), as_json=json)


@app.command
def version(*, json: bool = False) -> None:
    """Print the version.

    Args:
        json: print one JSON object instead of the number alone.
    """
    show({"schema": "sevenfold.version/1", "version": release()}, [release()], as_json=json)
