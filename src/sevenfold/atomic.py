"""Write a file whole or not at all."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_WAITS: Final = (0.05, 0.2, 1.0)  # seconds; Windows replaces no file that is being read


def write(path: Path, content: bytes | str) -> None:
    """Write a file beside its place, then move it there: a kill leaves the old file.

    Args:
        path: of the file, replaced if it exists; its folder must be there.
        content: bytes, or text that is written as UTF-8 as it is.

    Raises:
        OSError: the disk is full, or the place cannot be written to.
    """
    with beside(path) as part, part.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Hand out a name beside a file's place, and move there what was written by it.

    Args:
        path: of the file, replaced if it exists; its folder must be there.

    Raises:
        OSError: the place cannot be written to, or what the writing raised.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        for wait in _WAITS:
            try:
                part.replace(path)
                return
            except PermissionError:
                time.sleep(wait)
        part.replace(path)
    except BaseException:  # an interrupt too
        part.unlink(missing_ok=True)  # a full disk needs the room
        raise
