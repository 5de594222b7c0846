"""Rankings, choice, cost, blocks, and networks rebuilt from plain numbers."""

import copy
import json
import math
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from sevenfold import nets
from sevenfold.errors import GateRefused, ModelError, UsageError
from sevenfold.evaluate import fit_temperature
from sevenfold.loop import Trained
from sevenfold.practices import pruning
from sevenfold.practices.pruning import (
    ACROSS,
    RANKINGS,
    Choice,
    Coupling,
    Limits,
    Pruning,
    block_losses,
    by_cost,
    check,
    chosen,
    cost,
    couple,
    difference,
    lesion_blocks,
    lesioned,
    prove,
    removable_blocks,
    remove,
    reshape,
    saved,
    scores,
    shapes,
    without_block,
)
from sevenfold.train import pruned
from sevenfold.train.pruned import controls, ground

SIDE = 32
PICTURES = torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 255


@cache
def built(name: str) -> tuple[nets.Network, Coupling]:
    torch.manual_seed(0)
    network = nets.small(name, 5).eval()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.weight.data.uniform_(0.5, 1.5)
            part.bias.data.uniform_(-0.5, 0.5)
    return network, couple(network, SIDE)


class Tiny(nn.Module):
    """Three filters of 1x1 on one channel that is read, a norm, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)
        self.norm = nn.BatchNorm2d(3, eps=1e-12)  # torch 2.11 refuses none
        self.head = nn.Linear(3, 2, bias=False)
        rows = [[3.0, 4.0, 0.0], [0.0, -2.0, 0.0], [1.0, 1.0, 1.0]]
        self.conv.weight.data = torch.tensor(rows)[:, :, None, None]
        self.norm.weight.data = torch.tensor([1.0, -0.5, 2.0])
        self.head.weight.data = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.conv(pixels))).mean((2, 3)))


def one_batch():
    """Give two pictures of 2x2 pixels: dark but for one, and light."""
    pixels = torch.zeros(2, 3, 2, 2)
    pixels[0, :, 0, 0] = 1
    pixels[1] = 2
    yield pixels, torch.tensor([[1.0, 0.0], [0.0, 1.0]])


def ranked(ranking: str, batches=one_batch, *, across: str = "literal", network=None):
    network = network or Tiny().eval()
    (found,) = scores(network, couple(network, 2), ranking, batches, across=across)
    return found


@pytest.mark.parametrize(
    ("ranking", "wanted"),
    [
        ("l1", [7, 2, 3]),
        ("l2", [5, 2, math.sqrt(3)]),
        ("bn_scale", [1, 0.5, 2]),
        # Values behind the norm and ReLU at the light pixels: 7, 1 and 6 a unit of light.
        ("mean_activation", [(7 / 4 + 14) / 2, (1 / 4 + 2) / 2, (6 / 4 + 12) / 2]),
        ("nonzero", [5 / 8, 5 / 8, 5 / 8]),
    ],
)
def test_rankings_of_a_network_made_by_hand(ranking, wanted):
    np.testing.assert_allclose(ranked(ranking), wanted, rtol=1e-6)
    np.testing.assert_allclose(
        ranked(ranking, across="normalised"), np.array(wanted) / np.mean(wanted), rtol=1e-6
    )


def test_taylor_is_value_times_gradient():
    # The head averages: the gradient of a class's logit by the value is softmax - target.
    p = [torch.softmax(torch.tensor([7 / 4, 1 / 4]), 0), torch.softmax(torch.tensor([14.0, 2]), 0)]
    wanted = [
        (abs((p[0][0] - 1) * 7 / 4) + abs(p[1][0] * 14)) / 2,
        (abs(p[0][1] * 1 / 4) + abs((p[1][1] - 1) * 2)) / 2,
        0.0,
    ]
    np.testing.assert_allclose(ranked("taylor"), [float(one) for one in wanted], rtol=1e-4)


def test_taylor_works_below_a_frozen_layer_and_leaves_no_gradients():
    frozen = Tiny().requires_grad_(False)
    np.testing.assert_allclose(ranked("taylor", network=frozen), ranked("taylor"))
    assert all(one.grad is None for one in frozen.parameters())
    trained = Tiny()
    ranked("taylor", network=trained)
    assert all(one.grad is None for one in trained.parameters())
    assert trained.training


@pytest.mark.parametrize("ranking", ["nonzero", "mean_activation", "taylor"])
def test_statistics_run_over_all_batches_not_the_last(ranking):
    ((pixels, targets),) = one_batch()

    def apart():
        yield from zip(pixels.split(1), targets.split(1), strict=True)

    def last():
        yield pixels[1:], targets[1:]

    np.testing.assert_allclose(ranked(ranking, apart), ranked(ranking), rtol=1e-6)
    assert not np.allclose(ranked(ranking, last), ranked(ranking))


def test_batches_of_other_sizes_weigh_by_their_pictures():
    pixels = torch.cat([torch.ones(3, 3, 2, 2), torch.zeros(1, 3, 2, 2)])
    targets = torch.ones(4, 2) / 2

    def uneven():
        yield from zip(pixels.split(3), targets.split(3), strict=True)

    np.testing.assert_allclose(ranked("nonzero", uneven), [0.75, 0.75, 0.75])


def test_random_depends_on_seed_and_group_alone():
    network, coupling = built("plain20")
    first, again, other = (
        scores(network, coupling, "random", one_batch, across="normalised", seed=seed)
        for seed in (0, 0, 1)
    )
    for one, two, three in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one, two)
        assert not np.array_equal(one, three)
        assert ((one >= 0) & (one < 1)).all()
    assert not np.array_equal(first[0], first[1])


def test_a_stream_sums_its_layers_literally_and_averages_them_normalised():
    network, coupling = built("resnet20")
    at = [group.name for group in coupling.groups].index("blocks.0.0.0")
    made = [one for one in coupling.groups[at].of("filter") if one.tensor == "weight"]
    assert len(made) == 10
    norms = []
    for one in made:
        weight = network.get_submodule(one.module).weight.detach().double()
        norms.append(weight.abs().sum((1, 2, 3)).numpy()[one.places[:, 0]])
    literal = scores(network, coupling, "l1", one_batch, across="literal")[at]
    np.testing.assert_allclose(literal, np.sum(norms, axis=0))
    normalised = scores(network, coupling, "l1", one_batch, across="normalised")[at]
    wanted = np.mean([norm / norm.mean() for norm in norms], axis=0)
    np.testing.assert_allclose(normalised, wanted)


def test_by_ranks_all_layers_lose_the_same_share():
    network, coupling = built("plain20")
    normalised = scores(network, coupling, "l1", one_batch, across="normalised")
    ranks = scores(network, coupling, "l1", one_batch, across="ranks")
    for one, other, group in zip(normalised, ranks, coupling.groups, strict=True):
        assert (np.argsort(one) == np.argsort(other)).all()
        np.testing.assert_allclose(np.sort(other), np.arange(group.channels) / group.channels)
    half = sum(group.channels for group in coupling.groups) // 2
    gone = chosen(ranks, coupling, cost(network, SIDE), count=half).gone
    for group in coupling.groups:
        assert abs(len(gone[group.name]) - group.channels // 2) <= 8


def test_a_ranking_that_cannot_say_keeps_the_channels():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 30), nn.Flatten())
    coupling = couple(network, SIDE)
    for across in ACROSS:
        (found,) = scores(network, coupling, "bn_scale", one_batch, across=across)
        assert np.isinf(found).all()
    none = chosen([found], coupling, cost(network, SIDE), count=1, limits=Limits(floor=1))
    assert none == Choice({}, 0, 0.0)


def test_bad_rankings_are_refused():
    with pytest.raises(UsageError, match="'l3' is no ranking"):
        ranked("l3")
    with pytest.raises(UsageError, match="there are none"):
        ranked("taylor", lambda: iter(()))


@pytest.mark.parametrize("ranking", RANKINGS)
def test_every_ranking_scores_every_channel(ranking):
    network, coupling = built("resnet20")

    def batches():
        yield PICTURES, torch.eye(5)[[0, 1, 2, 3]]

    found = scores(network, coupling, ranking, batches, across="normalised")
    assert [len(one) for one in found] == [group.channels for group in coupling.groups]
    for one in found:
        assert np.isfinite(one).all()
        assert (one >= 0).all()
        if ranking != "random":
            assert one.mean() == pytest.approx(1)


# Choice.


def by_l1(name: str = "plain20", **target):
    network, coupling = built(name)
    found = scores(network, coupling, "l1", one_batch, across="normalised")
    return network, coupling, chosen(found, coupling, cost(network, SIDE), **target).gone


@pytest.mark.parametrize("macs", [0.1, 0.4, 0.7])
def test_a_share_of_macs_is_reached_in_chunks_of_eight(macs):
    network, coupling, removal = by_l1(macs=macs)
    smaller = remove(network, coupling, removal, PICTURES)
    left = cost(smaller, SIDE).macs / cost(network, SIDE).macs
    assert 1 - macs - 0.06 < left <= 1 - macs
    for sizes in shapes(smaller).values():
        assert not sizes or sizes[1] % 8 == 0 or sizes[1] == 5


def test_parameters_are_a_target_too():
    network, coupling, removal = by_l1("vgg11_bn", parameters=0.5)
    smaller = remove(network, coupling, removal, PICTURES)
    left = cost(smaller, SIDE).parameters / cost(network, SIDE).parameters
    assert 0.45 < left <= 0.5


def test_the_lowest_over_all_layers_go():
    network, coupling = built("plain20")
    values = [np.arange(group.channels) + 1000.0 for group in coupling.groups]
    values[3][[2, 5, 6, 7, 9, 10, 14, 15]] = 1
    values[5][:8] = 2
    removal = chosen(values, coupling, cost(network, SIDE), count=8).gone
    assert removal == {coupling.groups[3].name: (2, 5, 6, 7, 9, 10, 14, 15)}
    removal = chosen(values, coupling, cost(network, SIDE), count=9).gone
    assert removal[coupling.groups[5].name] == tuple(range(8))


def test_counts_that_are_no_multiple_reach_one_first_and_small_groups_lose_single_channels():
    network = nn.Sequential(
        *(nn.Conv2d(3, 20, 3), nn.ReLU(), nn.Conv2d(20, 12, 3), nn.ReLU()),
        *(nn.Conv2d(12, 5, 28), nn.Flatten()),
    )
    coupling = couple(network, SIDE)
    dense = cost(network, SIDE)
    low = [np.arange(20.0), np.arange(12.0) + 100]
    assert chosen(low, coupling, dense, count=1).gone == {"0": (0, 1, 2, 3)}
    assert chosen(low, coupling, dense, count=5).gone == {"0": tuple(range(12))}
    assert chosen(low, coupling, dense, count=14).gone == {"0": tuple(range(12)), "2": (0, 1)}
    # The last to go are four at once: of those before, the highest need not have gone.
    first = [np.arange(20.0) + 100, np.arange(12.0)]
    assert chosen(first, coupling, dense, count=4).gone == {"2": (0, 1, 2, 3)}
    assert chosen(first, coupling, dense, count=6).gone == {"0": (0, 1, 2, 3), "2": (0, 1)}
    # What went before counts: 10 of 12 are left, and the floor is 8.
    assert chosen(low, coupling, dense, count=17).reached == 16


def test_floors_and_caps_hold_over_the_steps_of_a_loop():
    network, coupling = built("plain20")
    caps = Limits(
        largest_share=0.5, dense={group.name: group.channels for group in coupling.groups}
    )
    dense = cost(network, SIDE)
    everything = scores(network, coupling, "l1", one_batch, across="normalised")
    assert chosen(everything, coupling, dense, count=10_000, limits=caps).reached == 344
    removal = chosen(everything, coupling, dense, count=344, limits=caps).gone
    smaller = remove(network, coupling, removal, PICTURES)
    again = couple(smaller, SIDE)
    assert all(group.channels == coupling.group(group.name).channels // 2 for group in again.groups)
    left = scores(smaller, again, "l1", one_batch, across="normalised")
    assert chosen(left, again, cost(smaller, SIDE), count=1, limits=caps).gone == {}
    floors = Limits(floor=32)  # 6 groups of 64, 32 of each
    assert chosen(everything, coupling, dense, count=10_000, limits=floors).reached == 192


def test_of_a_target_out_of_reach_all_goes_that_may():
    network, coupling = built("plain20")
    found = scores(network, coupling, "l2", one_batch, across="normalised")
    dense = cost(network, SIDE)
    most = chosen(found, coupling, dense, macs=0.999).reached
    assert 0.7 < most < 0.999
    assert chosen(found, coupling, dense, macs=most - 0.001).reached >= most - 0.001


# Cost.


def test_cost_counts_by_hand():
    network = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, 2, 1, groups=8)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
    )
    found = cost(network, 16)
    assert found.layers["0"].macs == 16 * 16 * 9 * 3 * 8
    assert found.layers["2"].macs == 8 * 8 * 9 * 8
    assert found.layers["5"].macs == 40
    assert found.parameters == (27 * 8 + 8) + 16 + (72 + 8) + 45
    coupling = couple(network, 16)
    assert [group.name for group in coupling.groups] == ["0"]
    assert saved(found, coupling, coupling.groups[0], "macs") == 16 * 16 * 27 + 8 * 8 * 9 + 5


@pytest.mark.parametrize("counted", ["macs", "parameters"])
def test_score_by_cost_divides_by_what_is_saved(counted):
    network, coupling = built("plain20")
    dense = cost(network, SIDE)
    ones = [np.ones(group.channels) for group in coupling.groups]
    found = by_cost(ones, coupling, dense, counted)
    for group, values in zip(coupling.groups, found, strict=True):
        np.testing.assert_allclose(values, 1 / saved(dense, coupling, group, counted))


# Surgery.


@pytest.mark.parametrize("name", ["resnet20", "vgg11_bn"])
def test_a_pruned_network_is_rebuilt_to_the_bit(name, tmp_path):
    network, coupling = built(name)
    removal = {group.name: [0, 3] for group in coupling.groups}
    smaller = remove(network, coupling, removal, PICTURES)
    if name == "resnet20":
        smaller = without_block(smaller, "blocks.8", PICTURES)
    safetensors.torch.save_file(smaller.state_dict(), tmp_path / "weights.safetensors")
    (tmp_path / "arch.json").write_text(json.dumps(shapes(smaller)), encoding="utf-8")

    again = reshape(
        nets.small(name, 5), json.loads((tmp_path / "arch.json").read_text(encoding="utf-8"))
    ).eval()
    again.load_state_dict(safetensors.torch.load_file(tmp_path / "weights.safetensors"))
    assert shapes(again) == shapes(smaller)
    with torch.inference_mode():
        assert torch.equal(again(PICTURES), smaller(PICTURES))


def test_depthwise_layers_are_rebuilt():
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 5, 30))
    network.append(nn.Flatten())
    smaller = remove(network, couple(network, SIDE), {"0": [1, 2]}, PICTURES)
    assert shapes(smaller)["1"] == [6, 6, 6]
    again = reshape(network, shapes(smaller))
    again.load_state_dict(smaller.state_dict())
    assert torch.equal(again(PICTURES), smaller(PICTURES))


@pytest.mark.parametrize(
    "wrong",
    [
        {"blocks.99": [1, 2, 1]},
        {"pool": [8, 8, 1]},
        {"head": [8, 8]},
        {"head": [64, 5, 1]},
    ],
)
def test_shapes_of_another_network_are_refused(wrong):
    with pytest.raises(ModelError, match="of another network"):
        reshape(nets.small("plain20", 5), wrong)


@pytest.mark.parametrize("removal", [{"blocks.0.0.0": [16]}, {"blocks.0.0.0": list(range(16))}])
def test_impossible_removals_are_refused(removal):
    network, coupling = built("plain20")
    with pytest.raises(UsageError, match="cannot go: it has 16"):
        remove(network, coupling, removal, PICTURES)
    with pytest.raises(UsageError, match="no group has this name"):
        remove(network, coupling, {"blocks": [0]}, PICTURES)


def test_the_proof_is_relative_to_the_logits():
    network, _ = built("plain20")
    faint = reshape(network, shapes(network))
    faint.load_state_dict(network.state_dict())
    with torch.no_grad():
        faint.head.weight *= 1e-6
        faint.head.bias *= 1e-6
    broken = reshape(faint, shapes(faint))
    broken.load_state_dict(faint.state_dict())
    with torch.no_grad():
        broken.head.weight[0] *= 1.01
    assert prove(faint, faint, PICTURES) == 0
    assert 1e-5 < difference(faint, broken, PICTURES) < 0.1
    with pytest.raises(GateRefused, match="logits differ"):
        prove(faint, broken, PICTURES)
    with pytest.raises(GateRefused, match="does not run") as caught:
        prove(faint, nn.Linear(7, 5), PICTURES)
    # Who prunes a finished run has no training to set anything for.
    assert caught.value.cure == f"nothing was changed; {pruning.UNPRUNED}"


def test_not_a_number_is_no_proof():
    network, _ = built("plain20")
    broken = reshape(network, shapes(network))
    broken.load_state_dict(network.state_dict())
    broken.head.bias.data[0] = float("nan")
    with pytest.raises(GateRefused):
        prove(network, broken, PICTURES)
    with pytest.raises(GateRefused):
        prove(broken, broken, PICTURES)


# Blocks.


def test_blocks_with_a_plain_shortcut_can_go():
    network, _ = built("resnet20")
    names = removable_blocks(network, PICTURES)
    assert names == tuple(f"blocks.{k}" for k in (1, 2, 3, 5, 6, 8, 9))
    assert removable_blocks(built("plain20")[0], PICTURES) == ()
    smaller = without_block(network, "blocks.2", PICTURES)
    assert isinstance(smaller.get_submodule("blocks.2"), nn.Identity)
    assert cost(smaller, SIDE).macs < cost(network, SIDE).macs
    coupling = couple(smaller, SIDE)
    assert len(coupling.groups) == len(couple(network, SIDE).groups) - 1
    remove(smaller, coupling, {coupling.groups[0].name: [0]}, PICTURES)


def test_blocks_are_ranked_by_what_their_loss_costs():
    network, _ = built("resnet20")
    names = removable_blocks(network, PICTURES)

    targets = torch.softmax(torch.randn(4, 5, generator=torch.Generator().manual_seed(1)), dim=1)
    halves = [(PICTURES[:3], targets[:3]), (PICTURES[3:], targets[3:])]

    def loss(one: nn.Module) -> float:
        with torch.no_grad():
            return float(nn.functional.cross_entropy(one.eval()(PICTURES), targets))

    losses = block_losses(network, names, lambda: iter(halves))
    assert list(losses) == list(names)
    for name, rise in losses.items():
        # As if each network without a block had been run by itself.
        assert rise == pytest.approx(loss(lesioned(network, name)) - loss(network), abs=1e-5)
        assert abs(rise) > 1e-4
    for name in ("blocks.1", "blocks.8"):
        smaller = without_block(network, name, PICTURES)
        assert cost(smaller, SIDE).macs < cost(network, SIDE).macs


def test_a_block_of_a_network_without_shortcuts_is_no_identity():
    network, _ = built("plain20")
    with pytest.raises(GateRefused, match="logits differ"):
        without_block(network, "blocks.2", PICTURES)


def test_bottlenecks_and_inverted_residuals_can_go():
    import torchvision

    network = torchvision.models.mobilenet_v2(num_classes=5, width_mult=0.35).eval()
    pixels = PICTURES / 255
    names = removable_blocks(network, pixels)
    assert names[:3] == ("features.3", "features.5", "features.6")
    without_block(network, names[-1], pixels)
    bottlenecks = torchvision.models.ResNet(
        torchvision.models.resnet.Bottleneck, [2, 1, 2, 1], num_classes=5
    ).eval()
    assert removable_blocks(bottlenecks, pixels) == ("layer1.1", "layer3.1")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("resnet20", [f"blocks.{k}" for k in (1, 2, 3, 5, 6, 8, 9)]),
        ("plain20", [f"blocks.{k}" for k in (1, 2, 3, 5, 6, 8, 9)]),
        # 256 to 256 and three of 512 to 512; two of them keep the pool behind them.
        ("vgg11_bn", ["blocks.3.0", "blocks.5.0", "blocks.6", "blocks.7.0"]),
    ],
)
def test_lesions_leave_out_what_agrees_in_shape(name, wanted):
    network, _ = built(name)
    assert list(lesion_blocks(network, PICTURES)) == wanted
    before = {key: one.clone() for key, one in network.state_dict().items()}
    for one in wanted:
        hurt = lesioned(network, one)
        with torch.inference_mode():
            assert hurt(PICTURES).shape == (4, 5)
            assert not torch.equal(hurt(PICTURES), network(PICTURES))
    assert all(torch.equal(one, before[key]) for key, one in network.state_dict().items())


# Settings.


def test_what_would_do_nothing_is_refused():
    check(Pruning.off)
    check(Pruning(macs=0.3, ranking="l1"))
    with pytest.raises(UsageError, match=r"pruning\.ranking = 'l1' would do nothing"):
        check(Pruning(ranking="l1", across="literal"))


def test_one_network_is_pruned_not_a_vote():
    check(Pruning.off, voters=3)
    with pytest.raises(UsageError, match="3 are to vote") as caught:
        check(Pruning(macs=0.3), voters=3)
    assert "ensembling.distil=true" in caught.value.cure


def test_norms_that_are_kept_still_do_not_move_and_everything_is_trained():
    network = copy.deepcopy(built("resnet20")[0]).requires_grad_(True)
    norms = [one for one in network.modules() if isinstance(one, nn.BatchNorm2d)]
    means = [one.running_mean.clone() for one in norms]
    weights = [one.weight.detach().clone() for one in norms]
    moved = torch.optim.SGD(network.parameters(), 0.1)
    with torch.no_grad():
        wanted = network.eval()(PICTURES)
    with pruning.still(network):
        network.train()
        logits = network(PICTURES)
        torch.testing.assert_close(logits.detach(), wanted)  # by what they hold, not by the batch
        logits.square().mean().backward()
        moved.step()
    assert all(torch.equal(one.running_mean, mean) for one, mean in zip(norms, means, strict=True))
    assert any(not torch.equal(one.weight, was) for one, was in zip(norms, weights, strict=True))
    network.train()(PICTURES)
    assert not torch.equal(norms[0].running_mean, means[0])


@pytest.mark.parametrize("fitted", [True, False])
def test_statistics_that_weights_were_fitted_to_are_kept(fitted: bool):
    network = copy.deepcopy(built("resnet20")[0]).eval()
    with torch.no_grad():
        for one in network.modules():
            if isinstance(one, nn.BatchNorm2d):
                one.running_mean.add_(0.5)  # of other pictures than these
        targets = torch.softmax(network(PICTURES), dim=1)
    nothing: Any = None
    limits = pruning.Limits(dense={})
    batches = [(PICTURES, targets)]
    how = pruning.Trimming(pruning.Pruning(), limits, lambda: iter(batches), nothing, SIDE, 0)
    laid = ground.Ground(network, nothing, nothing, how, nothing, 0, nothing, batches, fitted)
    found, kept = ground._normed(laid, network)
    assert kept == fitted
    same = torch.equal(found.eval()(PICTURES), network(PICTURES))
    assert same == fitted
    assert found is not network
    # Where measuring anew serves better, that is done: the targets are another network's.
    other = pruning.recalibrated(network, [PICTURES])
    with torch.no_grad():
        batches[0] = (PICTURES, torch.softmax(other(PICTURES), dim=1))
    assert not ground._normed(laid, network)[1]


@pytest.mark.parametrize("better", [True, False])
def test_after_training_statistics_of_plain_pictures_are_tried_on_validation(monkeypatch, better):
    network = copy.deepcopy(built("resnet20")[0])
    (first, *_) = [one for one in network.modules() if isinstance(one, nn.BatchNorm2d)]
    of_blends = first.running_var.clone()
    anew = pruning.recalibrated(network, [PICTURES])
    labels = np.arange(4)
    right = 5 * np.eye(4, dtype=np.float32)

    def asked(_: Any, one: nets.Network) -> pruned.Candidate:
        (norm, *_) = [part for part in one.modules() if isinstance(part, nn.BatchNorm2d)]
        measured = not torch.equal(norm.running_var, of_blends)
        return pruned.Candidate(one, right if measured == better else -right, Trained((), 0, False))

    def plain(views: Any, _targets: Any, pictures: Any) -> Any:
        assert views == "plain"
        yield PICTURES[pictures], torch.eye(5)[pictures]

    monkeypatch.setattr(ground, "asked", asked)
    monkeypatch.setattr(ground, "_batches", plain)
    monkeypatch.setattr(ground, "hard", lambda _: None)
    monkeypatch.setattr(ground.Ground, "seen", np.arange(4))
    nothing: Any = None
    bench: Any = SimpleNamespace(plain="plain", labels=labels)
    laid = ground.Ground(network, bench, nothing, nothing, nothing, 0, nothing, [])
    found = ground._settled(laid, network)
    wanted = anew if better else network
    state = found.network.state_dict()
    assert all(torch.equal(state[name], held) for name, held in wanted.state_dict().items())
    np.testing.assert_array_equal(found.logits, right)


# Several targets.


@pytest.mark.parametrize(
    ("left", "tried", "found"),
    [
        ([0.59], [0.7], 0.59),  # as much less as the others take along
        ([0.62, 0.6], [0.7, 0.65], 0.6),  # or half of it
        ([0.62, 0.61], [0.7, 0.65], 0.5),
        ([None, 0.58], [0.7, 0.65], 0.58),  # the others cannot do without
        ([0.4, 0.3], [0.7, 0.65], 0.5),  # chunks: less may be left than before
    ],
)
def test_what_others_take_along_need_not_go_for_the_first_target(monkeypatch, left, tried, found):
    seen, outcomes = [], iter(left)

    def cut(_ground: Any, _network: Any, first: float, others: list[float]) -> float:
        seen.append(round(first, 9))
        assert others == [0.5]
        outcome = next(outcomes)
        if outcome is None:
            raise UsageError("floors keep more", "name a larger target")
        return outcome

    monkeypatch.setattr(pruned, "_cut", cut)
    monkeypatch.setattr(pruning, "cost", lambda share, _: SimpleNamespace(of=lambda _: share))
    aim = SimpleNamespace(target=SimpleNamespace(counted="macs"))
    laid: Any = SimpleNamespace(
        plan=SimpleNamespace(aims=[aim]), network=1.0, how=SimpleNamespace(side=SIDE)
    )
    start: Any = None
    assert pruned._no_further(laid, start, 0.5, 0.6, [0.5]) == found
    assert seen == tried
    seen.clear()
    assert pruned._no_further(laid, start, 0.595, 0.6, [0.5]) == 0.595
    assert not seen


# Who teaches.


@pytest.mark.parametrize(
    ("longer", "leads"),
    [(3.0, True), (0.0, False), (-3.0, False), (math.nan, False)],
)
def test_the_unpruned_network_teaches_as_it_was_or_trained_on(monkeypatch, longer, leads):
    was = np.array([[1.0, 0], [0, 1], [0, 1]], np.float32)
    after = was.copy()
    after[2, 0] = longer  # which is right
    monkeypatch.setattr(ground, "_teacher", lambda network, warmth, _: (network, warmth))
    nothing: Any = None
    bench: Any = SimpleNamespace(labels=np.array([0, 1, 0]))
    laid = ground.Ground(nothing, bench, nothing, nothing, nothing, 0, nothing, [])
    start, control = (
        pruned.Candidate(network, logits, Trained((), 0, False))
        for network, logits in ((built("resnet20")[0], was), (built("plain20")[0], after))
    )
    found = ground.led(laid, start, control)
    if not leads:
        assert found is laid
        return
    network, warmth = found.teacher
    assert network is control.network
    assert warmth == max(1.0, fit_temperature(after.astype(np.float64), bench.labels))


def test_controls_name_a_pruning_by_whether_one_may_teach():
    network = built("resnet20")[0]
    aims = (pruning.Aim(pruning.Target("macs", 0.5), 0.5),)
    names = [
        pruned.key(pruned.Plan(aims, Pruning(macs=0.5, controls=which), 0.1), network, SIDE, "")
        for which in ("none", "dense", "all")
    ]
    assert names[0] != names[1]
    assert names[1] == names[2]


# Controls.


def test_a_smaller_network_begins_as_if_it_had_been_built_that_narrow():
    network, coupling = built("resnet20")
    removal = {group.name: list(range(8)) for group in coupling.groups}
    smaller = without_block(remove(network, coupling, removal, PICTURES), "blocks.8", PICTURES)
    before = torch.random.get_rng_state()
    first, again, other = (
        controls.begun_anew(network, shapes(smaller), seed) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert shapes(first) == shapes(smaller)
    wide = first.get_submodule("blocks.9.second.0").weight
    assert torch.equal(wide, again.get_submodule("blocks.9.second.0").weight)
    assert not torch.equal(wide, other.get_submodule("blocks.9.second.0").weight)
    # He et al.'s deviation for as many filters as there are.
    assert float(wide.std()) == pytest.approx(math.sqrt(2 / (9 * len(wide))), rel=0.05)
    norms = [one for one in first.modules() if isinstance(one, nn.BatchNorm2d)]
    for one in norms:
        assert (one.weight == 1).all()
        assert (one.bias == 0).all()
        assert (one.running_mean == 0).all()
        assert (one.running_var == 1).all()
    assert not first.head.weight.any()
    assert not first.head.bias.any()
    assert first(PICTURES).shape == (4, 5)


class Scaled(nn.Module):
    """Hold a weight of its own, which no layer knows how to begin."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(3))


@pytest.mark.parametrize(
    ("weights", "part", "fresh"),
    [
        ("random", nn.Conv2d(3, 4, 1), True),
        ("packaged", nn.Conv2d(3, 4, 1), False),
        ("random", Scaled(), False),
    ],
)
def test_what_was_pretrained_has_no_smaller_start(monkeypatch, weights, part, fresh):
    monkeypatch.setattr(controls, "_from_scratch", lambda *_: ())
    monkeypatch.setattr(controls, "_at_random", lambda *_: controls.Smaller())
    network = nets.Network(part, nn.Sequential(), nn.Flatten(), nn.Linear(3, 2))
    nothing: Any = None
    recipe = SimpleNamespace(transfer=SimpleNamespace(weights=weights))
    bench: Any = SimpleNamespace(recipe=recipe)
    laid = ground.Ground(network, bench, nothing, nothing, nothing, 0, nothing, [])
    assert controls.smaller(laid, nothing, (), 3).fresh == fresh
