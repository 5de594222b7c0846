"""Kill a small training at 30 random moments and resume it: are the weights the same?

300 photos of `clothing` in 3 classes, ResNet-20 from scratch at 32 pixels and the default
backbone's last block at 96 pixels, two epochs each. A run that is never killed gives the
reference hash of `model.safetensors`. Each of 30 others is killed (SIGKILL) once at a
uniformly random moment, and resumed by the same command until it ends. About 20 minutes.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

import results_file

KILLS = 30
SETTINGS = {
    "pixels": ("transfer.backbone=resnet20", "transfer.weights=random", "side=32"),
    "stored": ("side=96", "transfer.trainable_blocks=1"),
}
WHOLE = {"pixels": ("transfer.trainable_blocks=1000",), "stored": ()}


def pictures(data: Path, place: Path) -> Path:
    """Copy 100 photos of each of three classes."""
    for label in ("pants", "shirt", "shoes"):
        (place / label).mkdir(parents=True)
        for path in sorted((data / "clothing" / "train" / label).glob("*.jpg"))[:100]:
            shutil.copy(path, place / label / path.name)
    return place


def command(photos: Path, run: Path, kind: str) -> list[str]:
    """Return the training's command line."""
    words = [sys.executable, "-m", "sevenfold.cli", "train", str(photos), "--out", str(run)]
    chosen = (*SETTINGS[kind], *WHOLE[kind], "epochs=2", "views=2", "optimization.rate=0.003")
    for setting in chosen:
        words += ["--set", setting]
    return words


def fingerprint(run: Path) -> str:
    """Hash the final weights."""
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def main() -> None:
    """Measure what is missing."""
    asked = results_file.parser(__doc__)
    asked.add_argument("--kills", type=int, default=KILLS, help="stop after so many; resumable")
    options = asked.parse_args()
    results = results_file.opened("kills", options)
    kills = 2 if options.smoke else options.kills
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        photos = pictures(options.data, place / "photos")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        reference, lasts = {}, {}
        for kind in SETTINGS:
            stores = {"SEVENFOLD_CACHE": str(place / f"stores-{kind}")}
            began = time.perf_counter()
            run = place / f"reference-{kind}"
            subprocess.run(command(photos, run, kind), check=True, env=_with(stores), **quiet)
            lasts[kind] = time.perf_counter() - began
            reference[kind] = fingerprint(run)
        known = {row["key"]: row.get("killed", True) for row in results.rows()}
        ended = 0
        for number in count():
            if ended >= kills:
                break
            kind = ("pixels", "stored")[number % 2]
            key = f"kill/{number}"
            if not results.missing(key):
                ended += known[key]
                continue
            moment = random.Random(number).uniform(0.1, 1.0) * lasts[kind]
            run = place / f"run-{number}"
            stores = {"SEVENFOLD_CACHE": str(place / f"killed-{number}")}
            words = command(photos, run, kind)
            process = subprocess.Popen(words, env=_with(stores), **quiet)
            killed = False
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                killed = True
            ended += killed
            # A run is finished before its command is: until then the same command ends it.
            over = (run / "report.json").exists() and not (run / "ended.json").exists()
            if not over:
                subprocess.run(words, check=True, env=_with(stores), **quiet)
            same = fingerprint(run) == reference[kind]
            results.append(
                key, seed=number, n=300, kind=kind, killed_after_seconds=moment,
                of_seconds=lasts[kind], same=same, killed=killed,
            )  # fmt: skip
            shutil.rmtree(run)
            shutil.rmtree(place / f"killed-{number}")
    rows = [row for row in results.rows() if row.get("killed", True)]  # one may have ended
    same = sum(row["same"] for row in rows)
    table = {"kills": len(rows), "same final weights, by hash": same}
    results.summarise(["Trainings killed once at a random moment and resumed."], [table])


def _with(more: dict[str, str]) -> dict[str, str]:
    import os

    return {**os.environ, **more}


if __name__ == "__main__":
    main()
