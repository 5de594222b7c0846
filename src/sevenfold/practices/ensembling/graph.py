"""Put members and their vote into one graph that computes nothing twice.

Members that share a frozen trunk share its weights and nodes to the bit. Numbering
values (Cocke & Schwartz 1970) finds that without being told where the cut is: going
through all members in topological order, a weight or node whose content, operation,
inputs and attributes are known already becomes the known one. The trunk is then stored
and run once, and so is whatever else members happen to share.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx
from jaxtyping import Float64, Real
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

from sevenfold.errors import GateRefused
from sevenfold.practices.ensembling.votes import LEAST, TIE

INPUT: Final = "net_pixels"


def voting(
    cores: Sequence[onnx.ModelProto], weights: Real[np.ndarray, " members"], vote: str
) -> onnx.ModelProto:
    """Join members' networks and their vote to one network with the same ends.

    Computes `votes.pool` in single precision.

    Args:
        cores: each from `net_pixels` to `raw` (logits) and `features`, with one opset.
        weights: at least 0, not all 0; members of weight 0 are left out.
        vote: one of `VOTES`.

    Returns:
        A network from `net_pixels` to `raw`, the vote's log-probabilities, and `features`
        of the first member that has a say.

    Raises:
        GateRefused: a network holds branches, functions or another opset.
    """
    share = np.asarray(weights, np.float64)
    kept = [core for core, weight in zip(cores, share, strict=True) if weight > 0]
    _check(kept)
    numbered = _Numbered()
    ends = [numbered.add(core) for core in kept]
    nodes, constants = _vote(
        [end["raw"] for end in ends], share[share > 0] / share.sum(), vote, _classes(kept[0])
    )
    nodes.append(helper.make_node("Identity", [ends[0]["features"]], ["features"]))
    graph = helper.make_graph(
        [*numbered.nodes, *nodes],
        "ensemble",
        list(kept[0].graph.input),
        list(kept[0].graph.output),
        [*numbered.weights, *constants],
    )
    return helper.make_model(
        graph, opset_imports=list(kept[0].opset_import), ir_version=kept[0].ir_version
    )


class _Numbered:
    # Nodes and weights of all graphs added so far, each once. Names are numbers given
    # in order, so that the same members give the same file.

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self._known: dict[bytes, list[str]] = {}
        self._count = 0

    def add(self, model: onnx.ModelProto) -> dict[str, str]:
        """Add a graph and return what its names are called here."""
        names = {"": "", INPUT: INPUT}
        for weight in model.graph.initializer:
            key = _weight_key(weight)
            if key not in self._known:
                self._known[key] = self._fresh(1)
                self.weights.append(TensorProto())
                self.weights[-1].CopyFrom(weight)
                self.weights[-1].name = self._known[key][0]
            names[weight.name] = self._known[key][0]
        for node in model.graph.node:
            inputs = [names[name] for name in node.input]
            key = _node_key(node, inputs)
            if key not in self._known:
                fresh = self._fresh(len(node.output))
                self._known[key] = [
                    new if old else "" for new, old in zip(fresh, node.output, strict=True)
                ]
                self.nodes.append(NodeProto())
                self.nodes[-1].CopyFrom(node)
                self.nodes[-1].name = ""
                del self.nodes[-1].input[:], self.nodes[-1].output[:]
                self.nodes[-1].input.extend(inputs)
                self.nodes[-1].output.extend(self._known[key])
            names.update(zip(node.output, self._known[key], strict=True))
        return names

    def _fresh(self, count: int) -> list[str]:
        self._count += count
        return [f"v{number}" for number in range(self._count - count, self._count)]


def _weight_key(weight: TensorProto) -> bytes:
    values = numpy_helper.to_array(weight)
    about = f"weight {weight.data_type} {list(weight.dims)} ".encode()
    return hashlib.blake2b(about + values.tobytes(), digest_size=16).digest()


def _node_key(node: NodeProto, inputs: Sequence[str]) -> bytes:
    state = hashlib.blake2b(digest_size=16)
    present = [bool(name) for name in node.output]
    state.update(repr(("node", node.domain, node.op_type, list(inputs), present)).encode())
    for one in sorted(node.attribute, key=lambda attribute: attribute.name):
        plain = AttributeProto()
        plain.CopyFrom(one)
        plain.doc_string = ""
        state.update(plain.SerializeToString(deterministic=True))
    return state.digest()


def _check(cores: Sequence[onnx.ModelProto]) -> None:
    opsets = {tuple(sorted((one.domain, one.version) for one in c.opset_import)) for c in cores}
    inner = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
    if (
        len(opsets) > 1
        or any(core.functions for core in cores)
        or any(
            one.type in inner
            for core in cores
            for node in core.graph.node
            for one in node.attribute
        )
    ):
        raise GateRefused(
            "the members' networks cannot be joined to one file: they hold branches or "
            "functions, or were exported for different versions of ONNX",
            "set ensembling.distil=true to ship one model, or use another backbone",
        )


def _classes(core: onnx.ModelProto) -> int:
    (raw,) = (one for one in core.graph.output if one.name == "raw")
    return int(raw.type.tensor_type.shape.dim[1].dim_value)


def _vote(
    logits: Sequence[str], share: Float64[np.ndarray, "members"], vote: str, classes: int
) -> tuple[list[NodeProto], list[TensorProto]]:
    """Build the nodes from members' logits to `raw`, and their constants."""
    constants: dict[str, Any] = {"vote_0": np.array([0], np.int64)}

    def named(name: str, values: object) -> str:
        constants[name] = np.asarray(values, np.float32)
        return name

    make = helper.make_node
    each = [f"vote_each{number}" for number in range(len(logits))]
    nodes = [
        *(make("Unsqueeze", [one, "vote_0"], [to]) for one, to in zip(logits, each, strict=True)),
        make("Concat", each, ["vote_logits"], axis=0),
        make("LogSoftmax", ["vote_logits"], ["vote_log_p"], axis=2),
    ]
    column = share[:, None, None]
    if vote == "logit":
        nodes += [
            make("Mul", ["vote_log_p", named("vote_weights", column)], ["vote_shares"]),
            make("ReduceSum", ["vote_shares", "vote_0"], ["vote_sum"], keepdims=0),
            make("LogSoftmax", ["vote_sum"], ["raw"], axis=1),
        ]
    else:
        mean = "vote_mean" if vote == "hard" else "raw"
        nodes += [
            make("Add", ["vote_log_p", named("vote_log_weights", np.log(column))], ["vote_joint"]),
            make("ReduceLogSumExp", ["vote_joint", "vote_0"], [mean], keepdims=0),
        ]
    if vote == "hard":
        constants["vote_classes"] = np.array(classes, np.int64)
        nodes += [
            make("ArgMax", ["vote_logits"], ["vote_answers"], axis=2, keepdims=0),
            make(
                "OneHot",
                ["vote_answers", "vote_classes", named("vote_off_on", [0, 1])],
                ["vote_ballots"],
            ),
            make("Mul", ["vote_ballots", named("vote_votes", (1 - TIE) * column)], ["vote_shares"]),
            make("ReduceSum", ["vote_shares", "vote_0"], ["vote_counted"], keepdims=0),
            make("Exp", ["vote_mean"], ["vote_mean_p"]),
            make("Mul", ["vote_mean_p", named("vote_tie", TIE)], ["vote_breaks"]),
            make("Add", ["vote_counted", "vote_breaks"], ["vote_p"]),
            make("Max", ["vote_p", named("vote_least", LEAST)], ["vote_floored"]),
            make("Log", ["vote_floored"], ["raw"]),
        ]
    return nodes, [numpy_helper.from_array(value, name) for name, value in constants.items()]
