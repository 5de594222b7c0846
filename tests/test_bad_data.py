"""Every kind of bad input ends in one clear message and the right exit code."""

import io
import os
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from sevenfold import data
from sevenfold.errors import DataError, SevenfoldError, UsageError


def picture(number, form="PNG", size=8, mode="RGB"):
    pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, form)
    return file.getvalue()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))


def good(root, classes=("cat", "dog"), count=6):
    for name in classes:
        for index in range(count):
            write(root / name / f"{index}.png", picture(1000 * (1 + ord(name[0])) + index))
    return root


def bomb():
    header = struct.pack(">IIBBBBB", 13_000, 13_000, 1, 0, 0, 0, 0)

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    rows = zlib.compress(bytes(13_000 * 1626), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def nothing(root):
    pass


def only_hidden(root):
    good(root / ".ipynb_checkpoints")
    good(root / "__MACOSX")
    write(root / ".DS_Store", "x")


def loose_pictures(root):
    for number in range(9):
        write(root / f"{number}.png", picture(number))


def loose_text(root):
    write(root / "readme.txt", "x")


def one_class(root):
    good(root, classes=("cat",))


def two_pictures_in_a_class(root):
    good(root)
    good(root, classes=("eel",), count=2)


def two_pictures_copied(root):
    good(root)
    for index in range(20):
        write(root / "eel" / f"{index}.png", picture(900 + index % 2))


def class_of_text_files(root):
    good(root)
    write(root / "notes" / "a.txt", "x")
    write(root / "notes" / "b.txt", "y")


def empty_class_folder(root):
    good(root)
    (root / "eel").mkdir()


def class_of_hidden_files(root):
    good(root)
    write(root / "eel" / ".a.png", picture(1))


def class_unreadable_though_others_are_many(root):
    good(root, count=60)
    write(root / "eel" / "a.png", b"x")


def all_conflicting(root):
    for name in ("cat", "dog"):
        for index in range(6):
            write(root / name / f"{index}.png", picture(index))


def roles_without_classes(root):
    for role in ("train", "test"):
        write(root / role / "a.png", picture(1))


def roles_beside_a_class(root):
    good(root / "train")
    good(root / "test")
    good(root, classes=("dog",))


def only_test(root):
    good(root / "test")


def class_only_in_test(root):
    good(root / "train")
    good(root / "test", classes=("zebra",))


def copies_in_test(root):
    good(root / "train")
    good(root / "test")


FOLDERS = {
    nothing: "holds no pictures",
    only_hidden: "holds no pictures",
    loose_pictures: "holds pictures but no class folders",
    loose_text: "holds no pictures",
    one_class: "only the class `cat` is left",
    two_pictures_in_a_class: r"class `eel` has 2 different usable pictures \(of 2 photos\)",
    two_pictures_copied: r"class `eel` has 2 different usable pictures \(of 20 photos\)",
    class_of_text_files: r"class folder `notes` holds no picture \(the first file is notes/a\.txt",
    empty_class_folder: "class folder `eel` holds no files",
    class_of_hidden_files: "class folder `eel` holds no files",
    class_unreadable_though_others_are_many: "class `eel` has 0 different usable pictures",
    all_conflicting: "class `cat` has 0 different usable pictures",
    roles_without_classes: "the folders of roles hold no class folders",
    roles_beside_a_class: r"folders of roles \(test, train\) and beside them `dog`",
    only_test: "absent from training",
    class_only_in_test: r"label `zebra` \(6 pictures\) is absent from training",
    copies_in_test: "no picture to train on",
}


def refused(error, kind, *, names=()):
    assert type(error) is kind
    for line in (error.problem, error.cure):
        assert line
        assert line.isprintable()
        assert line.endswith(".")
    for name in names:
        assert name in error.problem


@pytest.mark.parametrize("made", FOLDERS, ids=lambda made: made.__name__)
def test_folders_that_cannot_be_used(tmp_path, made):
    root = tmp_path / "photos"
    root.mkdir()
    made(root)
    with pytest.raises(DataError, match=FOLDERS[made]) as caught:
        data.split(data.read(str(root)))
    refused(caught.value, DataError, names=["photos"])
    assert caught.value.exit_code == 3


PICTURES = {
    "zero bytes": (b"", "empty"),
    "text": (b"hello", "not a readable"),
    "html": (b"<!doctype html><script>alert(1)</script>", "not a readable"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a readable"),
    "pdf": (b"%PDF-1.4", "not a readable"),
    "zip": (b"PK\3\4" + bytes(100), "not a readable"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(100), "not a readable"),
    "portable bitmap": (b"P6 1 1 255 abc", "not a readable"),
    "encapsulated postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not a readable"),
    "jpeg of three bytes": (b"\xff\xd8\xff", ""),
    "half a jpeg": (picture(1, "JPEG", 64)[:900], ""),
    "half a png": (picture(1, "PNG", 64)[:5000], "cut short"),
    "half a gif": (picture(1, "GIF", 64)[:2000], ""),
    "half a webp": (picture(1, "WEBP", 64)[:500], ""),
    "half a bitmap": (picture(1, "BMP", 64)[:5000], "cut short"),
    "half a tiff": (picture(1, "TIFF", 64)[:5000], ""),
    "png without its end of header": (picture(1)[:20], ""),
    "169 megapixels": (bomb(), "more than 50000000"),
    "nulls": (bytes(10_000), "not a readable"),
    "a lone byte": (b"\xff", "not a readable"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_that_cannot_be_read_are_named_and_the_rest_goes_on(tmp_path, kind):
    content, reason = PICTURES[kind]
    good(tmp_path)
    write(tmp_path / "cat" / "bad.jpg", content)
    dataset = data.read(str(tmp_path))
    assert len(dataset) == 12
    (left_out,) = dataset.quarantined
    assert left_out.path == "cat/bad.jpg"
    assert reason in left_out.reason
    assert left_out.reason.isprintable()
    assert len(data.split(dataset).test) >= 2


ACCEPTED = {
    "16-bit grey": ("PNG", "I;16"),
    "grey": ("PNG", "L"),
    "grey with alpha": ("PNG", "LA"),
    "palette": ("GIF", "P"),
    "one bit": ("TIFF", "1"),
    "cmyk": ("JPEG", "CMYK"),
    "float": ("TIFF", "F"),
    "alpha": ("WEBP", "RGBA"),
    "colours apart from light": ("JPEG", "YCbCr"),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_unusual_pictures_that_can_be_read_are_kept(tmp_path, kind):
    form, mode = ACCEPTED[kind]
    good(tmp_path)
    source = picture(7, mode="L")
    image = Image.open(io.BytesIO(source))
    made = Image.fromarray(np.asarray(image).astype(np.uint16) * 257) if mode == "I;16" else None
    file = io.BytesIO()
    (made or image.convert("RGB").convert(mode)).save(file, form)
    write(tmp_path / "cat" / "odd.png", file.getvalue())
    dataset = data.read(str(tmp_path))
    assert dataset.quarantined == ()
    assert len(dataset) == 13


TABLES = {
    "empty file": ("", {}, "no column `path`; there are: none"),
    "only a header": ("path,label\n", {}, "there is no row"),
    "no label column": (
        "path,species\na.png,x\n",
        {},
        "no column `label`; there are: path, species",
    ),
    "no path column": ("file,label\na.png,x\n", {}, "no column `path`; there are: file, label"),
    "renamed to nothing": ("path,label\na,x\n", {"group": "site"}, "no column `site`"),
    "a column twice": ("path,label,label\na,x,y\n", {}, "two columns `label`"),
    "two labels": (
        "path,label\na,x\na,y\n",
        {},
        "labelled `x` and `y`; multi-label is not supported",
    ),
    "no label": ("path,label\na,x\nb, \n", {}, "line 3: b has no label"),
    "no path": ("path,label\n,x\n", {}, "line 2: the path is empty"),
    "too many cells": ("path,label\na,x\nb,x,y\n", {}, "line 3: 3 cells under 2 columns"),
    "too few cells": ("path,label\na\n", {}, "line 2: 1 cells under 2 columns"),
    "an open quote": ('path,label\n"a,x\n', {}, "not a CSV"),
    "a huge cell": ("path,label\na," + "x" * 200_000, {}, "not a CSV"),
    "an unknown split": ("path,label,split\na,x,holdout\n", {}, "the split `holdout` is unknown"),
    "a box of pixels": ("path,label,box\na,x,'0,0,64,64'\n".replace("'", '"'), {}, "not within"),
    "a box of three": ('path,label,box\na,x,"0,0,1"\n', {}, "not within the picture"),
    "a box of words": ('path,label,box\na,x,"a,b,c,d"\n', {}, "not within the picture"),
    "a box that is nan": ("path,label,x,y,w,h\na,x,0,0,nan,1\n", {}, "not within the picture"),
    "an empty box": ("path,label,x,y,w,h\na,x,0,0,0,1\n", {}, "not within the picture"),
    "a box at the edge": ("path,label,x,y,w,h\na,x,1,0,5e-7,1\n", {}, "not within the picture"),
    "half a box": ("path,label,x,y,w,h\na,x,0,0,,1\n", {}, "not within the picture"),
    "latin-1": ("path,label\na,caf\xe9\n".encode("latin-1"), {}, r"not UTF-8 text \(byte 16\)"),
    "utf-16 cut short": ("path,label\na,x\n".encode("utf-16")[:-1], {}, "not UTF-16 text"),
    "binary": (bytes(range(256)), {}, "not UTF-8 text"),
    "null characters": ("path,label\n\0,x\n", {}, "1 of 1 pictures cannot be read"),
    "only missing files": (
        "path,label\na,x\nb,y\n",
        {},
        "2 of 2 pictures cannot be read: a: no such",
    ),
    "a folder as a file": ("path,label\n.,x\n", {}, "1 of 1 pictures cannot be read"),
    "a path that is too long": ("path,label\n" + "a" * 9000 + ",x\n", {}, "cannot be read"),
    "a path of Windows that is too long": (
        "path,label\nphotos\\" + "a" * 9000 + ",x\n",
        {},
        "cannot be read",
    ),
    "a web address": ("path,label\nhttp://x/a.png,x\n", {}, "no such file"),
    "a script": (
        "path,label,split\na,x,<script>\x1b[31m\n",
        {},
        r"`<script>\\x1b\[31m` is unknown",
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_that_cannot_be_used(tmp_path, kind):
    content, columns, message = TABLES[kind]
    write(tmp_path / "labels.csv", content)
    with pytest.raises(DataError, match=message) as caught:
        data.read(str(tmp_path / "labels.csv"), columns=columns)
    if "cannot be read" not in message:
        refused(caught.value, DataError)
    assert caught.value.exit_code == 3


def test_missing_files_of_a_csv_are_named_and_the_rest_goes_on(tmp_path):
    good(tmp_path, count=10)
    rows = [f"{name}/{i}.png,{name}" for name in ("cat", "dog") for i in range(10)]
    write(tmp_path / "t.csv", "\n".join(["path,label", *rows, "cat/gone.png,cat"]))
    dataset = data.read(str(tmp_path / "t.csv"))
    assert len(dataset) == 20
    assert dataset.quarantined == (data.Quarantined("cat/gone.png", "no such file"),)


PARQUET = {
    "damaged": (b"PAR1 not really PAR1", "not a readable parquet file"),
    "empty": (b"", "not a readable parquet file"),
}


@pytest.mark.parametrize("kind", PARQUET)
def test_parquet_files_that_cannot_be_read(tmp_path, kind):
    pytest.importorskip("pyarrow")
    content, message = PARQUET[kind]
    write(tmp_path / "p.parquet", content)
    with pytest.raises(DataError, match=message) as caught:
        data.scan(str(tmp_path))
    assert caught.value.problem.isprintable()
    assert caught.value.problem.startswith("p.parquet: ")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"picture": [b"x"], "label": [1]}, "no column `image`; there are: picture, label"),
        ({"image": [b"x"], "category": [1]}, "no column `label`"),
        ({"image": ["a.png"], "label": [None]}, "has no label"),
        ({"image": [[1, 2]], "label": [1]}, "the column `image` holds no bytes"),
        ({"image": [{"path": "a"}], "label": [1]}, "the column `image` holds no bytes"),
    ],
)
def test_parquet_files_of_other_columns(tmp_path, columns, message):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), tmp_path / "p.parquet")
    with pytest.raises(DataError, match=message) as caught:
        data.scan(str(tmp_path / "p.parquet"))
    refused(caught.value, DataError)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "no such folder or file"),
        ("elpvv", "no such folder or file"),
        ("photos.zip", "not a folder, a CSV or a parquet file"),
        ("photo.png", "not a folder, a CSV or a parquet file"),
    ],
)
def test_sources_of_no_kind(tmp_path, name, message):
    if "." in name:
        write(tmp_path / name, picture(1))
    with pytest.raises(DataError, match=message) as caught:
        data.scan(str(tmp_path / name))
    refused(caught.value, DataError, names=[name])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"path": "file"}}, "has no columns to rename"),
        ({"columns": {"species": "x"}}, "`species` is not a column"),
        ({"group_by": "("}, "is not a regular expression"),
        ({"group_by": r"\d+"}, "has no group in brackets"),
        ({"group_by": r"(patient)"}, r"matches no file name \(the first is '0\.png'\)"),
        ({"small_classes": "ignore"}, "'ignore' is unknown"),
    ],
)
def test_options_that_are_wrong_or_would_do_nothing(tmp_path, options, message):
    with pytest.raises(UsageError, match=message) as caught:
        data.read(str(good(tmp_path)), **options)
    refused(caught.value, UsageError)
    assert caught.value.exit_code == 2


def test_two_ways_to_name_groups(tmp_path):
    write(tmp_path / "t.csv", "path,label,group\na,x,g\n")
    with pytest.raises(UsageError, match="already has a group column"):
        data.scan(str(tmp_path / "t.csv"), group_by="(a)")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
@pytest.mark.parametrize("name", ["pipe", "pipe.png"])
def test_a_pipe_is_never_waited_for(tmp_path, name):
    good(tmp_path)
    os.mkfifo(tmp_path / "cat" / name)
    (tmp_path / "dog" / name).symlink_to(tmp_path / "cat" / name)
    assert len(data.read(str(tmp_path))) == 12


def test_a_class_folder_whose_name_is_blank(tmp_path):
    good(tmp_path)
    try:
        write(tmp_path / " " / "a.png", picture(1))
    except OSError:
        pytest.skip("the file system has no such names")
    if (tmp_path / " ").is_dir():
        with pytest.raises(DataError, match="class folder ' ' is blank"):
            data.read(str(tmp_path))


def test_a_folder_that_may_not_be_listed_is_named(tmp_path, monkeypatch):
    good(tmp_path)
    scandir = os.scandir

    def forbidding(path):
        if os.path.basename(path) == "dog":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidding)
    with pytest.raises(DataError, match=r"dog: cannot be listed \(Permission denied\)") as caught:
        data.read(str(tmp_path))
    refused(caught.value, DataError)


@pytest.mark.skipif(
    sys.platform == "win32" or (hasattr(os, "geteuid") and os.geteuid() == 0),
    reason="permissions do not hold here",
)
def test_what_may_not_be_read_is_named(tmp_path):
    good(tmp_path)
    (tmp_path / "cat" / "0.png").chmod(0)
    assert data.read(str(tmp_path), max_unreadable=0.5).quarantined[0].path == "cat/0.png"
    (tmp_path / "dog").chmod(0)
    try:
        with pytest.raises(DataError, match="cannot be listed"):
            data.read(str(tmp_path))
    finally:
        (tmp_path / "dog").chmod(0o700)


def test_there_are_at_least_forty_kinds_here():
    assert len(FOLDERS) + len(PICTURES) + len(TABLES) >= 40
    assert issubclass(DataError, SevenfoldError)
