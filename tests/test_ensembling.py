from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sevenfold import evaluate, export, nets
from sevenfold.errors import UsageError
from sevenfold.evaluate import fit_temperature
from sevenfold.features.trunk import session
from sevenfold.practices import ensembling
from sevenfold.practices.ensembling import Ensembling, diversity, greedy, mixture, pool, weigh
from sevenfold.practices.ensembling.graph import voting
from sevenfold.practices.ensembling.votes import TIE
from sevenfold.practices.transfer import PACKAGED, Transfer
from sevenfold.recipe import Recipe

SOFT = np.ones(3)


def made(
    members: int = 3, pictures: int = 40, classes: int = 4, seed: int = 0, scale: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Make up logits that know something of the labels, each member in its own way."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, pictures)
    logits = draw.normal(0, scale, (members, pictures, classes))
    logits[:, np.arange(pictures), labels] += draw.uniform(0, 3, (members, 1))
    return logits, labels


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def loss(logits: np.ndarray, labels: np.ndarray) -> float:
    return evaluate.nll(softmax(logits), labels)


cases = given(
    seed=st.integers(0, 10_000),
    members=st.integers(1, 7),
    pictures=st.integers(1, 60),
    classes=st.integers(2, 6),
    scale=st.sampled_from([0.1, 1.0, 5.0, 30.0]),
)


# Settings


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"vote": "hard"}, "ensembling.vote = 'hard'"),
        ({"vote": "weighted"}, "ensembling.vote = 'weighted'"),
        ({"distil": True}, "ensembling.distil"),
        ({"average": True}, "ensembling.average"),
        ({"select": True}, "ensembling.select"),
    ],
)
def test_what_one_member_cannot_do_is_refused(asked, name):
    with pytest.raises(UsageError, match=name) as caught:
        ensembling.check(replace(Ensembling(), **asked))
    assert "ensembling.members=3" in caught.value.cure
    ensembling.check(replace(Ensembling(members=2), **asked))


def test_a_weighted_vote_needs_no_selection():
    with pytest.raises(UsageError, match=r"ensembling\.select = true would do nothing"):
        ensembling.check(Ensembling(members=3, vote="weighted", select=True))


def test_lessons_without_a_student_are_refused():
    with pytest.raises(UsageError, match=r"ensembling\.lessons = 9") as caught:
        ensembling.check(Ensembling(members=3, lessons=9))
    assert "ensembling.distil=true" in caught.value.cure
    ensembling.check(Ensembling(members=3, lessons=9, distil=True))


def test_members_of_other_backbones_have_no_average():
    with pytest.raises(UsageError, match=r"ensembling\.average"):
        ensembling.check(Ensembling(members=3, average=True, backbones=("resnet18",)))


def test_an_average_lies_in_the_middle_and_leaves_alone_what_is_the_same():
    networks = [nets.small("resnet20", 3).train() for _ in range(3)]
    frozen = networks[0].blocks[0].state_dict()
    for at, network in enumerate(networks):
        network.blocks[0].load_state_dict(frozen)
        torch.nn.init.constant_(network.head.weight, float(at))
        network.blocks[1](network.blocks[0](torch.rand(4, 3, 8, 8)))
    middle = ensembling.averaged(networks, np.array([0.5, 0.25, 0.25]))
    assert not middle.training
    assert torch.equal(middle.head.weight, torch.full_like(middle.head.weight, 0.75))
    assert all(
        torch.equal(frozen[name], middle.blocks[0].state_dict()[name])
        for name in frozen
        if "running" not in name and "num_" not in name
    )
    means = [network.blocks[1].state_dict() for network in networks]
    for name, value in middle.blocks[1].state_dict().items():
        if value.is_floating_point():
            each = sum(
                share * one[name].double()
                for share, one in zip((0.5, 0.25, 0.25), means, strict=True)
            )
            assert torch.equal(value, each.float())
    assert torch.equal(networks[1].head.weight, torch.full_like(middle.head.weight, 1.0))


def test_members_take_cuts_and_backbones_in_turn():
    recipe = Recipe(
        transfer=Transfer(backbone="resnet20", weights="random", trainable_blocks=6),
        ensembling=Ensembling(members=5, cuts=(4, 2), backbones=("plain20",)),
    )
    own = [recipe.member(number).transfer for number in range(5)]
    assert [one.trainable_blocks for one in own] == [6, 4, 2, 6, 4]
    assert [one.backbone for one in own] == ["resnet20", "plain20"] * 2 + ["resnet20"]
    assert {one.weights for one in own} == {"random"}
    assert recipe.member(0) == recipe
    assert all(Recipe().member(number) == Recipe() for number in range(3))


def test_another_backbone_has_weights_of_its_own():
    file = Transfer(weights="mine.safetensors", sha256="ab")
    assert file.other(file.backbone, 1) == replace(file, trainable_blocks=1)
    assert file.other("resnet50", 2) == Transfer("resnet50", "hub", "", 2)
    assert Transfer("resnet50", "hub").other(PACKAGED, 2).weights == "packaged"


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"members": 1, "cuts": (2,)}, "cuts = .2. would do nothing for the last"),
        ({"members": 2, "cuts": (2, 1)}, "would do nothing for the last"),
        ({"members": 3, "cuts": (2, 2)}, "names one twice"),
        ({"members": 3, "cuts": (3,)}, "the first member's own, 3"),
        ({"members": 3, "cuts": (2, 7)}, "7 trained blocks are more than"),
        ({"members": 3, "backbones": ("resnet20",)}, "the first member's own, 'resnet20'"),
    ],
)
def test_members_that_would_not_differ_are_refused(asked, problem):
    with pytest.raises(UsageError, match=problem):
        ensembling.check(Ensembling(**asked), cut=3, backbone="resnet20")


def test_one_file_holds_members_of_other_cuts_and_backbones():
    first, second = (nets.small("resnet20", 3).eval() for _ in range(2))
    # Of ten blocks the first seven are the same: both were frozen up to there, one further.
    second.blocks[:7].load_state_dict(first.blocks[:7].state_dict())
    third = nets.small("plain20", 3).eval()
    cores = [export.core(export.Shipped(one, False).eval(), 32) for one in (first, second, third)]
    weights = np.array([0.5, 0.3, 0.2])
    joined = voting(cores, weights, "soft")
    sizes = [sum(np.prod(one.dims) for one in core.graph.initializer) for core in cores]
    both = voting(cores[:2], weights[:2], "soft")
    stored = sum(np.prod(one.dims) for one in both.graph.initializer)
    assert sizes[0] < stored < sizes[0] + sizes[1] - 50_000
    pixels = np.random.default_rng(0).random((2, 3, 32, 32), np.float32) * 255
    with torch.inference_mode():
        logits = np.stack([one(torch.from_numpy(pixels)).numpy() for one in (first, second, third)])
    opened = session(joined.SerializeToString(), 1)
    (raw,) = opened.run(["raw"], {"net_pixels": pixels})
    np.testing.assert_allclose(raw, pool(logits, weights, "soft"), atol=1e-4)


# Votes


def test_the_soft_vote_is_the_mean_probability():
    logits, _ = made()
    np.testing.assert_allclose(
        np.exp(pool(logits, SOFT, "soft")), softmax(logits).mean(axis=0), atol=1e-12
    )
    weights = np.array([1, 0, 3])
    expected = (softmax(logits)[0] + 3 * softmax(logits)[2]) / 4
    for vote in ("soft", "weighted"):
        np.testing.assert_allclose(np.exp(pool(logits, weights, vote)), expected, atol=1e-12)


def test_the_hard_vote_is_the_share_of_answers():
    logits, _ = made(members=5)
    answers = logits.argmax(axis=2)
    shares = np.stack([(answers == label).mean(axis=0) for label in range(4)], axis=1)
    found = np.exp(pool(logits, np.ones(5), "hard"))
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    assert np.abs(found - shares).max() <= TIE
    clear = np.sort(shares, axis=1)[:, -1] > np.sort(shares, axis=1)[:, -2]
    assert clear.any()
    assert not clear.all()
    np.testing.assert_array_equal(found.argmax(axis=1)[clear], shares.argmax(axis=1)[clear])


def test_a_hard_tie_goes_to_the_larger_mean_probability():
    p = np.array([[[0.2, 0.8]], [[0.55, 0.45]]])
    assert pool(np.log(p), np.ones(2), "hard").argmax() == 1
    assert pool(np.log(p[:, :, ::-1]), np.ones(2), "hard").argmax() == 0


def test_a_majority_beats_any_confidence():
    logits = np.zeros((100, 1, 2))
    logits[:51, :, 0] = 1e-3
    logits[51:, :, 1] = 500
    assert pool(logits, np.ones(100), "hard").argmax() == 0
    assert pool(logits, np.ones(100), "soft").argmax() == 1


def test_the_logit_vote_is_the_geometric_mean():
    logits, _ = made()
    product = softmax(logits).prod(axis=0) ** (1 / 3)
    expected = product / product.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(pool(logits, SOFT, "logit")), expected, atol=1e-12)


@settings(deadline=None, max_examples=60)
@cases
def test_every_vote_has_logits_that_can_be_calibrated(seed, members, pictures, classes, scale):
    logits, labels = made(members, pictures, classes, seed, scale)
    order = np.random.default_rng(seed).permutation(members)
    weights = np.random.default_rng(seed + 1).uniform(0.1, 1, members)
    for vote in ensembling.VOTES:
        found = pool(logits, weights, vote)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, atol=1e-9)
        shifted = pool(logits + 17.0, weights * 8, vote)
        np.testing.assert_allclose(shifted, found, atol=1e-6)
        np.testing.assert_allclose(pool(logits[order], weights[order], vote), found, atol=1e-9)
        temperature = evaluate.fit_temperature(found, labels)
        assert loss(found / temperature, labels) <= loss(found, labels) + 1e-6


@pytest.mark.parametrize("vote", ensembling.VOTES)
def test_one_member_or_many_alike_vote_as_one(vote):
    logits, _ = made(members=1)
    one = pool(logits, np.ones(1), vote)
    np.testing.assert_array_equal(one.argmax(axis=1), logits[0].argmax(axis=1))
    np.testing.assert_allclose(pool(np.repeat(logits, 4, axis=0), np.ones(4), vote), one, atol=1e-9)
    if vote != "hard":
        np.testing.assert_allclose(np.exp(one), softmax(logits[0]), atol=1e-12)


def test_logits_far_apart_stay_finite():
    logits = np.array([[[0.0, 2000.0]], [[0.0, 3000.0]]])
    for vote in ensembling.VOTES:
        assert np.isfinite(pool(logits, np.ones(2), vote)).all(), vote
    assert pool(logits, np.ones(2), "soft")[0, 0] == pytest.approx(-2000 - np.log(2))


# Selection


@settings(deadline=None, max_examples=100)
@cases
def test_selection_is_never_worse_than_the_best_member(seed, members, pictures, classes, scale):
    logits, labels = made(members, pictures, classes, seed, scale)
    weights = greedy(logits, labels)
    assert weights.sum() == pytest.approx(1)
    assert weights.min() >= 0
    best = min(-np.mean(pool(one[None], np.ones(1), "soft")[np.arange(pictures), labels])
               for one in logits)  # fmt: skip
    chosen = -np.mean(pool(logits, weights, "soft")[np.arange(pictures), labels])
    assert chosen <= best + 1e-9


@settings(deadline=None, max_examples=60)
@cases
def test_the_mixture_is_better_than_any_other_weights(seed, members, pictures, classes, scale):
    logits, labels = made(members, pictures, classes, seed, scale)
    rows = np.arange(pictures)

    def voted(weights: np.ndarray) -> float:
        return float(-np.mean(pool(logits, weights, "weighted")[rows, labels]))

    weights = mixture(logits, labels)
    assert weights.sum() == pytest.approx(1)
    others = [np.ones(members), greedy(logits, labels), *np.eye(members)]
    others += list(np.random.default_rng(seed).dirichlet(np.ones(members), 5))
    assert voted(weights) <= min(map(voted, others)) + 1e-4


def test_the_mixture_does_not_creep_where_members_are_nearly_alike():
    # One picture, and two members that give its class 0.9990 and 0.9991.
    true = np.array([0.3, 0.9990, 0.9991])
    logits = np.log(np.stack([true, 1 - true], axis=1))[:, None]
    assert mixture(logits, np.array([0])) == pytest.approx([0, 0, 1], abs=0.1)


def test_selection_takes_the_better_of_two_and_both_where_both_help():
    right, wrong = np.log([[0.9, 0.1]] * 4), np.log([[0.2, 0.8]] * 4)
    labels = np.zeros(4, np.int64)
    assert greedy(np.stack([wrong, right]), labels).tolist() == [0, 1]
    half = np.log([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
    assert greedy(np.stack([half, wrong, half[::-1]]), labels).tolist() == [0.5, 0, 0.5]


def test_ties_go_to_the_lower_number():
    logits, labels = made(members=1)
    assert greedy(np.repeat(logits, 3, axis=0), labels).tolist() == [1, 0, 0]


def test_rounds_bound_the_selection():
    logits, labels = made(members=6, pictures=300)
    assert greedy(logits, labels, rounds=1).max() == 1
    assert np.count_nonzero(greedy(logits, labels, rounds=3)) <= 3
    assert np.count_nonzero(greedy(logits, labels)) > 1


def test_weights_follow_the_settings():
    logits, labels = made(members=4, pictures=200)
    five = Ensembling(members=4)
    sharp = logits / fit_temperature(pool(logits, np.ones(4), "soft"), labels)
    selected = weigh(replace(five, select=True), logits, labels)
    np.testing.assert_array_equal(selected, greedy(sharp, labels))
    assert weigh(five, logits, labels).tolist() == [0.25] * 4
    weighted = weigh(replace(five, vote="weighted"), logits, labels)
    np.testing.assert_array_equal(weighted, mixture(sharp, labels))
    assert weigh(Ensembling.off, logits[:1], labels).tolist() == [1]


def test_a_vote_that_a_member_alone_beats_is_that_member(monkeypatch):
    labels = np.arange(60) % 3
    logits = np.stack([np.zeros((60, 3)), 4 * np.eye(3)[labels]])
    logits[1, :6] = np.eye(3)[(labels[:6] + 1) % 3]  # right in 54 of 60
    worse = np.array([1.0, 0.0])
    for finder in ("greedy", "mixture"):
        place = f"sevenfold.practices.ensembling.settings.{finder}"
        monkeypatch.setattr(place, lambda *_: worse)
    for asked in (Ensembling(members=2, select=True), Ensembling(members=2, vote="weighted")):
        assert weigh(asked, logits, labels).tolist() == [0.0, 1.0]
    # Counts of answers have no likelihood to lose.
    hard = Ensembling(members=2, vote="hard", select=True)
    assert weigh(hard, logits, labels).tolist() == worse.tolist()


def test_selection_sees_through_members_that_are_unsure():
    logits, labels = made(members=4, pictures=400)
    dull = 0.2 * logits  # as label smoothing leaves them: any company makes them duller
    assert np.count_nonzero(greedy(dull, labels)) == 1
    assert np.count_nonzero(weigh(Ensembling(members=4, select=True), dull, labels)) > 1


# Diversity


def test_diversity_by_hand():
    # Answers of three members to four pictures, all of class 0.
    answers = np.array([[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 1]])
    logits = np.log(np.where(answers[..., None] == np.arange(2), 0.8, 0.2))
    labels = np.zeros(4, np.int64)
    found = diversity(logits, labels, np.ones(3))
    assert found.members == 3
    assert found.disagreement == pytest.approx((2 + 1 + 1) / 12)
    assert found.oracle_accuracy == 0.75
    assert found.mean_accuracy == pytest.approx(5 / 12)
    assert found.pooled_accuracy == 0.25
    wrong = (answers != 0).astype(float)
    pairs = [np.corrcoef(wrong[i], wrong[j])[0, 1] for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found.error_correlation == pytest.approx(np.mean(pairs))
    mean = np.where(answers == 0, -np.log(0.8), -np.log(0.2)).mean()
    pooled = -np.log(np.where(answers == 0, 0.8, 0.2).mean(axis=0)).mean()
    assert found.mean_nll == pytest.approx(mean)
    assert found.pooled_nll == pytest.approx(pooled)
    assert found.ambiguity_gap == pytest.approx(mean - pooled)


def test_members_alike_have_no_diversity():
    logits, labels = made(members=1)
    found = diversity(np.repeat(logits, 3, axis=0), labels, np.ones(3))
    assert found.disagreement == 0
    assert found.error_correlation == pytest.approx(1)
    assert found.ambiguity_gap == pytest.approx(0, abs=1e-12)
    assert found.oracle_accuracy == found.mean_accuracy == found.pooled_accuracy
    alone = diversity(logits, labels, np.ones(1))
    assert (alone.disagreement, alone.error_correlation) == (0, 0)


def test_a_member_that_is_always_right_has_no_correlation():
    labels = np.array([0, 1, 0, 1])
    right = np.eye(2)[labels] * 9
    half = right.copy()
    half[:2] = half[:2, ::-1]
    assert diversity(np.stack([right, half]), labels, np.ones(2)).error_correlation == 0
    found = diversity(np.stack([right, half, half]), labels, np.ones(3))
    assert found.error_correlation == pytest.approx(1)


def test_weights_count_as_often_as_a_member_was_selected():
    logits, labels = made()
    twice = diversity(logits[[0, 0, 2]], labels, np.ones(3))
    weighted = diversity(logits, labels, np.array([2, 0, 1]))
    for name in ("mean_accuracy", "mean_nll", "pooled_nll", "pooled_accuracy", "ambiguity_gap"):
        assert getattr(weighted, name) == pytest.approx(getattr(twice, name)), name
    assert weighted.members == 2


@settings(deadline=None, max_examples=60)
@cases
def test_the_gap_is_never_negative(seed, members, pictures, classes, scale):
    logits, labels = made(members, pictures, classes, seed, scale)
    weights = np.random.default_rng(seed).uniform(0.1, 1, members)
    for vote in ("soft", "logit", "weighted"):
        found = diversity(logits, labels, weights, vote)
        assert found.ambiguity_gap >= -1e-9
        assert found.oracle_accuracy >= found.mean_accuracy - 1e-12
        assert -1 - 1e-9 <= found.error_correlation <= 1 + 1e-9
