"""Forecast learning curves at twice the data, and plant curves that must be refused.

Real: frozen-trunk features of `clothing`, `elpv`, 19,000 pictures of CIFAR-10 (its whole test
set among them) and 12,000 of Fashion-MNIST. Of each set four draws of n pictures are measured
by `sevenfold curve`'s own course and forecast at 2n; then a head is trained on 2n pictures,
the n among them, and judged on all that no curve saw, the sets' own test pictures among
those. Beside it the plain power law, fitted once to the same points. An interval that holds
the truth is told as covered. How many pictures choose the heads' prior was set after the first
two draws had been seen; the other two are fresh.

Simulated: sound curves of five shapes, none of them among the fitted families, with the
noise of ten repetitions, and bad ones (a peak, a decline, a late jump, too few sizes):
how many of each are refused.

The simulated part takes a minute and a half. The real part is the activations of 37,000
pictures at sides of 64 and 96 (about 4 minutes on one thread) and 5,000 heads (6 minutes).

    python benchmarks/curve.py --data PATH [--only simulated]
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import results_file
from results_file import Results, Row

CURVES = 200
REPETITIONS, SIZES = 10, 9
DRAWS, SEEN = 4, 2
SETS = {
    "clothing": (96, (350, 700, 1300)),
    "elpv": (96, (250, 500, 900)),
    "cifar10": (96, (500, 1000, 2000, 4000)),
    "fashion-mnist": (64, (500, 1000, 2000, 4000)),
}
Array = np.ndarray[Any, Any]

SOUND = {
    "shifted power": lambda x, r: 0.05 * r[0] + 0.15 * (x + 0.05 * r[1]) ** -(0.2 + 0.4 * r[2]),
    "two powers": lambda x, r: 0.05 * r[0] + 0.1 * x ** -(0.1 + 0.2 * r[1]) + 0.03 * x**-1.0,
    "Weibull": lambda x, r: 0.1 + 0.2 * r[0] + 0.4 * np.exp(-1.5 * x ** (0.2 + 0.3 * r[1])),
    "Hill": lambda x, r: 0.05 + 0.1 * r[0] + 0.5 / (1 + (x / (0.05 + 0.2 * r[1])) ** 0.7),
    "flat": lambda x, r: 0.1 + 0.3 * r[0] + 0.0 * x,
}
BAD = {
    "peak": lambda x, r: (
        _base(x, r) + (0.04 + 0.04 * r[2]) * np.exp(-0.5 * ((np.log2(x) + 1.5 + r[1]) / 0.4) ** 2)
    ),
    "decline": lambda x, r: _base(x, r) + (0.03 + 0.04 * r[1]) * np.maximum(0, np.log2(x / 0.3)),
    "late jump": lambda x, r: 0.3 + 0.2 * r[0] - (0.12 + 0.1 * r[1]) * (x > 0.3 + 0.3 * r[2]),
}


def _base(x: Array, r: Array) -> Array:
    return 0.1 + 0.1 * r[0] + 0.12 * x**-0.25


def simulated(shape: Any, random: np.random.Generator, sizes: int = SIZES) -> Any:
    """Draw a curve with the noise of folds of 300 pictures and of nested subsets."""
    from sevenfold.studies.curve import Curve

    x = np.sqrt(0.5) ** np.arange(sizes)[::-1]
    truth = np.clip(shape(x, random.uniform(size=3)), 0.01, 0.95)
    of_folds = random.normal(0, 0.015, (REPETITIONS, 1))
    of_subsets = random.normal(0, 0.008, (REPETITIONS, sizes)) * (x**-0.25)
    return Curve(2000 * x, np.clip(truth + of_folds + of_subsets, 0, 1)), truth


def plant(results: Results, curves: int) -> None:
    """Count how many curves of each shape are refused, and how forecasts of sound ones fare."""
    from sevenfold.studies.curve import forecast as forecasts

    for kind, shapes in (("sound", SOUND), ("bad", {**BAD, "too few sizes": SOUND["Weibull"]})):
        for name, shape in shapes.items():
            key = f"simulated {name} curves={curves}"
            if not results.missing(key):
                continue
            refused, missed, plain, covered = 0, [], [], []
            for number in range(curves):
                random = np.random.default_rng([number, len(name)])
                few = 4 if name == "too few sizes" else SIZES
                state = random.bit_generator.state
                curve, _ = simulated(shape, random, few)
                if forecasts.refusal(curve):
                    refused += 1
                    continue
                random.bit_generator.state = state
                truth = float(1 - np.clip(shape(np.array([2.0]), random.uniform(size=3)), 0, 1)[0])
                place = np.array([2 * curve.pictures[-1]])
                found = forecasts.forecast(curve, place)
                low, high = (float(end[0]) for end in found.ends())
                missed.append(abs(float(found.middle[0]) - truth))
                plain.append(abs(float(forecasts.power_law(curve, place)[0]) - truth))
                covered.append(low <= truth <= high)
            facts: Row = {"kind": kind, "shape": name, "refused": refused}
            if kind == "sound" and missed:
                facts |= {
                    "missed": float(np.median(missed)),
                    "plain": float(np.median(plain)),
                    "covered": float(np.mean(covered)),
                }
            results.append(key, seed=0, n=curves, **facts)


def described(name: str, data: Path, side: int, smoke: bool, threads: int) -> tuple[Any, Array]:
    """Return a split whose test pictures are the truth's, and the features of all pictures."""
    from sevenfold import data as datasets
    from sevenfold import recipe, trial
    from sevenfold.features.pixels import opened
    from sevenfold.progress import Lines
    from sevenfold.studies.curve import heads

    progress = Lines(sys.stderr)
    pixels, dataset = opened(
        _source(name, data, smoke), side, small_classes="drop", threads=threads, progress=progress
    )
    split = datasets.split(dataset, test=0.15)
    settings = recipe.apply(recipe.Recipe(), (f"side={side}",))
    everything = np.arange(len(dataset))
    place = trial.place("cpu", threads)
    return split, heads.described(dataset, everything, settings, pixels, place, progress)


def _source(name: str, data: Path, smoke: bool) -> str:
    """Return what is read: at most 12,000 pictures, with a test part of their own."""
    if name == "elpv":
        return "elpv"
    if name == "clothing":
        return str(data / "clothing")
    place = Path(tempfile.mkdtemp(prefix="sevenfold-curve-"))
    if name == "cifar10":
        _parquet(data / "cifar10", place, 600 if smoke else 9_000, 100 if smoke else 10_000)
    else:
        _fashion(place, 600 if smoke else 9_000, 100 if smoke else 3_000)
    return str(place)


def _parquet(folder: Path, place: Path, train: int, test: int) -> None:
    """Write so many pictures of each role as files."""
    import pyarrow.parquet

    for role, count in (("train", train), ("test", test)):
        rows = pyarrow.parquet.read_table(folder / f"{role}.parquet")
        picked = np.random.default_rng(0).permutation(len(rows))[:count]
        for number, row in enumerate(rows.take(picked).to_pylist()):
            target = place / role / str(row["label"])
            target.mkdir(parents=True, exist_ok=True)
            (target / f"{number}.jpg").write_bytes(row["image"]["bytes"])


def _fashion(place: Path, train: int, test: int) -> None:
    from sevenfold import data as datasets

    listing = datasets.scan("fashion-mnist", columns={}, group_by="")
    for role, count in (("train", train), ("test", test)):
        photos = [photo for photo in listing.photos if photo.role == role]
        for number in np.random.default_rng(0).permutation(len(photos))[:count].tolist():
            target = place / role / photos[number].label
            target.mkdir(parents=True, exist_ok=True)
            (target / f"{number}.bmp").write_bytes(listing.source.load(photos[number]))


def one(results: Results, name: str, split: Any, rows: Array, size: int, draw: int) -> None:
    """Measure a curve on some pictures, forecast twice as many, and train on those."""
    from sevenfold import recipe
    from sevenfold.place import Place
    from sevenfold.practices.growth import Growth, given
    from sevenfold.progress import silent
    from sevenfold.studies.curve import course, curve_facts, forecast

    key = f"{name} pictures={size} draw={draw}"
    if not results.missing(key):
        return
    pool = course.opened(split)
    twice = given(pool, Growth(min(1.0, 2 * size / len(pool.train))), 7000 + draw)
    double = replace(pool, train=twice)
    some = replace(pool, train=given(double, Growth(size / len(twice)), 8000 + draw))
    run = course.Course(
        some,
        rows[some.train],
        recipe.Recipe(),
        Place("cpu", 1),
        course.repetitions(some, REPETITIONS),
        draw,
        Path(),
        silent,
        worth_of=0,
    )
    measured = course.run(run)
    facts = curve_facts(measured, len(some.train), 0.0)
    curve = course.curve_of(measured)
    place = np.array([float(len(some.train)), float(len(twice))])
    plain = forecast.power_law(curve, place).tolist()
    judged = np.setdiff1d(np.concatenate([pool.train, split.test]), twice)
    truth = accuracy(split, rows, run, judged, some.train, double)
    results.append(
        key,
        seed=draw,
        n=len(some.train),
        set=name,
        twice=len(twice),
        refused=facts["refused"],
        forecast=forecast_at(curve, place) if not facts["refused"] else [],
        plain=plain,
        truth=truth,
        judged=len(judged),
    )


def forecast_at(curve: Any, place: Array) -> list[dict[str, float]]:
    """Return the forecast at each place."""
    from sevenfold.studies.curve import forecast

    found = forecast.forecast(curve, place)
    ends = found.ends()
    return [
        {"accuracy": float(a), "low": float(b), "high": float(c)}
        for a, b, c in zip(found.middle, *ends, strict=True)
    ]


def accuracy(
    split: Any, rows: Array, run: Any, judged: Array, few: Array, double: Any
) -> dict[str, float]:
    """Return the accuracy of heads that are trained on the pictures, and on twice as many."""
    from sevenfold.studies.curve import course, heads

    labels = split.dataset.labels
    strength = course.strength(run)
    found = {}
    for name, pictures in (("now", few), ("twice", double.train)):
        axes = heads.axes(rows[pictures])
        head = heads.trained(axes.of(rows[pictures]), labels[pictures], strength)
        found[name] = float(heads.right(head, axes.of(rows[judged]), labels[judged]).mean())
    return found


def summary(results: Results) -> None:
    """Write the table of real curves."""
    rows = results.rows()
    tables = [
        _told(name, some)
        for name, first in (*((name, 0) for name in SETS), ("all, fresh draws", SEEN), ("all", 0))
        if (
            some := [
                row
                for row in rows
                if row["seed"] >= first and (row["set"] == name or name.startswith("all"))
            ]
        )
    ]
    results.summarise(
        [
            "Learning curves: forecasts of the accuracy with twice the pictures, in points, "
            "against heads trained on twice the pictures."
        ],
        tables,
    )


def summary_planted(results: Results) -> None:
    """Write the table of planted curves."""
    tables = [
        {
            "shape": row["shape"],
            "kind": row["kind"],
            "curves": row["n"],
            "refused": f"{row['refused'] / row['n']:.1%}",
            "median miss": f"{100 * row['missed']:.2f}" if "missed" in row else "",
            "plain power law": f"{100 * row['plain']:.2f}" if "plain" in row else "",
            "covered": f"{row['covered']:.0%}" if "covered" in row else "",
        }
        for row in results.rows()
    ]
    results.summarise(
        [
            "Planted learning curves: how many are refused, and how forecasts of the sound ones "
            "at twice the pictures miss, in points."
        ],
        tables,
    )


def _told(name: str, rows: list[Row]) -> Row:
    """Sum up forecasts; the gain is what the set's own level cannot blur."""
    made = [row for row in rows if not row["refused"]]
    truths = [row["truth"] for row in made]
    missed = [
        abs(row["forecast"][1]["accuracy"] - t["twice"])
        for row, t in zip(made, truths, strict=True)
    ]
    plain = [abs(row["plain"][1] - t["twice"]) for row, t in zip(made, truths, strict=True)]
    gained = [
        abs(
            (row["forecast"][1]["accuracy"] - row["forecast"][0]["accuracy"])
            - (t["twice"] - t["now"])
        )
        for row, t in zip(made, truths, strict=True)
    ]
    covered = [
        row["forecast"][1]["low"] <= t["twice"] <= row["forecast"][1]["high"]
        for row, t in zip(made, truths, strict=True)
    ]
    return {
        "data": name,
        "cases": len(rows),
        "refused": len(rows) - len(made),
        "median miss": f"{100 * np.median(missed):.2f}",
        "worst": f"{100 * max(missed):.2f}",
        "plain power law": f"{100 * np.median(plain):.2f}",
        "its worst": f"{100 * max(plain):.2f}",
        "median miss of the gain": f"{100 * np.median(gained):.2f}",
        "covered": f"{sum(covered)} of {len(covered)}",
    }


def main() -> None:
    """Measure what is missing, then sum up."""
    options = results_file.parser(__doc__)
    options.add_argument("--only", nargs="+", default=["simulated", *SETS])
    options.add_argument("--draws", type=int, default=DRAWS)
    asked = options.parse_args()
    results = results_file.opened("curve", asked)
    if "simulated" in asked.only:
        planted = results_file.opened("curve_planted", asked)
        plant(planted, 10 if asked.smoke else CURVES)
        summary_planted(planted)
    for name, (side, sizes) in SETS.items():
        if name not in asked.only:
            continue
        if asked.smoke:
            sizes = (200,)
            asked.draws, side = 1, 64
        cases = [(size, draw) for size in sizes for draw in range(asked.draws)]
        if not any(results.missing(f"{name} pictures={n} draw={d}") for n, d in cases):
            continue
        os.environ.setdefault("SEVENFOLD_CACHE", tempfile.mkdtemp(prefix="sevenfold-curve-"))
        split, rows = described(name, asked.data, side, asked.smoke, asked.cores)
        for size, draw in cases:
            one(results, name, split, rows, size, draw)
    if set(asked.only) & set(SETS):
        summary(results)


if __name__ == "__main__":
    main()
