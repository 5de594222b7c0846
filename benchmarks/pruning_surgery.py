"""Cut random channels out of every family of networks and hold the result to two judges.

For each family, 50 times: up to half of the channels of about half of the groups go;
the smaller network must give the logits of the larger one with those filters zero
(`pruning.difference`, double precision, real photos), and its layers must have the
shapes that torch-pruning gives them when told to remove the same channels, with the
same logits in float32. Batch norms have drawn statistics, so that a fault would show;
EfficientNet-Lite0 has its trained weights.

    python benchmarks/pruning_surgery.py --data PATH
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import results_file
from results_file import Results, Row

SMALL = ("resnet20", "resnet32", "resnet56", "plain20", "plain32", "plain56", "vgg11_bn")
TIMM = ("resnet18", "resnet34", "resnet50", "efficientnet_lite0", "mobilenetv2_100")
TORCHVISION = ("resnet18", "resnet34", "resnet50", "mobilenet_v2", "vgg11_bn")
PACKAGED = "tf_efficientnet_lite0"
OTHERS = ("densenet121", "efficientnet_b0", "mobilenetv3_small_100")


def families() -> dict[str, tuple[int, Callable[[], Any]]]:
    """Return side and maker of each family, by name."""
    import torchvision

    from sevenfold import nets
    from sevenfold.practices.transfer import Transfer, build

    def laid_out(name: str, weights: str = "random") -> Any:
        return build(Transfer(backbone=name, weights=weights), 10, 64, 0)[0]

    found: dict[str, tuple[int, Callable[[], Any]]] = {
        name: (32, lambda name=name: nets.small(name, 10)) for name in SMALL
    }
    found |= {f"timm {name}": (64, lambda name=name: laid_out(name)) for name in (*TIMM, *OTHERS)}
    found[f"timm {PACKAGED}, trained"] = (64, lambda: laid_out(PACKAGED, "packaged"))
    for name in TORCHVISION:
        make = getattr(torchvision.models, name)
        found[f"torchvision {name}"] = (64, lambda make=make: make(num_classes=10))
    return found


def lively(network: Any) -> None:
    """Draw scales, shifts and statistics of batch norms. Changes the network."""
    from torch import nn

    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight, part.running_var):
                tensor.data.uniform_(0.5, 1.5)
            for tensor in (part.bias, part.running_mean):
                tensor.data.uniform_(-0.5, 0.5)


def photos(data: Path, side: int, network: Any) -> Any:
    """Return two photos of `clothing` as the network wants them."""
    import numpy as np
    import torch

    from sevenfold import image, nets

    paths = sorted((data / "clothing" / "validation").glob("*/*.jpg"))[::100][:2]
    squares = [image.resize(image.decode(p.read_bytes(), name=p.name), side) for p in paths]
    pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float()
    return pixels if isinstance(network, nets.Network) else pixels / 255


def removal(coupling: Any, seed: int) -> dict[str, list[int]]:
    """Draw the channels that go."""
    import numpy as np

    generator = np.random.default_rng(seed)
    drawn = {}
    for group in coupling.groups:
        count = int(generator.integers(1, group.channels // 2 + 1)) if group.channels > 1 else 0
        if count and generator.random() < 0.5:
            picked = generator.choice(group.channels, count, replace=False)
            drawn[group.name] = sorted(picked.tolist())
    return drawn


def theirs(network: Any, coupling: Any, gone: dict[str, list[int]], pixels: Any) -> Any:
    """Return what torch-pruning makes of the network."""
    import torch_pruning
    from torch import nn

    smaller = copy.deepcopy(network)
    graph = torch_pruning.DependencyGraph().build_dependency(smaller, pixels)
    parts = dict(smaller.named_modules())
    for name, channels in gone.items():
        first = coupling.group(name).of("filter")[0]
        layer = parts[first.module]
        conv = isinstance(layer, nn.Conv2d)
        ends = torch_pruning.prune_conv_out_channels, torch_pruning.prune_linear_out_channels
        rows = first.places[channels].ravel().tolist()
        graph.get_pruning_group(layer, ends[not conv], rows).prune()
    return smaller


def compared(ours: Any, other: Callable[[], Any], pixels: Any) -> str:
    """Tell whether the other tool's network agrees, differs or does not run."""
    import torch

    try:
        smaller = other()
        with torch.inference_mode():
            wanted, found = ours(pixels), smaller(pixels)
    except Exception as error:  # whatever another tool raises
        return f"fails: {type(error).__name__}"
    shapes = [[tuple(one.shape) for one in net.state_dict().values()] for net in (ours, smaller)]
    close = bool((wanted - found).abs().max() <= 1e-4 * wanted.abs().max())
    return "agrees" if shapes[0] == shapes[1] and close else "differs"


def measure(results: Results, data: Path, name: str, rounds: int) -> None:
    """Cut one family's network `rounds` times."""
    import torch

    from sevenfold.errors import GateRefused
    from sevenfold.practices import pruning
    from sevenfold.practices.pruning import surgery

    if not results.missing(name, everywhere=True):
        return
    side, make = families()[name]
    torch.manual_seed(0)
    network = make().eval()
    if "trained" not in name:
        lively(network)
    pixels = photos(data, side, network)
    coupling = pruning.couple(network, side)
    differences, judged = [], Counter[str]()
    failed = 0
    for seed in range(rounds):
        gone = removal(coupling, seed)
        ours = surgery.cut(network, coupling, gone)
        try:
            differences.append(pruning.prove(pruning.zeroed(network, coupling, gone), ours, pixels))
        except GateRefused:
            failed += 1
            continue
        judged[
            compared(ours, lambda gone=gone: theirs(network, coupling, gone, pixels), pixels)
        ] += 1
    results.append(
        name,
        seed=0,
        n=rounds,
        side=side,
        groups=len(coupling.groups),
        channels=sum(group.channels for group in coupling.groups),
        refused=len(coupling.refused),
        failed=failed,
        worst=max(differences, default=float("inf")),
        oracle=dict(judged),
    )


def row(found: Row) -> Row:
    """Return the table's row of one family."""
    return {
        "network": found["key"],
        "px": found["side"],
        "groups": found["groups"],
        "channels": found["channels"],
        "removals": found["n"],
        "proved": found["n"] - found["failed"],
        "largest difference": f"{found['worst']:.1g}",
        "torch-pruning": ", ".join(f"{word} {n}" for word, n in found["oracle"].items()),
    }


def main() -> None:
    """Measure what is missing, then sum up."""
    options = results_file.parser(__doc__)
    options.add_argument("--rounds", type=int, default=50)
    options.add_argument("--only", nargs="*", default=[], help="families by name")
    options.set_defaults(cores=1)
    asked = options.parse_args()
    results = results_file.opened("pruning_surgery", asked)

    import torch

    torch.set_num_threads(asked.cores)
    for name in asked.only or families():
        measure(results, asked.data, name, 2 if asked.smoke else asked.rounds)
    titles = [
        "Random removals of channels: logits against the same network with those filters zero, "
        "and the same removal by torch-pruning 1.6 (which does not follow shortcuts that slice "
        "and pad).",
    ]
    found = results.rows(everywhere=True)  # what is right is so on every machine
    results.summarise(titles, [row(one) for one in found], found)


if __name__ == "__main__":
    main()
