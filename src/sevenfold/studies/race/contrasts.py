"""Judge what a race found: intervals over the seeds, and differences to one contestant."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sevenfold.paired import SIGNIFICANT, t_quantile

_MOST_FREEDOM: Final = 200  # from which on Student's quantiles are the normal's within 1 %


@dataclass(frozen=True)
class Contrast:
    r"""Hold how much better a contestant is than the reference, and how surely.

    Args:
        value: the difference.
        seeds: its standard error over seeds.
        freedom: degrees of freedom of that.
        pictures: its standard error by the choice of the judged pictures; 0: not known.
        groups: of the judged pictures, 1 or more.
    """

    value: float
    seeds: float
    freedom: int
    pictures: float
    groups: int

    def half(self, level: float) -> float:
        r"""Return the half-width of the interval at a level of error.

        $$h = \sqrt{(t_{f}\,e_s)^2 + (t_{G-1}\,e_p)^2}$$

        Half-widths add in squares (MOVER: Zou & Donner 2008), so that an error of few
        degrees of freedom is not lent the many of the other one.

        Args:
            level: share of errors, above 0 to below 1.
        """
        point = 1 - level / 2
        lent = max(1, min(self.groups - 1, _MOST_FREEDOM))
        return math.hypot(
            t_quantile(point, self.freedom) * self.seeds,
            t_quantile(point, lent) * self.pictures,
        )

    @property
    def interval(self) -> dict[str, float]:
        """Return the difference with its 95 % interval."""
        half = self.half(SIGNIFICANT)
        return {"mean": self.value, "low": self.value - half, "high": self.value + half}


def against(
    reference: str,
    values: Mapping[str, Sequence[float]],
    *,
    grain: float = 0.0,
    pictures: Mapping[str, float] | None = None,
    groups: int = 1,
) -> dict[str, Contrast]:
    r"""Compare every contestant with one, paired by seed.

    $$e_s = \sqrt{\max(s^2, 2 m, g^2 / 6) / n}$$

    Three seeds say little of the spread $s$ of a difference, and with its own two degrees of
    freedom next to nothing could be told apart. So it is at least that of the race: $m$ is
    what contestant and seed, each by itself, leave unexplained of all final figures (the
    residual mean square of randomised blocks, Fisher 1935), with (k - 1)(n - 1) degrees of
    freedom, as Dunnett (1955) compares treatments with a control. Seeds that answer equally
    many pictures rightly have no spread, and yet are not known better than to the grain $g$
    of one picture; a difference is rounded twice.

    Args:
        reference: what is compared with, of `values`.
        values: final figures by contestant, in order of the same seeds, at least two.
        grain: steps that the figures go in.
        pictures: standard errors by contestant, from `judging.errors`; None: not known.
        groups: of the judged pictures, 1 or more.

    Returns:
        Contrasts by contestant, but for the reference.
    """
    names = list(values)
    table = np.array([values[name] for name in names], np.float64)
    contestants, seeds = table.shape
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    freedom = (contestants - 1) * (seeds - 1)
    pooled = 2 * float((rest**2).sum()) / freedom
    changes = table - table[names.index(reference)]
    found = {}
    for name, change in zip(names, changes, strict=True):
        if name != reference:
            variance = max(float(change.var(ddof=1)), pooled, grain**2 / 6)
            found[name] = Contrast(
                float(change.mean()),
                math.sqrt(variance / seeds),
                min(freedom, _MOST_FREEDOM),
                (pictures or {}).get(name, 0.0),
                groups,
            )
    return found


def least(found: Mapping[str, Contrast]) -> dict[str, float]:
    """Return the smallest difference that would have been told apart, for each contrast.

    Holm's rule (1979), without p values: of the m contrasts that are left, those beyond their
    interval at 5 % / m are told apart; then the others have m less of these to share with.

    Returns:
        Half-widths by contestant: a contrast is told apart where its value is beyond.
    """
    widths: dict[str, float] = {}
    left = dict(found)
    while left:
        widths |= {name: one.half(SIGNIFICANT / len(left)) for name, one in left.items()}
        within = {name: one for name, one in left.items() if abs(one.value) <= widths[name]}
        if len(within) == len(left):
            break
        left = within
    return widths


def interval(
    values: Sequence[float],
    grain: float = 0.0,
    lowest: float = -math.inf,
    highest: float = math.inf,
) -> dict[str, float]:
    r"""Return the mean over seeds and its 95 % interval by Student's t.

    $$e = \max\left(s, g / \sqrt{12}\right) / \sqrt{n}$$

    Args:
        values: of at least two seeds.
        grain: $g$, steps that the values go in; rounding to them has this deviation alone.
        lowest: that a value can be; the interval ends there.
        highest: that a value can be.

    Example:
        >>> interval([0.5, 0.5])
        {'mean': 0.5, 'low': 0.5, 'high': 0.5}
    """
    found = np.asarray(values, np.float64)
    mean = float(found.mean())
    spread = float(found.std(ddof=1)) if np.ptp(found) > 0 else 0.0
    error = max(spread, grain / math.sqrt(12)) / math.sqrt(len(found))
    half = t_quantile(1 - SIGNIFICANT / 2, len(found) - 1) * error
    return {"mean": mean, "low": max(lowest, mean - half), "high": min(highest, mean + half)}
