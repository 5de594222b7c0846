import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch

from photos import write
from sevenfold import data, draws, evaluate, loop, nets, train
from sevenfold.errors import DataError, UsageError
from sevenfold.features.pixels import Pixels, fill
from sevenfold.place import Place
from sevenfold.practices import ensembling, imbalance
from sevenfold.practices.augmentation import Augmentation
from sevenfold.practices.ensembling import Ensembling
from sevenfold.practices.imbalance import Imbalance
from sevenfold.progress import silent
from sevenfold.recipe import Recipe, apply
from sevenfold.rows import to_input
from sevenfold.train import bench, jobs, member, student
from sevenfold.train.jobs import jobs_of
from sevenfold.train.member import _effective_pictures
from sevenfold.train.refusals import fewest, refuse_folds


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("photos"), {"blue": 40, "green": 20, "red": 20})
    return data.split(data.read(str(folder)))


def test_the_objective_follows_the_imbalance(split):
    assert train.settle(Recipe(), split).objective == "balanced_accuracy"
    even = replace(split, train=_balanced(split))
    assert train.settle(Recipe(), even).objective == "accuracy"
    assert train.settle(Recipe(objective="accuracy"), split).objective == "accuracy"


def _balanced(split):
    labels = split.dataset.labels[split.train]
    least = np.bincount(labels).min()
    return np.sort(np.concatenate([split.train[labels == k][:least] for k in range(3)]))


def test_small_data_gets_small_batches_and_many_epochs(split):
    settled = train.settle(Recipe(), split)
    assert len(split.val) == 0
    assert settled.batch == 32
    assert settled.epochs == 60
    assert settled.views == 16


def test_effort_buys_epochs_and_views(split):
    many = replace(split, train=np.resize(split.train, 3000), val=split.test)
    quick, twice = (train.settle(Recipe(effort=effort), many) for effort in (1.0, 2.0))
    assert (quick.epochs, quick.views) == (5, 4)
    assert (twice.epochs, twice.views) == (9, 8)
    assert train.settle(Recipe(epochs=3, effort=2.0), many).epochs == 3


def test_what_is_never_changed_is_looked_at_once(split):
    bare = Recipe().without("augmentation")
    assert train.settle(bare, split).views == 1
    assert train.settle(replace(bare, views=3), split).views == 3


def test_what_is_given_is_kept(split):
    asked = Recipe(objective="accuracy", epochs=3, batch=8, views=2)
    assert train.settle(asked, split) == asked


def test_many_pictures_get_few_epochs_and_as_many_views_at_most(split):
    many = replace(split, train=np.resize(split.train, 20_000), val=split.test)
    settled = train.settle(Recipe(), many)
    assert settled.epochs == 4
    assert settled.views == 4
    assert settled.batch == 64


def _listed(rows):
    """Make a data set of (label, group) that reads no picture."""
    photos = [data.Photo(f"{at}.png", label, "", group) for at, (label, group) in enumerate(rows)]
    hashes = [f"{at:032x}" for at in range(len(rows))]
    classes = tuple(sorted({label for label, _ in rows}))
    labels = np.array([classes.index(label) for label, _ in rows])
    groups = data.merged_groups(photos, hashes)
    return data.Dataset(
        "made up", tuple(photos), tuple(hashes), labels, groups, classes, (), None,
        np.ones((len(rows), 2), np.int64),
    )  # fmt: skip


def test_a_class_that_one_fold_would_take_whole_is_refused_before_any_work():
    rows = [("a", "")] * 60 + [("b", "one place")] * 10
    dataset = _listed(rows)
    whole = data.Split(dataset, np.arange(70), np.zeros(0, int), np.zeros(0, int))
    with pytest.raises(DataError, match="class `b` go together"):
        refuse_folds(whole, whole.train)
    refuse_folds(whole, whole.train[:60])
    refuse_folds(replace(whole, train=np.arange(60), val=np.arange(60, 70)), np.arange(60))


def test_two_groups_of_a_class_are_left_to_small_data():
    rows = [("a", "")] * 60
    rows += [("b", "first")] * 17 + [("b", "second")] * 2 + [("b", "third")]
    found = data.split(_listed(rows))
    left = {found.dataset.groups[at] for at in found.train if found.dataset.labels[at]}
    assert len(left) == 2
    refuse_folds(found, found.train)


def test_a_rare_class_makes_the_mean_of_recalls_unsure():
    labels = np.repeat([0, 1], [150, 8])
    assert _effective_pictures(labels, "accuracy") == 158
    share = 0.7
    error = (share * (1 - share) / _effective_pictures(labels, "balanced_accuracy")) ** 0.5
    assert error == pytest.approx((share * (1 - share) * (1 / 150 + 1 / 8)) ** 0.5 / 2)


def test_a_method_that_a_fold_leaves_no_room_for_is_refused_before_any_work(split, tmp_path):
    labels = split.dataset.labels[split.train]
    some = [split.train[labels == 0], split.train[labels == 1], split.train[labels == 2][:11]]
    split = replace(split, train=np.sort(np.concatenate(some)))
    counts, least = np.array([len(one) for one in some]), fewest(split, split.train)
    assert (least < counts).all()
    assert (least >= counts * 0.6).all()
    recipe = Recipe(imbalance=Imbalance("undersampling"), batch=32)
    assert 3 * least.min() < recipe.batch <= 3 * counts.min()
    with pytest.raises(UsageError, match="fewer than a batch"):
        train.fit(
            recipe, split, seed=0, place=Place("cpu", 1), pixels=Pixels(32), folder=tmp_path,
            progress=silent,
        )  # fmt: skip


SMALL = apply(
    Recipe(),
    ("transfer.backbone=resnet20", "transfer.weights=random", "transfer.trainable_blocks=1000",
     "side=16", "epochs=1", "views=1", "batch=16", "ensembling.members=2"),
)  # fmt: skip


def test_members_over_pixels_draw_views_of_their_own(split, tmp_path):
    place, pixels = Place("cpu", 1), Pixels(20)
    fill(pixels, split.dataset, split.train, threads=1, progress=silent)
    recipe = train.settle(SMALL, split)
    first = bench.prepared(recipe, split, split.train, place, pixels, tmp_path, 0, silent)
    own, other = jobs_of(first, 0.1, 0, pixels)
    one, two = own.bench, other.bench
    assert one is first
    assert (other.rate, own.seed, other.seed) == (0.1, 0, 10_000)
    some, views = split.train[:4], np.zeros(4, np.int64)
    assert (one.views.get(some, views) != two.views.get(some, views)).any()
    alone = bench.prepared(recipe, split, split.train, place, pixels, tmp_path, 10_000, silent)
    assert (two.views.get(some, views) == alone.views.get(some, views)).all()


def test_members_of_another_cut_keep_the_rate_that_was_found_for_it(split, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "probe", lambda _bench, _seed, _trainings: (0.02, []))
    halves = replace(split, train=split.train[::2], val=split.train[1::2])
    made = _trained(halves, tmp_path, "ensembling.members=2", "ensembling.cuts=[3]")
    assert [one.rate for one in made.members] == [made.rate, 0.02]


@pytest.mark.parametrize(("batch", "probed"), [(16, 16), (64, 32), (90, 45)])
def test_the_rate_is_probed_on_small_batches(split, tmp_path, monkeypatch, batch, probed):
    place, pixels = Place("cpu", 1), Pixels(20)
    fill(pixels, split.dataset, split.train, threads=1, progress=silent)
    recipe = replace(train.settle(SMALL, split), batch=batch)
    made = bench.prepared(recipe, split, split.train, place, pixels, tmp_path, 0, silent)
    seen: list[tuple[int, int]] = []

    def brief(module, rows, optimizer, *, steps, seed, place):
        seen.append((rows.batch, steps))
        return 1.0

    monkeypatch.setattr(loop, "brief", brief)
    member.probe(made, 0)
    assert seen == [(probed, 12)] * 3


def test_a_student_and_its_teachers_are_shown_the_same(split, tmp_path, monkeypatch):
    shown = []
    forward = nets.Network.forward

    def seen(self, x):
        shown.append((torch.is_grad_enabled(), x.detach().clone()))
        return forward(self, x)

    monkeypatch.setattr(nets.Network, "forward", seen)
    recipe = replace(SMALL, ensembling=replace(SMALL.ensembling, distil=True))
    pixels = Pixels(20)
    fill(pixels, split.dataset, split.train, threads=1, progress=silent)
    place = Place("cpu", 1)
    train.fit(recipe, split, seed=0, place=place, pixels=pixels, folder=tmp_path, progress=silent)
    lessons = [
        (first, second, third)
        for (a, first), (b, second), (c, third) in zip(shown, shown[1:], shown[2:], strict=False)
        if (a, b, c) == (False, False, True) and len(first) == len(third)
    ]
    assert lessons
    for teacher, other, learner in lessons:
        torch.testing.assert_close(teacher, learner)
        torch.testing.assert_close(other, learner)


def _heads(network):
    return [id(one.head) for one in (*network.folds, network.network)]


def test_a_fold_learns_from_teachers_that_left_it_out_too(split, tmp_path, monkeypatch):
    asked = []
    forward = nets.Network.forward

    def seen(self, x):
        asked.append((torch.is_grad_enabled(), id(self.head)))
        return forward(self, x)

    monkeypatch.setattr(nets.Network, "forward", seen)
    recipe = replace(SMALL, ensembling=replace(SMALL.ensembling, distil=True))
    place, pixels = Place("cpu", 1), Pixels(20)
    fill(pixels, split.dataset, split.train, threads=1, progress=silent)
    made = train.fit(
        recipe, split, seed=0, place=place, pixels=pixels, folder=tmp_path, progress=silent
    )
    part = {head: at for one in made.members for at, head in enumerate(_heads(one))}
    own = {head: at for at, head in enumerate(_heads(made.student))}
    lessons = {
        (part[first], part[second], own[third])
        for (a, first), (b, second), (c, third) in zip(asked, asked[1:], asked[2:], strict=False)
        if (a, b, c) == (False, False, True) and first in part and third in own
    }
    assert lessons == {(at, at, at) for at in range(len(own))}


@pytest.mark.parametrize("blocks", [3, 1000])
def test_each_class_is_shown_its_own_views(split, tmp_path, blocks):
    place, pixels = Place("cpu", 1), Pixels(20)
    fill(pixels, split.dataset, split.train, threads=1, progress=silent)

    def rows(**changes):
        recipe = apply(SMALL, [f"transfer.trainable_blocks={blocks}"])
        recipe = replace(recipe, augmentation=replace(Augmentation.off, **changes))
        views = bench.prepared(
            train.settle(recipe, split), split, split.train, place, pixels, tmp_path, 0, silent
        ).views
        return views.get(split.train, np.zeros(len(split.train), np.int64)).astype(float)

    blue = split.dataset.labels[split.train] == 0
    own, plain, mirrored = rows(flip=1.0, class_off={"blue": "flip"}), rows(), rows(flip=1.0)
    np.testing.assert_allclose(own[blue], plain[blue], atol=1e-2)
    np.testing.assert_allclose(own[~blue], mirrored[~blue], atol=1e-2)
    assert abs(plain[blue] - mirrored[blue]).max() > 0.1


def _trained(split, folder, *settings):
    place, pixels = Place("cpu", 1), Pixels(20)
    fill(pixels, split.dataset, np.concatenate([split.train, split.val]), threads=1,
         progress=silent)  # fmt: skip
    recipe = apply(SMALL, ["ensembling.members=1", "optimization.rate=0.01", *settings])
    return train.fit(
        recipe, split, seed=0, place=place, pixels=pixels, folder=folder, progress=silent
    )


def test_a_method_against_the_objective_is_told_before_any_work(split, tmp_path):
    told = []

    def stopping(stage, done, total):
        told.append(stage)
        raise KeyboardInterrupt

    settings = ("objective=accuracy", "imbalance.method=class_weights")
    with pytest.raises(KeyboardInterrupt):
        train.fit(
            apply(SMALL, settings), split, seed=0, place=Place("cpu", 1), pixels=Pixels(20),
            folder=tmp_path, progress=stopping,
        )  # fmt: skip
    assert "costs accuracy, the objective" in told[0]


def test_rates_fall_from_pretrained_weights_alone():
    network, _ = bench.start(SMALL, 3, 0)
    mine = replace(SMALL, transfer=replace(SMALL.transfer, weights="mine.safetensors"))
    found = [
        {group["lr"] for group in member._optimizer(recipe, network, 0.1).param_groups}
        for recipe in (SMALL, mine)
    ]
    assert found[0] == {0.1}
    assert min(found[1]) == pytest.approx(0.1 * 0.9**11)


def test_on_balanced_data_auto_trains_the_very_network_that_none_does(split, tmp_path):
    rows = [np.flatnonzero(split.dataset.labels == label)[:14] for label in range(3)]
    even = replace(
        split,
        train=np.sort(np.concatenate([some[:10] for some in rows])),
        val=np.sort(np.concatenate([some[10:] for some in rows])),
        test=split.test[:0],
    )
    found = [
        _trained(even, tmp_path / method, f"imbalance.method={method}").members[0].network
        for method in ("auto", "none")
    ]
    states = [safetensors.torch.save(one.state_dict()) for one in found]
    assert states[0] == states[1]


@pytest.mark.parametrize("small", [False, True])
def test_logits_adjusted_afterwards_are_those_of_the_networks(split, tmp_path, small):
    halves = split if small else replace(split, train=split.train[::2], val=split.train[1::2])
    after = _trained(halves, tmp_path / "a", "imbalance.method=adjusted_after")
    free = _trained(halves, tmp_path / "b", "imbalance.method=none")
    (one,), (other,) = after.members, free.members
    counts = np.bincount(halves.dataset.labels[halves.train])
    np.testing.assert_allclose(
        one.logits,
        imbalance.adjusted(other.logits, counts, after.recipe.imbalance.factor),
        atol=1e-4,
    )
    place, pixels = Place("cpu", 1), Pixels(20)
    prepared = bench.prepared(
        after.recipe, halves, halves.train, place, pixels, tmp_path, 0, silent
    )
    networks = (*one.folds, one.network)
    for part, network in zip(bench.parts_of(prepared), networks, strict=True):
        if small and not part.name:
            continue  # it has seen all pictures
        said = loop.predict(network, prepared.plain, part.judged, place)
        places = np.searchsorted(prepared.judged, part.judged)
        np.testing.assert_allclose(said, one.logits[places], atol=1e-4)


@pytest.mark.parametrize(("method", "patience"), [("none", 3), ("deferred_weights", 5)])
def test_average_and_patience_are_shares_of_a_training(
    split, tmp_path, monkeypatch, method, patience
):
    told, real = [], loop.train

    def noted(*given, **named):
        told.append(named)
        return real(*given, **named)

    monkeypatch.setattr(loop, "train", noted)
    halves = replace(split, train=split.train[::2], val=split.train[1::2])
    settings = ("epochs=5", "optimization.average=0.2", f"imbalance.method={method}")
    made = _trained(halves, tmp_path, *settings)
    assert told[-1]["horizon"] == pytest.approx(0.2 * made.members[0].steps)
    assert told[-1]["stop"].patience == patience


def test_a_student_goes_on_from_the_average_gently(split, tmp_path, monkeypatch):
    halves = replace(split, train=split.train[::2], val=split.train[1::2])
    began, real = [], member.train_part

    def noted(bench, network, rows, part, rate, seed, saved):
        began.append((copy.deepcopy(network), rate, seed))
        return real(bench, network, rows, part, rate, seed, saved)

    monkeypatch.setattr(member, "train_part", noted)
    monkeypatch.setattr(student, "alike", lambda _: True)  # these start at random
    made = _trained(
        halves, tmp_path, "ensembling.members=2", "ensembling.distil=true",
        "imbalance.method=none",
    )  # fmt: skip
    weights = [one.network.head.weight for one in made.members]
    first, rate, seed = began[-1]
    torch.testing.assert_close(first.head.weight, (weights[0] + weights[1]) / 2)
    assert rate == pytest.approx(student.GENTLY * made.rate)
    assert made.student.rate == made.rate  # by which an update goes on
    assert [one[2] for one in began[:-1]] == [0, 10_000]
    assert seed == 20_000


def test_a_students_norms_keep_the_statistics_of_pictures(split, tmp_path, monkeypatch):
    """Those of the blends that it is shown would differ; lessons that come nearer are kept."""
    halves = replace(split, train=split.train[::2], val=split.train[1::2])
    monkeypatch.setattr(student, "alike", lambda _: True)  # these start at random
    # Of the student, and of the average that it started from.
    monkeypatch.setattr(student, "apart", lambda *_: [0.1, 0.2])
    monkeypatch.setattr(student, "_keeps", lambda *_: True)
    made = _trained(
        halves, tmp_path, "ensembling.members=2", "ensembling.distil=true",
        "imbalance.method=none",
    )  # fmt: skip
    networks = [one.network for one in made.members]
    middle = ensembling.averaged(networks, np.full(2, 0.5)).state_dict()
    taught = made.student.network.state_dict()
    assert made.lessons is None
    norms = [name for name in middle if "running" in name]
    assert norms
    for name in norms:
        torch.testing.assert_close(taught[name], middle[name])
    assert not torch.equal(taught["head.weight"], middle["head.weight"])


def test_a_taught_network_is_judged_by_how_far_it_is_from_the_vote(monkeypatch):
    random = np.random.default_rng(0)
    vote = random.normal(0, 2, (200, 3))
    labels = vote.argmax(axis=1)

    def said(noise: float, taught: bool) -> SimpleNamespace:
        logits = vote + random.normal(0, noise, vote.shape)
        return SimpleNamespace(logits=logits, trained=SimpleNamespace(history=(1,) * taught))

    ensemble = Ensembling(members=2)
    here = SimpleNamespace(labels=labels, recipe=SimpleNamespace(ensembling=ensemble))
    members, weights = [said(1.0, True), said(1.0, True)], np.full(2, 0.5)
    pooled = ensembling.pool(student.stacked(members), weights, "soft")
    same = SimpleNamespace(logits=pooled, trained=SimpleNamespace(history=(1,)))
    near, far = student.apart(here, members, weights, (same, members[0]))
    assert near == pytest.approx(0, abs=1e-12)
    assert far > 0
    assert student._keeps(here, members, weights, same)
    assert not student._keeps(here, members, weights, members[0])


def test_pruning_shows_new_views_in_blends_and_asks_the_unpruned_about_them(
    split, tmp_path, monkeypatch
):
    halves = replace(split, train=split.train[::2], val=split.train[1::2])
    shown, real = [], loop.train

    def noted(module, rows, *given, **named):
        shown.append(rows)
        return real(module, rows, *given, **named)

    monkeypatch.setattr(loop, "train", noted)
    monkeypatch.setattr(student, "_keeps", lambda *_: True)
    pruning = ("pruning.macs=0.3", "pruning.epochs=2", "pruning.controls=none")
    _trained(
        halves, tmp_path, "ensembling.cuts=[3]", "ensembling.members=2", "ensembling.select=true",
        "ensembling.average=true", "augmentation.mixup=0.5", "pruning.max_drop=0.99",
        "pruning.blocks=false", "pruning.ranking=l1", *pruning,
    )  # fmt: skip
    own, (one, two) = shown[0], shown[-2:]
    some = halves.train[:: len(halves.train) // 4][:4]  # of several classes

    def views(rows, view):
        return rows.views.get(some, np.full(len(some), view))

    assert (own.views.count, one.views.count, two.views.count) == (1, 0, 0)
    assert (one.first, two.first) == (0, 2)
    assert (views(own, 0) != views(one, 0)).any()
    # Half of what is learnt is the blend of labels, half what the teacher says of the blend.
    inputs = to_input(views(one, 0), "cpu")
    labels = torch.eye(3)[halves.dataset.labels[some]]
    numbers = draws.numbers([halves.dataset.hashes[at] for at in some])
    blended, targets = one.mix(inputs, labels, numbers, 0)
    assert (blended != inputs).any()
    assert targets.sum(dim=1).numpy() == pytest.approx(1, abs=1e-5)
    again, others = one.mix(inputs, 1 - labels, numbers, 0)
    assert torch.equal(again, blended)
    mixed, opposite = (2 * (targets - others), 2 * labels - 1)
    assert (mixed.abs() <= 1 + 1e-5).all()
    assert ((mixed - opposite).abs() > 1e-3).any()  # labels are blended, too


def _judged(logits):
    """Stand for an average, of which only its logits matter."""
    untaught = SimpleNamespace(history=())
    return SimpleNamespace(logits=np.asarray(logits, np.float64), trained=untaught)


def test_one_network_ships_for_the_vote_only_if_it_keeps_enough_of_the_gain():
    draw = np.random.default_rng(0)
    labels = np.arange(300) % 3
    truth = np.eye(3)[labels]
    members = tuple(_judged(2 * truth + draw.normal(0, 1.5, truth.shape)) for _ in range(3))
    weights = np.full(3, 1 / 3)
    there = SimpleNamespace(labels=labels, recipe=Recipe(ensembling=Ensembling(members=3)))
    vote = ensembling.pool(student.stacked(members), weights, "soft")

    assert student.deployed(there, members, weights, _judged(vote))[0][0].logits is vote
    mean, pooled = student._gained(there, members, weights)
    assert pooled < mean
    poor = _judged(2 * truth + draw.normal(0, 1.3, truth.shape))
    kept = (mean - evaluate.calibrated_nll(poor.logits, labels)) / (mean - pooled)
    assert 0 < kept < student.KEPT
    ships, shares = student.deployed(there, members, weights, poor)
    assert ships == members
    assert shares.tolist() == weights.tolist()


def test_members_without_a_say_do_not_ship_and_a_vote_that_gains_nothing_neither():
    labels = np.arange(300) % 3
    good, bad = _judged(4 * np.eye(3)[labels]), _judged(np.eye(3)[labels])
    there = SimpleNamespace(labels=labels, recipe=Recipe(ensembling=Ensembling(members=2)))
    ships, shares = student.deployed(there, (bad, good), np.array([0.0, 1.0]), None)
    assert ships == (good,)
    assert shares.tolist() == [1.0]
    worse = _judged(np.random.default_rng(0).normal(0, 1, (300, 3)))
    same = (good, good)
    ships, shares = student.deployed(there, same, np.full(2, 0.5), worse)
    assert ships == (good,)
    assert shares.tolist() == [1.0]
