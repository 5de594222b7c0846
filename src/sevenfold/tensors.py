"""Keep arrays of float32 in the safetensors format, read and written with numpy alone.

The file is the length of a JSON header in 8 bytes, the header, and the numbers: nothing
in it can run.

Source: https://huggingface.co/docs/safetensors
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from jaxtyping import Float32

_LARGEST_HEADER: Final = 1_000_000
_KIND: Final = "F32"

Tensors = Mapping[str, Float32[np.ndarray, "..."]]


def pack(tensors: Tensors) -> bytes:
    """Write arrays; the same arrays give the same bytes.

    Example:
        >>> unpack(pack({"row": np.ones((1, 3), np.float32)}))["row"].tolist()
        [[1.0, 1.0, 1.0]]
    """
    header: dict[str, Any] = {}
    body = b""
    for name, tensor in sorted(tensors.items()):
        content = np.ascontiguousarray(tensor, "<f4").tobytes()
        ends = [len(body), len(body) + len(content)]
        header[name] = {"dtype": _KIND, "shape": list(tensor.shape), "data_offsets": ends}
        body += content
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def unpack(data: bytes) -> dict[str, Float32[np.ndarray, "..."]]:
    """Read arrays.

    Raises:
        ValueError: the data is no such file, or holds other than finite float32.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(_LARGEST_HEADER, len(data) - 8):
        raise ValueError("is cut off")
    try:
        header = json.loads(data[8 : 8 + length])
        entries = [(name, entry) for name, entry in header.items() if name != "__metadata__"]
        return {str(name): _array(entry, memoryview(data)[8 + length :]) for name, entry in entries}
    except (AttributeError, KeyError, TypeError, RecursionError, ValueError) as error:
        raise ValueError(f"is damaged: {error}") from error


def _array(entry: Mapping[str, Any], body: memoryview) -> Float32[np.ndarray, "..."]:
    shape, (start, end) = entry["shape"], entry["data_offsets"]
    whole = all(type(one) is int and one >= 0 for one in (*shape, start, end))
    if entry["dtype"] != _KIND or not whole or len(shape) > 8:
        raise ValueError("an entry is not of float32")
    if end > len(body) or end - start != 4 * math.prod(shape):
        raise ValueError("an entry lies outside the file")
    found = np.frombuffer(body[start:end], "<f4").reshape(shape).astype(np.float32)
    if not np.isfinite(found).all():
        raise ValueError("a number is not finite")
    return found
