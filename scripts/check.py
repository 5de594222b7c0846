"""Install Sevenfold and run every check: the one command before a change is handed in.

`python3 scripts/check.py` runs all of them, `--fast` only format, lint and types.
All steps run even if one fails; the exit status is 1 if any did.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from _environment import call, ensure, program

Step = tuple[str, list[str]]


def steps(python: Path, *, fast: bool) -> tuple[Step, ...]:
    """Return the name and the command of each check, the cheap ones first."""
    at = [str(python), "-m"]
    quick: tuple[Step, ...] = (
        ("format", [*at, "ruff", "format", "--check", "."]),
        ("lint", [*at, "ruff", "check", "."]),
        ("types", [*at, "mypy"]),
    )
    if fast:
        return quick
    lint_imports = program(python.parent.parent, "lint-imports")
    spread = ("-n", "2", "--dist", "worksteal")  # the slow tests lie together
    return (
        *quick,
        ("import contracts", [str(lint_imports)]),
        ("tables", [str(python), "scripts/readme_tables.py", "--check"]),
        ("links", [str(python), "scripts/links.py"]),
        ("tests", [*at, "pytest", *spread, "--doctest-modules", "tests", "src/sevenfold"]),
    )


def main(arguments: list[str]) -> int:
    """Run the checks, say how each went and how long it took, and return the exit status."""
    unknown = [argument for argument in arguments if argument != "--fast"]
    if unknown:
        print(f"error: unknown option {unknown[0]}\n  try: --fast, or nothing", file=sys.stderr)
        return 2
    python = ensure(["train", "demo", "dev"])
    # Two test processes on two cores: a second thread in each only waits for the others.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("PYTHONUTF8", "1")  # some tools draw what Windows' code pages lack
    results = []
    for name, command in steps(python, fast="--fast" in arguments):
        print(f"\n== {name}", flush=True)
        start = time.perf_counter()
        failed = call(command) != 0
        results.append((name, failed, time.perf_counter() - start))
    print("\n== summary")
    for name, failed, seconds in results:
        print(f"{'FAILED' if failed else 'ok':>6}  {name} ({seconds:.1f} s)")
    return int(any(failed for _, failed, _ in results))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
