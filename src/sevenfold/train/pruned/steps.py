"""Go through the steps of a pruning or of a control, each of which is written down."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch

from sevenfold import checkpoint, nets
from sevenfold.loop import Epoch, Trained
from sevenfold.practices import pruning
from sevenfold.train.pruned.ground import Ground, judged, retrained, saved_at
from sevenfold.train.pruned.plan import Candidate

Change = Callable[[Candidate, int], Candidate]
"""Makes the network of a step from that of the one before."""


def through(
    ground: Ground,
    start: Candidate,
    kind: str,
    count: int,
    trim: Change,
    *,
    retrain: Change | None = None,
    score: float = 1.0,
    max_drop: float = 1.0,
) -> pruning.Shrunk[Candidate]:
    """Go through the loop's steps, of the pruning itself or of a control, whose drop is free.

    Writes checkpoints; goes on from those that are there, to the bit.

    Args:
        ground: what all trainings share.
        start: the unpruned network.
        kind: names the checkpoints.
        count: steps at most.
        trim: cuts a network.
        retrain: trains what is left; None: as all steps are.
        score: of the unpruned network on validation.
        max_drop: by how much it may fall.
    """
    return pruning.shrink(
        start,
        count,
        score=score,
        max_drop=max_drop,
        trim=trim,
        retrain=retrain or partial(retrained, ground, kind),
        measure=partial(judged, ground),
        recall=partial(_recall, ground, kind),
        keep=partial(_keep, ground, kind),
    )


def untrained(network: nets.Network) -> Candidate:
    """Hold a network that was not asked about anything yet."""
    nothing = np.zeros((0, network.head.out_features), np.float32)
    return Candidate(network, nothing, Trained((), 0, False))


def _keep(ground: Ground, kind: str, step: pruning.Step[Candidate]) -> None:
    checkpoint.save(saved_at(ground, kind, step.number), tree(step.network) | {"score": step.score})
    for what in ("-training", "-cut"):
        saved_at(ground, kind, step.number, what).unlink(missing_ok=True)


def _recall(ground: Ground, kind: str, number: int) -> pruning.Step[Candidate] | None:
    path = saved_at(ground, kind, number)
    if not path.exists():
        return None
    found = checkpoint.load(path)
    return pruning.Step(number, rebuilt(ground, found), float(found["score"]))


def tree(candidate: Candidate) -> dict[str, Any]:
    """Return what a checkpoint holds of a network."""
    return {
        "shapes": pruning.shapes(candidate.network),
        "weights": candidate.network.state_dict(),
        "logits": torch.from_numpy(np.ascontiguousarray(candidate.logits)),
        "history": [asdict(line) for line in candidate.trained.history],
    }


def rebuilt(ground: Ground, held: dict[str, Any]) -> Candidate:
    """Rebuild what `tree` describes, to the bit."""
    network = pruning.reshape(ground.network, held["shapes"])
    assert isinstance(network, nets.Network)
    network.load_state_dict(held["weights"])
    history = tuple(Epoch(**line) for line in held["history"])
    trained = Trained(history, len(history) - 1 if history else 0, False)
    return Candidate(network.eval(), held["logits"].numpy(), trained)
