"""Keep what the benchmarks measure, one JSON object a line, and sum it up.

Every program appends its rows to `benchmarks/results/NAME_runs.jsonl`, each with
`key`, `device` (processor model), `cores`, `versions`, `commit`, `seed` and `n`, and
leaves out what this machine has measured already, so that a program that was
stopped goes on. What README shows is written anew from these rows to
`benchmarks/results/NAME.jsonl`: `title` lines and `table` rows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "sevenfold",
    "numpy",
    "pillow",
    "onnxruntime",
    "opencv-python-headless",
    "torch",
    "torchvision",
    "timm",
    "scikit-learn",
    "fastai",
    "albumentations",
)
Row = dict[str, Any]


def processor() -> str:
    """Return the processor's model, with family and number where it is a general name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(
        [part.strip() for part in line.split(":", 1)] for line in text.splitlines() if ":" in line
    )
    name = facts.get("model name", platform.machine())
    return f"{name} (family {facts.get('cpu family', '?')}, model {facts.get('model', '?')})"


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_to(count: int) -> None:
    """Bind this process and its children to the first cores it has, and their threads with it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(count)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def installed() -> dict[str, str]:
    """Return the versions that matter, of this interpreter."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Return the revision of the source, with + where src/ differs from it; "" without git."""
    try:
        ask = {"cwd": ROOT, "text": True, "encoding": "utf-8"}
        name = subprocess.check_output(["git", "rev-parse", "--short=12", "HEAD"], **ask).strip()
        changed = subprocess.check_output(["git", "status", "--porcelain", "--", "src"], **ask)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return name + "+" * bool(changed.strip())


def measured_on(rows: Iterable[Row]) -> str:
    """Name the processors that rows were measured on, without family and model."""
    return ", ".join(dict.fromkeys(row["device"].partition(" (")[0] for row in rows))


@dataclass(frozen=True)
class Results:
    """Hold one benchmark's file of rows and its summary.

    Args:
        name: of the benchmark and of its place in README.
        folder: where the files are.
        again: measure what is there already once more; the latest row counts.
    """

    name: str
    folder: Path
    again: bool = False

    def rows(self, *, everywhere: bool = False, each: bool = False) -> list[Row]:
        """Return the latest row of each key, in the order of their first writing.

        Args:
            everywhere: whether those of other machines count, the latest of all.
            each: whether each machine has a latest of its own.
        """
        path = self.folder / f"{self.name}_runs.jsonl"
        if not path.is_file():
            return []
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
        here = (processor(), cores())
        mine = [line for line in lines if everywhere or (line["device"], line["cores"]) == here]
        return list({(line["key"], each and line["device"]): line for line in mine}.values())

    def missing(self, *keys: str, everywhere: bool = False) -> bool:
        """Tell whether something is left to measure, and say what is skipped.

        Args:
            keys: of the rows that are wanted.
            everywhere: whether those of other machines will do, as where no time is told.
        """
        known = {row["key"] for row in self.rows(everywhere=everywhere)}
        if self.again or not known.issuperset(keys):
            return True
        print("measured already:", *keys, sep="\n  ", file=sys.stderr)
        return False

    def append(self, key: str, *, seed: int, n: int, **facts: Any) -> None:
        """Write one row; `n` is the number of pictures, rounds or draws behind it."""
        row = {"key": key, "device": processor(), "cores": cores(), "commit": commit()}
        row |= {"versions": installed(), "seed": seed, "n": n, **facts}
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self.name}_runs.jsonl"
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        print(json.dumps({"key": key, **facts}, ensure_ascii=False), file=sys.stderr)

    def summarise(
        self,
        titles: Sequence[str],
        tables: Sequence[Mapping[str, Any]],
        rows: Sequence[Row] = (),
    ) -> None:
        """Write the lines that README shows, and print them.

        Args:
            titles: sentences above the table.
            tables: its rows.
            rows: that they tell of, where they may be of several machines.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        machines = dict.fromkeys((row["device"], row["cores"]) for row in rows)
        told = [
            f"{name}, {count} core{'s' * (count > 1)}"
            for name, count in machines or {(processor(), cores()): None}
        ]
        machine = f"Measured on {'; and on '.join(told)}."
        lines = [{"title": text} for text in (*titles, machine)] + [{"table": t} for t in tables]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        path = self.folder / f"{self.name}.jsonl"
        path.write_text(text, encoding="utf-8", newline="\n")
        sys.path.insert(0, str(ROOT / "scripts"))
        from readme_tables import section

        print(section(lines))


def parser(about: str | None, *, data: bool = True, cores: int = 2) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark.

    Args:
        about: what it says of itself.
        data: whether it looks at pictures.
        cores: that it uses unless told otherwise.
    """
    found = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if data:
        found.add_argument("--data", type=Path, required=True, help="holds clothing and cifar10")
    found.add_argument("--cores", type=int, default=cores, help="that may be used")
    found.add_argument("--again", action="store_true", help="measure also what is there already")
    found.add_argument("--smoke", action="store_true", help="try it on a handful; keep no results")
    return found


def opened(name: str, options: argparse.Namespace) -> Results:
    """Bind the process to its cores and open a benchmark's results."""
    keep_to(options.cores)
    folder = ROOT / "benchmarks" / "results"
    if options.smoke:
        folder = Path(tempfile.mkdtemp(prefix="sevenfold-smoke-"))
        print(f"a trial whose numbers mean nothing; they go to {folder}", file=sys.stderr)
    return Results(name, folder, options.again)


@dataclass(frozen=True)
class Measured:
    """Hold what a program cost and said.

    Args:
        seconds: from its start to its end.
        peak_megabytes: the larger of its largest process's peak and the largest sum
            over its processes, in which shared pages count once (sampled each second);
            0 where the system does not say.
        said: the last line of its stdout, a JSON object; where it refused, its `error`.
        code: its exit code.
    """

    seconds: float
    peak_megabytes: float
    said: Row
    code: int = 0


def measured(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    codes: Sequence[int] = (0,),
) -> Measured:
    """Run a program that prints one JSON object; stops with its messages if it fails.

    Args:
        command: the program and its words.
        environment: what is different in it.
        codes: exit codes that are no failure.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as messages:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=out, stderr=messages, env={**os.environ, **(environment or {})}
        )
        try:
            peak = _watch(process)
        except BaseException:
            process.kill()
            raise
        seconds = time.perf_counter() - start
        out.seek(0)
        messages.seek(0)
        text = out.read().decode("utf-8", "replace").strip()
        told = messages.read().decode("utf-8", "replace")[-4000:]
        code = process.returncode
        if code not in codes or not (code or text):
            raise SystemExit(f"{' '.join(command)}\nended with {code}:\n{told}")
    if code:
        return Measured(seconds, peak, {"error": told.partition("error: ")[2].strip()}, code)
    try:
        said = json.loads(text)
    except json.JSONDecodeError:
        said = json.loads(text.splitlines()[-1])
    return Measured(seconds, peak, said)


def _watch(process: subprocess.Popen[bytes]) -> float:
    """Wait for a program's end and return its peak memory in megabytes."""
    peak, ticks = 0.0, 0
    while True:
        if not hasattr(os, "wait4"):
            process.wait()
            return peak
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            unit = 1e6 if sys.platform == "darwin" else 1e6 / 1024
            return max(peak, usage.ru_maxrss / unit)
        if ticks % 20 == 0:
            peak = max(peak, _tree_megabytes(process.pid))
        ticks += 1
        time.sleep(0.05)


def _tree_megabytes(root: int) -> float:
    parents = {}
    # Not glob: it fails where a process ends while it looks.
    numbers = os.listdir("/proc") if os.path.isdir("/proc") else []
    for path in (Path("/proc", name, "stat") for name in numbers if name.isdigit()):
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(path.parent.name)] = int(fields[1])
    family, size = {root}, 0
    while len(family) != size:
        size = len(family)
        family |= {child for child, parent in parents.items() if parent in family}
    return sum(map(_own_megabytes, family))


def _own_megabytes(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 976


def t_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return mean and Student's 95 % interval; one value has no interval (NaN)."""
    import numpy as np
    from scipy import stats

    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return mean, mean - half, mean + half


def ratio_interval(above: Sequence[float], below: Sequence[float]) -> tuple[float, float, float]:
    """Return the ratio of medians of paired rounds and its 95 % bootstrap interval."""
    import numpy as np

    pairs = np.array([above, below], float)
    picked = np.random.default_rng(0).integers(0, pairs.shape[1], (4000, pairs.shape[1]))
    drawn = np.median(pairs[:, picked], axis=2)
    low, high = np.quantile(drawn[0] / drawn[1], [0.025, 0.975])
    middle = np.median(pairs, axis=1)
    return float(middle[0] / middle[1]), float(low), float(high)


def span(low: float, high: float, digits: int = 3) -> str:
    """Write an interval; nothing where there is none."""
    return "" if low != low else f"{low:.{digits}f} to {high:.{digits}f}"


def part_of(folder: Path, target: Path, per_class: int) -> Path:
    """Copy the first pictures of each class of each role, for a trial."""
    for where in sorted(path for path in folder.glob("*/*") if path.is_dir()):
        place = target / where.relative_to(folder)
        place.mkdir(parents=True)
        for path in _first(where.glob("*.jpg"), per_class):
            (place / path.name).write_bytes(path.read_bytes())
    return target


def _first(paths: Iterable[Path], count: int) -> list[Path]:
    return sorted(paths)[:count]
