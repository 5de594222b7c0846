"""Train on 200 and 500 photos of `clothing`, against logistic regression on trunk features.

Five draws of each size from the training folder, stratified, at least 5 of each class;
all are judged on the folders test and validation together (713 pictures that none of
them trains on or chooses by). Ours is `train --budget quick --set objective=accuracy`
on a CSV with a column split, that is the way for small data. The rival: the same
backbone at `--side`, pooled features of the plain picture, standardised, C chosen by
stratified 5-fold cross-validation. Differences are paired by draw: over the draws with
Student's interval, and within a draw over the pictures that both answered.

No time is told, so that draws of several machines count together. About an hour on two cores:
10 runs of six trainings each, half a minute for all features.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

import backbone
import results_file
from results_file import Results, Row, measured

LEAST = 5
Array = np.ndarray[Any, Any]


def draw(labels: Array, size: int, seed: int) -> Array:
    """Draw indexes in proportion to the classes, at least five of each."""
    random = np.random.default_rng([seed, size])
    counts = np.bincount(labels)
    exact = counts * size / counts.sum()
    quotas = np.maximum(np.floor(exact).astype(int), LEAST)
    while quotas.sum() != size:  # the largest remainders first
        gap = exact - quotas
        if quotas.sum() < size:
            quotas[int(np.argmax(gap))] += 1
        else:
            quotas[int(np.argmin(np.where(quotas > LEAST, gap, np.inf)))] -= 1
    members = (np.flatnonzero(labels == label) for label in range(len(counts)))
    return np.sort(
        np.concatenate(
            [random.choice(some, n, replace=False) for some, n in zip(members, quotas, strict=True)]
        )
    )


def logistic(train: Array, labels: Array, test: Array, folds: int) -> tuple[Array, float]:
    """Return the answers to the test pictures and the C that cross-validation chose."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    grid = {"logisticregression__C": np.logspace(-5, 0, 6)}
    parts = StratifiedKFold(folds, shuffle=True, random_state=0)
    search = GridSearchCV(model, grid, cv=parts).fit(train, labels)
    return search.predict(test), float(search.best_params_["logisticregression__C"])


def ours(
    train: list[Path], test: list[Path], stores: Path, seed: int, asked: argparse.Namespace
) -> tuple[dict[str, str], Row]:
    """Train by the command line; return the answer to each test picture and the row's facts."""
    with tempfile.TemporaryDirectory() as place:
        table = Path(place) / "draw.csv"
        with table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("path", "label", "split"))
            for role, paths in (("train", train), ("test", test)):
                writer.writerows((path.resolve(), path.parent.name, role) for path in paths)
        run = Path(place) / "run"
        command = [sys.executable, "-m", "sevenfold.cli", "train", str(table), "--out", str(run)]
        command += ["--budget", "quick", "--set", "objective=accuracy", "--seed", str(seed)]
        command += ["--threads", str(asked.cores), "--device", "cpu", "--json"]
        command += ["--set", "epochs=1", "--set", "views=1"] if asked.smoke else []
        found = measured(command, {"SEVENFOLD_CACHE": str(stores)})
        with (run / "predictions.csv").open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["role"] == "test"]
    answers = {Path(row["path"]).name: row["answer"] for row in rows}
    facts = {"seconds": found.seconds, "peak_megabytes": found.peak_megabytes}
    return answers, {**facts, "said": found.said["test"]["accuracy"]}


def paired(ours_right: Array, rival_right: Array) -> Row:
    """Return the difference of accuracies with its interval over the pictures (McNemar's)."""
    gap = ours_right.astype(int) - rival_right.astype(int)
    difference = float(gap.mean())
    half = 1.96 * math.sqrt(float(gap.var()) / len(gap))
    return {
        "ours": float(ours_right.mean()),
        "logistic": float(rival_right.mean()),
        "difference": difference,
        "low": difference - half,
        "high": difference + half,
    }


def one_draw(results: Results, asked: argparse.Namespace, pool: Row, size: int, seed: int) -> None:
    """Measure both on one draw."""
    key = key_of(size, asked.side, seed)
    if not results.missing(key, everywhere=True):
        return
    chosen = draw(pool["labels"], size, seed)
    with tempfile.TemporaryDirectory() as stores:  # of another draw they would save time
        photos = [pool["paths"][i] for i in chosen]
        answers, facts = ours(photos, pool["held"], Path(stores), seed, asked)
    features = pool["features"]
    both = logistic(features[0][chosen], pool["labels"][chosen], features[1], pool["folds"])
    names = [path.name for path in pool["held"]]
    truth = pool["held_labels"]
    known = np.array([name in answers for name in names])
    right = np.array([answers.get(path.name) == path.parent.name for path in pool["held"]])
    facts |= paired(right[known], (both[0] == truth)[known])
    results.append(
        key, seed=seed, n=int(known.sum()), size=size, side=asked.side, C=both[1], **facts
    )


def key_of(size: int, side: int, seed: int) -> str:
    """Name a row."""
    return f"size={size} side={side} draw={seed}"


def gathered(folder: Path, asked: argparse.Namespace) -> Row:
    """Read the lists and compute the features of all pictures once."""
    paths, labels, _ = backbone.listed(folder, "train")
    held = [backbone.listed(folder, role) for role in ("validation", "test")]
    held_paths = [path for some, _, _ in held for path in some]
    pixels = backbone.pictures([*paths, *held_paths], asked.side, asked.cores)
    found = backbone.features(pixels, asked.cores)
    return {
        "paths": paths,
        "labels": labels,
        "held": held_paths,
        "held_labels": np.concatenate([some for _, some, _ in held]),
        "features": (found[: len(paths)], found[len(paths) :]),
        "folds": 5,
    }


def summary(results: Results, sizes: list[int], side: int) -> None:
    """Write the table."""
    tables, found = [], results.rows(everywhere=True)
    for size in sizes:
        rows = [row for row in found if (row["size"], row["side"]) == (size, side)]
        if not rows:
            continue
        mean, low, high = results_file.t_interval([row["difference"] for row in rows])
        worst = min(rows, key=lambda row: row["difference"])
        tables.append(
            {
                "training photos": size,
                "draws": len(rows),
                "Sevenfold": fmean(row["ours"] for row in rows),
                "logistic regression": fmean(row["logistic"] for row in rows),
                "difference": f"{mean:+.3f}",
                "95 % interval": results_file.span(low, high),
                "worst draw": f"{worst['difference']:+.3f}",
                "its interval": results_file.span(worst["low"], worst["high"]),
                "draws better": sum(row["difference"] > 0 for row in rows),
            }
        )
    title = (
        "Few photos of `clothing`, accuracy on the same 713 pictures for all: mean over draws, "
        "the paired difference with Student's interval over draws, and the worst draw with its "
        "own interval over pictures."
    )
    results.summarise([title], tables, found)


def main() -> None:
    """Measure what is missing, then sum up."""
    options = results_file.parser(__doc__)
    options.add_argument("--sizes", type=int, nargs="+", default=[200, 500])
    options.add_argument("--draws", type=int, default=5)
    options.add_argument("--side", type=int, default=224, help="of the rival's pictures")
    asked = options.parse_args()
    results = results_file.opened("small", asked)
    with tempfile.TemporaryDirectory() as place:
        folder = asked.data / "clothing"
        if asked.smoke:
            folder = results_file.part_of(folder, Path(place) / "some", 8)
            asked.sizes, asked.draws, asked.side = [60], 1, 64
        pairs = [(size, seed) for size in asked.sizes for seed in range(asked.draws)]
        keys = [key_of(size, asked.side, seed) for size, seed in pairs]
        if results.missing(*keys, everywhere=True):
            pool = gathered(folder, asked)
            for size, seed in pairs:
                one_draw(results, asked, pool, size, seed)
    summary(results, asked.sizes, asked.side)


if __name__ == "__main__":
    main()
