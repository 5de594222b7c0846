"""Join pictures that lie in several places, and read what a server has collected."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sevenfold.data.folders import scan_classes
from sevenfold.data.photos import Listing, Photo, Source
from sevenfold.errors import DataError
from sevenfold.image import shown

_PREFIX: Final = re.compile(r"added:([0-9]{1,6}):")


@dataclass(frozen=True)
class JoinedSource:
    """Read photos from several sources; `prefixed` says from which."""

    parts: tuple[Source, ...]

    @property
    def location(self) -> str:
        """Say where the first part lies."""
        return self.parts[0].location

    def load(self, photo: Photo) -> bytes:
        """Read one photo's file; raises `ImageRejected`."""
        part, path = placed(photo.path)
        return self.parts[part].load(replace(photo, path=path))


def prefixed(path: str, part: int) -> str:
    """Name a photo of a part; the first part's keep their names, unless they look like another's.

    Example:
        >>> prefixed("cat/1.jpg", 0), prefixed("cat/1.jpg", 2)
        ('cat/1.jpg', 'added:2:cat/1.jpg')
    """
    return f"added:{part}:{path}" if part or _PREFIX.match(path) else path


def placed(path: str) -> tuple[int, str]:
    """Undo `prefixed`.

    Example:
        >>> placed("added:2:cat/1.jpg")
        (2, 'cat/1.jpg')
    """
    found = _PREFIX.match(path)
    return (int(found[1]), path[found.end() :]) if found else (0, path)


def joined(listings: Sequence[Listing]) -> Listing:
    """Join listings to one, which reads each photo from where it lies."""
    if len(listings) == 1:
        return listings[0]
    photos = [
        replace(photo, path=prefixed(photo.path, part))
        for part, listing in enumerate(listings)
        for photo in listing.photos
    ]
    left_out = [
        replace(item, path=prefixed(item.path, part))
        for part, listing in enumerate(listings)
        for item in listing.quarantined
    ]
    source = JoinedSource(tuple(listing.source for listing in listings))
    return Listing(listings[0].name, tuple(photos), source, tuple(left_out))


def collected(source: str, columns: Mapping[str, str]) -> Listing | None:
    """List the pictures that people have labelled for a server; None for any other source.

    A class from which the last picture was moved has an empty folder, which is no mistake.

    Raises:
        DataError: nobody has labelled a picture yet.
    """
    folder = Path(source)
    if columns or not (folder / "answers.csv").is_file() or not (folder / "labelled").is_dir():
        return None
    found = scan_classes(source, folder / "labelled")
    if not found.photos:
        raise DataError(
            f"{shown(source)} holds no labelled picture",
            "correct answers on the server's page, or label what lies in unlabelled/",
        )
    return replace(found, name=shown(folder.resolve().name))
