"""Say who votes and how, and refuse what would do nothing."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, TypeVar

import numpy as np
from jaxtyping import Float, Float64, Int64

from sevenfold.errors import UsageError
from sevenfold.evaluate import calibrated_nll, fit_temperature
from sevenfold.practices.ensembling.selection import greedy, mixture
from sevenfold.practices.ensembling.votes import VOTES, pool
from sevenfold.ranges import Choice, Range

Own = TypeVar("Own", int, str)

_APART: Final = 10_000  # between members' seeds; whoever repeats a training counts from 0


@dataclass(frozen=True)
class Ensembling:
    """Say how many models vote, and how.

    Args:
        members: 1 is a single model.
        cuts: numbers of trained blocks that members take in turn after
            `transfer.trainable_blocks`, each below it: the second member the first of
            these, and so on. None: all members have the same cut.
        backbones: backbones that members take in turn after `transfer.backbone`, with
            weights from the hub, or random where those of `transfer` are.
        mirror: whether the model votes over the picture and its mirror image,
            inside the exported graph, at twice the network's latency.
        vote: `soft` averages probabilities, `hard` counts answers, `logit` averages
            log-probabilities, `weighted` is soft with the most likely weights.
        select: whether greedy selection on validation weighs the members, by which
            some drop out; worth it where members differ by more than their seed. The
            weighted vote finds its own weights.
        average: whether the average of the members' weights, one network, ships if it
            keeps enough of what voting gained; it costs no training, and is of no use
            where members start from random weights.
        distil: whether the vote is taught to one model of a single one's size,
            which ships if it keeps enough of what voting gained and the average does not.
        lessons: epochs of that student; 0 is as many as a member's.
    """

    members: Annotated[int, Range(1, 100)] = 1
    cuts: tuple[Annotated[int, Range(0, 1000)], ...] = ()
    backbones: tuple[str, ...] = ()
    mirror: bool = False
    vote: Annotated[str, Choice(VOTES)] = "soft"
    select: bool = False
    average: bool = False
    distil: bool = False
    lessons: Annotated[int, Range(0, 10_000)] = 0

    off: ClassVar["Ensembling"]


Ensembling.off = Ensembling()


def turn(own: Own, others: tuple[Own, ...], number: int) -> Own:
    """Return what a member has: its own and the others are taken in turn.

    Example:
        >>> [turn(5, (3, 1), number) for number in range(4)]
        [5, 3, 1, 5]
    """
    at = number % (1 + len(others))
    return others[at - 1] if at else own


def seed_of(seed: int, number: int) -> int:
    """Return the seed of a member, such that ensembles of neighbouring seeds share none.

    Args:
        seed: of the whole; the first member has it, too.
        number: of the member, from 0.

    Example:
        >>> [seed_of(1, number) for number in range(3)]
        [1, 10001, 20001]
    """
    return seed + _APART * number


def check(settings: Ensembling, *, cut: int = 1000, backbone: str = "") -> None:
    """Refuse a setting that would do nothing, before anything is trained.

    Args:
        settings: of the recipe.
        cut: trained blocks of the first member.
        backbone: of the first member.

    Raises:
        UsageError: one member is asked to vote, to be averaged or to be distilled, or
            members are to differ in what is the same or in what none of them would take.
    """
    if settings.lessons and not settings.distil:
        raise UsageError(
            f"ensembling.lessons = {settings.lessons} would do nothing: ensembling.distil is false",
            "set ensembling.distil=true, or leave the setting out",
        )
    _check_others("cuts", settings.cuts, cut, settings.members)
    _check_others("backbones", settings.backbones, backbone, settings.members)
    if late := [one for one in settings.cuts if one > cut]:
        raise UsageError(
            f"ensembling.cuts = {list(settings.cuts)}: {late[0]} trained blocks are more than "
            f"transfer.trainable_blocks = {cut}",
            f"set transfer.trainable_blocks={max(late)}, and name the smaller ones in the cuts",
        )
    if settings.average and settings.backbones:
        raise UsageError(
            "ensembling.average = true would do nothing: members of different backbones have no "
            "average",
            "set ensembling.average=false, or leave ensembling.backbones out",
        )
    if settings.select and settings.vote == "weighted":
        raise UsageError(
            "ensembling.select = true would do nothing: a weighted vote finds its members' "
            "weights, and gives some none, by itself",
            "set ensembling.vote=soft, or leave the setting out",
        )
    if settings.members > 1:
        return
    idle = {
        "ensembling.select = true": settings.select,
        "ensembling.average = true": settings.average,
        f"ensembling.vote = {settings.vote!r}": settings.vote != "soft",
        "ensembling.distil = true": settings.distil,
    }
    for name, asked in idle.items():
        if asked:
            raise UsageError(
                f"{name} would do nothing: ensembling.members is {settings.members}",
                "set ensembling.members=3 or more, or leave the setting out",
            )


def _check_others(name: str, others: tuple[int | str, ...], own: int | str, members: int) -> None:
    shown = f"ensembling.{name} = {list(others)}"
    if others and len(others) >= members:
        raise UsageError(
            f"{shown} would do nothing for the last: ensembling.members is {members}",
            f"set ensembling.members={len(others) + 1} or more, or name fewer",
        )
    if len({own, *others}) <= len(others):
        raise UsageError(
            f"{shown} names one twice, or the first member's own, {own!r}",
            "name each other one once",
        )


def weigh(
    settings: Ensembling,
    logits: Float[np.ndarray, "members pictures classes"],
    labels: Int64[np.ndarray, "pictures"],
) -> Float64[np.ndarray, "members"]:
    """Weigh the members by pictures that none of them was trained on.

    Args:
        settings: `vote` and `select`.
        logits: of validation, or out of fold.
        labels: true classes.

    Returns:
        Weights with the sum 1; a member of weight 0 need not be kept. Where a member alone
        is better than a soft vote that was found, each calibrated, it has all of it.
    """
    equal = np.full(len(logits), 1 / len(logits))
    if settings.vote != "weighted" and not settings.select:
        return equal
    # Members that are unsure, as label smoothing makes them, would lose by any company:
    # what a vote gains shows at the temperature that it will have.
    pooled = pool(logits, equal, "soft")
    sharpened = np.asarray(logits, np.float64) / fit_temperature(pooled, labels)
    find = mixture if settings.vote == "weighted" else greedy
    found = find(sharpened, labels)
    if settings.vote == "hard":  # counts of answers have no likelihood to lose
        return found
    # What ships is calibrated after pooling, which the search for weights does not see.
    alone = [calibrated_nll(one, labels) for one in logits]
    if min(alone) < calibrated_nll(pool(logits, found, settings.vote), labels):
        return np.asarray(np.eye(len(logits))[int(np.argmin(alone))])
    return found
