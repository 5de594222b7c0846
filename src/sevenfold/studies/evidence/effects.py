"""Turn outcomes into evidence: what each practice gains, how surely, and at what cost."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np

from sevenfold import paired
from sevenfold.paired import Effect, Paired, Verdict
from sevenfold.studies.evidence.frozen import frozen
from sevenfold.studies.evidence.measures import METRICS, expected, measured, right
from sevenfold.studies.evidence.outcomes import DIRECTIONS, Contrast, Outcome, Study, of_arm

Said = Verdict | Literal["not in use"]

UNKNOWN: Final = Effect(math.nan, math.nan, math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class Measured:
    """Hold what one contrast shows.

    Args:
        contrast: which arms it compares.
        repetitions: that both arms have.
        pictures: judged in them.
        effects: of each metric, with minus without the practice; `UNKNOWN` where too little
            was measured.
        p_flip: of the sign-flip test on the objective; NaN without repetitions.
        answers: which pictures each arm answers right, the arm without the practice first.
        to_resolve: pictures by which one point of the objective would be claimed in about four
            of five studies; 0 where nothing is known. More repetitions on the same pictures
            would not: their folds are smaller, and share more of what they learn from.
    """

    contrast: Contrast
    repetitions: int
    pictures: int
    effects: Mapping[str, Effect]
    p_flip: float
    answers: Paired
    to_resolve: int

    @property
    def mcnemar(self) -> float:
        """Test over all judged pictures whether the arms are equally accurate."""
        return paired.mcnemar(self.answers)


@dataclass(frozen=True, slots=True)
class Finding:
    """Hold what is found of one practice.

    Args:
        practice: one of the seven.
        verdict: on the objective, by leaving the practice out.
        reason: why it is not in use; empty where it is.
        contrasts: what was measured, the deciding ones first.
        p_holm: of the deciding effect, adjusted for all practices in use; NaN without it.
    """

    practice: str
    verdict: Said
    reason: str
    contrasts: tuple[Measured, ...]
    p_holm: float

    def deciding(self, direction: str) -> Measured | None:
        """Return what bears the verdict in a direction; None where it is not measured."""
        return next(
            (
                one
                for one in self.contrasts
                if one.contrast.deciding and one.contrast.direction == direction
            ),
            None,
        )


@dataclass(frozen=True, slots=True)
class Interaction:
    """Hold a practice whose two directions disagree.

    Args:
        practice: one of the seven.
        difference: of the gain beside all others and the gain alone, on the objective.
    """

    practice: str
    difference: Effect


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Hold what a study found, complete or not.

    Args:
        study: what was measured.
        findings: of each practice, in the order of the tips.
        arms: the mean of each metric over the repetitions of an arm, by its name.
        interactions: practices whose two directions disagree.
        repetitions: that all arms have.
        pictures: judged by all arms.
        groups: of these pictures.
        seconds: of training, all arms together.
        diverged: repetitions in which a training of an arm did, where there are any.
        family: practices that verdicts are adjusted for: all that are in use.
    """

    study: Study
    findings: tuple[Finding, ...]
    arms: Mapping[str, Mapping[str, float]] = field(repr=False)
    interactions: tuple[Interaction, ...]
    repetitions: int
    pictures: int
    groups: int
    seconds: float
    diverged: Mapping[str, int]
    family: int

    @property
    def complete(self) -> bool:
        """Say whether every arm has all repetitions."""
        return self.repetitions == self.study.repetitions

    def finding(self, practice: str) -> Finding:
        """Return what is found of a practice.

        Raises:
            KeyError: the study is not about it.
        """
        for one in self.findings:
            if one.practice == practice:
                return one
        raise KeyError(practice)

    @property
    def facts(self) -> dict[str, Any]:
        """Return the content of `evidence.json`; `recommended` is a recipe, as TOML."""
        from sevenfold.studies.evidence.facts import facts  # it reads what this module defines

        return facts(self)

    def __str__(self) -> str:
        from sevenfold.studies.evidence.table import lines  # what shows is not needed to weigh

        return "\n".join(lines(self.facts))

    def _repr_html_(self) -> str:
        from sevenfold.studies.evidence.page import fragment  # nor is what draws

        return fragment(self)


def weigh(
    study: Study, outcomes: Sequence[Outcome], *, metrics: Sequence[str] = METRICS
) -> Evidence:
    """Judge every practice by the outcomes there are, however few.

    A practice *helps* or *hurts* if its effect on the objective when it is left out passes two
    tests: the corrected t, adjusted by Holm's rule for all practices that the recipe has in use,
    asked for or not, measured already or not, and the sign-flip test, unadjusted. All other
    effects have intervals alone, and nothing is claimed before all repetitions are there.

    Args:
        study: what is measured.
        outcomes: of its arms, in any order, each arm and repetition at most once.
        metrics: that are worked out; the objective always is.
    """
    wanted = tuple(dict.fromkeys((study.objective, *metrics)))
    # Sums of floats depend on their order; what arrives first must not.
    outcomes = sorted(outcomes, key=lambda one: (one.arm, one.repetition))
    found = [_measured(one, study, outcomes, wanted) for one in study.contrasts]
    deciding = [one for one in found if _decides(one.contrast)]
    p_values = [_certain(one.effects[study.objective].p) for one in deciding]
    holm = paired.holm(p_values, family=study.family)
    adjusted = {one.contrast.practice: p for one, p in zip(deciding, holm, strict=True)}
    findings = tuple(
        _finding(practice, study, found, adjusted.get(practice, math.nan))
        for practice in _practices(study)
    )
    repetitions = [len(of_arm(outcomes, arm)) for arm in study.arms]
    common = set.intersection(*(set(of_arm(outcomes, arm)) for arm in study.arms))
    judged = [
        one.pictures
        for repetition, one in of_arm(outcomes, study.arms[0]).items()
        if repetition in common
    ]
    return Evidence(
        study,
        findings,
        arms=frozen(_arms(study, outcomes, wanted)),
        interactions=tuple(_interactions(study, findings, outcomes)),
        repetitions=min(repetitions, default=0),
        pictures=sum(map(len, judged)),
        groups=len({group for some in judged for group in study.groups[some].tolist()}),
        seconds=float(sum(one.seconds for one in outcomes)),
        diverged=frozen(Counter(one.arm for one in outcomes if one.detail.get("diverged"))),
        family=_family(study),
    )


def _practices(study: Study) -> list[str]:
    """List the practices that the study says something about, in its order, unused ones last."""
    return list(dict.fromkeys((*(one.practice for one in study.contrasts), *study.not_in_use)))


def _decides(contrast: Contrast) -> bool:
    """Tell whether a contrast bears a verdict."""
    return contrast.deciding and contrast.direction == DIRECTIONS[0]


def _family(study: Study) -> int:
    """Return how many tests verdicts are adjusted for."""
    return max(study.family, sum(map(_decides, study.contrasts)))


def _certain(p: float) -> float:
    """Return a p value that can be adjusted: what is not measured yet proves nothing."""
    return p if math.isfinite(p) else 1.0


def pairs(contrast: Contrast, outcomes: Sequence[Outcome]) -> list[tuple[Outcome, Outcome]]:
    """Pair the outcomes of a contrast's arms by repetition, the arm without the practice first."""
    without = of_arm(outcomes, contrast.without_arm)
    with_it = of_arm(outcomes, contrast.with_arm)
    found = [(without[at], with_it[at]) for at in sorted(set(without) & set(with_it))]
    for first, second in found:
        assert np.array_equal(first.pictures, second.pictures), "arms of a repetition differ"
    return found


def _measured(
    contrast: Contrast, study: Study, outcomes: Sequence[Outcome], metrics: Sequence[str]
) -> Measured:
    found = pairs(contrast, outcomes)
    differences = [_difference(*pair, study, study.objective) for pair in found]
    right_of = [
        np.concatenate([right(pair[at], study) for pair in found]) if found else np.zeros(0, bool)
        for at in (0, 1)
    ]
    return Measured(
        contrast,
        len(found),
        len(right_of[0]),
        frozen({metric: _effect(found, study, metric) for metric in metrics}),
        paired.sign_flip(differences) if found else math.nan,
        paired.count(*right_of) if found else Paired(0, 0, 0, 0),
        _to_resolve(found, study),
    )


def _difference(without: Outcome, with_it: Outcome, study: Study, metric: str) -> float:
    return measured(with_it, study)[metric] - measured(without, study)[metric]


def _known(
    found: Sequence[tuple[Outcome, Outcome]], study: Study, metric: str
) -> paired.Expected | None:
    return expected([two for _, two in found], [one for one, _ in found], study, metric)


def _effect(found: Sequence[tuple[Outcome, Outcome]], study: Study, metric: str) -> Effect:
    differences = [_difference(*pair, study, metric) for pair in found]
    if not found or not all(map(math.isfinite, differences)):
        return UNKNOWN
    pictures = _known(found, study, metric)
    if len(found) < 2 and pictures is None:
        return Effect(differences[0], math.nan, math.nan, math.nan)
    return paired.corrected_t(differences, test_to_train=_shared(found, study), pictures=pictures)


def _shared(found: Sequence[tuple[Outcome, Outcome]], study: Study) -> float:
    """Return the pictures judged over those trained on, of the arm that has the fewest of these."""
    arms = {one.arm for pair in found for one in pair} & set(study.trained_on)
    if not arms:
        return 1 / (study.repetitions - 1) if study.repetitions > 1 else 1.0
    judged = float(np.mean([len(one.pictures) for one, _ in found]))
    return judged / min(study.trained_on[arm] for arm in arms)


def _to_resolve(found: Sequence[tuple[Outcome, Outcome]], study: Study) -> int:
    metric = study.objective
    if not math.isfinite(_effect(found, study, metric).low):
        return 0
    error, _ = paired.standard_error(
        [_difference(*pair, study, metric) for pair in found],
        test_to_train=_shared(found, study),
        pictures=_known(found, study, metric),
    )
    judged = sum(len(one.pictures) for one, _ in found)
    return paired.pictures_to_claim(judged, error, claims=max(1, _family(study)))


def _finding(practice: str, study: Study, found: Sequence[Measured], p_holm: float) -> Finding:
    mine = tuple(
        sorted(
            (one for one in found if one.contrast.practice == practice),
            key=lambda one: not one.contrast.deciding,
        )
    )
    reason = str(study.not_in_use.get(practice, ""))
    finding = Finding(practice, "cannot tell", reason, mine, p_holm)
    said: Said = "not in use" if reason or not mine else _verdict(finding, study)
    return Finding(practice, said, reason, mine, p_holm)


def _verdict(finding: Finding, study: Study) -> Verdict:
    one = finding.deciding(DIRECTIONS[0])
    if one is None or one.repetitions < study.repetitions:
        return "cannot tell"  # each look at a part would be another chance to err
    if not math.isfinite(one.effects[study.objective].low):
        return "cannot tell"
    effect = one.effects[study.objective]
    return paired.verdict(effect.value, effect.low, effect.high, finding.p_holm, one.p_flip)


def _arms(
    study: Study, outcomes: Sequence[Outcome], metrics: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return the mean of each metric over the repetitions of every arm that has any."""
    means = {}
    for arm in study.arms:
        found = [measured(one, study) for one in of_arm(outcomes, arm).values()]
        if found:
            means[arm] = {name: float(np.mean([one[name] for one in found])) for name in metrics}
    return means


def _interactions(
    study: Study, findings: Sequence[Finding], outcomes: Sequence[Outcome]
) -> list[Interaction]:
    """Find the practices whose gain beside all others surely differs from their gain alone.

    By Holm's rule over all practices in use, once all repetitions are there; what the choice of
    pictures explains is the sum of what it explains of either gain.
    """
    tried = []
    for finding in findings:
        both = [finding.deciding(direction) for direction in DIRECTIONS]
        held = [pairs(one.contrast, outcomes) if one else [] for one in both]
        if min(map(len, held)) < study.repetitions:
            continue
        gains = [[_difference(*pair, study, study.objective) for pair in one] for one in held]
        known = [_known(one, study, study.objective) for one in held]
        difference = paired.corrected_t(
            [beside - alone for beside, alone in zip(*gains, strict=True)],
            test_to_train=max(_shared(one, study) for one in held),
            pictures=_together(*known),
        )
        tried.append(Interaction(finding.practice, difference))
    adjusted = paired.holm([one.difference.p for one in tried], family=study.family)
    return [one for one, p in zip(tried, adjusted, strict=True) if p <= paired.SIGNIFICANT]


def _together(
    first: paired.Expected | None, second: paired.Expected | None
) -> paired.Expected | None:
    if first is None or second is None:
        return None
    return paired.Expected(first.variance + second.variance, min(first.freedom, second.freedom))
