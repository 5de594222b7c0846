"""Ask the network, the exported graph and `predict` about every validation picture.

For `clothing` (its own folders as roles) and `elpv`, trained by the command line at the
quick budget, or as runs that are there already: the PyTorch network, rebuilt from
`arch.json` and `model.safetensors`, on the graph's own resized pixels; `model.onnx` by
onnxruntime; and `sevenfold.predict` from the bytes of the files. Same answer, and the largest
difference between any two probabilities. About 4 minutes a training, 2 without.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import results_file
from results_file import Results

NAMES = ("clothing", "elpv")
WAYS = ("network", "graph", "predict")


def train(source: str, run: Path, stores: Path, settings: tuple[str, ...]) -> None:
    """Train by the command line."""
    words = [sys.executable, "-m", "sevenfold.cli", "train", source, "--out", str(run)]
    for setting in settings:
        words += ["--set", setting]
    environment = {**os.environ, "SEVENFOLD_CACHE": str(stores)}
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=environment)


def rebuilt(run: Path) -> tuple[Any, dict[str, Any]]:
    """Rebuild the network of a run from its description and weights."""
    import safetensors.torch

    from sevenfold import export
    from sevenfold.practices import transfer

    arch = json.loads((run / "arch.json").read_text(encoding="utf-8"))
    settings = transfer.Transfer(**arch["transfer"])
    network, _ = transfer.build(settings, len(arch["classes"]), arch["side"], 0)
    network.load_state_dict(safetensors.torch.load_file(run / "model.safetensors"))
    return export.Shipped(network, arch["mirror"]).eval(), arch


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logits into probabilities."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def answers(run: Path, source: str, limit: int) -> dict[str, np.ndarray]:
    """Return the probabilities of the validation pictures, by each of `WAYS`."""
    from sevenfold import data, export, predict
    from sevenfold.features.trunk import session

    manifest = data.from_json((run / "data.json").read_text(encoding="utf-8"))
    chosen = {row.hash for row in manifest.rows if row.role == "val"}
    dataset = data.read(source)
    pictures = [at for at, content in enumerate(dataset.hashes) if content in chosen][:limit]
    if not pictures:
        raise SystemExit(f"{run} has no validation picture in {source}")
    threads = results_file.cores()
    shipped, arch = rebuilt(run)
    logits = export.network_logits(
        shipped, dataset, pictures, side=arch["side"], threads=threads
    ).astype(np.float64)
    graph = session((run / "bundle" / "model.onnx").read_bytes(), 1)
    (exported,) = export.run(graph, dataset, pictures, ["probabilities"], threads)
    files = [(str(at), lambda at=at: dataset.load(at)) for at in pictures]
    told = predict.predict(predict.load(run / "bundle"), files, threads=threads)
    return {
        "network": softmax(logits / arch["temperature"]),
        "graph": exported,
        "predict": np.array([one.probabilities for one in told]),
    }


def one(results: Results, name: str, run: Path, source: str, limit: int) -> None:
    """Compare the three ways on one run and write its row."""
    found = answers(run, source, limit)
    arch = json.loads((run / "arch.json").read_text(encoding="utf-8"))
    facts = {"backbone": arch["transfer"]["backbone"], "side": arch["side"]}
    for first, second in (("network", "graph"), ("graph", "predict"), ("network", "predict")):
        a, b = found[first], found[second]
        facts[f"{first}_{second}"] = {
            "same_top1": float((a.argmax(axis=1) == b.argmax(axis=1)).mean()),
            "largest_difference": float(np.abs(a - b).max()),
        }
    results.append(name, seed=0, n=len(found["graph"]), **facts)


def summary(results: Results) -> None:
    """Write the table."""
    tables = []
    for row in results.rows():
        pairs = {"network, graph": "network_graph", "graph, predict": "graph_predict"}
        line: dict[str, object] = {"data": row["key"], "px": row["side"]}
        line["validation pictures"] = row["n"]
        for title, pair in pairs.items():
            line[f"same answer: {title}"] = f"{row[pair]['same_top1']:.2%}"
            line[f"largest difference: {title}"] = f"{row[pair]['largest_difference']:.1e}"
        tables.append(line)
    titles = [
        "The PyTorch network on the graph's resized pixels, the exported graph, and "
        "`predict` from the bytes of the files, on every validation picture."
    ]
    results.summarise(titles, tables)


def main() -> None:
    """Measure what is missing."""
    asked = results_file.parser(__doc__)
    asked.add_argument(
        "--run", action="append", default=[], metavar="NAME=RUN", help="clothing or elpv, trained"
    )
    asked.add_argument("--only", choices=NAMES, default="")
    options = asked.parse_args()
    runs = dict(text.split("=", 1) for text in options.run)
    if not set(runs) <= set(NAMES):
        asked.error(f"--run takes {' or '.join(NAMES)}=RUN")
    results = results_file.opened("parity", options)
    settings = ("epochs=1", "views=1", "side=96") if options.smoke else ()
    sources = {"clothing": str(options.data / "clothing"), "elpv": "elpv"}
    for name in [options.only] if options.only else NAMES:
        if not results.missing(name):
            continue
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
            run = Path(runs.get(name, Path(place) / "run"))
            if name not in runs:
                train(sources[name], run, Path(place) / "stores", settings)
            one(results, name, run, sources[name], 40 if options.smoke else sys.maxsize)
    summary(results)


if __name__ == "__main__":
    main()
