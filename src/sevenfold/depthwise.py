r"""Train depthwise convolutions without the slow ways that CPUs take for some of them.

The gradient of such a convolution by its weights,

$$\frac{\partial L}{\partial w_{cij}} = \sum_n \sum_{y,x} g_{ncyx}\, x_{nc,\,sy+i-p,\,sx+j-p},$$

is for each picture $n$ and channel $c$ a convolution of the input by the output's gradient,
dilated by the stride $s$. All of them together are one depthwise convolution forward, of
pictures times channels, for which oneDNN has a fast way whatever the size of the kernel; for
the gradient it has one up to 3 x 3 alone (`benchmarks/depthwise.py`).

In bfloat16 it has none for the gradient by the maps where kernels step by more than one place,
and takes 10 to 40 times as long as in full precision, where that gradient is computed therefore
(docs/log.md, 2026-12-01).
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

_FAST: Final = 3
"""Side of the largest kernel whose gradient oneDNN computes fast."""
_TINY: Final = 2
"""Side of the largest maps of which torch is as fast: there is little to convolve by."""


class _Depthwise(torch.autograd.Function):
    """Convolve each channel by its own kernel."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: Float[Tensor, "batch channels height width"],
        weight: Float[Tensor, "channels 1 rows columns"],
        bias: Float[Tensor, " channels"] | None,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
    ) -> Float[Tensor, "batch channels height2 width2"]:
        """Return what `torch.conv2d` does."""
        ctx.save_for_backward(maps, weight)
        ctx.stride, ctx.padding = stride, padding
        return torch.conv2d(maps, weight, bias, stride, padding, 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Float[Tensor, "batch channels height2 width2"]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        """Return the gradients by the maps, the weight and the bias."""
        maps, weight = ctx.saved_tensors
        mapped, weighted, biased, *_ = ctx.needs_input_grad
        by_maps = by_weight = by_bias = None
        how = ctx.stride, ctx.padding
        halved, large = grad.dtype == torch.bfloat16, max(weight.shape[2:]) > _FAST
        if mapped:
            steps = halved and max(ctx.stride) > 1
            by_maps = _by_torch(0, maps, grad, weight, how, full=steps)
        if weighted and large and min(maps.shape[2:]) > _TINY:
            by_weight = _by_weight(maps, grad, weight, *how)
        elif weighted:
            by_weight = _by_torch(1, maps, grad, weight, how, full=halved and large)
        if biased:
            by_bias = _summed(grad, (0, 2, 3), weight.dtype)
        return by_maps, by_weight, by_bias, None, None


def _by_torch(
    which: int,
    maps: Float[Tensor, "batch channels height width"],
    grad: Float[Tensor, "batch channels height2 width2"],
    weight: Float[Tensor, "channels 1 rows columns"],
    how: tuple[tuple[int, ...], tuple[int, ...]],
    *,
    full: bool,
) -> Tensor:
    """Return torch's gradient by the maps (0) or the weight (1), and compute that alone.

    In full precision or in that of the gradient. That by the maps does not depend on their values.
    """
    kind = torch.float32 if full else grad.dtype
    maps = maps.to(kind) if which else torch.empty_like(maps, dtype=kind)
    # Asked for the bias too, oneDNN computes the weight's gradient as well.
    asked = [which == at for at in range(3)]
    found: Tensor = torch.ops.aten.convolution_backward(
        grad.to(kind), maps, weight.to(kind), None, *how, (1, 1), False, (0, 0), len(weight), asked
    )[which]
    return found.to(grad.dtype)


def _by_weight(
    maps: Float[Tensor, "batch channels height width"],
    grad: Float[Tensor, "batch channels height2 width2"],
    weight: Float[Tensor, "channels 1 rows columns"],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> Float[Tensor, "channels 1 rows columns"]:
    """Return the gradient by the weight: convolve each map by its own gradient, and sum."""
    batch, channels, *sides = maps.shape
    rows, columns = weight.shape[2:]
    every = batch * channels
    apart = torch.conv2d(
        maps.reshape(1, every, *sides),
        grad.reshape(every, 1, *grad.shape[2:]),
        None, 1, padding, stride, every,
    )  # fmt: skip
    # With a stride there may be rows and columns of the input that no kernel reaches.
    kernels = apart[0, :, :rows, :columns].reshape(batch, channels, rows, columns)
    return _summed(kernels, (0,), weight.dtype)[:, None]


def _summed(values: Tensor, axes: tuple[int, ...], kind: torch.dtype) -> Tensor:
    """Sum in full precision at least."""
    return values.sum(axes, dtype=torch.promote_types(kind, torch.float32)).to(kind)


class Fast(TorchFunctionMode):
    """Compute depthwise convolutions on a CPU by the ways above while it holds.

    The answers are those of `torch.conv2d`, the gradients but for rounding.

    Example:
        >>> maps = torch.rand(2, 8, 6, 6)
        >>> weight = torch.rand(8, 1, 5, 5, requires_grad=True)
        >>> def gradient():
        ...     out = torch.conv2d(maps, weight, padding=2, groups=8).square().sum()
        ...     return torch.autograd.grad(out, weight)[0]
        >>> plain = gradient()
        >>> with Fast():
        ...     fast = gradient()
        >>> torch.allclose(plain, fast, rtol=1e-4)
        True
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Take the place of `torch.conv2d` where it can be faster."""
        given = kwargs or {}
        if function is torch.conv2d and (found := _convolved(*args, **given)) is not None:
            return found
        return function(*args, **given)


def _convolved(
    input: Tensor,  # as torch calls it
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor | None:
    """Convolve maps one kernel for each channel; None where torch's gradients are fast."""
    if not (
        1 < groups == len(weight) == input.shape[1]
        and torch.is_grad_enabled()
        and input.device.type == "cpu"
        and _pair(dilation) == (1, 1)
        and not isinstance(padding, str)
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    ):
        return None
    casts = torch.is_autocast_enabled("cpu")
    half = torch.get_autocast_dtype("cpu") if casts else input.dtype
    halved = half == torch.bfloat16
    kernels = max(weight.shape[2:]) > _FAST and (halved or min(input.shape[2:]) > _TINY)
    large = kernels and weight.requires_grad
    steps = max(_pair(stride)) > 1 and halved and input.requires_grad
    if not large and not steps:
        return None
    if casts:
        input, weight = input.to(half), weight.to(half)
        bias = None if bias is None else bias.to(half)
    found: Tensor = _Depthwise.apply(input, weight, bias, _pair(stride), _pair(padding))
    return found


def _pair(given: int | Sequence[int]) -> tuple[int, ...]:
    several = (given,) if isinstance(given, int) else tuple(given)
    return several * (2 // len(several))
