"""Practice 4: start from a network that has seen millions of pictures.

A timm backbone becomes a `nets.Network`, a row of blocks that can be cut anywhere
(`families`); its weights are read by hash (`weights`).
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

import torch
from torch import Tensor

from sevenfold import nets
from sevenfold.errors import UsageError
from sevenfold.practices.transfer import families, weights
from sevenfold.practices.transfer.weights import Origin, at_hand, hub_file
from sevenfold.ranges import Range

__all__ = [
    "ALL_BLOCKS",
    "PACKAGED",
    "STRONGER",
    "Origin",
    "Transfer",
    "at_hand",
    "build",
    "hub_file",
    "laid",
    "stronger",
    "weights_of",
]

ALL_BLOCKS: Final = 1000
"""More blocks than any backbone has: nothing is frozen."""

PACKAGED: Final = "tf_efficientnet_lite0"


@dataclass(frozen=True)
class Transfer:
    """Say what the network starts from and how much of it is trained.

    Args:
        backbone: a timm architecture, or one of `nets.NAMES`.
        weights: `packaged`, `hub`, `random`, or the path of a `.safetensors`
            file (or of a `.pth` with its hash in `sha256`).
        sha256: hash of the weights' file, local or the hub's; "" accepts any safetensors file.
        trainable_blocks: blocks before the head that are trained, 0 or more;
            the trunk below them is frozen and its activations are stored.
        dropout: before the head, 0 to below 1.
    """

    backbone: str = PACKAGED
    weights: str = "packaged"
    sha256: str = ""
    trainable_blocks: Annotated[int, Range(0, ALL_BLOCKS)] = 3
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.2

    off: ClassVar["Transfer"]

    def other(self, backbone: str, trainable_blocks: int) -> "Transfer":
        """Return the settings of another backbone or cut; another backbone's weights are its own.

        They come from the hub unless the start is random: a file or package holds those of
        one backbone.
        """
        if backbone == self.backbone:
            return replace(self, trainable_blocks=trainable_blocks)
        weights = "random" if self.weights == "random" else weights_of(backbone)
        return Transfer(backbone, weights, "", trainable_blocks, self.dropout)


def weights_of(backbone: str) -> str:
    """Say where the weights of a backbone are if nobody says: in a package, or on timm's hub.

    The small networks of `nets` have none, which is told when they are built.

    Example:
        >>> weights_of("resnet18")
        'hub'
    """
    return "packaged" if backbone in (PACKAGED, *nets.NAMES) else "hub"


Transfer.off = Transfer(weights="random", trainable_blocks=ALL_BLOCKS)


def build(settings: Transfer, classes: int, side: int, seed: int) -> tuple[nets.Network, Origin]:
    """Build the network that training starts from.

    Args:
        settings: which backbone and weights.
        classes: width of the head.
        side: side of the pictures that the network sees, in pixels.
        seed: of everything that starts random.

    Returns:
        The network in evaluation mode, and where its weights come from.

    Raises:
        UsageError: the name or the weights do not exist.
        ModelError: the weights are damaged or do not fit.
        ResourceError: the weights are not at hand.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if settings.backbone in nets.NAMES:
            _refuse_for_small(settings)
            return nets.small(settings.backbone, classes).eval(), weights.RANDOM
        model = families.model_of(settings.backbone)
        _refuse_for_timm(settings)
        whole = set(model.state_dict())
        model.reset_classifier(0)  # first: weights may have another head, or none
        origin = weights.RANDOM
        if settings.weights != "random":
            state, origin = _pretrained(settings)
            weights.refuse_others(set(model.state_dict()), state, whole, settings.backbone)
            weights.fill(model, state, settings.backbone)
        return families.as_network(model, classes, side, settings.dropout), origin


def _refuse_for_small(settings: Transfer) -> None:
    if settings.weights != "random":
        raise UsageError(
            f"{settings.backbone} has no pretrained weights",
            "set transfer.weights=random and transfer.trainable_blocks=1000",
        )
    if settings.dropout not in (0.0, Transfer.dropout):
        raise UsageError(
            f"transfer.dropout = {settings.dropout:g} would do nothing: "
            f"{settings.backbone} has none",
            "leave it out",
        )


def _refuse_for_timm(settings: Transfer) -> None:
    if settings.sha256 and settings.weights in ("packaged", "random"):
        raise UsageError(
            f"transfer.sha256 would do nothing with transfer.weights={settings.weights}",
            "leave it out: the packaged weights are held against a hash of our own",
        )
    if settings.weights == "packaged" and settings.backbone != PACKAGED:
        raise UsageError(
            f"no package holds weights for {settings.backbone}",
            f"set transfer.weights=hub or a file, or transfer.backbone={PACKAGED}",
        )


def _pretrained(settings: Transfer) -> tuple[dict[str, Tensor], Origin]:
    match settings.weights:
        case "packaged":
            return weights.packaged()
        case "hub":
            return weights.hub(settings.backbone, settings.sha256)
        case path:
            return weights.local(Path(path), settings.sha256)


def laid(backbone: str, classes: int, side: int) -> tuple[Any, nets.Network]:
    """Build timm's model without a head, and the network whose blocks are its modules."""
    model = families.model_of(backbone)
    model.reset_classifier(0)
    return model, families.as_network(model, classes, side, 0.0)


STRONGER: Final = ("convnext_tiny.in12k_ft_in1k", "resnet50.a1_in1k")


def stronger(settings: Transfer) -> Transfer:
    """Return the settings with the first of `STRONGER` whose weights are at hand, or as they are.

    Reads the hub's cache on disk.
    """
    for name in STRONGER:
        if at_hand(name):
            return replace(settings, backbone=name, weights="hub", sha256="")
    return settings
