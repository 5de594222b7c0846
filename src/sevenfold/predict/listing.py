"""List pictures lazily: files, folders in depth, and tables of paths."""

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from PIL import Image

from sevenfold import image
from sevenfold.answers import Source, bare
from sevenfold.cells import SUFFIXES, encoding, path_of, table
from sevenfold.errors import DataError, UsageError


def sources(
    arguments: Iterable[str | Path], *, parts: bool = True, column: str = "path"
) -> Iterator[Source]:
    """List pictures lazily: files, folders in depth, and CSV files with a column of paths.

    Folders are sorted by name; hidden files and what systems leave behind are
    skipped. A CSV is read as `train` reads one; paths in it are relative to its folder. Of a
    row with a box that part is answered, by the name `PATH#x,y,w,h`.

    Args:
        arguments: files, folders and tables.
        parts: whether rows may have boxes.
        column: of a CSV that holds the paths.

    Raises:
        UsageError: an argument does not exist.
        DataError: a CSV cannot be read or has no such column, or names a part of a picture
            where that may not be.
    """
    paths = [Path(argument) for argument in arguments]
    for path in paths:
        if not os.path.exists(path):
            raise UsageError(
                f"{image.shown(str(path))}: no such file or folder",
                "give pictures, folders of pictures or CSV files with a column `path`",
            )
        if _is_table(path):
            next(_in_csv(path, parts, column), None)  # whether it can be read is said at once
    return (source for path in paths for source in _expanded(path, parts, column))


def _expanded(path: Path, parts: bool, column: str) -> Iterator[Source]:
    if path.is_dir():
        yield from _in_folder(str(path), frozenset())
    elif _is_table(path):
        yield from _in_csv(path, parts, column)
    else:
        yield _file(str(path))


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _in_folder(folder: str, above: frozenset[str]) -> Iterator[Source]:
    real = os.path.realpath(folder)
    if real in above:  # a link back to a folder that we are in
        return
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, _is_folder(entry)) for entry in entries)
    except OSError as error:
        yield _failing(folder, error)
        return
    for name, is_folder in found:
        if image.is_leftover(name):
            continue
        path = os.path.join(folder, name)
        if is_folder:
            yield from _in_folder(path, above | {real})
        else:
            yield _file(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # DirEntry.is_dir raises on a link to itself, or into a folder that may not be entered.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _in_csv(path: Path, parts: bool, column: str) -> Iterator[Source]:
    try:
        with path.open("rb") as held:
            # A name that is text in no encoding is still a name.
            lines = io.TextIOWrapper(held, encoding(held.peek(2)), "surrogateescape", newline="")
            header, rows = table(lines, image.shown(str(path)))
            if column not in header:
                raise DataError(
                    f"{image.shown(str(path))} has no column `{image.shown(column)}`",
                    "say which column holds the paths of the pictures: --columns path=NAME",
                )
            missing = dict.fromkeys(header, "")
            for line, cells in rows:
                row = missing | dict(zip(header, cells, strict=False))
                yield _in_row(path, line, row, parts, column)
    except (OSError, UnicodeError) as error:
        raise DataError(
            f"cannot read {image.shown(str(path))}: {error}", "give a CSV file in UTF-8"
        ) from error


def _in_row(file: Path, line: int, row: Mapping[str, str], parts: bool, column: str) -> Source:
    if not (cell := path_of(bare(row[column]), file.parent)):
        return _failing(f"{file}, line {line}", OSError("there is no path in this row"))
    try:
        box = image.box_of(row)
    except ValueError as error:
        told = f"the box `{image.shown(str(error))}` is not within the picture"
        return _failing(f"{file}, line {line}", OSError(told))
    path = str(file.parent / cell)
    if box == image.WHOLE:
        return _file(path)
    if not parts:
        raise DataError(
            f"{image.shown(str(file))}, line {line}, names a part of a picture",
            "name whole pictures, or cut the parts out",
        )
    return image.part_name(_named(path), box), partial(_part, path, box)


def _part(path: str, box: image.Box) -> bytes:
    """Cut out a part, as training did, and keep every pixel of it."""
    held = io.BytesIO()
    pixels = image.crop(image.decode(_read(path), name=_named(path)), box)
    Image.fromarray(pixels).save(held, "PNG", compress_level=1)
    return held.getvalue()


def _file(path: str) -> Source:
    return _named(path), partial(_read, path)


def _read(path: str) -> bytes:
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would never end
        raise OSError("not a file")
    if os.path.getsize(path) > image.LARGEST_FILE:
        raise OSError(f"larger than {image.LARGEST_FILE:,} bytes")
    return Path(path).read_bytes()


def _failing(path: str, error: OSError) -> Source:
    def read() -> bytes:
        raise error

    return _named(path), read


def _named(path: str) -> str:
    # A name that is not text in any encoding is still written to CSV and JSON.
    return path.encode("utf-8", "backslashreplace").decode("utf-8")
