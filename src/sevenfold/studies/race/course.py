"""Train what a race needs, one result after the other, and go on after a stop."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sevenfold import atomic, train, trial
from sevenfold import data as datasets
from sevenfold.engines import Json
from sevenfold.place import Place
from sevenfold.progress import Progress, duration
from sevenfold.recipe import Recipe
from sevenfold.studies import where as places
from sevenfold.studies.folder import complete, prepare, recalled
from sevenfold.studies.pictures import Reading, seen_apart
from sevenfold.studies.race import field as fields
from sevenfold.studies.race import page, search, standings, trials
from sevenfold.studies.race.carving import carved
from sevenfold.studies.race.field import Asked
from sevenfold.studies.race.trials import Ground
from sevenfold.studies.where import Site, Where

_OURS = {"trials", "race.json", "race.html"}


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
        ground: the pictures.
        called: the ground of all calls.
        site: where trainings run.
        folder: where results and checkpoints lie.
        total: trainings of the whole race.
        progress: is told what is under way.
    """

    ground: Ground
    called: Json
    site: Site
    folder: Path
    total: int
    progress: Progress


def race(
    data: str,
    out: Path,
    *,
    recipe: Recipe,
    asked: Asked,
    where: Where,
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

    All settings are laid out before any is tried, and each result is a function of its call
    alone, so that trainings side by side come to the same as one after another.

    Writes each training's result to `out/trials` and goes on after what is there; writes
    `race.json` and `race.html` last.

    Args:
        data: folder, table or packaged name.
        out: folder of the race.
        recipe: what all have in common.
        asked: what races.
        where: on what, and how many trainings at a time; no result depends on the number.
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
    places.check(where)
    prepare(out, _OURS, "a race", data)
    site = places.opened(where)
    reading = Reading(data, columns, group_by, small_classes)
    whole, called = site.read(reading, recipe.side, progress)
    split = carved(whole)
    common = train.settle(recipe.without("ensembling").without("pruning"), whole)
    field = fields.lined_up(asked, names, common, split)
    total = len(field.recipes) * (asked.trials + asked.seeds)
    ground = Ground(split, site.place)
    course = Course(ground, called, site, out / "trials", total, progress)
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
    facts |= {"data": data, "race": str(out), "place": _place(site.trained(called))}
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
    """Choose each contestant's best trial that is sound by the objective, then by the loss."""
    best: dict[str, tuple[tuple[bool, float, float], Recipe]] = {}
    for entry, result in zip(entries, results, strict=True):
        told = result["tuning"]
        score = (not result["diverged"], told[objective], -told["nll"])
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
    """Return each training's result: from its file, or trained now. Writes the files."""
    keys = [_key(course, entry) for entry in entries]
    found = recalled(course.folder, keys)
    missing = {key: entry for key, entry in zip(keys, entries, strict=True) if key not in found}
    if course.site.workers > 1 and not course.site.cluster:
        # Before several trainings read the stores, which each of them would fill.
        for recipe in seen_apart(entry.recipe for entry in missing.values()):
            trials.looked(course.ground, recipe, course.folder, course.progress)
    calls = {key: _call(course, entry, key) for key, entry in missing.items()}
    trained = list(missing.values())
    engine = course.site.engine({trials.TRAIN: partial(trials.trained, course.ground)})

    def heard(number: int, stage: str, at: int, total: int) -> None:
        _told(course, trained[number], [*before, *found.values()])(stage, at, total)

    def ended() -> None:
        stage = f"trainings, {engine.workers} at a time"
        course.progress(stage, len(before) + len(found), course.total)

    complete(found, calls, trials.TRAIN, engine, course.folder, ended=ended, heard=heard)
    return [found[key] for key in keys]


def _key(course: Course, entry: Entry) -> str:
    key = trial.key(
        entry.recipe, course.ground.split, entry.seed, course.site.trained(course.called)
    )
    # A trial of another race may be a final of this one, and was not judged.
    return f"{key}-final" if entry.final else key


def _call(course: Course, entry: Entry, key: str) -> Json:
    return {
        "ground": course.called,
        "contestant": entry.contestant,
        "recipe": asdict(entry.recipe),
        "seed": entry.seed,
        "final": entry.final,
        "folder": "" if course.site.cluster else str(course.folder / key),
    }


def _place(place: Place) -> dict[str, Any]:
    return {"device": place.device, "threads": place.threads, "half": place.half}


def _told(course: Course, entry: Entry, done: Sequence[Mapping[str, Any]]) -> Progress:
    """Say which training it is, and how much time is left by the mean of those that ended."""
    left = course.total - len(done)
    mean = np.mean([one["seconds"] for one in done]) if done else 0.0
    time_left = f", {duration(float(mean) * left)} left" if done else ""
    name = f"{entry} ({len(done) + 1} of {course.total}{time_left})"
    return lambda stage, at, total: course.progress(f"{name}: {stage}", at, total)
