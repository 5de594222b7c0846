"""Point at pictures that are dark, blurred or of an odd size, and at small classes."""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from jaxtyping import Float64, Int64, UInt8

from sevenfold.data.assemble import SMALLEST_CLASS

_DARK: Final = 25.0  # grey levels
_BRIGHTEST: Final = 95
_BLURRED: Final = 0.04  # of the data's median sharpness
_SOFT: Final = 60.0  # sharpness over which nothing is blurred, however sharp the others are
_TINY: Final = 32
_STRETCHED: Final = 3.0
_SCALE: Final = 5.0


def numbers(square: UInt8[np.ndarray, "side side 3"]) -> tuple[float, float, float]:
    """Return a picture's brightness, highlights and sharpness; see `album.Looks`."""
    grey = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)
    edges = np.asarray(cv2.Laplacian(grey, cv2.CV_32F))
    return float(grey.mean()), float(np.percentile(grey, _BRIGHTEST)), float(edges.var())


def dark(
    brightness: Float64[np.ndarray, "pictures"], highlights: Float64[np.ndarray, "pictures"]
) -> list[int]:
    """Find pictures whose mean is nearly black and that have no bright part."""
    return [int(one) for one in np.flatnonzero((brightness < _DARK) & (highlights < 3 * _DARK))]


def blurred(sharpness: Float64[np.ndarray, "pictures"]) -> list[int]:
    """Find pictures whose Laplacian varies far less than that of the others."""
    if not len(sharpness):
        return []
    limit = min(_SOFT, _BLURRED * float(np.median(sharpness)))
    return [int(one) for one in np.flatnonzero(sharpness < limit)]


def odd_sizes(sizes: Int64[np.ndarray, "pictures 2"]) -> list[int]:
    """Find pictures far smaller, larger or longer than the median, or under 32 pixels."""
    if not len(sizes):
        return []
    sides = np.sqrt(sizes.prod(axis=1).astype(np.float64))
    ratios = sizes[:, 0] / sizes[:, 1]
    side, ratio = np.median(sides), np.median(ratios)
    odd = (np.abs(np.log(sides / side)) > np.log(_SCALE)) | (
        np.abs(np.log(ratios / ratio)) > np.log(_STRETCHED)
    )
    odd |= (sizes.min(axis=1) < _TINY) & (side > 2 * _TINY)
    return [int(index) for index in np.flatnonzero(odd)]


def small_classes(
    labels: Sequence[str], hashes: Sequence[str], classes: Sequence[str]
) -> dict[str, int]:
    """Count the different pictures of each class that has too few to be trained on."""
    counts = dict.fromkeys(classes, 0)
    for label, _ in set(zip(labels, hashes, strict=True)):
        counts[label] += 1
    return {name: count for name, count in counts.items() if count < SMALLEST_CLASS}
