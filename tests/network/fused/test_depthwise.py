"""The depthwise convolution is PyTorch's, with gradients of its own."""

import pytest
import torch
import torch.nn.functional as F

from s4m_sb.errors import InputError
from s4m_sb.network.fused.deferred import Deferred
from s4m_sb.network.fused.depthwise import BLOCK_FRAMES, DepthwiseConv

SHAPES = [(5, 1, 9), (5, 2, 8), (5, 2, 9), (3, 2, 7), (1, 1, 4), (5, 1, 1)]
SHAPES += [(5, 3, 11), (3, 3, 10), (1, 2, 8), (5, 2, 1), (5, 2, 2)]


def conv1d(x, conv):
    """The same with `torch.nn.functional.conv1d`."""
    left = right = conv.kernel_size // 2
    if conv.padding == "left":
        left, right = 2 * left, 0
    y = F.conv1d(
        F.pad(x.transpose(1, 2), (left, right)),
        conv.weight,
        conv.bias,
        stride=conv.stride,
        groups=x.shape[2],
    )
    return y.transpose(1, 2)


def filtered(conv, x):
    return conv(Deferred(x)).read()


@pytest.mark.parametrize("padding", ["both", "left"])
@pytest.mark.parametrize("taps, stride, length", SHAPES)
def test_equals_conv1d(taps, stride, length, padding):
    conv = DepthwiseConv(3, taps, stride, padding=padding).double()
    x = torch.randn(2, length, 3, dtype=torch.float64, requires_grad=True)
    parameters = [x, conv.weight, conv.bias]
    ours, theirs = filtered(conv, x), conv1d(x, conv)
    with torch.no_grad():
        assert torch.equal(filtered(conv, x), ours)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)  # float64
    weights = torch.randn_like(ours)
    for mine, right in zip(
        torch.autograd.grad(ours, parameters, weights),
        torch.autograd.grad(theirs, parameters, weights),
        strict=True,
    ):
        torch.testing.assert_close(mine, right, rtol=0, atol=1e-13)  # float64


def test_gradient_of_more_than_one_block():
    length = 2 * BLOCK_FRAMES + 3
    conv = DepthwiseConv(2, 5, stride=2).double()
    x = torch.randn(2, 2 * length, 2, dtype=torch.float64)
    grads = [
        torch.autograd.grad(y.square().sum(), conv.weight)[0]
        for y in (filtered(conv, x), conv1d(x, conv))
    ]
    # float64 sums of 2000 products
    torch.testing.assert_close(*grads, rtol=1e-12, atol=0)


def test_trains_under_autocast():
    conv = DepthwiseConv(8, 5)
    x = torch.randn(2, 50, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = filtered(conv, x)
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    half = [p.grad.clone() for p in (x, conv.weight, conv.bias)]
    for p in (x, conv.weight, conv.bias):
        p.grad = None
    filtered(conv, x).square().sum().backward()
    for mine, right in zip(half, (x, conv.weight, conv.bias), strict=True):
        assert mine.dtype == torch.float32
        # bfloat16 keeps 8 bits; the largest of some 100 roundings
        error = (mine - right.grad).abs().max() / right.grad.abs().max()
        assert error < 0.03


def test_a_gradient_of_half_precision_is_summed_in_float32():
    conv = DepthwiseConv(1, 5)
    with torch.autocast("cpu", torch.bfloat16):
        filtered(conv, torch.randn(1, 1003, 1)).sum().backward()
    # bfloat16 has 1000 and 1004 and none between
    assert conv.bias.grad.item() == 1003


def test_weights_are_drawn_as_those_of_conv1d():
    torch.manual_seed(3)
    ours = DepthwiseConv(4, 5).state_dict()
    torch.manual_seed(3)
    theirs = torch.nn.Conv1d(4, 4, 5, groups=4).state_dict()
    # names, shapes and, but for the rounding of the bound, values
    torch.testing.assert_close(ours, dict(theirs))


def test_only_needed_gradients_are_computed():
    conv = DepthwiseConv(3, 5, bias=False)
    filtered(conv, torch.randn(1, 10, 3)).sum().backward()
    assert conv.weight.grad.shape == (3, 1, 5)


@pytest.mark.parametrize("taps", [0, 2, -1])
def test_bad_sizes_are_named(taps):
    with pytest.raises(InputError, match=str(taps)):
        DepthwiseConv(3, taps)


def test_an_unknown_padding_is_named():
    with pytest.raises(InputError, match="both or left, got 'right'"):
        DepthwiseConv(3, 5, padding="right")
