"""Practice 7: remove what the network does not need.

`trace` makes a graph of the network, `walk` follows every channel through it and
`coupling` says which must go together; `rankings` scores them, `cost` counts and
`choice` chooses; `surgery` cuts and proves, `blocks` does so with whole residual
blocks, and `shapes` rebuilds what is left. `trimming` joins them to one cut, and
`loop` repeats cut, training and measurement until the `target`.
"""

from sevenfold.practices.pruning.blocks import (
    block_losses,
    lesion_blocks,
    lesioned,
    removable_blocks,
    without_block,
)
from sevenfold.practices.pruning.choice import Choice, Limits, chosen
from sevenfold.practices.pruning.cost import Cost, Counted, by_cost, cost, remaining, saved
from sevenfold.practices.pruning.coupling import Coupling, Group, Member, Refused, couple
from sevenfold.practices.pruning.loop import Shrunk, Step, shares, shrink
from sevenfold.practices.pruning.rankings import ACROSS, RANKINGS, Batches, scores
from sevenfold.practices.pruning.recalibration import recalibrated, still
from sevenfold.practices.pruning.settings import Pruning, check
from sevenfold.practices.pruning.shapes import Shapes, reshape, shapes
from sevenfold.practices.pruning.surgery import (
    LARGEST_DIFFERENCE,
    Removal,
    difference,
    prove,
    remove,
    zeroed,
)
from sevenfold.practices.pruning.target import KINDS, WEIGHT_BYTES, Aim, Target, share, targets
from sevenfold.practices.pruning.trace import UNPRUNED
from sevenfold.practices.pruning.trimming import (
    Trimming,
    smallest,
    trimmed,
    trimmed_to_latency,
)

__all__ = [
    "ACROSS",
    "KINDS",
    "LARGEST_DIFFERENCE",
    "RANKINGS",
    "UNPRUNED",
    "WEIGHT_BYTES",
    "Aim",
    "Batches",
    "Choice",
    "Cost",
    "Counted",
    "Coupling",
    "Group",
    "Limits",
    "Member",
    "Pruning",
    "Refused",
    "Removal",
    "Shapes",
    "Shrunk",
    "Step",
    "Target",
    "Trimming",
    "block_losses",
    "by_cost",
    "check",
    "chosen",
    "cost",
    "couple",
    "difference",
    "lesion_blocks",
    "lesioned",
    "prove",
    "recalibrated",
    "remaining",
    "removable_blocks",
    "remove",
    "reshape",
    "saved",
    "scores",
    "shapes",
    "share",
    "shares",
    "shrink",
    "smallest",
    "still",
    "targets",
    "trimmed",
    "trimmed_to_latency",
    "without_block",
    "zeroed",
]
