"""Compute Student's t distribution for whole degrees of freedom, without scipy."""

import functools
import math
from collections.abc import Callable


def t_tails(t: float, freedom: int) -> float:
    """Give the chance that Student's t is at least this far from 0.

    Args:
        t: finite.
        freedom: whole degrees of freedom, 1 or more.
    """
    return max(0.0, 1 - _within(math.atan2(abs(t), math.sqrt(freedom)), freedom))


@functools.lru_cache(maxsize=1024)
def t_quantile(probability: float, freedom: int) -> float:
    """Find Student's t quantile by bisection of its distribution.

    Args:
        probability: strictly between 0 and 1.
        freedom: whole degrees of freedom, 1 or more.

    Example:
        >>> round(t_quantile(0.975, 5), 6)
        2.570582
    """
    if probability < 0.5:
        return -t_quantile(1 - probability, freedom)
    inside = 2 * probability - 1
    angle = bisected(lambda one: _within(one, freedom) <= inside, 0.0, math.pi / 2)
    return math.sqrt(freedom) * math.tan(angle)


def _within(angle: float, freedom: int) -> float:
    """Give P(|t| ≤ √freedom tan(angle)): a finite sum (Abramowitz & Stegun, 26.7.3 and 4)."""
    odd = freedom % 2
    cosine, sine = math.cos(angle), math.sin(angle)
    term, total = (cosine if odd else 1.0), 0.0
    for step in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cosine**2 * (step - 1) / step
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def bisected(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Find where a condition that holds at `low` and not at `high` ends, to the last digit."""
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
