"""List pictures that a program holds: paths, arrays of pixels, Pillow pictures."""

import io
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from sevenfold import image
from sevenfold.data.photos import Listing, Photo
from sevenfold.data.sources import FolderSource
from sevenfold.errors import ImageRejected, InputError
from sevenfold.image import shown

_FORMS: Final = (
    "give a list of paths, of uint8 arrays [height, width] or [height, width, 3] or of Pillow "
    "pictures, or one uint8 array [pictures, height, width, 3]"
)
_FILES: Final = FolderSource(Path(), "given files")


@dataclass(frozen=True, eq=False)
class GivenSource:
    """Read pictures that lie in memory, and those beside them that were given as paths.

    Args:
        pictures: arrays and Pillow pictures, by the path of their photo.
        location: what messages call them.
    """

    pictures: Mapping[str, Any]
    location: str
    # Pillow opens a file late, and not for two threads at a time.
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def load(self, photo: Photo) -> bytes:
        """Read a file, or encode a picture as one without loss; raises `ImageRejected`."""
        if photo.path not in self.pictures:
            return _FILES.load(photo)
        held = self.pictures[photo.path]
        try:
            with self._lock:
                opened = Image.fromarray(held) if isinstance(held, np.ndarray) else held
                pixels = image.upright(opened)
        except Exception as error:  # a file that Pillow reads late may be anything
            raise ImageRejected(
                f"{shown(photo.path)}: damaged or closed ({shown(str(error))})",
                "Open the picture again or leave it out.",
            ) from error
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "BMP")
        return file.getvalue()


def given(
    pictures: Iterable[Any], labels: Sequence[Any] = (), groups: Sequence[Any] = ()
) -> Listing:
    """List pictures that a program holds, undecoded.

    Args:
        pictures: paths, uint8 arrays [height, width] or [height, width, channels] with 1, 3 or
            4 channels, and Pillow pictures; or one array of any number of such.
        labels: of the pictures; none where they are to be found out.
        groups: name what must not straddle a split; none where each picture stands alone. One
            whose group is None, NaN or "" stands alone too.

    Raises:
        InputError: these are no pictures, or there are not as many labels or groups.

    Example:
        >>> [photo.path for photo in given([np.zeros((4, 4), np.uint8), "b.jpg"]).photos]
        ['X[0]', 'b.jpg']
    """
    items = _listed(pictures)
    for what, some in (("labels", labels), ("groups", groups)):
        if len(some) not in (0, len(items)):
            raise InputError(
                f"there are {len(items)} pictures and {len(some)} {what}",
                f"give as many {what} as pictures",
            )
    held, photos = {}, []
    for at, item in enumerate(items):
        path = os.fsdecode(item) if isinstance(item, str | os.PathLike) else f"X[{at}]"
        if not isinstance(item, str | os.PathLike):
            held[path] = _picture(item, path)
        label = str(labels[at]) if len(labels) else ""
        photos.append(Photo(path, label, group=_group(groups[at]) if len(groups) else ""))
    return Listing("given pictures", tuple(photos), GivenSource(held, "given pictures"))


def _group(name: Any) -> str:
    """Return a group's name; what is missing in a table of a program is an empty cell."""
    try:
        missing = name is None or bool(name != name)  # as NaN and NaT alone are
    except TypeError:  # pandas' NA differs from itself by NA, which is neither true nor false
        missing = True
    return "" if missing else str(name)


def _listed(pictures: Any) -> list[Any]:
    """Return the pictures one by one, or say what was given instead."""
    shape = tuple(getattr(pictures, "shape", ()))
    alone = isinstance(pictures, str | bytes | os.PathLike | Image.Image)
    if alone or not isinstance(pictures, Iterable):
        raise InputError(f"X has the type {type(pictures).__name__}, not of a list", _FORMS)
    if len(shape) == 3 and shape[-1] in (3, 4):
        raise InputError(f"X is one picture of {_sizes(shape)}", "put it in a list: [picture]")
    if len(shape) in (2, *range(5, 33)):
        raise InputError(f"X is {_sizes(shape)}, which is no list of pictures", _FORMS)
    items = list(np.asarray(pictures) if len(shape) > 1 else pictures)
    if not items:
        raise InputError("X holds 0 pictures", "give at least one picture")
    return items


def _picture(item: Any, name: str) -> Any:
    """Return an array that Pillow takes, or the Pillow picture."""
    if isinstance(item, Image.Image):
        return item
    if not isinstance(item, np.ndarray):
        raise InputError(f"{name} has the type {type(item).__name__}, not of a picture", _FORMS)
    if item.dtype != np.uint8:
        raise InputError(
            f"{name} holds {item.dtype}, not uint8",
            "scale values to 0 to 255 and convert them: values.round().astype(np.uint8)",
        )
    fits = item.ndim == 2 or (item.ndim == 3 and item.shape[2] in (1, 3, 4))
    if not fits or not item.size:
        raise InputError(f"{name} is {_sizes(item.shape)}, which is no picture", _FORMS)
    return np.ascontiguousarray(item[..., 0] if item.shape[2:] == (1,) else item)


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
