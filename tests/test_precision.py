import pytest
import torch
from torch import nn

from sevenfold import precision

LAST = torch.channels_last


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=4))


def seen(network, inputs, **asked):
    """Return the kinds of number that each layer gives, and what comes out."""
    kinds = []
    hooks = [one.register_forward_hook(lambda *io: kinds.append(io[2].dtype)) for one in network]
    with precision.half(network, "cpu", **asked):
        found = network(inputs)
    for hook in hooks:
        hook.remove()
    return kinds, found


def test_convolutions_of_groups_run_in_full_where_channels_lie_last(network):
    inputs = torch.rand(2, 8, 4, 4)
    last = inputs.to(memory_format=LAST)
    assert seen(network, last, enabled=True)[0] == [torch.bfloat16, torch.float32]
    assert seen(network, inputs, enabled=True)[0] == [torch.bfloat16, torch.bfloat16]
    assert seen(network, last, enabled=False)[0] == [torch.float32, torch.float32]


def test_what_follows_a_convolution_of_groups_is_halved_again(network):
    longer = nn.Sequential(*network, nn.Conv2d(8, 8, 1))
    inputs = torch.rand(2, 8, 4, 4).to(memory_format=LAST)
    kinds, found = seen(longer, inputs, enabled=True)
    assert kinds == [torch.bfloat16, torch.float32, torch.bfloat16]
    assert not torch.is_autocast_enabled("cpu")
    with torch.no_grad():
        assert found.float() == pytest.approx(longer(inputs), abs=0.02)


def test_a_failure_leaves_nothing_behind(network):
    with (
        pytest.raises(ValueError, match="stop"),
        precision.half(network, "cpu", enabled=True),
    ):
        raise ValueError("stop")
    assert not network[1]._forward_hooks
    assert not network[1]._forward_pre_hooks
    assert not torch.is_autocast_enabled("cpu")


def test_where_each_channel_has_its_kernel_it_is_halved_too():
    network = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8))
    inputs = torch.rand(2, 8, 4, 4).to(memory_format=LAST)
    assert seen(network, inputs, enabled=True)[0] == [torch.bfloat16, torch.bfloat16]
