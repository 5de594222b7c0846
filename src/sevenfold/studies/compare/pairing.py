"""Pair two sides picture by picture, by content or by path, and refuse what does not pair."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float64, Int64

from sevenfold.data import Dataset
from sevenfold.errors import DataError
from sevenfold.image import part_name, shown
from sevenfold.predictions import told_apart
from sevenfold.progress import Progress
from sevenfold.studies.compare.sides import Model, Side, Table, asked, plain, twice

LEARNT_FROM: Final = ("train", "val")


@dataclass(frozen=True, eq=False)
class Paired:
    """Hold both sides' answers to the pictures that both know.

    Args:
        classes: in the order of the columns.
        paths: as shown to people.
        labels: true classes.
        groups: of pictures that belong together.
        answers: of the first and the second side.
        probabilities: of each side, of `classes`; without columns where it has none.
        by: how many were paired by `content`, and how many by `path`.
        left_out: pictures that were not judged, by reason.
    """

    classes: tuple[str, ...]
    paths: tuple[str, ...]
    labels: Int64[np.ndarray, " pictures"]
    groups: tuple[str, ...]
    answers: tuple[Int64[np.ndarray, " pictures"], Int64[np.ndarray, " pictures"]]
    probabilities: tuple[
        Float64[np.ndarray, "pictures columns"], Float64[np.ndarray, "pictures columns"]
    ]
    by: Mapping[str, int]
    left_out: Mapping[str, int]


def classes_of(first: Side, second: Side) -> tuple[str, ...]:
    """Return the classes that both sides answer, in the order of one that names all it knows.

    Raises:
        DataError: the sides differ in their classes; those of one alone are named.
    """
    closed = [side for side in (first, second) if isinstance(side, Model) or side.closed]
    if not closed:
        return tuple(sorted({*first.classes, *second.classes}))
    for side in (first, second):
        other = closed[0] if side is not closed[0] else closed[-1]
        extra = sorted(set(side.classes) - set(other.classes))
        if extra:
            raise DataError(
                f"{side.name} has {'classes' if len(extra) > 1 else 'the class'} "
                f"{', '.join(map(shown, extra[:5]))} that {other.name} does not know",
                "compare models of the same classes",
            )
    return closed[0].classes


def on_pictures(
    first: Side,
    second: Side,
    dataset: Dataset,
    *,
    everything: bool,
    threads: int,
    progress: Progress,
) -> Paired:
    """Pair two sides on labelled pictures: models answer them, tables are looked up.

    Args:
        first: one side.
        second: the other.
        dataset: whose labels are the truth.
        everything: whether pictures count that a side was trained or chosen by.
        threads: that answer; 0 is one for each core.
        progress: is told how many are done.

    Raises:
        DataError: no picture is known to both, or a table has another label for one.
    """
    classes = classes_of(first, second)
    places = [
        _places(side, dataset) if isinstance(side, Table) else None for side in (first, second)
    ]
    there = np.ones(len(dataset), dtype=bool)
    learnt = np.array([photo.role in LEARNT_FROM for photo in dataset.photos], dtype=bool)
    for side, found in zip((first, second), places, strict=True):
        there &= found.rows >= 0 if found is not None else True
        learnt |= _learnt(side, dataset, found)
    kept = np.flatnonzero(there if everything else there & ~learnt)
    if not len(kept):
        others = sum(found.others for found in places if found is not None)
        raise _nothing(first, second, int((there & learnt).sum()), others)
    labels = np.array([classes.index(dataset.classes[one]) for one in dataset.labels[kept]])
    answers, shares = [], []
    for side, found in zip((first, second), places, strict=True):
        if isinstance(side, Model):
            given = _ordered(
                asked(side, dataset, kept, threads=threads, progress=progress),
                side.classes,
                classes,
            )
            answers.append(given.argmax(axis=1))
        else:
            assert found is not None, "a table was looked up"
            rows = found.rows[kept]
            paths = [dataset.photos[one].path for one in kept]
            _same_labels(side, rows, labels, classes, paths)
            given = _ordered(side.probabilities[rows], side.classes, classes)
            answers.append(np.array([classes.index(side.answers[row]) for row in rows]))
        shares.append(given)
    by_path = np.zeros(len(kept), dtype=bool)
    for found in places:
        by_path |= found.by_path[kept] if found is not None else False
    return Paired(
        classes,
        tuple(dataset.photos[one].path for one in kept),
        labels,
        tuple(str(dataset.groups[one]) for one in kept),
        (answers[0], answers[1]),
        (shares[0], shares[1]),
        {"content": int((~by_path).sum()), "path": int(by_path.sum())},
        {
            "not answered by both": int((~there).sum()),
            "learnt from": 0 if everything else int((there & learnt).sum()),
        },
    )


def of_tables(first: Table, second: Table, *, everything: bool) -> Paired:
    """Pair two tables with each other.

    Args:
        first: one side.
        second: the other.
        everything: whether pictures count that a side was trained or chosen by.

    Raises:
        DataError: no picture is in both, one has two labels or rows, or none has a label.
    """
    classes = classes_of(first, second)
    by_hash = {content: at for at, content in enumerate(second.hashes) if content}
    by_path = {plain(path): at for at, path in enumerate(second.paths)}
    listed = [(side, Counter(map(plain, side.paths))) for side in (first, second)]
    pairs: list[tuple[int, int]] = []
    contents, learnt, others = 0, 0, 0
    met: set[int] = set()  # rows of the second, of which copies in the first may share one
    for at, path in enumerate(first.paths):
        by_content = by_hash.get(first.hashes[at], -1)
        to = by_content if by_content >= 0 else by_path.get(plain(path), -1)
        if to < 0:
            continue
        if by_content < 0 and first.hashes[at] and second.hashes[to]:
            others += 1  # of the same name, and another picture
            continue
        for side, counts in listed if by_content < 0 else ():
            if counts[plain(path)] > 1:  # parts of one photo, beside a row that is of no part
                raise twice(side, path)
        met.add(to)
        if not everything and {first.roles[at], second.roles[to]} & set(LEARNT_FROM):
            learnt += 1
            continue
        contents += by_content >= 0
        pairs.append((at, to))
    if not pairs:
        raise _nothing(first, second, learnt, others)
    labels = [_label(first, at, second, to) for at, to in pairs]
    rows = np.array(pairs).T
    groups = [first.groups[at] or second.groups[to] for at, to in pairs]
    return Paired(
        classes,
        tuple(first.paths[at] for at, _ in pairs),
        np.array([classes.index(label) for label in labels]),
        tuple(told_apart(groups)),
        (
            np.array([classes.index(first.answers[at]) for at in rows[0]]),
            np.array([classes.index(second.answers[to]) for to in rows[1]]),
        ),
        (
            _ordered(first.probabilities[rows[0]], first.classes, classes),
            _ordered(second.probabilities[rows[1]], second.classes, classes),
        ),
        {"content": contents, "path": len(pairs) - contents},
        {
            "not answered by both": (len(first.paths) - len(pairs) - learnt)
            + (len(second.paths) - len(met)),
            "learnt from": learnt,
        },
    )


@dataclass(frozen=True, eq=False)
class _Found:
    """Hold the row of a table for each picture, -1 for none, and which were found by path.

    `others` counts paths that the table has, of other content.
    """

    rows: Int64[np.ndarray, " pictures"]
    by_path: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
    others: int


def _places(table: Table, dataset: Dataset) -> _Found:
    by_hash = {content: at for at, content in enumerate(table.hashes) if content}
    by_path: dict[str, int] = {}
    known = {plain(photo.path) for photo in dataset.photos} | {
        plain(part_name(photo.path, photo.box)) for photo in dataset.photos
    }
    for at, path in enumerate(table.paths):
        tail = plain(path)
        while tail not in known and "/" in tail:  # another tool may write whole paths
            tail = tail.partition("/")[2]
        other = by_path.setdefault(tail, at)
        if other != at and tail in known and not (table.hashes[other] and table.hashes[at]):
            raise twice(table, tail)
    rows, found_by_path, others = [], [], 0
    for photo, content in zip(dataset.photos, dataset.hashes, strict=True):
        by_content = by_hash.get(content, -1)
        named = by_path.get(plain(part_name(photo.path, photo.box)), -1)
        named = by_path.get(plain(photo.path), -1) if named < 0 else named
        if named >= 0 and table.hashes[named]:
            others += by_content < 0  # of the same name, and another picture
            named = -1
        rows.append(by_content if by_content >= 0 else named)
        found_by_path.append(by_content < 0)
    return _Found(np.array(rows, dtype=np.int64), np.array(found_by_path, dtype=bool), others)


def _learnt(
    side: Side, dataset: Dataset, found: _Found | None
) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Say which pictures a side was trained or chosen by, as far as it is known."""
    if isinstance(side, Model):
        roles, groups = side.roles, side.groups
        told = [
            roles.get(content) or groups.get(photo.group)
            for photo, content in zip(dataset.photos, dataset.hashes, strict=True)
        ]
        return np.array([role in LEARNT_FROM for role in told])
    assert found is not None, "a table was looked up"
    return np.array([at >= 0 and side.roles[at] in LEARNT_FROM for at in found.rows.tolist()])


def _ordered(
    shares: Float64[np.ndarray, "pictures columns"],
    columns: Sequence[str],
    classes: Sequence[str],
) -> Float64[np.ndarray, "pictures columns"]:
    if not shares.shape[1]:
        return shares
    found: Float64[np.ndarray, "pictures columns"] = shares[:, [columns.index(c) for c in classes]]
    return found


def _same_labels(
    table: Table,
    rows: Int64[np.ndarray, " pictures"],
    labels: Int64[np.ndarray, " pictures"],
    classes: Sequence[str],
    paths: Sequence[str],
) -> None:
    wrong = [
        (path, table.labels[row], classes[label])
        for path, row, label in zip(paths, rows.tolist(), labels.tolist(), strict=True)
        if table.labels[row] not in ("", classes[label])
    ]
    if wrong:
        path, here, there = wrong[0]
        raise _two_labels(path, table.name, here, "the data", there, len(wrong))


def _label(first: Table, at: int, second: Table, to: int) -> str:
    both = {first.labels[at], second.labels[to]} - {""}
    if len(both) > 1:
        here, there = first.labels[at], second.labels[to]
        raise _two_labels(first.paths[at], first.name, here, second.name, there, 1)
    if not both:
        raise DataError(
            f"{shown(first.paths[at])} has no label in {first.name} or {second.name}",
            "name labelled pictures with --data, or add a column label",
        )
    return both.pop()


def _two_labels(path: str, one: str, here: str, other: str, there: str, count: int) -> DataError:
    more = f", and {count - 1:,} more pictures differ" if count > 1 else ""
    return DataError(
        f"{shown(path)} is {shown(here)} in {one} and {shown(there)} in {other}{more}",
        "give both sides the same labels, or compare on --data of the right ones",
    )


def _nothing(first: Side, second: Side, learnt: int, others: int = 0) -> DataError:
    if learnt:
        return DataError(
            f"all {learnt:,} pictures that both sides know are pictures that one was trained on",
            "give new pictures with --data, or count them all the same with --split all",
        )
    if others:
        return DataError(
            f"{first.name} and {second.name} have {others:,} paths in common, and other pictures "
            "there: their content differs",
            "name pictures that both sides know, or models and --data, which both answer anew",
        )
    return DataError(
        f"{first.name} and {second.name} have no picture in common",
        "pictures are paired by content hash or by path: name those of one data set",
    )
