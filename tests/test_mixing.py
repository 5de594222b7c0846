import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, kstest

from sevenfold.errors import UsageError
from sevenfold.practices.augmentation import Augmentation, mixer
from sevenfold.rows import unmixed

OFF = Augmentation.off
MIXUP = Augmentation(mixup=0.4)
CUTMIX = Augmentation(cutmix=1.0)
BOTH = Augmentation(mixup=0.4, cutmix=1.0)


def numbers(batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, batch, dtype=np.uint64)


def flat(batch: int, channels: int = 3, height: int = 32, width: int = 32) -> torch.Tensor:
    """Make pictures that hold their own number everywhere."""
    return torch.arange(float(batch)).view(-1, 1, 1, 1).expand(batch, channels, height, width)


def test_a_box_needs_rows_and_columns():
    tokens = torch.zeros(4, 17, 8)
    mixer(MIXUP, 0)(tokens, torch.eye(4), numbers(4), 0)
    for boxes in (CUTMIX, BOTH):
        with pytest.raises(UsageError, match="no rows and columns"):
            mixer(boxes, 0)(tokens, torch.eye(4), numbers(4), 0)


def test_off_costs_nothing():
    assert mixer(OFF, 0) is unmixed
    assert mixer(Augmentation(), 3) is unmixed
    inputs, targets = flat(4), torch.eye(4)
    found = unmixed(inputs, targets, numbers(4), 0)
    assert found[0] is inputs
    assert found[1] is targets


@pytest.mark.parametrize("which", [MIXUP, CUTMIX, BOTH])
def test_inputs_and_targets_are_mixed_alike(which):
    batch = 64
    inputs, targets = mixer(which, 0)(flat(batch), torch.eye(batch), numbers(batch), 0)
    places = torch.arange(batch)
    following = (places + 1) % batch
    own, partner = targets[places, places], targets[places, following]
    torch.testing.assert_close(own + partner, torch.ones(batch))
    expected = own * places + partner * following
    torch.testing.assert_close(inputs.mean(dim=(1, 2, 3)), expected, atol=1e-4, rtol=1e-4)


def test_mixup_blends_every_pixel_alike():
    inputs, _ = mixer(MIXUP, 0)(flat(8), torch.eye(8), numbers(8), 0)
    assert inputs.flatten(1).std(dim=1).max() < 1e-6


def test_cutmix_pastes_one_box():
    inputs, targets = mixer(CUTMIX, 0)(flat(64), torch.eye(64), numbers(64), 0)
    boxes = 0
    for place, picture in enumerate(inputs):
        other = picture[0] != place
        assert (picture == picture[0]).all()
        assert set(picture.unique().tolist()) <= {place, (place + 1) % 64}
        rows, columns = other.any(1).nonzero(), other.any(0).nonzero()
        if len(rows):
            boxes += 1
            assert other[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
        assert targets[place, place] == pytest.approx(1 - other.float().mean().item(), abs=1e-6)
    assert boxes > 50


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_follow_their_beta(alpha):
    batch = 4000
    mix = mixer(Augmentation(mixup=alpha), 0)
    _, targets = mix(flat(batch, 1, 1, 1), torch.eye(2)[torch.arange(batch) % 2], numbers(batch), 0)
    own = targets[torch.arange(batch), torch.arange(batch) % 2].numpy()
    assert kstest(own, beta(alpha, alpha).cdf).pvalue > 0.001


def test_both_take_turns_by_draw():
    batch = 1000
    inputs, _ = mixer(BOTH, 0)(flat(batch, 1, 8, 8), torch.eye(batch), numbers(batch), 0)
    whole = (inputs == inputs.round()).flatten(1).all(dim=1)
    assert whole.float().mean() == pytest.approx(0.5, abs=0.06)


def test_a_pictures_share_depends_on_seed_epoch_and_picture_alone():
    names, eye = numbers(6), torch.eye(6)

    def share(seed: int, epoch: int, order: list[int]) -> list[float]:
        mix = mixer(MIXUP, seed)
        _, targets = mix(flat(6), eye[order], names[order], epoch)
        return [targets[order.index(place), place].item() for place in range(6)]

    first = share(0, 0, [0, 1, 2, 3, 4, 5])
    assert share(0, 0, [0, 1, 2, 3, 4, 5]) == first
    assert share(0, 0, [4, 2, 0, 5, 1, 3]) == first
    assert share(1, 0, [0, 1, 2, 3, 4, 5]) != first
    assert share(0, 1, [0, 1, 2, 3, 4, 5]) != first


@given(
    st.integers(1, 5),
    st.integers(1, 4),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.floats(0.05, 10),
    st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=40, deadline=None)
def test_any_activations_keep_shape_type_and_range(batch, channels, size, alpha, kind):
    inputs = flat(batch, channels, *size).to(kind)
    before = inputs.clone()
    mix = mixer(Augmentation(mixup=alpha, cutmix=alpha), 0)
    found, targets = mix(inputs, torch.eye(batch, dtype=kind), numbers(batch), 2)
    assert found.shape == inputs.shape
    assert found.dtype == targets.dtype == kind
    assert found.min() >= -1e-6
    assert found.max() <= batch - 1 + 1e-6
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(batch, dtype=kind))
    assert (targets >= 0).all()
    torch.testing.assert_close(inputs, before)
