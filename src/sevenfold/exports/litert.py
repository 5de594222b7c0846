"""Convert a network to LiteRT, for phones and boards whose programs use it.

LiteRT has no resize that shrinks like Pillow's, so the file takes squares that the host has
resized; `resize.kt` beside it does that in Kotlin, by the same filter.
"""

import contextlib
import copy
import importlib
import io
import sys
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from sevenfold import export
from sevenfold.errors import ResourceError, installing

_WAY_OUT: Final = (
    "convert on Linux, or ship `--to onnx`: onnxruntime runs it on Android and iOS, resize included"
)


@final
class _Whole(nn.Module):
    """Run a network from squares, channels last, to calibrated probabilities."""

    def __init__(self, shipped: export.Shipped, temperature: float) -> None:
        super().__init__()
        self.shipped, self.temperature = shipped, temperature

    def forward(self, pixels: Float[Tensor, "1 side side 3"]) -> Float[Tensor, "1 classes"]:
        logits, _ = self.shipped(pixels.permute(0, 3, 1, 2))
        return torch.softmax(logits / self.temperature, dim=1)


def converted(shipped: export.Shipped, side: int, temperature: float) -> bytes:
    """Convert a network to a LiteRT file: float32 `[1, side, side, 3]`, 0 to 255, to probabilities.

    Writes to a temporary folder.

    Args:
        shipped: the network, with its mirror image if that votes.
        side: of the squares.
        temperature: that divides the logits.

    Raises:
        ResourceError: the converter is not installed, or there is none for this platform.
    """
    litert = _library("litert_torch")
    whole = _Whole(copy.deepcopy(shipped), temperature).eval()
    example = torch.linspace(0, 255, side * side * 3).reshape(1, side, side, 3)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, _quiet():
        path = Path(folder) / "model.tflite"
        litert.convert(whole, (example,)).export(str(path))
        return path.read_bytes()


def answers(
    model: bytes, squares: Iterable[UInt8[np.ndarray, "side side 3"]]
) -> Float32[np.ndarray, "pictures classes"]:
    """Run a LiteRT file in its own runtime over squares, one by one.

    Raises:
        ResourceError: the runtime is not installed, or there is none for this platform.
    """
    interpreter = _library("ai_edge_litert.interpreter")
    with _quiet():
        opened = interpreter.Interpreter(model_content=model, num_threads=1)
        opened.allocate_tensors()
    (given,), (told,) = opened.get_input_details(), opened.get_output_details()
    rows = []
    for square in squares:
        opened.set_tensor(given["index"], square[np.newaxis].astype(np.float32))
        opened.invoke()
        rows.append(np.array(opened.get_tensor(told["index"])[0]))
    return np.stack(rows)


def _library(name: str) -> Any:
    try:
        with _quiet():
            return importlib.import_module(name)
    except ImportError as error:
        if sys.platform.startswith("linux"):
            cure = f"{installing('litert')}; or {_WAY_OUT.partition(', or ')[2]}"
        else:
            cure = _WAY_OUT
        raise ResourceError(f"LiteRT cannot be used here: {error}", cure) from error


@contextlib.contextmanager
def _quiet() -> Any:
    """Keep the converter's progress out of our output; our gate checks the result."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


KOTLIN: Final = """\
import android.graphics.Bitmap
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min
import kotlin.math.rint

const val SIDE = %(side)d

/** Weights of the pixels that make each pixel of a row: a triangle as wide as the step. */
private fun taps(from: Int): List<Pair<Int, FloatArray>> = List(SIDE) { place ->
    val scale = from.toDouble() / SIDE
    val wide = max(scale, 1.0)
    val centre = (place + 0.5) * scale
    val first = max(0, (centre - wide + 0.5).toInt())
    val last = min(from, (centre + wide + 0.5).toInt())
    val weights = DoubleArray(last - first) {
        max(0.0, 1 - abs((it + first - centre + 0.5) / wide))
    }
    val sum = weights.sum()
    Pair(first, FloatArray(weights.size) { (weights[it] / sum).toFloat() })
}

/**
 * Resize a whole upright picture to what the model takes: float32 [1, SIDE, SIDE, 3], 0 to 255.
 *
 * Bitmap.createScaledBitmap leaves out pixels where it shrinks; the model was trained and scored
 * on pictures of which every pixel counts.
 */
fun modelInput(picture: Bitmap): ByteBuffer {
    val across = taps(picture.width)
    val rows = Array(picture.height) { FloatArray(SIDE * 3) }
    val line = IntArray(picture.width)
    for (y in 0 until picture.height) {
        picture.getPixels(line, 0, picture.width, 0, y, picture.width, 1)
        for (x in 0 until SIDE) {
            val (first, weights) = across[x]
            for (k in weights.indices) {
                val pixel = line[first + k]
                rows[y][3 * x] += weights[k] * (pixel shr 16 and 255)
                rows[y][3 * x + 1] += weights[k] * (pixel shr 8 and 255)
                rows[y][3 * x + 2] += weights[k] * (pixel and 255)
            }
        }
    }
    val buffer = ByteBuffer.allocateDirect(SIDE * SIDE * 3 * 4).order(ByteOrder.nativeOrder())
    for ((first, weights) in taps(picture.height)) {
        for (x in 0 until SIDE * 3) {
            var sum = 0f
            for (k in weights.indices) sum += weights[k] * rows[first + k][x]
            buffer.putFloat(rint(sum))
        }
    }
    buffer.rewind()
    return buffer
}
"""


def kotlin(side: int) -> str:
    """Return a Kotlin function that resizes a picture to what the file takes."""
    return KOTLIN % {"side": side}
