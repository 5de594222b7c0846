"""Find the layers of a graph, and time them and narrower ones, each in a file of its own."""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

from sevenfold.bench.onnx_bytes import layer
from sevenfold.latency import Sizes, Timer

SHARES: Final = (1.0, 0.75, 0.5, 0.25)
"""Of the channels: what pruning may leave of a layer."""
_CHUNK: Final = 8  # channels that pruning takes away together
_ROUNDS: Final = 30


@dataclass(frozen=True, slots=True)
class Layer:
    """Hold a layer as it stands in a graph.

    Args:
        inputs: channels that it reads.
        outputs: channels that it makes.
        groups: of a convolution; 1 for a matrix.
        kernel: height and width; empty for a matrix.
        before: height and width of what it reads; for a matrix the number of its rows.
        after: height and width of what it makes; for a matrix the number of its rows.
    """

    inputs: int
    outputs: int
    groups: int
    kernel: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def sizes(self) -> Sizes:
        """Return what a latency table knows it by."""
        kernel, positions = int(np.prod(self.kernel)), int(np.prod(self.after))
        return Sizes(self.inputs, self.outputs, self.groups, kernel, positions)

    def model(self) -> bytes:
        """Write it as an ONNX file, with random weights."""
        draw = np.random.default_rng(0)
        if not self.kernel:
            weights = draw.normal(size=(self.inputs, self.outputs)).astype(np.float32)
            return layer("MatMul", (*self.before, self.inputs), weights, {}, 2)
        shape = (self.outputs, self.inputs // self.groups, *self.kernel)
        strides = [max(1, round(b / a)) for b, a in zip(self.before, self.after, strict=True)]
        pads = [
            max(0, (after - 1) * stride + kernel - before)
            for before, after, stride, kernel in zip(
                self.before, self.after, strides, self.kernel, strict=True
            )
        ]
        return layer(
            "Conv",
            (1, self.inputs, *self.before),
            draw.normal(size=shape).astype(np.float32),
            {
                "group": self.groups,
                "strides": strides,
                "pads": [pad // 2 for pad in pads] + [pad - pad // 2 for pad in pads],
            },
            4,
        )


def found(model: bytes, side: int) -> Counter[Layer]:
    """Run a graph once and count its layers, from onnxruntime's own profile of it.

    Writes a temporary file.

    Args:
        model: a graph that ships.
        side: to which it resizes pictures.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(folder, "layers")
        # Layouts of one processor would change the shapes.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        session.run(None, {"image": np.zeros((1, side, side, 3), dtype=np.uint8)})
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    layers: Counter[Layer] = Counter()
    for event in events:
        given = event.get("args", {})
        if event.get("cat") == "Node" and "input_type_shape" in given:
            layers.update(_layer(given))
    return layers


def _layer(told: Mapping[str, Any]) -> list[Layer]:
    """Return the layer that an event of the profile is of, or nothing."""
    kind = told["op_name"]
    before, *others = (next(iter(one.values())) for one in told["input_type_shape"])
    (after, *_) = (next(iter(one.values())) for one in told["output_type_shape"])
    if kind in ("Conv", "FusedConv") and len(before) == 4:
        outputs, each, *kernel = others[0]
        groups = before[1] // each
        return [
            Layer(before[1], outputs, groups, tuple(kernel), tuple(before[2:]), tuple(after[2:]))
        ]
    # Weights that were packed at the start are not told of; a product of two pictures is no layer.
    matrix = not others or len(others[0]) <= 2
    if kind in ("Gemm", "FusedGemm", "MatMul", "FusedMatMul") and matrix:
        rows = (int(np.prod(after[:-1])),)
        return [Layer(before[-1], after[-1], 1, (), rows, rows)]
    return []


def narrowed(one: Layer, share: float) -> Layer:
    """Return the layer with a share of its channels, in whole chunks of eight; 1 is itself."""
    if share == 1:
        return one  # a head of ten classes is no whole chunk

    def less(channels: int) -> int:
        return min(channels, max(_CHUNK, _CHUNK * round(channels * share / _CHUNK)))

    if one.groups == 1:
        inputs = one.inputs if one.inputs < _CHUNK else less(one.inputs)
        return replace(one, inputs=inputs, outputs=less(one.outputs))
    if one.groups == one.inputs == one.outputs:
        return replace(
            one, inputs=less(one.inputs), outputs=less(one.outputs), groups=less(one.groups)
        )
    return one


def timed_layers(layers: Sequence[Layer], *, threads: int, timer: Timer) -> dict[Layer, float]:
    """Time layers and narrower ones; what a call costs without a layer is taken off.

    Returns:
        Milliseconds of each.
    """
    every = sorted({narrowed(one, share) for one in layers for share in SHARES}, key=str)
    nothing = Layer(1, 1, 1, (), (1,), (1,))
    models = [one.model() for one in (nothing, *every)]
    call, *times = np.median(timer(models, rounds=_ROUNDS, threads=threads), axis=1).tolist()
    return {one: max(ms - call, 0.0) for one, ms in zip(every, times, strict=True)}
