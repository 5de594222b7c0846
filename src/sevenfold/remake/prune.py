"""Prune the network of a finished run, judge what is left, and ship it if it is better."""

import copy
import dataclasses
import datetime
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sevenfold import data as datasets
from sevenfold import export, latency, nets, paired, release, runs, trial
from sevenfold.errors import GateRefused, UsageError
from sevenfold.loop import Place
from sevenfold.practices import growth, pruning
from sevenfold.progress import Progress
from sevenfold.remake import judging
from sevenfold.remake.asked import Asked, check
from sevenfold.remake.judging import File, Speed, Tested
from sevenfold.remake.record import asked, members, shipped
from sevenfold.train import Fitted, Member, pruned


def prune(
    folder: Path,
    request: Asked,
    *,
    data: str,
    threads: int,
    device: str,
    progress: Progress,
    timer: judging.Timer = latency.timed,
) -> dict[str, Any]:
    """Remove channels and blocks of a run's network; what is left ships in its place.

    Writes to the run: steps into `trials/`, from which the same command goes on after a
    stop, and at the end model, report and `pruning.json`. Test is opened once, for the
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
    """
    wanted = pruning.target(request.target)
    check(request, wanted)
    clock, place = release.Clock(), trial.place(device, threads)
    with clock.stage("read"):
        run = runs.reopened(folder, data=data, threads=place.threads, progress=progress)
    _prunable(run, request)
    with clock.stage("prune"):
        fitted = _fitted(run, place)
        dense = judging.filed("dense", fitted.ships[0], 0.0, fitted, run.split, place)
        timed = _latency(run, request)
        plan = _plan(run, request, wanted, dense, timed)
        key = trial.key(run.recipe, run.split, request.seed, place)
        outcome = pruned.shrunk(
            run.network,
            dense.made.temperature,
            run.recipe,
            run.split,
            growth.given(run.split, run.recipe.growth, fitted.members[0].seed),
            plan,
            latency=timed,
            seed=request.seed,
            place=place,
            pixels=run.pixels,
            folder=folder / "trials" / pruned.key(plan, run.network, run.recipe.side, key),
            progress=progress,
        )
        _any_kept(outcome, request)
    with clock.stage("judge"):
        dense = replace(dense, score=outcome.score)
        files = _files(outcome, fitted, run, place, progress)
        told, best = _judged(dense, files, run, request, place, timer)
        told |= _what(plan, request, run, outcome)
        told["seconds"] = clock.seconds
    facts = release.release(
        folder,
        asked(run),
        _shipping(fitted, best.file.member, told["macs_cut"], request),
        run.split,
        place=place,
        clock=clock,
        progress=progress,
        made=(best.file.made, best.predictions),
        pruning=told,
    )
    return facts | told | {"schema": "sevenfold.prune/1", "seconds": clock.seconds}


def _prunable(run: runs.Run, request: Asked) -> None:
    """Refuse a run that cannot be pruned, or whose test pictures are too few for a promise."""
    if run.facts.get("ensembling", {}).get("ships") == "vote":
        raise UsageError(
            f"{run.folder} ships the vote of {len(run.members)} networks, and one is pruned",
            f"run `sevenfold distill {run.folder}` first",
        )
    if not len(run.split.val):
        raise UsageError(
            f"{run.folder} has no validation pictures to measure by what pruning costs",
            "train on 1,000 pictures or more, or give the roles train, val and test yourself",
        )
    least = judging.least_bound(run.split)
    if request.require_certificate and least > request.max_drop:
        raise GateRefused(
            f"no drop under {least:.4f} can be certified with {len(run.split.test):,} test "
            f"pictures, and --max-drop is {request.max_drop:g}; nothing was pruned",
            f"raise --max-drop to {_up(least)}, collect more test pictures, or leave out "
            "--require-certificate",
        )


def _up(share: float) -> str:
    return f"{math.ceil(share * 1000) / 1000:g}"


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
    )


def _shipping(fitted: Fitted, member: Member, macs_cut: float, request: Asked) -> Fitted:
    """Put a pruned network in the place of what shipped; its history stays that of its training."""
    before = fitted.ships[0]
    after = replace(before, network=member.network, logits=member.logits)
    # What went before went, too.
    gone = 1 - (1 - fitted.recipe.pruning.macs) * (1 - macs_cut)
    settings = pruning.Pruning(
        macs=max(0.0, math.floor(gone * 1000) / 1000),
        ranking=request.ranking,
        normalised=not request.literal,
    )
    alone = len(fitted.members) == 1
    return replace(
        fitted,
        recipe=replace(fitted.recipe, pruning=settings),
        members=(after,) if alone else fitted.members,
        student=after if fitted.student else None,
        ships=(after,),
    )


def _latency(run: runs.Run, request: Asked) -> Callable[[nets.Network], float]:
    """Return what predicts a network's milliseconds, or measures them."""
    side, mirror = run.recipe.side, run.recipe.ensembling.mirror
    if request.latency_table:
        held = latency.table(Path(request.latency_table), side=side)

        def predicted(network: nets.Network) -> float:
            layers = pruning.cost(network, side).layers.values()
            return held.predict([latency.Sizes(**dataclasses.asdict(one)) for one in layers])

        return predicted

    def measured(network: nets.Network) -> float:
        core = export.core(export.Shipped(copy.deepcopy(network), mirror).eval(), side)
        return latency.median_ms(core.SerializeToString())

    return measured


def _plan(
    run: runs.Run,
    request: Asked,
    wanted: pruning.Target,
    dense: File,
    timed: Callable[[nets.Network], float],
) -> pruned.Plan:
    share = pruning.share(
        wanted,
        dense.cost,
        megabytes=len(dense.made.model) / 1e6,
        latency_ms=timed(run.network) if wanted.kind == "latency" else 0.0,
    )
    settings = pruning.Pruning(ranking=request.ranking, normalised=not request.literal)
    return pruned.Plan(
        wanted,
        share,
        settings,
        request.steps,
        request.epochs,
        request.rate or float(run.facts["training"]["rate"]),
        request.max_drop,
        smaller=request.controls == "all",
        dense=request.controls != "none",
    )


def _any_kept(outcome: pruned.Outcome, request: Asked) -> None:
    beyond = outcome.shrunk.beyond
    if not outcome.shrunk.kept and beyond is not None:
        raise GateRefused(
            f"the first step already drops by {outcome.score - beyond.score:.4f} on validation, "
            f"more than --max-drop {request.max_drop:g}; the run keeps its model",
            "take more --steps, more --epochs-per-step, or a larger --max-drop",
        )


def _files(
    outcome: pruned.Outcome, fitted: Fitted, run: runs.Run, place: Place, progress: Progress
) -> dict[str, list[File]]:
    """Export every step and control."""
    kept = [(f"step {step.number}", step.network) for step in outcome.shrunk.kept]
    dense = [("dense, trained on", outcome.dense)] if outcome.dense else []
    smaller = [(f"random {at}", one) for at, one in enumerate(outcome.smaller, 1)]
    found: dict[str, list[File]] = {}
    done, whole = 0, len(kept) + len(dense) + len(smaller)
    labels = run.split.dataset.labels[run.split.val]
    for kind, some in (("steps", kept), ("dense", dense), ("smaller", smaller)):
        found[kind] = []
        for name, one in some:
            progress("export", done, whole)
            member = Member(
                one.network, (), run.origin, fitted.ships[0].seed, one.trained, 0, None, one.logits
            )
            score = pruned.objective(one.logits, labels, run.recipe.objective)
            found[kind].append(judging.filed(name, member, score, fitted, run.split, place))
            done += 1
    return found


def _judged(
    dense: File,
    files: dict[str, list[File]],
    run: runs.Run,
    request: Asked,
    place: Place,
    timer: judging.Timer,
) -> tuple[dict[str, Any], Tested]:
    """Time the steps, open test, and choose what ships.

    Raises:
        GateRefused: no step may ship.
    """
    steps = files["steps"]
    network, whole = (
        judging.speed(one(dense), [one(step) for step in steps], timer)
        for one in (_core, lambda file: file.made.model)
    )
    allowed = [at for at, found in enumerate(network.ratios) if found.high >= 1]
    if not allowed:
        fastest = max(network.ratios, key=lambda found: found.value)
        raise GateRefused(
            f"no step is faster: the best takes {1 / fastest.value:.2f} times the time of the "
            f"network as it is ({network.dense_ms:.2f} ms); test stayed closed, and the run "
            "keeps its model",
            "name a smaller target; channels by eights and whole blocks save the most time",
        )
    others = [*files["dense"], *files["smaller"]]
    first, *found = judging.tested([dense, *steps, *others], run.split, place)
    bounds = [one.bound for one in found[: len(steps)]]
    count = paired.certified(bounds, request.max_drop)
    if request.require_certificate:
        allowed = [at for at in allowed if at < count]
        if not allowed:
            _log_opening(run)
            raise GateRefused(
                f"no step is certified to drop by {request.max_drop:g} at most: the smallest drop "
                f"that {len(run.split.test):,} test pictures certify for one is "
                f"{min(bounds):.4f}; the run keeps its model",
                f"raise --max-drop to {_up(min(bounds))}, collect more test pictures, or leave "
                "out --require-certificate",
            )
    chosen = allowed[-1]
    best, objective = found[chosen], run.recipe.objective
    rows = [
        judging.row(one, first, objective) | judging.timing(at, network, whole)
        for at, one in enumerate(found[: len(steps)])
    ]
    controls = [judging.row(one, first, objective) for one in found[len(steps) :]]
    told = {
        "dense": judging.row(first, first, objective) | _pace(network, whole),
        "steps": rows,
        "controls": {
            "dense": controls[: len(files["dense"])],
            "smaller": controls[len(files["dense"]) :],
        },
        "chosen": chosen + 1,
        "macs_cut": 1 - best.file.cost.macs / dense.cost.macs,
        "parameters_cut": 1 - best.file.cost.parameters / dense.cost.parameters,
        "speedup": rows[chosen]["speedup"],
        "steady": network.steady and whole.steady,
        "against_itself": judging.speedup(network.against_itself),
        "drop": rows[chosen]["drop"],
        "drop_bound": rows[chosen]["drop_bound"],
        "certified": chosen < count,
        "certified_steps": count,
        "smallest_certifiable": paired.smallest_certifiable(bounds[: chosen + 1]),
        "flips": judging.flips(best, first, run.split),
        "classes": judging.classes(best, first),
    }
    return told, best


def _core(file: File) -> bytes:
    return bytes(file.made.core.SerializeToString())


def _pace(network: Speed, whole: Speed) -> dict[str, float]:
    return {"network_latency_ms": network.dense_ms, "latency_ms": whole.dense_ms}


def _what(
    plan: pruned.Plan, request: Asked, run: runs.Run, outcome: pruned.Outcome
) -> dict[str, Any]:
    """Return what was asked for, and how far the loop came."""
    beyond = outcome.shrunk.beyond
    return {
        "target": dataclasses.asdict(plan.target),
        "reached": beyond is None,
        "beyond": None if beyond is None else {"step": beyond.number, "validation": beyond.score},
        "max_drop": request.max_drop,
        "objective": run.recipe.objective,
        "ranking": request.ranking,
        "normalised": not request.literal,
        "epochs_per_step": request.epochs,
        "test_pictures": len(run.split.test),
    }


def _log_opening(run: runs.Run) -> None:
    """Write down that test was opened, though the run keeps its model."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    told = datasets.to_json(datasets.opened(run.manifest, now, " ".join(sys.argv[1:])))
    part = run.folder / "data.json.part"
    part.write_text(told, encoding="utf-8")
    part.replace(run.folder / "data.json")
