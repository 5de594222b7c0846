from collections import Counter
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sevenfold import data, job
from sevenfold.errors import DataError, ModelError, UsageError


class Nowhere:
    location = "made up"

    def load(self, photo):
        raise AssertionError("a split reads no pixels")


def hash_of(content):
    return blake2b(str(content).encode(), digest_size=16).hexdigest()


def dataset(rows):
    """Build a data set of (content, label[, role[, group[, stratum]]])."""
    photos = []
    for number, (_, label, *more) in enumerate(rows):
        role, group, stratum = [*more, "", "", ""][:3]
        photos.append(data.Photo(f"{number}.png", label, role, group, stratum=stratum))
    hashes = [hash_of(row[0]) for row in rows]
    classes = tuple(sorted({row[1] for row in rows}))
    return data.Dataset(
        "made up",
        tuple(photos),
        tuple(hashes),
        np.array([classes.index(row[1]) for row in rows], dtype=np.int64),
        data.merged_groups(photos, hashes),
        classes,
        (),
        Nowhere(),
        np.full((len(rows), 2), 8, dtype=np.int64),
    )


def many(count, classes="ab", start=0, **options):
    return [(start + i, classes[i % len(classes)], *options.values()) for i in range(count)]


def role_of(split):
    """Return content hash to role."""
    return {
        split.dataset.hashes[index]: role
        for role in ("train", "val", "test")
        for index in getattr(split, role).tolist()
    }


def test_large_data_has_three_roles_by_quota_in_each_class():
    made = dataset([(i, "a" if i % 4 else "b") for i in range(2000)])
    split = data.split(made)
    assert [len(split.train), len(split.val), len(split.test)] == [1400, 300, 300]
    assert Counter(made.labels[split.test].tolist()) == {0: 225, 1: 75}
    assert Counter(made.labels[split.val].tolist()) == {0: 225, 1: 75}
    everything = np.concatenate([split.train, split.val, split.test])
    assert sorted(everything.tolist()) == list(range(2000))


def test_small_data_has_no_val():
    split = data.split(dataset(many(1000)))
    assert [len(split.train), len(split.val), len(split.test)] == [850, 0, 150]


def test_the_limit_counts_what_is_not_test():
    assert len(data.split(dataset(many(1170))).val) == 0
    assert len(data.split(dataset(many(1180))).val) > 0


def test_strata_keep_their_proportion():
    rows = [(i, "ab"[i % 2], "", "", "mono" if i % 5 == 0 else "poly") for i in range(1000)]
    made = dataset(rows)
    test = data.split(made, test=0.25).test
    kinds = Counter((made.photos[i].label, made.photos[i].stratum) for i in test.tolist())
    assert kinds == {("a", "mono"): 25, ("a", "poly"): 100, ("b", "mono"): 25, ("b", "poly"): 100}


def test_rounding_in_small_strata_evens_out():
    rows = [(i, "ab"[i % 2], "", "", f"kind {i % 100}") for i in range(600)]
    assert len(data.split(dataset(rows)).test) == 90


def test_a_class_of_five_has_one_for_test_and_four_to_train_on():
    made = dataset(many(40, "a") + many(5, "b", start=100))
    split = data.split(made)
    assert Counter(made.labels[split.test].tolist())[1] == 1
    assert Counter(made.labels[split.train].tolist())[1] == 4


def test_one_group_never_leaves_training():
    made = dataset(many(40, "a") + many(9, "b", start=100, role="", group="one"))
    split = data.split(made)
    assert Counter(made.labels[split.train].tolist())[1] == 9


def test_a_group_too_large_for_the_quota_is_passed_over():
    rows = many(400, "a", role="", group="huge") + many(100, "a", start=500) + many(99, "b", 900)
    made = dataset(rows)
    split = data.split(made)
    in_test = [made.groups[i] for i in split.test.tolist()]
    assert "huge" not in in_test
    assert 70 <= Counter(made.labels[split.test].tolist())[0] <= 80


def test_large_groups_are_not_drawn_to_the_front():
    rows = many(600, "a") + [(1000 + i, "a", "", f"g{i // 10}") for i in range(600)]
    made = dataset(rows + many(50, "b", start=5000))
    chosen = Counter(made.photos[i].group != "" for i in data.split(made).test.tolist())
    assert 0.2 < chosen[True] / (chosen[True] + chosen[False]) < 0.8


contents = st.lists(
    st.tuples(
        st.integers(0, 60), st.sampled_from("ab"), st.just(""), st.sampled_from(["", "g", "h", "i"])
    ),
    min_size=12,
    max_size=80,
)


few = st.sampled_from([None, 0])  # with val from the first picture on, and without


def consistent(rows):
    """Give equal contents equal labels, and keep two classes with singles to train on."""
    labels = {}
    rows = [(c, labels.setdefault(c, label), role, group) for c, label, role, group in rows]
    return rows + [(100 + i, "ab"[i % 2], "", "") for i in range(8)]


@settings(max_examples=60, deadline=None)
@given(contents, st.randoms(use_true_random=False))
def test_a_split_depends_on_content_alone(rows, random):
    rows = consistent(rows)
    shuffled = list(rows)
    random.shuffle(shuffled)
    one, two = data.split(dataset(rows)), data.split(dataset(shuffled))
    assert role_of(one) == role_of(two)
    folds = [
        dict(zip((s.dataset.hashes[i] for i in s.train.tolist()), s.folds(3).tolist(), strict=True))
        for s in (one, two)
    ]
    assert folds[0] == folds[1]


@settings(max_examples=60, deadline=None)
@given(contents, few)
def test_groups_and_copies_never_straddle(rows, fewest):
    split = data.split(dataset(consistent(rows)), fewest=fewest)
    parts = [
        {split.dataset.groups[i] for i in part.tolist()}
        for part in (split.train, split.val, split.test)
    ]
    assert not parts[0] & parts[1]
    assert not parts[1] & parts[2]
    assert not parts[0] & parts[2]
    assume(len(parts[0]) >= 3)
    folds = split.folds(3)
    by_group = {}
    for index, fold in zip(split.train.tolist(), folds.tolist(), strict=True):
        assert by_group.setdefault(split.dataset.groups[index], fold) == fold


@settings(max_examples=60, deadline=None)
@given(contents, contents, few)
def test_known_pictures_never_move_and_nothing_leaks_when_more_come(old, new, fewest):
    old = consistent(old)
    first = data.split(dataset(old), fewest=fewest)
    manifest = data.manifest_of(first)
    labels = {row[0]: row[1] for row in old}
    more = [(c, labels.setdefault(c, label), r, g) for c, label, r, g in new]
    second = data.split(dataset(old + more), known=manifest, fewest=fewest)
    before, after = role_of(first), role_of(second)
    assert {h: after[h] for h in before} == before
    roles = {}
    for part in ("train", "val", "test"):
        for index in getattr(second, part).tolist():
            photo, hash_ = second.dataset.photos[index], second.dataset.hashes[index]
            for link in [hash_] + ([photo.group] if photo.group else []):
                assert roles.setdefault(link, part) == part
    grown = data.manifest_of(second, known=manifest)
    assert grown.rows[: len(manifest.rows)] == manifest.rows


def test_folds_are_stratified_and_even():
    made = dataset([(i, "a" if i % 10 else "b") for i in range(590)])
    split = data.split(made, test=0.0)
    folds = split.folds()
    assert folds.shape == split.train.shape
    assert Counter(folds.tolist()) == dict.fromkeys(range(5), 118)
    rare = Counter(folds[made.labels[split.train] == 1].tolist())
    assert set(rare.values()) <= {11, 12}
    assert split.fold_of(split.train[7::3]).tolist() == folds[7::3].tolist()


def test_too_few_groups_for_the_folds():
    split = data.split(dataset(many(12)))
    with pytest.raises(DataError, match="too few for 50 folds"):
        split.folds(50)


def test_given_roles_stay():
    rows = many(1100, start=0, role="train")
    rows += many(60, start=2000, role="val") + many(40, start=3000, role="test")
    split = data.split(dataset(rows))
    assert [len(split.train), len(split.val), len(split.test)] == [1100, 60, 40]
    assert split.test.tolist() == list(range(1160, 1200))


def test_where_only_test_is_given_val_is_carved_out_of_training():
    split = data.split(dataset(many(2000, role="train") + many(40, start=3000, role="test")))
    assert [len(split.train), len(split.val), len(split.test)] == [1700, 300, 40]


def test_where_only_val_is_given_test_is_carved_out_of_training():
    split = data.split(dataset(many(2000, role="train") + many(40, start=3000, role="val")))
    assert [len(split.train), len(split.val), len(split.test)] == [1700, 40, 300]


def test_a_given_val_of_small_data_joins_training():
    rows = many(100, role="train") + many(30, start=200, role="val")
    split = data.split(dataset(rows + many(30, start=300, role="test")))
    assert [len(split.train), len(split.val), len(split.test)] == [130, 0, 30]
    assert split.quarantined == ()
    assert job._trained_on_val(split).startswith("the 30 validation pictures are trained on")
    assert job._trained_on_val(data.split(dataset(many(100)))) == ""


def test_photos_without_a_role_belong_to_training_where_others_have_one():
    split = data.split(dataset(many(100) + many(30, start=300, role="test")))
    assert [len(split.train), len(split.test)] == [100, 30]


def test_photos_without_a_role_follow_their_group():
    rows = many(100, role="train") + many(4, start=200, role="", group="g")
    rows += many(4, start=300, role="test", group="g")
    split = data.split(dataset(rows))
    assert len(split.test) == 8
    assert split.quarantined == ()


@pytest.mark.parametrize(
    ("lesser", "greater"), [("train", "test"), ("train", "val"), ("val", "test")]
)
def test_where_a_group_straddles_given_roles_the_lesser_is_left_out(lesser, greater):
    rows = many(1100, role="train") + many(50, start=2000, role="val")
    rows += many(50, start=3000, role="test")
    rows += [(5000, "a", lesser), (5000, "a", greater), (5001, "a", lesser)]
    split = data.split(dataset(rows))
    assert split.quarantined == (
        data.Quarantined("1200.png", f"leak: its group or an exact copy is in {greater}"),
    )
    assert 1201 in getattr(split, greater)
    assert 1202 in getattr(split, lesser)


def test_a_class_whose_training_pictures_all_leak_is_an_error():
    rows = many(50, "a", role="train") + many(5, "b", start=100, role="train")
    with pytest.raises(DataError, match="class `b` has no picture to train on"):
        data.split(dataset(rows + many(5, "b", start=100, role="test")))


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.1), (0.5, 0.5), (0.1, 1.0), (float("nan"), 0)])
def test_shares_out_of_range(val, test):
    with pytest.raises(UsageError, match="leave nothing to train on"):
        data.split(dataset(many(50)), val=val, test=test)


def known(rows=1400):
    return data.manifest_of(data.split(dataset(many(rows))))


def test_new_groups_are_assigned_by_a_threshold_whatever_else_is_new():
    manifest = known()
    new = many(2000, start=5000)
    together = role_of(data.split(dataset(new), known=manifest))
    counts = Counter(together.values())
    assert 240 < counts["test"] < 360
    assert 240 < counts["val"] < 360
    alone = {}
    for row in new[:50]:
        alone |= role_of(data.split(dataset([row, (9999, "b")]), known=manifest))
    assert all(together.get(hash_, role) == role for hash_, role in alone.items())


def test_where_the_manifest_has_no_val_new_pictures_have_none():
    parted = data.split(
        dataset(many(500, start=5000) + many(9, start=9000, role="val")), known=known(200)
    )
    assert len(parted.val) == 0
    assert len(parted.train) + len(parted.test) == 509


@pytest.mark.parametrize("role", ["train", "test"])
def test_a_new_picture_follows_its_group_or_its_copy(role):
    first = data.split(dataset([*many(200), (500, "a", "", "g"), *many(80, start=600)]), test=0.15)
    manifest = data.manifest_of(first)
    manifest = replace(manifest, rows=tuple(replace(r, role="train") for r in manifest.rows))
    rows = [replace(r, role=role) if r.hash == hash_of(500) else r for r in manifest.rows]
    manifest = replace(manifest, rows=tuple(rows))
    new = [(7000 + i, "b", "", "g") for i in range(20)] + [(500, "a")]
    parted = data.split(dataset(new), known=manifest)
    assert len(getattr(parted, role)) == 21


def test_a_new_picture_that_bridges_two_roles_is_left_out():
    first = data.split(dataset(many(60)))
    held, trained = int(first.test[0]), int(first.train[0])
    rows = [
        (held, "ab"[held % 2], "", "bridge"),
        (trained, "ab"[trained % 2], "", "bridge"),
        (777, "a", "", "bridge"),
        (778, "a"),
    ]
    parted = data.split(dataset(rows), known=data.manifest_of(first))
    reasons = {item.path: item.reason for item in parted.quarantined}
    assert reasons["2.png"] == "leak: it bridges test and train"
    assert hash_of(777) not in role_of(parted)
    assert hash_of(778) in role_of(parted)


def test_a_new_picture_given_another_role_than_its_known_copy_is_left_out():
    first = data.split(dataset(many(60)))
    trained = int(first.train[3])
    rows = [(900, "a"), (901, "b"), (902, "b"), (trained, "ab"[trained % 2], "test")]
    parted = data.split(dataset(rows), known=data.manifest_of(first))
    assert "leak: it bridges test and train" in {item.reason for item in parted.quarantined}


def test_a_known_picture_under_a_new_label_is_a_conflict_unless_it_is_the_same_file():
    manifest = data.manifest_of(data.split(dataset(many(60))))
    elsewhere = data.split(dataset([(99, "b"), (0, "b")]), known=manifest)
    assert elsewhere.quarantined == (data.Quarantined("1.png", "conflicting labels a and b"),)
    corrected = data.split(dataset([(0, "b"), (99, "b")]), known=manifest)
    assert corrected.quarantined == ()
    assert role_of(corrected)[hash_of(0)] == role_of(data.split(dataset(many(60))))[hash_of(0)]


def full():
    rows = [*many(30, start=0), (500, "a", "", "g é\udcff")]
    manifest = data.manifest_of(data.split(dataset(rows)))
    manifest = replace(manifest, quarantined=(data.Quarantined("x\n\udce9", "leak"),))
    return data.opened(manifest, "2026-01-01T00:00:00Z", "sevenfold train a b")


def test_a_manifest_is_read_as_it_was_written():
    manifest = full()
    text = data.to_json(manifest)
    assert text.isascii()
    assert data.from_json(text) == manifest
    assert len(text.splitlines()) > len(manifest.rows)
    assert manifest.openings == (data.Opening("2026-01-01T00:00:00Z", "sevenfold train a b"),)
    assert data.from_json(data.to_json(data.EMPTY)) == data.EMPTY


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("sevenfold.data/1", "sevenfold.data/2"),
        ('"schema"', '"scheme"'),
        ('"rows"', '"lines"'),
        ('"source": "made up"', '"source": 3'),
        ('["a", "b"]', '["a", "a"]'),
        ('["a", "b"]', '["a"]'),
        ('["a", "b"]', '"ab"'),
        ('"train"', '"trian"'),
        ("[0.0, 0.0, 1.0, 1.0]", "[0.0, 0.0, 1.0]"),
        ("[0.0, 0.0, 1.0, 1.0]", "[0.0, 0.0, 1.0, NaN]"),
        ("[0.0, 0.0, 1.0, 1.0]", "[0.0, 0.0, 1.0, true]"),
        ("[0.0, 0.0, 1.0, 1.0]", "[0.0, -1, 1.0, 1.0]"),
        ("[0.0, 0.0, 1.0, 1.0]", "[0.0, 0.0, 1.0, 1" + "0" * 400 + "]"),
        (hash_of(0), hash_of(0)[:31] + "G"),
        (hash_of(0), hash_of(0) + "0"),
        ('"command"', '"time2"'),
        ('"leak"]', "null]"),
        ('"hash", "label"', '"label", "hash"'),
        ("}", ""),
        ("{\n", "{\n" + "[" * 100_000),
    ],
)
def test_a_damaged_manifest_is_refused_by_name(old, new):
    text = data.to_json(full())
    assert old in text
    with pytest.raises(ModelError, match=r"^RUN/data\.json: ") as caught:
        data.from_json(text.replace(old, new), name="RUN/data.json")
    assert caught.value.exit_code == 4
    assert len(caught.value.problem) < 400
    assert "\n" not in caught.value.problem


@pytest.mark.parametrize("text", ["", "null", "[]", "3", "{}", '"sevenfold.data/1"'])
def test_other_json_is_no_manifest(text):
    with pytest.raises(ModelError):
        data.from_json(text)


def test_one_picture_in_two_roles_is_a_damaged_manifest():
    manifest = full()
    twice = replace(manifest.rows[0], path="copy.png")
    twice = replace(twice, role="test" if twice.role == "train" else "train")
    with pytest.raises(ModelError, match="has two roles"):
        data.from_json(data.to_json(replace(manifest, rows=(*manifest.rows, twice))))


def test_every_beginning_of_a_manifest_is_refused():
    text = data.to_json(full())
    for length in range(0, len(text.rstrip()), 97):
        with pytest.raises(ModelError):
            data.from_json(text[:length])
