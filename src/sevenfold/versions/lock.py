"""Let one process at a time change a run."""

import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

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
        with path.open("xb") as file:
            file.write(mine)
    except FileExistsError:
        _take_over(path, mine)
    except OSError as error:
        raise ResourceError(
            f"{shown(str(run))} cannot be written to: {error.strerror}",
            "mend the folder's permissions",
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):
            if path.read_bytes() == mine:
                path.unlink()


def _mine() -> bytes:
    pid = os.getpid()
    told = {
        "pid": pid,
        "host": socket.gethostname(),
        "started": _started(pid),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "token": secrets.token_hex(8),
    }
    return json.dumps(told).encode()


def _take_over(path: Path, mine: bytes) -> None:
    content, told = _read(path)
    if not _ended(told):
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


def _ended(told: dict[str, Any]) -> bool:
    """Tell whether the lock's process has ended for sure; another machine's is not known."""
    pid = told.get("pid")
    if told.get("host") != socket.gethostname() or type(pid) is not int or pid < 1:
        return False
    return not _alive(pid) or _started(pid) != told.get("started")


def _alive(pid: int) -> bool:
    if sys.platform == "win32":
        import ctypes

        kernel = ctypes.windll.kernel32
        handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
        if not handle:
            return bool(kernel.GetLastError() == 5)  # access denied: it is somebody else's
        code = ctypes.c_ulong()
        kernel.GetExitCodeProcess(handle, ctypes.byref(code))
        kernel.CloseHandle(handle)
        return code.value == 259  # STILL_ACTIVE
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _started(pid: int) -> str:
    """Return when a process began, by which a number that is used again is told; or ""."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return fields[19]
    except (OSError, IndexError):
        return ""
