"""What holds for every test: stores of its own, and none of the developer's switches."""

import sys
from pathlib import Path

import pytest

import shapes

shapes.hold()  # before any test imports the package


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVENFOLD_CACHE", str(tmp_path / "stores"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if loop := sys.modules.get("sevenfold.loop"):
        monkeypatch.setattr(loop, "SAVED_EVERY", 0.0)  # so that a kill finds every epoch saved
    for switch in ("SEVENFOLD_CACHE_GB", "SEVENFOLD_DEBUG", "XDG_CACHE_HOME"):
        monkeypatch.delenv(switch, raising=False)
