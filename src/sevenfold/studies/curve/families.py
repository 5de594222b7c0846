"""Fit the families of curves that errors have followed, each to many draws at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float64

Array = Float64[np.ndarray, "..."]

_FAR: Final = 50.0
"""The logarithm's error may reach 0 at this many times the largest size, not before."""


@dataclass(frozen=True, slots=True)
class Family:
    r"""Describe curves of the form $e(x) = c + a\,\varphi_s(x)$, $a \ge 0$, $0 \le c$.

    Args:
        name: for people.
        shape: $\varphi$, from x, the pictures as a share of the largest size, and the
            steepness s; falls with x.
        steepnesses: that are tried.
        floor: whether c may be above 0.
    """

    name: str
    shape: Callable[[Array, Array], Array]
    steepnesses: Array
    floor: bool = True


def _power(x: Array, s: Array) -> Array:
    return np.asarray(x**-s)


FAMILIES: Final = (
    Family("power law", _power, np.geomspace(0.02, 2, 40), floor=False),
    # Exponents that were measured lie between 0.07 and 0.5 (Hestness et al. 2017).
    Family("power law with a floor", _power, np.geomspace(0.05, 1.5, 40)),
    Family("exponential", lambda x, s: np.exp(-x / s), np.geomspace(0.02, 4, 40)),
    Family(
        "stretched exponential",
        lambda x, s: np.exp(-np.sqrt(x / s)),
        np.geomspace(0.002, 10, 40),
    ),
    Family("logarithm", lambda x, s: np.log(_FAR / x) * s, np.ones(1)),
    Family(
        "arctangent",
        lambda x, s: 1 - 2 / np.pi * np.arctan(x / s),
        np.geomspace(0.01, 10, 40),
    ),
)
PLAIN: Final = FAMILIES[0]


@dataclass(frozen=True, eq=False, slots=True)
class Fit:
    """Hold one family's parameters for each draw of a curve.

    Args:
        family: which.
        scale: a.
        floor: c.
        steepness: s.
        largest: the pictures that are x = 1.
    """

    family: Family
    scale: Float64[np.ndarray, "draws"]
    floor: Float64[np.ndarray, "draws"]
    steepness: Float64[np.ndarray, "draws"]
    largest: float

    def errors(
        self, pictures: Float64[np.ndarray, "places"]
    ) -> Float64[np.ndarray, "draws places"]:
        """Return the error at numbers of pictures, 0 to 1."""
        shape = self.family.shape(pictures[None] / self.largest, self.steepness[:, None])
        return np.asarray(np.clip(self.floor[:, None] + self.scale[:, None] * shape, 0.0, 1.0))


def fit(
    family: Family,
    pictures: Float64[np.ndarray, "sizes"],
    errors: Float64[np.ndarray, "draws sizes"],
    weights: Float64[np.ndarray, "sizes"],
) -> Fit:
    r"""Fit a family to each draw by least squares within the bounds.

    Given s the curve is linear in a and c, so that their best values are known; s is
    searched on a grid. There is no start to choose and no local minimum to end in.

    Args:
        family: which.
        pictures: sizes, ascending.
        errors: of each draw at each size, 0 to 1.
        weights: of each size; the scale does not matter.
    """
    largest = float(pictures[-1])
    shapes = family.shape(pictures[None] / largest, family.steepnesses[:, None])
    scales, floors = _linear(shapes, errors, weights / weights.sum(), family.floor)
    missed = floors[..., None] + scales[..., None] * shapes[:, None] - errors[None]
    best = np.argmin((weights * missed**2).sum(axis=2), axis=0)
    draws = np.arange(len(errors))
    return Fit(family, scales[best, draws], floors[best, draws], family.steepnesses[best], largest)


def _linear(
    shapes: Float64[np.ndarray, "grid sizes"],
    errors: Float64[np.ndarray, "draws sizes"],
    weights: Float64[np.ndarray, "sizes"],
    floor: bool,
) -> tuple[Float64[np.ndarray, "grid draws"], Float64[np.ndarray, "grid draws"]]:
    """Return a and c of the least squares with a >= 0 and c >= 0 (c = 0 without a floor)."""
    mean_y = errors @ weights
    mean_xy = (shapes * weights) @ errors.T
    mean_x = (shapes @ weights)[:, None]
    mean_xx = (shapes**2 @ weights)[:, None]
    through_zero = np.maximum(mean_xy / mean_xx, 0.0)
    if not floor:
        return through_zero, np.zeros_like(through_zero)
    spread = np.maximum(mean_xx - mean_x**2, 1e-300)
    scale = np.maximum((mean_xy - mean_x * mean_y) / spread, 0.0)
    rest = mean_y - scale * mean_x
    inside = rest >= 0
    return np.where(inside, scale, through_zero), np.where(inside, rest, 0.0)
