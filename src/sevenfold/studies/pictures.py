"""Say which pictures a study is about, in words that every process that trains reads alike."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from sevenfold import account, latency, trial
from sevenfold import data as datasets
from sevenfold.data import Dataset, SmallClasses, Split
from sevenfold.engines import Json
from sevenfold.errors import DataError
from sevenfold.features import store
from sevenfold.features.pixels import opened
from sevenfold.image import shown
from sevenfold.place import Place
from sevenfold.progress import Progress, silent
from sevenfold.recipe import Recipe

CHECK = f"{__name__}:checked"


@dataclass(frozen=True)
class Reading:
    """Say which pictures.

    Args:
        data: folder, table or packaged name.
        columns: names of a table's columns, by what they hold.
        group_by: pattern that takes the group from the file name, or "".
        small_classes: `refuse`, `drop` or `other`.
    """

    data: str
    columns: Mapping[str, str] = field(default_factory=dict)
    group_by: str = ""
    small_classes: SmallClasses = "refuse"


def ground_of(reading: Reading, side: int, place: Place) -> dict[str, Any]:
    """Say which pictures, and where to compute, for `read`; whatever the pictures are.

    Args:
        reading: which pictures.
        side: that a training sees, in pixels.
        place: of each training.
    """
    there = Path(reading.data).exists()
    return {
        "data": str(Path(reading.data).resolve()) if there else reading.data,
        "columns": dict(reading.columns),
        "group_by": reading.group_by,
        "small_classes": reading.small_classes,
        "side": side,
        "threads": place.threads,
        "device": place.device,
        "digest": "",
    }


def read(told: Json, progress: Progress = silent) -> tuple[Split, Place]:
    """Read the pictures that a call names. Fills the store of pixels.

    Args:
        told: what `ground_of` returned; its `digest` is from `digest`, "" is any; `readers` are
            the threads that read, where they are not those of a training.
        progress: is told the reading.

    Returns:
        The data's own roles, and where to compute.

    Raises:
        DataError: they cannot be read here, or are others.
    """
    place = trial.place(told["device"], told["threads"])
    _, dataset = opened(
        told["data"],
        told["side"],
        columns=told["columns"],
        group_by=told["group_by"],
        small_classes=told["small_classes"],
        threads=told.get("readers", place.threads),
        progress=progress,
    )
    split = datasets.split(dataset)
    if told["digest"] not in ("", digest(dataset, split)):
        raise DataError(
            f"{shown(told['data'])}: a node that is to train sees other pictures there",
            "share one folder among the nodes, or copy the same pictures to each",
        )
    return split, place


@lru_cache(maxsize=1)
def _read(text: str) -> tuple[Split, Place]:
    return read(json.loads(text))


def of(call: Json) -> tuple[Split, Place]:
    """Read the pictures that a call names as its `ground`, once in a process."""
    return _read(json.dumps(call["ground"], sort_keys=True))


def checked(call: Json) -> Json:
    """Read the pictures, and say how many there are, what would compute, and from which stores."""
    split, place = of(call)
    return {
        "pictures": len(split.dataset),
        "kind": kind(place),
        "software": software(),
        "shared": (store.home() / call["token"]).is_file(),
    }


def kind(place: Place) -> str:
    """Name what computes here: of another kind, results may differ in their last digits."""
    chip = torch.cuda.get_device_name() if place.device == "cuda" else latency.processor()
    return f"{chip}, bfloat16" if place.half else chip


def trained_at(place: Place, ground: Json) -> Place:
    """Return the place of a training, wherever it is: a part of its name.

    Args:
        place: of a training on this machine.
        ground: of all calls; `device` and `kind` say where they are made, if it has them.
    """
    here = kind(place)
    there = str(ground.get("kind", here))
    device = str(ground.get("device", place.device))
    return replace(place, device=device, chip="" if there == here else there)


def software() -> str:
    """Name the versions of all that a result depends on. Reads our source."""
    versions = " ".join(f"{name} {one}" for name, one in account.versions().items())
    return f"{versions}, source {trial.source_hash()}"


def contents_of(split: Split) -> str:
    """Name the pictures that have a role, as a run's manifest does: 16 hex digits.

    By content and label; what was quarantined has no role.
    """
    dataset = split.dataset
    some = np.concatenate([split.train, split.val, split.test]).tolist()
    return datasets.contents(
        (dataset.hashes[at] for at in some), (dataset.photos[at].label for at in some)
    )


def digest(dataset: Dataset, split: Split) -> str:
    """Name the pictures by content, label, group and role: 16 hex digits."""
    told = [dataset.hashes, dataset.labels.tolist(), dataset.groups, split.test.tolist()]
    state = hashlib.blake2b(json.dumps(told).encode("utf-8", "surrogateescape"), digest_size=8)
    return state.hexdigest()


def seen_apart(recipes: Iterable[Recipe]) -> list[Recipe]:
    """Return the first recipe of each way to see pictures: recipes alike in it share the stores."""
    found: dict[str, Recipe] = {}
    for one in recipes:
        # The text of an augmentation leaves out what is not seen in a stored view.
        found.setdefault(str((one.side, one.views, one.transfer, one.augmentation)), one)
    return list(found.values())


def aside(split: Split, folds: int, seed: int = 0) -> Bool[np.ndarray, " train"]:
    """Tell which training pictures are in the first of so many folds, and may be taken out.

    Groups of classes that would lose all of their pictures stay.

    Raises:
        DataError: there are fewer groups than folds.
    """
    dataset, train = split.dataset, split.train
    inside = split.folds(folds, seed) == 0
    left = np.bincount(dataset.labels[train[~inside]], minlength=len(dataset.classes))
    kept = {dataset.groups[one] for one in train[inside] if not left[dataset.labels[one]]}
    free = np.array([dataset.groups[one] not in kept for one in train], dtype=bool)
    return np.asarray(inside & free)
