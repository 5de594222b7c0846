"""Write a clean list of the data; no photo is touched."""

import csv
import io
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Final

from sevenfold import atomic
from sevenfold.answers import bare, guarded
from sevenfold.data import WHOLE, Dataset, FolderSource, Photo, Role
from sevenfold.errors import DataError, UsageError
from sevenfold.image import has_plain_name, shown
from sevenfold.studies.audit import album

_RISKY: Final = ("=", "+", "-", "@")
_STAYS: Final[Sequence[Role]] = ("test", "val", "train", "")  # where copies straddle roles


def check(source: object, fix: Path) -> None:
    """Refuse what no list can be written for, before any work.

    Raises:
        UsageError: the photos are no files, or the name is not that of a CSV.
    """
    if fix.suffix.lower() != ".csv":
        raise UsageError(f"--fix {shown(str(fix))} is no CSV", "give a name that ends in .csv")
    if not isinstance(source, FolderSource):
        raise UsageError(
            "--fix lists files, and these pictures lie in a table or a package",
            "unpack them into a folder, or leave --fix out",
        )
    if fix.exists():
        raise UsageError(
            f"--fix {shown(str(fix))} exists, and may be the list that is read",
            "give another name, or delete it",
        )


def decided(path: Path) -> dict[str, str]:
    """Read the labels.csv that the page saved: name to label, "" for a dropped picture.

    Raises:
        DataError: the file is no such table.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if not {"path", "label", "decision"} <= set(reader.fieldnames or ()):
                raise ValueError("a column is missing")
            rows = list(reader)
        return {
            bare(row["path"]): "" if row["decision"] == "drop" else bare(row["label"])
            for row in rows
        }
    except (OSError, ValueError, AttributeError, csv.Error) as error:
        raise DataError(
            f"{shown(str(path))} is not the labels.csv of an audit's page",
            "save it anew from audit.html",
        ) from error


def mended(dataset: Dataset, together: Sequence[int]) -> Dataset:
    """Give copies one role and one group, so that none straddles a split.

    A copy of a test picture becomes a test picture, and one of a val picture a val picture:
    what is tested stays, and training gives up what it would have known.

    Args:
        dataset: the readable pictures.
        together: for each a number that it shares with its copies and its given group.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for index, number in enumerate(together):
        members[number].append(index)
    photos = list(dataset.photos)
    for some in members.values():
        roles = {photos[index].role for index in some}
        role = next(one for one in _STAYS if one in roles)
        named = sorted({photos[index].group for index in some} - {""})
        group = named[0] if named else f"copies-{min(dataset.hashes[index] for index in some)[:12]}"
        for index in some if len(some) > 1 else ():
            photos[index] = replace(photos[index], role=role, group=group)
    return replace(dataset, photos=tuple(photos))


def write(
    dataset: Dataset, left_out: Set[int], decisions: Mapping[str, str], fix: Path
) -> tuple[int, int]:
    """Write `path,label[,split,group]`, and boxes where there are any.

    Paths are relative to the list, so that `sevenfold train LIST` finds them. A path that
    a spreadsheet would run gets `./` before it; a label that it would run gets a quote.

    Args:
        dataset: the readable pictures.
        left_out: indices of copies and conflicts; one that was decided on is judged by that.
        decisions: by name; see `decided` and `album.named`.
        fix: the list.

    Returns:
        The rows, and how many pictures are missing there since a table cannot hold their names.
    """
    assert isinstance(dataset.source, FolderSource)
    base = dataset.source.folder
    photos, unlisted = [], 0
    for index, photo in enumerate(dataset.photos):
        label = decisions.get(album.named(photo), "" if index in left_out else photo.label)
        if label and has_plain_name(photo.path):
            photos.append(replace(photo, label=label))
        unlisted += bool(label) and not has_plain_name(photo.path)
    columns = ["path", "label"]
    columns += ["split"] * any(photo.role for photo in photos)
    columns += ["group"] * any(photo.group for photo in photos)
    columns += ["box"] * any(photo.box != WHOLE for photo in photos)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(_rows(photos, columns, base, fix.resolve().parent))
    fix.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(fix, text.getvalue())
    return len(photos), unlisted


def _rows(
    photos: Iterable[Photo], columns: list[str], base: Path, folder: Path
) -> Iterable[list[str]]:
    for photo in photos:
        cells = {
            "path": _relative(base / photo.path, folder),
            "label": _cell(photo.label),
            "split": photo.role,
            "group": _cell(photo.group),
            "box": ",".join(map(repr, photo.box)),
        }
        yield [cells[name] for name in columns]


def _relative(path: Path, folder: Path) -> str:
    try:
        text = os.path.relpath(path, folder)
    except ValueError:  # on another drive
        text = str(path)
    text = text.replace(os.sep, "/")
    return f"./{text}" if text.startswith(_RISKY) else text


def _cell(text: str) -> str:
    """Quote what a spreadsheet would run; numbers stay."""
    try:
        float(text)
    except ValueError:
        return guarded(text)
    return text
