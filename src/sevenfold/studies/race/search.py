"""Lay out the settings that a race tries: as many for each optimizer, by the same rule."""

import math
import warnings
from dataclasses import dataclass
from itertools import permutations
from typing import Final

import numpy as np
import optuna
from jaxtyping import Int64, Real

from sevenfold import draws
from sevenfold.practices import optimization
from sevenfold.practices.optimization import Optimization

FEW: Final = 8
"""Most trials that are laid out in strata."""
LIGHT_DECAY: Final = 1e-5
"""Middle of the decays of an optimizer whose own is 0, as Adam's: RMSprop's own."""


@dataclass(frozen=True)
class Space:
    """Bound what is tried: both are log-uniform over one decade.

    Args:
        rate: lowest and highest learning rate.
        weight_decay: lowest and highest decay.
    """

    rate: tuple[float, float]
    weight_decay: tuple[float, float]


@dataclass(frozen=True)
class Tried:
    """Hold one point of a space."""

    rate: float
    weight_decay: float


def space(name: str, pretrained: bool) -> Space:
    """Return the decade around an optimizer's own rate and the one around its own decay.

    Args:
        name: of `optimization.NAMES`.
        pretrained: whether the network starts from trained weights.

    Example:
        >>> [round(end, 4) for end in space("sgd", pretrained=True).rate]
        [0.0316, 0.3162]
    """
    own = Optimization(name=name)
    candidates = optimization.rates(own, pretrained)
    decay = optimization.decay(own) or LIGHT_DECAY
    return Space(_decade(candidates[len(candidates) // 2]), _decade(decay))


def _decade(middle: float) -> tuple[float, float]:
    return middle / math.sqrt(10), middle * math.sqrt(10)


def points(bounds: Space, count: int, seed: int) -> tuple[Tried, ...]:
    """Lay so many points out, the same in all spaces, each on its own scale.

    Up to `FEW` are a Latin hypercube (McKay, Beckman & Conover 1979): the range of rates and
    that of decays are parted into as many strata, alike on a log scale, and the middle of each
    is tried once. So few scrambled points would leave half of the range out. Beyond, the middle
    of the space is followed by Owen's scrambled Sobol sequence (1998), asked of Optuna in one
    batch.

    Nothing depends on what a point scored or on which ended first, so that a race that was
    stopped goes on with the same points, and one whose trials run side by side tries the same
    ones. Quasi-random search is what Choi et al. (2019, arXiv 1910.05446) compare optimizers by.

    Args:
        bounds: the space.
        count: of points, 1 or more.
        seed: of which decay goes with which rate, or of the sequence.

    Returns:
        The points, up to `FEW` by rising rate.

    Example:
        >>> tried = points(Space(rate=(0.01, 1.0), weight_decay=(1e-4, 1e-2)), 3, seed=0)
        >>> [round(point.rate, 3) for point in tried]
        [0.022, 0.1, 0.464]
    """
    if count > FEW:
        return _sequence(bounds, count, seed)
    return tuple(
        Tried(_at(bounds.rate, (place + 0.5) / count), _at(bounds.weight_decay, (of + 0.5) / count))
        for place, of in enumerate(_paired(count, seed))
    )


def _at(ends: tuple[float, float], share: float) -> float:
    low, high = ends
    return float(low * (high / low) ** share)


def _paired(count: int, seed: int) -> list[int]:
    """Return the stratum of decay for each stratum of rate.

    Of all pairings those whose nearest two points are farthest apart (maximin: Johnson, Moore &
    Ylvisaker 1990), of these the ones that correlate least, of these one by the seed. Two points
    correlate fully and three by a half, whatever their pairing.
    """
    ways = np.array(list(permutations(range(count))))
    first, second = np.triu_indices(count, 1)
    squares = (first - second) ** 2 + (ways[:, first] - ways[:, second]) ** 2
    ways = _highest(ways, squares.min(axis=1, initial=2 * count**2))
    middle = (count - 1) / 2
    ways = _highest(ways, -np.abs((ways - middle) @ (np.arange(count) - middle)))
    chosen: list[int] = ways[draws.number(f"{seed}/search") % len(ways)].tolist()
    return chosen


def _highest(
    ways: Int64[np.ndarray, "ways points"], scores: Real[np.ndarray, "ways"]
) -> Int64[np.ndarray, "best points"]:
    return np.asarray(ways[scores == scores.max()])


def _sequence(bounds: Space, count: int, seed: int) -> tuple[Tried, ...]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.QMCSampler(qmc_type="sobol", scramble=True, seed=seed)
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial({name: math.sqrt(low * high) for name, (low, high) in vars(bounds).items()})
    ends: dict[str, optuna.distributions.BaseDistribution] = {
        name: optuna.distributions.FloatDistribution(low, high, log=True)
        for name, (low, high) in vars(bounds).items()
    }
    found = []
    for _ in range(count):
        trial = study.ask(ends)
        found.append(Tried(**trial.params))
        study.tell(trial, 0.0)
    return tuple(found)
