"""Check new labels, the gate, and the head that grows: what needs no run."""

import copy
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sevenfold import data, nets
from sevenfold.data.joined import joined
from sevenfold.errors import UsageError
from sevenfold.update import gate, incoming, path, tuning
from sevenfold.update.agreement import agreement, least_of, reason
from sevenfold.update.asked import relabelling

CLASSES = ("cat", "cow", "dog")
LEAST = {"all": 0.88, "cat": 0.8, "cow": 0.8, "dog": 0.8}
MISTAKES = np.array([[54, 6, 0], [0, 54, 6], [6, 0, 54]])  # what `answers` says where it is wrong


def answers(labels: np.ndarray, right: float, seed: int, classes: int = 3) -> np.ndarray:
    """Answer as labelled with this chance, otherwise one of the others."""
    draw = np.random.default_rng(seed)
    said = np.where(draw.random(len(labels)) < right, labels, (labels + 1) % classes)
    return 0.1 + 0.7 * np.eye(classes)[said]


def names(count: int) -> list[str]:
    return [str(at) for at in range(count)]


def test_honest_labels_are_believed_even_if_they_are_harder():
    labels = np.arange(90) % 3
    passed = 0
    for seed in range(100):
        found = agreement(answers(labels, 0.85, seed), labels, names(90), CLASSES, LEAST, MISTAKES)
        passed += not found.failed
    assert passed >= 90


def test_two_classes_that_changed_places_are_found_and_named():
    truth = np.arange(60) % 3
    labels = np.array([2, 1, 0])[truth]
    caught = 0
    for seed in range(40):
        found = agreement(answers(truth, 0.9, seed), labels, names(60), CLASSES, LEAST, MISTAKES)
        caught += bool(found.failed) and found.permutation == {"cat": "dog", "dog": "cat"}
    assert caught >= 38
    problem, cure = reason(found)
    assert "changed places" in problem
    assert "--relabel 'cat=dog' --relabel 'dog=cat'" in cure


def test_classes_that_changed_places_are_found_by_few_pictures_together():
    truth = np.array([1] * 40 + [0] * 3 + [2] * 3)
    labels = np.array([2, 1, 0])[truth]
    found = agreement(answers(truth, 1.0, 0), labels, names(46), CLASSES, LEAST, MISTAKES)
    assert {one.name for one in found.failed} == {"cat and dog"}


def test_few_pictures_tell_that_classes_changed_places_to_a_weak_model_too():
    weak = dict.fromkeys(LEAST, 0.45)
    mistakes = np.array([[36, 24, 0], [0, 60, 0], [0, 24, 36]])
    truth = np.array([1] * 60 + [0] * 12 + [2] * 12)
    labels = np.array([2, 1, 0])[truth]
    caught = 0
    for seed in range(40):
        said = np.where(np.random.default_rng(seed).random(84) < 0.6, truth, 1)
        shares = 0.1 + 0.7 * np.eye(3)[said]
        shares /= shares.sum(axis=1, keepdims=True)
        found = agreement(shares, labels, names(84), CLASSES, weak, mistakes)
        caught += bool(found.failed)
    assert caught >= 36
    problem, cure = reason(found)
    assert "takes" in problem
    assert "cat and dog for one another" in problem
    assert "--relabel 'cat=dog'" in cure


def test_classes_that_are_honestly_taken_for_one_another_are_believed():
    # Half of the dogs look like cats, on test as in the new pictures.
    least = {"all": 0.7, "cat": 0.8, "cow": 0.8, "dog": 0.4}
    mistakes = np.array([[40, 0, 0], [0, 40, 0], [20, 0, 20]])
    truth = np.array([0] * 20 + [1] * 20 + [2] * 20)
    refused = 0
    for seed in range(200):
        said = np.where(truth == 2, 2 * (np.random.default_rng(seed).random(60) < 0.5), truth)
        shares = 0.1 + 0.7 * np.eye(3)[said]
        refused += bool(agreement(shares, truth, names(60), CLASSES, least, mistakes).failed)
    assert refused <= 10


def test_one_class_of_wrong_labels_is_found_among_many_right_ones():
    truth = np.concatenate([np.zeros(90, int), np.ones(90, int), np.zeros(12, int)])
    labels = np.concatenate([truth[:180], np.full(12, 2)])
    found = agreement(answers(truth, 0.95, 0), labels, names(192), CLASSES, LEAST, MISTAKES)
    assert [one.name for one in found.failed] == ["dog"]
    assert found.permutation == {}
    assert "new pictures of dog" in reason(found)[0]


def test_a_burst_of_frames_counts_as_one_picture():
    labels = np.zeros(20, int)
    wrong = answers(labels + 1, 1.0, 0)
    assert agreement(wrong, labels, names(20), CLASSES, LEAST, MISTAKES).failed
    assert not agreement(wrong, labels, ["burst"] * 20, CLASSES, LEAST, MISTAKES).failed


def test_hard_pictures_of_which_the_model_is_unsure_are_believed():
    labels = np.arange(60) % 3
    wrong = 1 + np.arange(60) // 3 % 2  # each of the others as often
    said = 0.1 + 0.7 * np.eye(3)[np.where(np.arange(60) % 2, labels, (labels + wrong) % 3)]
    assert agreement(said, labels, names(60), CLASSES, LEAST, MISTAKES).failed
    unsure = 0.3 + 0.1 * said / said.sum(axis=1, keepdims=True)
    assert not agreement(unsure, labels, names(60), CLASSES, LEAST, MISTAKES).failed


def test_least_is_read_from_a_report_under_the_names_that_hold_now():
    test = {
        "accuracy": {"low": 0.9},
        "classes": [
            {"label": "a", "recall": {"low": 0.7}},
            {"label": "b", "recall": {"low": None}},
        ],
    }
    assert least_of(test, {"a": "c"}) == {"all": 0.9, "c": 0.7, "b": 0.0}


def compared(before: np.ndarray, after: np.ndarray, labels: np.ndarray, **names: str):
    groups = [str(at) for at in range(len(labels))]
    objective = names.get("objective", "accuracy")
    return gate.compared("version 1", before, after, labels, groups, CLASSES, objective)


def test_the_gate_refuses_a_drop_above_a_point_whatever_the_test_says():
    labels = np.arange(300) % 3
    before = np.ones(300, bool)
    after = before.copy()
    after[:4] = False
    found = compared(before, after, labels)
    assert found.drop == pytest.approx(4 / 300)
    assert found.p == pytest.approx(1 / 16)
    assert [text[:12] for text in found.reasons] == ["its score is"]
    assert found.most_lost > found.drop
    after[3] = True
    assert compared(before, after, labels).reasons == ()


def test_the_gate_refuses_evidence_of_harm_below_a_point():
    labels = np.arange(3000) % 3
    before = np.ones(3000, bool)
    after = before.copy()
    after[:20] = False
    found = compared(before, after, labels)
    assert found.drop < gate.DROP
    assert "it is worse than version 1: 20 answers got wrong and 0 right" in found.reasons[0]


def test_a_class_vetoes_only_with_enough_pictures():
    labels = np.array([0] * 500 + [1] * 60 + [2] * 59)
    before = np.ones(619, bool)
    before[:20] = False
    for label, vetoes in ((1, True), (2, False)):
        after = np.ones(619, bool)
        after[np.flatnonzero(labels == label)[:12]] = False
        found = compared(before, after, labels)
        assert found.drop < 0
        assert bool(found.reasons) == vetoes
        assert bool(found.warnings) != vetoes


def test_the_drop_is_of_the_objective():
    labels = np.array([0] * 280 + [1] * 20)
    before = np.ones(300, bool)
    after = before.copy()
    after[-1] = False
    found = compared(before, after, labels, objective="balanced_accuracy")
    assert found.drop == pytest.approx(0.025)
    assert found.reasons


def test_harm_is_the_exact_half_of_mcnemar_and_groups_weaken_it():
    before, after = np.ones(40, bool), np.ones(40, bool)
    after[:8] = False
    alone = gate.harm(before, after, names(40))
    assert alone == pytest.approx(2.0**-8)
    assert gate.harm(before, after, [str(at // 8) for at in range(40)]) == 0.5
    pair = [str(max(at, 1)) for at in range(40)]  # two of the eight are copies
    assert gate.harm(before, after, pair) == pytest.approx(2.0**-7)
    after[10:12], before[10:12] = True, False
    enough = sum(math.comb(10, k) for k in range(8, 11)) / 2**10
    assert gate.harm(before, after, names(40)) == pytest.approx(enough)
    assert gate.harm(before, before, names(40)) == 1.0


def test_a_gate_of_equal_candidates_hardly_ever_speaks_of_harm():
    draw, refused = np.random.default_rng(0), 0
    for _ in range(200):
        before, after = draw.random((2, 600)) < 0.9
        refused += gate.harm(before, after, names(600)) < gate.LEVEL
    assert refused <= 200 * 0.05 + 3 * math.sqrt(200 * 0.05 * 0.95)


def test_what_does_not_move_on_the_way_stays_to_the_bit():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    begun = path.weights(network)
    with torch.no_grad():
        network[0].bias += 1
    ended = path.weights(network)
    for way in path.WAYS:
        path.put(network, begun, ended, way)
        assert torch.equal(network[0].weight, begun["0.weight"])
        assert torch.allclose(network[0].bias, begun["0.bias"] + way)
    assert torch.equal(network[0].bias, ended["0.bias"])


def test_the_shortest_way_is_taken_that_is_as_good_as_the_best():
    labels = np.arange(60) % 3
    right = np.eye(3)[labels]
    wrong = np.eye(3)[(labels + (np.arange(60) % 5 == 0)) % 3]
    assert path.shortest(np.stack([right, right, right, right]), labels) == 0
    assert path.shortest(np.stack([wrong, wrong, right, right]), labels) == 2
    assert path.shortest(np.stack([wrong, right, wrong, wrong]), labels) == 1
    assert path.shortest(np.zeros((4, 0, 3)), labels[:0]) == 3


def to_train(hashes: list[str], labels: np.ndarray) -> data.Split:
    """Make a split of pictures that are all trained on, each a group."""
    photos = [data.Photo(f"{at}.png", CLASSES[label]) for at, label in enumerate(labels)]
    listing = data.Listing("x", tuple(photos), data.FolderSource(Path("x"), "x"))
    prints = [data.Fingerprint(name, 8, 8) for name in hashes]
    dataset = data.assemble(listing, prints)
    none = np.zeros(0, np.int64)
    return data.Split(dataset, np.arange(len(labels)), none, none, ())


def numbered(count: int) -> list[str]:
    return [f"{at * 2654435761 % 2**64:032x}"[::-1] for at in range(1, count + 1)]


@pytest.mark.parametrize(("known", "new", "drawn"), [(3000, 300, 1200), (3000, 5, 1000)])
def test_an_epoch_shows_all_that_is_new_and_a_part_of_what_is_old(known, new, drawn):
    pictures = np.arange(known + new)
    fresh, hashes = pictures >= known, numbered(known + new)
    labels = pictures % 2
    shown = tuning.replayed(to_train(hashes, labels), pictures, fresh, 0)
    assert np.isin(pictures[fresh], shown).all()
    assert len(shown) == len(set(shown.tolist())) == new + drawn
    assert (np.diff(shown) > 0).all()
    again = np.random.default_rng(1).permutation(known + new)
    moved = to_train([hashes[at] for at in again], labels[again])
    found = tuning.replayed(moved, pictures, fresh[again], 0)
    assert {hashes[at] for at in again[found]} == {hashes[at] for at in shown}
    assert not np.array_equal(tuning.replayed(to_train(hashes, labels), pictures, fresh, 1), shown)
    halves = (shown < known / 2).sum() / drawn  # the first half of the old pictures
    assert 0.45 < halves < 0.55


def test_no_class_is_left_out_of_the_replay():
    labels = np.where(np.arange(20_000) < 6, 1, 0)
    split = to_train(numbered(20_000), labels)
    shown = tuning.replayed(split, split.train, np.arange(20_000) >= 19_990, 0)
    assert 1 <= (labels[shown] == 1).sum() <= 6
    assert len(shown) == pytest.approx(1010, abs=2)


def test_where_little_is_known_all_of_it_is_replayed():
    pictures, fresh = np.arange(700), np.arange(700) % 7 == 0
    shown = tuning.replayed(to_train(numbered(700), pictures % 2), pictures, fresh, 0)
    assert (shown == pictures).all()


def test_a_grown_head_answers_as_before_among_the_old_classes():
    network = nets.small("resnet20", 3).eval()
    torch.nn.init.normal_(network.head.bias)
    larger = tuning.grown(network, 2).eval()
    pixels = torch.rand(2, 3, 32, 32) * 255
    with torch.no_grad():
        old, new = network(pixels), larger(pixels)
    torch.testing.assert_close(new[:, :3], old)
    torch.testing.assert_close(new[:, 3:], old.mean(dim=1, keepdim=True).expand(-1, 2))
    assert larger.head.out_features == 5
    same = tuning.grown(network, 0)
    assert same is not network
    assert copy.deepcopy(network).head.weight.equal(same.head.weight)


def known_and_new(known, new, folder) -> tuple[list, dict[str, str]]:
    """Link new photos to known ones; return the links and the roles that follow from them."""
    roles = [role for _, role in known]

    def dataset(photos, numbers):
        hashes = [f"{at:032x}" for at in numbers]
        prints = [data.Fingerprint(name, 8, 8) for name in hashes]
        listing = data.Listing("x", tuple(photos), data.FolderSource(folder, str(folder)))
        return data.assemble(listing, prints, classes=["a"])

    old = dataset([photo for photo, _ in known], range(len(known)))
    rows = tuple(
        data.Row(photo.path, content, "a", role, photo.group, photo.box)
        for photo, content, role in zip(old.photos, old.hashes, roles, strict=True)
    )
    manifest = data.Manifest("x", ("a",), rows)
    fresh = dataset([photo for photo, _ in new], [number for _, number in new])
    fresh_at = {at for at, (_, number) in enumerate(new) if number >= len(known)}
    links = incoming._links(old, manifest, fresh, fresh_at, 1)
    photos = [
        dataclasses.replace(photo, path=data.prefixed(photo.path, 1))
        for at, photo in enumerate(fresh.photos)
        if at in fresh_at
    ]
    hashes = [fresh.hashes[at] for at in sorted(fresh_at)]
    prints = [data.Fingerprint(name, 8, 8) for name in (*old.hashes, *hashes)]
    both = data.assemble(
        data.Listing("x", (*old.photos, *photos), old.source), prints, classes=["a"]
    )
    known_rows = dataclasses.replace(manifest, rows=(*rows, *links))
    parted = data.split(both, known=known_rows)
    named = {
        both.photos[at].path: role
        for role in ("train", "val", "test")
        for at in getattr(parted, role).tolist()
    }
    return links, named


def test_a_group_that_new_data_makes_of_known_pictures_keeps_their_role(tmp_path):
    known = [(data.Photo(f"{at}.png", "a"), "test" if at == 3 else "train") for at in range(8)]
    seen = dataclasses.replace(known[3][0], group="ann")
    frames = [(data.Photo(f"new{at}.png", "a", group="ann"), 100 + at) for at in range(12)]
    links, roles = known_and_new(known, [(seen, 3), *frames], tmp_path)
    assert [(row.group, row.role) for row in links] == [("ann", "test")]
    assert {roles[f"added:1:new{at}.png"] for at in range(12)} == {"test"}


def test_another_part_of_a_known_photo_has_its_role(tmp_path):
    left, right = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 0.5, 1.0)
    known = [
        (data.Photo(f"{at}.png", "a", box=left), "test" if at % 2 else "train") for at in range(8)
    ]
    new = [(data.Photo(f"{at}.png", "a", box=right), 100 + at) for at in range(8)]
    _, roles = known_and_new(known, new, tmp_path)
    assert all(roles[f"added:1:{at}.png"] == roles[f"{at}.png"] for at in range(8))


def test_pairs_of_names_are_read_or_refused():
    assert relabelling(["kat=cat", " a = b "]) == {"kat": "cat", "a": "b"}
    for wrong in (["cat"], ["cat="], ["cat=cat"], ["a=b", "a=c"]):
        with pytest.raises(UsageError, match="--relabel"):
            relabelling(wrong)


def test_joined_listings_read_each_photo_where_it_lies():
    class Named:
        def __init__(self, name: str) -> None:
            self.location = name

        def load(self, photo: data.Photo) -> bytes:
            return f"{self.location}/{photo.path}".encode()

    def listing(name: str, path: str) -> data.Listing:
        return data.Listing(name, (data.Photo(path, "a"),), Named(name))

    for one in ("a/1.png", "added:1:a/1.png"):
        found = joined([listing("x", one), listing("y", one)])
        read = [found.source.load(photo).decode() for photo in found.photos]
        assert read == [f"x/{one}", f"y/{one}"]
        assert len({photo.path for photo in found.photos}) == 2


def test_what_was_left_out_stays_told_and_a_known_picture_joins_its_group(tmp_path):
    source = data.FolderSource(tmp_path, str(tmp_path))

    def dataset(photos, numbers, left_out):
        prints = [data.Fingerprint(f"{at:032x}", 8, 8) for at in numbers]
        return data.assemble(
            data.Listing("x", tuple(photos), source, left_out), prints, classes=["a"]
        )

    old = dataset([data.Photo("0.png", "a"), data.Photo("1.png", "a")], [0, 1], ())
    rows = tuple(
        data.Row(photo.path, content, "a", "train")
        for photo, content in zip(old.photos, old.hashes, strict=True)
    )
    manifest = data.Manifest("x", ("a",), rows, quarantined=(data.Quarantined("b.png", "torn"),))
    frames = [data.Photo("again.png", "a", group="ann"), data.Photo("2.png", "a", group="ann")]
    fresh = dataset(frames, [1, 2], (data.Quarantined("c.png", "empty"),))
    both = incoming._joined(old, fresh, [1], manifest, ("a",), 1, [source, source])
    assert len(set(both.groups)) == 2
    assert both.groups[1] == both.groups[2] == "ann"
    assert [(one.path, one.reason) for one in both.quarantined] == [
        ("b.png", "torn"),
        ("added:1:c.png", "empty"),
    ]
