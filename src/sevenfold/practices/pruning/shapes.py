"""Describe the sizes of a network's layers, and give them to another one."""

import copy

from torch import nn

from sevenfold import nets
from sevenfold.errors import ModelError

Shapes = dict[str, list[int]]
"""For each module by name: inputs, outputs and groups; [] where nothing is left of it."""


def shapes(network: nn.Module) -> Shapes:
    """Describe the size of every layer in plain numbers, to rebuild it by `reshape`.

    Returns:
        For each convolution, linear layer and batch norm its inputs, outputs and
        groups; for a residual block whose shortcut is padded the zero channels
        before and behind; [] for an identity, which may stand for a block that
        was removed.
    """
    found: Shapes = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            found[name] = [module.in_channels, module.out_channels, module.groups]
        elif isinstance(module, nn.Linear):
            found[name] = [module.in_features, module.out_features, 1]
        elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            found[name] = [module.num_features, module.num_features, 1]
        elif isinstance(module, nets.Residual) and any(module.padding):
            found[name] = list(module.padding)
        elif isinstance(module, nn.Identity):
            found[name] = []
    return found


def reshape(network: nn.Module, wanted: Shapes) -> nn.Module:
    """Return a copy whose layers have the sizes that `shapes` described, with weights of zero.

    A pruned network is its dense architecture, this, and its own weights.

    Args:
        network: the dense architecture.
        wanted: what `shapes` said of the pruned one.

    Raises:
        ModelError: the description is of another architecture.
    """
    smaller = copy.deepcopy(network)
    for name, sizes in wanted.items():
        try:
            module = smaller.get_submodule(name)
            _resize(smaller, name, module, sizes)
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"the shapes are of another network: {name} cannot be {sizes}",
                "use the arch.json and the weights of one and the same run",
            ) from error
    if shapes(smaller) != wanted:
        raise ModelError(
            "the shapes are of another network: they do not name all layers",
            "use the arch.json and the weights of one and the same run",
        )
    return smaller


def _resize(network: nn.Module, name: str, module: nn.Module, sizes: list[int]) -> None:
    if not sizes:
        if not isinstance(module, nn.Identity):
            put(network, name, nn.Identity())
        return
    if isinstance(module, nets.Residual):
        before, after = sizes
        module.padding = before, after
        return
    inputs, outputs, groups = sizes
    if isinstance(module, nn.Conv2d):
        module.groups = groups
        _set_shape(module, "weight", (outputs, inputs // groups, *module.kernel_size))
    elif isinstance(module, nn.Linear):
        _set_shape(module, "weight", (outputs, inputs))
    elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
        for one in ("weight", "running_mean", "running_var"):
            _set_shape(module, one, (outputs,))
    else:
        raise ValueError(type(module).__name__)
    _set_shape(module, "bias", (outputs,))
    if isinstance(module, nn.Conv2d):
        module.in_channels, module.out_channels = inputs, outputs
    else:
        count_anew(module)


def _set_shape(module: nn.Module, name: str, shape: tuple[int, ...]) -> None:
    tensor = getattr(module, name)
    if tensor is None or tensor.shape == shape:
        return
    empty = tensor.detach().new_zeros(shape)
    parameter = isinstance(tensor, nn.Parameter)
    setattr(module, name, nn.Parameter(empty, tensor.requires_grad) if parameter else empty)


def put(network: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of another one. Changes the network."""
    place, _, own = name.rpartition(".")
    setattr(network.get_submodule(place), own, module)


def count_anew(module: nn.Module) -> None:
    """Let a layer's numbers say what its tensors are. Changes the layer."""
    if isinstance(module, nn.Conv2d):
        depthwise = module.groups > 1 and module.groups == module.in_channels
        module.out_channels = module.weight.shape[0]
        if depthwise:
            module.groups = module.out_channels
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
        module.num_features = module.weight.shape[0]
