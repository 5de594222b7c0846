"""Make the part of the report on an update: what came in, and what it did to the answers."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from sevenfold.plots import plain
from sevenfold.report import words
from sevenfold.report.words import Facts, number, part, percent, rows

CLASSES = 40
FLIPS = 24
NAMED = 12


class Change(NamedTuple):
    """Hold what became of one class since the version that ran before."""

    label: str
    pictures: float
    before: float
    after: float
    few: bool


def update(facts: Facts) -> dict[str, Any]:
    """Return the part on the update that made a version; nothing where none did.

    Args:
        facts: cleaned content of `report.json`.
    """
    found = part(facts, "update")
    if not found.get("accepted"):
        return {}
    comparisons = rows(found, "comparisons")
    first = comparisons[0] if comparisons else {}
    flips = rows(found, "flips")
    return {
        "said": [*_came(found), *map(_compared, comparisons), *_costs(found)],
        "warnings": [str(text) for text in (found.get("warnings") or [])[:NAMED]],
        "reference": plain(first.get("reference")),
        "classes": [
            Change(
                str(one.get("label")),
                number(one.get("pictures")),
                number(one.get("before")),
                number(one.get("after")),
                bool(one.get("too_few")),
            )
            for one in rows(first, "classes")[:CLASSES]
        ],
        "flips": flips[:FLIPS],
        "flips_left_out": max(0, int(words.positive(found.get("negative_flips"))) - FLIPS),
        "corrections": (
            rows(found, "corrections")[:FLIPS] if found.get("corrections_applied") else []
        ),
    }


def _came(found: Facts) -> Iterator[str]:
    new = part(found, "new")
    whole = sum(int(words.positive(new.get(role))) for role in ("train", "val", "test"))
    yield (
        f"Version {words.amount(found.get('version'))} goes on from version "
        f"{words.amount(found.get('parent'))} with {words.count(whole, 'new picture')}: "
        f"{words.amount(new.get('train'))} to train on, {words.amount(new.get('val'))} for "
        f"validation and {words.amount(new.get('test'))} for the test."
    )
    checks = rows(part(found, "agreement"), "checks")
    if checks:
        yield (
            f"Before it learned from them, the model that ran gave the same answer as their "
            f"labels to {percent(number(checks[0].get('agreed')))}."
        )
    names = [str(name) for name in (found.get("new_classes") or [])[:NAMED]]
    if names:
        yield f"New to it: {', '.join(names)}."
    for old, name in list(part(found, "renamed").items())[:NAMED]:
        yield f"{old} is now called {name}."
    if found.get("corrections_applied"):
        count = words.count(found.get("corrections_count"), "known picture")
        yield f"The labels of {count} were corrected."


def _compared(one: Facts) -> str:
    drop, most = number(one.get("drop")), number(one.get("most_lost"))
    bound = f" With 95 % confidence it lost at most {words.points(max(0.0, most))} of accuracy."
    return (
        f"Against {plain(one.get('reference'))} it "
        f"{'falls' if drop > 0 else 'gains' if drop < 0 else 'changes'} by "
        f"{words.points(abs(drop))} on {words.count(one.get('pictures'), 'old test picture')}: "
        f"{words.count(one.get('negative_flips'), 'answer')} got wrong, "
        f"{words.count(one.get('positive_flips'), 'answer')} right." + bound * math.isfinite(most)
    )


def _costs(found: Facts) -> Iterator[str]:
    size, took = part(found, "megabytes"), part(found, "latency_ms")
    if size and took:
        yield (
            f"The file went from {words.megabytes(number(size.get('before')))} to "
            f"{words.megabytes(number(size.get('after')))}, a picture from "
            f"{words.milliseconds(number(took.get('before')))} to "
            f"{words.milliseconds(number(took.get('after')))}."
        )
