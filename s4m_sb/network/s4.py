"""S4 as a layer: one set of parameters, two views.

The convolution view (`S4Layer.forward`) sees a whole sequence at once and
runs forward in time, or forward and backward. The recurrent view
(`S4Layer.initial_state`, `S4Layer.step`) of a causal layer takes the
sequence in pieces of any size and gives the same numbers.

Everything here works on ``[B, L, H]``: frames outside, channels inside.

Above this file: `multiscale.py`. Below it: `kernel.py`.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parameters_to_vector

from s4m_sb.errors import InputError
from s4m_sb.network.fft import fft_length
from s4m_sb.network.fused.uncompiled import uncompiled
from s4m_sb.network.kernel import S4DKernel, S4Kernel, SSMKernel

KERNELS: dict[str, type[SSMKernel]] = {"s4": S4Kernel, "s4d": S4DKernel}

STEP_FRAMES = 256  # frames that `step` handles in one product
KEPT_BYTES = 2**26  # a larger spectrum costs little beside what it is for


class S4Layer(nn.Module):
    """State-space layer: y = GLU(W GELU(K ∗ u + D u)).

    The recurrences run in float32 (or float64 if the parameters are), also
    under autocast.

    Arguments
    ---------
    d_model : int
        Number of channels H.
    d_state : int
        State size N of each channel.
    bidirectional : bool
        True adds a kernel that runs backward in time; it starts one frame
        ahead, so that no frame is counted twice. False is causal and has the
        recurrent view.
    kernel : str
        "s4" (diagonal plus low rank) or "s4d" (diagonal).
    dt_min, dt_max : float
        Range of the initial step sizes, in frames.

    Raises
    ------
    InputError
        If ``kernel`` is unknown or a size is out of range.

    Example
    -------
    >>> layer = S4Layer(d_model=8, bidirectional=False)
    >>> x = torch.randn(2, 100, 8)
    >>> y = layer(x)
    >>> first, state = layer.step(x[:, :30], layer.initial_state(2))
    >>> second, state = layer.step(x[:, 30:], state)
    >>> torch.allclose(torch.cat([first, second], 1), y, atol=1e-4)
    True
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        bidirectional: bool = True,
        kernel: str = "s4",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
    ):
        super().__init__()
        if kernel not in KERNELS:
            raise InputError(
                f"kernel must be one of {', '.join(KERNELS)}, got {kernel!r}"
            )
        self.bidirectional = bidirectional
        self.ssm = KERNELS[kernel](
            d_model, d_state, 2 if bidirectional else 1, dt_min, dt_max
        )
        self.D = nn.Parameter(torch.empty(d_model))
        self.mix = nn.Linear(d_model, 2 * d_model)
        self._kept: dict[str, Any] = {}
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws a fresh D; the parts reset themselves."""
        nn.init.normal_(self.D)

    @uncompiled
    def spectrum(self, length: int) -> torch.Tensor:
        """Fourier transform of the kernel, for `forward` on this length.

        Computing it once and handing it to several calls saves the kernel.
        In evaluation without gradients one that is not large is kept until a
        parameter or the length changes.

        Arguments
        ---------
        length : int
            Number of frames L.

        Returns
        -------
        torch.Tensor
            Complex, ``[H, F]`` with F = fft_length(2 L) / 2 + 1.
        """
        return self._keep("spectrum", length, lambda: self._spectrum(length))

    def _keep(self, name: str, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, kept in evaluation until something changes."""
        if self.training or torch.is_grad_enabled():
            self._kept = {}
            return make()
        # Values are compared: no other sign of a change covers writes through
        # `.data`, tensors of inference mode and memory that is used again.
        values = parameters_to_vector(self.ssm.parameters())
        before = self._kept.get("values")
        if (
            before is None
            or (before.dtype, before.device) != (values.dtype, values.device)
            or not torch.equal(before, values)
        ):
            self._kept = {"values": values}
        # Other threads may ask for other lengths meanwhile.
        kept_key, kept = self._kept.get(name, (None, None))
        if kept is None or kept_key != key:
            kept = make()
            if _num_bytes(kept) <= KEPT_BYTES:
                self._kept[name] = (key, kept)
        return kept

    def __getstate__(self) -> dict[str, Any]:
        # What is kept can be made again; it need not be stored with a model.
        return {**super().__getstate__(), "_kept": {}}

    def _spectrum(self, length: int) -> torch.Tensor:
        with torch.autocast(self.D.device.type, enabled=False):
            K = self.ssm.kernel(length)  # [directions, H, L]
            n = fft_length(2 * length)
            taps = K[0]
            if self.bidirectional:
                # Backward: lag -1-l sits at position n-1-l of the circle.
                gap = K.new_zeros(K.shape[1], n - 2 * length)
                taps = torch.cat([taps, gap, K[1].flip(-1)], dim=-1)
            return torch.fft.rfft(taps, n=n)

    @uncompiled
    def convolve(self, x: torch.Tensor, spectrum: torch.Tensor) -> torch.Tensor:
        """K ∗ x + D x for ``x`` of shape ``[B, L, H]``."""
        length = x.shape[1]
        n = 2 * (spectrum.shape[-1] - 1)
        if n < 2 * length:
            raise InputError(
                f"a spectrum for at most {n // 2} frames, got {length} frames"
            )
        with torch.autocast(x.device.type, enabled=False):
            u = x.to(self.D.dtype).transpose(1, 2)  # [B, H, L]
            y = torch.fft.irfft(torch.fft.rfft(u, n=n) * spectrum, n=n)
            y = y[..., :length].transpose(1, 2)
            return torch.addcmul(y, x.to(self.D.dtype), self.D)

    def forward(
        self, x: torch.Tensor, spectrum: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The convolution view.

        Arguments
        ---------
        x : torch.Tensor
            Input, ``[B, L, H]``.
        spectrum : torch.Tensor, optional
            What `spectrum` gave for L; computed here by default.

        Returns
        -------
        torch.Tensor
            Output, ``[B, L, H]``.
        """
        if spectrum is None:
            spectrum = self.spectrum(x.shape[1])
        return self.output(self.convolve(x, spectrum))

    def output(self, y: torch.Tensor) -> torch.Tensor:
        """The part without memory: GELU, mixing of the channels, GLU."""
        return F.glu(self.mix(F.gelu(y)), dim=-1)

    def initial_state(self, batch_size: int) -> torch.Tensor:
        """The state before the first frame: zeros, ``[B, H, N]``.

        ``[B, H, N/2]``, complex, with the diagonal kernel.
        """
        B_bar = self.ssm.discretize()[1]
        return B_bar.new_zeros(batch_size, *B_bar.shape)

    def step(
        self, x: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The recurrent view: the next frames and the state after them.

        Arguments
        ---------
        x : torch.Tensor
            The next frames, ``[B, T, H]``, T of any size.
        state : torch.Tensor
            What `initial_state` or the call before gave.

        Returns
        -------
        torch.Tensor
            Output for these frames, ``[B, T, H]``.
        torch.Tensor
            The state after the last of them.

        Raises
        ------
        InputError
            If the layer is bidirectional.
        """
        if self.bidirectional:
            raise InputError(
                "step needs a causal layer: construct it with "
                "bidirectional=False"
            )
        with torch.autocast(x.device.type, enabled=False):
            u = x.to(self.D.dtype)
            if u.shape[1] == 0:
                return self.output(u), state
            A_bar, B_bar, C = self._keep("discrete", None, self.ssm.discretize)
            parts = []
            for piece in u.split(STEP_FRAMES, dim=1):
                y, state = self._advance(piece, state, A_bar, B_bar, C[0])
                parts.append(y)
            y = torch.addcmul(torch.cat(parts, dim=1), u, self.D)
        return self.output(y), state

    def _advance(
        self,
        u: torch.Tensor,
        state: torch.Tensor,
        A_bar: torch.Tensor,
        B_bar: torch.Tensor,
        C: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Runs x[l] = Ā x[l-1] + B̄ u[l], y[l] = Re(C x[l]), frame by frame."""
        drive = u.unsqueeze(-1) * B_bar  # [B, T, H, N]
        states = []
        for frame in drive.unbind(1):
            state = (
                self.ssm.multiply(state.unsqueeze(-2), A_bar).squeeze(-2)
                + frame
            )
            states.append(state)
        y = (torch.stack(states, dim=1) * C).sum(-1)  # [B, T, H]
        return (y.real if y.is_complex() else y), state


def _num_bytes(made: Any) -> int:
    parts = made if isinstance(made, tuple) else (made,)
    return sum(part.nbytes for part in parts)


class S4Block(nn.Module):
    """Pre-norm residual block around `S4Layer`: x + S4(LayerNorm(x)).

    Arguments
    ---------
    d_model, d_state, bidirectional, kernel
        See `S4Layer`.

    Example
    -------
    >>> S4Block(8)(torch.randn(2, 100, 8)).shape
    torch.Size([2, 100, 8])
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        bidirectional: bool = True,
        kernel: str = "s4",
    ):
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.layer = S4Layer(d_model, d_state, bidirectional, kernel)

    def forward(
        self,
        x: torch.Tensor,
        spectrum: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Applies the block.

        Arguments
        ---------
        x : torch.Tensor
            Input, ``[B, L, H]``.
        spectrum : torch.Tensor, optional
            See `S4Layer.forward`.
        mask : torch.Tensor, optional
            1 for frames that count, 0 for padding, ``[B, L, 1]``.

        Returns
        -------
        torch.Tensor
            Output, ``[B, L, H]``.
        """
        y = self.norm(x)
        if mask is not None:
            y = y * mask
        return x + self.layer(y, spectrum)


class FeedForwardBlock(nn.Module):
    """Pre-norm residual block: x + W₂ GELU(W₁ LayerNorm(x)).

    Arguments
    ---------
    d_model : int
        Number of channels H.
    expand : int
        Hidden channels, in multiples of H.

    Raises
    ------
    InputError
        If ``expand`` is below 1.

    Example
    -------
    >>> FeedForwardBlock(8, expand=2)(torch.randn(2, 100, 8)).shape
    torch.Size([2, 100, 8])
    """

    def __init__(self, d_model: int, expand: int = 2):
        super().__init__()
        if expand < 1:
            raise InputError(f"expand must be at least 1, got {expand}")
        self.norm = nn.LayerNorm(d_model)
        self.up = nn.Linear(d_model, expand * d_model)
        self.down = nn.Linear(expand * d_model, d_model)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the block to ``[B, L, H]``."""
        return x + self.down(F.gelu(self.up(self.norm(x))))
