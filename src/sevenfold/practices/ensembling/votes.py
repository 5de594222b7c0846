"""Pool the logits of several members into one answer."""

from typing import Any, Final

import numpy as np
from jaxtyping import Float, Float64, Real

Array = np.ndarray[Any, np.dtype[np.float64]]

VOTES: Final = ("soft", "hard", "logit", "weighted")
TIE: Final = 1e-3
"""Share of a hard vote that the mean probability has: it breaks ties and keeps every
probability above 0, so that the vote has logits and a temperature can be fitted."""
LEAST: Final = 1e-37
"""The smallest probability of a hard vote: the exported graph computes in single precision."""


def log_softmax(
    logits: Float[np.ndarray, "*rows classes"],
) -> Float64[np.ndarray, "*rows classes"]:
    """Turn logits into log-probabilities; those that are log-probabilities stay as they are."""
    shifted = np.asarray(logits, np.float64)
    shifted = shifted - shifted.max(axis=-1, keepdims=True)
    found: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def pool(
    logits: Float[np.ndarray, "members pictures classes"],
    weights: Real[np.ndarray, " members"],
    vote: str,
) -> Float64[np.ndarray, "pictures classes"]:
    """Pool members' logits into log-probabilities, on which a temperature can be fitted.

    With weights w of the sum 1 and p_m the softmax of member m:

    * `soft`, `weighted`: log sum_m w_m p_m. They differ in how the weights are found.
    * `hard`: log((1 - e) v + e sum_m w_m p_m), where v is a class's share of the members'
      answers, a member's answer being the first of its highest logits, and e = `TIE`.
      Probabilities are vote shares to 0.1 %; equal shares are told apart by the mean
      probability, which never overrules a difference of votes above 0.1 %.
    * `logit`: log softmax(sum_m w_m log p_m), the geometric mean (Hinton 2002,
      "product of experts").

    Calibrate after pooling: a pool of calibrated members is underconfident
    (Rahaman & Thiery 2020, arXiv 2007.08792).

    Args:
        logits: finite.
        weights: at least 0, not all 0; a member of weight 0 has no say.
        vote: one of `VOTES`.

    Example:
        >>> import numpy as np
        >>> members = np.log([[[0.9, 0.1]], [[0.4, 0.6]], [[0.4, 0.6]]])
        >>> np.exp(pool(members, np.ones(3), "soft")).round(3).tolist()
        [[0.567, 0.433]]
        >>> np.exp(pool(members, np.ones(3), "hard")).round(3).tolist()
        [[0.334, 0.666]]
    """
    has_say = np.asarray(weights) > 0
    share = np.asarray(weights, np.float64)[has_say]
    share = (share / share.sum())[:, None, None]
    log_p = log_softmax(logits)[has_say]
    if vote == "logit":
        return log_softmax((share * log_p).sum(axis=0))
    mean: Array = np.logaddexp.reduce(np.log(share) + log_p, axis=0)
    if vote != "hard":
        return mean
    answers = np.asarray(logits)[has_say].argmax(axis=2)
    votes = (share * (answers[..., None] == np.arange(log_p.shape[2]))).sum(axis=0)
    found: Array = np.log(np.maximum((1 - TIE) * votes + TIE * np.exp(mean), LEAST))
    return found
