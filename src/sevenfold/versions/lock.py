"""Let one process at a time change a run."""

import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sevenfold import owner
from sevenfold.errors import ResourceError
from sevenfold.image import shown

NAME: Final = "update.lock"
_SETTLE_SECONDS: Final = 0.1


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the lock of a run: a file that only one process can make.

    The lock of a process of this machine that has ended is taken over.

    Raises:
        ResourceError: another process changes the run, or may do so on another machine.
    """
    path, mine = run / NAME, _mine()
    try:
        _make(path, mine)
    except FileExistsError:
        _take_over(path, mine)
    except OSError as error:
        raise ResourceError(
            f"{shown(str(run))} cannot be written to: {error.strerror}",
            "mend the folder's permissions, or make room on its disk",
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):
            if path.read_bytes() == mine:
                path.unlink()


def _make(path: Path, mine: bytes) -> None:
    file = path.open("xb")
    try:
        with file:
            file.write(mine)
    except OSError:  # a full disk, on which an empty lock would be nobody's
        path.unlink(missing_ok=True)
        raise


def _mine() -> bytes:
    told = owner.me() | {
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "token": secrets.token_hex(8),
    }
    return json.dumps(told).encode()


def _take_over(path: Path, mine: bytes) -> None:
    content, told = _read(path)
    if _is_empty(path):  # being written, or left so by a loss of power
        time.sleep(_SETTLE_SECONDS)
        content, told = _read(path)
    if not (_is_empty(path) or owner.ended(told)):
        raise _busy(path, told)
    # Whoever replaces it last has it; who looks again a little later knows.
    part = path.with_name(f"{NAME}.{os.getpid()}.part")
    part.write_bytes(mine)
    if _read(path)[0] == content:
        part.replace(path)
    time.sleep(_SETTLE_SECONDS)
    part.unlink(missing_ok=True)
    content, told = _read(path)
    if content != mine:
        raise _busy(path, told)


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except OSError:
        return False


def _read(path: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        content = path.read_bytes()
        told = json.loads(content)
    except (OSError, ValueError, RecursionError):
        return b"", {}
    return content, told if isinstance(told, dict) else {}


def _busy(path: Path, told: dict[str, Any]) -> ResourceError:
    who = f"process {told.get('pid', '?')} on {told.get('host', '?')}"
    return ResourceError(
        f"{shown(str(path.parent))} is being changed by {shown(who)}"
        f"{shown(' since ' + str(told['since'])) if 'since' in told else ''}",
        f"wait until it ends; if it surely has, delete {shown(str(path))}",
    )
