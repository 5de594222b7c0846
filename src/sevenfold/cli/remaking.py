"""Make the model of a finished run anew."""

import sys
from pathlib import Path
from typing import Literal

from sevenfold import terminal
from sevenfold.cli.options import Count, app
from sevenfold.terminal import show


@app.command
def distill(
    run: Path,
    /,
    *,
    data: str = "",
    lessons: Count = 0,
    seed: Count = 0,
    threads: Count = 0,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    json: bool = False,
) -> None:
    """Teach the vote of a run's models to one, which then ships in their place.

    Args:
        run: a finished run of several members.
        data: where its pictures are now; they are found by their content.
        lessons: epochs of the student; 0 is as many as a member's.
        seed: of the student's training.
        threads: processor threads; 0 is one for each core.
        device: where to train.
        json: print one JSON object instead of a summary.
    """
    from sevenfold import progress, remake

    facts = remake.distil(
        run,
        data=data,
        lessons=lessons,
        seed=seed,
        threads=threads,
        device=device,
        progress=progress.Lines(sys.stderr),
    )
    show(facts, terminal.run(facts), as_json=json)
