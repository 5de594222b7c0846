"""The label check of `train` with the weights that ship, on changes of label that are planted."""

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from sevenfold import data
from sevenfold.features.pixels import for_training, ingest
from sevenfold.place import Place
from sevenfold.progress import silent
from sevenfold.recipe import Recipe, apply
from sevenfold.train.sparing import check_labels

SIDE = 64
Drawing = Callable[[np.random.Generator], np.ndarray]


def canvas(random: np.random.Generator) -> np.ndarray:
    grey = random.integers(20, 70) + random.normal(0, 6, (SIDE, SIDE, 1))
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8), 3, axis=2)


def light(random: np.random.Generator) -> list[int]:
    return [int(random.integers(170, 250))] * 3


def middle(random: np.random.Generator) -> tuple[int, int]:
    x, y = random.integers(-4, 5, 2) + SIDE // 2
    return int(x), int(y)


def arrow(turns: int) -> Drawing:
    def draw(random: np.random.Generator) -> np.ndarray:
        picture, (x, y), half = canvas(random), middle(random), int(random.integers(15, 22))
        cv2.arrowedLine(picture, (x - half, y), (x + half, y), light(random), 4, tipLength=0.45)
        return np.rot90(picture, turns)

    return draw


def figure(text: str, turned: bool = False) -> Drawing:
    def draw(random: np.random.Generator) -> np.ndarray:
        picture, (x, y), font = canvas(random), middle(random), cv2.FONT_HERSHEY_SIMPLEX
        scale = float(random.uniform(1.3, 1.6))
        (width, height), _ = cv2.getTextSize(text, font, scale, 4)
        at = (x - width // 2, y + height // 2)
        cv2.putText(picture, text, at, font, scale, light(random), 4)
        return np.rot90(picture, 2) if turned else picture

    return draw


def disc(channel: int) -> Drawing:
    """Draw a disc in one colour, or in grey (-1)."""

    def draw(random: np.random.Generator) -> np.ndarray:
        picture, colour = canvas(random), random.integers(40, 90, 3)
        colour[channel] = random.integers(170, 230)
        shade = light(random) if channel < 0 else colour.tolist()
        cv2.circle(picture, middle(random), int(random.integers(15, 22)), shade, -1)
        return picture

    return draw


FLIP, TURN, HUE = "flip=0.5", "rotation_degrees=180", "hue=0.3333"
PLANTED: dict[str, tuple[Mapping[str, Drawing], str, set[str]]] = {
    "arrows": ({"left": arrow(2), "right": arrow(0), "disc": disc(-1)}, FLIP, {"left", "right"}),
    "6 and 9": (
        {"6": figure("6"), "9": figure("6", turned=True), "0": figure("0")},
        TURN,
        {"6", "9"},
    ),
    "colours": (
        {"blue": disc(0), "green": disc(1), "red": disc(2), "grey": disc(-1)},
        HUE,
        {"blue", "green", "red"},
    ),
    "arrows that a mirror leaves": (
        {"up": arrow(1), "down": arrow(3), "disc": disc(-1)},
        FLIP,
        set(),
    ),
}


@pytest.fixture(autouse=True)
def _exported_once(stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVENFOLD_CACHE", str(stores))


def split_of(drawings: Mapping[str, Drawing], folder: Path) -> data.Split:
    random = np.random.default_rng(0)
    for name, draw in drawings.items():
        (folder / name).mkdir(parents=True)
        for number in range(36):
            cv2.imwrite(str(folder / name / f"{number}.png"), draw(random))
    dataset = data.read(
        str(folder),
        columns={},
        group_by="",
        fingerprints=lambda listing: ingest(
            listing, pixels=for_training(SIDE), threads=2, progress=silent
        ),
    )
    return data.split(dataset)


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_found_and_nothing_else(name: str, tmp_path: Path) -> None:
    drawings, setting, planted = PLANTED[name]
    split = split_of(drawings, tmp_path / "photos")
    settings = ("augmentation=off", "augmentation.label_check=risky", f"augmentation.{setting}")
    recipe = apply(Recipe(), [f"side={SIDE}", *settings])
    made, found = check_labels(
        recipe, split, split.train, Place("cpu", 2), for_training(SIDE), silent
    )
    operation = setting.partition("=")[0]
    assert found.accuracy > 0.8
    assert found.unjudged == ()
    assert {one.label for one in found.flagged} == planted
    assert dict(made.augmentation.class_off) == dict.fromkeys(sorted(planted), operation)
