"""Hand augmented views of pictures, or their activations, to the training loop."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from jaxtyping import Int64, UInt8

from sevenfold import draws, heap
from sevenfold.data import Dataset
from sevenfold.features.pixels import Pixels, in_order
from sevenfold.features.store import LARGE_BYTES, Store, home, key, make_room
from sevenfold.features.trunk import Engine, spread
from sevenfold.progress import Progress

_ROWS_AT_ONCE: Final = 16
_ASKED_AT_ONCE: Final = 256  # pictures, so that few are decoded at a time where none is stored


@dataclass(frozen=True)
class Viewer:
    """Make views of a picture, a pure function of the picture's content and the view.

    Args:
        key: names everything that the views depend on.
        make: from a stored picture, 64 bits of its content hash and the number
            of the view to the view's pixels.
    """

    key: str
    make: Callable[[UInt8[np.ndarray, "source source 3"], int, int], UInt8[np.ndarray, "s s 3"]]


def _as_it_is(
    pixels: UInt8[np.ndarray, "side side 3"], _picture: int, _view: int
) -> UInt8[np.ndarray, "side side 3"]:
    return pixels


PLAIN: Final = Viewer("plain", _as_it_is)
"""The picture as it is: what validation and the shipped model see."""


class Views(Protocol):
    """Rows that a network is trained on, by picture and view."""

    @property
    def count(self) -> int:
        """How many views of a picture there are; 0 where they never end."""

    def get(
        self, pictures: Int64[np.ndarray, "rows"], views: Int64[np.ndarray, "rows"]
    ) -> np.ndarray[Any, Any]:
        """Return the rows: activations, or uint8 pixels with channels last."""


def plain_rows(views: Views, pictures: Int64[np.ndarray, "pictures"]) -> np.ndarray[Any, Any]:
    """Return the rows of pictures in their first view, a few pictures at a time."""
    parts = range(0, max(1, len(pictures)), _ASKED_AT_ONCE)
    some = [pictures[start : start + _ASKED_AT_ONCE] for start in parts]
    return np.concatenate([views.get(one, np.zeros_like(one)) for one in some])


class StoredViews:
    """Read activations from a store."""

    def __init__(
        self, store: Store, dataset: Dataset, pictures: Int64[np.ndarray, "some"], count: int
    ) -> None:
        self.store, self.pictures = store, pictures
        self.count = count
        names = [
            key(dataset.hashes[index], view) for index in pictures.tolist() for view in range(count)
        ]
        self._places = np.zeros((len(dataset), count, 2), np.int64)
        self._places[pictures] = store.places(names).reshape(-1, count, 2)

    def get(
        self, pictures: Int64[np.ndarray, "rows"], views: Int64[np.ndarray, "rows"]
    ) -> np.ndarray[Any, Any]:
        """Return stored activations."""
        return self.store.gather(self._places[pictures, views])


class LiveViews:
    """Make views when they are asked for, and run the trunk over them if there is one."""

    def __init__(
        self,
        dataset: Dataset,
        pixels: Pixels,
        viewer: Viewer,
        run: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]],
        threads: int,
        count: int,
    ) -> None:
        self._dataset = dataset
        self._pixels = pixels
        self._viewer = viewer
        self._run = run
        self._numbers = draws.numbers(dataset.hashes)
        self._executor = ThreadPoolExecutor(threads)
        self.count = count  # of each picture; 0 where they never end

    def _one(self, picture: int, view: int) -> UInt8[np.ndarray, "s s 3"]:
        square = self._pixels.square(self._dataset, picture)
        return self._viewer.make(square, int(self._numbers[picture]), view)

    def get(
        self, pictures: Int64[np.ndarray, "rows"], views: Int64[np.ndarray, "rows"]
    ) -> np.ndarray[Any, Any]:
        """Return fresh views."""
        rows = list(self._executor.map(self._one, pictures.tolist(), views.tolist()))
        return self._run(np.stack(rows))


class JoinedViews:
    """Hand out rows of pictures that have views of different kinds."""

    def __init__(self, parts: Sequence[Views], part_of: Int64[np.ndarray, "pictures"]) -> None:
        self.parts, self.part_of = parts, part_of

    @property
    def count(self) -> int:
        """The most views that a picture has; the others go through theirs again."""
        return max(part.count for part in self.parts)

    def get(
        self, pictures: Int64[np.ndarray, "rows"], views: Int64[np.ndarray, "rows"]
    ) -> np.ndarray[Any, Any]:
        """Return each picture's row from its own part."""
        rows: list[Any] = [None] * len(pictures)
        for at, part in enumerate(self.parts):
            places = np.flatnonzero(self.part_of[pictures] == at)
            if len(places):
                seen = views[places] % part.count if part.count else views[places]
                for place, row in zip(places, part.get(pictures[places], seen), strict=True):
                    rows[place] = row
        return np.stack(rows)


def pixel_views(
    dataset: Dataset, pixels: Pixels, viewer: Viewer, *, threads: int, count: int = 0
) -> Views:
    """Hand out pixels, for a network without a frozen trunk.

    From here on the process keeps freed memory (`heap.keep`): such a network's tensors are large.
    """
    heap.keep()
    return LiveViews(dataset, pixels, viewer, lambda rows: rows, threads, count)


def activations(
    dataset: Dataset,
    pictures: Int64[np.ndarray, "some"],
    pixels: Pixels,
    viewer: Viewer,
    engine: Engine,
    *,
    count: int,
    threads: int,
    progress: Progress,
) -> Views:
    """Run the trunk once over every view of every picture that the store lacks.

    Writes to the store. Where the bound leaves no room the activations are
    computed whenever they are needed.

    Args:
        dataset: where the pictures come from.
        pictures: their indices.
        pixels: where their pixels come from.
        viewer: makes the views.
        engine: the trunk.
        count: views of each picture.
        threads: that make views and run the trunk; the rows do not depend on them.
        progress: is told `activations` and the disk that they need.
    """
    name = hashlib.blake2b(
        f"{engine.key}/{viewer.key}/{pixels.name}".encode(), digest_size=12
    ).hexdigest()
    about = {"trunk": engine.key, "views": viewer.key, "shape": engine.shape}
    store = Store(home() / "activations" / name, engine.shape, "float16", about)
    missing = _missing(store, dataset, pictures, count)
    rows = sum(len(views) for _, views in missing)
    if rows and not make_room(rows * store.row_bytes):
        return LiveViews(dataset, pixels, viewer, spread(engine, threads), threads, count)
    numbers = draws.numbers(dataset.hashes)

    def compute(
        chunk: list[tuple[int, list[int]]],
    ) -> tuple[list[bytes], np.ndarray[Any, Any]]:
        names, made = [], []
        for picture, views in chunk:
            square = pixels.square(dataset, picture)
            for view in views:
                names.append(key(dataset.hashes[picture], view))
                made.append(viewer.make(square, int(numbers[picture]), view))
        return names, engine.run(np.stack(made))

    done = 0
    stage = f"activations ({rows * store.row_bytes / 1e6:,.0f} MB of disk)"
    if rows * store.row_bytes >= LARGE_BYTES:
        progress(stage, 0, 0)
    progress(stage, done, rows)
    for names, made in in_order(compute, _chunks(missing), threads):
        store.append(names, made)
        done += len(names)
        progress(stage, done, rows)
    store.close()
    return StoredViews(store, dataset, pictures, count)


def _missing(
    store: Store, dataset: Dataset, pictures: Int64[np.ndarray, "some"], count: int
) -> list[tuple[int, list[int]]]:
    """List the views that the store lacks, each content once."""
    seen: set[str] = set()
    found = []
    for picture in pictures.tolist():
        content = dataset.hashes[picture]
        views = [view for view in range(count) if key(content, view) not in store]
        if views and content not in seen:
            found.append((picture, views))
        seen.add(content)
    return found


def _chunks(missing: list[tuple[int, list[int]]]) -> Iterator[list[tuple[int, list[int]]]]:
    chunk: list[tuple[int, list[int]]] = []
    rows = 0
    for picture, views in missing:
        chunk.append((picture, views))
        rows += len(views)
        if rows >= _ROWS_AT_ONCE:
            yield chunk
            chunk, rows = [], 0
    if chunk:
        yield chunk
