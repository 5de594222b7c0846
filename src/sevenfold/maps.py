"""Show where in a picture the evidence for a class lies: class activation maps.

For a network whose head is linear on the mean of its last feature map A, the logit of a
class is z = b + Σ_c w_c · mean(A_c) = b + Σ over places of Σ_c w_c A_c / (rows · columns).
The summands are the map (Zhou et al. 2016, arXiv 1512.04150). Grad-CAM (Selvaraju et al.
2017, arXiv 1610.02391) weighs channels by the mean gradient, which here is
w_c / (rows · columns), so both are the same map; as it does, what speaks against the class
is cut off.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Float64, UInt8
from PIL import Image

HEAT: Final = np.array(
    [[13, 8, 135], [126, 3, 168], [204, 71, 120], [248, 149, 64], [240, 249, 33]], np.float64
)
"""The ends and quarters of matplotlib's plasma: brighter is more, for the colour-blind, too."""
VEIL: Final = 0.65
"""Of the picture, what the strongest evidence covers."""
_NAME: Final = 60


def known(
    card: Mapping[str, Any], weight: Float[np.ndarray, "classes channels"], rank: int
) -> bool:
    """Tell whether a bundle has maps: one network whose head is linear on a feature map.

    Args:
        card: content of `card.json`.
        weight: of the head; no rows where it is not linear.
        rank: of the last features, with the batch.
    """
    return card.get("ships") != "vote" and weight.size > 0 and rank == 4


def class_map(
    features: Float[np.ndarray, "channels rows columns"], row: Float[np.ndarray, " channels"]
) -> Float64[np.ndarray, "rows columns"]:
    """Return the evidence for a class at each place; the part of its logit above zero.

    Args:
        features: the last feature map.
        row: of the classifier, for this class.

    Example:
        >>> class_map(np.ones((2, 1, 2)), np.array([3.0, -1.0])).tolist()
        [[1.0, 1.0]]
    """
    places = features.shape[1] * features.shape[2]
    summed = np.tensordot(np.asarray(row, np.float64), np.asarray(features, np.float64), 1)
    return np.asarray(np.maximum(summed / places, 0))


def overlay(
    pixels: UInt8[np.ndarray, "height width 3"], evidence: Float64[np.ndarray, "rows columns"]
) -> UInt8[np.ndarray, "height width 3"]:
    """Lay a map over its picture, scaled so that its largest value is the brightest.

    Where nothing speaks for the class, the picture stays as it is.
    """
    height, width = pixels.shape[:2]
    top = float(evidence.max(initial=0))
    shares = evidence / top if top > 0 else evidence
    wide = Image.fromarray(shares.astype(np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    whole, marks = np.asarray(wide), np.arange(len(HEAT))
    laid = np.empty((height, width, 3), np.uint8)
    # Row by row: a photo in doubles takes a hundred times what it takes itself.
    for at in range(height):
        heat = np.clip(whole[at].astype(np.float64), 0, 1)[:, None]
        steps = heat[:, 0] * (len(HEAT) - 1)
        colours = np.stack([np.interp(steps, marks, channel) for channel in HEAT.T], axis=-1)
        laid[at] = np.rint(pixels[at] * (1 - VEIL * heat) + colours * VEIL * heat)
    return laid


def file_name(path: str, label: str) -> str:
    """Name the overlay of a picture: safe on every system, the same for the same path.

    Example:
        >>> file_name("photos/../a b.jpg", "cat")
        'a-b-cat-c976d11a.png'
    """
    digest = hashlib.sha256(path.encode("utf-8", "backslashreplace")).hexdigest()[:8]
    parts = (PurePath(path.replace("\\", "/")).stem[:_NAME], label[:_NAME])
    plain = "-".join(
        filter(None, (re.sub(r"[^A-Za-z0-9_]+", "-", one).strip("-") for one in parts))
    )
    return f"{plain or 'picture'}-{digest}.png"
