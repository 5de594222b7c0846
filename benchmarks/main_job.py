"""Run the main job by the command line: time, memory and accuracy on `clothing` and `elpv`.

`clothing`, its own folders as roles, objective accuracy, 3 seeds: from empty stores and
again with warm ones. `elpv`, a defect probability of at least 0.5 is the defective class,
75/25 split stratified by class and cell type, drawn anew for each of 3 seeds, with the
demonstration's settings. Every score is of the bundle, one view of a picture, opened once.

About 4 minutes a clothing run from empty stores, 2 with warm ones, 4 an elpv run at the
quick budget and 15 at the normal one: 30 minutes at quick, two hours with normal.
"""

from __future__ import annotations

import csv
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

import results_file
from results_file import Results, Row, measured, span, t_interval

SEEDS = (0, 1, 2)
DEMO = ("augmentation.flip_vertical=0.5", "augmentation.quarter_turns=true")
SCRATCH = (
    "transfer.backbone=resnet20",
    "transfer.weights=random",
    "transfer.trainable_blocks=1000",
    "side=32",
    "epochs=24",
    "batch=64",
)
SETTINGS = {"clothing": (), "elpv": DEMO, "cifar10": SCRATCH}
PUBLISHED = "88.4 % (fine-tuned VGG-19, Deitsch et al. 2019; another split)"


def train(data: Path, stores: Path, budget: str, seed: int, settings: tuple[str, ...]) -> dict:
    """Train in a fresh process and return the facts of a row."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "sevenfold.cli", "train", str(data)]
        command += ["--out", str(Path(place) / "run"), "--budget", budget, "--seed", str(seed)]
        for setting in settings:
            command += ["--set", setting]
        found = measured([*command, "--json"], {"SEVENFOLD_CACHE": str(stores)})
    said = found.said
    return {
        "seconds": found.seconds,
        "peak_megabytes": found.peak_megabytes,
        "accuracy": said["test"]["accuracy"],
        "balanced_accuracy": said["test"]["balanced_accuracy"],
        "interval": said["test"]["intervals"]["accuracy"],
        "nll": said["test"]["nll"],
        "calibration_error": said["test"]["calibration_error"],
        "validation_accuracy": said["validation"]["accuracy"],
        "bundle": said["bundle"],
        "stages": said["stages"],
        "test_pictures": said["test"]["pictures"],
    }


def clothing(results: Results, data: Path, budget: str, settings: tuple[str, ...]) -> None:
    """Measure each seed from empty stores, then, at quick, with what it left."""
    for seed in SEEDS:
        states = ("empty", "warm") if budget == "quick" else ("empty",)
        keys = [f"clothing/{budget}/{state}/{seed}" for state in states]
        if not results.missing(*keys):
            continue
        stores = Path(tempfile.mkdtemp(prefix="sevenfold-stores-"))
        for key in keys:
            row = train(data / "clothing", stores, budget, seed, ("objective=accuracy", *settings))
            results.append(key, seed=seed, n=row.pop("test_pictures"), **row)
        shutil.rmtree(stores)


def draw(path: Path, seed: int) -> None:
    """Write elpv as a table with a stratified 75/25 split of this seed."""
    import elpv_dataset

    root = Path(elpv_dataset.__file__).parent / "data"
    lines = [line.split() for line in (root / "labels.csv").read_text("utf-8").splitlines() if line]
    random = np.random.default_rng(seed)
    labels = ["defective" if float(share) >= 0.5 else "intact" for _, share, _ in lines]
    strata = [f"{label}/{kind}" for label, (_, _, kind) in zip(labels, lines, strict=True)]
    test = np.zeros(len(lines), bool)
    for stratum in sorted(set(strata)):
        members = np.flatnonzero(np.array(strata) == stratum)
        test[random.permutation(members)[: round(len(members) / 4)]] = True
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split"))
        for (name, _, _), label, held in zip(lines, labels, test, strict=True):
            writer.writerow((root / name, label, "test" if held else "train"))


def elpv(results: Results, stores: Path, budget: str, settings: tuple[str, ...]) -> None:
    """Measure each seed's own split."""
    for seed in SEEDS:
        key = f"elpv/{budget}/{seed}"
        if not results.missing(key):
            continue
        table = stores / f"elpv{seed}.csv"
        draw(table, seed)
        row = train(table, stores, budget, seed, (*DEMO, "objective=accuracy", *settings))
        results.append(key, seed=seed, n=row.pop("test_pictures"), **row)


def summarise(results: Results) -> None:
    """Write the tables of README."""
    found = results.rows(everywhere=True, each=True)
    tables, told = [], []
    for name, test in (
        ("clothing/quick/empty", "clothing, quick, empty stores"),
        ("clothing/quick/warm", "clothing, quick, warm stores"),
        ("clothing/normal/empty", "clothing, normal, empty stores"),
        ("elpv/quick", "elpv, quick"),
        ("elpv/normal", "elpv, normal"),
    ):
        here = [row for row in found if row["key"].rpartition("/")[0] == name]
        for device in dict.fromkeys(row["device"] for row in here):
            mine = [row for row in here if row["device"] == device]
            told += mine
            tables.append(line(test, mine))
    titles = [
        "The main job by the command line, all in from photo files to the report; one view of "
        f"a picture, through the bundle. Published for elpv: {PUBLISHED}; no victory is claimed.",
    ]
    results.summarise(titles, tables, told)


def line(test: str, mine: list[Row]) -> Row:
    """Sum up the seeds of one kind of run on one machine."""
    mean, low, high = t_interval([row["accuracy"] for row in mine])
    return {
        "data and budget": test,
        "seeds": len(mine),
        "test pictures": mine[0]["n"],
        "test accuracy": f"{mean:.3f}",
        "95 % interval over seeds": span(low, high),
        "balanced": f"{np.mean([row['balanced_accuracy'] for row in mine]):.3f}",
        "seconds, median": f"{np.median([row['seconds'] for row in mine]):.0f}",
        "peak memory MB": f"{max(row['peak_megabytes'] for row in mine):.0f}",
        "model MB": f"{mine[0]['bundle']['megabytes']:.1f}",
        "latency ms": f"{np.median([row['bundle']['latency_ms'] for row in mine]):.1f}",
        "on": mine[0]["device"],
        "revision": " and ".join(dict.fromkeys(row["commit"][:7] for row in mine)),
    }


def main() -> None:
    """Measure what is missing."""
    asked = results_file.parser(__doc__)
    asked.add_argument("--only", choices=("clothing", "elpv"), default="")
    asked.add_argument("--budget", default="quick")
    options = asked.parse_args()
    results = results_file.opened("clothing", options)
    settings = ("epochs=1", "views=1") if options.smoke else ()
    if options.only in ("", "clothing"):
        clothing(results, options.data, options.budget, settings)
    if options.only in ("", "elpv"):
        with tempfile.TemporaryDirectory() as stores:
            elpv(results, Path(stores), options.budget, settings)
    summarise(results)


if __name__ == "__main__":
    main()
