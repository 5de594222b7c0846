"""Draw many comparisons whose true drop is known: how often does the bound hold?

`paired.largest_drop` bounds from above by how much a second model is less accurate. Models
that differ in 1, 3 and 6 % of the pictures, on 340, 1,000 and 3,000 pictures, with drops from
none to as large as the change allows; 10,000 draws each, and the exact probability beside
them. Then 20 and 50 groups of pictures whose answers change together (intra-group
correlation 0.5), bounded as independent pictures and as groups. About a minute.

`judging.balanced_drop` bounds the drop in balanced accuracy. Two classes of 300 and 40
pictures, and ten from 100 down to 10, whose answers change in 3 and 6 % of the pictures, with
no drop, one in all classes alike, and one in the rarest alone; 10,000 draws each. About a
minute.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np

import results_file
from results_file import Results, span
from sevenfold import paired
from sevenfold.judging.bounds import balanced_drop

DRAWS, GROUP_DRAWS = 10_000, 2_000
PICTURES = (340, 1000, 3000)
CHURNS = (0.01, 0.03, 0.06)
SHARES = (0.0, 0.25, 0.5, 1.0)  # of the churn that is a drop
GROUPS = (20, 50)
GROUP_SIZE, CORRELATION = 25, 0.5
CLASSES = ((300, 40), (100, 77, 60, 46, 36, 28, 22, 17, 13, 10))
WHERE = ("nowhere", "everywhere", "in the rarest")


@cache
def bound(pictures: int, better: int, worse: int) -> float:
    """Bound the drop."""
    right = pictures - better - worse
    return paired.largest_drop(paired.Paired(right, worse, better, 0))


@cache
def two_sided(pictures: int, better: int, worse: int) -> tuple[float, float]:
    """Bound the difference from both sides."""
    found = paired.interval(paired.Paired(pictures - better - worse, worse, better, 0))
    return found.low, found.high


def log_chances(trials: int, share: float) -> np.ndarray:
    """Return the logarithms of a binomial's chances."""
    k = np.arange(trials + 1)
    ways = np.array([math.lgamma(trials + 1) - math.lgamma(i + 1) - math.lgamma(trials - i + 1)
                     for i in k])  # fmt: skip
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = np.where(trials - k > 0, (trials - k) * np.log1p(-share), 0.0)
        return ways + np.where(k > 0, k * np.log(share), 0.0) + rest


def outcomes(pictures: int, churn: float, drop: float) -> Iterator[tuple[int, int, float]]:
    """List better and worse pictures with their chance, but for a chance of 1e-9 in all."""
    changed = np.exp(log_chances(pictures, churn))
    worse_share = (churn + drop) / 2 / churn
    for total in np.flatnonzero(changed > 1e-13).tolist():
        chances = np.exp(log_chances(total, worse_share)) * changed[total]
        for worse in np.flatnonzero(chances > 1e-14).tolist():
            yield total - worse, worse, float(chances[worse])


def pictures_alone(results: Results, draws: int, pictures: int, churn: float) -> None:
    """Measure one number of pictures and one churn."""
    for share in SHARES:
        key, drop = f"n={pictures} churn={churn} drop={share * churn:g}", share * churn
        if not results.missing(key):
            continue
        parts = ((churn - drop) / 2, (churn + drop) / 2, 1 - churn)
        drawn = np.random.default_rng(0).multinomial(pictures, parts, draws)[:, :2].tolist()
        holds = [bound(pictures, better, worse) >= drop for better, worse in drawn]
        both = [two_sided(pictures, better, worse) for better, worse in drawn]
        exact = sum(
            chance
            for better, worse, chance in outcomes(pictures, churn, drop)
            if bound(pictures, better, worse) >= drop
        )
        results.append(
            key, seed=0, n=draws, kind="pictures", pictures=pictures, churn=churn, drop=drop,
            coverage=float(np.mean(holds)), exact_coverage=exact,
            two_sided_coverage=float(np.mean([low <= -drop <= high for low, high in both])),
            mean_bound=float(np.mean([bound(pictures, *one) for one in drawn])),
        )  # fmt: skip


def drawn_groups(
    random: np.random.Generator, groups: int, churn: float, drop: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draw which pictures each model answers right; with `CORRELATION` as their group does."""
    parts = [1 - churn, (churn + drop) / 2, (churn - drop) / 2]  # same, worse, better
    of_group = random.choice(3, groups, p=parts).repeat(GROUP_SIZE)
    of_picture = random.choice(3, groups * GROUP_SIZE, p=parts)
    # Pictures that both take their group's value agree: correlation is the square of the share.
    shared = random.random(len(of_picture)) < math.sqrt(CORRELATION)
    change = np.where(shared, of_group, of_picture)
    return change != 2, change != 1


def pictures_in_groups(results: Results, draws: int, groups: int, churn: float) -> None:
    """Measure groups, with the bound for groups and the one for pictures."""
    key, drop = f"groups={groups} churn={churn}", churn / 2
    if not results.missing(key):
        return
    random = np.random.default_rng(0)
    names = [str(number // GROUP_SIZE) for number in range(groups * GROUP_SIZE)]
    whole, alone, inside = [], [], []
    for _ in range(draws):
        first, second = drawn_groups(random, groups, churn, drop)
        counts, design = paired.count(first, second), paired.design(first, second, names)
        both = paired.interval(counts, design=design)
        inside.append(both.low <= -drop <= both.high)
        whole.append(paired.largest_drop(counts, design=design) >= drop)
        alone.append(paired.largest_drop(counts) >= drop)
    results.append(
        key, seed=0, n=draws, kind="groups", pictures=len(names), groups=groups, churn=churn,
        drop=drop, coverage=float(np.mean(whole)), two_sided_coverage=float(np.mean(inside)),
        coverage_as_pictures=float(np.mean(alone)),
    )  # fmt: skip


def classes_apart(
    results: Results, draws: int, sizes: tuple[int, ...], churn: float, where: str
) -> None:
    """Measure the bound of balanced accuracy, with a drop of none, some or one of the classes."""
    key = f"classes={len(sizes)} churn={churn} {where}"
    if not results.missing(key):
        return
    labels = np.repeat(np.arange(len(sizes)), sizes)
    alone = [str(number) for number in range(len(labels))]
    falls = {
        "nowhere": np.zeros(len(sizes)),
        "everywhere": np.full(len(sizes), churn / 2),
        "in the rarest": np.array([0.0] * (len(sizes) - 1) + [churn]),
    }[where]
    drop, random = float(falls.mean()), np.random.default_rng(0)
    got_worse, changed = ((churn + falls) / 2)[labels], churn
    bounds = np.zeros(draws)
    for at in range(draws):
        chance = random.random(len(labels))
        worse = chance < got_worse
        better = (chance >= got_worse) & (chance < changed)
        bounds[at] = balanced_drop(~better, ~worse, labels, alone)
    results.append(
        key, seed=0, n=draws, kind="classes", pictures=len(labels), classes=len(sizes),
        churn=churn, drop=drop, where=where, coverage=float(np.mean(bounds >= drop)),
        mean_bound=float(np.mean(bounds)),
    )  # fmt: skip


def summary(results: Results) -> None:
    """Write the table: for each case the drop where the bound holds least often."""
    tables = []
    cases: dict[tuple[str, int, float], list[results_file.Row]] = {}
    for row in results.rows():
        cases.setdefault((row["kind"], row["pictures"], row["churn"]), []).append(row)
    for (kind, pictures, churn), rows in cases.items():
        least = min(row["coverage"] for row in rows)
        both = [row["two_sided_coverage"] for row in rows if "two_sided_coverage" in row]
        exact = [row["exact_coverage"] for row in rows if "exact_coverage" in row]
        tables.append(
            {
                "pictures": pictures,
                "groups": rows[0].get("groups", ""),
                "classes": rows[0].get("classes", ""),
                "churn %": f"{100 * churn:g}",
                "drops, points": span(
                    100 * min(row["drop"] for row in rows),
                    100 * max(row["drop"] for row in rows),
                    2,
                )
                if kind != "groups"
                else f"{100 * rows[0]['drop']:g}",
                "draws each": rows[0]["n"],
                "bound holds, least %": f"{100 * least:.1f}",
                "exact, least %": f"{100 * min(exact):.2f}" if exact else "",
                "both sides, least %": f"{100 * min(both):.1f}" if both else "",
                "as if independent %": ""
                if kind != "groups"
                else f"{100 * min(row['coverage_as_pictures'] for row in rows):.1f}",
            }
        )
    titles = [
        "How often the one-sided 95 % bound on a drop holds (Tango's score interval; in groups "
        "by their design effect; of classes that in balanced accuracy), at the drop where it "
        "holds least often."
    ]
    results.summarise(titles, tables)


def main() -> None:
    """Measure what is missing, then sum up."""
    options = results_file.parser(__doc__, data=False, cores=1).parse_args()
    results = results_file.opened("bound_coverage", options)
    draws, group_draws = (200, 50) if options.smoke else (DRAWS, GROUP_DRAWS)
    for pictures in PICTURES:
        for churn in CHURNS:
            pictures_alone(results, draws, pictures, churn)
            bound.cache_clear()
            two_sided.cache_clear()
    for groups in GROUPS:
        for churn in CHURNS:
            pictures_in_groups(results, group_draws, groups, churn)
    for sizes in CLASSES:
        for churn in CHURNS[1:]:
            for where in WHERE:
                classes_apart(results, draws, sizes, churn, where)
    summary(results)


if __name__ == "__main__":
    main()
