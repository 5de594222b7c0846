"""Judge pruned networks by the files that would ship: speed first, then test, opened once."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Int64

from sevenfold import data as datasets
from sevenfold import evaluate as scoring
from sevenfold import latency, paired, release
from sevenfold.data import Split
from sevenfold.evaluate import Estimate
from sevenfold.judging.bounds import largest_drops
from sevenfold.place import Place
from sevenfold.practices import pruning
from sevenfold.predictions import recompute
from sevenfold.train import Fitted, Member

_FLIPS: Final = 200  # that are listed


@dataclass(frozen=True, eq=False)
class File:
    """Hold a network with the graph that would ship and what it costs.

    Args:
        name: `dense`, `step 2` and so on.
        member: the network.
        made: its graph, verified.
        cost: for one picture.
        score: of the objective on validation.
    """

    name: str
    member: Member
    made: release.Exported
    cost: pruning.Cost
    score: float


def filed(
    name: str, member: Member, score: float, fitted: Fitted, split: Split, place: Place
) -> File:
    """Export a network, calibrate it, and hold the graph against it.

    Raises:
        GateRefused: they disagree.
    """
    # Running it turns what it holds into tensors that cannot be trained any more.
    copied = replace(member, network=copy.deepcopy(member.network))
    made = release.exported(replace(fitted, ships=(copied,), shares=np.ones(1)), split, place)
    return File(name, member, made, pruning.cost(member.network, fitted.recipe.side), score)


@dataclass(frozen=True)
class Speed:
    """Hold what was timed: the dense network, itself again, and each step.

    Args:
        steady: whether the dense network against itself has an interval that holds 1; else
            the machine was too busy for the others' to be believed.
        against_itself: that ratio.
        dense_ms: median.
        steps_ms: median of each step.
        ratios: how many times faster each step is.
    """

    steady: bool
    against_itself: Estimate
    dense_ms: float
    steps_ms: tuple[float, ...]
    ratios: tuple[Estimate, ...]

    @property
    def noise(self) -> float:
        """Return how many times faster the dense network may seem to be than itself, 1 or more."""
        return max(1.0, self.against_itself.high, 1 / self.against_itself.low)


def speed(dense: bytes, steps: Sequence[bytes], timer: latency.Timer = latency.timed) -> Speed:
    """Time steps against the dense model, on one thread, until it is as fast as itself.

    Args:
        dense: ONNX file.
        steps: ONNX files.
        timer: measures interleaved milliseconds; in a fresh process.
    """
    found = latency.steadied([dense, *steps], timer)
    first, *others = found.times
    return Speed(
        found.steady,
        found.itself,
        float(np.median(first)),
        tuple(float(np.median(one)) for one in others),
        tuple(latency.ratio(first, one) for one in others),
    )


@dataclass(frozen=True, eq=False)
class Tested:
    """Hold what test says of one file, against the dense one.

    Args:
        file: the network.
        judged: its answers on validation and test.
        scores: on test.
        counts: right and wrong answers of the dense file and this one.
        bounds: of each measure that is judged, by which it drops at most, at 95 %, one-sided.
    """

    file: File
    judged: release.Judged
    scores: scoring.Scores
    counts: paired.Paired
    bounds: Mapping[str, float]

    @property
    def bound(self) -> float:
        """Return the largest of the bounds: what a certificate goes by."""
        return max(self.bounds.values())


def tested(files: Sequence[File], split: Split, objective: str, place: Place) -> list[Tested]:
    """Open test once for all files; the first is the dense one."""
    found: list[Tested] = []
    right: list[Bool[np.ndarray, " pictures"]] = []
    labels, groups = _of_test(split)
    for file in files:
        judged = release.judged(file.made, split, place)
        answers = judged.predictions.probabilities[-len(split.test) :].argmax(axis=1)
        right.append(answers == labels)
        counts = paired.count(right[0], right[-1])
        bounds = largest_drops(right[0], right[-1], labels, groups, objective)
        scores = recompute(judged.predictions, role="test")
        found.append(Tested(file, judged, scores, counts, bounds))
    return found


def _of_test(split: Split) -> tuple[Int64[np.ndarray, " pictures"], list[str]]:
    """Return the classes and the groups of the test pictures."""
    return split.dataset.labels[split.test], [split.dataset.groups[at] for at in split.test]


def least_bound(split: Split, objective: str) -> float:
    """Return the bound on the drop if not one test answer were to change."""
    same = np.ones(len(split.test), dtype=bool)
    return max(largest_drops(same, same, *_of_test(split), objective).values())


def row(one: Tested, dense: Tested, objective: str) -> dict[str, Any]:
    """Return what is told of one file."""
    mine, theirs = (getattr(each.scores, objective).value for each in (one, dense))
    return {
        "name": one.file.name,
        "macs": one.file.cost.macs,
        "parameters": one.file.cost.parameters,
        "megabytes": len(one.file.made.model) / 1e6,
        "validation": one.file.score,
        "test": mine,
        "accuracy": one.scores.accuracy.value,
        "nll": one.scores.nll.value,
        "objective_drop": theirs - mine,
        "objective_drop_bound": one.bounds[objective],
        "drop": -one.counts.difference,
        "drop_bound": one.bounds["accuracy"],
        "seconds": sum(line.seconds for line in one.file.member.trained.history),
    }


def timing(at: int, network: Speed, whole: Speed) -> dict[str, Any]:
    """Return what is told of a step's speed."""
    return {
        "network_latency_ms": network.steps_ms[at],
        "latency_ms": whole.steps_ms[at],
        "speedup": latency.to_json(network.ratios[at]),
        "speedup_whole": latency.to_json(whole.ratios[at]),
    }


def flips(one: Tested, dense: Tested, split: Split) -> dict[str, Any]:
    """Count the test pictures whose answer got wrong or right, and name them."""
    dataset, labels = split.dataset, split.dataset.labels[split.test]
    before, after = (
        each.judged.predictions.probabilities[-len(split.test) :].argmax(axis=1)
        for each in (dense, one)
    )
    flipped = np.flatnonzero((before == labels) & (after != labels))
    return {
        "negative": one.counts.only_first,
        "positive": one.counts.only_second,
        "pictures": [
            {
                "path": datasets.shown(dataset.photos[int(split.test[at])].path),
                "label": dataset.classes[labels[at]],
                "answer": dataset.classes[after[at]],
            }
            for at in flipped[:_FLIPS]
        ],
    }


def classes(one: Tested, dense: Tested) -> list[Mapping[str, Any]]:
    """Return each class's recall on test before and after."""
    return [
        {
            "label": before.label,
            "pictures": before.pictures,
            "before": asdict(before.recall),
            "after": asdict(after.recall),
        }
        for before, after in zip(dense.scores.classes, one.scores.classes, strict=True)
    ]
