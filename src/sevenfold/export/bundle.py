"""Write the files of a bundle, and the picture that it tests itself with."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image

from sevenfold.bundles import summed
from sevenfold.features.store import disk_full
from sevenfold.features.trunk import session


def selftest(model: bytes) -> bytes:
    """Make `selftest.json`: a made-up picture, and the probabilities that the graph gives it."""
    rows, columns = np.mgrid[:96, :128]
    waves = [np.sin(rows / a) + np.cos(columns / b) for a, b in ((7, 11), (13, 5), (23, 17))]
    pixels = np.stack([np.rint(127.5 + 63 * one) for one in waves], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    (shares,) = session(model, 1).run(["probabilities"], {"image": pixels[None]})
    facts = {
        "schema": "sevenfold.selftest/1",
        "picture": base64.b64encode(file.getvalue()).decode(),
        "probabilities": np.asarray(shares[0]).tolist(),
    }
    return json.dumps(facts).encode()


def write(
    folder: Path,
    model: bytes,
    labels: Sequence[str],
    card: Mapping[str, Any],
    readme: str,
    more: Mapping[str, bytes] = MappingProxyType({}),
) -> None:
    """Write a bundle: model, card, labels and page, what is more, and last all their hashes.

    Args:
        folder: of the bundle.
        model: the graph.
        labels: the classes.
        card: content of `card.json`.
        readme: the model card.
        more: other files, by name.

    Raises:
        ResourceError: the disk is full or the folder cannot be written to.
    """
    files = {
        "model.onnx": model,
        "card.json": json.dumps(card, indent=1, ensure_ascii=False).encode(),
        "labels.txt": "".join(f"{label}\n" for label in labels).encode(),
        "README.md": readme.encode(),
        **more,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in summed(files).items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise disk_full(error, folder) from error
