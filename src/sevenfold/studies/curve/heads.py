"""Train linear heads on stored activations: a training in a second, and always the best one."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, Int64
from scipy import linalg
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from sevenfold.data import Dataset
from sevenfold.errors import UsageError
from sevenfold.features.pixels import Pixels
from sevenfold.place import Place
from sevenfold.practices import augmentation
from sevenfold.progress import Progress
from sevenfold.recipe import Recipe
from sevenfold.studies import pooled

COMPONENTS: Final = 256
_REGULARITIES: Final = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
MIDDLE: Final = 3e-2
"""Strength of the prior where too few groups choose none."""
_STEPS: Final = 200
FOLDS: Final = 3

Rows = Float32[np.ndarray, "pictures channels"]
Labels = Int64[np.ndarray, "pictures"]


def check(recipe: Recipe) -> None:
    """Refuse a backbone over which no linear head can say anything.

    Raises:
        UsageError: the recipe starts from random weights.
    """
    if recipe.transfer.weights == "random":
        raise UsageError(
            "transfer.weights=random: the curve is measured over a backbone that has learnt",
            "leave transfer.weights as it is, or name a backbone with weights",
        )


def described(
    dataset: Dataset,
    pictures: Int64[np.ndarray, "pictures"],
    recipe: Recipe,
    pixels: Pixels,
    place: Place,
    progress: Progress,
) -> Rows:
    """Describe pictures by the pooled features of the recipe's backbone, of length 1.

    Writes to the stores: each picture is looked at once, as it is.
    """
    viewer = augmentation.viewer(augmentation.Augmentation.off, recipe.side, "")
    return pooled.features(
        recipe.transfer,
        recipe.side,
        dataset,
        pictures,
        pixels,
        viewer,
        place=place,
        progress=progress,
    )


@dataclass(frozen=True, eq=False, slots=True)
class Axes:
    """Hold the directions in which pictures differ most, and how far they do.

    Args:
        centre: mean of the pictures.
        directions: orthonormal.
        scale: root mean square along all directions together.
    """

    centre: Float32[np.ndarray, "channels"]
    directions: Float32[np.ndarray, "channels components"]
    scale: float

    def of(
        self, rows: Float32[np.ndarray, "pictures channels"]
    ) -> Float32[np.ndarray, "pictures components"]:
        """Return rows along the directions, of unit scale."""
        return np.asarray((rows - self.centre) @ self.directions / np.float32(self.scale))


def axes(rows: Rows) -> Axes:
    """Find the principal axes of pictures, without their labels."""
    centre = rows.mean(axis=0)
    moved = rows - centre
    last = moved.shape[1] - 1
    first = max(0, last + 1 - min(COMPONENTS, len(rows) - 1))
    # Only the largest: three times as fast as all of them.
    _, directions = linalg.eigh(moved.T @ moved, subset_by_index=(first, last))
    return Axes(centre, directions, float((moved @ directions).std()) or 1.0)


def regularity(rows: Rows, labels: Labels, groups: Sequence[str]) -> float:
    """Choose the strength of the prior on a head's weights by cross-validated likelihood.

    A prior belongs to the problem, not to the number of pictures: one is chosen for all sizes.

    Args:
        rows: of the pictures that choose, of unit scale.
        labels: of two classes or more with at least three groups each.
        groups: of pictures that no two folds share.
    """
    losses = []
    parts: Any = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    folds = [
        (others, these)
        for others, these in parts.split(rows, labels, groups)
        if len(np.unique(labels[others])) > 1
    ]
    for strength in _REGULARITIES:
        loss = 0.0
        for others, these in folds:
            head = trained(rows[others], labels[others], strength)
            # Groups of several classes can leave a fold's others without one of them.
            these = these[np.isin(labels[these], head.classes_)]
            if not len(these):
                continue
            p = head.predict_proba(rows[these])[
                np.arange(len(these)), np.searchsorted(head.classes_, labels[these])
            ]
            loss -= float(np.log(np.maximum(p, 1e-12)).sum())
        losses.append(loss)
    return _REGULARITIES[int(np.argmin(losses))]


def trained(rows: Rows, labels: Labels, strength: float) -> Any:
    """Fit a head by logistic regression; the loss is convex, so that there is one result."""
    head: Any = LogisticRegression(C=strength, max_iter=_STEPS, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a few more steps would not change an answer
        return head.fit(rows, labels)


def right(head: Any, rows: Rows, labels: Labels) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Tell which pictures a head answers rightly."""
    return np.asarray(head.predict(rows) == labels)
