"""Run studies of made-up pictures with a tiny network: paired, resumable, the same anywhere."""

import errno
import json
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import sevenfold
from fake_ray import FakeRay
from photos import write
from sevenfold import atomic, cli, data, export, trial
from sevenfold.engines import Inline, Json, Local, cluster
from sevenfold.errors import DataError, ResourceError, UsageError
from sevenfold.features import pixels, store
from sevenfold.place import Place
from sevenfold.practices import ensembling
from sevenfold.practices.augmentation import Augmentation
from sevenfold.practices.imbalance import Imbalance
from sevenfold.practices.pruning import Pruning
from sevenfold.progress import silent
from sevenfold.recipe import Recipe, apply
from sevenfold.studies import pictures, where
from sevenfold.studies.evidence import course, estimate, planning, study, trials
from sevenfold.studies.evidence.arms import Arm, Carving, Plan, Training
from sevenfold.studies.evidence.course import Asked
from sevenfold.studies.evidence.effects import Evidence
from sevenfold.studies.evidence.estimate import Cost, Gauge
from sevenfold.studies.evidence.facts import facts
from sevenfold.studies.evidence.outcomes import BASE, REFERENCE, Contrast, Outcome, of_arm
from sevenfold.studies.folder import checkpoints, complete, prepare, recalled
from sevenfold.studies.pictures import Reading
from sevenfold.train import bench, member

SETTINGS = (
    "objective=accuracy",
    "transfer.backbone=resnet20",
    "transfer.weights=random",
    "transfer.trainable_blocks=1000",
    "side=16",
    "epochs=1",
    "views=1",
    "batch=16",
    "optimization.rate=0.01",
)
RECIPE = apply(Recipe(), SETTINGS)
PLACE = Place("cpu", 1)
TWINS = Plan(
    (
        Arm(REFERENCE, (Training(RECIPE),)),
        Arm(
            "twin", (Training(replace(RECIPE, effort=2.0)),)
        ),  # says nothing where epochs are given
        Arm(BASE, (Training(RECIPE, number=1),)),
    ),
    (
        Contrast("growth", "leave_one_out", REFERENCE, "twin", "its name"),
        Contrast("growth", "add_one_in", REFERENCE, BASE, "its seed"),
    ),
    {},
)


class Kill(BaseException):
    """Stand for a kill: nothing may catch it."""


@pytest.fixture(scope="module", autouse=True)
def _quick():
    """Hold the source still, which may be edited meanwhile; measure no files and no steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "source_hash", lambda: "source")
        patch.setattr(
            planning,
            "gauged",
            lambda found, _, n: {one.name: Gauge(1.0, (2.0,) * n) for one in found},
        )
        patch.setattr(
            planning, "estimated", lambda found, *_: Cost((1.0,) * len(found), 10, 0.1, 100)
        )
        patch.setattr(planning, "_unprunable", lambda *_: "")
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("photos"), {"blue": 28, "green": 28, "red": 28}, side=20)


@pytest.fixture(scope="module")
def split(photos: Path) -> data.Split:
    return data.split(data.read(str(photos)))


@pytest.fixture(scope="module")
def folder(split: data.Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a study of twins, run without a stop."""
    out = tmp_path_factory.mktemp("ran")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEVENFOLD_CACHE", str(out / "stores"))
        run(split, out / "study")
    return out / "study"


@pytest.fixture(scope="module")
def ran(split: data.Split, folder: Path) -> list[Outcome]:
    """Return its outcomes."""
    calls: list[Json] = []
    found = run(split, folder, calls)
    assert not calls
    return found


def copied(folder: Path, out: Path, split: data.Split, missing: Sequence[int]) -> list[Path]:
    """Copy a study that ended, without some of its results; return these."""
    shutil.copytree(folder, out)
    gone = [out / "trials" / f"{laid(split, out).tasks[at].key}.json" for at in missing]
    for path in gone:
        path.unlink()
    return gone


def laid(split: data.Split, out: Path) -> course.Course:
    prepare(out, course.OURS, "a study of evidence", "photos")
    asked = course.Asked(RECIPE, ("growth",))
    reading = pictures.ground_of(Reading("photos"), RECIPE.side, PLACE) | {"repetitions": 6}
    ground = trials.Ground(split, PLACE, 6)
    return planning.laid(ground, reading, asked, out, silent, planner=lambda *_args, **_more: TWINS)


def engine(split: data.Split, calls: list[Json] | None = None, die_at: int = -1) -> Inline:
    ground = trials.Ground(split, PLACE, 6)

    def train(call: Json) -> Json:
        if calls is not None:
            if len(calls) == die_at:
                raise Kill
            calls.append(call)
        return trials.trained(ground, call)

    return Inline({trials.TRAIN: train, trials.FILL: lambda call: trials.fill_stores(ground, call)})


def run(
    split: data.Split,
    out: Path,
    calls: list[Json] | None = None,
    die_at: int = -1,
) -> list[Outcome]:
    planned = laid(split, out)
    return course.run(planned, engine(split, calls, die_at), silent, study.unwatched)


def plain(outcomes: Sequence[Outcome]) -> list[Json]:
    """Return what does not depend on the clock."""
    return [
        vars_of(one)
        | {"seconds": 0.0, "pictures": one.pictures.tolist()}
        | {"probabilities": one.probabilities.tolist()}
        for one in outcomes
    ]


def vars_of(one: Outcome) -> Json:
    return {name: getattr(one, name) for name in one.__slots__}


def test_twins_that_differ_by_their_name_answer_alike_to_the_bit(ran: list[Outcome]) -> None:
    first, twin, other = (of_arm(ran, name) for name in (REFERENCE, "twin", BASE))
    assert sorted(first) == list(range(6))
    for at in range(6):
        assert np.array_equal(first[at].pictures, twin[at].pictures)
        assert np.array_equal(first[at].probabilities, twin[at].probabilities)
        assert np.array_equal(first[at].pictures, other[at].pictures)
        assert not np.array_equal(first[at].probabilities, other[at].probabilities)


def test_every_picture_outside_test_is_judged_once_by_each_arm(
    ran: list[Outcome], split: data.Split
) -> None:
    for name in (REFERENCE, "twin", BASE):
        judged = np.concatenate([one.pictures for one in of_arm(ran, name).values()])
        assert len(judged) == len(set(judged.tolist())) == len(split.train) + len(split.val)
        assert not set(judged.tolist()) & set(split.test.tolist())
    for one in ran:
        assert one.probabilities.shape == (len(one.pictures), 3)
        assert np.allclose(one.probabilities.sum(axis=1), 1)
        assert one.seconds > 0
        assert one.detail["epochs"] == 1


def test_a_stopped_study_goes_on_and_ends_alike(
    split: data.Split, folder: Path, ran: list[Outcome], tmp_path: Path
) -> None:
    copied(folder, tmp_path / "study", split, [1, 5, 16])
    before: list[Json] = []
    with pytest.raises(Kill):
        run(split, tmp_path / "study", before, die_at=1)
    after: list[Json] = []
    ended = run(split, tmp_path / "study", after)
    assert len(before) == 1
    assert len(after) == 2
    assert plain(ended) == plain(ran)
    assert not [path for path in (tmp_path / "study" / "trials").iterdir() if path.is_dir()]


def test_a_damaged_result_is_trained_again(
    split: data.Split, folder: Path, ran: list[Outcome], tmp_path: Path
) -> None:
    (path,) = copied(folder, tmp_path / "study", split, [4])
    whole = (folder / "trials" / path.name).read_text(encoding="utf-8")
    path.write_text(whole[:-9], encoding="utf-8")
    calls: list[Json] = []
    assert plain(run(split, tmp_path / "study", calls)) == plain(ran)
    assert [Path(call["folder"]).name for call in calls] == [path.stem]


def test_keys_tell_apart_all_that_a_result_depends_on(split: data.Split, tmp_path: Path) -> None:
    planned = laid(split, tmp_path / "study")
    assert len({task.key for task in planned.tasks}) == len(planned.tasks) == 18
    again = laid(split, tmp_path / "study")
    assert [task.key for task in again.tasks] == [task.key for task in planned.tasks]


def test_a_folder_of_other_pictures_is_refused(split: data.Split, tmp_path: Path) -> None:
    laid(split, tmp_path / "study")
    other = replace(split, train=split.train[1:], test=np.append(split.test, split.train[0]))
    with pytest.raises(UsageError, match="holds evidence of other pictures"):
        laid(other, tmp_path / "study")


def test_a_network_stays_where_it_is_when_it_is_asked(
    split: data.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[torch.nn.Module] = []

    def predict(module, views, some, place):
        asked.append(module)
        return np.zeros((len(some), 3), np.float32)

    monkeypatch.setattr(member.loop, "predict", predict)
    network, _ = bench.start(RECIPE, 3, 0)
    member.answers(network, RECIPE, split.dataset, split.train[:2], Place("meta", 1))
    assert {one.device.type for one in network.parameters()} == {"cpu"}
    assert {one.device.type for one in asked[0].parameters()} == {"meta"}


def test_what_a_method_leaves_no_room_for_is_refused_before_any_training(tmp_path: Path) -> None:
    uneven = write(tmp_path / "photos", {"blue": 18, "green": 32, "red": 32}, side=20)
    split = data.split(data.read(str(uneven)))
    under = replace(RECIPE, imbalance=Imbalance("undersampling"))
    few = replace(under, batch=40)
    for recipe, share in ((replace(few, batch=16), 1.0), (few, 0.5)):
        arms = (Arm(REFERENCE, (Training(recipe, share),)), *TWINS.arms[1:])

        def plan(*_: object, arms=arms, **__: object) -> Plan:
            return replace(TWINS, arms=arms)

        ground = trials.Ground(split, PLACE, 6)
        reading = pictures.ground_of(Reading("photos"), RECIPE.side, PLACE)
        args = (ground, reading, Asked(RECIPE), tmp_path / f"{share}", silent)
        prepare(tmp_path / f"{share}", course.OURS, "a study of evidence", "photos")
        if share == 1:
            planning.laid(*args, planner=plan)
        else:
            with pytest.raises(UsageError, match="fewer than a batch of 40"):
                planning.laid(*args, planner=plan)


def test_what_a_training_would_refuse_is_refused_before_any_training(
    split: data.Split, tmp_path: Path
) -> None:
    idle = replace(RECIPE, imbalance=Imbalance("augmentation"), augmentation=Augmentation.off)
    arms = (Arm(REFERENCE, (Training(idle),)), *TWINS.arms[1:])

    def plan(*_: object, **__: object) -> Plan:
        return replace(TWINS, arms=arms)

    ground = trials.Ground(split, PLACE, 6)
    reading = pictures.ground_of(Reading("photos"), RECIPE.side, PLACE)
    prepare(tmp_path / "out", course.OURS, "a study of evidence", "photos")
    with pytest.raises(UsageError, match="does nothing where augmentation is off"):
        planning.laid(ground, reading, Asked(RECIPE), tmp_path / "out", silent, planner=plan)


def test_what_a_stop_and_a_system_left_is_no_other_file(tmp_path: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", "evidence.json.123.part"):
        (tmp_path / name).write_text("", encoding="utf-8")
    prepare(tmp_path, course.OURS, "a study of evidence", "photos")
    (tmp_path / "mine.part").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match=r"such as mine\.part"):
        prepare(tmp_path, course.OURS, "a study of evidence", "photos")


def test_a_full_disk_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "evidence.json").write_text("old", encoding="utf-8")
    monkeypatch.setattr("sevenfold.atomic.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic.write(tmp_path / "evidence.json", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["evidence.json"]
    assert (tmp_path / "evidence.json").read_text("utf-8") == "old"


def test_pictures_without_a_role_are_not_the_studys(split: data.Split) -> None:
    whole = pictures.contents_of(split)
    left = replace(split, train=split.train[1:])
    assert pictures.contents_of(left) != whole
    merged = np.sort(np.concatenate([split.train, split.val]))
    assert pictures.contents_of(replace(split, train=merged, val=split.val[:0])) == whole


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(UsageError, match="holds other files"):
        prepare(tmp_path, course.OURS, "a study of evidence", "photos")
    with pytest.raises(UsageError, match="is a file"):
        prepare(tmp_path / "letters.txt", course.OURS, "a study of evidence", "photos")


def test_the_estimate_shrinks_as_trials_end(
    split: data.Split, folder: Path, tmp_path: Path
) -> None:
    fresh = laid(split, tmp_path / "fresh")
    told = course.whole(fresh, engine(split))
    assert told.startswith("18 trainings, 0 of them done; about 19 s with 1 at a time")
    copied(folder, tmp_path / "study", split, [3])
    planned = laid(split, tmp_path / "study")
    assert "17 of them done" in course.whole(planned, engine(split))
    lefts: list[float] = []
    course.run(planned, engine(split), silent, lambda _study, _found, left: lefts.append(left))
    assert lefts[0] > 0
    assert lefts[-1] == 0


def test_an_estimate_counts_all_that_a_trial_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        estimate, "_pace", lambda one, *_: 0.1 if one.transfer.trainable_blocks > 9 else 0.01
    )
    monkeypatch.setattr(estimate, "_building", lambda *_: 0.5)
    monkeypatch.setattr(estimate, "_row", lambda *_: (0.002, 1000))
    quick = Recipe("balanced_accuracy", side=64, epochs=4, views=4, imbalance=Imbalance.off)
    given = replace(quick, optimization=replace(quick.optimization, rate=0.001))
    carving = Carving(given, Pruning(blocks=False), 0.75, 60, 0.001)
    trainings = (
        Training(given),
        Training(quick),
        Training(given, share=0.5),
        Training(replace(given, imbalance=Imbalance(trainings=1))),
        Training(replace(given, imbalance=Imbalance(trainings=2))),
        Training(given, carving=carving),
    )
    cost = estimate.estimated(trainings, [given, quick], 150, np.array([90, 20, 10]), PLACE)
    beside, steps = 2 * 0.5 + estimate.TRIAL_SECONDS, 4 * 120 * 0.01
    assert cost.seconds == pytest.approx(
        (
            beside + steps,
            beside + steps + 3 * 12 * 32 * 0.01,  # three rates are probed
            beside + steps / 2,
            beside + steps,  # what adjusts afterwards needs no training of its own
            beside + 2 * steps,
            beside + steps + 2 * 60 * 0.1 + estimate.CARVED_SECONDS,
        )
    )
    assert (cost.rows, cost.row_seconds, cost.row_bytes) == (2 * 150 * 5, 0.002, 1000)
    even = estimate.estimated(trainings, [given], 150, np.array([40, 40, 40]), PLACE)
    assert even.seconds[4] == even.seconds[3]  # even classes leave nothing to compare


def test_what_is_left_counts_what_trials_took_beside_their_steps() -> None:
    parts = {"": {"seconds": 30.0}, "pruned": {"seconds": 42.0}, "unpruned": {"seconds": 45.0}}
    alone = {"parts": {"": {"seconds": 30.0}}}
    assert course._took(alone) == 30 + estimate.TRIAL_SECONDS
    whole = 30 + 12 + 15 + estimate.TRIAL_SECONDS + estimate.CARVED_SECONDS
    assert course._took({"parts": parts}) == whole


@pytest.fixture
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
def test_the_python_call_measures_a_split_and_what_it_finds_is_frozen(
    split: data.Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def measured() -> Evidence:
        return sevenfold.measure(
            RECIPE,
            split,
            practices=["growth"],
            folder=tmp_path / "study",
            threads=1,
            device="cpu",
            watch=lambda _study, outcomes, _left: seen.append(len(outcomes)),
        )

    writable = split.dataset.labels.flags.writeable
    torch.set_num_threads(2)
    found = measured()
    assert torch.get_num_threads() == 2
    assert found.complete
    assert seen[0] == 0
    assert seen[-1] == len(found.arms) * 6 == 24
    assert found.pictures == len(split.train) + len(split.val)
    (growth,) = found.findings
    assert growth.practice == "growth"
    assert growth.verdict in ("helps", "hurts", "no difference", "cannot tell")
    assert found.family == 5  # even classes, and a random start: two of seven are not in use
    effect = growth.deciding("leave_one_out").effects["accuracy"]
    assert effect.low <= effect.value <= effect.high
    about = found.study
    assert about.trained_on[BASE] == pytest.approx(about.trained_on[REFERENCE] / 2, rel=0.1)
    assert about.regime["estimated_seconds"] == 25
    assert "growth" in found._repr_html_()
    for held in (about.regime, about.regime["versions"], about.trained_on, found.arms[BASE]):
        with pytest.raises(TypeError):
            held["accuracy"] = 1
    for held in (about.labels, about.groups):
        with pytest.raises(ValueError, match="read-only"):
            held[0] = 1
    assert split.dataset.labels.flags.writeable is writable
    told = facts(found)
    assert json.loads(json.dumps(told)) == told == found.facts
    assert "growth without it: 50% of the training pictures" in " ".join(str(found).split())
    assert json.loads((tmp_path / "study" / "evidence.json").read_text("utf-8")) == told
    assert "growth" in (tmp_path / "study" / "evidence.html").read_text("utf-8")
    assert (tmp_path / "study" / "recommended.toml").read_text("utf-8") == told["recommended"]
    monkeypatch.setattr(trials, "trained", lambda *_: pytest.fail("trained once more"))
    assert facts(measured()) == told  # it goes on from its folder


def test_the_python_call_refuses_too_few_pictures_at_once(
    split: data.Split, tmp_path: Path
) -> None:
    few = replace(split, train=split.train[:30], val=split.val[:0])
    with pytest.raises(DataError, match="30 pictures outside test are too few for any claim"):
        sevenfold.measure(RECIPE, few, folder=tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_too_few_groups_are_refused_before_anything_is_decoded_or_connected(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(pixels, "ingest", lambda *_, **__: pytest.fail("decoded"))
    monkeypatch.setattr(where, "opened", lambda *_: pytest.fail("connected"))
    words = ["evidence", str(photos), "--out", str(tmp_path / "out"), "--engine", "ray"]
    assert cli.main([*words, "--group-by", r"0(\d)\d\.png"]) == 3
    err = capsys.readouterr().err
    assert "84 pictures in 3 groups outside test are too few for any claim" in err
    assert "at least 60 pictures in 23 groups" in err


def test_a_worker_that_sees_other_pictures_says_so(photos: Path) -> None:
    reading = pictures.ground_of(Reading(str(photos)), RECIPE.side, PLACE)
    split, place = pictures.read(reading)
    assert len(split.dataset) == 84
    assert place.threads == 1
    with pytest.raises(DataError, match="sees other pictures"):
        pictures.read(reading | {"digest": "0" * 16})


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_answer_all_calls_whatever_their_number(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [{"a": at, "b": "ü"} for at in range(5)]
    (tmp_path / "json.py").write_text("raise SystemExit('foreign')", "utf-8")
    monkeypatch.chdir(tmp_path)  # where photos lie, anything may
    found = dict(Local(workers, 1).run(calls, "builtins:dict"))
    assert found == dict(enumerate(calls))


def test_a_killed_process_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "victim.py").write_text(
        "import os, pathlib\n"
        "def work(call):\n"
        "    mark = pathlib.Path(call['mark'])\n"
        "    if call['dies'] and not mark.exists():\n"
        "        mark.touch()\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return {'pid': os.getpid(), 'number': call['number']}\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    calls = [{"mark": str(tmp_path / f"{at}"), "dies": at == 1, "number": at} for at in range(4)]
    found = dict(Local(1, 1).run(calls, "victim:work"))
    assert {at: one["number"] for at, one in found.items()} == {at: at for at in range(4)}
    assert found[0]["pid"] != found[1]["pid"]
    assert found[1]["pid"] == found[3]["pid"]


def test_a_call_that_kills_every_process_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fatal.py").write_text(
        "import os\ndef work(call):\n    os._exit(7)\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ResourceError, match="ended 3 times, the last time with 7"):
        list(Local(1, 1).run([{}], "fatal:work"))


def test_failures_keep_their_kind_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing.py").write_text(
        "from sevenfold.errors import DataError\n"
        "def work(call):\n"
        "    print('this must not end up between the answers')\n"
        "    if call['bug']:\n        raise ZeroDivisionError('a bug')\n"
        "    if call.get('full'):\n        raise OSError(28, 'No space left on device')\n"
        "    raise DataError('bad', 'mend it')\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DataError, match="bad") as found:
        list(Local(1, 1).run([{"bug": False}], "failing:work"))
    assert found.value.cure == "mend it"
    with pytest.raises(ResourceError, match="No space left") as full:
        list(Local(1, 1).run([{"bug": False, "full": True}], "failing:work"))
    assert "free some disk space" in full.value.cure
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a bug"):
        list(Local(1, 1).run([{"bug": True}], "failing:work"))


def test_options_of_ray_need_ray(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evidence", str(photos), "--out", str(tmp_path / "out"), "--address", "auto"]
    assert cli.main(words) == 2
    assert "--address auto would do nothing with --engine local" in capsys.readouterr().err


def test_too_few_repetitions_are_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evidence", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]
    assert cli.main([*words, "--repetitions", "5"]) == 2
    assert "can claim nothing" in capsys.readouterr().err
    assert cli.main([*words, "--practices", "magic"]) == 2
    assert "'magic' is no practice" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    found = FakeRay()
    monkeypatch.setattr(cluster, "_ray", lambda: found)
    return found


def test_ray_answers_all_calls_in_any_order(fake: FakeRay) -> None:
    on_ray = cluster.connected("auto", 1, 0.0)
    assert on_ray.workers == 4
    calls = [{"a": at, "b": "ü"} for at in range(5)]
    found = list(on_ray.run(calls, "builtins:dict"))
    assert [at for at, _ in found] == [4, 3, 2, 1, 0]
    assert dict(found) == dict(enumerate(calls))
    assert fake.options_seen == [{"num_cpus": 1, "num_gpus": 0.0, "max_retries": 2}]


def test_no_more_calls_are_in_flight_than_were_asked_for(fake: FakeRay) -> None:
    on_ray = cluster.connected("auto", 1, 0.0, 2)
    assert on_ray.workers == 2
    calls = [{"a": at} for at in range(5)]
    found = list(on_ray.run(calls, "builtins:dict"))
    assert dict(found) == dict(enumerate(calls))
    assert found[0][0] == 1  # of the first two


def test_nodes_with_room_are_asked_as_trials_would_be_called(
    fake: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategies = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: (node, soft))
    monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)
    for node in fake.cluster:
        node["Resources"]["GPU"] = 1.0
    without_gpu = {"NodeID": "head", "Alive": True, "Resources": {"CPU": 8.0}}
    without_cores = {"NodeID": "idle", "Alive": True, "Resources": {"GPU": 1.0}}
    gone = {"NodeID": "gone", "Alive": False, "Resources": {"CPU": 8.0, "GPU": 1.0}}
    fake.cluster += [without_gpu, without_cores, gone]
    on_ray = cluster.connected("auto", 1, 0.5)
    assert on_ray.workers == 4
    assert on_ray.everywhere({"a": 1}, "builtins:dict") == [{"a": 1}] * 2
    options = {"num_cpus": 1, "num_gpus": 0.5}
    assert fake.options_seen == [
        options | {"scheduling_strategy": (name, False)} for name in ("0", "1")
    ]


def test_ends_are_told_where_nothing_finer_is(fake: FakeRay, tmp_path: Path) -> None:
    told: list[str] = []

    def work(call: Json, progress: Any) -> Json:
        progress("train", 1, 1)
        return call

    def heard(number: int, stage: str, _done: int, _total: int) -> None:
        told.append(f"{stage} {number}")

    calls = {"first": {"a": 1}, "second": {"a": 2}}
    here, there = Inline({"builtins:dict": work}), cluster.connected("auto", 1, 0.0, 1)
    for engine, wanted in ((here, ["train 0", "train 1"]), (there, ["ended", "ended"])):
        told.clear()
        found: dict[str, dict[str, Any]] = {}
        out = tmp_path / type(engine).__name__
        out.mkdir()
        complete(
            found, calls, "builtins:dict", engine, out,
            ended=lambda: told.append("ended"), heard=heard,
        )  # fmt: skip
        assert told == wanted
        assert found == calls == recalled(out, [*calls, "third"])


def test_checkpoints_outlive_a_failure_only_where_a_study_goes_on_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, ours = tmp_path / "machine", tmp_path / "trials" / "key"
    machine.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(machine))

    def train(place: str, dies: bool) -> None:
        with checkpoints(place) as folder:
            (folder / "epoch").write_bytes(b"")
            if dies:
                raise Kill

    for place in ("", str(ours)):
        with pytest.raises(Kill):
            train(place, dies=True)
    assert not list(machine.iterdir())
    assert (ours / "epoch").exists()
    for place in ("", str(ours)):
        train(place, dies=False)
    assert not list(machine.iterdir())
    assert not ours.exists()


def test_an_unreachable_cluster_is_named(fake: FakeRay) -> None:
    with pytest.raises(ResourceError, match=r"--address nowhere: no Ray cluster answers \(nobody"):
        cluster.connected("nowhere", 1, 0.0)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_port_that_nobody_listens_at_is_refused_before_ray_hears_of_it(
    fake: FakeRay, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr(fake, "init", lambda *_, **__: pytest.fail("asked"))
        with pytest.raises(ResourceError, match=f"--address {address}: no Ray cluster answers"):
            cluster.connected(address, 1, 0.0)
        taken.listen()
        asked: list[str] = []
        monkeypatch.setattr(fake, "init", lambda address, **_: asked.append(address))
        assert cluster.connected(address, 1, 0.0).workers == 4
        assert asked == [address]


def test_a_cluster_without_room_is_refused(fake: FakeRay) -> None:
    with pytest.raises(ResourceError, match="no node of the Ray cluster auto has 3 cores"):
        cluster.connected("", 3, 0.0)
    with pytest.raises(ResourceError, match=r"1 cores and 0\.5 GPUs"):
        cluster.connected("", 1, 0.5)


def test_without_ray_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ResourceError, match="the package ray is not installed") as found:
        cluster.connected("auto", 1, 0.0)
    assert '".[ray]"' in found.value.cure


def test_nodes_of_two_kinds_are_refused(fake: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = answers({"kind": "one"}, {"kind": "another"})
    monkeypatch.setattr(cluster.OnRay, "everywhere", lambda *_: nodes)
    with pytest.raises(ResourceError, match="another; one"):
        where.alike(cluster.connected("auto", 1, 0.0), {})


def answers(*others: dict[str, Any]) -> list[dict[str, Any]]:
    one = {"kind": "one", "software": pictures.software(), "shared": True}
    return [one | other for other in others]


def test_nodes_of_other_software_are_refused(
    fake: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = answers({}, {"software": "torch 1.0"})
    monkeypatch.setattr(cluster.OnRay, "everywhere", lambda *_: nodes)
    with pytest.raises(ResourceError, match="a node of the Ray cluster has torch") as it:
        where.alike(cluster.connected("auto", 1, 0.0), {})
    assert "same versions" in it.value.cure


def test_a_node_that_cannot_read_the_pictures_is_told_what_to_do(
    fake: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(*_: Any) -> None:
        raise DataError("node left: /data: no such folder or file", "name another")

    monkeypatch.setattr(cluster.OnRay, "everywhere", nowhere)
    with pytest.raises(DataError, match="node left: /data: no such folder") as caught:
        where.alike(cluster.connected("auto", 1, 0.0), {})
    assert "among the nodes" in caught.value.cure


def test_nodes_say_whether_they_share_the_stores(
    fake: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def asked(_: Any, call: dict[str, Any], __: str) -> list[dict[str, Any]]:
        seen.append((store.home() / call["token"]).is_file())
        return answers({}, {"shared": False})

    monkeypatch.setattr(cluster.OnRay, "everywhere", asked)
    found = where.alike(cluster.connected("auto", 1, 0.0), {})
    assert (seen, found) == ([True], {"kind": "one", "shared": False})
    assert not list(store.home().glob("shared-*"))


def test_every_node_fills_stores_of_its_own(fake: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, str]] = []
    monkeypatch.setattr(
        cluster.OnRay, "everywhere", lambda _, call, __: made.append(("each", call["recipe"]))
    )
    monkeypatch.setattr(
        cluster.OnRay,
        "run",
        lambda _, calls, __: (made.append(("once", c["recipe"])) for c in calls),
    )
    engine = cluster.connected("auto", 1, 0.0)
    for shared, way in ((False, "each"), (True, "once")):
        made.clear()
        calls = [{"recipe": name, "ground": {"shared": shared}} for name in "ab"]
        assert len(list(course._filled(calls, engine))) == 2
        assert made == [(way, "a"), (way, "b")]


def test_a_training_elsewhere_has_another_name_only_on_another_kind() -> None:
    site = where.Site(Place("cpu", 1), 1, cluster.OnRay(1, 0.0, 1), 0.0)
    mine = pictures.kind(site.place)
    assert site.trained({"kind": mine}) == site.place
    assert site.trained({"kind": "another"}).chip == "another"
    assert replace(site, gpus=1.0).trained({"kind": "H200"}).device == "cuda"


def test_a_vote_is_pooled_calibrated_on_tuning_and_its_seconds_are_summed():
    draw = np.random.default_rng(0)
    labels = np.arange(90) % 3
    split = SimpleNamespace(
        dataset=SimpleNamespace(labels=labels), val=np.arange(60), test=np.arange(60, 90)
    )
    logits = (2 * np.eye(3)[labels] + draw.normal(0, 1.5, (2, 90, 3))).astype(np.float32)
    parts = [
        {
            "tuning": trials.packed(one[split.val]),
            "judged": trials.packed(one[split.test]),
            "diverged": seconds > 3,
            "seconds": seconds,
            "detail": {"megabytes_left": 0.5, "latency_left": 0.25},
        }
        for one, seconds in zip(logits, (3.0, 4.0), strict=True)
    ]
    arm = Arm("voting", (Training(RECIPE), Training(RECIPE, number=1)))
    there = SimpleNamespace(gauges={"voting": Gauge(8.0, (4.0,) * 3)})
    found = course._outcome(there, arm, 2, split, parts)

    vote = ensembling.pool(logits, np.full(2, 0.5), "soft")
    temperature = trials.temperature_of(vote[split.val], labels[split.val])
    wanted = ensembling.log_softmax(vote[split.test] / temperature)
    np.testing.assert_allclose(np.log(found.probabilities), wanted, atol=1e-5)
    assert (found.arm, found.repetition, found.seconds) == ("voting", 2, 7.0)
    assert (found.megabytes, found.latency_ms) == (4.0, 1.0)
    assert found.detail["members"] == 2
    assert found.detail["diverged"]


def test_a_network_is_pruned_in_one_step_beside_one_trained_on_as_long(
    split: data.Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEVENFOLD_CACHE", str(tmp_path / "stores"))
    times = np.array([[2.0] * 20, [1.0] * 20])
    monkeypatch.setattr(trials.latency, "timed", lambda files: times)
    how = Carving(RECIPE, Pruning(blocks=False, ranking="l1"), 0.7, 24, 0.01)
    training = Training(RECIPE, carving=how)
    call = {
        "training": trials.told_of(training), "repetition": 0, "seed": 0, "shared": 0,
        "folder": "",
    }  # fmt: skip
    parts = trials.trained(trials.Ground(split, PLACE, 6), call)["parts"]
    assert set(parts) == {"", "pruned", "unpruned"}
    told = parts["pruned"]["detail"]
    assert told["macs_left"] <= 0.7
    assert told["megabytes_left"] < 1
    assert told["latency_left"] == 0.5
    assert min(parts[name]["seconds"] for name in ("pruned", "unpruned")) > parts[""]["seconds"]
    whole, pruned, unpruned = (trials.unpacked(one["judged"]) for one in parts.values())
    assert not np.array_equal(whole, pruned)
    assert not np.array_equal(whole, unpruned)
    assert not np.array_equal(pruned, unpruned)


def test_pictures_to_retrain_on_hold_every_class(split: data.Split) -> None:
    labels = split.dataset.labels
    rare = split.train[labels[split.train] == 2][:1]
    some = replace(split, train=np.concatenate([split.train[labels[split.train] < 2], rare]))
    drawn = trials._some(some, 6, 0)
    assert len(drawn) == 6
    assert set(labels[drawn]) == {0, 1, 2}
    assert not np.array_equal(drawn, trials._some(some, 6, 1))


def test_a_vote_holds_the_frozen_trunk_once_and_each_tail() -> None:
    recipe = apply(RECIPE, ["transfer.trainable_blocks=3"])
    network, _ = bench.start(recipe, 3, 0)
    single = export.core(export.Shipped(network, False).eval(), recipe.side)
    assert estimate._joined(single, recipe, 1) is single

    def convolutions(model: onnx.ModelProto) -> int:
        return sum(node.op_type == "Conv" for node in model.graph.node)

    tail = sum(
        isinstance(one, torch.nn.Conv2d) for block in network.blocks[-3:] for one in block.modules()
    )
    assert tail > 0
    voting = estimate._joined(single, recipe, 3)
    assert convolutions(voting) == convolutions(single) + 2 * tail
