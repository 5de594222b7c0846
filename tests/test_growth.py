from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from photos import write
from sevenfold import data
from sevenfold.errors import UsageError
from sevenfold.practices.growth import Growth, check, given


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("photos"), {"blue": 60, "green": 30, "red": 30})
    return data.split(data.read(str(folder)))


def counts(split, pictures):
    return np.bincount(split.dataset.labels[pictures], minlength=3)


def test_a_share_is_taken_of_each_class(split):
    whole = counts(split, split.train)
    half = given(split, Growth(0.5), seed=0)
    np.testing.assert_allclose(counts(split, half), whole / 2, atol=1)
    assert set(half) <= set(split.train)
    assert (np.diff(half) > 0).all()


def test_a_smaller_share_is_part_of_a_larger_one(split):
    shares = [set(given(split, Growth(share), seed=3)) for share in (0.1, 0.3, 0.6, 1.0)]
    assert all(small < large for small, large in pairwise(shares))


def test_a_share_needs_validation_pictures(split):
    assert not len(split.val)
    check(Growth.off, split)
    with pytest.raises(UsageError, match=r"growth\.share = 0\.5 needs validation"):
        check(Growth(0.5), split)
    check(Growth(0.5), replace(split, val=split.train[:2]))


def test_every_class_keeps_a_picture(split):
    assert counts(split, given(split, Growth(0.001), seed=0)).tolist() == [1, 1, 1]


def test_another_seed_takes_others_and_the_same_the_same(split):
    first = given(split, Growth(0.5), seed=0)
    np.testing.assert_array_equal(first, given(split, Growth(0.5), seed=0))
    assert set(first) != set(given(split, Growth(0.5), seed=1))


def test_groups_stay_whole(split):
    groups = tuple(str(at // 4) for at in range(len(split.dataset)))
    bursts = replace(split, dataset=replace(split.dataset, groups=groups))
    kept = set(given(bursts, Growth(0.5), seed=0))
    for group in set(groups):
        members = {at for at in split.train.tolist() if groups[at] == group}
        assert members <= kept or not members & kept


def test_no_class_is_lost_among_groups_of_others(split):
    labels, groups = split.dataset.labels.copy(), list(split.dataset.groups)
    # Every red picture shares a photo with two blue ones.
    reds, blues = (np.flatnonzero(labels == label).tolist() for label in (2, 0))
    for at, red in enumerate(reds):
        for one in (red, *blues[2 * at : 2 * at + 2]):
            groups[one] = f"photo {at}"
    mixed = replace(split, dataset=replace(split.dataset, groups=tuple(groups)))
    for seed in range(40):
        shares = [set(given(mixed, Growth(share), seed)) for share in (0.02, 0.1, 0.3, 0.7)]
        assert all((counts(mixed, sorted(some)) > 0).all() for some in shares)
        assert all(small <= large for small, large in pairwise(shares))
