"""Tell pictures that are unlike anything trained on by the last features.

Two distances from training are known: 1 - the largest cosine between the mean of the last
feature map and the mean of a class (`centroid`), and the free energy of the logits, -log
Σ exp z (`energy`: Liu et al. 2020, arXiv 2010.03759), where the head is linear.

Nobody has unknown pictures when a model is made, so stand-ins choose between them: each
class in turn taken for unknown, and pictures of the data whose content is destroyed, by
shuffling a grid of tiles and by shrinking to a handful of pixels. The distance whose worst
area under the ROC curve over the three is larger is taken. Left-out classes alone choose
wrongly: the network has learned to see them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, final

import numpy as np
from jaxtyping import Float, Float64, Int64, UInt8
from PIL import Image

SCHEMA: Final = "sevenfold.unknown/1"
SCORES: Final = ("centroid", "energy")
REJECTED: Final = 0.05
"""Share of pictures like those trained on that may be marked: the field's usual 5 %."""
SCRAMBLES: Final = ("shuffled", "shrunk")
_TILES: Final = 4
_SHRUNK: Final = 8
_FARTHEST: Final = 1e300
_TINY: Final = 1e-12

Vectors = Float[np.ndarray, "pictures channels"]
Distances = Float64[np.ndarray, " pictures"]


@final
@dataclass(frozen=True, eq=False, slots=True)
class Detector:
    """Hold how far from training a picture may lie.

    Args:
        score: one of `SCORES`, or `none`.
        threshold: beyond which it is unlike anything trained on.
        centroids: mean of the pooled features of each class; rows of zeros count for
            nothing, and there are no rows where none are known.
        weight: of the linear head; no rows where it is not linear.
        bias: of it.
    """

    score: str
    threshold: float
    centroids: Float[np.ndarray, "classes channels"]
    weight: Float[np.ndarray, "outputs inputs"]
    bias: Float[np.ndarray, " outputs"]


EMPTY: Final = Detector("none", math.inf, np.zeros((0, 0)), np.zeros((0, 0)), np.zeros(0))


def pooled(features: Float[np.ndarray, "*map"]) -> Float64[np.ndarray, " channels"]:
    """Return one number for each channel of the last features.

    Args:
        features: of one picture: `[channels, rows, columns]`, `[tokens, channels]` of a
            transformer, or `[channels]`.
    """
    precise = np.asarray(features, np.float64)
    if precise.ndim == 1:
        return precise
    return np.asarray(precise.mean(axis=(1, 2) if precise.ndim == 3 else 0))


def distances(detector: Detector, vectors: Vectors) -> Distances:
    """Return how far pictures lie from training; NaN where that is not known.

    Args:
        detector: see there.
        vectors: one of `pooled` for each picture.
    """
    if detector.score == "centroid":
        return np.asarray(1 - _cosines(vectors, detector.centroids).max(axis=1))
    if detector.score == "energy":
        return _energy(vectors, detector.weight, detector.bias)
    return np.full(len(vectors), np.nan)


def centroids(
    vectors: Vectors, labels: Int64[np.ndarray, " pictures"], classes: int
) -> Float64[np.ndarray, "classes channels"]:
    """Return the mean of each class; zeros for one without pictures."""
    found = np.zeros((classes, vectors.shape[1]))
    np.add.at(found, labels, np.asarray(vectors, np.float64))
    return found / np.maximum(np.bincount(labels, minlength=classes), 1)[:, None]


def threshold(found: Distances) -> float:
    """Return the distance that a new picture of the data exceeds with chance `REJECTED`.

    The ⌈(n + 1)(1 - `REJECTED`)⌉-th smallest (split conformal prediction: Vovk 2012, arXiv
    1209.2673); the largest where there are too few pictures for that.

    Example:
        >>> threshold(np.arange(1.0, 40.0))
        38.0
    """
    rank = math.ceil(round((len(found) + 1) * (1 - REJECTED), 9))
    return float(np.sort(found)[min(rank, len(found)) - 1])


def scrambled(
    pixels: UInt8[np.ndarray, "height width 3"], order: Int64[np.ndarray, " tiles"]
) -> tuple[UInt8[np.ndarray, "height width 3"], ...]:
    """Destroy what a picture shows, each way of `SCRAMBLES`.

    Args:
        pixels: at least 8 on each side, else only shrunk.
        order: of the 16 tiles.
    """
    small = Image.fromarray(np.ascontiguousarray(pixels)).resize((_SHRUNK, _SHRUNK))
    height, width = (side // _TILES * _TILES for side in pixels.shape[:2])
    if min(height, width) < _TILES:
        return pixels, np.asarray(small)
    grid = pixels[:height, :width].reshape(_TILES, height // _TILES, _TILES, width // _TILES, 3)
    tiles = grid.swapaxes(1, 2).reshape(_TILES**2, height // _TILES, width // _TILES, 3)[order]
    again = tiles.reshape(_TILES, _TILES, *tiles.shape[1:]).swapaxes(1, 2)
    return np.ascontiguousarray(again.reshape(height, width, 3)), np.asarray(small)


def judged(
    detector: Detector,
    known: Vectors,
    labels: Int64[np.ndarray, " pictures"],
    broken: Mapping[str, Vectors],
) -> dict[str, dict[str, float]]:
    """Measure each distance by how well it tells stand-ins for unknown pictures apart.

    Args:
        detector: with all that the distances need; its score does not matter.
        known: pictures of the data.
        labels: their classes.
        broken: scrambled pictures, by the way it was done.

    Returns:
        For each distance that can be taken, areas under the ROC curve: `left_out`, the
        mean over the classes that have pictures, and each way of scrambling.
    """
    found = {}
    for score in SCORES:
        one = replace(detector, score=score)
        if not (one.centroids if score == "centroid" else one.weight).size:
            continue
        near = distances(one, known)
        found[score] = {"left_out": _left_out(one, known, labels)} | {
            way: area(near, distances(one, vectors)) for way, vectors in broken.items()
        }
    return found


def best(areas: Mapping[str, Mapping[str, float]]) -> str:
    """Return the distance whose worst area is the largest; `none` where there is none.

    Example:
        >>> best({"centroid": {"a": 0.9, "b": 0.8}, "energy": {"a": 0.99, "b": 0.7}})
        'centroid'
    """
    return max(areas, key=lambda score: min(areas[score].values()), default="none")


def area(near: Float64[np.ndarray, " near"], far: Float64[np.ndarray, " far"]) -> float:
    """Return the chance that a far one has the larger distance; ties count half.

    Example:
        >>> area(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
        0.875
    """
    if not len(near) or not len(far):
        return 0.5
    ranked = np.sort(near)
    below = np.searchsorted(ranked, far, "left") + np.searchsorted(ranked, far, "right")
    return float(below.mean() / 2 / len(near))


def from_card(card: Mapping[str, Any], tensors: Mapping[str, Any], classes: int) -> Detector:
    """Read the detector of a bundle; one without has the score `none`.

    Args:
        card: content of `card.json`.
        tensors: `head.weight`, `head.bias` and `centroids`, as far as there are any.
        classes: of the model.

    Raises:
        ValueError: it is damaged or of a newer version.
    """
    rows = {name: tensors.get(name, np.zeros((0, 0))) for name in ("centroids", "head.weight")}
    bias = tensors.get("head.bias", np.zeros(0))
    if any(held.size and (held.ndim != 2 or len(held) != classes) for held in rows.values()):
        raise ValueError("has rows that are not one for each class")
    if bias.shape != rows["head.weight"].shape[:1]:
        raise ValueError("has a head without its bias")
    told = card.get("unknown")
    held = Detector("none", math.inf, rows["centroids"], rows["head.weight"], bias)
    if told is None:
        return held
    if not isinstance(told, Mapping) or told.get("schema") != SCHEMA:
        raise ValueError(f"is not of the schema {SCHEMA}")
    score, limit = told.get("score"), told.get("threshold")
    needs = {"centroid": held.centroids.size, "energy": held.weight.size}
    if not needs.get(str(score)):
        raise ValueError("names a score that the bundle cannot compute")
    if not isinstance(limit, int | float) or not abs(limit) < _FARTHEST:
        raise ValueError("names a distance that is no number")
    return replace(held, score=str(score), threshold=float(limit))


def _cosines(
    vectors: Vectors, rows: Float[np.ndarray, "classes channels"]
) -> Float64[np.ndarray, "pictures classes"]:
    """Return cosines; rows of zeros are as far as can be."""
    wide, tall = np.asarray(vectors, np.float64), np.asarray(rows, np.float64)
    lengths = np.linalg.norm(tall, axis=1)
    found = wide @ tall.T / np.maximum(np.linalg.norm(wide, axis=1)[:, None] * lengths[None], _TINY)
    return np.asarray(np.where(lengths > 0, found, -1.0))


def _energy(
    vectors: Vectors,
    weight: Float[np.ndarray, "classes channels"],
    bias: Float[np.ndarray, " classes"],
) -> Distances:
    return -_log_sum(_logits(vectors, weight, bias))


def _logits(
    vectors: Vectors,
    weight: Float[np.ndarray, "classes channels"],
    bias: Float[np.ndarray, " classes"],
) -> Float64[np.ndarray, "pictures classes"]:
    return np.asarray(np.asarray(vectors, np.float64) @ np.asarray(weight, np.float64).T + bias)


def _log_sum(logits: Float64[np.ndarray, "pictures classes"]) -> Distances:
    top = logits.max(axis=1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)))


def _left_out(detector: Detector, known: Vectors, labels: Int64[np.ndarray, " pictures"]) -> float:
    """Return how well each class's pictures are told once it is no class, on average."""
    near = (
        _cosines(known, detector.centroids)
        if detector.score == "centroid"
        else _logits(known, detector.weight, detector.bias)
    )
    rows, first = np.arange(len(near)), near.argmax(axis=1)
    top = near[rows, first]
    others = near.copy()
    others[rows, first] = -np.inf  # what is left of a picture's row without its best class
    if detector.score == "centroid":
        second = others.max(axis=1)
    else:
        second = _log_sum(others)
        rest = np.exp(near - top[:, None]).sum(axis=1)
    found = []
    for label in np.unique(labels):
        if detector.score == "centroid":
            far = 1 - np.where(first == label, second, top)
        else:
            # Where the class is not the best one, at least the best one's 1 is left of the sum.
            less = np.where(first == label, 0.0, np.exp(near[:, label] - top))
            far = -np.where(first == label, second, top + np.log(rest - less))
        found.append(area(far[labels != label], far[labels == label]))
    return float(np.mean(found))
