"""Measure outcomes: the scores of an arm's fold, and how much pictures make them vary."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float64, Int64

from sevenfold import evaluate
from sevenfold.paired import Expected
from sevenfold.studies.evidence.outcomes import Outcome, Study

SCORES: Final = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "calibration_error")
COSTS: Final = ("seconds", "megabytes", "latency_ms")
METRICS: Final = (*SCORES, *COSTS)
MEANS: Final = ("accuracy", "balanced_accuracy", "nll")
"""The scores that are means over pictures, so that pictures tell how much they vary."""

MOST_LENT: Final = 10
"""Degrees of freedom that pictures lend at most, see `paired.corrected_t`."""


@functools.lru_cache(maxsize=1024)
def measured(outcome: Outcome, study: Study) -> dict[str, float]:
    """Return every metric of one outcome; the same values are computed once.

    Args:
        outcome: of an arm in one repetition.
        study: whose labels its pictures have.
    """
    truth = study.labels[outcome.pictures]
    table = evaluate.confusion(
        outcome.probabilities.argmax(axis=1), truth, len(study.classes)
    ).astype(np.float64)
    right, true, answered = table.diagonal(), table.sum(axis=1), table.sum(axis=0)
    there, judged = true > 0, true + answered > 0
    return {
        "accuracy": float(right.sum() / true.sum()),
        "balanced_accuracy": float((right[there] / true[there]).mean()),
        "macro_f1": float((2 * right[judged] / (true + answered)[judged]).mean()),
        "nll": evaluate.nll(outcome.probabilities, truth),
        "calibration_error": evaluate.calibration_error(outcome.probabilities, truth),
        **{name: float(getattr(outcome, name)) for name in COSTS},
    }


def right(outcome: Outcome, study: Study) -> Bool[np.ndarray, " judged"]:
    """Say which pictures an arm answers right."""
    found: Bool[np.ndarray, " judged"] = (
        outcome.probabilities.argmax(axis=1) == study.labels[outcome.pictures]
    )
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """Hold the pictures of all repetitions: what changed, and how much each weighs."""

    changes: Float64[np.ndarray, " pictures"]
    weights: Float64[np.ndarray, " pictures"]
    strata: Int64[np.ndarray, " pictures"]
    groups: Int64[np.ndarray, " pictures"]


def expected(
    with_it: Sequence[Outcome], without: Sequence[Outcome], study: Study, metric: str
) -> Expected | None:
    r"""Estimate how much the choice of pictures makes a repetition's difference vary.

    $$v = J \frac{G}{G-1} \sum_g \Big(\sum_{i \in g} w_i (x_i - \bar x)\Big)^2
    + J \sum_k \overline{W_{gk}^2}$$

    where $x_i$ is what a picture's answer gains, $w_i$ its weight in the mean of $J$
    repetitions and $\bar x$ the mean gain, of its class for balanced accuracy. Pictures of a
    group $g$ go together. The second sum is one more changed group than was seen, in each
    class $k$ for balanced accuracy, of the mean squared weight $W_{gk} = \sum_{i \in g \cap k}
    w_i$: where no answer changed, that is not known to be so of all groups. For a picture
    alone it comes to the rule of three (Hanley & Lippman-Hand 1983, JAMA 249, 1743).

    Args:
        with_it: outcomes of one arm, by repetition.
        without: of the other arm, of the same repetitions.
        study: that they are of.
        metric: any; None is returned for those that are no means over pictures, or where
            all pictures are of one group.
    """
    if metric not in MEANS:
        return None
    judged = _judged(with_it, without, study, metric)
    names, member = np.unique(judged.groups, return_inverse=True)
    count = len(names)
    if count < 2:
        return None
    sizes = np.bincount(judged.strata)
    means = np.bincount(judged.strata, judged.changes) / np.maximum(sizes, 1)
    parts = judged.weights * (judged.changes - means[judged.strata])
    seen = (np.bincount(member, parts) ** 2).sum() * count / (count - 1)
    unseen = _one_more(judged, member) if metric != "nll" else 0.0
    return Expected(float(len(with_it) * (seen + unseen)), min(MOST_LENT, count - 1))


def _one_more(judged: _Judged, member: Int64[np.ndarray, " pictures"]) -> float:
    """Return the mean square of a group's weight in each stratum that it has, summed over them."""
    held = np.zeros((judged.strata.max() + 1, member.max() + 1))
    np.add.at(held, (judged.strata, member), judged.weights)
    groups = (held > 0).sum(axis=1)
    return float(((held**2).sum(axis=1)[groups > 0] / groups[groups > 0]).sum())


def _judged(
    with_it: Sequence[Outcome], without: Sequence[Outcome], study: Study, metric: str
) -> _Judged:
    pictures = np.concatenate([one.pictures for one in with_it])
    labels = study.labels[pictures]
    changes, weights = [], []
    for first, second in zip(without, with_it, strict=True):
        truth = study.labels[second.pictures]
        if metric == "nll":
            before, after = (evaluate.losses(one.probabilities, truth) for one in (first, second))
            changes.append(after - before)
        else:
            changes.append(right(second, study).astype(np.float64) - right(first, study))
        shares = np.full(len(truth), 1 / len(truth))
        if metric == "balanced_accuracy":
            counts = np.bincount(truth)
            shares = 1 / ((counts > 0).sum() * counts[truth])
        weights.append(shares / len(with_it))
    strata = labels if metric == "balanced_accuracy" else np.zeros_like(labels)
    return _Judged(np.concatenate(changes), np.concatenate(weights), strata, study.groups[pictures])
