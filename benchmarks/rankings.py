"""Compare what channels are ranked by, and repeat Li et al.'s claim at small scale.

ResNet-20 and VGG-11 with batch norm, trained from scratch on a stratified draw of CIFAR-10,
3 seeds. Li et al. (2016, arXiv 1608.08710) removed 27.6 % of the multiply-accumulates of a
ResNet-56 and 34.2 % of a VGG-16 by the L1 norms of the filters, and lost nothing. Here 27 %
of ResNet-20 and 34 % of VGG-11 go in one cut.

Two parts, of which `--parts` names some. `rankings`: ResNet-20 by each ranking, literally and
normalised, with channels at random as the control, then 2 epochs, which leave the rankings
apart. `claim`: both networks by L1 norms within each layer, as Li et al. compare them, then as
many epochs as they were trained for. (Li et al. trained on for an eighth, of a training that
had ended; here it is so short that it has not. They also chose by hand how much each layer
loses; here all lose about the same share: groups of channels go by eights. Rows by L1 norms
taken literally are of the claim as it was first measured.) The unpruned network is trained on
beside, of the claim for every seed, of the rankings for the first. All are judged on all
10,000 test pictures after the last epoch. Beside the mean over seeds stands the one-sided 95 %
bound on the drop against the unpruned network as it was, and where that was trained on as long
against that, the seeds pooled, with the test pictures as groups, since every seed is asked
about the same ones.

On two cores about 12 minutes for a seed of `rankings` and 14 of `claim`: some 85 in all with
`--pictures 6000 --epochs 8`, as it is. What was measured is not measured again, and
`--place FOLDER` keeps the trained networks for a run that was stopped.

    python benchmarks/rankings.py --data PATH
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import lesion
import results_file
from results_file import Results, Row

GOES = {"resnet20": 0.27, "vgg11_bn": 0.34}
SEEDS = (0, 1, 2)
PICTURES, EPOCHS, JUDGED = 6000, 8, 10_000
RANKINGS = ("l1", "l2", "bn_scale", "mean_activation", "nonzero", "taylor")
EVERY = (*((name, rule) for name in RANKINGS for rule in ("literal", "normalised")),)
LI = (("l1", "ranks"),)
PARTS = {
    "rankings": {"resnet20": (*EVERY, ("random", "literal"))},
    "claim": {"resnet20": LI, "vgg11_bn": LI},
}
MORE = {"rankings": 2, "claim": 8}  # epochs after the cut


def pruned_by(
    ranking: str,
    rule: str,
    fitted: Any,
    split: Any,
    options: argparse.Namespace,
    *,
    seed: int,
    share: float,
    more: int,
    dense: bool,
) -> Any:
    """Cut a trained network once and train it on; return the outcome of that."""
    from sevenfold import evaluate, trial
    from sevenfold.features.pixels import for_training
    from sevenfold.practices import pruning
    from sevenfold.progress import silent
    from sevenfold.train import pruned

    settings = pruning.Pruning(
        ranking=ranking, across=rule, blocks=False, steps=1, epochs=more,
        max_drop=1.0, controls="dense" if dense else "none",
    )  # fmt: skip
    left = 1 - share
    plan = pruned.Plan(
        (pruning.Aim(pruning.Target("macs", left), left),),
        settings,
        fitted.rate,
    )
    (ship,) = fitted.ships
    with tempfile.TemporaryDirectory() as folder:
        return pruned.shrunk(
            ship.network,
            evaluate.fit_temperature(
                ship.logits.astype(np.float64), split.dataset.labels[split.val]
            ),
            fitted.recipe,
            split,
            split.train,
            plan,
            latency=lambda _: float("nan"),
            seed=seed,
            place=trial.place("cpu", options.cores),
            pixels=for_training(lesion.SIDE),
            folder=Path(folder),
            progress=silent,
        )


def measure(
    results: Results, part: str, name: str, seed: int, options: argparse.Namespace, place: Path
) -> None:
    """Train one network, and prune it by each ranking."""
    from sevenfold.practices import pruning

    arms, more = PARTS[part][name], 1 if options.smoke else MORE[part]
    arms = arms[:2] if options.smoke else arms
    keys = {arm: "/".join((name, *arm, str(seed), size(options, more))) for arm in arms}
    if not results.missing(*keys.values(), everywhere=True):
        return
    fitted, split = lesion.trained(name, seed, options, place)
    network, labels = fitted.ships[0].network, split.dataset.labels[split.test]
    shown = lesion.batches(split, split.test)
    was, have = lesion.answers(network, shown) == labels, pruning.cost(network, lesion.SIDE)
    for arm, key in keys.items():
        if not results.missing(key, everywhere=True):
            continue
        began = time.perf_counter()
        outcome = pruned_by(
            *arm,
            fitted,
            split,
            options,
            seed=seed,
            share=GOES[name],
            more=more,
            dense=arm == arms[0] and (part == "claim" or seed == SEEDS[0]),
        )
        (step,) = outcome.shrunk.kept
        left = pruning.cost(step.network.network, lesion.SIDE)
        now = lesion.answers(step.network.network, shown) == labels
        control = None
        if outcome.dense is not None:
            control = lesion.answers(outcome.dense.network, shown) == labels
        results.append(
            key, seed=seed, n=len(labels), network=name, ranking=arm[0], rule=arm[1],
            size=size(options, more), more=more, macs_cut=1 - left.macs / have.macs,
            parameters_cut=1 - left.parameters / have.parameters, dense=float(was.mean()),
            pruned=float(now.mean()), control=None if control is None else float(control.mean()),
            lost=np.flatnonzero(was & ~now).tolist(), won=np.flatnonzero(now & ~was).tolist(),
            control_lost=[] if control is None else np.flatnonzero(control & ~now).tolist(),
            control_won=[] if control is None else np.flatnonzero(now & ~control).tolist(),
            seconds=time.perf_counter() - began,
        )  # fmt: skip


def size(options: argparse.Namespace, more: int) -> str:
    """Name how much was trained and judged."""
    return f"{options.pictures}x{options.epochs}+{more}/{options.judged}"


def bound(mine: list[Row], against: str = "") -> float:
    """Return the drop that all seeds together do not pass, at 95 %."""
    from sevenfold import paired

    count = mine[0]["n"]
    first, second = np.zeros((2, len(mine), count), bool)
    for at, row in enumerate(mine):
        # What both answer alike, right or wrong, counts for nothing but their number.
        first[at, row[f"{against}lost"]], second[at, row[f"{against}won"]] = True, True
    first, second = first.ravel(), second.ravel()
    groups = [str(at) for at in range(count)] * len(mine)
    design = paired.design(first, second, groups)
    return paired.largest_drop(paired.count(first, second), design=design)


def rows(found: list[Row]) -> list[Row]:
    """Return the table's rows, the smallest drop of each network first."""
    lines = []
    for name, more in sorted({(one["network"], one["more"]) for one in found}):
        here = [one for one in found if (one["network"], one["more"]) == (name, more)]
        arms: dict[tuple[str, str], list[Row]] = {}
        for one in here:
            arms.setdefault((one["ranking"], one["rule"]), []).append(one)
        ranked = sorted(arms.items(), key=lambda item: np.mean([drop(one) for one in item[1]]))
        lines += [line(ranking, rule, mine) for (ranking, rule), mine in ranked]
        control = {one["seed"]: one["control"] - one["dense"] for one in here if one["control"]}
        if longer := list(control.values()):
            lines.append(
                {
                    "network": name, "epochs after": more,
                    "ranking": "unpruned, trained on as long", "": "",
                    "seeds": len(longer), "MACs gone": "0 %", "parameters gone": "0 %",
                    "unpruned": "", "drop, points": f"{-100 * np.mean(longer):.2f} "
                    f"({-100 * max(longer):.2f} to {-100 * min(longer):.2f})",
                    "at most, points": "", "to the unpruned, trained on as long": "",
                }
            )  # fmt: skip
    return lines


def drop(row: Row) -> float:
    """Return by how much a pruned network is worse."""
    return row["dense"] - row["pruned"]


def line(ranking: str, rule: str, mine: list[Row]) -> Row:
    """Return the row of one ranking."""
    drops = [100 * drop(one) for one in mine]
    return {
        "network": mine[0]["network"],
        "epochs after": mine[0]["more"],
        "ranking": ranking,
        "": "" if ranking == "random" else rule,
        "seeds": len(mine),
        "MACs gone": f"{np.mean([one['macs_cut'] for one in mine]):.1%}",
        "parameters gone": f"{np.mean([one['parameters_cut'] for one in mine]):.1%}",
        "unpruned": f"{np.mean([one['dense'] for one in mine]):.3f}",
        "drop, points": f"{np.mean(drops):.2f} ({min(drops):.2f} to {max(drops):.2f})",
        "at most, points": f"{100 * bound(mine):.2f}",
        "to the unpruned, trained on as long": further(mine),
    }


def further(mine: list[Row]) -> str:
    """Write the drop against the unpruned network after as many epochs more, where it was had."""
    if any(one["control"] is None or "control_lost" not in one for one in mine):
        return ""
    drops = [100 * (one["control"] - one["pruned"]) for one in mine]
    most = 100 * bound(mine, "control_")
    return f"{np.mean(drops):.2f} ({min(drops):.2f} to {max(drops):.2f}), at most {most:.2f}"


def main() -> None:
    """Measure what is missing, then sum up."""
    asked = results_file.parser(__doc__)
    asked.add_argument("--parts", nargs="*", default=list(PARTS), choices=PARTS)
    asked.add_argument("--pictures", type=int, default=PICTURES, help="to train and validate on")
    asked.add_argument("--epochs", type=int, default=EPOCHS)
    asked.add_argument("--judged", type=int, default=JUDGED, help="test pictures")
    asked.add_argument("--place", type=Path, help="keeps the trained networks")
    options = asked.parse_args()
    if options.smoke:
        options.pictures, options.epochs, options.judged = 1200, 1, 100
    results = results_file.opened("rankings", options)
    with tempfile.TemporaryDirectory(prefix="sevenfold-rankings-") as folder:
        place = (options.place or Path(folder)).resolve()
        place.mkdir(parents=True, exist_ok=True)
        os.environ["SEVENFOLD_CACHE"] = str(place / "stores")
        for seed in SEEDS[:1] if options.smoke else SEEDS:
            for part in options.parts:
                for name in PARTS[part]:
                    measure(results, part, name, seed, options, place)
    found = results.rows(everywhere=True)  # a seed may have been measured on another machine
    found = [one for one in found if one["size"] == size(options, one["more"])]
    titles = [
        f"Networks trained on {options.pictures:,} pictures of CIFAR-10 for {options.epochs} "
        "epochs, cut once and trained on; drop in accuracy on "
        f"{options.judged:,} test pictures against the unpruned network, mean over seeds with "
        "the least and the largest, and the 95 % bound of all seeds together.",
    ]
    results.summarise(titles, rows(found), found)


if __name__ == "__main__":
    main()
