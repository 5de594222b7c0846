"""Keep a deployed model learning, and go back where that was a mistake."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from sevenfold.cli.options import Count, app, columns
from sevenfold.errors import GateRefused
from sevenfold.terminal import show, warn

_Number = Annotated[int, Parameter(validator=Number(gte=1))]
_NAMED = 5


@app.command
def update(
    run: Path,
    new_data: str,
    /,
    *,
    dry_run: bool = False,
    accept_corrections: bool = False,
    relabel: tuple[str, ...] = (),
    new_class: tuple[str, ...] = (),
    trust_labels: bool = False,
    data: str = "",
    columns_: Annotated[str, Parameter("--columns")] = "",
    group_by: str = "",
    seed: Count = 0,
    threads: Count = 0,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    json: bool = False,
) -> None:
    """Fine-tune a run on more data; the new model ships only if it does no harm.

    It is held against the running version and the last one signed off, on the old test
    pictures. The same command goes on after a stop.

    Args:
        run: a finished run.
        new_data: labelled pictures, as for `train`, or what `serve --collect` wrote.
        dry_run: check the new data and say what would be done.
        accept_corrections: believe new labels of pictures that the run knows.
        relabel: old=new names a class of the run anew, or reads a label of the new data
            as another; may be repeated.
        new_class: a class that the model is to learn; may be repeated.
        trust_labels: go on though the model disagrees with the new labels.
        data: where the run's own pictures are now; they are found by their content.
        columns_: the names of the new table's columns, such as path=file,label=species.
        group_by: a regular expression that takes the group from a new file's name.
        seed: another number is another draw of everything that is random.
        threads: processor threads; 0 is one for each core.
        device: where to train.
        json: print one JSON object instead of a summary.
    """
    from sevenfold import progress
    from sevenfold import update as work
    from sevenfold.update.asked import relabelling

    asked = work.Asked(
        new_data,
        data,
        columns(columns_),
        group_by,
        dry_run,
        accept_corrections,
        relabelling(relabel),
        tuple(dict.fromkeys(new_class)),
        trust_labels,
        seed,
    )
    facts = work.update(
        run, asked, threads=threads, device=device, progress=progress.Lines(sys.stderr)
    )
    show(facts, _summary(facts), as_json=json)
    for text in facts["warnings"]:
        warn(f"warning: {text}")
    if not facts["accepted"] and facts["cure"]:
        raise GateRefused(f"{facts['reason']}; the run keeps its model", facts["cure"])


@app.command
def versions(run: Path, /, *, sign_off: Count = 0, json: bool = False) -> None:
    """List the versions of a run's model. Needs no torch.

    Args:
        run: a finished run.
        sign_off: approve this version: later ones are held against it.
        json: print one JSON object instead of a table.
    """
    from sevenfold import versions as kept

    if sign_off:
        kept.check(run)
        with kept.locked(run):
            kept.sign_off(run, sign_off)
    found = [asdict(one) for one in kept.listed(run)]
    facts = {"schema": "sevenfold.versions/1", "run": str(run), "versions": found}
    show(facts, _table(found), as_json=json)


@app.command
def rollback(run: Path, version: _Number, /, *, json: bool = False) -> None:
    """Serve an earlier version of a run's model again. Needs no torch.

    Args:
        run: a finished run.
        version: its number, as `sevenfold versions` lists it.
        json: print one JSON object instead of a line.
    """
    from sevenfold import versions as kept

    kept.listed(run)
    with kept.locked(run):
        found = asdict(kept.rollback(run, version))
    facts = {"schema": "sevenfold.rollback/1", "run": str(run), "version": found}
    show(facts, [f"{run} serves version {version} again"], as_json=json)


def _summary(facts: Mapping[str, Any]) -> Iterator[str]:
    new = facts["new"]
    yield (
        f"new pictures   {sum(new.values()):,}: {new['train']:,} to train on, "
        f"{new['val']:,} for validation, {new['test']:,} for test"
    )
    if facts["known"]:
        yield f"known          {facts['known']:,} pictures of the new data"
    if facts["left_out_count"]:
        yield f"left out       {facts['left_out_count']:,} pictures"
        yield from (f"  {one['path']}: {one['reason']}" for one in facts["left_out"][:_NAMED])
    if facts["corrections_count"]:
        what = "applied" if facts["corrections_applied"] else "left as they were"
        yield f"corrections    {facts['corrections_count']:,}, {what}"
        yield from (
            f"  {one['path']}: {one['before']} -> {one['now']}"
            for one in facts["corrections"][:_NAMED]
        )
    for name in facts["new_classes"]:
        yield f"new class      {name}"
    for old, name in facts["renamed"].items():
        yield f"renamed        {old} -> {name}"
    yield from _agreement(facts["agreement"])
    if facts["dry_run"]:
        seconds = facts["estimated_seconds"]
        told = f"about {seconds:.0f} s of training" if seconds else "their time is not known"
        yield f"dry run        {facts['epochs']} epochs, {told}"
    yield from _judged(facts)


def _agreement(found: Mapping[str, Any]) -> Iterator[str]:
    if not found:
        return
    whole = found["checks"][0]
    yield f"agreement      the running model says the same of {whole['agreed']:.1%} of them"
    for one in found["checks"]:
        if one["failed"]:
            yield (
                f"  {one['name']}{', not for one another' * one['exchanged']}: "
                f"{one['agreed']:.1%} of {one['pictures']}, and at least "
                f"{one['expected']:.1%} would be expected"
            )
    if not any(one["failed"] for one in found["checks"]):
        return
    names = found["classes"]
    yield "  labels against answers:"
    for label, row in zip(names, found["confusion"], strict=True):
        said = [f"{count} {name}" for name, count in zip(names, row, strict=True) if count]
        if said:
            yield f"    {label}: {', '.join(said[:12])}"


def _judged(facts: Mapping[str, Any]) -> Iterator[str]:
    if facts["ways"]:
        went = ", ".join(f"{way:.0%}" for way in facts["ways"])
        yield f"learned        went {went} of the way to what was tuned, by validation"
    for one in facts["comparisons"]:
        yield (
            f"compared       with {one['reference']}: {-100 * one['drop']:+.1f} points on "
            f"{one['pictures']:,} test pictures, {one['negative_flips']} answers got wrong and "
            f"{one['positive_flips']} right; at most {100 * max(0.0, one['most_lost']):.1f} points "
            "of accuracy lost, with 95 % confidence"
        )
    if "megabytes" in facts:
        size, took = facts["megabytes"], facts["latency_ms"]
        yield (
            f"model          {size['before']:.1f} -> {size['after']:.1f} MB, "
            f"{took['before']:.1f} -> {took['after']:.1f} ms a picture"
        )
    if facts["accepted"]:
        run = Path(facts["run"])
        yield f"accepted       version {facts['version']} runs; rollback goes to {facts['parent']}"
        yield f"report         {run / 'report.html'}"
    yield f"time           {facts['seconds']:.0f} s"


def _table(found: list[dict[str, Any]]) -> Iterator[str]:
    yield f"{'':<9} {'time':<26} {'train':>7} {'val':>6} {'test':>6} {'accuracy':>9} balanced"
    for one in found:
        mark = "*" if one["current"] else " "
        roles = one["pictures"]
        signed = "  signed off" if one["signed_off"] else ""
        yield (
            f"{mark} {one['number']:<7} {one['time']:<26} {roles['train']:>7,} "
            f"{roles['val']:>6,} {roles['test']:>6,} {one['test']['accuracy']:>9.1%} "
            f"{one['test']['balanced_accuracy']:>8.1%}{signed}"
        )
    yield "* serves"
