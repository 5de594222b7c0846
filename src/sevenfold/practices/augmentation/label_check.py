"""Find the operations that change what a picture shows, class by class."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Float64, Int64, UInt8, UInt64
from scipy.special import betainc, gammaln

from sevenfold import draws as random
from sevenfold import paired
from sevenfold.practices.augmentation.settings import (
    OPERATIONS,
    Augmentation,
    choices,
    named,
)
from sevenfold.practices.augmentation.views import DRAWS, Draw, augment

LEVEL: Final = 0.05
CHANGES: Final = "changes the label"
"""The verdict that leaves an operation out."""
_LARGE_TURN: Final = 45.0
_OTHER_HUE: Final = 0.05
_UNSURE: Final = 0.05  # share of a class's own right answers that do not count as sure
# Of the moved pictures: 0 where wide shifts broke a model, 0.2 to 1 where labels were
# changed (tests/test_label_check.py).
_SURE_SHARE: Final = 0.1
_NEARLY_ALL: Final = 0.95
_SURE: Final = 1.0 - 1e-9  # the largest draw: the far end of a range
_MIDDLE: Final = 0.5

_SIGNED: Final[Mapping[str, tuple[Draw, ...]]] = {
    "rotation_degrees": (Draw.ANGLE,),
    "stretch": (Draw.RATIO,),
    "translation": (Draw.SHIFT_X, Draw.SHIFT_Y),
    "brightness": (Draw.BRIGHTNESS,),
    "contrast": (Draw.CONTRAST,),
    "saturation": (Draw.SATURATION,),
    "hue": (Draw.HUE,),
}
_DEEPEST: Final[Mapping[str, Mapping[Draw, float]]] = {
    "crop": {Draw.AREA: 0.0},
    "blur": {Draw.BLUR: _SURE},
    "noise": {Draw.NOISE: _SURE},
    "erasing": {Draw.ERASING: 0.0, Draw.ERASED_AREA: _SURE},
}
_ALWAYS: Final = ("flip", "flip_vertical", "blur", "noise", "erasing")


@dataclass(frozen=True)
class Operation:
    """Hold one operation alone, at the far end of its range.

    Args:
        name: the setting.
        direction: what tells it from the setting's other directions; empty where
            there is one alone.
        settings: everything else is off.
        fixed: draws that are held; the others differ between pictures.
    """

    name: str
    direction: str
    settings: Augmentation
    fixed: Mapping[Draw, float] = field(hash=False)


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


def operations(settings: Augmentation) -> tuple[Operation, ...]:
    """List each operation that a setting may draw, alone and at its full reach.

    What has a sign comes in both directions, a shift in four and quarter turns in
    three.

    Example:
        >>> [found.direction for found in operations(replace(Augmentation.off, hue=0.1))]
        ['least', 'most']
    """
    pool = choices(settings)
    found: list[Operation] = []
    for name in OPERATIONS:
        off = getattr(Augmentation.off, name)
        reach = next((getattr(one, name) for one in pool if getattr(one, name) != off), off)
        if reach == off:
            continue
        full: dict[str, Any] = {name: 1.0 if name in _ALWAYS else reach}
        alone = replace(
            Augmentation.off,
            noise_sigma=settings.noise_sigma,
            erasing_area=settings.erasing_area,
            erasing_fill=settings.erasing_fill,
            **full,
        )
        found += [Operation(name, way, alone, fixed) for way, fixed in _directions(name)]
    return tuple(found)


def risky(operation: Operation) -> bool:
    """Tell whether an operation moves a picture far enough to be known for changing labels.

    Example:
        >>> [risky(one) for one in operations(replace(Augmentation.off, flip=0.5, crop=0.7))]
        [True, False]
    """
    settings = operation.settings
    return (
        operation.name in ("flip", "flip_vertical", "quarter_turns")
        or settings.rotation_degrees >= _LARGE_TURN
        or settings.hue >= _OTHER_HUE
    )


def _directions(name: str) -> list[tuple[str, Mapping[Draw, float]]]:
    if name == "quarter_turns":
        return [(f"{90 * turns}", {Draw.QUARTER: turns / 4}) for turns in (1, 2, 3)]
    if name not in _SIGNED:
        return [("", _DEEPEST.get(name, {}))]
    places = _SIGNED[name]
    middle = dict.fromkeys(places, _MIDDLE)
    axes = ("",) if len(places) == 1 else (" across", " down")
    return [
        (f"{way}{axis}", {**middle, place: value})
        for axis, place in zip(axes, places, strict=True)
        for way, value in (("least", 0.0), ("most", _SURE))
    ]


def draws_of(
    operation: Operation, numbers: UInt64[np.ndarray, "pictures"]
) -> Float64[np.ndarray, "pictures draws"]:
    """Return the uniform numbers of each picture, with those that the operation holds."""
    drawn: Float64[np.ndarray, " pictures draws"] = random.uniform("label check", numbers, 0, DRAWS)
    for place, value in operation.fixed.items():
        drawn[:, place] = value
    return drawn


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
    a level of 5 %.
    A drop that is real (exact McNemar test, Holm) but no change of label is *hard*.

    Args:
        answer: from views to probabilities or logits, of a model trained without
            augmentation.
        pixels: stored squares that the model was not trained on.
        labels: their classes.
        numbers: 64 bits of each picture's content hash.
        settings: whose operations are checked.
        side: of the views in pixels.
        classes: names.

    Returns:
        A finding for each operation, direction and class that has pictures.
    """

    def scores(operation: Operation) -> Float[np.ndarray, "pictures classes"]:
        return answer(_views(operation, pixels, numbers, side))

    return judge(scores, operations(settings), labels, classes)


UNTOUCHED: Final = Operation("", "", Augmentation.off, {})
"""What leaves a picture as it is."""


def judge(
    scores: Callable[[Operation], Float[np.ndarray, "pictures classes"]],
    looked_at: Sequence[Operation],
    labels: Int64[np.ndarray, "pictures"],
    classes: Sequence[str],
) -> tuple[Finding, ...]:
    """Apply the rule of `check` to a model's answers.

    Args:
        scores: probabilities or logits of the pictures after an operation; `UNTOUCHED`
            is asked for first.
        looked_at: the operations.
        labels: true classes.
        classes: names.

    Returns:
        A finding for each operation, direction and class that has pictures.
    """
    before = _read(scores(UNTOUCHED))
    least = _least_sure(before, labels, len(classes))
    measured: list[Finding] = []
    chances: list[tuple[float, float]] = []
    for operation in looked_at:
        after = _read(scores(operation))
        for label in np.unique(labels).tolist():
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
    if harder < LEVEL:
        return "hard"
    right = round(finding.clean * finding.pictures)
    if 0.5**right * (len(classes) - 1) * tests >= LEVEL:
        return "too few"
    return "harmless"


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
