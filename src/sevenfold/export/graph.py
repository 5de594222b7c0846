"""Build the graph that ships, from whole pictures to calibrated probabilities."""

from typing import Final

import numpy as np
import onnx
import torch
from jaxtyping import Float
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from sevenfold import nets
from sevenfold.features.trunk import to_onnx

OPSET: Final = 18  # the first whose Resize has antialias


class Shipped(nn.Module):
    """Run a network over resized pixels, with its mirror image if it is to vote.

    Args:
        network: whole.
        mirror: average the probabilities of the picture and its mirror image.
    """

    def __init__(self, network: nets.Network, mirror: bool) -> None:
        super().__init__()
        self.network = network
        self.mirror = mirror

    def forward(
        self, pixels: Float[Tensor, "batch 3 side side"]
    ) -> tuple[Float[Tensor, "batch classes"], Float[Tensor, "batch *features"]]:
        """Return logits and the last feature map."""
        features = self.network.features(pixels)
        logits = self.network.classify(features)
        if self.mirror:
            other = torch.log_softmax(self.network(pixels.flip(3)), dim=1)
            both = torch.stack([torch.log_softmax(logits, dim=1), other])
            logits = torch.logsumexp(both, dim=0) - float(np.log(2.0))
        return logits, features


def resizing(side: int) -> onnx.ModelProto:
    """Build the graph that resizes whole uint8 pictures to a square of float pixels.

    Linear with antialiasing and without pixels from beyond the border is Pillow's
    bilinear filter; rounding to whole grey levels leaves at most one of difference.

    Args:
        side: of the square.
    """
    ints = helper.make_tensor
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("Shape", ["channels"], ["lead"], start=0, end=2),
        helper.make_node("Concat", ["lead", "square"], ["sizes"], axis=0),
        helper.make_node(
            "Resize",
            ["channels", "", "", "sizes"],
            ["resized"],
            mode="linear",
            antialias=1,
            exclude_outside=1,
            coordinate_transformation_mode="half_pixel",
        ),
        helper.make_node("Round", ["resized"], ["pixels"]),
    ]
    graph = helper.make_graph(
        nodes,
        "resize",
        [
            helper.make_tensor_value_info(
                "image", TensorProto.UINT8, ["batch", "height", "width", 3]
            )
        ],
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, side, side])],
        [ints("square", TensorProto.INT64, [2], [side, side])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def _calibrating(classes: int, temperature: float) -> onnx.ModelProto:
    """Build the graph from raw logits to calibrated ones and probabilities."""
    nodes = [
        helper.make_node("Div", ["raw", "temperature"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    shape: list[str | int | None] = ["batch", classes]
    graph = helper.make_graph(
        nodes,
        "calibrate",
        [helper.make_tensor_value_info("raw", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape),
        ],
        [helper.make_tensor("temperature", TensorProto.FLOAT, [], [temperature])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def _flush(model: onnx.ModelProto) -> None:
    """Set denormal weights to zero: they slow some processors several times."""
    tiny = np.finfo(np.float32).tiny
    for weight in model.graph.initializer:
        if weight.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(weight)
            if ((values != 0) & (np.abs(values) < tiny)).any():
                flushed = np.where(np.abs(values) < tiny, 0, values).astype(np.float32)
                weight.CopyFrom(numpy_helper.from_array(flushed, weight.name))


def core(shipped: Shipped, side: int) -> onnx.ModelProto:
    """Export the network from float pixels to raw logits and features."""
    example = torch.linspace(0, 255, 2 * 3 * side * side).reshape(2, 3, side, side)
    model = onnx.load_from_string(to_onnx(shipped, example, ["net_pixels"], ["raw", "features"]))
    model = onnx.version_converter.convert_version(model, OPSET) if _opset(model) < OPSET else model
    _flush(model)
    return model


def _opset(model: onnx.ModelProto) -> int:
    return max(int(one.version) for one in model.opset_import if one.domain in ("", "ai.onnx"))


def _clean(model: onnx.ModelProto) -> None:
    """Remove what the exporter leaves behind: paths, Python source, repeated imports."""
    graph = model.graph
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    del graph.value_info[:], graph.metadata_props[:], model.metadata_props[:]
    imports = {one.domain: one.version for one in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*one) for one in imports.items())


def assemble(network: onnx.ModelProto, side: int, classes: int, temperature: float) -> bytes:
    """Join resizing, network and calibration to the graph that ships.

    Returns:
        A model from `image`, uint8 `[batch, height, width, 3]`, to
        `probabilities`, `logits` and `features`.
    """
    opset = _opset(network)
    before, after = resizing(side), _calibrating(classes, temperature)
    for part in (before, after):
        part.opset_import[0].version = opset
        part.ir_version = network.ir_version
    joined = onnx.compose.merge_models(
        onnx.compose.merge_models(
            before, network, io_map=[("pixels", "net_pixels")], outputs=["raw", "features"]
        ),
        after,
        io_map=[("raw", "raw")],
        outputs=["probabilities", "logits", "features"],
    )
    order = {"probabilities": 0, "logits": 1, "features": 2}
    outputs = sorted(joined.graph.output, key=lambda one: order[one.name])
    del joined.graph.output[:]
    joined.graph.output.extend(outputs)
    _clean(joined)
    joined.producer_name, joined.graph.name = "sevenfold", "classifier"
    onnx.checker.check_model(joined)
    return bytes(joined.SerializeToString())
