"""Mark stores as in use, so that no other process deletes them to make room.

A process that opens a store leaves a file there that names it, touches it while it reads,
and deletes it when it ends. A lease of this machine holds as long as its process lives. One
of another machine, which shares the folder, holds for a day after it was touched last.
"""

import atexit
import contextlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Final
from uuid import uuid4

from sevenfold import owner

SUFFIX: Final = ".lease"
BEAT_SECONDS: Final = 600.0
"""Time between two touches of a lease."""
_FRESH_SECONDS: Final = 86_400.0
# This process's leases by folder, with the process: a forked one takes its own.
_MINE: Final[dict[tuple[int, Path], Path]] = {}


def take(folder: Path) -> None:
    """Hold a store until this process ends, or touch the lease; a store not there has none."""
    mine = _MINE.get((os.getpid(), folder))
    with contextlib.suppress(OSError):  # not there, or not ours: then nobody deletes it either
        if mine and mine.exists():
            os.utime(mine)
            return
        for other in folder.glob(f"*{SUFFIX}"):
            if not _holds(other):
                other.unlink()
        path = folder / f"{os.getpid()}-{uuid4().hex}{SUFFIX}"
        _MINE[os.getpid(), folder] = path  # also where the disk is full: removed at the end
        path.write_text(json.dumps(owner.me()), encoding="utf-8")


def held(folder: Path) -> bool:
    """Tell whether a process that has not ended uses a store."""
    return any(_holds(path) for path in folder.glob(f"*{SUFFIX}"))


def drop(folder: Path) -> None:
    """Give up this process's own lease of a store, if it has one."""
    mine = _MINE.pop((os.getpid(), folder), None)
    if mine:
        with contextlib.suppress(OSError):
            mine.unlink()


def delete(folder: Path) -> bool:
    """Delete a store, unless a process uses it, and tell whether it is gone.

    It is moved aside first: who opens it from then on finds none, and a lease that was taken
    just before is seen there, and the store put back.
    """
    aside = folder.with_name(f".{folder.name}.{uuid4().hex}")
    try:
        if held(folder):
            return False
        folder.rename(aside)
    except OSError:  # open in another process, where such a folder cannot be moved
        return False
    if held(aside):
        folder.mkdir(exist_ok=True)
        for part in list(aside.iterdir()):
            part.replace(folder / part.name)
    shutil.rmtree(aside, ignore_errors=True)
    return not folder.exists()


def _holds(path: Path) -> bool:
    try:
        told = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError):  # it is being written
        told = {}
    told = told if isinstance(told, dict) else {}
    if owner.here(told):
        return not owner.ended(told)
    try:
        return time.time() - path.stat().st_mtime < _FRESH_SECONDS
    except OSError:
        return False


@atexit.register
def _end() -> None:
    for (pid, _), path in _MINE.items():
        if pid == os.getpid():
            with contextlib.suppress(OSError):
                path.unlink()
