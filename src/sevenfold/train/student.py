"""Distil the vote into one network, and choose what is deployed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sevenfold import evaluate
from sevenfold.loop import Numbers, Rows
from sevenfold.practices import ensembling, imbalance
from sevenfold.train.bench import Bench, Part, tail_of
from sevenfold.train.member import Member, hard, rows_of, trained

BLEND: Final = 1.0
"""Both parameters of the Beta that blends what a student is shown: every share alike."""
KEPT: Final = 0.7
"""Share of the vote's gain that a student must keep to be deployed in its place."""


def stacked(members: Sequence[Member]) -> Float[np.ndarray, "members judged classes"]:
    """Return what each member says of the pictures that choices are made by."""
    return np.stack([member.logits for member in members])


def calibrated(
    logits: Float[np.ndarray, "judged classes"], labels: Int64[np.ndarray, "judged"]
) -> Float[np.ndarray, "judged classes"]:
    """Return log-probabilities at the temperature that fits logits best."""
    precise = logits.astype(np.float64)
    return ensembling.log_softmax(precise / evaluate.fit_temperature(precise, labels))


def _loss(
    logits: Float[np.ndarray, "judged classes"], labels: Int64[np.ndarray, "judged"]
) -> float:
    return float(-calibrated(logits, labels)[np.arange(len(labels)), labels].mean())


def distilled(
    bench: Bench,
    members: Sequence[Member],
    weights: Float[np.ndarray, "members"],
    rate: float,
    seed: int,
) -> Member:
    """Train one network on what the vote says of all that it is shown.

    It is shown blends of two pictures, on which the vote is not as sure as it is of the
    pictures that its members were trained on: a teacher tells more where it hesitates
    (function matching: Beyer et al. 2022, arXiv 2106.05237).
    """
    recipe = bench.recipe
    vote = recipe.ensembling.vote
    # What helps rare classes is in the teachers' answers already.
    plain = replace(
        recipe,
        epochs=recipe.ensembling.lessons or recipe.epochs,
        imbalance=imbalance.Imbalance.off,
        augmentation=replace(recipe.augmentation, mixup=BLEND, cutmix=0.0),
    )
    bench = replace(bench, recipe=plain)

    def rows(at: int, part: Part) -> Rows:
        # A fold's student learns from networks that did not see the fold either.
        teachers = [(*member.folds, member.network)[at] for member in members]
        tails = [tail_of(teacher, recipe).to(bench.place.device).eval() for teacher in teachers]
        shown = rows_of(bench, part, hard(bench), seed)

        def taught(
            inputs: Tensor, targets: Tensor, numbers: Numbers, epoch: int
        ) -> tuple[Tensor, Tensor]:
            blended, _ = shown.mix(inputs, targets, numbers, epoch)
            with torch.no_grad(), bench.place.cast():
                answers = [tail(blended).float().cpu().numpy() for tail in tails]
            told = torch.from_numpy(ensembling.pool(np.stack(answers), weights, vote))
            return blended, torch.softmax(told.float(), dim=1).to(inputs.device)

        return replace(shown, mix=taught)

    return trained(bench, rate, seed, f"student-{seed}", rows)


def deployed(
    bench: Bench,
    members: tuple[Member, ...],
    weights: Float[np.ndarray, "members"],
    student: Member | None,
) -> tuple[tuple[Member, ...], Float[np.ndarray, "deployed"]]:
    """Choose what is deployed, and the weights of its vote.

    The student, where it keeps `KEPT` of the likelihood that the vote gained over its
    members; else the vote, where it gained any. Losses are after calibration.
    """
    has_say = np.flatnonzero(weights)
    voters = tuple(members[at] for at in has_say), weights[has_say]
    if student is None:
        return voters
    vote = bench.recipe.ensembling.vote
    pooled = _loss(ensembling.pool(stacked(members), weights, vote), bench.labels)
    taught = _loss(student.logits, bench.labels)
    single = float(np.mean([_loss(one.logits, bench.labels) for one in members]))
    if taught <= single - KEPT * max(0.0, single - pooled):
        return (student,), np.ones(1)
    return voters if pooled < single else (members[:1], np.ones(1))
