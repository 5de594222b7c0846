"""Fill the report's template: clean the facts, bound every table, make the page fit."""

import base64
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from sevenfold import plots
from sevenfold.errors import DataError
from sevenfold.plots import Line, plain
from sevenfold.report import words
from sevenfold.report.verdict import verdict
from sevenfold.report.words import Facts, Range, estimate, number, part, percent, rows

SCHEMA = "sevenfold.report/1"
LIMIT_BYTES = 2_950_000  # under 3 MB, whether a megabyte is counted in thousands or not
TABLE_ROWS = 40
MATRIX_CLASSES = 20
PAIRS = 20
MISTAKES = 24
MEMBERS = 9
EXAMPLES, VIEWS = 12, 8

_IMAGE = re.compile(r"data:image/(?:jpeg|png|webp);base64,[A-Za-z0-9+/]+={0,2}")
_IMAGE_KEYS = ("image", "original", "views")
_FIGURE_BYTES = 900  # what surrounds a picture on the page, at most
_LENGTHS = {"command": 2_000, "settings": 300, "next": 400, "advice": 600}
_RECIPE_LINES = 400


class MetricRow(NamedTuple):
    """Hold one score in words, with what it means."""

    name: str
    meaning: str
    test: str
    validation: str
    out_of_fold: str


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
    return _page(clean, room=LIMIT_BYTES - len(_page(clean, room=0).encode()))


def cleaned(value: Any, key: str = "") -> Any:
    """Return facts that are safe to show: bounded texts of one line, and pictures that are ones.

    Args:
        value: what a JSON file may hold.
        key: the key under which the value stands; it decides how long a text may be.
    """
    if isinstance(value, Mapping):
        return {plain(name, 60): cleaned(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(item, key) for item in value]
    if not isinstance(value, str):
        return value
    if key in _IMAGE_KEYS:
        return value if _IMAGE.fullmatch(value) else ""
    if key == "recipe_toml":
        return "\n".join(plain(line, 300) for line in value.split("\n")[:_RECIPE_LINES])
    return plain(value, _LENGTHS.get(key, 120))


def fitted(images: Sequence[str], room: int) -> list[str]:
    """Return the images in order, emptied where they do not fit into so many bytes.

    Example:
        >>> fitted(["a" * 300, "b" * 4000, "c"], 2500) == ["a" * 300, "", "c"]
        True
    """
    kept = []
    for image in images:
        size = len(image) + _FIGURE_BYTES
        kept.append(image if size <= room else "")
        room -= size if size <= room else 0
    return kept


def _page(facts: Facts, *, room: int) -> str:
    """Fill the template; the pictures share `room` bytes in the order of the page."""
    run = part(facts, "run")
    mistakes = rows(facts, "mistakes")[:MISTAKES]
    examples = [
        {**row, "views": row.get("views", [])[:VIEWS]}
        for row in rows(facts, "augmentation")[:EXAMPLES]
    ]
    wanted = [row.get("image", "") for row in mistakes]
    wanted += [image for row in examples for image in (row.get("original", ""), *row["views"])]
    kept = fitted(wanted, room)
    rest = iter(kept[len(mistakes) :])
    examples = [
        {**row, "original": next(rest), "views": [next(rest) for _ in row["views"]]}
        for row in examples
    ]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=facts.get("title") or "Image classifier",
            created=words.day(run.get("created")),
            verdict=verdict(facts),
            scores=_scores(facts),
            common=words.most_common(part(facts, "test")),
            data=_data(part(facts, "data")),
            training=_training(part(facts, "training"), part(facts, "data")),
            confusion=_confusion(part(facts, "test")),
            classes=_classes(facts),
            mistakes=[{**row, "image": image} for row, image in zip(mistakes, kept, strict=False)],
            examples=[row for row in examples if row["original"] or any(row["views"])],
            left_out=sum(map(bool, wanted)) - sum(map(bool, kept)),
            practices=rows(facts, "practices")[:7],
            bundle=part(facts, "bundle"),
            run=run,
            stages=_stages(run),
            versions=list(part(run, "versions").items())[:TABLE_ROWS],
            recipe=facts.get("recipe_toml", ""),
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sevenfold"),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "count": words.count,
        "duration": words.duration,
        "number": number,
        "span": words.span,
        "digest": lambda css: base64.b64encode(hashlib.sha256(css.encode()).digest()).decode(),
    }
    return environment


METRICS = (
    ("accuracy", "Accuracy", "share of pictures answered rightly"),
    ("balanced_accuracy", "Balanced accuracy", "mean of the classes' recalls"),
    ("macro_f1", "Macro F1", "mean of the classes' F1 scores"),
    ("calibration_error", "Calibration error", "gap between stated and true chances"),
    ("nll", "Log loss (NLL)", "surprise at the truth, in nats"),
)


def _scores(facts: Facts) -> list[MetricRow]:
    """Return the rows of scores that at least one role has."""

    def written(role: str, key: str) -> str:
        found = estimate(part(facts, role), key)
        if not math.isfinite(found.value):
            return ""
        if key == "nll":
            return words.decimals(found)
        interval = f" ({words.span(found)})" if math.isfinite(found.low + found.high) else ""
        return f"{percent(found.value)}{interval}"

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
    return [row for row in table if row.test or row.validation or row.out_of_fold]


def _data(data: Facts) -> dict[str, Any]:
    """Return what the data section shows; the rarest classes if there are too many."""
    classes = [
        {**row, "sum": sum(_positive(row.get(role)) for role in ("train", "val", "test"))}
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
                        [_positive(row.get(role)) for role in ("train", "val", "test")], largest
                    )
                ),
            }
            for row in shown
        ],
        "totals": {
            role: sum(_positive(row.get(role)) for row in classes)
            for role in ("train", "val", "test")
        },
        "classes_left_out": len(classes) - len(shown),
        "quarantined": quarantined[:PAIRS],
        "quarantined_count": len(quarantined),
    }


def _positive(value: object) -> int:
    amount = number(value)
    return int(amount) if math.isfinite(amount) and amount > 0 else 0


def _training(training: Facts, data: Facts) -> dict[str, Any]:
    """Return the training section: three charts and a line for each member."""
    members = [
        {**member, "history": rows(member, "history")} for member in rows(training, "members")
    ]
    table = [
        {
            **member,
            "epochs": len(member["history"]),
            "best": _at(member["history"], member.get("best_epoch")),
            "seconds": sum(_positive_float(step.get("seconds")) for step in member["history"]),
        }
        for member in members
    ]
    charts = [_loss_chart(members), _score_chart(members), _probe_chart(training)]
    return {
        **training,
        "members": table[:MEMBERS],
        "members_left_out": max(0, len(table) - MEMBERS),
        "charts": [chart for chart in charts if chart["figure"]],
    }


def _positive_float(value: object) -> float:
    amount = number(value)
    return amount if amount > 0 else 0.0


def _at(history: Sequence[Facts], epoch: object) -> Facts:
    """Return the step of an epoch; an empty one if there is none."""
    return next((step for step in history if step.get("epoch") == epoch), {})


def _line(history: Sequence[Facts], key: str) -> tuple[tuple[float, float], ...]:
    return tuple((number(step.get("epoch")), number(step.get(key))) for step in history)


def _told(name: str, points: Sequence[tuple[float, float]], written: Any) -> str:
    """Tell where a line begins and ends, for those who do not see it."""
    good = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not good:
        return ""
    (first, begin), (last, end) = good[0], good[-1]
    return f"{name} from {written(begin)} in epoch {first:g} to {written(end)} in epoch {last:g}. "


def _loss_chart(members: Sequence[Facts]) -> dict[str, Any]:
    lines = [
        Line(name, _line(member["history"], key), style)
        for key, name, style in (("loss", "training", "b"), ("val_loss", "validation", "a"))
        for member in members[:MEMBERS]
    ]
    first = [line for line in lines if line.points][:: max(1, len(members[:MEMBERS]))]
    text = "".join(_told(f"{line.label} loss", line.points, "{:.3f}".format) for line in first)
    figure = plots.chart(lines, key="loss", title="Loss by epoch", text=text, x_label="epoch")
    note = "Training loss is measured on augmented pictures, so it may lie above validation loss."
    return {"title": "Loss", "figure": Markup(figure), "note": note, "text": text}


def _score_chart(members: Sequence[Facts]) -> dict[str, Any]:
    lines = []
    for key, name, style in (
        ("val_accuracy", "accuracy", "a"),
        ("val_balanced_accuracy", "balanced accuracy", "c"),
    ):
        for member in members[:MEMBERS]:
            points = _line(member["history"], key)
            best = tuple(point for point in points if point[0] == member.get("best_epoch"))
            lines.append(Line(name, points, style, best))
    first = [line for line in lines if line.points][:: max(1, len(members[:MEMBERS]))]
    text = "".join(_told(f"Validation {line.label}", line.points, percent) for line in first)
    figure = plots.chart(
        lines, key="score", title="Validation scores", text=text, x_label="epoch", percent=True
    )
    note = "Dots mark the epoch whose weights were kept."
    return {"title": "Scores on validation", "figure": Markup(figure), "note": note, "text": text}


def _probe_chart(training: Facts) -> dict[str, Any]:
    rate = number(training.get("rate"))
    points = tuple(
        (number(step.get("rate")), number(step.get("loss"))) for step in rows(training, "probe")
    )
    text = f"The loss of short trials at rising learning rates; chosen: {rate:.2g}."
    figure = plots.chart(
        [Line("loss of the trial", points)],
        key="probe",
        title="Learning rate probe",
        text=text,
        x_label="learning rate",
        log_x=True,
        mark=rate,
        mark_label=f"chosen {rate:.2g}",
    )
    return {"title": "Learning rate", "figure": Markup(figure), "note": text, "text": text}


def _confusion(test: Facts) -> dict[str, Any]:
    """Return the matrix of the most confused classes, at most 20, and the worst pairs."""
    names = [str(row.get("label", "")) for row in rows(test, "classes")]
    counts = test.get("confusion") or []
    if not names or len(counts) != len(names) or any(len(row) != len(names) for row in counts):
        return {}
    pairs = words.confused(test)
    shown = list(range(len(names)))
    if len(names) > MATRIX_CLASSES:
        columns = [sum(column) for column in zip(*counts, strict=True)]
        wrong = [sum(row) + columns[i] - 2 * row[i] for i, row in enumerate(counts)]
        worst = sorted(range(len(names)), key=lambda index: -wrong[index])
        shown = sorted(worst[:MATRIX_CLASSES])
    errors = sum(pair.pictures for pair in pairs)
    told = "; ".join(
        f"{pair.truth} answered as {pair.answer}: {pair.pictures}" for pair in pairs[:5]
    )
    figure = plots.matrix(
        [[counts[row][column] for column in shown] for row in shown],
        [names[index] for index in shown],
        [sum(counts[index]) for index in shown],
        key="matrix",
        title="Confusion matrix of the test pictures",
        text=f"{words.count(errors, 'mistake')}. {told}",
    )
    return {
        "figure": Markup(figure),
        "pairs": pairs[:PAIRS],
        "pairs_left_out": max(0, len(pairs) - PAIRS),
        "classes_left_out": len(names) - len(shown),
        "errors": errors,
    }


def _classes(facts: Facts) -> dict[str, Any]:
    """Return the classes with the lowest recall first, at most 40."""
    table = rows(part(facts, "test"), "classes")
    elsewhere = rows(part(facts, "out_of_fold"), "classes")
    matched = elsewhere if len(elsewhere) == len(table) else [{}] * len(table)
    found = [
        {
            **row,
            "recall": estimate(row, "recall"),
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
        "few": sum(bool(row.get("too_few")) for row in found),
    }


def _order(recall: Range) -> float:
    """Put classes without a recall last."""
    return recall.value if math.isfinite(recall.value) else 2.0


def _stages(run: Facts) -> list[dict[str, Any]]:
    stages = rows(run, "stages")[:PAIRS]
    longest = max((_positive_float(stage.get("seconds")) for stage in stages), default=0.0)
    return [
        {**stage, "bar": Markup(plots.stack([_positive_float(stage.get("seconds"))], longest))}
        for stage in stages
    ]
