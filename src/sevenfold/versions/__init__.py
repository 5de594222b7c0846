"""Keep the versions of a run: list them, sign one off, go back to one, one update at a time."""

from sevenfold.versions.kept import (
    Version,
    accept,
    baseline,
    current,
    keep,
    listed,
    log,
    part_of,
    rollback,
    sign_off,
    upcoming,
)
from sevenfold.versions.lock import locked

__all__ = [
    "Version",
    "accept",
    "baseline",
    "current",
    "keep",
    "listed",
    "locked",
    "log",
    "part_of",
    "rollback",
    "sign_off",
    "upcoming",
]
