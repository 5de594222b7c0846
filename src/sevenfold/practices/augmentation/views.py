"""Make views of a picture: one affine map, one colour matrix, one blur."""

import hashlib
import math
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from sevenfold import draws as random
from sevenfold.features.views import Viewer
from sevenfold.practices.augmentation.settings import Augmentation, choices

# One thread for each call: the stores already run one call on each core.
cv2.setNumThreads(1)


class Draw(IntEnum):
    """Say what each uniform number of a view decides.

    New ones go to the end: the others keep their values, and views stay what they are.
    """

    AREA = 0
    RATIO = 1
    CENTRE_X = 2
    CENTRE_Y = 3
    ANGLE = 4
    FLIP = 5
    FLIP_VERTICAL = 6
    QUARTER = 7
    BRIGHTNESS = 8
    CONTRAST = 9
    SATURATION = 10
    BLUR = 11
    HUE = 12
    SHIFT_X = 13
    SHIFT_Y = 14
    NOISE = 15
    ERASING = 16
    ERASED_AREA = 17
    ERASED_RATIO = 18
    ERASED_X = 19
    ERASED_Y = 20
    FIELD = 21
    POLICY = 22


DRAWS: Final = len(Draw)
"""Uniform numbers that one view of one picture uses."""

_LUMA: Final = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow's grey
_BLUR_SIDE: Final = 160  # the side at which `blur` sigma of 1 pixel is meant
_GRAINS: Final = 64  # grains of noise along a side, whatever its pixels
_SMALLEST_ERASED: Final = 0.02  # Zhong et al. (2020, arXiv 1708.04896), as the ratio
_ERASED_RATIO: Final = 3.3
CODE: Final = hashlib.blake2b(
    b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    + cv2.__version__.encode(),
    digest_size=8,
).hexdigest()
"""Names what makes views: stored ones must not outlive it."""


# A colour is its grey plus two chroma axes (YIQ): a turn by t keeps the grey and
# turns the axes, so it is GREY + cos(t) CHROMA + sin(t) TURNED, and saturation
# scales the last two.
_YIQ: Final = np.array([_LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_GREY: Final = np.tile(_LUMA, (3, 1))
_CHROMA: Final = np.eye(3) - _GREY
_TURNED: Final = np.linalg.inv(_YIQ) @ np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]]) @ _YIQ


def affine(
    settings: Augmentation,
    draws: Sequence[float] | Float64[np.ndarray, "draws"],
    source: int,
    side: int,
) -> Float64[np.ndarray, "2 3"]:
    """Compose crop, stretch, shift, turn and flips into one map from view to picture.

    The map takes a pixel position of the view, [0, side), to a position in the
    square picture, [0, source); pixel centres lie at +0.5.

    Args:
        settings: the ranges.
        draws: the `DRAWS` uniform numbers of this view.
        source: side of the stored picture in pixels.
        side: side of the view in pixels.
    """
    area = settings.crop + (1.0 - settings.crop) * draws[0]
    ratio = settings.stretch ** (2.0 * draws[1] - 1.0)
    width = min(1.0, math.sqrt(area * ratio))
    height = min(1.0, math.sqrt(area / ratio))
    centre_x = 0.5 + (1.0 - width) * (draws[2] - 0.5)
    centre_y = 0.5 + (1.0 - height) * (draws[3] - 0.5)
    if settings.translation:
        centre_x += settings.translation * (2.0 * draws[Draw.SHIFT_X] - 1.0)
        centre_y += settings.translation * (2.0 * draws[Draw.SHIFT_Y] - 1.0)
    angle = math.radians(settings.rotation_degrees) * (2.0 * draws[4] - 1.0)
    if settings.quarter_turns:
        angle += math.pi / 2 * math.floor(4.0 * draws[7])
    scale = source / side
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    mirror_x = -1.0 if draws[5] < settings.flip else 1.0
    mirror_y = -1.0 if draws[6] < settings.flip_vertical else 1.0
    a, b = width * cos * mirror_x, -width * sin * mirror_y
    c, d = height * sin * mirror_x, height * cos * mirror_y
    middle = (side - 1) / 2.0
    x = centre_x * source - 0.5 - (a + b) * middle
    y = centre_y * source - 0.5 - (c + d) * middle
    return np.array([[a, b, x], [c, d, y]])


def colour(
    settings: Augmentation, draws: Sequence[float] | Float64[np.ndarray, "4"], grey: float
) -> Float64[np.ndarray, "3 4"]:
    r"""Compose brightness, contrast, saturation and hue into one 3x4 matrix.

    $$M = b\,c\,\bigl(G + s\,(\cos t\,(I - G) + \sin t\,R)\bigr), \quad
    o = b\,(1 - c)\,\bar{g}$$

    with $G$ the projection on each pixel's grey and $R$ a quarter turn of its
    chroma. Contrast moves values away from the picture's own mean grey $\bar{g}$,
    saturation away from each pixel's grey, and hue turns around it: all linear.

    Args:
        settings: the ranges.
        draws: uniform numbers for brightness, contrast, saturation and hue.
        grey: mean grey of the picture, 0 to 255.
    """
    brightness = 1.0 + settings.brightness * (2.0 * draws[0] - 1.0)
    contrast = 1.0 + settings.contrast * (2.0 * draws[1] - 1.0)
    chroma = brightness * contrast * (1.0 + settings.saturation * (2.0 * draws[2] - 1.0))
    turn = 2.0 * math.pi * settings.hue * (2.0 * draws[3] - 1.0)
    matrix = np.empty((3, 4))
    matrix[:, :3] = brightness * contrast * _GREY + chroma * math.cos(turn) * _CHROMA
    if turn:
        matrix[:, :3] += chroma * math.sin(turn) * _TURNED
    matrix[:, 3] = (1.0 - contrast) * grey * brightness
    return matrix


def augment(
    pixels: UInt8[np.ndarray, "source source 3"],
    settings: Augmentation,
    draws: Sequence[float] | Float64[np.ndarray, "draws"],
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
    pool = choices(settings)
    drawn = [float(one) for one in draws]
    chosen = pool[math.floor(len(pool) * drawn[Draw.POLICY])]
    view = _moved(pixels, chosen, drawn, side)
    if chosen.saturation or chosen.hue or chosen.brightness or chosen.contrast:
        view = _coloured(view, chosen, drawn)
    if drawn[Draw.BLUR] < chosen.blur:
        view = _blurred(view, drawn[Draw.BLUR] / chosen.blur, side)
    if drawn[Draw.NOISE] < chosen.noise:
        sigma = 255.0 * chosen.noise_sigma * drawn[Draw.NOISE] / chosen.noise
        view = _noisy(view, sigma, drawn, side)
    if drawn[Draw.ERASING] < chosen.erasing:
        view = _erased(view, chosen, drawn, side)
    return np.asarray(view, dtype=np.uint8)


def _moved(pixels: Any, settings: Augmentation, draws: Sequence[float], side: int) -> Any:
    source = pixels.shape[0]
    matrix = affine(settings, draws, source, side)
    if source == side and matrix.tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]:
        return pixels
    # OpenCV 5 warps four channels two to three times as fast as three, to the same bytes.
    warped = cv2.warpAffine(
        cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA),
        matrix,
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB)


def _coloured(view: Any, settings: Augmentation, draws: Sequence[float]) -> Any:
    red, green, blue, _ = cv2.mean(view)
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    numbers = [*draws[Draw.BRIGHTNESS : Draw.SATURATION + 1], draws[Draw.HUE]]
    return cv2.transform(view, colour(settings, numbers, grey))


def _blurred(view: Any, strength: float, side: int) -> Any:
    sigma = (0.1 + 1.4 * strength) * side / _BLUR_SIDE
    reach = math.ceil(2 * sigma)  # what lies beyond weighs under 5 %
    half = [math.exp(-((step / sigma) ** 2) / 2) for step in range(1, reach + 1)]
    whole = 1.0 + 2.0 * sum(half)
    # OpenCV filters bytes by weights in steps of 1/256, at nearly twice the speed of
    # its GaussianBlur; they must sum to one for grey to stay grey.
    near = [round(256 * weight / whole) for weight in half]
    kernel = np.array([*reversed(near), 256 - 2 * sum(near), *near]) / 256
    return cv2.sepFilter2D(view, -1, kernel, kernel)


def _grains(draws: Sequence[float]) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(int(draws[Draw.FIELD] * 2.0**53)))


def _spread(field: Any, side: int) -> Any:
    """Bring a field of grains to the view's size; where they are too fine they average."""
    how = cv2.INTER_NEAREST if side >= _GRAINS else cv2.INTER_AREA
    return cv2.resize(field, (side, side), interpolation=how)


def _noisy(view: Any, sigma: float, draws: Sequence[float], side: int) -> Any:
    shape = (_GRAINS, _GRAINS, 3)
    field = np.rint(sigma * _grains(draws).standard_normal(shape, dtype=np.float32))
    # Saturated bytes are many times as fast as signed numbers.
    brighter = np.clip(field, 0, 255).astype(np.uint8)
    darker = np.clip(-field, 0, 255).astype(np.uint8)
    return cv2.subtract(cv2.add(view, _spread(brighter, side)), _spread(darker, side))


def _erased(view: Any, settings: Augmentation, draws: Sequence[float], side: int) -> Any:
    reach = settings.erasing_area - _SMALLEST_ERASED
    area = _SMALLEST_ERASED + reach * draws[Draw.ERASED_AREA]
    ratio = _ERASED_RATIO ** (2.0 * draws[Draw.ERASED_RATIO] - 1.0)
    width = min(1.0, max(area, math.sqrt(area * ratio)))
    height = area / width
    left, top = (1.0 - width) * draws[Draw.ERASED_X], (1.0 - height) * draws[Draw.ERASED_Y]
    rows = slice(round(top * side), round((top + height) * side))
    columns = slice(round(left * side), round((left + width) * side))
    erased = view.copy()
    if settings.erasing_fill == "mean":
        erased[rows, columns] = np.rint(cv2.mean(view)[:3])
    else:
        field = _grains(draws).integers(0, 256, (_GRAINS, _GRAINS, 3), dtype=np.uint8)
        erased[rows, columns] = _spread(field, side)[rows, columns]
    return erased


def viewer(settings: Augmentation, side: int, salt: str) -> Viewer:
    """Make the views of a setting, each a function of picture and view alone.

    Args:
        settings: how far the views may differ.
        side: of the views in pixels.
        salt: another salt gives other views; empty for views that all seeds share.
    """
    if settings.seed:
        salt = f"{settings.seed}:{salt}"
    name = f"{settings}/{side}/{salt}/{CODE}"

    def make(
        pixels: UInt8[np.ndarray, "source source 3"], picture: int, view: int
    ) -> UInt8[np.ndarray, "side side 3"]:
        return augment(pixels, settings, random.one(f"{salt}/augment", picture, view, DRAWS), side)

    return Viewer(name, make)
