"""Turn probabilities and true classes into scores, each with a 95 % interval.

Accuracy and recall are proportions and get Wilson's interval (1927). Everything
else gets the percentile bootstrap (Efron, 1979): it stays within a score's range
and follows its skew. BCa would add a jackknife over all pictures to correct a
second-order error, which at the sizes where it shows is smaller than that of the
bootstrap itself; few groups are flagged instead (`Scores.trustworthy`).

Where pictures come in groups (a patient, a site), whole groups are resampled.
For proportions Wilson's interval over the pictures is then the least that is
claimed: a bootstrap of answers that are all right is a point.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Float64, Int64

from sevenfold.errors import DataError

BINS = 15
FEWEST_GROUPS = 10
FEWEST_PICTURES = 60
"""Under this many pictures a class is too few to judge: Wilson's half-width at 0.8 is ±0.1."""

_Z = 1.959963984540054  # 97.5 % point of the normal distribution
_TINY = np.finfo(np.float64).eps
_DRAWS = 1000  # of the right answers, for the calibration error expected by chance
_CHUNK = 200_000  # draws held at a time: they stay in a core's cache, 3 times faster than 2 million
_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "calibration_error")

Array = Float64[np.ndarray, "..."]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Hold a value and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Hold how one class fares.

    Args:
        label: the class.
        pictures: how many there are of it. Without any, recall is 0 from 0 to 1.
        recall: share of its pictures that are answered right.
        precision: share of its answers that are right; 0 where it is never answered.
        f1: their harmonic mean.
        too_few: under 60 pictures, too few to judge.
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


def wilson(right: int, trials: int) -> Estimate:
    """Bound a proportion by Wilson's score interval (Wilson, 1927).

    Example:
        >>> e = wilson(8, 10)
        >>> round(e.low, 3), round(e.high, 3)
        (0.49, 0.943)
    """
    if trials == 0:
        return Estimate(0.0, 0.0, 1.0)
    share = right / trials
    scale = 1 + _Z**2 / trials
    centre = (share + _Z**2 / (2 * trials)) / scale
    half = _Z / scale * np.sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2))
    low, high = min(share, centre - half), max(share, centre + half)
    return Estimate(share, float(max(0.0, low)), float(min(1.0, high)))


def confusion(
    answers: Int64[np.ndarray, " pictures"], targets: Int64[np.ndarray, " pictures"], classes: int
) -> Int64[np.ndarray, "classes classes"]:
    """Count pictures by true class (rows) and answer (columns)."""
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (targets, answers), 1)
    return table


def nll(
    probabilities: Float64[np.ndarray, "pictures classes"],
    targets: Int64[np.ndarray, " pictures"],
) -> float:
    """Average the negative log-likelihood in nats; a probability of 0 counts as 2.2e-16."""
    return float(losses(probabilities, targets).mean())


def losses(
    probabilities: Float64[np.ndarray, "pictures classes"],
    targets: Int64[np.ndarray, " pictures"],
) -> Float64[np.ndarray, " pictures"]:
    """Return each picture's negative log-likelihood in nats, see `nll`."""
    true = probabilities[np.arange(len(probabilities)), targets]
    return np.asarray(-np.log(np.clip(true, _TINY, 1.0)))


def calibration_error(
    probabilities: Float64[np.ndarray, "pictures classes"],
    targets: Int64[np.ndarray, " pictures"],
    *,
    seed: int = 0,
) -> float:
    """Measure how far confidence is from accuracy, beyond what chance explains.

    ECE = Σ over bins |Σ in the bin (confidence - right)| / pictures, over 15 bins of
    equal mass on the confidence in the answer (Naeini et al., 2015). From it we take
    its mean when the right answers are drawn from the probabilities themselves, with
    0 as the floor: on a few hundred pictures the plain ECE is mostly noise. Equal
    confidences share a bin, so the order of the pictures has no effect.

    Args:
        probabilities: rows sum to 1.
        targets: true classes.
        seed: of the draws.
    """
    return max(0.0, _Calibration.of(probabilities, targets, seed).excess)


def worst_mistakes(
    probabilities: Float64[np.ndarray, "pictures classes"],
    targets: Int64[np.ndarray, " pictures"],
    limit: int,
) -> Int64[np.ndarray, " mistakes"]:
    """Find the wrong answers, the most confident first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != targets)
    confidence = probabilities[wrong].max(axis=1)
    return wrong[np.argsort(-confidence, kind="stable")][:limit]


def score(
    probabilities: Float64[np.ndarray, "pictures classes"],
    targets: Int64[np.ndarray, " targets"],
    classes: Sequence[str],
    *,
    groups: Sequence[str] = (),
    seed: int = 0,
    resamples: int = 2000,
) -> Scores:
    """Score probabilities against the truth.

    Args:
        probabilities: rows sum to 1; the answer is the first of the highest.
        targets: true classes, as indices into `classes`.
        classes: the names of the columns.
        groups: the group of each picture; none, or all different, where pictures
            are independent.
        seed: of the resampling.
        resamples: of the bootstrap.

    Raises:
        DataError: no pictures, or shapes, probabilities or targets that do not fit.
    """
    p = _checked(probabilities, targets, len(classes), groups)
    names, member = np.unique(np.array(groups, dtype=np.str_), return_inverse=True)
    count = len(names) if groups else len(p)
    if count == len(p):
        member = np.arange(len(p))
    sample = _Sample(p, targets, member, count, _Calibration.of(p, targets, seed))
    point, _ = sample.metrics(np.ones((1, count), dtype=np.int64))
    spread, recalls = _bootstrap(sample, np.random.default_rng(seed), resamples)
    value = {name: float(point[name][0]) for name in _METRICS}
    estimates = {name: _percentiles(value[name], spread[name]) for name in _METRICS}
    estimates["calibration_error"] = _calibration_interval(
        sample.calibration, spread["calibration_error"]
    )

    table = confusion(p.argmax(axis=1), targets, len(classes))
    grouped = count < len(p)

    def proportion(right: int, trials: int, resampled: Array) -> Estimate:
        exact = wilson(right, trials)
        return _hull(exact, _percentiles(exact.value, resampled)) if grouped else exact

    estimates["accuracy"] = proportion(int(table.trace()), len(p), spread["accuracy"])
    each = tuple(
        _class_score(name, table, k, proportion(int(table[k, k]), int(table[k].sum()), column))
        for k, (name, column) in enumerate(zip(classes, recalls.T, strict=True))
    )
    for name in ("balanced_accuracy", "macro_f1"):
        estimates[name] = _as_unsure_as(estimates[name], each)
    estimates["calibration_error"] = _as_unsure(
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
    estimates: dict[str, Estimate] = {name: getattr(scores, name) for name in _METRICS}
    return {
        **{name: estimate.value for name, estimate in estimates.items()},
        "pictures": scores.pictures,
        "groups": scores.groups,
        "trustworthy": scores.trustworthy,
        "intervals": {name: [e.low, e.high] for name, e in estimates.items()},
    }


def fit_temperature(
    logits: Float64[np.ndarray, "pictures classes"],
    targets: Int64[np.ndarray, " pictures"],
    weights: Float64[np.ndarray, " pictures"] | None = None,
) -> float:
    """Find the temperature T that makes softmax(logits / T) the most likely.

    The negative log-likelihood is convex in 1/T, so its slope has one change of
    sign, found by bisection on a log scale (Guo et al., 2017, arXiv 1706.04599).
    Where all answers are right it has none, and all would seem certain: there they are
    made no surer than (n + 1) / (n + 2) on average, by the rule of succession.

    Args:
        logits: finite.
        targets: true classes.
        weights: of the pictures, at least 0; equal where not given.

    Returns:
        A temperature from 0.05 to 20; 1 where every temperature is as good.

    Raises:
        DataError: no pictures, or logits that are not finite.
    """
    if len(logits) == 0 or not np.isfinite(logits).all():
        raise DataError(
            f"cannot fit a temperature to {len(logits)} pictures with these logits",
            "give at least one picture and finite logits",
        )
    z = np.asarray(logits, dtype=np.float64)
    z = z - z.max(axis=1, keepdims=True)
    true = z[np.arange(len(z)), targets]
    share = np.full(len(z), 1.0) if weights is None else weights

    def slope(sharpness: float) -> float:
        e = np.exp(z * sharpness)
        return float(share @ ((e * z).sum(axis=1) / e.sum(axis=1) - true))

    def sureness(sharpness: float) -> float:
        return float(share @ (1 / np.exp(z * sharpness).sum(axis=1))) / float(share.sum())

    if slope(1.0) == 0:
        return 1.0
    # Only without a tie for the first place: a tie is no right answer, however sharp.
    rivals = np.where(np.arange(z.shape[1]) == targets[:, None], -np.inf, z).max(axis=1)
    separable = bool((true > rivals).all())
    limit = (len(z) + 1) / (len(z) + 2)
    if separable and sureness(1.0) >= limit:
        return 1.0
    low, high = np.log(1 / 20), np.log(20)
    for _ in range(50):
        middle = (low + high) / 2
        sharp = np.exp(middle)
        beyond = sureness(sharp) > limit if separable else slope(sharp) > 0
        low, high = (low, middle) if beyond else (middle, high)
    return float(np.clip(np.exp(-(low + high) / 2), 0.05, 20))


def log_loss(
    logits: Float[np.ndarray, "pictures classes"], targets: Int64[np.ndarray, " pictures"]
) -> Float64[np.ndarray, " pictures"]:
    """Return each picture's negative log-likelihood in nats, of its logits."""
    precise = np.asarray(logits, dtype=np.float64)
    precise = precise - precise.max(axis=1, keepdims=True)
    true = precise[np.arange(len(targets)), targets]
    return np.asarray(np.log(np.exp(precise).sum(axis=1)) - true)


def calibrated_losses(
    logits: Float[np.ndarray, "pictures classes"], targets: Int64[np.ndarray, " pictures"]
) -> Float64[np.ndarray, " pictures"]:
    """Return each picture's negative log-likelihood at the temperature that fits them best.

    Args:
        logits: finite.
        targets: true classes.

    Raises:
        DataError: no pictures, or logits that are not finite.

    Example:
        >>> logits = np.array([[0.0, 9.0], [9.0, 0.0], [0.0, 9.0]])
        >>> calibrated_losses(logits, np.array([1, 1, 1])).round(2).tolist()
        [0.41, 1.1, 0.41]
    """
    precise = np.asarray(logits, dtype=np.float64)
    return log_loss(precise / fit_temperature(precise, targets), targets)


def calibrated_nll(
    logits: Float[np.ndarray, "pictures classes"], targets: Int64[np.ndarray, " pictures"]
) -> float:
    """Return the mean of `calibrated_losses`."""
    return float(calibrated_losses(logits, targets).mean())


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
        raise DataError(problem, "give one row of probabilities and one class for each picture")
    return p


@dataclass(frozen=True, eq=False)
class _Calibration:
    bins: Int64[np.ndarray, " pictures"]
    gaps: Float64[np.ndarray, " pictures"]  # confidence minus right
    ece: float
    excess: float  # over its mean under perfect calibration

    @staticmethod
    def of(p: Array, targets: Int64[np.ndarray, " pictures"], seed: int) -> "_Calibration":
        confidence = p.max(axis=1)
        ranked = np.sort(confidence)
        ranks = np.searchsorted(ranked, confidence) + np.searchsorted(ranked, confidence, "right")
        bins = np.minimum(ranks * BINS // (2 * len(p)), BINS - 1)
        gaps = confidence - (p.argmax(axis=1) == targets)
        ece = np.abs(np.bincount(bins, gaps)).sum() / len(p)
        by_bin = np.argsort(bins, kind="stable")
        starts = np.unique(bins[by_bin], return_index=True)[1]
        sorted_confidence = confidence[by_bin]
        rng = np.random.default_rng(seed)
        total = 0.0
        for rows in _chunks(_DRAWS, len(p)):
            right = rng.random((rows, len(p)), dtype=np.float32) < sorted_confidence
            sums = np.add.reduceat(sorted_confidence - right, starts, axis=1)
            total += np.abs(sums).sum() / len(p)
        return _Calibration(bins, gaps, float(ece), float(ece - total / _DRAWS))


class _Sample:
    # The sums of each group that every score is made of, so that a resample of
    # groups costs one weighted sum and never touches a picture's probabilities.

    def __init__(
        self,
        p: Array,
        targets: Int64[np.ndarray, " pictures"],
        member: Int64[np.ndarray, " pictures"],
        count: int,
        calibration: _Calibration,
    ) -> None:
        answers, self.classes, self.count = p.argmax(axis=1), p.shape[1], count
        self.calibration = calibration
        self.outcomes = _counter(targets * 2 + (answers == targets), member, 2 * self.classes)
        self.answered = _counter(answers, member, self.classes)
        cells = np.bincount(
            member * BINS + calibration.bins, calibration.gaps, minlength=count * BINS
        )
        lost = np.bincount(member, losses(p, targets), minlength=count)
        self.sums = np.column_stack([lost, cells.reshape(count, BINS)])

    def metrics(
        self, weights: Int64[np.ndarray, "resamples groups"]
    ) -> tuple[dict[str, Array], Float64[np.ndarray, "resamples classes"]]:
        outcomes = self.outcomes(weights).reshape(-1, self.classes, 2)
        right, true = outcomes[:, :, 1], outcomes.sum(axis=2)
        pictures = true.sum(axis=1)
        with np.errstate(invalid="ignore"):  # a class that a resample lacks has no score
            recall = right / true
            f1 = 2 * right / (true + self.answered(weights))
        sums = weights.astype(np.float64) @ self.sums
        return {
            "accuracy": right.sum(axis=1) / pictures,
            "balanced_accuracy": np.nanmean(recall, axis=1),
            "macro_f1": np.nanmean(f1, axis=1),
            "nll": sums[:, 0] / pictures,
            "calibration_error": np.abs(sums[:, 1:]).sum(axis=1) / pictures,
        }, recall


def _counter(
    keys: Int64[np.ndarray, " pictures"], member: Int64[np.ndarray, " pictures"], size: int
) -> Callable[[Int64[np.ndarray, "resamples groups"]], Int64[np.ndarray, "resamples keys"]]:
    order = np.argsort(keys, kind="stable")
    present, starts = np.unique(keys[order], return_index=True)
    columns = member[order]

    def count(
        weights: Int64[np.ndarray, "resamples groups"],
    ) -> Int64[np.ndarray, "resamples keys"]:
        counts = np.zeros((len(weights), size), dtype=np.int64)
        counts[:, present] = np.add.reduceat(weights[:, columns], starts, axis=1)
        return counts

    return count


def _bootstrap(
    sample: _Sample, rng: np.random.Generator, resamples: int
) -> tuple[dict[str, Array], Float64[np.ndarray, "resamples classes"]]:
    parts = []
    for rows in _chunks(resamples, max(sample.count, len(sample.calibration.bins))):
        drawn = rng.integers(0, sample.count, (rows, sample.count))
        drawn += np.arange(rows)[:, None] * sample.count
        weights = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        parts.append(sample.metrics(weights))
    spread = {name: np.concatenate([metrics[name] for metrics, _ in parts]) for name in _METRICS}
    return spread, np.concatenate([recalls for _, recalls in parts])


def _chunks(total: int, width: int) -> Iterator[int]:
    rows = max(1, _CHUNK // width)
    for start in range(0, total, rows):
        yield min(rows, total - start)


def _percentiles(value: float, resampled: Array) -> Estimate:
    known = resampled[np.isfinite(resampled)]
    if len(known) == 0:
        return Estimate(value, 0.0, 1.0)
    low, high = np.quantile(known, [0.025, 0.975])
    return _hull(Estimate(value, value, value), Estimate(value, float(low), float(high)))


def _calibration_interval(calibration: "_Calibration", resampled: Array) -> Estimate:
    # A resample adds its own noise to what noise has raised already, so resamples are
    # centred anew. What chance adds is most under perfect calibration and fades with
    # the true error; the resamples' own rise is a low guess of it. One gives the lower
    # limit, the other the upper one.
    value, rise = max(0.0, calibration.excess), resampled.mean() - calibration.ece
    low, high = np.quantile(resampled - resampled.mean(), [0.025, 0.975])
    upper = max(calibration.excess, calibration.ece - max(0.0, rise)) + high
    lower = min(value, max(0.0, calibration.excess + low))
    return Estimate(value, float(lower), float(max(value, upper)))


def _as_unsure_as(mean: Estimate, classes: Sequence[ClassScore]) -> Estimate:
    """Widen the interval of a mean over classes to what their recalls' intervals leave open.

    Half-widths add in squares (MOVER: Zou & Donner 2008). A bootstrap of a class whose few
    answers are all right adds none.
    """
    recalls = [one.recall for one in classes if one.pictures]
    below, above = (
        math.sqrt(sum(width**2 for width in widths)) / len(recalls)
        for widths in (
            [one.value - one.low for one in recalls],
            [one.high - one.value for one in recalls],
        )
    )
    value = mean.value
    return _hull(mean, Estimate(value, max(0.0, value - below), min(1.0, value + above)))


def _as_unsure(error: Estimate, confidence: float, accuracy: Estimate) -> Estimate:
    """Raise the upper end to what the accuracy leaves open.

    The mean confidence is off by no more than the error is, and the accuracy may be at
    either end of its interval.
    """
    apart = max(confidence - accuracy.low, accuracy.high - confidence)
    return Estimate(error.value, error.low, max(error.high, apart))


def _hull(first: Estimate, second: Estimate) -> Estimate:
    return Estimate(first.value, min(first.low, second.low), max(first.high, second.high))


def _class_score(
    label: str, table: Int64[np.ndarray, "classes classes"], k: int, recall: Estimate
) -> ClassScore:
    true, answered, right = int(table[k].sum()), int(table[:, k].sum()), int(table[k, k])
    return ClassScore(
        label=label,
        pictures=true,
        recall=recall,
        precision=right / answered if answered else 0.0,
        f1=2 * right / (true + answered) if true + answered else 0.0,
        too_few=true < FEWEST_PICTURES,
    )
