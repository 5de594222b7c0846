"""The page in a real browser, opened from the disk: from a picture to its answer.

Skipped where no Chromium is installed.
"""

import json
from pathlib import Path

import devtools
import numpy as np
import pytest
from PIL import Image

import photos
from bundles import tiny_bundle
from sevenfold.bundles import read_bundle
from sevenfold.exports import html
from sevenfold.features.trunk import session

pytestmark = pytest.mark.skipif(not devtools.found(), reason="no Chromium is installed")

CLASSES = ("<b>red</b>", "green", "blue & grey")
SHARES = """Object.fromEntries([...document.querySelectorAll("#rows tr")].map((row) =>
  [row.querySelector("bdi").textContent, row.querySelector("progress").value]))"""
POINT = {
    "schema": "sevenfold.operating/1",
    "rule": "halved_error",
    "thresholds": dict.fromkeys(CLASSES, 0.9),
    "weights": {},
    "costs": [],
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Write a page and the graph in it."""
    place = tmp_path_factory.mktemp("page")
    folder = tiny_bundle(place / "bundle", CLASSES, size=16)
    bundle = read_bundle(folder)
    card = {**bundle.card, "operating_point": POINT}
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    from bundles import seal

    seal(folder)
    bundle = read_bundle(folder)
    model = html.halved(bundle.model)
    path = place / "classifier.html"
    path.write_text(html.page(bundle, model), encoding="utf-8", newline="\n")
    return path, session(model, 1)


@pytest.fixture(scope="module")
def browser(page):
    with devtools.opened(page[0].as_uri()) as found:
        found.until("document.getElementById('state').textContent === 'Ready.'")
        yield found


def answered(browser: devtools.Page, path: Path) -> dict[str, float]:
    browser.value("document.getElementById('answer').hidden = true")
    browser.give("#pick", path)
    browser.until("!document.getElementById('answer').hidden")
    return dict(browser.value(SHARES))


def expected(page, pixels: np.ndarray) -> dict[str, float]:
    (shares,) = page[1].run(["probabilities"], {"image": pixels[None]})
    return dict(zip(CLASSES, shares[0].tolist(), strict=True))


@pytest.mark.parametrize("size", [(16, 16), (7, 5), (64, 32), (301, 199)])
def test_the_page_answers_as_python_does(page, browser, tmp_path, size):
    pixels = np.random.default_rng(size).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    pixels[:, : size[0] // 2, 0] = 250
    Image.fromarray(pixels).save(tmp_path / "x.png")
    found, known = answered(browser, tmp_path / "x.png"), expected(page, pixels)
    assert found.keys() == known.keys()
    assert max(abs(found[name] - known[name]) for name in known) <= 1e-3


def test_a_picture_is_turned_upright_and_transparency_is_white(page, browser, tmp_path):
    pixels = photos.picture("red", 3, 48)
    pixels[:, :20] = (0, 200, 0)
    turned = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # its top is at the right
    turned.save(tmp_path / "x.png", exif=exif)
    found, known = answered(browser, tmp_path / "x.png"), expected(page, pixels)
    assert max(abs(found[name] - known[name]) for name in known) <= 1e-3
    clear = np.zeros((20, 20, 4), np.uint8)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    found = answered(browser, tmp_path / "clear.png")
    known = expected(page, np.full((20, 20, 3), 255, np.uint8))
    assert max(abs(found[name] - known[name]) for name in known) <= 1e-3


def test_not_sure_is_told_below_the_threshold(page, browser, tmp_path):
    for shade, unsure in (((200, 0, 0), False), ((128, 128, 128), True)):
        Image.new("RGB", (9, 9), shade).save(tmp_path / "x.png")
        shares = answered(browser, tmp_path / "x.png")
        assert (max(shares.values()) < 0.9) == unsure
        assert browser.value("document.getElementById('unsure').hidden") != unsure
        told = browser.value("document.getElementById('state').textContent")
        assert told.startswith("Not sure" if unsure else "Answer: <b>red</b>")


def test_what_is_no_picture_is_told(browser, tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"not a picture")
    browser.give("#pick", tmp_path / "x.jpg")
    told = browser.until("document.getElementById('problem').textContent")
    assert "not a picture" in told
    assert browser.value("document.getElementById('answer').hidden")


def test_a_picture_can_be_dropped_and_pasted(browser):
    for event, holder in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        told = browser.value(f"""(async () => {{
          document.getElementById("answer").hidden = true;
          const canvas = document.createElement("canvas");
          canvas.width = canvas.height = 8;
          const pen = canvas.getContext("2d");
          pen.fillStyle = "#0000cc";
          pen.fillRect(0, 0, 8, 8);
          const blob = await new Promise((done) => canvas.toBlob(done));
          const event = new Event("{event}", {{ bubbles: true, cancelable: true }});
          event.{holder} = {{ files: [new File([blob], "x.png", {{ type: "image/png" }})] }};
          document.body.dispatchEvent(event);
          return true;
        }})()""")
        assert told
        browser.until("!document.getElementById('answer').hidden")
        assert browser.value("document.getElementById('label').textContent") == "blue & grey"


def test_it_asks_for_nothing_breaks_no_policy_and_fits_a_phone(page, browser):
    asked = [
        event["params"]["request"]["url"]
        for event in browser.told
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert asked[0] == page[0].as_uri()
    assert all(address.startswith("blob:") for address in asked[1:])
    problems = [
        event
        for event in browser.told
        if event["method"] == "Runtime.exceptionThrown"
        or (event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error")
    ]
    assert problems == []
    for width, height, phone in ((1280, 900, False), (360, 740, True)):
        browser.size(width, height, phone=phone)
        assert browser.value("document.documentElement.scrollWidth") <= width
    nameless = browser.value(
        "[...document.querySelectorAll('input')].filter((one) => !one.labels.length).length"
    )
    assert nameless == 0
    assert browser.value("document.querySelector('#state').getAttribute('aria-live')") == "polite"
