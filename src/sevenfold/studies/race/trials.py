"""Train once for a race, wherever the call lands, and judge a final training."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import cattrs
import numpy as np
from jaxtyping import Float, Int64

from sevenfold import draws, evaluate, train, trial
from sevenfold.data import Split
from sevenfold.engines import Json
from sevenfold.features.pixels import for_training
from sevenfold.place import Place
from sevenfold.practices import growth, imbalance
from sevenfold.progress import Progress, silent
from sevenfold.recipe import Recipe
from sevenfold.rows import Stage
from sevenfold.studies import pictures
from sevenfold.studies.folder import checkpoints
from sevenfold.studies.race import judging
from sevenfold.studies.race.carving import carved
from sevenfold.train.member import answers, measure

TRAIN: Final = f"{__name__}:called"
_HOTTEST: Final = 2.0  # a small tuning part without a mistake would have the temperature 0


@dataclass(frozen=True, eq=False)
class Ground:
    """Hold what all trainings of a race share.

    Args:
        split: from `carving.carved`.
        place: where to compute.
    """

    split: Split
    place: Place


def called(call: Json, progress: Progress = silent) -> Json:
    """Train once on the pictures that the call names."""
    split, place = pictures.of(call)
    return trained(Ground(carved(split), place), call, progress)


def looked(ground: Ground, recipe: Recipe, folder: Path, progress: Progress) -> None:
    """Fill the stores with all that trainings of a recipe see, and are judged by."""
    split = ground.split
    judged = np.sort(np.concatenate([split.val, split.test]))
    train.look(
        recipe,
        replace(split, val=judged, test=split.test[:0]),
        place=ground.place,
        pixels=for_training(recipe.side),
        folder=folder,
        progress=progress,
    )


def trained(ground: Ground, call: Json, progress: Progress = silent) -> Json:
    """Train once, and judge a final one.

    Args:
        ground: the pictures.
        call: `recipe`, `seed`, `contestant`, `final`, whether it is judged, and `folder`, where
            checkpoints lie, "" for a place of this machine that is deleted afterwards.
        progress: is told what is under way.
    """
    began = time.perf_counter()
    with checkpoints(call["folder"]) as folder:
        found = _judged(ground, call, folder, progress)
    # What was trained before, by a stopped race or for another contestant, took its time too.
    seconds = max(time.perf_counter() - began, sum(found["epoch_seconds"]))
    return found | {"seconds": seconds}


def _judged(ground: Ground, call: Json, folder: Path, progress: Progress) -> dict[str, Any]:
    """Train with checkpoints in a folder, and score what came of it."""
    split, place = ground.split, ground.place
    recipe: Recipe = cattrs.structure(call["recipe"], Recipe)
    fitted = trial.blind(
        recipe,
        split,
        seed=call["seed"],
        place=place,
        pixels=for_training(recipe.side),
        folder=folder,
        progress=progress,
    )
    logits, diverged = _sound(fitted.members[0].logits)
    temperature = evaluate.fit_temperature(logits.astype(np.float64), fitted.labels)
    temperature = min(_HOTTEST, max(1 / _HOTTEST, temperature))
    found = _record(call, recipe, fitted, split) | {
        "tuning": _scored(logits / temperature, fitted.labels),
        "diverged": diverged,
    }
    if call["final"]:
        network = fitted.members[0].network
        said = answers(network, fitted.recipe, split.dataset, split.test, place, progress)
        judged, _ = _sound(said)
        labels = split.dataset.labels[split.test]
        right = judging.packed(judged.argmax(axis=1) == labels)
        found["judged"] = _scored(judged / temperature, labels) | {"right": right}
    return found


def _record(call: Json, recipe: Recipe, fitted: train.Fitted, split: Split) -> dict[str, Any]:
    """Tell how a training went."""
    member = fitted.members[0]
    history = member.trained.history
    return {
        "contestant": call["contestant"],
        "seed": call["seed"],
        "rate": fitted.rate,
        "weight_decay": recipe.optimization.weight_decay,
        "method": fitted.recipe.imbalance.method,
        "epochs": len(history),
        "best_epoch": member.trained.best_epoch,
        "stopped_early": member.trained.stopped_early,
        "decision": asdict(member.decision) if member.decision else None,
        "steps": _steps(fitted.recipe, split, call["seed"])[: len(history)],
        "epoch_seconds": [epoch.seconds for epoch in history],
        "scores": [getattr(epoch, f"val_{fitted.recipe.objective}") for epoch in history],
    }


def _sound(
    logits: Float[np.ndarray, "pictures classes"],
) -> tuple[Float[np.ndarray, "pictures classes"], bool]:
    """Return logits, or those of a network that knows nothing where it diverged."""
    diverged = not bool(np.isfinite(logits).all())
    return (np.zeros_like(logits) if diverged else logits), diverged


def _scored(
    logits: Float[np.ndarray, "pictures classes"], labels: Int64[np.ndarray, "pictures"]
) -> dict[str, Any]:
    measured = measure(logits, labels)
    return {
        "accuracy": measured.accuracy,
        "balanced_accuracy": measured.balanced_accuracy,
        "macro_f1": _macro_f1(evaluate.confusion(logits.argmax(axis=1), labels, logits.shape[1])),
        "nll": measured.loss,
    }


def _macro_f1(confusion: Int64[np.ndarray, "classes classes"]) -> float:
    """Average F1 over the classes that occur or are answered, as `evaluate.score` does."""
    both = confusion.sum(axis=0) + confusion.sum(axis=1)
    return float((2 * confusion.diagonal()[both > 0] / both[both > 0]).mean())


def _steps(recipe: Recipe, split: Split, seed: int) -> list[int]:
    """Count the steps up to the end of each epoch."""
    pictures = growth.given(split, recipe.growth, seed)
    stages: Callable[[int], Stage] = imbalance.plan(
        recipe.imbalance,
        split.dataset.labels,
        pictures,
        draws.numbers(split.dataset.hashes),
        split.dataset.classes,
        epochs=recipe.epochs,
        batch=recipe.batch,
        seed=seed,
    )
    counts = []
    for epoch in range(recipe.epochs):
        whole, rest = divmod(len(stages(epoch).pictures), recipe.batch)
        counts.append(max(1, whole + (rest > 1)))
    return [int(total) for total in np.cumsum(counts)]
