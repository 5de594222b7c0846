"""Resample groups of pictures, and give every score of each resample."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64, Int64

from sevenfold.evaluate.calibration import BINS, Calibration, chunks
from sevenfold.evaluate.estimate import Array, Estimate, hull
from sevenfold.evaluate.likelihood import losses

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "calibration_error")


class Sample:
    """Hold the sums of each group that every score is made of.

    A resample of groups then costs one weighted sum and never touches a picture's
    probabilities.
    """

    def __init__(
        self,
        p: Array,
        targets: Int64[np.ndarray, " pictures"],
        member: Int64[np.ndarray, " pictures"],
        count: int,
        calibration: Calibration,
    ) -> None:
        answers, self.classes, self.count = p.argmax(axis=1), p.shape[1], count
        self.calibration = calibration
        self.outcomes = counter(targets * 2 + (answers == targets), member, 2 * self.classes)
        self.answered = counter(answers, member, self.classes)
        cells = np.bincount(
            member * BINS + calibration.bins, calibration.gaps, minlength=count * BINS
        )
        lost = np.bincount(member, losses(p, targets), minlength=count)
        self.sums = np.column_stack([lost, cells.reshape(count, BINS)])

    def metrics(
        self, weights: Int64[np.ndarray, "resamples groups"]
    ) -> tuple[dict[str, Array], Float64[np.ndarray, "resamples classes"]]:
        """Return every score of each resample, and each class's recall."""
        outcomes = self.outcomes(weights).reshape(-1, self.classes, 2)
        right, true = outcomes[:, :, 1], outcomes.sum(axis=2)
        pictures = true.sum(axis=1)
        with np.errstate(invalid="ignore"):  # a class that a resample lacks has no score
            recall = right / true
            f1 = 2 * right / (true + self.answered(weights))
        sums = weights.astype(np.float64) @ self.sums
        return {
            "accuracy": right.sum(axis=1) / pictures,
            "balanced_accuracy": np.nanmean(recall, axis=1),
            "macro_f1": np.nanmean(f1, axis=1),
            "nll": sums[:, 0] / pictures,
            "calibration_error": np.abs(sums[:, 1:]).sum(axis=1) / pictures,
        }, recall


def counter(
    keys: Int64[np.ndarray, " pictures"], member: Int64[np.ndarray, " pictures"], size: int
) -> Callable[[Int64[np.ndarray, "resamples groups"]], Int64[np.ndarray, "resamples keys"]]:
    """Make the function that counts each key in resamples of groups, without a full table."""
    order = np.argsort(keys, kind="stable")
    present, starts = np.unique(keys[order], return_index=True)
    columns = member[order]

    def count(
        weights: Int64[np.ndarray, "resamples groups"],
    ) -> Int64[np.ndarray, "resamples keys"]:
        counts = np.zeros((len(weights), size), dtype=np.int64)
        counts[:, present] = np.add.reduceat(weights[:, columns], starts, axis=1)
        return counts

    return count


def bootstrap(
    sample: Sample, rng: np.random.Generator, resamples: int
) -> tuple[dict[str, Array], Float64[np.ndarray, "resamples classes"]]:
    """Draw groups with replacement; return every score of each draw, and the recalls."""
    parts = []
    for rows in chunks(resamples, max(sample.count, len(sample.calibration.bins))):
        drawn = rng.integers(0, sample.count, (rows, sample.count))
        drawn += np.arange(rows)[:, None] * sample.count
        weights = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        parts.append(sample.metrics(weights))
    spread = {name: np.concatenate([metrics[name] for metrics, _ in parts]) for name in METRICS}
    return spread, np.concatenate([recalls for _, recalls in parts])


def percentiles(value: float, resampled: Array) -> Estimate:
    """Return a value with the interval that its resamples give; 0 to 1 where there is none."""
    known = resampled[np.isfinite(resampled)]
    if len(known) == 0:
        return Estimate(value, 0.0, 1.0)
    low, high = np.quantile(known, [0.025, 0.975])
    return hull(Estimate(value, value, value), Estimate(value, float(low), float(high)))
