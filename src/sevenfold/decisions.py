"""Measure an operating point: how many pictures are answered, and how many of those wrongly."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float64, Int64

from sevenfold import operating
from sevenfold.evaluate import Estimate, widened, wilson
from sevenfold.operating import Operating

POINTS: Final = 60
_RESAMPLES: Final = 1000

Mask = Bool[np.ndarray, " pictures"]


def share(of: Mask, among: Mask, groups: Sequence[str] = (), seed: int = 0) -> Estimate:
    """Estimate which share of some pictures has a property, with a 95 % interval.

    Wilson's over pictures; where they come in groups, also the bootstrap's over whole
    groups, and the wider end of each counts.

    Args:
        of: which have it.
        among: which count.
        groups: of each picture; none where pictures are independent.
        seed: of the resampling.
    """
    exact = wilson(int((of & among).sum()), int(among.sum()))
    names, member = np.unique(np.array(groups, dtype=np.str_), return_inverse=True)
    if not groups or len(names) == len(of) or not among.any():
        return exact
    sums = np.stack([np.bincount(member, weights=one) for one in (of & among, among)])
    drawn = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), _RESAMPLES
    )
    right, whole = sums @ drawn.T
    held = int((sums[1] > 0).sum())
    spread = widened(exact.value, right[whole > 0] / whole[whole > 0], held)
    low, high = np.quantile(np.clip(spread, 0, 1), [0.025, 0.975])
    return Estimate(exact.value, min(exact.low, float(low)), max(exact.high, float(high)))


def measured(
    point: Operating,
    probabilities: Float64[np.ndarray, "pictures classes"],
    labels: Int64[np.ndarray, " pictures"],
    classes: Sequence[str],
    *,
    groups: Sequence[str] = (),
    named: Sequence[str] = (),
) -> dict[str, Any]:
    """Apply a point to judged pictures.

    Args:
        point: the operating point.
        probabilities: calibrated.
        labels: true classes.
        classes: of the columns.
        groups: of each picture; none where pictures are independent.
        named: classes whose recall was asked for.

    Returns:
        `answered` (share that is sure), `error` (among all answers), `error_answered` (among
        the sure ones) and the `recalls` of the named classes as estimates; the mean `cost`
        where there are costs; and `curve`, pairs of the share answered and its error if the
        surest answers were given first.
    """
    p = np.asarray(probabilities, np.float64)
    answers, sure = operating.decide(point, p)
    wrong, everything = answers != labels, np.ones(len(p), bool)
    found: dict[str, Any] = {
        "pictures": len(p),
        "answered": asdict(share(sure, everything, groups)),
        "error": asdict(share(wrong, everything, groups)),
        "error_answered": asdict(share(wrong, sure, groups)),
        "recalls": {
            name: {"pictures": int((labels == at).sum())}
            | asdict(share(answers == at, labels == at, groups))
            for name, at in ((name, list(classes).index(name)) for name in named)
        },
        "curve": curve(p[np.arange(len(p)), answers], wrong),
    }
    if point.costs.size:
        costs = point.costs[labels, answers]
        found["cost"] = float(costs.mean())
        found["cost_answered"] = float(costs[sure].mean()) if sure.any() else 0.0
        found["cost_most_probable"] = float(point.costs[labels, p.argmax(axis=1)].mean())
    return found


def curve(confidence: Float64[np.ndarray, " pictures"], wrong: Mask) -> list[list[float]]:
    """Return shares of pictures, the surest first, with the error among them.

    Shares under 20 pictures are left out: an error there is luck.
    """
    order = np.argsort(-confidence, kind="stable")
    errors = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    least = min(20, len(order))
    at = np.unique(np.linspace(least, len(order), POINTS).astype(int)) - 1
    return [[float((k + 1) / len(order)), float(errors[k])] for k in at[at >= 0]]
