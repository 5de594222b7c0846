"""Leave out each one block of trained networks, as Veit et al. (2016, arXiv 1605.06431) did.

ResNet-20, the same network without shortcuts, and VGG-11, all with batch norm, trained on
CIFAR-10 (a stratified draw for each seed), 3 seeds: accuracy on test pictures after each one
block whose input and output agree in shape is replaced by an identity, before any retraining.
As Veit et al. did, batch-norm statistics are left alone; beside it stands the accuracy with
statistics measured anew on 1,000 training pictures. The figure is written to
docs/figures/lesion.svg.

On two cores a ResNet-20 or plain-20 costs 2.5 ms a picture and epoch, a VGG-11 about 4:
9,000 pictures and 5 epochs, as it is, take about 22 minutes for all three with 3 seeds and
2,000 test pictures; `--pictures 50000 --epochs 6 --judged 10000` about two and a half hours.

    python benchmarks/lesion.py --data PATH
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import results_file
from ensembling import subset
from results_file import ROOT, Results, Row

NETWORKS = ("resnet20", "plain20", "vgg11_bn")
SEEDS = (0, 1, 2)
PICTURES, EPOCHS, JUDGED = 9000, 5, 2000
CALIBRATED_ON = 1000
SIDE = 32  # pixels
STYLES = {"resnet20": "a", "plain20": "b", "vgg11_bn": "c"}


def trained(name: str, seed: int, options: argparse.Namespace, folder: Path) -> tuple[Any, Any]:
    """Train a network from scratch; return what was fitted, and the split."""
    from sevenfold import data, recipe, train, trial
    from sevenfold.features.pixels import opened
    from sevenfold.progress import silent

    settings = (
        f"transfer.backbone={name}", "transfer.weights=random", "transfer.trainable_blocks=1000",
        f"side={SIDE}", f"epochs={options.epochs}", "batch=128", "objective=accuracy",
        *(["optimization.rate=0.003"] if options.smoke else []),
    )  # fmt: skip
    asked = recipe.apply(recipe.default("quick"), settings)
    threads = options.cores
    place = trial.place("cpu", threads)
    source = folder / f"cifar{seed}.parquet"
    if not source.exists():
        subset(options.data / "cifar10", source, seed, (options.pictures, options.judged))
    pixels, dataset = opened(str(source), asked.side, threads=threads, progress=silent)
    split = data.split(dataset)
    trials = folder / f"{name}-{seed}"
    trials.mkdir(parents=True, exist_ok=True)
    fitted = train.fit(
        asked, split, seed=seed, place=place, pixels=pixels, folder=trials, progress=silent
    )
    return fitted, split


def batches(split: Any, pictures: Any) -> list[Any]:
    """Return pictures as the networks see them, in batches of 500."""
    import torch

    from sevenfold.features.pixels import Pixels

    pixels = Pixels(SIDE, full=True)
    found = []
    for start in range(0, len(pictures), 500):
        some = [pixels.square(split.dataset, int(at)) for at in pictures[start : start + 500]]
        found.append(torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2).float())
    return found


def answers(network: Any, shown: list[Any]) -> Any:
    """Return a network's answers."""
    import torch

    with torch.inference_mode():
        return torch.cat([network.eval()(some).argmax(dim=1) for some in shown]).numpy()


def accuracy(network: Any, shown: list[Any], labels: Any) -> float:
    """Return the share of right answers."""
    return float((answers(network, shown) == labels).mean())


def measure(
    results: Results, name: str, seed: int, options: argparse.Namespace, folder: Path
) -> None:
    """Train one network and leave out each of its blocks."""
    from sevenfold.practices import pruning

    key = f"{name}/{seed}/{size(options)}"
    if not results.missing(key):
        return
    fitted, split = trained(name, seed, options, folder)
    network, test = fitted.ships[0].network, split.test
    labels, shown = split.dataset.labels[test], batches(split, test)
    # Drawn: the pictures lie class by class.
    drawn = np.random.default_rng(seed).permutation(split.train)[:CALIBRATED_ON]
    calm = batches(split, drawn)
    blocks = pruning.lesion_blocks(network, shown[0][:8])
    lesions = []
    for block in blocks:
        without = pruning.lesioned(network, block)
        again = pruning.recalibrated(without, calm)
        lesions.append(
            {
                "block": block,
                "accuracy": accuracy(without, shown, labels),
                "recalibrated": accuracy(again, shown, labels),
            }
        )
    results.append(
        key,
        seed=seed,
        n=len(test),
        pictures=options.pictures,
        epochs=options.epochs,
        accuracy=accuracy(network, shown, labels),
        lesions=lesions,
    )


def size(options: argparse.Namespace) -> str:
    """Name how much was trained and judged."""
    return f"{options.pictures}x{options.epochs}/{options.judged}"


def by_network(found: list[Row]) -> dict[str, list[Row]]:
    """Gather the seeds of each network."""
    return {
        name: mine
        for name in NETWORKS
        if (mine := [one for one in found if one["key"].partition("/")[0] == name])
    }


def figure(found: list[Row]) -> str:
    """Draw the accuracy without each block, one line for each network's mean over seeds."""
    from sevenfold import plots

    lines, bands, told = [], [], []
    for name, mine in by_network(found).items():
        values = np.array(
            [[row["accuracy"], *(one["accuracy"] for one in row["lesions"])] for row in mine]
        )
        places = np.linspace(0, 1, values.shape[1])
        mean = values.mean(axis=0)
        points = tuple(zip((100 * places).tolist(), mean.tolist(), strict=True))
        lines.append(plots.Line(name, points, STYLES[name], points))
        ends = zip(
            (100 * places).tolist(), values.min(0).tolist(), values.max(0).tolist(), strict=True
        )
        bands.append(plots.Band(tuple(ends), STYLES[name]))
        told.append(f"{name}: {mean[0]:.2f} whole, {mean[1:].min():.2f} to {mean[1:].max():.2f}")
    return plots.chart(
        lines,
        key="lesion",
        title="Accuracy after leaving out one block, before any retraining",
        text="; ".join(told),
        x_label="place of the block (%); at 0 none is left out",
        percent=True,
        bands=bands,
    )


STYLE = """<style>svg{font:13px system-ui,sans-serif;background:#fff}.line{fill:none;
stroke-width:2}.line.a,.dot.a{stroke:#0b6e4f}.line.b,.dot.b{stroke:#b3541e;stroke-dasharray:6 4}
.line.c,.dot.c{stroke:#3b4cca;stroke-dasharray:2 4}.dot{fill:#fff;stroke-dasharray:none!important}
.area{opacity:.12}.area.a{fill:#0b6e4f}.area.b{fill:#b3541e}.area.c{fill:#3b4cca}.tick,.grid{stroke:#ccc}</style>"""


def write(path: Path, svg: str) -> None:
    """Write a figure as a file of its own."""
    head, _, body = svg.partition(">")
    space = "" if "xmlns" in head else ' xmlns="http://www.w3.org/2000/svg"'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{head}{space}>{STYLE}{body}\n", encoding="utf-8", newline="\n")


def row(name: str, mine: list[Row]) -> Row:
    """Return the table's row of one network."""
    drops = np.array(
        [[one["accuracy"] - lost["accuracy"] for lost in one["lesions"]] for one in mine]
    )
    again = np.array(
        [[one["accuracy"] - lost["recalibrated"] for lost in one["lesions"]] for one in mine]
    )
    return {
        "network": name,
        "seeds": len(mine),
        "blocks": drops.shape[1],
        "accuracy": f"{np.mean([one['accuracy'] for one in mine]):.3f}",
        "median drop": f"{np.median(drops):.3f}",
        "smallest and largest": f"{drops.min():.3f} to {drops.max():.3f}",
        "median, norms measured anew": f"{np.median(again):.3f}",
    }


def main() -> None:
    """Measure what is missing, then sum up and draw."""
    asked = results_file.parser(__doc__)
    asked.add_argument("--only", nargs="*", default=list(NETWORKS), choices=NETWORKS)
    asked.add_argument("--pictures", type=int, default=PICTURES, help="to train and validate on")
    asked.add_argument("--epochs", type=int, default=EPOCHS)
    asked.add_argument("--judged", type=int, default=JUDGED, help="test pictures")
    options = asked.parse_args()
    if options.smoke:
        # Fewer would have no validation pictures, and folds in their place.
        options.pictures, options.epochs, options.judged = 1200, 1, 100
    results = results_file.opened("lesion", options)
    with tempfile.TemporaryDirectory(prefix="sevenfold-stores-") as stores:
        os.environ["SEVENFOLD_CACHE"] = stores
        for seed in SEEDS[:1] if options.smoke else SEEDS:
            for name in options.only:
                measure(results, name, seed, options, Path(stores))
    found = [one for one in results.rows() if one["key"].endswith(f"/{size(options)}")]
    titles = [
        f"Accuracy on CIFAR-10 ({options.pictures:,} pictures, {options.epochs} epochs) after "
        "leaving out each one block, before any retraining (Veit et al. 2016); a block that "
        "changes the number of channels stays.",
    ]
    results.summarise(titles, [row(*item) for item in by_network(found).items()])
    folder = results.folder if options.smoke else ROOT / "docs" / "figures"
    write(folder / "lesion.svg", figure(found))


if __name__ == "__main__":
    main()
