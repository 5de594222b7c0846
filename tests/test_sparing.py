"""The label check before training, and views of rare classes chosen by measurement."""

import hashlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import photos
from sevenfold import data, nets
from sevenfold.errors import UsageError
from sevenfold.features.pixels import Pixels, ingest
from sevenfold.place import Place
from sevenfold.practices import augmentation
from sevenfold.practices.augmentation import Augmentation
from sevenfold.practices.imbalance import Imbalance
from sevenfold.progress import silent
from sevenfold.recipe import Recipe
from sevenfold.train import refusals, sparing, stronger
from sevenfold.train.bench import Bench

SIDE = 24
ARROWS = replace(Augmentation.off, flip=0.5, crop=0.8, label_check="risky")


THREE = {"left": 24, "right": 24, "disc": 24}


def split_of(folder: Path, counts: dict[str, int]) -> data.Split:
    """Write arrows to both sides, and discs, and split them."""
    random = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            picture = np.full((SIDE, SIDE, 3), random.integers(20, 60), np.uint8)
            x, y = (int(place) for place in random.integers(-1, 2, 2) + SIDE // 2)
            shade = [int(random.integers(180, 250))] * 3
            if name == "disc":
                cv2.circle(picture, (x, y), 7, shade, -1)
            else:
                cv2.arrowedLine(picture, (x - 8, y), (x + 8, y), shade, 3, tipLength=0.6)
            shown = picture[:, ::-1] if name == "left" else picture
            cv2.imwrite(str(folder / name / f"{number}.png"), shown)
    return read(folder)


def read(folder: Path) -> data.Split:
    dataset = data.read(
        str(folder),
        columns={},
        group_by="",
        fingerprints=lambda listing: ingest(
            listing, pixels=Pixels(SIDE), threads=1, progress=silent
        ),
    )
    return data.split(dataset)


class Coarse(torch.nn.Module):
    """See a picture as an 8 x 8 grid, each place of it a channel."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        grid = torch.nn.functional.adaptive_avg_pool2d(pixels.mean(1, keepdim=True), 8)
        return grid.flatten(1)[:, :, None, None] / 255


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a simple trunk in the place of the pretrained one, whose test is among the slow ones."""
    behind(Coarse(), monkeypatch)


def behind(block: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    trunk = nets.Trunk(torch.nn.Identity(), torch.nn.Sequential(block))
    monkeypatch.setattr(sparing, "_trunk", lambda recipe, split: trunk)


@pytest.fixture
def seen(tmp_path: Path, coarse: None) -> data.Split:
    return split_of(tmp_path / "photos", THREE)


def spared(recipe: Recipe, split: data.Split) -> tuple[Recipe, sparing.Spared]:
    return sparing.check_labels(recipe, split, split.train, Place("cpu", 1), Pixels(SIDE), silent)


def test_the_flip_is_left_out_for_arrows_alone(seen: data.Split) -> None:
    recipe = Recipe(side=SIDE, augmentation=ARROWS)
    made, found = spared(recipe, seen)
    assert dict(made.augmentation.class_off) == {"left": "flip", "right": "flip"}
    assert {(one.operation, one.label) for one in found.flagged} == {
        ("flip", "left"),
        ("flip", "right"),
    }
    assert found.operations == ("flip",)  # a mild crop is not looked at
    assert found.accuracy > 0.9
    assert found.pictures <= len(seen.train)
    assert replace(made, augmentation=ARROWS) == recipe


class Tokens(Coarse):
    """Give a transformer's rows: tokens of as many channels, each the same."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return super().forward(pixels)[:, None, :, 0, 0].expand(-1, 5, -1)


def test_a_trunk_that_gives_tokens_is_looked_at_alike(
    seen: data.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(side=SIDE, augmentation=ARROWS)
    maps = spared(recipe, seen)[1]
    behind(Tokens(), monkeypatch)
    assert {(one.operation, one.label) for one in spared(recipe, seen)[1].flagged} == {
        (one.operation, one.label) for one in maps.flagged
    }


class Grid(torch.nn.Module):
    """See a picture as one channel of 8 x 8 places, whose mean a mirror image leaves as it is."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(pixels.mean(1, keepdim=True), 8) / 255


def test_a_flip_that_only_moves_what_channels_see_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind(Grid(), monkeypatch)
    split = split_of(tmp_path / "photos", {"left": 24, "right": 24})
    made, found = spared(Recipe(side=SIDE, augmentation=ARROWS), split)
    assert dict(made.augmentation.class_off) == {"left": "flip", "right": "flip"}
    assert found.accuracy > 0.9


@pytest.mark.parametrize("shape", [(5, 3, 4), (5, 1, 1), (5, 8, 8)])
def test_quarters_change_places_in_a_mirror(shape: tuple[int, int, int]) -> None:
    maps = np.random.default_rng(0).random(shape)
    quarters, mirrored = (
        sparing._quarters(one).reshape(2, 2, 5) for one in (maps, maps[:, :, ::-1])
    )
    np.testing.assert_allclose(mirrored, quarters[:, ::-1])
    np.testing.assert_allclose(
        quarters[0, 0], maps[:, : -(-shape[1] // 2), : -(-shape[2] // 2)].mean((1, 2))
    )
    np.testing.assert_allclose(sparing._quarters(maps[:, 0]), maps[:, 0].mean(0))


@pytest.mark.parametrize("classes", [2, 10, 19, 100, 200])
def test_two_classes_that_change_places_are_told_among_many(classes: int) -> None:
    labels = np.repeat(np.arange(classes), 40)
    names = tuple(f"class {label}" for label in range(classes))
    hashes = [
        hashlib.blake2b(f"{at}".encode(), digest_size=16).hexdigest() for at in range(40 * classes)
    ]
    split: Any = SimpleNamespace(
        dataset=SimpleNamespace(hashes=hashes, labels=labels, classes=names)
    )
    own = labels[sparing._some(split, np.arange(len(labels)))]
    answers = iter([np.eye(classes)[own], np.eye(classes)[np.where(own < 2, 1 - own, own)]])
    looked_at = augmentation.looked_at(ARROWS, names)
    findings = augmentation.judge(lambda _: next(answers), looked_at, own, names)
    assert [one.label for one in findings if one.verdict == augmentation.CHANGES] == [*names[:2]]
    assert augmentation.unjudged(findings) == ()


def test_more_classes_than_can_be_judged_are_not_looked_at(
    seen: data.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparing, "AT_MOST", 20)  # three classes need 7 pictures each
    recipe = Recipe(side=SIDE, augmentation=ARROWS)
    made, found = spared(recipe, seen)
    assert made == recipe
    assert "too few to judge 3 classes that need 7 each" in found.reason


def turned(found: sparing.Spared) -> set[str]:
    return {one.label for one in found.findings if one.operation == "rotation_degrees"}


def test_a_class_is_looked_at_as_far_as_it_goes(seen: data.Split) -> None:
    settings = replace(ARROWS, rotation_degrees=30.0)
    assert turned(spared(Recipe(side=SIDE, augmentation=settings), seen)[1]) == set()
    own = replace(settings, class_strength={"left": 1.5, "disc": 1.4})
    assert turned(spared(Recipe(side=SIDE, augmentation=own), seen)[1]) == {"left"}


def test_a_rare_class_is_looked_at_as_strong_as_it_may_be_shown(
    tmp_path: Path, coarse: None
) -> None:
    split = split_of(tmp_path / "photos", {"left": 12, "right": 30, "disc": 30})
    settings = replace(ARROWS, rotation_degrees=30.0, for_rare="auto")
    made, found = spared(Recipe(side=SIDE, augmentation=settings), split)
    assert turned(found) == {"left"}
    assert made.augmentation.class_strength == {}
    assert made.augmentation.for_rare == "auto"


def test_a_class_of_few_pictures_is_no_pass(tmp_path: Path, coarse: None) -> None:
    split = split_of(tmp_path / "photos", {"left": 24, "right": 24, "disc": 6})
    found = spared(Recipe(side=SIDE, augmentation=ARROWS), split)[1]
    assert (found.unjudged, found.classes) == (("disc",), 3)
    assert {one.label for one in found.flagged} == {"left", "right"}


def test_colours_of_grey_pictures_are_refused_where_they_were_asked_for(
    seen: data.Split, tmp_path: Path
) -> None:
    asked = Recipe(side=SIDE, augmentation=Augmentation(hue=0.1, label_check="off"))
    with pytest.raises(
        UsageError, match=r"hue = 0\.1 does nothing with pictures that are all grey"
    ):
        spared(asked, seen)
    default = Recipe(side=SIDE, augmentation=Augmentation(label_check="off"))
    assert spared(default, seen) == (default, sparing.NOT_LOOKED)
    coloured = read(photos.write(tmp_path / "discs", {"blue": 12, "red": 12}))
    assert spared(asked, coloured) == (asked, sparing.NOT_LOOKED)


def test_a_network_that_is_trained_as_a_whole_is_looked_at_as_well(seen: data.Split) -> None:
    recipe = Recipe(side=SIDE, augmentation=ARROWS)
    whole = replace(recipe, transfer=replace(recipe.transfer, trainable_blocks=1000))
    assert spared(whole, seen)[1] == spared(recipe, seen)[1]


def test_it_is_the_same_with_any_number_of_threads_and_from_the_store(seen: data.Split) -> None:
    recipe = Recipe(side=SIDE, augmentation=replace(ARROWS, label_check="all"))
    first = spared(recipe, seen)
    again = sparing.check_labels(recipe, seen, seen.train, Place("cpu", 2), Pixels(SIDE), silent)
    assert first == again
    assert set(first[1].operations) == {"flip", "crop"}


def test_who_insists_keeps_the_flip_and_is_told(seen: data.Split) -> None:
    recipe = Recipe(side=SIDE, augmentation=replace(ARROWS, insist=True))
    made, found = spared(recipe, seen)
    assert made == recipe
    assert found.insisted
    assert len(found.flagged) == 2


@pytest.mark.parametrize(
    ("augmentation", "weights", "reason"),
    [
        (replace(ARROWS, label_check="off"), "packaged", ""),
        (replace(ARROWS, flip=0.0), "packaged", ""),
        (ARROWS, "random", "clean model"),
    ],
)
def test_nothing_is_looked_at(
    seen: data.Split, augmentation: Augmentation, weights: str, reason: str
) -> None:
    recipe = Recipe(side=SIDE, augmentation=augmentation)
    recipe = replace(recipe, transfer=replace(recipe.transfer, weights=weights))
    made, found = spared(recipe, seen)
    assert made == recipe
    assert found.operations == ()
    assert reason in found.reason
    assert bool(found.reason) == bool(reason)


def test_rare_classes_are_those_with_less_than_two_thirds_of_the_mean() -> None:
    assert stronger.rare(np.array([1000, 50])).tolist() == [1]
    assert stronger.rare(np.array([30, 20])).tolist() == []
    assert stronger.rare(np.array([7, 7, 7])).tolist() == []


def bench_of(counts: dict[str, int], recipe: Recipe) -> Any:
    labels = np.repeat(np.arange(len(counts)), list(counts.values()))
    dataset = SimpleNamespace(classes=tuple(counts), labels=labels)

    pictures = np.arange(len(labels))
    split = SimpleNamespace(dataset=dataset, val=pictures, train=pictures)
    views = SimpleNamespace(count=recipe.views)
    made: Any = Bench(recipe, split, pictures, views, views, Place(), Path("runs"), silent)  # type: ignore[arg-type]
    return made


def chosen(
    monkeypatch: pytest.MonkeyPatch, right: dict[tuple[float, int], float], recipe: Recipe
) -> tuple[Any, tuple[stronger.Look, ...]]:
    """Let each way answer a share of the rare class rightly."""
    bench = bench_of({"common": 100, "rare": 20}, recipe)

    def on_labels(tried: Any, rate: float, seed: int) -> Any:
        settings = tried.recipe.augmentation
        way = settings.class_strength.get("rare", 1.0), settings.class_views.get("rare", 1)
        answers = bench.labels.copy()
        places = np.flatnonzero(answers == 1)
        answers[places[round(right[way] * len(places)) :]] = 0
        return SimpleNamespace(logits=np.eye(2)[answers])

    monkeypatch.setattr(stronger, "on_labels", on_labels)
    monkeypatch.setattr(
        stronger,
        "another",
        lambda of, recipe, pixels, seed, folder: replace(of, recipe=recipe, folder=folder),
    )
    nothing: Any = None
    return stronger.choose_views(bench, 0.1, 0, nothing)


AUTO = Recipe(
    objective="balanced_accuracy", epochs=6, views=6, augmentation=Augmentation(for_rare="auto")
)


def test_stronger_views_are_taken_where_they_help(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, looks = chosen(monkeypatch, {(1.0, 1): 0.5, (1.5, 1): 0.9}, AUTO)
    assert dict(bench.recipe.augmentation.class_strength) == {"rare": 1.5}
    assert bench.recipe.augmentation.for_rare == "alike"
    assert bench.folder != Path("runs")
    assert [(one.strength, one.views, one.chosen) for one in looks] == [
        (1.0, 1, False),
        (1.5, 1, True),
    ]
    assert looks[1].score - looks[0].score == pytest.approx(0.2)


@pytest.mark.parametrize("share", [0.4, 0.5, 0.55])
def test_they_are_switched_off_within_one_standard_error(
    monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    bench, looks = chosen(monkeypatch, {(1.0, 1): 0.5, (1.5, 1): share}, AUTO)
    assert bench.recipe.augmentation == replace(AUTO.augmentation, for_rare="alike")
    assert bench.folder == Path("runs")
    assert [one.chosen for one in looks] == [True, False]


def test_more_views_are_tried_first_where_a_training_comes_back_to_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = replace(AUTO, epochs=12)
    bench, looks = chosen(monkeypatch, {(1.0, 1): 0.4, (1.0, 2): 0.9, (1.5, 2): 0.9}, recipe)
    assert [(one.strength, one.views) for one in looks] == [(1.0, 1), (1.0, 2), (1.5, 2)]
    assert dict(bench.recipe.augmentation.class_views) == {"rare": 2}
    assert dict(bench.recipe.augmentation.class_strength) == {}


def test_nothing_is_tried_where_no_class_is_rare_or_nobody_asked() -> None:
    nothing: Any = None
    even = bench_of({"a": 20, "b": 20}, AUTO)
    bench, looks = stronger.choose_views(even, 0.1, 0, nothing)
    assert (bench.recipe.augmentation.for_rare, looks) == ("alike", ())
    asked = bench_of({"a": 90, "b": 20}, replace(AUTO, augmentation=Augmentation()))
    assert stronger.choose_views(asked, 0.1, 0, nothing) == (asked, ())


@pytest.mark.parametrize(
    "settings",
    [
        Augmentation(for_rare="auto", class_strength={"a": 2.0}),
        replace(Augmentation.off, for_rare="auto", mixup=0.2),
    ],
)
def test_what_is_given_or_cannot_be_stronger_is_left_alone(settings: Augmentation) -> None:
    nothing: Any = None
    bench = bench_of({"a": 90, "b": 20}, replace(AUTO, augmentation=settings))
    found, looks = stronger.choose_views(bench, 0.1, 0, nothing)
    assert (found.recipe.augmentation, looks) == (replace(settings, for_rare="alike"), ())


@pytest.mark.parametrize(
    ("frozen", "told"), [(False, "views never end"), (True, "6 epochs show 6")]
)
def test_views_that_would_not_be_seen_are_refused(frozen: bool, told: str) -> None:
    recipe = replace(AUTO, augmentation=Augmentation(class_views={"a": 2}))
    with pytest.raises(UsageError, match=told):
        refusals.refuse_views(recipe, frozen=frozen)


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        (replace(AUTO, imbalance=replace(AUTO.imbalance, method="oversampling")), "20"),
        (
            replace(AUTO, objective="accuracy", imbalance=Imbalance(price=0.02)),
            "0.02 does nothing where accuracy",
        ),
        (
            replace(AUTO, augmentation=Augmentation.off, imbalance=Imbalance("augmentation")),
            "the same picture each time",
        ),
    ],
)
def test_what_the_data_leaves_without_effect_is_refused(recipe: Recipe, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        refusals.refuse_idle(recipe, np.array([20, 20]))


def test_what_acts_is_not_refused() -> None:
    more = replace(AUTO, epochs=12, augmentation=Augmentation(class_views={"a": 2}))
    refusals.refuse_views(more, frozen=True)
    refusals.refuse_idle(more, np.array([30, 20]))
    refusals.refuse_idle(AUTO, np.array([20, 20]))


def test_what_the_check_saw_does_not_outlive_the_code_that_drew_it(monkeypatch) -> None:
    operation = augmentation.UNTOUCHED
    before = sparing._viewer(operation, 32).key
    monkeypatch.setattr(augmentation, "CODE", "of the next release")
    assert sparing._viewer(operation, 32).key != before
