"""Name a training by all that its result depends on, and fix where it runs."""

import hashlib
import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from sevenfold import account, latency, nets, train
from sevenfold.cores import usable_cores
from sevenfold.data import Split
from sevenfold.engines import threads_each
from sevenfold.errors import ResourceError
from sevenfold.features.pixels import Pixels
from sevenfold.place import Place
from sevenfold.practices import transfer
from sevenfold.progress import Progress
from sevenfold.recipe import Recipe, to_toml
from sevenfold.train import Fitted


def key(recipe: Recipe, split: Split, seed: int, place: Place) -> str:
    """Name a training by all that its result depends on. Reads our source.

    Args:
        recipe: how it trains.
        split: on which pictures.
        seed: of everything random.
        place: where.

    Returns:
        16 hex digits.
    """
    dataset = split.dataset
    state = hashlib.blake2b(digest_size=8)
    roles = {role: getattr(split, role).tolist() for role in ("train", "val", "test")}
    members = (recipe.member(number).transfer for number in range(recipe.ensembling.members))
    for part in (
        to_toml(recipe),
        *map(_content, dict.fromkeys(members)),
        json.dumps(
            [dataset.hashes, dataset.labels.tolist(), dataset.classes, dataset.groups, roles]
        ),
        f"{seed} {place} {_chip(place.device)} {account.versions()} {source_hash()}",
    ):
        state.update(part.encode("utf-8", "surrogateescape"))
    return state.hexdigest()


def _content(settings: transfer.Transfer) -> str:
    """Hash the file of weights, which may be another one by now; "" where there is none."""
    named, path = settings.weights, Path(settings.weights)
    if named == "hub" and settings.backbone not in nets.NAMES:
        path = transfer.hub_file(settings.backbone)
    elif named in ("packaged", "hub", "random") or not path.is_file():
        return ""
    told = path.stat()
    return _hashed(path, told.st_mtime_ns, told.st_size)


@lru_cache(maxsize=4)
def _hashed(path: Path, _changed: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _chip(device: str) -> str:
    """Name what computes: another chip may round otherwise. A cluster's GPU is not here."""
    chip, here = latency.processor(), device == "cuda" and torch.cuda.is_available()
    return f"{chip} {torch.cuda.get_device_name()}" if here else chip


@lru_cache(maxsize=1)
def source_hash() -> str:
    """Hash the source that a result depends on. Reads it once."""
    state = hashlib.blake2b(digest_size=8)
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        state.update(path.read_bytes())
    return state.hexdigest()


def place(device: str = "auto", threads: int = 0, workers: int = 1) -> Place:
    """Choose the device, and fix threads and how a GPU convolves, for torch as a whole.

    On an NVIDIA GPU convolutions are repeatable, and those that are not in bfloat16 are in full
    precision, where torch would choose whatever is fastest and a shortened mantissa.

    Args:
        device: `auto`, `cpu`, `cuda` or `mps`.
        threads: 0 is one for each core.
        workers: trainings at a time where there are several; 0 is as many as the threads
            have room for (`engines.threads_each`). Elsewhere than on a processor it is one.

    Raises:
        ResourceError: there is no such device here.
    """
    threads = threads or usable_cores()
    torch.set_num_threads(threads)
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next((name for name, usable in there.items() if usable), "cpu")
    if not there.get(device, True):
        raise ResourceError(
            f"--device {device}: torch sees no such device here",
            "run `sevenfold doctor`, or use --device cpu",
        )
    if device == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False
    if device != "cpu":
        workers = 1
    workers = workers or max(1, threads // threads_each(threads))
    return Place(device, threads, _half(device), workers)


def _half(device: str) -> bool:
    """Tell whether bfloat16 is faster here: where the processor multiplies it itself."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # a private name of torch
    return device == "cpu" and asked is not None and bool(asked())


def blind(
    recipe: Recipe,
    split: Split,
    *,
    seed: int,
    place: Place,
    pixels: Pixels,
    folder: Path,
    progress: Progress,
) -> Fitted:
    """Train as `train.fit` does, where the pictures that are judged are not even at hand."""
    with np.errstate(invalid="ignore"):  # a rate that was too large is told, not warned of
        return train.fit(
            recipe,
            replace(split, test=split.test[:0]),
            seed=seed,
            place=place,
            pixels=pixels,
            folder=folder,
            progress=progress,
        )
