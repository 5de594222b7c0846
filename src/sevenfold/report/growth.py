"""Say what more pictures would bring: the figure and the sentences of a learning curve."""

import math
from collections.abc import Iterator
from typing import Any

from markupsafe import Markup

from sevenfold import plots
from sevenfold.paired import NO_DIFFERENCE
from sevenfold.plots import Band, Line
from sevenfold.report import words
from sevenfold.report.words import Facts, number, part, percent, rows

CLASSES = 12


def growth(facts: Facts) -> dict[str, Any]:
    """Return the section on growth; nothing where the facts have no `curve`.

    Args:
        facts: cleaned; `curve` is the object of `curve --json`.
    """
    found = part(facts, "curve")
    if not rows(found, "points"):
        return {}
    return {
        "headline": headline(found),
        "said": [*_said(found)],
        "figure": figure(found),
        "points": rows(found, "points"),
        "forecast": rows(found, "forecast"),
        "classes": rows(found, "classes")[:CLASSES],
        "refused": found.get("refused") or "",
    }


def headline(curve: Facts) -> str:
    """Say in one line what twice the pictures would bring."""
    if curve.get("refused"):
        return "No forecast: the curve cannot be carried on"
    twice = part(curve, "doubling")
    gain = number(twice.get("gain"))
    if gain < 0.002:
        little = number(twice.get("high")) <= NO_DIFFERENCE
        return (
            "More pictures of this kind would hardly help"
            if little
            else "Whether more pictures would help cannot be told yet"
        )
    return f"Twice the pictures would bring about {words.points(gain)}"


def _said(curve: Facts) -> Iterator[str]:
    """Yield what the curve says, a sentence each."""
    labelled = number(curve.get("labelled"))
    if reason := curve.get("refused"):
        yield f"No forecast was made: {reason}."
    else:
        twice = part(curve, "doubling")
        yield (
            f"Twice the {words.amount(labelled)} labelled pictures would bring "
            f"{words.points(number(twice.get('gain')))} of accuracy "
            f"({_signed(twice.get('low'))} to {_signed(twice.get('high'))}): about "
            f"{percent(max(0.0, number(twice.get('errors_removed'))), 0)} of the errors would go."
        )
    yield from _aim(part(curve, "target"), labelled)
    yield _next(curve)


def _aim(target: Facts, labelled: float) -> Iterator[str]:
    """Say how many pictures the target takes."""
    if not target:
        return
    aim, likely = percent(number(target.get("accuracy"))), number(target.get("pictures"))
    if likely <= labelled:
        yield f"{aim} is within a linear head's reach of the pictures that are there."
    elif math.isfinite(likely):
        most = number(target.get("high"))
        end = f"at most {words.amount(most)}" if math.isfinite(most) else "perhaps many more"
        yield (
            f"A linear head takes about {words.amount(likely)} labelled pictures for {aim}, "
            f"{end}; a trained network may take fewer."
        )
    else:
        yield (
            f"A linear head does not reach {aim} with {words.amount(target.get('horizon'))} "
            "pictures, as far as a forecast may look; if the trained network is far from it too, "
            "it takes a better backbone or cleaner labels."
        )


def _next(curve: Facts) -> str:
    """Say which class to label next."""
    name = curve.get("next_class")
    best = next((one for one in rows(curve, "classes") if one.get("label") == name), {})
    measure = str(curve.get("objective") or "accuracy").replace("_", " ")
    if not best:
        return "Of no class are more pictures surely worth anything: label what comes."
    part = number(curve.get("worth_of_part"))
    among = f", among {words.amount(part)} of the pictures; among all they are worth less" * (
        part > 0
    )
    return (
        f"Label {words.named(name)} next: by the hundred, the last half of its pictures was worth "
        f"{words.points(number(best.get('gain_per_100')))} of {measure}{among}."
    )


def _signed(value: object) -> str:
    return f"{100 * number(value):+.1f}"


def figure(curve: Facts, key: str = "growth") -> Markup:
    """Draw the points, the forecast and its interval."""
    measured = [
        (number(one.get("pictures")), number(one.get("accuracy"))) for one in rows(curve, "points")
    ]
    lines = [Line("measured", tuple(measured), "a", tuple(measured))]
    around = [_ends(one) for one in rows(curve, "points")]
    bands = [Band(tuple(around), "a")]
    ahead = rows(curve, "line")
    if ahead:
        points = tuple((number(one.get("pictures")), number(one.get("accuracy"))) for one in ahead)
        lines.append(Line("forecast", points, "b"))
        bands.append(Band(tuple(_ends(one) for one in ahead), "b"))
    told = "; ".join(f"{words.amount(x)} pictures {percent(y)}" for x, y in measured)
    more = "; ".join(
        f"{words.amount(one.get('pictures'))} pictures {percent(number(one.get('accuracy')))}"
        for one in rows(curve, "forecast")
    )
    return Markup(
        plots.chart(
            lines,
            key=key,
            title="Accuracy against the number of training pictures",
            text=f"Measured: {told}." + f" Forecast: {more}." * bool(more),
            x_label="training pictures",
            percent=True,
            mark=number(curve.get("labelled")) if ahead else math.nan,
            mark_label="now",
            bands=[band for band in bands if all(map(_finite, band.points))],
        )
    )


def _ends(one: Facts) -> tuple[float, float, float]:
    return number(one.get("pictures")), number(one.get("low")), number(one.get("high"))


def _finite(point: tuple[float, float, float]) -> bool:
    return all(map(math.isfinite, point))
