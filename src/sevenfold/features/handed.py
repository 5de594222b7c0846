"""Hand stored rows to another process, which reads them and writes nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sevenfold.data import Dataset
from sevenfold.features.store import Store
from sevenfold.features.views import JoinedViews, StoredViews, Views


def to_json(views: Views) -> dict[str, Any]:
    """Describe where stored rows lie; empty for views made on demand."""
    if isinstance(views, StoredViews):
        store = views.store
        return {
            "folder": str(store.folder),
            "shape": list(store.shape),
            "dtype": store.dtype.name,
            "pictures": views.pictures.tolist(),
            "count": views.count,
        }
    if isinstance(views, JoinedViews):
        parts = [to_json(part) for part in views.parts]
        return {"parts": parts, "part_of": views.part_of.tolist()} if all(parts) else {}
    return {}


def opened(held: Mapping[str, Any], dataset: Dataset) -> Views:
    """Open what `to_json` said. Reads the stores.

    Args:
        held: where the rows lie.
        dataset: whose hashes are theirs.

    Raises:
        KeyError: a row is not there.
    """
    if "parts" in held:
        parts = [opened(part, dataset) for part in held["parts"]]
        return JoinedViews(parts, np.array(held["part_of"], np.int64))
    store = Store(Path(held["folder"]), tuple(held["shape"]), held["dtype"], {})
    return StoredViews(store, dataset, np.array(held["pictures"], np.int64), held["count"])
