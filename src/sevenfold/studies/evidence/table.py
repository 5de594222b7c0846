"""Show evidence on a terminal: as lines of text, and as a table that grows while a study runs."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from sevenfold.plots import plain
from sevenfold.report import words
from sevenfold.report.evidence import (
    COSTS,
    Row,
    between,
    gain,
    headline,
    holds,
    interactions,
    row,
)

STYLES: Final = {"helps": "green", "hurts": "red", "no difference": "cyan"}
WIDTHS: Final = (13, 14, 20, 20)

Facts = Mapping[str, Any]


def rows(told: Facts) -> list[Row]:
    """Return what the table says of each practice.

    Args:
        told: the content of `evidence.json`.
    """
    return [row(name, one, told["objective"]) for name, one in told["practices"].items()]


def lines(told: Facts) -> Iterator[str]:
    """Sum evidence up as text: the table, what it holds for, and what it recommends.

    Args:
        told: the content of `evidence.json`.
    """
    objective = str(told["objective"]).replace("_", " ")
    yield (
        f"{told['data']}: gain in {objective}, in points, on {told['pictures']:,} pictures in "
        f"{told['repetitions']} of {told['repetitions_planned']} repetitions"
    )
    yield holds(told["regime"])
    heads = ("practice", "verdict", "beside the others", "alone", *COSTS.values())
    yield _line(heads)
    found = rows(told)
    for one in found:
        yield _line(_cells(one))
    for one in found:
        if one.off_means:
            yield f"{one.practice:<{WIDTHS[0]}} without it: {one.off_means}"
    for one in found:
        if one.said:
            yield f"{one.practice:<{WIDTHS[0]}} {one.verdict}: {one.said}"
    for said in interactions(told, told["objective"]):
        yield f"but            {said}"
    family = words.count(told["family"], "practice")
    yield f"verdicts       adjusted for {family} in use, asked for or not"
    yield f"so             {headline(told)}"
    changes = [
        f"{'take' if one['recommended'] else 'leave out'} {one['practice']}"
        for one in told["advice"]
        if one["practice"] != "growth"
    ]
    if changes:
        yield f"recommended    {', '.join(changes)}"
    if told["gives_up"]:
        yield f"gives up       at most {words.points(told['gives_up'])} in all"
    yield f"time           {told['seconds']:.0f} s of training, counted for each arm"


def _cells(one: Row) -> tuple[str, ...]:
    return (
        one.practice,
        one.verdict,
        _gain(one, "left_out"),
        _gain(one, "alone"),
        *(one.costs.get(name, "") for name in COSTS.values()),
    )


def _gain(one: Row, direction: str) -> str:
    found = getattr(one, direction)
    span = between(found)
    return f"{gain(found.value)} ({span})" if span else gain(found.value)


def _line(cells: tuple[str, ...]) -> str:
    first = (f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=False))
    return " ".join([*first, *(f"{cell:>8}" for cell in cells[len(WIDTHS) :])]).rstrip()


def live(told: Facts) -> Table:
    """Return the table for a terminal, to be drawn anew as outcomes arrive.

    Args:
        told: the content of `evidence.json`, complete or not.
    """
    objective = str(told["objective"]).replace("_", " ")
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        title=Text(f"{plain(told['data'], 40)}: gain in {objective}, points"),
        caption=Text(
            f"repetition {told['repetitions']} of {told['repetitions_planned']} done. "
            + holds(told["regime"])
        ),
    )
    for head in ("practice", "done", "verdict", "beside the others", "alone"):
        table.add_column(head, no_wrap=True)
    for one in rows(told):
        done = told["practices"][one.practice]["repetitions"]
        table.add_row(
            one.practice,
            "" if one.verdict == "not in use" else f"{done}/{told['repetitions_planned']}",
            Text(one.verdict, style=STYLES.get(one.verdict, "")),
            _gain(one, "left_out"),
            _gain(one, "alone"),
        )
    return table
