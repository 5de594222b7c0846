import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from bundles import colour, knowing, seal, tiny_bundle
from sevenfold import cli, data, paired
from sevenfold.answers import Answer, write_csv
from sevenfold.errors import DataError, UsageError
from sevenfold.evaluate import Estimate
from sevenfold.predictions import Predictions, write_predictions
from sevenfold.progress import silent
from sevenfold.studies.compare import compare, sides
from sevenfold.studies.compare.weighing import verdict

CLASSES = ("ash", "elm")


def answers(path: Path, rows: list[tuple[str, ...]], header=("path", "label", "answer")) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def shares(path: Path, rights: list[float], *, roles="test", groups=(), hashes=()) -> Path:
    """Write a table in which picture k, of class k % 2, has this probability of its class."""
    count = len(rights)
    labels = np.arange(count) % 2
    table = np.array([[p, 1 - p] for p in rights])
    table[labels == 1] = table[labels == 1, ::-1]
    write_predictions(
        path,
        Predictions(
            CLASSES,
            tuple(f"{CLASSES[k % 2]}/{k:03}.png" for k in range(count)),
            tuple(hashes) or ("",) * count,
            (roles,) * count if isinstance(roles, str) else tuple(roles),
            tuple(groups) or ("",) * count,
            np.full(count, -1),
            labels,
            table,
        ),
    )
    return path


def test_two_tables_are_compared_picture_by_picture(tmp_path):
    first = shares(tmp_path / "a.csv", [0.9] * 80 + [0.2] * 20)
    second = shares(tmp_path / "b.csv", [0.8] * 90 + [0.3] * 8 + [0.4] * 2)
    told = compare(first, second, progress=silent)
    counts = paired.Paired(both_right=80, only_first=0, only_second=10, both_wrong=10)
    interval = paired.interval(counts)
    assert told["schema"] == "sevenfold.compare/1"
    assert told["pictures"] == told["groups"] == 100
    assert told["paired_by"] == {"content": 0, "path": 100}
    assert told["accuracy"] == {
        "first": 0.8,
        "second": 0.9,
        "difference": pytest.approx(0.1),
        "low": interval.low,
        "high": interval.high,
    }
    assert told["mcnemar"]["p"] == pytest.approx(stats.binomtest(0, 10).pvalue)
    assert told["verdict"] == "better"
    before = -np.log([0.9] * 80 + [0.2] * 20).mean()
    after = -np.log([0.8] * 90 + [0.3] * 8 + [0.4] * 2).mean()
    assert told["nll"]["difference"] == pytest.approx(after - before)
    assert told["nll"]["low"] < told["nll"]["difference"] < told["nll"]["high"]
    assert [one["change"] for one in told["flips"]] == ["got right"] * 10
    assert [one["got_right"] for one in told["classes"]] == [5, 5]
    json.dumps(told, allow_nan=False)


def test_swapping_the_sides_mirrors_the_comparison(tmp_path):
    first = shares(tmp_path / "a.csv", [0.9] * 40 + [0.2] * 20)
    second = shares(tmp_path / "b.csv", [0.9] * 30 + [0.1] * 10 + [0.7] * 20)
    one, two = compare(first, second, progress=silent), compare(second, first, progress=silent)
    assert one["accuracy"]["low"] == pytest.approx(-two["accuracy"]["high"])
    assert one["mcnemar"]["only_first"] == two["mcnemar"]["only_second"] == 10
    assert [each["change"] for each in one["flips"]][:10] == ["got wrong"] * 10


def test_groups_widen_the_interval(tmp_path):
    rights = [0.2] * 15 + [0.9] * 85
    groups = [f"g{at // 5}" for at in range(100)]
    told = [
        compare(
            shares(tmp_path / "a.csv", [0.9] * 100, groups=given),
            shares(tmp_path / "b.csv", rights, groups=given),
            progress=silent,
        )
        for given in ((), groups)
    ]
    widths = [one["accuracy"]["high"] - one["accuracy"]["low"] for one in told]
    assert widths[1] > 1.2 * widths[0]
    assert [one["groups"] for one in told] == [100, 20]
    balanced = [one["balanced_accuracy"] for one in told]
    assert balanced[1]["high"] - balanced[1]["low"] > balanced[0]["high"] - balanced[0]["low"]


def test_pictures_in_groups_tell_less_so_that_more_of_them_are_needed(tmp_path):
    needed = [
        compare(
            shares(tmp_path / "a.csv", [0.9] * 100, groups=given),
            shares(tmp_path / "b.csv", [0.2] * 5 + [0.9] * 95, groups=given),
            progress=silent,
        )["to_resolve"]
        for given in ((), [f"g{at // 5}" for at in range(100)])
    ]
    assert needed[1] > 3 * needed[0]


def test_a_picture_without_a_group_is_one_of_its_own(tmp_path):
    rights = [0.9] * 40
    groups = [str(at // 4) for at in range(39)] + [""]
    first = shares(tmp_path / "a.csv", rights, groups=groups)
    second = shares(tmp_path / "b.csv", [0.2, *rights[1:]], groups=groups)
    found = compare(first, second, progress=silent)
    assert found["groups"] == 11
    assert found["accuracy"]["high"] - found["accuracy"]["low"] > 0.2


def test_balanced_accuracy_is_as_unsure_as_its_classes_where_nothing_changed(tmp_path):
    first = shares(tmp_path / "a.csv", [0.9] * 40)
    found = compare(first, shares(tmp_path / "b.csv", [0.9] * 40), progress=silent)
    balanced, accuracy = found["balanced_accuracy"], found["accuracy"]
    assert balanced["difference"] == 0
    assert balanced["high"] >= accuracy["high"] > 0.05
    assert balanced["low"] <= accuracy["low"] < -0.05


def test_another_tools_answers_need_no_probabilities(tmp_path):
    rows = [(f"/else/where/{CLASSES[k % 2]}/{k:03}.png", CLASSES[k % 2]) for k in range(20)]
    first = answers(tmp_path / "a.csv", [(*row, row[1]) for row in rows])
    second = answers(tmp_path / "b.csv", [(*row, "ash") for row in rows])
    told = compare(first, second, progress=silent)
    assert told["nll"] is None
    assert told["accuracy"]["second"] == 0.5
    assert told["verdict"] == "worse"


def test_pictures_that_a_side_was_trained_by_are_left_out(tmp_path):
    roles = ["train"] * 10 + ["val"] * 5 + ["test"] * 25
    first = shares(tmp_path / "a.csv", [0.9] * 40, roles=roles)
    second = shares(tmp_path / "b.csv", [0.8] * 40, roles="")
    told = compare(first, second, progress=silent)
    assert (told["pictures"], told["left_out"]["learnt from"]) == (25, 15)
    assert compare(first, second, split="all", progress=silent)["pictures"] == 40
    learnt = shares(tmp_path / "c.csv", [0.9] * 40, roles="train")
    with pytest.raises(DataError, match="trained on"):
        compare(learnt, second, progress=silent)


def test_pictures_are_paired_by_content_before_path(tmp_path):
    contents = [f"{at:032x}" for at in range(10)]
    first = shares(tmp_path / "a.csv", [0.9] * 10, hashes=contents)
    # Renamed files: two and two of the same class.
    swapped = [contents[at ^ 2] if at < 8 else contents[at] for at in range(10)]
    second = shares(tmp_path / "b.csv", [0.2] + [0.9] * 9, hashes=swapped)
    told = compare(first, second, progress=silent)
    assert told["paired_by"] == {"content": 10, "path": 0}
    assert [one["path"] for one in told["flips"]] == ["ash/002.png"]


def test_copies_that_share_a_row_are_each_counted_once(tmp_path):
    rows = [(f"a/{at}.png", "ash", "ash", f"{at // 2:032x}") for at in range(10)]  # in twos
    header = ("path", "label", "answer", "hash")
    first = answers(tmp_path / "a.csv", rows, header)
    others = [*rows[::2], ("a/x.png", "ash", "ash", "f" * 32)]
    second = answers(tmp_path / "b.csv", others, header)
    told = compare(first, second, progress=silent)
    assert told["paired_by"]["content"] == 10
    assert told["left_out"]["not answered by both"] == 1


def test_pictures_of_one_name_and_other_content_are_not_paired(tmp_path):
    first = shares(tmp_path / "a.csv", [0.9] * 10, hashes=[f"{at:032x}" for at in range(10)])
    second = shares(tmp_path / "b.csv", [0.2] * 10, hashes=[f"{at:032x}" for at in range(8, 18)])
    # The last two of one are the first two of the other, of the same classes.
    told = compare(first, second, progress=silent)
    assert (told["pictures"], told["paired_by"]) == (2, {"content": 2, "path": 0})
    third = shares(tmp_path / "c.csv", [0.2] * 10, hashes=[f"{at:032x}" for at in range(50, 60)])
    with pytest.raises(DataError, match="10 paths in common, and other pictures"):
        compare(first, third, progress=silent)


def test_what_predict_wrote_holds_answers_not_labels(tmp_path):
    told = [
        Answer(f"ash/{at}.png", "elm" if at < 3 else "ash", 0.8, (0.2, 0.8)[:: 1 if at < 3 else -1])
        for at in range(10)
    ]
    write_csv(tmp_path / "a.csv", told, CLASSES)
    rows = [(f"ash/{at}.png", "ash", "ash") for at in range(10)]
    other = answers(tmp_path / "b.csv", rows)
    found = compare(tmp_path / "a.csv", other, progress=silent)
    assert (found["accuracy"]["first"], found["accuracy"]["second"]) == (0.7, 1.0)
    with pytest.raises(DataError, match="has no label"):
        compare(tmp_path / "a.csv", tmp_path / "a.csv", progress=silent)


@pytest.fixture
def photos(tmp_path):
    random = np.random.default_rng(0)
    for k, label in enumerate(CLASSES):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for at in range(12):
            pixels = np.clip(np.array(colour(k, 2)) + random.normal(0, 9, (12, 12, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{at:02}.png")
    return tmp_path / "photos"


def test_a_table_of_other_pictures_of_the_same_names_is_refused(tmp_path, photos):
    rows = [(f"ash/{at:02}.png", f"{at:032x}", "ash", "0.9", "0.1") for at in range(12)]
    header = ("path", "hash", "label", "p:ash", "p:elm")
    first = answers(tmp_path / "a.csv", rows, header=header)
    second = tiny_bundle(tmp_path / "bundle", CLASSES)
    with pytest.raises(DataError, match="12 paths in common, and other pictures"):
        compare(first, second, str(photos), progress=silent)
    rows = [(row[0], "", *row[2:]) for row in rows]  # of which no content is known
    first = answers(tmp_path / "c.csv", rows, header=header)
    assert compare(first, second, str(photos), progress=silent)["paired_by"]["path"] == 12


def test_a_bundle_is_compared_with_another_tools_predictions(tmp_path, photos):
    bundle = tiny_bundle(tmp_path / "bundle", CLASSES)
    rows = [(f"{label}/{at:02}.png", "ash") for label in CLASSES for at in range(12)]
    other = answers(tmp_path / "b.csv", rows, header=("path", "answer"))
    told = compare(other, bundle, str(photos), small_classes="drop", progress=silent)
    assert told["pictures"] == 24
    assert (told["accuracy"]["first"], told["accuracy"]["second"]) == (0.5, 1.0)
    assert told["first"]["megabytes"] is None
    assert told["second"]["megabytes"] > 0
    assert told["speed"] is None


def test_two_bundles_are_timed_against_each_other(tmp_path, photos, monkeypatch):
    calls = []

    def timed(models):
        calls.append(models)
        return np.array([[2.0] * 50, [1.0] * 50])

    monkeypatch.setattr("sevenfold.latency.timed", timed)
    bundle = tiny_bundle(tmp_path / "bundle", CLASSES)
    told = compare(bundle, bundle, str(photos), small_classes="drop", progress=silent)
    assert len(calls) == 1
    assert told["speed"]["times_as_fast"] == pytest.approx(2)
    assert told["accuracy"]["difference"] == 0
    assert told["flips"] == []


def test_answers_that_were_asked_to_be_others_are_not_what_is_compared(
    tmp_path, photos, capsys, monkeypatch
):
    plain = tiny_bundle(tmp_path / "plain", CLASSES)
    favouring = knowing(tiny_bundle(tmp_path / "favouring", CLASSES), {})
    card = json.loads((favouring / "card.json").read_text("utf-8"))
    card["operating_point"] |= {"rule": "min_recall", "weights": {"ash": 1e6}}
    (favouring / "card.json").write_text(json.dumps(card), encoding="utf-8")
    seal(favouring)
    line = ["compare", str(plain), str(favouring), "--data", str(photos), "--no-timing"]
    line += ["--small-classes", "drop"]
    assert cli.main(line) == 0
    out = capsys.readouterr().out
    assert "judged by      the most probable class" in out
    assert "accuracy       1.000 to 1.000" in out
    assert cli.main([*line[:2], str(plain), *line[3:]]) == 0
    assert "judged by" not in capsys.readouterr().out


def test_a_verdict_that_a_test_holds_back_names_it(tmp_path, capsys):
    first = shares(tmp_path / "a.csv", [0.9] * 60)
    second = shares(tmp_path / "b.csv", [0.9] * 55 + [0.2] * 5)
    assert cli.main(["compare", str(first), str(second)]) == 0
    out = capsys.readouterr().out
    assert "verdict        cannot tell" in out
    assert "McNemar's p is 0.062, above 0.05" in out


def test_no_fewer_pictures_are_asked_for_than_there_are(tmp_path, capsys):
    rights = np.full(8000, 0.9)
    flipped = rights.copy()
    rights[:240], flipped[240:480] = 0.2, 0.2
    first = shares(tmp_path / "a.csv", rights.tolist())
    second = shares(tmp_path / "b.csv", flipped.tolist())
    told = compare(first, second, progress=silent)
    assert (told["verdict"], told["to_resolve"]) == ("cannot tell", None)
    assert cli.main(["compare", str(first), str(second)]) == 0
    assert "known to a point, and no difference asks for half of one" in capsys.readouterr().out


def test_what_cannot_be_compared_is_refused(tmp_path, photos):
    first = shares(tmp_path / "a.csv", [0.9] * 10)
    bundle = tiny_bundle(tmp_path / "bundle", CLASSES)
    with pytest.raises(UsageError, match="no pictures are given"):
        compare(first, bundle, progress=silent)
    with pytest.raises(UsageError, match="no such file"):
        compare(first, tmp_path / "nothing", progress=silent)
    others = tiny_bundle(tmp_path / "others", ("ash", "oak"))
    with pytest.raises(DataError, match="does not know"):
        compare(first, others, str(photos), progress=silent)
    apart = answers(tmp_path / "apart.csv", [("x.png", "ash", "ash")])
    with pytest.raises(DataError, match="no picture in common"):
        compare(first, apart, progress=silent)
    two = answers(tmp_path / "two.csv", [("ash/000.png", "elm", "elm")])
    with pytest.raises(DataError, match=r"ash/000.png is ash in .*a.csv and elm in"):
        compare(first, two, progress=silent)
    with pytest.raises(DataError, match=r"is elm in .* and ash in the data"):
        compare(
            bundle,
            answers(tmp_path / "three.csv", [("ash/00.png", "elm", "elm")]),
            str(photos),
            small_classes="drop",
            progress=silent,
        )
    bare = answers(tmp_path / "bare.csv", [("ash/000.png", "ash")])
    with pytest.raises(DataError, match="row 2"):
        compare(first, bare, progress=silent)
    with pytest.raises(DataError, match="no columns path and answer"):
        compare(first, answers(tmp_path / "no.csv", [("a",)], header=("x",)), progress=silent)


@pytest.mark.parametrize(
    ("low", "high", "p", "said"),
    [
        (0.01, 0.03, 0.01, "better"),
        (-0.03, -0.01, 0.01, "worse"),
        (-0.004, 0.004, 1.0, "no difference"),
        (0.001, 0.004, 0.01, "no difference"),
        (-0.01, 0.03, 0.4, "cannot tell"),
        (0.001, 0.03, 0.06, "cannot tell"),
    ],
)
def test_the_verdict_is_no_surer_than_both_interval_and_test(low, high, p, said):
    assert verdict(Estimate((low + high) / 2, low, high), p, grouped=False) == said


def made_run(folder: Path, rights: list[bool], labels: list[int], objective: str) -> Path:
    """Lay out what a comparison reads of a run: its table and what it was made for."""
    folder.mkdir()
    (folder / "data.json").write_text("{}", encoding="utf-8")
    (folder / "report.json").write_text(json.dumps({"objective": objective}), encoding="utf-8")
    truth = np.array(labels)
    answer = np.where(rights, truth, 1 - truth)
    count = len(labels)
    paths = tuple(f"{at:03}.png" for at in range(count))
    none = ("",) * count
    held = (paths, none, ("test",) * count, none, np.full(count, -1), truth)
    write_predictions(
        folder / "predictions.csv", Predictions(CLASSES, *held, 0.1 + 0.8 * np.eye(2)[answer])
    )
    return folder


@pytest.mark.parametrize(
    ("objectives", "objective", "verdict"),
    [
        (("balanced_accuracy", "balanced_accuracy"), "balanced_accuracy", "better"),
        (("balanced_accuracy", "accuracy"), "accuracy", "worse"),
        (("accuracy", "accuracy"), "accuracy", "worse"),
        (("balanced_accuracy", ""), "accuracy", "worse"),
    ],
)
def test_two_runs_are_judged_by_what_both_were_made_for(
    tmp_path, objectives, objective, verdict, capsys
):
    labels = [0] * 400 + [1] * 100  # B loses a quarter of the common class for the rare one
    rights = (
        [True] * 420 + [False] * 80,
        [True] * 300 + [False] * 100 + [True] * 80 + [False] * 20,
    )
    first, second = (
        made_run(tmp_path / name, each, labels, made_for)
        for name, each, made_for in zip("ab", rights, objectives, strict=True)
    )
    told = compare(first, second, progress=silent)
    assert (told["objective"], told["verdict"]) == (objective, verdict)
    assert told["balanced_accuracy"]["difference"] == pytest.approx(0.175)
    assert told["accuracy"]["difference"] == pytest.approx(-0.08)
    assert cli.main(["compare", str(first), str(second)]) == 0
    out = capsys.readouterr().out
    named = "balanced accuracy, the objective of both runs"
    assert (named in out) == (objective == "balanced_accuracy")
    other = "accuracy" if objective == "balanced_accuracy" else "balanced accuracy"
    assert f"but {other} goes the other way" in out
    # A table of a run's answers does not say what they were made for.
    tables = [one / "predictions.csv" for one in (first, second)]
    assert compare(*tables, progress=silent)["objective"] == "accuracy"


def test_a_run_is_asked_for_its_objective_also_where_it_answers_itself(tmp_path):
    run = tmp_path / "run"
    tiny_bundle(run / "bundle", CLASSES)
    (run / "data.json").write_text(data.to_json(data.EMPTY), encoding="utf-8")
    (run / "report.json").write_text('{"objective": "balanced_accuracy"}', encoding="utf-8")
    assert sides.opened(run, answering=True).objective == "balanced_accuracy"
    assert sides.opened(run / "bundle", answering=True).objective == ""


def test_more_pictures_would_tell_a_balanced_accuracy_as_its_interval_narrows(tmp_path):
    labels = [0, 1] * 50
    first = made_run(tmp_path / "a", [True] * 100, labels, "balanced_accuracy")
    second = made_run(tmp_path / "b", [False, *[True] * 99], labels, "balanced_accuracy")
    told = compare(first, second, progress=silent)
    change = told["balanced_accuracy"]
    half = (change["high"] - change["low"]) / 2
    z = stats.norm.ppf([0.975, 0.8])
    assert told["verdict"] == "cannot tell"
    assert told["to_resolve"] == pytest.approx(100 * (half / z[0] * z.sum() / 0.01) ** 2, abs=1)


def test_another_tools_columns_are_named(tmp_path, capsys):
    mine = shares(tmp_path / "a.csv", [0.9] * 60)
    rows = [(f"{CLASSES[k % 2]}/{k:03}.png", "x", CLASSES[k % 2]) for k in range(60)]
    other = answers(tmp_path / "b.csv", rows, header=("file", "path", "guess"))
    named = {"path": "file", "answer": "guess"}
    told = compare(mine, other, table_columns=named, progress=silent)
    assert told["accuracy"]["second"] == 1.0
    assert told["paired_by"]["path"] == 60
    words = [
        "compare",
        str(mine),
        str(other),
        "--table-columns",
        "path=file,answer=guess",
        "--json",
    ]
    assert cli.main(words) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(told))
    rows = [(row[0], row[2], "0.25", "0.75") for row in rows]
    header = ("file", "truth", "ash score", "elm score")
    other = answers(tmp_path / "c.csv", rows, header=header)
    named = {"path": "file", "label": "truth", "p:ash": "ash score", "p:elm": "elm score"}
    told = compare(mine, other, table_columns=named, progress=silent)
    assert told["accuracy"]["second"] == 0.5
    assert told["nll"]["second"] == pytest.approx(-np.log([0.25, 0.75]).mean())


def test_columns_that_are_none_are_refused(tmp_path):
    first, second = shares(tmp_path / "a.csv", [0.9] * 10), shares(tmp_path / "b.csv", [0.9] * 10)
    with pytest.raises(UsageError, match="pixels is not a column that can be named"):
        compare(first, second, table_columns={"pixels": "path"}, progress=silent)
    with pytest.raises(DataError, match=r"answer=guess: there is no such column in .*a\.csv or"):
        compare(first, second, table_columns={"answer": "guess"}, progress=silent)
    bundle = tiny_bundle(tmp_path / "bundle", CLASSES)
    with pytest.raises(UsageError, match="neither side is a CSV file"):
        compare(bundle, bundle, "photos", table_columns={"path": "file"}, progress=silent)


def test_a_picture_that_a_table_lists_twice_is_refused(tmp_path, photos):
    once = [(f"ash/{at:02}.png", "ash", "ash") for at in range(12)]
    again = answers(tmp_path / "a.csv", [*once, (r"ash\03.png", "ash", "elm")])
    plain = answers(tmp_path / "b.csv", once)
    for sides_ in ((again, plain), (plain, again)):
        with pytest.raises(DataError, match=r"a\.csv lists ash/03\.png twice"):
            compare(*sides_, progress=silent)
    header = ("path", "hash", "label", "p:ash", "p:elm")
    shown = [(row[0], "", "ash", "0.9", "0.1") for row in once]
    scored = answers(tmp_path / "c.csv", [*shown, shown[3]], header)
    with pytest.raises(DataError, match=r"c\.csv lists ash/03\.png twice"):
        compare(plain, scored, progress=silent)
    # Two folders of another tool, of which the data has the pictures of one.
    bundle = tiny_bundle(tmp_path / "bundle", CLASSES)
    rows = [(f"{folder}/ash/00.png", "ash") for folder in ("old", "new")]
    whole = answers(tmp_path / "d.csv", rows, header=("path", "answer"))
    with pytest.raises(DataError, match=r"d\.csv lists ash/00\.png twice"):
        compare(whole, bundle, str(photos), progress=silent)


def test_parts_of_a_photo_share_its_path_and_are_told_apart_by_content_alone(tmp_path):
    header = ("path", "hash", "label", "answer")
    parts = [("a.png", f"{at:032x}", "ash", "ash") for at in range(4)]
    first = answers(tmp_path / "a.csv", parts, header)
    second = answers(tmp_path / "b.csv", [(*row[:3], "elm") for row in parts], header)
    assert compare(first, second, progress=silent)["paired_by"] == {"content": 4, "path": 0}
    whole = answers(tmp_path / "c.csv", [("a.png", "ash", "ash")])
    for sides_ in ((first, whole), (whole, first)):
        with pytest.raises(DataError, match=r"a\.csv lists a\.png twice"):
            compare(*sides_, progress=silent)


def test_the_command_sums_up_and_prints_json(tmp_path, capsys):
    first = shares(tmp_path / "a.csv", [0.9] * 80 + [0.2] * 20)
    second = shares(tmp_path / "b.csv", [0.8] * 90 + [0.3] * 10)
    assert cli.main(["compare", str(first), str(second)]) == 0
    out = capsys.readouterr().out
    assert "verdict        B is more accurate than A, by " in out
    assert "10 got right" in out
    assert cli.main(["compare", str(first), str(second), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "better"
    assert cli.main(["compare", str(first), str(tmp_path / "none")]) == 2


def test_comparing_needs_no_torch():
    code = "import sys, sevenfold.studies.compare; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
