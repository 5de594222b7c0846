"""Read from a finished run's record what a new model of it needs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sevenfold import nets, operating, record, release, runs, train
from sevenfold.loop import Epoch, Trained
from sevenfold.practices import optimization, transfer
from sevenfold.recipe import Recipe


def members(run: runs.Run) -> list[train.Member]:
    """Join the networks that vote to the history of their trainings; without logits.

    Raises:
        ModelError: the record does not fit the networks.
    """
    return _joined(run, run.members, run.origins[1:], student=False)


def shipped(run: runs.Run) -> train.Member:
    """Join the network that ships to the history of its training; without logits.

    Raises:
        ModelError: the record does not fit.
    """
    taught = run.facts["ensembling"].get("ships") == "student"
    if taught or not run.members:
        return _joined(run, (run.network,), run.origins[:1], student=taught)[0]
    found = members(run)[alone(run.weights)]
    return dataclasses.replace(found, network=run.network)


def alone(weights: Sequence[float]) -> int:
    """Return which member ships where one does: it alone has a say, or it is the first.

    Example:
        >>> alone([0.0, 1.0]), alone([0.25, 0.75])
        (1, 0)
    """
    return int(np.argmax(weights)) if np.count_nonzero(weights) == 1 else 0


def _joined(
    run: runs.Run,
    networks: Sequence[nets.Network],
    origins: Sequence[transfer.Origin],
    *,
    student: bool,
) -> list[train.Member]:
    try:
        training = run.facts["training"]
        told = [one for one in training["members"] if one["student"] == student]
        return [
            train.Member(
                network,
                (),
                origin,
                int(one["seed"]),
                float(one.get("rate", training["rate"])),
                Trained(
                    tuple(Epoch(**line) for line in one["history"]),
                    int(one["best_epoch"]),
                    bool(one["stopped_early"]),
                ),
                int(one.get("steps", 0)),
                _decision(one.get("decision")),
                np.zeros((0, len(run.manifest.classes))),
            )
            for network, origin, one in zip(networks, origins, told, strict=True)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise record.damaged(run.folder / "report.json") from error


def _decision(told: Mapping[str, Any] | None) -> optimization.Decision | None:
    return optimization.Decision(told["step"], tuple(told["ratios"])) if told else None


def first_seed(run: runs.Run) -> int:
    """Return the seed of the training that a run goes back to, whatever made its model anew.

    By it the share of the pictures was drawn that training saw.
    """
    return int(run.facts["run"]["seed"])


def going_on(recipe: Recipe) -> Recipe:
    """Return the recipe of what goes on from a run's own weights: those of the hub may be gone."""
    own = dataclasses.replace(recipe.transfer, weights="random", sha256="")
    return dataclasses.replace(recipe, transfer=own)


def asked(run: runs.Run) -> release.Asked:
    """Ask for a release under the names of the run."""
    told = run.facts["run"]
    return release.Asked(
        run.facts["data"]["source"],
        told["budget"],
        first_seed(run),
        told.get("licence", ""),
        told["reading"],
        run.manifest,
        operating.Wish(**told.get("wish", {})),
        run.facts,
    )
