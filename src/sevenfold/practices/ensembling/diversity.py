"""Measure how members differ, and what their vote gains by it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Real

from sevenfold.practices.ensembling.votes import log_softmax, pool

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Diversity:
    """Say how members differ on some pictures, and what their vote gains.

    Means over members weigh each by its weight w, means over pairs each pair by w_i w_j:
    as if a member were there as often as it was selected.

    Args:
        members: that have a say.
        disagreement: share of pictures to which two members give different answers,
            mean over pairs (Skalak 1996).
        error_correlation: Pearson's correlation of two members' errors (1 wrong, 0
            right), mean over pairs; 1 means that a vote cannot help. Pairs with a member
            that is always right, or never, have none; 0 if no pair has one (rho in
            Kuncheva & Whitaker 2003, "Measures of diversity in classifier ensembles").
        ambiguity_gap: `mean_nll - pooled_nll`: what voting gains. At least 0 for soft and
            logit votes, by Jensen's inequality (for squares Krogh & Vedelsby 1995; for the
            logit vote Wood et al. 2023, arXiv 2301.03962).
        oracle_accuracy: share of pictures that at least one member gets right: the most
            that choosing among their answers could reach (Kuncheva & Whitaker 2003).
        mean_accuracy: mean of the members' accuracies.
        pooled_accuracy: of the vote.
        mean_nll: mean of the members' negative log-likelihoods, in nats.
        pooled_nll: of the vote, in nats.
    """

    members: int
    disagreement: float
    error_correlation: float
    ambiguity_gap: float
    oracle_accuracy: float
    mean_accuracy: float
    pooled_accuracy: float
    mean_nll: float
    pooled_nll: float


def diversity(
    logits: Float[np.ndarray, "members pictures classes"],
    labels: Int64[np.ndarray, "pictures"],
    weights: Real[np.ndarray, " members"],
    vote: str = "soft",
) -> Diversity:
    """Measure members and their vote on labelled pictures.

    Args:
        logits: of each member, at whatever temperature they are to be compared.
        labels: true classes.
        weights: at least 0, not all 0; members of weight 0 are left out.
        vote: one of `VOTES`.

    Example:
        >>> import numpy as np
        >>> members = np.log([[[0.9, 0.1], [0.9, 0.1]], [[0.3, 0.7], [0.2, 0.8]]])
        >>> found = diversity(members, np.array([0, 1]), np.ones(2))
        >>> found.disagreement, found.oracle_accuracy, found.mean_accuracy
        (1.0, 1.0, 0.5)
    """
    has_say = np.asarray(weights) > 0
    kept = np.asarray(logits, np.float64)[has_say]
    share = np.asarray(weights, np.float64)[has_say]
    share = share / share.sum()
    rows = np.arange(len(labels))
    answers = kept.argmax(axis=2)
    wrong = answers != labels
    pooled = pool(kept, share, vote)
    losses = -log_softmax(kept)[:, rows, labels].mean(axis=1)
    mean_nll = float(share @ losses)
    pooled_nll = float(-pooled[rows, labels].mean())
    apart = (answers[:, None] != answers[None]).mean(axis=2)
    return Diversity(
        members=len(kept),
        disagreement=_over_pairs(apart, share),
        error_correlation=_over_pairs(_correlations(wrong), share),
        ambiguity_gap=mean_nll - pooled_nll,
        oracle_accuracy=float((~wrong).any(axis=0).mean()),
        mean_accuracy=float(share @ (~wrong).mean(axis=1)),
        pooled_accuracy=float((pooled.argmax(axis=1) == labels).mean()),
        mean_nll=mean_nll,
        pooled_nll=pooled_nll,
    )


def _correlations(
    wrong: Bool[np.ndarray, "members pictures"],
) -> Float64[np.ndarray, "members members"]:
    """Correlate the errors of each pair; NaN where a member's errors do not vary."""
    centred = wrong - wrong.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1))
    scale = np.outer(spread, spread)
    found: Array = np.full(scale.shape, np.nan)
    np.divide(centred @ centred.T / wrong.shape[1], scale, out=found, where=scale > 0)
    return found


def _over_pairs(
    table: Float64[np.ndarray, "members members"], share: Float64[np.ndarray, "members"]
) -> float:
    """Average the known values of all pairs; 0 if there is none."""
    upper = np.triu(np.ones(table.shape, bool), 1) & np.isfinite(table)
    pairs = np.outer(share, share)[upper]
    return float(pairs @ table[upper] / pairs.sum()) if len(pairs) else 0.0
