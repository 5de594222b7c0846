"""Hold the graph's probabilities against the trained network's."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float

from sevenfold.errors import GateRefused

LARGEST_DIFFERENCE: Final = 1e-4
"""By how much a probability of the exported graph may differ from PyTorch's."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Say how well two tables of probabilities agree.

    Args:
        pictures: compared.
        top1: share with the same answer, or whose top two differ by no more than the bound.
        same: share with the same answer.
        largest_difference: of any probability.
    """

    pictures: int
    top1: float
    same: float
    largest_difference: float


def parity(
    ours: Float[np.ndarray, "pictures classes"], theirs: Float[np.ndarray, "pictures classes"]
) -> Agreement:
    """Hold the graph's probabilities against the trained network's.

    Args:
        ours: from the exported graph.
        theirs: from the network, with the same temperature.

    Raises:
        GateRefused: an answer differs, or a probability by more than 1e-4.
    """
    found = agreement(ours, theirs, tie=LARGEST_DIFFERENCE)
    if found.top1 < 1 or found.largest_difference > LARGEST_DIFFERENCE:
        raise GateRefused(
            f"the exported graph disagrees with the trained network: same answer on "
            f"{found.top1:.2%} of {found.pictures} pictures, probabilities up to "
            f"{found.largest_difference:.1e} apart",
            "nothing was exported; please report the backbone and `sevenfold doctor`",
        )
    return found


def agreement(
    ours: Float[np.ndarray, "pictures classes"],
    theirs: Float[np.ndarray, "pictures classes"],
    *,
    tie: float,
) -> Agreement:
    """Compare two tables of probabilities.

    Args:
        ours: of what was made.
        theirs: of what it is held against.
        tie: answers whose probabilities differ by no more than this may be swapped.

    Example:
        >>> agreement(np.array([[0.4, 0.6]]), np.array([[0.501, 0.499]]), tie=0.01).top1
        1.0
    """
    rows, mine, best = np.arange(len(ours)), ours.argmax(axis=1), theirs.argmax(axis=1)
    lead = theirs[rows, best] - theirs[rows, mine]
    return Agreement(
        len(ours),
        float((lead <= tie).mean()),
        float((mine == best).mean()),
        float(np.abs(ours - theirs).max()),
    )
