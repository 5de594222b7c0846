"""Recommend a recipe by the evidence, and say what it gives up."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from sevenfold.paired import NO_DIFFERENCE
from sevenfold.practices.ensembling import Ensembling
from sevenfold.practices.pruning import Pruning
from sevenfold.recipe import PRACTICES, Recipe, parse
from sevenfold.studies.evidence.arms import LEFT, MEMBERS
from sevenfold.studies.evidence.effects import Evidence, Finding
from sevenfold.studies.evidence.measures import COSTS
from sevenfold.studies.evidence.outcomes import DIRECTIONS

MATERIAL: Final = 0.1
"""Costs that differ by less than this share are called equal."""
_DEPLOYED_FIRST: Final = ("latency_ms", "megabytes", "seconds")


@dataclass(frozen=True, slots=True)
class Choice:
    """Say whether a practice is recommended.

    Args:
        practice: one of the seven.
        recommended: whether it stays, or comes, on.
        reason: in a sentence.
        gives_up: the most of the objective, as a fraction, that the choice costs if the end of
            the interval is right; 0 where the evidence decides, NaN where nothing was measured.
        saves: what the choice saves in each cost, as a share; only what is material.
    """

    practice: str
    recommended: bool
    reason: str
    gives_up: float
    saves: dict[str, float]


@dataclass(frozen=True, slots=True)
class Advice:
    """Hold what the evidence recommends.

    Args:
        recipe: to train by; the study's own until the study is complete.
        choices: of each practice that was measured; none until then.
    """

    recipe: Recipe
    choices: tuple[Choice, ...]

    @property
    def gives_up(self) -> float:
        """Return the most of the objective that all choices cost together; NaN if one is unknown.

        The ends of single intervals are added up, so it is more than is likely lost.
        """
        return math.fsum(one.gives_up for one in self.choices)


def advise(evidence: Evidence) -> Advice:
    """Recommend what helps, leave out what hurts, and take the cheaper way where none is sure.

    The cheaper way has the lower latency; where that is equal, the smaller file, then the
    shorter training, and where all are equal the recipe stays as it is. Labelled pictures are
    paid for, so growth always keeps them all. Each practice is judged beside all the others, so
    leaving out several at once was not measured.

    Args:
        evidence: complete or not; while it is not, nothing is recommended but what there is.
    """
    recipe = parse(evidence.study.recipe, Recipe(), source="the study's recipe")
    if not evidence.complete:
        return Advice(recipe, ())
    choices = tuple(
        _choice(finding, evidence, recipe)
        for finding in evidence.findings
        if finding.verdict != "not in use" and finding.deciding(DIRECTIONS[0])
    )
    for choice in choices:
        recipe = _switched(recipe, choice)
    if recipe.pruning.macs and recipe.ensembling.members > 1 and not recipe.ensembling.distil:
        recipe = replace(recipe, ensembling=replace(recipe.ensembling, distil=True))
    return Advice(recipe, choices)


def _choice(finding: Finding, evidence: Evidence, recipe: Recipe) -> Choice:
    one = finding.deciding(DIRECTIONS[0])
    assert one is not None, "only what was measured is chosen on"
    effect = one.effects[evidence.study.objective]
    more = {
        name: share
        for name in COSTS
        if abs(share := _more(evidence, one.contrast.with_arm, one.contrast.without_arm, name))
        > MATERIAL
    }
    if finding.practice == "ensembling" and _one_ships(recipe):
        more = {name: share for name, share in more.items() if name == "seconds"}
    if finding.practice == "growth":
        return Choice("growth", True, _growth(finding), 0.0, {})
    if finding.verdict in ("helps", "hurts"):
        on = finding.verdict == "helps"
        return Choice(finding.practice, on, f"it {finding.verdict}", 0.0, _saved(more, on))
    unsure = "it makes no difference"
    if finding.verdict == "cannot tell":
        unsure = "whether it helps cannot be told"
    on, way = _cheaper(finding.practice, more, recipe)
    lows, highs = [effect.low], [effect.high]
    for other in finding.contrasts:
        # What would ship without pruning is no control that was trained on, but the reference.
        if finding.practice == "pruning" and not other.contrast.deciding:
            beside = other.effects[evidence.study.objective]
            lows.append(beside.low)
            if on and beside.high < 0:
                on, way = False, "beside the network that would ship without it, it surely loses"
                highs = [beside.high]
    given = max(0.0, -min(lows) if on else max(highs))
    return Choice(
        finding.practice,
        on,
        f"{unsure}, and {way}",
        given if all(map(math.isfinite, lows)) else math.nan,
        _saved(more, on),
    )


def _cheaper(practice: str, more: Mapping[str, float], recipe: Recipe) -> tuple[bool, str]:
    """Tell whether the way with a practice is the cheaper one, and in which words."""
    if not more:
        return _used(recipe, practice), "either way costs the same: the recipe stays as it is"
    on = next(more[name] for name in _DEPLOYED_FIRST if name in more) < 0
    cheaper = "training is shorter" if set(more) == {"seconds"} else "the model is cheaper"
    return on, f"{'with' if on else 'without'} it {cheaper}"


def _used(recipe: Recipe, practice: str) -> bool:
    """Tell whether the recipe has a practice on; a vote and pruning are measured beside it."""
    held = {"ensembling": recipe.ensembling.members > 1, "pruning": recipe.pruning.macs > 0}
    return held.get(practice, True)


def _one_ships(recipe: Recipe) -> bool:
    """Tell whether the recipe makes one network of its vote, which is larger and slower."""
    return recipe.ensembling.average or recipe.ensembling.distil


def _growth(finding: Finding) -> str:
    if finding.verdict == "helps":
        return "more pictures help: label more of them"
    if finding.verdict == "no difference":
        return f"twice the pictures gained under {NO_DIFFERENCE:.1%}: more will hardly help"
    if finding.verdict == "hurts":
        return "half of the pictures did better: look for wrong labels with sevenfold audit"
    return "the pictures are labelled already; whether more would help cannot be told"


def _more(evidence: Evidence, with_arm: str, without_arm: str, cost: str) -> float:
    """Return by which share the arm with the practice costs more."""
    arms = evidence.arms
    if with_arm not in arms or without_arm not in arms or cost not in arms[with_arm]:
        return 0.0
    before, after = arms[without_arm][cost], arms[with_arm][cost]
    return after / before - 1 if before > 0 and math.isfinite(after / before) else 0.0


def _saved(more: dict[str, float], on: bool) -> dict[str, float]:
    """Return what each cost falls by; a cost that rises is negative."""
    return {name: -share if on else share / (1 + share) for name, share in more.items()}


def _switched(recipe: Recipe, choice: Choice) -> Recipe:
    assert choice.practice in PRACTICES
    if choice.practice == "growth":
        return recipe
    if choice.recommended:
        return _on(recipe, choice.practice)
    if choice.practice == "transfer":  # off is a linear probe in the table, no random start
        alike = replace(recipe.ensembling, cuts=())  # no member trains fewer blocks than none
        probe = replace(recipe.transfer, trainable_blocks=0)
        return replace(recipe, transfer=probe, ensembling=alike)
    without = recipe.without(choice.practice)
    return replace(without, views=1) if choice.practice == "augmentation" else without


def _on(recipe: Recipe, practice: str) -> Recipe:
    """Switch on what the table measured beside the recipe, where the recipe has none of it."""
    if practice == "ensembling" and recipe.ensembling.members == 1:
        mirror = recipe.ensembling.mirror
        return replace(recipe, ensembling=Ensembling(members=MEMBERS, mirror=mirror))
    if practice == "pruning" and not recipe.pruning.macs:
        return replace(recipe, pruning=Pruning(macs=round(1 - LEFT, 4)))
    return recipe
