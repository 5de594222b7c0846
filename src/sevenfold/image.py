"""Turn the bytes of one picture into upright RGB, or say why not.

This is the only gate through which pictures come in, in training and in
serving. The format is found by content, never by suffix; the size is read from
the header and judged before anything is decoded; a file that ends too early is
rejected, never padded.
"""

import hashlib
import io
import math
import os
import unicodedata
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Real, UInt8
from PIL import Image, UnidentifiedImageError

from sevenfold.errors import ImageRejected

TRAINING_PIXELS = 50_000_000
"""The largest picture in training, in pixels."""
SERVING_PIXELS = 25_000_000
"""The largest picture that `serve` accepts, in pixels."""
DRAFT_SIDE = 512
"""JPEGs are decoded at the smallest scale whose sides are both at least this."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""The formats that are let through; of an animation, the first frame."""
LARGEST_FILE = 2**29
"""The largest file that is read at all, in bytes."""

Box = tuple[float, float, float, float]
"""Left, top, width and height as fractions of the upright picture."""
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
_CORNERS = ("x", "y", "w", "h")
_SLACK = 1e-6  # boxes are often written with six digits, whose sums may pass 1

# What Pillow would warn of (a large picture, damaged metadata), this module decides itself. At
# the end of the list, where a program's own filters come before them; a scope around each
# decoding would be that of all threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, append=True)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.", append=True)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION_TAG = 0x0112
_STRIP_PIXELS = 1 << 20
_LEFTOVERS = frozenset(
    {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "lost+found"}
)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Identify a picture by its content.

    Args:
        hash: 32 hex digits over the upright size, the box and the pixels.
        width: of the whole upright picture at full scale, in pixels.
        height: likewise.
    """

    hash: str
    width: int
    height: int


def shown(text: str) -> str:
    r"""Escape what a person's screen cannot show: control characters, lone bytes.

    >>> shown("a\nb")
    'a\\nb'
    >>> shown(b"caf\xe9.jpg".decode("utf-8", "surrogateescape"))
    'caf\\xe9.jpg'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def has_plain_name(path: str) -> bool:
    r"""Tell whether a path can stand in a table: in UTF-8, and without control characters.

    >>> has_plain_name("3.45\u202fPM.png"), has_plain_name("a\nb"), has_plain_name("\udce9")
    (True, False, False)
    """
    return not any(unicodedata.category(mark) in ("Cc", "Cs") for mark in path)


def is_leftover(name: str) -> bool:
    """Tell whether a file or folder is hidden, or left behind by an operating system."""
    return name.startswith(".") or name.casefold() in _LEFTOVERS


def read(path: str | os.PathLike[str], *, name: str) -> bytes:
    """Read a picture's file, unless it is none: a pipe would never end.

    Args:
        path: of the file.
        name: what messages call the picture.

    Raises:
        ImageRejected: there is no such file, or it is larger than `LARGEST_FILE` or
            unreadable.
    """
    try:
        file = Path(path)
        if not file.is_file():
            raise unread(name, "no such file")
        if file.stat().st_size > LARGEST_FILE:
            raise unread(name, f"the file is larger than {LARGEST_FILE} bytes")
        return file.read_bytes()
    except (OSError, ValueError) as error:
        # A name with a null byte is a ValueError.
        reason = getattr(error, "strerror", None) or "no such file"
        raise unread(name, f"cannot be read ({reason})") from error


def decode(
    data: bytes, *, name: str, max_pixels: int = TRAINING_PIXELS, draft_side: int = 0
) -> UInt8[np.ndarray, "height width 3"]:
    """Decode one picture to upright RGB.

    Grey, palette, CMYK and float pictures become RGB; transparency is put on
    white; 16-bit values are divided by 257. Integers beyond 16 bits and floats
    have no agreed white: it is the smallest of 1, 255, 65535 (floats) or 65535,
    2³¹-1 (integers) that no value exceeds.

    Args:
        data: the bytes of the file.
        name: what messages call the picture.
        max_pixels: the largest width x height that is decoded.
        draft_side: JPEGs are decoded at the smallest of the scales 1/8, 1/4,
            1/2 and 1 whose sides are both at least this; 0 decodes in full.

    Raises:
        ImageRejected: the picture is empty, too large, damaged, cut short or
            of a format that is not let through.
    """
    return _decode(data, name, max_pixels, draft_side)[0]


def upright(picture: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    """Turn an open Pillow picture to upright RGB, by the rules of `decode`.

    Example:
        >>> upright(Image.new("L", (3, 2), 7))[0, 0]
        array([7, 7, 7], dtype=uint8)
    """
    picture.load()
    orientation = _orientation(picture)
    rgb = _rgb(picture)
    if orientation in _TURNS:
        rgb = rgb.transpose(_TURNS[orientation])
    return np.asarray(rgb)


def box_of(cells: Mapping[str, str]) -> Box:
    """Read the box of a row of a table, a column `box` or `x`, `y`, `w` and `h`; WHOLE without.

    Example:
        >>> box_of({"box": "0,0.5,1,0.5"}), box_of({"path": "a.png"}) == WHOLE
        ((0.0, 0.5, 1.0, 0.5), True)

    Raises:
        ValueError: it is not within the picture; the message is the box.
    """
    if "box" in cells:
        parts = cells["box"].replace(";", ",").split(",") if cells["box"].strip() else []
    elif all(corner in cells for corner in _CORNERS):
        parts = [cells[corner] for corner in _CORNERS if cells[corner].strip()]
    else:
        parts = []
    if not parts:
        return WHOLE
    try:
        x, y, w, h = (float(part) for part in parts)
    except ValueError:
        x = y = w = h = math.nan
    inside = max(x + w, y + h) <= 1 + _SLACK
    w, h = min(w, 1 - x), min(h, 1 - y)
    if not (inside and x >= 0 and y >= 0 and w >= _SLACK and h >= _SLACK):
        raise ValueError(",".join(parts))
    return (x, y, w, h)


def part_name(path: str, box: Box) -> str:
    """Name a picture: its path, and where it is a part of a photo, its box.

    Example:
        >>> part_name("a.png", WHOLE), part_name("a.png", (0.0, 0.5, 1.0, 0.5))
        ('a.png', 'a.png#0.0,0.5,1.0,0.5')
    """
    return path if box == WHOLE else f"{path}#{','.join(map(repr, box))}"


def crop(
    pixels: UInt8[np.ndarray, "height width 3"], box: Box
) -> UInt8[np.ndarray, "cropped_height cropped_width 3"]:
    """Cut out a box, rounded to whole pixels and at least one pixel wide and high."""
    height, width = pixels.shape[:2]
    left, right = _edges(box[0], box[2], width)
    top, bottom = _edges(box[1], box[3], height)
    return np.ascontiguousarray(pixels[top:bottom, left:right])


def resize(
    pixels: UInt8[np.ndarray, "height width 3"], side: int
) -> UInt8[np.ndarray, "side side 3"]:
    """Resize the whole picture to a square by Pillow's bilinear, antialiased filter."""
    image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image)


def fingerprint(
    data: bytes, *, name: str, box: Box = WHOLE, max_pixels: int = TRAINING_PIXELS
) -> tuple[Fingerprint, UInt8[np.ndarray, "height width 3"]]:
    """Identify the part of a picture within a box by its content.

    Returns:
        The fingerprint, and the pixels within the box. A JPEG is decoded at the
        smallest scale that leaves both sides of the box `DRAFT_SIDE` pixels.

    Raises:
        ImageRejected: as `decode`.
    """
    draft_side = math.ceil(DRAFT_SIDE / min(box[2:]))
    pixels, width, height = _decode(data, name, max_pixels, draft_side)
    if box != WHOLE:
        pixels = crop(pixels, box)
    digest = hashlib.blake2b(digest_size=16)
    edges = ",".join(f"{edge:.6f}" for edge in box)
    digest.update(f"{width}x{height}:{edges}:{pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return Fingerprint(digest.hexdigest(), width, height), pixels


def _decode(
    data: bytes, name: str, max_pixels: int, draft_side: int
) -> tuple[UInt8[np.ndarray, "height width 3"], int, int]:
    """Return the pixels and the true upright width and height."""
    if not data:
        raise _rejected(name, "the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height <= max_pixels:
                return _load(image, draft_side)
    except UnidentifiedImageError as error:
        raise _rejected(name, f"not a readable {', '.join(FORMATS)} picture") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, "too many pixels", max_pixels) from error
    except Exception as error:
        # Decoders of hostile bytes raise almost anything: SyntaxError, struct.error, KeyError...
        reason = shown(str(error)) or type(error).__name__
        raise _rejected(name, f"damaged or cut short ({reason})") from error
    raise _too_large(name, f"{width} x {height} pixels", max_pixels)


def _load(
    image: Image.Image, draft_side: int
) -> tuple[UInt8[np.ndarray, "height width 3"], int, int]:
    full = image.size
    if draft_side:
        image.draft(None, (draft_side, draft_side))
    drafted = image.size != full
    image.load()
    width, height = full if drafted else image.size
    if _orientation(image) >= 5:
        width, height = height, width
    return upright(image), width, height


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        # Damaged metadata do not make the pixels wrong.
        return 1
    return orientation if orientation in _TURNS else 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _grey(np.asarray(image), (65535.0,))
    if image.mode == "I":
        return _grey(np.asarray(image), (65535.0, 2.0**31 - 1))
    if image.mode == "F":
        return _grey(np.asarray(image), (1.0, 255.0, 65535.0))
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        white = Image.new("RGBA", coloured.size, "white")
        return Image.alpha_composite(white, coloured).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # which copies whatever it is


def _grey(values: Real[np.ndarray, "height width"], whites: tuple[float, ...]) -> Image.Image:
    # In strips: eight bytes a pixel, several times over, would outgrow what the gate allows.
    height, width = values.shape
    rows = max(1, _STRIP_PIXELS // width)
    strips = [slice(at, at + rows) for at in range(0, height, rows)]
    largest = max(float(_finite(values[strip]).max()) for strip in strips)
    white = next((white for white in whites if largest <= white), largest)
    scaled = np.empty((height, width), np.uint8)
    for strip in strips:
        scaled[strip] = np.rint(np.clip(_finite(values[strip]) / white, 0.0, 1.0) * 255.0)
    return Image.fromarray(scaled).convert("RGB")


def _finite(values: Real[np.ndarray, "rows width"]) -> Float64[np.ndarray, "rows width"]:
    return np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _edges(start: float, length: float, pixels: int) -> tuple[int, int]:
    first = min(max(round(start * pixels), 0), pixels - 1)
    return first, min(max(round((start + length) * pixels), first + 1), pixels)


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def unread(name: str, reason: str) -> ImageRejected:
    """Say that a picture's bytes cannot be had."""
    return ImageRejected(f"{shown(name)}: {reason}", "Mend the file or leave it out.")


def _rejected(name: str, reason: str) -> ImageRejected:
    return ImageRejected(f"{shown(name)}: {reason}", "Replace the picture or leave it out.")


def _too_large(name: str, size: str, max_pixels: int) -> ImageRejected:
    return ImageRejected(
        f"{shown(name)}: {size}, more than {max_pixels}",
        "Scale the picture down or leave it out.",
    )
