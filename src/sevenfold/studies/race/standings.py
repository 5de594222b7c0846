"""Sum a race up: means with intervals, paired differences, and who cannot be told apart."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import Float64

from sevenfold.data import Split
from sevenfold.practices import growth
from sevenfold.recipe import Recipe, to_toml
from sevenfold.studies.race import judging
from sevenfold.studies.race.contrasts import Contrast, against, interval, least
from sevenfold.studies.race.field import Asked, reference_of

METRICS: Final = ("accuracy", "balanced_accuracy", "macro_f1", "nll")

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
    right = {
        name: judging.unpacked([one["judged"]["right"] for one in results], len(split.test))
        for name, results in finals.items()
    }
    weighing = judging.weights(split)
    judged = {name: _figures(finals[name], right[name], weighing) for name in finals}
    order = sorted(judged, key=lambda name: -float(np.mean(judged[name][objective])))
    reference = reference_of(asked.practice, list(judged), recipe)
    differences = _differences(reference, judged, right, split)
    pairs = _pairs(
        reference, {name: differences[name][objective] for name in order if name != reference}
    )
    searches = asked.practice == "optimization"
    trained_on = growth.given(split, recipe.growth, asked.seed)
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
        "pictures": _pictures(whole, split, len(trained_on)),
        "seconds": sum(
            one["seconds"] for results in (*searched.values(), *finals.values()) for one in results
        ),
        "optimizers" if searches else "methods": {
            name: _contestant(
                figures,
                differences.get(name, {}),
                settings[name],
                searched.get(name, ()),
                finals[name],
                judging.grains(weighing),
            )
            for name, figures in judged.items()
        },
        **({} if searches else {"classes": judging.classes(split, trained_on, right)}),
        **_told(pairs, asked.seeds, objective),
        "left_out": dict(left_out),
        "recipe_toml": to_toml(recipe),
    }


def _differences(
    reference: str,
    judged: Mapping[str, Mapping[str, Sequence[float]]],
    right: Mapping[str, Float64[np.ndarray, "seeds pictures"]],
    split: Split,
) -> dict[str, dict[str, Contrast]]:
    """Compare each contestant with the reference, by every measure."""
    weighing, member = judging.weights(split), judging.members(split)
    steps, groups = judging.grains(weighing), int(member.max()) + 1
    middle = {name: answers.mean(axis=0) for name, answers in right.items()}
    errors = {
        name: judging.errors(answers - middle[reference], weighing, member)
        for name, answers in middle.items()
    }
    found: dict[str, dict[str, Contrast]] = {name: {} for name in judged if name != reference}
    for metric in judged[reference]:
        contrasts = against(
            reference,
            {name: figures[metric] for name, figures in judged.items()},
            grain=steps[metric],
            pictures={name: error.get(metric, 0.0) for name, error in errors.items()},
            groups=groups,
        )
        for name, one in contrasts.items():
            found[name][metric] = one
    return found


def _pictures(whole: Split, split: Split, trained_on: int) -> dict[str, Any]:
    """Count the pictures by what they are for, and name where the judged ones come from."""
    counts = np.bincount(
        split.dataset.labels[split.test], minlength=len(split.dataset.classes)
    ).tolist()
    common, rare = judging.halves(split)
    return {
        "trained_on": trained_on,
        "tuned_on": len(split.val),
        "judged_on": len(split.test),
        "judged_are": "val" if len(whole.val) else "fold",
        "test_closed": len(whole.test),
        "judged_common": sum(counts[label] for label in common),
        "judged_rare": sum(counts[label] for label in rare),
    }


def _figures(
    results: Sequence[Result],
    right: Float64[np.ndarray, "seeds pictures"],
    weighing: judging.Weights,
) -> dict[str, list[float]]:
    """Return each measure over the seeds."""
    found = {metric: [float(one["judged"][metric]) for one in results] for metric in METRICS}
    halves = {name: right @ weighing[name] for name in judging.HALVES if name in weighing}
    return found | {name: values.tolist() for name, values in halves.items()}


def outermost(rate: float, tried: Sequence[float]) -> str:
    """Tell whether a chosen rate is the lowest or the highest of those that were tried.

    A better one may lie beyond. Of a single rate there is nothing to tell.

    Returns:
        `lowest`, `highest` or "".

    Example:
        >>> outermost(0.2, [0.05, 0.1, 0.2]), outermost(0.1, [0.05, 0.1, 0.2])
        ('highest', '')
    """
    ends = {min(tried): "lowest", max(tried): "highest"} if len(set(tried)) > 1 else {}
    return ends.get(rate, "")


def _contestant(
    figures: Mapping[str, Sequence[float]],
    differences: Mapping[str, Contrast],
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
    edge = outermost(settings["rate"], [one["rate"] for one in trials]) if trials else ""
    return {
        **{
            name: interval(values, steps[name], 0.0, math.inf if name == "nll" else 1.0)
            for name, values in figures.items()
        },
        "seconds": float(np.mean([one["seconds"] for one in ran])),
        "trials": len(trials),
        "settings": dict(settings),
        "outermost": edge,
        "difference": {name: one.interval for name, one in differences.items()},
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


def _pairs(reference: str, found: Mapping[str, Contrast]) -> list[dict[str, Any]]:
    """Tell of each comparison who is ahead, by how much, and whether that is more than noise."""
    widths = least(found)
    told = []
    for name, one in found.items():
        behind = one.value < 0
        span = one.interval
        sign = -1 if behind else 1
        low, high = sorted(sign * span[end] for end in ("low", "high"))
        told.append(
            {
                "ahead": reference if behind else name,
                "behind": name if behind else reference,
                "mean": abs(one.value),
                "low": low,
                "high": high,
                "least": widths[name],
                "told_apart": abs(one.value) > widths[name],
            }
        )
    return told


def _told(pairs: Sequence[Mapping[str, Any]], seeds: int, objective: str) -> dict[str, Any]:
    """Say what can be told apart, and how small a difference could have been."""
    smallest = min(pair["least"] for pair in pairs)
    return {
        "pairs": list(pairs),
        "cannot_tell_apart": [
            [pair["ahead"], pair["behind"]] for pair in pairs if not pair["told_apart"]
        ],
        "smallest_difference": smallest,
        "limits": limits(seeds, smallest, objective),
    }


def limits(seeds: int, smallest: float, measure: str) -> str:
    """Say how small a difference a race could have told.

    Example:
        >>> limits(3, 0.0213, "balanced_accuracy")
        '3 seeds can tell apart only differences of 2.1 points or more of balanced accuracy'
    """
    points = f"differences of {100 * smallest:.1f} points or more of {measure.replace('_', ' ')}"
    return f"{seeds} seeds can tell apart only {points}"
