"""Prune a finished run's network: the loop, the judgement, and what ships."""

import importlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import finished
import numpy as np
import pytest
import safetensors.torch
import torch
from test_job import SETTINGS, Kill, killed_at_the_end, parting, report, sha256

import photos
from sevenfold import export, image, latency, predict, remake, runs, swap, terminal, versions
from sevenfold.errors import DataError, GateRefused, ModelError, UsageError
from sevenfold.practices import pruning
from sevenfold.predictions import read_predictions
from sevenfold.progress import silent
from sevenfold.train import pruned
from sevenfold.train.pruned import controls, steps

ASKED = remake.Asked("macs=0.6", max_drop=0.9, steps=2, epochs=1, seed=4)


def faster(models):
    """Say that a model takes as long as it is large."""
    sizes = np.array([len(model) for model in models], float)
    return np.tile(sizes[:, None] / 1e5, (1, 20))


def slower(models):
    """Say that smaller models take longer."""
    return 1 / faster(models)


HOW = {"data": "", "threads": 1, "device": "cpu", "progress": silent, "timer": faster}
pytestmark = pytest.mark.usefixtures("few_pictures")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, stores):
    folder = tmp_path_factory.mktemp("dense")
    finished.train(folder, stores, SETTINGS)
    return folder


@pytest.fixture
def run(trained, tmp_path) -> Path:
    return shutil.copytree(trained / "run", tmp_path / "run")


@pytest.fixture(scope="module")
def smaller(trained, tmp_path_factory):
    """Prune once, with both controls."""
    run = shutil.copytree(trained / "run", tmp_path_factory.mktemp("pruned") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEVENFOLD_CACHE", str(tmp_path_factory.getbasetemp() / "prune-stores"))
        patch.setattr(parting, "SMALL_DATA", 60)
        return run, remake.prune(run, ASKED, **HOW)


def files(run: Path, *but: str) -> dict[str, str]:
    """Hash all files of a run but some, and but what a stopped command goes on from."""
    return {
        str(path.relative_to(run)): sha256(path)
        for path in run.rglob("*")
        if path.is_file() and path.name not in but and "trials" not in path.parts
    }


def test_a_run_is_pruned_to_its_target(smaller, trained):
    run, facts = smaller
    assert facts["schema"] == "sevenfold.prune/1"
    assert 0.4 <= facts["macs_cut"] < 0.6
    assert facts["parameters_cut"] > 0
    assert facts["reached"]
    assert facts["chosen"] == 2
    assert [row["name"] for row in facts["steps"]] == ["step 1", "step 2"]
    macs = [facts["dense"]["macs"], *(row["macs"] for row in facts["steps"])]
    assert macs == sorted(macs, reverse=True)
    assert set(facts["speedup"]) == {"median", "low", "high"}
    assert facts["speedup"]["low"] >= 1
    assert facts["steady"]
    assert facts["faster_by"] == "median"
    assert facts["drop"] < facts["drop_bound"] == facts["objective_drop_bound"]
    assert facts["certified_by"] == ["accuracy"]
    bounds = [row["drop_bound"] for row in facts["steps"]]
    assert facts["certified"] == (max(bounds) <= ASKED.max_drop)
    assert facts["smallest_certifiable"] == max(bounds)
    dense, pruned = (path / "bundle" / "model.onnx" for path in (trained / "run", run))
    assert pruned.stat().st_size < dense.stat().st_size
    assert facts["test"]["accuracy"] == facts["steps"][1]["accuracy"]
    assert facts["run"] == str(run)
    predict.load(run)
    assert sha256(run / "versions" / "1" / "bundle" / "model.onnx") == sha256(dense)


def test_several_targets_are_reached_and_neither_by_far(run):
    asked = replace(ASKED, target="parameters=0.6,macs=0.8", steps=1, controls="none")
    facts = remake.prune(run, asked, **HOW)
    assert [one["kind"] for one in facts["targets"]] == ["macs", "parameters"]
    # A chunk of eight of a stage's stream is a quarter of this small network.
    assert 0.2 <= facts["macs_cut"] < 0.6
    assert 0.4 <= facts["parameters_cut"] < 0.5


def test_controls_stand_beside_the_steps(smaller):
    controls = smaller[1]["controls"]
    (dense,) = controls["dense"]
    assert dense["macs"] == smaller[1]["dense"]["macs"]
    assert [row["name"] for row in controls["smaller"]] == ["from scratch 1", "from scratch 2"]
    for other, step in zip(controls["smaller"], smaller[1]["steps"], strict=True):
        assert (other["macs"], other["parameters"]) == (step["macs"], step["parameters"])
    assert smaller[1]["smaller_controls"].startswith("networks of the steps' shapes")
    assert smaller[1]["controls_missing"] == []


def test_the_control_is_trained_first_and_may_teach(run, monkeypatch):
    real, seen, controlled = steps.retrained, [], []

    def watched(ground, kind, candidate, number):
        seen.append((kind, number, ground.teacher is certain))
        return real(ground, kind, candidate, number)

    def certain(pixels):
        return torch.ones(len(pixels), 3) / 3

    def led(ground, start, longer):
        controlled.append((start.trained.history, longer.trained.history))
        return replace(ground, teacher=certain)

    monkeypatch.setattr(steps, "retrained", watched)
    monkeypatch.setattr(pruned, "led", led)
    facts = remake.prune(run, replace(ASKED, controls="dense"), **HOW)
    assert seen == [
        ("dense", 1, False), ("dense", 2, False), ("step", 1, True), ("step", 2, True),
    ]  # fmt: skip
    ((before, after),) = controlled
    assert not before
    assert len(after) == 1
    assert [row["name"] for row in facts["controls"]["dense"]] == ["dense, trained on"]


@pytest.mark.parametrize(("epochs", "blend"), [(1, 0.0), (2, 1.0)])
def test_one_epoch_is_of_pictures_and_more_are_of_blends(run, monkeypatch, epochs, blend):
    real, seen = steps.retrained, []

    def watched(ground, *asked):
        seen.append(ground.bench.recipe.augmentation.mixup)
        return real(ground, *asked)

    monkeypatch.setattr(steps, "retrained", watched)
    remake.prune(run, replace(ASKED, steps=1, epochs=epochs, controls="none"), **HOW)
    assert seen == [blend]


def test_a_smaller_network_is_trained_for_as_many_epochs_as_the_pruned_one_was(run, monkeypatch):
    real, seen = controls.retrained, []

    def watched(ground, kind, candidate, number):
        assert not ground.fitted
        seen.append((kind, number, ground.bench.recipe.epochs))
        assert not candidate.network.head.weight.any()
        found = real(ground, kind, candidate, number)
        assert len(found.trained.history) == ground.bench.recipe.epochs
        return found

    monkeypatch.setattr(controls, "retrained", watched)
    remake.prune(run, ASKED, **HOW)
    assert seen == [("scratch", 1, 2 + 1), ("scratch", 2, 2 + 2)]  # two before anything went


def test_a_control_that_cannot_get_there_is_left_out_and_told(run, monkeypatch):
    monkeypatch.setattr(controls, "_resettable", lambda _: False)
    real, cuts = pruning.trimmed, []

    def short(network, counted, wanted, how):
        if how.settings.ranking == "random":
            cuts.append(wanted)
            if len(cuts) > 1:
                raise UsageError("floors keep more", "name a larger target")
        return real(network, counted, wanted, how)

    monkeypatch.setattr(pruning, "trimmed", short)
    facts = remake.prune(run, ASKED, **HOW)
    (random,) = facts["controls"]["smaller"]
    assert random["name"] == "random channels 1"
    assert 0.7 * facts["steps"][0]["macs"] < random["macs"] <= facts["steps"][0]["macs"]
    assert facts["smaller_controls"].startswith("channels kept at random: they stand for")
    assert facts["controls_missing"] == ["none of step 2 or later: floors keep more"]
    assert facts["chosen"] == 2
    page = (run / "report.html").read_text("utf-8")
    assert "there is none of step 2 or later: floors keep more" in page
    assert "random channels 1" in page


def test_norms_are_measured_anew_on_training_pictures_as_they_are(run, monkeypatch):
    real, seen = pruning.recalibrated, []

    def watched(network, batches):
        held = [*batches]
        squares = torch.cat(held).permute(0, 2, 3, 1).to(torch.uint8).numpy()
        seen.append({one.tobytes() for one in squares})
        return real(network, held)

    monkeypatch.setattr(pruning, "recalibrated", watched)
    remake.prune(run, replace(ASKED, steps=1, epochs=2, controls="none"), **HOW)
    split = runs.reopened(run, data="", threads=1, progress=silent).split
    wanted = {image.resize(split.dataset.decode(at), 32).tobytes() for at in split.train.tolist()}
    before, after = seen
    assert after == wanted
    assert before != wanted


def test_all_steps_are_on_record(smaller):
    run, facts = smaller
    held = json.loads((run / "pruning.json").read_text("utf-8"))
    assert held["steps"] == facts["steps"]
    assert held == report(run)["pruning"]
    before, after = (
        read_predictions(path / "predictions.csv") for path in (run / "versions" / "1", run)
    )
    answers = dict(zip(before.paths, before.probabilities.argmax(axis=1), strict=True))
    rows = zip(after.paths, after.roles, after.labels, after.probabilities, strict=True)
    flips = {
        path: (answers[path] == label, shares.argmax() == label)
        for path, role, label, shares in rows
        if role == "test"
    }
    assert len(flips) == 24
    lost = [path for path, was in flips.items() if was == (True, False)]
    won = [path for path, was in flips.items() if was == (False, True)]
    assert (held["flips"]["negative"], held["flips"]["positive"]) == (len(lost), len(won))
    assert sorted(one["path"] for one in held["flips"]["pictures"]) == sorted(lost)
    assert held["drop"] == pytest.approx((len(lost) - len(won)) / 24)
    assert [one["label"] for one in held["classes"]] == sorted(photos.COLOURS)
    page = (run / "report.html").read_text("utf-8")
    assert 'id="pruning"' in page
    # Test was opened once for all of them.
    openings = json.loads((run / "data.json").read_text("utf-8"))["openings"]
    assert len(openings) == report(run)["data"]["openings"] == 2


def test_a_pruned_network_is_rebuilt_to_the_bit(smaller):
    run, _ = smaller
    arch = json.loads((run / "arch.json").read_text("utf-8"))
    again = runs.reopened(run, data="", threads=1, progress=silent)
    assert pruning.shapes(again.network) == arch["shapes"]
    weights = safetensors.torch.load_file(run / "model.safetensors")
    assert all(
        torch.equal(weights[name], held) for name, held in again.network.state_dict().items()
    )
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    shipped = export.Shipped(again.network, arch["mirror"]).eval()
    with torch.inference_mode():
        logits = (
            shipped(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())[0] / arch["temperature"]
        )
    wanted = torch.softmax(logits, dim=1)[0].numpy()
    assert np.allclose(predict.load(run).probabilities(pixels[0]), wanted, atol=1e-4)


def test_a_pruned_run_is_pruned_again(smaller, tmp_path):
    run = shutil.copytree(smaller[0], tmp_path / "run")
    before = smaller[1]["steps"][1]["macs"]
    asked = replace(ASKED, target="parameters=0.8", steps=1, controls="none")
    facts = remake.prune(run, asked, **HOW)
    assert facts["dense"]["macs"] == before
    assert 0.2 <= facts["parameters_cut"] < 0.5
    assert facts["controls"] == {"dense": [], "smaller": []}
    assert facts["smaller_controls"] == ""


def test_a_killed_pruning_goes_on(run, smaller):
    def kill(stage: str, done: int, _total: int) -> None:
        if stage == "prune":
            seen.append(done)
        if stage == "train" and len(seen) == 2 and done == 2:
            raise Kill

    seen: list[int] = []
    with pytest.raises(Kill):
        remake.prune(run, ASKED, **{**HOW, "progress": kill})
    (trial,) = [path for path in (run / "trials").iterdir() if path.is_dir()]
    there = {"dense-1", "dense-2", "step-1", "step-2-cut"}
    assert {path.stem for path in trial.iterdir()} == there
    finished = (trial / "step-1.checkpoint").stat().st_mtime_ns
    again: list[int] = []

    def watch(stage: str, done: int, _total: int) -> None:
        if stage == "prune":
            again.append(done)
            assert (trial / "step-1.checkpoint").stat().st_mtime_ns == finished

    remake.prune(run, ASKED, **{**HOW, "progress": watch})
    assert again == []  # both cuts were there already
    assert sha256(run / "model.safetensors") == sha256(smaller[0] / "model.safetensors")


def test_a_pruning_that_was_killed_once_it_is_served_ends_and_prunes_no_further(run, monkeypatch):
    asked, moved = replace(ASKED, steps=1, controls="none"), iter(range(4))
    with monkeypatch.context() as patch:
        patch.setattr(swap, "_replace", killed_at_the_end(moved, swap._replace))
        with pytest.raises(Kill):
            remake.prune(run, asked, **HOW)
    facts = remake.prune(run, asked, **HOW)
    assert facts["schema"] == "sevenfold.prune/1"
    assert facts["macs_cut"] == json.loads((run / "pruning.json").read_text("utf-8"))["macs_cut"]
    assert [one.current for one in versions.listed(run)] == [False, True]
    assert not any((run / "trials").iterdir())
    again = remake.prune(run, asked, **HOW)  # which is another pruning
    assert again["dense"]["macs"] == facts["steps"][0]["macs"]


def test_weights_that_are_gone_are_not_missed(run, smaller, monkeypatch):
    finished.lose_weights(run, monkeypatch)
    remake.prune(run, replace(ASKED, controls="dense"), **HOW)
    assert sha256(run / "model.safetensors") == sha256(smaller[0] / "model.safetensors")


def test_a_certified_file_is_as_small_as_asked_by_pictures_that_moved(run, trained, tmp_path):
    moved = shutil.copytree(trained / "photos", tmp_path / "moved")
    told = report(run)
    told["data"]["source"] = str(tmp_path / "gone")
    (run / "report.json").write_text(json.dumps(told), encoding="utf-8")
    have = (run / "bundle" / "model.onnx").stat().st_size / 1e6
    asked = replace(
        ASKED, target=f"megabytes={0.7 * have:.3f}", steps=1, controls="none",
        require_certificate=True,
    )  # fmt: skip
    with pytest.raises(DataError, match="gone"):
        remake.prune(run, asked, **HOW)
    facts = remake.prune(run, asked, **{**HOW, "data": str(moved)})
    left = (run / "bundle" / "model.onnx").stat().st_size / 1e6
    assert 0.4 * have < left <= round(0.7 * have, 3)
    assert facts["reached"]
    assert facts["certified"]
    assert facts["chosen"] == facts["certified_steps"] == 1
    assert facts["drop_bound"] <= asked.max_drop


def test_a_certificate_out_of_reach_is_refused_before_any_work(run):
    before = files(run)
    with pytest.raises(GateRefused, match="24 test pictures") as caught:
        remake.prune(run, replace(ASKED, max_drop=0.01, require_certificate=True), **HOW)
    assert caught.value.exit_code == 6
    assert files(run) == before
    assert not any(path.is_dir() for path in (run / "trials").iterdir())


def test_a_certificate_that_test_denies_is_refused(run, monkeypatch):
    bounds = iter([0.0, 0.6, 0.5])  # dense, and two steps that are walked in order
    monkeypatch.setattr("sevenfold.paired.largest_drop", lambda *_, **__: next(bounds))
    monkeypatch.setattr("sevenfold.judging.least_bound", lambda *_: 0.1)
    before = files(run, "data.json")
    asked = replace(ASKED, max_drop=0.55, require_certificate=True, controls="none", steps=2)
    with pytest.raises(GateRefused, match=r"no step is certified.* is 0\.6000") as caught:
        remake.prune(run, asked, **HOW)
    assert "--max-drop to 0.6," in caught.value.cure
    assert files(run, "data.json") == before
    # Test was looked at, and that is on record.
    assert len(json.loads((run / "data.json").read_text("utf-8"))["openings"]) == 2


def test_a_certificate_is_for_the_objective_too(run, monkeypatch):
    recipe = (run / "recipe.toml").read_text("utf-8")
    assert 'objective = "accuracy"' in recipe
    recipe = recipe.replace('objective = "accuracy"', 'objective = "balanced_accuracy"')
    (run / "recipe.toml").write_text(recipe, "utf-8")
    monkeypatch.setattr("sevenfold.judging.bounds.balanced_drop", lambda *_: 0.95)
    asked = replace(ASKED, steps=1, controls="none")
    with pytest.raises(GateRefused, match=r"no drop under 0\.9500 can be certified"):
        remake.prune(run, replace(asked, require_certificate=True), **HOW)
    facts = remake.prune(run, asked, **HOW)
    assert facts["certified_by"] == ["accuracy", "balanced_accuracy"]
    assert facts["drop_bound"] <= ASKED.max_drop < facts["objective_drop_bound"] == 0.95
    assert not facts["certified"]
    assert facts["certified_steps"] == 0
    assert facts["smallest_certifiable"] == 0.95
    page = (run / "report.html").read_text("utf-8")
    assert "its balanced accuracy by no more than 95.0 points" in page
    assert "balanced accuracy by 0.9500 at most" in "\n".join(terminal.pruned(facts))


def busy(gain):
    """Time models on a machine on which the first one is five per cent slower than itself."""

    def timer(models):
        each = [1.05, 1.0, *[1.05 / gain] * (len(models) - 2)]
        return np.tile(np.array(each)[:, None], (1, 20))

    return timer


def test_a_busy_machine_ships_only_what_is_surely_faster(run):
    before = files(run)
    asked = replace(ASKED, steps=1, controls="none")
    with pytest.raises(GateRefused, match="too busy"):
        remake.prune(run, asked, **{**HOW, "timer": busy(1.001)})
    assert files(run) == before
    facts = remake.prune(run, asked, **{**HOW, "timer": busy(1.5)})
    assert not facts["steady"]
    assert facts["faster_by"] == "low"
    assert facts["against_itself"]["low"] == pytest.approx(1.05)
    assert "1.05 to 1.05 times" in (run / "report.html").read_text("utf-8")
    assert "1.05 to 1.05 times its own time" in "\n".join(terminal.pruned(facts))


def test_what_is_slower_does_not_ship(run):
    before = files(run)
    asked = replace(ASKED, steps=1, controls="none")
    with pytest.raises(GateRefused, match="no step is faster"):
        remake.prune(run, asked, **{**HOW, "timer": slower})
    assert files(run) == before


def test_the_first_step_past_the_drop_ships_nothing(run, monkeypatch):
    before = files(run)
    monkeypatch.setattr(
        "sevenfold.train.pruned.ground.objective",
        lambda logits, *_: float(len(seen.append(0) or seen) == 1),
    )
    seen: list[int] = []
    with pytest.raises(GateRefused, match="that is allowed"):
        remake.prune(run, replace(ASKED, max_drop=0.01), **HOW)
    assert files(run) == before


def test_a_latency_table_of_another_machine_steers(run, tmp_path):
    network = runs.reopened(run, data="", threads=1, progress=silent).network
    layers = [
        {"inputs": one.inputs, "outputs": one.outputs, "groups": one.groups}
        | {"kernel": one.kernel, "positions": one.positions, "ms": one.macs / 1e7}
        for one in pruning.cost(network, 32).layers.values()
    ]
    path = tmp_path / "table.json"
    table = {"schema": "sevenfold.latency/1", "machine": "a board", "side": 32, "overhead_ms": 0.0}
    path.write_text(json.dumps(table | {"layers": layers}), encoding="utf-8")
    asked = replace(ASKED, target="latency=3", steps=1, controls="none", latency_table=str(path))
    # What another table chose is not taken for what this one chooses.
    milder = [one | {"ms": one["ms"] / 1.3} for one in layers]
    path.write_text(json.dumps(table | {"layers": milder}), encoding="utf-8")
    with pytest.raises(GateRefused, match="no step is faster"):
        remake.prune(run, asked, **{**HOW, "timer": slower})
    path.write_text(json.dumps(table | {"layers": layers}), encoding="utf-8")
    facts = remake.prune(run, asked, **HOW)
    assert facts["steps"][0]["macs"] <= 3e7 < facts["dense"]["macs"]
    assert facts["reached"]  # on that board; here it was timed otherwise
    (target,) = facts["targets"]
    assert target["got"] == pytest.approx(facts["steps"][0]["macs"] / 1e7)
    path.write_text(json.dumps(table | {"side": 64, "layers": layers}), encoding="utf-8")
    with pytest.raises(DataError, match="is for 64 pixels"):
        remake.prune(run, asked, **HOW)


@pytest.mark.parametrize("reached", [True, False])
def test_a_latency_is_reached_by_what_ships(run, monkeypatch, reached):
    monkeypatch.setattr(latency, "median_ms", lambda model: len(model) / 1e5)
    opened = runs.reopened(run, data="", threads=1, progress=silent)
    took = importlib.import_module("sevenfold.remake.prune")._latency(opened, ASKED)
    wanted = 0.6 * took(opened.network)
    asked = replace(ASKED, target=f"latency={wanted:.4f}", steps=1, controls="none")
    timer = faster if reached else lambda models: 2 * faster(models)
    facts = remake.prune(run, asked, **{**HOW, "timer": timer})
    assert facts["reached"] == reached
    (target,) = facts["targets"]
    assert target["got"] == facts["steps"][0]["network_latency_ms"]
    assert (target["got"] <= target["value"]) == reached


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"target": "flops=0.5"}, "is no target"),
        ({"target": "macs=0"}, "is no target"),
        ({"target": "macs=0.001"}, "out of reach: floors and caps of channels leave at least"),
        ({"target": "megabytes=0.001"}, "out of reach"),
        ({"target": "parameters=1e9"}, "is no less than"),
        ({"target": "macs=0.6,parameters=0.001"}, "parameters=0.001 is out of reach"),
        ({"target": "macs=0.6,macs=0.5"}, "names macs 2 times"),
        ({"max_drop": 1.5}, "--max-drop"),
        ({"latency_table": "t.json"}, "does nothing"),
        ({"ranking": "luck"}, "is no ranking"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(run, changed, problem):
    before = files(run)
    with pytest.raises(UsageError, match=problem):
        remake.prune(run, replace(ASKED, **changed), **HOW)
    assert files(run) == before


def test_a_vote_and_a_damaged_shape_are_refused(run, smaller, tmp_path):
    told = report(run)
    told["ensembling"] = {"ships": "vote"}
    (run / "report.json").write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(UsageError, match="vote") as caught:
        remake.prune(run, ASKED, **HOW)
    assert "sevenfold distill" in caught.value.cure
    opened = runs.reopened(run, data="", threads=1, progress=silent)
    small = replace(opened, split=replace(opened.split, val=opened.split.val[:0]))
    with pytest.raises(UsageError, match="no validation pictures"):  # which no distilling mends
        importlib.import_module("sevenfold.remake.prune")._prunable(small, ASKED)
    broken = shutil.copytree(smaller[0], tmp_path / "broken")
    arch = json.loads((broken / "arch.json").read_text("utf-8"))
    arch["shapes"]["head"] = [3, 3, 1]
    (broken / "arch.json").write_text(json.dumps(arch), encoding="utf-8")
    with pytest.raises(ModelError):
        remake.prune(broken, ASKED, **HOW)


def test_pictures_that_moved_are_asked_for(trained, run, tmp_path):
    moved = shutil.copytree(trained / "photos", tmp_path / "moved")
    next((moved / "test" / "red").iterdir()).unlink()
    with pytest.raises(DataError, match="1 of the run's 120 pictures"):
        remake.prune(run, ASKED, **{**HOW, "data": str(moved)})
