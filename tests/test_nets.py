import pytest
import torch
from torch import nn

from sevenfold import nets


def network(name: str, classes: int = 10) -> nets.Network:
    """Build a small network whose batch-norm statistics are not those of the start."""
    torch.manual_seed(0)
    made = nets.small(name, classes)
    made.train()
    with torch.no_grad():
        made(torch.rand(8, 3, 32, 32) * 255)
    return made.eval()


def pixels(batch: int = 4, side: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 3, side, side, generator=generator) * 255


def parameters(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


@pytest.mark.parametrize("name", nets.NAMES)
def test_every_network_gives_logits_and_a_feature_map(name):
    made = network(name, 7)
    with torch.inference_mode():
        features = made.features(pixels())
        logits = made(pixels())
    assert logits.shape == (4, 7)
    assert features.ndim == 4
    assert features.shape[:2] == (4, made.head.in_features)
    torch.testing.assert_close(made.classify(features), logits)


@pytest.mark.parametrize(
    ("name", "millions"), [("resnet20", 0.27), ("resnet32", 0.46), ("resnet56", 0.85)]
)
def test_parameters_are_as_many_as_published(name, millions):
    # He et al. 2015 (arXiv 1512.03385), table 6.
    assert round(parameters(nets.small(name, 10)) / 1e6, 2) == millions


@pytest.mark.parametrize("depth", [20, 32, 56])
def test_depth_counts_the_layers_with_weights(depth):
    made = nets.small(f"resnet{depth}", 10)
    layers = [part for part in made.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth
    assert parameters(made) == parameters(nets.small(f"plain{depth}", 10))


def test_vgg_has_eight_convolutions_and_one_linear_layer():
    made = nets.small("vgg11_bn", 10)
    widths = [part.out_channels for part in made.modules() if isinstance(part, nn.Conv2d)]
    assert widths == [64, 128, 256, 256, 512, 512, 512, 512]
    assert sum(isinstance(part, nn.Linear) for part in made.modules()) == 1
    assert made.features(pixels()).shape == (4, 512, 1, 1)


def test_plain_networks_have_no_shortcut():
    # With its last batch norm at zero a residual block keeps its input and a plain one forgets it.
    for name, kept in (("resnet20", True), ("plain20", False)):
        block = network(name).blocks[1]
        nn.init.zeros_(block.second[1].weight)
        nn.init.zeros_(block.second[1].bias)
        maps = torch.rand(2, 16, 8, 8)
        expected = maps if kept else torch.zeros_like(maps)
        torch.testing.assert_close(block(maps), expected)


def test_shortcuts_subsample_and_pad_with_zero_channels():
    block = nets.Residual(16, 32, 2, shortcut=True).eval()
    nn.init.zeros_(block.second[1].weight)
    maps = torch.rand(1, 16, 8, 8)
    out = block(maps)
    torch.testing.assert_close(out[:, 8:24], maps[:, :, ::2, ::2])
    assert out[:, :8].abs().max() == 0
    assert out[:, 24:].abs().max() == 0


@pytest.mark.parametrize("name", ["resnet20", "plain20", "vgg11_bn"])
def test_a_cut_network_computes_the_same_at_every_place(name):
    whole = network(name)
    with torch.inference_mode():
        expected = whole(pixels())
        for blocks in range(len(whole.blocks) + 2):
            trunk, tail = nets.cut(whole, blocks)
            found = tail.eval()(trunk(pixels()))
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
            assert len(trunk.blocks) == max(0, len(whole.blocks) - blocks)


def test_more_blocks_than_there_are_leave_an_empty_trunk():
    whole = network("resnet20")
    trunk, tail = nets.cut(whole, 1000)
    assert tail is whole
    torch.testing.assert_close(trunk(pixels()), pixels())
    assert all(weight.requires_grad for weight in tail.parameters())


def test_the_trunk_is_frozen_and_the_tail_is_not():
    trunk, tail = nets.cut(network("resnet20"), 3)
    assert list(trunk.parameters())
    assert not any(weight.requires_grad for weight in trunk.parameters())
    assert all(weight.requires_grad for weight in tail.parameters())


def test_the_trunk_stays_in_evaluation_mode():
    trunk, _ = nets.cut(network("resnet20"), 3)
    nn.Sequential(trunk, nn.Dropout()).train()
    assert not any(part.training for part in trunk.modules())
    assert trunk.train(True) is trunk


def test_frozen_batch_norm_is_really_frozen():
    whole = network("resnet20", 3)
    trunk, tail = nets.cut(whole, 2)
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    start = {name: value.clone() for name, value in tail.state_dict().items()}
    optimizer = torch.optim.SGD(tail.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    trunk.train()
    tail.train()
    for step in range(3):
        loss = nn.functional.cross_entropy(tail(trunk(pixels(8))), torch.arange(8) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss), step
    statistics = [name for name in before if "running" in name]
    assert len(statistics) == 30  # two for each of 15 batch norms below the cut
    for name, value in trunk.state_dict().items():
        assert torch.equal(value, before[name]), name
    moved = [
        name for name, value in tail.state_dict().items() if not torch.equal(value, start[name])
    ]
    assert any("running_mean" in name for name in moved)
    assert "head.weight" in moved


def test_normalise_maps_bytes_to_standard_scores():
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
    normalise = nets.Normalise(mean, std)
    found = normalise(pixels())
    expected = (pixels() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_start_follows_the_seed():
    states = []
    for seed in (4, 4, 5):
        torch.manual_seed(seed)
        states.append(nets.small("resnet20", 10).state_dict())
    first, again, other = states
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_convolutions_start_with_the_spread_of_he():
    torch.manual_seed(0)
    convolution = nets.small("vgg11_bn", 10).blocks[7][0][0]
    assert convolution.weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.02)
