"""Hold what was exported against the graph that ships, and refuse what answers differently."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from jaxtyping import Float

from sevenfold import export
from sevenfold.data import Split
from sevenfold.errors import GateRefused
from sevenfold.features.trunk import session

Shares = Float[np.ndarray, "pictures classes"]
Distances = Float[np.ndarray, " pictures"]
_REPORT: Final = "nothing was written; please report the backbone and `sevenfold doctor`"


@final
@dataclass(frozen=True, slots=True)
class Agreement:
    """Say how well two files agree.

    Args:
        pictures: compared.
        top1: share with the same answer, or whose top two differ by less than the bound.
        same: share with the same answer.
        largest_difference: of any probability.
    """

    pictures: int
    top1: float
    same: float
    largest_difference: float


NEAR: Final = 0.05
"""How near the threshold a distance must lie, as a share of the distances' spread, for its
mark to be free to differ."""


@final
@dataclass(frozen=True, slots=True)
class Marks:
    """Say how well two files agree on what is unlike anything trained on.

    Args:
        same: share of the pictures with the same mark.
        apart: differing marks of pictures whose distance is not `NEAR` the threshold.
        largest_difference: of any distance.
    """

    same: float
    apart: int
    largest_difference: float


def pictures(split: Split) -> tuple[str, list[int]]:
    """Return the role of the pictures that exports are held against, and which they are.

    Validation; the training pictures where there is none. Test stays closed.
    """
    if len(split.val):
        return "validation", split.val.tolist()
    return "training", split.train.tolist()


def answers(model: bytes, split: Split, chosen: Sequence[int], threads: int) -> Shares:
    """Run a graph that ships over pictures of a data set."""
    opened = session(model, 1)
    (found,) = export.run(opened, split.dataset, chosen, ["probabilities"], threads)
    return np.asarray(found)


def agreement(ours: Shares, theirs: Shares, *, tie: float) -> Agreement:
    """Compare two tables of probabilities.

    Args:
        ours: of the exported file.
        theirs: of the graph that ships.
        tie: answers whose probabilities differ by less than this may be swapped.

    Example:
        >>> agreement(np.array([[0.4, 0.6]]), np.array([[0.501, 0.499]]), tie=0.01).top1
        1.0
    """
    rows, mine, best = np.arange(len(ours)), ours.argmax(axis=1), theirs.argmax(axis=1)
    lead = theirs[rows, best] - theirs[rows, mine]
    return Agreement(
        len(ours),
        float((lead < tie).mean()),
        float((mine == best).mean()),
        float(np.abs(ours - theirs).max()),
    )


def marks(ours: Distances, theirs: Distances, threshold: float) -> Marks:
    """Compare which pictures two files mark as unlike anything trained on.

    Args:
        ours: distances of the exported file.
        theirs: of the graph that ships.
        threshold: of the bundle.

    Example:
        >>> marks(np.array([0.1, 0.6]), np.array([0.1, 0.4]), 0.5)
        Marks(same=0.5, apart=1, largest_difference=0.2)
    """
    differ = (ours > threshold) != (theirs > threshold)
    far = np.abs(theirs - threshold) > NEAR * theirs.std()
    largest = round(float(np.abs(ours - theirs).max()), 12)
    return Marks(float(1 - differ.mean()), int((differ & far).sum()), largest)


def demand_marks(found: Marks, *, what: str) -> None:
    """Refuse a file that marks other pictures.

    Raises:
        GateRefused: a mark differs, and not by rounding at the threshold.
    """
    if found.apart:
        raise GateRefused(
            f"{what} disagrees with the model: it marks {found.apart} pictures otherwise as "
            f"unlike anything trained on, distances up to {found.largest_difference:.1e} apart",
            _REPORT,
        )


def demand(found: Agreement, *, what: str, largest: float) -> None:
    """Refuse a file that answers differently.

    Raises:
        GateRefused: an answer differs, or a probability by more than `largest`.
    """
    if found.top1 < 1 or not found.largest_difference <= largest:
        raise GateRefused(
            f"{what} disagrees with the model: same answer on {found.top1:.2%} of "
            f"{found.pictures} pictures, probabilities up to {found.largest_difference:.1e} apart, "
            f"and {largest:.0e} is allowed",
            _REPORT,
        )
