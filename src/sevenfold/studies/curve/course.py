"""Measure a learning curve: nested shares of the pictures, each repetition judged on its fold."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import cattrs
import numpy as np
from jaxtyping import Int64
from threadpoolctl import threadpool_limits

from sevenfold import operating, trial
from sevenfold.data import Split
from sevenfold.engines import Engine, Inline, Json
from sevenfold.errors import DataError
from sevenfold.features.pixels import for_training
from sevenfold.image import shown
from sevenfold.place import Place
from sevenfold.practices import growth
from sevenfold.practices.growth import Growth
from sevenfold.progress import Progress, duration, silent
from sevenfold.recipe import Recipe
from sevenfold.studies import pictures
from sevenfold.studies.curve import heads
from sevenfold.studies.curve.forecast import Curve
from sevenfold.studies.folder import complete, recalled

MEASURE: Final = f"{__name__}:called"
STEP: Final = math.sqrt(0.5)
"""Between one size and the next."""
SIZES: Final = 9
_LEAST_PICTURES: Final = 20
_LEAST_EACH: Final = 2  # of a class, on average
_CHOOSING: Final = 2_000  # pictures that choose the prior
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
        folder: of results; None keeps none.
        progress: is told what is under way.
        worth_of: so many classes are judged by what their pictures are worth; of more, those
            that a head answers worst on training pictures that it has not seen.
        engine: where repetitions are measured; None: here, one after another.
        called: the ground of all its calls.
    """

    split: Split
    rows: heads.Rows
    recipe: Recipe
    place: Place
    repetitions: int
    seed: int
    folder: Path | None
    progress: Progress
    worth_of: int = WORTH_OF
    engine: Engine | None = None
    called: Json = field(default_factory=dict)


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
    with threadpool_limits(course.place.threads):
        prior = strength(course)
    keys = [
        trial.key(course.recipe, _parted(course, number), course.seed, course.place)
        for number in range(course.repetitions)
    ]
    found = recalled(course.folder, keys)
    missing = [number for number, key in enumerate(keys) if key not in found]
    calls = {keys[number]: _call(course, number, prior) for number in missing}
    engine = course.engine or Inline({MEASURE: partial(measured, course)})
    began = time.perf_counter()

    def heard(number: int, stage: str, done: int, total: int) -> None:
        spent = (time.perf_counter() - began) / max(1, number)
        left = f", {duration(spent * (len(calls) - number))} left" if number else ""
        name = f"repetition {missing[number] + 1} of {course.repetitions}{left}"
        course.progress(f"{name}: {stage}", done, total)

    def ended() -> None:
        stage = f"repetitions, {engine.workers} at a time"
        course.progress(stage, len(found), course.repetitions)

    complete(found, calls, MEASURE, engine, course.folder, ended=ended, heard=heard)
    return [found[key] for key in keys]


def _parted(course: Course, number: int) -> Split:
    """Return the roles of one repetition: its fold is judged."""
    inside = course.split.folds(course.repetitions) == number
    train = course.split.train
    return replace(course.split, train=train[~inside], test=train[inside])


def _call(course: Course, number: int, prior: float) -> Json:
    return {
        "ground": course.called,
        "recipe": asdict(course.recipe),
        "repetitions": course.repetitions,
        "number": number,
        "seed": course.seed,
        "prior": prior,
        "worth_of": course.worth_of,
    }


def called(call: Json, progress: Progress = silent) -> Json:
    """Measure a repetition on the pictures that the call names."""
    return measured(_course(json.dumps({**call, "number": 0}, sort_keys=True)), call, progress)


@lru_cache(maxsize=1)
def _course(text: str) -> Course:
    """Read and describe the pictures of a call, once in a process. Fills the stores."""
    call = json.loads(text)
    recipe: Recipe = cattrs.structure(call["recipe"], Recipe)
    whole, place = pictures.of(call)
    split = opened(whole)
    pixels = for_training(recipe.side)
    rows = heads.described(split.dataset, split.train, recipe, pixels, place, silent)
    return Course(
        split, rows, recipe, place, call["repetitions"], call["seed"], None, silent,
        call["worth_of"],
    )  # fmt: skip


def measured(course: Course, call: Json, progress: Progress = silent) -> Json:
    """Measure one repetition: its heads have as many threads wherever the call lands."""
    number = call["number"]
    with threadpool_limits(course.place.threads):
        return _repetition(course, _parted(course, number), call["prior"], number, progress)


def strength(course: Course) -> float:
    """Choose the heads' prior on some of the first repetition's pictures, all where they are few.

    A hundred pictures choose a prior that suits no other size (benchmarks/curve.py).
    """
    fold_of = course.split.folds(course.repetitions)
    split = replace(course.split, train=course.split.train[fold_of != 0])
    some = growth.given(split, Growth(min(1.0, _CHOOSING / len(split.train))), course.seed)
    labels, groups = split.dataset.labels[some], [split.dataset.groups[at] for at in some.tolist()]
    apart = operating.separate(labels, groups, len(split.dataset.classes))
    often = np.flatnonzero(apart[labels] >= heads.FOLDS)
    if len(np.unique(labels[often])) < 2:
        return heads.MIDDLE
    rows = _rows(course, some[often])
    return heads.regularity(
        heads.axes(rows).of(rows), labels[often], [groups[at] for at in often.tolist()]
    )


def _rows(course: Course, some: Int64[np.ndarray, "some"]) -> heads.Rows:
    return course.rows[np.searchsorted(course.split.train, some)]


def _repetition(
    course: Course, parted: Split, prior: float, number: int, progress: Progress
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
        progress("sizes", at, len(plan))
        pictures = growth.given(parted, Growth(share), seed)
        sizes.append({"pictures": len(pictures), "right": answered(pictures)})
    counts = np.bincount(truth, minlength=classes)
    full = growth.given(parted, Growth(min(1.0, _GIVEN_MOST / len(parted.train))), seed)
    whole = answered(full) if len(full) < len(parted.train) else sizes[-1]["right"]
    given = []
    some = replace(parted, train=full)
    for at, label in enumerate(_weakest(course, some, axes, prior)):
        progress("classes", at, min(classes, course.worth_of))
        mine = full[dataset.labels[full] == label]
        fewer = growth.given(replace(parted, train=mine), Growth(0.5), seed)
        pictures = np.sort(np.concatenate([full[dataset.labels[full] != label], fewer]))
        if len(fewer) == len(mine):
            continue
        given.append(
            {"label": label, "without": len(mine) - len(fewer), "right": answered(pictures)}
        )
    progress("classes", 1, 1)
    part = len(full) if len(full) < len(parted.train) else 0
    return {
        "judged": counts.tolist(),
        "sizes": sizes,
        "whole": whole,
        "given": given,
        "part": part,  # of the pictures, that the worth of a class was measured with; 0: all
    }


def _weakest(course: Course, given: Split, axes: heads.Axes, prior: float) -> list[int]:
    """Return the classes that a head answers worst, ascending by number.

    Asked are training pictures that it has not seen: by the fold that judges, chance would
    choose, and what it chose would look worth less than it is.
    """
    dataset, classes = given.dataset, len(given.dataset.classes)
    groups = {dataset.groups[one] for one in given.train.tolist()}
    if classes <= course.worth_of or len(groups) < heads.FOLDS:
        return list(range(classes))[: course.worth_of]
    aside = given.folds(heads.FOLDS) == 0
    seen, unseen = given.train[~aside], given.train[aside]
    head = heads.trained(axes.of(_rows(course, seen)), dataset.labels[seen], prior)
    labels = dataset.labels[unseen]
    fine = heads.right(head, axes.of(_rows(course, unseen)), labels)
    held = np.bincount(labels, minlength=classes)
    recalls = np.bincount(labels[fine], minlength=classes) / np.maximum(held, 1)
    recalls[held == 0] = np.inf  # of which nothing was asked
    return sorted(sorted(range(classes), key=lambda at: (recalls[at], at))[: course.worth_of])


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
