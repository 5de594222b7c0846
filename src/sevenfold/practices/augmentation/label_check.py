"""Find the operations that change what a picture shows, class by class."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Float64, Int64, UInt8, UInt64
from scipy.special import betainc, gammaln

from sevenfold import paired
from sevenfold.practices.augmentation.reach import UNTOUCHED, Operation, by_class, draws_of
from sevenfold.practices.augmentation.settings import Augmentation, named
from sevenfold.practices.augmentation.views import augment

LEVEL: Final = 0.05
CHANGES: Final = "changes the label"
"""The verdict that leaves an operation out."""
TOO_FEW: Final = "too few"
"""The verdict on what could not have been told from chance: no clean bill."""
_UNSURE: Final = 0.05  # share of a class's own right answers that do not count as sure
# Of the moved pictures: 0 where wide shifts broke a model, 0.2 to 1 where labels were
# changed (tests/test_label_check.py).
_SURE_SHARE: Final = 0.1
_NEARLY_ALL: Final = 0.95


@dataclass(frozen=True)
class Finding:
    """Say what one operation does to one class.

    Args:
        operation: the setting.
        direction: which end of its range.
        label: the class.
        pictures: of the class.
        clean: share answered right as they are.
        augmented: share answered right after the operation.
        into: the class that most of the lost pictures are taken for; empty where
            none is lost.
        p: chance of this much change of label by accident, adjusted (Holm).
        verdict: `changes the label`, `hard`, `harmless`, or `too few`: no number of
            changed answers among so few pictures could have been told from chance.
    """

    operation: str
    direction: str
    label: str
    pictures: int
    clean: float
    augmented: float
    into: str
    p: float
    verdict: str


Answer = Callable[
    [UInt8[np.ndarray, "pictures side side 3"]], Float[np.ndarray, "pictures classes"]
]


def _views(
    operation: Operation,
    pixels: Sequence[UInt8[np.ndarray, "source source 3"]],
    numbers: UInt64[np.ndarray, "pictures"],
    side: int,
) -> UInt8[np.ndarray, "pictures side side 3"]:
    return np.stack(
        [
            augment(one, operation.settings, row, side)
            for one, row in zip(pixels, draws_of(operation, numbers), strict=True)
        ]
    )


def check(
    answer: Answer,
    pixels: Sequence[UInt8[np.ndarray, "source source 3"]],
    labels: Int64[np.ndarray, "pictures"],
    numbers: UInt64[np.ndarray, "pictures"],
    settings: Augmentation,
    side: int,
    classes: Sequence[str],
) -> tuple[Finding, ...]:
    """Measure what each operation does to each class, and flag changes of label.

    The drop of a clean-trained model is its accuracy on augmented minus on clean
    pictures (affinity: Gontijo-Lopes et al., 2021, arXiv 2002.08973), here of the
    same pictures in pairs. An operation *changes the label* of a class where,
    of its pictures that were answered right,

    * more are now answered as one other class than as their own (one-sided exact sign
      test, times the number of other classes),
    * a larger share than of the pictures of the remaining classes (one-sided exact
      hypergeometric test, from three classes on: a model that answers one class to
      everything has lost sight),
    * and at least a tenth of them as surely as 19 in 20 of the other class's own
      pictures: what can no longer be seen is answered too, but less surely.

    The larger of both chances counts, adjusted by Holm over operations and classes at
    a level of 5 %; a class that has fewer right answers than `needed` is *too few*.
    A drop that is real (exact McNemar test, Holm) but no change of label is *hard*.

    Args:
        answer: from views to probabilities or logits, of a model trained without
            augmentation.
        pixels: stored squares that the model was not trained on.
        labels: their classes.
        numbers: 64 bits of each picture's content hash.
        settings: whose operations are checked, those of each class at its own reach.
        side: of the views in pixels.
        classes: names.

    Returns:
        A finding for each operation, direction and class that draws it and has pictures.
    """

    def scores(operation: Operation) -> Float[np.ndarray, "pictures classes"]:
        return answer(_views(operation, pixels, numbers, side))

    return judge(scores, by_class(settings, classes), labels, classes)


def judge(
    scores: Callable[[Operation], Float[np.ndarray, "pictures classes"]],
    looked_at: Mapping[Operation, Collection[int]],
    labels: Int64[np.ndarray, "pictures"],
    classes: Sequence[str],
) -> tuple[Finding, ...]:
    """Apply the rule of `check` to a model's answers.

    Args:
        scores: probabilities or logits of the pictures after an operation; `UNTOUCHED`
            is asked for first.
        looked_at: the operations, each with the classes that draw it so far; all pictures
            are shown after it, since a class is compared with the others.
        labels: true classes.
        classes: names.

    Returns:
        A finding for each operation, direction and class that draws it and has pictures.
    """
    before = _read(scores(UNTOUCHED))
    least = _least_sure(before, labels, len(classes))
    measured: list[Finding] = []
    chances: list[tuple[float, float]] = []
    present = set(labels.tolist())
    for operation, drawn_by in looked_at.items():
        after = _read(scores(operation))
        for label in sorted(present.intersection(drawn_by)):
            finding, harder = _measure(operation, label, labels, before, after, least, classes)
            measured.append(finding)
            chances.append((finding.p, harder))
    if not measured:
        return ()
    change, drop = (paired.holm(column) for column in zip(*chances, strict=True))
    return tuple(
        replace(finding, p=float(p), verdict=_verdict(finding, p, harder, len(measured), classes))
        for finding, p, harder in zip(measured, change, drop, strict=True)
    )


@dataclass(frozen=True)
class _Answers:
    """Hold the class answered for each picture and how far it is ahead of the next one."""

    label: Int64[np.ndarray, "pictures"]
    margin: Float[np.ndarray, "pictures"]


def _read(scores: Float[np.ndarray, "pictures classes"]) -> _Answers:
    last = np.sort(scores, axis=1)[:, -2:]
    return _Answers(scores.argmax(axis=1), last[:, -1] - last[:, 0])


def _least_sure(
    before: _Answers, labels: Int64[np.ndarray, "pictures"], classes: int
) -> Float64[np.ndarray, "classes"]:
    """Return the margin that 19 in 20 of a class's own right pictures reach."""
    right = before.label == labels
    found = np.full(classes, np.inf)
    for label in np.unique(labels[right]).tolist():
        found[label] = np.quantile(before.margin[right & (labels == label)], _UNSURE)
    return found


def _measure(
    operation: Operation,
    label: int,
    labels: Int64[np.ndarray, "pictures"],
    before: _Answers,
    after: _Answers,
    least: Float64[np.ndarray, "classes"],
    classes: Sequence[str],
) -> tuple[Finding, float]:
    """Return the finding with its chance, not yet adjusted, and that of McNemar's test."""
    own = labels == label
    right, still = before.label[own] == label, after.label[own] == label
    lost, gained = int((right & ~still).sum()), int((~right & still).sum())
    into = int(np.bincount(after.label[own][right & ~still], minlength=len(classes)).argmax())
    taken = after.label == into
    gone = taken[own] & right & ~still
    moved, stayed = int(gone.sum()), int((right & still).sum())
    p = 1.0
    sure = bool(moved) and (after.margin[own][gone] >= least[into]).mean() >= _SURE_SHARE
    if sure or moved >= max(1, _NEARLY_ALL * right.sum()):
        p = min(1.0, (len(classes) - 1) * _upper(moved, moved + stayed))
    others = ~own & (labels != into) & (before.label == labels)
    if moved and others.any():
        drawn, everywhere = int(right.sum()), moved + int(taken[others].sum())
        p = max(p, _gathered(moved, drawn, everywhere, drawn + int(others.sum())))
    finding = Finding(
        operation.name,
        operation.direction,
        classes[label],
        int(own.sum()),
        float(right.mean()),
        float(still.mean()),
        classes[into] if lost else "",
        p,
        "",
    )
    return finding, _upper(lost, lost + gained)


def _upper(successes: int, trials: int) -> float:
    """Return the chance of at least so many of the trials at even odds."""
    return float(betainc(successes, trials - successes + 1, 0.5)) if successes else 1.0


def _gathered(marked: int, drawn: int, all_marked: int, everyone: int) -> float:
    """Return the chance that so many of the marked are among the drawn (hypergeometric)."""
    more = np.arange(marked, min(drawn, all_marked) + 1)

    def ways(total: int, some: np.ndarray[Any, Any] | int) -> Any:
        return gammaln(total + 1) - gammaln(some + 1) - gammaln(total - np.asarray(some) + 1)

    most = ways(all_marked, more) + ways(everyone - all_marked, drawn - more)
    return float(min(1.0, np.exp(most - ways(everyone, drawn)).sum()))


def _verdict(finding: Finding, p: float, harder: float, tests: int, classes: Sequence[str]) -> str:
    if p < LEVEL:
        return CHANGES
    if round(finding.clean * finding.pictures) < needed(len(classes), tests):
        return TOO_FEW
    return "hard" if harder < LEVEL else "harmless"


def needed(classes: int, tests: int) -> int:
    r"""Return the right answers of a class without which no change of its label can be told.

    That all of $n$ change into one class has the chance $(K - 1)\,2^{-n}$, and Holm
    multiplies the smallest of $m$ chances by $m$: $n$ is the smallest number for which
    $m\,(K - 1)\,2^{-n}$ is below the level.

    Args:
        classes: $K$, 2 or more.
        tests: $m$, operations and directions of all classes together.

    Example:
        >>> needed(2, 2), needed(19, 19), needed(150, 150 * 5)
        (6, 13, 22)
    """
    return math.floor(math.log2(max(1, classes - 1) * tests / LEVEL)) + 1


def unjudged(findings: Sequence[Finding]) -> tuple[str, ...]:
    """Return the classes that had too few pictures to be judged.

    Example:
        >>> unjudged([Finding("flip", "", "left", 4, 1.0, 0.0, "right", 0.4, "too few")])
        ('left',)
    """
    return tuple(dict.fromkeys(one.label for one in findings if one.verdict == TOO_FEW))


def excluding(settings: Augmentation, findings: Sequence[Finding]) -> Augmentation:
    """Spare each class the operations that change its label, unless the user insists.

    Args:
        settings: what was checked.
        findings: of `check`.

    Example:
        >>> found = Finding("flip", "", "left", 40, 1.0, 0.0, "right", 1e-9, "changes the label")
        >>> dict(excluding(Augmentation(), [found]).class_off)
        {'left': 'flip'}
    """
    if settings.insist:
        return settings
    spared = dict(settings.class_off)
    for finding in findings:
        known = named(spared.get(finding.label, ""))
        if finding.verdict == CHANGES and finding.operation not in known:
            spared[finding.label] = ",".join([*known, finding.operation])
    return replace(settings, class_off=spared)
