"""Give each member of the vote its bench: one for each cut and backbone."""

from sevenfold.features.pixels import Pixels
from sevenfold.practices import ensembling
from sevenfold.practices.transfer import Transfer
from sevenfold.train.bench import Bench, another, lasting
from sevenfold.train.member import probe


def benches(
    bench: Bench, rate: float, seed: int, pixels: Pixels, *, probing: bool = True
) -> tuple[tuple[Bench, float], ...]:
    """Return the bench and the largest rate of each member.

    Members of the same cut and backbone share both, but where nothing is frozen each draws
    views of its own. Another trunk looks at every picture once, too, and its tail has a rate
    of its own.

    Args:
        bench: of member 0.
        rate: found for it.
        seed: of the probes.
        pixels: the store of decoded pictures.
        probing: whether rates are looked for; otherwise all have the one given.
    """
    settings = bench.recipe.ensembling
    if not lasting(bench.recipe, frozen=bool(bench.trunk)):
        others = [
            (another(bench, bench.recipe, pixels, ensembling.seed_of(seed, at)), rate)
            for at in range(1, settings.members)
        ]
        return (bench, rate), *others
    made: dict[Transfer, tuple[Bench, float]] = {bench.recipe.transfer: (bench, rate)}
    found = []
    for number in range(settings.members):
        recipe = bench.recipe.member(number)
        if recipe.transfer not in made:
            own = another(bench, recipe, pixels, seed)
            made[recipe.transfer] = own, probe(own, seed)[0] if probing else rate
        found.append(made[recipe.transfer])
    return tuple(found)
