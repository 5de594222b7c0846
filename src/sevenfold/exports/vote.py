"""Join the members of a run's vote to one graph, whatever the run ships."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from jaxtyping import Float64
from scipy.special import softmax

from sevenfold import evaluate
from sevenfold import export as graphs
from sevenfold.errors import UsageError
from sevenfold.exports import verify
from sevenfold.release.graph import joined
from sevenfold.runs import Run

_NOT_ITS_OWN: Final = (
    "scores", "latency_ms", "network_latency_ms", "machine", "megabytes",
    "operating_point", "unknown", "drift", "pruning",
)  # fmt: skip
"""What a card says of the model that ships, by its probabilities, features or files."""


@final
@dataclass(frozen=True, eq=False, slots=True)
class Vote:
    """Hold the graph of a vote and how it answers on validation.

    Args:
        model: from whole pictures to calibrated probabilities.
        temperature: that divides the pooled logits.
        voters: networks that have a say.
        agreement: of the graph and the networks.
        probabilities: of the graph, of each validation picture.
    """

    model: bytes
    temperature: float
    voters: int
    agreement: graphs.Agreement
    probabilities: Float64[np.ndarray, "pictures classes"]


def of(run: Run, *, largest: float, threads: int) -> Vote:
    """Export each member that has a say, pool them in the graph, and calibrate after pooling.

    Args:
        run: whose members are asked about its validation pictures; test stays closed.
        largest: difference of a probability between graph and networks that is allowed.
        threads: pictures at a time.

    Raises:
        UsageError: fewer than two networks have a say, or there is no validation.
        GateRefused: the graph answers differently from the networks.
    """
    _refuse(run)
    recipe, dataset, chosen = run.recipe, run.split.dataset, run.split.val.tolist()
    say = np.flatnonzero(run.weights)
    voters = [run.members[at] for at in say.tolist()]
    shares = np.array(run.weights)[say]
    whole = joined(voters, shares, recipe, dataset, chosen, threads=threads)
    temperature = evaluate.fit_temperature(whole.logits, dataset.labels[run.split.val])
    model = graphs.assemble(whole.core, recipe.side, len(dataset.classes), temperature)
    answered = graphs.answers(model, dataset, chosen, threads)
    expected = softmax(whole.logits / temperature, axis=1)
    found = graphs.agreement(answered, expected, tie=largest)
    verify.demand(found, what="the vote's graph", largest=largest)
    return Vote(model, temperature, len(voters), found, answered)


def _refuse(run: Run) -> None:
    if np.count_nonzero(run.weights) < 2:
        raise UsageError(
            f"{run.folder} holds one model: there is no vote to export",
            "use --to onnx, or train with --set ensembling.members=3",
        )
    if not len(run.split.val):
        raise UsageError(
            f"{run.folder} has no validation pictures to calibrate a vote by",
            "use --to onnx: where the vote ships, the bundle is it",
        )


def told(
    vote: Vote,
    ships: Float64[np.ndarray, "pictures classes"],
    run: Run,
) -> dict[str, Any]:
    """Compare a vote with the model that ships, on validation.

    Args:
        vote: from `of`.
        ships: probabilities of the run's own model, of the same pictures.
        run: has their classes.
    """
    labels = run.split.dataset.labels[run.split.val]
    found: dict[str, Any] = {"voters": vote.voters, "pictures": len(labels)}
    for name, shares in (("", vote.probabilities), ("model_", ships)):
        losses = evaluate.log_loss(np.log(np.maximum(shares, 1e-30)), labels)
        found[f"{name}accuracy"] = float((shares.argmax(axis=1) == labels).mean())
        found[f"{name}nll"] = float(losses.mean())
    return found


def card(
    whole: Mapping[str, Any], vote: Vote, found: Mapping[str, Any], cost: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the card of a vote: that of the model without what was measured of it alone.

    Args:
        whole: the bundle's card.
        vote: from `of`.
        found: from `told`.
        cost: `megabytes`, `latency_ms` and `machine`.
    """
    kept = {name: held for name, held in whole.items() if name not in _NOT_ITS_OWN}
    own = {"temperature": vote.temperature, "voters": vote.voters, "ships": "vote"}
    return {**kept, **own, "averaged": False, **cost, "vote": dict(found)}
