"""One suite for all optimizers, then the settings, the groups, the schedule and the probe."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR

from sevenfold import checkpoint
from sevenfold.errors import UsageError
from sevenfold.practices import optimization
from sevenfold.practices.optimization import NAMES, Optimization, decision
from sevenfold.recipe import Recipe, apply

every = pytest.mark.parametrize("name", NAMES)

# Rates at which each gets to the end of a small problem; Adadelta's first steps are tiny.
QUICK = {
    "sgd": 0.05,
    "adam": 0.1,
    "adamw": 0.1,
    "rmsprop": 0.01,
    "adadelta": 10.0,
    "switch": 0.1,
}


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


@pytest.mark.parametrize(("pretrained", "fall"), [(True, 0.9), (False, 1.0)])
def test_from_a_random_start_all_blocks_have_the_same_rate(pretrained, fall):
    blocks, head = parts()
    for settings, wanted in ((Optimization(), fall), (SETTINGS, 0.5)):
        found = optimization.groups(blocks, head, settings, 0.1, pretrained)
        rates = {id(weight): group["lr"] for group in found for weight in group["params"]}
        assert rates[id(head.weight)] == pytest.approx(0.1)
        assert rates[id(blocks[0][0].weight)] == pytest.approx(0.1 * wanted**3)


def test_frozen_weights_are_left_out():
    blocks, head = parts()
    blocks[0].requires_grad_(False)
    found = optimization.groups(blocks, head, SETTINGS, 0.1)
    listed = {id(weight) for group in found for weight in group["params"]}
    assert not listed & {id(weight) for weight in blocks[0].parameters()}


def moved_by(name: str, weights: list[nn.Parameter], **settings: Any) -> torch.optim.Optimizer:
    chosen = Optimization(name=name, weight_decay=0.0, **settings)
    group = {"params": weights, "lr": QUICK[name], "weight_decay": 0.0}
    return optimization.optimizer(chosen, [group], steps=400, epochs=10)


@every
def test_a_quadratic_is_solved(name):
    """Half x'Ax - b'x with eigenvalues from 0.1 to 2."""
    curvature = torch.tensor([0.1, 0.5, 1.0, 2.0])
    wanted = torch.tensor([1.0, -2.0, 0.5, 3.0])
    weight = nn.Parameter(torch.zeros(4))
    moved = moved_by(name, [weight])
    planned = optimization.schedule(moved, Optimization(), 400)
    for _ in range(400):
        moved.zero_grad()
        (0.5 * curvature * (weight - wanted) ** 2).sum().backward()
        moved.step()
        planned.step()
    torch.testing.assert_close(weight.detach(), wanted, rtol=0, atol=0.05)


def logistic(name: str, steps: int = 200, seed: int = 0, **settings: Any) -> tuple[float, Any]:
    """Separate two clouds; return the share that is right, and the weights."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(120) % 2
    inputs = torch.randn(120, 5, generator=random) + 3 * labels[:, None]
    torch.manual_seed(seed)
    head = nn.Linear(5, 2)
    moved = moved_by(name, list(head.parameters()), **settings)
    planned = optimization.schedule(moved, Optimization(), steps)
    for step in range(steps):
        rows = slice(step % 6 * 20, step % 6 * 20 + 20)
        moved.zero_grad()
        nn.functional.cross_entropy(head(inputs[rows]), labels[rows]).backward()
        moved.step()
        planned.step()
    right = float((head(inputs).argmax(dim=1) == labels).float().mean())
    return right, torch.cat([weight.detach().reshape(-1) for weight in head.parameters()])


@every
def test_two_clouds_are_told_apart(name):
    assert logistic(name)[0] > 0.97


@every
def test_the_same_run_gives_the_same_bits(name):
    assert torch.equal(logistic(name)[1], logistic(name)[1])
    assert not torch.equal(logistic(name)[1], logistic(name, seed=1)[1])


@every
@pytest.mark.parametrize("cut", [1, 60])
def test_a_restored_run_is_the_same_to_the_bit(name: str, cut: int, tmp_path: Path):
    def begin() -> tuple[nn.Module, torch.optim.Optimizer, Any]:
        torch.manual_seed(0)
        blocks, head = parts()
        whole = nn.Sequential(*blocks[2:], head)
        settings = Optimization(name=name)
        groups = optimization.groups(blocks[2:], head, settings, QUICK[name] / 10)
        moved = optimization.optimizer(settings, groups, steps=100, epochs=10)
        return whole, moved, optimization.schedule(moved, settings, 100)

    def descend(whole: nn.Module, moved: Any, planned: Any, step: int) -> None:
        inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        moved.zero_grad()
        (whole(inputs) - inputs[:, :2]).square().mean().backward()
        moved.step()
        planned.step()

    first = begin()
    for step in range(90):
        if step == cut:
            checkpoint.save(tmp_path / "state", [part.state_dict() for part in first])
        descend(*first, step)
    second = begin()
    for target, state in zip(second, checkpoint.load(tmp_path / "state"), strict=True):
        target.load_state_dict(state)
    for step in range(cut, 90):
        descend(*second, step)
    for one, other in zip(first[0].parameters(), second[0].parameters(), strict=True):
        assert torch.equal(one, other)
    assert decision(first[1]) == decision(second[1])


@every
@pytest.mark.parametrize(
    "planned",
    [
        lambda moved: LambdaLR(moved, lambda step: 0.5**step),
        lambda moved: CosineAnnealingLR(moved, 30),
        lambda moved: OneCycleLR(moved, 0.1, total_steps=40, cycle_momentum=False),
    ],
)
def test_any_schedule_moves_the_rate(name, planned):
    weight = nn.Parameter(torch.ones(3))
    moved = moved_by(name, [weight])
    plan = planned(moved)
    rates = []
    for _ in range(20):
        weight.grad = torch.full((3,), 0.1)
        moved.step()
        plan.step()
        rates.append(moved.param_groups[0]["lr"])
        assert plan.get_last_lr() == [rates[-1]]
    assert len(set(rates)) == 20
    assert torch.isfinite(weight).all()


@every
def test_norms_and_biases_do_not_shrink_without_a_gradient(name):
    blocks, head = parts()
    settings = Optimization(
        name=name, weight_decay=0.3, momentum=0.9 if name == "adadelta" else 0.0
    )
    groups = optimization.groups(blocks, head, settings, 1e-3)
    moved = optimization.optimizer(settings, groups, steps=10, epochs=5)
    weights = [weight for group in groups for weight in group["params"]]
    before = [weight.detach().clone() for weight in weights]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    moved.step()
    for weight, old in zip(weights, before, strict=True):
        assert (weight.norm() < old.norm()) == (weight.ndim > 1)
        assert torch.equal(weight, old) == (weight.ndim < 2)


@every
def test_lower_blocks_move_less(name):
    blocks, head = parts()
    settings = Optimization(name=name, layer_decay=0.5, weight_decay=0.0)
    rate = QUICK[name] / 10
    moved = optimization.optimizer(settings, optimization.groups(blocks, head, settings, rate))
    upper, lower = head.bias, blocks[2].bias
    upper.grad, lower.grad = torch.full((2,), 0.1), torch.full((4,), 0.1)
    before = [upper.detach().clone(), lower.detach().clone()]
    moved.step()
    now = [upper.detach(), lower.detach()]
    far, near = (float((new - old).abs().mean()) for new, old in zip(now, before, strict=True))
    assert near == pytest.approx(0.5 * far, rel=1e-3)


@every
def test_its_own_decay_is_used_unless_one_is_given(name):
    blocks, head = parts()
    own = optimization.decay(Optimization(name=name))
    assert 0 <= own < 1
    for given, wanted in ((-1.0, own), (0.0, 0.0), (0.2, 0.2)):
        settings = Optimization(name=name, weight_decay=given)
        assert optimization.decay(settings) == wanted
        groups = optimization.groups(blocks, head, settings, 0.1)
        assert {group["weight_decay"] for group in groups} == {wanted, 0.0}


@every
def test_nonsense_is_refused(name):
    for settings, told in (
        (Optimization(name=name, weight_decay=-0.5), "weight_decay"),
        (Optimization(name=name, nesterov=True, momentum=0.0), "nesterov"),
    ):
        with pytest.raises(UsageError, match=told):
            optimization.optimizer(settings, [])
    if name not in ("sgd", "switch"):
        with pytest.raises(UsageError, match=f"nesterov.* {name}"):
            optimization.check(Optimization(name=name, nesterov=True))
    if name != "switch":
        with pytest.raises(UsageError, match=f"criterion.* {name}"):
            optimization.check(Optimization(name=name, criterion="paper"))
    hasty = Optimization(name=name, patience=0.2)
    optimization.refuse_patience(hasty, validation=True)
    with pytest.raises(UsageError, match="patience"):
        optimization.refuse_patience(hasty, validation=False)


@pytest.mark.parametrize("name", ["sgd", "switch"])
def test_nesterov_gets_there(name):
    assert optimization.optimizer(
        Optimization(name=name, nesterov=True), [{"params": [nn.Parameter(torch.ones(1))]}]
    ).param_groups[0]["nesterov"]
    assert logistic(name, nesterov=True)[0] > 0.97


KINDS = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "adadelta": torch.optim.Adadelta,
    "switch": optimization.Switch,
}


@every
def test_names_are_the_classes_they_say(name):
    blocks, head = parts()
    momentum = 0.9 if name == "adadelta" else 0.7
    settings = replace(SETTINGS, name=name, momentum=momentum)
    moved = optimization.optimizer(settings, optimization.groups(blocks, head, settings, 0.1))
    assert type(moved) is KINDS[name]
    group = moved.param_groups[0]
    if name != "adadelta":
        assert 0.7 in (group.get("momentum"), group.get("betas", (0,))[0])


@pytest.mark.parametrize(("typed", "meant"), [("adamW", "adamw"), ("swich", "switch")])
def test_a_typo_gets_a_suggestion(typed, meant):
    with pytest.raises(UsageError) as caught:
        optimization.check(Optimization(name=typed))
    assert f"did you mean {meant!r}?" in caught.value.cure


def test_the_recipe_knows_the_new_settings():
    given = ["optimization.name=switch", "optimization.nesterov=true"]
    found = apply(Recipe(), [*given, "optimization.criterion=paper"]).optimization
    assert (found.name, found.nesterov, found.criterion) == ("switch", True, "paper")
    for wrong in ("optimization.criterion=papers", "optimization.weight_decay=-2"):
        with pytest.raises(UsageError, match=wrong.partition("=")[0]):
            apply(Recipe(), [wrong])


def test_the_warm_up_and_the_epochs_reach_the_switch():
    settings = Optimization(name="switch", warmup=0.2)
    group = {"params": [nn.Parameter(torch.ones(1))]}
    moved = optimization.optimizer(settings, [group], steps=100, epochs=10)
    run = moved.state["switch"]
    assert (run["window"], run["warmup"]) == (10, 20)


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
    assert rates == optimization.rates(Optimization(name=name))
    for best in rates:
        tried: list[float] = []

        def loss_at(rate: float, best: float = best, tried: list[float] = tried) -> float:
            tried.append(rate)
            return abs(math.log(rate / best))

        chosen, seen = optimization.probe(replace(SETTINGS, name=name), loss_at)
        assert chosen == best
        assert tuple(tried) == rates
        assert [one.rate for one in seen] == list(rates)


@every
def test_a_random_start_has_rates_of_its_own(name):
    rates = optimization.rates(Optimization(name=name), pretrained=False)
    assert rates == optimization.SCRATCH_RATES[name]
    assert list(rates) == sorted(set(rates))
    assert 0 < rates[0] < rates[-1] <= 10
    _, seen = optimization.probe(Optimization(name=name), lambda _: 1.0, pretrained=False)
    assert tuple(one.rate for one in seen) == rates


def test_what_fine_tuning_was_measured_with_stays():
    assert optimization.rates(Optimization()) == (5e-4, 1e-3, 2e-3)
    assert optimization.decay(Optimization()) == 0.05


def test_a_rate_that_blows_up_is_not_chosen():
    rates = optimization.RATES["sgd"]
    losses = dict.fromkeys(rates, math.inf) | {rates[1]: 5.0}
    assert optimization.probe(replace(SETTINGS, name="sgd"), losses.__getitem__)[0] == rates[1]


def test_smoothing_spreads_a_share_of_each_target():
    targets = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0]])
    found = optimization.smooth(
        targets, replace(SETTINGS, smoothing=0.2), torch.ones(targets.shape[1])
    )
    torch.testing.assert_close(found[0], torch.tensor([0.05, 0.85, 0.05, 0.05]))
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2))
    assert torch.equal(
        optimization.smooth(targets, Optimization.off, torch.ones(targets.shape[1])), targets
    )
