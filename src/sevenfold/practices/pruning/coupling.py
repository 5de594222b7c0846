"""Find out which channels of a network must go together.

The same idea as DepGraph (Fang et al. 2023, arXiv 2301.12900), which builds a
graph of layers; here positions are followed (see `walk`), so that
concatenation, flattening, squeeze-and-excitation and shortcuts padded with zeros
need no case of their own.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Int64
from torch import nn

from sevenfold.practices.pruning.trace import trace
from sevenfold.practices.pruning.walk import FILTER, Atoms, Key, Places, walk

_REASONS: Final = 3  # that a sentence names


@dataclass(frozen=True, slots=True)
class Member:
    """Name the slices of one tensor that belong to the channels of a group.

    Args:
        module: that holds the tensor; "" for the network itself.
        tensor: its name in the module, such as `weight`; `padding` for the zero
            channels of a shortcut; for `SEEN` the traced value that the next
            layers read.
        axis: of the tensor.
        role: `FILTER` (rows that make the channel), `DEPTHWISE`, `NORM`,
            `INPUT` (columns that read it), `PADDING` or `SEEN`.
        places: of each channel along the axis.
    """

    module: str
    tensor: str
    axis: int
    role: str
    places: Int64[np.ndarray, "channels each"]


@dataclass(frozen=True, slots=True)
class Group:
    """Hold channels that are alike; of each, all slices go or none.

    Args:
        name: of the module that makes the channels first.
        channels: how many there are.
        members: all slices, whose `places` have one row a channel.
    """

    name: str
    channels: int
    members: tuple[Member, ...]

    def of(self, role: str) -> tuple[Member, ...]:
        """Return the members of one role."""
        return tuple(one for one in self.members if one.role == role)


@dataclass(frozen=True, slots=True)
class Refused:
    """Say why channels stay.

    Args:
        name: of the module that makes them first.
        channels: how many there are.
        reason: one line.
    """

    name: str
    channels: int
    reason: str


@dataclass(frozen=True)
class Coupling:
    """Hold what may be removed from a network and what not.

    Args:
        side: of the pictures that the network was traced for, in pixels.
        groups: channels that may go.
        refused: channels that stay because nothing proves that they may go.
    """

    side: int
    groups: tuple[Group, ...]
    refused: tuple[Refused, ...]

    @property
    def reasons(self) -> str:
        """Say why channels stay: three reasons, those of the most channels first; "" of none."""
        counts: Counter[str] = Counter()
        for one in self.refused:
            counts[one.reason] += one.channels
        return "; ".join(f"{why} ({count:,})" for why, count in counts.most_common(_REASONS))

    def group(self, name: str) -> Group:
        """Return the group of a name; KeyError where there is none."""
        return {one.name: one for one in self.groups}[name]


def couple(network: nn.Module, side: int) -> Coupling:
    """Find out which channels must go together, and which cannot go.

    Args:
        network: maps pictures to logits; a convolution in it may be plain or
            depthwise, and channels may be normed by batch norms, added,
            concatenated, multiplied, pooled and flattened.
        side: of the pictures, in pixels.

    Raises:
        UsageError: the network cannot be traced.

    Example:
        >>> from sevenfold import nets
        >>> found = couple(nets.small("plain20", 10), 32)
        >>> found.groups[0].name, found.groups[0].channels
        ('blocks.0.0.0', 16)
    """
    return _sorted(walk(trace(network, side), network), side)


def _sorted(atoms: Atoms, side: int) -> Coupling:
    """Put joined atoms with slices in the same tensors into one group."""
    merged: dict[Key, Places] = {}
    for key, places in atoms.slices:
        # The same tensor read twice (shared layers) joins what it reads.
        if key in merged:
            atoms.join(merged[key], places)
        merged.setdefault(key, places)
    roots = np.array([atoms.root(one) for one in range(len(atoms.parents))])
    signature: dict[int, list[tuple[int, int]]] = {}
    for number, places in enumerate(merged.values()):
        for root, count in zip(*np.unique(roots[places], return_counts=True), strict=True):
            signature.setdefault(int(root), []).append((number, int(count)))
    alike: dict[tuple[tuple[tuple[int, int], ...], str | None], list[int]] = {}
    for root in sorted(signature):
        alike.setdefault((tuple(signature[root]), atoms.stay.get(root)), []).append(root)
    groups: list[Group] = []
    refused: list[Refused] = []
    keys = list(merged)
    for (parts, reason), members in alike.items():
        tensors = [(keys[number], roots[merged[keys[number]]], count) for number, count in parts]
        made = [key[0] for key, _, _ in tensors if key[3] == FILTER]
        if not made or reason == "":  # zeros, pixels and logits
            continue
        if reason is not None:
            refused.append(Refused(made[0], len(members), reason))
            continue
        found = tuple(
            Member(*key, np.stack([np.flatnonzero(held == root) for root in members]))
            for key, held, _ in tensors
        )
        taken = sum(one.name.partition("#")[0] == made[0] for one in groups)
        name = f"{made[0]}#{taken + 1}" if taken else made[0]
        groups.append(Group(name, len(members), found))
    return Coupling(side, tuple(groups), tuple(refused))
