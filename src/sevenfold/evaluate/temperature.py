"""Find the temperature that calibrates logits, and what they lose at it."""

import numpy as np
from jaxtyping import Float, Float64, Int64

from sevenfold.errors import DataError


def fit_temperature(
    logits: Float64[np.ndarray, "pictures classes"],
    targets: Int64[np.ndarray, " pictures"],
    weights: Float64[np.ndarray, " pictures"] | None = None,
) -> float:
    """Find the temperature T that makes softmax(logits / T) the most likely.

    The negative log-likelihood is convex in 1/T, so its slope has one change of
    sign, found by bisection on a log scale (Guo et al., 2017, arXiv 1706.04599).
    Where all answers are right it has none, and all would seem certain: there they are
    made no surer than (n + 1) / (n + 2) on average, by the rule of succession.

    Args:
        logits: finite.
        targets: true classes.
        weights: of the pictures, at least 0; equal where not given.

    Returns:
        A temperature from 0.05 to 20; 1 where every temperature is as good.

    Raises:
        DataError: no pictures, or logits that are not finite.
    """
    if len(logits) == 0 or not np.isfinite(logits).all():
        raise DataError(
            f"cannot fit a temperature to {len(logits)} pictures with these logits",
            "give at least one picture and finite logits",
        )
    z = np.asarray(logits, dtype=np.float64)
    z = z - z.max(axis=1, keepdims=True)
    true = z[np.arange(len(z)), targets]
    share = np.full(len(z), 1.0) if weights is None else weights

    def slope(sharpness: float) -> float:
        e = np.exp(z * sharpness)
        return float(share @ ((e * z).sum(axis=1) / e.sum(axis=1) - true))

    def sureness(sharpness: float) -> float:
        return float(share @ (1 / np.exp(z * sharpness).sum(axis=1))) / float(share.sum())

    if slope(1.0) == 0:
        return 1.0
    # Only without a tie for the first place: a tie is no right answer, however sharp.
    rivals = np.where(np.arange(z.shape[1]) == targets[:, None], -np.inf, z).max(axis=1)
    separable = bool((true > rivals).all())
    limit = (len(z) + 1) / (len(z) + 2)
    if separable and sureness(1.0) >= limit:
        return 1.0
    low, high = np.log(1 / 20), np.log(20)
    for _ in range(50):
        middle = (low + high) / 2
        sharp = np.exp(middle)
        beyond = sureness(sharp) > limit if separable else slope(sharp) > 0
        low, high = (low, middle) if beyond else (middle, high)
    return float(np.clip(np.exp(-(low + high) / 2), 0.05, 20))


def log_loss(
    logits: Float[np.ndarray, "pictures classes"], targets: Int64[np.ndarray, " pictures"]
) -> Float64[np.ndarray, " pictures"]:
    """Return each picture's negative log-likelihood in nats, of its logits."""
    precise = np.asarray(logits, dtype=np.float64)
    precise = precise - precise.max(axis=1, keepdims=True)
    true = precise[np.arange(len(targets)), targets]
    return np.asarray(np.log(np.exp(precise).sum(axis=1)) - true)


def calibrated_losses(
    logits: Float[np.ndarray, "pictures classes"], targets: Int64[np.ndarray, " pictures"]
) -> Float64[np.ndarray, " pictures"]:
    """Return each picture's negative log-likelihood at the temperature that fits them best.

    Args:
        logits: finite.
        targets: true classes.

    Raises:
        DataError: no pictures, or logits that are not finite.

    Example:
        >>> logits = np.array([[0.0, 9.0], [9.0, 0.0], [0.0, 9.0]])
        >>> calibrated_losses(logits, np.array([1, 1, 1])).round(2).tolist()
        [0.41, 1.1, 0.41]
    """
    precise = np.asarray(logits, dtype=np.float64)
    return log_loss(precise / fit_temperature(precise, targets), targets)


def calibrated_nll(
    logits: Float[np.ndarray, "pictures classes"], targets: Int64[np.ndarray, " pictures"]
) -> float:
    """Return the mean of `calibrated_losses`."""
    return float(calibrated_losses(logits, targets).mean())
