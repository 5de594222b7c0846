"""Shrink a network step by step: cut, retrain, measure, until the target or too large a drop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Net = TypeVar("Net")

_ROUNDING = 1e-9  # a drop of exactly what is allowed is allowed


@dataclass(frozen=True, eq=False)
class Step(Generic[Net]):
    """Hold a network after one step.

    Args:
        number: of the step, from 1.
        network: cut and retrained.
        score: of the objective on validation, 0 to 1.
    """

    number: int
    network: Net
    score: float


@dataclass(frozen=True, eq=False)
class Shrunk(Generic[Net]):
    """Hold what the loop made.

    Args:
        kept: steps within the allowed drop, from the least to the most pruned.
        beyond: the step that dropped by more and ended the loop; None where the
            target was reached.
    """

    kept: tuple[Step[Net], ...]
    beyond: Step[Net] | None


def shares(last: float, steps: int) -> tuple[float, ...]:
    """Return what remains after each step: the same part of what was there goes each time.

    Args:
        last: share that remains at the end, above 0 to 1.
        steps: 1 or more.

    Example:
        >>> [round(share, 3) for share in shares(0.5, 2)]
        [0.707, 0.5]
    """
    return tuple(last ** (number / steps) for number in range(1, steps + 1))


def shrink(
    network: Net,
    steps: int,
    *,
    score: float,
    max_drop: float,
    trim: Callable[[Net, int], Net],
    retrain: Callable[[Net, int], Net],
    measure: Callable[[Net], float],
    recall: Callable[[int], Step[Net] | None],
    keep: Callable[[Step[Net]], None],
) -> Shrunk[Net]:
    """Cut and retrain a network until all steps are done or it drops by more than is allowed.

    Molchanov et al.'s loop (2016, arXiv 1611.06440): rank, remove, fine-tune, repeat.

    Args:
        network: to start from; stays as it is.
        steps: at most, 1 or more.
        score: of the objective on validation before anything went.
        max_drop: by how much the score may fall, 0 to 1, as a point estimate.
        trim: cuts a network for the step of a number.
        retrain: trains what is left.
        measure: the objective on validation, 0 to 1.
        recall: a step that an interrupted loop finished, or None.
        keep: writes a finished step down.

    Raises:
        UsageError: whatever `trim` raises where its target is out of reach.
    """
    kept: list[Step[Net]] = []
    for number in range(1, steps + 1):
        step = recall(number)
        if step is None:
            smaller = retrain(trim(network, number), number)
            step = Step(number, smaller, measure(smaller))
            keep(step)
        if score - step.score > max_drop + _ROUNDING:
            return Shrunk(tuple(kept), step)
        kept.append(step)
        network = step.network
    return Shrunk(tuple(kept), None)
