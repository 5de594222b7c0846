"""Speak the Open Inference Protocol, version 2, over REST.

Its inference request holds the decoded picture as numbers in JSON; `/predict` takes the
picture's file and is the faster way. There is no management of models.

Source: https://github.com/kserve/open-inference-protocol
"""

import json
import math
from collections.abc import Sequence
from importlib.metadata import version
from itertools import chain
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8

from sevenfold.image import SERVING_PIXELS
from sevenfold.predict import Predictor
from sevenfold.serve.model import NAME
from sevenfold.serve.refusals import Refusal

LARGEST_BATCH: Final = 32
OUTPUTS: Final = ("probabilities", "logits", "features")
_USUAL: Final = OUTPUTS[:2]
_CURE: Final = (
    "send one input `image` of datatype UINT8, shape [batch, height, width, 3] "
    "and as many whole numbers from 0 to 255 in `data`"
)


def server() -> dict[str, Any]:
    """Describe the server."""
    return {"name": "sevenfold", "version": version("sevenfold"), "extensions": []}


def model(predictor: Predictor) -> dict[str, Any]:
    """Describe the model: its input, its outputs and, as a parameter, its classes."""
    shapes = {one.name: one.shape for one in predictor.session.get_outputs()}
    return {
        "name": NAME,
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}],
        "outputs": [
            {"name": name, "datatype": "FP32", "shape": [_size(one) for one in shapes[name]]}
            for name in OUTPUTS
        ],
        "parameters": {"classes": list(predictor.classes)},
    }


def _size(side: object) -> int:
    """Give a side of a tensor; -1 where it differs from call to call."""
    return side if isinstance(side, int) else -1


def infer(predictor: Predictor, body: bytes) -> dict[str, Any]:
    """Answer one inference request.

    Raises:
        Refusal: 400 if the request is not as the protocol or the model wants it.
    """
    asked = _object(body)
    number = asked.get("id", "")
    if not (isinstance(number, str) and len(number) <= 1000 and number.isprintable()):
        raise _wrong("`id` is not a short printable text")
    names = _outputs(asked.get("outputs"))
    pixels = _pixels(asked.get("inputs"))
    found = predictor.run(names, pixels)
    outputs = [
        {
            "name": name,
            "datatype": "FP32",
            "shape": list(array.shape),
            "data": array.ravel().tolist(),
        }
        for name, array in zip(names, found, strict=True)
    ]
    if not all(np.isfinite(array).all() for array in found):
        raise Refusal(503, "the model gives numbers that are not finite", "train again")
    answer = {"model_name": NAME, "model_version": "1", "outputs": outputs}
    return answer | ({"id": number} if number else {})


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _wrong("the body is not JSON") from error
    if not isinstance(found, dict):
        raise _wrong("the body is not a JSON object")
    return found


def _outputs(asked: Any) -> Sequence[str]:
    if not asked:
        return _USUAL
    names = [one.get("name") if isinstance(one, dict) else one for one in _list(asked)[:4]]
    known = [name for name in OUTPUTS if name in names]
    if len(known) < len(names):
        cure = f"ask for {', '.join(OUTPUTS)}, each at most once"
        raise Refusal(400, "an output is asked for that the model has not", cure)
    return known


def _pixels(inputs: Any) -> UInt8[np.ndarray, "batch height width 3"]:
    if len(_list(inputs)) != 1 or not isinstance(inputs[0], dict):
        raise _wrong("there is not one input")
    tensor = inputs[0]
    if (tensor.get("name"), tensor.get("datatype")) != ("image", "UINT8"):
        raise _wrong("the input is not `image` of datatype UINT8")
    shape = _list(tensor.get("shape"))
    if (
        len(shape) != 4
        or not all(type(side) is int and side > 0 for side in shape)
        or shape[3] != 3
    ):
        raise _wrong("the shape is not [batch, height, width, 3]")
    if shape[0] > LARGEST_BATCH or math.prod(shape) > 3 * SERVING_PIXELS:
        raise _wrong(f"more than {LARGEST_BATCH} pictures or {SERVING_PIXELS:,} pixels")
    data = _list(tensor.get("data"))
    try:
        for _ in range(3):  # the protocol lets data be nested as the shape is
            if data and isinstance(data[0], list):
                data = list(chain.from_iterable(data))
        values = bytes(data)  # refuses all that is not a whole number from 0 to 255
    except (TypeError, ValueError) as error:
        raise _wrong("the data are not whole numbers from 0 to 255") from error
    if len(values) != math.prod(shape):
        raise _wrong("there are more or fewer data than the shape says")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong("a list is missing")
    return value


def _wrong(problem: str) -> Refusal:
    return Refusal(400, problem, _CURE)
