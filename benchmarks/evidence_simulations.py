"""Draw studies whose truth is known: how often does the evidence claim, and hold?

Arms that differ by a salt alone (A/A) must hardly ever *help* or *hurt*; an effect of five points
on 2,000 pictures must be claimed, and not the wrong way round; intervals must hold the true effect.
Trainings are imitated in
two ways. *Drawn* answers have the share of changed answers, the noise of seeds, and the part
of it that all folds share, set by hand; in the worst of these cases the shared part is as large
as the corrected t supposes. *Learnt* answers come from a linear discriminant that is trained
on six overlapping parts of a drawn data set, with and without a part of its features, and the
truth is the mean of its own gains over many data sets. *Uneven* answers are drawn of ten classes,
the largest eight times the smallest, and judged by balanced accuracy. The corrected t without
the help of pictures stands beside. All are judged by the ratio of pictures judged to pictures
trained on that a study has, which leaves a part of each fold's rest to tune by; the discriminant
tunes nothing, and has its own. Rows name the ratio in their keys: those without one are of a time
when 1/5 was taken and *hurts* was not counted, and are left out. A few minutes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

import results_file
from results_file import Results
from sevenfold import paired
from sevenfold.studies.evidence.folds import shared
from sevenfold.studies.evidence.measures import expected, measured
from sevenfold.studies.evidence.outcomes import Outcome, Study

SEED = 1  # the rules of the interval were chosen by what 0 drew
FOLDS, FAMILY = 6, 7
NULL_DRAWS, PLANTED_DRAWS, COVERAGE_DRAWS = 1000, 1000, 2000
PLANTED, PICTURES = 0.05, 2000
RATIO_OF_FOLDS = shared(FOLDS)
CORRELATION = 0.5
CLASSES, RATIO = 10, 8.0
TRUTH_DRAWS, TRUTH_PICTURES = 400, 4000


@dataclass(frozen=True)
class Drawn:
    """Say how answers change between two arms.

    Args:
        pictures: judged in all.
        churn: share of pictures that one arm alone answers right.
        effect: the true gain.
        seeds: deviation of a fold's true gain, of its own.
        shared: deviation of the true gain that all folds have in common.
    """

    pictures: int
    churn: float
    effect: float
    seeds: float = 0.0
    shared: float = 0.0

    def key(self) -> str:
        """Name the case."""
        return (
            f"n={self.pictures} churn={self.churn:g} effect={self.effect:g} "
            f"seeds={self.seeds:g} shared={self.shared:.4f}"
        )


@dataclass(frozen=True)
class Learner:
    """Say what a linear discriminant learns.

    Args:
        pictures: of a data set.
        features: that it has.
        fewer: that it has without the practice.
        classes: how many.
        apart: how far classes lie apart, in deviations.
    """

    pictures: int
    features: int
    fewer: int
    classes: int
    apart: float


def study(groups: np.ndarray) -> Study:
    """Return a study of so many pictures; the true class is always the first."""
    labels = np.zeros(len(groups), dtype=np.int64)
    return Study(
        "drawn", ("right", "wrong"), labels, groups, "accuracy", FOLDS, (), (), {}, "", {}
    )  # fmt: skip


def outcomes(right: np.ndarray, folds: np.ndarray) -> list[Outcome]:
    """Return the outcomes of an arm that answers these pictures right."""
    shares = np.stack([right, ~right], axis=1).astype(np.float64)
    made = []
    for fold in range(FOLDS):
        inside = np.flatnonzero(folds == fold)
        made.append(Outcome("", fold, inside, shares[inside], 0.0, 0.0, 0.0, {}))
    return made


@dataclass(frozen=True)
class Judged:
    """Hold what is found of one contrast: as a study does, by the plain corrected t, and by signs.

    The differences are those of the folds.
    """

    effect: paired.Effect
    plain: paired.Effect
    differences: list[float]

    def said(self, *, plain: bool = False, p_holm: float | None = None) -> paired.Verdict:
        """Return what a study would say, at worst of seven without the others."""
        found = self.plain if plain else self.effect
        p = min(1.0, FAMILY * found.p) if p_holm is None else p_holm
        flip = paired.sign_flip(self.differences) if found.low > 0 or found.high < 0 else 1.0
        return paired.verdict(found.value, found.low, found.high, p, flip)


def claims(found: list[Judged]) -> dict[str, float]:
    """Return how often a practice is said to help and to hurt; of the plain t that it helps."""
    said = [one.said() for one in found]
    plain = [one.said(plain=True) for one in found]
    return {
        "claimed": said.count("helps") / len(said),
        "hurt": said.count("hurts") / len(said),
        "claimed_plain": plain.count("helps") / len(plain),
    }


def named(case: str, ratio: float = RATIO_OF_FOLDS) -> str:
    """Name a row by its case and by how it is judged."""
    return f"{case} ratio={ratio:.4f}"


def judged(
    without: np.ndarray,
    with_it: np.ndarray,
    folds: np.ndarray,
    groups: np.ndarray,
    ratio: float = RATIO_OF_FOLDS,
) -> list[Judged]:
    """Judge one contrast in many draws, [draws, pictures]; the first is checked by the study's."""
    gained = with_it.astype(np.float32) - without
    sizes = np.bincount(folds)
    differences = np.stack([gained[:, folds == fold].mean(axis=1) for fold in range(FOLDS)], axis=1)
    weights = (1 / (FOLDS * sizes[folds])).astype(np.float32)
    parts = weights * (gained - gained.mean(axis=1, keepdims=True))
    count = len(np.unique(groups))
    if count < len(groups):
        parts = parts @ np.eye(count, dtype=np.float32)[groups]
    seen = (parts.astype(np.float64) ** 2).sum(axis=1) * count / (count - 1)
    unseen = (np.bincount(groups, weights) ** 2).mean()
    variances = FOLDS * (seen + unseen)
    known = expected(
        outcomes(with_it[0], folds), outcomes(without[0], folds), study(groups), "accuracy"
    )
    assert known is not None
    assert math.isclose(known.variance, variances[0], rel_tol=1e-4)
    return [
        Judged(
            paired.corrected_t(
                one, test_to_train=ratio, pictures=paired.Expected(variance, known.freedom)
            ),
            paired.corrected_t(one, test_to_train=ratio),
            one,
        )
        for one, variance in zip(differences.tolist(), variances.tolist(), strict=True)
    ]


def drawn(
    random: np.random.Generator, case: Drawn, draws: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw which pictures each arm answers right, and their folds."""
    folds = np.arange(case.pictures) % FOLDS
    gains = case.effect + random.normal(0, case.seeds, (draws, FOLDS))
    gains += random.normal(0, case.shared, (draws, 1))
    gains = np.clip(gains, -case.churn, case.churn)[:, folds]
    at = random.random(gains.shape, dtype=np.float32)
    only_with = at < (case.churn + gains) / 2
    only_without = ~only_with & (at < case.churn)
    return only_without, only_with, folds  # pictures that both answer alike cancel


def nothing(results: Results, draws: int, pictures: int, seeds: float) -> None:
    """Measure how often any of seven practices that do nothing is said to help, or to hurt."""
    key = named(f"a/a n={pictures} seeds={seeds:g}")
    if not results.missing(key):
        return
    random, folds = np.random.default_rng(SEED), np.arange(pictures) % FOLDS
    hard = random.random((draws, pictures), dtype=np.float32)  # an easy picture is answered right

    def arm() -> np.ndarray:
        level = 0.9 + random.normal(0, seeds / math.sqrt(2), (draws, FOLDS))[:, folds]
        noise = 0.03 * random.standard_normal((draws, pictures), dtype=np.float32)
        right: np.ndarray = hard + noise < level
        return right

    reference = arm()
    found = [judged(arm(), reference, folds, np.arange(pictures)) for _ in range(FAMILY)]
    said = []
    for one in zip(*found, strict=True):
        adjusted = paired.holm([each.effect.p for each in one])
        said.append([each.said(p_holm=p) for each, p in zip(one, adjusted, strict=True)])
    helped, hurt = (np.array(said) == word for word in ("helps", "hurts"))
    results.append(
        key, seed=SEED, n=draws, kind="a/a", ratio=RATIO_OF_FOLDS, pictures=pictures, seeds=seeds,
        any_of_seven=float(helped.any(axis=1).mean()),
        any_of_seven_hurts=float(hurt.any(axis=1).mean()),
        any_claim=float((helped | hurt).any(axis=1).mean()), one=float((helped | hurt).mean()),
    )  # fmt: skip


def planted(results: Results, draws: int, case: Drawn) -> None:
    """Measure how often a planted effect is claimed among six practices that do nothing."""
    key = named(f"planted {case.key()}")
    if not results.missing(key):
        return
    answers = drawn(np.random.default_rng(SEED), case, draws)
    found = judged(*answers, np.arange(case.pictures))
    results.append(
        key, seed=SEED, n=draws, kind="planted", how="drawn", ratio=RATIO_OF_FOLDS,
        pictures=case.pictures, churn=case.churn, effect=case.effect, seeds=case.seeds,
        **claims(found),
    )  # fmt: skip


def covered(results: Results, draws: int, case: Drawn) -> None:
    """Measure how often the interval of drawn answers holds the true effect."""
    key = named(f"coverage {case.key()}")
    if not results.missing(key):
        return
    answers = drawn(np.random.default_rng(SEED), case, draws)
    results.append(
        key, seed=SEED, n=draws, kind="coverage", how="drawn", ratio=RATIO_OF_FOLDS,
        pictures=case.pictures, churn=case.churn, effect=case.effect, seeds=case.seeds,
        shared=case.shared,
        **holding(judged(*answers, np.arange(case.pictures)), case.effect),
    )  # fmt: skip


def uneven(results: Results, draws: int, case: Drawn) -> None:
    """Measure balanced accuracy of classes of many sizes, by what a study calls."""
    shares = RATIO ** -np.linspace(0, 1, CLASSES)
    counts = np.round(case.pictures * shares / shares.sum()).astype(np.int64)
    case = replace(case, pictures=int(counts.sum()))
    key = named(f"uneven {case.key()}")
    if not results.missing(key):
        return
    labels = np.arange(CLASSES).repeat(counts)  # in this order folds are stratified
    groups = np.arange(case.pictures)
    names = tuple(map(str, range(CLASSES)))
    about = Study(
        "drawn", names, labels, groups, "balanced_accuracy", FOLDS, (), (), {}, "", {}
    )  # fmt: skip
    only_without, only_with, folds = drawn(np.random.default_rng(SEED), case, draws)
    cell = folds * CLASSES + labels
    sizes = np.bincount(cell)

    def answers(wrong: np.ndarray) -> list[Outcome]:
        said = np.eye(CLASSES)[np.where(wrong, (labels + 1) % CLASSES, labels)]
        inside = [np.flatnonzero(folds == fold) for fold in range(FOLDS)]
        return [
            Outcome("", at, some, said[some], 0.0, 0.0, 0.0, {}) for at, some in enumerate(inside)
        ]

    found = []
    for draw, (before, after) in enumerate(zip(only_without, only_with, strict=True)):
        arms = answers(before), answers(after)  # what one arm alone has right the other has wrong
        gained = np.bincount(cell, after.astype(float) - before) / sizes
        differences = gained.reshape(FOLDS, CLASSES).mean(axis=1).tolist()
        if not draw:
            first, second = (measured(arm[0], about)["balanced_accuracy"] for arm in reversed(arms))
            assert math.isclose(second - first, differences[0], abs_tol=1e-9)
        known = expected(arms[0], arms[1], about, "balanced_accuracy")
        effect, plain = (
            paired.corrected_t(differences, test_to_train=RATIO_OF_FOLDS, pictures=lent)
            for lent in (known, None)
        )
        found.append(Judged(effect, plain, differences))
    results.append(
        key, seed=SEED, n=draws, kind="balanced accuracy", how="uneven", ratio=RATIO_OF_FOLDS,
        pictures=case.pictures, churn=case.churn, effect=case.effect, seeds=case.seeds,
        shared=case.shared, **claims(found), **holding(found, case.effect),
    )  # fmt: skip


def holding(found: list[Judged], truth: float) -> dict[str, float]:
    """Count how often intervals hold the truth, and how wide they are."""
    ends = np.array([[(each.low, each.high) for each in (one.effect, one.plain)] for one in found])
    inside = (ends[..., 0] <= truth) & (truth <= ends[..., 1])
    halves = (ends[..., 1] - ends[..., 0]).mean(axis=0) / 2
    return {
        "coverage": float(inside[:, 0].mean()),
        "half_width": float(halves[0]),
        "coverage_plain": float(inside[:, 1].mean()),
        "half_width_plain": float(halves[1]),
    }


def fitted(rows: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit a linear discriminant."""
    centres = np.stack([rows[labels == label].mean(axis=0) for label in range(classes)])
    rest = rows - centres[labels]
    spread = rest.T @ rest / len(rows) + 0.01 * np.eye(rows.shape[1])
    weights = np.linalg.solve(spread, centres.T)
    return weights, -(centres * weights.T).sum(axis=1) / 2


def answered(
    learner: Learner, train: tuple[np.ndarray, np.ndarray], test: np.ndarray
) -> list[np.ndarray]:
    """Answer test pictures without and with the practice."""
    found = []
    for features in (learner.fewer, learner.features):
        weights, offset = fitted(train[0][:, :features], train[1], learner.classes)
        found.append((test[:, :features] @ weights + offset).argmax(axis=1))
    return found


def learnt_data(
    random: np.random.Generator, learner: Learner, centres: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a data set."""
    labels = random.integers(0, learner.classes, count)
    return centres[labels] + random.normal(0, 1, (count, learner.features)), labels


def learnt(results: Results, draws: int, truths: int, learner: Learner) -> None:
    """Measure how often the interval of a learner's gain holds its true mean."""
    ratio = 1 / (FOLDS - 1)  # it has no part to tune by
    key = named(
        f"learnt n={learner.pictures} features={learner.fewer}/{learner.features} "
        f"classes={learner.classes}",
        ratio,
    )
    if not results.missing(key):
        return
    random, folds = np.random.default_rng(SEED), np.arange(learner.pictures) % FOLDS
    scale = learner.apart / math.sqrt(learner.features)
    centres = random.normal(0, scale, (learner.classes, learner.features))
    gains = []
    for _ in range(truths):
        size = learner.pictures * (FOLDS - 1) // FOLDS
        train = learnt_data(random, learner, centres, size)
        test = learnt_data(random, learner, centres, TRUTH_PICTURES)
        right = [found == test[1] for found in answered(learner, train, test[0])]
        gains.append(float(right[1].mean() - right[0].mean()))
    truth = float(np.mean(gains))
    right = np.zeros((2, draws, learner.pictures), dtype=bool)
    for draw in range(draws):
        rows, labels = learnt_data(random, learner, centres, learner.pictures)
        for fold in range(FOLDS):
            out = folds == fold
            answers = answered(learner, (rows[~out], labels[~out]), rows[out])
            right[:, draw, out] = [one == labels[out] for one in answers]
    found = judged(right[0], right[1], folds, np.arange(learner.pictures), ratio)
    results.append(
        key, seed=SEED, n=draws, kind="coverage", how="learnt", ratio=ratio,
        pictures=learner.pictures, churn=float((right[0] != right[1]).mean()), effect=truth,
        **claims(found), **holding(found, truth),
    )  # fmt: skip


def grouped(
    results: Results, draws: int, groups: int, size: int, churn: float, effect: float
) -> None:
    """Measure groups whose answers change together, as whole folds of them are judged."""
    key = named(f"groups {groups} of {size} churn={churn:g} effect={effect:g}")
    if not results.missing(key):
        return
    random = np.random.default_rng(SEED)
    names = np.arange(groups).repeat(size)
    parts = [1 - churn, (churn + effect) / 2, (churn - effect) / 2]  # same, with, without
    of_group = random.choice(3, (draws, groups), p=parts)[:, names]
    of_picture = random.choice(3, (draws, len(names)), p=parts)
    # Pictures that both take their group's value agree: correlation is the square.
    takes = random.random((draws, len(names))) < math.sqrt(CORRELATION)
    change = np.where(takes, of_group, of_picture)
    found = judged(change == 2, change == 1, names % FOLDS, names)
    results.append(
        key, seed=SEED, n=draws, kind="groups", how=f"of {size}", ratio=RATIO_OF_FOLDS,
        pictures=len(names), groups=groups, churn=churn, effect=effect,
        **claims(found), **holding(found, effect),
    )  # fmt: skip


def coverage_cases() -> Iterator[Drawn]:
    """List drawn cases: pictures, noise of seeds, and none or all of the supposed shared part."""
    for pictures in (300, 2000, 6000):
        for seeds in (0.0, 0.005, 0.01):
            for part in (0.0, RATIO_OF_FOLDS):
                whole = 0.06 / (pictures / FOLDS) + seeds**2
                yield Drawn(pictures, 0.06, 0.0, seeds, math.sqrt(part * whole))


def summary(results: Results) -> None:
    """Write the tables."""

    def per_cent(value: float) -> str:
        return f"{100 * value:.1f}"

    tables = []
    for row in results.rows():
        if "ratio" not in row:  # judged in another way, see above
            continue
        table = {
            "what": row["kind"] + (f", {row['how']}" if "how" in row else ""),
            "pictures": row["pictures"],
            "churn %": per_cent(row["churn"]) if "churn" in row else "",
            "effect, points": per_cent(row["effect"]) if "effect" in row else "0.0",
            "seeds, points": per_cent(row["seeds"]) if "seeds" in row else "",
            "shared, points": f"{100 * row['shared']:.2f}" if "shared" in row else "",
            "draws": row["n"],
            "helps %": per_cent(row.get("claimed", row.get("any_of_seven", math.nan)))
            if {"claimed", "any_of_seven"} & set(row)
            else "",
            "hurts %": per_cent(row.get("hurt", row.get("any_of_seven_hurts", math.nan)))
            if {"hurt", "any_of_seven_hurts"} & set(row)
            else "",
            "plain t helps %": per_cent(row["claimed_plain"]) if "claimed_plain" in row else "",
            "interval holds %": per_cent(row["coverage"]) if "coverage" in row else "",
            "plain t holds %": per_cent(row["coverage_plain"]) if "coverage_plain" in row else "",
            "half width, points": f"{100 * row['half_width']:.2f}" if "half_width" in row else "",
            "plain t half width": f"{100 * row['half_width_plain']:.2f}"
            if "half_width_plain" in row
            else "",
        }
        tables.append(table)
    titles = [
        "Studies of six folds whose truth is known: how often a practice is said to help or to "
        "hurt, of seven that Holm's rule adjusts for (A/A: any of seven), and how often 95 % "
        "intervals hold the true effect; the corrected t with the help of pictures, and the plain "
        "one beside it."
    ]
    results.summarise(titles, tables)


def main() -> None:
    """Measure what is missing, then sum up."""
    options = results_file.parser(__doc__, data=False, cores=1).parse_args()
    results = results_file.opened("evidence_simulations", options)
    few = options.smoke
    null, power, cover = (20,) * 3 if few else (NULL_DRAWS, PLANTED_DRAWS, COVERAGE_DRAWS)
    for pictures in (600, PICTURES):
        for seeds in (0.0, 0.01):
            nothing(results, null, pictures, seeds)
    for churn in (0.08, 0.1, 0.14):
        for seeds in (0.0, 0.005, 0.01):
            planted(results, power, Drawn(PICTURES, churn, PLANTED, seeds))
    for learner in (
        Learner(300, 20, 10, 4, 2.5),
        Learner(600, 100, 50, 4, 3.0),
        Learner(PICTURES, 30, 22, 6, 3.5),
    ):
        learnt(results, cover, 20 if few else TRUTH_DRAWS, learner)
    for effect in (0.0, 0.03):
        for churn in (0.06, 0.12, 0.24):
            grouped(results, cover, 20, 25, churn, effect)
    for churn in (0.08, 0.14):
        grouped(results, power, 400, 5, churn, PLANTED)
    for case in coverage_cases():
        covered(results, cover, case)
    for case in coverage_cases():
        uneven(results, cover, case)
    for churn in (0.08, 0.14):
        uneven(results, power, Drawn(PICTURES, churn, PLANTED, 0.005))
    summary(results)


if __name__ == "__main__":
    main()
