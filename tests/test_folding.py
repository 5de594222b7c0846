"""Fold batch norms into convolutions: the same function, or nothing is changed."""

import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from sevenfold import nets
from sevenfold.features.folding import folded


def unlike_new(module: nn.Module) -> nn.Module:
    """Give batch norms statistics that a training may have left."""
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for held in (part.running_var, part.weight.data):
                held.uniform_(0.5, 2, generator=generator)
            for held in (part.running_mean, part.bias.data):
                held.normal_(0, 0.3, generator=generator)
    return module.eval()


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "mobilenetv2_050"])
def test_norms_go_and_answers_stay(name):
    network = unlike_new(timm.create_model(name, num_classes=4))
    before = copy.deepcopy(network.state_dict())
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        smaller = folded(network, pixels)
        torch.testing.assert_close(smaller(pixels), network(pixels), rtol=1e-3, atol=1e-4)
    assert norms(network) > 10
    assert norms(smaller) == 0
    assert all(torch.equal(held, before[key]) for key, held in network.state_dict().items())


def test_our_small_networks_fold_too():
    network = unlike_new(nets.small("vgg11_bn", 3))
    pixels = torch.rand(2, 3, 32, 32) * 255
    assert norms(folded(network, pixels)) == 0


class Twice(nn.Module):
    """Give a convolution's output to its norm and past it, or the norm to two of them."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, pixels: Tensor) -> Tensor:
        found = self.first(pixels)
        if self.way == "past":
            return found + self.norm(found)
        return self.norm(found) + self.norm(self.second(pixels))


@pytest.mark.parametrize("way", ["past", "shared"])
def test_what_is_used_twice_stays(way):
    module = unlike_new(Twice(way))
    pixels = torch.randn(2, 3, 8, 8)
    same = folded(module, pixels)
    assert norms(same) == 1
    assert torch.equal(same(pixels), module(pixels))


def test_a_norm_that_follows_no_convolution_stays():
    module = unlike_new(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    smaller = folded(module, torch.randn(2, 3, 8, 8))
    assert norms(smaller) == 1
