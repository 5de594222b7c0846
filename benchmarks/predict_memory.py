"""Answer 500,000 pictures by the command line: does memory stay level, under 1 GB?

A CSV names a few thousand JPEGs of CIFAR-10 again and again, each time by another path
(`d017/../files/3.jpg`); a bundle of ResNet-20 at 32 px answers to a CSV. A fresh process each
time, for 5,000, 50,000 and `--pictures`; the last is asked again when all is answered. One
over 50,000 is killed (SIGKILL) half-way and goes on by the same command. Every path must then
have exactly one answer. A minute for 30,000 pictures on one core.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import results_file
from results_file import Measured, Results, measured

FILES, TRAINED = 2_000, 300
WAYS = {"once": "at once", "resumed": "killed half-way, resumed", "again": "asked again"}
SETTINGS = (
    "transfer.backbone=resnet20",
    "transfer.weights=random",
    "transfer.trainable_blocks=1000",
    "side=32",
    "epochs=1",
    "views=1",
    "optimization.rate=0.003",
)


def files(data: Path, place: Path) -> None:
    """Write pictures of CIFAR-10 to answer, and some in folders of classes to train on."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(data / "cifar10" / "test.parquet")
    step = len(table) // FILES
    rows = table.take(list(range(0, len(table), step))[:FILES])
    images, labels = rows["image"].to_pylist(), rows["label"].to_pylist()
    (place / "files").mkdir()
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (place / "files" / f"{number}.jpg").write_bytes(image["bytes"])
        if number % (FILES // TRAINED) == 0:
            folder = place / "photos" / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.jpg").write_bytes(image["bytes"])


def bundle(place: Path) -> Path:
    """Train a tiny model and return its bundle."""
    words = [sys.executable, "-m", "sevenfold.cli", "train", str(place / "photos")]
    words += ["--out", str(place / "run")]
    for setting in SETTINGS:
        words += ["--set", setting]
    environment = {**os.environ, "SEVENFOLD_CACHE": str(place / "stores")}
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=environment)
    return place / "run" / "bundle"


def listed(place: Path, count: int) -> Path:
    """Write a CSV of so many paths, no two the same text."""
    table = place / f"pictures-{count}.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path"])
        for number in range(count):
            lap = f"d{number // FILES:03d}"
            if number % FILES == 0:
                (place / lap).mkdir(exist_ok=True)
            writer.writerow([f"{lap}/../files/{number % FILES}.jpg"])
    return table


def command(model: Path, table: Path, out: Path) -> list[str]:
    """Return the command line that answers a table of pictures."""
    words = [sys.executable, "-m", "sevenfold.cli", "predict", str(model), str(table)]
    return [*words, "--out", str(out), "--threads", str(results_file.cores()), "--json"]


def paths(out: Path) -> Iterator[str]:
    """Yield the path in each row of answers."""
    with out.open(encoding="utf-8", newline="") as file:
        yield from (row["path"] for row in csv.DictReader(file))


def written(results: Results, key: str, found: Measured, out: Path, count: int) -> None:
    """Check the answers and write a row."""
    answered, distinct = 0, set()
    for path in paths(out):
        answered += 1
        distinct.add(hash(path))
    if answered != count or len(distinct) != count:
        raise SystemExit(f"{answered:,} answers for {len(distinct):,} of {count:,} pictures")
    results.append(
        key, seed=0, n=count, seconds=found.seconds, peak_megabytes=found.peak_megabytes,
        added=found.said["answers"], failed=len(found.said["failed"]),
    )  # fmt: skip


def one(results: Results, place: Path, model: Path, way: str, count: int) -> None:
    """Answer so many pictures in one of `WAYS` and write a row."""
    out = place / "answers.csv"
    words = command(model, listed(place, count), out)
    if way == "again":
        if not out.exists():
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    else:
        out.unlink(missing_ok=True)
    if way == "resumed":
        print(f"killed after {killed(words, out, count // 2):,}", file=sys.stderr)
    written(results, f"{way} {count}", measured(words), out, count)


def killed(words: list[str], out: Path, rows: int) -> int:
    """Start a program, kill it when its file has so many rows, and return how many it has."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(words, **quiet)
    try:
        while process.poll() is None and not (out.exists() and lines(out) > rows):
            time.sleep(0.5)
    finally:
        process.kill()
        process.wait()
    return lines(out) - 1


def lines(path: Path) -> int:
    """Count the lines of a file."""
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


def summary(results: Results) -> None:
    """Write the table."""
    tables = [
        {
            "pictures": row["n"],
            "way": WAYS[row["key"].rpartition(" ")[0]],
            "answered by this process": row["added"],
            "peak MB": f"{row['peak_megabytes']:.0f}",
            "seconds": f"{row['seconds']:.0f}",
        }
        for row in results.rows()
    ]
    title = (
        "`sevenfold predict` over many small pictures to a CSV: peak memory (ResNet-20, 32 px). "
        "Other work ran beside it: the seconds are no measure of speed."
    )
    results.summarise([title], tables)


def main() -> None:
    """Measure what is missing, then sum up."""
    asked = results_file.parser(__doc__)
    asked.add_argument("--pictures", type=int, default=500_000, help="the largest number")
    options = asked.parse_args()
    results = results_file.opened("predict_memory", options)
    counts = sorted({500, 1_000} if options.smoke else {5_000, 50_000, options.pictures})
    wanted = [("once", count) for count in counts]
    wanted += [("again", counts[-1]), ("resumed", counts[1])]
    if results.missing(*(f"{way} {count}" for way, count in wanted)):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            place = Path(folder)
            files(options.data, place)
            model = bundle(place)
            for way, count in wanted:
                if results.missing(f"{way} {count}"):
                    one(results, place, model, way, count)
    summary(results)


if __name__ == "__main__":
    main()
