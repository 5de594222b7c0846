"""Make up the outcomes of a study whose true effects are known."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from sevenfold.recipe import PRACTICES, default, to_toml
from sevenfold.studies.evidence.outcomes import (
    BASE,
    REFERENCE,
    Contrast,
    Outcome,
    Study,
    all_but,
    base_with,
)

CLASSES = ("cat", "dog", "owl")


def study(
    pictures: int = 600,
    *,
    repetitions: int = 6,
    practices: Sequence[str] = PRACTICES,
    objective: str = "accuracy",
    groups: int = 0,
    seed: int = 0,
) -> Study:
    random = np.random.default_rng(seed)
    alone = [one for one in practices if one != "transfer"]
    return Study(
        data="made up",
        classes=CLASSES,
        labels=random.integers(0, len(CLASSES), pictures),
        groups=np.arange(pictures) if not groups else np.arange(pictures) * groups // pictures,
        objective=objective,
        repetitions=repetitions,
        arms=(
            REFERENCE,
            BASE,
            *(all_but(one) for one in practices),
            *(base_with(one) for one in alone),
        ),
        contrasts=(
            *(Contrast(one, "leave_one_out", REFERENCE, all_but(one), "off") for one in practices),
            *(Contrast(one, "add_one_in", base_with(one), BASE, "off") for one in alone),
        ),
        not_in_use={},
        recipe=to_toml(default("quick")),
        regime={"side": 160, "views": 4, "epochs": 6, "budget": "quick", "cut": 5},
    )


def outcomes(
    about: Study,
    accuracies: Mapping[str, float],
    *,
    costs: Mapping[str, tuple[float, float, float]] | None = None,
    repetitions: int | None = None,
    churn: float = 0.02,
    seed: int = 0,
) -> list[Outcome]:
    """Draw outcomes; arms share how hard each picture is, so that they are paired.

    Args:
        about: the study.
        accuracies: of arms; 0.9 where not given.
        costs: seconds, megabytes and milliseconds of arms.
        repetitions: how many; all without it.
        churn: share of pictures that an arm answers at random.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    count = len(about.labels)
    hard = random.random(count)
    folds = about.groups % about.repetitions
    made = []
    for arm in about.arms:
        seconds, megabytes, latency_ms = (costs or {}).get(arm, (30.0, 12.0, 4.0))
        for at in range(about.repetitions if repetitions is None else repetitions):
            pictures = np.flatnonzero(folds == at)
            own = np.where(random.random(len(pictures)) < churn, random.random(len(pictures)), -1)
            level = np.where(own >= 0, own, hard[pictures])
            correct = level < accuracies.get(arm, 0.9)
            truth = about.labels[pictures]
            answer = np.where(correct, truth, (truth + 1) % len(CLASSES))
            shares = np.full((len(pictures), len(CLASSES)), 0.1)
            shares[np.arange(len(pictures)), answer] = 0.8
            made.append(Outcome(arm, at, pictures, shares, seconds + at, megabytes, latency_ms, {}))
    return made


def complete_except(found: Sequence[Outcome], arm: str, repetition: int) -> list[Outcome]:
    return [one for one in found if (one.arm, one.repetition) != (arm, repetition)]


def in_use(about: Study, **reasons: str) -> Study:
    """Return a study in which some practices are not in use."""
    return dataclasses.replace(
        about,
        not_in_use=reasons,
        contrasts=tuple(one for one in about.contrasts if one.practice not in reasons),
    )
