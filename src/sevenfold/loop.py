"""Train one network: loss, optimizer, schedule and batches are given.

A step's randomness is a function of (seed, epoch, step) and a batch's of (seed,
epoch), so the state at the end of an epoch is all that an exact resume needs.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from sevenfold import checkpoint, draws
from sevenfold.features.views import Views
from sevenfold.progress import Progress

EVALUATION_BATCH: Final = 64


@dataclass(frozen=True)
class Place:
    """Say where to compute.

    Args:
        device: `cpu`, `cuda` or `mps`.
        threads: of torch and of the loaders, 1 or more.
        half: whether matrix products run in bfloat16 during training.
    """

    device: str = "cpu"
    threads: int = 1
    half: bool = False

    def cast(self) -> AbstractContextManager[Any]:
        """Return the context in which a forward pass of training runs."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.half)


@dataclass(frozen=True)
class Rows:
    """Say what a network is trained on.

    Args:
        views: hands out the rows.
        pictures: indices into the data set that are trained on.
        numbers: 64 bits of each picture's content hash, for the whole data set.
        targets: soft labels of each picture, `[pictures, classes]`, whole data set.
        batch: pictures in a step.
    """

    views: Views
    pictures: Int64[np.ndarray, "rows"]
    numbers: np.ndarray[Any, np.dtype[np.uint64]]
    targets: Float[Tensor, "pictures classes"]
    batch: int

    @property
    def steps(self) -> int:
        """Steps in an epoch; a last batch of one picture is left out (batch norm)."""
        whole, rest = divmod(len(self.pictures), self.batch)
        return max(1, whole + (rest > 1))


@dataclass(frozen=True)
class Measured:
    """Hold what validation says after an epoch."""

    loss: float
    accuracy: float
    balanced_accuracy: float


@dataclass(frozen=True)
class Epoch:
    """Hold one line of a training's history."""

    epoch: int
    seconds: float
    rate: float
    loss: float
    val_loss: float
    val_accuracy: float
    val_balanced_accuracy: float


@dataclass(frozen=True)
class Trained:
    """Say how a training went; the network holds the best weights."""

    history: tuple[Epoch, ...]
    best_epoch: int
    stopped_early: bool


@dataclass(frozen=True)
class Stop:
    """Say which epoch is the best and when to stop looking.

    Args:
        objective: `accuracy` or `balanced_accuracy`.
        patience: epochs without improvement before it stops; 0: the last epoch
            counts, whatever validation says.
        pictures: that validation measured; 0: any difference counts.
    """

    objective: str
    patience: int
    pictures: int = 0

    def score(self, epoch: Epoch) -> tuple[float, float]:
        """Rank an epoch: the objective first, then the loss."""
        if self.patience == 0:
            return float(epoch.epoch), 0.0
        return self.value(epoch), -epoch.val_loss

    def value(self, epoch: Epoch) -> float:
        """Return the objective after an epoch."""
        return float(getattr(epoch, f"val_{self.objective}"))

    def kept(self, history: Sequence[Epoch]) -> Epoch:
        """Choose the last epoch that is within one standard error of the best.

        The best of many noisy epochs is best by luck too; later ones have the lower
        rate and the longer average. The rule is Breiman et al.'s (1984) for trees.
        """
        best = max(history, key=self.score)
        if not self.patience or not self.pictures:
            return best
        share = self.value(best)
        error = math.sqrt(share * (1 - share) / self.pictures)
        return [epoch for epoch in history if self.value(epoch) >= share - error][-1]


class Average:
    r"""Keep an exponential moving average of a network's weights and statistics.

    $$a \leftarrow d\,a + (1 - d)\,w, \quad
    d = \min\left(\frac{1 + t}{10 + t}, 1 - \frac{1}{h}\right)$$

    with $t$ the steps so far and the horizon $h$ a share of all steps, so that
    short and long trainings forget their start alike.

    Args:
        module: what is averaged.
        horizon: $h$ in steps; 1 keeps the weights themselves.
    """

    def __init__(self, module: nn.Module, horizon: float) -> None:
        self.tensors = {name: value.clone() for name, value in module.state_dict().items()}
        self.steps = 0
        self._horizon = max(1.0, horizon)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        decay = min((1 + self.steps) / (10 + self.steps), 1 - 1 / self._horizon)
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.tensors[name].lerp_(value, 1 - decay)
            else:
                self.tensors[name].copy_(value)


def to_input(rows: np.ndarray[Any, Any], device: str) -> Float[Tensor, "batch *row"]:
    """Make a network's input of stored rows: activations, or uint8 pixels, channels last."""
    tensor = torch.from_numpy(rows).to(device)
    if tensor.dtype == torch.uint8:
        tensor = tensor.permute(0, 3, 1, 2)
    return tensor.float()


def batches(
    rows: Rows, seed: int, epoch: int
) -> Iterator[tuple[np.ndarray[Any, Any], Float[Tensor, "batch classes"]]]:
    """Yield one epoch's batches, the next one being read meanwhile.

    Each picture goes through the stored views in turn from a start of its own;
    where views never end the epoch is the view.
    """
    shuffled = rows.pictures[draws.order(f"{seed}/order", rows.numbers[rows.pictures], epoch)]
    count = rows.views.count
    if count:
        start = draws.uniform(f"{seed}/view", rows.numbers[shuffled], 0, 1)[:, 0]
        views = (np.floor(start * count).astype(np.int64) + epoch) % count
    else:
        views = np.full(len(shuffled), epoch, np.int64)

    def read(step: int) -> tuple[np.ndarray[Any, Any], Float[Tensor, "batch classes"]]:
        part = slice(step * rows.batch, (step + 1) * rows.batch)
        return rows.views.get(shuffled[part], views[part]), rows.targets[shuffled[part]]

    with ThreadPoolExecutor(1) as executor:
        following = executor.submit(read, 0)
        for step in range(rows.steps):
            ready = following.result()
            if step + 1 < rows.steps:
                following = executor.submit(read, step + 1)
            yield ready


def cross_entropy(
    logits: Float[Tensor, "batch classes"], targets: Float[Tensor, "batch classes"]
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy against soft targets."""
    return -(torch.log_softmax(logits.float(), dim=1) * targets).sum(dim=1).mean()


@torch.inference_mode()
def predict(
    module: nn.Module, views: Views, pictures: Int64[np.ndarray, "rows"], place: Place
) -> Float[np.ndarray, "rows classes"]:
    """Return the logits of pictures, each in its first view, in full precision."""
    module.eval()
    parts = []
    for start in range(0, len(pictures), EVALUATION_BATCH):
        some = pictures[start : start + EVALUATION_BATCH]
        rows = views.get(some, np.zeros(len(some), np.int64))
        parts.append(module(to_input(rows, place.device)).float().cpu().numpy())
    return np.concatenate(parts)


def _state(
    module: nn.Module, average: Average, optimizer: torch.optim.Optimizer, schedule: LRScheduler
) -> dict[str, Any]:
    return {
        "module": module.state_dict(),
        "average": average.tensors,
        "steps": average.steps,
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
    }


def _restore(
    saved: Mapping[str, Any],
    module: nn.Module,
    average: Average,
    optimizer: torch.optim.Optimizer,
    schedule: LRScheduler,
) -> None:
    module.load_state_dict(saved["module"])
    average.tensors = {name: value.clone() for name, value in saved["average"].items()}
    for name, value in module.state_dict().items():
        average.tensors[name] = average.tensors[name].to(value.device)
    average.steps = saved["steps"]
    optimizer.load_state_dict(saved["optimizer"])
    schedule.load_state_dict(dict(saved["schedule"]))


def train(
    module: nn.Module,
    rows: Rows,
    optimizer: torch.optim.Optimizer,
    schedule: LRScheduler,
    *,
    epochs: int,
    horizon: float,
    stop: Stop,
    validate: Callable[[nn.Module], Measured],
    seed: int,
    place: Place,
    saved: Path,
    progress: Progress,
) -> Trained:
    """Train a network and leave the best averaged weights in it.

    Changes `module`; writes a checkpoint after each epoch and goes on from it
    when it is there: the result is the same to the bit.

    Args:
        module: what is trained, on `place.device`.
        rows: what it is trained on.
        optimizer: over the module's parameters.
        schedule: of the rate, one step for each step of the optimizer.
        epochs: at most.
        horizon: of the weights' average, in steps.
        stop: which epoch is the best.
        validate: measures the module.
        seed: of order, views and dropout.
        place: where to compute.
        saved: the checkpoint's file.
        progress: is told `train`.
    """
    average = Average(module, horizon)
    history: list[Epoch] = []
    best: dict[str, Tensor] = {}
    if saved.exists():
        found = checkpoint.load(saved)
        _restore(found, module, average, optimizer, schedule)
        history = [Epoch(**line) for line in found["history"]]
        best = found["best"]
    while len(history) < epochs and not _patience_ends(history, stop):
        number = len(history)
        began, rates = time.perf_counter(), schedule.get_last_lr()
        loss = _one_epoch(
            module, rows, optimizer, schedule, average, number, epochs, seed, place, progress
        )
        weights = {name: value.clone() for name, value in module.state_dict().items()}
        module.load_state_dict(average.tensors)
        measured = validate(module)
        history.append(
            Epoch(
                number,
                time.perf_counter() - began,
                float(max(*rates, *schedule.get_last_lr())),
                loss,
                measured.loss,
                measured.accuracy,
                measured.balanced_accuracy,
            )
        )
        if stop.kept(history) is history[-1]:
            best = {name: value.clone() for name, value in average.tensors.items()}
        module.load_state_dict(weights)
        state = _state(module, average, optimizer, schedule)
        checkpoint.save(
            saved, {**state, "history": [asdict(line) for line in history], "best": best}
        )
    module.load_state_dict(best)
    module.eval()
    top = stop.kept(history).epoch
    return Trained(tuple(history), top, len(history) < epochs)


def _patience_ends(history: list[Epoch], stop: Stop) -> bool:
    if not history or not stop.patience:
        return False
    return history[-1].epoch - stop.kept(history).epoch >= stop.patience


def _one_epoch(
    module: nn.Module,
    rows: Rows,
    optimizer: torch.optim.Optimizer,
    schedule: LRScheduler,
    average: Average,
    number: int,
    epochs: int,
    seed: int,
    place: Place,
    progress: Progress,
) -> float:
    """Take one pass over the rows and return the mean loss."""
    module.train()
    total = torch.zeros((), device=place.device)
    for step, (inputs, targets) in enumerate(batches(rows, seed, number)):
        progress("train", number * rows.steps + step, epochs * rows.steps)
        # Dropout's masks must not depend on what ran before: see `draws`.
        torch.manual_seed(draws.number(f"{seed}/step/{number}/{step}") >> 1)
        with place.cast():
            logits = module(to_input(inputs, place.device))
        loss = cross_entropy(logits, targets.to(place.device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        average.update(module)
        total += loss.detach()
    progress("train", (number + 1) * rows.steps, epochs * rows.steps)
    return float(total) / rows.steps


def brief(
    module: nn.Module,
    rows: Rows,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    seed: int,
    place: Place,
) -> float:
    """Take a few steps with a rate that falls to zero; for comparing rates.

    Changes `module`.

    Returns:
        The mean loss of the last quarter; infinite where it is not a number.
    """
    module.train()
    rates = [group["lr"] for group in optimizer.param_groups]
    losses: list[float] = []
    epoch = 0
    while len(losses) < steps:
        for inputs, targets in batches(rows, seed, epoch):
            place_in = len(losses) / steps
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * min(1.0, 10 * (place_in + 1 / steps)) * (1 - place_in)
            torch.manual_seed(draws.number(f"{seed}/brief/{len(losses)}") >> 1)
            with place.cast():
                loss = cross_entropy(
                    module(to_input(inputs, place.device)), targets.to(place.device)
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))
            if len(losses) == steps:
                break
        epoch += 1
    last = losses[-max(1, steps // 4) :]
    mean = sum(last) / len(last)
    return mean if math.isfinite(mean) else math.inf
