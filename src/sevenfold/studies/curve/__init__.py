"""Measure the learning curve of the user's data and forecast what more pictures would bring."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from sevenfold import atomic, evaluate, paired, train
from sevenfold import data as datasets
from sevenfold.data import Split
from sevenfold.errors import UsageError
from sevenfold.features.pixels import for_training
from sevenfold.progress import Progress
from sevenfold.recipe import Recipe
from sevenfold.studies import where as places
from sevenfold.studies.curve import course as courses
from sevenfold.studies.curve import forecast as forecasts
from sevenfold.studies.curve import heads, page
from sevenfold.studies.curve.forecast import HORIZON, Curve
from sevenfold.studies.folder import prepare
from sevenfold.studies.pictures import Reading, contents_of
from sevenfold.studies.where import Where

__all__ = ["Curve", "check", "curve"]

SCHEMA: Final = "sevenfold.curve/1"
_TIMES: Final = (1.0, 1.5, 2.0, 4.0)
_DRAWN: Final = 60  # places of the line
_OURS: Final = {"trials", "curve.json", "curve.html"}


def check(target: float, repetitions: int) -> None:
    """Refuse what cannot be asked for.

    Raises:
        UsageError: the target is no accuracy, or there are too few repetitions.
    """
    if target and not 0 < target < 1:
        raise UsageError(
            f"--target {target:g} is no accuracy", "give a fraction between 0 and 1, such as 0.95"
        )
    if repetitions < forecasts.LEAST_REPETITIONS:
        raise UsageError(
            f"--repetitions {repetitions} leaves nothing to tell noise from a curve by",
            f"give at least {forecasts.LEAST_REPETITIONS}",
        )


def curve(
    data: str,
    out: Path | None,
    *,
    recipe: Recipe,
    target: float,
    repetitions: int,
    seed: int,
    where: Where,
    columns: Mapping[str, str],
    group_by: str,
    small_classes: datasets.SmallClasses,
    announce: Callable[[str], None],
    progress: Progress,
) -> dict[str, Any]:
    """Measure accuracy against the number of training pictures, and forecast it.

    What is trained is a linear head on the stored activations of the recipe's backbone:
    every picture is looked at once, a head takes about a second, and its loss has one
    minimum, so that a curve shows the pictures' worth and no optimizer's luck. The trained
    network stands higher; that more pictures take the same share of its errors is not measured.

    The pictures outside test are parted into as many folds as repetitions. Each repetition
    leaves one out, ranks the others anew, trains on nested shares of them (whole groups,
    each class alike) and is judged on its fold, so that every picture is judged once at
    every size. The test pictures stay closed.

    Writes each repetition to `out/trials`, goes on after what is there, and writes
    `curve.json` and `curve.html` last.

    Args:
        data: folder, table or packaged name.
        out: folder of the study; None keeps nothing.
        recipe: whose backbone, side and objective count.
        target: accuracy to reach, 0 to 1; 0 asks for none.
        repetitions: at least 3; fewer are made where a class has fewer groups.
        seed: of the rankings.
        where: on what, and how many repetitions at a time; no result depends on the number.
        columns: names of a table's columns, by what they hold.
        group_by: pattern that takes the group from the file name, or "".
        small_classes: `refuse`, `drop` or `other`.
        announce: is told the cost before it is spent.
        progress: is told how far it is.

    Returns:
        The object of `curve --json`, schema "sevenfold.curve/1".

    Raises:
        SevenfoldError: with the exit code of its kind.
    """
    began = time.perf_counter()
    check(target, repetitions)
    heads.check(recipe)
    places.check(where)
    if out:
        prepare(out, _OURS, "a curve", data)
    site = places.opened(where)
    reading = Reading(data, columns, group_by, small_classes)
    whole, called = site.read(reading, recipe.side, progress)
    dataset = whole.dataset
    split = courses.opened(whole)
    folds = courses.repetitions(split, repetitions)
    settled = train.settle(recipe, whole)
    cost = _cost(split, folds, settled)
    announce(
        f"{cost['looks']:,} pictures once through the backbone, where a training looks "
        f"{cost['looks_of_training']:,} times; then {cost['heads']:,} linear heads"
    )
    pixels = for_training(recipe.side)  # those that a training decodes
    looking = replace(site.place, threads=site.workers * site.place.threads)
    rows = heads.described(dataset, split.train, recipe, pixels, looking, progress)
    folder = out / "trials" if out else None
    course = courses.Course(
        split, rows, recipe, site.trained(called), folds, seed, folder, progress,
        engine=site.engine({}) if site.cluster or site.workers > 1 else None, called=called,
    )  # fmt: skip
    results = courses.run(course)
    facts: dict[str, Any] = {
        "schema": SCHEMA,
        "data": data,
        "name": dataset.name,
        "contents": contents_of(whole),
        "labelled": len(split.train),
        "backbone": recipe.transfer.backbone,
        "repetitions": folds,
        "objective": settled.objective,
        **curve_facts(results, len(split.train), target),
        **worth(results, dataset.classes, settled.objective),
        "cost": cost,
        "out": str(out) if out else "",
        "seconds": time.perf_counter() - began,
    }
    if out:
        atomic.write(out / "curve.json", json.dumps(facts, indent=1, allow_nan=False))
        atomic.write(out / "curve.html", page.render(facts))
    return facts


def _cost(split: Split, folds: int, recipe: Recipe) -> dict[str, int]:
    """Say what it takes, beside what a training of the recipe takes."""
    classes = min(len(split.dataset.classes), courses.WORTH_OF)
    return {
        "looks": len(split.train),
        "looks_of_training": recipe.views * len(split.train),
        "heads": folds * (len(courses.shares(split, folds)) + classes),
    }


def curve_facts(
    results: Sequence[Mapping[str, Any]], labelled: int, target: float
) -> dict[str, Any]:
    """Sum the repetitions up: points, forecast, target, or why there is no forecast.

    Args:
        results: of the repetitions, as `course.run` returns them.
        labelled: pictures outside test.
        target: accuracy to reach; 0 asks for none.
    """
    measured = courses.curve_of(results)
    balanced = 1 - courses.curve_of(results, "balanced_accuracy").errors.mean(axis=0)
    rights = np.array([[sum(one["right"]) for one in result["sizes"]] for result in results])
    judged = int(np.sum([result["judged"] for result in results]))
    points = [
        {
            "pictures": round(pictures),
            **_inside(_hull(_interval(1 - errors, share), int(right), judged)),
            "balanced_accuracy": mean,
        }
        for pictures, share, errors, mean, right in zip(
            measured.pictures,
            measured.pictures / measured.pictures[-1],
            measured.errors.T,
            balanced.tolist(),
            rights.sum(axis=0),
            strict=True,
        )
    ]
    found: dict[str, Any] = {
        "points": points,
        "forecast": [],
        "line": [],
        "doubling": {},
        "target": {},
        "families": [],
        "refused": forecasts.refusal(measured),
    }
    return found if found["refused"] else found | forecast_of(measured, labelled, target)


def forecast_of(measured: Curve, labelled: int, target: float) -> dict[str, Any]:
    """Carry a sound curve on; refuses where the interval at twice the pictures says nothing."""
    asked = np.array(_TIMES) * labelled
    grid = np.geomspace(measured.pictures[0], HORIZON * labelled, 600)
    drawn = np.linspace(measured.pictures[0], 2.5 * labelled, _DRAWN)
    places = np.concatenate([asked, drawn, grid])
    mixture = forecasts.forecast(measured, places)
    low, high = mixture.ends()
    middle = mixture.middle
    rows = [
        {"pictures": round(n), "accuracy": float(a), "low": float(b), "high": float(c)}
        for n, a, b, c in zip(places, middle, low, high, strict=True)
    ]
    now, double = rows[0], rows[2]
    if reason := forecasts.too_wide(double["low"], double["high"]):
        return {"refused": reason}
    ends = mixture.gain(0, 2)
    gain = double["accuracy"] - now["accuracy"]
    start = len(asked) + len(drawn)
    return {
        "forecast": rows[: len(asked)],
        "line": rows[len(asked) : start],
        "doubling": {
            "pictures": double["pictures"],
            "gain": gain,
            "low": min(gain, ends[0]),
            "high": max(gain, ends[1]),
            "errors_removed": gain / max(1e-9, 1 - now["accuracy"]),
        },
        "target": _target(target, places[start:], [one[start:] for one in (middle, low, high)])
        | ({"now": now["accuracy"]} if target else {}),
        "families": [
            {"name": name, "weight": float(weight), "missed": float(missed)}
            for name, weight, missed in zip(
                mixture.names, mixture.weights, mixture.missed, strict=True
            )
        ],
    }


def _target(
    target: float, places: forecasts.Places, accuracies: Sequence[forecasts.Places]
) -> dict[str, Any]:
    """Say how many pictures reach the target: likely, at most, and at the very least."""
    if not target:
        return {}
    likely, most, least = (forecasts.reaching(target, places, some) for some in accuracies)
    return {
        "accuracy": target,
        "pictures": likely,
        "low": least,
        "high": most,
        "horizon": math.floor(places[-1]),
    }


def _interval(accuracies: np.ndarray[Any, Any], share: float) -> dict[str, float]:
    """Return mean and interval over folds, which have training pictures in common.

    Args:
        accuracies: of the repetitions.
        share: of all training pictures that each learns from.
    """
    shared = share / (len(accuracies) - 1)
    found = paired.corrected_t(accuracies.tolist(), test_to_train=shared)
    return {"accuracy": found.value, "low": found.low, "high": found.high}


def _hull(interval: Mapping[str, float], right: int, judged: int) -> dict[str, float]:
    """Widen an interval to Wilson's: where all repetitions agree, they know no more than that."""
    wilson = evaluate.wilson(right, judged)
    low, high = min(interval["low"], wilson.low), max(interval["high"], wilson.high)
    return {**interval, "low": low, "high": high}


def _inside(interval: Mapping[str, float]) -> dict[str, float]:
    """Cut an interval to what a share can be."""
    return {name: min(1.0, max(0.0, value)) for name, value in interval.items()}


def worth(
    results: Sequence[Mapping[str, Any]], classes: Sequence[str], objective: str
) -> dict[str, Any]:
    """Rank classes by what a further picture of each brings.

    Half of a class's pictures are taken away, all others stay: what the objective loses, by
    the pictures that went, is what they were worth; the next ones are worth a little less.
    Intervals hold for all classes together (Bonferroni), and are as wide as folds that share
    their training pictures make them (`paired.corrected_t`).
    """
    judged = [result["judged"] for result in results]
    whole = courses.scores([result["whole"] for result in results], judged, objective)
    rights = np.array([result["whole"] for result in results]).sum(axis=0)
    counts = np.array(judged).sum(axis=0)
    labels = sorted({one["label"] for result in results for one in result["given"]})
    rows = []
    for label in labels:
        mine = [next((g for g in r["given"] if g["label"] == label), None) for r in results]
        some = [at for at, one in enumerate(mine) if one]
        if len(some) < forecasts.LEAST_REPETITIONS:
            continue
        without = courses.scores(
            [one["right"] for one in mine if one], [judged[at] for at in some], objective
        )
        taken = np.array([one["without"] for one in mine if one])
        gains = 100 * (whole[some] - without) / taken
        error, freedom = paired.standard_error(gains.tolist(), test_to_train=1 / (len(results) - 1))
        half = paired.t_quantile(1 - 0.025 / len(labels), freedom) * error
        mean = float(gains.mean())
        rows.append(
            {
                "label": classes[label],
                "recall": float(rights[label] / max(1, counts[label])),
                "gain_per_100": mean,
                "low": mean - half,
                "high": mean + half,
            }
        )
    rows.sort(key=lambda row: -row["gain_per_100"])
    sure = [row["label"] for row in rows if row["low"] > 0]
    return {
        "classes": rows,
        "next_class": sure[0] if sure else "",
        "worth_of_part": round(np.mean([result["part"] for result in results])),
    }
