"""Train one network: loss, optimizer, schedule and batches are given.

A step's randomness is a function of (seed, epoch, step) and a batch's of (seed, epoch),
so that the state after any step is all that an exact resume needs.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from sevenfold import checkpoint, draws
from sevenfold.average import Average
from sevenfold.features.views import Views
from sevenfold.place import Place
from sevenfold.progress import Progress
from sevenfold.rows import Numbers, Rows, batches, to_input

EVALUATION_BATCH: Final = 64
SAVED_EVERY: Final = 3.0
"""Seconds between checkpoints of epochs: a tail is saved five times over."""
SPENT_SAVING: Final = 30
"""How many times as long as a checkpoint took none is written: a slow disk must not cost more
than a thirtieth of a training."""
SAVED_WITHIN: Final = 30.0
"""Seconds after which a checkpoint waits for no epoch's end: from pixels one may take hours."""


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


@dataclass(frozen=True, eq=False)
class Begun:
    """Say how far the epoch under way has come.

    Args:
        rate: at its beginning.
        steps: that it has taken.
        loss: summed over them.
        seconds: that they took.
    """

    rate: float
    steps: int
    loss: Float[Tensor, ""]
    seconds: float


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
        pictures: effective sample size of the objective; 0: any difference counts.
    """

    objective: str
    patience: int
    pictures: float = 0.0

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


def cross_entropy(
    logits: Float[Tensor, "batch classes"], targets: Float[Tensor, "batch classes"]
) -> Float[Tensor, ""]:
    """Return the cross-entropy against soft targets, summed and divided by the pictures."""
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

    Changes `module`; writes a checkpoint every few seconds, after an epoch or within a long
    one, and at the end, and goes on from it when it is there: the result is the same to the
    bit.

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

    Returns:
        How it went. A loss that is no number any more ends it at once.
    """
    average = Average(module, horizon)
    steps = [rows.steps(epoch) for epoch in range(epochs)]
    history: list[Epoch] = []
    best: dict[str, Tensor] = {}
    begun: Begun | None = None
    kept, took = time.monotonic(), 0.0

    def keep(begun: Begun | None, least_seconds: float) -> None:
        """Write a checkpoint if the last one is so old, and old for what it took."""
        nonlocal kept, took
        began = time.monotonic()
        if least_seconds and began - kept < max(least_seconds, SPENT_SAVING * took):
            return
        told = {
            "history": [asdict(line) for line in history],
            "begun": begun and vars(begun),
            "ended": _over(history, epochs, stop),
            "best": best,
        }
        checkpoint.save(saved, _state(module, average, optimizer, schedule) | told)
        kept = time.monotonic()
        took = kept - began

    if saved.exists():
        found = checkpoint.load(saved)
        _restore(found, module, average, optimizer, schedule)
        history = [Epoch(**line) for line in found["history"]]
        best, begun = found["best"], found["begun"] and Begun(**found["begun"])
    while not _over(history, epochs, stop):
        number = len(history)
        begun = begun or Begun(float(max(schedule.get_last_lr())), 0, torch.zeros(()), 0.0)
        rate, began = begun.rate, time.perf_counter() - begun.seconds
        loss = _one_epoch(
            module,
            rows,
            optimizer,
            schedule,
            average,
            number,
            begun,
            sum(steps[:number]),
            sum(steps),
            seed,
            place,
            lambda begun: keep(begun, SAVED_WITHIN),
            progress,
        )
        begun = None
        weights = {name: value.clone() for name, value in module.state_dict().items()}
        module.load_state_dict(average.tensors)
        measured = validate(module)
        history.append(
            Epoch(
                number,
                time.perf_counter() - began,
                float(max(rate, *schedule.get_last_lr())),
                loss,
                measured.loss,
                measured.accuracy,
                measured.balanced_accuracy,
            )
        )
        if stop.kept(history) is history[-1]:
            best = {name: value.clone() for name, value in average.tensors.items()}
        module.load_state_dict(weights)
        keep(begun, 0.0 if _over(history, epochs, stop) else SAVED_EVERY)
        if stop.patience:
            progress(_epoch_line(history[-1], epochs), 0, 0)
    module.load_state_dict(best)
    module.eval()
    top = stop.kept(history).epoch
    return Trained(tuple(history), top, len(history) < epochs)


def _epoch_line(epoch: Epoch, epochs: int) -> str:
    return (
        f"epoch {epoch.epoch + 1} of {epochs}: loss {epoch.loss:.3f}, "
        f"validation {epoch.val_loss:.3f} and {epoch.val_accuracy:.1%} right"
    )


def ended(saved: Path) -> bool:
    """Tell whether a checkpoint is of a training that has nothing left to do."""
    return saved.exists() and bool(checkpoint.load(saved)["ended"])


def _over(history: list[Epoch], epochs: int, stop: Stop) -> bool:
    """Tell whether all epochs are done, patience is at its end, or the training diverged."""
    if not history or len(history) == epochs:
        return len(history) == epochs
    last = history[-1]
    patient = not stop.patience or last.epoch - stop.kept(history).epoch < stop.patience
    return not patient or not math.isfinite(last.loss)


def _one_epoch(
    module: nn.Module,
    rows: Rows,
    optimizer: torch.optim.Optimizer,
    schedule: LRScheduler,
    average: Average,
    number: int,
    begun: Begun,
    done: int,
    whole: int,
    seed: int,
    place: Place,
    keep: Callable[[Begun], None],
    progress: Progress,
) -> float:
    """Take the rest of a pass over the rows; `done` of `whole` steps lie before it."""
    module.train()
    began = time.perf_counter() - begun.seconds
    total = begun.loss.to(place.device, copy=True)
    offset = torch.from_numpy(rows.stages(number).offset).float().to(place.device)
    for step, batch in enumerate(batches(rows, seed, number, begun.steps), begun.steps):
        progress("train", done + step, whole)
        # Dropout's masks must not depend on what ran before: see `draws`.
        torch.manual_seed(draws.number(f"{seed}/step/{number}/{step}") >> 1)
        loss = _step(module, rows, batch, number, offset, optimizer, place)
        schedule.step()
        average.update(module)
        total += loss
        keep(Begun(begun.rate, step + 1, total, time.perf_counter() - began))
    progress("train", done + rows.steps(number), whole)
    return float(total) / rows.steps(number)


def _step(
    module: nn.Module,
    rows: Rows,
    batch: tuple[np.ndarray[Any, Any], Tensor, Numbers],
    epoch: int,
    offset: Float[Tensor, "classes"],
    optimizer: torch.optim.Optimizer,
    place: Place,
) -> Float[Tensor, ""]:
    """Move the weights once and return the loss."""
    stored, targets, numbers = batch
    inputs, targets = rows.mix(
        to_input(stored, place.device), targets.to(place.device), numbers, epoch
    )
    with place.forward(module):
        logits = module(inputs)
    loss = cross_entropy(logits.float() + offset, targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


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
        offset = torch.from_numpy(rows.stages(epoch).offset).float().to(place.device)
        for batch in batches(rows, seed, epoch):
            place_in = len(losses) / steps
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * min(1.0, 10 * (place_in + 1 / steps)) * (1 - place_in)
            torch.manual_seed(draws.number(f"{seed}/brief/{len(losses)}") >> 1)
            losses.append(float(_step(module, rows, batch, epoch, offset, optimizer, place)))
            if len(losses) == steps:
                break
        epoch += 1
    last = losses[-max(1, steps // 4) :]
    mean = sum(last) / len(last)
    return mean if math.isfinite(mean) else math.inf
