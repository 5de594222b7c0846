"""Practice 7: remove what the network does not need."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, TypeVar

from sevenfold.errors import UsageError
from sevenfold.ranges import Range

Network = TypeVar("Network")


@dataclass(frozen=True)
class Pruning:
    """Say how much of the network is removed.

    Args:
        macs: share of the multiply-accumulates that goes, 0 to below 1.
    """

    macs: Annotated[float, Range(0, 1, below=True)] = 0.0

    off: ClassVar["Pruning"]


Pruning.off = Pruning()


def check(settings: Pruning) -> None:
    """Refuse what cannot be removed, before anything is trained.

    Raises:
        UsageError: something is to be removed.
    """
    if settings != Pruning.off:
        raise UsageError(
            f"pruning.macs = {settings.macs} cannot be used: this version does not prune",
            "set pruning.macs=0",
        )


def prune(network: Network, settings: Pruning) -> Network:
    """Return the network as it is.

    Raises:
        UsageError: see `check`.
    """
    check(settings)
    return network
