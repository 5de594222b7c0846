"""Choose the way to help rare classes by what each reaches on held-out pictures."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from sevenfold import evaluate
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
        loss: log loss as if all classes were equally common, by which is chosen.
        accuracy: 0 to 1.
        recalls: of each class, 0 to 1; NaN where it has no picture there.
    """

    method: str
    strength: float
    score: float
    loss: float
    accuracy: float
    recalls: tuple[float, ...]


def choose_method(bench: Bench, rate: float, seed: int) -> tuple[Recipe, tuple[Tried, ...]]:
    """Replace `auto` by a method: train what has a training of its own, and compare.

    Writes checkpoints, from which the chosen training goes on as the first member.

    Returns:
        The recipe with the method, and what was tried; nothing where there was no choice.
    """
    recipe, counts = bench.recipe, bench.counts
    asked = recipe.imbalance
    methods = imbalance.resolve(asked, counts, recipe.objective)
    if len(methods) == 1:
        named = asked if asked.method == methods[0] else imbalance.Imbalance(methods[0])
        if named.method == "adjusted_after" and not named.temperature:
            _, temperature = _answers(bench, "none", rate, seed)
            named = replace(named, temperature=temperature)
        return replace(recipe, imbalance=named), ()
    own = [name for name in methods if name != "adjusted_after"]
    if recipe.ensembling.members > 1:
        crew.train_side_by_side([crew.Job(_by(bench, name), rate, seed) for name in own])
    plain, temperature = _answers(bench, "none", rate, seed)
    strength = imbalance.choose_strength(plain, bench.labels, counts, asked.price)
    values = {name: imbalance.Imbalance(name) for name in methods}
    values["adjusted_after"] = imbalance.Imbalance(
        "adjusted_after", strength=strength, temperature=temperature
    )
    candidates = {"none": plain, "adjusted_after": imbalance.adjusted(plain, counts, strength)}
    for name in methods[2:]:
        candidates[name], _ = _answers(bench, name, rate, seed)
    chosen = imbalance.choose_by_loss(candidates, bench.labels, counts, asked.price)
    tried = tuple(_tried(bench, values[name], candidates[name]) for name in methods)
    return replace(recipe, imbalance=values[chosen]), tried


def _answers(
    bench: Bench, method: str, rate: float, seed: int
) -> tuple[Float64[np.ndarray, "judged classes"], float]:
    """Train by a method and return the calibrated logits of what it is judged by."""
    logits = on_labels(_by(bench, method), rate, seed).logits
    return imbalance.calibrated(logits, bench.labels, even=method != "none")


def _by(bench: Bench, method: str) -> Bench:
    return replace(bench, recipe=replace(bench.recipe, imbalance=imbalance.Imbalance(method)))


def _tried(
    bench: Bench, value: imbalance.Imbalance, logits: Float64[np.ndarray, "judged classes"]
) -> Tried:
    recalls = imbalance.recalls(logits, bench.labels)
    losses = evaluate.log_loss(logits, bench.labels)
    weights = imbalance.weights_of(bench.labels, "balanced_accuracy")
    return Tried(
        value.method,
        value.strength,
        objective(logits, bench.labels, bench.recipe.objective),
        float(weights @ losses),
        objective(logits, bench.labels, "accuracy"),
        tuple(recalls.tolist()),
    )
