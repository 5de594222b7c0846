"""Distil the vote into one network, and choose what is deployed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sevenfold import evaluate
from sevenfold.loop import Numbers, Rows, to_input
from sevenfold.practices import ensembling, imbalance
from sevenfold.train.bench import Bench, Part, tail_of
from sevenfold.train.member import Member, rows_of, trained

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
    each: Sequence[Bench],
    members: Sequence[Member],
    weights: Float[np.ndarray, "members"],
    rate: float,
    seed: int,
) -> Member:
    """Train one network on what the vote says of all that it is shown.

    It is shown blends of two pictures, on which the vote is not as sure as it is of the
    pictures that its members were trained on: a teacher tells more where it hesitates
    (function matching: Beyer et al. 2022, arXiv 2106.05237). A teacher with another trunk
    is shown the same blend of the same views, as its own trunk sees them.

    Args:
        bench: of the student.
        each: the bench of each member.
        members: the teachers.
        weights: of the members.
        rate: the largest learning rate.
        seed: of the training.
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
        tails = [
            tail_of(teacher, own.recipe).to(bench.place.device).eval()
            for teacher, own in zip(teachers, each, strict=True)
        ]
        shown = rows_of(bench, part, _named, seed)

        def taught(
            inputs: Tensor, named: Tensor, numbers: Numbers, epoch: int
        ) -> tuple[Tensor, Tensor]:
            pictures, views = named.cpu().numpy().astype(np.int64).T

            def blended(own: Bench) -> Tensor:
                if own.views is bench.views:
                    return shown.mix(inputs, named, numbers, epoch)[0]
                turns = views % own.views.count if own.views.count else views
                theirs = to_input(own.views.get(pictures, turns), bench.place.device)
                return shown.mix(theirs, named, numbers, epoch)[0]

            blends = {id(own.views): blended(own) for own in (bench, *each)}
            with torch.no_grad(), bench.place.cast():
                answers = [
                    tail(blends[id(own.views)]).float().cpu().numpy()
                    for tail, own in zip(tails, each, strict=True)
                ]
            told = torch.from_numpy(ensembling.pool(np.stack(answers), weights, vote))
            softened = torch.softmax(told.float(), dim=1).to(inputs.device)
            return blends[id(bench.views)], softened

        return replace(shown, mix=taught)

    return trained(bench, rate, seed, f"student-{seed}", rows)


def _named(
    pictures: Int64[np.ndarray, "rows"], views: Int64[np.ndarray, "rows"]
) -> Float[Tensor, "rows 2"]:
    """Hand pictures and views to the teachers in the targets' place; both are below 2 ** 24."""
    return torch.from_numpy(np.stack([pictures, views], axis=1)).float()


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
