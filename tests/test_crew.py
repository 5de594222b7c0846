"""Train members side by side: the same to the bit, resumable, and none outlives its parent."""

import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from photos import write
from sevenfold import data, train
from sevenfold.engines import local
from sevenfold.features.pixels import Pixels
from sevenfold.place import Place
from sevenfold.progress import Progress, silent
from sevenfold.recipe import Recipe, apply
from sevenfold.train import bench, crew, member

SETTINGS = (
    "objective=accuracy",
    "transfer.backbone=resnet20",
    "transfer.weights=random",
    "transfer.trainable_blocks=3",
    "side=16",
    "epochs=2",
    "views=2",
    "batch=8",
    "optimization.rate=0.01",
    "imbalance.method=none",
    "ensembling.members=3",
)
RECIPE = apply(Recipe(), SETTINGS)
ALONE, TWO = Place("cpu", 2), Place("cpu", 2, workers=2)


class Kill(BaseException):
    """Stand for a kill: nothing may catch it."""


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(autouse=True)
def _shared(stores: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SEVENFOLD_CACHE", str(stores))
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> data.Split:
    """Return pictures with val, however few they are."""
    folder = write(tmp_path_factory.mktemp("photos"), {"blue": 20, "green": 20, "red": 20}, side=20)
    whole = data.split(data.read(str(folder)))
    assert not len(whole.val)
    return replace(whole, train=whole.train[::2], val=whole.train[1::2])


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Remember the processes that are started."""
    found: list[Any] = []
    start = subprocess.Popen

    def remembering(*given: Any, **more: Any) -> Any:
        found.append(start(*given, **more))
        return found[-1]

    monkeypatch.setattr(local.subprocess, "Popen", remembering)
    return found


def fit(
    split: data.Split,
    folder: Path,
    place: Place,
    recipe: Recipe = RECIPE,
    progress: Progress = silent,
) -> train.Fitted:
    return train.fit(
        recipe, split, seed=5, place=place, pixels=Pixels(18), folder=folder, progress=progress
    )


def learnt(fitted: train.Fitted) -> list[str]:
    """Hash all networks of each member and what each says."""
    found = []
    for one in fitted.members:
        state = hashlib.blake2b(one.logits.tobytes())
        for network in (*one.folds, one.network):
            for value in network.state_dict().values():
                state.update(value.numpy().tobytes())
        found.append(state.hexdigest())
    return found


@pytest.fixture(scope="module")
def alone(split: data.Split, stores: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return what members learn one after another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEVENFOLD_CACHE", str(stores))
        return learnt(fit(split, tmp_path_factory.mktemp("alone"), ALONE))


def test_members_learn_the_same_side_by_side(split, alone, started, tmp_path):
    told: list[tuple[str, int, int]] = []
    found = fit(split, tmp_path, TWO, progress=lambda *one: told.append(one))
    assert len(started) == 2
    assert len(set(alone)) == 3
    assert learnt(found) == alone
    ends = [(done, total) for stage, done, total in told if stage == "train, 2 at a time"]
    steps = sum(one.steps for one in found.members)
    assert ends[-1] == (steps, steps)
    assert [done for done, _ in ends] == sorted(done for done, _ in ends)
    assert all(process.poll() is not None for process in started)


def test_folds_and_ways_to_help_rare_classes_are_trained_side_by_side(split, started, tmp_path):
    pictures = np.sort(np.concatenate([split.train, split.val]))
    blue = split.dataset.labels[pictures] == 0
    pictures = np.delete(pictures, np.flatnonzero(blue)[6:])
    small = replace(split, train=pictures, val=split.val[:0])
    settings = (
        "epochs=1",
        "objective=balanced_accuracy",
        "imbalance.method=auto",
        "imbalance.trainings=2",
        "ensembling.members=2",
    )
    recipe = apply(RECIPE, settings)
    first = fit(small, tmp_path / "two", TWO, recipe)
    processes = len(started)
    second = fit(small, tmp_path / "one", ALONE, recipe)
    assert len(started) == processes > 2
    assert learnt(first) == learnt(second)
    assert first.tried == second.tried != ()
    assert all(len(one.folds) == 5 for one in first.members)


def test_a_process_parts_the_pictures_as_the_one_that_started_it(split, tmp_path):
    groups = tuple(f"scene {at // 3}" for at in range(len(split.dataset)))
    pictures = np.sort(np.concatenate([split.train, split.val]))
    scenes = replace(split.dataset, groups=groups)
    small = replace(split, dataset=scenes, train=pictures, val=split.val[:0])
    recipe = train.settle(RECIPE, small)
    there = bench.prepared(recipe, small, pictures, ALONE, Pixels(18), tmp_path, 5, silent)
    again = crew._opened(crew._written(crew.Job(there, 0.01, 5)))
    for mine, theirs in zip(bench.parts_of(there), bench.parts_of(again), strict=True):
        assert mine.name == theirs.name
        assert mine.pictures.tolist() == theirs.pictures.tolist()
        assert mine.judged.tolist() == theirs.judged.tolist()
    alone = replace(split.dataset, groups=split.dataset.hashes)
    assert replace(small, dataset=alone).folds().tolist() != small.folds().tolist()


def test_a_killed_process_loses_nothing(split, alone, started, tmp_path):
    def killing(stage: str, done: int, _total: int) -> None:
        if stage == "train, 2 at a time" and done and len(started) == 2:
            started[0].kill()

    found = fit(split, tmp_path, TWO, progress=killing)
    assert len(started) > 2
    assert learnt(found) == alone


def test_what_was_interrupted_goes_on_and_leaves_no_process(split, alone, started, tmp_path):
    def stopping(stage: str, done: int, total: int) -> None:
        if stage == "train, 2 at a time" and done > 2 * total / 3:  # the third has begun
            raise Kill

    with pytest.raises(Kill):
        fit(split, tmp_path, TWO, progress=stopping)
    assert all(process.poll() is not None for process in started)
    assert list(tmp_path.glob("*.checkpoint"))
    assert learnt(fit(split, tmp_path, TWO)) == alone
    before = len(started)
    assert learnt(fit(split, tmp_path, TWO)) == alone
    assert len(started) == before  # nothing was left to do


def test_rows_that_are_made_when_they_are_asked_for_are_trained_on_here(
    split, alone, started, tmp_path, monkeypatch
):
    monkeypatch.setenv("SEVENFOLD_CACHE", str(tmp_path / "stores"))  # nothing is there yet
    monkeypatch.setenv("SEVENFOLD_CACHE_GB", "0")
    assert learnt(fit(split, tmp_path, TWO)) == alone
    assert not started


def test_one_member_and_a_whole_network_keep_all_threads(split):
    there = bench.Bench(
        RECIPE,
        split,
        split.train,
        None,
        None,
        Place("cpu", 16),
        Path(),
        silent,
        (torch.nn.Identity(),),
    )
    assert member.threads_of(there) == 5  # three members share them
    many = replace(there, recipe=apply(RECIPE, ["ensembling.members=20"]))
    assert member.threads_of(many) == 2  # one for every eight
    folds = replace(there, split=replace(split, val=split.val[:0]))
    assert member.threads_of(folds) == 2  # each is trained six times
    assert member.threads_of(replace(there, place=Place("cpu", 2))) == 1
    single = replace(there, recipe=apply(RECIPE, ["ensembling.members=1"]))
    assert member.threads_of(single) == 16
    assert member.threads_of(replace(there, trunk=())) == 16
    assert member.threads_of(replace(there, place=Place("cuda", 16))) == 16


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_ends_all_processes(tmp_path):
    photos = write(tmp_path / "photos", {"blue": 20, "green": 20, "red": 20}, side=20)
    words = [f"--set={one}" for one in (*SETTINGS, "epochs=500")]
    command = [sys.executable, "-m", "sevenfold.cli", "train", str(photos), "--out", "run"]
    process = subprocess.Popen(
        [*command, *words, "--threads=2", "--device=cpu"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        trials = tmp_path / "run" / "trials"
        limit = time.monotonic() + 120
        while not list(trials.glob("*/*.checkpoint")) and process.poll() is None:
            assert time.monotonic() < limit
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130, said
    sizes = [{path: path.stat().st_mtime_ns for path in trials.rglob("*")} for _ in _twice()]
    assert sizes[0] == sizes[1]  # nobody writes any more


def _twice() -> Iterator[int]:
    for turn in range(2):
        yield turn
        time.sleep(1.0)
