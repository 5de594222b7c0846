"""Hold the seven settings as one value, and read and write it as TOML.

`value` is the recipe, `budgets` holds one for each budget, `layers` lays the settings of a
file or of the command line over one and checks them, and `toml` writes it.
"""

from sevenfold.recipe.budgets import BUDGETS, default, minutes_of, named
from sevenfold.recipe.layers import apply, asked, parse, read, sources
from sevenfold.recipe.toml import NOWHERE, to_toml
from sevenfold.recipe.value import PRACTICES, Recipe

__all__ = [
    "BUDGETS",
    "NOWHERE",
    "PRACTICES",
    "Recipe",
    "apply",
    "asked",
    "default",
    "minutes_of",
    "named",
    "parse",
    "read",
    "sources",
    "to_toml",
]
