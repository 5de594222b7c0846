"""Read 10,000 pictures, find exact duplicates among them and give them roles: seconds, memory.

Twice the same pictures, the 10,000 of CIFAR-10's `test.parquet`: as a parquet file, and as
JPEG files in class folders (both written first to a temporary folder, which is not counted). A
fresh process each time, from its start to its end; the median of `--rounds`, which take
turns. About a minute in all.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from statistics import median

import results_file
from results_file import measured

KINDS = {"parquet": "CIFAR-10, one parquet file", "folders": "the same, JPEGs in folders"}


def read(source: str) -> None:
    """Do what is measured, in a process of its own."""
    from sevenfold import data

    dataset = data.read(source)
    parted = data.split(dataset)
    roles = {"train": len(parted.train), "val": len(parted.val), "test": len(parted.test)}
    copies = len(dataset) - len(set(dataset.hashes))
    print(json.dumps({"pictures": len(dataset), "exact_copies": copies, "roles": roles}))


def write(parquet: Path, folder: Path, count: int) -> tuple[Path, Path]:
    """Write evenly spaced pictures as one parquet file and as files; return both places."""
    import pyarrow.parquet

    whole = pyarrow.parquet.read_table(parquet)
    step = max(1, len(whole) // count)  # the file is in order of class
    table = whole.take(list(range(0, len(whole), step))[:count])
    images, labels = table["image"].to_pylist(), table["label"].to_pylist()
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / "files" / str(label)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.jpg").write_bytes(image["bytes"])
    pyarrow.parquet.write_table(table, folder / "some.parquet")
    return folder / "some.parquet", folder / "files"


def main() -> None:
    """Measure what is missing, then sum up."""
    if sys.argv[1:2] == ["--read"]:
        return read(sys.argv[2])
    options = results_file.parser(__doc__)
    options.add_argument("--rounds", type=int, default=5)
    asked = options.parse_args()
    results = results_file.opened("ingest", asked)
    count, rounds = (400, 1) if asked.smoke else (10_000, asked.rounds)
    keys = {kind: [f"{kind} round={number}" for number in range(rounds)] for kind in KINDS}
    if any(results.missing(*some) for some in keys.values()):
        with tempfile.TemporaryDirectory() as place:
            sources = write(asked.data / "cifar10" / "test.parquet", Path(place), count)
            for number in range(rounds):
                for kind, source in zip(KINDS, sources, strict=True):
                    if results.missing(keys[kind][number]):
                        one_round(results, keys[kind][number], kind, str(source))
    summary(results)


def one_round(results: results_file.Results, key: str, kind: str, source: str) -> None:
    """Measure one process and write its row."""
    found = measured([sys.executable, __file__, "--read", source])
    cost = {"seconds": found.seconds, "peak_megabytes": found.peak_megabytes}
    results.append(key, seed=0, n=found.said.pop("pictures"), kind=kind, **cost, **found.said)


def summary(results: results_file.Results) -> None:
    """Write the table."""
    tables = []
    for kind, name in KINDS.items():
        rows = [row for row in results.rows() if row["kind"] == kind]
        times = [row["seconds"] for row in rows]
        tables.append(
            {
                "pictures": rows[0]["n"],
                "from": name,
                "n": len(rows),
                "seconds": median(times),
                "from, to": results_file.span(min(times), max(times), 1),
                "peak MB": round(max(row["peak_megabytes"] for row in rows)),
                "exact copies": rows[0]["exact_copies"],
            }
        )
    title = "Read, searched for exact duplicates and split, all in a fresh process (median of n)."
    results.summarise([title], tables)


if __name__ == "__main__":
    main()
