"""Decide whether a candidate may take the place of a model: not if it does harm.

Harm is shown by the answers of both to the same old test pictures. The candidate meets the
running version, and the last one that a person signed off, so that small losses cannot add up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Int64

from sevenfold import evaluate, paired

DROP: Final = 0.01
"""Of the objective, by which a candidate may be worse at most: one point."""
LEVEL: Final = 0.05


@dataclass(frozen=True, slots=True)
class ClassChange:
    """Hold what became of one class.

    Args:
        label: its name.
        pictures: of test.
        before: recall of the reference.
        after: recall of the candidate.
        most_lost: of its recall, with 95 % confidence.
        p: one-sided, that it got no worse, by Holm over the classes; 1 where too few.
        too_few: whether it has too few of test to judge: it warns, and cannot veto by itself.
    """

    label: str
    pictures: int
    before: float
    after: float
    most_lost: float
    p: float
    too_few: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Hold a candidate against a reference on the reference's test pictures.

    Args:
        reference: what it is held against.
        counts: right and wrong answers of reference and candidate.
        drop: of the objective, as a fraction; negative is a gain.
        most_lost: of accuracy, with 95 % confidence: no harm shown is not shown to be none.
        p: one-sided, that the candidate is no worse.
        classes: each class with test pictures.
    """

    reference: str
    counts: paired.Paired
    drop: float
    most_lost: float
    p: float
    classes: tuple[ClassChange, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Say what forbids the candidate to ship; nothing where it may."""
        found = []
        if self.drop > DROP:
            found.append(
                f"its score is {100 * self.drop:.1f} points below that of {self.reference}, more "
                f"than the {100 * DROP:g} allowed (p {self.p:.3f})"
            )
        if self.p < LEVEL:
            found.append(
                f"it is worse than {self.reference}: {self.counts.only_first} answers got wrong "
                f"and {self.counts.only_second} right (p {self.p:.3f})"
            )
        found += [
            f"{one.label} falls from {one.before:.1%} to {one.after:.1%} of {one.pictures} test "
            f"pictures against {self.reference} (p {one.p:.3f})"
            for one in self.classes
            if one.p < LEVEL
        ]
        return tuple(found)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Name the classes that look worse and have too few pictures, or groups, to say so."""
        return tuple(
            f"{one.label} falls from {one.before:.1%} to {one.after:.1%} of {one.pictures} test "
            f"pictures: too few, or in too few groups, to judge"
            for one in self.classes
            if one.too_few and one.after < one.before
        )


def harm(
    before: Bool[np.ndarray, "pictures"],
    after: Bool[np.ndarray, "pictures"],
    groups: Sequence[str],
) -> float:
    r"""Test one-sided whether answers got worse: exactly, by the signs of groups' changes.

    $$p = P\left(\sum_g s_g |d_g| \ge \sum_g d_g\right), \quad s_g = \pm 1$$

    with $d_g$ answers of a group that got wrong less those that got right: where nothing got
    worse, a change is as likely as its opposite. Of pictures without groups it is the half of
    McNemar's exact test.

    Example:
        >>> worse = np.array([True] * 5 + [False]), np.array([False] * 5 + [False])
        >>> harm(*worse, list("abcdef")), harm(*worse, list("aaaaab"))
        (0.03125, 0.5)
    """
    member = np.unique(np.array(groups, dtype=np.str_), return_inverse=True)[1]
    net = np.bincount(member, before.astype(np.float64) - after).astype(np.int64)
    chances = np.ones(1)  # of sums from -total to total, in steps of one
    for size in np.abs(net[net != 0]).tolist():
        chances = (np.pad(chances, (2 * size, 0)) + np.pad(chances, (0, 2 * size))) / 2
    return min(1.0, float(chances[len(chances) // 2 + net.sum() :].sum()))


def compared(
    reference: str,
    before: Bool[np.ndarray, "pictures"],
    after: Bool[np.ndarray, "pictures"],
    labels: Int64[np.ndarray, "pictures"],
    groups: Sequence[str],
    classes: Sequence[str],
    objective: str,
) -> Comparison:
    """Compare the answers of a reference and a candidate to the same pictures.

    Args:
        reference: its name in sentences.
        before: which pictures the reference answers right.
        after: which pictures the candidate answers right.
        labels: their classes.
        groups: pictures of one group are not independent.
        classes: names.
        objective: `accuracy` or `balanced_accuracy`.
    """
    found = []
    for at in np.unique(labels):
        some = labels == at
        its = [group for group, mine in zip(groups, some, strict=True) if mine]
        few = evaluate.too_few(len(its), len(set(its)))
        p = 1.0 if few else harm(before[some], after[some], its)
        was, now = float(before[some].mean()), float(after[some].mean())
        lost = _most_lost(before[some], after[some], its)
        found.append(ClassChange(classes[at], len(its), was, now, lost, p, few))
    judged = [at for at, one in enumerate(found) if not one.too_few]
    adjusted = dict(zip(judged, paired.holm([found[at].p for at in judged]), strict=True))
    changes = tuple(replace(one, p=adjusted.get(at, 1.0)) for at, one in enumerate(found))
    counts = paired.count(before, after)
    drop = -counts.difference
    if objective == "balanced_accuracy":
        drop = float(np.mean([one.before - one.after for one in changes]))
    lost = _most_lost(before, after, groups)
    return Comparison(reference, counts, drop, lost, harm(before, after, groups), changes)


def _most_lost(
    before: Bool[np.ndarray, "pictures"], after: Bool[np.ndarray, "pictures"], groups: Sequence[str]
) -> float:
    design = paired.design(before, after, groups)
    return paired.largest_drop(paired.count(before, after), design=design)


def to_json(found: Comparison) -> Mapping[str, Any]:
    """Return what JSON and report tell of a comparison."""
    return {
        "reference": found.reference,
        "pictures": found.counts.pictures,
        "drop": found.drop,
        "most_lost": found.most_lost,
        "p": found.p,
        "negative_flips": found.counts.only_first,
        "positive_flips": found.counts.only_second,
        "reasons": list(found.reasons),
        "warnings": list(found.warnings),
        "classes": [asdict(one) for one in found.classes],
    }
