"""Score the answers that a released graph gave, and set up what guards it."""

from dataclasses import dataclass

from sevenfold import evaluate as scoring
from sevenfold import guards
from sevenfold.data import Split
from sevenfold.operating import Wish
from sevenfold.place import Place
from sevenfold.predictions import Predictions, recompute
from sevenfold.release.graph import Exported
from sevenfold.release.opening import Judged
from sevenfold.train import Fitted


@dataclass(frozen=True, eq=False)
class Scored:
    """Hold how good the answers are, and when they are in doubt.

    Args:
        predictions: of the pictures that choices were made by, and of test.
        test: scores on test.
        chosen: scores on the pictures that choices were made by.
        guarded: operating point, unknown pictures and self-test.
    """

    predictions: Predictions
    test: scoring.Scores
    chosen: scoring.Scores
    guarded: guards.Guards


def scored(
    model: Exported, answered: Judged, fitted: Fitted, split: Split, wish: Wish, place: Place
) -> Scored:
    """Score the answers of both roles, and choose when the graph is in doubt.

    Args:
        model: the graph that ships.
        answered: what it says of the pictures.
        fitted: what it came from.
        split: pictures by role.
        wish: what the answers shall be like.
        place: where to compute.
    """
    predictions = answered.predictions
    return Scored(
        predictions,
        recompute(predictions, role="test"),
        recompute(predictions, role="val" if len(split.val) else "train"),
        guards.guards(
            fitted,
            split,
            wish,
            model=model.model,
            chosen=predictions.probabilities[: -len(split.test)],
            vectors=model.vectors,
            tested=predictions.probabilities[-len(split.test) :],
            tested_vectors=answered.vectors,
            place=place,
        ),
    )
