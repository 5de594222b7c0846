"""Hold what all trainings of a pruning share, and train what a cut left."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sevenfold import draws, evaluate, loop, nets
from sevenfold.features import trunk as engines
from sevenfold.features.views import Views
from sevenfold.loop import Trained
from sevenfold.practices import imbalance, pruning
from sevenfold.rows import Numbers, to_input
from sevenfold.train.bench import Bench, Part
from sevenfold.train.member import Targets, hard, measure, objective, rows_of, train_part
from sevenfold.train.pruned.plan import Candidate, Plan

RANKED_ON: Final = 256
"""Training pictures by which channels and blocks are ranked, but by activations, which are
looked at on all validation pictures, and batch norms measured anew."""
_BATCH: Final = 32
_LABELS: Final = 0.5  # of the targets; the rest is the unpruned network's (docs/log.md, 2026-11-30)

Latency = Callable[[nets.Network], float]
Teacher = Callable[[Float[Tensor, "batch 3 side side"]], Float[Tensor, "batch classes"]]
Batch = tuple[Float[Tensor, "batch 3 side side"], Float[Tensor, "batch classes"]]


@dataclass(frozen=True, eq=False)
class Ground:
    """Hold what all trainings of a pruning share.

    `batches` are training pictures, by which batch norms are measured anew. `fitted` says
    whether a frozen trunk was trained on, so that weights are fitted to its norms' statistics
    of other pictures.
    """

    network: nets.Network
    bench: Bench
    teacher: Teacher
    how: pruning.Trimming
    plan: Plan
    seed: int
    latency: Latency
    batches: Sequence[Batch]
    fitted: bool = False

    @property
    def part(self) -> Part:
        """Return what is trained on and what is judged on."""
        return Part("", self.bench.pictures, self.bench.judged)

    @property
    def seen(self) -> Int64[np.ndarray, "some"]:
        """Return a draw of the pictures that are trained on."""
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
    # Labels, not the teacher: an unpruned network's loss against its own answers is at its
    # least, so there is no gradient to rank by.
    labels = hard(bench)
    some: list[Batch] = []
    everything = partial(_batches, bench.plain, labels, bench.judged)
    how = pruning.Trimming(plan.settings, limits, lambda: iter(some), everything, side, seed)
    teacher = _teacher(network, max(1.0, temperature), bench)
    ground = Ground(network, bench, teacher, how, plan, seed, latency, some, fitted)
    some += _batches(bench.views, labels, ground.seen)
    return ground


def _batches(
    views: Views, targets: Targets, pictures: Int64[np.ndarray, "some"]
) -> Iterator[Batch]:
    """Yield the pixels of pictures, each in its first view, and their soft labels."""
    for start in range(0, len(pictures), _BATCH):
        some = pictures[start : start + _BATCH]
        first = np.zeros(len(some), np.int64)
        yield to_input(views.get(some, first), "cpu"), targets(some, first)


def _teacher(network: nets.Network, temperature: float, bench: Bench) -> Teacher:
    """Return what the unpruned network says of pixels."""
    trunk, head = nets.cut(copy.deepcopy(network).eval(), 0)
    head.eval()
    engine = engines.engine(trunk, bench.recipe.side, bench.place.device)
    run = engines.spread(engine, bench.place.threads)
    # As a pupil's own logits inside the loss, which labels as they come are learnt by.
    prior = torch.from_numpy(imbalance.offset(bench.recipe.imbalance, bench.counts)).float()

    def answer(pixels: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch classes"]:
        stored = pixels.permute(0, 2, 3, 1).round().to(torch.uint8).cpu().numpy()
        with torch.no_grad():
            logits = head(torch.from_numpy(run(stored)).float()) / temperature
        return torch.softmax(logits + prior, dim=1).to(pixels.device)

    return answer


def led(ground: Ground, start: Candidate, longer: Candidate) -> Ground:
    """Let the unpruned network teach as it was, or as it is after as long a training.

    Behind a frozen trunk the latter can be the better by more than a cut costs (docs/log.md,
    2026-12-01), of few pictures the worse. The lower loss on validation, calibrated,
    decides.

    Args:
        ground: where the unpruned network teaches.
        start: it.
        longer: the control.
    """
    labels = ground.bench.labels
    if not all(np.isfinite(one.logits).all() for one in (start, longer)):
        return ground
    losses = [evaluate.calibrated_nll(one.logits, labels) for one in (start, longer)]
    if not losses[1] < losses[0]:
        return ground
    softened = max(1.0, evaluate.fit_temperature(longer.logits.astype(np.float64), labels))
    return replace(ground, teacher=_teacher(longer.network, softened, ground.bench))


def asked(ground: Ground, network: nets.Network) -> Candidate:
    """Ask a network about the validation pictures."""
    bench = ground.bench
    moved = copy.deepcopy(network).to(bench.place.device)
    logits = loop.predict(moved, bench.plain, bench.judged, bench.place)
    return Candidate(network, logits, Trained((), 0, False))


def judged(ground: Ground, candidate: Candidate) -> float:
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
    seen = (pixels for pixels, _ in ground.batches if len(pixels) > 1)
    anew = pruning.recalibrated(network, seen)
    if ground.fitted and _loss(ground, network) <= _loss(ground, anew):
        return copy.deepcopy(network), True
    return anew, False


@torch.inference_mode()
def _loss(ground: Ground, network: nets.Network) -> float:
    """Return the cross-entropy on the training pictures that norms are measured by."""
    network = network.eval()
    return sum(
        float(torch.nn.functional.cross_entropy(network(pixels), targets, reduction="sum"))
        for pixels, targets in ground.batches
    )


def retrained(ground: Ground, kind: str, candidate: Candidate, number: int) -> Candidate:
    """Train what a cut left, mostly on blends, by labels and what an unpruned network says.

    Of blends it is not as sure as of the pictures that it was trained on, and so tells more
    (Beyer et al. 2022, arXiv 2106.05237). Of a network that was trained on a frozen trunk alone
    a pupil of all layers can be the better, so that it has the labels, too.
    """
    bench, seed = ground.bench, ground.seed + number
    network, kept = _normed(ground, candidate.network.cpu())
    network.requires_grad_(True)
    shown = rows_of(bench, ground.part, hard(bench), seed)

    def taught(
        inputs: Tensor, targets: Tensor, numbers: Numbers, epoch: int
    ) -> tuple[Tensor, Tensor]:
        blended, labels = shown.mix(inputs, targets, numbers, epoch)
        return blended, _LABELS * labels + (1 - _LABELS) * ground.teacher(blended)

    # What a step learnt by heart the next one does not see again.
    rows = replace(shown, mix=taught, first=(number - 1) * bench.recipe.epochs)
    saved, rate = saved_at(ground, kind, number, "-training"), ground.plan.rate
    with pruning.still(network) if kept else contextlib.nullcontext():
        trained, _, _ = train_part(
            bench, network, rows, ground.part, rate, seed, saved, judged=False
        )
    network = network.cpu().eval()
    made = _settled(ground, network) if _blends(bench) else asked(ground, network)
    return replace(made, trained=trained)


def _blends(bench: Bench) -> bool:
    """Tell whether what is trained on are blends of pictures."""
    return bench.recipe.augmentation.mixup > 0


def _settled(ground: Ground, network: nets.Network) -> Candidate:
    """Let batch norms hold the statistics of blends or of pictures as they are.

    A blend of two pictures whose share is drawn evenly has two thirds of a picture's variance,
    and what is asked about later is none. Weights went with the former, so that both are tried:
    the lower loss on validation decides.
    """
    bench = ground.bench
    seen = _batches(bench.plain, hard(bench), ground.seen)
    anew = pruning.recalibrated(network, (pixels for pixels, _ in seen if len(pixels) > 1))
    both = [asked(ground, one) for one in (network, anew)]
    losses = [measure(one.logits, bench.labels).loss for one in both]
    return both[losses[1] < losses[0]]
