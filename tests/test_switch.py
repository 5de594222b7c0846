"""The switch from Adam to SGD: each phase against torch's, the decision, the state."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from sevenfold import checkpoint
from sevenfold.errors import UsageError
from sevenfold.practices.optimization import (
    CRITERIA,
    Decision,
    Optimization,
    Switch,
    decision,
    optimizer,
)

precise = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def network(seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3)).to(dtype)


def pictures(
    count: int, seed: int = 0, dtype: torch.dtype = torch.float32, noise: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 6, generator=random).to(dtype)
    scores = inputs @ torch.randn(6, 3, generator=random).to(dtype)
    return inputs, (scores + noise * torch.randn(count, 3, generator=random)).argmax(dim=1)


def parts(module: nn.Module, **extra: Any) -> list[dict[str, Any]]:
    weights = list(module.parameters())
    return [
        {"params": [w for w in weights if w.ndim > 1], "lr": 0.01, "weight_decay": 0.1, **extra},
        {"params": [w for w in weights if w.ndim < 2], "lr": 0.003, "weight_decay": 0.0, **extra},
    ]


def descend(module: nn.Module, moved: Any, step: int, count: int = 16) -> float:
    """Take a step on the batch of that number."""
    dtype = next(module.parameters()).dtype
    inputs, labels = pictures(count, seed=100 + step % 7, dtype=dtype)
    loss = nn.functional.cross_entropy(module(inputs), labels)
    moved.zero_grad()
    loss.backward()
    moved.step()
    return loss.item()


def weights_of(module: nn.Module) -> torch.Tensor:
    return torch.cat([weight.detach().reshape(-1).clone() for weight in module.parameters()])


def switched(module: nn.Module, **settings: Any) -> tuple[Switch, int]:
    """Train until SGD takes over."""
    moved = Switch(parts(module), window=6, warmup=2, **settings)
    for step in range(400):
        descend(module, moved, step)
        if moved.switched_at:
            return moved, step + 1
    raise AssertionError("it never switched")


@precise
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_before_the_switch_it_is_adam(dtype: torch.dtype, decay: float) -> None:
    ours, theirs = network(dtype=dtype), network(dtype=dtype)
    mine = Switch(ours.parameters(), lr=0.01, weight_decay=decay, window=1000)
    kind = torch.optim.AdamW if decay else torch.optim.Adam
    reference = kind(theirs.parameters(), lr=0.01, weight_decay=decay, foreach=True)
    for step in range(60):
        descend(ours, mine, step)
        descend(theirs, reference, step)
    assert mine.switched_at is None
    torch.testing.assert_close(weights_of(ours), weights_of(theirs), rtol=0, atol=1e-7)
    # The order of operations is torch's too, so nothing but the platform's foreach can differ.
    assert torch.equal(weights_of(ours), weights_of(theirs))


@precise
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_after_the_switch_it_is_sgd_at_the_stated_rate(
    dtype: torch.dtype, nesterov: bool, beta: float
) -> None:
    if nesterov and not beta:
        return
    ours = network(dtype=dtype)
    mine, step = switched(ours, nesterov=nesterov, betas=(beta, 0.999))
    theirs = copy.deepcopy(ours)
    for group in mine.param_groups:
        group["weight_decay"] = 0.0
    reference = torch.optim.SGD(
        [
            {"params": part["params"], "lr": (1 - beta) * rate}
            for part, rate in zip(parts(theirs), mine.effective_rates, strict=True)
        ],
        momentum=beta,
        nesterov=nesterov,
    )
    for later in range(step, step + 40):
        descend(ours, mine, later)
        descend(theirs, reference, later)
    torch.testing.assert_close(weights_of(ours), weights_of(theirs), rtol=0, atol=1e-7)


def test_the_momentum_is_no_second_name_of_the_gradient() -> None:
    module = network()
    moved, step = switched(module)
    for later in range(step, step + 3):
        descend(module, moved, later)
        for weight in module.parameters():
            buffer = moved.state[weight]["momentum_buffer"]
            assert weight.grad is not None
            assert buffer.data_ptr() != weight.grad.data_ptr()


def test_nesterov_leaves_the_gradient_as_it_is() -> None:
    module = network()
    moved, step = switched(module, nesterov=True)
    inputs, labels = pictures(16, seed=step)
    nn.functional.cross_entropy(module(inputs), labels).backward()
    before = [w.grad.clone() for w in module.parameters() if w.grad is not None]
    moved.step()
    moved.step()
    after = [w.grad for w in module.parameters() if w.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_constant_gradient_moves_at_the_effective_rate(nesterov: bool) -> None:
    """After many steps each one is rate times gradient, not ten times or a tenth of it."""
    module = network(dtype=torch.float64)
    moved, _ = switched(module, nesterov=nesterov)
    for group in moved.param_groups:
        group["weight_decay"] = 0.0
    weight = moved.param_groups[0]["params"][0]
    gradient = torch.full_like(weight, 0.25)
    for _ in range(400):
        before = weight.detach().clone()
        moved.zero_grad()
        weight.grad = gradient.clone()
        moved.step()
    expected = -moved.effective_rates[0] * gradient
    torch.testing.assert_close(weight.detach() - before, expected, rtol=1e-9, atol=0)


SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "one cycle": lambda moved: OneCycleLR(moved, [0.02, 0.01], total_steps=400),
    "one cycle, rate alone": lambda moved: OneCycleLR(
        moved, [0.02, 0.01], total_steps=400, cycle_momentum=False
    ),
    "cosine": lambda moved: CosineAnnealingLR(moved, T_max=300),
    "lambda": lambda moved: LambdaLR(moved, lambda step: 1 / (1 + 0.01 * step)),
    "sequential": lambda moved: SequentialLR(
        moved, [LinearLR(moved, 0.1, 1.0, 10), CosineAnnealingLR(moved, 300)], [10]
    ),
    "plateau": lambda moved: ReduceLROnPlateau(moved, factor=0.7, patience=2),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_schedule_stays_in_charge(name: str) -> None:
    module = network(dtype=torch.float64)
    moved = Switch(parts(module), window=8, warmup=4)
    planned = SCHEDULES[name](moved)
    seen = 0
    for step in range(150):
        rates = [group["lr"] for group in moved.param_groups]
        if moved.switched_at:
            seen += 1
            found = decision(moved)
            assert found is not None
            for rate, ratio, effective, group in zip(
                rates, found.ratios, moved.effective_rates, moved.param_groups, strict=True
            ):
                assert effective == pytest.approx(ratio * rate, rel=1e-12)
                assert ratio == group["ratio"] > 0
            # What the weights really do, and not only what is stated.
            weight = moved.param_groups[0]["params"][0]
            before = weight.detach().clone()
            beta = moved.param_groups[0]["betas"][0]
            buffer = moved.state[weight].get("momentum_buffer", torch.zeros_like(weight)).clone()
            factor = 1 - rates[0] * moved.param_groups[0]["weight_decay"]
            effective = found.ratios[0] * rates[0]
            loss = descend(module, moved, step)
            assert weight.grad is not None
            expected = factor * before - (1 - beta) * effective * (beta * buffer + weight.grad)
            torch.testing.assert_close(weight.detach(), expected, rtol=1e-12, atol=1e-15)
        else:
            loss = descend(module, moved, step)
        planned.step(*([loss] if name == "plateau" else []))
    assert seen > 20
    ratios = {group["ratio"] for group in moved.param_groups}
    assert len(ratios) == 2


def test_decay_does_not_jump_at_the_switch() -> None:
    weight = nn.Parameter(torch.ones(4, dtype=torch.float64))
    moved = Switch([weight], lr=0.01, weight_decay=0.5, window=4)
    for _ in range(300):
        moved.zero_grad()
        weight.grad = torch.full_like(weight, 1e-3)
        moved.step()
        if moved.switched_at:
            break
    assert moved.ratios[0] > 100
    moved.zero_grad()
    weight.grad = torch.zeros_like(weight)
    before = weight.detach().clone()
    moved.step()
    torch.testing.assert_close(weight.detach(), before * (1 - 0.01 * 0.5), rtol=1e-14, atol=0)


def test_the_ratio_is_free_of_the_schedule() -> None:
    """With a tiny rate nothing moves, so that any two schedules see the same gradients."""
    found = []
    for shape in (lambda _: 1.0, lambda step: 0.1 + (step % 5)):
        module = network(dtype=torch.float64)
        moved = Switch(module.parameters(), lr=1e-12, window=5)
        planned = LambdaLR(moved, shape)
        for step in range(60):
            descend(module, moved, step)
            planned.step()
            if moved.switched_at:
                break
        found.append(decision(moved))
    assert found[0].step == found[1].step is not None
    assert found[0].ratios == pytest.approx(found[1].ratios, rel=1e-6)


def test_the_ratio_is_the_one_of_the_formula() -> None:
    """Once by hand: u·u over u·g, averaged with a horizon of a window."""
    weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    moved = Switch([weight], lr=1e-3, window=4, warmup=1)
    random = torch.Generator().manual_seed(0)
    mean, square = torch.zeros(2).double(), torch.zeros(2).double()
    above = below = 0.0
    for step in range(1, 5):
        gradient = torch.rand(2, generator=random).double()
        weight.grad = gradient.clone()
        moved.step()
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        unit = (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
        if step > 1:
            above = 0.75 * above + 0.25 * float(unit @ unit)
            below = 0.75 * below + 0.25 * float(unit @ gradient)
    assert moved.ratios == pytest.approx((above / below,), rel=1e-12)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("cut", [5, 20, 47])
def test_a_restored_run_is_the_same_to_the_bit(tmp_path: Path, criterion: str, cut: int) -> None:
    def begin() -> tuple[nn.Module, Switch, LambdaLR]:
        module = network()
        moved = Switch(parts(module), window=6, warmup=2, criterion=criterion, nesterov=True)
        return module, moved, LambdaLR(moved, lambda step: 1 / (1 + 0.02 * step))

    whole, moved, planned = begin()
    for step in range(60):
        if step == cut:
            tree = [whole.state_dict(), moved.state_dict(), planned.state_dict()]
            checkpoint.save(tmp_path / "state", tree)
        descend(whole, moved, step)
        planned.step()
    other, restored, later = begin()
    loaded = checkpoint.load(tmp_path / "state")
    for target, state in zip((other, restored, later), loaded, strict=True):
        target.load_state_dict(state)
    for step in range(cut, 60):
        descend(other, restored, step)
        later.step()
    assert torch.equal(weights_of(whole), weights_of(other))
    assert decision(moved) == decision(restored)
    assert (decision(moved).step is not None) == (criterion == "ratio")


def test_a_state_brings_along_how_it_decides() -> None:
    """Loaded into a switch that was made without a window, it goes on to the same decision."""
    whole, other = network(), network()
    first = Switch(parts(whole), window=6, warmup=2)
    second = Switch(parts(other), criterion="paper")
    for step in range(5):
        descend(whole, first, step)
    other.load_state_dict(whole.state_dict())
    # A state shares its tensors with who gave it, as torch has it.
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for step in range(5, 60):
        descend(whole, first, step)
        descend(other, second, step)
    assert decision(first) == decision(second)
    assert first.switched_at


def test_a_snapshot_does_not_change_afterwards() -> None:
    module = network()
    moved = Switch(parts(module), window=6)
    descend(module, moved, 0)
    kept = moved.state_dict()["state"]["switch"]
    told = dict(kept)
    descend(module, moved, 1)
    assert kept == told


def test_a_deep_copy_goes_on_alike() -> None:
    module = network()
    moved = Switch(parts(module), window=6)
    for step in range(4):
        descend(module, moved, step)
    twin, copied = copy.deepcopy((module, moved))
    for step in range(4, 40):
        descend(module, moved, step)
        descend(twin, copied, step)
    assert torch.equal(weights_of(module), weights_of(twin))
    assert decision(moved) == decision(copied) != Decision(None, (0.0, 0.0))


def convolution(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    )


def perceptron(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))


def one_run(seed: int) -> tuple[int | None, int]:
    """Train a tiny network; return the step of the switch, and the first it could be."""
    build = (convolution, perceptron)[seed % 2]
    epochs = 10 + 5 * (seed // 2 % 2)
    per_epoch = (4, 9, 17)[seed % 3]
    random = torch.Generator().manual_seed(seed)
    count = 16 * per_epoch
    inputs = torch.randn(count, 1, 4, 4, generator=random)
    scores = inputs.flatten(1) @ torch.randn(16, 3, generator=random)
    noise = (0.0, 2.0, 6.0, 20.0)[seed // 10]
    labels = (scores + noise * torch.randn(count, 3, generator=random)).argmax(dim=1)
    module = build(seed)
    settings = Optimization(name="switch")
    weights = [{"params": list(module.parameters()), "lr": (1e-3, 5e-3)[seed // 4 % 2]}]
    moved = optimizer(settings, weights, steps=epochs * per_epoch, epochs=epochs)
    planned = CosineAnnealingLR(moved, epochs * per_epoch)
    for _ in range(epochs):
        for rows in torch.randperm(count, generator=random).split(16):
            given = inputs[rows] if build is convolution else inputs[rows].flatten(1)
            loss = nn.functional.cross_entropy(module(given), labels[rows])
            moved.zero_grad()
            loss.backward()
            moved.step()
            planned.step()
    found = decision(moved)
    assert found is not None
    return found.step, moved.state["switch"]["warmup"] + 2 * per_epoch


def test_runs_of_ten_epochs_or_more_switch() -> None:
    runs = [one_run(seed) for seed in range(40)]
    switched = [(step, earliest) for step, earliest in runs if step is not None]
    assert len(switched) >= 38
    assert all(step >= earliest for step, earliest in switched)
    # Some must wait: it is a decision, not a date.
    assert any(step > earliest for step, earliest in switched)


def test_it_waits_while_the_ratio_changes() -> None:
    """Gradients that grow by half an epoch lower the ratio by about a third an epoch."""
    weight = nn.Parameter(torch.zeros(50))
    moved = Switch([weight], lr=1e-4, window=10)
    random = torch.Generator().manual_seed(0)
    for step in range(60):
        weight.grad = 1.04**step * torch.randn(50, generator=random)
        moved.step()
        assert moved.switched_at is None
    for _ in range(300):
        weight.grad = 1.04**60 * torch.randn(50, generator=random)
        moved.step()
    assert moved.switched_at


@pytest.mark.parametrize("sign", ["negative", "nan", "infinite", "zero"])
def test_an_unsound_ratio_never_switches(sign: str) -> None:
    weight = nn.Parameter(torch.ones(3))
    moved = Switch([weight], lr=1e-3, betas=(0.9, 0.999), window=2)
    for step in range(60):
        # The mean points the other way than nearly every gradient.
        value = {"negative": -30.0 if step == 0 else 0.01}.get(sign, 0.0)
        value = {"nan": math.nan, "infinite": math.inf}.get(sign, value)
        weight.grad = torch.full((3,), value)
        moved.step()
        if sign == "negative" and step > 25:
            break
    assert decision(moved) == Decision(None, (0.0,))


def test_one_unsound_group_holds_all() -> None:
    good, bad = nn.Parameter(torch.ones(64)), nn.Parameter(torch.ones(2))
    moved = Switch([{"params": [good]}, {"params": [bad]}], lr=1e-3, window=4)
    for _ in range(60):
        good.grad = torch.full((64,), 0.5)
        bad.grad = torch.full((2,), math.nan)
        moved.step()
    assert moved.switched_at is None


def test_all_groups_switch_together() -> None:
    module = network()
    moved, step = switched(module)
    assert moved.switched_at == step
    assert step > 2 + 6
    descend(module, moved, step)
    for weight in module.parameters():
        assert set(moved.state[weight]) == {"momentum_buffer"}


def test_without_a_window_it_stays_with_adam() -> None:
    module = network()
    moved = optimizer(Optimization(name="switch"), parts(module))
    for step in range(80):
        descend(module, moved, step)
    assert decision(moved) == Decision(None, (0.0, 0.0))


def test_a_weight_without_gradient_rests() -> None:
    module = network()
    idle = nn.Parameter(torch.ones(3))
    moved = Switch([*parts(module), {"params": [idle], "weight_decay": 0.1}], window=6)
    for step in range(60):
        descend(module, moved, step)
    found = decision(moved)
    assert found is not None
    assert found.step
    assert torch.equal(idle.detach(), torch.ones(3))
    # If it moves later, it does so at the common ratio.
    low, high = sorted(found.ratios[:2])
    assert low <= found.ratios[2] <= high
    idle.grad = torch.ones(3)
    moved.step()
    assert (idle < 1).all()


def test_a_weight_that_joins_counts_its_own_steps() -> None:
    ours, theirs = network(), network()
    mine = Switch(ours.parameters(), lr=0.01, window=1000)
    reference = torch.optim.Adam(theirs.parameters(), lr=0.01, foreach=True)
    for step in range(30):
        for module in (ours, theirs):
            module[0].requires_grad_(step % 3 == 0)
        descend(ours, mine, step)
        descend(theirs, reference, step)
    torch.testing.assert_close(weights_of(ours), weights_of(theirs), rtol=0, atol=1e-7)


@pytest.mark.parametrize("late", [False, True])
def test_groups_can_be_added(late: bool) -> None:
    module, more = network(), nn.Linear(3, 3)
    moved = Switch(parts(module), window=6)
    whole = nn.Sequential(module, more)
    for step in range(80):
        if step == (70 if late else 2):
            assert bool(moved.switched_at) is late
            moved.add_param_group({"params": list(more.parameters()), "lr": 0.01})
        descend(whole, moved, step)
    found = decision(moved)
    assert found is not None
    assert found.step
    assert len(found.ratios) == 3
    assert min(found.ratios) > 0
    assert min(moved.effective_rates) > 0


def test_a_closure_is_called_once_with_gradients() -> None:
    module = network()
    moved = Switch(parts(module), window=6)
    inputs, labels = pictures(16)
    calls = []

    def closure() -> float:
        moved.zero_grad()
        loss = nn.functional.cross_entropy(module(inputs), labels)
        loss.backward()
        calls.append(loss.item())
        return loss.item()

    before = weights_of(module)
    assert moved.step(closure) == calls[0]
    assert len(calls) == 1
    assert not torch.equal(before, weights_of(module))


def test_bfloat16_is_computed_as_torch_does() -> None:
    ours, theirs = network(dtype=torch.bfloat16), network(dtype=torch.bfloat16)
    mine = Switch(ours.parameters(), lr=0.01, window=4)
    reference = torch.optim.Adam(theirs.parameters(), lr=0.01, foreach=True)
    for step in range(8):
        if not mine.switched_at:
            descend(ours, mine, step)
            descend(theirs, reference, step)
    assert torch.equal(weights_of(ours), weights_of(theirs))
    assert math.isfinite(mine.ratios[0])
    assert mine.ratios[0] > 0


@pytest.mark.parametrize("kind", ["complex", "sparse"])
def test_weights_of_another_kind_are_refused(kind: str) -> None:
    dtype = torch.complex64 if kind == "complex" else torch.float32
    weight = nn.Parameter(torch.ones(3, 2, dtype=dtype))
    weight.grad = torch.ones(3, 2, dtype=dtype)
    if kind == "sparse":
        weight.grad = weight.grad.to_sparse()
    with pytest.raises(UsageError, match=kind):
        Switch([weight], window=3).step()


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": -0.1},
        {"lr": math.nan},
        {"betas": (1.0, 0.999)},
        {"betas": (0.9, -0.1)},
        {"eps": -1e-8},
        {"weight_decay": -0.5},
        {"window": -1},
        {"warmup": -1},
        {"criterion": "loss"},
        {"betas": (0.0, 0.999), "nesterov": True},
    ],
)
def test_values_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(reversed(wrong)))):
        Switch([nn.Parameter(torch.ones(1))], **wrong)


def test_it_cannot_maximize() -> None:
    with pytest.raises(TypeError, match="maximize"):
        Switch([nn.Parameter(torch.ones(1))], maximize=True)  # type: ignore[call-arg]


def test_other_optimizers_decide_nothing() -> None:
    assert decision(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)) is None


def by_the_paper(gradients: list[torch.Tensor], rate: float) -> tuple[int, float]:
    """Follow algorithm 1 of Keskar & Socher (2017) step by step."""
    mean = square = torch.zeros_like(gradients[0])
    average = 0.0
    for step, gradient in enumerate(gradients, 1):
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        move = -rate * (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
        gamma = float(move @ move) / -float(move @ gradient)
        average = 0.999 * average + 0.001 * gamma
        estimate = average / (1 - 0.999**step)
        if step > 1 and abs(estimate - gamma) < 1e-9:
            return step, estimate
    return 0, 0.0


def test_the_papers_test_is_the_papers() -> None:
    random = torch.Generator().manual_seed(1)
    # All but constant: single steps must come within 1e-9 of their average.
    noise = torch.rand(60, 6, generator=random).double()
    gradients = [0.3 + 1e-5 * 0.6**step * row for step, row in enumerate(noise)]
    gradients += gradients[-1:] * 2000
    step, estimate = by_the_paper(gradients, 1e-3)
    weight = nn.Parameter(torch.zeros(6).double())
    moved = Switch([weight], lr=1e-3, window=10, criterion="paper")
    for gradient in gradients[: step + 1]:
        weight.grad = gradient.clone()
        moved.step()
    assert step > 3
    assert moved.switched_at == step
    assert moved.effective_rates[0] == pytest.approx(estimate, rel=1e-9)


def test_the_papers_test_seldom_fires_on_real_gradients() -> None:
    module = network()
    moved = Switch(parts(module), window=6, criterion="paper")
    for step in range(150):
        descend(module, moved, step)
    assert moved.switched_at is None
