"""Open a bundle: check every file before any of it is used.

A bundle is a folder with `model.onnx`, `card.json`, `labels.txt`, `README.md`
and `SHA256SUMS`, which names the others. Nothing outside that list is read. A newer one
also has `features.safetensors`, what the last features are held against, and
`selftest.json`, a picture with its answer.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from sevenfold import drift, operating, swap, tensors, unknown
from sevenfold.errors import ModelError, UsageError
from sevenfold.image import shown

CARD = "sevenfold.card"
CARD_VERSION = 1
SUMS = "SHA256SUMS"
NEEDED = ("model.onnx", "card.json", "labels.txt")
SELFTEST = "selftest.json"
FEATURES = "features.safetensors"
"""Float32 rows, one for each class: `head.weight` and `head.bias` of a head that is linear
on the mean of the last feature map, and `centroids` of the classes' means."""
INPUT = ("image", "tensor(uint8)", 4)
OUTPUTS = ("probabilities", "logits", "features")

_MEND = "copy the bundle again, or train again"
_SUM = re.compile(r"([0-9a-fA-F]{64})[ ][ *]([^/\\:\0]{1,200})")
_LARGEST = 2**31  # bytes: no protobuf holds more
_LARGEST_TEXT = 2**26
_TEXTS = (SUMS, SELFTEST, "card.json", "labels.txt")
_HOTTEST = 1e9


@dataclass(frozen=True, eq=False, slots=True)
class Bundle:
    """Hold a bundle whose files match their hashes.

    Args:
        folder: where it lies, for messages.
        classes: the labels, in the order of the graph's outputs.
        size: the side to which the graph resizes a picture, in pixels.
        card: all of `card.json`.
        model: the bytes of `model.onnx`.
        point: how probabilities become an answer.
        detector: what is unlike anything trained on.
        reference: what many answers are held against.
        selftest: the bytes of `selftest.json`; empty where there is none.
        digest: 8 hex digits that name all its files; "" where it was made in memory.
    """

    folder: Path
    classes: tuple[str, ...]
    size: int
    card: Mapping[str, Any]
    model: bytes
    point: operating.Operating
    detector: unknown.Detector
    reference: drift.Reference
    selftest: bytes = b""
    digest: str = ""


def read_bundle(path: Path) -> Bundle:
    """Read a bundle, or that of a run.

    Raises:
        UsageError: there is no such folder.
        ModelError: a file is missing, damaged, or of a newer version; it is named.
    """
    return _current(path, whole=False)[0]


def read_whole(path: Path) -> tuple[Bundle, dict[str, bytes]]:
    """Read a bundle as `read_bundle` does, with the bytes of every file that `SHA256SUMS` names.

    They are those that were hashed, so that none is of another version than the rest.
    """
    return _current(path, whole=True)


def read_sums(folder: Path) -> dict[str, str]:
    """Read from `SHA256SUMS` which files a folder holds, and their hashes.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    return _named(folder / SUMS, _sums(folder))


def summed(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return files with `SHA256SUMS`, which names all of them and is written last."""
    lines = (f"{hashlib.sha256(held).hexdigest()}  {name}\n" for name, held in files.items())
    return {**files, SUMS: "".join(lines).encode()}


def _current(path: Path, *, whole: bool) -> tuple[Bundle, dict[str, bytes]]:
    folder = swap.serving(path)
    if not folder.is_dir():
        raise UsageError(
            f"{shown(str(path))} is not a folder",
            "give the run that `sevenfold train` wrote, or the bundle in it",
        )
    try:
        return _read(folder, whole)
    except ModelError:
        if (now := swap.serving(path)) == folder:
            raise
        return _read(now, whole)  # an update was replacing the files that were read


def _read(folder: Path, whole: bool) -> tuple[Bundle, dict[str, bytes]]:
    sums = _sums(folder)
    files = _verified(folder, sums, whole)
    labels = _text(folder / "labels.txt", files["labels.txt"])
    classes = tuple(labels.removesuffix("\n").split("\n"))
    card = _card(folder / "card.json", files["card.json"])
    if card["classes"] != list(classes) or not 2 <= len(set(classes)) == len(classes):
        raise _damaged(folder / "labels.txt", "does not hold the classes of card.json, once each")
    path = folder / "card.json"
    try:
        point = operating.from_card(card, classes)
        reference = drift.from_card(card, classes)
        path = folder / FEATURES
        held = tensors.unpack(files[FEATURES]) if FEATURES in files else {}
        detector = unknown.from_card(card, held, len(classes))
    except ValueError as error:
        raise _damaged(path, shown(str(error))) from error
    model = files["model.onnx"]
    asked = files.get(SELFTEST, b"")
    digest = hashlib.blake2b(sums, digest_size=4).hexdigest()
    size = card["size"]
    bundle = Bundle(folder, classes, size, card, model, point, detector, reference, asked, digest)
    return bundle, files


def held(model: bytes, classes: tuple[str, ...], size: int) -> Bundle:
    """Hold a graph that a program made as a bundle that says nothing but its classes.

    Args:
        model: the graph.
        classes: the labels, in the order of the graph's outputs.
        size: the side to which the graph resizes a picture, in pixels.
    """
    card = {"schema": f"{CARD}/{CARD_VERSION}", "classes": list(classes), "size": size}
    point, reference = operating.from_card(card, classes), drift.from_card(card, classes)
    detector = unknown.from_card(card, {}, len(classes))
    return Bundle(Path(), classes, size, card, model, point, detector, reference)


def open_session(bundle: Bundle, threads: int) -> Any:
    """Start onnxruntime on a bundle's graph, on the processor.

    Args:
        bundle: checked by `read_bundle`.
        threads: inside one call of the graph; 0 is one for each core.

    Raises:
        ModelError: the graph cannot run, or is not one of ours.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is said once, by us
    options.enable_mem_pattern = False  # pictures differ in size
    # A thread that spins while it waits takes a core from those that decode pictures.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Weights outside the file would not be covered by its hash: they are looked for
    # below a file, where nothing can be.
    nowhere = str((bundle.folder / SUMS).resolve() / "nowhere")
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", nowhere
    )
    model = bundle.folder / "model.onnx"
    try:
        session = onnxruntime.InferenceSession(
            bundle.model, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's errors have no common class
        raise _damaged(model, f"cannot run: {shown(str(error))[:300]}") from error
    inputs = [(each.name, each.type, len(each.shape)) for each in session.get_inputs()]
    outputs = {each.name: each for each in session.get_outputs()}
    if inputs != [INPUT] or session.get_inputs()[0].shape[3] != 3:
        raise _damaged(model, f"takes {inputs}, not uint8 `image` of [batch, height, width, 3]")
    if not set(OUTPUTS) <= set(outputs) or any(
        outputs[name].type != "tensor(float)" for name in OUTPUTS
    ):
        raise _damaged(model, f"gives {sorted(outputs)}, not {', '.join(OUTPUTS)} as floats")
    for name in ("probabilities", "logits"):
        if outputs[name].shape[1:] != [len(bundle.classes)]:
            shape = outputs[name].shape
            raise _damaged(model, f"gives {name} {shape} for {len(bundle.classes)} classes")
    shape = outputs["features"].shape
    channels = shape[1] if len(shape) == 4 else shape[-1]
    for rows in (bundle.detector.weight, bundle.detector.centroids):
        if rows.size and isinstance(channels, int) and rows.shape[1] != channels:
            told = f"has rows of {rows.shape[1]} numbers for {channels} features"
            raise _damaged(bundle.folder / FEATURES, told)
    return session


def _verified(folder: Path, sums: bytes, whole: bool) -> dict[str, bytes]:
    # Returns the bytes that were hashed, so that what is used is what was checked.
    named = _named(folder / SUMS, sums)
    files: dict[str, bytes] = {}
    for name in NEEDED:
        if name not in named:
            raise _damaged(folder / SUMS, f"does not name {name}")
    for name, expected in named.items():
        path = _file(folder, name)
        try:
            if whole or name in (*NEEDED, FEATURES, SELFTEST):
                files[name] = path.read_bytes()
                found = hashlib.sha256(files[name]).hexdigest()
            else:
                with path.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _damaged(path, f"cannot be read: {error.strerror}") from error
        if found != expected:
            raise _damaged(path, f"is damaged: its hash is not the one in {SUMS}")
    return files


def _file(folder: Path, name: str) -> Path:
    # A link may lead to a file outside, or to a device that never ends.
    path = folder / name
    try:
        real = path.resolve(strict=True)
        held = real.stat()
    except (OSError, RuntimeError) as error:  # of links in a circle
        reason = getattr(error, "strerror", None) or "its link leads nowhere"
        raise _damaged(path, f"cannot be read: {reason}") from error
    if not stat.S_ISREG(held.st_mode) or not real.is_relative_to(folder.resolve()):
        raise _damaged(path, "is no file of the bundle")
    largest = _LARGEST_TEXT if name in _TEXTS else _LARGEST
    if held.st_size > largest:
        raise _damaged(path, f"has more than {largest:,} bytes")
    return path


def _sums(folder: Path) -> bytes:
    if not os.path.lexists(folder / SUMS):
        raise ModelError(
            f"{shown(str(folder))} is not a bundle: it has no {SUMS}",
            "give the run that `sevenfold train` wrote, or the bundle in it",
        )
    path = _file(folder, SUMS)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _damaged(path, f"cannot be read: {error.strerror}") from error


def _named(path: Path, content: bytes) -> dict[str, str]:
    sums: dict[str, str] = {}
    for line in _text(path, content).splitlines():
        match = _SUM.fullmatch(line)
        if not match or match[2] in (".", "..", *sums):
            raise _damaged(
                path, f"has a line that names no file of the bundle: {shown(line[:100])!r}"
            )
        sums[match[2]] = match[1].lower()
    return sums


def _card(path: Path, data: bytes) -> dict[str, Any]:
    try:
        card = json.loads(_text(path, data))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"is not JSON: {error}") from error
    if not isinstance(card, dict):
        raise _damaged(path, "is not a JSON object")
    schema = card.get("schema")
    match = re.fullmatch(rf"{re.escape(CARD)}/(\d{{1,6}})", str(schema))
    if not match:
        raise _damaged(
            path, f"has the schema {shown(str(schema)[:100])!r}, not {CARD}/{CARD_VERSION}"
        )
    if int(match[1]) > CARD_VERSION:
        raise ModelError(
            f"{shown(str(path))} has the schema {schema}, which this version cannot read",
            "install a newer version of Sevenfold",
        )
    classes, size = card.get("classes"), card.get("size")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise _damaged(path, "does not list its classes as texts")
    if type(size) is not int or size < 1:
        raise _damaged(path, f"has the size {str(size)[:100]}, not a number of pixels")
    temperature = card.get("temperature", 1.0)
    if not isinstance(temperature, int | float) or not 0 < temperature < _HOTTEST:
        raise _damaged(path, "has a temperature that is no number above 0")
    return card


def _text(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _damaged(path, "is not UTF-8") from error


def _damaged(path: Path, what: str) -> ModelError:
    return ModelError(f"{shown(str(path))} {what}", _MEND)
