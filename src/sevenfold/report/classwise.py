"""Make the part of the report on what each class was shown: left out, or stronger for rare ones."""

import math
from typing import Any, NamedTuple

from sevenfold.report import words
from sevenfold.report.words import Facts, number, part, percent, rows

FLAGGED = 40
WAYS = 8


class Way(NamedTuple):
    """Hold one way to show rare classes."""

    name: str
    chosen: bool
    score: float
    accuracy: float
    seconds: float


class Left(NamedTuple):
    """Hold one operation that changes what a class shows."""

    label: str
    operation: str
    into: str
    pictures: int
    clean: float
    augmented: float


def classwise(facts: Facts) -> dict[str, Any]:
    """Return the part on what classes were spared and how rare ones were shown.

    Args:
        facts: cleaned content of `report.json`.

    Returns:
        Nothing where neither was looked at.
    """
    found = part(facts, "classwise")
    check, ways = part(found, "label_check"), rows(found, "rare_views")
    flagged = [_left(one) for one in rows(check, "flagged")]
    said = [*_checked(check, len(flagged)), *_shown(found, ways)]
    if not said:
        return {}
    return {
        "said": said,
        "flagged": flagged[:FLAGGED],
        "flagged_left_out": max(0, len(flagged) - FLAGGED),
        "ways": [_way(one) for one in ways[:WAYS]],
        "measure": "Balanced accuracy"
        if facts.get("objective") == "balanced_accuracy"
        else "Accuracy",
    }


def _checked(check: Facts, flagged: int) -> list[str]:
    """Say what the label check looked at and what came of it."""
    if check.get("reason"):
        return [f"The label check was left out: {check['reason']}."]
    names = [str(name).replace("_", " ") for name in check.get("operations") or []]
    if not names:
        return []
    looked = (
        f"The label check looked at {', '.join(names)}: a classifier that was trained on pictures "
        f"as they are, right in {percent(number(check.get('accuracy')))}, answered "
        f"{words.count(check.get('pictures'), 'training picture')} that it had not seen, as they "
        "are and after each operation at its full reach."
    )
    return [looked, *_found(check, flagged)]


def _found(check: Facts, flagged: int) -> list[str]:
    """Say what came of the label check, and of how many classes nothing could come of it."""
    few, classes = (int(words.positive(check.get(name))) for name in ("too_few", "classes"))
    few = min(few, classes)  # older reports count something else, and no classes
    said = []
    if few:
        said.append(
            f"Too few to judge for {few:,} of {classes:,} classes: no number of changed answers "
            "among so few pictures could be told from chance."
        )
    if flagged:
        then = (
            "the recipe insists, and they were drawn all the same"
            if check.get("insisted")
            else "they were left out for it"
        )
        said.append(f"The operations below change what a class shows; {then}.")
    elif not few or few < classes:
        whom = "any other class" if few else "a class"
        said.append(f"None changes what {whom} shows, as far as these pictures can tell.")
    return said


def _shown(found: Facts, ways: list[Facts]) -> list[str]:
    """Say how rare classes were shown."""
    if not ways:
        return []
    names = [str(name) for name in found.get("rare") or []]
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    spent = sum(words.positive(one.get("seconds")) for one in ways[1:])
    cost = f" Trying it took {words.duration(spent)}." if spent else ""
    chosen = next((one for one in ways if one.get("chosen")), {})
    if chosen is ways[0] or not chosen:
        return [
            f"For the rare classes ({shown}) more or stronger views were tried and switched off: "
            f"they gained no more than one standard error where choices are made.{cost}"
        ]
    return [
        f"The rare classes ({shown}) are shown {_name(chosen)}: that gained more than one "
        f"standard error where choices are made.{cost}"
    ]


def _name(way: Facts) -> str:
    strength, views = number(way.get("strength")), number(way.get("views"))
    told = [f"{views:g} times the views"] if views > 1 else []
    if math.isfinite(strength) and strength != 1:
        told.append(f"views {strength:g} times as strong")
    return " and ".join(told) or "as all others"


def _way(way: Facts) -> Way:
    name = _name(way)
    return Way(
        name[0].upper() + name[1:],
        bool(way.get("chosen")),
        number(way.get("score")),
        number(way.get("accuracy")),
        number(way.get("seconds")),
    )


def _left(finding: Facts) -> Left:
    name = f"{finding.get('operation')} {finding.get('direction') or ''}".strip()
    return Left(
        str(finding.get("label") or ""),
        name.replace("_", " "),
        str(finding.get("into") or ""),
        int(words.positive(finding.get("pictures"))),
        number(finding.get("clean")),
        number(finding.get("augmented")),
    )
