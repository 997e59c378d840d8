"""Kernels against power series, HiPPO-LegS and solutions of the equation."""

import copy
import math

import naive
import numpy as np
import pytest
import torch

from s4m_sb.errors import InputError
from s4m_sb.network.kernel import S4DKernel, S4Kernel, hippo_legs

BOTH = pytest.mark.parametrize("kind", [S4Kernel, S4DKernel])
LENGTHS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127]
LENGTHS += [128, 129, 255, 256, 257, 511, 512, 513, 999, 1000]


def trained(kind, **sizes):
    """A float64 kernel whose parameters are no longer the initial ones."""
    ssm = kind(**sizes).double()
    with torch.no_grad():
        for parameter in ssm.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return ssm


def legs_matrix(d_state):
    """HiPPO-LegS as its definition has it (Gu et al., 2020, theorem 2)."""
    A = np.zeros((d_state, d_state))
    for n in range(d_state):
        for k in range(n):
            A[n, k] = -math.sqrt((2 * n + 1) * (2 * k + 1))
        A[n, n] = -(n + 1)
    return A, np.sqrt(2 * np.arange(d_state) + 1)


def diagonal_plus_low_rank(d_state):
    """The completed Λ − P Pᴴ, P and B of `hippo_legs`."""
    Lambda, P, B = (naive.complete(x).numpy() for x in hippo_legs(d_state))
    return Lambda, P, B, np.diag(Lambda) - np.outer(P, P.conj())


@pytest.mark.parametrize("d_state", [2, 4, 16, 64])
def test_diagonal_plus_low_rank_is_hippo_legs(d_state):
    A_legs, B_legs = legs_matrix(d_state)
    Lambda, P, B, A = diagonal_plus_low_rank(d_state)
    # The basis V is found here on its own: A + P Pᵀ is normal, its
    # eigenvectors are orthogonal, and their phases follow from V B = B_legs.
    P_legs = np.sqrt(np.arange(d_state) + 0.5)
    normal = A_legs + np.outer(P_legs, P_legs)
    frequencies, V = np.linalg.eigh(-1j * (normal + np.eye(d_state) / 2))
    order = [np.argmin(np.abs(frequencies - w)) for w in Lambda.imag]
    assert sorted(order) == list(range(d_state))
    assert (Lambda.imag[: d_state // 2] > 0).all()
    V = V[:, order]
    phases = (V.conj().T @ B_legs) / B
    # float64; entries of A reach d_state, sums run over d_state terms
    atol = 1e-11 * d_state
    np.testing.assert_allclose(np.abs(phases), 1, atol=atol)
    V = V * phases
    np.testing.assert_allclose(V @ A @ V.conj().T, A_legs, atol=atol)
    np.testing.assert_allclose(V @ P, P_legs, atol=atol)
    np.testing.assert_allclose(V @ B, B_legs, atol=atol)


@pytest.mark.parametrize("d_state", [2, 4, 6])
def test_eigenvalues_are_those_of_a_triangular_matrix(d_state):
    # HiPPO-LegS is triangular with -1, -2, ... on its diagonal. It is far
    # from normal: float64 gives its eigenvalues to 1e-8 for small sizes only.
    values = np.linalg.eigvals(diagonal_plus_low_rank(d_state)[-1])
    expected = -np.arange(d_state, 0, -1)
    np.testing.assert_allclose(np.sort(values.real), expected, atol=1e-8)
    np.testing.assert_allclose(values.imag, 0, atol=1e-8)


@BOTH
@pytest.mark.parametrize("d_state", [2, 6, 16])
@torch.no_grad()
def test_kernels_are_the_power_series(kind, d_state):
    ssm = trained(kind, d_model=3, d_state=d_state, num_directions=2)
    expected = naive.power_series(ssm, max(LENGTHS))
    for length in LENGTHS:
        K = ssm.kernel(length)
        assert K.shape == (2, 3, length)
        # float64 products of up to 1000 matrices, entries of size 1 to 10
        torch.testing.assert_close(
            K, expected[..., :length], atol=1e-11, rtol=1e-11
        )


@BOTH
@pytest.mark.parametrize("length", [1, 2, 37])
def test_gradients_are_those_of_the_power_series(kind, length):
    ssm = trained(kind, d_model=3, num_directions=2)
    weights = torch.randn(2, 3, length, dtype=torch.float64)
    gradients = [
        torch.autograd.grad((K * weights).sum(), list(ssm.parameters()))
        for K in (ssm.kernel(length), naive.power_series(ssm, length))
    ]
    for ours, expected in zip(*gradients, strict=True):
        # float64 through 37 matrix products; gradients reach 1e2
        torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)


@BOTH
@torch.no_grad()
def test_float32_is_close_to_float64(kind):
    ssm = kind(d_model=64, num_directions=2)
    exact = copy.deepcopy(ssm).double().kernel(1000)
    error = (ssm.kernel(1000) - exact).abs().amax(-1)
    # Ā, rounded to 6e-8, is raised to the power of 1000
    assert (error / exact.abs().amax(-1)).max() < 1e-4


@torch.no_grad()
def test_s4d_keeps_the_digits_of_small_steps():
    ssm = S4DKernel(d_model=8, dt_min=1e-5, dt_max=1e-4)
    exact = copy.deepcopy(ssm).double().discretize()[1]
    # float32; (exp(dt A) − 1) / A written that way errs by 1e-3 here
    torch.testing.assert_close(
        ssm.discretize()[1].to(exact.dtype), exact, atol=0, rtol=1e-6
    )


@torch.no_grad()
def test_s4d_solves_the_equation_for_inputs_held_over_a_step():
    # After l + 1 steps of input 1 from rest, x = A⁻¹ (exp(A (l + 1) dt) − I) B
    ssm = trained(S4DKernel, d_model=2)
    A = torch.complex(-ssm.log_A_real.exp(), ssm.A_imag)
    B, C = torch.view_as_complex(ssm.B), torch.view_as_complex(ssm.C)
    time = ssm.log_dt.exp()[:, None] * torch.arange(1, 51)  # [H, L]
    x = torch.expm1(A[..., None] * time[:, None]) / A[..., None] * B[..., None]
    expected = 2 * (C[0].unsqueeze(-1) * x).sum(1).real
    response = ssm.kernel(50)[0].cumsum(-1)
    # float64, sums of 50 values of size 1
    torch.testing.assert_close(response, expected, atol=1e-11, rtol=1e-11)


@torch.no_grad()
def test_s4_has_the_generating_function_of_the_bilinear_transform():
    # Σ K[l] zˡ = 2/(1+z) · C (2/dt · (1−z)/(1+z) − A)⁻¹ B (S4, lemma C.3),
    # without any Ā
    ssm = trained(S4Kernel, d_model=2)
    z = 0.5 * torch.exp(1j * torch.arange(5, dtype=torch.float64))
    series = ssm.kernel(80)[0].to(z.dtype) @ z ** torch.arange(80)[:, None]
    w = torch.complex(-ssm.log_A_real.exp(), ssm.A_imag)
    P = naive.complete(torch.view_as_complex(ssm.P))
    A = torch.diag_embed(naive.complete(w)) - P[:, :, None] * P[:, None].conj()
    B = naive.complete(torch.view_as_complex(ssm.B))
    C = naive.complete(torch.view_as_complex(ssm.C))[0]
    rate = 2 / ssm.log_dt.exp()[:, None] * (1 - z) / (1 + z)  # [H, 5]
    resolvent = rate[..., None, None] * torch.eye(16) - A[:, None]
    x = torch.linalg.solve(resolvent, B[:, None, :, None])
    expected = 2 / (1 + z) * (C[:, None] * x[..., 0]).sum(-1)
    # 0.5⁸⁰ = 8e-25 of the series is left out; the rest is float64
    torch.testing.assert_close(series, expected, atol=1e-11, rtol=1e-11)


@BOTH
@torch.no_grad()
def test_states_never_grow_whatever_is_learned(kind):
    ssm = kind(d_model=50).double()
    for parameter in ssm.parameters():
        parameter.add_(2 * torch.randn_like(parameter))
    A_bar = naive.dense_system(ssm)[0]
    assert torch.linalg.eigvals(A_bar).abs().max() <= 1 + 1e-12  # float64


@BOTH
@torch.no_grad()
def test_reset_gives_a_fresh_valid_initialisation(kind):
    ssm = kind(d_model=200, num_directions=2, dt_min=0.01, dt_max=0.2)
    before = {n: p.clone() for n, p in ssm.named_parameters()}
    for parameter in ssm.parameters():
        parameter.fill_(math.nan)
    ssm.reset_parameters()
    dt = ssm.log_dt.exp()
    assert 0.01 * (1 - 1e-6) <= dt.min() < 0.012
    assert 0.17 < dt.max() <= 0.2 * (1 + 1e-6)
    for name, parameter in ssm.named_parameters():
        drawn = name in ("log_dt", "C")
        assert torch.equal(parameter, before[name]) != drawn, name
    # Real and imaginary part together have variance 1 (6400 draws).
    assert abs(ssm.C.square().sum(-1).mean() - 1) < 0.1
    assert ssm.kernel(100).isfinite().all()


@BOTH
def test_same_seed_same_parameters(kind):
    torch.manual_seed(7)
    first = kind(d_model=3)
    torch.manual_seed(7)
    second = kind(d_model=3)
    torch.manual_seed(7)
    first.reset_parameters()
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


@BOTH
@pytest.mark.parametrize(
    "values, message",
    [
        ({"d_model": 0}, "d_model must be at least 1, got 0"),
        ({"d_state": 0}, "d_state must be even and positive, got 0"),
        ({"d_state": 15}, "d_state must be even and positive, got 15"),
        ({"num_directions": 3}, "num_directions must be 1 or 2, got 3"),
        ({"dt_min": 0.0}, "0 < dt_min <= dt_max is needed, got 0.0 and 0.1"),
        ({"dt_max": 1e-4}, "is needed, got 0.001 and 0.0001"),
    ],
)
def test_bad_sizes_are_named(kind, values, message):
    with pytest.raises(InputError, match=message):
        kind(**{"d_model": 4, **values})


@BOTH
def test_an_empty_kernel_is_refused(kind):
    with pytest.raises(InputError, match="length must be at least 1, got 0"):
        kind(d_model=4).kernel(0)
