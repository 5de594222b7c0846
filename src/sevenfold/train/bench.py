"""Hold what all trainings of one recipe share: the stored rows, and which are trained on."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int64
from torch import nn

from sevenfold import nets
from sevenfold.data import Split
from sevenfold.features import trunk as engines
from sevenfold.features.pixels import Pixels, fill
from sevenfold.features.views import (
    PLAIN,
    JoinedViews,
    Viewer,
    Views,
    activations,
    pixel_views,
)
from sevenfold.place import Place
from sevenfold.practices import augmentation, transfer
from sevenfold.progress import Progress
from sevenfold.recipe import Recipe

FOLDS: Final = 5


@dataclass(frozen=True, eq=False)
class Bench:
    """Hold what all trainings of one recipe share.

    Args:
        recipe: settled.
        split: pictures by role.
        pictures: that are trained on.
        views: rows of the pictures, augmented.
        plain: rows of the pictures that choices are made by, as they are.
        place: where to compute.
        folder: where checkpoints lie.
        progress: is told what is under way.
        trunk: the frozen blocks that the rows were computed by.
    """

    recipe: Recipe
    split: Split
    pictures: Int64[np.ndarray, "pictures"]
    views: Views
    plain: Views
    place: Place
    folder: Path
    progress: Progress
    trunk: tuple[nn.Module, ...] = ()

    @property
    def judged(self) -> Int64[np.ndarray, "judged"]:
        """Return the pictures that choices are made by: those of val, or without it all."""
        return self.split.val if len(self.split.val) else self.pictures

    @property
    def labels(self) -> Int64[np.ndarray, "judged"]:
        """Return the classes of the pictures that choices are made by."""
        return np.asarray(self.split.dataset.labels[self.judged])

    @property
    def counts(self) -> Int64[np.ndarray, "classes"]:
        """Count the pictures of each class that are trained on."""
        dataset = self.split.dataset
        return np.bincount(dataset.labels[self.pictures], minlength=len(dataset.classes))


@dataclass(frozen=True, eq=False)
class Part:
    """Name one of a member's trainings: what it is trained on and what it is judged on."""

    name: str
    pictures: Int64[np.ndarray, "pictures"]
    judged: Int64[np.ndarray, "judged"]


def start(recipe: Recipe, classes: int, seed: int) -> tuple[nets.Network, transfer.Origin]:
    """Build the network that a training starts from; its head is zero."""
    network, origin = transfer.build(recipe.transfer, classes, recipe.side, seed)
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    return network, origin


def tail_of(network: nets.Network, recipe: Recipe) -> nn.Module:
    """Cut the network; the tail alone asks for gradients."""
    return nets.cut(network, recipe.transfer.trainable_blocks)[1]


def prepared(
    recipe: Recipe,
    split: Split,
    pictures: Int64[np.ndarray, "pictures"],
    place: Place,
    pixels: Pixels,
    folder: Path,
    seed: int,
    progress: Progress,
) -> Bench:
    """Look at every picture once through the frozen trunk, in its views."""
    network, _ = start(recipe, len(split.dataset.classes), seed)
    return behind(network, recipe, split, pictures, place, pixels, folder, seed, progress)


def another(
    bench: Bench, recipe: Recipe, pixels: Pixels, seed: int, folder: Path | None = None
) -> Bench:
    """Look at a bench's pictures by another recipe, with checkpoints beside it or elsewhere."""
    split, pictures, place = bench.split, bench.pictures, bench.place
    folder = folder or bench.folder
    return prepared(recipe, split, pictures, place, pixels, folder, seed, bench.progress)


def lasting(recipe: Recipe, *, frozen: bool) -> bool:
    """Tell whether views come again; otherwise each epoch has new ones, and each seed its own.

    Members with different trunks must see the same views.

    Args:
        recipe: of the members.
        frozen: whether there is a trunk, so that views are stored.
    """
    return frozen or bool(recipe.ensembling.cuts or recipe.ensembling.backbones)


def behind(
    network: nets.Network,
    recipe: Recipe,
    split: Split,
    pictures: Int64[np.ndarray, "pictures"],
    place: Place,
    pixels: Pixels,
    folder: Path,
    seed: int,
    progress: Progress,
) -> Bench:
    """Do what `prepared` does with the trunk of a network that is there already."""
    dataset = split.dataset
    trunk, _ = nets.cut(network, recipe.transfer.trainable_blocks)
    judged = split.val if len(split.val) else pictures
    plain = Pixels(recipe.side, full=True)
    empty = len(trunk.blocks) == 0
    lasts = lasting(recipe, frozen=not empty)
    salt = "" if lasts else str(seed)
    if empty:
        look = partial(pixel_views, dataset, threads=place.threads)
        fill(plain, dataset, judged, threads=place.threads, progress=progress)
        plain_views = look(plain, PLAIN, count=1)

        def seen(some: Int64[np.ndarray, "some"], viewer: Viewer, factor: int) -> Views:
            return look(pixels, viewer, count=factor * recipe.views if lasts else 0)
    else:
        engine = engines.engine(trunk, recipe.side, place.device)
        compute = partial(
            activations, dataset, engine=engine, threads=place.threads, progress=progress
        )
        plain_views = compute(judged, plain, PLAIN, count=1)

        def seen(some: Int64[np.ndarray, "some"], viewer: Viewer, factor: int) -> Views:
            return compute(some, pixels, viewer, count=factor * recipe.views)

    views = _by_class(recipe, split, pictures, salt, seen)
    return Bench(
        recipe, split, pictures, views, plain_views, place, folder, progress, tuple(trunk.blocks)
    )


def _by_class(
    recipe: Recipe,
    split: Split,
    pictures: Int64[np.ndarray, "pictures"],
    salt: str,
    seen: Callable[[Int64[np.ndarray, "some"], Viewer, int], Views],
) -> Views:
    """Join the views of classes that are augmented differently, or have more of them."""
    dataset, settings = split.dataset, recipe.augmentation
    each = [
        (augmentation.viewer(value, recipe.side, salt), settings.class_views.get(name, 1))
        for name, value in zip(
            dataset.classes, augmentation.for_classes(settings, dataset.classes), strict=True
        )
    ]
    kinds = list(dict.fromkeys((viewer.key, factor) for viewer, factor in each))
    kind_of_class = np.array([kinds.index((viewer.key, factor)) for viewer, factor in each])
    kind_of = kind_of_class[dataset.labels]
    parts = []
    for kind in range(len(kinds)):
        viewer, factor = each[int(np.flatnonzero(kind_of_class == kind)[0])]
        parts.append(seen(pictures[kind_of[pictures] == kind], viewer, factor))
    return parts[0] if len(parts) == 1 else JoinedViews(parts, kind_of)


def parts_of(bench: Bench) -> list[Part]:
    """List a member's trainings: with small data its folds, and last the one that ships."""
    split, pictures = bench.split, bench.pictures
    if len(split.val):
        return [Part("", pictures, split.val)]
    # Some of the training pictures may be left out of this training.
    folds = split.folds(FOLDS)[np.searchsorted(split.train, pictures)]
    left = [
        Part(f"-{fold}", pictures[folds != fold], pictures[folds == fold]) for fold in range(FOLDS)
    ]
    return [*left, Part("", pictures, pictures)]
