"""Practice 3: keep common classes from drowning rare ones."""

from sevenfold.practices.imbalance.adjustment import (
    STRENGTHS,
    adjusted,
    calibrated,
    choose_strength,
    log_prior,
    shift_head,
)
from sevenfold.practices.imbalance.choice import (
    Gain,
    Price,
    choose,
    choose_by_loss,
    gain,
    price,
    recalls,
    resolve,
    weights_of,
)
from sevenfold.practices.imbalance.planning import class_weights, lasting, offset, plan, spread
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
    "calibrated",
    "check",
    "check_data",
    "choose",
    "choose_by_loss",
    "choose_strength",
    "class_weights",
    "gain",
    "lasting",
    "log_prior",
    "offset",
    "plan",
    "price",
    "recalls",
    "resolve",
    "shift_head",
    "spread",
    "weights_of",
]
