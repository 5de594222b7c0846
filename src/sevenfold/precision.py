"""Run a forward pass of training in half precision, but for what that makes slower."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def half(module: nn.Module, device: str, *, enabled: bool) -> Iterator[None]:
    """Hold a context in which a module's matrix products run in bfloat16.

    A CPU takes two to four times as long in bfloat16 for convolutions of groups where
    channels lie last, as in pixels: they run in full precision there. Those that have a kernel
    for each channel have a way of their own (`depthwise`).

    Args:
        module: that is run in it.
        device: `cpu`, `cuda` or `mps`.
        enabled: False leaves everything as it is.
    """
    hooks = _in_full(module) if enabled and device == "cpu" else []
    try:
        with torch.autocast(device, torch.bfloat16, enabled=enabled):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _in_full(module: nn.Module) -> list[Any]:
    def before(_: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
        (values,) = given
        if not values.is_contiguous(memory_format=torch.channels_last):
            return given
        torch.set_autocast_enabled("cpu", False)
        return (values.float(),)

    def after(_: nn.Module, _given: Any, _made: Any) -> None:
        torch.set_autocast_enabled("cpu", True)

    return [
        hook
        for one in module.modules()
        if isinstance(one, nn.Conv2d) and 1 < one.groups < one.in_channels
        for hook in (one.register_forward_pre_hook(before), one.register_forward_hook(after))
    ]
