"""Sum a race up: means with intervals, paired differences, and who cannot be told apart."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Final

import numpy as np

from sevenfold.data import Split
from sevenfold.paired import SIGNIFICANT, Effect, holm, t_quantile, t_tails
from sevenfold.practices import growth
from sevenfold.recipe import Recipe, to_toml
from sevenfold.studies.race.field import REFERENCES, Asked

METRICS: Final = ("accuracy", "balanced_accuracy", "nll")
HALVES: Final = ("common_recall", "rare_recall")
"""Mean recall of the larger and of the smaller half of the classes."""

_TWO: Final = math.sqrt(2)  # a difference is rounded twice

Result = Mapping[str, Any]


def facts(
    asked: Asked,
    recipe: Recipe,
    whole: Split,
    split: Split,
    *,
    searched: Mapping[str, Sequence[Result]],
    finals: Mapping[str, Sequence[Result]],
    settings: Mapping[str, Mapping[str, Any]],
    left_out: Mapping[str, str],
) -> dict[str, Any]:
    """Return the object of `race --json`, a function of the trainings' results alone.

    Args:
        asked: what raced.
        recipe: what all have in common.
        whole: the data's own roles.
        split: the race's.
        searched: results of trials by contestant.
        finals: results of final trainings by contestant, each list in order of its seeds.
        settings: with which each came to its final figures.
        left_out: reasons by name.
    """
    objective = recipe.objective
    judged = {name: _figures(results, split) for name, results in finals.items()}
    order = sorted(judged, key=lambda name: -float(np.mean(judged[name][objective])))
    steps = grains(split)
    usual = REFERENCES[asked.practice]
    reference = usual if usual in judged else order[0]
    key = "optimizers" if asked.practice == "optimization" else "methods"
    everything = [one for results in (*searched.values(), *finals.values()) for one in results]
    return {
        "schema": "sevenfold.race/1",
        "practice": asked.practice,
        "objective": objective,
        "reference": reference,
        "order": order,
        "trials": asked.trials,
        "seeds": asked.seeds,
        "seed": asked.seed,
        "name": whole.dataset.name,
        "pictures": _pictures(whole, split, recipe, asked.seed),
        "seconds": sum(one["seconds"] for one in everything),
        key: {
            name: _contestant(
                figures,
                judged[reference] if name != reference else {},
                settings[name],
                searched.get(name, ()),
                finals[name],
                steps,
            )
            for name, figures in judged.items()
        },
        **_apart({name: one[objective] for name, one in judged.items()}, order, steps[objective]),
        "left_out": dict(left_out),
        "recipe_toml": to_toml(recipe),
    }


def _pictures(whole: Split, split: Split, recipe: Recipe, seed: int) -> dict[str, Any]:
    """Count the pictures by what they are for, and name where the judged ones come from."""
    counts = np.bincount(
        split.dataset.labels[split.test], minlength=len(split.dataset.classes)
    ).tolist()
    common, rare = _halves(split)
    return {
        "trained_on": len(growth.given(split, recipe.growth, seed)),
        "tuned_on": len(split.val),
        "judged_on": len(split.test),
        "judged_are": "val" if len(whole.val) else "fold",
        "test_closed": len(whole.test),
        "judged_common": sum(counts[label] for label in common),
        "judged_rare": sum(counts[label] for label in rare),
    }


def _halves(split: Split) -> tuple[list[int], list[int]]:
    """Part the classes by their training pictures; of an odd number one is in neither half."""
    counts = np.bincount(split.dataset.labels[split.train], minlength=len(split.dataset.classes))
    order = np.argsort(-counts, kind="stable").tolist()
    half = len(order) // 2
    return order[:half], order[len(order) - half :]


def _figures(results: Sequence[Result], split: Split) -> dict[str, list[float]]:
    """Return each measure over the seeds."""
    found = {metric: [one["judged"][metric] for one in results] for metric in METRICS}
    for name, half in zip(HALVES, _halves(split), strict=True):
        seen = [[one["judged"]["recalls"].get(str(label)) for label in half] for one in results]
        kept = [[recall for recall in recalls if recall is not None] for recalls in seen]
        if all(kept):
            found[name] = [float(np.mean(recalls)) for recalls in kept]
    return found


def grains(split: Split) -> dict[str, float]:
    """Return by how much one answer more moves each measure, at most.

    Args:
        split: the race's; its `test` is judged on.
    """
    counts = np.bincount(split.dataset.labels[split.test], minlength=len(split.dataset.classes))
    found = {"accuracy": 1 / len(split.test), "nll": 0.0}
    every = list(range(len(counts)))
    for name, labels in zip(("balanced_accuracy", *HALVES), (every, *_halves(split)), strict=True):
        there = counts[labels][counts[labels] > 0]
        found[name] = float(1 / (len(there) * there.min())) if len(there) else 0.0
    return found


def compared(values: Sequence[float], grain: float = 0.0) -> Effect:
    r"""Judge the mean of repetitions by Student's t, minding that pictures are counted whole.

    $$e = \max\left(s, g / \sqrt{12}\right) / \sqrt{n}$$

    Two seeds that answer equally many pictures rightly have no spread, and yet are not
    known better than to the grain $g$ of one picture, whose rounding alone has the
    deviation $g / \sqrt{12}$.

    Args:
        values: of at least two seeds.
        grain: steps that the values go in.
    """
    found = np.asarray(values, np.float64)
    mean, freedom = float(found.mean()), len(found) - 1
    spread = float(found.std(ddof=1)) if np.ptp(found) > 0 else 0.0
    error = max(spread, grain / math.sqrt(12)) / math.sqrt(len(found))
    half = t_quantile(0.975, freedom) * error
    p = t_tails(mean / error, freedom) if error > 0 else 1.0
    return Effect(mean, mean - half, mean + half, p)


def interval(
    values: Sequence[float],
    grain: float = 0.0,
    lowest: float = -math.inf,
    highest: float = math.inf,
) -> dict[str, float]:
    """Return the mean of repetitions and its 95 % interval.

    Args:
        values: of at least two seeds.
        grain: see `compared`.
        lowest: that a value can be; the interval ends there.
        highest: that a value can be.

    Example:
        >>> interval([0.5, 0.5])
        {'mean': 0.5, 'low': 0.5, 'high': 0.5}
    """
    found = compared(values, grain)
    low, high = max(lowest, found.low), min(highest, found.high)
    return {"mean": found.value, "low": low, "high": high}


def _contestant(
    figures: Mapping[str, Sequence[float]],
    reference: Mapping[str, Sequence[float]],
    settings: Mapping[str, Any],
    searched: Sequence[Result],
    finals: Sequence[Result],
    steps: Mapping[str, float],
) -> dict[str, Any]:
    """Tell of one contestant; the differences are paired by seed."""
    trials = [
        {
            **{name: one[name] for name in ("rate", "weight_decay", "epochs", "diverged")},
            **one["tuning"],
            "seconds": one["seconds"],
        }
        for one in searched
    ]
    ran = [
        {
            **{
                name: one[name]
                for name in ("seed", "rate", "method", "epochs", "best_epoch", "stopped_early")
            },
            **{name: values[at] for name, values in figures.items()},
            "diverged": one["diverged"],
            "decision": one["decision"],
            "steps": one["steps"][-1],
            "seconds": one["seconds"],
        }
        for at, one in enumerate(finals)
    ]
    return {
        **{
            name: interval(values, steps[name], 0.0, math.inf if name == "nll" else 1.0)
            for name, values in figures.items()
        },
        "seconds": float(np.mean([one["seconds"] for one in ran])),
        "trials": len(trials),
        "settings": dict(settings),
        "difference": {
            name: interval(_paired(reference[name], values), _TWO * steps[name])
            for name, values in figures.items()
            if name in reference
        },
        "search": trials,
        "finals": ran,
        "curve": curve(finals),
    }


def curve(finals: Sequence[Result]) -> dict[str, list[float]]:
    """Average the objective on the tuning part over the seeds, as far as all of them went.

    Returns:
        For each epoch the steps and the seconds up to its end, the mean score and the
        lowest and the highest of the seeds.
    """
    epochs = min(len(one["scores"]) for one in finals)
    scores = np.array([one["scores"][:epochs] for one in finals])
    seconds = np.array([np.cumsum(one["epoch_seconds"][:epochs]) for one in finals])
    steps = np.array([one["steps"][:epochs] for one in finals])
    return {
        "steps": steps.mean(axis=0).tolist(),
        "seconds": seconds.mean(axis=0).tolist(),
        "score": scores.mean(axis=0).tolist(),
        "low": scores.min(axis=0).tolist(),
        "high": scores.max(axis=0).tolist(),
    }


def _paired(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Return second minus first, seed by seed."""
    return [b - a for a, b in zip(first, second, strict=True)]


def _apart(
    judged: Mapping[str, Sequence[float]], order: Sequence[str], grain: float
) -> dict[str, Any]:
    """Compare all pairs by the paired t test, adjusted by Holm for how many there are."""
    pairs = list(combinations(order, 2))
    effects = [
        compared(_paired(judged[second], judged[first]), _TWO * grain) for first, second in pairs
    ]
    adjusted = holm([effect.p for effect in effects])
    told = [
        {
            "ahead": first,
            "behind": second,
            "mean": effect.value,
            "low": effect.low,
            "high": effect.high,
            "p": effect.p,
            "p_holm": p,
            "told_apart": p <= SIGNIFICANT,
        }
        for (first, second), effect, p in zip(pairs, effects, adjusted, strict=True)
    ]
    return {
        "pairs": told,
        "cannot_tell_apart": [
            [one["ahead"], one["behind"]] for one in told if not one["told_apart"]
        ],
    }
