"""Hold the seven settings as one value, and read and write it as TOML."""

import dataclasses
import inspect
import re
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final

import cattrs

from sevenfold.errors import UsageError, suggestion
from sevenfold.image import shown
from sevenfold.practices.augmentation import Augmentation
from sevenfold.practices.ensembling import Ensembling, turn
from sevenfold.practices.growth import Growth
from sevenfold.practices.imbalance import Imbalance
from sevenfold.practices.optimization import Optimization
from sevenfold.practices.pruning import Pruning
from sevenfold.practices.transfer import Transfer, weights_of
from sevenfold.ranges import Choice, Range

PRACTICES: Final = (
    "growth",
    "optimization",
    "imbalance",
    "transfer",
    "augmentation",
    "ensembling",
    "pruning",
)
BUDGETS: Final = ("quick", "normal", "thorough")
NOWHERE: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True)
class Recipe:
    """Say how to train, and nothing about where.

    Args:
        objective: `accuracy` or `balanced_accuracy`; `auto` is balanced accuracy
            where the largest class has more than 1.5 times the pictures of the
            smallest.
        side: side of the pictures that the network sees, 16 to 1024 pixels.
        effort: factor on the steps and views that are taken where `epochs` and
            `views` are 0, 0.1 to 100.
        epochs: passes over the pictures; 0 takes as many as the data needs.
        batch: pictures in a step, 2 to 4096; at most 32 where the data is small.
        views: stored views of each picture; 0 takes as many as the data needs, and one
            where augmentation is off.
        evidence_minutes: most that the study of the practices after a training may take by
            its own estimate, 0 to 10,000; 0 leaves it out. See `sevenfold evidence`.
        growth: practice 1.
        optimization: practice 2.
        imbalance: practice 3.
        transfer: practice 4.
        augmentation: practice 5.
        ensembling: practice 6.
        pruning: practice 7.

    Example:
        >>> Recipe().without("augmentation").augmentation == Augmentation.off
        True
    """

    objective: Annotated[str, Choice(("auto", "accuracy", "balanced_accuracy"))] = "auto"
    side: Annotated[int, Range(16, 1024)] = 256
    effort: Annotated[float, Range(0.1, 100)] = 1.0
    epochs: Annotated[int, Range(0, 10_000)] = 0
    batch: Annotated[int, Range(2, 4096)] = 64
    views: Annotated[int, Range(0, 1000)] = 0
    evidence_minutes: Annotated[float, Range(0, 10_000)] = 0.0
    growth: Growth = field(default_factory=Growth)
    optimization: Optimization = field(default_factory=Optimization)
    imbalance: Imbalance = field(default_factory=Imbalance)
    transfer: Transfer = field(default_factory=Transfer)
    augmentation: Augmentation = field(default_factory=Augmentation)
    ensembling: Ensembling = field(default_factory=Ensembling)
    pruning: Pruning = field(default_factory=Pruning)

    def without(self, practice: str) -> "Recipe":
        """Return the recipe with one practice off.

        Raises:
            UsageError: there is no such practice.
        """
        if practice not in PRACTICES:
            raise UsageError(f"{practice!r} is no practice", suggestion(practice, PRACTICES))
        off = type(getattr(self, practice)).off
        return replace(self, **{practice: off})

    def member(self, number: int) -> "Recipe":
        """Return the recipe of one member of the vote: with its own cut and backbone.

        Member 0, like a student, has those of `transfer`.

        Args:
            number: of the member, from 0.

        Example:
            >>> recipe = Recipe(ensembling=Ensembling(members=3, cuts=(2,)))
            >>> [recipe.member(number).transfer.trainable_blocks for number in range(3)]
            [3, 2, 3]
        """
        own = self.transfer
        cut = turn(own.trainable_blocks, self.ensembling.cuts, number)
        name = turn(own.backbone, self.ensembling.backbones, number)
        return replace(self, transfer=own.other(name, cut))


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
