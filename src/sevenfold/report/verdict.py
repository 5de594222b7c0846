"""Make the first screen of the report: what the model does, how sure that is, what it costs."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from markupsafe import Markup

from sevenfold import plots
from sevenfold.evaluate import CALIBRATED, FEWEST_GROUPS, FEWEST_PICTURES
from sevenfold.plots import plain
from sevenfold.report import words
from sevenfold.report.vote import voters
from sevenfold.report.words import Facts, Range, percent, span

OPENINGS = 10  # after so many looks at the test pictures, fresh ones are due


class Remark(NamedTuple):
    """Hold one sentence about the evidence: "warn" weakens, "note" limits, "good" supports it."""

    tone: str
    text: str


class Cost(NamedTuple):
    """Hold one line of what the model costs."""

    name: str
    value: str
    note: str


def verdict(facts: Facts) -> dict[str, Any]:
    """Return the headline, its figure, and the remarks, costs and next steps below it.

    Args:
        facts: cleaned content of `report.json`.
    """
    test = words.part(facts, "test")
    balanced = facts.get("objective") == "balanced_accuracy"
    shown = words.estimate(test, "balanced_accuracy" if balanced else "accuracy")
    kinds = len(_tested(test)) or len(words.rows(words.part(facts, "data"), "classes"))
    common, share = words.most_common(test)
    floor = 1 / kinds if balanced and kinds else share
    return {
        "headline": _headline(facts, shown, floor, kinds, balanced),
        "lead": [*_lead(test, shown, common, share, kinds if balanced else 0), *_extremes(test)],
        "figure": _figure(shown, floor, balanced, common),
        "sure": sure(facts),
        "costs": costs(facts),
        "next": (facts.get("next") or [])[:8],
        "advice": words.part(facts, "run").get("advice", ""),
    }


def _tested(test: Facts) -> list[Facts]:
    """Return the classes that have test pictures."""
    return [row for row in words.rows(test, "classes") if words.positive(row.get("pictures"))]


def _headline(facts: Facts, shown: Range, floor: float, kinds: int, balanced: bool) -> str:
    """Claim the score only where its interval lies above what a constant answer reaches."""
    apart = f"Tells {words.count(kinds, 'kind')} of picture apart"
    if not math.isfinite(shown.value):
        return f"{apart}; not yet scored on test pictures" if kinds else "Not yet scored"
    pictures = words.count(words.part(facts, "test").get("pictures"), "picture")
    looks = words.number(words.part(facts, "data").get("openings"))
    seen = "kept apart for the test" if looks > OPENINGS else "it never saw"
    right = f"right on {percent(shown.value)} of {pictures} {seen}"
    if balanced:
        right = f"right on {percent(shown.value)} of each kind on average, in {pictures} {seen}"
    if (shown.low if math.isfinite(shown.low) else shown.value) <= floor:
        return f"Not shown to be better than one constant answer: {right}"
    return f"{apart}; {right}"


def _lead(test: Facts, shown: Range, common: str, share: float, kinds: int) -> Iterator[str]:
    """Say the interval and what guessing reaches; `kinds` is 0 where the accuracy is the score."""
    if math.isfinite(shown.low + shown.high):
        yield f"95{words.THIN}% interval {span(shown)}."
    if not math.isfinite(share) or not math.isfinite(shown.value):
        return
    overall = words.estimate(test, "accuracy").value
    if kinds and math.isfinite(overall):
        yield f"Over all test pictures together it is right on {percent(overall)}."
    always = f"Always answering {words.named(common)}, the most common kind"
    mean = f" of them, but on {percent(1 / kinds)} of each kind on average" if kinds else ""
    yield f"{always}, is right on {percent(share)}{mean}."


def _extremes(test: Facts) -> Iterator[str]:
    """Name the weakest class that can be judged and the most frequent mistake."""
    judged = [
        row
        for row in words.rows(test, "classes")
        if not row.get("too_few") and math.isfinite(words.estimate(row, "recall").value)
    ]
    if len(judged) > 1:
        worst = min(judged, key=lambda row: words.estimate(row, "recall").value)
        recall = words.estimate(worst, "recall")
        yield (
            f"Weakest kind among those with enough pictures to judge: "
            f"{words.named(worst.get('label'))}, recognised in {percent(recall.value)} of "
            f"{words.number(worst.get('pictures')):.0f}."
        )
    pairs = words.confused(test, 1)
    if pairs and pairs[0].pictures > 1:
        worst_pair = pairs[0]
        yield (
            f"Most frequent mistake: {words.named(worst_pair.truth)} answered as "
            f"{words.named(worst_pair.answer)}, {worst_pair.pictures} of {worst_pair.total}."
        )


def _figure(shown: Range, floor: float, balanced: bool, common: str) -> Markup:
    if not math.isfinite(shown.value):
        return Markup()
    measure = "Balanced accuracy" if balanced else "Accuracy"
    against = "any constant answer" if balanced else f"always {plain(common, 18)}"
    return Markup(
        plots.scale(
            *shown,
            key="verdict",
            title=f"{measure} on the test pictures",
            text=(
                f"{measure} {percent(shown.value)}, 95 % interval {span(shown)}; "
                f"{against}: {percent(floor)}. The scale runs from 0 to 100 %."
            ),
            baseline=floor,
            caption=f"this model {percent(shown.value)}",
            baseline_caption=f"{against} {percent(floor)}",
        )
    )


def sure(facts: Facts) -> list[Remark]:
    """Return what weakens, limits and supports the verdict, in this order."""
    test = words.part(facts, "test")
    if not test:
        return []
    remarks = [*_weaknesses(facts, test), *_calibration(test), *_limits(facts, test)]
    return sorted(remarks, key=lambda remark: ("warn", "note", "good").index(remark.tone))


def _weaknesses(facts: Facts, test: Facts) -> Iterator[Remark]:
    if test.get("trustworthy") is False:
        groups = words.count(test.get("groups"), "independent group")
        yield Remark("warn", f"Do not rely on the intervals: the test pictures form only {groups}.")
    looks = words.number(words.part(facts, "data").get("openings"))
    if looks > OPENINGS:
        yield Remark(
            "warn",
            f"The test pictures were opened {looks:.0f} times. After {OPENINGS} looks a score "
            "drifts towards luck: set fresh pictures apart.",
        )
    yield from _answered_otherwise(words.part(facts, "operating"))
    validation = words.estimate(words.part(facts, "validation"), "accuracy").value
    if validation > words.estimate(test, "accuracy").high:
        yield Remark(
            "warn",
            f"Validation says {percent(validation)}, more than the test interval allows: the "
            "choices were made on it. Believe the test.",
        )


def _answered_otherwise(operating: Facts) -> Iterator[Remark]:
    """Say where the answers given are not those that are scored."""
    wrong = words.estimate(words.part(operating, "test"), "error").value
    if (operating.get("weights") or operating.get("costs")) and math.isfinite(wrong):
        yield Remark(
            "warn",
            "All scores but those of doubt are of the most probable class. As was asked for, some "
            f"answers are another one: so it is wrong on {percent(wrong)} of the test pictures.",
        )


def _calibration(test: Facts) -> Iterator[Remark]:
    """Say how far stated probabilities are from how often they are right."""
    error = words.estimate(test, "calibration_error")
    if not math.isfinite(error.value):
        return
    between = ""
    if math.isfinite(error.low + error.high):
        between = f" (95{words.THIN}% interval {100 * error.low:.1f} to {100 * error.high:.1f})"
    said = f"Its stated probabilities are off by {words.points(error.value)} on average{between}"
    if error.low > CALIBRATED:
        yield Remark("warn", f"{said}. Use them to rank answers, not as chances.")
    elif error.high <= CALIBRATED:
        yield Remark("good", f"{said}: they can be read as chances.")
    else:
        yield Remark("note", f"{said}.")


def _limits(facts: Facts, test: Facts) -> Iterator[Remark]:
    every, classes = words.rows(test, "classes"), _tested(test)
    few = sum(bool(row.get("too_few")) for row in classes)
    if absent := len(every) - len(classes):
        yield Remark(
            "warn",
            f"{absent:,} of {len(every):,} classes have no test picture: nothing is known of them.",
        )
    if few:
        yield Remark(
            "note",
            f"{few:,} of {len(classes):,} classes have under {FEWEST_PICTURES} test pictures, or "
            f"under {FEWEST_GROUPS} groups of them: too few to judge one by one.",
        )
    if words.part(facts, "data").get("small_data"):
        yield Remark(
            "note",
            "Fewer than 1,000 pictures outside the test when it was first split: every choice was "
            "made on out-of-fold answers, then the model was trained again on all but the test "
            "pictures.",
        )
    accuracy = words.estimate(test, "accuracy")
    width = accuracy.high - accuracy.low
    if math.isfinite(width) and test.get("trustworthy") is not False:
        wide = f"The interval of the accuracy is {words.points(width)} wide"
        yield Remark("note", f"{wide}; four times as many test pictures would about halve it.")


def costs(facts: Facts) -> list[Cost]:
    """Return what the model costs to store, to run and to train."""
    bundle, run = words.part(facts, "bundle"), words.part(facts, "run")
    return [*_running(bundle, words.part(facts, "ensembling")), *_training(run)]


def _running(bundle: Facts, ensembling: Facts) -> Iterator[Cost]:
    size = words.number(bundle.get("megabytes"))
    if size > 0:
        yield Cost("On disk", words.megabytes(size), "")
    whole = words.number(bundle.get("latency_ms"))
    if whole > 0:
        network = words.number(bundle.get("network_latency_ms"))
        notes = [f"{words.PHOTO}, one thread"]
        notes += [f"the network alone {words.milliseconds(network)}"] if network > 0 else []
        if ensembling.get("ships") == "vote":
            notes += [f"{words.count(voters(ensembling), 'network')} vote inside the file"]
        notes += ["the picture and its mirror image are averaged"] if bundle.get("mirror") else []
        yield Cost("One answer", words.milliseconds(whole), "; ".join(notes))
    if bundle.get("machine"):
        yield Cost("Measured on", str(bundle["machine"]), "")


def _training(run: Facts) -> Iterator[Cost]:
    seconds = words.number(run.get("seconds"))
    if seconds > 0:
        memory = words.number(run.get("memory_peak_megabytes"))
        device = plain(run.get("device") or "", 40)
        place = device.upper() if device in ("cpu", "mps", "cuda") else device
        notes = [f"on {place}"] if place else []
        notes += [f"at most {words.megabytes(memory)} of memory in a process"] if memory > 0 else []
        yield Cost("The whole run", words.duration(seconds), ", ".join(notes))
