"""Count the processor cores that this process may use."""

import math
import os
from pathlib import Path
from typing import Final

_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")  # of Linux control groups, version 2


def usable_cores() -> int:
    """Return how many cores this process may use: a container may have fewer than the machine.

    The least of what the system lets the process run on and, on Linux, what the time that its
    control group may spend is worth, rounded up.

    Example:
        >>> usable_cores() >= 1
        True
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(cores, _quota(_QUOTA)))


def _quota(path: Path) -> int:
    """Return what a control group may spend, in cores; as many as anybody has where no bound is."""
    try:
        spent, period = path.read_text("ascii").split()
        return math.ceil(int(spent) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no number
        return 1 << 30
