"""Time models against each other on one thread, and predict a latency from a table. No torch.

Models are timed in a process of their own, one picture at a time, interleaved: what slows
the machine slows all of them. The ratio of medians has a bootstrap interval, and the same
model against itself tells whether the interval can be believed.
"""

import hashlib
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from jaxtyping import Float64

from sevenfold.errors import DataError, ResourceError
from sevenfold.evaluate import Estimate
from sevenfold.image import shown

SCHEMA: Final = "sevenfold.latency/1"
PICTURE: Final = (480, 640, 3)
ROUNDS: Final = 120
WARM_UP: Final = 10
_RUN: Final = 5  # rounds that are drawn together: a busy machine stays busy for a while
_RESAMPLES: Final = 2000
_TRIES: Final = 3
_RATIO: Final = ("median", "low", "high")

Clock = Callable[[], float]
Timer = Callable[..., Float64[np.ndarray, "models rounds"]]
"""Measures interleaved milliseconds, as `timed` does."""


def interleaved(
    runs: Sequence[Callable[[], object]],
    *,
    rounds: int = ROUNDS,
    clock: Clock = time.perf_counter,
) -> Float64[np.ndarray, "runs rounds"]:
    """Time each of several calls once a round, in an order that turns; in milliseconds.

    Args:
        runs: what is timed.
        rounds: that count; a few before them do not.
        clock: tells seconds.
    """
    times = np.zeros((len(runs), WARM_UP + rounds))
    for each in range(WARM_UP + rounds):
        for at in range(len(runs)):
            which = (at + each) % len(runs)
            began = clock()
            runs[which]()
            times[which, each] = 1000 * (clock() - began)
    return times[:, WARM_UP:]


def ratio(above: Float64[np.ndarray, "rounds"], below: Float64[np.ndarray, "rounds"]) -> Estimate:
    """Return the ratio of two medians with its 95 % bootstrap interval over paired rounds.

    Example:
        >>> ratio(np.full(20, 3.0), np.full(20, 2.0))
        Estimate(value=1.5, low=1.5, high=1.5)
    """
    pairs = np.stack([above, below])
    runs = math.ceil(pairs.shape[1] / _RUN)
    picked = np.random.default_rng(0).integers(0, runs, (_RESAMPLES, runs))
    rounds = (picked[:, :, None] * _RUN + np.arange(_RUN)).reshape(_RESAMPLES, -1)
    drawn = np.median(pairs[:, rounds % pairs.shape[1]], axis=2)
    low, high = np.quantile(drawn[0] / drawn[1], [0.025, 0.975])
    middle = np.median(pairs, axis=1)
    return Estimate(float(middle[0] / middle[1]), float(low), float(high))


@dataclass(frozen=True, eq=False, slots=True)
class Steadied:
    """Hold interleaved times with their control: the first model against itself.

    Args:
        times: in milliseconds, the first model's first.
        itself: the first model against itself.
        steady: whether that interval holds 1; else the machine was too busy to be believed.
    """

    times: tuple[Float64[np.ndarray, "rounds"], ...]
    itself: Estimate
    steady: bool


def steadied(models: Sequence[bytes], timer: Timer, **how: Any) -> Steadied:
    """Time models, the first one twice, until it is as fast as itself or three times.

    Args:
        models: contents of ONNX files, 1 or more.
        timer: see `timed`.
        how: further arguments of the timer.
    """
    for _ in range(_TRIES):
        first, again, *others = timer([models[0], *models], **how)
        itself = ratio(first, again)
        if steady := itself.low <= 1 <= itself.high:
            break
    return Steadied((first, *others), itself, steady)


def to_json(found: Estimate) -> dict[str, float]:
    """Return a ratio as JSON holds it; `compared` reads it."""
    return dict(zip(_RATIO, (found.value, found.low, found.high), strict=True))


def processor() -> str:
    """Name this machine's processor: what /proc/cpuinfo says where it exists. Reads it."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            said = dict(line.split(":", 1) for line in file if ":" in line)
    except OSError:
        said = {}
    facts = {key.strip().lower(): value.strip() for key, value in said.items()}
    # A board says its own name, and of its processor only numbers.
    return facts.get("model name") or facts.get("model") or name


def machine() -> str:
    """Name this machine, on which a latency was measured: its processor and its cores."""
    return f"{processor()}, {os.cpu_count()} cores, {platform.system()}"


def opened(
    model: bytes | str, *, picture: tuple[int, int, int] = PICTURE, threads: int = 1
) -> Callable[[], object]:
    """Return a call that runs a model on one picture, on threads that sleep when idle.

    Args:
        model: content or path of an ONNX file with one input: whole uint8 pictures, or
            float squares.
        picture: height, width and channels of whole pictures.
        threads: inside one call; 0 is one for each core.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    noise = np.random.default_rng(0)
    if given.type == "tensor(uint8)":
        pixels: Any = noise.integers(0, 256, (1, *picture), dtype=np.uint8)
    else:
        shape = [size if isinstance(size, int) else 1 for size in given.shape]
        pixels = noise.random(shape, dtype=np.float32) * 255
    return lambda: session.run(None, {given.name: pixels})


def timed(
    models: Sequence[bytes],
    *,
    rounds: int = ROUNDS,
    picture: tuple[int, int, int] = PICTURE,
    threads: int = 1,
) -> Float64[np.ndarray, "models rounds"]:
    """Time models in a fresh process, interleaved; in milliseconds.

    Starts a process and writes the models to a temporary folder.

    Args:
        models: contents of ONNX files; see `opened`.
        rounds: that count.
        picture: height, width and channels of whole pictures.
        threads: inside one call; 0 is one for each core.

    Raises:
        ResourceError: the process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        for at, model in enumerate(models):
            (Path(folder) / f"{at}.onnx").write_bytes(model)
        numbers = map(str, (len(models), rounds, threads, *picture))
        # -P: a photo folder that is worked in may hold a json.py.
        command = [sys.executable, "-P", "-m", "sevenfold.latency", folder, *numbers]
        where = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", check=False, env=where
        )
    if done.returncode:
        told = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise ResourceError(
            f"the models could not be timed: {told[0]}", "close other programs, and try again"
        )
    return np.array(json.loads(done.stdout), dtype=np.float64)


def median_ms(model: bytes) -> float:
    """Time one model in this process and return the median in milliseconds."""
    return float(np.median(interleaved([opened(model)], rounds=40)))


@dataclass(frozen=True, slots=True)
class Sizes:
    """Hold the size of a convolution or a linear layer, which its time depends on.

    Args:
        inputs: channels that it reads.
        outputs: channels that it makes.
        groups: of a convolution; 1 for a linear layer.
        kernel: weights of one input with one output.
        positions: of the output, at each of which they are applied.
    """

    inputs: int
    outputs: int
    groups: int
    kernel: int
    positions: int

    @property
    def weights(self) -> int:
        """Return how many weights it has, without bias."""
        return self.kernel * self.inputs * self.outputs // self.groups

    @property
    def macs(self) -> int:
        """Return its multiply-accumulates for one picture."""
        return self.weights * self.positions

    @property
    def kind(self) -> tuple[int, int, bool]:
        """Return what pruning does not change: kernel, positions, and whether it is depthwise."""
        return self.kernel, self.positions, self.groups > 1


@dataclass(frozen=True)
class Table:
    """Hold how long layers take on a machine.

    Args:
        machine: where they were measured.
        side: of the pictures, in pixels.
        overhead_ms: of a network beside its layers.
        layers: milliseconds of each size, one thread, one picture.
    """

    machine: str
    side: int
    overhead_ms: float
    layers: Mapping[Sizes, float]

    def predict(self, layers: Sequence[Sizes]) -> float:
        """Predict the latency of a network in milliseconds.

        A layer that was not measured takes its own multiply-accumulates times the time for
        each in the measured layers of its kind, weighed by the inverse squared distance of
        the logarithms of inputs and outputs.

        Raises:
            DataError: no layer of this kind was measured.
        """
        return self.overhead_ms + sum(map(self._one, layers))

    def _one(self, layer: Sizes) -> float:
        if layer in self.layers:
            return self.layers[layer]
        alike = [(one, ms) for one, ms in self.layers.items() if one.kind == layer.kind]
        if not alike:
            raise DataError(
                f"the latency table has no layer with {layer.kernel} weights for each pair of "
                f"channels at {layer.positions} positions",
                "measure the table with this backbone at this size",
            )
        weights, paces = [], []
        for one, ms in alike:
            apart = math.hypot(
                math.log(one.inputs / layer.inputs), math.log(one.outputs / layer.outputs)
            )
            weights.append(1 / (apart**2 + 1e-9))
            paces.append(ms / one.macs)
        return layer.macs * float(np.average(paces, weights=weights))


def table(path: Path, *, side: int) -> Table:
    """Read a latency table, JSON of the schema "sevenfold.latency/1".

    It holds `machine`, `side`, `overhead_ms` and `layers`, a list of objects with `inputs`,
    `outputs`, `groups`, `kernel` (weights of one input with one output), `positions` (of the
    output) and `ms`.

    Args:
        path: of the file.
        side: that the table must be for, in pixels.

    Raises:
        DataError: it cannot be read, or is for another size.
    """
    name = shown(str(path))
    try:
        held = json.loads(path.read_text("utf-8"))
        if held["schema"] != SCHEMA:
            raise ValueError(f"its schema is not {SCHEMA}")
        _check_measured(held)
        layers = {
            Sizes(
                *(int(one[key]) for key in ("inputs", "outputs", "groups", "kernel", "positions"))
            ): float(one["ms"])
            for one in held["layers"]
        }
        found = Table(str(held["machine"]), int(held["side"]), float(held["overhead_ms"]), layers)
        if any(min(*astuple(one), one.macs) < 1 for one in layers):
            raise ValueError("a layer has no size")
        if not all(0 <= ms < math.inf for ms in layers.values()):
            raise ValueError("a layer has no time")
        if not math.isfinite(found.overhead_ms):
            raise ValueError("its overhead is no time")
    except (OSError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise DataError(
            f"--latency-table {name} cannot be used: {type(error).__name__}: {error}",
            "give a JSON file with schema, machine, side, overhead_ms and layers",
        ) from error
    if found.side != side:
        raise DataError(
            f"--latency-table {name} is for {found.side} pixels, and the model sees {side}",
            "measure it at the model's size",
        )
    return found


def _check_measured(held: Mapping[str, Any]) -> None:
    """Refuse what `sevenfold bench` measured on several threads, or on a busy machine.

    Raises:
        ValueError: with the reason.
    """
    if held.get("threads", 1) != 1:
        raise ValueError("it was measured on several threads: run `sevenfold bench --threads 1`")
    if held.get("steady", True) is not True:
        raise ValueError("the machine was too busy: a model was not as fast as itself")


def compared(path: Path, first: bytes, second: bytes) -> tuple[str, Estimate]:
    """Read from a latency table how many times faster the second model is than the first.

    Args:
        path: of a file that `sevenfold bench` wrote for both.
        first: content of an ONNX file.
        second: content of another.

    Returns:
        The machine, and the ratio of medians with its 95 % interval.

    Raises:
        DataError: it cannot be read, does not hold both, or its control is not steady.
    """
    hashes = [hashlib.sha256(one).hexdigest() for one in (first, second)]
    try:
        held = json.loads(path.read_text("utf-8"))
        rows = {row["sha256"]: row for row in held["models"]}
        if held["models"][0]["sha256"] != hashes[0] or hashes[1] not in rows:
            raise ValueError("it does not hold these two models, the float one first")
        _check_measured(held)
        found = rows[hashes[1]]["speedup"]
        ratio = [float(found[at]) for at in _RATIO]
        if not all(0 < one < math.inf for one in ratio):
            raise ValueError("its speed-up is no number")
        return str(held["machine"]), Estimate(*ratio)
    except (OSError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise DataError(
            f"--latency-table {shown(str(path))} cannot be used: {type(error).__name__}: {error}",
            "run `sevenfold bench FLOAT INT8 --out FILE` on the machine that the model is for",
        ) from error


def _main() -> None:
    folder, *numbers = sys.argv[1:]
    count, rounds, threads, height, width, channels = map(int, numbers)
    picture = (height, width, channels)
    runs = [
        opened(str(Path(folder) / f"{at}.onnx"), picture=picture, threads=threads)
        for at in range(count)
    ]
    print(json.dumps(interleaved(runs, rounds=rounds).tolist()))


if __name__ == "__main__":
    _main()
