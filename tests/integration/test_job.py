"""Run the main job end to end on made-up pictures that colour tells apart."""

import csv
import errno
import hashlib
import importlib
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import license_expression
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import photos
import sevenfold
from sevenfold import (
    account,
    cli,
    data,
    decisions,
    doctor,
    job,
    loop,
    predict,
    recipe,
    scoring,
    swap,
    versions,
)
from sevenfold import report as report_page
from sevenfold.errors import DataError, GateRefused, ModelError, ResourceError, UsageError
from sevenfold.job import Request
from sevenfold.practices.transfer import Transfer, build
from sevenfold.predictions import read_predictions, recompute
from sevenfold.progress import silent
from sevenfold.serve.selftest import selftest

SETTINGS = (
    "transfer.backbone=resnet20",
    "transfer.weights=random",
    "transfer.trainable_blocks=1000",
    "side=32",
    "epochs=2",
    "batch=16",
    "optimization.rate=0.01",
)
REQUEST = Request(overrides=SETTINGS, threads=1, device="cpu", licence="GLWTPL", seed=3)
RUN = {
    "bundle", "model.safetensors", "arch.json", "data.json", "predictions.csv", "report.html",
    "report.json", "recipe.toml", "metrics.jsonl", "trials",
}  # fmt: skip
parting = importlib.import_module("sevenfold.data.split")


class Kill(BaseException):
    """Stand for a kill: nothing may catch it."""


def test_a_program_asks_by_keywords_for_what_the_command_does(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(job, "train", lambda *given, **more: seen.append((given, more)) or {})
    assert sevenfold.train_run(Path("photos"), str(tmp_path)) == {}
    sevenfold.train_run(
        "photos",
        tmp_path,
        budget="normal",
        settings=list(SETTINGS),
        seed=3,
        replace=True,
        threads=1,
        device="cpu",
        progress=silent,
    )
    wanted = Request("normal", SETTINGS, seed=3, replace=True, threads=1, device="cpu")
    for request, (given, more) in zip((Request(), wanted), seen, strict=True):
        assert given == ("photos", tmp_path)
        assert more == {"request": request, "progress": silent}


def at_step(step: int, error: type[BaseException] = Kill) -> Callable[[str, int, int], None]:
    def progress(stage: str, done: int, _total: int) -> None:
        if stage == "train" and done == step:
            raise error

    return progress


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def report(run: Path) -> dict[str, Any]:
    text = (run / "report.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text, parse_constant=pytest.fail)  # NaN is no JSON
    return found


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(autouse=True)
def _shared(stores: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Share the stores of this file, and let given roles count however few pictures there are."""
    monkeypatch.setenv("SEVENFOLD_CACHE", str(stores))
    monkeypatch.setattr(parting, "SMALL_DATA", 60)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("roles")
    for role, count, start in (("train", 24, 0), ("val", 8, 100), ("test", 8, 200)):
        photos.write(folder / role, dict.fromkeys(photos.COLOURS, count), start=start)
    (folder / "train" / "red" / "torn.png").write_bytes(b"\x89PNG")
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos.write(tmp_path_factory.mktemp("small"), dict.fromkeys(photos.COLOURS, 20))


@pytest.fixture(scope="module")
def with_val(
    tmp_path_factory: pytest.TempPathFactory, roles: Path, stores: Path
) -> tuple[Path, dict[str, Any]]:
    """Train once on data with roles."""
    out = tmp_path_factory.mktemp("runs") / "val"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEVENFOLD_CACHE", str(stores))
        patch.setattr(parting, "SMALL_DATA", 60)
        return out, job.train(str(roles), out, request=REQUEST, progress=silent)


@pytest.fixture(scope="module")
def with_folds(
    tmp_path_factory: pytest.TempPathFactory, small: Path, stores: Path
) -> tuple[Path, dict[str, Any]]:
    """Train once the small-data way."""
    out = tmp_path_factory.mktemp("runs") / "folds"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEVENFOLD_CACHE", str(stores))
        return out, job.train(str(small), out, request=REQUEST, progress=silent)


@pytest.fixture
def own(with_val: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """Copy the run, whose test may then be opened."""
    return shutil.copytree(with_val[0], tmp_path / "own")


@pytest.fixture(params=["with_val", "with_folds"])
def finished(request: pytest.FixtureRequest) -> tuple[Path, dict[str, Any]]:
    found: tuple[Path, dict[str, Any]] = request.getfixturevalue(request.param)
    return found


def test_a_run_holds_what_it_promises(finished):
    run, facts = finished
    assert {path.name for path in run.iterdir()} == RUN
    assert {path.name for path in (run / "bundle").iterdir()} == {
        "model.onnx", "card.json", "labels.txt", "README.md", "SHA256SUMS",
        "features.safetensors", "selftest.json",
    }  # fmt: skip
    assert list((run / "trials").iterdir()) == []
    assert facts["schema"] == "sevenfold.train/1"
    assert facts["run"] == str(run)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "nll", "calibration_error"):
        assert facts["test"][name] >= 0
        assert facts["validation"][name] >= 0
    assert facts["bundle"]["parity_top1"] == 1.0
    assert facts["bundle"]["parity_max_difference"] <= 1e-4
    assert facts["bundle"]["latency_ms"] > facts["bundle"]["network_latency_ms"] > 0
    size = (run / "bundle" / "model.onnx").stat().st_size
    assert facts["bundle"]["megabytes"] == pytest.approx(size / 1e6)
    assert facts["seconds"] > 0


def test_a_run_says_when_it_is_in_doubt(finished):
    run, facts = finished
    point, unlike = facts["operating"], facts["unknown"]
    assert point["rule"] == "halved_error"
    assert 0 < point["test"]["answered"]["value"] <= 1
    assert point["chosen_on"] == ("folds" if run.name == "folds" else "validation")
    assert unlike["score"] in ("centroid", "energy")
    for role in ("validation", "test"):
        rate = unlike[role]
        assert 0 <= rate["low"] <= rate["value"] <= rate["high"] <= 1
    assert unlike["validation"]["value"] <= 0.1
    predictor = predict.load(run)
    assert predictor.bundle.point.thresholds.tolist() == list(point["thresholds"].values())
    assert predictor.bundle.reference.pictures == facts["validation"]["pictures"]
    selftest(predictor)
    told, page = report(run), (run / "report.html").read_text("utf-8")
    assert "When it is in doubt" in page
    assert all(mistake["map"].startswith("data:image/jpeg") for mistake in told["mistakes"])
    assert "not sure" in (run / "bundle" / "README.md").read_text("utf-8")


def test_it_learns(with_val):
    _, facts = with_val
    assert facts["test"]["accuracy"] >= 0.6
    assert facts["test"]["pictures"] == facts["validation"]["pictures"] == 24
    assert facts["quarantined"] == 1


def test_every_score_can_be_recomputed_from_the_predictions(finished):
    run, facts = finished
    told = report(run)
    predictions = read_predictions(run / "predictions.csv")
    other = "val" if told["validation"] else "train"
    for role, scores in (
        ("test", told["test"]),
        (other, told["validation"] or told["out_of_fold"]),
    ):
        again = account.scores(recompute(predictions, role=role))
        assert json.dumps(again) == json.dumps(scores)
        flat = facts["test" if role == "test" else "validation"]
        for name in ("accuracy", "balanced_accuracy", "macro_f1", "nll", "calibration_error"):
            assert flat[name] == scores[name]["value"]
    with (run / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    for role, name in (("test", "test"), (other, "validation")):
        some = np.array([at for at, each in enumerate(predictions.roles) if each == role])
        mine = [row for row in rows.values() if row["role"] == role]
        if found := told["unknown"]:
            far = np.array([float(row["distance"]) > found["threshold"] for row in mine])
            assert found[name]["value"] == pytest.approx(far.mean())
        point = predict.load(run).bundle.point
        shares, labels = predictions.probabilities[some], predictions.labels[some]
        operated = decisions.measured(point, shares, labels, predictions.classes)
        for measure in ("answered", "error", "error_answered"):
            assert operated[measure]["value"] == told["operating"][name][measure]["value"]
    wrong = [
        row for row in rows.values() if row["role"] == "test" and row["label"] != row["answer"]
    ]
    assert len(told["mistakes"]) == len(wrong)
    for mistake in told["mistakes"]:
        row = rows[mistake["path"]]
        assert (mistake["label"], mistake["answer"]) == (row["label"], row["answer"])
        assert mistake["probability"] == pytest.approx(float(row["p:" + row["answer"]]), abs=1e-6)


def test_the_manifest_tells_every_picture_and_the_one_opening(finished, with_val, roles):
    run, _ = finished
    manifest = data.from_json((run / "data.json").read_text("utf-8"), name="data.json")
    predictions = read_predictions(run / "predictions.csv")
    by_path = {row.path: row for row in manifest.rows}
    for path, role, content in zip(
        predictions.paths, predictions.roles, predictions.hashes, strict=True
    ):
        assert by_path[path].role == role
        assert by_path[path].hash == content
    counts = {
        role: sum(row.role == role for row in manifest.rows) for role in ("train", "val", "test")
    }
    for role, count in counts.items():
        assert count == sum(one[role] for one in report(run)["data"]["classes"])
    assert len(manifest.openings) == 1
    if finished is with_val:
        assert counts == {"train": 72, "val": 24, "test": 24}
        assert [one.path for one in manifest.quarantined] == ["train/red/torn.png"]
        assert manifest.source == str(roles)


def test_small_data_is_judged_out_of_fold(with_folds):
    run, facts = with_folds
    predictions = read_predictions(run / "predictions.csv")
    train = [at for at, role in enumerate(predictions.roles) if role == "train"]
    assert {int(predictions.folds[at]) for at in train} == {0, 1, 2, 3, 4}
    assert set(predictions.roles) == {"train", "test"}
    told = report(run)
    assert told["data"]["small_data"]
    # What ships was trained on all of them: nothing was left to measure it by meanwhile.
    (member,) = told["training"]["members"]
    assert {line["val_accuracy"] for line in member["history"]} == {None}
    assert all(line["loss"] > 0 for line in member["history"])
    assert told["validation"] == {}
    assert told["out_of_fold"]["pictures"] == len(train) == facts["validation"]["pictures"]
    assert len(train) + facts["test"]["pictures"] == 60


def test_a_picture_is_never_judged_by_a_network_that_saw_it(small, monkeypatch, tmp_path):
    from sevenfold import loop

    trained: list[set[int]] = []
    judged: list[tuple[set[int], set[int]]] = []
    training, predicting = loop.train, loop.predict
    under_way: list[bool] = []

    def train(module: Any, rows: Any, *rest: Any, **named: Any) -> Any:
        trained.append(set(rows.stages(0).pictures.tolist()))
        under_way.append(True)
        found = training(module, rows, *rest, **named)
        under_way.clear()
        return found

    def predicted(module: Any, views: Any, pictures: Any, place: Any) -> Any:
        if not under_way:  # what is measured during training chooses nothing here
            judged.append((trained[-1], set(pictures.tolist())))
        return predicting(module, views, pictures, place)

    monkeypatch.setattr(loop, "train", train)
    monkeypatch.setattr(loop, "predict", predicted)
    request = replace(REQUEST, overrides=(*SETTINGS, "epochs=1"))
    job.train(str(small), tmp_path / "run", request=request, progress=silent)
    assert len(judged) == 5
    assert not any(seen & asked for seen, asked in judged)
    everything = set().union(*(asked for _, asked in judged))
    assert len(everything) == sum(len(asked) for _, asked in judged)
    assert trained[-1] == everything  # the refit is on all but test


def test_the_bundle_answers_as_the_predictions_say(finished):
    run, _ = finished
    predictor = predict.load(run)
    assert predictor.classes == tuple(photos.COLOURS)
    assert predictor.size == 32
    predictions = read_predictions(run / "predictions.csv")
    manifest = data.from_json((run / "data.json").read_text("utf-8"), name="data.json")
    roles = np.array(predictions.roles)
    # Of val, or out of fold, only the answers of val are the bundle's own.
    for at in [*np.flatnonzero(roles == "test")[:5], *np.flatnonzero(roles == "val")[:5]]:
        path = Path(manifest.source) / predictions.paths[at]
        answer = predictor.answer(path.read_bytes(), path.name)
        np.testing.assert_allclose(answer.probabilities, predictions.probabilities[at], atol=1e-5)


def test_the_network_can_be_rebuilt_without_pickle(with_val):
    run, _ = with_val
    arch = json.loads((run / "arch.json").read_text("utf-8"))
    assert arch["sha256"] == sha256(run / "model.safetensors")
    network, _ = build(Transfer(**arch["transfer"]), len(arch["classes"]), arch["side"], 0)
    network.load_state_dict(safetensors.torch.load_file(run / "model.safetensors"))
    predictor = predict.load(run)
    pixels = photos.picture("green", 999, 32)
    with torch.inference_mode():
        logits = network(torch.from_numpy(pixels).permute(2, 0, 1)[None].float())
        expected = torch.softmax(logits / arch["temperature"], dim=1)[0]
    np.testing.assert_allclose(predictor.probabilities(pixels), expected, atol=1e-4)


def test_the_code_of_the_model_card_runs(with_val, tmp_path):
    run, _ = with_val
    bundle = shutil.copytree(run / "bundle", tmp_path / "copied")
    card = (bundle / "README.md").read_text("utf-8")
    assert "GLWTPL" in card
    found = re.search(r"```python\n(.*?)```", card, re.S)
    assert found
    (bundle / "classify.py").write_text(found[1], encoding="utf-8")
    # 16 bits of grey, as microscopes write them: Pillow would cut them off at 255.
    grey = np.random.default_rng(0).integers(0, 65_536, (40, 50), dtype=np.uint16)
    for pixels in (photos.picture("red", 999, 50), grey):
        Image.fromarray(pixels).save(bundle / "photo.png")
        done = subprocess.run(
            [sys.executable, "classify.py", "photo.png"],
            cwd=bundle, capture_output=True, text=True, check=True,
        )  # fmt: skip
        answer = predict.load(run).answer((bundle / "photo.png").read_bytes(), "photo.png")
        assert done.stdout.split()[:2] == [answer.label, f"{answer.probability:.3f}"]


def test_the_small_files_say_how_it_was_made(with_val):
    run, facts = with_val
    told = report(run)
    settled = recipe.read(run / "recipe.toml", recipe.Recipe())
    assert settled == recipe.read(run / "recipe.toml", recipe.default("thorough"))
    assert (settled.side, settled.epochs, settled.objective) == (32, 2, "accuracy")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1]
    history = told["training"]["members"][0]["history"]
    assert lines == [{"member": 0, **line} for line in history]
    assert told["run"]["seed"] == 3
    assert [stage["stage"] for stage in told["run"]["stages"]] == [
        "read", "fit", "export", "score",
    ]  # fmt: skip
    assert told["bundle"]["megabytes"] == facts["bundle"]["megabytes"]
    card = json.loads((run / "bundle" / "card.json").read_text("utf-8"))
    assert card["scores"] == told["test"]
    assert card["licence"] == "GLWTPL"
    page = (run / "report.html").read_text("utf-8")
    assert len(page) < 3_000_000
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert page.count("data:image/jpeg") >= 3


# Again, and differently


def test_what_is_asked_of_the_answers_is_kept(with_val, roles, tmp_path):
    again = shutil.copytree(with_val[0], tmp_path / "again")
    (tmp_path / "costs.toml").write_text("not_sure = 0.2\n[red]\nblue = 9\n", encoding="utf-8")
    request = replace(REQUEST, replace=True, costs=str(tmp_path / "costs.toml"))
    facts = job.train(str(roles), again, request=request, progress=silent)
    assert facts["operating"]["rule"] == "costs"
    assert predict.load(again).bundle.point.costs.max() == 9
    assert "expected cost" in (again / "report.html").read_text("utf-8")


def test_a_promise_that_too_few_pictures_carry_is_refused_before_training(roles, tmp_path):
    request = replace(REQUEST, min_recall=("red=0.95",))
    with pytest.raises(DataError, match="45 are needed"):
        job.train(str(roles), tmp_path / "run", request=request, progress=silent)
    assert not list((tmp_path / "run" / "trials").glob("*/*"))


def test_pictures_of_one_group_carry_a_promise_as_one(small, tmp_path):
    lines = ["path,label,group"]
    for path in sorted(small.rglob("*.png")):
        label = path.parent.name
        lines.append(f"{path},{label},{f'red {int(path.stem) % 4}' if label == 'red' else ''}")
    table = tmp_path / "photos.csv"
    table.write_text("\n".join(lines), encoding="utf-8")
    request = replace(REQUEST, min_recall=("red=0.5",))
    with pytest.raises(DataError, match=r"3 pictures of their own or groups.* 4 are needed"):
        job.train(str(table), tmp_path / "run", request=request, progress=silent)


def test_a_finished_run_is_not_replaced_by_accident(with_val, roles):
    run, _ = with_val
    before = sha256(run / "report.json")
    with pytest.raises(UsageError, match="holds a finished run") as caught:
        job.train(str(roles), run, request=REQUEST, progress=silent)
    assert "--replace" in caught.value.cure
    assert sha256(run / "report.json") == before


def test_a_run_that_another_command_changes_is_not_replaced(with_val, roles):
    run, _ = with_val
    before = sha256(run / "report.json")
    with versions.locked(run), pytest.raises(ResourceError, match="is being changed"):
        job.train(str(roles), run, request=replace(REQUEST, replace=True), progress=silent)
    assert sha256(run / "report.json") == before


def test_two_trainings_do_not_write_one_run(roles, tmp_path):
    (tmp_path / "trials").mkdir()
    with versions.locked(tmp_path), pytest.raises(ResourceError, match="is being changed"):
        job.train(str(roles), tmp_path, request=REQUEST, progress=silent)


def test_what_a_system_left_in_a_folder_is_no_other_file(tmp_path):
    (tmp_path / ".DS_Store").write_bytes(b"")
    job._prepare(tmp_path, REQUEST, "train")
    assert (tmp_path / "trials").is_dir()


def killed_at_the_end(
    turns: Iterator[int], real: Callable[[Path, bytes], None]
) -> Callable[[Path, bytes], None]:
    def replace(path: Path, content: bytes) -> None:
        if next(turns, None) is None:
            raise Kill
        real(path, content)

    return replace


def test_a_run_stays_until_its_successor_is_written(with_val, roles, tmp_path, monkeypatch):
    run = shutil.copytree(with_val[0], tmp_path / "run")
    before = {path: sha256(path) for path in run.rglob("*") if path.is_file()}
    again = replace(REQUEST, replace=True)
    for request, source, progress, error in (
        (replace(again, licence="mine"), str(roles), silent, UsageError),
        (again, str(tmp_path / "nowhere"), silent, (UsageError, DataError)),
        (replace(again, overrides=(*SETTINGS, "pruning.steps=3")), str(roles), silent, UsageError),
        (again, str(roles), at_step(6), Kill),
    ):
        with pytest.raises(error):
            job.train(source, run, request=request, progress=progress)
        assert all(sha256(path) == held for path, held in before.items())
    # Nor does a disk that fills up while the successor is written, wherever that happens.
    for holder, name in (
        (safetensors.torch, "save_file"), (report_page, "render"), (os, "fsync"), (swap, "begin"),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(holder, name, lambda *_, **__: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                job.train(str(roles), run, request=again, progress=silent)
        assert all(sha256(path) == held for path, held in before.items())
        predict.load(run)
    opened = openings(run)
    # A kill between two files: what the run serves is whole, and the next command goes on.
    moved = iter(range(4))
    with monkeypatch.context() as patch:
        patch.setattr(swap, "_replace", killed_at_the_end(moved, swap._replace))
        with pytest.raises(Kill):
            job.train(str(roles), run, request=again, progress=silent)
    assert predict.load(run).classes == predict.load(with_val[0]).classes
    with pytest.raises(UsageError, match="holds a finished run"):
        job.train(str(roles), run, request=REQUEST, progress=silent)
    assert not swap.pending(run)
    assert openings(run) == opened + 1
    job.train(str(roles), run, request=again, progress=silent)  # had its model in place, and ends
    assert openings(run) == opened + 1
    opened = openings(run)
    job.train(str(roles), run, request=again, progress=silent)
    assert {path.name for path in run.iterdir()} == {path.name for path in with_val[0].iterdir()}
    assert sha256(run / "model.safetensors") == before[run / "model.safetensors"]
    assert report(run)["run"]["created"] >= report(with_val[0])["run"]["created"]
    predict.load(run)
    # The same test pictures were looked at again; the newest look is told first.
    assert openings(run) == opened + 1 == report(run)["data"]["openings"]
    times = [one.time for one in manifest(run).openings]
    assert times[0] == report(run)["run"]["created"] == max(times)


def test_a_training_that_diverges_says_in_which_epoch_and_at_what_rate(
    roles, tmp_path, monkeypatch
):
    real, seen = loop.cross_entropy, []
    monkeypatch.setattr(loop, "cross_entropy", lambda *given: real(*given) * float("inf"))
    wild = replace(REQUEST, overrides=(*SETTINGS, "epochs=4", "optimization.rate=2"))
    with pytest.raises(UsageError, match="diverged at the rate 2, after 1 of its epochs") as caught:
        job.train(
            str(roles), tmp_path / "run", request=wild,
            progress=lambda *told: seen.append(told[1:]) if told[0] == "train" else None,
        )  # fmt: skip
    assert "optimization.rate below 2" in caught.value.cure
    assert max(done for done, _ in seen) == seen[0][1] // 4  # no epoch more than the first
    assert not (tmp_path / "run" / "report.json").exists()


def test_what_is_wrong_with_the_gpu_is_told_before_the_work(roles, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "gpu_advice", lambda _: "a GPU lies idle\n  try: another torch")
    said = []
    facts = job.train(
        str(roles), tmp_path / "run", request=REQUEST,
        progress=lambda stage, *_: said.append(stage),
    )  # fmt: skip
    assert said[0] == facts["advice"] == "a GPU lies idle. Try: another torch"


def test_long_work_says_beforehand_what_it_takes(roles, tmp_path, monkeypatch):
    monkeypatch.setattr("sevenfold.train.member.LONG_SECONDS", 0.0)
    monkeypatch.setattr("sevenfold.features.views.LARGE_BYTES", 0)
    monkeypatch.setattr("sevenfold.features.pixels.LARGE_BYTES", 0)
    monkeypatch.setenv("SEVENFOLD_CACHE", str(tmp_path / "stores"))
    told, asked = [], ("epochs=1", "optimization.rate=0", "transfer.trainable_blocks=2")
    request = replace(REQUEST, overrides=(*SETTINGS, *asked))

    def progress(stage, done, total):
        told.append((stage, done, total))

    job.train(str(roles), tmp_path / "run", request=request, progress=progress)
    messages = [stage for stage, done, total in told if (done, total) == (0, 0)]
    assert any(re.fullmatch(r"about \d+ s of training ahead", one) for one in messages)
    assert any(re.fullmatch(r"decode \(up to [\d,]+ MB of disk\)", one) for one in messages)
    assert any(re.fullmatch(r"activations \([\d,]+ MB of disk\)", one) for one in messages)


def test_loaders_do_not_change_the_weights(with_val, roles, tmp_path, monkeypatch):
    # Torch's own threads change the order of its sums: as many as in the other run.
    torch.set_num_threads(1)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    request = replace(REQUEST, threads=3)
    job.train(str(roles), tmp_path / "run", request=request, progress=silent)
    assert sha256(tmp_path / "run" / "model.safetensors") == sha256(
        with_val[0] / "model.safetensors"
    )


def test_a_rate_at_which_the_loss_is_no_number_is_told_as_unknown(roles, tmp_path, monkeypatch):
    losses = iter([0.5, math.inf, math.inf])
    monkeypatch.setattr(loop, "brief", lambda *_, **__: next(losses))
    settings = [one for one in SETTINGS if not one.startswith("optimization.rate")]
    request = replace(REQUEST, overrides=(*settings, "epochs=1"))
    job.train(str(roles), tmp_path / "run", request=request, progress=silent)
    probe = report(tmp_path / "run")["training"]["probe"]
    assert [one["loss"] for one in probe] == [0.5, None, None]


def test_the_peak_of_memory_is_not_known_on_windows(monkeypatch):
    monkeypatch.setattr(account.sys, "platform", "win32")
    assert account.peak_megabytes() is None


def test_a_frozen_trunk_trains_from_the_store(roles, tmp_path):
    request = replace(
        REQUEST, overrides=(*SETTINGS, "transfer.trainable_blocks=3", "views=2", "epochs=1")
    )
    facts = job.train(str(roles), tmp_path / "run", request=request, progress=silent)
    assert facts["bundle"]["parity_top1"] == 1.0
    told = report(tmp_path / "run")["training"]
    assert told["cut"].startswith("3 of 10 blocks")
    assert 0 < told["trainable_parameters"] < told["parameters"]
    network, _ = build(Transfer("resnet20", "random", trainable_blocks=3), 3, 32, seed=3)
    found = safetensors.torch.load_file(tmp_path / "run" / "model.safetensors")
    for name, value in network.state_dict().items():
        frozen = name.startswith(tuple(f"blocks.{block}." for block in range(7)))
        if frozen or "weight" in name:
            assert torch.equal(found[name], value) == frozen, name


DRIVER = """
import importlib, os, signal, sys
importlib.import_module("sevenfold.data.split").SMALL_DATA = 60
from sevenfold import job
sys.path.insert(0, {tests!r})
from integration.test_job import REQUEST
def progress(stage, done, total):
    if stage == "train" and 3 * done >= {third} * total:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
job.train({data!r}, job.Path({out!r}), request=REQUEST, progress=progress)
"""


def test_a_killed_run_ends_as_one_never_killed(with_val, roles, tmp_path, monkeypatch):
    out = tmp_path / "run"
    for third in (1, 2):
        code = DRIVER.format(
            tests=str(Path(__file__).parents[1]), third=third, data=str(roles), out=str(out)
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode not in (0, 1), done.stderr
        assert not (out / "report.json").exists()
    # At last while its files are put in their place: what lies there is whole, and not finished.
    moved = iter(range(4))
    with monkeypatch.context() as patch:
        patch.setattr(swap, "_replace", killed_at_the_end(moved, swap._replace))
        with pytest.raises(Kill):
            job.train(str(roles), out, request=REQUEST, progress=silent)
    assert swap.pending(out)
    predict.load(out)
    with pytest.raises(UsageError, match="holds a finished run"):
        job.train(str(roles), out, request=replace(REQUEST, seed=9), progress=silent)
    facts = job.train(str(roles), out, request=REQUEST, progress=silent)
    assert facts["run"] == str(out)
    assert facts["test"]["accuracy"] == report(out)["test"]["accuracy"]["value"]
    assert not any((out / "trials").iterdir())
    assert sha256(out / "model.safetensors") == sha256(with_val[0] / "model.safetensors")
    assert {path.name for path in out.iterdir()} == {path.name for path in with_val[0].iterdir()}
    assert openings(out) == 1


# Evaluation


def evaluated(
    model: Path,
    source: Path,
    split: str = "test",
    out: Path | None = None,
    small_classes: data.SmallClasses = "refuse",
) -> dict[str, Any]:
    return scoring.evaluate(
        model, str(source), split=split, columns={}, group_by="",
        small_classes=small_classes, threads=2, out=out, progress=silent,
    )  # fmt: skip


def manifest(run: Path) -> data.Manifest:
    return data.from_json((run / "data.json").read_text("utf-8"), name="data.json")


def openings(run: Path) -> int:
    return len(manifest(run).openings)


def test_evaluating_gives_the_scores_of_the_run_and_is_written_down(with_val, roles, tmp_path):
    run = shutil.copytree(with_val[0], tmp_path / "run")
    before = openings(run)  # other tests open it too
    found = evaluated(run, roles)
    assert found["schema"] == "sevenfold.evaluate/1"
    for name, value in with_val[1]["test"].items():
        if isinstance(value, float):
            assert found["scores"][name] == pytest.approx(value, abs=1e-4), name
    assert openings(run) == before + 1
    evaluated(run, roles, split="val")
    assert openings(run) == before + 1
    for name in ("answered", "error", "error_answered"):
        assert found["operating"][name] == with_val[1]["operating"]["test"][name]
    assert found["unlike"] == with_val[1]["unknown"]["test"]
    assert found["learnt_from"] == 0
    copied = shutil.copytree(run / "bundle", tmp_path / "copied")
    assert evaluated(copied, roles)["scores"] == found["scores"]
    assert openings(run) == before + 1


def test_the_bundle_of_a_run_knows_what_the_run_knows(with_val, roles, tmp_path):
    run = shutil.copytree(with_val[0], tmp_path / "run")
    before = openings(run)
    whole = evaluated(run / "bundle", roles, split="all")
    assert whole["learnt_from"] == evaluated(run, roles, split="all")["learnt_from"] > 0
    assert openings(run) == before + 2
    alone = evaluated(shutil.copytree(run / "bundle", tmp_path / "bundle"), roles)
    assert alone["learnt_from"] is None


def test_evaluating_writes_what_it_says_of_each_picture(own, with_val, roles, tmp_path):
    out = tmp_path / "new" / "told.csv"
    found = evaluated(own, roles, "all", out)
    told = read_predictions(out)
    assert found["out"] == str(out)
    assert sorted(set(told.roles)) == ["test", "train", "val"]
    assert found["learnt_from"] == sum(role != "test" for role in told.roles) > 0
    mine = recompute(told).accuracy.value
    assert mine == pytest.approx(with_val[1]["test"]["accuracy"])
    before = out.read_bytes()
    looks = openings(own)
    with pytest.raises(UsageError, match="exists already"):
        evaluated(own, roles, "test", out)
    with pytest.raises(UsageError, match="no name of a CSV"):
        evaluated(own, roles, "test", tmp_path)
    with pytest.raises(ResourceError, match="cannot write"):
        evaluated(own, roles, "test", out / "told.csv")
    assert out.read_bytes() == before
    assert openings(own) == looks


def test_evaluating_needs_the_pictures_of_the_split(own, roles, tmp_path):
    shutil.copytree(roles / "train", tmp_path / "data" / "train")
    with pytest.raises(DataError, match="has no test pictures"):
        evaluated(own, tmp_path / "data")


def test_what_a_run_knows_keeps_its_role_and_what_it_has_never_seen_is_test(own, roles, tmp_path):
    # Pictures that weights were fitted to, beside those of test, in folders that call all test.
    moved = tmp_path / "moved"
    shutil.copytree(roles / "test", moved / "test")
    shutil.copytree(roles / "val", moved / "val")
    for label in photos.COLOURS:
        for path in sorted((roles / "train" / label).glob("0*.png"))[:4]:
            shutil.copy(path, moved / "test" / label / f"known-{path.name}")
    found = evaluated(own, moved)
    assert (found["scores"]["pictures"], found["left_out"]) == (24, 12 + 24)
    # New pictures without roles count beside the run's own test pictures, and not without.
    new = photos.write(tmp_path / "new", dict.fromkeys(photos.COLOURS, 5), start=500)
    assert evaluated(own, new)["scores"]["pictures"] == 15
    shutil.copy(roles / "test" / "red" / "200.png", new / "red" / "of-test.png")
    shutil.copy(roles / "train" / "red" / "000.png", new / "red" / "of-train.png")
    found = evaluated(own, new)
    assert (found["scores"]["pictures"], found["left_out"]) == (16, 1)
    assert (found["new"], found["roles"]) == (15, True)


def test_evaluating_names_what_it_cannot_score(own, tmp_path):
    new = photos.write(tmp_path / "new", dict.fromkeys(photos.COLOURS, 5), start=500)
    expected = evaluated(own, new)
    assert (expected["quarantined"], expected["unusable"]) == (0, [])
    (new / "red" / "torn.png").write_bytes((new / "red" / "500.png").read_bytes()[:60])
    (new / "plum").mkdir()
    shutil.copy(
        photos.write(tmp_path / "more", {"red": 1}, start=900) / "red" / "900.png", new / "plum"
    )
    with pytest.raises(DataError, match="label `plum`") as refused:
        evaluated(own, new)
    assert "--small-classes drop" in refused.value.cure
    shutil.rmtree(new / "red")
    shutil.rmtree(new / "blue")
    shutil.rmtree(new / "green")
    with pytest.raises(DataError, match=r"none of 1 pictures can be scored: plum/900\.png"):
        evaluated(own, new, small_classes="drop")
    photos.write(tmp_path / "new", dict.fromkeys(photos.COLOURS, 5), start=500)
    (new / "red" / "torn.png").write_bytes((new / "red" / "500.png").read_bytes()[:60])
    found = evaluated(own, new, small_classes="drop")
    assert found["scores"] == expected["scores"]
    told = {one["path"]: one["reason"] for one in found["unusable"]}
    assert found["quarantined"] == len(told) == 2
    assert told.pop("plum/900.png") == "class plum is none of the model's"
    assert list(told) == ["red/torn.png"]


def test_evaluating_looks_at_boxes_alone(own, tmp_path):
    lines = ["path,label,box"]
    for number in range(5):
        pixels = np.hstack([photos.picture("red", number), photos.picture("blue", number)])
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        lines += [f'{number}.png,red,"0,0,0.5,1"', f'{number}.png,blue,"0.5,0,0.5,1"']
    (tmp_path / "boxes.csv").write_text("\n".join(lines), encoding="utf-8")
    found = evaluated(own, tmp_path / "boxes.csv")["scores"]
    predictor = predict.load(own)
    right = [
        predictor.classes[predictor.probabilities(photos.picture(label, number)).argmax()] == label
        for number in range(5)
        for label in ("red", "blue")
    ]
    assert found["accuracy"] == pytest.approx(np.mean(right))


def test_evaluating_needs_no_torch(with_val, roles, tmp_path):
    run = shutil.copytree(with_val[0], tmp_path / "run")
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'torchvision', 'timm', 'cv2')));"
        "from sevenfold import cli; sys.exit(cli.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "evaluate", str(run), str(roles), "--json"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scores"]["pictures"] == 24


# What goes wrong


def run_cli(roles: Path, out: Path, *more: str) -> int:
    settings = [part for one in SETTINGS for part in ("--set", one)]
    return cli.main(
        ["train", str(roles), "--out", str(out), "--threads", "1", "--device", "cpu", "--seed", "3",
         "--licence", "GLWTPL", "--json", *settings, *more]
    )  # fmt: skip


def test_an_interrupt_saves_and_the_same_command_goes_on(
    with_val, roles, tmp_path, monkeypatch, capsys
):
    from sevenfold import progress

    out = tmp_path / "run"
    monkeypatch.setattr(progress, "Lines", lambda _: at_step(7, KeyboardInterrupt))
    assert run_cli(roles, out) == 130
    assert "goes on from what is saved" in capsys.readouterr().err
    assert len(list((out / "trials").rglob("*.checkpoint"))) == 1
    steps: list[int] = []
    monkeypatch.setattr(
        progress, "Lines",
        lambda _: lambda stage, done, total: steps.append(done) if stage == "train" else None,
    )  # fmt: skip
    assert run_cli(roles, out) == 0
    assert min(steps) == 5  # the first epoch is not trained again
    assert json.loads(capsys.readouterr().out)["test"] == with_val[1]["test"]
    assert sha256(out / "model.safetensors") == sha256(with_val[0] / "model.safetensors")


def test_a_full_disk_is_a_matter_of_resources_and_loses_nothing(
    with_val, roles, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "run"

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for holder, name in ((os, "fsync"), (safetensors.torch, "save_file")):
        with monkeypatch.context() as patch:
            patch.setattr(holder, name, full)
            assert run_cli(roles, out) == 5
        told = capsys.readouterr()
        assert "No space left" in told.err or "is full" in told.err
        assert told.out == ""
        assert not (out / "report.json").exists()
    trained = at_step(0)  # all epochs are there: none may begin anew
    facts = job.train(str(roles), out, request=REQUEST, progress=trained)
    assert facts["test"]["accuracy"] == with_val[1]["test"]["accuracy"]
    assert sha256(out / "model.safetensors") == sha256(with_val[0] / "model.safetensors")


def test_a_damaged_checkpoint_is_named(roles, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Kill):
        job.train(str(roles), out, request=REQUEST, progress=at_step(6))
    (saved,) = (out / "trials").rglob("*.checkpoint")
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(ModelError, match="is damaged") as caught:
        job.train(str(roles), out, request=REQUEST, progress=silent)
    assert str(saved) in caught.value.problem


@pytest.mark.parametrize("name", ["model.onnx", "card.json", "labels.txt", "README.md"])
def test_a_damaged_file_of_a_run_is_named(with_val, roles, tmp_path, capsys, name):
    run = shutil.copytree(with_val[0], tmp_path / "run")
    path = run / "bundle" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert cli.main(["evaluate", str(run), str(roles)]) == 4
    assert name in capsys.readouterr().err


def test_a_damaged_manifest_is_named(with_val, roles, tmp_path, capsys):
    run = shutil.copytree(with_val[0], tmp_path / "run")
    (run / "data.json").write_text("{", encoding="utf-8")
    assert cli.main(["evaluate", str(run), str(roles)]) == 4
    assert "data.json" in capsys.readouterr().err


def test_a_graph_that_disagrees_is_not_exported(roles, tmp_path, monkeypatch):
    from sevenfold import export

    honest = export.agreement
    monkeypatch.setattr(
        export.proof, "agreement", lambda ours, theirs, tie: honest(ours, theirs[::-1], tie=tie)
    )
    with pytest.raises(GateRefused):
        job.train(str(roles), tmp_path / "run", request=REQUEST, progress=silent)
    assert not (tmp_path / "run" / "bundle").exists()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"licence": "Apache 2"}, "is not an SPDX"),
        ({"licence": "MIT OR"}, "is not an SPDX"),
        ({"licence": "()"}, "is not an SPDX"),
        ({"licence": " "}, "is not an SPDX"),
        ({"licence": "LicenseRef-a b"}, "is not an SPDX"),
        ({"overrides": ("transfer.backbon=x",)}, "transfer.backbon"),
        ({"overrides": ("augmentation.flip=2",)}, "out of range"),
        ({"overrides": (*SETTINGS, "optimization.name=adagrad")}, "adagrad"),
        ({"overrides": (*SETTINGS, "ensembling.vote=hard")}, "ensembling.members"),
        ({"overrides": (*SETTINGS, "growth.share=1.5")}, "growth.share"),
        ({"overrides": (*SETTINGS, "imbalance.method=x")}, "imbalance.method"),
        ({"overrides": (*SETTINGS, "transfer.backbone=resnet21")}, "resnet21"),
        ({"overrides": (*SETTINGS, "transfer.weights=packaged")}, "no pretrained weights"),
        ({"budget": "fast"}, "fast"),
        ({"recipe": "nowhere.toml"}, "nowhere.toml"),
        ({"small_classes": "merge"}, "merge"),
    ],
)
def test_a_request_that_cannot_be_carried_out_is_named(roles, tmp_path, change, problem):
    with pytest.raises(UsageError, match=re.escape(problem)):
        job.train(
            str(roles), tmp_path / "run", request=replace(REQUEST, **change), progress=at_step(0)
        )


@pytest.mark.parametrize("licence", ["", "GLWTPL", "MIT", "Apache-2.0 WITH LLVM-exception",
                                     "CC-BY-NC-SA-4.0", "LicenseRef-ours"])  # fmt: skip
def test_licences_of_the_list_are_accepted(licence):
    account.check_licence(licence)


def test_every_licence_of_the_spdx_list_is_accepted(monkeypatch):
    known = license_expression.get_spdx_licensing()
    monkeypatch.setattr(license_expression, "get_spdx_licensing", lambda: known)
    names = [
        one["spdx_license_key"]
        for one in license_expression.get_license_index()
        if one["spdx_license_key"] and not (one["is_exception"] or one["is_deprecated"])
    ]
    assert len(names) > 500
    for name in names:
        account.check_licence(name)


def test_a_place_that_cannot_hold_a_run_is_named(roles, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="is a file"):
        job.train(str(roles), tmp_path / "file", request=REQUEST, progress=silent)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine", encoding="utf-8")
    for request in (REQUEST, replace(REQUEST, replace=True)):
        with pytest.raises(UsageError, match="holds other files"):
            job.train(str(roles), tmp_path / "other", request=request, progress=silent)
    # Not everyone may do everything, but root may: pretend.
    making = Path.mkdir

    def mkdir(self: Path, *rest: Any, **named: Any) -> None:
        if self.name == "trials":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        making(self, *rest, **named)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(ResourceError, match="cannot be written to"):
        job.train(str(roles), tmp_path / "locked" / "run", request=REQUEST, progress=silent)
    assert (tmp_path / "file").read_text("utf-8") == "mine"
    assert (tmp_path / "other" / "thesis.txt").read_text("utf-8") == "mine"


def test_a_folder_of_someone_elses_report_is_not_replaced(roles, tmp_path):
    (tmp_path / "report.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError):
        job.train(str(roles), tmp_path, request=replace(REQUEST, replace=True), progress=silent)
    assert (tmp_path / "report.json").read_text("utf-8") == "{}"


def test_a_device_that_is_not_there_is_named(roles, tmp_path):
    for device in ("cuda", "mps"):
        there = torch.cuda.is_available() if device == "cuda" else torch.backends.mps.is_available()
        if not there:
            with pytest.raises(ResourceError, match=f"--device {device}"):
                job.train(
                    str(roles), tmp_path / "run", request=replace(REQUEST, device=device),
                    progress=silent,
                )  # fmt: skip


def test_data_without_test_pictures_is_refused(roles, tmp_path, monkeypatch):
    shutil.copytree(roles / "train", tmp_path / "data" / "train")
    shutil.copytree(roles / "val", tmp_path / "data" / "val")
    real = data.split
    monkeypatch.setattr(data, "split", lambda dataset: real(dataset, test=0.0))
    with pytest.raises(DataError, match="has no test pictures"):
        job.train(str(tmp_path / "data"), tmp_path / "run", request=REQUEST, progress=silent)


def test_hostile_names_reach_every_file_unharmed(tmp_path, monkeypatch):
    line = ["/bin/sevenfold", "train", "caf\udce9 <xss>"]  # a byte that is not UTF-8
    monkeypatch.setattr(sys, "argv", line)
    names = {"blue": "=1+1", "green": "<b>&", "red": "größe 'x'"}
    source = tmp_path / "data"
    for label, name in names.items():
        made = photos.write(tmp_path / "made", {label: 20})
        shutil.move(made / label, source / name)
    request = replace(REQUEST, overrides=(*SETTINGS, "epochs=1"))
    job.train(str(source), tmp_path / "run", request=request, progress=silent)
    assert set(predict.load(tmp_path / "run").classes) == set(names.values())
    predictions = read_predictions(tmp_path / "run" / "predictions.csv")
    assert set(predictions.classes) == set(names.values())
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "<b>&" not in page
    assert "<xss" not in page
    assert report(tmp_path / "run")["run"]["command"].endswith("'caf\\xe9 <xss>'")
    cells = csv.reader(io.StringIO((tmp_path / "run" / "predictions.csv").read_text("utf-8")))
    assert not any(cell.startswith("=") for row in cells for cell in row)
