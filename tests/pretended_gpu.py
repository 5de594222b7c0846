"""Pretend that there is a GPU: tensors that say they lie there and refuse what one would refuse.

Memory of the host stands behind each; what is computed is the CPU's. So a test can follow the
way over a GPU on a machine that has none, and finds what would end there: operands on two
devices, an array taken from a GPU's memory, numbers drawn by the wrong generator, numbers of
64 bits on MPS. Speed, half precision's rounding and the kernels themselves stay untested.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

_NAME: Final = "pretended"
_refused: set[torch.dtype] = set()  # for the whole process, since threads make tensors too
_aten = torch.ops.aten
_COPIES: Final = (_aten.copy_.default, _aten._to_copy.default)
# A GPU's memory may be indexed by the host's.
_INDEXED: Final = (
    _aten.index.Tensor,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
)


class OnGpu(torch.Tensor):
    """Say that a tensor of the host lies on a GPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls: type["OnGpu"], held: torch.Tensor) -> "OnGpu":
        if held.dtype in _refused:
            raise TypeError(f"this GPU doesn't support {held.dtype}")
        made: OnGpu = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=f"{_NAME}:0",
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _ran(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.held.tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnGpu({self.held!r})"

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(
        parts: dict[str, torch.Tensor], about: None, size: Any, strides: Any
    ) -> "OnGpu":
        return OnGpu(parts["held"])


def _ran(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on what the tensors hold, after the checks of a GPU."""
    parts = func.decompose(*args, **kwargs)  # in inference mode torch has not taken it apart
    if parts is not NotImplemented:
        return parts
    given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
    there = [one for one in given if isinstance(one, OnGpu)]
    here = [one for one in given if not isinstance(one, OnGpu)]
    if func not in _COPIES and _apart(func, args, here):
        raise RuntimeError(f"{func}: Expected all tensors to be on the same device")
    if kwargs.get("generator") is not None:
        raise RuntimeError(f"{func}: Expected a generator of the same device")
    wanted = kwargs.get("device")
    leaves = wanted is not None and torch.device(wanted).type == "cpu"
    if wanted is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    known = {id(one.held): one for one in there} | {id(one): one for one in here}
    args, kwargs = tree_map_only(OnGpu, lambda one: one.held, (args, kwargs))
    found = func(*args, **kwargs)

    def back(one: torch.Tensor) -> torch.Tensor:
        if id(one) in known:
            return known[id(one)]
        return one if leaves else OnGpu(one)

    return tree_map_only(torch.Tensor, back, found)


def _apart(func: Any, args: Any, here: list[torch.Tensor]) -> bool:
    """Tell whether a GPU would refuse these tensors of the host beside its own."""
    if func in _INDEXED:
        first, _, *values = args
        return not isinstance(first, OnGpu) or any(one is mine for mine in here for one in values)
    lists = [one for one in args if isinstance(one, (list, tuple))]
    listed = any(one is mine for mine in here for some in lists for one in some)
    changed = func._schema.is_mutable and any(args[0] is mine for mine in here)
    return listed or changed or any(one.dim() for one in here)


@contextlib.contextmanager
def pretended(name: str) -> Iterator[None]:
    """Let torch find a GPU for a while. A process in which that was so knows of it ever after.

    Args:
        name: `cuda` or `mps`, by which it is asked for.
    """
    import torch._dynamo
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    if torch._C._get_privateuse1_backend_name() != _NAME:
        _setup_privateuseone_for_python_backend(_NAME)
    library = torch.library.Library("aten", "IMPL")
    library.impl("empty.memory_format", _empty, "PrivateUse1")
    library.impl("empty_strided", _strided, "PrivateUse1")
    swapped = torch.__future__.get_swap_module_params_on_conversion()
    # A module that is moved keeps its parameters, as on a real one.
    torch.__future__.set_swap_module_params_on_conversion(True)
    _refused.update({torch.float64} if name == "mps" else ())
    with (
        pytest.MonkeyPatch.context() as patch,
        torch.autograd.set_multithreading_enabled(False),
        _Renamed(name),
    ):
        # By class, so that it holds in threads, too.
        patch.setattr(torch.Tensor, "to", _renaming(torch.Tensor.to, name))
        patch.setattr(nn.Module, "to", _renaming(nn.Module.to, name))
        patch.setattr(torch.cuda, "is_available", lambda: name == "cuda" and _ours())
        patch.setattr(torch.backends.mps, "is_available", lambda: name == "mps" and _ours())
        patch.setattr(torch.cuda, "get_device_name", lambda *_: "pretended")
        patch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
        try:
            yield
        finally:
            torch.__future__.set_swap_module_params_on_conversion(swapped)
            _refused.clear()
            library._destroy()


class _Renamed(TorchFunctionMode):
    """Let torch's functions that make tensors know the device by the name that it goes by."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("device") in _names(self.name):
            kwargs["device"] = _NAME
        return func(*args, **kwargs)


def _renaming(func: Any, name: str) -> Any:
    def renamed(*args: Any, **kwargs: Any) -> Any:
        def known(one: Any) -> Any:
            return _NAME if one in _names(name) else one

        args, kwargs = tree_map_only((str, torch.device), known, (args, kwargs))
        return func(*args, **kwargs)

    return renamed


def _ours() -> bool:
    """Tell whether we ask, not torch: its exporter would look for a driver."""
    return str(sys._getframe(2).f_globals["__name__"]).startswith("sevenfold")


def _names(name: str) -> tuple[Any, ...]:
    return name, torch.device(name)


def _empty(size: Any, **options: Any) -> torch.Tensor:
    return OnGpu(torch.empty(size, **_here(options)))


def _strided(size: Any, stride: Any, **options: Any) -> torch.Tensor:
    return OnGpu(torch.empty_strided(size, stride, **_here(options)))


def _here(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "device": "cpu", "pin_memory": False}
