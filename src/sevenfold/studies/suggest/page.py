"""Show suggestions as one self-contained sheet in which a key per class labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from PIL import Image

from sevenfold import image
from sevenfold.errors import ImageRejected
from sevenfold.image import shown
from sevenfold.pages import jpeg_uri, template

LIMIT_BYTES: Final = 8_000_000
"""Of pictures; those beyond it are left out and counted."""
KEYS: Final = "123456789abcdefghijklmnopqrstvwyz"
"""One for each class; `u` undoes and `x` leaves a picture out. Further classes are in a list."""
_SIDE: Final = 256
_QUALITY: Final = 82


def render(facts: Mapping[str, Any]) -> str:
    """Return the page. Reads the suggested pictures.

    Args:
        facts: as `suggest` returns them.
    """
    tiles: list[dict[str, Any]] = []
    room = LIMIT_BYTES
    for one in facts["suggestions"]:
        picture = _thumbnail(one["path"])
        room -= len(picture)
        if room < 0:
            break
        tiles.append({**one, "image": picture, "name": Path(one["path"]).name})
    keys = dict(zip(facts["classes"], KEYS, strict=False))
    return template("suggest.html.j2").render(
        facts=facts,
        tiles=tiles,
        left_out=len(facts["suggestions"]) - len(tiles),
        keys=[(name, keys.get(name, "")) for name in facts["classes"]],
        name=shown(Path(facts["model"]).name),
    )


def _thumbnail(path: str) -> str:
    """Return the whole picture, its longer side shortened, as an address."""
    try:
        pixels = image.decode(Path(path).read_bytes(), name=path, draft_side=_SIDE)
    except (ImageRejected, OSError):  # deleted meanwhile
        return "data:,"
    small = Image.fromarray(pixels)
    small.thumbnail((_SIDE, _SIDE))
    return jpeg_uri(small, _QUALITY)
