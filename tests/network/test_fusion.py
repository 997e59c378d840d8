"""A fusion and its normed convolutions against their equations."""

import naive
import pytest
import torch

from s4m_sb.network.fused.deferred import Deferred
from s4m_sb.network.fusion import Fusion, NormedConv
from s4m_sb.network.norm import GlobalNorm


def signal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def trained(module):
    """The module in float64, its norms no longer the identity."""
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, GlobalNorm):
                part.weight.uniform_(0.5, 2)
                part.bias.normal_()
    return module.double()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "kernel_size, stride, bias",
    [(1, 1, False), (1, 1, True), (1, 2, True), (5, 1, False), (5, 2, True)],
)
def test_convolution_and_norm(kernel_size, stride, bias, masked):
    module = trained(NormedConv(4, kernel_size, stride, bias))
    x = signal(1, 24, 4)
    frames = 16 if masked else 24
    mask = None
    if masked:
        mask = (torch.arange(24) < frames).double()[None, :, None]
    normed = module(Deferred(x, mask))
    alone = x[:, :frames].transpose(1, 2)
    expected = naive.normed_conv(alone, module, stride).transpose(1, 2)
    moments = normed.moments
    ours = normed.read()[:, : frames // stride]
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=0)  # float64
    var, mean = torch.var_mean(expected, 1, keepdim=True, correction=0)
    # float64
    torch.testing.assert_close(moments.mean, mean, atol=1e-12, rtol=0)
    torch.testing.assert_close(moments.var, var, atol=1e-12, rtol=0)


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("kernel_size", [1, 5])
@pytest.mark.parametrize("coarse_frames", [3, 6, 12, 24, 48])
def test_fusion_is_its_equation(kernel_size, coarse_frames, gradients):
    # 48 is finer than the local features: every second frame is taken
    fusion = trained(Fusion(4, kernel_size))
    local = signal(2, 24, 4).requires_grad_()
    coarse = signal(2, coarse_frames, 4).requires_grad_()
    weights = signal(2, 24, 4)
    inputs = [local, coarse, *fusion.parameters()]
    results = []
    with torch.set_grad_enabled(gradients):
        for y in (
            fusion(Deferred(local), Deferred(coarse)).read(),
            naive.fuse(local.mT, coarse.mT, fusion).mT,
        ):
            results.append([y])
            if gradients:
                results[-1] += torch.autograd.grad((y * weights).sum(), inputs)
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(
            ours,
            expected,
            atol=1e-11,
            rtol=1e-10,  # float64
        )


class FrameNorm(torch.nn.Module):
    """Normalises every frame by itself, at once."""

    def __init__(self, num_channels):
        super().__init__()
        self.norm = torch.nn.LayerNorm(num_channels)

    def forward(self, x):
        return Deferred(self.norm(x.read()), x.mask)


@torch.no_grad()
def test_another_norm_and_padding_make_it_causal():
    fusion = Fusion(4, 5, padding="left", norm=FrameNorm).double()
    local, coarse = signal(1, 24, 4), signal(1, 12, 4)

    def fused():
        return fusion(Deferred(local), Deferred(coarse)).read()

    before = fused()
    local[:, 16:] += 1
    coarse[:, 8:] += 1
    after = fused()
    assert torch.equal(after[:, :16], before[:, :16])
    assert not torch.equal(after[:, 16:], before[:, 16:])
