"""Write what an audit found as one page in which one key per picture decides."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from PIL import Image

from sevenfold.data import Dataset
from sevenfold.errors import ImageRejected
from sevenfold.features.pixels import Pixels
from sevenfold.pages import jpeg_uri, template
from sevenfold.studies.audit import album

LIMIT_BYTES: Final = 4_000_000
"""Of pictures; what does not fit is left out from the end of each list and counted."""
_QUALITY: Final = 80
_TILES: Final = 12  # of one row: a placeholder can be there a thousand times
_KEYS: Final = 9  # classes that a digit names

_Rows = Sequence[tuple[str, Sequence[str]]]  # what a row says, and the pictures in it


def render(facts: Mapping[str, Any], dataset: Dataset, pixels: Pixels) -> str:
    """Return the page.

    Args:
        facts: as `audit` returns them.
        dataset: the readable pictures.
        pixels: where their squares come from.
    """
    index = {album.named(photo): at for at, photo in enumerate(dataset.photos)}
    likely = {one["path"]: one["likely"] for one in facts["label_suspects"]}
    lists = list(_lists(facts))
    sections, room = [], LIMIT_BYTES
    for number, (title, note, rows) in enumerate(lists):
        share = room // (len(lists) - number)
        told, used = _bounded(rows, share, index, likely, dataset, pixels)
        room -= used
        left = len(rows) - len(told)
        sections.append({"title": title, "note": note, "rows": told, "left_out": left})
    return template("audit.html.j2").render(
        facts=facts,
        sections=sections,
        keys=list(enumerate(dataset.classes[:_KEYS], 1)),
        page=f"{dataset.name}",
    )


def _lists(facts: Mapping[str, Any]) -> Iterator[tuple[str, str, _Rows]]:
    conflicts = [(" or ".join(one["labels"]), one["paths"]) for one in facts["conflicts"]]
    leaks = [
        (" and ".join(one["roles"]), [picture["path"] for picture in one["pictures"]])
        for one in facts["leaks"]
    ]
    suspects = [
        (f"{one['label']}, or {one['likely']}?", [one["path"]]) for one in facts["label_suspects"]
    ]
    for title, note, rows in (
        ("One picture, two labels", "Keep one label, or drop them all.", conflicts),
        ("Leaks between splits", "What is tested must not be trained on.", leaks),
        ("Labels that look wrong", "Pictures like these have another label.", suspects),
        ("Near copies", "Resized, re-encoded, mirrored, cropped.", _plain(facts, "near")),
        ("Exact copies", "Equal pixel by pixel.", _plain(facts, "exact")),
        ("Dark", "Nearly black.", [("", [path]) for path in facts["dark"]]),
        ("Blurred", "Far less sharp than others.", [("", [path]) for path in facts["blurred"]]),
        ("Odd sizes", "Far from the others'.", [("", [path]) for path in facts["odd_sizes"]]),
    ):
        if rows:
            yield title, note, rows


def _plain(facts: Mapping[str, Any], kind: str) -> _Rows:
    return [("", group) for group in facts[f"{kind}_duplicates"]]


def _bounded(
    rows: _Rows,
    room: int,
    index: Mapping[str, int],
    likely: Mapping[str, str],
    dataset: Dataset,
    pixels: Pixels,
) -> tuple[list[dict[str, Any]], int]:
    kept: list[dict[str, Any]] = []
    used = 0
    for title, paths in rows:
        tiles, before = [], used
        for path in paths[:_TILES]:
            image = _data_uri(dataset, index[path], pixels)
            label = dataset.photos[index[path]].label
            tiles.append(
                {"path": path, "label": label, "likely": likely.get(path, ""), "image": image}
            )
            used += len(image)
            if used > room:
                return kept, before
        more = f"{len(paths) - _TILES} more" * (len(paths) > _TILES)
        kept.append({"title": ", ".join(filter(None, (title, more))), "tiles": tiles})
    return kept, used


def _data_uri(dataset: Dataset, index: int, pixels: Pixels) -> str:
    try:
        square = pixels.square(dataset, index)
    except ImageRejected:  # deleted meanwhile
        return "data:,"
    return jpeg_uri(Image.fromarray(square), _QUALITY)
