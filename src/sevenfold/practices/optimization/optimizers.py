"""Build the optimizer over grouped parameters, and the schedule of its rate."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from sevenfold.practices.optimization.settings import Optimization, check, decay, layer_decay
from sevenfold.practices.optimization.switch import Switch


def groups(
    blocks: Sequence[nn.Module],
    head: nn.Module,
    settings: Optimization,
    rate: float,
    pretrained: bool = True,
) -> list[dict[str, Any]]:
    """Part parameters by depth and by whether they decay.

    The head has `rate`, what lies right below it `rate * layer_decay`, the next
    `rate * layer_decay**2`: block k of n, counted from 0, `rate * layer_decay**(n - k)`.

    Args:
        blocks: from the cut upwards; what lies between them and the head counts
            as the last.
        head: the linear layer.
        settings: decay and layer decay.
        rate: of the head.
        pretrained: whether the network starts from trained weights.
    """
    found, fall = [], layer_decay(settings, pretrained)
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
                        "lr": rate * fall**depth,
                        "weight_decay": decay(settings) if decays else 0.0,
                    }
                )
    return found


def smooth(
    targets: Float[Tensor, "pictures classes"],
    settings: Optimization,
    spread: Float[Tensor, "classes"],
) -> Float[Tensor, "pictures classes"]:
    r"""Spread a share of each target over all classes.

    $$t' = (1 - s)\,t + s\,u / K$$

    Args:
        targets: soft labels; rows sum to 1.
        settings: `smoothing` is $s$.
        spread: $u$, of each class, 1 on average.
    """
    return (1 - settings.smoothing) * targets + settings.smoothing / targets.shape[1] * spread


def optimizer(
    settings: Optimization,
    parameters: list[dict[str, Any]],
    *,
    steps: int = 0,
    epochs: int = 1,
) -> torch.optim.Optimizer:
    """Make the optimizer over grouped parameters.

    Args:
        settings: which one, its momentum and the switch's criterion.
        parameters: from `groups`: each has its rate and its decay.
        steps: in all, as for `schedule`; the switch waits for the end of the rate's
            rise, and with 0 it stays with Adam.
        epochs: in all; the switch compares one with the next.

    Raises:
        UsageError: the name is unknown, or a setting does not go with it.
    """
    check(settings)
    momentum, betas = settings.momentum, (settings.momentum, 0.999)
    match settings.name:
        case "sgd":
            return torch.optim.SGD(parameters, momentum=momentum, nesterov=settings.nesterov)
        case "adam":
            return torch.optim.Adam(parameters, betas=betas)
        case "adamw":
            return torch.optim.AdamW(parameters, betas=betas)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, momentum=momentum)
        case "adadelta":
            return torch.optim.Adadelta(parameters)
        case _:
            return Switch(
                parameters,
                betas=betas,
                nesterov=settings.nesterov,
                window=steps // epochs,
                warmup=_rising(settings, steps),
                criterion=settings.criterion,
            )


def schedule(moved: torch.optim.Optimizer, settings: Optimization, steps: int) -> LRScheduler:
    """Raise the rate linearly, then lower it along half a cosine to zero.

    The cosine is Loshchilov & Hutter's (2017, arXiv 1608.03983), without restarts.

    Args:
        moved: the optimizer.
        settings: `warmup`.
        steps: in all.
    """
    rising = _rising(settings, steps)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    return LambdaLR(moved, factor)


def _rising(settings: Optimization, steps: int) -> int:
    return max(1, round(settings.warmup * steps))
