"""Time whole bundles against each other, and write the table that a target is met by."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

from sevenfold import atomic, latency
from sevenfold.bench import layers as single
from sevenfold.bundles import Bundle, read_bundle
from sevenfold.errors import ResourceError, UsageError
from sevenfold.image import shown
from sevenfold.progress import Progress

SIZES: Final = ((480, 640), (1080, 1920), (3000, 4000))
"""Height and width of the pictures, beside the square that the network sees."""
_FEWER: Final = 4  # times fewer rounds where only a median is wanted


def bench(
    models: Sequence[Path],
    *,
    threads: int,
    rounds: int,
    layers: bool,
    progress: Progress,
    timer: latency.Timer = latency.timed,
) -> dict[str, Any]:
    """Time bundles on this machine.

    The first is timed against itself too: where that ratio's interval does not hold 1 in
    three tries, the machine was too busy, and `steady` is false.

    Args:
        models: runs or bundles; the others' speed-ups are over the first.
        threads: inside one call of a graph; 0 is one for each core.
        rounds: that count.
        layers: whether to time layers too, from which `prune --latency-table` predicts.
        progress: is told what is under way.
        timer: see `latency.timed`.

    Returns:
        The content of a latency table: schema "sevenfold.latency/1", which
        `latency.table` and `latency.compared` read.

    Raises:
        UsageError: there is no model, or one is named twice.
        ModelError: a bundle is damaged.
        ResourceError: the models could not be timed.
    """
    bundles = [read_bundle(path) for path in models]
    hashes = [hashlib.sha256(one.model).hexdigest() for one in bundles]
    if not bundles or len(set(hashes)) < len(hashes):
        raise UsageError(
            "bench got the same model twice" if bundles else "bench got no model",
            "name each run or bundle once; the first is timed against itself anyway",
        )
    first = bundles[0]
    graphs = [one.model for one in bundles]
    sizes = ((first.size, first.size), *SIZES)
    stages = len(sizes) + layers
    progress("time", 0, stages)
    compared = _compared(graphs, threads, rounds, timer)
    tables = []
    for at, (height, width) in enumerate(sizes, 1):
        progress("time", at, stages)
        few, picture = max(1, rounds // _FEWER), (height, width, 3)
        times = timer(graphs, rounds=few, picture=picture, threads=threads)
        row = {"height": height, "width": width, "ms": np.median(times, axis=1).tolist()}
        tables.append(row)
    network_ms = float(tables[0]["ms"][0])
    held = _layers(first, network_ms, threads, timer) if layers else _NO_LAYERS
    progress("time", stages, stages)
    rows = [
        {
            "path": str(path),
            "sha256": digest,
            "title": str(one.card.get("title", "")),
            "megabytes": len(one.model) / 1e6,
            **found,
        }
        for path, digest, one, found in zip(
            models, hashes, bundles, compared["models"], strict=True
        )
    ]
    return {
        "schema": latency.SCHEMA,
        "machine": latency.machine(),
        "onnxruntime": onnxruntime.__version__,
        "threads": threads,
        "rounds": rounds,
        "side": first.size,
        "steady": compared["steady"],
        "against_itself": compared["against_itself"],
        "models": rows,
        "sizes": tables,
        **held,
    }  # fmt: skip


def refuse(out: Path) -> None:
    """Refuse a place for a latency table before any work: what is there may be the user's own.

    Raises:
        UsageError: it is a folder, or a file that is no latency table.
        ResourceError: its folder cannot be made.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(
            f"cannot write {shown(str(out))}: {error.strerror or error}", "choose another place"
        ) from error
    if not out.exists():
        return
    try:
        ours = json.loads(out.read_text("utf-8"))["schema"] == latency.SCHEMA
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        ours = False
    if not ours:
        raise UsageError(
            f"--out {shown(str(out))} exists and is no latency table", "name a new file"
        )


def write(path: Path, facts: Mapping[str, Any]) -> None:
    """Write a latency table as a JSON file, whole or not at all.

    Raises:
        OSError: the disk is full or the place cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(path, json.dumps(facts, indent=1))


_NO_LAYERS: Final[dict[str, Any]] = {"overhead_ms": 0.0, "layers": []}


def _compared(
    graphs: Sequence[bytes], threads: int, rounds: int, timer: latency.Timer
) -> dict[str, Any]:
    """Time the first graph against itself and all others, until it is as fast as itself."""
    found = latency.steadied(graphs, timer, rounds=rounds, picture=latency.PICTURE, threads=threads)
    mine = found.times[0]
    return {
        "steady": found.steady,
        "against_itself": latency.to_json(found.itself),
        "models": [
            {
                "ms": float(np.median(times)),
                "ms_95": float(np.quantile(times, 0.95)),
                "speedup": latency.to_json(latency.ratio(mine, times)),
            }
            for times in found.times
        ],
    }


def _layers(
    bundle: Bundle, network_ms: float, threads: int, timer: latency.Timer
) -> dict[str, Any]:
    """Time the layers of a bundle so that their sum and the overhead are its network's time.

    A network whose picture's mirror image votes too has each layer twice, the first ones
    as well; `prune` counts a layer once, so that here it costs as much as both.
    """
    if "quantisation" in bundle.card:
        return _NO_LAYERS  # prune cuts float networks
    counts = single.found(bundle.model, bundle.size)
    if not counts:
        return _NO_LAYERS
    times = single.timed_layers(list(counts), threads=threads, timer=timer)
    passes = math.gcd(*counts.values())
    whole = sum(times[one] * count for one, count in counts.items())
    # Alone a layer may take longer than among its neighbours, never the network as a whole.
    scale = min(1.0, network_ms / whole) if whole else 1.0
    return {
        "overhead_ms": max(0.0, network_ms - scale * whole),
        "layers": [asdict(one.sizes) | {"ms": passes * scale * ms} for one, ms in times.items()],
    }
