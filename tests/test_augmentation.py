import colorsys
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevenfold.errors import UsageError
from sevenfold.practices.augmentation import (
    DRAWS,
    OPERATIONS,
    Augmentation,
    Draw,
    affine,
    augment,
    colour,
    for_class,
    for_classes,
    strengthened,
    viewer,
    without,
)
from sevenfold.recipe import Recipe, apply

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
    translation=0.1,
    hue=0.1,
    noise=0.5,
    erasing=0.5,
)
WARPS = replace(ALL, noise=0.0, erasing=0.0)


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
    """Return draws of one half, but for those named `d0` to `d22`."""
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
        expected[:, 2] += ALL.translation * (2 * d[[Draw.SHIFT_X, Draw.SHIFT_Y]] - 1) * source
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
    found = colour(ALL, np.array([0.9, 0.2, 0.7, 0.8]), grey=100.0)
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
        for side in (32, 128, 320):
            large = augment(smooth(max(side, 64)), ALL, numbers, max(side, 64))
            small = augment(smooth(min(side, 64)), ALL, numbers, min(side, 64)).astype(float)
            shrunk = cv2.resize(large, small.shape[:2], interpolation=cv2.INTER_AREA)
            assert np.abs(small - shrunk).mean() < 3, (side, numbers)


def test_a_margin_in_the_store_changes_only_the_sharpness():
    draws = np.random.default_rng(8)
    for _ in range(10):
        numbers = draws.random(DRAWS)
        plain = augment(smooth(64), WARPS, numbers, 64).astype(float)
        margin = augment(smooth(74), WARPS, numbers, 64).astype(float)
        assert np.abs(plain - margin).mean() < 3, numbers


def test_the_same_arguments_give_the_same_bytes():
    numbers = np.random.default_rng(2).random((40, DRAWS))
    once = [augment(noise(37), ALL, one, 32).tobytes() for one in numbers]
    with ThreadPoolExecutor(4) as executor:
        threaded = executor.map(lambda one: augment(noise(37), ALL, one, 32).tobytes(), numbers)
        assert list(threaded) == once
    assert len(set(once)) == 40


@pytest.mark.parametrize("place", Draw)
def test_each_draw_matters(place):
    start = np.random.default_rng(4).random(DRAWS) * 0.2 + 0.1
    ranges = replace(ALL, blur=1.0, policy="trivial" if place == Draw.POLICY else "ranges")
    views = set()
    for value in (0.05, 0.6, 0.95):
        changed = start.copy()
        changed[place] = value
        views.add(augment(noise(37), ranges, changed, 32).tobytes())
    assert len(views) >= 2


def test_the_first_draws_keep_their_meaning():
    # What is stored under the defaults stays what it was: new draws come last.
    assert [draw.value for draw in Draw][:12] == list(range(12))
    assert [Draw.AREA, Draw.ANGLE, Draw.FLIP, Draw.BRIGHTNESS, Draw.BLUR] == [0, 4, 5, 8, 11]
    numbers = np.random.default_rng(9).random(DRAWS)
    changed = np.concatenate([numbers[:12], 1 - numbers[12:]])
    np.testing.assert_array_equal(
        augment(noise(37), Augmentation(blur=1.0), numbers, 32),
        augment(noise(37), Augmentation(blur=1.0), changed, 32),
    )


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


# Slow and plain: every operation by its definition, in double precision.


def reflected(place: np.ndarray, size: int) -> np.ndarray:
    place = np.abs(place) % (2 * size - 2)
    return np.where(place < size, place, 2 * size - 2 - place)


def warped(pixels: np.ndarray, matrix: np.ndarray, side: int) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side]
    x = matrix[0, 0] * columns + matrix[0, 1] * rows + matrix[0, 2]
    y = matrix[1, 0] * columns + matrix[1, 1] * rows + matrix[1, 2]
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    found = np.zeros((side, side, 3))
    for down in (0, 1):
        for right in (0, 1):
            share = (1 - abs(x - left - right)) * (1 - abs(y - top - down))
            row = reflected(top + down, len(pixels))
            found += share[..., None] * pixels[row, reflected(left + right, len(pixels))]
    return found


def smoothed(view: np.ndarray, sigma: float) -> np.ndarray:
    reach = math.ceil(2 * sigma)
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    for axis in (0, 1):
        places = reflected(np.arange(-reach, view.shape[axis] + reach), view.shape[axis])
        wide = np.take(view, places, axis=axis)
        view = sum(
            weight * np.take(wide, np.arange(view.shape[axis]) + step, axis=axis)
            for step, weight in enumerate(weights)
        )
    return view


def reference(pixels: np.ndarray, ranges: Augmentation, d: np.ndarray, side: int) -> np.ndarray:
    view = np.rint(warped(pixels, affine(ranges, d, len(pixels), side), side))
    mean = (view @ LUMA).mean()
    brightness, contrast, saturation = (
        1 + reach * (2 * draw - 1)
        for reach, draw in zip(
            (ranges.brightness, ranges.contrast, ranges.saturation), d[8:11], strict=True
        )
    )
    grey = (view @ LUMA)[..., None]
    view = grey + saturation * turned(view - grey, ranges.hue * (2 * d[Draw.HUE] - 1))
    view = np.clip(np.rint(brightness * (mean + contrast * (view - mean))), 0, 255)
    if d[Draw.BLUR] < ranges.blur:
        view = smoothed(view, (0.1 + 1.4 * d[Draw.BLUR] / ranges.blur) * side / 160)
    return view


LUMA = np.array([0.299, 0.587, 0.114])
YIQ = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def turned(chroma: np.ndarray, turn: float) -> np.ndarray:
    """Turn colours in the plane of I and Q."""
    _, i, q = np.moveaxis(chroma @ YIQ.T, -1, 0)
    cos, sin = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)
    return np.stack([0 * i, cos * i - sin * q, sin * i + cos * q], -1) @ np.linalg.inv(YIQ).T


REACHES = {
    "flip": 1.0,
    "flip_vertical": 1.0,
    "quarter_turns": True,
    "rotation_degrees": 40.0,
    "crop": 0.3,
    "stretch": 2.0,
    "translation": 0.3,
    "brightness": 0.5,
    "contrast": 0.7,
    "saturation": 1.0,
    "hue": 0.5,
    "blur": 1.0,
}


@pytest.mark.parametrize("source", [96, 110])
@pytest.mark.parametrize("operation", [*REACHES, "all of them"])
def test_each_operation_is_its_definition(operation, source):
    reaches = REACHES if operation == "all of them" else {operation: REACHES[operation]}
    ranges = replace(OFF, **reaches)
    for numbers in np.random.default_rng(11).random((6, DRAWS)):
        expected = reference(smooth(source), ranges, numbers, 96)
        found = augment(smooth(source), ranges, numbers, 96)
        difference = np.abs(found - expected)
        # OpenCV warps in steps of 1/32 pixel and weighs colours in fixed point.
        assert difference.max() <= 5, (operation, numbers)
        assert difference.mean() < 0.6, (operation, numbers)


def test_a_turn_of_the_hue_is_one_of_the_colour_wheel():
    ranges = replace(OFF, hue=0.5)
    picture = np.full((8, 8, 3), (170, 90, 90), np.uint8)
    third = augment(picture, ranges, drawn(d12=0.5 + 1 / 3), 8)[0, 0] / 255
    hues = [colorsys.rgb_to_hsv(*colour)[0] for colour in (picture[0, 0] / 255, third)]
    assert abs(hues[1] - hues[0]) % 1 == pytest.approx(1 / 3, abs=0.08) or abs(
        hues[1] - hues[0]
    ) % 1 == pytest.approx(2 / 3, abs=0.08)
    assert third @ LUMA == pytest.approx(picture[0, 0] @ LUMA / 255, abs=0.01)


def test_hue_and_saturation_leave_grey_as_it_is():
    grey = np.repeat(noise()[..., :1], 3, axis=2)
    numbers = drawn(d10=0.1, d12=0.9)
    found = augment(grey, replace(OFF, hue=0.3, saturation=0.8), numbers, 32)
    assert np.abs(found.astype(int) - grey).max() <= 1


def test_translation_shifts_by_a_share_of_the_side():
    for side in (32, 64, 320):
        picture = smooth(side)
        found = augment(picture, replace(OFF, translation=0.25), drawn(d13=0.0), side)
        shift = side // 4
        np.testing.assert_array_equal(found[:, shift:], picture[:, :-shift])


@pytest.mark.parametrize("side", [64, 96, 160, 320])
def test_noise_has_its_sigma_and_no_bias(side):
    picture = np.full((side, side, 3), 128, np.uint8)
    ranges = replace(OFF, noise=1.0, noise_sigma=0.1)
    found = augment(picture, ranges, drawn(d15=0.999), side).astype(float) - 128
    assert found.std() == pytest.approx(25.5, rel=0.05)
    assert abs(found.mean()) < 1
    weak = augment(picture, ranges, drawn(d15=0.2), side).astype(float) - 128
    assert weak.std() == pytest.approx(5.1, rel=0.1)
    other = augment(picture, ranges, drawn(d15=0.999, d21=0.51), side).astype(float) - 128
    assert abs((found * other).mean()) < 0.05 * 25.5**2
    rare = replace(ranges, noise=0.3)
    np.testing.assert_array_equal(augment(picture, rare, drawn(d15=0.31), side), picture)


@pytest.mark.parametrize("side", [32, 160])
@pytest.mark.parametrize(("draw", "area"), [(0.0, 0.02), (0.999, 0.3)])
def test_erasing_takes_its_share_of_the_area(side, draw, area):
    picture = np.zeros((side, side, 3), np.uint8)
    picture[:, ::2] = (40, 80, 120)
    ranges = replace(OFF, erasing=1.0, erasing_area=0.3)
    for d19, d20 in ((0.0, 0.0), (0.999, 0.999), (0.3, 0.8)):
        found = augment(picture, ranges, drawn(d17=draw, d19=d19, d20=d20), side)
        gone = (found == (20, 40, 60)).all(axis=2)
        assert gone.mean() == pytest.approx(area, abs=2.5 / side)
        rows, columns = np.flatnonzero(gone.any(1)), np.flatnonzero(gone.any(0))
        assert gone[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        np.testing.assert_array_equal(found[~gone], picture[~gone])
    assert (picture[:, ::2] == (40, 80, 120)).all()


def test_erasing_may_fill_with_noise():
    picture = np.full((64, 64, 3), 128, np.uint8)
    ranges = replace(OFF, erasing=1.0, erasing_area=1.0, erasing_fill="noise")
    found = augment(picture, ranges, drawn(d17=0.9999), 64)
    assert found.std() == pytest.approx(255 / math.sqrt(12), rel=0.05)


def test_the_trivial_policy_draws_one_operation_for_each_view():
    ranges = Augmentation(flip=0.0, crop=1.0, policy="trivial")
    seen = set()
    grey = np.full((64, 64, 3), 128, np.uint8)
    for numbers in np.random.default_rng(0).random((200, DRAWS)):
        seen.add((augment(smooth(64), ranges, numbers, 64) == smooth(64)).all())
        seen.add((augment(grey, ranges, numbers, 64) == grey).all())
    assert seen == {True, False}
    identity = np.concatenate([np.random.default_rng(1).random(DRAWS - 1), [0.0]])
    np.testing.assert_array_equal(augment(noise(), ranges, identity, 32), noise())
    assert augment(noise(), replace(ranges, flip=1.0), identity, 32)[0, 0].tolist() == (
        noise()[0, -1].tolist()
    )


def test_the_trivial_policy_leaves_out_what_it_is_told_to():
    ranges = Augmentation(flip=0.0, crop=1.0, policy="trivial")
    for name in OPERATIONS:
        ranges = without(ranges, name)
    for numbers in np.random.default_rng(0).random((50, DRAWS)):
        np.testing.assert_array_equal(augment(noise(), ranges, numbers, 32), noise())


legal = st.builds(
    Augmentation,
    flip=st.floats(0, 1),
    flip_vertical=st.floats(0, 1),
    quarter_turns=st.booleans(),
    rotation_degrees=st.floats(0, 180),
    crop=st.floats(0.01, 1),
    stretch=st.floats(1, 4),
    translation=st.floats(0, 0.5),
    brightness=st.floats(0, 1),
    contrast=st.floats(0, 1),
    saturation=st.floats(0, 1),
    hue=st.floats(0, 0.5),
    blur=st.floats(0, 1),
    noise=st.floats(0, 1),
    noise_sigma=st.floats(0, 1),
    erasing=st.floats(0, 1),
    erasing_area=st.floats(0.02, 1),
    erasing_fill=st.sampled_from(["mean", "noise"]),
    policy=st.sampled_from(["ranges", "trivial"]),
)


@given(legal, st.integers(0, 2**32), st.sampled_from([(16, 16), (37, 32), (32, 96)]))
@settings(max_examples=60, deadline=None)
def test_any_legal_setting_gives_a_view_and_the_same_again(ranges, seed, sides):
    source, side = sides
    numbers = np.random.default_rng(seed).random(DRAWS)
    found = augment(noise(source), ranges, numbers, side)
    assert found.shape == (side, side, 3)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(augment(noise(source), ranges, numbers, side), found)


@given(legal, st.floats(0, 3))
@settings(max_examples=60, deadline=None)
def test_strength_scales_within_what_is_legal(ranges, factor):
    found = strengthened(ranges, factor)
    numbers = {name: value for name, value in vars(found).items() if type(value) is float}
    assert apply(Recipe(), [f"augmentation.{name}={value!r}" for name, value in numbers.items()])
    assert strengthened(ranges, 1) == ranges
    for name in ("rotation_degrees", "brightness", "hue", "translation", "blur", "flip"):
        assert (getattr(found, name) - getattr(ranges, name)) * (factor - 1) >= 0
    drawn = np.random.default_rng(0).random(DRAWS)
    np.testing.assert_array_equal(augment(noise(), strengthened(ranges, 0), drawn, 32), noise())


def test_each_class_has_its_own_strength():
    ranges = Augmentation(rotation_degrees=10, class_strength={"b": 2.0, "c": 0.0})
    found = for_classes(ranges, ["a", "b", "c"])
    assert [one.rotation_degrees for one in found] == [10, 20, 0]
    assert found[0] == Augmentation(rotation_degrees=10)
    assert found[1] == for_class(ranges, "b") != found[2]
    keys = {viewer(one, 32, "").key for one in found}
    assert len(keys) == 3
    assert viewer(ranges, 32, "").key == viewer(found[0], 32, "").key
    assert "class_strength" not in str(ranges)


def test_each_class_may_be_spared_operations():
    ranges = Augmentation(class_off={"left": "flip, rotation_degrees", "b": " "})
    left, right = for_class(ranges, "left"), for_class(ranges, "right")
    assert left == replace(right, flip=0.0, rotation_degrees=0.0)
    assert for_class(ranges, "b") == right == Augmentation()


@pytest.mark.parametrize(
    ("ranges", "problem", "cure"),
    [
        (
            Augmentation(class_strength={"catt": 2.0}),
            "class_strength names the class 'catt'",
            "'cat'",
        ),
        (Augmentation(class_off={"dgo": "flip"}), "class_off names the class 'dgo'", "'dog'"),
        (Augmentation(class_off={"dog": "flop"}), "class_off.dog names the operation", "'flip'"),
        (Augmentation(left_out="xyz"), "left_out names the operation 'xyz'", "flip_vertical"),
    ],
)
def test_what_does_not_exist_is_refused(ranges, problem, cure):
    with pytest.raises(UsageError) as caught:
        for_classes(ranges, ["cat", "dog"])
    assert problem in caught.value.problem
    assert cure in caught.value.cure


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_can_be_left_out(operation):
    assert getattr(without(ALL, operation), operation) == getattr(OFF, operation)
    assert without(without(ALL, operation), operation) == without(ALL, operation)
