"""Judge an int8 model against the float one: how much worse, how much faster, and whether."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import numpy as np

from sevenfold import evaluate, export, latency, paired
from sevenfold.data import Split
from sevenfold.evaluate import Estimate
from sevenfold.exports import int8
from sevenfold.report.card import escaped

_REASON: Final = 400  # characters in the model card; it names a machine as its table does


@final
@dataclass(frozen=True, slots=True)
class Accuracy:
    """Hold what validation says of an int8 model beside its float one.

    Args:
        counts: of their right and wrong answers.
        bound: by which accuracy drops at most, at 95 %, one-sided; 1 without pictures.
        nll: log loss of both, in nats.
        agreement: of their probabilities.
    """

    counts: paired.Paired
    bound: float
    nll: tuple[float, float]
    agreement: export.Agreement


def accuracy(before: bytes, after: bytes, split: Split, threads: int) -> Accuracy:
    """Ask both models about validation; where there is none nothing is known.

    The bound is Tango's (1998), for whole groups of pictures.
    """
    chosen = split.val.tolist()
    if not chosen:
        nothing = export.Agreement(0, 1.0, 1.0, 0.0)
        return Accuracy(paired.Paired(0, 0, 0, 0), 1.0, (0.0, 0.0), nothing)
    labels = split.dataset.labels[split.val]
    first, second = (export.answers(one, split.dataset, chosen, threads) for one in (before, after))
    right = [shares.argmax(axis=1) == labels for shares in (first, second)]
    counts = paired.count(right[0], right[1])
    groups = [split.dataset.groups[at] for at in chosen]
    design = paired.design(right[0], right[1], groups)
    return Accuracy(
        counts,
        paired.largest_drop(counts, design=design),
        (evaluate.nll(first, labels), evaluate.nll(second, labels)),
        export.agreement(second, first, tie=0.0),
    )


@final
@dataclass(frozen=True, slots=True)
class Speed:
    """Hold how fast an int8 model is beside its float one.

    Args:
        machine: where it was measured; "" if it was not.
        ratio: how many times faster; 0 if it was not measured.
        steady: whether the float model against itself was as fast.
        latency_ms: of the int8 model here; 0 where another machine's table says the ratio.
    """

    machine: str
    ratio: Estimate
    steady: bool
    latency_ms: float


def speed(before: bytes, after: bytes, processor: str, table: str, timer: latency.Timer) -> Speed:
    """Read the ratio from a table of another machine, or measure it on one thread here.

    Args:
        before: the float model.
        after: the int8 model.
        processor: that it was made for; on another it is not measured.
        table: that `sevenfold bench` wrote there, or "".
        timer: measures interleaved milliseconds.
    """
    if table:
        machine, ratio = latency.compared(Path(table), before, after)
        return Speed(machine, ratio, True, 0.0)
    if not int8.measurable(processor):
        return Speed("", Estimate(0.0, 0.0, 0.0), True, 0.0)
    found = latency.steadied([before, after], timer)
    mine, other = found.times
    ratio = latency.ratio(mine, other)
    return Speed(latency.machine(), ratio, found.steady, float(np.median(other)))


class Verdict(NamedTuple):
    """Say whether an int8 model is refused, why or why not, and what to do if so."""

    refused: bool
    text: str
    cure: str


def verdict(found: Accuracy, speed: Speed, max_drop: float, *, for_size: bool) -> Verdict:
    """Accept a model that keeps within its bound and is faster, or is wanted for its size."""
    pictures = found.agreement.pictures
    if found.bound > max_drop:
        cure = "raise --max-drop, or keep the float model: --to onnx"
        if not pictures:
            why = "there are no validation pictures to judge it by"
            return Verdict(True, why, "train on 1,000 pictures or more, or accept --max-drop 1")
        drop = -found.counts.difference
        why = (
            f"accuracy drops by {drop:.4f} on {pictures} validation pictures, by at most "
            f"{found.bound:.4f} (95 %, one-sided), and --max-drop is {max_drop:g}"
        )
        return Verdict(True, why, cure)
    judged = (
        f"its accuracy drops by at most {found.bound:.4f} on validation (95 %, one-sided)"
        if pictures
        else "its accuracy is not known: there are no validation pictures"
    )
    if for_size:
        return Verdict(False, f"wanted for its size, and {judged}", "")
    if not speed.machine:
        return Verdict(
            True,
            "this machine cannot tell how fast it is on the processor that it is for",
            "add --for-size, run `sevenfold bench` on both models there, and give its "
            "--latency-table",
        )
    if not speed.steady:
        return Verdict(
            True,
            "this machine is too busy to measure its speed: a model was not as fast as itself",
            "close other programs and try again, or add --for-size",
        )
    ratio = f"{speed.ratio.value:.2f} times ({speed.ratio.low:.2f} to {speed.ratio.high:.2f})"
    if speed.ratio.low <= 1:
        return Verdict(
            True,
            f"it is not faster: {ratio} as fast as the float model on {speed.machine}",
            "keep the float model: --to onnx, or add --for-size",
        )
    return Verdict(False, f"{ratio} as fast on {speed.machine}, and {judged}", "")


def facts(found: Accuracy, speed: Speed) -> dict[str, Any]:
    """Return what was measured as plain facts; without validation there is no accuracy."""
    told: dict[str, Any] = {"pictures": found.agreement.pictures}
    if found.agreement.pictures:
        counts = found.counts
        told |= {
            "float_accuracy": (counts.both_right + counts.only_first) / counts.pictures,
            "accuracy": (counts.both_right + counts.only_second) / counts.pictures,
            "drop": -counts.difference,
            "drop_bound": found.bound,
            "float_nll": found.nll[0],
            "nll": found.nll[1],
            "same_answer": found.agreement.same,
            "largest_difference": found.agreement.largest_difference,
        }
    if speed.machine:
        told["speedup"] = latency.to_json(speed.ratio)
        told |= {"machine": speed.machine, "steady": speed.steady}
    if speed.latency_ms:
        told["latency_ms"] = speed.latency_ms
    return told


def page(told: Mapping[str, Any]) -> str:
    """Write the part of the model card that tells of int8."""
    lines = [
        "\n## int8\n",
        f"Quantised for {told['processor']}: {told['activations']} activations, "
        f"{told['weights']} weights by channel{', of seven bits' * told['seven_bits']}; scales",
        f"from {told['calibration_pictures']} training pictures. Resize, normalisation, last layer "
        "and softmax are float.",
        f"Accepted for its {told['accepted_for']}: {escaped(told['reason'], _REASON)}.",
    ]
    if told["pictures"]:
        lines += [
            "",
            f"| on {told['pictures']} validation pictures | float | int8 |",
            "| --- | --- | --- |",
            f"| accuracy | {told['float_accuracy']:.2%} | {told['accuracy']:.2%} |",
            f"| log loss (nats) | {told['float_nll']:.3f} | {told['nll']:.3f} |",
            "",
            f"Both give the same answer on {told['same_answer']:.2%} of them; probabilities are at "
            f"most {told['largest_difference']:.3f} apart.",
        ]
    lines.append(
        "\nIt was not scored on test: `sevenfold evaluate` does that. Thresholds of *not sure* and "
        "of *unlike anything trained on* are those of the float model."
    )
    return "\n".join(lines) + "\n"
