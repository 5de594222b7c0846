"""Run the frozen trunk in onnxruntime and in PyTorch: how much faster is the first on a CPU?

The default backbone, cut as the quick budget (three trained blocks) and as evidence (one) cut
it, at 160, 224 and 256 pixels, 32 pictures in one thread each: onnxruntime a few at a time, as
the engine does, and all at once; PyTorch all at once and 4 at a time. Every round times all one
after the other, so that work beside it cancels; told are the medians, and the median of the
rounds' ratios, to the faster of PyTorch's, with a bootstrap interval. PyTorch runs with channels
last, its faster layout. How far their activations are apart stands beside it. About 3 minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np

import results_file
from results_file import Results

CUTS, SIDES, BATCH, FEW, ROUNDS = (3, 1), (160, 224, 256), 32, 4, 7


def main() -> None:
    """Measure what is missing, then sum up."""
    options = results_file.parser(__doc__).parse_args()
    results = results_file.opened("trunk_engines", options)
    for cut in CUTS:
        for side in SIDES[:1] if options.smoke else SIDES:
            key = f"blocks={cut} side={side}"
            if results.missing(key):
                measure(results, key, cut, side)
    summary(results)


def measure(results: Results, key: str, cut: int, side: int) -> None:
    """Time both engines in turns."""
    import torch

    from sevenfold import nets
    from sevenfold.features import trunk as trunks
    from sevenfold.practices.transfer import Transfer, build

    torch.set_num_threads(1)
    network, _ = build(Transfer(trainable_blocks=cut), 10, side, 0)
    trunk, _ = nets.cut(network, cut)
    ours = trunks.engine(trunk, side, "cpu").run
    with patch.object(trunks, "_PIXELS_AT_ONCE", BATCH * side**2):
        at_once = trunks.engine(trunk, side, "cpu").run
    trunk = trunk.to(memory_format=torch.channels_last)
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, side, side, 3), np.uint8)

    def theirs(pictures: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            # As views of this memory they are channels-last already.
            found = trunk(torch.from_numpy(pictures).permute(0, 3, 1, 2).float())
        return found.half().numpy()

    apart = np.abs(ours(pixels).astype(np.float32) - theirs(pixels)).max()
    scale = np.abs(theirs(pixels)).max()

    def in_parts(pictures: np.ndarray) -> np.ndarray:
        parts = [theirs(pictures[at : at + FEW]) for at in range(0, BATCH, FEW)]
        return np.concatenate(parts)

    arms = (ours, theirs, in_parts, at_once)
    times = np.array([[took(arm, pixels) for arm in arms] for _ in range(ROUNDS)])
    results.append(
        key, seed=0, n=ROUNDS, blocks=cut, side=side, apart=float(apart), largest=float(scale),
        onnxruntime_ms=times[:, 0].tolist(), torch_ms=times[:, 1].tolist(),
        torch_few_ms=times[:, 2].tolist(), at_once_ms=times[:, 3].tolist(),
    )  # fmt: skip


def took(run: Callable[[Any], Any], pixels: np.ndarray) -> float:
    """Return milliseconds a picture."""
    began = time.perf_counter()
    run(pixels)
    return 1e3 * (time.perf_counter() - began) / len(pixels)


def summary(results: Results) -> None:
    """Write the table."""
    tables = []
    for row in results.rows():
        ours, *torch = (
            np.array(row[name]) for name in ("onnxruntime_ms", "torch_ms", "torch_few_ms")
        )
        ratios = min(torch, key=np.median) / ours
        draws = np.random.default_rng(0).integers(0, len(ratios), (2000, len(ratios)))
        low, high = np.percentile(np.median(ratios[draws], axis=1), (2.5, 97.5))
        tables.append(
            {
                "trained blocks": row["blocks"],
                "side": row["side"],
                "onnxruntime, ms a picture": f"{np.median(ours):.1f}",
                f"onnxruntime, {BATCH} at once": f"{np.median(row['at_once_ms']):.1f}",
                f"PyTorch, {BATCH} at once": f"{np.median(torch[0]):.1f}",
                f"PyTorch, {FEW}": f"{np.median(torch[1]):.1f}",
                "times as fast": f"{np.median(ratios):.1f} ({low:.1f} to {high:.1f})",
                "apart, of the largest": f"{row['apart'] / row['largest']:.1e}",
            }
        )
    title = f"The frozen trunk of EfficientNet-Lite0 on one thread, {BATCH} pictures."
    results.summarise([title], tables)


if __name__ == "__main__":
    main()
