"""Hold new labels against what the running model says, before anything is trained.

New pictures may be harder than the old ones, and the model is wrong at times. What honest
data hardly ever does is to be far from it: the check speaks up where even an agreement a
good deal below what the model reached on test is not believable.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.optimize import linear_sum_assignment
from scipy.stats import beta, binom

from sevenfold import evaluate

SLACK: Final = 0.1
"""By how much all new pictures together may be harder than test (benchmarks/update.py)."""
CLASS_SLACK: Final = 0.2
"""By how much those of one class may be (same file)."""
EXCHANGED_SLACK: Final = 0.05
"""By how much more often new pictures may be taken for one other class (same file)."""
LEVEL: Final = 0.05
"""Of all checks together: the chance to refuse data that agrees as little as it may."""
_SHOWN: Final = 20
_BOUND: Final = 0.975  # of how often test pictures of one class are taken for another


@dataclass(frozen=True, slots=True)
class Check:
    """Hold one comparison.

    Args:
        name: of the class, or `all`.
        pictures: that were asked about; a group counts as one.
        agreed: the share of them that the model answers as labelled.
        expected: the least share that would pass for honest.
        p: of as little agreement at that share, for all checks together.
        exchanged: agreement is not to be taken for the class that would have changed places.
    """

    name: str
    pictures: int
    agreed: float
    expected: float
    p: float
    exchanged: bool = False

    @property
    def failed(self) -> bool:
        """Tell whether the labels cannot be believed."""
        return self.p < LEVEL


@dataclass(frozen=True, eq=False)
class Agreement:
    """Hold what the running model says of new labels.

    Args:
        checks: of all pictures, of each class, and of classes that changed places.
        confusion: pictures by label and by answer.
        permutation: answers by labels that explain it, where two or more classes changed
            places; empty otherwise.
        classes: names.
        worst: indexes of pictures whose label the model is surest against.
    """

    checks: tuple[Check, ...]
    confusion: Int64[np.ndarray, "classes classes"]
    permutation: Mapping[str, str]
    classes: tuple[str, ...]
    worst: tuple[int, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """Return what speaks against the labels."""
        return tuple(one for one in self.checks if one.failed)


def agreement(
    probabilities: Float[np.ndarray, "pictures classes"],
    labels: Int64[np.ndarray, "pictures"],
    groups: Sequence[str],
    classes: Sequence[str],
    least: Mapping[str, float],
    mistakes: Int64[np.ndarray, "classes classes"],
) -> Agreement:
    """Compare new labels with the running model's answers.

    One-sided binomial tests of the agreement: overall, in each class, and over classes
    whose answers look like each other's, each against the lower bound of what the model
    reached on test, less a slack. Where labels look as if classes had changed places, one
    more asks whether so many pictures can honestly be taken for just that other class,
    against the upper bound of how often test pictures were: few pictures and a weak model
    tell that, which merely disagreeing does not. Bonferroni's correction over them, there
    also over the pairs that could have changed places. Where the model itself is less sure,
    as of pictures that `suggest` chose, its calibrated probabilities say how much agreement
    there may be.

    Args:
        probabilities: of the running model.
        labels: of classes that it knows.
        groups: of the pictures; one group counts as one picture.
        classes: that it knows.
        least: lower bound of the accuracy on test (`all`) and of each class's recall.
        mistakes: test pictures by label and answer.
    """
    count = len(classes)
    answers = probabilities.argmax(axis=1)
    confusion = evaluate.confusion(answers, labels, count)
    places = _permutation(confusion)
    right, sure = answers == labels, probabilities.max(axis=1)

    def floor(some: Bool[np.ndarray, "pictures"], reached: float, slack: float) -> float:
        return max(0.0, min(reached, float(sure[some].mean())) - slack)

    whole = np.ones(len(labels), bool)
    parts = [("all", whole, floor(whole, least["all"], SLACK))]
    parts += [
        (name, labels == at, floor(labels == at, least[name], CLASS_SLACK))
        for at, name in enumerate(classes)
        if (labels == at).any()
    ]
    moved = np.flatnonzero(places != np.arange(count)).tolist()
    if moved:
        its, reached = np.isin(labels, moved), float(np.mean([least[classes[at]] for at in moved]))
        name = " and ".join(classes[at] for at in moved)
        parts.append((name, its, floor(its, reached, CLASS_SLACK)))

    def of(some: Bool[np.ndarray, "pictures"]) -> list[str]:
        return [groups[at] for at in np.flatnonzero(some).tolist()]

    tests = len(parts) * (2 if moved else 1)  # one half of the level is for what follows
    checks = [_check(name, right[some], of(some), lowest, tests) for name, some, lowest in parts]
    if moved:
        name, its, _ = parts[-1]
        # What the model itself gives to the other class, where it answers one of these.
        other = np.argsort(places)[answers[its]]
        itself = np.where(np.isin(answers[its], moved), probabilities[its, other], 0).mean()
        lowest = max(
            0.0, 1 - EXCHANGED_SLACK - max(_exchanged(mistakes, places, moved), float(itself))
        )
        pairs = count * (count - 1) // 2
        found = _check(name, (answers != places[labels])[its], of(its), lowest, 2 * pairs)
        checks.append(replace(found, exchanged=True))
    explained = {}
    if moved and any(one.failed for one in checks[len(parts) - 1 :]):
        explained = {classes[at]: classes[places[at]] for at in moved}
    shares = probabilities[np.arange(len(labels)), labels]
    worst = [int(at) for at in np.argsort(shares, kind="stable")[:_SHOWN] if not right[at]]
    return Agreement(tuple(checks), confusion, explained, tuple(classes), tuple(worst))


def _permutation(confusion: Int64[np.ndarray, "classes classes"]) -> Int64[np.ndarray, "classes"]:
    """Find which class each label stands for, if labels only changed places.

    It is the assignment that agrees with most answers; where it moves a label without pictures,
    every label stands for itself.
    """
    count = len(confusion)
    identity = np.arange(count)
    _, places = linear_sum_assignment(confusion + 1e-6 * np.eye(count), maximize=True)
    moved = identity != places
    seen = confusion.sum(axis=1) > 0
    if not moved.any() or not seen[moved].all():
        return identity
    return np.asarray(places, np.int64)


def _exchanged(
    mistakes: Int64[np.ndarray, "classes classes"],
    places: Int64[np.ndarray, "classes"],
    moved: Sequence[int],
) -> float:
    """Bound how often a test picture of these classes is taken for the other (Clopper, Pearson)."""
    taken, pictures = mistakes[moved, places[moved]].sum(), mistakes[moved].sum()
    return float(beta.ppf(_BOUND, taken + 1, pictures - taken)) if taken < pictures else 1.0


def _check(
    name: str, right: Bool[np.ndarray, "some"], groups: Sequence[str], floor: float, tests: int
) -> Check:
    """Test whether so many right answers can be believed; a group counts as one picture."""
    names, member = np.unique(np.array(groups, dtype=np.str_), return_inverse=True)
    means = np.bincount(member, right) / np.bincount(member)
    # A share of a picture more, in favour of the data.
    agreed = int(np.ceil(means.sum() - 1e-9))
    p = min(1.0, tests * float(binom.cdf(agreed, len(names), floor)))
    return Check(name, len(names), float(means.mean()), floor, p)


def least_of(test: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, float]:
    """Read the lower bounds from the scores on test that a run's report holds."""
    found = {
        renamed.get(one["label"], one["label"]): float(one["recall"]["low"] or 0.0)
        for one in test["classes"]
    }
    return {"all": float(test["accuracy"]["low"]), **found}


def to_json(found: Agreement, paths: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Return what JSON and report tell of it."""
    return {
        "checks": [
            {
                "name": one.name,
                "pictures": one.pictures,
                "agreed": one.agreed,
                "expected": one.expected,
                "p": one.p,
                "exchanged": one.exchanged,
                "failed": one.failed,
            }
            for one in found.checks
        ],
        "classes": list(found.classes),
        "confusion": found.confusion.tolist(),
        "permutation": dict(found.permutation),
        "worst": [{"path": paths[at], "label": labels[at]} for at in found.worst],
    }


def reason(found: Agreement) -> tuple[str, str]:
    """Say in two lines why new labels are not believed, and what to do."""
    worst = min(found.failed, key=lambda one: one.p)
    where = "all new pictures" if worst.name == "all" else f"the new pictures of {worst.name}"
    problem = (
        f"the running model agrees with {worst.agreed:.0%} of the labels of {where}, and with "
        f"what it reached on test at least {worst.expected:.0%} would be expected"
    )
    if worst.exchanged:
        problem = (
            f"the running model takes {1 - worst.agreed:.0%} of {where} for one another, and with "
            f"what it did on test at most {1 - worst.expected:.0%} would be expected"
        )
    if found.permutation:
        swaps = ", ".join(f"{old} for {new}" for old, new in found.permutation.items())
        options = " ".join(f"--relabel '{old}={new}'" for old, new in found.permutation.items())
        return (
            f"{problem}: classes seem to have changed places ({swaps})",
            f"look at these pictures; {options} reads them so, --trust-labels goes on",
        )
    return problem, "look at these pictures; --trust-labels goes on if their labels are right"
