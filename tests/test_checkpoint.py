import json
import math
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sevenfold import checkpoint
from sevenfold.errors import ModelError

TREE = {
    "module": {"a.b": torch.arange(6.0).reshape(2, 3), "a": {"b": torch.zeros(2)}},
    "state": {0: {"step": torch.tensor(3.0)}, "0": torch.ones(1, dtype=torch.bfloat16)},
    "groups": [{"lr": 0.1 + 0.2, "betas": [0.9, 0.999], "nesterov": False, "params": [0, 1]}],
    "history": [{"epoch": 0, "loss": math.inf}],
    "empty": {},
    "bytes": torch.arange(5, dtype=torch.uint8),
    "count": torch.tensor(7),
    "text": "naïve \n",
    "nothing": None,
}


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and one.equal(other)
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and list(one) == list(other)
            and all(same(one[k], other[k]) for k in one)
        )
    if isinstance(one, list):
        return isinstance(other, list) and all(map(same, one, other)) and len(one) == len(other)
    return type(one) is type(other) and one == other


def test_a_tree_comes_back_as_it_was(tmp_path):
    checkpoint.save(tmp_path / "deep" / "a.checkpoint", TREE)
    assert same(checkpoint.load(tmp_path / "deep" / "a.checkpoint"), TREE)
    assert os.listdir(tmp_path / "deep") == ["a.checkpoint"]


def test_tuples_come_back_as_lists(tmp_path):
    checkpoint.save(tmp_path / "a", {"betas": (0.9, (1, torch.ones(1)))})
    assert same(checkpoint.load(tmp_path / "a"), {"betas": [0.9, [1, torch.ones(1)]]})


def test_an_optimizer_goes_on_as_if_never_saved(tmp_path):
    def made() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 2)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1, betas=(0.8, 0.99))

    def step(layer: torch.nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        layer(torch.arange(8.0).reshape(2, 4)).square().sum().backward()
        optimizer.step()

    layer, optimizer = made()
    for _ in range(3):
        step(layer, optimizer)
    saved = {"module": layer.state_dict(), "optimizer": optimizer.state_dict()}
    checkpoint.save(tmp_path / "a", saved)
    step(layer, optimizer)
    other, moved = made()
    found = checkpoint.load(tmp_path / "a")
    other.load_state_dict(found["module"])
    moved.load_state_dict(found["optimizer"])
    step(other, moved)
    assert other.weight.equal(layer.weight)
    assert other.bias.equal(layer.bias)


def test_what_is_saved_does_not_follow_later_changes(tmp_path):
    weight = torch.ones(3)
    checkpoint.save(tmp_path / "a", {"weight": weight})
    weight.zero_()
    assert checkpoint.load(tmp_path / "a")["weight"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch, failing):
    path = tmp_path / "a"
    checkpoint.save(path, {"epoch": 1})

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if failing == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(path, {"epoch": 2})
    monkeypatch.undo()
    assert checkpoint.load(path) == {"epoch": 1}
    checkpoint.save(path, {"epoch": 3})
    assert checkpoint.load(path) == {"epoch": 3}


def test_a_truncated_checkpoint_is_named(tmp_path):
    path = tmp_path / "a"
    checkpoint.save(path, TREE)
    whole = path.read_bytes()
    for length in (*range(0, len(whole), 37), len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match="is damaged") as caught:
            checkpoint.load(path)
        assert str(path) in caught.value.problem


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        {"layout": "{"},
        {"layout": json.dumps({"tensor": "9"})},
        {"layout": json.dumps({"pairs": [1]})},
        {"layout": json.dumps({"other": 1})},
    ],
)
def test_a_foreign_file_is_refused(tmp_path, metadata):
    (tmp_path / "a").write_bytes(safetensors.torch.save({"0": torch.ones(1)}, metadata))
    with pytest.raises(ModelError, match="is damaged"):
        checkpoint.load(tmp_path / "a")


def test_a_pickle_is_never_loaded(tmp_path):
    torch.save({"epoch": 1}, tmp_path / "a")
    with pytest.raises(ModelError, match="is damaged"):
        checkpoint.load(tmp_path / "a")
