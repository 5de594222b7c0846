"""Give a graph the outputs that a place without numpy needs: distance and evidence.

Both follow from the last features, as `unknown.distances` and `maps.class_map` compute them.
"""

from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sevenfold import maps
from sevenfold.bundles import Bundle
from sevenfold.unknown import Detector

DISTANCE: Final = "distance"
EVIDENCE: Final = "evidence"
_TINY: Final = 1e-12


def extended(bundle: Bundle) -> bytes:
    """Return a bundle's graph with `distance` and `evidence`, as far as it knows them.

    Args:
        bundle: whose detector and head are put into its graph.

    Returns:
        A model that gives, beside what it gave, `distance` `[batch]` where there is a
        detector, and `evidence` `[batch, classes, rows, columns]` where there are maps.
    """
    model = onnx.load_from_string(bundle.model)
    features = next(one for one in model.graph.output if one.name == "features")
    rank = len(features.type.tensor_type.shape.dim)
    if bundle.detector.score != "none":
        _add_distance(_Appended(model.graph, DISTANCE), bundle.detector, rank)
    if maps.known(bundle.card, bundle.detector.weight, rank):
        _add_evidence(_Appended(model.graph, EVIDENCE), bundle.detector)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def names(model: bytes) -> tuple[str, ...]:
    """Name what a graph gives."""
    return tuple(one.name for one in onnx.load_from_string(model).graph.output)


@final
@dataclass(frozen=True, eq=False, slots=True)
class _Appended:
    """Append nodes to a graph whose names all begin with that of the output."""

    graph: onnx.GraphProto
    output: str

    def held(self, name: str, values: Any, kind: type = np.float32) -> str:
        """Keep numbers in the graph."""
        full = f"{self.output}.{name}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(values, kind), full))
        return full

    def node(self, kind: str, *inputs: str, gives: str = "", **settings: Any) -> str:
        """Compute one tensor."""
        full = gives or f"{self.output}.{len(self.graph.node)}"
        self.graph.node.append(helper.make_node(kind, inputs, [full], **settings))
        return full

    def add_output(self, *shape: str | int) -> None:
        """Make it an output."""
        value = helper.make_tensor_value_info(self.output, TensorProto.FLOAT, ["batch", *shape])
        self.graph.output.append(value)


def _add_distance(to: _Appended, detector: Detector, rank: int) -> None:
    """Compute 1 - the largest cosine with a class's mean, or the free energy of the logits."""
    vectors, across = "features", to.held("across", [1], np.int64)
    if rank > 2:  # a map of channels, or the tokens of a transformer
        places = to.held("places", [2, 3] if rank == 4 else [1], np.int64)
        vectors = to.node("ReduceMean", vectors, places, keepdims=0)
    if detector.score == "centroid":
        lengths = np.linalg.norm(detector.centroids, axis=1, keepdims=True)
        rows = (detector.centroids / np.maximum(lengths, _TINY))[lengths[:, 0] > 0]
        size = to.node("ReduceL2", vectors, across, keepdims=1)
        size = to.node("Max", size, to.held("tiny", _TINY))
        cosines = to.node("MatMul", to.node("Div", vectors, size), to.held("rows", rows.T))
        nearest = to.node("ReduceMax", cosines, across, keepdims=0)
        to.node("Sub", to.held("one", 1), nearest, gives=DISTANCE)
    else:
        products = to.node("MatMul", vectors, to.held("weight", detector.weight.T))
        logits = to.node("Add", products, to.held("bias", detector.bias))
        to.node("Neg", to.node("ReduceLogSumExp", logits, across, keepdims=0), gives=DISTANCE)
    to.add_output()


def _add_evidence(to: _Appended, detector: Detector) -> None:
    """Compute the part above zero of each place's summand in each logit, by a 1 by 1 layer."""
    kernel = to.held("weight", detector.weight[:, :, None, None])
    summands = to.node("Conv", "features", kernel)
    shape = to.node("Shape", summands, start=2)
    places = to.node("Cast", to.node("ReduceProd", shape, keepdims=0), to=TensorProto.FLOAT)
    to.node("Relu", to.node("Div", summands, places), gives=EVIDENCE)
    to.add_output(len(detector.weight), "rows", "columns")
