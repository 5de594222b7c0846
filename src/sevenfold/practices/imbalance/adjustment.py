r"""Undo a class prior in logits, after training and without it.

A network that is trained on $\pi_c$ of class $c$ estimates
$p(c \mid x) \propto p(x \mid c)\,\pi_c$. Taking $\log \pi_c$ from its logits gives the
answer for classes that are equally common, the best one for balanced accuracy
(Menon et al. 2021, arXiv 2007.07314).

That holds of calibrated logits. With a label smoothing of 0.1 those of two classes are
drawn to a gap of log(0.95 / 0.05) = 2.9, and the log prior of 20:1 is 3.0: taken from
such logits as they are it hands nearly every picture to the rare class. So the logits are
first divided by their temperature (Guo et al. 2017, arXiv 1706.04599), which Menon et al.
leave at 1.
"""

from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import nn

from sevenfold.evaluate import fit_temperature
from sevenfold.practices.imbalance.choice import choose_by_loss, weights_of

STRENGTHS: Final = tuple(tenths / 10 for tenths in range(11))
"""What `choose_strength` tries."""


def log_prior(counts: Int64[np.ndarray, "classes"]) -> Float64[np.ndarray, "classes"]:
    """Return the logarithm of each class's share, but for a constant.

    A softmax does not see the constant. It is chosen so that the largest class has
    exactly 0, and so equal classes all have: balanced data is left alone to the bit.

    Args:
        counts: pictures of each class, 1 or more.

    Example:
        >>> log_prior(np.array([7, 7])).tolist()
        [0.0, 0.0]
    """
    found: Float64[np.ndarray, " classes"] = np.log(counts / counts.max())
    return found


def adjusted(
    logits: Float[np.ndarray, "pictures classes"],
    counts: Int64[np.ndarray, "classes"],
    strength: float,
) -> Float[np.ndarray, "pictures classes"]:
    r"""Return logits without the prior of training: $z_c - \tau \log \pi_c$.

    Calibrate anew afterwards: the probabilities are those of equally common classes.

    Args:
        logits: of a network trained on these counts.
        counts: training pictures of each class, 1 or more.
        strength: $\tau$, 0 (no change) to 1 (the whole prior), or beyond.
    """
    shift = (strength * log_prior(counts)).astype(logits.dtype)
    found: Float[np.ndarray, "pictures classes"] = logits - shift
    return found


def shift_head(head: nn.Linear, counts: Int64[np.ndarray, "classes"], strength: float) -> None:
    """Put `adjusted` into a linear head: the same logits, and nothing to ship beside it.

    Changes the head's bias in place, once for each call.

    Args:
        head: the last layer, with a bias.
        counts: training pictures of each class, 1 or more.
        strength: as of `adjusted`.
    """
    with torch.no_grad():
        head.bias.sub_(torch.from_numpy(strength * log_prior(counts)).to(head.bias))


def calibrated(
    logits: Float[np.ndarray, "pictures classes"],
    labels: Int64[np.ndarray, "pictures"],
    *,
    even: bool = False,
) -> tuple[Float64[np.ndarray, "pictures classes"], float]:
    """Divide logits by the temperature that makes their labels the most likely.

    Args:
        logits: of pictures that were not trained on.
        labels: their classes.
        even: as if all classes were equally common, where that is what logits speak of.

    Returns:
        The logits, and the temperature, 0.05 to 20; 1 where a training diverged.
    """
    precise = logits.astype(np.float64)
    if not np.isfinite(precise).all():
        return precise, 1.0
    weights = weights_of(labels, "balanced_accuracy") if even else None
    temperature = fit_temperature(precise, labels, weights)
    return precise / temperature, temperature


def choose_strength(
    logits: Float64[np.ndarray, "pictures classes"],
    labels: Int64[np.ndarray, "pictures"],
    counts: Int64[np.ndarray, "classes"],
    limit: float,
) -> float:
    """Choose the strength of `adjusted` on validation pictures, by the rule of `choose_by_loss`.

    Args:
        logits: `calibrated`, of validation pictures.
        labels: their classes.
        counts: training pictures of each class, 1 or more.
        limit: recall that the commoner half of the classes may lose on average, 0 to 1.

    Returns:
        One of `STRENGTHS`.
    """
    ways = {str(strength): adjusted(logits, counts, strength) for strength in STRENGTHS}
    return float(choose_by_loss(ways, labels, counts, limit))
