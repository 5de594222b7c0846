"""Keep the versions of a run: list them, sign one off, go back to one, one update at a time."""

from sevenfold.versions.kept import (
    Version,
    baseline,
    check,
    current,
    ended,
    keep,
    listed,
    log,
    renewed,
    replaced,
    rollback,
    serves,
    sign_off,
    upcoming,
)
from sevenfold.versions.lock import locked
from sevenfold.versions.noted import asked, forget

__all__ = [
    "Version",
    "asked",
    "baseline",
    "check",
    "current",
    "ended",
    "forget",
    "keep",
    "listed",
    "locked",
    "log",
    "renewed",
    "replaced",
    "rollback",
    "serves",
    "sign_off",
    "upcoming",
]
