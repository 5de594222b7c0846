"""Judge a practice by paired repetitions: corrected t, sign flips, Holm, and a verdict."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Float64

from sevenfold.errors import DataError
from sevenfold.evaluate.student import t_quantile, t_tails

NO_DIFFERENCE: Final = 0.005
"""An effect whose whole interval is within this of 0 is none: half a point."""

SIGNIFICANT: Final = 0.05
TEST_TO_TRAIN: Final = 1 / 5  # six folds: one is judged, five train, and none tunes
FREEDOM: Final = 6
"""Degrees of freedom by which the power of six repetitions comes out as it is in simulations:
pictures lend some (`Expected`), and a spread that came out too large takes others."""
MOST_FLIPPED: Final = 20
"""Repetitions whose signs can all be flipped: a million ways."""

Verdict = Literal["helps", "hurts", "no difference", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Effect:
    """Hold a mean difference over repetitions with its 95 % interval and p value.

    Args:
        value: the mean difference, second minus first.
        low: of the interval.
        high: of the interval.
        p: two-sided, that there is none.
    """

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, slots=True)
class Expected:
    """Hold how much the choice of pictures alone makes a repetition's difference vary.

    Args:
        variance: of one difference.
        freedom: most degrees of freedom that it may lend, 1 or more; with few groups of
            pictures, one less than groups.
    """

    variance: float
    freedom: int = 10


def corrected_t(
    differences: Sequence[float],
    *,
    test_to_train: float = TEST_TO_TRAIN,
    pictures: Expected | None = None,
) -> Effect:
    r"""Judge paired differences of repetitions whose training pictures overlap.

    $$e = \tilde s \sqrt{1/J + n_{test}/n_{train}}$$

    The variance of the mean is $s^2 (1/J + n_{test}/n_{train})$, not $s^2/J$ (Nadeau & Bengio,
    2003), with J - 1 degrees of freedom. No unbiased estimate of it exists (Bengio &
    Grandvalet, 2004).

    Six repetitions say little of their own variance, and $s$ is often too small or too large by
    half. Where it is known how much the choice of pictures alone makes repetitions differ,
    $\tilde s^2 = \max(s^2, v)$ has `Expected.freedom` times $(v/\tilde s^2)^3$ more degrees of
    freedom: all where repetitions differ no more than pictures explain, none where their seeds
    and training pictures rule. The idea of a variance held against a second guess is Smyth's
    (2004, Statistical Applications in Genetics and Molecular Biology 3, 3); the weight is ours,
    the most powerful of those that kept 94 % coverage
    (benchmarks/results/evidence_simulations.jsonl).

    Args:
        differences: of the J repetitions, at least 2; at least 1 with `pictures`.
        test_to_train: pictures judged over pictures trained on, 1/5 for six folds of which five
            train.
        pictures: the variance of one difference that the choice of pictures explains.

    Raises:
        DataError: too few repetitions, or one that is not finite.
    """
    error, freedom = standard_error(differences, test_to_train=test_to_train, pictures=pictures)
    mean = float(np.mean(differences))
    half = t_quantile(0.975, freedom) * error
    p = t_tails(mean / error, freedom) if error > 0 else float(mean == 0)
    return Effect(mean, mean - half, mean + half, p)


def standard_error(
    differences: Sequence[float],
    *,
    test_to_train: float = TEST_TO_TRAIN,
    pictures: Expected | None = None,
) -> tuple[float, int]:
    """Return the standard error of `corrected_t` and its degrees of freedom.

    Raises:
        DataError: see there.
    """
    values = _repetitions(differences, fewest=1 if pictures else 2)
    spread, more = _held(values, pictures)
    return spread * math.sqrt(1 / len(values) + test_to_train), len(values) - 1 + more


def _held(
    values: Float64[np.ndarray, "repetitions"], pictures: Expected | None
) -> tuple[float, int]:
    """Return the deviation of a difference, and the degrees of freedom that pictures add."""
    own = _spread(values)
    if pictures is None:
        return own, 0
    variance = max(own**2, pictures.variance)
    if variance == 0:
        return 0.0, pictures.freedom
    more = math.floor(pictures.freedom * (pictures.variance / variance) ** 3)
    return math.sqrt(variance), more if len(values) > 1 else max(1, more)


def _repetitions(differences: Sequence[float], fewest: int) -> Float64[np.ndarray, "repetitions"]:
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < fewest or not np.isfinite(values).all():
        raise DataError(
            f"{len(values)} repetitions with differences {values.tolist()} cannot be judged",
            f"give at least {fewest}, all finite",
        )
    return values


def _spread(values: Float64[np.ndarray, "repetitions"]) -> float:
    # Equal values have no spread, whatever their mean is rounded to.
    return float(values.std(ddof=1)) if np.ptp(values) > 0 else 0.0


def sign_flip(differences: Sequence[float]) -> float:
    """Test by all 2ⁿ flips of signs whether differences are centred on 0, two-sided.

    The share of flips whose sum is at least as far from 0 as the one observed (Fisher, 1935).
    Five repetitions can never reach 0.05, six can: 2/64.

    Raises:
        DataError: no repetition, or over 20, which are too many flips to try.

    Example:
        >>> sign_flip([0.01, 0.02, 0.01, 0.03, 0.02, 0.01])
        0.03125
    """
    values = _repetitions(differences, fewest=1)
    if len(values) > MOST_FLIPPED:
        raise DataError(
            f"{len(values)} repetitions have too many flips of signs",
            f"give at most {MOST_FLIPPED}",
        )
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    slack = 1e-12 * np.abs(values).sum()  # sums that are equal but for rounding
    return float((np.abs(sums) >= abs(values.sum()) - slack).mean())


def holm(p_values: Sequence[float], *, family: int = 0) -> tuple[float, ...]:
    """Adjust p values for being several, by Holm's step-down rule (Holm, 1979).

    Of a larger family, the tests that are made elsewhere count as if none of them showed
    anything: in whatever parts the family is tested, each at the same level, the chance that any
    claim of any part is wrong stays below it.

    Args:
        p_values: of the tests that are made here.
        family: how many tests there are in all, where more than these.

    Returns:
        The adjusted p values, in the order given.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        (0.03, 0.06, 0.06)
        >>> holm([0.01], family=7)
        (0.07,)
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    tests = max(family, len(p_values))
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (tests - rank) * p_values[place]))
        adjusted[place] = highest
    return tuple(adjusted)


def verdict(effect: float, low: float, high: float, p_holm: float, p_flip: float) -> Verdict:
    """Say in a word what a practice does.

    An effect that is surely within half a point is no difference, even if it is surely
    not 0. Any other claim needs both tests.

    Args:
        effect: gain by the practice, as a fraction.
        low: of its interval.
        high: of its interval.
        p_holm: of the corrected t test, adjusted by `holm`.
        p_flip: of the sign-flip test, unadjusted: with six repetitions it cannot be less
            than 0.031.
    """
    if max(-low, high) <= NO_DIFFERENCE:
        return "no difference"
    if effect == 0 or max(p_holm, p_flip) > SIGNIFICANT:
        return "cannot tell"
    return "helps" if effect > 0 else "hurts"


def reach(claims: int) -> float:
    r"""Return how many standard errors an effect must have to be claimed in four of five studies.

    $$t_{1 - 0.05 / 2m} + t_{0.8}$$

    That is Holm's first step of m claims, whose later steps ask for less, and the power of the t
    test, at `FREEDOM`. The sign-flip test is left out: it seldom refuses what passes the first.

    Args:
        claims: m, tested together.

    Example:
        >>> round(reach(1), 2), round(reach(7), 2)
        (3.35, 4.9)
    """
    return t_quantile(1 - SIGNIFICANT / (2 * claims), FREEDOM) + t_quantile(0.8, FREEDOM)


def pictures_to_claim(
    pictures: int, error: float, *, claims: int = 1, difference: float = 0.01
) -> int:
    r"""Count the pictures by which an effect would be claimed in about four of five studies.

    $$n\,(e\,r/d)^2$$

    Args:
        pictures: $n$, judged so far, all repetitions together.
        error: $e$, from `standard_error`.
        claims: tested together; they decide $r$, see `reach`.
        difference: $d$, the effect, one point by default.
    """
    return math.ceil(pictures * (error * reach(claims) / difference) ** 2)
