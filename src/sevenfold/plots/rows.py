"""Draw fractions with their intervals, one row for each name."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sevenfold.plots.axes import RIGHT, TOP, WIDTH, ticks
from sevenfold.plots.svg import LABEL_LETTERS, figure, inside, joined, plain, written


@dataclass(frozen=True, slots=True)
class Marks:
    """Hold one row of a chart of dots.

    Args:
        label: name of the row.
        marks: value, lower and upper end of its interval, and CSS class.
        note: words at the right end of the row, such as what it costs.
    """

    label: str
    marks: tuple[tuple[float, float, float, str], ...]
    note: str = ""


ROW = 26
NAMES = 132
NOTES = 128


def dots(rows: Sequence[Marks], *, key: str, title: str, text: str, points: bool = False) -> str:
    """Draw fractions with their intervals, one row for each name, over a common axis.

    Several marks of a row stand side by side, a little lower each. Ends of intervals beyond
    the marks of all rows are cut where the axis ends. An empty text if there is nothing to draw.

    Args:
        rows: what to draw.
        key: prefix of the ids, unique on the page.
        title: name of the figure.
        text: what it shows, for those who do not see it.
        points: whether values are differences, in points of a per cent, about a marked zero.
    """
    values = [mark[0] for row in rows for mark in row.marks if math.isfinite(mark[0])]
    if not values:
        return ""
    if points:
        values.append(0.0)
    ends = [end for row in rows for mark in row.marks for end in mark[1:3] if math.isfinite(end)]
    reach = 2 * (max(values) - min(values)) + 0.05
    low = max(min([*values, *ends]), min(values) - reach)
    high = min(max([*values, *ends]), max(values) + reach)
    steps = ticks(low, high, 5)
    most = max(len(row.marks) for row in rows)
    height = max(ROW, 9 * most + 8)
    bottom = TOP / 2 + height * len(rows)
    right = WIDTH - RIGHT + NOTES * any(row.note for row in rows)
    end = WIDTH - RIGHT

    def across(value: float) -> float:
        share = (value - steps[0]) / (steps[-1] - steps[0])
        return NAMES + (end - NAMES) * inside(share)

    body = [_column(across(step), bottom, step, points) for step in steps]
    for number, row in enumerate(rows):
        middle = TOP / 2 + height * (number + 0.5)
        name = plain(row.label, LABEL_LETTERS)
        body.append(written(name, f"{NAMES - 10}", middle + 4, anchor="end"))
        if row.note:
            body.append(written(plain(row.note, 40), f"{end + 12}", middle + 4, "quiet"))
        for at, (value, start, stop, style) in enumerate(row.marks):
            y = middle + 9 * (at - (len(row.marks) - 1) / 2)
            if math.isfinite(start) and math.isfinite(stop):
                span = joined([(across(start), y), (across(stop), y)])
                body.append(f'<polyline class="line {style}" points="{span}"/>')
            if math.isfinite(value):
                place = f'cx="{across(value):.1f}" cy="{y:.1f}"'
                body.append(f'<circle class="dot {style}" {place} r="4.5"/>')
    size = f'viewBox="0 0 {right + RIGHT} {bottom + 24:.0f}"'
    return figure("chart dots", "".join(body), key, title, text, size=size)


def _column(x: float, bottom: float, step: float, points: bool) -> str:
    """Draw one line of the axis with its number."""
    kind = "mark" if points and step == 0 else "grid"
    digits = f"{100 * step:+g}" if points else f"{100 * step:g}\N{NO-BREAK SPACE}%"
    drawn = f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP / 2:.0f}" y2="{bottom:.0f}"/>'
    named = "0" if step == 0 and points else digits
    return drawn + written(named, f"{x:.1f}", bottom + 17, "quiet", "middle")
