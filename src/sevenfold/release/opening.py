"""Open test once, by the graph that ships."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sevenfold import data as datasets
from sevenfold import export
from sevenfold.features.trunk import session
from sevenfold.place import Place
from sevenfold.predictions import Predictions
from sevenfold.release.graph import Exported


@dataclass(frozen=True, eq=False)
class Judged:
    """Hold what the graph that ships says of the pictures, from the one opening of test.

    Args:
        predictions: of the pictures that choices were made by, and of test.
        vectors: the mean of the graph's last features for each test picture.
    """

    predictions: Predictions
    vectors: Float[np.ndarray, "tested channels"]


def judged(model: Exported, split: datasets.Split, place: Place) -> Judged:
    """Open test once and join its answers to those that choices were made by."""
    dataset, small = split.dataset, len(split.val) == 0
    opened = session(model.model, 1)
    answers, vectors = export.seen(opened, dataset, split.test.tolist(), place.threads)
    first = split.judged
    rows = np.concatenate([first, split.test])
    folds = split.folds() if small else np.full(len(first), -1)
    probabilities = np.concatenate([model.chosen, answers]).astype(np.float64)
    predictions = Predictions(
        dataset.classes,
        tuple(datasets.shown(dataset.photos[row].path) for row in rows),
        tuple(dataset.hashes[row] for row in rows),
        ("train" if small else "val",) * len(first) + ("test",) * len(split.test),
        tuple(dataset.groups[row] for row in rows),
        np.concatenate([folds, np.full(len(split.test), -1)]),
        dataset.labels[rows],
        probabilities / probabilities.sum(axis=1, keepdims=True),
    )
    return Judged(predictions, vectors)
