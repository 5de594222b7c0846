"""Say what more pictures would bring."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter
from cyclopts.validators import Number

from sevenfold.cli.options import READING, RUNNING, Count, Reading, Running, app, columns, where_of
from sevenfold.errors import GateRefused
from sevenfold.terminal import show, warn

_TYPESET: Final = {0x202F: " ", 0x2068: None, 0x2069: None, 0x201C: "`", 0x201D: "`"}
"""What a page sets finely and a terminal may not know."""


@app.command
def curve(
    data: str,
    /,
    *,
    out: Path | None = None,
    target: Annotated[float, Parameter(validator=Number(gte=0, lt=1))] = 0.0,
    repetitions: Annotated[int, Parameter(validator=Number(gte=3))] = 10,
    recipe: str = "",
    set: tuple[str, ...] = (),
    seed: Count = 0,
    running: Running = RUNNING,
    reading: Reading = READING,
    json: bool = False,
) -> None:
    """Measure the learning curve and forecast what more pictures would bring.

    The test pictures stay closed; with --out the same command goes on after a stop.

    Args:
        data: labelled pictures, as for `train`.
        out: the folder for curve.html and what was measured.
        target: an accuracy, such as 0.95: how many pictures reach it?
        repetitions: how often the curve is measured, in other orders of the pictures; at least 3.
        recipe: a TOML file of settings, as `sevenfold recipe` prints them.
        set: one setting, such as side=160; may be repeated.
        seed: another number is another draw of everything that is random.
        json: print one JSON object instead of a summary.
    """
    from sevenfold import progress
    from sevenfold import recipe as recipes
    from sevenfold.studies import curve as study

    facts = study.curve(
        data,
        out,
        recipe=recipes.asked("quick", recipe, set),
        target=target,
        repetitions=repetitions,
        seed=seed,
        where=where_of(running),
        columns=columns(reading.columns),
        group_by=reading.group_by,
        small_classes=reading.small_classes,
        announce=warn,
        progress=progress.Lines(sys.stderr),
    )
    show(facts, _summary(facts), as_json=json)
    if facts["refused"]:
        raise GateRefused(
            f"no forecast: {facts['refused']}",
            "label more pictures, or look for faults with `sevenfold audit`; the points stand",
        )


def _summary(facts: Mapping[str, Any]) -> Iterator[str]:
    from sevenfold.report.growth import growth

    yield f"{'pictures':>10}  accuracy"
    for title in ("points", "forecast"):
        for one in facts[title]:
            accuracy = f"{one['accuracy']:.3f} ({one['low']:.3f} to {one['high']:.3f})"
            mark = "  forecast" * (title == "forecast")
            yield f"{one['pictures']:>10,}  {accuracy}{mark}"
    for sentence in growth({"curve": facts})["said"]:
        yield sentence.translate(_TYPESET)
    if facts["out"]:
        yield f"page           {Path(facts['out']) / 'curve.html'}"
    yield f"time           {facts['seconds']:.0f} s"
