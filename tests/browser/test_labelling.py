"""Pictures are labelled by a tap on a key's name, where there is no keyboard.

Skipped where no Chromium is installed.
"""

import devtools
import pytest
from answering import SCREENS, nameless, wide
from PIL import Image

from bundles import colour, tiny_bundle
from sevenfold import cli

pytestmark = pytest.mark.skipif(not devtools.found(), reason="no Chromium is installed")

CLASSES = ("red", "green", "blue & grey")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    place = tmp_path_factory.mktemp("labelling")
    model = tiny_bundle(place / "bundle", CLASSES)
    (place / "new").mkdir()
    for number in range(4):
        shade = (*colour(1, 3)[:2], 40 * number)
        Image.new("RGB", (12, 12), shade).save(place / "new" / f"{number}.png")
    command = ["suggest", str(model), str(place / "new"), "--out", str(place / "out")]
    assert cli.main(command) == 0
    with devtools.opened((place / "out" / "suggest.html").as_uri()) as found:
        yield found


def tapped(browser, key: str) -> str:
    browser.value(f"document.querySelector('[data-press=\"{key}\"]').click()")
    return str(browser.value("document.getElementById('count').textContent"))


def test_taps_decide_one_picture_after_the_other_and_undo(browser):
    assert [tapped(browser, key) for key in ("3", "x", "1", "u")] == ["1", "2", "3", "2"]
    told = browser.value(
        "[...document.querySelectorAll('figure')].map((one) => one.dataset.decision)"
    )
    assert told == ["relabel", "skipped", "", ""]
    browser.press("2", 50, "2")
    assert browser.value("document.getElementById('count').textContent") == "3"


@pytest.mark.parametrize("screen", SCREENS)
def test_it_fits_every_screen_and_names_all_that_is_used(browser, screen):
    width, height, phone = SCREENS[screen]
    browser.size(width, height, phone=phone)
    assert wide(browser) <= 0
    assert nameless(browser) == []
    assert browser.problems() == []
