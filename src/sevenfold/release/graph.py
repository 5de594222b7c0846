"""Export what ships as one graph: pooled, calibrated, and held against its networks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from jaxtyping import Float
from scipy.special import softmax

from sevenfold import evaluate as scoring
from sevenfold import export, nets
from sevenfold.data import Dataset, Split
from sevenfold.features.trunk import session
from sevenfold.place import Place
from sevenfold.practices import ensembling
from sevenfold.practices.ensembling.graph import voting
from sevenfold.recipe import Recipe
from sevenfold.train import Fitted


@dataclass(frozen=True, eq=False)
class Exported:
    """Hold the graph that ships and what was checked about it.

    Args:
        model: the whole graph, from pictures to calibrated probabilities.
        core: the network alone.
        one: the first of those that vote, alone; `core` where one ships.
        temperature: that divides the logits.
        parity: how well graph and network agree.
        chosen: probabilities of the pictures that choices were made by: the graph's
            on val, or the folds' on train.
        vectors: the mean of the graph's last features for each of those pictures.
    """

    model: bytes
    core: onnx.ModelProto
    one: onnx.ModelProto
    temperature: float
    parity: export.Agreement
    chosen: Float[np.ndarray, "pictures classes"]
    vectors: Float[np.ndarray, "pictures channels"]


@dataclass(frozen=True, eq=False)
class Joined:
    """Hold networks as one.

    Args:
        core: from resized pixels to what they say together.
        one: the first network alone; `core` itself where there is no other.
        logits: what they say together in PyTorch: those of one network, or the
            log-probabilities of a vote.
    """

    core: onnx.ModelProto
    one: onnx.ModelProto
    logits: Float[np.ndarray, "pictures classes"]


def joined(
    networks: Sequence[nets.Network],
    shares: Float[np.ndarray, " members"],
    recipe: Recipe,
    dataset: Dataset,
    pictures: Sequence[int],
    *,
    threads: int,
) -> Joined:
    """Join networks to one graph, and ask them in PyTorch what that graph should answer.

    Each network is exported, and asked over the graph's own resized pixels, with its vote for
    the mirror image where the recipe has one. `ensembling.pool` of the answers is what
    `ensembling.graph.voting` computes of the graphs; one network alone stays as it is. Nothing
    is calibrated. Leaves the networks in evaluation mode; they cannot be trained any more.

    Args:
        networks: at least one, of the recipe's side.
        shares: of each in the vote, above 0; not used for one alone.
        recipe: says the side of the pixels, the kind of vote, and whether mirror images vote.
        dataset: of the pictures.
        pictures: their rows in it.
        threads: pictures at a time, at least 1.

    Returns:
        The graph, the first network's alone, and a row of logits for each picture.

    Raises:
        GateRefused: a graph holds what a vote cannot join.
    """
    cores, answers = [], []
    for network in networks:
        shipped = export.Shipped(network, recipe.ensembling.mirror).eval()
        cores.append(export.core(shipped, recipe.side))
        answers.append(
            export.network_logits(shipped, dataset, pictures, side=recipe.side, threads=threads)
        )
    core = cores[0]
    if len(cores) > 1:
        core = voting(cores, shares, recipe.ensembling.vote)
    return Joined(core, cores[0], _pooled(answers, shares, recipe))


def exported(fitted: Fitted, split: Split, place: Place) -> Exported:
    """Export, calibrate and hold the graph against the network.

    Raises:
        GateRefused: they disagree.
    """
    recipe, dataset, ships = fitted.recipe, split.dataset, fitted.ships
    small, pictures = len(split.val) == 0, split.judged.tolist()
    networks = [member.network for member in ships]
    whole = joined(networks, fitted.shares, recipe, dataset, pictures, threads=place.threads)
    logits = whole.logits
    if small:
        logits = _pooled([member.logits for member in ships], fitted.shares, recipe)
    temperature = scoring.fit_temperature(
        logits.astype(np.float64), dataset.labels[np.asarray(pictures)]
    )
    model = export.assemble(whole.core, recipe.side, len(dataset.classes), temperature)
    answered, vectors = export.seen(session(model, 1), dataset, pictures, place.threads)
    parity = export.parity(answered, softmax(whole.logits / temperature, axis=1))
    chosen = softmax(logits / temperature, axis=1) if small else answered
    return Exported(model, whole.core, whole.one, temperature, parity, chosen, vectors)


def _pooled(
    logits: Sequence[Float[np.ndarray, "pictures classes"]],
    shares: Float[np.ndarray, " members"],
    recipe: Recipe,
) -> Float[np.ndarray, "pictures classes"]:
    """Return what networks say together; where there is one, what it says."""
    if len(logits) == 1:
        return logits[0]
    return ensembling.pool(np.stack(logits), shares, recipe.ensembling.vote)
