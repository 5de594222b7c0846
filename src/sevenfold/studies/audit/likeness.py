"""Tell whether two pictures are one, resized, re-encoded, mirrored, cropped or brightened."""

from typing import Any, Final

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

SIDE: Final = 48
"""Of the squares that are aligned, in pixels."""
_STEPS: Final = 30
_PATIENCE: Final = 1e-4
# Where the search for the alignment starts: as it is, the second cropped, the first cropped.
_STARTS: Final = (1.0, 0.88, 1.14)
_FURTHEST: Final = 0.3  # a crop takes less than this from a side
_OVERLAP: Final = 0.6
_CORRELATION: Final = 0.93
# A small object on the same background changes one place a lot, a new encoding all of them
# a little: the largest difference of a 5 x 5 patch, in spreads of the picture.
_PATCH: Final = 5
_LARGEST: Final = 0.75
_FLAT: Final = 4.0  # spread in grey levels under which there is nothing to align


def small(square: UInt8[np.ndarray, "side side 3"]) -> UInt8[np.ndarray, "s s 3"]:
    """Shrink a square to what is compared."""
    return np.asarray(cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def alike(one: UInt8[np.ndarray, "s s 3"], other: UInt8[np.ndarray, "s s 3"]) -> bool:
    """Align the second to the first, straight or mirrored, and compare what is left.

    An affine map by enhanced correlation (Evangelidis & Psarakis, 2008), then one gain and
    one offset for all channels: alike where the rest is small everywhere.
    """
    first, second = one.astype(np.float32), other.astype(np.float32)
    if min(float(first.std()), float(second.std())) < _FLAT:
        return False
    ways = sorted((second, second[:, ::-1]), key=lambda one: -_correlation(first, one))
    return any(_aligned(first, np.ascontiguousarray(way)) for way in ways)


def _correlation(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def _aligned(first: Float32[np.ndarray, "s s 3"], second: Float32[np.ndarray, "s s 3"]) -> bool:
    if _same(first, second, np.ones((SIDE, SIDE), bool)):
        return True
    greys = [cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in (first, second)]
    for scale in _STARTS:
        edge = (1 - scale) * SIDE / 2
        warp = np.array([[scale, 0, edge], [0, scale, edge]], np.float32)
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _STEPS, _PATIENCE)
        try:
            _, found = cv2.findTransformECC(
                greys[0],
                greys[1],
                warp,
                cv2.MOTION_AFFINE,
                criteria,
                np.ones_like(greys[0], np.uint8),
                5,
            )
        except cv2.error:  # it finds no way to raise the correlation from here
            continue
        if _plausible(np.asarray(found, np.float64)) and _matches(first, second, found):
            return True
    return False


def _plausible(warp: Float64[np.ndarray, "2 3"]) -> bool:
    corners = np.array([[0, 0, 1], [SIDE, 0, 1], [0, SIDE, 1], [SIDE, SIDE, 1]], np.float64)
    moved = corners @ warp.T - corners[:, :2]
    turned = max(abs(warp[0, 1]), abs(warp[1, 0]))
    return bool(np.abs(moved).max() < _FURTHEST * SIDE and turned < 0.1)


def _matches(
    first: Float32[np.ndarray, "s s 3"], second: Float32[np.ndarray, "s s 3"], warp: Any
) -> bool:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(second, warp, (SIDE, SIDE), flags=flags)
    inside = cv2.warpAffine(np.ones((SIDE, SIDE), np.float32), warp, (SIDE, SIDE), flags=flags)
    mask = np.asarray(inside) > 0.99
    return bool(mask.mean() >= _OVERLAP) and _same(first, np.asarray(moved, np.float32), mask)


def _same(
    first: Float32[np.ndarray, "s s 3"],
    second: Float32[np.ndarray, "s s 3"],
    mask: Bool[np.ndarray, "s s"],
) -> bool:
    a, b = first[mask], second[mask]
    spread = float(a.std())
    correlation = _correlation(a, b)
    if not correlation >= _CORRELATION:
        return False
    gain = correlation * spread / float(b.std())
    rest = first - (gain * (second - b.mean()) + a.mean())
    rest[~mask] = 0
    patches = np.abs(cv2.blur(rest, (_PATCH, _PATCH)))
    return float(patches.max()) <= _LARGEST * spread
