import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sevenfold import decisions, operating
from sevenfold.errors import DataError, UsageError
from sevenfold.operating import Operating, Wish, check, choose, decide, halving

CLASSES = ("crack", "fine", "dirt")


def drawn(pictures: int, seed: int, shares=(0.2, 0.5, 0.3)) -> tuple[np.ndarray, np.ndarray]:
    """Draw probabilities, and labels from them: perfectly calibrated."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (pictures, 3)) + np.log(shares)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (p.cumsum(axis=1) > random.random((pictures, 1))).argmax(axis=1)
    return p, labels


def test_without_a_point_the_most_probable_class_is_answered_and_sure():
    p, _ = drawn(50, 0)
    answers, sure = decide(operating.plain(3), p)
    assert (answers == p.argmax(axis=1)).all()
    assert sure.all()


def test_a_recall_is_promised_by_groups_not_by_their_pictures():
    p, labels = drawn(900, 3)
    patients = [f"patient {at // 20}" for at in range(900)]
    wish = Wish({"crack": 0.9})
    alone, together = (choose(wish, CLASSES, p, labels, groups) for groups in ((), patients))
    answers, _ = decide(together, p)
    cracks = labels == 0
    missed = {patients[at] for at in np.flatnonzero(cracks & (answers != 0))}
    held = {patients[at] for at in np.flatnonzero(cracks)}
    assert len(missed) == operating.rank(len(held), 0.9) - 1
    assert together.weights[0] > alone.weights[0]
    names = [str(at) for at in range(900)]
    assert choose(wish, CLASSES, p, labels, names).weights[0] == alone.weights[0]


def test_by_default_the_error_among_the_answered_is_halved():
    p, labels = drawn(2000, 1)
    point = choose(Wish(), CLASSES, p, labels)
    answers, sure = decide(point, p)
    wrong = answers != labels
    assert point.rule == "halved_error"
    assert wrong[sure].mean() <= wrong.mean() / 2
    lower = Operating(point.rule, point.weights, point.costs, point.thresholds - 0.01)
    _, more = decide(lower, p)
    assert wrong[more].mean() > wrong.mean() / 2 - 0.01
    fresh, truth = drawn(20000, 2)
    told = decisions.measured(point, fresh, truth, CLASSES)
    assert told["error_answered"]["value"] == pytest.approx(told["error"]["value"] / 2, abs=0.02)


def test_no_mistake_no_doubt():
    assert halving(np.array([0.9, 0.4]), np.zeros(2)) == 0


def test_halving_answers_at_least_half_and_all_of_equal_confidence():
    confidence = np.array([0.9, 0.9, 0.5, 0.5])
    losses = np.array([1.0, 1.0, 0.0, 0.0])
    kept = confidence >= halving(confidence, losses)
    assert kept.sum() >= 2
    same = np.full(4, 0.7)
    assert (same >= halving(same, losses)).all()


@pytest.mark.parametrize("recall", [0.9, 0.95])
def test_a_least_recall_holds_on_new_pictures_with_confidence(recall):
    found = []
    for seed in range(40):
        p, labels = drawn(250, seed)
        point = choose(Wish({"crack": recall}), CLASSES, p, labels)
        fresh, truth = drawn(1500, 1000 + seed)
        answers, sure = decide(point, fresh)
        mine = truth == 0
        found.append((answers[mine] == 0).mean())
        assert sure[answers == 0].all()
        assert (decide(point, p)[0][labels == 0] == 0).mean() >= recall
    assert np.mean(np.array(found) >= recall) >= operating.CONFIDENCE - 0.15
    assert np.mean(found) <= recall + 0.06


def test_the_rank_is_that_of_the_binomial():
    for pictures in (30, 50, 81, 300, 20_000):  # of thousands, none missed has no float
        for recall in (0.5, 0.8, 0.9, 0.95):
            k = operating.rank(pictures, recall)
            limit = 1 - operating.CONFIDENCE
            assert k == 0 or stats.binom.cdf(k - 1, pictures, 1 - recall) <= limit
            assert stats.binom.cdf(k, pictures, 1 - recall) > limit
    for recall in (0.5, 0.95, 0.99):
        least = operating.needed(recall)
        assert operating.rank(least, recall) >= 1
        assert operating.rank(least - 1, recall) == 0


def test_recalls_of_two_classes_hold_together_or_are_refused():
    p, labels = drawn(400, 3)
    point = choose(Wish({"crack": 0.8, "dirt": 0.7}), CLASSES, p, labels)
    answers, _ = decide(point, p)
    assert (answers[labels == 0] == 0).mean() >= 0.8
    assert (answers[labels == 2] == 2).mean() >= 0.7
    with pytest.raises(UsageError, match="look too much alike"):
        choose(Wish({"crack": 0.97, "dirt": 0.97, "fine": 0.97}), CLASSES, p, labels)


def test_a_recall_that_is_there_already_changes_no_answer():
    p, labels = drawn(400, 4)
    point = choose(Wish({"fine": 0.05}), CLASSES, p, labels)
    assert (decide(point, p)[0] == p.argmax(axis=1)).all()


def test_costs_lower_the_cost():
    wish = Wish(costs={"crack": {"fine": 50.0}, "fine": {"crack": 5.0}}, not_sure=0.5)
    p, labels = drawn(2000, 5)
    point = choose(wish, CLASSES, p, labels)
    fresh, truth = drawn(20000, 6)
    told = decisions.measured(point, fresh, truth, CLASSES)
    assert told["cost"] < told["cost_most_probable"]
    answers, sure = decide(point, fresh)

    def cost(kept: np.ndarray) -> float:
        return float(np.where(kept, point.costs[truth, answers], 0.5).mean())

    assert cost(sure) < cost(np.ones(len(sure), bool))
    assert cost(sure) < 0.5
    assert point.costs[0].tolist() == [0.0, 50.0, 1.0]


def test_costs_without_a_price_of_doubt_halve_the_cost():
    wish = Wish(costs={"crack": {"fine": 50.0}})
    p, labels = drawn(3000, 7)
    point = choose(wish, CLASSES, p, labels)
    answers, sure = decide(point, p)
    costs = point.costs[labels, answers]
    assert costs[sure].mean() <= costs.mean() / 2 or sure.mean() == pytest.approx(0.5, abs=0.01)


def test_a_recall_needs_enough_pictures_and_says_how_many():
    check(Wish({"crack": 0.95}), CLASSES, np.array([45, 9, 9]))
    with pytest.raises(DataError, match=r"it has 44 pictures.*45 are needed") as caught:
        check(Wish({"crack": 0.95}), CLASSES, np.array([44, 9, 9]))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "wish",
    [
        Wish({"crak": 0.9}),
        Wish(costs={"crak": {"fine": 1.0}}),
        Wish(costs={"fine": {"crak": 1.0}}),
        Wish({"crack": 0.9}, {"fine": {"crack": 2.0}}),
    ],
)
def test_what_cannot_be_is_refused_before_training(wish):
    with pytest.raises(UsageError):
        check(wish, CLASSES, np.array([99, 99, 99]))


@pytest.mark.parametrize("text", ["crack", "crack=1", "crack=0", "=0.9", "crack=x", "crack=nan"])
def test_recalls_that_are_none(text):
    with pytest.raises(UsageError, match="--min-recall"):
        operating.read_recalls([text])
    assert operating.read_recalls(["a=b=0.5"]) == {"a=b": 0.5}


@pytest.mark.parametrize(
    "text",
    ["", "crack = 3", "[crack]\nfine = -1", "[crack]\nfine = nan", "[crack]\nfine = 'x'",
     "[crack]\nfine = true", "[crack]\ncrack = 2", "[", "not_sure = inf\n[crack]\nfine = 1",
     "not_sure = 2"],
)  # fmt: skip
def test_costs_that_are_none(tmp_path: Path, text: str):
    (tmp_path / "costs.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="--costs"):
        operating.read_costs(tmp_path / "costs.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        operating.read_costs(tmp_path / "none.toml")


def test_costs_are_read(tmp_path: Path):
    text = 'not_sure = 2\n[crack]\nfine = 50\n["a.b"]\ncrack = 0.5\n'
    (tmp_path / "costs.toml").write_text(text, encoding="utf-8")
    expected = {"crack": {"fine": 50}, "a.b": {"crack": 0.5}}
    assert operating.read_costs(tmp_path / "costs.toml") == (expected, 2.0)


@settings(deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["none", "recall", "costs"]))
def test_a_card_gives_the_same_answers(seed: int, kind: str):
    p, labels = drawn(120, seed)
    wish = {
        "none": Wish(),
        "recall": Wish({"crack": 0.7}),
        "costs": Wish(costs={"dirt": {"fine": 9.0}}, not_sure=0.4),
    }[kind]
    point = choose(wish, CLASSES, p, labels)
    card = json.loads(json.dumps({"operating_point": operating.to_card(point, CLASSES)}))
    again = operating.from_card(card, CLASSES)
    for one, other in zip(decide(point, p), decide(again, p), strict=True):
        assert (one == other).all()


GOOD = operating.to_card(operating.plain(3), CLASSES)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "sevenfold.operating/2"},
        {"thresholds": {"crack": 0.5}},
        {"thresholds": dict.fromkeys(CLASSES, 1.5)},
        {"thresholds": [1, 2, 3]},
        {"weights": {"crack": 0}},
        {"weights": {"crack": "inf"}},
        {"costs": [[0, 1]]},
        {"costs": [[0, 1, -1]] * 3},
        {"costs": "x"},
        {"rule": "guess"},
    ],
)
def test_a_damaged_point_is_refused(change):
    with pytest.raises(ValueError, match="operating point"):
        operating.from_card({"operating_point": GOOD | change}, CLASSES)


def test_intervals_are_wider_where_pictures_come_in_groups():
    wrong = np.repeat([True, False, False, False, True, False], 20)
    groups = [f"g{at // 20}" for at in range(120)]
    everything = np.ones(120, bool)
    alone, grouped = decisions.share(wrong, everything), decisions.share(wrong, everything, groups)
    assert grouped.low < alone.low < alone.value < alone.high < grouped.high


def test_the_curve_ends_with_all_pictures():
    p, labels = drawn(300, 8)
    points = decisions.curve(p.max(axis=1), p.argmax(axis=1) != labels)
    assert points[-1] == [1.0, pytest.approx((p.argmax(axis=1) != labels).mean())]
    assert points[0][0] * 300 >= 20
    assert points[0][1] < points[-1][1]
