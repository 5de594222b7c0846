"""Turn a listing and its fingerprints into a data set that can be trusted."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int64, UInt8

from sevenfold import image, progress
from sevenfold.cores import usable_cores
from sevenfold.data.photos import Listing, Photo, Quarantined, Source
from sevenfold.data.scan import scan
from sevenfold.errors import DataError, ImageRejected, UsageError
from sevenfold.image import Fingerprint, shown

SmallClasses = Literal["refuse", "drop", "other"]
"""What happens to a class that is too small."""
SMALLEST_CLASS = 5
"""The fewest different pictures of a class: one goes to test, and the four that are
left put the class into four of five folds."""
SMALLEST_GROUPS = 3
"""The fewest groups of a class where no roles are given: one for each role."""
OTHER = "other"
"""The class that small classes are merged into on demand."""

_CHUNK = 64

Fingerprints = Callable[[Listing], Sequence[Fingerprint | ImageRejected]]
"""Decodes every photo of a listing, in its order."""
Known = Callable[[bytes, Photo], Fingerprint | None]
"""Tells what identifies a photo of these bytes, where it was decoded before."""


@dataclass(frozen=True)
class Dataset:
    """Hold the usable photos of a listing, with content hashes, labels and groups.

    Args:
        name: of the data, for people.
        photos: as listed, without those in quarantine.
        hashes: 32 hex digits each; equal where the pixels are equal.
        labels: indexes into `classes`.
        groups: names of what must not straddle a split; photos that share a
            given group, the same pixels or the same file share a name.
        classes: sorted.
        quarantined: what was left out, and why.
        source: reads the photos' bytes.
        sizes: width and height of the upright pictures, in pixels.
    """

    name: str
    photos: tuple[Photo, ...]
    hashes: tuple[str, ...]
    labels: Int64[np.ndarray, " pictures"]
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    quarantined: tuple[Quarantined, ...]
    source: Source
    sizes: Int64[np.ndarray, "pictures 2"]

    def __repr__(self) -> str:
        # In one line: a notebook would show every photo.
        return f"Dataset({self.name!r}: {len(self)} pictures, {len(self.classes)} classes)"

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.photos)

    def load(self, index: int) -> bytes:
        """Read the bytes of one photo's file; raises `ImageRejected`."""
        return self.source.load(self.photos[index])

    def decode(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """Decode one picture in full, cut to its box, as the shipped model sees it.

        Raises:
            ImageRejected: it cannot be used.
        """
        photo = self.photos[index]
        return image.crop(image.decode(self.load(index), name=photo.path), photo.box)


def fingerprint_all(
    listing: Listing,
    *,
    threads: int = 0,
    progress: progress.Progress = progress.silent,
    known: Known = lambda _data, _photo: None,
) -> tuple[Fingerprint | ImageRejected, ...]:
    """Read every photo once, and decode it for what identifies it, unless that is known.

    The answers come in the order of the listing whatever the number of threads.

    Args:
        listing: what to read.
        threads: 0 for as many as there are cores.
        progress: told after each few photos.
        known: what identifies a photo, by its bytes, or None.
    """
    photos = listing.photos
    chunks = [photos[start : start + _CHUNK] for start in range(0, len(photos), _CHUNK)]
    found: list[Fingerprint | ImageRejected] = []
    pool = ThreadPoolExecutor(threads or usable_cores())
    try:
        for chunk in pool.map(
            lambda some: [_fingerprint(listing.source, p, known) for p in some], chunks
        ):
            found += chunk
            progress("reading photos", len(found), len(photos))
    finally:
        pool.shutdown(cancel_futures=True)
    return tuple(found)


def _fingerprint(source: Source, photo: Photo, known: Known) -> Fingerprint | ImageRejected:
    try:
        data = source.load(photo)
        return known(data, photo) or image.fingerprint(data, name=photo.path, box=photo.box)[0]
    except ImageRejected as rejected:
        return rejected


def read(
    source: str | os.PathLike[str],
    *,
    columns: Mapping[str, str] | None = None,
    group_by: str = "",
    small_classes: SmallClasses = "refuse",
    max_unreadable: float = 0.1,
    classes: Sequence[str] = (),
    fingerprints: Fingerprints = fingerprint_all,
) -> Dataset:
    """Read a source into a data set: `scan`, then `fingerprints`, then `assemble`.

    Args:
        source: path of a folder or table, or a name of packaged data; see `scan`.
        columns: other names of a table's columns: `{"path": "file", "label": "species"}`.
        group_by: a regular expression whose first group, searched in each file's name, names
            what must not straddle a split; "" where none is wanted.
        small_classes: what happens to a class that is too small: `refuse`, `drop` or `other`,
            see `assemble`.
        max_unreadable: the share of unreadable photos beyond which the data is refused, 0 to 1.
        classes: those of a trained model, which labels then index; none where the data says.
        fingerprints: decodes every photo of a listing, in its order.

    Raises:
        UsageError: an argument is wrong or would do nothing.
        DataError: there are no labelled photos, or too few that can be used.
        ResourceError: a library or a package of data is missing.
    """
    listing = scan(os.fspath(source), columns=columns, group_by=group_by)
    return assemble(
        listing,
        fingerprints(listing),
        small_classes=small_classes,
        max_unreadable=max_unreadable,
        classes=classes,
    )


def assemble(
    listing: Listing,
    fingerprints: Sequence[Fingerprint | ImageRejected],
    *,
    small_classes: SmallClasses = "refuse",
    max_unreadable: float = 0.1,
    classes: Sequence[str] = (),
) -> Dataset:
    """Leave out what cannot be used and join what belongs together.

    Unreadable photos are put into quarantine, as are all copies of a picture
    that has two labels. Exact duplicates share a group.

    Args:
        listing: the photos.
        fingerprints: one for each, in order.
        small_classes: what happens to a class of fewer than `SMALLEST_CLASS`
            different pictures or, where no roles are given, `SMALLEST_GROUPS`
            groups: `refuse` raises, `drop` leaves it out, `other` merges all
            such classes into one.
        max_unreadable: the share of unreadable photos beyond which the data is
            refused, 0 to 1.
        classes: those of a trained model. Labels then index these, and no class is too
            small; any other label is an error, with `drop` left out, and with `other` that
            class's, if there is one.

    Raises:
        DataError: too many photos are unreadable, a class is too small, fewer
            than two classes are left, or a label is absent from training.
        UsageError: `small_classes` is none of the three.
    """
    if small_classes not in get_args(SmallClasses):
        raise UsageError(
            f"small-classes: {small_classes!r} is unknown.", "Choose refuse, drop or other."
        )
    kept = [
        (photo, print_)
        for photo, print_ in zip(listing.photos, fingerprints, strict=True)
        if isinstance(print_, Fingerprint)
    ]
    unreadable = [
        Quarantined(photo.path, print_.problem.removeprefix(f"{shown(photo.path)}: "))
        for photo, print_ in zip(listing.photos, fingerprints, strict=True)
        if isinstance(print_, ImageRejected)
    ]
    _check_readable(listing, unreadable, max_unreadable)
    kept, conflicts = _without_conflicts(kept)
    kept, small = (
        _known(kept, classes, small_classes)
        if classes
        else _without_small(listing, kept, small_classes)
    )
    photos = tuple(photo for photo, _ in kept)
    names = tuple(classes) or tuple(sorted({photo.label for photo in photos}))
    _check_classes(listing, photos, names, known=bool(classes))
    index = {name: number for number, name in enumerate(names)}
    hashes = tuple(print_.hash for _, print_ in kept)
    return Dataset(
        listing.name,
        photos,
        hashes,
        np.array([index[photo.label] for photo in photos], dtype=np.int64),
        merged_groups(photos, hashes),
        names,
        (*listing.quarantined, *unreadable, *conflicts, *small),
        listing.source,
        np.array([(p.width, p.height) for _, p in kept], dtype=np.int64).reshape(-1, 2),
    )


def merged_groups(
    photos: Sequence[Photo], hashes: Sequence[str], together: Iterable[Sequence[int]] = ()
) -> tuple[str, ...]:
    """Name the connected groups of photos that share a given group, pixels or a file.

    A group is called by the first of its given names, else by its smallest hash.

    Args:
        photos: as listed.
        hashes: of their content.
        together: indices of photos that belong together for another reason.
    """
    parents: dict[tuple[str, str], tuple[str, str]] = {}

    def root(key: tuple[str, str]) -> tuple[str, str]:
        parents.setdefault(key, key)
        while parents[key] != key:
            parents[key] = parents[parents[key]]
            key = parents[key]
        return key

    def join(keys: Iterable[tuple[str, str]]) -> None:
        # The smallest key stays the root, so that it can name the group.
        first, *others = sorted(map(root, keys))
        for other in others:
            parents[other] = first

    for photo, hash_ in zip(photos, hashes, strict=True):
        keys = [("2 hash", hash_), ("3 path", photo.path)]
        join([*keys, ("1 group", photo.group)] if photo.group else keys)
    for some in together:
        join(("2 hash", hashes[index]) for index in some)
    return tuple(root(("2 hash", hash_))[1] for hash_ in hashes)


_Kept = list[tuple[Photo, Fingerprint]]


def _check_readable(
    listing: Listing, unreadable: Sequence[Quarantined], max_unreadable: float
) -> None:
    if len(unreadable) <= max_unreadable * len(listing.photos):
        return
    examples = "; ".join(f"{shown(item.path)}: {item.reason}" for item in unreadable[:3])
    raise DataError(
        f"{len(unreadable)} of {len(listing.photos)} pictures cannot be read: {examples}.",
        "Mend or remove them; `sevenfold audit DATA --fix OUT.csv` lists the others.",
    )


def _without_conflicts(kept: _Kept) -> tuple[_Kept, list[Quarantined]]:
    labels: dict[str, set[str]] = defaultdict(set)
    for photo, print_ in kept:
        labels[print_.hash].add(photo.label)
    conflicts = [
        Quarantined(photo.path, conflict(labels[print_.hash]))
        for photo, print_ in kept
        if len(labels[print_.hash]) > 1
    ]
    return [pair for pair in kept if len(labels[pair[1].hash]) == 1], conflicts


def conflict(labels: Iterable[str]) -> str:
    """Say that the same pixels have several labels."""
    return f"conflicting labels {' and '.join(sorted(labels))}"


def _known(
    kept: _Kept, classes: Sequence[str], small_classes: SmallClasses
) -> tuple[_Kept, list[Quarantined]]:
    """Do with labels that a model has not learnt as its training did with small classes."""
    if small_classes == "drop":
        dropped = [
            Quarantined(photo.path, f"class {photo.label} is none of the model's")
            for photo, _ in kept
            if photo.label not in classes
        ]
        return [pair for pair in kept if pair[0].label in classes], dropped
    if small_classes == "other" and OTHER in classes:
        return [
            (photo if photo.label in classes else replace(photo, label=OTHER), print_)
            for photo, print_ in kept
        ], []
    return kept, []


def _without_small(
    listing: Listing, kept: _Kept, small_classes: SmallClasses
) -> tuple[_Kept, list[Quarantined]]:
    small = _small(Counter(photo.label for photo in listing.photos), kept)
    if not small:
        return kept, []
    if small_classes == "refuse":
        raise _too_small(listing, small)
    if small_classes == "drop":
        dropped = [
            Quarantined(photo.path, f"class {photo.label} has {small[photo.label]}")
            for photo, _ in kept
            if photo.label in small
        ]
        return [pair for pair in kept if pair[0].label not in small], dropped
    kept = [
        (replace(photo, label=OTHER) if photo.label in small else photo, print_)
        for photo, print_ in kept
    ]
    others = [pair for pair in kept if pair[0].label == OTHER]
    still = _small({OTHER: len(others)}, others)
    if still:
        raise _too_small(listing, still)
    return kept, []


def _small(listed: Mapping[str, int], kept: _Kept) -> dict[str, str]:
    """Return what each class that is too small has too little of."""
    groups = merged_groups([photo for photo, _ in kept], [print_.hash for _, print_ in kept])
    pictures = Counter(label for label, _ in {(p.label, f.hash) for p, f in kept})
    separate = Counter(
        label for label, _ in {(p.label, g) for (p, _), g in zip(kept, groups, strict=True)}
    )
    given = any(photo.role for photo, _ in kept)
    small = {}
    for name in sorted(listed):
        if pictures[name] < SMALLEST_CLASS:
            usable = f"{pictures[name]} different usable pictures (of {listed[name]} photos)"
            small[name] = f"{usable}, fewer than {SMALLEST_CLASS}"
        elif not given and separate[name] < SMALLEST_GROUPS:
            apart = f"{separate[name]} group{'s' * (separate[name] != 1)}"
            small[name] = f"{apart}, fewer than {SMALLEST_GROUPS}"
    return small


def _too_small(listing: Listing, small: Mapping[str, str]) -> DataError:
    named = "; ".join(f"class `{name}` has {why}" for name, why in list(small.items())[:5])
    more = f" (and {len(small) - 5} more)" if len(small) > 5 else ""
    return DataError(
        f"{shown(listing.name)}: {named}{more}.",
        "Add photos, or choose small-classes drop (leave out) or other (merge into one class).",
    )


def _check_classes(
    listing: Listing, photos: Sequence[Photo], classes: Sequence[str], *, known: bool
) -> None:
    name = shown(listing.name)
    if not known and len(classes) < 2:
        found = f"only the class `{classes[0]}`" if classes else "no class"
        raise DataError(
            f"{name}: {found} is left, and a classifier needs two.",
            "Put the photos of each class into a folder of its name, or list them in a CSV.",
        )
    roles = {photo.role for photo in photos}
    trained = set(classes)
    if not known and roles - {""}:
        # Photos without a role are trained on where others are given one.
        trained = {photo.label for photo in photos if photo.role in {"", "train"}}
    absent = Counter(photo.label for photo in photos if photo.label not in trained)
    if absent:
        label, count = absent.most_common(1)[0]
        raise DataError(
            f"{name}: the label `{label}` ({count} pictures) is absent from training.",
            "Correct the label, or leave such pictures out with --small-classes drop."
            if known
            else "Correct the label, or add photos of it to training.",
        )
