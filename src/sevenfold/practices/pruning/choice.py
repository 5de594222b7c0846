"""Choose which channels go: the lowest over all layers, in chunks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from jaxtyping import Float64

from sevenfold.practices.pruning.cost import Cost, remaining
from sevenfold.practices.pruning.coupling import Coupling, Group

CHUNKED_FROM: Final = 16
"""Channels from which a group keeps to multiples; smaller ones lose single channels."""


@dataclass(frozen=True)
class Limits:
    """Bound what may go from each group.

    Args:
        multiple: groups of at least `CHUNKED_FROM` channels keep a multiple of
            it: runtimes compute in blocks of 8 or 16 channels, and others leave
            their fast path.
        floor: channels that each group keeps at least, 1 or more.
        largest_share: of each group's dense channels that may go, 0 to 1.
        dense: channels of each group by name before anything went; groups that
            are not named count as dense. What went in earlier steps of a loop
            counts against `largest_share`, so that it holds over all of them.
    """

    multiple: int = 8
    floor: int = 8
    largest_share: float = 0.9
    dense: Mapping[str, int] = field(default_factory=dict)


USUAL: Final = Limits()


@dataclass(frozen=True, slots=True)
class _Chunk:
    group: str
    channels: tuple[int, ...]
    score: float


def _chunks(group: Group, scores: Float64[np.ndarray, "channels"], limits: Limits) -> list[_Chunk]:
    """Return a group's channels that may go, lowest first, as chunks."""
    count = group.channels
    dense = max(limits.dense.get(group.name, count), count)
    step = limits.multiple if dense >= CHUNKED_FROM else 1
    # A float product just below a whole number must not cost a channel.
    keep = max(limits.floor, dense - int(dense * limits.largest_share + 1e-9), 1)
    order = np.argsort(scores, kind="stable")
    chunks: list[_Chunk] = []
    at = 0
    while True:
        # The first chunk leads to a multiple where the dense count is none.
        size = (count - at) % step or step
        if count - at - size < keep or not np.isfinite(scores[order[at : at + size]]).all():
            return chunks
        picked = order[at : at + size]
        chunks.append(_Chunk(group.name, tuple(picked.tolist()), float(scores[picked].mean())))
        at += size


@dataclass(frozen=True, slots=True)
class Choice:
    """Hold the channels that go.

    Args:
        gone: for each group that loses any, by name, its channels in rising order.
        reached: channels, or share of what the target counts, that goes with them.
        highest: score of the best chunk among them.
    """

    gone: dict[str, tuple[int, ...]]
    reached: float
    highest: float


def chosen(
    scores: Sequence[Float64[np.ndarray, "channels"]],
    coupling: Coupling,
    dense: Cost,
    *,
    count: int = 0,
    macs: float = 0.0,
    parameters: float = 0.0,
    limits: Limits = USUAL,
) -> Choice:
    """Choose the channels that go, the lowest scores over all groups first.

    A chunk is as good as the mean of its channels. Chunks go until the target is reached;
    where it is out of reach, all go that may. Where the last to go is large, others need not
    have gone: from the highest down, each comes back without which the target is reached still.

    Args:
        scores: for each group of the coupling, of each channel; an infinite one stays.
        coupling: of the network.
        dense: cost of the network that the coupling is of.
        count: channels that go, 0 or more; one of these three is above 0.
        macs: share of the multiply-accumulates that goes, 0 to below 1.
        parameters: share of the parameters that goes, 0 to below 1.
        limits: what may go from each group.
    """
    chunks = [
        chunk
        for group, values in zip(coupling.groups, scores, strict=True)
        for chunk in _chunks(group, values, limits)
    ]
    wanted, reached = count or macs or parameters, 0.0
    taken: list[_Chunk] = []
    for chunk in sorted(chunks, key=lambda one: one.score):
        taken.append(chunk)
        reached = _reached(_joined(taken), coupling, dense, count, macs)
        if reached >= wanted:
            break
    kept: set[str] = set()  # groups one of whose chunks must go: so must those below it
    for chunk in reversed(taken[:-1]) if reached >= wanted else ():
        if chunk.group in kept or chunk.group == taken[-1].group:
            continue
        fewer = [one for one in taken if one is not chunk]
        left = _reached(_joined(fewer), coupling, dense, count, macs)
        if left >= wanted:
            taken, reached = fewer, left
        else:
            kept.add(chunk.group)
    highest = max((one.score for one in taken), default=0.0)
    return Choice(_joined(taken), reached, highest)


def _joined(taken: Sequence[_Chunk]) -> dict[str, tuple[int, ...]]:
    """Return the channels of chunks by group, in rising order."""
    gone: dict[str, list[int]] = {}
    for chunk in taken:
        gone.setdefault(chunk.group, []).extend(chunk.channels)
    return {name: tuple(sorted(channels)) for name, channels in gone.items()}


def _reached(
    gone: Mapping[str, Sequence[int]], coupling: Coupling, dense: Cost, count: int, macs: float
) -> float:
    counts = {name: len(channels) for name, channels in gone.items()}
    if count:
        return sum(counts.values())
    left = remaining(dense, coupling, counts)
    if macs:
        return 1 - left.macs / dense.macs
    return 1 - left.parameters / dense.parameters
