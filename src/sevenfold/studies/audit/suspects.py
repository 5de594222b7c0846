"""Suspect labels that pictures like them contradict: confident learning."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, Float64, Int64
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

FOLDS: Final = 5
_COMPONENTS: Final = 128
_REGULARITY: Final = 1.0
_STEPS: Final = 300


@dataclass(frozen=True, slots=True)
class Suspect:
    """Name a picture whose label seems wrong.

    Args:
        picture: its index.
        likely: the class that it looks like.
        given: the probability of its label, 0 to 1.
        probability: of the likely class.
    """

    picture: int
    likely: int
    given: float
    probability: float


def out_of_fold(
    embeddings: Float32[np.ndarray, "pictures channels"],
    labels: Int64[np.ndarray, "pictures"],
    groups: Int64[np.ndarray, "pictures"],
    classes: int,
    *,
    seed: int = 0,
) -> Float64[np.ndarray, "pictures classes"] | None:
    """Predict each picture by a logistic regression over the others' groups.

    Returns:
        Probabilities, or None where a class has fewer groups than there are folds.
    """
    separate = [len(np.unique(groups[labels == k])) for k in range(classes)]
    if classes < 2 or min(separate) < FOLDS:
        return None
    answers = np.zeros((len(labels), classes))
    parts: Any = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for others, these in parts.split(embeddings, labels, groups):
        width = min(_COMPONENTS, embeddings.shape[1], len(others) - 1)
        reduced: Any = PCA(width, random_state=seed, svd_solver="randomized").fit(
            embeddings[others]
        )
        rows = reduced.transform(embeddings[others])
        scale = rows.std() or 1.0
        model: Any = LogisticRegression(C=_REGULARITY, max_iter=_STEPS)
        model.fit(rows / scale, labels[others])
        answers[these[:, None], model.classes_] = model.predict_proba(
            reduced.transform(embeddings[these]) / scale
        )
    return answers


def suspected(
    probabilities: Float64[np.ndarray, "pictures classes"], labels: Int64[np.ndarray, "pictures"]
) -> tuple[Suspect, ...]:
    """Find the off-diagonal of the confident joint, the clearest first.

    A picture counts for the most probable class j of those with p_j ≥ t_j, where t_j is the
    mean of p_j over the pictures labelled j (Northcutt, Jiang & Chuang, 2021,
    arXiv 1911.00068, equation 1). It is suspected where that is not its label and the
    label is not the most probable class either.
    """
    p = probabilities
    counts = np.bincount(labels, minlength=p.shape[1])
    sums = np.bincount(labels, p[np.arange(len(p)), labels], minlength=p.shape[1])
    thresholds = np.where(counts, sums / np.maximum(counts, 1), np.inf)
    confident = np.where(p >= thresholds - 1e-6, p, -1.0)
    likely = confident.argmax(axis=1)
    wrong = (confident.max(axis=1) >= 0) & (likely != labels) & (p.argmax(axis=1) != labels)
    found = [
        Suspect(int(i), int(likely[i]), float(p[i, labels[i]]), float(p[i, likely[i]]))
        for i in np.flatnonzero(wrong)
    ]
    return tuple(sorted(found, key=lambda one: (one.given - one.probability, one.picture)))
