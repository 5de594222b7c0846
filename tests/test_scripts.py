import ast
import json
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

import _environment
import check
import demo
import links
import readme_tables

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("a", encoding="utf-8")
    return tmp_path


class Machine:
    """Note commands instead of running them; making the environment makes its folder."""

    def __init__(self, root: Path, status: int = 0) -> None:
        self.root = root
        self.status = status
        self.commands: list[list[str]] = []

    def run(self, command: Sequence[str]) -> int:
        self.commands.append(list(command))
        (self.root / ".venv").mkdir(exist_ok=True)
        return self.status

    def ensure(self, *extras: str) -> list[list[str]]:
        self.commands = []
        made = (self.root / ".venv").exists()
        _environment.ensure(extras, root=self.root, run=self.run, works=lambda _: made)
        return self.commands


def test_the_environment_is_made_and_filled_once(project: Path) -> None:
    machine = Machine(project)
    venv, pip = machine.ensure("train", "demo")
    assert venv[1:3] == ["-m", "venv"]
    assert pip[-4:] == ["-e", ".[demo,train]", "-c", "constraints.txt"]
    assert machine.ensure("train", "demo") == []
    assert machine.ensure("train") == []


def test_more_extras_are_added_to_those_that_are_there(project: Path) -> None:
    machine = Machine(project)
    machine.ensure("train", "demo")
    (pip,) = machine.ensure("dev")
    assert ".[demo,dev,train]" in pip


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_project_is_installed_anew(project: Path, name: str) -> None:
    machine = Machine(project)
    machine.ensure("train")
    (project / name).write_text("b", encoding="utf-8")
    assert len(machine.ensure("train")) == 1


def test_a_torn_stamp_is_no_stamp(project: Path) -> None:
    machine = Machine(project)
    machine.ensure("train")
    for torn in ("", "{", "[]", '{"mark": 1}'):
        (project / ".venv" / "sevenfold.json").write_text(torn, encoding="utf-8")
        assert len(machine.ensure("train")) == 1


def test_a_failed_install_is_told_and_tried_again(project: Path) -> None:
    machine = Machine(project)
    machine.ensure("train")
    (project / "constraints.txt").write_text("b", encoding="utf-8")
    machine.status = 1
    for _ in range(2):
        with pytest.raises(SystemExit, match="network"):
            machine.ensure("train")


def test_a_python_without_venv_is_told(project: Path) -> None:
    with pytest.raises(SystemExit, match="python3-venv"):
        Machine(project, status=1).ensure("train")


def test_programs_lie_where_each_system_has_them() -> None:
    folder = Path("v")
    assert _environment.program(folder, "python", windows=True) == folder / "Scripts/python.exe"
    assert _environment.program(folder, "python", windows=False) == folder / "bin/python"


@pytest.mark.parametrize("name", ["_environment", "check", "demo"])
def test_an_old_python_can_read_what_tells_it_that_it_is_too_old(name: str) -> None:
    text = (ROOT / "scripts" / f"{name}.py").read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 7))


def test_the_fast_checks_are_the_first_of_all_and_the_tests_come_last() -> None:
    python = Path("v/bin/python")
    fast, full = (check.steps(python, fast=fast) for fast in (True, False))
    assert [name for name, _ in fast] == ["format", "lint", "types"]
    assert full[:3] == fast
    assert full[-1][0] == "tests"
    assert check.main(["--slow"]) == 2


def test_all_checks_run_and_one_failure_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "ensure", lambda extras: Path("v/bin/python"))
    monkeypatch.setattr(check, "call", lambda command: int("mypy" in command))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert check.main([]) == 1
    summary = capsys.readouterr().out.partition("== summary")[2]
    assert summary.count("ok") == 6
    assert re.search("FAILED +types", summary)
    monkeypatch.setattr(check, "call", lambda command: 0)
    assert check.main(["--fast"]) == 0


def test_the_demo_hands_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(demo, "ensure", lambda extras: Path("python"))
    monkeypatch.setattr(demo, "call", lambda command: commands.append(command) or 3)
    assert demo.main(["--budget", "normal"]) == 3
    assert commands[0][2:] == ["sevenfold.cli", "demo", "--budget", "normal"]


PAGE = "before\n<!-- benchmark:speed -->\nold\n<!-- /benchmark -->\nafter\n"


def results(root: Path, *rows: object) -> Path:
    folder = root / readme_tables.RESULTS
    folder.mkdir(parents=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "speed.jsonl").write_text(text, encoding="utf-8")
    return folder


def test_a_table_has_a_row_for_each_result_that_offers_one(tmp_path: Path) -> None:
    folder = results(
        tmp_path,
        {"table": {"what": "a|b\nc", "pictures": 1234, "accuracy": 0.91234}},
        {"raw": [1, 2]},
        {"title": "How fast"},
        {"table": {"what": "d", "seconds": 61.25}},
    )
    filled = readme_tables.fill(PAGE, folder)
    assert filled == (
        "before\n<!-- benchmark:speed -->\n"
        "How fast\n\n"
        "| what | pictures | accuracy | seconds |\n"
        "| --- | --- | --- | --- |\n"
        "| a\\|b c | 1,234 | 0.912 |  |\n"
        "| d |  |  | 61.2 |\n"
        "<!-- /benchmark -->\nafter\n"
    )
    assert readme_tables.fill(filled, folder) == filled


def test_every_benchmark_is_on_the_page_of_benchmarks() -> None:
    page = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    programs = [path.name for path in (ROOT / "benchmarks").glob("*.py")]

    assert [name for name in programs if f"`{name}" not in page] == []


@pytest.mark.parametrize("arguments", [[], ["--check"]])
def test_results_that_are_missing_empty_no_table(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "README.md"
    page.write_text(PAGE + PAGE.replace("speed", "size"), encoding="utf-8")
    assert readme_tables.main(arguments, tmp_path) == 1
    assert capsys.readouterr().err.endswith("missing: benchmarks/results\n")
    results(tmp_path, {"table": {"a": 1}})
    assert readme_tables.main(arguments, tmp_path) == 1
    assert capsys.readouterr().err.endswith("missing: benchmarks/results/size.jsonl\n")
    assert page.read_text(encoding="utf-8").count("old\n") == 2


def test_what_the_checks_read_is_in_the_source_distribution() -> None:
    build = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]
    read = [page.relative_to(ROOT).parts[0] for page in readme_tables.pages(ROOT)]
    folders = {name for name in (*read, readme_tables.RESULTS.parts[0]) if (ROOT / name).is_dir()}
    assert {f"/{name}" for name in (*folders, "scripts", "src", "tests")} <= set(build["include"])


def test_every_library_that_is_imported_is_declared() -> None:
    others = {"PIL": "pillow", "cv2": "opencv-python-headless", "sklearn": "scikit-learn"}
    asked = [*PROJECT["project"]["dependencies"]]
    for name, extra in PROJECT["project"]["optional-dependencies"].items():
        asked += extra * (name != "dev")
    declared = {re.match(r"[\w-]+", requirement)[0] for requirement in asked}
    imported = {name for path in (ROOT / "src").rglob("*.py") for name in imports(path)}
    found = {others.get(name, name.replace("_", "-")) for name in imported - {"sevenfold"}}
    assert found - declared == set()


def imports(path: Path) -> set[str]:
    """Return the top names of what a program imports beyond the standard library."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.append(str(node.module))
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names


def test_the_licence_of_what_is_shipped_with_the_package_is_named() -> None:
    vendored = (ROOT / "src").rglob("LICENSE")
    files = {path.relative_to(ROOT).as_posix() for path in vendored}
    assert files
    assert {"LICENSE", *files} == set(PROJECT["project"]["license-files"])
    assert PROJECT["project"]["license"] == "Apache-2.0 AND MIT"


def test_tests_that_are_skipped_are_told_with_the_reason() -> None:
    # `-ra` lists them at the end of the tests, which stands above the summary of the checks.
    assert "-ra" in PROJECT["tool"]["pytest"]["ini_options"]["addopts"]


def test_a_stale_table_fails_the_check_until_it_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results(tmp_path, {"table": {"a": 1}})
    (tmp_path / "README.md").write_text(PAGE, encoding="utf-8")
    assert readme_tables.main(["--check"], tmp_path) == 1
    assert "README.md" in capsys.readouterr().out
    assert readme_tables.main([], tmp_path) == 0
    assert readme_tables.main(["--check"], tmp_path) == 0


def test_links_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    (tmp_path / "there is.md").write_text("", encoding="utf-8")
    page = tmp_path / "README.md"
    page.write_text(
        "[a](there%20is.md#part) [b](gone.md) [c](#part) [d](https://example.org/x)\n"
        "`[e](code.md)`\n```\n[f](block.md)\n```\n![g](pictures/gone.png)\n",
        encoding="utf-8",
    )
    assert links.broken_links(page) == ["gone.md", "pictures/gone.png"]
    assert links.main(tmp_path) == 1


def test_files_that_are_named_and_gone_are_told(tmp_path: Path) -> None:
    for folder in ("benchmarks", "src", "docs"):
        (tmp_path / folder).mkdir()
    gone = "benchmarks/" + "gone.py"
    (tmp_path / "benchmarks" / "there.py").write_text("", encoding="utf-8")
    (tmp_path / "src" / "one.py").write_text(f"see benchmarks/{'there'}.py, {gone}", "utf-8")
    (tmp_path / "docs" / "log.md").write_text(f"once there was {gone}", encoding="utf-8")
    assert links.missing_files(tmp_path) == [(tmp_path / "src" / "one.py", gone)]
    assert links.main(tmp_path) == 1
    (tmp_path / "benchmarks" / "gone.py").write_text("", encoding="utf-8")
    assert links.main(tmp_path) == 0
