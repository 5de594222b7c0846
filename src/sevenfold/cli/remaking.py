"""Make the model of a finished run anew."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

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
    """Make one model of the vote of a run's models, which then ships in their place.

    Args:
        run: a finished run of several members.
        data: where its pictures are now; they are found by their content.
        lessons: epochs of the student; 0 takes the members' average where it keeps enough of
            the vote's gain, and is otherwise as many as a member's.
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


@app.command
def prune(
    run: Path,
    /,
    *,
    target: str,
    max_drop: float = 0.01,
    require_certificate: bool = False,
    ranking: Literal[
        "taylor", "l1", "l2", "bn_scale", "mean_activation", "nonzero", "random"
    ] = "taylor",
    across: Literal["normalised", "literal", "ranks"] = "normalised",
    by_cost: bool = False,
    steps: Annotated[int, Parameter(validator=Number(gte=1))] = 2,
    epochs_per_step: Annotated[int, Parameter(validator=Number(gte=1))] = 6,
    rate: Annotated[float, Parameter(validator=Number(gte=0))] = 0.0,
    controls: Literal["all", "dense", "none"] = "all",
    latency_table: str = "",
    data: str = "",
    seed: Count = 0,
    threads: Count = 0,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    json: bool = False,
) -> None:
    """Remove channels and blocks of a run's model; the smaller one ships in its place.

    The same command goes on after a stop.

    Args:
        run: a finished run with one model.
        target: macs=0.6 or parameters=0.5 (below 1 the share that remains, else how many),
            megabytes=5 of the file, or latency=4 of the network, in milliseconds; several
            with commas between them. (The setting pruning.macs is the share that goes.)
        max_drop: largest drop of the score on validation (0.01 is one point); pruning stops
            beyond it.
        require_certificate: keep the model unless test proves that its accuracy, and the score
            where that is balanced accuracy, drops by no more than that, at 95 %.
        ranking: what goes first.
        across: compare the ranking's numbers across layers by their layer's mean, as they are,
            or by their rank in the layer, so that all layers lose about the same
            share.
        by_cost: divide the ranking's numbers by what a channel saves of what the target counts.
        steps: cuts with a training after each.
        epochs_per_step: epochs of the training after each cut.
        rate: largest learning rate after a cut; 0 is that of the run.
        controls: also train, and judge beside it: the unpruned network as long (dense), which
            teaches the smaller one where it is the better teacher, and networks that were never
            pruned (all); of a pretrained backbone there are none so small, and as many
            multiply-accumulates with channels kept at random stand for them.
        latency_table: a file that predicts latencies of another machine.
        data: where the run's pictures are now; they are found by their content.
        seed: another number is another draw of everything that is random.
        threads: processor threads; 0 is one for each core.
        device: where to train.
        json: print one JSON object instead of a summary.
    """
    from sevenfold import progress, remake

    request = remake.Asked(
        target,
        max_drop,
        require_certificate,
        ranking,
        across,
        by_cost,
        steps,
        epochs_per_step,
        rate,
        controls,
        latency_table,
        seed,
    )
    facts = remake.prune(
        run,
        request,
        data=data,
        threads=threads,
        device=device,
        progress=progress.Lines(sys.stderr),
    )
    show(facts, terminal.pruned(facts), as_json=json)
