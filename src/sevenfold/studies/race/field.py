"""Line up who races: every optimizer, or every way to help rare classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from sevenfold.data import Split
from sevenfold.errors import DataError, UsageError, suggestion
from sevenfold.practices import imbalance, optimization
from sevenfold.practices.imbalance.settings import GRADED
from sevenfold.recipe import Recipe
from sevenfold.train.refusals import refuse_idle

CONTESTANTS: Final[Mapping[str, tuple[str, ...]]] = {
    "optimization": optimization.NAMES,
    "imbalance": imbalance.METHODS,
}
"""Names by practice."""
TRIALS: Final = 3
"""Settings tried for each optimizer where nothing else is said."""

_TAKEN: Final = {
    "optimization": ("name", "rate", "weight_decay"),
    "imbalance": ("method",),
}
_ALONE: Final = ("ensembling", "pruning")


@dataclass(frozen=True)
class Asked:
    """Say what races.

    Args:
        practice: `optimization` or `imbalance`.
        only: names of contestants; empty: all.
        trials: settings tried for each optimizer, 1 or more; 0 for `imbalance`, whose
            methods have none to search.
        seeds: fresh ones for the final figures, 2 or more.
        seed: from which all others follow.
    """

    practice: str = "optimization"
    only: tuple[str, ...] = ()
    trials: int = TRIALS
    seeds: int = 3
    seed: int = 0


@dataclass(frozen=True)
class Field:
    """Hold who races, and who cannot and why.

    Args:
        recipes: by name; an optimizer's rate and decay are still open.
        left_out: reasons by name.
    """

    recipes: Mapping[str, Recipe]
    left_out: Mapping[str, str]


def reference_of(practice: str, names: Sequence[str], recipe: Recipe) -> str:
    """Choose the one contestant that all others are compared with, before anything is trained.

    All pairs of six would be fifteen claims, of which three seeds can hardly prove any.

    Args:
        practice: `optimization` or `imbalance`.
        names: of who races, in their own order.
        recipe: that all have in common.

    Returns:
        The recipe's own optimizer, else AdamW, else the first; of methods plain training, else
        the first.

    Example:
        >>> reference_of("optimization", ("sgd", "adam", "adamw"), Recipe())
        'adamw'
    """
    wanted = {"optimization": (recipe.optimization.name, "adamw"), "imbalance": ("none",)}
    return next((name for name in wanted[practice] if name in names), names[0])


def check(asked: Asked, overrides: Sequence[str] = ()) -> tuple[str, ...]:
    """Refuse what cannot be raced, before any work.

    Args:
        asked: what races.
        overrides: settings that the user named, such as `side=96`.

    Returns:
        The names of the contestants, in their own order.

    Raises:
        UsageError: a name is unknown, a number is too small, or a setting is what races.
    """
    if asked.practice not in CONTESTANTS:
        raise UsageError(
            f"--practice {asked.practice!r} has no race", f"choose {' or '.join(CONTESTANTS)}"
        )
    known = CONTESTANTS[asked.practice]
    for name in asked.only:
        if name not in known:
            raise UsageError(
                f"--only {name!r} is unknown in a race of {asked.practice}",
                suggestion(name, known),
            )
    if len(set(asked.only)) == 1:
        raise UsageError(f"--only {asked.only[0]} races alone", "name two or more, as in sgd,adamw")
    _check_numbers(asked)
    for override in overrides:
        first, _, part = override.partition("=")[0].strip().partition(".")
        if first in _ALONE:
            raise UsageError(
                f"--set {override} would do nothing: a race trains single, whole networks",
                "leave it out",
            )
        if first == asked.practice and (not part or part in _TAKEN[first]):
            raise UsageError(
                f"--set {override} would do nothing: that is what races", "leave it out"
            )
    return tuple(name for name in known if not asked.only or name in asked.only)


def _check_numbers(asked: Asked) -> None:
    searched = asked.practice == "optimization"
    if searched and asked.trials < 1:
        raise UsageError(f"--trials {asked.trials} tries no settings", "give 1 or more")
    if not searched and asked.trials:
        raise UsageError(
            f"--trials {asked.trials} would do nothing: methods have no settings to search",
            "leave it out",
        )
    if asked.seeds < 2:
        raise UsageError(
            f"--seeds {asked.seeds} cannot give an interval", "give 2 or more; 3 is the default"
        )


def lined_up(asked: Asked, names: Sequence[str], recipe: Recipe, split: Split) -> Field:
    """Give each contestant its recipe, all else being equal.

    Args:
        asked: what races; a method that was named and cannot be is refused, one that was
            not named is left out.
        names: from `check`.
        recipe: settled.
        split: from `carving.carved`.

    Raises:
        UsageError: a setting does not go with a contestant, or fewer than two are left.
        DataError: the classes are even, so that there is nothing to help.
    """
    if asked.practice == "optimization":
        recipes = {
            name: replace(recipe, optimization=replace(recipe.optimization, name=name))
            for name in names
        }
        for one in recipes.values():
            optimization.check(one.optimization)
        return Field(recipes, {})
    counts = np.bincount(split.dataset.labels[split.train], minlength=len(split.dataset.classes))
    _check_uneven(counts, split)
    counts = np.minimum(counts, np.maximum(1, np.round(recipe.growth.share * counts).astype(int)))
    recipes, left_out = {}, {}
    for name in names:
        try:
            recipes[name] = _method(recipe, name)
            imbalance.check_data(
                recipes[name].imbalance,
                counts,
                split.dataset.classes,
                epochs=recipe.epochs,
                batch=recipe.batch,
            )
            refuse_idle(recipes[name], counts)
        except UsageError as error:
            if name in asked.only:
                raise
            recipes.pop(name, None)
            left_out[name] = error.problem
    same = recipes.get("logit_adjustment")
    if not asked.only and same and same.imbalance.strength == 1:
        del recipes["logit_adjustment"]
        left_out["logit_adjustment"] = "at imbalance.strength = 1 it is balanced_softmax"
    if len(recipes) < 2:
        why = next(iter(left_out.values()))
        raise UsageError(
            f"--practice imbalance: only {len(recipes)} of {len(names)} methods can race ({why})",
            "mend that, or name methods with --only, so that each says what it needs",
        )
    return Field(recipes, left_out)


def _method(recipe: Recipe, name: str) -> Recipe:
    """Return the recipe with a method, and of its settings those that speak to it."""
    given = recipe.imbalance
    value = imbalance.Imbalance(method=name)
    if name in GRADED:
        value = replace(value, strength=given.strength)
    if name in imbalance.DEFERRED:
        value = replace(value, defer=given.defer)
    if name == "auto":
        value = replace(value, trainings=given.trainings, price=given.price)
    if name == "adjusted_after":
        value = replace(value, temperature=given.temperature)
    imbalance.check(value)
    return replace(recipe, imbalance=value)


def _check_uneven(counts: "np.ndarray[tuple[int], np.dtype[np.int64]]", split: Split) -> None:
    ratio = counts.max() / max(1, counts.min())
    if ratio <= imbalance.BALANCED_RATIO:
        raise DataError(
            f"{split.dataset.name}: the largest class has {ratio:.2g} times the pictures of the "
            f"smallest; up to {imbalance.BALANCED_RATIO:g} there is nothing to help",
            "race optimizers instead, or give data whose classes are uneven",
        )
