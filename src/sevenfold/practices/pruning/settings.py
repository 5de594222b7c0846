"""Say how much goes, and by which ranking."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, TypeVar

from sevenfold.errors import UsageError
from sevenfold.practices.pruning.rankings import RANKINGS
from sevenfold.ranges import Choice, Range

Network = TypeVar("Network")


@dataclass(frozen=True)
class Pruning:
    """Say how much of the network is removed, and what goes first.

    Args:
        macs: share of the multiply-accumulates that goes, 0 to below 1; a run that was
            pruned holds how much went.
        ranking: of channels: `l1`, `l2`, `bn_scale`, `mean_activation`,
            `nonzero`, `taylor`, or `random` as the control.
        normalised: scores are compared across layers by their layer's mean;
            otherwise as they are.
        blocks: whole residual blocks may go, too.
    """

    macs: Annotated[float, Range(0, 1, below=True)] = 0.0
    ranking: Annotated[str, Choice(RANKINGS)] = "taylor"
    normalised: bool = True
    blocks: bool = True

    off: ClassVar["Pruning"]


Pruning.off = Pruning()


def check(settings: Pruning) -> None:
    """Refuse what cannot be removed, before anything is trained.

    Raises:
        UsageError: something is to be removed.
    """
    if settings.macs:
        raise UsageError(
            f"pruning.macs = {settings.macs} cannot be used: training does not prune",
            "set pruning.macs=0, and then run `sevenfold prune RUN --target "
            f"macs={1 - settings.macs:g}`",
        )


def prune(network: Network, settings: Pruning) -> Network:
    """Return the network as it is.

    Raises:
        UsageError: see `check`.
    """
    check(settings)
    return network
