"""Open a finished run again: its recipe, its pictures by role, and its networks."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.torch

from sevenfold import data as datasets
from sevenfold import nets, record, swap
from sevenfold.data import Split, shown
from sevenfold.errors import DataError, ImageRejected, ModelError, UsageError
from sevenfold.features.pixels import Pixels, for_training, ingest
from sevenfold.practices import pruning, transfer
from sevenfold.progress import Progress
from sevenfold.recipe import Recipe, read

_MOVED: Final = "say with --data where its pictures are now; they are found by their content"


@dataclass(frozen=True, eq=False)
class Run:
    """Hold a finished run.

    Args:
        folder: where it lies.
        recipe: with every automatic value settled.
        split: its pictures, by the roles that it gave them.
        manifest: its `data.json`.
        network: that ships, or the first that votes.
        members: the networks of its vote; empty where it has one model.
        weights: of the members.
        built: from which backbone `network` was.
        origins: of the weights that training started from: the shipped network's first, then
            each member's.
        facts: its `report.json`.
        pixels: the store of its decoded pictures.
    """

    folder: Path
    recipe: Recipe
    split: Split
    manifest: datasets.Manifest
    network: nets.Network
    members: tuple[nets.Network, ...]
    weights: tuple[float, ...]
    built: transfer.Transfer
    origins: tuple[transfer.Origin, ...]
    facts: Mapping[str, Any]
    pixels: Pixels


def reopened(folder: Path, *, data: str, threads: int, progress: Progress) -> Run:
    """Read a run and find its pictures by their content.

    Reads the pictures where they lay, or at `data`; writes to the pixel store.

    Args:
        folder: of the run.
        data: where its pictures are now, or "" for where they were.
        threads: that decode.
        progress: is told what is under way.

    Raises:
        UsageError: the folder holds no finished run.
        ModelError: a file of it is damaged.
        DataError: pictures of it are missing.
    """
    swap.finish(folder)
    facts = record.read(folder / "report.json")
    record.check(folder / "report.json", facts, "sevenfold.report/1")
    arch = record.read(folder / "arch.json")
    record.check(folder / "arch.json", arch, "sevenfold.arch/1")
    try:
        recipe = read(folder / "recipe.toml", Recipe())
    except UsageError as error:
        raise ModelError(
            f"{shown(str(folder / 'recipe.toml'))} is damaged: {error.problem}",
            "restore it from a copy, or train again",
        ) from error
    _same_backbone(folder, recipe, arch)
    try:
        manifest = datasets.read_manifest(folder / "data.json")
    except OSError as error:
        raise record.damaged(folder / "data.json") from error
    pixels = for_training(recipe.side)
    split = _split(facts, manifest, data, pixels, threads, progress)
    try:
        told = (arch["origin"], *(one.get("origin", arch["origin"]) for one in arch["members"]))
        origins = tuple(transfer.Origin(**one) for one in told)
        voters = [(one["file"], one["sha256"], float(one["weight"])) for one in arch["members"]]
        main, shapes = arch["sha256"], dict(arch.get("shapes", {}))
        first = int(arch.get("member", 0))
    except (KeyError, TypeError, ValueError) as error:
        raise record.damaged(folder / "arch.json") from error
    network, *members = (
        _network(folder, name, digest, recipe.member(number), len(manifest.classes), sizes)
        for name, digest, sizes, number in (
            ("model.safetensors", main, shapes, first),
            *((name, digest, {}, at) for at, (name, digest, _) in enumerate(voters)),
        )
    )
    weights = tuple(weight for _, _, weight in voters)
    return Run(
        folder, recipe, split, manifest, network, tuple(members), weights,
        recipe.member(first).transfer, origins, facts, pixels,
    )  # fmt: skip


def _same_backbone(folder: Path, recipe: Recipe, arch: Mapping[str, Any]) -> None:
    """Refuse a recipe that was changed after the training."""
    try:
        trained, side = arch["transfer"]["backbone"], arch["side"]
        named = recipe.member(int(arch.get("member", 0))).transfer.backbone
    except (KeyError, TypeError, ValueError) as error:
        raise record.damaged(folder / "arch.json") from error
    if (named, recipe.side) != (trained, side):
        raise ModelError(
            f"{shown(str(folder / 'recipe.toml'))} names {shown(named)} at "
            f"{recipe.side} pixels, and the run was trained with {shown(str(trained))} at {side}",
            "restore recipe.toml from versions/ or a copy; to change the backbone, train again",
        )


@dataclass(frozen=True)
class Place:
    """Name where pictures lie and how they are read there.

    Args:
        source: folder, table or packaged name.
        columns: names of a table's columns, by what they hold.
        group_by: pattern that takes the group from the file name, or "".
    """

    source: str
    columns: Mapping[str, str]
    group_by: str


def places(facts: Mapping[str, Any]) -> tuple[Place, ...]:
    """Return where the pictures of a run lie: what it was trained on, and what updates added.

    Raises:
        ModelError: the record is damaged.
    """
    try:
        reading = facts["run"]["reading"]
        first = {"source": facts["data"]["source"], **reading}
        return tuple(
            Place(str(one["source"]), dict(one["columns"]), str(one["group_by"]))
            for one in (first, *reading.get("added", ()))
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise record.damaged(Path("report.json")) from error


def _split(
    facts: Mapping[str, Any],
    manifest: datasets.Manifest,
    data: str,
    pixels: Pixels,
    threads: int,
    progress: Progress,
) -> Split:
    """Read the pictures and give each the label and role that it had; new ones are left out."""
    known = places(facts)
    if data:
        known = (replace(known[0], source=data),)
    for one in known:
        if one.source not in (data, *datasets.PACKAGED) and not Path(one.source).exists():
            raise DataError(f"the run's pictures are not in {shown(one.source)} any more", _MOVED)
    listing = datasets.joined(
        [datasets.scan(one.source, columns=one.columns, group_by=one.group_by) for one in known]
    )
    prints = ingest(listing, pixels=pixels, threads=threads, progress=progress)
    dataset = _known(listing, prints, manifest)
    role_of = {row.hash: row.role for row in manifest.rows}
    if lost := set(role_of) - set(dataset.hashes):
        raise DataError(
            f"{len(lost):,} of the run's {len(role_of):,} pictures are not in "
            f"{shown(known[0].source)}{' and what was added' * (len(known) > 1)}",
            _MOVED,
        )
    roles = np.array([role_of[content] for content in dataset.hashes])
    train, val, test = (np.flatnonzero(roles == role) for role in ("train", "val", "test"))
    left_out = tuple(dict.fromkeys((*manifest.quarantined, *dataset.quarantined)))
    return Split(dataset, train, val, test, left_out)


def _known(
    listing: datasets.Listing,
    prints: Sequence[datasets.Fingerprint | ImageRejected],
    manifest: datasets.Manifest,
) -> datasets.Dataset:
    """Keep the pictures that a manifest holds, with its labels, and one place of each.

    Copies within one place stay, as many as there were: they were trained on as such. Others
    were left out, since they would have had two roles.
    """
    labels = {row.hash: row.label for row in manifest.rows}
    first: dict[str, int] = {}
    kept = []
    for photo, found in zip(listing.photos, prints, strict=True):
        if not isinstance(found, datasets.Fingerprint) or found.hash not in labels:
            continue
        place, _ = datasets.placed(photo.path)
        if first.setdefault(found.hash, place) == place:
            kept.append((replace(photo, label=labels[found.hash]), found))
    copies = Counter(row.hash for row in manifest.rows)
    named = {(row.hash, row.path) for row in manifest.rows}
    own = [(found.hash, photo.path) in named for photo, found in kept]
    chosen = []
    for at in sorted(range(len(kept)), key=lambda at: not own[at]):
        content = kept[at][1].hash
        if copies[content] > 0:
            copies[content] -= 1
            chosen.append(at)
    kept = [kept[at] for at in sorted(chosen)]
    return datasets.assemble(
        replace(listing, photos=tuple(photo for photo, _ in kept)),
        [found for _, found in kept],
        classes=manifest.classes,
    )


def _network(
    folder: Path, name: str, digest: str, recipe: Recipe, classes: int, shapes: pruning.Shapes
) -> nets.Network:
    """Rebuild a network around its weights, which must be those that the run names.

    A pruned one is the architecture in its own shapes.
    """
    path = folder / name
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise ModelError(
            f"{shown(str(path))} is missing or damaged", "restore it from a copy, or train again"
        )
    plain = replace(recipe.transfer, weights="random", sha256="")
    network, _ = transfer.build(plain, classes, recipe.side, 0)
    if shapes:
        smaller = pruning.reshape(network, shapes)
        assert isinstance(smaller, nets.Network)
        network = smaller
    try:
        network.load_state_dict(safetensors.torch.load_file(path))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise record.damaged(path) from error
    return network.eval()
