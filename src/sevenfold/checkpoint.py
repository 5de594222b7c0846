"""Save nested values with tensors to one file, whole or not at all, without pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from sevenfold import atomic
from sevenfold.errors import ModelError

Tree = Any
"""Mappings, lists, tensors, numbers, texts and booleans, nested."""


def _part(tree: Tree, tensors: dict[str, torch.Tensor]) -> Tree:
    if isinstance(tree, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = tree.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(tree, Mapping):
        # Keys may be numbers (an optimizer's state), which JSON would make texts.
        pairs = [[key, _part(value, tensors)] for key, value in tree.items()]
        return {"pairs": pairs}
    if isinstance(tree, list | tuple):
        return [_part(value, tensors) for value in tree]
    return tree


def _join(tree: Tree, tensors: Mapping[str, torch.Tensor]) -> Tree:
    if isinstance(tree, dict):
        if "tensor" in tree:
            return tensors[tree["tensor"]]
        return {key: _join(value, tensors) for key, value in tree["pairs"]}
    if isinstance(tree, list):
        return [_join(value, tensors) for value in tree]
    return tree


def save(path: Path, tree: Tree) -> None:
    """Write a tree beside its place, then move it there: a kill leaves the old file.

    Args:
        path: of the file, replaced if it exists.
        tree: what to save; tuples come back as lists.
    """
    tensors: dict[str, torch.Tensor] = {}
    layout = json.dumps(_part(tree, tensors))
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(path, safetensors.torch.save(tensors, {"layout": layout}))


def load(path: Path) -> Tree:
    """Read what `save` wrote.

    Raises:
        ModelError: the file is damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(Path(folder) / "a", {"step": 3, 0: torch.ones(2)})
        ...     load(Path(folder) / "a")
        {'step': 3, 0: tensor([1., 1.])}
    """
    try:
        tensors = safetensors.torch.load(path.read_bytes())
        with safetensors.safe_open(path, "pt") as file:
            layout = json.loads(file.metadata()["layout"])
        return _join(layout, tensors)
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ModelError(
            f"the checkpoint {path} is damaged", "delete it and repeat the command"
        ) from error
