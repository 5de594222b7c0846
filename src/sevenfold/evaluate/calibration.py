"""Measure how far confidence is from accuracy, beyond what chance explains."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from sevenfold.evaluate.estimate import Array, Estimate

BINS = 15
CALIBRATED = 0.05
"""Calibration error up to which probabilities may be read as chances."""
_DRAWS = 1000  # of the right answers, for the calibration error expected by chance
_CHUNK = 200_000  # draws held at a time: they stay in a core's cache, 3 times faster than 2 million


def calibration_error(
    probabilities: Float64[np.ndarray, "pictures classes"],
    targets: Int64[np.ndarray, " pictures"],
    *,
    seed: int = 0,
) -> float:
    """Measure how far confidence is from accuracy, beyond what chance explains.

    ECE = Σ over bins |Σ in the bin (confidence - right)| / pictures, over 15 bins of
    equal mass on the confidence in the answer (Naeini et al., 2015). From it we take
    its mean when the right answers are drawn from the probabilities themselves, with
    0 as the floor: on a few hundred pictures the plain ECE is mostly noise. Equal
    confidences share a bin, so the order of the pictures has no effect.

    Args:
        probabilities: rows sum to 1.
        targets: true classes.
        seed: of the draws.
    """
    return max(0.0, Calibration.of(probabilities, targets, seed).excess)


def as_chances(card: Mapping[str, Any]) -> bool:
    """Tell whether the scores in a bundle's card show that probabilities are chances.

    Example:
        >>> as_chances({"scores": {"calibration_error": {"value": 0.01, "high": 0.04}}})
        True
        >>> as_chances({})
        False
    """
    scores = card.get("scores")
    error = scores.get("calibration_error") if isinstance(scores, Mapping) else None
    high = error.get("high") if isinstance(error, Mapping) else None
    return isinstance(high, int | float) and high <= CALIBRATED


@dataclass(frozen=True, eq=False)
class Calibration:
    """Hold the calibration error of one set of pictures, and what it is made of."""

    bins: Int64[np.ndarray, " pictures"]
    gaps: Float64[np.ndarray, " pictures"]  # confidence minus right
    ece: float
    excess: float  # over its mean under perfect calibration

    @staticmethod
    def of(p: Array, targets: Int64[np.ndarray, " pictures"], seed: int) -> "Calibration":
        """Measure it, and draw what chance alone would show."""
        confidence = p.max(axis=1)
        ranked = np.sort(confidence)
        ranks = np.searchsorted(ranked, confidence) + np.searchsorted(ranked, confidence, "right")
        bins = np.minimum(ranks * BINS // (2 * len(p)), BINS - 1)
        gaps = confidence - (p.argmax(axis=1) == targets)
        ece = np.abs(np.bincount(bins, gaps)).sum() / len(p)
        by_bin = np.argsort(bins, kind="stable")
        starts = np.unique(bins[by_bin], return_index=True)[1]
        sorted_confidence = confidence[by_bin]
        rng = np.random.default_rng(seed)
        total = 0.0
        for rows in chunks(_DRAWS, len(p)):
            right = rng.random((rows, len(p)), dtype=np.float32) < sorted_confidence
            sums = np.add.reduceat(sorted_confidence - right, starts, axis=1)
            total += np.abs(sums).sum() / len(p)
        return Calibration(bins, gaps, float(ece), float(ece - total / _DRAWS))


def chunks(total: int, width: int) -> Iterator[int]:
    """Part so many rows of a width into as many at a time as a core's cache holds."""
    rows = max(1, _CHUNK // width)
    for start in range(0, total, rows):
        yield min(rows, total - start)


def calibration_interval(calibration: "Calibration", resampled: Array) -> Estimate:
    """Return the error with its interval, of the errors of resamples."""
    # A resample adds its own noise to what noise has raised already, so resamples are
    # centred anew. What chance adds is most under perfect calibration and fades with
    # the true error; the resamples' own rise is a low guess of it. One gives the lower
    # limit, the other the upper one.
    value, rise = max(0.0, calibration.excess), resampled.mean() - calibration.ece
    low, high = np.quantile(resampled - resampled.mean(), [0.025, 0.975])
    upper = max(calibration.excess, calibration.ece - max(0.0, rise)) + high
    lower = min(value, max(0.0, calibration.excess + low))
    return Estimate(value, float(lower), float(max(value, upper)))


def as_unsure(error: Estimate, confidence: float, accuracy: Estimate) -> Estimate:
    """Raise the upper end to what the accuracy leaves open.

    The mean confidence is off by no more than the error is, and the accuracy may be at
    either end of its interval.
    """
    apart = max(confidence - accuracy.low, accuracy.high - confidence)
    return Estimate(error.value, error.low, max(error.high, apart))
