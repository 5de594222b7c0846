"""Say what is new in new data, what is known, what has another label now, and who may learn it."""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Int64

from sevenfold import data as datasets
from sevenfold import runs
from sevenfold.data import (
    WHOLE,
    Dataset,
    Fingerprint,
    FolderSource,
    JoinedSource,
    Manifest,
    Photo,
    Row,
    Split,
)
from sevenfold.data.assemble import SMALLEST_CLASS
from sevenfold.data.manifest import Assigned
from sevenfold.errors import DataError, UsageError
from sevenfold.features.pixels import ingest
from sevenfold.image import shown
from sevenfold.progress import Progress
from sevenfold.update.asked import Asked

_ALIKE: Final = 0.6  # difflib's own cutoff for close matches
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Correction:
    """Tell of a known picture that has another label now."""

    path: str
    hash: str
    before: str
    now: str
    role: str


@dataclass(frozen=True, eq=False)
class Incoming:
    """Hold the data of a run with what is new.

    Args:
        split: all pictures by role; an old one has the role that it had.
        manifest: what the run knew, under the names and labels that hold now.
        new: indexes into the data set of the new pictures.
        old: how many pictures of the data set are the run's own; they come first.
        known: pictures of the new data that the run knows already, with the same label.
        corrections: known pictures with another label.
        applied: whether those count.
        classes: names of the classes that the running model knows, as they are now.
        learned: names of the classes that are new.
        renamed: new names of the run's classes by old ones.
        left_out: of the new data, and why.
        reading: how all of it is read the next time.
        source: of the run's own pictures.
    """

    split: Split
    manifest: Manifest
    new: Int64[np.ndarray, "new"]
    old: int
    known: int
    corrections: tuple[Correction, ...]
    applied: bool
    classes: tuple[str, ...]
    learned: tuple[str, ...]
    renamed: Mapping[str, str]
    left_out: tuple[datasets.Quarantined, ...]
    reading: Mapping[str, Any]
    source: str

    def of(self, role: str) -> Int64[np.ndarray, "some"]:
        """Return the new pictures of a role."""
        return np.intersect1d(self.new, getattr(self.split, role))

    @property
    def old_test(self) -> Int64[np.ndarray, "some"]:
        """Return the test pictures that the run had."""
        return np.asarray(self.split.test[self.split.test < self.old])


def read(run: runs.Run, asked: Asked, *, threads: int, progress: Progress) -> Incoming:
    """Read new data and join it to a run's. Writes to the pixel store.

    Raises:
        UsageError: an option would do nothing, or would merge two classes.
        DataError: there is nothing new, or a class is unknown or too small.
    """
    listing = datasets.scan(asked.data, columns=asked.columns, group_by=asked.group_by)
    renamed = _renamed(run.manifest.classes, listing.classes, asked.relabel)
    names = tuple(renamed.get(name, name) for name in run.manifest.classes)
    photos = tuple(
        replace(photo, label=asked.relabel.get(photo.label, photo.label))
        for photo in listing.photos
    )
    _check_classes(asked, names, photos)
    classes = (*names, *asked.new_classes)
    prints = ingest(
        replace(listing, photos=photos), pixels=run.pixels, threads=threads, progress=progress
    )
    fresh = datasets.assemble(replace(listing, photos=photos), prints, classes=classes)
    manifest, corrections, new = _compared(run, fresh, renamed, names, asked.accept_corrections)
    applied = bool(corrections) and asked.accept_corrections
    if not len(new) and not applied and not renamed:
        raise _nothing(asked, fresh, corrections)
    place, parts, reading, source = _places(run, asked, fresh)
    dataset = _joined(run.split.dataset, fresh, new, manifest, classes, place, parts)
    links = _links(run.split.dataset, manifest, fresh, set(new), place)
    split = datasets.split(dataset, known=replace(manifest, rows=(*manifest.rows, *links)))
    old = len(run.split.dataset)
    roles = np.concatenate([split.train, split.val, split.test])
    found = Incoming(
        split,
        manifest,
        np.sort(roles[roles >= old]),
        old,
        len(fresh) - len(new) - len(corrections),
        corrections,
        applied,
        names,
        asked.new_classes,
        renamed,
        (
            *fresh.quarantined,
            *(one for one in split.quarantined if one not in dataset.quarantined),
        ),
        reading,
        source,
    )
    _check_enough(found, asked)
    return found


def _renamed(
    classes: Sequence[str], labels: Sequence[str], relabel: Mapping[str, str]
) -> dict[str, str]:
    """Return the run's classes that get a new name: others are names in the new data only."""
    for old in relabel:
        if old not in classes and old not in labels:
            raise UsageError(
                f"--relabel {shown(old)}=…: neither the run nor the new data has this class",
                f"the run's classes are {_listed(classes)}",
            )
    found = {old: new for old, new in relabel.items() if old in classes and new not in classes}
    if len(set(found.values())) < len(found):
        raise UsageError(
            "--relabel would merge two classes of the run into one",
            "correct the labels in the data and train again",
        )
    return found


def _check_classes(asked: Asked, names: Sequence[str], photos: Sequence[Photo]) -> None:
    """Refuse classes that nobody confirmed: a name may be new, or misspelt."""
    counts = Counter(photo.label for photo in photos)
    for name in asked.new_classes:
        if name in names:
            raise UsageError(f"--new-class {shown(name)} is a class already", "leave it out")
        if name not in counts:
            raise UsageError(
                f"--new-class {shown(name)}: the new data has no such class",
                f"its classes are {_listed(sorted(counts))}",
            )
    unknown = sorted(set(counts) - set(names) - set(asked.new_classes))
    if not unknown:
        return
    name = unknown[0]
    by_fold = {one.casefold(): one for one in names}
    alike = difflib.get_close_matches(name.casefold(), by_fold, 1, _ALIKE)
    meant = f" (did you mean `{by_fold[alike[0]]}`?)" if alike else ""
    more = f", and {len(unknown) - 1} more classes" if len(unknown) > 1 else ""
    cure = f"--new-class {shown(name)} teaches it"
    if alike:
        cure = f"--relabel {shown(name)}={by_fold[alike[0]]} corrects it; {cure}"
    raise DataError(
        f"the class `{shown(name)}` ({counts[name]:,} pictures{more}) is unknown to the run{meant}",
        cure,
    )


def _compared(
    run: runs.Run,
    fresh: Dataset,
    renamed: Mapping[str, str],
    names: tuple[str, ...],
    accept: bool,
) -> tuple[Manifest, tuple[Correction, ...], list[int]]:
    """Hold new data against what a run knows: its record as it is now, and what is new."""
    dataset = run.split.dataset
    roles: dict[int, Assigned] = {}
    roles |= dict.fromkeys(run.split.train.tolist(), "train")
    roles |= dict.fromkeys(run.split.val.tolist(), "val")
    roles |= dict.fromkeys(run.split.test.tolist(), "test")
    known = {
        dataset.hashes[at]: (renamed.get(photo.label, photo.label), roles[at])
        for at, photo in enumerate(dataset.photos)
    }
    corrections, new = [], []
    for at, (photo, content) in enumerate(zip(fresh.photos, fresh.hashes, strict=True)):
        if content not in known:
            new.append(at)
        elif photo.label != known[content][0]:
            before, role = known[content]
            path = shown(photo.path)
            corrections.append(Correction(path, content, before, photo.label, role))
    changed = {one.hash: one.now for one in corrections} if accept else {}
    rows = tuple(
        Row(
            photo.path,
            content,
            changed.get(content, known[content][0]),
            roles[at],
            photo.group,
            photo.box,
        )
        for at, (photo, content) in enumerate(zip(dataset.photos, dataset.hashes, strict=True))
    )
    manifest = replace(run.manifest, classes=names, rows=rows)
    return manifest, tuple(corrections), new


def _links(
    old: Dataset, manifest: Manifest, fresh: Dataset, new: Set[int], place: int
) -> list[Row]:
    """Tell what ties new pictures to known ones beside their pixels, as rows for a split.

    A known picture that the new data puts into a group takes the group to its role, and
    another part of a known photo belongs where that is.
    """
    known = {row.hash: row for row in manifest.rows}
    parts = {
        _file(old, photo): row
        for photo, row in zip(old.photos, manifest.rows, strict=True)
        if photo.box != WHOLE
    }
    found = []
    for at, (photo, content) in enumerate(zip(fresh.photos, fresh.hashes, strict=True)):
        its = None
        if at not in new and photo.group:
            its = known[content]
        if at in new and photo.box != WHOLE:
            its = parts.get(_file(fresh, photo))
        if its:
            path = datasets.prefixed(photo.path, place)
            found.append(replace(its, path=path, group=photo.group, box=photo.box))
    return found


def _file(dataset: Dataset, photo: Photo) -> object:
    """Name a photo's file wherever it is listed; what lies in no folder is a file by itself."""
    part, path = datasets.placed(photo.path)
    source = dataset.source
    if isinstance(source, JoinedSource):
        source = source.parts[part]
    if isinstance(source, FolderSource):
        return (source.folder / path).resolve()
    return source, path


def _nothing(asked: Asked, fresh: Dataset, corrections: Sequence[Correction]) -> DataError:
    if corrections:
        first = corrections[0]
        return DataError(
            f"{shown(asked.data)} holds no new picture, and {len(corrections):,} known ones have "
            f"another label: {first.path} was `{first.before}` and is `{first.now}`",
            "--accept-corrections applies them",
        )
    if not len(fresh):
        return DataError(
            f"{shown(asked.data)} holds no picture that can be used", "see `sevenfold audit`"
        )
    return DataError(
        f"the run knows all {len(fresh):,} pictures of {shown(asked.data)} already",
        "add pictures that it has not seen",
    )


def _places(
    run: runs.Run, asked: Asked, fresh: Dataset
) -> tuple[int, list[datasets.Source], dict[str, Any], str]:
    """Say which of the run's places the new data is, and how all are read the next time."""
    known = list(runs.places(run.facts))
    if asked.moved:
        known = [replace(known[0], source=asked.moved)]
    known = [replace(one, source=absolute(one.source)) for one in known]
    added = runs.Place(absolute(asked.data), dict(asked.columns), asked.group_by)
    source = run.split.dataset.source
    parts = list(source.parts) if isinstance(source, JoinedSource) else [source]
    if added in known:
        at = known.index(added)
        parts[at] = fresh.source
    else:
        at = len(known)
        known.append(added)
        parts.append(fresh.source)
    reading = {
        "columns": dict(known[0].columns),
        "group_by": known[0].group_by,
        "small_classes": run.facts["run"]["reading"]["small_classes"],
        "added": [
            {"source": one.source, "columns": dict(one.columns), "group_by": one.group_by}
            for one in known[1:]
        ],
    }
    return at, parts, reading, known[0].source


def absolute(source: str) -> str:
    """Name a place wherever the next command is started; a packaged name stays."""
    if source in datasets.PACKAGED or not Path(source).exists():
        return source
    return str(Path(source).resolve())


def _joined(
    old: Dataset,
    fresh: Dataset,
    new: Sequence[int],
    manifest: Manifest,
    classes: Sequence[str],
    place: int,
    parts: Sequence[datasets.Source],
) -> Dataset:
    """Put what is new behind what a run has; a known picture joins the group that it came in."""
    alone = not isinstance(old.source, JoinedSource)
    groups = {
        content: photo.group for photo, content in zip(fresh.photos, fresh.hashes, strict=True)
    }
    photos = [
        replace(
            photo,
            path=datasets.prefixed(photo.path, 0) if alone else photo.path,
            label=row.label,
            group=photo.group or groups.get(row.hash, ""),
        )
        for photo, row in zip(old.photos, manifest.rows, strict=True)
    ]
    photos += [
        replace(fresh.photos[at], path=datasets.prefixed(fresh.photos[at].path, place))
        for at in new
    ]
    hashes = [*old.hashes, *(fresh.hashes[at] for at in new)]
    sizes = [*old.sizes.tolist(), *(fresh.sizes[at].tolist() for at in new)]
    prints = [Fingerprint(name, *size) for name, size in zip(hashes, sizes, strict=True)]
    left_out = (
        *(
            replace(one, path=datasets.prefixed(one.path, 0)) if alone else one
            for one in manifest.quarantined
        ),
        *(replace(one, path=datasets.prefixed(one.path, place)) for one in fresh.quarantined),
    )
    source = JoinedSource(tuple(parts))
    listing = datasets.Listing(old.name, tuple(photos), source, left_out)
    return datasets.assemble(listing, prints, classes=classes)


def _check_enough(found: Incoming, asked: Asked) -> None:
    dataset, roles = found.split.dataset, (found.split.train, found.split.val, found.split.test)
    for name in found.learned:
        label = dataset.classes.index(name)
        mine = [at for role in roles for at in role.tolist() if dataset.labels[at] == label]
        count = len({dataset.hashes[at] for at in mine})
        if count < SMALLEST_CLASS or not np.isin(mine, found.split.train).any():
            raise DataError(
                f"the new class `{shown(name)}` has {count} different usable pictures, "
                f"{np.isin(mine, found.split.train).sum()} of them to train on",
                f"add pictures of it until there are at least {SMALLEST_CLASS}",
            )
    if not len(found.of("train")) and not found.applied and not found.renamed:
        why = found.left_out[0].reason if found.left_out and not len(found.new) else ""
        raise DataError(
            f"none of the {len(found.new):,} new pictures of {shown(asked.data)} is for training"
            f"{': ' + shown(why) if why else ', by their hashes'}",
            "add more pictures: about 70 of 100 are trained on",
        )


def _listed(names: Sequence[str]) -> str:
    some = ", ".join(shown(name) for name in names[:12])
    return some + (f" and {len(names) - 12} more" if len(names) > 12 else "")
