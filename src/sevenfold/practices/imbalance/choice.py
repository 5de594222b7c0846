"""Choose among methods on validation, and tell what the choice costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64

from sevenfold.practices.imbalance.settings import BALANCED_RATIO, Imbalance


@dataclass(frozen=True)
class Gain:
    """Hold what one way of answering gains over another on the same pictures.

    Args:
        value: difference of the objective, -1 to 1.
        error: its standard error if there were no true difference, 0 or more.
    """

    value: float
    error: float


@dataclass(frozen=True)
class Price:
    """Hold what the rare classes gain and the common ones pay.

    Args:
        common: mean change of recall of the larger half of the classes, -1 to 1.
        rare: of the smaller half. Of an odd number the middle class is in neither.
    """

    common: float
    rare: float


def resolve(
    settings: Imbalance, counts: Int64[np.ndarray, "classes"], objective: str
) -> tuple[str, ...]:
    """List the methods to try, the simplest first; one alone where it is named.

    Weights and samplers are not among the candidates of `auto`: on long-tailed
    CIFAR they lost to the prior's two methods, or even to doing nothing (Zhang et
    al. 2021, "Bag of tricks for long-tailed visual recognition"; Menon et al. 2021).
    `adjusted_after` needs no training of its own: it adjusts that of `none`.

    Args:
        settings: the method.
        counts: training pictures of each class.
        objective: `accuracy` or `balanced_accuracy`.

    Example:
        >>> resolve(Imbalance(), np.array([30, 20]), "balanced_accuracy")
        ('none',)
    """
    if settings.method != "auto":
        return (settings.method,)
    # Plain cross-entropy aims at accuracy itself: whatever else validation preferred for
    # it would be its noise, at the price of the likelihood.
    if objective == "accuracy" or counts.max() <= BALANCED_RATIO * counts.min():
        return ("none",)
    if settings.trainings == 1:
        return ("none", "adjusted_after")
    return ("none", "adjusted_after", "balanced_softmax")


def choose(
    candidates: Mapping[str, Float[np.ndarray, "pictures classes"]],
    labels: Int64[np.ndarray, "pictures"],
    objective: str,
) -> tuple[str, float]:
    """Choose a method by its logits for the same validation pictures.

    The first candidate stays unless another one's `gain` over it exceeds one
    standard error; of those that do, the best, and of equals the earlier. Without
    the bound the rare classes' handful of validation pictures would decide: one
    picture more of a class that has one is a tenth of balanced accuracy among ten.
    Two standard errors would hardly ever act where a rare class has under ten.

    Args:
        candidates: logits by method, the simplest first.
        labels: the pictures' classes.
        objective: `accuracy` or `balanced_accuracy`.

    Returns:
        The method, and its score on these pictures.
    """
    names = list(candidates)
    answers = [candidates[name].argmax(axis=1) for name in names]
    at, score = preferred(answers, labels, objective)
    return names[at], score


def gain(
    before: Int64[np.ndarray, "pictures"],
    after: Int64[np.ndarray, "pictures"],
    labels: Int64[np.ndarray, "pictures"],
    objective: str,
) -> Gain:
    r"""Measure what other answers to the same pictures gain.

    $$g = \sum_i w_i d_i, \quad e = \sqrt{\sum_i w_i^2 d_i^2}$$

    with $d_i$ 1 where an answer becomes right, -1 where it becomes wrong, and $w_i$
    the picture's weight in the objective. The error is McNemar's (1947): it supposes
    that changes go either way alike, and so is not 0 where a lone picture changed.

    Args:
        before: answers.
        after: other answers.
        labels: true classes.
        objective: `accuracy` or `balanced_accuracy` (of the classes that occur).
    """
    changed = _weights(labels, objective) * (
        (after == labels).astype(np.float64) - (before == labels)
    )
    return Gain(float(changed.sum()), float(np.sqrt((changed**2).sum())))


def preferred(
    answers: Sequence[Int64[np.ndarray, "pictures"]],
    labels: Int64[np.ndarray, "pictures"],
    objective: str,
) -> tuple[int, float]:
    """Apply the rule of `choose` to answers; return the place and the score."""
    best, value = 0, 0.0
    for place, after in enumerate(answers):
        found = gain(answers[0], after, labels, objective)
        # Equal gains may differ by rounding: they come of sums in another order.
        if found.value > max(found.error, value) + 1e-12:
            best, value = place, found.value
    score = (_weights(labels, objective) * (answers[best] == labels)).sum()
    return best, float(score)


def _weights(
    labels: Int64[np.ndarray, "pictures"], objective: str
) -> Float64[np.ndarray, "pictures"]:
    """Return each picture's weight in the objective; they sum to 1."""
    if objective == "accuracy":
        return np.full(len(labels), 1 / len(labels))
    counts = np.bincount(labels)
    weights: Float64[np.ndarray, " pictures"] = 1 / (np.count_nonzero(counts) * counts[labels])
    return weights


def price(
    before: Float[np.ndarray, "classes"],
    after: Float[np.ndarray, "classes"],
    counts: Int64[np.ndarray, "classes"],
) -> Price:
    """Tell how recall changed for the common and for the rare half of the classes.

    Args:
        before: recall of each class without the practice, 0 to 1.
        after: with it.
        counts: training pictures of each class; of equals the earlier is the larger.

    Example:
        >>> price(np.array([0.875, 0.5]), np.array([0.75, 0.75]), np.array([100, 10]))
        Price(common=-0.125, rare=0.25)
    """
    order = np.argsort(-counts, kind="stable")
    half = len(counts) // 2
    change = (after - before)[order]
    return Price(float(change[:half].mean()), float(change[-half:].mean()))
