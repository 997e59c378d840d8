"""The global norm against its definition."""

import naive
import pytest
import torch
import torch.nn.functional as F

from s4m_sb.network.fused.deferred import Deferred
from s4m_sb.network.norm import GlobalNorm

LENGTHS = [1, 2, 700, 1023, 1024, 1025, 2524]  # moments take blocks of 1024


def normed(layer, x, mask=None):
    return layer(Deferred(x, mask)).read()


def frame_mask(*num_frames, length, dtype=torch.float64):
    frames = torch.arange(length)
    mask = frames < torch.tensor(num_frames)[:, None]
    return mask.to(dtype).unsqueeze(-1)


def trained_norm(num_channels):
    layer = GlobalNorm(num_channels).double()
    with torch.no_grad():
        layer.weight.uniform_(-2, 2)
        layer.bias.normal_()
    return layer


@pytest.mark.parametrize("length", LENGTHS)
def test_global_norm_is_its_definition(length):
    layer = trained_norm(5)
    x = (2 * torch.randn(3, length, 5).double() + 1).requires_grad_()
    weights = torch.randn(3, length, 5).double()
    results = []
    for y in (
        normed(layer, x),
        naive.global_norm(x.transpose(1, 2), layer).transpose(1, 2),
        F.group_norm(
            x.transpose(1, 2), 1, layer.weight, layer.bias, layer.eps
        ).transpose(1, 2),
    ):
        gradients = torch.autograd.grad(
            (y * weights).sum(), [x, layer.weight, layer.bias]
        )
        results.append([y, *gradients])
    for other in results[1:]:
        for ours, expected in zip(results[0], other, strict=True):
            # float64 sums of up to 3500 values
            torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)


@torch.no_grad()
def test_masked_global_norm_is_that_of_the_part_that_counts():
    layer = trained_norm(5)
    x = torch.randn(2, 40, 5, dtype=torch.float64)
    y = normed(layer, x, frame_mask(40, 17, length=40))
    for item, frames in enumerate((40, 17)):
        alone = normed(layer, x[item : item + 1, :frames])
        torch.testing.assert_close(
            y[item, :frames],
            alone[0],
            atol=1e-12,
            rtol=0,  # float64
        )


def test_silence_stays_finite():
    layer = GlobalNorm(3)
    x = torch.zeros(1, 20, 3, requires_grad=True)
    y = normed(layer, x)
    y.sum().backward()
    assert torch.equal(y, torch.zeros_like(y))
    assert x.grad.isfinite().all()


def test_reset_sets_scale_and_bias():
    layer = trained_norm(4)
    layer.reset_parameters()
    assert torch.equal(layer.weight, torch.ones(4).double())
    assert torch.equal(layer.bias, torch.zeros(4).double())


def test_a_large_offset_costs_few_digits():
    x = 1000 + torch.randn(1, 8000, 4)
    exact = normed(GlobalNorm(4).double(), x.double())
    # a value of 1000 has steps of 6e-5, and the shift has them too
    torch.testing.assert_close(
        normed(GlobalNorm(4), x).double(), exact, atol=5e-4, rtol=0
    )
