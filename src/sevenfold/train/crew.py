"""Train members side by side, each in a process that reads the stores and writes a checkpoint.

A process trains one part of a member to the end and leaves its checkpoint. The caller then
trains the member as usual and finds it finished. So a member is the same to the bit however
many were trained at a time, and what was interrupted goes on.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import cattrs
import numpy as np
import torch

from sevenfold import checkpoint, loop
from sevenfold.data import ArraySource, Dataset, Photo, Split
from sevenfold.engines import Json, Local
from sevenfold.features import handed
from sevenfold.place import Place, narrowed
from sevenfold.progress import Progress, silent
from sevenfold.recipe import Recipe
from sevenfold.train.bench import Bench, parts_of, start
from sevenfold.train.member import checkpoint_of, named, part_on_labels, threads_of

PART: Final = f"{__name__}:called"


@dataclass(frozen=True, eq=False)
class Job:
    """Name the training of one member.

    Args:
        bench: what it is trained on.
        rate: the largest learning rate.
        seed: of everything random in it.
    """

    bench: Bench
    rate: float
    seed: int


def train_side_by_side(jobs: Sequence[Job]) -> list[float]:
    """Train what is missing of several members side by side, if this place has room for it.

    Starts processes, which read the stores, and write checkpoints into the benches' folders.
    Does nothing where at most one would run at a time, and leaves alone what is trained on rows
    that are made when they are asked for: making them keeps all cores busy already.

    Returns:
        Seconds that each job took there; 0 for what is left to be trained here.

    Raises:
        ResourceError: a process ended again and again.
    """
    took = [0.0] * len(jobs)
    place = jobs[0].bench.place
    if place.workers == 1:
        return took
    missing = {
        at: parts for at, job in enumerate(jobs) if _stored(job.bench) and (parts := _missing(job))
    }
    owners = [at for at, parts in missing.items() for _ in parts]
    each = threads_of(jobs[0].bench)
    workers = min(place.workers, len(owners), max(1, place.threads // each))
    if workers < 2:
        return took
    paths = {at: str(_written(jobs[at])) for at in missing}
    calls = [
        {"bench": paths[at], "rate": jobs[at].rate, "seed": jobs[at].seed, "part": number}
        for at, parts in missing.items()
        for number in parts
    ]
    engine = Local(workers, each)
    told = _Sum(len(calls), engine.workers, jobs[0].bench.progress)
    for number, result in engine.run(calls, PART, heard=told):
        took[owners[number]] += float(result["seconds"])
    return took


def _missing(job: Job) -> list[int]:
    """List the parts of a member that are not trained to their end."""
    name = named(job.bench, job.seed)
    return [
        number
        for number, part in enumerate(parts_of(job.bench))
        if not loop.ended(checkpoint_of(job.bench, name, part))
    ]


def _stored(bench: Bench) -> bool:
    return bool(handed.to_json(bench.views)) and bool(handed.to_json(bench.plain))


class _Sum:
    """Join what several trainings say of their steps to one number."""

    def __init__(self, count: int, workers: int, progress: Progress) -> None:
        self._stage = f"train, {workers} at a time"
        self._seen: dict[int, tuple[int, int]] = {}
        self._count, self._progress = count, progress

    def __call__(self, number: int, stage: str, done: int, total: int) -> None:
        """Report; a training of which nothing is known yet counts as the longest one."""
        if stage != "train":
            return
        self._seen[number] = done, total
        most = max(total for _, total in self._seen.values())
        whole = sum(total for _, total in self._seen.values())
        whole += most * (self._count - len(self._seen))
        self._progress(self._stage, sum(done for done, _ in self._seen.values()), whole)


def _written(job: Job) -> Path:
    """Write all that a process must know of a bench. Writes into the bench's folder."""
    bench = job.bench
    dataset = bench.split.dataset
    path = bench.folder / f"{named(bench, job.seed)}.bench"
    checkpoint.save(
        path,
        {
            "recipe": asdict(bench.recipe),
            "classes": dataset.classes,
            "hashes": dataset.hashes,
            "labels": torch.from_numpy(dataset.labels),
            # Which the folds are made by, where there are any.
            "groups": ("",) * len(dataset) if len(bench.split.val) else dataset.groups,
            "train": bench.split.train.tolist(),
            "val": bench.split.val.tolist(),
            "pictures": bench.pictures.tolist(),
            "views": handed.to_json(bench.views),
            "plain": handed.to_json(bench.plain),
            "trunk": [block.state_dict() for block in bench.trunk],
            "place": [bench.place.device, bench.place.threads, bench.place.half],
        },
    )
    return path


@lru_cache(maxsize=1)
def _opened(path: Path) -> Bench:
    """Read what `_written` wrote: of the pictures it says what training asks, and no more."""
    held: dict[str, Any] = checkpoint.load(path)
    recipe: Recipe = cattrs.structure(held["recipe"], Recipe)
    hashes = tuple(held["hashes"])
    dataset = Dataset(
        "", (Photo("", ""),) * len(hashes), hashes, held["labels"].numpy(), tuple(held["groups"]),
        tuple(held["classes"]), (), ArraySource({}, ""), np.zeros((len(hashes), 2), np.int64),
    )  # fmt: skip
    train, val, pictures = (np.array(held[name], np.int64) for name in ("train", "val", "pictures"))
    split = Split(dataset, train, val, train[:0])
    network, _ = start(recipe, len(dataset.classes), 0)
    trunk = tuple(network.blocks)[: len(held["trunk"])]
    for block, state in zip(trunk, held["trunk"], strict=True):
        block.load_state_dict(state)
    views, plain = (handed.opened(held[name], dataset) for name in ("views", "plain"))
    place = Place(*held["place"])
    return Bench(recipe, split, pictures, views, plain, place, path.parent, silent, trunk)


def called(call: Json, progress: Progress) -> Json:
    """Train one part of a member, as an engine's call."""
    bench = replace(_opened(Path(call["bench"])), progress=progress)
    part = parts_of(bench)[call["part"]]
    with narrowed(threads_of(bench)):
        trained = part_on_labels(bench, call["rate"], call["seed"], part)
    return {"seconds": sum(epoch.seconds for epoch in trained.history)}
