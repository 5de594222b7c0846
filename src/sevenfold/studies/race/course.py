"""Train what a race needs, one result after the other, and go on after a stop."""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from sevenfold import atomic, draws, evaluate, loop, nets, train, trial
from sevenfold import data as datasets
from sevenfold.data import Split
from sevenfold.features import trunk as engines
from sevenfold.features.pixels import MARGIN, Pixels, fill, ingest
from sevenfold.features.views import PLAIN, activations, pixel_views
from sevenfold.loop import Place
from sevenfold.practices import growth, imbalance
from sevenfold.progress import Progress, duration
from sevenfold.recipe import Recipe
from sevenfold.studies.folder import kept, prepare
from sevenfold.studies.race import field as fields
from sevenfold.studies.race import page, search, standings
from sevenfold.studies.race.carving import carved
from sevenfold.studies.race.field import Asked
from sevenfold.train.member import measure

_OURS = {"trials", "race.json", "race.html"}
_HOTTEST = 2.0  # a small tuning part without a mistake would have the temperature 0


@dataclass(frozen=True)
class Entry:
    """Name one training of a race.

    Args:
        contestant: its name.
        number: of the trial, or of the final seed, from 1.
        of: so many.
        seed: of the training.
        recipe: complete.
        final: whether it is judged.
    """

    contestant: str
    number: int
    of: int
    seed: int
    recipe: Recipe
    final: bool

    def __str__(self) -> str:
        kind = "final" if self.final else "trial"
        return f"{self.contestant}, {kind} {self.number} of {self.of}"


@dataclass(frozen=True, eq=False)
class Course:
    """Hold what all trainings of a race share.

    Args:
        split: from `carving.carved`.
        place: where to compute.
        pixels: the store of decoded pictures.
        folder: where results and checkpoints lie.
        total: trainings of the whole race.
        progress: is told what is under way.
    """

    split: Split
    place: Place
    pixels: Pixels
    folder: Path
    total: int
    progress: Progress


def race(
    data: str,
    out: Path,
    *,
    recipe: Recipe,
    asked: Asked,
    place: Place,
    columns: Mapping[str, str],
    group_by: str,
    small_classes: datasets.SmallClasses,
    progress: Progress,
) -> dict[str, Any]:
    """Race the optimizers, or the methods against imbalance, on the user's pictures.

    Every contestant trains the same recipe, single networks and nothing pruned, on the
    same pictures. An optimizer first tries as many settings as every other one, laid out
    alike in a space bounded by the same rule (`search`), all with one seed. The best by
    the recipe's objective is trained again with fresh seeds, the same for all. Trials and
    early stopping are judged on a tuning part that is carved out of the training pictures;
    the final figures are of val, which nothing was chosen by, or with small data of one
    fold in five (`carving`). The data's test pictures stay closed. Log losses are after
    a temperature, from a half to two, that is fitted to the tuning part.

    Writes each training's result to `out/trials` and goes on after what is there; writes
    `race.json` and `race.html` last.

    Args:
        data: folder, table or packaged name.
        out: folder of the race.
        recipe: what all have in common.
        asked: what races.
        place: where to compute.
        columns: names of a table's columns, by what they hold.
        group_by: pattern that takes the group from the file name, or "".
        small_classes: `refuse`, `drop` or `other`.
        progress: is told each training with the time left.

    Returns:
        The object of `race --json`, schema "sevenfold.race/1".

    Raises:
        SevenfoldError: with the exit code of its kind.
    """
    names = fields.check(asked)
    prepare(out, _OURS, "a race")
    pixels = Pixels(round(MARGIN * recipe.side))
    dataset = datasets.read(
        data,
        columns=columns,
        group_by=group_by,
        small_classes=small_classes,
        fingerprints=lambda listing: ingest(
            listing, pixels=pixels, threads=place.threads, progress=progress
        ),
    )
    whole = datasets.split(dataset)
    split = carved(whole)
    common = train.settle(recipe.without("ensembling").without("pruning"), whole)
    field = fields.lined_up(asked, names, common, split)
    total = len(field.recipes) * (asked.trials + asked.seeds)
    course = Course(split, place, pixels, out / "trials", total, progress)
    entries = _trials(field.recipes, asked)
    tried = _run(course, entries, [])
    best = _best(entries, tried, common.objective) or field.recipes
    finals = _finals(best, asked)
    ended = _run(course, finals, tried)
    facts = standings.facts(
        asked,
        common,
        whole,
        split,
        searched=_by_name(entries, tried),
        finals=_by_name(finals, ended),
        settings={name: _settings(one, asked) for name, one in best.items()},
        left_out=field.left_out,
    )
    facts |= {"data": data, "race": str(out), "place": asdict(place)}
    atomic.write(out / "race.json", json.dumps(facts, indent=1, allow_nan=False))
    atomic.write(out / "race.html", page.render(facts))
    return facts


def _trials(recipes: Mapping[str, Recipe], asked: Asked) -> list[Entry]:
    """List the search's trainings: a trial of every optimizer, then the next of each."""
    entries = []
    for name, recipe in recipes.items() if asked.trials else ():
        bounds = search.space(name, recipe.transfer.weights != "random")
        for number, point in enumerate(search.points(bounds, asked.trials, asked.seed), 1):
            chosen = replace(recipe, optimization=replace(recipe.optimization, **asdict(point)))
            entries.append(Entry(name, number, asked.trials, asked.seed, chosen, final=False))
    return sorted(entries, key=lambda entry: entry.number)


def _best(
    entries: Sequence[Entry], results: Sequence[Mapping[str, Any]], objective: str
) -> dict[str, Recipe]:
    """Choose each contestant's best trial by the objective, then by the loss."""
    best: dict[str, tuple[tuple[float, float], Recipe]] = {}
    for entry, result in zip(entries, results, strict=True):
        score = (result["tuning"][objective], -result["tuning"]["nll"])
        if entry.contestant not in best or score > best[entry.contestant][0]:
            best[entry.contestant] = score, entry.recipe
    return {name: recipe for name, (_, recipe) in best.items()}


def _finals(recipes: Mapping[str, Recipe], asked: Asked) -> list[Entry]:
    """List the judged trainings; no trial had one of their seeds."""
    return [
        Entry(name, number, asked.seeds, asked.seed + number, recipe, final=True)
        for number in range(1, asked.seeds + 1)
        for name, recipe in recipes.items()
    ]


def _by_name(
    entries: Sequence[Entry], results: Sequence[dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for entry, result in zip(entries, results, strict=True):
        found.setdefault(entry.contestant, []).append(result)
    return found


def _settings(recipe: Recipe, asked: Asked) -> dict[str, Any]:
    if asked.practice == "optimization":
        held = recipe.optimization
        return {"rate": held.rate, "weight_decay": held.weight_decay}
    return asdict(recipe.imbalance)


def _run(
    course: Course, entries: Sequence[Entry], before: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return each training's result: from its file, or trained now."""
    results: list[dict[str, Any]] = []
    for entry in entries:
        key = trial.key(entry.recipe, course.split, entry.seed, course.place)
        path = course.folder / f"{key}.json"
        found = kept(path)
        if not found:
            done = [*before, *results]
            trained = _result(course, entry, course.folder / key, _told(course, entry, done))
            text = json.dumps(trained, allow_nan=False)
            atomic.write(path, text)
            found = json.loads(text)
            shutil.rmtree(course.folder / key, ignore_errors=True)
        results.append(found)
    return results


def _told(course: Course, entry: Entry, done: Sequence[Mapping[str, Any]]) -> Progress:
    """Say which training it is, and how much time is left by the mean of those that ended."""
    left = course.total - len(done)
    mean = np.mean([one["seconds"] for one in done]) if done else 0.0
    time_left = f", {duration(float(mean) * left)} left" if done else ""
    name = f"{entry} ({len(done) + 1} of {course.total}{time_left})"
    return lambda stage, at, total: course.progress(f"{name}: {stage}", at, total)


def _result(course: Course, entry: Entry, folder: Path, progress: Progress) -> dict[str, Any]:
    """Train once, and judge a final one."""
    began = time.perf_counter()
    split = course.split
    with np.errstate(invalid="ignore"):  # a rate that was too large is told, not warned of
        fitted = train.fit(
            entry.recipe,
            replace(split, test=split.test[:0]),  # what is judged is not even at hand
            seed=entry.seed,
            place=course.place,
            pixels=course.pixels,
            folder=folder,
            progress=progress,
        )
    logits, diverged = _sound(fitted.members[0].logits)
    temperature = evaluate.fit_temperature(logits.astype(np.float64), fitted.labels)
    temperature = min(_HOTTEST, max(1 / _HOTTEST, temperature))
    found = _record(entry, fitted, split) | {
        "tuning": _scored(logits / temperature, fitted.labels),
        "diverged": diverged,
    }
    if entry.final:
        answers, _ = _sound(_answers(fitted.members[0].network, fitted.recipe, course, progress))
        labels = split.dataset.labels[split.test]
        right = answers.argmax(axis=1) == labels
        found["judged"] = _scored(answers / temperature, labels) | {
            "recalls": {
                split.dataset.classes[label]: float(right[labels == label].mean())
                for label in np.unique(labels).tolist()
            }
        }
    return found | {"seconds": time.perf_counter() - began}


def _record(entry: Entry, fitted: train.Fitted, split: Split) -> dict[str, Any]:
    """Tell how a training went."""
    member = fitted.members[0]
    history = member.trained.history
    return {
        "contestant": entry.contestant,
        "seed": entry.seed,
        "rate": fitted.rate,
        "weight_decay": entry.recipe.optimization.weight_decay,
        "method": fitted.recipe.imbalance.method,
        "epochs": len(history),
        "best_epoch": member.trained.best_epoch,
        "stopped_early": member.trained.stopped_early,
        "decision": asdict(member.decision) if member.decision else None,
        "steps": _steps(fitted.recipe, split, entry.seed)[: len(history)],
        "epoch_seconds": [epoch.seconds for epoch in history],
        "scores": [getattr(epoch, f"val_{fitted.recipe.objective}") for epoch in history],
    }


def _sound(
    logits: Float[np.ndarray, "pictures classes"],
) -> tuple[Float[np.ndarray, "pictures classes"], bool]:
    """Return logits, or those of a network that knows nothing where it diverged."""
    diverged = not bool(np.isfinite(logits).all())
    return (np.zeros_like(logits) if diverged else logits), diverged


def _scored(
    logits: Float[np.ndarray, "pictures classes"], labels: Int64[np.ndarray, "pictures"]
) -> dict[str, Any]:
    measured = measure(logits, labels)
    return {
        "accuracy": measured.accuracy,
        "balanced_accuracy": measured.balanced_accuracy,
        "nll": measured.loss,
    }


def _answers(
    network: nets.Network, recipe: Recipe, course: Course, progress: Progress
) -> Float[np.ndarray, "judged classes"]:
    """Return a network's logits of the judged pictures, whose activations are stored."""
    dataset, pictures = course.split.dataset, course.split.test
    threads = course.place.threads
    trunk, tail = nets.cut(network, recipe.transfer.trainable_blocks)
    plain = Pixels(recipe.side, full=True)
    if len(trunk.blocks):
        engine = engines.engine(trunk, recipe.side, course.place.device)
        views = activations(
            dataset, pictures, plain, PLAIN, engine, count=1, threads=threads, progress=progress
        )
    else:
        fill(plain, dataset, pictures, threads=threads, progress=progress)
        views = pixel_views(dataset, plain, PLAIN, threads=threads, count=1)
    return loop.predict(tail.to(course.place.device), views, pictures, course.place)


def _steps(recipe: Recipe, split: Split, seed: int) -> list[int]:
    """Count the steps up to the end of each epoch."""
    pictures = growth.given(split, recipe.growth, seed)
    stages: Callable[[int], loop.Stage] = imbalance.plan(
        recipe.imbalance,
        split.dataset.labels,
        pictures,
        draws.numbers(split.dataset.hashes),
        split.dataset.classes,
        epochs=recipe.epochs,
        batch=recipe.batch,
        seed=seed,
    )
    counts = []
    for epoch in range(recipe.epochs):
        whole, rest = divmod(len(stages(epoch).pictures), recipe.batch)
        counts.append(max(1, whole + (rest > 1)))
    return [int(total) for total in np.cumsum(counts)]
