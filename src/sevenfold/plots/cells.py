"""Draw a confusion matrix."""

import math
from collections.abc import Sequence

from sevenfold.plots.svg import LABEL_LETTERS, escaped, figure, inside, plain, written

CELL = 32


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
        written("answer \N{RIGHTWARDS ARROW}", f"{left:.0f}", 12, "quiet"),
        written("label \N{DOWNWARDS ARROW}", f"{left - 8:.0f}", top - 8, "quiet", "end"),
    ]
    for index, name in enumerate(names):
        place = CELL * index + CELL / 2
        body.append(written(name, f"{left - 8:.0f}", top + place + 4, anchor="end"))
        body.append(
            f'<text transform="translate({left + place + 2:.0f} {top - 8:.0f}) rotate(-48)">'
            f"{escaped(name)}</text>"
        )
    for row, (cells, total) in enumerate(zip(counts, totals, strict=True)):
        for column, count in enumerate(cells):
            share = math.sqrt(inside(count / total)) if total > 0 else 0.0
            body.append(
                _cell(left + CELL * column, top + CELL * row, count, share, right=row == column)
            )
    width = left + side + 5.6 * letters + 8
    size = f'width="{width:.0f}" height="{top + side + 2:.0f}"'
    return figure("matrix", "".join(body), key, title, text, size=size)


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
    return drawn + written(digits, f"{x + CELL / 2:.0f}", y + CELL / 2 + 4, "number", "middle")
