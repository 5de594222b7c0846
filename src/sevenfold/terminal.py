"""Tell people and programs what came out: summaries, JSON, and failures in two lines."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cyclopts import CycloptsError

from sevenfold import strict
from sevenfold.errors import SevenfoldError, UsageError, lacks

_FEWEST = 20  # pictures, under which nothing is said of drift
_PAIRS = 6  # that are named in a summary
_CLASSES = 12  # whose recalls are listed


def show(facts: Mapping[str, Any], lines: Iterable[str], *, as_json: bool) -> None:
    """Print facts as one JSON object, or the lines that sum them up."""
    if as_json:
        print(strict.to_json(facts))
        return
    for line in lines:
        print(plain(line))


def warn(line: str) -> None:
    """Print a line on stderr."""
    print(plain(line), file=sys.stderr)


def plain(text: object) -> str:
    r"""Replace what could steer a terminal or break a line.

    Example:
        >>> plain("a\x1b[2J\nb.jpg")
        'a?[2J?b.jpg'
    """
    return "".join(mark if mark.isprintable() else "?" for mark in str(text))


def run(facts: Mapping[str, Any]) -> Iterator[str]:
    """Sum up a training: how good, how large, how fast, and where it lies."""
    bundle, run = facts["bundle"], Path(facts["run"])
    yield from scores(facts["test"])
    yield (
        f"model          {bundle['megabytes']:.1f} MB, {bundle['latency_ms']:.1f} ms a picture "
        f"on one thread, same answers as the trained network on "
        f"{bundle['parity_top1']:.1%} of {bundle['parity_pictures']:,} pictures"
    )
    yield from decided(facts)
    if pruning := facts.get("pruning"):
        yield from _smaller(pruning)
    if facts["quarantined"]:
        yield f"left out       {facts['quarantined']} pictures; the report names them"
    yield from _label_check(facts.get("label_check", {}))
    yield from _contributed(facts.get("evidence", {}))
    yield f"deploy         {run / 'bundle'}"
    yield f"report         {run / 'report.html'}"
    yield f"time           {facts['seconds']:.0f} s"


def _contributed(evidence: Mapping[str, Any]) -> Iterator[str]:
    """Say what the practices of a training contributed, or why that was not measured."""
    if evidence and evidence["left_out"]:
        yield f"no evidence    {evidence['left_out']}"
    said: dict[str, list[str]] = {}
    for practice, verdict in evidence.get("verdicts", {}).items():
        said.setdefault(verdict, []).append(practice)
    for verdict, practices in said.items():
        yield f"{verdict:<14} {', '.join(practices)}"


def _label_check(check: Mapping[str, Any]) -> Iterator[str]:
    """Say which operations a class was spared, or why none was looked at."""
    if check.get("reason"):
        yield f"label check    none: {check['reason']}"
    flagged = check.get("flagged", ())
    for one in flagged[:_PAIRS]:
        kept = "kept, as you insist" if check["insisted"] else "left out for it"
        name = f"{one['operation']} {one['direction']}".strip()
        yield f"changed label  {one['label']} by {name}, into {one['into']}: {kept}"
    if len(flagged) > _PAIRS:
        yield f"changed label  {len(flagged) - _PAIRS} more; the report names them"
    if (few := check.get("too_few")) and "classes" in check:
        yield f"label check    too few to judge for {few:,} of {check['classes']:,} classes"


def _smaller(pruning: Mapping[str, Any]) -> Iterator[str]:
    """Say what became of pruning in a training."""
    if "refused" in pruning:
        yield f"not pruned     {pruning['refused']}"
        return
    speedup = pruning["speedup"]
    yield (
        f"pruned         {pruning['macs_cut']:.1%} of the multiply-accumulates gone, "
        f"{speedup['median']:.2f} times as fast ({speedup['low']:.2f} to {speedup['high']:.2f})"
    )


def _bounds(facts: Mapping[str, Any]) -> str:
    """Say by how much each measure of a certificate may drop."""
    found = f"accuracy drops by {facts['drop_bound']:.4f}"
    if "balanced_accuracy" in facts["certified_by"]:
        found += f" and balanced accuracy by {facts['objective_drop_bound']:.4f}"
    return found


def pruned(facts: Mapping[str, Any]) -> Iterator[str]:
    """Sum up a pruning: what went, what it saved, what it cost, and how sure that is."""
    yield f"{'':<20} {'MACs':>14} {'parameters':>12} {'ms':>8} {'validation':>10} {'test':>7}"
    chosen = facts["steps"][facts["chosen"] - 1]
    controls = facts["controls"]
    for row in (facts["dense"], *facts["steps"], *controls["dense"], *controls["smaller"]):
        took = f"{row['network_latency_ms']:.2f}" if "network_latency_ms" in row else ""
        mark = "  ships" * (row is chosen)
        yield (
            f"{row['name']:<20} {row['macs']:>14,} {row['parameters']:>12,} {took:>8} "
            f"{row['validation']:>10.3f} {row['test']:>7.3f}{mark}"
        )
    speedup = facts["speedup"]
    yield (
        f"removed        {facts['macs_cut']:.1%} of the multiply-accumulates, "
        f"{facts['parameters_cut']:.1%} of the parameters"
    )
    itself = facts["against_itself"]
    span = f"{itself['low']:.2f} to {itself['high']:.2f}"
    shaky = "" if facts["steady"] else f"; busy: the unpruned one took {span} times its own time"
    yield (
        f"speed          {speedup['median']:.2f} times ({speedup['low']:.2f} to "
        f"{speedup['high']:.2f}), the network on one thread{shaky}"
    )
    yield (
        f"accuracy       {-facts['drop']:+.4f} on {facts['test_pictures']:,} test pictures, "
        f"{facts['flips']['negative']} answers got wrong and {facts['flips']['positive']} right"
    )
    if facts["certified"]:
        yield f"certified      at 95 % {_bounds(facts)} at most"
    else:
        yield (
            f"not certified  at 95 % {_bounds(facts)} at most: a drop of "
            f"{facts['smallest_certifiable']:.4f} is the smallest that these pictures certify, and "
            f"{facts['max_drop']:g} was asked for"
        )
    if not facts["reached"]:
        beyond = facts["beyond"]
        why = (
            f"step {beyond['step']} fell to {beyond['validation']:.3f} on validation, more than "
            "--max-drop"
            if beyond
            else "what comes nearer was measured slower or not certified, or the file is larger or "
            "takes longer than was asked for"
        )
        yield f"stopped        {why}: the target was not reached"
    yield from run({name: held for name, held in facts.items() if name != "pruning"})


def race(facts: Mapping[str, Any]) -> Iterator[str]:
    """Sum up a race as a table, the best first, and say what cannot be told apart."""
    field = facts["optimizers"] if "optimizers" in facts else facts["methods"]
    objective, reference, pictures = facts["objective"], facts["reference"], facts["pictures"]
    halves = [
        name
        for name in ("common_recall", "rare_recall")
        if all(name in one for one in field.values())
    ] * ("methods" in facts)
    shown = ("accuracy", "balanced_accuracy", *halves)
    widths = [24 if name == objective else max(9, len(name)) for name in shown]
    titles = [
        f"{name.replace('_', ' '):<{width}}" for name, width in zip(shown, widths, strict=True)
    ]
    yield f"{'':<18} {' '.join(titles)} {'log loss':<9} {'to ' + reference:<24} training"
    for name in facts["order"]:
        one = field[name]
        cells = [
            f"{_mean(one[key], whole=key == objective):<{width}}"
            for key, width in zip(shown, widths, strict=True)
        ]
        change = one["difference"].get(objective)
        moved = _mean(change, whole=True, sign="+") if change else ""
        loss = _mean(one["nll"], whole=False)
        yield f"{name:<18} {' '.join(cells)} {loss:<9} {moved:<24} {one['seconds']:.0f} s"
    for name, reason in facts["left_out"].items():
        yield f"left out           {name}: {reason}"
    told = [pair for pair in facts["pairs"] if pair["told_apart"]]
    yield f"told apart         {len(told)} of {len(facts['pairs'])} from {reference}" + "".join(
        f"; {pair['ahead']} is ahead of {pair['behind']}" for pair in told[:_PAIRS]
    )
    yield f"{'':<18} {facts['limits']}"
    source = "validation" if pictures["judged_are"] == "val" else "a fold of the training"
    yield (
        f"judged on          {pictures['judged_on']:,} pictures of {source}, which nothing was "
        f"chosen by; {facts['seeds']} seeds, 95 % intervals over them; test stayed closed"
    )
    yield f"report             {Path(facts['race']) / 'race.html'}"


def _mean(interval: Mapping[str, float], *, whole: bool, sign: str = "") -> str:
    mean = f"{interval['mean']:{sign}.3f}"
    return f"{mean} ({interval['low']:{sign}.3f} to {interval['high']:{sign}.3f})" * whole or mean


def scores(facts: Mapping[str, Any]) -> Iterator[str]:
    """Sum up scores with their intervals."""
    yield f"{'pictures':<18} {facts['pictures']:,}"
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "nll", "calibration_error"):
        yield f"{name.replace('_', ' '):<18} {_estimate(facts, name)}"


def classes(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """List the classes that are found least often; all are in the JSON."""
    there = [one for one in found if one["pictures"]]
    weakest = sorted(there, key=lambda one: one["recall"]["value"])[:_CLASSES]
    for one in weakest:
        few = " (too few to judge)" if one["too_few"] else ""
        yield (
            f"{'recall':<18} {_share(one['recall'])} of {one['pictures']:,} of "
            f"{plain(one['label'])}{few}"
        )
    if left := len(there) - len(weakest):
        yield f"{'':<18} and {left:,} more classes, all in --json"


def decided(facts: Mapping[str, Any]) -> Iterator[str]:
    """Sum up the operating point: how many pictures are answered, and how many wrongly."""
    from sevenfold.operating import CHOOSING  # later: help needs no numpy

    point, unlike = facts.get("operating", {}), facts.get("unlike")
    found = point.get("test", point)
    if point.get("rule") in CHOOSING:
        yield (
            f"{'as it answers':<18} wrong on {_share(found['error'])}: --min-recall or --costs "
            "decide what is answered, and the scores above are of the most probable class"
        )
    if point.get("rule", "none") != "none":
        yield (
            f"{'sure of':<18} {_share(found['answered'])} of the pictures; of these wrong "
            f"{_share(found['error_answered'])}, of all {_share(found['error'])}"
        )
        for name, recall in found["recalls"].items():
            yield f"{'recall, asked for':<18} {_share(recall)} of {recall['pictures']} of {name}"
        if "cost" in found:
            yield (
                f"{'mean cost':<18} {found['cost']:.4g}; by the most probable class "
                f"{found['cost_most_probable']:.4g}"
            )
    if unlike := unlike or facts.get("unknown", {}).get("test"):
        yield f"{'unlike training':<18} {_share(unlike)} of the pictures are marked so"


def unusable(facts: Mapping[str, Any]) -> Iterator[str]:
    """Name pictures that could not be scored, the first of them, and why."""
    if not (count := facts.get("quarantined", 0)):
        return
    yield f"{'not scored':<18} {count:,} picture{'s' * (count > 1)}"
    named = facts["unusable"][:_PAIRS]
    yield from (f"  {one['path']}: {one['reason']}" for one in named)
    if count > len(named):
        yield f"  and {count - len(named):,} more: --json names {len(facts['unusable']):,}"


def _share(estimate: Mapping[str, float]) -> str:
    return f"{estimate['value']:.1%} ({estimate['low']:.1%} to {estimate['high']:.1%})"


def drift(facts: Mapping[str, Any]) -> Iterator[str]:
    """Sum up how many pictures differ from those that the model was made with."""
    if not facts["reference_pictures"] or facts["pictures"] < _FEWEST:
        return
    yield f"{'drift':<18} {_moved(facts)}"
    mixes = facts["mix"], facts["reference_mix"]
    moved = sorted(mixes[0], key=lambda name: -abs(mixes[0][name] - mixes[1][name]))
    if facts["differs"]:
        told = [f"{name} {mixes[0][name]:.1%}, before {mixes[1][name]:.1%}" for name in moved[:3]]
        yield f"{'answered':<18} {'; '.join(told)}"
    groups = [one for one in facts["groups"] if one["differs"]]
    if len(facts["groups"]) > 1:
        for one in groups[:_PAIRS]:
            yield f"{'  ' + (one['group'] or '.')} {_moved(one)}"
        rest = len(groups) - _PAIRS
        if rest > 0:
            yield f"  and {rest} more folders that differ; --json names them"


def _moved(facts: Mapping[str, Any]) -> str:
    verdict = "differ from" if facts["differs"] else "are like"
    return (
        f"{facts['pictures']:,} pictures {verdict} those the model was made with: "
        f"classes {facts['mix_distance']:.0%} apart (p {facts['mix_p']:.2g}), "
        f"distances {facts['distance_shift']:.0%} (p {facts['distance_p']:.2g}), "
        f"{facts['unlike']:.1%} unlike training"
    )


def stores(facts: Mapping[str, Any]) -> Iterator[str]:
    """Sum up what the stores hold."""
    if facts["freed_megabytes"]:
        yield f"freed {facts['freed_megabytes']:,.1f} MB"
    for store in facts["stores"]:
        size = f"{store['megabytes']:,.1f} MB"
        yield f"{size:>14}  {store['rows']:>9,} rows  {store['kind']:<12} {store['name']}"
    yield f"{len(facts['stores'])} stores in {facts['path']}"


def flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """List facts one a line under dotted names; empty ones are left out."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        elif value not in ("", []):
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield from (f"{prefix}{name}: {line}" for line in text.splitlines())


def _estimate(scores: Mapping[str, Any], name: str) -> str:
    value, interval = scores[name], scores.get("intervals", {}).get(name)
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})" if interval else f"{value:.3f}"


def explain(error: BaseException) -> SevenfoldError:
    """Turn what a command raised into what the user is told, with its exit code.

    What is none of the known failures is a bug and comes out as a plain
    `SevenfoldError`, whose exit code is 1.
    """
    if isinstance(error, SevenfoldError):
        return error
    if isinstance(error, CycloptsError):
        return _usage(error)
    if lacking := lacks(error):
        return lacking
    return SevenfoldError(
        f"{type(error).__name__}: {error}",
        "this is a bug; report it with the traceback above and what `sevenfold doctor` prints",
    )


def _usage(error: CycloptsError) -> UsageError:
    chain = " ".join(error.command_chain or ())
    cure = f"sevenfold {chain} --help".replace("  ", " ")
    if chain and (tokens := error.unused_tokens):
        return UsageError(f"{tokens[0]} is one argument too many", cure)
    problem, _, suggestion = str(error).partition(" Did you mean ")
    problem = problem.partition(" Available commands:")[0].rstrip(".")
    if suggestion:
        cure = f"{suggestion.partition('?')[0]}, or {cure}"
    return UsageError(problem[:1].lower() + problem[1:], cure)
