"""Quantise a graph's network to 8-bit integers, with the types that a processor is fast at.

Static quantisation as QuantizeLinear and DequantizeLinear pairs, weights by channel (Jacob
et al. 2018, arXiv 1712.05877; Krishnamoorthi 2018, arXiv 1806.08342): the scale of each
activation is measured on training pictures. Resize, normalisation, the last layer and the
softmax stay float.
"""

import contextlib
import io
import logging
import platform
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import onnx
from jaxtyping import UInt8
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from sevenfold.errors import GateRefused

CALIBRATION_PICTURES: Final = 128
_OPERATORS: Final = ("Conv", "Gemm", "MatMul", "Add", "Clip", "Relu")


@final
@dataclass(frozen=True, slots=True)
class Types:
    """Hold what a processor multiplies fast.

    Args:
        activations: `uint8` or `int8`.
        weights: `uint8` or `int8`.
        seven_bits: weights use seven bits: sums of two products of eight do not fit the 16
            bits that x86 without VNNI adds them in, and would be cut off.
    """

    activations: str
    weights: str
    seven_bits: bool


PROCESSORS: Final = {
    "x86": Types("uint8", "int8", True),
    "x86-vnni": Types("uint8", "int8", False),
    "arm64": Types("int8", "int8", False),
}
_KINDS: Final = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}


def here() -> str:
    """Name this processor's kind: a key of `PROCESSORS`. Reads /proc/cpuinfo where it exists.

    x86 of which nothing more is known is taken for one without VNNI.
    """
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "arm64"
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        text = ""
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return "x86-vnni" if {"avx512_vnni", "avx_vnni"} & set(flags) else "x86"


def measurable(processor: str) -> bool:
    """Return whether what is made for a processor is as fast on this one.

    Seven bits for an x86 without VNNI are fast where there is VNNI, which says nothing.
    """
    return processor == here()


def quantised(
    model: bytes, pictures: Iterable[UInt8[np.ndarray, "height width 3"]], processor: str
) -> bytes:
    """Quantise a graph that ships. Writes to a temporary folder.

    Args:
        model: with the input `image`.
        pictures: training pictures, of any size, that scales are measured on.
        processor: a key of `PROCESSORS`.

    Raises:
        GateRefused: the graph has nothing to quantise.
    """
    graph = onnx.load_from_string(model)
    for at, node in enumerate(graph.graph.node):
        node.name = f"{node.op_type}_{at}"  # exporters name some twice
    chosen = _network(graph)
    if not chosen:
        raise GateRefused(
            "the model has no layer that can be quantised", "ship it as it is: --to onnx"
        )
    types = PROCESSORS[processor]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, _quiet():
        out = Path(folder) / "int8.onnx"
        quantize_static(
            graph,
            out,
            _Reader(pictures),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_OPERATORS),
            nodes_to_quantize=chosen,
            per_channel=True,
            reduce_range=types.seven_bits,
            activation_type=_KINDS[types.activations],
            weight_type=_KINDS[types.weights],
        )
        made = onnx.load(out)
    made.producer_name, made.producer_version = "sevenfold", ""
    del made.metadata_props[:]
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def _network(model: onnx.ModelProto) -> list[str]:
    """Name the operators from the first layers to the last, which stay float themselves.

    Several networks that vote have a first and a last layer each.
    """
    nodes, layers = model.graph.node, ("Conv", "Gemm", "MatMul")
    behind: set[str] = set()  # values that a layer has been applied to
    before: set[str] = set()  # values that a layer is still applied to
    within: set[str] = set()
    for node in nodes:
        if node.op_type in layers or behind & set(node.input):
            behind |= set(node.output)
            within.add(node.name)
    names = []
    for node in reversed(nodes):
        if before & set(node.output):
            if node.op_type in _OPERATORS and node.name in within:
                names.append(node.name)
            before |= set(node.input)
        elif node.op_type in layers:
            before |= set(node.input)
    return names[::-1]


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feed pictures to the calibration."""

    def __init__(self, pictures: Iterable[UInt8[np.ndarray, "height width 3"]]) -> None:
        self.pictures = iter(pictures)

    def get_next(self) -> dict[str, Any] | None:
        picture = next(self.pictures, None)
        return None if picture is None else {"image": picture[np.newaxis]}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the quantiser's advice; our gate checks the result."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(before)
