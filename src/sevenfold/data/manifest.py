"""Write down which picture has which role, and each opening of test: data.json."""

import datetime
import hashlib
import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from sevenfold import atomic, swap
from sevenfold.data.photos import Quarantined
from sevenfold.errors import ModelError
from sevenfold.image import WHOLE, Box, shown

SCHEMA = "sevenfold.data/1"
_COLUMNS = ["path", "hash", "label", "role", "group", "box"]
_HASH = re.compile(r"[0-9a-f]{32}")

Assigned = Literal["train", "val", "test"]
"""The role of a picture once it is split."""


@dataclass(frozen=True, slots=True)
class Row:
    """Record one picture: where it lay, what it is by content, and its one role.

    The group is the one that was given, empty for none; exact duplicates are
    told by equal hashes.
    """

    path: str
    hash: str
    label: str
    role: Assigned
    group: str = ""
    box: Box = WHOLE


@dataclass(frozen=True, slots=True)
class Opening:
    """Record when test was looked at, and by which command."""

    time: str
    command: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Record a data set's pictures and their roles; rows are only ever added."""

    source: str
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    quarantined: tuple[Quarantined, ...] = ()
    openings: tuple[Opening, ...] = ()


EMPTY = Manifest("", (), ())
"""Nothing is known yet."""


def roles_of_groups(rows: Iterable[Row]) -> dict[str, Assigned]:
    """Return the role of each group: where new data joined several, what was learnt from wins.

    Example:
        >>> rows = [Row("a", "1", "x", "train", "ann"), Row("b", "2", "x", "test", "ann")]
        >>> roles_of_groups(rows)
        {'ann': 'train'}
    """
    ranked = sorted(rows, key=lambda row: ("test", "val", "train").index(row.role))
    return {row.group: row.role for row in ranked if row.group}


def contents(hashes: Iterable[str], labels: Iterable[str]) -> str:
    """Name pictures by content and label, in whatever order: 16 hex digits.

    Example:
        >>> contents(["a", "b"], ["cat", "dog"]) == contents(["b", "a"], ["dog", "cat"])
        True
    """
    told = json.dumps(sorted(set(zip(hashes, labels, strict=True))))
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


def opened(manifest: Manifest, time: str, command: str) -> Manifest:
    """Add an opening of test."""
    return replace(manifest, openings=(*manifest.openings, Opening(time, command)))


def log_opening(run: Path) -> None:
    """Write down that test was opened now, by this process's command, in a run's `data.json`.

    Of two commands that do so in the same moment one may not be written down.
    """
    path = swap.served(run, "data.json")
    manifest = read_manifest(path)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    told = to_json(opened(manifest, now, " ".join(sys.argv[1:])))
    atomic.write(path, told)


def read_manifest(path: Path) -> Manifest:
    """Read a `data.json`.

    Raises:
        OSError: there is none.
        ModelError: it is damaged or of another schema.
    """
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise _damaged(str(path), f"no text ({error})") from error
    return from_json(text, name=str(path))


def known(run: Path) -> Manifest:
    """Read what a run knows of its pictures; a bundle alone knows none.

    Raises:
        ModelError: its `data.json` is damaged.
    """
    path = swap.served(run, "data.json")
    return read_manifest(path) if path.is_file() else EMPTY


def to_json(manifest: Manifest) -> str:
    """Write a manifest as ASCII JSON with one picture to a line.

    Names that are not UTF-8 keep their bytes as escaped lone surrogates.
    """
    rows = [[r.path, r.hash, r.label, r.role, r.group, list(r.box)] for r in manifest.rows]
    fields = {
        "schema": json.dumps(SCHEMA),
        "source": json.dumps(manifest.source),
        "classes": json.dumps(manifest.classes),
        "openings": _lines([{"time": o.time, "command": o.command} for o in manifest.openings]),
        "quarantined": _lines([[item.path, item.reason] for item in manifest.quarantined]),
        "columns": json.dumps(_COLUMNS),
        "rows": _lines(rows),
    }
    return "{\n" + ",\n".join(f'"{key}": {value}' for key, value in fields.items()) + "\n}\n"


def from_json(text: str, *, name: str = "data.json") -> Manifest:
    """Read a manifest and believe nothing of it unchecked.

    Args:
        text: what `to_json` wrote.
        name: what messages call the file.

    Raises:
        ModelError: the text is damaged or of another schema.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(name, f"no JSON ({error})") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else None
        raise ModelError(
            f"{shown(name)}: the schema is {shown(repr(found))[:80]}, not {SCHEMA!r}.",
            "Use the version of Sevenfold that wrote the run, or train again.",
        )
    try:
        return _manifest(data)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _damaged(name, shown(str(error))[:200]) from error


def _manifest(data: dict[str, Any]) -> Manifest:
    keys = {"schema", "source", "classes", "openings", "quarantined", "columns", "rows"}
    if set(data) != keys:
        raise ValueError(f"the keys are {sorted(data)}")
    if data["columns"] != _COLUMNS:
        raise ValueError(f"the columns are {data['columns']}")
    classes = tuple(_text(name) for name in _list(data["classes"]))
    if len(set(classes)) != len(classes):
        raise ValueError("a class is named twice")
    known = frozenset(classes)
    rows = tuple(_row(number, row, known) for number, row in enumerate(_list(data["rows"])))
    roles: dict[str, str] = {}
    for row in rows:
        if roles.setdefault(row.hash, row.role) != row.role:
            raise ValueError(f"the hash {row.hash} has two roles")
    return Manifest(
        _text(data["source"]),
        classes,
        rows,
        tuple(Quarantined(*_texts(item, 2)) for item in _list(data["quarantined"])),
        tuple(
            Opening(*_texts([item["time"], item["command"]], 2)) for item in _list(data["openings"])
        ),
    )


def _row(number: int, row: Any, classes: frozenset[str]) -> Row:
    if len(_list(row)) != len(_COLUMNS):
        raise ValueError(f"row {number} has {len(row)} cells")
    path, hash_, label, role, group = _texts(row[:5], 5)
    if not _HASH.fullmatch(hash_):
        raise ValueError(f"row {number}: the hash {hash_!r}")
    if label not in classes:
        raise ValueError(f"row {number}: the label {label!r} is no class")
    if role not in get_args(Assigned):
        raise ValueError(f"row {number}: the role {role!r}")
    box = tuple(_list(row[5]))
    if len(box) != 4 or not all(type(edge) in {int, float} and math.isfinite(edge) for edge in box):
        raise ValueError(f"row {number}: the box {box!r}")
    x, y, w, h = map(float, box)
    if min(x, y) < 0 or min(w, h) <= 0 or max(x, y, w, h) > 1:
        raise ValueError(f"row {number}: the box {box!r}")
    return Row(path, hash_, label, role, group, (x, y, w, h))  # type: ignore[arg-type]


def _list(value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r:.80} is no list")
    return value


def _texts(values: Any, count: int) -> Sequence[str]:
    if len(_list(values)) != count:
        raise ValueError(f"{values!r:.80} has not {count} entries")
    return [_text(value) for value in values]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.80} is no text")
    return value


def _lines(values: Sequence[Any]) -> str:
    return "[" + ",".join(f"\n{json.dumps(value)}" for value in values) + "]"


def _damaged(name: str, why: str) -> ModelError:
    return ModelError(
        f"{shown(name)}: damaged: {why}.", "Restore the file from a copy, or train again."
    )
