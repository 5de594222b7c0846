import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score, log_loss

from sevenfold.errors import DataError
from sevenfold.evaluate import (
    Scores,
    calibration_error,
    confusion,
    fit_temperature,
    flat,
    nll,
    score,
    widened,
    wilson,
    worst_mistakes,
)

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "calibration_error")


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def drawn(rng: np.random.Generator, pictures: int, classes: int, sharpness: float = 1.0):
    """Draw logits, and targets from their softmax; then sharpen the logits."""
    logits = 1.5 * rng.normal(size=(pictures, classes))
    above = softmax(logits).cumsum(axis=1) < rng.random((pictures, 1))
    return logits * sharpness, np.minimum(above.sum(axis=1), classes - 1)


def names(classes: int) -> list[str]:
    return [f"class {k}" for k in range(classes)]


@given(seed=st.integers(0, 2**32 - 1), pictures=st.integers(1, 60), classes=st.integers(2, 6))
@settings(max_examples=50, deadline=None)
def test_scores_agree_with_scikit_learn(seed, pictures, classes):
    logits, targets = drawn(np.random.default_rng(seed), pictures, classes)
    p = softmax(logits)
    answers = p.argmax(axis=1)
    scores = score(p, targets, names(classes), resamples=20)
    assert scores.accuracy.value == pytest.approx((answers == targets).mean())
    recalls = [(answers[targets == k] == k).mean() for k in np.unique(targets)]
    assert scores.balanced_accuracy.value == pytest.approx(np.mean(recalls))
    if len(set(targets)) > 1 and set(answers) <= set(
        targets
    ):  # scikit-learn warns of others, to the same effect
        expected = balanced_accuracy_score(targets, answers)
        assert scores.balanced_accuracy.value == pytest.approx(expected)
    assert scores.macro_f1.value == pytest.approx(
        f1_score(targets, answers, average="macro", zero_division=0)
    )
    assert scores.nll.value == pytest.approx(log_loss(targets, p, labels=range(classes)))
    assert (scores.confusion == confusion_matrix(targets, answers, labels=range(classes))).all()
    assert sum(each.pictures for each in scores.classes) == scores.pictures == pictures


@given(seed=st.integers(0, 2**32 - 1), groups=st.integers(0, 8))
@settings(max_examples=50, deadline=None)
def test_intervals_hold_their_values_and_stay_in_range(seed, groups):
    rng = np.random.default_rng(seed)
    logits, targets = drawn(rng, 40, 3)
    group = [str(g) for g in rng.integers(0, groups, 40)] if groups else ()
    scores = score(softmax(logits), targets, names(3), groups=group, resamples=50)
    recalls = [each.recall for each in scores.classes]
    for estimate in (*(getattr(scores, name) for name in METRICS), *recalls):
        assert 0 <= estimate.low <= estimate.value <= estimate.high
    for estimate in (scores.accuracy, scores.balanced_accuracy, scores.macro_f1, *recalls):
        assert estimate.high <= 1


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_values_do_not_depend_on_the_order_of_pictures(seed):
    rng = np.random.default_rng(seed)
    logits, targets = drawn(rng, 80, 3)
    p = softmax(logits).round(1)  # many equal confidences
    p /= p.sum(axis=1, keepdims=True)
    order = rng.permutation(80)
    first = score(p, targets, names(3), resamples=20)
    second = score(p[order], targets[order], names(3), resamples=20)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "nll"):
        assert getattr(first, name).value == pytest.approx(getattr(second, name).value)
    assert first.calibration_error.value == pytest.approx(second.calibration_error.value, abs=0.01)


def test_wilson_gives_the_published_half_widths():
    for pictures, half in ((10, 0.23), (50, 0.11), (200, 0.055)):
        e = wilson(round(0.8 * pictures), pictures)
        assert (e.high - e.low) / 2 == pytest.approx(half, abs=0.007)
    assert wilson(0, 10).low == 0
    assert wilson(10, 10).high == 1
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0, 1)


def test_wilson_covers():
    rng = np.random.default_rng(0)
    bounds = [wilson(k, 80) for k in range(81)]
    for share in (0.6, 0.9, 0.97):
        right = rng.binomial(80, share, 4000)
        assert np.mean([bounds[k].low <= share <= bounds[k].high for k in right]) > 0.93


def grouped_sample(rng: np.random.Generator, groups: int, size: int):
    """Draw pictures whose groups are easy or hard as a whole; accuracy is 0.75 on average."""
    share = np.repeat(rng.choice([0.55, 0.95], groups), size)
    right = rng.random(groups * size) < share
    p = np.where(right[:, None], [0.9, 0.1], [0.1, 0.9])
    return p, np.zeros(len(p), dtype=int), [str(g) for g in np.repeat(np.arange(groups), size)]


def test_intervals_over_groups_cover_and_those_over_pictures_do_not():
    rng = np.random.default_rng(1)
    held = {True: 0, False: 0}
    for trial in range(100):
        p, targets, groups = grouped_sample(rng, 30, 20)
        for grouped in held:
            scores = score(p, targets, names(2), groups=groups * grouped, seed=trial, resamples=200)
            held[grouped] += scores.accuracy.low <= 0.75 <= scores.accuracy.high
    assert held[True] >= 87
    assert held[False] < 80


@pytest.mark.parametrize("groups", [10, 12, 20])
def test_intervals_over_few_groups_cover(groups):
    rng, held = np.random.default_rng(groups), 0
    for trial in range(400):
        p, targets, its = grouped_sample(rng, groups, 20)
        scores = score(p, targets, names(2), groups=its, seed=trial, resamples=400)
        held += scores.accuracy.low <= 0.75 <= scores.accuracy.high
    assert held >= 0.93 * 400  # 94 % and more of 4,000; without `widened` 90 % of ten groups


def test_draws_are_spread_for_few_groups_alone():
    draws = np.array([0.4, 0.6])
    spread = widened(0.5, draws, 10)
    factor = math.sqrt(10 / 9) * stats.t.ppf(0.975, 9) / stats.norm.ppf(0.975)
    assert spread == pytest.approx(0.5 + (draws - 0.5) * factor)
    assert np.array_equal(widened(0.5, draws, 100_000), draws)


def test_intervals_of_the_loss_and_the_balanced_accuracy_cover():
    rng = np.random.default_rng(2)
    logits, targets = drawn(rng, 200_000, 3)
    p = softmax(logits)
    truth = {"nll": nll(p, targets)}
    answers = p.argmax(axis=1)
    truth["balanced_accuracy"] = balanced_accuracy_score(targets, answers)
    truth["macro_f1"] = f1_score(targets, answers, average="macro")
    held = dict.fromkeys(truth, 0)
    for trial in range(150):
        rows = slice(200 * trial, 200 * trial + 200)
        scores = score(p[rows], targets[rows], names(3), seed=trial, resamples=200)
        for name, value in truth.items():
            e = getattr(scores, name)
            held[name] += e.low <= value <= e.high
    assert min(held.values()) / 150 > 0.88


@pytest.mark.parametrize("sharpness", [1.0, 2.0])
def test_the_interval_of_the_calibration_error_covers(sharpness):
    rng = np.random.default_rng(3)
    logits, targets = drawn(rng, 200_000, 4, sharpness)
    p = softmax(logits)
    truth = calibration_error(p, targets) if sharpness > 1 else 0.0
    held = 0
    for trial in range(100):
        rows = slice(400 * trial, 400 * trial + 400)
        e = score(p[rows], targets[rows], names(4), seed=trial, resamples=200).calibration_error
        held += e.low <= truth <= e.high
    assert held >= 90


def test_calibration_error_is_free_of_what_chance_adds():
    rng = np.random.default_rng(4)
    mean = {}
    for sharpness in (1.0, 3.0):
        found = []
        for _ in range(40):
            logits, targets = drawn(rng, 200, 4, sharpness)
            found.append(calibration_error(softmax(logits), targets))
        mean[sharpness] = np.mean(found)
    assert mean[1.0] < 0.02  # the plain error is about 0.09 here
    assert mean[3.0] > 0.15


def test_calibration_error_of_a_constant_confidence_is_the_gap():
    p = np.tile([0.9, 0.1], (10_000, 1))
    targets = (np.arange(10_000) % 10 < 4).astype(int)  # right 60 % of the time
    assert calibration_error(p, targets) == pytest.approx(0.3, abs=0.005)


def test_targets_and_groups_may_be_what_a_notebook_holds():
    logits, targets = drawn(np.random.default_rng(5), 60, 3)
    p, kinds = softmax(logits), ["cat", "dog", "eel"]
    groups = [f"site {at % 12}" for at in range(60)]
    expected = score(p, targets, kinds, groups=groups, resamples=50)
    named = [kinds[target] for target in targets]
    for same in (targets.tolist(), named, np.array(named), np.array(named, dtype=object)):
        assert score(p, same, kinds, groups=groups, resamples=50) == expected
    for same in (np.array(groups), np.array(groups, dtype=object), tuple(groups)):
        assert score(p, targets, np.array(kinds), groups=same, resamples=50) == expected
    assert score(p, targets, kinds, groups=np.array([]), resamples=50).groups == 60


def test_groups_of_one_picture_are_no_groups():
    logits, targets = drawn(np.random.default_rng(5), 50, 3)
    p = softmax(logits)
    alone = score(p, targets, names(3), groups=[str(i) for i in range(50)], resamples=50)
    assert alone == score(p, targets, names(3), resamples=50)
    assert (alone.groups, alone.trustworthy) == (50, True)


@pytest.mark.parametrize(("groups", "trustworthy"), [(9, False), (10, True)])
def test_under_ten_groups_no_interval_is_trusted(groups, trustworthy):
    p, targets, group = grouped_sample(np.random.default_rng(6), groups, 3)
    scores = score(p, targets, names(2), groups=group, resamples=50)
    assert (scores.groups, scores.trustworthy) == (groups, trustworthy)


def test_all_right_in_groups_is_still_uncertain():
    p = np.tile([1.0, 0.0], (40, 1))
    scores = score(p, np.zeros(40, int), names(2), groups=[str(i % 20) for i in range(40)])
    assert scores.accuracy.low == wilson(40, 40).low < 1


def test_classes_without_pictures_or_answers():
    p = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1]])
    scores = score(p, np.array([0, 1]), names(3), resamples=50)
    absent, unanswered = scores.classes[2], scores.classes[1]
    assert (absent.pictures, absent.recall.low, absent.recall.high) == (0, 0, 1)
    assert (unanswered.pictures, unanswered.precision, unanswered.f1) == (1, 0, 0)
    assert scores.balanced_accuracy.value == 0.5
    assert all(math.isfinite(value) for value in (absent.recall.value, absent.f1))


def test_a_class_under_sixty_pictures_is_too_few():
    p = np.tile([0.6, 0.4], (119, 1))
    scores = score(p, np.repeat([0, 1], [60, 59]), names(2), resamples=20)
    assert [each.too_few for each in scores.classes] == [False, True]


def test_a_class_in_under_ten_groups_is_too_few():
    p = np.tile([0.6, 0.4], (200, 1))
    groups = [f"{'ab'[label]}{at % (10 - label)}" for label in (0, 1) for at in range(100)]
    scores = score(p, np.repeat([0, 1], 100), names(2), groups=groups, resamples=20)
    assert [each.too_few for each in scores.classes] == [False, True]


def test_scores_are_reproducible_and_depend_on_the_seed():
    logits, targets = drawn(np.random.default_rng(7), 60, 3)
    p = softmax(logits)
    assert score(p, targets, names(3), seed=1) == score(p, targets, names(3), seed=1)
    assert score(p, targets, names(3), seed=1) != score(p, targets, names(3), seed=2)


def test_resamples_in_parts_are_the_same_as_in_one(monkeypatch):
    logits, targets = drawn(np.random.default_rng(8), 100, 3)
    p = softmax(logits)
    whole = score(p, targets, names(3), resamples=100)
    monkeypatch.setattr("sevenfold.evaluate.calibration._CHUNK", 700)
    parts = score(p, targets, names(3), resamples=100)
    for name in METRICS:
        one, other = asdict(getattr(whole, name)), asdict(getattr(parts, name))
        assert one == pytest.approx(other, rel=1e-6)


def test_flat_holds_the_keys_of_the_command_line():
    logits, targets = drawn(np.random.default_rng(9), 30, 3)
    scores: Scores = score(softmax(logits), targets, names(3), resamples=20)
    facts = flat(scores)
    assert {*METRICS, "pictures", "intervals"} <= set(facts)
    assert all(type(facts[name]) is float for name in METRICS)
    assert facts["intervals"]["nll"] == [scores.nll.low, scores.nll.high]


def test_worst_mistakes_come_first():
    p = np.array([[0.6, 0.4], [0.1, 0.9], [0.3, 0.7], [0.8, 0.2]])
    targets = np.array([1, 0, 1, 1])
    assert worst_mistakes(p, targets, 2).tolist() == [1, 3]
    assert worst_mistakes(p, targets, 9).tolist() == [1, 3, 0]


def test_confusion_has_the_truth_in_rows():
    assert confusion(np.array([1, 1]), np.array([0, 1]), 2).tolist() == [[0, 1], [0, 1]]


@given(temperature=st.floats(0.2, 5), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_temperature_undoes_sharpening_and_is_the_minimum(temperature, seed):
    logits, targets = drawn(np.random.default_rng(seed), 300, 3)
    base = fit_temperature(logits, targets)
    fitted = fit_temperature(logits * temperature, targets)
    assert fitted == pytest.approx(base * temperature, rel=1e-6)
    best = nll(softmax(logits * temperature / fitted), targets)
    for factor in (0.97, 1.03):
        assert best <= nll(softmax(logits * temperature / (fitted * factor)), targets)


def test_temperature_weights_count_as_copies():
    logits, targets = drawn(np.random.default_rng(10), 100, 3)
    weights = np.random.default_rng(11).integers(0, 4, 100)
    copies = fit_temperature(np.repeat(logits, weights, axis=0), np.repeat(targets, weights))
    assert fit_temperature(logits, targets, weights.astype(float)) == pytest.approx(copies)


def test_temperature_at_the_ends_of_its_range():
    logits = np.array([[4.0, 0.0], [0.0, 4.0]])
    assert fit_temperature(logits, np.array([1, 0])) == pytest.approx(20)
    assert fit_temperature(np.zeros((2, 2)), np.array([0, 1])) == 1
    assert fit_temperature(1e4 * logits, np.array([0, 0])) == pytest.approx(20)


def test_answers_that_are_all_right_are_not_made_certain():
    rng = np.random.default_rng(9)
    targets = rng.integers(0, 3, 200)
    logits = np.eye(3)[targets] * rng.uniform(0.5, 3, (200, 1))
    sure = softmax(logits / fit_temperature(logits, targets)).max(axis=1)
    assert sure.mean() == pytest.approx(201 / 202, abs=1e-6)
    assert fit_temperature(40 * logits, targets) == 1  # as sure as it is, and no surer
    # A single mistake, and the likelihood decides again.
    wrong = np.append(targets[:-1], (targets[-1] + 1) % 3)
    found = fit_temperature(logits, wrong)
    losses = [nll(softmax(logits / t), wrong) for t in (0.97 * found, found, 1.03 * found)]
    assert min(losses) == losses[1]


def test_a_class_of_few_pictures_leaves_means_over_classes_unsure():
    p = np.eye(3)[np.repeat([0, 1, 2], [60, 20, 4])] * 0.97 + 0.01
    found = score(p, p.argmax(axis=1), names(3))
    assert found.balanced_accuracy.value == found.balanced_accuracy.high == 1
    assert found.balanced_accuracy.low < 0.85
    assert found.macro_f1.low < 0.85
    assert found.calibration_error.high > 0.02  # the accuracy may be 95.6 %, not 98
    rng = np.random.default_rng(4)
    targets = np.repeat([0, 1, 2], [100, 60, 4])
    truth, held = (0.95 + 0.95 + 0.9) / 3, 0
    for _ in range(200):
        right = rng.random(164) < np.where(targets == 2, 0.9, 0.95)
        answers = np.where(right, targets, (targets + 1) % 3)
        found = score(np.eye(3)[answers] * 0.97 + 0.01, targets, names(3), resamples=100)
        held += found.balanced_accuracy.low <= truth <= found.balanced_accuracy.high
    assert held >= 188


@pytest.mark.parametrize(
    ("p", "targets", "groups", "said"),
    [
        (np.zeros((0, 2)), [], (), "no pictures"),
        ([[0.5, 0.5]], [0, 1], (), "do not fit"),
        ([[0.2, 0.3, 0.5]], [0], (), "do not fit"),
        ([[0.5, 0.5]], [0], ("a", "b"), "do not fit"),
        ([[0.5, 0.6]], [0], (), "sum 1"),
        ([[math.nan, 0.5]], [0], (), "sum 1"),
        ([[1.5, -0.5]], [0], (), "sum 1"),
        ([[0.5, 0.5]], [2], (), "outside"),
        ([[0.5, 0.5]], [-1], (), "outside"),
    ],
)
def test_what_cannot_be_scored_is_refused(p, targets, groups, said):
    with pytest.raises(DataError, match=said):
        score(np.array(p), np.array(targets, dtype=int), names(2), groups=groups)


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (["class 0", "clas 1"], "target 'clas 1' is none of the classes\ndid you mean 'class 1'"),
        (["class 0", None], "target None is none of the classes"),
        ([], "no pictures"),
        ([0.0, 1.0], r"the targets are float64 \(2,\)"),
        ([[0], [1]], r"the targets are int64 \(2, 1\)"),
    ],
)
def test_targets_that_are_no_classes_are_refused(targets, said):
    with pytest.raises(DataError, match=said):
        score(np.full((2, 2), 0.5), targets, names(2))


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(DataError):
        fit_temperature(np.array([[math.inf, 0]]), np.array([0]))
