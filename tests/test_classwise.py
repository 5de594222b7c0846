"""What the report and the terminal say of operations left out and of rare classes' views."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

import photos
from report_facts import facts as report_facts
from sevenfold import account, data, report, terminal
from sevenfold.practices import augmentation
from sevenfold.practices.augmentation import Augmentation
from sevenfold.recipe import Recipe
from sevenfold.report.classwise import classwise
from sevenfold.train import sparing

FLAGGED = {
    "operation": "rotation_degrees",
    "direction": "most",
    "label": "<b>six</b>",
    "pictures": 32,
    "clean": 0.9375,
    "augmented": 0.125,
    "into": "nine",
    "p": 1e-6,
    "verdict": "changes the label",
}
CHECK = {
    "operations": ["flip", "rotation_degrees"],
    "pictures": 64,
    "accuracy": 0.875,
    "flagged": [FLAGGED],
    "hard": 1,
    "classes": 3,
    "too_few": 0,
    "reason": "",
    "insisted": False,
}
PLAIN = {"strength": 1.0, "views": 1, "score": 0.8, "accuracy": 0.9, "seconds": 0.1}
BOTH = {"strength": 1.5, "views": 2, "score": 0.85, "accuracy": 0.89, "seconds": 70.0}


def page(check: dict[str, Any], ways: list[dict[str, Any]], **more: Any) -> str:
    found = {"label_check": check, "rare": ["nine"], "rare_views": ways}
    return report.render(report_facts() | {"classwise": found} | more)


def said(check: dict[str, Any], ways: list[dict[str, Any]]) -> str:
    found = classwise({"classwise": {"label_check": check, "rare": ["nine"], "rare_views": ways}})
    return " ".join(found.get("said", ()))


def test_what_was_left_out_is_told_with_its_reason() -> None:
    text = page(CHECK, [])
    assert "left out for it" in text
    assert "&lt;b&gt;six&lt;/b&gt;" in text
    assert "<b>six</b>" not in text
    assert "rotation degrees most" in text
    assert "93.8" in text
    assert "12.5" in text


def test_who_insists_reads_that_it_was_kept() -> None:
    assert "recipe insists" in said(CHECK | {"insisted": True}, [])


def test_nothing_found_and_nothing_looked_at_are_told_apart() -> None:
    assert "None changes what a class shows" in said(CHECK | {"flagged": []}, [])
    assert said({"reason": "there is no trunk"}, []) == (
        "The label check was left out: there is no trunk."
    )
    assert said({}, []) == ""
    assert 'id="classwise"' not in report.render(report_facts())


FEW = CHECK | {"flagged": [], "too_few": 2}


def test_classes_of_too_few_pictures_are_told_and_are_no_pass() -> None:
    some = said(FEW, [])
    assert "Too few to judge for 2 of 3 classes" in some
    assert "None changes what any other class shows" in some
    every = said(FEW | {"too_few": 3}, [])
    assert "Too few to judge for 3 of 3 classes" in every
    assert "None changes" not in every
    assert "Too few to judge for 2 of 3 classes" in page(CHECK | {"too_few": 2}, [])
    before = {name: held for name, held in FEW.items() if name != "classes"}
    assert "Too few" not in said(before, [])  # of a report that counted otherwise
    (line,) = terminal._label_check(FEW)
    assert line.endswith("too few to judge for 2 of 3 classes")
    assert list(terminal._label_check(before)) == []


def test_the_facts_count_classes(tmp_path) -> None:
    finding = augmentation.Finding("flip", "", "a", 4, 1.0, 0.5, "b", 0.6, "too few")
    others = [replace(finding, operation="hue"), replace(finding, label="b", verdict="harmless")]
    spared = sparing.Spared(("flip", "hue"), 8, 0.5, (finding, *others))
    split = data.split(data.read(str(photos.write(tmp_path, {"blue": 8, "red": 8}))))
    fitted: Any = SimpleNamespace(spared=spared, looks=())
    check = account.classwise(fitted, split)["label_check"]
    assert (check["too_few"], check["classes"]) == (1, 2)


def test_stronger_views_of_rare_classes_are_told_with_what_they_took() -> None:
    ways = [PLAIN | {"chosen": False}, BOTH | {"chosen": True}]
    told = said({}, ways)
    assert "(nine) are shown 2 times the views and views 1.5 times as strong" in told
    assert "70 s" in told or "1 min" in told
    text = page({}, ways, objective="balanced_accuracy")
    assert "85.0" in text


def test_views_that_did_not_help_are_told_to_be_switched_off() -> None:
    ways = [PLAIN | {"chosen": True}, BOTH | {"chosen": False}]
    assert "tried and switched off" in said({}, ways)


@pytest.mark.parametrize("insisted", [False, True])
def test_the_terminal_names_each_class_and_operation(insisted: bool) -> None:
    lines = list(terminal._label_check(CHECK | {"insisted": insisted}))
    assert len(lines) == 1
    assert "<b>six</b> by rotation_degrees most, into nine" in lines[0]
    assert ("insist" in lines[0]) == insisted
    assert list(terminal._label_check({})) == []
    assert "4 more" in list(terminal._label_check(CHECK | {"flagged": [FLAGGED] * 10}))[-1]


def test_what_training_saw_is_shown_of_each_class_as_it_is(tmp_path) -> None:
    folder = photos.write(tmp_path, {"blue": 8, "red": 8})
    split = data.split(data.read(str(folder)))
    settings = Augmentation(class_off={"red": "flip, crop"})
    recipe = Recipe(side=16, views=2, epochs=3, augmentation=settings)
    network = SimpleNamespace(blocks=[0] * 8)

    def seen(blocks: int) -> list[dict[str, Any]]:
        own = replace(recipe, transfer=replace(recipe.transfer, trainable_blocks=blocks))
        fitted = SimpleNamespace(
            recipe=own, ships=[SimpleNamespace(network=network)], members=[SimpleNamespace(seed=5)]
        )
        asked.clear()
        return account.views(fitted, split)

    asked: list[tuple[Augmentation, str]] = []
    viewer = augmentation.viewer

    def spied(one: Augmentation, side: int, salt: str) -> Any:
        asked.append((one, salt))
        return viewer(one, side, salt)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augmentation, "viewer", spied)
        assert [len(one["views"]) for one in seen(3)] == [2, 2]
        assert [salt for _, salt in asked] == ["", ""]
        each = augmentation.for_classes(settings, ["blue", "red"])
        assert [one for one, _ in asked] == list(each)
        assert each[0] != each[1]
        assert [len(one["views"]) for one in seen(8)] == [3, 3]
        assert [salt for _, salt in asked] == ["5", "5"]
