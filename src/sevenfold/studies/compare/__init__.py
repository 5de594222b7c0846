"""Compare two models, or the predictions of any tool, picture by picture. No torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sevenfold import data as datasets
from sevenfold import latency
from sevenfold.cores import usable_cores
from sevenfold.errors import DataError
from sevenfold.features.pixels import recognised
from sevenfold.progress import Progress
from sevenfold.studies.compare.pairing import Paired, classes_of, of_tables, on_pictures
from sevenfold.studies.compare.sides import Model, Side, Table, check_columns, opened
from sevenfold.studies.compare.weighing import weighed

__all__ = ["Paired", "compare", "weighed"]

SCHEMA = "sevenfold.compare/1"


def compare(
    first: Path,
    second: Path,
    data: str = "",
    *,
    split: Literal["test", "all"] = "test",
    columns: Mapping[str, str] | None = None,
    table_columns: Mapping[str, str] | None = None,
    group_by: str = "",
    small_classes: datasets.SmallClasses = "refuse",
    timed: bool = True,
    threads: int = 0,
    seed: int = 0,
    progress: Progress,
) -> dict[str, Any]:
    """Compare the second side with the first; every difference is second minus first.

    The verdict is on the objective of two runs that were made for the same one, otherwise on
    accuracy.

    Opening a run's test pictures is written down in its `data.json`.

    Args:
        first: a run, a bundle, or a CSV file of predictions of any tool.
        second: another.
        data: labelled pictures, which models answer and tables are looked up for; without it
            tables and the `predictions.csv` of runs are paired with each other.
        split: `test` leaves out pictures that a side was trained or chosen by; `all` does not.
        columns: names of a table's columns, for `data`.
        table_columns: names of the columns of predictions, for sides that are CSV files:
            `{"path": "file", "answer": "guess"}`. Also `label`, `hash`, `role`, `group` and
            `p:CLASS`.
        group_by: a regular expression that takes the group from a file's name.
        small_classes: what to do with classes of too few pictures.
        timed: whether two models are timed against each other.
        threads: that answer; 0 is one for each core.
        seed: of the resampling.
        progress: is told what is under way.

    Returns:
        The object of `compare --json`, schema "sevenfold.compare/1".

    Raises:
        UsageError: a side is nothing that can be compared, or there is no such column.
        DataError: they have no picture in common, other classes, or other labels, or a table
            lists a picture twice.
        ModelError: a model is damaged.
    """
    named = table_columns or {}
    check_columns(named, (first, second))
    sides = [opened(path, answering=bool(data), columns=named) for path in (first, second)]
    everything = split == "all"
    if data:
        found = _on_data(
            sides, data, everything, columns or {}, group_by, small_classes, threads, progress
        )
    else:
        tables = [side for side in sides if isinstance(side, Table)]
        found = of_tables(tables[0], tables[1], everything=everything)
    objectives = {side.objective for side in sides} - {""}
    same = len(objectives) == 1 and all(side.objective for side in sides)
    told = weighed(found, seed=seed, objective=objectives.pop() if same else "accuracy")
    return {
        "schema": SCHEMA,
        "first": _described(sides[0]),
        "second": _described(sides[1]),
        "data": data,
        "split": split,
        **told,
        "speed": _speed(sides) if timed else None,
    }


def _on_data(
    sides: Sequence[Side],
    data: str,
    everything: bool,
    columns: Mapping[str, str],
    group_by: str,
    small_classes: datasets.SmallClasses,
    threads: int,
    progress: Progress,
) -> Paired:
    classes = classes_of(sides[0], sides[1])
    known = any(isinstance(side, Model) or side.closed for side in sides)
    dataset = datasets.read(
        data,
        columns=columns,
        group_by=group_by,
        small_classes=small_classes,
        classes=classes if known else (),
        fingerprints=lambda listing: recognised(
            listing, threads=threads or usable_cores(), progress=progress
        ),
    )
    if unknown := sorted(set(dataset.classes) - set(classes)):
        raise DataError(
            f"--data {dataset.name} has the class {unknown[0]}, which neither side answers",
            "give pictures of the classes that the sides know",
        )
    found = on_pictures(
        sides[0], sides[1], dataset, everything=everything, threads=threads, progress=progress
    )
    judged = set(found.paths)
    contents = {
        content
        for photo, content in zip(dataset.photos, dataset.hashes, strict=True)
        if photo.path in judged
    }
    for side in sides:
        if isinstance(side, Model) and any(
            side.roles.get(content) == "test" for content in contents
        ):
            datasets.log_opening(side.folder)
    return found


def _described(side: Side) -> dict[str, Any]:
    kind, size = "predictions", None
    if isinstance(side, Model):
        kind, size = side.kind, len(side.predictor.bundle.model) / 1e6
    return {
        "name": side.name,
        "kind": kind,
        "megabytes": size,
        "answers_otherwise": side.otherwise,
    }


def _speed(sides: Sequence[Side]) -> dict[str, float] | None:
    """Time the whole graphs of two models on one picture and one thread, interleaved."""
    models = [side.predictor.bundle.model for side in sides if isinstance(side, Model)]
    if len(models) < 2:
        return None
    times = latency.timed(models)
    ratio = latency.ratio(times[0], times[1])
    return {
        "first_ms": float(np.median(times[0])),
        "second_ms": float(np.median(times[1])),
        "times_as_fast": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
    }
