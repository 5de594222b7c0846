"""Find labelled photos: in a folder, a CSV, parquet files or a package."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sevenfold.cells import SUFFIXES
from sevenfold.data.folders import scan_folder
from sevenfold.data.joined import collected
from sevenfold.data.packaged import elpv, fashion_mnist
from sevenfold.data.photos import ROLES, Listing
from sevenfold.data.tables import COLUMNS, read_csv, read_parquet
from sevenfold.errors import DataError, UsageError
from sevenfold.image import shown

PACKAGED = ("elpv", "fashion-mnist")
"""Names of data that packages hold."""


def scan(source: str, *, columns: Mapping[str, str] | None = None, group_by: str = "") -> Listing:
    """List the labelled photos of a source; nothing is decoded.

    Args:
        source: a folder (`class/photo.jpg`, or `train|val|test/class/photo.jpg`;
            classes are searched in depth), a CSV, a parquet file, a folder of
            parquet files, what a server collected, or `elpv` or `fashion-mnist` for
            packaged data (write `./elpv` for a folder of that name).
        columns: other names of the columns of a CSV or parquet file:
            `{"path": "file", "label": "species"}`.
        group_by: a regular expression that is searched in each file's name; its
            first group names what must not straddle a split. A photo whose name
            does not match stands alone.

    Raises:
        UsageError: an argument is wrong or would do nothing.
        DataError: there are no labelled photos to be found.
        ResourceError: a library or a package of data is missing.
    """
    columns = columns or {}
    path = Path(source)
    unknown = sorted(set(columns) - set(COLUMNS))
    if unknown:
        raise UsageError(
            f"columns: `{shown(unknown[0])}` is not a column that can be named.",
            f"Name one of: {', '.join(COLUMNS)}.",
        )
    listing = _packaged(source) or collected(source, columns) or _tables(source, path, columns)
    if listing is None:
        if columns:
            raise UsageError(
                f"{shown(source)} has no columns to rename.",
                "Leave columns out, or give a CSV or parquet file.",
            )
        listing = scan_folder(source, path)
    return grouped(listing, group_by) if group_by else listing


def grouped(listing: Listing, group_by: str) -> Listing:
    """Take each photo's group from its file name.

    Raises:
        UsageError: the expression is wrong, has no group, matches no file name,
            or the data already names groups.
    """
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise UsageError(
            f"group-by: {shown(group_by)!r} is not a regular expression ({error}).",
            r"Write one with a group in brackets, such as '^(patient\d+)_'.",
        ) from error
    if not pattern.groups:
        raise UsageError(
            f"group-by: {shown(group_by)!r} has no group in brackets.",
            r"Put brackets around what names the group, such as '^(patient\d+)_'.",
        )
    if any(photo.group for photo in listing.photos):
        raise UsageError(
            f"group-by: {shown(listing.name)} already has a group column.",
            "Use one of the two.",
        )
    found = [pattern.search(photo.path.rsplit("/", 1)[-1]) for photo in listing.photos]
    if listing.photos and not any(found):
        name = shown(listing.photos[0].path.rsplit("/", 1)[-1])
        raise UsageError(
            f"group-by: {shown(group_by)!r} matches no file name (the first is {name!r}).",
            "Correct the expression or leave it out.",
        )
    photos = tuple(
        replace(photo, group=(match[1] or "") if match else "")
        for photo, match in zip(listing.photos, found, strict=True)
    )
    return replace(listing, photos=photos)


def refuse_among(data: str, out: Path, option: str = "--out") -> None:
    """Refuse to write where the next scan of the photos would look.

    Raises:
        UsageError: the folder lies in that of the photos.
    """
    folder = Path(data)
    if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"{option} {shown(str(out))} lies among the photos, and would pass for some of them",
            "name a folder outside of theirs",
        )


def _packaged(source: str) -> Listing | None:
    if source == "elpv":
        return elpv()
    if source == "fashion-mnist":
        return fashion_mnist()
    return None


def _tables(source: str, path: Path, columns: Mapping[str, str]) -> Listing | None:
    if path.is_dir():
        files = _parquet_files(path)
        return read_parquet(source, path, files, columns) if files else None
    if not path.exists():
        raise DataError(
            f"{shown(source)}: no such folder or file.",
            "Give a folder of class folders, a CSV, a parquet file, `elpv` or `fashion-mnist`.",
        )
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return read_csv(source, path, columns)
    if suffix == ".parquet":
        return read_parquet(source, path.parent, [path], columns)
    raise DataError(
        f"{shown(source)}: not a folder, a CSV or a parquet file.",
        "Unpack an archive first; give a folder of class folders, a .csv or a .parquet.",
    )


def _parquet_files(folder: Path) -> list[Path]:
    """Find parquet files in the folder itself, in `data`, or in folders named by a role."""
    files = sorted(folder.glob("*.parquet"))
    for name in (*ROLES, "data"):
        files += sorted((folder / name).glob("*.parquet"))
    return [file for file in files if file.is_file() and not file.name.startswith(".")]
