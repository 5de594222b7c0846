"""Lay a timm backbone out as a row of blocks that can be cut anywhere.

timm only builds the model. Whatever family its attributes are taken for, the blocks
must give the same vectors as the model itself, or it stays in one block.
"""

import difflib
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sevenfold import nets
from sevenfold.errors import UsageError


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


def as_network(model: Any, classes: int, side: int, dropout: float) -> nets.Network:
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


def refuse_unknown(name: str) -> None:
    """Refuse a name that timm does not know, and tell the nearest that it does."""
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, [*timm.list_models(), *nets.NAMES], n=1)
        raise UsageError(
            f"no backbone is called {name!r}",
            f"did you mean {near[0]!r}?" if near else "list them with timm.list_models()",
        )


def model_of(name: str) -> Any:
    """Build timm's model of a name, with random weights."""
    import timm

    refuse_unknown(name)
    return timm.create_model(name, pretrained=False)
