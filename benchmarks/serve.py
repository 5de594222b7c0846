"""Serve EfficientNet-Lite0 at 224 px over HTTP: how fast, how large, and is anybody lost?

A model of one epoch answers photos of `clothing`, as files, to 1, 4 and 16 clients in a
process of their own on the server's two cores. Each round asks the server and then the
bare graph: onnxruntime on the same file with the same decoding, in one thread for one
client and in as many as there are cores for more. Then 20,000 pictures are sent and
memory is watched; 1,000 are sent at once and the server is told to stop; and what
`pip install .` brings is weighed. 25 minutes on two cores.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import results_file
from results_file import ROOT, Results, measured, ratio_interval, span

CLIENTS, ROUNDS, PICTURES = (1, 4, 16), 30, 150
REQUESTS, WARM, BURST, STARTS = 20_000, 500, 1_000, 5
GOALS = {
    "ratio": 0.8, "overhead ms": 3.0, "growth MB": 50.0,
    "install MB": 250.0, "ready s": 2.0, "resident MB": 300.0,
}  # fmt: skip
SETTINGS = ("side=224", "epochs=1", "views=1", "optimization.rate=0.003")


@dataclass(frozen=True)
class Server:
    """Hold a server that runs."""

    process: subprocess.Popen[str]
    port: int
    ready: float

    def megabytes(self) -> float:
        """Return its resident memory now."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        line = next(line for line in text.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024 / 1e6


@contextlib.contextmanager
def served(bundle: Path, *more: str, python: str = sys.executable) -> Iterator[Server]:
    """Start the command and stop it at the end, if it still runs."""
    words = [python, "-m", "sevenfold.cli", "serve", str(bundle), "--port", "0", *more]
    environment = dict(os.environ)
    if python != sys.executable:
        environment.pop("PYTHONPATH", None)  # what is installed there, and nothing else
    began = time.perf_counter()
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        try:
            assert process.stdout
            port = int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
            urllib.request.urlopen(f"http://localhost:{port}/readyz", timeout=60).close()
            yield Server(process, port, time.perf_counter() - began)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(60)


def load(*words: object) -> dict[str, Any]:
    """Run the other program."""
    program = str(ROOT / "benchmarks" / "serve_load.py")
    return measured([sys.executable, program, *map(str, words)]).said


def model(data: Path, place: Path) -> tuple[Path, Path]:
    """Train on few pictures, as only speed counts, and return bundle and pictures."""
    photos = results_file.part_of(data / "clothing", place / "photos", 4)
    words = [sys.executable, "-m", "sevenfold.cli", "train", str(photos)]
    words += ["--out", str(place / "run")]
    for setting in (*SETTINGS, "transfer.trainable_blocks=1"):
        words += ["--set", setting]
    environment = {**os.environ, "SEVENFOLD_CACHE": str(place / "stores")}
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=environment)
    return place / "run" / "bundle", photos


def speed(results: Results, bundle: Path, photos: Path, clients: int, rounds: int) -> None:
    """Ask server and bare graph in turns."""
    threads = min(clients, results_file.cores())
    served_rates, bare_rates, over = [], [], []
    with served(bundle, "--queue", str(max(CLIENTS))) as server:
        for _ in range(rounds):
            bare = load("bare", bundle, photos, threads, PICTURES)
            asked = load("ask", server.port, photos, clients, PICTURES)
            if asked["statuses"] != {"200": PICTURES}:
                raise SystemExit(f"not all were answered: {asked['statuses']}")
            served_rates.append(PICTURES / asked["seconds"])
            bare_rates.append(PICTURES / bare["seconds"])
            medians = [statistics.median(one["milliseconds"]) for one in (asked, bare)]
            over.append(medians[0] - medians[1])
    ratio, low, high = ratio_interval(served_rates, bare_rates)
    results.append(
        f"speed/{clients}", seed=0, n=rounds, clients=clients, pictures=PICTURES, ratio=ratio,
        low=low, high=high, served_per_second=statistics.median(served_rates),
        bare_per_second=statistics.median(bare_rates), overhead_ms=statistics.median(over),
    )  # fmt: skip


def memory(results: Results, bundle: Path, photos: Path, requests: int) -> None:
    """Send many pictures and see whether the process grows after it is warm."""
    with served(bundle) as server:
        load("ask", server.port, photos, 4, WARM)
        seen = [server.megabytes()]
        step = max(WARM, requests // 20)
        for _ in range(requests // step):
            load("ask", server.port, photos, 4, step)
            seen.append(server.megabytes())
    results.append(
        "memory", seed=0, n=step * (requests // step), megabytes=seen, growth=max(seen) - seen[0]
    )


def stopped(results: Results, bundle: Path, photos: Path, queue: int, count: int) -> None:
    """Stop a server to which many have sent a picture."""
    with served(bundle, "--queue", str(queue)) as server:
        found = load("burst", server.port, photos, count, server.process.pid)["statuses"]
        code = server.process.wait(60)
    results.append(f"stopped/{queue}", seed=0, n=count, queue=queue, statuses=found, exit=code)


def kilobytes(folder: Path) -> int:
    """Return what a folder takes on the disk, in units of 1,024 bytes."""
    return int(subprocess.check_output(["du", "-sk", str(folder)], text=True).split()[0])


def installed(results: Results, bundle: Path, place: Path, starts: int) -> None:
    """Install without extras, weigh it, start it, and see its memory when it is ready."""
    subprocess.run([sys.executable, "-m", "venv", str(place / "venv")], check=True)
    python = str(place / "venv" / "bin" / "python")
    empty = kilobytes(place / "venv")
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(ROOT)], cwd=place, **quiet)
    added = kilobytes(place / "venv") - empty
    readies, residents = [], []
    for _ in range(starts + 1):
        with served(bundle, python=python) as server:
            readies.append(server.ready)
            residents.append(server.megabytes())
    results.append(
        "installed", seed=0, n=starts, megabytes=added * 1024 / 1e6,
        ready_first=readies[0], ready=statistics.median(readies[1:]),
        resident=max(residents[1:]),
    )  # fmt: skip


def line(what: str, found: str, goal: str, holds: bool, interval: str = "", n: int = 0) -> Any:
    """Write a row of the table."""
    verdict = "yes" if holds else "no"
    row = {"what": what, "n": n, "found": found, "95 % interval": interval, "goal": goal}
    return row | {"holds": verdict}


def tables(rows: Sequence[dict[str, Any]]) -> list[Any]:
    """Hold every row against its goal."""
    found = []
    for row in rows:
        n, key = row["n"], row["key"].partition("/")[0]
        if key == "speed":
            goal, name = GOALS["ratio"], f"{row['clients']} client{'s' * (row['clients'] > 1)}"
            told = f"{row['ratio']:.3f} ({row['served_per_second']:.0f} pictures a second)"
            interval = span(row["low"], row["high"])
            what = f"throughput to bare onnxruntime, {name}"
            found.append(line(what, told, f"≥ {goal}", row["ratio"] >= goal, interval, n))
            if row["clients"] == 1:
                over, goal = row["overhead_ms"], GOALS["overhead ms"]
                what = "a request over decoding and running, median"
                found.append(line(what, f"{over:.2f} ms", f"≤ {goal:g} ms", over <= goal, "", n))
        elif key == "memory":
            goal = GOALS["growth MB"]
            told, holds = f"{row['growth']:.1f} MB", row["growth"] <= goal
            found.append(line("growth of resident memory", told, f"≤ {goal:g} MB", holds, "", n))
        elif key == "stopped":
            counts = row["statuses"]
            told = ", ".join(f"{count:,} of {code}" for code, count in sorted(counts.items()))
            what = f"stopped with so many asked, {row['queue']} may wait"
            found.append(line(what, told, "none cut", set(counts) <= {"200", "503"}, "", n))
        else:
            for what, name, unit in (
                ("what `pip install .` adds to an empty environment", "megabytes", "MB"),
                ("from the start to /readyz", "ready", "s"),
                ("resident memory when ready", "resident", "MB"),
            ):
                goal = GOALS[{"megabytes": "install"}.get(name, name) + f" {unit}"]
                told = f"{row[name]:.2f} {unit}" if unit == "s" else f"{row[name]:.0f} {unit}"
                found.append(line(what, told, f"≤ {goal:g} {unit}", row[name] <= goal, "", n))
    return found


def main() -> None:
    """Measure what is missing."""
    asked = results_file.parser(__doc__)
    asked.add_argument("--bundle", type=Path, help="that was trained already, instead of a new one")
    asked.add_argument("--photos", type=Path, help="to ask about, with --bundle")
    keys = [*(f"speed/{one}" for one in CLIENTS), "memory", "stopped/16", "installed"]
    keys.append(f"stopped/{BURST}")
    asked.add_argument("--only", nargs="+", choices=keys, default=keys)
    options = asked.parse_args()
    results = results_file.opened("serve", options)
    small = options.smoke

    def wanted(key: str) -> bool:
        return key in options.only and results.missing(key)

    if any(map(wanted, keys)):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            if options.bundle:
                bundle, photos = options.bundle.resolve(), options.photos.resolve()
            else:
                bundle, photos = model(options.data.resolve(), place)
            for clients in CLIENTS:
                if wanted(f"speed/{clients}"):
                    speed(results, bundle, photos, clients, 2 if small else ROUNDS)
            if wanted("memory"):
                memory(results, bundle, photos, 1_000 if small else REQUESTS)
            for queue in (16, BURST):
                if wanted(f"stopped/{queue}"):
                    stopped(results, bundle, photos, queue, 200 if small else BURST)
            if wanted("installed"):
                installed(results, bundle, place, 1 if small else STARTS)
    titles = ["`sevenfold serve` with EfficientNet-Lite0 at 224 px; clients on the same cores."]
    results.summarise(titles, tables(results.rows()))


if __name__ == "__main__":
    main()
