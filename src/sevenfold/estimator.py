"""Offer the main job's training as a scikit-learn classifier of pictures.

What is fitted is the graph that a bundle ships, calibrated on pictures that training left
out, so that `predict` needs no torch and the estimator pickles as plain bytes.
"""

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float64
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from sevenfold import bundles, image
from sevenfold import data as datasets
from sevenfold.errors import DataError, InputError, UsageError
from sevenfold.predict import Predictor
from sevenfold.progress import Lines, silent

if TYPE_CHECKING:
    from sevenfold.place import Place
    from sevenfold.recipe import Recipe

_VALIDATION: Final = 0.15
_AS_IN_BUDGET: Final = {"side": None, "epochs": None, "objective": "auto"}
_KEPT: Final = 4  # opened graphs: what a calibration or a vote of a few folds asks in turn


class SevenfoldClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Train a classifier of pictures by a recipe, as scikit-learn's estimators are trained.

    Pictures are a list or 1-D array of paths, uint8 arrays [height, width] or
    [height, width, 3] and Pillow pictures, or one uint8 array of the shape
    [pictures, height, width, 3] or [pictures, height, width]. Sizes may differ. There are no
    features to count, so there is no `n_features_in_`.

    Where the largest class has more than 1.5 times the pictures of the smallest, training aims
    at balanced accuracy, and probabilities may then mean *if classes were equally common*;
    `objective="accuracy"` keeps to the classes as they come.

    Args:
        budget: `quick`, `normal` or `thorough`, or a time; pruning stays off, because it is
            judged on test pictures, which scikit-learn keeps to itself.
        side: of the pictures that the network sees, 16 to 1024 pixels; None as in the budget.
        epochs: passes over the pictures, 0 for as many as the data needs; None as in the budget.
        objective: what choices aim at: `accuracy`, `balanced_accuracy`, or `auto`, which goes by
            how even the classes are.
        settings: more of the recipe, such as `("optimization.rate=0.01",)`; none that is given
            above.
        validation_fraction: of the pictures that choices are made by, above 0 and below 1;
            None is 0.15 from a thousand pictures on and five folds below.
        cache: folder whose stores of pixels and activations later fits share; None is a
            temporary one.
        device: `auto`, `cpu`, `cuda` or `mps`.
        threads: 0 is one for each core that this process may use, and at most OMP_NUM_THREADS,
            by which joblib narrows the workers of `n_jobs`.
        random_state: seed of everything random, NumPy's Generator or RandomState that draws it,
            or None for another each time.
        verbose: show on stderr what is under way.

    Attributes:
        classes_: the labels, sorted, in the order of the probabilities.
        model_: the ONNX graph, from whole uint8 pictures to calibrated probabilities.
        names_: of the graph's outputs, in their order.
        recipe_: as TOML, with every automatic value settled.
        temperature_: by which logits are divided in the graph.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> bright = rng.integers(0, 2, 24)
        >>> X = (rng.integers(0, 99, (24, 16, 16)) + 150 * bright[:, None, None]).astype("uint8")
        >>> small = ("transfer.backbone=resnet20", "transfer.weights=random")
        >>> small += ("transfer.trainable_blocks=1000", "optimization.rate=0.01")
        >>> model = SevenfoldClassifier(
        ...     side=16, epochs=8, settings=small, validation_fraction=0.25, threads=1
        ... )
        >>> model.fit(X, np.where(bright, "day", "night")).predict_proba(X[:5]).shape
        (5, 2)
    """

    def __init__(
        self,
        budget: str = "quick",
        *,
        side: int | None = None,
        epochs: int | None = None,
        objective: str = "auto",
        settings: Sequence[str] = (),
        validation_fraction: float | None = None,
        cache: str | os.PathLike[str] | None = None,
        device: str = "auto",
        threads: int = 0,
        random_state: Any = 0,
        verbose: bool = False,
    ) -> None:
        self.budget = budget
        self.side = side
        self.epochs = epochs
        self.objective = objective
        self.settings = settings
        self.validation_fraction = validation_fraction
        self.cache = cache
        self.device = device
        self.threads = threads
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, groups: Any = None) -> "SevenfoldClassifier":
        """Train on pictures and their labels; choices are made by a part of them.

        Writes to `cache`, or to a temporary folder.

        Args:
            X: the pictures.
            y: a label for each: texts, whole numbers or truth values.
            groups: name what must not straddle training and validation; a picture whose group
                is None, NaN or "" stands alone, and with None all do.

        Raises:
            InputError: these are no pictures or labels that can be trained on.
            UsageError: a setting is unknown, out of range or given twice, or makes training
                diverge.
        """
        labels = _labels(y)
        # No torch before what can be refused without it.
        listing = datasets.given(
            X, labels.astype(str).tolist(), () if groups is None else list(groups)
        )
        for what, some in (("labels", labels), ("groups", labels if groups is None else groups)):
            if len(some) != len(listing.photos):
                raise InputError(
                    f"there are {len(listing.photos)} pictures and {len(some)} {what}",
                    f"give as many {what} as pictures",
                )
        classes = np.unique(labels)
        if len(classes) < 2:
            raise InputError(
                f"y holds {len(classes)} class ({image.shown(str(classes[0]))})",
                "give pictures of at least two classes",
            )
        given = {name: getattr(self, name) for name in _AS_IN_BUDGET}
        recipe = _recipe(self.budget, given, self.settings)
        fraction = _fraction(self.validation_fraction)
        try:
            with _stores(self.cache) as place:
                self._train(listing, recipe, fraction, place)
        except DataError as error:
            raise InputError(error.problem, error.cure) from error
        self.classes_ = classes
        return self

    def _train(
        self, listing: datasets.Listing, recipe: "Recipe", fraction: float, folder: Path
    ) -> None:
        from sevenfold import recipe as recipes
        from sevenfold import release, train
        from sevenfold.features.pixels import for_training, ingest

        progress = Lines(sys.stderr) if self.verbose else silent
        with _place(self.device, _threads(self.threads)) as place:
            pixels = for_training(recipe.side)
            prints = ingest(listing, pixels=pixels, threads=place.threads, progress=progress)
            dataset = _assembled(listing, prints)
            split = datasets.split(
                dataset,
                val=fraction or _VALIDATION,
                test=0.0,
                fewest=0 if fraction else None,
            )
            _warn(split.quarantined)
            fitted = train.fit(
                recipe,
                split,
                seed=_seed(self.random_state),
                place=place,
                pixels=pixels,
                folder=folder,
                progress=progress,
            )
            train.refuse_diverged(fitted.members)
            exported = release.exported(fitted, split, place)
        self.model_ = exported.model
        self.names_ = dataset.classes
        self.recipe_ = recipes.to_toml(fitted.recipe)
        self.temperature_ = exported.temperature
        self._side = fitted.recipe.side

    def predict_proba(self, X: Any) -> Float64[np.ndarray, "pictures classes"]:
        """Compute the calibrated probabilities of pictures.

        Where training aimed at balanced accuracy, as it does on uneven classes unless
        `objective` is `accuracy`, they may mean *if classes were equally common*.

        Args:
            X: the pictures.

        Returns:
            A row for each picture, a column for each of `classes_`.

        Raises:
            NotFittedError: it was not fitted.
            InputError: these are no pictures.
        """
        check_is_fitted(self)
        listing = datasets.given(X)
        predictor = _opened(self.model_, self.names_, self._side)

        def answered(photo: datasets.Photo) -> Any:
            data = listing.source.load(photo)
            return predictor.probabilities(image.decode(data, name=photo.path))

        try:
            with ThreadPoolExecutor(_threads(self.threads)) as pool:
                shares = np.stack(list(pool.map(answered, listing.photos))).astype(np.float64)
        except DataError as error:
            raise InputError(error.problem, error.cure) from error
        # The graph's classes are sorted as texts, ours as what they are.
        order = [self.names_.index(str(label)) for label in self.classes_]
        shares = shares[:, order]
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def predict(self, X: Any) -> np.ndarray[Any, Any]:
        """Answer the most probable class of each picture; raises as `predict_proba` does."""
        shares = self.predict_proba(X)
        return np.asarray(self.classes_[shares.argmax(axis=1)])

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write what was fitted as a bundle, which `load` and the commands take without torch.

        `predict`, `serve` and `bench` answer by it. No scores lie in it: an estimator sees no
        test pictures. Nor is it a run, which other commands go on from.

        Args:
            folder: of the bundle; is made, and may not be there yet, or be empty.

        Raises:
            NotFittedError: it was not fitted.
            UsageError: the folder holds something.
            ResourceError: it cannot be written.
        """
        check_is_fitted(self)
        place = Path(folder)
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise UsageError(f"{image.shown(str(place))} holds other files", "name a new folder")
        from sevenfold import export

        card = bundles.held(self.model_, self.names_, self._side).card
        page = f"# {len(self.names_)} classes\n\nFitted by a program, without test pictures.\n"
        more = {"selftest.json": export.selftest(self.model_)}
        export.write(
            place,
            self.model_,
            self.names_,
            {**card, "temperature": self.temperature_},
            page,
            more,
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # a table is no list of pictures
        tags.input_tags.one_d_array = True
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags


def _labels(y: Any) -> np.ndarray[Any, Any]:
    if y is None:
        raise InputError(
            "SevenfoldClassifier requires y to be passed, but the target y is None",
            "give a label for each picture",
        )
    labels = column_or_1d(y, warn=True)
    check_classification_targets(labels)
    return np.asarray(labels)


def _assembled(listing: datasets.Listing, prints: Sequence[Any]) -> datasets.Dataset:
    try:
        return datasets.assemble(listing, prints, max_unreadable=0.0)
    except DataError as error:
        raise InputError(
            error.problem, "give readable pictures, five different ones of each class in 3 groups"
        ) from error


def _recipe(budget: str, given: Mapping[str, Any], settings: Sequence[str]) -> "Recipe":
    """Return a budget's recipe under the parameters that are given, and settings."""
    from sevenfold import recipe as recipes

    if isinstance(settings, str):
        raise UsageError(f"settings = {settings!r} is one text", "give a list: ['side=160']")
    named = {
        name: f"{name}={value}" for name, value in given.items() if value != _AS_IN_BUDGET[name]
    }
    for setting in settings:
        name = setting.partition("=")[0].strip()
        if name in named:
            raise UsageError(
                f"{name} is given twice: {named[name]!r}, and settings hold {setting!r}",
                "leave one of them out",
            )
    base = recipes.default(budget).without("pruning")
    recipe = recipes.apply(base, [*named.values(), *settings])
    if recipe.pruning.macs:
        raise UsageError(
            f"settings ask for pruning.macs = {recipe.pruning.macs:g}, and pruning is judged on "
            "test pictures, which an estimator does not have",
            "leave it out, or use `sevenfold train`",
        )
    return recipe


def _fraction(given: float | None) -> float:
    """Return the share of validation; 0 is as the number of pictures says."""
    if given is None:
        return 0.0
    if not 0 < given < 1:
        raise UsageError(
            f"validation_fraction = {given!r} is out of range", "give above 0 and below 1, or None"
        )
    return float(given)


def _seed(random_state: Any) -> int:
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    if isinstance(random_state, np.random.Generator):  # which scikit-learn does not take
        return int(random_state.integers(2**31 - 1))
    return int(check_random_state(random_state).randint(2**31 - 1))


@contextmanager
def _stores(cache: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Keep stores in a folder and yield one for checkpoints, which is deleted in the end."""
    from sevenfold.features import store

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        place = Path(cache) if cache else Path(folder) / "stores"
        with store.placed(place.resolve()):
            yield Path(folder) / "trials"


@contextmanager
def _place(device: str, threads: int) -> Iterator["Place"]:
    """Choose where to compute, and leave torch's threads as they were."""
    from sevenfold import trial
    from sevenfold.place import narrowed

    with narrowed(threads):
        yield trial.place(device, threads)


def _warn(left_out: Sequence[datasets.Quarantined]) -> None:
    if left_out:
        first = left_out[0]
        warnings.warn(
            f"{len(left_out)} pictures are left out of training; the first is "
            f"{image.shown(first.path)}: {image.shown(first.reason)}",
            stacklevel=4,
        )


def _threads(asked: int) -> int:
    """Return how many threads are meant; see `SevenfoldClassifier`."""
    import joblib

    if asked:
        return asked
    cores = int(joblib.cpu_count())
    bound = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(cores, int(bound)) if bound.isdecimal() and int(bound) else cores


@lru_cache(maxsize=_KEPT)
def _opened(model: bytes, classes: tuple[str, ...], side: int) -> Predictor:
    """Open a fitted graph; outside the estimator, which pickles."""
    bundle = bundles.held(model, classes, side)
    return Predictor(bundle, 1, bundles.open_session(bundle, 1))
