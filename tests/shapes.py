"""Hold arrays against the shapes and types that signatures of Sevenfold promise.

`jaxtyping` opens a scope for each call, in which an axis of one name has one length, and
asks `arrays` to check what is given and returned. Other annotations are mypy's: stand-ins
of tests are no instances of what they stand for.
"""

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

from jaxtyping import AbstractArray


def arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check the arrays among a function's arguments, and what it returns if that is one."""
    signature = inspect.signature(function)
    wanted = {name: _of(one.annotation) for name, one in signature.parameters.items()}
    returned = _of(signature.return_annotation)
    if not any(wanted.values()) and not returned:
        return function

    @functools.wraps(function)
    def checked(*given: Any, **named: Any) -> Any:
        for name, value in signature.bind(*given, **named).arguments.items():
            _check(name, value, wanted[name])
        found = function(*given, **named)
        _check("what is returned", found, returned)
        return found

    return checked


def _of(annotation: Any) -> tuple[type, ...]:
    """Return the kinds of arrays that an annotation allows; none where it allows others, too."""
    union = typing.get_origin(annotation) in (types.UnionType, typing.Union)
    kinds = typing.get_args(annotation) if union else (annotation,)
    there = [kind for kind in kinds if kind is not types.NoneType]
    if all(isinstance(kind, type) and issubclass(kind, AbstractArray) for kind in there):
        return tuple(there)
    return ()


def _check(name: str, value: Any, kinds: tuple[type, ...]) -> None:
    if kinds and value is not None and not isinstance(value, kinds):
        about = f"{getattr(value, 'dtype', type(value))} {getattr(value, 'shape', '')}"
        raise TypeError(f"{name} is {about}, not {' or '.join(map(str, kinds))}")
