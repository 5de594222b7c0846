"""Say for each epoch which pictures are drawn and how the loss weighs classes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Final

import numpy as np
from jaxtyping import Float64, Int64, UInt64

from sevenfold import draws
from sevenfold.practices.imbalance.adjustment import log_prior
from sevenfold.practices.imbalance.settings import DEFERRED, GRADED, Imbalance, check, check_data
from sevenfold.rows import Stage

_MOST: Final = 2.0  # of a strength


def class_weights(
    counts: Int64[np.ndarray, "classes"], strength: float = 1.0
) -> Float64[np.ndarray, "classes"]:
    r"""Weigh each class by the inverse of its frequency.

    $$w_c \propto \left(\frac{n}{K\,n_c}\right)^s, \quad \sum_c n_c\,w_c = n$$

    With $s = 1$ it is scikit-learn's `balanced`. Pictures weigh 1 on average whatever
    $s$ is, so that a step is as long as without weights.

    Args:
        counts: pictures of each class, 1 or more.
        strength: $s$, 0 (all alike) to 2.

    Example:
        >>> class_weights(np.array([30, 10])).round(3).tolist()
        [0.667, 2.0]
    """
    weights = (counts.sum() / (len(counts) * counts)) ** strength
    scaled: Float64[np.ndarray, " classes"] = weights * (counts.sum() / (counts * weights).sum())
    return scaled


def spread(
    settings: Imbalance, counts: Int64[np.ndarray, "classes"]
) -> Float64[np.ndarray, "classes"]:
    r"""Say how label smoothing spreads its share over classes, so that the prior cancels.

    $$u_c = K \frac{n_c^\tau}{\sum_k n_k^\tau}$$

    where $\tau \log \pi$ is added inside the loss, and 1 elsewhere. Targets smoothed by
    $u$ are $(1-s)\,p + s\,u/K$; divided by $\pi^\tau$ that is $(1-s)\,p/\pi^\tau$ and a
    constant, so that the answers for equally common classes are those without smoothing.
    Smoothed evenly, a common class would gain less by it than a rare one: at 20:1 and
    $s = 0.1$ the common class's own pictures would come to lie on the border.

    Args:
        settings: the method.
        counts: training pictures of each class, 1 or more.

    Returns:
        Shares, 1 on average.

    Example:
        >>> spread(Imbalance("balanced_softmax"), np.array([30, 10])).tolist()
        [1.5, 0.5]
    """
    powers = counts ** _inside(settings)
    shares: Float64[np.ndarray, " classes"] = powers / powers.mean()
    return shares


def lasting(settings: Imbalance) -> Imbalance:
    """Say how a training that goes on from a finished one keeps what a method did.

    Whatever it was, answers are for classes that are more equally common than they come; plain
    training would bring the prior back. Added inside the loss it stays out of the logits.

    Args:
        settings: of the finished training, settled; `auto` counts as `none`.

    Example:
        >>> found = lasting(Imbalance("adjusted_after", strength=0.5, temperature=1.2))
        >>> found.method, found.strength
        ('logit_adjustment', 0.6)
    """
    if settings.method in ("none", "auto"):
        return Imbalance.off
    strength = settings.factor if settings.method in GRADED else 1.0
    return (
        Imbalance("logit_adjustment", strength=min(_MOST, strength)) if strength else Imbalance.off
    )


def offset(
    settings: Imbalance, counts: Int64[np.ndarray, "classes"]
) -> Float64[np.ndarray, "classes"]:
    """Return what a method adds to logits inside the loss, such as that of `lasting`.

    Args:
        settings: the method.
        counts: training pictures of each class, 1 or more.
    """
    found: Float64[np.ndarray, " classes"] = _inside(settings) * log_prior(counts)
    return found


def _inside(settings: Imbalance) -> float:
    """Return the factor of the log prior that a method adds to logits inside the loss."""
    strength = {"balanced_softmax": 1.0, "logit_adjustment": settings.strength}
    return strength.get(settings.method, 0.0)


def plan(
    settings: Imbalance,
    labels: Int64[np.ndarray, "pictures"],
    pictures: Int64[np.ndarray, "rows"],
    numbers: UInt64[np.ndarray, "pictures"],
    classes: Sequence[str],
    *,
    epochs: int,
    batch: int,
    seed: int,
) -> Callable[[int], Stage]:
    """Turn a method into what each epoch draws and how its loss weighs classes.

    `auto` plans as `none`, its first candidate (see `resolve`), and so does
    `adjusted_after`, which acts after training. What an epoch draws depends on seed,
    epoch and the pictures' content alone.

    Args:
        settings: the method.
        labels: classes of the whole data set.
        pictures: indices trained on, in any order.
        numbers: 64 bits of each content hash, for the whole data set.
        classes: their names.
        epochs: at most.
        batch: pictures in a step.
        seed: of the draws.

    Returns:
        A function of the epoch, from 0.

    Raises:
        UsageError: the settings do not fit together or leave too little.
        DataError: a class has no picture.
    """
    check(settings)
    counts = np.bincount(labels[pictures], minlength=len(classes))
    check_data(settings, counts, classes, epochs=epochs, batch=batch)
    plain = Stage(pictures, np.ones(len(classes)), np.zeros(len(classes)))
    begins = 0
    if settings.method in DEFERRED and settings.defer:
        # 0.7 * 10 is a little more than 7 in binary.
        begins = max(1, min(epochs - 1, math.ceil(round(settings.defer * epochs, 9))))
    draw = partial(drawn, labels, pictures, numbers, seed)

    @lru_cache(maxsize=2)  # the loop asks for an epoch's steps, rows and offset apart
    def stage(epoch: int) -> Stage:
        return plain if epoch < begins else _acting(settings, counts, plain, draw, epoch)

    return stage


def _acting(
    settings: Imbalance,
    counts: Int64[np.ndarray, "classes"],
    plain: Stage,
    draw: Callable[[Int64[np.ndarray, "classes"], int], Int64[np.ndarray, "drawn"]],
    epoch: int,
) -> Stage:
    """Return the stage of an epoch in which the method acts."""
    uneven = bool(counts.min() < counts.max())
    most, least = np.full_like(counts, counts.max()), np.full_like(counts, counts.min())
    match settings.method:
        case "class_weights" | "deferred_weights":
            return replace(plain, weights=class_weights(counts, settings.strength))
        case "balanced_softmax" | "logit_adjustment":
            return replace(plain, offset=offset(settings, counts))
        case "oversampling":
            return replace(plain, pictures=draw(most, epoch))
        case "undersampling":
            return replace(plain, pictures=draw(least, epoch))
        case "augmentation":
            return replace(plain, pictures=draw(most, epoch), fresh=uneven)
        case "deferred_sampling":
            return replace(plain, pictures=draw(_shared(counts), epoch), fresh=uneven)
        case _:
            return plain


def _shared(counts: Int64[np.ndarray, "classes"]) -> Int64[np.ndarray, "classes"]:
    """Share as many pictures as there are among the classes; what is left goes to the rarest."""
    each, left = divmod(int(counts.sum()), len(counts))
    quotas = np.full_like(counts, each)
    quotas[np.argsort(counts, kind="stable")[:left]] += 1
    return quotas


def drawn(
    labels: Int64[np.ndarray, "pictures"],
    pictures: Int64[np.ndarray, "rows"],
    numbers: UInt64[np.ndarray, "pictures"],
    seed: int,
    quotas: Int64[np.ndarray, "classes"],
    epoch: int,
) -> Int64[np.ndarray, "drawn"]:
    """Draw exactly so many pictures of each class, each as often as the next but for one.

    A picture of a class of n with quota q is drawn floor(q / n) times; which ones are
    drawn once more is ranked by their random numbers. imbalanced-learn's samplers give
    the same numbers of pictures, but draw with replacement and once for all epochs.

    Args:
        labels: classes of the whole data set.
        pictures: indices to draw from.
        numbers: 64 bits of each content hash, for the whole data set.
        seed: of the draws.
        quotas: pictures of each class to draw; each class that has a quota has pictures.
        epoch: another epoch draws others.

    Returns:
        Indices in the order of `pictures`, repeats side by side.
    """
    rank = draws.uniform(f"{seed}/sampler", numbers[pictures], epoch, 1)[:, 0]
    times = np.zeros(len(pictures), np.int64)
    for label, quota in enumerate(quotas.tolist()):
        members = np.flatnonzero(labels[pictures] == label)
        # Copies of a picture share their draw: the index decides, not the place.
        members = members[np.lexsort((pictures[members], rank[members]))]
        each, rest = divmod(quota, max(1, len(members)))
        times[members] = each
        times[members[:rest]] += 1
    return np.repeat(pictures, times)
