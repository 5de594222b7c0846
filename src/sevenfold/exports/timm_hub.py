"""Write a network as timm's hub holds its models: weights, and `config.json` around them.

`timm.create_model("local-dir:FOLDER", pretrained=True)` builds it without Sevenfold, and
timm's own evaluation transform feeds it what it was trained on: the whole picture, resized to
a square by Pillow's bilinear filter.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from sevenfold import export, nets
from sevenfold.data import Split
from sevenfold.errors import GateRefused, UsageError
from sevenfold.export import Agreement
from sevenfold.exports.verify import Shares
from sevenfold.features.trunk import session
from sevenfold.practices import transfer
from sevenfold.report import answer_rule, model_card

GREY_LEVELS: Final = 1.0
"""By how much a pixel may differ through timm's transform, of 255: Pillow rounds twice where
the graph rounds once."""
WEIGHTS: Final = "model.safetensors"
CONFIG: Final = "config.json"
_BATCH: Final = 32
_KEPT: Final = ("fixed_input_size", "first_conv", "classifier", "license", "origin_url")


def as_timm(network: nets.Network, backbone: str, side: int, temperature: float) -> Any:
    """Return timm's own model with a network's weights; its softmax is calibrated.

    Softmax(z / T) with z = W·x + b is that of the rows W / T and biases b / T.

    Args:
        network: laid out from that model, and trained since.
        backbone: its architecture.
        side: side of its pictures, in pixels.
        temperature: T, that divides the logits.

    Raises:
        UsageError: timm has no such model: a small network of ours, a pruned one, or one
            whose head is not one linear layer.
    """
    if backbone in nets.NAMES:
        raise UsageError(
            f"{backbone} is a network of Sevenfold's own, which timm cannot build",
            "use --to onnx, or train with a backbone of timm's, such as the default one",
        )
    classes = network.head.out_features
    model, whole = transfer.laid(backbone, classes, side)
    sizes = [
        {name: held.shape for name, held in one.state_dict().items()} for one in (whole, network)
    ]
    if sizes[0] != sizes[1]:
        raise UsageError(
            f"the network is pruned, and timm builds {backbone} whole",
            "use --to onnx, or export the run that it was pruned from",
        )
    whole.load_state_dict(network.state_dict())  # into the modules that the model shares
    model.reset_classifier(classes)
    classifier = model.get_classifier()
    if not isinstance(classifier, nn.Linear):
        raise UsageError(f"timm's {backbone} does not end in one linear layer", "use --to onnx")
    with torch.no_grad():
        classifier.weight.copy_(network.head.weight / temperature)
        classifier.bias.copy_(network.head.bias / temperature)
    return model.eval()


def config(model: Any, side: int, classes: Sequence[str]) -> dict[str, Any]:
    """Describe a timm model that sees whole pictures resized to a square.

    Args:
        model: with a head for the classes.
        side: of the square, in pixels.
        classes: the labels, in the order of the head.
    """
    known = dict(model.pretrained_cfg)
    # Attention knows positions, made for one size.
    arguments = {"img_size": side} if hasattr(model, "set_input_size") else {}
    return {
        "architecture": known["architecture"],
        "num_classes": len(classes),
        "num_features": int(model.num_features),
        "label_names": list(classes),
        **({"model_args": arguments} if arguments else {}),
        "pretrained_cfg": {
            **{name: known[name] for name in _KEPT if known.get(name) is not None},
            "tag": "sevenfold",
            "custom_load": False,
            "input_size": [3, side, side],
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "mean": list(known["mean"]),
            "std": list(known["std"]),
            "num_classes": len(classes),
            "pool_size": None,
        },
    }


def files(model: Any, side: int, classes: Sequence[str]) -> dict[str, bytes]:
    """Write weights and configuration; see `config`."""
    state = {name: held.contiguous().clone() for name, held in model.state_dict().items()}
    told = json.dumps(config(model, side, classes), indent=1, ensure_ascii=False)
    return {
        WEIGHTS: safetensors.torch.save(state, metadata={"format": "pt"}),
        CONFIG: told.encode(),
    }


@final
@dataclass(frozen=True, eq=False, slots=True)
class Answers:
    """Hold what timm's network answers.

    Args:
        same: for the pixels that the bundle's graph resizes.
        own: for those of timm's own transform.
        grey_levels: by which these pixels differ at most, of 255.
    """

    same: Shares
    own: Shares
    grey_levels: float


@torch.inference_mode()
def answers(
    made: Mapping[str, bytes], side: int, split: Split, chosen: Sequence[int], threads: int
) -> Answers:
    """Let timm load the files and answer pictures. Writes to a temporary folder.

    Args:
        made: from `files`.
        side: of the square, in pixels.
        split: holds the pictures.
        chosen: which.
        threads: that decode.
    """
    import timm

    facts: Any = timm.data  # which types little
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for name, content in made.items():
            (Path(folder) / name).write_bytes(content)
        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    settings = facts.resolve_model_data_config(model)
    transform = facts.create_transform(**settings, is_training=False)
    mean, std = (torch.tensor(settings[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    resize = session(export.resizing(side).SerializeToString(), 1)
    same: list[Any] = []
    own: list[Any] = []
    grey_levels = 0.0
    for start in range(0, len(chosen), _BATCH):
        some = chosen[start : start + _BATCH]
        (pixels,) = export.run(resize, split.dataset, some, ["pixels"], threads)
        ours = (torch.from_numpy(pixels) / 255 - mean) / std
        # One by one: a whole photo has up to 150 MB.
        seen = [transform(Image.fromarray(split.dataset.decode(at))) for at in some]
        theirs = torch.stack(seen)
        grey_levels = max(grey_levels, float((255 * std * (theirs - ours)).abs().max()))
        same.append(model(ours).softmax(dim=1).numpy())
        own.append(model(theirs).softmax(dim=1).numpy())
    return Answers(np.concatenate(same), np.concatenate(own), grey_levels)


def demand(found: Answers) -> None:
    """Refuse a configuration whose transform shows the network something else.

    Raises:
        GateRefused: a pixel differs by more than `GREY_LEVELS`.
    """
    if not found.grey_levels <= GREY_LEVELS + 1e-2:
        raise GateRefused(
            f"timm's transform differs from the model's by {found.grey_levels:.1f} grey levels of "
            f"255, and {GREY_LEVELS:g} is allowed",
            "nothing was written; please report the backbone and `sevenfold doctor`",
        )


CODE: Final = """\
import sys

import numpy as np
import timm
import torch
from PIL import Image, ImageOps
from timm.data import create_transform, resolve_model_data_config

model = timm.create_model("local-dir:.", pretrained=True).eval()
transform = create_transform(**resolve_model_data_config(model), is_training=False)
picture = ImageOps.exif_transpose(Image.open(sys.argv[1]))
if picture.mode.startswith("I;16"):  # 16 bits of grey
    picture = Image.fromarray((np.asarray(picture) / 257).round().astype(np.uint8))
picture = picture.convert("RGBA")
picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
with torch.inference_mode():
    probabilities = model(transform(picture)[None]).softmax(dim=1)[0]
best = int(probabilities.argmax())
print(model.pretrained_cfg["label_names"][best], f"{probabilities[best]:.3f}")
"""


def page(card: Mapping[str, Any], found: Agreement, through: Agreement, role: str) -> str:
    """Write the README: how timm loads the folder, how it was verified, then the model card.

    Args:
        card: of the bundle.
        found: on the bundle's own pixels.
        through: by timm's transform.
        role: of the pictures that were compared.
    """
    return f"""---
library_name: timm
tags:
- image-classification
- timm
---

# For timm

`{WEIGHTS}` and `{CONFIG}` are laid out as timm's hub holds its models. Without
`pretrained=True` timm builds the network with random weights. The temperature lies in the last
layer, so that the softmax is calibrated; the picture must be upright, and is resized as a whole.

```python
{CODE}```

Held against `model.onnx` of the bundle on {found.pictures} {role} pictures: same answer on
{found.top1:.2%} and probabilities at most {found.largest_difference:.1e} apart on the same
pixels; {through.top1:.2%} and {through.largest_difference:.1e} through timm's own transform,
whose resize rounds twice and so leaves at most one grey level of difference.
The scores below were measured through `model.onnx`.
{answer_rule(card)}

{_card(card)}"""


def _card(card: Mapping[str, Any]) -> str:
    """Return the bundle's page without how to use the bundle."""
    text = model_card(card)
    before, use, after = text.partition("\n## Use it\n")
    return before + "\n## " + after.partition("\n## ")[2] if use else text
