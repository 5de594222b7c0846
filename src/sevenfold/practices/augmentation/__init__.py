"""Practice 5: change the look of a training picture, not its content.

All geometry composes into one affine map, all linear colour changes into one
3x4 matrix, and there is one blur: three passes over the pixels, and two more
where noise or erasing is drawn. Every range is a share of the picture's side, so
that it means the same at 32 and at 320 pixels.
"""

from sevenfold.practices.augmentation.idle import grey, refuse_grey, refuse_idle
from sevenfold.practices.augmentation.label_check import (
    CHANGES,
    Finding,
    check,
    excluding,
    judge,
    needed,
    unjudged,
)
from sevenfold.practices.augmentation.mixing import mixer
from sevenfold.practices.augmentation.reach import (
    UNTOUCHED,
    Operation,
    by_class,
    draws_of,
    looked_at,
    operations,
    risky,
)
from sevenfold.practices.augmentation.settings import (
    OPERATIONS,
    Augmentation,
    for_class,
    for_classes,
    still,
    strengthened,
    without,
)
from sevenfold.practices.augmentation.views import (
    CODE,
    DRAWS,
    Draw,
    affine,
    augment,
    colour,
    viewer,
)

__all__ = [
    "CHANGES",
    "CODE",
    "DRAWS",
    "OPERATIONS",
    "UNTOUCHED",
    "Augmentation",
    "Draw",
    "Finding",
    "Operation",
    "affine",
    "augment",
    "by_class",
    "check",
    "colour",
    "draws_of",
    "excluding",
    "for_class",
    "for_classes",
    "grey",
    "judge",
    "looked_at",
    "mixer",
    "needed",
    "operations",
    "refuse_grey",
    "refuse_idle",
    "risky",
    "still",
    "strengthened",
    "unjudged",
    "viewer",
    "without",
]
