"""Train the members of a vote one after another and side by side: seconds, memory, same weights?

Three ways, each in a fresh process over stores that were filled before: one after another with
all threads, one after another with the threads that each has side by side, and side by side.
The last two must learn the same to the bit. The first pictures of each of clothing's ten classes,
`--pictures` to train on and at most as many that judge; rate and practices are fixed, so that
members are all that is trained. The ways take turns, `--rounds` times; processor seconds tell
whether something else ran meanwhile. Five minutes as it is; `--pictures 3000 --epochs 6` is a
real one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import results_file
from preview import processor_seconds
from results_file import Results, measured

WAYS = {
    "wide": "one after another, all threads",
    "narrow": "one after another, threads as side by side",
    "side by side": "side by side",
}


def main() -> None:
    """Measure what is missing, then sum up."""
    options = results_file.parser(__doc__)
    options.add_argument("--pictures", type=int, default=300)
    options.add_argument("--members", type=int, default=4)
    options.add_argument("--blocks", type=int, default=3)
    options.add_argument("--epochs", type=int, default=2)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--way", default="", help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.way:
        print(json.dumps(one_way(asked)))
        return
    results = results_file.opened("members", asked)
    given = {name: getattr(asked, name) for name in ("pictures", "members", "blocks", "epochs")}
    if asked.smoke:
        given |= {"pictures": 40, "members": 2, "epochs": 1}
    with tempfile.TemporaryDirectory() as place:
        stores = {"SEVENFOLD_CACHE": str(Path(place) / "stores")}
        for number in range(1 if asked.smoke else asked.rounds):
            for way in WAYS:
                key = " ".join(f"{name}={value}" for name, value in given.items())
                key = f"{way} {key} round={number}"
                if not results.missing(key):
                    continue
                photos = Path(place) / "photos"
                if not photos.exists():
                    results_file.part_of(asked.data / "clothing", photos, given["pictures"] // 10)
                    run(photos, asked.cores, given | {"epochs": 1, "members": 1}, "wide", stores)
                facts = run(photos, asked.cores, given, way, stores)
                results.append(key, seed=0, n=facts.pop("n"), way=way, **given, **facts)
    summary(results)


def run(
    photos: Path, cores: int, given: dict[str, int], way: str, stores: dict[str, str]
) -> dict[str, Any]:
    """Train in a process of its own."""
    words = [f"--{name}={value}" for name, value in given.items()]
    before = processor_seconds()
    found = measured(
        [sys.executable, __file__, f"--data={photos}", f"--cores={cores}", *words,
         f"--way={way}"],
        stores,
    )  # fmt: skip
    return found.said | {
        "process_seconds": found.seconds,
        "processor_seconds": processor_seconds() - before,
        "peak_megabytes": found.peak_megabytes,
    }


def one_way(asked: argparse.Namespace) -> dict[str, Any]:
    """Fit once; return its seconds and a hash of all that was learnt."""
    from dataclasses import replace

    import numpy as np

    from sevenfold import data, recipe, train, trial
    from sevenfold.features.pixels import opened
    from sevenfold.progress import silent
    from sevenfold.train import member

    settings = [
        f"ensembling.members={asked.members}", f"transfer.trainable_blocks={asked.blocks}",
        f"epochs={asked.epochs}", "views=2", "objective=accuracy", "optimization.rate=0.003",
        "optimization.patience=1", "imbalance.method=none", "augmentation.label_check=off",
    ]  # fmt: skip
    wanted = recipe.apply(recipe.Recipe(), settings)
    workers = 0 if asked.way == "side by side" else 1
    place = trial.place("cpu", asked.cores, workers)
    pixels, dataset = opened(str(asked.data), wanted.side, threads=asked.cores, progress=silent)
    roles = np.array([photo.role for photo in dataset.photos])
    split = data.split(dataset)  # which has no val where pictures are few
    split = replace(
        split, train=np.flatnonzero(roles == "train"), val=np.flatnonzero(roles == "val")
    )
    wide = mock.patch.object(member, "threads_each", lambda cores: cores)
    with tempfile.TemporaryDirectory() as folder, wide if asked.way == "wide" else nullcontext():
        began = time.perf_counter()
        fitted = train.fit(
            wanted, split, seed=0, place=place, pixels=pixels, folder=Path(folder), progress=silent
        )
        seconds = time.perf_counter() - began
    learnt = [
        np.concatenate(
            [value.double().numpy().ravel() for value in one.network.state_dict().values()]
        )
        for one in fitted.members
    ]
    told = {"seconds": seconds, "weights": digest(learnt), "workers": place.workers}
    return told | {"n": len(split.train)}


def digest(arrays: Any) -> str:
    """Hash arrays."""
    import hashlib

    state = hashlib.blake2b(digest_size=8)
    for array in arrays:
        state.update(array.tobytes())
    return state.hexdigest()


def summary(results: Results) -> None:
    """Write the table."""
    tables = []
    everything = results.rows()
    sizes = dict.fromkeys(
        tuple(row[name] for name in ("pictures", "members", "blocks", "epochs"))
        for row in everything
    )
    for size in sizes:
        kept = [
            row
            for row in everything
            if tuple(row[name] for name in ("pictures", "members", "blocks", "epochs")) == size
        ]
        first = median(row["seconds"] for row in kept if row["way"] == "wide")
        for way, name in WAYS.items():
            rows = [row for row in kept if row["way"] == way]
            if not rows:
                continue
            times = [row["seconds"] for row in rows]
            tables.append(
                {
                    "members": f"{size[1]} of {size[2]} blocks, {size[3]} epochs",
                    "pictures": rows[0]["n"],
                    "trained": name,
                    "n": len(rows),
                    "seconds": round(median(times), 1),
                    "from, to": results_file.span(min(times), max(times), 1),
                    "of the first": round(median(times) / first, 2),
                    "processor seconds": round(median(row["processor_seconds"] for row in rows)),
                    "peak MB": round(max(row["peak_megabytes"] for row in rows)),
                    "weights": ", ".join(sorted({row["weights"][:8] for row in rows})),
                }
            )
    title = "Members of a vote on `clothing`, trained over filled stores (median of n)."
    results.summarise([title], tables)


if __name__ == "__main__":
    main()
