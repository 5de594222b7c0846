"""Run `over_gpu`, where a GPU is pretended, in a process that ends with it."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_gpu_would_end_nothing(device):
    path = Path(__file__).with_name("over_gpu.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-k", f"[{device}"]
    found = subprocess.run(
        [*command, "--show-capture=no", str(path)], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout
