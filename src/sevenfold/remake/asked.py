"""Say what was asked of a pruning, and refuse what makes no sense."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sevenfold.errors import UsageError
from sevenfold.practices import pruning

STEPS: Final = 2
EPOCHS: Final = 6


@dataclass(frozen=True)
class Asked:
    """Hold what the user asked for.

    Args:
        target: such as `macs=0.6`; see `pruning.targets`.
        max_drop: of the objective, 0 to 1.
        require_certificate: whether the bound on test must hold it, too.
        ranking: of channels, one of `pruning.RANKINGS`.
        across: how scores of different layers compare, one of `pruning.ACROSS`.
        by_cost: scores are divided by what a channel saves of what the target counts.
        steps: cuts with a training after each.
        epochs: of each training.
        rate: the largest learning rate; 0 is that of the run.
        controls: `all`, `dense` or `none`.
        latency_table: a file, or "" to measure here.
        seed: of everything random.
    """

    target: str
    max_drop: float = 0.01
    require_certificate: bool = False
    ranking: str = "taylor"
    across: str = "normalised"
    by_cost: bool = False
    steps: int = STEPS
    epochs: int = EPOCHS
    rate: float = 0.0
    controls: str = "all"
    latency_table: str = ""
    seed: int = 0


def check(request: Asked, wanted: Sequence[pruning.Target]) -> None:
    """Refuse options that make no sense, before anything is read.

    Raises:
        UsageError: an option is out of its range, or would do nothing.
    """
    if request.ranking not in pruning.RANKINGS:
        raise UsageError(
            f"--ranking {request.ranking!r} is no ranking",
            f"choose one of {', '.join(pruning.RANKINGS)}",
        )
    if request.ranking == "random" and request.across != Asked.across:
        raise UsageError(
            f"--across {request.across} does nothing for --ranking random",
            "leave it out: scores that are drawn compare as they are",
        )
    if not 0 <= request.max_drop < 1:
        raise UsageError(
            f"--max-drop {request.max_drop:g} is no share of the pictures",
            "give one from 0 to below 1, such as 0.01 for one point",
        )
    if request.steps < 1 or request.epochs < 1:
        raise UsageError(
            f"--steps {request.steps}, --epochs-per-step {request.epochs}: nothing would be done",
            "give 1 or more of both",
        )
    if request.latency_table and not any(one.kind == "latency" for one in wanted):
        raise UsageError(
            f"--latency-table does nothing for --target {request.target}",
            "leave it out, or name a target such as latency=4",
        )
