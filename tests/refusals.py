"""Mistakes in programs: each calls a function that refuses what it is given."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from sevenfold import SevenfoldClassifier
from sevenfold.exports import timm_hub
from sevenfold.practices import optimization, transfer
from sevenfold.practices.transfer import Transfer

GREY = [np.full((8, 8), 9 * number, np.uint8) for number in range(4)]
LABELS = ("a", "a", "b", "b")
SMALL = "resnet20"


def _fit(pictures: Any, labels: Any = LABELS, **settings: Any) -> Callable[[], object]:
    return lambda: SevenfoldClassifier(**settings).fit(pictures, labels)


def _built(**settings: Any) -> Callable[[], object]:
    return lambda: transfer.build(Transfer(weights="random", **settings), 2, 32, 0)


def _timm(backbone: str, built: str = "", **sizes: int) -> Callable[[], object]:
    """Hand timm a network that was built for one backbone as if it were another's."""

    def call() -> object:
        settings = Transfer(backbone=built or backbone, weights="random")
        network, _ = transfer.build(settings, 2, 32, 0)
        return timm_hub.as_timm(network, backbone, 32, 1.0)

    return call


def _settings(*settings: str) -> Sequence[str]:
    return settings


REFUSALS: dict[str, Callable[[], object]] = {
    "estimator: a path alone": _fit("photos"),
    "estimator: a table": _fit(np.zeros((4, 64), np.uint8)),
    "estimator: one picture": _fit(np.zeros((8, 8, 3), np.uint8)),
    "estimator: no pictures": _fit([], []),
    "estimator: no labels": _fit(GREY, None),
    "estimator: floats": _fit([picture / 255 for picture in GREY]),
    "estimator: five channels": _fit(np.zeros((4, 8, 8, 5), np.uint8)),
    "estimator: a number for a picture": _fit([1, 2, 3, 4]),
    "estimator: too few labels": _fit(GREY, ["a", "b", "b"]),
    "estimator: one class": _fit(GREY, ["a"] * 4),
    "estimator: a path that is no picture": _fit(["none.jpg", *GREY[1:]]),
    "estimator: a class of two pictures": _fit(GREY),
    "estimator: an unknown setting": _fit(GREY, settings=_settings("sid=32")),
    "estimator: settings as one text": _fit(GREY, settings="side=32"),
    "estimator: a setting given twice": _fit(GREY, side=16, settings=_settings("side=32")),
    "estimator: pruning": _fit(GREY, settings=_settings("pruning.macs=0.4")),
    "estimator: half of the pictures in per cent": _fit(GREY, validation_fraction=50),
    "transfer: a hash of no use": _built(backbone="resnet18", sha256="0" * 64),
    "transfer: dropout of no use": _built(backbone=SMALL, dropout=0.5),
    "optimization: patience of no use": lambda: optimization.refuse_patience(
        optimization.Optimization(patience=0.2), validation=False
    ),
    "transfer: weights of a deeper sibling": lambda: transfer.weights.refuse_others(
        {"layer1.0.weight"},
        dict.fromkeys(("layer1.0.weight", "layer1.2.weight"), torch.zeros(2, 2)),
        {"layer1.0.weight", "fc.weight"},
        "resnet18",
    ),
    "timm: a network of ours": _timm(SMALL),
    "timm: a pruned network": _timm("test_resnet", built="test_byobnet"),
}
