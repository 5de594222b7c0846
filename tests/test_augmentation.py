from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest

from sevenfold.practices.augmentation import DRAWS, Augmentation, affine, augment, colour, viewer

OFF = Augmentation.off
HALF = np.full(DRAWS, 0.5)
ALL = Augmentation(
    flip=0.5,
    flip_vertical=0.5,
    quarter_turns=True,
    rotation_degrees=20.0,
    crop=0.4,
    stretch=1.5,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    blur=0.5,
)


def noise(side: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def smooth(side: int) -> np.ndarray:
    """Draw the same waves at any side."""
    rows, columns = (np.mgrid[:side, :side] + 0.5) / side
    waves = [
        np.sin(2 * np.pi * (1.5 * rows + 0.5 * columns)),
        np.cos(2 * np.pi * (columns - rows)),
        np.sin(2 * np.pi * (2 * columns + 0.3)),
    ]
    return np.stack([(128 + 90 * wave) for wave in waves], axis=2).astype(np.uint8)


def drawn(**places: float) -> np.ndarray:
    """Return draws of one half, but for those named `d0` to `d11`."""
    values = HALF.copy()
    for name, value in places.items():
        values[int(name[1:])] = value
    return values


def test_off_is_the_identity_to_the_bit():
    draws = np.random.default_rng(0)
    for seed in range(20):
        found = augment(noise(seed=seed), OFF, draws.random(DRAWS), 32)
        np.testing.assert_array_equal(found, noise(seed=seed))


def test_off_at_another_side_only_resizes():
    found = augment(smooth(74), OFF, np.zeros(DRAWS), 64)
    assert np.abs(found.astype(int) - smooth(64)).max() <= 4


@pytest.mark.parametrize(
    ("settings", "draws", "expected"),
    [
        ({"flip": 1.0}, HALF, lambda p: p[:, ::-1]),
        ({"flip_vertical": 1.0}, HALF, lambda p: p[::-1]),
        ({"flip": 1.0, "flip_vertical": 1.0}, HALF, lambda p: p[::-1, ::-1]),
        ({"quarter_turns": True}, drawn(d7=0.0), lambda p: p),
        ({"quarter_turns": True}, drawn(d7=0.26), lambda p: np.rot90(p, 1)),
        ({"quarter_turns": True}, drawn(d7=0.5), lambda p: np.rot90(p, 2)),
        ({"quarter_turns": True}, drawn(d7=0.99), lambda p: np.rot90(p, 3)),
        ({"rotation_degrees": 90.0}, drawn(d4=1.0), lambda p: np.rot90(p, 1)),
        ({"rotation_degrees": 90.0}, drawn(d4=0.0), lambda p: np.rot90(p, 3)),
    ],
)
def test_flips_and_turns_move_pixels_and_change_none(settings, draws, expected):
    found = augment(noise(), replace(OFF, **settings), draws, 32)
    np.testing.assert_array_equal(found, expected(noise()))


@pytest.mark.parametrize(("flip", "draw", "mirrored"), [(0.3, 0.29, True), (0.3, 0.31, False)])
def test_a_flip_happens_as_often_as_it_says(flip, draw, mirrored):
    found = augment(noise(), replace(OFF, flip=flip), drawn(d5=draw), 32)
    assert bool((found == noise()[:, ::-1]).all()) == mirrored


@pytest.mark.parametrize(("x", "y"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_crop_shows_the_part_that_was_drawn(x, y):
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[32 * y : 32 * y + 32, 32 * x : 32 * x + 32] = 200
    view = augment(picture, replace(OFF, crop=0.25), drawn(d0=0.0, d2=x, d3=y), 64)
    assert (view[2:-2, 2:-2] == 200).all()


def test_a_crop_keeps_its_share_of_the_area():
    for share, draw, expected in ((0.25, 0.0, 0.25), (0.25, 1.0, 1.0), (0.5, 0.5, 0.75)):
        matrix = affine(replace(OFF, crop=share), drawn(d0=draw), 64, 64)
        assert abs(np.linalg.det(matrix[:, :2])) == pytest.approx(expected)


def test_a_crop_stays_within_the_picture():
    settings = replace(OFF, crop=0.2, stretch=2.0, flip=0.5, quarter_turns=False)
    draws = np.random.default_rng(3)
    corners = np.array([[-0.5, -0.5, 1], [31.5, -0.5, 1], [-0.5, 31.5, 1], [31.5, 31.5, 1]])
    for _ in range(200):
        seen = affine(settings, draws.random(DRAWS), 37, 32) @ corners.T
        assert seen.min() >= -0.5 - 1e-9
        assert seen.max() <= 36.5 + 1e-9


def test_stretch_changes_the_aspect_ratio_alone():
    matrix = affine(replace(OFF, crop=0.25, stretch=2.0), drawn(d0=0.0, d1=1.0), 64, 64)
    width, height = matrix[0, 0], matrix[1, 1]
    assert width / height == pytest.approx(2.0)
    assert width * height == pytest.approx(0.25)


def test_the_affine_map_composes_its_parts():
    draws = np.random.default_rng(5)
    for _ in range(50):
        d = draws.random(DRAWS)
        source, side = 74, 64
        area = ALL.crop + (1 - ALL.crop) * d[0]
        ratio = ALL.stretch ** (2 * d[1] - 1)
        width, height = min(1, np.sqrt(area * ratio)), min(1, np.sqrt(area / ratio))
        angle = np.deg2rad(ALL.rotation_degrees) * (2 * d[4] - 1) + np.pi / 2 * int(4 * d[7])
        turn = np.array(
            [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
        )
        mirror = np.diag([1 - 2.0 * (d[5] < ALL.flip), 1 - 2.0 * (d[6] < ALL.flip_vertical), 1])
        size = np.diag([width * source / side, height * source / side, 1])
        away = np.eye(3)
        away[:2, 2] = -(side - 1) / 2
        back = np.eye(3)
        back[:2, 2] = (
            np.array([0.5 + (1 - width) * (d[2] - 0.5), 0.5 + (1 - height) * (d[3] - 0.5)]) * source
            - 0.5
        )
        expected = (back @ size @ turn @ mirror @ away)[:2]
        np.testing.assert_allclose(affine(ALL, d, source, side), expected, atol=1e-9)


@pytest.mark.parametrize(("draw", "factor"), [(0.0, 0.7), (0.5, 1.0), (1.0, 1.3)])
def test_brightness_multiplies(draw, factor):
    picture = (noise() // 2).astype(np.uint8)
    found = augment(picture, replace(OFF, brightness=0.3), drawn(d8=draw), 32)
    assert np.abs(found - np.minimum(255, picture * factor)).max() <= 0.5 + 1e-9


def test_no_contrast_leaves_the_mean_grey():
    found = augment(noise(), replace(OFF, contrast=1.0), drawn(d9=0.0), 32)
    assert found.min() == found.max()
    assert abs(int(found[0, 0, 0]) - noise().mean()) < 8


def test_contrast_moves_values_away_from_the_mean():
    picture = np.clip(noise() // 4 + 96, 0, 255).astype(np.uint8)
    spread = [
        augment(picture, replace(OFF, contrast=0.5), drawn(d9=draw), 32).std()
        for draw in (0.0, 0.5, 1.0)
    ]
    assert spread == pytest.approx(
        [0.5 * picture.std(), picture.std(), 1.5 * picture.std()], rel=0.05
    )


def test_no_saturation_leaves_each_pixels_grey():
    found = augment(noise(), replace(OFF, saturation=1.0), drawn(d10=0.0), 32).astype(int)
    assert np.ptp(found, axis=2).max() == 0
    luma = noise() @ np.array([0.299, 0.587, 0.114])
    assert np.abs(found[..., 0] - luma).max() <= 1  # OpenCV computes colours in fixed point


def test_colour_changes_are_one_matrix():
    found = colour(ALL, np.array([0.9, 0.2, 0.7]), grey=100.0)
    assert found.shape == (3, 4)
    grey = np.array([100.0, 100.0, 100.0, 1.0])
    # A picture of its own mean grey only gets brighter.
    np.testing.assert_allclose(found @ grey, 100.0 * (1 + 0.3 * 0.8), atol=1e-9)


def test_blur_smooths_when_it_is_drawn():
    settings = replace(OFF, blur=0.5)
    np.testing.assert_array_equal(augment(noise(160), settings, drawn(d11=0.5), 160), noise(160))
    weak, strong = (
        augment(noise(160), settings, drawn(d11=draw), 160).std() for draw in (0.1, 0.49)
    )
    assert strong < weak < noise(160).std()
    expected = cv2.GaussianBlur(noise(160), (0, 0), 0.1 + 1.4 * 0.98)
    found = augment(noise(160), settings, drawn(d11=0.49), 160)
    # How far the kernel reaches is a matter of speed.
    assert np.abs(found.astype(int) - expected.astype(int)).mean() < 3


def test_a_blur_reaches_as_far_at_every_size():
    settings = replace(OFF, blur=1.0)
    fine = noise(160)
    coarse = fine.repeat(2, axis=0).repeat(2, axis=1)
    for draw in (0.5, 0.99):
        small = augment(fine, settings, drawn(d11=draw), 160).astype(float)
        large = augment(coarse, settings, drawn(d11=draw), 320)
        shrunk = cv2.resize(large, (160, 160), interpolation=cv2.INTER_AREA)
        assert shrunk.std() == pytest.approx(small.std(), rel=0.15)


def test_the_same_draws_mean_the_same_at_every_size():
    draws = np.random.default_rng(7)
    for _ in range(30):
        numbers = draws.random(DRAWS)
        small = augment(smooth(64), ALL, numbers, 64).astype(float)
        large = augment(smooth(128), ALL, numbers, 128)
        shrunk = cv2.resize(large, (64, 64), interpolation=cv2.INTER_AREA).astype(float)
        assert np.abs(small - shrunk).mean() < 2.5, numbers


def test_a_margin_in_the_store_changes_only_the_sharpness():
    draws = np.random.default_rng(8)
    for _ in range(10):
        numbers = draws.random(DRAWS)
        plain = augment(smooth(64), ALL, numbers, 64).astype(float)
        margin = augment(smooth(74), ALL, numbers, 64).astype(float)
        assert np.abs(plain - margin).mean() < 3, numbers


def test_the_same_arguments_give_the_same_bytes():
    numbers = np.random.default_rng(2).random((40, DRAWS))
    once = [augment(noise(37), ALL, one, 32).tobytes() for one in numbers]
    with ThreadPoolExecutor(4) as executor:
        threaded = executor.map(lambda one: augment(noise(37), ALL, one, 32).tobytes(), numbers)
        assert list(threaded) == once
    assert len(set(once)) == 40


@pytest.mark.parametrize("place", range(DRAWS))
def test_each_of_the_twelve_draws_matters(place):
    start = np.random.default_rng(4).random(DRAWS) * 0.2 + 0.1
    views = set()
    for value in (0.05, 0.6, 0.95):
        changed = start.copy()
        changed[place] = value
        views.add(augment(noise(37), replace(ALL, blur=1.0), changed, 32).tobytes())
    assert len(views) >= 2


def test_the_picture_itself_is_not_changed():
    picture = noise(37)
    augment(picture, ALL, HALF * 0.5, 32)
    np.testing.assert_array_equal(picture, noise(37))


def test_a_viewer_is_named_by_all_that_its_views_depend_on():
    keys = {
        viewer(settings, side, salt).key
        for settings in (ALL, OFF, replace(ALL, blur=0.1))
        for side in (32, 48)
        for salt in ("", "1")
    }
    assert len(keys) == 12


def test_a_viewer_is_a_function_of_picture_and_view():
    make = viewer(ALL, 32, "").make
    first = make(noise(37), 5, 0)
    np.testing.assert_array_equal(viewer(ALL, 32, "").make(noise(37), 5, 0), first)
    for other in (
        make(noise(37), 6, 0),
        make(noise(37), 5, 1),
        viewer(ALL, 32, "3").make(noise(37), 5, 0),
    ):
        assert (other != first).any()
