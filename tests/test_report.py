import base64
import copy
import hashlib
import itertools
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

import report_facts
from sevenfold import account, plots, report
from sevenfold.errors import DataError
from sevenfold.practices import ensembling
from sevenfold.practices.imbalance import Imbalance
from sevenfold.recipe import Recipe
from sevenfold.report import curves, words
from sevenfold.report.card import CODE, escaped
from sevenfold.report.operating import operating
from sevenfold.report.page import LIMIT_BYTES, _classes, cleaned, fitted
from sevenfold.report.verdict import verdict
from sevenfold.train import student
from sevenfold.train.balance import Tried

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; </style><script>alert(1)</script>",
    "new\nline\r\n\x00\x1b[2J\x85",
    "\u202egnp.elif\u2066\u200f\u061c",
    "{{ 7 * 7 }}{% raw %}",
    "[link](javascript:alert(1)) ![i](http://example.org/x.png) `code` | pipe",
    "https://example.org www.example.org <b>&amp;</b> # title",
    "x" * 10_000,
    "\ud800 lone",
    "",
)
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Collect what a browser would see, and check that every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def hostile(value: Any, name: str) -> Any:
    """Put a name in the place of every text of the facts."""
    if isinstance(value, dict):
        return {
            key: item if key == "schema" else hostile(item, name) for key, item in value.items()
        }
    if isinstance(value, list):
        return [hostile(item, name) for item in value]
    return name if isinstance(value, str) else value


def changed(**parts: Any) -> dict[str, Any]:
    """Return the made-up facts with other values inside their parts."""
    found = copy.deepcopy(report_facts.facts())
    for key, value in parts.items():
        found[key] = {**found[key], **value} if isinstance(value, dict) and value else value
    return found


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(report.render(report_facts.facts()))


# The first screen.


def test_the_verdict_opens_the_page(page: Page) -> None:
    text = page.text.replace("\u202f", " ")
    assert "Tells 10 kinds of picture apart; right on 93.8 % of 372 pictures it never saw." in text
    assert "95 % interval 90.9 to 95.8 %." in text
    assert "the most common kind, is right on 20.4 %" in text
    assert text.index("Tells 10 kinds") < text.index("How sure that is")
    assert "13.6 MB" in text
    assert "17.4 ms" in text
    assert "AMD EPYC 7B13, 2 cores" in text
    assert "Label more pictures of Skirt" in text


def test_a_score_that_a_constant_answer_could_have_is_not_praised() -> None:
    facts = changed(test={"accuracy": {"value": 0.25, "low": 0.18, "high": 0.33}})
    headline = verdict(facts)["headline"]
    assert headline.startswith("Not shown to be better than one constant answer")
    better = changed(test={"accuracy": {"value": 0.25, "low": 0.21, "high": 0.33}})
    assert verdict(better)["headline"].startswith("Tells 10 kinds")


def test_a_score_without_interval_is_held_against_the_constant_answer_too() -> None:
    facts = changed(test={"accuracy": {"value": 0.2}})
    assert verdict(facts)["headline"].startswith("Not shown")


def test_the_balanced_objective_speaks_of_each_kind() -> None:
    found = verdict(changed(objective="balanced_accuracy"))
    assert "of each kind on average" in found["headline"]
    assert "10.0" in str(found["figure"])
    assert any("Over all test pictures together" in line for line in found["lead"])


def remarks(facts: dict[str, Any]) -> str:
    return "\n".join(f"{remark.tone}: {remark.text}" for remark in verdict(facts)["sure"])


def test_what_weakens_the_verdict_is_said_first() -> None:
    plain = remarks(report_facts.facts())
    assert "warn" not in plain
    assert "6 of 10 classes have under 60 test pictures" in plain
    weak = changed(
        test={"trustworthy": False, "groups": 7},
        data={"openings": 14, "small_data": True},
        validation={"accuracy": {"value": 0.99, "low": 0.98, "high": 1.0}},
    )
    said = remarks(weak)
    assert said.startswith("warn")
    assert "only 7 independent groups" in said
    assert "opened 14 times" in said
    assert "Validation says 99.0" in said
    assert "Fewer than 1,000 pictures" in said
    assert "halve it" not in said
    assert "never saw" not in verdict(weak)["headline"]


@pytest.mark.parametrize(("openings", "warned"), [(1, False), (10, False), (11, True)])
def test_more_than_ten_openings_ask_for_fresh_pictures(openings: int, warned: bool) -> None:
    assert ("were opened" in remarks(changed(data={"openings": openings}))) is warned


@pytest.mark.parametrize(
    ("error", "tone"),
    [
        ({"value": 0.01, "low": 0.0, "high": 0.03}, "good: Its stated"),
        ({"value": 0.04, "low": 0.01, "high": 0.08}, "note: Its stated"),
        ({"value": 0.12, "low": 0.08, "high": 0.16}, "warn: Its stated"),
    ],
)
def test_calibration_is_judged_by_its_interval(error: dict[str, float], tone: str) -> None:
    assert tone in remarks(changed(test={"calibration_error": error}))


# The sections.


def test_every_section_is_there_in_order(page: Page) -> None:
    found = [attrs["id"] for attrs in page.every("section")]
    assert found == [
        "scores",
        "data",
        "training",
        "vote",
        "rare",
        "confusion",
        "classes",
        "mistakes",
        "augmentation",
        "practices",
        "reproduce",
    ]
    links = [attrs["href"] for attrs in page.every("a")]
    assert links == ["#main", *(f"#{name}" for name in found)]


@pytest.mark.parametrize(
    ("key", "gone"),
    [
        ("data", "data"),
        ("training", "training"),
        ("ensembling", "vote"),
        ("imbalance", "rare"),
        ("mistakes", "mistakes"),
        ("augmentation", "augmentation"),
        ("practices", "practices"),
        ("test", "confusion"),
        ("test", "classes"),
    ],
)
def test_a_missing_part_leaves_its_section_out(key: str, gone: str) -> None:
    for missing in ({}, []):
        found = Page(report.render({**report_facts.facts(), key: missing}))
        assert gone not in [attrs["id"] for attrs in found.every("section")]
        assert f"#{gone}" not in [attrs["href"] for attrs in found.every("a")]


def test_nothing_is_needed() -> None:
    for key in report_facts.facts():
        if key != "schema":
            Page(report.render({**report_facts.facts(), key: None}))
        Page(report.render({k: v for k, v in report_facts.facts().items() if k != key}))
    assert "Not yet scored." in Page(report.render({})).text
    assert verdict(changed(test={}))["headline"].endswith("not yet scored on test pictures")


def test_numbers_that_are_none_or_not_finite_are_shown_as_missing() -> None:
    def emptied(value: Any, by: float | None) -> Any:
        if isinstance(value, dict):
            return {key: emptied(item, by) for key, item in value.items()}
        if isinstance(value, list):
            return [emptied(item, by) for item in value]
        return by if isinstance(value, float) else value

    for by in (None, math.nan, math.inf):
        text = Page(report.render(emptied(report_facts.facts(), by))).text
        assert not re.search(r"\b(nan|None|inf)\b", text)


def test_another_schema_is_refused() -> None:
    with pytest.raises(DataError, match="report/2"):
        report.render({"schema": "sevenfold.report/2"})


def test_classes_are_sorted_by_recall_and_marked_when_too_few(page: Page) -> None:
    text = page.text
    table = text[text.index("Recall, precision and F1 of each class") :]
    assert (
        table.index("Shirt too few to judge") < table.index("Longsleeve") < table.index("T-Shirt")
    )


def test_out_of_fold_recall_stands_beside_the_test() -> None:
    folds = report_facts.scores(report_facts.LABELS, tuple(4 * n for n in report_facts.PICTURES))
    text = Page(report.render(changed(out_of_fold=folds))).text
    table = text[text.index("Recall, precision and F1 of each class") :]
    assert "Out of fold" in table
    shirt = folds["classes"][4]["recall"]["value"]
    assert words.percent(shirt).replace("\u202f", " ") in table


def test_without_folds_the_recall_on_validation_stands_beside_it(page: Page) -> None:
    assert "its recall on the validation pictures" in page.text
    bare = Page(report.render(changed(validation={}, out_of_fold={}))).text
    assert "its recall on the validation pictures" not in bare


def test_the_counts_of_the_data_add_up(page: Page) -> None:
    assert "All 3,636 458 372" in page.text


# What the practices did.


def told(facts: dict[str, Any]) -> str:
    return Page(report.render(facts)).text.replace("\u202f", " ")


def section(facts: dict[str, Any], name: str) -> str:
    """Return the text of one section of the page."""
    html = report.render(facts)
    start = html.index(f'<section id="{name}"')
    return Page(html[start : html.index("</section>", start) + 10]).text.replace("\u202f", " ")


def test_the_vote_says_what_it_bought_kept_cost_and_ships() -> None:
    said = section(report_facts.facts(), "vote")
    assert "Measured on the 458 pictures of validation" in said
    assert "The vote of 3 members has a log loss of 0.224, 15.2 % less than the 0.264" in said
    assert "right on 94.1 %, 6.4 pictures more than its members on average (92.7 %)" in said
    assert "keeps 75 % of what the vote gained in log loss: its own is 0.234" in said
    assert "As far as these pictures tell, that is -0.004 to +0.024 against the vote's." in said
    assert "At least 70 % is asked, so the student ships, at the cost of one network." in said
    assert "57 s in the median, all for 2 min 53 s, and the student 1 min 1 s: 4.1 times" in said
    assert re.search(r"Member 2, seed 1 has no say 0 % 92.2 % 0.274", said)
    assert re.search(r"Vote the mean of their probabilities 94.1 % 0.224", said)
    assert re.search(r"Student ships 93.7 % 0.234", said)


def test_the_differences_of_members_are_read_in_words() -> None:
    said = section(report_facts.facts(), "vote")
    assert "7.1 % of the pictures get different answers" in said
    assert "nearly one model" not in said
    # One of two errors at 7.3 % with a correlation of 0.52: 0.073 + 0.52 * 0.927.
    assert "another is wrong too about 56 % of the time; if they failed independently, 7 %" in said
    assert "96.7 % of the pictures have a member that is right" in said
    assert "0.031 nats less" in said
    alike = voted()
    alike["ensembling"]["diversity"] |= {"disagreement": 0.012, "ambiguity_gap": -0.004}
    said = section(alike, "vote")
    assert "nearly one model" in said
    assert "0.004 nats more" in said


def test_errors_that_do_not_vary_have_no_correlation() -> None:
    members = [{"accuracy": share, "nll": 0.2} for share in (1.0, 1.0, 0.9)]
    assert "Correlation of errors" in section(voted(), "vote")
    assert "Correlation of errors" not in section(voted(members=members), "vote")


def voted(**parts: Any) -> dict[str, Any]:
    facts = report_facts.facts()
    facts["ensembling"] |= parts
    return facts


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (
            {"ships": "vote", "student": {"accuracy": 0.93, "nll": 0.25}},
            (
                "keeps 35 % of what",
                "At least 70 % is asked, so the vote ships: 2 networks in one file",
            ),
        ),
        (
            {"ships": "vote", "student": {"accuracy": 0.93, "nll": 0.29}},
            ("keeps nothing of the gain", "so the vote ships"),
        ),
        ({"ships": "vote", "student": {}}, ("The vote ships: 2 networks in one file",)),
        ({"student": {"accuracy": 0.95, "nll": 0.22}}, ("does at least as well as the vote",)),
        (
            {"student": {"accuracy": 0.93, "nll": 0.25}, "nearer": 0.8},
            ("keeps 35 % of what", "80 % nearer to the vote", "so the student ships"),
        ),
        (
            {"ships": "vote", "student": {"accuracy": 0.95, "nll": 0.22}, "nearer": -0.1},
            ("10 % farther from", "At least 70 % is asked, so the vote ships"),
        ),
        ({"student": {"accuracy": 0.93, "nll": 0.25}}, ("The student ships, as was asked for",)),
        (
            {"pooled": {"accuracy": 0.92, "nll": 0.27}, "ships": "member"},
            ("bought nothing", "3.2 pictures fewer", "neither the vote nor a student"),
        ),
        (
            {"pooled": {"accuracy": 0.92, "nll": 0.27}},
            ("bought nothing", "no worse than a member is on average"),
        ),
        (
            {"ships": "member", "weights": [0.0, 1.0, 0.0], "student": {}},
            (
                "Selection on these pictures gave one of 3 members all the say",
                "The selected member ships.",
                "Member 2, seed 1 ships",
            ),
        ),
    ],
)
def test_what_ships_is_said_with_its_reason(
    parts: dict[str, Any], expected: tuple[str, ...]
) -> None:
    said = section(voted(**parts), "vote")
    for words_ in expected:
        assert words_ in said


def test_a_vote_that_ships_tells_what_it_costs_beside_one_of_its_networks() -> None:
    facts = voted(ships="vote", student={})
    assert "Deployed" not in section(facts, "vote")
    facts["bundle"] |= {
        "megabytes": 45.04, "network_latency_ms": 30.2,
        "voter": {"megabytes": 13.5, "network_latency_ms": 19.0},
    }  # fmt: skip
    said = section(facts, "vote")
    assert "Deployed it has 45.0 MB and takes 30.2 ms for a picture" in said
    assert "one of its networks 13.5 MB and 19.0 ms." in said


def test_weights_that_were_chosen_on_the_pictures_that_judge_are_told() -> None:
    flattered = "chosen on these very pictures"
    assert flattered in section(voted(weights=[0.5, 0.25, 0.25]), "vote")
    assert flattered not in section(voted(weights=[1 / 3] * 3), "vote")
    assert flattered not in section(voted(weights=[0.0, 1.0, 0.0]), "vote")


def test_the_share_that_is_kept_is_drawn_only_where_there_is_a_gain() -> None:
    assert 'class="scale"' in report.render(report_facts.facts()).split('<section id="vote"')[1]
    for parts in ({"student": {}}, {"pooled": {"accuracy": 0.9, "nll": 0.3}}):
        assert 'class="scale"' not in report.render(voted(**parts)).split('<section id="vote"')[1]


def test_out_of_fold_and_missing_times_are_told_as_they_are() -> None:
    facts = report_facts.facts()
    facts["data"]["small_data"] = True
    said = section(facts, "vote")
    assert "pictures answered out of fold" in said
    assert "without the trainings that leave a fold out" in said
    assert "in the median" not in section(voted(seconds_member=0.0, seconds_members=0.0), "vote")


def test_many_members_are_counted_not_listed() -> None:
    many = voted(members=[{"accuracy": 0.9, "nll": 0.3}] * 100, weights=[0.01] * 100)
    said = section(many, "vote")
    assert "80 further members left out" in said
    assert "Member 20" in said
    assert "Member 21" not in said


def test_the_costs_say_how_many_networks_vote() -> None:
    notes = [cost.note for cost in verdict(voted(ships="vote"))["costs"]]
    assert any("2 networks vote inside the file" in note for note in notes)
    assert not any("vote" in cost.note for cost in verdict(report_facts.facts())["costs"])


def test_the_choice_for_rare_classes_is_told_with_its_price() -> None:
    said = section(changed(objective="balanced_accuracy"), "rare")
    assert "Chosen of 3 ways: balanced softmax. Of those that leave balanced accuracy" in said
    assert "it has the lowest log loss, more than a standard error" in said
    assert "imbalance.price" not in said
    assert "It reaches 92.5 %, plain training 90.6 %." in said
    assert "rarer half of the classes rises by 5.1 points on average" in said
    assert "commoner half falls by 1.4 points" in said
    assert "do not count its answers" in said
    assert "Logit adjustment after training, strength 0.5 0.221 91.8 % 93.2 % 89.3 % 94.3 %" in said
    assert "Balanced softmax chosen 0.219 92.5 %" in said
    plain = section(report_facts.facts(), "rare")
    assert "Balanced accuracy" not in plain
    assert "that leave accuracy where it is" in plain
    dear = report_facts.facts()
    dear["imbalance"]["price"] = {"rare": 0.4, "common": -0.1}
    assert "imbalance.price = 0.02 has `auto` stay below 2.0 points there" in section(dear, "rare")


def test_no_gain_for_rare_classes_is_said_too() -> None:
    facts = report_facts.facts()
    facts["imbalance"] |= {"method": "none", "price": {}}
    said = section(facts, "rare")
    assert "Nothing was done: of 3 ways, none that leaves accuracy where it is" in said
    assert "Its price" not in said
    assert "do not count" not in said
    assert "Plain training chosen" in said


@pytest.mark.parametrize(
    ("method", "ratio", "expected"),
    [
        ("none", 1.2, "the largest class has 1.2 times the training pictures of the smallest"),
        ("none", 6.6, "Nothing was done for rare classes, as the recipe says."),
        ("class_weights", 6.6, "helped by class weights, strength 0.5, as the recipe says"),
    ],
)
def test_without_a_choice_one_sentence_tells_how_rare_classes_are_helped(
    method: str, ratio: float, expected: str
) -> None:
    facts = changed(data={"imbalance_ratio": ratio})
    facts["imbalance"] = {
        "method": method,
        "strength": 0.5 if method == "class_weights" else 1.0,
        "balanced_ratio": 1.5,
        "tried": [],
    }
    said = section(facts, "rare")
    assert expected in said
    assert "Rarer half" not in said


def test_the_switch_of_the_optimizer_is_told(page: Page) -> None:
    assert "switched from Adam to SGD so: seed 0 after 228 of 798 steps at 38 times" in page.text
    assert "seed 2 not at all in 798 steps; the student after 228 of 798" in page.text
    assert page.text.count("(a rate is the median of the groups of weights)") == 1
    facts = report_facts.facts()
    facts["training"]["members"] = [
        {**report_facts.member(0, 9), "steps": None, "decision": {"step": 9, "ratios": [2512.0]}}
    ]
    assert (
        "The optimizer switched from Adam to SGD after 9 steps at 2,500 times Adam's rate."
        in told(facts)
    )
    facts["training"]["members"][0]["decision"] = None
    assert "SGD" not in section(facts, "training")


def test_the_student_is_marked_among_the_trained_networks(page: Page) -> None:
    assert re.search(r"\b3 student 14 13\b", page.text)
    assert "measured against the vote's answers" in page.text


# The facts of the practices.


def student_of(logits: list[Any], taught: Any, labels: Any, **parts: Any) -> Any:
    """Make up what `fit` returns, as far as the account of the vote reads it."""
    epoch = SimpleNamespace(seconds=2.0)

    def member(said: Any) -> Any:
        return SimpleNamespace(logits=said, trained=SimpleNamespace(history=(epoch, epoch)))

    members = tuple(map(member, logits))
    student = None if taught is None else member(taught)
    fitted = {
        "recipe": Recipe(),
        "members": members,
        "weights": np.ones(len(members)) / len(members),
        "student": student,
        "averaged": False,
        "lessons": None,
        "ships": (student,) if student else members,
        "labels": labels,
    }
    return SimpleNamespace(**(fitted | parts))


def answered(labels: Any, sharpness: float, seed: int, wrong: int = 8) -> Any:
    """Make up logits of 60 pictures, of which some are answered wrongly."""
    noise = np.random.default_rng(seed)
    logits = noise.normal(size=(len(labels), 3)) / 2
    logits[np.arange(len(labels)), labels] += 3
    for at in noise.choice(len(labels), wrong, replace=False):
        logits[at] = np.roll(logits[at], 1)
    return (sharpness * logits).astype(np.float32)


def test_sharpness_is_no_gain_in_the_account_of_the_vote() -> None:
    labels = np.arange(60) % 3
    logits = [answered(labels, 1.0, seed) for seed in range(3)]
    sharp = [answered(labels, sharpness, seed) for seed, sharpness in enumerate((0.3, 4, 9))]
    told, again = (account.voting(student_of(said, None, labels)) for said in (logits, sharp))
    for one, other in zip(told["members"], again["members"], strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    for key in ("mean_nll", "pooled_nll", "ambiguity_gap"):
        assert told["diversity"][key] == pytest.approx(again["diversity"][key], abs=1e-4)
    mean = np.mean([member["nll"] for member in told["members"]])
    assert told["diversity"]["mean_nll"] == pytest.approx(mean)
    assert told["pooled"]["nll"] < mean
    assert (told["ships"], told["seconds_member"], told["seconds_members"]) == ("vote", 4.0, 12.0)
    assert "student" not in told


def test_what_ships_is_the_student_the_vote_or_one_member() -> None:
    labels = np.arange(60) % 3
    logits = [answered(labels, 1.0, seed) for seed in range(3)]
    taught = student_of(logits, answered(labels, 1.0, 7, wrong=2), labels)
    told = account.voting(taught)
    assert (told["ships"], told["needed"], told["seconds_student"]) == ("student", 0.7, 4.0)
    assert told["nearer"] < 1
    log_p = [student.calibrated(one.logits, labels) for one in taught.members]
    vote = student.calibrated(ensembling.pool(np.stack(log_p), np.ones(3), "soft"), labels)
    assert account.practised._nearer(vote, vote, np.stack(log_p)) == pytest.approx(1)
    assert account.practised._nearer(log_p[0], vote, np.stack([log_p[0]])) == pytest.approx(0)
    alone = student_of(logits, None, labels, ships=taught.members[:1])
    assert account.voting(alone)["ships"] == "member"
    assert account.voting(student_of(logits[:1], None, labels)) == {}


def test_what_was_tried_for_rare_classes_has_recalls_by_half_and_no_nan() -> None:
    labels = np.repeat([0, 1, 2, 3], (40, 30, 6, 5))
    tried = (
        Tried("none", 1.0, 0.6, 0.9, 0.8, (1.0, 0.8, 0.5, math.nan)),
        Tried("adjusted_after", 0.5, 0.7, 0.8, 0.79, (0.9, 0.8, 0.75, math.nan)),
    )
    split = SimpleNamespace(
        dataset=SimpleNamespace(classes=("a", "b", "c", "d"), labels=labels),
        train=np.arange(len(labels)),
    )
    recipe = replace(Recipe(), imbalance=Imbalance(method="adjusted_after", strength=0.5))
    told = account.balance(SimpleNamespace(recipe=recipe, tried=tried), split)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    # Of the three that have pictures there, the middle one is in neither half.
    assert [(one["common"], one["rare"]) for one in told["tried"]] == [(1.0, 0.5), (0.9, 0.75)]
    assert told["price"] == pytest.approx({"common": -0.1, "rare": 0.25})
    assert told["tried"][0]["recalls"][3] is None
    given = account.balance(SimpleNamespace(recipe=recipe, tried=()), split)
    assert (given["method"], given["tried"], "price" in given) == ("adjusted_after", [], False)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({}, ""),
        ({"pooled": {"accuracy": 0.9, "nll": 0.3}}, "ensembling.members=1"),
        ({"ships": "vote"}, "Raise ensembling.lessons"),
        ({"ships": "vote", "student": None}, "ensembling.distil=true"),
        ({"ships": "vote", "averaged": True}, "ensembling.distil=true"),
        ({"ships": "vote", "averaged": True, "lessons_lost": True}, "Raise ensembling.lessons"),
        ({"ships": "member"}, ""),
    ],
)
def test_the_advice_follows_the_vote(parts: dict[str, Any], expected: str) -> None:
    facts = voted(**parts)
    if facts["ensembling"]["student"] is None:
        del facts["ensembling"]["student"]
    said = " ".join(account.advice(facts))
    assert expected in said
    assert bool(expected) is ("ensembling." in said)


def test_a_quick_run_is_told_what_a_normal_one_adds() -> None:
    facts = changed(run={"budget": "quick"})
    assert "--budget normal: it trains for longer." in " ".join(account.advice(facts))
    facts["ensembling"] = {}
    assert "whose average ships where it keeps enough of what their vote gains" in " ".join(
        account.advice(facts)
    )
    assert "--budget" not in " ".join(account.advice(report_facts.facts()))


# Safety, size, reading.


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(name: str) -> None:
    html = report.render(hostile(report_facts.facts(), name))
    found = Page(html)
    assert {tag for tag, _ in found.tags}.isdisjoint({"script", "iframe", "object"})
    assert not any(key.startswith("on") for _, attrs in found.tags for key in attrs)
    assert all(attrs["src"] is not None for attrs in found.every("img"))
    assert all((attrs["href"] or "").startswith(("#", "data:,")) for attrs in found.every("a"))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u200e\u200f]", html)
    html.encode("utf-8")
    assert len(html) < 1_000_000
    assert ("7 * 7" in found.text) is ("7 * 7" in name)


def test_only_pictures_are_embedded() -> None:
    facts = report_facts.facts()
    for bad in (
        "javascript:alert(1)",
        "data:image/svg+xml;base64,PHN2Zz4=",
        "data:text/html;base64,PHN2Zz4=",
        'data:image/jpeg;base64,AAAA" onerror="alert(1)',
        "https://example.org/a.jpg",
        "data:image/jpeg;base64,AAAA\n",
    ):
        facts["mistakes"] = [{"path": "p", "label": "a", "answer": "b", "image": bad}]
        facts["augmentation"] = [{"label": "a", "original": bad, "views": [bad, bad]}]
        assert Page(report.render(facts)).every("img") == []


def test_nothing_is_loaded_and_nothing_runs(page: Page) -> None:
    html = report.render(report_facts.facts())
    policy = next(
        m["content"] for m in page.every("meta") if "content" in m and m.get("http-equiv")
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    css = html[html.index("<style>") + 7 : html.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    assert not any("style" in attrs for _, attrs in page.tags)
    assert all((attrs["src"] or "").startswith("data:image/") for attrs in page.every("img"))
    assert "url(" not in css
    assert "@import" not in css


def wide(classes: int) -> dict[str, Any]:
    """Return facts of very many classes, pictures, epochs and words."""
    facts = report_facts.facts()
    labels = tuple(f"class {index} " + "long " * 60 for index in range(classes))
    facts["test"] = report_facts.scores(labels, (20,) * classes)
    cells = np.random.default_rng(0).integers(0, 30, (classes, classes))
    facts["test"]["confusion"] = cells.tolist()
    facts["out_of_fold"] = facts["validation"] = facts["test"]
    facts["data"]["classes"] = [
        {"label": label, "train": index, "val": 3, "test": 20} for index, label in enumerate(labels)
    ]
    facts["data"]["quarantined"] = [{"path": "p" * 500, "reason": "r" * 500}] * 5_000
    member = {"seed": 1, "history": report_facts.history(1, 2_000), "best_epoch": 7}
    facts["training"]["members"] = [member] * 12
    big = "data:image/jpeg;base64," + "A" * 160_000
    facts["mistakes"] = [{**facts["mistakes"][0], "image": big}] * 60
    facts["augmentation"] = [{"label": "a", "original": big, "views": [big] * 30}] * 60
    facts["recipe_toml"] = "setting = 1\n" * 100_000
    facts["next"] = ["do this " * 1000] * 1000
    facts["run"]["stages"] = [{"stage": "s" * 1000, "seconds": 1.0}] * 1000
    facts["run"]["versions"] = {f"library {index}": "1" * 1000 for index in range(1000)}
    return facts


def test_the_page_stays_under_three_megabytes_and_says_what_it_left_out() -> None:
    html = report.render(wide(1_000))
    assert LIMIT_BYTES - 200_000 < len(html.encode("utf-8")) < 3_000_000
    found = Page(html)
    assert re.search(r"\d+ pictures left out to keep this page under 3 MB", found.text)
    assert "960 with higher recall left out" in found.text
    assert "The classes with most mistakes; 980 others left out." in found.text
    assert "960 larger ones left out" in found.text
    assert "5,000 pictures, the first 20 shown" in found.text
    assert len(found.every("img")) >= 15


@pytest.mark.parametrize("letter", ['"', "<", "\N{FIRE}"])
def test_long_names_of_costly_letters_do_not_break_the_bound(letter: str) -> None:
    facts = report_facts.facts()
    names = {"label": letter * 9_999, "answer": letter * 9_999, "path": letter * 9_999}
    small = "data:image/jpeg;base64," + "A" * 24_000
    facts["mistakes"] = [{**names, "probability": 0.9, "image": small}] * 24
    facts["augmentation"] = [{**names, "original": small, "views": [small] * 8}] * 12
    html = report.render(facts)
    assert LIMIT_BYTES - 300_000 < len(html.encode("utf-8")) < 3_000_000


def test_pictures_that_fit_are_kept_in_order() -> None:
    assert fitted(["a" * 10, "", "b" * 5000, "c"], 5000) == ["a" * 10, "", "", "c"]
    assert fitted(["a"], 0) == [""]


def test_long_texts_and_keys_are_cut() -> None:
    found = cleaned({"k" * 500: ["v" * 500], "next": ["n" * 500], "recipe_toml": "a\x00\n\tb"})
    keys = list(found)
    assert len(keys[0]) == 60
    assert len(found[keys[0]][0]) == 120
    assert len(found["next"][0]) == 400
    assert found["recipe_toml"] == "a\nb"


def test_a_screen_reader_finds_its_way(page: Page) -> None:
    names = [tag for tag, _ in page.tags]
    assert page.every("html") == [{"lang": "en"}]
    for landmark in ("main", "nav", "footer"):
        assert names.count(landmark) == 1
    levels = [int(tag[1]) for tag in names if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(page.every("caption")) == len(page.every("table"))
    assert all("scope" in attrs for attrs in page.every("th"))
    assert all(attrs.get("alt") for attrs in page.every("img"))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in page.tags:
        for target in (attrs.get("aria-labelledby") or "").split():
            assert target in ids
    for figure in page.every("svg"):
        hidden = figure.get("aria-hidden") == "true" or "class" not in figure
        assert hidden or figure.get("role") == "img"


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def mixed(over: str, under: str, share: float) -> str:
    pairs = [(int(over[at : at + 2], 16), int(under[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02x}" for a, b in pairs)


def palettes() -> list[dict[str, str]]:
    css = report.render({})
    roots = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", root)) for root in roots]
    light = found[0]
    return [light, {**light, **found[1]}]


@pytest.mark.parametrize("index", [0, 1])
def test_colours_have_contrast_in_light_and_dark(index: int) -> None:
    colours = palettes()[index]
    for name in ("ink", "quiet", "accent", "warn", "good", "second"):
        assert contrast(colours[name], colours["paper"]) >= 4.5, name
    for name in ("ink", "quiet"):
        assert contrast(colours[name], colours["soft"]) >= 4.5, name
    for name in ("train", "val", "test", "third"):
        assert contrast(colours[name], colours["paper"]) >= 3, name
    for name in ("heat-right", "heat-wrong"):
        strongest = mixed(colours[name], colours["paper"], 0.66)
        assert contrast(colours["ink"], strongest) >= 4.5, name


# Numbers in words.


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.927, "92.7"),
        (1.0, "100"),
        (0.0, "0"),
        (0.9999, ">99.9"),
        (0.00001, "<0.1"),
        (math.nan, "–"),  # noqa: RUF001
    ],
)
def test_a_share_is_never_rounded_to_all_or_nothing(value: float, text: str) -> None:
    assert words.percent(value, unit=False) == text


def test_times_and_sizes_are_written_as_people_do() -> None:
    assert [words.duration(s) for s in (0.04, 59.6, 60, 3599.9)] == [
        "0.0 s",
        "1 min 0 s",
        "1 min 0 s",
        "1 h 0 min",
    ]
    assert words.megabytes(1912.4).replace("\u202f", " ") == "1.9 GB"
    assert words.milliseconds(0.123).replace("\u202f", " ") == "0.12 ms"
    assert words.day("2025-11-24T12:20:00+00:00") == "24 November 2025, 12:20 UTC"
    assert words.day("yesterday") == "yesterday"


def test_pairs_are_counted_within_the_label() -> None:
    found = words.confused(
        {
            "classes": [{"label": "a"}, {"label": "b"}],
            "confusion": [[8, 2], [3, 7]],
        },
        5,
    )
    assert found == [words.Pair("b", "a", 3, 10), words.Pair("a", "b", 2, 10)]


# The model card.


def rendered(markdown: str) -> str:
    return str(MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(markdown))


def test_the_card_states_the_facts() -> None:
    text = report.model_card(report_facts.card()).replace("\u202f", " ")
    assert "right on 93.8 % of 372 test pictures (95 % interval 90.9 to 95.8 %)" in text
    assert "0123456789abcdef" * 4 in text
    assert "Apache-2.0" in text
    assert "17.4 ms with one thread on AMD EPYC 7B13, 2 cores" in text
    assert "No licence was given" in text
    assert "too few to judge" in text
    html = rendered(text)
    assert html.count("<table>") == 2
    assert html.count("<h1>") == 1


@pytest.mark.parametrize(
    ("voters", "ships", "expected"),
    [
        (3, "student", "one network that learned from the vote of 3 networks"),
        (2, "vote", "the vote of 2 networks inside `model.onnx`"),
        (1, "member", ""),
        (None, "", ""),
    ],
)
def test_the_card_says_who_voted(voters: int | None, ships: str, expected: str) -> None:
    text = report.model_card({**report_facts.card(), "voters": voters, "ships": ships})
    assert expected in text
    assert bool(expected) is ("the vote of" in text)


def test_the_card_names_all_weights_that_ship() -> None:
    other = {
        "name": "timm/resnet18", "sha256": "fed" * 21, "licence": "apache-2.0", "source": "hub",
    }  # fmt: skip
    text = report.model_card({**report_facts.card(), "other_weights": [other]})
    assert "timm/resnet18" in text
    assert "fed" * 21 in text
    assert text.count("Licence of the weights") == 2


def test_the_card_warns_of_counting_where_rare_classes_were_helped() -> None:
    assert "Do\n  not count its answers" in report.model_card(report_facts.card())
    plain = report.model_card({**report_facts.card(), "imbalance": "none"})
    assert "not count its answers" not in plain


def test_the_card_names_a_licence_that_is_given() -> None:
    card = {**report_facts.card(), "licence": "MIT OR Apache-2.0"}
    text = report.model_card(card)
    assert "MIT OR Apache-2.0" in text
    assert "No licence was given" not in text


def test_the_notice_of_the_data_is_in_the_card() -> None:
    card = report_facts.card()
    card["data"]["notice"] = "CC BY-NC-SA 4.0: not for commercial use."
    assert "not for commercial use" in report.model_card(card)


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_in_names_stays_text(name: str) -> None:
    html = rendered(report.model_card(hostile(report_facts.card(), name)))
    found = Page(html.replace("<br />", "").replace("<hr />", ""))
    assert {tag for tag, _ in found.tags} <= {
        *("h1", "h2", "p", "pre", "code", "table", "thead", "tbody", "tr", "th", "td", "ul", "li")
    }
    assert len(found.every("h1")) == 1
    assert len(found.every("table")) == 2


def test_an_empty_card_and_many_classes_can_be_written() -> None:
    assert "# Image classifier" in report.model_card({})
    many = [f"c{index}" for index in range(1000)]
    text = report.model_card({"classes": many})
    assert "940 more are listed in `labels.txt`" in text
    assert "tells 1,000 kinds" in text


@pytest.mark.parametrize("name", ["1. one", "- list", "+ list", "# head", "> quote", "a*b*"])
def test_a_name_alone_in_a_line_is_no_block(name: str) -> None:
    html = rendered(f"* {escaped(name)}")
    assert Page(html).text.strip() == name
    assert html.count("<li>") == 1
    assert "<h1>" not in html


def test_the_code_of_the_card_runs(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper
    from PIL import Image

    card = report.model_card(report_facts.card())
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    assert code[1] == CODE
    # Class 0 for a picture whose first row is dark, class 1 for a bright one.
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["real", "zero"], ["row"], axis=1),
        helper.make_node("ReduceMean", ["row", "axes"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "full"], ["bright"]),
        helper.make_node("Sub", ["one", "bright"], ["dark"]),
        helper.make_node("Unsqueeze", ["bright", "last"], ["b"]),
        helper.make_node("Unsqueeze", ["dark", "last"], ["d"]),
        helper.make_node("Concat", ["d", "b"], ["probabilities"], axis=1),
    ]
    constants = [
        helper.make_tensor("zero", TensorProto.INT64, [], [0]),
        helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("last", TensorProto.INT64, [1], [1]),
        helper.make_tensor("full", TensorProto.FLOAT, [], [255.0]),
        helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
    ]
    shape = ["batch", "height", "width", 3]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "model.onnx")

    def wrote(**point: object) -> None:
        held = {"classes": ["dark", "bright side"], "operating_point": point}
        (tmp_path / "card.json").write_text(json.dumps(held), encoding="utf-8")

    pixels = np.zeros((12, 16, 3), np.uint8)
    pixels[0] = 255
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down: upright, the first row is dark
    picture = tmp_path / "photo.png"
    Image.fromarray(pixels).save(picture, exif=turned)
    (tmp_path / "classify.py").write_text(code[1], encoding="utf-8")

    def said() -> str:
        words = [sys.executable, "classify.py", str(picture)]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    wrote()
    assert said() == "dark 1.000"
    # What is seen through is white, though its pixels say black.
    Image.fromarray(np.zeros((12, 16, 4), np.uint8)).save(picture)
    assert said() == "bright side 1.000"
    # A class that is to be found is answered before it is the most probable one.
    Image.fromarray(np.full((12, 16, 3), 180, np.uint8)).save(picture)
    assert said() == "bright side 0.706"
    wrote(weights={"dark": 9.0}, thresholds={"dark": 0.1, "bright side": 0.8}, costs=[])
    assert said() == "dark 0.294"
    wrote(weights={}, thresholds={"dark": 0.1, "bright side": 0.8}, costs=[])
    assert said() == "bright side 0.706 (not sure)"
    wrote(weights={}, thresholds={}, costs=[[0, 9], [1, 0]])
    assert said() == "dark 0.294"


def test_the_card_says_which_class_is_answered() -> None:
    card = report_facts.card()
    assert report.answer_rule(card) == ""
    point = {"weights": {"cr*ck": 9.0}, "costs": [], "thresholds": {}}
    told = report.model_card(card | {"operating_point": point})
    assert "probability times its weight is the largest" in told
    assert "cr\\*ck 9" in told
    told = report.model_card(card | {"operating_point": {"costs": [[0, 9], [1, 0]]}})
    assert "least expected cost" in told


def test_the_report_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; from sevenfold import report; "
        "print(len(report.render({})) > 1000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_facts_survive_json() -> None:
    facts = report_facts.facts()
    assert report.render(json.loads(json.dumps(facts))) == report.render(facts)


def test_answers_that_are_not_the_most_probable_are_told_beside_the_scores() -> None:
    wrong = {"value": 0.152, "low": 0.12, "high": 0.19}
    point = {"rule": "min_recall", "weights": {"shirt": 9.0}, "test": {"error": wrong}}
    said = remarks(report_facts.facts() | {"operating": point})
    assert "warn: All scores but those of doubt are of the most probable class" in said
    assert "wrong on 15.2" in said
    plain = report_facts.facts() | {"operating": point | {"weights": {}}}
    assert "most probable" not in remarks(plain)


def test_a_class_without_test_pictures_is_not_judged() -> None:
    facts = report_facts.facts()
    facts["objective"] = "balanced_accuracy"
    facts["test"]["classes"][0] |= {"pictures": 0, "recall": {"value": 0, "low": 0, "high": 1}}
    assert "Tells 9 kinds" in verdict(facts)["headline"]
    assert any("11.1" in line for line in verdict(facts)["lead"])
    assert "1 of 10 classes have no test picture" in remarks(facts)
    table = _classes(facts)["rows"]
    assert math.isnan(table[-1]["recall"].value)
    card = report_facts.card()
    card["scores"] = facts["test"]
    assert "| 0 (not judged) |" in report.model_card(card)


def test_a_threshold_that_halves_nothing_does_not_claim_to() -> None:
    def said(among: float) -> str:
        error, answered = ({"value": one, "low": 0, "high": 1} for one in (0.4, among))
        chosen = {"error": error, "error_answered": answered}
        found = operating({"operating": {"rule": "halved_error", "validation": chosen}})
        return " ".join(found["said"])

    assert "at most half of that among all" in said(0.2)
    assert "No threshold that answers half" in said(0.27)


def test_a_student_that_was_pruned_did_not_ship_for_being_asked() -> None:
    facts = voted(student={"accuracy": 0.93, "nll": 0.29}, pruned=True)
    said = Page(report.render(facts)).text
    assert "The student shipped by that rule, and was pruned then" in said
    assert "pruned since" in said
    assert "as was asked for" not in said


def test_a_card_says_how_often_test_was_opened() -> None:
    card = report_facts.card()
    assert "opened 4 times" in report.model_card(card | {"data": card["data"] | {"openings": 4}})
    assert "opened once" in report.model_card(card | {"data": card["data"] | {"openings": 1}})


def test_what_pruning_cost_is_the_first_advice() -> None:
    assert account.after_pruning({}) == account.after_pruning({"drop": 0.01}) == []
    (said,) = account.after_pruning({"drop": 0.155})
    assert "Pruning cost 15.5 points" in said
    assert "rollback" in said


def test_a_card_says_at_once_that_its_score_is_not_of_what_is_answered() -> None:
    point = {"weights": {"shirt": 9.0}, "costs": [], "thresholds": {}}
    point |= {"test": {"error": {"value": 0.781, "low": 0.6, "high": 0.9}}}
    told = report.model_card(report_facts.card() | {"operating_point": point})
    first = told.partition("## Use it")[0]
    assert "by its most probable class" in first
    assert "wrong on 78.1" in first


def test_small_data_is_not_said_to_have_been_chosen_by_validation() -> None:
    said = Page(report.render(changed(data={"small_data": True}))).text
    assert "their folds every choice" in said
    assert "out of fold, by networks of the folds" in said
    assert "validation pictures every choice" in Page(report.render(report_facts.facts())).text


def test_the_dot_marks_the_epoch_that_was_kept() -> None:
    history = [
        {"epoch": at, "loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.5 + at / 10}
        for at in range(4)
    ]
    member = {"seed": 1, "history": history, "best_epoch": 2}
    drawn: list[plots.Line] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves.plots, "chart", lambda lines, **_: drawn.extend(lines) or "")
        curves._scores([member])
    (accuracy,) = (line for line in drawn if line.label == "accuracy")
    assert accuracy.points[0] == (1, 0.5)
    assert accuracy.dots == ((3, 0.7),)
