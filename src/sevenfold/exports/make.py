"""Export a finished run: make the files, hold them against its model, write them."""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from jaxtyping import UInt8

from sevenfold import export as graphs
from sevenfold import image, latency, report, runs
from sevenfold.bundles import SELFTEST, SUMS, Bundle, read_whole
from sevenfold.errors import GateRefused, UsageError
from sevenfold.exports import folder, html, int8, judge, litert, outputs, timm_hub, verify, vote
from sevenfold.features.trunk import session
from sevenfold.predictions import recorded
from sevenfold.progress import Progress
from sevenfold.runs import Run

FORMATS: Final = ("onnx", "int8", "litert", "html", "timm", "vote")
LARGEST_DIFFERENCE: Final = {"onnx": 1e-4, "litert": 1e-3, "html": 2e-2, "timm": 1e-4, "vote": 1e-4}
"""By how much a probability may differ from the model's; int8 is judged by its accuracy."""
TIES: Final = {"onnx": 1e-4, "litert": 2e-3, "html": 2e-2, "timm": 1e-4}
PAGE: Final = "classifier.html"


@final
@dataclass(frozen=True, slots=True)
class Asked:
    """Hold what was asked for.

    Args:
        to: one of `FORMATS`.
        processor: that int8 is made for; "" is this one.
        for_size: take int8 for its size, however fast it is.
        max_drop: in accuracy that int8 must be proven to keep within, 0 to 1.
        latency_table: that says how fast int8 is on another machine, or "".
        replace: an export that is there.
    """

    to: str
    processor: str = ""
    for_size: bool = False
    max_drop: float = 0.02
    latency_table: str = ""
    replace: bool = False


def export(
    run: Path,
    request: Asked,
    *,
    out: Path,
    data: str,
    threads: int,
    progress: Progress,
    timer: latency.Timer = latency.timed,
) -> dict[str, Any]:
    """Make an export of a finished run and write its folder.

    Reads the run's pictures: validation to verify, training to calibrate int8.

    Args:
        run: its folder.
        request: what was asked for.
        out: the folder to write.
        data: where the run's pictures are now, or "" for where they were.
        threads: pictures at a time.
        progress: is told what is under way.
        timer: times models; see `latency.timed`.

    Returns:
        The object of `export --json`, schema "sevenfold.export/1".

    Raises:
        UsageError: the run cannot be exported so, or there is something at `out`.
        GateRefused: the file answers differently, or is no better.
        ResourceError: a library is missing.
    """
    check(request)
    folder.check(out, replace=request.replace)
    opened = runs.reopened(run, data=data, threads=threads, progress=progress)
    bundle, files = read_whole(run)
    progress("export", 0, 1)
    made = _MAKERS[request.to](_Source(opened, bundle, files, threads, timer), request)
    folder.written(out, made.files)
    progress("export", 1, 1)
    return {
        "schema": "sevenfold.export/1",
        "to": request.to,
        "out": str(out),
        "files": sorted([*made.files, SUMS]),
        "megabytes": sum(map(len, made.files.values())) / 1e6,
        "model_megabytes": len(bundle.model) / 1e6,
        **made.told,
    }


def check(request: Asked) -> None:
    """Refuse settings that would do nothing.

    Raises:
        UsageError: as said.
    """
    alone = {
        "--for": bool(request.processor),
        "--for-size": request.for_size,
        "--latency-table": bool(request.latency_table),
    }
    useless = [name for name, given in alone.items() if given]
    if request.to != "int8" and useless:
        raise UsageError(
            f"{useless[0]} does nothing with --to {request.to}", "leave it out, or use --to int8"
        )


@final
@dataclass(frozen=True, eq=False, slots=True)
class _Source:
    """Hold what is exported, and how."""

    run: Run
    bundle: Bundle
    files: Mapping[str, bytes]
    threads: int
    timer: latency.Timer

    def facts(self, found: graphs.Agreement, role: str) -> dict[str, Any]:
        return {"agreement": asdict(found) | {"role": role}}


@final
@dataclass(frozen=True, eq=False, slots=True)
class _Made:
    """Hold files by name and what is told of them."""

    files: Mapping[str, bytes]
    told: Mapping[str, Any]


def _onnx(source: _Source, request: Asked) -> _Made:
    """Copy the bundle, once it gives the answers that the run wrote down."""
    split, bundle, files = source.run.split, source.bundle, source.files
    chosen = split.val.tolist()
    if not chosen:  # what is written down of training pictures is the folds', not the model's
        if SELFTEST not in files:
            return _Made(files, {"agreement": {"pictures": 0, "role": "validation"}})
        ours, theirs = (
            np.array([json.loads(told)["probabilities"]])
            for told in (graphs.selftest(bundle.model), files[SELFTEST])
        )
        found = graphs.agreement(ours, theirs, tie=TIES["onnx"])
        verify.demand(found, what="the bundle", largest=LARGEST_DIFFERENCE["onnx"])
        return _Made(files, source.facts(found, "made-up"))
    hashes = [split.dataset.hashes[at] for at in chosen]
    theirs = recorded(source.run.folder / "predictions.csv", "val", hashes)
    ours = graphs.answers(bundle.model, split.dataset, chosen, source.threads)
    found = graphs.agreement(ours, theirs, tie=TIES["onnx"])
    verify.demand(found, what="the bundle", largest=LARGEST_DIFFERENCE["onnx"])
    return _Made(files, source.facts(found, "validation"))


def _vote(source: _Source, request: Asked) -> _Made:
    """Write all members, their vote and its temperature as a bundle of one file."""
    run, bundle = source.run, source.bundle
    made = vote.of(run, largest=LARGEST_DIFFERENCE["vote"], threads=source.threads)
    chosen = run.split.val.tolist()
    ships = graphs.answers(bundle.model, run.split.dataset, chosen, source.threads)
    found = vote.told(made, ships, run)
    times = latency.steadied([bundle.model, made.model], source.timer).times
    cost = {
        "megabytes": len(made.model) / 1e6,
        "latency_ms": float(np.median(times[1])),
        "machine": latency.machine(),
    }
    found |= {"model_latency_ms": float(np.median(times[0]))}
    card = vote.card(bundle.card, made, found, cost)
    files = {
        "model.onnx": made.model,
        "card.json": _json(card),
        "labels.txt": source.files["labels.txt"],
        "README.md": report.model_card(card).encode(),
        SELFTEST: graphs.selftest(made.model),
    }
    return _Made(files, {**source.facts(made.agreement, "validation"), "vote": {**found, **cost}})


def _html(source: _Source, request: Asked) -> _Made:
    whole = outputs.extended(source.bundle)
    model = html.halved(whole)
    page = html.page(source.bundle, model)
    role, chosen = verify.pictures(source.run.split)
    wanted = ["probabilities", *({outputs.DISTANCE} & {*outputs.names(whole)})]
    ours, theirs = (
        graphs.run(session(one, 1), source.run.split.dataset, chosen, wanted, source.threads)
        for one in (model, whole)
    )
    found = graphs.agreement(ours[0], theirs[0], tie=TIES["html"])
    verify.demand(found, what="the page's model", largest=LARGEST_DIFFERENCE["html"])
    told = source.facts(found, role)
    if len(wanted) > 1:
        marks = verify.marks(ours[1], theirs[1], source.bundle.detector.threshold)
        verify.demand_marks(marks, what="the page's model")
        told["unlike"] = asdict(marks)
    return _Made({PAGE: page.encode()}, told)


def _refuse_vote(run: Run) -> None:
    if run.facts.get("ensembling", {}).get("ships") == "vote":
        raise UsageError(
            f"{run.folder} ships the vote of {len(run.members)} networks, and one is converted",
            f"run `sevenfold distill {run.folder}` first"
            if len(run.split.val)
            else "train with --set ensembling.distil=true",
        )


def _timm(source: _Source, request: Asked) -> _Made:
    """Write what timm loads by itself, and load it to hold it against the bundle."""
    run, bundle = source.run, source.bundle
    _refuse_vote(run)
    if run.recipe.ensembling.mirror:
        raise UsageError(
            f"{run.folder} averages each picture with its mirror image, which timm does not",
            "use --to onnx, or train with --set ensembling.mirror=false",
        )
    temperature = float(bundle.card["temperature"])
    model = timm_hub.as_timm(run.network, run.built.backbone, bundle.size, temperature)
    files = timm_hub.files(model, bundle.size, bundle.classes)
    role, chosen = verify.pictures(run.split)
    theirs = graphs.answers(bundle.model, run.split.dataset, chosen, source.threads)
    answered = timm_hub.answers(files, bundle.size, run.split, chosen, source.threads)
    found = graphs.agreement(answered.same, theirs, tie=TIES["timm"])
    verify.demand(found, what="timm's network", largest=LARGEST_DIFFERENCE["timm"])
    timm_hub.demand(answered)
    through = graphs.agreement(answered.own, theirs, tie=TIES["timm"])
    told = source.facts(found, role)
    card = {**bundle.card, "timm": told["agreement"] | {"transform": asdict(through)}}
    page = timm_hub.page(card, found, through, role)
    return _Made({**files, "card.json": _json(card), "README.md": page.encode()}, told)


def _litert(source: _Source, request: Asked) -> _Made:
    run, bundle = source.run, source.bundle
    _refuse_vote(run)
    shipped = graphs.Shipped(run.network, run.recipe.ensembling.mirror).eval()
    model = litert.converted(shipped, bundle.size, float(bundle.card["temperature"]))
    role, chosen = verify.pictures(run.split)
    opened, theirs = session(bundle.model, 1), []

    def squares() -> Iterator[UInt8[np.ndarray, "side side 3"]]:
        for at in chosen:  # one by one: together they may be more than memory holds
            square = image.resize(run.split.dataset.decode(at), bundle.size)
            theirs.append(opened.run(["probabilities"], {"image": square[np.newaxis]})[0])
            yield square

    ours = litert.answers(model, squares())
    found = graphs.agreement(ours, np.concatenate(theirs), tie=TIES["litert"])
    verify.demand(found, what="the LiteRT file", largest=LARGEST_DIFFERENCE["litert"])
    told = source.facts(found, role)
    labels = "".join(f"{label}\n" for label in bundle.classes)
    card = {**bundle.card, "litert": told["agreement"]}
    files = {
        "model.tflite": model,
        "card.json": _json(card),
        "labels.txt": labels.encode(),
        "resize.kt": litert.kotlin(bundle.size).encode(),
        "README.md": _litert_page(bundle, found, role).encode(),
    }
    return _Made(files, told)


def _litert_page(bundle: Bundle, found: graphs.Agreement, role: str) -> str:
    side = bundle.size
    return f"""# A LiteRT model

`model.tflite` takes one picture, float32 `[1, {side}, {side}, 3]`, red, green and blue from 0 to
255, and gives the calibrated probability of each class, in the order of `labels.txt`.

The picture is the whole upright photo resized to {side} by {side} by the host: by Pillow's
bilinear filter (`Image.resize` with `Resampling.BILINEAR`), or by `resize.kt` on Android. A
resize that leaves out pixels where it shrinks gives other answers.

Held against `model.onnx` in LiteRT's own runtime on {found.pictures} resized {role} pictures:
same answer on {found.top1:.2%}, probabilities at most {found.largest_difference:.1e} apart.
`card.json` is that of the model: its scores were measured through `model.onnx`.
{report.answer_rule(bundle.card)}
"""


def _int8(source: _Source, request: Asked) -> _Made:
    run, bundle = source.run, source.bundle
    split, processor = run.split, request.processor or int8.here()
    if "quantisation" in bundle.card:
        raise UsageError(f"{run.folder} is int8 already", "export the run that it was made from")
    picked = _spread(split.train.tolist(), split.dataset.hashes)
    pictures = (split.dataset.decode(at) for at in picked)
    model = int8.quantised(bundle.model, pictures, processor)
    if request.for_size and len(model) >= len(bundle.model):
        raise GateRefused(
            f"int8 is refused: it has {len(model) / 1e6:.2f} MB, and the float model "
            f"{len(bundle.model) / 1e6:.2f}",
            "keep the float model: --to onnx",
        )
    accuracy = judge.accuracy(bundle.model, model, split, source.threads)
    speed = judge.speed(bundle.model, model, processor, request.latency_table, source.timer)
    reason = judge.verdict(accuracy, speed, request.max_drop, for_size=request.for_size)
    if reason.refused:
        raise GateRefused(f"int8 is refused: {reason.text}", reason.cure)
    told = {
        "processor": processor,
        **asdict(int8.PROCESSORS[processor]),
        "calibration_pictures": len(picked),
        "accepted_for": "size" if request.for_size else "speed",
        "reason": reason.text,
        "max_drop": request.max_drop,
        **judge.facts(accuracy, speed),
    }
    card = _int8_card(bundle.card, model, told)
    readme = report.model_card(card) + judge.page(told)
    # The stored picture's answer is the float model's.
    kept = {name: held for name, held in source.files.items() if name != SELFTEST}
    remade = {"model.onnx": model, "card.json": _json(card), "README.md": readme.encode()}
    return _Made(kept | remade, {"quantisation": told})


def _spread(pictures: list[int], hashes: tuple[str, ...]) -> list[int]:
    """Choose the calibration's pictures by their content, so that the same ones are chosen."""
    ordered = sorted(pictures, key=lambda at: hashes[at])
    return list(itertools.islice(ordered, int8.CALIBRATION_PICTURES))


def _int8_card(card: Mapping[str, Any], model: bytes, told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the card without what was measured on the float model alone."""
    measured = ("scores", "latency_ms", "network_latency_ms", "machine")
    kept = {key: value for key, value in card.items() if key not in measured}
    for part in {"operating_point", "unknown"} & set(kept):
        kept[part] = {
            name: value for name, value in kept[part].items() if name not in ("validation", "test")
        }
    speed = {key: told[key] for key in ("latency_ms", "machine") if told.get(key)}
    return {**kept, **speed, "megabytes": len(model) / 1e6, "quantisation": dict(told)}


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode()


_MAKERS: Final = {
    "onnx": _onnx, "int8": _int8, "litert": _litert, "html": _html, "timm": _timm, "vote": _vote,
}  # fmt: skip
