"""Practice 5: change the look of a training picture, not its content.

All geometry composes into one affine map, all linear colour changes into one
3x4 matrix, and there is one blur: three passes over the pixels, whatever is
switched on. Every range is a fraction of the picture's side, so that it means
the same at 32 and at 320 pixels.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from sevenfold import draws as random
from sevenfold.features.views import Viewer
from sevenfold.ranges import Range, Share

# One thread for each call: the stores already run one call on each core.
cv2.setNumThreads(1)

DRAWS: Final = 12
"""Uniform numbers that one view of one picture uses."""

_LUMA: Final = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow's grey
_BLUR_SIDE: Final = 160  # the side at which `blur` sigma of 1 pixel is meant


@dataclass(frozen=True)
class Augmentation:
    """Say how far a view may differ from its picture.

    Args:
        flip: probability of a mirror image, 0 to 1.
        flip_vertical: probability of an upside-down image, 0 to 1.
        quarter_turns: whether turns by 90, 180 and 270 degrees are drawn.
        rotation_degrees: largest turn to either side, 0 to 180.
        crop: smallest share of the area that a random crop keeps, above 0 to 1.
        stretch: largest change of the aspect ratio, 1 or more (1.33: 3:4 to 4:3).
        brightness: largest relative change, 0 to 1.
        contrast: largest relative change, 0 to 1.
        saturation: largest relative change, 0 to 1.
        blur: probability of a Gaussian blur, 0 to 1, of a sigma between 0.1 and
            1.5 pixels at a side of 160 (in proportion elsewhere).
    """

    flip: Share = 0.5
    flip_vertical: Share = 0.0
    quarter_turns: bool = False
    rotation_degrees: Annotated[float, Range(0, 180)] = 5.0
    crop: Annotated[float, Range(0, 1, above=True)] = 0.7
    stretch: Annotated[float, Range(1, 4)] = 1.2
    brightness: Share = 0.15
    contrast: Share = 0.15
    saturation: Share = 0.15
    blur: Share = 0.0

    off: ClassVar["Augmentation"]


Augmentation.off = Augmentation(
    flip=0.0,
    rotation_degrees=0.0,
    crop=1.0,
    stretch=1.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    blur=0.0,
)


def affine(
    settings: Augmentation, draws: Float64[np.ndarray, "draws"], source: int, side: int
) -> Float64[np.ndarray, "2 3"]:
    """Compose crop, stretch, turn and flip into one map from view to picture.

    The map takes a pixel position of the view, [0, side), to a position in the
    square picture, [0, source); pixel centres lie at +0.5.

    Args:
        settings: the ranges.
        draws: the uniform numbers of this view, at least 8.
        source: side of the stored picture in pixels.
        side: side of the view in pixels.
    """
    area = settings.crop + (1.0 - settings.crop) * draws[0]
    ratio = settings.stretch ** (2.0 * draws[1] - 1.0)
    width = min(1.0, np.sqrt(area * ratio))
    height = min(1.0, np.sqrt(area / ratio))
    centre_x = 0.5 + (1.0 - width) * (draws[2] - 0.5)
    centre_y = 0.5 + (1.0 - height) * (draws[3] - 0.5)
    angle = np.deg2rad(settings.rotation_degrees) * (2.0 * draws[4] - 1.0)
    if settings.quarter_turns:
        angle += np.pi / 2 * np.floor(4.0 * draws[7])
    mirror_x = -1.0 if draws[5] < settings.flip else 1.0
    mirror_y = -1.0 if draws[6] < settings.flip_vertical else 1.0
    cos, sin = np.cos(angle), np.sin(angle)
    linear = np.array(
        [
            [width * cos * mirror_x, -width * sin * mirror_y],
            [height * sin * mirror_x, height * cos * mirror_y],
        ]
    )
    linear *= source / side
    centre = np.array([centre_x, centre_y]) * source - 0.5
    shift = centre - linear @ np.full(2, (side - 1) / 2.0)
    return np.column_stack([linear, shift])


def colour(
    settings: Augmentation, draws: Float64[np.ndarray, "draws"], grey: float
) -> Float64[np.ndarray, "3 4"]:
    """Compose brightness, contrast and saturation into one 3x4 matrix.

    Contrast moves values away from the picture's own mean grey and saturation
    away from each pixel's grey, both linear, so the three are one matrix.

    Args:
        settings: the ranges.
        draws: three uniform numbers.
        grey: mean grey of the picture, 0 to 255.
    """
    brightness, contrast, saturation = (
        1.0 + reach * (2.0 * draw - 1.0)
        for reach, draw in zip(
            (settings.brightness, settings.contrast, settings.saturation), draws, strict=True
        )
    )
    matrix = saturation * np.eye(3) + (1.0 - saturation) * _LUMA[None, :]
    offset = np.full((3, 1), (1.0 - contrast) * grey * brightness)
    return np.hstack([brightness * contrast * matrix, offset])


def augment(
    pixels: UInt8[np.ndarray, "source source 3"],
    settings: Augmentation,
    draws: Float64[np.ndarray, "draws"],
    side: int,
) -> UInt8[np.ndarray, "side side 3"]:
    """Make one view of a picture.

    Args:
        pixels: the stored picture, a square.
        settings: how far the view may differ.
        draws: `DRAWS` uniform numbers in [0, 1).
        side: side of the view in pixels.

    Returns:
        The view. The same arguments give the same bytes.

    Example:
        >>> picture = np.zeros((37, 37, 3), np.uint8)
        >>> augment(picture, Augmentation(), np.full(DRAWS, 0.5), 32).shape
        (32, 32, 3)
    """
    view = pixels
    if settings == Augmentation.off and pixels.shape[0] == side:
        return view
    view = cv2.warpAffine(
        view,
        affine(settings, draws, pixels.shape[0], side),
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    if settings.brightness or settings.contrast or settings.saturation:
        grey = float(_LUMA @ cv2.mean(view)[:3])
        view = cv2.transform(view, colour(settings, draws[8:11], grey))
    if draws[11] < settings.blur:
        strength = draws[11] / settings.blur
        sigma = (0.1 + 1.4 * strength) * side / _BLUR_SIDE
        reach = 2 * math.ceil(2 * sigma) + 1  # what lies beyond weighs under 5 %
        view = cv2.GaussianBlur(view, (reach, reach), sigma)
    return np.asarray(view, dtype=np.uint8)


def viewer(settings: Augmentation, side: int, salt: str) -> Viewer:
    """Make the views of a setting, each a function of picture and view alone.

    Args:
        settings: how far the views may differ.
        side: of the views in pixels.
        salt: another salt gives other views; empty for views that all seeds share.
    """
    name = f"{settings}/{side}/{salt}"

    def make(
        pixels: UInt8[np.ndarray, "source source 3"], picture: int, view: int
    ) -> UInt8[np.ndarray, "side side 3"]:
        numbers = random.uniform(f"{salt}/augment", np.array([picture], np.uint64), view, DRAWS)
        return augment(pixels, settings, numbers[0], side)

    return Viewer(name, make)
