"""The pruning loop with made-up callables, its targets, and the budget that a cut keeps."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sevenfold import nets
from sevenfold.errors import UsageError
from sevenfold.practices import pruning
from sevenfold.practices.pruning import Limits, Pruning, Step, Target, Trimming, trimming
from sevenfold.train import pruned
from sevenfold.train.pruned import ground

SCORES = {1: 0.90, 2: 0.895, 3: 0.88, 4: 0.7}


class Desk:
    """Stand for all that the loop calls; a network is the list of what was done to it."""

    def __init__(self, held=()):
        self.held = {step.number: step for step in held}
        self.calls = []

    def run(self, steps=4, score=0.9, max_drop=0.02):
        return pruning.shrink(
            ["dense"],
            steps,
            score=score,
            max_drop=max_drop,
            trim=lambda network, number: self.did(network, "cut", number),
            retrain=lambda network, number: self.did(network, "train", number),
            measure=lambda network: SCORES[int(network[-1][-1])],
            recall=self.held.get,
            keep=lambda step: self.held.update({step.number: step}),
        )

    def did(self, network, what, number):
        self.calls.append(f"{what} {number}")
        return [*network, f"{what} {number}"]


def test_each_step_starts_from_the_one_before():
    found = Desk().run(steps=2)
    assert [step.network for step in found.kept] == [
        ["dense", "cut 1", "train 1"],
        ["dense", "cut 1", "train 1", "cut 2", "train 2"],
    ]
    assert [step.score for step in found.kept] == [0.90, 0.895]
    assert found.beyond is None


def test_it_stops_at_the_first_step_past_the_drop():
    desk = Desk()
    found = desk.run(max_drop=0.01)
    assert [step.number for step in found.kept] == [1, 2]
    assert found.beyond is not None
    assert found.beyond.number == 3
    assert "cut 4" not in desk.calls
    # What was measured is written down, also where it ended the loop.
    assert sorted(desk.held) == [1, 2, 3]


def test_a_drop_of_exactly_what_is_allowed_is_allowed():
    found = Desk().run(steps=3, max_drop=0.02)
    assert [step.number for step in found.kept] == [1, 2, 3]
    assert found.beyond is None


def test_a_network_may_get_better():
    assert len(Desk().run(steps=2, score=0.5, max_drop=0.0).kept) == 2


def test_it_goes_on_at_the_last_finished_step():
    first = Desk()
    first.run(steps=2)
    again = Desk(first.held.values())
    found = again.run(steps=3)
    assert again.calls == ["cut 3", "train 3"]
    assert found.kept[-1].network[:3] == ["dense", "cut 1", "train 1"]


def test_a_loop_that_ended_stays_ended():
    held = [Step(1, ["a 1"], 0.9), Step(2, ["a 2"], 0.2)]
    desk = Desk(held)
    found = desk.run()
    assert desk.calls == []
    assert [step.number for step in found.kept] == [1]
    assert found.beyond is held[1]


def test_the_same_part_goes_in_every_step():
    shares = pruning.shares(0.4, 5)
    assert shares[-1] == pytest.approx(0.4)
    parts = np.array(shares) / np.array([1.0, *shares[:-1]])
    assert np.allclose(parts, parts[0])


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("macs=0.6", "macs", 0.6),
        ("parameters=500000", "parameters", 500000.0),
        (" megabytes = 5 ", "megabytes", 5.0),
        ("latency=4", "latency", 4.0),
        ("latency=4ms", "latency", 4.0),
    ],
)
def test_targets_are_read(text, kind, value):
    assert pruning.targets(text) == (Target(kind, value),)


def test_several_targets_are_read_and_work_comes_first():
    found = pruning.targets("megabytes=5, latency=4ms, parameters=0.5, macs=0.6")
    assert [str(one) for one in found] == ["latency=4", "macs=0.6", "megabytes=5", "parameters=0.5"]
    with pytest.raises(UsageError, match="names macs 2 times"):
        pruning.targets("macs=0.6,parameters=0.5,macs=0.7")
    with pytest.raises(UsageError, match="'' is no target"):
        pruning.targets("macs=0.6,")


@pytest.mark.parametrize(
    "text", ["", "macs", "macs=", "flops=0.5", "macs=-1", "macs=0", "macs=nan", "macs=inf", "=0.5",
             "macs=4ms"]
)  # fmt: skip
def test_what_is_no_target_is_refused(text):
    with pytest.raises(UsageError, match="is no target"):
        pruning.targets(text)


def test_targets_become_shares():
    dense = pruning.cost(nets.small("resnet20", 10), 32)
    known = {"megabytes": 1.2, "latency_ms": 8.0}

    def share(text):
        return pruning.share(*pruning.targets(text), dense, **known)

    assert share("macs=0.6") == 0.6
    assert share(f"macs={dense.macs // 2}") == pytest.approx(0.5)
    assert share("latency=2") == 0.25
    # 0.6 MB less are 150,000 numbers of four bytes, and as many more as norms fold away.
    folded = sum(
        one.num_features
        for one in nets.small("resnet20", 10).modules()
        if isinstance(one, torch.nn.BatchNorm2d)
    )
    gone = 150_000 + folded
    assert share("megabytes=0.6") == pytest.approx(1 - gone / dense.parameters, abs=1e-4)
    for text in ("macs=1e12", "latency=8", "megabytes=1.3"):
        with pytest.raises(UsageError, match="is no less than"):
            share(text)
    # Of a file without any weights, which no cut reaches, less than nothing remains.
    assert share("megabytes=0.01") < 0 < share("megabytes=0.2")


# The budget that a cut keeps.


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    blocks = nn.Sequential(
        nn.Sequential(nets._conv_norm(3, 16), nn.ReLU()),
        nets.Residual(16, 16, 1, True),
        nets.Residual(16, 24, 2, True),
    )
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = nets.Network(nets.Normalise((0.5,) * 3, (0.5,) * 3), blocks, pool, nn.Linear(24, 3))
    return found.eval()


def how(limits=None, **settings):
    pixels = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 255
    targets = nn.functional.one_hot(torch.arange(6) % 3, 3).float()
    some = partial(iter, [(pixels, targets)])
    return Trimming(Pruning(**settings), limits or Limits(), some, some, 16, 0)


def test_statistics_of_activations_are_of_held_pictures_and_taylors_numbers_of_others(network):
    seen = {"batches": 0, "held": 0}

    def counted(name):
        seen[name] += 1
        return how().batches()

    for ranking, wanted in (
        ("nonzero", {"held"}),
        ("mean_activation", {"held"}),
        ("taylor", set()),
    ):
        seen.update(batches=0, held=0)
        asked = replace(
            how(ranking=ranking, blocks=False),
            batches=partial(counted, "batches"),
            held=partial(counted, "held"),
        )
        pruning.trimmed(network, "macs", 0.8 * pruning.cost(network, 16).macs, asked)
        assert bool(seen["held"]) == bool(wanted)
        assert seen["batches"]  # the proof is on training pictures, whatever ranks


@pytest.mark.parametrize("counted", ["macs", "parameters"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"across": "literal"}, {"across": "ranks"}, {"by_cost": True}, {"ranking": "l1"}],
)
def test_a_cut_keeps_its_budget(network, counted, settings):
    have = getattr(pruning.cost(network, 16), counted)
    smaller = pruning.trimmed(network, counted, 0.7 * have, how(**settings))
    left = getattr(pruning.cost(smaller, 16), counted)
    assert 0.35 * have < left <= 0.7 * have
    assert pruning.reshape(network, pruning.shapes(smaller))(torch.zeros(2, 3, 16, 16)).shape == (
        2,
        3,
    )


def test_what_is_small_enough_stays(network):
    assert pruning.trimmed(network, "macs", 1e12, how()) is network


def test_a_block_that_does_nothing_goes_first(network):
    idle = pruning.reshape(network, pruning.shapes(network))
    idle.load_state_dict(network.state_dict())
    with torch.no_grad():
        for parameter in idle.blocks[1].parameters():
            parameter.zero_()
    idle.eval()
    dense, block = pruning.cost(idle, 16), "blocks.1"
    own = [one.macs for layer, one in dense.layers.items() if layer.startswith(f"{block}.")]
    wanted = dense.macs - sum(own)
    smaller = pruning.trimmed(idle, "macs", wanted, how())
    assert isinstance(smaller.blocks[1], nn.Identity)
    assert [sizes for sizes in pruning.shapes(smaller).values() if sizes] == [
        sizes
        for name, sizes in pruning.shapes(idle).items()
        if sizes and not name.startswith(block)
    ]
    # With blocks held, channels go in its stead.
    held = pruning.trimmed(idle, "macs", wanted, how(blocks=False))
    assert not isinstance(held.blocks[1], nn.Identity)
    # A block is never more than what was asked for.
    little = pruning.trimmed(idle, "macs", dense.macs - 1, how())
    assert not isinstance(little.blocks[1], nn.Identity)


def test_a_block_that_is_more_than_is_to_go_goes_where_channels_do_not_suffice(network):
    limits = Limits(multiple=4, floor=12)
    channels = pruning.cost(pruning.smallest(network, how(limits, blocks=False)), 16).macs
    smaller = pruning.trimmed(network, "macs", channels - 1, how(limits))
    assert isinstance(smaller.blocks[1], nn.Identity)
    assert pruning.cost(smaller, 16).macs < channels


def test_floors_hold_and_what_they_keep_is_told(network):
    limits = Limits(multiple=4, floor=12)
    least = pruning.cost(pruning.smallest(network, how(limits)), 16).macs
    smaller = pruning.trimmed(network, "macs", least, how(limits))
    assert pruning.cost(smaller, 16).macs == least
    dense = {group.name: group.channels for group in pruning.couple(network, 16).groups}
    left = {group.name: group.channels for group in pruning.couple(smaller, 16).groups}
    assert all(count >= min(12, dense[name]) for name, count in left.items())
    assert any(count == 12 for count in left.values())
    with pytest.raises(UsageError, match="floors and caps"):
        pruning.trimmed(network, "macs", least - 1, how(limits))


def test_a_latency_is_reached_by_what_measures_it(network):
    asked = []

    def latency(one):
        asked.append(pruning.cost(one, 16).macs / 1e6)
        return asked[-1] + 0.1

    dense = pruning.cost(network, 16).macs / 1e6
    smaller = pruning.trimmed_to_latency(network, 0.6 * dense, how(), latency)
    assert latency(smaller) <= 0.6 * dense
    with pytest.raises(UsageError):
        pruning.trimmed_to_latency(network, 0.6 * dense, how(), lambda _: 9.0)


@pytest.mark.parametrize(
    "latency",
    [
        lambda left: 0.5 + 0.5 * left,  # something beside the layers takes half of the time
        lambda left: 0.5 + 0.5 * left**3,
        lambda left: 0.5 + 0.5 * left ** (1 / 3),
        lambda left: 1.0 if left > 0.21 else 0.58,
    ],
)
def test_a_latency_is_found_where_time_is_no_multiple_of_work(monkeypatch, latency):
    asked = []

    def trimmed(_network, _counted, wanted, _how):
        asked.append(wanted)
        return SimpleNamespace(macs=wanted)

    monkeypatch.setattr(trimming, "trimmed", trimmed)
    monkeypatch.setattr(trimming, "cost", lambda one, _side: one)
    monkeypatch.setattr(trimming, "smallest", lambda _network, _how: SimpleNamespace(macs=1.0))
    dense = SimpleNamespace(macs=1000.0)
    found = pruning.trimmed_to_latency(dense, 0.6, how(), lambda one: latency(one.macs / 1000))
    assert 0.57 < latency(found.macs / 1000) <= 0.6
    assert len(asked) <= 12


def test_the_last_cut_is_looked_at_and_the_nearest_latency_named(monkeypatch):
    cuts = iter([900.0] * 12 + [1.0])  # there is nothing between the largest and the least
    monkeypatch.setattr(trimming, "trimmed", lambda *_: SimpleNamespace(macs=next(cuts)))
    monkeypatch.setattr(trimming, "cost", lambda one, _side: one)
    monkeypatch.setattr(trimming, "smallest", lambda _network, _how: SimpleNamespace(macs=1.0))
    dense = SimpleNamespace(macs=1000.0)
    found = pruning.trimmed_to_latency(dense, 0.6, how(), lambda one: one.macs / 1000)
    assert found.macs == 1.0
    with pytest.raises(UsageError, match=r"the smallest .* takes 0\.52 ms") as caught:
        pruning.trimmed_to_latency(dense, 0.5, how(), lambda one: 0.515 + one.macs / 1000)
    assert caught.value.cure == "name latency=0.52 or more"


# Targets that are out of reach.


def grounded(network, text, share, asked=None):
    """Hold what a refusal looks at."""
    (target,) = pruning.targets(text)
    plan = pruned.Plan((pruning.Aim(target, share),), Pruning(), 0.1)
    return ground.Ground(network, None, None, asked or how(), plan, 0, lambda _: 1.0, [], False)


def normed(*norms):
    """Build a network of one 3x3 layer for each norm."""
    torch.manual_seed(1)
    widths = [3, *[16] * len(norms)]
    blocks = [
        nn.Sequential(nn.Conv2d(before, 16, 3, padding=1), norm, nn.ReLU())
        for before, norm in zip(widths, norms, strict=False)
    ]
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    normalise = nets.Normalise((0.5,) * 3, (0.5,) * 3)
    return nets.Network(normalise, nn.Sequential(*blocks), pool, nn.Linear(16, 3)).eval()


def test_a_network_of_which_nothing_may_go_is_told_why():
    network = normed(nn.GroupNorm(4, 16), nn.GroupNorm(2, 16))
    for text, share in (("macs=0.6", 0.6), ("parameters=0.5", 0.5), ("megabytes=0.001", -0.1)):
        with pytest.raises(UsageError, match=r"nothing of this network .* \(GroupNorm") as caught:
            pruned._reachable(grounded(network, text, share))
        assert caught.value.cure == pruning.UNPRUNED
    small = normed(nn.BatchNorm2d(16))
    floors = how(Limits(floor=16))
    with pytest.raises(UsageError, match=r"nothing .* \(floors and caps of channels keep all\)"):
        pruned._reachable(grounded(small, "macs=0.6", 0.6, floors))


def test_what_stays_whatever_is_asked_is_named_beside_what_can_be_had():
    network = normed(nn.BatchNorm2d(16), nn.GroupNorm(4, 16))
    with pytest.raises(UsageError, match=r"leave at least 0\.\d+; others.*GroupNorm") as caught:
        pruned._reachable(grounded(network, "macs=0.1", 0.1))
    name, _, offered = caught.value.cure.removeprefix("name ").partition(" ")[0].partition("=")
    assert name == "macs"
    pruned._reachable(grounded(network, f"macs={offered}", float(offered)))


def test_the_smallest_file_and_the_fewest_operations_that_can_be_had_are_named(network):
    dense, least = (pruning.cost(one, 16) for one in (network, pruning.smallest(network, how())))

    def share(text):
        return pruning.share(*pruning.targets(text), dense, megabytes=0.07, latency_ms=0.0)

    with pytest.raises(UsageError, match=r"megabytes=0\.001 is out of reach") as caught:
        pruned._reachable(grounded(network, "megabytes=0.001", share("megabytes=0.001")))
    offered = caught.value.cure.removeprefix("name ").partition(" ")[0]
    pruned._reachable(grounded(network, offered, share(offered)))
    gone = (dense.parameters - least.parameters) * pruning.WEIGHT_BYTES / 1e6
    assert 0.07 - gone <= float(offered.partition("=")[2]) < 0.07
    large = replace(how(), side=64)  # over a million: every digit counts
    fewest = pruning.cost(pruning.smallest(network, large), 64).macs
    asked = 1000 / pruning.cost(network, 64).macs
    with pytest.raises(UsageError) as caught:
        pruned._reachable(grounded(network, "macs=1000", asked, large))
    offered = caught.value.cure.removeprefix("name macs=").removesuffix(" or more")
    assert fewest <= int(offered) <= fewest + 1


def test_statistics_are_those_of_the_pictures(network):
    pixels = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(3)) * 255
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fresh = pruning.recalibrated(network, [pixels[:32], pixels[32:]])
    with torch.no_grad():
        maps = network.blocks[0][0][0](network.normalise(pixels))
    found = fresh.blocks[0][0][1]
    assert torch.allclose(found.running_mean, maps.mean(dim=(0, 2, 3)), atol=1e-4)
    assert found.momentum == network.blocks[0][0][1].momentum
    assert not fresh.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    same = pruning.recalibrated(network, [])
    assert torch.equal(same.blocks[0][0][1].running_mean, before["blocks.0.0.1.running_mean"])
