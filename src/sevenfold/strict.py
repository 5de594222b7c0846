"""Write JSON that every reader takes: no NaN and no infinity."""

import json
import math
from collections.abc import Mapping
from typing import Any


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Write a value as JSON; a number that JSON has no word for is null.

    Args:
        value: mappings, sequences, texts and numbers.
        indent: spaces for each level; None writes one line.

    Example:
        >>> to_json({"loss": math.inf, "members": (1, math.nan)})
        '{"loss": null, "members": [1, null]}'
    """
    return json.dumps(_finite(value), allow_nan=False, indent=indent)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
