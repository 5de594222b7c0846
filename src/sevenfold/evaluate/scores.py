"""Score probabilities against the truth: every score with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from sevenfold.errors import DataError, suggestion
from sevenfold.evaluate.calibration import (
    Calibration,
    as_unsure,
    calibration_interval,
)
from sevenfold.evaluate.estimate import Array, Estimate, as_unsure_as, hull, widened, wilson
from sevenfold.evaluate.likelihood import confusion
from sevenfold.evaluate.resampling import METRICS, Sample, bootstrap, percentiles

_CURE = "give one row of probabilities and one class for each picture"

FEWEST_GROUPS = 10
FEWEST_PICTURES = 60
"""Under this many pictures a class is too few to judge: Wilson's half-width at 0.8 is ±0.1."""


def too_few(pictures: int, groups: int) -> bool:
    """Tell whether a class's pictures, in so many groups, are too few to judge it by."""
    return pictures < FEWEST_PICTURES or groups < FEWEST_GROUPS


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Hold how one class fares.

    Args:
        label: the class.
        pictures: how many there are of it. Without any, recall is 0 from 0 to 1.
        recall: share of its pictures that are answered right.
        precision: share of its answers that are right; 0 where it is never answered.
        f1: their harmonic mean.
        too_few: under 60 pictures, or in under 10 groups: too few to judge.
    """

    label: str
    pictures: int
    recall: Estimate
    precision: float
    f1: float
    too_few: bool


@dataclass(frozen=True, slots=True)
class Scores:
    """Hold all scores of one set of pictures.

    Args:
        pictures: how many were scored.
        groups: how many groups they form; as many as pictures where none were given.
        accuracy: share of right answers.
        balanced_accuracy: mean recall of the classes that occur.
        macro_f1: mean F1 of the classes that occur or are answered.
        nll: mean negative log-likelihood, in nats.
        calibration_error: see `calibration_error`.
        classes: one score for each class.
        confusion: pictures by true class (rows) and answer (columns); not compared by `==`.
        trustworthy: False where there are under 10 groups: no interval holds then.
    """

    pictures: int
    groups: int
    accuracy: Estimate
    balanced_accuracy: Estimate
    macro_f1: Estimate
    nll: Estimate
    calibration_error: Estimate
    classes: tuple[ClassScore, ...]
    confusion: Int64[np.ndarray, "classes classes"] = field(compare=False)
    trustworthy: bool


def score(
    probabilities: Float64[np.ndarray, "pictures classes"],
    targets: Sequence[int] | Sequence[str] | Shaped[np.ndarray, " targets"],
    classes: Sequence[str],
    *,
    groups: Sequence[str] | Shaped[np.ndarray, " groups"] = (),
    seed: int = 0,
    resamples: int = 2000,
) -> Scores:
    """Score probabilities against the truth.

    The order is (probabilities, targets), where scikit-learn's metrics have the truth first.

    Args:
        probabilities: rows sum to 1; the answer is the first of the highest.
        targets: true classes, by name or as indices into `classes`.
        classes: the names of the columns.
        groups: the group of each picture; none, or all different, where pictures
            are independent.
        seed: of the resampling.
        resamples: of the bootstrap.

    Raises:
        DataError: no pictures, or shapes, probabilities or targets that do not fit.

    Example:
        >>> p = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
        >>> score(p, ["cat", "dog", "dog", "dog"], ["cat", "dog"]).accuracy.value
        0.75
    """
    targets, groups = _indices(targets, classes), [str(name) for name in groups]
    p = _checked(probabilities, targets, len(classes), groups)
    names, member = np.unique(np.array(groups, dtype=np.str_), return_inverse=True)
    count = len(names) if groups else len(p)
    if count == len(p):
        member = np.arange(len(p))
    sample = Sample(p, targets, member, count, Calibration.of(p, targets, seed))
    point, recall = sample.metrics(np.ones((1, count), dtype=np.int64))
    spread, recalls = bootstrap(sample, np.random.default_rng(seed), resamples)
    value = {name: float(point[name][0]) for name in METRICS}
    most = {name: np.inf if name == "nll" else 1.0 for name in METRICS}
    spread = {
        name: np.clip(widened(value[name], drawn, count), 0, most[name])
        for name, drawn in spread.items()
    }
    pairs = np.unique(targets * count + member)  # of class and group
    held = np.bincount(pairs // count, minlength=len(classes)).tolist()
    spread_of = [widened(recall[0, k], recalls[:, k], of) for k, of in enumerate(held)]
    recalls = np.clip(np.stack(spread_of, axis=1), 0, 1)
    estimates = {name: percentiles(value[name], spread[name]) for name in METRICS}
    estimates["calibration_error"] = calibration_interval(
        sample.calibration, spread["calibration_error"]
    )

    table = confusion(p.argmax(axis=1), targets, len(classes))
    grouped = count < len(p)

    def proportion(right: int, trials: int, resampled: Array) -> Estimate:
        exact = wilson(right, trials)
        return hull(exact, percentiles(exact.value, resampled)) if grouped else exact

    estimates["accuracy"] = proportion(int(table.trace()), len(p), spread["accuracy"])
    each = tuple(
        _class_score(
            name,
            table,
            k,
            proportion(int(table[k, k]), int(table[k].sum()), column),
            held[k],
        )
        for k, (name, column) in enumerate(zip(classes, recalls.T, strict=True))
    )
    for name in ("balanced_accuracy", "macro_f1"):
        parts = [one.recall for one in each if one.pictures]
        estimates[name] = as_unsure_as(estimates[name], parts, 0.0)
    estimates["calibration_error"] = as_unsure(
        estimates["calibration_error"], float(p.max(axis=1).mean()), estimates["accuracy"]
    )
    return Scores(
        pictures=len(p),
        groups=count,
        classes=each,
        confusion=table,
        trustworthy=not groups or count >= FEWEST_GROUPS,
        **estimates,
    )


def flat(scores: Scores) -> dict[str, object]:
    """Give the scores as plain numbers, and `intervals` as pairs, ready for JSON."""
    estimates: dict[str, Estimate] = {name: getattr(scores, name) for name in METRICS}
    return {
        **{name: estimate.value for name, estimate in estimates.items()},
        "pictures": scores.pictures,
        "groups": scores.groups,
        "trustworthy": scores.trustworthy,
        "intervals": {name: [e.low, e.high] for name, e in estimates.items()},
    }


def _indices(
    targets: Sequence[int] | Sequence[str] | Shaped[np.ndarray, " targets"], classes: Sequence[str]
) -> Int64[np.ndarray, " targets"]:
    """Return true classes, given by name or as indices, as indices."""
    held = np.asarray(targets)
    if held.ndim != 1 or (held.size and held.dtype.kind not in "biuOUT"):
        raise DataError(f"the targets are {held.dtype} {held.shape}, and no classes", _CURE)
    if held.dtype.kind not in "OUT":
        return held.astype(np.int64)
    index, labels = {name: at for at, name in enumerate(classes)}, held.tolist()
    if unknown := [label for label in labels if label not in index]:
        raise DataError(
            f"the target {unknown[0]!r} is none of the classes",
            suggestion(str(unknown[0]), map(str, classes)),
        )
    return np.array([index[label] for label in labels], dtype=np.int64)


def _checked(
    probabilities: Array,
    targets: Int64[np.ndarray, " targets"],
    classes: int,
    groups: Sequence[str],
) -> Float64[np.ndarray, "pictures classes"]:
    p = np.asarray(probabilities, dtype=np.float64)
    problem = ""
    if len(targets) == 0:
        problem = "there are no pictures to score"
    elif p.shape != (len(targets), classes) or (groups and len(groups) != len(targets)):
        problem = (
            f"{p.shape} probabilities, {len(targets)} targets, {classes} classes "
            f"and {len(groups)} groups do not fit together"
        )
    elif not ((p >= 0).all() and (np.abs(p.sum(axis=1) - 1) < 1e-3).all()):
        problem = "the probabilities of a picture are not from 0 to 1 with the sum 1"
    elif targets.min() < 0 or targets.max() >= classes:
        problem = f"a target is outside the {classes} classes"
    if problem:
        raise DataError(problem, _CURE)
    return p


def _class_score(
    label: str, table: Int64[np.ndarray, "classes classes"], k: int, recall: Estimate, groups: int
) -> ClassScore:
    true, answered, right = int(table[k].sum()), int(table[:, k].sum()), int(table[k, k])
    return ClassScore(
        label=label,
        pictures=true,
        recall=recall,
        precision=right / answered if answered else 0.0,
        f1=2 * right / (true + answered) if true + answered else 0.0,
        too_few=too_few(true, groups),
    )
