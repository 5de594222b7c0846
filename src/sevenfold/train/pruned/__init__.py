"""Prune a trained network: the loop's cuts, its retraining on pixels, and two controls.

`plan` says how and holds what comes of it; `ground` holds what all trainings share, and
trains; `steps` goes through them and writes them down, and `controls` are what the steps are
compared with. The cuts are here.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int64

from sevenfold import checkpoint, evaluate, nets
from sevenfold.data import Split
from sevenfold.errors import GateRefused, UsageError
from sevenfold.features.pixels import Pixels
from sevenfold.place import Place
from sevenfold.practices import imbalance, pruning
from sevenfold.practices.ensembling import Ensembling
from sevenfold.practices.transfer import ALL_BLOCKS
from sevenfold.progress import Progress
from sevenfold.recipe import Recipe
from sevenfold.train.bench import Bench, behind
from sevenfold.train.member import Member
from sevenfold.train.pruned import controls
from sevenfold.train.pruned.ground import Ground, Latency, asked, judged, laid, led, saved_at
from sevenfold.train.pruned.plan import Attempt, Candidate, Outcome, Plan, key
from sevenfold.train.pruned.steps import rebuilt, through, tree, untrained
from sevenfold.train.student import BLEND

__all__ = ["Attempt", "Candidate", "Outcome", "Plan", "attempted", "key", "shrunk"]

_ALONG: Final = 0.01  # of what a first aim counts; a cut takes half a minute
_APART: Final = 5_000  # from the seeds of members, which lie 10,000 apart: views are new


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

    Every training starts from a cut with recalibrated batch norms, and learns labels and what
    the unpruned network says of the same pixels, softened where calibration softens it
    (Hinton et al. 2015, arXiv 1503.02531). Where rare classes were helped, the prior is added
    to the logits of both inside the loss, so that it does not come back. Where the unpruned
    network that is trained on as long is asked for, it is trained first, and teaches the others
    if it is the better of the two. A step and its controls see the same blends, and each step
    sees new ones; where a training is one epoch, the pictures themselves.
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
    # A pass over blends alone ends nearer to them than to pictures: it cost an unpruned network
    # two points (docs/log.md, 2026-12-01).
    blend = BLEND if plan.settings.epochs > 1 else 0.0
    plain = replace(
        recipe,
        epochs=plan.settings.epochs,
        imbalance=imbalance.lasting(recipe.imbalance),
        augmentation=replace(recipe.augmentation, mixup=blend, cutmix=0.0),
        ensembling=Ensembling.off,  # views that do not come again
        transfer=replace(recipe.transfer, trainable_blocks=ALL_BLOCKS),
        # The last epoch counts, whatever validation says: a step is judged by it.
        optimization=replace(recipe.optimization, patience=0.0),
    )
    views = seed + _APART
    bench = behind(network, plain, split, pictures, place, pixels, folder, views, progress)
    fitted = recipe.transfer.trainable_blocks < len(network.blocks)
    ground = laid(network, temperature, bench, plan, latency, seed, fitted=fitted)
    _reachable(ground)
    start = asked(ground, network)
    before = judged(ground, start)
    trim = partial(_trim, ground, "step")
    drop = plan.settings.max_drop
    longer: tuple[Candidate, ...] = ()
    if plan.settings.controls != "none":
        longer = controls.longer(ground, start, plan.settings.steps)
        ground = led(ground, start, longer[-1])
    made = through(ground, start, "step", plan.settings.steps, trim, score=before, max_drop=drop)
    dense = longer[len(made.kept) - 1] if longer and made.kept else None
    smaller = controls.Smaller()
    if plan.settings.controls == "all" and made.kept:
        smaller = controls.smaller(ground, start, made.kept, recipe.epochs)
    return Outcome(before, made, dense, smaller.networks, smaller.fresh, smaller.missing)


def attempted(
    ships: Sequence[Member], bench: Bench, rate: float, *, seed: int, pixels: Pixels
) -> Attempt:
    """Prune what a fit made, or say why that cannot be done: a training is never lost by it.

    Writes to the stores and checkpoints below the bench's folder; goes on from what is there.

    Args:
        ships: what is to be deployed.
        bench: what it was trained on.
        rate: the largest learning rate.
        seed: of everything random.
        pixels: the store of decoded pictures.
    """
    settings, recipe = bench.recipe.pruning, bench.recipe
    left = 1 - settings.macs
    plan = Plan(
        (pruning.Aim(pruning.Target("macs", left), left),),
        settings,
        rate,
    )
    if len(ships) > 1:
        return Attempt(plan, None, f"the vote of {len(ships)} networks ships, and one is pruned")
    if not len(bench.split.val):
        return Attempt(plan, None, "there are no validation pictures to measure its cost by")
    (member,) = ships
    try:
        outcome = shrunk(
            member.network,
            evaluate.fit_temperature(member.logits.astype(np.float64), bench.labels),
            recipe,
            bench.split,
            bench.pictures,
            plan,
            latency=lambda _: math.nan,
            seed=seed,
            place=bench.place,
            pixels=pixels,
            folder=bench.folder / "prune",
            progress=bench.progress,
        )
    except (GateRefused, UsageError) as error:
        return Attempt(plan, None, error.problem)
    return Attempt(plan, outcome)


def _reachable(ground: Ground) -> None:
    """Refuse a target that is out of reach, before anything is trained."""
    least = pruning.smallest(ground.network, ground.how)
    dense, left = (pruning.cost(one, ground.how.side) for one in (ground.network, least))
    for aim in ground.plan.aims:
        target, value = aim.target, aim.target.value
        if target.kind == "latency":
            share = aim.share * ground.latency(least) / value
        else:
            share = left.of(target.counted) / dense.of(target.counted)
        if share <= aim.share:
            continue
        if target.kind == "megabytes":
            nearest = value + (share - aim.share) * dense.parameters * pruning.WEIGHT_BYTES / 1e6
        else:
            nearest = value * share / aim.share
        # Rounded up, so that what is offered can be had.
        offer = math.ceil(nearest * 1000) / 1000 if nearest < 1000 else math.ceil(nearest)
        stay = pruning.couple(ground.network, ground.how.side).reasons
        nothing = left.of(target.counted) == dense.of(target.counted)
        if nothing or (target.relative and offer >= 1):
            raise UsageError(
                f"--target {target} is out of reach: nothing of this network may go "
                f"({stay or 'floors and caps of channels keep all'})",
                pruning.UNPRUNED,
            )
        others = f"; others cannot go at all ({stay})" if stay else ""
        raise UsageError(
            f"--target {target} is out of reach: floors and caps of channels leave at least "
            f"{offer:.12g}{others}",
            f"name {target.kind}={offer:.12g} or more",
        )


def _trim(ground: Ground, kind: str, candidate: Candidate, number: int) -> Candidate:
    """Cut a network for a step; a cut that was made already is taken as it is."""
    plan, saved = ground.plan, saved_at(ground, kind, number, "-cut")
    if saved.exists():
        return rebuilt(ground, checkpoint.load(saved))
    ground.bench.progress("prune", number - 1, plan.settings.steps)
    steps = plan.settings.steps
    first, *others = [pruning.shares(aim.share, steps)[number - 1] for aim in plan.aims]
    smaller = _cut(ground, candidate.network, first, others)
    if others and plan.aims[0].target.kind != "latency":
        smaller = _no_further(ground, candidate.network, smaller, first, others)
    # Written down also because a clock may decide once, but not twice.
    cut = untrained(smaller)
    checkpoint.save(saved, tree(cut))
    return cut


def _cut(
    ground: Ground, network: nets.Network, first: float, others: Sequence[float]
) -> nets.Network:
    """Cut for one aim after another until these shares of what they count are left."""
    plan, how = ground.plan, ground.how
    for aim, share in zip(plan.aims, (first, *others), strict=True):
        network = _aimed(ground, network, aim, share, how)
        # By cost, so that a later cut takes no more than it must of what an earlier one counted.
        # Taylor's numbers alone are losses, which compare across layers as they are.
        across = "literal" if plan.settings.ranking == "taylor" else plan.settings.across
        how = replace(how, settings=replace(plan.settings, across=across, by_cost=True))
    return network


def _no_further(
    ground: Ground,
    network: nets.Network,
    cut: nets.Network,
    first: float,
    others: Sequence[float],
) -> nets.Network:
    """Cut anew for the first aim by what the others' cuts take along, or by half of that.

    Parameters take multiply-accumulates along: cut for both, `clothing` kept 54 % of them
    where 60 % was the target (benchmarks/results/prune.jsonl).
    """
    counted = ground.plan.aims[0].target.counted
    dense, left = (pruning.cost(one, ground.how.side).of(counted) for one in (ground.network, cut))
    along = first - left / dense
    for part in (1.0, 0.5) if along > _ALONG else ():
        try:
            other = _cut(ground, network, min(1.0, first + part * along), others)
        except UsageError:  # the others need that what the first aim took is gone
            continue
        if left < pruning.cost(other, ground.how.side).of(counted) <= first * dense:
            return other
    return cut


def _aimed(
    ground: Ground, network: nets.Network, aim: pruning.Aim, share: float, how: pruning.Trimming
) -> nets.Network:
    """Cut a network until a share of what an aim counts is left."""
    if aim.target.kind == "latency":
        wanted = aim.target.value * share / aim.share
        return pruning.trimmed_to_latency(network, wanted, how, ground.latency)
    counted = aim.target.counted
    have = pruning.cost(ground.network, how.side).of(counted)
    return pruning.trimmed(network, counted, share * have, how)
