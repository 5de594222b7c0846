"""Practice 6: let several models vote."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, TypeVar

from sevenfold.errors import UsageError
from sevenfold.ranges import Range

Member = TypeVar("Member")


@dataclass(frozen=True)
class Ensembling:
    """Say how many models vote.

    Args:
        members: 1 is a single model.
        mirror: whether the model votes over the picture and its mirror image,
            inside the exported graph, at twice the network's latency.
    """

    members: Annotated[int, Range(1, 100)] = 1
    mirror: bool = False

    off: ClassVar["Ensembling"]


Ensembling.off = Ensembling()


def check(settings: Ensembling) -> None:
    """Refuse more members than there can be, before anything is trained.

    Raises:
        UsageError: more than one member is asked for.
    """
    if settings.members != 1:
        raise UsageError(
            f"ensembling.members = {settings.members} cannot be used: "
            "this version trains one model",
            "set ensembling.members=1",
        )


def members(settings: Ensembling, train: Callable[[int], Member]) -> tuple[Member, ...]:
    """Train each member by its number.

    Raises:
        UsageError: see `check`.
    """
    check(settings)
    return (train(0),)
