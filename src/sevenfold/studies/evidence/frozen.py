"""Freeze values in depth, and turn them into what JSON has."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np


def frozen(value: Any) -> Any:
    """Return the same value so that nothing in it can be changed through what is returned.

    Args:
        value: a mapping, a list, a tuple, an array, which is not copied, or anything that is
            fixed by itself.

    Example:
        >>> frozen({"versions": {"numpy": "2"}, "sides": [160, 224]})["sides"]
        (160, 224)
    """
    if isinstance(value, Mapping):
        return MappingProxyType({name: frozen(one) for name, one in value.items()})
    if isinstance(value, list | tuple):
        return tuple(map(frozen, value))
    if isinstance(value, np.ndarray):
        view = value.view()
        view.flags.writeable = False
        return view
    return value


def plain(value: Any) -> Any:
    """Return what JSON can hold of frozen mappings and tuples: new dictionaries and lists.

    Example:
        >>> plain(frozen({"sides": [160, 224]}))
        {'sides': [160, 224]}
    """
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value
