r"""Train depthwise convolutions of large kernels without the slow way that CPUs take for them.

The gradient of such a convolution by its weights,

$$\frac{\partial L}{\partial w_{cij}} = \sum_n \sum_{y,x} g_{ncyx}\, x_{nc,\,sy+i-p,\,sx+j-p},$$

is for each picture $n$ and channel $c$ a convolution of the input by the output's gradient,
dilated by the stride $s$. All of them together are one depthwise convolution forward, of
pictures times channels, for which oneDNN has a fast way whatever the size of the kernel; for
the gradient it has one up to 3 x 3 alone (`benchmarks/depthwise.py`).
"""

from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

_FAST: Final = 3
"""Side of the largest kernel whose gradient oneDNN computes fast."""


class _Depthwise(torch.autograd.Function):
    """Convolve each channel by its own kernel."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: Float[Tensor, "batch channels height width"],
        weight: Float[Tensor, "channels 1 rows columns"],
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Float[Tensor, "batch channels height2 width2"]:
        """Return what `torch.conv2d` does."""
        ctx.save_for_backward(maps, weight)
        ctx.stride, ctx.padding = stride, padding
        return torch.conv2d(maps, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Float[Tensor, "batch channels height2 width2"]
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Return the gradients by the maps and by the weight."""
        maps, weight = ctx.saved_tensors
        by_maps = by_weight = None
        if ctx.needs_input_grad[0]:
            by_maps = torch.ops.aten.convolution_backward(
                grad, maps, weight, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0),
                len(weight), (True, False, False),
            )[0]  # fmt: skip
        if ctx.needs_input_grad[1]:
            by_weight = _by_weight(maps, grad, weight, ctx.stride, ctx.padding)
        return by_maps, by_weight, None, None


def _by_weight(
    maps: Float[Tensor, "batch channels height width"],
    grad: Float[Tensor, "batch channels height2 width2"],
    weight: Float[Tensor, "channels 1 rows columns"],
    stride: tuple[int, int],
    padding: tuple[int, int],
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
    whole = torch.promote_types(weight.dtype, torch.float32)
    summed: Tensor = kernels.sum(dim=0, dtype=whole).to(weight.dtype)
    return summed[:, None]


class Fast(TorchFunctionMode):
    """Compute depthwise convolutions of large kernels on a CPU by the way above while it holds.

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
    maps: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """Convolve maps by large kernels, one for each channel; None for any other convolution."""
    if not (
        1 < groups == len(weight) == maps.shape[1]
        and max(weight.shape[2:]) > _FAST
        and weight.requires_grad
        and torch.is_grad_enabled()
        and maps.device.type == "cpu"
        and _pair(dilation) == (1, 1)
        and not isinstance(padding, str)
    ):
        return None
    if torch.is_autocast_enabled("cpu"):
        half = torch.get_autocast_dtype("cpu")
        maps, weight, bias = maps.to(half), weight.to(half), None if bias is None else bias.to(half)
    out: Tensor = _Depthwise.apply(maps, weight, _pair(stride), _pair(padding))
    return out if bias is None else out + bias[:, None, None]


def _pair(given: Any) -> tuple[int, int]:
    rows, columns = (given, given) if isinstance(given, int) else given
    return rows, columns
