"""Keep whole copies of a run's model in `RUN/versions`, and a log of what became of them."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sevenfold import atomic, bundles, record, swap
from sevenfold import data as datasets
from sevenfold.errors import ModelError, UsageError
from sevenfold.image import shown
from sevenfold.versions import noted

SCHEMA: Final = "sevenfold.version/1"
LOG_SCHEMA: Final = "sevenfold.versions/1"
RECORD: Final = "version.json"
LOG: Final = "log.json"
_PART: Final = "next.part"  # where a version is made


@dataclass(frozen=True, slots=True)
class Version:
    """Tell of one version.

    Args:
        number: from 1; never used twice.
        parent: the version that it came from; 0 for the first.
        time: when the model was made.
        command: that made it.
        pictures: of each role.
        test: the scores on test when it was made, by name.
        signed_off: whether a person has approved it; what a training made is.
        current: whether it is what the run serves.
    """

    number: int
    parent: int
    time: str
    command: str
    pictures: Mapping[str, int]
    test: Mapping[str, float]
    signed_off: bool
    current: bool


def check(run: Path) -> None:
    """Refuse a folder that holds no finished run.

    Raises:
        UsageError: it does not.
    """
    if not (run / "report.json").is_file() and not swap.pending(run):
        raise record.unfinished(run / "report.json")


def listed(run: Path) -> list[Version]:
    """List the versions of a run; one that was never updated has one, which is not kept yet.

    Raises:
        UsageError: the folder holds no finished run.
        ModelError: a version's record is damaged.
    """
    check(run)
    now, signed = current(run), _signed_off(run)
    found = [
        _version(swap.folder_of(run, number), number, _parent(run, number), signed, now)
        for number in _numbers(run)
    ]
    if not now:
        number, parent = upcoming(run), _before(run)
        signed |= set() if parent else {number}
        found.append(_version(run, number, parent, signed, number))
    return found


def current(run: Path) -> int:
    """Return the number of the version that the run serves; 0 where that is not kept."""
    if number := swap.pending(run):
        return number
    here = _sums(run)
    return next((n for n in reversed(_numbers(run)) if _sums(swap.folder_of(run, n)) == here), 0)


def keep(run: Path) -> int:
    """Keep a copy of what the run serves, unless there is one; return its number.

    A run that `distill` or `prune` made anew after an update gets a number of its own.
    """
    swap.finish(run)
    now = current(run)
    _tidy(run, now)
    if not now:
        now, parent = upcoming(run), _before(run)
        part = run / swap.VERSIONS / _PART
        swap.copy(run, part)
        _settle(run, part, now, parent)
    if now not in _logged(run):
        log(run, {"event": "kept", "version": now})
    return now


def renewed(
    run: Path,
    parent: int,
    event: Mapping[str, Any],
    make: Callable[[Path], dict[str, Any]],
    command: str = "",
) -> dict[str, Any]:
    """Serve a new version; a whole model is served at any moment. The caller holds the lock.

    Args:
        run: the folder of the run.
        parent: the version that the new one comes from, as `keep` returned it.
        event: for the log.
        make: writes a whole run into an empty folder, and returns the facts of it.
        command: as `noted.asked` names it, of which `ended` will know; it has to `forget`.

    Returns:
        These facts, of the run itself.
    """
    with _making(run) as part:
        facts = make(part) | {"run": str(run)}
        _join_openings(run, part)
        _note(run, part, command, facts, event)
        number = _served(run, part, parent)
    log(run, {"event": "accepted", "version": number, **event})
    return facts


def replaced(
    run: Path, make: Callable[[Path], dict[str, Any]], command: str = ""
) -> dict[str, Any]:
    """Serve a new training, of which no version is kept yet; else as `renewed`.

    Args:
        run: the folder of the run, finished or not.
        make: as in `renewed`.
        command: as in `renewed`.

    Returns:
        What it returned, of the run itself.
    """
    with _making(run) as part:
        facts = make(part) | {"run": str(run)}
        _note(run, part, command, facts, {})
        _served(run, part, 0)
    _remove_copies(run)
    return facts


def serves(run: Path, command: str) -> bool:
    """Tell whether a run serves what this command made, which was stopped before its end."""
    return _note_of(run, command) is not None


def ended(run: Path, command: str) -> dict[str, Any]:
    """Do what a stopped command left, if the run serves what it made. The caller holds the lock.

    Args:
        run: the folder of the run.
        command: as it was given to `renewed` or `replaced`.

    Returns:
        The facts that it tells; empty where the command has its work to do.
    """
    swap.finish(run)
    note = _note_of(run, command)
    if note is None:
        return {}
    if not note.event:
        _remove_copies(run)
    elif (number := current(run)) not in _logged(run):
        log(run, {"event": "accepted", "version": number, **note.event})
    return note.facts


def _note_of(run: Path, command: str) -> noted.Noted | None:
    """Return the note of a command whose model the run serves."""
    note = noted.read(run)
    if note is None or (note.command, note.sums) != (command, _sums(run).decode()):
        return None
    return note


def _note(
    run: Path, part: Path, command: str, facts: dict[str, Any], event: Mapping[str, Any]
) -> None:
    if command:
        noted.write(run, noted.Noted(command, _sums(part).decode(), facts, dict(event)))


def _remove_copies(run: Path) -> None:
    """Remove the copy of a training that was swapped in, and what was made and never served."""
    logged = _logged(run)
    for number in set(_numbers(run)) - logged:
        if logged or not _parent(run, number):  # whose log is lost, nobody knows what it served
            _remove(run, number)
    with suppress(OSError):
        (run / swap.VERSIONS).rmdir()  # of a run that was never updated


@contextmanager
def _making(run: Path) -> Iterator[Path]:
    """Hold an empty folder to make a version in; an error removes it: a full disk needs room."""
    part = run / swap.VERSIONS / _PART
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _served(run: Path, part: Path, parent: int) -> int:
    """Serve what was made, and return its number."""
    number = upcoming(run)
    _settle(run, part, number, parent)
    swap.begin(run, number)
    swap.finish(run)
    return number


def baseline(run: Path, number: int) -> int:
    """Return the last version signed off among one and those that it came from."""
    signed = _signed_off(run)
    while number not in signed and 0 < (before := _parent(run, number)) < number:
        number = before
    return number


def rollback(run: Path, number: int) -> Version:
    """Serve an earlier version again. Writes to the run; the caller holds its lock.

    What is known of openings of test stays known. Where an earlier call was stopped before
    its line in the log, this one writes it.

    Raises:
        UsageError: there is no such version, or it is what the run serves.
        ModelError: the version is damaged.
    """
    before = keep(run)
    _refuse_unknown(run, number)
    last = _served_last(run)
    if number == before == last:
        raise UsageError(f"version {number} is what {shown(str(run))} serves", "choose another")
    if number != before:
        folder = swap.folder_of(run, number)
        bundles.read_bundle(folder)
        _join_openings(run, folder)
        swap.begin(run, number)
        swap.finish(run)
        last = before
    log(run, {"event": "rollback", "version": number, "before": last})
    return next(one for one in listed(run) if one.number == number)


def sign_off(run: Path, number: int) -> Version:
    """Note that a person has approved a version, against which updates are held from then on.

    Raises:
        UsageError: there is no such version.
    """
    keep(run)
    _refuse_unknown(run, number)
    log(run, {"event": "signed off", "version": number})
    return next(one for one in listed(run) if one.number == number)


def _refuse_unknown(run: Path, number: int) -> None:
    if number not in _numbers(run):
        raise UsageError(
            f"{shown(str(run))} has no version {number}",
            f"choose one of {', '.join(map(str, _numbers(run)))}",
        )


def log(run: Path, event: Mapping[str, Any]) -> None:
    """Add a line to the log of a run's versions."""
    folder = run / swap.VERSIONS
    folder.mkdir(exist_ok=True)
    told = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **event}
    content = {"schema": LOG_SCHEMA, "events": [*_events(run), told]}
    atomic.write(folder / LOG, json.dumps(content, indent=1).encode())


def _events(run: Path) -> list[dict[str, Any]]:
    path = run / swap.VERSIONS / LOG
    if not path.exists():
        return []
    try:
        events = [{**one, "event": str(one["event"])} for one in record.held(path)["events"]]
        if not all(isinstance(one.get("version", 0), int) for one in events):
            raise TypeError("a version is no number")
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"{shown(str(path))} is damaged", "restore it from a copy, or delete it"
        ) from error
    return events


def _signed_off(run: Path) -> set[int]:
    """Return what people have approved, and what a training made, which others came from."""
    roots = {number for number in _numbers(run) if not _parent(run, number)}
    return roots | {int(one["version"]) for one in _events(run) if one["event"] == "signed off"}


def _logged(run: Path) -> set[int]:
    return {int(one["version"]) for one in _events(run) if one["event"] in ("kept", "accepted")}


def _numbers(run: Path) -> list[int]:
    folder = run / swap.VERSIONS
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal() and p.is_dir())


def upcoming(run: Path) -> int:
    """Return the number that the next version will have."""
    return max(_numbers(run), default=0) + 1


def _before(run: Path) -> int:
    """Return the version that what the run serves was made from; 0 if it was trained anew.

    Whatever goes on from a training keeps the openings of its test pictures.
    """
    last = _served_last(run)
    if not last:
        return 0
    here, there = (_manifest(one) for one in (run, swap.folder_of(run, last)))
    return last if here.openings[:1] == there.openings[:1] else 0


def _served_last(run: Path) -> int:
    """Return the version that the log says was served last; 0 where it says nothing."""
    served = ("kept", "accepted", "rollback")
    told = [int(one["version"]) for one in _events(run) if one["event"] in served]
    return told[-1] if told else 0


def _parent(run: Path, number: int) -> int:
    return int(record.held(swap.folder_of(run, number) / RECORD).get("parent", 0))


def _tidy(run: Path, now: int) -> None:
    """Remove what a kill left: a version half made, or made and never served."""
    shutil.rmtree(run / swap.VERSIONS / _PART, ignore_errors=True)
    logged = _logged(run)
    for number in _numbers(run):
        if logged and number not in logged and number != now and _parent(run, number) == now:
            _remove(run, number)


def _remove(run: Path, number: int) -> None:
    """Remove a version; renamed first, so that no half of it is ever taken for one."""
    with suppress(OSError):
        shutil.rmtree(swap.folder_of(run, number).rename(run / swap.VERSIONS / _PART))


def _settle(run: Path, part: Path, number: int, parent: int) -> None:
    told = {"schema": SCHEMA, "number": number, "parent": parent}
    (part / RECORD).write_text(json.dumps(told), encoding="utf-8")
    swap.settle(part, swap.folder_of(run, number))


def _join_openings(run: Path, folder: Path) -> None:
    mine, theirs = _manifest(folder), _manifest(run)
    together = tuple(dict.fromkeys((*mine.openings, *theirs.openings)))
    if together != mine.openings:
        told = datasets.to_json(replace(mine, openings=together))
        atomic.write(folder / "data.json", told.encode())


def _manifest(folder: Path) -> datasets.Manifest:
    path = folder / "data.json"
    try:
        return datasets.read_manifest(path)
    except OSError as error:
        raise ModelError(
            f"{shown(str(path))} is missing", "restore it from a copy, or train again"
        ) from error


def _sums(folder: Path) -> bytes:
    path = folder / "bundle" / bundles.SUMS
    return path.read_bytes() if path.is_file() else b""


def _version(folder: Path, number: int, parent: int, signed: set[int], now: int) -> Version:
    told = record.held(folder / "report.json")
    try:
        classes, test = told["data"]["classes"], told["test"]
        return Version(
            number,
            parent,
            str(told["run"]["created"]),
            str(told["run"]["command"]),
            {role: sum(one[role] for one in classes) for role in ("train", "val", "test")},
            {
                name: float(test[name]["value"])
                for name in ("accuracy", "balanced_accuracy", "macro_f1", "nll")
            },
            number in signed,
            number == now,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{shown(str(folder / 'report.json'))} is damaged",
            "restore it from a copy, or remove the version's folder",
        ) from error
