"""Learning curves: honest subsets, families that fit, forecasts that hold, refusals that bite."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fake_ray import FakeRay
from photos import write
from sevenfold import cli, data, evaluate, trial
from sevenfold.engines import cluster
from sevenfold.engines.local import named
from sevenfold.errors import DataError, GateRefused, ResourceError, UsageError
from sevenfold.place import Place
from sevenfold.practices.growth import Growth, given
from sevenfold.progress import silent
from sevenfold.recipe import Recipe
from sevenfold.report.growth import figure, growth, headline
from sevenfold.studies import curve as study
from sevenfold.studies.curve import course, forecast, heads, page
from sevenfold.studies.curve.families import FAMILIES, fit
from sevenfold.studies.curve.forecast import Curve
from sevenfold.studies.folder import prepare
from sevenfold.studies.where import Where

SHARES = np.sqrt(0.5) ** np.arange(8, -1, -1)
PICTURES = 1000 * SHARES


def measured(
    errors: np.ndarray, noise: float = 0.004, repetitions: int = 10, seed: int = 1
) -> Curve:
    """Make a curve with noise of folds, common to all sizes, and of subsets."""
    random = np.random.default_rng(seed)
    folds = random.normal(0, 0.015, (repetitions, 1))
    return Curve(
        PICTURES[-len(errors) :],
        np.clip(errors + folds + random.normal(0, noise, (repetitions, len(errors))), 0, 1),
    )


def falling(shares: np.ndarray) -> np.ndarray:
    return 0.08 + 0.1 * shares**-0.4


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> data.Split:
    folder = write(tmp_path_factory.mktemp("photos"), {"blue": 60, "green": 30, "red": 30})
    return data.split(data.read(str(folder)))


def rows_of(split: data.Split, noise: float) -> np.ndarray:
    """Describe pictures by their class, blurred."""
    labels = split.dataset.labels[split.train]
    random = np.random.default_rng(0)
    hot = np.eye(3)[labels] @ random.normal(0, 1, (3, 20))
    return (hot + random.normal(0, noise, (len(labels), 20))).astype(np.float32)


def run(split: data.Split, folder: Path | None = None, noise: float = 1.0) -> list[dict[str, Any]]:
    opened = course.opened(split)
    return course.run(
        course.Course(
            opened, rows_of(opened, noise), Recipe(), Place("cpu", 1), 4, 0, folder, silent
        )
    )


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_is_found_again_from_its_own_curve(family):
    steepness = float(family.steepnesses[len(family.steepnesses) // 2])
    shape = family.shape(SHARES[None], np.array([[steepness]]))[0]
    errors = (0.05 if family.floor else 0.0) + 0.1 * shape / shape[0]
    found = fit(family, PICTURES, errors[None], np.ones(9))
    np.testing.assert_allclose(found.errors(PICTURES)[0], errors, atol=1e-6)
    beyond = family.shape(np.array([[2.0]]), np.array([[steepness]]))[0]
    truth = (0.05 if family.floor else 0.0) + 0.1 * beyond / shape[0]
    np.testing.assert_allclose(found.errors(np.array([2000.0]))[0], truth, atol=1e-5)


def test_no_fit_rises_or_leaves_what_an_error_can_be():
    rising = np.linspace(0.1, 0.4, 9)[None]
    for family in FAMILIES:
        errors = fit(family, PICTURES, rising, np.ones(9)).errors(np.geomspace(10, 1e6, 50))[0]
        assert (np.diff(errors) <= 1e-12).all()
        assert errors.min() >= 0
        assert errors.max() <= 1


def test_a_forecast_holds_the_truth_and_beats_a_plain_power_law():
    curve = measured(falling(SHARES))
    assert forecast.refusal(curve) == ""
    places = np.array([1000.0, 2000.0, 4000.0])
    found = forecast.forecast(curve, places)
    truth = 1 - falling(places / 1000)
    low, high = found.ends()
    assert ((low <= found.middle) & (found.middle <= high)).all()
    assert (np.diff(found.middle) >= 0).all()
    missed = abs(found.middle[1] - truth[1])
    assert missed < 0.015
    assert found.weights.sum() == pytest.approx(1)
    far = abs(found.middle[2] - truth[2])
    assert far < abs(forecast.power_law(curve, places)[2] - truth[2])


def test_intervals_at_twice_the_pictures_mostly_hold_the_truth():
    places, held, draws = np.array([2000.0]), 0, 60
    for seed in range(draws):
        curve = measured(falling(SHARES), seed=seed)
        (low,), (high,) = forecast.forecast(curve, places, seed=seed).ends()
        held += low <= 1 - falling(2.0) <= high
    assert held >= 0.85 * draws  # 82 to 98 % by shape: docs/practices/growth.md


def test_points_are_as_unsure_as_folds_that_share_their_pictures():
    accuracies = np.array([0.8, 0.82, 0.84, 0.86, 0.88])
    alone, shared = (study._interval(accuracies, share) for share in (0.0, 1.0))
    half = stats.t.ppf(0.975, 4) * stats.sem(accuracies)
    assert alone["high"] - alone["accuracy"] == pytest.approx(half)
    assert shared["high"] - shared["accuracy"] == pytest.approx(half * np.sqrt(1 + 5 / 4))


def test_an_interval_is_wider_further_away_and_with_more_noise():
    places = np.array([2000.0, 8000.0])

    def width(noise: float) -> np.ndarray:
        low, high = forecast.forecast(measured(falling(SHARES), noise), places).ends()
        return high - low

    quiet, loud = width(0.002), width(0.02)
    assert quiet[1] > quiet[0]
    assert loud[0] > quiet[0]


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        (falling(SHARES) + 0.06 * np.exp(-((np.arange(9) - 5.0) ** 2)), "not monotone"),
        (falling(SHARES) + 0.05 * np.maximum(0, np.arange(9) - 5), "not monotone"),
        (0.4 - 0.2 * (SHARES > 0.4), "no known shape"),
        (falling(SHARES[-4:]), "and there are 4 and 10"),
    ],
    ids=["a peak", "a decline", "a late jump", "four sizes"],
)
def test_a_bad_curve_is_refused_with_its_fault(errors, words):
    assert words in forecast.refusal(measured(errors))


def test_sound_curves_are_seldom_refused():
    random = np.random.default_rng(3)
    refused = 0
    for _ in range(60):
        noise = random.normal(0, 0.006, (10, 9)) + random.normal(0, 0.015, (10, 1))
        refused += bool(forecast.refusal(Curve(PICTURES, falling(SHARES) + noise)))
    assert refused <= 4


def test_two_repetitions_are_too_few():
    assert "and there are 9 and 2" in forecast.refusal(measured(falling(SHARES), repetitions=2))


def test_a_forecast_that_says_nothing_is_none():
    assert forecast.too_wide(0.5, 0.9).startswith("too uncertain")
    assert forecast.too_wide(0.80, 0.86) == ""


def test_the_fewest_pictures_that_reach_a_target():
    places, accuracies = np.array([10.0, 20.0, 30.0]), np.array([0.7, 0.8, 0.9])
    assert forecast.reaching(0.75, places, accuracies) == 20
    assert forecast.reaching(0.95, places, accuracies) is None


def test_every_picture_outside_test_is_judged_once_at_every_size(split):
    results = run(split)
    opened = course.opened(split)
    assert len(opened.test) == 0
    counts = np.bincount(split.dataset.labels[opened.train], minlength=3)
    np.testing.assert_array_equal(np.sum([one["judged"] for one in results], axis=0), counts)
    for one in results:
        sizes = [size["pictures"] for size in one["sizes"]]
        assert sizes == sorted(set(sizes))
        for size in one["sizes"]:
            assert all(r <= n for r, n in zip(size["right"], one["judged"], strict=True))
    assert set(opened.train) == {*split.train, *split.val}
    assert not set(opened.train) & set(split.test)


def test_smaller_sizes_are_parts_of_larger_ones_and_repetitions_differ(split):
    opened = course.opened(split)
    plan = course.shares(opened, 4)
    assert plan == sorted(plan)
    assert plan[-1] == 1
    nested = [set(given(opened, Growth(share), 5)) for share in plan]
    assert all(a < b for a, b in pairwise(nested))
    assert nested[0] != set(given(opened, Growth(plan[0]), 6))


def test_a_study_that_was_stopped_goes_on_with_the_same_result(split, tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "source_hash", lambda: "source")
    whole = run(split, tmp_path)
    files = sorted(tmp_path.glob("*.json"))
    assert len(files) == 4
    files[0].unlink()
    files[1].write_text("{broken", encoding="utf-8")
    kept = files[2].stat().st_mtime_ns
    assert run(split, tmp_path) == whole
    assert files[2].stat().st_mtime_ns == kept
    assert len(list(tmp_path.glob("*.json"))) == 4


def curve(
    photos: Path, out: Path, where: Where, progress: Callable[[str, int, int], None] = silent
) -> dict[str, Any]:
    return study.curve(
        str(photos),
        out,
        recipe=replace(Recipe(), side=32),
        target=0,
        repetitions=4,
        seed=0,
        where=where,
        columns={},
        group_by="",
        small_classes="refuse",
        announce=lambda _: None,
        progress=progress,
    )


def test_repetitions_side_by_side_and_on_ray_come_to_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "source_hash", lambda: "source")
    monkeypatch.setattr(cluster, "_ray", FakeRay)
    monkeypatch.setattr(cluster.OnRay, "everywhere", lambda _, call, name: [named(name)(call)])
    photos = write(tmp_path / "photos", {"blue": 30, "green": 30})
    here = Where(threads=1, workers=1, device="cpu")
    ways = {"one": here, "two": replace(here, workers=2), "ray": Where("ray", threads=1, workers=1)}
    facts, files, told = [], [], []
    for name, where in ways.items():
        found = curve(photos, tmp_path / name, where, lambda *one: told.append(one))
        facts.append({key: found[key] for key in found.keys() - {"seconds", "out"}})
        trials = (tmp_path / name / "trials").glob("*.json")
        files.append({path.name: path.read_text("utf-8") for path in trials})
    assert facts[0] == facts[1] == facts[2]
    assert files[0] == files[1] == files[2]
    assert len(files[0]) == 4
    for stage in ("repetitions, 2 at a time", "repetitions, 1 at a time"):
        assert [done for said, done, _ in told if said == stage] == [1, 2, 3, 4]
    with pytest.raises(ResourceError, match="--address nowhere: no Ray cluster answers"):
        curve(photos, tmp_path / "none", Where("ray", "nowhere", threads=1))


def test_a_class_of_two_groups_is_refused(split):
    groups = tuple(f"{name}{at % 2}" for at, name in enumerate(split.dataset.labels))
    bursts = replace(split, dataset=replace(split.dataset, groups=groups))
    with pytest.raises(DataError, match="2 separate groups"):
        course.repetitions(course.opened(bursts), 10)


def test_a_head_learns_what_can_be_told_apart():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 300)
    rows = (np.eye(3)[labels] * 3 + random.normal(0, 1, (300, 3))).astype(np.float32)
    axes = heads.axes(rows[:200])
    strength = heads.regularity(axes.of(rows[:200]), labels[:200], [str(at) for at in range(200)])
    head = heads.trained(axes.of(rows[:200]), labels[:200], strength)
    assert heads.right(head, axes.of(rows[200:]), labels[200:]).mean() > 0.85
    assert axes.of(rows[:200]).std() == pytest.approx(1, abs=0.01)


def test_a_prior_is_not_chosen_by_frames_of_the_same_scene():
    random = np.random.default_rng(0)
    scenes = random.normal(0, 1, (30, 40))
    labels = np.repeat(np.arange(30) % 2, 10)  # which nothing in the scenes tells
    rows = np.repeat(scenes, 10, axis=0) + random.normal(0, 0.01, (300, 40))
    rows = rows.astype(np.float32)
    apart = heads.regularity(rows, labels, [str(at) for at in range(300)])
    together = heads.regularity(rows, labels, [str(at // 10) for at in range(300)])
    assert together < apart


def facts_of(**changes: Any) -> dict[str, Any]:
    """Make the facts of a study whose numbers are known."""
    results = []
    random = np.random.default_rng(0)
    for _ in range(10):
        sizes = []
        for share in SHARES:
            right = [round(100 * (1 - e)) for e in falling(share) + random.normal(0, 0.004, 2)]
            sizes.append({"pictures": round(1000 * share), "right": right})
        whole = sizes[-1]["right"]
        lost = [
            {"label": 0, "without": 50, "right": [whole[0] - 6, whole[1]]},
            {"label": 1, "without": 50, "right": whole},
        ]
        part = changes.get("worth_of_part", 0)
        results.append(
            {"judged": [100, 100], "sizes": sizes, "whole": whole, "given": lost, "part": part}
        )
    told = study.curve_facts(results, 1100, changes.pop("target", 0.0))
    worth = study.worth(results, ("<b>cats</b>", "dogs"), "accuracy")
    return {
        "schema": study.SCHEMA,
        "name": "<i>set</i>",
        "labelled": 1100,
        "backbone": "net",
        "repetitions": 10,
        "objective": "accuracy",
        "seconds": 1.0,
        **told,
        **worth,
        **changes,
    }


def test_the_facts_have_the_keys_that_were_promised():
    facts = facts_of(target=0.88)
    json.dumps(facts, allow_nan=False)
    assert facts["refused"] == ""
    for one in (*facts["points"], *facts["forecast"]):
        assert {"pictures", "accuracy", "low", "high"} <= set(one)
        assert one["low"] <= one["accuracy"] <= one["high"]
    assert [one["pictures"] for one in facts["forecast"]] == [1100, 1650, 2200, 4400]
    assert facts["doubling"]["pictures"] == 2200
    assert facts["doubling"]["low"] <= facts["doubling"]["gain"] <= facts["doubling"]["high"]
    aim = facts["target"]
    assert 1100 < aim["pictures"] <= aim["horizon"]
    assert aim["low"] <= aim["pictures"]


def test_the_class_whose_pictures_were_worth_most_is_next():
    facts = facts_of()
    assert facts["next_class"] == "<b>cats</b>"
    first, second = facts["classes"]
    assert first["gain_per_100"] == pytest.approx(100 * 6 / 200 / 50)
    assert second["gain_per_100"] == pytest.approx(0)


def test_what_was_measured_with_a_part_of_the_pictures_says_so():
    said = " ".join(growth({"curve": facts_of(worth_of_part=5000)})["said"])
    assert "among 5,000 of the pictures; among all they are worth less" in said
    assert "among" not in " ".join(growth({"curve": facts_of()})["said"])


def test_folds_that_share_their_pictures_widen_the_worth_of_a_class():
    results = [
        {
            "judged": [100, 100],
            "whole": [80, 80],
            "given": [{"label": 0, "without": 50, "right": [80 - lost, 80]}],
            "part": 0,
        }
        for lost in range(10)
    ]
    (one,) = study.worth(results, ("cats", "dogs"), "accuracy")["classes"]
    gains = np.arange(10) / 200 * 2
    half = stats.t.ppf(0.975, 9) * gains.std(ddof=1) * math.sqrt(1 / 10 + 1 / 9)
    assert one["gain_per_100"] == pytest.approx(gains.mean())
    assert (one["high"] - one["low"]) / 2 == pytest.approx(half)


def test_no_class_is_named_by_noise():
    facts = facts_of()
    even = [{**one, "low": -0.1} for one in facts["classes"]]
    assert "Of no class are more pictures surely worth anything" in " ".join(
        growth({"curve": {**facts, "classes": even, "next_class": ""}})["said"]
    )


def test_the_page_says_it_and_escapes_names():
    text = page.render(facts_of(target=0.88))
    assert "<b>cats" not in text
    assert "<i>set" not in text
    assert "&lt;b&gt;cats" in text
    assert "88" in text
    assert "<svg" in text
    assert "http" not in text.replace("http-equiv", "")
    refused = page.render(facts_of(refused="not monotone: it rises", forecast=[], line=[]))
    assert "No forecast" in refused
    assert "not monotone: it rises" in refused


def test_the_report_has_no_section_without_a_curve():
    assert growth({}) == {}
    assert growth({"curve": {"points": []}}) == {}
    assert "points" in headline(facts_of())
    assert figure(facts_of()).startswith("<svg")


def test_what_cannot_be_asked_is_refused_before_any_work():
    with pytest.raises(UsageError, match="--target 95"):
        study.check(95, 10)
    with pytest.raises(UsageError, match="--repetitions 2"):
        study.check(0, 2)


def test_a_backbone_that_has_learnt_nothing_is_refused_before_any_work():
    settings = Recipe()
    settings = replace(settings, transfer=replace(settings.transfer, weights="random"))
    with pytest.raises(UsageError, match="random"):
        study.curve(
            "nothing is read",
            None,
            recipe=settings,
            target=0,
            repetitions=10,
            seed=0,
            where=Where(threads=1, workers=1, device="cpu"),
            columns={},
            group_by="",
            small_classes="refuse",
            announce=print,
            progress=silent,
        )


def test_the_command_prints_what_it_has_and_ends_with_6_where_it_refuses(
    tmp_path, monkeypatch, capsys
):
    facts = facts_of(refused="too few points", forecast=[], line=[], out="", target=0.0)
    monkeypatch.setattr(study, "curve", lambda *_, **__: facts)
    assert cli.main(["curve", str(tmp_path), "--json", "--device", "cpu"]) == GateRefused.exit_code
    out, err = capsys.readouterr()
    assert json.loads(out)["refused"] == "too few points"
    assert "no forecast: too few points" in err
    monkeypatch.setattr(study, "curve", lambda *_, **__: facts_of(out=""))
    assert cli.main(["curve", str(tmp_path), "--device", "cpu"]) == 0
    assert "Twice the 1,100 labelled pictures" in capsys.readouterr().out


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(UsageError, match="holds other files"):
        prepare(tmp_path, {"trials", "curve.json"}, "a curve", "photos")
    assert (tmp_path / "photo.jpg").read_bytes() == b"mine"


def test_classes_of_one_group_each_do_not_choose_the_prior(split):
    opened = course.opened(split)
    labels = opened.dataset.labels
    for groups in (
        tuple(str(label) for label in labels),
        tuple("one" if label else str(at) for at, label in enumerate(labels)),
        tuple(str(at % 4) for at in range(len(labels))),
    ):
        whole = replace(opened, dataset=replace(opened.dataset, groups=groups))
        held = course.Course(
            whole, rows_of(opened, 1.0), Recipe(), Place("cpu", 1), 3, 0, None, silent
        )
        assert course.strength(held) in heads._REGULARITIES


def test_a_fold_without_a_class_does_not_ask_for_its_answer():
    random = np.random.default_rng(0)
    labels = np.array([0, 1] * 20 + [2] * 6)
    groups = [str(at) for at in range(40)] + ["0"] * 6
    rows = (np.eye(3)[labels] + random.normal(0, 0.3, (46, 3))).astype(np.float32)
    assert heads.regularity(rows, labels, groups) in heads._REGULARITIES


def test_all_right_in_every_fold_is_not_certainty(split):
    results = run(split, noise=0.0)
    last = study.curve_facts(results, len(split.train), 0.0)["points"][-1]
    judged = sum(sum(one["judged"]) for one in results)
    assert last["accuracy"] == last["high"] == 1
    assert last["low"] == pytest.approx(evaluate.wilson(judged, judged).low)


def test_the_pictures_that_judge_do_not_choose_the_classes(split):
    opened = course.opened(split)
    rows = rows_of(opened, 3.0)
    held = course.Course(opened, rows, Recipe(), Place("cpu", 1), 4, 0, None, silent, 1)
    parted = course._parted(held, 0)
    chosen = []
    for seed in range(8):
        labels = parted.dataset.labels.copy()
        labels[parted.test] = np.random.default_rng(seed).permutation(labels[parted.test])
        turned = replace(parted, dataset=replace(parted.dataset, labels=labels))
        found = course._repetition(held, turned, 0.1, 0, silent)
        chosen.append([one["label"] for one in found["given"]])
    assert len(chosen[0]) == 1
    assert all(one == chosen[0] for one in chosen)


def test_a_class_of_which_nothing_was_asked_is_not_the_weakest(split):
    opened = course.opened(split)
    groups = list(opened.dataset.groups)
    reds = [at for at in opened.train.tolist() if opened.dataset.labels[at] == 2]
    for at in reds:
        groups[at] = "one"  # they lie in a single fold
    whole = replace(opened, dataset=replace(opened.dataset, groups=tuple(groups)))
    rows = rows_of(opened, 3.0)
    held = course.Course(whole, rows, Recipe(), Place("cpu", 1), 4, 0, None, silent, 1)
    aside = whole.folds(heads.FOLDS) == 0
    axes = heads.axes(rows)
    (weakest,) = course._weakest(held, whole, axes, 0.1)
    asked = set(opened.dataset.labels[opened.train[aside]].tolist())
    assert weakest in asked
    assert (2 in asked) == (weakest == 2)
