from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sevenfold import guards, unknown
from sevenfold.unknown import Detector


def clusters(pictures: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, pictures)
    vectors = np.abs(random.normal(0, 0.2, (pictures, 12)))
    vectors[np.arange(pictures), labels] += 2
    return vectors, labels


def detector(score: str = "centroid", threshold: float = 0.5) -> Detector:
    vectors, labels = clusters(400)
    return Detector(
        score, threshold, unknown.centroids(vectors, labels, 4), np.eye(4, 12), np.ones(4)
    )


def test_pictures_of_another_kind_lie_farther():
    near, _ = clusters(200, 1)
    far = np.abs(np.random.default_rng(2).normal(0, 0.5, (200, 12)))
    for score in unknown.SCORES:
        held = detector(score)
        found = unknown.area(unknown.distances(held, near), unknown.distances(held, far))
        assert found > 0.95


def test_the_distances_are_those_of_the_formulas():
    held, (vectors, _) = detector(), clusters(5, 3)
    found = unknown.distances(held, vectors)
    for vector, one in zip(vectors, found, strict=True):
        lengths = np.linalg.norm(held.centroids, axis=1) * np.linalg.norm(vector)
        assert one == pytest.approx(1 - (held.centroids @ vector / lengths).max())
    energy = unknown.distances(detector("energy"), vectors)
    assert energy == pytest.approx(-np.log(np.exp(vectors[:, :4] + 1).sum(axis=1)))
    assert np.isnan(unknown.distances(unknown.EMPTY, vectors)).all()


def test_a_class_without_pictures_is_near_to_nothing():
    rows = unknown.centroids(np.ones((2, 3)), np.array([0, 0]), 2)
    held = Detector("centroid", 0.5, rows, np.zeros((0, 0)), np.zeros(0))
    assert unknown.distances(held, np.array([[1.0, 1, 1], [0, 0, 0]])).tolist() == [
        pytest.approx(0.0, abs=1e-12),
        1.0,
    ]


def test_the_area_is_that_of_the_roc_curve():
    random = np.random.default_rng(0)
    near, far = random.integers(0, 9, 80).astype(float), random.integers(3, 12, 50).astype(float)
    truth = np.repeat([0, 1], [80, 50])
    expected = roc_auc_score(truth, np.concatenate([near, far]))
    assert unknown.area(near, far) == pytest.approx(expected)


def test_new_pictures_are_marked_at_the_stated_rate():
    random = np.random.default_rng(0)
    rates = []
    for _ in range(300):
        limit = unknown.threshold(random.exponential(size=150))
        rates.append((random.exponential(size=500) > limit).mean())
    assert np.mean(rates) == pytest.approx(unknown.REJECTED, abs=0.01)
    assert unknown.threshold(np.array([3.0, 1.0])) == 3.0


def test_the_distance_with_the_better_worst_area_is_taken():
    near, labels = clusters(200, 4)
    # Large numbers in unknown directions: the logits, and so the energy, see nothing of them.
    far = near.copy()
    far[:, 6:] += 3
    areas = unknown.judged(detector("none"), near, labels, {"shuffled": far})
    assert areas["centroid"]["shuffled"] > 0.95 > areas["energy"]["shuffled"]
    assert unknown.best(areas) == "centroid"
    assert set(areas["energy"]) == {"left_out", "shuffled"}
    assert areas["centroid"]["left_out"] > 0.9
    assert unknown.best({}) == "none"


@pytest.mark.parametrize("score", unknown.SCORES)
def test_a_class_is_left_out_as_if_it_had_never_been(score):
    near, labels = clusters(120, 6)
    labels[labels == 3] = 2
    held = replace(detector(score), bias=np.array([0.0, 1.0, -0.5, 2.0]))
    each = []
    for label in range(3):
        kept = np.arange(4) != label
        without = Detector(score, 0.0, held.centroids[kept], held.weight[kept], held.bias[kept])
        far = unknown.distances(without, near)
        each.append(roc_auc_score(labels == label, far))
    found = unknown.judged(held, near, labels, {})[score]["left_out"]
    assert found == pytest.approx(np.mean(each), abs=1e-9)


def test_without_a_linear_head_there_is_no_energy():
    near, labels = clusters(60, 5)
    held = Detector("none", 0.0, detector().centroids, np.zeros((0, 0)), np.zeros(0))
    assert set(unknown.judged(held, near, labels, {})) == {"centroid"}


@pytest.mark.parametrize("shape", [(37, 53), (8, 9), (3, 200), (1, 1)])
def test_scrambled_pictures_keep_their_numbers_but_not_their_places(shape):
    pixels = np.arange(3 * np.prod(shape)).reshape(*shape, 3).astype(np.uint8)
    order = np.random.default_rng(0).permutation(16)
    shuffled, shrunk = unknown.scrambled(pixels, order)
    assert shrunk.shape == (8, 8, 3)
    if min(shape) < 4:
        assert shuffled is pixels
        return
    height, width = (side // 4 * 4 for side in shape)
    assert shuffled.shape == (height, width, 3)
    assert sorted(shuffled.ravel()) == sorted(pixels[:height, :width].ravel())
    assert (shuffled != pixels[:height, :width]).any()
    first = pixels[:height, :width][
        order[0] // 4 * (height // 4) : (order[0] // 4 + 1) * (height // 4),
        order[0] % 4 * (width // 4) : (order[0] % 4 + 1) * (width // 4),
    ]
    assert (shuffled[: height // 4, : width // 4] == first).all()


def test_pooling_knows_maps_tokens_and_vectors():
    assert unknown.pooled(np.ones((5, 2, 3))).shape == (5,)
    assert unknown.pooled(np.arange(6.0).reshape(2, 3)).tolist() == [1.5, 2.5, 3.5]
    assert unknown.pooled(np.ones(4)).shape == (4,)


ROWS = {"centroids": np.ones((2, 3), np.float32)}
CARD = {"schema": unknown.SCHEMA, "score": "centroid", "threshold": 0.2}


def test_a_detector_is_read_from_card_and_rows():
    assert unknown.from_card({}, {}, 2).score == "none"
    found = unknown.from_card({"unknown": CARD}, ROWS, 2)
    assert (found.score, found.threshold) == ("centroid", 0.2)
    assert unknown.from_card({}, ROWS, 2).score == "none"


@pytest.mark.parametrize(
    ("card", "rows", "classes"),
    [
        (CARD | {"schema": "sevenfold.unknown/2"}, ROWS, 2),
        (CARD | {"score": "energy"}, ROWS, 2),
        (CARD | {"score": "magic"}, ROWS, 2),
        (CARD | {"threshold": "0.2"}, ROWS, 2),
        (CARD, {}, 2),
        (CARD, ROWS, 3),
        (CARD, {"centroids": np.ones(2, np.float32)}, 2),
        (CARD, ROWS | {"head.weight": np.ones((2, 3), np.float32)}, 2),
        ([], ROWS, 2),
    ],
)
def test_a_damaged_detector_is_refused(card, rows, classes):
    with pytest.raises(ValueError, match=r"\w"):
        unknown.from_card({"unknown": card}, rows, classes)


def test_a_picture_is_no_part_of_the_mean_that_it_is_held_against():
    held = Detector("centroid", 0.0, np.zeros((0, 0)), np.zeros((0, 0)), np.zeros(0))
    far = guards._left_one_out(held, np.eye(4), np.array([0, 0, 1, 1]), 2)
    assert far == pytest.approx([1.0] * 4)  # 0.29 with the picture itself
