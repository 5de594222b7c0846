"""Train what a pruning is compared with: the unpruned network, and smaller unpruned ones."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from sevenfold import nets
from sevenfold.errors import UsageError
from sevenfold.practices import pruning
from sevenfold.train.pruned.ground import Ground, retrained
from sevenfold.train.pruned.plan import Candidate
from sevenfold.train.pruned.steps import through, untrained

Steps = Sequence[pruning.Step[Candidate]]


@dataclass(frozen=True, eq=False)
class Smaller:
    """Hold networks of the steps' sizes that the loop did not make.

    Args:
        networks: of the first steps, as many as could be made.
        fresh: whether they are of the steps' shapes, from random weights; else their channels
            were kept at random.
        missing: why there are none of the other steps; of none nothing.
    """

    networks: tuple[Candidate, ...] = ()
    fresh: bool = False
    missing: tuple[str, ...] = ()


def longer(ground: Ground, start: Candidate, steps: int) -> tuple[Candidate, ...]:
    """Train the unpruned network on; return it after as many epochs as each step."""
    kept = through(ground, start, "dense", steps, lambda held, _: held).kept
    return tuple(step.network for step in kept)


def smaller(ground: Ground, start: Candidate, steps: Steps, epochs: int) -> Smaller:
    """Train a network of each step's size that was never pruned, or what stands for it.

    Where the unpruned network began with random weights, a smaller one can begin in the same way.
    Of a pretrained backbone with fewer channels there are no trained weights; a random part of
    the trained ones is the fairest start that it can have.

    Args:
        ground: what all trainings share.
        start: the unpruned network.
        steps: whose sizes are taken.
        epochs: that the unpruned network was trained for, before the steps.
    """
    random = ground.bench.recipe.transfer.weights == "random"
    if random and _resettable(ground.network):
        return Smaller(_from_scratch(ground, start, steps, epochs), True)
    return _at_random(ground, start, steps)


def _resettable(network: nets.Network) -> bool:
    """Tell whether every weight lies in a layer that knows how it begins."""
    return all(
        hasattr(part, "reset_parameters")
        for part in network.modules()
        if any(True for _ in part.parameters(recurse=False))
    )


def begun_anew(network: nets.Network, shapes: pruning.Shapes, seed: int) -> nets.Network:
    """Return a network of these shapes as `nets.small` and a training would begin it.

    Args:
        network: the unpruned one; stays as it is.
        shapes: of a pruned one.
        seed: of the random weights.
    """
    fresh = pruning.reshape(network, shapes)
    assert isinstance(fresh, nets.Network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in fresh.modules():
            reset: Any = getattr(part, "reset_parameters", None)
            if reset is not None:
                reset()
        nets.start(fresh.blocks)
    nn.init.zeros_(fresh.head.weight)
    nn.init.zeros_(fresh.head.bias)
    return fresh.eval()


def _from_scratch(
    ground: Ground, start: Candidate, steps: Steps, epochs: int
) -> tuple[Candidate, ...]:
    """Train each step's shapes from random weights, for as many epochs as it had in all."""
    bench = ground.bench

    def trim(_: Candidate, number: int) -> Candidate:
        shapes = pruning.shapes(steps[number - 1].network.network)
        return untrained(begun_anew(ground.network, shapes, ground.seed + number))

    def retrain(network: Candidate, number: int) -> Candidate:
        whole = replace(bench.recipe, epochs=epochs + number * bench.recipe.epochs)
        own = replace(ground, bench=replace(bench, recipe=whole), fitted=False)
        return retrained(own, "scratch", network, number)

    found = through(ground, start, "scratch", len(steps), trim, retrain=retrain)
    return tuple(step.network for step in found.kept)


def _at_random(ground: Ground, start: Candidate, steps: Steps) -> Smaller:
    """Cut channels at random until as many multiply-accumulates are left as in the steps.

    Where those removed blocks, channels alone may not get there.
    """
    settings = replace(ground.plan.settings, ranking="random", by_cost=False, blocks=False)
    how = replace(ground.how, settings=settings)

    def trim(network: Candidate, number: int) -> Candidate:
        macs = pruning.cost(steps[number - 1].network.network, how.side).macs
        return untrained(pruning.trimmed(network.network, "macs", macs, how))

    made: tuple[Candidate, ...] = ()
    for count in range(1, len(steps) + 1):
        try:
            found = through(ground, start, "random", count, trim)
        except UsageError as error:
            return Smaller(made, False, (f"none of step {count} or later: {error.problem}",))
        made = tuple(step.network for step in found.kept)
    return Smaller(made)
