"""Hold what an evidence study measured: outcomes of arms, and which arm is compared with which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Float64, Int64

Direction = Literal["leave_one_out", "add_one_in"]
DIRECTIONS: Final[tuple[Direction, Direction]] = ("leave_one_out", "add_one_in")

REFERENCE: Final = "reference"
"""The recipe as a single unpruned model: one end."""
BASE: Final = "base"
"""All off but transfer, of which the head alone is trained: the other end."""


def all_but(practice: str, way: str = "") -> str:
    """Name the arm of the recipe without one practice.

    Args:
        practice: one of the seven.
        way: of being off, where there is a second one.

    Example:
        >>> all_but("imbalance"), all_but("transfer", "random")
        ('all-but/imbalance', 'all-but/transfer/random')
    """
    return "/".join(filter(None, ("all-but", practice, way)))


def base_with(practice: str, way: str = "") -> str:
    """Name the arm of the base with one practice.

    Example:
        >>> base_with("augmentation")
        'base+/augmentation'
    """
    return "/".join(filter(None, ("base+", practice, way)))


def reference_with(practice: str, way: str = "") -> str:
    """Name an arm that adds to the reference what a single, whole network has not.

    Example:
        >>> reference_with("ensembling"), reference_with("pruning", "unpruned")
        ('reference+/ensembling', 'reference+/pruning/unpruned')
    """
    return "/".join(filter(None, ("reference+", practice, way)))


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Hold what one arm reached in one repetition.

    Args:
        arm: its name.
        repetition: which fold was judged, and the seed, from 0.
        pictures: indices into the data set of the pictures that were judged, ascending;
            the same in all arms of a repetition.
        probabilities: calibrated, of each class; every row has the sum 1.
        seconds: of training, on the machine that trained.
        megabytes: of the exported file.
        latency_ms: of the network on one picture: onnxruntime, one thread.
        detail: plain facts of the training, such as its epochs and rate.
    """

    arm: str
    repetition: int
    pictures: Int64[np.ndarray, " judged"]
    probabilities: Float64[np.ndarray, "judged classes"]
    seconds: float
    megabytes: float
    latency_ms: float
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Contrast:
    """Say which arm is compared with which, to measure a practice.

    Args:
        practice: one of the seven.
        direction: what the rest of the recipe is: all on, or all off.
        with_arm: in which the practice is on.
        without_arm: in which it is off.
        off_means: what stands for it where it is off, in a few words.
        deciding: whether it bears the practice's verdict; False for a second reference.
    """

    practice: str
    direction: Direction
    with_arm: str
    without_arm: str
    off_means: str
    deciding: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """Say what is measured, on what, and in which regime it holds.

    Args:
        data: the data set's name.
        classes: names of the classes.
        labels: of every picture of the data set.
        groups: of every picture; what shares a group is never told apart by chance.
        objective: `accuracy` or `balanced_accuracy`, which verdicts are on.
        repetitions: that the complete study has; fold r is judged in repetition r.
        arms: names of all arms, in the order in which they run.
        contrasts: what is compared; each names two of the arms.
        not_in_use: practices that the recipe has off, or that the data leaves nothing to do,
            with the reason.
        recipe: that advice starts from, as TOML: what was asked about, with the blocks that
            a training has where the study trains fewer.
        regime: plain facts that the evidence holds in: cut, budget, side, views, epochs,
            pictures, threads, processor, versions.
        family: how many practices the recipe has in use, measured or not, for which verdicts
            are adjusted; never less than are decided on.
        trained_on: pictures that the weights of an arm are fitted to, on average of the
            repetitions, by its name; an arm without a number is taken for one that is fitted to
            all pictures that it is not judged by.
    """

    data: str
    classes: tuple[str, ...]
    labels: Int64[np.ndarray, " pictures"]
    groups: Int64[np.ndarray, " pictures"]
    objective: str
    repetitions: int
    arms: tuple[str, ...]
    contrasts: tuple[Contrast, ...]
    not_in_use: Mapping[str, str]
    recipe: str
    regime: Mapping[str, Any]
    family: int = 0
    trained_on: Mapping[str, float] = field(default_factory=dict)


def of_arm(outcomes: Sequence[Outcome], arm: str) -> dict[int, Outcome]:
    """Return the outcomes of one arm by repetition."""
    return {one.repetition: one for one in outcomes if one.arm == arm}
