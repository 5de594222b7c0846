"""Measure what five members' vote buys over one model, and what it costs.

`clothing` (its own folders), `elpv` (75/25, drawn anew for each repetition) and ResNet-20
from scratch on 5,000 pictures of CIFAR-10 (judged on 2,000), 3 repetitions of five members
each; no two repetitions share a seed. Each repetition is two processes with empty stores:
one trains one member, the other five and then, with what is there, a student of their vote;
which of them goes first turns. The average of the five (not from scratch, where it is of no
use) takes no training. Seconds run from the start of the process to the trained networks,
reading included; those of the student also hold what going on costs: the probe and the
members' checkpoints. Latencies are measured in a process of their own, interleaved, until the
single network is as fast as itself, three times at most; repetitions where it never was are
marked.

Whatever is compared on test is calibrated on validation first: members one by one, votes
after pooling. Differences are paired by picture: intervals within a repetition resample the
test pictures, those over repetitions are Student's. What one network keeps of the gain in
likelihood is the sum of its gains over repetitions by that of the votes, since a repetition's
gain can be near nothing; `surplus` is its gain less 70 % of the vote's, whose sign says the
same without a division. The networks see the pixels that the exported graph makes.

About 15 minutes a repetition on clothing, 10 on elpv and 25 from scratch, on two cores:
two and a half hours. `--only clothing` takes 45 minutes, `--only elpv` 30: run one at a time
to shrink it, since pictures, epochs and repetitions are what the figures stand on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

import main_job
import results_file
from results_file import Results, Row, measured, t_interval

BEGAN = time.perf_counter()
REPETITIONS = 3
MEMBERS = 5
KEEPS = 0.7
RESAMPLES = 2000
Array = np.ndarray[Any, Any]


# In the process that trains


def fitted(source: str, settings: Sequence[str], members: int, seed: int, threads: int) -> Any:
    """Read, split and fit; return how to fit again, what was fitted, and the split."""
    from sevenfold import data, job, recipe, train
    from sevenfold.features.pixels import opened
    from sevenfold.progress import silent

    place = job._place(job.Request(threads=threads, device="cpu"))
    asked = recipe.apply(recipe.default("quick"), ["objective=accuracy", *settings])
    asked = replace(asked, ensembling=replace(asked.ensembling, members=members))
    pixels, dataset = opened(source, asked.side, threads=threads, progress=silent)
    split = data.split(dataset)
    folder = Path(os.environ["SEVENFOLD_CACHE"]) / "trials"
    folder.mkdir(parents=True, exist_ok=True)

    def fit(distil: bool) -> Any:
        wanted = replace(asked, ensembling=replace(asked.ensembling, distil=distil))
        return train.fit(
            wanted, split, seed=seed, place=place, pixels=pixels, folder=folder, progress=silent
        )

    return fit, fit(False), split


def softmax(logits: Array) -> Array:
    """Turn logits into probabilities."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


class Judge:
    """Hold what members say on the pictures of choices and on test, and compare.

    Args:
        chosen: logits of each on the pictures that choices are made by.
        labels: their classes.
        test: logits of each on test.
        truth: the classes there.
    """

    def __init__(self, chosen: Array, labels: Array, test: Array, truth: Array) -> None:
        self.chosen, self.labels = np.asarray(chosen, np.float64), labels
        self.test, self.truth = np.asarray(test, np.float64), truth

    def calibrated(self, answer: Callable[[Array], Array]) -> tuple[Array, Array]:
        """Return whether an answer is right, and its loss, for each picture of test.

        Args:
            answer: from the members' logits to one row of logits a picture.
        """
        from sevenfold import evaluate

        temperature = evaluate.fit_temperature(answer(self.chosen), self.labels)
        p = softmax(answer(self.test) / temperature)
        losses = -np.log(np.maximum(p[np.arange(len(p)), self.truth], 1e-16))
        return (p.argmax(axis=1) == self.truth).astype(float), losses

    def each(self) -> tuple[Array, Array]:
        """Return the same of each member alone, `[members, pictures]`."""
        alone = [self.calibrated(lambda logits, at=at: logits[at]) for at in range(len(self.test))]
        return np.stack([right for right, _ in alone]), np.stack([loss for _, loss in alone])


def resampled(statistic: Callable[[Array], Array], pictures: int) -> tuple[float, float]:
    """Return the 95 % percentile interval of a statistic over resampled pictures.

    Args:
        statistic: from indices `[resamples, pictures]` to one value a resample.
        pictures: how many there are.
    """
    drawn = np.random.default_rng(0).integers(0, pictures, (RESAMPLES, pictures))
    values = statistic(drawn)
    low, high = np.quantile(values[np.isfinite(values)], [0.025, 0.975])
    return float(low), float(high)


def estimate(statistic: Callable[[Array], Array], pictures: int) -> Row:
    """Return a statistic of all pictures with its interval."""
    low, high = resampled(statistic, pictures)
    return {"value": float(statistic(np.arange(pictures)[None])[0]), "low": low, "high": high}


def gains(alone: tuple[Array, Array], voted: tuple[Array, Array]) -> Row:
    """Compare a vote with the mean of its members, paired by picture."""
    right, loss = voted[0] - alone[0].mean(axis=0), alone[1].mean(axis=0)
    pictures = len(loss)
    return {
        "accuracy": float(voted[0].mean()),
        "nll": float(voted[1].mean()),
        "accuracy_gain": estimate(lambda drawn: right[drawn].mean(axis=1), pictures),
        "nll_change": estimate(
            lambda drawn: voted[1][drawn].sum(axis=1) / loss[drawn].sum(axis=1) - 1, pictures
        ),
    }


def judged(judge: Judge) -> Row:
    """Measure all votes, selection against the best single member, and diversity."""
    from sevenfold import evaluate
    from sevenfold.practices import ensembling

    alone = judge.each()
    members = len(judge.test)
    equal = np.full(members, 1 / members)
    selecting = ensembling.Ensembling(members=members, select=True)
    weights = ensembling.weigh(selecting, judge.chosen, judge.labels)
    weighing = ensembling.Ensembling(members=members, vote="weighted")
    likely = ensembling.weigh(weighing, judge.chosen, judge.labels)
    ways = {
        "soft": ("soft", equal),
        "selected": ("soft", weights),
        "hard": ("hard", equal),
        "logit": ("logit", equal),
        "weighted": ("weighted", likely),
    }

    def pooled(vote: str, shares: Array) -> Callable[[Array], Array]:
        return lambda logits: ensembling.pool(logits, shares, vote)

    singles = [evaluate.calibrated_nll(logits, judge.labels) for logits in judge.chosen]
    selected = pooled("soft", weights)(judge.chosen)
    best = int(np.argmin(singles))
    temperatures = [evaluate.fit_temperature(one, judge.labels) for one in judge.chosen]
    cooled = judge.test / np.array(temperatures)[:, None, None]
    return {
        "member_accuracy": alone[0].mean(axis=1).tolist(),
        "member_nll": alone[1].mean(axis=1).tolist(),
        "votes": {name: gains(alone, judge.calibrated(pooled(*way))) for name, way in ways.items()},
        "weights": weights.tolist(),
        "likely_weights": likely.tolist(),
        "selection": {
            "validation_best_nll": singles[best],
            "validation_selected_nll": evaluate.calibrated_nll(selected, judge.labels),
            "test_best_nll": float(alone[1][best].mean()),
            "test_best_accuracy": float(alone[0][best].mean()),
        },
        "diversity": asdict(ensembling.diversity(cooled, judge.truth, equal)),
    }


def stands(judge: Judge, network: Judge, weights: Array) -> Row:
    """Compare one network that stands for the vote with the single members and the vote."""
    from sevenfold.practices import ensembling

    alone = judge.each()
    voted = judge.calibrated(lambda logits: ensembling.pool(logits, weights, "soft"))
    answers = network.calibrated(lambda logits: logits[0])
    single = alone[1].mean(axis=0)
    own, whole = single - answers[1], single - voted[1]
    beyond = own - KEEPS * whole
    return {
        **gains(alone, answers),
        "nll_gain": float(own.mean()),
        "nll_gain_of_vote": float(whole.mean()),
        "surplus": estimate(lambda drawn: beyond[drawn].mean(axis=1), len(single)),
    }


def timed(models: dict[str, bytes]) -> Row:
    """Give the size and the median latency of each graph beside the single network's, the first."""
    from sevenfold import latency

    found = latency.steadied([*models.values()], latency.timed)
    kept = dict(zip(models, found.times, strict=True))
    return {
        "control": list(asdict(found.itself).values()),
        **{
            name: {
                "megabytes": len(models[name]) / 1e6,
                "latency_ms": float(np.median(values)),
                "times_single": list(asdict(latency.ratio(values, kept["single"])).values()),
            }
            for name, values in kept.items()
        },
    }


def one(asked: Row) -> Row:
    """Train as asked, in this process, and return what was measured."""
    fit, found, split = fitted(
        asked["source"], asked["settings"], asked["members"], asked["seed"], asked["threads"]
    )
    seconds = time.perf_counter() - BEGAN
    if asked["members"] == 1:
        return {"seconds": seconds, "n": len(split.test)}
    from sevenfold import export
    from sevenfold.practices.ensembling import averaged
    from sevenfold.practices.ensembling.graph import voting

    began = time.perf_counter()
    found = fit(True)
    student_seconds = time.perf_counter() - began
    side, classes, labels = found.recipe.side, len(split.dataset.classes), split.dataset.labels
    rows = split.val if len(split.val) else split.train

    def answers(network: Any, pictures: Any) -> Array:
        shipped = export.Shipped(network, False).eval()
        wanted, threads = pictures.tolist(), asked["threads"]
        return export.network_logits(shipped, split.dataset, wanted, side=side, threads=threads)

    def judge(networks: Sequence[Any]) -> Judge:
        chosen, test = (
            np.stack([answers(network, part) for network in networks])
            for part in (rows, split.test)
        )
        return Judge(chosen, labels[rows], test, labels[split.test])

    def core(network: Any) -> Any:
        # Contiguous again, so that the exporter sees what training made.
        network = network.to(memory_format=_contiguous())
        return export.core(export.Shipped(network, False).eval(), side)

    networks = [member.network for member in found.members]
    standing = {"student": found.student.network}
    if found.recipe.transfer.weights != "random":
        standing["average"] = averaged(networks, found.weights)
    voters = judge(networks)
    cores = [core(network) for network in networks]
    models = {
        "single": export.assemble(cores[0], side, classes, 1.0),
        "members": export.assemble(voting(cores, np.ones(len(cores)), "soft"), side, classes, 1.0),
        **{
            name: export.assemble(core(network), side, classes, 1.0)
            for name, network in standing.items()
        },
    }
    return {
        "seconds": seconds,
        "n": len(split.test),
        "student_seconds": student_seconds,
        "student_ships": found.ships == (found.student,),
        "student_is_average": found.averaged,
        **judged(voters),
        "standing": {
            name: stands(voters, judge([network]), found.weights)
            for name, network in standing.items()
        },
        "files": timed(models),
    }


def _contiguous() -> Any:
    import torch

    return torch.contiguous_format


# In the process that asks


def subset(source: Path, target: Path, seed: int, sizes: tuple[int, int]) -> None:
    """Write a stratified draw of CIFAR-10's training pictures, and the first of test, as parquet.

    Args:
        source: folder of `train.parquet` and `test.parquet`.
        target: the file.
        seed: of the draw.
        sizes: pictures to train and choose by, and to judge on.
    """
    import pyarrow as arrow
    from pyarrow import parquet

    parts = []
    for role, size in zip(("train", "test"), sizes, strict=True):
        table = parquet.read_table(source / f"{role}.parquet", columns=["image", "label"])
        labels = np.array(table["label"].to_pylist())
        random = np.random.default_rng(seed if role == "train" else 0)
        each = size // len(np.unique(labels))
        rows = np.concatenate(
            [
                random.choice(np.flatnonzero(labels == label), each, replace=False)
                for label in np.unique(labels)
            ]
        )
        some = table.take(np.sort(rows)).replace_schema_metadata(table.schema.metadata)
        parts.append(some.append_column("split", arrow.array([role] * some.num_rows)))
    parquet.write_table(arrow.concat_tables(parts), target, row_group_size=512)


def prepared(name: str, options: argparse.Namespace, place: Path, repetition: int) -> str:
    """Return what to train on in a repetition, written to `place` where it is drawn."""
    if name == "cifar10":
        path = place / f"cifar{repetition}.parquet"
        sizes = (200, 100) if options.smoke else (5000, 2000)
        subset(options.data / "cifar10", path, repetition, sizes)
        return str(path)
    if name == "elpv":
        path = place / f"elpv{repetition}.csv"
        main_job.draw(path, repetition)
        if options.smoke:
            lines = path.read_text("utf-8").splitlines()
            path.write_text("\n".join([lines[0], *lines[1::20]]) + "\n", "utf-8")
        return str(path)
    folder = options.data / "clothing"
    return str(results_file.part_of(folder, place / "some", 8) if options.smoke else folder)


def measure(results: Results, options: argparse.Namespace, name: str, repetition: int) -> None:
    """Measure one repetition: one member, then five and their student, from empty stores."""
    key = f"{name}/{repetition}"
    if not results.missing(key):
        return
    settings = [*main_job.SETTINGS[name]]
    if options.smoke:
        settings = [one for one in settings if not one.startswith("epochs")]
        settings += ["epochs=1", "views=1", "optimization.rate=0.003", "imbalance.method=none"]
        settings += ["side=64"] if name != "cifar10" else []
    seed = 100 * repetition
    with tempfile.TemporaryDirectory(prefix="sevenfold-") as place:
        source = prepared(name, options, Path(place), repetition)
        said = {}
        several = 2 if options.smoke else MEMBERS
        for members in (1, several) if repetition % 2 == 0 else (several, 1):
            asked = {"source": source, "settings": settings, "members": members}
            asked |= {"seed": seed, "threads": options.cores}
            command = [sys.executable, __file__, "--data", str(options.data)]
            command += ["--cores", str(options.cores), "--one", json.dumps(asked)]
            stores = {"SEVENFOLD_CACHE": str(Path(place) / f"stores{members}")}
            said[members] = measured(command, stores).said
    facts = said[several]
    facts["single_seconds"] = said[1]["seconds"]
    facts["cost"] = facts["seconds"] / said[1]["seconds"]
    results.append(key, seed=seed, n=facts.pop("n"), **facts)


def over(rows: Sequence[Row], pick: Callable[[Row], float], form: str) -> tuple[str, str]:
    """Write the mean over repetitions and Student's interval."""
    mean, low, high = t_interval([pick(row) for row in rows])
    interval = "" if len(rows) < 2 else f"{low:{form}} to {high:{form}}"
    return f"{mean:{form}}", interval


def told(found: Row) -> str:
    """Write a difference with its interval over pictures."""
    return f"{found['value']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"


def line(name: str, way: str, rows: Sequence[Row], pick: Callable[[Row], Row]) -> Row:
    """Write one row of the table: a way of answering against the mean of the members."""
    gain, gain_span = over(rows, lambda row: pick(row)["accuracy_gain"]["value"], "+.3f")
    change, change_span = over(rows, lambda row: pick(row)["nll_change"]["value"], "+.1%")
    worst = min(rows, key=lambda row: pick(row)["accuracy_gain"]["value"])
    return {
        "data": name,
        "answer": way,
        "repetitions": len(rows),
        "test accuracy": f"{np.mean([pick(row)['accuracy'] for row in rows]):.3f}",
        "gain over the members' mean": gain,
        "95 % interval": gain_span,
        "worst repetition (over pictures)": told(pick(worst)["accuracy_gain"]),
        "NLL": f"{np.mean([pick(row)['nll'] for row in rows]):.3f}",
        "change of NLL": change,
        "its 95 % interval": change_span,
    }


def unsteady(rows: Sequence[Row]) -> str:
    """Say in how many repetitions the single network was not even as fast as itself."""
    busy = sum(not low <= 1 <= high for _, low, high in (row["files"]["control"] for row in rows))
    told = f" (not to be relied on: the single differed from itself in {busy} of {len(rows)})"
    return told if busy else ""


def stood(rows: Sequence[Row], name: str) -> str:
    """Say what one network in the vote's place keeps and costs."""
    own = [row["standing"][name] for row in rows]
    kept = sum(one["nll_gain"] for one in own) / sum(one["nll_gain_of_vote"] for one in own)
    surplus, span = over(own, lambda one: one["surplus"]["value"], "+.4f")
    size, pace = (
        float(np.mean([pick(row["files"][name]) for row in rows]))
        for pick in (lambda file: file["megabytes"], lambda file: file["times_single"][0])
    )
    learnt = sum(not row["student_is_average"] for row in rows)
    better = f" (lessons were better than the average in {learnt} of {len(rows)})"
    lessons = better if name == "student" else ""
    return (
        f"the {name}{lessons} keeps {kept:.0%} of the vote's gain in NLL, {surplus} more than "
        f"{KEEPS:.0%} of it ({span}), with {size:.1f} MB and {pace:.2f} times the single's latency"
        + unsteady(rows)
    )


def sentence(name: str, rows: Sequence[Row]) -> str:
    """Say what selection, student, files and diversity came to."""

    def mean(pick: Callable[[Row], float]) -> float:
        return float(np.mean([pick(row) for row in rows]))

    stand = "; ".join(stood(rows, name) for name in rows[0]["standing"])
    cost, cost_span = over(rows, lambda row: row["cost"], ".2f")
    members = rows[0]["diversity"]["members"]
    return (
        f"`{name}`, {len(rows)} repetitions of {members} members, means: "
        f"single {mean(lambda r: np.mean(r['member_accuracy'])):.3f}, "
        f"NLL {mean(lambda r: np.mean(r['member_nll'])):.3f}; disagreement "
        f"{mean(lambda r: r['diversity']['disagreement']):.3f}, error correlation "
        f"{mean(lambda r: r['diversity']['error_correlation']):.2f}, oracle "
        f"{mean(lambda r: r['diversity']['oracle_accuracy']):.3f}; selection, on validation "
        "never worse than the best member by construction, has on test NLL "
        f"{mean(lambda r: r['votes']['selected']['nll']):.3f} against the best member's "
        f"{mean(lambda r: r['selection']['test_best_nll']):.3f}; {stand}; the file "
        f"of all {mean(lambda r: r['files']['members']['megabytes']):.1f} MB "
        f"against {mean(lambda r: r['files']['single']['megabytes']):.1f}, "
        f"{mean(lambda r: r['files']['members']['times_single'][0]):.2f} times the "
        f"latency{unsteady(rows)}; "
        f"{members} members cost {cost} ({cost_span}) times one from empty stores."
    )


def summarise(results: Results) -> None:
    """Write the tables of README."""
    tables, titles = [], []
    for name in main_job.SETTINGS:
        rows = [row for row in results.rows() if row["key"].partition("/")[0] == name]
        if not rows:
            continue
        for way in rows[0]["votes"]:
            tables.append(line(name, way, rows, lambda row, way=way: row["votes"][way]))
        for one in rows[0]["standing"]:
            tables.append(line(name, one, rows, lambda row, one=one: row["standing"][one]))
        titles.append(sentence(name, rows))
    results.summarise(titles, tables)


def main() -> None:
    """Measure what is missing, then sum up; with `--one`, train in this process."""
    asked = results_file.parser(__doc__)
    asked.add_argument(
        "--only", choices=tuple(main_job.SETTINGS), nargs="+", default=list(main_job.SETTINGS)
    )
    asked.add_argument("--repetitions", type=int, default=REPETITIONS)
    asked.add_argument("--one", default="", help=argparse.SUPPRESS)
    options = asked.parse_args()
    if options.one:
        results_file.keep_to(options.cores)
        print(json.dumps(one(json.loads(options.one))))
        return
    results = results_file.opened("ensembling", options)
    for name in options.only:
        for repetition in range(1 if options.smoke else options.repetitions):
            measure(results, options, name, repetition)
    summarise(results)


if __name__ == "__main__":
    main()
