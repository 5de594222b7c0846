"""Build the arms of a study: what is trained with and without each practice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Int64

from sevenfold.errors import UsageError
from sevenfold.practices import augmentation, imbalance, optimization
from sevenfold.practices.augmentation import Augmentation
from sevenfold.practices.ensembling import Ensembling
from sevenfold.practices.imbalance import Imbalance
from sevenfold.practices.optimization import Optimization
from sevenfold.practices.pruning import Pruning
from sevenfold.practices.transfer import ALL_BLOCKS
from sevenfold.recipe import PRACTICES, Recipe
from sevenfold.studies.evidence.outcomes import (
    BASE,
    DIRECTIONS,
    REFERENCE,
    Contrast,
    all_but,
    base_with,
    reference_with,
)

LESS: Final = 0.5
"""Share of the training pictures where growth is off."""
MEMBERS: Final = 3
"""Networks of a vote: the reference or the base, and two more."""
SCRATCH: Final = 4
"""By how much the side is smaller where the whole network trains from a random start."""
LEFT: Final = 0.75
"""Share of the multiply-accumulates that the one step of pruning leaves."""
CUT: Final = Pruning(blocks=False)
"""How it is pruned: which blocks may go takes longer to find than the cut and the training."""
RETRAINED: Final = 960
"""Pictures that the pruned network and the unpruned one are trained on further, once each."""
_SMALLEST: Final = 32


@dataclass(frozen=True)
class Carving:
    """Say how a trained network is pruned in one step, and trained on beside its control.

    Args:
        recipe: of the training after the cut, of both.
        settings: of the cut.
        left: share of the multiply-accumulates that remains, above 0 to below 1.
        pictures: that both are trained on, once.
        rate: the largest learning rate.
    """

    recipe: Recipe
    settings: Pruning
    left: float
    pictures: int
    rate: float


@dataclass(frozen=True)
class Training:
    """Say what is trained, but for the repetition.

    Args:
        recipe: complete.
        share: of the training pictures, above 0 to 1.
        number: of the member; its seed is the repetition plus so many times their count.
        carving: what is done with the network afterwards, or None.
    """

    recipe: Recipe
    share: float = 1.0
    number: int = 0
    carving: Carving | None = None


@dataclass(frozen=True)
class Arm:
    """Name an arm, and what is asked of which trainings.

    Args:
        name: see `outcomes`.
        trainings: one, or all that vote.
        part: of what the training gives: "" the network, `pruned`, or `unpruned`.
    """

    name: str
    trainings: tuple[Training, ...]
    part: str = ""


@dataclass(frozen=True)
class Plan:
    """Hold the arms, what is compared, and what is not.

    Args:
        arms: in the order in which they run.
        contrasts: of the practices that are measured.
        not_in_use: reasons by practice.
    """

    arms: tuple[Arm, ...]
    contrasts: tuple[Contrast, ...]
    not_in_use: dict[str, str]


def single(recipe: Recipe) -> Recipe:
    """Return the recipe of one unpruned network, whose views are the same in all folds.

    What a fold's own pictures would say of operations and of rare classes is left out.
    """
    views = replace(recipe.augmentation, label_check="off", insist=False)
    if views.for_rare == "auto":
        views = replace(views, for_rare="alike")
    return replace(recipe, augmentation=views, ensembling=Ensembling.off, pruning=Pruning.off)


def base_of(recipe: Recipe) -> Recipe:
    """Return the recipe with all off but transfer, of which the head alone is trained."""
    probe = replace(recipe.transfer, trainable_blocks=0)
    return replace(
        single(recipe),
        views=1,
        optimization=Optimization.off,
        imbalance=Imbalance.off,
        transfer=probe if recipe.transfer.weights != "random" else recipe.transfer,
        augmentation=Augmentation.off,
    )


def check(practices: Sequence[str], recipe: Recipe) -> None:
    """Refuse a name that is no practice, and one that the recipe has off, whatever the data.

    Raises:
        UsageError: with the name.
    """
    for name in practices:
        Recipe().without(name)
    _refuse(practices, off(recipe), "switch it on in the recipe")


def _refuse(practices: Sequence[str], reasons: Mapping[str, str], cure: str) -> None:
    for name in practices:
        if name in reasons:
            raise UsageError(
                f"--practices {name}: there is nothing to measure; {reasons[name]}",
                f"leave it out, or {cure}",
            )


def off(recipe: Recipe) -> dict[str, str]:
    """Tell which practices the recipe has off, and how."""
    found = {}
    if recipe.optimization == replace(Optimization.off, rate=recipe.optimization.rate):
        found["optimization"] = "the recipe trains by plain SGD with momentum"
    if recipe.imbalance.method == "none":
        found["imbalance"] = "the recipe has it off"
    if recipe.transfer.weights == "random":
        found["transfer"] = "the recipe starts at random"
    elif not recipe.transfer.trainable_blocks:
        found["transfer"] = "the head alone is trained, which is what others are compared with"
    if recipe.augmentation == Augmentation.off:
        found["augmentation"] = "the recipe has it off"
    return found


def idle(recipe: Recipe, counts: Int64[np.ndarray, "classes"]) -> dict[str, str]:
    """Tell which practices the recipe has off, or the data leaves nothing to do, and why."""
    methods = imbalance.resolve(recipe.imbalance, counts, recipe.objective)
    found = {}
    if methods == ("none",):
        found["imbalance"] = "these classes leave nothing to help, so plain training is taken"
    return found | off(recipe)


def planned(
    recipe: Recipe,
    counts: Int64[np.ndarray, "classes"],
    practices: Sequence[str] = (),
    *,
    prunable: str = "",
) -> Plan:
    """List arms and contrasts of the practices.

    Args:
        recipe: settled.
        counts: training pictures of each class.
        practices: that are measured; empty: all seven.
        prunable: why the network cannot be pruned, or "".

    Raises:
        UsageError: a practice that was named is off in the recipe.
    """
    check(practices, recipe)
    unused = idle(recipe, counts)
    _refuse(practices, unused, "name a method where classes differ by more than 1.5:1")
    if prunable:
        unused["pruning"] = prunable
        _refuse(practices, {"pruning": prunable}, "choose another backbone")
    asked = [name for name in PRACTICES if name not in unused and name in (practices or PRACTICES)]
    full, base = single(recipe), base_of(recipe)
    carved = "pruning" in asked
    top = Training(full, carving=_carving(full) if carved else None)
    bottom = Training(
        base_settled(base, LESS), LESS, carving=_carving(full, base) if carved else None
    )
    arms = [Arm(REFERENCE, (top,)), Arm(BASE, (bottom,))]
    contrasts: list[Contrast] = []
    for name in asked:
        more, compared = _MAKERS.get(name, _setting)(name, top, bottom)
        arms += more
        contrasts += compared
    return Plan(tuple(arms), tuple(contrasts), {} if practices else unused)


def base_settled(recipe: Recipe, share: float) -> Recipe:
    """Return a recipe that takes as many steps on a share of the pictures."""
    return replace(recipe, epochs=round(recipe.epochs / share))


def _carving(full: Recipe, start: Recipe | None = None) -> Carving:
    """Say how a network is pruned: with the recipe's own optimizer and views in both ends."""
    # The gentlest rate of the probe: all weights are trained, and have been trained before.
    rate = optimization.rates(full.optimization)[0]
    augmented = (start or full).augmentation
    return Carving(replace(full, augmentation=augmented), CUT, LEFT, RETRAINED, rate)


_Made = tuple[list[Arm], list[Contrast]]


def _setting(name: str, top: Training, bottom: Training) -> _Made:
    """Measure a practice that one setting of the recipe holds."""
    given = top.recipe.optimization.rate > 0
    rate = (
        "chosen by a probe, while the recipe's was given" if given else "chosen by as many trials"
    )
    means = {
        "optimization": f"SGD with momentum, its rate {rate}",
        "imbalance": "plain cross-entropy on the pictures as they come",
        "augmentation": "every picture as it is",
    }[name]
    without, with_it = top.recipe.without(name), bottom.recipe
    with_it = replace(with_it, **{name: getattr(top.recipe, name)})
    if name == "augmentation":
        without, with_it = replace(without, views=1), replace(with_it, views=top.recipe.views)
    arms = [
        Arm(all_but(name), (Training(_possible(without)),)),
        Arm(base_with(name), (replace(bottom, recipe=_possible(with_it), carving=None),)),
    ]
    return arms, _both(name, means)


def _possible(recipe: Recipe) -> Recipe:
    """Show rare pictures as often as they are where there is no view of them that differs."""
    helped = recipe.imbalance
    if helped.method != "augmentation" or not augmentation.still(recipe.augmentation):
        return recipe
    return replace(recipe, imbalance=replace(helped, method="oversampling"))


def _both(name: str, means: str) -> list[Contrast]:
    return [
        Contrast(name, "leave_one_out", REFERENCE, all_but(name), means),
        Contrast(name, "add_one_in", base_with(name), BASE, means),
    ]


def _growth(name: str, top: Training, bottom: Training) -> _Made:
    less = replace(top, recipe=base_settled(top.recipe, LESS), share=LESS, carving=None)
    recipe = replace(bottom.recipe, epochs=top.recipe.epochs)
    arms = [
        Arm(all_but(name), (less,)),
        Arm(base_with(name), (Training(recipe),)),
    ]
    return arms, _both(name, f"{LESS:.0%} of the training pictures, in as many steps")


def _transfer(name: str, top: Training, bottom: Training) -> _Made:
    """Measure the trained blocks against the head alone, then against a random start."""
    held = top.recipe.transfer
    probe = replace(top.recipe, transfer=replace(held, trainable_blocks=0))
    side = min(top.recipe.side, max(_SMALLEST, top.recipe.side // SCRATCH))
    scratch = replace(held, weights="random", sha256="", trainable_blocks=ALL_BLOCKS)
    # Views of a class are stored, and without a frozen trunk nothing is.
    views = replace(top.recipe.augmentation, class_views={})
    start = replace(top.recipe, side=side, views=0, transfer=scratch, augmentation=views)
    trained = replace(bottom, recipe=replace(bottom.recipe, transfer=held), carving=None)
    random = f"a random start of the whole network, in as many steps at {side} px"
    means = "a linear probe: the head alone is trained on frozen features"
    arms = [
        Arm(all_but(name), (Training(probe),)),
        Arm(base_with(name), (trained,)),
        Arm(all_but(name, "random"), (Training(start),)),
    ]
    second = Contrast(
        name, "leave_one_out", REFERENCE, all_but(name, "random"), random, deciding=False
    )
    return arms, [*_both(name, means), second]


def _ensembling(name: str, top: Training, bottom: Training) -> _Made:
    means = f"one network in the place of a vote of {MEMBERS}"

    def vote(first: Training) -> tuple[Training, ...]:
        others = (replace(first, number=at, carving=None) for at in range(1, MEMBERS))
        return (first, *others)

    arms = [Arm(reference_with(name), vote(top)), Arm(base_with(name), vote(bottom))]
    return arms, [
        Contrast(name, "leave_one_out", reference_with(name), REFERENCE, means),
        Contrast(name, "add_one_in", base_with(name), BASE, means),
    ]


def _pruning(name: str, top: Training, bottom: Training) -> _Made:
    means = "the whole network, trained on for as long on the same pictures"
    ends = ((reference_with, top), (base_with, bottom))
    arms = [
        arm
        for named, end in ends
        for arm in (
            Arm(named(name), (end,), "pruned"),
            Arm(named(name, "unpruned"), (end,), "unpruned"),
        )
    ]
    compared = [
        Contrast(name, direction, named(name), named(name, "unpruned"), means)
        for direction, (named, _) in zip(DIRECTIONS, ends, strict=True)
    ]
    ships = "the network as it is, trained no further: what ships without pruning"
    beside = Contrast(name, DIRECTIONS[0], reference_with(name), REFERENCE, ships, deciding=False)
    return arms, [*compared, beside]


_MAKERS: Final = {
    "growth": _growth,
    "transfer": _transfer,
    "ensembling": _ensembling,
    "pruning": _pruning,
}
