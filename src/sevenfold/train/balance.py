"""Choose the way to help rare classes by what each reaches on held-out pictures."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from sevenfold.practices import imbalance
from sevenfold.recipe import Recipe
from sevenfold.train import crew
from sevenfold.train.bench import Bench
from sevenfold.train.member import objective, on_labels


@dataclass(frozen=True)
class Tried:
    """Hold what one way to help rare classes reached where choices are made.

    Args:
        method: of `imbalance.METHODS`.
        strength: of the method, where it has one.
        score: the objective, 0 to 1.
        accuracy: 0 to 1.
        recalls: of each class, 0 to 1; NaN where it has no picture there.
    """

    method: str
    strength: float
    score: float
    accuracy: float
    recalls: tuple[float, ...]


def settled(bench: Bench, rate: float, seed: int) -> tuple[Recipe, tuple[Tried, ...]]:
    """Replace `auto` by a method: train what has a training of its own, and compare.

    Writes checkpoints, from which the chosen training goes on as the first member.

    Returns:
        The recipe with the method, and what was tried; nothing where there was no choice.
    """
    recipe, counts = bench.recipe, bench.counts
    methods = imbalance.resolve(recipe.imbalance, counts, recipe.objective)
    if len(methods) == 1:
        named = recipe.imbalance
        if named.method != methods[0]:
            named = imbalance.Imbalance(method=methods[0])
        return replace(recipe, imbalance=named), ()
    own = [name for name in methods if name != "adjusted_after"]
    if recipe.ensembling.members > 1:
        crew.advanced([crew.Job(_by(bench, name), rate, seed) for name in own])
    candidates: dict[str, Float[np.ndarray, "judged classes"]] = {}
    values = {}
    for method in methods:
        value = imbalance.Imbalance(method=method)
        if method == "adjusted_after":
            plain = candidates["none"]
            strength, _ = imbalance.choose_strength(plain, bench.labels, counts, recipe.objective)
            value = replace(value, strength=strength)
            logits = imbalance.adjusted(plain, counts, strength)
        else:
            logits = on_labels(_by(bench, method), rate, seed).logits
        candidates[method], values[method] = logits, value
    chosen, _ = imbalance.choose(candidates, bench.labels, recipe.objective)
    tried = tuple(_tried(bench, values[name], candidates[name]) for name in methods)
    return replace(recipe, imbalance=values[chosen]), tried


def _by(bench: Bench, method: str) -> Bench:
    return replace(bench, recipe=replace(bench.recipe, imbalance=imbalance.Imbalance(method)))


def _tried(
    bench: Bench, value: imbalance.Imbalance, logits: Float[np.ndarray, "judged classes"]
) -> Tried:
    right = logits.argmax(axis=1) == bench.labels
    recalls = [
        float(right[bench.labels == label].mean()) if (bench.labels == label).any() else np.nan
        for label in range(logits.shape[1])
    ]
    score = objective(logits, bench.labels, bench.recipe.objective)
    return Tried(value.method, value.strength, score, float(right.mean()), tuple(recalls))
