"""Fit a recipe to a split: the seven practices, called in order."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

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

Targets = Callable[
    [Int64[np.ndarray, "rows"], Int64[np.ndarray, "rows"]], Float[Tensor, "rows classes"]
]


@dataclass(frozen=True, eq=False)
class Member:
    """Hold one trained network and how it was trained.

    Args:
        network: whole, in evaluation mode, with the best weights.
        folds: the networks that each left a fold out; empty with val.
        origin: of the weights that it started from.
        seed: of its training.
        trained: history and best epoch.
        logits: of the pictures that choices are made by: those of `split.val`, or
            without val each training picture's from the fold that left it out.
    """

    network: nets.Network
    folds: tuple[nets.Network, ...]
    origin: transfer.Origin
    seed: int
    trained: Trained
    logits: Float[np.ndarray, "judged classes"]


@dataclass(frozen=True, eq=False)
class Fitted:
    """Hold what `fit` made.

    Args:
        recipe: with every automatic value settled.
        members: the networks that vote.
        weights: of each member's vote; they sum to 1.
        student: the network distilled from the vote; None where there is none.
        ships: what is deployed: one network, or all that vote.
        rate: the largest learning rate.
        probed: what the rate probe saw.
    """

    recipe: Recipe
    members: tuple[Member, ...]
    weights: tuple[float, ...]
    student: Member | None
    ships: tuple[Member, ...]
    rate: float
    probed: tuple[optimization.Probed, ...]


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
    """

    recipe: Recipe
    split: Split
    pictures: Int64[np.ndarray, "pictures"]
    views: Views
    plain: Views
    place: Place
    folder: Path
    progress: Progress


@dataclass(frozen=True, eq=False)
class Part:
    """Name one of a member's trainings: what it is trained on and what it is judged on."""

    name: str
    pictures: Int64[np.ndarray, "pictures"]
    judged: Int64[np.ndarray, "judged"]


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
    pictures = growth.given(split.train, recipe.growth)
    bench = _bench(recipe, split, pictures, place, pixels, folder, seed, progress)
    rate, probed = _probe(bench, seed)
    members = ensembling.members(
        recipe.ensembling, lambda number: _member(bench, rate, seed + number)
    )
    return Fitted(recipe, members, (1.0,), None, members, rate, tuple(probed))


def _start(recipe: Recipe, classes: int, seed: int) -> tuple[nets.Network, transfer.Origin]:
    """Build the network that a training starts from; its head is zero."""
    network, origin = transfer.build(recipe.transfer, classes, recipe.side, seed)
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    return network, origin


def _tail(network: nets.Network, recipe: Recipe) -> nn.Module:
    """Cut the network; the tail alone asks for gradients."""
    return nets.cut(network, recipe.transfer.trainable_blocks)[1]


def _bench(
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
    dataset = split.dataset
    network, _ = _start(recipe, len(dataset.classes), seed)
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
    return Bench(recipe, split, pictures, views, plain_views, place, folder, progress)


def _parts(bench: Bench) -> list[Part]:
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


def _hard(bench: Bench) -> Targets:
    """Make the targets of a training on labels alone."""
    labels = torch.from_numpy(bench.split.dataset.labels)
    hot = nn.functional.one_hot(labels, len(bench.split.dataset.classes)).float()
    targets = optimization.smooth(hot, bench.recipe.optimization)
    return lambda pictures, _views: targets[pictures]


def _rows(bench: Bench, part: Part, targets: Targets, seed: int) -> Rows:
    dataset = bench.split.dataset
    return Rows(
        bench.views,
        stages=lambda _: loop.Stage(
            part.pictures, np.ones(len(dataset.classes)), np.zeros(len(dataset.classes))
        ),
        numbers=draws.numbers(dataset.hashes),
        labels=dataset.labels,
        targets=targets,
        batch=bench.recipe.batch,
    )


def _member(bench: Bench, rate: float, seed: int) -> Member:
    """Train one member on labels."""
    targets = _hard(bench)
    return _trained(bench, rate, seed, f"{seed}", lambda _: targets)


def _trained(
    bench: Bench, rate: float, seed: int, name: str, targets: Callable[[int], Targets]
) -> Member:
    """Train a network; with small data also one for each fold, for every choice.

    Args:
        bench: what it is trained on.
        rate: the largest learning rate.
        seed: of everything random in it.
        name: of its checkpoints.
        targets: of each of its parts.
    """
    parts, networks = _parts(bench), []
    classes = len(bench.split.dataset.classes)
    judged = bench.split.val if len(bench.split.val) else bench.pictures
    logits = np.zeros((len(judged), classes), np.float32)
    for at, part in enumerate(parts):
        network, origin = _start(bench.recipe, classes, seed)
        trained = _train(
            bench,
            network,
            _rows(bench, part, targets(at), seed),
            part,
            rate,
            seed,
            bench.folder / f"{name}{part.name}.checkpoint",
        )
        if part.name or len(parts) == 1:
            answers = loop.predict(
                _tail(network, bench.recipe), bench.plain, part.judged, bench.place
            )
            logits[np.searchsorted(judged, part.judged)] = answers
        networks.append(network.cpu().eval())
    return Member(networks[-1], tuple(networks[:-1]), origin, seed, trained, logits)


def _optimizer(recipe: Recipe, network: nets.Network, rate: float) -> torch.optim.Optimizer:
    count = len(network.blocks)
    depth = min(count, recipe.transfer.trainable_blocks)
    blocks = list(network.blocks)[count - depth :]
    settings = recipe.optimization
    groups = optimization.groups([*blocks, network.pool], network.head, settings, rate)
    return optimization.optimizer(settings, groups)


def _probe(bench: Bench, seed: int) -> tuple[float, list[optimization.Probed]]:
    """Choose the rate by a few steps of each candidate, all from the same start."""
    seen = 0
    settings = bench.recipe.optimization
    rows = _rows(bench, _parts(bench)[-1], _hard(bench), seed)

    def loss_at(rate: float) -> float:
        nonlocal seen
        bench.progress("rate", seen, len(optimization.RATES[settings.name]))
        seen += 1
        network, _ = _start(bench.recipe, len(bench.split.dataset.classes), seed)
        tail = _tail(network, bench.recipe).to(bench.place.device)
        moved = _optimizer(bench.recipe, network, rate)
        return loop.brief(
            tail, rows, moved, steps=optimization.PROBE_STEPS, seed=seed, place=bench.place
        )

    return optimization.probe(settings, loss_at)


def _train(
    bench: Bench,
    network: nets.Network,
    rows: Rows,
    part: Part,
    rate: float,
    seed: int,
    saved: Path,
) -> Trained:
    """Train one network on some pictures and judge it on others. Changes the network."""
    recipe = bench.recipe
    tail = _tail(network, recipe).to(bench.place.device)
    steps = sum(rows.steps(epoch) for epoch in range(recipe.epochs))
    settings = recipe.optimization
    moved = _optimizer(recipe, network, rate)
    labels = bench.split.dataset.labels[part.judged]
    patience = math.ceil(settings.patience * recipe.epochs) if len(bench.split.val) else 0
    return loop.train(
        tail,
        rows,
        moved,
        optimization.schedule(moved, settings, steps),
        epochs=recipe.epochs,
        horizon=settings.average * steps,
        stop=Stop(recipe.objective, patience, len(part.judged)),
        validate=lambda module: _measure(
            loop.predict(module, bench.plain, part.judged, bench.place), labels
        ),
        seed=seed,
        place=bench.place,
        saved=saved,
        progress=bench.progress,
    )


def _measure(
    logits: Float[np.ndarray, "pictures classes"], labels: Int64[np.ndarray, "pictures"]
) -> Measured:
    right = logits.argmax(axis=1) == labels
    recalls = [right[labels == label].mean() for label in np.unique(labels)]
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = -log_p[np.arange(len(labels)), labels].mean()
    return Measured(float(loss), float(right.mean()), float(np.mean(recalls)))
