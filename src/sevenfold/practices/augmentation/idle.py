"""Refuse settings that would do nothing."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np
from jaxtyping import UInt8

from sevenfold.errors import UsageError
from sevenfold.practices.augmentation.settings import (
    OPERATIONS,
    WIDE,
    Augmentation,
    choices,
    for_class,
    named,
    strengthened,
    without,
)

_DEFAULT: Final = Augmentation()
_OF_THE_POLICY: Final = ("policy_strength", "left_out")
_DETAILS: Final = {
    "noise_sigma": "noise",
    "erasing_area": "erasing",
    "erasing_fill": "erasing",
}
_OF_COLOURS: Final = ("hue", "saturation")
_TINT: Final = 4  # grey levels: what a JPEG's rounding may leave of colour, and no eye sees


def refuse_idle(settings: Augmentation) -> None:
    """Refuse settings that would do nothing beside the others.

    A value that is the default cannot be told from one that was never given, and passes.

    Raises:
        UsageError: with the setting's name.
    """
    if settings.policy == "trivial":
        _refuse_ranges(settings)
    else:
        for name in _OF_THE_POLICY:
            if getattr(settings, name) != getattr(_DEFAULT, name):
                _refuse(settings, name, "policy = 'ranges'", "choose augmentation.policy=trivial")
    for name, operation in _DETAILS.items():
        drawn = any(getattr(one, operation) for one in choices(settings))
        if getattr(settings, name) != getattr(_DEFAULT, name) and not drawn:
            _refuse(settings, name, f"no {operation}", f"set augmentation.{operation} above 0")
    if settings.noise and not settings.noise_sigma:
        _refuse(settings, "noise", "noise_sigma = 0", "set augmentation.noise_sigma above 0")
    if settings.insist and settings.label_check == "off":
        _refuse(settings, "insist", "label_check = 'off'", "set augmentation.label_check=all")
    _refuse_of_classes(settings)


def grey(picture: UInt8[np.ndarray, "height width 3"]) -> bool:
    """Tell whether a picture has no colour that saturation or hue could change.

    Example:
        >>> grey(np.full((2, 2, 3), 90, np.uint8)), grey(np.eye(3, dtype=np.uint8)[None] * 200)
        (True, False)
    """
    return bool((picture.max(axis=2) - picture.min(axis=2)).max() <= _TINT)


def refuse_grey(
    settings: Augmentation, pictures: Iterable[UInt8[np.ndarray, "height width 3"]]
) -> None:
    """Refuse what turns or strengthens colours where none of some pictures has any.

    The default saturation does nothing there either, and passes: nobody asked for it.

    Args:
        settings: as the user gave them.
        pictures: one or more; looked at only where colours are asked for, up to the first
            that has any.

    Raises:
        UsageError: with the setting's name.
    """
    asked = [
        name
        for name in _OF_COLOURS
        if getattr(settings, name) not in (0.0, getattr(_DEFAULT, name))
    ]
    if asked and all(map(grey, pictures)):
        _refuse(settings, asked[0], "pictures that are all grey", "give pictures in colour")


def _refuse_ranges(settings: Augmentation) -> None:
    """Refuse ranges that `trivial` replaces by its own wide ones."""
    for name in WIDE:
        if getattr(settings, name) != getattr(_DEFAULT, name):
            cure = f"set augmentation.left_out={name} for a policy that never draws it"
            _refuse(settings, name, "policy = 'trivial'", cure)
    if not settings.policy_strength:
        _refuse(settings, "policy", "policy_strength = 0", "set policy_strength above 0")


def _refuse_of_classes(settings: Augmentation) -> None:
    """Refuse what changes nothing for the class that it names."""
    for label, factor in settings.class_strength.items():
        if factor != 1 and strengthened(settings, factor) == settings:
            where = f"class_strength.{label}"
            raise UsageError(
                f"augmentation.{where} = {factor:g} does nothing with what is switched on",
                "leave it out, or switch an operation on",
            )
    for label, spared in settings.class_off.items():
        own = replace(settings, class_off={label: spared})
        for operation in named(spared):
            if operation not in OPERATIONS:
                for_class(own, label)  # is refused with a suggestion
            if choices(without(settings, operation)) == choices(settings):
                raise UsageError(
                    f"augmentation.class_off.{label} names {operation}, which is off already",
                    "leave it out",
                )


def _refuse(settings: Augmentation, name: str, beside: str, cure: str) -> None:
    value = getattr(settings, name)
    shown = str(value).lower() if isinstance(value, bool) else repr(value)
    raise UsageError(
        f"augmentation.{name} = {shown} does nothing with {beside}", f"leave it out, or {cure}"
    )
