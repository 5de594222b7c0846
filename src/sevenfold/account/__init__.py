"""Give an account of a run: the facts that its report and its model card tell."""

import dataclasses
import importlib.metadata
import math
import platform
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int64, UInt8
from PIL import Image

from sevenfold import draws, evaluate, image, maps, nets
from sevenfold.account.licence import check_licence
from sevenfold.account.practised import (
    advice,
    after_pruning,
    balance,
    carried,
    classwise,
    practices,
    shipped,
    voting,
)
from sevenfold.data import Dataset, Split, shown
from sevenfold.features.pixels import for_training
from sevenfold.loop import Epoch
from sevenfold.pages import jpeg_uri
from sevenfold.practices import augmentation
from sevenfold.train import Fitted
from sevenfold.train.bench import lasting

__all__ = [
    "advice",
    "after_pruning",
    "balance",
    "card",
    "carried",
    "check_licence",
    "classwise",
    "data",
    "mistakes",
    "peak_megabytes",
    "practices",
    "scores",
    "shipped",
    "training",
    "versions",
    "views",
    "voting",
]

MISTAKES: Final = 24
_THUMBNAIL: Final = 160
_VIEWS: Final = 5
_CLASSES_SHOWN: Final = 10


def versions() -> dict[str, str]:
    """Return the versions of what a result depends on."""
    names = (
        "sevenfold", "torch", "onnxruntime", "timm", "numpy", "pillow", "opencv-python-headless",
    )  # fmt: skip
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in names
    }


def _line(epoch: Epoch) -> dict[str, Any]:
    """Write an epoch down; what nothing measured is null."""
    held = asdict(epoch)
    return {name: None if math.isnan(value or 0.0) else value for name, value in held.items()}


def peak_megabytes() -> float | None:
    """Return the most that this process or one of its own held; None where it is not known."""
    if sys.platform == "win32":
        return None
    import resource

    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    held = max(resource.getrusage(who).ru_maxrss for who in whose)
    return held / 1e6 if sys.platform == "darwin" else held / 1e3


def data_uri(pixels: UInt8[np.ndarray, "height width 3"]) -> str:
    """Shrink a picture to a thumbnail and return it as a JPEG data URI."""
    thumbnail = Image.fromarray(pixels)
    thumbnail.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return jpeg_uri(thumbnail, 80)


def scores(found: evaluate.Scores) -> dict[str, Any]:
    """Return scores as the report and `card.json` hold them."""
    told = asdict(found)
    told["confusion"] = np.asarray(found.confusion).tolist()
    return told


def data(split: Split, source: str, openings: int) -> dict[str, Any]:
    """Return the facts of the data: classes by role, what was left out, duplicates."""
    dataset = split.dataset
    count = len(dataset.classes)
    by_role = {
        role: np.bincount(dataset.labels[getattr(split, role)], minlength=count)
        for role in ("train", "val", "test")
    }
    trained = by_role["train"]
    groups = {photo.group for photo in dataset.photos if photo.group}
    return {
        "name": dataset.name,
        "source": source,
        "pictures": len(dataset),
        "classes": [
            {"label": label, **{role: int(held[at]) for role, held in by_role.items()}}
            for at, label in enumerate(dataset.classes)
        ],
        "quarantined": [
            {"path": shown(one.path), "reason": one.reason} for one in split.quarantined
        ],
        "duplicate_groups": sum(copies > 1 for copies in Counter(dataset.hashes).values()),
        "given_groups": len(groups),
        "imbalance_ratio": float(trained.max() / max(1, trained.min())),
        "openings": openings,
        "small_data": len(split.val) == 0,
    }


def training(fitted: Fitted, temperature: float) -> dict[str, Any]:
    """Return how the network was trained."""
    recipe, network = fitted.recipe.member(fitted.number), fitted.ships[0].network
    trunk, _ = nets.cut(network, recipe.transfer.trainable_blocks)
    total = sum(weight.numel() for weight in network.parameters())
    frozen = sum(weight.numel() for weight in trunk.parameters())
    blocks = len(network.blocks)
    trained = min(blocks, recipe.transfer.trainable_blocks)
    taught = (fitted.student,) if fitted.student else ()
    cut = f"{trained} of {blocks} blocks and the head are trained"
    if recipe.pruning.macs > 0:
        cut, frozen = f"{cut}, and after each step of pruning all layers", 0
    return {
        "members": [
            {
                "seed": member.seed,
                "rate": member.rate,
                "student": member is fitted.student,
                "history": [_line(line) for line in member.trained.history],
                "best_epoch": member.trained.best_epoch,
                "stopped_early": member.trained.stopped_early,
                "steps": member.steps,
                "decision": asdict(member.decision) if member.decision else None,
            }
            for member in (*fitted.members, *taught)
        ],
        "probe": [asdict(one) for one in fitted.probed],
        "rate": fitted.rate,
        "temperature": temperature,
        "cut": cut,
        "trainable_parameters": total - frozen,
        "parameters": total,
        "trunk_parameters": frozen,
    }


def mistakes(
    dataset: Dataset,
    pictures: Int64[np.ndarray, "pictures"],
    probabilities: Float[np.ndarray, "pictures classes"],
    evidence: Callable[[int, int], Float[np.ndarray, "rows columns"]],
) -> list[dict[str, Any]]:
    """Return the most confident wrong answers with their pictures. Decodes them.

    Args:
        dataset: of the pictures.
        pictures: that were judged.
        probabilities: of each.
        evidence: maps where in a picture the evidence for a class lies; an empty map where
            the model has none.
    """
    worst = evaluate.worst_mistakes(probabilities, dataset.labels[pictures], MISTAKES)
    found = []
    for place in worst:
        index = int(pictures[place])
        photo = dataset.photos[index]
        least = math.ceil(2 * _THUMBNAIL / min(photo.box[2:]))  # of a part, not of its photo
        pixels = image.decode(dataset.load(index), name=photo.path, draft_side=least)
        answer = int(probabilities[place].argmax())
        found.append(
            {
                "path": shown(photo.path),
                "label": dataset.classes[dataset.labels[index]],
                "answer": dataset.classes[answer],
                "probability": float(probabilities[place, answer]),
                "image": data_uri(image.crop(pixels, photo.box)),
                "map": _map(image.crop(pixels, photo.box), evidence(index, answer)),
            }
        )
    return found


def _map(
    pixels: UInt8[np.ndarray, "height width 3"], found: Float[np.ndarray, "rows columns"]
) -> str:
    if not found.size:
        return ""
    thumbnail = Image.fromarray(pixels)
    thumbnail.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return data_uri(maps.overlay(np.asarray(thumbnail), found))


def views(fitted: Fitted, split: Split) -> list[dict[str, Any]]:
    """Return what training saw of one picture in each of the first classes, as its class is."""
    dataset, recipe = split.dataset, fitted.recipe
    pixels = for_training(recipe.side)
    frozen = recipe.transfer.trainable_blocks < len(fitted.ships[0].network.blocks)
    lasts = lasting(recipe, frozen=frozen)
    salt = "" if lasts else str(fitted.members[0].seed)
    count = min(_VIEWS, recipe.views if lasts else recipe.epochs)
    each = augmentation.for_classes(recipe.augmentation, dataset.classes)
    found = []
    for label, name in enumerate(dataset.classes[:_CLASSES_SHOWN]):
        index = int(split.train[dataset.labels[split.train] == label][0])
        square = pixels.square(dataset, index)
        number = int(draws.numbers([dataset.hashes[index]])[0])
        viewer = augmentation.viewer(each[label], recipe.side, salt)
        found.append(
            {
                "label": name,
                "original": data_uri(square),
                "views": [data_uri(viewer.make(square, number, view)) for view in range(count)],
            }
        )
    return found


def card(
    facts: Mapping[str, Any],
    fitted: Fitted,
    split: Split,
    *,
    temperature: float,
    licence: str,
    notice: str,
) -> dict[str, Any]:
    """Return the content of `card.json`."""
    taught_by = fitted.members if fitted.student else ()
    first, *others = dict.fromkeys(one.origin for one in (*fitted.ships, *taught_by))
    bundle, run, vote = facts["bundle"], facts["run"], facts["ensembling"]
    return {
        "schema": "sevenfold.card/1",
        "title": facts["title"],
        "classes": list(split.dataset.classes),
        "size": fitted.recipe.side,
        "temperature": temperature,
        "created": run["created"],
        "scores": facts["test"],
        "backbone": fitted.recipe.member(fitted.number).transfer.backbone,
        "weights": dataclasses.asdict(first),
        "other_weights": [dataclasses.asdict(one) for one in others],
        "voters": sum(weight > 0 for weight in vote["weights"]) if vote else 1,
        "ships": vote["ships"] if vote else "member",
        "averaged": bool(vote.get("averaged")),
        "imbalance": facts["imbalance"]["method"],
        "licence": licence,
        "data": {
            "name": split.dataset.name,
            "pictures": len(split.dataset),
            "notice": notice,
            "openings": facts["data"]["openings"],
        },
        "latency_ms": bundle["latency_ms"],
        "network_latency_ms": bundle["network_latency_ms"],
        "machine": bundle["machine"],
        "megabytes": bundle["megabytes"],
        "command": run["command"],
        "versions": run["versions"],
    }
