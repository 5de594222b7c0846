"""Say how rare classes are helped, and refuse what cannot be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import numpy as np
from jaxtyping import Int64

from sevenfold.errors import DataError, UsageError, suggestion
from sevenfold.ranges import Choice, Range

METHODS: Final = (
    "auto",
    "none",
    "class_weights",
    "oversampling",
    "undersampling",
    "augmentation",
    "balanced_softmax",
    "logit_adjustment",
    "adjusted_after",
    "deferred_weights",
    "deferred_sampling",
)
DEFERRED: Final = ("deferred_weights", "deferred_sampling")
GRADED: Final = ("class_weights", "logit_adjustment", "adjusted_after", "deferred_weights")
"""The methods that `strength` speaks to."""
BALANCED_RATIO: Final = 1.5
"""Up to so many pictures of the largest class for one of the smallest nothing is done."""


@dataclass(frozen=True)
class Imbalance:
    """Say how rare classes are helped: by one method, never by two at a time.

    Args:
        method: `auto` (nothing up to 1.5:1, otherwise what validation prefers), `none`,
            `class_weights`, `oversampling`, `undersampling`, `augmentation` (rare classes
            are drawn more often, each time in another view), `balanced_softmax`,
            `logit_adjustment`, `adjusted_after` (as none, then the head's bias is moved),
            `deferred_weights` or `deferred_sampling` (in the last epochs only).
        strength: exponent of class weights, or factor of the log prior, above 0 to 2; for
            class_weights, deferred_weights, logit_adjustment and adjusted_after.
        defer: share of the epochs before a deferred method begins, above 0 to below 1; an
            update, which goes on from there, sets 0.
        trainings: that `auto` may compare, 1 or 2; with 1 it compares only what needs
            no training of its own.
        price: recall that the commoner half of the classes may lose on validation by what
            `auto` chooses, on average, 0 to 1.
        temperature: that logits are divided by before `adjusted_after` takes the prior
            from them, 0 to 20; 0 fits it on validation.
    """

    method: Annotated[str, Choice(METHODS)] = "auto"
    strength: Annotated[float, Range(0, 2)] = 1.0
    defer: Annotated[float, Range(0, 1, above=True, below=True)] = 0.8
    trainings: Annotated[int, Range(1, 2)] = 1
    price: Annotated[float, Range(0, 1)] = 1.0
    temperature: Annotated[float, Range(0, 20)] = 0.0

    off: ClassVar["Imbalance"]

    @property
    def factor(self) -> float:
        """Return the factor of the log prior that `adjusted_after` takes from logits.

        Temperatures do not change answers: z/T - s log(prior) answers as z - sT log(prior).
        """
        return self.strength * (self.temperature or 1.0)


Imbalance.off = Imbalance(method="none")


def check(settings: Imbalance) -> None:
    """Refuse an unknown method and settings that would do nothing.

    Raises:
        UsageError: with the setting's name.
    """
    method = settings.method
    if method not in METHODS:
        raise UsageError(f"imbalance.method = {method!r} is unknown", suggestion(method, METHODS))
    for name, default, methods in (
        ("strength", Imbalance.off.strength, GRADED),
        ("defer", Imbalance.off.defer, DEFERRED),
        ("price", Imbalance.off.price, ("auto",)),
        ("temperature", Imbalance.off.temperature, ("adjusted_after",)),
    ):
        value = getattr(settings, name)
        if value != default and method not in methods:
            raise UsageError(
                f"imbalance.{name} = {value:g} does nothing with imbalance.method = {method!r}",
                f"leave it at {default:g}, or choose {' or '.join(methods)}",
            )
    if settings.strength == 0:
        raise UsageError(
            f"imbalance.strength = 0 makes imbalance.method = {method!r} plain training",
            "set imbalance.method=none, or a strength above 0",
        )


def check_data(
    settings: Imbalance,
    counts: Int64[np.ndarray, "classes"],
    classes: Sequence[str],
    *,
    epochs: int,
    batch: int,
) -> None:
    """Refuse a method that the training pictures leave no room for.

    Args:
        settings: the method.
        counts: training pictures of each class.
        classes: their names.
        epochs: at most, 1 or more.
        batch: pictures in a step.

    Raises:
        DataError: a class has no picture to train on.
        UsageError: under-sampling leaves less than a batch, or there is no epoch
            left to defer to.
    """
    for label in np.flatnonzero(counts == 0).tolist():
        raise DataError(
            f"the class `{classes[label]}` has no picture to train on",
            "add photos of it, or leave the class out",
        )
    left = int(counts.min()) * len(counts)
    if settings.method == "undersampling" and left < batch:
        raise UsageError(
            f"imbalance.method = 'undersampling' leaves {left} pictures, "
            f"fewer than a batch of {batch}",
            f"set batch to at most {left}, or choose another imbalance.method",
        )
    if settings.method in DEFERRED and settings.defer and epochs < 2:
        raise UsageError(
            f"imbalance.method = {settings.method!r} needs 2 epochs or more, not {epochs}",
            "set epochs=2 or more, or choose another imbalance.method",
        )
