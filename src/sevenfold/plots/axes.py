"""Choose round numbers for an axis; hold the measures that figures with axes share."""

import math

WIDTH, HEIGHT = 440, 264
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 34, 40


def ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    """Return round numbers that cover a range: steps of 1, 2 or 5 times a power of ten.

    Example:
        >>> ticks(0.13, 0.94, 5)
        (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    """
    low, high = padded(low, high) if high - low <= 1e-9 * max(abs(low), abs(high)) else (low, high)
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= raw * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return tuple(round(index * step, 12) for index in range(first, last + 1))


def padded(low: float, high: float) -> tuple[float, float]:
    """Widen an empty range, so that it can be divided by."""
    if high > low:
        return low, high
    return low - max(0.5, abs(low) * 0.1), high + max(0.5, abs(high) * 0.1)


def powers(low: float, high: float) -> tuple[float, ...]:
    """Return the powers of ten, as exponents, within a range of exponents."""
    return tuple(float(power) for power in range(math.ceil(low), math.floor(high) + 1))


def whole_numbers(values: tuple[float, ...]) -> tuple[float, ...]:
    """Keep whole numbers: there is no half epoch."""
    return tuple(value for value in values if value == round(value))
