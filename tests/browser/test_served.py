"""The page of `serve` in a real browser: from a picture to its answer and its correction.

Skipped where no Chromium is installed.
"""

import devtools
import numpy as np
import pytest
from answering import (
    SCREENS,
    answered,
    dropped,
    expect_blue,
    explained,
    served,
    typed,
)
from PIL import Image

from bundles import colour, knowing, tiny_bundle
from sevenfold import predict

pytestmark = pytest.mark.skipif(not devtools.found(), reason="no Chromium is installed")

CLASSES = ("red", "green", "blue & grey")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("page")
    return knowing(tiny_bundle(place / "bundle", CLASSES, size=16), dict.fromkeys(CLASSES, 0.9))


@pytest.fixture(scope="module")
def browser(folder):
    kept = folder.parent / "kept"
    with served(folder, "--collect", str(kept)) as url, devtools.opened(url) as found:
        yield found


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("way", [answered, dropped, typed])
def test_a_picture_can_be_picked_dropped_and_picked_by_keyboard(browser, tmp_path, screen, way):
    expect_blue(browser, tmp_path / "x.png", screen, way)


def test_it_is_as_sure_as_predict_and_marks_what_predict_marks(folder, browser, tmp_path):
    predictor = predict.load(folder, threads=1)
    for shade in (colour(1, 3), (128, 128, 128), (90, 80, 20)):
        Image.new("RGB", (9, 9), shade).save(tmp_path / "x.png")
        found = answered(browser, tmp_path / "x.png")
        seen = predictor.see(np.full((9, 9, 3), shade, np.uint8))
        assert (found["sure"], found["unlike"]) == (seen.sure, seen.unlike)
        assert found["label"] == CLASSES[seen.answer]


def test_it_shows_why(browser, tmp_path):
    pixels = np.full((48, 96, 3), 20, np.uint8)
    pixels[:18, :30] = colour(1, 3)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    answered(browser, tmp_path / "x.png")
    assert explained(browser) == "The brighter, the more speaks for green; most at the top left."


def test_an_answer_is_corrected_by_keyboard(folder, browser, tmp_path):
    Image.new("RGB", (9, 9), colour(1, 3)).save(tmp_path / "x.png")
    answered(browser, tmp_path / "x.png")
    browser.tab_to("truth")
    browser.press("ArrowDown", 40)
    browser.press("Tab", 9)
    browser.press("Enter", 13, "\r")
    noted = browser.until("document.getElementById('thanks').textContent")
    assert noted == "Noted: " + browser.value("document.getElementById('truth').value")
    told = browser.value("document.getElementById('truth').value")
    assert len(list((folder.parent / "kept" / "labelled" / told).iterdir())) == 1


def test_it_asks_only_its_own_server_and_breaks_no_policy(browser):
    server = browser.value("location.origin")
    assert all(address.startswith((server, "blob:")) for address in browser.requests())
    assert browser.problems() == []
