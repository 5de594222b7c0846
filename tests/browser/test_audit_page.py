"""The audit's page in a real browser: one key decides, and what it saves is followed.

Skipped where no Chromium is installed.
"""

import csv
from pathlib import Path

import devtools
import pytest
from PIL import Image

import photos
from sevenfold.progress import silent
from sevenfold.studies import audit as study

pytestmark = pytest.mark.skipif(not devtools.found(), reason="no Chromium is installed")

TILES = "[...document.querySelectorAll('figure[data-path]')].map(one => one.dataset.path)"
# What the page would download, kept instead.
KEPT = """(() => { const make = URL.createObjectURL;
  URL.createObjectURL = blob => { window.kept = blob.text(); return make(blob); }; })()"""


def test_keys_decide_and_the_clean_list_follows(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SEVENFOLD_CACHE", str(tmp_path / "stores"))
    data = tmp_path / "data"
    for label, start in (("blue", 0), ("red", 10)):
        (data / label).mkdir(parents=True)
        for number in range(start, start + 3):
            Image.fromarray(photos.picture(label, number, 48)).save(data / label / f"{number}.png")
    for number in (0, 1):  # one picture, two labels
        same = Image.open(data / "blue" / f"{number}.png")
        same.save(data / "red" / f"copy {number}.png", compress_level=0)
    plain = {"columns": {}, "group_by": "", "threads": 1, "progress": silent}
    study.audit(str(data), out=tmp_path / "out", **plain)
    before = {path: path.read_bytes() for path in data.rglob("*.png")}
    with devtools.opened((tmp_path / "out" / "audit.html").as_uri()) as page:
        page.value(KEPT)
        paths = page.value(TILES)
        chosen = {"blue/0.png": "k", "red/copy 0.png": "d", "red/copy 1.png": "1"}
        for path, key in chosen.items():
            page.value(
                f"document.querySelectorAll('figure[data-path]')[{paths.index(path)}].focus()"
            )
            page.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        assert page.value("document.getElementById('count').textContent") == "3"
        page.value("document.getElementById('save').click()")
        text = page.value("window.kept")
        assert not [one for one in page.told if one["method"] == "Runtime.exceptionThrown"]
    (tmp_path / "labels.csv").write_bytes(text.encode())
    study.audit(str(data), fix=tmp_path / "clean.csv", decisions=tmp_path / "labels.csv", **plain)
    with (tmp_path / "clean.csv").open(encoding="utf-8", newline="") as file:
        rows = {Path(row["path"]).name: row["label"] for row in csv.DictReader(file)}
    assert rows["0.png"] == "blue"
    assert rows["copy 1.png"] == "blue"  # the key 1 names the first class
    assert "copy 0.png" not in rows
    assert "1.png" not in rows  # of the other conflict nothing was decided
    assert {path: path.read_bytes() for path in data.rglob("*.png")} == before
