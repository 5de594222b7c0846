import json
import math
from pathlib import Path

import pytest

import report_facts
from sevenfold import cli, data, versions
from sevenfold.errors import DataError, ModelError, ResourceError, UsageError
from sevenfold.studies.append import append

CURVE = {
    "schema": "sevenfold.curve/1",
    "labelled": 400,
    "refused": "",
    "points": [
        {"pictures": 100, "accuracy": 0.7, "low": 0.65, "high": 0.75},
        {"pictures": 400, "accuracy": 0.8, "low": 0.76, "high": 0.84},
    ],
    "forecast": [{"pictures": 800, "accuracy": 0.85, "low": 0.8, "high": 0.9}],
    "doubling": {"gain": 0.05, "low": 0.02, "high": 0.08, "errors_removed": 0.25},
}


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(report_facts.facts()), encoding="utf-8")
    return folder


def study(folder: Path, run: Path, **changes: object) -> Path:
    name = json.loads((run / "report.json").read_text("utf-8"))["data"]["name"]
    folder.mkdir()
    found = CURVE | {"name": name} | changes
    (folder / "curve.json").write_text(json.dumps(found), encoding="utf-8")
    return folder


def test_a_curve_is_shown_in_the_report_of_its_run(run, tmp_path, capsys):
    folder = study(tmp_path / "curve", run)
    assert cli.main(["report", str(run), str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["added"] == ["curve"]
    html = (run / "report.html").read_text("utf-8")
    assert 'id="growth"' in html
    assert "Twice the 400 labelled pictures" in html.replace("\u202f", " ")
    assert json.loads((run / "report.json").read_text("utf-8"))["curve"]["labelled"] == 400
    assert not list(run.glob("*.part"))


def test_a_number_that_is_none_is_written_as_null(run, tmp_path):
    facts = report_facts.facts()
    facts["run"]["memory_peak_megabytes"] = math.nan
    facts["training"]["probe"][-1]["loss"] = math.inf
    (run / "report.json").write_text(json.dumps(facts), encoding="utf-8")
    append(run, [study(tmp_path / "curve", run)])
    found = json.loads((run / "report.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert found["run"]["memory_peak_megabytes"] is None
    assert found["training"]["probe"][-1]["loss"] is None


def test_what_is_of_other_data_is_refused_and_changes_nothing(run, tmp_path):
    before = (run / "report.json").read_bytes()
    with pytest.raises(DataError, match="is of the data"):
        append(run, [study(tmp_path / "curve", run, name="other")])
    assert (run / "report.json").read_bytes() == before
    assert not (run / "report.html").exists()


def test_a_study_of_a_folder_of_the_same_name_is_refused(run, tmp_path):
    rows = (data.Row("a.png", "0" * 32, "cat", "train"), data.Row("b.png", "1" * 32, "dog", "test"))
    manifest = data.to_json(data.Manifest("photos", ("cat", "dog"), rows))
    (run / "data.json").write_text(manifest, encoding="utf-8")
    mine = data.contents(("1" * 32, "0" * 32), ("dog", "cat"))
    assert append(run, [study(tmp_path / "mine", run, contents=mine)])["added"] == ["curve"]
    theirs = data.contents(("1" * 32, "0" * 32), ("dog", "dog"))
    with pytest.raises(DataError, match="other pictures or labels"):
        append(run, [study(tmp_path / "theirs", run, contents=theirs)])


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": "sevenfold.train/1"}'])
def test_what_is_no_study_is_named(run, tmp_path, text):
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"x\.json") as caught:
        append(run, [tmp_path / "x.json"])
    assert "evidence.json" in caught.value.cure


def test_a_run_that_another_command_changes_is_left_alone(run, tmp_path):
    folder = study(tmp_path / "curve", run)
    with versions.locked(run), pytest.raises(ResourceError, match="is being changed"):
        append(run, [folder])
    assert append(run, [folder])["added"] == ["curve"]


def test_what_is_no_run_is_named(run, tmp_path):
    with pytest.raises(UsageError, match="holds no finished run"):
        append(tmp_path, [])
    (run / "report.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="damaged"):
        append(run, [])
