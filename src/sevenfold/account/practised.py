"""Tell what the practices were set to, what they did, and what to try next."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from sevenfold.data import Split
from sevenfold.practices import ensembling, imbalance
from sevenfold.recipe import PRACTICES, Recipe, named
from sevenfold.train import Fitted
from sevenfold.train.balance import Tried
from sevenfold.train.stronger import rare
from sevenfold.train.student import KEPT, calibrated, divergence


def _settings(value: Any) -> str:
    if value == type(value).off and not vars(value).get("backbone"):
        return "off"
    off = vars(type(value).off)
    told = {name: held for name, held in vars(value).items() if held != off[name]}
    if "backbone" in off:
        told = {"backbone": value.backbone} | told
    shown = {"macs": "share of multiply-accumulates to go"}
    return ", ".join(
        f"{shown.get(name, name.replace('_', ' '))} {held}" for name, held in told.items()
    )


def practices(recipe: Recipe) -> list[dict[str, Any]]:
    """Return each practice with whether it is in use and its settings in a line."""
    found = []
    for name in PRACTICES:
        value = getattr(recipe, name)
        found.append(
            {"name": name, "in_use": value != type(value).off, "settings": _settings(value)}
        )
    return found


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
    pooled = calibrated(ensembling.pool(logits, fitted.weights, vote), labels)
    each = np.stack([calibrated(one, labels) for one in logits])
    seconds = [sum(line.seconds for line in one.trained.history) for one in members]
    found: dict[str, Any] = {
        "vote": vote,
        "weights": [float(weight) for weight in fitted.weights],
        "ships": shipped(fitted),
        "pictures": len(labels),
        "members": [_scored(one, labels) for one in each],
        "pooled": _scored(pooled, labels),
        "diversity": asdict(ensembling.diversity(each, labels, np.ones(len(members)), vote)),
        "seconds_member": float(np.median(seconds)),
        "seconds_members": float(sum(seconds)),
    }
    if fitted.student:
        history = (fitted.lessons or fitted.student.trained).history
        taught = calibrated(fitted.student.logits.astype(np.float64), labels)
        found["student"] = _scored(taught, labels)
        found["behind"] = _behind(taught, pooled, labels)
        if not fitted.averaged:
            found["nearer"] = _nearer(taught, pooled, each)
        found["needed"] = KEPT
        found["averaged"] = fitted.averaged
        found["lessons_lost"] = fitted.lessons is not None
        found["pruned"] = bool(fitted.recipe.pruning.macs)
        found["seconds_student"] = float(sum(line.seconds for line in history))
    return found


def shipped(fitted: Fitted) -> str:
    """Say what is deployed: one network for the vote, the vote itself, or one member alone."""
    if fitted.ships[0] is fitted.student:
        return "student"
    return "vote" if len(fitted.ships) > 1 else "member"


def _nearer(
    one: Float[np.ndarray, "judged classes"],
    vote: Float[np.ndarray, "judged classes"],
    members: Float[np.ndarray, "members judged classes"],
) -> float:
    """Return by which share one network's answers are nearer to the vote's than its members' are.

    Nearness is that of `train.student.apart`.
    """
    own, *apart = (divergence(vote, each) for each in (one, *members))
    mean = float(np.mean(apart))
    return 1 - own / mean if mean > 0 else 1.0


def _behind(
    one: Float[np.ndarray, "judged classes"],
    other: Float[np.ndarray, "judged classes"],
    labels: Int64[np.ndarray, "judged"],
) -> dict[str, float]:
    """Return how much larger one log loss is than another, with its interval over pictures."""
    apart = (other - one)[np.arange(len(labels)), labels]
    mean, half = float(apart.mean()), float(1.96 * apart.std() / math.sqrt(len(apart)))
    return {"value": mean, "low": mean - half, "high": mean + half}


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


def carried(facts: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Add what a run's training found out, where a model made of it did not look anew.

    Args:
        facts: of the new model's report.
        before: those of the run that it was made of; empty where it was trained.
    """
    found = dict(facts)
    for part, looked, names in (
        ("training", "probe", ("probe",)),
        ("imbalance", "tried", ("tried", "price")),
        ("classwise", "rare_views", ("rare_views",)),
    ):
        held = before.get(part, {})
        if not facts[part][looked]:
            found[part] = found[part] | {name: held[name] for name in names if name in held}
    check = before.get("classwise", {}).get("label_check")
    if check and not facts["classwise"]["label_check"]["operations"]:
        found["classwise"] = found["classwise"] | {"label_check": check}
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
            "classes": found.classes,
            "too_few": len(found.unjudged),
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
        "loss": tried.loss if math.isfinite(tried.loss) else None,
        "recalls": [recall if math.isfinite(recall) else None for recall in tried.recalls],
    }
    if known.sum() > 1:
        # Against no recall at all, the price is the recall itself.
        halves = imbalance.price(np.zeros(known.sum()), recalls[known], counts[known])
        told |= asdict(halves)
    return told


def after_pruning(pruning: Mapping[str, Any]) -> list[str]:
    """Say what to do where pruning cost more than a point on test."""
    drop = pruning.get("drop", 0.0)
    if drop <= 0.01:
        return []
    return [
        f"Pruning cost {100 * drop:.1f} points on test. `sevenfold rollback` brings the unpruned "
        "model back where it is a version; else prune less, or train longer after each cut."
    ]


def advice(facts: Mapping[str, Any]) -> list[str]:
    """Say what to do next, from what the numbers show."""
    said = []
    test = facts["test"]
    judged = [one for one in test["classes"] if one["pictures"]]
    few = [one["label"] for one in judged if one["too_few"]]
    worst = min(judged, key=lambda one: one["recall"]["value"])
    if worst["recall"]["high"] < test["accuracy"]["value"]:
        said.append(
            f"Collect more pictures of {worst['label']}: it is found in "
            f"{worst['recall']['value']:.0%} of its {worst['pictures']} test pictures."
        )
    if few:
        said.append(
            f"{len(few)} of {len(judged)} classes have too few test pictures, or groups of them, "
            "to judge each one: keep more apart for the test."
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
    if named(facts["run"]["budget"]) == "quick":
        several = (
            ""
            if vote
            else ", and several members, whose average ships where it keeps enough of what their "
            "vote gains"
        )
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
    if "student" in vote and (vote.get("lessons_lost") or not vote.get("averaged")):
        return [
            "Raise ensembling.lessons, the student's epochs: it did not keep enough of what the "
            "vote gained, so the slower vote ships."
        ]
    return [
        "Set ensembling.distil=true: one network learns from the vote, and ships if it keeps "
        f"{KEPT:.0%} of the gain."
    ]
