"""Update runs: is it as good as training anew, does it refuse harm, does a kill do none?

Four parts, each resumable by key; `--parts` names some of them.

`tenth`: nine tenths of `clothing` are trained on, then one tenth is added, by `update` and by
a training on all of it. Both answer the same 713 photos that neither has seen, paired; their
seconds are of whole commands with the stores as the first training left them. Beside that
stands the share of the first training's time, from empty stores. Three draws.

`labels`: four runs of 60 % of `clothing`, each of other photos, and 40 draws of a tenth as much
from the rest, with two classes swapped in all of it, which a dry run must refuse. The pair is
another one in every draw. The rule was mended twice after some of the first three draws, of
runs of the same photos, had been seen to pass.

`honest`: the same runs and 20 of these draws as they are, through the whole update.

`weeks`: 26 weekly updates. Simulated, 200 times: candidates of each week get a little more
answers wrong than right, and the gate with the last signed-off version, and without it, says
what runs; the accuracy of what runs at the end is held against the first's. Then for real:
a run of a third of `clothing`, and 26 parts of the rest one after another.

`kills`: a small run is updated and killed (SIGKILL) at random moments, until 30 were: does the
run serve a whole model, and does the same command finish with the same weights?

On two cores about 30 minutes, 30, 30, 40 and 20. `--shrunk` trains and
updates at 96 pixels with two views and four epochs in all but the last, about a third of that.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import results_file
from results_file import Results, Row

PARTS = ("tenth", "labels", "honest", "weeks", "kills")
DRAWS, LABELS, HONEST, WEEKS, SIMULATED, KILLS = 3, 40, 20, 26, 200, 30
BASES = 4  # runs that `labels` and `honest` update in turn
SHRUNK = ("side=96", "views=2", "epochs=4")
SHORTLY = ", at 96 pixels with two views and four epochs"
SMALL = ("side=64", "views=2", "epochs=5", "transfer.trainable_blocks=1", "optimization.rate=0.001")
Photo = tuple[Path, str]


def listed(folder: Path, *roles: str) -> list[Photo]:
    """List the photos of some roles."""
    paths = (path for role in roles for path in sorted((folder / role).glob("*/*.jpg")))
    return [(path.resolve(), path.parent.name) for path in paths]


def table(path: Path, photos: Sequence[Photo], role: str = "") -> Path:
    """Write photos as a table."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split"))
        writer.writerows((photo, label, role) for photo, label in photos)
    return path


def sevenfold(stores: Path, *words: object, codes: Sequence[int] = (0,)) -> Row:
    """Run a command and return what it says as JSON, with its seconds and exit code."""
    command = [sys.executable, "-m", "sevenfold.cli", *map(str, words), "--json"]
    began = time.perf_counter()
    done = subprocess.run(
        command, env={**os.environ, "SEVENFOLD_CACHE": str(stores)}, capture_output=True,
        encoding="utf-8", check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    if done.returncode not in codes:
        raise SystemExit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stderr}")
    said = json.loads(done.stdout) if done.stdout.strip() else {}
    return {"said": said, "seconds": seconds, "code": done.returncode}


def right(run: Path, held: Sequence[Photo], stores: Path) -> np.ndarray:
    """Tell which photos a run answers right."""
    said = sevenfold(stores, "predict", run, *(path for path, _ in held))["said"]
    answers = {one["path"]: one["label"] for one in said["predictions"]}
    return np.array([answers[str(path)] == label for path, label in held])


def trained(place: Path, photos: Sequence[Photo], stores: Path, options: Any, seed: int) -> Row:
    """Train on photos; the run is `place/run`."""
    place.mkdir()
    words = ["train", table(place / "photos.csv", photos), "--out", place / "run"]
    words += ["--seed", seed, "--threads", options.cores, "--device", "cpu"]
    words += [word for setting in options.settings for word in ("--set", setting)]
    return sevenfold(stores, *words)


def updated(
    run: Path, new: Path, stores: Path, options: Any, *words: str, codes: Sequence[int] = (0, 6)
) -> Row:
    """Update a run."""
    more = ("--threads", options.cores, "--device", "cpu", *words)
    return sevenfold(stores, "update", run, new, *more, codes=codes)


def named(options: Any, part: str, number: int) -> str:
    """Name a row; shrunk ones have keys of their own."""
    return f"{part}{'/shrunk' * options.shrunk}/{number}"


def missing(results: Results, options: Any, part: str, count: int) -> Iterator[tuple[int, str]]:
    """Yield the draws of a part that are still to be measured, with the keys of their rows."""
    keys = ((draw, named(options, part, draw)) for draw in range(count))
    yield from ((draw, key) for draw, key in keys if results.missing(key))


def tenth(results: Results, options: Any, place: Path) -> None:
    """Add a tenth, by an update and by a training on all of it."""
    held = listed(options.clothing, "validation", "test")
    for draw, key in missing(results, options, "tenth", options.draws):
        photos = listed(options.clothing, "train")
        random.Random(draw).shuffle(photos)
        cut, folder = len(photos) * 9 // 10, place / f"tenth-{draw}"
        base = kept(folder, photos[:cut], folder / "stores", options, draw)
        with tempfile.TemporaryDirectory(dir=place) as work:
            found = added(folder, photos, cut, held, Path(work), options, draw)
        results.append(key, seed=draw, n=len(held), base_seconds=base["seconds"], **found)


def added(
    folder: Path,
    photos: list[Photo],
    cut: int,
    held: list[Photo],
    work: Path,
    options: Any,
    draw: int,
) -> Row:
    """Add the photos after a cut to a copy of a run, and train on all of them."""
    # Both find the stores as the first training left them.
    stores, others = (
        shutil.copytree(folder / "stores", work / name) for name in ("updated", "anew")
    )
    run = shutil.copytree(folder / "run", work / "run")
    before = right(run, held, stores)
    anew = trained(work / "all", photos, others, options, draw)
    theirs = right(work / "all" / "run", held, others)
    found = updated(run, table(work / "new.csv", photos[cut:]), stores, options)
    ours = right(run, held, stores)
    gap = ours.astype(float) - theirs
    half = 1.96 * float(gap.std()) / len(gap) ** 0.5
    return {
        "base_accuracy": float(before.mean()),
        "anew_accuracy": float(theirs.mean()),
        "updated_accuracy": float(ours.mean()),
        "difference": float(gap.mean()),
        "low": float(gap.mean()) - half,
        "high": float(gap.mean()) + half,
        "accepted": found["said"]["accepted"],
        "reason": found["said"]["reason"],
        "anew_seconds": anew["seconds"],
        "updated_seconds": found["seconds"],
        "stages": found["said"].get("stages", {}),
    }


def kept(folder: Path, photos: Sequence[Photo], stores: Path, options: Any, seed: int) -> Row:
    """Train on photos, unless an earlier run of this program did; return what it took."""
    took = folder / "seconds.json"
    if not took.exists():
        shutil.rmtree(folder, ignore_errors=True)
        found = trained(folder, photos, stores, options, seed)
        took.write_text(json.dumps({"seconds": found["seconds"]}), "utf-8")
    return json.loads(took.read_text("utf-8"))


def drawn(options: Any, place: Path, draw: int) -> tuple[Path, list[Photo], random.Random]:
    """Return one of the runs that take turns, trained where it is not, and new photos for it."""
    photos, base = listed(options.clothing, "train"), place / f"base-{draw % BASES}"
    random.Random(draw % BASES).shuffle(photos)
    cut = len(photos) * 6 // 10
    if not (base / "run" / "report.json").exists():
        shutil.rmtree(base, ignore_errors=True)
        trained(base, photos[:cut], place / "stores-labels", options, draw % BASES)
    chance = random.Random(1000 + draw)
    return base / "run", chance.sample(photos[cut:], cut // 10), chance


def labels(results: Results, options: Any, place: Path) -> None:
    """Give swapped labels to a run."""
    for draw, key in missing(results, options, "labels", options.labels):
        run, some, chance = drawn(options, place, draw)
        names = sorted({label for _, label in some})
        common = [name for name in names if sum(label == name for _, label in some) > 1]
        pair = chance.sample(common, 2)
        swap = {pair[0]: pair[1], pair[1]: pair[0]}
        new = table(place / "swapped.csv", [(path, swap.get(name, name)) for path, name in some])
        lied = updated(run, new, place / "stores-labels", options, "--dry-run")
        results.append(
            key, seed=draw, n=len(some), pair=pair, refused=lied["code"] == 6,
            named=lied["said"]["agreement"]["permutation"] == swap,
            pictures=sum(name in swap for _, name in some),
        )  # fmt: skip


def honest(results: Results, options: Any, place: Path) -> None:
    """Give honest labels to a run, through the whole update."""
    for draw, key in missing(results, options, "honest", options.honest):
        base, some, _ = drawn(options, place, draw)
        run = shutil.copytree(base, place / "again")
        new = table(place / "honest.csv", some)
        found = updated(run, new, place / "stores-labels", options)
        said = found["said"]
        results.append(
            key, seed=draw, n=len(some), accepted=said["accepted"], reason=said["reason"],
            ways=said["ways"], before=said["before"], after=said["after"],
            negative_flips=said["negative_flips"], seconds=found["seconds"],
        )  # fmt: skip
        shutil.rmtree(run)


def simulated(seed: int, pictures: int, signed: bool) -> tuple[float, float, int]:
    """Let 26 candidates, each a little worse, pass the gate.

    Returns:
        What was lost against the first version: of accuracy on the test pictures, and of the
        chance to be right that its candidates truly had; and how many were accepted.
    """
    from sevenfold.update import gate

    draw = np.random.default_rng(seed)
    truth = np.arange(pictures) % 5
    groups = list(map(str, range(pictures)))
    first = draw.random(pictures) < 0.9
    running, lost, accepted = first, 0.0, 0
    for _ in range(WEEKS):
        wrong, mended = draw.uniform(0.005, 0.02), draw.uniform(0.0, 0.1)
        chance = draw.random(pictures)
        candidate = np.where(running, chance >= wrong, chance < mended)
        references = [running, first] if signed else [running]
        found = [
            gate.compared("it", one, candidate, truth, groups, list("abcde"), "accuracy")
            for one in references
        ]
        if not any(one.reasons for one in found):
            lost += running.mean() * wrong - (1 - running.mean()) * mended
            running, accepted = candidate, accepted + 1
    return float(first.mean() - running.mean()), float(lost), accepted


def weeks(results: Results, options: Any, place: Path) -> None:
    """Update 26 times, simulated and for real."""
    for signed in (True, False):
        key = f"weeks/simulated/{'signed off' if signed else 'running only'}"
        if results.missing(key):
            found = [simulated(seed, 713, signed) for seed in range(options.simulated)]
            lost = [one[0] for one in found]
            results.append(
                key, seed=0, n=options.simulated, worst_lost=max(lost),
                mean_lost=float(np.mean(lost)), over_a_point=sum(one > 0.01 for one in lost),
                mean_truly_lost=float(np.mean([one[1] for one in found])),
                mean_accepted=float(np.mean([one[2] for one in found])),
            )  # fmt: skip
    keys = [named(options, "weeks/real", week) for week in range(options.weeks)]
    if not results.missing(*keys):
        return
    photos = listed(options.clothing, "train")
    held = listed(options.clothing, "validation", "test")
    random.Random(2).shuffle(photos)
    cut, stores = len(photos) // 3, place / "stores-weeks"
    trained(place / "weeks", photos[:cut], stores, options, 0)
    run = place / "weeks" / "run"
    first = right(run, held, stores)
    parts = np.array_split(np.arange(cut, len(photos)), WEEKS)
    for week, key in enumerate(keys):  # all weeks anew: each goes on from the last
        new = table(place / f"week-{week}.csv", [photos[at] for at in parts[week]])
        found = updated(run, new, stores, options, "--seed", str(week))
        now = right(run, held, stores)
        results.append(
            key, seed=week, n=len(held), accepted=found["said"]["accepted"],
            reason=found["said"]["reason"], first_accuracy=float(first.mean()),
            accuracy=float(now.mean()), lost=float(first.mean() - now.mean()),
            seconds=found["seconds"],
        )  # fmt: skip


def kills(results: Results, options: Any, place: Path) -> None:
    """Kill updates at random moments and start them again."""
    if killed(results) >= options.kills:
        return
    photos = [one for one in listed(options.clothing, "train") if one[1] in ("pants", "shoes")]
    random.Random(3).shuffle(photos)
    stores, small = place / "stores-kills", {**vars(options), "settings": SMALL}
    options = type(options)(**small)
    trained(place / "kills", photos[:400], stores, options, 0)
    run, new = place / "kills" / "run", table(place / "kills.csv", photos[400:480])
    whole = shutil.copytree(run, place / "whole")
    lasts = updated(whole, new, stores, options, codes=(0,))["seconds"]
    first, last = fingerprint(run), fingerprint(whole)
    for number in itertools.count():
        key = f"kills/{number}"
        if killed(results) >= options.kills:
            break
        if not results.missing(key):
            continue
        moment = random.Random(number).uniform(0.05, 1.0) * lasts
        again = shutil.copytree(run, place / "killed")
        command = [sys.executable, "-m", "sevenfold.cli", "update", str(again), str(new)]
        command += ["--threads", str(options.cores), "--device", "cpu"]
        process = subprocess.Popen(
            command, env={**os.environ, "SEVENFOLD_CACHE": str(stores)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            process.wait(moment)
            stopped = False
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            stopped = True
        served = serves(again, photos[0][0], stores)
        rerun = updated(again, new, stores, options, codes=(0, 3)) if stopped else {"code": 0}
        results.append(
            key, seed=number, n=480, killed=stopped, killed_after_seconds=moment,
            of_seconds=lasts, served=served, rerun_code=rerun["code"],
            finished=fingerprint(again) == last != first and serves(again, photos[0][0], stores),
        )  # fmt: skip
        shutil.rmtree(again)


def killed(results: Results) -> int:
    """Count the updates that were killed; others had ended before their moment."""
    return sum(row["killed"] for row in results.rows() if row["key"].startswith("kills/"))


def serves(run: Path, photo: Path, stores: Path) -> bool:
    """Tell whether a run answers; every hash of its bundle is checked first."""
    return bool(sevenfold(stores, "predict", run, photo, codes=(0, 4))["code"] == 0)


def fingerprint(run: Path) -> str:
    """Hash the weights that ship."""
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def summary(results: Results) -> None:
    """Write the table."""
    parts: dict[str, list[Row]] = {}
    known = results.rows(everywhere=True)
    for row in known:
        parts.setdefault(row["key"].rpartition("/")[0], []).append(row)
    tables: list[Row] = []
    for how, told in (("", ""), ("/shrunk", SHORTLY)):
        for row in parts.get(f"tenth{how}", []):
            draw = row["key"].rpartition("/")[2]
            tables.append(
                line(f"a tenth more, draw {draw}{told}", [row], tenth_told(row), row["n"])
            )
        if found := parts.get(f"labels{how}"):
            refused, named = (sum(row[what] for row in found) for what in ("refused", "named"))
            tables.append(
                line(f"two classes swapped{told}", found, f"{refused} refused, {named} by name")
            )
        if found := parts.get(f"honest{how}"):
            accepted = sum(row["accepted"] for row in found)
            change = np.mean([row["after"]["nll"] / row["before"]["nll"] - 1 for row in found])
            tables.append(
                line(
                    f"honest labels{told}",
                    found,
                    f"{accepted} accepted; log loss {100 * change:+.1f} % on old test pictures",
                )
            )
        if found := parts.get(f"weeks/real{how}"):
            accepted = sum(row["accepted"] for row in found)
            worst = max(row["lost"] for row in found)
            ends = f"{found[0]['first_accuracy']:.3f} at first, {found[-1]['accuracy']:.3f} last"
            tables.append(
                line(
                    f"weekly updates{told}", found,
                    f"{accepted} accepted; {ends}, {100 * worst:.1f} points lost at worst",
                )
            )  # fmt: skip
    for row in parts.get("weeks/simulated", []):
        tables.append(
            line(
                f"26 simulated weeks, gate against {row['key'].rpartition('/')[2]}",
                [row],
                f"{row['over_a_point']} lost over a point; {100 * row['mean_lost']:.1f} points on "
                f"average, {100 * row['worst_lost']:.1f} at worst; on fresh pictures "
                f"{100 * row['mean_truly_lost']:.1f} on average",
                row["n"],
            )
        )
    if found := [row for row in parts.get("kills", []) if row["killed"]]:
        served = sum(row["served"] for row in found)
        finished = sum(row["finished"] for row in found)
        tables.append(
            line("kills", found, f"{served} served a whole model, {finished} reruns finished")
        )
    results.summarise(["Finished runs updated with more photos of `clothing`."], tables, known)


def line(what: str, rows: Sequence[Row], measured: str, count: int = 0) -> Row:
    """Return a row of the table; `count` where it is not that of the rows."""
    on = results_file.measured_on(rows)
    return {"what": what, "n": count or len(rows), "measured": measured, "on": on}


def tenth_told(row: Row) -> str:
    """Tell of one draw how the update stands to a training anew."""
    gap = [f"{100 * row[name]:+.1f}" for name in ("difference", "low", "high")]
    shares = [row["updated_seconds"] / row[name] for name in ("anew_seconds", "base_seconds")]
    return (
        f"{row['base_accuracy']:.3f} before, {row['anew_accuracy']:.3f} trained anew, "
        f"{row['updated_accuracy']:.3f} updated ({gap[0]} points, {gap[1]} to {gap[2]}), "
        f"{'accepted' if row['accepted'] else 'refused'}; {shares[0]:.0%} of its time, "
        f"{shares[1]:.0%} of the first training's from empty stores"
    )


def main() -> None:
    """Measure what is missing, then sum up."""
    asked = results_file.parser(__doc__)
    asked.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    for name, count in (
        ("draws", DRAWS),
        ("labels", LABELS),
        ("honest", HONEST),
        ("weeks", WEEKS),
        ("kills", KILLS),
    ):
        asked.add_argument(f"--{name}", type=int, default=count, help="stop after so many")
    asked.add_argument("--shrunk", action="store_true", help="a third of the time, see above")
    asked.add_argument("--place", type=Path, help="keeps runs that later ones start from")
    asked.add_argument("--simulated", type=int, default=SIMULATED, help="repetitions of 26 weeks")
    options = asked.parse_args()
    options.settings, options.clothing = ("objective=accuracy",), options.data / "clothing"
    if options.shrunk:
        options.settings = (*options.settings, *SHRUNK)
    results = results_file.opened("update", options)
    with tempfile.TemporaryDirectory() as folder:
        place = options.place or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        if options.smoke:
            options.settings = SMALL
            options.clothing = results_file.part_of(options.clothing, place / "some", 60)
            options.draws = options.labels = options.honest = options.weeks = options.kills = 1
            options.simulated = 5
        for name, part in (
            ("tenth", tenth),
            ("labels", labels),
            ("honest", honest),
            ("weeks", weeks),
            ("kills", kills),
        ):
            if name in options.parts:
                part(results, options, place)
    summary(results)


if __name__ == "__main__":
    main()
