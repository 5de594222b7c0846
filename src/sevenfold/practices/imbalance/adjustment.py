r"""Undo a class prior in logits, after training and without it.

A network that is trained on $\pi_c$ of class $c$ estimates
$p(c \mid x) \propto p(x \mid c)\,\pi_c$. Taking $\log \pi_c$ from its logits gives the
answer for classes that are equally common, the best one for balanced accuracy
(Menon et al. 2021, arXiv 2007.07314).
"""

from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import nn

from sevenfold.practices.imbalance.choice import preferred

STRENGTHS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
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


def choose_strength(
    logits: Float[np.ndarray, "pictures classes"],
    labels: Int64[np.ndarray, "pictures"],
    counts: Int64[np.ndarray, "classes"],
    objective: str,
) -> tuple[float, float]:
    """Choose the strength of `adjusted` on validation pictures.

    The rule is that of `choose`: 0 stays unless another one's gain on the same
    pictures exceeds one standard error; then the best, of equals the smallest.

    Args:
        logits: of validation pictures.
        labels: their classes.
        counts: training pictures of each class, 1 or more.
        objective: `accuracy` or `balanced_accuracy`.

    Returns:
        One of `STRENGTHS`, and its score on these pictures.
    """
    answers = [adjusted(logits, counts, strength).argmax(axis=1) for strength in STRENGTHS]
    at, score = preferred(answers, labels, objective)
    return STRENGTHS[at], score
