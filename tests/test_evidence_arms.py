"""The arms of a study differ by one practice each, and folds are closed, whole and stratified."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from evidence_study import outcomes, study
from photos import write
from sevenfold import data
from sevenfold.errors import DataError, UsageError
from sevenfold.practices import pruning
from sevenfold.practices.augmentation import Augmentation, viewer
from sevenfold.practices.imbalance import Imbalance
from sevenfold.practices.optimization import Optimization
from sevenfold.practices.transfer import Transfer
from sevenfold.recipe import PRACTICES, Recipe
from sevenfold.studies.evidence import folds, planning, trials
from sevenfold.studies.evidence.arms import CUT, MEMBERS, Arm, Plan, Training, idle, planned
from sevenfold.studies.evidence.course import Asked
from sevenfold.studies.evidence.effects import weigh
from sevenfold.studies.evidence.outcomes import BASE, DIRECTIONS, REFERENCE

SETTLED = Recipe(objective="balanced_accuracy", side=64, epochs=4, views=4)
UNEVEN = np.array([90, 20, 10])


def plan(recipe: Recipe = SETTLED, *practices: str) -> Plan:
    return planned(recipe, UNEVEN, practices)


def named(found: Plan) -> Mapping[str, Arm]:
    return {arm.name: arm for arm in found.arms}


def changed(one: Recipe, other: Recipe) -> set[str]:
    before, after = asdict(one), asdict(other)
    return {name for name in before if before[name] != after[name]}


def test_all_seven_practices_are_measured_in_both_directions() -> None:
    found = plan()
    deciding = {(one.practice, one.direction) for one in found.contrasts if one.deciding}
    assert deciding == {(name, direction) for name in PRACTICES for direction in DIRECTIONS}
    assert len([one for one in found.contrasts if one.deciding]) == 14
    assert found.not_in_use == {}
    arms = named(found)
    assert len(arms) == len(found.arms)
    assert all({one.with_arm, one.without_arm} <= set(arms) for one in found.contrasts)
    assert all(one.off_means for one in found.contrasts)


@pytest.mark.parametrize(
    ("practice", "settings"),
    [
        ("growth", {"epochs"}),
        ("optimization", {"optimization"}),
        ("imbalance", {"imbalance"}),
        ("transfer", {"transfer"}),
        ("augmentation", {"augmentation", "views"}),
        ("ensembling", set()),
        ("pruning", set()),
    ],
)
def test_compared_arms_differ_by_their_practice_alone(practice: str, settings: set[str]) -> None:
    found = plan()
    arms = named(found)
    for one in found.contrasts:
        if one.practice != practice or not one.deciding:
            continue
        with_arm, without = arms[one.with_arm], arms[one.without_arm]
        first, second = with_arm.trainings[0], without.trainings[0]
        assert changed(first.recipe, second.recipe) == settings
        assert (first.share != second.share) == (practice == "growth")
        assert (with_arm.part != without.part) == (practice == "pruning")
        assert len(with_arm.trainings) == (MEMBERS if practice == "ensembling" else 1)
        assert len(without.trainings) == 1


def test_off_is_what_the_tables_head_says() -> None:
    arms = named(plan())

    def recipe(name: str) -> Recipe:
        return arms[name].trainings[0].recipe

    assert recipe("all-but/optimization").optimization == Optimization.off
    assert recipe("all-but/imbalance").imbalance == Imbalance.off
    assert recipe("all-but/augmentation").augmentation == Augmentation.off
    assert recipe("all-but/transfer").transfer.trainable_blocks == 0
    assert recipe("all-but/transfer/random").transfer.weights == "random"
    less = arms["all-but/growth"].trainings[0]
    assert less.share == 0.5
    # As many steps on half of the pictures.
    assert less.recipe.epochs * less.share == SETTLED.epochs
    base = recipe(BASE)
    assert base.transfer == replace(Transfer(), trainable_blocks=0)
    assert base.optimization == Optimization.off
    assert base.imbalance == Imbalance.off
    assert base.augmentation == Augmentation.off
    assert arms[BASE].trainings[0].share == 0.5


def test_a_method_that_needs_views_draws_often_where_there_are_none() -> None:
    arms = named(plan(replace(SETTLED, imbalance=Imbalance("augmentation"))))
    methods = {name: arm.trainings[0].recipe.imbalance.method for name, arm in arms.items()}
    assert methods[REFERENCE] == "augmentation"
    assert methods["all-but/augmentation"] == methods["base+/imbalance"] == "oversampling"


def test_random_start_is_a_second_reference_without_a_verdict() -> None:
    transfer = [one for one in plan().contrasts if one.practice == "transfer"]
    assert [one.deciding for one in transfer] == [True, True, False]
    assert transfer[-1].without_arm == "all-but/transfer/random"
    assert "random start" in transfer[-1].off_means


def test_a_head_alone_is_its_own_reference() -> None:
    probe = replace(SETTLED, transfer=Transfer(trainable_blocks=0))
    assert "the head alone" in plan(probe).not_in_use["transfer"]
    assert not [one for one in plan(probe).contrasts if one.practice == "transfer"]


def test_a_random_start_shows_no_class_more_views_since_it_stores_none() -> None:
    views = Augmentation(class_views={"cat": 2})
    arms = named(plan(replace(SETTLED, augmentation=views)))
    probe, start = (arms[name].trainings[0].recipe for name in
                    ("all-but/transfer", "all-but/transfer/random"))  # fmt: skip
    assert probe.augmentation.class_views == {"cat": 2}
    assert start.augmentation == replace(probe.augmentation, class_views={})


def test_whether_a_network_can_be_cut_is_asked_as_it_will_be(monkeypatch) -> None:
    asked = []

    def smallest(network, how):
        asked.append(how.settings)
        return network

    monkeypatch.setattr(pruning, "smallest", smallest)
    small = replace(SETTLED, side=32, transfer=Transfer("resnet20", "random", "", 1000))
    assert "100%" in planning._unprunable(small, 3)
    assert asked == [CUT]
    carving = named(plan())[REFERENCE].trainings[0].carving
    assert carving is not None
    assert carving.settings == CUT


def test_what_is_trained_after_the_cut_has_every_class(split: data.Split) -> None:
    labels = np.where(np.arange(len(split.dataset)) == split.train[0], 2, 0)
    labels[split.train[1:]] = np.arange(len(split.train) - 1) % 2
    rare = replace(split, dataset=replace(split.dataset, labels=labels))
    for seed in range(20):
        some = trials._some(rare, 10, seed)
        assert len(set(some.tolist())) == 10
        assert set(labels[some].tolist()) == {0, 1, 2}
        assert set(some.tolist()) <= set(split.train.tolist())


def test_members_of_a_vote_differ_by_their_number_alone() -> None:
    arms = named(plan())
    for name in ("reference+/ensembling", "base+/ensembling"):
        trainings = arms[name].trainings
        assert [one.number for one in trainings] == list(range(MEMBERS))
        assert {(one.recipe, one.share) for one in trainings} == {
            (trainings[0].recipe, trainings[0].share)
        }
    assert arms["reference+/ensembling"].trainings[0] == arms[REFERENCE].trainings[0]


def test_one_training_gives_the_reference_the_pruned_network_and_its_control() -> None:
    arms = named(plan())
    three = [arms[REFERENCE], arms["reference+/pruning"], arms["reference+/pruning/unpruned"]]
    assert len({str(arm.trainings) for arm in three}) == 1
    assert [arm.part for arm in three] == ["", "pruned", "unpruned"]
    carving = three[0].trainings[0].carving
    assert carving is not None
    assert 0 < carving.left < 1
    assert all(one.carving is None for arm in plan(SETTLED, "growth").arms for one in arm.trainings)


@pytest.mark.parametrize(
    ("practice", "recipe"),
    [
        ("optimization", replace(SETTLED, optimization=Optimization.off)),
        ("imbalance", replace(SETTLED, imbalance=Imbalance.off)),
        ("transfer", replace(SETTLED, transfer=Transfer.off)),
        ("augmentation", replace(SETTLED, augmentation=Augmentation.off)),
    ],
)
def test_what_the_recipe_has_off_is_not_in_use(practice: str, recipe: Recipe) -> None:
    found = plan(recipe)
    assert list(found.not_in_use) == [practice]
    assert all(one.practice != practice for one in found.contrasts)
    with pytest.raises(UsageError, match=f"--practices {practice}: there is nothing to measure"):
        plan(recipe, practice)


def test_even_classes_leave_imbalance_nothing_to_do() -> None:
    assert "imbalance" in idle(SETTLED, np.array([20, 20, 20]))
    assert "imbalance" not in idle(SETTLED, UNEVEN)


def test_an_unknown_practice_is_named() -> None:
    with pytest.raises(UsageError, match="'magic' is no practice"):
        plan(SETTLED, "magic")


def test_a_training_survives_json() -> None:
    import json

    for arm in plan().arms:
        for one in arm.trainings:
            assert trials.training_of(json.loads(json.dumps(trials.told_of(one)))) == one
    strong = replace(SETTLED, augmentation=Augmentation(class_strength={"blue": 2.0}))
    assert trials.training_of(trials.told_of(Training(strong))) == Training(strong)


def test_logits_survive_json_to_the_bit() -> None:
    import json

    values = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    assert np.array_equal(trials.unpacked(json.loads(json.dumps(trials.packed(values)))), values)
    assert not trials.unpacked(trials.packed(np.full((2, 2), np.nan, np.float32))).any()
    with pytest.raises((KeyError, TypeError, ValueError)):
        trials.unpacked({"shape": [9, 9], "float32": "AAAA"})


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> data.Split:
    folder = write(tmp_path_factory.mktemp("photos"), {"blue": 60, "green": 30, "red": 12})
    pairs = data.read(str(folder), group_by=r"(\d\d)\.png")  # each number, whatever its class
    return data.split(pairs)


def test_every_picture_outside_test_is_judged_once(split: data.Split) -> None:
    parted = [folds.folded(split, at, 6) for at in range(6)]
    judged = np.concatenate([one.test for one in parted])
    assert np.array_equal(np.sort(judged), folds.outside_test(split))
    assert not np.intersect1d(judged, split.test).size
    for one in parted:
        roles = [one.train, one.val, one.test]
        assert np.array_equal(np.sort(np.concatenate(roles)), folds.outside_test(split))
        assert len(one.val)


def test_another_seed_draws_other_folds_of_the_same_pictures(split: data.Split) -> None:
    first, again, other = (
        [folds.folded(split, at, 6, seed) for at in range(6)] for seed in (1, 1, 2)
    )
    assert all(map(np.array_equal, [a.test for a in first], [b.test for b in again]))
    assert not any(map(np.array_equal, [a.test for a in first], [b.test for b in other]))
    for parted in (first, other):
        judged = np.concatenate([one.test for one in parted])
        assert np.array_equal(np.sort(judged), folds.outside_test(split))


def test_another_seed_draws_other_views_and_trainings() -> None:
    one, other = (Asked(Recipe(), seed=seed) for seed in (0, 3))
    assert planning.seeded(one) == Recipe()
    views = planning.seeded(other).augmentation
    assert viewer(views, 32, "").key != viewer(Recipe().augmentation, 32, "").key
    plain = replace(Recipe(), augmentation=Augmentation.off)
    assert planning.seeded(Asked(plain, seed=3)) == plain
    seeds = [asked.shared(at) + 6 * 2 for asked in (one, other) for at in range(6)]
    assert len(set(seeds)) == 12


@pytest.mark.parametrize("seed", [0, 5])
def test_groups_are_never_parted(split: data.Split, seed: int) -> None:
    groups = np.array(split.dataset.groups)
    for at in range(6):
        one = folds.folded(split, at, 6, seed)
        roles = [set(groups[some]) for some in (one.train, one.val, one.test)]
        assert not roles[0] & roles[1]
        assert not roles[0] & roles[2]
        assert not roles[1] & roles[2]


def test_every_class_is_trained_on_in_every_fold(split: data.Split) -> None:
    for at in range(6):
        one = folds.folded(split, at, 6)
        assert set(split.dataset.labels[one.train]) == {0, 1, 2}


def test_a_class_in_one_group_cannot_be_judged(split: data.Split) -> None:
    groups = tuple(
        "one" if label == 2 else group
        for label, group in zip(split.dataset.labels, split.dataset.groups, strict=True)
    )
    alike = replace(split, dataset=replace(split.dataset, groups=groups))
    with pytest.raises(DataError, match="all pictures of the class `red` are in fold"):
        [folds.folded(alike, at, 6) for at in range(6)]


def test_too_few_pictures_or_repetitions_are_refused_at_once(split: data.Split) -> None:
    with pytest.raises(UsageError, match="can claim nothing"):
        folds.check_repetitions(5)
    with pytest.raises(UsageError, match="too many"):
        folds.check_repetitions(21)
    for allowed in (6, 20):
        folds.check_repetitions(allowed)
    folds.check(split, 6)
    few = replace(split, train=split.train[:40], val=split.val[:0])
    with pytest.raises(DataError, match="too few for any claim") as found:
        folds.check(few, 6)
    assert "it takes at least 60 pictures" in found.value.problem
    assert "1 point about 35,000" in found.value.cure


def grouped(split: data.Split, count: int) -> data.Split:
    """Return the same pictures, those outside test in so many groups."""
    groups = ["test"] * len(split.dataset)
    for number, at in enumerate(folds.outside_test(split).tolist()):
        groups[at] = f"site {number % count}"
    return replace(split, dataset=replace(split.dataset, groups=tuple(groups)))


@pytest.mark.parametrize("groups", [1, 5, 20, 22])
def test_too_few_groups_are_refused_however_many_pictures_they_hold(
    split: data.Split, groups: int
) -> None:
    with pytest.raises(DataError, match=f"pictures in {groups} groups outside test") as found:
        folds.check(grouped(split, groups), 6)
    assert "at least 60 pictures in 23 groups" in found.value.problem
    assert "of other groups: 2 points need 380 groups or more, 1 point 760" in found.value.cure
    folds.check(grouped(split, 23), 6)


def test_what_is_listed_is_refused_before_it_is_decoded() -> None:
    def listing(pictures: int, groups: int, test: int = 0) -> data.Listing:
        photos = [
            data.Photo(f"{at}.png", "cat", group=f"site {at % groups}" if groups else "")
            for at in range(pictures)
        ]
        photos += [data.Photo(f"test/{at}.png", "cat", "test", f"{at}") for at in range(test)]
        return data.Listing("photos", tuple(photos), data.FolderSource(Path(), "photos"))

    for few in (listing(59, 0), listing(500, 20), listing(59, 0, test=100), listing(500, 20, 40)):
        with pytest.raises(DataError, match=r"photos: at most .* too few for any claim"):
            folds.check_listed(few, 6)
    for enough in (listing(60, 0), listing(60, 23), listing(500, 0, test=2)):
        folds.check_listed(enough, 6)
    with pytest.raises(DataError, match="at least 70 pictures"):
        folds.check_listed(listing(60, 0), 7)


def test_no_interval_is_narrower_than_groups_let_it_be() -> None:
    about = study(600, groups=24)
    trained = dict.fromkeys(about.arms, 100 / folds.shared(6))
    found = weigh(replace(about, trained_on=trained), outcomes(about, {}, churn=0.0))
    deciding = found.finding("growth").deciding("leave_one_out")
    assert deciding is not None
    half = deciding.effects["accuracy"].high
    assert half == pytest.approx(folds.COARSEST * 22.0135 / 24, rel=1e-4)
    assert folds.fewest_groups(6) == 23
    # What four of five studies would claim is never less than what none could.
    assert folds.resolved(10**9, 24) > half
    assert folds.resolved(10**9, 380) == pytest.approx(0.02, rel=0.01)
    assert folds.resolved(500, 20) > 4 * folds.resolved(500, 500)
    assert folds.resolved(folds.needed(0.01), folds.needed(0.01)) == pytest.approx(0.01, rel=0.02)


def test_the_ratio_of_folds_is_that_of_their_pictures(split: data.Split) -> None:
    parted = [folds.folded(split, at, 6) for at in range(6)]
    judged, trained = (
        sum(map(len, (getattr(one, name) for one in parted))) for name in ("test", "train")
    )
    assert judged / trained == pytest.approx(folds.shared(6), rel=0.1)


def test_verdicts_are_adjusted_for_all_practices_in_use_whatever_is_asked() -> None:
    assert planning._family(SETTLED, UNEVEN, "") == 7
    assert planning._family(SETTLED, np.array([20, 20, 20]), "") == 6  # imbalance has nothing to do
    assert planning._family(SETTLED, UNEVEN, "floors of channels leave 90%") == 6
    off = replace(SETTLED, augmentation=Augmentation.off, optimization=Optimization.off)
    assert planning._family(off, UNEVEN, "") == 5


def test_an_arm_of_half_of_the_pictures_is_known_by_their_count(split: data.Split) -> None:
    parted = tuple(folds.folded(split, at, 6) for at in range(6))
    told = planning._trained_on(plan(), parted, Asked(SETTLED))
    whole = np.mean([len(one.train) for one in parted])
    assert told[REFERENCE] == told["all-but/transfer"] == told["base+/growth"] == whole
    assert told[BASE] == told["all-but/growth"] == pytest.approx(whole / 2, rel=0.2)
    assert told["reference+/pruning"] == whole
