"""Keep the memory that a training frees for its next tensors."""

import ctypes
import sys

_TRIM, _MAP = -1, -3  # GNU libc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
_KEPT, _UNMAPPED = (1 << 31) - 1, (1 << 30, 1 << 25)  # bytes; old versions take the second at most


def keep() -> None:
    """Have this process's C library keep what is freed, where it is GNU's.

    As it comes, the library has the kernel map each large tensor anew and forget it
    afterwards: hundreds of megabytes, page by page, in each step of a training from pixels
    (`benchmarks/heap.py`).

    Example:
        >>> keep()
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_TRIM, _KEPT)
    for size in _UNMAPPED:
        if mallopt(_MAP, size):
            return
