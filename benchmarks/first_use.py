"""Time what a newcomer meets first: the demonstration from a fresh clone, and a start.

The demonstration: this revision is cloned to a temporary folder, its stores are empty, and
`python3 scripts/demo.py` runs in it twice; the first call installs everything. Needs what
installs packages. A start: `sevenfold --help`, `import sevenfold.predict` and a bare
interpreter in turns, the median of `--rounds`. About eight minutes, half a minute for starts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import results_file
from results_file import ROOT, Results, measured

CALLS = {"first": "demo.py in a fresh clone", "second": "demo.py once more"}
STARTS = {
    "help": ("sevenfold --help", ["-m", "sevenfold.cli", "--help"]),
    "predict": ("import sevenfold.predict", ["-c", "import sevenfold.predict"]),
    "bare": ("a bare interpreter", ["-c", ""]),
}


def demonstrations(results: Results) -> None:
    """Clone, install and run, then run again in the same clone."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        outside = os.environ.pop("PYTHONPATH", None)
        os.chdir(clone)
        for call in CALLS:
            found = measured(
                ["python3", "scripts/demo.py", "--json"], {"SEVENFOLD_CACHE": f"{folder}/stores"}
            )
            test = found.said["test"]
            results.append(
                f"demo/{call}",
                seed=0,
                n=test["pictures"],
                seconds=found.seconds,
                job_seconds=found.said["seconds"],
                peak_megabytes=found.peak_megabytes,
                accuracy=test["accuracy"],
                interval=test["intervals"]["accuracy"],
            )
        os.chdir(ROOT)
        if outside is not None:
            os.environ["PYTHONPATH"] = outside


def starts(results: Results, rounds: int) -> None:
    """Start each program in turns."""
    took: dict[str, list[float]] = {name: [] for name in STARTS}
    for _ in range(rounds + 1):  # the first fills the disk's cache
        for name, (_, words) in STARTS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
            took[name].append(time.perf_counter() - began)
    for name, seconds in took.items():
        row = {"seconds": median(seconds[1:]), "least": min(seconds[1:]), "most": max(seconds[1:])}
        results.append(f"start/{name}", seed=0, n=rounds, **row)


def summary(results: Results) -> None:
    """Write the table."""
    rows = {row["key"]: row for row in results.rows()}
    tables = []
    for call, name in CALLS.items():
        if row := rows.get(f"demo/{call}"):
            low, high = row["interval"]
            right = f"; right on {row['accuracy']:.3f} ({low:.3f} to {high:.3f}) of {row['n']}"
            tables.append(
                {
                    "what": name,
                    "seconds": f"{row['seconds']:.0f}",
                    "of it": f"the job {row['job_seconds']:.0f} s{right}",
                }
            )
    for key, (name, _) in STARTS.items():
        if row := rows.get(f"start/{key}"):
            told = f"{row['least']:.2f} to {row['most']:.2f} s in {row['n']} starts"
            tables.append({"what": name, "seconds": f"{row['seconds']:.2f}", "of it": told})
    titles = [
        "A newcomer's first calls, all in, packages from an index near by; starts: the median."
    ]
    results.summarise(titles, tables, list(rows.values()))


def main() -> None:
    """Measure what is missing, then sum up."""
    options = results_file.parser(__doc__, data=False)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--only", choices=("demo", "start"), default="")
    asked = options.parse_args()
    results = results_file.opened("first_use", asked)
    if asked.only != "demo" and results.missing(*(f"start/{name}" for name in STARTS)):
        starts(results, 2 if asked.smoke else asked.rounds)
    if asked.only != "start" and results.missing(*(f"demo/{call}" for call in CALLS)):
        demonstrations(results)
    summary(results)


if __name__ == "__main__":
    main()
