"""Turn what clients send into probabilities, with the graph that ships."""

import time
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from jaxtyping import UInt8

from sevenfold import image
from sevenfold.predict import Predictor, Seen

NAME: Final = "classifier"
"""What the model is called in addresses, whatever its bundle is called."""


@final
@dataclass(frozen=True, eq=False, slots=True)
class Answered:
    """Hold the answer to one picture.

    Args:
        pixels: of the picture, upright RGB.
        label: the class that the operating point answers.
        seen: all that the model says.
        seconds: to decode and to answer.
    """

    pixels: UInt8[np.ndarray, "height width 3"]
    label: str
    seen: Seen
    seconds: float

    @property
    def probability(self) -> float:
        """Give the probability of `label`."""
        return float(self.seen.shares[self.seen.answer])


def answer(predictor: Predictor, data: bytes) -> Answered:
    """Decode a picture and answer.

    Raises:
        ImageRejected: the picture cannot be used.
        ModelError: the graph gives numbers that are not finite.
    """
    begun = time.perf_counter()
    pixels = image.decode(data, name="the picture", max_pixels=image.SERVING_PIXELS)
    seen = predictor.see(pixels)
    return Answered(pixels, predictor.classes[seen.answer], seen, time.perf_counter() - begun)


def can_be_unsure(predictor: Predictor) -> bool:
    """Tell whether the bundle has an operating point."""
    return predictor.bundle.point.rule != "none"


def knows_unlike(predictor: Predictor) -> bool:
    """Tell whether the bundle can mark pictures that are unlike anything trained on."""
    return predictor.bundle.detector.score != "none"


def to_json(answered: Answered, predictor: Predictor, *, maps: bool) -> dict[str, Any]:
    """Write an answer as JSON; what the bundle does not know is left out.

    Args:
        answered: what is told.
        predictor: that answered.
        maps: whether it `has_maps`, which does not change between pictures. Then `evidence`
            has a row of numbers for each row of places, from the top, the largest 1.
    """
    shares = map(float, answered.seen.shares)
    facts: dict[str, Any] = {
        "label": answered.label,
        "probability": answered.probability,
        "probabilities": dict(zip(predictor.classes, shares, strict=True)),
        "seconds": answered.seconds,
    }
    if can_be_unsure(predictor):
        facts["sure"] = answered.seen.sure
    if knows_unlike(predictor):
        facts |= {"unlike": answered.seen.unlike, "distance": answered.seen.distance}
    if maps:
        evidence = predictor.evidence(answered.seen)
        top = float(evidence.max(initial=0))
        facts["evidence"] = np.round(evidence / top if top > 0 else evidence, 4).tolist()
    return facts
