"""Timing with a made-up clock, and tables that predict."""

import json

import numpy as np
import pytest

from sevenfold import export, latency
from sevenfold.errors import DataError
from sevenfold.latency import Sizes, Table


def test_calls_take_turns_and_only_later_rounds_count():
    order = []
    now = [0.0]

    def call(name, seconds):
        def run():
            order.append(name)
            now[0] += seconds

        return run

    runs = [call("a", 0.001), call("b", 0.002), call("c", 0.004)]
    times = latency.interleaved(runs, rounds=6, clock=lambda: now[0])
    assert times.shape == (3, 6)
    assert np.allclose(times, [[1.0], [2.0], [4.0]])
    assert order[:6] == ["a", "b", "c", "b", "c", "a"]
    assert len(order) == 3 * (latency.WARM_UP + 6)


def test_the_ratio_of_the_same_has_an_interval_around_one():
    draw = np.random.default_rng(1)
    drift = 5 + np.sin(np.arange(200) / 20)  # what slows the machine slows both
    first, again = (drift * draw.normal(1, 0.05, 200) for _ in range(2))
    found = latency.ratio(first, again)
    assert found.low < 1 < found.high
    assert latency.ratio(2 * first, again).low > 1.9


def test_models_are_timed_in_another_process():
    times = latency.timed([export.resizing(8).SerializeToString()] * 2, rounds=5)
    assert times.shape == (2, 5)
    assert (times > 0).all()


def test_a_module_beside_the_photos_is_not_run(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('foreign')", "utf-8")
    monkeypatch.chdir(tmp_path)
    assert latency.timed([export.resizing(8).SerializeToString()], rounds=2).shape == (1, 2)


LAYERS = {
    Sizes(16, 16, 1, 9, 256): 0.4,
    Sizes(32, 32, 1, 9, 256): 1.0,
    Sizes(16, 16, 16, 9, 256): 0.2,
}


def test_a_table_predicts():
    table = Table("a board", 32, 0.5, LAYERS)
    assert table.predict(list(LAYERS)) == pytest.approx(0.5 + 1.6)
    between = table.predict([Sizes(24, 24, 1, 9, 256)]) - 0.5
    assert 0.4 < between < 1.0
    # A depthwise layer is another kind.
    assert table.predict([Sizes(8, 8, 8, 9, 256)]) - 0.5 == pytest.approx(0.1)
    with pytest.raises(DataError, match="100 positions"):
        table.predict([Sizes(16, 16, 1, 9, 100)])


LAYER = {"inputs": 16, "outputs": 16, "groups": 1, "kernel": 9, "positions": 256, "ms": 0.4}


def written(path, **changed):
    held = {"schema": latency.SCHEMA, "machine": "a board", "side": 32, "overhead_ms": 0.5}
    path.write_text(json.dumps(held | {"layers": [LAYER]} | changed), encoding="utf-8")
    return path


def test_a_table_is_read(tmp_path):
    table = latency.table(written(tmp_path / "t.json"), side=32)
    assert table == Table("a board", 32, 0.5, {Sizes(16, 16, 1, 9, 256): 0.4})


@pytest.mark.parametrize(
    "changed",
    [
        {"schema": "sevenfold.latency/2"},
        {"side": 64},
        {"side": "wide"},
        {"layers": [{"inputs": 16}]},
        {"layers": 3},
        {"layers": [LAYER | {"inputs": 0, "groups": 0}]},
        {"layers": [LAYER | {"ms": -1}]},
        {"layers": [LAYER | {"inputs": -8, "outputs": -8}]},
        {"layers": [LAYER | {"inputs": float("inf")}]},
        {"side": float("inf")},
        {"overhead_ms": float("nan")},
        {"threads": 4},
        {"threads": 0},
        {"steady": False},
    ],
)  # fmt: skip
def test_a_table_that_makes_no_sense_is_refused(tmp_path, changed):
    with pytest.raises(DataError, match="--latency-table"):
        latency.table(written(tmp_path / "t.json", **changed), side=32)


def test_a_table_that_is_none_is_refused(tmp_path):
    with pytest.raises(DataError, match="--latency-table"):
        latency.table(tmp_path / "missing.json", side=32)
