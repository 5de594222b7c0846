import dataclasses
import gc
import io
import json
import math
import re
from html.parser import HTMLParser

import jsonschema_rs
import numpy as np
import pytest
from rich.console import Console
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests

from evidence_study import complete_except, in_use, outcomes, study
from sevenfold import paired
from sevenfold.practices import ensembling, imbalance, optimization, pruning
from sevenfold.recipe import PRACTICES, Recipe, default, parse, to_toml
from sevenfold.report import evidence as words
from sevenfold.report.page import render as render_report
from sevenfold.studies.evidence import table
from sevenfold.studies.evidence.advice import advise
from sevenfold.studies.evidence.course import Asked
from sevenfold.studies.evidence.effects import weigh
from sevenfold.studies.evidence.facts import facts, schema
from sevenfold.studies.evidence.measures import expected, measured
from sevenfold.studies.evidence.outcomes import Contrast, of_arm
from sevenfold.studies.evidence.page import render

TRUTH = {"reference": 0.92, "all-but/augmentation": 0.84, "all-but/imbalance": 0.97}


@pytest.fixture(scope="module")
def about():
    return study(1800)


@pytest.fixture(scope="module")
def found(about):
    return outcomes(about, {**dict.fromkeys(about.arms, 0.92), **TRUTH})


@pytest.fixture(scope="module")
def told(about, found):
    return facts(weigh(about, found))


def verdicts(evidence):
    return {one.practice: one.verdict for one in evidence.findings}


def test_the_paired_statistics_agree_with_scipy_and_statsmodels_on_500_tables(monkeypatch):
    monkeypatch.setattr(gc, "collect", lambda *_: 0)  # statsmodels collects at every call
    random = np.random.default_rng(0)
    for _ in range(500):
        both, first, second, none = random.integers(0, 60, 4).tolist()
        counts = paired.Paired(both, first, second, none)
        table_of = [[both, first], [second, none]]
        exact = reference_mcnemar(table_of, exact=True).pvalue if first + second else 1.0
        assert paired.mcnemar(counts) == pytest.approx(exact, abs=1e-12)
        differences = random.normal(0.01, 0.02, random.integers(2, 12))
        mine = paired.corrected_t(differences.tolist(), test_to_train=0)
        theirs = stats.ttest_1samp(differences, 0)
        assert mine.p == pytest.approx(theirs.pvalue, abs=1e-12)
        ends = theirs.confidence_interval(0.95)
        assert (mine.low, mine.high) == pytest.approx((ends.low, ends.high), abs=1e-12)
        shared, known = random.uniform(0.05, 0.6), random.choice([0, random.uniform(0, 0.03)]) ** 2
        wanted = by_the_formula(differences, shared, known)
        lent = paired.Expected(known) if known else None
        mine = paired.corrected_t(differences.tolist(), test_to_train=shared, pictures=lent)
        assert (mine.low, mine.high, mine.p) == pytest.approx(wanted, abs=1e-12)
        p_values = random.random(7) ** 3
        adjusted = multipletests(p_values, method="holm")[1]
        assert paired.holm(p_values.tolist()) == pytest.approx(adjusted, abs=1e-12)


def by_the_formula(differences, shared, known):
    """Return interval and p of Nadeau & Bengio's corrected t, with the help of pictures."""
    count, variance = len(differences), differences.var(ddof=1)
    held = max(variance, known)
    freedom = count - 1 + math.floor(10 * (known / held) ** 3)
    error = math.sqrt(held * (1 / count + shared))
    spread = stats.t(freedom, loc=differences.mean(), scale=error)
    return *spread.interval(0.95), 2 * stats.t.sf(abs(differences.mean()) / error, freedom)


def test_signs_are_flipped_as_scipy_permutes_them_on_500_tables():
    random = np.random.default_rng(1)
    for _ in range(500):
        differences = random.normal(0.01, 0.02, 6)
        theirs = stats.permutation_test(
            (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
        )
        assert paired.sign_flip(differences.tolist()) == pytest.approx(theirs.pvalue, abs=1e-12)


def test_pictures_lend_freedom_where_repetitions_differ_no_more_than_they_explain():
    calm, wild = [0.010, 0.011, 0.009, 0.010, 0.011, 0.009], [0.1, -0.1, 0.1, -0.1, 0.2, -0.05]
    known = paired.Expected(0.01**2)
    alone, helped = paired.corrected_t(calm), paired.corrected_t(calm, pictures=known)
    half = stats.t.ppf(0.975, 15) * 0.01 * math.sqrt(1 / 6 + 1 / 5)
    assert helped.high - helped.value == pytest.approx(half, rel=1e-9)
    assert helped.high > alone.high
    assert paired.corrected_t(wild, pictures=known) == paired.corrected_t(wild)
    one = paired.corrected_t([0.01], pictures=known)
    assert one.low < 0.01 < one.high
    few = paired.corrected_t(calm, pictures=paired.Expected(0.01**2, freedom=2))
    assert few.high > helped.high


def test_metrics_are_those_of_scikit_learn(about, found):
    outcome = found[0]
    truth = about.labels[outcome.pictures]
    answers = outcome.probabilities.argmax(axis=1)
    mine = measured(outcome, about)
    assert mine["accuracy"] == pytest.approx((answers == truth).mean())
    assert mine["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, answers))
    assert mine["macro_f1"] == pytest.approx(f1_score(truth, answers, average="macro"))
    assert mine["nll"] == pytest.approx(log_loss(truth, outcome.probabilities))
    assert (mine["seconds"], mine["megabytes"], mine["latency_ms"]) == (30.0, 12.0, 4.0)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "nll"])
def test_the_variance_that_pictures_explain_is_that_of_drawing_them_again(metric):
    random, seen, guessed = np.random.default_rng(0), [], []
    for seed in range(60):
        about = study(240, seed=seed)
        drawn = outcomes(about, {"all-but/growth": 0.8}, seed=int(random.integers(1 << 30)))
        arms = [[*of_arm(drawn, arm).values()] for arm in ("reference", "all-but/growth")]
        guessed.append(expected(*arms, about, metric).variance)
        gains = [
            measured(one, about)[metric] - measured(two, about)[metric]
            for one, two in zip(*arms, strict=True)
        ]
        seen.append(np.var(gains, ddof=1))
    assert np.mean(guessed) == pytest.approx(np.mean(seen), rel=0.2)
    assert expected(*arms, about, "macro_f1") is None


def test_groups_lend_less_than_pictures():
    alone, together = study(600), study(600, groups=30)
    arms = ("reference", "all-but/growth")
    known = [
        expected(
            *([*of_arm(outcomes(one, {"all-but/growth": 0.8}), arm).values()] for arm in arms),
            one,
            "accuracy",
        )
        for one in (alone, together)
    ]
    assert known[0].freedom == known[1].freedom == 10
    few = study(600, groups=7)
    drawn = outcomes(few, {"all-but/growth": 0.8})
    arms_of_few = ([*of_arm(drawn, arm).values()] for arm in arms)
    assert expected(*arms_of_few, few, "accuracy").freedom == 6


def test_one_more_group_than_was_seen_may_change():
    alike = dict.fromkeys(study(600).arms, 0.9)
    for groups, weight in ((0, 1 / 600), (30, 1 / 30)):
        about = study(600, groups=groups)
        drawn = outcomes(about, alike, churn=0.0)
        arms = ([*of_arm(drawn, arm).values()] for arm in ("reference", "all-but/growth"))
        assert expected(*arms, about, "accuracy").variance == pytest.approx(6 * weight**2, rel=0.02)


def test_verdicts_say_what_is_true(about, found):
    evidence = weigh(about, found)
    said = verdicts(evidence)
    assert said["augmentation"] == "helps"
    assert said["imbalance"] == "hurts"
    assert not {said["growth"], said["optimization"]} & {"helps", "hurts"}
    assert evidence.complete
    assert (evidence.repetitions, evidence.pictures) == (6, 1800)
    deciding = evidence.finding("augmentation").deciding("leave_one_out")
    assert deciding.p_flip == pytest.approx(2 / 64)
    assert deciding.mcnemar < 1e-6
    assert deciding.answers.pictures == 1800
    with pytest.raises(KeyError):
        evidence.finding("magic")


def test_arms_that_answer_alike_make_no_difference_only_where_there_are_enough_pictures():
    few, many = study(120), study(6000, practices=["growth"])
    alike = [weigh(one, outcomes(one, {}, churn=0)) for one in (few, many)]
    assert verdicts(alike[0])["growth"] == "cannot tell"
    assert verdicts(alike[1])["growth"] == "no difference"


def test_a_claim_is_adjusted_for_practices_that_are_not_measured_yet(about, found):
    only = [one for one in found if one.arm in ("reference", "all-but/augmentation")]
    finding = weigh(about, only).finding("augmentation")
    effect = finding.deciding("leave_one_out").effects["accuracy"]
    assert finding.p_holm == pytest.approx(min(1, 7 * effect.p))


def test_what_is_asked_one_by_one_is_adjusted_for_all_that_is_in_use(about, found):
    """Seven studies of one practice each are no seven unadjusted tests."""
    whole = {one.practice: one.p_holm for one in weigh(about, found).findings}
    for practice in PRACTICES:
        contrasts = tuple(one for one in about.contrasts if one.practice == practice)
        alone = dataclasses.replace(about, contrasts=contrasts, family=7)
        evidence = weigh(alone, found)
        (finding,) = evidence.findings
        effect = finding.deciding("leave_one_out").effects["accuracy"]
        assert finding.p_holm == min(1, 7 * effect.p) >= whole[practice]
        assert evidence.family == facts(evidence)["family"] == 7
        unadjusted = weigh(dataclasses.replace(alone, family=0), found)
        assert unadjusted.findings[0].p_holm == effect.p
    told = facts(weigh(dataclasses.replace(about, family=7), found))
    assert "adjusted by Holm's rule for 7 practices in use" in render(told).replace("&#39;", "'")
    assert any("adjusted for 7 practices in use" in line for line in table.lines(told))


def test_fewer_directions_that_disagree_are_told_where_more_practices_are_in_use(about):
    truth = {"base": 0.8, **{f"base+/{one}": 0.8 for one in PRACTICES}}
    truth |= {"base+/growth": 0.86, "reference": 0.9, "all-but/growth": 0.9}
    contrasts = tuple(one for one in about.contrasts if one.practice == "growth")
    alone = dataclasses.replace(about, contrasts=contrasts)
    found = outcomes(about, truth)
    told = [weigh(dataclasses.replace(alone, family=size), found) for size in (1, 10**6)]
    assert [len(one.interactions) for one in told] == [1, 0]


def test_the_correction_is_that_of_the_pictures_that_were_trained_on(about, found):
    """Of six folds with a part to tune by, and of an arm that has half of the pictures."""
    half = {"reference": 1285, "all-but/growth": 643, "all-but/transfer": 1285}
    real = weigh(dataclasses.replace(about, trained_on=half), found)
    plain = weigh(about, found)
    for practice, trained in (("growth", 643), ("transfer", 1285)):
        width, before = (
            (one.high - one.low)
            for one in (
                each.finding(practice).deciding("leave_one_out").effects["accuracy"]
                for each in (real, plain)
            )
        )
        factor = math.sqrt((1 / 6 + 300 / trained) / (1 / 6 + 1 / 5))
        assert width == pytest.approx(factor * before)
        needed = [
            each.finding(practice).deciding("leave_one_out").to_resolve for each in (real, plain)
        ]
        assert needed[0] == pytest.approx(factor**2 * needed[1], abs=2)


def test_what_was_found_cannot_be_changed(about, found):
    evidence = weigh(about, found)
    effects = evidence.finding("growth").deciding("leave_one_out").effects
    for held in (evidence.arms, evidence.arms["base"], evidence.diverged, effects):
        with pytest.raises(TypeError):
            held["accuracy"] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        evidence.pictures = 0


@pytest.mark.parametrize("repetitions", [0, 1, 2, 3, 5])
def test_a_partial_study_has_intervals_and_claims_nothing(about, found, repetitions):
    part = [one for one in found if one.repetition < repetitions]
    evidence = weigh(about, part)
    assert not evidence.complete
    assert set(verdicts(evidence).values()) <= {"cannot tell", "not in use"}
    jsonschema_rs.validate(schema(), facts(evidence))
    effect = evidence.finding("augmentation").deciding("leave_one_out").effects["accuracy"]
    assert math.isfinite(effect.low) == (repetitions > 0)


def test_intervals_narrow_as_repetitions_arrive(about, found):
    def half(repetitions):
        part = [one for one in found if one.repetition < repetitions]
        evidence = weigh(about, part, metrics=("accuracy",))
        effects = [
            evidence.finding(practice).deciding("leave_one_out").effects["accuracy"]
            for practice in PRACTICES
        ]
        return sum(effect.high - effect.low for effect in effects)

    assert half(6) < half(2)  # between 4 and 6 luck may widen one


def test_one_missing_outcome_costs_one_repetition_of_its_contrasts_alone(about, found):
    evidence = weigh(about, complete_except(found, "all-but/growth", 2))
    assert evidence.finding("growth").deciding("leave_one_out").repetitions == 5
    assert evidence.finding("transfer").deciding("leave_one_out").repetitions == 6
    assert (evidence.repetitions, evidence.pictures) == (5, 1500)


def test_the_order_of_outcomes_changes_nothing(about, found):
    assert facts(weigh(about, found)) == facts(weigh(about, found[::-1]))


def test_practices_that_are_not_in_use_are_listed_with_the_reason(about, found):
    told = facts(weigh(in_use(about, augmentation="the recipe has it off"), found))
    one = told["practices"]["augmentation"]
    assert (one["verdict"], one["reason"]) == ("not in use", "the recipe has it off")
    assert one["leave_one_out"] == one["add_one_in"] == {}
    assert "augmentation" not in {choice["practice"] for choice in told["advice"]}
    jsonschema_rs.validate(schema(), told)


def test_directions_that_disagree_are_told(about):
    truth = {"base": 0.8, **{f"base+/{one}": 0.8 for one in PRACTICES}}
    truth |= {"base+/growth": 0.92, "reference": 0.9, "all-but/growth": 0.9}
    evidence = weigh(about, outcomes(about, truth))
    assert [one.practice for one in evidence.interactions] == ["growth"]
    assert evidence.interactions[0].difference.value == pytest.approx(-0.12, abs=0.03)
    some = [one for one in outcomes(about, truth) if one.repetition < about.repetitions - 1]
    assert weigh(about, some).interactions == ()


def test_a_second_reference_bears_no_verdict(about, found):
    second = Contrast(
        "transfer", "leave_one_out", "reference", "all-but/imbalance", "random", deciding=False
    )
    told = facts(weigh(dataclasses.replace(about, contrasts=(second, *about.contrasts)), found))
    one = told["practices"]["transfer"]
    assert one["off_means"] == "off"
    assert one["references"][0]["off_means"] == "random"
    assert one["references"][0]["metrics"]["accuracy"]["verdict"] is None
    assert one["verdict"] == "cannot tell"


def test_the_facts_obey_their_schema_and_are_json(told):
    jsonschema_rs.meta.validate(schema())
    jsonschema_rs.validate(schema(), told)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert set(told["practices"]) == set(PRACTICES)
    metric = told["practices"]["growth"]["leave_one_out"]["accuracy"]
    assert {"effect", "low", "high", "p", "verdict"} <= set(metric)
    assert told["practices"]["growth"]["leave_one_out"]["nll"]["verdict"] is None
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema(), {**told, "schema": "sevenfold.evidence/2"})


def test_arms_that_diverged_are_told(about, found):
    wild = [
        dataclasses.replace(one, detail={"diverged": one.arm == "base" and one.repetition < 2})
        for one in found
    ]
    told = facts(weigh(about, wild))
    jsonschema_rs.validate(schema(), told)
    assert told["diverged"] == {"base": 2}
    assert "base diverged in 2 repetitions" in render(told)
    assert facts(weigh(about, found))["diverged"] == {}


def test_groups_that_nobody_judged_are_not_counted(about, found):
    part = [
        dataclasses.replace(one, pictures=one.pictures[:5], probabilities=one.probabilities[:5])
        for one in found
    ]
    judged = np.concatenate([one.pictures for one in part if one.arm == "base"])
    expected = len(set(about.groups[judged].tolist()))
    assert weigh(about, part).groups == expected < len(set(about.groups.tolist()))


def test_costs_are_effects_too(about):
    costs = {"reference": (90.0, 24.0, 9.0)}
    evidence = weigh(about, outcomes(about, {}, costs=costs))
    effects = evidence.finding("pruning").deciding("leave_one_out").effects
    assert effects["seconds"].value == pytest.approx(60)
    assert effects["megabytes"].value == pytest.approx(12)
    assert effects["megabytes"].low == effects["megabytes"].high
    assert effects["latency_ms"].value == pytest.approx(5)


def test_what_helps_stays_what_hurts_goes_and_the_cheaper_way_is_taken(about):
    costs = {
        "reference": (30.0, 12.0, 4.0),
        "all-but/optimization": (60.0, 12.0, 4.0),
        "all-but/transfer": (5.0, 12.0, 4.0),
        "all-but/ensembling": (10.0, 4.0, 1.5),
        "all-but/pruning": (20.0, 16.0, 5.0),
    }
    truth = {**dict.fromkeys(about.arms, 0.92), **TRUTH}
    advice = advise(weigh(about, outcomes(about, truth, costs=costs)))
    taken = {one.practice: one.recommended for one in advice.choices}
    assert taken == {
        "growth": True,
        "optimization": True,
        "imbalance": False,
        "transfer": False,
        "augmentation": True,
        "ensembling": False,
        "pruning": True,
    }
    choices = {one.practice: one for one in advice.choices}
    assert choices["augmentation"].gives_up == 0
    assert 0 < choices["ensembling"].gives_up < 0.02
    assert choices["ensembling"].saves["latency_ms"] == pytest.approx(1 - 1.5 / 4)
    assert choices["pruning"].saves["latency_ms"] == pytest.approx(0.2)
    assert choices["pruning"].saves["seconds"] == pytest.approx(-30 / 20 + 1, abs=0.1)
    assert advice.recipe.imbalance.method == "none"
    assert advice.recipe.transfer.trainable_blocks == 0
    assert advice.recipe.transfer.weights != "random"
    assert advice.recipe.pruning.macs > 0
    assert advice.recipe.ensembling.members == 1


def test_the_recommended_recipe_can_be_read_again(about, found, told):
    recipe = parse(told["recommended"], Recipe(), source="evidence.json")
    assert recipe == advise(weigh(about, found)).recipe


@pytest.mark.parametrize("budget", ["quick", "normal", "thorough"])
@pytest.mark.parametrize("best", ["reference", "all-but/transfer", "all-but/ensembling"])
def test_a_training_takes_the_recommended_recipe(about, budget, best):
    """It has the blocks that the user's training has, though the study trained fewer."""
    given = default(budget)
    cheap = dataclasses.replace(given.transfer, trainable_blocks=1)
    asked = Asked(
        dataclasses.replace(given, transfer=cheap), blocks=given.transfer.trainable_blocks
    )
    here = dataclasses.replace(about, recipe=to_toml(asked.wanted))
    truth = {**dict.fromkeys(here.arms, 0.8), best: 0.95}
    costs = {"all-but/transfer": (5.0, 12.0, 4.0)}
    recipe = advise(weigh(here, outcomes(here, truth, costs=costs))).recipe
    ensembling.check(recipe.ensembling, cut=recipe.transfer.trainable_blocks)
    voters = 1 if recipe.ensembling.distil else recipe.ensembling.members
    pruning.check(recipe.pruning, voters=1 if recipe.ensembling.average else voters)
    optimization.check(recipe.optimization)
    imbalance.check(recipe.imbalance)
    assert recipe.evidence_minutes == 0
    on = best == "reference"  # elsewhere the head alone is as good, and cheaper
    assert recipe.transfer.trainable_blocks == (given.transfer.trainable_blocks if on else 0)


def test_nothing_is_changed_where_either_way_costs_the_same(about):
    advice = advise(weigh(about, outcomes(about, {})))
    taken = {one.practice: one.recommended for one in advice.choices}
    assert taken == {name: name not in ("ensembling", "pruning") for name in PRACTICES}
    assert advice.recipe == parse(about.recipe, Recipe(), source="the study")
    assert "stays as it is" in advice.choices[1].reason
    assert advice.gives_up == pytest.approx(sum(one.gives_up for one in advice.choices))


def test_nothing_is_recommended_before_the_study_is_complete(about):
    costs = {"all-but/transfer": (5.0, 12.0, 4.0)}
    part = outcomes(about, {}, costs=costs, repetitions=3)
    advice = advise(weigh(about, part))
    assert advice.choices == ()
    assert advice.recipe == parse(about.recipe, Recipe(), source="the study")
    assert advise(weigh(about, outcomes(about, {}, costs=costs))).recipe != advice.recipe


@pytest.mark.parametrize(("ships", "taken"), [(0.9, True), (0.97, False)])
def test_what_is_pruned_must_not_surely_lose_beside_what_would_ship(about, ships, taken):
    """Its control was trained on, and may be worse than the network it came from."""
    control, pruned = "reference+/pruning/unpruned", "reference+/pruning"
    compared = (
        Contrast("pruning", "leave_one_out", pruned, control, "trained on"),
        Contrast("pruning", "leave_one_out", pruned, "reference", "as it is", deciding=False),
    )
    others = tuple(one for one in about.contrasts if one.practice != "pruning")
    arms = (*about.arms, pruned, control)
    here = dataclasses.replace(about, arms=arms, contrasts=(*others, *compared))
    costs = {pruned: (30.0, 8.0, 3.0)}
    found = weigh(here, outcomes(here, {"reference": ships}, costs=costs))
    choice = next(one for one in advise(found).choices if one.practice == "pruning")
    assert choice.recommended is taken
    assert taken or "surely loses" in choice.reason
    beside = facts(found)["practices"]["pruning"]["references"][0]["metrics"]["accuracy"]
    assert not taken or choice.gives_up >= -beside["low"] > 0


def test_a_vote_that_ships_as_one_network_costs_training_alone(about):
    costs = {"reference": (30.0, 12.0, 4.0), "all-but/ensembling": (10.0, 4.0, 1.5)}
    one = dataclasses.replace(about, recipe=to_toml(default("normal")))
    found = outcomes(about, {}, costs=costs)
    for here, saved in ((about, {"latency_ms", "megabytes", "seconds"}), (one, {"seconds"})):
        choices = {each.practice: each for each in advise(weigh(here, found)).choices}
        assert set(choices["ensembling"].saves) == saved
    assert "training is shorter" in choices["ensembling"].reason


def test_a_pruned_vote_is_distilled_since_one_network_is_pruned(about):
    truth = {**dict.fromkeys(about.arms, 0.8), "reference": 0.92}
    advice = advise(weigh(about, outcomes(about, truth)))
    assert (advice.recipe.ensembling.members, advice.recipe.ensembling.distil) == (3, True)


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.ids, self.scripts, self.links = [], [], 0, []

    def handle_starttag(self, tag, attrs):
        held = dict(attrs)
        self.ids += [held["id"]] if "id" in held else []
        self.scripts += tag == "script"
        self.links += [held[name] for name in ("src", "href") if name in held]
        if tag not in ("meta", "link", "line", "circle", "polyline", "rect", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_self_contained_and_accessible(told):
    html = render(told)
    page = Page()
    page.feed(html)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert page.scripts == 0
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert '<html lang="en">' in html
    assert html.count('role="img"') == 1
    assert all("scope=" in cell for cell in re.findall(r"<th(?!ead)[^>]*>", html))
    assert "Augmentation helps; imbalance hurts." in html
    for practice in PRACTICES:
        assert practice in html


def test_the_page_of_an_unfinished_study_says_so(about, found):
    html = render(facts(weigh(about, [one for one in found if one.repetition < 2])))
    assert "Nothing can be told yet: 2 of 6 repetitions are done" in html
    assert "not complete" in html
    assert "Nothing can be told yet: 0 of 6" in render(facts(weigh(about, [])))


def test_texts_of_users_are_escaped_everywhere(about, found):
    evil = "<script>alert(1)</script>\x1b[2J"
    named = dataclasses.replace(
        in_use(about, growth=evil), data=evil, regime={evil: evil, "versions": {evil: evil}}
    )
    evidence = weigh(named, found)
    assert "<script" not in render(facts(evidence))
    assert "<script" not in evidence._repr_html_()
    assert "\x1b" not in render(facts(evidence))


def test_the_report_of_a_run_has_the_section_where_there_is_evidence(told):
    shown = render_report({"evidence": told})
    assert 'id="evidence"' in shown
    assert "augmentation helps; imbalance hurts" in shown
    assert "[augmentation]" in shown
    assert 'id="evidence"' not in render_report({})


def test_a_notebook_shows_the_table(about, found):
    html = weigh(about, found)._repr_html_()
    assert html.count("<tr>") == 8
    assert "helps" in html


def test_the_table_on_a_terminal_has_a_line_for_each_practice(told):
    lines = [*table.lines(told)]
    for practice in PRACTICES:
        assert any(line.startswith(practice) for line in lines)
    assert any("augmentation helps; imbalance hurts" in line for line in lines)
    assert max(map(len, lines[:9])) <= 110


def test_the_live_table_shows_how_far_the_study_is(about, found):
    part = [one for one in found if one.repetition < 2]
    console = Console(width=90, record=True, file=io.StringIO())
    console.print(table.live(facts(weigh(about, part, metrics=("accuracy", "seconds")))))
    shown = console.export_text()
    assert "repetition 2 of 6 done" in shown
    assert "2/6" in shown


@pytest.mark.parametrize(
    ("one", "said"),
    [
        ({"verdict": "helps"}, ""),
        ({"verdict": "not in use", "reason": "it is off"}, "it is off"),
        ({"verdict": "cannot tell"}, "not measured yet"),
        (
            {
                "verdict": "cannot tell",
                "leave_one_out": {"accuracy": {"effect": 0.01, "low": -0.02, "high": 0.04}},
                "to_resolve": {"pictures": 5382},
            },
            "about 5,400 pictures would tell 1 point",
        ),
        (
            {
                "verdict": "cannot tell",
                "leave_one_out": {"accuracy": {"effect": 0.0, "low": -0.006, "high": 0.006}},
                "to_resolve": {"pictures": 100},
            },
            "known to \N{PLUS-MINUS SIGN}0.60 points; no difference asks for half a point",
        ),
    ],
)
def test_what_would_tell_more_is_said(one, said):
    assert words.explained(one, "accuracy") == said
    if "to_resolve" in one:
        unfinished = words.explained({**one, "repetitions": 5}, "accuracy", 6)
        assert unfinished == "not all repetitions are there yet"
