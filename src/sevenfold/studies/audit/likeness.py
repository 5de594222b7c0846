"""Tell whether pictures are one, resized, re-encoded, mirrored, cropped or brightened."""

from typing import Any, Final

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from sevenfold.studies.audit.alignment import align, as_they_are, correlation, warped

# The bounds were set on CIFAR-10 and clothing with draws that benchmarks/audit.py does not use.
SIDE: Final = 48
"""Of the squares that are compared, in pixels."""
_COARSE: Final = 16
_COARSE_STEPS: Final = 4
_FINE_STEPS: Final = 3
_PROMISING: Final = 0.93  # coarse correlation under which nothing is a copy
_CORRELATION: Final = 0.93
_OVERLAP: Final = 0.6
_PATCH: Final = 5
# In spreads of the picture: how far a patch may be off in lightness, and in any colour,
# which cheap encodings smear; and the root mean square of all in lightness, by which shirts
# of one cut before one wall differ.
_LIGHTNESS: Final = 0.4
_COLOUR: Final = 1.1
_TOGETHER: Final = 0.11
# A small object on the same background changes one place a lot, a new encoding all of them
# a little: a patch that stands out by this from the root mean square of all tells of an object.
_OUTSTANDING: Final = 5.5
_FAINT: Final = 0.35  # and by less than this of nothing
_FLAT: Final = 4.0  # spread in grey levels under which there is nothing to compare
_CLIPPED: Final = (4, 250)  # grey levels beyond which brightness is lost
_LEAST_FREE: Final = 0.15  # of the levels, that gain and offset are fitted by
_GREY: Final = np.array([0.299, 0.587, 0.114], np.float32)

Squares = UInt8[np.ndarray, "pairs s s 3"]


def small(square: UInt8[np.ndarray, "side side 3"]) -> UInt8[np.ndarray, "s s 3"]:
    """Shrink a square to what is compared."""
    return np.asarray(cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def alike(first: Squares, second: Squares) -> Bool[np.ndarray, "pairs"]:
    """Align each second picture to the first, straight or mirrored, and compare what is left.

    Coarse squares find the alignment and rule out most pairs; of the others the fine ones
    are aligned, gain and offset taken out, and every patch looked at.
    """
    found = np.zeros(len(first), bool)
    warps, mirrored, promise = _coarse(first, second)
    some = np.flatnonzero(promise >= _PROMISING)
    if not len(some):
        return found
    one, other = first[some], second[some]
    other = np.where(mirrored[some, None, None, None], other[:, :, ::-1], other)
    warps = align(_blurred(one, SIDE), _blurred(other, SIDE), warps[some], _FINE_STEPS)
    seen = [warped(other[..., channel].astype(np.float32), warps) for channel in range(3)]
    colours, inside = np.stack([channel for channel, _ in seen], axis=-1), seen[0][1]
    for place, a, b, within in zip(some, one.astype(np.float32), colours, inside, strict=True):
        found[place] = within.mean() >= _OVERLAP and (_same(a, b, within) or _same(b, a, within))
    return found


def _coarse(first: Squares, second: Squares) -> tuple[Any, Any, Any]:
    """Return each pair's better alignment, whether it is mirrored, and its correlation."""
    one, other = _blurred(first, _COARSE), _blurred(second, _COARSE)
    ways = []
    for way in (other, np.ascontiguousarray(other[:, :, ::-1])):
        warps = align(one, way, as_they_are(len(one)), _COARSE_STEPS)
        ways.append((warps, correlation(one, *warped(way, warps))))
    (straight, agree), (turned, turned_agree) = ways
    mirrored = turned_agree > agree
    return (
        np.where(mirrored[:, None], turned, straight),
        mirrored,
        np.maximum(agree, turned_agree),
    )


def _blurred(squares: Squares, side: int) -> Float32[np.ndarray, "pairs side side"]:
    size = (side, side)
    return np.stack(
        [
            cv2.GaussianBlur(
                cv2.resize(
                    cv2.cvtColor(square, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA
                ).astype(np.float32),
                (3, 3),
                0,
            )
            for square in squares
        ]
    )


def _same(
    first: Float32[np.ndarray, "s s 3"],
    second: Float32[np.ndarray, "s s 3"],
    inside: Bool[np.ndarray, "s s"],
) -> bool:
    """Explain the first picture by the second, clipped as brightening clips it."""
    spread = float(first[inside].std())
    if min(spread, float(second[inside].std())) < _FLAT:
        return False
    told = _brightened(first, second, inside)
    if not float(np.corrcoef(first[inside].ravel(), told[inside].ravel())[0, 1]) >= _CORRELATION:
        return False
    rest = (first - told) / spread
    rest[~inside] = 0
    grey = np.abs(cv2.blur(rest @ _GREY, (_PATCH, _PATCH)))
    colour = np.abs(cv2.blur(rest, (_PATCH, _PATCH))).max(axis=2)
    largest = float(colour.max())
    usual = float(np.sqrt(np.square(colour[inside]).mean()))
    return (
        float(grey.max()) <= _LIGHTNESS
        and float(np.square(grey[inside]).mean()) <= _TOGETHER**2
        and largest <= _COLOUR
        and largest <= max(_FAINT, _OUTSTANDING * usual)
    )


def _brightened(
    first: Float32[np.ndarray, "s s 3"],
    second: Float32[np.ndarray, "s s 3"],
    inside: Bool[np.ndarray, "s s"],
) -> Float32[np.ndarray, "s s 3"]:
    """Fit one gain and one offset by the levels that are clipped in neither picture."""
    low, high = _CLIPPED
    free = inside[..., None] & (np.minimum(first, second) > low)
    free &= np.maximum(first, second) < high
    if free.mean() < _LEAST_FREE:
        free = np.broadcast_to(inside[..., None], first.shape)
    a, b = first[free], second[free]
    variance = float(b.var())
    gain = float(((a - a.mean()) * (b - b.mean())).mean()) / max(variance, 1e-3)
    return np.asarray(np.clip(gain * (second - b.mean()) + a.mean(), 0, 255), np.float32)
