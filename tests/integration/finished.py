"""Make finished runs in seconds, for what takes one up again."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_job import REQUEST

import photos
from sevenfold import job, trial
from sevenfold.practices.transfer import Transfer
from sevenfold.progress import Progress, silent

parting = importlib.import_module("sevenfold.data.split")


@contextmanager
def few_pictures(stores: Path) -> Iterator[None]:
    """Let few pictures have val, keep stores at a place, and leave torch's threads as they are."""
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEVENFOLD_CACHE", str(stores))
        patch.setattr(parting, "SMALL_DATA", 60)
        yield
    torch.set_num_threads(before)


def train(
    folder: Path,
    stores: Path,
    settings: tuple[str, ...],
    device: str = "cpu",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write photos of three roles into a folder and train on them; the run lies beside them."""
    for role, count, start in (("train", 24, 0), ("val", 8, 100), ("test", 8, 200)):
        photos.write(folder / "photos" / role, dict.fromkeys(photos.COLOURS, count), start=start)
    request = replace(REQUEST, overrides=settings, device=device)
    with few_pictures(stores):
        return job.train(str(folder / "photos"), folder / "run", request=request, progress=progress)


def lose_weights(run: Path, patch: pytest.MonkeyPatch) -> None:
    """Let a run name weights that are nowhere, and whoever asks for their file fail."""
    path = run / "recipe.toml"
    recipe = path.read_text("utf-8")
    assert 'weights = "random"' in recipe
    assert "layer_decay = 0.0" in recipe  # which the start decides, and is to stay as it is
    lost = recipe.replace('weights = "random"', 'weights = "hub"')
    path.write_text(lost.replace("layer_decay = 0.0", "layer_decay = 1.0"), "utf-8")

    def content(settings: Transfer) -> str:
        assert settings.weights == "random"
        return ""

    patch.setattr(trial, "_content", content)
