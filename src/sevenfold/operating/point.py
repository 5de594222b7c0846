"""Decide with an operating point, and keep it in a card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from sevenfold.operating.promise import Labels

SCHEMA: Final = "sevenfold.operating/1"
CHOOSING: Final = ("min_recall", "costs")
"""Rules that answer other classes than the most probable."""
RULES: Final = ("none", "halved_error", *CHOOSING)
Probabilities = Float[np.ndarray, "pictures classes"]
NO_COSTS: Final = np.zeros((0, 0))


@final
@dataclass(frozen=True, eq=False, slots=True)
class Operating:
    """Hold how probabilities become an answer.

    Args:
        rule: one of `RULES`; `none` answers the most probable class and is always sure.
        weights: that multiply the probabilities, above 0.
        costs: of answering the column where the row is true; empty where weights decide.
        thresholds: probability below which an answer is not sure, 0 to 1.
    """

    rule: str
    weights: Float64[np.ndarray, " classes"]
    costs: Float64[np.ndarray, "labels answers"]
    thresholds: Float64[np.ndarray, " classes"]


def plain(classes: int) -> Operating:
    """Return the point that answers the most probable class and is always sure."""
    return Operating("none", np.ones(classes), NO_COSTS, np.zeros(classes))


def decide(
    point: Operating, probabilities: Probabilities
) -> tuple[Int64[np.ndarray, " pictures"], Bool[np.ndarray, " pictures"]]:
    """Answer, and say which answers are sure; of equals, the first class is answered.

    Example:
        >>> point = Operating("min_recall", np.array([9.0, 1.0]), NO_COSTS, np.array([0.0, 0.8]))
        >>> answers, sure = decide(point, np.array([[0.2, 0.8], [0.05, 0.95]]))
        >>> answers.tolist(), sure.tolist()
        ([0, 1], [True, True])
    """
    p = np.asarray(probabilities, np.float64)
    answers = (p @ point.costs).argmin(axis=1) if point.costs.size else likeliest(p, point.weights)
    return answers, p[np.arange(len(p)), answers] >= point.thresholds[answers]


def to_card(point: Operating, classes: Sequence[str]) -> dict[str, Any]:
    """Return a point as `card.json` holds it under `operating_point`."""
    weights = zip(classes, point.weights.tolist(), strict=True)
    return {
        "schema": SCHEMA,
        "rule": point.rule,
        "thresholds": dict(zip(classes, point.thresholds.tolist(), strict=True)),
        "weights": {name: weight for name, weight in weights if weight != 1},
        "costs": point.costs.tolist(),
    }


def from_card(card: Mapping[str, Any], classes: Sequence[str]) -> Operating:
    """Read the point of a card; a card without one answers the most probable class.

    Raises:
        ValueError: it is damaged or of a newer version; the message says how.
    """
    told = card.get("operating_point")
    if told is None:
        return plain(len(classes))
    if not isinstance(told, Mapping) or told.get("schema") != SCHEMA:
        raise ValueError(f"has an operating point that is not of the schema {SCHEMA}")
    named = told.get("asked", {})
    if not isinstance(named, Mapping) or not set(named) <= set(classes):
        raise ValueError("has an operating point that is damaged")
    try:
        thresholds = np.array([float(told["thresholds"][name]) for name in classes])
        weights = np.array([float(told["weights"].get(name, 1.0)) for name in classes])
        costs = np.array(told["costs"], np.float64) if told["costs"] else NO_COSTS
        rule = str(told["rule"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError("has an operating point that is damaged") from error
    fits = costs.shape in ((0, 0), (len(classes), len(classes))) and rule in RULES
    if not fits or not (
        ((thresholds >= 0) & (thresholds <= 1)).all()
        and ((weights > 0) & np.isfinite(weights)).all()
        and ((costs >= 0) & np.isfinite(costs)).all()
    ):
        raise ValueError("has an operating point that is damaged")
    return Operating(rule, weights, costs, thresholds)


def likeliest(p: Probabilities, weights: Float64[np.ndarray, " classes"]) -> Labels:
    """Answer the class whose weighted probability is the highest."""
    return np.asarray((p * weights).argmax(axis=1))
