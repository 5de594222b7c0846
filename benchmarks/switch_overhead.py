"""Time a step of the Adam-to-SGD switch against torch's AdamW, in turns.

The weights are those of the default network's tail: its last three blocks, what lies
behind them and the head, grouped as training groups them. Four cases are of the optimizer
alone, with made-up gradients: epochs long enough that the ratio is measured at every 16th
step, epochs of 40 steps (every 5th step) and of 8 (each step), and the SGD phase. The fifth
is of a whole step of training, 64 made-up activations forward and backward and the weights
moved, in the worst of these, epochs of 8 steps. A round is 16 or 20 steps of each (8 whole
ones), so that it holds whole intervals of measurement; what is told is the ratio of the
medians of the rounds with its 95 % bootstrap interval. AdamW is torch's foreach form; the first
case is timed once more against the form that torch chooses by itself, as a training has it.
8 minutes.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import results_file
from results_file import Results

if TYPE_CHECKING:
    import torch

DEFAULT = "Adam, epochs of 1,000 steps, AdamW as torch chooses"
# case: window in steps, steps of a round, whether SGD has taken over, whether all of a step
CASES = {
    "Adam, epochs of 1,000 steps": (1000, 16, False, False),
    "Adam, epochs of 40 steps": (40, 20, False, False),
    "Adam, epochs of 8 steps": (8, 16, False, False),
    "SGD": (1000, 16, True, False),
    "Adam, epochs of 8 steps, whole steps": (8, 8, False, True),
    DEFAULT: (1000, 16, False, False),
}
BOUND = 1.03
BATCH = 64


def tails(count: int) -> list[tuple[list[dict[str, Any]], Callable[[], None]]]:
    """Return copies of the same tail: its grouped weights, and what makes gradients anew."""
    import torch

    from sevenfold import nets
    from sevenfold.practices import optimization, transfer

    chosen = transfer.Transfer(weights="random")
    settings = optimization.Optimization(name="adamw", rate=1e-3)
    found = []
    for _ in range(count):
        network, _ = transfer.build(chosen, 10, 224, 0)
        trunk, tail = nets.cut(network, chosen.trainable_blocks)
        blocks = list(network.blocks)[-chosen.trainable_blocks :]
        groups = optimization.groups([*blocks, network.pool], network.head, settings, 1e-3)
        random = torch.Generator().manual_seed(0)
        for group in groups:
            for weight in group["params"]:
                weight.grad = 0.01 * torch.randn(weight.shape, generator=random)
        with torch.inference_mode():
            shape = trunk(torch.zeros(1, 3, 224, 224)).shape[1:]
        pictures = torch.randn(BATCH, *shape, generator=random)
        labels = torch.randint(10, (BATCH,), generator=random)

        found.append((groups, partial(gradients, tail.train(), pictures, labels)))
    return found


def gradients(tail: torch.nn.Module, pictures: torch.Tensor, labels: torch.Tensor) -> None:
    """Make a tail's gradients as training does."""
    import torch

    from sevenfold import precision, trial

    tail.zero_grad()
    with precision.half(tail, "cpu", enabled=trial.place("cpu", 1).half):
        loss = torch.nn.functional.cross_entropy(tail(pictures), labels)
    loss.backward()


def race(
    window: int, steps: int, sgd: bool, whole: bool, rounds: int, foreach: bool | None
) -> tuple[dict[str, list[float]], int]:
    """Time both in turns; milliseconds a step in each round, and how many weights there are."""
    import torch

    from sevenfold.practices.optimization import Switch

    (theirs, their_gradients), (ours, our_gradients) = tails(2)
    if not sgd:
        # A ratio that is no number keeps it from switching, at the price of one more weight.
        for groups in (theirs, ours):
            weight = torch.nn.Parameter(torch.zeros(1))
            weight.grad = torch.full((1,), math.nan)
            groups.append({"params": [weight], "lr": 1e-3, "weight_decay": 0.0})
    moved = Switch(ours, window=2 if sgd else window)
    while sgd and not moved.switched_at:
        moved.step()
    ways = {
        "AdamW": (torch.optim.AdamW(theirs, foreach=foreach), their_gradients),
        "switch": (moved, our_gradients),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 2):
        for name in sorted(ways, reverse=bool(number % 2)):
            optimizer, backward = ways[name]
            start = time.perf_counter()
            for _ in range(steps):
                if whole:
                    backward()
                optimizer.step()
            if number > 1:  # the first two rounds warm up
                times[name].append(1000 * (time.perf_counter() - start) / steps)
    if sgd != bool(moved.switched_at):
        raise SystemExit("the switch was in the other phase")
    return times, sum(weight.numel() for group in ours for weight in group["params"])


def measure(results: Results, case: str, rounds: int) -> None:
    """Measure one case."""
    if results.missing(case):
        window, steps, sgd, whole = CASES[case]
        foreach = None if case == DEFAULT else True
        times, weights = race(window, steps, sgd, whole, rounds, foreach)
        results.append(case, seed=0, n=rounds, weights=weights, milliseconds=times)


def row(found: results_file.Row) -> results_file.Row:
    """Return the table's row of one case."""
    times = found["milliseconds"]
    ratio, low, high = results_file.ratio_interval(times["switch"], times["AdamW"])
    return {
        "phase": found["key"],
        "weights": found["weights"],
        "rounds": found["n"],
        "switch, ms a step": f"{median(times['switch']):.3f}",
        "AdamW, ms a step": f"{median(times['AdamW']):.3f}",
        "ratio": f"{ratio:.3f}",
        "95 % interval": results_file.span(low, high),
        "within 3 %": "yes" if ratio <= BOUND else "no",
    }


def main() -> None:
    """Measure what is missing, then sum up."""
    options = results_file.parser(__doc__)
    options.add_argument("--rounds", type=int, default=60)
    options.set_defaults(cores=1)
    asked = options.parse_args(["--data", ".", *sys.argv[1:]])  # it needs no pictures
    results = results_file.opened("switch_overhead", asked)

    import torch

    torch.set_num_threads(asked.cores)
    for case in CASES:
        measure(results, case, 4 if asked.smoke else asked.rounds // (2 if CASES[case][3] else 1))
    title = (
        "Milliseconds a step of the optimizer alone, and at last of training, over the weights of "
        "the default network's last three blocks: the Adam-to-SGD switch against torch's AdamW "
        "(foreach, unless it says *as torch chooses*), in turns."
    )
    results.summarise([title], [row(found) for found in results.rows()])


if __name__ == "__main__":
    main()
