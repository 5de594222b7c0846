"""Make the vote section of the report: what voting bought, what one network kept, what ships."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from sevenfold import plots
from sevenfold.report import words
from sevenfold.report.words import Facts, number, part, percent, rows

MEMBERS = 20
VOTES = {
    "soft": "the mean of their probabilities",
    "weighted": "the mean of their probabilities, weighted by likelihood",
    "logit": "the mean of their log-probabilities",
    "hard": "a count of their answers",
}
ALIKE = 0.03  # disagreement below which members are nearly one model: docs/practices/ensembling.md


class Row(NamedTuple):
    """Hold one line of the table of networks."""

    name: str
    note: str
    weight: str
    accuracy: float
    loss: str


class Reading(NamedTuple):
    """Hold a number of the members' diversity with what it says."""

    name: str
    value: str
    text: str


class Losses(NamedTuple):
    """Hold calibrated log losses: the members' mean, the vote's, the student's (NaN: none)."""

    mean: float
    vote: float
    student: float

    @property
    def gain(self) -> float:
        """What the vote has less than its members' mean."""
        return self.mean - self.vote

    @property
    def kept(self) -> float:
        """The share of the gain that the student keeps; NaN where there is none to keep."""
        return (self.mean - self.student) / self.gain if self.gain > 0 else math.nan


def vote(facts: Facts) -> dict[str, Any]:
    """Return the vote section; nothing where one network was trained.

    Args:
        facts: cleaned content of `report.json`.
    """
    found = part(facts, "ensembling")
    members = rows(found, "members")
    if not members:
        return {}
    losses = Losses(
        _mean(members, "nll"),
        number(part(found, "pooled").get("nll")),
        number(part(found, "student").get("nll")),
    )
    small = bool(part(facts, "data").get("small_data"))
    return {
        "pictures": found.get("pictures"),
        "place": "answered out of fold" if small else "of validation",
        "said": [
            *_bought(found, members, losses),
            *_kept(found, losses),
            *_ships(found, losses),
            *_deployed(part(facts, "bundle")),
        ],
        "cost": _cost(found, small),
        "figure": _figure(found, losses),
        "rows": _rows(found, members, rows(part(facts, "training"), "members")),
        "left_out": max(0, len(members) - MEMBERS),
        "readings": list(_readings(part(found, "diversity"), members)),
    }


def weights(found: Facts) -> list[float]:
    """Return the weight of each member's vote, as far as it is known."""
    held = found.get("weights")
    return [number(weight) for weight in held] if isinstance(held, list) else []


def voters(found: Facts) -> int:
    """Count the members that have a say."""
    return sum(weight > 0 for weight in weights(found))


def _mean(members: list[Facts], key: str) -> float:
    return float(np.mean([number(member.get(key)) for member in members]))


def _bought(found: Facts, members: list[Facts], losses: Losses) -> Iterator[str]:
    count = f"{len(members):,} members"
    if not math.isfinite(losses.gain):
        return
    if voters(found) == 1:
        yield (
            f"Selection on these pictures gave one of {count} all the say: its log loss is "
            f"{losses.vote:.3f}, their mean {losses.mean:.3f}."
        )
    elif losses.gain <= 0:
        yield (
            f"The vote of {count} bought nothing: its log loss is {losses.vote:.3f}, "
            f"its members' mean {losses.mean:.3f}."
        )
    else:
        less = percent(losses.gain / losses.mean)
        yield (
            f"The vote of {count} has a log loss of {losses.vote:.3f}, {less} less than the "
            f"{losses.mean:.3f} that its members have on average."
        )
    if len({round(weight, 6) for weight in weights(found)}) > 1 and voters(found) > 1:
        yield "Its weights were chosen on these very pictures, which flatters it."
    right, alone = number(part(found, "pooled").get("accuracy")), _mean(members, "accuracy")
    pictures = number(found.get("pictures"))
    if not math.isfinite(right + alone):
        return
    change = (right - alone) * pictures
    if math.isfinite(change) and round(abs(change), 1) > 0:
        apart = f"{abs(change):.1f} pictures {'more' if change > 0 else 'fewer'} than"
        yield f"It is right on {percent(right)}, {apart} its members on average ({percent(alone)})."
    else:
        yield f"It is right on {percent(right)}, its members on average on {percent(alone)}."


def _kept(found: Facts, losses: Losses) -> Iterator[str]:
    if not math.isfinite(losses.student) or not math.isfinite(losses.kept):
        return
    student = "The student, one network that learned from the vote,"
    if found.get("averaged") is True:
        student = "The average of the members' weights, one network,"
    if found.get("pruned"):
        student += " pruned since,"
    if losses.kept >= 1:
        yield f"{student} does at least as well as the vote: its log loss is {losses.student:.3f}."
    elif losses.kept > 0:
        yield (
            f"{student} keeps {percent(losses.kept, 0)} of what the vote gained in log loss: its "
            f"own is {losses.student:.3f}."
        )
    else:
        yield f"{student} keeps nothing of the gain: its log loss is {losses.student:.3f}."
    behind = words.estimate(found, "behind")
    if math.isfinite(behind.low + behind.high):
        yield (
            f"As far as these pictures tell, that is {behind.low:+.3f} to {behind.high:+.3f} "
            "against the vote's."
        )
    nearer = number(found.get("nearer"))
    if math.isfinite(nearer):
        how = f"{percent(abs(nearer), 0)} {'nearer to' if nearer >= 0 else 'farther from'}"
        yield (
            f"Its answers are {how} the vote's than those of a member are on average, by which "
            "what was taught is judged: the labels of so few pictures say less of it."
        )


def _share(found: Facts, losses: Losses) -> float:
    """Return the share of the vote's gain by which it was chosen what ships."""
    nearer = number(found.get("nearer"))
    return nearer if math.isfinite(nearer) else losses.kept


def _ships(found: Facts, losses: Losses) -> Iterator[str]:
    """Say what is deployed and why."""
    needed = number(found.get("needed"))
    asked = f"At least {percent(needed, 0)} is asked, so"
    share = _share(found, losses)
    the = f"{asked} the" if share < needed else "The"
    one = _one(found)
    match found.get("ships"):
        case "student" if share >= needed:
            yield f"{asked} the {one} ships, at the cost of one network."
        case "student" if losses.gain <= 0 and losses.student <= losses.mean:
            yield f"The {one} ships: it is no worse than a member is on average."
        case "student" if found.get("pruned"):
            yield f"The {one} shipped by that rule, and was pruned then: see below."
        case "student" if found.get("lessons_lost") is True:
            yield "The average ships, at the cost of one network: lessons brought it no nearer."
        case "student":
            yield f"The {one} ships, as was asked for, at the cost of one network."
        case "vote":
            yield (
                f"{the} vote ships: {words.count(voters(found), 'network')} in one file, in which "
                "what they have in common is stored and run once."
            )
        case "member" if voters(found) == 1:
            yield f"{the} selected member ships."
        case "member":
            other = "their average" if one == "average" else "a student"
            yield f"One member ships: neither the vote nor {other} did better than one does."


def _deployed(bundle: Facts) -> Iterator[str]:
    """Say what a vote costs wherever it runs, beside one of its networks."""
    size, took = number(bundle.get("megabytes")), number(bundle.get("network_latency_ms"))
    one = part(bundle, "voter")
    small, fast = number(one.get("megabytes")), number(one.get("network_latency_ms"))
    if size > 0 and small > 0 and took > 0 and fast > 0:
        yield (
            f"Deployed it has {size:.1f} MB and takes {took:.1f} ms for a picture, one of its "
            f"networks {small:.1f} MB and {fast:.1f} ms."
        )


def _one(found: Facts) -> str:
    """Name the one network that stands for the vote."""
    return "average" if found.get("averaged") is True else "student"


def _cost(found: Facts, small: bool) -> str:
    """Say what the trainings took; "" where that is not known."""
    one, every = number(found.get("seconds_member")), number(found.get("seconds_members"))
    student = words.positive(found.get("seconds_student"))
    if not (one > 0 and every > 0):
        return ""
    taught = f", and the student {words.duration(student)}" if student else ""
    folds = ", without the trainings that leave a fold out" if small else ""
    return (
        f"A member trained for {words.duration(one)} in the median, all for "
        f"{words.duration(every)}{taught}{folds}: {(every + student) / one:.1f} times the "
        "training of one network."
    )


def _figure(found: Facts, losses: Losses) -> Markup:
    """Draw the share that the student keeps on a scale from the members' mean to the vote."""
    share, taught = _share(found, losses), math.isfinite(number(found.get("nearer")))
    if not math.isfinite(share):
        return Markup()
    needed, one = number(found.get("needed")), _one(found)
    kept = percent(max(0.0, share), 0)
    what = "way to the vote's answers" if taught else "vote's gain in log loss"
    return Markup(
        plots.scale(
            share,
            math.nan,
            math.nan,
            key="kept",
            title=f"Share of the {what} that the {one} keeps",
            text=(
                f"The {one} keeps {kept}; {percent(needed, 0)} is asked. 0 % is the members' "
                "mean, 100 % the vote."
            ),
            baseline=needed,
            caption=f"the {one} keeps {kept}",
            baseline_caption=f"asked {percent(needed, 0)}",
        )
    )


def _rows(found: Facts, members: list[Facts], trained: list[Facts]) -> list[Row]:
    """Return the members, their mean, the vote and the student."""
    held = [*weights(found), *[math.nan] * len(members)]
    ships, alone = found.get("ships"), voters(found) == 1
    lines = []
    for at, member in enumerate(members[:MEMBERS]):
        seed = trained[at].get("seed") if at < len(trained) else None
        name = f"Member {at + 1}" if seed is None else f"Member {at + 1}, seed {seed}"
        here = ships == "member" and (held[at] > 0 if alone else at == 0)
        note = "ships" if here else "has no say" if held[at] == 0 else ""
        lines.append(_row(name, note, member, percent(held[at], 0)))
    mean = {key: _mean(members, key) for key in ("accuracy", "nll")}
    lines.append(_row("Mean of the members", "", mean))
    pooled = part(found, "pooled")
    how = VOTES.get(str(found.get("vote")), "")
    lines.append(_row("Vote", f"{how}; ships" if ships == "vote" and how else how, pooled))
    if part(found, "student"):
        lines.append(
            _row(
                _one(found).capitalize(),
                "ships" if ships == "student" else "",
                part(found, "student"),
            )
        )
    return lines


def _row(name: str, note: str, scores: Facts, weight: str = "") -> Row:
    loss = number(scores.get("nll"))
    told = f"{loss:.3f}" if math.isfinite(loss) else plots.MISSING
    return Row(name, note, weight, number(scores.get("accuracy")), told)


def _readings(diversity: Facts, members: list[Facts]) -> Iterator[Reading]:
    """Say what each number of the diversity means, in a sentence that holds for its value."""
    apart = number(diversity.get("disagreement"))
    mean = number(diversity.get("mean_accuracy"))
    if math.isfinite(apart):
        alike = " So few that they are nearly one model." if apart < ALIKE else ""
        yield Reading(
            "Disagreement",
            percent(apart),
            f"of the pictures get different answers from two members, on average.{alike}",
        )
    together = number(diversity.get("error_correlation"))
    # Errors of members that are always right have no correlation.
    varied = sum(0 < number(member.get("accuracy")) < 1 for member in members)
    if math.isfinite(together + mean) and varied > 1:
        # P(j wrong | i wrong) = e + r (1 - e) for two members of the same error rate e.
        also = min(1.0, max(0.0, 1 - mean + together * mean))
        yield Reading(
            "Correlation of errors",
            f"{together:.2f}",
            f"Where one member is wrong, another is wrong too about {percent(also, 0)} of the "
            f"time; if they failed independently, {percent(1 - mean, 0)}. At 1 a vote mends "
            "nothing.",
        )
    oracle = number(diversity.get("oracle_accuracy"))
    if math.isfinite(oracle):
        yield Reading(
            "One member right",
            percent(oracle),
            "of the pictures have a member that is right: no choice among the members' answers "
            "could be right more often.",
        )
    gap = number(diversity.get("ambiguity_gap"))
    if math.isfinite(gap):
        less = "less" if gap >= 0 else "more"
        yield Reading(
            "Ambiguity gap",
            f"{abs(gap):.3f} nats {less}",
            "log loss for an equal vote, before its own calibration, than for its members on "
            "average: what their differences are worth. Members that say the same have 0.",
        )
