"""Say what recall so many pictures can promise, and refuse what they cannot."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Int64

from sevenfold.errors import DataError, UsageError
from sevenfold.operating.wish import Wish

CONFIDENCE: Final = 0.9
"""That a class has the recall that was asked for; benchmarks/operating.py shows why not less."""
Labels = Int64[np.ndarray, " pictures"]


def needed(recall: float) -> int:
    """Return how many pictures of a class are needed to promise a recall.

    Example:
        >>> needed(0.95), needed(0.99)
        (45, 230)
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(recall))


def rank(pictures: int, recall: float) -> int:
    """Return which of a class's pictures, the worst first, sets its weight; 0 for none.

    If all from the k-th worst on are answered right, the recall on new pictures is drawn
    from Beta(n - k + 1, k), whatever the distribution (tolerance limits: Wilks 1941), and is
    at least as asked with confidence P(Binomial(n, 1 - recall) ≥ k). The largest such k.

    Example:
        >>> rank(44, 0.95), rank(45, 0.95), rank(81, 0.95)
        (0, 1, 2)
    """
    # The logarithm of the chance of exactly so many misses: of thousands of pictures the
    # chance of none at all is too small for a float.
    chance, missed = pictures * math.log(recall), 0
    below = math.exp(chance)
    while below <= 1 - CONFIDENCE:
        missed += 1
        chance += math.log((pictures - missed + 1) / missed * (1 - recall) / recall)
        below += math.exp(chance)
    return missed


def check(wish: Wish, classes: Sequence[str], counts: Int64[np.ndarray, " classes"]) -> None:
    """Refuse what cannot be promised, before anything is trained.

    Args:
        wish: what was asked.
        classes: of the data.
        counts: separate groups of pictures of each class that choices are made by; a picture
            of no group is one of its own.

    Raises:
        UsageError: both kinds at once, or a class or number that cannot be.
        DataError: too few pictures of a class; how many are needed is said.
    """
    if wish.min_recall and wish.costs:
        raise UsageError("--costs and --min-recall each choose the threshold", "give one of them")
    named = {*wish.min_recall, *wish.costs, *(one for row in wish.costs.values() for one in row)}
    for name in sorted(named - set(classes)):
        option = "--min-recall" if name in wish.min_recall else "--costs"
        raise UsageError(
            f"{option} names {name!r}, which is no class of the data",
            f"the classes are {', '.join(classes[:10])}{', …' * (len(classes) > 10)}",
        )
    for name, recall in wish.min_recall.items():
        found = int(counts[list(classes).index(name)])
        if found < needed(recall):
            raise DataError(
                f"a recall of {recall:g} cannot be promised for {name!r}: it has {found} pictures "
                f"of their own or groups of pictures to choose by, and {needed(recall)} are needed",
                "collect more pictures of it, give more of them the role val, or ask for less",
            )


def separate(labels: Labels, groups: Sequence[str], classes: int) -> Int64[np.ndarray, "classes"]:
    """Count the groups of each class: pictures of one tell as much of new ones as one does.

    Args:
        labels: of each picture.
        groups: of each; a picture of no group is one of its own.
        classes: how many there are.

    Example:
        >>> separate(np.array([0, 0, 0, 1]), ["a", "a", "b", "a"], 2).tolist()
        [2, 1]
    """
    pairs = set(zip(labels.tolist(), groups, strict=True))
    return np.bincount([label for label, _ in pairs], minlength=classes)
