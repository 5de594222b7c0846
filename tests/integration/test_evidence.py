"""Measure the practices at the end of a training, where the recipe gives it time."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import jsonschema_rs
import pytest
from finished import few_pictures
from test_job import REQUEST, SETTINGS

import photos
from fake_ray import FakeRay
from sevenfold import job, recipe, terminal
from sevenfold.engines import Inline, cluster
from sevenfold.engines.local import named
from sevenfold.progress import silent
from sevenfold.studies import evidence, where
from sevenfold.studies.evidence import table, trials

ASKED = replace(
    REQUEST, overrides=(*SETTINGS, "epochs=1", "views=1", "evidence_minutes=10"), threads=1
)


@pytest.fixture
def data(tmp_path, stores, monkeypatch):
    """Write photos, and let a study be of one practice, in this process."""
    place = Inline({trials.TRAIN: trials.called, trials.FILL: trials.filled})
    monkeypatch.setattr(where, "Local", lambda workers, threads: place)
    asked = partial(evidence.Asked, practices=("augmentation",))
    monkeypatch.setattr(evidence, "Asked", asked)
    for role, count, start in (("train", 24, 0), ("val", 8, 100), ("test", 8, 200)):
        photos.write(tmp_path / "photos" / role, dict.fromkeys(photos.COLOURS, count), start=start)
    with few_pictures(stores):
        yield str(tmp_path / "photos")


def test_a_training_with_time_shows_in_its_report_what_the_practices_contributed(data, tmp_path):
    run, told = tmp_path / "run", []
    facts = job.train(
        data, run, request=ASKED, progress=lambda stage, done, total: told.append((stage, done))
    )
    found = json.loads((run / "evidence" / "evidence.json").read_text("utf-8"))
    assert found["complete"]
    verdict = found["practices"]["augmentation"]["verdict"]
    assert facts["evidence"]["verdicts"] == {"augmentation": verdict}
    assert facts["stages"]["evidence"] > 0
    report = json.loads((run / "report.json").read_text("utf-8"))
    assert report["evidence"] == found
    assert report["recipe_toml"].count("evidence_minutes = 10.0") == 1
    page = (run / "report.html").read_text("utf-8")
    assert "Recommended" in page
    assert f"{verdict:<14} augmentation" in [*terminal.run(facts)]
    assert ("evidence", 24) in told


def test_a_training_without_time_for_it_is_whole_and_says_so(data, tmp_path):
    run = tmp_path / "run"
    facts = job.train(data, run, request=replace(ASKED, budget="1s"), progress=silent)
    assert "measuring the practices would take about" in facts["evidence"]["left_out"]
    assert facts["evidence"]["verdicts"] == {}
    assert "evidence" not in json.loads((run / "report.json").read_text("utf-8"))
    assert any(line.startswith("no evidence    measuring") for line in terminal.run(facts))


def test_only_the_thorough_budget_measures_the_practices():
    minutes = [recipe.default(budget).evidence_minutes for budget in recipe.BUDGETS]
    assert minutes == [0.0, 0.0, 240.0]
    assert (recipe.minutes_of("90s"), recipe.minutes_of("2h")) == (1.5, 120.0)
    assert recipe.minutes_of("normal") == 0


def test_a_study_that_is_stopped_leaves_a_valid_table_and_ends_as_one_on_ray(
    data, tmp_path, monkeypatch
):
    wanted = recipe.apply(recipe.default("quick"), (*SETTINGS, "epochs=1", "views=1"))
    out, here = tmp_path / "study", evidence.Where(device="cpu", threads=1)

    def study(watch=lambda *_: None, out=out, where=here):
        return evidence.evidence(
            evidence.Reading(data), out, evidence.Asked(wanted, budget="quick"), where,
            progress=silent, announce=lambda _: None, watch=watch,
        )  # fmt: skip

    def interrupted(_study, outcomes, _left):
        if len(outcomes) == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study(interrupted)
    partial_table = json.loads((out / "evidence.json").read_text("utf-8"))
    schema = Path(evidence.__file__).with_name("evidence.schema.json")
    jsonschema_rs.validate(json.loads(schema.read_text("utf-8")), partial_table)
    assert not partial_table["complete"]
    assert partial_table["advice"] == []
    assert not (out / "recommended.toml").exists()
    assert 0 < partial_table["repetitions"] < partial_table["repetitions_planned"] == 6
    assert "cannot tell" in "".join(table.lines(partial_table))
    whole = study()
    assert whole["complete"]
    advised = recipe.read(out / "recommended.toml", recipe.Recipe())
    assert recipe.to_toml(advised) == whole["recommended"]
    assert "It holds for the quick budget and resnet20" in "".join(table.lines(whole))
    monkeypatch.setattr(cluster, "_ray", FakeRay)
    monkeypatch.setattr(cluster.OnRay, "everywhere", lambda _, call, name: [named(name)(call)])
    there = study(out=tmp_path / "ray", where=evidence.Where("ray", threads=1))
    assert scores(there) == scores(whole)
    trials_of = [
        {path.name for path in (one / "trials").glob("*.json")} for one in (out, tmp_path / "ray")
    ]
    assert trials_of[0] == trials_of[1]  # named alike on one kind of processor


def scores(facts):
    """Return what no clock has a part in."""
    return {
        (name, direction): {
            metric: effect
            for metric, effect in one[direction].items()
            if metric not in ("seconds", "latency_ms")
        }
        for name, one in facts["practices"].items()
        for direction in ("leave_one_out", "add_one_in")
    }
