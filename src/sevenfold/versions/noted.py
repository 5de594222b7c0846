"""Note what a command made, from before the run serves it until the command ends.

What a run serves changes in one moment, and the command goes on: it replaces files, writes the
log, studies, prints. Stopped there, the same command would find a run that is another already,
and refuse it or make it anew; it finds this note, and ends as if it had not been stopped.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sevenfold import atomic, strict

NAME: Final = "ended.json"


@dataclass(frozen=True)
class Noted:
    """Hold what a command made.

    Args:
        command: by its name and all that was asked for.
        sums: the checksums of the bundle that it made.
        facts: what it tells at its end.
        event: for the log of versions; empty where it made none.
    """

    command: str
    sums: str
    facts: dict[str, Any]
    event: dict[str, Any]


def write(run: Path, note: Noted) -> None:
    """Write a note into a run, in the place of an older one."""
    atomic.write(run / NAME, strict.to_json(vars(note)))


def read(run: Path) -> Noted | None:
    """Read a run's note; None where there is none that can be read."""
    try:
        held = json.loads((run / NAME).read_text("utf-8"))
        told = {name: held[name] for name in ("command", "sums", "facts", "event")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    kinds = (str, str, dict, dict)
    whole = all(isinstance(one, kind) for one, kind in zip(told.values(), kinds, strict=True))
    return Noted(**told) if whole else None


def forget(run: Path) -> None:
    """Remove the note of a command that ends."""
    (run / NAME).unlink(missing_ok=True)


def asked(name: str, *words: object) -> str:
    """Name a command by all that it was asked for."""
    return " ".join([name, *map(repr, words)])
