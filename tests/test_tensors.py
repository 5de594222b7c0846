import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from sevenfold import tensors

ROWS = {
    "head.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "head.bias": np.ones(3, np.float32),
    "empty": np.zeros((0, 2), np.float32),
}


def test_it_is_the_format_of_safetensors():
    theirs = safetensors.numpy.load(tensors.pack(ROWS))
    ours = tensors.unpack(safetensors.numpy.save(ROWS, metadata={"a": "b"}))
    for name, held in ROWS.items():
        assert (theirs[name] == held).all()
        assert (ours[name] == held).all()
    assert set(theirs) == set(ours) == set(ROWS)


def crafted(entry: object, body: bytes = b"\0" * 8) -> bytes:
    header = json.dumps({"x": entry}).encode()
    return len(header).to_bytes(8, "little") + header + body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        (2**63).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (1).to_bytes(8, "little") + b"{",
        crafted({"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}),
        crafted({"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}),
        crafted({"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]}),
        crafted({"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}),
        crafted({"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}),
        crafted({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, b"\0\0\xc0\x7f"),
        crafted({"dtype": "F32"}),
        crafted(None),
    ],
)
def test_what_is_damaged_is_refused(data):
    with pytest.raises(ValueError, match="is "):
        tensors.unpack(data)


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_read(place, value):
    data = bytearray(tensors.pack(ROWS))
    data[place % len(data)] = value
    try:
        found = tensors.unpack(bytes(data))
    except ValueError:
        return
    assert all(held.dtype == np.float32 for held in found.values())
