"""Draw a contact sheet as one image with labels."""

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from sevenfold.studies.preview.sheet import Row, Sheet

TILE: Final = 144
_GAP: Final = 10
_CAPTION: Final = 20
_NAMES: Final = 230
_EDGE: Final = 24
_LINE: Final = 19
_PAPER, _INK, _QUIET, _ACCENT = "#fcfcfa", "#1a1e23", "#555d66", "#0b5cad"
ROW: Final = TILE + _CAPTION + _GAP
_FONTS: Final = ("DejaVuSans.ttf", "arial.ttf", "Arial Unicode.ttf")
"""That Linux, Windows and macOS mostly have; Pillow looks where they keep them."""


def _font(size: int) -> Any:
    """Load a font that knows more scripts than Pillow's own: matplotlib's, or the system's."""
    found = importlib.util.find_spec("matplotlib")
    for folder in (found.submodule_search_locations or ()) if found else ():
        path = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    for name in _FONTS:
        with contextlib.suppress(OSError):  # there is none of this name
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)


def drawn(sheet: Sheet) -> Image.Image:
    """Draw the sheet; its height grows by `ROW` pixels for each class and operation."""
    title, text, small = _font(22), _font(14), _font(12)
    parts = [
        ("What training sees: the picture, then its views", sheet.classes),
        ("Each operation alone, at its full reach", sheet.operations),
    ]
    shown = [(heading, rows) for heading, rows in parts if rows]
    columns = max(len(row.tiles) for _, rows in shown for row in rows)
    width = 2 * _EDGE + _NAMES + columns * (TILE + _GAP)
    about = [line for said in _about(sheet) for line in _wrapped(said, text, width - 2 * _EDGE, 3)]
    top = _EDGE + 34 + _LINE * len(about)
    height = top + sum(52 + ROW * len(rows) for _, rows in shown) + _EDGE
    picture = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(picture)
    heading = _wrapped(f"{sheet.name} at {sheet.side} pixels", title, width - 2 * _EDGE, 1)
    pen.text((_EDGE, _EDGE), heading[0], _INK, title)
    for at, line in enumerate(about):
        pen.text((_EDGE, _EDGE + 34 + _LINE * at), line, _QUIET, text)
    for name, rows in shown:
        pen.line((_EDGE, top + 12, width - _EDGE, top + 12), "#dfe1e0")
        pen.text((_EDGE, top + 22), name, _INK, text)
        top += 52
        for row in rows:
            _draw_row(picture, pen, row, top, text, small)
            top += ROW
    return picture


def _about(sheet: Sheet) -> Iterator[str]:
    yield f"{sheet.pictures:,} pictures. Each view must still be recognisable as its class."
    if sheet.left_out:
        yield f"Classes not shown: {sheet.left_out:,}."
    yield from sheet.remarks


def _draw_row(
    picture: Image.Image, pen: ImageDraw.ImageDraw, row: Row, top: int, text: Any, small: Any
) -> None:
    names = _wrapped(row.title, text, _NAMES - 2 * _GAP, 3)
    for at, line in enumerate(names):
        pen.text((_EDGE, top + _LINE * at), line, _INK, text)
    for at, line in enumerate(_wrapped(row.note, small, _NAMES - 2 * _GAP, 4), len(names)):
        pen.text((_EDGE, top + 3 + _LINE * at), line, _QUIET, small)
    for at, tile in enumerate(row.tiles):
        left = _EDGE + _NAMES + at * (TILE + _GAP)
        picture.paste(scaled(tile.pixels, TILE), (left, top))
        if at == 0:
            pen.rectangle((left - 2, top - 2, left + TILE + 1, top + TILE + 1), None, _ACCENT, 2)
        pen.text((left, top + TILE + 3), tile.caption, _QUIET, small)


def scaled(pixels: UInt8[np.ndarray, "side side 3"], side: int) -> Image.Image:
    """Bring a view to another size; small ones keep their pixels visible."""
    filter_ = Image.Resampling.NEAREST if len(pixels) < side else Image.Resampling.BILINEAR
    return Image.fromarray(pixels).resize((side, side), filter_)


def _wrapped(text: str, font: Any, width: int, most: int) -> list[str]:
    """Break a text into lines of at most `width` pixels; what is too long ends in dots."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > most:
        lines = [*lines[: most - 1], " ".join(lines[most - 1 :])]
    return [_cut(line, font, width) for line in lines]


def _cut(line: str, font: Any, width: int) -> str:
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(f"{line}…") > width:
        line = line[:-1]
    return f"{line}…"
