"""Time bundles on the machine that they are for."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from sevenfold.cli.options import Count, app
from sevenfold.terminal import show, warn


@app.command
def bench(
    *models: Path,
    out: Path | None = None,
    threads: Count = 1,
    rounds: Annotated[int, Parameter(validator=Number(gte=10))] = 120,
    layers: Annotated[bool, Parameter(negative="--no-layers")] = True,
    json: bool = False,
) -> None:
    """Time bundles on this machine, and write a latency table. Needs no torch.

    Args:
        models: runs, or bundles copied out of them; speed-ups are over the first.
        out: a file for the table, which `prune` and `export --to int8` read.
        threads: processor threads of each model; 0 is one for each core.
        rounds: timing rounds; in each, every model answers one picture.
        layers: time single layers too, from which `prune` predicts.
        json: print one JSON object instead of a summary.
    """
    from sevenfold import bench as timing
    from sevenfold import progress

    if out:
        timing.refuse(out)
    facts = timing.bench(
        models,
        threads=threads,
        rounds=rounds,
        layers=layers,
        progress=progress.Lines(sys.stderr),
    )
    if out:
        timing.write(out, facts)
    show(facts, _summary(facts), as_json=json)
    if not facts["steady"]:
        warn("this machine was too busy: the first model was not as fast as itself")


def _summary(facts: Mapping[str, Any]) -> Iterator[str]:
    """Sum up a latency table: each model, and the first at each size of pictures."""
    yield f"machine        {facts['machine']}, onnxruntime {facts['onnxruntime']}"
    yield f"threads        {facts['threads'] or 'one for each core'}"
    for at, row in enumerate(facts["models"]):
        ratio = row["speedup"]
        faster = f"{ratio['median']:.2f} times ({ratio['low']:.2f} to {ratio['high']:.2f}) as fast"
        yield (
            f"{row['ms']:8.2f} ms    {row['path']}, {row['megabytes']:.1f} MB"
            f"{f', {faster} as the first' * bool(at)}"
        )
    control = facts["against_itself"]
    yield (
        f"control        the first against itself: {control['median']:.2f} "
        f"({control['low']:.2f} to {control['high']:.2f})"
    )
    for row in facts["sizes"]:
        times = "  ".join(f"{ms:8.2f} ms" for ms in row["ms"])
        yield f"{row['width']:>5} x {row['height']:<5}  {times}"
    if facts["layers"]:
        yield f"layers         {len(facts['layers'])} sizes, for `prune --latency-table`"
