"""Keep freed memory: the kernel maps a large array once."""

import platform
import subprocess
import sys

import pytest

from sevenfold import heap

FAULTS = """
import resource, sys
import numpy as np
from sevenfold import heap
if sys.argv[1] == "kept":
    heap.keep()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(8_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def faults(arm: str) -> int:
    """Count the pages that a second array of 64 MB has the kernel map."""
    words = [sys.executable, "-c", FAULTS, arm]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="GNU libc's setting")
def test_a_second_array_finds_the_pages_of_the_first() -> None:
    assert 2 * faults("kept") < faults("plain")


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(heap.ctypes, "CDLL", None)  # a call would be an error
    heap.keep()
