"""Train with every method of imbalance on two uneven sets, and tell the gain and its price.

`long tail`: CIFAR-10 with 1,000 pictures of the first class down to 10 of the tenth, each
class by a like factor fewer (Cao et al. 2019). `pair`: 1,000 pictures of one class against
50 of another, the first of `--pairs`. `pretrained pair`: such pictures of each of `--pairs`
as the tool's users would train on them, by the default network with a frozen trunk at 96
pixels and the quick budget's own settings but for one fixed rate. Validation has 15 % as
many of each class, at least 2. The pictures are drawn anew for each seed and judged on the
whole test set of their classes, which is even, and which nothing is trained on or chosen by.

The first two: ResNet-20 from scratch at 32 pixels, 40 epochs, mirror images and crops, SGD
with momentum at one rate, one cosine, no smoothing and no average. All by `train.fit` with
nothing but `imbalance` differing. `auto_2_points` is `auto` with `price=0.02`. The network
itself answers, from one view of a picture. Differences to `none` are paired by seed. An
epoch of over-sampling is four times as long as one of `none`, so seconds are told.
`logit_adjustment` at strength 1 is `balanced_softmax`, and left out unless it is named.
`adjusted_after` and `auto` go on from the training of `none` that lies beside them; their
seconds are what was left to do.

About 5 minutes a training of the long tail on two cores, 17 of `oversampling` and
`augmentation`, hardly any of `undersampling`: an hour a seed. The pair takes 20 minutes a
seed.

`--shrunk` answers the same questions in about an hour: 10 epochs in batches of 32 at half
the rate, so half as many steps as the whole has; 300 test pictures of each class; and
over-sampling and augmentation, whose epochs are up to four times as long, get as many steps as
the others by having fewer epochs. Counts, classes, methods and the three seeds stay. A
picture costs 2.5 ms a step: 75 s a training of the long tail, 33 s of the pair, 50 of the
pretrained one. Its rows have keys of their own.
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
    from sevenfold.features.pixels import Pixels
    from sevenfold.recipe import Recipe

METHODS = (
    "none",
    "adjusted_after",
    "class_weights",
    "undersampling",
    "oversampling",
    "augmentation",
    "balanced_softmax",
    "deferred_weights",
    "deferred_sampling",
    "auto",
    "auto_2_points",
)
PAIRS = ("dog/cat", "truck/automobile", "frog/horse")
SETS = ("long tail", "pair", "pretrained pair")
LARGEST, TAIL, FEW = 1000, 10, 50
VALIDATION, LEAST = 0.15, 2
SIDES = {"long tail": 32, "pair": 32, "pretrained pair": 96}
RATE = 2e-3  # of the pretrained: what the probe chooses most often must not differ by method
SHRUNK = {"epochs": 10, "batch": 32, "rate": 0.05, "judged": 300}
LONG = ("oversampling", "augmentation")


def counts_of(name: str, classes: list[str], smoke: bool) -> dict[str, int]:
    """Return training pictures of each class."""
    largest = 40 if smoke else LARGEST
    if name != "long tail":
        common, rare = name.split()[-1].split("/")
        return {common: largest, rare: FEW * largest // LARGEST + 4 * smoke}
    falling = np.geomspace(largest, 5 if smoke else TAIL, len(classes))
    return {label: round(count) for label, count in zip(classes, falling, strict=True)}


def write(
    table: Path, source: dict[str, Any], counts: dict[str, int], seed: int, most: int
) -> None:
    """Draw the pictures of this seed and write them as one table with their roles."""
    import pyarrow
    import pyarrow.parquet

    random = np.random.default_rng(seed)
    parts = []
    for label, count in counts.items():
        held = max(LEAST, round(VALIDATION * count))
        members = np.flatnonzero(source["train labels"] == label)
        drawn = source["train"].take(random.permutation(members)[: count + held])
        judged = source["test"].take(np.flatnonzero(source["test labels"] == label)[:most])
        for rows, roles in (
            (drawn, ["train"] * count + ["val"] * held),
            (judged, ["test"] * len(judged)),
        ):
            parts.append(rows.append_column("split", pyarrow.array(roles)))
    pyarrow.parquet.write_table(pyarrow.concat_tables(parts), table)


def read(table: Path, pixels: Pixels, threads: int) -> Split:
    """Read the table with its own roles; copies of test pictures are not trained on.

    `data.split` would join validation and training where there are few pictures.
    """
    from sevenfold import data
    from sevenfold.features.pixels import ingest
    from sevenfold.progress import silent

    dataset = data.read(
        str(table),
        fingerprints=lambda listing: ingest(
            listing, pixels=pixels, threads=threads, progress=silent
        ),
    )
    roles = np.array([photo.role for photo in dataset.photos])
    test = np.flatnonzero(roles == "test")
    judged = {dataset.hashes[at] for at in test.tolist()}
    clean = np.array([content not in judged for content in dataset.hashes])
    train, val = (np.flatnonzero((roles == role) & clean) for role in ("train", "val"))
    return data.Split(dataset, train, val, test)


def from_scratch(split: Split, method: str, asked: Any) -> Recipe:
    """Return the recipe of the small network."""
    from sevenfold.practices.optimization import Optimization
    from sevenfold.practices.transfer import ALL_BLOCKS, Transfer
    from sevenfold.recipe import Recipe, apply

    recipe = Recipe(
        side=SIDES["pair"],
        epochs=epochs_of(split, method, asked),
        batch=8 if asked.smoke else asked.batch,
        optimization=Optimization(
            name="sgd",
            rate=asked.rate,
            weight_decay=5e-4,
            layer_decay=1.0,
            average=0.0,
            smoothing=0.0,
            patience=1.0,  # a method that is deferred must come to act
        ),
        transfer=Transfer("resnet20", "random", trainable_blocks=ALL_BLOCKS),
    )
    recipe = recipe.without("augmentation")
    return apply(recipe, ("augmentation.flip=0.5", "augmentation.crop=0.7"))


def pretrained(asked: Any) -> Recipe:
    """Return the recipe of the default network."""
    from sevenfold.recipe import Recipe, apply

    settings = (f"optimization.rate={RATE}", "augmentation.label_check=off")
    recipe = apply(Recipe(side=SIDES["pretrained pair"]), settings)
    return apply(recipe, ("epochs=2", "batch=8")) if asked.smoke else recipe


def fitted(
    name: str, split: Split, method: str, seed: int, folder: Path, pixels: Pixels, asked: Any
) -> Any:
    """Train with one method."""
    from dataclasses import replace

    from sevenfold import train
    from sevenfold.place import Place
    from sevenfold.practices.imbalance import Imbalance
    from sevenfold.progress import silent

    small = not name.startswith("pretrained")
    recipe = from_scratch(split, method, asked) if small else pretrained(asked)
    for practice in ("growth", "ensembling", "pruning"):
        recipe = recipe.without(practice)
    value = Imbalance(price=0.02) if method == "auto_2_points" else Imbalance(method)
    recipe = replace(recipe, objective="balanced_accuracy", imbalance=value)
    place = Place("cpu", asked.cores)
    return train.fit(
        recipe,
        split,
        seed=seed,
        place=place,
        pixels=pixels,
        folder=folder,
        progress=silent,
    )


def epochs_of(split: Split, method: str, asked: Any) -> int:
    """Return a method's epochs: where epochs are long and `--shrunk` is given, fewer."""
    if not asked.shrunk or method not in LONG:
        return int(asked.epochs)
    counts = np.bincount(split.dataset.labels[split.train])
    return max(2, round(asked.epochs * counts.sum() / (len(counts) * counts.max())))


def judged(made: Any, split: Split, asked: Any) -> Row:
    """Answer the test pictures and return balanced accuracy and recalls."""
    from sevenfold.place import Place
    from sevenfold.train.member import answers

    network, place = made.ships[0].network, Place("cpu", asked.cores)
    logits = answers(network, made.recipe, split.dataset, split.test, place)
    labels = split.dataset.labels[split.test]
    right = logits.argmax(axis=1) == labels
    count = len(split.dataset.classes)
    counts = np.bincount(split.dataset.labels[split.train], minlength=count)
    recalls = np.array([right[labels == label].mean() for label in range(count)])
    # Thirds of ten classes are four, three and three; of two classes the halves.
    common, *_, rare = np.array_split(recalls[np.argsort(-counts, kind="stable")], min(count, 3))
    return {
        "balanced_accuracy": float(recalls.mean()),
        "common": float(common.mean()),
        "rare": float(rare.mean()),
        "recalls": dict(zip(split.dataset.classes, recalls.tolist(), strict=True)),
        "counts": dict(zip(split.dataset.classes, counts.tolist(), strict=True)),
    }


def one_seed(
    results: Results, asked: argparse.Namespace, source: dict[str, Any], name: str, seed: int
) -> None:
    """Measure the methods that this seed lacks, all from the same stores."""
    from sevenfold.features.pixels import Pixels

    keys = {method: key(name, asked, method, seed) for method in asked.methods}
    missing = [method for method, where in keys.items() if results.missing(where)]
    if not missing:
        return
    side = SIDES[name.rsplit(maxsplit=1)[0] if "/" in name else name]
    pixels = Pixels(side)
    with tempfile.TemporaryDirectory() as place:
        counts = counts_of(name, source["classes"], asked.smoke)
        write(Path(place) / "some.parquet", source, counts, seed, asked.judged)
        split = read(Path(place) / "some.parquet", pixels, asked.cores)
        for method in missing:
            start = time.perf_counter()
            made = fitted(name, split, method, seed, Path(place), pixels, asked)
            seconds = time.perf_counter() - start
            facts = judged(made, split, asked)
            facts |= {"used": str(made.recipe.imbalance), "seconds": seconds}
            results.append(
                keys[method], seed=seed, n=len(split.test), set=name, method=method, **facts
            )


def key(name: str, asked: argparse.Namespace, method: str, seed: int) -> str:
    """Name one training by what it depends on."""
    shrunk = f" batch={asked.batch} shrunk" * asked.shrunk
    epochs = "auto" if name.startswith("pretrained") else asked.epochs
    return f"{name} epochs={epochs}{shrunk} {method} seed={seed}"


def row_of(rows: dict[int, Row], plain: dict[int, Row], name: str, method: str) -> Row:
    """Sum up one method's seeds, and the differences to `none` of the same seeds."""
    seeds = sorted(rows)
    table: Row = {"data": name, "method": method, "seeds": len(seeds)}
    for title, metric in (
        ("balanced accuracy", "balanced_accuracy"),
        ("common", "common"),
        ("rare", "rare"),
    ):
        table[title] = f"{fmean(rows[seed][metric] for seed in seeds):.3f}"
        gains = [rows[seed][metric] - plain[seed][metric] for seed in seeds if seed in plain]
        mean, low, high = t_interval(gains or [0.0])
        shown = "" if method == "none" or not gains else f"{mean:+.3f} ({span(low, high)})"
        table[f"{title}, to none"] = shown.replace(" ()", "")
    return table | {"seconds": f"{median(rows[seed]['seconds'] for seed in seeds):.0f}"}


def summary(results: Results, asked: argparse.Namespace) -> None:
    """Write the table of what was asked for."""
    known = {row["key"]: row for row in results.rows()}
    tables = []
    for name in asked.names:
        found = {
            method: {
                seed: known[where]
                for seed in range(asked.seeds)
                if (where := key(name, asked, method, seed)) in known
            }
            for method in asked.methods
        }
        tables += [
            row_of(rows, found.get("none", {}), name, method)
            for method, rows in found.items()
            if rows
        ]
    title = (
        f"Uneven classes, an even test set, ResNet-20 from scratch, {asked.epochs} epochs, and the "
        "default network with a frozen trunk at 96 pixels where it says *pretrained*: mean "
        "over seeds, and differences to plain training paired by seed with Student's interval. "
        "Common and rare: mean recall of the most and of the least common third of the classes. "
        "Long tail: CIFAR-10 with 1,000 pictures down to 10 of a class. Pair: 1,000 of the first "
        "class against 50 of the second. `auto_2_points`: `auto` with `price=0.02`."
    )
    if asked.shrunk:
        title += (
            f" Shrunk: batches of {asked.batch}, {asked.judged} test pictures of each class; "
            "over-sampling and augmentation have as many steps as the others, not epochs."
        )
    results.summarise([title], tables)


def main() -> None:
    """Measure what is missing, then sum up."""
    options = results_file.parser(__doc__)
    options.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    options.add_argument("--methods", nargs="+", default=list(METHODS))
    options.add_argument("--pairs", nargs="+", default=list(PAIRS), help="common/rare class")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--epochs", type=int, default=40)
    options.add_argument("--shrunk", action="store_true", help="an hour, see above")
    options.add_argument("--summary", action="store_true", help="only write the table")
    asked = options.parse_args()
    asked.batch, asked.rate, asked.judged = 64, 0.1, None
    if asked.shrunk:
        vars(asked).update(SHRUNK)
    if asked.smoke:
        asked.seeds, asked.epochs = 1, 2
    asked.names = [
        f"{name} {pair}" if pair else name
        for name in asked.sets
        for pair in {"long tail": [""], "pair": asked.pairs[:1]}.get(name, asked.pairs)
    ]
    results = results_file.opened("imbalance", asked)
    # Imported late: the process is bound to its cores first.
    import pyarrow.parquet
    import torch

    torch.set_num_threads(asked.cores)
    source: dict[str, Any] = {}
    for role in ("train", "test"):
        table = pyarrow.parquet.read_table(asked.data / "cifar10" / f"{role}.parquet")
        if asked.smoke:
            table = table.take(list(range(0, len(table), 50)))
        source |= {role: table, f"{role} labels": np.array(table["label"].to_pylist())}
    source["classes"] = sorted(set(source["train labels"].tolist()))
    with tempfile.TemporaryDirectory() as stores:
        os.environ["SEVENFOLD_CACHE"] = stores
        for seed in () if asked.summary else range(asked.seeds):
            for name in asked.names:
                one_seed(results, asked, source, name, seed)
    summary(results, asked)


if __name__ == "__main__":
    main()
