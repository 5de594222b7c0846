"""Race on made-up pictures with a tiny network: honest roles, resumable, and the same again."""

import base64
import hashlib
import importlib
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fake_ray import FakeRay
from photos import write
from sevenfold import cli, data, evaluate, train, trial
from sevenfold.engines import cluster
from sevenfold.engines.local import named
from sevenfold.errors import DataError, ResourceError, UsageError
from sevenfold.place import Place
from sevenfold.practices import optimization
from sevenfold.practices.growth import Growth
from sevenfold.practices.imbalance import Imbalance
from sevenfold.practices.optimization import Optimization
from sevenfold.progress import silent
from sevenfold.recipe import Recipe, apply
from sevenfold.studies import race as races
from sevenfold.studies.race import (
    Asked,
    contrasts,
    course,
    field,
    judging,
    page,
    search,
    standings,
    trials,
)
from sevenfold.studies.race.carving import carved
from sevenfold.studies.where import Where

SETTINGS = (
    "transfer.backbone=resnet20",
    "transfer.weights=random",
    "transfer.trainable_blocks=1000",
    "side=32",
    "epochs=1",
    "batch=8",
)
ASKED = Asked(only=("sgd", "switch"), trials=2, seeds=2)
TIMES = {"seconds", "race", "data"}
HERE = Where(threads=1, workers=1, device="cpu")


class Kill(BaseException):
    """Stand for a kill: nothing may catch it."""


@pytest.fixture(scope="module", autouse=True)
def _source():
    """Hold the source still: it may be edited while the tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "source_hash", lambda: "source")
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("photos"), {"blue": 24, "green": 12, "red": 12})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


def race(
    photos: Path,
    out: Path,
    asked: Asked = ASKED,
    settings: tuple[str, ...] = SETTINGS,
    progress: Callable[[str, int, int], None] = silent,
    where: Where = HERE,
) -> dict[str, Any]:
    return races.race(
        str(photos),
        out,
        recipe=apply(Recipe(), settings),
        asked=asked,
        where=where,
        columns={},
        group_by="",
        small_classes="refuse",
        progress=progress,
    )


@pytest.fixture(scope="module")
def finished(
    photos: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEVENFOLD_CACHE", str(shared))
        out = tmp_path_factory.mktemp("race") / "new"
        return out, race(photos, out)


@pytest.fixture
def _stores(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVENFOLD_CACHE", str(shared))


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(part) for key, part in value.items() if key not in TIMES}
    return [timeless(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("small", [True, False])
def test_no_picture_has_two_roles_and_test_has_none(tmp_path, small, monkeypatch):
    if not small:
        monkeypatch.setattr(importlib.import_module("sevenfold.data.split"), "SMALL_DATA", 20)
    folder = write(tmp_path, {"blue": 50, "green": 30, "red": 20})
    whole = data.split(data.read(str(folder)))
    assert (len(whole.val) == 0) == small
    split = carved(whole)
    roles = (split.train, split.val, split.test)
    assert sum(map(len, roles)) == len(set(np.concatenate(roles).tolist()))
    assert set(np.concatenate(roles).tolist()) == {*whole.train.tolist(), *whole.val.tolist()}
    assert not set(whole.test.tolist()) & set(np.concatenate(roles).tolist())
    base = len(split.train) + len(split.val)
    assert len(split.val) / base == pytest.approx(1 / 7, abs=0.03)
    if small:
        assert len(split.test) / len(whole.train) == pytest.approx(1 / 5, abs=0.03)
    else:
        assert split.test.tolist() == whole.val.tolist()
    for part in roles:
        assert set(whole.dataset.labels[part].tolist()) == {0, 1, 2}


def test_the_carving_follows_the_pictures_not_their_order(photos):
    split = carved(data.split(data.read(str(photos))))
    dataset = split.dataset
    turned = np.arange(len(dataset))[::-1]
    mirrored = replace(
        dataset,
        photos=tuple(dataset.photos[at] for at in turned),
        hashes=tuple(dataset.hashes[at] for at in turned),
        labels=dataset.labels[turned],
        groups=tuple(dataset.groups[at] for at in turned),
    )
    again = carved(data.split(mirrored))
    for role in ("train", "val", "test"):
        first = {dataset.hashes[at] for at in getattr(split, role)}
        assert first == {mirrored.hashes[at] for at in getattr(again, role)}


def test_groups_stay_whole_and_no_class_loses_its_last_picture(photos):
    dataset = data.read(str(photos))
    groups = tuple(f"g{at // 3}" if at < 45 else "rare" for at in range(len(dataset)))
    labels = dataset.labels.copy()
    labels[45:] = 2
    labels[:45] %= 2
    whole = data.split(replace(dataset, groups=groups, labels=labels))
    split = carved(replace(whole, train=np.arange(len(dataset)), test=whole.test[:0]))
    owners = [{groups[at] for at in part} for part in (split.train, split.val, split.test)]
    assert not owners[0] & owners[1]
    assert not owners[0] & owners[2]
    assert not owners[1] & owners[2]
    assert "rare" in owners[0]


def test_a_training_is_named_by_all_that_it_depends_on(photos, monkeypatch):
    split, place = data.split(data.read(str(photos))), Place("cpu", 1)
    renamed = replace(split.dataset, classes=split.dataset.classes[::-1])
    keys = [
        trial.key(Recipe(), split, 0, place),
        trial.key(Recipe(side=96), split, 0, place),
        trial.key(Recipe(), carved(split), 0, place),
        trial.key(Recipe(), split, 1, place),
        trial.key(Recipe(), split, 0, Place("cpu", 2)),
        # By their names classes are augmented apart.
        trial.key(Recipe(), replace(split, dataset=renamed), 0, place),
    ]
    assert keys[0] == trial.key(Recipe(), split, 0, place)
    monkeypatch.setattr(trial, "source_hash", lambda: "changed")
    keys.append(trial.key(Recipe(), split, 0, place))
    assert len(set(keys)) == len(keys)


def test_a_training_is_named_by_the_content_of_its_weights(photos, tmp_path, monkeypatch):
    split, place = data.split(data.read(str(photos))), Place("cpu", 1)
    path = tmp_path / "mine.safetensors"
    monkeypatch.setattr(trial.transfer, "hub_file", lambda _: path)
    members = ("ensembling.members=2", 'ensembling.backbones=["resnet18"]')
    for settings in ((f"transfer.weights={path}",), members):
        recipe, keys = apply(Recipe(), settings), set()
        for content in (b"first", b"other"):
            path.write_bytes(content)
            os.utime(path, ns=(len(keys), len(keys)))
            keys.add(trial.key(recipe, split, 0, place))
        assert len(keys) == 2


def test_a_gpu_convolves_repeatably_in_full_precision_and_is_named(photos, monkeypatch):
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "deterministic", False)
    monkeypatch.setattr(cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    split = data.split(data.read(str(photos)))
    place = trial.place("cuda", torch.get_num_threads())
    assert (cudnn.deterministic, cudnn.allow_tf32) == (True, False)
    keys = set()
    for name in ("one GPU", "another"):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda name=name: name)
        keys.add(trial.key(Recipe(), split, 0, place))
    assert len(keys) == 2
    # On a cluster the GPU is not where the names are made.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: 1 / 0)
    assert trial.key(Recipe(), split, 0, place) not in keys


def test_a_trial_is_never_taken_for_a_final(photos):
    split = data.split(data.read(str(photos)))
    held = SimpleNamespace(
        ground=SimpleNamespace(split=split),
        site=SimpleNamespace(trained=lambda _: Place("cpu", 1)),
        called={},
    )
    trial_, final = (course.Entry("adam", 1, 1, 3, Recipe(), last) for last in (False, True))
    assert course._key(held, trial_) != course._key(held, final)


@pytest.mark.parametrize("name", optimization.NAMES)
@pytest.mark.parametrize("pretrained", [True, False])
def test_every_optimizer_searches_one_decade_around_what_is_usual(name, pretrained):
    bounds = search.space(name, pretrained)
    probed = optimization.rates(Optimization(name=name), pretrained)
    usual = optimization.decay(Optimization(name=name)) or search.LIGHT_DECAY
    assert bounds.rate[1] / bounds.rate[0] == pytest.approx(10)
    assert bounds.weight_decay[1] / bounds.weight_decay[0] == pytest.approx(10)
    for count in (1, 3, search.FEW + 2):
        found = search.points(bounds, count, seed=5)
        assert len({point.rate for point in found}) == len(found) == count
        assert any(point.rate == pytest.approx(probed[1]) for point in found)
        assert any(point.weight_decay == pytest.approx(usual) for point in found)
        for point in found:
            assert bounds.rate[0] <= point.rate <= bounds.rate[1]
            assert bounds.weight_decay[0] <= point.weight_decay <= bounds.weight_decay[1]


def strata(name: str, count: int, seed: int) -> list[tuple[float, float]]:
    """Return the points of a race as shares of the decades, times the trials."""
    bounds = search.space(name, True)
    return [
        (
            count * math.log10(point.rate / bounds.rate[0]),
            count * math.log10(point.weight_decay / bounds.weight_decay[0]),
        )
        for point in search.points(bounds, count, seed)
    ]


@pytest.mark.parametrize("count", range(1, search.FEW + 1))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_few_trials_see_each_part_of_both_decades_once(count, seed):
    found = np.array(strata("sgd", count, seed))
    middles = np.arange(count) + 0.5
    np.testing.assert_allclose(found[:, 0], middles)
    np.testing.assert_allclose(np.sort(found[:, 1]), middles)
    np.testing.assert_allclose(strata("adadelta", count, seed), found)
    if count > 2:
        assert abs(np.corrcoef(found.T)[0, 1]) < (0.51 if count == 3 else 0.4)


def test_the_seed_pairs_rates_with_decays():
    ways = {str(np.round(strata("sgd", 3, seed), 6).tolist()) for seed in range(20)}
    assert 1 < len(ways) <= 4


def test_many_trials_follow_one_sequence_in_all_spaces():
    many = search.FEW + 2
    shares = [np.array(strata(name, many, 1)) / many for name in ("sgd", "adadelta")]
    np.testing.assert_allclose(*shares)
    longer = np.array(strata("sgd", many + 3, 1)) / (many + 3)
    np.testing.assert_allclose(longer[:many], shares[0])
    bounds = search.space("sgd", True)
    assert search.points(bounds, many, 1)[1:] != search.points(bounds, many, 2)[1:]


def test_a_best_rate_at_the_edge_of_the_search_is_told(finished):
    assert standings.outermost(0.1, [0.1, 0.2, 0.4]) == "lowest"
    assert standings.outermost(0.4, [0.4, 0.2, 0.1]) == "highest"
    assert standings.outermost(0.2, [0.1, 0.2, 0.4]) == standings.outermost(0.2, [0.2]) == ""
    out, facts = finished
    # Of two trials either is the outermost.
    assert {one["outermost"] for one in facts["optimizers"].values()} <= {"lowest", "highest"}
    text = (out / "race.html").read_text("utf-8")
    assert "The best rate is the outermost one tried of " in text
    inside = {name: one | {"outermost": ""} for name, one in facts["optimizers"].items()}
    assert "outermost" not in page.render(facts | {"optimizers": inside})


def test_the_best_come_first(finished):
    _, facts = finished
    means = [facts["optimizers"][name]["accuracy"]["mean"] for name in facts["order"]]
    assert means == sorted(means, reverse=True)
    assert len(facts["order"]) == len(facts["optimizers"])


def test_the_result_holds_what_it_promises(finished):
    out, facts = finished
    assert facts["schema"] == "sevenfold.race/1"
    assert set(facts["optimizers"]) == {"sgd", "switch"}
    assert facts["reference"] == "sgd"
    assert facts["pictures"]["judged_are"] == "fold"
    for name, one in facts["optimizers"].items():
        for metric in ("accuracy", "balanced_accuracy", "macro_f1", "nll"):
            assert one[metric]["low"] <= one[metric]["mean"] <= one[metric]["high"]
            finals = [final[metric] for final in one["finals"]]
            assert one[metric]["mean"] == pytest.approx(np.mean(finals))
        assert one["trials"] == len(one["search"]) == 2
        assert [final["seed"] for final in one["finals"]] == [1, 2]
        assert one["seconds"] > 0
        best = max(one["search"], key=lambda tried: (tried[facts["objective"]], -tried["nll"]))
        assert one["settings"] == {key: best[key] for key in ("rate", "weight_decay")}
        assert (one["difference"] == {}) == (name == "sgd")
        assert len({len(values) for values in one["curve"].values()}) == 1
        assert all((final["decision"] is not None) == (name == "switch") for final in one["finals"])
    gap = facts["optimizers"]["switch"]["difference"]["nll"]["mean"]
    means = {name: one["nll"]["mean"] for name, one in facts["optimizers"].items()}
    assert gap == pytest.approx(means["switch"] - means["sgd"])
    (pair,) = facts["pairs"]
    change = facts["optimizers"]["switch"]["difference"][facts["objective"]]
    assert pair["mean"] == pytest.approx(abs(change["mean"]))
    assert pair["low"] <= pair["mean"] <= pair["high"]
    assert facts["smallest_difference"] == pair["least"] > 0
    points = f"{100 * pair['least']:.1f} points or more of {facts['objective'].replace('_', ' ')}"
    assert facts["limits"] == f"2 seeds can tell apart only differences of {points}"
    text = (out / "race.html").read_text("utf-8")
    assert facts["limits"] in text
    for axis in ("steps", "seconds of training"):
        assert f"on the tuning pictures by {axis}: mean and range of the seeds" in text
    assert json.loads((out / "race.json").read_text("utf-8")) == json.loads(json.dumps(facts))
    assert sorted(path.name for path in out.iterdir()) == ["race.html", "race.json", "trials"]
    assert len(list((out / "trials").glob("*.json"))) == 8
    assert not [path for path in (out / "trials").iterdir() if path.is_dir()]


@pytest.mark.usefixtures("_stores")
def test_a_finished_race_answers_again_without_training(finished, photos, monkeypatch):
    out, facts = finished
    monkeypatch.setattr(train, "fit", lambda *_, **__: pytest.fail("trained again"))
    again = race(photos, out)
    assert {**again, "data": ""} == {**facts, "data": ""}


@pytest.mark.usefixtures("_stores")
def test_a_killed_race_goes_on_and_ends_as_one_never_killed(finished, photos, tmp_path):
    ended: list[str] = []

    def killing(stage: str, done: int, _total: int) -> None:
        if stage.endswith(": train") and stage not in ended:
            ended.append(stage)
        if len(ended) == 4 and done == 1:
            raise Kill

    with pytest.raises(Kill):
        race(photos, tmp_path / "killed", progress=killing)
    known = {path.name for path in (tmp_path / "killed" / "trials").glob("*.json")}
    assert len(known) == 3
    told: list[str] = []
    facts = race(
        photos, tmp_path / "killed", progress=lambda stage, _done, _total: told.append(stage)
    )
    assert timeless(facts) == timeless(finished[1])
    trained = {stage for stage in told if stage.endswith(": train")}
    assert len(trained) == 5
    assert all(re.search(r"\(\d of 8, .+ left\)", stage) for stage in trained)


@pytest.mark.usefixtures("_stores")
def test_trainings_side_by_side_come_to_the_same(finished, photos, tmp_path):
    told: list[tuple[str, int, int]] = []
    facts = race(
        photos,
        tmp_path / "two",
        progress=lambda *one: told.append(one),
        where=replace(HERE, workers=2),
    )
    assert timeless(facts) == timeless(finished[1])
    names = [
        {path.name for path in (out / "trials").iterdir()}
        for out in (finished[0], tmp_path / "two")
    ]
    assert names[0] == names[1]
    done = [at for stage, at, total in told if (stage, total) == ("trainings, 2 at a time", 8)]
    assert done == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.usefixtures("_stores")
def test_a_race_on_ray_comes_to_the_same(finished, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_ray", FakeRay)
    monkeypatch.setattr(cluster.OnRay, "everywhere", lambda _, call, name: [named(name)(call)])
    told: list[tuple[str, int, int]] = []
    facts = race(
        photos,
        tmp_path / "ray",
        progress=lambda *one: told.append(one),
        where=Where("ray", threads=1, workers=1),
    )
    assert timeless(facts) == timeless(finished[1])
    done = [at for stage, at, total in told if (stage, total) == ("trainings, 1 at a time", 8)]
    assert done == [1, 2, 3, 4, 5, 6, 7, 8]
    with pytest.raises(ResourceError, match="--address nowhere: no Ray cluster answers"):
        race(photos, tmp_path / "none", where=Where("ray", "nowhere", threads=1))


@pytest.mark.usefixtures("_stores")
def test_fit_gets_neither_test_nor_what_is_judged(photos, tmp_path, monkeypatch):
    whole = data.split(data.read(str(photos)))
    split = carved(whole)
    seen = []

    def spying(recipe, given, **_):
        seen.append(given)
        raise Kill

    monkeypatch.setattr(train, "fit", spying)
    with pytest.raises(Kill):
        race(photos, tmp_path / "spied")
    closed = {*whole.test.tolist(), *split.test.tolist()}
    assert len(seen[0].test) == 0
    assert not closed & {*seen[0].train.tolist(), *seen[0].val.tolist()}


@pytest.mark.usefixtures("_stores")
def test_a_damaged_result_is_trained_again(finished, photos, tmp_path, monkeypatch):
    trials = tmp_path / "damaged" / "trials"
    trials.mkdir(parents=True)
    for path in (finished[0] / "trials").glob("*.json"):
        (trials / path.name).write_bytes(path.read_bytes())
    min(trials.glob("*.json")).write_text('{"torn', encoding="utf-8")
    facts = race(photos, tmp_path / "damaged")
    assert timeless(facts) == timeless(finished[1])


@pytest.mark.usefixtures("_stores")
def test_methods_race_without_a_search(photos, tmp_path):
    asked = Asked("imbalance", ("none", "oversampling"), trials=0, seeds=2)
    facts = race(photos, tmp_path / "out", asked, (*SETTINGS, "optimization.rate=0.01"))
    assert "optimizers" not in facts
    assert set(facts["methods"]) == {"none", "oversampling"}
    assert facts["reference"] == "none"
    for name, one in facts["methods"].items():
        assert one["trials"] == 0
        assert 0 <= one["rare_recall"]["mean"] <= 1
        assert 0 <= one["macro_f1"]["low"] <= one["macro_f1"]["mean"]
        recalls = [row["recalls"][name] for row in facts["classes"]]
        means = [row["mean"] for row in recalls]
        assert np.mean(means) == pytest.approx(one["balanced_accuracy"]["mean"])
        assert all(row["low"] <= row["mean"] <= row["high"] for row in recalls)
        assert all(row["high"] - row["low"] > 0.2 for row in recalls)
    assert [row["label"] for row in facts["classes"]] == ["blue", "green", "red"]
    assert sum(row["judged_on"] for row in facts["classes"]) == facts["pictures"]["judged_on"]
    assert all(row["too_few"] for row in facts["classes"])
    finals = {name: one["finals"][0] for name, one in facts["methods"].items()}
    assert finals["oversampling"]["steps"] > finals["none"]["steps"]
    text = (tmp_path / "out" / "race.html").read_text("utf-8")
    assert "Recall of the rare half" in text
    assert "Macro F1" in text
    assert text.count("too few to judge</small>") == 3
    assert "Learning curves" not in text


def test_what_diverged_is_told_and_scores_as_a_network_that_knows_nothing():
    logits, diverged = trials._sound(np.array([[1.0, np.nan], [0.0, 2.0]]))
    assert diverged
    assert logits.tolist() == [[0, 0], [0, 0]]
    sound, diverged = trials._sound(np.array([[1.0, 3.0]]))
    assert not diverged
    assert sound.tolist() == [[1, 3]]


@pytest.mark.usefixtures("_stores")
def test_a_contestant_that_diverges_ends_the_race_for_none(photos, tmp_path):
    wild = ("epochs=3", "optimization.rate=10", "optimization.weight_decay=10")
    asked = Asked("imbalance", ("none", "auto"), trials=0, seeds=2)
    facts = race(photos, tmp_path / "out", asked, (*SETTINGS, *wild, "optimization.average=0"))
    for one in facts["methods"].values():
        assert [final["diverged"] for final in one["finals"]] == [True, True]
        assert one["nll"]["mean"] == pytest.approx(math.log(3))
    assert facts["cannot_tell_apart"] == [facts["order"]]
    assert "diverged in 2" in (tmp_path / "out" / "race.html").read_text("utf-8")


def test_an_interval_is_students():
    from scipy import stats

    values = [0.81, 0.84, 0.8]
    found = contrasts.interval(values)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (found["low"], found["high"]) == (pytest.approx(low), pytest.approx(high))
    assert contrasts.interval([0.9, 1.0], highest=1.0)["high"] == 1.0


def test_two_contestants_are_compared_by_the_paired_t_test():
    from scipy import stats

    values = {"sgd": [0.81, 0.84, 0.8], "adam": [0.79, 0.86, 0.85]}
    (found,) = contrasts.against("sgd", values).values()
    apart = np.subtract(values["adam"], values["sgd"])
    low, high = stats.t.interval(0.95, 2, loc=apart.mean(), scale=stats.sem(apart))
    assert found.interval == {
        "mean": pytest.approx(apart.mean()),
        "low": pytest.approx(low),
        "high": pytest.approx(high),
    }
    p = stats.ttest_rel(values["adam"], values["sgd"]).pvalue
    assert found.half(p) == pytest.approx(abs(apart.mean()))


def test_contestants_lend_each_other_their_spread():
    """Two-way analysis of variance by hand: contestants by seeds, no repeats."""
    table = np.array([[0.80, 0.82, 0.81], [0.83, 0.84, 0.82], [0.70, 0.75, 0.71], [0.8, 0.8, 0.8]])
    values = dict(zip("abcd", table.tolist(), strict=True))
    rest = ((table - table.mean()) ** 2).sum()
    rest -= 3 * ((table.mean(axis=1) - table.mean()) ** 2).sum()
    rest -= 4 * ((table.mean(axis=0) - table.mean()) ** 2).sum()
    found = contrasts.against("a", values)
    assert set(found) == {"b", "c", "d"}
    calm = found["b"]
    assert calm.freedom == 6
    assert calm.seeds == pytest.approx(math.sqrt(2 * rest / 6 / 3))
    own = np.subtract(values["c"], values["a"])
    assert own.var(ddof=1) > 2 * rest / 6
    assert found["c"].seeds == pytest.approx(own.std(ddof=1) / math.sqrt(3))
    alone = contrasts.against("a", {name: values[name] for name in "ac"})["c"]
    assert found["c"].half(0.05) < alone.half(0.05)


def test_equal_counts_of_few_pictures_are_no_certainty():
    values = {"sgd": [0.9, 0.9], "adam": [0.8, 0.8]}
    (found,) = contrasts.against("sgd", values, grain=1 / 20).values()
    assert found.interval["low"] < 0 < found.interval["high"]
    assert abs(found.value) < contrasts.least({"adam": found})["adam"]
    (found,) = contrasts.against("sgd", values, grain=1 / 1000).values()
    assert abs(found.value) > contrasts.least({"adam": found})["adam"]


def test_the_choice_of_pictures_widens_a_difference():
    values = {"sgd": [0.9, 0.91, 0.9], "adam": [0.8, 0.81, 0.8]}
    (seeds,) = contrasts.against("sgd", values, grain=0.001).values()
    both = {"pictures": {"adam": 0.03}, "groups": 400}
    (wide,) = contrasts.against("sgd", values, grain=0.001, **both).values()
    assert wide.half(0.05) == pytest.approx(math.hypot(seeds.half(0.05), 1.972 * 0.03), rel=1e-3)
    (few,) = contrasts.against("sgd", values, grain=0.001, **(both | {"groups": 5})).values()
    assert few.half(0.05) > wide.half(0.05)


def test_what_could_be_told_apart_is_holms():
    from scipy import stats

    from sevenfold.paired import holm

    random = np.random.default_rng(3)
    for _ in range(50):
        found = {name: contrasts.Contrast(random.normal(0, 3), 1.0, 4, 0.0, 1) for name in "abcde"}
        p = [2 * stats.t.sf(abs(one.value), 4) for one in found.values()]
        widths = contrasts.least(found)
        told = [abs(one.value) > widths[name] for name, one in found.items()]
        assert told == [adjusted <= 0.05 for adjusted in holm(p)]
    assert contrasts.least({"a": replace(found["a"], value=0.0)})["a"] == pytest.approx(2.776, 1e-3)


def test_all_are_compared_with_one_reference():
    assert field.reference_of("optimization", ("sgd", "adam", "adamw"), Recipe()) == "adamw"
    own = Recipe(optimization=Optimization(name="adam"))
    assert field.reference_of("optimization", ("sgd", "adam", "adamw"), own) == "adam"
    assert field.reference_of("optimization", ("sgd", "switch"), own) == "sgd"
    assert field.reference_of("imbalance", ("auto", "none"), own) == "none"
    assert field.reference_of("imbalance", ("auto", "oversampling"), own) == "auto"
    found = {
        name: contrasts.Contrast(value, 0.01, 10, 0.0, 1)
        for name, value in (("adam", 0.1), ("sgd", -0.1), ("switch", 0.001))
    }
    told = standings._pairs("adamw", found)
    assert [(one["ahead"], one["behind"]) for one in told if one["told_apart"]] == [
        ("adam", "adamw"),
        ("adamw", "sgd"),
    ]
    assert all(one["mean"] > 0 and one["low"] < one["mean"] < one["high"] for one in told)
    assert standings._told(told, 3, "accuracy")["smallest_difference"] == told[-1]["least"]


def test_right_answers_are_kept_as_bits():
    right = np.random.default_rng(0).random((3, 21)) < 0.6
    texts = [judging.packed(row) for row in right]
    assert [len(text) for text in texts] == [6] * 3
    np.testing.assert_array_equal(judging.unpacked(texts, 21), right)


@pytest.fixture(scope="module")
def parts(photos):
    return carved(data.split(data.read(str(photos))))


def test_measures_are_weighted_sums_of_right_answers(parts):
    labels = parts.dataset.labels[parts.test]
    right = np.random.default_rng(1).random(len(labels)) < 0.7
    weighing = judging.weights(parts)
    recalls = [right[labels == label].mean() for label in range(3)]
    assert right @ weighing["accuracy"] == pytest.approx(right.mean())
    assert right @ weighing["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    (common,), (rare,) = judging.halves(parts)
    assert common == 0
    assert right @ weighing["common_recall"] == pytest.approx(recalls[common])
    assert right @ weighing["rare_recall"] == pytest.approx(recalls[rare])
    found = judging.grains(weighing)
    assert found["accuracy"] == pytest.approx(1 / len(labels))
    assert found["balanced_accuracy"] == pytest.approx(1 / (3 * np.bincount(labels).min()))
    assert found["nll"] == 0


def test_pictures_of_a_group_change_as_one():
    changes = np.array([1.0, 1.0, -1.0, 0.0])
    weighing = {"accuracy": np.full(4, 0.25)}
    apart = judging.errors(changes, weighing, np.arange(4))["accuracy"]
    assert apart == pytest.approx(math.sqrt(3) / 4)
    together = judging.errors(changes, weighing, np.array([0, 0, 1, 1]))["accuracy"]
    assert together == pytest.approx(math.sqrt(4 + 1) / 4)


def test_a_recall_is_as_unsure_as_its_pictures():
    few = judging.recall(np.ones((3, 10)))
    assert (few["mean"], few["low"], few["high"]) == (1.0, pytest.approx(0.722, abs=1e-3), 1.0)
    assert judging.recall(np.ones((9, 10))) == few
    assert judging.recall(np.ones((3, 0))) == {"mean": 0.0, "low": 0.0, "high": 1.0}


def test_the_macro_f1_is_that_of_the_scores():
    random = np.random.default_rng(2)
    labels, logits = random.integers(0, 3, 40), random.normal(0, 1, (40, 4))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scores = evaluate.score(p, labels, tuple("abcd"), resamples=20)
    assert trials._scored(logits, labels)["macro_f1"] == pytest.approx(scores.macro_f1.value)


def test_curves_go_as_far_as_all_seeds():
    finals = [
        {"scores": [0.5, 0.7, 0.9], "epoch_seconds": [1.0, 1.0, 1.0], "steps": [4, 8, 12]},
        {"scores": [0.7, 0.9], "epoch_seconds": [2.0, 2.0], "steps": [4, 8]},
    ]
    assert standings.curve(finals) == {
        "steps": [4, 8],
        "seconds": [1.5, 3.0],
        "score": [pytest.approx(0.6), pytest.approx(0.8)],
        "low": [0.5, 0.7],
        "high": [0.7, 0.9],
    }


def test_the_headline_says_no_more_than_the_comparisons():
    def facts(**told: bool) -> dict[str, Any]:
        pairs = [
            {"ahead": "adamw", "behind": "sgd", "told_apart": told.get("sgd", False)},
            {"ahead": "adam", "behind": "adamw", "told_apart": told.get("adam", False)},
            {"ahead": "switch", "behind": "adamw", "told_apart": told.get("switch", False)},
        ]
        return {"reference": "adamw", "pairs": pairs, "practice": "optimization"}

    assert page.headline(facts()) == (
        "No optimizer is ahead of adamw or behind it that these seeds could tell"
    )
    assert page.headline(facts(sgd=True)) == "sgd is behind adamw"
    assert page.headline(facts(adam=True, switch=True)) == "adam and switch are ahead of adamw"
    both = page.headline(facts(sgd=True, adam=True))
    assert both == "adam is ahead of adamw, sgd is behind adamw"


def test_the_page_is_self_contained_and_escapes(finished):
    facts = {**finished[1], "name": "<script>alert(1)</script>"}
    text = page.render(facts)
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "default-src 'none'" in text
    assert not re.search(r'(?:src|href)="https?:', text)
    for style in re.findall(r"<style>(.*?)</style>", text, re.S):
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in text
    assert text.count("<svg") >= 3
    assert "nan" not in re.sub(r"<[^>]*>", " ", text).lower().split()


@pytest.mark.parametrize(
    ("asked", "settings", "told"),
    [
        (Asked("growth"), (), "'growth' has no race"),
        (Asked(only=("sgdd", "adam")), (), "'sgdd' is unknown"),
        (Asked(only=("sgd",)), (), "races alone"),
        (Asked(trials=0), (), "tries no settings"),
        (Asked("imbalance", trials=3), (), "would do nothing"),
        (Asked(seeds=1), (), "cannot give an interval"),
        (Asked(), ("optimization.rate=0.1",), "is what races"),
        (Asked("imbalance", trials=0), ("imbalance.method=none",), "is what races"),
        (Asked(), ("ensembling.members=3",), "single, whole networks"),
    ],
)
def test_what_cannot_be_raced_is_named(asked, settings, told):
    with pytest.raises(UsageError, match=re.escape(told)) as refused:
        field.check(asked, settings)
    assert refused.value.cure


def test_a_near_name_is_suggested():
    with pytest.raises(UsageError) as refused:
        field.check(Asked(only=("rmsprob", "sgd")))
    assert refused.value.cure == "did you mean 'rmsprop'?"


def test_a_folder_of_other_things_is_left_alone(photos, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="holds other files"):
        race(photos, tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        race(photos, tmp_path / "thesis.txt")


@pytest.mark.usefixtures("_stores")
def test_even_classes_have_nothing_to_help(tmp_path):
    folder = write(tmp_path / "even", {"blue": 14, "green": 14, "red": 14})
    with pytest.raises(DataError, match="nothing to help"):
        race(folder, tmp_path / "out", Asked("imbalance", trials=0, seeds=2))


def test_a_method_without_room_is_refused_if_named_and_else_left_out(photos):
    whole = data.split(data.read(str(photos)))
    split = carved(whole)
    recipe = train.settle(apply(Recipe(), (*SETTINGS, "batch=32")), whole)
    asked = Asked("imbalance", trials=0)
    found = field.lined_up(asked, field.check(asked), recipe, split)
    assert {"undersampling", "deferred_weights", "deferred_sampling"} <= set(found.left_out)
    assert "logit_adjustment" in found.left_out
    assert {"auto", "none", "balanced_softmax"} <= set(found.recipes)
    named = replace(asked, only=("none", "undersampling"))
    with pytest.raises(UsageError, match="undersampling"):
        field.lined_up(named, field.check(named), recipe, split)


def test_a_method_that_would_do_nothing_is_left_out(photos):
    whole = data.split(data.read(str(photos)))
    recipe = train.settle(apply(Recipe(), (*SETTINGS, "augmentation=off")), whole)
    asked = Asked("imbalance", trials=0)
    found = field.lined_up(asked, field.check(asked), recipe, carved(whole))
    assert "augmentation is off" in found.left_out["augmentation"]
    named = replace(asked, only=("none", "augmentation"))
    with pytest.raises(UsageError, match="augmentation is off"):
        field.lined_up(named, field.check(named), recipe, carved(whole))


def test_no_method_races_alone(photos):
    whole = data.split(data.read(str(photos)))
    settings = (*SETTINGS, "objective=accuracy", "imbalance.price=0.02")
    recipe = train.settle(apply(Recipe(), settings), whole)
    recipe = replace(recipe, growth=Growth(0.05))  # of each class one picture: nothing is rare
    asked = Asked("imbalance", trials=0)
    with pytest.raises(UsageError, match=r"only 1 of 11 methods can race \(imbalance\.price") as it:
        field.lined_up(asked, field.check(asked), recipe, carved(whole))
    assert "--only" in it.value.cure


def test_a_trial_that_diverged_is_chosen_last():
    recipes = [replace(Recipe(), epochs=at) for at in (1, 2)]
    entries = [course.Entry("sgd", at, 2, 0, one, final=False) for at, one in enumerate(recipes)]
    results = [
        {"diverged": wild, "tuning": {"accuracy": share, "nll": 1.0}}
        for wild, share in ((True, 0.9), (False, 0.4))
    ]
    assert course._best(entries, results, "accuracy") == {"sgd": recipes[1]}


def test_a_method_races_with_what_was_set_of_it(photos):
    whole = data.split(data.read(str(photos)))
    recipe = apply(Recipe(), (*SETTINGS, "imbalance.price=0.02", "imbalance.temperature=2"))
    asked = Asked("imbalance", trials=0, only=("none", "auto", "adjusted_after"))
    found = field.lined_up(asked, field.check(asked), recipe, carved(whole)).recipes
    assert found["auto"].imbalance.price == 0.02
    assert found["auto"].imbalance.temperature == 0
    assert found["adjusted_after"].imbalance.temperature == 2
    assert found["none"].imbalance == Imbalance.off


def test_a_share_of_the_pictures_counts_as_much_room(photos):
    whole = data.split(data.read(str(photos)))
    recipe = train.settle(apply(Recipe(), (*SETTINGS, "batch=12")), whole)
    half = replace(recipe, growth=Growth(0.25))
    asked = Asked("imbalance", trials=0)
    for one, out in ((recipe, False), (half, True)):
        found = field.lined_up(asked, field.check(asked), one, carved(whole))
        assert ("undersampling" in found.left_out) == out


def test_a_setting_that_one_optimizer_would_ignore_is_refused(photos):
    whole = data.split(data.read(str(photos)))
    recipe = apply(Recipe(), (*SETTINGS, "optimization.nesterov=true", "optimization.name=sgd"))
    with pytest.raises(UsageError, match="nesterov"):
        field.lined_up(Asked(), field.check(Asked()), recipe, carved(whole))


@pytest.mark.usefixtures("_stores")
def test_the_command_prints_a_table_or_one_object(finished, photos, capsys, monkeypatch, tmp_path):
    facts = finished[1]
    seen = {}

    def raced(source, out, **rest):
        seen.update(rest, source=source, out=out)
        return facts

    monkeypatch.setattr(races, "race", raced)
    line = ["race", "photos", "--out", str(tmp_path / "r"), "--only", "sgd, switch", "--trials"]
    line += ["2", "--seeds", "2", "--set", "side=32", "--seed", "7", "--threads", "1"]
    assert cli.main(line) == 0
    out = capsys.readouterr().out
    assert re.search(r"^sgd +\d\.\d{3}", out, re.M)
    assert "test stayed closed" in out
    assert seen["asked"] == Asked("optimization", ("sgd", "switch"), 2, 2, 7)
    assert seen["recipe"].side == 32
    assert cli.main([*line, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "sevenfold.race/1"
    assert cli.main(["race", "photos"]) == 0
    assert seen["out"] == Path("runs/race")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("race photos --out r --practice growth", 'invalid value "growth" for --practice'),
        ("race photos --out r --only sgdd,adam", "did you mean 'sgd'?"),
        ("race photos --out r --trials 0", "--trials 0 tries no settings"),
        ("race photos --out r --seeds 1", "--seeds 1 cannot give an interval"),
        ("race photos --out r --set optimization.name=adam", "that is what races"),
        ("race photos --out r --set optimization=off", "that is what races"),
        ("race photos --out r --practice imbalance --trials 2", "no settings to search"),
    ],
)
def test_a_mistake_is_told_before_anything_is_made(line, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert "Traceback" not in err
    assert not (tmp_path / "r").exists()
