"""Keep versions of a run, swap them whole, and let one process at a time change it."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bundles as made
import photos
import report_facts
import test_append
from sevenfold import atomic, bundles, cli, data, release, scoring, swap, versions
from sevenfold.errors import ModelError, ResourceError, UsageError
from sevenfold.progress import silent
from sevenfold.studies.append import append
from sevenfold.studies.audit import changes
from sevenfold.studies.compare import sides
from sevenfold.versions import kept

CLASSES = ("blue", "red")


def made_run(run: Path, *, opened: str = "2026-01-01T00:00:00", classes=CLASSES) -> Path:
    """Write what a finished run holds, as far as versions look at it."""
    made.tiny_bundle(run / "bundle", classes)
    manifest = data.Manifest("photos", tuple(classes), ())
    manifest = data.opened(manifest, opened, "train photos")
    (run / "data.json").write_text(data.to_json(manifest), encoding="utf-8")
    scores = {name: {"value": 0.5} for name in ("accuracy", "balanced_accuracy", "macro_f1", "nll")}
    roles = [{"label": name, "train": 7, "val": 2, "test": 1} for name in classes]
    told = {"run": {"created": opened, "command": "train"}, "test": scores}
    (run / "report.json").write_text(json.dumps(told | {"data": {"classes": roles}}), "utf-8")
    (run / "model.safetensors").write_bytes(b"weights")
    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return made_run(tmp_path / "run")


def candidate(part: Path) -> dict[str, Any]:
    made_run(part, classes=("blue", "red", "green"))
    return {"run": str(part), "classes": 3}


def test_a_run_that_was_never_updated_has_one_version_and_is_not_written_to(run):
    (only,) = versions.listed(run)
    assert (only.number, only.parent, only.signed_off, only.current) == (1, 0, True, True)
    assert only.pictures == {"train": 14, "val": 4, "test": 2}
    assert not (run / "versions").exists()


def test_accepting_serves_the_new_version_and_keeps_the_old_one(run):
    (run / "pruning.json").write_text("{}", encoding="utf-8")
    assert versions.keep(run) == versions.keep(run) == 1
    facts = versions.renewed(run, 1, {"data": "more"}, candidate)
    assert facts == {"run": str(run), "classes": 3}
    assert bundles.read_bundle(run).classes == ("blue", "red", "green")
    assert bundles.read_bundle(run / "versions" / "1").classes == CLASSES
    assert not (run / "pruning.json").exists()
    assert not (run / swap.JOURNAL).exists()
    assert versions.current(run) == 2
    assert versions.baseline(run, 2) == 1
    versions.sign_off(run, 2)
    assert versions.baseline(run, 2) == 2


@pytest.mark.parametrize("replacing", [False, True])
def test_a_command_that_was_stopped_once_its_model_is_served_ends(run, replacing, monkeypatch):
    versions.keep(run)

    def work() -> dict[str, Any]:
        if replacing:
            return versions.replaced(run, candidate, "command")
        return versions.renewed(run, 1, {"data": "more"}, candidate, "command")

    real = swap._replace
    monkeypatch.setattr(swap, "_replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        work()
    monkeypatch.setattr(swap, "_replace", real)
    assert not versions.serves(run, "command")  # its files are still to come
    assert versions.ended(run, "another") == {}
    assert versions.serves(run, "command")
    facts = {"run": str(run), "classes": 3}
    assert versions.ended(run, "command") == versions.ended(run, "command") == facts
    events = json.loads((run / "versions" / "log.json").read_text("utf-8"))["events"]
    told = [(one["event"], one["version"], one.get("data")) for one in events]
    assert told == [("kept", 1, None), ("accepted", 2, "more")][: 2 - replacing]
    assert (
        sorted(path.name for path in (run / "versions").iterdir() if path.is_dir())
        == ["1", "2"][: 2 - replacing]
    )
    versions.forget(run)
    assert versions.ended(run, "command") == {}


@pytest.mark.parametrize("content", ["", "[]", '{"command": "command"}', '{"command": 1, "sums":'])
def test_a_note_that_cannot_be_read_is_none(run, content):
    (run / "ended.json").write_text(content, encoding="utf-8")
    assert not versions.serves(run, "command")
    assert versions.ended(run, "command") == {}


@pytest.mark.parametrize("done", range(8))
def test_a_whole_bundle_is_served_however_many_files_are_replaced(run, done, monkeypatch):
    versions.keep(run)
    real, seen = atomic.write, 0

    def write(path: Path, content: bytes) -> None:
        nonlocal seen
        seen += 1
        if seen > done:
            raise KeyboardInterrupt
        real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write", write)
        with pytest.raises(KeyboardInterrupt):
            versions.renewed(run, 1, {}, candidate)
    expected = ("blue", "red", "green") if done else CLASSES
    assert bundles.read_bundle(run).classes == expected
    assert bundles.read_bundle(run / "bundle").classes == expected
    if done:
        assert versions.keep(run) == 2
        assert not (run / swap.JOURNAL).exists()
        assert [one.current for one in versions.listed(run)] == [False, True]
    else:  # made and never served: it is made anew
        assert versions.keep(run) == 1
        assert [one.number for one in versions.listed(run)] == [1]


def test_a_swap_that_begins_while_a_bundle_is_read_is_followed(run, monkeypatch):
    versions.keep(run)
    part = run / "versions" / "next.part"
    part.mkdir()
    candidate(part)
    real = bundles._verified

    def slow(folder: Path, *asked):
        if folder == run / "bundle":
            monkeypatch.setattr(bundles, "_verified", real)
            swap.settle(part, run / "versions" / "2")
            swap.begin(run, 2)
            (run / "bundle" / "model.onnx").write_bytes(b"half")
        return real(folder, *asked)

    monkeypatch.setattr(bundles, "_verified", slow)
    assert bundles.read_bundle(run).classes == ("blue", "red", "green")


def test_a_journal_that_names_nothing_whole_is_not_believed(run):
    for content in ('{"version": 9}', "[]", "{", '{"version": "../../x"}'):
        (run / swap.JOURNAL).write_text(content, encoding="utf-8")
        assert bundles.read_bundle(run).classes == CLASSES


def test_rollback_brings_back_every_file_and_unknown_ones_stay(run):
    (run / "evidence.json").write_text("{}", encoding="utf-8")
    versions.keep(run)
    versions.renewed(run, 1, {}, candidate)
    found = versions.rollback(run, 1)
    assert found.current
    assert bundles.read_bundle(run).classes == CLASSES
    assert (run / "evidence.json").exists()
    with pytest.raises(UsageError, match="is what"):
        versions.rollback(run, 1)


def test_a_rollback_that_was_killed_before_its_line_in_the_log_is_logged(run, monkeypatch):
    versions.keep(run)
    versions.renewed(run, 1, {}, candidate)
    with monkeypatch.context() as patch:
        patch.setattr(kept, "log", killed)
        with pytest.raises(KeyboardInterrupt):
            versions.rollback(run, 1)
    assert bundles.read_bundle(run).classes == CLASSES
    assert versions.rollback(run, 1).current
    held = json.loads((run / "versions" / "log.json").read_text("utf-8"))["events"]
    assert [(one["event"], one["version"]) for one in held] == [
        ("kept", 1), ("accepted", 2), ("rollback", 1),
    ]  # fmt: skip
    assert held[-1]["before"] == 2
    with pytest.raises(UsageError, match="is what"):
        versions.rollback(run, 1)


def killed(*_asked: object) -> None:
    raise KeyboardInterrupt


def test_a_new_training_removes_what_was_made_and_never_served(run, monkeypatch):
    versions.keep(run)
    with monkeypatch.context() as patch:
        patch.setattr(swap, "begin", killed)
        with pytest.raises(KeyboardInterrupt):
            versions.renewed(run, 1, {}, candidate)
    assert (run / "versions" / "2").is_dir()
    versions.replaced(run, candidate)
    assert [path.name for path in (run / "versions").iterdir() if path.is_dir()] == ["1"]
    assert bundles.read_bundle(run).classes == ("blue", "red", "green")


def test_what_a_kill_left_half_written_goes_with_the_checkpoints(run):
    (run / "trials" / "key").mkdir(parents=True)
    torn = [run / "report.json.7.part", run / "bundle" / "model.onnx.7.part"]
    for path in (*torn, run / "trials" / "left", run / "notes.txt"):
        path.write_bytes(b"half")
    release.clear(run)
    assert not any(path.exists() for path in torn)
    assert (run / "notes.txt").exists()
    assert list((run / "trials").iterdir()) == []
    assert bundles.read_bundle(run).classes == CLASSES


def test_a_new_training_leaves_versions_whose_log_is_lost(run):
    versions.keep(run)
    versions.renewed(run, 1, {}, candidate)
    (run / "versions" / "log.json").unlink()
    versions.replaced(run, candidate)
    assert (run / "versions" / "2").is_dir()


def test_openings_that_were_noted_meanwhile_stay(run):
    versions.keep(run)

    def slowly(part: Path) -> dict[str, Any]:
        facts = candidate(part)
        data.log_opening(run)
        return facts

    versions.renewed(run, 1, {}, slowly)
    told = data.from_json((run / "data.json").read_text("utf-8"), name="data.json")
    assert len(told.openings) == 2


def test_a_model_made_anew_goes_on_from_the_last_and_a_training_begins_again(run):
    versions.keep(run)
    made_run(run, classes=("blue", "green"))
    assert versions.keep(run) == 2
    assert versions.baseline(run, 2) == 1
    made_run(run, opened="2027-01-01T00:00:00", classes=("x", "y"))
    assert versions.listed(run)[-1].signed_off
    assert versions.keep(run) == 3
    assert versions.baseline(run, 3) == 3


def test_the_commands_list_and_go_back(run, capsys):
    versions.keep(run)
    versions.renewed(run, 1, {}, candidate)
    assert cli.main(["versions", str(run), "--sign-off", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "sevenfold.versions/1"
    assert [one["signed_off"] for one in told["versions"]] == [True, True]
    assert cli.main(["rollback", str(run), "3"]) == 2
    assert "choose one of 1, 2" in capsys.readouterr().err
    assert cli.main(["rollback", str(run), "1"]) == 0
    assert cli.main(["versions", str(run / "bundle")]) == 2


def test_a_version_is_not_approved_where_there_is_no_run(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for place in ("photos", "missing"):
        assert cli.main(["versions", str(tmp_path / place), "--sign-off", "1"]) == 2
        assert "holds no finished run" in capsys.readouterr().err
    assert not list((tmp_path / "photos").iterdir())


def test_listing_and_rolling_back_need_no_torch():
    code = "import sys, sevenfold.versions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_damaged_log_is_named(run):
    versions.keep(run)
    (run / "versions" / "log.json").write_text('{"events": [1]}', encoding="utf-8")
    with pytest.raises(ModelError, match=r"log\.json is damaged"):
        versions.listed(run)


def test_a_damaged_record_of_a_version_is_named(run):
    versions.keep(run)
    (run / "versions" / "1" / "version.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ModelError, match=r"version\.json is damaged"):
        versions.listed(run)


def test_the_lock_of_a_process_that_lives_holds(run):
    path = run / "update.lock"
    with versions.locked(run):
        assert json.loads(path.read_bytes())["pid"] == os.getpid()
        with (
            pytest.raises(ResourceError, match=f"process {os.getpid()}") as caught,
            versions.locked(run),
        ):
            pass
        assert "delete" in caught.value.cure
    assert not path.exists()


def test_the_lock_of_a_process_that_ended_is_taken_over(run):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    told = {"pid": ended.pid, "host": socket.gethostname(), "started": "1"}
    (run / "update.lock").write_text(json.dumps(told), encoding="utf-8")
    with versions.locked(run):
        assert json.loads((run / "update.lock").read_bytes())["pid"] == os.getpid()
    assert not (run / "update.lock").exists()


def test_a_lock_that_a_full_disk_left_empty_holds_nobody(run):
    (run / "update.lock").touch()
    with versions.locked(run):
        assert json.loads((run / "update.lock").read_bytes())["pid"] == os.getpid()
    assert not (run / "update.lock").exists()


def test_a_lock_that_cannot_be_read_and_is_not_empty_holds(run):
    (run / "update.lock").write_bytes(b"{")
    with pytest.raises(ResourceError, match="is being changed"), versions.locked(run):
        pass
    assert (run / "update.lock").read_bytes() == b"{"


def test_the_lock_of_another_machine_holds(run):
    told = {"pid": 1, "host": "elsewhere", "since": "yesterday"}
    (run / "update.lock").write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(ResourceError, match="on elsewhere since yesterday"), versions.locked(run):
        pass
    shutil.rmtree(run)
    with pytest.raises(ResourceError, match="cannot be written"), versions.locked(run):
        pass


def test_what_a_swap_has_not_brought_yet_is_told_of_where_it_lies(run):
    versions.keep(run)
    shutil.copytree(run / "versions" / "1", run / "versions" / "2")
    rows = (data.Row("a.png", "0" * 32, "red", "train", "ann"),)
    newer = data.to_json(data.Manifest("photos", CLASSES, rows))
    (run / "versions" / "2" / "data.json").write_text(newer, encoding="utf-8")
    assert data.known(run).rows == ()
    swap.begin(run, 2)
    assert data.known(run).rows == rows
    assert changes.manifest(run).rows == rows
    (run / "predictions.csv").write_text("path,answer\na.png,red\n", encoding="utf-8")
    (run / "versions" / "2" / "predictions.csv").write_text("path,answer\na.png,blue\n", "utf-8")
    assert sides.opened(run, answering=False).answers == ("blue",)
    data.log_opening(run)
    swap.finish(run)
    assert len(data.known(run).openings) == 1
    assert data.known(run).rows == rows


def test_new_pictures_of_a_group_that_was_trained_on_are_no_test(run, tmp_path):
    rows = (data.Row("a.png", "0" * 32, "red", "train", "ann"),)
    told = data.to_json(data.Manifest("photos", CLASSES, rows))
    (run / "data.json").write_text(told, encoding="utf-8")
    folder = photos.write(tmp_path / "photos", {"blue": 2, "red": 2})
    lines = ["path,label,group", "blue/000.png,blue,ann", "blue/001.png,blue,bob"]
    (folder / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    found = scoring.evaluate(
        run, str(folder / "t.csv"), split="test", columns={}, group_by="",
        small_classes="refuse", threads=1, progress=silent,
    )  # fmt: skip
    assert found["scores"]["pictures"] == 1
    assert found["left_out"] == 1


def test_a_study_in_the_report_comes_back_with_its_version(run, tmp_path):
    versions.keep(run)
    path = tmp_path / "curve.json"
    path.write_text(json.dumps(test_append.CURVE | {"name": "photos"}), encoding="utf-8")
    facts = report_facts.facts()
    facts["data"]["name"] = "photos"
    for folder in (run, run / "versions" / "1"):
        (folder / "report.json").write_text(json.dumps(facts), encoding="utf-8")
    append(run, [path])
    versions.renewed(run, 1, {"data": "more"}, candidate)
    assert "curve" not in json.loads((run / "report.json").read_text("utf-8"))
    versions.rollback(run, 1)
    assert "curve" in json.loads((run / "report.json").read_text("utf-8"))
