"""Fit a recipe to a split: the seven practices, called in order."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float, Int64

from sevenfold import loop
from sevenfold.data import Split
from sevenfold.features.pixels import Pixels
from sevenfold.place import Place
from sevenfold.practices import augmentation, ensembling, growth, imbalance, optimization
from sevenfold.progress import Progress
from sevenfold.recipe import Recipe
from sevenfold.train import crew
from sevenfold.train.balance import Tried, choose_method
from sevenfold.train.bench import Bench, parts_of, prepared
from sevenfold.train.jobs import benches_of, jobs_of, voters
from sevenfold.train.member import Member, answered, on_labels, probe
from sevenfold.train.pruned import Attempt, attempted
from sevenfold.train.refusals import refuse, refuse_data, refuse_diverged, refuse_views, remark
from sevenfold.train.sparing import NOT_LOOKED, Spared, check_labels
from sevenfold.train.stronger import Look, choose_views
from sevenfold.train.student import alike, deployed, single, stacked

__all__ = [
    "Attempt", "Bench", "Fitted", "Member", "alike", "distil", "fit", "look",
    "refuse_diverged", "settle",
]  # fmt: skip

_STEPS: Final = 190  # about, in a training; fewer where the data is small
_SMALL_STEPS: Final = 160
_ROWS: Final = 12_000  # views of all pictures together, where the data is small


@dataclass(frozen=True, eq=False)
class Fitted:
    """Hold what `fit` made.

    Args:
        recipe: with every automatic value settled.
        members: the networks that vote.
        weights: of each member's vote; they sum to 1.
        student: the one network that stands for the vote, its members' average or taught
            by them; None where there is none.
        ships: what is deployed: one network, or all that have a say.
        shares: of each of those in the vote; they sum to 1.
        rate: the largest learning rate.
        probed: what the rate probe saw.
        tried: what each way to help rare classes reached, where several were tried.
        labels: of the pictures that choices are made by.
        pruned: what became of what ships when it was pruned; None where that was not asked
            for. What ships is the unpruned network until its steps are judged by their files.
        spared: what the label check found before training.
        looks: what each way to show rare classes reached, where several were tried.
        averaged: whether `student` is its members' average, which was never trained.
        lessons: of a student that was worse than that average; None where there were none.
    """

    recipe: Recipe
    members: tuple[Member, ...]
    weights: Float[np.ndarray, "members"]
    student: Member | None
    ships: tuple[Member, ...]
    shares: Float[np.ndarray, "deployed"]
    rate: float
    probed: tuple[optimization.Probed, ...]
    tried: tuple[Tried, ...]
    labels: Int64[np.ndarray, "judged"]
    pruned: Attempt | None = None
    spared: Spared = NOT_LOOKED
    looks: tuple[Look, ...] = ()
    averaged: bool = False
    lessons: loop.Trained | None = None

    @property
    def number(self) -> int:
        """Return which member ships, or votes first; a student is built as member 0 is."""
        first = self.ships[0]
        seeds = [member.seed for member in self.members]
        known = first is not self.student and first.seed in seeds
        return seeds.index(first.seed) if known else 0


def settle(recipe: Recipe, split: Split) -> Recipe:
    """Fill in what the recipe leaves to the data.

    Args:
        recipe: `auto` and 0 are replaced.
        split: the data.
    """
    pictures = len(split.train)
    counts = np.bincount(split.dataset.labels[split.train], minlength=len(split.dataset.classes))
    objective = recipe.objective
    if objective == "auto":
        balanced = counts.max() <= imbalance.BALANCED_RATIO * max(1, counts.min())
        objective = "accuracy" if balanced else "balanced_accuracy"
    batch = min(recipe.batch, 32) if len(split.val) == 0 else recipe.batch
    steps = recipe.effort * (_SMALL_STEPS if len(split.val) == 0 else _STEPS)
    epochs = recipe.epochs or min(60, max(4, math.ceil(steps * batch / pictures)))
    wanted = min(16, epochs, max(4, math.ceil(recipe.effort * _ROWS / pictures)))
    views = recipe.views or (1 if augmentation.still(recipe.augmentation) else wanted)
    return replace(recipe, objective=objective, batch=batch, epochs=epochs, views=views)


def fit(
    recipe: Recipe,
    split: Split,
    *,
    seed: int,
    place: Place,
    pixels: Pixels,
    folder: Path,
    progress: Progress,
) -> Fitted:
    """Train a recipe: reading this is reading the method.

    Writes to the stores and checkpoints into `folder`; goes on from what is there.

    Args:
        recipe: the seven settings.
        split: pictures by role; those of test are not looked at.
        seed: of everything random.
        place: where to compute.
        pixels: the store of decoded pictures.
        folder: where checkpoints lie.
        progress: is told what is under way.

    Raises:
        UsageError: a setting asks for what is not there.
    """
    refuse(recipe, split)
    recipe = settle(recipe, split)
    pictures = growth.given(split, recipe.growth, seed)
    refuse_data(recipe, split, pictures)
    if said := remark(recipe):
        progress(said, 0, 0)
    recipe, checked = check_labels(recipe, split, pictures, place, pixels, progress)
    bench = prepared(recipe, split, pictures, place, pixels, folder, seed, progress)
    refuse_views(recipe, frozen=bench.views.count > 0)
    rate, probed = probe(bench, seed, voters(recipe, recipe.transfer))
    recipe, tried = choose_method(bench, rate, seed)
    bench, looks = choose_views(replace(bench, recipe=recipe), rate, seed, pixels)
    recipe = bench.recipe
    jobs = jobs_of(bench, rate, seed, pixels)
    crew.train_side_by_side(jobs)
    members = tuple(on_labels(job.bench, job.rate, job.seed) for job in jobs)
    if len(members) > 1 or recipe.pruning.macs:
        refuse_diverged(members)
    weights = ensembling.weigh(recipe.ensembling, stacked(members), bench.labels)
    benches = [job.bench for job in jobs]
    apart = ensembling.seed_of(seed, len(members))
    student, lessons = single(bench, benches, members, weights, rate, apart)
    ships, shares = deployed(bench, members, weights, student)
    cut = None
    if recipe.pruning.macs:
        cut = attempted(ships, bench, rate, seed=seed, pixels=pixels)
    return Fitted(
        recipe=recipe,
        members=members,
        weights=weights,
        student=student,
        ships=ships,
        shares=shares,
        rate=rate,
        probed=tuple(probed),
        tried=tried,
        labels=bench.labels,
        pruned=cut,
        spared=checked,
        looks=looks,
        averaged=student is not None and not student.trained.history,
        lessons=lessons,
    )


def look(
    recipe: Recipe,
    split: Split,
    *,
    place: Place,
    pixels: Pixels,
    folder: Path,
    progress: Progress,
) -> None:
    """Look at all that trainings of a recipe see, so that they find it in the stores.

    Trainings side by side would each look at the same pictures. Writes to the stores.

    Args:
        recipe: settled, of trainings that differ in nothing that is seen.
        split: pictures by role; those of val are looked at as they are.
        place: where to compute.
        pixels: the store of decoded pictures.
        folder: where checkpoints would lie.
        progress: is told what is under way.
    """
    recipe, _ = check_labels(recipe, split, split.train, place, pixels, progress)
    prepared(recipe, split, split.train, place, pixels, folder, 0, progress)


def distil(
    recipe: Recipe,
    split: Split,
    members: Sequence[Member],
    weights: Float[np.ndarray, "members"],
    rate: float,
    *,
    origin: int,
    seed: int,
    place: Place,
    pixels: Pixels,
    folder: Path,
    progress: Progress,
) -> Fitted:
    """Make one network of the vote of trained members, and ship that.

    Pretrained weights are read only for a student that cannot start from the members' average.

    Args:
        recipe: settled, of the members, with `distil`; with `average` that is tried first.
        split: with val.
        members: whose `logits` are filled in here.
        weights: of the members.
        rate: the largest learning rate.
        origin: seed of the members' training, by which pictures and views are drawn.
        seed: of the student's training.
        place: where to compute.
        pixels: the store of decoded pictures.
        folder: where checkpoints lie.
        progress: is told what is under way.
    """
    pictures = growth.given(split, recipe.growth, origin)
    networks = [one.network for one in members]
    benches = benches_of(networks, recipe, split, pictures, place, pixels, folder, origin, progress)
    bench, voters = benches[0], tuple(map(_asked, benches, members))
    taught, lessons = single(bench, benches, voters, weights, rate, seed)
    assert taught is not None  # since the recipe asks for a student
    return Fitted(
        recipe, voters, weights, taught, (taught,), np.ones(1), rate, (), (), bench.labels,
        averaged=not taught.trained.history, lessons=lessons,
    )  # fmt: skip


def _asked(bench: Bench, member: Member) -> Member:
    """Ask a trained member about the pictures that choices are made by."""
    logits = np.zeros((len(bench.judged), len(bench.split.dataset.classes)), np.float32)
    answered(bench, parts_of(bench)[-1], member.network, logits)
    return replace(member, logits=logits)
