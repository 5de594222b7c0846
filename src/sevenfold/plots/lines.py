"""Draw lines and bands over common axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sevenfold.plots.axes import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    padded,
    powers,
    ticks,
    whole_numbers,
)
from sevenfold.plots.svg import figure, joined, plain, written

LINE_POINTS = 200


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
    x_ticks = powers(min(xs), max(xs)) if log_x else whole_numbers(ticks(min(xs), max(xs), 6))
    y_ticks = ticks(min(ys), max(ys), 5)
    x_range = padded(min(xs), max(xs))
    y_range = padded(min([*ys, y_ticks[0]]), max([*ys, y_ticks[-1]]))

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
        body.append(f'<polygon class="area {band.style}" points="{joined(around)}"/>')
    for line in kept:
        path = joined([at(*point) for point in line.points])
        body.append(f'<polyline class="line {line.style}" points="{path}"/>')
        for x, y in (at(*dot) for dot in line.dots):
            body.append(f'<circle class="dot {line.style}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    body.append(written(x_label, f"{middle:.1f}", HEIGHT - 4, "quiet", "middle"))
    body.append(_legend(kept) if legend else "")
    return figure("chart", "".join(body), key, title, text, size=f'viewBox="0 0 {WIDTH} {HEIGHT}"')


def _finite(line: Line, log_x: bool) -> Line:
    """Keep the points that can be drawn, at most 200 of them, the last among them."""
    good = [(x, y) for x, y in line.points if math.isfinite(x) and math.isfinite(y)]
    good = [(x, y) for x, y in good if x > 0 or not log_x]
    step = max(1, math.ceil(len(good) / LINE_POINTS))
    thin = good[::step] if not good or (len(good) - 1) % step == 0 else [*good[::step], good[-1]]
    dots = tuple(dot for dot in line.dots if dot in set(good))
    return Line(line.label, tuple(thin), line.style, dots)


def _y_tick(y: float, value: float, percent: bool) -> str:
    digits = f"{100 * value:g}\N{NO-BREAK SPACE}%" if percent else f"{value:g}"
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        + written(digits, f"{LEFT - 7}", y + 4, "quiet", "end")
    )


def _x_tick(x: float, digits: str) -> str:
    if not LEFT - 1 <= x <= WIDTH - RIGHT + 1:
        return ""
    return written(digits, f"{x:.1f}", HEIGHT - BOTTOM + 17, "quiet", "middle")


def _mark(x: float, text: str) -> str:
    anchor = "start" if x < WIDTH / 2 else "end"
    shift = 5 if anchor == "start" else -5
    return (
        f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        + written(plain(text, 40), f"{x + shift:.1f}", TOP + 12, "plain", anchor)
    )


def _legend(lines: Sequence[Line]) -> str:
    drawn, x = [], float(LEFT)
    for most in range(24, 5, -1):  # so much of each label as lets all stand in one row
        entries = dict.fromkeys((plain(line.label, most), line.style) for line in lines)
        if sum(48 + 7.2 * len(label) for label, _ in entries) <= WIDTH - LEFT - RIGHT + 20:
            break
    for label, style in entries:
        drawn.append(f'<line class="line {style}" x1="{x:.0f}" x2="{x + 22:.0f}" y1="13" y2="13"/>')
        drawn.append(written(label, f"{x + 28:.0f}", 17))
        x += 28 + 7.2 * len(label) + 20
    return "".join(drawn)
