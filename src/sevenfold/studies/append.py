"""Add what studies found to the report of a finished run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sevenfold import atomic, record, strict, swap, versions
from sevenfold import data as datasets
from sevenfold.errors import DataError, UsageError
from sevenfold.image import shown
from sevenfold.report.page import SCHEMA, render

KINDS: Final = {
    "sevenfold.evidence/1": ("evidence", "data"),
    "sevenfold.curve/1": ("curve", "name"),
}
"""By schema: the part of the report, and the key under which a study names its data."""


def append(run: Path, studies: Sequence[Path]) -> dict[str, Any]:
    """Show studies in the report of a run. Writes its `report.html` and `report.json`.

    Those of the kept copy of the version that it serves are written, too, so that a rollback
    brings the studies back.

    Args:
        run: the folder that `train` wrote.
        studies: `evidence.json` or `curve.json`, or the folders that hold one.

    Returns:
        The object of `report --json`, schema "sevenfold.appended/1".

    Raises:
        UsageError: a file is not what a study wrote, or the run is no finished one.
        DataError: a study is of other data than the run.
        ModelError: the run's record is damaged.
        ResourceError: a version that the run serves cannot take its place yet, or another
            command changes the run.
    """
    versions.check(run)
    with versions.locked(run):
        return _appended(run, studies)


def _appended(run: Path, studies: Sequence[Path]) -> dict[str, Any]:
    swap.finish(run)
    path = run / "report.json"
    facts = record.read(path)
    if "schema" in facts:
        record.check(path, facts, SCHEMA)
    if not isinstance(facts.get("data"), Mapping):
        raise record.damaged(path)
    added = []
    for study in studies:
        name, found = _study(study)
        theirs = str(found.get(KINDS[str(found["schema"])][1]))
        mine = str(facts["data"].get("name"))
        if theirs == mine and not _same(run, found):
            theirs = f"{theirs} as it was with other pictures or labels"
        if theirs != mine:
            raise DataError(
                f"{shown(str(study))} is of the data {shown(theirs)}, the run of {shown(mine)}",
                "name a study of the data that the run was trained on",
            )
        facts[name] = found
        added.append(name)
    kept = versions.current(run)
    texts = {"report.html": render(facts), "report.json": strict.to_json(facts, indent=1)}
    for folder in (*([swap.folder_of(run, kept)] if kept else []), run):
        for name, text in texts.items():
            atomic.write(folder / name, text)
    return {
        "schema": "sevenfold.appended/1",
        "report": str(run / "report.html"),
        "added": added,
    }


def _same(run: Path, study: Mapping[str, Any]) -> bool:
    """Tell whether a study is of the pictures of a run, as far as both say which these are."""
    regime = study.get("regime")
    theirs = (regime if isinstance(regime, Mapping) else study).get("contents")
    path = run / "data.json"
    if not theirs or not path.exists():
        return True
    rows = datasets.read_manifest(path).rows
    return bool(theirs == datasets.contents((r.hash for r in rows), (r.label for r in rows)))


def _study(path: Path) -> tuple[str, Mapping[str, Any]]:
    cure = "name an evidence.json or curve.json, or the folder that holds it"
    if path.is_dir():
        held = [path / f"{name}.json" for name, _ in KINDS.values()]
        path = next((one for one in held if one.is_file()), path / "evidence.json")
    found = _read(path, cure)
    if found.get("schema") not in KINDS:
        raise UsageError(f"{shown(str(path))} is no study that a report can show", cure)
    return KINDS[str(found["schema"])][0], found


def _read(path: Path, cure: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{shown(str(path))} cannot be read: {error.strerror}", cure) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{shown(str(path))} is no JSON", cure) from error
    if not isinstance(found, dict):
        raise UsageError(f"{shown(str(path))} is no JSON object", cure)
    return found
