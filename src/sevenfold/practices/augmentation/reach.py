"""Take each operation that a setting may draw alone, at the far end of its range."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from jaxtyping import Float64, UInt64

from sevenfold import draws as random
from sevenfold.practices.augmentation.settings import (
    OPERATIONS,
    Augmentation,
    choices,
    for_classes,
)
from sevenfold.practices.augmentation.views import DRAWS, Draw

_LARGE_TURN: Final = 45.0
_OTHER_HUE: Final = 0.05
_SURE: Final = 1.0 - 1e-9  # the largest draw: the far end of a range
_MIDDLE: Final = 0.5

_SIGNED: Final[Mapping[str, tuple[Draw, ...]]] = {
    "rotation_degrees": (Draw.ANGLE,),
    "stretch": (Draw.RATIO,),
    "translation": (Draw.SHIFT_X, Draw.SHIFT_Y),
    "brightness": (Draw.BRIGHTNESS,),
    "contrast": (Draw.CONTRAST,),
    "saturation": (Draw.SATURATION,),
    "hue": (Draw.HUE,),
}
_DEEPEST: Final[Mapping[str, Mapping[Draw, float]]] = {
    "crop": {Draw.AREA: 0.0},
    "blur": {Draw.BLUR: _SURE},
    "noise": {Draw.NOISE: _SURE},
    "erasing": {Draw.ERASING: 0.0, Draw.ERASED_AREA: _SURE},
}
_ALWAYS: Final = ("flip", "flip_vertical", "blur", "noise", "erasing")


@dataclass(frozen=True)
class Operation:
    """Hold one operation alone, at the far end of its range.

    Args:
        name: the setting.
        direction: what tells it from the setting's other directions; empty where
            there is one alone.
        settings: everything else is off.
        fixed: draws that are held; the others differ between pictures.
    """

    name: str
    direction: str
    settings: Augmentation
    fixed: Mapping[Draw, float] = field(hash=False)


UNTOUCHED: Final = Operation("", "", Augmentation.off, {})
"""What leaves a picture as it is."""


def operations(settings: Augmentation) -> tuple[Operation, ...]:
    """List each operation that a setting may draw, alone and at its full reach.

    What has a sign comes in both directions, a shift in four and quarter turns in
    three.

    Example:
        >>> [found.direction for found in operations(replace(Augmentation.off, hue=0.1))]
        ['least', 'most']
    """
    pool = choices(settings)
    found: list[Operation] = []
    for name in OPERATIONS:
        off = getattr(Augmentation.off, name)
        reach = next((getattr(one, name) for one in pool if getattr(one, name) != off), off)
        if reach == off:
            continue
        full: dict[str, Any] = {name: 1.0 if name in _ALWAYS else reach}
        alone = replace(
            Augmentation.off,
            noise_sigma=settings.noise_sigma,
            erasing_area=settings.erasing_area,
            erasing_fill=settings.erasing_fill,
            **full,
        )
        found += [Operation(name, way, alone, fixed) for way, fixed in _directions(name)]
    return tuple(found)


def by_class(settings: Augmentation, classes: Sequence[str]) -> dict[Operation, list[int]]:
    """List the operations of all classes, each with the classes that draw it so far.

    Raises:
        UsageError: a setting names a class or an operation that does not exist.

    Example:
        >>> own = replace(Augmentation.off, hue=0.1, class_strength={"b": 2})
        >>> [(one.settings.hue, labels) for one, labels in by_class(own, ("a", "b")).items()][::2]
        [(0.1, [0]), (0.2, [1])]
    """
    kinds: dict[Augmentation, list[int]] = {}
    for label, own in enumerate(for_classes(settings, classes)):
        kinds.setdefault(own, []).append(label)
    found: dict[Operation, list[int]] = {}
    for own, labels in kinds.items():
        for operation in operations(own):
            found.setdefault(operation, []).extend(labels)
    return found


def looked_at(settings: Augmentation, classes: Sequence[str]) -> dict[Operation, list[int]]:
    """List what `label_check` names of each class's operations, at that class's own reach.

    Raises:
        UsageError: a setting names a class or an operation that does not exist.

    Example:
        >>> own = Augmentation(rotation_degrees=30, class_strength={"b": 1.5})
        >>> [(one.name, labels) for one, labels in looked_at(own, ("a", "b")).items()][:2]
        [('flip', [0, 1]), ('rotation_degrees', [1])]
    """
    every = {} if settings.label_check == "off" else by_class(settings, classes)
    return {
        one: labels for one, labels in every.items() if settings.label_check == "all" or risky(one)
    }


def risky(operation: Operation) -> bool:
    """Tell whether an operation moves a picture far enough to be known for changing labels.

    Example:
        >>> [risky(one) for one in operations(replace(Augmentation.off, flip=0.5, crop=0.7))]
        [True, False]
    """
    settings = operation.settings
    return (
        operation.name in ("flip", "flip_vertical", "quarter_turns")
        or settings.rotation_degrees >= _LARGE_TURN
        or settings.hue >= _OTHER_HUE
    )


def _directions(name: str) -> list[tuple[str, Mapping[Draw, float]]]:
    if name == "quarter_turns":
        return [(f"{90 * turns}", {Draw.QUARTER: turns / 4}) for turns in (1, 2, 3)]
    if name not in _SIGNED:
        return [("", _DEEPEST.get(name, {}))]
    places = _SIGNED[name]
    middle = dict.fromkeys(places, _MIDDLE)
    axes = ("",) if len(places) == 1 else (" across", " down")
    return [
        (f"{way}{axis}", {**middle, place: value})
        for axis, place in zip(axes, places, strict=True)
        for way, value in (("least", 0.0), ("most", _SURE))
    ]


def draws_of(
    operation: Operation, numbers: UInt64[np.ndarray, "pictures"]
) -> Float64[np.ndarray, "pictures draws"]:
    """Return the uniform numbers of each picture, with those that the operation holds."""
    drawn: Float64[np.ndarray, " pictures draws"] = random.uniform("label check", numbers, 0, DRAWS)
    for place, value in operation.fixed.items():
        drawn[:, place] = value
    return drawn
