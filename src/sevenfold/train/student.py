"""Make one network of the vote, and choose what is deployed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sevenfold import evaluate
from sevenfold.loop import Trained
from sevenfold.practices import ensembling, imbalance
from sevenfold.recipe import Recipe
from sevenfold.rows import Numbers, Rows, to_input
from sevenfold.train.bench import Bench, Part, parts_of, tail_of
from sevenfold.train.member import Member, answered, rows_of, trained

BLEND: Final = 1.0
"""Both parameters of the Beta that blends what a student is shown: every share alike."""
GENTLY: Final = 0.1
"""Share of the members' rate at which a student goes on from their average."""
KEPT: Final = 0.7
"""Share of the vote's gain that one network must keep to be deployed in its place."""
_GAIN: Final = 1e-6  # nats; less is rounding


def stacked(members: Sequence[Member]) -> Float[np.ndarray, "members judged classes"]:
    """Return what each member says of the pictures that choices are made by."""
    return np.stack([member.logits for member in members])


def calibrated(
    logits: Float[np.ndarray, "judged classes"], labels: Int64[np.ndarray, "judged"]
) -> Float[np.ndarray, "judged classes"]:
    """Return log-probabilities at the temperature that fits logits best."""
    precise = logits.astype(np.float64)
    return ensembling.log_softmax(precise / evaluate.fit_temperature(precise, labels))


def single(
    bench: Bench,
    each: Sequence[Bench],
    members: tuple[Member, ...],
    weights: Float[np.ndarray, "members"],
    rate: float,
    seed: int,
) -> tuple[Member | None, Trained | None]:
    """Make one network that stands for the vote, as far as the recipe asks for one.

    First the average of the members' weights, which costs no training; where that does not
    keep enough of what voting gained, a student. Where one member has all the say there is
    no vote to stand for.

    Args:
        bench: of member 0, and of the student.
        each: the bench of each member.
        members: of the vote.
        weights: of the members.
        rate: the largest learning rate.
        seed: of the student's training.

    Returns:
        The network, or None; and the lessons of a student that was worse than the average
        in its place.
    """
    asked = bench.recipe.ensembling
    if np.count_nonzero(weights) < 2:
        return None, None
    begins = asked.distil and alike(bench.recipe)
    middle = merged(bench, members, weights) if asked.average or begins else None
    kept = asked.average and middle is not None and _keeps(bench, members, weights, middle)
    if kept or not asked.distil:
        return middle, None
    return distilled(bench, each, members, weights, rate, seed, middle if begins else None)


def merged(
    bench: Bench, members: Sequence[Member], weights: Float[np.ndarray, "members"]
) -> Member:
    """Average the members into one network; with small data also those of each fold."""
    stacks = [(*member.folds, member.network) for member in members]
    networks = [ensembling.averaged(networks, weights) for networks in zip(*stacks, strict=True)]
    logits = np.zeros_like(members[0].logits)
    for part, network in zip(parts_of(bench), networks, strict=True):
        answered(bench, part, network, logits)
    return replace(
        members[0],
        network=networks[-1],
        folds=tuple(networks[:-1]),
        trained=Trained((), 0, False),
        steps=0,
        decision=None,
        logits=logits,
    )


def distilled(
    bench: Bench,
    each: Sequence[Bench],
    members: Sequence[Member],
    weights: Float[np.ndarray, "members"],
    rate: float,
    seed: int,
    middle: Member | None,
) -> tuple[Member, Trained | None]:
    """Train one network on what the vote says of all that it is shown.

    It starts from the average of the members where that is given, at a rate that does not
    undo it and with the batch-norm statistics of pictures, from which those of blends differ,
    and stays the average where lessons bring it no nearer to the vote. It is shown blends of two
    pictures, on which the vote is not as sure as it is of the pictures that its members were
    trained on: a teacher tells more where it hesitates (function matching: Beyer et al. 2022,
    arXiv 2106.05237). A teacher with another trunk is shown the same blend of the same views,
    as its own trunk sees them.

    Args:
        bench: of the student.
        each: the bench of each member.
        members: the teachers.
        weights: of the members.
        rate: the largest learning rate.
        seed: of the training.
        middle: the members' average, where they share a start.

    Returns:
        The student; or the average, and the lessons that brought it no nearer.
    """
    recipe = bench.recipe
    vote = recipe.ensembling.vote
    # Who has no say in the vote teaches nothing.
    say = np.flatnonzero(weights).tolist()
    members, each = [members[at] for at in say], [each[at] for at in say]
    weights = weights[say]
    # What helps rare classes is in the teachers' answers already.
    plain = replace(
        recipe,
        epochs=recipe.ensembling.lessons or recipe.epochs,
        imbalance=imbalance.Imbalance.off,
        augmentation=replace(recipe.augmentation, mixup=BLEND, cutmix=0.0),
    )
    bench = replace(bench, recipe=plain)
    trunks = {own.recipe.transfer: own for own in (*each, bench)}

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
                if own.recipe.transfer == recipe.transfer:  # whatever it was trained on
                    return shown.mix(inputs, named, numbers, epoch)[0]
                turns = views % own.views.count if own.views.count else views
                theirs = to_input(own.views.get(pictures, turns), bench.place.device)
                return shown.mix(theirs, named, numbers, epoch)[0]

            blends = {transfer: blended(own) for transfer, own in trunks.items()}
            answers = []
            for tail, own in zip(tails, each, strict=True):
                with torch.no_grad(), bench.place.forward(tail):
                    answers.append(tail(blends[own.recipe.transfer]).float().cpu().numpy())
            told = torch.from_numpy(ensembling.pool(np.stack(answers), weights, vote))
            softened = torch.softmax(told.float(), dim=1).to(inputs.device)
            return blends[recipe.transfer], softened

        return replace(shown, mix=taught)

    gently = rate * (GENTLY if middle else 1)
    learnt = trained(bench, gently, seed, f"student-{seed}", rows, middle)
    learnt = replace(learnt, rate=rate)  # an update goes on at a share of what was found
    for member in members:  # their tails were moved to where the student learns
        for network in (*member.folds, member.network):
            network.cpu().eval()
    if middle is None:
        return learnt, None
    taught, before = apart(bench, members, weights, (learnt, middle))
    return (learnt, None) if taught < before else (middle, learnt.trained)


def apart(
    bench: Bench,
    members: Sequence[Member],
    weights: Float[np.ndarray, "members"],
    networks: Sequence[Member],
) -> list[float]:
    r"""Return how far each network's answers are from those of the vote that taught it, in nats.

    $$\frac{1}{n} \sum_i \mathrm{KL}\left(p_i^\mathrm{vote} \,\middle\|\, p_i\right)$$

    over the pictures that choices are made by, both calibrated. Were the vote's probabilities
    true, this would be the expectation of what the network's log loss exceeds the vote's by;
    without the labels' chance it says much the same of validation and of test, where losses on
    labels said 86 % and 12 % of one network (docs/log.md, 2026-12-01).

    Args:
        bench: has the pictures' classes, which calibrate.
        members: of the vote.
        weights: of the members.
        networks: any.
    """
    pooled = ensembling.pool(stacked(members), weights, bench.recipe.ensembling.vote)
    vote = calibrated(pooled, bench.labels)
    return [divergence(vote, calibrated(one.logits, bench.labels)) for one in networks]


def divergence(
    vote: Float[np.ndarray, "judged classes"], own: Float[np.ndarray, "judged classes"]
) -> float:
    """Return the mean of KL(vote ‖ own) of log-probabilities, in nats."""
    return float((np.exp(vote) * (vote - own)).sum(axis=1).mean())


def alike(recipe: Recipe) -> bool:
    """Tell whether members started from the same weights, so that their average is of use."""
    return recipe.transfer.weights != "random" and not recipe.ensembling.backbones


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

    The one network that stands for the vote, where it keeps `KEPT` of what the vote gained over
    its members: of the likelihood of the labels, after calibration, where it is an average,
    which nobody taught to answer as the vote does; of the distance to the vote, where it was
    taught. Else the vote, where it gained any.
    """
    has_say = np.flatnonzero(weights)
    voters = tuple(members[at] for at in has_say), weights[has_say]
    if student is None:
        return voters
    if _keeps(bench, members, weights, student):
        return (student,), np.ones(1)
    mean, pooled = _gained(bench, members, weights)
    return voters if mean - pooled > _GAIN else (members[:1], np.ones(1))


def _gained(
    bench: Bench, members: tuple[Member, ...], weights: Float[np.ndarray, "members"]
) -> tuple[float, float]:
    """Return the members' mean loss and that of their vote."""
    pooled = ensembling.pool(stacked(members), weights, bench.recipe.ensembling.vote)
    mean = float(np.mean([evaluate.calibrated_nll(one.logits, bench.labels) for one in members]))
    return mean, evaluate.calibrated_nll(pooled, bench.labels)


def _keeps(
    bench: Bench,
    members: tuple[Member, ...],
    weights: Float[np.ndarray, "members"],
    one: Member,
) -> bool:
    if one.trained.history:
        own, *each = apart(bench, members, weights, (one, *members))
        return own <= (1 - KEPT) * float(np.mean(each))
    mean, pooled = _gained(bench, members, weights)
    return evaluate.calibrated_nll(one.logits, bench.labels) <= mean - KEPT * max(
        0.0, mean - pooled
    )
