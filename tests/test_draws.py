import threading

import numpy as np
import pytest

from sevenfold import draws

MANY = np.arange(20_000, dtype=np.uint64)  # far from random on purpose
HASHES = draws.numbers([f"{number:016x}" + "0" * 16 for number in range(50)])


PINNED = [[0.08929714720660553, 0.03552686874715194], [0.6506829025105484, 0.1871269534262725]]


def distance(values: np.ndarray) -> float:
    """Return Kolmogorov's and Smirnov's distance from the uniform distribution."""
    steps = np.arange(len(values)) / len(values)
    ordered = np.sort(values)
    return float(max((ordered - steps).max(), (steps + 1 / len(values) - ordered).max()))


def test_draws_are_a_pure_function():
    first = draws.uniform("3/augment", MANY, 5, 4)
    again = draws.uniform("3/augment", MANY.copy(), 5, 4)
    np.testing.assert_array_equal(first, again)
    assert first.shape == (20_000, 4)
    assert first.dtype == np.float64
    assert first.min() >= 0
    assert first.max() < 1


def test_draws_never_change_between_versions():
    # Stored views and resumed runs rely on these very numbers.
    found = draws.uniform("7/augment", np.array([1, 2**63 + 5], np.uint64), 3, 2)
    np.testing.assert_array_equal(found, PINNED)


def test_draws_do_not_depend_on_order_or_company():
    whole = draws.uniform("0/view", MANY, 0, 3)
    mixed = np.random.default_rng(0).permutation(len(MANY))
    np.testing.assert_array_equal(draws.uniform("0/view", MANY[mixed], 0, 3), whole[mixed])
    np.testing.assert_array_equal(draws.uniform("0/view", MANY[7:8], 0, 3), whole[7:8])


def test_asking_for_more_numbers_keeps_the_first_ones():
    np.testing.assert_array_equal(
        draws.uniform("0/a", MANY, 1, 12)[:, :5], draws.uniform("0/a", MANY, 1, 5)
    )


def test_draws_do_not_depend_on_threads():
    found: list[np.ndarray] = []
    workers = [
        threading.Thread(target=lambda: found.append(draws.uniform("1/x", MANY, 2, 8)))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4
    assert all((one == found[0]).all() for one in found)


@pytest.mark.parametrize("key", ["", "0/augment", "1/augment", "0/order", "9/mixup"])
@pytest.mark.parametrize("index", [0, 1, 1000])
def test_draws_are_uniform(key, index):
    # 1.95 / sqrt(n) is passed by chance once in a thousand.
    found = draws.uniform(key, MANY, index, 3)
    for column in found.T:
        assert distance(column) < 1.95 / np.sqrt(len(MANY))


def test_the_views_of_one_picture_are_uniform():
    one = np.array([12345], np.uint64)
    values = np.array([draws.uniform("0/augment", one, view, 1)[0, 0] for view in range(4000)])
    assert distance(values) < 1.95 / np.sqrt(len(values))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("0/a", 0, 0), ("0/a", 0, 1)),  # two numbers of one view
        (("0/a", 0, 0), ("0/a", 1, 0)),  # two views
        (("0/a", 0, 0), ("1/a", 0, 0)),  # two seeds
        (("0/a", 0, 0), ("0/b", 0, 0)),  # two purposes
        (("1/a", 1, 0), ("11/a", 0, 0)),
    ],
)
def test_draws_for_other_keys_are_independent(one, other):
    x, y = (draws.uniform(key, MANY, index, 2)[:, at] for key, index, at in (one, other))
    table, _, _ = np.histogram2d(x, y, bins=10, range=[[0, 1], [0, 1]])
    expected = len(MANY) / 100
    chi_square = ((table - expected) ** 2 / expected).sum()
    assert chi_square < 148.2  # 99 degrees of freedom, once in a thousand
    assert abs(np.corrcoef(x, y)[0, 1]) < 4 / np.sqrt(len(MANY))


def test_neighbouring_pictures_are_independent():
    values = draws.uniform("0/a", MANY, 0, 1)[:, 0]
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 4 / np.sqrt(len(MANY))


def test_the_order_is_a_permutation_that_changes_each_epoch():
    first, second = (draws.order("0/order", HASHES, epoch) for epoch in (0, 1))
    assert sorted(first) == list(range(len(HASHES)))
    assert (first != second).any()
    places = [int(draws.order("0/order", HASHES[:5], epoch)[0]) for epoch in range(2000)]
    assert np.abs(np.bincount(places) - 400).max() < 75  # four standard deviations


def test_the_order_follows_content_and_breaks_ties_by_position():
    mixed = np.random.default_rng(1).permutation(len(HASHES))
    np.testing.assert_array_equal(
        HASHES[draws.order("0/order", HASHES, 3)],
        HASHES[mixed][draws.order("0/order", HASHES[mixed], 3)],
    )
    same = np.full(6, 77, np.uint64)
    assert draws.order("0/order", same, 0).tolist() == [0, 1, 2, 3, 4, 5]


def test_numbers_take_the_first_sixteen_hex_digits():
    assert draws.numbers(["00000000000000ff" + "a" * 16, "f" * 32]).tolist() == [255, 2**64 - 1]
    assert draws.number("a") != draws.number("b")
    assert 0 <= draws.number("") < 2**64
