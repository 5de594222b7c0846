"""Give an account of a run: the facts that its report and its model card tell."""

import dataclasses
import importlib.metadata
import math
import platform
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int64, UInt8
from PIL import Image

from sevenfold import evaluate, image, maps, nets
from sevenfold.data import Dataset, Split, shown
from sevenfold.errors import UsageError
from sevenfold.features.pixels import MARGIN, Pixels
from sevenfold.pages import jpeg_uri
from sevenfold.practices import augmentation, ensembling, imbalance
from sevenfold.recipe import PRACTICES, Recipe
from sevenfold.train import Fitted
from sevenfold.train.balance import Tried
from sevenfold.train.stronger import rare
from sevenfold.train.student import KEPT, calibrated

MISTAKES: Final = 24
_THUMBNAIL: Final = 160
_VIEWS: Final = 5
_CLASSES_SHOWN: Final = 10
_TOO_FEW: Final = 60


def versions() -> dict[str, str]:
    """Return the versions of what a result depends on."""
    names = ("sevenfold", "torch", "onnxruntime", "timm", "numpy", "pillow")
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in names
    }


def peak_megabytes() -> float:
    """Return the most memory that this process has held, or NaN where it is not known."""
    if sys.platform == "win32":
        return float("nan")
    import resource

    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
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


def _settings(value: Any) -> str:
    if value == type(value).off and not vars(value).get("backbone"):
        return "off"
    off = vars(type(value).off)
    told = {name: held for name, held in vars(value).items() if held != off[name]}
    if "backbone" in off:
        told = {"backbone": value.backbone} | told
    return ", ".join(f"{name.replace('_', ' ')} {held}" for name, held in told.items())


def practices(recipe: Recipe) -> list[dict[str, Any]]:
    """Return each practice with whether it is in use and its settings in a line."""
    found = []
    for name in PRACTICES:
        value = getattr(recipe, name)
        found.append(
            {"name": name, "in_use": value != type(value).off, "settings": _settings(value)}
        )
    return found


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
        "duplicate_groups": len(dataset) - len(set(dataset.hashes)),
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
    return {
        "members": [
            {
                "seed": member.seed,
                "student": member is fitted.student,
                "history": [asdict(line) for line in member.trained.history],
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
        "cut": f"{trained} of {blocks} blocks and the head are trained",
        "trainable_parameters": total - frozen,
        "parameters": total,
        "trunk_parameters": frozen,
    }


def voting(fitted: Fitted) -> dict[str, Any]:
    """Return what the vote and its student bought where choices are made, and what they cost.

    Every loss is after calibration on the same pictures, so that sharpness alone
    is no gain; only the diversity's vote is that of calibrated, equal members as it is.
    """
    members, labels = fitted.members, fitted.labels
    if len(members) == 1:
        return {}
    vote = fitted.recipe.ensembling.vote
    logits = np.stack([member.logits for member in members]).astype(np.float64)
    pooled = ensembling.pool(logits, fitted.weights, vote)
    each = np.stack([calibrated(one, labels) for one in logits])
    seconds = [sum(line.seconds for line in one.trained.history) for one in members]
    found: dict[str, Any] = {
        "vote": vote,
        "weights": [float(weight) for weight in fitted.weights],
        "ships": shipped(fitted),
        "pictures": len(labels),
        "members": [_scored(one, labels) for one in each],
        "pooled": _scored(calibrated(pooled, labels), labels),
        "diversity": asdict(ensembling.diversity(each, labels, np.ones(len(members)), vote)),
        "seconds_member": float(np.median(seconds)),
        "seconds_members": float(sum(seconds)),
    }
    if fitted.student:
        history = fitted.student.trained.history
        taught = calibrated(fitted.student.logits.astype(np.float64), labels)
        found["student"] = _scored(taught, labels)
        found["needed"] = KEPT
        found["averaged"] = fitted.averaged
        found["seconds_student"] = float(sum(line.seconds for line in history))
    return found


def shipped(fitted: Fitted) -> str:
    """Say what is deployed: one network for the vote, the vote itself, or one member alone."""
    if fitted.ships[0] is fitted.student:
        return "student"
    return "vote" if len(fitted.ships) > 1 else "member"


def _scored(
    log_p: Float[np.ndarray, "judged classes"], labels: Int64[np.ndarray, "judged"]
) -> dict[str, float]:
    return {
        "accuracy": float((log_p.argmax(axis=1) == labels).mean()),
        "nll": float(-log_p[np.arange(len(labels)), labels].mean()),
    }


def balance(fitted: Fitted, split: Split) -> dict[str, Any]:
    """Return how rare classes were helped, what was tried, and what it cost the common ones.

    Whatever was tried also has the mean recalls of the common and the rare half of the
    classes that have pictures there.
    """
    settings, count = fitted.recipe.imbalance, len(split.dataset.classes)
    counts = np.bincount(split.dataset.labels[split.train], minlength=count)
    found: dict[str, Any] = {
        "method": settings.method,
        "strength": settings.strength,
        "balanced_ratio": imbalance.BALANCED_RATIO,
        "tried": [_tried(one, counts) for one in fitted.tried],
    }
    by_method = {one["method"]: one for one in found["tried"]}
    chosen = by_method.get(settings.method, {})
    if settings.method != "none" and "rare" in chosen:
        plain = by_method["none"]
        found["price"] = {half: chosen[half] - plain[half] for half in ("common", "rare")}
    return found


def classwise(fitted: Fitted, split: Split) -> dict[str, Any]:
    """Return what the label check left out for which class, and how rare ones were shown."""
    found, classes = fitted.spared, split.dataset.classes
    counts = np.bincount(split.dataset.labels[split.train], minlength=len(classes))
    return {
        "label_check": {
            "operations": list(found.operations),
            "pictures": found.pictures,
            "accuracy": found.accuracy if math.isfinite(found.accuracy) else None,
            "flagged": [asdict(one) for one in found.flagged],
            "hard": sum(one.verdict == "hard" for one in found.findings),
            "too_few": sum(one.verdict == "too few" for one in found.findings),
            "reason": found.reason,
            "insisted": found.insisted,
        },
        "rare": [classes[label] for label in rare(counts).tolist()],
        "rare_views": [
            asdict(one)
            | {"recalls": [recall if math.isfinite(recall) else None for recall in one.recalls]}
            for one in fitted.looks
        ],
    }


def _tried(tried: Tried, counts: Int64[np.ndarray, "classes"]) -> dict[str, Any]:
    recalls = np.array(tried.recalls)
    known = np.isfinite(recalls)
    told = asdict(tried) | {
        "recalls": [recall if math.isfinite(recall) else None for recall in tried.recalls]
    }
    if known.sum() > 1:
        # Against no recall at all, the price is the recall itself.
        halves = imbalance.price(np.zeros(known.sum()), recalls[known], counts[known])
        told |= asdict(halves)
    return told


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
        pixels = image.decode(dataset.load(index), name=photo.path, draft_side=2 * _THUMBNAIL)
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


def views(recipe: Recipe, split: Split) -> list[dict[str, Any]]:
    """Return what training sees of one picture in each of the first classes."""
    dataset = split.dataset
    pixels = Pixels(round(MARGIN * recipe.side))
    viewer = augmentation.viewer(recipe.augmentation, recipe.side, "")
    found = []
    for label, name in enumerate(dataset.classes[:_CLASSES_SHOWN]):
        index = int(split.train[dataset.labels[split.train] == label][0])
        square = pixels.square(dataset, index)
        number = int(dataset.hashes[index][:16], 16)
        found.append(
            {
                "label": name,
                "original": data_uri(square),
                "views": [data_uri(viewer.make(square, number, view)) for view in range(_VIEWS)],
            }
        )
    return found


def advice(facts: Mapping[str, Any]) -> list[str]:
    """Say what to do next, from what the numbers show."""
    said = []
    test = facts["test"]
    few = [one["label"] for one in test["classes"] if one["pictures"] < _TOO_FEW]
    judged = [one for one in test["classes"] if one["pictures"]]
    worst = min(judged, key=lambda one: one["recall"]["value"])
    if worst["recall"]["value"] < test["accuracy"]["value"] - 0.05:
        said.append(
            f"Collect more pictures of {worst['label']}: it is found in "
            f"{worst['recall']['value']:.0%} of its test pictures, fewer than any other class."
        )
    if few:
        said.append(
            f"{len(few)} of {len(judged)} classes have under {_TOO_FEW} test pictures, too few "
            "to judge each one: keep more pictures apart for the test."
        )
    if facts["mistakes"]:
        said.append(
            "Look at the worst mistakes below: a wrong label there costs more than any setting."
        )
    if not test["trustworthy"]:
        said.append(
            "Collect pictures from more groups: with under ten in the test no interval "
            "can be trusted."
        )
    vote = facts["ensembling"]
    said += _vote_advice(vote)
    if facts["run"]["budget"] == "quick":
        several = "" if vote else ", and several members, from whose vote one network learns"
        said.append(f"Train with --budget normal: it trains for longer{several}.")
    return said


def _vote_advice(vote: Mapping[str, Any]) -> list[str]:
    """Say what the vote's numbers suggest; nothing where one network was trained."""
    if not vote:
        return []
    mean = float(np.mean([member["nll"] for member in vote["members"]]))
    if vote["pooled"]["nll"] >= mean:
        return [
            "Set ensembling.members=1: the vote's log loss is no better than its members', "
            "and one member trains in a fraction of the time."
        ]
    if vote["ships"] != "vote":
        return []
    if "student" in vote and not vote.get("averaged"):
        return [
            "Raise ensembling.lessons, the student's epochs: it did not keep enough of what the "
            "vote gained, so the slower vote ships."
        ]
    return [
        "Set ensembling.distil=true: one network learns from the vote, and ships if it keeps "
        f"{KEPT:.0%} of the gain."
    ]


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
    origin = fitted.ships[0].origin
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
        "weights": dataclasses.asdict(origin),
        "voters": sum(weight > 0 for weight in vote["weights"]) if vote else 1,
        "ships": vote["ships"] if vote else "member",
        "averaged": bool(vote.get("averaged")),
        "imbalance": facts["imbalance"]["method"],
        "licence": licence,
        "data": {"name": split.dataset.name, "pictures": len(split.dataset), "notice": notice},
        "latency_ms": bundle["latency_ms"],
        "network_latency_ms": bundle["network_latency_ms"],
        "machine": bundle["machine"],
        "megabytes": bundle["megabytes"],
        "command": run["command"],
        "versions": run["versions"],
    }


def _is_spdx(expression: str) -> bool:
    from license_expression import get_spdx_licensing

    licensing = get_spdx_licensing()
    try:
        parsed = licensing.parse(expression, strict=True)
    except Exception:  # the parser raises almost anything, an IndexError for "()"
        return False
    if parsed is None:
        return False
    unknown = licensing.unknown_license_keys(parsed)
    return all(re.fullmatch(r"LicenseRef-[A-Za-z0-9.-]+", name) for name in unknown)


def check_licence(expression: str) -> None:
    """Refuse a licence that is no SPDX expression; none is fine.

    Raises:
        UsageError: it is not valid.
    """
    if expression and not _is_spdx(expression):
        raise UsageError(
            f"--licence {shown(expression)!r} is not an SPDX licence expression",
            "give one such as Apache-2.0, CC-BY-4.0 or 'MIT OR Apache-2.0'",
        )
