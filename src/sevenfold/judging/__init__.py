"""Judge pruned networks by the files that would ship, and choose one.

`files` exports, times and tests them, `bounds` says how much they lose at most, and `choice` walks
from the least to the most pruned.
"""

from sevenfold.judging.choice import Chosen, chosen, settled
from sevenfold.judging.files import File, filed, least_bound

__all__ = ["Chosen", "File", "chosen", "filed", "least_bound", "settled"]
