"""Run `over_gpu`, where a GPU is pretended, in a process that ends with it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch lets no device be made up",
)
@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_gpu_would_end_nothing(device):
    path = Path(__file__).with_name("over_gpu.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    found = subprocess.run(
        [*command, "-k", device, "--show-capture=no", str(path)],
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
