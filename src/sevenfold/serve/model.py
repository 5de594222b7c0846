"""Turn what clients send into probabilities, with the graph that ships."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from jaxtyping import Float32, UInt8

from sevenfold import image
from sevenfold.predict import Predictor

NAME: Final = "classifier"
"""What the model is called in addresses, whatever its bundle is called."""


@final
@dataclass(frozen=True, eq=False, slots=True)
class Answered:
    """Hold the answer to one picture.

    Args:
        pixels: of the picture, upright RGB.
        label: the class with the highest probability.
        shares: the calibrated probability of each class, in the order of the classes.
        seconds: to decode and to answer.
    """

    pixels: UInt8[np.ndarray, "height width 3"]
    label: str
    shares: Float32[np.ndarray, " classes"]
    seconds: float

    @property
    def probability(self) -> float:
        """Give the probability of `label`."""
        return float(self.shares.max())


def answer(predictor: Predictor, data: bytes) -> Answered:
    """Decode a picture and answer.

    Raises:
        ImageRejected: the picture cannot be used.
        ModelError: the graph gives numbers that are not finite.
    """
    begun = time.perf_counter()
    pixels = image.decode(data, name="the picture", max_pixels=image.SERVING_PIXELS)
    shares = predictor.probabilities(pixels)
    label = predictor.classes[int(shares.argmax())]
    return Answered(pixels, label, shares, time.perf_counter() - begun)


def thresholds(card: Mapping[str, Any]) -> dict[str, float]:
    """Return below which probability each class is *not sure*; empty if the card names none."""
    found = card.get("thresholds")
    if not isinstance(found, Mapping):
        return {}
    return {
        str(label): float(value)
        for label, value in found.items()
        if isinstance(value, int | float) and 0 <= value <= 1
    }


def told(answered: Answered, predictor: Predictor) -> dict[str, Any]:
    """Write an answer as JSON; `sure` is there only where the bundle knows a threshold."""
    shares = map(float, answered.shares)
    facts: dict[str, Any] = {
        "label": answered.label,
        "probability": answered.probability,
        "probabilities": dict(zip(predictor.classes, shares, strict=True)),
        "seconds": answered.seconds,
    }
    least = thresholds(predictor.card)
    if answered.label in least:
        facts["sure"] = answered.probability >= least[answered.label]
    return facts
