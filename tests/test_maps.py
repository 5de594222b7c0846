import re
import tracemalloc

import numpy as np
import pytest

from sevenfold import maps


def test_the_map_and_the_bias_sum_to_the_logit_where_nothing_is_cut():
    random = np.random.default_rng(0)
    features, row = random.random((6, 4, 5)), random.random(6)
    assert maps.class_map(features, row).sum() == pytest.approx(row @ features.mean(axis=(1, 2)))


def test_what_speaks_against_a_class_is_cut_off():
    found = maps.class_map(np.ones((2, 3, 3)), np.array([1.0, -4.0]))
    assert (found == 0).all()


def test_the_overlay_is_brightest_where_the_evidence_is():
    pixels = np.full((40, 60, 3), 90, np.uint8)
    evidence = np.zeros((4, 6))
    evidence[0, 0] = 2.0
    shown = maps.overlay(pixels, evidence)
    assert shown.shape == pixels.shape
    assert shown.dtype == np.uint8
    assert (shown[-5:, -5:] == 90).all()
    assert np.abs(shown[2, 2].astype(int) - 90).sum() > 150


def test_without_evidence_the_picture_stays():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    assert (maps.overlay(pixels, np.zeros((2, 2))) == pixels).all()


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "a/b.jpg",
        "C:\\x\\con.png",
        "x" * 500,
        "\u202e\x00\n<b>",
        "",
        "..",
        "\udcff",
    ],
)
def test_names_of_overlays_are_safe(path):
    name = maps.file_name(path, "../<label>")
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,130}-[0-9a-f]{8}\.png", name)
    assert not name.startswith("-")
    assert name != maps.file_name(path + "2", "../<label>")


def test_the_overlay_of_a_large_photo_takes_little_more_than_the_photo():
    pixels = np.full((1500, 2000, 3), 90, np.uint8)
    evidence = np.random.default_rng(0).random((8, 8))
    tracemalloc.start()
    maps.overlay(pixels, evidence)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * pixels.nbytes
