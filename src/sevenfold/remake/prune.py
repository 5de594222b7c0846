"""Prune the network of a finished run, judge what is left, and ship it if it is better."""

import copy
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sevenfold import data as datasets
from sevenfold import export, judging, latency, nets, release, runs, trial, versions
from sevenfold.errors import GateRefused, UsageError
from sevenfold.judging import File
from sevenfold.judging.choice import up
from sevenfold.place import Place
from sevenfold.practices import growth, pruning, transfer
from sevenfold.progress import Progress
from sevenfold.remake.asked import Asked, check
from sevenfold.remake.record import asked, first_seed, going_on, members, shipped
from sevenfold.train import Fitted, Member, pruned


@dataclass(frozen=True, eq=False)
class _Ground:
    """Hold what all steps of a pruning share."""

    run: runs.Run
    request: Asked
    wanted: tuple[pruning.Target, ...]
    place: Place
    clock: release.Clock
    progress: Progress


def prune(
    folder: Path,
    request: Asked,
    *,
    data: str,
    threads: int,
    device: str,
    progress: Progress,
    timer: latency.Timer = latency.timed,
) -> dict[str, Any]:
    """Remove channels and blocks of a run's network; what is left ships in its place.

    Writes to the run: steps into `trials/`, from which the same command goes on after a
    stop, and at the end a new version with model, report and `pruning.json`; the unpruned
    one is kept, and a whole model is served at any moment. Test is opened once, for the
    network as it is, all steps and the controls together. Nothing but the log of that
    opening changes where a gate says no.

    Args:
        folder: of the run.
        request: what was asked for.
        data: where its pictures are now, or "" for where they were.
        threads: 0 is one for each core.
        device: `auto`, `cpu`, `cuda` or `mps`.
        progress: is told what is under way.
        timer: times models; see `latency.timed`.

    Returns:
        The object of `prune --json`, schema "sevenfold.prune/1".

    Raises:
        UsageError: the run cannot be pruned, or not to this target.
        GateRefused: the drop is too large, cannot be certified, or nothing is faster.
        ResourceError: another command changes the run.
    """
    wanted = pruning.targets(request.target)
    check(request, wanted)
    versions.check(folder)
    clock, place = release.Clock(), trial.place(device, threads)
    command = versions.asked("prune", data, request)
    with versions.locked(folder):
        facts = versions.ended(folder, command)
        if not facts:
            with clock.stage("read"):
                run = runs.reopened(folder, data=data, threads=place.threads, progress=progress)
            _prunable(run, request)
            ground = _Ground(run, request, wanted, place, clock, progress)
            facts = _served(ground, *_judged(ground, timer), command)
        release.clear(folder)
        versions.forget(folder)
    return facts


def _served(
    ground: _Ground, found: judging.Chosen, plan: pruned.Plan, command: str
) -> dict[str, Any]:
    """Serve what was chosen as a new version of the run."""
    run, clock = ground.run, ground.clock
    told = found.told | {"seconds": clock.seconds}

    def make(part: Path) -> dict[str, Any]:
        facts = release.release(
            part,
            asked(run),
            _shipping(found.fitted, plan, run),
            run.split,
            place=ground.place,
            clock=clock,
            progress=ground.progress,
            made=found.made,
            pruning=told,
        )
        return facts | told | {"schema": "sevenfold.prune/1", "seconds": clock.seconds}

    parent, event = versions.keep(run.folder), {"target": ground.request.target}
    return versions.renewed(run.folder, parent, event, make, command)


def _judged(ground: _Ground, timer: latency.Timer) -> tuple[judging.Chosen, pruned.Plan]:
    """Go through the steps and choose what ships."""
    run, request, place, clock = ground.run, ground.request, ground.place, ground.clock
    with clock.stage("prune"):
        fitted = _fitted(run, place)
        dense = judging.filed("dense", fitted.ships[0], 0.0, fitted, run.split, place)
        timed = _latency(run, request)
        plan = _plan(run, request, ground.wanted, dense, timed)
        key = trial.key(going_on(run.recipe), run.split, request.seed, place)
        if request.latency_table:  # by which the cuts are chosen, where a clock only starts them
            content = Path(request.latency_table).read_bytes()
            key += hashlib.blake2b(content, digest_size=8).hexdigest()
        outcome = pruned.shrunk(
            run.network,
            dense.made.temperature,
            run.recipe,
            run.split,
            growth.given(run.split, run.recipe.growth, first_seed(run)),
            plan,
            latency=timed,
            seed=request.seed,
            place=place,
            pixels=run.pixels,
            folder=run.folder / "trials" / pruned.key(plan, run.network, run.recipe.side, key),
            progress=ground.progress,
        )
    with clock.stage("judge"):
        found = judging.chosen(
            fitted,
            plan,
            outcome,
            replace(dense, score=outcome.score),
            run.split,
            place=place,
            progress=ground.progress,
            timer=timer,
            certified=request.require_certificate,
            opened=lambda: datasets.log_opening(run.folder),
            predicted=timed if request.latency_table else None,
        )
    return found, plan


def _prunable(run: runs.Run, request: Asked) -> None:
    """Refuse a run that cannot be pruned, or whose test pictures are too few for a promise."""
    if not len(run.split.val):
        raise UsageError(
            f"{run.folder} has no validation pictures to measure by what pruning costs",
            "train on 1,000 pictures or more",
        )
    if run.facts.get("ensembling", {}).get("ships") == "vote":
        raise UsageError(
            f"{run.folder} ships the vote of {len(run.members)} networks, and one is pruned",
            f"run `sevenfold distill {run.folder}` first",
        )
    least = judging.least_bound(run.split, run.recipe.objective)
    if request.require_certificate and least > request.max_drop:
        raise GateRefused(
            f"no drop under {least:.4f} can be certified with {len(run.split.test):,} test "
            f"pictures, and --max-drop is {request.max_drop:g}; nothing was pruned",
            f"raise --max-drop to {up(least)}, collect more test pictures, or leave out "
            "--require-certificate",
        )


def _fitted(run: runs.Run, place: Place) -> Fitted:
    """Say what the run fitted; what votes is asked about validation again."""
    recipe, dataset = run.recipe, run.split.dataset

    def answered(member: Member) -> Member:
        whole = export.Shipped(copy.deepcopy(member.network), False).eval()
        logits = export.network_logits(
            whole, dataset, run.split.val.tolist(), side=recipe.side, threads=place.threads
        )
        return replace(member, logits=logits)

    ship = answered(shipped(run))
    taught = run.facts["ensembling"].get("ships") == "student"
    voters = tuple(map(answered, members(run))) if run.members else (ship,)
    return Fitted(
        recipe,
        voters,
        np.array(run.weights) if run.members else np.ones(1),
        ship if taught else None,
        (ship,),
        np.ones(1),
        float(run.facts["training"]["rate"]),
        (),
        (),
        dataset.labels[run.split.val],
        averaged=bool(run.facts["ensembling"].get("averaged")),
    )


def _shipping(fitted: Fitted, plan: pruned.Plan, run: runs.Run) -> Fitted:
    """Say in the recipe how much of the architecture is gone, this time and before."""
    built = going_on(run.recipe).member(fitted.number).transfer
    whole, _ = transfer.build(built, len(run.manifest.classes), run.recipe.side, 0)
    dense, left = (
        pruning.cost(one, run.recipe.side).macs for one in (whole, fitted.ships[0].network)
    )
    gone = max(0.0, math.floor(1000 - 1000 * left / dense) / 1000)
    settings = replace(plan.settings, macs=gone) if gone else pruning.Pruning.off
    return replace(fitted, recipe=replace(fitted.recipe, pruning=settings))


def _latency(run: runs.Run, request: Asked) -> Callable[[nets.Network], float]:
    """Return what predicts a network's milliseconds, or measures them."""
    side, mirror = run.recipe.side, run.recipe.ensembling.mirror
    if request.latency_table:
        held = latency.table(Path(request.latency_table), side=side)

        def predicted(network: nets.Network) -> float:
            return held.predict(list(pruning.cost(network, side).layers.values()))

        return predicted

    def measured(network: nets.Network) -> float:
        core = export.core(export.Shipped(copy.deepcopy(network), mirror).eval(), side)
        return latency.median_ms(core.SerializeToString())

    return measured


def _plan(
    run: runs.Run,
    request: Asked,
    wanted: tuple[pruning.Target, ...],
    dense: File,
    timed: Callable[[nets.Network], float],
) -> pruned.Plan:
    def aim(target: pruning.Target) -> pruning.Aim:
        share = pruning.share(
            target,
            dense.cost,
            megabytes=len(dense.made.model) / 1e6,
            latency_ms=timed(run.network) if target.kind == "latency" else 0.0,
        )
        return pruning.Aim(target, share)

    settings = pruning.Pruning(
        max_drop=request.max_drop,
        steps=request.steps,
        epochs=request.epochs,
        controls=request.controls,
        ranking=request.ranking,
        across=request.across,
        by_cost=request.by_cost,
    )
    return pruned.Plan(
        tuple(map(aim, wanted)),
        settings,
        request.rate or float(run.facts["training"]["rate"]),
    )
