"""Update a run: what is new is learned behind a gate, and a kill at any moment does no harm."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import finished
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from starlette.testclient import TestClient
from test_job import REQUEST, SETTINGS, Kill, report, sha256
from test_prune import faster

import photos
from sevenfold import cli, job, loop, predict, remake, runs, serve, swap, update, versions
from sevenfold.errors import DataError, ModelError, ResourceError, UsageError
from sevenfold.practices import growth
from sevenfold.predictions import read_predictions
from sevenfold.progress import silent
from sevenfold.studies.suggest import suggest
from sevenfold.update import tuning, work

HOW = {"threads": 1, "device": "cpu", "progress": silent, "timer": lambda models: np.ones((2, 1))}
pytestmark = pytest.mark.usefixtures("few_pictures")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, stores) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    finished.train(folder, stores, SETTINGS)
    photos.write(folder / "more", dict.fromkeys(photos.COLOURS, 16), start=400)
    return folder


@pytest.fixture
def run(trained, tmp_path) -> Path:
    return shutil.copytree(trained / "run", tmp_path / "run")


@pytest.fixture
def more(trained) -> str:
    return str(trained / "more")


def served(run: Path) -> str:
    """Open what the run serves, every hash checked, and name it."""
    predict.load(run)
    return sha256(swap.serving(run) / "model.onnx")


def test_more_data_makes_a_version_and_only_adds_to_what_is_known(run, more):
    before = json.loads((run / "data.json").read_text("utf-8"))["rows"]
    facts = update.update(run, update.Asked(more), **HOW)
    assert facts["accepted"]
    assert facts["version"] == 2
    assert sum(facts["new"].values()) == 48
    assert min(facts["new"].values()) > 0
    assert facts["before"]["pictures"] == facts["after"]["pictures"] == 24
    told = report(run)
    assert told["test"]["pictures"] == 24 + facts["new"]["test"]
    assert told["update"]["version"] == 2
    assert told["data"]["openings"] == 2
    rows = json.loads((run / "data.json").read_text("utf-8"))["rows"]
    assert rows[: len(before)] == before
    assert len(rows) == len(before) + 48
    assert "goes on from version 1 with 48 new pictures" in (run / "report.html").read_text("utf-8")
    one, two = versions.listed(run)
    assert (one.signed_off, one.current, two.signed_off, two.current) == (True, False, False, True)
    assert two.parent == 1
    assert not (run / "update.lock").exists()
    with pytest.raises(DataError, match="knows all 48 pictures"):
        update.update(run, update.Asked(more), **HOW)


def test_a_run_that_was_updated_opens_again_with_all_its_pictures(run, more, tmp_path, monkeypatch):
    monkeypatch.setattr(work.gate, "DROP", 0.5)  # one of 24 pictures is 4 points
    update.update(run, update.Asked(more), **HOW)
    opened = runs.reopened(run, data="", threads=1, progress=silent)
    assert len(opened.split.dataset) == 120 + 48
    assert opened.split.dataset.decode(167).shape == (40, 40, 3)
    photos.write(tmp_path / "again", dict.fromkeys(photos.COLOURS, 8), start=600)
    facts = update.update(run, update.Asked(str(tmp_path / "again")), **HOW)
    assert facts["version"] == 3
    assert len(facts["comparisons"]) == 2
    assert facts["comparisons"][1]["reference"] == "version 1, the last one signed off"
    versions.sign_off(run, 3)
    assert versions.baseline(run, 3) == 3


def test_what_was_served_is_suggested_named_by_a_person_and_learnt(run, more, tmp_path):
    kept = tmp_path / "kept"
    app = serve.application(predict.load(run, threads=1), serve.Settings(collect=kept))
    with TestClient(app, base_url="http://localhost") as server:
        true = {
            server.post("/predict", content=path.read_bytes()).json()["id"]: path.parent.name
            for path in sorted(Path(more).rglob("*.png"))
        }
        found = suggest(
            run, kept, tmp_path / "out", count=36, by="margin", threads=1, progress=silent
        )
        asked = [Path(one["path"]).stem for one in found["suggestions"]]
        assert len(set(asked)) == 36
        for name in asked:
            reply = server.post("/correct", json={"id": name, "label": true[name]})
            assert reply.status_code == 200
    facts = update.update(run, update.Asked(str(kept / "labelled")), **HOW)
    assert facts["accepted"]
    assert sum(facts["new"].values()) == 36
    with TestClient(
        serve.application(predict.load(run, threads=1), serve.Settings()),
        base_url="http://localhost",
    ) as server:
        assert server.get("/readyz").status_code == 200
    left = suggest(run, kept, tmp_path / "left", count=36, by="margin", threads=1, progress=silent)
    assert len(left["suggestions"]) == 12


def test_the_prior_is_that_of_all_pictures_not_of_those_an_epoch_shows(run, more, monkeypatch):
    path = run / "recipe.toml"
    recipe = path.read_text("utf-8")
    assert 'method = "none"' in recipe
    path.write_text(recipe.replace('method = "none"', 'method = "adjusted_after"'), "utf-8")
    monkeypatch.setattr(tuning, "LEAST_REPLAY", 6)
    monkeypatch.setattr(tuning, "REPLAY", 0)
    counts = []
    monkeypatch.setattr(tuning.imbalance, "shift_head", lambda _, found, __: counts.append(found))
    update.update(run, update.Asked(more), **HOW)
    rows = json.loads((run / "data.json").read_text("utf-8"))
    labels = [row[2] for row in rows["rows"] if row[3] == "train"]
    assert counts[0].tolist() == [24, 24, 24]
    assert counts[1].tolist() == [labels.count(name) for name in sorted(photos.COLOURS)]
    assert sum(counts[1].tolist()) == len(labels) > 72


def test_what_goes_on_from_a_run_is_shown_the_share_that_the_training_saw(run, more, monkeypatch):
    path = run / "recipe.toml"
    recipe = path.read_text("utf-8")
    assert "share = 1.0" in recipe
    path.write_text(recipe.replace("share = 1.0", "share = 0.5"), "utf-8")
    monkeypatch.setattr(work.gate, "DROP", 1.0)
    drawn, real = [], growth.given

    def given(split, settings, seed):
        drawn.extend([seed] if settings.share == 0.5 else [])
        return real(split, settings, seed)

    monkeypatch.setattr(growth, "given", given)
    assert update.update(run, update.Asked(more), **HOW)["accepted"]
    told = report(run)
    assert told["training"]["members"][0]["seed"] == 0 != told["run"]["seed"]
    asked = remake.Asked("macs=0.6", max_drop=0.9, steps=1, epochs=1, controls="none")
    remake.prune(run, asked, data="", **{**HOW, "timer": faster})
    assert drawn == [told["run"]["seed"]] * 3  # before it trains the update says how much it sees


@pytest.mark.parametrize("own", [{}, {"rate": 0.05}])
def test_a_network_goes_on_at_a_share_of_its_own_rate(run, more, monkeypatch, own):
    told = report(run)
    (member,) = told["training"]["members"]
    member.pop("rate", None)  # as runs of before have none
    member.update(own)
    (run / "report.json").write_text(json.dumps(told), encoding="utf-8")
    rates, real = [], tuning.train_part

    def noted(bench, network, rows, part, rate, seed, saved):
        rates.append(rate)
        return real(bench, network, rows, part, rate, seed, saved)

    monkeypatch.setattr(tuning, "train_part", noted)
    update.update(run, update.Asked(more), **HOW)
    assert rates == [pytest.approx(tuning.RATE * own.get("rate", 0.01))]


def test_a_fine_tuning_that_diverges_says_so_and_the_run_stays(run, more, monkeypatch):
    before, real = served(run), loop.cross_entropy
    monkeypatch.setattr(loop, "cross_entropy", lambda *given: real(*given) * float("inf"))
    facts = update.update(run, update.Asked(more), **HOW)
    assert not facts["accepted"]
    assert facts["reason"].startswith("the fine-tuning diverged at the rate 0.003")
    assert "optimization.rate below 0.01" in facts["cure"]
    assert not [*(run / "trials").glob("update-*")]
    assert served(run) == before


def test_a_recall_that_cannot_be_promised_any_more_is_refused_before_training(
    run, more, monkeypatch
):
    path = run / "report.json"
    told = json.loads(path.read_text("utf-8"))
    told["run"]["wish"] = {"min_recall": {"red": 0.99}, "costs": {}, "not_sure": 0.0}
    path.write_text(json.dumps(told), "utf-8")
    monkeypatch.setattr(tuning, "tuned", lambda *_, **__: pytest.fail("it was trained"))
    with pytest.raises(DataError, match=r"recall of 0\.99 cannot be promised"):
        update.update(run, update.Asked(more), **HOW)


def test_a_dry_run_tells_no_time_where_no_whole_training_was_timed(run, more):
    asked = update.Asked(more, dry_run=True)
    assert update.update(run, asked, **HOW)["estimated_seconds"] > 0
    path = run / "report.json"
    told = json.loads(path.read_text("utf-8")) | {"update": {"version": 2}}
    path.write_text(json.dumps(told), "utf-8")
    assert update.update(run, asked, **HOW)["estimated_seconds"] is None


def test_a_dry_run_changes_nothing(run, more):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    facts = update.update(run, update.Asked(more, dry_run=True), **HOW)
    assert not facts["accepted"]
    assert sum(facts["new"].values()) == 48
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_classes_that_changed_places_are_refused_before_training(run, trained, tmp_path, capsys):
    swapped = shutil.copytree(trained / "more", tmp_path / "swapped")
    (swapped / "red").rename(swapped / "x")
    (swapped / "blue").rename(swapped / "red")
    (swapped / "x").rename(swapped / "blue")
    before = served(run)
    words = ["update", str(run), str(swapped), "--threads", "1", "--device", "cpu", "--json"]
    assert cli.main(words) == 6
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert facts["agreement"]["permutation"] == {"blue": "red", "red": "blue"}
    assert "--relabel 'blue=red' --relabel 'red=blue'" in err
    assert facts["before"]["pictures"] == 24
    assert not facts["after"]
    assert served(run) == before
    relabel = {"blue": "red", "red": "blue"}
    facts = update.update(run, update.Asked(str(swapped), relabel=relabel), **HOW)
    assert facts["accepted"]
    assert not facts["renamed"]


def test_a_candidate_that_does_harm_is_refused_and_the_run_stays(run, more, monkeypatch, capsys):
    grown = work.tuning.grown

    def broken(network, classes):
        larger = grown(network, classes)
        larger.head.weight.data.neg_()
        larger.head.bias.data.neg_()
        return larger

    monkeypatch.setattr(work.tuning, "grown", broken)
    monkeypatch.setattr(work.tuning, "RATE", 1e-9)
    before = {path: sha256(path) for path in (run / "bundle").iterdir()}
    assert cli.main(["update", str(run), more, "--threads", "1", "--device", "cpu"]) == 6
    assert "the new model is worse: its score is" in capsys.readouterr().err
    assert {path: sha256(path) for path in (run / "bundle").iterdir()} == before
    assert len(json.loads((run / "data.json").read_text("utf-8"))["openings"]) == 2
    assert len(versions.listed(run)) == 1
    log = json.loads((run / "versions" / "log.json").read_text("utf-8"))["events"]
    assert [one["event"] for one in log] == ["kept", "refused"]


def coloured(folder: Path, label: str, colour: tuple[int, int, int], count: int) -> None:
    (folder / label).mkdir(parents=True)
    for number in range(count):
        noise = np.random.default_rng(number).normal(0, 12, (40, 40, 3))
        pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / label / f"{number}.png", compress_level=1)


def test_a_new_class_grows_the_head_once_it_is_confirmed(run, more, tmp_path):
    grown = shutil.copytree(more, tmp_path / "grown")
    coloured(grown, "greeen", (240, 240, 20), 16)
    with pytest.raises(DataError, match=r"`greeen`.*did you mean `green`") as caught:
        update.update(run, update.Asked(str(grown)), **HOW)
    assert "--relabel greeen=green" in caught.value.cure
    facts = update.update(run, update.Asked(str(grown), new_classes=("greeen",)), **HOW)
    assert facts["accepted"]
    assert predict.load(run).classes == ("blue", "green", "red", "greeen")
    assert report(run)["test"]["classes"][3]["pictures"] > 0
    with pytest.raises(UsageError, match="is a class already"):
        update.update(run, update.Asked(str(grown), new_classes=("greeen",)), **HOW)


def test_the_weights_are_those_of_the_way_that_is_told(run, more, tmp_path, monkeypatch):
    ways, held = tuning.path.WAYS, {"old": safetensors.torch.load_file(run / "model.safetensors")}
    monkeypatch.setattr(work.gate, "DROP", 1.0)
    last = len(ways) - 1
    for at in (0, last):
        again = shutil.copytree(run, tmp_path / str(at))
        monkeypatch.setattr(tuning.path, "shortest", lambda *_, at=at: at)
        assert list(update.update(again, update.Asked(more), **HOW)["ways"]) == [ways[at]]
        held[at] = safetensors.torch.load_file(again / "model.safetensors")
    moved = {at: held[at]["head.weight"] - held["old"]["head.weight"] for at in (0, last)}
    assert moved[last].abs().max() > 0
    part = ways[0] / ways[last]
    torch.testing.assert_close(moved[0], part * moved[last], atol=1e-6, rtol=1e-3)


def test_a_new_class_may_be_made_of_pictures_that_are_known(run, trained, tmp_path):
    for path in sorted((trained / "photos" / "train" / "red").iterdir())[:20]:
        (tmp_path / "parted" / "dark red").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "parted" / "dark red" / path.name)
    asked = update.Asked(
        str(tmp_path / "parted"),
        new_classes=("dark red",),
        accept_corrections=True,
        dry_run=True,
    )
    facts = update.update(run, asked, **HOW)
    assert facts["corrections_count"] == 20
    assert facts["new_classes"] == ["dark red"]


def test_what_was_asked_of_a_class_is_asked_under_its_new_name(run, more):
    told = report(run)
    told["run"]["wish"] = {"min_recall": {"red": 0.5}, "costs": {}, "not_sure": 0.0}
    (run / "report.json").write_text(json.dumps(told), encoding="utf-8")
    facts = update.update(run, update.Asked(more, relabel={"red": "crimson"}), **HOW)
    assert facts["accepted"]
    assert report(run)["run"]["wish"]["min_recall"] == {"crimson": 0.5}


def test_a_class_is_renamed_with_its_pictures(run, more):
    facts = update.update(run, update.Asked(more, relabel={"red": "crimson"}), **HOW)
    assert facts["renamed"] == {"red": "crimson"}
    assert predict.load(run).classes == ("blue", "green", "crimson")
    assert facts["negative_flips"] == 0
    opened = runs.reopened(run, data="", threads=1, progress=silent)
    assert {photo.label for photo in opened.split.dataset.photos} == {"blue", "green", "crimson"}


def test_a_correction_is_listed_and_applied_on_demand(run, trained, tmp_path):
    known = next((trained / "photos" / "train" / "red").iterdir())
    (tmp_path / "fixed" / "blue").mkdir(parents=True)
    shutil.copy(known, tmp_path / "fixed" / "blue" / "a.png")
    asked = update.Asked(str(tmp_path / "fixed"))
    with pytest.raises(DataError, match="was `red` and is `blue`") as caught:
        update.update(run, asked, **HOW)
    assert "--accept-corrections" in caught.value.cure
    asked = update.Asked(str(tmp_path / "fixed"), accept_corrections=True)
    facts = update.update(run, asked, **HOW)
    assert facts["corrections_applied"]
    assert facts["corrections"][0]["role"] == "train"
    opened = runs.reopened(run, data="", threads=1, progress=silent)
    labels = [
        photo.label for photo in opened.split.dataset.photos if photo.path.endswith(known.name)
    ]
    assert sorted(labels).count("blue") == 2


def test_rollback_restores_an_earlier_version_and_remembers_openings(run, more, capsys):
    first = served(run)
    update.update(run, update.Asked(more), **HOW)
    second = served(run)
    assert second != first
    assert cli.main(["rollback", str(run), "1", "--json"]) == 0
    assert served(run) == first
    assert len(json.loads((run / "data.json").read_text("utf-8"))["openings"]) == 2
    assert cli.main(["versions", str(run)]) == 0
    assert "* 1" in capsys.readouterr().out
    versions.rollback(run, 2)
    assert served(run) == second
    with pytest.raises(UsageError, match="no version 7"):
        versions.rollback(run, 7)


def test_a_damaged_version_is_not_rolled_back_to(run, more):
    update.update(run, update.Asked(more), **HOW)
    second = served(run)
    path = run / "versions" / "1" / "bundle" / "model.onnx"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ModelError, match="damaged"):
        versions.rollback(run, 1)
    assert served(run) == second


def killed_at(number: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Raise at the given one of all writes, renames and removals that change the run."""
    seen = 0

    def counted(act):
        def wrapped(self, *rest, **names):
            nonlocal seen
            seen += 1
            if seen == number:
                raise Kill
            return act(self, *rest, **names)

        return wrapped

    for name in ("replace", "rename", "unlink", "write_text", "write_bytes", "mkdir"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))
    return lambda: seen


def taught_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train and export once, and give that to all updates; each writes a checkpoint."""
    held = {}
    train, export = tuning.tuned, work.release.exported

    def tuned(*given, **named):
        if "tuned" not in held:
            held["tuned"] = train(*given, **named)
        named["folder"].mkdir(parents=True, exist_ok=True)
        (named["folder"] / "0.checkpoint").write_bytes(b"a checkpoint")
        return held["tuned"]

    def exported(*given, **named):
        if "exported" not in held:
            held["exported"] = export(*given, **named)
        return held["exported"]

    monkeypatch.setattr(tuning, "tuned", tuned)
    monkeypatch.setattr(work.release, "exported", exported)


def test_a_kill_at_any_write_leaves_a_whole_model_and_the_rerun_finishes(
    run, more, tmp_path, monkeypatch
):
    taught_once(monkeypatch)  # training goes on by itself, see test_loop
    update.update(shutil.copytree(run, tmp_path / "taught"), update.Asked(more), **HOW)
    with monkeypatch.context() as patch:
        whole = shutil.copytree(run, tmp_path / "whole")
        count = killed_at(0, patch)
        update.update(whole, update.Asked(more), **HOW)
        total = count()
    first, last = served(run), served(whole)
    moments = np.unique(np.linspace(1, total, 12).astype(int)).tolist()
    for moment in moments:
        again = shutil.copytree(run, tmp_path / f"killed-{moment}")
        with monkeypatch.context() as patch:
            killed_at(moment, patch)
            with pytest.raises(Kill):
                update.update(again, update.Asked(more), **HOW)
        (again / "update.lock").unlink(missing_ok=True)  # of this process, which lives on
        assert served(again) in (first, last)
        if versions.current(again) == 2 and not (again / "ended.json").exists():
            continue  # killed at its very end
        facts = update.update(again, update.Asked(more), **HOW)
        assert facts["accepted"]
        assert facts["version"] == 2
        events = json.loads((again / "versions" / "log.json").read_text("utf-8"))["events"]
        assert [one["event"] for one in events] == ["kept", "accepted"]
        assert not (again / "ended.json").exists()
        assert not any((again / "trials").iterdir())
        assert served(again) == sha256(again / "bundle" / "model.onnx") != first
        assert [one.number for one in versions.listed(again)] == [1, 2]
        assert sha256(again / "model.safetensors") == sha256(whole / "model.safetensors")


def test_what_a_server_collected_is_new_data(run, trained, tmp_path):
    folder = tmp_path / "collected"
    shutil.copytree(trained / "more" / "red", folder / "labelled" / "red")
    shutil.copytree(trained / "more" / "blue", folder / "labelled" / "blue")
    (folder / "labelled" / "green").mkdir()
    (folder / "unlabelled").mkdir()
    (folder / "answers.csv").write_text("time,id,label,probability,by\r\n", encoding="utf-8")
    for path in folder.rglob("*.png"):
        Image.open(path).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    facts = update.update(run, update.Asked(str(folder)), **HOW)
    assert sum(facts["new"].values()) == 32
    shutil.rmtree(folder / "labelled")
    (folder / "labelled").mkdir()
    with pytest.raises(DataError, match="holds no labelled picture"):
        update.update(run, update.Asked(str(folder)), **HOW)


def test_a_table_of_labels_is_new_data_and_moved_pictures_are_found(run, trained, tmp_path):
    moved = shutil.copytree(trained / "photos", tmp_path / "moved")
    table = tmp_path / "labels.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label"))
        for path in sorted((trained / "more").rglob("*.png")):
            writer.writerow((str(path), path.parent.name))
    facts = update.update(run, update.Asked(str(table), moved=str(moved)), **HOW)
    assert facts["accepted"]
    opened = runs.reopened(run, data="", threads=1, progress=silent)
    assert len(opened.split.dataset) == 168
    assert report(run)["data"]["source"] == str(moved.resolve())


def test_one_update_at_a_time(run, more):
    with versions.locked(run), pytest.raises(ResourceError, match="is being changed by process"):
        update.update(run, update.Asked(more), **HOW)


def test_what_cannot_be_updated_is_refused(run, more, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        update.update(run, update.Asked(str(tmp_path / "empty")), **HOW)
    with pytest.raises(UsageError, match="no finished run"):
        update.update(tmp_path / "empty", update.Asked(more), **HOW)
    with pytest.raises(UsageError, match="neither the run nor the new data"):
        update.update(run, update.Asked(more, relabel={"pink": "red"}), **HOW)
    text = (run / "recipe.toml").read_text("utf-8")
    (run / "recipe.toml").write_text(text.replace("resnet20", "resnet32"), encoding="utf-8")
    with pytest.raises(ModelError, match="names resnet32 at 32 pixels"):
        update.update(run, update.Asked(more), **HOW)
    (run / "recipe.toml").write_text(text, encoding="utf-8")
    facts = report(run) | {"schema": "sevenfold.report/9"}
    (run / "report.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(ModelError, match="report/9"):
        update.update(run, update.Asked(more), **HOW)


def _weights(run: Path) -> list[dict[str, torch.Tensor]]:
    arch = json.loads((run / "arch.json").read_text("utf-8"))
    return [safetensors.torch.load_file(run / one["file"]) for one in arch["members"]]


def test_an_update_of_a_vote_moves_each_member_on_the_trunk_that_they_share(
    tmp_path, stores, more, monkeypatch
):
    monkeypatch.setattr(work.gate, "DROP", 1.0)
    vote = ("transfer.trainable_blocks=3", "views=2", "ensembling.members=2")
    finished.train(tmp_path, stores, (*SETTINGS, *vote, "ensembling.select=false"))
    run = tmp_path / "run"
    assert report(run)["ensembling"]["ships"] == "vote"
    before = _weights(run)
    facts = update.update(run, update.Asked(more), **HOW)
    assert facts["accepted"]
    assert len(facts["ways"]) == 2
    after = _weights(swap.serving(run).parent)
    trunk = [
        name for name in before[0] if name.startswith(tuple(f"blocks.{at}." for at in range(7)))
    ]
    assert trunk
    for old, new in zip(before, after, strict=True):
        assert all(torch.equal(old[name], new[name]) for name in trunk)
        assert not torch.equal(old["head.weight"], new["head.weight"])
    assert not torch.equal(after[0]["head.weight"], after[1]["head.weight"])
    predict.load(run)


def test_an_update_of_few_pictures_keeps_what_its_folds_said_of_the_old(
    tmp_path, stores, monkeypatch
):
    monkeypatch.setattr(work.gate, "DROP", 1.0)
    photos.write(tmp_path / "photos", dict.fromkeys(photos.COLOURS, 16))
    photos.write(tmp_path / "more", dict.fromkeys(photos.COLOURS, 6), start=400)
    request = replace(REQUEST, overrides=SETTINGS)
    run = tmp_path / "run"
    job.train(str(tmp_path / "photos"), run, request=request, progress=silent)
    first = read_predictions(run / "predictions.csv")
    judged = {
        content: first.probabilities[at]
        for at, content in enumerate(first.hashes)
        if first.roles[at] == "train"
    }
    facts = update.update(run, update.Asked(str(tmp_path / "more")), **HOW)
    assert facts["accepted"]
    second = read_predictions(swap.served(run, "predictions.csv"))
    now = dict(zip(second.hashes, second.probabilities, strict=True))
    assert set(judged) < set(now)
    # At another temperature the same logits: their differences keep one ratio, but for shares
    # so small that they are written down as rounded.
    kept = [one for one in judged if min(judged[one].min(), now[one].min()) > 1e-9]
    assert len(kept) > len(judged) / 2
    before, after = (
        np.array([np.subtract(*np.log(shares[one][[0, 1]])) for one in kept])
        for shares in (judged, now)
    )
    np.testing.assert_allclose(after, np.median(after / before) * before, rtol=1e-3, atol=1e-4)
    new = [at for at, content in enumerate(second.hashes) if content not in judged]
    assert len(new) > 0
    assert facts["warnings"].count(work._BLIND) == 1
    assert report(run)["unknown"] == {}
