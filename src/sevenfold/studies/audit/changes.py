"""Say what changed in the data since a run was trained on it."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sevenfold import data as datasets
from sevenfold.data import Manifest, Photo
from sevenfold.errors import ModelError
from sevenfold.image import shown


def manifest(run: Path) -> Manifest:
    """Read a run's record of its data.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    path = run / "data.json"
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{shown(str(run))} holds no readable data.json",
            "give --against the folder that sevenfold train wrote",
        ) from error
    return datasets.from_json(text, name=str(path))


def since(known: Manifest, photos: Sequence[Photo], hashes: Sequence[str]) -> dict[str, list[Any]]:
    """Compare by content: what is new, gone, relabelled or moved.

    A picture whose content is known never counts as new, wherever it lies now; a file
    whose content changed is a picture that is gone and another that is new. What the run
    left out is not new either.

    Returns:
        `new` and `gone` as paths; `relabelled` with `path`, `before` and `now`; `moved`
        with `before` and `now` as paths.
    """
    old: dict[str, list[datasets.Row]] = defaultdict(list)
    for row in known.rows:
        old[row.hash].append(row)
    now: dict[str, list[Photo]] = defaultdict(list)
    for photo, hash_ in zip(photos, hashes, strict=True):
        now[hash_].append(photo)
    left_out = {item.path for item in known.quarantined}
    found: dict[str, list[Any]] = {"new": [], "gone": [], "relabelled": [], "moved": []}
    for hash_, here in now.items():
        if hash_ not in old:
            found["new"] += [shown(photo.path) for photo in here if photo.path not in left_out]
            continue
        before = {row.path for row in old[hash_]}
        labels = sorted({row.label for row in old[hash_]})
        found["relabelled"] += [
            {"path": shown(photo.path), "before": " and ".join(labels), "now": photo.label}
            for photo in here
            if photo.label not in labels
        ]
        left = sorted(before - {photo.path for photo in here})
        came = sorted({photo.path for photo in here} - before)
        found["moved"] += [
            {"before": shown(a), "now": shown(b)} for a, b in zip(left, came, strict=False)
        ]
        found["new"] += [shown(path) for path in came[len(left) :]]
        found["gone"] += [shown(path) for path in left[len(came) :]]
    found["gone"] += [shown(row.path) for row in known.rows if row.hash not in now]
    return found
