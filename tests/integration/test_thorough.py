"""Train members of two cuts, teach their vote to a student, and prune that."""

import json
from dataclasses import replace
from functools import partial

import finished
import numpy as np
import pytest
import torch
from test_job import SETTINGS, report
from test_prune import faster, slower

import photos
from sevenfold import judging, predict, remake, runs
from sevenfold.errors import UsageError
from sevenfold.practices import ensembling
from sevenfold.progress import silent
from sevenfold.train import student

# Packaged weights: what is frozen is the same in every member.
MEMBERS = (
    "side=32",
    "epochs=1",
    "views=1",
    "batch=16",
    "optimization.rate=0.01",
    "transfer.trainable_blocks=4",
    "ensembling.members=3",
    "ensembling.cuts=[2]",
    "ensembling.distil=true",
)
PRUNED = (
    *SETTINGS,
    "epochs=1",
    "ensembling.members=2",
    "ensembling.distil=true",
    "pruning.macs=0.3",
    "pruning.max_drop=0.9",
    "pruning.steps=1",
    "pruning.epochs=1",
    "pruning.controls=none",
)
pytestmark = pytest.mark.usefixtures("few_pictures")


@pytest.fixture
def student_ships(monkeypatch):
    monkeypatch.setattr(
        "sevenfold.train.deployed",
        lambda _bench, _members, _weights, student: ((student,), np.ones(1)),
    )


def test_members_of_two_cuts_teach_a_student_and_are_opened_again(tmp_path, stores):
    finished.train(tmp_path, stores, MEMBERS)
    path = tmp_path / "run"
    run = runs.reopened(path, data="", threads=1, progress=silent)
    assert len(run.members) == 3
    assert run.recipe.ensembling.cuts == (2,)
    blocks = [one.blocks.state_dict() for one in run.members]
    count = len(run.network.blocks)
    assert same(blocks[0], blocks[1], range(count - 4))  # frozen in both
    assert not same(blocks[0], blocks[1], range(count - 4, count - 2))  # trained in the first alone
    assert same(blocks[1], run.network.blocks.state_dict(), range(count - 4))


AVERAGE = (
    *MEMBERS[:5], "ensembling.members=2", "ensembling.average=true", "ensembling.distil=true"
)  # fmt: skip


@pytest.mark.parametrize("better", [True, False])
def test_an_average_that_keeps_too_little_is_taught_unless_it_is_nearer_to_the_vote(
    tmp_path, stores, monkeypatch, better
):
    monkeypatch.setattr(student, "_keeps", lambda _bench, _members, _weights, _one: False)
    merged = student.merged

    def judged(bench, members, weights):
        vote = ensembling.pool(student.stacked(members), weights, "soft").astype(np.float32)
        return replace(merged(bench, members, weights), logits=vote if better else -vote)

    monkeypatch.setattr(student, "merged", judged)
    finished.train(tmp_path, stores, AVERAGE)
    told = report(tmp_path / "run")["ensembling"]
    assert told["averaged"] is better
    assert told["lessons_lost"] is better
    assert told["seconds_student"] > 0


def test_the_average_ships_where_it_keeps_enough(tmp_path, stores, monkeypatch):
    monkeypatch.setattr(student, "_keeps", lambda _bench, _members, _weights, _one: True)
    finished.train(tmp_path, stores, AVERAGE)
    run = tmp_path / "run"
    told = report(run)
    assert told["ensembling"]["averaged"]
    assert told["ensembling"]["seconds_student"] == 0
    assert told["ensembling"]["ships"] == "student"
    card = json.loads((run / "bundle" / "card.json").read_text("utf-8"))
    assert card["averaged"]
    assert "average of the weights of 2 networks" in (run / "bundle" / "README.md").read_text(
        "utf-8"
    )
    assert "average of the members" in (run / "report.html").read_text("utf-8")
    again = runs.reopened(run, data="", threads=1, progress=silent)
    weights = [one.head.weight.double() for one in again.members]
    assert torch.equal(again.network.head.weight, ((weights[0] + weights[1]) / 2).float())
    with pytest.raises(UsageError, match="ships the average of its members already"):
        remake.distil(run, data="", lessons=0, seed=0, threads=1, device="cpu", progress=silent)


def same(one: dict, other: dict, blocks: range) -> bool:
    names = [name for name in one if int(name.split(".")[0]) in blocks]
    assert names
    return all(torch.equal(one[name], other[name]) for name in names)


def test_a_training_prunes_its_student(tmp_path, stores, student_ships, monkeypatch):
    monkeypatch.setattr(judging, "settled", partial(judging.settled, timer=faster))
    facts = finished.train(tmp_path, stores, PRUNED)
    run = tmp_path / "run"
    assert facts["pruning"]["macs_cut"] >= 0.25
    told = report(run)
    assert told["pruning"]["chosen"] == 1
    for name in ("drop_bound", "objective_drop_bound", "certified", "certified_by"):
        assert facts["pruning"][name] == told["pruning"][name]
    assert told["ensembling"]["ships"] == "student"
    assert told["run"]["stages"][2]["stage"] == "judge"
    assert facts["test"]["accuracy"] == told["pruning"]["steps"][0]["accuracy"]
    assert len(json.loads((run / "data.json").read_text("utf-8"))["openings"]) == 1
    assert "multiply-accumulates" in (run / "report.html").read_text("utf-8")
    again = runs.reopened(run, data="", threads=1, progress=silent)
    pixels = photos.picture("red", 1)
    logits = predict.load(run).logits(pixels)
    assert again.recipe.pruning.macs == 0.3
    assert np.isfinite(logits).all()


def test_what_is_slower_does_not_ship(tmp_path, stores, student_ships, monkeypatch):
    monkeypatch.setattr(judging, "settled", partial(judging.settled, timer=slower))
    facts = finished.train(tmp_path, stores, PRUNED)
    assert "no step is faster" in facts["pruning"]["refused"]
    assert report(tmp_path / "run")["pruning"] == facts["pruning"]
    assert "the unpruned one ships" in (tmp_path / "run" / "report.html").read_text("utf-8")
    run = runs.reopened(tmp_path / "run", data="", threads=1, progress=silent)
    assert run.recipe.pruning.macs == 0


def test_members_share_a_random_trunk_that_their_rows_were_computed_by(tmp_path, stores):
    asked = [one for one in SETTINGS if "trainable" not in one]
    frozen = ("transfer.trainable_blocks=3", "epochs=1", "views=1", "ensembling.members=2")
    finished.train(tmp_path, stores, (*asked, *frozen))
    run = runs.reopened(tmp_path / "run", data="", threads=1, progress=silent)
    first, second = (one.blocks.state_dict() for one in run.members)
    count = len(run.network.blocks)
    assert same(first, second, range(count - 3))
    assert not same(first, second, range(count - 3, count))
