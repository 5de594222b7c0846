"""Hold a value with its 95 % interval, and bound a proportion."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

_Z = 1.959963984540054  # 97.5 % point of the normal distribution

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


def hull(first: Estimate, second: Estimate) -> Estimate:
    """Return the first value with the least interval that holds both intervals."""
    return Estimate(first.value, min(first.low, second.low), max(first.high, second.high))
