"""Write the folder of an export: whole or not at all, every file named by its hash."""

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from sevenfold import swap
from sevenfold.bundles import SUMS, read_sums, summed
from sevenfold.data import shown
from sevenfold.errors import ModelError, UsageError
from sevenfold.features.store import disk_full
from sevenfold.image import is_leftover


def check(out: Path, *, replace: bool) -> None:
    """Refuse a place that is taken by something else than an older export.

    Raises:
        UsageError: it is, or is not to be replaced.
    """
    for above in out.absolute().parents:
        if (above / SUMS).is_file():
            raise UsageError(
                f"--out {shown(str(out))} lies inside {shown(str(above))}, which is a bundle or "
                "an export itself",
                "name a folder outside of it",
            )
    if out.exists() and (foreign := _foreign(out)):
        raise UsageError(f"--out {shown(str(out))} {foreign}", "name a folder that does not exist")
    if out.exists() and not replace:
        raise UsageError(
            f"--out {shown(str(out))} holds an export already", "add --replace, or name another"
        )


def _foreign(out: Path) -> str:
    """Say why a folder must not be replaced; "" where it holds an export and nothing else."""
    if out.name == "bundle" and (out.parent / "data.json").exists():
        return "is the bundle that a run serves"
    try:
        ours = {SUMS, *read_sums(out)}
        names = {path.name for path in out.iterdir() if not is_leftover(path.name)}
    except (OSError, ModelError):
        return "exists and is no export"
    if more := sorted(names - ours):
        return f"holds also {shown(more[0])}, which is no part of an export"
    return "" if names == ours else "exists and is no whole export"


def written(out: Path, files: Mapping[str, bytes]) -> None:
    """Write files and their hashes beside the place, then put the folder in it.

    Raises:
        ResourceError: the disk is full or the folder cannot be written to.
    """
    # Names of their own: what lies beside the place is not ours to delete.
    part, old = (out.with_name(f".{out.name}.{uuid4().hex}") for _ in range(2))
    try:
        part.mkdir(parents=True)
        for name, content in summed(files).items():
            (part / name).write_bytes(content)
        swap.flush(part)
        if out.exists():
            out.rename(old)
        part.rename(out)
    except BaseException as error:
        if old.exists() and not out.exists():
            with contextlib.suppress(OSError):
                old.rename(out)
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, OSError):
            raise disk_full(error, out) from error
        raise
    shutil.rmtree(old, ignore_errors=True)
