import json

import numpy as np
import pytest
from scipy import stats

from sevenfold import drift
from sevenfold.drift import Tally, distance_shift, mix_shift

CLASSES = ("a", "b", "c")


def held(seed: int = 0, pictures: int = 400) -> drift.Reference:
    random = np.random.default_rng(seed)
    answers = random.choice(3, pictures, p=[0.5, 0.3, 0.2])
    return drift.reference(answers, np.array([50, 30, 20]), random.normal(1, 0.2, pictures))


def counted(pictures: int, seed: int, shares, mean: float, path: str = "f/x.jpg") -> Tally:
    tally, random = Tally(held(), CLASSES), np.random.default_rng(seed)
    for answer in random.choice(3, pictures, p=shares):
        tally.add(CLASSES[answer], float(random.normal(mean, 0.2)), mean > 1.2, path)
    return tally


def test_the_p_of_the_classes_is_near_the_exact_one():
    random = np.random.default_rng(0)
    for _ in range(50):
        now, then = random.integers(5, 90, 6), random.integers(5, 90, 6)
        expected = stats.chi2_contingency(np.stack([now, then]), correction=False).pvalue
        apart, found = mix_shift(now, then)
        assert found == pytest.approx(expected, abs=0.005)
        assert apart == pytest.approx(np.abs(now / now.sum() - then / then.sum()).sum() / 2)
    assert mix_shift(np.zeros(3, int), np.ones(3, int)) == (0.0, 1.0)
    assert mix_shift(np.array([5, 0]), np.array([9, 0])) == (0.0, 1.0)


def test_rare_classes_are_not_told_to_differ_by_a_picture_or_two():
    random = np.random.default_rng(2)
    shares = np.array([0.968, *[0.002] * 6, 0.01, 0.01])
    for pictures in (20, 50, 200):
        then = random.multinomial(1000, shares, 400)
        now = random.multinomial(pictures, shares, 400)
        found = [mix_shift(*pair)[1] for pair in zip(now, then, strict=True)]
        assert np.mean(np.array(found) < drift.SIGNIFICANT) <= 0.005
    # Yet many more of them than were expected are seen.
    assert mix_shift(np.array([180, 20]), np.array([990, 10]))[1] < drift.SIGNIFICANT
    assert mix_shift(np.array([80, 20]), np.array([970, 30]))[1] < 1e-6
    assert mix_shift(np.array([0, 50]), np.array([970, 30]))[1] < 1e-30
    assert mix_shift(np.array([60, 20, 20]), np.array([600, 390, 10]))[1] < 1e-6


def test_few_pictures_of_a_class_are_compared_exactly():
    random = np.random.default_rng(3)
    for _ in range(50):
        n, m = random.integers(20, 60), random.integers(100, 1000)
        now, then = random.integers(0, 4), random.integers(0, 8)
        table = np.array([[now, n - now], [then, m - then]])
        found = drift._fisher(int(now), int(now + then), int(n), int(n + m))
        assert found == pytest.approx(stats.fisher_exact(table).pvalue, abs=1e-9)


def test_the_gap_of_the_distances_is_near_the_exact_one():
    random = np.random.default_rng(1)
    for mean in (1.0, 1.05, 1.2):
        first, second = random.normal(1, 0.2, 800), random.normal(mean, 0.2, 300)
        reference = drift.reference(np.zeros(800, int), np.ones(1, int), first)
        tally = Tally(reference, ["a"])
        for one in second:
            tally.add("a", float(one), False)
        told, exact = tally.to_json(), stats.ks_2samp(first, second)
        assert told["distance_shift"] == pytest.approx(exact.statistic, abs=0.015)
        assert told["distance_p"] == pytest.approx(exact.pvalue, abs=0.1)
    assert distance_shift(np.zeros(102, int), 5) == (0.0, 1.0)


def test_the_same_kind_of_pictures_does_not_differ():
    differing = [
        counted(200, seed, [0.5, 0.3, 0.2], 1.0).to_json()["differs"] for seed in range(40)
    ]
    assert sum(differing) <= 1


@pytest.mark.parametrize(("shares", "mean"), [([0.1, 0.3, 0.6], 1.0), ([0.5, 0.3, 0.2], 1.3)])
def test_other_pictures_differ(shares, mean):
    told = counted(200, 3, shares, mean).to_json()
    assert told["differs"]
    assert told["unlike"] == (mean > 1.2)
    assert told["training_mix"] == {"a": 0.5, "b": 0.3, "c": 0.2}
    assert json.dumps(told)


def test_few_pictures_are_not_judged():
    assert not counted(19, 0, [0, 0, 1.0], 3.0).to_json()["differs"]


def test_groups_are_folders_and_bounded():
    tally = Tally(held(), CLASSES)
    for number in range(2000):
        tally.add("a", 1.0, False, f"place{number}/x.jpg")
    for _ in range(30):
        tally.add("c", 5.0, True, "place1/y.jpg")
    told = tally.to_json()
    assert told["pictures"] == 2030
    assert len(told["groups"]) == 1001
    assert sum(row["pictures"] for row in told["groups"]) == 2030
    groups = {row["group"]: row for row in told["groups"]}
    assert groups["place1"]["differs"]
    assert not groups["place2"]["differs"]
    assert groups["(other folders)"]["pictures"] == 1000


def test_a_bundle_without_a_reference_tells_the_mix_alone():
    tally = Tally(drift.from_card({}, CLASSES), CLASSES)
    for _ in range(50):
        tally.add("b", float("nan"), False)
    told = tally.to_json()
    assert told["mix"]["b"] == 1
    assert not told["differs"]
    assert told["distance"] is None


def test_a_card_gives_the_reference_back():
    one = held()
    card = json.loads(json.dumps({"drift": drift.to_card(one, CLASSES)}))
    again = drift.from_card(card, CLASSES)
    assert (again.pictures, again.answers.tolist()) == (one.pictures, one.answers.tolist())
    assert again.quantiles == pytest.approx(one.quantiles, abs=1e-6)


GOOD = drift.to_card(held(), CLASSES)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "x"},
        {"answers": {"a": 1}},
        {"answers": {"a": 1, "b": -1, "c": 0}},
        {"training": "x"},
        {"distances": [1.0, 2.0]},
        {"distances": [float("nan")] * 101},
        {"distances": list(range(101, 0, -1))},
        {"distances": 3},
    ],
)
def test_a_damaged_reference_is_refused(change):
    with pytest.raises(ValueError, match="drift reference"):
        drift.from_card({"drift": GOOD | change}, CLASSES)
