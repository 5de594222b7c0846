"""Label what `suggest` chooses, or as many pictures by chance: five rounds, two data sets.

A linear head on frozen-trunk features starts from a few labelled pictures. In each round it
scores all unlabelled pictures, an arm chooses, and their labels are revealed; then it is
trained anew. Arms: margin and entropy, each with k-centre diversity (what `suggest` does),
margin alone (without diversity), and random picks, the control. All arms of a repetition
start from the same pictures, and all are judged on the set's test pictures. Told is the
difference to the control, paired by repetition, with Student's interval.

`clothing` and 9,000 pictures of CIFAR-10, judged on its test set; 10 repetitions of 5
rounds. On one thread 5 minutes of activations (none where benchmarks/curve.py left them in
the stores) and about 4 minutes of heads.

    python benchmarks/suggest.py --data PATH
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

import numpy as np

import curve
import results_file
from results_file import Results, Row

ROUNDS = 5
SETS = {"clothing": (96, 100, 60), "cifar10": (96, 100, 100)}  # side, first pictures, a round's
ARMS = ("random", "margin", "entropy", "margin alone")
CONTROL = ARMS[0]
STRENGTH = 0.1
Array = np.ndarray[Any, Any]


def picked(arm: str, p: Array, features: Array, count: int, random: Any) -> Array:
    """Let an arm choose among the unlabelled pictures."""
    from sevenfold.studies.suggest.choosing import chosen, uncertainty

    if arm == CONTROL:
        return random.permutation(len(p))[:count]
    if arm == "margin alone":
        return np.argsort(-uncertainty(p, "margin"), kind="stable")[:count]
    return chosen(uncertainty(p, arm), features, count)  # type: ignore[arg-type]


def rounds(
    arm: str, rows: Array, labels: Array, pool: Array, test: Array, plan: tuple[int, int], seed: int
) -> list[float]:
    """Return the accuracy on test after the start and after each round."""
    from sevenfold.studies.curve import heads

    first, each = plan
    random = np.random.default_rng(seed)
    mine = first_pictures(labels, pool, first, np.random.default_rng(seed))
    axes = heads.axes(rows[pool])  # without labels: every arm may look at all pictures
    placed = axes.of(rows)
    found = []
    for number in range(ROUNDS + 1):
        head = heads.trained(placed[mine], labels[mine], STRENGTH)
        found.append(float(heads.right(head, placed[test], labels[test]).mean()))
        if number == ROUNDS:
            break
        left = np.setdiff1d(pool, mine)
        some = picked(arm, head.predict_proba(placed[left]), rows[left], each, random)
        mine = np.concatenate([mine, left[some]])
    return found


def first_pictures(labels: Array, pool: Array, count: int, random: Any) -> Array:
    """Draw the pictures that every arm starts from; two of each class at least."""
    order = random.permutation(pool)
    each = [order[labels[order] == label][:2] for label in np.unique(labels[pool])]
    start = np.concatenate(each)
    return np.concatenate(
        [start, np.setdiff1d(order, start, assume_unique=True)[: count - len(start)]]
    )


def one(results: Results, name: str, data: tuple[Any, Array], repetition: int) -> None:
    """Run all arms of one repetition."""
    key = f"{name} repetition={repetition}"
    if not results.missing(key):
        return
    split, rows = data
    _, *plan = SETS[name]
    pool = np.sort(np.concatenate([split.train, split.val]))
    labels = split.dataset.labels
    scores = {
        arm: rounds(arm, rows, labels, pool, split.test, (plan[0], plan[1]), repetition)
        for arm in ARMS
    }
    results.append(key, seed=repetition, n=len(split.test), set=name, pool=len(pool), scores=scores)


def summary(results: Results) -> None:
    """Write the table."""
    tables: list[Row] = []
    for name, (_, first, each) in SETS.items():
        some = [row for row in results.rows() if row["set"] == name]
        for arm in ARMS if some else ():
            ends = [row["scores"][arm][-1] for row in some]
            told: Row = {
                "data": name,
                "labelled": f"{first} to {first + ROUNDS * each}",
                "of": some[0]["pool"],
                "arm": arm,
                "repetitions": len(some),
                "first": f"{np.mean([row['scores'][arm][0] for row in some]):.3f}",
                "last": f"{np.mean(ends):.3f}",
            }
            if arm != CONTROL:
                for title, pick in (
                    ("last round", slice(-1, None)),
                    ("mean of rounds", slice(1, None)),
                ):
                    gaps = [
                        100
                        * float(
                            np.mean(row["scores"][arm][pick])
                            - np.mean(row["scores"][CONTROL][pick])
                        )
                        for row in some
                    ]
                    mean, low, high = results_file.t_interval(gaps)
                    told[f"{title}, to random"] = (
                        f"{mean:+.2f}" + f" ({low:+.2f} to {high:+.2f})" * (low == low)
                    )
            tables.append(told)
    results.summarise(
        [
            "Labelling what `suggest` chooses against random picks: accuracy of a linear head on "
            "test pictures after five rounds, differences in points, paired by repetition."
        ],
        tables,
    )


def main() -> None:
    """Measure what is missing, then sum up."""
    options = results_file.parser(__doc__)
    options.add_argument("--repetitions", type=int, default=10)
    options.add_argument("--only", nargs="+", default=list(SETS))
    asked = options.parse_args()
    results = results_file.opened("suggest", asked)
    if asked.smoke:
        asked.repetitions = 1
    for name, (side, *_) in SETS.items():
        numbers = range(asked.repetitions)
        wanted = any(results.missing(f"{name} repetition={number}") for number in numbers)
        if name not in asked.only or not wanted:
            continue
        os.environ.setdefault("SEVENFOLD_CACHE", tempfile.mkdtemp(prefix="sevenfold-suggest-"))
        found = curve.described(
            name, asked.data, 64 if asked.smoke else side, asked.smoke, asked.cores
        )
        for number in numbers:
            one(results, name, found, number)
    summary(results)


if __name__ == "__main__":
    main()
