"""Practice 3: keep common classes from drowning rare ones."""

from sevenfold.practices.imbalance.adjustment import (
    STRENGTHS,
    adjusted,
    choose_strength,
    log_prior,
    shift_head,
)
from sevenfold.practices.imbalance.choice import Gain, Price, choose, gain, price, resolve
from sevenfold.practices.imbalance.planning import class_weights, plan, targets
from sevenfold.practices.imbalance.settings import (
    BALANCED_RATIO,
    DEFERRED,
    METHODS,
    Imbalance,
    check,
    check_data,
)

__all__ = [
    "BALANCED_RATIO",
    "DEFERRED",
    "METHODS",
    "STRENGTHS",
    "Gain",
    "Imbalance",
    "Price",
    "adjusted",
    "check",
    "check_data",
    "choose",
    "choose_strength",
    "class_weights",
    "gain",
    "log_prior",
    "plan",
    "price",
    "resolve",
    "shift_head",
    "targets",
]
