import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from bundles import colour, knowing, seal, tiny_bundle, tiny_model
from sevenfold import cli, data, drift, image
from sevenfold.answers import Answer, Failure, write
from sevenfold.errors import DataError, ImageRejected, ModelError, ResourceError, UsageError
from sevenfold.predict import load, predict, sources
from sevenfold.tensors import pack, unpack

CLASSES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("model"), CLASSES)


@pytest.fixture
def copy(tmp_path):
    return tiny_bundle(tmp_path / "bundle", CLASSES)


def pixels(k: int, height: int = 20, width: int = 30) -> np.ndarray:
    return np.broadcast_to(np.array(colour(k, 3), dtype=np.uint8), (height, width, 3))


def png(k: int, width: int = 30) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels(k, width=width))).save(file, "PNG")
    return file.getvalue()


def ail(bundle: Path) -> None:
    """Make a model that answers with what is no number."""
    model = tiny_model(3, 8)
    bias = next(each for each in model.graph.initializer if each.name == "bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(3, np.nan, np.float32), "bias"))
    (bundle / "model.onnx").write_bytes(model.SerializeToString())
    seal(bundle)


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load(path)
    assert caught.value.exit_code == 4
    assert "\n" not in caught.value.problem + caught.value.cure
    return caught.value.problem


# -- answers ---------------------------------------------------------------------------


POINT = {
    "schema": "sevenfold.operating/1",
    "rule": "none",
    "thresholds": dict.fromkeys(CLASSES, 0.0),
    "weights": {},
    "costs": [],
}


def test_a_run_and_its_bundle_are_the_same_model(copy):
    one, other = load(copy), load(copy.parent)
    assert one.classes == other.classes == CLASSES
    assert (one.size, one.card["schema"]) == (8, "sevenfold.card/1")
    for k in range(3):
        assert one.probabilities(pixels(k)).argmax() == k
        assert (one.logits(pixels(k)) == other.logits(pixels(k))).all()


def test_the_outputs_of_one_picture(bundle):
    predictor = load(bundle, threads=1)
    logits, shares = predictor.logits(pixels(1)), predictor.probabilities(pixels(1))
    e = np.exp(logits - logits.max())
    assert shares == pytest.approx(e / e.sum(), abs=1e-6)
    assert predictor.features(pixels(1)).shape == (3, 8, 8)


def test_a_bundle_without_newer_parts_is_always_sure(bundle):
    found = load(bundle).answer(png(1), "x.png")
    assert (found.sure, found.unlike, found.map) == (True, False, "")
    assert np.isnan(found.distance)


def test_a_bundle_says_when_it_is_in_doubt(copy):
    predictor = load(knowing(copy, {"green": 1.0}))
    assert not predictor.answer(png(1), "x").sure
    assert predictor.answer(png(2), "x").sure
    grey = predictor.see(np.full((20, 30, 3), 128, np.uint8))
    assert grey.unlike
    assert predictor.see(pixels(0)).distance < 1e-3


def test_the_evidence_is_drawn_where_the_colour_is(copy, tmp_path):
    predictor = load(knowing(copy, {}))
    halves = np.concatenate([pixels(1, 40, 40), np.full((40, 40, 3), 128, np.uint8)], axis=1)
    file = io.BytesIO()
    Image.fromarray(halves).save(file, "PNG")
    (tmp_path / "maps").mkdir()
    source = [("../a/b.png", lambda: file.getvalue())]
    (found,) = predict(predictor, source, threads=1, explain=tmp_path / "maps")
    assert isinstance(found, Answer)
    assert Path(found.map).parent == tmp_path / "maps"
    shown = np.asarray(Image.open(found.map)).astype(int)
    moved = np.abs(shown - halves).sum(axis=2)
    assert moved[:, :30].min() > 100
    assert moved[:, 60:].max() == 0


def test_a_model_without_a_linear_head_explains_nothing(copy, tmp_path):
    with pytest.raises(UsageError, match="no map"):
        list(predict(load(copy), [], explain=tmp_path))
    card = json.loads((knowing(copy, {}) / "card.json").read_text("utf-8"))
    (copy / "card.json").write_text(json.dumps(card | {"ships": "vote"}), encoding="utf-8")
    seal(copy)
    with pytest.raises(UsageError, match="several networks vote"):
        list(predict(load(copy), [], explain=tmp_path))


def test_answers_are_tallied(copy):
    predictor = load(knowing(copy, {}))
    tally = drift.Tally(predictor.bundle.reference, predictor.classes)
    list(predict(predictor, [(f"f/{k}.png", lambda: png(1)) for k in range(40)], tally=tally))
    told = tally.to_json()
    assert told["pictures"] == 40
    assert told["differs"]
    assert told["groups"][0]["group"] == "f"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("features.safetensors", b"junk"),
        ("card.json", {"operating_point": {"schema": "sevenfold.operating/9"}}),
        ("card.json", {"unknown": {"schema": "sevenfold.unknown/1", "score": "magic"}}),
        ("card.json", {"drift": []}),
        ("card.json", {"operating_point": POINT | {"asked": {"purple": 0.9}}}),
        ("card.json", {"operating_point": POINT | {"asked": 7}}),
    ],
)
def test_damaged_newer_parts_are_refused_by_name(copy, name, content):
    knowing(copy, {})
    if isinstance(content, dict):
        card = json.loads((copy / "card.json").read_text("utf-8"))
        content = json.dumps(card | content).encode()
    (copy / name).write_bytes(content)
    seal(copy)
    assert "bundle" in refused(copy)


def test_rows_of_another_number_of_features_are_refused_by_name(copy):
    knowing(copy, {})
    held = unpack((copy / "features.safetensors").read_bytes())
    rows = {name: one[:, :2] if one.ndim == 2 else one for name, one in held.items()}
    (copy / "features.safetensors").write_bytes(pack(rows))
    seal(copy)
    assert "features.safetensors has rows of 2 numbers for 3 features" in refused(copy)


def test_an_answer_holds_all_probabilities(bundle):
    predictor = load(bundle)
    found = predictor.answer(png(2), "x.png")
    assert (found.path, found.label) == ("x.png", "blue")
    assert found.probability == max(found.probabilities) == found.probabilities[2]
    assert found.probabilities == tuple(predictor.probabilities(pixels(2)).tolist())


def test_a_path_is_answered_as_its_bytes_are(bundle, tmp_path):
    predictor, file = load(bundle), tmp_path / "x.png"
    file.write_bytes(png(2))
    for path in (file, str(file)):
        assert predictor.answer(path).path == str(file)
        found = predictor.answer(path, "mine").probabilities
        assert found == predictor.answer(png(2), "mine").probabilities
    assert predictor.answer(png(2)).path == "picture"
    assert predictor.answer(file, "mine").path == "mine"
    with pytest.raises(ImageRejected, match=r"none\.png: no such file"):
        predictor.answer(tmp_path / "none.png")


def test_a_path_is_explained_as_its_bytes_are(copy, tmp_path):
    predictor, file = load(knowing(copy, {})), tmp_path / "x.png"
    file.write_bytes(png(1))
    maps = []
    for given in (file, png(1)):
        maps.append(Path(predictor.explain(given, "x.png", tmp_path).map).read_bytes())
    assert maps[0] == maps[1]


def test_a_picture_that_the_gate_refuses_is_refused(bundle):
    with pytest.raises(ImageRejected):
        load(bundle).answer(b"text", "x.png")


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)]
)
def test_what_is_no_picture_is_refused(bundle, wrong):
    with pytest.raises(DataError):
        load(bundle).logits(wrong)


def test_answers_that_are_not_finite_are_refused(copy):
    ail(copy)
    with pytest.raises(ModelError, match="not finite"):
        load(copy).probabilities(pixels(0))


def test_a_model_that_is_to_blame_is_told_from_pictures_that_are(copy):
    ail(copy)
    pictures = [("a.png", lambda: png(0)), ("b.png", lambda: b"text")]
    found = list(predict(load(copy), pictures, threads=1))
    assert [one.of_model for one in found] == [True, False]
    good, bad = (str(copy.parent / name) for name in ("a.png", "b.png"))
    Path(good).write_bytes(png(0))
    Path(bad).write_bytes(b"text")
    assert cli.main(["predict", str(copy), good]) == 4
    assert cli.main(["predict", str(copy), good, bad]) == 3


def test_a_graph_that_opens_and_cannot_run_is_the_models_fault(bundle):
    class Failing:
        def run(self, *_: object) -> None:
            raise RuntimeError("no such kernel")

    predictor = replace(load(bundle), session=Failing())
    with pytest.raises(ModelError, match=r"model\.onnx cannot run: no such kernel"):
        predictor.see(pixels(0))


def test_a_map_that_cannot_be_written_ends_it_for_all(copy, tmp_path, monkeypatch):
    predictor, data = load(knowing(copy, {})), png(1)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(ResourceError, match="No space left on device"):
        list(predict(predictor, [("a.png", lambda: data)], threads=1, explain=tmp_path))


def test_a_mistyped_picture_leaves_finished_answers_where_they_are(copy, tmp_path):
    (tmp_path / "a.png").write_bytes(png(0))
    for name in ("out.parquet", "out.csv"):
        out = tmp_path / name
        assert cli.main(["predict", str(copy), str(tmp_path / "a.png"), "--out", str(out)]) == 0
        before = out.read_bytes()
        wrong = ["predict", str(copy), str(tmp_path / "missing.png"), "--out"]
        assert cli.main([*wrong, str(out)]) == 2
        assert out.read_bytes() == before
        new = tmp_path / f"new-{name}"
        assert cli.main([*wrong, str(new)]) == 2
        assert not new.exists()


# -- bundles ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.onnx", "card.json", "labels.txt", "README.md"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_file_is_named(copy, name, damage):
    path = copy / name
    data = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if damage == "cut" else bytes([data[0] ^ 1]) + data[1:])
    assert name in refused(copy)


def test_another_listed_file_is_checked_too(copy):
    (copy / "extra.bin").write_bytes(b"1")
    seal(copy)
    assert load(copy).classes == CLASSES
    (copy / "extra.bin").write_bytes(b"2")
    assert "extra.bin" in refused(copy)


def test_a_folder_without_sums_is_no_bundle(copy):
    (copy / "SHA256SUMS").unlink()
    assert "not a bundle" in refused(copy)


def test_a_missing_folder_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError):
        load(tmp_path / "missing")


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "sub/file", "..\\secret", "C:secret", ".", "..", ""]
)
def test_sums_never_reach_out_of_the_folder(copy, name):
    (copy.parent / "secret").write_bytes(b"x")
    line = f"{hashlib.sha256(b'x').hexdigest()}  {name}\n"
    with (copy / "SHA256SUMS").open("a", encoding="utf-8", newline="") as file:
        file.write(line)
    assert "SHA256SUMS" in refused(copy)


@pytest.mark.parametrize("text", ["", "model.onnx\n", "\xff", "0" * 64 + "  README.md\n"])
def test_sums_must_name_what_is_needed(copy, text):
    (copy / "SHA256SUMS").write_bytes(text.encode("latin-1"))
    assert "bundle" in refused(copy)


def test_a_file_named_twice_is_refused(copy):
    sums = (copy / "SHA256SUMS").read_bytes()
    (copy / "SHA256SUMS").write_bytes(sums + sums)
    assert "SHA256SUMS" in refused(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "other/1"},
        {"schema": None},
        {"classes": ["red", "green"]},
        {"classes": "red"},
        {"classes": [1, 2, 3]},
        {"size": "8"},
        {"size": 0},
        {"size": True},
    ],
)
def test_a_card_that_does_not_fit_is_refused(copy, change):
    card = json.loads((copy / "card.json").read_text(encoding="utf-8"))
    (copy / "card.json").write_text(json.dumps(card | change), encoding="utf-8")
    seal(copy)
    assert re.search("card.json|labels.txt", refused(copy))


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_a_card_that_is_no_object_is_refused(copy, text):
    (copy / "card.json").write_text(text, encoding="utf-8")
    seal(copy)
    assert "card.json" in refused(copy)


def test_a_newer_card_names_the_cure(copy):
    text = (copy / "card.json").read_text(encoding="utf-8")
    (copy / "card.json").write_text(text.replace("card/1", "card/2"), encoding="utf-8")
    seal(copy)
    with pytest.raises(ModelError) as caught:
        load(copy)
    assert "card/2" in caught.value.problem
    assert "newer version" in caught.value.cure


def test_weights_outside_the_file_are_refused(copy, monkeypatch):
    model = tiny_model(3, 8)
    monkeypatch.chdir(copy)
    onnx.save_model(
        model, copy / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    assert (copy / "w.bin").exists()
    onnx.load(copy / "model.onnx")  # whole, if one followed the link
    seal(copy)
    assert "model.onnx" in refused(copy)


def test_bytes_that_are_no_model_are_refused(copy):
    (copy / "model.onnx").write_bytes(b"garbage")
    seal(copy)
    assert "model.onnx" in refused(copy)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("input name", "takes"),
        ("input type", "takes"),
        ("no features", "gives"),
        ("another count of classes", "gives"),
    ],
)
def test_a_graph_of_another_kind_is_refused(copy, change, said):
    model = tiny_model(4 if "count" in change else 3, 8)
    graph = model.graph
    if change == "no features":
        del graph.output[2]
    if "input" in change:
        name = "photo" if change == "input name" else "image"
        kind = onnx.TensorProto.UINT8 if change == "input name" else onnx.TensorProto.FLOAT
        shape = ["batch", "height", "width", 3]
        graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info(name, kind, shape))
        for node in graph.node:
            node.input[:] = [name if each == "image" else each for each in node.input]
    (copy / "model.onnx").write_bytes(model.SerializeToString())
    seal(copy)
    problem = refused(copy)
    assert "model.onnx" in problem
    assert said in problem


# -- streams ---------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
def test_answers_come_in_order_and_failures_stay_in_place(bundle, threads):
    def read(k: int) -> bytes:
        if k == 7:
            raise OSError(2, "No such file")
        if k == 8:
            raise KeyError("anything")
        return b"" if k == 9 else png(k % 3, width=900 if k % 5 == 0 else 9)

    pictures = [(f"{k}.png", lambda k=k: read(k)) for k in range(20)]
    found = list(predict(load(bundle), pictures, threads=threads))
    assert [each.path for each in found] == [f"{k}.png" for k in range(20)]
    failures = {each.path: each.reason for each in found if isinstance(each, Failure)}
    assert failures["7.png"] == "No such file"
    assert "KeyError" in failures["8.png"]
    assert failures["9.png"] == "the file is empty"
    right = [each.label == CLASSES[k % 3] for k, each in enumerate(found) if k not in (7, 8, 9)]
    assert len(failures) == 3
    assert all(right)


def test_threads_do_not_change_an_answer(bundle):
    pictures = [(str(k), lambda k=k: png(k % 3, width=40 + k)) for k in range(12)]
    one, many = (list(predict(load(bundle), pictures, threads=n)) for n in (1, 4))
    assert one == many


def test_few_pictures_are_in_memory_at_a_time(bundle):
    read, ahead = [], []

    def endless():
        k = 0
        while True:
            yield str(k), lambda k=k: read.append(k) or png(0)
            k += 1

    stream = predict(load(bundle), endless(), threads=2)
    for taken in range(50):
        next(stream)
        ahead.append(len(read) - taken)
    before = threading.active_count()
    stream.close()
    assert max(ahead) <= 6
    assert threading.active_count() < before


# -- sources ---------------------------------------------------------------------------


def tree(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(0))
    return folder


def relative(folder: Path, arguments: list[Path]) -> list[str]:
    return [Path(path).relative_to(folder).as_posix() for path, _ in sources(arguments)]


def test_folders_are_searched_in_depth_and_in_order(tmp_path):
    names = ["b.png", "a/2.png", "a/1.png", "c/d/e.jpg"]
    hidden = [".x.png", ".git/x.png", "__MACOSX/x.png", "c/.ipynb_checkpoints/x.png", "Thumbs.db"]
    tree(tmp_path, *names, *hidden)
    assert relative(tmp_path, [tmp_path]) == ["a/1.png", "a/2.png", "b.png", "c/d/e.jpg"]
    assert relative(tmp_path, [tmp_path / "b.png", tmp_path / "c"]) == ["b.png", "c/d/e.jpg"]


def test_a_csv_may_call_its_paths_otherwise(tmp_path):
    tree(tmp_path, "a.png")
    (tmp_path / "list.csv").write_text("path,file\nnone.png,a.png\n", encoding="utf-8")
    ((name, read),) = sources([tmp_path / "list.csv"], column="file")
    assert Path(name).name == "a.png"
    assert read() == png(0)
    with pytest.raises(DataError, match="no column `photo`") as caught:
        sources([tmp_path / "list.csv"], column="photo")  # before anything is written
    assert "--columns path=NAME" in caught.value.cure


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["list.csv", "list.TSV"])
def test_a_list_is_read_as_training_reads_it(tmp_path, separator, encoding, name):
    tree(tmp_path, "sub/1 é.png")
    rows = [("label", " path "), ("x", r" sub\1 é.png "), ("", ""), ("x", "sub/1 é.png")]
    text = "".join(f"{separator.join(row)}\r\n" for row in rows)
    (tmp_path / name).write_bytes(text.encode(encoding))
    found = list(sources([tmp_path / name]))
    assert [Path(path).name for path, _ in found] == ["1 é.png"] * 2
    assert [read() for _, read in found] == [png(0)] * 2
    (photo,) = data.scan(str(tmp_path / name)).photos
    assert photo.path == "sub/1 é.png"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_long_list_is_never_held_whole(tmp_path, encoding):
    (tmp_path / "list.csv").write_text("path\n" + "a.png\n" * 100_000, encoding=encoding)
    tracemalloc.start()
    try:
        assert sum(1 for _ in sources([tmp_path / "list.csv"])) == 100_000
        assert tracemalloc.get_traced_memory()[1] < 300_000
    finally:
        tracemalloc.stop()


def test_a_csv_names_pictures_beside_it(tmp_path):
    tree(tmp_path, "a.png", "sub/=b.png", "sub/c,\n.png")
    table = tmp_path / "sub" / "list.CSV"
    absolute = tmp_path / "a.png"
    text = f'\ufefflabel,path\nx,{absolute}\nx,\'=b.png\nx,"c,\n.png"\nx,\nx,missing.png\n'
    table.write_text(text, encoding="utf-8")
    found = list(sources([table]))
    assert [Path(path).name for path, _ in found[:3]] == ["a.png", "=b.png", "c,\n.png"]
    assert all(read() == png(0) for _, read in found[:3])
    assert "line 6" in found[3][0]
    for _, read in found[3:]:
        with pytest.raises(OSError, match=r"no path|No such"):
            read()


def test_of_a_row_with_a_box_that_part_is_answered(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    text = 'path,box\na.png,""\na.png,"0,0,0.5,1"\na.png,"0.5,0,0.6,1"\n'
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    whole, part, outside = sources([tmp_path / "list.csv"])
    assert (image.decode(whole[1](), name="") == pixels).all()
    assert Path(part[0]).name == "a.png#0.0,0.0,0.5,1.0"
    assert (image.decode(part[1](), name="") == pixels[:, :5]).all()
    with pytest.raises(OSError, match=r"the box `0\.5,0,0\.6,1` is not within"):
        outside[1]()
    refused = sources([tmp_path / "list.csv"], parts=False)
    assert Path(next(refused)[0]).name == "a.png"
    with pytest.raises(DataError, match="line 3, names a part of a picture"):
        next(refused)
    corners = "path,x,y,w,h\na.png,0,0.5,1,0.5\n"
    (tmp_path / "corners.csv").write_text(corners, encoding="utf-8")
    ((_, read),) = sources([tmp_path / "corners.csv"])
    assert (image.decode(read(), name="") == pixels[4:]).all()
    (tmp_path / "x.csv").write_text("path,x\na.png,7\n", encoding="utf-8")
    ((name, _),) = sources([tmp_path / "x.csv"])
    assert Path(name).name == "a.png"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"file\nx.png\n",
        b'path\n"' + b"x" * 200_000,
        b'path\na.png\n"b.png\n',
        "path\na.png\n".encode("utf-16")[:-1],
    ],
)
def test_a_csv_that_cannot_be_used_is_named(tmp_path, content):
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"list\.csv"):
        list(sources([tmp_path / "list.csv"]))


def test_a_missing_argument_is_said_at_once(tmp_path):
    with pytest.raises(UsageError, match="missing"):
        sources([tmp_path, tmp_path / "missing"])


def test_listing_is_lazy(tmp_path):
    tree(tmp_path, "a/1.png", "b/1.png")
    found = sources([tmp_path])
    assert next(found)[0].endswith("1.png")
    (tmp_path / "b" / "2.png").write_bytes(b"")
    assert len(list(found)) == 2


def test_what_cannot_be_read_fails_alone(bundle, tmp_path, monkeypatch):
    tree(tmp_path, "a.png", "sub/c.png")
    (tmp_path / "b.txt").write_text("hello", encoding="utf-8")
    monkeypatch.setattr(image, "LARGEST_FILE", 5000)
    (tmp_path / "big.png").write_bytes(bytes(5001))
    pipes = {"pipe"} if hasattr(os, "mkfifo") else set()
    for name in pipes:
        os.mkfifo(tmp_path / name)
    found = list(predict(load(bundle), sources([tmp_path]), threads=1))
    answered = [Path(each.path).name for each in found if isinstance(each, Answer)]
    failed = [Path(each.path).name for each in found if isinstance(each, Failure)]
    assert answered == ["a.png", "c.png"]
    assert set(failed) == {"b.txt", "big.png"} | pipes


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_links_are_followed_but_never_in_circles(tmp_path):
    tree(tmp_path, "a/1.png", "other/2.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "z").symlink_to(tmp_path / "other")
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    names = [Path(path).name for path, _ in sources([tmp_path / "a"])]
    assert names.count("1.png") == 1
    assert "2.png" in names


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are no text")
def test_a_name_that_is_no_text_reaches_the_table(bundle, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    with open(os.fsencode(folder) + b"/caf\xe9.png", "wb") as file:
        file.write(png(1))
    out = tmp_path / "out.parquet"
    assert write(out, predict(load(bundle), sources([folder]), threads=1), CLASSES).answers == 1
    assert write(tmp_path / "out.csv", predict(load(bundle), sources([folder])), CLASSES).answers


# -- what is deployed ------------------------------------------------------------------


def test_predict_works_where_torch_cannot_be_imported(bundle, tmp_path):
    (tmp_path / "x.png").write_bytes(png(2))
    program = f"""
import sys
for name in ("torch", "torchvision", "timm", "onnx", "scipy", "sklearn", "pyarrow"):
    sys.modules[name] = None
from pathlib import Path
from sevenfold import evaluate, predictions
from sevenfold.predict import load, predict, sources
from sevenfold.answers import write
found = predict(load(Path({str(bundle)!r})), sources([{str(tmp_path / "x.png")!r}]))
assert write(Path({str(tmp_path / "out.csv")!r}), found, {CLASSES!r}).answers == 1
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert ",blue," in (tmp_path / "out.csv").read_text(encoding="utf-8")


def test_importing_predict_imports_neither_torch_nor_pyarrow():
    program = (
        "import sys, sevenfold.predict, sevenfold.evaluate, sevenfold.predictions\n"
        "print({'torch', 'pyarrow', 'onnx', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, timeout=60, capture_output=True, text=True
    )
    assert done.stdout.strip() == "set()"
