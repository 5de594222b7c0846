"""Hold what all trainings of one recipe share: the stored rows, and which are trained on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from torch import nn

from sevenfold import nets
from sevenfold.data import Dataset, Split
from sevenfold.data.split import FOLDS
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

Look = Callable[[Int64[np.ndarray, "some"], Pixels, Viewer, int], Views]
"""From pictures, where their pixels come from, a viewer and how many views to the views."""


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
    trunk, _ = nets.cut(network, recipe.transfer.trainable_blocks)
    look = looking(trunk, recipe.side, split.dataset, place, progress)
    judged = split.val if len(split.val) else pictures
    plain = look(judged, Pixels(recipe.side, full=True), PLAIN, 1)
    blocks = tuple(trunk.blocks)
    lasts = lasting(recipe, frozen=bool(blocks))

    def seen(some: Int64[np.ndarray, "some"], viewer: Viewer, factor: int) -> Views:
        return look(some, pixels, viewer, factor * recipe.views if lasts else 0)

    views = _by_class(recipe, split, pictures, "" if lasts else str(seed), seen)
    return Bench(recipe, split, pictures, views, plain, place, folder, progress, blocks)


def looking(
    trunk: nets.Trunk, side: int, dataset: Dataset, place: Place, progress: Progress
) -> Look:
    """Return what looks at pictures through a trunk, or hands out their pixels if it is empty."""
    threads = place.threads
    if not len(trunk.blocks):

        def handed(
            some: Int64[np.ndarray, "some"], pixels: Pixels, viewer: Viewer, count: int
        ) -> Views:
            if pixels.full:  # those that are trained on were stored when they were read
                fill(pixels, dataset, some, threads=threads, progress=progress)
            return pixel_views(dataset, pixels, viewer, threads=threads, count=count)

        return handed
    engine = engines.engine(trunk, side, place.device)
    return lambda some, pixels, viewer, count: activations(
        dataset, some, pixels, viewer, engine, count=count, threads=threads, progress=progress
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
    folds = split.fold_of(pictures)
    left = [
        Part(f"-{fold}", pictures[folds != fold], pictures[folds == fold]) for fold in range(FOLDS)
    ]
    return [*left, Part("", pictures, pictures)]
