"""Choose an operating point on pictures that no weight was trained on."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from jaxtyping import Float64, Int64

from sevenfold.errors import UsageError
from sevenfold.operating.point import NO_COSTS, Operating, Probabilities, likeliest
from sevenfold.operating.promise import Labels, rank
from sevenfold.operating.wish import Wish

LEAST_ANSWERED: Final = 0.5
"""Halving the error stops where fewer of the pictures would be answered."""
_TINY: Final = 1e-12
_ROUNDS: Final = 100
_LARGEST_WEIGHT: Final = 1e9


def choose(
    wish: Wish,
    classes: Sequence[str],
    probabilities: Probabilities,
    labels: Labels,
    groups: Sequence[str] = (),
) -> Operating:
    """Choose the operating point on pictures that no weight was trained on.

    * By default one threshold for all classes: the lowest at which the error among the
      answered is at most half of that among all, with at least half of them answered.
    * `min_recall` raises the weight of a class until it is answered for all of its pictures
      but so few (`rank`) that its recall on new ones is as asked with confidence
      `CONFIDENCE`: a margin, as a share of few pictures would be luck. A group counts as
      its worst picture does. Such an answer is always sure.
    * `costs` answers with the least expected cost; each class has the threshold at which
      the expected costs of its answers and of those that are not sure sum to the least.

    Args:
        wish: checked by `check`.
        classes: of the columns.
        probabilities: calibrated.
        labels: true classes.
        groups: of the pictures; empty: each is one of its own.

    Raises:
        UsageError: several classes cannot all have the recall that was asked for.
    """
    p = np.asarray(probabilities, np.float64)
    if wish.costs or wish.not_sure:
        return _by_costs(wish, classes, p, labels)
    weights, names = np.ones(len(classes)), list(classes)
    asked = {names.index(name): recall for name, recall in wish.min_recall.items()}
    if asked:
        numbers = np.arange(len(p))
        if len(groups):
            numbers = np.unique(np.array(groups, dtype=np.str_), return_inverse=True)[1]
        weights = _weights(asked, p, labels, numbers, names)
    answers = likeliest(p, weights)
    free = ~np.isin(answers, list(asked))
    confidence = p[np.arange(len(p)), answers]
    thresholds = np.full(
        len(classes), halving(confidence[free], (answers != labels)[free].astype(np.float64))
    )
    thresholds[list(asked)] = 0.0
    return Operating("min_recall" if asked else "halved_error", weights, NO_COSTS, thresholds)


def halving(
    confidence: Float64[np.ndarray, " pictures"], losses: Float64[np.ndarray, " pictures"]
) -> float:
    """Find the lowest threshold at which the mean loss of the answered is at most halved.

    Returns:
        0 where there is no loss; where half of the pictures are not enough, the one that
        answers half.

    Example:
        >>> halving(np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.0, 0.0, 0.0, 1.0]))
        0.65
    """
    if not len(losses) or losses.sum() <= 0:
        return 0.0
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    means = np.cumsum(losses[order]) / np.arange(1, len(order) + 1)
    # A threshold answers all of equal confidence or none of them.
    ends = np.flatnonzero(np.append(ranked[:-1] > ranked[1:], True))
    enough = ends[ends + 1 >= LEAST_ANSWERED * len(order)]
    good = enough[means[enough] <= losses.mean() / 2]
    last = int(good[-1]) if len(good) else int(enough[0])
    after = ranked[last + 1] if last + 1 < len(ranked) else 0.0
    return round(float(ranked[last] + after) / 2, 12)


def _weights(
    asked: Mapping[int, float],
    p: Probabilities,
    labels: Labels,
    groups: Int64[np.ndarray, "pictures"],
    names: Sequence[str],
) -> Float64[np.ndarray, " classes"]:
    """Raise the weights of classes until each is answered often enough, the others' given."""
    log_p, levels = np.log(np.maximum(p, _TINY)), np.zeros(p.shape[1])
    for _ in range(_ROUNDS):
        before = levels.copy()
        for at, recall in asked.items():
            mine = log_p[labels == at] + levels
            leads = log_p[labels == at, at] - np.delete(mine, at, axis=1).max(axis=1)
            worst = np.full(int(groups.max()) + 1, np.inf)
            np.minimum.at(worst, groups[labels == at], leads)
            worst = np.sort(worst[np.isfinite(worst)])
            # A hair more, so that the picture that sets the weight is answered so, too.
            lead = float(worst[max(1, rank(len(worst), recall)) - 1])
            levels[at] = max(levels[at], -lead + 1e-9 if lead < 0 else 0.0)
        if np.array_equal(before, levels):
            return np.asarray(np.exp(levels))
        if levels.max() > math.log(_LARGEST_WEIGHT):
            break
    told = " and ".join(f"{names[at]!r} {recall:g}" for at, recall in asked.items())
    raise UsageError(
        f"no weights give the recalls {told} together: the classes look too much alike",
        "ask for less, or of fewer classes",
    )


def _by_costs(wish: Wish, classes: Sequence[str], p: Probabilities, labels: Labels) -> Operating:
    count = len(classes)
    costs = np.ones((count, count)) - np.eye(count)
    for true, row in wish.costs.items():
        for answer, cost in row.items():
            costs[list(classes).index(true), list(classes).index(answer)] = cost
    expected = p @ costs
    answers = expected.argmin(axis=1)
    at = np.arange(len(p))
    confidence, risks = p[at, answers], expected[at, answers]
    if not wish.not_sure:
        return Operating(
            "costs",
            np.ones(count),
            costs,
            np.full(count, halving(confidence, costs[labels, answers])),
        )
    thresholds = np.zeros(count)
    for k in range(count):
        mine = answers == k
        thresholds[k] = _cheapest(confidence[mine], risks[mine], wish.not_sure)
    return Operating("costs", np.ones(count), costs, thresholds)


def _cheapest(
    confidence: Float64[np.ndarray, " answers"],
    risks: Float64[np.ndarray, " answers"],
    unsure: float,
) -> float:
    """Find the threshold at which answers and those that are not sure cost the least."""
    if not len(risks):
        return 0.0
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    kept = np.concatenate([[0.0], np.cumsum(risks[order] - unsure)])
    # All are kept where that costs no more than any other threshold.
    best = len(kept) - 1 - int(kept[::-1].argmin())
    if best == len(ranked):
        return 0.0
    above = ranked[best - 1] if best else 1.0
    return float(min(1.0, (ranked[best] + above) / 2 if above > ranked[best] else above))
