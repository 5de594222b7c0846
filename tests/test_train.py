from dataclasses import replace

import numpy as np
import pytest

from photos import write
from sevenfold import data, train
from sevenfold.recipe import Recipe


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
