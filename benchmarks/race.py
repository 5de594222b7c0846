"""Race the five optimizers and the switch on three data sets: does the tips' claim hold?

The tips say that adaptive optimizers converge faster, that SGD ends better if it is tuned,
and that starting with Adam and going on with SGD has the best of both. `sevenfold race` on
`clothing` (training and validation folders as one, default backbone), `elpv` (the same) and
10,000 pictures of CIFAR-10's training set from scratch (ResNet-20, 24 epochs): 3 trials of
each optimizer, final figures with 3 fresh seeds, judged on validation pictures that nothing
was chosen by. The test pictures of all three stay closed.

Told are the objective with Student's interval, the difference to the race's reference paired
by seed, the steps and the seconds to come within a point of what the reference ends with (on
the tuning pictures, mean of the seeds), the switch's decisions, who can be told apart from the
reference, and how small a difference could have been. The first rows have SGD as the reference,
compare all pairs by their seeds alone, and are of a search that tried the middle of the rates
and two other points.

36 trainings a set. On two cores about 35 minutes on clothing, 25 on elpv, and 7 minutes a
training from scratch, over four hours: between five and six in all. What was stopped goes
on after the training that ended last, if --place is given and the same.

`--shrunk` answers the same questions in about 45 minutes: 30 % of the pictures that are
trained on, 160 pixels and 6 epochs on clothing and elpv (20 s a training), 2,000 pictures and
8 epochs in batches of 32 on CIFAR-10 (28 s a training). What is judged on, the optimizers,
the three trials and the three seeds stay. Its rows have keys of their own. Short trainings
favour what converges fast: of who ends best they say less.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import main_job
import results_file
from results_file import Results, Row, measured

TRIALS, SEEDS, PICTURES = 3, 3, 10_000
NEAR = 0.01
SHRUNK_PICTURES = 2_000
_FEW = ("growth.share=0.3", "side=160", "epochs=6")
SHRUNK = {"clothing": _FEW, "elpv": _FEW, "cifar10": ("epochs=8", "batch=32")}


def source(name: str, data: Path, place: Path, count: int, smoke: bool) -> str:
    """Return what `race` is to read; the sets' own test pictures are left out."""
    if name == "elpv":
        return "elpv"
    if name == "cifar10":
        return str(_subset(data / "cifar10" / "train.parquet", place, count))
    photos = place / "clothing"
    for label in sorted(path.name for path in (data / "clothing" / "train").iterdir()):
        (photos / label).mkdir(parents=True, exist_ok=True)
        for role in ("train", "validation"):
            found = sorted((data / "clothing" / role / label).glob("*.jpg"))
            for path in found[:12] if smoke else found:
                shutil.copy(path, photos / label / path.name)
    return str(photos)


def _subset(table: Path, place: Path, count: int) -> Path:
    """Write as many pictures of each class, drawn by one seed."""
    import pyarrow.parquet

    whole = pyarrow.parquet.read_table(table)
    labels = np.array(whole["label"].to_pylist())
    random = np.random.default_rng(0)
    classes = np.unique(labels)
    drawn = [
        random.permutation(np.flatnonzero(labels == label))[: count // len(classes)]
        for label in classes
    ]
    pyarrow.parquet.write_table(whole.take(np.sort(np.concatenate(drawn))), place / "some.parquet")
    return place / "some.parquet"


def command(photos: str, out: Path, settings: Sequence[str], asked: argparse.Namespace) -> list:
    """Return the race's command line."""
    words = [sys.executable, "-m", "sevenfold.cli", "race", photos, "--out", str(out), "--json"]
    words += ["--trials", str(asked.trials), "--seeds", str(asked.seeds)]
    words += ["--threads", str(asked.cores), "--device", "cpu"]
    if asked.smoke:
        words += ["--only", "sgd,switch"]
        settings = (*settings, "epochs=1", "side=64" if "side=32" not in settings else "side=32")
    for setting in settings:
        words += ["--set", setting]
    return words


def one(results: Results, asked: argparse.Namespace, name: str) -> None:
    """Race on one data set, if that is missing."""
    key = key_of(name, asked)
    if not results.missing(key):
        return
    place = asked.place / name
    place.mkdir(parents=True, exist_ok=True)
    count = SHRUNK_PICTURES if asked.shrunk else PICTURES
    photos = source(name, asked.data, place, 400 if asked.smoke else count, asked.smoke)
    settings = (*main_job.SETTINGS[name], *(SHRUNK[name] if asked.shrunk else ()))
    stores = {"SEVENFOLD_CACHE": str(place / "stores")}
    found = measured(command(photos, place / "race", settings, asked), stores)
    said = found.said
    facts = {
        name: said[name]
        for name in ("objective", "pictures", "reference", "order", "pairs", "optimizers")
    } | {"smallest": said["smallest_difference"]}
    pictures = said["pictures"]["judged_on"]
    results.append(key, seed=said["seed"], n=pictures, set=name, seconds=said["seconds"], **facts)


def key_of(name: str, asked: argparse.Namespace) -> str:
    """Name one race by what it depends on."""
    return f"{name} trials={asked.trials} seeds={asked.seeds}{' shrunk' * asked.shrunk}"


def reached(curve: Row, level: float, axis: str) -> str:
    """Tell the steps or the seconds after which a curve first reaches a level."""
    pairs = zip(curve[axis], curve["score"], strict=True)
    return next((f"{at:.0f}" for at, score in pairs if score >= level), "never")


def smallest(row: Row) -> float:
    """Return the smallest difference to the reference that a race could have told apart.

    Rows without it compared all pairs by the paired t test of two degrees of freedom: it is
    told by the narrowest of their intervals with the reference.
    """
    if "smallest" in row:
        return float(row["smallest"])
    from sevenfold.paired import SIGNIFICANT, t_quantile

    freedom = len(row["optimizers"][row["reference"]]["finals"]) - 1
    level = SIGNIFICANT / len(row["pairs"])
    widths = [
        (pair["high"] - pair["low"]) / 2
        for pair in row["pairs"]
        if row["reference"] in (pair["ahead"], pair["behind"])
    ]
    stretched = t_quantile(1 - level / 2, freedom) / t_quantile(1 - SIGNIFICANT / 2, freedom)
    return min(widths) * stretched


def decisions(one: Row) -> str:
    """Tell when the switch took over in each seed."""
    told = [
        f"{final['decision']['step'] or 'not'} of {final['steps']}"
        for final in one["finals"]
        if final["decision"]
    ]
    return ", ".join(told)


def rows_of(row: Row) -> list[Row]:
    """Sum up one race, the best first."""
    metric, field = row["objective"], row["optimizers"]
    end = field[row["reference"]]["curve"]["score"][-1] - NEAR
    told = [pair for pair in row["pairs"] if pair["told_apart"]]
    return [
        {
            "data": row["set"],
            "optimizer": name,
            "judged by": metric.replace("_", " "),
            "score": _shown(field[name][metric]),
            f"to {row['reference']}": _shown(field[name]["difference"].get(metric), "+"),
            "log loss": f"{field[name]['nll']['mean']:.3f}",
            "rate, decay": ", ".join(f"{value:.2g}" for value in field[name]["settings"].values()),
            "steps to near": reached(field[name]["curve"], end, "steps"),
            "seconds to near": reached(field[name]["curve"], end, "seconds"),
            "switched after": decisions(field[name]),
            "ahead of": ", ".join(pair["behind"] for pair in told if pair["ahead"] == name),
            "seconds": f"{field[name]['seconds']:.0f}",
        }
        for name in row["order"]
    ]


def _shown(interval: dict[str, Any] | None, sign: str = "") -> str:
    if not interval:
        return ""
    mean, low, high = (f"{interval[key]:{sign}.3f}" for key in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def summary(results: Results, asked: argparse.Namespace) -> None:
    """Write the table of what was asked for."""
    known = {row["key"]: row for row in results.rows()}
    races = [known[key] for name in asked.sets if (key := key_of(name, asked)) in known]
    told = ", ".join(f"{100 * smallest(one):.1f} points on {one['set']}" for one in races)
    ends = " and ".join(sorted({one["reference"] for one in races}))
    title = (
        f"Optimizers at an equal budget: {asked.trials} trials of rate and decay each, the best "
        f"again with {asked.seeds} fresh seeds; mean and Student's interval over them, on "
        "validation pictures that nothing was chosen by; differences paired by seed. Steps and "
        f"seconds to near: until the tuning score is within a point of what {ends} ends with. "
        f"Ahead of: told apart after Holm's rule. {asked.seeds} seeds can tell apart from {ends} "
        f"only differences of {told} or more."
    )
    if asked.shrunk:
        title += (
            " Shrunk: 30 % of the training pictures, 160 pixels and 6 epochs on clothing and "
            "elpv, 2,000 pictures and 8 epochs from scratch."
        )
    results.summarise([title], [row for one in races for row in rows_of(one)])


def main() -> None:
    """Race what is missing, then sum up."""
    options = results_file.parser(__doc__)
    options.add_argument(
        "--sets", nargs="+", choices=main_job.SETTINGS, default=list(main_job.SETTINGS)
    )
    options.add_argument("--trials", type=int, default=TRIALS)
    options.add_argument("--seeds", type=int, default=SEEDS)
    options.add_argument("--shrunk", action="store_true", help="45 minutes, see above")
    options.add_argument("--place", type=Path, help="of races and stores; goes on with it")
    asked = options.parse_args()
    if asked.smoke:
        asked.trials, asked.seeds = 1, 2
    results = results_file.opened("race", asked)
    with tempfile.TemporaryDirectory() as folder:
        asked.place = asked.place or Path(folder)
        for name in asked.sets:
            one(results, asked, name)
    summary(results, asked)


if __name__ == "__main__":
    main()
