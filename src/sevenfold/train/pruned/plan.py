"""Say how a trained network is pruned, and hold what comes of it."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from sevenfold import nets
from sevenfold.features import trunk as engines
from sevenfold.loop import Trained
from sevenfold.practices import pruning


@dataclass(frozen=True)
class Plan:
    """Say how a network is pruned.

    Args:
        aims: what it is to be cut to, in the order in which each step cuts; 1 or more.
        settings: how channels are ranked, the steps and their epochs, at what drop on
            validation the loop ends, and which controls stand beside it.
        rate: the largest learning rate of each training.
    """

    aims: tuple[pruning.Aim, ...]
    settings: pruning.Pruning
    rate: float


@dataclass(frozen=True, eq=False)
class Candidate:
    """Hold a network of the loop.

    Args:
        network: in evaluation mode, on the CPU.
        logits: of the validation pictures; empty before it was trained.
        trained: the history of its last training.
    """

    network: nets.Network
    logits: Float[np.ndarray, "judged classes"]
    trained: Trained


@dataclass(frozen=True, eq=False)
class Outcome:
    """Hold what was pruned, and its controls.

    Args:
        score: of the unpruned network on validation.
        shrunk: the steps.
        dense: the unpruned network after as much training; None where it was not asked for.
        smaller: a network of the size of each step, from the first on.
        fresh: whether these are of the steps' shapes and were never pruned; else they have the
            steps' multiply-accumulates and channels that were kept at random, where the steps
            removed whole blocks the fewer.
        missing: why there is no smaller one of some steps.
    """

    score: float
    shrunk: pruning.Shrunk[Candidate]
    dense: Candidate | None
    smaller: tuple[Candidate, ...] = ()
    fresh: bool = False
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Attempt:
    """Hold how the network that a fit made was pruned, or why it was not.

    Args:
        plan: how.
        outcome: steps and controls; None where there are none.
        reason: why there are none, or "".
    """

    plan: Plan
    outcome: Outcome | None
    reason: str = ""


def key(plan: Plan, network: nets.Network, side: int, trial: str) -> str:
    """Name a pruning by the trial's key, its plan and the network that it starts from.

    Neither what is measured here (a latency, and so the share that is to remain), nor where
    the loop ends changes a step. Of the controls it matters whether the unpruned network is
    trained on, since it may teach.
    """
    alone = plan.settings.controls == "none"
    settings = replace(plan.settings, max_drop=0.0, controls="none" if alone else "dense")
    aims = (replace(one, share=0.0) if one.target.kind == "latency" else one for one in plan.aims)
    plain = Plan(tuple(aims), settings, plan.rate)
    state = f"{trial} {plain} {engines.digest(network, side)}"
    return hashlib.blake2b(state.encode(), digest_size=8).hexdigest()
