"""Draw numbers as figures: pure functions from values to SVG text.

Written by hand, not with matplotlib, because a figure must follow the page into dark mode and
print and be read aloud: colours come from CSS classes, words stay text, and each figure carries
a title and a description. Every function returns one well-formed `<svg>` element whatever the
names and numbers are; values that are not finite are left out.
"""

from sevenfold.plots.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, ticks
from sevenfold.plots.bars import bar, scale, stack
from sevenfold.plots.cells import matrix
from sevenfold.plots.lines import LINE_POINTS, Band, Line, chart
from sevenfold.plots.rows import Marks, dots
from sevenfold.plots.svg import MISSING, plain

__all__ = [
    "BOTTOM",
    "HEIGHT",
    "LEFT",
    "LINE_POINTS",
    "MISSING",
    "RIGHT",
    "TOP",
    "WIDTH",
    "Band",
    "Line",
    "Marks",
    "bar",
    "chart",
    "dots",
    "matrix",
    "plain",
    "scale",
    "stack",
    "ticks",
]
