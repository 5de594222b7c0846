import os

import pytest

from sevenfold import cores


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("", 8)],
)
def test_a_control_group_bounds_what_may_be_used(tmp_path, monkeypatch, text, wanted):
    (tmp_path / "cpu.max").write_text(text, "ascii")
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert cores.usable_cores() == wanted


def test_a_process_that_may_use_some_cores_uses_these(tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert cores.usable_cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores.usable_cores() == 1
