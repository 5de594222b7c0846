"""Say which process holds something on disk, and tell whether it has ended."""

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def me() -> dict[str, Any]:
    """Return what names this process to others: its number, machine and start."""
    pid = os.getpid()
    return {"pid": pid, "host": socket.gethostname(), "started": _started(pid)}


def here(told: Mapping[str, Any]) -> bool:
    """Tell whether what `me` returned is of a process of this machine."""
    pid = told.get("pid")
    return told.get("host") == socket.gethostname() and type(pid) is int and pid >= 1


def ended(told: Mapping[str, Any]) -> bool:
    """Tell whether a process has ended for sure; another machine's is not known.

    Args:
        told: what `me` returned there.
    """
    if not here(told):
        return False
    return not _alive(told["pid"]) or _started(told["pid"]) != told.get("started")


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
