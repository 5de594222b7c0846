"""Draw numbers as figures: pure functions from values to SVG text.

Written by hand, not with matplotlib, because a figure must follow the page into dark mode and
print and be read aloud: colours come from CSS classes, words stay text, and each figure carries
a title and a description. Every function returns one well-formed `<svg>` element whatever the
names and numbers are; values that are not finite are left out.
"""

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

MISSING = "\N{EN DASH}"
LINE_POINTS = 200

# C0 and C1 controls, marks that reorder text, invisible joiners of lines, lone surrogates,
# and code points that XML forbids. Spaces of any kind become one space first.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\uffff\ud800-\udfff\U000e0000-\U000e0fff]"
)


def plain(text: object, limit: int = 120) -> str:
    r"""Return text that is safe to show: one line, no control or reordering marks, bounded.

    Args:
        text: anything; its `str` is shown.
        limit: longest result in characters, at least 3. A longer text loses its middle, because
            the ends of a path tell more.

    Example:
        >>> plain("a\nb\x00\u202e c")
        'a b c'
        >>> plain("abcdefghij", 5)
        'ab…ij'
    """
    raw = str(text)
    ends = raw[: 4 * limit] + raw[-4 * limit :] if len(raw) > 8 * limit else raw
    line = _UNSEEN.sub("", re.sub(r"\s+", " ", ends)).strip()
    if len(line) <= limit:
        return line
    head = limit // 2
    return f"{line[:head]}\N{HORIZONTAL ELLIPSIS}{line[len(line) - (limit - head - 1) :]}"


@dataclass(frozen=True, slots=True)
class Band:
    """Hold the area around one line of a chart.

    Args:
        points: triples of x, low and high, in order of x, all finite.
        style: CSS class, that of the line.
    """

    points: tuple[tuple[float, float, float], ...]
    style: str = "a"


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


@dataclass(frozen=True, slots=True)
class Line:
    """Hold one line of a chart.

    Args:
        label: what the legend says; lines with one label share one entry.
        points: pairs of x and y, in order of x.
        style: CSS class of the line: "a", "b" or "c" (colour and dashes), or one of the page's.
        dots: points to mark, such as the best epoch.
    """

    label: str
    points: tuple[tuple[float, float], ...]
    style: str = "a"
    dots: tuple[tuple[float, float], ...] = ()


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
    parts = [_rect("track", "0", 34, "100%", 8, 4)]
    parts += [_rect("tick", _percent(quarter / 4), 44, "1", 4) for quarter in (1, 2, 3)]
    if math.isfinite(value):
        parts.append(_rect("fill", "0", 34, _percent(value), 8, 4))
    if math.isfinite(low) and math.isfinite(high):
        parts.append(
            _rect("band", _percent(low), 28, _percent(_inside(high) - _inside(low)), 20, 3)
        )
    if math.isfinite(value):
        parts.append(_rect("point", _percent(value), 24, "3", 28, 1))
        parts.append(_words(value, 16, "strong", caption))
    if math.isfinite(baseline):
        parts.append(_rect("base", _percent(baseline), 28, "2", 34))
        parts.append(_words(baseline, 76, "against", baseline_caption))
    # The ends are named, unless the line of the baseline would cross their names.
    if not baseline < 0.1:
        parts.append(_text("0 %", "0", 60, "quiet"))
    if not baseline > 0.9:
        parts.append(_text("100 %", "100%", 60, "quiet", "end"))
    return _svg("scale", "".join(parts), key, title, text, size='width="100%" height="84"')


def bar(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """Draw a fraction from 0 to 1 as a bar with its interval; the number stands beside it.

    It is hidden from screen readers, which get the number in the next cell.
    """
    parts = [_rect("track", "0", 4, "100%", 8, 2)]
    if math.isfinite(value):
        parts.append(_rect("fill", "0", 4, _percent(value), 8, 2))
    if math.isfinite(low) and math.isfinite(high):
        left, right = _inside(low), _inside(high)
        parts.append(_rect("whisker", _percent(left), 7, _percent(right - left), 2))
        parts += [_rect("whisker", _percent(end), 3, "1.5", 10) for end in (left, right)]
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
        drawn.append(_rect(f"part-{index}", _percent(start), 3, _percent(size), 10))
        start += size
    return _bar(drawn)


WIDTH, HEIGHT = 440, 264
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 34, 40


def chart(
    lines: Sequence[Line],
    *,
    key: str,
    title: str,
    text: str,
    x_label: str,
    percent: bool = False,
    log_x: bool = False,
    mark: float = math.nan,
    mark_label: str = "",
    bands: Sequence[Band] = (),
    legend: bool = True,
) -> str:
    """Draw lines over common axes with a legend; an empty text if there is nothing to draw.

    Args:
        lines: what to draw; a line of more than 200 points is thinned.
        key: prefix of the ids, unique on the page.
        title: name of the figure.
        text: what it shows, for those who do not see it.
        x_label: name of the horizontal axis.
        percent: whether the vertical axis holds fractions, to be written as per cent.
        log_x: whether the horizontal axis is logarithmic.
        mark: place on the horizontal axis to mark with a line; NaN marks none.
        mark_label: words at that line.
        bands: areas behind the lines.
        legend: whether it stands on the chart; else the page has one.
    """
    kept = [line for line in (_finite(line, log_x) for line in lines) if line.points]
    if not kept:
        return ""
    across = math.log10 if log_x else float
    xs = [across(x) for line in kept for x, _ in line.points]
    ys = [y for line in kept for _, y in line.points]
    ys += [end for band in bands for _, *ends in band.points for end in ends]
    x_ticks = _powers(min(xs), max(xs)) if log_x else _whole(ticks(min(xs), max(xs), 6))
    y_ticks = ticks(min(ys), max(ys), 5)
    x_range = _padded(min(xs), max(xs))
    y_range = _padded(min([*ys, y_ticks[0]]), max([*ys, y_ticks[-1]]))

    def at(x: float, y: float) -> tuple[float, float]:
        right = (across(x) - x_range[0]) / (x_range[1] - x_range[0])
        up = (y - y_range[0]) / (y_range[1] - y_range[0])
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * right,
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * up,
        )

    back = 10.0 if log_x else 1.0
    body = [_y_tick(at(xs[0] if not log_x else 10 ** xs[0], y)[1], y, percent) for y in y_ticks]
    body += [
        _x_tick(at(back**x if log_x else x, ys[0])[0], f"1e{x:.0f}" if log_x else f"{x:g}")
        for x in x_ticks
    ]
    if math.isfinite(mark) and (mark > 0 or not log_x) and x_range[0] <= across(mark) <= x_range[1]:
        body.append(_mark(at(mark, ys[0])[0], mark_label))
    for band in bands:
        around = [at(x, low) for x, low, _ in band.points]
        around += [at(x, high) for x, _, high in reversed(band.points)]
        body.append(f'<polygon class="area {band.style}" points="{_path(around)}"/>')
    for line in kept:
        path = _path([at(*point) for point in line.points])
        body.append(f'<polyline class="line {line.style}" points="{path}"/>')
        for x, y in (at(*dot) for dot in line.dots):
            body.append(f'<circle class="dot {line.style}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    body.append(_text(x_label, f"{middle:.1f}", HEIGHT - 4, "quiet", "middle"))
    body.append(_legend(kept) if legend else "")
    return _svg("chart", "".join(body), key, title, text, size=f'viewBox="0 0 {WIDTH} {HEIGHT}"')


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
        return NAMES + (end - NAMES) * _inside(share)

    body = [_column(across(step), bottom, step, points) for step in steps]
    for number, row in enumerate(rows):
        middle = TOP / 2 + height * (number + 0.5)
        name = plain(row.label, LABEL_LETTERS)
        body.append(_text(name, f"{NAMES - 10}", middle + 4, anchor="end"))
        if row.note:
            body.append(_text(plain(row.note, 40), f"{end + 12}", middle + 4, "quiet"))
        for at, (value, start, stop, style) in enumerate(row.marks):
            y = middle + 9 * (at - (len(row.marks) - 1) / 2)
            if math.isfinite(start) and math.isfinite(stop):
                span = _path([(across(start), y), (across(stop), y)])
                body.append(f'<polyline class="line {style}" points="{span}"/>')
            if math.isfinite(value):
                place = f'cx="{across(value):.1f}" cy="{y:.1f}"'
                body.append(f'<circle class="dot {style}" {place} r="4.5"/>')
    size = f'viewBox="0 0 {right + RIGHT} {bottom + 24:.0f}"'
    return _svg("chart dots", "".join(body), key, title, text, size=size)


def _column(x: float, bottom: float, step: float, points: bool) -> str:
    """Draw one line of the axis with its number."""
    kind = "mark" if points and step == 0 else "grid"
    digits = f"{100 * step:+g}" if points else f"{100 * step:g}\N{NO-BREAK SPACE}%"
    drawn = f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP / 2:.0f}" y2="{bottom:.0f}"/>'
    named = "0" if step == 0 and points else digits
    return drawn + _text(named, f"{x:.1f}", bottom + 17, "quiet", "middle")


CELL = 32
LABEL_LETTERS = 18


def matrix(
    counts: Sequence[Sequence[int]],
    labels: Sequence[str],
    totals: Sequence[int],
    *,
    key: str,
    title: str,
    text: str,
) -> str:
    """Draw a confusion matrix: rows are the truth, columns the answers.

    The area's strength grows with the square root of the row's share, since a confusion of a
    few per cent must still be seen beside the diagonal. The diagonal and the mistakes have
    colours of their own.

    Args:
        counts: pictures, [classes, classes].
        labels: names of the classes.
        totals: pictures in each row, of which counts may show only a part.
        key: prefix of the ids, unique on the page.
        title: name of the figure.
        text: what it shows, for those who do not see it.
    """
    names = [plain(label, LABEL_LETTERS) for label in labels]
    letters = max((len(name) for name in names), default=1)
    left = 18 + 7.4 * letters
    top = 26 + 5.6 * letters
    side = CELL * len(names)
    body = [
        _text("answer \N{RIGHTWARDS ARROW}", f"{left:.0f}", 12, "quiet"),
        _text("label \N{DOWNWARDS ARROW}", f"{left - 8:.0f}", top - 8, "quiet", "end"),
    ]
    for index, name in enumerate(names):
        place = CELL * index + CELL / 2
        body.append(_text(name, f"{left - 8:.0f}", top + place + 4, anchor="end"))
        body.append(
            f'<text transform="translate({left + place + 2:.0f} {top - 8:.0f}) rotate(-48)">'
            f"{_escaped(name)}</text>"
        )
    for row, (cells, total) in enumerate(zip(counts, totals, strict=True)):
        for column, count in enumerate(cells):
            share = math.sqrt(_inside(count / total)) if total > 0 else 0.0
            body.append(
                _cell(left + CELL * column, top + CELL * row, count, share, right=row == column)
            )
    width = left + side + 5.6 * letters + 8
    size = f'width="{width:.0f}" height="{top + side + 2:.0f}"'
    return _svg("matrix", "".join(body), key, title, text, size=size)


def ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    """Return round numbers that cover a range: steps of 1, 2 or 5 times a power of ten.

    Example:
        >>> ticks(0.13, 0.94, 5)
        (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    """
    low, high = _padded(low, high) if high - low <= 1e-9 * max(abs(low), abs(high)) else (low, high)
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= raw * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return tuple(round(index * step, 12) for index in range(first, last + 1))


def _cell(x: float, y: float, count: int, share: float, *, right: bool) -> str:
    """Draw one cell of a confusion matrix; strength stays low enough for dark letters."""
    kind = "empty" if count <= 0 else "right" if right else "wrong"
    drawn = (
        f'<rect class="{kind}" x="{x + 1:.0f}" y="{y + 1:.0f}" width="{CELL - 2}" '
        f'height="{CELL - 2}" rx="3" fill-opacity="{0.16 + 0.5 * share if count > 0 else 1:.2f}"/>'
    )
    if count <= 0:
        return drawn
    digits = f"{count}" if count < 10_000 else f"{count / 1000:.0f}k"
    return drawn + _text(digits, f"{x + CELL / 2:.0f}", y + CELL / 2 + 4, "number", "middle")


def _rect(kind: str, x: str, y: float, width: str, height: float, radius: float = 0) -> str:
    return (
        f'<rect class="{kind}" x="{x}" y="{y:g}" width="{width}" height="{height:g}" '
        f'rx="{radius:g}"/>'
    )


def _text(words: str, x: str, y: float, kind: str = "plain", anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x}" y="{y:.1f}" text-anchor="{anchor}">{_escaped(words)}</text>'
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _bar(parts: Sequence[str]) -> str:
    return (
        '<svg class="bar" width="100%" height="16" aria-hidden="true" focusable="false">'
        f"{''.join(parts)}</svg>"
    )


def _svg(kind: str, body: str, key: str, title: str, text: str, *, size: str) -> str:
    return (
        f'<svg class="{kind}" {size} role="img" aria-labelledby="{key}-title {key}-text">'
        f'<title id="{key}-title">{_escaped(title)}</title>'
        f'<desc id="{key}-text">{_escaped(text, 2000)}</desc>{body}</svg>'
    )


def _escaped(text: str, limit: int = 200) -> str:
    return html.escape(plain(text, limit))


def _inside(fraction: float) -> float:
    return min(1.0, max(0.0, fraction))


def _percent(fraction: float) -> str:
    return f"{100 * _inside(fraction):.2f}%"


def _words(place: float, y: int, kind: str, text: str) -> str:
    """Write words at a place of a scale, leaning inwards near its ends."""
    anchor = "start" if place < 0.3 else "end" if place > 0.7 else "middle"
    return _text(text, _percent(place), y, kind, anchor)


def _finite(line: Line, log_x: bool) -> Line:
    """Keep the points that can be drawn, at most 200 of them, the last among them."""
    good = [(x, y) for x, y in line.points if math.isfinite(x) and math.isfinite(y)]
    good = [(x, y) for x, y in good if x > 0 or not log_x]
    step = max(1, math.ceil(len(good) / LINE_POINTS))
    thin = good[::step] if not good or (len(good) - 1) % step == 0 else [*good[::step], good[-1]]
    dots = tuple(dot for dot in line.dots if dot in set(good))
    return Line(line.label, tuple(thin), line.style, dots)


def _padded(low: float, high: float) -> tuple[float, float]:
    """Widen an empty range, so that it can be divided by."""
    if high > low:
        return low, high
    return low - max(0.5, abs(low) * 0.1), high + max(0.5, abs(high) * 0.1)


def _powers(low: float, high: float) -> tuple[float, ...]:
    return tuple(float(power) for power in range(math.ceil(low), math.floor(high) + 1))


def _whole(values: tuple[float, ...]) -> tuple[float, ...]:
    """Keep whole numbers: there is no half epoch."""
    return tuple(value for value in values if value == round(value))


def _y_tick(y: float, value: float, percent: bool) -> str:
    digits = f"{100 * value:g}\N{NO-BREAK SPACE}%" if percent else f"{value:g}"
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        + _text(digits, f"{LEFT - 7}", y + 4, "quiet", "end")
    )


def _x_tick(x: float, digits: str) -> str:
    if not LEFT - 1 <= x <= WIDTH - RIGHT + 1:
        return ""
    return _text(digits, f"{x:.1f}", HEIGHT - BOTTOM + 17, "quiet", "middle")


def _mark(x: float, text: str) -> str:
    anchor = "start" if x < WIDTH / 2 else "end"
    shift = 5 if anchor == "start" else -5
    return (
        f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        + _text(plain(text, 40), f"{x + shift:.1f}", TOP + 12, "plain", anchor)
    )


def _legend(lines: Sequence[Line]) -> str:
    drawn, x = [], float(LEFT)
    for most in range(24, 5, -1):  # so much of each label as lets all stand in one row
        entries = dict.fromkeys((plain(line.label, most), line.style) for line in lines)
        if sum(48 + 7.2 * len(label) for label, _ in entries) <= WIDTH - LEFT - RIGHT + 20:
            break
    for label, style in entries:
        drawn.append(f'<line class="line {style}" x1="{x:.0f}" x2="{x + 22:.0f}" y1="13" y2="13"/>')
        drawn.append(_text(label, f"{x + 28:.0f}", 17))
        x += 28 + 7.2 * len(label) + 20
    return "".join(drawn)
