"""Decide with probabilities: which class is answered, and when the answer is *not sure*.

An operating point is a small table that anything can carry out, in any language:

```
answer = argmin over k of  Σ_t p_t · costs[t][k]        where there are costs, else
         argmax over k of  weights[k] · p_k
sure   = p_answer ≥ thresholds[answer]
```

It is chosen on pictures that no weight was trained on, by one of three rules: the
error among the answered is halved (without being asked), a class is found as often as
asked, or the mistakes cost the least.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from sevenfold.errors import DataError, UsageError

SCHEMA: Final = "sevenfold.operating/1"
CHOOSING: Final = ("min_recall", "costs")
"""Rules that answer other classes than the most probable."""
RULES: Final = ("none", "halved_error", *CHOOSING)
NOT_SURE: Final = "not_sure"
LEAST_ANSWERED: Final = 0.5
"""Halving the error stops where fewer of the pictures would be answered."""
CONFIDENCE: Final = 0.9
"""That a class has the recall that was asked for; benchmarks/operating.py shows why not less."""
_TINY: Final = 1e-12
_ROUNDS: Final = 100
_LARGEST_WEIGHT: Final = 1e9

Probabilities = Float[np.ndarray, "pictures classes"]
Labels = Int64[np.ndarray, " pictures"]
_NONE: Final = np.zeros((0, 0))


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


@final
@dataclass(frozen=True, eq=False)
class Wish:
    """Hold what the user asks of the answers; nothing asks for the default.

    Args:
        min_recall: least recall of classes, above 0 and under 1.
        costs: of mistakes, by true class and answer; what is not named costs 1.
        not_sure: what an answer that is not sure costs; 0 halves the cost instead.
    """

    min_recall: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    not_sure: float = 0.0


def renamed(wish: Wish, names: Mapping[str, str]) -> Wish:
    """Return a wish whose classes have their new names.

    Example:
        >>> renamed(Wish({"crack": 0.9}), {"crack": "fracture"}).min_recall
        {'fracture': 0.9}
    """

    def held(by_class: Mapping[str, Any]) -> dict[str, Any]:
        return {names.get(name, name): value for name, value in by_class.items()}

    costs = {true: held(row) for true, row in wish.costs.items()}
    return Wish(held(wish.min_recall), held(costs), wish.not_sure)


def plain(classes: int) -> Operating:
    """Return the point that answers the most probable class and is always sure."""
    return Operating("none", np.ones(classes), _NONE, np.zeros(classes))


def decide(
    point: Operating, probabilities: Probabilities
) -> tuple[Int64[np.ndarray, " pictures"], Bool[np.ndarray, " pictures"]]:
    """Answer, and say which answers are sure; of equals, the first class is answered.

    Example:
        >>> point = Operating("min_recall", np.array([9.0, 1.0]), _NONE, np.array([0.0, 0.8]))
        >>> answers, sure = decide(point, np.array([[0.2, 0.8], [0.05, 0.95]]))
        >>> answers.tolist(), sure.tolist()
        ([0, 1], [True, True])
    """
    p = np.asarray(probabilities, np.float64)
    answers = (p @ point.costs).argmin(axis=1) if point.costs.size else _best(p, point.weights)
    return answers, p[np.arange(len(p)), answers] >= point.thresholds[answers]


def needed(recall: float) -> int:
    """Return how many pictures of a class are needed to promise a recall.

    Example:
        >>> needed(0.95), needed(0.99)
        (45, 230)
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(recall))


def rank(pictures: int, recall: float) -> int:
    """Return which of a class's pictures, the worst first, sets its weight; 0 for none.

    If all from the k-th worst on are answered right, the recall on new pictures is drawn
    from Beta(n - k + 1, k), whatever the distribution (tolerance limits: Wilks 1941), and is
    at least as asked with confidence P(Binomial(n, 1 - recall) ≥ k). The largest such k.

    Example:
        >>> rank(44, 0.95), rank(45, 0.95), rank(81, 0.95)
        (0, 1, 2)
    """
    # The logarithm of the chance of exactly so many misses: of thousands of pictures the
    # chance of none at all is too small for a float.
    chance, missed = pictures * math.log(recall), 0
    below = math.exp(chance)
    while below <= 1 - CONFIDENCE:
        missed += 1
        chance += math.log((pictures - missed + 1) / missed * (1 - recall) / recall)
        below += math.exp(chance)
    return missed


def check(wish: Wish, classes: Sequence[str], counts: Int64[np.ndarray, " classes"]) -> None:
    """Refuse what cannot be promised, before anything is trained.

    Args:
        wish: what was asked.
        classes: of the data.
        counts: separate groups of pictures of each class that choices are made by; a picture
            of no group is one of its own.

    Raises:
        UsageError: both kinds at once, or a class or number that cannot be.
        DataError: too few pictures of a class; how many are needed is said.
    """
    if wish.min_recall and wish.costs:
        raise UsageError("--costs and --min-recall each choose the threshold", "give one of them")
    named = {*wish.min_recall, *wish.costs, *(one for row in wish.costs.values() for one in row)}
    for name in sorted(named - set(classes)):
        option = "--min-recall" if name in wish.min_recall else "--costs"
        raise UsageError(
            f"{option} names {name!r}, which is no class of the data",
            f"the classes are {', '.join(classes[:10])}{', …' * (len(classes) > 10)}",
        )
    for name, recall in wish.min_recall.items():
        found = int(counts[list(classes).index(name)])
        if found < needed(recall):
            raise DataError(
                f"a recall of {recall:g} cannot be promised for {name!r}: it has {found} pictures "
                f"of their own or groups of pictures to choose by, and {needed(recall)} are needed",
                "collect more pictures of it, give more of them the role val, or ask for less",
            )


def separate(labels: Labels, groups: Sequence[str], classes: int) -> Int64[np.ndarray, "classes"]:
    """Count the groups of each class: pictures of one tell as much of new ones as one does.

    Args:
        labels: of each picture.
        groups: of each; a picture of no group is one of its own.
        classes: how many there are.

    Example:
        >>> separate(np.array([0, 0, 0, 1]), ["a", "a", "b", "a"], 2).tolist()
        [2, 1]
    """
    pairs = set(zip(labels.tolist(), groups, strict=True))
    return np.bincount([label for label, _ in pairs], minlength=classes)


def choose(
    wish: Wish,
    classes: Sequence[str],
    probabilities: Probabilities,
    labels: Labels,
    groups: Sequence[str] = (),
) -> Operating:
    """Choose the operating point on pictures that no weight was trained on.

    * By default one threshold for all classes: the lowest at which the error among the
      answered is at most half of that among all, with at least half of them answered.
    * `min_recall` raises the weight of a class until it is answered for all of its pictures
      but so few (`rank`) that its recall on new ones is as asked with confidence
      `CONFIDENCE`: a margin, as a share of few pictures would be luck. A group counts as
      its worst picture does. Such an answer is always sure.
    * `costs` answers with the least expected cost; each class has the threshold at which
      the expected costs of its answers and of those that are not sure sum to the least.

    Args:
        wish: checked by `check`.
        classes: of the columns.
        probabilities: calibrated.
        labels: true classes.
        groups: of the pictures; empty: each is one of its own.

    Raises:
        UsageError: several classes cannot all have the recall that was asked for.
    """
    p = np.asarray(probabilities, np.float64)
    if wish.costs or wish.not_sure:
        return _by_costs(wish, classes, p, labels)
    weights, names = np.ones(len(classes)), list(classes)
    asked = {names.index(name): recall for name, recall in wish.min_recall.items()}
    if asked:
        numbers = np.arange(len(p))
        if len(groups):
            numbers = np.unique(np.array(groups, dtype=np.str_), return_inverse=True)[1]
        weights = _weights(asked, p, labels, numbers, names)
    answers = _best(p, weights)
    free = ~np.isin(answers, list(asked))
    confidence = p[np.arange(len(p)), answers]
    thresholds = np.full(
        len(classes), halving(confidence[free], (answers != labels)[free].astype(np.float64))
    )
    thresholds[list(asked)] = 0.0
    return Operating("min_recall" if asked else "halved_error", weights, _NONE, thresholds)


def halving(
    confidence: Float64[np.ndarray, " pictures"], losses: Float64[np.ndarray, " pictures"]
) -> float:
    """Find the lowest threshold at which the mean loss of the answered is at most halved.

    Returns:
        0 where there is no loss; where half of the pictures are not enough, the one that
        answers half.

    Example:
        >>> halving(np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.0, 0.0, 0.0, 1.0]))
        0.65
    """
    if not len(losses) or losses.sum() <= 0:
        return 0.0
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    means = np.cumsum(losses[order]) / np.arange(1, len(order) + 1)
    # A threshold answers all of equal confidence or none of them.
    ends = np.flatnonzero(np.append(ranked[:-1] > ranked[1:], True))
    enough = ends[ends + 1 >= LEAST_ANSWERED * len(order)]
    good = enough[means[enough] <= losses.mean() / 2]
    last = int(good[-1]) if len(good) else int(enough[0])
    after = ranked[last + 1] if last + 1 < len(ranked) else 0.0
    return round(float(ranked[last] + after) / 2, 12)


def read_costs(path: Path) -> tuple[dict[str, dict[str, float]], float]:
    """Read what mistakes cost from a TOML file: a table for each true class.

    ```
    not_sure = 2          # what an answer costs that is not sure
    [crack]
    fine = 50             # a crack that is answered as fine
    [fine]
    crack = 5
    ```

    Returns:
        The costs by true class and answer, and that of an answer that is not sure (0
        where the file names none).

    Raises:
        UsageError: the file cannot be read, or holds something else.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(f"--costs {path} cannot be read: {reason}", _COSTS) from error
    unsure = found.pop(NOT_SURE, 0.0) if not isinstance(found.get(NOT_SURE), dict) else 0.0
    costs = {true: row for true, row in found.items() if isinstance(row, dict)}
    numbers = [unsure, *(cost for row in costs.values() for cost in row.values())]
    if len(costs) < len(found) or not costs or not all(map(_is_cost, numbers)):
        raise UsageError(f"--costs {path} is not a table of costs, each 0 or more", _COSTS)
    wrong = [true for true, row in costs.items() if row.get(true, 0)]
    if wrong:
        raise UsageError(f"--costs {path}: the right answer {wrong[0]!r} has a cost", _COSTS)
    return costs, float(unsure)


_COSTS: Final = "write a table [TRUE CLASS] with lines ANSWER = COST, and not_sure = COST above"


def _is_cost(value: object) -> bool:
    return type(value) in (int, float) and 0 <= float(str(value)) < math.inf


def read_recalls(texts: Sequence[str]) -> dict[str, float]:
    """Read `crack=0.99`, a class and its least recall, each once.

    Raises:
        UsageError: a text is something else.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            recall = float(number)
        except ValueError:
            recall = math.nan
        if not name or name in found or not 0 < recall < 1:
            raise UsageError(
                f"--min-recall {text} is not a class and its least recall, above 0 and below 1, "
                "each class once",
                "write it as crack=0.99",
            )
        found[name] = recall
    return found


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
    try:
        thresholds = np.array([float(told["thresholds"][name]) for name in classes])
        weights = np.array([float(told["weights"].get(name, 1.0)) for name in classes])
        costs = np.array(told["costs"], np.float64) if told["costs"] else _NONE
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


def _best(p: Probabilities, weights: Float64[np.ndarray, " classes"]) -> Labels:
    return np.asarray((p * weights).argmax(axis=1))


def _weights(
    asked: Mapping[int, float],
    p: Probabilities,
    labels: Labels,
    groups: Int64[np.ndarray, "pictures"],
    names: Sequence[str],
) -> Float64[np.ndarray, " classes"]:
    """Raise the weights of classes until each is answered often enough, the others' given."""
    log_p, levels = np.log(np.maximum(p, _TINY)), np.zeros(p.shape[1])
    for _ in range(_ROUNDS):
        before = levels.copy()
        for at, recall in asked.items():
            mine = log_p[labels == at] + levels
            leads = log_p[labels == at, at] - np.delete(mine, at, axis=1).max(axis=1)
            worst = np.full(int(groups.max()) + 1, np.inf)
            np.minimum.at(worst, groups[labels == at], leads)
            worst = np.sort(worst[np.isfinite(worst)])
            # A hair more, so that the picture that sets the weight is answered so, too.
            lead = float(worst[max(1, rank(len(worst), recall)) - 1])
            levels[at] = max(levels[at], -lead + 1e-9 if lead < 0 else 0.0)
        if np.array_equal(before, levels):
            return np.asarray(np.exp(levels))
        if levels.max() > math.log(_LARGEST_WEIGHT):
            break
    told = " and ".join(f"{names[at]!r} {recall:g}" for at, recall in asked.items())
    raise UsageError(
        f"no weights give the recalls {told} together: the classes look too much alike",
        "ask for less, or of fewer classes",
    )


def _by_costs(wish: Wish, classes: Sequence[str], p: Probabilities, labels: Labels) -> Operating:
    count = len(classes)
    costs = np.ones((count, count)) - np.eye(count)
    for true, row in wish.costs.items():
        for answer, cost in row.items():
            costs[list(classes).index(true), list(classes).index(answer)] = cost
    expected = p @ costs
    answers = expected.argmin(axis=1)
    at = np.arange(len(p))
    confidence, risks = p[at, answers], expected[at, answers]
    if not wish.not_sure:
        return Operating(
            "costs",
            np.ones(count),
            costs,
            np.full(count, halving(confidence, costs[labels, answers])),
        )
    thresholds = np.zeros(count)
    for k in range(count):
        mine = answers == k
        thresholds[k] = _cheapest(confidence[mine], risks[mine], wish.not_sure)
    return Operating("costs", np.ones(count), costs, thresholds)


def _cheapest(
    confidence: Float64[np.ndarray, " answers"],
    risks: Float64[np.ndarray, " answers"],
    unsure: float,
) -> float:
    """Find the threshold at which answers and those that are not sure cost the least."""
    if not len(risks):
        return 0.0
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    kept = np.concatenate([[0.0], np.cumsum(risks[order] - unsure)])
    # All are kept where that costs no more than any other threshold.
    best = len(kept) - 1 - int(kept[::-1].argmin())
    if best == len(ranked):
        return 0.0
    above = ranked[best - 1] if best else 1.0
    return float(min(1.0, (ranked[best] + above) / 2 if above > ranked[best] else above))
