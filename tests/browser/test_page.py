"""The page in a real browser, opened from the disk: from a picture to its answer.

Skipped where no Chromium is installed.
"""

import devtools
import numpy as np
import pytest
from answering import SCREENS, answered, dropped, expect_blue, explained, typed
from PIL import Image

import photos
from bundles import colour, knowing, tiny_bundle
from sevenfold import maps, predict
from sevenfold.bundles import read_bundle
from sevenfold.exports import html, outputs
from sevenfold.features.trunk import session

pytestmark = pytest.mark.skipif(not devtools.found(), reason="no Chromium is installed")

CLASSES = ("<b>red</b>", "green", "blue & grey")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("page")
    return knowing(tiny_bundle(place / "bundle", CLASSES, size=16), dict.fromkeys(CLASSES, 0.9))


@pytest.fixture(scope="module")
def page(folder):
    """Write a page and the graph in it."""
    bundle = read_bundle(folder)
    model = html.halved(outputs.extended(bundle))
    path = folder.parent / "classifier.html"
    path.write_text(html.page(bundle, model), encoding="utf-8", newline="\n")
    return path, session(model, 1)


@pytest.fixture(scope="module")
def browser(page):
    with devtools.opened(page[0].as_uri()) as found:
        found.until("document.getElementById('state').textContent === 'Ready.'")
        yield found


def expected(page, pixels: np.ndarray) -> dict[str, float]:
    (shares,) = page[1].run(["probabilities"], {"image": pixels[None]})
    return dict(zip(CLASSES, shares[0].tolist(), strict=True))


@pytest.mark.parametrize("size", [(16, 16), (7, 5), (64, 32), (301, 199), (40, 9)])
def test_the_page_answers_as_python_does(page, browser, tmp_path, size):
    pixels = np.random.default_rng(size).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    pixels[:, : size[0] // 2, 0] = 250
    Image.fromarray(pixels).save(tmp_path / "x.png")
    found, known = answered(browser, tmp_path / "x.png")["shares"], expected(page, pixels)
    assert found.keys() == known.keys()
    assert max(abs(found[name] - known[name]) for name in known) <= 1e-6


def test_a_picture_is_turned_upright_and_transparency_is_white(page, browser, tmp_path):
    pixels = photos.picture("red", 3, 48)
    pixels[:, :20] = (0, 200, 0)
    turned = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # its top is at the right
    turned.save(tmp_path / "x.png", exif=exif)
    found, known = answered(browser, tmp_path / "x.png")["shares"], expected(page, pixels)
    assert max(abs(found[name] - known[name]) for name in known) <= 1e-3
    clear = np.zeros((20, 20, 4), np.uint8)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    found = answered(browser, tmp_path / "clear.png")["shares"]
    known = expected(page, np.full((20, 20, 3), 255, np.uint8))
    assert max(abs(found[name] - known[name]) for name in known) <= 1e-3


def test_it_is_as_sure_as_predict_and_marks_what_predict_marks(folder, browser, tmp_path):
    predictor, marks = predict.load(folder, threads=1), set()
    shades = [colour(k, 3) for k in range(3)] + [(128, 128, 128), (255, 255, 255), (90, 80, 20)]
    for shade in shades:
        Image.new("RGB", (9, 9), shade).save(tmp_path / "x.png")
        found = answered(browser, tmp_path / "x.png")
        seen = predictor.see(np.full((9, 9, 3), shade, np.uint8))
        assert (found["sure"], found["unlike"]) == (seen.sure, seen.unlike)
        assert found["label"] == CLASSES[seen.answer]
        assert found["said"].startswith("Unlike anything") == seen.unlike
        assert ("Not sure; most likely" in found["said"]) == (not seen.sure)
        marks.add((seen.sure, seen.unlike))
    assert {sure for sure, _ in marks} == {unlike for _, unlike in marks} == {True, False}


def test_it_shows_the_map_that_predict_draws(folder, browser, tmp_path):
    pixels = np.full((48, 96, 3), 20, np.uint8)
    pixels[30:, 60:] = colour(1, 3)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    answered(browser, tmp_path / "x.png")
    assert "most at the bottom right." in explained(browser)
    drawn, width = browser.value("""(() => {
      const map = document.getElementById("map");
      const { data } = map.getContext("2d").getImageData(0, 0, map.width, map.height);
      return [Array.from(data), map.width];
    })()""")
    found = np.array(drawn, np.float64).reshape(-1, width, 4)
    predictor = predict.load(folder, threads=1)
    evidence = predictor.evidence(predictor.see(pixels))
    black = np.zeros((*found.shape[:2], 3), np.uint8)
    wanted = maps.overlay(black, evidence)
    assert np.abs(found[..., :3] * found[..., 3:] / 255 - wanted).max() <= 4
    assert wanted.max() > 100


def test_what_is_no_picture_is_told(browser, tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"not a picture")
    browser.give("#pick", tmp_path / "x.jpg")
    told = browser.until("document.getElementById('problem').textContent")
    assert "not a picture" in told
    assert browser.value("document.getElementById('answer').hidden")


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("way", [answered, dropped, typed])
def test_a_picture_can_be_picked_dropped_and_picked_by_keyboard(browser, tmp_path, screen, way):
    expect_blue(browser, tmp_path / "x.png", screen, way)


def test_a_picture_can_be_pasted(browser):
    browser.value("""(async () => {
      document.getElementById("answer").hidden = true;
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = 8;
      const pen = canvas.getContext("2d");
      pen.fillStyle = "#0000cc";
      pen.fillRect(0, 0, 8, 8);
      const blob = await new Promise((done) => canvas.toBlob(done));
      const clipboardData = new DataTransfer();
      clipboardData.items.add(new File([blob], "x.png", { type: "image/png" }));
      dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
    })()""")
    browser.until("!document.getElementById('answer').hidden")
    assert browser.value("document.getElementById('label').textContent") == "blue & grey"


def test_it_asks_for_nothing_and_breaks_no_policy(page, browser):
    asked = browser.requests()
    assert asked[0] == page[0].as_uri()
    assert all(address.startswith("blob:") for address in asked[1:])
    assert browser.problems() == []
