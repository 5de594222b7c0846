"""Make up small pictures of classes that colour tells apart, and folders of them."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (40, 70, 190), "green": (50, 170, 60), "red": (190, 50, 40)}


def picture(label: str, number: int, side: int = 40) -> np.ndarray:
    """Draw a disc on noise in the colour of a class; each number is another picture."""
    draw = np.random.default_rng([sorted(COLOURS).index(label), number, side])
    noise = draw.normal(0, 35, (side, side, 3))
    rows, columns = np.mgrid[:side, :side] / side
    centre = draw.uniform(0.3, 0.7, 2)
    disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < draw.uniform(0.1, 0.3) ** 2
    grey = np.full((side, side, 3), draw.uniform(60, 180))
    return np.clip(np.where(disc[..., None], COLOURS[label], grey) + noise, 0, 255).astype(np.uint8)


def write(folder: Path, counts: dict[str, int], *, start: int = 0, side: int = 40) -> Path:
    """Write `class/number.png` for each class and return the folder."""
    for label, count in counts.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(start, start + count):
            pixels = picture(label, number, side)
            Image.fromarray(pixels).save(folder / label / f"{number:03}.png", compress_level=1)
    return folder
