"""Write the folder of an export: whole or not at all, every file named by its hash."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from sevenfold.bundles import SUMS
from sevenfold.data import shown
from sevenfold.errors import UsageError
from sevenfold.features.store import disk_full


def check(out: Path, *, replace: bool) -> None:
    """Refuse a place that is taken by something else than an older export.

    Raises:
        UsageError: it is, or is not to be replaced.
    """
    if out.exists() and not (out / SUMS).is_file():
        raise UsageError(
            f"--out {shown(str(out))} exists and is no export", "name a folder that does not exist"
        )
    if out.exists() and not replace:
        raise UsageError(
            f"--out {shown(str(out))} holds an export already", "add --replace, or name another"
        )


def written(out: Path, files: Mapping[str, bytes]) -> None:
    """Write files and their hashes beside the place, then put the folder in it.

    Raises:
        ResourceError: the disk is full or the folder cannot be written to.
    """
    sums = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()
    )
    part, old = (out.with_name(out.name + end) for end in (".part", ".old"))
    try:
        for leftover in (part, old):
            shutil.rmtree(leftover, ignore_errors=True)
        part.mkdir(parents=True)
        for name, content in {**files, SUMS: sums.encode()}.items():
            (part / name).write_bytes(content)
        if out.exists():
            out.rename(old)
        part.rename(out)
    except OSError as error:
        raise disk_full(error, out) from error
    shutil.rmtree(old, ignore_errors=True)
