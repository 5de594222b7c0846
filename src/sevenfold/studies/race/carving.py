"""Part the training pictures again, so that no figure is of pictures that chose anything."""

from dataclasses import replace
from typing import Final

import numpy as np
from jaxtyping import Int64

from sevenfold.data import Split
from sevenfold.studies.pictures import aside

TUNING_FOLDS: Final = 7  # one in seven is 14 %, as much as val has of all pictures
JUDGED_FOLDS: Final = 5


def carved(split: Split) -> Split:
    """Give every picture its role in a study; the data's own test pictures have none.

    Where there is a val it is judged on. With small data, which has none, one fold of
    five of the training pictures is. One in seven of what is left to train on is the
    study's own tuning part. Folds keep groups whole, are stratified, and depend on the
    pictures' hashes alone.

    Args:
        split: the data's own roles.

    Returns:
        A split whose `val` every choice is made by, and whose `test` is judged on: the
        data's val or the fold. Nothing of the data's test is in it.

    Raises:
        DataError: there are too few groups.
    """
    train, judged = split.train, split.val
    if not len(judged):
        train, judged = _parted(split, JUDGED_FOLDS)
    train, tuning = _parted(replace(split, train=train), TUNING_FOLDS)
    return replace(split, train=train, val=tuning, test=judged)


def _parted(
    split: Split, folds: int
) -> tuple[Int64[np.ndarray, "rest"], Int64[np.ndarray, "fold"]]:
    inside = aside(split, folds)
    return split.train[~inside], split.train[inside]
