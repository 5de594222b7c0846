"""Train on a CPU with and without `depthwise.Fast`: how much of a step are two gradients?

The last three and five blocks of EfficientNet-Lite0 over stored activations of pictures of 160
and 256 pixels, 64 a step, in bfloat16 and in full precision, and by one thread, as a member of
several has; all of it from pixels of 128 and 160, and of 32, whose last maps are single
places; and the last blocks of ConvNeXt-Tiny. Three ways take turns in one process, step by
step, from the same weights: torch as it comes, torch with these convolutions in full precision
(the same where all is), and ours. Told are the medians, the median of the turns' ratios of the
faster of torch's to ours with a bootstrap interval, and by how much the gradients of the
depthwise kernels differ in the first step. About 5 minutes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import results_file
from results_file import Results

TURNS, BATCH = 15, 64
LITE = "tf_efficientnet_lite0"
CASES = {
    "3 blocks, 160 px": (LITE, 3, 160, True, 2),
    "3 blocks, 256 px": (LITE, 3, 256, True, 2),
    "5 blocks, 160 px": (LITE, 5, 160, True, 2),
    "5 blocks, 256 px": (LITE, 5, 256, True, 2),
    "3 blocks, 160 px, full precision": (LITE, 3, 160, False, 2),
    "3 blocks, 256 px, full precision": (LITE, 3, 256, False, 2),
    "3 blocks, 160 px, one thread": (LITE, 3, 160, True, 1),
    "3 blocks, 256 px, one thread": (LITE, 3, 256, True, 1),
    "whole, 128 px": (LITE, 1000, 128, True, 2),
    "whole, 160 px, one thread": (LITE, 1000, 160, True, 1),
    "whole, 32 px": (LITE, 1000, 32, True, 2),
    "whole, 32 px, one thread": (LITE, 1000, 32, True, 1),
    "ConvNeXt-Tiny, 3 blocks, 160 px": ("convnext_tiny", 3, 160, True, 2),
}


def main() -> None:
    """Measure what is missing, then sum up."""
    options = results_file.parser(__doc__).parse_args()
    results = results_file.opened("depthwise", options)
    for name, case in CASES.items():
        if results.missing(name):
            turns = 1 if options.smoke else TURNS
            found = measured(*case, turns=turns)
            results.append(name, seed=0, n=turns, **found)
    summary(results)


def measured(
    backbone: str, blocks: int, side: int, half: bool, threads: int, *, turns: int
) -> dict[str, Any]:
    """Time steps of both ways in turns, after one of each that does not count."""
    import torch

    from sevenfold import depthwise, heap, loop, nets, precision
    from sevenfold.practices.transfer import Transfer, build

    heap.keep()
    torch.set_num_threads(threads)
    network, _ = build(Transfer(backbone=backbone, weights="random"), 10, side, 0)
    trunk, tail = nets.cut(network, blocks)
    tail.train()
    drawn = torch.Generator().manual_seed(0)
    rows = 255 * torch.rand(BATCH, 3, side, side, generator=drawn)
    with torch.inference_mode():
        rows = trunk(rows) if blocks < 1000 else rows
    rows = rows.clone()
    if blocks == 1000:  # pixels are trained on with their channels last
        rows = rows.contiguous(memory_format=torch.channels_last)
    targets = torch.nn.functional.one_hot(torch.arange(BATCH) % 10, 10).float()

    ways: dict[str, Callable[[], Any]] = {
        "plain": contextlib.nullcontext,
        "full": _in_full,
        "fast": depthwise.Fast,
    }

    def step(way: str) -> float:
        began = time.perf_counter()
        with ways[way](), precision.half(tail, "cpu", enabled=half):
            logits = tail(rows)
        tail.zero_grad()
        loop.cross_entropy(logits, targets).backward()  # type: ignore[no-untyped-call]
        return 1e3 * (time.perf_counter() - began) / BATCH

    def gradients(way: str) -> torch.Tensor:
        torch.manual_seed(0)  # of dropout
        step(way)
        return torch.cat([one.grad.flatten() for one in kernels if one.grad is not None])

    kernels = [one for one in tail.parameters() if one.ndim == 4 and one.shape[1] == 1]
    plain, _, fast = (gradients(way) for way in ways)
    apart = float((plain - fast).norm() / plain.norm())
    times: dict[str, list[float]] = {way: [] for way in ways}
    order = list(ways)
    for turn in range(turns):
        for way in order[turn % 3 :] + order[: turn % 3]:
            times[way].append(step(way))
    return {f"{way}_ms": times[way] for way in ways} | {"gradients_apart": apart}


def _in_full() -> Any:
    """Convolve each channel by its own kernel in full precision, whatever else is halved."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Full(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if function is torch.conv2d and len(args) > 6 and args[6] > 1:
                with torch.autocast("cpu", enabled=False):
                    return function(args[0].float(), *args[1:], **(kwargs or {}))
            return function(*args, **(kwargs or {}))

    return Full()


def summary(results: Results) -> None:
    """Write the table."""
    tables = []
    for row in results.rows():
        plain, full, fast = (np.array(row[f"{way}_ms"]) for way in ("plain", "full", "fast"))
        ratios = (full if np.median(full) < np.median(plain) else plain) / fast
        draws = np.random.default_rng(0).integers(0, len(ratios), (2000, len(ratios)))
        low, high = np.percentile(np.median(ratios[draws], axis=1), (2.5, 97.5))
        tables.append(
            {
                "a step of": row["key"],
                "torch, ms a picture": f"{np.median(plain):.2f}",
                "in full precision": f"{np.median(full):.2f}",
                "ours": f"{np.median(fast):.2f}",
                "times as fast": f"{np.median(ratios):.2f} ({low:.2f} to {high:.2f})",
                "gradients apart": f"{row['gradients_apart']:.1e}",
                "turns": row["n"],
            }
        )
    title = (
        "A step of training (forward and backward), with the gradients of depthwise convolutions "
        "as torch computes them, with these convolutions in full precision, and as `depthwise` "
        "does, against the faster of both."
    )
    results.summarise([title], tables)


if __name__ == "__main__":
    main()
