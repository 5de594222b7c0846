"""Say what changed in the data since a run was trained on it."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sevenfold import data as datasets
from sevenfold import swap
from sevenfold.data import Manifest, Photo
from sevenfold.errors import ModelError
from sevenfold.image import shown

_KINDS: Final = (
    "new",
    "gone",
    "relabelled",
    "moved",
    "other_role",
    "other_group",
    "elsewhere",
    "gone_by_role",
)


def manifest(run: Path) -> Manifest:
    """Read a run's record of its data.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    try:
        return datasets.read_manifest(swap.served(run, "data.json"))
    except OSError as error:
        raise ModelError(
            f"{shown(str(run))} holds no readable data.json",
            "give --against the folder that sevenfold train wrote",
        ) from error


def since(known: Manifest, photos: Sequence[Photo], hashes: Sequence[str]) -> dict[str, list[Any]]:
    """Compare by content: what is new, gone, relabelled, moved, or has another role or group.

    A picture whose content is known never counts as new, wherever it lies now; a file
    whose content changed is a picture that is gone and another that is new. What the run
    left out, and does not know by now, is not looked at, and what updates added from other
    places is not gone. Where the run has no val, what the data calls so was trained on.

    Returns:
        `new` and `gone` as paths; `relabelled`, `other_role` (only where the data says one)
        and `other_group` with `path`, `before` and `now`; `moved` with `before` and `now` as
        paths; `elsewhere`, the paths of what updates added and is not here; `gone_by_role`,
        how many are gone of each role.
    """
    old: dict[str, list[datasets.Row]] = defaultdict(list)
    for row in known.rows:
        old[row.hash].append(row)
    left_out = {item.path for item in known.quarantined}
    has_val = any(row.role == "val" for row in known.rows)
    now: dict[str, list[Photo]] = defaultdict(list)
    for photo, hash_ in zip(photos, hashes, strict=True):
        known_here = any(datasets.placed(row.path)[1] == photo.path for row in old.get(hash_, ()))
        if known_here or photo.path not in left_out:
            trained = photo.role == "val" and not has_val
            now[hash_].append(replace(photo, role="train") if trained else photo)
    found: dict[str, list[Any]] = {name: [] for name in _KINDS}
    for hash_, here in now.items():
        if hash_ not in old:
            found["new"] += [shown(photo.path) for photo in here]
            continue
        _relocated(old[hash_], here, found)
        labels = sorted({row.label for row in old[hash_]})
        roles = sorted({row.role for row in old[hash_]})
        groups = sorted({row.group for row in old[hash_]})
        for photo in here:
            path = shown(photo.path)
            for kind, before, value in (
                ("relabelled", labels, photo.label),
                ("other_role", roles, photo.role or roles[0]),
                ("other_group", groups, photo.group),
            ):
                if value not in before:
                    told = {"path": path, "before": " and ".join(before), "now": value}
                    found[kind].append(told)
    lost = [row for row in known.rows if row.hash not in now]
    for row in lost:
        part, path = datasets.placed(row.path)
        found["elsewhere" if part else "gone"].append(shown(path))
    counts = Counter(row.role for row in lost if not datasets.placed(row.path)[0])
    found["gone_by_role"] = [{"role": role, "pictures": counts[role]} for role in sorted(counts)]
    return found


def _relocated(
    rows: Sequence[datasets.Row], here: Sequence[Photo], found: dict[str, list[Any]]
) -> None:
    """Match the places that a picture had with those that it has."""
    before = {datasets.placed(row.path)[1] for row in rows}
    left = sorted(before - {photo.path for photo in here})
    came = sorted({photo.path for photo in here} - before)
    if any(datasets.placed(row.path)[0] for row in rows):
        left = []  # it lies where an update found it
        came = []
    found["moved"] += [
        {"before": shown(a), "now": shown(b)} for a, b in zip(left, came, strict=False)
    ]
    found["new"] += [shown(path) for path in came[len(left) :]]
    found["gone"] += [shown(path) for path in left[len(came) :]]
