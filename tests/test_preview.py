import base64
import csv
import hashlib
import html.parser
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import photos
from bundles import colour, tiny_bundle
from sevenfold import cli, image
from sevenfold import data as datasets
from sevenfold import recipe as recipes
from sevenfold.data.manifest import Manifest, Row, to_json
from sevenfold.errors import UsageError
from sevenfold.features.pixels import MARGIN, Pixels
from sevenfold.features.views import pixel_views
from sevenfold.practices import augmentation, transfer
from sevenfold.practices.augmentation import Augmentation, Finding
from sevenfold.recipe import Recipe
from sevenfold.studies.preview import contact_sheet, labels, page, sheet
from sevenfold.studies.preview.drawing import ROW, drawn
from sevenfold.train import bench

SIDE = 32
FRUIT = ("cherry", "leaf", "sky")  # red, green and blue to a tiny bundle
STILL = [
    f"augmentation.{name}={getattr(Augmentation.off, name)}"
    for name in ("flip", "rotation_degrees", "crop", "stretch", "brightness")
]
STILL += ["augmentation.contrast=0", "augmentation.saturation=0"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos.write(tmp_path / "discs", {"blue": 7, "green": 6, "red": 6})


@pytest.fixture
def fruit(tmp_path: Path) -> Path:
    """Write pictures of one noisy colour each, pale or strong, 24 of every class."""
    draw = np.random.default_rng(0)
    for k, name in enumerate(FRUIT):
        (tmp_path / "fruit" / name).mkdir(parents=True)
        for number in range(24):
            hue = 128 + draw.uniform(0.3, 1) * (np.array(colour(k, 3)) - 128)
            pixels = np.clip(hue + draw.normal(0, 12, (20, 20, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "fruit" / name / f"{number}.png")
    return tmp_path / "fruit"


def recipe_of(*settings: str) -> Recipe:
    return recipes.apply(recipes.default("quick"), [f"side={SIDE}", *settings])


def options(settings: list[str]) -> list[str]:
    return [part for one in settings for part in ("--set", one)]


def test_views_are_those_of_training_to_the_byte(folder: Path) -> None:
    recipe = recipe_of(
        "augmentation.class_strength.red=2",
        "augmentation.class_off.blue=flip",
        "augmentation.noise=0.5",
    )
    found = contact_sheet(datasets.scan(str(folder)), recipe, classes=9, views=5, seed=0)
    dataset = datasets.read(str(folder))
    pixels = Pixels(round(MARGIN * SIDE))
    everything = np.arange(len(dataset))
    parted = datasets.Split(dataset, everything, everything[:0], everything[:0], ())
    views = bench._by_class(
        recipe, parted, everything, "", lambda _, v, __: pixel_views(dataset, pixels, v, threads=1)
    )
    paths = [photo.path for photo in dataset.photos]
    assert {row.title for row in found.classes} == {"blue", "green", "red"}
    for row in found.classes:
        index = np.full(5, paths.index(row.picture))
        assert [tile.caption for tile in row.tiles][:2] == ["the picture", "view 1"]
        shown = np.stack([tile.pixels for tile in row.tiles[1:]])
        np.testing.assert_array_equal(shown, views.get(index, np.arange(5)))


def test_without_a_frozen_trunk_the_seed_is_that_of_training(folder: Path) -> None:
    random = ("transfer.weights=random", "transfer.trainable_blocks=1000")
    recipe = recipe_of(*random, "augmentation.flip=0.4")
    listing = datasets.scan(str(folder))
    found = contact_sheet(listing, recipe, classes=1, views=2, seed=3)
    photo = next(one for one in listing.photos if one.path == found.classes[0].picture)
    picture = sheet.readable(listing, photo, SIDE)
    make = augmentation.viewer(recipe.augmentation, SIDE, "3").make
    np.testing.assert_array_equal(
        found.classes[0].tiles[2].pixels, make(picture.square, picture.number, 1)
    )
    assert any("another seed" in said for said in found.remarks)


@pytest.mark.parametrize(
    ("settings", "frozen"),
    [
        ((), True),
        (("transfer.trainable_blocks=1000",), False),
        (("transfer.trainable_blocks=17",), False),
        (("transfer.backbone=resnet20", "transfer.trainable_blocks=2"), True),
        (("transfer.backbone=resnet20", "transfer.trainable_blocks=100"), False),
    ],
)
def test_what_is_frozen_is_known(settings: tuple[str, ...], frozen: bool) -> None:
    assert sheet._is_frozen(recipe_of(*settings), 0) is frozen


def test_the_packaged_backbone_has_as_many_blocks_as_is_said() -> None:
    network, _ = transfer.build(transfer.Transfer(weights="random"), 2, 64, 0)
    assert len(network.blocks) == sheet._PACKAGED_BLOCKS


def test_only_what_is_shown_is_decoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    fingerprint = image.fingerprint

    def counting(data: bytes, *, name: str, **rest: Any) -> Any:
        seen.append(name)
        return fingerprint(data, name=name, **rest)

    monkeypatch.setattr(image, "fingerprint", counting)
    found = contact_sheet(datasets.scan(str(folder)), recipe_of(), classes=2, views=3, seed=0)
    assert seen == [row.picture for row in found.classes]
    assert (len(found.classes), found.left_out) == (2, 1)


def test_no_more_views_than_training_stores(folder: Path) -> None:
    found = contact_sheet(
        datasets.scan(str(folder)), recipe_of("views=2"), classes=1, views=6, seed=0
    )
    assert len(found.classes[0].tiles) == 3


def test_classes_with_settings_of_their_own_come_first(folder: Path) -> None:
    recipe = recipe_of("augmentation.class_strength.red=2", "augmentation.class_off.red=flip")
    found = contact_sheet(datasets.scan(str(folder)), recipe, classes=1, views=1, seed=0)
    assert found.classes[0].title == "red"
    assert found.classes[0].note == "6 pictures, strength 2, spared flip"


def test_pictures_kept_for_the_test_are_not_shown(tmp_path: Path) -> None:
    photos.write(tmp_path / "all" / "train", {"blue": 1, "red": 1})
    photos.write(tmp_path / "all" / "test", {"blue": 30, "red": 30}, start=9)
    listing = datasets.scan(str(tmp_path / "all"))
    for seed in range(3):
        found = contact_sheet(listing, recipe_of(), classes=2, views=1, seed=seed)
        assert [row.picture for row in found.classes] == [
            "train/blue/000.png",
            "train/red/000.png",
        ]


def test_each_operation_stands_alone_at_its_full_reach(folder: Path) -> None:
    recipe = recipe_of(
        *STILL,
        "augmentation.rotation_degrees=15",
        "augmentation.translation=0.25",
        "augmentation.quarter_turns=true",
        "augmentation.blur=0.3",
    )
    found = contact_sheet(datasets.scan(str(folder)), recipe, classes=1, views=1, seed=0)
    captions = {row.title: [tile.caption for tile in row.tiles[1:]] for row in found.operations}
    assert captions == {
        "quarter_turns = true": ["90°", "180°", "270°"],
        "rotation_degrees = 15": ["\N{MINUS SIGN}15°", "+15°"],
        "translation = 0.25": ["to the right", "to the left", "down", "up"],
        "blur = 0.3": ["at full reach"],
    }
    notes = {row.title: row.note for row in found.operations}
    assert notes["rotation_degrees = 15"] == "turned by up to 15° to either side"
    assert notes["blur = 0.3"] == "blurred by up to 0.3 pixels, in 30% of the views"
    turned = next(row for row in found.operations if row.title.startswith("quarter"))
    flat = [np.asarray(tile.pixels, np.int64) for tile in turned.tiles]
    # The picture is resized here and warped there: a few levels lie between them.
    assert np.abs(np.rot90(flat[1], 2) - flat[3]).mean() < 1
    shifted = next(row for row in found.operations if row.title.startswith("translation"))
    right, left = (np.asarray(tile.pixels, np.int64) for tile in shifted.tiles[1:3])
    np.testing.assert_array_equal(right[:, SIDE // 2 :], left[:, : SIDE // 2])


def test_what_a_policy_draws_is_shown_too(folder: Path) -> None:
    found = contact_sheet(
        datasets.scan(str(folder)),
        recipe_of("augmentation.policy=trivial"),
        classes=1,
        views=1,
        seed=0,
    )
    notes = {row.title: row.note for row in found.operations}
    assert {"flip = 0.5", "hue", "erasing"} <= set(notes)
    assert notes["hue"] == "all hues turned by up to 36° of the circle, drawn by the policy"
    assert any("policy draws one" in said for said in found.remarks)


def test_blends_are_shown_with_their_shares(folder: Path, tmp_path: Path) -> None:
    listing = datasets.scan(str(folder))
    recipe = recipe_of(*STILL, "augmentation.mixup=0.4", "transfer.trainable_blocks=1000")
    found = contact_sheet(listing, recipe, classes=3, views=1, seed=0)
    (row,) = found.operations
    assert (row.title, len(row.tiles)) == ("mixup = 0.4", 1 + 3)
    views = [one.tiles[1].pixels.astype(float) for one in found.classes]
    for at, tile in enumerate(row.tiles[1:]):
        share, _, name = tile.caption.partition(" ")
        assert name == found.classes[at].title
        kept = float(share.rstrip("%")) / 100
        blend = kept * views[at] + (1 - kept) * views[(at + 1) % 3]
        assert np.abs(tile.pixels - blend).max() < 2.5  # the caption's share is rounded
    line = ["preview", str(folder), "--out", str(tmp_path / "out"), "--budget", "normal", "--json"]
    assert cli.main(line) == 0
    page = (tmp_path / "out" / "preview.html").read_text("utf-8")
    assert "mixup = 0.2" in page
    assert "training blends what the frozen blocks make of them" in page


def test_settings_that_switch_nothing_on_are_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["preview", str(folder), "--out", str(tmp_path / "out"), *options(STILL)]
    assert cli.main(line) == 0
    out = capsys.readouterr().out
    assert "every view is the picture itself" in out
    assert "every view is the picture itself" in (tmp_path / "out" / "preview.html").read_text(
        "utf-8"
    )


def grey(folder: Path, each: int = 4) -> Path:
    for name, level in (("dark", 40), ("light", 200)):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            Image.new("L", (SIDE, SIDE), level + number).save(folder / name / f"{number}.png")
    return folder


def test_colours_of_grey_pictures_are_refused_where_they_were_asked_for(tmp_path: Path) -> None:
    listing = datasets.scan(str(grey(tmp_path / "grey")))
    for setting in ("hue=0.1", "saturation=0.5"):
        with pytest.raises(UsageError, match="all grey"):
            contact_sheet(listing, recipe_of(f"augmentation.{setting}"), classes=1, views=1, seed=0)
    found = contact_sheet(listing, recipe_of(), classes=1, views=1, seed=0)
    assert "These pictures are grey: nothing comes of saturation." in found.remarks


def test_one_grey_picture_does_not_make_the_data_grey(tmp_path: Path) -> None:
    folder = photos.write(tmp_path / "some", {"blue": 6})
    listing = datasets.scan(str(grey(folder, each=1)))
    found = contact_sheet(
        listing, recipe_of("augmentation.class_strength.dark=2", "augmentation.hue=0.1"),
        classes=1, views=1, seed=0,
    )  # fmt: skip
    assert [row.title for row in found.classes] == ["dark"]
    assert any("nothing comes of saturation and hue" in said for said in found.remarks)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ((), "changed by flip, and leaves out"),
        (("augmentation.insist=true",), "changed by flip, and tells it; the recipe insists"),
        (("augmentation.class_strength.red=3", "augmentation.hue=0.02"), "by flip, hue, and"),
        (("augmentation.label_check=off",), ""),
        (("augmentation.flip=0",), ""),
        (("transfer.weights=random", "transfer.trainable_blocks=1000"), ""),
    ],
)
def test_the_sheet_says_what_training_looks_at_first(
    folder: Path, tmp_path: Path, settings: tuple[str, ...], told: str
) -> None:
    line = ["preview", str(folder), "--out", str(tmp_path / "out"), *options([*settings])]
    assert cli.main(line) == 0
    text = (tmp_path / "out" / "preview.html").read_text("utf-8")
    assert ("Training looks first" in text) == bool(told)
    assert told in text


def test_the_image_opens_and_has_a_row_for_each_class_and_operation(
    folder: Path, tmp_path: Path
) -> None:
    listing = datasets.scan(str(folder))
    three = contact_sheet(listing, recipe_of(*STILL), classes=3, views=4, seed=0)
    two = contact_sheet(listing, recipe_of(*STILL), classes=2, views=4, seed=0)
    drawn(three).save(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        picture.load()
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        size = picture.size
    assert size == (24 + 230 + 5 * (144 + 10) + 24, 24 + 34 + 19 * 2 + 52 + 3 * ROW + 24)
    assert drawn(replace(two, left_out=0)).height == size[1] - ROW


def test_names_without_end_fit_the_image(tmp_path: Path) -> None:
    table = hostile(
        tmp_path, {"wide": "W" * 500, "words": "many words " * 40, "other": "狗\u202eb"}
    )
    found = contact_sheet(datasets.scan(str(table)), recipe_of(), classes=3, views=1, seed=0)
    assert drawn(found).width < 1100


def hostile(folder: Path, names: dict[str, str]) -> Path:
    with (folder / "table.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for number, (stem, label) in enumerate(names.items()):
            pixels = photos.picture("red", number)
            Image.fromarray(pixels).save(folder / f"{stem}.png")
            writer.writerow([f"{stem}.png", label])
    return folder / "table.csv"


class Parsed(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_is_whole_and_believes_no_name(tmp_path: Path) -> None:
    names = {
        "a": "<script>alert(1)</script>",
        "b": '" onload="alert(2)',
        "c": "</title><img src=x onerror=alert(3)>",
    }
    table = hostile(tmp_path, names)
    assert cli.main(["preview", str(table), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "preview.html").read_text("utf-8")
    parsed = Parsed(text)
    assert not {"script", "iframe", "object"} & {tag for tag, _ in parsed.tags}
    assert not [name for _, held in parsed.tags for name in held if name.startswith("on")]
    pictures = [held for tag, held in parsed.tags if tag == "img"]
    assert len(pictures) > 3 * 5
    assert all(str(held["src"]).startswith("data:image/jpeg;base64,") for held in pictures)
    assert all(held["alt"] for held in pictures)
    assert f"{names['a']}, view 1" in [held["alt"] for held in pictures]
    assert not re.search(r"https?://", text)
    style = re.search(r"<style>(.*?)</style>", text, re.S)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in text
    assert "default-src 'none'" in text
    first = base64.b64decode(str(pictures[0]["src"]).partition(",")[2])
    assert Image.open(io.BytesIO(first)).format == "JPEG"


def test_the_page_keeps_to_its_size_and_counts_what_it_leaves_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = datasets.scan(str(folder))
    found = contact_sheet(listing, recipe_of(*STILL), classes=3, views=4, seed=0)
    whole = page.render(found, Augmentation.off, None, ["discs"])
    one_row = sum(len(src) for src in re.findall(r'src="(data:[^"]+)"', whole)) // 3
    monkeypatch.setattr(page, "LIMIT_BYTES", 2 * one_row + 5000)
    short = page.render(found, Augmentation.off, None, ["discs"])
    assert "Not shown" not in whole
    assert "Not shown: 1 class." in short
    assert len(short) < len(whole)


def run_of(folder: Path, dataset: datasets.Dataset, held: set[str]) -> Path:
    """Write what the check reads of a run: the bundle, the recipe and the roles."""
    tiny_bundle(folder / "bundle", FRUIT)
    settings = replace(Recipe(), augmentation=Augmentation(hue=0.05))
    (folder / "recipe.toml").write_text(recipes.to_toml(settings), encoding="utf-8")
    rows = tuple(
        Row(
            photo.path,
            content,
            photo.label,
            "val" if photo.path in held else "train",
        )
        for photo, content in zip(dataset.photos, dataset.hashes, strict=True)
    )
    manifest = Manifest(dataset.source.location, FRUIT, rows)
    (folder / "data.json").write_text(to_json(manifest), encoding="utf-8")
    return folder


def test_a_planted_change_of_label_is_flagged_by_the_command(
    fruit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_bundle(tmp_path / "model", FRUIT)
    line = ["preview", str(fruit), "--out", str(tmp_path / "out"), "--check", str(model)]
    settings = ["--set", "augmentation.hue=0.33", "--set", f"side={SIDE}"]
    assert cli.main([*line, *settings, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["schema"] == "sevenfold.preview/1"
    check = facts["check"]
    flagged = [one for one in check["findings"] if one["verdict"] == "changes the label"]
    assert check["findings"][: len(flagged)] == flagged
    assert {(one["operation"], one["label"]) for one in flagged} == {
        ("hue", name) for name in FRUIT
    }
    assert (check["pictures"], check["known"], check["held_out"]) == (72, False, False)
    spared = recipes.apply(Recipe(), check["settings"][1::2]).augmentation.class_off
    assert spared == dict.fromkeys(FRUIT, "hue")
    text = (tmp_path / "out" / "preview.html").read_text("utf-8")
    assert f"{len(flagged)} changes of label" in text
    assert "--set augmentation.class_off.cherry=hue" in text
    assert "A bundle does not say what its model was trained with" in text
    assert text.count("<td>changes the label") == len(flagged)
    assert cli.main([*line, *settings]) == 0
    assert "changed label  cherry by hue" in capsys.readouterr().out


def test_a_check_of_few_pictures_is_no_pass(
    fruit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_bundle(tmp_path / "model", FRUIT)
    line = ["preview", str(fruit), "--out", str(tmp_path / "out"), "--check", str(model)]
    assert cli.main([*line, "--pictures", "3"]) == 0
    out = capsys.readouterr().out
    assert "label check    too few to judge for 3 of 3 classes" in out
    assert "changed label" not in out
    text = (tmp_path / "out" / "preview.html").read_text("utf-8")
    assert "Label check: too few pictures" in text
    assert "Too few to judge for 3 of 3 classes" in text
    assert cli.main(line) == 0
    assert "too few" not in capsys.readouterr().out


def test_the_page_says_how_far_each_class_is_checked(fruit: Path, tmp_path: Path) -> None:
    model = tiny_bundle(tmp_path / "model", FRUIT)
    settings = Augmentation(hue=0.11, class_strength={"cherry": 3.0})
    check = check_by(model, fruit, settings, pictures=24)
    told = page._told(check, settings, ["fruit"])
    ways = {row["label"]: row["way"] for row in told["rows"] if row["operation"] == "hue"}
    assert ways["cherry"].endswith("119°")
    assert all(way.endswith("39.6°") for name, way in ways.items() if name != "cherry")


def test_a_run_answers_its_validation_pictures_and_says_what_it_is_blind_to(
    fruit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = datasets.read(str(fruit))
    held = {f"{name}/{number}.png" for name in FRUIT for number in range(3, 8)}
    run = run_of(tmp_path / "run", dataset, held)
    seen: list[str] = []
    fingerprint = image.fingerprint

    def noting(data: bytes, *, name: str, **rest: Any) -> Any:
        seen.append(name)
        return fingerprint(data, name=name, **rest)

    monkeypatch.setattr(image, "fingerprint", noting)
    settings = replace(Augmentation(), hue=0.1, blur=0.2)
    found = check_by(run, fruit, settings, pictures=4)
    assert len(seen) == found.pictures == 12
    assert set(seen) <= held
    assert found.held_out
    assert found.known
    assert set(found.blind) == {one.name for one in augmentation.operations(settings)} - {"blur"}
    clean = recipes.apply(
        replace(Recipe(), augmentation=settings), [*found.clean[1::2]]
    ).augmentation
    assert replace(clean, label_check="off") == Augmentation.off


def check_by(model: Path, folder: Path, settings: Augmentation, pictures: int) -> labels.Checked:
    from sevenfold import predict, progress

    return labels.checked(
        datasets.scan(str(folder)),
        predict.load(model, threads=1),
        model,
        settings,
        pictures=pictures,
        seed=0,
        threads=1,
        progress=progress.silent,
    )


def test_a_run_moved_away_from_its_data_knows_pictures_by_content(
    fruit: Path, tmp_path: Path
) -> None:
    dataset = datasets.read(str(fruit))
    held = {f"{name}/{number}.png" for name in FRUIT for number in range(6)}
    run = run_of(tmp_path / "run", dataset, held)
    moved = fruit.rename(tmp_path / "elsewhere")
    assert check_by(run, moved, Augmentation(), pictures=40).pictures == 18


@pytest.mark.parametrize("name", ["a=b", 'a "b" = c', "dots.and spaces", "köln"])
def test_the_options_spare_a_class_of_any_name(name: str) -> None:
    finding = Finding("flip", "", name, 40, 1.0, 0.0, "x", 1e-9, augmentation.CHANGES)
    settings = Augmentation(class_off={"before": "hue"})
    given = labels._sparing(settings, [finding, replace(finding, operation="hue")])
    found = recipes.apply(replace(Recipe(), augmentation=settings), given[1::2])
    assert found.augmentation.class_off == {"before": "hue", name: "flip,hue"}


def test_nothing_is_left_out_of_a_recipe_that_insists() -> None:
    finding = Finding("flip", "", "left", 40, 1.0, 0.0, "right", 1e-9, augmentation.CHANGES)
    assert labels._sparing(Augmentation(insist=True), [finding]) == ()


def damaged(folder: Path) -> list[str]:
    model = tiny_bundle(folder / "model", ("blue", "green", "red"))
    (model / "model.onnx").write_bytes(b"no graph")
    return ["--check", str(model)]


def foreign(folder: Path) -> list[str]:
    return ["--check", str(tiny_bundle(folder / "model", ("red", "blue", "mauve")))]


def damaged_recipe(folder: Path) -> list[str]:
    tiny_bundle(folder / "run" / "bundle", ("blue", "green", "red"))
    (folder / "run" / "recipe.toml").write_text("side = nothing", encoding="utf-8")
    return ["--check", str(folder / "run")]


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (damaged, 4, "model.onnx is damaged"),
        (damaged_recipe, 4, "recipe.toml is not TOML"),
        (foreign, 3, "the model does not know green: its classes are red, blue, mauve"),
        (lambda folder: ["--check", str(folder / "none")], 2, "is not a folder"),
        (lambda _: ["--set", "augmentation.class_off.rde=flip"], 2, "did you mean 'red'?"),
        (lambda _: ["--set", "augmentation.class_off.red=flap"], 2, "did you mean 'flip'?"),
        (lambda _: ["--set", "augmentation.hue=2"], 2, "out of range"),
        (lambda _: ["--classes", "0"], 2, "--classes"),
        (lambda _: ["--recipe", "none.toml"], 2, "none.toml cannot be read"),
        (lambda folder: ["--out", str(folder / "discs" / "sheet")], 2, "lies among the photos"),
        (lambda folder: ["--out", str(folder / "discs" / "red" / "000.png")], 2, "is a file"),
    ],
)
def test_bad_input_is_told(
    more: Callable[[Path], list[str]],
    code: int,
    said: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = more(tmp_path)
    out = [] if "--out" in given else ["--out", str(tmp_path / "out")]
    assert cli.main(["preview", str(folder), *out, *given]) == code
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert said in stderr
    assert not (tmp_path / "out").exists()


def test_data_without_a_picture_that_can_be_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    line = ["--out", str(tmp_path / "out")]
    assert cli.main(["preview", str(tmp_path / "empty"), *line]) == 3
    for name in ("a", "b"):
        (tmp_path / "bad" / name).mkdir(parents=True)
        (tmp_path / "bad" / name / "1.jpg").write_bytes(b"no picture")
    assert cli.main(["preview", str(tmp_path / "bad"), *line]) == 3
    assert "no picture of any class" in capsys.readouterr().err
    Image.fromarray(photos.picture("red", 0)).save(tmp_path / "bad" / "a" / "2.png")
    assert cli.main(["preview", str(tmp_path / "bad"), *line]) == 0
    out = capsys.readouterr().out
    assert "shown          1 of 2 classes" in out
    assert "could be read: 1" in out


def test_a_model_that_was_trained_on_every_picture_cannot_check(
    fruit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path / "run", datasets.read(str(fruit)), set())
    line = ["preview", str(fruit), "--out", str(tmp_path / "out"), "--check", str(run)]
    assert cli.main(line) == 3
    assert "no picture that the model was not trained on" in capsys.readouterr().err


def test_what_has_no_role_beside_given_ones_is_trained_on(tmp_path):
    folder = photos.write(tmp_path, {"blue": 4, "red": 4})
    listing = datasets.scan(str(folder))
    some = tuple(
        replace(photo, role="test") if at < 3 else photo for at, photo in enumerate(listing.photos)
    )
    given = replace(listing, photos=some)
    assert len(list(labels._held_out(listing, datasets.EMPTY, 16, 9, 0))) == 8
    assert not list(labels._held_out(given, datasets.EMPTY, 16, 9, 0))
    val = replace(listing, photos=tuple(replace(one, role="val") for one in listing.photos))
    assert len(list(labels._held_out(val, datasets.EMPTY, 16, 9, 0))) == 8
    assert not labels._given_val(val)  # with so few a training takes them, too
    many = replace(val, photos=val.photos * 200)
    assert labels._given_val(many)
