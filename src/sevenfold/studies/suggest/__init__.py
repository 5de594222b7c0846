"""Suggest which unlabelled pictures to label next, by what a finished model says of them."""

import csv
import io
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float32

from sevenfold import data as datasets
from sevenfold import image, predict, unknown
from sevenfold.answers import Failure, Source, guarded
from sevenfold.cores import usable_cores
from sevenfold.errors import DataError, ResourceError, UsageError
from sevenfold.features.pixels import in_order
from sevenfold.image import shown
from sevenfold.predict import Predictor
from sevenfold.progress import Progress
from sevenfold.studies.suggest import page
from sevenfold.studies.suggest.choosing import By, chosen, uncertainty

__all__ = ["By", "suggest"]

SCHEMA: Final = "sevenfold.suggest/1"
_NAMED: Final = 1_000  # unreadable pictures that the facts name


@dataclass(frozen=True, eq=False, slots=True)
class Seen:
    """Hold what a model says of one picture.

    Args:
        path: absolute, with `/`.
        hash: of its content.
        probabilities: of the classes.
        features: the last feature map's means, of length 1.
    """

    path: str
    hash: str
    probabilities: Float32[np.ndarray, "classes"]
    features: Float32[np.ndarray, "channels"]


def suggest(
    model: Path,
    unlabelled: Path,
    out: Path,
    *,
    count: int,
    by: By,
    column: str = "path",
    threads: int,
    progress: Progress,
) -> dict[str, Any]:
    """Choose the pictures most worth a label; writes suggestions.csv and suggest.html to `out`.

    Needs no torch. Pictures that the run knows by their content, copies among the new ones
    and what cannot be read are left out and counted. A folder that `serve --collect` wrote is
    read where nobody has labelled it.

    Args:
        model: a run, or a bundle; a bundle does not know which pictures it was trained on.
        unlabelled: a picture, a folder in depth, or a CSV with a column `path`.
        out: folder for the list and the page.
        count: of pictures to suggest, at least 1.
        by: how uncertainty is measured.
        column: of a CSV that holds the paths.
        threads: pictures at a time; 0 is one for each core.
        progress: is told how far it is.

    Returns:
        The object of `suggest --json`.

    Raises:
        UsageError: a place cannot be used.
        ModelError: the model is damaged.
        DataError: there is no picture to suggest.
    """
    began = time.perf_counter()
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {shown(str(out))} is a file", "name a folder")
    datasets.refuse_among(str(_source(unlabelled)), out)
    predictor = predict.load(model, threads=1)
    known = {row.hash for row in datasets.known(model).rows}
    sources = list(predict.sources([_source(unlabelled)], parts=False, column=column))
    found, failures = _look(predictor, sources, threads, progress)
    new: dict[str, Seen] = {}
    for one in found:
        if one.hash not in known:
            new.setdefault(one.hash, one)
    of_known = sum(one.hash in known for one in found)
    if not new:
        raise _nothing(unlabelled, len(sources), of_known, failures)
    some = list(new.values())
    probabilities = np.stack([one.probabilities for one in some])
    unsure = uncertainty(probabilities, by)
    best = chosen(unsure, [one.features for one in some], count)
    suggestions = [
        {
            "path": some[at].path,
            "answer": predictor.classes[int(probabilities[at].argmax())],
            "probability": float(probabilities[at].max()),
            by: float(unsure[at]),
        }
        for at in best.tolist()
    ]
    facts: dict[str, Any] = {
        "schema": SCHEMA,
        "model": str(model),
        "by": by,
        "classes": list(predictor.classes),
        "looked_at": len(sources),
        "known": of_known,
        "copies": len(found) - of_known - len(new),
        "unreadable": [{"path": one.path, "reason": one.reason} for one in failures[:_NAMED]],
        "unreadable_count": len(failures),
        "pictures": [one["path"] for one in suggestions],
        "suggestions": suggestions,
        "list": str(out / "suggestions.csv"),
        "page": str(out / "suggest.html"),
    }
    _write(out, facts, by)
    return facts | {"seconds": time.perf_counter() - began}


def _source(unlabelled: Path) -> Path:
    """Return where the pictures without a label lie: inside what `serve --collect` wrote."""
    inside = unlabelled / "unlabelled"
    return inside if inside.is_dir() and (unlabelled / "answers.csv").is_file() else unlabelled


def _look(
    predictor: Predictor, sources: Sequence[Source], threads: int, progress: Progress
) -> tuple[list[Seen], list[Failure]]:
    """Show the model every picture once."""
    workers = threads or usable_cores()
    found: list[Seen] = []
    failures: list[Failure] = []
    progress("look", 0, len(sources))
    for done, one in enumerate(in_order(partial(_seen, predictor), sources, workers), 1):
        (found if isinstance(one, Seen) else failures).append(one)  # type: ignore[arg-type]
        progress("look", done, len(sources))
    return found, failures


def _seen(predictor: Predictor, source: Source) -> Seen | Failure:
    """Decode one picture and run the graph once for answer and features."""
    path, read = source
    try:
        data = read()
        content = image.fingerprint(data, name=path)[0].hash
        pixels = image.decode(data, name=path)
        shares, maps = predictor.run(("probabilities", "features"), pixels[None])
    except Exception as error:  # one picture must not cost the answers of all others
        return predict.failed(path, error)
    absolute = Path(path).resolve().as_posix()
    if not image.has_plain_name(absolute) or not os.path.exists(absolute):
        return Failure(path, "its name cannot be written into a table")
    if not (np.isfinite(shares).all() and np.isfinite(maps).all()):
        return Failure(path, "the model's answer is not finite")
    pooled = unknown.pooled(maps[0]).astype(np.float32)
    return Seen(absolute, content, shares[0], pooled / max(float(np.linalg.norm(pooled)), 1e-6))


def _nothing(unlabelled: Path, looked_at: int, known: int, failures: list[Failure]) -> DataError:
    name = shown(str(unlabelled))
    if not looked_at:
        return DataError(f"{name} holds no pictures", "name a folder of pictures without labels")
    if known:
        return DataError(
            f"{name}: all of the {known:,} pictures that can be read are in the run's data already",
            "name pictures that the run has not seen",
        )
    first = failures[0]
    return DataError(
        f"{name}: none of {looked_at:,} pictures can be read; {shown(first.path)}: {first.reason}",
        "give JPEG, PNG, WEBP, BMP, GIF or TIFF pictures",
    )


def _write(out: Path, facts: dict[str, Any], by: By) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("path", "answer", "probability", by))
    writer.writerows(_rows(facts, by))
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "suggestions.csv").write_text(text.getvalue(), encoding="utf-8", newline="")
        (out / "suggest.html").write_text(page.render(facts), encoding="utf-8", newline="\n")
    except OSError as error:
        raise ResourceError(
            f"--out {shown(str(out))} cannot be written to: {error.strerror or error}",
            "choose another folder",
        ) from error


def _rows(facts: dict[str, Any], by: By) -> Iterator[tuple[str, ...]]:
    for one in facts["suggestions"]:
        shares = f"{one['probability']:.6f}", f"{one[by]:.6f}"
        yield guarded(one["path"]), guarded(one["answer"]), *shares
