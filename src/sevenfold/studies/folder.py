"""Keep what a study finds in a folder of its own, from which it goes on."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sevenfold import atomic
from sevenfold.data import refuse_among
from sevenfold.engines import Engine, Heard, Inline, Json
from sevenfold.errors import ResourceError, UsageError
from sevenfold.image import is_leftover, shown


def prepare(out: Path, ours: Set[str], kind: str, data: str) -> None:
    """Make the folder of a study with its `trials`, or refuse one that holds something else.

    Args:
        out: the folder.
        ours: names of what such a study writes there.
        kind: what it is, with its article.
        data: that it is of; it may not lie among the photos.

    Raises:
        UsageError: it is a file, holds other files, or lies among the photos.
        ResourceError: it cannot be written to.
    """
    refuse_among(data, out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {shown(str(out))} is a file", "name a folder")
    there = {path.name for path in out.iterdir()} if out.exists() else set()
    if others := [name for name in sorted(there - ours) if not _left(name, ours)]:
        raise UsageError(
            f"--out {shown(str(out))} holds other files, such as {shown(others[0])}",
            f"name a new folder, or that of {kind}",
        )
    try:
        (out / "trials").mkdir(parents=True, exist_ok=True)
        atomic.write(out / "trials" / "writable", "")
    except OSError as error:
        raise ResourceError(
            f"--out {shown(str(out))} cannot be written to: {error.strerror}",
            "choose another folder",
        ) from error


def _left(name: str, ours: Set[str]) -> bool:
    """Tell whether an operating system or a stopped study left a file."""
    return is_leftover(name) or (name.endswith(".part") and name.rsplit(".", 2)[0] in ours)


def kept(path: Path) -> dict[str, Any]:
    """Read what a trial left; nothing where nothing whole is there."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def recalled(folder: Path | None, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Read the results that are there, by key; without a folder none is."""
    there = {key: kept(folder / f"{key}.json") for key in keys} if folder else {}
    return {key: result for key, result in there.items() if result}


def complete(
    found: dict[str, dict[str, Any]],
    calls: Mapping[str, Json],
    function: str,
    engine: Engine,
    folder: Path | None,
    *,
    ended: Callable[[], None],
    heard: Heard | None = None,
) -> None:
    """Make calls, add the result of each to `found` and write it, as soon as it comes.

    Args:
        found: results by key.
        calls: those whose results are missing, by key.
        function: as `module:function`.
        engine: where calls are made.
        folder: where the results are written; None writes none.
        ended: is told whenever a result has come, unless `heard` was told of its call.
        heard: is told how far a call is where it is made in this process, see `Engine`.

    Raises:
        SevenfoldError: as a call raised it; what has come before is kept.
    """
    keys = list(calls)
    listener = heard if isinstance(engine, Inline) else None
    for number, result in engine.run(list(calls.values()), function, listener):
        if folder:
            path = folder / f"{keys[number]}.json"
            atomic.write(path, json.dumps(result, allow_nan=False))
        found[keys[number]] = dict(result)
        if not listener:
            ended()


@contextmanager
def checkpoints(folder: str) -> Iterator[Path]:
    """Hand out the folder of a training's checkpoints, and delete it afterwards.

    Args:
        folder: is kept where the training ends badly, so that it goes on from there;
            "" is a place of this machine that is deleted however it ends.
    """
    if not folder:
        with tempfile.TemporaryDirectory(prefix="sevenfold-", ignore_cleanup_errors=True) as place:
            yield Path(place)
        return
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    yield path
    shutil.rmtree(path, ignore_errors=True)
