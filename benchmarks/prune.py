"""Prune the EfficientNet-Lite0 model of `clothing` at 160 pixels by the command line.

`train` at the quick budget makes the run; `prune` cuts it to `--target` in two steps of
six epochs each, with the unpruned network trained as long and channels kept at random
beside it, and judges all of them by their exported files: test opened once, latencies in a
fresh process on one thread, interleaved. The time is that of the whole command.

About 3 minutes to train, and for each target some 25 with `--controls dense`, 35 with `all`,
on two cores: 12 epochs on pixels at 20 ms a picture, twice with the control.

`--per-class` shrinks it further, by training pictures; its figures are kept apart.

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

TARGETS = ("macs=0.6,parameters=0.5",)
REFUSED = 6  # exit code of a gate


def command(*words: object) -> list[str]:
    """Return a command line of this package."""
    return [sys.executable, "-m", "sevenfold.cli", *map(str, words), "--json"]


def measure(results: Results, data: Path, options: argparse.Namespace) -> None:
    """Train once, then prune a copy of the run to each target that is missing."""
    settings = ["--set", "objective=accuracy", "--set", "side=160"]
    if options.smoke:
        quick = ("epochs=1", "views=1", "side=64", "optimization.rate=0.003")
        settings += [word for one in quick for word in ("--set", one)]
    how = f"{options.controls}/{options.steps}x{options.epochs_per_step}"
    how += "/half" if options.controls == "none" else "/led"
    how += f"/{options.per_class}" if options.per_class else ""
    how += f"/seed {options.seed}" if options.seed else ""
    keys = {f"{target}/{how}": target for target in options.targets}
    wanted = {key: target for key, target in keys.items() if results.missing(key)}
    if not wanted:
        return
    place = Path(tempfile.mkdtemp(prefix="sevenfold-prune-"))
    stores = {"SEVENFOLD_CACHE": str(place / "stores")}
    run = place / "run"
    trained = measured(
        command("train", data, "--out", run, "--seed", options.seed, *settings), stores
    )
    for key, target in wanted.items():
        copy = shutil.copytree(run, place / "pruned")
        words = ["prune", copy, "--target", target, "--controls", options.controls]
        words += ["--seed", options.seed]
        words += ["--steps", options.steps, "--epochs-per-step", options.epochs_per_step]
        words += ["--max-drop", 0.9] if options.smoke else []
        found = measured(command(*words), stores, codes=(0, REFUSED))
        said = found.said
        told = {"refused": said["error"]} if found.code else {name: said[name] for name in TOLD}
        results.append(
            key,
            seed=options.seed,
            n=0 if found.code else said["test_pictures"],
            how=how,
            seconds=found.seconds,
            train_seconds=trained.seconds,
            peak_megabytes=found.peak_megabytes,
            **told,
        )
        shutil.rmtree(copy)
    shutil.rmtree(place)


TOLD = (
    "targets", "reached", "beyond", "macs_cut", "parameters_cut", "speedup", "steady", "drop",
    "drop_bound", "certified", "smallest_certifiable", "dense", "steps", "controls", "chosen",
)  # fmt: skip


COLUMNS = (
    "MACs", "parameters", "MB", "times as fast", "validation", "test", "drop at most", "on",
)  # fmt: skip


def rows(found: Row) -> list[Row]:
    """Return the table's rows: the network as it is, the steps, and the controls."""
    target = f"{found['key'].partition('/')[0]}, {found['how']}"
    if "refused" in found:
        return [{"target": target, "network": found["refused"]} | dict.fromkeys(COLUMNS, "")]
    dense, controls = found["dense"], found["controls"]
    lines = []
    for one in (dense, *found["steps"], *controls["dense"], *controls["smaller"]):
        speed = one.get("speedup")
        ships = one is found["steps"][found["chosen"] - 1]
        lines.append(
            {
                "target": target,
                "network": one["name"] + ", ships" * ships,
                "MACs": f"{one['macs'] / dense['macs']:.1%}",
                "parameters": f"{one['parameters'] / dense['parameters']:.1%}",
                "MB": f"{one['megabytes']:.1f}",
                "times as fast": f"{speed['median']:.2f} ({speed['low']:.2f} to "
                f"{speed['high']:.2f})" + ", not steady" * (not found["steady"])
                if speed
                else "",
                "validation": f"{one['validation']:.3f}",
                "test": f"{one['accuracy']:.3f}",
                "drop at most": "" if one is dense else f"{one['drop_bound']:.3f}",
                "on": results_file.measured_on([found]),
            }
        )
    return lines


def main() -> None:
    """Measure what is missing, then sum up."""
    asked = results_file.parser(__doc__)
    asked.add_argument("--targets", nargs="*", default=list(TARGETS))
    asked.add_argument("--controls", choices=("all", "dense", "none"), default="dense")
    asked.add_argument("--steps", type=int, default=2)
    asked.add_argument("--epochs-per-step", type=int, default=6)
    asked.add_argument("--seed", type=int, default=0, help="of the training and of the pruning")
    asked.add_argument("--per-class", type=int, default=0, help="pictures; 0 takes all")
    options = asked.parse_args()
    results = results_file.opened("prune", options)
    with tempfile.TemporaryDirectory() as folder:
        data = options.data / "clothing"
        if options.smoke:
            options.targets, options.controls = ["macs=0.8,parameters=0.6"], "none"
            options.steps = options.epochs_per_step = 1
            options.per_class = 110  # fewer would have no validation pictures
        if options.per_class:
            data = part_of(data, Path(folder) / "clothing", options.per_class)
        measure(results, data, options)
    found = results.rows(everywhere=True)
    minutes = ", ".join(f"{one['key']}: {one['seconds'] / 60:.0f} minutes" for one in found)
    titles = [
        "EfficientNet-Lite0 of clothing at 160 pixels, pruned by the command line; every row by "
        "its exported file, the network alone timed in onnxruntime on one thread. "
        f"Time of the whole command: {minutes}.",
    ]
    results.summarise(titles, [line for one in found for line in rows(one)], found)


if __name__ == "__main__":
    main()
