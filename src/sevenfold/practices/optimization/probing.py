"""Find a learning rate by a few steps of each candidate."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sevenfold.practices.optimization.settings import Optimization, check

PROBE_STEPS: Final = 12


# AdamW's: docs/log.md, 2026-11-24. Adam's and the switch's follow it; RMSprop with a
# momentum of 0.9 takes steps ten times as long at the same rate; Adadelta's own unit is 1.
RATES: Final = {
    "sgd": (0.03, 0.1, 0.3),
    "adam": (5e-4, 1e-3, 2e-3),
    "adamw": (5e-4, 1e-3, 2e-3),
    "rmsprop": (5e-5, 1e-4, 2e-4),
    "adadelta": (0.3, 1.0, 3.0),
    "switch": (5e-4, 1e-3, 2e-3),
}
"""Candidates of the head's rate in fine-tuning."""

# SGD's around 0.1: He et al. 2015, arXiv 1512.03385. Adam's around 1e-3: Kingma & Ba 2014,
# arXiv 1412.6980.
SCRATCH_RATES: Final = {
    "sgd": (0.05, 0.1, 0.2),
    "adam": (1e-3, 2e-3, 4e-3),
    "adamw": (1e-3, 2e-3, 4e-3),
    "rmsprop": (1e-4, 2e-4, 4e-4),
    "adadelta": (0.3, 1.0, 3.0),
    "switch": (1e-3, 2e-3, 4e-3),
}
"""Candidates of the rate from a random start."""


def rates(settings: Optimization, pretrained: bool = True) -> tuple[float, ...]:
    """List the rates that the probe tries.

    Args:
        settings: `name`.
        pretrained: whether the network starts from trained weights.

    Raises:
        UsageError: the name is unknown, or a setting does not go with it.

    Example:
        >>> rates(Optimization(name="sgd"), pretrained=False)
        (0.05, 0.1, 0.2)
    """
    check(settings)
    return (RATES if pretrained else SCRATCH_RATES)[settings.name]


def probed_batch(batch: int) -> int:
    """Return the pictures in a step of the probe: half of a training's, where that is above 32.

    Half takes half as long, and chose the same rate in five of six probes and its neighbour
    in one (docs/log.md, 2026-11-30).

    Args:
        batch: pictures in a step of the training.

    Example:
        >>> probed_batch(16), probed_batch(64), probed_batch(512)
        (16, 32, 256)
    """
    return min(batch, max(32, batch // 2))


@dataclass(frozen=True)
class Probed:
    """Hold what the rate probe saw."""

    rate: float
    loss: float


def probe(
    settings: Optimization, loss_at: Callable[[float], float], pretrained: bool = True
) -> tuple[float, list[Probed]]:
    """Choose the rate: the given one, or the best of three after a few steps each.

    Args:
        settings: a rate above 0 is taken as it is.
        loss_at: trains from the start for `PROBE_STEPS` steps of `probed_batch`
            pictures at a rate, and returns the loss.
        pretrained: whether the network starts from trained weights.

    Returns:
        The rate, and what the probe saw (empty where it did not run).

    Raises:
        UsageError: the name is unknown, or a setting does not go with it.
    """
    if settings.rate > 0:
        return settings.rate, []
    seen = [Probed(rate, loss_at(rate)) for rate in rates(settings, pretrained)]
    best = min(seen, key=lambda one: one.loss)
    return best.rate, seen
