import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from bundles import colour, tiny_bundle

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_classify_prints_an_answer_for_each_picture(tmp_path):
    classes = ("one", "two", "three")
    tiny_bundle(tmp_path / "bundle", classes)
    photo = tmp_path / "photo.png"
    pixels = np.broadcast_to(np.asarray(colour(1, len(classes)), np.uint8), (9, 9, 3))
    Image.fromarray(np.ascontiguousarray(pixels)).save(photo)
    command = [sys.executable, str(EXAMPLES / "classify.py"), str(tmp_path / "bundle"), str(photo)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    path, label, probability = said.strip().split("\t")
    assert path.endswith("photo.png")
    assert label == "two"
    assert 1 / 3 < float(probability) <= 1
