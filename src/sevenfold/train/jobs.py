"""Say what each member of the vote is trained on: one bench for each cut and backbone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from sevenfold import nets
from sevenfold.data import Split
from sevenfold.features.pixels import Pixels
from sevenfold.place import Place
from sevenfold.practices import ensembling
from sevenfold.practices.transfer import Transfer
from sevenfold.progress import Progress
from sevenfold.recipe import Recipe
from sevenfold.train.bench import Bench, another, behind, lasting
from sevenfold.train.crew import Job
from sevenfold.train.member import probe


def jobs_of(bench: Bench, rate: float, seed: int, pixels: Pixels) -> tuple[Job, ...]:
    """Return the training of each member.

    Members of the same cut and backbone share bench and rate, but where nothing is frozen each
    draws views of its own. Another trunk looks at every picture once, too, and its tail has a
    rate of its own.

    Args:
        bench: of member 0.
        rate: found for it.
        seed: of the whole, and of the probes.
        pixels: the store of decoded pictures.
    """
    settings = bench.recipe.ensembling
    seeds = [ensembling.seed_of(seed, number) for number in range(settings.members)]
    if not lasting(bench.recipe, frozen=bool(bench.trunk)):
        others = [Job(another(bench, bench.recipe, pixels, own), rate, own) for own in seeds[1:]]
        return Job(bench, rate, seeds[0]), *others
    made: dict[Transfer, tuple[Bench, float]] = {bench.recipe.transfer: (bench, rate)}
    found = []
    for number, own in enumerate(seeds):
        recipe = bench.recipe.member(number)
        if recipe.transfer not in made:
            new = another(bench, recipe, pixels, seed)
            made[recipe.transfer] = new, probe(new, seed, voters(bench.recipe, recipe.transfer))[0]
        found.append(Job(*made[recipe.transfer], own))
    return tuple(found)


def voters(recipe: Recipe, transfer: Transfer) -> int:
    """Count the members of the vote that have a cut and a backbone."""
    members = range(recipe.ensembling.members)
    return [recipe.member(number).transfer for number in members].count(transfer)


def benches_of(
    networks: Sequence[nets.Network],
    recipe: Recipe,
    split: Split,
    pictures: Int64[np.ndarray, "pictures"],
    place: Place,
    pixels: Pixels,
    folder: Path,
    seed: int,
    progress: Progress,
) -> list[Bench]:
    """Return what trained members go on with, each behind its own trunk; no other weights are read.

    Members of the same cut and backbone share a bench.

    Args:
        networks: of the members, in their order.
        recipe: of the first.
        split: pictures by role.
        pictures: that are trained on.
        place: where to compute.
        pixels: the store of decoded pictures.
        folder: where checkpoints lie.
        seed: of the views, where they never end.
        progress: is told what is under way.
    """
    made: dict[Transfer, Bench] = {}
    found = []
    for number, network in enumerate(networks):
        own = recipe.member(number)
        if own.transfer not in made:
            made[own.transfer] = behind(
                network, own, split, pictures, place, pixels, folder, seed, progress
            )
        found.append(made[own.transfer])
    return found
