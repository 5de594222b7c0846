"""Release a fitted network: export, verify, score once on test, and write the run.

`graph` exports it, `opening` opens test, `scores` scores and guards it, `facts` are what its
report tells, and `clock` times the stages.
"""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from sevenfold import account, arch, export, report, strict, swap
from sevenfold import data as datasets
from sevenfold import evaluate as scoring
from sevenfold.place import Place
from sevenfold.predictions import write_predictions
from sevenfold.progress import Progress
from sevenfold.recipe import to_toml
from sevenfold.release.clock import Clock
from sevenfold.release.facts import NOTICES, Asked, card, lines, summed, told
from sevenfold.release.graph import Exported, exported
from sevenfold.release.opening import Judged, judged
from sevenfold.release.scores import Scored, scored
from sevenfold.train import Fitted

__all__ = [
    "NOTICES",
    "Asked",
    "Clock",
    "Exported",
    "Judged",
    "clear",
    "exported",
    "judged",
    "release",
]

_NOT_TOLD: Final = ("machine", "voter")


def release(
    out: Path,
    asked: Asked,
    fitted: Fitted,
    split: datasets.Split,
    *,
    place: Place,
    clock: Clock,
    progress: Progress,
    made: tuple[Exported, Judged] | None = None,
    pruning: Mapping[str, Any] = MappingProxyType({}),
    update: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Write the run of a fitted network into an empty folder.

    Args:
        out: the folder.
        asked: what the report says of the request.
        fitted: what ships, and what it came from.
        split: pictures by role.
        place: where to compute.
        clock: notes how long it takes.
        progress: is told `export`.
        made: the graph and its answers, where they are there already.
        pruning: facts of how the network was pruned; empty where it was not.
        update: facts of the update that made it; empty where none did.

    Returns:
        The object of `train --json`.

    Raises:
        GateRefused: the exported graph disagrees with the network.
    """
    with clock.stage("export"):
        progress("export", 0, 1)
        model = made[0] if made else exported(fitted, split, place)
        progress("export", 1, 1)
    with clock.stage("score"):
        answered = made[1] if made else judged(model, split, place)
        found = scored(model, answered, fitted, split, asked.wish, place)
        facts = told(asked, fitted, split, model, found, place, pruning=pruning, update=update)
    _write_bundle(out, asked, fitted, split, model, found, facts)
    _write_record(out, fitted, _manifest(asked, split, facts), found, facts)
    _write_report(out, facts, clock)
    return _summary(out, split, found, facts, clock)


def _write_bundle(
    out: Path,
    asked: Asked,
    fitted: Fitted,
    split: datasets.Split,
    model: Exported,
    found: Scored,
    facts: Mapping[str, Any],
) -> None:
    """Write the bundle, and the networks that the run can be opened with again."""
    classes, whole = split.dataset.classes, card(facts, asked, fitted, split, model, found)
    more = {**found.guarded.files, "selftest.json": export.selftest(model.model)}
    export.write(out / "bundle", model.model, classes, whole, report.model_card(whole), more)
    ships = account.shipped(fitted)
    arch.write(out, fitted, classes, temperature=model.temperature, ships=ships)


def _manifest(asked: Asked, split: datasets.Split, facts: Mapping[str, Any]) -> datasets.Manifest:
    """Record the split, and that test was opened for it."""
    known, run = asked.known, facts["run"]
    now = datasets.Opening(run["created"], run["command"])
    # A training's own is the first: by it a version is known to go on from this one.
    openings = (*known.openings, now) if known.rows else (now, *known.openings)
    return dataclasses.replace(datasets.manifest_of(split, known=known), openings=openings)


def _write_record(
    out: Path,
    fitted: Fitted,
    manifest: datasets.Manifest,
    found: Scored,
    facts: Mapping[str, Any],
) -> None:
    """Write answers, pruning, pictures by role, recipe and metrics."""
    write_predictions(out / "predictions.csv", found.predictions, found.guarded.distances.tolist())
    texts = {
        "data.json": datasets.to_json(manifest),
        "recipe.toml": to_toml(fitted.recipe),
        "metrics.jsonl": "".join(f"{line}\n" for line in lines(facts, fitted)),
    }
    if facts["pruning"]:
        texts = {"pruning.json": strict.to_json(facts["pruning"], indent=1), **texts}
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")


def _write_report(out: Path, facts: dict[str, Any], clock: Clock) -> None:
    """Write the report, `report.json` last: a run without it is not finished.

    Adds to `facts` what it all took.
    """
    facts["run"] |= {
        "seconds": clock.seconds,
        "memory_peak_megabytes": account.peak_megabytes(),
        "stages": clock.stages,
    }
    (out / "report.html").write_text(report.render(facts), encoding="utf-8")
    (out / "report.json").write_text(strict.to_json(facts, indent=1), encoding="utf-8")


def _summary(
    out: Path, split: datasets.Split, found: Scored, facts: Mapping[str, Any], clock: Clock
) -> dict[str, Any]:
    """Return the object of `train --json`."""
    return {
        "schema": "sevenfold.train/1",
        "run": str(out),
        "seconds": clock.seconds,
        "test": scoring.flat(found.test),
        "validation": scoring.flat(found.chosen),
        "bundle": {name: held for name, held in facts["bundle"].items() if name not in _NOT_TOLD},
        "operating": found.guarded.operating,
        "unknown": found.guarded.unknown,
        "quarantined": len(split.quarantined),
        "advice": facts["run"]["advice"],
        "pruning": summed(facts["pruning"]),
        "label_check": facts["classwise"]["label_check"],
        "stages": clock.noted(),
        "memory_peak_megabytes": account.peak_megabytes(),
    }


def clear(run: Path) -> None:
    """Remove a run's checkpoints, and files that a kill left half written.

    What checkpoints led to is written; their folder stays, as its mark.
    """
    for place in (run, *(run / name for name in swap.FOLDERS)):
        for part in place.glob("*.part"):
            part.unlink(missing_ok=True)
    (run / "trials").mkdir(exist_ok=True)
    for path in (run / "trials").iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
