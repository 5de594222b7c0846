"""Update a run: read, check the labels, fine-tune, judge, and swap the model if it may be."""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float64, Int64

from sevenfold import (
    bundles,
    export,
    guards,
    latency,
    operating,
    release,
    runs,
    swap,
    trial,
    versions,
)
from sevenfold import data as datasets
from sevenfold import evaluate as scoring
from sevenfold.errors import DataError, GateRefused, UsageError
from sevenfold.image import shown
from sevenfold.place import Place
from sevenfold.predictions import Predictions, recorded
from sevenfold.progress import Progress
from sevenfold.remake import record
from sevenfold.update import agreement, gate, incoming, tuning
from sevenfold.update.asked import Asked
from sevenfold.update.incoming import Incoming

SCHEMA: Final = "sevenfold.update/1"
_FLIPS: Final = 200  # that are listed
_LISTED: Final = 200
_BLIND: Final = (
    "the new version cannot tell pictures that are unlike its data: with few pictures the "
    "networks of the folds measure that, and only a training has them"
)

# Few rounds: what they tell is shown, and refuses nothing.
_timed: Final = partial(latency.timed, rounds=40)


@dataclass(frozen=True, eq=False)
class _Ground:
    """Hold what all steps of an update share."""

    folder: Path
    asked: Asked
    run: runs.Run
    found: Incoming
    parent: int
    place: Place
    clock: release.Clock
    progress: Progress


def update(
    folder: Path,
    asked: Asked,
    *,
    threads: int,
    device: str,
    progress: Progress,
    timer: latency.Timer = _timed,
) -> dict[str, Any]:
    """Fine-tune a finished run on more data; it serves the result only if that does no harm.

    Writes to the run: checkpoints into `trials/`, the new version into `versions/`, and
    last the run's own files, so that a whole model is served at any moment; the same
    command goes on after a stop. Where the gate says no, nothing changes but the log of
    versions and that of the openings of test.

    Args:
        folder: of the run.
        asked: what the user asked for.
        threads: 0 is one for each core.
        device: `auto`, `cpu`, `cuda` or `mps`.
        progress: is told what is under way.
        timer: times models; see `latency.timed`.

    Returns:
        The object of `update --json`, schema "sevenfold.update/1": `accepted`, `reason` and
        `cure` where it was not, `negative_flips`, and the scores `before` and `after`.

    Raises:
        UsageError: an option makes no sense for this run.
        DataError: there is nothing new, or it cannot be used.
        ResourceError: another update is at work.
    """
    versions.check(folder)
    clock, place = release.Clock(), trial.place(device, threads)
    with nullcontext() if asked.dry_run else versions.locked(folder):
        if not asked.dry_run and (facts := versions.ended(folder, versions.asked("update", asked))):
            for left in (folder / "trials").glob("update-*"):
                shutil.rmtree(left, ignore_errors=True)
            versions.forget(folder)
            return facts
        parent = versions.current(folder) if asked.dry_run else versions.keep(folder)
        with clock.stage("read"):
            run = runs.reopened(folder, data=asked.moved, threads=place.threads, progress=progress)
            found = incoming.read(run, asked, threads=place.threads, progress=progress)
        ground = _Ground(folder, asked, run, found, parent, place, clock, progress)
        guards.promised(_wish(ground), ground.found.split)
        facts = _arrived(ground)
        with clock.stage("check"):
            checked = _agreement(ground)
        if checked is not None:
            facts["agreement"] = agreement.to_json(*checked)
            if checked[0].failed and not asked.trust_labels:
                return _refused(ground, facts, *agreement.reason(checked[0]))
        if asked.dry_run:
            return _finished(ground, facts, reason="a dry run: nothing was trained")
        return _trained(ground, facts, timer)


def _wish(ground: _Ground) -> operating.Wish:
    """Return what the answers shall be like, by the names that classes have now."""
    return operating.renamed(record.asked(ground.run).wish, ground.found.renamed)


def _arrived(ground: _Ground) -> dict[str, Any]:
    """Tell of the data that came in."""
    found, run = ground.found, ground.run
    stages = {one["stage"]: one["seconds"] for one in run.facts["run"].get("stages", ())}
    pictures = tuning.shown(run, found, ground.asked.seed)
    share = tuning.epochs(run.recipe) / run.recipe.epochs
    share *= len(pictures) / max(1, len(run.split.train))
    # What an update, a pruning or a student took tells nothing of a whole training.
    whole = 0.0 if run.facts.get("update") else float(stages.get("fit", 0.0))
    return {
        "schema": SCHEMA,
        "run": str(ground.folder),
        "data": shown(ground.asked.data),
        "dry_run": ground.asked.dry_run,
        "accepted": False,
        "reason": "",
        "cure": "",
        "parent": ground.parent,
        "version": ground.parent,
        "new": {role: len(found.of(role)) for role in ("train", "val", "test")},
        "known": found.known,
        "corrections": [asdict(one) for one in found.corrections[:_LISTED]],
        "corrections_count": len(found.corrections),
        "corrections_applied": found.applied,
        "new_classes": list(found.learned),
        "renamed": dict(found.renamed),
        "left_out": [
            {"path": shown(one.path), "reason": one.reason} for one in found.left_out[:_LISTED]
        ],
        "left_out_count": len(found.left_out),
        "epochs": tuning.epochs(run.recipe),
        "estimated_seconds": share * whole or None,
        "agreement": {},
        "comparisons": [],
        "warnings": [],
        "ways": [],
        "negative_flips": 0,
        "flips": [],
        "before": {},
        "after": {},
    }


def _agreement(
    ground: _Ground,
) -> tuple[agreement.Agreement, list[str], list[str]] | None:
    """Ask the running model about the new pictures of classes that it knows."""
    found, split = ground.found, ground.found.split
    labels = split.dataset.labels
    asked = found.new[labels[found.new] < len(found.classes)]
    if not len(asked):
        return None
    model = bundles.read_bundle(ground.folder).model
    told = agreement.agreement(
        export.answers(model, split.dataset, asked.tolist(), ground.place.threads),
        labels[asked],
        [split.dataset.groups[at] for at in asked],
        found.classes,
        agreement.least_of(ground.run.facts["test"], found.renamed),
        np.array(ground.run.facts["test"]["confusion"], np.int64),
    )
    photos = [split.dataset.photos[at] for at in asked]
    return told, [shown(one.path) for one in photos], [one.label for one in photos]


def _trained(ground: _Ground, facts: dict[str, Any], timer: latency.Timer) -> dict[str, Any]:
    """Fine-tune, export and judge a candidate, and serve it if it may be."""
    run, found, place, clock = ground.run, ground.found, ground.place, ground.clock
    key = trial.key(record.going_on(run.recipe), found.split, ground.asked.seed, place)
    trials = ground.folder / "trials" / f"update-{ground.parent}-{key}"
    try:
        with clock.stage("fit"):
            fitted, facts["ways"] = tuning.tuned(
                run,
                found,
                seed=ground.asked.seed,
                place=place,
                folder=trials,
                progress=ground.progress,
            )
        with clock.stage("export"):
            ground.progress("export", 0, 1)
            made = release.exported(fitted, found.split, place)
    except GateRefused as refused:
        facts = _refused(ground, facts, refused.problem, refused.cure)
        shutil.rmtree(trials, ignore_errors=True)
        return facts
    with clock.stage("judge"):
        judged = release.judged(made, found.split, place)
        comparisons = _compared(ground, facts, judged.predictions)
    facts["comparisons"] = [gate.to_json(one) for one in comparisons]
    facts["warnings"] = list(dict.fromkeys(text for one in comparisons for text in one.warnings))
    if ground.run.facts.get("unknown") and not len(found.split.val):
        facts["warnings"].append(_BLIND)
    facts |= _costs(ground.folder, made.model, timer)
    reasons = [text for one in comparisons for text in one.reasons]
    if reasons:
        facts = _refused(
            ground,
            facts,
            f"the new model is worse: {'; '.join(dict.fromkeys(reasons))}",
            "look at the answers that got wrong and at the new labels; more new data may help",
        )
        shutil.rmtree(trials, ignore_errors=True)
        return facts
    try:
        facts = _accepted(ground, facts, fitted, (made, judged))
    except (UsageError, DataError) as error:  # what the answers were asked to be like
        facts = _refused(ground, facts, error.problem, error.cure)
    shutil.rmtree(trials, ignore_errors=True)
    versions.forget(ground.folder)
    return facts


def _compared(
    ground: _Ground, facts: dict[str, Any], predictions: Predictions
) -> list[gate.Comparison]:
    """Hold the candidate against the running version and the last one signed off."""
    found, dataset = ground.found, ground.found.split.dataset
    row_of = {
        content: at
        for at, (content, role) in enumerate(
            zip(predictions.hashes, predictions.roles, strict=True)
        )
        if role == "test"
    }

    def of_candidate(pictures: Int64[np.ndarray, "some"]) -> Float64[np.ndarray, "some classes"]:
        rows = [row_of[dataset.hashes[at]] for at in pictures]
        return predictions.probabilities[rows]

    signed = versions.baseline(ground.folder, ground.parent)
    references = {ground.parent: found.old_test}
    if signed != ground.parent:
        references[signed] = _test_of(swap.folder_of(ground.folder, signed), found)
    comparisons = []
    for number, pictures in references.items():
        if not len(pictures):
            continue
        hashes = [dataset.hashes[at] for at in pictures]
        path = swap.folder_of(ground.folder, number) / "predictions.csv"
        theirs = recorded(path, "test", hashes)
        ours = of_candidate(pictures)
        labels = dataset.labels[pictures]
        was, now = theirs.argmax(axis=1) == labels, ours.argmax(axis=1) == labels
        groups = [dataset.groups[at] for at in pictures]
        running = number == ground.parent
        name = f"version {number}, {'which runs' if running else 'the last one signed off'}"
        comparisons.append(
            gate.compared(
                name, was, now, labels, groups, dataset.classes, ground.run.recipe.objective
            )
        )
        if running:
            facts |= {
                "negative_flips": comparisons[-1].counts.only_first,
                "flips": _flips(found, pictures, was & ~now, ours),
                "before": _scores(theirs, labels, groups, dataset.classes),
                "after": _scores(ours, labels, groups, dataset.classes),
            }
    return comparisons


def _test_of(folder: Path, found: Incoming) -> Int64[np.ndarray, "some"]:
    """Return the test pictures that a version had, as far as they are test still."""
    rows = datasets.read_manifest(folder / "data.json").rows
    its = {row.hash for row in rows if row.role == "test"}
    hashes = found.split.dataset.hashes
    return np.array([at for at in found.old_test.tolist() if hashes[at] in its], np.int64)


def _scores(
    probabilities: Float64[np.ndarray, "some classes"],
    labels: Int64[np.ndarray, "some"],
    groups: Sequence[str],
    classes: Sequence[str],
) -> dict[str, Any]:
    """Score answers; a class that a model does not know has probability 0."""
    known = np.zeros((len(labels), len(classes)))
    known[:, : probabilities.shape[1]] = probabilities
    known /= known.sum(axis=1, keepdims=True)
    return scoring.flat(scoring.score(known, labels, classes, groups=groups))


def _flips(
    found: Incoming,
    pictures: Int64[np.ndarray, "some"],
    flipped: Bool[np.ndarray, "some"],
    answers: Float64[np.ndarray, "some classes"],
) -> list[dict[str, str]]:
    """Name the pictures that were answered right and are not any more."""
    dataset = found.split.dataset
    return [
        {
            "path": shown(dataset.photos[int(pictures[at])].path),
            "label": dataset.classes[dataset.labels[pictures[at]]],
            "answer": dataset.classes[int(answers[at].argmax())],
        }
        for at in np.flatnonzero(flipped)[:_FLIPS]
    ]


def _costs(folder: Path, model: bytes, timer: latency.Timer) -> dict[str, Any]:
    """Compare size and speed with what runs; both on one thread, interleaved."""
    running = bundles.read_bundle(folder).model
    before, after = (float(np.median(one)) for one in timer([running, model]))
    return {
        "megabytes": {"before": len(running) / 1e6, "after": len(model) / 1e6},
        "latency_ms": {"before": before, "after": after},
    }


def _accepted(
    ground: _Ground,
    facts: dict[str, Any],
    fitted: Any,
    made: tuple[release.Exported, release.Judged],
) -> dict[str, Any]:
    """Write the new version beside the old ones, and serve it."""
    found, folder = ground.found, ground.folder
    before = record.asked(ground.run)
    asked = replace(
        before,
        data=found.source,
        reading=found.reading,
        known=found.manifest,
        wish=_wish(ground),
    )
    facts = _finished(ground, facts, accepted=True)
    facts["version"] = versions.upcoming(folder)

    def make(part: Path) -> dict[str, Any]:
        written = release.release(
            part,
            asked,
            fitted,
            found.split,
            place=ground.place,
            clock=ground.clock,
            progress=ground.progress,
            made=made,
            update=facts,
        )
        told = {name: written[name] for name in ("test", "validation", "bundle", "stages")}
        return facts | told | {"seconds": ground.clock.seconds}

    event = {"data": facts["data"], "new": facts["new"]}
    return versions.renewed(
        folder, ground.parent, event, make, versions.asked("update", ground.asked)
    )


def _refused(ground: _Ground, facts: dict[str, Any], reason: str, cure: str) -> dict[str, Any]:
    """Leave the run as it is; note what was refused, and that test was opened where it was."""
    if not ground.asked.dry_run:
        if facts["after"]:
            datasets.log_opening(ground.folder)
        versions.log(ground.folder, {"event": "refused", "data": facts["data"], "reason": reason})
    if not facts["before"]:
        facts["before"] = scoring_of(ground.run.facts["test"])
    return _finished(ground, facts, reason=reason, cure=cure)


def scoring_of(test: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores of a run's report as flat numbers."""
    names = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "calibration_error")
    return {name: test[name]["value"] for name in names} | {"pictures": test["pictures"]}


def _finished(
    ground: _Ground,
    facts: dict[str, Any],
    *,
    accepted: bool = False,
    reason: str = "",
    cure: str = "",
) -> dict[str, Any]:
    told = {"accepted": accepted, "reason": reason, "cure": cure}
    return facts | told | {"seconds": ground.clock.seconds}
