"""The report in a real browser: it fits a phone, prints, turns dark, and asks for nothing.

Skipped where no Chromium is installed.
"""

import base64

import devtools
import pytest

import report_facts
from sevenfold import report

pytestmark = pytest.mark.skipif(not devtools.found(), reason="no Chromium is installed")

_LIGHTNESS = """(() => {
  const parts = getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).map(Number);
  return (parts[0] + parts[1] + parts[2]) / 765;
})()"""
_TOO_WIDE = """[...document.querySelectorAll("body *")].filter(one =>
  one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".scroll, .strip, pre, svg")
).map(one => one.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report.render(report_facts.facts()), encoding="utf-8")
    with devtools.opened(path.as_uri()) as found:
        yield found


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_screen(page, width):
    page.size(width, 800, phone=width < 700)
    assert page.value("innerWidth") == width
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.value(_TOO_WIDE) == []


def test_wide_tables_scroll_by_keyboard(page):
    page.size(320, 800, phone=True)
    wide = (
        "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth)"
    )
    assert page.value(f"{wide}.length") > 0
    assert page.value(f"{wide}.every(one => one.tabIndex === 0)")


def test_it_is_dark_where_dark_is_preferred(page):
    page.size(1280, 800)
    page.scheme("dark")
    assert page.value(_LIGHTNESS) < 0.2
    page.scheme("light")
    assert page.value(_LIGHTNESS) > 0.9


def test_it_prints_light_on_a_few_sheets(page):
    page.scheme("dark")
    printed = base64.b64decode(page.call("Page.printToPDF", printBackground=True)["data"])
    page.scheme("light")
    assert printed.startswith(b"%PDF")
    assert 1 <= printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page/") <= 30
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.value(_LIGHTNESS) > 0.9
    page.call("Emulation.setEmulatedMedia", media="")


def test_it_asks_for_nothing_and_nothing_fails(page):
    assert [one for one in page.requests() if not one.startswith(("file:", "data:"))] == []
    assert page.problems() == []
