"""Make what a bundle knows besides its graph: when to doubt an answer, and what to hold it against.

The operating point, the detector of unknown pictures, the reference that drift is measured
against and the rows that maps of evidence need: all chosen on the pictures that choices are
made by, and measured on test.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, final

import numpy as np
from jaxtyping import Float, Float64, Int64

from sevenfold import decisions, draws, drift, export, maps, operating, tensors, unknown
from sevenfold.bundles import FEATURES
from sevenfold.data import Split
from sevenfold.features.trunk import session
from sevenfold.operating import Wish
from sevenfold.place import Place
from sevenfold.train import Fitted

_OF_A_CLASS: Final = 40
"""Training pictures of a class whose mean stands for it; more take time and move it little."""
_SCRAMBLED: Final = 60
"""Pictures whose content is destroyed to choose between distances."""
_NO_MAP: Final = np.zeros((0, 0))
Distances = Float64[np.ndarray, "distances"]


@final
@dataclass(frozen=True, eq=False)
class Guards:
    """Hold what goes into card, bundle and report.

    Args:
        card: entries of `card.json`.
        files: of the bundle, by name.
        operating: facts of the report on the operating point.
        unknown: facts of the report on unknown pictures; empty where none can be told.
        distances: of the judged and then the test pictures from those trained on; empty
            where none can be told.
        evidence: maps the evidence for a class in a picture of the data; an empty map
            where the model has none.
    """

    card: Mapping[str, Any]
    files: Mapping[str, bytes]
    operating: Mapping[str, Any]
    unknown: Mapping[str, Any]
    distances: Distances
    evidence: Callable[[int, int], Float[np.ndarray, "rows columns"]]


def promised(wish: Wish, split: Split) -> None:
    """Refuse what too few pictures are there to promise, before anything is trained.

    Raises:
        UsageError: the wish names what is not there, or both kinds of wishes at once.
        DataError: there are fewer pictures to choose by than a recall needs.
    """
    dataset, judged = split.dataset, split.judged
    groups = [dataset.groups[row] for row in judged.tolist()]
    counts = operating.separate(dataset.labels[judged], groups, len(dataset.classes))
    operating.check(wish, dataset.classes, counts)


def guards(
    fitted: Fitted,
    split: Split,
    wish: Wish,
    *,
    model: bytes,
    chosen: Float64[np.ndarray, "judged classes"],
    vectors: Float[np.ndarray, "judged channels"],
    tested: Float64[np.ndarray, "tested classes"],
    tested_vectors: Float[np.ndarray, "tested channels"],
    place: Place,
) -> Guards:
    """Choose and measure all of it. Decodes pictures.

    Args:
        fitted: what ships.
        split: its pictures.
        wish: what was asked of the answers.
        model: the graph that ships.
        chosen: probabilities of the pictures that choices are made by.
        vectors: the graph's pooled features of those.
        tested: probabilities of the test pictures.
        tested_vectors: the graph's pooled features of those.
        place: says how many threads.

    Raises:
        UsageError: the recalls that were asked for cannot be had together.
        DataError: there are fewer pictures left to choose by than a recall needs.
    """
    promised(wish, split)
    dataset, small = split.dataset, len(split.val) == 0
    classes, judged = dataset.classes, split.judged
    labels = dataset.labels[judged]
    groups = [dataset.groups[row] for row in judged.tolist()]
    point = operating.choose(wish, classes, chosen, labels, groups)
    measured = {
        role: decisions.measured(
            point,
            shares,
            dataset.labels[rows],
            classes,
            groups=[dataset.groups[row] for row in rows.tolist()],
            named=tuple(wish.min_recall),
        )
        for role, shares, rows in (("validation", chosen, judged), ("test", tested, split.test))
    }
    maker = _Maker(fitted, split, model, place)
    detector, (near, far), facts = maker.detector(judged, vectors, tested_vectors)
    training = np.bincount(dataset.labels[split.train], minlength=len(classes))
    reference = drift.reference(operating.decide(point, chosen)[0], training, near)
    told = operating.to_card(point, classes) | {
        "chosen_on": "folds" if small else "validation",
        "asked": dict(wish.min_recall),
        "not_sure_cost": wish.not_sure,
    }
    short = {role: _without(found, "curve") for role, found in measured.items()}
    rows = {
        "head.weight": detector.weight,
        "head.bias": detector.bias,
        "centroids": detector.centroids,
    }
    card: dict[str, Any] = {
        "operating_point": told | short,
        "drift": drift.to_card(reference, classes),
    }
    if facts:
        card["unknown"] = facts
    kept = {name: np.asarray(held, np.float32) for name, held in rows.items() if held.size}
    return Guards(
        card,
        {FEATURES: tensors.pack(kept)} if kept else {},
        told | measured,
        facts,
        np.concatenate([near, far]),
        maker.evidence(detector),
    )


def _without(found: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: held for name, held in found.items() if name != key}


@final
class _Maker:
    """Hold what finding the detector needs."""

    def __init__(self, fitted: Fitted, split: Split, model: bytes, place: Place) -> None:
        self._fitted, self._split, self._place = fitted, split, place
        # The graph's features are those of the first network that has a say.
        self._ship = fitted.ships[int(np.flatnonzero(fitted.shares)[0])]
        self._opened = session(model, 1)

    def detector(
        self,
        judged: Int64[np.ndarray, " judged"],
        vectors: Float[np.ndarray, "judged channels"],
        tested: Float[np.ndarray, "tested channels"],
    ) -> tuple[unknown.Detector, tuple[Distances, Distances], dict[str, Any]]:
        """Choose a distance and its threshold, and measure how many pictures it marks."""
        nowhere = np.zeros(0), np.zeros(0)
        split, dataset = self._split, self._split.dataset
        count, labels = len(dataset.classes), dataset.labels[judged]
        weight, bias = export.linear_head(self._ship.network, self._fitted.recipe.side)
        small = len(split.val) == 0
        pictures = judged if small else self._some(split.train)
        trained = vectors if small else self._vectors(pictures)
        middles = unknown.centroids(trained, dataset.labels[pictures], count)
        held = unknown.Detector("none", np.inf, middles.astype(np.float32), weight, bias)
        if small and not self._ship.folds:
            return held, nowhere, {}
        areas = unknown.judged(held, vectors, labels, self._broken(judged))
        held = replace(held, score=unknown.best(areas))
        if held.score == "none":
            return held, nowhere, {}
        found = self._folds(held, judged) if small else unknown.distances(held, vectors)
        # As it is written down, so that the stated rates are those of the file.
        held = replace(held, threshold=unknown.threshold(found))
        far = unknown.distances(held, tested)
        facts = {
            "schema": unknown.SCHEMA,
            "score": held.score,
            "threshold": held.threshold,
            "asked": unknown.REJECTED,
            "areas": areas,
            "validation": self._rejected(found > held.threshold, judged),
            "test": self._rejected(far > held.threshold, split.test),
        }
        return held, (found, far), facts

    def evidence(
        self, detector: unknown.Detector
    ) -> Callable[[int, int], Float[np.ndarray, "rows columns"]]:
        """Return what maps the evidence for a class in a picture of the data."""
        if len(self._fitted.ships) > 1 or not detector.weight.size:
            return lambda _index, _answer: _NO_MAP

        def found(index: int, answer: int) -> Float[np.ndarray, "rows columns"]:
            pixels = self._split.dataset.decode(index)
            (features,) = self._opened.run(["features"], {"image": pixels[None]})
            return maps.class_map(np.asarray(features[0]), detector.weight[answer])

        return found

    def _vectors(
        self, pictures: Int64[np.ndarray, " pictures"]
    ) -> Float[np.ndarray, "pictures channels"]:
        dataset, threads = self._split.dataset, self._place.threads
        return export.seen(self._opened, dataset, pictures.tolist(), threads)[1]

    def _some(self, pictures: Int64[np.ndarray, " pictures"]) -> Int64[np.ndarray, " some"]:
        """Draw a few of each class, the same ones whatever else there is."""
        dataset = self._split.dataset
        labels = dataset.labels[pictures]
        numbers = draws.numbers([dataset.hashes[at] for at in pictures.tolist()])
        ranked = pictures[
            np.argsort(draws.uniform("centroids", numbers, 0, 1)[:, 0], kind="stable")
        ]
        kept = [ranked[dataset.labels[ranked] == k][:_OF_A_CLASS] for k in np.unique(labels)]
        return np.sort(np.concatenate(kept))  # as they lie: a table is read group by group

    def _broken(
        self, judged: Int64[np.ndarray, " judged"]
    ) -> dict[str, Float[np.ndarray, "pictures channels"]]:
        """Return the features of a few pictures whose content is destroyed."""
        dataset = self._split.dataset

        def one(index: int) -> list[Float[np.ndarray, "channels"]]:
            number = int(draws.numbers([dataset.hashes[index]])[0])
            order = np.argsort(draws.one("tiles", number, 0, 16), kind="stable")
            ways = unknown.scrambled(dataset.decode(index), order)
            return [export.looked(self._opened, pixels)[1] for pixels in ways]

        some = judged[:: max(1, len(judged) // _SCRAMBLED)][:_SCRAMBLED].tolist()
        with ThreadPoolExecutor(self._place.threads) as executor:
            rows = list(executor.map(one, some))
        ways = zip(unknown.SCRAMBLES, zip(*rows, strict=True), strict=True)
        return {way: np.stack(vectors) for way, vectors in ways}

    def _folds(
        self, detector: unknown.Detector, judged: Int64[np.ndarray, " judged"]
    ) -> Float64[np.ndarray, " judged"]:
        """Return each training picture's distance by the network that left it out.

        Its fold's pictures stand for training, each time without the picture itself.
        """
        recipe, dataset = self._fitted.recipe, self._split.dataset
        folds, found = self._split.folds(), np.zeros(len(judged))
        for number, network in enumerate(self._ship.folds):
            mine = np.flatnonzero(folds == number)
            rows = judged[mine]
            vectors = export.network_vectors(
                network, dataset, rows.tolist(), side=recipe.side, threads=self._place.threads
            )
            weight, bias = export.linear_head(network, recipe.side)
            fold = replace(detector, weight=weight, bias=bias)
            found[mine] = _left_one_out(fold, vectors, dataset.labels[rows], len(dataset.classes))
        return found

    def _rejected(self, marked: Any, rows: Int64[np.ndarray, " pictures"]) -> dict[str, float]:
        groups = [self._split.dataset.groups[row] for row in rows.tolist()]
        return asdict(decisions.share(marked, np.ones(len(marked), bool), groups))


def _left_one_out(
    detector: unknown.Detector,
    vectors: Float[np.ndarray, "pictures channels"],
    labels: Int64[np.ndarray, " pictures"],
    classes: int,
) -> Float64[np.ndarray, " pictures"]:
    if detector.score == "energy":
        return unknown.distances(detector, vectors)
    everything, found = np.arange(len(vectors)), np.zeros(len(vectors))
    for at in everything:
        others = everything != at
        middles = unknown.centroids(vectors[others], labels[others], classes)
        found[at] = unknown.distances(replace(detector, centroids=middles), vectors[at : at + 1])[0]
    return found
