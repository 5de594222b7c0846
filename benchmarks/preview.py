"""Draw the contact sheet of `clothing` with empty stores: seconds from start to end, memory.

The command that users type, a fresh process each time, and beside it a process that only loads
the same libraries: the difference is what the sheet costs. The median and the longest of
`--rounds`, which take turns: what is promised holds for each of them. The processor's seconds
tell whether something else ran meanwhile. Half a minute in all.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import results_file
from results_file import measured

LOADING = "import sevenfold.studies.preview; print('{}')"
KINDS = {"sheet": "`sevenfold preview`", "loading": "loading its libraries alone"}


def main() -> None:
    """Measure what is missing, then sum up."""
    options = results_file.parser(__doc__)
    options.add_argument("--rounds", type=int, default=5)
    asked = options.parse_args()
    results = results_file.opened("preview", asked)
    for number in range(1 if asked.smoke else asked.rounds):
        for kind in KINDS:
            key = f"{kind} round={number}"
            if results.missing(key):
                one_round(results, key, kind, asked.data / "clothing", number)
    summary(results)


def one_round(results: results_file.Results, key: str, kind: str, data: Path, number: int) -> None:
    """Measure one process and write its row."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-c", LOADING]
        if kind == "sheet":
            command = [sys.executable, "-m", "sevenfold.cli", "preview", str(data)]
            command += ["--out", str(Path(place) / "out"), "--seed", str(number), "--json"]
        before = processor_seconds()
        found = measured(command, {"SEVENFOLD_CACHE": str(Path(place) / "stores")})
        spent = processor_seconds() - before
        sizes = {path.suffix[1:]: path.stat().st_size / 1e6 for path in Path(place).glob("out/*")}
    said = found.said
    facts: dict[str, Any] = {"seconds": found.seconds, "peak_megabytes": found.peak_megabytes}
    facts |= {"processor_seconds": spent}
    facts |= {f"{name}_megabytes": size for name, size in sorted(sizes.items())}
    facts |= {"classes": len(said.get("classes", [])), "inside_seconds": said.get("seconds", 0.0)}
    results.append(key, seed=number, n=said.get("pictures", 0), kind=kind, **facts)


def processor_seconds() -> float:
    """Return what the processes that this one started have used so far."""
    spent = os.times()
    return spent.children_user + spent.children_system


def summary(results: results_file.Results) -> None:
    """Write the table."""
    tables = []
    for kind, name in KINDS.items():
        rows = [row for row in results.rows() if row["kind"] == kind]
        times = [row["seconds"] for row in rows]
        tables.append(
            {
                "process": name,
                "pictures": rows[0]["n"] or "",
                "classes shown": rows[0]["classes"] or "",
                "n": len(rows),
                "seconds": median(times),
                "longest": max(times),
                "processor seconds": median(row["processor_seconds"] for row in rows),
                "peak MB": round(max(row["peak_megabytes"] for row in rows)),
            }
        )
    title = (
        "Contact sheet of `clothing` with empty stores, each in a fresh process: median and "
        "longest of n, in seconds."
    )
    results.summarise([title], tables)


if __name__ == "__main__":
    main()
