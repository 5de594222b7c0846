"""Train one trial of a study, wherever the call lands: what an engine's workers run."""

import base64
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cattrs
import numpy as np
from jaxtyping import Float, Int64

from sevenfold import draws, evaluate, export, latency, nets, trial
from sevenfold.data import Split
from sevenfold.engines import Json
from sevenfold.features.pixels import Pixels, fill, for_training
from sevenfold.place import Place
from sevenfold.practices import growth, pruning, transfer
from sevenfold.practices.growth import Growth
from sevenfold.practices.transfer import ALL_BLOCKS, Transfer
from sevenfold.progress import silent
from sevenfold.recipe import Recipe
from sevenfold.studies.evidence import folds
from sevenfold.studies.evidence.arms import Carving, Training
from sevenfold.studies.folder import checkpoints
from sevenfold.studies.pictures import of as pictures_of
from sevenfold.train import Fitted, bench, pruned
from sevenfold.train.member import answers

TRAIN = f"{__name__}:called"
FILL = f"{__name__}:filled"
HOTTEST = 5.0
"""The largest temperature; one by it is the smallest: a tuning part may hold no mistake."""


@dataclass(frozen=True, eq=False)
class Ground:
    """Hold what all trials of a study share.

    Args:
        split: the data's own roles.
        place: where to compute.
        repetitions: folds in all.
        seed: of the study, which its folds follow from.
    """

    split: Split
    place: Place
    repetitions: int
    seed: int = 0

    def folded(self, repetition: int) -> Split:
        """Return the roles of one repetition."""
        return folds.folded(self.split, repetition, self.repetitions, self.seed)


def _ground(call: Json) -> Ground:
    ground = call["ground"]
    return Ground(*pictures_of(call), ground["repetitions"], ground["seed"])


def called(call: Json) -> Json:
    """Train a trial of the data that the call names."""
    return trained(_ground(call), call)


def filled(call: Json) -> Json:
    """Fill the stores for some pictures of the data that the call names."""
    return fill_stores(_ground(call), call)


def told_of(training: Training) -> dict[str, Any]:
    """Turn a training into plain values, which `training_of` reads."""
    return asdict(training)


def training_of(told: Mapping[str, Any]) -> Training:
    """Read what `told_of` returned."""
    found: Training = cattrs.Converter(forbid_extra_keys=True).structure(told, Training)
    return found


def fill_stores(ground: Ground, call: Json) -> Json:
    """Run the trunk of a recipe over some pictures, in all their views. Fills the stores.

    Args:
        ground: the data.
        call: `recipe`, and `pictures`, their indices.
    """
    recipe: Recipe = cattrs.structure(call["recipe"], Recipe)
    pictures = np.array(call["pictures"], np.int64)
    split = replace(ground.split, train=pictures, val=pictures, test=pictures[:0])
    pixels = _pixels(recipe, split, pictures, ground.place)
    with tempfile.TemporaryDirectory() as folder:
        bench.prepared(recipe, split, pictures, ground.place, pixels, Path(folder), 0, silent)
    return {"pictures": len(pictures)}


def _pixels(
    recipe: Recipe, split: Split, pictures: Int64[np.ndarray, "some"], place: Place
) -> Pixels:
    """Return the store of decoded pictures of a recipe's side, filled."""
    pixels = for_training(recipe.side)
    fill(pixels, split.dataset, pictures, threads=place.threads, progress=silent)
    return pixels


def trained(ground: Ground, call: Json) -> Json:
    """Train one trial and ask it about the pictures that it is judged by.

    Args:
        ground: the data.
        call: `training`, `repetition`, `seed`, `shared`, the seed that all arms of the
            repetition have in common, and `folder`, where checkpoints lie, "" for
            a place of this machine that is deleted afterwards.

    Returns:
        By part, "" being the network, `pruned` and `unpruned` what came of it: `tuning` and
        `judged` (logits, see `packed`), whether they `diverged`, `seconds` and plain facts.
    """
    with checkpoints(call["folder"]) as folder:
        return {"parts": _parts(ground, call, folder)}


def _parts(ground: Ground, call: Json, folder: Path) -> dict[str, Any]:
    """Train with checkpoints in a folder, and ask each part of what came of it."""
    training = training_of(call["training"])
    split = ground.folded(call["repetition"])
    shared = growth.given(split, Growth(training.share), call["shared"])
    split = replace(split, train=shared)
    place, recipe = ground.place, training.recipe
    pixels = _pixels(recipe, split, np.concatenate([split.train, split.val]), place)
    began = time.perf_counter()
    fitted = trial.blind(
        recipe,
        split,
        seed=call["seed"],
        place=place,
        pixels=pixels,
        folder=folder,
        progress=silent,
    )
    seconds = time.perf_counter() - began
    member = fitted.members[0]
    # A resumed training has spent the time of its earlier epochs, too.
    seconds = max(seconds, sum(epoch.seconds for epoch in member.trained.history))
    parts = {"": _part(member.network, member.logits, fitted.recipe, split, place)}
    parts[""] |= {"seconds": seconds, "detail": _detail(fitted, split)}
    if training.carving:
        made = _carved(fitted, training.carving, split, call["seed"], place, folder)
        parts |= {
            name: part | {"seconds": part["seconds"] + seconds} for name, part in made.items()
        }
    return parts


def _detail(fitted: Fitted, split: Split) -> dict[str, Any]:
    """Tell how a training went."""
    member = fitted.members[0]
    return {
        "pictures": len(split.train),
        "epochs": len(member.trained.history),
        "steps": member.steps,
        "rate": fitted.rate,
        "method": fitted.recipe.imbalance.method,
    }


def _part(
    network: nets.Network,
    tuning: Float[np.ndarray, "tuning classes"],
    recipe: Recipe,
    split: Split,
    place: Place,
) -> dict[str, Any]:
    judged = answers(network, recipe, split.dataset, split.test, place)
    sound = bool(np.isfinite(tuning).all() and np.isfinite(judged).all())
    return {"tuning": packed(tuning), "judged": packed(judged), "diverged": not sound}


def _carved(
    fitted: Fitted, how: Carving, split: Split, seed: int, place: Place, folder: Path
) -> dict[str, dict[str, Any]]:
    """Prune a network in one step, and train it on beside the unpruned one."""
    # What `auto` chose for rare classes lasts in what is trained on.
    recipe = replace(how.recipe, imbalance=fitted.recipe.imbalance)
    member = fitted.members[0]
    labels = split.dataset.labels[split.val]
    pixels = _pixels(recipe, split, split.train, place)
    plan = pruned.Plan(
        (pruning.Aim(pruning.Target("macs", how.left), how.left),),
        replace(how.settings, steps=1, epochs=1, max_drop=1.0, controls="dense"),
        how.rate,
    )
    outcome = pruned.shrunk(
        member.network,
        temperature_of(member.logits, labels),
        recipe,
        split,
        _some(split, how.pictures, seed),
        plan,
        latency=lambda _: 0.0,
        seed=seed,
        place=place,
        pixels=pixels,
        folder=folder,
        progress=silent,
    )
    assert outcome.dense is not None
    whole = replace(recipe, transfer=replace(recipe.transfer, trainable_blocks=ALL_BLOCKS))
    found = {}
    for name, one in (("pruned", outcome.shrunk.kept[0].network), ("unpruned", outcome.dense)):
        found[name] = _part(one.network, one.logits, whole, split, place)
        found[name]["seconds"] = sum(epoch.seconds for epoch in one.trained.history)
        found[name]["detail"] = {"pictures": min(how.pictures, len(split.train)), "epochs": 1}
    smaller, classes = outcome.shrunk.kept[0].network.network, len(split.dataset.classes)
    found["pruned"]["detail"] |= _saved(recipe, classes, smaller)
    return found


def _some(split: Split, count: int, seed: int) -> Int64[np.ndarray, "some"]:
    """Draw so many of the training pictures, one of each class among them."""
    numbers = draws.numbers([split.dataset.hashes[one] for one in split.train])
    drawn = split.train[draws.order(f"{seed}/retrain", numbers, 0)]
    _, first = np.unique(split.dataset.labels[drawn], return_index=True)
    others = np.delete(drawn, first)[: max(0, count - len(first))]
    return np.sort(np.concatenate([drawn[first], others]))


def _saved(recipe: Recipe, classes: int, smaller: nets.Network) -> dict[str, Any]:
    """Tell what a pruned network saves; both are timed together, so that work beside it cancels."""
    before, macs = _unpruned(recipe.transfer, recipe.side, classes)
    files = before, _file(smaller, recipe.side)
    whole, less = latency.timed(files)
    return {
        "macs_left": pruning.cost(smaller, recipe.side).macs / macs,
        "megabytes_left": len(files[1]) / len(files[0]),
        "latency_left": latency.ratio(less, whole).value,
    }


def _file(network: nets.Network, side: int) -> bytes:
    exported = export.core(export.Shipped(network, False).eval(), side)
    return bytes(exported.SerializeToString())


@lru_cache(maxsize=2)  # the same of all repetitions, and an export takes ten seconds
def _unpruned(settings: Transfer, side: int, classes: int) -> tuple[bytes, int]:
    """Return an unpruned network's file and multiply-accumulates; what it learnt plays no part."""
    network, _ = transfer.build(settings, classes, side, 0)
    return _file(network.eval(), side), pruning.cost(network, side).macs


def temperature_of(
    logits: Float[np.ndarray, "tuning classes"], labels: Int64[np.ndarray, "tuning"]
) -> float:
    """Fit a temperature from 1/5 to 5; 1 where the logits are none."""
    if not np.isfinite(logits).all():
        return 1.0
    found = evaluate.fit_temperature(logits.astype(np.float64), labels)
    return min(HOTTEST, max(1 / HOTTEST, found))


def packed(values: Float[np.ndarray, "rows classes"]) -> dict[str, Any]:
    """Turn an array into a JSON object, to the bit; one that diverged becomes zeros."""
    sound = values if np.isfinite(values).all() else np.zeros_like(values)
    raw = np.ascontiguousarray(sound, "<f4").tobytes()
    return {"shape": list(values.shape), "float32": base64.b64encode(raw).decode("ascii")}


def unpacked(held: Mapping[str, Any]) -> Float[np.ndarray, "rows classes"]:
    """Read what `packed` returned.

    Raises:
        KeyError, TypeError, ValueError: it is something else.
    """
    raw = base64.b64decode(held["float32"], validate=True)
    return np.frombuffer(raw, "<f4").reshape(held["shape"])
