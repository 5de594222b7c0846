"""Read what is compared: a run, a bundle, or a table of predictions of any tool."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Float64, Int64

from sevenfold import data as datasets
from sevenfold import predict, record, swap
from sevenfold.answers import MARKS, bare
from sevenfold.cores import usable_cores
from sevenfold.data import Dataset
from sevenfold.errors import DataError, UsageError
from sevenfold.image import shown
from sevenfold.operating import CHOOSING
from sevenfold.predictions import read_predictions, renamed
from sevenfold.progress import Progress

Kind = Literal["run", "bundle", "predictions"]
_MEND: Final = (
    "give a run, a bundle, or a CSV file with path and answer, or path, label and p:CLASS"
)
_TEXTS: Final = ("path", "hash", "role", "group", "label", "answer")
_SHARE: Final = "p:"
OBJECTIVES: Final = ("accuracy", "balanced_accuracy")


@dataclass(frozen=True, eq=False)
class Table:
    """Hold what a side says of pictures.

    Args:
        name: as shown to people.
        classes: that it can answer; of a table without probabilities those that occur.
        closed: whether `classes` are all there are.
        paths: of each picture.
        hashes: of the content; empty where not known.
        roles: in the run that it comes from; empty where not known.
        groups: of each picture; empty where not known.
        labels: true classes; empty where not known.
        answers: of each picture.
        probabilities: of `classes`; without columns where it has none.
        otherwise: whether the model that it is of answers other classes than the most probable.
        objective: of the run that it is of; empty where it is of none.
    """

    name: str
    classes: tuple[str, ...]
    closed: bool
    paths: tuple[str, ...]
    hashes: tuple[str, ...]
    roles: tuple[str, ...]
    groups: tuple[str, ...]
    labels: tuple[str, ...]
    answers: tuple[str, ...]
    probabilities: Float64[np.ndarray, "pictures columns"]
    otherwise: bool = False
    objective: str = ""


@dataclass(frozen=True, eq=False)
class Model:
    """Hold a side that can answer any picture.

    Args:
        name: as shown to people.
        kind: `run` or `bundle`.
        folder: where it lies.
        predictor: of its bundle.
        known: roles of the pictures that it was trained with, by content.
        objective: of the run; empty for a bundle.
    """

    name: str
    kind: Kind
    folder: Path
    predictor: predict.Predictor
    known: datasets.Manifest
    objective: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the labels, in the order of its probabilities."""
        return self.predictor.classes

    @property
    def otherwise(self) -> bool:
        """Tell whether it answers other classes than the most probable."""
        return self.predictor.bundle.point.rule in CHOOSING

    @property
    def roles(self) -> Mapping[str, str]:
        """Return the role of each picture that it knows, by content."""
        return {row.hash: row.role for row in self.known.rows}

    @property
    def groups(self) -> Mapping[str, str]:
        """Return the role of each group that it knows."""
        return datasets.roles_of_groups(self.known.rows)


Side = Table | Model


def opened(path: Path, *, answering: bool, columns: Mapping[str, str] | None = None) -> Side:
    """Open one side.

    Args:
        path: of a run, a bundle, or a table of predictions.
        answering: whether a run is asked itself; otherwise its `predictions.csv` is read.
        columns: names of a table's columns by ours; a run's own table has ours.

    Raises:
        UsageError: it is none of these, or a bundle that has nothing to answer.
        ModelError: its model is damaged.
        DataError: its table is.
    """
    name = shown(str(path))
    if path.is_file():
        return table(path, columns or {})
    if not path.is_dir():
        raise UsageError(f"{name}: no such file or folder", _MEND)
    is_run = (path / "data.json").is_file()
    report = swap.served(path, "report.json")
    if answering:
        kind: Kind = "run" if is_run else "bundle"
        told = record.held(report) if is_run and report.is_file() else {}
        predictor = predict.load(path, threads=1)
        return Model(name, kind, path, predictor, datasets.known(path), _objective(told))
    predictions = swap.served(path, "predictions.csv")
    if not predictions.is_file():
        raise UsageError(
            f"{name} holds no predictions.csv, and no pictures are given that it could answer",
            "name labelled pictures with --data",
        )
    told = record.read(report) if is_run else {}
    rule = told.get("operating", {}).get("rule")
    return replace(table(predictions), otherwise=rule in CHOOSING, objective=_objective(told))


def _objective(told: Mapping[str, Any]) -> str:
    """Return what a run was made for, by its report; empty where that is not on record."""
    found = str(told.get("objective", ""))
    return found if found in OBJECTIVES else ""


def check_columns(columns: Mapping[str, str], paths: Sequence[Path]) -> None:
    """Refuse names of columns that are none, or that no table has.

    Args:
        columns: names of a table's columns by ours.
        paths: of both sides.

    Raises:
        UsageError: a name is none of ours, or neither side is a table.
        DataError: no table has such a column.
    """
    for ours in columns:
        if ours not in _TEXTS and not ours.startswith(_SHARE):
            raise UsageError(
                f"--table-columns: {shown(ours)} is not a column that can be named",
                f"name one of {', '.join(_TEXTS)}, and p:CLASS",
            )
    tables = [path for path in paths if path.is_file()]
    if columns and not tables:
        raise UsageError("--table-columns: neither side is a CSV file", "leave it out")
    there = {name for path in tables for name in _header(path)}
    for ours, theirs in columns.items():
        if theirs not in there:
            raise DataError(
                f"--table-columns {shown(ours)}={shown(theirs)}: there is no such column in "
                f"{' or '.join(shown(str(path)) for path in tables)}",
                f"name one of {', '.join(map(shown, sorted(there)))}",
            )


def table(path: Path, columns: Mapping[str, str] | None = None) -> Table:
    """Read a table of predictions: ours, another tool's, or one of answers alone.

    Args:
        path: of the file.
        columns: names of its columns by ours, see `predictions.renamed`.

    Raises:
        DataError: it cannot be read; the row is named. Or it lists a picture twice.
    """
    columns = columns or {}
    header = renamed(_header(path), columns)
    if any(name.startswith(_SHARE) for name in header):
        held = read_predictions(path, columns=columns)
        named = tuple(held.classes[label] for label in held.labels)
        best = tuple(held.classes[at] for at in held.probabilities.argmax(axis=1))
        # In what `predict --out` writes, the label is an answer, by the operating point. All
        # sides are compared by their most probable class.
        answered = {"probability", *MARKS} <= set(header)
        found = Table(
            shown(str(path)),
            held.classes,
            True,
            held.paths,
            held.hashes,
            held.roles,
            held.groups,
            ("",) * len(named) if answered else named,
            best,
            held.probabilities,
        )
    elif {"path", "answer"} <= set(header):
        found = _answers(path, columns)
    else:
        raise DataError(
            f"{shown(str(path))} has no columns path and answer; there are: "
            f"{', '.join(map(shown, header)) or 'none'}",
            "name them, as in --table-columns path=file,answer=guess; or give columns path, label "
            "and p:CLASS",
        )
    _once(found)
    return found


def plain(path: str) -> str:
    """Write a path of a table as those of data sets are."""
    return path.replace("\\", "/").removeprefix("./")


def twice(table: Table, path: str) -> DataError:
    """Return the error that rows of a table are of one picture."""
    return DataError(
        f"{table.name} lists {shown(path)} twice, so that it is not known which row is its answer",
        "keep one row of each picture",
    )


def _once(table: Table) -> None:
    """Refuse a picture that is listed twice; parts of a photo share its path, and no content."""
    rows = Counter(zip(map(plain, table.paths), table.hashes, strict=True))
    named = Counter(path for path, _ in rows)
    for (path, content), count in rows.items():
        if count > 1 or (not content and named[path] > 1):
            raise twice(table, path)


def _header(path: Path) -> tuple[str, ...]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return tuple(next(csv.reader(file, strict=True), ()))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"cannot read {shown(str(path))}: {shown(str(error))}", "give a CSV file in UTF-8"
        ) from error


def _answers(path: Path, columns: Mapping[str, str]) -> Table:
    """Read a table that has answers and no probabilities."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            reader.fieldnames = renamed(reader.fieldnames or (), columns)
            rows = list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"cannot read {shown(str(path))}: {shown(str(error))}", "give a CSV file in UTF-8"
        ) from error
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values() or not row["path"] or not row["answer"]:
            raise DataError(
                f"{shown(str(path))}, row {line}: it has no path, no answer, or other cells than "
                "the header",
                "mend the row, or write the file again",
            )
    texts = {name: tuple(bare(row.get(name, "")) for row in rows) for name in _TEXTS}
    classes = sorted({*texts["label"], *texts["answer"]} - {""})
    return Table(
        shown(str(path)),
        tuple(classes),
        False,
        texts["path"],
        texts["hash"],
        texts["role"],
        texts["group"],
        texts["label"],
        texts["answer"],
        np.zeros((len(rows), 0)),
    )


def asked(
    side: Model,
    dataset: Dataset,
    pictures: Int64[np.ndarray, " pictures"],
    *,
    threads: int,
    progress: Progress,
) -> Float64[np.ndarray, "pictures classes"]:
    """Answer pictures with a side's bundle, several side by side.

    Args:
        side: whose graph is run.
        dataset: that holds the pictures.
        pictures: indices into it.
        threads: 0 is one for each core.
        progress: is told how many are done.
    """
    answers: list[Sequence[float]] = []
    with ThreadPoolExecutor(threads or usable_cores()) as executor:
        for answer in executor.map(
            lambda one: side.predictor.probabilities(dataset.decode(one)), pictures.tolist()
        ):
            answers.append(answer.tolist())
            progress(f"answer with {side.name}", len(answers), len(pictures))
    return np.array(answers, dtype=np.float64).reshape(len(pictures), len(side.classes))
