"""List the photos of a folder whose folders name the classes."""

import os
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sevenfold.data.photos import ROLES, Listing, Photo, Quarantined, Role
from sevenfold.data.sources import FolderSource
from sevenfold.errors import DataError
from sevenfold.image import is_leftover, shown

ALLOWED_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"}
)
# Pictures to people, though the gate refuses them: they count as unreadable, so that a
# folder half full of them is an error and not a silent loss.
FOREIGN_SUFFIXES = frozenset(
    {".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd", ".ico", ".eps", ".tga"}
    | {".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raw", ".exr", ".ppm", ".pgm"}
)
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*")


@dataclass
class _Found:
    photos: list[Photo] = field(default_factory=list)
    strays: list[Quarantined] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    first_file: dict[str, str] = field(default_factory=dict)


def scan_folder(source: str, folder: Path) -> Listing:
    """List `class/photo.jpg`, or `train|val|test/class/photo.jpg`, each class in depth.

    Hidden folders and what systems leave behind are never classes. A file that
    is no picture by its suffix nor by its first bytes is put into quarantine as
    *not a picture*. Folders that link back to themselves are entered once.

    Raises:
        DataError: there are no class folders, a class holds no picture, or
            folders of roles and of classes lie side by side.
    """
    root = folder.resolve()
    names, loose = _entries(root)
    if not names:
        held = "pictures but no class folders" if any(map(_is_picture, loose)) else "no pictures"
        raise DataError(
            f"{shown(source)} holds {held}.",
            "Put the photos of each class into a folder of its name, or give a CSV of labels.",
        )
    found = _Found(strays=[Quarantined(path.name, "in no class folder") for path in loose])
    roles = _role_folders(source, names)
    if roles:
        for name, role in roles.items():
            _add_role(found, root, name, role)
    else:
        for name in names:
            _add_class(found, root, name, name, "")
    _check(source, found)
    return _listed(source, root, found)


def scan_classes(source: str, folder: Path) -> Listing:
    """List `class/photo.jpg`, each class in depth, whatever its name; a class may be empty."""
    root = folder.resolve()
    names, loose = _entries(root)
    found = _Found(strays=[Quarantined(path.name, "in no class folder") for path in loose])
    for name in names:
        _add_class(found, root, name, name, "")
    return _listed(source, root, found)


def _listed(source: str, root: Path, found: _Found) -> Listing:
    return Listing(
        shown(root.name or source),
        tuple(sorted(found.photos, key=lambda photo: photo.path)),
        FolderSource(root, source),
        tuple(sorted(found.strays, key=lambda stray: stray.path)),
    )


def label_of(text: str) -> str:
    """Write a label as one printable line in Unicode's composed form.

    macOS decomposes accents in file names; a class must not depend on that.
    """
    return unicodedata.normalize("NFC", shown(text.strip()))


def _role_folders(source: str, names: list[str]) -> Mapping[str, Role]:
    """Return folder to role, empty if the folders are classes.

    `train` beside a folder for validation or test is a split; a lone `train`
    beside other names may as well be a class (of vehicles).
    """
    roles = {name: ROLES[name.lower()] for name in names if name.lower() in ROLES}
    others = [name for name in names if name not in roles]
    if not others:
        return roles
    if "train" in roles.values() and len(set(roles.values())) > 1:
        raise DataError(
            f"{shown(source)} holds folders of roles ({', '.join(sorted(roles))}) "
            f"and beside them `{shown(others[0])}`.",
            "Move the other folders away, or put every class into one of the roles.",
        )
    return {}


def _add_role(found: _Found, root: Path, name: str, role: Role) -> None:
    classes, loose = _entries(root / name)
    found.strays += [Quarantined(f"{name}/{path.name}", "in no class folder") for path in loose]
    for label in classes:
        _add_class(found, root, f"{name}/{label}", label, role)


def _add_class(found: _Found, root: Path, folder: str, name: str, role: Role) -> None:
    label = label_of(name)
    if not label:
        raise DataError(f"The name of the class folder {name!r} is blank.", "Rename the folder.")
    found.counts.setdefault(label, 0)
    found.first_file.setdefault(label, "")
    for file in _files(root / folder):
        path = file.relative_to(root).as_posix()
        found.first_file[label] = found.first_file[label] or path
        if _is_picture(file):
            found.counts[label] += 1
            found.photos.append(Photo(path, label, role))
        else:
            found.strays.append(Quarantined(path, "not a picture"))


def _check(source: str, found: _Found) -> None:
    if not found.counts:
        raise DataError(
            f"{shown(source)}: the folders of roles hold no class folders.",
            "Lay the photos out as train/class/photo.jpg and test/class/photo.jpg.",
        )
    for label, count in found.counts.items():
        if count:
            continue
        first = found.first_file[label]
        held = f"no picture (the first file is {shown(first)})" if first else "no files"
        raise DataError(
            f"{shown(source)}: the class folder `{label}` holds {held}.",
            "Remove the folder, or put the photos of the class into it.",
        )


def _entries(folder: Path) -> tuple[list[str], list[Path]]:
    """Return the names of the folders and the files that are not to be ignored, sorted."""
    folders, files = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_leftover(entry.name):
                    continue
                # DirEntry.is_dir raises on a link to itself; os.path.isdir does not.
                linked = entry.is_symlink()
                if os.path.isdir(entry.path) if linked else entry.is_dir():
                    folders.append(entry.name)
                elif linked or entry.is_file():
                    # A broken link is listed, so that it is named as unreadable.
                    files.append(folder / entry.name)
    except OSError as error:
        raise DataError(
            f"{shown(os.fspath(folder))}: cannot be listed ({error.strerror}).",
            "Mend the folder's permissions or leave it out.",
        ) from error
    return sorted(folders), sorted(files)


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder; a folder reached twice, by links, is entered once."""
    entered: set[str] = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        real = os.path.realpath(here)
        if real in entered:
            continue
        entered.add(real)
        folders, files = _entries(here)
        yield from files
        waiting += [here / name for name in reversed(folders)]


def _is_picture(path: Path) -> bool:
    """Decide by the suffix, and where it says nothing, by the first bytes."""
    suffix = path.suffix.lower()
    if suffix in ALLOWED_SUFFIXES or suffix in FOREIGN_SUFFIXES:
        return True
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:
        return False
    webp = start[:4] == b"RIFF" and start[8:] == b"WEBP"
    bitmap = start[:2] == b"BM" and start[6:10] == bytes(4)
    return start.startswith(_MAGIC) or webp or bitmap
