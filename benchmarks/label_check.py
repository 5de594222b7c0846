"""Plant changes of label, and count which of them the label check of `train` finds.

Made-up pictures of 96 pixels, 40 of each class, others for each seed: arrows to the left and
right under flips, 6 and 9 under half a turn, discs of one colour under a third of a turn of the
hues. Each kind has a class that its operation leaves as it is, and a control: the same kind of
picture whose labels the operation leaves alone (arrows up and down under flips, figures that
are the same upside down, shapes of any colour under hue).

Photos are controls, too: `clothing` and `elpv` as they are, nothing planted, every operation of
the default ranges and of `policy=trivial`; each seed draws half of the training pictures.

All by `sparing.check_labels`, which `train` calls, with the packaged EfficientNet-Lite0. What is
told: how many planted changes were found, and in how many checks anything else was flagged,
each with its exact 95 % interval (Clopper and Pearson). Under 10 minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

import results_file
from results_file import Results, Row, span

if TYPE_CHECKING:
    from sevenfold.data import Split

SIDE = 96
EACH = 40
PHOTOS = {"clothing": 160, "elpv": 160}
ALL = "augmentation.label_check=all"
POLICIES = {"the default ranges": (ALL,), "the policy": (ALL, "augmentation.policy=trivial")}

Picture = np.ndarray[Any, Any]
Drawing = Callable[[np.random.Generator], Picture]


def canvas(random: np.random.Generator) -> Picture:
    """Return a dark noisy background."""
    grey = random.integers(20, 70) + random.normal(0, 6, (SIDE, SIDE, 1))
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8), 3, axis=2)


def light(random: np.random.Generator) -> tuple[int, ...]:
    """Return one light grey."""
    return (int(random.integers(170, 250)),) * 3


def arrow(turns: int) -> Drawing:
    """Return what draws an arrow: 0 to the right, 1 up, 2 left, 3 down."""

    def draw(random: np.random.Generator) -> Picture:
        import cv2

        picture = canvas(random)
        x, y = (int(place) for place in random.integers(-8, 9, 2) + SIDE // 2)
        half = int(random.integers(22, 32))
        wide = int(random.integers(4, 9))
        cv2.arrowedLine(picture, (x - half, y), (x + half, y), light(random), wide, tipLength=0.45)
        return np.rot90(picture, turns)

    return draw


def figure(text: str, turned: bool = False) -> Drawing:
    """Return what draws a figure, or the figure upside down."""

    def draw(random: np.random.Generator) -> Picture:
        import cv2

        picture = canvas(random)
        scale, thick = float(random.uniform(1.8, 2.4)), int(random.integers(4, 8))
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
        x, y = (int(place) for place in random.integers(-6, 7, 2) + SIDE // 2)
        at = (x - width // 2, y + height // 2)
        cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, light(random), thick)
        return np.rot90(picture, 2) if turned else picture

    return draw


def shape(kind: int, channel: int | None) -> Drawing:
    """Return what draws a disc, a ring or four dots: in one colour, in any, or in grey (-1)."""

    def draw(random: np.random.Generator) -> Picture:
        import cv2

        picture = canvas(random)
        main = int(random.integers(3)) if channel is None else channel
        colour = random.integers(40, 90, 3)
        colour[main] = random.integers(170, 230)
        shade = light(random) if channel == -1 else tuple(colour.tolist())
        x, y = (int(place) for place in random.integers(-6, 7, 2) + SIDE // 2)
        if kind < 2:
            cv2.circle(picture, (x, y), int(random.integers(24, 34)), shade, 6 if kind else -1)
        else:
            for across in (x - 18, x + 18):
                for down in (y - 18, y + 18):
                    cv2.circle(picture, (across, down), 9, shade, -1)
        return picture

    return draw


@dataclass(frozen=True)
class Kind:
    """Hold one kind of check.

    Args:
        drawings: of each class.
        settings: of the augmentation; all else is off.
        planted: classes whose label they change.
    """

    drawings: Mapping[str, Drawing]
    settings: tuple[str, ...]
    planted: tuple[str, ...] = ()


ALONE = ("augmentation=off", "augmentation.label_check=risky")
TURN = ("augmentation.rotation_degrees=180",)
HUE = ("augmentation.hue=0.3333",)
FLIP = ("augmentation.flip=0.5",)
KINDS = {
    "arrows, flip": Kind(
        {"left": arrow(2), "right": arrow(0), "disc": shape(0, -1)}, FLIP, ("left", "right")
    ),
    "6 and 9, half a turn": Kind(
        {"6": figure("6"), "9": figure("6", turned=True), "0": figure("0")}, TURN, ("6", "9")
    ),
    "colours, hue": Kind(
        {"red": shape(0, 0), "green": shape(0, 1), "blue": shape(0, 2), "grey": shape(0, -1)},
        HUE,
        ("red", "green", "blue"),
    ),
    "control: arrows up and down, flip": Kind(
        {"up": arrow(1), "down": arrow(3), "disc": shape(0, -1)}, FLIP
    ),
    "control: figures, half a turn": Kind(
        {"0": figure("0"), "8": figure("8"), "H": figure("H")}, TURN
    ),
    "control: shapes, hue": Kind(
        {"disc": shape(0, None), "ring": shape(1, None), "dots": shape(2, None)}, HUE
    ),
}


def written(kind: Kind, seed: int, folder: Path, each: int) -> str:
    """Write the pictures of a kind, others for each seed."""
    from PIL import Image

    random = np.random.default_rng(seed)
    for name, draw in kind.drawings.items():
        (folder / name).mkdir(parents=True)
        for number in range(each):
            picture = np.ascontiguousarray(draw(random))
            Image.fromarray(picture).save(folder / name / f"{number}.png", compress_level=1)
    return str(folder)


def split_of(photos: str, side: int, cores: int) -> Split:
    """Read pictures and part them by role."""
    from sevenfold import data
    from sevenfold.features.pixels import for_training, ingest
    from sevenfold.progress import silent

    dataset = data.read(
        photos,
        columns={},
        group_by="",
        fingerprints=lambda listing: ingest(
            listing, pixels=for_training(side), threads=cores, progress=silent
        ),
    )
    return data.split(dataset)


def checked(
    split: Split,
    pictures: np.ndarray[Any, Any],
    side: int,
    settings: tuple[str, ...],
    planted: tuple[str, ...],
    cores: int,
) -> Row:
    """Run the check as `train` does, and tell what was flagged where it was planted and where not.

    A class counts once, in whatever direction it is flagged.
    """
    from sevenfold.features.pixels import for_training
    from sevenfold.place import Place
    from sevenfold.progress import silent
    from sevenfold.recipe import Recipe, apply
    from sevenfold.train.sparing import check_labels

    recipe = apply(Recipe(), (f"side={side}", *settings))
    begun = time.perf_counter()
    _, found = check_labels(
        recipe, split, pictures, Place("cpu", cores), for_training(side), silent
    )
    seconds = time.perf_counter() - begun
    flagged = {(one.operation, one.label) for one in found.flagged}
    return {
        "reason": found.reason,
        "operations": list(found.operations),
        "classes": found.classes,
        "pictures": found.pictures,
        "accuracy": found.accuracy,
        "planted": len(planted),
        "found": sum(label in planted for _, label in flagged),
        "alarms": sorted(f"{label} by {name}" for name, label in flagged if label not in planted),
        "too_few": len(found.unjudged),
        "seconds": seconds,
    }


def planted_checks(results: Results, asked: argparse.Namespace) -> None:
    """Check made-up pictures, each seed's own."""
    for name, kind in KINDS.items():
        for seed in range(asked.seeds):
            key = f"{name} seed={seed}"
            if not results.missing(key):
                continue
            with tempfile.TemporaryDirectory() as place:
                photos = written(kind, seed, Path(place) / "photos", asked.each)
                split = split_of(photos, SIDE, asked.cores)
                settings = (*ALONE, *kind.settings)
                facts = checked(split, split.train, SIDE, settings, kind.planted, asked.cores)
            results.append(key, seed=seed, n=facts["pictures"], kind=name, **facts)


def photo_checks(results: Results, asked: argparse.Namespace) -> None:
    """Check photos as they are, half of them for each seed."""
    from sevenfold import draws

    for name, side in PHOTOS.items():
        keys = {
            (seed, policy): f"control: {name}, {policy} seed={seed}"
            for seed in range(asked.draws)
            for policy in POLICIES
        }
        if not results.missing(*keys.values()):
            continue
        with tempfile.TemporaryDirectory() as place:
            source = name if name == "elpv" else str(asked.data / name)
            if asked.smoke and name == "clothing":
                source = str(results_file.part_of(asked.data / name, Path(place) / name, 12))
            side = SIDE if asked.smoke else side
            split = split_of(source, side, asked.cores)
            numbers = draws.numbers([split.dataset.hashes[one] for one in split.train.tolist()])
            for (seed, policy), key in keys.items():
                if results.missing(key):
                    mixed = split.train[draws.order(f"{seed}/half", numbers, 0)]
                    half = np.sort(mixed[: len(mixed) // 2])
                    facts = checked(split, half, side, POLICIES[policy], (), asked.cores)
                    kind = f"control: {name}, {policy}"
                    results.append(key, seed=seed, n=facts["pictures"], kind=kind, **facts)


def share(count: int, of: int) -> str:
    """Write a share with its exact interval."""
    from scipy.stats import binomtest

    held = binomtest(count, of).proportion_ci(0.95, "exact")
    return f"{count} of {of} ({span(held.low, held.high)})"


def line(kind: str, rows: list[Row]) -> Row:
    """Return the table's row of some checks."""
    planted = sum(row["planted"] for row in rows)
    told = share(sum(row["found"] for row in rows), planted) if planted else ""
    return {
        "pictures": kind,
        "checks": len(rows),
        "looked at, each": round(median(row["pictures"] for row in rows)),
        "clean model right": f"{median(row['accuracy'] for row in rows):.3f}",
        "planted and found": told,
        "checks with a false alarm": share(sum(bool(row["alarms"]) for row in rows), len(rows)),
        "classes too few to judge": sum(row["too_few"] for row in rows),
        "seconds": f"{median(row['seconds'] for row in rows):.1f}",
    }


def summary(results: Results) -> None:
    """Write the table: each kind of check, then all of them."""
    by_kind: dict[str, list[Row]] = {}
    for row in results.rows():
        by_kind.setdefault(row["kind"], []).append(row)
    tables = [line(kind, rows) for kind, rows in by_kind.items()]
    title = (
        "The label check as `train` makes it, with the packaged backbone: changes of label that "
        "were planted, and checks in which anything else was flagged, with exact 95 % intervals."
    )
    results.summarise([title], [*tables, line("all", results.rows())])


def main() -> None:
    """Measure what is missing, then sum up."""
    options = results_file.parser(__doc__)
    options.add_argument("--seeds", type=int, default=20, help="of made-up pictures")
    options.add_argument("--draws", type=int, default=10, help="of halves of the photos")
    options.add_argument("--each", type=int, default=EACH, help="made-up pictures of a class")
    asked = options.parse_args()
    if asked.smoke:
        asked.seeds, asked.draws, asked.each = 1, 1, 24
    results = results_file.opened("label_check", asked)
    # Imported late: the process is bound to its cores first.
    import torch

    torch.set_num_threads(asked.cores)
    with tempfile.TemporaryDirectory() as stores:
        os.environ["SEVENFOLD_CACHE"] = stores
        planted_checks(results, asked)
        photo_checks(results, asked)
    summary(results)


if __name__ == "__main__":
    main()
