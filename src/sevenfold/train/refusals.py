"""Refuse what would do nothing or cannot be done, before anything is trained."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int64

from sevenfold.data import Split
from sevenfold.data.split import FOLDS
from sevenfold.errors import DataError, UsageError
from sevenfold.loop import Trained
from sevenfold.practices import augmentation, ensembling, growth, imbalance, optimization, pruning
from sevenfold.recipe import Recipe
from sevenfold.train.member import Member
from sevenfold.train.stronger import comes_back


def refuse(recipe: Recipe, split: Split) -> None:
    """Refuse settings that contradict each other or name what the data does not have.

    Args:
        recipe: as the user gave it.
        split: pictures by role.

    Raises:
        UsageError: with the setting's name.
    """
    one = recipe.ensembling.distil or recipe.ensembling.average
    optimization.check(recipe.optimization)
    imbalance.check(recipe.imbalance)
    ensembling.check(
        recipe.ensembling, cut=recipe.transfer.trainable_blocks, backbone=recipe.transfer.backbone
    )
    pruning.check(recipe.pruning, voters=1 if one else recipe.ensembling.members)
    if recipe.ensembling.mirror and not len(split.val):
        raise UsageError(
            "ensembling.mirror needs validation pictures: the folds of small data answer without "
            "it, so that nothing would calibrate what ships",
            "leave it out, or train on 1,000 pictures or more",
        )
    augmentation.refuse_idle(recipe.augmentation)
    augmentation.for_classes(recipe.augmentation, split.dataset.classes)
    growth.check(recipe.growth, split)
    optimization.refuse_patience(recipe.optimization, validation=len(split.val) > 0)


def refuse_data(recipe: Recipe, split: Split, pictures: Int64[np.ndarray, "pictures"]) -> None:
    """Refuse pictures that a recipe cannot train on, and settings that they leave idle.

    Args:
        recipe: settled.
        split: pictures by role.
        pictures: that are trained on.

    Raises:
        DataError: a fold would have no picture of a class.
        UsageError: a setting would do nothing.
    """
    dataset = split.dataset
    refuse_folds(split, pictures)
    imbalance.check_data(
        recipe.imbalance, fewest(split, pictures), dataset.classes,
        epochs=recipe.epochs, batch=recipe.batch,
    )  # fmt: skip
    refuse_idle(recipe, np.bincount(dataset.labels[pictures], minlength=len(dataset.classes)))


def refuse_idle(recipe: Recipe, counts: Int64[np.ndarray, "classes"]) -> None:
    """Refuse settings that this data leaves without any effect, before anything is computed.

    Args:
        recipe: settled.
        counts: training pictures of each class.

    Raises:
        UsageError: with the setting's name.
    """
    method = recipe.imbalance.method
    if method == "augmentation" and augmentation.still(recipe.augmentation):
        raise UsageError(
            "imbalance.method = 'augmentation' does nothing where augmentation is off: what is "
            "drawn often would be the same picture each time",
            "set imbalance.method=oversampling, or augment",
        )
    even = bool(counts.max() <= imbalance.BALANCED_RATIO * counts.min())
    ratio = (
        f"the largest class has {counts.max():,} training pictures and the smallest "
        f"{counts.min():,}; up to {imbalance.BALANCED_RATIO:g} times as many there is nothing to "
        "help"
    )
    if method not in ("auto", "none") and even:
        raise UsageError(f"imbalance.method = {method!r}: {ratio}", "leave it at auto")
    price = recipe.imbalance.price
    if price != imbalance.Imbalance.price and recipe.objective == "accuracy":
        raise UsageError(
            f"imbalance.price = {price:g} does nothing where accuracy is the objective",
            "leave it at 1, or set objective=balanced_accuracy",
        )
    if price != imbalance.Imbalance.price and even:
        raise UsageError(f"imbalance.price = {price:g} does nothing: {ratio}", "leave it at 1")


def remark(recipe: Recipe) -> str:
    """Tell of a method that costs what the recipe aims at; "" where none does.

    It is no contradiction, and so not refused: rare classes may be wanted all the same.

    Args:
        recipe: settled.
    """
    method = recipe.imbalance.method
    if recipe.objective != "accuracy" or method in ("auto", "none"):
        return ""
    return (
        f"imbalance.method = {method!r} answers as if all classes were equally common, which "
        "costs accuracy, the objective; objective=balanced_accuracy goes with it"
    )


def refuse_views(recipe: Recipe, *, frozen: bool) -> None:
    """Refuse more views of some classes where they would not be seen.

    Args:
        recipe: settled.
        frozen: whether there is a trunk, so that views are stored.

    Raises:
        UsageError: with the setting's name.
    """
    views = recipe.augmentation.class_views
    if all(factor <= 1 for factor in views.values()):
        return
    if not frozen:
        raise UsageError(
            "augmentation.class_views does nothing without a frozen trunk, where views never end",
            "leave it out, or set transfer.trainable_blocks=3",
        )
    if not comes_back(recipe):
        raise UsageError(
            f"augmentation.class_views does nothing where {recipe.epochs} epochs show "
            f"{recipe.views} views of each picture once",
            f"leave it out, or set views below {recipe.epochs}",
        )


def refuse_folds(split: Split, pictures: Int64[np.ndarray, "pictures"]) -> None:
    """Refuse small data of which a fold would have no picture of a class to train on.

    Raises:
        DataError: all training pictures of a class go together.
    """
    if len(split.val):
        return
    classes, labels = split.dataset.classes, split.dataset.labels[pictures]
    folds = split.fold_of(pictures)
    for label in np.unique(labels).tolist():
        if len(np.unique(folds[labels == label])) == 1:
            raise DataError(
                f"the training pictures of the class `{classes[label]}` go together, in one group "
                f"or in groups of other classes: of {FOLDS} folds that judge each other, as small "
                "data has them, one would have none to train on",
                "add pictures of it from elsewhere, or leave the class out",
            )


def fewest(split: Split, pictures: Int64[np.ndarray, "pictures"]) -> Int64[np.ndarray, "classes"]:
    """Count the pictures of each class in the training that has fewest of it."""
    labels, classes = split.dataset.labels[pictures], len(split.dataset.classes)
    counts = np.bincount(labels, minlength=classes)
    if len(split.val):
        return counts
    folds = split.fold_of(pictures)
    held = [np.bincount(labels[folds == fold], minlength=classes) for fold in range(FOLDS)]
    return np.asarray(counts - np.max(held, axis=0))


def refuse_diverged(members: Sequence[Member]) -> None:
    """Refuse trained networks whose answers are no numbers. A single one `fit` returns as it is.

    Raises:
        UsageError: one of them diverged.
    """
    for member in members:
        if diverged(member.trained, member.logits):
            epochs = len(member.trained.history)
            raise UsageError(
                f"the training diverged at the rate {member.rate:g}, after {epochs} of its epochs "
                "at the latest: its loss is no number any more",
                f"set optimization.rate below {member.rate:g}, or 0 to have one found",
            )


def diverged(trained: Trained, logits: Float[np.ndarray, "*judged classes"]) -> bool:
    """Tell whether a training's last loss, or what its network says, is no number."""
    return not (math.isfinite(trained.history[-1].loss) and bool(np.isfinite(logits).all()))
