"""Practice 3 against scikit-learn and imbalanced-learn, and against its own promises."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.over_sampling import RandomOverSampler
from imblearn.under_sampling import RandomUnderSampler
from sklearn.utils.class_weight import compute_class_weight

from sevenfold import draws, evaluate
from sevenfold.errors import DataError, UsageError
from sevenfold.practices import imbalance, optimization
from sevenfold.practices.imbalance import METHODS, Imbalance
from sevenfold.practices.imbalance.settings import GRADED
from sevenfold.rows import Stage

SAMPLERS = ("oversampling", "undersampling", "augmentation", "deferred_sampling")
some_counts = st.lists(st.integers(1, 30), min_size=2, max_size=5)
every = pytest.mark.parametrize("method", METHODS)


def data_of(counts: Any) -> tuple[Any, Any, Any, list[str]]:
    """Return labels, pictures, numbers and class names; a third of the data is not trained on."""
    labels = np.repeat(np.arange(len(counts)), counts)
    others = np.zeros(len(labels) // 3 + 1, np.int64)
    whole = np.concatenate([labels, others])
    numbers = draws.numbers([f"{draws.number(str(at)):016x}" for at in range(len(whole))])
    return whole, np.arange(len(labels)), numbers, [f"class{k}" for k in range(len(counts))]


def stage_of(
    method: str, counts: Any, epoch: int = 9, pictures: Any = None, seed: int = 3, **more: Any
) -> Stage:
    labels, all_of_them, numbers, classes = data_of(counts)
    pictures = all_of_them if pictures is None else pictures
    chosen = Imbalance(method, **more)
    return imbalance.plan(
        chosen, labels, pictures, numbers, classes, epochs=10, batch=1, seed=seed
    )(epoch)


def loss(stage: Stage, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Compute the loss as a stage asks for it."""
    weights = torch.from_numpy(stage.weights)[labels]
    shifted = logits + torch.from_numpy(stage.offset)
    lost = torch.nn.functional.cross_entropy(shifted, labels, reduction="none")
    return (weights * lost).sum() / len(labels)


# Settings


def test_auto_is_the_default_and_off_is_none() -> None:
    assert Imbalance().method == "auto"
    assert Imbalance.off == Imbalance("none")


def test_an_unknown_method_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"imbalance\.method = 'oversample'") as caught:
        imbalance.check(Imbalance("oversample"))
    assert caught.value.cure == "did you mean 'oversampling'?"
    with pytest.raises(UsageError) as caught:
        imbalance.check(Imbalance("xyzzy"))
    assert "balanced_softmax" in caught.value.cure


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("strength", "auto"),
        ("strength", "none"),
        ("strength", "oversampling"),
        ("strength", "balanced_softmax"),
        ("strength", "deferred_sampling"),
        ("defer", "auto"),
        ("defer", "class_weights"),
        ("price", "none"),
        ("price", "adjusted_after"),
        ("temperature", "auto"),
        ("temperature", "balanced_softmax"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(name: str, method: str) -> None:
    with pytest.raises(UsageError, match=rf"imbalance\.{name} = 0\.5 .*'{method}'"):
        imbalance.check(replace(Imbalance(method), **{name: 0.5}))


@pytest.mark.parametrize("method", GRADED)
def test_a_strength_of_nothing_is_refused(method: str) -> None:
    with pytest.raises(UsageError, match=rf"strength = 0 makes .*'{method}' plain") as caught:
        imbalance.check(Imbalance(method, strength=0.0))
    assert "imbalance.method=none" in caught.value.cure
    imbalance.check(Imbalance(method, strength=0.1))


@every
def test_every_method_alone_is_accepted(method: str) -> None:
    imbalance.check(Imbalance(method))
    stage = stage_of(method, [20, 5])
    assert stage.weights.shape == stage.offset.shape == (2,)


def test_a_class_without_pictures_is_named() -> None:
    with pytest.raises(DataError, match="`class1`"):
        stage_of("none", [3, 0, 2])


def test_less_than_a_batch_and_a_single_epoch_are_refused() -> None:
    labels, pictures, numbers, classes = data_of([30, 4])

    def asked(method: str, epochs: int, batch: int) -> None:
        imbalance.plan(
            Imbalance(method),
            labels,
            pictures,
            numbers,
            classes,
            epochs=epochs,
            batch=batch,
            seed=0,
        )

    asked("undersampling", 1, 8)
    with pytest.raises(UsageError, match="leaves 8 pictures, fewer than a batch of 9"):
        asked("undersampling", 1, 9)
    asked("deferred_weights", 2, 8)
    for method in ("deferred_weights", "deferred_sampling"):
        with pytest.raises(UsageError, match="2 epochs"):
            asked(method, 1, 8)


# Weights and samplers


@given(some_counts)
@settings(max_examples=30, deadline=None)
def test_weights_agree_with_scikit_learn(counts: list[int]) -> None:
    labels, pictures, _, _ = data_of(counts)
    theirs = compute_class_weight("balanced", classes=np.arange(len(counts)), y=labels[pictures])
    np.testing.assert_allclose(stage_of("class_weights", counts).weights, theirs, rtol=1e-12)


@given(some_counts, st.floats(0, 2))
@settings(max_examples=30, deadline=None)
def test_pictures_weigh_one_on_average_whatever_the_strength(
    counts: list[int], strength: float
) -> None:
    weights = imbalance.class_weights(np.array(counts), strength)
    assert (weights * counts).sum() == pytest.approx(sum(counts))
    ratio = (counts[1] / counts[0]) ** strength
    assert weights[0] / weights[1] == pytest.approx(ratio)


@given(some_counts)
@settings(max_examples=20, deadline=None)
def test_samplers_draw_as_many_as_imbalanced_learn(counts: list[int]) -> None:
    labels, pictures, _, _ = data_of(counts)
    if min(counts) == max(counts):
        return
    rows = pictures[:, None]
    for method, sampler in (
        ("oversampling", RandomOverSampler(random_state=0)),
        ("undersampling", RandomUnderSampler(random_state=0)),
        ("augmentation", RandomOverSampler(random_state=0)),
    ):
        _, theirs = sampler.fit_resample(rows, labels[pictures])
        assert Counter(labels[stage_of(method, counts).pictures]) == Counter(theirs)


@given(some_counts, st.integers(0, 5), st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_draws_depend_on_content_alone_and_repeats_are_even(
    counts: list[int], epoch: int, shuffle: Any
) -> None:
    labels, pictures, _, _ = data_of(counts)
    mixed = pictures.tolist()
    shuffle.shuffle(mixed)
    for method in SAMPLERS:
        one = stage_of(method, counts, epoch).pictures
        other = stage_of(method, counts, epoch, pictures=np.array(mixed)).pictures
        np.testing.assert_array_equal(np.sort(one), np.sort(other))
        times = np.bincount(one, minlength=len(labels))
        assert times[len(pictures) :].sum() == 0
        for label in range(len(counts)):
            some = times[: len(pictures)][labels[pictures] == label]
            assert some.max() - some.min() <= 1


def test_an_epoch_a_seed_and_nothing_else_change_what_is_drawn() -> None:
    first = stage_of("undersampling", [40, 6], 0).pictures
    np.testing.assert_array_equal(first, stage_of("undersampling", [40, 6], 0).pictures)
    for other in (
        stage_of("undersampling", [40, 6], 1),
        stage_of("undersampling", [40, 6], 0, seed=4),
    ):
        assert set(first.tolist()) != set(other.pictures.tolist())
        assert len(first) == len(other.pictures)


def test_a_picture_that_is_there_twice_is_drawn_by_its_index() -> None:
    labels, numbers = np.array([0, 0, 0, 1]), np.array([5, 5, 5, 6], np.uint64)
    found = [
        imbalance.plan(
            Imbalance("undersampling"), labels, some, numbers, "ab", epochs=1, batch=1, seed=0
        )(0).pictures
        for some in (np.array([0, 1, 2, 3]), np.array([2, 3, 1, 0]))
    ]
    assert sorted(found[0]) == sorted(found[1]) == [0, 3]


def test_deferred_methods_begin_late_and_keep_the_size_of_an_epoch() -> None:
    counts = [31, 8, 3]
    plain = stage_of("none", counts)
    for method in ("deferred_weights", "deferred_sampling"):
        assert_same(stage_of(method, counts, 7), plain)
        early = stage_of(method, counts, 5, defer=0.5)
        for stage in (stage_of(method, counts, 8), early):
            assert len(stage.pictures) == sum(counts)
    labels, *_ = data_of(counts)
    sampled = stage_of("deferred_sampling", counts, 8)
    assert np.bincount(labels[sampled.pictures]).tolist() == [14, 14, 14]
    assert sampled.fresh
    np.testing.assert_array_equal(
        stage_of("deferred_weights", counts, 8).weights, stage_of("class_weights", counts).weights
    )
    uneven = stage_of("deferred_sampling", [10, 3, 1], 9).pictures
    assert np.bincount(data_of([10, 3, 1])[0][uneven]).tolist() == [4, 5, 5]


def test_what_goes_on_from_a_training_defers_no_more() -> None:
    for method in ("deferred_weights", "deferred_sampling"):
        labels, pictures, numbers, classes = data_of([9, 3])
        first = imbalance.plan(
            Imbalance(method, defer=0.0),
            labels, pictures, numbers, classes, epochs=1, batch=1, seed=0,
        )(0)  # fmt: skip
        late = stage_of(method, [9, 3], 8)
        np.testing.assert_array_equal(first.weights, late.weights)
        assert len(np.unique(np.bincount(labels[first.pictures]))) == len(
            np.unique(np.bincount(labels[late.pictures]))
        )


def test_deferral_leaves_both_phases_an_epoch() -> None:
    for defer, first in ((0.01, 1), (0.99, 9), (0.7, 7)):
        plain = [
            (stage_of("deferred_weights", [9, 3], epoch, defer=defer).weights == 1).all()
            for epoch in range(10)
        ]
        assert plain == [True] * first + [False] * (10 - first)


@every
def test_what_goes_on_from_a_training_keeps_the_prior_out_of_its_logits(method: str) -> None:
    more = {"strength": 0.5} if method in GRADED else {}
    found = imbalance.lasting(Imbalance(method, **more))
    counts = np.array([20, 5])
    expected = 0.0 if method in ("auto", "none") else 0.5 if more else 1.0
    added = imbalance.offset(found, counts)
    np.testing.assert_allclose(added, [0.0, expected * np.log(5 / 20)])
    imbalance.check(found)
    acting = stage_of(found.method, counts, strength=found.strength)
    np.testing.assert_array_equal(acting.offset, added)


def test_a_strength_that_was_none_leaves_nothing_to_keep() -> None:
    assert imbalance.lasting(Imbalance("adjusted_after", strength=0.0)) == Imbalance.off
    assert imbalance.lasting(Imbalance("adjusted_after", temperature=9.0)).strength == 2.0


def test_only_augmentation_and_deferred_sampling_ask_for_other_views() -> None:
    fresh = [method for method in METHODS if stage_of(method, [20, 5]).fresh]
    assert fresh == ["augmentation", "deferred_sampling"]


# Balanced data


def assert_same(one: Stage, other: Stage) -> None:
    assert one.pictures.tobytes() == other.pictures.tobytes()
    assert one.weights.tobytes() == other.weights.tobytes()
    assert one.offset.tobytes() == other.offset.tobytes()
    assert one.fresh == other.fresh


@every
@pytest.mark.parametrize("counts", [[7, 7, 7], [49] * 10])
def test_balanced_data_is_left_alone_to_the_bit(method: str, counts: list[int]) -> None:
    shuffled = np.random.default_rng(0).permutation(sum(counts))
    plain = stage_of("none", counts, pictures=shuffled)
    assert plain.pictures.tobytes() == shuffled.tobytes()
    assert_same(stage_of(method, counts, pictures=shuffled), plain)


@pytest.mark.parametrize("strength", [0.3, 2.0])
@pytest.mark.parametrize("method", ["class_weights", "logit_adjustment", "deferred_weights"])
def test_so_it_is_at_any_strength(method: str, strength: float) -> None:
    assert_same(stage_of(method, [13] * 3, strength=strength), stage_of("none", [13] * 3))


def test_balanced_softmax_changes_no_gradient_where_classes_are_equal() -> None:
    labels = torch.tensor([0, 1, 2, 2])
    found = []
    for method in ("none", "balanced_softmax"):
        logits = torch.linspace(-2, 2, 12).reshape(4, 3).double().requires_grad_()
        loss(stage_of(method, [6, 6, 6]), logits, labels).backward()
        assert logits.grad is not None
        found.append(logits.grad)
    assert torch.equal(*found)


@given(some_counts, st.floats(0, 0.5), st.sampled_from((0.5, 1.0, 2.0)))
@settings(max_examples=30, deadline=None)
def test_smoothing_leaves_the_answers_for_equally_common_classes(
    counts: list[int], smoothing: float, strength: float
) -> None:
    prior = np.array(counts)
    p = np.random.default_rng(0).dirichlet(np.ones(len(counts)), 50)
    method = Imbalance("logit_adjustment", strength=strength)
    spread = torch.from_numpy(imbalance.spread(method, prior))
    smoothed = optimization.smooth(
        torch.from_numpy(p), optimization.Optimization(smoothing=smoothing), spread
    ).numpy()
    np.testing.assert_allclose(smoothed.sum(axis=1), 1)
    shift = prior / prior.max()
    before, after = p / shift**strength, smoothed / shift**strength
    near = np.sort(before, axis=1)
    clear = near[:, -1] - near[:, -2] > 1e-9 * near[:, -1]
    assert (before.argmax(axis=1) == after.argmax(axis=1))[clear].all()


@pytest.mark.parametrize("method", [name for name in METHODS if "soft" not in name])
def test_other_methods_are_smoothed_evenly(method: str) -> None:
    if method != "logit_adjustment":
        assert imbalance.spread(Imbalance(method), np.array([70, 3])).tolist() == [1.0, 1.0]
    assert imbalance.spread(Imbalance(method), np.array([7, 7, 7])).tolist() == [1.0, 1.0, 1.0]


# After training


@given(some_counts, st.sampled_from((0.0, 0.25, 1.0, 2.0)))
@settings(max_examples=20, deadline=None)
def test_adjusting_logits_is_shifting_the_head(counts: list[int], strength: float) -> None:
    prior = np.array(counts)
    head = torch.nn.Linear(4, len(counts))
    inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    before = head(inputs).detach().numpy()
    imbalance.shift_head(head, prior, strength)
    ours = imbalance.adjusted(before, prior, strength)
    assert ours.dtype == before.dtype
    np.testing.assert_allclose(head(inputs).detach().numpy(), ours, atol=1e-5)
    shares = np.log(prior / prior.sum())
    theirs = before - strength * shares
    gap = ours - theirs
    np.testing.assert_allclose(gap, np.broadcast_to(gap[:, :1], gap.shape), atol=1e-5)
    if strength == 0 or len(set(counts)) == 1:
        assert ours.tobytes() == before.tobytes()


def two_bells(common: int, rare: int, seed: int) -> tuple[Any, Any]:
    """Make up points of two overlapping classes in the plane."""
    random = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [common, rare])
    return random.normal(0, 1, (len(labels), 2)) + 1.2 * labels[:, None], labels


def exact_logits(points: Any, counts: Any) -> Any:
    """Return the logits of the best model of two bells of such a prior."""
    ratio = 1.2 * points.sum(axis=1) - 1.2**2
    return np.stack([np.zeros(len(points)), ratio], axis=1) + np.log(counts)


def test_the_whole_prior_is_taken_where_logits_are_calibrated() -> None:
    counts = np.array([1000, 50])
    points, labels = two_bells(1000, 50, 0)
    logits = exact_logits(points, counts)
    assert imbalance.choose_strength(logits, labels, counts, 1.0) >= 0.8
    held, truth = two_bells(2000, 2000, 1)
    right = imbalance.adjusted(exact_logits(held, counts), counts, 1.0).argmax(axis=1) == truth
    assert right[truth == 0].mean() == pytest.approx(right[truth == 1].mean(), abs=0.03)


def test_few_rare_pictures_choose_as_many_would() -> None:
    """Right and wrong of eight pictures would hardly ever exceed their standard error."""
    counts = np.array([1000, 50])
    found = []
    for seed in range(20):
        points, labels = two_bells(150, 8, seed)
        strength = imbalance.choose_strength(exact_logits(points, counts), labels, counts, 1.0)
        found.append(strength)
    assert np.median(found) >= 0.9
    assert min(found) > 0


def test_a_price_bounds_what_common_classes_lose() -> None:
    counts = np.array([1000, 50])
    points, labels = two_bells(2000, 100, 1)
    logits = exact_logits(points, counts)
    before = imbalance.recalls(logits, labels)
    dear = imbalance.choose_strength(logits, labels, counts, 1.0)
    for limit in (0.05, 0.02, 0.0):
        strength = imbalance.choose_strength(logits, labels, counts, limit)
        after = imbalance.recalls(imbalance.adjusted(logits, counts, strength), labels)
        assert before[0] - after[0] <= limit + 1e-12
        assert strength < dear
        # The next one would have cost more.
        more = imbalance.recalls(imbalance.adjusted(logits, counts, strength + 0.1), labels)
        assert before[0] - more[0] > limit
    assert imbalance.choose_strength(logits, labels, np.array([9, 9]), 1.0) == 0.0


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_calibrated_logits_are_the_same_however_sharp_the_network(sharpness: float) -> None:
    counts = np.array([1000, 50])
    points, labels = two_bells(4000, 200, 2)
    logits = exact_logits(points, counts).astype(np.float32)
    plain, temperature = imbalance.calibrated(logits * np.float32(sharpness), labels)
    assert temperature == pytest.approx(sharpness, rel=0.1)
    expected, _ = imbalance.calibrated(logits, labels)
    np.testing.assert_allclose(plain, expected, atol=1e-5)
    whole = Imbalance("adjusted_after", temperature=temperature)
    assert whole.factor == temperature
    answers = imbalance.adjusted(logits * sharpness, counts, whole.factor).argmax(axis=1)
    assert (answers == imbalance.adjusted(plain, counts, 1.0).argmax(axis=1)).all()


def test_a_training_that_diverged_is_never_chosen() -> None:
    labels, counts = np.array([0] * 8 + [1] * 4), np.array([80, 40])
    lost = np.full((12, 2), np.nan)
    plain, temperature = imbalance.calibrated(lost, labels)
    assert temperature == 1.0
    assert imbalance.choose_strength(plain, labels, counts, 1.0) == 0.0
    sound = np.stack([np.full(12, 2.0), np.zeros(12)], axis=1)
    assert imbalance.choose_by_loss({"a": sound, "b": lost}, labels, counts, 1.0) == "a"
    # Nor is it what others are compared with.
    assert imbalance.choose_by_loss({"a": lost, "b": sound}, labels, counts, 1.0) == "b"
    better = sound.copy()
    better[8:, 0] = -2.0
    ways = {"a": lost, "b": sound, "c": better}
    assert imbalance.choose_by_loss(ways, labels, counts, 1.0) == "c"
    assert imbalance.choose(ways, labels, "balanced_accuracy") == "c"
    assert imbalance.choose({"a": lost, "b": sound}, labels, "balanced_accuracy") == "b"
    assert imbalance.choose_by_loss({"a": lost, "b": lost}, labels, counts, 1.0) == "a"


def test_logits_for_equal_classes_are_calibrated_as_such() -> None:
    logits, labels = np.array([[3.0, 0.0]] * 9 + [[0.0, 3.0]]), np.array([0] * 8 + [1] * 2)
    _, uneven = imbalance.calibrated(logits, labels)
    assert uneven == pytest.approx(3 / np.log(9))  # one of ten is wrong
    _, even = imbalance.calibrated(logits, labels, even=True)
    assert even == pytest.approx(3 / np.log(3))  # one of four, of equally many of each


# Choosing


@pytest.mark.parametrize(
    ("counts", "objective", "methods"),
    [
        ([30, 20], "balanced_accuracy", ("none",)),
        ([31, 20], "accuracy", ("none",)),
        ([31, 20], "balanced_accuracy", ("none", "adjusted_after", "balanced_softmax")),
    ],
)
def test_auto_tries_nothing_up_to_three_to_two(
    counts: list[int], objective: str, methods: tuple[str, ...]
) -> None:
    assert imbalance.resolve(Imbalance(trainings=2), np.array(counts), objective) == methods
    free = tuple(name for name in methods if name != "balanced_softmax")
    assert imbalance.resolve(Imbalance(), np.array(counts), objective) == free
    named = Imbalance("undersampling")
    assert imbalance.resolve(named, np.array(counts), objective) == ("undersampling",)


def logits_of(answers: list[int], classes: int = 2) -> Any:
    return np.eye(classes)[answers]


def test_the_simplest_stays_until_another_gains_more_than_noise() -> None:
    labels = np.array([0] * 8 + [1] * 2)
    plain = logits_of([0] * 10)
    one = logits_of([0] * 9 + [1])
    both = logits_of([0] * 8 + [1, 1])

    def chosen(**candidates: Any) -> str:
        return imbalance.choose(candidates, labels, "balanced_accuracy")

    assert chosen(none=plain, other=plain) == "none"
    assert chosen(none=plain, other=one) == "none"
    assert chosen(none=plain, other=both) == "other"
    assert chosen(none=plain, other=both, later=both) == "other"
    assert chosen(none=plain, other=one, later=both) == "later"
    assert chosen(none=both, other=plain) == "none"


def test_log_loss_chooses_among_methods_within_the_price() -> None:
    labels, counts = np.array([0] * 8 + [1] * 2), np.array([80, 20])
    margins = np.array([2.0] * 8 + [2.0] * 2)  # towards the common class

    def logits(rarer: float, common: float = 0.0) -> Any:
        margin = margins - np.where(labels == 1, rarer, common)
        return np.stack([margin, np.zeros(10)], axis=1)

    def chosen(limit: float = 1.0, **candidates: Any) -> str:
        return imbalance.choose_by_loss(candidates, labels, counts, limit)

    plain = logits(0)
    assert chosen(none=plain, other=plain) == "none"
    # Nothing is answered otherwise yet, and still the loss tells.
    assert chosen(none=plain, other=logits(1.5)) == "other"
    assert chosen(none=plain, other=logits(1.5), later=logits(3)) == "later"
    assert chosen(none=plain, other=logits(-1)) == "none"
    # All common pictures are lost for both rare ones: no better balanced, and no worse.
    traded = logits(5, 2.001)
    assert chosen(none=plain, other=traded) == "other"
    assert chosen(0.99, none=plain, other=traded) == "none"


def test_a_lower_loss_with_fewer_right_answers_is_left_out() -> None:
    labels, counts = np.array([0] * 8 + [1] * 4), np.array([80, 40])
    plain = np.stack([np.array([2.0] * 11 + [-0.5]), np.zeros(12)], axis=1)
    nearer = plain.copy()
    nearer[8:11, 0] = 0.01
    assert imbalance.choose_by_loss({"a": plain, "b": nearer}, labels, counts, 1.0) == "b"
    nearer[11, 0] = 0.01
    losses = [evaluate.log_loss(logits, labels).sum() for logits in (plain, nearer)]
    assert losses[1] < losses[0] - 1
    assert imbalance.choose_by_loss({"a": plain, "b": nearer}, labels, counts, 1.0) == "a"


def test_a_class_without_validation_pictures_has_no_recall_and_no_say() -> None:
    logits, labels = np.eye(3)[[0, 0, 0, 1]] * 2.0, np.array([0, 1, 1, 1])
    found = imbalance.recalls(logits, labels)
    assert found[:2] == pytest.approx([1.0, 1 / 3])
    assert np.isnan(found[2])
    counts, better = np.array([9, 5, 2]), np.eye(3)[[0, 1, 1, 1]] * 2.0
    assert imbalance.choose_by_loss({"a": logits, "b": better}, labels, counts, 1.0) == "b"
    alone = {"a": logits[:1], "b": logits[:1]}
    assert imbalance.choose_by_loss(alone, labels[:1], counts, 0.0) == "a"


def test_the_gain_is_the_objectives_difference_with_mcnemars_error() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1])
    before, after = np.array([1.0, 1, 1, 1, 0, 0]), np.array([1.0, 1, 1, 0, 1, 1])
    plain = imbalance.gain(before, after, labels, "accuracy")
    assert plain.value == pytest.approx(1 / 6)
    assert plain.error == pytest.approx(np.sqrt(3) / 6)
    balanced = imbalance.gain(before, after, labels, "balanced_accuracy")
    assert balanced.value == pytest.approx((-1 / 4 + 1) / 2)
    assert balanced.error == pytest.approx(np.sqrt(1 / 16 + 2 / 4) / 2)


def test_the_price_is_told_for_halves() -> None:
    before, after = np.array([0.5, 0.75, 0.0]), np.array([0.6, 0.5, 0.5])
    found = imbalance.price(before, after, np.array([20, 100, 3]))
    assert found == imbalance.Price(common=-0.25, rare=0.5)


# The tips' example in miniature


def recalls(method: str) -> tuple[float, float]:
    """Train a linear model on 1,000 points against 50; recall of common and rare class."""
    points, labels = two_bells(1000, 50, 5)
    numbers = draws.numbers([f"{draws.number(str(at)):016x}" for at in range(len(labels))])
    counts = np.bincount(labels)
    staged = imbalance.plan(
        Imbalance(method),
        labels,
        np.arange(len(labels)),
        numbers,
        ("common", "rare"),
        epochs=60,
        batch=1,
        seed=0,
    )
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 2).double()
    moved = torch.optim.SGD(model.parameters(), 1.0, momentum=0.8)
    for epoch in range(60):
        stage = staged(epoch)
        some = stage.pictures
        moved.zero_grad()
        loss(
            stage, model(torch.from_numpy(points[some])), torch.from_numpy(labels[some])
        ).backward()
        moved.step()
    if method == "adjusted_after":
        imbalance.shift_head(model, counts, 1.0)
    held, truth = two_bells(1000, 1000, 6)
    right = model(torch.from_numpy(held)).argmax(dim=1).numpy() == truth
    return float(right[truth == 0].mean()), float(right[truth == 1].mean())


@pytest.fixture(scope="module")
def plain_recalls() -> tuple[float, float]:
    return recalls("none")


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("auto", "none")])
def test_each_method_helps_the_rare_class(method: str, plain_recalls: tuple[float, float]) -> None:
    common, rare = recalls(method)
    assert rare > plain_recalls[1] + 0.1
    assert common + rare > sum(plain_recalls) + 0.05


def test_auto_trains_as_none_first(plain_recalls: tuple[float, float]) -> None:
    assert recalls("auto") == plain_recalls
