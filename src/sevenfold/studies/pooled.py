"""Describe pictures by the pooled features of a backbone, as it is before any training."""

import numpy as np
from jaxtyping import Float32, Int64
from torch import nn

from sevenfold import nets
from sevenfold.data import Dataset
from sevenfold.features.pixels import Pixels
from sevenfold.features.trunk import engine
from sevenfold.features.views import Viewer, activations, plain_rows
from sevenfold.place import Place
from sevenfold.practices import transfer
from sevenfold.practices.transfer import Transfer
from sevenfold.progress import Progress


def features(
    settings: Transfer,
    side: int,
    dataset: Dataset,
    pictures: Int64[np.ndarray, "pictures"],
    pixels: Pixels,
    viewer: Viewer,
    *,
    place: Place,
    progress: Progress,
) -> Float32[np.ndarray, "pictures channels"]:
    """Look at each picture once, and scale its features to the length 1. Writes to the stores.

    Args:
        settings: which backbone and weights.
        side: of what it sees, in pixels.
        dataset: where the pictures come from.
        pictures: their indices.
        pixels: where their pixels come from.
        viewer: makes what the backbone sees; its first view counts.
        place: where to compute.
        progress: is told the looking.
    """
    network, _ = transfer.build(settings, len(dataset.classes), side, 0)
    trunk = nets.Trunk(network.normalise, nn.Sequential(*network.blocks, network.pool))
    views = activations(
        dataset,
        pictures,
        pixels,
        viewer,
        engine(trunk, side, place.device),
        count=1,
        threads=place.threads,
        progress=progress,
    )
    rows = plain_rows(views, pictures).reshape(len(pictures), -1).astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, np.float32(1e-6)), np.float32)
