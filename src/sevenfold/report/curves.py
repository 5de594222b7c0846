"""Make the training section of the report: what each network went through, in curves."""

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

from markupsafe import Markup

from sevenfold import plots
from sevenfold.plots import Line
from sevenfold.report import words
from sevenfold.report.words import Facts, number, part, percent, rows

MEMBERS = 9
DIVERGED = 1.5  # the probe is drawn up to this multiple of its first loss

Points = tuple[tuple[float, float], ...]


class Curve(NamedTuple):
    """Hold one chart with the words around it."""

    title: str
    figure: Markup
    note: str


def training(facts: Facts) -> dict[str, Any]:
    """Return the training section: a chart for each question, and a line for each network.

    Args:
        facts: the part `training` of the cleaned facts.
    """
    # An average of members was never trained.
    members = [
        one for one in rows(facts, "members") if not one.get("student") or rows(one, "history")
    ]
    shown = members[:MEMBERS]
    curves = (_losses(shown), _scores(shown), _rates(shown), _probe(facts))
    return {
        **facts,
        "members": [_summary(member) for member in shown],
        "members_left_out": len(members) - len(shown),
        "switch": _switch(shown),
        "charts": [curve for curve in curves if curve.figure],
    }


def _summary(member: Facts) -> Facts:
    history = rows(member, "history")
    best = next((step for step in history if step.get("epoch") == member.get("best_epoch")), {})
    return {
        **member,
        "epochs": len(history),
        "kept": f"{number(member.get('best_epoch')) + 1:.0f}" if history else "",
        "best": best,
        "seconds": sum(words.positive(step.get("seconds")) for step in history),
    }


def _switch(members: Sequence[Facts]) -> str:
    """Say in one sentence when the optimizer switched from Adam to SGD; "" where none could."""
    told = [member for member in members if part(member, "decision")]
    if not told:
        return ""
    among = ""
    decisions = [part(member, "decision") for member in told]
    if any(number(one.get("step")) > 0 and len(_ratios(one)) > 1 for one in decisions):
        among = " (a rate is the median of the groups of weights)"
    if len(told) == 1:
        return f"The optimizer switched from Adam to SGD {_switched(told[0])}{among}."
    each = "; ".join(
        f"{'the student' if member.get('student') else 'seed {}'.format(member.get('seed'))} "
        f"{_switched(member)}"
        for member in told
    )
    return f"The optimizer switched from Adam to SGD so: {each}{among}."


def _switched(member: Facts) -> str:
    decision = part(member, "decision")
    step, steps = number(decision.get("step")), words.positive(member.get("steps"))
    if not step > 0:
        return f"not at all in {words.amount(steps)} steps" if steps else "not at all"
    ratios = _ratios(decision)
    of = f" of {words.amount(steps)} steps" if steps else " steps"
    rate = f" at {_rounded(median(ratios))} times Adam's rate" if ratios else ""
    return f"after {words.amount(step)}{of}{rate}"


def _ratios(decision: Facts) -> list[float]:
    held = decision.get("ratios")
    return list(filter(None, map(words.positive, held if isinstance(held, list) else [])))


def _rounded(ratio: float) -> str:
    """Write two digits of a number of any size."""
    return f"{float(f'{ratio:.2g}'):,g}"


def _points(member: Facts, key: str) -> Points:
    """Return the value after each epoch, from 1; one that is missing is NaN and not drawn."""
    return tuple(
        (number(step.get("epoch")) + 1, number(step.get(key))) for step in rows(member, "history")
    )


def _told(lines: Sequence[Line], written: Callable[[float], str]) -> str:
    """Tell where the first line of each label begins and ends, for those who do not see it."""
    first = {line.label: line.points for line in reversed(lines)}
    told = []
    for label in dict.fromkeys(line.label for line in lines):
        good = [(x, y) for x, y in first[label] if math.isfinite(x) and math.isfinite(y)]
        if good:
            (start, begin), (stop, end) = good[0], good[-1]
            told.append(
                f"{label} from {written(begin)} in epoch {start:g} to {written(end)} "
                f"in epoch {stop:g}"
            )
    return "; ".join(told)


def _losses(members: Sequence[Facts]) -> Curve:
    lines = [
        Line(name, _points(member, key), style)
        for key, name, style in (("loss", "training", "b"), ("val_loss", "validation", "a"))
        for member in members
    ]
    figure = plots.chart(
        lines,
        key="loss",
        title="Loss by epoch",
        text=_told(lines, "{:.3f}".format),
        x_label="epoch",
    )
    note = "Training loss is of pictures and labels as training changes them, so it may lie higher."
    if any(member.get("student") for member in members):
        note += " The student's is measured against the vote's answers, not the labels."
    return Curve("Loss", Markup(figure), note)


def _scores(members: Sequence[Facts]) -> Curve:
    lines = []
    for key, name, style in (
        ("val_accuracy", "accuracy", "a"),
        ("val_balanced_accuracy", "balanced accuracy", "c"),
    ):
        for member in members:
            points = _points(member, key)
            kept = number(member.get("best_epoch")) + 1  # epochs are told from 1
            best = tuple(point for point in points if point[0] == kept)
            lines.append(Line(name, points, style, best))
    figure = plots.chart(
        lines,
        key="score",
        title="Validation scores by epoch",
        text=_told(lines, percent),
        x_label="epoch",
        percent=True,
    )
    return Curve("Scores on validation", Markup(figure), "Dots mark the epoch that was kept.")


def _rates(members: Sequence[Facts]) -> Curve:
    lines = [Line("learning rate", _points(member, "rate")) for member in members]
    figure = plots.chart(
        lines,
        key="rate",
        title="Learning rate by epoch",
        text=_told(lines, "{:.2g}".format),
        x_label="epoch",
    )
    return Curve("Learning rate", Markup(figure), "")


def _probe(facts: Facts) -> Curve:
    """Draw the rate probe up to where it diverges, which would flatten all before."""
    rate = number(facts.get("rate"))
    points = [(number(step.get("rate")), number(step.get("loss"))) for step in rows(facts, "probe")]
    first = next((loss for _, loss in points if math.isfinite(loss)), math.nan)
    stop = next((at for at, (_, loss) in enumerate(points) if loss > DIVERGED * first), len(points))
    chosen = f"chosen {rate:.2g}" if math.isfinite(rate) else ""
    figure = plots.chart(
        [Line("loss", tuple(points[:stop]))],
        key="probe",
        title="Loss of short trials at rising learning rates",
        text=chosen,
        x_label="learning rate",
        log_x=True,
        mark=rate,
        mark_label=chosen,
    )
    return Curve(
        "Rate probe",
        Markup(figure),
        "The loss after a few steps at each rate, each from the same start.",
    )
