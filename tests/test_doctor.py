import json
import platform
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from sevenfold import doctor
from sevenfold.doctor import Accelerator, gpu_advice

RIG = Accelerator(
    "Linux", ("NVIDIA T4",), apple=False, torch="2.14.1+cu130", build="cuda", usable=True
)
CPU_ONLY = "--index-url https://download.pytorch.org/whl/cpu"


def test_every_combination_is_silent_or_one_problem_with_one_way_out() -> None:
    every = product(
        ("Linux", "Windows", "Darwin"),
        ((), ("NVIDIA T4",)),
        (False, True),
        ("", "2.14.1", "2.14.1+cpu", "2.14.1+cu130"),
        ("cpu", "cuda", "rocm", "xpu", "mps"),
        (False, True),
        ("", "no libcudart"),
    )
    for system, gpus, apple, torch, build, usable, broken in every:
        facts = Accelerator(system, gpus, apple, torch, build, usable, broken)
        advice = gpu_advice(facts)
        fine = not torch or (not broken and usable)
        alone = not gpus and not apple and build in ("cpu", "mps") and not broken
        assert (advice == "") == (fine or alone), facts
        if advice:
            problem, cure = advice.splitlines()
            assert torch in problem
            assert cure.startswith("  try: ")


def test_a_cpu_build_beside_a_gpu_is_named_with_the_command_that_mends_it() -> None:
    linux = replace(RIG, torch="2.14.1+cpu", build="cpu", usable=False)
    advice = gpu_advice(linux, python="python")
    assert "NVIDIA T4" in advice
    assert "CPU build" in advice
    assert advice.endswith("python -m pip install --force-reinstall torch==2.14.1 torchvision")
    windows = replace(linux, system="Windows")  # where the default build is the CPU's
    assert gpu_advice(windows).endswith(f"/whl/{doctor.CUDA_BUILD}")


def test_a_cuda_build_without_a_gpu_is_told_of_the_smaller_one() -> None:
    advice = gpu_advice(replace(RIG, gpus=(), usable=False))
    assert "gigabytes" in advice
    assert advice.endswith(CPU_ONLY)


def test_a_gpu_that_torch_cannot_use_points_to_the_driver() -> None:
    assert "driver" in gpu_advice(replace(RIG, usable=False))


def test_a_torch_that_does_not_import_is_told_before_all_else() -> None:
    assert "no libcudart" in gpu_advice(replace(RIG, broken="no libcudart"))


def test_a_path_with_spaces_is_quoted() -> None:
    advice = gpu_advice(replace(RIG, gpus=(), usable=False), python="C:/My Files/python.exe")
    assert '"C:/My Files/python.exe" -m pip' in advice


@pytest.mark.parametrize(
    ("listing", "names"),
    [
        ("GPU 0: A (UUID: GPU-1)\nGPU 1: B (UUID: GPU-2)\n", ("A", "B")),
        ("GPU 0: A\n", ("A",)),
        ("No devices were found\n", ()),
        ("NVIDIA-SMI has failed because it couldn't communicate with the driver.", ()),
        ("", ()),
    ],
)
def test_the_names_of_gpus_come_without_serial_numbers(
    listing: str, names: tuple[str, ...]
) -> None:
    assert doctor.gpu_names(listing) == names


def test_the_facts_fit_into_json_and_hide_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(doctor, "accelerator", lambda: RIG)
    facts = doctor.facts(tmp_path / "not" / "there" / "yet")
    text = json.dumps(facts, allow_nan=False)
    assert facts["schema"] == "sevenfold.doctor/1"
    assert facts["packages"]["sevenfold"] == facts["sevenfold"] != ""
    assert facts["memory_megabytes"] > 100
    assert facts["cache"]["free_megabytes"] > 0
    assert facts["cpu"]["usable_cores"] >= 1
    assert str(tmp_path) not in text


def test_a_user_without_a_home_folder_is_told_where_the_stores_could_lie(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lost() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", lost)
    monkeypatch.setattr(doctor, "accelerator", lambda: replace(RIG, gpus=(), usable=False))
    monkeypatch.setenv("SEVENFOLD_CACHE", "/stores")
    facts = doctor.facts(doctor.user_home())
    assert facts["cache"] == {"path": "", "free_megabytes": 0}
    assert facts["environment"]["SEVENFOLD_CACHE"] == "/stores"
    homeless, cure, gpu = facts["advice"].split("\n", 2)
    assert "no home folder" in homeless
    assert cure.startswith("  try: set SEVENFOLD_CACHE")
    assert gpu.endswith(CPU_ONLY)


def test_this_machine_is_looked_at_without_a_complaint_about_itself() -> None:
    here = doctor.accelerator()
    assert here.system == platform.system()
    assert here.build in ("cpu", "cuda", "rocm", "xpu", "mps")
    assert here.broken == ""
