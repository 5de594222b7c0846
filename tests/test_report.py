import base64
import copy
import hashlib
import itertools
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

import report_facts
from sevenfold import report
from sevenfold.errors import DataError
from sevenfold.report import words
from sevenfold.report.card import CODE, escaped
from sevenfold.report.page import LIMIT_BYTES, cleaned, fitted
from sevenfold.report.verdict import verdict

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
    (tmp_path / "labels.txt").write_text("dark\nbright side\n", encoding="utf-8", newline="\n")
    pixels = np.zeros((12, 16, 3), np.uint8)
    pixels[0] = 255
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down: upright, the first row is dark
    picture = tmp_path / "photo.png"
    Image.fromarray(pixels).save(picture, exif=turned)
    (tmp_path / "classify.py").write_text(code[1], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "classify.py", str(picture)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "dark 1.000"


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
