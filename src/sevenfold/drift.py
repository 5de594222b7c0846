"""Hold what a model is asked now against what it was made with: class mix and distance.

The reference is what the model answered on the pictures that choices were made by, as
they came from the data it was trained on. Two questions are asked of new pictures, whole
and by group: are the classes answered as often (χ² for two samples, total variation),
and do they lie as near to training (Kolmogorov and Smirnov, on 101 stored quantiles)?
Memory is constant, however many pictures come.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final, final

import numpy as np
from jaxtyping import Float64, Int64

SCHEMA: Final = "sevenfold.drift/1"
QUANTILES: Final = 101
SIGNIFICANT: Final = 0.001
FEWEST: Final = 20
"""Under this many pictures nothing is said to differ."""
EXPECTED: Final = 5
"""Pictures of a class that must be expected for its share to be tested by itself."""
_MOST_GROUPS: Final = 1000
_REST: Final = "(other folders)"


@final
@dataclass(frozen=True, eq=False, slots=True)
class Reference:
    """Hold what new pictures are held against.

    Args:
        pictures: that it was made of; 0 where a bundle has none.
        answers: how often each class was answered.
        training: pictures of each class that weights were trained on.
        quantiles: of the distance, in equal steps from the least to the largest; empty
            where none is known.
    """

    pictures: int
    answers: Int64[np.ndarray, " classes"]
    training: Int64[np.ndarray, " classes"]
    quantiles: Float64[np.ndarray, " quantiles"]


def reference(
    answers: Int64[np.ndarray, " pictures"],
    training: Int64[np.ndarray, " classes"],
    distances: Float64[np.ndarray, " measured"],
) -> Reference:
    """Sum up the pictures that choices were made by; no distances where none are measured."""
    steps = np.linspace(0, 1, QUANTILES)
    quantiles = np.quantile(distances, steps) if len(distances) else np.zeros(0)
    counts = np.bincount(answers, minlength=len(training))
    return Reference(len(answers), counts, training, quantiles)


def to_card(held: Reference, classes: Sequence[str]) -> dict[str, Any]:
    """Return a reference as `card.json` holds it under `drift`."""
    return {
        "schema": SCHEMA,
        "pictures": held.pictures,
        "answers": dict(zip(classes, held.answers.tolist(), strict=True)),
        "training": dict(zip(classes, held.training.tolist(), strict=True)),
        "distances": [round(float(one), 6) for one in held.quantiles],
    }


def from_card(card: Mapping[str, Any], classes: Sequence[str]) -> Reference:
    """Read the reference of a card; one without pictures where the card has none.

    Raises:
        ValueError: it is damaged or of a newer version.
    """
    told = card.get("drift")
    nothing = np.zeros(len(classes), np.int64)
    if told is None:
        return Reference(0, nothing, nothing, np.zeros(0))
    if not isinstance(told, Mapping) or told.get("schema") != SCHEMA:
        raise ValueError(f"has a drift reference that is not of the schema {SCHEMA}")
    try:
        answers, training = (
            np.array([int(told[key][name]) for name in classes], np.int64)
            for key in ("answers", "training")
        )
        quantiles = np.array([float(one) for one in told["distances"]], np.float64)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError("has a drift reference that is damaged") from error
    whole = (answers >= 0).all() and (training >= 0).all() and np.isfinite(quantiles).all()
    if not whole or len(quantiles) not in (0, QUANTILES) or (np.diff(quantiles) < 0).any():
        raise ValueError("has a drift reference that is damaged")
    return Reference(int(answers.sum()), answers, training, quantiles)


@final
class Tally:
    """Count answers and distances, whole and by group; changes with every picture.

    Args:
        held: the reference.
        classes: their names.
    """

    def __init__(self, held: Reference, classes: Sequence[str]) -> None:
        self._held, self._classes = held, tuple(classes)
        self._groups: dict[str, _Count] = {}

    def add(self, label: str, distance: float, unlike: bool, path: str = "") -> None:
        """Count one picture; its group is the folder that it lies in.

        Args:
            label: that was answered.
            distance: from training; NaN where the bundle knows none.
            unlike: whether it was marked as unlike anything trained on.
            path: of the picture.
        """
        group = str(PurePath(path).parent) if path else ""
        if group not in self._groups and len(self._groups) >= _MOST_GROUPS:
            group = _REST
        count = self._groups.setdefault(group, _Count(len(self._classes)))
        count.answers[self._classes.index(label)] += 1
        count.unlike += unlike
        if math.isfinite(distance) and len(self._held.quantiles):
            count.places[int(np.searchsorted(self._held.quantiles, distance))] += 1
            count.sum += distance

    def to_json(self) -> dict[str, Any]:
        """Return the whole and every group, the most pictures first."""
        whole = _Count(len(self._classes))
        for one in tuple(self._groups.values()):
            whole.join(one)
        ranked = sorted(self._groups.items(), key=lambda item: -int(item[1].answers.sum()))
        return {
            "schema": SCHEMA,
            "reference_pictures": self._held.pictures,
            **self._row(whole),
            "mix": self._mix(whole.answers),
            "reference_mix": self._mix(self._held.answers),
            "training_mix": self._mix(self._held.training),
            "groups": [{"group": name} | self._row(count) for name, count in ranked],
        }

    def _mix(self, counts: Int64[np.ndarray, " classes"]) -> dict[str, float]:
        shares = counts / max(1, int(counts.sum()))
        return dict(zip(self._classes, shares.tolist(), strict=True))

    def _row(self, count: "_Count") -> dict[str, Any]:
        pictures, held = int(count.answers.sum()), self._held
        apart, chance = mix_shift(count.answers, held.answers)
        moved, luck = distance_shift(count.places, held.pictures)
        seen = int(count.places.sum())
        differs = min(chance, luck) < SIGNIFICANT and pictures >= FEWEST
        return {
            "pictures": pictures,
            "mix_distance": apart,
            "mix_p": chance,
            "distance": count.sum / seen if seen else None,
            "reference_distance": float(held.quantiles.mean()) if len(held.quantiles) else None,
            "distance_shift": moved,
            "distance_p": luck,
            "unlike": count.unlike / pictures if pictures else 0.0,
            "differs": differs,
        }


class _Count:
    def __init__(self, classes: int) -> None:
        self.answers = np.zeros(classes, np.int64)
        self.places = np.zeros(QUANTILES + 1, np.int64)
        self.sum, self.unlike = 0.0, 0

    def join(self, other: "_Count") -> None:
        self.answers += other.answers
        self.places += other.places
        self.sum += other.sum
        self.unlike += other.unlike


def mix_shift(
    now: Int64[np.ndarray, " classes"], then: Int64[np.ndarray, " classes"]
) -> tuple[float, float]:
    """Compare two counts of classes: total variation, and the p of a χ² test.

    The p is by the cube root of Wilson and Hilferty (1931), within 0.005 of the exact one
    from two classes on; 1 where there is nothing to compare. Classes of which fewer than
    `EXPECTED` pictures are to be expected on either side are taken as one (Cochran 1954): a
    single picture of a class that is hardly ever answered says nothing. Where even together
    they are fewer, χ² compares the other classes, Fisher's exact test (1922) these with the
    others, and the smaller p counts twice.

    Example:
        >>> mix_shift(np.array([50, 50]), np.array([500, 500]))
        (0.0, 1.0)
    """
    n, m = int(now.sum()), int(then.sum())
    if not n or not m:
        return 0.0, 1.0
    apart = float(np.abs(now / n - then / m).sum() / 2)
    few = EXPECTED * (n + m) / min(n, m)
    common = now + then >= few
    rest = int(now[~common].sum()), int(then[~common].sum())
    cells = np.stack([now[common], then[common]])
    if sum(rest) >= few:
        return apart, _chi2(np.column_stack([cells, rest]))
    if not sum(rest):
        return apart, _chi2(cells)
    exact = _fisher(rest[0], sum(rest), n, n + m)
    return apart, min(1.0, 2 * min(exact, _chi2(cells)))


def _chi2(cells: Int64[np.ndarray, "2 cells"]) -> float:
    """Return the p of a χ² test of two rows of counts."""
    (n, m), degrees = cells.sum(axis=1).tolist(), cells.shape[1] - 1
    if degrees < 1 or not n or not m:
        return 1.0
    gaps = math.sqrt(m / n) * cells[0] - math.sqrt(n / m) * cells[1]
    chi2 = float((gaps**2 / cells.sum(axis=0)).sum())
    if chi2 == 0:
        return 1.0
    spread = 2 / (9 * degrees)
    z = ((chi2 / degrees) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return math.erfc(z / math.sqrt(2)) / 2


def _fisher(seen: int, marked: int, drawn: int, pictures: int) -> float:
    """Return the two-sided p of so many marked pictures among those drawn.

    The sum of the chances of all counts that are no likelier than what was seen.
    """

    def ways(some: int, of: int) -> float:
        return math.lgamma(of + 1) - math.lgamma(some + 1) - math.lgamma(of - some + 1)

    counts = range(max(0, drawn - (pictures - marked)), min(drawn, marked) + 1)
    whole = ways(drawn, pictures)
    logs = [ways(k, marked) + ways(drawn - k, pictures - marked) - whole for k in counts]
    limit = logs[seen - counts[0]] + 1e-9
    return min(1.0, sum(math.exp(log) for log in logs if log <= limit))


def distance_shift(
    places: Int64[np.ndarray, " bins"], reference_pictures: int
) -> tuple[float, float]:
    """Compare distances by Kolmogorov's and Smirnov's largest gap, and its p.

    The p is the asymptotic one with Stephens' correction (1970).

    Args:
        places: how many new distances lie up to each stored quantile, and beyond the last.
        reference_pictures: that the quantiles are of.
    """
    n = int(places.sum())
    if not n or not reference_pictures:
        return 0.0, 1.0
    steps = np.linspace(0, 1, QUANTILES)
    gap = float(np.abs(np.cumsum(places[:-1]) / n - steps).max())
    size = math.sqrt(n * reference_pictures / (n + reference_pictures))
    return gap, _kolmogorov((size + 0.12 + 0.11 / size) * gap)


def _kolmogorov(x: float) -> float:
    if x < 0.2:
        return 1.0
    terms = ((-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 101))
    return min(1.0, max(0.0, 2 * math.fsum(terms)))
