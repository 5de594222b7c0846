"""Prune the EfficientNet-Lite0 model of `clothing` at 160 pixels by the command line.

`train` at the quick budget makes the run; `prune` cuts it to `--target` in four steps of
three epochs each, with the unpruned network trained as long and channels kept at random
beside it, and judges all of them by their exported files: test opened once, latencies in a
fresh process on one thread, interleaved. The time is that of the whole command.

About 4 minutes to train and 40 to prune on two cores; the limit that it is held to is 40
with the dense control, so `--controls dense` leaves the random one off.

    python benchmarks/prune.py --data PATH
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import results_file
from results_file import Results, Row, measured, part_of

TARGETS = ("macs=0.55", "parameters=0.45")
SEED = 0


def command(*words: object) -> list[str]:
    """Return a command line of this package."""
    return [sys.executable, "-m", "sevenfold.cli", *map(str, words), "--json"]


def measure(results: Results, data: Path, options: argparse.Namespace) -> None:
    """Train once, then prune a copy of the run to each target that is missing."""
    settings = ["--set", "objective=accuracy", "--set", "side=160"]
    if options.smoke:
        settings += ["--set", "epochs=1", "--set", "views=1"]
    keys = {f"{target}/{options.controls}": target for target in options.targets}
    wanted = {key: target for key, target in keys.items() if results.missing(key)}
    if not wanted:
        return
    place = Path(tempfile.mkdtemp(prefix="sevenfold-prune-"))
    stores = {"SEVENFOLD_CACHE": str(place / "stores")}
    run = place / "run"
    trained = measured(command("train", data, "--out", run, "--seed", SEED, *settings), stores)
    for key, target in wanted.items():
        copy = shutil.copytree(run, place / "pruned")
        words = ["prune", copy, "--target", target, "--controls", options.controls]
        if options.smoke:
            words += ["--steps", 1, "--epochs-per-step", 1, "--max-drop", 0.9]
        found = measured(command(*words), stores)
        said = found.said
        results.append(
            key,
            seed=SEED,
            n=said["test_pictures"],
            seconds=found.seconds,
            train_seconds=trained.seconds,
            peak_megabytes=found.peak_megabytes,
            **{name: said[name] for name in TOLD},
        )
        shutil.rmtree(copy)
    shutil.rmtree(place)


TOLD = (
    "target", "reached", "macs_cut", "parameters_cut", "speedup", "steady", "drop", "drop_bound",
    "certified", "smallest_certifiable", "dense", "steps", "controls", "chosen",
)  # fmt: skip


def rows(found: Row) -> list[Row]:
    """Return the table's rows: the network as it is, the steps, and the controls."""
    dense, controls = found["dense"], found["controls"]
    lines = []
    for one in (dense, *found["steps"], *controls["dense"], *controls["smaller"]):
        speed = one.get("speedup")
        ships = one is found["steps"][found["chosen"] - 1]
        lines.append(
            {
                "target": found["key"].partition("/")[0],
                "network": one["name"] + ", ships" * ships,
                "MACs": f"{one['macs'] / dense['macs']:.1%}",
                "parameters": f"{one['parameters'] / dense['parameters']:.1%}",
                "MB": f"{one['megabytes']:.1f}",
                "times as fast": f"{speed['median']:.2f} ({speed['low']:.2f} to "
                f"{speed['high']:.2f})"
                if speed
                else "",
                "validation": f"{one['validation']:.3f}",
                "test": f"{one['accuracy']:.3f}",
                "drop at most": "" if one is dense else f"{one['drop_bound']:.3f}",
            }
        )
    return lines


def main() -> None:
    """Measure what is missing, then sum up."""
    asked = results_file.parser(__doc__)
    asked.add_argument("--targets", nargs="*", default=list(TARGETS))
    asked.add_argument("--controls", choices=("all", "dense", "none"), default="dense")
    options = asked.parse_args()
    results = results_file.opened("prune", options)
    with tempfile.TemporaryDirectory() as folder:
        data = options.data / "clothing"
        if options.smoke:
            options.targets, options.controls = ["macs=0.6"], "none"
            data = part_of(data, Path(folder) / "clothing", 110)
        measure(results, data, options)
    found = results.rows()
    minutes = ", ".join(f"{one['key']}: {one['seconds'] / 60:.0f} minutes" for one in found)
    titles = [
        "EfficientNet-Lite0 of clothing at 160 pixels, pruned by the command line; every row by "
        "its exported file, the network alone timed in onnxruntime on one thread. "
        f"Time of the whole command: {minutes}.",
    ]
    results.summarise(titles, [line for one in found for line in rows(one)])


if __name__ == "__main__":
    main()
