"""Show rare classes more and stronger views, if that is measured to help."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Float, Int64

from sevenfold.features.pixels import Pixels
from sevenfold.practices import augmentation, imbalance
from sevenfold.practices.augmentation import Augmentation
from sevenfold.recipe import Recipe
from sevenfold.train import crew
from sevenfold.train.bench import Bench, another
from sevenfold.train.member import objective, on_labels

STRENGTH: Final = 1.5
"""Factor on the ranges of rare classes that is tried."""
VIEWS: Final = 2
"""Factor on their stored views that is tried, where a training comes back to one."""
_REPEATS: Final = ("augmentation", "deferred_sampling")  # draw a picture often, in other views


@dataclass(frozen=True)
class Look:
    """Hold what one way to show rare classes reached where choices are made.

    Args:
        strength: factor on the ranges of rare classes; 1 is as all others.
        views: factor on their stored views.
        score: the objective, 0 to 1.
        accuracy: 0 to 1.
        recalls: of each class, 0 to 1; NaN where it has no picture there.
        seconds: that it took beyond what was there already.
        chosen: whether training goes on with it.
    """

    strength: float
    views: int
    score: float
    accuracy: float
    recalls: tuple[float, ...]
    seconds: float
    chosen: bool


def rare(counts: Int64[np.ndarray, "classes"]) -> Int64[np.ndarray, "rare"]:
    """Return the classes with less than two thirds of the mean class's pictures.

    Example:
        >>> rare(np.array([50, 40, 10])).tolist()
        [2]
    """
    return np.flatnonzero(counts * imbalance.BALANCED_RATIO < counts.mean())


def factors(
    settings: Augmentation, counts: Int64[np.ndarray, "classes"], classes: Sequence[str]
) -> dict[str, float]:
    """Return the factor on the ranges of each rare class that `choose_views` tries, by its name.

    Empty where it tries nothing: nobody asks for it, no class is rare, the user says how
    strong classes are, or nothing that is switched on can be stronger.

    Example:
        >>> factors(Augmentation(for_rare="auto"), np.array([50, 40, 10]), ("a", "b", "c"))
        {'c': 1.5}
    """
    given = settings.class_strength or settings.class_views
    stronger = augmentation.strengthened(settings, STRENGTH) != settings
    if settings.for_rare != "auto" or given or not stronger:
        return {}
    return {classes[label]: STRENGTH for label in rare(counts).tolist()}


def comes_back(recipe: Recipe) -> bool:
    """Tell whether training shows a picture more often than it has views."""
    return recipe.epochs > recipe.views or recipe.imbalance.method in _REPEATS


def choose_views(
    bench: Bench, rate: float, seed: int, pixels: Pixels
) -> tuple[Bench, tuple[Look, ...]]:
    """Replace `for_rare = auto` by what the rare classes are shown: train each, and compare.

    The plain way stays unless another one's gain of the objective on the same pictures
    exceeds one standard error (`imbalance.choose`). What is tried is stronger views, and,
    where a training comes back to a view, more views before that: one or two trainings,
    and the rare classes' new views. Writes checkpoints, from which the chosen training
    goes on as the first member.

    Returns:
        What all further trainings share, and what was tried; nothing where there was no
        choice.
    """
    recipe = bench.recipe
    if recipe.augmentation.for_rare != "auto":
        return bench, ()
    names = list(factors(recipe.augmentation, bench.counts, bench.split.dataset.classes))
    settings = replace(recipe.augmentation, for_rare="alike")
    bench = replace(bench, recipe=replace(recipe, augmentation=settings))
    if not names:
        return bench, ()
    frozen = bench.views.count > 0
    more = VIEWS if frozen and comes_back(recipe) else 1
    ways = [(1.0, 1), *([(1.0, more)] if more > 1 else []), (STRENGTH, more)]
    tried, spent = [], []
    for strength, views in ways:
        began = time.perf_counter()
        plain = (strength, views) == (1.0, 1)
        tried.append(bench if plain else _shown(bench, names, strength, views, seed, pixels))
        spent.append(time.perf_counter() - began)
    if recipe.ensembling.members > 1:
        apart = crew.train_side_by_side([crew.Job(one, rate, seed) for one in tried])
        spent = [before + more for before, more in zip(spent, apart, strict=True)]
    found: dict[str, tuple[Bench, Float[np.ndarray, "judged classes"], float]] = {}
    for (strength, views), one, before in zip(ways, tried, spent, strict=True):
        began = time.perf_counter()
        logits = on_labels(one, rate, seed).logits
        found[f"{strength:g} x{views}"] = one, logits, before + time.perf_counter() - began
    candidates = {name: logits for name, (_, logits, _) in found.items()}
    best = imbalance.choose(candidates, bench.labels, recipe.objective)
    looks = tuple(
        _look(bench, strength, views, logits, seconds, chosen=name == best)
        for (strength, views), (name, (_, logits, seconds)) in zip(ways, found.items(), strict=True)
    )
    return found[best][0], looks


def _shown(
    bench: Bench, names: list[str], strength: float, views: int, seed: int, pixels: Pixels
) -> Bench:
    """Return a bench whose rare classes are shown otherwise, with checkpoints of its own."""
    settings = replace(
        bench.recipe.augmentation,
        class_strength=dict.fromkeys(names, strength) if strength != 1 else {},
        class_views=dict.fromkeys(names, views) if views > 1 else {},
    )
    folder = bench.folder / f"rare-{strength:g}-{views}"
    return another(bench, replace(bench.recipe, augmentation=settings), pixels, seed, folder)


def _look(
    bench: Bench,
    strength: float,
    views: int,
    logits: Float[np.ndarray, "judged classes"],
    seconds: float,
    *,
    chosen: bool,
) -> Look:
    score, accuracy = (
        objective(logits, bench.labels, name) for name in (bench.recipe.objective, "accuracy")
    )
    recalls = tuple(imbalance.recalls(logits, bench.labels).tolist())
    return Look(strength, views, score, accuracy, recalls, seconds, chosen)
