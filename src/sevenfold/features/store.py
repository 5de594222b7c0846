"""Keep arrays of one shape by a content key, on disk, append-only.

A store is a folder of segments. One process appends to a segment of its own:
the row first, then a record of key, checksum and place; so a kill at any moment
leaves at worst a row without a record, which is computed again. Readers map the
segments into memory and need no lock; they let go of them every now and then, since what
is mapped counts as the memory of a process.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import sys
import threading
import time
import zlib
from array import array
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO, Final
from uuid import uuid4

import numpy as np
from jaxtyping import Int64

from sevenfold import atomic, image
from sevenfold.errors import ResourceError, UsageError, homeless
from sevenfold.features import lease

LARGE_BYTES: Final = 100_000_000
"""Of new rows, from which on the disk that they take is told before they are made."""
KEY_BYTES: Final = 18  # 16 of a content hash, 2 of a view
_RECORD: Final = np.dtype([("key", f"V{KEY_BYTES}"), ("checksum", "<u4")])
_HELD: Final = re.compile(r"about\.json|trunk\.onnx|[0-9a-f]{32}\.(rows|keys)")
_BESIDE: Final = re.compile(rf"\.part$|{re.escape(lease.SUFFIX)}$")
_GIGABYTE: Final = 1_000_000_000
# What is mapped counts as the memory of a process: 1.4 of 2.9 GB in a training of 3,800 photos
# (docs/log.md, 2026-11-30).
_MAPPED: Final = 64_000_000
"""Bytes that are read before the segments are mapped anew."""
_AROUND: Final = 1 << 16
"""Bytes that Linux maps for one that is read, if they are in memory."""
_PLACE: Final[ContextVar[Path | None]] = ContextVar("place", default=None)


@contextlib.contextmanager
def placed(folder: Path) -> Iterator[None]:
    """Keep all stores that this thread opens below a folder, whatever SEVENFOLD_CACHE says."""
    before = _PLACE.set(folder)
    try:
        yield
    finally:
        _PLACE.reset(before)


def home() -> Path:
    """Return the folder of all stores: SEVENFOLD_CACHE, or the platform's cache folder.

    Raises:
        ResourceError: the user has no home folder, as in some containers and services.
    """
    if placed_at := _PLACE.get():
        return placed_at
    if chosen := os.environ.get("SEVENFOLD_CACHE"):
        return Path(chosen)
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen) / "sevenfold"
    local = os.environ.get("LOCALAPPDATA")
    if sys.platform == "win32" and local:
        return Path(local) / "sevenfold" / "cache"
    try:
        user = Path.home()
    except RuntimeError as error:
        raise homeless() from error
    if sys.platform == "win32":
        return user / "sevenfold" / "cache"
    if sys.platform == "darwin":
        return user / "Library" / "Caches" / "sevenfold"
    return user / ".cache" / "sevenfold"


def key(content_hash: str, view: int = 0) -> bytes:
    """Join a picture's content hash and a view to a row's key."""
    return bytes.fromhex(content_hash) + view.to_bytes(2, "little")


def disk_full(error: OSError, folder: Path) -> ResourceError:
    """Explain a failed write: the disk is full, or the folder cannot be written to."""
    cure = "make it writable, or set SEVENFOLD_CACHE to another folder"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        cure = "free some space, run `sevenfold cache --clear`, or set SEVENFOLD_CACHE"
        return ResourceError(f"the disk of {folder} is full", cure)
    return ResourceError(f"cannot write to {folder}: {error.strerror}", cure)


class Store:
    """Keep rows of one shape by key; several threads may share one.

    Args:
        folder: where the segments lie; made when the first row is appended.
        shape: of one row.
        dtype: of one row.
        about: facts for `sevenfold cache`, written beside the segments.
    """

    def __init__(
        self, folder: Path, shape: tuple[int, ...], dtype: str, about: dict[str, Any]
    ) -> None:
        self.folder = folder
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.row_bytes = int(np.prod(shape)) * self.dtype.itemsize
        self._about = about
        self._places: dict[bytes, tuple[int, int]] = {}
        self._segments: list[Path] = []
        self._maps: dict[int, np.ndarray[Any, Any]] = {}
        self._checked: dict[int, np.ndarray[Any, Any]] = {}
        self._checksums: list[array[int]] = []
        self._writer: tuple[BinaryIO, BinaryIO, int] | tuple[()] = ()
        self._lock = threading.Lock()  # of maps and checksums, which grow as rows are appended
        self._read = 0
        self._touched = time.monotonic()
        lease.take(folder)
        with contextlib.suppress(OSError):  # not there yet, or not ours
            os.utime(folder)  # what was unused for longest goes first, see `make_room`
        for records in sorted(folder.glob("*.keys")):
            with contextlib.suppress(FileNotFoundError):  # deleted to make room just now
                self._open(records)

    def _open(self, records: Path) -> None:
        # A torn last record, or records beyond the rows, are as if not written.
        raw = records.read_bytes()
        table = np.frombuffer(raw[: len(raw) // _RECORD.itemsize * _RECORD.itemsize], _RECORD)
        rows = records.with_suffix(".rows")
        there = rows.stat().st_size // self.row_bytes if rows.exists() else 0
        table = table[:there]
        number = len(self._segments)
        self._segments.append(rows)
        self._checksums.append(array("I", table["checksum"].astype("=u4").tobytes()))
        for place, name in enumerate(table["key"].tolist()):
            self._places.setdefault(name, (number, place))

    def __contains__(self, name: bytes) -> bool:
        return name in self._places

    def __len__(self) -> int:
        return len(self._places)

    def append(self, names: Sequence[bytes], rows: np.ndarray[Any, Any]) -> None:
        """Write rows; keys that are already there are kept as they were.

        Raises:
            ResourceError: the disk is full or the folder cannot be written to.
        """
        try:
            with self._lock:
                self._append(names, rows)
        except OSError as error:
            raise disk_full(error, self.folder) from error

    def _append(self, names: Sequence[bytes], rows: np.ndarray[Any, Any]) -> None:
        fresh = [place for place, name in enumerate(names) if name not in self._places]
        if not fresh:
            return
        if not self._writer:
            self._start_segment()
        data, records, number = self._writer  # type: ignore[misc]
        rows = np.ascontiguousarray(rows, dtype=self.dtype)
        table = np.zeros(len(fresh), _RECORD)
        start = len(self._checksums[number])
        for at, place in enumerate(fresh):
            data.write(rows[place].data)
            table[at] = (names[place], zlib.crc32(rows[place].data))
        data.flush()
        records.write(table.tobytes())
        records.flush()
        self._checksums[number].extend(table["checksum"].tolist())
        self._maps.pop(number, None)
        # Last: other threads look here first, and must then find the row itself.
        for at, place in enumerate(fresh):
            self._places[names[place]] = (number, start + at)

    def _start_segment(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        lease.take(self.folder)
        atomic.write(self.folder / "about.json", json.dumps(self._about))
        rows = self.folder / f"{uuid4().hex}.rows"
        self._writer = (
            rows.open("xb"),
            rows.with_suffix(".keys").open("xb"),
            len(self._segments),
        )
        self._segments.append(rows)
        self._checksums.append(array("I"))

    def close(self) -> None:
        """Close the segment that this process appends to."""
        if self._writer:
            self._writer[0].close()
            self._writer[1].close()
            self._writer = ()

    def places(self, names: Sequence[bytes]) -> Int64[np.ndarray, "rows 2"]:
        """Return segment and row number of each key, which must be there."""
        found = [self._places[name] for name in names]
        return np.array(found, dtype=np.int64).reshape(-1, 2)

    def _map(self, number: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], "array[int]"]:
        """Return rows, which of them were checked, and the checksums of one segment."""
        if number not in self._maps:
            count = len(self._checksums[number])
            self._maps[number] = self._mapped(self._segments[number], count)
            before = self._checked.get(number, np.zeros(0, bool))
            if len(before) < count:
                checked = np.zeros(count, bool)
                checked[: len(before)] = before
                self._checked[number] = checked
        return self._maps[number], self._checked[number], self._checksums[number]

    def _mapped(self, rows: Path, count: int) -> np.ndarray[Any, Any]:
        try:
            return np.memmap(rows, self.dtype, "r", shape=(count, *self.shape))
        except FileNotFoundError as error:
            raise ResourceError(
                f"{self.folder} was deleted while it was in use", "repeat the command"
            ) from error

    def gather(self, places: Int64[np.ndarray, "rows 2"]) -> np.ndarray[Any, Any]:
        """Read rows by their places; each is checked against its checksum once.

        Returns:
            A new array `[rows, *shape]`.

        Raises:
            ResourceError: a row on disk is damaged, or the store was deleted.
        """
        if time.monotonic() - self._touched > lease.BEAT_SECONDS:
            self._touched = time.monotonic()
            lease.take(self.folder)
        out = np.empty((len(places), *self.shape), self.dtype)
        for number in np.unique(places[:, 0]).tolist():
            with self._lock:
                rows, checked, checksums = self._map(number)
            mine = np.flatnonzero(places[:, 0] == number)
            at = places[mine, 1]
            out[mine] = rows[at]
            for place, row in zip(mine.tolist(), at.tolist(), strict=True):
                if not checked[row]:
                    self._check(out[place], checksums[row])
                    checked[row] = True
        with self._lock:
            self._read += max(out.nbytes, len(places) * _AROUND)
            if self._read > _MAPPED:
                self._read = 0
                self._maps.clear()
        return out

    def _check(self, values: np.ndarray[Any, Any], checksum: int) -> None:
        if zlib.crc32(np.ascontiguousarray(values).data) != checksum:
            raise ResourceError(
                f"a stored row in {self.folder} is damaged",
                "run `sevenfold cache --clear` and repeat the command",
            )


def _size(folder: Path, suffix: str = "") -> int:
    """Return the bytes of a store, or of one kind of its files; 0 where it is deleted."""
    found = 0
    with contextlib.suppress(FileNotFoundError):
        for part in folder.iterdir():
            if part.suffix == suffix or (not suffix and part.suffix != lease.SUFFIX):
                found += part.stat().st_size
    return found


def _used(folder: Path) -> float:
    """Return when a store was used last."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _folders(kind: str) -> list[Path]:
    kinds = ("pixels", "activations", "fingerprints", "trunks") if kind == "all" else (kind,)
    return [
        folder
        for name in kinds
        if (home() / name).is_dir()
        for folder in sorted((home() / name).iterdir())
        if folder.is_dir() and _ours(folder)
    ]


def _ours(folder: Path) -> bool:
    """Tell whether a folder holds a store and nothing else: the place may be anybody's."""
    with contextlib.suppress(OSError):  # it is gone meanwhile
        names = [path.name for path in folder.iterdir() if not image.is_leftover(path.name)]
        held = any(_HELD.fullmatch(name) for name in names)
        return held and all(_HELD.fullmatch(name) or _BESIDE.search(name) for name in names)
    return False


def caches() -> list[dict[str, Any]]:
    """List the stores: kind, name, megabytes, rows, what they hold. Reads the disk."""
    return [
        {
            "kind": folder.parent.name,
            "name": folder.name,
            "megabytes": round(_size(folder) / 1e6, 1),
            "rows": _size(folder, ".keys") // _RECORD.itemsize,
            "about": _about(folder),
            "path": str(folder),
        }
        for folder in _folders("all")
    ]


def _about(folder: Path) -> dict[str, Any]:
    """Read what a store says of itself; nothing where it is damaged, or gone meanwhile."""
    try:
        found = json.loads((folder / "about.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def clear(kind: str = "all") -> tuple[float, int]:
    """Delete the stores that no other process uses.

    Args:
        kind: `all`, `pixels`, `activations`, `fingerprints` or `trunks`.

    Returns:
        The megabytes freed, and how many stores are in use and stay.
    """
    freed, used = 0, 0
    for folder in _folders(kind):
        size = _size(folder)
        lease.drop(folder)
        if lease.delete(folder):
            freed += size
        else:
            used += 1
    return freed / 1e6, used


def bound_bytes() -> int:
    """Return how much the stores may hold.

    That is SEVENFOLD_CACHE_GB, or what they hold and half of the free disk, 100 GB at most.

    Raises:
        UsageError: SEVENFOLD_CACHE_GB is not a number.
    """
    if chosen := os.environ.get("SEVENFOLD_CACHE_GB"):
        try:
            return int(float(chosen) * _GIGABYTE)
        except (ValueError, OverflowError) as error:
            raise UsageError(
                f"SEVENFOLD_CACHE_GB = {chosen!r} is not a number", "give gigabytes, such as 20"
            ) from error
    folder = home()
    while not folder.exists():
        folder = folder.parent
    held = sum(_size(part) for part in _folders("all"))
    return min(100 * _GIGABYTE, held + shutil.disk_usage(folder).free // 2)


def make_room(needed_bytes: int) -> bool:
    """Tell whether the bound leaves room, after deleting the stores unused for longest.

    Those that a process has opened, this one or another, are kept; see `lease`.

    Args:
        needed_bytes: what is about to be written.
    """
    bound = bound_bytes()
    if needed_bytes > bound:
        return False
    sizes = {folder: _size(folder) for folder in _folders("all")}
    held = sum(sizes.values())
    for folder in sorted(sizes, key=_used):
        if held + needed_bytes <= bound:
            break
        if lease.delete(folder):
            held -= sizes[folder]
    return held + needed_bytes <= bound
