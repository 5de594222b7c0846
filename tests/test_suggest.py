"""Suggestions: unsure and unlike each other, nothing known, and a sheet whose keys label."""

import csv
import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundles import colour, tiny_bundle
from sevenfold import cli, data, image, predict
from sevenfold.answers import bare
from sevenfold.data.manifest import Manifest, Row, to_json
from sevenfold.errors import DataError, UsageError
from sevenfold.progress import silent
from sevenfold.serve.collect import Collection
from sevenfold.studies.suggest import page, suggest
from sevenfold.studies.suggest.choosing import chosen, uncertainty

CLASSES = ("blue", "=green", "<red>")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path / "bundle", CLASSES)


def paint(path: Path, share: float, number: int = 0) -> Path:
    """Write a picture that is a mixture of the first two classes' colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first, second = (np.array(colour(k, len(CLASSES)), float) for k in (0, 1))
    pixels = np.full((24, 24, 3), share * first + (1 - share) * second)
    pixels[0, 0] = number % 256
    Image.fromarray(pixels.astype(np.uint8)).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


def run(model: Path, unlabelled: Path, out: Path, count: int = 10, by: str = "margin"):
    return suggest(model, unlabelled, out, count=count, by=by, threads=1, progress=silent)


def names(facts) -> list[str]:
    return [Path(path).name for path in facts["pictures"]]


def test_uncertainty_is_between_sure_and_even():
    p = np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.3, 0.2]], np.float32)
    np.testing.assert_allclose(uncertainty(p, "margin"), [0, 1, 0.8], atol=1e-6)
    entropy = uncertainty(p, "entropy")
    np.testing.assert_allclose(entropy[:2], [0, 1], atol=1e-6)
    assert 0 < entropy[2] < 1


def test_a_burst_gives_one_picture_before_others_have_their_turn():
    features = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [0.6, 0.8]], np.float32)
    unsure = np.array([0.9, 0.89, 0.88, 0.5, 0.4])
    best = chosen(unsure, features, 3).tolist()
    assert best[0] == 0
    assert set(best) == {0, 3, 4}


def test_of_pictures_that_are_alike_unlike_the_least_sure_are_chosen():
    unsure = np.array([0.9, 0.2, 0.8, 0.3])
    assert chosen(unsure, np.eye(4, dtype=np.float32), 3).tolist() == [0, 2, 3]


def test_the_sure_are_not_chosen_however_odd():
    features = np.eye(60, dtype=np.float32)
    unsure = np.linspace(0, 1, 60)
    assert set(chosen(unsure, features, 4)) <= set(range(40, 60))


def test_no_picture_is_chosen_twice():
    features = np.tile(np.array([[1, 0]], np.float32), (30, 1))
    best = chosen(np.ones(30), features, 20)
    assert len(set(best.tolist())) == 20
    assert len(chosen(np.ones(3), features[:3], 20)) == 3


def test_the_most_uncertain_picture_comes_first(bundle, tmp_path):
    for number, share in enumerate((0.0, 0.2, 0.5, 0.8, 1.0)):
        paint(tmp_path / "new" / f"{number}", share, number)
    facts = run(bundle, tmp_path / "new", tmp_path / "out", count=2)
    assert facts["schema"] == "sevenfold.suggest/1"
    assert names(facts)[0] == "2.png"
    assert len(facts["pictures"]) == 2
    with (tmp_path / "out" / "suggestions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [bare(row["path"]) for row in rows] == facts["pictures"]
    assert all(0 <= float(row["margin"]) <= 1 for row in rows)
    assert not any(row["answer"].startswith("=") for row in rows)


def test_known_copied_and_unreadable_pictures_are_left_out_and_counted(bundle, tmp_path):
    new = tmp_path / "new"
    known = paint(new / "known", 0.5)
    fresh = paint(new / "fresh", 0.4)
    shutil.copy(fresh, new / "sub-copy.png")
    (new / "broken.jpg").write_bytes(b"none")
    content = image.fingerprint(known.read_bytes(), name="")[0].hash
    model = tmp_path / "run"
    shutil.copytree(bundle, model / "bundle")
    rows = (Row("old.png", content, "blue", "train"),)
    (model / "data.json").write_text(to_json(Manifest("old", CLASSES, rows)), encoding="utf-8")
    facts = run(model, new, tmp_path / "out")
    assert (facts["looked_at"], facts["known"], facts["copies"]) == (4, 1, 1)
    assert facts["unreadable_count"] == 1
    assert "broken.jpg" in facts["unreadable"][0]["path"]
    assert names(facts) == ["fresh.png"]


def test_what_serve_collected_is_read_where_nobody_has_labelled_it(bundle, tmp_path):
    folder = tmp_path / "kept"
    kept = Collection(folder, ("blue", "green"), 10**7)
    ids = [kept.keep(np.full((20, 20, 3), value, np.uint8), "blue", 0.5) for value in (40, 90, 200)]
    assert kept.correct(ids[0], "green")
    facts = run(bundle, folder, tmp_path / "out")
    assert sorted(names(facts)) == sorted(f"{one}.jpg" for one in ids[1:])
    assert facts["looked_at"] == 2


@pytest.mark.parametrize("kind", ["nothing", "broken", "known"])
def test_where_there_is_nothing_to_suggest_it_says_why(kind, bundle, tmp_path):
    new, model = tmp_path / "new", tmp_path / "run"
    new.mkdir()
    shutil.copytree(bundle, model / "bundle")
    words = {"nothing": "holds no pictures", "broken": "none of 1", "known": "data already"}
    if kind == "broken":
        (new / "a.jpg").write_bytes(b"none")
    if kind == "known":
        content = image.fingerprint(paint(new / "a", 0.3).read_bytes(), name="")[0].hash
        rows = (Row("old.png", content, "blue", "test"),)
        (model / "data.json").write_text(to_json(Manifest("old", CLASSES, rows)), encoding="utf-8")
    with pytest.raises(DataError, match=words[kind]):
        run(model, new, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_page_among_the_pictures_is_refused(bundle, tmp_path):
    paint(tmp_path / "new" / "a.png", 0.3)
    with pytest.raises(UsageError, match="lies among the photos"):
        run(bundle, tmp_path / "new", tmp_path / "new" / "out")


def test_a_graph_that_fails_at_a_picture_costs_that_picture_alone(bundle, tmp_path, monkeypatch):
    paint(tmp_path / "new" / "a.png", 0.3)
    paint(tmp_path / "new" / "b.png", 0.4)
    real = predict.Predictor.run

    def failing(self, outputs, batch):
        if failing.left:
            failing.left -= 1
            raise MemoryError("no room")
        return real(self, outputs, batch)

    failing.left = 1
    monkeypatch.setattr(predict.Predictor, "run", failing)
    facts = run(bundle, tmp_path / "new", tmp_path / "out")
    assert facts["unreadable_count"] == 1
    assert "no room" in facts["unreadable"][0]["reason"]
    assert len(facts["pictures"]) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_spaces_that_do_not_break_are_part_of_a_name_and_lone_bytes_are_not(bundle, tmp_path):
    paint(tmp_path / "new" / "3.45\u202fPM.png", 0.3)
    os.rename(paint(tmp_path / "new" / "b.png", 0.4), os.fsencode(tmp_path / "new") + b"/\xe9.png")
    facts = run(bundle, tmp_path / "new", tmp_path / "out")
    assert [Path(one).name for one in facts["pictures"]] == ["3.45\u202fPM.png"]
    assert facts["unreadable_count"] == 1


def test_a_file_in_the_place_of_the_folder_is_refused(bundle, tmp_path):
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="is a file"):
        run(bundle, tmp_path, tmp_path / "out")


def test_it_needs_no_torch(bundle, tmp_path):
    paint(tmp_path / "new" / "a", 0.5)
    code = (
        "import sys; from sevenfold import cli;"
        f"code = cli.main(['suggest', {str(bundle)!r}, {str(tmp_path / 'new')!r}, '--out', "
        f"{str(tmp_path / 'out')!r}, '--json']);"
        "sys.exit(code or ('torch' in sys.modules) * 99)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert len(json.loads(found.stdout)["pictures"]) == 1


def test_the_page_escapes_names_and_has_a_key_for_each_class(bundle, tmp_path):
    paint(tmp_path / "new" / "<img src=x>&", 0.5)
    facts = run(bundle, tmp_path / "new", tmp_path / "out")
    text = (tmp_path / "out" / "suggest.html").read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert "<red>" not in text
    assert re.findall(r'data-key="(.)"', text) == ["1", "2", "3"]
    assert html.escape(facts["pictures"][0]) in text


def test_classes_beyond_the_keys_are_in_a_list():
    many = [f"class  {number}" for number in range(len(page.KEYS) + 2)]
    facts = {
        "model": "run", "suggestions": [], "classes": many, "looked_at": 0, "known": 0,
        "copies": 0, "unreadable": [], "unreadable_count": 0,
    }  # fmt: skip
    text = page.render(facts)
    assert len(re.findall("data-key", text)) >= len(page.KEYS)
    assert text.count('<option value="class  ') == 2  # as a text alone it would lose a space
    assert not {"u", "x"} & set(page.KEYS)
    assert len(set(page.KEYS)) == len(page.KEYS)


@pytest.mark.parametrize(
    ("copies", "told"),
    [(1, "1 copy of another picture left"), (2_000, "2,000 copies of other pictures left")],
)
def test_copies_are_counted_in_words(copies, told):
    facts = {
        "model": "run", "suggestions": [], "classes": CLASSES, "looked_at": 0, "known": 0,
        "copies": copies, "unreadable": [], "unreadable_count": 0,
    }  # fmt: skip
    assert told in page.render(facts)


def test_pictures_beyond_the_bound_are_counted(bundle, tmp_path, monkeypatch):
    for number in range(4):
        paint(tmp_path / "new" / f"{number}", 0.5, number)
    monkeypatch.setattr(page, "LIMIT_BYTES", 1_500)
    facts = run(bundle, tmp_path / "new", tmp_path / "out")
    text = (tmp_path / "out" / "suggest.html").read_text(encoding="utf-8")
    shown = text.count("<figure")
    assert 0 < shown < 4
    assert f"Not shown: {4 - shown} more picture" in text
    assert len(facts["pictures"]) == 4


KEYS_PRESSED = """
const press = key => document.activeElement.dispatchEvent(
  new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
["2", "1", "x", "3", "u", "3", "ArrowLeft", "ArrowLeft"].forEach(press);
let blob = null;
URL.createObjectURL = one => { blob = one; return "data:,"; };
HTMLAnchorElement.prototype.click = function () { document.body.dataset.file = this.download; };
save.click();
blob.text().then(text => { document.body.dataset.saved = text; });
document.body.dataset.at = document.activeElement.dataset.path;
document.body.dataset.counted = count.textContent;
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no browser here")
def test_keys_label_and_what_is_saved_can_be_trained_on(tmp_path):
    classes = ("blue", "-1", 'gr\'een, "x"')
    model = tiny_bundle(tmp_path / "bundle", classes)
    for number in range(5):
        paint(tmp_path / "new" / f"={number}", 0.5, 50 * number)
    facts = run(model, tmp_path / "new", tmp_path / "out")
    text = (tmp_path / "out" / "suggest.html").read_text(encoding="utf-8")
    hooked = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    hooked = hooked.replace("</body>", f"<script>{KEYS_PRESSED}</script></body>")
    (tmp_path / "hooked.html").write_text(hooked, encoding="utf-8")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
        "--virtual-time-budget=3000", f"--user-data-dir={tmp_path / 'profile'}",
        (tmp_path / "hooked.html").as_uri(),
    ]  # fmt: skip
    found = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120)
    body = re.search("<body[^>]*>", found.stdout)[0]
    told = {name: html.unescape(value) for name, value in re.findall(r'data-(\w+)="([^"]*)"', body)}
    paths = facts["pictures"]
    assert told["file"] == "labels.csv"
    assert told["counted"] == "4"  # the one that is left out counts too
    assert told["at"] == paths[2]
    saved = tmp_path / "elsewhere" / "labels.csv"
    saved.parent.mkdir()
    saved.write_text(told["saved"], encoding="utf-8", newline="")
    listing = data.scan(str(saved), columns={}, group_by="")
    assert {photo.path: photo.label for photo in listing.photos} == {
        paths[0]: classes[1],
        paths[1]: classes[0],
        paths[3]: classes[2],
    }
    assert all(listing.source.load(photo) for photo in listing.photos)


def test_the_command_sums_up(bundle, tmp_path, capsys):
    paint(tmp_path / "new" / "a", 0.5)
    words = ["suggest", str(bundle), str(tmp_path / "new"), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "looked at      1 pictures" in out
    assert "suggest.html" in out
    assert cli.main([*words, "--count", "0"]) == 2
    (tmp_path / "list.csv").write_text("file\nnew/a.png\n", encoding="utf-8")
    listed = [*words[:2], str(tmp_path / "list.csv"), "--out", str(tmp_path / "other")]
    assert cli.main(listed) == 3
    assert cli.main([*listed, "--columns", "path=file"]) == 0
    assert "looked at      1 pictures" in capsys.readouterr().out
