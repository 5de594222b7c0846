"""Keep every prediction of a run in `predictions.csv` and recompute its scores."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from sevenfold.answers import bare, guarded
from sevenfold.errors import DataError, ModelError
from sevenfold.evaluate import Scores, score
from sevenfold.image import shown


@dataclass(frozen=True, eq=False)
class Predictions:
    """Hold the rows of `predictions.csv`, from which every score can be recomputed.

    Args:
        classes: the names of the columns of `probabilities`.
        paths: as shown to people.
        hashes: of the content; empty in a foreign file.
        roles: `train`, `val` or `test`; empty in a foreign file.
        groups: pictures that belong together; empty in a foreign file.
        folds: of out-of-fold predictions; -1 for none.
        labels: true classes as indices.
        probabilities: rows sum to 1.
    """

    classes: tuple[str, ...]
    paths: tuple[str, ...]
    hashes: tuple[str, ...]
    roles: tuple[str, ...]
    groups: tuple[str, ...]
    folds: Int64[np.ndarray, " pictures"]
    labels: Int64[np.ndarray, " pictures"]
    probabilities: Float64[np.ndarray, "pictures classes"]


def recompute(
    predictions: Predictions, *, role: str = "test", seed: int = 0, resamples: int = 2000
) -> Scores:
    """Score the predictions of one role.

    Raises:
        DataError: no row has this role.
    """
    rows = np.array([index for index, each in enumerate(predictions.roles) if each == role], int)
    return score(
        predictions.probabilities[rows],
        predictions.labels[rows],
        predictions.classes,
        groups=told_apart([predictions.groups[row] for row in rows]),
        seed=seed,
        resamples=resamples,
    )


def told_apart(groups: Sequence[str]) -> list[str]:
    """Give each picture without a group one of its own.

    Example:
        >>> len(set(told_apart(["site", "", "", "site"])))
        3
    """
    return [group or f"\n{at}" for at, group in enumerate(groups)]


def write_predictions(
    path: Path, predictions: Predictions, distances: Sequence[float] = ()
) -> None:
    """Write `path,hash,role,group,fold,label,answer` and `p:CLASS` for each class.

    Numbers are written in full, so that reading gives the same bits.

    Args:
        path: of the file.
        predictions: its rows.
        distances: of each row's picture from those trained on, a column `distance`; or none.
    """
    p = predictions
    fixed = ("path", "hash", "role", "group", "fold", "label", "answer")
    far: list[tuple[str, ...]] = [(repr(one),) for one in distances] or [()] * len(p.paths)
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        named = ("distance",) * bool(distances)
        writer.writerow((*fixed, *named, *(f"p:{name}" for name in p.classes)))
        for row, shares in enumerate(p.probabilities.tolist()):
            fold = "" if p.folds[row] < 0 else str(p.folds[row])
            names = (p.classes[p.labels[row]], p.classes[int(np.argmax(shares))])
            texts = (p.paths[row], p.hashes[row], p.roles[row], p.groups[row], fold, *names)
            writer.writerow((*map(guarded, texts), *far[row], *map(repr, shares)))


def renamed(header: Sequence[str], columns: Mapping[str, str]) -> list[str]:
    """Return a table's columns by the names that mean something.

    Args:
        header: as the table names them.
        columns: its names by ours. A column of our name that another stands for loses it; one
            that the table lacks is left out, since it may have been meant for another table.

    Example:
        >>> renamed(["file", "path", "guess"], {"path": "file", "answer": "guess"})
        ['path', '', 'answer']
    """
    known = {theirs: ours for ours, theirs in columns.items() if theirs in header}
    taken = set(known.values())
    return [known.get(name, "" if name in taken else name) for name in header]


def read_predictions(path: Path, *, columns: Mapping[str, str] | None = None) -> Predictions:
    """Read `predictions.csv`, ours or another tool's.

    Columns `path`, `label` and at least two `p:CLASS` must be there; `hash`, `role`,
    `group`, `fold` and `answer` may be missing. Other columns are ignored.

    Args:
        path: of the file.
        columns: other names that it has for these, see `renamed`.

    Raises:
        DataError: a column is missing, or a row does not fit; the row is named.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = tuple(renamed(reader.fieldnames or (), columns or {}))
            reader.fieldnames = header
            classes = tuple(name[2:] for name in header if name.startswith("p:"))
            if not {"path", "label"} <= set(header) or not 2 <= len(set(classes)) == len(classes):
                raise _bad_row(path, 1, "there must be columns path, label and p:CLASS, once each")
            rows = [_row(row, classes, path, line) for line, row in enumerate(reader, start=2)]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"cannot read {path}: {error}", "give a CSV file in UTF-8 with predictions"
        ) from error
    texts = [text for text, _, _ in rows]
    return Predictions(
        classes=classes,
        paths=tuple(text["path"] for text in texts),
        hashes=tuple(text["hash"] for text in texts),
        roles=tuple(text["role"] for text in texts),
        groups=tuple(text["group"] for text in texts),
        folds=np.array([fold for _, fold, _ in rows], dtype=np.int64),
        labels=np.array([classes.index(text["label"]) for text in texts], dtype=np.int64),
        probabilities=np.array([p for _, _, p in rows], np.float64).reshape(-1, len(classes)),
    )


def recorded(
    path: Path, role: str, hashes: Sequence[str]
) -> Float64[np.ndarray, "pictures classes"]:
    """Read what a run's `predictions.csv` says of pictures of one role, named by their content.

    Raises:
        ModelError: it says nothing of one of them, or cannot be read.
    """
    try:
        told = read_predictions(path)
    except DataError as error:
        raise ModelError(error.problem, "restore it from a copy, or train again") from error
    row_of = {told.hashes[row]: row for row, each in enumerate(told.roles) if each == role}
    if not row_of.keys() >= set(hashes):
        raise ModelError(
            f"{shown(str(path))} lacks pictures of the run",
            "restore it from a copy, or train again",
        )
    return told.probabilities[[row_of[content] for content in hashes]]


def _row(
    row: dict[str, str], classes: tuple[str, ...], path: Path, line: int
) -> tuple[dict[str, str], int, list[float]]:
    if None in row or None in row.values():
        raise _bad_row(path, line, "it has more or fewer cells than the header")
    text = {name: bare(row.get(name, "")) for name in ("path", "hash", "role", "group", "label")}
    answer = bare(row.get("answer", ""))
    try:
        shares = [float(row[f"p:{name}"]) for name in classes]
        fold = int(row.get("fold") or -1)
    except ValueError as error:
        raise _bad_row(path, line, str(error)) from error
    if not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-3:
        raise _bad_row(path, line, "its probabilities are not from 0 to 1 with the sum 1")
    if text["label"] not in classes:
        raise _bad_row(path, line, f"its label {text['label']!r} has no column p:{text['label']}")
    if answer and (answer not in classes or shares[classes.index(answer)] < max(shares)):
        raise _bad_row(path, line, f"its answer {answer!r} is not the most probable class")
    return text, fold, shares


def _bad_row(path: Path, line: int, what: str) -> DataError:
    return DataError(f"{path}, row {line}: {what}", "mend the row, or write the file again")
