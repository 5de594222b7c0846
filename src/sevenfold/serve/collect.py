"""Keep pictures, answers and corrections, so that the next training learns from them.

```
FOLDER/unlabelled/ID.jpg       nobody has said what it is: `suggest` reads this folder
FOLDER/labelled/CLASS/ID.jpg   a person has said it: `train` and `update` read this folder
FOLDER/answers.csv             time, id, label, probability, by (model or person)
```

The model's own answers are no labels: training on them would only make it surer of
its mistakes. A picture is kept as its upright pixels, so that places, times and devices
in its file are gone; its name is a hash of what is kept, so that it is kept once.
"""

import csv
import hashlib
import io
import os
import re
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, final

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from sevenfold.answers import guarded
from sevenfold.errors import ResourceError, UsageError
from sevenfold.image import shown

QUALITY: Final = 95
"""Of the JPEG: between 90 and 100 it hardly changes what a network sees."""
_PAUSE: Final = 60.0  # seconds between looks into a folder that is full
_ID: Final = re.compile(r"[0-9a-f]{32}")
_RESERVED: Final = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_COLUMNS: Final = ("time", "id", "label", "probability", "by")


@final
class Collection:
    """Keep pictures in a folder, up to a bound; threads may share it.

    Args:
        folder: is made if it is not there.
        classes: of the model, which become names of folders.
        largest: all files of the folder together, in bytes.

    Raises:
        UsageError: a class cannot be the name of a folder on every system.
        ResourceError: the folder cannot be written.
    """

    def __init__(self, folder: Path, classes: Sequence[str], largest: int) -> None:
        for label in classes:
            _refuse(label)
        if len({label.casefold() for label in classes}) < len(classes):
            raise UsageError(
                "two classes differ only in capital letters, which folders may not keep apart",
                "serve without --collect, or train with other names",
            )
        self._folder = folder
        self._classes = frozenset(classes)
        self._largest = largest
        self._lock = threading.Lock()
        self._next_look = 0.0
        try:
            (folder / "unlabelled").mkdir(parents=True, exist_ok=True)
            (folder / "labelled").mkdir(exist_ok=True)
            for torn in folder.glob("unlabelled/*.part"):  # of a kill, or of a full disk
                torn.unlink()
            self._places: dict[str, Path] = {}
            self._held = 0
            self._look()
            self._note("")
        except OSError as error:
            raise _unwritable(folder, error) from error

    def keep(
        self, pixels: UInt8[np.ndarray, "height width 3"], label: str, probability: float
    ) -> str:
        """Keep a picture and what the model said of it.

        Returns:
            The name by which it can be corrected; empty if the folder is full.

        Raises:
            ResourceError: the folder cannot be written, or the picture has more rows or
                columns than JPEG can hold (65,500).
        """
        file = io.BytesIO()
        try:
            Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY, subsampling=0)
        except OSError as error:
            raise _unwritable(self._folder, error) from error
        data = file.getvalue()
        name = hashlib.sha256(data).hexdigest()[:32]
        row = _row(name, label, f"{probability:.6f}", "model")
        with self._lock:
            new = 0 if self._has(name) else len(data)
            if not self._room(new + len(row.encode())):
                return ""
            try:
                if new:
                    place = self._folder / "unlabelled" / f"{name}.jpg"
                    unfinished = place.with_suffix(".part")
                    unfinished.write_bytes(data)
                    os.replace(unfinished, place)
                    self._places[name] = place
                    self._held += new
                self._note(row)
            except OSError as error:
                raise _unwritable(self._folder, error) from error
        return name

    def correct(self, name: str, label: str) -> bool:
        """File a picture under the class that a person named; the last word counts.

        Returns:
            Whether there is such a picture, such a class, and room to note it.

        Raises:
            ResourceError: the folder cannot be written.
        """
        with self._lock:
            if not self._has(name) or label not in self._classes:
                return False
            row = _row(name, label, "", "person")
            if not self._room(len(row.encode())):
                return False
            place = self._folder / "labelled" / label / f"{name}.jpg"
            try:
                place.parent.mkdir(exist_ok=True)
                os.replace(self._places[name], place)
                self._places[name] = place
                self._note(row)
            except OSError as error:
                raise _unwritable(self._folder, error) from error
        return True

    def _look(self) -> None:
        """Find what the folder holds."""
        files = [path for path in self._folder.rglob("*") if path.is_file()]
        self._held = sum(path.stat().st_size for path in files)
        self._places = {p.stem: p for p in files if p.suffix == ".jpg" and _ID.fullmatch(p.stem)}

    def _has(self, name: str) -> bool:
        """Tell whether a picture is there; others may move or delete it at any time."""
        return name in self._places and self._places[name].is_file()

    def _room(self, size: int) -> bool:
        """Tell whether so many bytes may be added; one that seems full may have been emptied."""
        if self._held + size > self._largest and time.monotonic() >= self._next_look:
            with suppress(OSError):  # what another program deletes meanwhile
                self._look()
            self._next_look = time.monotonic() + _PAUSE
        return self._held + size <= self._largest

    def _note(self, row: str) -> None:
        path = self._folder / "answers.csv"
        head = "" if path.exists() else ",".join(_COLUMNS) + "\r\n"
        if not row and _torn(path):
            head = "\r\n"
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(head + row)
        self._held += len((head + row).encode())


def _torn(path: Path) -> bool:
    """Tell whether a kill or a full disk cut off a file's last line."""
    if not path.exists() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def _row(name: str, label: str, probability: str, by: str) -> str:
    text = io.StringIO(newline="")
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    csv.writer(text).writerow((now, name, guarded(label), probability, by))
    return text.getvalue()


def _refuse(label: str) -> None:
    portable = (
        label.isprintable()
        and not set(label) & set('<>:"/\\|?*')
        and not label.startswith((".", " "))
        and not label.endswith((".", " "))
        and 0 < len(label.encode()) <= 200
        and not _RESERVED.fullmatch(label)
    )
    if not portable:
        raise UsageError(
            f"the class {shown(label)!r} cannot be the name of a folder on every system",
            "serve without --collect, or train with another name for this class",
        )


def _unwritable(folder: Path, error: OSError) -> ResourceError:
    return ResourceError(
        f"cannot write {shown(str(folder))}: {error.strerror or error}",
        "free some disk space, or name another folder with --collect",
    )
