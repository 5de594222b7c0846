"""Walk a traced graph and follow every channel through it.

Every channel that a convolution or a linear layer makes is an atom, and every
value says which atom lies at which position of its channel axis. A layer that
reads a position adds a slice of its weights to that atom; an addition makes one
atom of the two at the same position. What is not known to keep channels apart
makes its atoms stay, with the reason.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from jaxtyping import Int64
from torch import fx, nn

from sevenfold import nets
from sevenfold.practices.pruning.trace import Traced, owner

FILTER: Final = "filter"
DEPTHWISE: Final = "depthwise"
NORM: Final = "norm"
INPUT: Final = "input"
PADDING: Final = "padding"
SEEN: Final = "seen"


Places = Int64[np.ndarray, "places"]
Key = tuple[str, str, int, str]
"""Module, tensor, axis and role."""


@dataclass(frozen=True, slots=True)
class _Value:
    # `zero`: a channel whose filters and norms are zero is zero here.
    atoms: Int64[np.ndarray, "channels"]
    axis: int
    zero: bool = True


@dataclass(frozen=True, slots=True)
class _Unknown:
    reason: str


@dataclass
class Atoms:
    """Join atoms, keep why some stay, and the slices that belong to them."""

    parents: list[int] = field(default_factory=list)
    stay: dict[int, str] = field(default_factory=dict)
    slices: list[tuple[Key, Places]] = field(default_factory=list)

    def fresh(self, count: int) -> Places:
        """Return new atoms, each by itself."""
        start = len(self.parents)
        self.parents.extend(range(start, start + count))
        return np.arange(start, start + count)

    def root(self, atom: int) -> int:
        """Return the atom that stands for all that were joined with this one."""
        while self.parents[atom] != atom:
            self.parents[atom] = atom = self.parents[self.parents[atom]]
        return atom

    def join(self, first: Iterable[int], second: Iterable[int]) -> None:
        """Make one atom of each two at the same position."""
        for one, other in zip(first, second, strict=True):
            low, high = sorted((self.root(int(one)), self.root(int(other))))
            self.parents[high] = low
            if low != high and high in self.stay:
                self.stay.setdefault(low, self.stay.pop(high))

    def keep(self, atoms: Iterable[int], reason: str) -> None:
        """Let atoms stay; their first reason counts."""
        for atom in atoms:
            self.stay.setdefault(self.root(int(atom)), reason)

    def belong(self, atoms: Places, module: str, tensor: str, axis: int, role: str) -> None:
        """Let the positions of a tensor's axis belong to atoms, one each."""
        self.slices.append(((module, tensor, axis, role), atoms))


# fmt: off
_KEEPS_ZERO: Final = frozenset({
    "relu", "relu6", "hardtanh", "leaky_relu", "elu", "silu", "hardswish", "gelu", "tanh", "mish",
    "dropout", "feature_dropout", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d",
    "contiguous", "clone", "alias", "detach", "neg", "abs", "to", "_to_copy",
    "upsample_nearest2d", "upsample_bilinear2d",
})
_LOSES_ZERO: Final = frozenset({"sigmoid", "hardsigmoid", "exp", "softplus", "log_sigmoid"})
_POOLS: Final = frozenset({
    "adaptive_avg_pool2d", "mean", "flatten", "view", "reshape", "dropout", "squeeze",
})
# fmt: on
_AXES: Final = ("slice", "mean", "squeeze", "unsqueeze", "transpose", "permute")
_REASONS: Final = {
    "layer_norm": "LayerNorm mixes all channels: without one the others change",
    "group_norm": "GroupNorm mixes channels: without one the others change",
    "instance_norm": "an instance norm without running statistics follows",
    "scaled_dot_product_attention": "attention mixes what it reads",
    "softmax": "softmax mixes what it reads",
}


def operation(node: fx.Node) -> str:
    """Return the name of a node's operation, in place or not."""
    return str(getattr(node.target, "_opname", node.target)).rstrip("_")


def _shape(node: fx.Node) -> tuple[Any, ...]:
    return tuple(node.meta["val"].shape)


class _Walk:
    """Walk a traced graph and say of every value which atoms it holds."""

    def __init__(self, traced: Traced, network: nn.Module) -> None:
        self.traced = traced
        self.network = network
        self.atoms = Atoms()
        self.values: dict[str, _Value | _Unknown] = {}
        self.nodes: dict[str, fx.Node] = {}

    def graph(self) -> None:
        for node in self.traced.graph.nodes:
            self.nodes[node.name] = node
            if node.op == "placeholder" and node.name == self.traced.pixels:
                pixels = self.atoms.fresh(_shape(node)[1])
                self.atoms.keep(pixels, "")
                self.values[node.name] = _Value(pixels, 1)
            elif node.op == "output":
                for source in node.all_input_nodes:
                    self.refuse(source, "")
            elif self.read(node):  # what is computed from parameters alone is one, too
                self.values[node.name] = self.step(node)

    def step(self, node: fx.Node) -> _Value | _Unknown:
        name = operation(node)
        rules: dict[str, Callable[[fx.Node], _Value | _Unknown]] = {
            "conv2d": self.conv2d,
            "linear": self.linear,
            "batch_norm": self.batch_norm,
            "cat": self.cat,
            **dict.fromkeys(("add", "sub", "mul", "div"), self.elementwise),
            **dict.fromkeys(("flatten", "view", "reshape"), self.reshape),
            **dict.fromkeys(("pad", "constant_pad_nd"), self.pad),
            **dict.fromkeys(_AXES, self.axes),
        }
        if name in rules:
            return rules[name](node)
        value = self.values.get(node.all_input_nodes[0].name)
        alone = len(node.all_input_nodes) == 1 and name in _KEEPS_ZERO | _LOSES_ZERO
        if alone and isinstance(value, _Value):
            # Pools work on the last two axes.
            flat = name.endswith("2d") and value.axis >= len(_shape(node)) - 2
            if not flat:
                return _Value(value.atoms, value.axis, value.zero and name in _KEEPS_ZERO)
        return self.unknown(node, _REASONS.get(name, f"{name} is not known to keep channels apart"))

    # What the rules below are made of.

    def read(self, node: fx.Node) -> list[_Value | _Unknown]:
        return [self.values[one.name] for one in node.all_input_nodes if one.name in self.values]

    def given(self, node: fx.Node) -> tuple[Any, ...]:
        return node.args

    def value(self, node: fx.Node) -> _Value:
        found = self.values[node.name]
        assert isinstance(found, _Value)
        return found

    def elsewhere(self, node: fx.Node, axis: int) -> bool:
        found = self.values[node.name]
        return isinstance(found, _Value) and found.axis != axis

    def refuse(self, node: fx.Node, reason: str) -> None:
        found = self.values.get(node.name)
        if isinstance(found, _Value):
            self.atoms.keep(found.atoms, reason)

    def unknown(self, node: fx.Node, reason: str) -> _Unknown:
        for one in node.all_input_nodes:
            self.refuse(one, reason)
        return _Unknown(reason)

    def tensor(self, node: Any) -> tuple[str, str]:
        return self.traced.tensors.get(getattr(node, "name", ""), ("", ""))

    def made(self, node: fx.Node, weight: Any, bias: Any, axis: int, role: str) -> _Value:
        """Return fresh atoms for the rows of a weight."""
        fresh = self.atoms.fresh(_shape(weight)[0])
        self.rows(fresh, (weight, bias), role)
        return _Value(fresh, axis)

    def rows(self, atoms: Places, tensors: Iterable[Any], role: str) -> None:
        for one in tensors:
            if one is not None:
                self.atoms.belong(atoms, *self.tensor(one), 0, role)

    def reads(self, source: fx.Node, weight: Any) -> None:
        """Let the columns of a weight belong to the atoms that it reads."""
        found = self.values[source.name]
        if not isinstance(found, _Value):
            return
        if not found.zero:
            self.atoms.keep(found.atoms, "a channel of zeros is not zero where it is read")
        self.atoms.belong(found.atoms, *self.tensor(weight), 1, INPUT)
        # Rankings look at the map itself, not at what is left after the pool.
        while operation(source) in _POOLS and source.all_input_nodes:
            source = source.all_input_nodes[0]
        if isinstance(before := self.values.get(source.name), _Value):
            self.atoms.belong(before.atoms, "", source.name, before.axis, SEEN)

    # One rule for each kind of operation.

    def conv2d(self, node: fx.Node) -> _Value | _Unknown:
        source, weight, bias = (*self.given(node), None)[:3]
        groups = self.given(node)[6] if len(node.args) > 6 else 1
        count, width = _shape(weight)[:2]
        if self.tensor(weight) == ("", "") or self.elsewhere(source, 1):
            return self.unknown(node, "a computed weight, or channels on another axis")
        if groups == 1:
            self.reads(source, weight)
            return self.made(node, weight, bias, 1, FILTER)
        if groups == count and width == 1:
            if not isinstance(self.values[source.name], _Value):
                return self.values[source.name]
            value = self.value(source)
            if not value.zero:
                self.atoms.keep(value.atoms, "a channel of zeros is not zero where it is read")
            self.rows(value.atoms, (weight, bias), DEPTHWISE)
            return _Value(value.atoms, 1)
        reason = "a grouped convolution that is not depthwise"
        self.refuse(source, reason)
        made = self.made(node, weight, bias, 1, FILTER)
        self.atoms.keep(made.atoms, reason)
        return made

    def linear(self, node: fx.Node) -> _Value | _Unknown:
        source, weight, bias = (*self.given(node), None)[:3]
        last = len(_shape(node)) - 1
        if self.tensor(weight) == ("", "") or self.elsewhere(source, last):
            return self.unknown(node, "a computed weight, or channels on another axis")
        self.reads(source, weight)
        return self.made(node, weight, bias, last, FILTER)

    def batch_norm(self, node: fx.Node) -> _Value | _Unknown:
        source, *tensors = self.given(node)[:5]
        if not isinstance(self.values[source.name], _Value):
            return self.values[source.name]
        value = self.value(source)
        if any(one is None for one in tensors) or value.axis != 1:
            return self.unknown(node, "a batch norm without scale, shift or statistics")
        self.rows(value.atoms, tensors, NORM)
        return _Value(value.atoms, value.axis)

    def elementwise(self, node: fx.Node) -> _Value | _Unknown:
        name = operation(node)
        sources = [one for one in self.given(node)[:2] if isinstance(one, fx.Node)]
        if any(isinstance(self.values.get(one.name), _Unknown) for one in sources):
            return self.unknown(node, f"{name} with a value whose channels are not known")
        values = [self.value(one) for one in sources if one.name in self.values]
        if len(values) == 2:
            return self.both(node, sources, *values)
        first = values[0]
        if len(sources) == 2:  # the other one is a parameter
            other = next(one for one in sources if one.name not in self.values)
            shape = _shape(other)
            place = first.axis - len(_shape(node)) + len(shape)
            if place >= 0 and shape[place] > 1:
                self.atoms.keep(first.atoms, "a parameter of the network is applied to channels")
        divided = name == "div" and getattr(node.args[0], "name", "") in self.values
        keeps = name == "mul" or divided
        return _Value(first.atoms, first.axis, first.zero and keeps)

    def both(
        self, node: fx.Node, sources: Sequence[fx.Node], first: _Value, second: _Value
    ) -> _Value | _Unknown:
        same_axis = first.axis == second.axis and len({len(_shape(one)) for one in sources}) == 1
        if not same_axis or len(first.atoms) != len(second.atoms):
            return self.unknown(node, "values whose channels do not match are combined")
        self.atoms.join(first.atoms, second.atoms)
        name = operation(node)
        if name == "div":
            return self.unknown(node, "channels are divided by channels")
        zero = (first.zero or second.zero) if name == "mul" else (first.zero and second.zero)
        return _Value(first.atoms, first.axis, zero)

    def cat(self, node: fx.Node) -> _Value | _Unknown:
        found = [self.values.get(one.name, _Unknown("a parameter")) for one in self.given(node)[0]]
        axis = (self.given(node)[1] if len(node.args) > 1 else 0) % len(_shape(node))
        values = [one for one in found if isinstance(one, _Value)]
        if len(values) < len(found) or any(one.axis != axis for one in values):
            return self.unknown(node, "concatenated along another axis, or with the unknown")
        atoms = np.concatenate([one.atoms for one in values])
        return _Value(atoms, axis, all(one.zero for one in values))

    def reshape(self, node: fx.Node) -> _Value | _Unknown:
        source = node.all_input_nodes[0]
        if not isinstance(self.values[source.name], _Value):
            return self.values[source.name]
        value, before, after = self.value(source), _shape(source), _shape(node)
        # Behind the pictures' axis, channels come first: each becomes a run of positions.
        pictures_apart = str(before[0]) == str(after[0])
        if pictures_apart and value.axis == 1 and len(after) == 2:
            each = int(np.prod(before[2:]))
            if after[1] == before[1] * each:
                return _Value(np.repeat(value.atoms, each), 1, value.zero)
        same_channels = value.axis == 1 and after[1:2] == before[1:2]
        if pictures_apart and (same_channels or before[1:] == after[1:]):
            return value
        return self.unknown(node, "a reshape mixes channels with another axis")

    def pad(self, node: fx.Node) -> _Value | _Unknown:
        source, amounts, *others = self.given(node)
        if not isinstance(self.values[source.name], _Value):
            return self.values[source.name]
        value = self.value(source)
        # Amounts come in pairs, the last axis first.
        at = 2 * (len(_shape(node)) - 1 - value.axis)
        before, after = (*amounts[at : at + 2], 0, 0)[:2]
        filled = [one for one in others if isinstance(one, int | float)]
        zero = value.zero and not any(filled)
        if before == after == 0:
            return _Value(value.atoms, value.axis, zero)
        place = owner(node)
        block = self.network.get_submodule(place)
        if not isinstance(block, nets.Residual) or not zero:
            return self.unknown(node, "channels are padded by code that cannot be changed")
        padding = self.atoms.fresh(before + after)
        self.atoms.belong(padding, place, "padding", 0, PADDING)
        return _Value(np.concatenate([padding[:before], value.atoms, padding[before:]]), value.axis)

    def axes(self, node: fx.Node) -> _Value | _Unknown:
        """Slice, average, squeeze or exchange other axes than that of channels."""
        source, name = node.all_input_nodes[0], operation(node)
        if not isinstance(self.values[source.name], _Value):
            return self.values[source.name]
        value, size = self.value(source), len(_shape(source))
        if len(node.args) == 1:
            return self.unknown(node, f"{name} of all axes")
        given: Any = node.args[1]
        axes = [int(one) % size for one in (given if isinstance(given, list | tuple) else [given])]
        if name == "unsqueeze":
            at = int(given) % (size + 1)
            return _Value(value.atoms, value.axis + (at <= value.axis), value.zero)
        if name == "permute":
            return _Value(value.atoms, axes.index(value.axis), value.zero)
        if name == "transpose":
            pair = [axes[0], int(self.given(node)[2]) % size]
            swapped = pair[1 - pair.index(value.axis)] if value.axis in pair else value.axis
            return _Value(value.atoms, swapped, value.zero)
        same = name == "slice" and _shape(node) == _shape(source)
        if value.axis in axes and not same:
            return self.unknown(node, f"{name} takes channels apart")
        lost = 0 if len(_shape(node)) == size else sum(one < value.axis for one in axes)
        return _Value(value.atoms, value.axis - lost, value.zero)


def walk(traced: Traced, network: nn.Module) -> Atoms:
    """Follow the channels through a traced graph.

    Args:
        traced: graph of the network.
        network: tells which module's code pads a shortcut.
    """
    found = _Walk(traced, network)
    found.graph()
    return found.atoms
