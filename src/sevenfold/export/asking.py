"""Ask graphs and networks about pictures of a data set."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import onnxruntime
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from sevenfold import nets, unknown
from sevenfold.data import Dataset
from sevenfold.export.graph import Shipped, resizing
from sevenfold.features.trunk import session
from sevenfold.place import narrowed

_AT_ONCE: Final = 4
"""Pictures for PyTorch on a CPU: the maps of 32 leave its caches (benchmarks/trunk_engines.py)."""


def run(
    opened: onnxruntime.InferenceSession,
    dataset: Dataset,
    pictures: Sequence[int],
    outputs: list[str],
    threads: int,
) -> list[np.ndarray[Any, Any]]:
    """Run a graph over pictures of a data set, one by one, and stack each output."""

    def one(index: int) -> list[np.ndarray[Any, Any]]:
        found = opened.run(outputs, {"image": dataset.decode(index)[None]})
        return [np.asarray(part[0]) for part in found]

    with ThreadPoolExecutor(threads) as executor:
        rows = list(executor.map(one, pictures))
    return [np.stack(part) for part in zip(*rows, strict=True)]


def answers(
    model: bytes, dataset: Dataset, pictures: Sequence[int], threads: int
) -> Float64[np.ndarray, "pictures classes"]:
    """Ask a graph that ships about pictures of a data set."""
    (found,) = run(session(model, 1), dataset, pictures, ["probabilities"], threads)
    return np.asarray(found, np.float64)


def seen(
    opened: onnxruntime.InferenceSession, dataset: Dataset, pictures: Sequence[int], threads: int
) -> tuple[Float[np.ndarray, "pictures classes"], Float[np.ndarray, "pictures channels"]]:
    """Run a graph over pictures; of the last features, only their mean is kept."""

    def one(index: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        return looked(opened, dataset.decode(index))

    with ThreadPoolExecutor(threads) as executor:
        rows = list(executor.map(one, pictures))
    probabilities, vectors = (np.stack(part) for part in zip(*rows, strict=True))
    return probabilities, vectors


def looked(
    opened: onnxruntime.InferenceSession, pixels: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Run a graph over one picture; return its probabilities and its pooled features."""
    shares, features = opened.run(["probabilities", "features"], {"image": pixels[None]})
    return np.asarray(shares[0]), unknown.pooled(np.asarray(features[0]))


@torch.inference_mode()
def linear_head(
    network: nets.Network, side: int
) -> tuple[Float[np.ndarray, "classes channels"], Float[np.ndarray, " classes"]]:
    """Return the head's rows and bias if logits are linear in the mean of the last feature map.

    That is tried out on random feature maps, so that no layer between needs to be known.

    Returns:
        No rows where it is not so.
    """
    nothing = np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
    shape = network.features(torch.zeros(1, 3, side, side)).shape[1:]
    if len(shape) != 3 or network.head.in_features != shape[0]:
        return nothing
    noise = torch.Generator().manual_seed(0)
    maps = torch.randn(4, *shape, generator=noise)
    linear = network.head(maps.mean(dim=(2, 3)))
    if not torch.allclose(network.classify(maps), linear, rtol=1e-3, atol=1e-4):
        return nothing
    head = network.head
    return head.weight.detach().numpy().copy(), head.bias.detach().numpy().copy()


def network_vectors(
    network: nets.Network, dataset: Dataset, pictures: Sequence[int], *, side: int, threads: int
) -> Float[np.ndarray, "pictures channels"]:
    """Run a trained network in PyTorch as `network_logits` does; return the pooled features."""
    network = network.eval().to(memory_format=torch.channels_last)

    def ask(pixels: Tensor) -> np.ndarray[Any, Any]:
        return np.stack([unknown.pooled(one.numpy()) for one in network.features(pixels)])

    return _asked(ask, dataset, pictures, side, threads)


def network_logits(
    shipped: Shipped, dataset: Dataset, pictures: Sequence[int], *, side: int, threads: int
) -> Float[np.ndarray, "pictures classes"]:
    """Run the trained network in PyTorch over the graph's own resized pixels."""
    # Channels last: half the time on a CPU, the same numbers.
    shipped = shipped.to(memory_format=torch.channels_last)

    def ask(pixels: Tensor) -> np.ndarray[Any, Any]:
        return np.asarray(shipped(pixels)[0].numpy())

    return _asked(ask, dataset, pictures, side, threads)


def _asked(
    ask: Callable[[Tensor], np.ndarray[Any, Any]],
    dataset: Dataset,
    pictures: Sequence[int],
    side: int,
    threads: int,
) -> np.ndarray[Any, Any]:
    """Ask about pictures as the graph resizes them, a few at a time in each thread."""
    resize = session(resizing(side).SerializeToString(), 1)

    def few(start: int) -> np.ndarray[Any, Any]:
        some = pictures[start : start + _AT_ONCE]
        (pixels,) = run(resize, dataset, some, ["pixels"], 1)
        with torch.inference_mode():
            return ask(torch.from_numpy(pixels))

    with narrowed(1), ThreadPoolExecutor(threads) as executor:
        return np.concatenate(list(executor.map(few, range(0, len(pictures), _AT_ONCE))))
