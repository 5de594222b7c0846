"""Answer what is in pictures, with a bundle alone: no torch, in constant memory.

Example:
    predictor = load(Path("RUN"))
    for outcome in predict(predictor, sources(["photos"])):
        print(outcome)
"""

import csv
import io
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float32, Float64, Shaped, UInt8
from PIL import Image

from sevenfold import drift, image, maps, operating, unknown
from sevenfold.answers import Answer, Failure, Source, bare
from sevenfold.bundles import Bundle, open_session, read_bundle
from sevenfold.errors import DataError, ModelError, ResourceError, SevenfoldError, UsageError


@final
@dataclass(frozen=True, eq=False, slots=True)
class Seen:
    """Hold what the model says of one picture.

    Args:
        answer: the class that the operating point answers, as an index.
        sure: False below its threshold: *not sure*.
        unlike: whether the picture is unlike anything trained on.
        distance: how far it is from training; NaN where the bundle knows no distance.
        shares: the calibrated probabilities.
        features: the last feature map.
    """

    answer: int
    sure: bool
    unlike: bool
    distance: float
    shares: Float32[np.ndarray, " classes"]
    features: Float32[np.ndarray, "..."]


@final
@dataclass(frozen=True, eq=False, slots=True)
class Predictor:
    """Hold a model that is ready to answer; any number of threads may share it.

    Args:
        bundle: what was read.
        threads: inside one call of the graph; 0 is one for each core.
        session: onnxruntime's.
    """

    bundle: Bundle = field(repr=False)
    threads: int
    session: Any = field(repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """Name the classes, in the order of the probabilities."""
        return self.bundle.classes

    @property
    def size(self) -> int:
        """Give the side to which the graph resizes a picture, in pixels."""
        return self.bundle.size

    @property
    def card(self) -> Mapping[str, Any]:
        """Give all that `card.json` says."""
        return self.bundle.card

    def probabilities(self, pixels: Shaped[np.ndarray, "..."]) -> Float32[np.ndarray, " classes"]:
        """Compute the calibrated probabilities of one upright RGB picture of any size.

        Args:
            pixels: uint8, `[height, width, 3]`.

        Raises:
            DataError: they are something else.
        """
        return self._asked(("probabilities",), pixels)[0]

    def logits(self, pixels: Shaped[np.ndarray, "..."]) -> Float32[np.ndarray, " classes"]:
        """Compute the logits whose softmax is `probabilities`."""
        return self._asked(("logits",), pixels)[0]

    def features(
        self, pixels: Shaped[np.ndarray, "..."]
    ) -> Float32[np.ndarray, "channels rows columns"]:
        """Compute the last feature map."""
        return self._asked(("features",), pixels)[0]

    def see(self, pixels: UInt8[np.ndarray, "height width 3"]) -> Seen:
        """Answer one upright RGB picture of any size at the bundle's operating point."""
        shares, features = self._asked(("probabilities", "features"), pixels)
        answers, sure = operating.decide(self.bundle.point, shares[None])
        detector, distance = self.bundle.detector, math.nan
        if detector.score != "none":
            distance = float(unknown.distances(detector, unknown.pooled(features)[None])[0])
        unlike = distance > detector.threshold
        return Seen(int(answers[0]), bool(sure[0]), unlike, distance, shares, features)

    def answer(self, data: bytes, path: str) -> Answer:
        """Decode the bytes of a picture and answer.

        Args:
            data: a JPEG, PNG or another format that `image.decode` lets through.
            path: what the answer and messages call the picture.

        Raises:
            ImageRejected: the picture cannot be used.
        """
        return self._told(self.see(image.decode(data, name=path)), path)

    def explain(self, data: bytes, path: str, folder: Path) -> Answer:
        """Answer, and write a PNG of the picture with the map of the evidence over it.

        Args:
            data: as for `answer`.
            path: likewise.
            folder: that exists; the name of the file is `maps.file_name`.

        Raises:
            ImageRejected: the picture cannot be used.
            UsageError: this model has no such map.
            ResourceError: the PNG cannot be written.
        """
        check_maps(self)
        pixels = image.decode(data, name=path)
        seen = self.see(pixels)
        evidence = self.evidence(seen)
        file = folder / maps.file_name(path, self.classes[seen.answer])
        try:
            Image.fromarray(maps.overlay(pixels, evidence)).save(file)
        except OSError as error:
            raise ResourceError(
                f"cannot write {image.shown(str(file))}: {error.strerror or error}",
                "name another folder with --explain, or make room there",
            ) from error
        return replace(self._told(seen, path), map=str(file))

    def evidence(self, seen: Seen) -> Float64[np.ndarray, "rows columns"]:
        """Return where the evidence for an answer lies, of a model that `has_maps`."""
        return maps.class_map(seen.features, self.bundle.detector.weight[seen.answer])

    def run(
        self, outputs: Sequence[str], batch: UInt8[np.ndarray, "batch height width 3"]
    ) -> list[Float32[np.ndarray, "batch ..."]]:
        """Run the graph over pictures of one size.

        Raises:
            ModelError: it cannot, though it could be opened.
        """
        try:
            return [np.asarray(one) for one in self.session.run(outputs, {"image": batch})]
        except Exception as error:  # onnxruntime's errors have no common class
            raise ModelError(
                f"{image.shown(str(self.bundle.folder / 'model.onnx'))} cannot run: "
                f"{image.shown(str(error))[:300]}",
                "copy the bundle again, or train again",
            ) from error

    def _told(self, seen: Seen, path: str) -> Answer:
        return Answer(
            path,
            self.classes[seen.answer],
            float(seen.shares[seen.answer]),
            tuple(seen.shares.tolist()),
            seen.sure,
            seen.unlike,
            seen.distance,
            model=self.bundle.digest,
        )

    def _asked(
        self, outputs: tuple[str, ...], pixels: Shaped[np.ndarray, "..."]
    ) -> list[Float32[np.ndarray, "..."]]:
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise DataError(
                f"{pixels.dtype} {pixels.shape} is not a picture",
                "give uint8 pixels of [height, width, 3]",
            )
        found = [one[0] for one in self.run(outputs, pixels[None])]
        for name, one in zip(outputs, found, strict=True):
            if not np.isfinite(one).all():
                raise ModelError(
                    f"{self.bundle.folder / 'model.onnx'} gives {name} that are not finite",
                    "train again",
                )
        return found


def load(path: Path, *, threads: int = 0) -> Predictor:
    """Open a run or a bundle; every file's hash is checked before the graph is opened.

    Args:
        path: a RUN, or a copy of the `bundle` folder in it.
        threads: inside one call of the graph; 0 is one for each core.

    Raises:
        UsageError: there is no such folder.
        ModelError: a file is missing, damaged, foreign or of a newer version.
    """
    bundle = read_bundle(Path(path))
    return Predictor(bundle, threads, open_session(bundle, threads))


def has_maps(predictor: Predictor) -> bool:
    """Tell whether maps explain a model's answers."""
    features = {one.name: one.shape for one in predictor.session.get_outputs()}["features"]
    return maps.known(predictor.card, predictor.bundle.detector.weight, len(features))


def check_maps(predictor: Predictor) -> None:
    """Refuse a model whose answers no map explains.

    Raises:
        UsageError: its head is not linear on the mean of its last feature map, or several
            networks vote.
    """
    if has_maps(predictor):
        return
    if predictor.card.get("ships") == "vote":
        raise UsageError(
            "there is no map of this model's evidence: several networks vote, and each has its own",
            "run `sevenfold distill RUN` first, and explain its one network",
        )
    raise UsageError(
        "there is no map of this model's evidence: the bundle holds no head that is linear "
        "on the mean of its last feature map",
        "train with a convolutional backbone, such as the default one, and this version",
    )


def predict(
    predictor: Predictor,
    pictures: Iterable[Source],
    *,
    threads: int = 0,
    explain: Path | None = None,
    tally: drift.Tally | None = None,
) -> Iterator[Answer | Failure]:
    """Answer a stream of pictures in order; one that fails gives a `Failure`.

    A few pictures for each thread are in memory at a time, however many come.

    Args:
        predictor: from `load`.
        pictures: from `sources`, or pairs of a path and a function that reads the bytes.
        threads: pictures at a time; 0 is one for each core.
        explain: folder for pictures with the map of the evidence over them; it must exist.
        tally: counts the answers, where there is one.

    Raises:
        UsageError: maps are asked for, and the model has none.
        ResourceError: a map cannot be written.
    """
    if explain:
        check_maps(predictor)
    workers = threads or os.cpu_count() or 1
    if workers > 1 and predictor.threads != 1:
        # Pictures side by side use all cores already.
        session = open_session(predictor.bundle, 1)
        predictor = replace(predictor, threads=1, session=session)
    window: deque[Future[Answer | Failure]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for source in pictures:
            window.append(pool.submit(_outcome, predictor, source, explain))
            if len(window) > 2 * workers:
                yield _counted(window.popleft().result(), tally)
        while window:
            yield _counted(window.popleft().result(), tally)
    finally:
        pool.shutdown(cancel_futures=True)


def sources(
    arguments: Iterable[str | Path], *, parts: bool = True, column: str = "path"
) -> Iterator[Source]:
    """List pictures lazily: files, folders in depth, and CSV files with a column of paths.

    Folders are sorted by name; hidden files and what systems leave behind are
    skipped. Paths in a CSV are relative to its folder; of a row with a box that part is
    answered, by the name `PATH#x,y,w,h`.

    Args:
        arguments: files, folders and tables.
        parts: whether rows may have boxes.
        column: of a CSV that holds the paths.

    Raises:
        UsageError: an argument does not exist.
        DataError: a CSV cannot be read or has no such column, or names a part of a picture
            where that may not be.
    """
    paths = [Path(argument) for argument in arguments]
    for path in paths:
        if not os.path.exists(path):
            raise UsageError(
                f"{image.shown(str(path))}: no such file or folder",
                "give pictures, folders of pictures or CSV files with a column `path`",
            )
        if _is_table(path):
            next(_in_csv(path, parts, column), None)  # whether it can be read is said at once
    return (source for path in paths for source in _expanded(path, parts, column))


def _counted(outcome: Answer | Failure, tally: drift.Tally | None) -> Answer | Failure:
    if tally is not None and isinstance(outcome, Answer):
        tally.add(outcome.label, outcome.distance, outcome.unlike, outcome.path)
    return outcome


def _outcome(predictor: Predictor, source: Source, explain: Path | None) -> Answer | Failure:
    path, read = source
    try:
        if explain:
            return predictor.explain(read(), path, explain)
        return predictor.answer(read(), path)
    except ResourceError:  # no other picture could be written either
        raise
    except Exception as error:  # one picture must not cost the answers of all others
        return failed(path, error)


def failed(path: str, error: Exception) -> Failure:
    """Say in one line why a picture has no answer."""
    if isinstance(error, SevenfoldError):
        reason = error.problem.removeprefix(f"{image.shown(path)}: ")
        return Failure(path, reason, of_model=isinstance(error, ModelError))
    if isinstance(error, OSError):
        return Failure(path, error.strerror or str(error))
    return Failure(path, f"{type(error).__name__}: {error}")


def _expanded(path: Path, parts: bool, column: str) -> Iterator[Source]:
    if path.is_dir():
        yield from _in_folder(str(path), frozenset())
    elif _is_table(path):
        yield from _in_csv(path, parts, column)
    else:
        yield _file(str(path))


def _is_table(path: Path) -> bool:
    return path.suffix.lower() == ".csv" and path.is_file()


def _in_folder(folder: str, above: frozenset[str]) -> Iterator[Source]:
    real = os.path.realpath(folder)
    if real in above:  # a link back to a folder that we are in
        return
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, _is_folder(entry)) for entry in entries)
    except OSError as error:
        yield _failing(folder, error)
        return
    for name, is_folder in found:
        if image.is_leftover(name):
            continue
        path = os.path.join(folder, name)
        if is_folder:
            yield from _in_folder(path, above | {real})
        else:
            yield _file(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # DirEntry.is_dir raises on a link to itself, or into a folder that may not be entered.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _in_csv(path: Path, parts: bool, column: str) -> Iterator[Source]:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = csv.DictReader(file)
            if column not in (rows.fieldnames or ()):
                raise DataError(
                    f"{image.shown(str(path))} has no column `{image.shown(column)}`",
                    "say which column holds the paths of the pictures: --columns path=NAME",
                )
            for row in rows:
                yield _in_row(path, rows.line_num, row, parts, column)
    except (OSError, csv.Error) as error:
        raise DataError(
            f"cannot read {image.shown(str(path))}: {error}", "give a CSV file in UTF-8"
        ) from error


def _in_row(table: Path, line: int, row: Mapping[str, Any], parts: bool, column: str) -> Source:
    cells = {name: row[name] or "" for name in row if name}
    if not (cell := bare(cells[column])):
        return _failing(f"{table}, line {line}", OSError("there is no path in this row"))
    try:
        box = image.box_of(cells)
    except ValueError as error:
        told = f"the box `{image.shown(str(error))}` is not within the picture"
        return _failing(f"{table}, line {line}", OSError(told))
    path = str(table.parent / cell)
    if box == image.WHOLE:
        return _file(path)
    if not parts:
        raise DataError(
            f"{image.shown(str(table))}, line {line}, names a part of a picture",
            "name whole pictures, or cut the parts out",
        )
    return image.part_name(_named(path), box), partial(_part, path, box)


def _part(path: str, box: image.Box) -> bytes:
    """Cut out a part, as training did, and keep every pixel of it."""
    held = io.BytesIO()
    pixels = image.crop(image.decode(_read(path), name=_named(path)), box)
    Image.fromarray(pixels).save(held, "PNG", compress_level=1)
    return held.getvalue()


def _file(path: str) -> Source:
    return _named(path), partial(_read, path)


def _read(path: str) -> bytes:
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would never end
        raise OSError("not a file")
    if os.path.getsize(path) > image.LARGEST_FILE:
        raise OSError(f"larger than {image.LARGEST_FILE:,} bytes")
    return Path(path).read_bytes()


def _failing(path: str, error: OSError) -> Source:
    def read() -> bytes:
        raise error

    return _named(path), read


def _named(path: str) -> str:
    # A name that is not text in any encoding is still written to CSV and JSON.
    return path.encode("utf-8", "backslashreplace").decode("utf-8")
