"""Say where a network is trained and asked."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import nn

from sevenfold import depthwise, precision


@dataclass(frozen=True)
class Place:
    """Say where to compute.

    Args:
        device: `cpu`, `cuda` or `mps`.
        threads: of torch and of the loaders, 1 or more.
        half: whether matrix products run in bfloat16 during training.
        workers: trainings at a time where there are several, 1 or more; it does not affect
            results, and so is no part of a training's name.
        chip: what computes, where that is not this machine.
    """

    device: str = "cpu"
    threads: int = 1
    half: bool = False
    workers: int = field(default=1, repr=False, compare=False)
    chip: str = ""

    @contextmanager
    def forward(self, module: nn.Module) -> Iterator[None]:
        """Hold the context in which a forward pass of a module in training runs."""
        fast = depthwise.Fast() if self.device == "cpu" else nullcontext()
        with fast, precision.half(module, self.device, enabled=self.half):
            yield


@contextmanager
def narrowed(threads: int) -> Iterator[None]:
    """Let torch have so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
