"""Hand out what a network is trained on, batch by batch.

An epoch's order and views are a function of (seed, epoch).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt64
from torch import Tensor

from sevenfold import draws
from sevenfold.features.views import Views

_FAR: Final = 1 << 20  # more epochs than any training has


@dataclass(frozen=True, eq=False)
class Stage:
    """Say what one epoch draws and how its loss weighs the classes.

    Args:
        pictures: indices drawn in this epoch; repeats are allowed, and the loop shuffles.
        weights: multiply the targets of a class's pictures; all 1: plain. The loss is
            the sum over the batch divided by its pictures, never by the weights.
        offset: added to the logits inside the loss; all 0: plain.
        fresh: whether repeats of a picture in one epoch see other views.
    """

    pictures: Int64[np.ndarray, "rows"]
    weights: Float[np.ndarray, "classes"]
    offset: Float[np.ndarray, "classes"]
    fresh: bool = False


Numbers = np.ndarray[Any, np.dtype[np.uint64]]
"""64 bits of each picture's content hash; in a batch each repeat of a picture has its own."""
Mix = Callable[[Tensor, Tensor, Numbers, int], tuple[Tensor, Tensor]]
"""From a batch's inputs, targets, numbers of its rows and the epoch to inputs and targets."""


def unmixed(
    inputs: Tensor,
    targets: Tensor,
    _numbers: Numbers,
    _epoch: int,
) -> tuple[Tensor, Tensor]:
    """Leave a batch as it is."""
    return inputs, targets


@dataclass(frozen=True, eq=False)
class Rows:
    """Say what a network is trained on.

    Args:
        views: hands out the rows.
        stages: what each epoch draws.
        numbers: 64 bits of each picture's content hash, for the whole data set.
        labels: class of each picture, for the whole data set.
        targets: soft labels of pictures in views, `[rows, classes]`.
        batch: pictures in a step.
        mix: blends the pictures of a batch.
        first: view of the first epoch, where views never end.
    """

    views: Views
    stages: Callable[[int], Stage]
    numbers: Numbers
    labels: Int64[np.ndarray, "pictures"]
    targets: Callable[
        [Int64[np.ndarray, "rows"], Int64[np.ndarray, "rows"]], Float[Tensor, "rows classes"]
    ]
    batch: int
    mix: Mix = unmixed
    first: int = 0

    def steps(self, epoch: int) -> int:
        """Count an epoch's steps; a last batch of one picture is left out (batch norm)."""
        whole, rest = divmod(len(self.stages(epoch).pictures), self.batch)
        return max(1, whole + (rest > 1))


def to_input(rows: np.ndarray[Any, Any], device: str) -> Float[Tensor, "batch *row"]:
    """Make a network's input of stored rows: activations, or uint8 pixels, channels last."""
    tensor = torch.from_numpy(rows).to(device)
    if tensor.dtype == torch.uint8:
        tensor = tensor.permute(0, 3, 1, 2)
    return tensor.float()


def _shuffled(
    rows: Rows, stage: Stage, seed: int, epoch: int
) -> tuple[Int64[np.ndarray, "rows"], Int64[np.ndarray, "rows"], UInt64[np.ndarray, "rows"]]:
    """Order an epoch's pictures, choose the view of each, and number each repeat of one.

    Each picture goes through the stored views in turn from a start of its own;
    where views never end each epoch has the next one.
    """
    pictures = np.sort(stage.pictures, kind="stable")
    first = np.searchsorted(pictures, pictures)
    repeat = np.arange(len(pictures)) - first
    numbers = rows.numbers[pictures]
    with np.errstate(over="ignore"):  # repeats must not lie side by side, nor be mixed alike
        keys = numbers ^ (repeat.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    places = draws.order(f"{seed}/order", keys, epoch)
    pictures, numbers, keys = pictures[places], numbers[places], keys[places]
    count = rows.views.count
    turn = repeat[places] if stage.fresh else np.zeros(len(pictures), np.int64)
    if not count:
        return pictures, rows.first + epoch + turn * _FAR, keys
    start = draws.uniform(f"{seed}/view", numbers, 0, 1)[:, 0]
    return pictures, (np.floor(start * count).astype(np.int64) + epoch + turn) % count, keys


def batches(
    rows: Rows, seed: int, epoch: int, first: int = 0
) -> Iterator[tuple[np.ndarray[Any, Any], Float[Tensor, "batch classes"], Numbers]]:
    """Yield an epoch's rows, targets and numbers from a step on, reading the next meanwhile."""
    stage = rows.stages(epoch)
    shuffled, views, keys = _shuffled(rows, stage, seed, epoch)
    weights = torch.from_numpy(stage.weights).float()

    def read(
        step: int,
    ) -> tuple[np.ndarray[Any, Any], Tensor, Numbers]:
        part = slice(step * rows.batch, (step + 1) * rows.batch)
        some, seen = shuffled[part], views[part]
        targets = rows.targets(some, seen) * weights[rows.labels[some], None]
        return rows.views.get(some, seen), targets, keys[part]

    steps = rows.steps(epoch)
    if first == steps:
        return
    with ThreadPoolExecutor(1) as executor:
        following = executor.submit(read, first)
        for step in range(first, steps):
            ready = following.result()
            if step + 1 < steps:
                following = executor.submit(read, step + 1)
            yield ready
