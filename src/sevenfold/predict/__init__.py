"""Answer what is in pictures, with a bundle alone: no torch, in constant memory.

Example:
    predictor = load(Path("RUN"))
    for outcome in predict(predictor, sources(["photos"])):
        print(outcome)
"""

from sevenfold.predict.listing import sources
from sevenfold.predict.predictor import Predictor, Seen, check_maps, has_maps, load
from sevenfold.predict.stream import failed, predict

__all__ = [
    "Predictor",
    "Seen",
    "check_maps",
    "failed",
    "has_maps",
    "load",
    "predict",
    "sources",
]
