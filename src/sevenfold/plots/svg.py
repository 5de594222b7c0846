"""Write the parts that all figures are made of, as SVG text."""

import html
import re
from collections.abc import Sequence

MISSING = "\N{EN DASH}"
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


LABEL_LETTERS = 18


def rect(kind: str, x: str, y: float, width: str, height: float, radius: float = 0) -> str:
    """Write a rectangle; places and widths across may be per cent of the figure."""
    return (
        f'<rect class="{kind}" x="{x}" y="{y:g}" width="{width}" height="{height:g}" '
        f'rx="{radius:g}"/>'
    )


def written(words: str, x: str, y: float, kind: str = "plain", anchor: str = "start") -> str:
    """Write words at a place."""
    return (
        f'<text class="{kind}" x="{x}" y="{y:.1f}" text-anchor="{anchor}">{escaped(words)}</text>'
    )


def joined(points: Sequence[tuple[float, float]]) -> str:
    """Write points as the corners of a line."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def figure(kind: str, body: str, key: str, title: str, text: str, *, size: str) -> str:
    """Wrap a body as a figure with a title, and a description for those who do not see it."""
    return (
        f'<svg class="{kind}" {size} role="img" aria-labelledby="{key}-title {key}-text">'
        f'<title id="{key}-title">{escaped(title)}</title>'
        f'<desc id="{key}-text">{escaped(text, 2000)}</desc>{body}</svg>'
    )


def escaped(text: str, limit: int = 200) -> str:
    """Return text that can stand inside an element."""
    return html.escape(plain(text, limit))


def inside(fraction: float) -> float:
    """Keep a fraction from 0 to 1."""
    return min(1.0, max(0.0, fraction))


def per_cent(fraction: float) -> str:
    """Write a fraction, kept from 0 to 1, as a length."""
    return f"{100 * inside(fraction):.2f}%"
