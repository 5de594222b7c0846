"""Show a race on one self-contained page: who leads, how surely, and what it took."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

from sevenfold import plots
from sevenfold.evaluate import FEWEST_PICTURES
from sevenfold.pages import template
from sevenfold.plots import Band, Line, Marks
from sevenfold.report import words
from sevenfold.report.evidence import listed
from sevenfold.report.page import FILTERS as REPORT_FILTERS
from sevenfold.report.page import cleaned
from sevenfold.report.words import Range, number, percent
from sevenfold.studies.race.field import CONTESTANTS
from sevenfold.studies.race.search import FEW

STYLES: Final = "abcdef"
MEASURES: Final = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "common_recall": "Recall of the common half",
    "rare_recall": "Recall of the rare half",
}
CLASSES: Final = 40
_OF_METHODS: Final = ("macro_f1", "common_recall", "rare_recall")
FILTERS: Final = (*REPORT_FILTERS, ("decimals", words.decimals))

Facts = Mapping[str, Any]


def render(facts: Facts) -> str:
    """Return the page of a race.

    Args:
        facts: the object of `race --json`. Its texts are cleaned and escaped.
    """
    clean = cleaned(facts)
    searched = clean["practice"] == "optimization"
    field = clean["optimizers" if searched else "methods"]
    order = clean["order"]
    styles = dict(zip(CONTESTANTS["optimization"], STYLES, strict=True)) if searched else {}
    told = [pair for pair in clean["pairs"] if pair["told_apart"]]
    return template("race.html.j2", FILTERS, strict=False).render(
        **{name: clean[name] for name in ("name", "pictures", "seeds", "trials", "objective")},
        facts=clean,
        searched=searched,
        noun="optimizer" if searched else "method",
        measure=MEASURES[clean["objective"]].lower(),
        headline=headline(clean),
        rows=[_row(name, field[name], clean) for name in order],
        measures=_measures(field, searched),
        figure=_figure(field, clean, styles),
        key=[(one, styles[one]) for one in order] if searched else _key(field),
        curves=_curves(field, clean, styles) if searched else [],
        search=[(name, trial) for name in order for trial in field[name]["search"]],
        decisions=_decisions(field, order),
        told=told,
        pairs=len(clean["pairs"]),
        few_trials=FEW,
        outermost=_outermost(field, order),
        **_classes(clean),
        few=clean["pictures"]["judged_rare"] < FEWEST_PICTURES,
        recipe=clean["recipe_toml"],
    )


def _range(facts: Facts, key: str) -> Range:
    found = words.part(facts, key)
    return Range(*(number(found.get(name)) for name in ("mean", "low", "high")))


def headline(facts: Facts) -> str:
    """Say who is ahead of the reference and who behind, no more surely than the seeds allow.

    Example:
        >>> headline({"reference": "adamw", "pairs": [], "practice": "optimization"})
        'No optimizer is ahead of adamw or behind it that these seeds could tell'
    """
    reference = facts["reference"]
    told = [pair for pair in facts["pairs"] if pair["told_apart"]]
    ahead = [pair["ahead"] for pair in told if pair["behind"] == reference]
    behind = [pair["behind"] for pair in told if pair["ahead"] == reference]
    if not told:
        noun = "optimizer" if facts["practice"] == "optimization" else "method"
        return f"No {noun} is ahead of {reference} or behind it that these seeds could tell"
    said = [
        f"{listed(names)} {'are' if len(names) > 1 else 'is'} {where} {reference}"
        for names, where in ((ahead, "ahead of"), (behind, "behind"))
        if names
    ]
    return ", ".join(said)


def _outermost(field: Facts, order: Sequence[str]) -> str:
    """List whose chosen rate had nothing beyond it; "" where all had."""
    ends = [(name, field[name].get("outermost")) for name in order]
    return listed([f"{name} ({end})" for name, end in ends if end] or [""])


def _classes(facts: Facts) -> dict[str, Any]:
    """Return the rows of the classes, the rarest first, and how many more there are."""
    found = sorted(facts.get("classes", ()), key=lambda one: one["trained_on"])
    rows = [
        one | {"recalls": [_range(one["recalls"], name) for name in facts["order"]]}
        for one in found[:CLASSES]
    ]
    return {"classes": rows, "classes_left_out": len(found) - len(rows)}


def _row(name: str, one: Facts, facts: Facts) -> dict[str, Any]:
    """Return what the table says of one contestant."""
    objective = facts["objective"]
    change = _range(words.part(one, "difference"), objective)
    return {
        "name": name,
        "scores": {key: _range(one, key) for key in MEASURES},
        "nll": _range(one, "nll"),
        "seconds": one["seconds"],
        "settings": one["settings"],
        "difference": f"{100 * change.value:+.1f}" if name != facts["reference"] else "",
        "span": f"{100 * change.low:+.1f} to {100 * change.high:+.1f}"
        if name != facts["reference"]
        else "",
        "diverged": sum(bool(final["diverged"]) for final in one["finals"]),
    }


def _measures(field: Facts, searched: bool) -> dict[str, str]:
    """Name the measures that are shown: of methods also the recalls that all of them have."""
    return {
        key: name
        for key, name in MEASURES.items()
        if all(key in one for one in field.values()) and not (searched and key in _OF_METHODS)
    }


def _key(field: Facts) -> list[tuple[str, str]]:
    """Give a style to each measure of methods."""
    return list(zip(_measures(field, False).values(), STYLES, strict=False))


def _figure(field: Facts, facts: Facts, styles: Mapping[str, str]) -> Markup:
    """Draw the final figures: the objective of each optimizer, or all measures of a method."""
    objective = facts["objective"]
    keys = [objective] if styles else list(_measures(field, False))
    rows = [
        Marks(
            name,
            tuple(
                (*_range(field[name], key), styles.get(name, STYLES[at]))
                for at, key in enumerate(keys)
            ),
        )
        for name in facts["order"]
    ]
    title = f"{MEASURES[objective]} by optimizer" if styles else "Figures by method"
    text = "; ".join(
        f"{name} {percent(_range(field[name], objective).value)}" for name in facts["order"]
    )
    return Markup(plots.dots(rows, key="standing", title=title, text=text))


def _curves(field: Facts, facts: Facts, styles: Mapping[str, str]) -> list[tuple[str, Markup]]:
    """Draw the objective on the tuning pictures against steps and against seconds.

    Bands are from the lowest to the highest seed: of three an interval would fill the figure.
    """
    measure = MEASURES[facts["objective"]]
    drawn = []
    for axis, label in (("steps", "steps"), ("seconds", "seconds of training")):
        lines, bands, ends = [], [], []
        for name in facts["order"]:
            curve = field[name]["curve"]
            xs = [number(x) for x in curve[axis]]
            ys = [number(y) for y in curve["score"]]
            points = tuple(zip(xs, ys, strict=True))
            # One epoch is a point, and a line through it would not be seen.
            lines.append(Line(name, points, styles[name], points if len(points) == 1 else ()))
            around = tuple(zip(xs, curve["low"], curve["high"], strict=True))
            bands.append(Band(around, styles[name]))
            ends.append(f"{name} ends at {percent(ys[-1])} after {xs[-1]:.4g} {label}")
        figure = plots.chart(
            lines,
            key=axis,
            title=f"{measure} on the tuning pictures by {label}: mean and range of the seeds",
            text="; ".join(ends),
            x_label=label,
            percent=True,
            bands=bands,
            legend=False,
        )
        drawn.append((f"Against {axis}: mean, and range of the seeds", Markup(figure)))
    return drawn


def _decisions(field: Facts, order: Sequence[str]) -> list[dict[str, Any]]:
    """List what the switch decided in each final training."""
    return [
        {
            "seed": final["seed"],
            "steps": final["steps"],
            "switched": final["decision"]["step"],
            "ratios": Range(
                0.0, min(final["decision"]["ratios"]), max(final["decision"]["ratios"])
            ),
        }
        for name in order
        for final in field[name]["finals"]
        if final["decision"]
    ]
