"""Export a finished run."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from sevenfold.cli.options import Count, app
from sevenfold.terminal import show


@app.command
def export(
    run: Path,
    /,
    *,
    to: Literal["onnx", "int8", "litert", "html", "timm", "vote"],
    out: Path | None = None,
    processor: Annotated[
        Literal["", "x86", "x86-vnni", "arm64"], Parameter(name="--for", show_default=False)
    ] = "",
    for_size: bool = False,
    max_drop: Annotated[float, Parameter(validator=Number(gte=0, lte=1))] = 0.02,
    latency_table: str = "",
    data: str = "",
    threads: Count = 0,
    replace: bool = False,
    json: bool = False,
) -> None:
    """Make a run's model into what another place can run, held against the model itself.

    Args:
        run: a finished run.
        to: onnx (the bundle, with its answers checked), int8 (a smaller bundle of integers),
            litert (for phones and boards), html (a page that needs only a browser), timm (a
            folder that timm loads, from disk or its hub), or vote (a bundle of all members in
            one file, where accuracy matters more than size).
        out: the folder to write; without it RUN/exports/ and the format.
        processor: what int8 is made for; without it this machine's.
        for_size: take int8 for its size, however fast it is.
        max_drop: int8 is refused unless validation proves that its accuracy drops by no more
            than this; 0.02 is two points.
        latency_table: what `sevenfold bench FLOAT INT8` wrote on another machine.
        data: where the run's pictures are now; they are found by their content.
        threads: pictures at a time; 0 is one for each core.
        replace: put the new export in the place of an older one.
        json: print one JSON object instead of a summary.
    """
    from sevenfold import exports, progress
    from sevenfold.cores import usable_cores

    place = out or run / "exports" / to
    request = exports.Asked(to, processor, for_size, max_drop, latency_table, replace)
    facts = exports.export(
        run,
        request,
        out=place,
        data=data,
        threads=threads or usable_cores(),
        progress=progress.Lines(sys.stderr),
    )
    show(facts, _summary(facts), as_json=json)


def _summary(facts: Mapping[str, Any]) -> Iterator[str]:
    """Sum up an export: what it is, how it agrees, and where it lies."""
    size, before = facts["megabytes"], facts["model_megabytes"]
    yield f"size           {size:.1f} MB; the model has {before:.1f}"
    if found := facts.get("quantisation"):
        yield f"int8           for {found['processor']}: {found['reason']}"
        if found["pictures"]:
            yield (
                f"accuracy       {found['accuracy']:.3f} on {found['pictures']} validation "
                f"pictures, {found['float_accuracy']:.3f} as float"
            )
    elif facts["agreement"]["pictures"]:
        found = facts["agreement"]
        yield (
            f"answers        the same on {found['top1']:.1%} of {found['pictures']} "
            f"{found['role']} picture{'s' * (found['pictures'] > 1)}, probabilities at most "
            f"{found['largest_difference']:.1e} apart"
        )
    if found := facts.get("vote"):
        yield (
            f"vote           of {found['voters']}: {found['accuracy']:.3f} on "
            f"{found['pictures']} validation pictures, log loss {found['nll']:.3f}, "
            f"{found['latency_ms']:.1f} ms; the model {found['model_accuracy']:.3f}, "
            f"{found['model_nll']:.3f}, {found['model_latency_ms']:.1f} ms"
        )
    if found := facts.get("unlike"):
        yield f"unlike         the same mark on {found['same']:.1%} of them"
    yield f"files          {facts['out']}: {', '.join(facts['files'])}"
