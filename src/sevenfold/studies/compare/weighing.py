"""Weigh two sides' answers to the same pictures: differences with intervals, and a verdict."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from sevenfold import evaluate, paired
from sevenfold.evaluate import FEWEST_GROUPS, Estimate, chunks, counter
from sevenfold.paired import NO_DIFFERENCE, SIGNIFICANT
from sevenfold.studies.compare.pairing import Paired

Said = Literal["better", "worse", "no difference", "cannot tell"]
POINT: Final = 0.01
RESAMPLES: Final = 2000

Right = Bool[np.ndarray, " pictures"]


def weighed(found: Paired, *, seed: int = 0, objective: str = "accuracy") -> dict[str, Any]:
    """Return what the comparison shows, second minus first everywhere, as plain facts.

    Accuracy has Tango's score interval, widened by the design effect where pictures come in
    groups; log loss the percentile bootstrap of whole groups, and balanced accuracy the wider of
    that and Tango's intervals of its classes. McNemar's exact test takes pictures as independent.

    Args:
        found: at least one picture.
        seed: of the resampling.
        objective: `accuracy` or `balanced_accuracy`, which the verdict is on.
    """
    first, second = (answers == found.labels for answers in found.answers)
    right = (first, second)
    counts = paired.count(first, second)
    groups = np.unique(np.array(found.groups, dtype=np.str_), return_inverse=True)[1]
    grouped = len(np.unique(groups)) < len(groups)
    design = paired.design(first, second, found.groups) if grouped else paired.INDEPENDENT
    accuracy = paired.interval(counts, design=design)
    scored = all(shares.shape[1] for shares in found.probabilities)
    others = _resampled(found, right, groups, scored, seed)
    p = paired.mcnemar(counts)
    wanted = math.ceil(design.effect * paired.pictures_to_detect(POINT, max(counts.churn, POINT)))
    change, exact = accuracy, not grouped
    if objective == "balanced_accuracy":
        told = others["balanced_accuracy"]
        change, exact = Estimate(told["difference"], told["low"], told["high"]), False
        wanted = _to_resolve(change, len(found.labels))
    said = verdict(change, p, grouped=not exact)
    return {
        "objective": objective,
        "pictures": len(found.labels),
        "groups": len(np.unique(groups)),
        "paired_by": dict(found.by),
        "left_out": dict(found.left_out),
        "accuracy": _told(accuracy, float(first.mean()), float(second.mean())),
        **others,
        "mcnemar": {"p": p, "only_first": counts.only_first, "only_second": counts.only_second},
        "disagreement": float((found.answers[0] != found.answers[1]).mean()),
        "trustworthy": not grouped or len(np.unique(groups)) >= FEWEST_GROUPS,
        "verdict": said,
        "to_resolve": wanted
        if said == "cannot tell" and change.high - change.low > 2 * POINT
        else None,
        "classes": _classes(found, right, groups),
        "flips": _flips(found, right),
    }


def verdict(change: Estimate, p: float, *, grouped: bool) -> Said:
    """Say in a word how the second side's score compares.

    Args:
        change: the difference with its interval.
        p: of McNemar's test, which is on accuracy and takes pictures as independent.
        grouped: whether that test does not hold: pictures come in groups, or another score is
            compared. The interval decides alone then.

    Example:
        >>> verdict(Estimate(0.02, 0.01, 0.03), 0.001, grouped=False)
        'better'
    """
    if max(-change.low, change.high) <= NO_DIFFERENCE:
        return "no difference"
    if change.low <= 0 <= change.high or (not grouped and p > SIGNIFICANT):
        return "cannot tell"
    return "better" if change.value > 0 else "worse"


def _to_resolve(change: Estimate, pictures: int) -> int:
    """Count the pictures by which one point would be seen in four of five comparisons.

    An interval is as wide as the root of the pictures makes it.
    """
    z = [NormalDist().inv_cdf(share) for share in (0.975, 0.8)]
    error = (change.high - change.low) / 2 / z[0]
    return math.ceil(pictures * (error * sum(z) / POINT) ** 2)


def _told(difference: Estimate, first: float, second: float) -> dict[str, float]:
    return {
        "first": first,
        "second": second,
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
    }


def _resampled(
    found: Paired,
    right: Sequence[Right],
    member: Int64[np.ndarray, " pictures"],
    scored: bool,
    seed: int,
) -> dict[str, Any]:
    """Compare balanced accuracy and log loss by resampling whole groups."""
    count, classes = int(member.max()) + 1, len(found.classes)
    sizes = np.bincount(member)
    outcomes = [counter(found.labels * 2 + one, member, 2 * classes) for one in right]
    lost = [
        np.bincount(member, evaluate.losses(one, found.labels))
        for one in (found.probabilities if scored else ())
    ]

    def measures(
        weights: Int64[np.ndarray, "resamples groups"],
    ) -> Float64[np.ndarray, "measures resamples"]:
        tables = (one(weights).reshape(-1, classes, 2) for one in outcomes)
        with np.errstate(invalid="ignore"):  # a class that a resample lacks
            recalls = [np.nanmean(one[:, :, 1] / one.sum(axis=2), axis=1) for one in tables]
        return np.stack([*recalls, *(weights @ one / (weights @ sizes) for one in lost)])

    point = measures(np.ones((1, count), np.int64))[:, 0]
    random, drawn = np.random.default_rng(seed), []
    for rows in chunks(RESAMPLES, max(count, len(found.labels))):
        drawn.append(measures(random.multinomial(count, np.full(count, 1 / count), rows)))
    spread = np.concatenate(drawn, axis=1)
    told: dict[str, Any] = {"nll": None}
    for at, name in enumerate(("balanced_accuracy", "nll")[: 1 + scored]):
        first, second = point[2 * at : 2 * at + 2].tolist()
        apart = evaluate.widened(second - first, spread[2 * at + 1] - spread[2 * at], count)
        low, high = np.nanquantile(apart, [0.025, 0.975])
        change = Estimate(
            second - first, min(second - first, float(low)), max(second - first, float(high))
        )
        if name == "balanced_accuracy":
            change = evaluate.as_unsure_as(change, _by_class(found, right, member), -1.0)
        told[name] = _told(change, first, second)
    return told


def _by_class(
    found: Paired, right: Sequence[Right], member: Int64[np.ndarray, " pictures"]
) -> list[Estimate]:
    """Bound the difference of each class that occurs by Tango's interval."""
    each = []
    for label in np.unique(found.labels):
        mine = found.labels == label
        first, second = right[0][mine], right[1][mine]
        design = paired.design(first, second, member[mine].astype(np.str_).tolist())
        each.append(paired.interval(paired.count(first, second), design=design))
    return each


def _classes(
    found: Paired, right: Sequence[Right], member: Int64[np.ndarray, " pictures"]
) -> list[dict[str, Any]]:
    """Tell of each class that occurs how many answers got right and wrong."""
    told = []
    for label, name in enumerate(found.classes):
        mine = found.labels == label
        if not mine.any():
            continue
        first, second = right[0][mine], right[1][mine]
        before, after = (evaluate.wilson(int(one.sum()), len(one)) for one in (first, second))
        told.append(
            {
                "label": name,
                "pictures": int(mine.sum()),
                "first": before.value,
                "second": after.value,
                "got_right": int((~first & second).sum()),
                "got_wrong": int((first & ~second).sum()),
                "too_few": evaluate.too_few(len(first), len(np.unique(member[mine]))),
            }
        )
    return told


def _flips(found: Paired, right: Sequence[Right]) -> list[dict[str, Any]]:
    """List the pictures that one side alone answers rightly, those that got wrong first."""
    changed = np.flatnonzero(right[0] != right[1])
    order = changed[np.argsort(~right[0][changed], kind="stable")]
    return [
        {
            "path": found.paths[at],
            "label": found.classes[found.labels[at]],
            "first": found.classes[found.answers[0][at]],
            "second": found.classes[found.answers[1][at]],
            "change": "got wrong" if right[0][at] else "got right",
        }
        for at in order.tolist()
    ]
