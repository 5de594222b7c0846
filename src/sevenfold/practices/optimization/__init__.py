"""Practice 2: move the weights by the right optimizer, at the right rate.

`settings` says what is asked for, `optimizers` builds it, `switch` is the change
from Adam to SGD, and `probing` finds a rate.
"""

from sevenfold.practices.optimization.optimizers import groups, optimizer, schedule, smooth
from sevenfold.practices.optimization.probing import (
    PROBE_STEPS,
    RATES,
    SCRATCH_RATES,
    Probed,
    probe,
    probed_batch,
    rates,
)
from sevenfold.practices.optimization.settings import (
    NAMES,
    Optimization,
    check,
    decay,
    layer_decay,
    refuse_patience,
)
from sevenfold.practices.optimization.switch import CRITERIA, Decision, Switch, decision

__all__ = [
    "CRITERIA",
    "NAMES",
    "PROBE_STEPS",
    "RATES",
    "SCRATCH_RATES",
    "Decision",
    "Optimization",
    "Probed",
    "Switch",
    "check",
    "decay",
    "decision",
    "groups",
    "layer_decay",
    "optimizer",
    "probe",
    "probed_batch",
    "rates",
    "refuse_patience",
    "schedule",
    "smooth",
]
