"""Compare two models by their answers to the same pictures: Tango's score interval.

A difference is the second model's accuracy minus the first's; a drop is its negative.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from jaxtyping import Bool, Int64

from sevenfold.errors import DataError
from sevenfold.evaluate import Estimate
from sevenfold.evaluate.student import bisected, t_quantile

_ALPHA: Final = 0.05
# Of a picture, by which a drop may look smaller by chance of counting: the least that keeps
# the bound's coverage over 95 % (benchmarks/results/bound_coverage.jsonl); without it 94.3 %.
_QUARTER: Final = 0.25
# Groups that change as a whole and happened not to be drawn (same file).
_UNSEEN_GROUPS: Final = 2


@dataclass(frozen=True, slots=True)
class Paired:
    """Count what two models answer to the same pictures.

    Args:
        both_right: right in both.
        only_first: right in the first and wrong in the second: the negative flips
            (Yan et al., 2021, arXiv 2011.09161).
        only_second: wrong in the first and right in the second.
        both_wrong: wrong in both, with the same answer or another.

    Example:
        >>> counts = Paired(both_right=300, only_first=4, only_second=9, both_wrong=28)
        >>> counts.pictures, round(counts.difference, 4), round(counts.churn, 4)
        (341, 0.0147, 0.0381)
    """

    both_right: int
    only_first: int
    only_second: int
    both_wrong: int

    @property
    def pictures(self) -> int:
        """Count the pictures."""
        return self.both_right + self.only_first + self.only_second + self.both_wrong

    @property
    def difference(self) -> float:
        """Give the second's accuracy minus the first's."""
        return (self.only_second - self.only_first) / self.pictures

    @property
    def churn(self) -> float:
        """Give the share of pictures that one of the two alone answers right."""
        return (self.only_second + self.only_first) / self.pictures


def count(first: Bool[np.ndarray, " first"], second: Bool[np.ndarray, " second"]) -> Paired:
    """Count from which pictures each model answers right.

    Raises:
        DataError: there are no pictures, or not as many of each.
    """
    right = _pairs(first, second)
    table = np.bincount(2 * right[0] + right[1], minlength=4).tolist()
    return Paired(
        both_right=table[3], only_first=table[2], only_second=table[1], both_wrong=table[0]
    )


def _pairs(
    first: Bool[np.ndarray, " first"], second: Bool[np.ndarray, " second"]
) -> Int64[np.ndarray, "2 first"]:
    if len(first) != len(second) or not len(first):
        raise DataError(
            f"{len(first)} answers cannot be paired with {len(second)}",
            "give both models the same pictures, at least one",
        )
    return np.stack([first, second]).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Design:
    """Say how much less than independent pictures the pictures of groups tell.

    Args:
        effect: by which pictures are divided, 1 or more.
        groups: how many there are; 0 where pictures are independent.
    """

    effect: float = 1.0
    groups: int = 0

    def point(self, probability: float) -> float:
        """Give the normal's quantile, or Student's with one degree less than groups."""
        if not self.groups:
            return NormalDist().inv_cdf(probability)
        return t_quantile(probability, self.groups - 1) if self.groups > 1 else math.inf


INDEPENDENT: Final = Design()


def design(
    first: Bool[np.ndarray, "pictures"],
    second: Bool[np.ndarray, "pictures"],
    groups: Sequence[str],
) -> Design:
    """Measure how much less the pictures tell because they come in groups.

    The variance of the difference by leaving out one group after another (the jackknife,
    CR3 of Bell & McCaffrey, 2002), over that of independent pictures. Tango's equation
    with all counts divided by this ratio (Rao & Scott, 1992) and Student's quantile then
    is a cluster-robust t bound that keeps the shape of a score interval. A bootstrap-t
    would divide by the spread of resampled groups, which is 0 whenever none of the few
    groups with a changed answer is drawn.

    A group that changes as a whole is rare and mostly unseen, so the ratio is averaged over
    the groups with a changed answer and two more, in which all pictures count as one: where
    no answer changed, each group counts as one picture.

    Args:
        first: which pictures the first model answers right.
        second: which pictures the second model answers right.
        groups: the group of each picture.
    """
    right = _pairs(first, second)
    apart = right[1] - right[0]
    names, member = np.unique(np.array(groups, dtype=np.str_), return_inverse=True)
    sizes = np.bincount(member, minlength=len(names))
    whole, count = len(apart), len(names)
    if count == whole > 1:
        return INDEPENDENT
    worst = float((sizes**2).sum() / whole)
    changed = len(np.unique(member[apart != 0]))
    if count < 2 or not changed:
        return Design(worst, count)
    without = (apart.sum() - np.bincount(member, apart)) / (whole - sizes)
    variance = (count - 1) / count * ((without - apart.mean()) ** 2).sum()
    # Where all pictures change alike nothing varies.
    seen = max(1.0, float(variance * whole / apart.var())) if apart.var() else 1.0
    mean = (changed * seen + _UNSEEN_GROUPS * worst) / (changed + _UNSEEN_GROUPS)
    return Design(mean, count)


def interval(counts: Paired, *, level: float = 0.95, design: Design = INDEPENDENT) -> Estimate:
    """Bound the difference in accuracy from both sides by Tango's score interval.

    All differences δ for which |b - c - nδ| ≤ z √(n (2q + δ - δ²)), where b and c count the
    pictures that only the second and only the first answers right and q is the maximum
    likelihood estimate of the first-only share when the difference is δ (Tango, 1998,
    Statistics in Medicine 17, 891-908). Both ends are found by bisection.

    Args:
        counts: of at least one picture.
        level: of confidence, from 0.5 to 1.
        design: from `design`, where pictures come in groups.

    Example:
        >>> found = interval(Paired(1, 7, 1, 12))
        >>> round(found.low, 3), round(found.high, 3)
        (-0.517, -0.026)
    """
    z = design.point((1 + level) / 2)
    n, b, c = _scaled(counts, design)
    low = -_highest(n, c, b, z)
    return Estimate(counts.difference, low, _highest(n, b, c, z))


def largest_drop(counts: Paired, *, level: float = 0.95, design: Design = INDEPENDENT) -> float:
    """Bound from above by how much the second model is less accurate than the first.

    The one-sided bound of Tango's score with a quarter of a picture added to the drop, since
    counts are whole: without it the bound holds in as little as 94.3 % of draws. Of a model
    that is surely better it is negative.

    Example:
        >>> round(largest_drop(Paired(341, 0, 0, 0)), 4)
        0.0093
    """
    n, b, c = _scaled(counts, design)
    return _highest(n, c, b, design.point(level), slack=_QUARTER)


def _scaled(counts: Paired, design: Design) -> tuple[float, float, float]:
    return (
        counts.pictures / design.effect,
        counts.only_second / design.effect,
        counts.only_first / design.effect,
    )


def _highest(n: float, b: float, c: float, z: float, slack: float = 0.0) -> float:
    """Find the largest difference whose score is not under -z."""
    if b == n or z == math.inf:
        return 1.0

    def holds(delta: float) -> bool:
        return b - c - n * delta + slack >= -z * math.sqrt(_variance(n, b, c, delta))

    return bisected(holds, (b - c) / n, 1.0)


def _variance(n: float, b: float, c: float, delta: float) -> float:
    """Give the variance of b - c at the most likely shares whose difference is delta."""
    if delta < 0:  # the same by swapping the models, so that nothing cancels below
        return _variance(n, c, b, -delta)
    linear = (2 * n - b + c) * delta - b - c
    root = math.sqrt(linear**2 + 8 * n * c * delta * (1 - delta))
    # The quadratic's positive root, in the form that does not cancel.
    only_first = (
        2 * c * delta * (1 - delta) / (linear + root) if linear > 0 else (root - linear) / (4 * n)
    )
    return n * (2 * only_first + delta * (1 - delta))


def mcnemar(counts: Paired) -> float:
    """Test whether both models are equally accurate: McNemar's exact test, two-sided.

    p = min(1, 2 P(X ≤ min(b, c))), X binomial over b + c fair coins (McNemar, 1947).

    Example:
        >>> round(mcnemar(Paired(1, 7, 1, 12)), 4)
        0.0703
    """
    changed = counts.only_first + counts.only_second
    term, tail = 1, 0
    for k in range(min(counts.only_first, counts.only_second) + 1):
        tail += term
        term = term * (changed - k) // (k + 1)
    return min(1.0, float(2 * tail / 2**changed))


def certified(bounds: Sequence[float], margin: float) -> int:
    """Walk from the least to the most pruned step and stop at the first that fails.

    A fixed sequence of tests, each at the full level: the chance that any step is
    certified wrongly is that of the first wrong one (Maurer, Hothorn & Lehmacher, 1995).

    Args:
        bounds: `largest_drop` of each step, in an order fixed before test was opened.
        margin: the largest drop allowed.

    Returns:
        How many steps, from the first, are certified to drop by no more than `margin`.

    Example:
        >>> certified([0.004, 0.009, 0.012, 0.008], 0.01)
        2
    """
    return next((at for at, bound in enumerate(bounds) if not bound <= margin), len(bounds))


def smallest_certifiable(bounds: Sequence[float]) -> float:
    """Find the smallest margin at which `certified` would pass the last of these steps.

    It is the largest of the bounds, so it holds for each of the steps at the bounds' level.
    """
    return max(bounds)


def pictures_to_detect(difference: float, churn: float, *, power: float = 0.8) -> int:
    """Count the pictures on which a difference would be seen, at 5 % two-sided.

    n = (z₀.₉₇₅ + z_power)² (churn - difference²) / difference² (Connor, 1987, simplified).

    Args:
        difference: in accuracy, not 0.
        churn: share of pictures that one of the two alone answers right.
        power: chance to see it.

    Example:
        >>> pictures_to_detect(0.01, 0.06)
        4702
    """
    z = NormalDist().inv_cdf(1 - _ALPHA / 2) + NormalDist().inv_cdf(power)
    return math.ceil(z**2 * max(0.0, churn - difference**2) / difference**2)
