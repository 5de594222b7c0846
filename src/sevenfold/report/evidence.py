"""Make the evidence section: what each practice contributes, how surely, and at what cost."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from markupsafe import Markup

from sevenfold import plots
from sevenfold.plots import Marks
from sevenfold.report import words
from sevenfold.report.words import Facts, Range, number, part, percent, rows

LEFT_OUT, ALONE = "leave_one_out", "add_one_in"
SCORES: Final = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "nll": "Log loss",
    "calibration_error": "Calibration error",
}
COSTS: Final = {"seconds": "training", "megabytes": "size", "latency_ms": "latency"}
TONES: Final = {"helps": "on", "hurts": "bad"}
_TOLD: Final = 40
_SAME: Final = 0.05  # costs that differ by less are written as equal
_POINT: Final = 0.01
_PLUS_MINUS: Final = "\N{PLUS-MINUS SIGN}"


class Row(NamedTuple):
    """Hold what the table says of one practice."""

    practice: str
    verdict: str
    tone: str
    off_means: str
    left_out: Range
    alone: Range
    costs: dict[str, str]
    said: str


class Scored(NamedTuple):
    """Hold all scores of one contrast: gains with their intervals, in words."""

    practice: str
    direction: str
    gains: dict[str, tuple[str, str]]


class Advised(NamedTuple):
    """Hold what is recommended of one practice, in words."""

    practice: str
    recommended: bool
    reason: str
    gives_up: str
    saves: str


def evidence(found: Facts) -> dict[str, Any]:
    """Return what the section shows; nothing where nothing was measured.

    Args:
        found: cleaned content of `evidence.json`.
    """
    practices = part(found, "practices")
    objective = str(found.get("objective") or "accuracy")
    if not practices:
        return {}
    planned = number(found.get("repetitions_planned"))
    table = [row(str(name), one, objective, planned) for name, one in practices.items()]
    return {
        "headline": headline(found),
        "objective": objective.replace("_", " "),
        "rows": table,
        "figure": _figure(table, objective),
        "scores": [*_scores(practices)],
        "references": [*_references(practices, objective)],
        "answers": [*_answers(practices)],
        "interactions": [*interactions(found, objective)],
        "diverged": [*_diverged(found)],
        "advice": [_advised(one) for one in rows(found, "advice")],
        "gives_up": _given(found.get("gives_up")),
        "recipe": found.get("recommended") or "",
        "holds": holds(part(found, "regime")),
        "regime": [*_regime(part(found, "regime"))][:_TOLD],
        **{
            name: found.get(name)
            for name in ("complete", "repetitions", "repetitions_planned", "pictures", "seconds")
        },
        "family": words.count(found["family"], "practice")
        if found.get("family")
        else "all practices",
    }


def row(practice: str, one: Facts, objective: str, planned: float = 0) -> Row:
    """Return what the table says of one practice.

    Args:
        practice: one of the seven.
        one: its part of `evidence.json`.
        objective: that verdicts are on.
        planned: repetitions of the study.
    """
    verdict = str(one.get("verdict") or "cannot tell")
    return Row(
        practice,
        verdict,
        TONES.get(verdict, "off"),
        str(one.get("off_means") or ""),
        effect(part(one, LEFT_OUT), objective),
        effect(part(one, ALONE), objective),
        {
            name: cost(part(part(one, LEFT_OUT), metric))
            for metric, name in COSTS.items()
            if part(one, LEFT_OUT)
        },
        explained(one, objective, planned),
    )


def effect(metrics: Facts, name: str) -> Range:
    """Return an effect of a metric with its interval; NaN for what is not known."""
    held = part(metrics, name)
    return Range(*(number(held.get(key)) for key in ("effect", "low", "high")))


def headline(found: Facts) -> str:
    """Say which practices help, no more surely than the evidence does.

    Example:
        >>> headline({"practices": {"growth": {"verdict": "helps"}}, "complete": True})
        'growth helps'
    """
    verdicts = {
        str(name): one.get("verdict")
        for name, one in part(found, "practices").items()
        if isinstance(one, Mapping)
    }
    said = []
    for verdict, plural in (("helps", "help"), ("hurts", "hurt")):
        names = [name for name, held in verdicts.items() if held == verdict]
        if names:
            said.append(f"{listed(names)} {verdict if len(names) == 1 else plural}")
    if said:
        return "; ".join(said)
    if not found.get("complete"):
        done, planned = found.get("repetitions") or 0, found.get("repetitions_planned")
        return f"Nothing can be told yet: {done} of {planned} repetitions are done"
    return "No practice is surely better or worse than none"


def listed(names: Sequence[str]) -> str:
    """Join names as people do.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    *rest, last = names
    return f"{', '.join(rest)} and {last}" if rest else last


def gain(value: float) -> str:
    """Write a difference of fractions in points, with its sign.

    Example:
        >>> gain(0.0234), gain(-0.0001)
        ('+2.3', '0.0')
    """
    if not math.isfinite(value):
        return plots.MISSING
    text = f"{100 * value:+.1f}"
    return "0.0" if float(text) == 0 else text


def between(found: Range) -> str:
    """Write the ends of an interval in points; empty where it is not known."""
    if not math.isfinite(found.low + found.high):
        return ""
    return f"{gain(found.low)} to {gain(found.high)}"


def cost(metric: Facts) -> str:
    """Write how many times as much the practice costs.

    Example:
        >>> cost({"with": 42.0, "without": 30.0}), cost({"with": 30.2, "without": 30.0})
        ('\N{MULTIPLICATION SIGN}1.40', 'same')
    """
    before, after = number(metric.get("without")), number(metric.get("with"))
    if not (before > 0 and math.isfinite(after)):
        return plots.MISSING
    times = after / before
    if abs(times - 1) < _SAME:
        return "same"
    return (
        f"\N{MULTIPLICATION SIGN}{times:.2f}"
        if times < 10
        else (f"\N{MULTIPLICATION SIGN}{times:.0f}")
    )


def explained(one: Facts, objective: str, planned: float = 0) -> str:
    """Say what would tell more, or why there is nothing to tell.

    Args:
        one: of a practice.
        objective: that verdicts are on.
        planned: repetitions of the study.
    """
    verdict = one.get("verdict")
    if verdict == "not in use":
        return str(one.get("reason") or "")
    if verdict != "cannot tell":
        return ""
    found = effect(part(one, LEFT_OUT), objective)
    half = (found.high - found.low) / 2
    if not math.isfinite(half):
        return "not measured yet"
    if number(one.get("repetitions")) < planned:
        return "not all repetitions are there yet"
    if half <= _POINT:
        return f"known to {_PLUS_MINUS}{100 * half:.2f} points; no difference asks for half a point"
    needed = number(part(one, "to_resolve").get("pictures"))
    if not needed >= 1:
        return ""
    rough = round(needed, 1 - math.floor(math.log10(needed)))  # an estimate of an estimate
    return f"about {words.count(rough, 'picture')} would tell 1 point"


def _figure(table: list[Row], objective: str) -> Markup:
    measured = [row for row in table if row.verdict != "not in use"]
    drawn = [
        Marks(
            row.practice,
            ((*row.left_out, "a"), (*row.alone, "b")),
            _note(row),
        )
        for row in measured
    ]
    told = "; ".join(f"{row.practice} {gain(row.left_out.value)} points" for row in measured)
    title = f"Gain in {objective.replace('_', ' ')} by practice, in points, beside its cost"
    return Markup(plots.dots(drawn, key="gains", title=title, text=told, points=True))


def _note(row: Row) -> str:
    """Write the costs that differ, those of the deployed model first."""
    order = ("latency", "size", "training")
    told = [f"{name} {row.costs[name]}" for name in order if _differs(row.costs.get(name))]
    return ", ".join(told[:2]) or "costs the same"


def _differs(text: str | None) -> bool:
    return text not in (None, "same", plots.MISSING)


def _scores(practices: Facts) -> Iterator[Scored]:
    """Tell all scores, both ways."""
    for name, one in practices.items():
        for direction, said in ((LEFT_OUT, "beside the others"), (ALONE, "alone")):
            metrics = part(one, direction)
            if metrics:
                yield Scored(str(name), said, _gains(metrics))


def _gains(metrics: Facts) -> dict[str, tuple[str, str]]:
    told = {}
    for name in SCORES:
        if not part(metrics, name):
            continue
        found = effect(metrics, name)
        if name == "nll":
            told[name] = (
                f"{found.value:+.3f}" if math.isfinite(found.value) else plots.MISSING,
                f"{found.low:+.3f} to {found.high:+.3f}"
                if math.isfinite(found.low + found.high)
                else "",
            )
        else:
            told[name] = gain(found.value), between(found)
    return told


def _references(practices: Facts, objective: str) -> Iterator[dict[str, str]]:
    """Tell what a practice gains over a second way to be without it."""
    for name, one in practices.items():
        for other in rows(one, "references"):
            found = effect(part(other, "metrics"), objective)
            yield {
                "practice": str(name),
                "off_means": str(other.get("off_means") or ""),
                "gain": gain(found.value),
                "span": between(found),
            }


def _answers(practices: Facts) -> Iterator[dict[str, Any]]:
    for name, one in practices.items():
        found = part(part(one, "answers"), LEFT_OUT)
        if found:
            p = number(found.get("mcnemar_p"))
            yield {"practice": name, **found, "p": f"{p:.3f}" if p >= 0.001 else "<0.001"}


def interactions(found: Facts, objective: str) -> Iterator[str]:
    """Say of each practice whose two directions disagree by how much.

    Args:
        found: content of `evidence.json`.
        objective: that verdicts are on.
    """
    for one in rows(found, "interactions"):
        practice = str(one.get("practice"))
        both = part(part(found, "practices"), practice)
        gains = [effect(part(both, way), objective).value for way in (LEFT_OUT, ALONE)]
        apart = Range(*(number(one.get(key)) for key in ("effect", "low", "high")))
        yield (
            f"{practice} gains {gain(gains[0])} points beside the others and {gain(gains[1])} "
            f"alone: {gain(apart.value)} apart ({between(apart)})."
        )


def _diverged(found: Facts) -> Iterator[str]:
    """Say which arms cannot be relied on, since trainings of theirs came to nothing."""
    for name, count in part(found, "diverged").items():
        yield (
            f"{name} diverged in {words.count(count, 'repetition')}, where all its answers count "
            "as one class: what is measured against it says nothing of a training that works."
        )


def _advised(one: Facts) -> Advised:
    saves = part(one, "saves")
    told = [
        f"{percent(abs(number(saves.get(metric))), 0)} "
        f"{'less' if number(saves.get(metric)) > 0 else 'more'} {name}"
        for metric, name in COSTS.items()
        if metric in saves
    ]
    return Advised(
        str(one.get("practice") or ""),
        bool(one.get("recommended")),
        str(one.get("reason") or ""),
        _given(one.get("gives_up")),
        ", ".join(told),
    )


def _given(most: object) -> str:
    """Say what a choice may cost."""
    return f"at most {words.points(number(most))}" if number(most) > 0 else ""


def holds(regime: Facts) -> str:
    """Say in a sentence for what evidence holds; nothing where no regime is on record.

    Args:
        regime: of `evidence.json`.
    """
    if not regime.get("backbone"):
        return ""
    named = f"the {regime['budget']} budget and " if regime.get("budget") else ""
    blocks, views = regime.get("trainable_blocks"), words.count(regime.get("views"), "view")
    return (
        f"It holds for {named}{regime['backbone']} with "
        f"{words.count(blocks, 'trained block')}, {views} of {regime.get('side')} pixels and "
        f"{words.count(regime.get('epochs'), 'epoch')}, without what would look at a fold's own "
        "pictures: the label check, and choosing views of their own for rare classes."
    )


def _regime(regime: Facts) -> Iterator[tuple[str, str]]:
    """Name the regime that the evidence holds in."""
    for name, held in regime.items():
        if isinstance(held, Mapping):
            text = ", ".join(f"{key} {one}" for key, one in held.items())
        elif isinstance(held, list | tuple):
            text = ", ".join(map(str, held))
        else:
            text = "" if held is None else str(held)
        if text:
            label = str(name).replace("_", " ")
            yield label[:1].upper() + label[1:], text
