"""Remove whole residual blocks, and any block as Veit et al. did to look what happens.

A residual block whose shortcut is the identity passes its input on when all its
weights are zero. That is how such blocks are found, whatever family they are of:
what the input has been through a ReLU does not change in another one.
"""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sevenfold import nets
from sevenfold.practices.pruning.rankings import Batches
from sevenfold.practices.pruning.shapes import put
from sevenfold.practices.pruning.surgery import prove

_LAYERS = (nn.Conv2d, nn.Linear)


def _passes(
    network: nn.Module,
    pixels: Float[Tensor, "batch 3 side side"],
    test: Callable[[nn.Module, Tensor, Tensor], bool],
) -> tuple[str, ...]:
    """Return the names of modules with layers that pass a test on their input and output."""
    still = copy.deepcopy(network).eval()
    found: list[str] = []

    def look(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(module: nn.Module, given: tuple[Any, ...], out: Any) -> None:
            if len(given) == 1 and isinstance(out, Tensor) and isinstance(given[0], Tensor):
                inputs = before[name]
                if inputs.shape == out.shape and test(module, inputs, out):
                    found.append(name)

        return hook

    def keep(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_: nn.Module, given: tuple[Any, ...]) -> None:
            # An activation in place would overwrite what came in.
            before[name] = given[0].clone() if given and isinstance(given[0], Tensor) else given

        return hook

    before: dict[str, Any] = {}
    handles = []
    for name, module in still.named_modules():
        if name and not isinstance(module, _LAYERS) and _has_layers(module):
            handles.append(module.register_forward_pre_hook(keep(name)))
            handles.append(module.register_forward_hook(look(name)))
    with torch.no_grad():
        still(pixels)
    order = [name for name, _ in network.named_modules()]
    return tuple(sorted(found, key=order.index))


def _has_layers(module: nn.Module) -> bool:
    return any(isinstance(one, _LAYERS) for one in module.modules())


def _silent(module: nn.Module) -> nn.Module:
    """Return a copy whose parameters are all zero."""
    silent = copy.deepcopy(module)
    for one in silent.modules():
        one._forward_hooks.clear()
        one._forward_pre_hooks.clear()
    for parameter in silent.parameters():
        parameter.zero_()
    return silent


def removable_blocks(
    network: nn.Module, pixels: Float[Tensor, "batch 3 side side"]
) -> tuple[str, ...]:
    """Name the residual blocks that can be replaced by an identity.

    A block is one if, with all its weights zero, it gives back what comes in;
    of nested ones the innermost are named.

    Args:
        network: any.
        pixels: pictures on which it is tried.

    Example:
        >>> from sevenfold import nets
        >>> removable_blocks(nets.small("resnet20", 10), torch.rand(2, 3, 32, 32) * 255)[0]
        'blocks.1'
    """

    def passes_on(module: nn.Module, inputs: Tensor, _: Tensor) -> bool:
        # Zeros go through everything: what is zero throughout proves nothing.
        return bool(inputs.any()) and torch.equal(_silent(module)(inputs.clone()), inputs)

    found = _passes(network, pixels, passes_on)
    return tuple(one for one in found if not any(other.startswith(f"{one}.") for other in found))


def lesion_blocks(
    network: nn.Module, pixels: Float[Tensor, "batch 3 side side"]
) -> tuple[str, ...]:
    """Name the blocks that can be left out because their input and output agree in shape.

    Of each of `network.blocks` the block itself; where the shapes of a block in
    a row of layers disagree (a VGG block that ends in a pool), the first part of
    it whose shapes agree. A block that changes the number of channels is left
    in, with a shortcut or without one, as its successors could not read what
    came before it (Veit et al. 2016, arXiv 1605.06431, cut there only the branch
    beside the shortcut).

    Args:
        network: has its blocks in `blocks`.
        pixels: pictures that tell the shapes.
    """
    agree = set(_passes(network, pixels, lambda *_: True))

    def first(name: str, module: nn.Module) -> tuple[str, ...]:
        if name in agree:
            return (name,)
        if isinstance(module, nn.Sequential):
            for own, part in module.named_children():
                if found := first(f"{name}.{own}", part):
                    return found
        return ()

    blocks = network.get_submodule("blocks").named_children()
    return tuple(one for own, block in blocks for one in first(f"blocks.{own}", block))


def lesioned(network: nn.Module, name: str) -> nn.Module:
    """Return a copy with an identity in place of a block, whatever that does to it."""
    smaller = copy.deepcopy(network)
    put(smaller, name, nn.Identity())
    return smaller


@torch.inference_mode()
def block_losses(network: nets.Network, names: Iterable[str], batches: Batches) -> dict[str, float]:
    """Return for each block how much the cross-entropy rises without it, before any retraining.

    What lies before a block is computed once for all that lie behind, which halves the work.

    Args:
        network: stays as it is.
        names: of `removable_blocks` to rank them, or of `lesion_blocks`.
        batches: pictures with soft targets.
    """
    still = copy.deepcopy(network).cpu().eval()
    totals = dict.fromkeys(["", *names], 0.0)
    without: list[dict[str, nn.Module]] = [{} for _ in still.blocks]
    for name in totals:
        if name:
            place = int(name.split(".")[1])
            without[place][name] = lesioned(still, name).get_submodule(f"blocks.{place}")
    pictures = 0
    for pixels, targets in batches():
        pictures += len(pixels)
        maps = still.normalise(pixels.cpu())
        for place, (block, others) in enumerate(zip(still.blocks, without, strict=True)):
            for name, other in others.items():
                # An activation in place would overwrite what the block itself reads.
                answered = still.classify(still.blocks[place + 1 :](other(maps.clone())))
                totals[name] += _cross_entropy(answered, targets)
            maps = block(maps)
        totals[""] += _cross_entropy(still.classify(maps), targets)
    whole = totals.pop("")
    return {name: (total - whole) / max(1, pictures) for name, total in totals.items()}


def _cross_entropy(
    logits: Float[Tensor, "batch classes"], targets: Float[Tensor, "batch classes"]
) -> float:
    return -float((targets.cpu() * torch.log_softmax(logits, dim=1)).sum())


def without_block(
    network: nn.Module, name: str, pixels: Float[Tensor, "batch 3 side side"]
) -> nn.Module:
    """Return a copy without a residual block, proved equal to one with its weights zero.

    Args:
        network: stays as it is.
        name: one of `removable_blocks`.
        pixels: pictures on which it is proved.

    Raises:
        GateRefused: the block does more than add to its input.
    """
    silent, smaller = copy.deepcopy(network), lesioned(network, name)
    with torch.no_grad():
        for parameter in silent.get_submodule(name).parameters():
            parameter.zero_()
    prove(silent, smaller, pixels)
    return smaller
