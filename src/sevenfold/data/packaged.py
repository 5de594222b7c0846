"""List the photos of packaged data sets, by name."""

import os
from pathlib import Path

from sevenfold.data.photos import ROLES, Listing, Photo
from sevenfold.data.sources import (
    FASHION_MNIST,
    ArraySource,
    FolderSource,
    elpv_folder,
    read_idx,
)
from sevenfold.errors import DataError
from sevenfold.image import shown

_FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def fashion_mnist(folder: Path = FASHION_MNIST) -> Listing:
    """List the 70,000 grey pictures of Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, 1708.07747).

    Raises:
        ResourceError: the files are not installed.
        DataError: the files are damaged.
    """
    photos: list[Photo] = []
    arrays = {}
    for role, stem in (("train", "train"), ("test", "t10k")):
        images = read_idx(folder / f"{stem}-images-idx3-ubyte.gz", 3)
        labels = read_idx(folder / f"{stem}-labels-idx1-ubyte.gz", 1)
        if len(images) != len(labels) or labels.max(initial=0) >= len(_FASHION_CLASSES):
            raise DataError(
                f"{shown(os.fspath(folder))}: the {role} labels do not fit the pictures.",
                "Run: sudo apt install --reinstall dataset-fashion-mnist",
            )
        arrays[role] = images
        photos += [
            Photo(f"{role}/{number:05d}", _FASHION_CLASSES[label], ROLES[role])
            for number, label in enumerate(labels.tolist())
        ]
    return Listing("fashion-mnist", tuple(photos), ArraySource(arrays, "fashion-mnist"))


def elpv() -> Listing:
    """List the 2,624 solar cells of ELPV (Buerhop-Lutz et al. 2018; Deitsch et al. 2019).

    A cell is `defective` where the defect probability is at least 0.5; the
    stratum is the type of its wafer.
    """
    folder = elpv_folder()
    lines = (folder / "labels.csv").read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines if line.strip()]
    photos = tuple(
        Photo(path, "defective" if float(probability) >= 0.5 else "intact", stratum=kind)
        for path, probability, kind in rows
    )
    return Listing("elpv", photos, FolderSource(folder, "elpv"))
