"""Answer a picture whose answer is known before anybody else is answered.

A bundle may hold `selftest.json`: a picture and the probabilities that the model gave
when it was verified. They show that this machine computes what that one did. A bundle
without it is asked a fixed picture, which shows only that the graph runs and gives
probabilities.
"""

import base64
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, UInt8

from sevenfold import image
from sevenfold.bundles import SELFTEST
from sevenfold.errors import ModelError
from sevenfold.predict import Predictor

SCHEMA: Final = "sevenfold.selftest/1"
TOLERANCE: Final = 1e-3
"""Of a probability: processors round differently."""
_LARGEST: Final = 2**20


def selftest(predictor: Predictor) -> None:
    """Compare the answer to the stored picture with the stored answer.

    `selftest.json` holds `schema`, `picture` (an image file in base64) and
    `probabilities`, in the order of the classes.

    Raises:
        ModelError: the answers differ, or the file is damaged.
    """
    bundle = predictor.bundle
    if bundle.selftest:
        data, expected = _stored(bundle.folder / SELFTEST, bundle.selftest, len(bundle.classes))
        pixels = image.decode(data, name=SELFTEST, max_pixels=image.SERVING_PIXELS)
        found = predictor.see(pixels).shares
        worst = float(np.abs(found - expected).max())
        if worst > TOLERANCE:
            raise ModelError(
                f"the stored picture's probabilities are {worst:.4f} off on this machine",
                "install the onnxruntime that the bundle was verified with, or export again",
            )
        return
    found = predictor.see(_fixed()).shares
    if found.min() < 0 or abs(float(found.sum()) - 1) > TOLERANCE:
        raise ModelError(
            f"the model gives probabilities from {found.min():.4f} that sum to {found.sum():.4f}",
            "train or export again",
        )


def _fixed() -> UInt8[np.ndarray, "height width 3"]:
    rows, columns = np.mgrid[:48, :64]
    return np.stack([4 * columns, 5 * rows, 2 * (rows + columns)], axis=-1).astype(np.uint8)


def _stored(
    file: Path, content: bytes, classes: int
) -> tuple[bytes, Float32[np.ndarray, " classes"]]:
    try:
        if len(content) > _LARGEST:
            raise ValueError("too large")
        facts: Any = json.loads(content)
        if facts["schema"] != SCHEMA:
            raise ValueError("of another schema")
        expected = np.asarray([float(share) for share in facts["probabilities"]], np.float32)
        if expected.shape != (classes,) or not np.isfinite(expected).all():
            raise ValueError("other probabilities than the model's")
        return base64.b64decode(facts["picture"], validate=True), expected
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(
            f"{image.shown(str(file))} is damaged: {image.shown(str(error))}",
            "copy the bundle again, or remove the file",
        ) from error
