"""Measure what augmentation gains: the default ranges against none, the policy against them.

`clothing` by its own folders, `elpv` (75/25, one split) and 5,000 pictures of CIFAR-10 (500 a
class, one draw; judged on 2,000 of its test set). Each is trained by `train.fit` as at the quick
budget, at a smaller side and a fixed rate, without label check, accuracy as the objective:
EfficientNet-Lite0 with a frozen trunk, since from scratch a training of 5,000 pictures that is
long enough to mean something would take ten times as long. Three arms: `off`, `default`
and `trivial` (the default with `policy=trivial`), at least three seeds each. The network itself
answers, from one view of a picture.

Gains are paired: over seeds with Student's interval, which tells what another training would
do, and over pictures (each one's mean over the seeds), which tells what other pictures would.

An arm takes about 40 s for its stored views and 70 s a training on clothing and elpv, 50 on
CIFAR-10: half an hour in all on two cores with three seeds. Where that is too much, give
fewer `--pictures` first, then `--epochs`, then `--arms`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import numpy as np

import results_file
from results_file import Results, Row, span, t_interval

if TYPE_CHECKING:
    from sevenfold.data import Split
    from sevenfold.recipe import Recipe

ARMS = ("off", "default", "trivial")
SIDES = {"clothing": 160, "elpv": 160, "cifar10": 96}
CONTRASTS = (("default", "off"), ("trivial", "default"))
PICTURES, JUDGED = 5000, 2000
RATE = 2e-3  # what the probe chooses on clothing: it must not differ between arms


def cifar(folder: Path, place: Path, smoke: bool) -> str:
    """Write the subset of CIFAR-10 as one table with its roles."""
    import pyarrow
    import pyarrow.parquet

    parts, random = [], np.random.default_rng(0)
    for role, name, count in (("train", "train", PICTURES), ("test", "test", JUDGED)):
        whole = pyarrow.parquet.read_table(folder / "cifar10" / f"{name}.parquet")
        labels = np.array(whole["label"].to_pylist())
        classes = np.unique(labels)
        each = (200 if smoke else count) // len(classes)
        held = each * 3 // 20 if role == "train" else 0
        for label in classes:
            some = whole.take(random.permutation(np.flatnonzero(labels == label))[:each])
            roles = ["val"] * held + [role] * (each - held)
            parts.append(some.append_column("split", pyarrow.array(roles)))
    pyarrow.parquet.write_table(pyarrow.concat_tables(parts), place / "some.parquet")
    return str(place / "some.parquet")


def source(name: str, asked: argparse.Namespace, place: Path) -> str:
    """Return what is read."""
    if name == "cifar10":
        return cifar(asked.data, place, asked.smoke)
    if name == "clothing" and asked.smoke:
        return str(results_file.part_of(asked.data / "clothing", place / "clothing", 12))
    return str(asked.data / "clothing") if name == "clothing" else name


def split_of(name: str, photos: str, asked: argparse.Namespace) -> Split:
    """Read a data set, with fewer pictures to train on where that is asked for."""
    from dataclasses import replace

    from sevenfold import data, draws
    from sevenfold.features.pixels import ingest
    from sevenfold.progress import silent

    dataset = data.read(
        photos,
        columns={},
        group_by="",
        fingerprints=lambda listing: ingest(
            listing, pixels=pixels_of(name, asked), threads=asked.cores, progress=silent
        ),
    )
    split = data.split(dataset, test=0.25) if name == "elpv" else data.split(dataset)
    most = 60 if asked.smoke else asked.pictures
    if most and most < len(split.train):
        numbers = draws.numbers([dataset.hashes[one] for one in split.train.tolist()])
        split = replace(split, train=np.sort(split.train[draws.order("fewer", numbers, 0)][:most]))
    return split


def pixels_of(name: str, asked: argparse.Namespace) -> Any:
    """Return the store of a set's pictures."""
    from sevenfold.features.pixels import for_training

    return for_training(side_of(name, asked))


def side_of(name: str, asked: argparse.Namespace) -> int:
    """Return the side of a set's pictures."""
    return 64 if asked.smoke else SIDES[name]


def recipe_of(name: str, arm: str, asked: argparse.Namespace) -> Recipe:
    """Return the recipe of an arm; nothing but the augmentation differs."""
    from sevenfold.recipe import Recipe, apply

    recipe = apply(
        Recipe(),
        (
            f"side={side_of(name, asked)}",
            f"epochs={asked.epochs}",
            "objective=accuracy",
            "imbalance.method=none",
            f"optimization.rate={RATE}",
            "augmentation.label_check=off",
        ),
    )
    if arm == "off":
        return recipe.without("augmentation")
    return apply(recipe, ["augmentation.policy=trivial"]) if arm == "trivial" else recipe


def measured(name: str, split: Split, arm: str, seed: int, asked: argparse.Namespace) -> Row:
    """Train once and answer the test pictures."""
    from sevenfold import train
    from sevenfold.place import Place
    from sevenfold.progress import silent
    from sevenfold.train.member import answers

    place = Place("cpu", asked.cores)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        fitted = train.fit(
            recipe_of(name, arm, asked),
            split,
            seed=seed,
            place=place,
            pixels=pixels_of(name, asked),
            folder=Path(folder),
            progress=silent,
        )
    seconds = time.perf_counter() - began
    logits = answers(fitted.ships[0].network, fitted.recipe, split.dataset, split.test, place)
    labels = split.dataset.labels[split.test]
    right = logits.argmax(axis=1) == labels
    recalls = [right[labels == label].mean() for label in np.unique(labels)]
    return {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(np.mean(recalls)),
        "right": np.packbits(right).tobytes().hex(),
        "trained_on": len(split.train),
        "epochs": fitted.recipe.epochs,
        "views": fitted.recipe.views,
        "seconds": seconds,
    }


def key(name: str, arm: str, seed: int, asked: argparse.Namespace) -> str:
    """Name one training by what it depends on."""
    size = f"pictures={asked.pictures or 'all'} side={side_of(name, asked)}"
    return f"{name} {size} epochs={asked.epochs or 'auto'} {arm} seed={seed}"


def one_set(results: Results, asked: argparse.Namespace, name: str) -> None:
    """Measure what a data set lacks, all from the same stores."""
    wanted = [(seed, arm) for seed in range(asked.seeds) for arm in asked.arms]
    missing = [(s, arm) for s, arm in wanted if results.missing(key(name, arm, s, asked))]
    if not missing:
        return
    with tempfile.TemporaryDirectory() as place:
        split = split_of(name, source(name, asked, Path(place)), asked)
        for seed, arm in missing:
            facts = measured(name, split, arm, seed, asked)
            where = key(name, arm, seed, asked)
            results.append(where, seed=seed, n=len(split.test), set=name, arm=arm, **facts)


def answers(row: Row) -> np.ndarray[Any, Any]:
    """Unpack which test pictures were answered rightly."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(row["right"]), np.uint8))
    return bits[: row["n"]].astype(float)


def gains(found: dict[tuple[str, int], Row], after: str, before: str) -> Row:
    """Compare two arms, paired by seed and by picture."""
    seeds = sorted({seed for arm, seed in found if arm == after and (before, seed) in found})
    pairs = [(found[after, seed], found[before, seed]) for seed in seeds]
    mean, low, high = t_interval([a["accuracy"] - b["accuracy"] for a, b in pairs])
    moved = np.mean([answers(a) - answers(b) for a, b in pairs], axis=0)
    half = 1.96 * float(moved.std(ddof=1)) / np.sqrt(len(moved))
    balanced, *ends = t_interval(
        [a["balanced_accuracy"] - b["balanced_accuracy"] for a, b in pairs]
    )
    return {
        "gain": f"{mean:+.3f}",
        "over seeds": span(low, high),
        "over pictures": span(mean - half, mean + half),
        "balanced accuracy": f"{balanced:+.3f} ({span(*ends)})",
    }


def summary(results: Results, asked: argparse.Namespace) -> None:
    """Write both tables of what was asked for."""
    known = {row["key"]: row for row in results.rows()}
    tables: list[Row] = []
    for name in asked.sets:
        found = {
            (arm, seed): known[where]
            for seed in range(asked.seeds)
            for arm in asked.arms
            if (where := key(name, arm, seed, asked)) in known
        }
        for after, before in CONTRASTS:
            if not any((after, seed) in found and (before, seed) in found for _, seed in found):
                continue
            arms = {arm: [row for (own, _), row in found.items() if own == arm] for arm in ARMS}
            first = arms[after][0]
            tables.append(
                {
                    "data": name,
                    "trained on": first["trained_on"],
                    "judged on": first["n"],
                    "side": side_of(name, asked),
                    "epochs": first["epochs"],
                    "seeds": len(arms[after]),
                    "compared": f"{after} to {before}",
                    "accuracy": f"{fmean(row['accuracy'] for row in arms[after]):.3f}",
                    **gains(found, after, before),
                    "seconds": f"{median(row['seconds'] for row in arms[after]):.0f}",
                }
            )
    title = (
        "Gain of the default augmentation over none, and of `policy=trivial` over the default: "
        "EfficientNet-Lite0 behind a frozen trunk as at the quick budget. Differences of test "
        "accuracy paired by seed, with Student's interval over seeds and the normal one over "
        "pictures, each the mean over the seeds."
    )
    results.summarise([title], tables)


def main() -> None:
    """Measure what is missing, then sum up."""
    options = results_file.parser(__doc__)
    options.add_argument("--sets", nargs="+", choices=SIDES, default=list(SIDES))
    options.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--pictures", type=int, default=0, help="to train on; 0 is all")
    options.add_argument("--epochs", type=int, default=0, help="0 is what the budget takes")
    options.add_argument("--summary", action="store_true", help="only write the table")
    asked = options.parse_args()
    if asked.smoke:
        asked.seeds, asked.epochs = 2, 1
    results = results_file.opened("augmentation_gain", asked)
    # Imported late: the process is bound to its cores first.
    import torch

    torch.set_num_threads(asked.cores)
    with tempfile.TemporaryDirectory() as stores:
        os.environ["SEVENFOLD_CACHE"] = stores
        for name in () if asked.summary else asked.sets:
            one_set(results, asked, name)
    summary(results, asked)


if __name__ == "__main__":
    main()
