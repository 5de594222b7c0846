import pytest
import torch
from torch import nn

from sevenfold import depthwise
from sevenfold.place import Place

BF16 = torch.bfloat16


def drawn(*shape: int, kind: torch.dtype = torch.float64) -> torch.Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=kind)
    return values.requires_grad_()


def gradients(maps, weight, bias=None, *, fast: bool, **how):
    """Return what a convolution gives, and its gradients by all that it was given."""
    with depthwise.Fast() if fast else torch.enable_grad():
        out = torch.conv2d(maps, weight, bias, groups=maps.shape[1], **how)
    given = [one for one in (maps, weight, bias) if one is not None]
    return out, *torch.autograd.grad((out * torch.arange(out.shape[-1])).square().sum(), given)


def ours(out: torch.Tensor) -> bool:
    """Tell whether the faster way made it."""
    return "_Depthwise" in type(out.grad_fn).__name__


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        ((5, 5), 1, 2),
        ((5, 5), 2, 2),
        ((7, 7), 1, 3),
        ((5, 5), 2, 0),
        ((7, 3), (1, 2), (3, 1)),
        ((1, 5), (3, 1), (0, 2)),
        ((4, 4), 3, 1),
    ],
)
def test_gradients_are_those_of_torch(kernel, stride, padding, with_bias, layout):
    maps = drawn(3, 6, 11, 9).detach().contiguous(memory_format=layout).requires_grad_()
    weight = drawn(6, 1, *kernel)
    bias = drawn(6) if with_bias else None
    how = {"stride": stride, "padding": padding}
    plain = gradients(maps, weight, bias, fast=False, **how)
    fast = gradients(maps, weight, bias, fast=True, **how)
    assert ours(fast[0])
    assert not ours(plain[0])
    assert torch.equal(plain[0], fast[0])
    for one, other in zip(plain, fast, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("side", "kernel", "stride"), [(8, 5, 1), (9, 5, 2), (2, 5, 1), (9, 3, 2)])
def test_in_half_precision_gradients_are_as_near_the_truth_as_those_of_torch(
    side, kernel, stride, layout
):
    maps = drawn(16, 32, side, side, kind=torch.float32).detach()
    maps = maps.contiguous(memory_format=layout).requires_grad_()
    weight = drawn(32, 1, kernel, kernel, kind=torch.float32)
    how = {"padding": kernel // 2, "stride": stride}
    true = gradients(maps.double(), weight.double(), fast=False, **how)[1:]

    def errors(fast: bool) -> list[float]:
        with torch.autocast("cpu", BF16):
            out, *found = gradients(maps, weight, fast=fast, **how)
        assert ours(out) is fast
        assert out.dtype == BF16
        assert {one.dtype for one in found} == {torch.float32}
        return [
            float((one - right).abs().max() / right.abs().max())
            for one, right in zip(found, true, strict=True)
        ]

    for mine, theirs in zip(errors(True), errors(False), strict=True):
        assert mine < 1.5 * theirs < 0.04


@pytest.mark.parametrize(
    ("channels", "weight", "how"),
    [
        (8, (8, 1, 3, 3), {"groups": 8}),
        (8, (16, 1, 5, 5), {"groups": 8}),
        (8, (8, 2, 5, 5), {"groups": 4}),
        (8, (8, 8, 5, 5), {}),
        (1, (1, 1, 5, 5), {"groups": 1}),
        (8, (8, 1, 5, 5), {"groups": 8, "dilation": 2}),
        (8, (8, 1, 5, 5), {"groups": 8, "padding": "same"}),
    ],
)
def test_other_convolutions_are_left_alone(channels, weight, how):
    with depthwise.Fast():
        out = torch.conv2d(drawn(2, channels, 12, 12), drawn(*weight), **how)
    assert not ours(out)


def test_tiny_maps_are_left_alone():
    with depthwise.Fast():
        out = torch.conv2d(drawn(2, 8, 2, 2), drawn(8, 1, 5, 5), padding=2, groups=8)
    assert not ours(out)


def test_in_half_precision_it_is_ours_where_kernels_step():
    maps, weight = (drawn(*shape, kind=torch.float32) for shape in ((2, 4, 9, 9), (4, 1, 3, 3)))
    for stride, half in ((2, True), (2, False), (1, True)):
        with torch.autocast("cpu", BF16, enabled=half), depthwise.Fast():
            out = torch.conv2d(maps, weight, padding=1, stride=stride, groups=4)
            rows = torch.conv2d(maps.detach(), weight, padding=1, stride=stride, groups=4)
        assert ours(out) is (half and stride == 2)
        assert not ours(rows)  # what asks for no gradient by its maps


def test_what_is_not_trained_is_left_alone():
    maps, weight = drawn(2, 4, 9, 9), drawn(4, 1, 5, 5)
    with depthwise.Fast():
        assert not ours(torch.conv2d(maps, weight.detach(), padding=2, groups=4))
        with torch.no_grad():
            assert torch.conv2d(maps, weight, padding=2, groups=4).grad_fn is None


def test_rows_that_ask_for_no_gradient_are_convolved_by_trained_kernels():
    maps, weight = drawn(2, 4, 9, 9), drawn(4, 1, 5, 5)
    found = []
    for rows in (maps, maps.detach()):
        with depthwise.Fast():
            out = torch.conv2d(input=rows, weight=weight, padding=[2], groups=4)
        assert ours(out)
        found.append(torch.autograd.grad(out.square().sum(), weight)[0])
    assert torch.equal(*found)


def test_a_bias_in_half_precision_is_rounded_as_torch_does():
    maps, weight, bias = (
        drawn(*shape, kind=torch.float32) for shape in ((4, 8, 9, 9), (8, 1, 7, 7), (8,))
    )
    with torch.autocast("cpu", BF16):
        plain = gradients(maps, weight, bias, fast=False, padding=3)
        fast = gradients(maps, weight, bias, fast=True, padding=3)
    assert torch.equal(plain[0], fast[0])
    assert torch.equal(plain[1], fast[1])
    torch.testing.assert_close(plain[3], fast[3], rtol=0.01, atol=0.01)


def test_where_channels_lie_last_it_is_halved_too():
    module = nn.Conv2d(4, 4, 5, padding=2, groups=4)
    rows = torch.rand(2, 4, 8, 8).to(memory_format=torch.channels_last)
    with Place(half=True).forward(module):
        out = module(rows)
    assert ours(out)
    assert out.dtype == BF16
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_a_gradient_of_the_gradient_is_refused_rather_than_wrong():
    with depthwise.Fast():
        out = torch.conv2d(drawn(2, 4, 9, 9), weight := drawn(4, 1, 5, 5), padding=2, groups=4)
    (first,) = torch.autograd.grad(out.square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        first.sum().backward()


@pytest.mark.parametrize("half", [False, True])
def test_trainings_take_the_faster_way(half):
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 5, padding=2, groups=4))
    with Place(half=half).forward(module):
        assert ours(module(torch.rand(2, 3, 8, 8)))
    assert not ours(module(torch.rand(2, 3, 8, 8)))
