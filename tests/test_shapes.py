import jaxtyping
import numpy as np
import pytest

from sevenfold import evaluate
from shapes import arrays


def test_arrays_are_held_against_signatures_while_tests_run():
    uniform = np.full((2, 4), 0.25)
    assert evaluate.nll(uniform, np.array([0, 3])) == pytest.approx(np.log(4))
    for wrong, labels in (
        (uniform, np.array([0, 1, 2])),  # pictures of another number
        (uniform[0], np.array([0, 3])),  # an axis too few
        (uniform.astype(np.float32), np.array([0, 3])),
        (uniform, np.array([0.0, 3.0])),
    ):
        with pytest.raises(TypeError):
            evaluate.nll(wrong, labels)


def test_what_is_returned_is_held_against_its_shape_too():
    def half(values: jaxtyping.Float64[np.ndarray, " n"]) -> jaxtyping.Float64[np.ndarray, " n"]:
        return values[: len(values) // 2]

    with pytest.raises(TypeError):
        arrays(half)(np.zeros(4))


def test_other_annotations_are_left_to_mypy():
    def named(name: str, values: jaxtyping.Float64[np.ndarray, " n"] | None) -> str:
        return name

    assert arrays(named)(3, None) == 3
