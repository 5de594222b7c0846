"""Blend the pictures of a batch and their targets: mixup and cutmix."""

from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, UInt64
from scipy.special import betaincinv
from torch import Tensor

from sevenfold import draws
from sevenfold.errors import UsageError
from sevenfold.practices.augmentation.settings import Augmentation
from sevenfold.rows import Mix, unmixed

Batch: TypeAlias = Float[Tensor, "batch *row"]
Targets: TypeAlias = Float[Tensor, "batch classes"]


def mixer(settings: Augmentation, seed: int) -> Mix:
    r"""Return what blends each picture of a batch with the next one.

    $$\tilde{x}_i = \lambda_i x_i + (1 - \lambda_i) x_{i+1}, \quad
    \tilde{y}_i = \lambda_i y_i + (1 - \lambda_i) y_{i+1}, \quad
    \lambda_i \sim \mathrm{Beta}(\alpha, \alpha)$$

    Mixup (Zhang et al., 2018, arXiv 1710.09412) blends values; cutmix (Yun et al.,
    2019, arXiv 1905.04899) pastes a box of a share $1 - \lambda$ of the area, and
    counts the share that it covers in truth. Both papers draw one $\lambda$ for a
    batch; here each picture has its own, from (seed, epoch, picture) and, where it is
    drawn again within an epoch, its repeat, so that a batch's composition moves none of
    them. Inputs are pixels `[batch, 3, height,
    width]` or activations `[batch, channels, height, width]`, where a box is one of
    their grid.

    Args:
        settings: `mixup` and `cutmix`; where both are on, each picture draws one.
        seed: of the training.

    Returns:
        `rows.unmixed` where both are off. It raises `UsageError` where a box is to be
        pasted and what is stored of a picture has no rows and columns.

    Example:
        >>> mix = mixer(Augmentation(mixup=0.2), seed=0)
        >>> numbers = np.arange(2, dtype=np.uint64)
        >>> inputs, targets = mix(torch.zeros(2, 3, 8, 8), torch.eye(2), numbers, 0)
        >>> targets.sum(dim=1).tolist()
        [1.0, 1.0]
    """
    if not settings.mixup and not settings.cutmix:
        return unmixed

    def mix(
        inputs: Batch, targets: Targets, numbers: UInt64[np.ndarray, "batch"], epoch: int
    ) -> tuple[Batch, Targets]:
        if settings.cutmix and inputs.dim() != 4:
            raise UsageError(
                "augmentation.cutmix pastes a box, and what this backbone's frozen blocks give "
                "has no rows and columns",
                "set augmentation.cutmix=0; augmentation.mixup needs none",
            )
        drawn = draws.uniform(f"{seed}/mix", numbers, epoch, 4)
        cuts = drawn[:, 1] >= _mixup_share(settings)
        alpha = np.where(cuts, settings.cutmix or 1.0, settings.mixup or 1.0)
        kept = betaincinv(alpha, alpha, drawn[:, 0])
        if cuts.any():
            mask, shown = _boxes(kept, drawn[:, 2:], inputs.shape[-2], inputs.shape[-1])
            kept = np.where(cuts, shown, kept)
        share = _as(inputs, kept).view(-1, *[1] * (inputs.dim() - 1))
        other = inputs.roll(-1, 0)
        mixed = other.lerp(inputs, share)
        if cuts.any():
            pasted = torch.where(torch.from_numpy(mask[:, None]).to(inputs.device), other, inputs)
            chosen = torch.from_numpy(cuts).to(inputs.device).view(share.shape)
            mixed = torch.where(chosen, pasted, mixed)
        return mixed, targets.roll(-1, 0).lerp(targets, _as(targets, kept)[:, None])

    return mix


def _mixup_share(settings: Augmentation) -> float:
    if settings.mixup and settings.cutmix:
        return 0.5
    return 1.0 if settings.mixup else 0.0


def _as(like: Tensor, values: Float[np.ndarray, "batch"]) -> Float[Tensor, "batch"]:
    return torch.from_numpy(values).to(like.device, like.dtype)


def _boxes(
    kept: Float[np.ndarray, "batch"],
    centres: Float[np.ndarray, "batch 2"],
    height: int,
    width: int,
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.bool_]], Float[np.ndarray, "batch"]]:
    """Return each picture's box as a mask, and the share that stays outside of it."""
    half = np.sqrt(1.0 - kept) / 2

    def inside(
        centre: Float[np.ndarray, "batch"], cells: int
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        low = np.round((centre - half) * cells)[:, None]
        high = np.round((centre + half) * cells)[:, None]
        places = np.arange(cells)[None, :]
        within: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = (places >= low) & (places < high)
        return within

    rows, columns = inside(centres[:, 0], height), inside(centres[:, 1], width)
    mask = rows[:, :, None] & columns[:, None, :]
    return mask, 1.0 - mask.mean(axis=(1, 2))
