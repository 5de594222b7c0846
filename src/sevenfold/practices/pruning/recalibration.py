"""Measure batch-norm statistics anew after channels or blocks went, or keep them still."""

import contextlib
import copy
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def recalibrated(
    network: Network, batches: Iterable[Float[Tensor, "batch 3 side side"]]
) -> Network:
    """Return a copy whose batch norms hold the statistics of these pictures.

    The plain average over all batches, as for weight averaging (Izmailov et al.
    2018, arXiv 1803.05407). Channels that read what was removed see other values
    than before. Behind a frozen trunk the old statistics may serve better all the same: there
    `train.pruned` tries both, and keeps those by `still`.

    Args:
        network: stays as it is.
        batches: training pictures, a few hundred; of none the statistics stay.
    """
    fresh = copy.deepcopy(network).train()
    norms = [one for one in fresh.modules() if isinstance(one, _NORMS)]
    momenta = [one.momentum for one in norms]
    first = True
    with torch.no_grad():
        for pixels in batches:
            for one in norms if first else ():
                one.reset_running_stats()
                one.momentum = None  # of torch: the cumulative average
            first = False
            fresh(pixels)
    for one, momentum in zip(norms, momenta, strict=True):
        one.momentum = momentum
    return fresh.eval()


@contextlib.contextmanager
def still(network: nn.Module) -> Iterator[None]:
    """Let batch norms use the statistics that they hold, also while the network is trained.

    Changes the network for as long.

    Args:
        network: any; its norms' weights are trained all the same.
    """
    handles = [
        one.register_forward_pre_hook(_evaluating)
        for one in network.modules()
        if isinstance(one, _NORMS)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _evaluating(norm: nn.Module, _: Any) -> None:
    # `train()` of a network switches all of its modules.
    norm.eval()
