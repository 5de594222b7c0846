"""Choose how far a network goes from the weights that run towards those that it was tuned to.

What a few epochs teach pulls at what the running weights knew: all the way, the log loss of
old and new pictures together often rises, and on the straight line between both ends it is
lowest somewhere before (Wortsman et al. 2022, arXiv 2109.01903: there for other data than a
network was tuned to, with a fixed place on the line; here the place is measured).
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sevenfold import evaluate

WAYS: Final = (0.25, 0.5, 0.75, 1.0)
"""Shares of the way that are asked about."""

Weights = Mapping[str, Tensor]


def weights(network: nn.Module) -> Weights:
    """Copy what a network holds."""
    return {name: held.detach().cpu().clone() for name, held in network.state_dict().items()}


def put(network: nn.Module, begun: Weights, ended: Weights, way: float) -> None:
    """Put a network so far on its way. Changes it; what did not move stays to the bit."""
    network.load_state_dict(
        {
            name: torch.lerp(begun[name], held, way) if held.is_floating_point() else held
            for name, held in ended.items()
        }
    )


def shortest(
    logits: Float[np.ndarray, "ways judged classes"], labels: Int64[np.ndarray, "judged"]
) -> int:
    """Choose the shortest way whose log loss is within one standard error of the least.

    Each way has its own temperature, as each would be shipped with one.

    Args:
        logits: at each of `WAYS`, of pictures that no training saw.
        labels: of those pictures.

    Returns:
        Which; the whole way where there is no picture to tell.

    Example:
        >>> sure, unsure = np.eye(3)[None] * 9, np.zeros((1, 3, 3))
        >>> shortest(np.concatenate([unsure, sure, sure, unsure]), np.arange(3))
        1
    """
    if not len(labels):
        return len(logits) - 1
    losses = np.stack([evaluate.calibrated_losses(one, labels) for one in logits])
    least = losses[int(losses.mean(axis=1).argmin())]
    for at, loss in enumerate(losses):
        more = loss - least
        if more.mean() <= more.std() / len(more) ** 0.5:
            return at
    return len(losses) - 1
