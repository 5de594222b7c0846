"""Ask the page of `export --to html` in headless Chromium about pictures, and Python too.

For each picture, the page opened from the disk answers its pixels (as PNG) and the JPEG
itself; the same float16 graph in Python answers the pixels that Pillow decodes. Wanted:
probabilities at most 1e-3 apart on identical pixels, and the same answer from the JPEG
unless its top two differ by less than 0.02. About five minutes.
"""

from __future__ import annotations

import base64
import gzip
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import results_file
from results_file import ROOT, Results

sys.path.insert(0, str(ROOT / "tests" / "browser"))

import devtools

SHARES = """Object.fromEntries([...document.querySelectorAll("#rows tr")].map((row) =>
  [row.querySelector("bdi").textContent, row.querySelector("progress").value]))"""
TIE = 0.02
LARGEST = 1e-3


def answered(page: devtools.Page, path: Path) -> dict[str, float]:
    """Give the page a picture and read the probabilities of its ten most likely classes."""
    page.value("document.getElementById('answer').hidden = true")
    page.give("#pick", path)
    page.until("!document.getElementById('answer').hidden")
    return dict(page.value(SHARES))


def compare(html: Path, classes: list[str], pictures: list[Path]) -> dict[str, Any]:
    """Ask page and Python about every picture."""
    from PIL import Image

    from sevenfold import image
    from sevenfold.features.trunk import session

    packed = re.search(r'id="model">([^<]+)<', html.read_text(encoding="utf-8"))
    assert packed
    graph = session(gzip.decompress(base64.b64decode(packed[1])), 1)
    apart, same, near, times = [], 0, 0, []
    with tempfile.TemporaryDirectory() as folder, devtools.opened(html.as_uri()) as page:
        began = time.perf_counter()
        page.until("document.getElementById('state').textContent === 'Ready.'")
        ready = time.perf_counter() - began
        for path in pictures:
            pixels = image.decode(path.read_bytes(), name=str(path))
            (shares,) = graph.run(["probabilities"], {"image": pixels[None]})
            known = dict(zip(classes, shares[0].tolist(), strict=True))
            plain = Path(folder) / "pixels.png"
            Image.fromarray(pixels).save(plain, compress_level=1)
            found = answered(page, plain)
            apart.append(max(abs(share - known[name]) for name, share in found.items()))
            took = page.value("document.getElementById('took').textContent")
            times.append(float(took.split()[0]))
            told = answered(page, path)
            first, second = np.sort(shares[0])[-2:][::-1]
            if max(told, key=lambda name: told[name]) == classes[int(shares[0].argmax())]:
                same += 1
            elif first - second < TIE:
                near += 1
        version = page.call("Browser.getVersion")["product"]
    return {
        "browser": version,
        "megabytes": html.stat().st_size / 1e6,
        "seconds_to_open": ready,
        "largest_difference": max(apart),
        "same_answer": same,
        "near_ties": near,
        "milliseconds_median": float(np.median(times)),
        "holds": max(apart) <= LARGEST and same + near == len(pictures),
    }


def measure(results: Results, run: Path, photos: Path, count: int) -> None:
    """Compare on pictures of a folder, evenly spread, and keep what was found."""
    html = run / "exports" / "html" / "classifier.html"
    if not html.is_file():
        raise SystemExit(f"{html} is missing: run `sevenfold export {run} --to html` first")
    labels = (run / "bundle" / "labels.txt").read_text(encoding="utf-8")
    pictures = sorted(photos.rglob("*.jpg"))
    chosen = pictures[:: max(1, len(pictures) // count)][:count]
    found = compare(html, labels.removesuffix("\n").split("\n"), chosen)
    results.append("page", seed=0, n=len(chosen), **found)


def summary(results: Results) -> None:
    """Write the table that README shows."""
    rows = [
        {
            "pictures": row["n"],
            "page": f"{row['megabytes']:.1f} MB",
            "largest difference": f"{row['largest_difference']:.1e}",
            "same answer from JPEG": row["same_answer"],
            "near ties": row["near_ties"],
            "opens in": f"{row['seconds_to_open']:.1f} s",
            "answers in": f"{row['milliseconds_median']:.0f} ms",
            "holds": "yes" if row["holds"] else "no",
        }
        for row in results.rows()
    ]
    results.summarise(["The page of `export --to html` in headless Chromium, against Python"], rows)


def main() -> None:
    """Measure what is missing."""
    asked = results_file.parser(__doc__)
    asked.add_argument("--run", type=Path, required=True, help="a run with an html export")
    asked.add_argument("--pictures", type=int, default=200)
    options = asked.parse_args()
    results = results_file.opened("html_page", options)
    if results.missing("page"):
        count = 8 if options.smoke else options.pictures
        photos = options.data / "clothing"
        measure(results, options.run.resolve(), photos.resolve(), count)
    summary(results)


if __name__ == "__main__":
    main()
