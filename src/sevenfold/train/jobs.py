"""Say what each member of the vote is trained on: one bench for each cut and backbone."""

from sevenfold.features.pixels import Pixels
from sevenfold.practices import ensembling
from sevenfold.practices.transfer import Transfer
from sevenfold.train.bench import Bench, another, lasting
from sevenfold.train.crew import Job
from sevenfold.train.member import probe


def jobs_of(
    bench: Bench, rate: float, seed: int, pixels: Pixels, *, probing: bool = True
) -> tuple[Job, ...]:
    """Return the training of each member.

    Members of the same cut and backbone share bench and rate, but where nothing is frozen each
    draws views of its own. Another trunk looks at every picture once, too, and its tail has a
    rate of its own.

    Args:
        bench: of member 0.
        rate: found for it.
        seed: of the whole, and of the probes.
        pixels: the store of decoded pictures.
        probing: whether rates are looked for; otherwise all have the one given.
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
            made[recipe.transfer] = new, probe(new, seed)[0] if probing else rate
        found.append(Job(*made[recipe.transfer], own))
    return tuple(found)
