"""Write a recipe as TOML, each setting with its meaning."""

import inspect
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from sevenfold.image import shown
from sevenfold.recipe.value import PRACTICES, Recipe

NOWHERE: Final[Mapping[str, str]] = MappingProxyType({})


def _comments(kind: type) -> dict[str, str]:
    """Read what each setting means from its class's docstring."""
    text = inspect.getdoc(kind) or ""
    section = re.search(r"Args:\n(.*?)(?:\n\n|\Z)", text, re.S)
    if not section:
        return {}
    found = re.findall(r"^    (\w+): (.*?)(?=^    \w|\Z)", section[1] + "\n", re.S | re.M)
    return {name: " ".join(words.split()) for name, words in found}


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda c: f"\\u{ord(c[0]):04x}", escaped) + '"'
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_shown, value)) + "]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_shown(key)} = {_shown(one)}" for key, one in value.items())
        return "{" + inner + "}"
    return repr(value)


def to_toml(recipe: Recipe, sources: Mapping[str, str] = NOWHERE) -> str:
    """Write a recipe as TOML, each setting with its meaning.

    Args:
        recipe: what to write.
        sources: of settings by name, as `sources` gives them.

    Example:
        >>> import tomllib
        >>> tomllib.loads(to_toml(Recipe()))["side"]
        256
    """

    def line(name: str, value: Any, comment: str, key: str) -> str:
        source = f" [{shown(sources[key])}]" if key in sources else ""
        return f"{name} = {_shown(value)}  # {comment}{source}"

    about = _comments(Recipe)
    lines = ["# A Sevenfold recipe: how to train, and nothing about where."]
    tables = []
    for name, value in vars(recipe).items():
        if name not in PRACTICES:
            lines.append(line(name, value, about[name], name))
            continue
        kind = type(value)
        state = "off" if value == kind.off else "in use"
        inner = _comments(kind)
        tables += ["", f"[{name}]  # {about[name].rstrip('.')}, {state}"]
        tables += [
            line(part, held, inner[part], f"{name}.{part}") for part, held in vars(value).items()
        ]
    return "\n".join([*lines, *tables, ""])
