"""Hold what was exported against the graph that ships, and refuse what answers differently."""

from dataclasses import dataclass
from typing import Final, final

import numpy as np
from jaxtyping import Float

from sevenfold import export
from sevenfold.data import Split
from sevenfold.errors import GateRefused

Shares = Float[np.ndarray, "pictures classes"]
Distances = Float[np.ndarray, " pictures"]
_REPORT: Final = "nothing was written; please report the backbone and `sevenfold doctor`"


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


def demand(found: export.Agreement, *, what: str, largest: float) -> None:
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
