"""Suspect labels that pictures like them contradict: how probable is it that each is wrong?"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, Float64, Int64
from scipy.special import softmax
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

FOLDS: Final = 5
DOUBT: Final = 0.2
"""Probability of being wrong from which a label is shown: a look costs a quarter of a miss."""
_COMPONENTS: Final = 256
# A strong prior: a probe that could follow single pictures would believe their wrong labels.
_REGULARITY: Final = 0.005
_STEPS: Final = 200
_TOLERANCE: Final = 1e-3
_TEMPERATURES: Final = np.geomspace(0.2, 3, 25)
_SHARES: Final = np.concatenate([[1e-4], np.geomspace(1e-3, 0.4, 40)])  # of wrong labels


@dataclass(frozen=True, slots=True)
class Suspect:
    """Name a picture whose label seems wrong.

    Args:
        picture: its index.
        likely: the class that it looks like.
        given: the probability of its label by the looks of the picture, 0 to 1.
        probability: of the likely class.
        wrong: probability that its label is wrong, 0 to 1.
    """

    picture: int
    likely: int
    given: float
    probability: float
    wrong: float


def can_judge(
    labels: Int64[np.ndarray, "pictures"], groups: Int64[np.ndarray, "pictures"], classes: int
) -> bool:
    """Tell whether there are classes to confuse, each with a group for every fold."""
    separate = [len(np.unique(groups[labels == k])) for k in range(classes)]
    return classes > 1 and min(separate) >= FOLDS


def out_of_fold(
    embeddings: Float32[np.ndarray, "pictures channels"],
    labels: Int64[np.ndarray, "pictures"],
    groups: Int64[np.ndarray, "pictures"],
    classes: int,
    *,
    seed: int = 0,
) -> Float64[np.ndarray, "pictures classes"]:
    """Return logits of each picture by a logistic regression over the others' groups.

    Args:
        embeddings: of length 1.
        labels: which `can_judge` allows.
        groups: numbers of what must share a fold.
        classes: how many there are.
        seed: of the folds.
    """
    answers = np.full((len(labels), classes), -np.inf)
    parts: Any = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for others, these in parts.split(embeddings, labels, groups):
        width = min(_COMPONENTS, embeddings.shape[1], len(others) - 1)
        reduced: Any = PCA(width, random_state=seed, svd_solver="randomized").fit(
            embeddings[others]
        )
        rows = reduced.transform(embeddings[others])
        scale = rows.std() or 1.0
        model: Any = LogisticRegression(C=_REGULARITY, max_iter=_STEPS, tol=_TOLERANCE)
        model.fit(rows / scale, labels[others])
        answers[these[:, None], model.classes_] = model.predict_log_proba(
            reduced.transform(embeddings[these]) / scale
        )
    return answers


def suspected(
    logits: Float64[np.ndarray, "pictures classes"], labels: Int64[np.ndarray, "pictures"]
) -> tuple[Suspect, ...]:
    """Find labels that are wrong with a probability of `DOUBT` or more, the surest first.

    A share e of the labels is taken to be wrong, each for any other of the K classes alike,
    and the picture's looks to say p = softmax(logits / T) of its true class y, so that

        P(label) = (1 - e)·p(label) + e/(K - 1)·(1 - p(label)),
        P(wrong | label) = e/(K - 1)·(1 - p(label)) / P(label).

    e and T are those under which the labels are most likely. Unlike a count of confident
    contradictions this does not suspect what is merely hard: where classes look alike p is
    spread, and a label that is one of them is no surprise. The mixture is that of Lawrence &
    Schölkopf (2001, ICML); predictions out of fold as in Northcutt, Jiang & Chuang (2021,
    arXiv 1911.00068).
    """
    rows, others = np.arange(len(labels)), logits.shape[1] - 1
    fits = []
    for temperature in _TEMPERATURES:
        given = softmax(logits / temperature, axis=1)[rows, labels][:, None]
        told = (1 - _SHARES) * given + _SHARES / others * (1 - given)
        fits.append(np.log(np.maximum(told, 1e-300)).sum(axis=0))
    at, where = np.unravel_index(np.argmax(fits), (len(_TEMPERATURES), len(_SHARES)))
    temperature, share = _TEMPERATURES[at], _SHARES[where]
    p = softmax(logits / temperature, axis=1)
    given = p[rows, labels]
    by_chance = share / others * (1 - given)
    wrong = by_chance / (by_chance + (1 - share) * given)
    likely = p.argmax(axis=1)
    found = [
        Suspect(int(i), int(likely[i]), float(given[i]), float(p[i, likely[i]]), float(wrong[i]))
        for i in np.flatnonzero((wrong >= DOUBT) & (likely != labels))
    ]
    return tuple(sorted(found, key=lambda one: (-one.wrong, one.picture)))
