"""Train one member of the vote: with small data also its folds, for every choice."""

import contextlib
import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sevenfold import draws, evaluate, loop, nets
from sevenfold.data import Dataset
from sevenfold.data.split import FOLDS
from sevenfold.engines import threads_each
from sevenfold.features.pixels import Pixels
from sevenfold.features.views import PLAIN
from sevenfold.loop import Measured, Stop, Trained
from sevenfold.place import Place, narrowed
from sevenfold.practices import augmentation, imbalance, optimization, pruning, transfer
from sevenfold.progress import Progress, duration, silent
from sevenfold.recipe import Recipe
from sevenfold.rows import Rows
from sevenfold.train.bench import Bench, Part, looking, parts_of, start, tail_of

Targets = Callable[
    [Int64[np.ndarray, "rows"], Int64[np.ndarray, "rows"]], Float[Tensor, "rows classes"]
]


LONG_SECONDS: Final = 60.0
"""Of training, from which on it is told how long it will take."""


@dataclass(frozen=True, eq=False)
class Member:
    """Hold one trained network and how it was trained.

    Args:
        network: whole, in evaluation mode, with the best weights.
        folds: the networks that each left a fold out; empty with val.
        origin: of the weights that it started from.
        seed: of its training.
        rate: the largest learning rate that was found for its cut and backbone.
        trained: history and best epoch.
        steps: that the schedule was made for, of all epochs.
        decision: what the optimizer decided on its way, or None.
        logits: of the pictures that choices are made by: those of `split.val`, or
            without val each training picture's from the fold that left it out.
    """

    network: nets.Network
    folds: tuple[nets.Network, ...]
    origin: transfer.Origin
    seed: int
    rate: float
    trained: Trained
    steps: int
    decision: optimization.Decision | None
    logits: Float[np.ndarray, "judged classes"]


def hard(bench: Bench) -> Targets:
    """Make the targets of a training on labels alone."""
    dataset, settings = bench.split.dataset, bench.recipe.optimization
    labels, classes = torch.from_numpy(dataset.labels), len(dataset.classes)
    spread = torch.from_numpy(imbalance.spread(bench.recipe.imbalance, bench.counts)).float()

    def targets(
        pictures: Int64[np.ndarray, "rows"], _views: Int64[np.ndarray, "rows"]
    ) -> Float[Tensor, "rows classes"]:
        # Of a batch: of all pictures they would be gigabytes where both are many.
        hot = torch.nn.functional.one_hot(labels[pictures], classes).float()
        return optimization.smooth(hot, settings, spread)

    return targets


def rows_of(bench: Bench, part: Part, targets: Targets, seed: int) -> Rows:
    """Say what one training sees."""
    dataset, recipe = bench.split.dataset, bench.recipe
    numbers = draws.numbers(dataset.hashes)
    stages = imbalance.plan(
        recipe.imbalance,
        dataset.labels,
        part.pictures,
        numbers,
        dataset.classes,
        epochs=recipe.epochs,
        batch=recipe.batch,
        seed=seed,
    )
    return Rows(
        bench.views,
        stages,
        numbers,
        labels=dataset.labels,
        targets=targets,
        batch=recipe.batch,
        mix=augmentation.mixer(recipe.augmentation, seed),
    )


def threads_of(bench: Bench) -> int:
    """Return the threads of a member's training.

    Members over stored rows have as many as each can have side by side, also where they are
    trained one after another: the number changes the last bits of what is learnt.
    """
    members, threads = bench.recipe.ensembling.members, bench.place.threads
    if members == 1 or not bench.trunk or bench.place.device != "cpu":
        return threads
    # Few trainings on many cores share all of them.
    trainings = members * (1 if len(bench.split.val) else FOLDS + 1)
    return max(threads_each(threads), threads // trainings)


def named(bench: Bench, seed: int) -> str:
    """Name a member's checkpoints; `adjusted_after` shares those of plain training."""
    method = bench.recipe.imbalance.method
    return f"{seed}-{'none' if method == 'adjusted_after' else method}"


def on_labels(bench: Bench, rate: float, seed: int) -> Member:
    """Train one member on labels."""
    targets, settings = hard(bench), bench.recipe.imbalance
    with narrowed(threads_of(bench)):
        found = trained(
            bench,
            rate,
            seed,
            named(bench, seed),
            lambda _, part: rows_of(bench, part, targets, seed),
        )
    if settings.method != "adjusted_after":
        return found
    for network in (*found.folds, found.network):
        imbalance.shift_head(network.head, bench.counts, settings.factor)
    return replace(found, logits=imbalance.adjusted(found.logits, bench.counts, settings.factor))


def checkpoint_of(bench: Bench, name: str, part: Part) -> Path:
    """Return the file of a training's checkpoint."""
    return bench.folder / f"{name}{part.name}.checkpoint"


def begun(bench: Bench, seed: int) -> tuple[nets.Network, transfer.Origin]:
    """Build the network that a member starts from, around the trunk that all share."""
    network, origin = start(bench.recipe, len(bench.split.dataset.classes), seed)
    # A random trunk differs by seed; the rows were computed by one.
    for block, frozen in zip(network.blocks, bench.trunk, strict=False):
        block.load_state_dict(frozen.state_dict())
    return network, origin


def part_on_labels(bench: Bench, rate: float, seed: int, part: Part) -> Trained:
    """Train one part of a member to its end, and leave it in its checkpoint."""
    network, _ = begun(bench, seed)
    rows = rows_of(bench, part, hard(bench), seed)
    path = checkpoint_of(bench, named(bench, seed), part)
    return train_part(bench, network, rows, part, rate, seed, path)[0]


def trained(
    bench: Bench,
    rate: float,
    seed: int,
    name: str,
    rows: Callable[[int, Part], Rows],
    begins: Member | None = None,
) -> Member:
    """Train a network; with small data also one for each fold, for every choice.

    Args:
        bench: what it is trained on.
        rate: the largest learning rate.
        seed: of everything random in it.
        name: of its checkpoints.
        rows: of each of its parts, by number.
        begins: whose networks its parts start from, with batch norms that keep its statistics;
            None: from where all members start.
    """
    networks: list[nets.Network] = []
    classes = len(bench.split.dataset.classes)
    logits = np.zeros((len(bench.judged), classes), np.float32)
    for at, part in enumerate(parts_of(bench)):
        if begins:
            network, origin = copy.deepcopy((*begins.folds, begins.network)[at]), begins.origin
        else:
            network, origin = begun(bench, seed)
        with pruning.still(network) if begins else contextlib.nullcontext():
            trained, steps, decision = train_part(
                bench, network, rows(at, part), part, rate, seed, checkpoint_of(bench, name, part)
            )
        networks.append(network)
        answered(bench, part, network, logits)
    return Member(
        networks[-1], tuple(networks[:-1]), origin, seed, rate, trained, steps, decision, logits
    )


def answered(
    bench: Bench,
    part: Part,
    network: nets.Network,
    logits: Float[np.ndarray, "judged classes"],
) -> None:
    """Write what a network says of the pictures that its part is judged by into `logits`.

    Leaves the network on the processor, in evaluation mode. A refit on all pictures is not
    asked, since it has seen them.
    """
    if part.name or len(bench.split.val):
        tail = tail_of(network, bench.recipe).to(bench.place.device)
        places = np.searchsorted(bench.judged, part.judged)
        logits[places] = loop.predict(tail, bench.plain, part.judged, bench.place)
    network.cpu().eval()


def _optimizer(
    recipe: Recipe, network: nets.Network, rate: float, steps: int = 0
) -> torch.optim.Optimizer:
    count = len(network.blocks)
    depth = min(count, recipe.transfer.trainable_blocks)
    blocks = list(network.blocks)[count - depth :]
    settings, pretrained = recipe.optimization, recipe.transfer.weights != "random"
    groups = optimization.groups([*blocks, network.pool], network.head, settings, rate, pretrained)
    return optimization.optimizer(settings, groups, steps=steps, epochs=recipe.epochs)


def probe(bench: Bench, seed: int, trainings: int = 1) -> tuple[float, list[optimization.Probed]]:
    """Choose the rate by a few steps of each candidate, all from the same start.

    Tells how long so many trainings will take, one after another.
    """
    seen = 0
    took: list[float] = []  # for a picture
    settings = bench.recipe.optimization
    pretrained = bench.recipe.transfer.weights != "random"
    rows = rows_of(bench, parts_of(bench)[-1], hard(bench), seed)
    rows = replace(rows, batch=optimization.probed_batch(rows.batch))

    def loss_at(rate: float) -> float:
        nonlocal seen
        bench.progress("rate", seen, len(optimization.rates(settings, pretrained)))
        seen += 1
        network, _ = start(bench.recipe, len(bench.split.dataset.classes), seed)
        tail = tail_of(network, bench.recipe).to(bench.place.device)
        moved = _optimizer(bench.recipe, network, rate)
        steps, began = optimization.PROBE_STEPS, time.perf_counter()
        loss = loop.brief(tail, rows, moved, steps=steps, seed=seed, place=bench.place)
        took.append((time.perf_counter() - began) / (steps * rows.batch))
        return loss

    found = optimization.probe(settings, loss_at, pretrained)
    if took:
        parts = sum(len(part.pictures) for part in parts_of(bench))
        whole = min(took) * parts * bench.recipe.epochs * trainings
        if whole >= LONG_SECONDS:
            bench.progress(f"about {duration(whole)} of training ahead", 0, 0)
    return found


def train_part(
    bench: Bench,
    network: nets.Network,
    rows: Rows,
    part: Part,
    rate: float,
    seed: int,
    saved: Path,
    *,
    judged: bool = True,
) -> tuple[Trained, int, optimization.Decision | None]:
    """Train one network on some pictures and judge it on others. Changes the network.

    Args:
        bench: what it is trained on.
        network: that training starts from.
        rows: what it sees.
        part: names its pictures, and those that judge it.
        rate: the largest learning rate.
        seed: of everything random in it.
        saved: the checkpoint's file.
        judged: whether validation says anything after each epoch.

    Returns:
        The history, the steps of the schedule, and what the optimizer decided.
    """
    recipe = bench.recipe
    tail = tail_of(network, recipe).to(bench.place.device)
    steps = sum(rows.steps(epoch) for epoch in range(recipe.epochs))
    settings = recipe.optimization
    moved = _optimizer(recipe, network, rate, steps)
    labels = bench.split.dataset.labels[part.judged]
    # What is deferred must have had its time before patience can end a training.
    late = recipe.imbalance.method in imbalance.DEFERRED
    patience = recipe.epochs if late else math.ceil(settings.patience * recipe.epochs)

    def validate(module: torch.nn.Module) -> Measured:
        # The last epoch counts, whatever it would say.
        if not judged or not len(bench.split.val):
            return Measured(math.nan, math.nan, math.nan)
        return measure(loop.predict(module, bench.plain, part.judged, bench.place), labels)

    trained = loop.train(
        tail,
        rows,
        moved,
        optimization.schedule(moved, settings, steps),
        epochs=recipe.epochs,
        horizon=settings.average * steps,
        stop=Stop(
            recipe.objective,
            patience if len(bench.split.val) else 0,
            _effective_pictures(labels, recipe.objective),
        ),
        validate=validate,
        seed=seed,
        place=bench.place,
        saved=saved,
        progress=bench.progress,
    )
    return trained, steps, optimization.decision(moved)


def answers(
    network: nets.Network,
    recipe: Recipe,
    dataset: Dataset,
    pictures: Int64[np.ndarray, "pictures"],
    place: Place,
    progress: Progress = silent,
) -> Float[np.ndarray, "pictures classes"]:
    """Return a network's logits of pictures as they are. Writes rows to the stores.

    Args:
        network: stays where it is.
        recipe: side and cut.
        dataset: holds the pictures.
        pictures: asked about, ascending.
        place: where to compute.
        progress: is told the stores.
    """
    trunk, tail = nets.cut(network, recipe.transfer.trainable_blocks)
    look = looking(trunk, recipe.side, dataset, place, progress)
    views = look(pictures, Pixels(recipe.side, full=True), PLAIN, 1)
    return loop.predict(copy.deepcopy(tail).to(place.device), views, pictures, place)


def _effective_pictures(labels: Int64[np.ndarray, "pictures"], objective: str) -> float:
    """Return the number of pictures whose accuracy would vary as much as the objective.

    A mean of K recalls, of n_c pictures each, varies as the accuracy of K² / Σ 1/n_c pictures
    does: a rare class makes it unsure, however common the others are.
    """
    counts = np.unique(labels, return_counts=True)[1]
    if objective == "balanced_accuracy" and len(counts):
        return float(len(counts) ** 2 / (1 / counts).sum())
    return float(len(labels))


def objective(
    logits: Float[np.ndarray, "pictures classes"],
    labels: Int64[np.ndarray, "pictures"],
    name: str,
) -> float:
    """Return the accuracy, or the balanced accuracy, of logits."""
    return float(getattr(measure(logits, labels), name))


def measure(
    logits: Float[np.ndarray, "pictures classes"], labels: Int64[np.ndarray, "pictures"]
) -> Measured:
    """Return loss and accuracies of logits."""
    loss = evaluate.log_loss(logits, labels).mean()
    accuracy = (logits.argmax(axis=1) == labels).mean()
    balanced = np.nanmean(imbalance.recalls(logits, labels))
    return Measured(float(loss), float(accuracy), float(balanced))
