"""Say which values a setting may take, beside its type."""

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Range:
    """Bound a number from both sides; both ends are allowed unless `above` or `below`."""

    low: float
    high: float
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Tell whether a value is inside; NaN is not."""
        over = value > self.low if self.above else value >= self.low
        under = value < self.high if self.below else value <= self.high
        return over and under

    def __str__(self) -> str:
        return f"{'above' if self.above else 'at least'} {self.low:g} and " + (
            f"{'below' if self.below else 'at most'} {self.high:g}"
        )


@dataclass(frozen=True)
class Choice:
    """List the words that a setting may be."""

    words: tuple[str, ...]


Share = Annotated[float, Range(0, 1)]
"""A fraction or a probability."""
