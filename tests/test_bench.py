"""Latency tables: the layers of a graph, files of single layers, and what a table tells."""

import hashlib
import json
from collections import Counter

import numpy as np
import onnx
import pytest

from bundles import tiny_bundle
from sevenfold import bench, cli, latency
from sevenfold.bench import layers
from sevenfold.bench.layers import Layer
from sevenfold.bundles import read_bundle
from sevenfold.errors import DataError, UsageError
from sevenfold.progress import silent

CONV = Layer(16, 24, 1, (3, 3), (20, 20), (10, 10))
DEPTHWISE = Layer(32, 32, 32, (5, 5), (9, 7), (9, 7))
MATRIX = Layer(48, 10, 1, (), (1,), (1,))


def timer(models, *, rounds=20, picture=latency.PICTURE, threads=1):
    """Say that every model takes as long as its file and its picture are large."""
    sizes = np.array([len(model) for model in models], float) / 1e4
    return np.tile(sizes[:, None] + picture[0] / 1e4, (1, rounds))


def uneven(models, *, rounds=20, picture=latency.PICTURE, threads=1):
    """Say that each model takes longer than the one before it, even if it is the same."""
    return np.tile(np.arange(1.0, len(models) + 1)[:, None], (1, rounds))


@pytest.mark.parametrize("layer", [CONV, DEPTHWISE, MATRIX], ids=["conv", "depthwise", "matrix"])
def test_a_single_layer_is_a_valid_file_of_the_right_shape(layer):
    model = layer.model()
    onnx.checker.check_model(onnx.load_from_string(model))
    (made,) = latency.opened(model)()
    if layer.kernel:
        assert made.shape == (1, layer.outputs, *layer.after)
    else:
        assert made.shape == (1, layer.outputs)


def test_a_single_layer_computes_what_its_weights_say():
    layer = Layer(2, 3, 1, (), (1,), (1,))
    model = onnx.load_from_string(layer.model())
    weights = onnx.numpy_helper.to_array(model.graph.initializer[0])
    given = np.random.default_rng(0).random((1, 2), dtype=np.float32) * 255
    (made,) = latency.opened(layer.model())()
    assert np.allclose(made, given @ weights, rtol=1e-5)


def test_the_layers_of_a_graph_are_found(tmp_path):
    bundle = read_bundle(tiny_bundle(tmp_path / "b", ["a", "b", "c"]))
    found = layers.found(bundle.model, bundle.size)
    assert found == Counter(
        [Layer(3, 3, 1, (1, 1), (8, 8), (8, 8)), Layer(3, 3, 1, (), (1,), (1,))]
    )


def test_channels_go_in_eights_and_inputs_of_a_picture_stay():
    assert layers.narrowed(CONV, 0.5) == Layer(8, 16, 1, (3, 3), (20, 20), (10, 10))
    half = layers.narrowed(DEPTHWISE, 0.5)
    assert (half.inputs, half.outputs, half.groups) == (16, 16, 16)
    stem = Layer(3, 32, 1, (3, 3), (20, 20), (10, 10))
    assert (layers.narrowed(stem, 0.25).inputs, layers.narrowed(stem, 0.25).outputs) == (3, 8)
    odd = Layer(16, 16, 2, (1, 1), (4, 4), (4, 4))
    assert layers.narrowed(odd, 0.5) == odd


@pytest.mark.parametrize("classes", range(2, 26))
def test_a_head_of_any_number_of_classes_is_timed(classes):
    head = Layer(48, classes, 1, (), (1,), (1,))
    assert head in layers.timed_layers([head], threads=1, timer=timer)


def test_a_table_is_what_prune_and_export_read(tmp_path):
    first = tiny_bundle(tmp_path / "first", ["a", "b", "c"])
    second = tiny_bundle(tmp_path / "second", ["a", "b"])
    facts = bench.bench(
        [first, second], threads=1, rounds=20, layers=True, progress=silent, timer=timer
    )
    assert facts["schema"] == "sevenfold.latency/1"
    assert facts["steady"] is True
    assert [row["height"] for row in facts["sizes"]] == [8, 480, 1080, 3000]
    assert len(facts["sizes"][0]["ms"]) == 2
    path = tmp_path / "deep" / "table.json"
    bench.write(path, facts)
    held = latency.table(path, side=8)
    assert held.machine == facts["machine"]
    # The layers and the overhead together are the network.
    known = [Layer(3, 3, 1, (1, 1), (8, 8), (8, 8)), Layer(3, 3, 1, (), (1,), (1,))]
    network_ms = facts["sizes"][0]["ms"][0]
    assert held.predict([one.sizes for one in known]) == pytest.approx(network_ms)
    graphs = [read_bundle(one).model for one in (first, second)]
    machine, ratio = latency.compared(path, *graphs)
    assert machine == facts["machine"]
    assert ratio.value == pytest.approx(
        (len(graphs[0]) / 1e4 + 0.048) / (len(graphs[1]) / 1e4 + 0.048)
    )
    assert facts["models"][1]["sha256"] == hashlib.sha256(graphs[1]).hexdigest()


def test_a_network_that_runs_twice_costs_a_layer_twice(tmp_path, monkeypatch):
    bundle = tiny_bundle(tmp_path / "b", ["a", "b"])
    once = layers.found(read_bundle(bundle).model, 8)
    rows = []
    for times in (1, 2):
        twice = Counter({one: times * count for one, count in once.items()})
        monkeypatch.setattr(layers, "found", lambda model, side, twice=twice: twice)
        facts = bench.bench(
            [bundle], threads=1, rounds=20, layers=True, progress=silent, timer=timer
        )
        rows.append(sum(row["ms"] for row in facts["layers"]))
    assert rows[1] == pytest.approx(2 * rows[0])


def test_a_busy_machine_is_told_and_its_table_not_believed(tmp_path):
    bundles = [tiny_bundle(tmp_path / str(n), [str(k) for k in range(n)]) for n in (2, 3)]
    facts = bench.bench(bundles, threads=1, rounds=20, layers=False, progress=silent, timer=uneven)
    assert facts["steady"] is False
    bench.write(tmp_path / "t.json", facts)
    with pytest.raises(DataError, match="not as fast as itself"):
        latency.compared(tmp_path / "t.json", *(read_bundle(one).model for one in bundles))
    with pytest.raises(DataError, match="does not hold these two"):
        latency.compared(tmp_path / "t.json", b"one", b"other")


def test_the_same_model_twice_is_refused(tmp_path):
    bundle = tiny_bundle(tmp_path / "b", ["a", "b"])
    for models in ([], [bundle, bundle]):
        with pytest.raises(UsageError, match="bench got"):
            bench.bench(models, threads=1, rounds=20, layers=False, progress=silent, timer=timer)


def test_the_command_prints_and_writes_a_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench.run.bench, "__kwdefaults__", {"timer": timer})
    bundle = tiny_bundle(tmp_path / "b", ["a", "b"])
    path = tmp_path / "t.json"
    assert cli.main(["bench", str(bundle), "--out", str(path), "--rounds", "10", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads(path.read_text(encoding="utf-8"))
    assert told["models"][0]["path"] == str(bundle)
    assert cli.main(["bench", str(bundle), "--out", str(path), "--rounds", "10"]) == 0
    mine = tmp_path / "mine.json"
    mine.write_text("{}", encoding="utf-8")
    for place in (tmp_path, mine):
        assert cli.main(["bench", str(bundle), "--out", str(place), "--rounds", "10"]) == 2
    assert mine.read_text("utf-8") == "{}"
    capsys.readouterr()
    assert cli.main(["bench", str(bundle), "--no-layers"]) == 0
    assert "control" in capsys.readouterr().out
