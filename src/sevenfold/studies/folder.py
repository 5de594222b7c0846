"""Keep what a study finds in a folder of its own, from which it goes on."""

import json
from collections.abc import Set
from pathlib import Path
from typing import Any

from sevenfold import atomic
from sevenfold.data import refuse_among
from sevenfold.errors import ResourceError, UsageError
from sevenfold.image import is_leftover, shown


def prepare(out: Path, ours: Set[str], kind: str, data: str) -> None:
    """Make the folder of a study with its `trials`, or refuse one that holds something else.

    Args:
        out: the folder.
        ours: names of what such a study writes there.
        kind: what it is, with its article.
        data: that it is of; it may not lie among the photos.

    Raises:
        UsageError: it is a file, holds other files, or lies among the photos.
        ResourceError: it cannot be written to.
    """
    refuse_among(data, out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {shown(str(out))} is a file", "name a folder")
    there = {path.name for path in out.iterdir()} if out.exists() else set()
    if others := [name for name in sorted(there - ours) if not _left(name, ours)]:
        raise UsageError(
            f"--out {shown(str(out))} holds other files, such as {shown(others[0])}",
            f"name a new folder, or that of {kind}",
        )
    try:
        (out / "trials").mkdir(parents=True, exist_ok=True)
        atomic.write(out / "trials" / "writable", "")
    except OSError as error:
        raise ResourceError(
            f"--out {shown(str(out))} cannot be written to: {error.strerror}",
            "choose another folder",
        ) from error


def _left(name: str, ours: Set[str]) -> bool:
    """Tell whether an operating system or a stopped study left a file."""
    return is_leftover(name) or (name.endswith(".part") and name.rsplit(".", 2)[0] in ours)


def kept(path: Path) -> dict[str, Any]:
    """Read what a trial left; nothing where nothing whole is there."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
