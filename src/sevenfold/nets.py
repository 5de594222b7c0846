"""Build networks as a row of blocks with a linear head.

Every network here has the same shape: `normalise` turns pixel values into the
backbone's input, `blocks` is a sequence that ends in the last feature map,
`pool` makes one vector of it and `head` is linear. A network can therefore be
cut between any two blocks: what lies before the cut is the trunk, the rest the
tail.

The small ones for small pictures follow He et al. 2015 (arXiv 1512.03385,
section 4.2): ResNet-20, -32 and -56 for 32x32 pixels with shortcuts without
parameters, the same without shortcuts, and VGG-11 (Simonyan & Zisserman 2014,
arXiv 1409.1556) with batch norm and one linear layer in place of three.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

NAMES = (
    "resnet20",
    "resnet32",
    "resnet56",
    "plain20",
    "plain32",
    "plain56",
    "vgg11_bn",
)
"""Names that `small` accepts."""


class Normalise(nn.Module):
    """Scale pixel values from 0..255 to a backbone's input.

    Args:
        mean: of each channel, for values in 0..1.
        std: of each channel, for values in 0..1.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("scale", (1 / (255 * torch.tensor(std))).view(1, -1, 1, 1))
        self.register_buffer("shift", (-torch.tensor(mean) / torch.tensor(std)).view(1, -1, 1, 1))

    def forward(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return `pixels * scale + shift`."""
        return pixels * self.scale + self.shift


class Network(nn.Module):
    """Map pixel values 0..255 to logits by blocks, a pool and a linear head."""

    def __init__(
        self,
        normalise: nn.Module,
        blocks: nn.Sequential,
        pool: nn.Module,
        head: nn.Linear,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.blocks = blocks
        self.pool = pool
        self.dropout = nn.Dropout(dropout)
        self.head = head

    def features(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch *features"]:
        """Return the last feature map."""
        maps: Tensor = self.blocks(self.normalise(pixels))
        return maps

    def classify(
        self, features: Float[Tensor, "batch *features"]
    ) -> Float[Tensor, "batch classes"]:
        """Turn the last feature map into logits."""
        logits: Tensor = self.head(self.dropout(self.pool(features)))
        return logits

    def forward(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Return the logits."""
        return self.classify(self.features(pixels))


class Trunk(nn.Module):
    """Map pixel values 0..255 to the activations at the cut; always frozen."""

    def __init__(self, normalise: nn.Module, blocks: nn.Sequential) -> None:
        super().__init__()
        self.normalise = normalise
        self.blocks = blocks
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Trunk":
        """Stay in evaluation mode: a frozen trunk has frozen batch-norm statistics."""
        return super().train(False)

    def forward(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch *activations"]:
        """Return the activations at the cut."""
        activations: Tensor = self.blocks(self.normalise(pixels))
        return activations


class Tail(nn.Module):
    """Map activations at the cut to logits; what is trained."""

    def __init__(
        self, blocks: nn.Sequential, pool: nn.Module, dropout: nn.Module, head: nn.Linear
    ) -> None:
        super().__init__()
        self.blocks = blocks
        self.pool = pool
        self.dropout = dropout
        self.head = head

    def forward(
        self, activations: Float[Tensor, "batch *activations"]
    ) -> Float[Tensor, "batch classes"]:
        """Return the logits."""
        logits: Tensor = self.head(self.dropout(self.pool(self.blocks(activations))))
        return logits


def cut(network: Network, trainable_blocks: int) -> tuple[Trunk, nn.Module]:
    """Split a network into a frozen trunk and a tail that share its parameters.

    Changes the network: parameters of the trunk no longer ask for gradients.

    Args:
        network: the whole.
        trainable_blocks: blocks in the tail, 0 (the head alone) or more; as many
            as there are, or more, leave the trunk empty and the tail is the
            network itself, fed with pixels.
    """
    count = len(network.blocks)
    if trainable_blocks >= count:
        return Trunk(nn.Identity(), nn.Sequential()), network
    place = count - trainable_blocks
    parts = list(network.blocks)
    trunk = Trunk(network.normalise, nn.Sequential(*parts[:place]))
    tail = Tail(nn.Sequential(*parts[place:]), network.pool, network.dropout, network.head)
    return trunk, tail


def _conv_norm(width_in: int, width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width_in, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
    )


class Residual(nn.Module):
    """Add two 3x3 convolutions to their input, or replace it where there is no shortcut.

    Where the shape changes the shortcut subsamples and pads with zero channels
    (option A of the paper), so that it has no parameters.
    """

    def __init__(self, width_in: int, width: int, stride: int, shortcut: bool) -> None:
        super().__init__()
        self.first = _conv_norm(width_in, width, stride)
        self.second = _conv_norm(width, width)
        self.stride = stride
        self.padding = ((width - width_in) // 2,) * 2  # channels before, and behind
        self.shortcut = shortcut

    def forward(self, maps: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch d i j"]:
        """Return the block's output."""
        out: Tensor = self.second(torch.relu(self.first(maps)))
        if self.shortcut:
            kept = maps[:, :, :: self.stride, :: self.stride]
            out = out + nn.functional.pad(kept, (0, 0, 0, 0, *self.padding))
        return torch.relu(out)


def _residual_blocks(depth: int, shortcut: bool) -> tuple[list[nn.Module], int]:
    each = (depth - 2) // 6
    blocks: list[nn.Module] = [nn.Sequential(_conv_norm(3, 16), nn.ReLU())]
    width_in = 16
    for width in (16, 32, 64):
        for place in range(each):
            stride = 2 if place == 0 and width > 16 else 1
            blocks.append(Residual(width_in, width, stride, shortcut))
            width_in = width
    return blocks, 64


def _vgg_blocks() -> tuple[list[nn.Module], int]:
    blocks: list[nn.Module] = []
    width_in = 3
    for width, halve in (
        (64, True),
        (128, True),
        (256, False),
        (256, True),
        (512, False),
        (512, True),
        (512, False),
        (512, True),
    ):
        layers: list[nn.Module] = [_conv_norm(width_in, width), nn.ReLU()]
        blocks.append(nn.Sequential(*layers, *([nn.MaxPool2d(2)] if halve else [])))
        width_in = width
    return blocks, 512


def start(module: nn.Module) -> None:
    """Set random starting weights by He et al. 2015 (arXiv 1502.01852).

    Changes the module; takes its numbers from torch's global generator, which
    the caller seeds.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)


def small(name: str, classes: int) -> Network:
    """Build one of `NAMES` with random weights from torch's global generator.

    Args:
        name: one of `NAMES`.
        classes: width of the head.

    Example:
        >>> small("resnet20", 10)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    if name == "vgg11_bn":
        blocks, width = _vgg_blocks()
    else:
        depth = int(name.removeprefix("resnet").removeprefix("plain"))
        blocks, width = _residual_blocks(depth, shortcut=name.startswith("resnet"))
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    # Statistics of CIFAR-10's training pictures, the usual choice for this family.
    normalise = Normalise((0.491, 0.482, 0.447), (0.247, 0.243, 0.262))
    network = Network(normalise, nn.Sequential(*blocks), pool, nn.Linear(width, classes))
    start(network.blocks)
    return network
