"""Release a fitted network: export, verify, score once on test, and write the run."""

import dataclasses
import datetime
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import onnx
from jaxtyping import Float
from scipy.special import softmax

from sevenfold import account, arch, doctor, export, guards, latency, report, strict
from sevenfold import data as datasets
from sevenfold import evaluate as scoring
from sevenfold.features.trunk import session
from sevenfold.image import shown
from sevenfold.operating import Wish
from sevenfold.place import Place
from sevenfold.practices import ensembling
from sevenfold.practices.ensembling.graph import voting
from sevenfold.predictions import Predictions, recompute, write_predictions
from sevenfold.progress import Progress
from sevenfold.recipe import Recipe, to_toml
from sevenfold.train import Fitted

NOTICES: Final = {
    "elpv": "Trained on the ELPV data set (Buerhop-Lutz et al. 2018), CC BY-NC-SA 4.0: "
    "for non-commercial use only.",
    "fashion-mnist": "Trained on Fashion-MNIST (Xiao et al. 2017), MIT licence.",
}
_NOT_TOLD: Final = ("machine", "voter")
_ROUNDS: Final = 25  # of a latency that is told, not compared


class Clock:
    """Note how long each stage takes."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.stages: list[dict[str, Any]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        began = time.perf_counter()
        yield
        self.stages.append({"stage": name, "seconds": time.perf_counter() - began})

    def noted(self) -> dict[str, float]:
        """Return the seconds of each stage, also where it came in parts."""
        found: dict[str, float] = {}
        for line in self.stages:
            found[line["stage"]] = found.get(line["stage"], 0.0) + line["seconds"]
        return found

    @property
    def seconds(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self.began


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


@dataclass(frozen=True, eq=False)
class Exported:
    """Hold the graph that ships and what was checked about it.

    Args:
        model: the whole graph, from pictures to calibrated probabilities.
        core: the network alone.
        one: the first of those that vote, alone; `core` where one ships.
        temperature: that divides the logits.
        parity: how well graph and network agree.
        chosen: probabilities of the pictures that choices were made by: the graph's
            on val, or the folds' on train.
        vectors: the mean of the graph's last features for each of those pictures.
    """

    model: bytes
    core: onnx.ModelProto
    one: onnx.ModelProto
    temperature: float
    parity: export.Agreement
    chosen: Float[np.ndarray, "pictures classes"]
    vectors: Float[np.ndarray, "pictures channels"]


@dataclass(frozen=True, eq=False)
class Judged:
    """Hold what the graph that ships says of the pictures, from the one opening of test.

    Args:
        predictions: of the pictures that choices were made by, and of test.
        vectors: the mean of the graph's last features for each test picture.
    """

    predictions: Predictions
    vectors: Float[np.ndarray, "tested channels"]


def exported(fitted: Fitted, split: datasets.Split, place: Place) -> Exported:
    """Export, calibrate and hold the graph against the network.

    Raises:
        GateRefused: they disagree.
    """
    recipe, dataset = fitted.recipe, split.dataset
    small, pictures = len(split.val) == 0, split.judged.tolist()
    cores, trained = [], []
    for member in fitted.ships:
        shipped = export.Shipped(member.network, recipe.ensembling.mirror).eval()
        cores.append(export.core(shipped, recipe.side))
        trained.append(
            export.network_logits(
                shipped, dataset, pictures, side=recipe.side, threads=place.threads
            )
        )
    pooled = _pooled(fitted, trained)
    logits = _pooled(fitted, [member.logits for member in fitted.ships]) if small else pooled
    temperature = scoring.fit_temperature(
        logits.astype(np.float64), dataset.labels[np.asarray(pictures)]
    )
    core = cores[0]
    if len(cores) > 1:
        core = voting(cores, fitted.shares, recipe.ensembling.vote)
    model = export.assemble(core, recipe.side, len(dataset.classes), temperature)
    answered, vectors = export.seen(session(model, 1), dataset, pictures, place.threads)
    parity = export.parity(answered, softmax(pooled / temperature, axis=1))
    chosen = softmax(logits / temperature, axis=1) if small else answered
    return Exported(model, core, cores[0], temperature, parity, chosen, vectors)


def _pooled(
    fitted: Fitted, logits: Sequence[Float[np.ndarray, "pictures classes"]]
) -> Float[np.ndarray, "pictures classes"]:
    """Return what the networks that are deployed say together."""
    if len(logits) == 1:
        return logits[0]
    return ensembling.pool(np.stack(logits), fitted.shares, fitted.recipe.ensembling.vote)


def judged(model: Exported, split: datasets.Split, place: Place) -> Judged:
    """Open test once and join its answers to those that choices were made by."""
    dataset, small = split.dataset, len(split.val) == 0
    opened = session(model.model, 1)
    answers, vectors = export.seen(opened, dataset, split.test.tolist(), place.threads)
    first = split.judged
    rows = np.concatenate([first, split.test])
    folds = split.folds() if small else np.full(len(first), -1)
    probabilities = np.concatenate([model.chosen, answers]).astype(np.float64)
    predictions = Predictions(
        dataset.classes,
        tuple(datasets.shown(dataset.photos[row].path) for row in rows),
        tuple(dataset.hashes[row] for row in rows),
        ("train" if small else "val",) * len(first) + ("test",) * len(split.test),
        tuple(dataset.groups[row] for row in rows),
        np.concatenate([folds, np.full(len(split.test), -1)]),
        dataset.labels[rows],
        probabilities / probabilities.sum(axis=1, keepdims=True),
    )
    return Judged(predictions, vectors)


def clear(run: Path) -> None:
    """Remove a run's checkpoints: what they led to is written. The folder stays, as its mark."""
    (run / "trials").mkdir(exist_ok=True)
    for path in (run / "trials").iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


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


def _facts(
    asked: Asked,
    fitted: Fitted,
    split: datasets.Split,
    model: Exported,
    predictions: Predictions,
    test: scoring.Scores,
    chosen: scoring.Scores,
    guarded: guards.Guards,
    place: Place,
    command: str,
) -> dict[str, Any]:
    """Gather what the report tells, except the time that it all took."""
    recipe, small = fitted.recipe, len(split.val) == 0
    choice = account.scores(chosen)
    facts: dict[str, Any] = {
        "schema": "sevenfold.report/1",
        "title": split.dataset.name,
        "run": {
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "seed": asked.seed,
            "command": command,
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
        },
        "data": account.data(split, asked.data, len(asked.known.openings) + 1),
        "practices": account.practices(recipe),
        "recipe_toml": to_toml(recipe),
        "objective": recipe.objective,
        "training": account.training(fitted, model.temperature),
        "ensembling": account.voting(fitted),
        "imbalance": account.balance(fitted, split),
        "classwise": account.classwise(fitted, split),
        "validation": {} if small else choice,
        "test": account.scores(test),
        "out_of_fold": choice if small else {},
        "bundle": _bundle(model, recipe),
        "mistakes": account.mistakes(
            split.dataset,
            split.test,
            predictions.probabilities[-len(split.test) :],
            guarded.evidence,
        ),
        "operating": guarded.operating,
        "unknown": guarded.unknown,
        "augmentation": account.views(fitted, split),
    }
    facts = account.carried(facts, asked.earlier)
    facts["next"] = account.advice(facts)
    return facts


def _summed(pruning: Mapping[str, Any]) -> dict[str, Any]:
    """Return what pruning came to, without its steps."""
    names = (
        "targets", "refused", "macs_cut", "parameters_cut", "speedup", "drop", "drop_bound",
        "certified",
    )  # fmt: skip
    return {name: pruning[name] for name in names if name in pruning}


def _decided(member: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the line of an optimizer's decision, where it made one."""
    return [{"decision": member["decision"]}] if member["decision"] else []


def release(
    out: Path,
    asked: Asked,
    fitted: Fitted,
    split: datasets.Split,
    *,
    place: Place,
    clock: Clock,
    progress: Progress,
    made: tuple[Exported, Judged] | None = None,
    pruning: Mapping[str, Any] = MappingProxyType({}),
    update: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Write the run of a fitted network into an empty folder.

    Args:
        out: the folder.
        asked: what the report says of the request.
        fitted: what ships, and what it came from.
        split: pictures by role.
        place: where to compute.
        clock: notes how long it takes.
        progress: is told `export`.
        made: the graph and its answers, where they are there already.
        pruning: facts of how the network was pruned; empty where it was not.
        update: facts of the update that made it; empty where none did.

    Returns:
        The object of `train --json`.

    Raises:
        GateRefused: the exported graph disagrees with the network.
    """
    with clock.stage("export"):
        progress("export", 0, 1)
        model = made[0] if made else exported(fitted, split, place)
        progress("export", 1, 1)
    command = (
        shown(shlex.join(sys.argv[1:]))
        if Path(sys.argv[0]).name in ("sevenfold", "__main__.py")
        else "train"
    )
    with clock.stage("score"):
        answered = made[1] if made else judged(model, split, place)
        predictions = answered.predictions
        test = recompute(predictions, role="test")
        chosen = recompute(predictions, role="val" if len(split.val) else "train")
        guarded = guards.guards(
            fitted,
            split,
            asked.wish,
            model=model.model,
            chosen=predictions.probabilities[: -len(split.test)],
            vectors=model.vectors,
            tested=predictions.probabilities[-len(split.test) :],
            tested_vectors=answered.vectors,
            place=place,
        )
        facts = _facts(
            asked, fitted, split, model, predictions, test, chosen, guarded, place, command
        )
        facts |= {"pruning": dict(pruning), "update": dict(update)}
        facts["next"] = [*account.after_pruning(pruning), *facts["next"]]
    now, before = datasets.Opening(facts["run"]["created"], command), asked.known.openings
    # A training's own is the first: by it a version is known to go on from this one.
    openings = (*before, now) if asked.known.rows else (now, *before)
    manifest = datasets.manifest_of(split, known=asked.known)
    manifest = dataclasses.replace(manifest, openings=openings)
    card = account.card(
        facts,
        fitted,
        split,
        temperature=model.temperature,
        licence=asked.licence,
        notice=NOTICES.get(asked.data, ""),
    )
    card |= guarded.card
    classes = split.dataset.classes
    more = {**guarded.files, "selftest.json": export.selftest(model.model)}
    export.write(out / "bundle", model.model, classes, card, report.model_card(card), more)
    ships = account.shipped(fitted)
    arch.write(out, fitted, classes, temperature=model.temperature, ships=ships)
    write_predictions(out / "predictions.csv", predictions, guarded.distances.tolist())
    if pruning:
        (out / "pruning.json").write_text(strict.to_json(pruning, indent=1), encoding="utf-8")
    (out / "data.json").write_text(datasets.to_json(manifest), encoding="utf-8")
    (out / "recipe.toml").write_text(to_toml(fitted.recipe), encoding="utf-8")
    lines = [
        strict.to_json({"member": at, **line})
        for at, member in enumerate(facts["training"]["members"])
        for line in (*member["history"], *_decided(member))
    ]
    lines += [
        strict.to_json({name: facts["classwise"][name]})
        for name, found in (("label_check", fitted.spared.operations), ("rare_views", fitted.looks))
        if found
    ]
    (out / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    facts["run"] |= {
        "seconds": clock.seconds,
        "memory_peak_megabytes": account.peak_megabytes(),
        "stages": clock.stages,
    }
    (out / "report.html").write_text(report.render(facts), encoding="utf-8")
    (out / "report.json").write_text(strict.to_json(facts, indent=1), encoding="utf-8")
    return {
        "schema": "sevenfold.train/1",
        "run": str(out),
        "seconds": clock.seconds,
        "test": scoring.flat(test),
        "validation": scoring.flat(chosen),
        "bundle": {name: held for name, held in facts["bundle"].items() if name not in _NOT_TOLD},
        "operating": guarded.operating,
        "unknown": guarded.unknown,
        "quarantined": len(split.quarantined),
        "advice": facts["run"]["advice"],
        "pruning": _summed(pruning),
        "label_check": facts["classwise"]["label_check"],
        "stages": clock.noted(),
        "memory_peak_megabytes": account.peak_megabytes(),
    }
