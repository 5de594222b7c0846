"""Make the pruning section of the report: what went, what it saved, and what it cost."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from markupsafe import Markup

from sevenfold import plots
from sevenfold.report import words
from sevenfold.report.words import Facts, number, part, percent, rows

STEPS = 40
FLIPS = 24
CLASSES = 40
_SENTENCE = 300  # characters
ABOUT = (
    "The network that ships is what is left of a larger one. Each row was judged by the file that "
    "would ship, all of them in one opening of the test pictures; the drop's bound, with 95 % "
    "confidence, is for the accuracy or, if that is larger, for the score that is judged by."
)
REFUSED = "A smaller network ships only if it costs little on validation and is not slower."


class Row(NamedTuple):
    """Hold one network of the table."""

    name: str
    note: str
    macs: float
    parameters: float
    latency: str
    speedup: str
    validation: float
    test: float
    bound: str


def pruned(facts: Facts) -> dict[str, Any]:
    """Return the pruning section; nothing where nothing was pruned.

    Args:
        facts: cleaned content of `report.json`.
    """
    found = part(facts, "pruning")
    steps = rows(found, "steps")
    if found.get("refused"):
        return {"about": REFUSED, "said": [*_refused(found)]}
    if not steps:
        return {}
    dense, controls = part(found, "dense"), part(found, "controls")
    chosen = int(number(found.get("chosen"))) if found.get("chosen") else 0
    kept = [_row(one, dense, ships=at == chosen) for at, one in enumerate(steps[:STEPS], 1)]
    others = [*rows(controls, "dense"), *rows(controls, "smaller")[:STEPS]]
    flips = part(found, "flips")
    return {
        "about": ABOUT,
        "said": [*_said(found)],
        "measure": str(found.get("objective") or "accuracy").replace("_", " "),
        "rows": [_row(dense, dense), *kept, *(_row(one, dense, control=True) for one in others)],
        "figure": _figure(dense, steps, controls),
        "flips": rows(flips, "pictures")[:FLIPS],
        "flips_left_out": max(0, int(words.positive(flips.get("negative"))) - FLIPS),
        "classes": [
            {
                "label": one.get("label"),
                "pictures": one.get("pictures"),
                "before": number(part(one, "before").get("value")),
                "after": number(part(one, "after").get("value")),
            }
            for one in rows(found, "classes")[:CLASSES]
        ],
    }


def _row(one: Facts, dense: Facts, *, ships: bool = False, control: bool = False) -> Row:
    speed = part(one, "speedup")
    whole = {name: number(dense.get(name)) for name in ("macs", "parameters")}
    latency = number(one.get("network_latency_ms"))
    note = "ships" if ships else "control" if control else ""
    bounds = (number(one.get(name)) for name in ("drop_bound", "objective_drop_bound"))
    bound = "" if one is dense else percent(max(filter(math.isfinite, bounds), default=math.nan))
    return Row(
        plots.plain(one.get("name")),
        note,
        number(one.get("macs")) / whole["macs"] if whole["macs"] else math.nan,
        number(one.get("parameters")) / whole["parameters"] if whole["parameters"] else math.nan,
        words.milliseconds(latency) if math.isfinite(latency) else "",
        f"{number(speed.get('median')):.2f} ({number(speed.get('low')):.2f} to "
        f"{number(speed.get('high')):.2f})"
        if speed
        else "",
        number(one.get("validation")),
        number(one.get("test")),
        bound,
    )


def _refused(found: Facts) -> Iterator[str]:
    """Say why the unpruned network ships."""
    asked = "".join(
        f" to {percent(number(one.get('value')), 0)} of its multiply-accumulates"
        for one in rows(found, "targets")
    )
    yield f"The network was to be pruned{asked}; the unpruned one ships."
    yield f"Why: {plots.plain(found.get('refused'))}."


def _said(found: Facts) -> Iterator[str]:
    speed, flips = part(found, "speedup"), part(found, "flips")
    yield (
        f"{percent(number(found.get('macs_cut')))} of the multiply-accumulates and "
        f"{percent(number(found.get('parameters_cut')))} of the parameters are gone. On one "
        f"thread the network is {number(speed.get('median')):.2f} times as fast "
        f"({number(speed.get('low')):.2f} to {number(speed.get('high')):.2f})."
    )
    if not found.get("steady"):
        itself = part(found, "against_itself")
        yield (
            "The machine was busy: when it was timed twice, the model before took "
            f"{number(itself.get('low')):.2f} to {number(itself.get('high')):.2f} times as long as "
            "itself. The smaller one ships since its gain is surely more than that; how much it is "
            "should be timed again."
        )
    pictures = words.count(found.get("test_pictures"), "test picture")
    drop = number(found.get("drop"))
    moved = "falls" if drop > 0 else "rises" if drop < 0 else "changes"
    yield (
        f"On {pictures} the accuracy {moved} by "
        f"{words.points(abs(drop))}: {words.count(flips.get('negative'), 'answer')} got wrong, "
        f"{words.count(flips.get('positive'), 'answer')} right."
    )
    if found.get("certified"):
        yield (
            f"Certified: with 95 % confidence {_bounds(found)} against the model before. The 5 % "
            "are this pruning's own: of several, each may err."
        )
    else:
        yield (
            f"Not certified: with 95 % confidence these pictures only show that {_bounds(found)}, "
            f"and certify no less than {words.points(number(found.get('smallest_certifiable')))}; "
            f"{words.points(number(found.get('max_drop')))} were allowed. More test pictures "
            "would tell."
        )
    if not found.get("reached"):
        score = number(part(found, "beyond").get("validation"))
        yield "The target was not reached: " + (
            f"the next step fell to {percent(score)} on validation, more than was allowed."
            if math.isfinite(score)
            else "what comes nearer was measured slower or not certified, or the file is larger or "
            "takes longer than was asked for."
        )
    if stands := found.get("smaller_controls"):
        yield f"The smaller controls are {plots.plain(stands, _SENTENCE)}."
    missing = found.get("controls_missing")
    for reason in missing if isinstance(missing, list) else ():
        yield f"Of smaller controls there is {plots.plain(reason, _SENTENCE)}."


def _bounds(found: Facts) -> str:
    """Say by how much each measure of a certificate may drop."""
    said = f"its accuracy drops by no more than {words.points(number(found.get('drop_bound')))}"
    if "balanced_accuracy" in str(found.get("certified_by")):
        points = words.points(number(found.get("objective_drop_bound")))
        said += f" and its balanced accuracy by no more than {points}"
    return said


def _figure(dense: Facts, steps: list[Facts], controls: Facts) -> Markup:
    """Draw the score on test against what is left of the multiply-accumulates."""
    whole = number(dense.get("macs"))

    def line(label: str, style: str, some: list[Facts]) -> plots.Line:
        points = sorted(
            (100 * number(one.get("macs")) / whole, number(one.get("test"))) for one in some
        )
        return plots.Line(label, tuple(points), style, tuple(points))

    lines = [line("chosen", "a", [dense, *steps])]
    if rows(controls, "smaller"):
        kind = plots.plain(rows(controls, "smaller")[0].get("name")).rpartition(" ")[0]
        lines.append(line(kind, "b", [dense, *rows(controls, "smaller")]))
    if rows(controls, "dense"):
        lines.append(line("unpruned", "c", rows(controls, "dense")))
    told = "; ".join(
        f"{percent(number(one.get('macs')) / whole)}: {percent(number(one.get('test')))}"
        for one in steps
    )
    return Markup(
        plots.chart(
            lines,
            key="pruned",
            title="Score on test against the multiply-accumulates that are left",
            text=f"Dense {percent(number(dense.get('test')))}. {told}",
            x_label="% of the multiply-accumulates",
            percent=True,
        )
    )
