"""Put another version in the place of a run's files; a whole model is served at any moment.

A version lies complete in `RUN/versions/N`. `begin` writes `RUN/swap.json`, which names it:
from that moment on it is what the run serves, however many of the run's own files are
replaced already. `finish` replaces them one after another and deletes `swap.json` last. What
a kill left half done is finished by the next command that opens the run. A folder that holds
files cannot be replaced at once on any system, a small file can on all.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sevenfold import atomic
from sevenfold.errors import ResourceError
from sevenfold.image import shown

JOURNAL: Final = "swap.json"
VERSIONS: Final = "versions"
FILES: Final = (
    "model.safetensors",
    "arch.json",
    "data.json",
    "predictions.csv",
    "recipe.toml",
    "metrics.jsonl",
    "pruning.json",
    "report.html",
    "report.json",
)
FOLDERS: Final = ("bundle", "members")
"""What makes a version, beside its record."""


def folder_of(run: Path, number: int) -> Path:
    """Say where a version lies."""
    return run / VERSIONS / str(number)


def pending(run: Path) -> int:
    """Return the version that is taking the place of the run's files; 0 for none."""
    try:
        found = json.loads((run / JOURNAL).read_text("utf-8"))
        number = found["version"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0
    whole = isinstance(number, int) and (folder_of(run, number) / "bundle" / "SHA256SUMS").is_file()
    return number if whole else 0


def serving(path: Path) -> Path:
    """Return the folder of the bundle that a run, or a bundle, serves now.

    Args:
        path: of a run, of its bundle, or of a bundle that was copied out of one.
    """
    run = path.parent if path.name == "bundle" else path
    if number := pending(run):
        return folder_of(run, number) / "bundle"
    return path / "bundle" if (path / "bundle").is_dir() else path


def served(path: Path, name: str) -> Path:
    """Return the file in which a run tells of the version that it serves now.

    Args:
        path: of a run, or of its bundle.
        name: of the file.
    """
    of_a_run = path.name == "bundle" and (path.parent / "data.json").is_file()
    run = path.parent if of_a_run else path
    number = pending(run)
    return (folder_of(run, number) if number else run) / name


def begin(run: Path, number: int) -> None:
    """Make a version, which must be complete, the one that the run serves."""
    atomic.write(run / JOURNAL, json.dumps({"version": number}).encode())


def finish(run: Path) -> None:
    """Bring the run's files up to the version that it serves. Does nothing where they are.

    Raises:
        ResourceError: a file cannot be replaced; the run serves the version all the same.
    """
    number = pending(run)
    if not number:
        return
    source = folder_of(run, number)
    held = list(_held(source))
    try:
        for name in held:
            _replace(run / name, (source / name).read_bytes())
        for name in set(_held(run)) - set(held):
            (run / name).unlink(missing_ok=True)
        (run / JOURNAL).unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(
            f"{shown(str(error.filename or run))} cannot be replaced: {error.strerror}; the run "
            f"serves version {number} all the same",
            "close the programs that use the run, or make room on its disk; its next command "
            "goes on",
        ) from error


def _held(folder: Path) -> Iterator[str]:
    """Yield the names of a version's files; report.json, which ends a run, last."""
    for name in FOLDERS:
        if (folder / name).is_dir():
            files = sorted((folder / name).iterdir())
            yield from (f"{name}/{file.name}" for file in files if file.is_file())
    yield from (name for name in FILES if (folder / name).is_file())


def copy(source: Path, target: Path) -> None:
    """Copy the files of a version into a folder, which is made anew."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in _held(source):
        (target / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / name, target / name)


def flush(folder: Path) -> None:
    """Wait until all files of a folder lie safely on the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())


def settle(part: Path, target: Path) -> None:
    """Give a folder its name once all that is in it lies safely on the disk."""
    flush(part)
    part.rename(target)


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    atomic.write(path, content)
