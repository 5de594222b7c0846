"""Turn a fitted network into a bundle, and refuse one that answers differently.

The exported graph takes the whole picture as uint8 and does everything else
itself: it resizes to the network's side as training did, normalises, runs the
network, divides by the temperature. What is scored is what ships.
"""

import base64
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
import torch
from jaxtyping import Float, Float64
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import Tensor, nn

from sevenfold import nets, unknown
from sevenfold.data import Dataset
from sevenfold.errors import GateRefused
from sevenfold.features.store import disk_full
from sevenfold.features.trunk import session, to_onnx
from sevenfold.place import narrowed

OPSET: Final = 18  # the first whose Resize has antialias
LARGEST_DIFFERENCE: Final = 1e-4
"""By how much a probability of the exported graph may differ from PyTorch's."""
_AT_ONCE: Final = 4
"""Pictures for PyTorch on a CPU: the maps of 32 leave its caches (benchmarks/trunk_engines.py)."""


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


def run(
    opened: onnxruntime.InferenceSession,
    dataset: Dataset,
    pictures: Sequence[int],
    outputs: list[str],
    threads: int,
) -> list[np.ndarray[Any, Any]]:
    """Run a graph over pictures of a data set, one by one, and stack each output."""

    def one(index: int) -> list[np.ndarray[Any, Any]]:
        found = opened.run(outputs, {"image": dataset.decode(index)[None]})
        return [np.asarray(part[0]) for part in found]

    with ThreadPoolExecutor(threads) as executor:
        rows = list(executor.map(one, pictures))
    return [np.stack(part) for part in zip(*rows, strict=True)]


def answers(
    model: bytes, dataset: Dataset, pictures: Sequence[int], threads: int
) -> Float64[np.ndarray, "pictures classes"]:
    """Ask a graph that ships about pictures of a data set."""
    (found,) = run(session(model, 1), dataset, pictures, ["probabilities"], threads)
    return np.asarray(found, np.float64)


def seen(
    opened: onnxruntime.InferenceSession, dataset: Dataset, pictures: Sequence[int], threads: int
) -> tuple[Float[np.ndarray, "pictures classes"], Float[np.ndarray, "pictures channels"]]:
    """Run a graph over pictures; of the last features, only their mean is kept."""

    def one(index: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        return looked(opened, dataset.decode(index))

    with ThreadPoolExecutor(threads) as executor:
        rows = list(executor.map(one, pictures))
    probabilities, vectors = (np.stack(part) for part in zip(*rows, strict=True))
    return probabilities, vectors


def looked(
    opened: onnxruntime.InferenceSession, pixels: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Run a graph over one picture; return its probabilities and its pooled features."""
    shares, features = opened.run(["probabilities", "features"], {"image": pixels[None]})
    return np.asarray(shares[0]), unknown.pooled(np.asarray(features[0]))


@torch.inference_mode()
def linear_head(
    network: nets.Network, side: int
) -> tuple[Float[np.ndarray, "classes channels"], Float[np.ndarray, " classes"]]:
    """Return the head's rows and bias if logits are linear in the mean of the last feature map.

    That is tried out on random feature maps, so that no layer between needs to be known.

    Returns:
        No rows where it is not so.
    """
    nothing = np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
    shape = network.features(torch.zeros(1, 3, side, side)).shape[1:]
    if len(shape) != 3 or network.head.in_features != shape[0]:
        return nothing
    noise = torch.Generator().manual_seed(0)
    maps = torch.randn(4, *shape, generator=noise)
    linear = network.head(maps.mean(dim=(2, 3)))
    if not torch.allclose(network.classify(maps), linear, rtol=1e-3, atol=1e-4):
        return nothing
    head = network.head
    return head.weight.detach().numpy().copy(), head.bias.detach().numpy().copy()


def network_vectors(
    network: nets.Network, dataset: Dataset, pictures: Sequence[int], *, side: int, threads: int
) -> Float[np.ndarray, "pictures channels"]:
    """Run a trained network in PyTorch as `network_logits` does; return the pooled features."""
    network = network.eval().to(memory_format=torch.channels_last)

    def ask(pixels: Tensor) -> np.ndarray[Any, Any]:
        return np.stack([unknown.pooled(one.numpy()) for one in network.features(pixels)])

    return _asked(ask, dataset, pictures, side, threads)


def selftest(model: bytes) -> bytes:
    """Make `selftest.json`: a made-up picture, and the probabilities that the graph gives it."""
    rows, columns = np.mgrid[:96, :128]
    waves = [np.sin(rows / a) + np.cos(columns / b) for a, b in ((7, 11), (13, 5), (23, 17))]
    pixels = np.stack([np.rint(127.5 + 63 * one) for one in waves], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    (shares,) = session(model, 1).run(["probabilities"], {"image": pixels[None]})
    facts = {
        "schema": "sevenfold.selftest/1",
        "picture": base64.b64encode(file.getvalue()).decode(),
        "probabilities": np.asarray(shares[0]).tolist(),
    }
    return json.dumps(facts).encode()


@dataclass(frozen=True, slots=True)
class Agreement:
    """Say how well two tables of probabilities agree.

    Args:
        pictures: compared.
        top1: share with the same answer, or whose top two differ by no more than the bound.
        same: share with the same answer.
        largest_difference: of any probability.
    """

    pictures: int
    top1: float
    same: float
    largest_difference: float


def network_logits(
    shipped: Shipped, dataset: Dataset, pictures: Sequence[int], *, side: int, threads: int
) -> Float[np.ndarray, "pictures classes"]:
    """Run the trained network in PyTorch over the graph's own resized pixels."""
    # Channels last: half the time on a CPU, the same numbers.
    shipped = shipped.to(memory_format=torch.channels_last)

    def ask(pixels: Tensor) -> np.ndarray[Any, Any]:
        return np.asarray(shipped(pixels)[0].numpy())

    return _asked(ask, dataset, pictures, side, threads)


def _asked(
    ask: Callable[[Tensor], np.ndarray[Any, Any]],
    dataset: Dataset,
    pictures: Sequence[int],
    side: int,
    threads: int,
) -> np.ndarray[Any, Any]:
    """Ask about pictures as the graph resizes them, a few at a time in each thread."""
    resize = session(resizing(side).SerializeToString(), 1)

    def few(start: int) -> np.ndarray[Any, Any]:
        some = pictures[start : start + _AT_ONCE]
        (pixels,) = run(resize, dataset, some, ["pixels"], 1)
        with torch.inference_mode():
            return ask(torch.from_numpy(pixels))

    with narrowed(1), ThreadPoolExecutor(threads) as executor:
        return np.concatenate(list(executor.map(few, range(0, len(pictures), _AT_ONCE))))


def parity(
    ours: Float[np.ndarray, "pictures classes"], theirs: Float[np.ndarray, "pictures classes"]
) -> Agreement:
    """Hold the graph's probabilities against the trained network's.

    Args:
        ours: from the exported graph.
        theirs: from the network, with the same temperature.

    Raises:
        GateRefused: an answer differs, or a probability by more than 1e-4.
    """
    found = agreement(ours, theirs, tie=LARGEST_DIFFERENCE)
    if found.top1 < 1 or found.largest_difference > LARGEST_DIFFERENCE:
        raise GateRefused(
            f"the exported graph disagrees with the trained network: same answer on "
            f"{found.top1:.2%} of {found.pictures} pictures, probabilities up to "
            f"{found.largest_difference:.1e} apart",
            "nothing was exported; please report the backbone and `sevenfold doctor`",
        )
    return found


def agreement(
    ours: Float[np.ndarray, "pictures classes"],
    theirs: Float[np.ndarray, "pictures classes"],
    *,
    tie: float,
) -> Agreement:
    """Compare two tables of probabilities.

    Args:
        ours: of what was made.
        theirs: of what it is held against.
        tie: answers whose probabilities differ by no more than this may be swapped.

    Example:
        >>> agreement(np.array([[0.4, 0.6]]), np.array([[0.501, 0.499]]), tie=0.01).top1
        1.0
    """
    rows, mine, best = np.arange(len(ours)), ours.argmax(axis=1), theirs.argmax(axis=1)
    lead = theirs[rows, best] - theirs[rows, mine]
    return Agreement(
        len(ours),
        float((lead <= tie).mean()),
        float((mine == best).mean()),
        float(np.abs(ours - theirs).max()),
    )


def write(
    folder: Path,
    model: bytes,
    labels: Sequence[str],
    card: Mapping[str, Any],
    readme: str,
    more: Mapping[str, bytes] = MappingProxyType({}),
) -> None:
    """Write a bundle: model, card, labels and page, what is more, and last all their hashes.

    Args:
        folder: of the bundle.
        model: the graph.
        labels: the classes.
        card: content of `card.json`.
        readme: the model card.
        more: other files, by name.

    Raises:
        ResourceError: the disk is full or the folder cannot be written to.
    """
    files = {
        "model.onnx": model,
        "card.json": json.dumps(card, indent=1, ensure_ascii=False).encode(),
        "labels.txt": "".join(f"{label}\n" for label in labels).encode(),
        "README.md": readme.encode(),
        **more,
    }
    sums = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in {**files, "SHA256SUMS": sums.encode()}.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise disk_full(error, folder) from error
