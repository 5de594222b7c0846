import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from sevenfold import loop
from sevenfold.average import Average
from sevenfold.loop import Epoch, Measured, Stop
from sevenfold.place import Place
from sevenfold.practices.augmentation import Augmentation, mixer
from sevenfold.progress import silent
from sevenfold.rows import Rows, Stage, batches, to_input

CLASSES = 3
PATIENT = Stop("accuracy", 4)
HERE = Place()


@dataclass(frozen=True)
class Fixed:
    """Hand out rows that are a pure function of picture and view, and note what was asked."""

    count: int
    asked: list[tuple[int, int]]

    def get(self, pictures: np.ndarray, views: np.ndarray) -> np.ndarray:
        self.asked.extend(zip(pictures.tolist(), views.tolist(), strict=True))
        rows = [
            np.random.default_rng([picture, view]).normal(picture % CLASSES, 1, (4, 5, 5))
            for picture, view in zip(pictures, views, strict=True)
        ]
        return np.stack(rows).astype(np.float16)


def rows(pictures: int = 24, batch: int = 8, count: int = 4) -> Rows:
    numbers = np.random.default_rng(9).integers(0, 2**63, pictures).astype(np.uint64)
    labels = torch.arange(pictures) % CLASSES
    targets = nn.functional.one_hot(labels, CLASSES).float()
    stage = Stage(np.arange(pictures), np.ones(CLASSES), np.zeros(CLASSES))
    return Rows(
        Fixed(count, []), lambda _: stage, numbers, labels.numpy(), lambda some, _: targets[some],
        batch,
    )  # fmt: skip


def module() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(54, CLASSES),
    )  # fmt: skip


def optimizer(name: str, made: nn.Module) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(made.parameters(), lr=0.05, momentum=0.9)
    return torch.optim.AdamW(made.parameters(), lr=0.01)


def digest(made: nn.Module) -> str:
    state = hashlib.sha256()
    for name, value in made.state_dict().items():
        state.update(name.encode() + value.numpy().tobytes())
    return state.hexdigest()


def measure(made: nn.Module) -> Measured:
    logits = loop.predict(made, Fixed(1, []), np.arange(100, 130), Place())
    labels = np.arange(100, 130) % CLASSES
    accuracy = float((logits.argmax(axis=1) == labels).mean())
    return Measured(float(-logits[np.arange(30), labels].mean()), accuracy, accuracy)


def trained(
    saved: Path,
    *,
    name: str = "adamw",
    epochs: int = 4,
    stop: Stop = PATIENT,
    validate: Callable[[nn.Module], Measured] = measure,
    progress: Callable[[str, int, int], None] = silent,
    made: nn.Module | None = None,
    place: Place = HERE,
    horizon: float = 4,
) -> tuple[nn.Module, loop.Trained]:
    made = made or module()
    moved = optimizer(name, made)
    given = rows()
    schedule = LambdaLR(moved, lambda step: 1 - step / (epochs * given.steps(0) + 1))
    found = loop.train(
        made,
        given,
        moved,
        schedule,
        epochs=epochs,
        horizon=horizon,
        stop=stop,
        validate=validate,
        seed=3,
        place=place,
        saved=saved,
        progress=progress,
    )
    return made, found


def lines(found: loop.Trained) -> list[loop.Epoch]:
    return [replace(line, seconds=0) for line in found.history]


class Kill(BaseException):
    """Stand for a kill: nothing may catch it."""


def killing(at: int) -> Callable[[str, int, int], None]:
    def progress(_stage: str, done: int, _total: int) -> None:
        if done == at:
            raise Kill

    return progress


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_run_goes_on_from_a_step_within_an_epoch(tmp_path, monkeypatch, name):
    whole, history = trained(tmp_path / "whole", name=name)
    monkeypatch.setattr(loop, "SAVED_WITHIN", 0.0)
    taken = []
    real = loop._step
    monkeypatch.setattr(loop, "_step", lambda *given: taken.append(0) or real(*given))
    for step in range(1, 13):
        with pytest.raises(Kill):
            trained(tmp_path / "a", name=name, progress=killing(step))
        torch.manual_seed(step)
    resumed, found = trained(tmp_path / "a", name=name)
    assert digest(resumed) == digest(whole)
    assert lines(found) == lines(history)
    assert len(taken) == 12  # each step once: no kill lost one


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_resumed_run_equals_one_never_stopped(tmp_path, name):
    whole, history = trained(tmp_path / "whole", name=name)
    assert len(history.history) == 4
    for step in range(13):  # three steps in each of four epochs, and the end
        saved = tmp_path / f"{step}"
        with pytest.raises(Kill):
            trained(saved, name=name, progress=killing(step))
        assert saved.exists() == (step > 3)  # the third call comes before the first save
        torch.manual_seed(step)  # what ran before must not matter
        resumed, found = trained(saved, name=name)
        assert digest(resumed) == digest(whole), step
        assert lines(found) == lines(history)


def test_a_run_killed_after_each_epoch_is_the_same(tmp_path):
    whole, _ = trained(tmp_path / "whole")
    for step in (3, 6, 9):
        with pytest.raises(Kill):
            trained(tmp_path / "a", progress=killing(step))
    resumed, _ = trained(tmp_path / "a")
    assert digest(resumed) == digest(whole)


def test_a_slow_disk_is_written_to_less_often(tmp_path, monkeypatch):
    now, saves = [0.0], []

    def slow(_path, tree):
        saves.append(len(tree["history"]))
        now[0] += 1.0

    def validate(made: nn.Module) -> Measured:
        now[0] += 10.0
        return measure(made)

    monkeypatch.setattr(loop, "SAVED_EVERY", 3.0)
    monkeypatch.setattr(loop.checkpoint, "save", slow)
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    trained(tmp_path / "a", epochs=8, validate=validate, stop=Stop("accuracy", 0))
    assert saves == [1, 4, 7, 8]  # thirty times as long as a checkpoint took lies between two


def test_short_epochs_are_saved_at_the_end_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVED_EVERY", 1000.0)
    whole, _ = trained(tmp_path / "whole")
    saves, real = [], loop.checkpoint.save

    def counted(path, tree):
        saves.append(tree["ended"])
        real(path, tree)

    monkeypatch.setattr(loop.checkpoint, "save", counted)
    again, _ = trained(tmp_path / "again")
    assert digest(again) == digest(whole)
    assert saves == [True]


def test_a_finished_run_is_not_trained_again(tmp_path):
    whole, history = trained(tmp_path / "a")
    again, found = trained(tmp_path / "a", progress=killing(-1), validate=lambda _: 1 / 0)
    assert digest(again) == digest(whole)
    assert found == history


def test_training_learns(tmp_path):
    before = measure(module().eval()).accuracy
    made, found = trained(tmp_path / "a", epochs=12)
    assert measure(made).accuracy > max(0.7, before)
    assert found.history[-1].loss < found.history[0].loss
    assert not made.training


def test_the_best_epoch_is_kept_and_patience_ends_the_search(tmp_path):
    scores = iter([0.3, 0.5, 0.4, 0.5, 0.2, 0.9])
    states: list[str] = []

    def validate(made: nn.Module) -> Measured:
        states.append(digest(made))
        return Measured(1.0, next(scores), 0.0)

    made, found = trained(tmp_path / "a", epochs=6, stop=Stop("accuracy", 3), validate=validate)
    assert [line.val_accuracy for line in found.history] == [0.3, 0.5, 0.4, 0.5, 0.2]
    assert found.best_epoch == 1
    assert found.stopped_early
    assert digest(made) == states[1]


def test_the_objective_chooses_and_the_loss_breaks_ties(tmp_path):
    seen = iter([Measured(1.0, 0.9, 0.4), Measured(0.5, 0.1, 0.6), Measured(0.4, 0.2, 0.6)])
    _, found = trained(
        tmp_path / "a", epochs=3, stop=Stop("balanced_accuracy", 3), validate=lambda _: next(seen)
    )
    assert found.best_epoch == 2
    assert not found.stopped_early


def _epochs(*accuracies: float) -> list[Epoch]:
    return [
        Epoch(number, 1.0, 0.1, 1.0, 1.0 - number / 100, accuracy, accuracy)
        for number, accuracy in enumerate(accuracies)
    ]


def test_a_later_epoch_within_one_standard_error_is_kept():
    history = _epochs(0.80, 0.90, 0.88, 0.85)
    assert Stop("accuracy", 3).kept(history).epoch == 1
    assert Stop("accuracy", 3, pictures=100).kept(history).epoch == 2  # the error is 0.03
    assert Stop("accuracy", 3, pictures=10).kept(history).epoch == 3
    assert Stop("accuracy", 0, pictures=10).kept(history).epoch == 3


def test_without_patience_the_last_epoch_counts(tmp_path):
    scores = iter([0.9, 0.5, 0.1])
    _, found = trained(
        tmp_path / "a",
        epochs=3,
        stop=Stop("accuracy", 0),
        validate=lambda _: Measured(1.0, next(scores), 0.0),
    )
    assert found.best_epoch == 2
    assert len(found.history) == 3


def test_validation_sees_the_averaged_weights_and_training_goes_on_with_its_own(tmp_path):
    seen: list[str] = []
    validate = lambda made: (seen.append(digest(made)), measure(made))[1]  # noqa: E731
    made, _ = trained(tmp_path / "a", validate=validate, stop=Stop("accuracy", 0))
    assert digest(made) == seen[-1]
    one, other = (
        trained(tmp_path / f"{horizon}", horizon=horizon, stop=Stop("accuracy", 0))[1]
        for horizon in (2.0, 8.0)
    )
    assert [line.loss for line in one.history] == [line.loss for line in other.history]
    assert [line.val_loss for line in one.history] != [line.val_loss for line in other.history]


def test_views_that_never_end_begin_where_they_are_told():
    given = rows(count=0)
    for first in (0, 6):
        later = replace(given, views=Fixed(0, []), first=first)
        for epoch in (0, 1):
            later.views.asked.clear()
            list(batches(later, 3, epoch))
            assert {view for _, view in later.views.asked} == {first + epoch}


def test_every_step_drops_other_units(tmp_path, monkeypatch):
    seeds: list[int] = []
    real = torch.manual_seed
    made = module()
    monkeypatch.setattr(torch, "manual_seed", lambda seed: (seeds.append(seed), real(seed))[1])
    _, found = trained(tmp_path / "a", made=made)
    assert len(seeds) == len(set(seeds)) == 3 * len(found.history)


def test_the_average_follows_its_formula():
    layer = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(0.0)
    average = Average(layer, horizon=4)
    expected = 0.0
    for step in range(1, 30):
        with torch.no_grad():
            layer.weight.fill_(float(step))
        average.update(layer)
        decay = min((1 + step) / (10 + step), 1 - 1 / 4)
        expected = decay * expected + (1 - decay) * step
        assert average.tensors["weight"].item() == pytest.approx(expected, rel=1e-5)


def test_a_horizon_of_one_keeps_the_weights_themselves():
    made = module()
    average = Average(made, horizon=0.0)
    with torch.no_grad():
        for value in made.parameters():
            value.add_(0.1234)
    made[1].num_batches_tracked += 7
    average.update(made)
    assert all(torch.equal(average.tensors[k], v) for k, v in made.state_dict().items())


def test_the_average_does_not_share_memory_with_the_module():
    made = module()
    average = Average(made, horizon=10)
    start = average.tensors["0.weight"].clone()
    with torch.no_grad():
        made[0].weight.zero_()
    assert torch.equal(average.tensors["0.weight"], start)


def listed(given: Rows, seed: int, epoch: int) -> list[tuple[bytes, bytes]]:
    return [(x.tobytes(), t.numpy().tobytes()) for x, t, _ in batches(given, seed, epoch)]


def test_batches_are_pure():
    given = rows()
    first = listed(given, 3, 1)
    listed(given, 3, 2)
    torch.manual_seed(1)
    assert listed(given, 3, 1) == first
    assert listed(given, 3, 2) != first
    assert listed(given, 4, 1) != first


def test_batches_do_not_depend_on_the_order_of_the_pictures():
    given = rows()
    stage = replace(given.stages(0), pictures=np.random.default_rng(0).permutation(24))
    mixed = replace(given, stages=lambda _: stage)
    assert listed(mixed, 0, 0) == listed(given, 0, 0)


def test_every_picture_goes_through_every_view():
    given = rows(count=4)
    for epoch in range(4):
        given.views.asked.clear()
        listed(given, 0, epoch)
        assert sorted(picture for picture, _ in given.views.asked) == list(range(24))
    seen = Fixed(4, [])
    for epoch in range(4):
        listed(replace(given, views=seen), 0, epoch)
    assert len(set(seen.asked)) == 24 * 4
    first = replace(given, views=Fixed(4, []))
    listed(first, 0, 0)
    assert len({view for _, view in first.views.asked}) > 1  # starts differ


def test_where_views_never_end_the_epoch_is_the_view():
    given = rows(count=0)
    listed(given, 0, 7)
    assert {view for _, view in given.views.asked} == {7}


@pytest.mark.parametrize(
    ("pictures", "sizes"), [(9, [4, 4]), (10, [4, 4, 2]), (8, [4, 4]), (3, [3]), (5, [4])]
)
def test_a_last_batch_of_one_picture_is_left_out(pictures, sizes):
    given = rows(pictures, batch=4)
    assert given.steps(0) == len(sizes)
    assert [len(targets) for _, targets, _ in batches(given, 0, 0)] == sizes


def drawn(given: Rows, **changes: object) -> Rows:
    stage = replace(given.stages(0), **changes)
    return replace(given, stages=lambda _: stage)


@pytest.mark.parametrize("count", [0, 4])
def test_repeats_are_apart_and_see_other_views_only_when_asked(count):
    twice = np.concatenate([np.arange(24), np.arange(6)])
    same = drawn(rows(count=count), pictures=twice)
    listed(same, 0, 2)
    asked = same.views.asked
    assert sorted(picture for picture, _ in asked) == sorted(twice.tolist())
    assert len(set(asked)) == 24
    order = [picture for picture, _ in asked]
    assert sum(a == b for a, b in pairwise(order)) < 3
    fresh = drawn(rows(count=count), pictures=twice, fresh=True)
    listed(fresh, 0, 2)
    assert len(set(fresh.views.asked)) == 30


def test_each_repeat_of_a_picture_has_a_number_of_its_own():
    given = rows()
    plain = np.concatenate([numbers for *_, numbers in batches(given, 0, 2)])
    assert sorted(plain.tolist()) == sorted(given.numbers.tolist())
    thrice = drawn(given, pictures=np.concatenate([np.arange(24), [5, 5]]))
    found = np.concatenate([numbers for *_, numbers in batches(thrice, 0, 2)])
    assert len(set(found.tolist())) == 26
    # What is drawn once, and the first of repeats, are as they are without any.
    assert set(plain.tolist()) < set(found.tolist())
    mix = mixer(Augmentation(mixup=1.0), 0)
    _, mixed = mix(torch.zeros(26, 1, 1, 1), torch.eye(26), found, 2)
    shares = mixed.diagonal()[~np.isin(found, np.delete(plain, plain == given.numbers[5]))]
    assert len(set(shares.tolist())) == len(shares) == 3


def test_weights_scale_the_targets_of_a_class():
    given = rows()
    plain = np.concatenate([t.numpy() for _, t, _ in batches(given, 0, 0)])
    heavy = drawn(given, weights=np.array([1.0, 3.0, 0.5]))
    found = np.concatenate([t.numpy() for _, t, _ in batches(heavy, 0, 0)])
    np.testing.assert_allclose(found, plain * np.array([1.0, 3.0, 0.5])[plain.argmax(axis=1), None])


def test_an_offset_moves_the_logits_inside_the_loss_alone():
    def first_loss(offset: list[float]) -> float:
        made = module()
        made[-1].weight.data.zero_()
        made[-1].bias.data.zero_()
        still = torch.optim.SGD(made.parameters(), lr=0.0)
        given = drawn(rows(), offset=np.array(offset))
        return loop.brief(made, given, still, steps=1, seed=0, place=Place())

    assert first_loss([0.0, 0.0, 0.0]) == pytest.approx(math.log(3))
    shifted = torch.log_softmax(torch.tensor([2.0, 0.0, 0.0]), dim=0)
    share = next(iter(batches(rows(), 0, 0)))[1].numpy().mean(axis=0)
    assert first_loss([2.0, 0.0, 0.0]) == pytest.approx(-float(shifted.numpy() @ share), abs=1e-5)


def test_a_mix_blends_inputs_and_targets():
    seen = []

    def mix(inputs, targets, numbers, epoch):
        seen.append((len(inputs), numbers.tolist(), epoch))
        return inputs.flip(0), targets.flip(0)

    made = module()
    given = replace(rows(), mix=mix)
    loop.brief(made, given, optimizer("sgd", made), steps=4, seed=0, place=Place())
    assert [epoch for _, _, epoch in seen] == [0, 0, 0, 1]
    assert sorted(n for _, some, epoch in seen if not epoch for n in some) == sorted(
        given.numbers.tolist()
    )


def test_cross_entropy_takes_soft_targets():
    logits = torch.randn(6, CLASSES, generator=torch.Generator().manual_seed(0))
    soft = torch.softmax(torch.arange(18.0).reshape(6, 3).sin(), dim=1)
    torch.testing.assert_close(
        loop.cross_entropy(logits, soft), nn.functional.cross_entropy(logits, soft)
    )


def test_predictions_do_not_depend_on_company_or_mode():
    made = module()
    made.train()
    views = Fixed(3, [])
    whole = loop.predict(made, views, np.arange(150), Place())
    assert whole.shape == (150, CLASSES)
    assert {view for _, view in views.asked} == {0}
    alone = loop.predict(made, views, np.array([149]), Place())
    np.testing.assert_allclose(whole[-1:], alone, atol=1e-5)


def test_bytes_become_channels_first():
    picture = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    found = to_input(picture, "cpu")
    assert found.shape == (2, 3, 4, 5)
    assert found.dtype == torch.float32
    assert found[1, 2, 3, 4] == picture[1, 3, 4, 2]


def test_a_brief_training_takes_its_steps_and_says_when_it_fails():
    made = module()
    moved = optimizer("sgd", made)
    steps: list[float] = []
    moved.register_step_post_hook(lambda used, *_: steps.append(used.param_groups[0]["lr"]))
    loss = loop.brief(made, rows(), moved, steps=7, seed=0, place=Place())
    assert len(steps) == 7
    assert 0 < steps[-1] < max(steps) <= 0.05
    assert math.isfinite(loss)
    again = module()
    assert loop.brief(
        again, rows(), optimizer("sgd", again), steps=7, seed=0, place=Place()
    ) == pytest.approx(loss, abs=0)
    wild = module()
    moved = torch.optim.SGD(wild.parameters(), lr=1e30)
    assert loop.brief(wild, rows(), moved, steps=7, seed=0, place=Place()) == math.inf


def test_half_precision_trains_too(tmp_path):
    made, found = trained(tmp_path / "a", place=Place(half=True))
    assert all(math.isfinite(line.loss) for line in found.history)
    assert made[0].weight.dtype == torch.float32
