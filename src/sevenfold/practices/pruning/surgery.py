"""Cut channels out of a network, and prove that nothing else changed."""

import copy
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sevenfold import nets
from sevenfold.errors import GateRefused, UsageError
from sevenfold.practices.pruning.coupling import Coupling, Member
from sevenfold.practices.pruning.shapes import count_anew
from sevenfold.practices.pruning.trace import UNPRUNED
from sevenfold.practices.pruning.walk import DEPTHWISE, FILTER, NORM, PADDING, SEEN

LARGEST_DIFFERENCE: Final = 1e-5
"""Largest difference of logits that a removal may make, relative to the largest logit."""

Removal = Mapping[str, Sequence[int]]
"""For each group by name, the channels that go."""


def _checked(coupling: Coupling, removal: Removal) -> None:
    known = {one.name: one for one in coupling.groups}
    for name, channels in removal.items():
        if name not in known:
            why = [one.reason for one in coupling.refused if one.name == name]
            raise UsageError(
                f"the channels of {name!r} cannot go: {(*why, 'no group has this name')[0]}",
                "take the names of the coupling's groups",
            )
        count = known[name].channels
        if not set(channels) < set(range(count)):
            raise UsageError(
                f"channels {sorted(set(channels))} of {name!r} cannot go: it has {count}, "
                "and one must stay",
                f"name fewer of the channels 0 to {count - 1}",
            )


def _gone(member: Member, channels: Sequence[int]) -> set[int]:
    return set(member.places[sorted(set(channels))].ravel().tolist())


def _cut_tensor(module: nn.Module, name: str, axis: int, gone: set[int]) -> None:
    tensor: Tensor = getattr(module, name)
    kept = torch.tensor([at for at in range(tensor.shape[axis]) if at not in gone])
    smaller = tensor.detach().index_select(axis, kept.to(tensor.device))
    if isinstance(tensor, nn.Parameter):
        setattr(module, name, nn.Parameter(smaller, tensor.requires_grad))
    else:
        setattr(module, name, smaller)


def _cut_padding(network: nn.Module, name: str, gone: set[int]) -> None:
    block = network.get_submodule(name)
    assert isinstance(block, nets.Residual)
    before, after = block.padding
    lost = sum(at < before for at in gone)
    block.padding = before - lost, after - (len(gone) - lost)


def cut(network: nn.Module, coupling: Coupling, removal: Removal) -> nn.Module:
    """Return a smaller copy without any proof; `remove` proves it."""
    _checked(coupling, removal)
    smaller = copy.deepcopy(network)
    places: dict[tuple[str, str, int, str], set[int]] = {}
    for name, channels in removal.items():
        for one in coupling.group(name).members:
            key = (one.module, one.tensor, one.axis, one.role)
            places.setdefault(key, set()).update(_gone(one, channels))
    for (module, tensor, axis, role), gone in places.items():
        if role == PADDING:
            _cut_padding(smaller, module, gone)
        elif role != SEEN and gone:
            _cut_tensor(smaller.get_submodule(module), tensor, axis, gone)
    for module, _, _, role in places:
        if role != SEEN:
            count_anew(smaller.get_submodule(module))
    return smaller


def zeroed(network: nn.Module, coupling: Coupling, removal: Removal) -> nn.Module:
    """Return a copy of the same size in which the filters that go are zero.

    The rows of the convolutions that make the channels, of depthwise ones, and
    scale and shift of the batch norms behind them.

    Raises:
        UsageError: a group or channel does not exist, or none would stay.
    """
    _checked(coupling, removal)
    same = copy.deepcopy(network)
    with torch.no_grad():
        for name, channels in removal.items():
            for one in coupling.group(name).members:
                statistics = one.tensor.startswith("running_")
                if one.role in (FILTER, DEPTHWISE, NORM) and not statistics:
                    tensor = getattr(same.get_submodule(one.module), one.tensor)
                    tensor[sorted(_gone(one, channels))] = 0
    return same


def difference(
    dense: nn.Module, smaller: nn.Module, pixels: Float[Tensor, "batch 3 side side"]
) -> float:
    """Return how far two networks' logits are apart.

    `max |a - b| / max |a|`, in evaluation mode and double precision: with
    float32, the order of summation alone can differ by more than the bound in
    deep networks, and a bound that forgives rounding forgives a fault. Relative
    to the largest logit, because a network with logits around 1e-4 would pass
    any absolute bound.

    Args:
        dense: the network to agree with.
        smaller: the network in question.
        pixels: pictures, best real ones.
    """

    def logits(network: nn.Module) -> Tensor:
        double = copy.deepcopy(network).to("cpu", torch.float64).eval()
        with torch.inference_mode():
            found: Tensor = double(pixels.detach().to("cpu", torch.float64))
        return found

    wanted, found = logits(dense), logits(smaller)
    if wanted.shape != found.shape:
        return float("inf")
    return float((wanted - found).abs().max() / wanted.abs().max().clamp_min(1e-300))


def prove(
    dense_zeroed: nn.Module, smaller: nn.Module, pixels: Float[Tensor, "batch 3 side side"]
) -> float:
    """Return how far a smaller network is from the zeroed one, if it is near enough.

    Args:
        dense_zeroed: the network of the old size, see `zeroed`.
        smaller: the network of the new size.
        pixels: pictures, best real ones.

    Raises:
        GateRefused: the difference is not under `LARGEST_DIFFERENCE` (see
            `difference`), or the smaller network does not run.
    """
    cure = f"nothing was changed; {UNPRUNED}"
    try:
        found = difference(dense_zeroed, smaller, pixels)
    except RuntimeError as error:
        raise GateRefused(
            f"the smaller network does not run ({str(error).partition(chr(10))[0]})", cure
        ) from error
    if not found <= LARGEST_DIFFERENCE:
        raise GateRefused(
            f"the smaller network is not what is left of the larger: logits differ by {found:.2g} "
            f"of the largest, more than {LARGEST_DIFFERENCE:g}",
            cure,
        )
    return found


def remove(
    network: nn.Module,
    coupling: Coupling,
    removal: Removal,
    pixels: Float[Tensor, "batch 3 side side"],
) -> nn.Module:
    """Return a smaller copy of a network, proved to be what is left of it.

    Args:
        network: stays as it is.
        coupling: of this network.
        removal: for each group by name, the channels that go.
        pixels: pictures on which it is proved, see `prove`.

    Raises:
        UsageError: a group or channel does not exist, or none would stay.
        GateRefused: the proof failed.

    Example:
        >>> from sevenfold.practices.pruning.coupling import couple
        >>> network = nets.small("plain20", 10)
        >>> pixels = torch.rand(2, 3, 32, 32) * 255
        >>> smaller = remove(network, couple(network, 32), {"blocks.0.0.0": [0, 7]}, pixels)
        >>> smaller.get_submodule("blocks.0.0.0").out_channels
        14
    """
    smaller = cut(network, coupling, removal)
    prove(zeroed(network, coupling, removal), smaller, pixels)
    return smaller
