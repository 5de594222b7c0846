"""What the classes' counts leave without effect is refused, and what costs the objective told."""

from dataclasses import replace

import numpy as np
import pytest

from sevenfold.errors import UsageError
from sevenfold.practices.imbalance import BALANCED_RATIO, METHODS, Imbalance
from sevenfold.recipe import Recipe
from sevenfold.train.refusals import refuse_idle, remark

BALANCED = Recipe(objective="balanced_accuracy")
EVEN, UNEVEN = np.array([30, 20]), np.array([31, 20])
NAMED = [name for name in METHODS if name not in ("auto", "none")]


@pytest.mark.parametrize("method", NAMED)
def test_a_named_method_needs_classes_as_uneven_as_auto_does(method: str) -> None:
    assert EVEN[0] == BALANCED_RATIO * EVEN[1]
    recipe = replace(BALANCED, imbalance=Imbalance(method))
    with pytest.raises(UsageError, match=rf"'{method}': the largest class has 30 .* smallest 20"):
        refuse_idle(recipe, EVEN)
    refuse_idle(recipe, UNEVEN)


def test_a_price_needs_a_choice() -> None:
    recipe = replace(BALANCED, imbalance=Imbalance(price=0.02))
    with pytest.raises(UsageError, match=r"imbalance\.price = 0\.02 does nothing: the largest"):
        refuse_idle(recipe, EVEN)
    refuse_idle(recipe, UNEVEN)
    refuse_idle(BALANCED, EVEN)


@pytest.mark.parametrize("method", METHODS)
def test_what_costs_the_objective_is_told(method: str) -> None:
    recipe = replace(BALANCED, imbalance=Imbalance(method))
    assert remark(recipe) == ""
    said = remark(replace(recipe, objective="accuracy"))
    assert (f"imbalance.method = {method!r}" in said) == (method in NAMED)
    assert bool(said) == (method in NAMED)
