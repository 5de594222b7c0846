"""Find what is wrong with data before it is trained on."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from sevenfold.cli.options import Count, app, columns
from sevenfold.terminal import show

_EXAMPLES: Final = 3


@app.command
def audit(
    data: str,
    /,
    *,
    out: Path | None = None,
    fix: Path | None = None,
    decisions: Path | None = None,
    against: Path | None = None,
    columns_: Annotated[str, Parameter("--columns")] = "",
    group_by: str = "",
    threads: Count = 0,
    json: bool = False,
) -> None:
    """Find unreadable, duplicated, leaking and mislabelled-looking pictures.

    Args:
        data: labelled pictures, as for `train`.
        out: the folder for audit.html, in which one key per picture decides.
        fix: a CSV to write: the data without exact copies, conflicts and unreadable pictures;
            near copies share a group and a role.
        decisions: the labels.csv that the page saved; --fix follows it.
        against: a run: what changed since it was trained?
        columns_: the names of a table's columns, such as path=file,label=species.
        group_by: a regular expression that takes the group from a file's name.
        threads: processor threads; 0 is one for each core.
        json: print one JSON object instead of a summary.
    """
    from sevenfold import progress
    from sevenfold.studies import audit as study

    facts = study.audit(
        data,
        out=out,
        fix=fix,
        decisions=decisions,
        against=against,
        columns=columns(columns_),
        group_by=group_by,
        threads=threads,
        progress=progress.Lines(sys.stderr),
    )
    show(facts, _summary(facts), as_json=json)


def _summary(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"pictures       {facts['pictures']:,} of {len(facts['classes'])} classes"
    bad = [f"{one['path']} ({one['reason']})" for one in facts["unreadable"]]
    yield _line("unreadable", bad)
    yield _line("exact copies", [" = ".join(group) for group in facts["exact_duplicates"]])
    if facts["near_switched_off"]:
        yield f"near copies    not grouped: {facts['near_switched_off']}"
    else:
        yield _line("near copies", [" ~ ".join(group) for group in facts["near_duplicates"]])
    told = [f"{' or '.join(one['labels'])}: {one['paths'][0]}" for one in facts["conflicts"]]
    yield _line("two labels", told)
    leaks = [f"{' and '.join(one['roles'])}: {_first(one)}" for one in facts["leaks"]]
    yield _line("leaks", leaks)
    small = [f"{name} has {count}" for name, count in facts["small_classes"].items()]
    yield _line("small classes", small)
    if facts["labels_judged"]:
        suspects = [
            f"{one['path']}: {one['label']}, or {one['likely']}?" for one in facts["label_suspects"]
        ]
        yield _line("label suspects", suspects)
    else:
        yield "label suspects not judged: a class has fewer than 5 separate pictures"
    for name in ("dark", "blurred", "odd_sizes"):
        yield _line(name.replace("_", " "), facts[name])
    if facts["changes"]:
        yield from _changed(facts["changes"])
    if facts["clean"]:
        moved = len(facts["clean"]["roles_changed"])
        mended = f"; {moved:,} took the role of a copy in test or val" if moved else ""
        pictures = facts["clean"]["pictures"]
        yield f"clean list     {facts['clean']['path']}: {pictures:,} pictures{mended}"
        if unlisted := facts["clean"]["unlisted"]:
            yield f"not listed     {unlisted:,}, whose names a table cannot hold: rename them"
    if facts["page"]:
        yield f"page           {facts['page']}"
    yield f"time           {facts['seconds']:.1f} s"


def _changed(changes: Mapping[str, Any]) -> Iterator[str]:
    counts = (
        f"{len(items):,} {name.replace('_', ' ')}"
        for name, items in changes.items()
        if name != "gone_by_role"
    )
    yield f"changed        {', '.join(counts)}"
    if changes["relabelled"]:
        told = [f"{one['path']}: {one['before']} -> {one['now']}" for one in changes["relabelled"]]
        yield _line("  other labels", told)
    if lost := [f"{one['pictures']:,} of {one['role']}" for one in changes["gone_by_role"]]:
        yield f"  gone         {', '.join(lost)}"


def _first(leak: Mapping[str, Any]) -> str:
    return str(leak["pictures"][0]["path"])


def _line(title: str, items: list[str]) -> str:
    if not items:
        return f"{title:<14} none"
    more = f"; and {len(items) - _EXAMPLES:,} more" if len(items) > _EXAMPLES else ""
    return f"{title:<14} {len(items):,}: {'; '.join(items[:_EXAMPLES])}{more}"
