"""Rank channels by what the network would lose with them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from sevenfold import draws
from sevenfold.errors import UsageError
from sevenfold.practices.pruning.coupling import Coupling, Group
from sevenfold.practices.pruning.trace import Traced, run, trace
from sevenfold.practices.pruning.walk import FILTER, NORM, SEEN

Batches = Callable[
    [], Iterator[tuple[Float[Tensor, "batch 3 side side"], Float[Tensor, "batch classes"]]]
]
"""Gives, each time it is called, pictures and their soft targets, batch by batch."""

WEIGHTS: Final = ("l1", "l2", "bn_scale")
ACTIVATIONS: Final = ("mean_activation", "nonzero", "taylor")
STATISTICS: Final = ("mean_activation", "nonzero")  # need neither targets nor gradients
RANKINGS: Final = (*WEIGHTS, *ACTIVATIONS, "random")
"""Names that `scores` accepts."""
ACROSS: Final = ("literal", "normalised", "ranks")
"""How scores of different layers compare: as they are, by their layer's mean, or not at all."""

_Scores = Float64[np.ndarray, "channels"]
Layers = list[_Scores]
"""What a ranking says of a group: for each layer or value, the amount of every channel."""


def scores(
    network: nn.Module,
    coupling: Coupling,
    ranking: str,
    batches: Batches,
    *,
    across: str,
    seed: int = 0,
) -> tuple[Float64[np.ndarray, "channels"], ...]:
    """Score every channel of every group; the lowest go first.

    | ranking | of one layer or value |
    | --- | --- |
    | `l1`, `l2` | norm of the filter that makes the channel (Li et al. 2016, arXiv 1608.08710) |
    | `bn_scale` | absolute scale of the batch norm (Liu et al. 2017, arXiv 1708.06519) |
    | `mean_activation` | mean of the absolute value |
    | `nonzero` | share of values that are not zero: 1 - APoZ (Hu et al. 2016, arXiv 1607.03250) |
    | `taylor` | mean over pictures of the absolute sum of value times gradient |
    | `random` | uniform in 0..1: the control |

    Taylor's is the first-order criterion of Molchanov et al. 2016 (arXiv 1611.06440),
    summed over positions rather than averaged, so that maps of all sizes compare.

    Values are looked at where the next layers read them, behind norm and
    activation and before an average over positions. A group may have several such
    layers or values. `literal` its score is their sum, since all of that goes; of
    `mean_activation` and `nonzero`, which are no amounts, the mean. `normalised`, each
    layer or value is first divided by its mean over the channels, so that an average filter
    of any layer scores 1 whatever its fan-in, and the group's score is the mean of those.
    Molchanov et al. divide by the norm over the layer instead, by which wide layers score
    lower as well. `ranks` takes the share of the group's channels below instead of the
    normalised score, so that all groups lose about the same share: within a layer alone, as Li et
    al. compare.

    Args:
        network: in any mode; is run in evaluation mode and left as it is.
        coupling: of the network.
        ranking: one of `RANKINGS`.
        batches: pictures of the coupling's side with soft targets, on the
            network's device. Sums run over all of them. Not asked by the
            rankings by weights and by chance.
        across: how layers compare, one of `ACROSS`; changes nothing for `random`.
        seed: of the random ranking.

    Returns:
        For each group of the coupling, the score of each channel; infinite where
        the ranking cannot say (no batch norm).

    Raises:
        UsageError: there is no such ranking, or there are no pictures.
    """
    looked = layered(network, coupling, ranking, batches, seed=seed)
    return combined(looked, coupling, ranking, across)


def layered(
    network: nn.Module, coupling: Coupling, ranking: str, batches: Batches, *, seed: int = 0
) -> tuple[Layers, ...]:
    """Look at the layers of each group: what `combined` turns into `scores`, which see.

    Raises:
        UsageError: there is no such ranking, or there are no pictures.
    """
    if ranking not in RANKINGS:
        raise UsageError(
            f"pruning.ranking = {ranking!r} is no ranking", f"choose one of {', '.join(RANKINGS)}"
        )
    if ranking == "random":
        return tuple([_random(group, seed)] for group in coupling.groups)
    if ranking in ACTIVATIONS:
        values = _measured(network, coupling, ranking, batches)
        return tuple(
            [values[one.tensor][one.places].mean(axis=1) for one in group.of(SEEN)]
            for group in coupling.groups
        )
    return tuple(_weights(network, group, ranking) for group in coupling.groups)


def combined(
    looked: Sequence[Layers], coupling: Coupling, ranking: str, across: str
) -> tuple[Float64[np.ndarray, "channels"], ...]:
    """Combine the layers of each group to the score of every channel, see `scores`."""
    amounts = ranking not in STATISTICS
    return tuple(
        _together(found, group.channels, across if ranking != "random" else "literal", amounts)
        for found, group in zip(looked, coupling.groups, strict=True)
    )


def _random(group: Group, seed: int) -> Float64[np.ndarray, "channels"]:
    numbers = np.arange(group.channels, dtype=np.uint64)
    return draws.uniform(f"{seed}/prune/{group.name}", numbers, 0, 1)[:, 0]


def _together(layers: Layers, channels: int, across: str, amounts: bool) -> _Scores:
    if not layers:
        return np.full(channels, np.inf)
    rows = np.stack(layers)
    if across == "literal":
        return np.asarray(rows.sum(axis=0) if amounts else rows.mean(axis=0))
    means = rows.mean(axis=1, keepdims=True)
    found: _Scores = (rows / np.where(means > 0, means, 1)).mean(axis=0)
    if across == "normalised":
        return found
    places = np.argsort(np.argsort(found, kind="stable"), kind="stable")
    return np.where(np.isfinite(found), places / channels, np.inf)


def _weights(network: nn.Module, group: Group, ranking: str) -> Layers:
    role = NORM if ranking == "bn_scale" else FILTER
    found = []
    for one in group.of(role):
        if one.tensor == "weight":
            weight = network.get_submodule(one.module).get_parameter("weight")
            rows = weight.detach().cpu().double().reshape(len(weight), -1)
            norms = torch.linalg.vector_norm(rows, 2 if ranking == "l2" else 1, dim=1)
            found.append(norms.numpy()[one.places].sum(axis=1))
    return found


def _measured(
    network: nn.Module, coupling: Coupling, ranking: str, batches: Batches
) -> dict[str, Float64[np.ndarray, "all"]]:
    """Return for each value that layers read the ranking's mean over all pictures."""
    axes = {one.tensor: one.axis for group in coupling.groups for one in group.of(SEEN)}
    traced = trace(network, coupling.side)
    sums: dict[str, Tensor] = {}
    pictures = 0
    for pixels, targets in batches():
        pictures += len(pixels)
        for name, found in _one_batch(traced, network, pixels, targets, axes, ranking).items():
            sums[name] = sums.get(name, torch.zeros(())) + found.detach().cpu().double()
    if not pictures:
        raise UsageError(
            f"pruning.ranking = {ranking!r} looks at pictures, and there are none",
            "give pictures, or rank by l1",
        )
    return {name: (found / pictures).numpy() for name, found in sums.items()}


def _one_batch(
    traced: Traced,
    network: nn.Module,
    pixels: Float[Tensor, "batch 3 side side"],
    targets: Float[Tensor, "batch classes"],
    axes: dict[str, int],
    ranking: str,
) -> dict[str, Tensor]:
    """Return for each value that layers read the ranking's sum over the pictures."""
    if ranking == "taylor":
        return _taylor(traced, network, pixels, targets, axes)
    found: dict[str, Tensor] = {}

    def watch(name: str, value: Tensor) -> None:
        if name in axes:
            rows = _rows(value, axes[name])
            rows = (rows != 0).double() if ranking == "nonzero" else rows.abs().double()
            found[name] = rows.mean(dim=2).sum(dim=0)

    with torch.no_grad():
        run(traced, network, pixels, watch)
    return found


def _taylor(
    traced: Traced,
    network: nn.Module,
    pixels: Float[Tensor, "batch 3 side side"],
    targets: Float[Tensor, "batch classes"],
    axes: dict[str, int],
) -> dict[str, Tensor]:
    values: dict[str, Tensor] = {}

    def watch(name: str, value: Tensor) -> None:
        if name in axes:
            values[name] = value

    with torch.enable_grad():
        # Frozen layers ask for no gradients; with pixels that do, all values have them.
        logits = run(traced, network, pixels.detach().clone().requires_grad_(), watch)
        # The sum, not the mean: the gradients of one picture do not depend on its batch.
        loss = -(targets * torch.log_softmax(logits, dim=1)).sum()
    gradients = torch.autograd.grad(loss, list(values.values()))
    return {
        name: _rows(value.detach() * gradient, axes[name]).sum(dim=2).abs().sum(dim=0)
        for (name, value), gradient in zip(values.items(), gradients, strict=True)
    }


def _rows(value: Tensor, axis: int) -> Float[Tensor, "batch channels positions"]:
    moved = value.movedim(axis, 1)
    return moved.reshape(*moved.shape[:2], -1)
