"""Keep the versions of a run: list them, sign one off, go back to one, one update at a time."""

from sevenfold.versions.kept import (
    Version,
    baseline,
    check,
    current,
    keep,
    listed,
    log,
    renewed,
    replaced,
    rollback,
    sign_off,
    upcoming,
)
from sevenfold.versions.lock import locked

__all__ = [
    "Version",
    "baseline",
    "check",
    "current",
    "keep",
    "listed",
    "locked",
    "log",
    "renewed",
    "replaced",
    "rollback",
    "sign_off",
    "upcoming",
]
