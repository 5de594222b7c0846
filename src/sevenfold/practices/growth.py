"""Practice 1: give the network more data."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from jaxtyping import Int64

from sevenfold import draws
from sevenfold.data import Split
from sevenfold.errors import UsageError
from sevenfold.ranges import Range


@dataclass(frozen=True)
class Growth:
    """Say which of the given training pictures are used.

    Args:
        share: of the training pictures of each class, above 0 to 1; 1 is all of them.
    """

    share: Annotated[float, Range(0, 1, above=True)] = 1.0

    off: ClassVar["Growth"]


Growth.off = Growth()


def check(settings: Growth, split: Split) -> None:
    """Refuse a share where folds judge every training picture.

    Raises:
        UsageError: there are no validation pictures.
    """
    if settings.share < 1 and not len(split.val):
        raise UsageError(
            f"growth.share = {settings.share:g} needs validation pictures, and with few pictures "
            "folds judge all that are trained on",
            "leave it at 1, or train on 1,000 pictures or more",
        )


def given(split: Split, settings: Growth, seed: int) -> Int64[np.ndarray, "pictures"]:
    """Return the pictures to train on: a share of each class, whole groups.

    Groups are ranked by a draw of their own, so that a smaller share is part of a
    larger one, and the same data gives the same share whatever its order. A group counts
    for the class that most of its pictures have; the first group of each class that any
    of its pictures has is always taken.

    Args:
        split: `train` and the groups of its pictures.
        settings: the share.
        seed: another seed is another ranking.

    Returns:
        Indices into the data set, ascending; at least one group of each class.
    """
    if settings.share == 1:
        return split.train
    dataset = split.dataset
    members: dict[str, list[int]] = {}
    for picture in split.train.tolist():
        members.setdefault(dataset.groups[picture], []).append(picture)
    first = {group: min(dataset.hashes[one] for one in some) for group, some in members.items()}
    rank = draws.uniform(f"{seed}/growth", draws.numbers(list(first.values())), 0, 1)[:, 0]
    ranked = [
        members[group] for _, _, group in sorted(zip(rank, first.values(), first, strict=True))
    ]
    most = [int(np.bincount(dataset.labels[some]).argmax()) for some in ranked]
    counts = np.bincount(most, [len(some) for some in ranked], len(dataset.classes))
    # What decides about a group is told by its own class alone: so smaller shares stay parts.
    taken, seen = np.zeros(len(counts), np.int64), np.zeros(len(counts), bool)
    kept: list[int] = []
    for some, label in zip(ranked, most, strict=True):
        within = taken[label] < max(1, round(settings.share * counts[label]))
        taken[label] += len(some)
        if within or not seen[dataset.labels[some]].all():
            kept += some
        seen[dataset.labels[some]] = True
    return np.sort(np.array(kept, np.int64))
