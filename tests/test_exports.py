"""Exports: what is written, what is held against the model, and what is refused."""

import base64
import gzip
import hashlib
import importlib
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import photos
from sevenfold import cli, data, exports, latency, operating, predict, runs
from sevenfold import export as graphs
from sevenfold.bundles import read_bundle, read_whole
from sevenfold.errors import DataError, GateRefused, ModelError, ResourceError, UsageError
from sevenfold.evaluate import Estimate
from sevenfold.exports import Asked, folder, html, int8, judge, litert, make, runtime, verify, vote
from sevenfold.features.trunk import session
from sevenfold.practices.ensembling.graph import voting
from sevenfold.predictions import Predictions, read_predictions, write_predictions
from sevenfold.progress import silent

parting = importlib.import_module("sevenfold.data.split")
SIDE = 16
WIDTH = 64  # enough that eight bits for each weight make a smaller file
CLASSES = ("blue", "green", "red")


def core() -> onnx.ModelProto:
    """Build a network of two convolutions whose last layer knows the colours."""
    draw = np.random.default_rng(0)
    first = draw.normal(0, 0.05, (WIDTH, 3, 3, 3))
    first[:3] = 0
    first[[0, 1, 2], [0, 1, 2], 1, 1] = 1 / 64  # three channels keep the colour
    second = np.zeros((WIDTH, WIDTH, 1, 1))
    second[np.arange(WIDTH), np.arange(WIDTH)] = 1
    head = np.zeros((WIDTH, 3))
    head[:3] = [[-1, -1, 2], [-1, 2, -1], [2, -1, -1]]
    weights = {
        "first": first,
        "second": second,
        "head": 3 * head,
        "low": np.array(0.0),
        "high": np.array(6.0),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["net_pixels", "first"], ["one"], pads=[1, 1, 1, 1]),
        node("Clip", ["one", "low", "high"], ["two"]),
        node("Conv", ["two", "second"], ["features"]),
        node("GlobalAveragePool", ["features"], ["pooled"]),
        node("Flatten", ["pooled"], ["flat"]),
        node("Gemm", ["flat", "head"], ["raw"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "network",
        [value("net_pixels", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [
            value("raw", TensorProto.FLOAT, ["batch", 3]),
            value("features", TensorProto.FLOAT, ["batch", WIDTH, SIDE, SIDE]),
        ],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


MODEL = graphs.assemble(core(), SIDE, 3, 1.0)


def faster(models, **_):
    """Say that the last model takes half the time of the others."""
    return np.tile(np.array([2.0] * (len(models) - 1) + [1.0])[:, None], (1, 20))


def slower(models, **_):
    return 1 / faster(models)


def busy(models, **_):
    return np.tile(np.arange(1.0, len(models) + 1)[:, None], (1, 20))


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    place = photos.write(tmp_path_factory.mktemp("photos"), dict.fromkeys(CLASSES, 24))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parting, "SMALL_DATA", 10)
        return data.split(data.read(str(place)), val=0.4, test=0.2)


@pytest.fixture
def run(split, tmp_path, monkeypatch) -> Path:
    """Write what exports read of a finished run."""
    place = tmp_path / "run"
    card = {
        "schema": "sevenfold.card/1",
        "title": "colours </script><script>alert(1)</script>",
        "classes": list(CLASSES),
        "size": SIDE,
        "temperature": 1.0,
        "scores": {"pictures": 9},
        "latency_ms": 1.0,
        "machine": "a board",
    }
    graphs.write(place / "bundle", MODEL, CLASSES, card, "# A model\n")
    shares = graphs.answers(MODEL, split.dataset, split.val.tolist(), 1).astype(np.float64)
    rows = split.val.tolist()
    known = Predictions(
        CLASSES,
        tuple(split.dataset.photos[at].path for at in rows),
        tuple(split.dataset.hashes[at] for at in rows),
        ("val",) * len(rows),
        tuple(split.dataset.groups[at] for at in rows),
        np.full(len(rows), -1),
        split.dataset.labels[split.val],
        shares / shares.sum(axis=1, keepdims=True),
    )
    write_predictions(place / "predictions.csv", known)
    opened = SimpleNamespace(
        folder=place, split=split, facts={"ensembling": {}}, members=(), network=None, recipe=None
    )
    monkeypatch.setattr(runs, "reopened", lambda *_, **__: opened)
    return place


def made(run: Path, to: str, timer=faster, **asked):
    request = Asked(to, **asked)
    return exports.export(
        run, request, out=run / "out" / to, data="", threads=1, progress=silent, timer=timer
    )


def test_the_bundle_is_copied_once_it_gives_the_answers_of_the_run(run):
    facts = made(run, "onnx")
    assert facts["schema"] == "sevenfold.export/1"
    assert facts["agreement"]["pictures"] > 20
    assert facts["agreement"]["top1"] == 1
    assert read_bundle(run / "out" / "onnx").model == MODEL


def test_a_bundle_that_answers_otherwise_than_its_run_is_not_copied(run):
    path = run / "predictions.csv"
    known = read_predictions(path)
    write_predictions(path, replace(known, probabilities=known.probabilities[:, ::-1].copy()))
    with pytest.raises(GateRefused, match="the bundle disagrees"):
        made(run, "onnx")
    assert not (run / "out" / "onnx").exists()


def test_an_export_is_replaced_only_if_asked_and_nothing_else_ever(run, tmp_path):
    made(run, "onnx")
    with pytest.raises(UsageError, match="holds an export already"):
        made(run, "onnx")
    made(run, "onnx", replace=True)
    other = tmp_path / "mine"
    other.mkdir()
    with pytest.raises(UsageError, match="is no export"):
        folder.check(other, replace=True)
    (other / "SHA256SUMS").write_text(f"{'0' * 64}  thesis.pdf\n", encoding="utf-8")
    with pytest.raises(UsageError, match="is no whole export"):
        folder.check(other, replace=True)
    (run / "data.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match="that a run serves"):
        folder.check(run / "bundle", replace=True)
    for inside in (run / "bundle" / "sub", run / "out" / "onnx" / "a" / "b"):
        with pytest.raises(UsageError, match="lies inside"):
            folder.check(inside, replace=True)
    (run / "out" / "onnx" / ".DS_Store").write_bytes(b"")
    folder.check(run / "out" / "onnx", replace=True)
    (run / "out" / "onnx" / "classify.py").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"holds also classify\.py"):
        folder.check(run / "out" / "onnx", replace=True)


def test_what_lies_beside_an_export_stays(tmp_path):
    beside = [tmp_path / "phone.old", tmp_path / "phone.part"]
    for one in beside:
        one.mkdir()
        (one / "mine").write_text("mine", encoding="utf-8")
    for _ in range(2):
        folder.written(tmp_path / "phone", {"a": b"1"})
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "phone", *beside])
    assert all((one / "mine").exists() for one in beside)


def test_an_export_that_cannot_be_put_in_place_leaves_the_older_one(tmp_path, monkeypatch):
    folder.written(tmp_path / "phone", {"a": b"1"})

    real = Path.rename

    def failing(error: BaseException):
        def rename(self: Path, target: Path) -> Path:
            if target == tmp_path / "phone" and (self / "a").read_bytes() == b"2":
                raise error
            return real(self, target)

        return rename

    for error, told in (
        (OSError(28, "No space left on device"), ResourceError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", failing(error))
            with pytest.raises(told):
                folder.written(tmp_path / "phone", {"a": b"2"})
        assert [path.name for path in tmp_path.iterdir()] == ["phone"]
        assert (tmp_path / "phone" / "a").read_bytes() == b"1"


def test_a_bundle_without_validation_is_held_against_its_own_test(run, split, monkeypatch):
    few = replace(split, val=split.val[:0], train=np.concatenate([split.train, split.val]))
    opened = SimpleNamespace(folder=run, split=few)
    monkeypatch.setattr(runs, "reopened", lambda *_, **__: opened)
    assert made(run, "onnx")["agreement"]["pictures"] == 0
    stored = graphs.selftest(MODEL)
    card = json.loads((run / "bundle" / "card.json").read_text("utf-8"))
    more = {"selftest.json": stored}
    graphs.write(run / "bundle", MODEL, CLASSES, card, "# A model\n", more)
    facts = made(run, "onnx", replace=True)
    assert (facts["agreement"]["pictures"], facts["agreement"]["role"]) == (1, "made-up")
    told = json.loads(stored)
    more = {"selftest.json": json.dumps(told | {"probabilities": [0.2, 0.5, 0.3]}).encode()}
    graphs.write(run / "bundle", MODEL, CLASSES, card, "# A model\n", more)
    with pytest.raises(GateRefused, match="the bundle disagrees"):
        made(run, "onnx", replace=True)


@pytest.mark.parametrize(
    ("weights", "val", "said"),
    [((), [1], "no vote to export"), ((0.0, 1.0), [1], "no vote"), ((0.5, 0.5), [], "calibrate")],
)
def test_a_vote_needs_two_that_have_a_say_and_validation(weights, val, said):
    run = SimpleNamespace(weights=weights, folder="run", split=SimpleNamespace(val=val))
    with pytest.raises(UsageError, match=said):
        vote.of(run, largest=1e-4, threads=1)


def test_a_setting_of_another_format_is_refused():
    for useless in ({"processor": "arm64"}, {"for_size": True}, {"latency_table": "t.json"}):
        with pytest.raises(UsageError, match="does nothing with --to html"):
            make.check(Asked("html", **useless))
        make.check(Asked("int8", **useless))


def test_half_precision_halves_the_file_and_keeps_the_answers():
    narrow = html.halved(MODEL)
    assert len(narrow) < 0.8 * len(MODEL)
    stored = {w.name: w.data_type for w in onnx.load_from_string(narrow).graph.initializer}
    assert stored["first.float16"] == stored["second.float16"] == TensorProto.FLOAT16
    pixels = photos.picture("red", 1)[None]
    one, two = (session(m, 1).run(["probabilities"], {"image": pixels})[0] for m in (narrow, MODEL))
    assert np.abs(one - two).max() < 1e-2


def test_weights_beyond_half_precision_stay_as_they_are():
    model = onnx.load_from_string(MODEL)
    large = next(w for w in model.graph.initializer if w.name == "first")
    values = numpy_helper.to_array(large).copy()
    values[0, 0, 0, 0] = 1e6
    large.CopyFrom(numpy_helper.from_array(values, "first"))
    stored = {
        w.name
        for w in onnx.load_from_string(html.halved(model.SerializeToString())).graph.initializer
    }
    assert "first" in stored
    assert "second.float16" in stored


def test_the_page_holds_all_that_it_needs_and_asks_for_nothing(run):
    facts = made(run, "html")
    text = (run / "out" / "html" / make.PAGE).read_text(encoding="utf-8")
    assert facts["agreement"]["role"] == "validation"
    assert not re.search(r"(src|href)=", re.sub(r"<script.*?</script>", "", text, flags=re.S))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy
    style = re.search(r"<style>(.*?)</style>", text, re.S)[1]
    script = re.search(r'<script type="module">(.*?)</script>', text, re.S)[1]
    for part in (style, script):
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    packed = re.search(r'id="model">([^<]+)<', text)[1]
    assert gzip.decompress(base64.b64decode(packed)) == html.halved(MODEL)


def test_names_cannot_leave_their_place_in_the_page(run):
    bundle = read_bundle(run)
    hostile = '</script><img src=x onerror="alert(1)">&<!--'
    text = html.page(replace(bundle, classes=(hostile, "b", "c")), html.halved(MODEL))
    assert hostile not in text
    assert "<script>alert" not in text
    facts = json.loads(re.search(r'id="facts">(.*?)</script>', text, re.S)[1])
    assert facts["classes"][0] == hostile
    assert facts["thresholds"] == [0.0, 0.0, 0.0]


def test_the_page_decides_by_the_operating_point(run):
    bundle = read_bundle(run)
    point = {
        "schema": "sevenfold.operating/1",
        "rule": "halved_error",
        "thresholds": dict(zip(CLASSES, (0.5, 0.6, 0.7), strict=True)),
        "weights": {"red": 2.0},
        "costs": [],
    }
    marked = replace(bundle, point=operating.from_card({"operating_point": point}, CLASSES))
    text = html.page(marked, html.halved(MODEL))
    facts = json.loads(re.search(r'id="facts">(.*?)</script>', text, re.S)[1])
    assert (facts["thresholds"], facts["weights"]) == ([0.5, 0.6, 0.7], [1.0, 1.0, 2.0])


def test_a_page_that_is_too_large_is_refused(run, monkeypatch):
    monkeypatch.setattr(html, "LARGEST_MEGABYTES", 0.5)
    with pytest.raises(GateRefused, match=r"more than 0\.5"):
        made(run, "html")


def test_the_browser_runtime_is_the_one_that_is_named(monkeypatch):
    assert runtime.runtime().script.count("const ort={InferenceSession:") == 1
    monkeypatch.setitem(runtime.SHA256, runtime.SCRIPT, "0" * 64)
    with pytest.raises(ModelError, match="is damaged"):
        runtime.runtime()
    with pytest.raises(ModelError, match="no list of exports"):
        runtime.in_one_script("let a = 1;")


def quantised(processor: str) -> onnx.ModelProto:
    pictures = [photos.picture(label, at) for label in CLASSES for at in range(3)]
    return onnx.load_from_string(int8.quantised(MODEL, pictures, processor))


@pytest.mark.parametrize(
    ("processor", "activations", "most"), [("x86", 2, 64), ("x86-vnni", 2, 127), ("arm64", 3, 127)]
)
def test_types_are_those_of_the_processor(processor, activations, most):
    graph = quantised(processor).graph
    held = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
    weights = [held[name] for name in ("first_quantized", "second_quantized")]
    assert all(w.dtype == np.int8 for w in weights)
    assert most - 1 <= max(int(np.abs(w.astype(int)).max()) for w in weights) <= most
    assert held["first_scale"].shape == (WIDTH,)
    (zero,) = (
        w for w in graph.initializer if w.name == "one_zero_point" or w.name == "two_zero_point"
    )
    assert zero.data_type == activations


def test_resize_head_and_softmax_stay_float():
    graph = quantised("x86").graph
    narrow = {
        name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output
    }
    for kind in ("Resize", "Gemm", "Softmax", "Round"):
        (node,) = (one for one in graph.node if one.op_type == kind)
        assert not any(
            "weight" in name or name.startswith("head_") for name in narrow & set(node.input)
        )
    assert not any(w.name.startswith("head_quant") for w in graph.initializer)


def test_all_networks_of_a_vote_are_quantised_and_the_vote_is_not():
    cores = [core(), core()]
    cores[1].graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.full((WIDTH, 3, 3, 3), 0.01, np.float32), "first")
    )
    whole = graphs.assemble(voting(cores, np.array([0.5, 0.5]), "soft"), SIDE, 3, 1.0)
    graph = onnx.load_from_string(whole)
    for at, node in enumerate(graph.graph.node):
        node.name = f"{node.op_type}_{at}"
    kinds = [name.partition("_")[0] for name in int8._network(graph)]
    layers = [node.op_type for node in graph.graph.node]
    assert layers.count("Conv") == kinds.count("Conv") == 4
    assert layers.count("Clip") == kinds.count("Clip") == 2
    assert "Add" in layers
    assert not {"Add", "Gemm"} & {*kinds}


def test_speed_says_nothing_of_another_processor(monkeypatch):
    monkeypatch.setattr(int8, "here", lambda: "x86-vnni")
    assert [int8.measurable(one) for one in int8.PROCESSORS] == [False, True, False]


def test_int8_that_is_no_smaller_is_not_wanted_for_its_size(run, monkeypatch):
    monkeypatch.setattr(int8, "quantised", lambda *_: MODEL)
    with pytest.raises(GateRefused, match="int8 is refused: it has"):
        made(run, "int8", for_size=True, max_drop=1.0)


def test_the_same_pictures_give_the_same_int8_file():
    assert quantised("x86") == quantised("x86")


def test_a_graph_without_layers_cannot_be_quantised():
    from bundles import tiny_model

    single = tiny_model(2, 8)
    del single.graph.node[7:8]
    single.graph.node[7].input[0] = "scaled"
    with pytest.raises(GateRefused, match="no layer"):
        int8.quantised(single.SerializeToString(), [], "x86")


def test_int8_that_is_faster_and_as_good_is_a_bundle(run, split, monkeypatch):
    monkeypatch.setattr(int8, "measurable", lambda processor: True)
    facts = made(run, "int8", max_drop=0.3)
    told = facts["quantisation"]
    assert told["accepted_for"] == "speed"
    assert told["speedup"]["low"] > 1
    assert told["drop"] <= told["drop_bound"] <= 0.3
    opened = predict.load(run / "out" / "int8")
    assert opened.card["quantisation"]["processor"] == int8.here()
    assert "scores" not in opened.card  # they were measured on the float model
    picture = split.dataset.decode(int(split.val[0]))
    assert (
        np.abs(opened.probabilities(picture) - predict.load(run).probabilities(picture)).max() < 0.2
    )
    page = (run / "out" / "int8" / "README.md").read_text(encoding="utf-8")
    assert "Accepted for its speed" in page
    assert "On test" not in page
    again = run.with_name("again")
    again.mkdir()
    (run / "out" / "int8").rename(again / "bundle")
    with pytest.raises(UsageError, match="int8 already"):
        made(again, "int8")


def test_what_is_written_is_of_one_version_though_another_is_swapped_in(run, monkeypatch):
    monkeypatch.setattr(int8, "measurable", lambda processor: True)
    place, real = run / "bundle", int8.quantised
    before = read_whole(run)[1]

    def swapping(*given):
        card = json.loads(before["card.json"]) | {"classes": ["x", "y", "z"]}
        graphs.write(place, MODEL, ("x", "y", "z"), card, "# Another\n", {"more.txt": b"new"})
        return real(*given)

    monkeypatch.setattr(int8, "quantised", swapping)
    made(run, "int8", max_drop=0.3)
    assert read_bundle(place).classes == ("x", "y", "z")
    bundle, files = read_whole(run / "out" / "int8")
    assert bundle.classes == CLASSES
    assert set(files) == set(before)
    assert files["labels.txt"] == before["labels.txt"]


def test_a_file_that_is_not_what_its_hash_says_is_not_copied(run):
    (run / "bundle" / "README.md").write_text("# Another\n", encoding="utf-8")
    with pytest.raises(ModelError, match=r"README\.md is damaged"):
        made(run, "onnx")
    assert not (run / "out" / "onnx").exists()


def test_what_the_float_model_did_is_not_said_of_int8():
    card = {
        "operating_point": {"rule": "costs", "test": {"error": 0.1}, "validation": {}},
        "unknown": {"score": "energy", "test": {"value": 0.05}},
        "scores": {"accuracy": 0.9},
    }
    found = make._int8_card(card, b"12", {"processor": "x86"})
    assert found["operating_point"] == {"rule": "costs"}
    assert found["unknown"] == {"score": "energy"}
    assert "scores" not in found


def test_int8_that_is_slower_is_refused_unless_it_is_wanted_for_its_size(run, monkeypatch):
    monkeypatch.setattr(int8, "measurable", lambda processor: True)
    with pytest.raises(GateRefused, match="it is not faster"):
        made(run, "int8", slower, max_drop=0.3)
    with pytest.raises(GateRefused, match="too busy"):
        made(run, "int8", busy, max_drop=0.3)
    assert not (run / "out" / "int8").exists()
    told = made(run, "int8", slower, max_drop=0.3, for_size=True)["quantisation"]
    assert told["accepted_for"] == "size"
    assert told["speedup"]["high"] < 1


def test_int8_for_another_processor_is_not_timed_here(run, monkeypatch):
    monkeypatch.setattr(int8, "here", lambda: "x86")
    with pytest.raises(GateRefused, match="cannot tell how fast"):
        made(run, "int8", processor="arm64", max_drop=0.3)


def test_a_table_of_the_target_says_how_fast_int8_is(run, monkeypatch):
    monkeypatch.setattr(int8, "here", lambda: "x86")
    made(run, "int8", processor="arm64", max_drop=0.3, for_size=True)
    small = read_bundle(run / "out" / "int8").model
    hashes = [hashlib.sha256(one).hexdigest() for one in (MODEL, small)]
    ratio = {"median": 2.0, "low": 1.9, "high": 2.1}
    table = run / "table.json"
    rows = [{"sha256": one, "speedup": ratio} for one in hashes]
    table.write_text(json.dumps({"machine": "a board", "steady": True, "models": rows}), "utf-8")
    asked = {"processor": "arm64", "max_drop": 0.3, "replace": True, "latency_table": str(table)}
    told = made(run, "int8", **asked)["quantisation"]
    assert (told["machine"], told["speedup"]) == ("a board", ratio)
    assert "latency_ms" not in told
    table.write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="--latency-table"):
        made(run, "int8", **asked)


def test_the_machine_that_a_table_names_is_text_in_the_card():
    machine = "<b>[a board](https://example.com)</b>"
    speed = judge.Speed(machine, Estimate(2.0, 1.9, 2.1), True, 0.0)
    nothing = judge.accuracy(MODEL, MODEL, SimpleNamespace(val=np.zeros(0, np.int64)), 1)
    reason = judge.verdict(nothing, speed, 1.0, for_size=False).text
    assert machine in reason
    told = {
        "processor": "arm64", "activations": "int8", "weights": "int8", "seven_bits": False,
        "calibration_pictures": 9, "accepted_for": "speed", "reason": reason,
        **judge.facts(nothing, speed),
    }  # fmt: skip
    page = judge.page(told)
    assert "a board" in page
    assert "<b>" not in page
    assert "](" not in page


def test_int8_that_may_be_worse_than_allowed_is_refused(run):
    with pytest.raises(GateRefused, match=r"accuracy drops by .* --max-drop is 0\.01"):
        made(run, "int8", max_drop=0.01)


def test_without_validation_pictures_int8_is_refused(split):
    nothing = replace(split, val=np.zeros(0, np.int64))
    found = judge.accuracy(MODEL, MODEL, nothing, 1)
    still = judge.Speed("here", Estimate(2.0, 1.9, 2.1), True, 1.0)
    assert judge.verdict(found, still, 0.9, for_size=True).refused
    assert not judge.verdict(found, still, 1.0, for_size=True).refused
    assert judge.facts(found, still)["pictures"] == 0


def test_agreement_lets_near_ties_swap():
    theirs = np.array([[0.52, 0.48], [0.9, 0.1]])
    ours = np.array([[0.49, 0.51], [0.9, 0.1]])
    found = graphs.agreement(ours, theirs, tie=0.05)
    assert (found.top1, found.same) == (1.0, 0.5)
    verify.demand(found, what="it", largest=0.1)
    with pytest.raises(GateRefused, match="it disagrees"):
        verify.demand(found, what="it", largest=0.01)
    with pytest.raises(GateRefused, match="it disagrees"):
        verify.demand(graphs.agreement(ours, theirs, tie=0.03), what="it", largest=0.1)


def test_litert_without_its_libraries_is_refused_with_a_way_out(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(litert.importlib, "import_module", missing)
    for system, way in (("linux", r'"\.\[litert\]"'), ("win32", "convert on Linux")):
        monkeypatch.setattr(litert.sys, "platform", system)
        with pytest.raises(ResourceError, match="LiteRT cannot be used here") as refused:
            litert.answers(b"", [])
        assert re.search(way, refused.value.cure)
        assert "onnxruntime" in refused.value.cure


def test_litert_of_a_vote_asks_for_distillation(run):
    voting = runs.reopened()
    voting.facts["ensembling"]["ships"] = "vote"
    with pytest.raises(UsageError, match="the vote of"):
        made(run, "litert")


def test_the_host_resizes_to_the_side_of_the_model():
    text = litert.kotlin(160)
    assert "const val SIDE = 160" in text
    assert "%" not in text


def test_the_command_exports(run, capsys):
    assert cli.main(["export", str(run), "--to", "onnx", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["out"] == str(run / "exports" / "onnx")
    assert cli.main(["export", str(run), "--to", "html"]) == 0
    assert "classifier.html" in capsys.readouterr().out
    assert cli.main(["export", str(run), "--to", "html", "--for-size"]) == 2
    assert latency.machine()
