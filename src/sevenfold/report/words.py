"""Read facts that may be missing, and write numbers so that they say no more than they know."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from sevenfold.plots import MISSING, plain

Facts = Mapping[str, Any]

THIN = "\N{NARROW NO-BREAK SPACE}"
PHOTO = "a 640\N{MULTIPLICATION SIGN}480 picture"  # what latencies are measured on


class Range(NamedTuple):
    """Hold a value and the ends of its interval; NaN where the facts have none."""

    value: float
    low: float
    high: float


class Pair(NamedTuple):
    """Hold two classes that are confused: `pictures` of the `total` pictures of `truth`."""

    truth: str
    answer: str
    pictures: int
    total: int


def part(facts: Facts, key: str) -> Facts:
    """Return a mapping inside the facts; an empty one if it is missing."""
    value = facts.get(key)
    return value if isinstance(value, Mapping) else {}


def rows(facts: Facts, key: str) -> list[Facts]:
    """Return the mappings in a list inside the facts; an empty list if it is missing."""
    value = facts.get(key)
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def number(value: object) -> float:
    """Return a number; NaN for anything that is not one."""
    return (
        float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    )


def positive(value: object) -> float:
    """Return a number above zero; 0 for anything else."""
    found = number(value)
    return found if 0 < found < math.inf else 0.0


def estimate(facts: Facts, key: str) -> Range:
    """Return an estimate inside the facts; NaN for each number that is missing."""
    found = part(facts, key)
    return Range(*(number(found.get(name)) for name in Range._fields))


def confusion(scores: Facts) -> tuple[list[str], Int64[np.ndarray, "classes classes"]]:
    """Return the classes and their confusion matrix; both empty if they do not fit together."""
    names = [str(row.get("label", "")) for row in rows(scores, "classes")]
    try:
        counts = np.asarray(scores.get("confusion"), dtype=np.float64)
    except (TypeError, ValueError):
        counts = np.zeros(0)
    if counts.shape != (len(names), len(names)):
        return [], np.zeros((0, 0), np.int64)
    return names, np.nan_to_num(counts, posinf=0, neginf=0).clip(min=0).astype(np.int64)


def confused(scores: Facts, most: int) -> list[Pair]:
    """Return the most confused pairs of classes, the most frequent first."""
    names, counts = confusion(scores)
    wrong = counts - np.diag(np.diag(counts))
    totals = counts.sum(axis=1)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    cells = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [
        Pair(names[truth], names[answer], int(wrong[truth, answer]), int(totals[truth]))
        for truth, answer in cells
        if wrong[truth, answer] > 0
    ]


def most_common(scores: Facts) -> tuple[str, float]:
    """Return the most common class and its share: what a constant answer would score."""
    classes = rows(scores, "classes")
    total = sum(row.get("pictures", 0) for row in classes)
    if not total:
        return "", math.nan
    first = max(classes, key=lambda row: int(row.get("pictures", 0)))
    return str(first.get("label", "")), first.get("pictures", 0) / total


def named(label: object) -> str:
    """Return a label in quotation marks, isolated so that its direction changes nothing else."""
    quoted = f"\N{FIRST STRONG ISOLATE}{plain(label, 48)}\N{POP DIRECTIONAL ISOLATE}"
    return f"\N{LEFT DOUBLE QUOTATION MARK}{quoted}\N{RIGHT DOUBLE QUOTATION MARK}"


def percent(fraction: float, digits: int = 1, unit: bool = True) -> str:
    """Write a fraction as per cent; what is short of the whole is never rounded up to it.

    Example:
        >>> percent(0.99996, unit=False), percent(1.0, unit=False)
        ('>99.9', '100')
    """
    if not math.isfinite(fraction):
        return MISSING
    least = 10.0**-digits
    text = f"{100 * fraction:.{digits}f}"
    if 0 < fraction < 1 and float(text) >= 100:
        text = f">{100 - least:.{digits}f}"
    elif 0 < fraction < 1 and float(text) <= 0:
        text = f"<{least:.{digits}f}"
    elif fraction in (0, 1):
        text = f"{100 * fraction:.0f}"
    return f"{text}{THIN}%" if unit else text


def span(interval: Range) -> str:
    """Write the ends of an interval of fractions as per cent.

    Example:
        >>> span(Range(0.5, 0.421, 0.579)).replace(THIN, " ")
        '42.1 to 57.9 %'
    """
    if not math.isfinite(interval.low + interval.high):
        return MISSING
    return f"{percent(interval.low, unit=False)} to {percent(interval.high)}"


def decimals(interval: Range) -> str:
    """Write the ends of an interval of numbers that are not fractions."""
    if not math.isfinite(interval.low + interval.high):
        return MISSING
    return f"{interval.low:.3f} to {interval.high:.3f}"


def points(difference: float) -> str:
    """Write a difference of fractions in points of a per cent."""
    return f"{100 * difference:.1f} points" if math.isfinite(difference) else MISSING


def amount(value: object) -> str:
    """Write a whole number in groups of three digits."""
    found = number(value)
    return f"{found:,.0f}" if math.isfinite(found) else MISSING


def count(value: object, noun: str) -> str:
    """Write a number of things.

    Example:
        >>> count(1, "picture"), count(12345, "picture")
        ('1 picture', '12,345 pictures')
    """
    return f"{amount(value)} {noun}{'' if number(value) == 1 else 's'}"


def duration(seconds: float) -> str:
    """Write a time in the two units that matter.

    Example:
        >>> duration(3.42), duration(192), duration(7260)
        ('3.4 s', '3 min 12 s', '2 h 1 min')
    """
    if not math.isfinite(seconds):
        return MISSING
    whole = round(seconds)
    if whole < 10:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def milliseconds(value: float) -> str:
    """Write a latency with as many digits as a measurement of it deserves."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:.{0 if value >= 20 else 1 if value >= 2 else 2}f}{THIN}ms"


def megabytes(value: float) -> str:
    """Write a size, in gigabytes from a thousand megabytes on."""
    if not math.isfinite(value):
        return MISSING
    return f"{value / 1000:.1f}{THIN}GB" if value >= 1000 else f"{value:.1f}{THIN}MB"


def day(created: object) -> str:
    """Write the day and hour of an ISO time as people do; the text itself if it is none."""
    text = plain(created or "", 40)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = f" {moment.tzname()}" if moment.tzinfo else ""
    return f"{moment.day} {moment:%B %Y, %H:%M}{zone}"
