"""Show a thousand hostile names in headless Chromium: does any of them run, load or break out?

The report of made-up facts and the page of `serve`, whose class and file names are those of
`tests/hostile.py` (many would set the document's title, which nothing else does). Counted are
changed titles, scripts and elements that the same page with tame names does not have,
requests beyond the page itself, and what the console says. Two minutes.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import results_file
from results_file import ROOT, Results

sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "tests" / "browser"))

import devtools

import report_facts
from bundles import tiny_bundle
from hostile import names
from sevenfold import report
from sevenfold.predict import load
from sevenfold.serve.page import page

COUNT, STEP = 1_000, 100
KINDS = """[...new Set([...document.querySelectorAll("*")].map((one) =>
  one.localName + "[" + [...one.attributes].map((part) => part.name).sort() + "]"))]"""


def renamed(value: Any, given: Iterator[str]) -> Any:
    """Put names in the place of the texts of facts."""
    if isinstance(value, dict):
        return {k: v if k == "schema" else renamed(v, given) for k, v in value.items()}
    if isinstance(value, list):
        return [renamed(one, given) for one in value]
    is_text = isinstance(value, str) and not value.startswith("data:image/")
    return next(given) if is_text else value


@contextlib.contextmanager
def offered(html: str, policy: str) -> Iterator[str]:
    """Offer one page, with its policy where it has one in a header."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/" else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            if policy:
                self.send_header("Content-Security-Policy", policy)
            self.end_headers()
            self.wfile.write(html.encode() if self.path == "/" else b"")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def seen(html: str, policy: str = "") -> dict[str, Any]:
    """Open a page and say what became of it."""
    with offered(html, policy) as address, devtools.opened(address) as tab:
        told = {"title": tab.value("document.title"), "kinds": set(tab.value(KINDS))}
        told["frames"] = tab.value("frames.length")
        asked = [
            event["params"]["request"]["url"]
            for event in tab.told
            if event["method"] == "Network.requestWillBeSent"
        ]
        told["asked"] = [one for one in asked if one not in (address, f"{address}favicon.ico")]
        told["browser"] = tab.call("Browser.getVersion")["product"]
    return told


def compare(hostile: dict[str, Any], tame: dict[str, Any]) -> Counter[str]:
    """Count what the hostile names did."""
    return Counter(
        scripts_run=int(hostile["title"] != tame["title"]),
        elements_broken_out=len(hostile["kinds"] - tame["kinds"]),
        frames=hostile["frames"],
        requests=len(hostile["asked"]),
    )


def titled(given: Iterator[str]) -> str:
    """Render the report with other names, under one title."""
    return report.render(renamed(report_facts.facts(), given) | {"title": "one title"})


def measure(results: Results, count: int) -> None:
    """Show both pages, and first a page that escapes nothing, which must be seen."""
    many = names(count)
    begun = "<!doctype html><title>one title</title>"
    if not compare(seen(begun + many[0] + many[2]), seen(begun))["scripts_run"]:
        raise SystemExit("the browser does not run what it should: nothing can be shown so")
    tame = seen(titled(itertools.repeat("tame")))
    found: Counter[str] = Counter()
    for start in range(0, count, STEP):
        told = seen(titled(itertools.islice(itertools.cycle(many), start, None)))
        found.update(compare(told, tame))
    results.append("report", seed=0, n=count, browser=tame["browser"], **found)
    lines = [one for one in names(count + 300, lone=False, empty=False) if "\n" not in one]
    classes = lines[:count]
    with tempfile.TemporaryDirectory() as folder:
        tame_names = [f"class {number}" for number in range(len(classes))]
        pages = []
        for kind, labels in (("hostile", classes), ("tame", tame_names)):
            bundle = tiny_bundle(Path(folder) / kind, labels)
            pages.append(seen(*page(load(bundle, threads=1), collects=True)))
    found = compare(pages[0], pages[1])
    results.append("serve", seed=0, n=len(classes), browser=pages[0]["browser"], **found)


def main() -> None:
    """Measure what is missing."""
    options = results_file.parser(__doc__, data=False).parse_args()
    results = results_file.opened("hostile_names", options)
    if results.missing("report", "serve"):
        measure(results, STEP if options.smoke else COUNT)
    rows = [
        {
            "page": row["key"],
            "names": row["n"],
            "scripts run": row["scripts_run"],
            "elements or attributes of other kinds": row["elements_broken_out"],
            "frames": row["frames"],
            "requests": row["requests"],
        }
        for row in results.rows()
    ]
    results.summarise(["Hostile names of classes and files, shown by headless Chromium."], rows)


if __name__ == "__main__":
    main()
