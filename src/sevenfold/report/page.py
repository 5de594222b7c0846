"""Fill the report's template: clean the facts, bound every table, make the page fit."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from markupsafe import Markup

from sevenfold import plots
from sevenfold.errors import DataError
from sevenfold.pages import template
from sevenfold.plots import plain
from sevenfold.report import words
from sevenfold.report.classwise import classwise
from sevenfold.report.curves import training
from sevenfold.report.evidence import between, evidence, gain
from sevenfold.report.growth import growth
from sevenfold.report.operating import operating
from sevenfold.report.pruned import pruned
from sevenfold.report.rare import rare
from sevenfold.report.update import update
from sevenfold.report.verdict import verdict
from sevenfold.report.vote import vote
from sevenfold.report.words import Facts, Range, estimate, number, part, percent, rows

SCHEMA = "sevenfold.report/1"
_NOT_KNOWN: Final = Range(math.nan, math.nan, math.nan)
LIMIT_BYTES = 2_950_000  # under 3 MB, whether a megabyte is counted in thousands or not
TABLE_ROWS = 40
MATRIX_CLASSES = 20
PAIRS = 20
MISTAKES = 24
EXAMPLES, VIEWS = 12, 8

_IMAGE = re.compile(r"data:image/(?:jpeg|png|webp);base64,[A-Za-z0-9+/]+={0,2}")
_IMAGE_KEYS = ("image", "map", "original", "views")
_OF_A_MISTAKE = ("image", "map")
_FIGURE_BYTES = 1_500  # what surrounds a picture on the page, at most
_LENGTHS = {
    "label": 80,
    "answer": 80,
    "command": 2_000,
    "settings": 300,
    "next": 400,
    "advice": 600,
    "reason": 300,
    "off_means": 200,
}
_RECIPES = ("recipe_toml", "recommended")
_RECIPE_LINES = 400


class MetricRow(NamedTuple):
    """Hold one score in words, with what it means: for each role the value and its interval."""

    name: str
    meaning: str
    test: tuple[str, str]
    validation: tuple[str, str]
    out_of_fold: tuple[str, str]


def render(facts: Facts) -> str:
    """Return the report of a run as one HTML page of less than 3 MB.

    Every text is cleaned of control and reordering marks, shortened and escaped. Tables show the
    rows that matter most and count the rest; pictures that do not fit are left out and counted.

    Args:
        facts: the content of `report.json`, schema "sevenfold.report/1". A part that is missing
            or empty leaves its section out.

    Raises:
        DataError: the facts have another schema.
    """
    if facts.get("schema", SCHEMA) != SCHEMA:
        raise DataError(
            f"the facts of the report have the schema {plain(facts['schema'])}, not {SCHEMA}",
            "write the report with the version of Sevenfold that made the run",
        )
    clean = cleaned(facts)
    view = _view(clean)
    room = LIMIT_BYTES - len(_page(clean, view, room=0).encode())
    return _page(clean, view, room=room)


def cleaned(value: Any, key: str = "") -> Any:
    """Return facts that are safe to show: bounded texts, finite numbers, pictures that are ones.

    Args:
        value: what a JSON file may hold.
        key: the key under which the value stands; it decides how long a text may be.
    """
    if value is None or isinstance(value, bool | int | float):
        return value if value is None or math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {plain(name, 60): cleaned(item, str(name)) for name, item in value.items()}
    if key == "confusion":  # numbers only, and up to a million: read as an array later
        return value
    if isinstance(value, list | tuple):
        return [cleaned(item, key) for item in value]
    if key in _IMAGE_KEYS:
        return value if isinstance(value, str) and _IMAGE.fullmatch(value) else ""
    if key in _RECIPES and isinstance(value, str):
        return "\n".join(plain(line, 300) for line in value.split("\n")[:_RECIPE_LINES])
    return plain(value, _LENGTHS.get(key, 120))


def fitted(images: Sequence[str], room: int) -> list[str]:
    """Return the images in order, emptied where they do not fit into so many bytes.

    Example:
        >>> fitted(["a" * 300, "b" * 4000, "c"], 3500) == ["a" * 300, "", "c"]
        True
    """
    kept = []
    for image in images:
        size = len(image) + _FIGURE_BYTES
        kept.append(image if size <= room else "")
        room -= size if size <= room else 0
    return kept


def _view(facts: Facts) -> dict[str, Any]:
    """Return all that the template shows but the pictures."""
    run = part(facts, "run")
    return {
        "title": facts.get("title") or "Image classifier",
        "created": words.day(run.get("created")),
        "verdict": verdict(facts),
        "scores": _scores(facts),
        "common": words.most_common(part(facts, "test")),
        "data": _data(part(facts, "data")),
        "training": training(part(facts, "training")),
        "vote": vote(facts),
        "operating": operating(facts),
        "rare": rare(facts),
        "classwise": classwise(facts),
        "pruned": pruned(facts),
        "update": update(facts),
        "evidence": evidence(part(facts, "evidence")),
        "growth": growth(facts),
        "confusion": _confusion(part(facts, "test")),
        "classes": _classes(facts),
        "practices": rows(facts, "practices")[:7],
        "bundle": part(facts, "bundle"),
        "run": run,
        "stages": _stages(run),
        "versions": list(part(run, "versions").items())[:TABLE_ROWS],
        "recipe": facts.get("recipe_toml") or "",
    }


def _page(facts: Facts, view: Mapping[str, Any], *, room: int) -> str:
    """Fill the template; the pictures share `room` bytes in the order of the page."""
    mistakes = rows(facts, "mistakes")[:MISTAKES]
    examples = [
        {**row, "views": [view or "" for view in row.get("views") or []][:VIEWS]}
        for row in rows(facts, "augmentation")[:EXAMPLES]
    ]
    wanted = [row.get(key) or "" for row in mistakes for key in _OF_A_MISTAKE]
    wanted += [image for row in examples for image in (row.get("original") or "", *row["views"])]
    kept = fitted(wanted, room)
    rest = iter(kept)
    mistakes = [{**row, **{key: next(rest) for key in _OF_A_MISTAKE}} for row in mistakes]
    shown = [
        {**row, "original": next(rest), "views": [next(rest) for _ in row["views"]]}
        for row in examples
    ]
    return template("report.html.j2", FILTERS, strict=False).render(
        **view,
        mistakes=mistakes,
        examples=[row for row in shown if row["original"] or any(row["views"])],
        left_out=sum(map(bool, wanted)) - sum(map(bool, kept)),
    )


FILTERS: Final = (
    ("percent", percent),
    ("count", words.count),
    ("duration", words.duration),
    ("number", number),
    ("span", words.span),
    ("amount", words.amount),
    ("gain", gain),
    ("between", between),
)
METRICS = (
    ("accuracy", "Accuracy", "share of pictures answered rightly"),
    ("balanced_accuracy", "Balanced accuracy", "mean of the classes' recalls"),
    ("macro_f1", "Macro F1", "mean of the classes' F1 scores"),
    ("calibration_error", "Calibration error", "gap between stated and true chances"),
    ("nll", "Log loss (NLL)", "surprise at the truth, in nats"),
)


def _scores(facts: Facts) -> list[MetricRow]:
    """Return the rows of scores that at least one role has."""

    def written(role: str, key: str) -> tuple[str, str]:
        found = estimate(part(facts, role), key)
        if not math.isfinite(found.value):
            return "", ""
        if key == "nll":
            return f"{found.value:.3f}", words.decimals(found)
        return percent(found.value), words.span(found)

    table = [
        MetricRow(
            name,
            meaning,
            written("test", key),
            written("validation", key),
            written("out_of_fold", key),
        )
        for key, name, meaning in METRICS
    ]
    return [row for row in table if row.test[0] or row.validation[0] or row.out_of_fold[0]]


def _data(data: Facts) -> dict[str, Any]:
    """Return what the data section shows; the rarest classes if there are too many."""
    classes = [
        {**row, "sum": sum(words.positive(row.get(role)) for role in ("train", "val", "test"))}
        for row in rows(data, "classes")
    ]
    classes.sort(key=lambda row: -row["sum"])
    shown = classes[-TABLE_ROWS:]
    largest = max((row["sum"] for row in shown), default=0)
    quarantined = rows(data, "quarantined")
    return {
        **data,
        "rows": [
            {
                **row,
                "bar": Markup(
                    plots.stack(
                        [words.positive(row.get(role)) for role in ("train", "val", "test")],
                        largest,
                    )
                ),
            }
            for row in shown
        ],
        "totals": {
            role: sum(words.positive(row.get(role)) for row in classes)
            for role in ("train", "val", "test")
        },
        "classes_left_out": len(classes) - len(shown),
        "quarantined": quarantined[:PAIRS],
        "quarantined_count": len(quarantined),
    }


def _confusion(test: Facts) -> dict[str, Any]:
    """Return the matrix of the most confused classes, at most 20, and the worst pairs."""
    names, counts = words.confusion(test)
    if not names:
        return {}
    pairs = words.confused(test, PAIRS)
    wrong = counts - np.diag(np.diag(counts))
    involved = wrong.sum(axis=0) + wrong.sum(axis=1)
    shown = np.sort(np.argsort(-involved, kind="stable")[:MATRIX_CLASSES])
    errors = int(wrong.sum())
    told = "; ".join(
        f"{pair.truth} answered as {pair.answer}: {pair.pictures}" for pair in pairs[:5]
    )
    figure = plots.matrix(
        counts[np.ix_(shown, shown)].tolist(),
        [names[at] for at in shown],
        counts[shown].sum(axis=1).tolist(),
        key="matrix",
        title="Confusion matrix of the test pictures",
        text=f"{words.count(errors, 'mistake')}. {told}",
    )
    return {
        "figure": Markup(figure),
        "pairs": pairs,
        "pairs_left_out": int((wrong > 0).sum()) - len(pairs),
        "classes_left_out": len(names) - len(shown),
        "errors": errors,
    }


def _classes(facts: Facts) -> dict[str, Any]:
    """Return the classes with the lowest recall first, at most 40.

    Beside it stands the recall out of fold, or on validation where there are no folds.
    """
    table = rows(part(facts, "test"), "classes")
    folds = bool(part(facts, "out_of_fold"))
    elsewhere = rows(part(facts, "out_of_fold" if folds else "validation"), "classes")
    matched = elsewhere if len(elsewhere) == len(table) else [{}] * len(table)
    found = [
        {
            **row,
            "recall": estimate(row, "recall") if row.get("pictures") != 0 else _NOT_KNOWN,
            "fold": estimate(other, "recall"),
            "fold_pictures": other.get("pictures"),
        }
        for row, other in zip(table, matched, strict=True)
    ]
    found.sort(key=lambda row: _order(row["recall"]))
    shown = [{**row, "bar": Markup(plots.bar(*row["recall"]))} for row in found[:TABLE_ROWS]]
    return {
        "rows": shown,
        "left_out": len(found) - len(shown),
        "folds": any(math.isfinite(row["fold"].value) for row in found),
        "column": "Out of fold" if folds else "Validation",
        "elsewhere": "out of fold, over all pictures but the test's,"
        if folds
        else "on the validation pictures, which choices were made by,",
        "few": sum(bool(row.get("too_few")) for row in found),
    }


def _order(recall: Range) -> float:
    """Put classes without a recall last."""
    return recall.value if math.isfinite(recall.value) else 2.0


def _stages(run: Facts) -> list[dict[str, Any]]:
    stages = rows(run, "stages")[:PAIRS]
    longest = max((words.positive(stage.get("seconds")) for stage in stages), default=0.0)
    return [
        {**stage, "bar": Markup(plots.stack([words.positive(stage.get("seconds"))], longest))}
        for stage in stages
    ]
