"""Tests of the S4M network.

Authors
 * (to be filled in)
"""

import pytest
import torch

from speechbrain.lobes.models.dual_path import Decoder
from speechbrain.lobes.models.s4m import (
    Encoder,
    S4Kernel,
    S4Layer,
    S4MMaskNet,
    hippo_legs,
)

SMALL = {"d_model": 8, "d_hidden": 16, "num_scales": 3, "num_repeats": 3}
VARIANTS = [
    {"ff_expand": 2, "s4_per_scale": False},  # as S4M-tiny
    {"ff_expand": 1, "s4_per_scale": True},  # as S4M
    {"num_scales": 1},
]


def naive_kernels(kernel, frames):
    """K[l] = C A_bar^l B_bar, one step after the other."""
    A_bar, B_bar, C = kernel.discretize()
    state, taps = B_bar, []
    for _ in range(frames):
        taps.append((C * state).sum(-1))
        state = (A_bar @ state.unsqueeze(-1)).squeeze(-1)
    return torch.stack(taps, dim=-1)


@pytest.mark.parametrize("time", [1, 4, 15, 16, 17, 1001])
def test_filterbank_keeps_every_sample_in_its_place(device, time):
    encoder = Encoder(num_filters=16, kernel_size=16, stride=4).to(device)
    decoder = Decoder(
        16, 1, kernel_size=16, stride=4, padding=12, bias=False
    ).to(device)
    # Sixteen unit impulses: every sample is seen by four frames.
    with torch.no_grad():
        for module in (encoder, decoder):
            module.weight.copy_(torch.eye(16).unsqueeze(1))
    mixture = torch.randn(2, time, device=device)
    decoded = decoder(encoder(mixture))
    assert decoded.shape[-1] >= time
    torch.testing.assert_close(decoded[:, :time] / 4, mixture)


def test_encoder_refuses_a_stride_beyond_the_kernel():
    with pytest.raises(ValueError, match="got 17"):
        Encoder(kernel_size=16, stride=17)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("frames", [1, 3, 4, 101])
def test_masks(device, variant, frames):
    masknet = S4MMaskNet(num_spks=3, **{**SMALL, **variant}).to(device)
    masks = masknet(torch.randn(2, 9, frames, device=device))
    assert masks.shape == (3, 2, 9, frames)
    assert torch.isfinite(masks).all()
    assert (masks >= 0).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_reach_every_parameter(device, variant):
    masknet = S4MMaskNet(**{**SMALL, **variant}).to(device)
    masknet(torch.randn(2, 9, 101, device=device)).square().sum().backward()
    for name, parameter in masknet.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_checkpointing_changes_no_gradient(device):
    whole = S4MMaskNet(**SMALL).to(device)
    parts = S4MMaskNet(**SMALL, checkpoint_repeats=True).to(device)
    parts.load_state_dict(whole.state_dict())
    features = torch.randn(2, 9, 50, device=device)
    for masknet in (whole, parts):
        masknet(features).square().sum().backward()
    for a, b in zip(whole.parameters(), parts.parameters()):
        torch.testing.assert_close(a.grad, b.grad)


def test_sizes_of_the_paper():
    def millions(**variant):
        masknet = S4MMaskNet(**variant)
        return sum(p.numel() for p in masknet.parameters()) / 1e6

    assert millions(**VARIANTS[0]) == pytest.approx(1.84, abs=0.005)
    assert millions(**VARIANTS[1]) == pytest.approx(3.59, abs=0.005)


def test_matrix_is_hippo_legs():
    # That of HiPPO-LegS is triangular, with -1, ..., -N on its diagonal.
    Lambda, P, B = hippo_legs(8)
    Lambda, P = torch.cat([Lambda, Lambda.conj()]), torch.cat([P, P.conj()])
    A = torch.diag(Lambda) - torch.outer(P, P.conj())
    values = torch.linalg.eigvals(A)
    torch.testing.assert_close(
        values.real.sort()[0], torch.arange(-8.0, 0).double()
    )
    torch.testing.assert_close(
        B.abs().square().sum() * 2, 64 * torch.ones(()).double()
    )


@pytest.mark.parametrize("frames", [1, 2, 5, 64, 101])
def test_kernel_is_that_of_the_recurrence(device, frames):
    kernel = S4Kernel(3, d_state=4).to(device).double()
    torch.testing.assert_close(kernel(frames), naive_kernels(kernel, frames))


@pytest.mark.parametrize("frames", [1, 2, 37])
def test_layer_convolves_both_ways(device, frames):
    layer = S4Layer(3, d_state=4).to(device).double()
    u = torch.randn(2, 3, frames, device=device, dtype=torch.float64)
    forward, backward = naive_kernels(layer.ssm, frames)
    y = layer.D[:, None] * u
    for t in range(frames):
        for s in range(frames):
            tap = forward[:, t - s] if s <= t else backward[:, s - t - 1]
            y[..., t] = y[..., t] + tap * u[..., s]
    expected = torch.nn.functional.glu(
        layer.mix(torch.nn.functional.gelu(y)), dim=1
    )
    torch.testing.assert_close(layer(u, layer.spectrum(frames)), expected)


def test_reset_parameters_draws_afresh(device):
    masknet = S4MMaskNet(**SMALL).to(device)
    before = {k: v.clone() for k, v in masknet.state_dict().items()}
    for module in masknet.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    after = masknet.state_dict()
    A = [key for key in after if key.endswith(("A_real", "A_imag", "P", "B"))]
    assert len(A) == 4
    for key in A:
        assert torch.equal(before[key], after[key])
    for key in ("rejoin.bias", "block.global_s4.layer.ssm.C"):
        assert not torch.equal(before[key], after[key])
    assert torch.isfinite(masknet(torch.randn(1, 9, 40, device=device))).all()
