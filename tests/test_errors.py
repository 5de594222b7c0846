"""What people read when something goes wrong, word for word, in `errors.snapshot`.

A new mistake is a new entry of `COMMANDS`: it makes what the command meets in an
empty folder and returns the command line. After a deliberate change of words, run
`SEVENFOLD_SNAPSHOT=write python -m pytest tests/test_errors.py` and read the diff.
"""

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mistakes import MISTAKES
from refusals import REFUSALS
from sevenfold import cli, errors, terminal

SNAPSHOT = Path(__file__).with_name("errors.snapshot")

COMMANDS: dict[str, Callable[[Path], str]] = {
    "a command with a typo": lambda folder: "trian photos --out run",
    "an option with a typo": lambda folder: "train photos --out run --sed 3",
    "an option of no command": lambda folder: "version --xyzzy",
    "train without --out": lambda folder: "train photos",
    "train with two folders": lambda folder: "train photos more --out run",
    "a device that is none": lambda folder: "train photos --out run --device gpu",
    "a negative seed": lambda folder: "train photos --out run --seed -1",
    "a seed in words": lambda folder: "train photos --out run --seed one",
    "a store that is none": lambda folder: "cache --clear pictures",
    "predict without a model": lambda folder: "predict",
    "predict without photos": lambda folder: "predict run",
    "a recall that is none": lambda folder: "train photos --out run --min-recall crack",
    "costs that are not there": lambda folder: "train photos --out run --costs none.toml",
    "a target in per cent": lambda folder: "curve photos --target 95",
    "a curve with GPUs without Ray": lambda folder: "curve photos --gpus-per-trial 1",
    "a curve of two repetitions": lambda folder: "curve photos --repetitions 2",
    "a suggestion of nothing": lambda folder: "suggest run new --out out --count 0",
    "evidence of five repetitions": lambda folder: "evidence photos --out run --repetitions 5",
    "evidence of no practice": lambda folder: "evidence photos --out run --practices imbalence",
    "an address without Ray": lambda folder: "evidence photos --out run --address auto",
    "suggest: there is no run": lambda folder: "suggest run new",
    "prune to no target": lambda folder: "prune run --target flops=0.5",
    "update with half a new name": lambda folder: "update run photos --relabel cat",
    "update of no run": lambda folder: "update run photos",
    "versions of no run": lambda folder: "versions run",
    "rollback of no run": lambda folder: "rollback run 1",
    "rollback to no number": lambda folder: "rollback run first",
} | MISTAKES

FAILURES: dict[str, Exception] = {
    "a full disk": OSError(28, "No space left on device", "run/model.onnx"),
    "a read-only folder": PermissionError(13, "Permission denied", "run"),
    "a system error without words": OSError(),
    "no memory": MemoryError("Unable to allocate 9 GiB"),
    "no torch": ModuleNotFoundError("No module named 'torch'", name="torch"),
    "a bug": ZeroDivisionError("division by zero"),
}

NAMES = {*COMMANDS, *FAILURES, *REFUSALS}


def told(name: str, code: int, text: str, folder: Path) -> str:
    """Write one entry of the snapshot; places and sizes that differ between machines go."""
    return f"[{name}] exit {code}\n{text.replace(str(folder), 'FOLDER')}\n"


def entries(text: str) -> dict[str, str]:
    parts = re.split(r"^(?=\[)", text, flags=re.MULTILINE)
    return {part[1 : part.index("]")]: part for part in parts if part.strip()}


def compare(name: str, found: str) -> None:
    known = entries(SNAPSHOT.read_text(encoding="utf-8")) if SNAPSHOT.exists() else {}
    if os.environ.get("SEVENFOLD_SNAPSHOT") == "write":
        kept = {n: t for n, t in (known | {name: found}).items() if n in NAMES}
        SNAPSHOT.write_text("".join(kept[n] for n in sorted(kept)), "utf-8", newline="\n")
        return
    assert known.get(name) == found


@pytest.mark.parametrize("name", COMMANDS)
def test_a_mistake_on_the_command_line_is_told_in_two_lines(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code = cli.main(COMMANDS[name](tmp_path).split())
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"error: .+\n  try: .+\n", err)
    compare(name, told(name, code, err, tmp_path))


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_of_the_system_is_told_in_two_lines(name: str, tmp_path: Path) -> None:
    error = terminal.explain(FAILURES[name])
    text = f"error: {error.problem}\n  try: {error.cure}\n"
    compare(name, told(name, error.exit_code, text, tmp_path))


@pytest.mark.parametrize("name", REFUSALS)
def test_a_mistake_in_a_program_is_told_in_two_lines(name: str, tmp_path: Path) -> None:
    with pytest.raises(errors.SevenfoldError) as refused:
        REFUSALS[name]()
    error = refused.value
    text = f"error: {error.problem}\n  try: {error.cure}\n"
    assert re.fullmatch(r"error: .+\n  try: .+\n", text)
    compare(name, told(name, error.exit_code, text, tmp_path))


def test_the_snapshot_holds_nothing_else() -> None:
    known = entries(SNAPSHOT.read_text(encoding="utf-8"))
    assert set(known) == NAMES


def test_each_kind_of_error_has_an_exit_code_of_its_own() -> None:
    kinds = errors.SevenfoldError.__subclasses__()
    assert sorted(kind.exit_code for kind in kinds) == [2, 3, 4, 5, 6]
    assert errors.ImageRejected.exit_code == errors.DataError.exit_code


def test_an_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(errors.DataError("what", "how")))
    assert (type(error), error.problem, error.cure) == (errors.DataError, "what", "how")
