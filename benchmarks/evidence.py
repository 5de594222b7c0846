"""Measure all seven practices by the command line, and what the measuring can be trusted for.

table    `sevenfold evidence` at the quick budget from empty stores on `clothing` and `elpv`:
         all practices, both directions, 6 repetitions; with --fastai-python also one
         `fine_tune(4)` of fastai on `clothing` in the same run. About an hour a set, on two
         cores, and 13 minutes for fastai. `--side 160` is shorter by half; its rows have keys
         of their own. `--practices pruning` measures that one alone, as one of all that are in
         use; its row then takes the place of the older one in the table, which says so.
aa       Pairs of arms that differ by their seed alone, on `clothing`, judged as a practice
         is: how often is *helps* or *hurts* claimed? 20 pairs of the reference (all practices
         but the vote and pruning), each of 12 trainings: about five minutes a pair on two cores.
         `--arm base` takes the head alone, ten minutes in all; its rows have keys of their own,
         as have those of `--side`. Neighbours share an arm, so that 20 pairs are 21 arms of six
         trainings, and what one pair says is no independent of the next. Views are those of the
         study in both arms of a pair, as in any contrast.
repeats  Six studies of three practices on `clothing`, each from pixels on with folds, views
         and seeds of training of its own: how often do verdicts agree, and how much wider are
         intervals where every repetition has folds and views of its own? The second is read
         off the same trainings: repetition r of one study beside r + 1 of the next, and so on.
kills    A small study, killed (SIGKILL) at a random moment, resumed by the same command
         until it ends: is `evidence.json` the same but for measured times? 20 times.
engines  The same small study with one process, with two, and on a Ray cluster of this
         machine: the same again, where Ray is installed.

What was stopped goes on with the row after the last one that ended; with --place also with
the training after the last one.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import results_file
from results_file import Results, Row, measured

if TYPE_CHECKING:
    from sevenfold.place import Place
    from sevenfold.progress import Progress
    from sevenfold.recipe import Recipe
    from sevenfold.studies.evidence.course import Asked
    from sevenfold.studies.evidence.effects import Finding
    from sevenfold.studies.evidence.trials import Ground

HERE = Path(__file__).resolve().parent
PARTS = ("table", "aa", "repeats", "kills", "engines")
SETS = {
    "clothing": (),
    # Solar cells have no up and no left.
    "elpv": ("augmentation.flip_vertical=0.5", "augmentation.quarter_turns=true"),
}
SAID = {"clothing": "", "elpv": " with upside-down views and quarter turns"}
PAIRS, KILLS, STUDIES = 20, 20, 6
REPEATED = ("optimization", "imbalance", "augmentation")
SMALL = ("side=64", "epochs=1", "views=1", "batch=16", "optimization.rate=0.002")
TIMED = ("seconds", "estimated_seconds", "wall_seconds", "latency_ms", "megabytes", "evidence")


def command(data: str, out: Path, *words: str, settings: tuple[str, ...] = ()) -> list[str]:
    """Return the command line of a study."""
    found = [sys.executable, "-m", "sevenfold.cli", "evidence", data, "--out", str(out), "--json"]
    for setting in settings:
        found += ["--set", setting]
    return [*found, *words]


def few(data: Path, place: Path, per_class: int) -> str:
    """Copy some photos of three classes."""
    for label in ("pants", "shirt", "shoes"):
        (place / label).mkdir(parents=True, exist_ok=True)
        for path in sorted((data / "clothing" / "train" / label).glob("*.jpg"))[:per_class]:
            shutil.copy(path, place / label / path.name)
    return str(place)


def table(results: Results, asked: argparse.Namespace) -> None:
    """Run the whole study of each set."""
    for name in asked.sets:
        key = "/".join(filter(None, (where(name, asked), asked.practices)))
        if not results.missing(key):
            continue
        place = asked.place / key.replace("/", "-")
        data = "elpv" if name == "elpv" else str(asked.data / "clothing")
        settings: tuple[str, ...] = SETS[name]
        if asked.side:
            settings = (f"side={asked.side}", *settings)
        words = ("--practices", asked.practices) if asked.practices else ()
        if asked.smoke:
            data, settings = few(asked.data, place / "photos", 30), (*SMALL, *SETS[name])
        stores = {"SEVENFOLD_CACHE": str(place / "stores")}
        fresh = not (place / "study").exists() and not (place / "stores").exists()
        found = measured(command(data, place / "study", *words, settings=settings), stores)
        said = {name: value for name, value in found.said.items() if name != "evidence"}
        results.append(
            key, seed=0, n=said["pictures"], set=name, wall_seconds=found.seconds,
            fresh=fresh, peak_megabytes=found.peak_megabytes, facts=said,
        )  # fmt: skip
    side = asked.side or quick(asked).side
    if asked.fastai_python and results.missing(f"table/fastai/{side}"):
        words = [asked.fastai_python, str(HERE / "rivals_fastai.py"), str(asked.data / "clothing")]
        found = measured([*words, "--side", str(side), *["--epochs", "1"] * asked.smoke])
        results.append(
            f"table/fastai/{side}", seed=0, n=3068, side=side, wall_seconds=found.seconds
        )


def where(name: str, asked: argparse.Namespace) -> str:
    """Name the table of a set with all practices."""
    return f"table/{name}" + (f"/{asked.side}" if asked.side else "")


def pairs_of(asked: argparse.Namespace) -> str:
    """Name the pairs of an arm that differ by their seed alone."""
    return f"aa/{asked.arm}" + (f"/{asked.side}" if asked.side else "")


def clothing(asked: argparse.Namespace) -> str:
    """Return the folder of `clothing`, or of a few of its photos for a trial."""
    if asked.smoke:
        return few(asked.data, asked.place / "photos", 30)
    return str(asked.data / "clothing")


def quick(asked: argparse.Namespace) -> Recipe:
    """Return the recipe that `sevenfold evidence` measures at the quick budget."""
    from sevenfold.recipe import Recipe, apply
    from sevenfold.studies.evidence import EVIDENCE_BLOCKS

    cut = replace(Recipe().transfer, trainable_blocks=EVIDENCE_BLOCKS)
    side = (f"side={asked.side}",) if asked.side else ()
    return apply(Recipe(transfer=cut), SMALL if asked.smoke else side)


def read(
    asked: argparse.Namespace, wanted: Asked, place: Place, progress: Progress
) -> tuple[dict[str, Any], Ground]:
    """Read the pictures of a study that runs in this process, and say which they are."""
    from sevenfold.studies import pictures
    from sevenfold.studies.evidence.trials import Ground

    told = pictures.ground_of(pictures.Reading(clothing(asked)), wanted.recipe.side, place)
    told |= {"repetitions": wanted.repetitions, "seed": wanted.seed}
    split, place = pictures.read(told, progress)
    return told, Ground(split, place, wanted.repetitions, wanted.seed)


def alike(results: Results, asked: argparse.Namespace) -> None:
    """Judge pairs of arms that differ by their seed alone."""
    keys = {at: f"{pairs_of(asked)}/{at}" for at in range(asked.pairs)}
    missing = [at for at, key in keys.items() if results.missing(key)]
    if not missing:
        return
    os.environ["SEVENFOLD_CACHE"] = str(asked.place / "aa-stores")
    from sevenfold.engines import Local
    from sevenfold.progress import Lines
    from sevenfold.studies.evidence import arms, course, planning, study
    from sevenfold.studies.evidence.effects import weigh
    from sevenfold.studies.evidence.outcomes import Contrast
    from sevenfold.studies.folder import prepare
    from sevenfold.studies.where import workers_of
    from sevenfold.trial import place as placed

    workers, threads = workers_of(0)
    wanted = course.Asked(quick(asked), ("augmentation",))
    told = Lines(sys.stderr)
    reading, ground = read(asked, wanted, placed("cpu", threads), told)
    for at in missing:

        def twins(*given: Any, at: int = at, **more: Any) -> arms.Plan:
            every = {arm.name: arm for arm in arms.planned(*given, **more).arms}
            (training,) = every[asked.arm].trainings
            pair = tuple(
                arms.Arm(name, (replace(training, number=at + second),))
                for second, name in enumerate(("one", "other"))
            )
            compared = Contrast("growth", "leave_one_out", "one", "other", "another seed")
            return arms.Plan(pair, (compared,), {})

        out = asked.place / "aa"
        prepare(out, course.OURS, "a study of evidence", clothing(asked))
        planned = planning.laid(ground, reading, wanted, out, told, planner=twins)
        came = course.run(planned, Local(workers, threads), told, study.unwatched)
        (found,) = weigh(planned.study, came).findings
        effect = found.contrasts[0].effects[planned.study.objective]
        results.append(
            keys[at], seed=at, arm=asked.arm, side=wanted.recipe.side,
            n=sum(len(one.pictures) for one in came) // 2, verdict=found.verdict,
            effect=effect.value, low=effect.low, high=effect.high,
        )  # fmt: skip


def repeats(results: Results, asked: argparse.Namespace) -> None:
    """Repeat a study with other folds, views and seeds, and mix the repetitions of all."""
    keys = [f"{kind}/{at}" for kind in ("repeat", "mixed") for at in range(asked.studies)]
    if not results.missing(*keys):
        return
    os.environ["SEVENFOLD_CACHE"] = str(asked.place / "repeat-stores")
    from sevenfold.engines import Local
    from sevenfold.progress import Lines
    from sevenfold.studies.evidence import course, planning, study
    from sevenfold.studies.evidence.effects import Evidence, weigh
    from sevenfold.studies.folder import prepare
    from sevenfold.studies.where import workers_of
    from sevenfold.trial import place as placed

    workers, threads = workers_of(0)
    where, told = placed("cpu", threads), Lines(sys.stderr)
    recipe = quick(asked)
    if asked.smoke:
        recipe = replace(recipe, imbalance=replace(recipe.imbalance, method="class_weights"))

    def kept(kind: str, at: int, found: Evidence) -> None:
        objective = found.study.objective
        results.append(
            f"{kind}/{at}", seed=at, n=found.pictures,
            found={
                one.practice: {"verdict": one.verdict, **borne_by(one, objective)}
                for one in found.findings
                if one.contrasts
            },
        )  # fmt: skip

    studies, brought = [], []
    for at in range(asked.studies):
        wanted = course.Asked(recipe, REPEATED, seed=at)
        reading, ground = read(asked, wanted, where, told)
        out = asked.place / f"repeat-{at}"
        prepare(out, course.OURS, "a study of evidence", clothing(asked))
        planned = planning.laid(ground, reading, wanted, out, told)
        came = course.run(planned, Local(workers, threads), told, study.unwatched)
        studies.append(planned.study)
        brought.append(came)
        kept("repeat", at, weigh(planned.study, came))
    for at in range(asked.studies):
        mixed = [
            outcome
            for number, came in enumerate(brought)
            for outcome in came
            if (at + outcome.repetition) % asked.studies == number
        ]
        kept("mixed", at, weigh(studies[at], mixed))


def borne_by(finding: Finding, objective: str) -> Row:
    """Return the effect that bears a practice's verdict."""
    effect = finding.deciding("leave_one_out").effects[objective]
    return {"effect": effect.value, "low": effect.low, "high": effect.high}


def agreement(known: dict[str, Row]) -> list[str]:
    """Say how studies of other folds, views and seeds agree."""
    whole = [row["found"] for key, row in known.items() if key.startswith("repeat/")]
    mixed = [row["found"] for key, row in known.items() if key.startswith("mixed/")]
    told = []
    for name in whole[0] if len(whole) > 1 else ():
        said = [one[name]["verdict"] for one in whole]
        pairs = list(itertools.combinations(said, 2))
        same = sum(one == other for one, other in pairs) / len(pairs)
        half, wide = (
            statistics.mean((one[name]["high"] - one[name]["low"]) / 2 for one in some)
            for some in (whole, mixed)
        )
        counts = ", ".join(f"{word} {said.count(word)}" for word in dict.fromkeys(said))
        spread = statistics.stdev(one[name]["effect"] for one in whole)
        told.append(
            f"{name} in {len(whole)} studies of other folds, views and seeds: {counts}; two of "
            f"them agree in {same:.0%}; effects differ by {100 * spread:.2f} points (standard "
            f"deviation); intervals are ±{100 * half:.2f} points, and ±{100 * wide:.2f} where "
            f"each repetition has folds and views of its own ({wide / half:.2f} times as wide)."
        )
    return told


def untimed(value: Any) -> Any:
    """Leave out what a clock said."""
    if isinstance(value, dict):
        return {name: untimed(part) for name, part in value.items() if name not in TIMED}
    return [untimed(part) for part in value] if isinstance(value, list) else value


def fingerprint(out: Path) -> str:
    """Hash `evidence.json` but for its times."""
    told = untimed(json.loads((out / "evidence.json").read_text(encoding="utf-8")))
    told.pop("advice", None)  # it weighs costs, which are times
    told.pop("recommended", None)
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def small(data: str, out: Path, *words: str) -> list[str]:
    """Return the command line of a study of two practices that takes minutes."""
    return command(data, out, "--practices", "augmentation,ensembling", *words, settings=SMALL)


def kills(results: Results, asked: argparse.Namespace) -> None:
    """Kill a study at random moments and resume it."""
    missing = [at for at in range(asked.kills) if results.missing(f"kill/{at}")]
    if not missing:
        return
    data = few(asked.data, asked.place / "killed-photos", 30)
    environment = {**os.environ, "SEVENFOLD_CACHE": str(asked.place / "killed-stores")}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    whole = asked.place / "never-killed"
    shutil.rmtree(whole, ignore_errors=True)
    for _ in range(2):  # the second finds the stores full, as those that are killed do
        shutil.rmtree(whole, ignore_errors=True)
        began = time.perf_counter()
        subprocess.run(small(data, whole), check=True, **quiet)
        lasted, reference = time.perf_counter() - began, fingerprint(whole)
    for at in missing:
        out, chance, alive = asked.place / f"killed-{at}", random.Random(at), False
        while not alive:  # a study that ends before its moment is no killed one
            shutil.rmtree(out, ignore_errors=True)
            moment = chance.uniform(0.1, 1.0) * lasted
            process = subprocess.Popen(small(data, out), **quiet)
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                alive = True
        there = len(list((out / "trials").glob("*.json"))) if out.exists() else 0
        subprocess.run(small(data, out), check=True, **quiet)
        results.append(
            f"kill/{at}", seed=at, n=90, killed_after_seconds=moment, of_seconds=lasted,
            files_then=there, same=fingerprint(out) == reference,
        )  # fmt: skip
        shutil.rmtree(out)


def engines(results: Results, asked: argparse.Namespace) -> None:
    """Run one study with one process, with two, and on Ray, each trial on one thread."""
    kinds = {
        "one process": ("--threads", "1", "--workers", "1"),
        "two processes": ("--threads", "1", "--workers", "2"),
    }
    if importlib.util.find_spec("ray"):
        kinds["Ray"] = ("--threads", "1", "--engine", "ray", "--address", "local")
    data = few(asked.data, asked.place / "engine-photos", 30)
    for kind, words in kinds.items():
        if not results.missing(f"engine/{kind}"):
            continue
        out = asked.place / f"engine-{kind.replace(' ', '-')}"
        stores = {"SEVENFOLD_CACHE": str(asked.place / "engine-stores")}
        found = measured(small(data, out, *words), stores)
        results.append(
            f"engine/{kind}", seed=0, n=90, engine=kind,
            seconds=found.seconds, hash=fingerprint(out),
        )  # fmt: skip


def rows_of(row: Row) -> list[Row]:
    """Sum up one table."""
    from sevenfold.report.evidence import COSTS, cost

    told = row["facts"]
    objective = told["objective"]

    def shown(one: Row) -> str:
        found = one.get(objective, {})
        if found.get("effect") is None:
            return ""
        text = f"{100 * found['effect']:+.1f}"
        if found["low"] is None:
            return text
        return f"{text} ({100 * found['low']:+.1f} to {100 * found['high']:+.1f})"

    return [
        {
            "data": row["set"],
            "practice": name,
            "off means": one["off_means"],
            "verdict": one["verdict"],
            "beside the others, points": shown(one["leave_one_out"]),
            "alone, points": shown(one["add_one_in"]),
        }
        | {title: cost(one["leave_one_out"].get(metric, {})) for metric, title in COSTS.items()}
        for name, one in told["practices"].items()
        if one["verdict"] != "not in use"
    ]


def renewed(name: str, known: dict[str, Row]) -> dict[str, tuple[Row, Row]]:
    """Return the rows of practices that were measured anew by themselves, with their studies."""
    found: dict[str, tuple[Row, Row]] = {}
    for key, row in known.items():
        whole, _, alone = key.rpartition("/")
        if whole == name and not alone.isdigit():
            found |= {one["practice"]: (one, row) for one in rows_of(row)}
    return found


def summary(results: Results, asked: argparse.Namespace) -> None:
    """Write the tables of what is there."""
    known = {row["key"]: row for row in results.rows(everywhere=True)}
    titles, tables = [], []
    shown = []
    for name in SETS:
        if row := known.get(where(name, asked)):
            again = renewed(where(name, asked), known)
            shown += [row, *(newer for _, newer in again.values())]
            tables += [again.get(one["practice"], (one,))[0] for one in rows_of(row)]
            regime = row["facts"]["regime"]
            told = (
                f"{name}: gain in {row['facts']['objective'].replace('_', ' ')} and its interval "
                f"at the quick budget{SAID[name]} and {regime['side']} pixels, "
                f"{row['n']:,} pictures in "
                f"{row['facts']['repetitions']} repetitions"
            )
            if row.get("fresh", True):  # a study that went on is timed from there alone
                told += f"; {row['wall_seconds'] / 60:.0f} minutes from empty stores"
                rival = known.get(f"table/fastai/{regime['side']}")
                if rival and name == "clothing":
                    told += f", {row['wall_seconds'] / rival['wall_seconds']:.1f} of fastai's time"
            titles.append(f"{told}.")
            titles += [
                f"{practice} was measured anew, by itself, at revision {newer['commit'][:7]} on "
                f"{newer['device']} in {newer['wall_seconds'] / 60:.0f} minutes; the others at "
                f"{row['commit'][:7]} on {row['device']}."
                for practice, (_, newer) in again.items()
            ]
    found = {key.rpartition("/")[0] for key in known if key.startswith("aa/")}
    for name in sorted(found):
        pairs = [row for key, row in known.items() if key.rpartition("/")[0] == name]
        claims = sum(row["verdict"] in ("helps", "hurts") for row in pairs)
        titles.append(
            f"{claims} of {len(pairs)} pairs of the arm *{pairs[0]['arm']}* at "
            f"{pairs[0]['side']} pixels that differ by the seed of their training were claimed "
            "to differ."
        )
    titles += agreement(known)
    ended = [row for key, row in known.items() if key.startswith("kill/")]
    if ended:
        same = sum(row["same"] for row in ended)
        titles.append(f"{same} of {len(ended)} killed studies ended with the same evidence.")
    ran = [row for key, row in known.items() if key.startswith("engine/")]
    if len(ran) > 1:
        alike = "the same" if len({row["hash"] for row in ran}) == 1 else "not the same"
        titles.append(f"{' and '.join(row['engine'] for row in ran)}: {alike} evidence.")
    results.summarise(titles, tables, shown)


def main() -> None:
    """Measure what is missing, then sum up."""
    options = results_file.parser(__doc__)
    options.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    options.add_argument(
        "--side", type=int, default=0, help="of the table and of aa; 0: the budget's own"
    )
    options.add_argument("--practices", default="", help="of the table; empty: all seven")
    options.add_argument("--fastai-python", default="", help="an interpreter that has fastai")
    options.add_argument("--pairs", type=int, default=PAIRS)
    options.add_argument("--arm", choices=("reference", "base"), default="reference")
    options.add_argument("--kills", type=int, default=KILLS)
    options.add_argument("--studies", type=int, default=STUDIES)
    options.add_argument("--place", type=Path, help="of studies and stores; goes on with it")
    asked = options.parse_args()
    if asked.smoke:
        asked.pairs, asked.kills, asked.studies, asked.sets = 1, 1, 2, ["clothing"]
    results = results_file.opened("evidence", asked)
    parts = {"table": table, "aa": alike, "repeats": repeats, "kills": kills, "engines": engines}
    with tempfile.TemporaryDirectory() as folder:
        asked.place = asked.place or Path(folder)
        for name in asked.parts:
            parts[name](results, asked)
    summary(results, asked)


if __name__ == "__main__":
    main()
