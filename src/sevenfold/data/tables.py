"""List the photos that a CSV or parquet files name."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sevenfold.answers import bare
from sevenfold.cells import encoding, path_of, table
from sevenfold.data.folders import label_of
from sevenfold.data.photos import ROLES, Listing, Photo, Source
from sevenfold.data.sources import FolderSource, ParquetSource, parquet
from sevenfold.errors import DataError
from sevenfold.image import Box, box_of, shown

COLUMNS = ("path", "image", "label", "split", "group", "box", "x", "y", "w", "h")
"""The columns that mean something; `image` is parquet's, `path` is a CSV's."""

_Cells = dict[str, str]


def read_csv(source: str, file: Path, columns: Mapping[str, str]) -> Listing:
    """List the photos of a CSV with the columns `path`, `label` and, by choice, others.

    Commas, semicolons or tabs part the cells; the text is UTF-8, or UTF-16 with
    a byte order mark. Paths are relative to the CSV's folder.

    Raises:
        DataError: the file is no such table; the line is named.
    """
    folder = file.resolve().parent
    photos = []
    for where, cells in _csv_cells(source, _text(source, file), columns):
        path = path_of(cells["path"], folder)
        if not path:
            raise DataError(f"{where}: the path is empty.", "Name the photo's file.")
        photos.append(_photo(where, path, cells))
    return _listing(source, shown(file.stem), photos, FolderSource(folder, source))


def read_parquet(
    source: str, folder: Path, files: Sequence[Path], columns: Mapping[str, str]
) -> Listing:
    """List the photos of parquet files with the columns `image` and `label`.

    The image is bytes, or a struct of bytes and path; the label is a text or a
    number, whose name is taken from the file's metadata where they hold one.
    Where no column says the split and there are several files, the name of each
    or of its folder does: `train-00000.parquet`.

    Raises:
        DataError: a file is damaged or lacks a column.
        ResourceError: pyarrow is not installed.
    """
    photos: list[Photo] = []
    rows: dict[str, tuple[str, int, int]] = {}
    for file in files:
        relative = file.relative_to(folder).as_posix()
        # The name of a lone file says what it was cut from, not what it is for here.
        role = _role_of(relative) if len(files) > 1 else ""
        for number, (group, row, cells) in enumerate(_parquet_cells(file, relative, columns)):
            path = f"{relative}/{number:07d}"
            path += f"/{cells['path']}" if cells.get("path") else ""
            cells.setdefault("split", role)
            photos.append(_photo(f"{shown(relative)}, row {number}", path, cells))
            rows[path] = (relative, group, row)
    name = shown(folder.resolve().name if len(files) > 1 else files[0].stem)
    image = columns.get("image", "image")
    return _listing(source, name, photos, ParquetSource(folder.resolve(), rows, image, source))


def _text(source: str, file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(
            f"{shown(source)}: cannot be read ({error.strerror}).", "Mend the file's permissions."
        ) from error
    coded = encoding(data)
    try:
        return data.decode(coded)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{shown(source)}: not {coded[:6].rstrip('-').upper()} text (byte {error.start}).",
            "Save the table as CSV in UTF-8.",
        ) from error


def _csv_cells(source: str, text: str, columns: Mapping[str, str]) -> Iterator[tuple[str, _Cells]]:
    """Yield where a row is and its cells by the names that mean something."""
    header, rows = table(io.StringIO(text, newline=""), shown(source))
    names = _names(shown(source), header, columns, ("path", "label"))
    for line, cells in rows:
        where = f"{shown(source)}, line {line}"
        if len(cells) != len(header):
            raise DataError(
                f"{where}: {len(cells)} cells under {len(header)} columns.",
                "Put quotes around cells that hold the separator.",
            )
        row = dict(zip(header, cells, strict=True))
        # What our own tables quote, so that no spreadsheet runs it, is read as it was.
        yield where, {known: bare(row[name]) for known, name in names.items()}


def _parquet_cells(
    file: Path, relative: str, columns: Mapping[str, str]
) -> Iterator[tuple[int, int, _Cells]]:
    """Yield a row's group, its number there and its cells; the pictures stay unread."""
    module = parquet()
    try:
        with module.ParquetFile(file) as opened:
            schema = opened.schema_arrow
            names = _names(shown(relative), schema.names, columns, ("image", "label"))
            image = names.pop("image")
            leaves = {opened.schema.column(i).path for i in range(len(opened.schema))}
            if not leaves & {image, f"{image}.bytes"}:
                raise DataError(
                    f"{shown(relative)}: the column `{shown(image)}` holds no bytes.",
                    "Store each picture as the bytes of its file.",
                )
            wanted = list(names.values()) + [leaf for leaf in leaves if leaf == f"{image}.path"]
            classes = _class_names(schema, names["label"])
            for group in range(opened.num_row_groups):
                table = opened.read_row_group(group, columns=wanted).to_pylist()
                for row, cells in enumerate(table):
                    texts = {known: _cell(cells[name]) for known, name in names.items()}
                    texts["label"] = classes.get(texts["label"], texts["label"])
                    if "path" not in columns:
                        texts["path"] = _cell((cells.get(image) or {}).get("path"))
                    yield group, row, texts
    except (OSError, ValueError) as error:
        raise DataError(
            f"{shown(relative)}: not a readable parquet file ({shown(str(error))}).",
            "Write the file again.",
        ) from error


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _class_names(schema: Any, column: str) -> dict[str, str]:
    """Return number to name, as the metadata of datasets on hubs hold it; else nothing."""
    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = described["info"]["features"][column]["names"]
        return {str(number): str(name) for number, name in enumerate(names)}
    except (KeyError, TypeError, ValueError):
        return {}


def _names(
    where: str, header: Sequence[str], columns: Mapping[str, str], needed: tuple[str, ...]
) -> dict[str, str]:
    """Return the known columns that the table has, under the table's names."""
    required = {*needed, *columns}
    names = {}
    for known in COLUMNS:
        name = columns.get(known, known)
        if header.count(name) == 1:
            names[known] = name
        elif known in required or header.count(name) > 1:
            count = "two columns" if header.count(name) else "no column"
            have = ", ".join(shown(column) for column in header) or "none"
            raise DataError(
                f"{where}: {count} `{shown(name)}`; there are: {have}.",
                f"Name the column: --columns {known}=NAME.",
            )
    return names


def _photo(where: str, path: str, cells: Mapping[str, str]) -> Photo:
    label = label_of(cells["label"])
    if not label:
        raise DataError(f"{where}: {shown(path)} has no label.", "Fill in the label.")
    split = cells.get("split", "").strip().lower()
    if split and split not in ROLES:
        raise DataError(
            f"{where}: the split `{shown(split)}` is unknown.",
            "Write train, val or test, or leave it empty.",
        )
    group = shown(cells.get("group", "").strip())
    return Photo(path, label, ROLES[split] if split else "", group, _box(where, cells))


def _box(where: str, cells: Mapping[str, str]) -> Box:
    try:
        return box_of(cells)
    except ValueError as error:
        raise DataError(
            f"{where}: the box `{shown(str(error))}` is not within the picture.",
            "Write x,y,w,h as fractions of the width and height, between 0 and 1.",
        ) from error


def _role_of(relative: str) -> str:
    """Return the word for a role that begins a file's name or one of its folders', or nothing."""
    for part in reversed(relative.split("/")):
        word = part.replace("_", "-").replace(".", "-").split("-")[0].lower()
        if word in ROLES:
            return word
    return ""


def _listing(source: str, name: str, photos: Sequence[Photo], origin: Source) -> Listing:
    if not photos:
        raise DataError(f"{shown(source)}: there is no row.", "List at least two photos.")
    labels: dict[tuple[str, Box], str] = {}
    for photo in photos:
        other = labels.setdefault((photo.path, photo.box), photo.label)
        if other != photo.label:
            raise DataError(
                f"{shown(source)}: {shown(photo.path)} is labelled `{other}` and `{photo.label}`; "
                "multi-label is not supported.",
                "Keep one label for each photo, or give each a box of its own.",
            )
    return Listing(name, tuple(dict.fromkeys(photos)), origin)
