"""Choose among methods on validation, and tell what the choice costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Float64, Int64

from sevenfold.evaluate import log_loss
from sevenfold.practices.imbalance.settings import BALANCED_RATIO, Imbalance

_ROUNDING: Final = 1e-12


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

    The candidates of `auto` are the two of the log prior that the literature has ahead:
    adjusting after training (71.4 to 77.3 % on long-tailed CIFAR-10: Menon et al. 2021) and
    balanced softmax (69.9 to 76.4 %: Zhang et al. 2021, "Bag of tricks for long-tailed visual
    recognition"). Weights and samplers lost to them there, or even to doing nothing, and the
    deferred methods (73.3 and 72.9 %) to balanced softmax, for a training just as long; each
    further training would also be one more that two validation pictures of a rare class have
    to tell from the others. `adjusted_after` needs no training of its own: it adjusts that
    of `none`.

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
) -> str:
    """Choose by the answers to the same validation pictures; return the name.

    The first candidate stays unless another one's `gain` over it exceeds one
    standard error; of those that do, the best, and of equals the earlier. Without
    the bound the rare classes' handful of validation pictures would decide: one
    picture more of a class that has one is a tenth of balanced accuracy among ten.
    Two standard errors would hardly ever act where a rare class has under ten.
    What diverged is no candidate.

    Args:
        candidates: logits by name, the simplest first.
        labels: the pictures' classes.
        objective: `accuracy` or `balanced_accuracy`.
    """
    candidates = _sound(candidates)
    right = [_right(logits, labels) for logits in candidates.values()]
    return list(candidates)[_preferred(right, labels, objective)]


def choose_by_loss(
    candidates: Mapping[str, Float[np.ndarray, "pictures classes"]],
    labels: Int64[np.ndarray, "pictures"],
    counts: Int64[np.ndarray, "classes"],
    limit: float,
) -> str:
    """Choose among methods for balanced accuracy by the log loss of equally common classes.

    This is how `auto` ranks: by the log loss with all classes counted alike, with balanced
    accuracy as a veto. What diverged is no candidate: the first that did not is compared with.
    The rule is that of `choose`, with each picture's log loss in the place of right and
    wrong: two pictures of a rare class say by it how far off they are, and not only
    whether. Answers only have a veto: what has a lower balanced accuracy than the first
    candidate, or costs the commoner classes more than the limit, is left out.

    Args:
        candidates: logits by method, the simplest first, each as sharp as it claims.
        labels: the pictures' classes.
        counts: training pictures of each class.
        limit: recall that the commoner half of the classes may lose on average, 0 to 1.

    Returns:
        The method.
    """
    candidates = _sound(candidates)
    known = np.bincount(labels, minlength=len(counts)) > 0
    found = {name: recalls(logits, labels)[known] for name, logits in candidates.items()}
    before = next(iter(found.values()))
    kept = {
        name: candidates[name]
        for name, after in found.items()
        if after.mean() >= before.mean() - _ROUNDING
        and price(before, after, counts[known]).common >= -limit - _ROUNDING
    }
    scores = [-log_loss(logits, labels) for logits in kept.values()]
    return list(kept)[_preferred(scores, labels, "balanced_accuracy")]


def _sound(
    candidates: Mapping[str, Float[np.ndarray, "pictures classes"]],
) -> Mapping[str, Float[np.ndarray, "pictures classes"]]:
    """Leave out whose logits are no numbers: nothing is better than what cannot be measured."""
    found = {name: logits for name, logits in candidates.items() if np.isfinite(logits).all()}
    return found or candidates


def recalls(
    logits: Float[np.ndarray, "pictures classes"], labels: Int64[np.ndarray, "pictures"]
) -> Float64[np.ndarray, "classes"]:
    """Return each class's share of right answers; NaN for a class without a picture."""
    count = logits.shape[1]
    right = np.bincount(labels, _right(logits, labels), minlength=count)
    pictures = np.bincount(labels, minlength=count)
    shares: Float64[np.ndarray, " classes"] = np.full(count, np.nan)
    np.divide(right, pictures, out=shares, where=pictures > 0)
    return shares


def gain(
    before: Float64[np.ndarray, "pictures"],
    after: Float64[np.ndarray, "pictures"],
    labels: Int64[np.ndarray, "pictures"],
    objective: str,
) -> Gain:
    r"""Measure what other answers to the same pictures gain.

    $$g = \sum_i w_i d_i, \quad e = \sqrt{\sum_i w_i^2 d_i^2}$$

    with $d_i$ the change of a picture's score and $w_i$ its weight in the objective. Where
    a score is 1 for right and 0 for wrong, the error is McNemar's (1947): it supposes
    that changes go either way alike, and so is not 0 where a lone picture changed.

    Args:
        before: score of each picture, the more the better.
        after: with other answers.
        labels: true classes.
        objective: `accuracy` or `balanced_accuracy` (of the classes that occur).
    """
    changed = weights_of(labels, objective) * (after - before)
    return Gain(float(changed.sum()), float(np.sqrt((changed**2).sum())))


def _right(
    logits: Float[np.ndarray, "pictures classes"], labels: Int64[np.ndarray, "pictures"]
) -> Float64[np.ndarray, "pictures"]:
    right: Float64[np.ndarray, " pictures"] = (logits.argmax(axis=1) == labels).astype(float)
    return right


def _preferred(
    scores: Sequence[Float64[np.ndarray, "pictures"]],
    labels: Int64[np.ndarray, "pictures"],
    objective: str,
) -> int:
    """Apply the rule of `choose` to the scores of each candidate; return its place."""
    best, value = 0, 0.0
    for place, after in enumerate(scores):
        found = gain(scores[0], after, labels, objective)
        # Equal gains may differ by rounding: they come of sums in another order.
        if found.value > max(found.error, value) + _ROUNDING:
            best, value = place, found.value
    return best


def weights_of(
    labels: Int64[np.ndarray, "pictures"], objective: str
) -> Float64[np.ndarray, "pictures"]:
    """Return each picture's weight in the objective; they sum to 1.

    Args:
        labels: the pictures' classes.
        objective: `accuracy` or `balanced_accuracy` (of the classes that occur).
    """
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
    half = max(1, len(counts) // 2)
    change = (after - before)[order]
    return Price(float(change[:half].mean()), float(change[-half:].mean()))
