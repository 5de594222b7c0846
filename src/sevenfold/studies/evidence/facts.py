"""Write evidence as plain facts: the content of `evidence.json`."""

import json
import math
from importlib.resources import files
from typing import Any, Final

from sevenfold.paired import Effect
from sevenfold.recipe import to_toml
from sevenfold.studies.evidence.advice import Choice, advise
from sevenfold.studies.evidence.effects import Evidence, Finding, Measured
from sevenfold.studies.evidence.frozen import plain
from sevenfold.studies.evidence.outcomes import DIRECTIONS

SCHEMA: Final = "sevenfold.evidence/1"


def facts(evidence: Evidence) -> dict[str, Any]:
    """Return the object of `evidence --json`, a function of the outcomes alone.

    Effects are with minus without the practice, fractions for scores; what is not known yet is
    null. Its shape is that of `schema`.

    Args:
        evidence: complete or not.
    """
    study, advice = evidence.study, advise(evidence)
    return {
        "schema": SCHEMA,
        "data": study.data,
        "objective": study.objective,
        "complete": evidence.complete,
        "repetitions": evidence.repetitions,
        "repetitions_planned": study.repetitions,
        "pictures": evidence.pictures,
        "classes": len(study.classes),
        "groups": evidence.groups,
        "seconds": evidence.seconds,
        "family": evidence.family,
        "regime": plain(study.regime),
        "practices": {one.practice: _practice(one, evidence) for one in evidence.findings},
        "interactions": [
            {"practice": one.practice, **_interval(one.difference)} for one in evidence.interactions
        ],
        "arms": {
            name: {metric: _known(mean) for metric, mean in means.items()}
            for name, means in evidence.arms.items()
        },
        "diverged": dict(evidence.diverged),
        "recommended": to_toml(advice.recipe),
        "advice": [_advised(one) for one in advice.choices],
        "gives_up": _known(advice.gives_up),
    }


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) that `evidence.json` obeys."""
    held = files("sevenfold.studies.evidence") / "evidence.schema.json"
    found: dict[str, Any] = json.loads(held.read_text("utf-8"))
    return found


def _practice(finding: Finding, evidence: Evidence) -> dict[str, Any]:
    deciding = finding.deciding(DIRECTIONS[0])
    told: dict[str, Any] = {
        "verdict": finding.verdict,
        "reason": finding.reason,
        "off_means": deciding.contrast.off_means if deciding else "",
        "repetitions": deciding.repetitions if deciding else 0,
        "p_holm": _known(finding.p_holm),
        "p_flip": _known(deciding.p_flip if deciding else math.nan),
        "to_resolve": {
            "pictures": (deciding.to_resolve if deciding else 0) or None,
        },
        "answers": {},
    }
    for direction in DIRECTIONS:
        one = finding.deciding(direction)
        told[direction] = _metrics(one, finding, evidence) if one else {}
        if one and one.pictures:
            told["answers"][direction] = {
                "pictures": one.pictures,
                "only_with": one.answers.only_second,
                "only_without": one.answers.only_first,
                "mcnemar_p": one.mcnemar,
            }
    told["references"] = [
        {
            "direction": one.contrast.direction,
            "off_means": one.contrast.off_means,
            "metrics": _metrics(one, finding, evidence),
        }
        for one in finding.contrasts
        if not one.contrast.deciding
    ]
    return told


def _metrics(one: Measured, finding: Finding, evidence: Evidence) -> dict[str, dict[str, Any]]:
    contrast = one.contrast
    told = {}
    for name, effect in one.effects.items():
        decides = (
            contrast.deciding
            and contrast.direction == DIRECTIONS[0]
            and name == evidence.study.objective
        )
        told[name] = {
            **_interval(effect),
            "p": _known(effect.p),
            "verdict": finding.verdict if decides else None,
            "with": _known(evidence.arms.get(contrast.with_arm, {}).get(name, math.nan)),
            "without": _known(evidence.arms.get(contrast.without_arm, {}).get(name, math.nan)),
        }
    return told


def _interval(effect: Effect) -> dict[str, float | None]:
    return {
        "effect": _known(effect.value),
        "low": _known(effect.low),
        "high": _known(effect.high),
    }


def _advised(choice: Choice) -> dict[str, Any]:
    told = {name: getattr(choice, name) for name in Choice.__slots__}
    return {**told, "gives_up": _known(choice.gives_up)}


def _known(value: float) -> float | None:
    """Return a number that JSON has; None for one that is not known."""
    return float(value) if math.isfinite(value) else None
