"""Name the values that describe photos before anything is decoded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from sevenfold.image import WHOLE, Box

Role = Literal["", "train", "val", "test"]
"""What a photo is for; empty where the data does not say."""

ROLES: Mapping[str, Role] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""The words for a role that files and columns may use."""


@dataclass(frozen=True, slots=True)
class Photo:
    """Describe one labelled photo.

    Args:
        path: relative to the data, with `/`; may hold lone surrogates for bytes
            that are not UTF-8, so pass it through `shown` for people.
        label: the class, in one printable line.
        role: what the data says the photo is for.
        group: what must not straddle a split (a patient, a site); empty where
            the photo stands alone.
        box: the part that is looked at, as fractions of the upright picture.
        stratum: a kind within the class that a split keeps in proportion.
    """

    path: str
    label: str
    role: Role = ""
    group: str = ""
    box: Box = WHOLE
    stratum: str = ""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Name a photo that is left out, and why."""

    path: str
    reason: str


class Source(Protocol):
    """Read the bytes of a listing's photos, from any thread."""

    @property
    def location(self) -> str:
        """Say where the photos lie: what `scan` was given."""
        ...

    def load(self, photo: Photo) -> bytes:
        """Read one photo's file.

        Raises:
            ImageRejected: the file is missing, unreadable or too large.
        """
        ...


@dataclass(frozen=True)
class Listing:
    """List the photos that a scan found, undecoded, in a fixed order."""

    name: str
    photos: tuple[Photo, ...]
    source: Source
    quarantined: tuple[Quarantined, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the labels, sorted."""
        return tuple(sorted({photo.label for photo in self.photos}))
