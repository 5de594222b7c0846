"""Read the bytes of photos that lie in folders, parquet files or packages."""

import gzip
import importlib.util
import io
import os
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from sevenfold import image
from sevenfold.data.photos import Photo
from sevenfold.errors import DataError, ResourceError, installing
from sevenfold.image import LARGEST_FILE, shown

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""


@dataclass(frozen=True)
class FolderSource:
    """Read photos that lie as files below a folder, or anywhere by absolute path."""

    folder: Path
    location: str

    def load(self, photo: Photo) -> bytes:
        """Read one file; raises `ImageRejected`."""
        return image.read(self.folder / photo.path, name=photo.path)


@dataclass(frozen=True)
class ParquetSource:
    """Read photos from the image column of parquet files, a row group at a time.

    Args:
        folder: what the files are relative to.
        rows: photo path to (file, row group, row within the group).
        column: the image column.
        location: what `scan` was given.
    """

    folder: Path
    rows: Mapping[str, tuple[str, int, int]]
    column: str
    location: str
    # Two row groups serve neighbouring threads; more would only hold memory.
    _kept: OrderedDict[tuple[str, int], Any] = field(
        default_factory=OrderedDict, repr=False, compare=False
    )
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def load(self, photo: Photo) -> bytes:
        """Read one cell; raises `ImageRejected`."""
        file, group, row = self.rows[photo.path]
        try:
            cell = self._row_group(file, group)[row].as_py()
        except (OSError, ValueError) as error:
            raise image.unread(photo.path, f"cannot be read ({shown(str(error))})") from error
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(data, bytes):
            raise image.unread(photo.path, "the cell holds no bytes")
        return data

    def _row_group(self, file: str, group: int) -> Any:
        with self._lock:
            key = (file, group)
            if key not in self._kept:
                with parquet().ParquetFile(self.folder / file) as opened:
                    table = opened.read_row_group(group, columns=[self.column])
                self._kept[key] = table.column(self.column)
                while len(self._kept) > 2:
                    self._kept.popitem(last=False)
            return self._kept[key]


@dataclass(frozen=True)
class ArraySource:
    """Read photos from arrays of grey pixels, one array for each role."""

    arrays: Mapping[str, UInt8[np.ndarray, "pictures height width"]]
    location: str

    def load(self, photo: Photo) -> bytes:
        """Encode one picture as a file without loss."""
        role, number = photo.path.split("/")
        file = io.BytesIO()
        Image.fromarray(self.arrays[role][int(number)]).save(file, "BMP")
        return file.getvalue()


def parquet() -> Any:
    """Return pyarrow's parquet module.

    Raises:
        ResourceError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ResourceError(
            "Reading parquet needs pyarrow, which is not installed.",
            installing("train"),
        ) from error
    return pyarrow.parquet


def elpv_folder() -> Path:
    """Find the photos of the package elpv-dataset, without importing it.

    Raises:
        ResourceError: the package is not installed.
    """
    spec = importlib.util.find_spec("elpv_dataset")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        data = Path(folder) / "data"
        if (data / "labels.csv").is_file():
            return data
    raise ResourceError("The solar-cell photos `elpv` are not installed.", installing("demo"))


def read_idx(path: Path, dimensions: int) -> UInt8[np.ndarray, "..."]:
    """Read a gzipped idx file of unsigned bytes (LeCun, Cortes and Burges, 1998).

    Raises:
        ResourceError: the file is missing.
        DataError: the file is damaged.
    """
    if not path.is_file():
        raise ResourceError(
            f"{shown(os.fspath(path))}: the pictures `fashion-mnist` are not installed.",
            "Run: sudo apt install dataset-fashion-mnist",
        )
    header = 4 + 4 * dimensions
    try:
        with gzip.open(path) as file:
            magic, *shape = struct.unpack(f">{1 + dimensions}I", file.read(header))
            size = int(np.prod(shape, dtype=object))
            data = file.read(size + 1) if size <= LARGEST_FILE else b""
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise _damaged_idx(path) from error
    if magic != 0x0800 + dimensions or len(data) != size:
        raise _damaged_idx(path)
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _damaged_idx(path: Path) -> DataError:
    return DataError(
        f"{shown(os.fspath(path))}: damaged, not an idx file of bytes.",
        "Run: sudo apt install --reinstall dataset-fashion-mnist",
    )
