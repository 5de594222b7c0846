"""Write ONNX files of one layer, without the library onnx: a board needs none to be timed.

A message of Protocol Buffers is a row of fields, each its number and kind, then its value;
the numbers are those of `onnx.proto`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from jaxtyping import Float32

OPSET: Final = 18
_IR: Final = 8
_FLOAT: Final = 1
_INT: Final = 2
_INTS: Final = 7


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _part(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _join(parts: Iterable[bytes]) -> bytes:
    return b"".join(parts)


def _value(name: str, shape: Sequence[int]) -> bytes:
    sides = _join(_part(1, _number(1, side)) for side in shape)
    tensor = _number(1, _FLOAT) + _part(2, sides)
    return _part(1, name) + _part(2, _part(1, tensor))


def _weight(name: str, values: Float32[np.ndarray, "..."]) -> bytes:
    sides = _join(_number(1, side) for side in values.shape)
    return sides + _number(2, _FLOAT) + _part(8, name) + _part(9, values.tobytes())


def _attribute(name: str, value: int | Sequence[int]) -> bytes:
    if isinstance(value, int):
        return _part(1, name) + _number(3, value) + _number(20, _INT)
    return _part(1, name) + _join(_number(8, one) for one in value) + _number(20, _INTS)


def layer(
    operator: str,
    shape: Sequence[int],
    weights: Float32[np.ndarray, "..."],
    attributes: Mapping[str, int | Sequence[int]],
    rank: int,
) -> bytes:
    """Write a graph of one operator with two inputs: floats `x`, and weights in the file.

    Args:
        operator: `Conv` or `MatMul`.
        shape: of `x`.
        weights: in little-endian order, as numpy has them on every machine that runs this.
        attributes: of the operator, 0 or more each.
        rank: of the output.
    """
    node = _join(
        [
            *(_part(1, name) for name in ("x", "weights")),
            _part(2, "y"),
            _part(4, operator),
            *(_part(5, _attribute(name, value)) for name, value in attributes.items()),
        ]
    )
    free = _part(1, "y") + _part(
        2, _part(1, _number(1, _FLOAT) + _part(2, _join([_part(1, _part(2, "n"))] * rank)))
    )
    graph = _join(
        [
            _part(1, node),
            _part(2, "layer"),
            _part(5, _weight("weights", weights)),
            _part(11, _value("x", shape)),
            _part(12, free),
        ]
    )
    opset = _part(1, "") + _number(2, OPSET)
    return _number(1, _IR) + _part(7, graph) + _part(8, opset)
