"""Count what a network costs, and what it would cost with fewer channels."""

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from sevenfold.latency import Sizes
from sevenfold.practices.pruning.coupling import Coupling, Group
from sevenfold.practices.pruning.walk import DEPTHWISE, FILTER, INPUT

Counted = Literal["macs", "parameters"]


@dataclass(frozen=True)
class Cost:
    """Hold what a network costs for one picture.

    Args:
        layers: convolutions and linear layers by name.
        parameters: numbers that are trained.
    """

    layers: Mapping[str, Sizes]
    parameters: int

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates of all layers; biases and norms count nothing."""
        return sum(one.macs for one in self.layers.values())

    def of(self, counted: Counted) -> int:
        """Return what is counted."""
        return self.macs if counted == "macs" else self.parameters


def cost(network: nn.Module, side: int) -> Cost:
    """Count a network's multiply-accumulates and parameters by running it once.

    Args:
        network: maps pictures to logits.
        side: of the pictures, in pixels.

    Example:
        >>> from sevenfold import nets
        >>> cost(nets.small("resnet20", 10), 32).macs
        40551040
    """
    still = copy.deepcopy(network).eval()
    layers: dict[str, Sizes] = {}

    def count(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, _: Any, out: Tensor) -> None:
            if isinstance(module, nn.Conv2d):
                sizes = module.in_channels, module.out_channels, module.groups
                kernel, positions = int(np.prod(module.kernel_size)), int(np.prod(out.shape[2:]))
            else:
                assert isinstance(module, nn.Linear)
                sizes = module.in_features, module.out_features, 1
                kernel, positions = 1, out[0].numel() // module.out_features
            # A layer that runs twice costs twice.
            known = layers[name].positions if name in layers else 0
            layers[name] = Sizes(*sizes, kernel, known + positions)

        return hook

    for name, module in still.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count(name))
    parameter = next(still.parameters())
    with torch.inference_mode():
        still(torch.zeros(1, 3, side, side, dtype=parameter.dtype, device=parameter.device))
    return Cost(layers, sum(one.numel() for one in network.parameters()))


_ENDS: Final = {
    FILTER: ("outputs",),
    INPUT: ("inputs",),
    DEPTHWISE: ("inputs", "outputs", "groups"),
}


def remaining(dense: Cost, coupling: Coupling, gone: Mapping[str, int]) -> Cost:
    """Return the cost after channels of groups went, without building the network.

    Args:
        dense: cost of the network that the coupling is of.
        coupling: of the network.
        gone: for each group by name, how many channels go.
    """
    lost: Counter[tuple[str, str]] = Counter()
    vectors = 0
    for name, count in gone.items():
        for one in coupling.group(name).members:
            each = one.places.shape[1] * count
            if one.tensor == "weight" and one.role in _ENDS:
                lost.update({(one.module, end): each for end in _ENDS[one.role]})
            elif one.tensor in ("weight", "bias"):
                vectors += each
    layers = {
        name: replace(
            one,
            inputs=one.inputs - lost[name, "inputs"],
            outputs=one.outputs - lost[name, "outputs"],
            groups=one.groups - lost[name, "groups"],
        )
        for name, one in dense.layers.items()
    }
    matrices = sum(one.weights - layers[name].weights for name, one in dense.layers.items())
    return Cost(layers, dense.parameters - matrices - vectors)


def saved(dense: Cost, coupling: Coupling, group: Group, counted: Counted) -> int:
    """Return how much one channel of a group saves, all others in place."""
    return dense.of(counted) - remaining(dense, coupling, {group.name: 1}).of(counted)


def by_cost(
    scores: Sequence[Float64[np.ndarray, "channels"]],
    coupling: Coupling,
    dense: Cost,
    counted: Counted,
) -> tuple[Float64[np.ndarray, "channels"], ...]:
    """Divide scores by how much of what is counted each channel saves."""
    return tuple(
        one / max(saved(dense, coupling, group, counted), 1)
        for one, group in zip(scores, coupling.groups, strict=True)
    )
