"""Align pictures to pictures by scale, shift, gain and offset, many pairs at once."""

from typing import Final

import numpy as np
from jaxtyping import Bool, Float32

_FURTHEST: Final = 0.3  # scales and shifts of half a side: a crop takes less than this from a side
_STRIDE: Final = 0.1  # the largest step, in which a linear model of the picture still holds
_LEAST_GAIN: Final = 0.2
_STIFFNESS: Final = 1e-4  # of directions in which the pictures have no structure

Pictures = Float32[np.ndarray, "pairs s s"]
Warps = Float32[np.ndarray, "pairs 4"]


def as_they_are(pairs: int) -> Warps:
    """Return warps that change nothing: scales 1 along x and y, shifts 0.

    A warp takes the first picture's place (u, v), -1 to 1 from edge to edge, to the
    second's place (a·u + c, b·v + d); its row is (a, b, c, d).
    """
    return np.tile(np.array([1, 1, 0, 0], np.float32), (pairs, 1))


def warped(pictures: Pictures, warps: Warps) -> tuple[Pictures, Bool[np.ndarray, "pairs s s"]]:
    """Look at each picture through its warp, linearly; tell which places lie inside of it."""
    middles = _middles(pictures.shape[1])
    across, in_x = _weights(warps[:, 0:1] * middles + warps[:, 2:3])
    down, in_y = _weights(warps[:, 1:2] * middles + warps[:, 3:4])
    seen = np.matmul(np.matmul(down, pictures), across.transpose(0, 2, 1))
    return seen, in_y[:, :, None] & in_x[:, None, :]


def align(first: Pictures, second: Pictures, warps: Warps, steps: int) -> Warps:
    """Move warps so that each second picture looks like the first: Gauss-Newton.

    Each step solves the least squares of first ≈ g·(W + ∂W·Δ) + o over the places inside
    the second, with W the second through its warp, for the change Δ of the warp, gain g
    and offset o together (Lucas & Kanade, 1981; the illumination as in Hager & Belhumeur,
    1998).

    Args:
        first: grey levels, somewhat blurred.
        second: the same.
        warps: where the search starts.
        steps: that are made, 1 and above.
    """
    pairs, side = first.shape[:2]
    middles = _middles(side)
    warps = warps.copy()
    parts = np.empty((pairs, 6, side * side), np.float32)
    for _ in range(steps):
        seen, inside = warped(second, warps)
        by_y, by_x = np.gradient(seen, 2 / side, axis=(1, 2))
        by_x /= warps[:, 0, None, None]
        by_y /= warps[:, 1, None, None]
        ones = np.ones_like(seen)
        for at, part in enumerate(
            (by_x * middles, by_y * middles[:, None], by_x, by_y, seen, ones)
        ):
            parts[:, at] = (part * inside).reshape(pairs, -1)
        normal = np.matmul(parts, parts.transpose(0, 2, 1)).astype(np.float64)
        told = np.matmul(parts, (first * inside).reshape(pairs, -1, 1)).astype(np.float64)
        stiff = _STIFFNESS * normal.trace(axis1=1, axis2=2)[:, None] / 6 + 1e-3
        normal[:, range(6), range(6)] += stiff * [1, 1, 1, 1, 0, 0] + 1e-3
        solved = np.linalg.solve(normal, told)[:, :, 0]
        gain = np.maximum(solved[:, 4:5], _LEAST_GAIN)
        warps += np.clip(solved[:, :4] / gain, -_STRIDE, _STRIDE).astype(np.float32)
        np.clip(warps[:, :2], 1 - _FURTHEST, 1 + _FURTHEST, out=warps[:, :2])
        np.clip(warps[:, 2:], -_FURTHEST, _FURTHEST, out=warps[:, 2:])
    return warps


def correlation(
    first: Pictures, second: Pictures, inside: Bool[np.ndarray, "pairs s s"]
) -> Float32[np.ndarray, "pairs"]:
    """Correlate pairs over the places inside; 0 where a picture is flat."""
    pairs = len(first)
    weights = inside.reshape(pairs, -1).astype(np.float32)
    sizes = np.maximum(weights.sum(axis=1, keepdims=True), 1)
    rows = [picture.reshape(pairs, -1) for picture in (first, second)]
    a, b = ((row - (row * weights).sum(axis=1, keepdims=True) / sizes) * weights for row in rows)
    lengths = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.asarray((a * b).sum(axis=1) / np.maximum(lengths, 1e-3), np.float32)


def _middles(side: int) -> Float32[np.ndarray, "s"]:
    return (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1


def _weights(
    places: Float32[np.ndarray, "pairs s"],
) -> tuple[Float32[np.ndarray, "pairs s s"], Bool[np.ndarray, "pairs s"]]:
    """Return the matrix that samples a line of pixels at places, and which of them it has."""
    pairs, side = places.shape
    pixels = (places + 1) * side / 2 - 0.5
    inside = (pixels >= -0.5) & (pixels <= side - 0.5)
    pixels = np.clip(pixels, 0, side - 1)
    below = np.minimum(pixels.astype(np.int64), side - 2)
    share = (pixels - below).astype(np.float32)
    matrix = np.zeros((pairs, side, side), np.float32)
    pair, row = np.arange(pairs)[:, None], np.arange(side)
    matrix[pair, row, below] = 1 - share
    matrix[pair, row, below + 1] = share
    return matrix, inside
