"""Measure a learning curve: nested shares of the pictures, each repetition judged on its fold."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Int64

from sevenfold import atomic, trial
from sevenfold.data import Split
from sevenfold.errors import DataError
from sevenfold.image import shown
from sevenfold.loop import Place
from sevenfold.practices import growth
from sevenfold.practices.growth import Growth
from sevenfold.progress import Progress, duration
from sevenfold.recipe import Recipe
from sevenfold.studies.curve import heads
from sevenfold.studies.curve.forecast import Curve
from sevenfold.studies.folder import kept

STEP: Final = math.sqrt(0.5)
"""Between one size and the next."""
SIZES: Final = 9
_LEAST_PICTURES: Final = 20
_LEAST_EACH: Final = 2  # of a class, on average
_GIVEN_MOST: Final = 5_000  # pictures that the marginal worth of a class is measured with
WORTH_OF: Final = 12


@dataclass(frozen=True, eq=False)
class Course:
    """Hold what all repetitions share.

    Args:
        split: all pictures outside test as `train`; `val` and `test` are empty.
        rows: of each picture of `split.train`, see `heads.described`.
        recipe: whose backbone it is.
        place: where to compute.
        repetitions: as many folds.
        seed: of the rankings.
        folder: of results; the empty path keeps none.
        progress: is told what is under way.
        worth_of: so many classes, the weakest, are judged by what their pictures are worth.
    """

    split: Split
    rows: heads.Rows
    recipe: Recipe
    place: Place
    repetitions: int
    seed: int
    folder: Path
    progress: Progress
    worth_of: int = WORTH_OF


def opened(split: Split) -> Split:
    """Return all pictures outside test, to be judged out of fold; test stays closed."""
    return replace(
        split, train=np.sort(np.concatenate([split.train, split.val])), val=split.val[:0],
        test=split.test[:0],
    )  # fmt: skip


def repetitions(split: Split, asked: int) -> int:
    """Return how many folds there can be: no more than a class has groups.

    Raises:
        DataError: fewer than three.
    """
    dataset = split.dataset
    groups: dict[int, set[str]] = {}
    for picture in split.train.tolist():
        groups.setdefault(int(dataset.labels[picture]), set()).add(dataset.groups[picture])
    label, some = min(groups.items(), key=lambda item: (len(item[1]), item[0]))
    if len(some) < 3:
        raise DataError(
            f"{shown(dataset.name)}: the class `{dataset.classes[label]}` has {len(some)} separate "
            "groups outside test, too few for three repetitions",
            "add photos of it, or leave the class out with --small-classes drop",
        )
    return min(asked, len(some))


def shares(split: Split, folds: int) -> list[float]:
    """Return the shares of a repetition's pictures that are trained on, ascending."""
    pool = len(split.train) * (folds - 1) / folds
    least = max(_LEAST_PICTURES, _LEAST_EACH * len(split.dataset.classes))
    found = [STEP**step for step in range(SIZES)]
    return sorted(share for share in found if share * pool >= least or share == 1)


def run(course: Course) -> list[dict[str, Any]]:
    """Return each repetition's result: from its file, or measured now. Writes the files."""
    split = course.split
    fold_of = split.folds(course.repetitions)
    prior = strength(course)
    found: list[dict[str, Any]] = []
    spent: list[float] = []
    for number in range(course.repetitions):
        inside = fold_of == number
        parted = replace(split, train=split.train[~inside], test=split.train[inside])
        key = trial.key(course.recipe, parted, course.seed, course.place)
        path = course.folder / f"{key}.json"
        result = kept(path) if course.folder != Path() else {}
        if not result:
            rest = course.repetitions - number
            left = f", {duration(sum(spent) / len(spent) * rest)} left" if spent else ""
            name = f"repetition {number + 1} of {course.repetitions}{left}"
            began = time.perf_counter()
            result = _repetition(course, parted, prior, number, name)
            spent.append(time.perf_counter() - began)
            if course.folder != Path():
                atomic.write(path, json.dumps(result, allow_nan=False))
        found.append(result)
    return found


def strength(course: Course) -> float:
    """Choose the heads' prior on a quarter of the first repetition's pictures."""
    fold_of = course.split.folds(course.repetitions)
    split = replace(course.split, train=course.split.train[fold_of != 0])
    some = growth.given(split, Growth(0.25 if len(split.train) > 400 else 1.0), course.seed)
    labels = split.dataset.labels[some]
    often = np.bincount(labels, minlength=len(split.dataset.classes))[labels] >= heads.FOLDS
    rows = _rows(course, some[often])
    return heads.regularity(heads.axes(rows).of(rows), labels[often])


def _rows(course: Course, pictures: Int64[np.ndarray, "some"]) -> heads.Rows:
    return course.rows[np.searchsorted(course.split.train, pictures)]


def _repetition(
    course: Course, parted: Split, prior: float, number: int, name: str
) -> dict[str, Any]:
    """Train a head for each share and class of one repetition, and judge them on its fold."""
    seed = 1000 * course.seed + number  # every repetition ranks the pictures anew
    dataset = parted.dataset
    classes = len(dataset.classes)
    plan = shares(course.split, course.repetitions)
    axes = heads.axes(_rows(course, parted.train))
    judged = axes.of(_rows(course, parted.test))
    truth = dataset.labels[parted.test]

    def answered(pictures: Int64[np.ndarray, "some"]) -> list[int]:
        """Count the right answers of each class."""
        labels = dataset.labels[pictures]
        head = heads.trained(axes.of(_rows(course, pictures)), labels, prior)
        rights = truth[heads.right(head, judged, truth)]
        return [int(count) for count in np.bincount(rights, minlength=classes)]

    sizes = []
    for at, share in enumerate(plan):
        course.progress(f"{name}: sizes", at, len(plan))
        pictures = growth.given(parted, Growth(share), seed)
        sizes.append({"pictures": len(pictures), "right": answered(pictures)})
    counts = np.bincount(truth, minlength=classes)
    full = growth.given(parted, Growth(min(1.0, _GIVEN_MOST / len(parted.train))), seed)
    whole = answered(full) if len(full) < len(parted.train) else sizes[-1]["right"]
    recalls = np.array(whole) / np.maximum(counts, 1)
    weakest = sorted(range(classes), key=lambda label: (recalls[label], label))
    given = []
    for at, label in enumerate(sorted(weakest[: course.worth_of])):
        course.progress(f"{name}: classes", at, min(classes, course.worth_of))
        mine = full[dataset.labels[full] == label]
        fewer = growth.given(replace(parted, train=mine), Growth(0.5), seed)
        pictures = np.sort(np.concatenate([full[dataset.labels[full] != label], fewer]))
        if len(fewer) == len(mine):
            continue
        given.append(
            {"label": label, "without": len(mine) - len(fewer), "right": answered(pictures)}
        )
    course.progress(f"{name}: classes", 1, 1)
    return {"judged": counts.tolist(), "sizes": sizes, "whole": whole, "given": given}


def curve_of(results: Sequence[Mapping[str, Any]], measure: str = "accuracy") -> Curve:
    """Gather the repetitions' results into one curve.

    Args:
        results: as `run` returns them.
        measure: `accuracy` or `balanced_accuracy`.
    """
    sizes = np.array([[one["pictures"] for one in result["sizes"]] for result in results])
    judged = [result["judged"] for result in results]
    rights = zip(*([one["right"] for one in result["sizes"]] for result in results), strict=True)
    accuracies = np.stack([scores(some, judged, measure) for some in rights], axis=1)
    return Curve(sizes.mean(axis=0), 1 - accuracies)


def scores(
    results: Sequence[Sequence[int]], judged: Sequence[Sequence[int]], objective: str
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Turn right answers of each repetition by class into the objective of each."""
    rights, counts = np.array(results, np.float64), np.array(judged, np.float64)
    if objective == "accuracy":
        return np.asarray(rights.sum(axis=1) / counts.sum(axis=1))
    there = counts > 0
    recalls = np.where(there, rights / np.maximum(counts, 1), 0.0)
    return np.asarray(recalls.sum(axis=1) / there.sum(axis=1))
