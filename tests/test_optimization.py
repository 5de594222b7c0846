import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from sevenfold.errors import UsageError
from sevenfold.practices import optimization
from sevenfold.practices.optimization import NAMES, Optimization


def parts() -> tuple[list[nn.Module], nn.Linear]:
    blocks: list[nn.Module] = [
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
        nn.ReLU(),
        nn.Linear(4, 4),
    ]
    return blocks, nn.Linear(4, 2)


SETTINGS = Optimization(weight_decay=0.03, layer_decay=0.5)


def test_each_weight_is_in_one_group():
    blocks, head = parts()
    found = optimization.groups(blocks, head, SETTINGS, 0.1)
    listed = [id(weight) for group in found for weight in group["params"]]
    wanted = [id(weight) for part in (*blocks, head) for weight in part.parameters()]
    assert sorted(listed) == sorted(wanted)
    assert len(set(listed)) == len(listed)


def test_norms_and_biases_do_not_decay():
    blocks, head = parts()
    for group in optimization.groups(blocks, head, SETTINGS, 0.1):
        for weight in group["params"]:
            assert group["weight_decay"] == (0.03 if weight.ndim > 1 else 0.0)


def test_the_rate_falls_from_the_head_downwards():
    blocks, head = parts()
    found = optimization.groups(blocks, head, SETTINGS, 0.1)
    rates = {id(weight): group["lr"] for group in found for weight in group["params"]}
    assert rates[id(head.weight)] == rates[id(head.bias)] == pytest.approx(0.1)
    assert rates[id(blocks[2].weight)] == pytest.approx(0.05)
    assert rates[id(blocks[0][0].weight)] == pytest.approx(0.1 * 0.5**3)


def test_frozen_weights_are_left_out():
    blocks, head = parts()
    blocks[0].requires_grad_(False)
    found = optimization.groups(blocks, head, SETTINGS, 0.1)
    listed = {id(weight) for group in found for weight in group["params"]}
    assert not listed & {id(weight) for weight in blocks[0].parameters()}


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_lowers_a_loss(name):
    torch.manual_seed(0)
    blocks, head = parts()
    settings = replace(SETTINGS, name=name)
    moved = optimization.optimizer(settings, optimization.groups(blocks, head, settings, 0.01))
    inputs = torch.randn(16, 4)
    losses = []
    for _ in range(40):
        loss = head(inputs).square().mean()
        moved.zero_grad()
        loss.backward()
        moved.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_names_are_the_classes_they_say():
    blocks, head = parts()
    for name, kind in (("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)):
        settings = replace(SETTINGS, name=name, momentum=0.7)
        moved = optimization.optimizer(settings, optimization.groups(blocks, head, settings, 0.1))
        assert type(moved) is kind
        group = moved.param_groups[0]
        assert 0.7 in (group.get("momentum"), group.get("betas", (0,))[0])


def test_an_unknown_optimizer_is_named():
    with pytest.raises(UsageError, match=r"optimization\.name = 'adagrad'") as caught:
        optimization.optimizer(Optimization(name="adagrad"), [])
    assert "sgd" in caught.value.cure
    with pytest.raises(UsageError, match=r"optimization\.name"):
        optimization.probe(Optimization(name="lion"), lambda _: 1.0)


@pytest.mark.parametrize(("warmup", "steps"), [(0.1, 100), (0.0, 10), (0.5, 7), (0.2, 1)])
def test_the_rate_rises_to_its_peak_and_falls_to_zero(warmup, steps):
    weight = nn.Parameter(torch.zeros(1))
    moved = torch.optim.SGD([{"params": [weight], "lr": 0.4}])
    planned = optimization.schedule(moved, replace(SETTINGS, warmup=warmup), steps)
    rates = []
    for _ in range(steps):
        rates.append(moved.param_groups[0]["lr"])
        moved.step()
        planned.step()
    peak = max(range(steps), key=rates.__getitem__)
    assert rates[peak] == pytest.approx(0.4)
    assert peak <= max(1, round(warmup * steps))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert min(rates) > 0
    assert planned.get_last_lr()[0] == pytest.approx(0 if steps > 1 else 0.4, abs=1e-9)


def test_the_schedule_keeps_the_ratio_of_the_groups():
    blocks, head = parts()
    moved = optimization.optimizer(SETTINGS, optimization.groups(blocks, head, SETTINGS, 0.1))
    start = [group["initial_lr"] if "initial_lr" in group else group["lr"] for group in
             moved.param_groups]  # fmt: skip
    planned = optimization.schedule(moved, SETTINGS, 20)
    for _ in range(9):
        moved.step()
        planned.step()
    shares = [group["lr"] / first for group, first in zip(moved.param_groups, start, strict=True)]
    assert shares == pytest.approx([shares[0]] * len(shares))


def test_a_given_rate_is_taken_without_a_probe():
    rate, seen = optimization.probe(replace(SETTINGS, rate=0.02), lambda _: 1 / 0)
    assert rate == 0.02
    assert seen == []


@pytest.mark.parametrize("name", NAMES)
def test_the_probe_takes_the_rate_with_the_lowest_loss(name):
    rates = optimization.RATES[name]
    for best in rates:
        tried: list[float] = []

        def loss_at(rate: float, best: float = best, tried: list[float] = tried) -> float:
            tried.append(rate)
            return abs(math.log(rate / best))

        chosen, seen = optimization.probe(replace(SETTINGS, name=name), loss_at)
        assert chosen == best
        assert tuple(tried) == rates
        assert [one.rate for one in seen] == list(rates)


def test_a_rate_that_blows_up_is_not_chosen():
    rates = optimization.RATES["sgd"]
    losses = dict.fromkeys(rates, math.inf) | {rates[1]: 5.0}
    assert optimization.probe(replace(SETTINGS, name="sgd"), losses.__getitem__)[0] == rates[1]


def test_smoothing_spreads_a_share_of_each_target():
    targets = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0]])
    found = optimization.smooth(targets, replace(SETTINGS, smoothing=0.2))
    torch.testing.assert_close(found[0], torch.tensor([0.05, 0.85, 0.05, 0.05]))
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2))
    assert torch.equal(optimization.smooth(targets, Optimization.off), targets)
