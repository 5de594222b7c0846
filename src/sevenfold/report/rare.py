"""Make the part of the report on rare classes: how they were helped, why, and at what price."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from sevenfold.plots import MISSING
from sevenfold.report import words
from sevenfold.report.words import Facts, number, part, percent, rows

WAYS = 20
DEAR = 0.02
NAMES = {
    "none": "plain training",
    "adjusted_after": "logit adjustment after training",
    "balanced_softmax": "balanced softmax",
    "augmentation": "more views of rare classes",
    "oversampling": "over-sampling",
    "undersampling": "under-sampling",
}


class Way(NamedTuple):
    """Hold one way that was tried."""

    name: str
    chosen: bool
    loss: str
    score: float
    accuracy: float
    rare: float
    common: float


def rare(facts: Facts) -> dict[str, Any]:
    """Return the part on rare classes; nothing where the facts do not name a method.

    Args:
        facts: cleaned content of `report.json`.
    """
    found = part(facts, "imbalance")
    method = found.get("method")
    if not method:
        return {}
    tried = rows(found, "tried")
    balanced = facts.get("objective") == "balanced_accuracy"
    measure = "balanced accuracy" if balanced else "accuracy"
    ratio = number(part(facts, "data").get("imbalance_ratio"))
    said = [*_chosen(found, tried, measure)] if tried else [_given(found, ratio)]
    if method != "none":
        said.append(
            "It answers rare classes more often for that: do not count its answers to estimate "
            "how common a class is."
        )
    return {
        "said": said,
        "measure": measure,
        "balanced": balanced,
        "ways": [_way(one, str(method)) for one in tried[:WAYS]],
    }


def _name(way: Facts) -> str:
    """Name a method, with its strength where that is not the whole."""
    method, strength = str(way.get("method")), number(way.get("strength"))
    name = NAMES.get(method, method.replace("_", " "))
    return f"{name}, strength {strength:g}" if math.isfinite(strength) and strength != 1 else name


def _given(found: Facts, ratio: float) -> str:
    """Say in one sentence what was done where there was no choice."""
    even = number(found.get("balanced_ratio"))
    if found.get("method") != "none":
        return (
            f"Rare classes were helped by {_name(found)}, as the recipe says; no other way is on "
            "record beside it, so what it changed is not known."
        )
    if ratio <= even:
        return (
            f"Nothing was done: the largest class has {ratio:.1f} times the training pictures of "
            f"the smallest, and up to {even:g} times there is nothing to mend."
        )
    return "Nothing was done for rare classes, as the recipe says."


def _chosen(found: Facts, tried: list[Facts], measure: str) -> Iterator[str]:
    """Say what was chosen among several ways, why, and what it costs the common classes."""
    named = {way.get("method"): way for way in tried}
    chosen, plain = named.get(found.get("method"), {}), named.get("none", {})
    score, before = number(chosen.get("score")), number(plain.get("score"))
    ways = words.count(len(tried), "way")
    if found.get("method") == "none":
        yield (
            f"Nothing was done: of {ways}, none that leaves {measure} where it is at a price that "
            "the recipe allows has a log loss by more than a standard error under that of plain "
            "training, with all classes counted alike."
        )
    else:
        yield (
            f"Chosen of {ways}: {_name(found)}. Of those that leave {measure} where it is at a "
            "price that the recipe allows, it has the lowest log loss, more than a standard error "
            "under that of plain training, with all classes counted alike."
        )
        if math.isfinite(score + before):
            yield f"It reaches {percent(score)}, plain training {percent(before)}."
    price = part(found, "price")
    rarer, commoner = number(price.get("rare")), number(price.get("common"))
    if math.isfinite(rarer + commoner):
        yield (
            f"Its price: the recall of the rarer half of the classes {_moved(rarer)} on average, "
            f"that of the commoner half {_moved(commoner)}."
        )
        if commoner < -DEAR:
            yield f"imbalance.price = {DEAR} has `auto` stay below {words.points(DEAR)} there."


def _moved(change: float) -> str:
    if abs(change) < 0.0005:
        return "stays"
    return f"{'rises' if change > 0 else 'falls'} by {words.points(abs(change))}"


def _way(way: Facts, method: str) -> Way:
    name, loss = _name(way), number(way.get("loss"))
    return Way(
        MISSING if not name else name[0].upper() + name[1:],
        way.get("method") == method,
        f"{loss:.3f}" if math.isfinite(loss) else MISSING,
        number(way.get("score")),
        number(way.get("accuracy")),
        number(way.get("rare")),
        number(way.get("common")),
    )
