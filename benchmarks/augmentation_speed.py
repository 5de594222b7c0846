"""Time the fused augmentation against torchvision v2 doing the same things, on one core.

Random crop and stretch, mirror image, rotation, brightness, contrast, saturation and
Gaussian blur with the same ranges, from the same stored squares of `clothing` (1.15
times the side, decoded beforehand) to views of 96, 160 and 224 px: once with the blur on
every picture, once on one in ten. Then with everything on: upside-down images, shift and
hue beside these, and blur, noise and a rectangle erased on every picture. Ours spreads 64
grains of noise along a side, the others a number for each pixel.

torchvision runs in four ways (uint8 tensors with channels first or last in memory, float32
tensors, Pillow pictures, for which it has neither noise nor erasing), without antialiasing,
which ours has not either, and with the blur's kernel of its mean width; the fastest
counts. Albumentations 2.0.8 runs beside it where it is installed.

All ways take turns in each of `--rounds`; what is told is the ratio of the medians with
its 95 % bootstrap interval. 6 to 8 minutes, and about as much again with everything on.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import results_file
from results_file import Results

Way = Callable[[], object]
SIDES = (96, 160, 224)
BLURS = {"always": 1.0, "one in ten": 0.1}
EVERYTHING = "everything on"
KINDS = (*BLURS, EVERYTHING)
NOISE = 0.05  # mean standard deviation of ours, as a share of 255
AREAS, RATIOS = (0.02, 0.2), (0.3, 3.3)  # what is erased, and its aspect


def squares(folder: Path, side: int, count: int) -> list[np.ndarray[Any, Any]]:
    """Decode evenly spaced training pictures to stored squares."""
    from sevenfold import image

    paths = sorted((folder / "clothing" / "train").glob("*/*.jpg"))
    chosen = paths[:: max(1, len(paths) // count)][:count]
    decoded = (image.decode(path.read_bytes(), name=path.name, draft_side=512) for path in chosen)
    return [np.ascontiguousarray(image.resize(one, round(1.15 * side))) for one in decoded]


def ours(pictures: list[np.ndarray[Any, Any]], side: int, kind: str) -> Way:
    """Return the fused augmentation as training calls it, drawing included."""
    from sevenfold.practices.augmentation import Augmentation, viewer

    more: dict[str, Any] = {}
    if kind == EVERYTHING:
        more = {"flip_vertical": 0.5, "translation": 0.1, "hue": 0.05, "noise": 1.0, "erasing": 1.0}
    settings = Augmentation(
        rotation_degrees=10,
        crop=0.5,
        stretch=1.33,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        blur=BLURS.get(kind, 1.0),
        **more,
    )
    made = viewer(settings, side, "benchmark").make
    state = {"view": 0}

    def run() -> None:
        state["view"] += 1
        for number, pixels in enumerate(pictures):
            made(pixels, number, state["view"])

    return run


def kernel(side: int) -> int:
    """Return the blur's kernel at its mean width, by OpenCV's rule for bytes."""
    return round(6 * 0.8 * side / 160 + 1) | 1


def torchvision_ways(pictures: list[np.ndarray[Any, Any]], side: int, kind: str) -> dict[str, Way]:
    """Return torchvision's v2 on each kind of picture that it takes."""
    import torch
    from PIL import Image
    from torchvision.transforms import v2

    sigma = (0.1 * side / 160, 1.5 * side / 160)
    bilinear = v2.InterpolationMode.BILINEAR
    crop = v2.RandomResizedCrop(side, (0.5, 1.0), (1 / 1.33, 1.33), bilinear, antialias=False)
    blur = v2.RandomApply([v2.GaussianBlur(kernel(side), sigma)], p=BLURS.get(kind, 1.0))
    parts: list[Any] = [
        crop,
        v2.RandomHorizontalFlip(0.5),
        v2.RandomRotation(10, bilinear),
        v2.ColorJitter(0.2, 0.2, 0.2),
        blur,
    ]
    if kind == EVERYTHING:
        parts = [
            crop,
            v2.RandomHorizontalFlip(0.5),
            v2.RandomVerticalFlip(0.5),
            v2.RandomAffine(10, translate=(0.1, 0.1), interpolation=bilinear),
            v2.ColorJitter(0.2, 0.2, 0.2, 0.05),
            blur,
            v2.GaussianNoise(sigma=NOISE),
            v2.RandomErasing(1.0, AREAS, RATIOS),
        ]
    transform = v2.Compose(parts)
    last = [torch.from_numpy(pixels).permute(2, 0, 1) for pixels in pictures]
    kinds: dict[str, list[Any]] = {
        "uint8, channels first": [tensor.contiguous() for tensor in last],
        "uint8, channels last": last,
        "float32": [tensor.float().div(255).contiguous() for tensor in last],
    }
    if kind != EVERYTHING:
        kinds["Pillow"] = [Image.fromarray(pixels) for pixels in pictures]
    return {
        f"torchvision {name}": lambda some=some: [transform(one) for one in some]
        for name, some in kinds.items()
    }


def albumentations_way(
    pictures: list[np.ndarray[Any, Any]], side: int, kind: str
) -> dict[str, Way]:
    """Return Albumentations' pipeline where it is installed."""
    if importlib.util.find_spec("albumentations") is None:
        return {}
    import albumentations as a

    limits, spread = (1 / 1.33, 1.33), (0.1 * side / 160, 1.5 * side / 160)
    crop = a.RandomResizedCrop(size=(side, side), scale=(0.5, 1.0), ratio=limits, p=1.0)
    blur = a.GaussianBlur(sigma_limit=spread, p=BLURS.get(kind, 1.0))
    parts: list[Any] = [
        crop,
        a.HorizontalFlip(p=0.5),
        a.Rotate(limit=10, border_mode=4, p=1.0),
        a.ColorJitter((0.8, 1.2), (0.8, 1.2), (0.8, 1.2), (0.0, 0.0), p=1.0),
        blur,
    ]
    if kind == EVERYTHING:
        shift = (-0.1, 0.1)
        parts = [
            crop,
            a.HorizontalFlip(p=0.5),
            a.VerticalFlip(p=0.5),
            a.Affine(rotate=(-10, 10), translate_percent=shift, border_mode=4, p=1.0),
            a.ColorJitter((0.8, 1.2), (0.8, 1.2), (0.8, 1.2), (-0.05, 0.05), p=1.0),
            blur,
            a.GaussNoise(std_range=(0.0, 2 * NOISE), p=1.0),
            a.Erasing(scale=AREAS, ratio=RATIOS, p=1.0),
        ]
    transform = a.Compose(parts)
    return {"Albumentations": lambda: [transform(image=pixels) for pixels in pictures]}


def race(ways: Mapping[str, Way], rounds: int, pictures: int) -> dict[str, list[float]]:
    """Time all ways in turns; milliseconds a picture in each round."""
    for way in ways.values():
        way()  # warm up
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        names = list(ways)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = time.perf_counter()
            ways[name]()
            times[name].append(1000 * (time.perf_counter() - start) / pictures)
    return times


def measure(results: Results, data: Path, side: int, kind: str, rounds: int, count: int) -> None:
    """Measure one size of one kind."""
    key = f"same ranges, {kind if kind == EVERYTHING else f'blur {kind}'}, side={side}"
    if not results.missing(key):
        return
    pictures = squares(data, side, count)
    ways = {
        "ours": ours(pictures, side, kind),
        **torchvision_ways(pictures, side, kind),
        **albumentations_way(pictures, side, kind),
    }
    times = race(ways, rounds, count)
    results.append(key, seed=0, n=rounds, side=side, kind=kind, pictures=count, milliseconds=times)


def row(found: results_file.Row) -> results_file.Row:
    """Return the table's row of one measurement."""
    times = found["milliseconds"]
    medians = {name: median(values) for name, values in times.items()}
    best = min((n for n in times if n.startswith("torchvision")), key=medians.__getitem__)
    ratio, low, high = results_file.ratio_interval(times[best], times["ours"])
    cells = {
        "px": found["side"],
        "drawn": found["kind"] if found["kind"] == EVERYTHING else f"blur {found['kind']}",
        "rounds": found["n"],
        "ours, ms": medians["ours"],
        "torchvision v2, ms": medians[best],
        "its fastest way": best.removeprefix("torchvision "),
        "on Pillow pictures, ms": medians.get("torchvision Pillow", ""),
        "times as fast": f"{ratio:.1f}",
        "95 % interval": results_file.span(low, high, 1),
    }
    if "Albumentations" in times:
        against = results_file.ratio_interval(times["Albumentations"], times["ours"])
        cells["Albumentations, ms"] = medians["Albumentations"]
        cells["ours to it"] = f"{against[0]:.1f} ({results_file.span(*against[1:], 1)})"
    return cells


def main() -> None:
    """Measure what is missing, then sum up."""
    options = results_file.parser(__doc__)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--pictures", type=int, default=64)
    options.set_defaults(cores=1)
    asked = options.parse_args()
    results = results_file.opened("augmentation", asked)

    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rounds, pictures = (2, 4) if asked.smoke else (asked.rounds, asked.pictures)
    for kind in KINDS:
        for side in SIDES:
            measure(results, asked.data, side, kind, rounds, pictures)
    title = (
        "Milliseconds a picture for crop, flip, rotation, colour and blur, and with everything on "
        "(also upside-down images, shift, hue, noise, erasing): the fused augmentation against the "
        "fastest way of torchvision v2 (medians of rounds in turns, one core)."
    )
    results.summarise([title], [row(one) for one in results.rows() if one["kind"] in KINDS])


if __name__ == "__main__":
    main()
