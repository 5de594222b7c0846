"""Make the environment that `demo.py` and `check.py` run in, with the standard library alone."""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the script may meet any Python
    sys.exit(
        "error: Sevenfold needs Python 3.11 or newer, and this is Python "
        + ".".join(map(str, sys.version_info[:2]))
        + "\n  try: install a newer Python and run this script with it"
    )

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
Call = Callable[[Sequence[str]], int]


def program(folder: Path, name: str, *, windows: bool = os.name == "nt") -> Path:
    """Return the path of a program inside a virtual environment."""
    return folder / "Scripts" / f"{name}.exe" if windows else folder / "bin" / name


def fingerprint(root: Path) -> str:
    """Return a hash that changes when what must be installed may have changed."""
    digest = hashlib.sha256(f"{root}\0{sys.version}\0".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def installed(stamp: Path, mark: str) -> frozenset[str]:
    """Return the extras that the stamp says are installed for this mark."""
    try:
        known = json.loads(stamp.read_text(encoding="utf-8"))
        return frozenset(known["extras"]) if known["mark"] == mark else frozenset()
    except (OSError, ValueError, KeyError, TypeError):
        return frozenset()


def call(command: Sequence[str]) -> int:
    """Run a command in the project's folder and return its exit status."""
    sys.stdout.flush()
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def works(python: Path) -> bool:
    """Return whether this interpreter starts, is new enough and has pip."""
    probe = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    try:
        command = [str(python), "-c", probe]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def ensure(
    extras: Sequence[str],
    *,
    root: Path = ROOT,
    run: Call = call,
    works: Callable[[Path], bool] = works,
) -> Path:
    """Install the project with these extras into `.venv` unless it is, and return its Python.

    A stamp in the environment remembers the hash of `pyproject.toml` and
    `constraints.txt`; while it matches, nothing is installed and no network is used.
    """
    folder = root / ".venv"
    python = program(folder, "python")
    stamp = folder / "sevenfold.json"
    if not works(python):
        print(f"making {folder}", flush=True)
        if run([sys.executable, "-m", "venv", "--clear", str(folder)]) != 0:
            sys.exit(
                "error: Python could not make a virtual environment (its reason stands above)\n"
                "  try: install Python's venv and pip (Debian: apt install python3-venv)"
            )
    mark = fingerprint(root)
    have = installed(stamp, mark)
    if have.issuperset(extras):
        return python
    wanted = sorted(have.union(extras))
    print(f"installing the extras {', '.join(wanted)}: a few minutes the first time", flush=True)
    stamp.unlink(missing_ok=True)
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    if run([*pip, "-e", f".[{','.join(wanted)}]", "-c", "constraints.txt"]) != 0:
        sys.exit(
            "error: pip could not install the packages (its reason stands above)\n"
            "  try: check the network connection and the free disk space, then run this again"
        )
    stamp.write_text(json.dumps({"mark": mark, "extras": wanted}), encoding="utf-8")
    return python
