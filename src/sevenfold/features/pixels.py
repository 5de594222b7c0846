"""Decode each picture once, into a store of square uint8 pictures."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from jaxtyping import Int64, UInt8

from sevenfold import image
from sevenfold.data import Dataset, Listing, Photo, SmallClasses, fingerprint_all, read
from sevenfold.errors import ImageRejected, ResourceError
from sevenfold.features.store import LARGE_BYTES, Store, home, key, make_room
from sevenfold.image import WHOLE
from sevenfold.progress import Progress

# Room for random crops that stay sharp: pictures are stored a little larger
# than the network sees them.
MARGIN: Final = 1.15
_FINGERPRINT_BYTES: Final = 24
_ROWS_AT_ONCE: Final = 128


class Pixels:
    """Hand out pictures as squares: from the store, or decoded where it has none.

    Args:
        side: of the squares in pixels.
        full: decode JPEGs in full, as the shipped model sees them, not at the
            smallest scale that is enough to train on.
    """

    def __init__(self, side: int, *, full: bool = False) -> None:
        self.side = side
        self.full = full
        how = "-full" if full else "-scaled" if side > image.DRAFT_SIDE else ""
        self.name = f"{side}{how}"
        self.store = Store(
            home() / "pixels" / self.name, (side, side, 3), "uint8", {"side_pixels": side}
        )

    def square(self, dataset: Dataset, index: int) -> UInt8[np.ndarray, "side side 3"]:
        """Return one picture, resized as a whole."""
        name = key(dataset.hashes[index])
        if name in self.store:
            return np.asarray(self.store.gather(self.store.places([name]))[0])
        if self.full:
            return image.resize(dataset.decode(index), self.side)
        return squared(dataset.load(index), dataset.photos[index], self.side)[1]


def squared(
    data: bytes, photo: Photo, side: int
) -> tuple[image.Fingerprint, UInt8[np.ndarray, "side side 3"]]:
    """Identify a picture and resize it to the square that the store keeps of it.

    A fingerprint's pixels may be fewer than those of a large square.

    Raises:
        ImageRejected: it cannot be read.
    """
    found, pixels = image.fingerprint(data, name=photo.path, box=photo.box)
    if min(pixels.shape[:2]) < side and side > image.DRAFT_SIDE:
        enough = math.ceil(side / min(photo.box[2:]))
        whole = image.decode(data, name=photo.path, draft_side=enough)
        pixels = image.crop(whole, photo.box) if photo.box != WHOLE else whole
    return found, image.resize(pixels, side)


def _file_key(data: bytes, photo: Photo) -> bytes:
    digest = hashlib.blake2b(data, digest_size=16)
    digest.update(repr(photo.box).encode())
    return digest.digest() + b"\0\0"


def _pack(found: image.Fingerprint) -> UInt8[np.ndarray, "24"]:
    sizes = found.width.to_bytes(4, "little") + found.height.to_bytes(4, "little")
    return np.frombuffer(bytes.fromhex(found.hash) + sizes, np.uint8)


def _unpack(row: UInt8[np.ndarray, "24"]) -> image.Fingerprint:
    raw = row.tobytes()
    width, height = (int.from_bytes(raw[at : at + 4], "little") for at in (16, 20))
    return image.Fingerprint(raw[:16].hex(), width, height)


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Squares = tuple[UInt8[np.ndarray, "side side 3"], ...]  # one, or none where it is stored already


def in_order(
    work: Callable[[_Item], _Result], items: Iterable[_Item], threads: int
) -> Iterator[_Result]:
    """Run work on several threads and yield the results in order, few at a time."""
    with ThreadPoolExecutor(threads) as executor:
        waiting: list[Future[_Result]] = []
        for item in items:
            waiting.append(executor.submit(work, item))
            if len(waiting) >= 4 * threads:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def for_training(side: int) -> Pixels:
    """Return the pictures that networks of a side are trained on, a little larger than it."""
    return Pixels(round(MARGIN * side))


def opened(
    source: str,
    side: int,
    *,
    threads: int,
    progress: Progress,
    columns: Mapping[str, str] | None = None,
    group_by: str = "",
    small_classes: SmallClasses = "refuse",
) -> tuple[Pixels, Dataset]:
    """Read a data set and decode its pictures once, for a network of a side.

    Writes to the store. For the arguments see `data.read`.
    """
    pixels = for_training(side)

    def fingerprints(listing: Listing) -> tuple[image.Fingerprint | ImageRejected, ...]:
        return ingest(listing, pixels=pixels, threads=threads, progress=progress)

    return pixels, read(
        source,
        columns=columns,
        group_by=group_by,
        small_classes=small_classes,
        fingerprints=fingerprints,
    )


def ingest(
    listing: Listing, *, pixels: Pixels, threads: int, progress: Progress
) -> tuple[image.Fingerprint | ImageRejected, ...]:
    """Fingerprint every picture and fill the pixel store, decoding what is new.

    Writes to the stores. Where the bound leaves no room pictures are
    fingerprinted only, and decoded again whenever they are needed.

    Args:
        listing: the pictures.
        pixels: the store to fill.
        threads: that decode; the result does not depend on them.
        progress: is told `decode` and the disk that it may need.
    """
    known = Store(_fingerprints(), (_FINGERPRINT_BYTES,), "uint8", {})
    room = True  # looked at anew before every few pictures that are stored
    stored = 0

    def decode(photo: Photo) -> tuple[bytes, image.Fingerprint | ImageRejected, _Squares]:
        try:
            data = listing.source.load(photo)
            name = _file_key(data, photo)
            if name in known:
                found = _unpack(known.gather(known.places([name]))[0])
                if not room or key(found.hash) in pixels.store:
                    return name, found, ()
            if not room:
                return name, image.fingerprint(data, name=photo.path, box=photo.box)[0], ()
            found, square = squared(data, photo, pixels.side)
        except ImageRejected as rejected:
            return b"", rejected, ()
        return name, found, (square,)

    results: list[image.Fingerprint | ImageRejected] = []
    total = len(listing.photos)
    stage = f"decode (up to {total * pixels.store.row_bytes / 1e6:,.0f} MB of disk)"
    if total * pixels.store.row_bytes >= LARGE_BYTES:
        progress(stage, 0, 0)
    progress(stage, 0, total)
    for name, found, squares in in_order(decode, listing.photos, threads):
        results.append(found)
        progress(stage, len(results), total)
        if isinstance(found, ImageRejected):
            continue
        for square in squares:
            if stored % _ROWS_AT_ONCE == 0:
                room = make_room(_ROWS_AT_ONCE * pixels.store.row_bytes)
            if room:
                pixels.store.append([key(found.hash)], square[None])
            stored += 1
        known.append([name], _pack(found)[None])
    pixels.store.close()
    known.close()
    return tuple(results)


def recognised(
    listing: Listing, *, threads: int, progress: Progress
) -> tuple[image.Fingerprint | ImageRejected, ...]:
    """Fingerprint every picture, decoding only what no training has seen. Reads the store.

    Args:
        listing: the pictures.
        threads: that read and decode, 1 or more; the result does not depend on them.
        progress: is told `reading photos`.
    """
    try:
        known = Store(_fingerprints(), (_FINGERPRINT_BYTES,), "uint8", {})
    except ResourceError:  # no home folder: nothing was ever stored
        return fingerprint_all(listing, threads=threads, progress=progress)

    def stored(data: bytes, photo: Photo) -> image.Fingerprint | None:
        name = _file_key(data, photo)
        return _unpack(known.gather(known.places([name]))[0]) if name in known else None

    try:
        return fingerprint_all(listing, threads=threads, progress=progress, known=stored)
    finally:
        known.close()


def _fingerprints() -> Path:
    """Return the store of what identifies a file's picture."""
    return home() / "fingerprints" / f"draft-{image.DRAFT_SIDE}"


def fill(
    pixels: Pixels,
    dataset: Dataset,
    pictures: Int64[np.ndarray, " pictures"],
    *,
    threads: int,
    progress: Progress,
) -> None:
    """Decode the pictures that a store lacks into it, for rows that are read every epoch.

    Writes to the store, unless the bound leaves no room.
    """
    missing = [int(index) for index in pictures if key(dataset.hashes[index]) not in pixels.store]
    if not make_room(len(missing) * pixels.store.row_bytes):
        return
    squares = in_order(lambda index: pixels.square(dataset, index), missing, threads)
    for done, (index, square) in enumerate(zip(missing, squares, strict=True), 1):
        pixels.store.append([key(dataset.hashes[index])], square[None])
        progress("decode", done, len(missing))
    pixels.store.close()
