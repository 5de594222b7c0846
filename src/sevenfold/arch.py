"""Write the networks of a run so that they can be rebuilt: weights, and `arch.json` around them."""

import dataclasses
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import safetensors.torch

from sevenfold import nets
from sevenfold.practices import pruning as surgery
from sevenfold.practices import transfer
from sevenfold.recipe import Recipe
from sevenfold.train import Fitted


def write(
    out: Path, fitted: Fitted, classes: tuple[str, ...], *, temperature: float, ships: str
) -> None:
    """Write the weights of all that was trained and what rebuilds the networks around them.

    `model.safetensors` is the network that ships, or the first that votes. `runs.reopened`
    reads it.

    Args:
        out: the folder of the run.
        fitted: what was trained.
        classes: their names.
        temperature: by which logits are divided.
        ships: `student`, `vote` or `member`.
    """
    recipe, first = fitted.recipe, fitted.ships[0]
    files = {"model.safetensors": first}
    if len(fitted.members) > 1:
        (out / "members").mkdir(exist_ok=True)
        files |= {f"members/{at}.safetensors": one for at, one in enumerate(fitted.members)}
    hashes = {}
    for name, member in files.items():
        state = {
            key: value.contiguous().clone() for key, value in member.network.state_dict().items()
        }
        safetensors.torch.save_file(state, out / name)
        hashes[name] = hashlib.sha256((out / name).read_bytes()).hexdigest()
    built = recipe.member(fitted.number)
    shapes, blocks = _pruned(built, first.network, len(classes))
    told = {
        "schema": "sevenfold.arch/1",
        "builder": "transfer.build",
        "transfer": dataclasses.asdict(replace(built.transfer, weights="random")),
        "member": fitted.number,
        "side": recipe.side,
        "classes": list(classes),
        "temperature": temperature,
        "mirror": recipe.ensembling.mirror,
        "origin": dataclasses.asdict(first.origin),
        "sha256": hashes["model.safetensors"],
        "shapes": shapes,
        "removed_blocks": blocks,
        "ships": ships,
        "vote": recipe.ensembling.vote,
        "members": [
            {
                "file": f"members/{at}.safetensors",
                "sha256": hashes[f"members/{at}.safetensors"],
                "weight": float(weight),
                "origin": dataclasses.asdict(member.origin),
            }
            for at, (member, weight) in enumerate(zip(fitted.members, fitted.weights, strict=True))
            if len(fitted.members) > 1
        ],
    }
    (out / "arch.json").write_text(json.dumps(told, indent=1), encoding="utf-8")


def _pruned(
    recipe: Recipe, network: nets.Network, classes: int
) -> tuple[surgery.Shapes, list[str]]:
    """Describe the layers of a pruned network and name its removed blocks; a whole one has none."""
    plain = replace(recipe.transfer, weights="random", sha256="")
    dense = surgery.shapes(transfer.build(plain, classes, recipe.side, 0)[0])
    found = surgery.shapes(network)
    if found == dense:
        return {}, []
    return found, [name for name, sizes in found.items() if not sizes and dense.get(name) != []]
