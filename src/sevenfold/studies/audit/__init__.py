"""Audit data: what cannot be read, what is there twice, what leaks, what looks mislabelled."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from sevenfold import data as datasets
from sevenfold.cores import usable_cores
from sevenfold.data import Dataset
from sevenfold.errors import DataError, UsageError
from sevenfold.features.pixels import Pixels, ingest
from sevenfold.image import shown
from sevenfold.progress import Progress
from sevenfold.studies.audit import album, changes, clean, copies, quality, suspects
from sevenfold.studies.audit.page import render

__all__ = ["audit"]

SCHEMA: Final = "sevenfold.audit/1"

_Groups = Sequence[tuple[int, ...]]


def audit(
    data: str,
    *,
    out: Path | None = None,
    fix: Path | None = None,
    decisions: Path | None = None,
    against: Path | None = None,
    columns: Mapping[str, str],
    group_by: str,
    threads: int,
    progress: Progress,
) -> dict[str, Any]:
    """Look for faults in data and return them; writes to the stores, `out` and `fix` alone.

    Args:
        data: folder, table or packaged name.
        out: folder for audit.html.
        fix: CSV for the clean list.
        decisions: the labels.csv that the page saved, applied to `fix`.
        against: run whose record of its data is compared.
        columns: names of a table's columns, by what they hold.
        group_by: regular expression that takes the group from a file's name.
        threads: 0 is one for each core.
        progress: is told how far it is.

    Returns:
        The object of `audit --json`; paths as shown to people, with the box where a
            picture is a part of a photo.

    Raises:
        UsageError: a place cannot be written to.
        DataError: no picture can be read.
        ModelError: the run is damaged.
    """
    began = time.perf_counter()
    threads = threads or usable_cores()
    known = changes.manifest(against) if against else None
    listing = datasets.scan(data, columns=columns, group_by=group_by)
    if out:
        datasets.refuse_among(data, out)
    _refuse_places(out, fix, decisions, listing)
    decided = clean.decided(decisions) if decisions else {}
    pixels = Pixels(album.SIDE)
    found = ingest(listing, pixels=pixels, threads=threads, progress=progress)
    dataset = album.readable(listing, found)
    if not len(dataset):
        raise DataError(
            f"{shown(listing.name)}: none of {len(listing.photos)} pictures can be read",
            "give JPEG, PNG, WEBP, BMP, GIF or TIFF pictures",
        )
    looks = album.looks(dataset, pixels, threads)
    exact = copies.exact(dataset.hashes)
    given = [photo.group for photo in dataset.photos]
    near = copies.near(dataset.hashes, looks.small, given, threads, progress)
    conflicts = _conflicts(dataset, exact, near.groups)
    groups = datasets.merged_groups(dataset.photos, dataset.hashes, near.chains)
    together = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    compared = time.perf_counter() - began
    judged = suspects.can_judge(dataset.labels, together, len(dataset.classes))
    suspected: tuple[suspects.Suspect, ...] = ()
    if judged:
        vectors = album.embeddings(dataset, pixels, threads, progress)
        logits = suspects.out_of_fold(vectors, dataset.labels, together, len(dataset.classes))
        suspected = suspects.suspected(logits, dataset.labels)
    paths = [album.named(photo) for photo in dataset.photos]
    names = partial(_named, paths)
    facts: dict[str, Any] = {
        "schema": SCHEMA,
        "data": listing.name,
        "pictures": len(listing.photos),
        "classes": dict(zip(dataset.classes, np.bincount(dataset.labels).tolist(), strict=True)),
        "unreadable": [
            {"path": shown(item.path), "reason": item.reason} for item in dataset.quarantined
        ],
        "exact_duplicates": [names(group) for group in exact],
        "near_duplicates": [names(group) for group in near.groups],
        "near_switched_off": near.switched_off,
        "conflicts": [
            {
                "kind": kind,
                "paths": names(group),
                "labels": sorted({dataset.photos[at].label for at in group}),
            }
            for kind, group in conflicts
        ],
        "leaks": _leaks(dataset, exact, near.chains, paths),
        "label_suspects": [
            {
                "path": paths[one.picture],
                "label": dataset.photos[one.picture].label,
                "likely": dataset.classes[one.likely],
                "given": one.given,
                "probability": one.probability,
                "wrong": one.wrong,
            }
            for one in suspected
        ],
        "labels_judged": judged,
        "small_classes": quality.small_classes(
            [photo.label for photo in dataset.photos], dataset.hashes, dataset.classes
        ),
        "odd_sizes": names(quality.odd_sizes(dataset.sizes)),
        "dark": names(quality.dark(looks.brightness, looks.highlights)),
        "blurred": names(quality.blurred(looks.sharpness)),
        "changes": {} if known is None else changes.since(known, dataset.photos, dataset.hashes),
        "clean": {},
        "page": "",
    }
    if out:
        facts["page"] = str(out / "audit.html")
        out.mkdir(parents=True, exist_ok=True)
        text = render(facts, dataset, pixels)
        (out / "audit.html").write_text(text, encoding="utf-8", newline="\n")
    if fix:  # last: a list that is there is not written again
        facts["clean"] = _cleaned(fix, dataset, paths, exact, conflicts, together.tolist(), decided)
    return facts | {"seconds": time.perf_counter() - began, "seconds_to_copies": compared}


def _cleaned(
    fix: Path,
    dataset: Dataset,
    paths: Sequence[str],
    exact: _Groups,
    conflicts: Sequence[tuple[str, tuple[int, ...]]],
    together: list[int],
    decided: Mapping[str, str],
) -> dict[str, Any]:
    """Write the list without copies and conflicts, in which near copies share group and role."""
    spare = set()
    for group in exact:  # the first that nobody dropped stays
        left = [at for at in group if decided.get(paths[at]) != ""]
        spare |= set(group) - set(left[:1])
    spare |= {index for _, group in conflicts for index in group}
    mended = clean.mended(dataset, together)
    rows, unlisted = clean.write(mended, spare, decided, fix)
    moved = [
        path
        for path, before, after in zip(paths, dataset.photos, mended.photos, strict=True)
        if (before.role or "train") != (after.role or "train")
    ]
    told = {"path": str(fix), "pictures": rows, "unlisted": unlisted}
    return told | {"roles_changed": moved}


def _refuse_places(
    out: Path | None, fix: Path | None, decisions: Path | None, listing: datasets.Listing
) -> None:
    if out and out.exists() and not out.is_dir():
        raise UsageError(f"--out {shown(str(out))} is a file", "name a folder")
    if fix:
        clean.check(listing.source, fix)
    elif decisions:
        raise UsageError("--decisions changes nothing without --fix", "add --fix LIST.csv")


def _named(paths: Sequence[str], some: Sequence[int]) -> list[str]:
    return [paths[index] for index in some]


def _conflicts(
    dataset: Dataset, exact: _Groups, near: _Groups
) -> list[tuple[str, tuple[int, ...]]]:
    """List groups of copies that have several labels."""
    found = [("exact", group) for group in exact] + [("near", group) for group in near]
    return [(kind, group) for kind, group in found if len(set(dataset.labels[list(group)])) > 1]


def _leaks(
    dataset: Dataset, exact: _Groups, near: _Groups, paths: Sequence[str]
) -> list[dict[str, Any]]:
    """List groups that straddle the roles that the data gives; no role counts as train."""
    if not any(photo.role for photo in dataset.photos):
        return []
    given: dict[str, list[int]] = defaultdict(list)
    for index, photo in enumerate(dataset.photos):
        if photo.group:
            given[photo.group].append(index)
    kinds = {"exact": exact, "near": near, "group": [tuple(group) for group in given.values()]}
    found = []
    for kind, groups in kinds.items():
        for group in groups:
            roles = {dataset.photos[index].role or "train" for index in group}
            if len(roles) > 1:
                members = [
                    {"path": paths[at], "role": dataset.photos[at].role or "train"} for at in group
                ]
                found.append({"kind": kind, "roles": sorted(roles), "pictures": members})
    return found
