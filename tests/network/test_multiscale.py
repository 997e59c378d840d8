"""The multi-scale block against its drawing."""

import naive
import pytest
import torch
from torch import nn

from s4m_sb.errors import InputError
from s4m_sb.network.multiscale import MultiScaleBlock
from s4m_sb.network.norm import GlobalNorm


def signal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def trained(module):
    """The module in float64, its norms no longer the identity."""
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, GlobalNorm | nn.LayerNorm):
                part.weight.uniform_(0.5, 2)
                part.bias.normal_()
    return module.double()


@pytest.mark.parametrize("num_scales", [1, 2, 3, 5])
@pytest.mark.parametrize("kernel", ["s4", "s4d"])
@pytest.mark.parametrize("s4_per_scale", [False, True])
@pytest.mark.parametrize("topdown_start", ["coarsest", "published"])
def test_block_is_its_drawing(num_scales, kernel, s4_per_scale, topdown_start):
    block = trained(
        MultiScaleBlock(
            d_model=4,
            d_hidden=6,
            num_scales=num_scales,
            d_state=4,
            kernel=kernel,
            s4_per_scale=s4_per_scale,
            topdown_start=topdown_start,
        )
    )
    coarsest = num_scales - 1
    start = coarsest
    if topdown_start == "published" and num_scales > 2:
        start = num_scales - 3
    length = 3 * block.coarsest_stride
    x = signal(2, length, 4)
    spectra = block.spectra(length)
    assert len(spectra) == (num_scales if s4_per_scale else 1)
    expected = naive.multi_scale_block(x.mT, block, start).mT
    # float64 through some twenty norms
    torch.testing.assert_close(block(x, spectra), expected, atol=1e-11, rtol=0)


@pytest.mark.parametrize("topdown_start", ["coarsest", "published"])
def test_every_parameter_of_a_block_is_used(topdown_start):
    block = MultiScaleBlock(
        8, 16, 4, s4_per_scale=True, topdown_start=topdown_start
    )
    x = torch.randn(2, 32, 8)
    (block(x, block.spectra(32)) * torch.randn(2, 32, 8)).sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    # The published code owns one fusion more and never reads it.
    assert len(block.fusions) == (4 if topdown_start == "coarsest" else 3)


@torch.no_grad()
def test_masked_frames_change_nothing():
    block = trained(MultiScaleBlock(4, 6, 3, s4_per_scale=True))
    x = signal(1, 32, 4)
    mask = (torch.arange(32) < 20).double()[None, :, None]
    # Finite noise: the mask network replaces what is not.
    x[:, 20:] = 10 * signal(1, 12, 4)
    ours = block(x, block.spectra(32), mask)[:, :20]
    alone = block(x[:, :20], block.spectra(20))
    torch.testing.assert_close(ours, alone, atol=1e-11, rtol=0)  # float64


@pytest.mark.parametrize(
    "values, message",
    [
        ({"d_model": 0}, "d_model must be at least 1, got 0"),
        ({"d_hidden": -1}, "d_hidden must be at least 1, got -1"),
        ({"num_scales": 0}, "num_scales must be at least 1, got 0"),
        ({"d_state": 5}, "d_state must be even and positive, got 5"),
        ({"kernel": "lstm"}, "kernel must be one of s4, s4d, got 'lstm'"),
        ({"ff_expand": 0}, "expand must be at least 1, got 0"),
        ({"topdown_start": "top"}, "topdown_start must be .* got 'top'"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(InputError, match=message):
        MultiScaleBlock(**{"d_model": 4, "d_hidden": 4, **values})
