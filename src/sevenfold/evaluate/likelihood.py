"""Measure what each picture's probabilities are worth against its true class."""

import numpy as np
from jaxtyping import Float64, Int64

_TINY = np.finfo(np.float64).eps


def confusion(
    answers: Int64[np.ndarray, " pictures"], targets: Int64[np.ndarray, " pictures"], classes: int
) -> Int64[np.ndarray, "classes classes"]:
    """Count pictures by true class (rows) and answer (columns)."""
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (targets, answers), 1)
    return table


def nll(
    probabilities: Float64[np.ndarray, "pictures classes"],
    targets: Int64[np.ndarray, " pictures"],
) -> float:
    """Average the negative log-likelihood in nats; a probability of 0 counts as 2.2e-16."""
    return float(losses(probabilities, targets).mean())


def losses(
    probabilities: Float64[np.ndarray, "pictures classes"],
    targets: Int64[np.ndarray, " pictures"],
) -> Float64[np.ndarray, " pictures"]:
    """Return each picture's negative log-likelihood in nats, see `nll`."""
    true = probabilities[np.arange(len(probabilities)), targets]
    return np.asarray(-np.log(np.clip(true, _TINY, 1.0)))


def worst_mistakes(
    probabilities: Float64[np.ndarray, "pictures classes"],
    targets: Int64[np.ndarray, " pictures"],
    limit: int,
) -> Int64[np.ndarray, " mistakes"]:
    """Find the wrong answers, the most confident first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != targets)
    confidence = probabilities[wrong].max(axis=1)
    return wrong[np.argsort(-confidence, kind="stable")][:limit]
