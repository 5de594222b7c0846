"""Prune a trained network: the loop's cuts, its retraining on pixels, and two controls."""

import copy
import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sevenfold import checkpoint, draws, loop, nets
from sevenfold.data import Split
from sevenfold.errors import UsageError
from sevenfold.features import trunk as engines
from sevenfold.features.pixels import Pixels
from sevenfold.loop import Epoch, Place, Stop, Trained
from sevenfold.practices import imbalance, optimization, pruning
from sevenfold.progress import Progress
from sevenfold.recipe import Recipe
from sevenfold.train.bench import Bench, Part, prepared
from sevenfold.train.member import Targets, hard, measure, rows_of
from sevenfold.train.member import objective as objective

RANKED_ON: Final = 256
"""Training pictures by which channels and blocks are ranked and batch norms recalibrated."""
_BATCH: Final = 32
_WHOLE: Final = 1 << 16  # more blocks than any network has: the cut lies before the first
_REMEMBERED_BYTES: Final = 256_000_000


@dataclass(frozen=True)
class Plan:
    """Say how a network is pruned.

    Args:
        target: what is counted, and what it is to be.
        share: of that, what remains at the end, above 0 to below 1.
        settings: ranking, whether it is normalised, and whether blocks may go.
        steps: cuts with a training after each, 1 or more.
        epochs: of each training, 1 or more.
        rate: the largest learning rate of each training.
        max_drop: of the objective on validation, at which the loop ends, 0 to 1.
        smaller: also prunes at random, as the control for what is chosen.
        dense: also trains the unpruned network as long, as the control for training.
    """

    target: pruning.Target
    share: float
    settings: pruning.Pruning
    steps: int
    epochs: int
    rate: float
    max_drop: float
    smaller: bool = True
    dense: bool = True

    @property
    def counted(self) -> pruning.Counted:
        """What a cut counts."""
        return "macs" if self.target.kind in ("macs", "latency") else "parameters"


@dataclass(frozen=True, eq=False)
class Candidate:
    """Hold a network of the loop.

    Args:
        network: in evaluation mode, on the CPU.
        logits: of the validation pictures; empty before it was trained.
        trained: the history of its last training.
    """

    network: nets.Network
    logits: Float[np.ndarray, "judged classes"]
    trained: Trained


@dataclass(frozen=True, eq=False)
class Outcome:
    """Hold what was pruned, and its controls.

    Args:
        score: of the unpruned network on validation.
        shrunk: the steps.
        dense: the unpruned network after as much training; None where it was not asked for.
        smaller: networks of the steps' sizes with channels kept at random; where the steps
            removed whole blocks, these lost more channels in their stead.
    """

    score: float
    shrunk: pruning.Shrunk[Candidate]
    dense: Candidate | None
    smaller: tuple[Candidate, ...]


Latency = Callable[[nets.Network], float]


@dataclass(frozen=True, eq=False)
class _Ground:
    """Hold what all trainings of a pruning share."""

    network: nets.Network
    bench: Bench
    targets: Targets
    how: pruning.Trimming
    plan: Plan
    seed: int
    latency: Latency

    @property
    def part(self) -> Part:
        return Part("", self.bench.pictures, self.bench.judged)

    @property
    def seen(self) -> Int64[np.ndarray, "some"]:
        """Return the pictures that channels are ranked by: a draw of those trained on."""
        numbers = draws.numbers([self.bench.split.dataset.hashes[at] for at in self.part.pictures])
        order = draws.order(f"{self.seed}/prune", numbers, 0)
        return np.asarray(self.part.pictures[order[:RANKED_ON]])


def shrunk(
    network: nets.Network,
    temperature: float,
    recipe: Recipe,
    split: Split,
    pictures: Int64[np.ndarray, "pictures"],
    plan: Plan,
    *,
    latency: Latency,
    seed: int,
    place: Place,
    pixels: Pixels,
    folder: Path,
    progress: Progress,
) -> Outcome:
    """Prune a network to a plan's target, step by step, and make the controls.

    Every training starts from a cut with recalibrated batch norms, and learns what the
    unpruned network says, calibrated, of the same augmented pixels (Hinton et al. 2015,
    arXiv 1503.02531); all of them see the same views, so that the teacher is asked once.
    The last epoch counts, whatever validation says. Writes to the stores and checkpoints
    into `folder`; goes on from what is there, to the bit.

    Args:
        network: trained; stays as it is.
        temperature: by which its logits are calibrated.
        recipe: settled; how it was trained.
        split: with val.
        pictures: that it was trained on.
        plan: how it is pruned.
        latency: of a network in milliseconds; asked where the target is one.
        seed: of everything random.
        place: where to compute.
        pixels: the store of decoded pictures.
        folder: where checkpoints lie.
        progress: is told what is under way.

    Raises:
        UsageError: the target is out of reach.
    """
    # What helps rare classes is in the teacher's answers already.
    plain = replace(
        recipe,
        epochs=plan.epochs,
        imbalance=imbalance.Imbalance.off,
        transfer=replace(recipe.transfer, trainable_blocks=_WHOLE),
    )
    bench = prepared(plain, split, pictures, place, pixels, folder, seed, progress)
    ground = _ground(network, temperature, bench, plan, latency, seed)
    _reachable(ground)
    start = _asked(ground, network)
    score = _score(ground, start)
    made = pruning.shrink(
        start,
        plan.steps,
        score=score,
        max_drop=plan.max_drop,
        trim=partial(_trim, ground, "step"),
        retrain=partial(_retrain, ground, "step"),
        measure=partial(_score, ground),
        recall=partial(_recall, ground, "step"),
        keep=partial(_keep, ground, "step"),
    )
    dense: Candidate | None = None
    smaller: tuple[Candidate, ...] = ()
    if plan.dense and made.kept:
        dense = _control(ground, "dense", len(made.kept), lambda held, _: held)[-1]
    if plan.smaller and made.kept:
        sizes = [pruning.cost(step.network.network, recipe.side).macs for step in made.kept]
        smaller = _control(ground, "smaller", len(sizes), _at_random(ground, sizes))
    return Outcome(score, made, dense, smaller)


def _ground(
    network: nets.Network,
    temperature: float,
    bench: Bench,
    plan: Plan,
    latency: Latency,
    seed: int,
) -> _Ground:
    side = bench.recipe.side
    dense = pruning.couple(network, side)
    limits = pruning.Limits(dense={group.name: group.channels for group in dense.groups})
    held: list[tuple[Tensor, Tensor]] = []
    how = pruning.Trimming(plan.settings, limits, lambda: iter(held), side, seed)
    ground = _Ground(
        network, bench, _teacher(network, temperature, bench), how, plan, seed, latency
    )
    held += _batches(ground)
    return ground


def _reachable(ground: _Ground) -> None:
    """Refuse a target that floors and caps put out of reach, before anything is trained."""
    plan, how = ground.plan, ground.how
    least = pruning.smallest(ground.network, how)
    kind, value = plan.target.kind, plan.target.value
    if kind == "latency":
        share = plan.share * ground.latency(least) / value
    else:
        dense, left = (pruning.cost(one, how.side) for one in (ground.network, least))
        share = getattr(left, plan.counted) / getattr(dense, plan.counted)
        if kind == "megabytes":
            value += (share - plan.share) * dense.parameters * pruning.WEIGHT_BYTES / 1e6
    if share > plan.share:
        nearest = value if kind == "megabytes" else value * share / plan.share
        # Rounded up, so that what is offered can be had.
        offer = math.ceil(nearest * 1000) / 1000 if nearest < 1000 else math.ceil(nearest)
        raise UsageError(
            f"--target {kind}={plan.target.value:g} is out of reach: floors and caps of "
            f"channels leave at least {offer:g}",
            f"name {kind}={offer:g} or more",
        )


def _batches(ground: _Ground) -> Iterator[tuple[Tensor, Tensor]]:
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


def _asked(ground: _Ground, network: nets.Network) -> Candidate:
    """Ask a network about the validation pictures."""
    bench = ground.bench
    moved = copy.deepcopy(network).to(bench.place.device)
    logits = loop.predict(moved, bench.plain, bench.judged, bench.place)
    return Candidate(network, logits, Trained((), 0, False))


def _score(ground: _Ground, candidate: Candidate) -> float:
    bench = ground.bench
    return objective(candidate.logits, bench.labels, bench.recipe.objective)


def _path(ground: _Ground, kind: str, number: int, what: str = "") -> Path:
    return ground.bench.folder / f"{kind}-{number}{what}.checkpoint"


def _trim(ground: _Ground, kind: str, candidate: Candidate, number: int) -> Candidate:
    """Cut a network for a step; a cut that was made already is taken as it is."""
    plan, how, saved = ground.plan, ground.how, _path(ground, kind, number, "-cut")
    if saved.exists():
        return _candidate(ground, checkpoint.load(saved))
    ground.bench.progress("prune", number - 1, plan.steps)
    share = pruning.shares(plan.share, plan.steps)[number - 1]
    if plan.target.kind == "latency":
        wanted = plan.target.value * share / plan.share
        smaller = pruning.trimmed_to_latency(candidate.network, wanted, how, ground.latency)
    else:
        have = getattr(pruning.cost(ground.network, how.side), plan.counted)
        smaller = pruning.trimmed(candidate.network, plan.counted, share * have, how)
    # Written down also because a clock may decide once, but not twice.
    cut = Candidate(smaller, candidate.logits[:0], Trained((), 0, False))
    checkpoint.save(saved, _tree(cut))
    return cut


def _at_random(ground: _Ground, sizes: list[int]) -> Callable[[Candidate, int], Candidate]:
    """Cut channels at random until as many multiply-accumulates are left as in the steps."""
    settings = replace(ground.plan.settings, ranking="random", blocks=False)
    how = replace(ground.how, settings=settings)

    def trim(candidate: Candidate, number: int) -> Candidate:
        smaller = pruning.trimmed(candidate.network, "macs", sizes[number - 1], how)
        return replace(candidate, network=smaller)

    return trim


def _control(
    ground: _Ground, kind: str, steps: int, trim: Callable[[Candidate, int], Candidate]
) -> tuple[Candidate, ...]:
    """Go through the loop's steps with another cut."""
    made = pruning.shrink(
        _asked(ground, ground.network),
        steps,
        score=1.0,
        max_drop=1.0,
        trim=trim,
        retrain=partial(_retrain, ground, kind),
        measure=partial(_score, ground),
        recall=partial(_recall, ground, kind),
        keep=partial(_keep, ground, kind),
    )
    return tuple(step.network for step in made.kept)


def _retrain(ground: _Ground, kind: str, candidate: Candidate, number: int) -> Candidate:
    """Train what a cut left on what the unpruned network says."""
    bench, recipe, seed = ground.bench, ground.bench.recipe, ground.seed + number
    settings = recipe.optimization
    network = pruning.recalibrated(
        candidate.network.cpu(), (pixels for pixels, _ in ground.how.batches() if len(pixels) > 1)
    )
    network = network.requires_grad_(True).to(bench.place.device)
    rows = rows_of(bench, ground.part, ground.targets, seed)
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
        saved=_path(ground, kind, number, "-training"),
        progress=bench.progress,
    )
    logits = loop.predict(network, bench.plain, bench.judged, bench.place)
    return Candidate(network.cpu().eval(), logits, trained)


def _keep(ground: _Ground, kind: str, step: pruning.Step[Candidate]) -> None:
    checkpoint.save(_path(ground, kind, step.number), _tree(step.network) | {"score": step.score})
    for what in ("-training", "-cut"):
        _path(ground, kind, step.number, what).unlink(missing_ok=True)


def _recall(ground: _Ground, kind: str, number: int) -> pruning.Step[Candidate] | None:
    path = _path(ground, kind, number)
    if not path.exists():
        return None
    tree = checkpoint.load(path)
    return pruning.Step(number, _candidate(ground, tree), float(tree["score"]))


def _tree(candidate: Candidate) -> dict[str, Any]:
    return {
        "shapes": pruning.shapes(candidate.network),
        "weights": candidate.network.state_dict(),
        "logits": torch.from_numpy(np.ascontiguousarray(candidate.logits)),
        "history": [asdict(line) for line in candidate.trained.history],
    }


def _candidate(ground: _Ground, tree: dict[str, Any]) -> Candidate:
    """Rebuild what `_tree` describes, to the bit."""
    network = pruning.reshape(ground.network, tree["shapes"])
    assert isinstance(network, nets.Network)
    network.load_state_dict(tree["weights"])
    history = tuple(Epoch(**line) for line in tree["history"])
    trained = Trained(history, len(history) - 1 if history else 0, False)
    return Candidate(network.eval(), tree["logits"].numpy(), trained)


def key(plan: Plan, network: nets.Network, side: int, trial: str) -> str:
    """Name a pruning by the trial's key, its plan and the network that it starts from.

    Neither what is measured here (a latency, and so the share that is to remain), nor where
    the loop ends, nor which controls stand beside it changes a step.
    """
    plain = replace(plan, max_drop=0.0, smaller=True, dense=True)
    plain = replace(plain, share=0.0) if plan.target.kind == "latency" else plain
    state = f"{trial} {plain} {engines.digest(network, side)}"
    return hashlib.blake2b(state.encode(), digest_size=8).hexdigest()
