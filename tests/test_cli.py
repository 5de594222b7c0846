import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import sevenfold
from sevenfold import cli, doctor, drift, errors, terminal
from sevenfold.answers import Answer, Failure

COMMANDS = (
    "audit",
    "bench",
    "cache",
    "compare",
    "curve",
    "demo",
    "distill",
    "doctor",
    "evaluate",
    "evidence",
    "export",
    "predict",
    "preview",
    "prune",
    "race",
    "recipe",
    "report",
    "rollback",
    "serve",
    "suggest",
    "train",
    "update",
    "version",
    "versions",
)
SCORES = {
    "accuracy": 0.91,
    "balanced_accuracy": 0.9,
    "macro_f1": 0.89,
    "nll": 0.3,
    "calibration_error": float("nan"),
    "pictures": 1234,
    "intervals": {"accuracy": [0.88, 0.94]},
}
TRAINED = {
    "schema": "sevenfold.train/1",
    "run": "runs/a",
    "seconds": 61.2,
    "test": SCORES,
    "validation": SCORES,
    "bundle": {
        "megabytes": 13.0,
        "latency_ms": 9.5,
        "network_latency_ms": 7.0,
        "parity_top1": 1.0,
        "parity_pictures": 341,
        "parity_max_difference": 1e-6,
    },
    "quarantined": 2,
}


def replace_module(monkeypatch: pytest.MonkeyPatch, name: str, **names: Any) -> None:
    module = SimpleNamespace(**names)
    parent, _, leaf = f"sevenfold.{name}".rpartition(".")
    # In this order: the package finds its modules in `sys.modules`, and would put this one back.
    monkeypatch.setattr(importlib.import_module(parent), leaf, module, raising=False)
    monkeypatch.setitem(sys.modules, f"sevenfold.{name}", module)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace the job by one that notes how it is called."""
    seen: list[Any] = []

    def train(data: str, out: Path, *, request: Any, progress: Any) -> dict[str, Any]:
        seen.append((data, out, request))
        return TRAINED

    def demo(out: Path, *, request: Any, progress: Any) -> dict[str, Any]:
        seen.append((out, request))
        return TRAINED

    def evaluate(model: Path, data: str, **rest: Any) -> dict[str, Any]:
        seen.append((model, data, rest))
        recall = {"value": 0.5, "low": 0.1, "high": 0.9}
        crack = {"label": "a crack", "pictures": 7, "recall": recall, "too_few": True}
        return {
            "schema": "sevenfold.evaluate/1", "scores": SCORES, "left_out": 2, "seconds": 1.0,
            "learnt_from": 3, "quarantined": 8, "roles": False, "new": 2,
            "unusable": [{"path": f"a/{at}.jpg", "reason": "torn"} for at in range(7)],
            "classes": [crack],
        }  # fmt: skip

    replace_module(monkeypatch, "job", Request=SimpleNamespace, train=train, demo=demo)
    replace_module(monkeypatch, "scoring", evaluate=evaluate)
    return seen


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def train(*_: Any, **__: Any) -> None:
        raise error

    replace_module(monkeypatch, "job", Request=SimpleNamespace, train=train)


def only_object(text: str) -> Any:
    assert text.count("\n") == 1
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def ran(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, which has imported nothing yet."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_help_needs_neither_torch_nor_numpy() -> None:
    program = (
        "import sys\n"
        "from sevenfold.cli import main\n"
        "code = main(['--help'])\n"
        "heavy = {'torch', 'numpy', 'onnxruntime', 'PIL', 'cv2'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)\n"
    )
    done = ran(program)
    assert done.returncode == 0, done.stderr
    assert all(f" {command} " in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert f"sevenfold {command}" in out
    assert ("--json" in out) is (command != "serve")  # it answers over HTTP until stopped
    assert err == ""


def test_the_options_of_train_arrive_in_its_request(calls: list[Any]) -> None:
    line = "train photos --out runs/a --budget 20m --recipe r.toml --set a.b=1 --set c.d=-2"
    line += " --seed 7 --threads 2 --workers 1 --device cpu --licence MIT --replace"
    line += " --columns path=f,label=l"
    assert cli.main([*line.split(), "--group-by", r"^(\d+)_", "--small-classes", "other"]) == 0
    data, out, request = calls[0]
    assert (data, out) == ("photos", Path("runs/a"))
    assert vars(request) == {
        "budget": "20m",
        "overrides": ("a.b=1", "c.d=-2"),
        "recipe": "r.toml",
        "seed": 7,
        "columns": {"path": "f", "label": "l"},
        "group_by": r"^(\d+)_",
        "small_classes": "other",
        "licence": "MIT",
        "replace": True,
        "threads": 2,
        "workers": 1,
        "device": "cpu",
        "costs": "",
        "min_recall": (),
    }


@pytest.mark.parametrize(
    ("arguments", "replaces"), [([], True), (["--out", "a"], False), (["--replace"], True)]
)
def test_the_demo_replaces_the_last_one_but_nothing_else(
    arguments: list[str], replaces: bool, calls: list[Any]
) -> None:
    assert cli.main(["demo", *arguments]) == 0
    assert calls[0][1].replace is replaces


@pytest.mark.parametrize(
    ("arguments", "schema"),
    [
        (["train", "photos", "--out", "runs/a"], "sevenfold.train/1"),
        (["demo"], "sevenfold.train/1"),
        (["evaluate", "runs/a", "photos"], "sevenfold.evaluate/1"),
        (["version"], "sevenfold.version/1"),
    ],
)
def test_json_is_one_object_with_a_schema(
    arguments: list[str], schema: str, calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*arguments, "--json"]) == 0
    assert only_object(capsys.readouterr().out)["schema"] == schema


def test_what_json_has_no_number_for_is_null(
    calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["train", "photos", "--out", "runs/a", "--json"])
    assert only_object(capsys.readouterr().out)["test"]["calibration_error"] is None


def test_the_summary_says_how_good_how_large_and_where(
    calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["train", "photos", "--out", "runs/a"])
    out = capsys.readouterr().out
    for said in ("0.910 (0.880 to 0.940)", "1,234", "13.0 MB", "9.5 ms", "2 pictures"):
        assert said in out
    assert str(Path("runs/a") / "report.html") in out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("odd"), 1),
        (errors.UsageError("a", "b"), 2),
        (errors.DataError("a", "b"), 3),
        (errors.ModelError("a", "b"), 4),
        (errors.ResourceError("a", "b"), 5),
        (MemoryError(), 5),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), 5),
        (OSError(28, "No space left on device", "x"), 5),
        (PermissionError(13, "Permission denied", "x"), 5),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 5),
        (errors.GateRefused("a", "b"), 6),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_failure_has_its_exit_code_and_stays_off_stdout(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing(monkeypatch, error)
    assert cli.main(["train", "photos", "--out", "runs/a", "--json"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == (1 if code == 130 else 2) or code == 1
    assert ("Traceback" in err) == (code == 1)


def test_a_bug_is_called_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, ZeroDivisionError("division by zero"))
    cli.main(["train", "photos", "--out", "runs/a"])
    assert "this is a bug" in capsys.readouterr().err


def test_the_traceback_of_a_users_mistake_is_shown_on_demand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, errors.DataError("a", "b"))
    monkeypatch.setenv("SEVENFOLD_DEBUG", "1")
    assert cli.main(["train", "photos", "--out", "runs/a"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_an_error_cannot_steer_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, errors.DataError("a\x1b[2J\n\u202eb\udcff", "c\r\x9b0m"))
    cli.main(["train", "photos", "--out", "runs/a"])
    assert capsys.readouterr().err == "error: a?[2J??b?\n  try: c??0m\n"


@pytest.mark.parametrize("text", ["path", "=file", "path=", "path=a,label"])
def test_columns_that_name_nothing_are_refused(text: str) -> None:
    with pytest.raises(errors.UsageError, match="names no column"):
        cli.columns(text)


def test_columns_may_have_spaces_and_equals_signs() -> None:
    assert cli.columns("path = a=b , label=the class,") == {"path": "a=b", "label": "the class"}
    assert cli.columns("") == {}


def test_the_options_of_preview_arrive_in_the_study(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: dict[str, Any] = {}

    def preview(data: str, out: Path, **rest: Any) -> dict[str, Any]:
        seen.update(rest, data=data, out=out)
        found = {"png": "p", "html": "h", "seconds": 1.0, "remarks": ["nothing\x1b[2J"]}
        return {**found, "classes": [{}], "classes_left_out": 4, "check": {}}

    replace_module(monkeypatch, "studies.preview", preview=preview)
    line = "preview photos --out runs/p --set side=64 --set augmentation.hue=0.1 --classes 3"
    line += " --views 5 --check runs/a --pictures 9 --columns path=f --seed 7 --threads 2"
    assert cli.main(line.split()) == 0
    recipe = seen.pop("recipe")
    assert (recipe.side, recipe.augmentation.hue) == (64, 0.1)
    del seen["progress"]
    assert seen == {
        "data": "photos",
        "out": Path("runs/p"),
        "columns": {"path": "f"},
        "classes": 3,
        "views": 5,
        "model": Path("runs/a"),
        "pictures": 9,
        "seed": 7,
        "threads": 2,
    }
    out = capsys.readouterr().out
    assert "1 of 5 classes" in out
    assert "nothing?[2J" in out


class FakePredictor:
    classes = ("cat", "dog")
    bundle = SimpleNamespace(reference=drift.from_card({}, ("cat", "dog")), digest="")


def fake_prediction(monkeypatch: pytest.MonkeyPatch, *outcomes: Answer | Failure) -> None:
    replace_module(
        monkeypatch,
        "predict",
        load=lambda model, *, threads: FakePredictor(),
        sources=lambda photos, **_: [(photo, bytes) for photo in photos],
        predict=lambda predictor, sources, **_: iter((list(sources), outcomes)[1]),
    )


CAT = Answer("a\n.jpg", "cat", 0.75, (0.75, 0.25))
BAD = Failure("b.jpg", "truncated")


def test_predict_prints_a_line_for_each_picture(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_prediction(monkeypatch, CAT, BAD)
    assert cli.main(["predict", "runs/a", "a.jpg", "b.jpg"]) == 0
    out, err = capsys.readouterr()
    assert out == "a?.jpg\tcat\t0.7500\n"
    assert err == "no answer for b.jpg: truncated\n"


def test_predict_prints_the_next_classes_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_prediction(monkeypatch, CAT)
    assert cli.main(["predict", "runs/a", "a.jpg", "--top", "2"]) == 0
    cells = capsys.readouterr().out.strip().split("\t")
    assert cells[1] == CAT.label
    assert float(cells[4]) == pytest.approx(sorted(CAT.probabilities)[-2], abs=1e-4)
    assert len({cells[1], cells[3]}) == 2
    assert cli.main(["predict", "runs/a", "a.jpg", "--top", "0"]) == 2


def test_predict_gives_all_probabilities_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_prediction(monkeypatch, CAT, BAD)
    assert cli.main(["predict", "runs/a", "a.jpg", "b.jpg", "--json"]) == 0
    found = only_object(capsys.readouterr().out)
    assert found["predictions"] == [
        {
            "path": "a\n.jpg",
            "label": "cat",
            "probability": 0.75,
            "sure": True,
            "unlike": False,
            "distance": None,
            "probabilities": {"cat": 0.75, "dog": 0.25},
        }
    ]
    assert found["failed"] == [{"path": "b.jpg", "reason": "truncated"}]


def test_predict_writes_a_table_and_goes_on_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fake_prediction(monkeypatch, CAT)
    table = tmp_path / "answers.csv"
    assert cli.main(["predict", "runs/a", "a.jpg", "--out", str(table)]) == 0
    assert f"answers added to {table}: 1" in capsys.readouterr().out
    assert table.read_text(encoding="utf-8").startswith(
        "path,label,probability,p:cat,p:dog,sure,unlike,model\n"
    )


def test_what_is_asked_of_columns_is_looked_at_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_prediction(monkeypatch, CAT)
    out = tmp_path / "new" / "answers.csv"
    line = ["predict", "runs/a", "--out", str(out)]
    assert cli.main([*line, "list.csv", "--columns", "label=kind"]) == 2
    assert cli.main([*line, "a.jpg", "--columns", "path=file"]) == 2
    assert not out.parent.exists()
    assert cli.main([*line, "list.csv", "--columns", "path=file"]) == 0


def test_maps_are_not_laid_among_the_photos(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_prediction(monkeypatch, CAT)
    line = ["predict", "runs/a", str(tmp_path), "--maps", str(tmp_path / "maps")]
    assert cli.main(line) == 2
    assert "add --explain" in capsys.readouterr().err
    assert cli.main([*line, "--explain"]) == 2
    assert "--maps" in capsys.readouterr().err
    assert not (tmp_path / "maps").exists()
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"")
    for place, said in ((tmp_path, "among the photos"), (photo, "is a file")):
        assert cli.main(["predict", "runs/a", str(photo), "--explain", "--maps", str(place)]) == 2
        assert said in capsys.readouterr().err


def test_an_evaluation_says_what_was_learnt_from_and_where_answers_lie(
    calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evaluate", "runs/a", "photos", "--out", "told.csv"]) == 0
    out = capsys.readouterr().out
    assert "learnt from        3 of these pictures" in out
    assert "not scored         8 pictures\n  a/0.jpg: torn\n" in out
    assert "new                2 of these pictures" in out
    assert "roles              none in the data" in out
    assert "  a/5.jpg: torn\n  and 2 more: --json names 7\n" in out
    assert "answers            told.csv" in out
    assert calls[-1][2]["out"] == Path("told.csv")


def test_answers_that_were_asked_to_be_others_are_told_beside_the_scores() -> None:
    share = {"value": 0.25, "low": 0.1, "high": 0.5, "pictures": 8}
    point = {"answered": share, "error": share, "error_answered": share, "recalls": {"cat": share}}
    for rule, changed in (("halved_error", 0), ("min_recall", 1), ("costs", 1), ("none", 0)):
        lines = [*terminal.decided({"operating": {"rule": rule, **point}})]
        assert sum(line.startswith("as it answers") for line in lines) == changed
        assert sum(line.startswith("recall, asked for") for line in lines) == (rule != "none")


def test_predict_without_a_single_answer_is_an_error_of_the_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_prediction(monkeypatch, BAD)
    assert cli.main(["predict", "runs/a", "b.jpg"]) == 3


def test_a_file_of_answers_that_is_whole_stays_so_with_a_picture_that_has_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    fake_prediction(monkeypatch, CAT, BAD)
    assert cli.main(["predict", "runs/a", "a\n.jpg", "b.jpg", "--out", str(out)]) == 0
    fake_prediction(monkeypatch, BAD)  # what is answered is not asked again
    assert cli.main(["predict", "runs/a", "a\n.jpg", "b.jpg", "--out", str(out)]) == 0
    assert out.read_text("utf-8").count("cat") == 2  # a row, and its column


def test_drift_is_not_told_of_the_rest_of_the_pictures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    held = drift.reference(np.array([0, 1, 1]), np.array([1, 2]), np.zeros(0))
    monkeypatch.setattr(FakePredictor, "bundle", SimpleNamespace(reference=held, digest=""))
    out = str(tmp_path / "out.csv")
    fake_prediction(monkeypatch, CAT)
    assert cli.main(["predict", "runs/a", "a\n.jpg", "--out", out, "--json"]) == 0
    found = only_object(capsys.readouterr().out)
    assert (found["kept"], found["drift"]["differs"]) == (0, False)
    fake_prediction(monkeypatch, Answer("c.jpg", "dog", 0.75, (0.25, 0.75)))
    assert cli.main(["predict", "runs/a", "a\n.jpg", "c.jpg", "--out", out, "--json"]) == 0
    printed = capsys.readouterr()
    found = only_object(printed.out)
    assert (found["answers"], found["kept"], found["drift"]) == (1, 1, None)
    assert "answers kept from before: 1; drift" in printed.err


@pytest.mark.parametrize(
    ("arguments", "kind"), [(["--clear"], "all"), (["--clear", "pixels"], "pixels"), ([], "")]
)
def test_cache_lists_and_clears(
    arguments: list[str],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cleared = []
    store = {"kind": "pixels", "name": "160", "megabytes": 1.5, "rows": 20, "path": "p"}
    replace_module(
        monkeypatch,
        "features.store",
        clear=lambda kind: cleared.append(kind) or (2.5, 0),
        caches=lambda: [store],
        home=lambda: Path("stores"),
    )
    assert cli.main(["cache", *arguments, "--json"]) == 0
    found = only_object(capsys.readouterr().out)
    assert cleared == ([kind] if kind else [])
    assert found["stores"] == [store]
    assert found["freed_megabytes"] == (2.5 if kind else 0.0)
    assert cli.main(["cache"]) == 0
    assert "20 rows" in capsys.readouterr().out


def test_a_reader_that_leaves_early_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "sevenfold.cli", "version"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_package_itself_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "sevenfold", "version"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{sevenfold.__version__}\n")


def test_without_a_home_folder_the_place_for_the_stores_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lost() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", lost)
    monkeypatch.delenv("SEVENFOLD_CACHE")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    assert cli.main(["cache"]) == 5
    assert "try: set SEVENFOLD_CACHE" in capsys.readouterr().err
    bare = doctor.Accelerator("Linux", (), apple=False, torch="", build="", usable=False)
    monkeypatch.setattr(doctor, "accelerator", lambda: bare)
    assert cli.main(["doctor"]) == 0
    assert "advice:   try: set SEVENFOLD_CACHE" in capsys.readouterr().out


def test_a_missing_library_names_the_extra_that_brings_it() -> None:
    def cure(name: str) -> str:
        return terminal.explain(ModuleNotFoundError(f"No module named {name!r}", name=name)).cure

    assert cure("timm.models").startswith('pip install ".[train]"')
    assert cure("elpv_dataset").startswith('pip install ".[demo]"')
    own = terminal.explain(ModuleNotFoundError("No module named 'sevenfold.x'", name="sevenfold.x"))
    assert own.exit_code == 1


def test_every_public_name_has_a_home() -> None:
    assert sorted(sevenfold._HOMES) == sevenfold.__all__
    assert set(sevenfold.__all__) <= set(dir(sevenfold))
    assert sevenfold.SevenfoldError is errors.SevenfoldError
    assert sevenfold.__version__ == "0.1.0"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sevenfold.nothing


def test_a_public_name_whose_library_is_missing_says_how_to_install_it() -> None:
    program = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "import sevenfold\n"
        "asked = ('sevenfold.fit', 'hasattr(sevenfold, \"fit\")', 'from sevenfold import *')\n"
        "for line in asked:\n"
        "    try:\n"
        "        exec(line)\n"
        "    except sevenfold.SevenfoldError as error:\n"
        "        print(type(error).__name__, error)\n"
    )
    done = ran(program)
    told = f"ResourceError the library torch is not installed\n{errors.installing('train')}\n"
    assert (done.stdout, done.returncode) == (3 * told, 0), done.stderr


def test_the_modules_that_the_documentation_names_need_no_import_of_their_own() -> None:
    program = (
        "import sevenfold\n"
        "assert sevenfold.predict.load is sevenfold.load\n"
        "assert sevenfold.recipe.Recipe is sevenfold.Recipe\n"
        "assert sevenfold.answers.Failure\n"
        "assert not hasattr(sevenfold, 'train')\n"
    )
    done = ran(program)
    assert done.returncode == 0, done.stderr
    assert set(sevenfold._MODULES) <= set(dir(sevenfold))
