"""A thousand hostile names through all that is written: nothing escapes from its text."""

import csv
import itertools
import json
import re
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
from markdown_it import MarkdownIt
from prometheus_client.parser import text_string_to_metric_families

import report_facts
from bundles import seal, tiny_bundle
from hostile import names
from sevenfold import report, terminal
from sevenfold.answers import Answer, bare, write
from sevenfold.drift import Reference, to_card
from sevenfold.errors import ModelError, UsageError
from sevenfold.predict import load
from sevenfold.predictions import Predictions, read_predictions, write_predictions
from sevenfold.serve.collect import Collection
from sevenfold.serve.meters import Meters
from sevenfold.serve.page import page as served_page

ALL = names()
TEXT = names(lone=False, empty=False)
LINES = tuple(name for name in names(1_300, lone=False, empty=False) if "\n" not in name)[:1_000]
"""What a bundle's labels.txt can hold: one in each line."""
STEP = 100
CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066\u2067"
"""What steers a screen; of these, pages write only the isolates that end with the name."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class Elements(HTMLParser):
    """Count elements with the names of their attributes, and gather the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: Counter[tuple[str, ...]] = Counter()
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[(tag, *(name for name, _ in attrs))] += 1

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def renamed(value, name, tame: bool):
    """Put names in the place of the texts of facts, or as many tame ones."""
    if isinstance(value, dict):
        return {k: v if k == "schema" else renamed(v, name, tame) for k, v in value.items()}
    if isinstance(value, list):
        return [renamed(one, name, tame) for one in value]
    if not isinstance(value, str) or value.startswith("data:image/"):
        return value
    return "tame" if tame else next(name)


class Counted:
    """Give names in turn, from one on, and remember which."""

    def __init__(self, start: int) -> None:
        self.names, self.given = itertools.islice(itertools.cycle(ALL), start, None), set()

    def __next__(self) -> str:
        name = next(self.names)
        self.given.add(name)
        return name


def test_there_are_a_thousand_of_each() -> None:
    for many in (ALL, TEXT, LINES):
        assert len(set(many)) == len(many) == 1_000
    assert all(name.encode() for name in (*TEXT, *LINES))


def test_the_report_has_no_element_that_a_name_made() -> None:
    tame = Elements(report.render(renamed(report_facts.facts(), iter(()), True))).found
    tags, attributes = {one[0] for one in tame}, {part for one in tame for part in one[1:]}
    used: set[str] = set()
    for start in range(0, len(ALL), STEP):
        taken = Counted(start)
        html = report.render(renamed(report_facts.facts(), taken, False))
        used |= taken.given
        found = Elements(html).found
        assert {one[0] for one in found} <= tags | {"a", "bdi"}
        assert {part for one in found for part in one[1:]} <= attributes
        assert not {"script", "iframe", "object", "embed", "form", "input"} & tags
        assert not re.search(f"[{CONTROLS}]", html)
        html.encode()
    assert used == set(ALL)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return load(tiny_bundle(tmp_path_factory.mktemp("names") / "b", LINES), threads=1)


def test_the_page_has_no_element_that_a_name_made(predictor, tmp_path) -> None:
    html = served_page(predictor, collects=True).html
    plain = load(tiny_bundle(tmp_path / "b", [f"c{n}" for n in range(len(LINES))]), threads=1)
    assert Elements(html).found == Elements(served_page(plain, collects=True).html).found
    shown = [text for text in Elements(html).texts if "document.title" in text]
    assert len(shown) > 100  # they are there, as text
    assert not re.search(f"[{CONTROLS}]", served_page(predictor, collects=False).html)


def test_prometheus_reads_every_name_back(predictor) -> None:
    meters = Meters(predictor.bundle, lambda: 0)
    text = meters.text().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    labels = [sample.labels["label"] for sample in families["sevenfold_answers"].samples
              if sample.name.endswith("_total")]  # fmt: skip
    assert Counter(labels) == Counter(LINES)
    assert all(name.startswith("sevenfold") for name in families)


def test_answers_and_predictions_come_back_and_start_no_formula(tmp_path) -> None:
    answers = [Answer(name, "b", 0.75, (0.25, 0.75)) for name in TEXT]
    write(tmp_path / "a.csv", answers, ("=a", "b"))
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert [bare(row[0]) for row in rows[1:]] == list(TEXT)
    table = Predictions(
        TEXT[:50], TEXT, TEXT, ("test",) * 1_000, TEXT, np.full(1_000, -1),
        np.zeros(1_000, np.int64), np.tile(np.eye(50)[0], (1_000, 1)),
    )  # fmt: skip
    write_predictions(tmp_path / "p.csv", table)
    found = read_predictions(tmp_path / "p.csv")
    assert (found.paths, found.groups, found.classes) == (TEXT, TEXT, TEXT[:50])
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        rows += list(csv.reader(file))
    assert not [cell for row in rows for cell in row if cell.startswith(FORMULA)]


def test_a_name_that_no_file_can_hold_is_written_as_its_bytes(tmp_path) -> None:
    write(tmp_path / "a.csv", [Answer(name, "b", 1.0, (0.0, 1.0)) for name in ALL], ("a", "b"))
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        assert sum(1 for _ in csv.reader(file)) == 1_001


def test_the_terminal_gets_no_control_sequence(capsys) -> None:
    for name in ALL:
        terminal.show({"name": name}, terminal.flat({"name": name, "list": [name]}), as_json=False)
        terminal.show({"name": name}, (), as_json=True)
        terminal.warn(name)
        error = ModelError(name, name)
        terminal.warn(f"error: {error.problem}")
    out, err = capsys.readouterr()
    for line in (out + err).split("\n"):
        assert line.isprintable(), line
    found = [json.loads(line)["name"] for line in out.split("\n") if line.startswith('{"name"')]
    assert tuple(found) == ALL


def test_the_card_holds_every_name_as_text() -> None:
    markdown = MarkdownIt("gfm-like", {"linkify": False, "html": True})
    tame = renamed(report_facts.card(), iter(()), True)
    tags = {one[0] for one in Elements(markdown.render(report.model_card(tame))).found}
    for start in range(0, len(ALL), 25):
        card = renamed(report_facts.card(), Counted(start), False)
        card["classes"] = list(ALL[start : start + 25])
        found = {one[0] for one in Elements(markdown.render(report.model_card(card))).found}
        assert found <= tags


def test_a_bundle_of_hostile_classes_opens_and_tells_them(predictor, tmp_path) -> None:
    assert predictor.classes == LINES
    folder = tiny_bundle(tmp_path / "c", LINES)
    card = json.loads((folder / "card.json").read_text("utf-8"))
    counts = np.ones(len(LINES), np.int64)
    card["drift"] = to_card(Reference(1_000, counts, counts, np.zeros(0)), LINES)
    (folder / "card.json").write_text(json.dumps(card), "utf-8")
    seal(folder)
    assert load(folder).bundle.reference.pictures == 1_000


def test_a_class_that_is_no_folder_is_not_collected(tmp_path) -> None:
    told = []
    for number, name in enumerate(LINES[:300]):
        place = tmp_path / f"kept{number}"
        try:
            kept = Collection(place, ("plain", name), 10**6)
        except UsageError as error:
            told.append(f"{error.problem}{error.cure}")
            continue
        pixels = np.full((4, 4, 3), number % 256, np.uint8)
        assert kept.correct(kept.keep(pixels, name, 1.0), name)
        assert [path.parent.name for path in place.rglob("*.jpg")] == [name]
    assert 150 < len(told) < 300
    assert all(line.isprintable() for line in told)
    assert len(list(tmp_path.iterdir())) == 300 - len(told)
    assert {path.name[:4] for path in tmp_path.iterdir()} <= {"kept"}
