"""Find how much each member counts, by the likelihood of pictures that none has seen."""

from typing import Any, Final

import numpy as np
from jaxtyping import Float, Float64, Int64

from sevenfold.practices.ensembling.votes import log_softmax

Array = np.ndarray[Any, np.dtype[np.float64]]

_GAIN: Final = 1e-9  # nats; less is rounding
_GAP: Final = 1e-5  # nats that better weights could still gain
_STEPS: Final = 2000


def greedy(
    logits: Float[np.ndarray, "members pictures classes"],
    labels: Int64[np.ndarray, "pictures"],
    rounds: int = 0,
) -> Float64[np.ndarray, "members"]:
    """Select members with replacement, each time the one that helps the soft vote most.

    Starts from the best single member and stops when no addition lowers the mean
    negative log-likelihood, so the vote is never worse than the best member on these
    pictures. Ties go to the lower number.

    Args:
        logits: of pictures that no member was trained on.
        labels: true classes.
        rounds: at most; 0 is five for each member.

    Returns:
        How often each member was selected, as shares with the sum 1.

    Source:
        Caruana et al. 2004, "Ensemble selection from libraries of models", without their
        bags of members; they run all rounds and keep the best, we stop at the first loss.

    Example:
        >>> import numpy as np
        >>> right, wrong = np.log([[0.9, 0.1]]), np.log([[0.2, 0.8]])
        >>> greedy(np.array([wrong, right]), np.array([0])).tolist()
        [0.0, 1.0]
    """
    true = _of_the_truth(logits, labels)
    counts = np.zeros(len(true))
    first = int(true.mean(axis=1).argmax())
    counts[first] = 1
    pooled = true[first]
    for size in range(1, rounds or 5 * len(true)):
        grown = np.logaddexp(pooled + np.log(size), true) - np.log(size + 1)
        scores = grown.mean(axis=1)
        best = int(scores.argmax())
        if scores[best] <= pooled.mean() + _GAIN:
            break
        counts[best] += 1
        pooled = grown[best]
    found: Array = counts / counts.sum()
    return found


def mixture(
    logits: Float[np.ndarray, "members pictures classes"],
    labels: Int64[np.ndarray, "pictures"],
) -> Float64[np.ndarray, "members"]:
    """Find the weights that make the soft vote the most likely, by expectation-maximisation.

    w_m becomes w_m g_m with g_m the mean over pictures of p_m / sum_k w_k p_k, p being the
    probability of the true class. Each step raises the likelihood (Dempster et al. 1977),
    which is concave in w: max_m g_m - 1 bounds what is still missing, and the search ends
    below 1e-5 nats or after 2,000 steps. Such steps creep where members are nearly alike,
    so every tenth goes from all weights towards the member of the largest g_m, as far as
    the likelihood rises (the vertex direction method: Lindsay 1983).

    Args:
        logits: of pictures that no member was trained on.
        labels: true classes.

    Returns:
        Weights with the sum 1.

    Example:
        >>> import numpy as np
        >>> members = np.log([[[0.9, 0.1], [0.9, 0.1]], [[0.1, 0.9], [0.1, 0.9]]])
        >>> mixture(members, np.array([0, 1])).tolist()
        [0.5, 0.5]
    """
    true = _of_the_truth(logits, labels)
    likely = np.exp(true - true.max(axis=0))
    weights = np.full(len(likely), 1 / len(likely))
    for step in range(_STEPS):
        gains = (likely / (weights @ likely)).mean(axis=1)
        if gains.max() - 1 < _GAP:
            break
        if step % 10 == 9:
            share = _as_far_as_it_rises(weights @ likely, likely[gains.argmax()])
            weights = weights * (1 - share)
            weights[gains.argmax()] += share
        else:
            weights = weights * gains
            weights = weights / weights.sum()
    return weights


def _as_far_as_it_rises(
    here: Float64[np.ndarray, "pictures"], there: Float64[np.ndarray, "pictures"]
) -> float:
    """Return the share of `there` at which the mean log of the blend is the highest."""

    def slope(share: float) -> float:
        return float(((there - here) / ((1 - share) * here + share * there)).mean())

    low, high = 0.0, 1 - 1e-9  # a picture may be impossible for one member alone
    if slope(high) >= 0:
        return high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return low


def _of_the_truth(
    logits: Float[np.ndarray, "members pictures classes"],
    labels: Int64[np.ndarray, "pictures"],
) -> Float64[np.ndarray, "members pictures"]:
    """Return each member's log-probability of each picture's true class."""
    found: Array = log_softmax(logits)[:, np.arange(len(labels)), labels]
    return found
