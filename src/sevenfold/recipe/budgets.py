"""Hold the recipe of each budget, and say which budget fits a time."""

import re
from dataclasses import replace
from typing import Final

from sevenfold.errors import UsageError, suggestion
from sevenfold.practices.augmentation import Augmentation
from sevenfold.practices.ensembling import Ensembling
from sevenfold.practices.imbalance import Imbalance
from sevenfold.practices.pruning import Pruning
from sevenfold.practices.transfer import Transfer
from sevenfold.recipe.value import Recipe

BUDGETS: Final = ("quick", "normal", "thorough")


def default(budget: str) -> Recipe:
    """Return the recipe of a budget.

    Args:
        budget: `quick`, `normal`, `thorough`, or a time: see `named`.

    Raises:
        UsageError: the budget is none of these.
    """
    name = named(budget)
    recipe = Recipe()
    if name == "quick":
        return recipe
    # Blends helped with six epochs: docs/log.md, 2026-11-24.
    wide = replace(recipe, imbalance=Imbalance(trainings=2), augmentation=Augmentation(mixup=0.2))
    if name == "normal":
        return replace(
            wide,
            effort=1.5,
            # Two blocks more gained more than two members more: docs/log.md, 2026-11-30.
            transfer=Transfer(trainable_blocks=5),
            ensembling=Ensembling(members=2, average=True),
        )
    if name == "thorough":
        return replace(
            wide,
            effort=3.0,
            evidence_minutes=240.0,
            transfer=Transfer(trainable_blocks=5),
            augmentation=replace(wide.augmentation, for_rare="auto", label_check="all"),
            ensembling=Ensembling(members=5, cuts=(3,), select=True, average=True, distil=True),
            pruning=Pruning(macs=0.4, steps=2, epochs=6, controls="none"),
        )
    raise UsageError(
        f"--budget {budget!r} is no budget",
        suggestion(budget, BUDGETS) + "; or give a time such as 20m",
    )


# Four minutes and twelve for some 4,000 photos of 256 pixels on two cores:
# benchmarks/results/clothing.jsonl. Thorough was never measured as a whole.
_FITS: Final = {"quick": 0, "normal": 15, "thorough": 90}


def named(budget: str) -> str:
    """Return the largest budget that fits a time such as `20m`, `1h` or `90s`; a name as it is.

    Example:
        >>> named("20m"), named("2h"), named("normal")
        ('normal', 'thorough', 'normal')
    """
    minutes = minutes_of(budget)
    return [name for name, least in _FITS.items() if least <= minutes][-1] if minutes else budget


def minutes_of(budget: str) -> float:
    """Return the minutes of a budget that is a time; 0 where it is a name.

    Example:
        >>> minutes_of("1.5h"), minutes_of("quick")
        (90.0, 0.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", budget)
    return float(found[1]) * {"s": 1 / 60, "m": 1, "h": 60}[found[2]] if found else 0.0
