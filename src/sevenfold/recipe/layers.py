"""Lay settings over a recipe, check them, and say where each comes from."""

import dataclasses
import tomllib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cattrs

from sevenfold.errors import UsageError, suggestion
from sevenfold.practices.transfer import weights_of
from sevenfold.ranges import Choice, Range
from sevenfold.recipe.budgets import default
from sevenfold.recipe.value import PRACTICES, Recipe


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)

    def number(value: Any, _kind: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{value!r} is not a number")
        return float(value)

    def whole(value: Any, _kind: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{value!r} is not a whole number")
        return value

    def text(value: Any, _kind: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not a text")
        return value

    def truth(value: Any, _kind: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"{value!r} is neither true nor false")
        return value

    def is_table(kind: Any) -> bool:
        origin: Any = typing.get_origin(kind)
        return origin is Mapping

    def table(value: Any, kind: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise ValueError(f"{value!r} is not a table such as {{name = value}}")
        held = typing.get_args(kind)[1]
        return {name: converter.structure(inner, held) for name, inner in value.items()}

    for kind, hook in ((float, number), (int, whole), (str, text), (bool, truth)):
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook_func(is_table, table)
    return converter


_CONVERTER: Final = _converter()


def _merge(recipe: Recipe, given: Mapping[str, Any], source: str) -> Recipe:
    """Lay given values over a recipe and check all of it."""
    plain = dataclasses.asdict(recipe)
    known = list(_settings(recipe))
    for name, value in given.items():
        is_table = name in PRACTICES
        if is_table and value == "off":
            plain[name] = dataclasses.asdict(getattr(recipe.without(name), name))
            continue
        if is_table != isinstance(value, Mapping) or name not in plain:
            raise UsageError(f"{source}: there is no setting {name!r}", suggestion(name, known))
        if not is_table:
            plain[name] = value
            continue
        for part, inner in value.items():
            if part not in plain[name]:
                raise UsageError(
                    f"{source}: there is no setting '{name}.{part}'",
                    suggestion(f"{name}.{part}", known),
                )
            plain[name][part] = inner
        if name == "transfer" and "backbone" in value and "weights" not in value:
            held = plain[name]
            if held["weights"] == "packaged":  # which holds those of one backbone
                held["weights"] = weights_of(str(held["backbone"]))
    try:
        merged = _CONVERTER.structure(plain, Recipe)
    except cattrs.BaseValidationError as error:
        raise UsageError(
            f"{source}: {'; '.join(_told(error))}",
            "`sevenfold recipe` prints all settings with their ranges",
        ) from error
    _check(merged, source)
    return merged


def _told(error: cattrs.BaseValidationError) -> list[str]:
    return cattrs.transform_error(error, path="", format_exception=lambda one, _kind: str(one))


def _check(value: Any, source: str, prefix: str = "") -> None:
    hints = typing.get_type_hints(type(value), include_extras=True)
    for name, inner in vars(value).items():
        for one in inner if isinstance(inner, tuple) else ():
            _obey(typing.get_args(hints[name])[0], one, f"{source}: {prefix}{name}")
        if dataclasses.is_dataclass(inner):
            _check(inner, source, f"{name}.")
        if isinstance(inner, Mapping):
            held = typing.get_args(hints[name])[1]
            for key, one in inner.items():
                _obey(held, one, f"{source}: {prefix}{name}.{key}")
        _obey(hints[name], inner, f"{source}: {prefix}{name}")


def _obey(hint: Any, value: Any, where: str) -> None:
    for rule in getattr(hint, "__metadata__", ()):
        if isinstance(rule, Range) and not rule.holds(value):
            raise UsageError(f"{where} = {value!r} is out of range", f"give {rule}")
        if isinstance(rule, Choice) and value not in rule.words:
            raise UsageError(f"{where} = {value!r} is unknown", suggestion(str(value), rule.words))


def read(path: Path, base: Recipe) -> Recipe:
    """Lay the settings of a TOML file over a recipe. Reads the file.

    Raises:
        UsageError: the file cannot be read, or a setting is unknown or out of range.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the recipe {path} cannot be read", "give a TOML file, see `sevenfold recipe`"
        ) from error
    return parse(text, base, source=str(path))


def parse(text: str, base: Recipe, *, source: str) -> Recipe:
    """Lay the settings of a TOML text over a recipe.

    Args:
        text: as `to_toml` writes it.
        base: whose settings hold where the text has none.
        source: of the text, for messages.

    Raises:
        UsageError: it is not TOML, or a setting is unknown or out of range.

    Example:
        >>> parse("side = 160", Recipe(), source="example").side
        160
    """
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source} is not TOML: {error}", "see `sevenfold recipe`") from error
    return _merge(base, given, source)


def _value(text: str) -> Any:
    """Read a value as TOML would, or as a text without quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def apply(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """Lay settings such as `side=160` or `augmentation=off` over a recipe.

    A name in a table, `augmentation.class_strength.CLASS=2`, joins those that the
    table holds; the whole table takes their place.

    Raises:
        UsageError: one is malformed, unknown or out of range.

    Example:
        >>> apply(Recipe(), ["side=160", "transfer.trainable_blocks=2"]).side
        160
        >>> apply(Recipe(), ["augmentation=off"]) == Recipe().without("augmentation")
        True
    """
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise UsageError(f"--set {override!r} has no value", "write --set name=value")
        first, dot, part = name.strip().partition(".")
        value = _value(text.strip())
        table, inner, key = part.partition(".")
        held = getattr(getattr(recipe, first, None), table, None)
        if inner and isinstance(held, Mapping):
            part, value = table, {**held, key: value}
        given = {first: {part: value}} if dot else {first: value}
        recipe = _merge(recipe, given, f"--set {override}")
    return recipe


def asked(budget: str, file: str = "", settings: Sequence[str] = ()) -> Recipe:
    """Return a budget's recipe under the settings of a file and those given one by one.

    Args:
        budget: as of `default`.
        file: path of a TOML file, or "".
        settings: such as `side=160`.

    Raises:
        UsageError: there is no such budget, or a setting is wrong.

    Example:
        >>> asked("normal", settings=["side=160"]).side
        160
    """
    base = default(budget)
    return apply(read(Path(file), base) if file else base, settings)


def sources(recipe: Recipe, budget: str, file: str = "") -> dict[str, str]:
    """Say of each setting that is not the default where it comes from.

    Args:
        recipe: what `asked` returned.
        budget: that it was asked with.
        file: as well.

    Returns:
        `--budget NAME`, the file, or `--set`, by names such as `transfer.backbone`.
    """
    base, plain = default(budget), _settings(Recipe())
    layers = {f"--budget {budget}": base, file: read(Path(file), base) if file else base}
    found, below = dict[str, str](), plain
    for source, one in {**layers, "--set": recipe}.items():
        held = _settings(one)
        found |= {name: source for name, value in held.items() if value != below[name]}
        below = held
    return {name: source for name, source in found.items() if below[name] != plain[name]}


def _settings(recipe: Recipe) -> dict[str, Any]:
    return {
        f"{name}.{part}" if part else name: inner
        for name, value in vars(recipe).items()
        for part, inner in (vars(value) if name in PRACTICES else {"": value}).items()
    }
