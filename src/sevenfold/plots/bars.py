"""Draw fractions and counts as bars, and a value with its interval on a full scale."""

import math
from collections.abc import Sequence

from sevenfold.plots.svg import figure, inside, per_cent, rect, written


def scale(
    value: float,
    low: float,
    high: float,
    *,
    key: str,
    title: str,
    text: str,
    baseline: float = math.nan,
    caption: str = "",
    baseline_caption: str = "",
) -> str:
    """Draw a value from 0 to 1 with its interval on a full scale, beside a baseline.

    Positions are percentages and there is no view box, so that the letters keep their size on
    any width.

    Args:
        value: fraction, 0 to 1.
        low: lower end of the interval.
        high: upper end of the interval.
        key: prefix of the ids, unique on the page.
        title: name of the figure.
        text: what it shows, for those who do not see it.
        baseline: fraction to compare with; NaN draws none.
        caption: words above the value.
        baseline_caption: words below the baseline.
    """
    parts = [rect("track", "0", 34, "100%", 8, 4)]
    parts += [rect("tick", per_cent(quarter / 4), 44, "1", 4) for quarter in (1, 2, 3)]
    if math.isfinite(value):
        parts.append(rect("fill", "0", 34, per_cent(value), 8, 4))
    if math.isfinite(low) and math.isfinite(high):
        parts.append(rect("band", per_cent(low), 28, per_cent(inside(high) - inside(low)), 20, 3))
    if math.isfinite(value):
        parts.append(rect("point", per_cent(value), 24, "3", 28, 1))
        parts.append(_words(value, 16, "strong", caption))
    if math.isfinite(baseline):
        parts.append(rect("base", per_cent(baseline), 28, "2", 34))
        parts.append(_words(baseline, 76, "against", baseline_caption))
    # The ends are named, unless the line of the baseline would cross their names.
    if not baseline < 0.1:
        parts.append(written("0 %", "0", 60, "quiet"))
    if not baseline > 0.9:
        parts.append(written("100 %", "100%", 60, "quiet", "end"))
    return figure("scale", "".join(parts), key, title, text, size='width="100%" height="84"')


def bar(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """Draw a fraction from 0 to 1 as a bar with its interval; the number stands beside it.

    It is hidden from screen readers, which get the number in the next cell.
    """
    parts = [rect("track", "0", 4, "100%", 8, 2)]
    if math.isfinite(value):
        parts.append(rect("fill", "0", 4, per_cent(value), 8, 2))
    if math.isfinite(low) and math.isfinite(high):
        left, right = inside(low), inside(high)
        parts.append(rect("whisker", per_cent(left), 7, per_cent(right - left), 2))
        parts += [rect("whisker", per_cent(end), 3, "1.5", 10) for end in (left, right)]
    return _bar(parts)


def stack(parts: Sequence[float], largest: float) -> str:
    """Draw counts side by side as one bar, to a scale shared by its neighbours.

    Args:
        parts: counts; the n-th gets the CSS class `part-n`.
        largest: the sum that fills the whole width.
    """
    whole = largest if math.isfinite(largest) and largest > 0 else 1.0
    drawn, start = [], 0.0
    for index, part in enumerate(parts):
        size = part / whole if math.isfinite(part) and part > 0 else 0.0
        drawn.append(rect(f"part-{index}", per_cent(start), 3, per_cent(size), 10))
        start += size
    return _bar(drawn)


def _bar(parts: Sequence[str]) -> str:
    return (
        '<svg class="bar" width="100%" height="16" aria-hidden="true" focusable="false">'
        f"{''.join(parts)}</svg>"
    )


def _words(place: float, y: int, kind: str, text: str) -> str:
    """Write words at a place of a scale, leaning inwards near its ends."""
    anchor = "start" if place < 0.3 else "end" if place > 0.7 else "middle"
    return written(text, per_cent(place), y, kind, anchor)
