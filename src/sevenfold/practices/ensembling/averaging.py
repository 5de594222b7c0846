"""Average the weights of members into one network."""

import copy
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

Net = TypeVar("Net", bound=nn.Module)


@torch.no_grad()
def averaged(networks: Sequence[Net], weights: Float[np.ndarray, "members"]) -> Net:
    r"""Average networks that were trained from the same start.

    $$\bar\theta = \sum_k w_k \theta_k$$

    over parameters and batch-norm statistics alike. Members that started from the same
    pretrained weights lie in one valley of the loss, whose middle answers as their vote does
    at the cost of one network; members of random starts do not, and their average is of no
    use (Wortsman et al. 2022, *Model soups*, arXiv 2203.05482; we take every member with its
    weight in the vote and average the statistics too, where the paper adds members one by one).

    Args:
        networks: of one architecture.
        weights: of each; they sum to 1.

    Returns:
        A new network in evaluation mode.

    Example:
        >>> pair = [nn.Linear(1, 1), nn.Linear(1, 1)]
        >>> for value, linear in zip((1.0, 3.0), pair):
        ...     _ = nn.init.constant_(linear.weight, value)
        >>> averaged(pair, np.array([0.5, 0.5])).weight.item()
        2.0
    """
    states = [network.state_dict() for network in networks]
    middle = copy.deepcopy(networks[0])
    middle.load_state_dict(
        {
            name: sum(
                weight * state[name].double() for weight, state in zip(weights, states, strict=True)
            ).to(first.dtype)
            if first.is_floating_point()
            else first
            for name, first in states[0].items()
        }
    )
    return middle.eval()
