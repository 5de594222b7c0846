"""Add 500 pictures to 5,000: does the store compute the rows of those 500, and nothing else?

Pictures of CIFAR-10 in folders of classes, the default backbone's trunk at 96 px, four
views of each. A fresh process reads 5,000, fills the stores and counts the rows
that the trunk ran over and the pictures that were decoded; another does the same once 500
more lie beside them; a third finds nothing new. About 2 minutes.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import results_file
from results_file import Results, measured

FIRST, MORE, SIDE, VIEWS = 5_000, 500, 96, 4


def fill(source: str) -> None:
    """Do what is measured, in a process of its own."""
    from sevenfold import data, nets, recipe
    from sevenfold.features import trunk, views
    from sevenfold.features.pixels import for_training, ingest
    from sevenfold.practices import augmentation, transfer
    from sevenfold.progress import silent

    settings = recipe.default("quick")
    threads = results_file.cores()
    network, _ = transfer.build(settings.transfer, 10, SIDE, 0)
    engine = trunk.engine(nets.cut(network, settings.transfer.trainable_blocks)[0], SIDE, "cpu")
    computed = []

    def counted(pixels: np.ndarray) -> np.ndarray:
        computed.append(len(pixels))
        return engine.run(pixels)

    pixels = for_training(SIDE)
    stored = len(pixels.store)
    dataset = data.read(
        source,
        fingerprints=lambda listing: ingest(
            listing, pixels=pixels, threads=threads, progress=silent
        ),
    )
    everything = views.activations(
        dataset,
        np.arange(len(dataset)),
        pixels,
        augmentation.viewer(settings.augmentation, SIDE, ""),
        dataclasses.replace(engine, run=counted),
        count=VIEWS,
        threads=threads,
        progress=silent,
    )
    last = everything.get(np.arange(len(dataset)), np.full(len(dataset), VIEWS - 1))
    facts = {"pictures": len(dataset), "views": VIEWS, "decoded": len(pixels.store) - stored}
    facts |= {"computed": sum(computed), "finite": bool(np.isfinite(last).all())}
    print(json.dumps(facts))


def pictures(data: Path, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield label and bytes of so many pictures of CIFAR-10, of all classes in turn."""
    import pyarrow.parquet

    whole = pyarrow.parquet.read_table(data / "cifar10" / "train.parquet")
    by_class: dict[str, dict[bytes, None]] = {}  # no two the same
    for image, label in zip(whole["image"].to_pylist(), whole["label"].to_pylist(), strict=True):
        by_class.setdefault(str(label), {})[image["bytes"]] = None
    turns = zip(*by_class.values(), strict=False)
    drawn = (one for turn in turns for one in zip(by_class, turn, strict=True))
    yield from itertools.islice(drawn, count)


def main() -> None:
    """Measure what is missing."""
    if sys.argv[1:2] == ["--fill"]:
        return fill(sys.argv[2])
    options = results_file.parser(__doc__).parse_args()
    results = results_file.opened("growing_store", options)
    first, more = (100, 20) if options.smoke else (FIRST, MORE)
    keys = ("empty", "grown", "again")
    if results.missing(*keys):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
            measure(results, options.data, Path(place), first, more)
    summary(results)


def measure(results: Results, data: Path, place: Path, first: int, more: int) -> None:
    """Fill the stores from some pictures, from more, and again."""
    photos, later = place / "photos", place / "later"
    for number, (label, content) in enumerate(pictures(data, first + more)):
        path = (photos if number < first else later) / label / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    command = [sys.executable, __file__, "--fill", str(photos)]
    for key in ("empty", "grown", "again"):
        if key == "grown":
            shutil.copytree(later, photos, dirs_exist_ok=True)
        found = measured(command, {"SEVENFOLD_CACHE": str(place / "stores")})
        cost = {"seconds": found.seconds, "peak_megabytes": found.peak_megabytes}
        results.append(key, seed=0, n=found.said.pop("pictures"), **cost, **found.said)


def summary(results: Results) -> None:
    """Write the table."""
    names = {"empty": "empty", "grown": "of fewer pictures", "again": "of the same pictures"}
    rows = {row["key"]: row for row in results.rows()}
    before = dict(zip(names, (0, rows["empty"]["n"], rows["grown"]["n"]), strict=True))
    tables = [
        {
            "stores": names[key],
            "pictures": rows[key]["n"],
            "of them new": rows[key]["n"] - before[key],
            "decoded": rows[key]["decoded"],
            "views": rows[key]["views"],
            "rows computed": rows[key]["computed"],
        }
        for key in names
    ]
    title = (
        "Rows of activations that a fresh process computes: new pictures times views, nothing else "
        f"(EfficientNet-Lite0, {SIDE} px)."
    )
    results.summarise([title], tables)


if __name__ == "__main__":
    main()
