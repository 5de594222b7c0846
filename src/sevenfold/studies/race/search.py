"""Lay out the settings that a race tries: as many for each optimizer, by the same rule."""

import math
import warnings
from dataclasses import dataclass
from typing import Final

import optuna

from sevenfold.practices import optimization
from sevenfold.practices.optimization import Optimization

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
    """Lay so many points out: the middle, then Owen's scrambled Sobol sequence (1998).

    They are asked for in one batch, before any is tried, and told in their order. Nothing
    depends on what a point scored or on which ended first, so that a race that was stopped
    goes on with the same points, and one whose trials run side by side tries the same ones;
    and all spaces have the same points, each on its own scale.
    Quasi-random search is what Choi et al. (2019, arXiv 1910.05446) compare optimizers by.

    Args:
        bounds: the space.
        count: of points, 1 or more.
        seed: of the sequence.
    """
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
