"""Choose which pruned network ships: never one that is slower, by one look at test."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sevenfold import latency, nets, paired, release
from sevenfold.data import Split
from sevenfold.errors import GateRefused
from sevenfold.judging import files as filing
from sevenfold.judging.files import File, Speed, Tested, filed
from sevenfold.place import Place
from sevenfold.practices import pruning
from sevenfold.progress import Progress
from sevenfold.train import Fitted
from sevenfold.train.member import objective
from sevenfold.train.pruned import Outcome, Plan

Predicted = Callable[[nets.Network], float] | None

_FROM_SCRATCH: Final = "from scratch"
_AT_RANDOM: Final = "random channels"
_STANDS: Final = {
    _FROM_SCRATCH: "networks of the steps' shapes that were never pruned: from random weights, "
    "for as many epochs in all",
    _AT_RANDOM: "channels kept at random: they stand for a smaller network that was never pruned, "
    "of which there are no pretrained weights",
}


@dataclass(frozen=True, eq=False)
class Chosen:
    """Hold what ships after a pruning.

    Args:
        fitted: with the network that ships.
        made: its graph and that graph's answers; None where nothing pruned ships.
        told: of the pruning, for the report.
    """

    fitted: Fitted
    made: tuple[release.Exported, release.Judged] | None
    told: dict[str, Any]


def settled(
    fitted: Fitted,
    split: Split,
    *,
    place: Place,
    clock: release.Clock,
    progress: Progress,
    timer: latency.Timer = latency.timed,
) -> Chosen:
    """Choose what a training ships after its pruning; the unpruned network, where no step may.

    Opens test if and only if a pruned network ships: the unpruned one is scored when it
    is released. Starts processes that time.

    Args:
        fitted: with what became of the pruning.
        split: pictures by role.
        place: where to compute.
        clock: notes how long it takes.
        progress: is told `export`.
        timer: times models.
    """
    cut = fitted.pruned
    if cut is None:
        return Chosen(fitted, None, {})
    refused = cut.reason
    if cut.outcome is not None:
        try:
            with clock.stage("judge"):
                dense = filed("dense", fitted.ships[0], cut.outcome.score, fitted, split, place)
                return chosen(
                    fitted,
                    cut.plan,
                    cut.outcome,
                    dense,
                    split,
                    place=place,
                    progress=progress,
                    timer=timer,
                )
        except GateRefused as error:
            refused = error.problem
    whole = replace(fitted.recipe, pruning=pruning.Pruning.off)
    told = {"refused": refused, "targets": _targets(cut.plan)}
    return Chosen(replace(fitted, recipe=whole), None, told)


def chosen(
    fitted: Fitted,
    plan: Plan,
    outcome: Outcome,
    dense: File,
    split: Split,
    *,
    place: Place,
    progress: Progress,
    timer: latency.Timer = latency.timed,
    certified: bool = False,
    opened: Callable[[], None] = lambda: None,
    predicted: Predicted = None,
) -> Chosen:
    """Export all steps and controls, time the steps, open test, and choose what ships.

    Args:
        fitted: what was pruned, and what it came from.
        plan: how.
        outcome: steps and controls.
        dense: the unpruned network's file.
        split: pictures by role.
        place: where to compute.
        progress: is told `export`.
        timer: times models.
        certified: whether a step must keep to the allowed drop at 95 % confidence.
        opened: is called where test was opened and nothing ships.
        predicted: says the milliseconds of a network on the machine that a target is for; None
            where that is this one.

    Raises:
        GateRefused: no step may ship, or a graph disagrees with its network.
    """
    _any_kept(outcome, plan)
    found = _files(outcome, fitted, split, place, progress)
    told, best = _judged(dense, found, plan, fitted, split, place, timer, certified, opened)
    last, ships = told["chosen"] == len(told["steps"]), told["steps"][told["chosen"] - 1]
    network = best.file.member.network
    took = predicted(network) if predicted else ships["network_latency_ms"]
    held = {"megabytes": ships["megabytes"], "latency": took}
    told |= _what(plan, outcome, fitted, split, held, last=last)
    before = fitted.ships[0]
    after = replace(before, network=network, logits=best.file.member.logits)
    pruned = replace(
        fitted,
        members=(after,) if len(fitted.members) == 1 else fitted.members,
        student=after if fitted.student is before else fitted.student,
        ships=(after,),
    )
    return Chosen(pruned, (best.file.made, best.judged), told)


def _any_kept(outcome: Outcome, plan: Plan) -> None:
    beyond = outcome.shrunk.beyond
    if not outcome.shrunk.kept and beyond is not None:
        raise GateRefused(
            f"the first step already drops by {outcome.score - beyond.score:.4f} on validation, "
            f"more than the {plan.settings.max_drop:g} that is allowed; the unpruned model stays",
            "take more steps, more epochs in each, or a larger --max-drop",
        )


def _files(
    outcome: Outcome, fitted: Fitted, split: Split, place: Place, progress: Progress
) -> dict[str, list[File]]:
    """Export every step and control."""
    kept = [(f"step {step.number}", step.network) for step in outcome.shrunk.kept]
    dense = [("dense, trained on", outcome.dense)] if outcome.dense else []
    named = _FROM_SCRATCH if outcome.fresh else _AT_RANDOM
    smaller = [(f"{named} {at}", one) for at, one in enumerate(outcome.smaller, 1)]
    found: dict[str, list[File]] = {}
    done, whole = 0, len(kept) + len(dense) + len(smaller)
    labels, before = split.dataset.labels[split.val], fitted.ships[0]
    for kind, some in (("steps", kept), ("dense", dense), ("smaller", smaller)):
        found[kind] = []
        for name, one in some:
            progress("export", done, whole)
            member = replace(
                before, network=one.network, trained=one.trained, steps=0, decision=None,
                logits=one.logits,
            )  # fmt: skip
            score = objective(one.logits, labels, fitted.recipe.objective)
            found[kind].append(filed(name, member, score, fitted, split, place))
            done += 1
    return found


def _judged(
    dense: File,
    files: dict[str, list[File]],
    plan: Plan,
    fitted: Fitted,
    split: Split,
    place: Place,
    timer: latency.Timer,
    must_certify: bool,
    opened: Callable[[], None],
) -> tuple[dict[str, Any], Tested]:
    """Time the steps, open test, and choose what ships.

    Raises:
        GateRefused: no step may ship.
    """
    steps = files["steps"]
    network, whole = (
        filing.speed(one(dense), [one(step) for step in steps], timer)
        for one in (_core, lambda file: file.made.model)
    )
    allowed = _no_slower(network, whole)
    others = [*files["dense"], *files["smaller"]]
    first, *found = filing.tested([dense, *steps, *others], split, fitted.recipe.objective, place)
    bounds = [one.bound for one in found[: len(steps)]]
    count = paired.certified(bounds, plan.settings.max_drop)
    if must_certify:
        # Who walks from the first step on must also pass those before the first fast one.
        least = paired.smallest_certifiable(bounds[: allowed[0] + 1])
        allowed = [at for at in allowed if at < count]
        if not allowed:
            opened()
            raise GateRefused(
                f"no step is certified to drop by {plan.settings.max_drop:g} at most in "
                f"{_by(first)}: the smallest drop that {len(split.test):,} test pictures certify "
                f"for one is {least:.4f}; the unpruned model stays",
                f"raise --max-drop to {up(least)}, collect more test pictures, or leave "
                "out --require-certificate",
            )
    best = found[allowed[-1]]
    timing = network, whole
    return _told(dense, files, first, found, allowed[-1], timing, fitted, split, count), best


def _no_slower(network: Speed, whole: Speed) -> list[int]:
    """Number the steps that were not measured slower than the network as it is.

    On a busy machine, where a model is not even as fast as itself, a median says nothing: all of
    a step's interval must lie beyond what the dense network differs from itself by.

    Raises:
        GateRefused: there are none.
    """
    steady = network.steady and whole.steady
    # Of the whole graph, reading a picture may be most, and its ratio mostly noise around 1.
    allowed = [
        at
        for at, (alone, all_of_it) in enumerate(zip(network.ratios, whole.ratios, strict=True))
        if (alone.value >= 1 if steady else alone.low >= network.noise) and all_of_it.high >= 1
    ]
    if allowed:
        return allowed
    fastest = max(network.ratios, key=lambda found: found.value)
    if not steady:
        itself = (whole if network.steady else network).against_itself
        raise GateRefused(
            f"the machine is too busy to tell that a step is faster: the model as it is was timed "
            f"at {itself.low:.2f} to {itself.high:.2f} times its own speed, and the best step at "
            f"{fastest.low:.2f} to {fastest.high:.2f} times; test stayed closed for them, and the "
            "unpruned model stays",
            "close other programs, and try again: trained steps are not trained anew",
        )
    raise GateRefused(
        f"no step is faster: the best takes {1 / fastest.value:.2f} times the time of the "
        f"network as it is ({network.dense_ms:.2f} ms); test stayed closed for them, and the "
        "unpruned model stays",
        "name a smaller target; channels by eights and whole blocks save the most time",
    )


def _by(one: Tested) -> str:
    """Name the measures that a certificate is for."""
    return " and ".join(one.bounds).replace("_", " ")


def _told(
    dense: File,
    files: dict[str, list[File]],
    first: Tested,
    found: list[Tested],
    chosen: int,
    timing: tuple[Speed, Speed],
    fitted: Fitted,
    split: Split,
    certified: int,
) -> dict[str, Any]:
    """Return what is told of the judgement."""
    network, whole = timing
    steady = network.steady and whole.steady
    best, objective, count = found[chosen], fitted.recipe.objective, len(files["steps"])
    rows = [
        filing.row(one, first, objective) | filing.timing(at, network, whole)
        for at, one in enumerate(found[:count])
    ]
    controls = [filing.row(one, first, objective) for one in found[count:]]
    return {
        "dense": filing.row(first, first, objective)
        | {"network_latency_ms": network.dense_ms, "latency_ms": whole.dense_ms},
        "steps": rows,
        "controls": {
            "dense": controls[: len(files["dense"])],
            "smaller": controls[len(files["dense"]) :],
        },
        "chosen": chosen + 1,
        "macs_cut": 1 - best.file.cost.macs / dense.cost.macs,
        "parameters_cut": 1 - best.file.cost.parameters / dense.cost.parameters,
        "speedup": rows[chosen]["speedup"],
        "steady": steady,
        "faster_by": "median" if steady else "low",
        "against_itself": latency.to_json(network.against_itself),
        "drop": rows[chosen]["drop"],
        "drop_bound": rows[chosen]["drop_bound"],
        "objective_drop": rows[chosen]["objective_drop"],
        "objective_drop_bound": rows[chosen]["objective_drop_bound"],
        "certified": chosen < certified,
        "certified_by": list(best.bounds),
        "certified_steps": certified,
        "smallest_certifiable": paired.smallest_certifiable(
            [one.bound for one in found[: chosen + 1]]
        ),
        "flips": filing.flips(best, first, split),
        "classes": filing.classes(best, first),
    }


def _targets(plan: Plan) -> list[dict[str, Any]]:
    return [dataclasses.asdict(aim.target) for aim in plan.aims]


def up(share: float) -> str:
    """Write a share rounded up, so that what is offered can be had."""
    return f"{math.ceil(share * 1000) / 1000:g}"


def _core(file: File) -> bytes:
    return bytes(file.made.core.SerializeToString())


def _what(
    plan: Plan,
    outcome: Outcome,
    fitted: Fitted,
    split: Split,
    held: Mapping[str, float],
    *,
    last: bool,
) -> dict[str, Any]:
    """Return what was asked for, how far the loop came, and what it is compared with.

    Args:
        plan: what was asked for.
        outcome: of the loop.
        fitted: what was pruned.
        split: pictures by role.
        held: what the file that ships measures, of the kinds of targets that a cut foresees only.
        last: whether the loop's last step ships.
    """
    beyond = outcome.shrunk.beyond
    targets = [
        told | ({"got": held[told["kind"]]} if told["kind"] in held else {})
        for told in _targets(plan)
    ]
    missed = any(told.get("got", 0.0) > told["value"] for told in targets)
    named = _FROM_SCRATCH if outcome.fresh else _AT_RANDOM
    return {
        "targets": targets,
        "reached": beyond is None and last and not missed,
        "smaller_controls": _STANDS[named] if outcome.smaller else "",
        "controls_missing": list(outcome.missing),
        "beyond": None if beyond is None else {"step": beyond.number, "validation": beyond.score},
        "max_drop": plan.settings.max_drop,
        "objective": fitted.recipe.objective,
        "ranking": plan.settings.ranking,
        "across": plan.settings.across,
        "by_cost": plan.settings.by_cost,
        "epochs_per_step": plan.settings.epochs,
        "test_pictures": len(split.test),
    }
