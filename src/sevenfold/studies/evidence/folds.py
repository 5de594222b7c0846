"""Part the pictures into folds, one for each repetition; test stays closed."""

import math
from dataclasses import replace
from typing import Final

import numpy as np
from jaxtyping import Int64

from sevenfold.data import Split
from sevenfold.errors import DataError, UsageError
from sevenfold.image import shown
from sevenfold.paired import MOST_FLIPPED, reach
from sevenfold.studies.pictures import aside

TUNING_FOLDS: Final = 7  # one in seven of what a fold leaves: by it trainings are stopped
CLAIMING: Final = 6
"""Repetitions from which a sign-flip test can reach 0.05: 2 of 2^6 signs are 0.031."""
_PICTURES: Final = 10  # judged in each repetition
_POWER: Final = 0.06 * (1 + CLAIMING / (CLAIMING - 1)) * reach(7) ** 2
"""Pictures times the squared effect that is claimed in four of five studies of seven practices,
where 6 % of answers differ and repetitions share what they learn from (`paired.corrected_t`)."""


def check_repetitions(repetitions: int) -> None:
    """Refuse repetitions that no claim could come of.

    Raises:
        UsageError: they are too few for a test, or more than one can be made of.
    """
    if repetitions > MOST_FLIPPED:
        raise UsageError(
            f"--repetitions {repetitions} are too many: all flips of their signs are tried",
            f"give {CLAIMING} to {MOST_FLIPPED}",
        )
    if repetitions < CLAIMING:
        raise UsageError(
            f"--repetitions {repetitions} can claim nothing: a sign-flip test reaches 0.05 from "
            f"{CLAIMING} on",
            f"give {CLAIMING} or more",
        )


def check(split: Split, repetitions: int) -> None:
    """Refuse data that no claim could come of.

    Raises:
        DataError: there are too few pictures.
    """
    pictures, wanted = len(outside_test(split)), _PICTURES * repetitions
    if pictures < wanted:
        raise DataError(
            f"{shown(split.dataset.name)}: {pictures} pictures outside test are too few for any "
            f"claim; even an effect of {resolved(wanted):.0%} needs {wanted}",
            f"add photos: 2 points need about {needed(0.02):,}, 1 point about {needed(0.01):,}",
        )


def needed(effect: float) -> int:
    """Return how many pictures show an effect with 80 % power, to two figures.

    Example:
        >>> needed(0.02)
        7900
    """
    exact = _POWER / effect**2
    return int(round(exact, 1 - math.floor(math.log10(exact))))


def resolved(pictures: int) -> float:
    """Return the smallest effect that so many pictures show with 80 % power.

    Example:
        >>> round(resolved(7900), 3)
        0.02
    """
    return float(np.sqrt(_POWER / pictures))


def outside_test(split: Split) -> Int64[np.ndarray, "pictures"]:
    """Return all pictures but those of test, ascending."""
    return np.sort(np.concatenate([split.train, split.val]))


def folded(split: Split, repetition: int, repetitions: int, seed: int = 0) -> Split:
    """Return the roles of one repetition.

    Folds keep groups whole, are stratified by class, and follow from the pictures' hashes
    and the seed alone; so does the part of the rest that a training is stopped and calibrated by.

    Args:
        split: the data's own roles; what is in its `test` has none here.
        repetition: from 0; the fold that is judged.
        repetitions: folds in all, 2 or more.
        seed: of the study; another number gives other folds.

    Returns:
        `test` is the fold, `val` one picture in seven of the others.

    Raises:
        DataError: there are fewer groups than folds, or a class is in one fold only.
    """
    everything = replace(split, train=outside_test(split), val=split.val[:0], test=split.test[:0])
    inside = everything.folds(repetitions, seed) == repetition
    rest = replace(everything, train=everything.train[~inside])
    _all_classes(rest, repetition)
    tuning = aside(rest, TUNING_FOLDS, seed)
    train, val = rest.train[~tuning], rest.train[tuning]
    return replace(everything, train=train, val=val, test=everything.train[inside])


def _all_classes(rest: Split, repetition: int) -> None:
    dataset = rest.dataset
    there = np.bincount(dataset.labels[rest.train], minlength=len(dataset.classes))
    for label in np.flatnonzero(there == 0).tolist():
        raise DataError(
            f"{shown(dataset.name)}: all pictures of the class `{dataset.classes[label]}` are in "
            f"fold {repetition + 1}, so that none is left to train on",
            "add photos of it from another group, or leave the class out",
        )
