"""Ask the pages of `export --to html` and `serve` in headless Chromium about pictures.

For each picture, the page opened from the disk answers its pixels (as PNG) and the JPEG
itself. Wanted of it: probabilities at most 1e-3 from those of its own float16 graph in Python
on identical pixels; the same answer from the JPEG unless the top two differ by less than 0.02;
answer, *not sure* and *unlike anything I was trained on* as `predict` says them, unless the
picture lies at the threshold, also of pictures whose content is destroyed; no request; at
most 15 MB. Then both pages are driven by a drop, a picked file and the keyboard, on the screens
of a desktop and of a phone. About five minutes.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import results_file
from results_file import ROOT, Results

sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "tests" / "browser"))

import answering
import devtools

TIE = 0.02
LARGEST = 1e-3
NEAR = 0.05  # of the distances' spread
WAYS = {"drop": answering.dropped, "pick": answering.answered, "keyboard": answering.typed}
DRIVEN = 2  # pictures in each way on each screen


def pictures(paths: Sequence[Path], folder: Path) -> Iterator[tuple[Path, Path, Any]]:
    """Yield a file, the same pixels as PNG, and the pixels; then destroyed ones as PNG alone."""
    from PIL import Image

    from sevenfold import image, unknown

    random, plain = np.random.default_rng(0), folder / "pixels.png"
    for number, path in enumerate(paths):
        pixels = image.decode(path.read_bytes(), name=str(path))
        given = [(path, pixels)]
        if number % 5 == 0:
            broken = unknown.scrambled(pixels, random.permutation(16))
            given += [(plain, one) for one in broken]
        for source, one in given:
            Image.fromarray(one).save(plain, compress_level=1)
            yield source, plain, one


def compare(html: Path, run: Path, paths: Sequence[Path]) -> dict[str, Any]:
    """Ask page and Python about every picture."""
    from sevenfold import predict
    from sevenfold.features.trunk import session

    packed = re.search(r'id="model">([^<]+)<', html.read_text(encoding="utf-8"))
    assert packed
    graph = session(gzip.decompress(base64.b64decode(packed[1])), 1)
    predictor = predict.load(run, threads=1)
    apart, same, ties, times = [], 0, 0, []
    told, seen, kept = [], [], 0
    with tempfile.TemporaryDirectory() as folder, devtools.opened(html.as_uri()) as page:
        began = time.perf_counter()
        page.until("document.getElementById('state').textContent === 'Ready.'")
        ready = time.perf_counter() - began
        for path, plain, pixels in pictures(paths, Path(folder)):
            (shares,) = graph.run(["probabilities"], {"image": pixels[None]})
            known = dict(zip(predictor.classes, shares[0].tolist(), strict=True))
            found = answering.answered(page, plain)
            apart.append(max(abs(p - known[name]) for name, p in found["shares"].items()))
            times.append(found["milliseconds"])
            told.append(found)
            seen.append(predictor.see(pixels))
            if path == plain:
                continue
            kept += 1
            found = answering.answered(page, path)["shares"]
            first, second = np.sort(shares[0])[-2:][::-1]
            if max(found, key=found.__getitem__) == predictor.classes[int(shares[0].argmax())]:
                same += 1
            elif first - second < TIE:
                ties += 1
        version = page.call("Browser.getVersion")["product"]
        asked = [one for one in page.requests() if not one.startswith(("blob:", "data:"))]
    agreed = agreement(predictor, told, seen)
    megabytes = html.stat().st_size / 1e6
    return {
        "browser": version,
        "megabytes": megabytes,
        "seconds_to_open": ready,
        "largest_difference": max(apart),
        "same_answer": same,
        "near_ties": ties,
        **agreed,
        "milliseconds_median": float(np.median(times)),
        "requests": len(asked) - 1,  # the file itself
        "holds": max(apart) <= LARGEST
        and same + ties == kept
        and agreed["same_as_predict"] + agreed["at_a_threshold"] == len(told)
        and asked == [html.as_uri()]
        and megabytes <= 15,
    }


def agreement(
    predictor: Any, told: Sequence[dict[str, Any]], seen: Sequence[Any]
) -> dict[str, Any]:
    """Count answers with their marks that are those of `predict`, and those at a threshold."""
    detector, point = predictor.bundle.detector, predictor.bundle.point
    spread = float(np.std([one.distance for one in seen]))
    same, near = 0, 0
    for found, one in zip(told, seen, strict=True):
        theirs = (predictor.classes[one.answer], one.sure, one.unlike)
        if (found["label"], found["sure"], found["unlike"]) == theirs:
            same += 1
            continue
        first, second = np.sort(one.shares)[-2:][::-1]
        near += bool(
            first - second < TIE
            or abs(one.shares[one.answer] - point.thresholds[one.answer]) < TIE
            or abs(one.distance - detector.threshold) < NEAR * spread
        )
    return {
        "asked": len(told),
        "same_as_predict": same,
        "at_a_threshold": near,
        "not_sure": sum(not one.sure for one in seen),
        "unlike": sum(one.unlike for one in seen),
    }


def drive(address: str, run: Path, paths: Sequence[Path]) -> dict[str, Any]:
    """Give a page pictures in every way on every screen, and show why by the keyboard."""
    from sevenfold import predict

    predictor, answers, wrong = predict.load(run, threads=1), 0, []
    with devtools.opened(address) as page:
        page.until("!document.getElementById('state').textContent.startsWith('Opening')")
        for screen, (width, height, phone) in answering.SCREENS.items():
            page.size(width, height, phone=phone)
            for way, give in WAYS.items():
                for path in paths:
                    found = give(page, path)
                    known = predictor.answer(path.read_bytes(), str(path))
                    answers += found["label"] == known.label
                    if answering.wide(page) > 0 or answering.nameless(page):
                        wrong.append(f"{way} on a {screen}")
            if predict.has_maps(predictor) and not answering.explained(page):
                wrong.append(f"map on a {screen}")
        origin = page.value("location.origin")
        strange = [
            one for one in page.requests()[1:] if not one.startswith(("blob:", "data:", origin))
        ]
        problems = len(page.problems())
    wanted = len(paths) * len(WAYS) * len(answering.SCREENS)
    holds = answers == wanted and not (wrong or strange or problems)
    return {"answers": answers, "wrong": wrong, "strange": len(strange), "holds": holds}


def measure(results: Results, options: argparse.Namespace) -> None:
    """Compare on pictures of a folder, evenly spread, drive both pages, keep what was found."""
    run, count = options.run.resolve(), 8 if options.smoke else options.pictures
    html = run / "exports" / "html" / "classifier.html"
    if not html.is_file():
        raise SystemExit(f"{html} is missing: run `sevenfold export {run} --to html` first")
    found = sorted((options.data / "clothing").resolve().rglob("*.jpg"))
    chosen = found[:: max(1, len(found) // count)][:count]
    few = chosen[:: max(1, len(chosen) // DRIVEN)][:DRIVEN]
    if results.missing("page"):
        results.append("page", seed=0, n=len(chosen), **compare(html, run, chosen))
    if results.missing("driven exported"):
        results.append("driven exported", seed=0, n=len(few), **drive(html.as_uri(), run, few))
    if results.missing("driven served"):
        with answering.served(run) as address:
            results.append("driven served", seed=0, n=len(few), **drive(address, run, few))


def summary(results: Results) -> None:
    """Write the table that README shows."""
    found = {row["key"]: row for row in results.rows()}
    row, ways = found["page"], [one for key, one in found.items() if key.startswith("driven")]
    table = {
        "pictures": row["n"],
        "page": f"{row['megabytes']:.1f} MB",
        "largest difference": f"{row['largest_difference']:.1e}",
        "same answer from JPEG": row["same_answer"],
        "near ties": row["near_ties"],
        "same answer, *not sure* and *unlike* as `predict`": (
            f"{row['same_as_predict']} of {row['asked']}, {row['at_a_threshold']} at a threshold"
        ),
        "requests": row["requests"],
        "driven": f"{sum(one['answers'] for one in ways)} answers of both pages",
        "holds": "yes" if row["holds"] and all(one["holds"] for one in ways) else "no",
    }
    title = "The page of `export --to html` in headless Chromium, against Python"
    results.summarise([title], [table])


def main() -> None:
    """Measure what is missing."""
    asked = results_file.parser(__doc__)
    asked.add_argument("--run", type=Path, required=True, help="a run with an html export")
    asked.add_argument("--pictures", type=int, default=200)
    options = asked.parse_args()
    results = results_file.opened("html_page", options)
    measure(results, options)
    summary(results)


if __name__ == "__main__":
    main()
