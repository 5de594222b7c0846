"""Practice 2: move the weights by the right optimizer, at the right rate."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from sevenfold.errors import UsageError
from sevenfold.ranges import Range, Share

NAMES: Final = ("adamw", "sgd")
# Where the probe looks: docs/log.md, 2026-11-24.
RATES: Final = {"adamw": (5e-4, 1e-3, 2e-3), "sgd": (0.03, 0.1, 0.3)}
PROBE_STEPS: Final = 12


@dataclass(frozen=True)
class Optimization:
    """Say how the weights are moved.

    Args:
        name: one of `NAMES`.
        rate: the largest learning rate, above 0; 0 chooses one by a probe of a
            fixed number of steps.
        weight_decay: decoupled for AdamW, 0 or more; never on norms and biases.
        momentum: of SGD, and the first of Adam's two, 0 to below 1.
        warmup: share of all steps in which the rate rises, 0 to 1.
        layer_decay: factor of the rate from each block to the one before it,
            above 0 to 1.
        average: share of all steps over which the weights are averaged, 0 to 1;
            0 keeps the last weights.
        smoothing: share of each target that is spread over all classes, 0 to below 1
            (Szegedy et al. 2015, arXiv 1512.00567).
        patience: share of all epochs without improvement after which training
            stops, above 0 to 1.
    """

    name: str = "adamw"
    rate: Annotated[float, Range(0, 10)] = 0.0
    weight_decay: Annotated[float, Range(0, 10)] = 0.05
    momentum: Annotated[float, Range(0, 1, below=True)] = 0.9
    warmup: Share = 0.1
    layer_decay: Annotated[float, Range(0, 1, above=True)] = 0.9
    average: Share = 0.1
    smoothing: Annotated[float, Range(0, 1, below=True)] = 0.1
    patience: Annotated[float, Range(0, 1, above=True)] = 0.5

    off: ClassVar["Optimization"]


Optimization.off = Optimization(
    name="sgd", weight_decay=5e-4, layer_decay=1.0, average=0.0, smoothing=0.0, patience=1.0
)


def check(settings: Optimization) -> None:
    """Refuse an optimizer that is not there.

    Raises:
        UsageError: the name is unknown.
    """
    if settings.name not in NAMES:
        raise UsageError(
            f"optimization.name = {settings.name!r} is not an optimizer of this version",
            f"choose one of {', '.join(NAMES)}",
        )


def groups(
    blocks: Sequence[nn.Module], head: nn.Module, settings: Optimization, rate: float
) -> list[dict[str, Any]]:
    """Part parameters by depth and by whether they decay.

    Block k of n has the rate `rate * layer_decay**(n - k)`, the head `rate`.

    Args:
        blocks: from the cut upwards; what lies between them and the head counts
            as the last.
        head: the linear layer.
        settings: decay and layer decay.
        rate: of the head.
    """
    found = []
    for depth, module in enumerate(reversed([*blocks, head])):
        for decays in (True, False):
            weights = [
                weight
                for weight in module.parameters()
                if weight.requires_grad and (weight.ndim > 1) == decays
            ]
            if weights:
                found.append(
                    {
                        "params": weights,
                        "lr": rate * settings.layer_decay**depth,
                        "weight_decay": settings.weight_decay if decays else 0.0,
                    }
                )
    return found


def smooth(
    targets: Float[Tensor, "pictures classes"], settings: Optimization
) -> Float[Tensor, "pictures classes"]:
    r"""Spread a share of each target over all classes.

    $$t' = (1 - s)\,t + s / K$$

    Args:
        targets: soft labels; rows sum to 1.
        settings: `smoothing` is $s$.
    """
    return (1 - settings.smoothing) * targets + settings.smoothing / targets.shape[1]


def optimizer(settings: Optimization, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Make the optimizer over grouped parameters.

    Raises:
        UsageError: the name is unknown.
    """
    check(settings)
    if settings.name == "sgd":
        return torch.optim.SGD(parameters, momentum=settings.momentum)
    return torch.optim.AdamW(parameters, betas=(settings.momentum, 0.999))


def schedule(moved: torch.optim.Optimizer, settings: Optimization, steps: int) -> LRScheduler:
    """Raise the rate linearly, then lower it along half a cosine to zero.

    The cosine is Loshchilov & Hutter's (2017, arXiv 1608.03983), without restarts.

    Args:
        moved: the optimizer.
        settings: `warmup`.
        steps: in all.
    """
    rising = max(1, round(settings.warmup * steps))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    return LambdaLR(moved, factor)


@dataclass(frozen=True)
class Probed:
    """Hold what the rate probe saw."""

    rate: float
    loss: float


def probe(settings: Optimization, loss_at: Callable[[float], float]) -> tuple[float, list[Probed]]:
    """Choose the rate: the given one, or the best of three after a few steps each.

    Args:
        settings: a rate above 0 is taken as it is.
        loss_at: trains from the start for `PROBE_STEPS` steps at a rate and
            returns the loss.

    Returns:
        The rate, and what the probe saw (empty where it did not run).
    """
    if settings.rate > 0:
        return settings.rate, []
    check(settings)
    seen = [Probed(rate, loss_at(rate)) for rate in RATES[settings.name]]
    best = min(seen, key=lambda one: one.loss)
    return best.rate, seen
