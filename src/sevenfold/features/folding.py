"""Fold batch norms into the convolutions before them, so that there is less to export.

The exporter's time grows with the number of operations, which it traces twice and translates.
"""

import copy
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

_CLOSE: Final = 1e-3
"""Of the largest value: by how much what is folded may answer differently."""


def folded(module: nn.Module, example: Tensor) -> nn.Module:
    """Copy a module, its batch norms folded into the convolutions whose output they take.

    w' = w s / √(v + ε) and b' = (b - m) s / √(v + ε) + t, with the norm's scale s and shift t:
    the same function up to rounding. That a convolution's output goes nowhere else is not
    looked up in a graph: where it did, the answers to the example differ, and the copy is
    left as it was.

    Args:
        module: in evaluation mode, of one input; stays as it is.
        example: of that input.
    """
    changed = copy.deepcopy(module)
    with torch.inference_mode():
        pairs, theirs = _pairs(changed, example)
        for convolution, norm in pairs:
            _fold(convolution, norm)
        _replace(changed, {norm: nn.Sequential(*norm.children()) for _, norm in pairs})
        ours = _answers(changed, example)
    close = all(
        a.shape == b.shape and bool((a - b).abs().max() <= _CLOSE * b.abs().max().clamp(min=1e-6))
        for a, b in zip(ours, theirs, strict=True)
    )
    return changed if close else copy.deepcopy(module)


def _pairs(
    module: nn.Module, example: Tensor
) -> tuple[list[tuple[nn.Conv2d, nn.BatchNorm2d]], tuple[Tensor, ...]]:
    """Find each norm that takes what a convolution gives; neither may be used twice.

    Returns:
        Convolutions with their norms, and the module's answers to the example.
    """
    calls: list[nn.Module] = []
    given: list[tuple[Tensor, nn.Conv2d]] = []
    found: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after(one: nn.Module, _: Any, output: Tensor) -> None:
        calls.append(one)
        if isinstance(one, nn.Conv2d):
            given.append((output, one))

    def before(one: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(one, nn.BatchNorm2d) and one.running_var is not None:
            found.extend((conv, one) for output, conv in given if output is inputs[0])

    kinds = (nn.Conv2d, nn.BatchNorm2d)
    parts = [one for one in module.modules() if isinstance(one, kinds)]
    hooks = [one.register_forward_hook(after) for one in parts]
    hooks += [one.register_forward_pre_hook(before) for one in parts]
    try:
        answers = _answers(module, example)
    finally:
        for hook in hooks:
            hook.remove()
    return [pair for pair in found if all(calls.count(one) == 1 for one in pair)], answers


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var,
        norm.eps, norm.weight, norm.bias,
    )  # fmt: skip


def _replace(module: nn.Module, by: dict[nn.BatchNorm2d, nn.Sequential]) -> None:
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and child in by:
                setattr(parent, name, by[child])


def _answers(module: nn.Module, example: Tensor) -> tuple[Tensor, ...]:
    given = module(example)
    return given if isinstance(given, tuple) else (given,)
