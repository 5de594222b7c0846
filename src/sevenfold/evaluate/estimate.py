"""Hold a value with its 95 % interval, and bound a proportion."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from sevenfold.evaluate.student import t_quantile

_Z = 1.959963984540054  # 97.5 % point of the normal distribution

_MANY = 1000  # from which on the factor is under 1.002

Array = Float64[np.ndarray, "..."]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Hold a value and its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(right: int, trials: int) -> Estimate:
    """Bound a proportion by Wilson's score interval (Wilson, 1927).

    Example:
        >>> e = wilson(8, 10)
        >>> round(e.low, 3), round(e.high, 3)
        (0.49, 0.943)
    """
    if trials == 0:
        return Estimate(0.0, 0.0, 1.0)
    share = right / trials
    scale = 1 + _Z**2 / trials
    centre = (share + _Z**2 / (2 * trials)) / scale
    half = _Z / scale * np.sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2))
    low, high = min(share, centre - half), max(share, centre + half)
    return Estimate(share, float(max(0.0, low)), float(min(1.0, high)))


def widened(value: float | Array, resampled: Array, groups: int) -> Array:
    r"""Spread a bootstrap's draws to what so few groups leave unknown.

    Deviations times $\sqrt{G / (G - 1)}\, t_{G-1} / z$ at the 97.5 % points: a resample's
    variance divides by G where the sample's divides by G - 1, and its percentiles know the
    variance as if it were given (Hesterberg, 2015, arXiv 1411.5279). By 1.2 for ten groups; of
    one group there are no deviations.
    """
    if not 1 < groups <= _MANY:
        return resampled
    factor = math.sqrt(groups / (groups - 1)) * t_quantile(0.975, groups - 1) / _Z
    return value + (resampled - value) * factor


def hull(first: Estimate, second: Estimate) -> Estimate:
    """Return the first value with the least interval that holds both intervals."""
    return Estimate(first.value, min(first.low, second.low), max(first.high, second.high))


def as_unsure_as(mean: Estimate, parts: Sequence[Estimate], least: float) -> Estimate:
    """Widen the interval of a mean over classes to what the classes' intervals leave open.

    Half-widths add in squares (MOVER: Zou & Donner 2008). A bootstrap of a class whose few
    answers are all right, or none of which changed, adds nothing.

    Args:
        mean: with an interval of its own.
        parts: of each class.
        least: that the mean can be; 1 is the most.
    """
    below = math.hypot(*(one.value - one.low for one in parts)) / len(parts)
    above = math.hypot(*(one.high - one.value for one in parts)) / len(parts)
    low, high = max(least, mean.value - below), min(1.0, mean.value + above)
    return hull(mean, Estimate(mean.value, low, high))
