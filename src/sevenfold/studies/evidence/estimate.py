"""Estimate what a study will take before it starts, from a few measured steps."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnx
import torch
from jaxtyping import Int64
from onnx import numpy_helper

from sevenfold import latency, nets
from sevenfold.export import Shipped, assemble, core
from sevenfold.features import trunk as trunks
from sevenfold.place import Place
from sevenfold.practices import imbalance, optimization
from sevenfold.practices.ensembling.graph import voting
from sevenfold.practices.transfer import ALL_BLOCKS
from sevenfold.recipe import Recipe
from sevenfold.studies.evidence.arms import Arm, Training
from sevenfold.train import bench

_BATCH: Final = 8
_PIXELS: Final = 64 * 64 * 64  # in a step that is timed: whole networks hold much of each
_STEPS: Final = 2
_ROUNDS: Final = 40
_APART: Final = 1e-3  # between the weights of members, so that no two count as one
# What a trial takes beside its steps: reading the stores, judging, its share of the processes'
# starts. And a pruned one: ranking, cutting, norms, exports, timings, answers from pixels. In
# benchmarks/results/evidence_runs.jsonl (`table/clothing/160`) two workers were busy for 2 x 2,957
# seconds: 4,140 of them steps, some 190 stores, and the rest of 102 trials, 12 of them pruned, is
# 5 seconds each and 90 more. How that rest divides between the two is a guess.
TRIAL_SECONDS: Final = 5.0
CARVED_SECONDS: Final = 90.0


@dataclass(frozen=True)
class Cost:
    """Hold what a study will take.

    Args:
        seconds: of each training, by its number.
        rows: that the stores lack at most.
        row_seconds: of each.
        row_bytes: of each.
    """

    seconds: tuple[float, ...]
    rows: int
    row_seconds: float
    row_bytes: int


def estimated(
    trainings: Sequence[Training],
    stored: Sequence[Recipe],
    pictures: int,
    counts: Int64[np.ndarray, "classes"],
    place: Place,
) -> Cost:
    """Estimate trials by their steps and what each takes beside them, and stores by their rows.

    Args:
        trainings: of one repetition.
        stored: a recipe of each set of views that the stores hold.
        pictures: that have rows.
        counts: of each class, pictures that a repetition trains on.
        place: where to compute.
    """
    paces: dict[tuple[int, int], float] = {}
    classes = len(counts)

    def pace(recipe: Recipe) -> float:
        key = recipe.side, recipe.transfer.trainable_blocks
        if key not in paces:
            paces[key] = _pace(recipe, classes, place)
        return paces[key]

    building = 2 * _building(trainings[0].recipe, classes)  # for its trunk, and to be trained
    rows = sum(pictures * (recipe.views + 1) for recipe in stored)
    each = [_row(recipe, classes, place) for recipe in stored]
    sizes = [bytes_ for _, bytes_ in each]
    return Cost(
        tuple(building + TRIAL_SECONDS + _worked(one, counts, pace) for one in trainings),
        rows,
        float(np.mean([took for took, _ in each])) if each else 0.0,
        int(np.mean(sizes)) if sizes else 0,
    )


def _worked(
    training: Training, counts: Int64[np.ndarray, "classes"], pace: Callable[[Recipe], float]
) -> float:
    """Estimate the steps of a trial, and what is done to its network afterwards."""
    recipe, carving = training.recipe, training.carving
    rates = optimization.rates(recipe.optimization, recipe.transfer.weights != "random")
    probed = 0 if recipe.optimization.rate else len(rates) * optimization.PROBE_STEPS
    probed *= optimization.probed_batch(recipe.batch)
    # `auto` trains by each way that needs a training of its own; the chosen one goes on.
    methods = imbalance.resolve(recipe.imbalance, counts, recipe.objective)
    trained = max(1, len(set(methods) - {"adjusted_after"}))
    took = (trained * recipe.epochs * int(counts.sum()) * training.share + probed) * pace(recipe)
    if carving:
        whole = replace(recipe.transfer, trainable_blocks=ALL_BLOCKS)
        took += 2 * carving.pictures * pace(replace(carving.recipe, transfer=whole))
        took += CARVED_SECONDS
    return took


def _building(recipe: Recipe, classes: int) -> float:
    """Time the start of a network, in seconds."""
    began = time.perf_counter()
    bench.start(recipe, classes, 0)
    return time.perf_counter() - began


def _pace(recipe: Recipe, classes: int, place: Place) -> float:
    """Time steps of a recipe's tail on noise; seconds a picture."""
    network, _ = bench.start(recipe, classes, 0)
    trunk, tail = nets.cut(network, recipe.transfer.trainable_blocks)
    batch = recipe.batch  # in a step of few small pictures each costs twice as much
    if not len(trunk.blocks):
        batch = min(batch, max(_BATCH, _PIXELS // recipe.side**2))
    pixels = torch.rand(min(batch, _BATCH), 3, recipe.side, recipe.side) * 255
    with torch.no_grad():
        rows = trunk(pixels) if len(trunk.blocks) else pixels
    rows = rows[torch.arange(batch) % len(rows)]
    if not len(trunk.blocks):
        rows = rows.to(memory_format=torch.channels_last)  # as `to_input` makes them
    rows, tail = rows.to(place.device), tail.to(place.device).train()
    labels = torch.zeros(batch, dtype=torch.int64, device=place.device)
    began = 0.0
    for step in range(_STEPS + 1):
        if step == 1:
            began = time.perf_counter()
        with place.forward(tail):
            logits = tail(rows)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        float(loss.detach())  # a GPU has only been asked so far, and here is waited for
    return (time.perf_counter() - began) / (_STEPS * batch)


def _row(recipe: Recipe, classes: int, place: Place) -> tuple[float, int]:
    """Time the trunk on noise; seconds and bytes a row. Without a trunk there are no rows."""
    network, _ = bench.start(recipe, classes, 0)
    trunk, _ = nets.cut(network, recipe.transfer.trainable_blocks)
    if not len(trunk.blocks):
        return 0.0, 0
    engine = trunks.engine(trunk, recipe.side, place.device)
    pixels = np.zeros((_BATCH, recipe.side, recipe.side, 3), np.uint8)
    engine.run(pixels)
    began = time.perf_counter()
    engine.run(pixels)
    return (time.perf_counter() - began) / _BATCH, 2 * int(np.prod(engine.shape))


@dataclass(frozen=True)
class Gauge:
    """Hold what an arm's file costs whoever runs it.

    Args:
        megabytes: of the exported file.
        latency_ms: of the network on one picture, one thread: for each repetition the median
            of rounds of its own.
    """

    megabytes: float
    latency_ms: tuple[float, ...]


def gauged(arms: Sequence[Arm], classes: int, repetitions: int) -> dict[str, Gauge]:
    """Measure each distinct architecture once, before it is trained; see `latency`.

    What a network costs does not depend on what it has learned. Networks that are pruned
    differ and are timed where they are made, against the unpruned one.

    Args:
        arms: all of a study.
        classes: of the data.
        repetitions: of the study, between which times differ as they do by themselves.
    """
    kinds = {arm.name: _kind(arm) for arm in arms}
    files: dict[tuple[int, int, int], bytes] = {}
    sizes: dict[tuple[int, int, int], float] = {}
    exported: dict[tuple[int, str], onnx.ModelProto] = {}
    for arm in arms:
        kind = kinds[arm.name]
        if kind not in files:
            recipe = arm.trainings[0].recipe
            alone = (recipe.side, recipe.transfer.backbone)
            if alone not in exported:
                network, _ = bench.start(recipe, classes, 0)
                exported[alone] = core(Shipped(network, False).eval(), recipe.side)
            joined = _joined(exported[alone], recipe, len(arm.trainings))
            files[kind] = joined.SerializeToString()
            sizes[kind] = len(assemble(joined, recipe.side, classes, 1.0)) / 1e6
    rounds = latency.timed(list(files.values()), rounds=max(_ROUNDS, repetitions))
    parts = np.array_split(rounds, repetitions, axis=1)
    times = np.stack([np.median(part, axis=1) for part in parts], axis=1)
    took = dict(zip(files, times.tolist(), strict=True))
    return {name: Gauge(sizes[kind], tuple(took[kind])) for name, kind in kinds.items()}


def _kind(arm: Arm) -> tuple[int, int, int]:
    recipe, count = arm.trainings[0].recipe, len(arm.trainings)
    return recipe.side, count, recipe.transfer.trainable_blocks if count > 1 else 0


def _joined(exported: onnx.ModelProto, recipe: Recipe, members: int) -> onnx.ModelProto:
    """Join a network to others that share its frozen trunk, for a vote."""
    if members == 1:
        return exported
    network, _ = bench.start(recipe, 2, 0)
    frozen = len(network.blocks) - min(len(network.blocks), recipe.transfer.trainable_blocks)
    cores = []
    for number in range(members):
        other = onnx.ModelProto()
        other.CopyFrom(exported)
        for weight in other.graph.initializer:
            if _trained(weight, frozen):
                values = numpy_helper.to_array(weight) + np.float32(number * _APART)
                weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        cores.append(other)
    return voting(cores, np.ones(members), "soft")


def _trained(weight: onnx.TensorProto, frozen: int) -> bool:
    """Tell whether a weight lies above so many frozen blocks."""
    if weight.data_type != onnx.TensorProto.FLOAT or not weight.dims:
        return False
    block = re.match(r"network\.blocks\.(\d+)\.", weight.name)
    if block:
        return int(block[1]) >= frozen
    return not weight.name.startswith("network.normalise")
