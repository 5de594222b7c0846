"""Say how each measure weighs the judged pictures, and what their choice leaves unknown."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float64, Int64

from sevenfold import evaluate
from sevenfold.data import Split

HALVES: Final = ("common_recall", "rare_recall")
"""Mean recall of the larger and of the smaller half of the classes."""

Weights = Mapping[str, Float64[np.ndarray, "pictures"]]


def packed(right: Bool[np.ndarray, "pictures"]) -> str:
    """Write which pictures were answered rightly, four to a letter.

    Example:
        >>> packed(np.array([True, False, True, True]))
        'b0'
    """
    return np.packbits(right).tobytes().hex()


def unpacked(texts: Sequence[str], pictures: int) -> Float64[np.ndarray, "seeds pictures"]:
    """Read what `packed` wrote: 1 for a right answer, 0 for a wrong one.

    Example:
        >>> unpacked(["b0"], 4).tolist()
        [[1.0, 0.0, 1.0, 1.0]]
    """
    rows = [np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8)) for text in texts]
    return np.stack(rows)[:, :pictures].astype(np.float64)


def halves(split: Split) -> tuple[list[int], list[int]]:
    """Part the classes by their training pictures; of an odd number one is in neither half."""
    counts = np.bincount(split.dataset.labels[split.train], minlength=len(split.dataset.classes))
    order = np.argsort(-counts, kind="stable").tolist()
    half = len(order) // 2
    return order[:half], order[len(order) - half :]


def weights(split: Split) -> Weights:
    """Return the weight of each judged picture in each measure that counts right answers.

    Args:
        split: the race's; its `test` is judged on.

    Returns:
        Weights by measure, which sum to 1; none of a half without a judged picture.
    """
    labels = split.dataset.labels[split.test]
    counts = np.bincount(labels, minlength=len(split.dataset.classes))
    found: dict[str, Any] = {"accuracy": np.full(len(labels), 1 / len(labels))}
    every = list(range(len(counts)))
    for name, part in zip(("balanced_accuracy", *HALVES), (every, *halves(split)), strict=True):
        there = [label for label in part if counts[label]]
        if there:
            found[name] = np.isin(labels, there) / (len(there) * counts[labels])
    return found


def grains(weighing: Weights) -> dict[str, float]:
    """Return by how much one answer more moves each measure, at most.

    Macro F1 goes in about the steps of balanced accuracy, the log loss in none.

    Args:
        weighing: from `weights`.
    """
    found = {name: float(weight.max()) for name, weight in weighing.items()}
    return found | {"macro_f1": found["balanced_accuracy"], "nll": 0.0}


def members(split: Split) -> Int64[np.ndarray, "pictures"]:
    """Number the groups of the judged pictures, from 0."""
    names = [split.dataset.groups[at] for at in split.test.tolist()]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def errors(
    changes: Float64[np.ndarray, "pictures"],
    weighing: Weights,
    member: Int64[np.ndarray, "pictures"],
) -> dict[str, float]:
    r"""Return the standard error that the choice of the judged pictures leaves.

    $$e = \sqrt{\sum_g \left(\sum_{i \in g} w_i \bar d_i\right)^2}$$

    with $\bar d_i$ the mean over the seeds of how a picture's answer differs. It supposes
    that changes go either way alike, as McNemar (1947) does, and so is not 0 where a lone
    picture changed; pictures of a group count as one. What seeds alone change of a picture
    is in it too, and so counted twice beside the seeds' own error, on the safe side.

    Args:
        changes: of each picture, -1 to 1.
        weighing: from `weights`.
        member: from `members`.

    Returns:
        Errors by measure.
    """
    return {
        name: float(np.sqrt((np.bincount(member, weight * changes) ** 2).sum()))
        for name, weight in weighing.items()
    }


def classes(
    split: Split,
    trained_on: Int64[np.ndarray, "seen"],
    right: Mapping[str, Float64[np.ndarray, "seeds pictures"]],
) -> list[dict[str, Any]]:
    """Tell of each class its pictures, whether they are too few to judge, and its recalls.

    Args:
        split: the race's; its `test` is judged on.
        trained_on: pictures.
        right: by contestant, 1 for a right answer to a judged picture.
    """
    dataset, labels, member = split.dataset, split.dataset.labels[split.test], members(split)
    seen = np.bincount(dataset.labels[trained_on], minlength=len(dataset.classes)).tolist()
    found = []
    for label, name in enumerate(dataset.classes):
        own = np.flatnonzero(labels == label)
        found.append(
            {
                "label": name,
                "trained_on": seen[label],
                "judged_on": len(own),
                "too_few": evaluate.too_few(len(own), len(np.unique(member[own]))),
                "recalls": {one: recall(answers[:, own]) for one, answers in right.items()},
            }
        )
    return found


def recall(right: Float64[np.ndarray, "seeds pictures"]) -> dict[str, float]:
    """Return the recall of a class, the mean of the seeds, with Wilson's interval (1927).

    That is of so many pictures at the seeds' mean, rounded to whole pictures: seeds that
    answer the same pictures make them no more. Without a picture it is 0 from 0 to 1.

    Example:
        >>> found = recall(np.array([[1.0, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 0.0]]))
        >>> {name: round(value, 2) for name, value in found.items()}
        {'mean': 0.75, 'low': 0.3, 'high': 0.95}
    """
    pictures = right.shape[1]
    mean = float(right.mean()) if pictures else 0.0
    bound = evaluate.wilson(round(mean * pictures), pictures)
    return {"mean": mean, "low": min(mean, bound.low), "high": max(mean, bound.high)}
