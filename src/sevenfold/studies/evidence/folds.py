"""Part the pictures into folds, one for each repetition; test stays closed."""

import math
from dataclasses import replace
from typing import Final

import numpy as np
from jaxtyping import Int64

from sevenfold.data import Listing, Split
from sevenfold.errors import DataError, UsageError
from sevenfold.image import shown
from sevenfold.paired import MOST_FLIPPED, reach, t_quantile
from sevenfold.recipe import PRACTICES
from sevenfold.studies.evidence.measures import MOST_LENT
from sevenfold.studies.pictures import aside

TUNING_FOLDS: Final = 7  # one in seven of what a fold leaves: by it trainings are stopped
CLAIMING: Final = 6
"""Repetitions from which a sign-flip test can reach 0.05: 2 of 2^6 signs are 0.031."""
COARSEST: Final = 0.15
"""The most that the narrowest interval may reach to each side: with few groups none is narrower,
whatever is answered, so that nothing smaller could be claimed."""
_PICTURES: Final = 10  # judged in each repetition
_CHURN: Final = 0.06  # share of answers that differ, by which power is foretold


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


def check_listed(listing: Listing, repetitions: int) -> None:
    """Refuse data that no claim could come of by its list alone, before a picture is decoded.

    Copies, pictures that cannot be read and those that go to test where no roles are given are
    not known yet: `check` may refuse what passes here.

    Raises:
        DataError: there are too few pictures, or too few groups of them.
    """
    outside = [photo for photo in listing.photos if photo.role != "test"]
    groups = {(photo.group, "" if photo.group else photo.path) for photo in outside}
    _refuse_few(listing.name, len(outside), len(groups), repetitions, at="at most ")


def check(split: Split, repetitions: int) -> None:
    """Refuse data that no claim could come of.

    Raises:
        DataError: there are too few pictures, or too few groups of them.
    """
    _refuse_few(split.dataset.name, len(outside_test(split)), groups_of(split), repetitions)


def _refuse_few(name: str, pictures: int, groups: int, repetitions: int, *, at: str = "") -> None:
    wanted, apart = _PICTURES * repetitions, fewest_groups(repetitions)
    if pictures >= wanted and groups >= apart:
        return
    there, asked = f"{at}{pictures:,} pictures", f"{wanted} pictures"
    if grouped := groups < pictures:
        there, asked = f"{there} in {groups:,} groups", f"{asked} in {apart} groups"
    cure = f"add photos: 2 points need about {needed(0.02):,}, 1 point about {needed(0.01):,}"
    if grouped and groups < apart:
        cure = (
            f"add photos of other groups: 2 points need {needed_groups(0.02):,} groups or more, "
            f"1 point {needed_groups(0.01):,}"
        )
    raise DataError(
        f"{shown(name)}: {there} outside test are too few for any claim; it takes at least {asked}",
        cure,
    )


def shared(repetitions: int) -> float:
    """Return the pictures judged over those that weights are fitted to, in equal folds.

    Example:
        >>> round(shared(6), 4)
        0.2333
    """
    return TUNING_FOLDS / (TUNING_FOLDS - 1) / (repetitions - 1)


def fewest_groups(repetitions: int) -> int:
    r"""Return from how many groups on an interval can be as narrow as `COARSEST`.

    $$G \ge t_{0.975}\,\sqrt{1 + J \frac{n_{test}}{n_{train}}} \,/\, \text{COARSEST}$$

    of J repetitions: where no answer changes, the one more changed group that is counted has
    the weight 1/G (`measures.expected`), and lends all that pictures may lend.

    Example:
        >>> fewest_groups(6)
        23
    """
    point = t_quantile(0.975, repetitions - 1 + MOST_LENT)
    return math.ceil(point * math.sqrt(1 + repetitions * shared(repetitions)) / COARSEST)


def _power() -> float:
    """Return the squared effect over the variance of pictures that four of five studies claim.

    Of six repetitions and all practices; see `paired.reach` and `paired.corrected_t`.
    """
    return (1 + CLAIMING * shared(CLAIMING)) * reach(len(PRACTICES)) ** 2


def resolved(pictures: int, groups: int) -> float:
    r"""Return the smallest effect that four of five studies of all practices would claim.

    $$\sqrt{\Big(1 + J \frac{n_{test}}{n_{train}}\Big) \Big(\frac{0.06}{n} + \frac{1}{G^2}\Big)}
    \; r$$

    where 6 % of the answers of n pictures differ, whatever their group, and one more group of G
    than was seen to; r is `paired.reach`. Where the answers of a group change together it
    takes more.

    Example:
        >>> round(resolved(8700, 8700), 3), round(resolved(500, 20), 2)
        (0.02, 0.39)
    """
    return math.sqrt(_power() * (_CHURN / pictures + 1 / groups**2))


def needed(effect: float) -> int:
    """Return how many pictures show an effect with 80 % power, to two figures.

    Each is a group of its own; see `resolved`.

    Example:
        >>> needed(0.02)
        8700
    """
    variance = effect**2 / _power()
    return _rough((_CHURN + math.sqrt(_CHURN**2 + 4 * variance)) / (2 * variance))


def needed_groups(effect: float) -> int:
    """Return under how many groups no number of pictures shows an effect, to two figures.

    Example:
        >>> needed_groups(0.02)
        380
    """
    return _rough(math.sqrt(_power()) / effect)


def _rough(exact: float) -> int:
    return int(round(exact, 1 - math.floor(math.log10(exact))))


def groups_of(split: Split) -> int:
    """Count the groups outside test."""
    return len({split.dataset.groups[one] for one in outside_test(split).tolist()})


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
