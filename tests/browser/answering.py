"""Give the pages that answer a picture one, in each way people have, and read the answer."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import devtools
from PIL import Image

from bundles import colour

SCREENS = {"desktop": (1280, 900, False), "phone": (390, 844, True)}
_ANSWER = """(() => {
  const at = (id) => document.getElementById(id), rows = [...document.querySelectorAll("#rows tr")];
  return {
    label: at("label").textContent,
    sure: at("unsure").hidden,
    unlike: !at("unlike").hidden,
    said: at("state").textContent,
    milliseconds: parseFloat(at("took").textContent),
    shares: Object.fromEntries(rows.map((row) =>
      [row.querySelector("bdi").textContent, row.querySelector("progress").value])),
  };
})()"""


def given(page: devtools.Page, give: Callable[[], None]) -> dict[str, Any]:
    """Give a picture, wait for its answer and read it; the ten most likely classes."""
    page.value("document.getElementById('answer').hidden = true")
    give()
    page.until(
        "!document.getElementById('answer').hidden"
        " || document.getElementById('problem').textContent"
    )
    if problem := page.value("document.getElementById('problem').textContent"):
        raise ValueError(problem)
    return dict(page.value(_ANSWER))


def answered(page: devtools.Page, path: Path) -> dict[str, Any]:
    """Pick a file."""
    return given(page, lambda: page.give("#pick", path))


def dropped(page: devtools.Page, path: Path) -> dict[str, Any]:
    """Drop a file onto the page."""
    return given(page, lambda: page.drop(path))


def typed(page: devtools.Page, path: Path) -> dict[str, Any]:
    """Pick a file by the keyboard alone."""
    page.tab_to("pick")
    return given(page, lambda: page.choose(path))


def explained(page: devtools.Page) -> str:
    """Press the button that shows why, by the keyboard; return what is said of it."""
    page.tab_to("why")
    page.press(" ", 32, " ")
    page.until("!document.getElementById('map').hidden")
    return str(page.value("document.getElementById('where').textContent"))


def wide(page: devtools.Page) -> int:
    """Return by how many pixels the page is wider than its screen."""
    return int(page.value("document.documentElement.scrollWidth - innerWidth"))


def nameless(page: devtools.Page) -> list[str]:
    """Return what people can use and a screen reader cannot name."""
    page.call("Accessibility.enable")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    uses = ("button", "link", "textbox", "combobox", "image", "DisclosureTriangle")
    return [
        node["role"]["value"]
        for node in nodes
        if not node["ignored"]
        and node["role"]["value"] in uses
        and not node.get("name", {}).get("value", "").strip()
    ]


@contextmanager
def served(model: Path, *options: str) -> Iterator[str]:
    """Serve a run or a bundle; the address of its page."""
    command = [sys.executable, "-m", "sevenfold.cli", "serve", str(model), "--port", "0", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout
            lines = iter(process.stdout.readline, "")
            yield next(line.strip() for line in lines if line.startswith("http"))
        finally:
            process.terminate()


def expect_blue(
    page: devtools.Page,
    path: Path,
    screen: str,
    way: Callable[[devtools.Page, Path], dict[str, Any]],
) -> None:
    """Give a blue picture on a screen and expect its answer, nothing too wide, none nameless."""
    width, height, phone = SCREENS[screen]
    page.size(width, height, phone=phone)
    Image.new("RGB", (8, 8), colour(2, 3)).save(path)
    assert way(page, path)["label"] == "blue & grey"
    assert wide(page) <= 0
    assert nameless(page) == []
