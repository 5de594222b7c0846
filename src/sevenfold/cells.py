"""Read tables of pictures as people write them, row by row.

Spreadsheets write UTF-8 or UTF-16, part cells by commas, semicolons or tabs, pad them, and on
Windows write paths with backslashes. What lists pictures to train on and what lists pictures
to answer read all of that alike.
"""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

from sevenfold.errors import DataError

SUFFIXES: Final = (".csv", ".tsv")
"""Of files that are tables, in lower case."""

_FIRST: Final = 2**16  # characters of the first line: a file may have no other

Row = tuple[int, list[str]]
"""The number of the line that a row ends in, and its cells."""


def encoding(start: bytes) -> str:
    """Tell a table's encoding by its first bytes: UTF-16 by its mark, else UTF-8.

    Example:
        >>> encoding("path".encode("utf-16")), encoding(b"path,label")
        ('utf-16', 'utf-8-sig')
    """
    return "utf-16" if start.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"


def table(file: TextIO, name: str) -> tuple[list[str], Iterator[Row]]:
    """Read the names of a table's columns; its rows follow one by one, without empty ones.

    What is there most often in the first line parts the cells: commas, semicolons or tabs.

    Args:
        file: opened with `newline=""`, at its start.
        name: what messages call it.

    Raises:
        DataError: it is no such table, which may turn out at a later row.
    """
    rows = _rows(file, name)
    _, header = next(rows, (0, list[str]()))
    return [cell.strip() for cell in header], (row for row in rows if any(row[1]))


def path_of(cell: str, folder: Path) -> str:
    """Return the path that a cell holds, of a file in a folder or absolute.

    Example:
        >>> path_of(" a.png ", Path())
        'a.png'
    """
    path = cell.strip()
    if "\\" in path and (os.sep == "\\" or not os.path.exists(folder / path)):
        return path.replace("\\", "/")  # written on Windows
    return path


def _rows(file: TextIO, name: str) -> Iterator[Row]:
    separator = max(",;\t", key=file.readline(_FIRST).count)
    file.seek(0)
    reader = csv.reader(file, delimiter=separator, strict=True)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(
            f"{name}, line {reader.line_num}: not a CSV ({error}).",
            "Save the table as CSV in UTF-8.",
        ) from error
