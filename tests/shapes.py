"""Hold arrays against the shapes and types that signatures of Sevenfold promise.

`jaxtyping` opens a scope for each call, in which an axis of one name has one length. Other
annotations are mypy's: stand-ins of tests are no instances of what they stand for.
"""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping
from jaxtyping import AbstractArray, install_import_hook

_in_a_scope = jaxtyping.jaxtyped


def hold() -> None:
    """Check what is imported from here on.

    The hook decorates every function with what it finds as `jaxtyping.jaxtyped`, each closure
    anew whenever it is made. That one compiles each function twice and opens a scope for each
    call, which took a quarter of the tests' time; few functions have arrays.
    """
    jaxtyping.jaxtyped = lambda *, typechecker: typechecker
    install_import_hook("sevenfold", "shapes.arrays")


def arrays(what: Any) -> Any:
    """Return a function, or a dataclass, that checks its arrays; all else as it is."""
    if not inspect.isclass(what):
        return _checked(what)
    if dataclasses.is_dataclass(what):
        what.__init__ = _checked(what.__init__)  # type: ignore[misc]
    return what


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    given = function.__annotations__
    wanted = {name: kinds for name, one in given.items() if (kinds := _of(one))}
    if not wanted:
        return function
    signature = inspect.signature(function)
    returned = wanted.pop("return", ())

    @functools.wraps(function)
    def checked(*given: Any, **named: Any) -> Any:
        bound = signature.bind(*given, **named).arguments
        for name, kinds in wanted.items():
            _check(name, bound.get(name), kinds)
        found = function(*given, **named)
        _check("what is returned", found, returned)
        return found

    return _in_a_scope(checked, typechecker=None)


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
