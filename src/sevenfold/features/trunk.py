"""Run a frozen trunk over pixels: in onnxruntime on a CPU, in PyTorch on an NVIDIA GPU.

onnxruntime folds batch norm into the convolutions and keeps its own blocked
layout, which makes it more than twice as fast as PyTorch at its best on a CPU, and
four times where PyTorch is given 32 pictures at once
(`benchmarks/trunk_engines.py`). On MPS the trunk runs on the CPU, too: rows are asked
for by several threads, and there two threads at once end the process
(pytorch/pytorch#197805, seen in torch 2.14). A picture's activations do not depend on the
batch that it came in, nor on the number of threads.
"""

import contextlib
import copy
import hashlib
import importlib.metadata
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnxruntime
import torch
from jaxtyping import Float16, UInt8
from torch import nn

from sevenfold import atomic
from sevenfold.features.folding import folded
from sevenfold.features.store import disk_full, home
from sevenfold.nets import Trunk

# Two of 256 by 256: the maps of more leave the caches (`benchmarks/trunk_engines.py`; tried
# by hand from one to 128 pictures of 32 to 256 pixels, docs/log.md, 2026-11-30).
_PIXELS_AT_ONCE: Final = 1 << 17


@dataclass(frozen=True)
class Engine:
    """Turn pixels into activations.

    Args:
        key: names trunk, weights, cut, side and the software that runs it.
        shape: of one picture's activations.
        run: from uint8 `[batch, side, side, 3]` to float16 `[batch, *shape]`;
            may be called from several threads at once.
        threaded: whether several calls at once are faster than one of them all.
    """

    key: str
    shape: tuple[int, ...]
    run: Callable[[UInt8[np.ndarray, "batch side side 3"]], Float16[np.ndarray, "batch *shape"]]
    threaded: bool


def spread(
    engine: Engine, threads: int
) -> Callable[[UInt8[np.ndarray, "batch side side 3"]], Float16[np.ndarray, "batch *shape"]]:
    """Return the engine's `run`, each batch parted among threads where that is faster.

    Args:
        engine: that is run.
        threads: of them all, 1 or more.
    """
    if not engine.threaded:
        return engine.run
    executor = ThreadPoolExecutor(threads)

    def run(pixels: UInt8[np.ndarray, "batch side side 3"]) -> Float16[np.ndarray, "batch *shape"]:
        parts = np.array_split(pixels, min(threads, len(pixels)))
        return np.concatenate(list(executor.map(engine.run, parts)))

    return run


def digest(module: nn.Module, side: int) -> str:
    """Hash a module's structure and weights, and the side it is used at."""
    state = hashlib.blake2b(f"{module}{side}".encode(), digest_size=12)
    for name, value in module.state_dict().items():
        state.update(name.encode())
        state.update(value.detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()


@contextlib.contextmanager
def quiet_export() -> Iterator[None]:
    """Silence the exporter's own progress and warnings; our gates check the result."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


class _FromBytes(nn.Module):
    """Let a trunk take uint8 pictures, channels last, and give half precision."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.trunk(pixels.permute(0, 3, 1, 2).float())).half()


def to_onnx(
    module: nn.Module, example: torch.Tensor, inputs: list[str], outputs: list[str]
) -> bytes:
    """Export a module with a free batch size to one ONNX file without external data."""
    # A batch of 1 would be taken for a constant (torch.export's specialisation).
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    # What overwrites its input is taken apart symbol by symbol: half of the exporter's time.
    module = folded(module, example)
    for part in module.modules():
        if hasattr(part, "inplace"):
            setattr(part, "inplace", False)  # noqa: B010 - modules type attributes as tensors
    with quiet_export(), torch.inference_mode():
        program = torch.onnx.export(
            module,
            (example,),
            None,
            dynamo=True,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=({0: batch},),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


def session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    """Open an onnxruntime session on the CPU whose idle threads sleep."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _exported(trunk: Trunk, side: int, name: str) -> bytes:
    """Export a trunk once and keep the file in the cache."""
    path = home() / "trunks" / name / "trunk.onnx"
    if path.exists():
        with contextlib.suppress(OSError):  # not ours
            os.utime(path.parent)  # in use, and so not the first to go
        return path.read_bytes()
    example = (torch.arange(6 * side**2) % 251).to(torch.uint8).reshape(2, side, side, 3)
    model = to_onnx(_FromBytes(trunk).eval(), example, ["pixels"], ["activations"])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, model)
    except OSError as error:
        raise disk_full(error, path.parent) from error
    return model


def _onnx_engine(trunk: Trunk, side: int, shape: tuple[int, ...]) -> Engine:
    version = importlib.metadata.version("onnxruntime")
    name = f"{digest(trunk, side)}-onnxruntime-{version}"
    opened = session(_exported(trunk, side, name), 1)
    few = max(1, _PIXELS_AT_ONCE // side**2)

    def run(pixels: UInt8[np.ndarray, "batch side side 3"]) -> Float16[np.ndarray, "batch *shape"]:
        parts = [pixels[start : start + few] for start in range(0, len(pixels), few)]
        return np.concatenate([opened.run(None, {"pixels": part})[0] for part in parts])

    return Engine(name, shape, run, threaded=True)


def _torch_engine(trunk: Trunk, side: int, shape: tuple[int, ...], device: str) -> Engine:
    chip = torch.cuda.get_device_name() if device == "cuda" else device
    name = f"{digest(trunk, side)}-torch-{torch.__version__}-{chip}-float32"
    module = (
        _FromBytes(copy.deepcopy(trunk)).eval().to(device).to(memory_format=torch.channels_last)
    )

    def run(pixels: UInt8[np.ndarray, "batch side side 3"]) -> Float16[np.ndarray, "batch *shape"]:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(pixels).to(device)).cpu().numpy())

    return Engine(name, shape, run, threaded=False)


def engine(trunk: Trunk, side: int, device: str) -> Engine:
    """Make the fastest engine for a trunk on a device; the trunk stays where and as it is.

    Args:
        trunk: frozen, not empty, on the CPU.
        side: side of the pictures in pixels.
        device: `cpu`, `cuda` or `mps`.
    """
    with torch.inference_mode():
        shape = tuple(trunk(torch.zeros(1, 3, side, side)).shape[1:])
    if device != "cuda":
        return _onnx_engine(trunk, side, shape)
    return _torch_engine(trunk, side, shape, device)
