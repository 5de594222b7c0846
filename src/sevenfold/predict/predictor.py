"""Answer one picture: a bundle that is ready to run."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float32, Float64, Shaped, UInt8
from PIL import Image

from sevenfold import image, maps, operating, unknown
from sevenfold.answers import Answer
from sevenfold.bundles import Bundle, open_session, read_bundle
from sevenfold.errors import DataError, ModelError, ResourceError, UsageError


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

    def answer(self, data: bytes | str | os.PathLike[str], path: str = "") -> Answer:
        """Decode a picture and answer.

        Args:
            data: the bytes of a JPEG, PNG or another format that `image.decode` lets through,
                or the path of such a file.
            path: what the answer and messages call the picture; "" is the path that was given,
                or `picture`.

        Raises:
            ImageRejected: the picture cannot be used.

        Example:
            predictor.answer("new.jpg").label
        """
        pixels, name = _decoded(data, path)
        return self._told(self.see(pixels), name)

    def explain(self, data: bytes | str | os.PathLike[str], path: str, folder: Path) -> Answer:
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
        pixels, name = _decoded(data, path)
        seen = self.see(pixels)
        evidence = self.evidence(seen)
        file = folder / maps.file_name(name, self.classes[seen.answer])
        try:
            Image.fromarray(maps.overlay(pixels, evidence)).save(file)
        except OSError as error:
            raise ResourceError(
                f"cannot write {image.shown(str(file))}: {error.strerror or error}",
                "name another folder with --maps, or make room there",
            ) from error
        return replace(self._told(seen, name), map=str(file))

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


def _decoded(
    data: bytes | str | os.PathLike[str], path: str
) -> tuple[UInt8[np.ndarray, "height width 3"], str]:
    """Return a picture and what it is called, from its bytes or its file."""
    if not isinstance(data, str | os.PathLike):
        name = path or "picture"
        return image.decode(data, name=name), name
    name = path or image.shown(os.fspath(data))
    return image.decode(image.read(data, name=name), name=name), name


def load(path: str | os.PathLike[str], *, threads: int = 0) -> Predictor:
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
