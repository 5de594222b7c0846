"""What a pruned network is judged by: bounds of both measures, and steps that surely gain."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sevenfold import paired
from sevenfold.errors import GateRefused
from sevenfold.evaluate import Estimate
from sevenfold.judging import bounds, choice
from sevenfold.judging.files import Speed, speed
from sevenfold.practices import pruning
from sevenfold.train import pruned


def alone(count: int) -> list[str]:
    """Give each picture a group of its own."""
    return [str(one) for one in range(count)]


def test_a_ruined_rare_class_is_no_small_drop_of_balanced_accuracy():
    labels = np.array([0] * 380 + [1] * 20)
    before = np.ones(400, bool)
    after = before & (np.arange(400) < 390)  # half of the rare class
    by_accuracy = bounds.largest_drops(before, after, labels, alone(400), "accuracy")
    both = bounds.largest_drops(before, after, labels, alone(400), "balanced_accuracy")
    assert list(by_accuracy) == ["accuracy"]
    assert list(both) == ["accuracy", "balanced_accuracy"]
    assert both["accuracy"] == by_accuracy["accuracy"] < 0.05
    assert 0.25 < both["balanced_accuracy"] < 0.4


def test_of_one_class_both_measures_have_one_bound():
    before, after = np.arange(50) % 5 > 0, np.arange(50) % 4 > 0
    labels = np.zeros(50, np.int64)
    found = bounds.largest_drops(before, after, labels, alone(50), "balanced_accuracy")
    assert found["balanced_accuracy"] == pytest.approx(found["accuracy"])


def test_widths_of_classes_that_share_groups_are_added():
    labels = np.repeat([0, 1], 20)
    before, after = np.ones(40, bool), np.arange(40) % 10 > 0
    each = paired.largest_drop(paired.Paired(18, 2, 0, 0)) - 0.1
    apart = bounds.balanced_drop(before, after, labels, alone(40))
    assert apart == pytest.approx(0.1 + each / np.sqrt(2))
    pairs = [str(one % 20) for one in range(40)]  # one picture of each class in a group
    own = paired.design(before[:20], after[:20], pairs[:20])
    assert own == paired.INDEPENDENT
    assert bounds.balanced_drop(before, after, labels, pairs) == pytest.approx(0.1 + each)


def test_a_class_of_one_picture_promises_nothing():
    labels = np.array([0] * 999 + [1])
    same = np.ones(1000, bool)
    assert bounds.balanced_drop(same, same, labels, alone(1000)) >= 0.5


def test_the_bound_of_balanced_accuracy_holds():
    random = np.random.default_rng(0)
    sizes, worse, better = (120, 25), (0.06, 0.2), (0.03, 0.05)
    labels = np.repeat([0, 1], sizes)
    drop = np.mean(np.subtract(worse, better))
    holds = 0
    for _ in range(300):
        draw = random.random(len(labels))
        lost = draw < np.repeat(worse, sizes)
        won = draw > 1 - np.repeat(better, sizes)
        before = ~won
        holds += bounds.balanced_drop(before, ~lost, labels, alone(len(labels))) >= drop
    assert holds >= 0.92 * 300


def timed(steady: bool, itself: Estimate, *ratios: Estimate) -> Speed:
    return Speed(steady, itself, 10.0, tuple(10 / one.value for one in ratios), ratios)


FASTER = Estimate(1.5, 1.4, 1.6)
HARDLY = Estimate(1.001, 0.99, 1.02)
CALM, BUSY = Estimate(1.0, 0.99, 1.01), Estimate(0.95, 0.94, 0.96)


def test_what_is_hardly_faster_ships_from_a_calm_machine_alone():
    whole = timed(True, CALM, HARDLY)
    assert choice._no_slower(timed(True, CALM, HARDLY), whole) == [0]
    with pytest.raises(GateRefused, match=r"too busy.* 0\.94 to 0\.96 times its own") as caught:
        choice._no_slower(timed(False, BUSY, HARDLY), whole)
    assert caught.value.exit_code == 6
    with pytest.raises(GateRefused, match="too busy"):
        choice._no_slower(timed(True, CALM, HARDLY), timed(False, BUSY, HARDLY))
    with pytest.raises(GateRefused, match="no step is faster"):
        choice._no_slower(timed(True, CALM, Estimate(0.99, 0.9, 1.1)), whole)


@pytest.mark.parametrize("itself", [BUSY, Estimate(1.05, 1.04, 1.06)])
def test_on_a_busy_machine_a_gain_must_be_more_than_what_the_network_differs_by(itself):
    surely, noise = Estimate(1.03, 1.02, 1.04), timed(False, itself, FASTER).noise
    assert noise == pytest.approx(max(itself.high, 1 / itself.low))
    network = timed(False, itself, surely, FASTER)
    assert choice._no_slower(network, timed(True, CALM, FASTER, FASTER)) == [1]


def test_a_machine_that_stays_busy_is_asked_three_times():
    asked: list[int] = []

    def busy(models: list[bytes]) -> Any:
        asked.append(len(models))
        each = np.array([1.0, 1.1, *[0.5] * (len(models) - 2)])
        return np.tile(each[:, None], 20)

    found = speed(b"dense", [b"step"], busy)
    assert asked == [3, 3, 3]
    assert not found.steady
    assert found.ratios[0].low == 2
    assert found.noise == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("held", "reached"),
    [
        ({"megabytes": 2.0, "latency": 4.0}, True),
        ({"megabytes": 2.1, "latency": 4.0}, False),
        ({"megabytes": 2.0, "latency": 4.1}, False),
    ],
)
def test_a_target_is_reached_by_what_the_file_measures(held, reached):
    aims = tuple(
        pruning.Aim(target, 0.5) for target in pruning.targets("latency=4,megabytes=2,macs=0.5")
    )
    plan = pruned.Plan(aims, pruning.Pruning(), 0.1)
    outcome = pruned.Outcome(0.9, pruning.Shrunk((), None), None)
    fitted: Any = SimpleNamespace(recipe=SimpleNamespace(objective="accuracy"))
    split: Any = SimpleNamespace(test=range(9))
    told = choice._what(plan, outcome, fitted, split, held, last=True)
    assert told["reached"] == reached
    got = {one["kind"]: one.get("got") for one in told["targets"]}
    assert got == {**held, "macs": None}
    assert not choice._what(plan, outcome, fitted, split, held, last=False)["reached"]
