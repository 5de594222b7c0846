"""Fit a recipe to a split: the seven practices, called in order."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import nn

from sevenfold import draws, loop, nets
from sevenfold.data import Split
from sevenfold.features import trunk as engines
from sevenfold.features.pixels import Pixels, fill
from sevenfold.features.views import PLAIN, Views, activations, pixel_views
from sevenfold.loop import Measured, Place, Rows, Stop, Trained
from sevenfold.practices import (
    augmentation,
    ensembling,
    growth,
    imbalance,
    optimization,
    pruning,
    transfer,
)
from sevenfold.progress import Progress
from sevenfold.recipe import Recipe

FOLDS: Final = 5
_STEPS: Final = 190  # about, in a training; fewer where the data is small
_SMALL_STEPS: Final = 160
_ROWS: Final = 12_000  # views of all pictures together, where the data is small


@dataclass(frozen=True)
class Member:
    """Hold one trained network and how it was trained.

    Args:
        network: whole, in evaluation mode, with the best weights.
        origin: of the weights that it started from.
        seed: of its training.
        trained: history and best epoch.
        probed: what the rate probe saw.
        rate: the largest learning rate.
        out_of_fold: logits of every picture of `split.train` from the fold that
            left it out; empty with val.
    """

    network: nets.Network
    origin: transfer.Origin
    seed: int
    trained: Trained
    probed: tuple[optimization.Probed, ...]
    rate: float
    out_of_fold: Float[np.ndarray, "pictures classes"]


@dataclass(frozen=True)
class Fitted:
    """Hold what `fit` made.

    Args:
        recipe: with every automatic value settled.
        member: the network that ships.
    """

    recipe: Recipe
    member: Member


@dataclass(frozen=True)
class Bench:
    """Hold what all trainings of one recipe share: stored rows and targets."""

    rows: Rows
    plain: Views
    start: Callable[[int], tuple[nets.Network, nn.Module, transfer.Origin]]
    origin: transfer.Origin


def settle(recipe: Recipe, split: Split) -> Recipe:
    """Fill in what the recipe leaves to the data.

    Args:
        recipe: `auto` and 0 are replaced.
        split: the data.
    """
    pictures = len(split.train)
    counts = np.bincount(split.dataset.labels[split.train], minlength=len(split.dataset.classes))
    objective = recipe.objective
    if objective == "auto":
        balanced = counts.max() <= 1.5 * max(1, counts.min())
        objective = "accuracy" if balanced else "balanced_accuracy"
    batch = min(recipe.batch, 32) if len(split.val) == 0 else recipe.batch
    steps = _SMALL_STEPS if len(split.val) == 0 else _STEPS
    epochs = recipe.epochs or min(60, max(4, math.ceil(steps * batch / pictures)))
    views = recipe.views or min(16, epochs, max(4, math.ceil(_ROWS / pictures)))
    return replace(recipe, objective=objective, batch=batch, epochs=epochs, views=views)


def fit(
    recipe: Recipe,
    split: Split,
    *,
    seed: int,
    place: Place,
    pixels: Pixels,
    folder: Path,
    progress: Progress,
) -> Fitted:
    """Train a recipe: reading this is reading the method.

    Writes to the stores and checkpoints into `folder`; goes on from what is there.

    Args:
        recipe: the seven settings.
        split: pictures by role; those of test are not looked at.
        seed: of everything random.
        place: where to compute.
        pixels: the store of decoded pictures.
        folder: where checkpoints lie.
        progress: is told what is under way.

    Raises:
        UsageError: a setting asks for what is not there.
    """
    # What cannot be done is refused now, not after hours of training.
    optimization.check(recipe.optimization)
    ensembling.check(recipe.ensembling)
    pruning.check(recipe.pruning)
    recipe = settle(recipe, split)
    classes = len(split.dataset.classes)
    pictures = growth.given(split.train, recipe.growth)
    start = partial(_start, recipe, classes)
    targets = imbalance.targets(torch.from_numpy(split.dataset.labels), classes, recipe.imbalance)
    targets = optimization.smooth(targets, recipe.optimization)
    bench = _bench(recipe, split, pictures, targets, start, place, pixels, seed, progress)
    members = ensembling.members(
        recipe.ensembling,
        lambda number: _member(recipe, split, bench, seed + number, place, folder, progress),
    )
    return Fitted(recipe, pruning.prune(members[0], recipe.pruning))


def _start(
    recipe: Recipe, classes: int, seed: int
) -> tuple[nets.Network, nn.Module, transfer.Origin]:
    """Build the network and cut it; the tail alone asks for gradients."""
    network, origin = transfer.build(recipe.transfer, classes, recipe.side, seed)
    _, tail = nets.cut(network, recipe.transfer.trainable_blocks)
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    return network, tail, origin


def _bench(
    recipe: Recipe,
    split: Split,
    pictures: Int64[np.ndarray, "pictures"],
    targets: Float[torch.Tensor, "pictures classes"],
    start: Callable[[int], tuple[nets.Network, nn.Module, transfer.Origin]],
    place: Place,
    pixels: Pixels,
    seed: int,
    progress: Progress,
) -> Bench:
    """Look at every picture once through the frozen trunk, in its views."""
    dataset = split.dataset
    network, _, origin = start(seed)
    trunk, _ = nets.cut(network, recipe.transfer.trainable_blocks)
    judged = split.val if len(split.val) else pictures
    plain = Pixels(recipe.side, full=True)
    empty = len(trunk.blocks) == 0
    viewer = augmentation.viewer(recipe.augmentation, recipe.side, str(seed) if empty else "")
    if empty:
        views = pixel_views(dataset, pixels, viewer, threads=place.threads)
        fill(plain, dataset, judged, threads=place.threads, progress=progress)
        plain_views = pixel_views(dataset, plain, PLAIN, threads=place.threads, count=1)
    else:
        engine = engines.engine(trunk, recipe.side, place.device)
        compute = partial(
            activations, dataset, engine=engine, threads=place.threads, progress=progress
        )
        views = compute(pictures, pixels, viewer, count=recipe.views)
        plain_views = compute(judged, plain, PLAIN, count=1)
    numbers = draws.numbers(dataset.hashes)
    return Bench(Rows(views, pictures, numbers, targets, recipe.batch), plain_views, start, origin)


def _member(
    recipe: Recipe,
    split: Split,
    bench: Bench,
    seed: int,
    place: Place,
    folder: Path,
    progress: Progress,
) -> Member:
    """Train one member; with small data also its five folds, for every choice."""
    pictures = bench.rows.pictures
    rate, probed = _probe(recipe, bench, seed, place, progress)
    train = partial(_train, recipe, split, bench, seed, rate, place, progress)
    if len(split.val):
        network, trained = train(pictures, split.val, folder / f"{seed}.checkpoint")
        logits = np.zeros((0, len(split.dataset.classes)))
    else:
        folds = split.folds(FOLDS)
        logits = np.zeros((len(pictures), len(split.dataset.classes)))
        for fold in range(FOLDS):
            left = pictures[folds == fold]
            network, _ = train(pictures[folds != fold], left, folder / f"{seed}-{fold}.checkpoint")
            logits[folds == fold] = loop.predict(_tail(network, recipe), bench.plain, left, place)
        network, trained = train(pictures, pictures, folder / f"{seed}.checkpoint")
    return Member(network.cpu().eval(), bench.origin, seed, trained, tuple(probed), rate, logits)


def _tail(network: nets.Network, recipe: Recipe) -> nn.Module:
    return nets.cut(network, recipe.transfer.trainable_blocks)[1]


def _optimizer(recipe: Recipe, network: nets.Network, rate: float) -> torch.optim.Optimizer:
    count = len(network.blocks)
    depth = min(count, recipe.transfer.trainable_blocks)
    blocks = list(network.blocks)[count - depth :]
    settings = recipe.optimization
    groups = optimization.groups([*blocks, network.pool], network.head, settings, rate)
    return optimization.optimizer(settings, groups)


def _probe(
    recipe: Recipe, bench: Bench, seed: int, place: Place, progress: Progress
) -> tuple[float, list[optimization.Probed]]:
    """Choose the rate by a few steps of each candidate, all from the same start."""
    seen = 0

    def loss_at(rate: float) -> float:
        nonlocal seen
        progress("rate", seen, len(optimization.RATES[recipe.optimization.name]))
        seen += 1
        network, tail, _ = bench.start(seed)
        tail.to(place.device)
        return loop.brief(
            tail,
            bench.rows,
            _optimizer(recipe, network, rate),
            steps=optimization.PROBE_STEPS,
            seed=seed,
            place=place,
        )

    return optimization.probe(recipe.optimization, loss_at)


def _train(
    recipe: Recipe,
    split: Split,
    bench: Bench,
    seed: int,
    rate: float,
    place: Place,
    progress: Progress,
    pictures: Int64[np.ndarray, "pictures"],
    judged: Int64[np.ndarray, "judged"],
    saved: Path,
) -> tuple[nets.Network, Trained]:
    """Train one network on some pictures and judge it on others."""
    network, tail, _ = bench.start(seed)
    tail.to(place.device)
    rows = dataclasses.replace(bench.rows, pictures=pictures)
    steps = rows.steps * recipe.epochs
    settings = recipe.optimization
    moved = _optimizer(recipe, network, rate)
    labels = bench.rows.targets.argmax(dim=1).numpy()[judged]
    patience = math.ceil(settings.patience * recipe.epochs) if len(split.val) else 0
    trained = loop.train(
        tail,
        rows,
        moved,
        optimization.schedule(moved, settings, steps),
        epochs=recipe.epochs,
        horizon=settings.average * steps,
        stop=Stop(recipe.objective, patience, len(judged)),
        validate=lambda module: _measure(loop.predict(module, bench.plain, judged, place), labels),
        seed=seed,
        place=place,
        saved=saved,
        progress=progress,
    )
    return network, trained


def _measure(
    logits: Float[np.ndarray, "pictures classes"], labels: Int64[np.ndarray, "pictures"]
) -> Measured:
    right = logits.argmax(axis=1) == labels
    recalls = [right[labels == label].mean() for label in np.unique(labels)]
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = -log_p[np.arange(len(labels)), labels].mean()
    return Measured(float(loss), float(right.mean()), float(np.mean(recalls)))
