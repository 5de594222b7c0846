from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.stats import binomtest, hypergeom

from sevenfold.practices.augmentation import (
    OPERATIONS,
    UNTOUCHED,
    Augmentation,
    Finding,
    Operation,
    by_class,
    check,
    excluding,
    for_class,
    judge,
    looked_at,
    needed,
    operations,
    unjudged,
)
from sevenfold.practices.augmentation.label_check import _gathered, _upper

OFF = Augmentation.off
SIDE = 24
MILD = Augmentation(
    flip_vertical=0.5,
    quarter_turns=True,
    rotation_degrees=15,
    crop=0.8,
    translation=0.05,
    hue=0.05,
    blur=0.2,
    noise=0.2,
    erasing=0.2,
    erasing_area=0.1,
)

WILD = replace(MILD, policy="trivial")

Answer = Callable[[np.ndarray], np.ndarray]


def canvas(random: np.random.Generator) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), random.integers(20, 60), np.uint8)


def arrow(turns: int) -> Callable[[np.random.Generator], np.ndarray]:
    def draw(random: np.random.Generator) -> np.ndarray:
        x, y = random.integers(-1, 2, 2) + SIDE // 2
        picture = canvas(random)
        shade = [int(random.integers(180, 250))] * 3
        cv2.arrowedLine(picture, (x - 8, y), (x + 8, y), shade, 3, tipLength=0.6)
        return np.rot90(picture, turns)

    return draw


def digit(text: str) -> Callable[[np.random.Generator], np.ndarray]:
    glyph = np.zeros((40, 40), np.uint8)
    shown = "6" if text == "9" else text
    cv2.putText(glyph, shown, (10, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2)
    x, y, width, height = cv2.boundingRect(glyph)
    glyph = glyph[y : y + height, x : x + width]
    if text == "9":
        glyph = np.rot90(glyph, 2)  # as in most typefaces

    def draw(random: np.random.Generator) -> np.ndarray:
        picture = canvas(random)
        left = (SIDE - width) // 2 + int(random.integers(-1, 2))
        top = (SIDE - height) // 2 + int(random.integers(-1, 2))
        picture[top : top + height, left : left + width][glyph > 99] = random.integers(180, 250)
        return picture

    return draw


def plate(channel: int) -> Callable[[np.random.Generator], np.ndarray]:
    def draw(random: np.random.Generator) -> np.ndarray:
        picture = canvas(random)
        colour = random.integers(50, 80, 3)
        colour[channel] = random.integers(170, 220)
        cv2.circle(picture, (12, 12), int(random.integers(7, 10)), colour.tolist(), -1)
        return picture

    return draw


def shape(number: int) -> Callable[[np.random.Generator], np.ndarray]:
    """Draw what looks alike from all sides and in all colours."""

    def draw(random: np.random.Generator) -> np.ndarray:
        picture = canvas(random)
        shade = random.integers(150, 250, 3).tolist()
        x, y = (int(place) for place in random.integers(-1, 2, 2) + SIDE // 2)
        if number < 2:
            cv2.circle(picture, (x, y), (3, 9)[number], shade, -1)
        elif number == 2:
            cv2.circle(picture, (x, y), 8, shade, 2)
        else:
            for across in (x - 6, x + 6):
                for down in (y - 6, y + 6):
                    cv2.circle(picture, (across, down), 2, shade, -1)
        return picture

    return draw


ARROWS = {name: arrow(turns) for turns, name in enumerate(("right", "up", "left", "down"))}
DIGITS = {name: digit(name) for name in "6908"}
PLATES = {name: plate(channel) for channel, name in enumerate(("red", "green", "blue"))}
SHAPES = {f"shape {number}": shape(number) for number in range(4)}


def drawn(
    kinds: dict[str, Callable[[np.random.Generator], np.ndarray]], each: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    pictures = [draw(random) for draw in kinds.values() for _ in range(each)]
    return np.stack(pictures), np.repeat(np.arange(len(kinds)), each)


def nearest_centroid(pictures: np.ndarray, labels: np.ndarray) -> Answer:
    flat = pictures.reshape(len(pictures), -1).astype(float)
    centroids = np.stack([flat[labels == label].mean(axis=0) for label in np.unique(labels)])

    def answer(views: np.ndarray) -> np.ndarray:
        apart = views.reshape(len(views), 1, -1) - centroids[None]
        return -(apart**2).sum(axis=2)

    return answer


def checked(
    kinds: dict[str, Callable[[np.random.Generator], np.ndarray]],
    settings: Augmentation,
    seed: int = 0,
    each: int = 30,
) -> tuple[Finding, ...]:
    answer = nearest_centroid(*drawn(kinds, 40, 1000 + seed))
    pictures, labels = drawn(kinds, each, seed)
    numbers = np.random.default_rng(seed).integers(0, 2**64, len(labels), dtype=np.uint64)
    return check(answer, pictures, labels, numbers, settings, SIDE, list(kinds))


def changes(findings: tuple[Finding, ...]) -> set[tuple[str, str, str]]:
    return {
        (one.operation, one.label, one.into)
        for one in findings
        if one.verdict == "changes the label"
    }


@pytest.mark.parametrize(
    ("kinds", "settings", "planted"),
    [
        (
            ARROWS,
            Augmentation(flip_vertical=0.5),
            {
                ("flip", "left", "right"),
                ("flip", "right", "left"),
                ("flip_vertical", "up", "down"),
                ("flip_vertical", "down", "up"),
            },
        ),
        (
            {name: ARROWS[name] for name in ("left", "right")},
            Augmentation(),
            {("flip", "left", "right"), ("flip", "right", "left")},
        ),
        (
            DIGITS,
            Augmentation(flip=0.0, rotation_degrees=180),
            {("rotation_degrees", "6", "9"), ("rotation_degrees", "9", "6")},
        ),
        (
            PLATES,
            Augmentation(hue=1 / 3),
            {
                ("hue", one, other)
                for one, other in [
                    ("red", "green"),
                    ("green", "blue"),
                    ("blue", "red"),
                    ("red", "blue"),
                    ("blue", "green"),
                    ("green", "red"),
                ]
            },
        ),
    ],
    ids=["four arrows", "two arrows", "6 and 9", "colours"],
)
@pytest.mark.parametrize("seed", range(3))
def test_planted_changes_are_found_and_nothing_else(kinds, settings, planted, seed):
    found = changes(checked(kinds, settings, seed))
    assert planted <= found
    assert {(one[0], one[1]) for one in found} == {(one[0], one[1]) for one in planted}


@pytest.mark.parametrize(("settings", "most", "hard"), [(MILD, 0.0, 0.0), (WILD, 0.05, 0.04)])
def test_false_alarms_are_rare(settings, most, hard):
    """Wide darkness and shifts make a model that knows colours and places sure of another shape."""
    found = [one for seed in range(5) for one in checked(SHAPES, settings, seed)]
    assert {one.operation for one in found} == set(OPERATIONS)
    assert sum(one.verdict == "changes the label" for one in found) <= most * len(found)
    assert sum(one.verdict == "hard" for one in found) >= hard * len(found)


def simulated(
    after: Callable[[np.random.Generator, np.ndarray], np.ndarray], classes: int, seed: int
) -> tuple[Finding, ...]:
    """Check a model that is right about what it sees clean, and then answers as it is told."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), 30)
    names = [f"class {number}" for number in range(classes)]

    def scores(operation: Operation) -> np.ndarray:
        return np.eye(classes)[labels if operation == UNTOUCHED else after(random, labels)]

    return judge(scores, by_class(MILD, names), labels, names)


# With two classes, the worst case, 3.5 % are expected to alarm: P(X >= 24 of 30) in 50 tests.
@pytest.mark.parametrize(("classes", "families"), [(2, 400), (4, 60)])
def test_a_drop_to_chance_is_hard_and_not_a_change(classes, families):
    alarmed = 0
    for seed in range(families):
        findings = simulated(lambda r, y: r.integers(0, classes, len(y)), classes, seed)
        alarmed += bool(changes(findings))
        assert any(one.verdict == "hard" for one in findings)
    assert alarmed <= 0.05 * families


def test_one_answer_for_everything_is_hard_and_not_a_change():
    findings = simulated(lambda r, y: np.full(len(y), 2), 4, 0)
    assert not changes(findings)
    assert {one.verdict for one in findings if one.label != "class 2"} == {"hard"}
    assert {one.verdict for one in findings if one.label == "class 2"} == {"harmless"}


def test_no_drop_is_harmless():
    findings = simulated(lambda r, y: y, 3, 0)
    assert {one.verdict for one in findings} == {"harmless"}
    assert {one.into for one in findings} == {""}
    assert all(one.p == 1 and one.clean == one.augmented == 1 for one in findings)


def test_few_pictures_are_too_few_to_judge():
    found = checked(ARROWS, Augmentation(), each=4)
    assert {one.verdict for one in found if one.operation == "flip"} == {"too few"}
    assert unjudged(found) == tuple(ARROWS)


@pytest.mark.parametrize(("classes", "directions"), [(2, 1), (4, 5), (19, 1), (150, 12)])
def test_needed_is_the_fewest_that_can_be_told(classes, directions):
    tests = classes * directions
    fewest = needed(classes, tests)
    least = [tests * (classes - 1) * 0.5**right for right in (fewest - 1, fewest)]
    assert least[1] < 0.05 <= least[0]


def test_what_is_too_few_is_never_hard():
    """Nobody can say that a drop is no change of label where no change could be told."""

    def scores(operation: Operation) -> np.ndarray:
        return np.eye(60)[labels if operation == UNTOUCHED else (labels + 1) % 60]

    labels = np.repeat(np.arange(60), 14)
    names = [str(label) for label in range(60)]
    one = by_class(replace(OFF, flip=0.5), names)
    assert needed(60, 60) > 14
    assert {found.verdict for found in judge(scores, one, labels, names)} == {"too few"}


def test_each_class_is_checked_at_its_own_reach():
    mild = replace(OFF, hue=1 / 9)
    assert changes(checked(PLATES, mild)) == set()
    found = changes(checked(PLATES, replace(mild, class_strength={"red": 3.0})))
    assert found == {("hue", "red", "green"), ("hue", "red", "blue")}


def test_what_is_looked_at_first_follows_each_class():
    settings = Augmentation(
        rotation_degrees=30,
        hue=0.04,
        class_strength={"a": 1.5, "b": 2.0, "c": 0.0},
        class_off={"b": "rotation_degrees"},
    )

    def names(settings: Augmentation) -> set[tuple[str, int]]:
        found = looked_at(settings, ("a", "b", "c", "d"))
        return {(one.name, label) for one, labels in found.items() for label in labels}

    flips = {("flip", 0), ("flip", 1), ("flip", 3)}
    assert names(settings) == {*flips, ("rotation_degrees", 0), ("hue", 0), ("hue", 1)}
    assert names(replace(settings, label_check="off")) == set()
    every = names(replace(settings, label_check="all"))
    assert {name for name, label in every if label == 3} == {
        one.name for one in operations(settings)
    }
    assert not {name for name, label in every if label == 2}


def test_operations_are_alone_and_in_all_directions():
    found = operations(MILD)
    directions = {name: [one.direction for one in found if one.name == name] for name in OPERATIONS}
    assert directions["quarter_turns"] == ["90", "180", "270"]
    assert directions["translation"] == ["least across", "most across", "least down", "most down"]
    assert directions["hue"] == ["least", "most"]
    assert directions["flip"] == [""]
    for one in found:
        apart = {
            name
            for name, value in vars(one.settings).items()
            if value != getattr(OFF, name) and name in OPERATIONS
        }
        assert apart == {one.name}
    assert operations(OFF) == ()
    assert checked(PLATES, OFF) == ()


def test_the_policys_operations_are_checked_too():
    wide = {one.name: one.settings for one in operations(replace(OFF, policy="trivial"))}
    assert wide["hue"].hue == 0.1
    assert "flip" not in wide


def test_an_operation_is_left_out_for_its_class_unless_the_user_insists():
    settings = Augmentation(class_off={"left": "crop"})
    findings = checked(ARROWS, settings)
    found = excluding(settings, findings)
    assert found.class_off == {"left": "crop,flip", "right": "flip"}
    assert for_class(found, "right").flip == 0
    assert for_class(found, "up").flip == Augmentation().flip
    insisting = replace(settings, insist=True)
    assert excluding(insisting, findings) is insisting
    assert excluding(found, findings) == found


def test_the_chances_are_exact():
    for k, n in ((0, 0), (0, 5), (3, 5), (17, 20), (20, 20)):
        expected = binomtest(k, n, 0.5, alternative="greater").pvalue if n else 1.0
        assert _upper(k, n) == pytest.approx(expected)
    for k, drawn_, marked, everyone in ((1, 10, 1, 30), (7, 10, 9, 40), (10, 10, 10, 300)):
        expected = hypergeom.sf(k - 1, everyone, marked, drawn_)
        assert _gathered(k, drawn_, marked, everyone) == pytest.approx(expected)
