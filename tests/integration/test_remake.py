"""Make a finished run's model anew: distil its vote."""

import hashlib
import json
import shutil
from pathlib import Path

import finished
import numpy as np
import pytest
from test_job import SETTINGS, Kill, at_step, killed_at_the_end, report, sha256

from sevenfold import export, exports, predict, remake, swap, versions
from sevenfold.bundles import read_bundle
from sevenfold.errors import DataError, ModelError, ResourceError, UsageError
from sevenfold.features.trunk import session
from sevenfold.practices import growth
from sevenfold.progress import silent

VOTE = (*SETTINGS, "ensembling.members=2", "ensembling.select=false")
CUTS = ("transfer.trainable_blocks=5", "views=2", "ensembling.cuts=[3]")
HOW = {"lessons": 1, "seed": 5, "threads": 1, "device": "cpu", "progress": silent}
pytestmark = pytest.mark.usefixtures("few_pictures")


@pytest.fixture(scope="module")
def voters(tmp_path_factory, stores):
    folder = tmp_path_factory.mktemp("vote")
    return folder, finished.train(folder, stores, VOTE)


@pytest.fixture
def run(voters, tmp_path) -> Path:
    return shutil.copytree(voters[0] / "run", tmp_path / "run")


def test_a_vote_ships_as_one_file(voters):
    run, facts = voters[0] / "run", voters[1]
    told = report(run)
    assert told["ensembling"]["ships"] == "vote"
    assert told["ensembling"]["weights"] == [0.5, 0.5]
    assert facts["bundle"]["parity_top1"] == 1.0
    arch = json.loads((run / "arch.json").read_text("utf-8"))
    for member in arch["members"]:
        content = (run / member["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == member["sha256"]
    assert len({one["sha256"] for one in arch["members"]}) == 2
    predict.load(run)


def even(models, **_):
    """Say that all models take a millisecond."""
    return np.ones((len(models), 10))


def test_a_vote_is_distilled_into_one_model(run):
    shipped = read_bundle(run)
    members = {path.name: sha256(path) for path in (run / "members").iterdir()}
    before = (run / "bundle" / "model.onnx").stat().st_size
    facts = remake.distil(run, data="", **HOW)
    assert facts["schema"] == "sevenfold.distill/1"
    # By name not a training: an update would take its time for one.
    stages = {one["stage"] for one in report(run)["run"]["stages"]}
    assert "distil" in stages
    assert "fit" not in stages
    assert (run / "bundle" / "model.onnx").stat().st_size < 0.7 * before
    assert {path.name: sha256(path) for path in (run / "members").iterdir()} == members
    told = report(run)
    assert told["ensembling"]["ships"] == "student"
    assert told["ensembling"]["student"] == facts["student"]
    assert [one["student"] for one in told["training"]["members"]] == [False, False, True]
    assert told["data"]["openings"] == 2
    openings = json.loads((run / "data.json").read_text("utf-8"))["openings"]
    assert len(openings) == 2
    predict.load(run)
    # The members stay, so that their vote can still be had as one file, as it was.
    out = run / "exports" / "vote"
    found = exports.export(
        run, exports.Asked("vote"), out=out, data="", threads=1, progress=silent, timer=even
    )
    voted = read_bundle(out)
    assert found["agreement"]["top1"] == 1.0
    assert voted.card["temperature"] == pytest.approx(shipped.card["temperature"], rel=1e-6)
    noise = np.random.default_rng(0).integers(0, 256, (2, 40, 30, 3)).astype(np.uint8)
    there, then = (
        session(one.model, 1).run(["probabilities"], {"image": noise})[0]
        for one in (voted, shipped)
    )
    np.testing.assert_allclose(there, then, atol=1e-5)
    assert "scores" not in voted.card
    assert voted.card["vote"]["voters"] == 2
    assert found["vote"]["nll"] == voted.card["vote"]["nll"] > 0
    # The vote is kept, and a whole one.
    assert [one.current for one in versions.listed(run)] == [False, True]
    versions.rollback(run, 1)
    assert (run / "bundle" / "model.onnx").stat().st_size == before
    assert len(predict.load(run).classes) == 3
    assert report(run)["ensembling"]["ships"] == "vote"


def test_an_interrupted_student_goes_on(run, tmp_path):
    again = shutil.copytree(run, tmp_path / "again")
    remake.distil(run, data="", **{**HOW, "lessons": 2})
    with pytest.raises(Kill):
        remake.distil(again, data="", **{**HOW, "lessons": 2, "progress": at_step(6)})
    remake.distil(again, data="", **{**HOW, "lessons": 2})
    assert sha256(again / "model.safetensors") == sha256(run / "model.safetensors")


def test_weights_that_are_gone_are_not_missed(tmp_path, stores, monkeypatch):
    finished.train(tmp_path, stores, (*VOTE, *CUTS))
    run = tmp_path / "run"
    finished.lose_weights(run, monkeypatch)
    remake.distil(run, data="", **HOW)
    assert report(run)["ensembling"]["ships"] == "student"
    predict.load(run)


def test_a_student_is_shown_the_share_that_the_training_saw(run, monkeypatch):
    told = report(run)
    for member in told["training"]["members"]:
        member["seed"] += 7  # as an update leaves them
    (run / "report.json").write_text(json.dumps(told), encoding="utf-8")
    drawn, real = [], growth.given

    def given(split, settings, seed):
        drawn.append(seed)
        return real(split, settings, seed)

    monkeypatch.setattr(growth, "given", given)
    remake.distil(run, data="", **HOW)
    assert drawn == [told["run"]["seed"]]


def test_a_kill_while_the_student_is_written_leaves_the_vote(run, monkeypatch):
    before = sha256(run / "bundle" / "model.onnx")
    with monkeypatch.context() as patch:
        patch.setattr(export, "write", lambda *_: (_ for _ in ()).throw(Kill))
        with pytest.raises(Kill):
            remake.distil(run, data="", **HOW)
    predict.load(run)
    assert sha256(run / "bundle" / "model.onnx") == before
    remake.distil(run, data="", **HOW)
    assert report(run)["ensembling"]["ships"] == "student"


def test_a_distilling_that_was_killed_once_its_student_is_served_ends(run, monkeypatch):
    moved = iter(range(4))
    with monkeypatch.context() as patch:
        patch.setattr(swap, "_replace", killed_at_the_end(moved, swap._replace))
        with pytest.raises(Kill):
            remake.distil(run, data="", **HOW)
    facts = remake.distil(run, data="", **HOW)
    assert facts["schema"] == "sevenfold.distill/1"
    assert facts["student"]
    assert report(run)["ensembling"]["ships"] == "student"
    assert [one.current for one in versions.listed(run)] == [False, True]
    assert not (run / "ended.json").exists()


def test_one_change_at_a_time(run):
    with versions.locked(run), pytest.raises(ResourceError, match="is being changed"):
        remake.distil(run, data="", **HOW)


def test_pictures_that_moved_are_found_by_content(voters, run, tmp_path):
    moved = shutil.copytree(voters[0] / "photos", tmp_path / "elsewhere")
    first = next((moved / "train" / "red").iterdir())
    first.rename(first.with_name("renamed.png"))
    remake.distil(run, data=str(moved), **HOW)
    (moved / "train" / "red" / "renamed.png").unlink()
    with pytest.raises(DataError, match="1 of the run's 120 pictures") as caught:
        remake.distil(run, data=str(moved), **HOW)
    assert "--data" in caught.value.cure
    told, place = (run / "report.json").read_text("utf-8"), str(voters[0] / "photos")
    assert place in told
    (run / "report.json").write_text(told.replace(place, f"{place}-gone"), encoding="utf-8")
    with pytest.raises(DataError, match=r"not in .*-gone any more") as caught:
        remake.distil(run, data="", **HOW)
    assert "--data" in caught.value.cure


@pytest.mark.parametrize("name", ["members/1.safetensors", "model.safetensors", "arch.json"])
def test_a_damaged_file_is_refused_by_name(run, name):
    path = run / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ModelError, match=path.name) as caught:
        remake.distil(run, data="", **HOW)
    assert caught.value.exit_code == 4


def test_what_cannot_be_distilled_is_refused(run, tmp_path):
    with pytest.raises(UsageError, match="no finished run"):
        remake.distil(tmp_path, data="", **HOW)
    arch = json.loads((run / "arch.json").read_text("utf-8"))
    (run / "arch.json").write_text(json.dumps(arch | {"members": []}), encoding="utf-8")
    with pytest.raises(UsageError, match="no vote to distil"):
        remake.distil(run, data="", **HOW)
