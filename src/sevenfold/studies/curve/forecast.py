"""Judge a measured learning curve, and carry it beyond the pictures that are there."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float64
from scipy import stats

from sevenfold import evaluate
from sevenfold.studies.curve.families import FAMILIES, PLAIN, fit

LEAST_SIZES: Final = 5
LEAST_REPETITIONS: Final = 3
Places = Float64[np.ndarray, "places"]

HORIZON: Final = 8.0
"""How many times the pictures that are there a forecast may reach."""
_DRAWS: Final = 400
_REFUSED_AT: Final = 0.01  # chance of refusing a sound curve by each of the tests
_RISE: Final = 0.005  # of the error from one size to a larger one that counts
_MISS: Final = 0.01  # of the best family at a size that counts
_WIDEST: Final = 0.2  # of the interval at twice the pictures
_DOUBT: Final = 2.0  # the truth may be a curve of none of the families: benchmarks/curve.py
_BLUR: Final = 0.003  # differences between families below this do not tell them apart


@dataclass(frozen=True, eq=False, slots=True)
class Curve:
    """Hold what was measured.

    Args:
        pictures: that were trained on at each size, ascending, mean of the repetitions.
        errors: share of wrong answers of each repetition at each size.
    """

    pictures: Float64[np.ndarray, "sizes"]
    errors: Float64[np.ndarray, "repetitions sizes"]

    @property
    def noise(self) -> Float64[np.ndarray, "sizes"]:
        """Return the standard error of each size's mean, less what moves all sizes alike.

        A size by itself has too few repetitions for its own error: it is drawn halfway to
        the mean of all.
        """
        own = self.errors - self.errors.mean(axis=1, keepdims=True)
        # What the sizes' mean takes from each of them is given back.
        variance = own.var(axis=0, ddof=1) / len(own) * (own.shape[1] / (own.shape[1] - 1))
        return np.asarray(np.sqrt((variance + variance.mean()) / 2 + 1e-8))


@dataclass(frozen=True, eq=False, slots=True)
class Forecast:
    """Hold a mixture of fitted families.

    Args:
        names: of the families.
        weights: of each in the forecast; they sum to 1.
        doubts: of each in the interval, more even; they sum to 1.
        missed: by each at the sizes that were held out, root mean square.
        errors: of each family's fit to the mean curve, at each number of pictures.
        drawn: of each family's fit to each bootstrap draw.
    """

    names: tuple[str, ...]
    weights: Float64[np.ndarray, "families"]
    doubts: Float64[np.ndarray, "families"]
    missed: Float64[np.ndarray, "families"]
    errors: Float64[np.ndarray, "families places"]
    drawn: Float64[np.ndarray, "families draws places"]

    @property
    def middle(self) -> Float64[np.ndarray, "places"]:
        """Return the mixture's accuracy at each place."""
        return np.asarray(1 - self.weights @ self.errors)

    def ends(self) -> tuple[Float64[np.ndarray, "places"], Float64[np.ndarray, "places"]]:
        """Return the lower and upper end of the accuracy's 95 % interval at each place."""
        high, low = (1 - end for end in self._quantiles(self.drawn, (0.025, 0.975)))
        return np.minimum(low, self.middle), np.maximum(high, self.middle)

    def gain(self, first: int, second: int) -> tuple[float, float]:
        """Return the 95 % interval of what lies between the accuracies at two places."""
        gains = self.drawn[:, :, [first]] - self.drawn[:, :, [second]]
        low, high = self._quantiles(gains, (0.025, 0.975))
        return float(low[0]), float(high[0])

    def _quantiles(
        self, drawn: Float64[np.ndarray, "families draws some"], shares: tuple[float, ...]
    ) -> list[Float64[np.ndarray, "some"]]:
        """Return quantiles over draws and families together."""
        draws = drawn.shape[1]
        flat = drawn.reshape(-1, drawn.shape[2])
        order = np.argsort(flat, axis=0)
        below = np.cumsum(np.repeat(self.doubts / draws, draws)[order], axis=0)
        places = np.arange(flat.shape[1])
        return [
            np.take_along_axis(flat, order, 0)[np.argmax(below >= share, axis=0), places]
            for share in shares
        ]


def refusal(curve: Curve) -> str:
    """Say why a curve cannot be carried on; empty if it can.

    About 15 % of learning curves are not monotone (LCDB 1.1): an average of families would
    hide that. A curve is refused if it has too few points, if the error rises from one size
    to a larger one by more than chance (paired t tests, Bonferroni), or if no family comes
    near all its points (chi square).
    """
    repetitions, sizes = curve.errors.shape
    if sizes < LEAST_SIZES or repetitions < LEAST_REPETITIONS:
        return (
            f"too few points: it takes {LEAST_SIZES} sizes and {LEAST_REPETITIONS} repetitions, "
            f"and there are {sizes} and {repetitions}"
        )
    return _rise(curve) or _misfit(curve)


def _rise(curve: Curve) -> str:
    """Find a size at which the error is surely higher than at a smaller one."""
    repetitions, sizes = curve.errors.shape
    pairs = [(i, j) for i in range(sizes) for j in range(i + 1, sizes)]
    sure = stats.t.isf(_REFUSED_AT / len(pairs), repetitions - 1)
    worst, where = 0.0, (0, 0)
    for i, j in pairs:
        rises = curve.errors[:, j] - curve.errors[:, i]
        mean = float(rises.mean())
        bound = mean - sure * math.sqrt(float(rises.var(ddof=1)) / repetitions + 1e-8)
        if bound > 0 and mean > max(_RISE, worst):
            worst, where = mean, (i, j)
    if not worst:
        return ""
    few, many = (curve.pictures[at] for at in where)
    return (
        f"not monotone: with {many:,.0f} pictures the error is {100 * worst:.1f} points higher "
        f"than with {few:,.0f}"
    )


def _misfit(curve: Curve) -> str:
    """Find out whether even the best family misses points by more than their noise."""
    mean, noise = curve.errors.mean(axis=0), curve.noise
    misses = [
        fit(family, curve.pictures, mean[None], noise**-2).errors(curve.pictures)[0] - mean
        for family in FAMILIES
    ]
    best = min(misses, key=lambda miss: float(((miss / noise) ** 2).sum()))
    chance = stats.chi2.sf(((best / noise) ** 2).sum(), len(mean) - 3)
    worst = int(np.argmax(np.abs(best)))
    if chance >= _REFUSED_AT or abs(best[worst]) < _MISS:
        return ""
    return (
        f"no known shape: at {curve.pictures[worst]:,.0f} pictures the nearest curve misses by "
        f"{100 * abs(best[worst]):.1f} points, far more than the noise"
    )


def forecast(curve: Curve, places: Float64[np.ndarray, "places"], *, seed: int = 0) -> Forecast:
    r"""Carry a curve on: families weighed by how they foresee the largest sizes.

    Each family is fitted to the sizes up to half of the largest and asked for the others; its
    weight is $\exp(-m^2 / 2\sigma^2)$ with its root mean squared miss m and the noise
    $\sigma$ of what it was asked for. Then all are fitted to all sizes, and to bootstrap
    draws of the repetitions: the interval is of all draws and families together, in which
    families that foresaw a little less well count for more than in the forecast itself.

    A single power law that is fitted once over-estimates what is needed (Jain et al., CVPR
    2023); several families are Mahmood et al.'s (2022), who have a user choose among them.

    Args:
        curve: that `refusal` has nothing against.
        places: numbers of pictures.
        seed: of the bootstrap.
    """
    mean, noise = curve.errors.mean(axis=0), curve.noise
    known = curve.pictures <= 0.55 * curve.pictures[-1]
    known[: LEAST_SIZES - 2] = True
    weighing = noise**-2
    missed = np.array(
        [
            _missed(
                fit(family, curve.pictures[known], mean[None, known], weighing[known]).errors(
                    curve.pictures[~known]
                )[0]
                - mean[~known]
            )
            for family in FAMILIES
        ]
    )
    blur = math.hypot(_missed(noise[~known]), _BLUR)
    picked = np.random.default_rng(seed).integers(0, len(curve.errors), (_DRAWS, len(curve.errors)))
    drawn = curve.errors[picked].mean(axis=1)
    drawn = np.clip(evaluate.widened(mean, drawn, len(curve.errors)), 0.0, 1.0)
    fits = [fit(family, curve.pictures, np.vstack([mean, drawn]), weighing) for family in FAMILIES]
    errors = np.stack([one.errors(places) for one in fits])
    names = tuple(family.name for family in FAMILIES)
    weights, doubts = (_weights(missed, times * blur) for times in (1.0, _DOUBT))
    return Forecast(names, weights, doubts, missed, errors[:, 0], errors[:, 1:])


def _weights(
    missed: Float64[np.ndarray, "families"], blur: float
) -> Float64[np.ndarray, "families"]:
    weights = np.exp(-(missed**2 - missed.min() ** 2) / (2 * blur**2))
    return np.asarray(weights / weights.sum())


def _missed(gaps: Float64[np.ndarray, "sizes"]) -> float:
    return float(np.sqrt((gaps**2).mean()))


def power_law(curve: Curve, places: Float64[np.ndarray, "places"]) -> Float64[np.ndarray, "places"]:
    """Return the accuracy that a plain power law, fitted once, foretells: for comparison."""
    mean = curve.errors.mean(axis=0)
    return np.asarray(1 - fit(PLAIN, curve.pictures, mean[None], curve.noise**-2).errors(places)[0])


def too_wide(low: float, high: float) -> str:
    """Say that an interval at twice the pictures is too wide to be of use; empty if it is not."""
    if high - low <= _WIDEST:
        return ""
    return (
        f"too uncertain: with twice the pictures anything from {low:.0%} to {high:.0%} is possible"
    )


def reaching(
    target: float,
    places: Float64[np.ndarray, "places"],
    accuracies: Float64[np.ndarray, "places"],
) -> int | None:
    """Return the fewest pictures that reach an accuracy; None where no place does."""
    there = np.flatnonzero(accuracies >= target)
    return math.ceil(places[there[0]]) if len(there) else None
