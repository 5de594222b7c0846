"""Hold what all trainings of a pruning share, and train what a cut left."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sevenfold import draws, loop, nets
from sevenfold.features import trunk as engines
from sevenfold.loop import Stop, Trained
from sevenfold.practices import optimization, pruning
from sevenfold.train.bench import Bench, Part
from sevenfold.train.member import Targets, hard, measure, objective, rows_of
from sevenfold.train.pruned.plan import Candidate, Plan

RANKED_ON: Final = 256
"""Training pictures by which channels and blocks are ranked and batch norms recalibrated."""
_BATCH: Final = 32
_REMEMBERED_BYTES: Final = 256_000_000

Latency = Callable[[nets.Network], float]


@dataclass(frozen=True, eq=False)
class Ground:
    """Hold what all trainings of a pruning share.

    `fitted` says whether a frozen trunk was trained on, so that weights are fitted to its norms'
    statistics of other pictures.
    """

    network: nets.Network
    bench: Bench
    targets: Targets
    how: pruning.Trimming
    plan: Plan
    seed: int
    latency: Latency
    fitted: bool = False

    @property
    def part(self) -> Part:
        """Return what is trained on and what is judged on."""
        return Part("", self.bench.pictures, self.bench.judged)

    @property
    def seen(self) -> Int64[np.ndarray, "some"]:
        """Return the pictures that channels are ranked by: a draw of those trained on."""
        numbers = draws.numbers([self.bench.split.dataset.hashes[at] for at in self.part.pictures])
        order = draws.order(f"{self.seed}/prune", numbers, 0)
        return np.asarray(self.part.pictures[order[:RANKED_ON]])


def laid(
    network: nets.Network,
    temperature: float,
    bench: Bench,
    plan: Plan,
    latency: Latency,
    seed: int,
    *,
    fitted: bool,
) -> Ground:
    """Lay out what the trainings share: pictures to rank by, limits, and the teacher."""
    side = bench.recipe.side
    dense = pruning.couple(network, side)
    limits = pruning.Limits(dense={group.name: group.channels for group in dense.groups})
    held: list[tuple[Tensor, Tensor]] = []
    how = pruning.Trimming(plan.settings, limits, lambda: iter(held), side, seed)
    # A sharpened teacher, of pictures that it was trained on, would tell their labels alone.
    teacher = _teacher(network, max(1.0, temperature), bench)
    ground = Ground(network, bench, teacher, how, plan, seed, latency, fitted)
    held += _batches(ground)
    return ground


def _batches(ground: Ground) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the pixels and soft labels by which channels are ranked.

    Labels, not the teacher: an unpruned network's loss against its own answers is at its
    least, so there is no gradient to rank by.
    """
    targets, views = hard(ground.bench), ground.bench.views
    for start in range(0, len(ground.seen), _BATCH):
        some = ground.seen[start : start + _BATCH]
        first = np.zeros(len(some), np.int64)
        yield loop.to_input(views.get(some, first), "cpu"), targets(some, first)


def _teacher(network: nets.Network, temperature: float, bench: Bench) -> Targets:
    """Ask the unpruned network about pixels, each view once as long as memory allows."""
    trunk, head = nets.cut(copy.deepcopy(network).eval(), 0)
    head.eval()
    engine = engines.engine(trunk, bench.recipe.side, bench.place.device)
    classes = len(bench.split.dataset.classes)
    most = _REMEMBERED_BYTES // (4 * classes + 250)  # and what a dictionary needs for a row
    known: dict[tuple[int, int], Float[np.ndarray, " classes"]] = {}

    def targets(
        pictures: Int64[np.ndarray, "rows"], views: Int64[np.ndarray, "rows"]
    ) -> Float[Tensor, "rows classes"]:
        keys = list(zip(pictures.tolist(), views.tolist(), strict=True))
        if not all(key in known for key in keys):
            features = engine.run(bench.views.get(pictures, views))
            with torch.no_grad():
                logits = head(torch.from_numpy(features).float()) / temperature
            rows = torch.softmax(logits, dim=1)
            if len(known) < most:
                known.update(zip(keys, rows.numpy().copy(), strict=True))
            return rows
        return torch.from_numpy(np.stack([known[key] for key in keys]))

    return targets


def asked(ground: Ground, network: nets.Network) -> Candidate:
    """Ask a network about the validation pictures."""
    bench = ground.bench
    moved = copy.deepcopy(network).to(bench.place.device)
    logits = loop.predict(moved, bench.plain, bench.judged, bench.place)
    return Candidate(network, logits, Trained((), 0, False))


def score(ground: Ground, candidate: Candidate) -> float:
    """Return the objective on validation."""
    bench = ground.bench
    return objective(candidate.logits, bench.labels, bench.recipe.objective)


def saved_at(ground: Ground, kind: str, number: int, what: str = "") -> Path:
    """Name the file that a step is written to."""
    return ground.bench.folder / f"{kind}-{number}{what}.checkpoint"


def _normed(ground: Ground, network: nets.Network) -> tuple[nets.Network, bool]:
    """Measure batch-norm statistics anew, unless those that weights were fitted to serve better.

    On a frozen trunk all was fitted to pretrained statistics: measured anew on the user's
    pictures they cost `clothing` eight points before anything was cut (docs/log.md, 2026-11-28).

    Returns:
        A network of its own, and whether its statistics are to be kept.
    """
    seen = (pixels for pixels, _ in ground.how.batches() if len(pixels) > 1)
    anew = pruning.recalibrated(network, seen)
    if ground.fitted and _loss(ground, network) <= _loss(ground, anew):
        return copy.deepcopy(network), True
    return anew, False


@torch.inference_mode()
def _loss(ground: Ground, network: nets.Network) -> float:
    """Return the cross-entropy on the pictures that channels are ranked by."""
    network = network.eval()
    return sum(
        float(torch.nn.functional.cross_entropy(network(pixels), targets, reduction="sum"))
        for pixels, targets in ground.how.batches()
    )


def retrained(ground: Ground, kind: str, candidate: Candidate, number: int) -> Candidate:
    """Train what a cut left on what the unpruned network says."""
    bench, recipe, seed = ground.bench, ground.bench.recipe, ground.seed + number
    settings = recipe.optimization
    network, kept = _normed(ground, candidate.network.cpu())
    network = network.requires_grad_(True).to(bench.place.device)
    rows = rows_of(bench, ground.part, ground.targets, seed)
    # What a step learnt by heart the next one does not see again.
    rows = replace(rows, first=(number - 1) * recipe.epochs)
    steps = sum(rows.steps(epoch) for epoch in range(recipe.epochs))
    # A new network has new parameters: the optimizer starts anew, too.
    blocks = [*network.blocks, network.pool]
    moved = optimization.optimizer(
        settings,
        optimization.groups(blocks, network.head, settings, ground.plan.rate),
        steps=steps,
        epochs=recipe.epochs,
    )

    def validate(module: torch.nn.Module) -> loop.Measured:
        return measure(loop.predict(module, bench.plain, bench.judged, bench.place), bench.labels)

    with pruning.still(network) if kept else contextlib.nullcontext():
        trained = loop.train(
            network,
            rows,
            moved,
            optimization.schedule(moved, settings, steps),
            epochs=recipe.epochs,
            horizon=settings.average * steps,
            stop=Stop(recipe.objective, 0),
            validate=validate,
            seed=seed,
            place=bench.place,
            saved=saved_at(ground, kind, number, "-training"),
            progress=bench.progress,
        )
    logits = loop.predict(network, bench.plain, bench.judged, bench.place)
    return Candidate(network.cpu().eval(), logits, trained)
