"""Follow the ways of a training over a GPU that is pretended: see `pretended_gpu`.

`test_gpu` runs it, in a process of its own: torch does not forget a device.
"""

from pathlib import Path

import finished
import numpy as np
import pytest
import torch
from test_job import SETTINGS, Kill, at_step, report, sha256
from test_prune import faster
from test_thorough import MEMBERS, PRUNED

import photos
from pretended_gpu import OnGpu, pretended
from sevenfold import remake, trial, update
from sevenfold.progress import silent
from sevenfold.train import student

VOTE = (*SETTINGS, "ensembling.members=2", "ensembling.average=true", "ensembling.distil=true")
BLENDS = ("augmentation.mixup=0.2", "augmentation.cutmix=1.0", "optimization.rate=0")
CUT = ("transfer.trainable_blocks=3", "views=2")
pytestmark = pytest.mark.usefixtures("few_pictures")
# Where MPS takes the same way, once is enough.
on_cuda = pytest.mark.parametrize("device", ["cuda"], indirect=True)


@pytest.fixture(params=["cuda", "mps"])
def device(request):
    with pretended(request.param):
        yield request.param


def weights(folder: Path) -> str:
    return sha256(folder / "run" / "model.safetensors")


def test_what_a_gpu_would_refuse_is_refused(device):
    there = torch.ones(3).to(device)
    assert isinstance(there, OnGpu)
    assert there.device.type == torch.zeros((), device=device).device.type == "pretended"
    assert (there + there).sum().item() == 6
    with pytest.raises(RuntimeError, match="same device"):
        there + torch.ones(3)
    with pytest.raises(RuntimeError, match="same device"):
        torch.zeros(()).add_(there.sum())
    with pytest.raises(RuntimeError, match="same device"):
        torch.stack([torch.zeros(()), there.sum()])
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(3)[torch.zeros(1, dtype=torch.int64).to(device)]
    assert there[torch.zeros(1, dtype=torch.int64)].tolist() == [1]
    with pytest.raises(RuntimeError, match="numpy"):
        there.numpy()
    with pytest.raises(RuntimeError, match="generator"):
        there.bernoulli_(0.5, generator=torch.Generator())
    if device == "mps":
        with pytest.raises(TypeError, match="float64"):
            there.double()
    moved = torch.nn.Linear(3, 2)
    before = moved.weight
    moved.to(device)(there).square().sum().backward()
    assert moved.weight is before
    assert before.grad.device == there.device
    np.testing.assert_allclose(there.cpu().numpy(), 1)


def test_a_training_from_pixels_ends_as_on_the_processor(tmp_path, stores, device, monkeypatch):
    # A processor may multiply in bfloat16, which the pretended GPU does not.
    monkeypatch.setattr(trial, "_half", lambda _: False)
    for name in ("cpu", device):
        finished.train(tmp_path / name, stores, SETTINGS, device=name)
    told = report(tmp_path / device / "run")
    assert told["run"]["device"] == device
    assert told["bundle"]["parity_top1"] == 1.0
    assert weights(tmp_path / "cpu") == weights(tmp_path / device)


@pytest.mark.parametrize("settings", [(*SETTINGS, *CUT, *BLENDS), VOTE], ids=["blends", "vote"])
def test_the_main_job_stays_on_the_device(tmp_path, stores, device, settings):
    finished.train(tmp_path, stores, settings, device=device)
    assert report(tmp_path / "run")["run"]["device"] == device


@on_cuda
@pytest.mark.parametrize(
    "settings",
    [(*SETTINGS, "optimization.name=switch"), MEMBERS, PRUNED],
    ids=["switch", "members", "pruned"],
)
def test_so_does_what_it_can_be_asked_for(tmp_path, stores, device, settings):
    finished.train(tmp_path, stores, settings, device=device)


@on_cuda
def test_a_killed_training_goes_on_there(tmp_path, stores, device):
    finished.train(tmp_path / "whole", stores, SETTINGS, device=device)
    with pytest.raises(Kill):
        finished.train(tmp_path / "cut", stores, SETTINGS, device, at_step(7))
    finished.train(tmp_path / "cut", stores, SETTINGS, device=device)
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")


def test_members_of_two_cuts_are_averaged_there(tmp_path, stores, device, monkeypatch):
    monkeypatch.setattr(student, "alike", lambda _: True)  # these start at random
    cuts = ("views=2", "ensembling.members=2", "ensembling.cuts=[3]")
    finished.train(tmp_path, stores, (*SETTINGS, *cuts), device=device)
    how = {"data": "", "threads": 1, "device": device, "progress": silent}
    remake.distil(tmp_path / "run", lessons=1, seed=5, **how)
    assert report(tmp_path / "run")["ensembling"]["ships"] == "student"


@on_cuda
def test_a_run_is_distilled_pruned_and_updated_there(tmp_path, stores, device):
    finished.train(tmp_path, stores, VOTE[:-1], device=device)
    how = {"threads": 1, "device": device, "progress": silent}
    run = tmp_path / "run"
    remake.distil(run, lessons=1, seed=5, data="", **how)
    asked = remake.Asked("macs=0.6", max_drop=0.9, steps=1, epochs=1, seed=4)
    remake.prune(run, asked, timer=faster, data="", **how)
    more = photos.write(tmp_path / "more", dict.fromkeys(photos.COLOURS, 16), start=400)
    update.update(run, update.Asked(str(more)), timer=lambda models: np.ones((2, 1)), **how)
