"""Train on a CPU with and without `heap.keep`: how much of a step is the kernel's?

Whole networks on made-up pixels, 64 pictures a step on two threads: EfficientNet-Lite0 at 96
and 128 pixels in bfloat16 and at 128 in full precision, ResNet-20 at 32, and the last three
blocks of the first over stored activations of 256 pixels. Each arm is a process of its own;
they take turns, seven rounds of each. Told are the medians, the median of the rounds' ratios
with a bootstrap interval, and the highest memory of a process. About 5 minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import numpy as np

import results_file
from results_file import Results

ROUNDS, STEPS, BATCH = 7, 4, 64
CASES = ("whole 96 px", "whole 128 px", "whole 128 px, full", "ResNet-20", "three blocks")


def main() -> None:
    """Measure what is missing, then sum up."""
    parser = results_file.parser(__doc__)
    parser.add_argument("--arm", choices=("plain", "kept"), help="measure here and tell")
    options = parser.parse_args()
    if options.arm:
        print(json.dumps(measured(options.arm == "kept", options.cores, options.smoke)))
        return
    results = results_file.opened("heap", options)
    for number in range(1 if options.smoke else ROUNDS):
        key = f"round={number}"
        if results.missing(key):
            words = [sys.executable, __file__, "--data", ".", "--cores", str(options.cores)]
            words += ["--smoke"] * options.smoke
            found = {}
            for arm in ("plain", "kept") if number % 2 else ("kept", "plain"):
                done = subprocess.run([*words, "--arm", arm], capture_output=True, check=True)
                found[arm] = json.loads(done.stdout)
            results.append(key, seed=0, n=STEPS, **found)
    summary(results)


def measured(kept: bool, threads: int, smoke: bool) -> dict[str, Any]:
    """Time a step of each case."""
    import torch

    from sevenfold import account, heap, nets
    from sevenfold.practices.transfer import Transfer, build

    if kept:
        heap.keep()
    torch.set_num_threads(threads)
    network, _ = build(Transfer(), 10, 256, 0)
    trunk, tail = nets.cut(network, 3)
    with torch.inference_mode():
        shape = trunk(torch.zeros(1, 3, 256, 256)).shape[1:]
    small = nets.small("resnet20", 10)
    cases = {
        "whole 96 px": (network, (3, 96, 96), True),
        "whole 128 px": (network, (3, 128, 128), True),
        "whole 128 px, full": (network, (3, 128, 128), False),
        "ResNet-20": (small, (3, 32, 32), True),
        "three blocks": (tail, tuple(shape), True),
    }
    found: dict[str, Any] = {
        name: step_ms(*case, steps=1 if smoke else STEPS) for name, case in cases.items()
    }
    return found | {"megabytes": account.peak_megabytes()}


def step_ms(module: Any, shape: tuple[int, ...], half: bool, *, steps: int) -> float:
    """Return the median milliseconds of a step, after one that does not count."""
    import torch

    from sevenfold import precision

    module.requires_grad_(True).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(module.parameters(), 1e-3)
    rows = torch.rand(BATCH, *shape).to(memory_format=torch.channels_last)
    targets = torch.arange(BATCH) % 10
    times = []
    for _ in range(1 + steps):
        began = time.perf_counter()
        with precision.half(module, "cpu", enabled=half):
            loss = torch.nn.functional.cross_entropy(module(rows).float(), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(1e3 * (time.perf_counter() - began))
    return float(np.median(times[1:]))


def summary(results: Results) -> None:
    """Write the table."""
    rows = results.rows()
    tables = []
    for case in CASES:
        plain, kept = (np.array([row[arm][case] for row in rows]) for arm in ("plain", "kept"))
        ratios = plain / kept
        draws = np.random.default_rng(0).integers(0, len(ratios), (2000, len(ratios)))
        low, high = np.percentile(np.median(ratios[draws], axis=1), (2.5, 97.5))
        tables.append(
            {
                "a step of": case,
                "plain, ms": f"{np.median(plain):.0f}",
                "kept, ms": f"{np.median(kept):.0f}",
                "times as fast": f"{np.median(ratios):.2f} ({low:.2f} to {high:.2f})",
                "rounds": len(rows),
            }
        )
    peaks = (max(row[arm]["megabytes"] for row in rows) for arm in ("plain", "kept"))
    title = "Steps of a training where freed memory goes back to the kernel, and where it is kept"
    results.summarise(
        [f"{title}; highest memory {' and '.join(f'{p:,.0f} MB' for p in peaks)}."], tables
    )


if __name__ == "__main__":
    main()
