"""Gather what a run tells of itself: the facts of its report, its card and its metrics."""

import dataclasses
import datetime
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from sevenfold import account, doctor, latency, strict
from sevenfold import data as datasets
from sevenfold.image import shown
from sevenfold.operating import Wish
from sevenfold.place import Place
from sevenfold.recipe import Recipe, to_toml
from sevenfold.release.graph import Exported
from sevenfold.release.scores import Scored
from sevenfold.train import Fitted

NOTICES: Final = {
    "elpv": "Trained on the ELPV data set (Buerhop-Lutz et al. 2018), CC BY-NC-SA 4.0: "
    "for non-commercial use only.",
    "fashion-mnist": "Trained on Fashion-MNIST (Xiao et al. 2017), MIT licence.",
}
_ROUNDS: Final = 25  # of a latency that is told, not compared


@dataclass(frozen=True)
class Asked:
    """Hold what the report and the card say of the request.

    Args:
        data: as the user named it.
        budget: as the user named it.
        seed: of the training.
        licence: SPDX expression for the model, or "".
        reading: how the data is read: `columns`, `group_by`, `small_classes`.
        known: what an earlier version of the run knew of its pictures; of a training that
            takes the place of another, only when its test pictures were opened before.
        wish: what the answers shall be like.
        earlier: facts of the run that this model is made of; empty where it is trained.
    """

    data: str
    budget: str
    seed: int
    licence: str
    reading: Mapping[str, Any]
    known: datasets.Manifest = datasets.EMPTY
    wish: Wish = field(default_factory=Wish)
    earlier: Mapping[str, Any] = field(default_factory=dict)


def told(
    asked: Asked,
    fitted: Fitted,
    split: datasets.Split,
    model: Exported,
    found: Scored,
    place: Place,
    *,
    pruning: Mapping[str, Any],
    update: Mapping[str, Any],
) -> dict[str, Any]:
    """Gather what the report tells, except the time that it all took.

    Times the graph; reads the clock, the machine and the command line.

    Args:
        asked: what the report says of the request.
        fitted: what ships, and what it came from.
        split: pictures by role.
        model: the graph that ships.
        found: how good its answers are.
        place: where it was computed.
        pruning: facts of how the network was pruned; empty where it was not.
        update: facts of the update that made it; empty where none did.
    """
    recipe, small = fitted.recipe, len(split.val) == 0
    choice, guarded = account.scores(found.chosen), found.guarded
    facts: dict[str, Any] = {
        "schema": "sevenfold.report/1",
        "title": split.dataset.name,
        "run": _run(asked, place),
        "data": account.data(split, asked.data, len(asked.known.openings) + 1),
        "practices": account.practices(recipe),
        "recipe_toml": to_toml(recipe),
        "objective": recipe.objective,
        "training": account.training(fitted, model.temperature),
        "ensembling": account.voting(fitted),
        "imbalance": account.balance(fitted, split),
        "classwise": account.classwise(fitted, split),
        "validation": {} if small else choice,
        "test": account.scores(found.test),
        "out_of_fold": choice if small else {},
        "bundle": _bundle(model, recipe),
        "mistakes": account.mistakes(
            split.dataset,
            split.test,
            found.predictions.probabilities[-len(split.test) :],
            guarded.evidence,
        ),
        "operating": guarded.operating,
        "unknown": guarded.unknown,
        "augmentation": account.views(fitted, split),
    }
    facts = account.carried(facts, asked.earlier)
    facts["next"] = [*account.after_pruning(pruning), *account.advice(facts)]
    return facts | {"pruning": dict(pruning), "update": dict(update)}


def _run(asked: Asked, place: Place) -> dict[str, Any]:
    """Say how the run was made."""
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seed": asked.seed,
        "command": _command(),
        "budget": asked.budget,
        "licence": asked.licence,
        "reading": dict(asked.reading),
        "wish": dataclasses.asdict(asked.wish),
        "device": place.device,
        "processor": latency.processor(),
        "cores": os.cpu_count(),
        "threads": place.threads,
        "versions": account.versions(),
        "advice": doctor.gpu_line(),
    }


def _command() -> str:
    """Return the command line after the program's name; `train` where another program calls."""
    if Path(sys.argv[0]).name in ("sevenfold", "__main__.py"):
        return shown(shlex.join(sys.argv[1:]))
    return "train"


def _bundle(model: Exported, recipe: Recipe) -> dict[str, Any]:
    """Say what a bundle costs on one thread: the whole, its network, and one that votes."""
    networks = [model.core] if model.one is model.core else [model.core, model.one]
    files = [model.model, *(one.SerializeToString() for one in networks)]
    calls = [latency.opened(one) for one in files]
    whole, alone, *one = np.median(latency.interleaved(calls, rounds=_ROUNDS), axis=1).tolist()
    voter = {"megabytes": len(files[-1]) / 1e6, "network_latency_ms": one[0]} if one else {}
    return {
        "megabytes": len(model.model) / 1e6,
        "latency_ms": whole,
        "network_latency_ms": alone,
        "machine": latency.machine(),
        "parity_top1": model.parity.top1,
        "parity_max_difference": model.parity.largest_difference,
        "parity_pictures": model.parity.pictures,
        "mirror": recipe.ensembling.mirror,
        "size": recipe.side,
        "voter": voter,
    }


def card(
    facts: Mapping[str, Any],
    asked: Asked,
    fitted: Fitted,
    split: datasets.Split,
    model: Exported,
    found: Scored,
) -> dict[str, Any]:
    """Return the content of `card.json`, with what guards the bundle.

    Args:
        facts: from `told`.
        asked: has the licence, and the data set that may ask for a notice.
        fitted: what ships, and what it came from.
        split: pictures by role.
        model: the graph that ships.
        found: how good its answers are.
    """
    whole = account.card(
        facts,
        fitted,
        split,
        temperature=model.temperature,
        licence=asked.licence,
        notice=NOTICES.get(asked.data, ""),
    )
    return {**whole, **found.guarded.card}


def lines(facts: Mapping[str, Any], fitted: Fitted) -> list[str]:
    """Return the lines of `metrics.jsonl`: of each member, then of what was looked at before.

    Args:
        facts: from `told`.
        fitted: says what was looked at.
    """
    found = [
        strict.to_json({"member": at, **line})
        for at, member in enumerate(facts["training"]["members"])
        for line in (*member["history"], *_decided(member))
    ]
    looked = (("label_check", fitted.spared.operations), ("rare_views", fitted.looks))
    return found + [
        strict.to_json({name: facts["classwise"][name]}) for name, seen in looked if seen
    ]


def _decided(member: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the line of an optimizer's decision, where it made one."""
    return [{"decision": member["decision"]}] if member["decision"] else []


def summed(pruning: Mapping[str, Any]) -> dict[str, Any]:
    """Return what pruning came to, without its steps."""
    names = (
        "targets", "refused", "macs_cut", "parameters_cut", "speedup", "drop", "drop_bound",
        "objective_drop_bound", "certified", "certified_by",
    )  # fmt: skip
    return {name: pruning[name] for name in names if name in pruning}
