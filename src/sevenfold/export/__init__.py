"""Turn a fitted network into a bundle, and refuse one that answers differently.

The exported graph takes the whole picture as uint8 and does everything else
itself: it resizes to the network's side as training did, normalises, runs the
network, divides by the temperature. What is scored is what ships.
"""

from sevenfold.export.asking import (
    answers,
    linear_head,
    looked,
    network_logits,
    network_vectors,
    run,
    seen,
)
from sevenfold.export.bundle import selftest, write
from sevenfold.export.graph import Shipped, assemble, core, resizing
from sevenfold.export.proof import LARGEST_DIFFERENCE, Agreement, agreement, parity

__all__ = [
    "LARGEST_DIFFERENCE",
    "Agreement",
    "Shipped",
    "agreement",
    "answers",
    "assemble",
    "core",
    "linear_head",
    "looked",
    "network_logits",
    "network_vectors",
    "parity",
    "resizing",
    "run",
    "seen",
    "selftest",
    "write",
]
