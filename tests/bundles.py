"""Build tiny bundles whose answers are known: class k is the k-th hue of the colour circle."""

import colorsys
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from sevenfold.tensors import pack


def colour(k: int, classes: int) -> tuple[int, int, int]:
    """Return the colour that a tiny bundle of so many classes answers with class k."""
    red, green, blue = colorsys.hsv_to_rgb(k / classes, 1.0, 0.8)
    return round(255 * red), round(255 * green), round(255 * blue)


def tiny_bundle(folder: Path, classes: Sequence[str], size: int = 8) -> Path:
    """Write a whole bundle into `folder`: the mean colour decides."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(tiny_model(len(classes), size).SerializeToString())
    card = {"schema": "sevenfold.card/1", "classes": list(classes), "size": size}
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    (folder / "labels.txt").write_bytes(("\n".join(classes) + "\n").encode())
    (folder / "README.md").write_text("# A tiny bundle\n", encoding="utf-8")
    seal(folder)
    return folder


def knowing(folder: Path, thresholds: dict[str, float], *, far: float = 0.2) -> Path:
    """Give a tiny bundle an operating point, a detector, rows of its head and a reference.

    A picture is unlike training where its mean colour is more than `far` from every class's.
    """
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    classes = card["classes"]
    colours = np.array([colour(k, len(classes)) for k in range(len(classes))], np.float32) / 255
    hues = colours - colours.mean(axis=1, keepdims=True)
    hues *= 8 / np.linalg.norm(hues, axis=1, keepdims=True)
    rows = {
        "head.weight": hues,
        "head.bias": np.zeros(len(classes), np.float32),
        "centroids": colours,
    }
    everything = dict.fromkeys(classes, 10)
    card |= {
        "operating_point": {
            "schema": "sevenfold.operating/1",
            "rule": "halved_error",
            "thresholds": dict.fromkeys(classes, 0.0) | thresholds,
            "weights": {},
            "costs": [],
        },
        "unknown": {"schema": "sevenfold.unknown/1", "score": "centroid", "threshold": far},
        "drift": {
            "schema": "sevenfold.drift/1",
            "pictures": 10 * len(classes),
            "answers": everything,
            "training": everything,
            "distances": np.linspace(0, 0.01, 101).tolist(),
        },
    }
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    (folder / "features.safetensors").write_bytes(pack(rows))
    seal(folder)
    return folder


def seal(folder: Path) -> None:
    """Write SHA256SUMS of all other files of a bundle."""
    names = sorted(path.name for path in folder.iterdir() if path.name != "SHA256SUMS")
    sums = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    (folder / "SHA256SUMS").write_bytes("".join(sums).encode())


def tiny_model(classes: int, size: int) -> ModelProto:
    """Build resize → features (1 by 1 convolution) → mean → logits → probabilities."""
    hues = np.array([colour(k, classes) for k in range(classes)], dtype=np.float32) / 255
    hues -= hues.mean(axis=1, keepdims=True)
    hues /= np.linalg.norm(hues, axis=1, keepdims=True)
    weights = {
        "sides": np.array([3, size, size], dtype=np.int64),
        "white": np.array(255, dtype=np.float32),
        "mix": np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1),
        "hues": (8 * hues).T.copy(),
        "bias": np.zeros(classes, dtype=np.float32),
    }
    node = helper.make_node
    nodes = [
        # As the graph that ships resizes.
        node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        # All four sides: onnxruntime 1.32 cannot move a Transpose past a Resize with `axes`.
        node("Shape", ["image"], ["batch"], start=0, end=1),
        node("Concat", ["batch", "sides"], ["shape"], axis=0),
        node(
            "Resize",
            ["planes", "", "", "shape"],
            ["resized"],
            mode="linear",
            antialias=1,
            exclude_outside=1,
        ),
        node("Round", ["resized"], ["pixels"]),
        node("Div", ["pixels", "white"], ["scaled"]),
        node("Conv", ["scaled", "mix"], ["features"]),
        node("GlobalAveragePool", ["features"], ["pooled"]),
        node("Flatten", ["pooled"], ["flat"]),
        node("Gemm", ["flat", "hues", "bias"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "tiny",
        [value("image", TensorProto.UINT8, ["batch", "height", "width", 3])],
        [
            value("probabilities", TensorProto.FLOAT, ["batch", classes]),
            value("logits", TensorProto.FLOAT, ["batch", classes]),
            value("features", TensorProto.FLOAT, ["batch", 3, size, size]),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
