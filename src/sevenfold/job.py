"""The main job: a folder of labelled photos in, a verified classifier and a report out.

Data → fit → export → score once on test → report. `evaluate` needs no torch.
"""

import datetime
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sevenfold import data as datasets
from sevenfold import evaluate as scoring
from sevenfold import predict as prediction
from sevenfold.errors import DataError, ResourceError, UsageError
from sevenfold.predictions import Predictions, write_predictions
from sevenfold.progress import Progress

if TYPE_CHECKING:
    from sevenfold.loop import Place
    from sevenfold.recipe import Recipe
    from sevenfold.train import Fitted

NOTICES: Final = {
    "elpv": "Trained on the ELPV data set (Buerhop-Lutz et al. 2018), CC BY-NC-SA 4.0: "
    "for non-commercial use only.",
    "fashion-mnist": "Trained on Fashion-MNIST (Xiao et al. 2017), MIT licence.",
}
# Solar cells have no up and no left, and their cracks are fine.
DEMO: Final = ("augmentation.flip_vertical=0.5", "augmentation.quarter_turns=true")
_LATENCY_PICTURE: Final = (480, 640, 3)


@dataclass(frozen=True)
class Request:
    """Hold what the user asked for.

    Args:
        budget: see `recipe.default`.
        overrides: settings such as `side=160`.
        recipe: path of a TOML file, or "".
        seed: of everything random.
        columns: names of a table's columns, by what they hold.
        group_by: pattern that takes the group from the file name, or "".
        small_classes: `refuse`, `drop` or `other`.
        licence: SPDX expression for the model card, or "".
        replace: whether a finished run may be replaced.
        threads: 0 is one for each core.
        device: `auto`, `cpu`, `cuda` or `mps`.
    """

    budget: str = "quick"
    overrides: tuple[str, ...] = ()
    recipe: str = ""
    seed: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)
    group_by: str = ""
    small_classes: datasets.SmallClasses = "refuse"
    licence: str = ""
    replace: bool = False
    threads: int = 0
    device: str = "auto"


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

    @property
    def seconds(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self.began


def demo(out: Path, *, request: Request, progress: Progress) -> dict[str, Any]:
    """Run the main job on the packaged photos of solar cells."""
    return train(
        "elpv",
        out,
        request=replace(request, overrides=(*DEMO, *request.overrides)),
        progress=progress,
    )


def train(data: str, out: Path, *, request: Request, progress: Progress) -> dict[str, Any]:
    """Train, verify, export, score once on test, and write the run.

    Writes to `out` and to the stores; goes on with what an interrupted call of
    the same request left.

    Args:
        data: folder, table or packaged name.
        out: folder of the run.
        request: what else was asked for.
        progress: is told what is under way.

    Returns:
        The object of `train --json`, schema "sevenfold.train/1".

    Raises:
        SevenfoldError: with the exit code of its kind.
    """
    clock = Clock()
    recipe = _recipe(request)
    _prepare(out, request)
    from sevenfold import account, train
    from sevenfold.features.pixels import MARGIN, Pixels, ingest

    account.check_licence(request.licence)
    place = _place(request)
    recipe = _stronger(recipe, request, place)
    with clock.stage("read"):
        pixels = Pixels(round(MARGIN * recipe.side))
        dataset = datasets.read(
            data,
            columns=request.columns,
            group_by=request.group_by,
            small_classes=request.small_classes,
            fingerprints=lambda listing: ingest(
                listing, pixels=pixels, threads=place.threads, progress=progress
            ),
        )
        split = datasets.split(dataset)
    if not len(split.test):
        raise DataError(f"{dataset.name} has no test pictures", "add some, or give no roles at all")
    folder = out / "trials" / _key(recipe, split, request.seed, place)
    with clock.stage("fit"):
        fitted = train.fit(
            recipe,
            split,
            seed=request.seed,
            place=place,
            pixels=pixels,
            folder=folder,
            progress=progress,
        )
    return _finish(data, out, request, place, fitted, split, clock, progress)


def _recipe(request: Request) -> "Recipe":
    from sevenfold import recipe as recipes

    recipe = recipes.default(request.budget)
    if request.recipe:
        recipe = recipes.read(Path(request.recipe), recipe)
    return recipes.apply(recipe, request.overrides)


def _prepare(out: Path, request: Request) -> None:
    """Make the folder of the run, or refuse one that holds something else.

    A finished run that is to be replaced stays until its successor is written.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file", "name a folder")
    if (out / "report.json").exists() and not request.replace:
        raise UsageError(f"{out} holds a finished run", "choose another --out, or pass --replace")
    if out.exists() and any(out.iterdir()) and not (out / "trials").exists():
        raise UsageError(f"--out {out} holds other files", "name a new or an empty folder")
    try:
        (out / "trials").mkdir(parents=True, exist_ok=True)
        (out / "trials" / "writable").write_bytes(b"")
    except OSError as error:
        raise ResourceError(
            f"--out {out} cannot be written to: {error.strerror}", "choose another folder"
        ) from error


def _place(request: Request) -> "Place":
    """Choose the device and fix the number of threads, for torch as a whole."""
    import torch

    from sevenfold.loop import Place

    threads = request.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    device = request.device
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next((name for name, usable in there.items() if usable), "cpu")
    if not there.get(device, True):
        raise ResourceError(
            f"--device {device}: torch sees no such device here",
            "run `sevenfold doctor`, or use --device cpu",
        )
    return Place(device, threads, _half(device))


def _half(device: str) -> bool:
    """Tell whether bfloat16 is faster here: where the processor multiplies it itself."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def _stronger(recipe: "Recipe", request: Request, place: "Place") -> "Recipe":
    """With a GPU and time, take a stronger backbone if its weights are at hand."""
    from sevenfold.practices import transfer

    chosen = any(one.startswith("transfer.") for one in request.overrides) or request.recipe
    if place.device == "cpu" or request.budget == "quick" or chosen:
        return recipe
    return replace(recipe, transfer=transfer.stronger(recipe.transfer))


def _key(recipe: "Recipe", split: datasets.Split, seed: int, place: "Place") -> str:
    """Name a training by all that its result depends on."""
    from sevenfold import account
    from sevenfold.recipe import to_toml

    dataset = split.dataset
    state = hashlib.blake2b(digest_size=8)
    roles = {role: getattr(split, role).tolist() for role in ("train", "val", "test")}
    for part in (
        to_toml(recipe),
        json.dumps([dataset.hashes, dataset.labels.tolist(), dataset.groups, roles]),
        f"{seed} {place} {account.processor()} {account.versions()} {source_hash()}",
    ):
        state.update(part.encode("utf-8", "surrogateescape"))
    return state.hexdigest()


def source_hash() -> str:
    """Hash the source that a result depends on. Reads it."""
    state = hashlib.blake2b(digest_size=8)
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        state.update(path.read_bytes())
    return state.hexdigest()


def _finish(
    data: str,
    out: Path,
    request: Request,
    place: "Place",
    fitted: "Fitted",
    split: datasets.Split,
    clock: Clock,
    progress: Progress,
) -> dict[str, Any]:
    """Export, verify, score once on test and write the run; `report.json` comes last."""
    from sevenfold import account, export, report
    from sevenfold.features.trunk import session
    from sevenfold.recipe import to_toml

    recipe, member, dataset = fitted.recipe, fitted.member, split.dataset
    chosen = split.val if len(split.val) else split.train
    shipped = export.Shipped(member.network, recipe.ensembling.mirror).eval()
    with clock.stage("export"):
        progress("export", 0, 1)
        core = export.core(shipped, recipe.side)
        count = len(dataset.classes)
        raw = session(export.assemble(core, recipe.side, count, 1.0), 1)
        if len(split.val):
            (logits,) = export.run(raw, dataset, chosen.tolist(), ["logits"], place.threads)
        else:
            logits = member.out_of_fold
        labels = dataset.labels[chosen]
        temperature = scoring.fit_temperature(logits.astype(np.float64), labels)
        model = export.assemble(core, recipe.side, count, temperature)
        parity = export.parity(
            model, shipped, dataset, chosen.tolist(),
            side=recipe.side, temperature=temperature, threads=place.threads,
        )  # fmt: skip
        progress("export", 1, 1)
    with clock.stage("score"):
        opened = session(model, 1)
        (judged,) = export.run(
            opened, dataset, split.test.tolist(), ["probabilities"], place.threads
        )
        predictions = _predictions(fitted, split, _softmax(logits / temperature), judged)
        test = _score(predictions, "test", dataset)
        choice = _score(predictions, "val" if len(split.val) else "train", dataset)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    command = " ".join(sys.argv[1:]) if sys.argv[0].endswith(("sevenfold", "cli.py")) else "train"
    manifest = datasets.opened(datasets.manifest_of(split), now, command)
    with clock.stage("latency"):
        bundle = {
            "megabytes": len(model) / 1e6,
            **_latencies(model, core, recipe.side),
            "machine": account.machine(),
            "parity_top1": parity.top1,
            "parity_max_difference": parity.largest_difference,
            "parity_pictures": parity.pictures,
            "mirror": recipe.ensembling.mirror,
            "size": recipe.side,
        }
    facts: dict[str, Any] = {
        "schema": "sevenfold.report/1",
        "title": dataset.name,
        "run": {
            "created": now,
            "seed": request.seed,
            "command": command,
            "budget": request.budget,
            "device": place.device,
            "processor": account.processor(),
            "cores": os.cpu_count(),
            "threads": place.threads,
            "versions": account.versions(),
            "advice": _advice(),
        },
        "data": account.data(split, data, len(manifest.openings)),
        "practices": account.practices(recipe),
        "recipe_toml": to_toml(recipe),
        "objective": recipe.objective,
        "training": account.training(recipe, member, temperature),
        "validation": account.scores(choice) if len(split.val) else {},
        "test": account.scores(test),
        "out_of_fold": {} if len(split.val) else account.scores(choice),
        "bundle": bundle,
        "mistakes": account.mistakes(dataset, split.test, judged),
        "augmentation": account.views(recipe, split),
    }
    facts["next"] = account.advice(facts)
    (out / "report.json").unlink(missing_ok=True)  # from here on the run is not a finished one
    card = account.card(
        facts, fitted, split,
        temperature=temperature, licence=request.licence, notice=NOTICES.get(data, ""),
    )  # fmt: skip
    export.write(out / "bundle", model, dataset.classes, card, report.model_card(card))
    _write_network(out, fitted, dataset.classes, temperature)
    write_predictions(out / "predictions.csv", predictions)
    (out / "data.json").write_text(datasets.to_json(manifest), encoding="utf-8")
    (out / "recipe.toml").write_text(to_toml(recipe), encoding="utf-8")
    lines = [json.dumps(line) for line in facts["training"]["members"][0]["history"]]
    (out / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    facts["run"] |= {
        "seconds": clock.seconds,
        "memory_peak_megabytes": account.peak_megabytes(),
        "stages": clock.stages,
    }
    (out / "report.html").write_text(report.render(facts), encoding="utf-8")
    shutil.rmtree(out / "trials", ignore_errors=True)
    (out / "trials").mkdir(exist_ok=True)
    (out / "report.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return {
        "schema": "sevenfold.train/1",
        "run": str(out),
        "seconds": clock.seconds,
        "test": scoring.flat(test),
        "validation": scoring.flat(choice),
        "bundle": {name: bundle[name] for name in bundle if name != "machine"},
        "quarantined": len(split.quarantined),
        "stages": {line["stage"]: line["seconds"] for line in clock.stages},
        "memory_peak_megabytes": account.peak_megabytes(),
    }


def _advice() -> str:
    """Say so where GPU and torch do not fit together."""
    from sevenfold import doctor

    return doctor.gpu_advice(doctor.accelerator())


def _softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _predictions(
    fitted: "Fitted",
    split: datasets.Split,
    chosen: np.ndarray[Any, Any],
    judged: np.ndarray[Any, Any],
) -> Predictions:
    """Join the answers on val, or out of fold, and those on test."""
    dataset = split.dataset
    small = len(split.val) == 0
    first = split.train if small else split.val
    rows = np.concatenate([first, split.test])
    folds = split.folds() if small else np.full(len(first), -1)
    probabilities = np.concatenate([chosen, judged]).astype(np.float64)
    return Predictions(
        dataset.classes,
        tuple(datasets.shown(dataset.photos[row].path) for row in rows),
        tuple(dataset.hashes[row] for row in rows),
        ("train" if small else "val",) * len(first) + ("test",) * len(split.test),
        tuple(dataset.groups[row] for row in rows),
        np.concatenate([folds, np.full(len(split.test), -1)]),
        dataset.labels[rows],
        probabilities / probabilities.sum(axis=1, keepdims=True),
    )


def _score(predictions: Predictions, role: str, dataset: datasets.Dataset) -> scoring.Scores:
    from sevenfold.predictions import recompute

    return recompute(predictions, role=role)


def _latencies(model: bytes, core: Any, side: int) -> dict[str, float]:
    """Time the whole graph on one 640x480 picture and the network alone, on one thread."""
    from sevenfold.features.trunk import session

    noise = np.random.default_rng(0)
    picture = noise.integers(0, 256, (1, *_LATENCY_PICTURE), dtype=np.uint8)
    square = noise.random((1, 3, side, side), dtype=np.float32) * 255
    whole, alone = session(model, 1), session(core.SerializeToString(), 1)
    times: dict[str, list[float]] = {"latency_ms": [], "network_latency_ms": []}
    for _ in range(30):  # interleaved: what slows the machine slows both
        for name, opened, feed in (
            ("latency_ms", whole, {"image": picture}),
            ("network_latency_ms", alone, {"net_pixels": square}),
        ):
            began = time.perf_counter()
            opened.run(None, feed)
            times[name].append(1000 * (time.perf_counter() - began))
    return {name: float(np.median(values[5:])) for name, values in times.items()}


def _write_network(
    out: Path, fitted: "Fitted", classes: tuple[str, ...], temperature: float
) -> None:
    """Write the weights and what rebuilds the network around them."""
    import dataclasses

    import safetensors.torch

    state = {
        name: value.contiguous().clone()
        for name, value in fitted.member.network.state_dict().items()
    }
    safetensors.torch.save_file(state, out / "model.safetensors")
    arch = {
        "schema": "sevenfold.arch/1",
        "builder": "transfer.build",
        "transfer": dataclasses.asdict(replace(fitted.recipe.transfer, weights="random")),
        "side": fitted.recipe.side,
        "classes": list(classes),
        "temperature": temperature,
        "mirror": fitted.recipe.ensembling.mirror,
        "origin": dataclasses.asdict(fitted.member.origin),
        "sha256": hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest(),
    }
    (out / "arch.json").write_text(json.dumps(arch, indent=1), encoding="utf-8")


def evaluate(
    model: Path,
    data: str,
    *,
    split: str,
    columns: Mapping[str, str],
    group_by: str,
    small_classes: datasets.SmallClasses,
    threads: int,
    progress: Progress,
) -> dict[str, Any]:
    """Score a run or bundle on labelled pictures; needs no torch.

    Opening the test pictures of a run is written down in its `data.json`.

    Returns:
        The object of `evaluate --json`, schema "sevenfold.evaluate/1".
    """
    began = time.perf_counter()
    predictor = prediction.load(model, threads=1)  # pictures side by side use all cores
    dataset = datasets.read(
        data,
        columns=columns,
        group_by=group_by,
        small_classes=small_classes,
        classes=predictor.classes,
        fingerprints=lambda listing: datasets.fingerprint_all(
            listing, threads=threads, progress=progress
        ),
    )
    roles = [photo.role for photo in dataset.photos]
    with_roles = any(roles) and split != "all"
    rows = [at for at, role in enumerate(roles) if not with_roles or role == split]
    if not rows:
        raise DataError(f"{dataset.name} has no {split} pictures", "choose another --split")
    _log_opening(model, {dataset.hashes[row] for row in rows})
    answers = []
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as executor:
        for answer in executor.map(lambda row: predictor.probabilities(dataset.decode(row)), rows):
            answers.append(answer)
            progress("evaluate", len(answers), len(rows))
    found = scoring.score(
        np.array(answers, dtype=np.float64),
        dataset.labels[rows],
        dataset.classes,
        groups=[dataset.groups[row] for row in rows],
    )
    return {
        "schema": "sevenfold.evaluate/1",
        "scores": scoring.flat(found),
        "seconds": time.perf_counter() - began,
    }


def _log_opening(model: Path, hashes: set[str]) -> None:
    """Write down that test was looked at, where these are a run's test pictures."""
    path = model / "data.json"
    if not path.exists():
        return
    manifest = datasets.from_json(path.read_text("utf-8"), name=str(path))
    if not any(row.role == "test" and row.hash in hashes for row in manifest.rows):
        return
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    manifest = datasets.opened(manifest, now, " ".join(sys.argv[1:]))
    part = path.with_suffix(".part")
    part.write_text(datasets.to_json(manifest), encoding="utf-8")
    part.replace(path)
