from dataclasses import replace

import numpy as np
import pytest

from photos import write
from sevenfold import data, train
from sevenfold.errors import DataError
from sevenfold.recipe import Recipe
from sevenfold.train.bench import refuse_folds
from sevenfold.train.member import _telling


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("photos"), {"blue": 40, "green": 20, "red": 20})
    return data.split(data.read(str(folder)))


def test_the_objective_follows_the_imbalance(split):
    assert train.settle(Recipe(), split).objective == "balanced_accuracy"
    even = replace(split, train=_balanced(split))
    assert train.settle(Recipe(), even).objective == "accuracy"
    assert train.settle(Recipe(objective="accuracy"), split).objective == "accuracy"


def _balanced(split):
    labels = split.dataset.labels[split.train]
    least = np.bincount(labels).min()
    return np.sort(np.concatenate([split.train[labels == k][:least] for k in range(3)]))


def test_small_data_gets_small_batches_and_many_epochs(split):
    settled = train.settle(Recipe(), split)
    assert len(split.val) == 0
    assert settled.batch == 32
    assert settled.epochs == 60
    assert settled.views == 16


def test_effort_buys_epochs_and_views(split):
    many = replace(split, train=np.resize(split.train, 3000), val=split.test)
    quick, twice = (train.settle(Recipe(effort=effort), many) for effort in (1.0, 2.0))
    assert (quick.epochs, quick.views) == (5, 4)
    assert (twice.epochs, twice.views) == (9, 8)
    assert train.settle(Recipe(epochs=3, effort=2.0), many).epochs == 3


def test_what_is_never_changed_is_looked_at_once(split):
    bare = Recipe().without("augmentation")
    assert train.settle(bare, split).views == 1
    assert train.settle(replace(bare, views=3), split).views == 3


def test_what_is_given_is_kept(split):
    asked = Recipe(objective="accuracy", epochs=3, batch=8, views=2)
    assert train.settle(asked, split) == asked


def test_many_pictures_get_few_epochs_and_as_many_views_at_most(split):
    many = replace(split, train=np.resize(split.train, 20_000), val=split.test)
    settled = train.settle(Recipe(), many)
    assert settled.epochs == 4
    assert settled.views == 4
    assert settled.batch == 64


def _listed(rows):
    """Make a data set of (label, group) that reads no picture."""
    photos = [data.Photo(f"{at}.png", label, "", group) for at, (label, group) in enumerate(rows)]
    hashes = [f"{at:032x}" for at in range(len(rows))]
    classes = tuple(sorted({label for label, _ in rows}))
    labels = np.array([classes.index(label) for label, _ in rows])
    groups = data.merged_groups(photos, hashes)
    return data.Dataset(
        "made up", tuple(photos), tuple(hashes), labels, groups, classes, (), None,
        np.ones((len(rows), 2), np.int64),
    )  # fmt: skip


def test_a_class_that_one_fold_would_take_whole_is_refused_before_any_work():
    rows = [("a", "")] * 60 + [("b", "one place")] * 10
    dataset = _listed(rows)
    whole = data.Split(dataset, np.arange(70), np.zeros(0, int), np.zeros(0, int))
    with pytest.raises(DataError, match="class `b` go together"):
        refuse_folds(whole, whole.train)
    refuse_folds(whole, whole.train[:60])
    refuse_folds(replace(whole, train=np.arange(60), val=np.arange(60, 70)), np.arange(60))


def test_two_groups_of_a_class_are_left_to_small_data():
    rows = [("a", "")] * 60
    rows += [("b", "first")] * 17 + [("b", "second")] * 2 + [("b", "third")]
    found = data.split(_listed(rows))
    left = {found.dataset.groups[at] for at in found.train if found.dataset.labels[at]}
    assert len(left) == 2
    refuse_folds(found, found.train)


def test_a_rare_class_makes_the_mean_of_recalls_unsure():
    labels = np.repeat([0, 1], [150, 8])
    assert _telling(labels, "accuracy") == 158
    share = 0.7
    error = (share * (1 - share) / _telling(labels, "balanced_accuracy")) ** 0.5
    assert error == pytest.approx((share * (1 - share) * (1 / 150 + 1 / 8)) ** 0.5 / 2)
