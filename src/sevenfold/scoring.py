"""Score a finished model on labelled pictures."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from sevenfold import atomic, decisions
from sevenfold import data as datasets
from sevenfold import evaluate as metrics
from sevenfold import predict as prediction
from sevenfold.cores import usable_cores
from sevenfold.errors import DataError, ResourceError, UsageError
from sevenfold.features.pixels import recognised
from sevenfold.predictions import Predictions, write_predictions
from sevenfold.progress import Progress

LISTED: Final = 1000
"""Pictures that could not be scored, which are named."""


def evaluate(
    model: Path,
    data: str,
    *,
    split: str,
    columns: Mapping[str, str],
    group_by: str,
    small_classes: datasets.SmallClasses,
    threads: int,
    out: Path | None = None,
    progress: Progress,
) -> dict[str, Any]:
    """Score a run or bundle on labelled pictures; needs no torch.

    A picture that the run knows, or others of its group, has the role that the run gave it,
    whatever the data says, so that nothing is scored as test that weights were fitted to; where
    some have roles, the others, which the run has never seen, are test. Opening the run's test
    pictures is written down in its `data.json`. With `out`, its probabilities are written there
    as in a run's `predictions.csv`, but for distances.

    Returns:
        The object of `evaluate --json`, schema "sevenfold.evaluate/1".
    """
    began = time.perf_counter()
    if out:
        _refuse_table(out)
    predictor = prediction.load(model, threads=1)  # pictures side by side use all cores
    dataset = datasets.read(
        data,
        columns=columns,
        group_by=group_by,
        small_classes=small_classes,
        classes=predictor.classes,
        fingerprints=lambda listing: recognised(
            listing, threads=threads or usable_cores(), progress=progress
        ),
    )
    known = datasets.known(model)
    roles_by_hash = {row.hash: row.role for row in known.rows}
    roles_by_group = datasets.roles_of_groups(known.rows)
    roles = [
        roles_by_hash.get(content) or roles_by_group.get(photo.group) or photo.role
        for photo, content in zip(dataset.photos, dataset.hashes, strict=True)
    ]
    with_roles = any(roles) and split != "all"
    rows = [at for at, role in enumerate(roles) if not with_roles or (role or "test") == split]
    if not len(dataset):
        first = dataset.quarantined[0]
        raise DataError(
            f"{dataset.name}: none of {len(dataset.quarantined):,} pictures can be scored: "
            f"{datasets.shown(first.path)}: {first.reason}",
            "give pictures of the classes that the model has learnt",
        )
    if not rows:
        raise DataError(f"{dataset.name} has no {split} pictures", "choose another --split")
    if any(roles_by_hash.get(dataset.hashes[row]) == "test" for row in rows):
        datasets.log_opening(model)

    def answered(row: int) -> tuple[np.ndarray[Any, Any], bool]:
        seen = predictor.see(dataset.decode(row))
        return seen.shares, seen.unlike  # and not its features, which are a map for each channel

    answers: list[tuple[np.ndarray[Any, Any], bool]] = []
    with ThreadPoolExecutor(threads or usable_cores()) as executor:
        for answer in executor.map(answered, rows):
            answers.append(answer)
            progress("evaluate", len(answers), len(rows))
    shares = np.array([shares for shares, _ in answers], dtype=np.float64)
    labels, groups = dataset.labels[rows], [dataset.groups[row] for row in rows]
    found = metrics.score(shares, labels, dataset.classes, groups=groups)
    bundle = predictor.bundle
    named = list((predictor.card.get("operating_point") or {}).get("asked", ()))
    told = decisions.measured(
        bundle.point, shares, labels, dataset.classes, groups=groups, named=named
    )
    marked = np.array([unlike for _, unlike in answers])
    unlike = decisions.share(marked, np.ones(len(marked), bool), groups)
    if out:  # last: a table that is there is not written again
        _write_answers(out, dataset, rows, [roles[row] or "test" for row in rows], shares)
    return {
        "schema": "sevenfold.evaluate/1",
        "scores": metrics.flat(found),
        "classes": [asdict(one) for one in found.classes],
        "confusion": found.confusion.tolist(),
        "left_out": len(roles) - len(rows),
        "roles": with_roles,
        "new": sum(not roles[row] for row in rows) if known.rows and with_roles else 0,
        "quarantined": len(dataset.quarantined),
        "unusable": [
            {"path": datasets.shown(one.path), "reason": one.reason}
            for one in dataset.quarantined[:LISTED]
        ],
        "learnt_from": sum(
            roles_by_hash.get(dataset.hashes[row]) in ("train", "val") for row in rows
        )
        if known.rows
        else None,
        "out": str(out or ""),
        "operating": {"rule": bundle.point.rule, **told},
        "unlike": asdict(unlike) if bundle.detector.score != "none" else None,
        "seconds": time.perf_counter() - began,
    }


def _write_answers(
    out: Path,
    dataset: datasets.Dataset,
    rows: Sequence[int],
    roles: Sequence[str],
    shares: np.ndarray[Any, Any],
) -> None:
    """Write a model's probabilities of pictures as a run's `predictions.csv` holds them."""
    told = Predictions(
        classes=dataset.classes,
        paths=tuple(dataset.photos[row].path for row in rows),
        hashes=tuple(dataset.hashes[row] for row in rows),
        roles=tuple(roles),
        groups=tuple(str(dataset.groups[row]) for row in rows),
        folds=np.full(len(rows), -1),
        labels=dataset.labels[list(rows)],
        probabilities=shares,
    )
    try:
        with atomic.beside(out) as part:
            write_predictions(part, told)
    except OSError as error:
        raise _unwritable(out, error) from error


def _refuse_table(out: Path) -> None:
    """Refuse a place for a table before any work: what exists may be the user's own."""
    if out.suffix.lower() != ".csv":
        raise UsageError(f"--out {out} is no name of a CSV", "end it in .csv")
    if out.exists():
        raise UsageError(f"--out {out} exists already", "name a new file")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(out, error) from error


def _unwritable(out: Path, error: OSError) -> ResourceError:
    return ResourceError(f"cannot write {out}: {error.strerror or error}", "choose another place")
