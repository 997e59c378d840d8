"""Moments against their definitions."""

import pytest
import torch

from s4m_sb.network.fused import moments as module
from s4m_sb.network.fused.moments import Moments, channel_moments, masked

LENGTHS = [1, 2, 700] + [module.BLOCK_FRAMES + i for i in (-1, 0, 1, 1500)]


def frame_mask(*num_frames, length, dtype=torch.float64):
    frames = torch.arange(length)
    mask = frames < torch.tensor(num_frames)[:, None]
    return mask.to(dtype).unsqueeze(-1)


@pytest.mark.parametrize("length", LENGTHS)
def test_moments_are_mean_and_variance(length):
    x = 3 * torch.randn(2, length, 5, dtype=torch.float64) + 1
    before = x.clone()
    moments = channel_moments(x)
    var, mean = torch.var_mean(x, 1, keepdim=True, unbiased=False)
    # float64 sums in another order
    torch.testing.assert_close(moments.mean, mean, atol=1e-13, rtol=0)
    torch.testing.assert_close(moments.var, var, atol=1e-12, rtol=0)
    assert torch.equal(x, before)


@pytest.mark.parametrize("length", LENGTHS)
def test_masked_moments_are_those_of_the_part_that_counts(length):
    x = torch.randn(3, length, 5, dtype=torch.float64)
    num_frames = (length, 1, (length + 1) // 2)
    mask = frame_mask(*num_frames, length=length)
    moments = channel_moments(x, mask)
    for item, frames in enumerate(num_frames):
        alone = channel_moments(x[item : item + 1, :frames])
        for ours, expected in zip(moments, alone, strict=True):
            # float64 sums in another order
            torch.testing.assert_close(
                ours[item], expected[0], atol=1e-13, rtol=0
            )


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_of_moments(masked, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_FRAMES", 4)  # blocks of 4, 4 and 3
    x = torch.randn(2, 11, 3, dtype=torch.float64, requires_grad=True)
    mask = frame_mask(11, 6, length=11) if masked else None
    assert torch.autograd.gradcheck(lambda x: channel_moments(x, mask), [x])


def test_gradient_through_one_of_the_moments_alone():
    x = torch.randn(2, 11, 3, dtype=torch.float64, requires_grad=True)
    expected = torch.var_mean(x, 1, keepdim=True, unbiased=False)
    for ours, theirs in zip(channel_moments(x), expected[::-1], strict=True):
        (a,) = torch.autograd.grad(ours.square().sum(), x, retain_graph=True)
        (b,) = torch.autograd.grad(theirs.square().sum(), x, retain_graph=True)
        torch.testing.assert_close(a, b, atol=1e-13, rtol=0)  # float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype):
    x = (torch.randn(1, 5000, 2) + 4).to(dtype)
    moments = channel_moments(x)
    exact = channel_moments(x.double())
    assert moments.mean.dtype == moments.var.dtype == torch.float32
    # float32 sums of 5000 values
    torch.testing.assert_close(
        moments.mean.double(), exact.mean, atol=0, rtol=1e-6
    )
    torch.testing.assert_close(
        moments.var.double(), exact.var, atol=0, rtol=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_counted_in_float32(dtype):
    # bfloat16 counts 2003 frames as 2000, float16 no more than 65504.
    x = torch.randn(1, 70000, 2).to(dtype) + 4
    mask = torch.ones(1, 70000, 1, dtype=dtype)
    mask[:, 66003:] = 0
    for ours, alone in zip(
        channel_moments(x, mask), channel_moments(x[:, :66003]), strict=True
    ):
        # float32 sums of 66000 values in another order
        torch.testing.assert_close(ours, alone, atol=0, rtol=1e-5)


def test_half_precision_is_kept_for_the_gradient_as_it_is():
    x = torch.randn(1, 100, 2).bfloat16().requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        kept.append, lambda part: part
    ):
        channel_moments(x)
    assert [part.dtype for part in kept if part.numel() == x.numel()] == [
        x.dtype
    ]


def test_moments_follow_a_rescaled_signal():
    x = torch.randn(2, 50, 3, dtype=torch.float64)
    scale, shift = torch.randn(2, 1, 3).double(), torch.randn(3).double()
    ours = channel_moments(x).rescaled(scale, shift)
    expected = channel_moments(x * scale + shift)
    assert isinstance(ours, Moments)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-13, rtol=0)  # float64


def test_moments_follow_a_signal_that_is_scaled_alone():
    x = torch.randn(2, 50, 3, dtype=torch.float64, requires_grad=True)
    scale = torch.randn(1, 1, 3, dtype=torch.float64, requires_grad=True)
    ours = channel_moments(x).rescaled(scale, None)
    for a, b in zip(ours, channel_moments(x * scale), strict=True):
        torch.testing.assert_close(a, b, atol=1e-13, rtol=0)  # float64
        mine = torch.autograd.grad(a.sum(), [x, scale], retain_graph=True)
        right = torch.autograd.grad(b.sum(), [x, scale], retain_graph=True)
        torch.testing.assert_close(mine, right, atol=1e-12, rtol=0)


def test_a_large_offset_costs_no_digits_of_the_variance():
    x = 1000 + torch.randn(1, 8000, 4)
    exact = channel_moments(x.double())
    moments = channel_moments(x)
    # float32 holds values near 1000 in steps of 6e-5; the mean of squares
    # less the square of the mean would be off by 0.05
    torch.testing.assert_close(
        moments.mean.double(), exact.mean, atol=0, rtol=3e-7
    )
    # and the mean of a block of frames is rounded to such a step.
    torch.testing.assert_close(
        moments.var.double(), exact.var, atol=0, rtol=3e-5
    )


def test_frames_that_do_not_count_are_zeros():
    x = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    mask = frame_mask(5, 2, length=5)
    y = masked(x, mask)
    assert torch.equal(y, x * mask) and masked(x, None) is x
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(grad, mask.expand_as(x))
