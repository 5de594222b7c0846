"""Read every picture that can be read, whatever else is wrong with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from sevenfold import data as datasets
from sevenfold.data import Dataset, Fingerprint, Listing, Photo, Quarantined
from sevenfold.errors import ImageRejected
from sevenfold.features.pixels import Pixels, in_order
from sevenfold.features.views import PLAIN
from sevenfold.image import part_name, shown
from sevenfold.place import Place
from sevenfold.practices.transfer import Transfer
from sevenfold.progress import Progress
from sevenfold.studies import pooled
from sevenfold.studies.audit import likeness, quality

SIDE: Final = 192
"""Of the squares that pictures are described by, in pixels."""
_SCALE: Final = 128  # of the squares whose sharpness is measured: it depends on the scale


def named(photo: Photo) -> str:
    """Name a picture to people."""
    return part_name(shown(photo.path), photo.box)


def readable(listing: Listing, found: Sequence[Fingerprint | ImageRejected]) -> Dataset:
    """Keep all that can be read: also small classes, and copies with two labels.

    Unlike `data.assemble`, which leaves out what training cannot use.
    """
    kept = [
        (photo, print_)
        for photo, print_ in zip(listing.photos, found, strict=True)
        if isinstance(print_, Fingerprint)
    ]
    unreadable = [
        Quarantined(photo.path, print_.problem.removeprefix(f"{shown(photo.path)}: "))
        for photo, print_ in zip(listing.photos, found, strict=True)
        if isinstance(print_, ImageRejected)
    ]
    photos = tuple(photo for photo, _ in kept)
    hashes = tuple(print_.hash for _, print_ in kept)
    classes = tuple(sorted({photo.label for photo in photos}))
    index = {name: number for number, name in enumerate(classes)}
    return Dataset(
        listing.name,
        photos,
        hashes,
        np.array([index[photo.label] for photo in photos], np.int64),
        datasets.merged_groups(photos, hashes),
        classes,
        (*listing.quarantined, *unreadable),
        listing.source,
        np.array([(p.width, p.height) for _, p in kept], np.int64).reshape(-1, 2),
    )


@dataclass(frozen=True, eq=False)
class Looks:
    """Hold what each picture looks like: small, and a few numbers of it.

    Args:
        small: what copies are found by.
        brightness: mean grey level, 0 to 255.
        highlights: the grey level of the brightest twentieth.
        sharpness: variance of the Laplacian.
    """

    small: UInt8[np.ndarray, "pictures s s 3"]
    brightness: Float64[np.ndarray, "pictures"]
    highlights: Float64[np.ndarray, "pictures"]
    sharpness: Float64[np.ndarray, "pictures"]


def looks(dataset: Dataset, pixels: Pixels, threads: int) -> Looks:
    """Look at every picture once, in the store's squares."""
    small = np.empty((len(dataset), likeness.SIDE, likeness.SIDE, 3), np.uint8)
    numbers = np.zeros((3, len(dataset)))
    look = partial(pixels.square, dataset)
    for index, square in enumerate(in_order(look, range(len(dataset)), threads)):
        small[index] = likeness.small(square)
        scaled = cv2.resize(square, (_SCALE, _SCALE), interpolation=cv2.INTER_AREA)
        numbers[:, index] = quality.numbers(np.asarray(scaled, np.uint8))
    return Looks(small, *numbers)


def embeddings(
    dataset: Dataset, pixels: Pixels, threads: int, progress: Progress
) -> Float32[np.ndarray, "pictures channels"]:
    """Describe each picture by the pooled features of the packaged backbone, of length 1.

    Writes to the stores: only new pictures cost time.
    """
    everything, place = np.arange(len(dataset)), Place("cpu", threads)
    return pooled.features(
        Transfer(), pixels.side, dataset, everything, pixels, PLAIN, place=place, progress=progress
    )
