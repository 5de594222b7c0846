"""Write a contact sheet and its label check as one self-contained page."""

import shlex
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8

from sevenfold.image import shown
from sevenfold.pages import jpeg_uri, template
from sevenfold.practices import augmentation
from sevenfold.practices.augmentation import CHANGES, Augmentation, Finding
from sevenfold.studies.preview.drawing import scaled
from sevenfold.studies.preview.labels import Checked
from sevenfold.studies.preview.sheet import Row, Sheet, caption, short

LIMIT_BYTES: Final = 2_900_000  # of pictures: the page stays under 3 MB with its text
TABLE_ROWS: Final = 24
FLAGGED_ROWS: Final = 200
_THUMBNAIL: Final = 176
_QUALITY: Final = 85
# A drop that could not be told from chance has not been shown to do no harm.
_VERDICTS: Final = {"harmless": "within chance"}


def render(
    sheet: Sheet, settings: Augmentation, check: Checked | None, source: Sequence[str]
) -> str:
    """Return the page; what does not fit into 3 MB is left out from the end and counted.

    Args:
        sheet: the pictures.
        settings: whose operations were checked.
        check: what the label check found, or None.
        source: what `sevenfold train` is to be given to read the data.
    """
    operations = _bounded(sheet.operations, LIMIT_BYTES)
    used = sum(map(_size, operations))
    classes = _bounded(sheet.classes, LIMIT_BYTES - used)
    return template("preview.html.j2", (("short", short),)).render(
        sheet=sheet,
        classes=classes,
        operations=operations,
        left_out=sheet.left_out + len(sheet.classes) - len(classes),
        check=_told(check, settings, source) if check else {},
    )


def _bounded(rows: Iterable[Row], room: int) -> list[dict[str, Any]]:
    kept = []
    for row in rows:
        tiles = [{"caption": one.caption, "image": _data_uri(one.pixels)} for one in row.tiles]
        told = {"title": row.title, "note": row.note, "picture": row.picture, "tiles": tiles}
        room -= _size(told)
        if room < 0:
            break
        kept.append(told)
    return kept


def _size(row: dict[str, Any]) -> int:
    return sum(len(tile["image"]) for tile in row["tiles"])


def _data_uri(pixels: UInt8[np.ndarray, "side side 3"]) -> str:
    return jpeg_uri(scaled(pixels, _THUMBNAIL), _QUALITY)


def _told(check: Checked, settings: Augmentation, source: Sequence[str]) -> dict[str, Any]:
    most = max(TABLE_ROWS, min(len(check.flagged), FLAGGED_ROWS))
    rows = [one for one in check.findings if one.augmented < one.clean][:most]
    train = ("sevenfold", "train", *source, "--out", "CLEAN")
    return {
        "model": shown(check.model),
        "pictures": check.pictures,
        "held_out": check.held_out,
        "known": check.known,
        "blind": check.blind,
        "insist": check.insist,
        "flagged": len(check.flagged),
        "few": len(check.unjudged),
        "classes": check.classes,
        "rows": [
            {
                **vars(one),
                "way": _way(one, settings),
                "verdict": _VERDICTS.get(one.verdict, one.verdict),
                "flagged": one.verdict == CHANGES,
            }
            for one in rows
        ],
        "left_out": len(check.findings) - len(rows),
        "settings": shown(shlex.join(check.settings)),
        "clean": shown(shlex.join([*train, *check.clean])),
    }


def _way(finding: Finding, settings: Augmentation) -> str:
    """Say how far an operation goes for a class and which way; empty where there is one alone."""
    if not finding.direction:
        return ""
    own = augmentation.operations(augmentation.for_class(settings, finding.label))
    wanted = finding.operation, finding.direction
    return next(caption(one) for one in own if (one.name, one.direction) == wanted)
