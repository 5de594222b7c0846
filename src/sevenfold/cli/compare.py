"""Compare two models, or the predictions of any tool."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from sevenfold.cli.options import READING, Count, Reading, app, columns
from sevenfold.terminal import show

_FLIPS: Final = 6
_CLASSES: Final = 12


@app.command
def compare(
    a: Path,
    b: Path,
    /,
    *,
    data: str = "",
    table_columns: str = "",
    split: Literal["test", "all"] = "test",
    no_timing: bool = False,
    threads: Count = 0,
    reading: Reading = READING,
    json: bool = False,
) -> None:
    """Say whether B is better than A, picture by picture; needs no torch.

    Two runs of one objective are compared by it, anything else by accuracy.

    Args:
        a: a run, a bundle, or a CSV file of predictions, another tool's too.
        b: what is compared with it.
        data: labelled pictures; without it tables are paired with each other.
        table_columns: the names of the columns of a CSV file of predictions, such as
            path=file,answer=guess; also label, hash, role, group and p:CLASS, its probability.
        split: test leaves out what a run was trained or chosen by; all does not.
        no_timing: do not time two models against each other.
        threads: processor threads; 0 is one for each core.
        json: print one JSON object instead of a summary.
    """
    from sevenfold import progress
    from sevenfold.studies import compare as study

    facts = study.compare(
        a,
        b,
        data,
        split=split,
        columns=columns(reading.columns),
        table_columns=columns(table_columns, "--table-columns"),
        group_by=reading.group_by,
        small_classes=reading.small_classes,
        timed=not no_timing,
        threads=threads,
        progress=progress.Lines(sys.stderr),
    )
    show(facts, _summary(facts), as_json=json)


def _summary(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"A              {facts['first']['name']}"
    yield f"B              {facts['second']['name']}"
    if any(facts[side]["answers_otherwise"] for side in ("first", "second")):
        yield "judged by      the most probable class, not what --min-recall or --costs answers"
    if facts["objective"] != "accuracy":
        yield f"verdict on     {_words(facts['objective'])}, the objective of both runs"
    left = [f"{count:,} {reason}" for reason, count in facts["left_out"].items() if count]
    grouped = facts["groups"] < facts["pictures"]
    yield (
        f"pictures       {facts['pictures']:,}"
        + (f" in {facts['groups']:,} groups" if grouped else "")
        + (f"; left out: {', '.join(left)}" if left else "")
    )
    for name in ("accuracy", "balanced_accuracy", "nll"):
        if facts[name]:
            yield _measure(name, facts[name])
    test = facts["mcnemar"]
    yield (
        f"answers        {test['only_first']:,} got wrong, {test['only_second']:,} got right, "
        f"McNemar's p {test['p']:.3g}"
        + ("; it takes pictures as independent, and these come in groups" if grouped else "")
    )
    changed = [one for one in facts["classes"] if one["got_right"] or one["got_wrong"]]
    changed.sort(key=lambda one: one["got_right"] - one["got_wrong"])
    for one in changed[:_CLASSES]:
        yield (
            f"class          {one['label']}: recall {one['first']:.3f} to {one['second']:.3f} of "
            f"{one['pictures']:,}, {one['got_wrong']} got wrong, {one['got_right']} got right"
            + (", too few to judge" if one["too_few"] else "")
        )
    if len(changed) > _CLASSES:
        yield f"               and {len(changed) - _CLASSES:,} more classes; --json lists them all"
    lost = [one for one in facts["flips"] if one["change"] == "got wrong"]
    for one in lost[:_FLIPS]:
        yield f"got wrong      {one['path']}: {one['label']}, B says {one['second']}"
    if len(lost) > _FLIPS:
        yield f"               and {len(lost) - _FLIPS:,} more; --json lists them all"
    yield from _cost(facts)
    yield f"verdict        {said(facts)}"


def _measure(name: str, one: Mapping[str, float]) -> str:
    title = {"balanced_accuracy": "balanced", "nll": "log loss"}.get(name, name)
    if name == "nll":
        change = f"{one['difference']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"
    else:
        change = (
            f"{100 * one['difference']:+.1f} points "
            f"({100 * one['low']:+.1f} to {100 * one['high']:+.1f})"
        )
    return f"{title:<14} {one['first']:.3f} to {one['second']:.3f}: {change}"


def _cost(facts: Mapping[str, Any]) -> Iterator[str]:
    sizes = [facts[side]["megabytes"] for side in ("first", "second")]
    if None not in sizes:
        yield f"size           {sizes[0]:.1f} to {sizes[1]:.1f} MB"
    if speed := facts["speed"]:
        yield (
            f"latency        {speed['first_ms']:.1f} to {speed['second_ms']:.1f} ms on one "
            f"thread: {speed['times_as_fast']:.2f} times as fast "
            f"({speed['low']:.2f} to {speed['high']:.2f})"
        )


def said(facts: Mapping[str, Any]) -> str:
    """Say the verdict in a sentence.

    Args:
        facts: the object of `compare --json`.
    """
    objective = facts["objective"]
    change = facts[objective]
    interval = f"{100 * change['low']:+.1f} to {100 * change['high']:+.1f}"
    better, worse = "more accurate", "less accurate"
    if objective != "accuracy":
        better, worse = (f"{word} in {_words(objective)}" for word in ("better", "worse"))
    words = {
        "better": f"B is {better} than A, by {interval} points",
        "worse": f"B is {worse} than A, by {interval} points",
        "no difference": "no difference: the whole interval lies within half a point",
        "cannot tell": f"cannot tell ({interval} points)",
    }[facts["verdict"]]
    if facts["verdict"] == "cannot tell" and not change["low"] <= 0 <= change["high"]:
        words += f"; McNemar's p is {facts['mcnemar']['p']:.2g}, above 0.05"
    if facts["to_resolve"]:
        words += f"; about {facts['to_resolve']:,} pictures would tell 1 point"
    elif facts["verdict"] == "cannot tell":
        words += "; known to a point, and no difference asks for half of one"
    other = "accuracy" if objective != "accuracy" else "balanced_accuracy"
    beside = facts[other]
    if change["difference"] * beside["difference"] < 0 and not (
        beside["low"] <= 0 <= beside["high"]
    ):
        words += f"; but {_words(other)} goes the other way ({100 * beside['difference']:+.1f})"
    if not facts["trustworthy"]:
        words += "; with so few groups no interval can be relied on"
    return words


def _words(name: str) -> str:
    return name.replace("_", " ")
