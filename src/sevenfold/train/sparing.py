"""Look before training at which operations change what a class shows, and leave them out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
from jaxtyping import Float, Float64, Int64, UInt8
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from sevenfold import draws, nets, unknown
from sevenfold.data import Split
from sevenfold.features import trunk as engines
from sevenfold.features.pixels import Pixels
from sevenfold.features.views import Viewer, activations
from sevenfold.place import Place
from sevenfold.practices import augmentation
from sevenfold.practices.augmentation import Augmentation, Finding, Operation
from sevenfold.progress import Progress
from sevenfold.recipe import Recipe
from sevenfold.train.bench import start
from sevenfold.train.stronger import factors

FOLDS: Final = 4
_LAST: Final = 3  # blocks that the clean model goes without, as by default those that are trained
PER_CLASS: Final = 32
"""Pictures of a class that are looked at; `needed` asks for 22 (150 classes, 5 operations)."""
AT_MOST: Final = 4800
"""Pictures of all classes together: the cost does not grow with the data."""
_ASKED_FOR_COLOUR: Final = 64  # pictures at most, before all are taken for grey
_STRENGTH: Final = 0.3  # of logistic regression: inverse of the penalty


@dataclass(frozen=True)
class Spared:
    """Hold what the label check found before training.

    Args:
        operations: that were looked at; empty where nothing was.
        pictures: that were looked at, each answered by a model that had not seen it.
        accuracy: of the clean model on them as they are, 0 to 1.
        findings: of each operation and class, changes of label first.
        reason: why nothing was looked at; empty where something was.
        insisted: whether the recipe keeps what was flagged.
    """

    operations: tuple[str, ...] = ()
    pictures: int = 0
    accuracy: float = float("nan")
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    insisted: bool = False

    @property
    def flagged(self) -> tuple[Finding, ...]:
        """Return the changes of label."""
        return tuple(one for one in self.findings if one.verdict == augmentation.CHANGES)

    @property
    def classes(self) -> int:
        """Return how many classes were looked at."""
        return len({one.label for one in self.findings})

    @property
    def unjudged(self) -> tuple[str, ...]:
        """Return those of them that had too few pictures to be judged."""
        return augmentation.unjudged(self.findings)


NOT_LOOKED: Final = Spared()


def check_labels(
    recipe: Recipe,
    split: Split,
    pictures: Int64[np.ndarray, "pictures"],
    place: Place,
    pixels: Pixels,
    progress: Progress,
) -> tuple[Recipe, Spared]:
    """Leave out, class by class, the operations that change what a picture shows.

    The clean model is a logistic regression on the pretrained trunk's activations, averaged
    over the quarters of their grid, of some training pictures as they are. It answers, after
    each operation at the full reach that a class may be shown, the fold of them that it has
    not seen; `augmentation.judge` tells changes of label from what is merely hard.

    What is averaged is stored: the same pictures cost nothing when they are looked at
    again, and no training seed has a part in it.

    Args:
        recipe: settled.
        split: the data.
        pictures: that are trained on.
        place: where to compute.
        pixels: the store of decoded pictures.
        progress: is told how far it is.

    Returns:
        The recipe, with more in `class_off` where labels were changed, and what was found.

    Raises:
        UsageError: colours are to be changed of pictures that have none.
    """
    dataset, settings = split.dataset, recipe.augmentation
    augmentation.refuse_grey(settings, _sampled(split, pictures, pixels))
    classes, looked_at = dataset.classes, _looked_at(settings, split, pictures)
    if not looked_at:
        return recipe, NOT_LOOKED
    some = _some(split, pictures)
    if reason := _hindered(recipe, split, some, sum(map(len, looked_at.values()))):
        return recipe, Spared(reason=reason)
    trunk = _trunk(recipe, split)
    if not len(trunk.blocks):
        return recipe, Spared(reason="the backbone is one block, without a trunk to look through")
    labels, folds = dataset.labels[some], replace(split, train=some).folds(FOLDS)
    features = _features(recipe, split, some, trunk, place, pixels, progress)
    with threadpool_limits(place.threads):  # the last bits must not hang on who else is there
        scores = _answers(features, labels, folds, len(classes))
        findings = augmentation.judge(scores, looked_at, labels, classes)
    found = Spared(
        tuple(dict.fromkeys(one.name for one in looked_at)),
        len(some),
        float((scores(augmentation.UNTOUCHED).argmax(axis=1) == labels).mean()),
        tuple(sorted(findings, key=_order)),
        insisted=settings.insist,
    )
    return replace(recipe, augmentation=augmentation.excluding(settings, findings)), found


def _trunk(recipe: Recipe, split: Split) -> nets.Trunk:
    """Return the frozen trunk, or, where nothing is frozen, all but the last blocks."""
    network, _ = start(recipe, len(split.dataset.classes), 0)  # the same for every seed
    trained = recipe.transfer.trainable_blocks
    return nets.cut(network, trained if trained < len(network.blocks) else _LAST)[0]


def _order(finding: Finding) -> tuple[bool, float]:
    return finding.verdict != augmentation.CHANGES, finding.augmented - finding.clean


def _looked_at(
    settings: Augmentation, split: Split, pictures: Int64[np.ndarray, "pictures"]
) -> dict[Operation, list[int]]:
    """List what is looked at, of rare classes as strong as they may come to be shown."""
    classes = split.dataset.classes
    counts = np.bincount(split.dataset.labels[pictures], minlength=len(classes))
    rare = factors(settings, counts, classes)
    return augmentation.looked_at(
        replace(settings, class_strength=rare) if rare else settings, classes
    )


def _hindered(recipe: Recipe, split: Split, some: Int64[np.ndarray, "some"], tests: int) -> str:
    """Say why nothing can be looked at; empty where something can."""
    if recipe.transfer.weights == "random":
        return "without pretrained weights there is no clean model"
    dataset = split.dataset
    needed = augmentation.needed(len(dataset.classes), tests)
    if len(dataset.classes) * needed > AT_MOST:
        return (
            f"{AT_MOST:,} pictures are looked at, too few to judge {len(dataset.classes):,} "
            f"classes that need {needed} each"
        )
    if len({dataset.groups[one] for one in some.tolist()}) < FOLDS:
        return f"fewer than {FOLDS} groups of pictures to learn from"
    labels, folds = dataset.labels[some], replace(split, train=some).folds(FOLDS)
    if any(len(set(labels[folds != fold].tolist())) < 2 for fold in range(FOLDS)):
        return "a class lies in one group of pictures alone"
    return ""


def _mixed(split: Split, pictures: Int64[np.ndarray, "pictures"]) -> Int64[np.ndarray, "pictures"]:
    """Shuffle pictures by content alone."""
    numbers = draws.numbers([split.dataset.hashes[one] for one in pictures.tolist()])
    return np.asarray(pictures[draws.order("label check", numbers, 0)])


def _sampled(
    split: Split, pictures: Int64[np.ndarray, "pictures"], pixels: Pixels
) -> Iterator[UInt8[np.ndarray, "side side 3"]]:
    """Hand out some stored pictures, each when it is asked for."""
    for one in _mixed(split, pictures)[:_ASKED_FOR_COLOUR].tolist():
        yield pixels.square(split.dataset, one)


def _some(split: Split, pictures: Int64[np.ndarray, "pictures"]) -> Int64[np.ndarray, "some"]:
    """Draw as many pictures of each class."""
    dataset = split.dataset
    each = min(PER_CLASS, max(1, AT_MOST // len(dataset.classes)))
    mixed = _mixed(split, pictures)
    labels = dataset.labels[mixed]
    kept = [mixed[labels == label][:each] for label in range(len(dataset.classes))]
    return np.sort(np.concatenate(kept))


def _quarters(features: Float[np.ndarray, "*map"]) -> Float64[np.ndarray, " numbers"]:
    """Return each channel's mean in each quarter of a map, or what `unknown.pooled` makes.

    One mean would forget where things lie, and that is all that a mirror image changes.
    Where a side is odd the middle counts for both halves.
    """
    if features.ndim != 3:
        return unknown.pooled(features)
    down, across = (-(-side // 2) for side in features.shape[1:])
    return np.concatenate(
        [
            unknown.pooled(half[:, :, part])
            for half in (features[:, :down], features[:, -down:])
            for part in (slice(across), slice(-across, None))
        ]
    )


def _features(
    recipe: Recipe,
    split: Split,
    some: Int64[np.ndarray, "some"],
    trunk: nets.Trunk,
    place: Place,
    pixels: Pixels,
    progress: Progress,
) -> Callable[[Operation], Float[np.ndarray, "some channels"]]:
    """Return what computes the averaged activations of the pictures after an operation."""
    engine = engines.engine(trunk, recipe.side, place.device)
    pooled = engines.Engine(
        f"{engine.key}/quarters",
        _quarters(np.zeros(engine.shape)).shape,
        lambda views: np.stack([_quarters(one) for one in engine.run(views)], dtype=np.float16),
        engine.threaded,
    )
    compute = partial(
        activations,
        split.dataset,
        some,
        pixels,
        engine=pooled,
        count=1,
        threads=place.threads,
        progress=lambda _stage, done, total: progress("label check", done, total),
    )
    first = np.zeros(len(some), np.int64)
    return lambda operation: np.asarray(
        compute(_viewer(operation, recipe.side)).get(some, first), np.float64
    )


def _viewer(operation: Operation, side: int) -> Viewer:
    """Make the one view of an operation, the same that `augmentation.check` looks at."""

    def make(
        pixels: UInt8[np.ndarray, "source source 3"], picture: int, _view: int
    ) -> UInt8[np.ndarray, "side side 3"]:
        (drawn,) = augmentation.draws_of(operation, np.array([picture], np.uint64))
        return augmentation.augment(pixels, operation.settings, drawn, side)

    fixed = {int(place): value for place, value in operation.fixed.items()}
    name = f"label check/{operation.settings}/{fixed}/{side}/{augmentation.CODE}"
    return Viewer(name, make)


def _answers(
    features: Callable[[Operation], Float[np.ndarray, "some channels"]],
    labels: Int64[np.ndarray, "some"],
    folds: Int64[np.ndarray, "some"],
    classes: int,
) -> Callable[[Operation], Float[np.ndarray, "some classes"]]:
    """Fit the clean model of each fold; return the probabilities after an operation."""
    clean = features(augmentation.UNTOUCHED)
    models = []
    for fold in range(FOLDS):
        seen = folds != fold
        model = make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=500))
        models.append(model.fit(clean[seen], labels[seen]))

    def scores(operation: Operation) -> Float[np.ndarray, "some classes"]:
        shown = clean if operation == augmentation.UNTOUCHED else features(operation)
        found = np.zeros((len(labels), classes))
        for fold, model in enumerate(models):
            held = np.flatnonzero(folds == fold)
            if len(held):
                found[np.ix_(held, model.classes_)] = model.predict_proba(shown[held])
        return found

    return scores
