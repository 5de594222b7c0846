"""The scikit-learn estimator: what it is given, what it answers, and what it works in."""

import hashlib
import pickle
import subprocess
import sys
from functools import partial

import joblib
import numpy as np
import onnx
import pytest
import scipy.sparse
import sklearn.exceptions
import torch
from onnx import numpy_helper
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data
from starlette.testclient import TestClient

from sevenfold import SevenfoldClassifier, cli, estimator, export, image, load, loop, serve, train
from sevenfold.errors import InputError, ResourceError, UsageError
from sevenfold.features import trunk

SETTINGS = (
    "transfer.backbone=resnet20",
    "transfer.weights=random",
    "transfer.trainable_blocks=0",
    "batch=8",
    "views=1",
    "optimization.rate=0.3",
)
REAL = export.core


def exported(memo, shipped, side):
    """Export a network whose trunk was exported before by putting its head into that graph."""
    state = shipped.network.state_dict()
    digest = hashlib.blake2b(f"{side} {shipped.mirror}".encode())
    for name, held in state.items():
        digest.update(f"{name}{tuple(held.shape)}".encode())
        digest.update(b"" if name.startswith("head.") else held.numpy().tobytes())
    if digest.digest() not in memo:
        memo[digest.digest()] = REAL(shipped, side).SerializeToString()
    graph = onnx.load_from_string(memo[digest.digest()])
    for name in ("head.weight", "head.bias"):
        (held,) = (one for one in graph.graph.initializer if one.name == f"network.{name}")
        held.CopyFrom(numpy_helper.from_array(state[name].numpy(), held.name))
    return graph


@pytest.fixture(scope="module")
def graphs():
    return {}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    return tmp_path_factory.mktemp("stores")


@pytest.fixture
def quick(graphs, monkeypatch):
    """Export each frozen trunk once; the gate holds each graph against its own network."""
    real = trunk._exported

    def once(frozen, side, name):
        if name not in graphs:
            graphs[name] = real(frozen, side, name)
        return graphs[name]

    monkeypatch.setattr(trunk, "_exported", once)
    monkeypatch.setattr(export, "core", partial(exported, graphs))


@pytest.fixture
def small(quick, stores):
    """Make a small estimator that trains the head of a random network."""
    return partial(
        SevenfoldClassifier,
        side=16,
        epochs=20,
        settings=SETTINGS,
        validation_fraction=0.25,
        cache=stores,
        device="cpu",
        threads=1,
    )


@pytest.fixture
def splits(monkeypatch):
    """Note every split that is trained on."""
    seen = []
    real = train.fit

    def fit(recipe, split, **rest):
        seen.append(split)
        return real(recipe, split, **rest)

    monkeypatch.setattr(train, "fit", fit)
    return seen


def lit(count=24, kinds=("day", "night"), start=0):
    """Make up pictures that their brightness tells apart."""
    draw = np.random.default_rng(start)
    which = np.arange(count) % len(kinds)
    base = 20 + 180 * which / (len(kinds) - 1)
    pixels = draw.integers(0, 50, (count, 16, 16, 3)) + base[:, None, None, None]
    return pixels.astype(np.uint8), np.array(kinds)[which]


X, Y = lit()
NEW, TRUE = lit(12, start=1)


def test_it_learns_by_the_real_export_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    threads = torch.get_num_threads()
    model = SevenfoldClassifier(
        side=16, epochs=20, settings=SETTINGS, validation_fraction=0.25, threads=1, device="cpu"
    )
    before = dict(vars(model))
    assert model.fit(X, Y) is model
    assert {name: held for name, held in vars(model).items() if name in before} == before
    assert all(name.endswith("_") or name == "_side" for name in set(vars(model)) - set(before))
    assert model.score(NEW, TRUE) == 1.0
    shares = model.predict_proba(NEW)
    assert (shares.shape, shares.dtype) == ((12, 2), np.float64)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert list(model.classes_) == ["day", "night"]
    assert "side = 16" in model.recipe_
    left = [path for path in tmp_path.iterdir() if path.name.startswith("tmp")]
    assert left == []  # neither stores nor checkpoints
    assert torch.get_num_threads() == threads


def test_all_kinds_of_pictures_are_the_same_picture(small, tmp_path):
    model = small().fit(list(X), Y)
    expected = model.predict_proba(NEW)
    paths = []
    for at, pixels in enumerate(NEW):
        Image.fromarray(pixels).save(tmp_path / f"{at}.png")
        paths.append(tmp_path / f"{at}.png")
    for same in (list(NEW), paths, np.array([str(one) for one in paths])):
        np.testing.assert_array_equal(model.predict_proba(same), expected)
    opened = [Image.open(path) for path in paths]
    np.testing.assert_array_equal(model.predict_proba(opened), expected)
    grey = model.predict_proba(NEW[..., 0])
    np.testing.assert_array_equal(grey, model.predict_proba(np.repeat(NEW[..., :1], 3, axis=3)))


@pytest.mark.parametrize("kinds", [(10, 9, 2), ("10", "9", "2"), (True, False), ("no", "yes")])
def test_labels_come_back_as_what_they_are(small, kinds):
    pictures, labels = lit(30, kinds)
    model = small().fit(pictures, labels)
    assert list(model.classes_) == sorted(kinds)
    assert model.classes_.dtype == labels.dtype
    right = model.predict(pictures) == labels
    assert right.mean() > 0.9  # columns in the order of the classes, whatever texts sort like
    np.testing.assert_array_equal(
        model.predict(pictures), model.classes_[model.predict_proba(pictures).argmax(axis=1)]
    )


def test_a_seed_gives_the_same_graph_and_another_does_not(small):
    one, same, other = (small(random_state=seed).fit(X, Y) for seed in (0, 0, 1))
    assert one.model_ == same.model_ != other.model_


def test_a_generator_or_none_draws_the_seed():
    drawn = [estimator._seed(np.random.RandomState(5)) for _ in range(2)]
    assert drawn[0] == drawn[1] != estimator._seed(np.random.RandomState(6))
    assert estimator._seed(np.int64(7)) == 7
    drawn = [estimator._seed(np.random.default_rng(5)) for _ in range(2)]
    assert drawn[0] == drawn[1] != estimator._seed(np.random.default_rng(6))
    model = clone(SevenfoldClassifier(random_state=np.random.default_rng(5)))
    assert estimator._seed(model.random_state) == drawn[0]
    assert estimator._seed(None) != estimator._seed(None)


def test_the_objective_is_a_parameter(small):
    model = clone(small(objective="balanced_accuracy"))
    assert model.get_params()["objective"] == "balanced_accuracy"
    assert 'objective = "balanced_accuracy"' in model.fit(X, Y).recipe_
    assert 'objective = "accuracy"' in small().fit(X, Y).recipe_  # of even classes


@pytest.mark.parametrize(
    ("named", "setting"),
    [
        ({"side": 16}, "side=16"),
        ({"epochs": 2}, " epochs = 3"),
        ({"objective": "accuracy"}, "objective=balanced_accuracy"),
    ],
)
def test_what_is_given_twice_is_refused(named, setting):
    (name,) = named
    with pytest.raises(UsageError, match=f"{name} is given twice"):
        SevenfoldClassifier(settings=("batch=8", setting), **named).fit(X, Y)


def test_settings_may_name_what_no_parameter_does():
    settings = ("side=32", "epochs=3", "objective=accuracy")
    recipe = estimator._recipe("quick", estimator._AS_IN_BUDGET, settings)
    assert (recipe.side, recipe.epochs, recipe.objective) == (32, 3, "accuracy")


@pytest.mark.parametrize(
    ("bound", "threads"), [("", 3), ("2", 2), ("2,1", 2), ("8", 3), ("0", 3), ("two", 3)]
)
def test_no_number_of_threads_is_one_for_each_core_within_the_bound(bound, threads, monkeypatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 3)
    monkeypatch.setenv("OMP_NUM_THREADS", bound)
    assert estimator._threads(0) == threads
    assert estimator._threads(5) == 5


def test_training_and_answers_take_the_same_threads(small, monkeypatch):
    seen = []
    real = (train.fit, estimator.ThreadPoolExecutor)

    def fit(*given, place, **rest):
        seen.append(place.threads)
        return real[0](*given, place=place, **rest)

    def pool(threads):
        seen.append(threads)
        return real[1](threads)

    monkeypatch.setattr(joblib, "cpu_count", lambda: 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(train, "fit", fit)
    monkeypatch.setattr(estimator, "ThreadPoolExecutor", pool)
    small(threads=0).fit(X, Y).predict(NEW)
    assert seen == [2, 2]


def test_few_pictures_are_judged_by_folds_unless_a_share_is_named(small, splits):
    assert small(validation_fraction=None).fit(X, Y).score(NEW, TRUE) == 1.0
    small().fit(X, Y)
    assert [len(split.val) for split in splits] == [0, 6]
    assert [len(split.train) for split in splits] == [24, 18]
    assert not any(len(split.test) for split in splits)


def test_a_fitted_one_pickles_without_torch_or_stores(small, tmp_path):
    model = small(cache=None).fit(X, Y)
    path = tmp_path / "model.joblib"
    joblib.dump(model, path)
    np.save(tmp_path / "new.npy", NEW)
    code = (
        "import sys, joblib, numpy as np\n"
        f"model = joblib.load({str(path)!r})\n"
        f"shares = model.predict_proba(np.load({str(tmp_path / 'new.npy')!r}))\n"
        f"np.save({str(tmp_path / 'shares.npy')!r}, shares)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "shares.npy"), model.predict_proba(NEW))
    held = {name: type(value) for name, value in vars(model).items() if name.endswith("_")}
    assert held["model_"] is bytes
    assert len(pickle.dumps(model)) < len(model.model_) + 10_000


def test_what_is_saved_answers_as_it_does_and_by_the_commands(small, tmp_path, capsys):
    pictures, labels = lit()
    model = small().fit(pictures, labels)
    folder = tmp_path / "new" / "bundle"
    model.save(folder)
    Image.fromarray(pictures[0]).save(photo := tmp_path / "photo.png")
    answer = load(folder).answer(photo)
    shares = dict(zip(model.classes_, model.predict_proba(pictures[:1])[0], strict=True))
    assert answer.probability == pytest.approx(shares[answer.label], abs=1e-6)
    assert answer.label == max(shares, key=shares.get)
    for words in (["predict", str(folder), str(photo)], ["bench", str(folder)]):
        assert cli.main(words) == 0, capsys.readouterr().err
    application = serve.application(load(folder, threads=1), serve.Settings())
    with TestClient(application, base_url="http://127.0.0.1:8000") as client:
        reply = client.post("/predict", content=photo.read_bytes())
    assert reply.json()["label"] == answer.label
    with pytest.raises(UsageError, match="holds other files"):
        model.save(folder)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        small().save(tmp_path / "other")


def test_what_serves_never_imports_scikit_learn():
    code = (
        "import sys, sevenfold, sevenfold.predict, sevenfold.serve\n"
        "assert not {'sklearn', 'torch'} & set(sys.modules)\n"
        "assert 'SevenfoldClassifier' in dir(sevenfold)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_works_in_cross_val_score(small):
    scores = cross_val_score(small(), X, Y, cv=2, error_score="raise")
    assert list(scores) == [1.0, 1.0]


def test_it_works_in_a_grid_search(small):
    grid = {"epochs": [1, 20], "settings": [SETTINGS, (*SETTINGS, "optimization.smoothing=0.1")]}
    search = GridSearchCV(small(), grid, cv=2, error_score="raise").fit(list(X), Y)
    assert len(search.cv_results_["params"]) == 4
    assert search.best_score_ == 1.0
    assert search.predict(NEW).tolist() == TRUE.tolist()


class Inverse(TransformerMixin, BaseEstimator):
    """Turn light into dark, before what is trained."""

    def fit(self, X, y=None):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def transform(self, X):
        return 255 - np.asarray(X)


def test_it_works_in_a_pipeline(small):
    line = make_pipeline(Inverse(), small()).fit(X, Y)
    assert line.score(NEW, TRUE) == 1.0
    assert line.set_params(sevenfoldclassifier__epochs=3)[-1].epochs == 3
    assert line[-1].score(255 - NEW, TRUE) == 1.0


@pytest.mark.parametrize("ensemble", [True, False])
def test_it_works_in_a_calibration(small, ensemble):
    model = CalibratedClassifierCV(small(), cv=2, ensemble=ensemble).fit(list(X), Y)
    assert len(model.calibrated_classifiers_) == (2 if ensemble else 1)
    shares = model.predict_proba(list(NEW))
    assert (model.classes_[shares.argmax(axis=1)] == TRUE).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_groups_never_part_between_training_and_validation(small, splits):
    groups = np.arange(len(X)) // 4
    small().fit(X, Y, groups=groups)
    (split,) = splits
    assert len(split.val)
    sites = [
        {split.dataset.groups[at] for at in part.tolist()} for part in (split.train, split.val)
    ]
    assert not sites[0] & sites[1]
    assert len(list(GroupKFold(2).split(X, Y, groups))) == 2


def test_pictures_that_are_left_out_are_said(small):
    twice = np.concatenate([X, X[:1]])
    with pytest.warns(UserWarning, match="2 pictures are left out .* conflicting labels"):
        small().fit(twice, [*Y, "night"])


def test_predict_refuses_what_is_no_picture(small, tmp_path):
    model = small().fit(X, Y)
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(InputError, match=r"text\.jpg: not a readable JPEG"):
        model.predict([tmp_path / "text.jpg"])
    with pytest.raises(ValueError, match="X is one picture"):
        model.predict(NEW[0])
    with pytest.raises(sklearn.exceptions.NotFittedError):
        small().predict(NEW)


def test_what_cannot_be_had_is_refused_before_any_work(small):
    for settings, error in (
        ({"budget": "fast"}, UsageError),
        ({"side": 4}, UsageError),
        ({"validation_fraction": 0.0}, UsageError),
        ({"objective": "recall"}, UsageError),
        ({"objective": None}, UsageError),
        ({"device": "mps"}, ResourceError),
    ):
        with pytest.raises(error):
            small(**settings).fit(X, Y)
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        small().fit(X, np.linspace(0, 1, len(X)))
    with pytest.raises(InputError, match="X is 24 x 24, which is no list"):
        small().fit(scipy.sparse.eye_array(len(X), format="csr"), Y)
    with pytest.raises(ValueError, match="NaN"):
        small().fit(X, [np.nan, *np.ones(len(X) - 1)])


def test_a_training_that_diverged_is_not_blamed_on_the_pictures(small, monkeypatch):
    real = loop.cross_entropy
    monkeypatch.setattr(loop, "cross_entropy", lambda *given: real(*given) * float("inf"))
    with pytest.raises(UsageError, match=r"the training diverged at the rate 0\.3") as caught:
        small().fit(X, Y)
    assert not isinstance(caught.value, InputError)


def test_parameters_stay_untouched_and_are_cloned():
    settings = ["side=32"]
    model = SevenfoldClassifier("normal", settings=settings, epochs=2)
    assert model.settings is settings
    assert clone(model).get_params() == model.get_params()
    assert model.get_params()["budget"] == "normal"


def test_its_tags_say_pictures():
    tags = get_tags(SevenfoldClassifier())
    assert tags.estimator_type == "classifier"
    assert tags.target_tags.required
    assert not tags.input_tags.two_d_array
    assert tags.input_tags.one_d_array
    assert tags.input_tags.three_d_array
    assert tags.input_tags.string
    with pytest.raises(sklearn.exceptions.NotFittedError):
        check_is_fitted(SevenfoldClassifier())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_itself_finds_nothing_wrong():
    assert estimator_checks.check_estimator(SevenfoldClassifier(), on_skip=None)


# What scikit-learn does not ask of estimators of pictures, but holds for them too: these
# checks never get so far as to train on their tables.
OF_ANY = (
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_estimators_unfitted",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
    "check_fit1d",
    "check_requires_y_none",
    "check_classifiers_regression_target",
)


@pytest.mark.parametrize("name", OF_ANY)
def test_an_api_check_that_needs_no_table_passes(name):
    getattr(estimator_checks, name)("SevenfoldClassifier", SevenfoldClassifier())


class Drawn(TransformerMixin, BaseEstimator):
    """Draw the numbers of a row as stripes, so that checks which know tables reach pictures."""

    def fit(self, X, y=None):
        X = validate_data(self, X, dtype=np.float64)
        self.low_, self.high_ = X.min(axis=0), X.max(axis=0)
        return self

    def transform(self, X):
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        shares = (X - self.low_) / np.maximum(self.high_ - self.low_, 1e-9)
        stripes = np.round(255 * np.clip(shares, 0, 1)).astype(np.uint8)
        return np.repeat(np.repeat(stripes[:, None, :], 16, axis=1), 8, axis=2)


class Hasty(SevenfoldClassifier):
    """Say that one epoch over a random trunk answers poorly; all else is checked."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True
        return tags


TABLES = make_pipeline(
    Drawn(),
    Hasty(
        side=16,
        epochs=1,
        settings=SETTINGS,
        validation_fraction=0.25,
        device="cpu",
        threads=1,
    ),
)
FAIL = {
    "check_dont_overwrite_parameters": "a Pipeline keeps its fitted steps in `steps`",
    "check_estimators_overwrite_params": "a Pipeline keeps its fitted steps in `steps`",
    "check_fit2d_1feature": "its third class has 3 pictures, and 5 are the fewest of a class",
}


@parametrize_with_checks([TABLES], expected_failed_checks=lambda _: FAIL)
def test_scikit_learn_finds_nothing_wrong_with_tables_drawn_as_pictures(estimator, check, quick):
    check(estimator)


def test_an_orientation_in_the_file_counts(small, tmp_path):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    model = small().fit(X, Y)
    with Image.open(tmp_path / "turned.png") as opened:
        shares = model.predict_proba([tmp_path / "turned.png", opened, pixels[::-1, ::-1]])
    np.testing.assert_array_equal(shares[0], shares[1])
    np.testing.assert_array_equal(shares[0], shares[2])
    assert image.decode((tmp_path / "turned.png").read_bytes(), name="t")[0, 0, 0] == 0


@pytest.mark.parametrize("given", [{"y": []}, {"y": ["a", "b"], "groups": []}])
def test_labels_and_groups_are_as_many_as_pictures(given):
    pictures = [np.zeros((8, 8, 3), np.uint8)] * 2
    with pytest.raises(InputError, match="there are 2 pictures and 0"):
        SevenfoldClassifier().fit(pictures, **given)
