"""Choose pictures that are worth a label: uncertain ones that differ from each other."""

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64

By = Literal["margin", "entropy"]

POOL: Final = 5
"""So many times the asked pictures, the most uncertain ones, are chosen among."""


def uncertainty(
    probabilities: Float32[np.ndarray, "pictures classes"], by: By
) -> Float64[np.ndarray, "pictures"]:
    r"""Measure how unsure a model is of each picture, 0 to 1.

    $1 - (p_1 - p_2)$ of the two largest probabilities (margin; Scheffer et al. 2001), or
    $-\sum p \log p / \log K$ (entropy).

    Args:
        probabilities: calibrated.
        by: which of the two.

    Example:
        >>> uncertainty(np.array([[0.5, 0.5], [1.0, 0.0]], np.float32), "margin").tolist()
        [1.0, 0.0]
    """
    p = probabilities.astype(np.float64)
    if by == "margin":
        top = np.sort(p, axis=1)[:, -2:]
        return np.asarray(1 - (top[:, 1] - top[:, 0]))
    logs = np.log(np.maximum(p, 1e-30))
    return np.asarray(-(p * logs).sum(axis=1) / np.log(p.shape[1]))


def chosen(
    unsure: Float64[np.ndarray, "pictures"],
    features: Sequence[Float32[np.ndarray, "channels"]],
    count: int,
) -> Int64[np.ndarray, "chosen"]:
    """Choose pictures, the best first: greedy k-centre among the most uncertain.

    The first is the most uncertain one. Each next one has the largest product of its
    uncertainty and its distance to the nearest that is chosen already: a burst of one scene
    gives one picture, not twenty (k-centre: Sener & Savarese 2018, arXiv 1708.00489; there by
    distance alone).

    Args:
        unsure: of each picture, 0 to 1.
        features: of each picture, of length 1.
        count: how many; fewer where there are fewer.
    """
    ranked = np.argsort(-unsure, kind="stable")[: POOL * count]
    weights = np.maximum(unsure[ranked], 1e-9)
    places = np.stack([features[at] for at in ranked.tolist()])
    picked = [0]
    nearest = np.full(len(ranked), np.inf)
    while len(picked) < min(count, len(ranked)):
        # Unit vectors: the squared distance is 2 - 2 cos.
        squared = 2 - 2 * (places @ places[picked[-1]]).astype(np.float64)
        nearest = np.minimum(nearest, np.sqrt(np.maximum(squared, 0.0)))
        nearest[picked] = -np.inf
        picked.append(int(np.argmax(weights * nearest)))
    return np.asarray(ranked[picked])
