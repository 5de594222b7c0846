"""Which channels go together, followed through every family of networks."""

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch_pruning
import torchvision
from torch import Tensor, nn

from sevenfold import nets
from sevenfold.errors import GateRefused, UsageError
from sevenfold.practices.pruning import (
    Coupling,
    cost,
    couple,
    prove,
    remaining,
    remove,
    shapes,
    zeroed,
)
from sevenfold.practices.pruning.surgery import cut

SIDE = 32


def lively(network: nn.Module) -> nn.Module:
    """Give batch norms and layer scales numbers that a fault would show in."""
    generator = torch.Generator().manual_seed(0)

    def draw(like: Tensor, low: float, high: float) -> None:
        like.data.copy_(torch.rand(like.shape, generator=generator) * (high - low) + low)

    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor, low, high in (
                (part.weight, 0.5, 1.5),
                (part.bias, -0.5, 0.5),
                (part.running_mean, -0.5, 0.5),
                (part.running_var, 0.5, 1.5),
            ):
                draw(tensor, low, high)
    return network.eval()


def small_vgg() -> nn.Module:
    """Return torchvision's VGG with batch norm, narrowed, with its 49 positions in the head."""
    layers = torchvision.models.vgg.make_layers([16, "M", 24, "M", 32, "M"], batch_norm=True)
    network = torchvision.models.VGG(layers, num_classes=5, init_weights=False)
    network.classifier = nn.Sequential(
        nn.Linear(32 * 49, 40), nn.ReLU(True), nn.Dropout(), nn.Linear(40, 5)
    )
    return network


def in_network(name: str) -> nn.Module:
    """Lay out a timm model as `transfer` does."""
    from sevenfold.practices.transfer import Transfer, build

    return build(Transfer(backbone=name, weights="random"), 5, SIDE, 0)[0]


FAMILIES: dict[str, Any] = {
    "resnet20": lambda: nets.small("resnet20", 5),
    "plain20": lambda: nets.small("plain20", 5),
    "vgg11_bn": lambda: nets.small("vgg11_bn", 5),
    "timm resnet18": lambda: in_network("resnet18"),
    "tf_efficientnet_lite0": lambda: in_network("tf_efficientnet_lite0"),
    "torchvision resnet18": lambda: torchvision.models.resnet18(num_classes=5),
    "torchvision bottlenecks": lambda: torchvision.models.ResNet(
        torchvision.models.resnet.Bottleneck, [2, 2, 1, 1], num_classes=5
    ),
    "torchvision mobilenet_v2": lambda: torchvision.models.mobilenet_v2(
        num_classes=5, width_mult=0.35
    ),
    "torchvision vgg": small_vgg,
    "squeeze and excitation": lambda: torchvision.models.mobilenet_v3_small(num_classes=5),
    "concatenation": lambda: timm.create_model(
        "densenet121", num_classes=5, block_config=(2, 2), growth_rate=8
    ),
}


@cache
def built(family: str) -> tuple[nn.Module, Coupling]:
    torch.manual_seed(0)
    network = lively(FAMILIES[family]())
    return network, couple(network, SIDE)


def pictures(network: nn.Module) -> Tensor:
    top = 255.0 if isinstance(network, nets.Network) else 1.0
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * top


def drawn(coupling: Coupling, seed: int) -> dict[str, list[int]]:
    """Draw up to half of the channels of half of the groups."""
    generator = np.random.default_rng(seed)
    return {
        group.name: sorted(
            generator.choice(
                group.channels, generator.integers(1, group.channels // 2 + 1), replace=False
            ).tolist()
        )
        for group in coupling.groups
        if group.channels > 1 and generator.random() < 0.5
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_random_removals_prove_themselves(family):
    network, coupling = built(family)
    assert coupling.groups
    assert not coupling.refused
    dense = cost(network, SIDE)
    for seed in range(3):
        removal = drawn(coupling, seed)
        smaller = remove(network, coupling, removal, pictures(network))
        counted = cost(smaller, SIDE)
        gone = {name: len(channels) for name, channels in removal.items()}
        left = remaining(dense, coupling, gone)
        assert (left.macs, left.parameters) == (counted.macs, counted.parameters)
        assert counted.parameters < dense.parameters


@pytest.mark.parametrize("family", FAMILIES)
def test_every_inner_channel_may_go(family):
    network, coupling = built(family)
    layers = {n for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    inner = {one.module for group in coupling.groups for one in group.members} & layers
    assert inner == layers
    for group in coupling.groups:
        for one in group.members:
            assert one.places.shape[0] == group.channels
            assert len(np.unique(one.places)) == one.places.size


@pytest.mark.parametrize(
    "family", [one for one in FAMILIES if one not in ("resnet20", "plain20", "vgg11_bn")]
)
def test_another_tool_couples_the_same(family):
    network, coupling = built(family)
    removal = drawn(coupling, 7)
    theirs = copy.deepcopy(network)
    graph = torch_pruning.DependencyGraph().build_dependency(theirs, pictures(network))
    parts = dict(theirs.named_modules())
    for name, channels in removal.items():
        first = coupling.group(name).of("filter")[0]
        layer = parts[first.module]
        cut = (
            torch_pruning.prune_conv_out_channels
            if isinstance(layer, nn.Conv2d)
            else torch_pruning.prune_linear_out_channels
        )
        rows = first.places[channels].ravel().tolist()
        graph.get_pruning_group(layer, cut, rows).prune()
    ours = remove(network, coupling, removal, pictures(network))
    found = {name: tuple(one.shape) for name, one in ours.state_dict().items()}
    assert found == {name: tuple(one.shape) for name, one in theirs.state_dict().items()}
    with torch.inference_mode():
        assert torch.allclose(ours(pictures(ours)), theirs(pictures(ours)), atol=1e-4, rtol=1e-4)


def test_streams_of_shortcuts_without_parameters():
    coupling = built("resnet20")[1]
    streams = [group for group in coupling.groups if len(group.of("filter")) > 1]
    # 16 channels run through all stages; 16 and 32 come from zeros.
    assert [(one.name, one.channels) for one in streams] == [
        ("blocks.0.0.0", 16),
        ("blocks.4.second.0", 16),
        ("blocks.7.second.0", 32),
    ]
    first = streams[0].of("filter")[4]
    assert first.module == "blocks.4.second.0"
    assert first.places.ravel().tolist() == list(range(8, 24))


def test_a_shortcut_may_be_padded_unevenly():
    network, coupling = built("resnet20")
    removal = {"blocks.4.second.0": [0, 1, 2, 15], "blocks.0.0.0": [3, 4, 5]}
    smaller = remove(network, coupling, removal, pictures(network))
    assert smaller.get_submodule("blocks.4").padding == (5, 7)
    assert shapes(smaller)["blocks.4"] == [5, 7]
    assert shapes(smaller)["blocks.5.first.0"] == [25, 32, 1]
    again = couple(smaller, SIDE)
    assert [one.name for one in again.groups] == [one.name for one in coupling.groups]
    remove(smaller, again, {"blocks.4.second.0": [0, 11]}, pictures(network))


class Gate(nn.Module):
    """Let a map pass through something between two convolutions."""

    def __init__(self, between: nn.Module, width: int = 8, read: int = 8, groups: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.between = between
        self.second = nn.Conv2d(read, 8, 3, groups=groups)
        self.head = nn.Linear(8, 5)

    def forward(self, pixels):
        maps = self.second(self.between(self.first(pixels)))
        return self.head(maps.mean((2, 3)))


class Shuffle(nn.Module):
    def forward(self, maps):
        return maps.reshape(len(maps), 2, 4, SIDE, SIDE).transpose(1, 2).flatten(1, 2)


class Folded(nn.Module):
    def forward(self, maps):
        return maps.reshape(-1, 8, SIDE // 2, SIDE)


class Turned(nn.Module):
    def forward(self, maps):
        return maps.transpose(1, 3)


class Half(nn.Module):
    def forward(self, maps):
        return maps[:, :4]


class Shifted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.ones(1, 8, 1, 1))

    def forward(self, maps):
        return maps + self.shift


class Double(nn.Module):
    def forward(self, maps):
        return torch.cat([maps, torch.relu(maps)], 1)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Gate(nn.GroupNorm(1, 8)), "GroupNorm mixes"),
        (Gate(nn.Softmax(dim=1)), "softmax mixes"),
        (Gate(nn.Sigmoid()), "not zero where it is read"),
        (Gate(nn.Identity(), groups=2), "grouped convolution"),
        (Gate(nn.BatchNorm2d(8, affine=False)), "without scale"),
        (Gate(Shuffle()), "reshape mixes"),
        (Gate(Folded()), "reshape mixes"),
        (Gate(Turned(), read=SIDE), "channels on another axis"),
        (Gate(nn.Sequential(Turned(), nn.MaxPool2d(2), Turned()), read=4), "max_pool2d is not"),
        (Gate(Half(), read=4), "takes channels apart"),
        (Gate(Shifted()), "a parameter of the network"),
        (Gate(nn.PixelShuffle(2), width=32), "pixel_shuffle is not known"),
    ],
    ids=lambda one: one.replace(" ", "-") if isinstance(one, str) else "",
)
def test_what_is_not_proved_is_refused_with_the_reason(network, reason):
    coupling = couple(network, SIDE)
    refused = {one.name: one for one in coupling.refused}
    assert reason in refused["first"].reason
    assert refused["first"].channels == network.first.out_channels
    with pytest.raises(UsageError, match=reason):
        remove(network, coupling, {"first": [0]}, torch.zeros(1, 3, SIDE, SIDE))


class Excited(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.Linear(8, 6)
        self.excite = nn.Linear(6, 8)

    def forward(self, maps):
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(maps.mean((2, 3))))))
        return maps * gate[:, :, None, None]


def test_gates_of_linear_layers_are_followed():
    network = Gate(Excited())
    coupling = couple(network, SIDE)
    assert {one.name: one.channels for one in coupling.groups} == {
        "first": 8,
        "between.squeeze": 6,
        "second": 8,
    }
    removal = {"first": [1, 7], "between.squeeze": [0]}
    smaller = remove(network, coupling, removal, torch.rand(2, 3, SIDE, SIDE))
    assert smaller.between.excite.out_features == 6


def test_a_channel_read_in_two_places_loses_both():
    network = Gate(Double(), read=16)
    coupling = couple(network, SIDE)
    assert coupling.group("first").of("input")[0].places.tolist() == [[k, k + 8] for k in range(8)]
    smaller = remove(network, coupling, {"first": [2, 5]}, torch.rand(2, 3, SIDE, SIDE))
    assert smaller.second.in_channels == 12


def test_sigmoid_is_refused_for_a_reason():
    network = Gate(nn.Sigmoid())
    clean = couple(Gate(nn.ReLU()), SIDE)
    with pytest.raises(GateRefused, match="logits differ"):
        remove(network, clean, {"first": [0]}, torch.rand(2, 3, SIDE, SIDE))


@pytest.mark.parametrize(
    ("name", "stem", "reason"),
    [
        ("vit_tiny_patch16_224", "patch_embed.proj", "concatenated along another axis"),
        ("convnext_atto", "stem.0", "LayerNorm mixes all channels"),
    ],
)
def test_networks_of_layer_norm_keep_their_stream(name, stem, reason):
    given = {"img_size": SIDE} if "vit" in name else {}
    network = timm.create_model(name, num_classes=5, **given).eval()
    coupling = couple(network, SIDE)
    assert any(one.name == stem and reason in one.reason for one in coupling.refused)
    # What lies between two linear layers is coupled to nothing else.
    assert all(".fc1" in one.name for one in coupling.groups)
    assert coupling.groups
    # Its scale is 1e-6 at the start, under which nothing would be seen.
    for part, weight in network.named_parameters():
        if part.endswith("gamma"):
            weight.data.fill_(1.0)
    removal = {one.name: [0, 3] for one in coupling.groups}
    remove(network, coupling, removal, pictures(network))


def test_code_that_depends_on_values_cannot_be_traced():
    class Moody(nn.Module):
        def forward(self, pixels):
            return pixels if float(pixels.sum()) > 0 else -pixels

    with pytest.raises(UsageError, match="cannot be traced"):
        couple(Moody(), SIDE)


def test_zeroed_is_the_same_size_and_leaves_the_network_alone():
    network, coupling = built("vgg11_bn")
    before = {name: one.clone() for name, one in network.state_dict().items()}
    same = zeroed(network, coupling, {"blocks.0.0.0": [1, 4]})
    assert shapes(same) == shapes(network)
    for name, zero in (("0.0.weight", True), ("0.1.weight", True), ("0.1.bias", True)):
        tensor = same.get_submodule("blocks.0").state_dict()[name]
        assert bool((tensor[[1, 4]] == 0).all()) is zero
        assert bool((tensor[[0, 2, 3]] != 0).any())
    for name, one in network.state_dict().items():
        assert torch.equal(one, before[name])
    with pytest.raises(GateRefused, match="logits differ"):
        prove(network, same, pictures(network))


def test_one_wrong_channel_in_any_tensor_fails_the_proof():
    network, coupling = built("resnet20")
    group = coupling.groups[0]
    right = zeroed(network, coupling, {group.name: [0]})
    tensors = [k for k, one in enumerate(group.members) if one.role not in ("seen", "padding")]
    for wrong in tensors[::6]:
        members = list(group.members)
        # The next channel's place, in this tensor alone.
        members[wrong] = replace(members[wrong], places=np.roll(members[wrong].places, -1, axis=0))
        mistaken = replace(coupling, groups=(replace(group, members=tuple(members)),))
        with pytest.raises(GateRefused, match="logits differ"):
            prove(right, cut(network, mistaken, {group.name: [0]}), pictures(network))
