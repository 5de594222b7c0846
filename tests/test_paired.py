import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests

from sevenfold import paired
from sevenfold.errors import DataError
from sevenfold.paired import Design, Paired, interval, largest_drop

cells = st.integers(0, 40)
tables = st.builds(Paired, cells, cells, cells, cells).filter(lambda counts: counts.pictures > 0)


def swapped(counts: Paired) -> Paired:
    return Paired(counts.both_right, counts.only_second, counts.only_first, counts.both_wrong)


def likelihood_score(counts: Paired, delta: float) -> float:
    """Give Tango's statistic with the constrained maximum found by search, not by formula."""
    n, b, c = counts.pictures, counts.only_second, counts.only_first

    def unlikely(q: float) -> float:
        shares = (q + delta, q, 1 - 2 * q - delta)
        terms = zip((b, c, n - b - c), shares, strict=True)
        return -sum(k * math.log(max(share, 1e-300)) for k, share in terms if k)

    low, high = max(0.0, -delta), (1 - delta) / 2
    found = optimize.minimize_scalar(
        unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-13}
    )
    return (b - c - n * delta) / math.sqrt(n * (2 * found.x + delta - delta**2))


def test_counts_are_of_the_same_pictures():
    first = np.array([True, True, False, False, True])
    second = np.array([True, False, True, False, True])
    counts = paired.count(first, second)
    assert counts == Paired(both_right=2, only_first=1, only_second=1, both_wrong=1)
    assert (counts.pictures, counts.difference, counts.churn) == (5, 0, 0.4)


@pytest.mark.parametrize("lengths", [(0, 0), (3, 2)])
def test_pictures_that_do_not_pair_are_refused(lengths):
    with pytest.raises(DataError):
        paired.count(*(np.ones(length, bool) for length in lengths))


def test_an_interval_is_the_published_one():
    # Airway hyper-responsiveness before and after transplantation (Bentur et al., 2009), as in
    # Fagerland, Lydersen & Laake (Statistics in Medicine 33, 2850-2875, 2014).
    found = interval(Paired(1, 7, 1, 12))
    assert (found.low, found.high) == pytest.approx((-0.517, -0.026), abs=6e-4)


@given(counts=tables.filter(lambda counts: counts.only_first != counts.only_second))
@settings(max_examples=100, deadline=None)
def test_intervals_are_the_roots_of_the_published_quartic(counts):
    # Yang, Sun & Hardin (Statistics in Medicine 32, 1336-1342, 2013): both ends are among them.
    found = interval(counts)
    n, apart = counts.pictures, counts.only_second - counts.only_first
    changed, g = counts.only_second + counts.only_first, stats.norm.ppf(0.975) ** 2
    roots = np.roots(
        [
            n**2 * (n / g + 1) ** 2,
            -n * apart * (n / g + 1) * (4 * n / g + 1),
            2 * n * apart**2 * (3 * n / g + 2) / g - n**2 * (changed / g + 1),
            n * apart * (2 * changed / g + 1) - apart**3 * (4 * n / g + 1) / g,
            apart**2 * (apart**2 / g - changed) / g,
        ]
    )
    for end in (found.low, found.high):
        if abs(end) < 0.999:
            assert np.abs(roots - end).min() < 1e-5


@given(counts=tables, level=st.sampled_from([0.8, 0.9, 0.95, 0.99]))
@settings(max_examples=60, deadline=None)
def test_the_ends_of_an_interval_have_the_score_that_they_claim(counts, level):
    found, z = interval(counts, level=level), stats.norm.ppf((1 + level) / 2)
    assert -1 <= found.low <= found.value <= found.high <= 1
    for end, score in ((found.low, z), (found.high, -z)):
        if -0.999 < end < 0.999 and counts.only_first + counts.only_second:
            assert likelihood_score(counts, end) == pytest.approx(score, abs=1e-3)


@given(counts=tables)
@settings(max_examples=100, deadline=None)
def test_swapping_the_models_mirrors_the_interval(counts):
    found, mirrored = interval(counts), interval(swapped(counts))
    assert (found.low, found.high) == (-mirrored.high, -mirrored.low)
    one_sided = -interval(counts, level=0.9).low
    assert one_sided <= largest_drop(counts) <= one_sided + 1 / counts.pictures


@given(counts=tables.filter(lambda counts: counts.only_first != counts.only_second))
@settings(max_examples=100, deadline=None)
def test_zero_is_outside_exactly_when_mcnemars_statistic_says_so(counts):
    table = [[counts.both_right, counts.only_first], [counts.only_second, counts.both_wrong]]
    p = reference_mcnemar(table, exact=False, correction=False).pvalue
    found = interval(counts)
    if abs(p - 0.05) > 1e-9:
        assert (found.low > 0 or found.high < 0) == (p < 0.05)


@pytest.mark.parametrize("pictures", [1, 5, 341, 100_000])
def test_without_a_changed_answer_the_bound_is_known(pictures):
    z2 = stats.norm.ppf(0.975) ** 2
    found = interval(Paired(pictures, 0, 0, 0))
    assert found.high == pytest.approx(z2 / (pictures + z2), rel=1e-12)
    bound = largest_drop(Paired(pictures, 0, 0, 0))
    share = pictures * bound - 0.25
    assert share**2 == pytest.approx(stats.norm.ppf(0.95) ** 2 * pictures * bound * (1 - bound))


def test_extreme_answers_have_an_interval():
    assert interval(Paired(0, 0, 9, 0)).high == 1
    assert interval(Paired(0, 9, 0, 0)).low == -1
    assert 0 < interval(Paired(0, 0, 9, 0)).low < 1


@pytest.mark.parametrize(("pictures", "churn"), [(340, 0.03), (1000, 0.06)])
def test_the_bound_holds_as_often_as_it_says(pictures, churn):
    drop, holds = churn / 3, 0
    shares = ((churn - drop) / 2, (churn + drop) / 2, 1 - churn)
    drawn = np.random.default_rng(0).multinomial(pictures, shares, 400).tolist()
    for better, worse, same in drawn:
        holds += largest_drop(Paired(same, worse, better, 0)) >= drop
    assert holds >= 0.93 * len(drawn)  # two standard errors
    assert holds < len(drawn)  # and is no empty promise


def in_groups(
    random: np.random.Generator, groups: int, size: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Draw answers of which half change with their group; a drop of 5 points."""
    shares = [0.85, 0.10, 0.05]
    shared = random.random(groups * size) < math.sqrt(0.5)
    change = np.where(
        shared,
        random.choice(3, groups, p=shares).repeat(size),
        random.choice(3, groups * size, p=shares),
    )
    return change != 2, change != 1, [str(at // size) for at in range(groups * size)]


def test_groups_widen_the_bound_until_it_holds():
    random = np.random.default_rng(0)
    as_groups, as_pictures = [], []
    for _ in range(200):
        first, second, groups = in_groups(random, groups=20, size=25)
        counts, design = paired.count(first, second), paired.design(first, second, groups)
        as_groups.append(largest_drop(counts, design=design) >= 0.05)
        as_pictures.append(largest_drop(counts) >= 0.05)
    assert np.mean(as_groups) >= 0.9
    assert np.mean(as_pictures) < 0.85


def test_a_group_for_each_picture_changes_nothing():
    first = np.array([True, True, False, True])
    second = np.array([True, False, True, True])
    assert paired.design(first, second, ["a", "b", "c", "d"]) == paired.INDEPENDENT


def test_groups_without_a_changed_answer_count_as_one_picture_each():
    right = np.ones(60, bool)
    found = paired.design(right, right, [str(at // 3) for at in range(60)])
    assert found == Design(effect=3.0, groups=20)
    t2 = stats.t.ppf(0.975, 19) ** 2
    assert interval(paired.count(right, right), design=found).high == pytest.approx(t2 / (20 + t2))


def test_a_single_group_bounds_nothing():
    right = np.ones(60, bool)
    found = paired.design(right, right, ["a"] * 60)
    assert largest_drop(paired.count(right, right), design=found) == 1


def test_the_design_effect_is_the_jackknifes():
    random = np.random.default_rng(1)
    first, second, groups = in_groups(random, groups=12, size=5)
    apart = second.astype(float) - first
    left = [apart[np.array(groups) != name].mean() for name in set(groups)]
    jackknife = 11 / 12 * ((np.array(left) - apart.mean()) ** 2).sum()
    seen = max(1.0, jackknife / (apart.var() / len(apart)))
    changed = len({name for name, one in zip(groups, apart, strict=True) if one})
    expected = (changed * seen + 2 * 5) / (changed + 2)  # two more, of five pictures as one
    assert paired.design(first, second, groups).effect == pytest.approx(expected)


def test_mcnemars_test_agrees_with_statsmodels_on_500_tables():
    random = np.random.default_rng(0)
    for both, first, second, wrong in random.integers(0, [900, 60, 60, 90], (500, 4)).tolist():
        expected = reference_mcnemar([[both, first], [second, wrong]], exact=True).pvalue
        p = paired.mcnemar(Paired(both, first, second, wrong))
        assert p == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("bounds", "steps"),
    [
        ([], 0),
        ([0.02, 0.001], 0),
        ([0.001, 0.02, 0.001], 1),
        ([0.001, 0.01], 2),
        ([0.001, math.nan, 0.001], 1),
    ],
)
def test_the_walk_stops_at_the_first_failure(bounds, steps):
    assert paired.certified(bounds, 0.01) == steps


def test_the_smallest_certifiable_margin_is_just_enough():
    bounds = [0.004, 0.012, 0.009]
    margin = paired.smallest_certifiable(bounds)
    assert paired.certified(bounds, margin) == 3
    assert paired.certified(bounds, margin - 1e-9) < 3


def test_the_walk_rarely_certifies_a_step_that_drops_too_much():
    random, wrong = np.random.default_rng(0), 0
    margin, drops = 0.02, (0.0, 0.02, 0.03, 0.05)  # the second is at the margin already
    for _ in range(300):
        bounds = []
        for drop in drops:
            worse, better, same = random.multinomial(
                500, [0.02 + drop / 2, 0.02 - min(drop, 0.04) / 2, 0.96]
            ).tolist()
            bounds.append(largest_drop(Paired(same, worse, better, 0)))
        wrong += paired.certified(bounds, margin) > 1
    assert wrong / 300 < 0.08


@given(
    freedom=st.integers(1, 400),
    probability=st.floats(0.001, 0.999),
)
@settings(max_examples=150, deadline=None)
def test_students_quantile_and_tails_are_scipys(freedom, probability):
    found = paired.t_quantile(probability, freedom)
    assert found == pytest.approx(stats.t.ppf(probability, freedom), rel=1e-8, abs=1e-8)
    assert paired.t_tails(found, freedom) == pytest.approx(
        2 * stats.t.sf(abs(found), freedom), abs=1e-12
    )


@given(
    values=st.lists(st.floats(-0.2, 0.2), min_size=2, max_size=12).filter(
        lambda values: np.std(values) > 1e-6
    )
)
@settings(max_examples=100, deadline=None)
def test_the_corrected_t_is_students_without_its_correction(values):
    found = paired.corrected_t(values, test_to_train=0)
    expected = stats.ttest_1samp(values, 0)
    low, high = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    wider = paired.corrected_t(values)
    growth = math.sqrt(1 + len(values) / 5)
    assert wider.high - wider.low == pytest.approx(growth * (high - low))


@pytest.mark.parametrize(("value", "p"), [(0.0, 1.0), (0.1, 0.0)])
def test_equal_differences_have_no_width(value, p):
    found = paired.corrected_t([value] * 6)
    assert found.low == found.high == pytest.approx(value)
    assert found.p == p


def test_sign_flips_are_scipys_on_random_differences():
    random = np.random.default_rng(0)
    for repetitions in (2, 3, 5, 6, 8):
        values = random.normal(0.01, 0.02, repetitions)
        expected = stats.permutation_test(
            (values,), np.sum, permutation_type="samples", n_resamples=np.inf
        ).pvalue
        assert paired.sign_flip(values) == pytest.approx(expected, abs=1e-12)


def test_six_repetitions_can_reach_five_percent_and_five_cannot():
    assert paired.sign_flip([0.01, 0.03, 0.02, 0.02, 0.01]) == 2 / 32
    assert paired.sign_flip([0.01, 0.03, 0.02, 0.02, 0.01, 0.02]) == 2 / 64
    assert paired.sign_flip([0.0] * 6) == 1
    assert paired.sign_flip([0.1, -0.1, 0.1, -0.1, 0.3, -0.3]) == 1  # but for rounding


def test_holms_adjustment_is_statsmodels():
    random = np.random.default_rng(0)
    for tests in (1, 2, 7, 7, 7, 12):
        p_values = (random.random(tests) ** 3).tolist()
        expected = multipletests(p_values, method="holm")[1]
        assert paired.holm(p_values) == pytest.approx(tuple(expected), abs=1e-12)
    assert paired.holm([0.01, 0.01, 1.0]) == (0.03, 0.03, 1.0)


def test_what_a_family_has_elsewhere_counts_as_showing_nothing():
    random = np.random.default_rng(0)
    for made in (1, 3, 6):
        p_values = (random.random(made) ** 3).tolist()
        padded = multipletests([*p_values, *[1.0] * (7 - made)], method="holm")[1]
        assert paired.holm(p_values, family=7) == pytest.approx(tuple(padded[:made]), abs=1e-12)
    assert paired.holm([0.01, 0.03], family=1) == (0.02, 0.03)


def test_parts_of_a_family_claim_no_more_than_all_of_it_do():
    """The chance of any wrong claim stays below the level, however the tests are parted."""
    random, wrong = np.random.default_rng(0), 0
    for _ in range(4000):
        p_values = random.random(7).tolist()
        p_values[0] = 1e-6  # one that is real
        parts = [p_values[:1], p_values[1:4], p_values[4:6], p_values[6:]]
        claims = [p <= 0.05 for part in parts for p in paired.holm(part, family=7)]
        wrong += any(claims[1:])
    assert wrong / 4000 < 0.055


@pytest.mark.parametrize(
    ("effect", "low", "high", "p_holm", "p_flip", "word"),
    [
        (0.03, 0.01, 0.05, 0.01, 0.04, "helps"),
        (-0.03, -0.05, -0.01, 0.01, 0.04, "hurts"),
        (0.03, 0.01, 0.05, 0.01, 0.06, "cannot tell"),
        (0.03, 0.01, 0.05, 0.06, 0.04, "cannot tell"),
        (0.0, -0.02, 0.02, 1.0, 1.0, "cannot tell"),
        (0.001, -0.003, 0.005, 1.0, 1.0, "no difference"),
        (0.003, 0.002, 0.004, 0.001, 0.04, "no difference"),
        (0.001, -0.004, 0.006, 1.0, 1.0, "cannot tell"),
    ],
)
def test_verdicts(effect, low, high, p_holm, p_flip, word):
    assert paired.verdict(effect, low, high, p_holm, p_flip) == word


@pytest.mark.parametrize(("points", "pictures"), [(1, 4700), (2, 1200), (3, 520)])
def test_pictures_that_detect_a_difference(points, pictures):
    needed = paired.pictures_to_detect(points / 100, 0.06)
    assert needed == pytest.approx(pictures, rel=0.03)


def test_pictures_that_claim_an_effect_grow_with_the_square_of_the_error():
    one, four = (paired.pictures_to_claim(1000, error) for error in (0.005, 0.01))
    assert four == pytest.approx(4 * one, rel=1e-3)
    assert paired.pictures_to_claim(1000, 0.015, difference=0.03) == one
    # As many more for seven claims as their first step asks for.
    first, last = (stats.t.ppf(1 - 0.025 / claims, 6) + stats.t.ppf(0.8, 6) for claims in (1, 7))
    assert one == pytest.approx(1000 * (0.5 * first) ** 2, rel=1e-3)
    seven = paired.pictures_to_claim(1000, 0.005, claims=7)
    assert seven / one == pytest.approx((last / first) ** 2, rel=1e-3)


@pytest.mark.parametrize("claims", [1, 7])
def test_pictures_to_claim_suffice_in_about_four_of_five_simulated_studies(claims):
    # Six folds differ by their pictures and seeds as much as pictures explain, and share the rest.
    draws, error = np.random.default_rng(0), 0.004
    pictures = paired.Expected(error**2 / (1 / 6 + 1 / 5))
    shared, own = (error**2 - pictures.variance / 6) ** 0.5, pictures.variance**0.5
    claimed = 0
    for _ in range(600):
        gain = paired.reach(claims) * error + draws.normal(0, shared)
        seen = gain + draws.normal(0, own, 6)
        found = paired.corrected_t(seen, pictures=pictures)
        claimed += max(claims * found.p, paired.sign_flip(seen)) <= paired.SIGNIFICANT
    assert 0.72 < claimed / 600 < 0.88


@pytest.mark.parametrize(
    ("judge", "values"),
    [
        (paired.corrected_t, [0.1]),
        (paired.corrected_t, [0.1, math.nan]),
        (paired.sign_flip, []),
        (paired.sign_flip, [0.1] * 21),
    ],
)
def test_repetitions_that_cannot_be_judged_are_refused(judge, values):
    with pytest.raises(DataError):
        judge(values)
