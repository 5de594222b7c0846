"""Compare two models by their answers to the same pictures, and two recipes by repetitions.

Everywhere a difference is second minus first, so a drop is its negative. Pictures are
compared by Tango's score interval for a paired difference of proportions, repetitions by
the t interval that is corrected for folds that share their training pictures.
"""

from sevenfold.evaluate.student import (
    t_quantile,
    t_tails,
)
from sevenfold.paired.pictures import (
    INDEPENDENT,
    Design,
    Paired,
    certified,
    count,
    design,
    interval,
    largest_drop,
    mcnemar,
    pictures_to_detect,
    smallest_certifiable,
)
from sevenfold.paired.repetitions import (
    MOST_FLIPPED,
    NO_DIFFERENCE,
    SIGNIFICANT,
    Effect,
    Expected,
    Verdict,
    corrected_t,
    holm,
    pictures_to_claim,
    reach,
    sign_flip,
    standard_error,
    verdict,
)

__all__ = [
    "INDEPENDENT",
    "MOST_FLIPPED",
    "NO_DIFFERENCE",
    "SIGNIFICANT",
    "Design",
    "Effect",
    "Expected",
    "Paired",
    "Verdict",
    "certified",
    "corrected_t",
    "count",
    "design",
    "holm",
    "interval",
    "largest_drop",
    "mcnemar",
    "pictures_to_claim",
    "pictures_to_detect",
    "reach",
    "sign_flip",
    "smallest_certifiable",
    "standard_error",
    "t_quantile",
    "t_tails",
    "verdict",
]
