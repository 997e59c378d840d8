"""State-space kernels: initialisation, discretisation, convolution kernels.

One channel of a state-space layer maps its input u to its output y by

    x'(t) = A x(t) + B u(t),    y(t) = Re(C x(t)),

which a step of size dt turns into x[l] = Ā x[l-1] + B̄ u[l]. Its convolution
kernel is K[l] = Re(C Āˡ B̄). With a state of 16 numbers K needs no Cauchy
kernel: write l = a·b + c, build the rows C Āᵃᵇ and the columns Āᶜ B̄ by
repeated squaring of the small Ā, and one batched matrix product gives all
of K. It is exact and free of anything that depends on the length.

`S4Kernel` (A = diagonal plus low rank) and `S4DKernel` (A = diagonal) differ
in `discretize` and in how a state is multiplied by Ā, nowhere else.

Above this file: `s4.py`. Below it: torch alone.
"""

import math

import torch
from torch import nn

from s4m_sb.errors import InputError


def hippo_legs(d_state: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """HiPPO-LegS as diagonal plus low rank, half of each conjugate pair.

    The HiPPO-LegS matrix is A = V (Λ − P Pᴴ) Vᴴ (Gu et al., "Efficiently
    Modeling Long Sequences with Structured State Spaces", ICLR 2022,
    theorem 1 and appendix C.2). The eigenvalues come in conjugate pairs, of
    which those with positive imaginary part are returned.

    Arguments
    ---------
    d_state : int
        Size N of the state, even.

    Returns
    -------
    torch.Tensor
        Λ, complex128, ``[N/2]``.
    torch.Tensor
        P in the basis V, complex128, ``[N/2]``.
    torch.Tensor
        B in the basis V, complex128, ``[N/2]``.

    Example
    -------
    >>> Lambda, P, B = hippo_legs(16)
    >>> Lambda.shape, bool((Lambda.real == -0.5).all())
    (torch.Size([8]), True)
    """
    n = torch.arange(d_state, dtype=torch.float64)
    B = torch.sqrt(2 * n + 1)
    P = torch.sqrt(n + 0.5)
    # A + P Pᵀ = -1/2 I + (skew-symmetric), so -i times the skew part is
    # Hermitian and has real eigenvalues.
    skew = -0.5 * torch.outer(B, B)
    skew = skew.tril(-1) - skew.tril(-1).T
    frequencies, V = torch.linalg.eigh(-1j * skew)
    positive = frequencies > 0
    V = V[:, positive]
    Lambda = torch.complex(
        torch.full_like(frequencies[positive], -0.5), frequencies[positive]
    )
    return Lambda, V.mH @ P.to(V.dtype), V.mH @ B.to(V.dtype)


class SSMKernel(nn.Module):
    """What the two kernels share: parameters and powers of Ā.

    Arguments
    ---------
    d_model : int
        Number of channels H, each a state-space model of its own.
    d_state : int
        State size N, an even number; N/2 conjugate pairs are stored.
    num_directions : int
        1 for causal kernels; 2 adds a second C for the kernel that runs
        backward in time. A, B and the step are shared by the directions.
    dt_min, dt_max : float
        Bounds of the log-uniform draw of the step sizes, in frames.

    Raises
    ------
    InputError
        If a size or bound is out of range.
    """

    has_low_rank = False  # whether A has the part P Pᴴ

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        num_directions: int = 1,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
    ):
        super().__init__()
        if d_model < 1:
            raise InputError(f"d_model must be at least 1, got {d_model}")
        if d_state < 2 or d_state % 2:
            raise InputError(
                f"d_state must be even and positive, got {d_state}"
            )
        if num_directions not in (1, 2):
            raise InputError(
                f"num_directions must be 1 or 2, got {num_directions}"
            )
        if not 0 < dt_min <= dt_max:
            raise InputError(
                f"0 < dt_min <= dt_max is needed, got {dt_min} and {dt_max}"
            )
        self.d_model = d_model
        self.d_state = d_state
        self.num_directions = num_directions
        self.dt_min = dt_min
        self.dt_max = dt_max
        pairs = (d_model, d_state // 2)
        self.log_dt = nn.Parameter(torch.empty(d_model))
        self.log_A_real = nn.Parameter(torch.empty(pairs))
        self.A_imag = nn.Parameter(torch.empty(pairs))
        # The last dimension holds real and imaginary part.
        self.B = nn.Parameter(torch.empty(*pairs, 2))
        self.C = nn.Parameter(torch.empty(num_directions, *pairs, 2))
        if self.has_low_rank:
            self.P = nn.Parameter(torch.empty(*pairs, 2))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws fresh steps and C; sets A and B to HiPPO-LegS."""
        Lambda, _, B = hippo_legs(self.d_state)
        low, high = math.log(self.dt_min), math.log(self.dt_max)
        self.log_dt.uniform_(low, high)
        self.log_A_real.copy_(torch.log(-Lambda.real))
        self.A_imag.copy_(Lambda.imag)
        self.B.copy_(torch.view_as_real(B))
        self.C.normal_(std=math.sqrt(0.5))

    def dynamics(self) -> list[nn.Parameter]:
        """Parameters of A, B and the step, which take small rates only."""
        return [p for name, p in self.named_parameters() if name != "C"]

    def discretize(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Ā, B̄ and C of the discrete-time model y[l] = Re(C x[l])."""
        raise NotImplementedError

    @staticmethod
    def multiply(states: torch.Tensor, A_bar: torch.Tensor) -> torch.Tensor:
        """Row vectors of states ``[H, n, N]`` times Āᵀ, channel by channel."""
        raise NotImplementedError

    @staticmethod
    def transpose(A_bar: torch.Tensor) -> torch.Tensor:
        """Āᵀ."""
        raise NotImplementedError

    def powers(
        self, v: torch.Tensor, A_bar: torch.Tensor, count: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """v, Ā v, Ā² v, ... by repeated squaring.

        Arguments
        ---------
        v : torch.Tensor
            Start vectors, ``[H, d, N]``.
        A_bar : torch.Tensor
            The matrix, as `discretize` gives it.
        count : int
            How many powers at least.

        Returns
        -------
        torch.Tensor
            ``[H, n, d, N]``, n the next power of two of ``count``.
        torch.Tensor
            Āⁿ.
        """
        d = v.shape[-2]
        for _ in range(max(count - 1, 0).bit_length()):
            v = torch.cat([v, self.multiply(v, A_bar)], dim=-2)
            A_bar = self.square(A_bar)
        return v.unflatten(-2, (-1, d)), A_bar

    @staticmethod
    def square(A_bar: torch.Tensor) -> torch.Tensor:
        """Ā²."""
        raise NotImplementedError

    def kernel(self, length: int) -> torch.Tensor:
        """The convolution kernels K[l] = Re(C Āˡ B̄).

        Arguments
        ---------
        length : int
            Number of steps L.

        Returns
        -------
        torch.Tensor
            ``[directions, H, L]``.

        Raises
        ------
        InputError
            If ``length`` is below 1.
        """
        if length < 1:
            raise InputError(f"length must be at least 1, got {length}")
        A_bar, B_bar, C = self.discretize()
        block = 1 << (math.isqrt(length - 1).bit_length() if length > 1 else 0)
        columns, A_block = self.powers(B_bar.unsqueeze(1), A_bar, block)
        rows, _ = self.powers(
            C.transpose(0, 1),
            self.transpose(A_block),
            -(-length // block),
        )
        columns = columns.squeeze(-2)  # [H, b, N]
        rows = rows.transpose(1, 2)  # [H, directions, a, N]
        K = _real_product(rows.flatten(1, 2), columns)  # [H, d·a, b]
        K = K.unflatten(1, rows.shape[1:3]).flatten(-2)
        return K[..., :length].transpose(0, 1)

    def extra_repr(self) -> str:
        return (
            f"d_model={self.d_model}, d_state={self.d_state}, "
            f"num_directions={self.num_directions}"
        )


class S4Kernel(SSMKernel):
    """S4: A = Λ − P Pᴴ, diagonal plus low rank, bilinear discretisation.

    The complex pairs are kept as real and imaginary parts side by side, so
    that Ā is a real N × N matrix a channel.

    See `SSMKernel` for the arguments.

    Example
    -------
    >>> S4Kernel(d_model=4, num_directions=2).kernel(100).shape
    torch.Size([2, 4, 100])
    """

    has_low_rank = True

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws fresh steps and C; sets A, B and P to HiPPO-LegS."""
        super().reset_parameters()
        self.P.copy_(torch.view_as_real(hippo_legs(self.d_state)[1]))

    def discretize(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Bilinear: Ā = (I − dt/2·A)⁻¹(I + dt/2·A), B̄ = (I − dt/2·A)⁻¹ dt B.

        Returns
        -------
        torch.Tensor
            Ā, real, ``[H, N, N]``.
        torch.Tensor
            B̄, real, ``[H, N]``.
        torch.Tensor
            C, real, ``[directions, H, N]``.
        """
        decay = torch.diag_embed(torch.exp(self.log_A_real))
        rotation = torch.diag_embed(self.A_imag)
        A = torch.cat(
            [
                torch.cat([-decay, -rotation], dim=-1),
                torch.cat([rotation, -decay], dim=-1),
            ],
            dim=-2,
        )  # [H, N, N]
        # On a conjugate pair, P Pᴴ x = 2 P Re(Pᴴ z).
        P = self.P.transpose(-1, -2).flatten(-2)  # [H, N]
        A = A - 2 * P.unsqueeze(-1) * P.unsqueeze(-2)
        B = self.B.transpose(-1, -2).flatten(-2)  # [H, N]
        dt = torch.exp(self.log_dt)[:, None, None]
        identity = torch.eye(self.d_state, dtype=A.dtype, device=A.device)
        bars = torch.linalg.solve(
            identity - dt / 2 * A,
            torch.cat([identity + dt / 2 * A, dt * B.unsqueeze(-1)], dim=-1),
        )
        # C and its conjugate give 2 Re(C z).
        C = 2 * torch.cat([self.C[..., 0], -self.C[..., 1]], dim=-1)
        return bars[..., :-1], bars[..., -1], C

    @staticmethod
    def multiply(states: torch.Tensor, A_bar: torch.Tensor) -> torch.Tensor:
        return states @ A_bar.mT

    @staticmethod
    def transpose(A_bar: torch.Tensor) -> torch.Tensor:
        return A_bar.mT

    @staticmethod
    def square(A_bar: torch.Tensor) -> torch.Tensor:
        return A_bar @ A_bar


class S4DKernel(SSMKernel):
    """S4D: A = Λ, the diagonal of HiPPO-LegS, zero-order hold.

    Gu et al., "On the Parameterization and Initialization of Diagonal State
    Space Models", NeurIPS 2022 (S4D-LegS).

    See `SSMKernel` for the arguments.

    Example
    -------
    >>> S4DKernel(d_model=4).kernel(100).shape
    torch.Size([1, 4, 100])
    """

    def discretize(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Zero-order hold: Ā = exp(dt A), B̄ = (Ā − I) A⁻¹ B.

        Returns
        -------
        torch.Tensor
            Ā, complex, ``[H, N/2]``.
        torch.Tensor
            B̄, complex, ``[H, N/2]``.
        torch.Tensor
            C, complex, ``[directions, H, N/2]``, doubled for the conjugates.
        """
        A = torch.complex(-torch.exp(self.log_A_real), self.A_imag)
        step = torch.exp(self.log_dt).unsqueeze(-1) * A
        # expm1: Ā − 1 would lose half the digits of a small step.
        B_bar = torch.expm1(step) / A * torch.view_as_complex(self.B)
        return torch.exp(step), B_bar, 2 * torch.view_as_complex(self.C)

    @staticmethod
    def multiply(states: torch.Tensor, A_bar: torch.Tensor) -> torch.Tensor:
        return states * A_bar.unsqueeze(-2)

    @staticmethod
    def transpose(A_bar: torch.Tensor) -> torch.Tensor:
        return A_bar

    @staticmethod
    def square(A_bar: torch.Tensor) -> torch.Tensor:
        return A_bar * A_bar


def _real_product(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Re(rows · columnsᵀ), in real arithmetic."""
    if rows.is_complex():
        rows = torch.cat([rows.real, -rows.imag], dim=-1)
        columns = torch.cat([columns.real, columns.imag], dim=-1)
    return rows @ columns.mT
