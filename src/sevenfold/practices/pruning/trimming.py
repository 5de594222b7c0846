"""Trim a network to a budget: channels and blocks, the cheapest first."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Float64
from torch import Tensor, nn

from sevenfold import nets
from sevenfold.errors import UsageError
from sevenfold.practices.pruning.blocks import (
    block_losses,
    lesioned,
    removable_blocks,
    without_block,
)
from sevenfold.practices.pruning.choice import Choice, Limits, chosen
from sevenfold.practices.pruning.cost import Cost, Counted, by_cost, cost, saved
from sevenfold.practices.pruning.coupling import Coupling, couple
from sevenfold.practices.pruning.rankings import (
    STATISTICS,
    Batches,
    Layers,
    combined,
    layered,
    scores,
)
from sevenfold.practices.pruning.settings import Pruning
from sevenfold.practices.pruning.surgery import cut, remove

_PROVED_ON: Final = 8
_CLOSER: Final = 0.97
_TRIES: Final = 12


@dataclass(frozen=True, eq=False)
class Trimming:
    """Say how networks are trimmed.

    Args:
        settings: ranking, how layers compare, and whether blocks may go.
        limits: floors and caps; they hold over all steps of a loop.
        batches: training pictures with soft targets, a few hundred.
        held: validation pictures, all of them, for the statistics of activations.
        side: of the pictures, in pixels.
        seed: of the random ranking.
    """

    settings: Pruning
    limits: Limits
    batches: Batches
    held: Batches
    side: int
    seed: int

    @property
    def ranked_on(self) -> Batches:
        """What channels are looked at on."""
        return self.held if self.settings.ranking in STATISTICS else self.batches

    @property
    def proof(self) -> Float[Tensor, "batch 3 side side"]:
        """Return the pictures on which every removal is proved."""
        return next(self.batches())[0][:_PROVED_ON].cpu()


def trimmed(network: nets.Network, counted: Counted, wanted: float, how: Trimming) -> nets.Network:
    """Return a smaller copy that costs no more than is wanted, proved to be what is left.

    Channels go in the order of their scores. A block's score is what the loss rises
    without it, for each multiply-accumulate (or parameter) that it saves, over the same
    of all channels by Taylor's estimate, times the mean score of channels (weighted by
    what they save, where scores are by cost): so a block that costs what an average
    channel costs ranks as one. The lowest block goes before
    the channels whenever some chunk that would go scores higher, and channels are
    then ranked anew. What blocks are worth is measured once.

    Args:
        network: on the CPU; stays as it is.
        counted: what the budget counts.
        wanted: at most so much of it remains.
        how: ranking, limits, pictures.

    Raises:
        UsageError: no more may go; see `smallest`.
        GateRefused: a removal does not prove itself.
    """
    proof = how.proof
    blocks: dict[str, float] | None = None
    while True:
        coupling, dense = couple(network, how.side), cost(network, how.side)
        have = dense.of(counted)
        if have <= wanted:
            return network
        looked = layered(network, coupling, how.settings.ranking, how.ranked_on, seed=how.seed)
        ranked = combined(looked, coupling, how.settings.ranking, how.settings.across)
        if how.settings.by_cost:
            ranked = by_cost(ranked, coupling, dense, counted)
        part = 1 - wanted / have
        found = chosen(
            ranked,
            coupling,
            dense,
            macs=part if counted == "macs" else 0.0,
            parameters=part if counted == "parameters" else 0.0,
            limits=how.limits,
        )
        enough = found.reached >= part
        if blocks is None:
            blocks = _blocks(network, counted, coupling, dense, looked, ranked, how)
        name = _next_block(network, counted, wanted, blocks, found, enough, how)
        if not name:
            break
        network = _as_network(without_block(network, name, proof))
        blocks = {other: score for other, score in blocks.items() if other != name}
    if not enough:
        raise UsageError(
            f"{counted} cannot fall to {wanted:,.0f}: floors and caps of channels keep "
            f"{have * (1 - found.reached):,.0f}",
            "name a larger target",
        )
    return _as_network(remove(network, coupling, found.gone, proof))


def _as_network(module: nn.Module) -> nets.Network:
    assert isinstance(module, nets.Network)
    return module


def _blocks(
    network: nets.Network,
    counted: Counted,
    coupling: Coupling,
    dense: Cost,
    looked: Sequence[Layers],
    ranked: Sequence[Float64[np.ndarray, "channels"]],
    how: Trimming,
) -> dict[str, float]:
    """Return the score of each block that may go, comparable with those of channels."""
    if not how.settings.blocks or how.settings.ranking == "random" or not coupling.groups:
        return {}
    names = removable_blocks(network, how.proof)
    if how.settings.ranking == "taylor":
        taylor = combined(looked, coupling, "taylor", "literal")
    else:
        taylor = scores(network, coupling, "taylor", how.batches, across="literal")
    each = np.concatenate(
        [
            np.full(group.channels, saved(dense, coupling, group, counted), np.float64)
            for group in coupling.groups
        ]
    )
    price = float(sum(one.sum() for one in taylor)) / max(1.0, each.sum())
    known = np.concatenate(ranked)
    weights = np.isfinite(known) * (np.maximum(each, 1) if how.settings.by_cost else 1.0)
    mean = 1.0  # where no channel may go, blocks rank among themselves
    if weights.any():
        mean = float(np.average(np.where(weights > 0, known, 0.0), weights=weights))
    losses = block_losses(network, names, how.batches)
    found = {}
    for name, rise in losses.items():
        gone = dense.of(counted) - cost(lesioned(network, name), how.side).of(counted)
        if gone > 0 and price > 0:
            found[name] = max(0.0, rise) / gone / price * mean
    return found


def _next_block(
    network: nets.Network,
    counted: Counted,
    wanted: float,
    blocks: Mapping[str, float],
    found: Choice,
    enough: bool,
    how: Trimming,
) -> str:
    """Name the block that goes before the channels do; "" where none should."""
    ordered = sorted(blocks.items(), key=lambda item: item[1])
    for name, score in ordered:
        if enough and score > found.highest:
            return ""
        # Never further than asked for: a block may be a tenth of the whole network.
        left = cost(lesioned(network, name), how.side).of(counted)
        if left >= wanted:
            return name
    # Channels alone do not suffice, and every block takes more than what is still to go.
    return "" if enough or not ordered else ordered[0][0]


def smallest(network: nets.Network, how: Trimming) -> nets.Network:
    """Return what is left if all goes that may, unproved: it is for its cost alone."""
    if how.settings.blocks and how.settings.ranking != "random":
        for name in removable_blocks(network, how.proof):
            network = _as_network(lesioned(network, name))
    coupling = couple(network, how.side)
    ranked = [np.zeros(group.channels) for group in coupling.groups]
    if how.settings.ranking == "bn_scale":  # what no batch norm follows stays
        looked = layered(network, coupling, "bn_scale", how.batches, seed=how.seed)
        scored = combined(looked, coupling, "bn_scale", how.settings.across)
        ranked = [np.where(np.isfinite(one), 0.0, one) for one in scored]
    everything = sum(group.channels for group in coupling.groups) + 1
    found = chosen(ranked, coupling, cost(network, how.side), count=everything, limits=how.limits)
    return _as_network(cut(network, coupling, found.gone))


def trimmed_to_latency(
    network: nets.Network,
    wanted_ms: float,
    how: Trimming,
    latency: Callable[[nets.Network], float],
) -> nets.Network:
    """Return a smaller copy that is fast enough, and hardly faster than it must be.

    Its multiply-accumulates are looked for between those of the network and of the least that
    may be left: by turns where the straight line between both latencies says, which is right
    where a fixed time stands beside the layers', and halfway, where that line is bent.

    Args:
        network: stays as it is.
        wanted_ms: at most so many milliseconds.
        how: ranking, limits, pictures.
        latency: measures a network, or predicts it.

    Raises:
        UsageError: no network that may be left is fast enough.
    """
    slow = float(cost(network, how.side).macs), latency(network)
    if slow[1] <= wanted_ms:
        return copy.deepcopy(network)
    least = smallest(network, how)
    fast = float(cost(least, how.side).macs), latency(least)
    found: nets.Network | None = None
    aimed = wanted_ms * (1 + _CLOSER) / 2
    for number in range(_TRIES):
        if fast[1] > wanted_ms or fast[0] > _CLOSER * slow[0]:
            break
        part = 0.5 if number % 2 else min(1.0, (slow[1] - aimed) / (slow[1] - fast[1]))
        macs = slow[0] + part * (fast[0] - slow[0])
        smaller = trimmed(network, "macs", macs, how)
        took = latency(smaller)
        if took > wanted_ms:
            slow = float(cost(smaller, how.side).macs), took
            continue
        found, fast = smaller, (macs, took)
        if took >= _CLOSER * wanted_ms:
            break
    if found is None and fast[1] <= wanted_ms:  # all must go that may
        found = trimmed(network, "macs", fast[0], how)
        fast = fast[0], latency(found)
    if found is None or fast[1] > wanted_ms:
        raise UsageError(
            f"the network cannot be made as fast as {wanted_ms:g} ms: the smallest that floors "
            f"and caps of channels leave takes {fast[1]:.2f} ms",
            f"name latency={math.ceil(100 * fast[1]) / 100:g} or more",
        )
    return found
