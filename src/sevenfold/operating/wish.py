"""Hold and read what a user asks of the answers."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

from sevenfold.errors import UsageError

NOT_SURE: Final = "not_sure"


@final
@dataclass(frozen=True, eq=False)
class Wish:
    """Hold what the user asks of the answers; nothing asks for the default.

    Args:
        min_recall: least recall of classes, above 0 and under 1.
        costs: of mistakes, by true class and answer; what is not named costs 1.
        not_sure: what an answer that is not sure costs; 0 halves the cost instead.
    """

    min_recall: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    not_sure: float = 0.0


def renamed(wish: Wish, names: Mapping[str, str]) -> Wish:
    """Return a wish whose classes have their new names.

    Example:
        >>> renamed(Wish({"crack": 0.9}), {"crack": "fracture"}).min_recall
        {'fracture': 0.9}
    """

    def held(by_class: Mapping[str, Any]) -> dict[str, Any]:
        return {names.get(name, name): value for name, value in by_class.items()}

    costs = {true: held(row) for true, row in wish.costs.items()}
    return Wish(held(wish.min_recall), held(costs), wish.not_sure)


def read_costs(path: Path) -> tuple[dict[str, dict[str, float]], float]:
    """Read what mistakes cost from a TOML file: a table for each true class.

    ```
    not_sure = 2          # what an answer costs that is not sure
    [crack]
    fine = 50             # a crack that is answered as fine
    [fine]
    crack = 5
    ```

    Returns:
        The costs by true class and answer, and that of an answer that is not sure (0
        where the file names none).

    Raises:
        UsageError: the file cannot be read, or holds something else.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(f"--costs {path} cannot be read: {reason}", _COSTS) from error
    unsure = found.pop(NOT_SURE, 0.0) if not isinstance(found.get(NOT_SURE), dict) else 0.0
    costs = {true: row for true, row in found.items() if isinstance(row, dict)}
    numbers = [unsure, *(cost for row in costs.values() for cost in row.values())]
    if len(costs) < len(found) or not costs or not all(map(_is_cost, numbers)):
        raise UsageError(f"--costs {path} is not a table of costs, each 0 or more", _COSTS)
    wrong = [true for true, row in costs.items() if row.get(true, 0)]
    if wrong:
        raise UsageError(f"--costs {path}: the right answer {wrong[0]!r} has a cost", _COSTS)
    return costs, float(unsure)


_COSTS: Final = "write a table [TRUE CLASS] with lines ANSWER = COST, and not_sure = COST above"


def _is_cost(value: object) -> bool:
    return type(value) in (int, float) and 0 <= float(str(value)) < math.inf


def read_recalls(texts: Sequence[str]) -> dict[str, float]:
    """Read `crack=0.99`, a class and its least recall, each once.

    Raises:
        UsageError: a text is something else.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            recall = float(number)
        except ValueError:
            recall = math.nan
        if not name or name in found or not 0 < recall < 1:
            raise UsageError(
                f"--min-recall {text} is not a class and its least recall, above 0 and below 1, "
                "each class once",
                "write it as crack=0.99",
            )
        found[name] = recall
    return found
