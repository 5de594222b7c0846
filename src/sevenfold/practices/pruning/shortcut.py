"""Pad a residual block's shortcut by other numbers of channels before and behind."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sevenfold import nets


class PaddedResidual(nn.Module):
    """Do what a `nets.Residual` with a shortcut does, padded unevenly.

    Args:
        block: whose layers are taken over.
        padding: zero channels before and behind those of the shortcut.
    """

    first: nn.Module
    second: nn.Module
    stride: int

    def __init__(self, block: "nets.Residual | PaddedResidual", padding: tuple[int, int]) -> None:
        super().__init__()
        self.first = block.first
        self.second = block.second
        self.stride = block.stride
        self.padding = padding

    def forward(self, maps: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch d i j"]:
        """Return the block's output."""
        out: Tensor = self.second(torch.relu(self.first(maps)))
        kept = maps[:, :, :: self.stride, :: self.stride]
        return torch.relu(out + nn.functional.pad(kept, (0, 0, 0, 0, *self.padding)))
