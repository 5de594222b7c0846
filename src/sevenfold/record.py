"""Read what a finished run wrote of itself."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sevenfold.errors import ModelError, UsageError
from sevenfold.image import shown


def read(path: Path) -> dict[str, Any]:
    """Read a JSON object of a run.

    Raises:
        UsageError: the run is no finished one.
        ModelError: the file is damaged.
    """
    if not path.is_file():
        raise unfinished(path)
    return held(path)


def held(path: Path) -> dict[str, Any]:
    """Read a JSON object that a run must hold.

    Raises:
        ModelError: the file is damaged, or missing.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError, RecursionError) as error:
        raise damaged(path) from error
    if not isinstance(found, dict):
        raise damaged(path)
    return found


def check(path: Path, found: Mapping[str, Any], schema: str) -> None:
    """Refuse what another version wrote.

    Raises:
        ModelError: the object that was read has another schema.
    """
    if found.get("schema") != schema:
        raise ModelError(
            f"{shown(str(path))} has the schema {shown(str(found.get('schema')))!r}, not {schema}",
            "use the version of Sevenfold that wrote the run, or train again",
        )


def unfinished(path: Path) -> UsageError:
    """Return the error that a folder holds no finished run, since a file of it is missing."""
    return UsageError(
        f"{shown(str(path.parent))} holds no finished run: {path.name} is missing",
        "name the folder that `sevenfold train --out` wrote",
    )


def damaged(path: Path) -> ModelError:
    """Return the error that a file of a run is damaged."""
    return ModelError(f"{shown(str(path))} is damaged", "restore it from a copy, or train again")
