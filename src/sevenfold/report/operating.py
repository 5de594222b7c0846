"""Make the report's part on doubt: what is not sure, and what is unlike anything trained on."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from markupsafe import Markup

from sevenfold import plots
from sevenfold.plots import Line
from sevenfold.report import words
from sevenfold.report.words import Facts, Range, estimate, number, part, percent

CLASSES = 20
DISTANCES = {
    "centroid": "the nearest mean of a class, in the network's last features",
    "energy": "the free energy of the logits",
}
STAND_INS = {
    "left_out": "a class taken for unknown",
    "shuffled": "tiles shuffled",
    "shrunk": "shrunk to 8 by 8 pixels",
}


_ROUNDING = 1e-9


class Row(NamedTuple):
    """Hold one measure, on test and where the point was chosen."""

    name: str
    test: Range
    chosen: Range


def operating(facts: Facts) -> dict[str, Any]:
    """Return the part on the operating point and on unknown pictures.

    Args:
        facts: cleaned content of `report.json`; nothing is returned without a point.
    """
    found = part(facts, "operating")
    if not found.get("rule"):
        return {}
    test, chosen = part(found, "test"), part(found, "validation")
    place = "out of fold" if found.get("chosen_on") == "folds" else "validation"
    return {
        "said": list(_said(found, test)),
        "figure": _figure(test, chosen, place),
        "rows": list(_rows(test, chosen)),
        "place": place,
        "thresholds": _thresholds(found),
        "unknown": _unknown(part(facts, "unknown")),
    }


def _said(found: Facts, test: Facts) -> Iterator[str]:
    """Say the rule and what it does on test."""
    rule = found.get("rule")
    chosen = part(found, "validation")
    most = estimate(chosen, "error").value / 2 + _ROUNDING
    halved = not estimate(chosen, "error_answered").value > most
    if rule == "halved_error" and halved:
        yield (
            "An answer below the threshold is “not sure”: the lowest threshold at which the error "
            "among the answered is at most half of that among all, where choices are made."
        )
    if rule == "halved_error" and not halved:
        yield (
            "An answer below the threshold is “not sure”. No threshold that answers half of the "
            "pictures or more halves the error; this one answers half, where choices are made."
        )
    if rule == "min_recall":
        for name, recall in part(found, "asked").items():
            weight = number(part(found, "weights").get(name, 1.0))
            how = (
                f"it is answered unless another class is {weight:.3g} times as probable"
                if weight > 1
                else "it is found that often without being favoured"
            )
            yield f"{words.named(name)} was to be found in {percent(number(recall))}: {how}."
        yield (
            "Other answers are “not sure” below the threshold that halves their error, or that "
            "answers half of them where none does."
        )
    if rule == "costs":
        yield "The answer is the class whose expected cost is the least."
        before, after = number(test.get("cost_most_probable")), number(test.get("cost"))
        if math.isfinite(before + after):
            yield (
                f"On test that costs {after:.3g} a picture; answering the most probable class "
                f"costs {before:.3g}."
            )
    sure, wrong = estimate(test, "answered"), estimate(test, "error_answered")
    everything = estimate(test, "error")
    if math.isfinite(sure.value):
        yield (
            f"On test it is sure of {percent(sure.value)} of the pictures, and wrong on "
            f"{percent(wrong.value)} of those, against {percent(everything.value)} of all."
        )


def _figure(test: Facts, chosen: Facts, place: str) -> Markup:
    lines = [
        Line(label, points, style)
        for label, style, points in (
            ("test", "a", _points(test)),
            (place, "b", _points(chosen)),
        )
        if points
    ]
    sure = estimate(test, "answered").value
    wrong = estimate(test, "error_answered").value
    return Markup(
        plots.chart(
            lines,
            key="operating",
            title="The share answered against the error among the answered",
            text=f"On test {percent(wrong)} of the answered are wrong at {percent(sure)} answered.",
            x_label="answered, the surest first (% of the pictures)",
            percent=True,
            mark=100 * sure,
            mark_label="sure",
        )
    )


def _points(found: Facts) -> tuple[tuple[float, float], ...]:
    curve = found.get("curve")
    pairs = [
        (100 * number(pair[0]), number(pair[1]))
        for pair in (curve if isinstance(curve, list) else [])
        if isinstance(pair, list) and len(pair) == 2
    ]
    return tuple(pair for pair in pairs if math.isfinite(sum(pair)))


def _rows(test: Facts, chosen: Facts) -> Iterator[Row]:
    for key, name in (
        ("answered", "Pictures it is sure of"),
        ("error_answered", "Wrong among those"),
        ("error", "Wrong if all count"),
    ):
        yield Row(name, estimate(test, key), estimate(chosen, key))
    for name in list(part(test, "recalls"))[:CLASSES]:
        yield Row(
            f"{words.named(name)} found",
            estimate(part(test, "recalls"), name),
            estimate(part(chosen, "recalls"), name),
        )


def _thresholds(found: Facts) -> str:
    """Say the thresholds: one number where all are the same."""
    held = {name: number(value) for name, value in part(found, "thresholds").items()}
    known = sorted({value for value in held.values() if math.isfinite(value)})
    if not known:
        return ""
    if len(known) == 1:
        return f"Threshold for every class: {percent(known[0])}."
    shown = list(held.items())[:CLASSES]
    told = ", ".join(f"{words.named(name)} {percent(value)}" for name, value in shown)
    rest = len(held) - len(shown)
    return f"Thresholds: {told}{f' and {rest} more in card.json' if rest > 0 else ''}."


def _unknown(found: Facts) -> list[str]:
    """Say how pictures unlike training are told, and what that costs the others."""
    score = str(found.get("score", ""))
    if score not in DISTANCES:
        return []
    rejected = estimate(found, "test")
    areas = part(found, "areas")
    said = [
        f"A picture is marked “unlike anything trained on” by {DISTANCES[score]}. "
        f"Of the test pictures, which are like training, {percent(rejected.value)} are marked "
        f"({words.span(rejected)}); {percent(number(found.get('asked')))} was aimed at."
    ]
    for name, measured in areas.items():
        told = ", ".join(
            f"{number(value):.3f} ({STAND_INS.get(way, way)})"
            for way, value in (measured.items() if isinstance(measured, dict) else ())
        )
        if told:
            chosen = "; taken, its worst is the better one" if name == score else ""
            said.append(f"Area under the ROC curve of {name} on stand-ins: {told}{chosen}.")
    said.append("How well it tells pictures of another kind is only known once some are at hand.")
    return said
