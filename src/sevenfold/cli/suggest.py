"""Say which pictures to label next."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from sevenfold.cli.options import Count, app, path_column
from sevenfold.terminal import show

_EXAMPLES = 10


@app.command
def suggest(
    run: Path,
    unlabelled: Path,
    /,
    *,
    out: Path = Path("runs") / "suggestions",
    count: Annotated[int, Parameter(validator=Number(gte=1))] = 100,
    by: Literal["margin", "entropy"] = "margin",
    columns: str = "",
    threads: Count = 0,
    json: bool = False,
) -> None:
    """Find the unlabelled pictures that are most worth a label. Needs no torch.

    Args:
        run: a run, or a bundle copied out of one.
        unlabelled: a folder of pictures, also one that `serve --collect` wrote, or a CSV.
        out: the folder for suggestions.csv and suggest.html, in which one key labels.
        count: how many pictures.
        by: what the model is unsure by: its two best answers, or all of them.
        columns: which column of a CSV holds the paths, such as path=file.
        threads: processor threads; 0 is one for each core.
        json: print one JSON object instead of a summary.
    """
    from sevenfold import progress
    from sevenfold.studies import suggest as study

    facts = study.suggest(
        run,
        unlabelled,
        out,
        count=count,
        by=by,
        column=path_column(columns),
        threads=threads,
        progress=progress.Lines(sys.stderr),
    )
    show(facts, _summary(facts), as_json=json)


def _summary(facts: Mapping[str, Any]) -> Iterator[str]:
    by = facts["by"]
    for one in facts["suggestions"][:_EXAMPLES]:
        yield f"{one[by]:.3f}  {one['answer']} {one['probability']:.2f}  {one['path']}"
    if len(facts["suggestions"]) > _EXAMPLES:
        yield f"and {len(facts['suggestions']) - _EXAMPLES:,} more"
    yield f"looked at      {facts['looked_at']:,} pictures"
    left = {"known to the run": facts["known"], "copies": facts["copies"]}
    left["unreadable"] = facts["unreadable_count"]
    if any(left.values()):
        told = ", ".join(f"{number:,} {name}" for name, number in left.items() if number)
        yield f"left out       {told}"
    yield f"list           {facts['list']}"
    yield f"page           {facts['page']}"
    yield f"time           {facts['seconds']:.1f} s"
