import csv
import gzip
import io
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sevenfold import data
from sevenfold.answers import guarded
from sevenfold.errors import DataError, ImageRejected, ResourceError


def picture(number, form="PNG"):
    """Return the bytes of a small picture that is unlike any other number's."""
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def packed(content):
    """Compress without a time: test workers must agree on the names of cases made of it."""
    return gzip.compress(content, mtime=0)


def write(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(number))


def folder(root, classes=("cat", "dog"), count=6, start=0):
    for number, name in enumerate(classes):
        for index in range(count):
            write(root / name / f"{index}.png", start + number * count + index)
    return root


def table(path, rows, **options):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, **options).writerows(rows)
    return str(path)


def test_a_folder_of_classes(tmp_path):
    listing = data.scan(str(folder(tmp_path / "pets")))
    assert listing.name == "pets"
    assert listing.classes == ("cat", "dog")
    assert [photo.path for photo in listing.photos[:2]] == ["cat/0.png", "cat/1.png"]
    assert {photo.role for photo in listing.photos} == {""}
    assert listing.source.load(listing.photos[0]) == picture(0)


def test_classes_are_searched_in_depth(tmp_path):
    folder(tmp_path)
    write(tmp_path / "cat" / "indoors" / "2024" / "a.png", 99)
    photos = data.scan(str(tmp_path)).photos
    assert ("cat/indoors/2024/a.png", "cat") in {(p.path, p.label) for p in photos}


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_a_folder_of_roles(tmp_path, val):
    for number, role in enumerate(("train", val, "test")):
        folder(tmp_path / role, start=100 * number)
    listing = data.scan(str(tmp_path))
    assert listing.classes == ("cat", "dog")
    roles = {photo.path.split("/")[0]: photo.role for photo in listing.photos}
    assert roles == {"train": "train", val: "val", "test": "test"}


def test_train_beside_other_names_is_a_class(tmp_path):
    listing = data.scan(str(folder(tmp_path, classes=("train", "bus"))))
    assert listing.classes == ("bus", "train")


def test_what_systems_leave_behind_is_never_a_class_or_a_picture(tmp_path):
    folder(tmp_path)
    for name in (".ipynb_checkpoints", "__MACOSX", ".git", "@eaDir"):
        write(tmp_path / name / "a.png", 1)
        write(tmp_path / "cat" / name / "a.png", 1)
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "._0.png"):
        (tmp_path / name).write_bytes(b"x")
        (tmp_path / "cat" / name).write_bytes(b"x")
    listing = data.scan(str(tmp_path))
    assert listing.classes == ("cat", "dog")
    assert len(listing.photos) == 12
    assert listing.quarantined == ()


def test_what_is_no_picture_is_named_and_what_lacks_a_suffix_is_looked_at(tmp_path):
    folder(tmp_path)
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    (tmp_path / "cat" / "notes.txt").write_text("x", encoding="utf-8")
    (tmp_path / "cat" / "IMG_0001").write_bytes(picture(50))
    (tmp_path / "cat" / "text.png.part").write_bytes(picture(51, "WEBP"))
    (tmp_path / "cat" / "IMG_0002.txt").write_bytes(picture(52, "BMP"))
    (tmp_path / "dog" / "BMW").write_bytes(b"BMW, bought in May")
    listing = data.scan(str(tmp_path))
    assert listing.quarantined == (
        data.Quarantined("cat/notes.txt", "not a picture"),
        data.Quarantined("dog/BMW", "not a picture"),
        data.Quarantined("notes.txt", "in no class folder"),
    )
    kept = {photo.path for photo in listing.photos}
    assert {"cat/IMG_0001", "cat/IMG_0002.txt", "cat/text.png.part"} < kept


def test_a_wrong_suffix_does_not_matter(tmp_path):
    folder(tmp_path)
    (tmp_path / "cat" / "really-a-bitmap.jpg").write_bytes(picture(50, "BMP"))
    assert len(data.read(str(tmp_path))) == 13


@pytest.mark.parametrize(
    "name",
    [
        "line\nbreak.png",
        "quo\"te'.png",
        "<script>alert(1)<",
        "=cmd.png",
        "猫 é.png",
        "\x1b[31m.png",
    ],
)
def test_strange_names_survive(tmp_path, name):
    folder(tmp_path)
    try:
        write(tmp_path / "cat" / name, 77)
    except OSError:
        pytest.skip("the file system has no such names")
    parted = data.split(data.read(str(tmp_path)))
    manifest = data.manifest_of(parted)
    assert f"cat/{name}" in {row.path for row in manifest.rows}
    assert data.from_json(data.to_json(manifest)) == manifest


@pytest.mark.skipif(sys.platform != "linux", reason="names are not bytes here")
def test_names_that_are_not_utf8_survive(tmp_path):
    folder(tmp_path)
    for number in range(6):
        path = os.fsencode(tmp_path / "caf") + b"\xe9"
        os.makedirs(path, exist_ok=True)
        Path(os.fsdecode(path + b"/%d\xff.png" % number)).write_bytes(picture(60 + number))
    dataset = data.read(str(tmp_path))
    assert dataset.classes == (r"caf\xe9", "cat", "dog")
    manifest = data.manifest_of(data.split(dataset))
    text = data.to_json(manifest)
    assert data.from_json(text.encode("utf-8").decode("utf-8")) == manifest
    index = next(i for i, p in enumerate(dataset.photos) if p.label == r"caf\xe9")
    assert dataset.load(index) == picture(60)
    assert data.shown(dataset.photos[index].path) == r"caf\xe9/0\xff.png"


def test_a_label_is_one_printable_line_in_composed_form(tmp_path):
    listing = data.scan(
        table(tmp_path / "t.csv", [["path", "label"], ["a", " cafe\u0301 "], ["b", "x\ny"]])
    )
    assert [photo.label for photo in listing.photos] == ["caf\u00e9", r"x\ny"]


def linked(link, target, **options):
    try:
        link.symlink_to(target, **options)
    except OSError:
        pytest.skip("links are not allowed here")


def test_folders_that_link_to_themselves_are_entered_once(tmp_path):
    folder(tmp_path)
    linked(tmp_path / "cat" / "again", tmp_path / "cat", target_is_directory=True)
    linked(tmp_path / "cat" / "itself", tmp_path / "cat" / "itself")
    listing = data.scan(str(tmp_path))
    assert len(listing.photos) == 12
    assert [item.path for item in listing.quarantined] == ["cat/itself"]


def test_a_linked_class_folder_is_followed(tmp_path):
    folder(tmp_path / "real")
    (tmp_path / "linked").mkdir()
    for name in ("cat", "dog"):
        linked(tmp_path / "linked" / name, tmp_path / "real" / name, target_is_directory=True)
    assert len(data.scan(str(tmp_path / "linked")).photos) == 12


def test_a_csv_with_everything(tmp_path):
    rows = [
        ["path", "label", "split", "group", "x", "y", "w", "h"],
        ["a.png", "cat", "train", "g1", "", "", "", ""],
        ["b.png", "dog", "valid", "", "0", "0.25", "0.5", "0.75"],
        [],
    ]
    listing = data.scan(table(tmp_path / "pets.csv", rows))
    assert listing.name == "pets"
    assert listing.photos == (
        data.Photo("a.png", "cat", "train", "g1"),
        data.Photo("b.png", "dog", "val", "", (0.0, 0.25, 0.5, 0.75)),
    )


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_csv_by_other_names_separators_and_encodings(tmp_path, delimiter, encoding):
    rows = [
        ["file", "species", "site", "when", "part"],
        ["a.png", "chat é", "s", "test", "0,0,1,.5"],
    ]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(rows)
    path = tmp_path / "t.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    columns = {
        "path": "file",
        "label": "species",
        "group": "site",
        "split": "when",
        "box": "part",
    }
    expected = data.Photo("a.png", "chat é", "test", "s", (0.0, 0.0, 1.0, 0.5))
    assert data.scan(str(path), columns=columns).photos == (expected,)


def test_paths_of_a_csv_may_be_absolute_or_written_on_windows(tmp_path):
    write(tmp_path / "a" / "b.png", 1)
    rows = [["path", "label"], [str(tmp_path / "a" / "b.png"), "x"], ["a\\b.png", "x"]]
    listing = data.scan(table(tmp_path / "t.csv", rows))
    assert [listing.source.load(photo) for photo in listing.photos] == [picture(1)] * 2
    assert listing.photos[1].path == "a/b.png"


def test_a_row_given_twice_counts_once_and_boxes_of_one_photo_may_differ(tmp_path):
    rows = [["path", "label", "box"], *[["a.png", "x", ""]] * 2, ["a.png", "y", "0,0,.5,.5"]]
    assert len(data.scan(table(tmp_path / "t.csv", rows)).photos) == 2


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        (r"^(p\d+)_", ["p1", "p1", "p2", ""]),
        (r"(?:_(\d))?\.png$", ["1", "2", "1", ""]),
    ],
)
def test_groups_from_file_names(tmp_path, pattern, groups):
    rows = [["path", "label"]]
    rows += [[f"p9_/{name}.png", "x"] for name in ("p1_1", "p1_2", "p2_1", "other")]
    listing = data.scan(table(tmp_path / "t.csv", rows), group_by=pattern)
    assert [photo.group for photo in listing.photos] == groups


def parquet(path, images, labels, metadata=None, **more):
    arrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    made = arrow.table({"image": images, "label": labels, **more})
    path.parent.mkdir(parents=True, exist_ok=True)
    arrow.parquet.write_table(made.replace_schema_metadata(metadata), path, row_group_size=4)
    return str(path)


def test_a_parquet_file_of_bytes(tmp_path):
    source = parquet(tmp_path / "p.parquet", [picture(i) for i in range(10)], ["a", "b"] * 5)
    listing = data.scan(source)
    assert [listing.source.load(photo) for photo in listing.photos] == [
        picture(i) for i in range(10)
    ]
    assert listing.photos[9] == data.Photo("p.parquet/0000009", "b")
    assert len(data.read(source)) == 10


@pytest.mark.parametrize("place", ["{}.parquet", "data/{}-00000-of-00001.parquet", "{}/0.parquet"])
def test_a_folder_of_parquet_files_of_structs(tmp_path, place):
    described = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    for start, role in ((0, "train"), (20, "test")):
        images = [{"bytes": picture(start + i), "path": f"s{i % 3}_{i}.png"} for i in range(10)]
        metadata = {"huggingface": json.dumps(described)}
        parquet(tmp_path / place.format(role), images, [0, 1] * 5, metadata)
    listing = data.scan(str(tmp_path), group_by=r"^(s\d)_")
    assert listing.classes == ("cat", "dog")
    assert [photo.role for photo in listing.photos].count("test") == 10
    last = listing.photos[-1]
    assert last.path.endswith("/0000009/s0_9.png")
    assert last.group == "s0"
    start = 20 if last.role == "test" else 0
    assert listing.source.load(last) == picture(start + 9)


def test_parquet_columns_by_other_names_and_numbers_as_labels(tmp_path):
    source = parquet(
        tmp_path / "train.parquet",
        [picture(i) for i in range(4)],
        [None] * 4,
        fine=[7, 7, 8, 8],
        site=["n", None, "s", "s"],
    )
    listing = data.scan(source, columns={"label": "fine", "group": "site"})
    assert [photo.label for photo in listing.photos] == ["7", "7", "8", "8"]
    assert [photo.group for photo in listing.photos] == ["n", "", "s", "s"]
    assert {photo.role for photo in listing.photos} == {""}, "a lone file has no role"


def test_a_parquet_cell_without_bytes_is_one_unreadable_picture(tmp_path):
    images = [picture(i) for i in range(19)] + [None]
    source = parquet(tmp_path / "p.parquet", images, ["a", "b"] * 10)
    assert data.read(source).quarantined == (
        data.Quarantined("p.parquet/0000019", "the cell holds no bytes"),
    )


def test_without_pyarrow_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "p.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ResourceError, match=r'pip install "\.\[train\]"') as caught:
        data.scan(str(tmp_path / "p.parquet"))
    assert caught.value.exit_code == 5


def idx(path, array):
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    path.write_bytes(packed(header + array.tobytes()))


def fashion(root, count=30):
    generator = np.random.default_rng(0)
    for stem in ("train", "t10k"):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        idx(root / f"{stem}-images-idx3-ubyte.gz", images)
        idx(root / f"{stem}-labels-idx1-ubyte.gz", (np.arange(count) % 10).astype(np.uint8))
    return images


def test_fashion_mnist(tmp_path):
    images = fashion(tmp_path)
    listing = data.fashion_mnist(tmp_path)
    assert len(listing.photos) == 60
    assert listing.photos[0] == data.Photo("train/00000", "T-shirt/top", "train")
    last = listing.photos[-1]
    assert last == data.Photo("test/00029", "Ankle boot", "test")
    from sevenfold.image import decode

    decoded = decode(listing.source.load(last), name=last.path)
    np.testing.assert_array_equal(decoded[..., 0], images[29])


def test_fashion_mnist_says_how_to_install_it(tmp_path):
    with pytest.raises(ResourceError, match="apt install dataset-fashion-mnist"):
        data.fashion_mnist(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"no gzip",
        packed(b""),
        packed(bytes(90)),
        packed(bytes(90))[:-9],
        packed(struct.pack(">4I", 0x0803, 9, 28, 28)),
        packed(struct.pack(">4I", 0x0803, 2**32 - 1, 2**32 - 1, 2**32 - 1)),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path, damage):
    fashion(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(damage)
    with pytest.raises(DataError, match="t10k-images-idx3"):
        data.fashion_mnist(tmp_path)


def test_elpv_has_strata_and_no_groups(tmp_path, monkeypatch):
    package = tmp_path / "elpv_dataset"
    write(package / "data" / "images" / "a.png", 1)
    (package / "__init__.py").write_text("raise AssertionError('imported')", encoding="utf-8")
    lines = "images/a.png  0.6666666666666666  mono\nimages/b.png  0.3333333333333333  poly\n"
    (package / "data" / "labels.csv").write_text(lines, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "elpv_dataset", raising=False)
    listing = data.scan("elpv")
    assert listing.photos == (
        data.Photo("images/a.png", "defective", stratum="mono"),
        data.Photo("images/b.png", "intact", stratum="poly"),
    )
    assert listing.source.load(listing.photos[0]) == picture(1)


def test_elpv_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ResourceError, match=r'pip install "\.\[demo\]"'):
        data.scan("elpv")


def test_fingerprints_do_not_depend_on_the_number_of_threads(tmp_path):
    listing = data.scan(str(folder(tmp_path, count=150)))
    (tmp_path / "cat" / "7.png").write_bytes(b"damaged")
    seen = []

    def report(stage, done, total):
        seen.append((stage, done, total))

    one, many = (
        data.fingerprint_all(listing, threads=threads, progress=report) for threads in (1, 7)
    )
    damaged = [p.path for p in listing.photos].index("cat/7.png")
    assert isinstance(one[damaged], ImageRejected)
    keep = [i for i in range(300) if i != damaged]
    assert [one[i] for i in keep] == [many[i] for i in keep]
    assert seen[-1] == ("reading photos", 300, 300)
    assert [done for _, done, _ in seen[: len(seen) // 2]] == [64, 128, 192, 256, 300]


def test_unreadable_pictures_are_named_and_left_out(tmp_path):
    folder(tmp_path, count=20)
    (tmp_path / "cat" / "0.png").write_bytes(picture(0)[:60])
    (tmp_path / "dog" / "1.png").write_bytes(b"")
    (tmp_path / "dog" / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    dataset = data.read(str(tmp_path))
    assert len(dataset) == 38
    assert [item.path for item in dataset.quarantined] == [
        "cat/0.png",
        "dog/1.png",
        "dog/phone.heic",
    ]
    assert dataset.quarantined[1].reason == "the file is empty"
    assert dataset.labels.dtype == np.int64
    assert dataset.labels.tolist() == [0] * 19 + [1] * 19
    assert dataset.sizes.tolist() == [[8, 8]] * 38


def test_a_source_may_be_a_path(tmp_path):
    rows = [["path", "label"]]
    for number in range(12):
        write(tmp_path / f"{number}.png", number)
        rows.append([f"{number}.png", "ab"[number % 2]])
    source = table(tmp_path / "t.csv", rows)
    assert data.read(Path(source)).hashes == data.read(source).hashes
    assert data.read(Path(source)).source.location == source


def test_a_data_set_and_its_split_are_shown_in_one_short_line(tmp_path):
    dataset = data.read(str(folder(tmp_path / "pets", count=10)))
    assert repr(dataset) == "Dataset('pets': 20 pictures, 2 classes)"
    parted = data.split(dataset)
    assert len(parted.test)
    assert repr(parted) == (
        f"Split('pets': {len(parted.train)} train, 0 val, {len(parted.test)} test, 2 classes)"
    )


def test_the_share_of_unreadable_pictures_is_bounded(tmp_path):
    folder(tmp_path, count=10)
    for number in range(3):
        (tmp_path / "cat" / f"{number}.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"3 of 20 pictures cannot be read: cat/0\.png: not a"):
        data.read(str(tmp_path))
    assert len(data.read(str(tmp_path), max_unreadable=0.15)) == 17


def test_exact_copies_share_a_group_and_join_the_groups_they_connect(tmp_path):
    rows = [["path", "label", "group"]]
    numbers = [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    groups = ["a", "b", "b", "c", "", "", "", "", "", "", "", ""]
    for index, (number, group) in enumerate(zip(numbers, groups, strict=True)):
        write(tmp_path / f"{index}.png", number)
        rows.append([f"{index}.png", "x" if index < 7 else "y", group])
    dataset = data.read(table(tmp_path / "t.csv", rows))
    assert dataset.groups[:4] == ("a",) * 4
    assert len(set(dataset.groups[4:])) == 8
    assert dataset.groups[4] == dataset.hashes[4]


def test_boxes_of_one_file_share_a_group():
    photos = [data.Photo("a", "x", box=(0.0, 0.0, edge, 1.0)) for edge in (0.3, 0.6)]
    groups = data.merged_groups([*photos, data.Photo("b", "x")], ["1" * 32, "2" * 32, "3" * 32])
    assert groups == ("1" * 32, "1" * 32, "3" * 32)


def test_pictures_that_belong_together_for_another_reason_join_their_groups():
    given = {"a": "", "b": "q", "c": "", "d": "p", "e": ""}
    photos = [data.Photo(name, "x", group=group) for name, group in given.items()]
    hashes = [str(number) * 32 for number in range(5)]
    assert data.merged_groups(photos, hashes)[1:4] == ("q", hashes[2], "p")
    groups = data.merged_groups(photos, hashes, [(0, 1), (4, 3), (0, 3)])
    assert groups == ("p", "p", hashes[2], "p", "p")


def test_one_picture_under_two_labels_is_left_out_with_all_its_copies(tmp_path):
    folder(tmp_path)
    for name in ("cat/copy.png", "dog/copy1.png", "dog/copy2.png"):
        write(tmp_path / name, 99)
    dataset = data.read(str(tmp_path))
    assert len(dataset) == 12
    reason = "conflicting labels cat and dog"
    assert {(item.path, item.reason) for item in dataset.quarantined} == {
        ("cat/copy.png", reason),
        ("dog/copy1.png", reason),
        ("dog/copy2.png", reason),
    }


def test_small_classes_are_refused_dropped_or_merged(tmp_path):
    folder(tmp_path)
    folder(tmp_path, classes=("eel", "fox"), count=3, start=50)
    with pytest.raises(DataError, match="class `eel` has 3 different usable pictures"):
        data.read(str(tmp_path))
    dropped = data.read(str(tmp_path), small_classes="drop")
    assert dropped.classes == ("cat", "dog")
    assert {i.reason for i in dropped.quarantined} == {
        f"class {name} has 3 different usable pictures (of 3 photos), fewer than 5"
        for name in ("eel", "fox")
    }
    merged = data.read(str(tmp_path), small_classes="other")
    assert merged.classes == ("cat", "dog", "other")
    assert merged.labels.tolist().count(2) == 6
    assert merged.quarantined == ()


def test_copies_do_not_make_a_class_larger(tmp_path):
    folder(tmp_path)
    for index in range(9):
        write(tmp_path / "eel" / f"{index}.png", 50 + index % 3)
    with pytest.raises(DataError, match="class `eel` has 3 different usable pictures"):
        data.read(str(tmp_path))


def test_a_class_in_two_groups_cannot_be_split_but_may_be_given_roles(tmp_path):
    rows = [["path", "label", "group", "split"]]
    for index in range(24):
        write(tmp_path / f"{index}.png", index)
        label = "ab"[index % 2]
        group = "" if label == "a" else f"site {index % 4}"
        rows.append([f"{index}.png", label, group, ""])
    with pytest.raises(DataError, match="class `b` has 2 groups, fewer than 3"):
        data.read(table(tmp_path / "t.csv", rows))
    for row in rows[1:]:
        row[3] = "test" if row[2] == "site 1" or row[0] == "0.png" else "train"
    assert len(data.read(table(tmp_path / "t.csv", rows))) == 24


def test_the_classes_of_a_trained_model_are_kept(tmp_path):
    folder(tmp_path, classes=("dog",), count=2)
    dataset = data.read(str(tmp_path), classes=("zebra", "dog"))
    assert dataset.classes == ("zebra", "dog")
    assert dataset.labels.tolist() == [1, 1]
    with pytest.raises(DataError, match=r"label `dog` \(2 pictures\) is absent from training"):
        data.read(str(tmp_path), classes=("zebra", "cat"))


def test_another_function_may_take_the_fingerprints(tmp_path):
    def blank(listing):
        return [data.Fingerprint(f"{i:032x}", 3, 4) for i in range(len(listing.photos))]

    dataset = data.read(str(folder(tmp_path)), fingerprints=blank)
    assert dataset.hashes[1] == "0" * 31 + "1"
    assert dataset.sizes[0].tolist() == [3, 4]


def test_torch_is_never_imported():
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['pyarrow'] = None;"
        "import sevenfold.data, sevenfold.image, sevenfold.progress;"
        "print([m for m in ('timm', 'scipy', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_our_tables_quote_is_read_as_it_was(tmp_path):
    photo = tmp_path / "photos" / "x.png"
    write(photo, 1)
    texts = (str(photo), "=1+1", "@site")
    with (tmp_path / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label", "group"), map(guarded, texts)])
    (found,) = data.scan(str(tmp_path / "labels.csv")).photos
    assert (found.label, found.group) == ("=1+1", "@site")


def test_small_classes_of_a_training_are_known_again(tmp_path):
    folder(tmp_path)
    write(tmp_path / "owl" / "0.png", 90)
    known = {"classes": ("cat", "dog")}
    with pytest.raises(DataError, match="absent from training"):
        data.read(str(tmp_path), **known)
    dropped = data.read(str(tmp_path), small_classes="drop", **known)
    assert (len(dropped), dropped.classes) == (12, ("cat", "dog"))
    assert {one.path: one.reason for one in dropped.quarantined} == {
        "owl/0.png": "class owl is none of the model's"
    }
    with pytest.raises(DataError, match="absent from training"):
        data.read(str(tmp_path), small_classes="other", **known)
    merged = data.read(str(tmp_path), small_classes="other", classes=("cat", "dog", "other"))
    assert [photo.label for photo in merged.photos].count("other") == 1
    assert np.bincount(merged.labels).tolist() == [6, 6, 1]


def test_paths_of_windows_are_one_kind_of_path(tmp_path, monkeypatch):
    write(tmp_path / "a\\b_1.png", 1)
    write(tmp_path / "a" / "b_1.png", 2)
    text = table(tmp_path / "t.csv", [["path", "label"], ["a\\b_1.png", "x"]])
    assert data.scan(text).photos[0].path == "a\\b_1.png"
    monkeypatch.setattr("sevenfold.cells.os.sep", "\\")
    assert data.scan(text).photos[0].path == "a/b_1.png"


def test_a_parquet_files_own_column_of_paths_is_read(tmp_path):
    names = [f"patient{i // 2}_{i}.png" for i in range(4)]
    images = [picture(i) for i in range(4)]
    source = parquet(tmp_path / "p.parquet", images, ["a", "b"] * 2, filename=names)
    listing = data.scan(source, columns={"path": "filename"}, group_by=r"^(patient\d+)_")
    assert [photo.group for photo in listing.photos] == ["patient0"] * 2 + ["patient1"] * 2
    inner = [{"bytes": one, "path": "x.png"} for one in images]
    source = parquet(tmp_path / "q.parquet", inner, ["a", "b"] * 2, filename=names)
    asked = data.scan(source, columns={"path": "filename"}, group_by=r"^(patient\d+)_")
    assert asked.photos[0].group == "patient0"


def test_a_box_of_no_width_is_refused(tmp_path):
    write(tmp_path / "a.png", 1)
    text = table(tmp_path / "t.csv", [["path", "label", "box"], ["a.png", "x", "0,0,1e-320,1"]])
    with pytest.raises(DataError, match="not within the picture"):
        data.scan(text)
