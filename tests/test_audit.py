import csv
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.special import softmax

import photos
from sevenfold import cli
from sevenfold import data as datasets
from sevenfold.data.manifest import Manifest, Row, to_json
from sevenfold.progress import silent
from sevenfold.studies import audit as study
from sevenfold.studies.audit import (
    album,
    alignment,
    changes,
    clean,
    copies,
    likeness,
    page,
    suspects,
)


def scene(number: int, side: int = 120) -> Image.Image:
    """Draw shapes on a gradient, as a photo has structure at every scale."""
    draw = np.random.default_rng([7, number])
    rows, columns = np.mgrid[:side, :side] / side
    ramp = draw.uniform(-60, 60, (2, 3))
    pixels = 120 + rows[..., None] * ramp[0] + columns[..., None] * ramp[1]
    for _ in range(9):
        middle, size = draw.uniform(0, 1, 2), draw.uniform(0.05, 0.25, 2)
        inside = (abs(rows - middle[0]) < size[0]) & (abs(columns - middle[1]) < size[1])
        pixels[inside] = draw.uniform(0, 255, 3)
    pixels += draw.normal(0, 4, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def changed(image: Image.Image) -> dict[str, Image.Image]:
    width, height = image.size
    return {
        "smaller": image.resize((width * 2 // 3, height * 2 // 3)),
        "mirrored": image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "cropped": image.crop((5, 4, width - 6, height - 5)),
        "brighter": image.point(lambda value: min(255, int(value * 1.15 + 8))),
    }


def run(data: Path, **options: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"columns": {}, "group_by": "", "threads": 1, "progress": silent}
    return study.audit(str(data), **given | options)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(autouse=True)
def _shared(stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Share the stores, as the trunk's export takes longer than all the rest."""
    monkeypatch.setenv("SEVENFOLD_CACHE", str(stores))


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 24 scenes in two classes and two roles, with one fault of each kind."""
    base = tmp_path_factory.mktemp("audit") / "data"
    for number in range(24):
        role, label = ("train", "test")[number % 4 == 3], "ab"[number % 2]
        folder = base / role / label
        folder.mkdir(parents=True, exist_ok=True)
        scene(number).save(folder / f"{number:02}.png", compress_level=1)
    for name, image in changed(scene(0)).items():
        image.save(base / "train" / "a" / f"00-{name}.png")
    scene(0).save(base / "train" / "a" / "00-encoded.jpg", quality=75)
    scene(2).save(base / "train" / "b" / "02-other-label.bmp")
    scene(4).save(base / "train" / "a" / "04-again.bmp")
    (base / "test" / "a").mkdir(exist_ok=True)
    scene(6).resize((100, 100)).save(base / "test" / "a" / "06-leak.png")
    (base / "train" / "a" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    black = np.random.default_rng(0).integers(0, 9, (120, 120, 3), dtype=np.uint8)
    Image.fromarray(black).save(base / "train" / "a" / "black.png")
    soft = scene(90).filter(ImageFilter.GaussianBlur(12))
    soft.save(base / "train" / "a" / "soft.png")
    scene(91).resize((500, 60)).save(base / "train" / "b" / "long.png")
    (base / "train" / "rare").mkdir()
    scene(92).save(base / "train" / "rare" / "=1+1 <b>.png")
    return base


def test_planted_faults_are_found(faulty: Path, tmp_path: Path) -> None:
    facts = run(faulty, out=tmp_path / "out")
    assert facts["schema"] == "sevenfold.audit/1"
    assert facts["pictures"] == 24 + 5 + 1 + 1 + 1 + 1 + 4
    assert [one["path"] for one in facts["unreadable"]] == ["train/a/broken.jpg"]
    assert facts["exact_duplicates"] == [
        ["train/a/02.png", "train/b/02-other-label.bmp"],
        ["train/a/04-again.bmp", "train/a/04.png"],
    ]
    names = ["brighter", "cropped", "mirrored", "smaller"]
    near = {frozenset(group) for group in facts["near_duplicates"]}
    whole = {"train/a/00.png", "train/a/00-encoded.jpg", *(f"train/a/00-{n}.png" for n in names)}
    assert near == {frozenset(whole), frozenset({"train/a/06.png", "test/a/06-leak.png"})}
    assert [(one["kind"], one["labels"]) for one in facts["conflicts"]] == [("exact", ["a", "b"])]
    assert [(one["kind"], one["roles"]) for one in facts["leaks"]] == [("near", ["test", "train"])]
    assert facts["small_classes"] == {"rare": 1}
    assert facts["dark"] == ["train/a/black.png"]
    assert facts["blurred"] == ["train/a/soft.png"]
    assert facts["odd_sizes"] == ["train/b/long.png"]
    assert facts["labels_judged"] is False
    page = (tmp_path / "out" / "audit.html").read_text("utf-8")
    assert "Content-Security-Policy" in page
    assert "train/a/06.png" in page


def test_the_clean_list_trains_and_nothing_is_deleted(faulty: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in faulty.rglob("*.*"))
    facts = run(faulty, fix=tmp_path / "lists" / "clean.csv")
    assert sorted(path.name for path in faulty.rglob("*.*")) == before
    again = run(tmp_path / "lists" / "clean.csv")
    assert again["pictures"] == facts["clean"]["pictures"] == facts["pictures"] - 1 - 2 - 1
    assert not again["unreadable"]
    assert not again["exact_duplicates"]
    assert not again["conflicts"]
    assert facts["clean"]["roles_changed"] == ["train/a/06.png"]
    assert not again["leaks"]
    with (tmp_path / "lists" / "clean.csv").open(encoding="utf-8", newline="") as file:
        rows = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    assert rows["06.png"]["split"] == rows["06-leak.png"]["split"] == "test"
    assert rows["06.png"]["group"] == rows["06-leak.png"]["group"] != ""
    assert rows["08.png"]["group"] == ""


@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
def test_the_clean_list_has_every_name_that_a_table_can_hold(tmp_path: Path) -> None:
    folder = photos.write(tmp_path / "set", {"blue": 6, "red": 6})
    (folder / "red" / "000.png").rename(folder / "red" / "3.45\u202fPM.png")
    (folder / "red" / "001.png").rename(folder / "red" / "two\nlines.png")
    facts = run(folder, fix=tmp_path / "clean.csv")
    assert (facts["clean"]["pictures"], facts["clean"]["unlisted"]) == (11, 1)
    assert "3.45\u202fPM.png" in (tmp_path / "clean.csv").read_text("utf-8")


def test_copies_keep_the_name_of_a_given_group(faulty: Path) -> None:
    listing = datasets.scan(str(faulty))
    dataset = album.readable(listing, datasets.fingerprint_all(listing, threads=1))
    given = replace(dataset.photos[2], group="ann", role="train")
    dataset = replace(dataset, photos=(*dataset.photos[:2], given, *dataset.photos[3:]))
    together = [0, 1, 0, *range(3, len(dataset))]
    found = clean.mended(dataset, together).photos
    assert found[0].group == found[2].group == "ann"
    assert found[1] == dataset.photos[1]
    assert found[3:] == dataset.photos[3:]


def test_decisions_of_the_page_are_followed(faulty: Path, tmp_path: Path) -> None:
    chosen = tmp_path / "labels.csv"
    chosen.write_text(
        'path,label,decision\r\n"train/a/02.png","a","keep"\r\n"train/a/00.png","","drop"\r\n'
        '"train/b/01.png","a","relabel"\r\n',
        encoding="utf-8",
    )
    run(faulty, fix=tmp_path / "clean.csv", decisions=chosen)
    with (tmp_path / "clean.csv").open(encoding="utf-8", newline="") as file:
        rows = {Path(row["path"]).name: row["label"] for row in csv.DictReader(file)}
    assert rows["02.png"] == "a"
    assert rows["01.png"] == "a"
    assert "00.png" not in rows
    assert "02-other-label.bmp" not in rows


@pytest.mark.parametrize("dropped", [["04.png"], ["04-again.bmp"], ["04.png", "04-again.bmp"], []])
def test_of_copies_one_stays_that_was_not_dropped(
    faulty: Path, tmp_path: Path, dropped: list[str]
) -> None:
    chosen = tmp_path / "labels.csv"
    rows = "".join(f'"train/a/{name}","","drop"\r\n' for name in dropped)
    chosen.write_text(f"path,label,decision\r\n{rows}", encoding="utf-8")
    run(faulty, fix=tmp_path / "clean.csv", decisions=chosen)
    with (tmp_path / "clean.csv").open(encoding="utf-8", newline="") as file:
        names = {Path(row["path"]).name for row in csv.DictReader(file)}
    left = {"04.png", "04-again.bmp"} - set(dropped)
    assert len(names & left) == min(1, len(left))
    assert not names & set(dropped)


def test_boxes_of_one_photo_are_decided_apart(tmp_path: Path) -> None:
    scene(0).save(tmp_path / "0.png")
    boxes = {"0.0,0.0,0.5,0.5": "a", "0.5,0.5,0.5,0.5": "b", "0.5,0.0,0.5,0.5": "b"}
    rows = "".join(f'0.png,{label},"{box}"\n' for box, label in boxes.items())
    (tmp_path / "boxes.csv").write_text(f"path,label,box\n{rows}", encoding="utf-8")
    chosen = tmp_path / "labels.csv"
    chosen.write_text(
        'path,label,decision\n"0.png#0.5,0.5,0.5,0.5","a","relabel"\n'
        '"0.png#0.5,0.0,0.5,0.5","","drop"\n',
        encoding="utf-8",
    )
    run(tmp_path / "boxes.csv", fix=tmp_path / "clean.csv", decisions=chosen, out=tmp_path)
    with (tmp_path / "clean.csv").open(encoding="utf-8", newline="") as file:
        kept = {row["box"]: row["label"] for row in csv.DictReader(file)}
    assert kept == {"0.0,0.0,0.5,0.5": "a", "0.5,0.5,0.5,0.5": "a"}


@pytest.mark.parametrize("text", ["path,label\nx,y\n", "path,label,decision\nx\n", "\0"])
def test_foreign_decisions_are_refused(faulty: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(study.DataError, match="not the labels"):
        run(faulty, fix=tmp_path / "x.csv", decisions=tmp_path / "labels.csv")


def test_names_are_escaped_in_page_and_list(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script>'
    for label, first in ((evil.replace("/", "_"), 0), ("b", 50)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(first, first + 2):
            scene(number).save(tmp_path / "data" / label / f"=1+{number}.png")
    scene(0).save(tmp_path / "data" / "b" / "copy.png")
    run(tmp_path / "data", out=tmp_path / "out", fix=tmp_path / "data" / "b" / "list.csv")
    page = (tmp_path / "out" / "audit.html").read_text("utf-8")
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
    text = (tmp_path / "data" / "b" / "list.csv").read_text("utf-8")
    assert not re.search(r"^[=+@-]", text, re.M)
    assert "./=1+50.png" in text


def test_a_slow_sequence_makes_no_chain() -> None:
    """Each picture is near the next only, so no group may hold the first and the last."""

    def all_alike(pairs: list[tuple[int, int]]) -> bool:
        return all(abs(a - b) <= 1 for a, b in pairs)

    groups = copies._linked([(a, a + 1) for a in range(29)], 30, 10, all_alike)
    assert groups is not None
    assert max(map(len, groups)) == 2
    assert sum(map(len, groups)) == 30


def test_a_chain_keeps_one_role_up_to_a_size() -> None:
    chains = copies._chained([(a, a + 1) for a in range(29)], 30, 10)
    assert sorted(index for chain in chains for index in chain) == list(range(30))
    assert max(map(len, chains)) == 10


def test_one_large_group_switches_near_copies_off() -> None:
    still = np.stack([likeness.small(np.asarray(scene(3).resize((128, 128))))] * 14)
    noise = np.random.default_rng(0).integers(-3, 4, still.shape)
    looks = np.clip(still + noise, 0, 255).astype(np.uint8)
    hashes = [f"{number:032x}" for number in range(14)]
    found = copies.near(hashes, looks, [""] * 14, 1, silent)
    assert found == copies.Near((), switched_off="fixed camera? give groups")
    given = copies.near(hashes, looks, ["one camera"] * 14, 1, silent)
    assert given == copies.Near(())


def test_a_small_object_on_the_same_background_is_no_copy() -> None:
    pairs = []
    for number in range(20):
        first = np.asarray(scene(number).resize((128, 128))).copy()
        second = first.copy()
        second[50:70, 40:60] += 128  # wraps around: another colour in each channel
        pairs.append((likeness.small(first), likeness.small(second)))
    one, other = (np.stack(some) for some in zip(*pairs, strict=True))
    assert not likeness.alike(one, other).any()
    assert likeness.alike(one, one).all()


def test_brightness_that_clips_is_seen_through() -> None:
    first = np.stack([likeness.small(np.asarray(scene(number))) for number in range(20)])
    second = np.clip(first * 1.3, 0, 255).astype(np.uint8)
    assert ((second == 255).mean(axis=(1, 2, 3)) > 0.03).any()
    assert likeness.alike(first, second).mean() >= 0.95
    assert likeness.alike(second, first).mean() >= 0.95


def test_a_crop_is_aligned() -> None:
    picture = np.asarray(scene(1, 96).convert("L"), np.float32)
    picture = cv2.GaussianBlur(picture, (9, 9), 0)
    crop = picture[5:88, 9:91]  # 83 by 82 of 96 pixels
    first, second = (
        cv2.resize(one, (32, 32), interpolation=cv2.INTER_AREA)[None] for one in (picture, crop)
    )
    warps = alignment.align(first, second, alignment.as_they_are(1), 12)
    seen, inside = alignment.warped(second, warps)
    assert alignment.correlation(first, seen, inside)[0] > 0.998
    assert warps[0, :2] == pytest.approx([96 / 82, 96 / 83], abs=0.02)
    shift = [(96 - 9 - 91) / 82, (96 - 5 - 88) / 83]
    assert warps[0, 2:] == pytest.approx(shift, abs=0.02)


def blobs(seed: int) -> tuple[Any, Any, Any]:
    """Draw 900 rows of three classes, two of them hard to tell apart, and 5 % wrong labels."""
    draw = np.random.default_rng(seed)
    true = draw.integers(0, 3, 900)
    centres = np.array([[4, 0, 0], [0, 4, 0], [0, 4, 2]]) @ np.eye(3, 16)
    rows = (centres[true] + draw.normal(0, 1, (900, 16))).astype(np.float32)
    labels = true.copy()
    flipped = draw.choice(900, 45, replace=False)
    labels[flipped] = (labels[flipped] + draw.integers(1, 3, 45)) % 3
    return rows, labels, set(flipped.tolist())


def test_what_is_merely_hard_is_not_suspected() -> None:
    """Confident learning suspects hard pictures too; the mixture is surer."""
    from cleanlab.filter import find_label_issues

    ours, theirs, planted = [], [], 0
    for seed in range(4):
        rows, labels, flipped = blobs(seed)
        logits = suspects.out_of_fold(rows, labels, np.arange(900), 3)
        found = {one.picture for one in suspects.suspected(logits, labels)}
        p = softmax(logits, axis=1)
        issues = find_label_issues(labels, p, filter_by="confident_learning", n_jobs=1)
        known = set(np.flatnonzero(issues).tolist())
        ours.append((len(found & flipped), len(found)))
        theirs.append((len(known & flipped), len(known)))
        planted += len(flipped)
    (hits, named), (their_hits, their_named) = (np.sum(one, axis=0) for one in (ours, theirs))
    assert hits / named > 0.65
    assert hits / named > their_hits / their_named
    assert hits / planted > 0.5


def test_sound_labels_are_left_alone() -> None:
    rows, _, _ = blobs(0)
    true = np.random.default_rng(0).integers(0, 3, 900)
    logits = suspects.out_of_fold(rows, true, np.arange(900), 3)
    assert len(suspects.suspected(logits, true)) <= 9


def test_groups_stay_whole_in_the_folds() -> None:
    """Copies of one picture would vouch for each other's wrong label."""
    draw = np.random.default_rng(1)
    rows = np.repeat(draw.normal(0, 1, (40, 64)), 5, axis=0).astype(np.float32)
    groups = np.repeat(np.arange(40), 5)
    labels = np.repeat(draw.permutation(np.arange(40) % 2), 5)
    p = suspects.out_of_fold(rows, labels, groups, 2)
    assert (p.argmax(axis=1) == labels).mean() < 0.75


def test_changes_since_a_run(tmp_path: Path) -> None:
    base = photos.write(tmp_path / "data", {"blue": 3, "red": 3})
    listing = datasets.scan(str(base))
    prints = datasets.fingerprint_all(listing, threads=1)
    rows = [
        Row(photo.path, print_.hash, photo.label, "train")
        for photo, print_ in zip(listing.photos, prints, strict=True)
        if isinstance(print_, datasets.Fingerprint)
    ]
    (tmp_path / "run").mkdir()
    known = Manifest(str(base), ("blue", "red"), tuple(rows))
    (tmp_path / "run" / "data.json").write_text(to_json(known), "utf-8")
    (base / "blue" / "000.png").rename(base / "blue" / "moved.png")
    (base / "blue" / "001.png").rename(base / "red" / "101.png")
    (base / "blue" / "002.png").unlink()
    photos.write(base, {"red": 1}, start=9)
    facts = run(base, against=tmp_path / "run")
    assert facts["changes"] == {
        "new": ["red/009.png"],
        "gone": ["blue/002.png"],
        "relabelled": [{"path": "red/101.png", "before": "blue", "now": "red"}],
        "moved": [
            {"before": "blue/000.png", "now": "blue/moved.png"},
            {"before": "blue/001.png", "now": "red/101.png"},
        ],
        "other_role": [],
        "other_group": [],
        "elsewhere": [],
        "gone_by_role": [{"role": "train", "pictures": 1}],
    }


def test_roles_groups_and_other_places_are_compared() -> None:
    hashes = ["0" * 32, "1" * 32, "2" * 32]
    known = Manifest(
        "photos",
        ("a", "b"),
        (
            Row("a/1.png", hashes[0], "a", "train", "ann"),
            Row("a/2.png", hashes[1], "a", "test"),
            Row("added:1:b/3.png", hashes[2], "b", "val"),
        ),
    )
    here = [datasets.Photo("a/1.png", "a", "val", "bob"), datasets.Photo("a/2.png", "a")]
    found = changes.since(known, here, hashes[:2])
    assert found["other_role"] == [{"path": "a/1.png", "before": "train", "now": "val"}]
    assert found["other_group"] == [{"path": "a/1.png", "before": "ann", "now": "bob"}]
    assert found["elsewhere"] == ["b/3.png"]
    assert not found["gone"]
    # With small data what was called val is trained on.
    small = replace(known, rows=known.rows[:2])
    assert not changes.since(small, here[:1], hashes[:1])["other_role"]
    left_out = replace(known, quarantined=(datasets.Quarantined("a/9.png", "leak"),))
    copy = [*here, datasets.Photo("a/9.png", "a", "test")]
    assert changes.since(left_out, copy, [*hashes[:2], hashes[0]]) == found
    # One part of a photo was left out; the other is known, and there.
    torn = replace(known, quarantined=(datasets.Quarantined("a/1.png", "conflict"),))
    assert changes.since(torn, here, hashes[:2]) == found
    again = [*here, datasets.Photo("b/3.png", "b")]
    assert not changes.since(known, again, hashes)["elsewhere"]


def test_the_command(faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["audit", str(faulty), "--threads", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    keys = "pictures unreadable exact_duplicates near_duplicates conflicts leaks label_suspects"
    assert set(keys.split()) <= set(told)
    assert cli.main(["audit", str(faulty), "--threads", "1"]) == 0
    assert "small classes  1: rare has 1" in capsys.readouterr().out
    assert cli.main(["audit", str(faulty), "--against", str(tmp_path)]) == 4
    assert cli.main(["audit", str(faulty), "--fix", "list.txt"]) == 2
    assert cli.main(["audit", str(faulty), "--decisions", "labels.csv"]) == 2
    capsys.readouterr()


def test_a_picture_that_is_there_a_hundred_times_hides_nothing_else(monkeypatch) -> None:
    monkeypatch.setattr(page, "_data_uri", lambda *_: "x" * 1000)
    photos_ = [datasets.Photo(f"{at}.png", "a") for at in range(130)]
    names = [one.path for one in photos_]
    rows = [("copies", names[:100]), ("", names[100:102])]
    made = SimpleNamespace(photos=photos_)
    index = {name: at for at, name in enumerate(names)}
    kept, used = page._bounded(rows, 20_000, index, {}, made, None)
    assert [(one["title"], len(one["tiles"])) for one in kept] == [("copies, 88 more", 12), ("", 2)]
    assert used == 14_000
    kept, used = page._bounded(rows, 12_500, index, {}, made, None)
    assert (len(kept), used) == (1, 12_000)
