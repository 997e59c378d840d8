"""The S4M network for speech separation: several time scales, of which the
coarsest is modelled by a structured state-space layer (S4).

Chen, Zhao, Yang, Yang, "A Neural State-Space Modeling Approach to Efficient
Speech Separation", Interspeech 2023, https://arxiv.org/abs/2305.16932

    mixture --> Encoder --> features --> S4MMaskNet --> masks
                               |                         |
                               +--------- times ---------+--> Decoder --> voices

The decoder is that of `speechbrain.lobes.models.dual_path`, with
``padding = kernel_size - stride``.

Two sizes are described by the YAML files of the recipes. S4M-tiny is the
network of the authors' code. S4M was never released as code; with
``s4_per_scale=True`` and ``ff_expand=1`` it is a reconstruction, the variant
whose number of parameters and operations fit those of the paper.

All signals have the shape [batch, channels, frames].

Authors
 * (to be filled in)
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch.utils.checkpoint import checkpoint


class Encoder(nn.Conv1d):
    """Learned filters: a strided convolution without bias or activation.

    The signal is padded so that each sample is seen by all the filters that
    can cover it, whatever its length. A decoder without the first
    ``kernel_size - stride`` samples gives sample t back as sample t.

    Arguments
    ---------
    num_filters : int
        Number of filters F.
    kernel_size : int
        Length of a filter in samples.
    stride : int
        Samples from one frame to the next, at most ``kernel_size``.

    Example
    -------
    >>> from speechbrain.lobes.models.dual_path import Decoder
    >>> encoder = Encoder(num_filters=9, kernel_size=16, stride=4)
    >>> features = encoder(torch.randn(2, 1001))
    >>> features.shape
    torch.Size([2, 9, 254])
    >>> decoder = Decoder(
    ...     9, 1, kernel_size=16, stride=4, padding=12, bias=False
    ... )
    >>> decoder(features).shape
    torch.Size([2, 1004])
    """

    def __init__(self, num_filters=9, kernel_size=16, stride=4):
        if not 1 <= stride <= kernel_size:
            raise ValueError(
                f"stride must be from 1 to kernel_size = {kernel_size}, "
                f"got {stride}"
            )
        super().__init__(1, num_filters, kernel_size, stride, bias=False)

    def reset_parameters(self):
        """Draws fresh filters (Glorot)."""
        nn.init.xavier_uniform_(self.weight)

    def forward(self, mixture):
        """Returns the encoded signal.

        Arguments
        ---------
        mixture : torch.Tensor
            Waveforms, [batch, time], of one sample at least.

        Returns
        -------
        torch.Tensor
            Features, [batch, num_filters, frames].
        """
        stride, overlap = self.stride[0], self.kernel_size[0] - self.stride[0]
        time = mixture.shape[-1]
        frames = (time - 1 + overlap) // stride + 1
        mixture = F.pad(mixture, (overlap, frames * stride - time))
        return super().forward(mixture.unsqueeze(1))


class S4MMaskNet(nn.Module):
    """The mask network: one shared multi-scale block, repeated.

        features - norm - 1x1 -+-> block -+-> block -+- ... - PReLU - 1x1 - ReLU
                               |          |          |
                               +--------- + -------- + (the mixture's features)

    Section 2.1 of the paper.

    Arguments
    ---------
    num_spks : int
        Number of speakers, one mask each.
    num_filters : int
        Filters of the encoder.
    d_model : int
        Channels between the repeats.
    d_hidden : int
        Channels inside the block.
    num_scales : int
        Time scales; each has half the frames of the one before.
    num_repeats : int
        How often the shared block is applied.
    d_state : int
        State size of the S4 layers, even.
    ff_expand : int
        Expansion of the block's feed-forward part.
    s4_per_scale : bool
        Adds an S4 block at each scale of the top-down path.
    checkpoint_repeats : bool
        In training, keep only each repeat's input and compute the rest again
        in the backward pass: less memory, about a third more time.

    Example
    -------
    >>> masknet = S4MMaskNet(
    ...     num_spks=2, num_filters=9, d_model=8, d_hidden=16, num_repeats=2
    ... )
    >>> masknet(torch.randn(3, 9, 101)).shape
    torch.Size([2, 3, 9, 101])
    """

    def __init__(
        self,
        num_spks=2,
        num_filters=9,
        d_model=128,
        d_hidden=512,
        num_scales=5,
        num_repeats=16,
        d_state=16,
        ff_expand=2,
        s4_per_scale=False,
        checkpoint_repeats=False,
    ):
        super().__init__()
        self.num_spks = num_spks
        self.num_repeats = num_repeats
        self.checkpoint_repeats = checkpoint_repeats
        self.input_norm = nn.GroupNorm(1, num_filters, eps=1e-8)
        self.bottleneck = Pointwise(num_filters, d_model)
        self.block = MultiScaleBlock(
            d_model, d_hidden, num_scales, d_state, ff_expand, s4_per_scale
        )
        if num_repeats > 1:
            self.rejoin = Rejoin(d_model)
        self.output_act = nn.PReLU()
        self.output = Pointwise(d_model, num_spks * num_filters)

    def forward(self, features):
        """Finds one mask a speaker.

        Arguments
        ---------
        features : torch.Tensor
            Encoded mixture, [batch, num_filters, frames].

        Returns
        -------
        torch.Tensor
            Masks, not negative, [num_spks, batch, num_filters, frames].
        """
        frames = features.shape[-1]
        mixture = self.bottleneck(self.input_norm(features))
        # The block takes whole frames of the coarsest scale.
        mixture = F.pad(mixture, (0, -frames % self.block.coarsest_stride))

        # The repeats share the kernels of the state-space layers.
        spectra = self.block.spectra(mixture.shape[-1])
        x = self._apply_repeat(self.block, mixture, spectra)
        for _ in range(self.num_repeats - 1):
            x = self._apply_repeat(self._rejoined, x, mixture, spectra)

        masks = F.relu(self.output(self.output_act(x[..., :frames])))
        return masks.unflatten(1, (self.num_spks, -1)).transpose(0, 1)

    def _apply_repeat(self, repeat, *inputs):
        """One repeat, computed again in the backward pass if asked for."""
        if self.checkpoint_repeats and torch.is_grad_enabled():
            return checkpoint(repeat, *inputs, use_reentrant=False)
        return repeat(*inputs)

    def _rejoined(self, x, mixture, spectra):
        """A further repeat: the mixture's features join in again."""
        return self.block(self.rejoin(mixture + x), spectra)


class Rejoin(nn.Module):
    """Scale, bias and PReLU of each channel, before each further repeat.

    Arguments
    ---------
    d_model : int
        Number of channels.

    Example
    -------
    >>> Rejoin(8)(torch.randn(2, 8, 100)).shape
    torch.Size([2, 8, 100])
    """

    def __init__(self, d_model):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_model))
        self.bias = nn.Parameter(torch.empty(d_model))
        self.act = nn.PReLU()
        self.reset_parameters()

    def reset_parameters(self):
        """Draws scale and bias as a depthwise convolution of size 1 does."""
        nn.init.uniform_(self.weight, -1, 1)
        nn.init.uniform_(self.bias, -1, 1)

    def forward(self, x):
        """Maps [batch, d_model, frames] to the same shape."""
        return self.act(self.weight[:, None] * x + self.bias[:, None])


class MultiScaleBlock(nn.Module):
    """One repeat of the mask network.

        x -- expand -- scale 0 -- scale 1 -- ... -- scale K-1
                          |          |                 |
                          +-- pool --+----- pool ------+ sum
                                                       v
                                         S4, feed-forward (global)
                                                       |
                       fuse 0 <-- fuse 1 <-- ... <-- fuse K-1
                          |
        x + project <-----+

    Figure 1 and section 2.2 of the paper.

    Arguments
    ---------
    d_model, d_hidden, num_scales, d_state, ff_expand, s4_per_scale
        See `S4MMaskNet`.

    Example
    -------
    >>> block = MultiScaleBlock(8, 16, 3, 4, ff_expand=2, s4_per_scale=False)
    >>> block(torch.randn(2, 8, 40), block.spectra(40)).shape
    torch.Size([2, 8, 40])
    """

    def __init__(
        self, d_model, d_hidden, num_scales, d_state, ff_expand, s4_per_scale
    ):
        super().__init__()
        self.num_scales = num_scales
        self.expand = Pointwise(d_model, d_hidden)
        self.expand_norm = nn.GroupNorm(1, d_hidden, eps=1e-8)
        self.expand_act = nn.PReLU()
        self.bottom_up = nn.ModuleList(
            NormedConv(d_hidden, 5, stride=1 if k == 0 else 2, bias=True)
            for k in range(num_scales)
        )
        self.global_s4 = S4Block(d_hidden, d_state)
        self.global_ff = FeedForwardBlock(d_hidden, ff_expand)
        self.fusions = nn.ModuleList(
            Fusion(d_hidden, kernel_size=1) for _ in range(num_scales)
        )
        self.top_down = nn.ModuleList(
            Fusion(d_hidden, kernel_size=5) for _ in range(num_scales - 1)
        )
        self.scale_s4 = nn.ModuleList(
            S4Block(d_hidden, d_state)
            for _ in range(num_scales - 1 if s4_per_scale else 0)
        )
        self.project = Pointwise(d_hidden, d_model)

    @property
    def coarsest_stride(self):
        """Frames of scale 0 in a frame of the coarsest scale."""
        return 2 ** (self.num_scales - 1)

    def spectra(self, frames):
        """Transforms of all kernels for this number of frames at scale 0, a
        list for the global block and each block of the top-down path."""
        blocks = [self.global_s4, *self.scale_s4]
        lengths = [frames // self.coarsest_stride]
        lengths += [frames // 2**k for k in range(len(self.scale_s4))]
        return [b.layer.spectrum(n) for b, n in zip(blocks, lengths)]

    def forward(self, x, spectra):
        """Applies the block.

        Arguments
        ---------
        x : torch.Tensor
            Features, [batch, d_model, frames], a multiple of the coarsest
            stride of them.
        spectra : list of torch.Tensor
            What `spectra` gave for that number of frames.

        Returns
        -------
        torch.Tensor
            [batch, d_model, frames].
        """
        h = self.expand_act(self.expand_norm(self.expand(x)))
        scales = []
        for conv in self.bottom_up:
            h = conv(h)
            scales.append(h)  # [batch, d_hidden, frames / 2^k]

        # Global features: all scales, at the rate of the coarsest.
        pooled = sum(
            F.avg_pool1d(scale, scale.shape[-1] // h.shape[-1])
            for scale in scales
        )
        coarse = self.global_ff(self.global_s4(pooled, spectra[0]))

        top = self.fusions[-1](scales[-1], coarse)
        for k in reversed(range(self.num_scales - 1)):
            top = self.top_down[k](self.fusions[k](scales[k], coarse), top)
            if len(self.scale_s4) > 0:
                top = self.scale_s4[k](top, spectra[1 + k])
        return x + self.project(top)


class Pointwise(nn.Linear):
    """Convolution of size 1, with the weights of a linear layer.

    Example
    -------
    >>> Pointwise(8, 16)(torch.randn(2, 8, 100)).shape
    torch.Size([2, 16, 100])
    """

    def forward(self, x):
        """Maps [batch, in, frames] to [batch, out, frames]."""
        return F.conv1d(x, self.weight.unsqueeze(-1), self.bias)


class NormedConv(nn.Module):
    """Depthwise convolution and global layer norm.

    Arguments
    ---------
    num_channels : int
        Number of channels.
    kernel_size : int
        Taps, odd.
    stride, bias
        Of the convolution.

    Example
    -------
    >>> NormedConv(8, kernel_size=5, stride=2)(torch.randn(2, 8, 40)).shape
    torch.Size([2, 8, 20])
    """

    def __init__(self, num_channels, kernel_size, stride=1, bias=False):
        super().__init__()
        self.conv = nn.Conv1d(
            num_channels,
            num_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            groups=num_channels,
            bias=bias,
        )
        self.norm = nn.GroupNorm(1, num_channels, eps=1e-8)

    def forward(self, x):
        """Maps [batch, channels, L] to [batch, channels, ceil(L / stride)]."""
        return self.norm(self.conv(x))


class Fusion(nn.Module):
    """Local features, gated and shifted by coarser ones.

        y = norm(W1 local) * sigmoid(up(norm(W2 coarse))) + up(norm(W3 coarse))

    with depthwise W (equations 5 and 6 of the paper).

    Arguments
    ---------
    num_channels : int
        Number of channels.
    kernel_size : int
        Of the three convolutions.

    Example
    -------
    >>> local, coarse = torch.randn(2, 8, 40), torch.randn(2, 8, 10)
    >>> Fusion(8, kernel_size=5)(local, coarse).shape
    torch.Size([2, 8, 40])
    """

    def __init__(self, num_channels, kernel_size):
        super().__init__()
        self.local = NormedConv(num_channels, kernel_size)
        self.gate = NormedConv(num_channels, kernel_size)
        self.value = NormedConv(num_channels, kernel_size)

    def forward(self, local, coarse):
        """Fuses [batch, channels, frames] with [batch, channels, frames / r],
        which is stretched by repeating frames."""
        r = local.shape[-1] // coarse.shape[-1]
        gate = torch.sigmoid(self.gate(coarse)).repeat_interleave(r, dim=-1)
        value = self.value(coarse).repeat_interleave(r, dim=-1)
        return self.local(local) * gate + value


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each frame.

    Example
    -------
    >>> ChannelNorm(8)(torch.randn(2, 8, 100)).shape
    torch.Size([2, 8, 100])
    """

    def forward(self, x):
        """Normalises [batch, channels, frames]."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class FeedForwardBlock(nn.Module):
    """Pre-norm residual block: x + W2 GELU(W1 norm(x)).

    Arguments
    ---------
    d_model : int
        Number of channels.
    expand : int
        Hidden channels, in multiples of those.

    Example
    -------
    >>> FeedForwardBlock(8, expand=2)(torch.randn(2, 8, 100)).shape
    torch.Size([2, 8, 100])
    """

    def __init__(self, d_model, expand=2):
        super().__init__()
        self.norm = ChannelNorm(d_model)
        self.up = Pointwise(d_model, expand * d_model)
        self.down = Pointwise(expand * d_model, d_model)

    def forward(self, x):
        """Maps [batch, d_model, frames] to the same shape."""
        return x + self.down(F.gelu(self.up(self.norm(x))))


class S4Block(nn.Module):
    """Pre-norm residual block: x + S4(norm(x)).

    Arguments
    ---------
    d_model, d_state : int
        See `S4Layer`.

    Example
    -------
    >>> block = S4Block(8)
    >>> block(torch.randn(2, 8, 100), block.layer.spectrum(100)).shape
    torch.Size([2, 8, 100])
    """

    def __init__(self, d_model, d_state=16):
        super().__init__()
        self.norm = ChannelNorm(d_model)
        self.layer = S4Layer(d_model, d_state)

    def forward(self, x, spectrum):
        """See `S4Layer.forward`."""
        return x + self.layer(self.norm(x), spectrum)


class S4Layer(nn.Module):
    """State-space layer in both directions: y = GLU(W GELU(K * u + D u)).

    The kernel K runs forward and, one frame ahead, backward in time. The
    convolution runs in the precision of the parameters, also under autocast.

    Gu, Goel, Re, "Efficiently Modeling Long Sequences with Structured State
    Spaces", ICLR 2022.

    Arguments
    ---------
    d_model : int
        Number of channels.
    d_state : int
        State size of each channel.

    Example
    -------
    >>> layer = S4Layer(8)
    >>> layer(torch.randn(2, 8, 100), layer.spectrum(100)).shape
    torch.Size([2, 8, 100])
    """

    def __init__(self, d_model, d_state=16):
        super().__init__()
        self.ssm = S4Kernel(d_model, d_state)
        self.D = nn.Parameter(torch.empty(d_model))
        self.mix = Pointwise(d_model, 2 * d_model)
        self.reset_parameters()

    def reset_parameters(self):
        """Draws a fresh D; the parts reset themselves."""
        nn.init.normal_(self.D)

    def spectrum(self, frames):
        """Fourier transform of the kernel.

        Arguments
        ---------
        frames : int
            Frames of the input that it is for.

        Returns
        -------
        torch.Tensor
            Complex, [d_model, frequencies].
        """
        with torch.autocast(self.D.device.type, enabled=False):
            forward, backward = self.ssm(frames)
            n = next_fast_len(2 * frames, real=True)
            # On a circle of n frames, lag -1 - l lies at n - 1 - l.
            taps = F.pad(forward, (0, n - frames))
            taps = taps + F.pad(backward.flip(-1), (n - frames, 0))
            return torch.fft.rfft(taps)

    def forward(self, x, spectrum):
        """Applies the layer.

        Arguments
        ---------
        x : torch.Tensor
            Input, [batch, d_model, frames].
        spectrum : torch.Tensor
            What `spectrum` gave for that number of frames.

        Returns
        -------
        torch.Tensor
            Output, [batch, d_model, frames].
        """
        frames = x.shape[-1]
        with torch.autocast(x.device.type, enabled=False):
            u = x.to(self.D.dtype)
            n = next_fast_len(2 * frames, real=True)
            y = torch.fft.irfft(torch.fft.rfft(u, n=n) * spectrum, n=n)
            y = y[..., :frames] + self.D[:, None] * u
        return F.glu(self.mix(F.gelu(y)), dim=1)


class S4Kernel(nn.Module):
    """Convolution kernels of state-space models, one a channel.

    A channel maps its input u to its output y by

        x'(t) = A x(t) + B u(t),    y(t) = Re(C x(t)),

    where A = Lambda - P P^H, diagonal plus low rank, starts as HiPPO-LegS.
    The bilinear rule with step dt makes x[l] = A_bar x[l-1] + B_bar u[l] of
    it, and the kernel is K[l] = Re(C A_bar^l B_bar).

    The state comes in conjugate pairs, of which one half is stored; real and
    imaginary parts side by side make A a real matrix. A and B are shared by
    the two directions, C is not.

    Arguments
    ---------
    d_model : int
        Number of channels H.
    d_state : int
        State size N, even.
    dt_min, dt_max : float
        Bounds of the initial steps, in frames.

    Example
    -------
    >>> S4Kernel(d_model=4)(100).shape
    torch.Size([2, 4, 100])
    """

    def __init__(self, d_model, d_state=16, dt_min=0.001, dt_max=0.1):
        super().__init__()
        if d_state < 2 or d_state % 2:
            raise ValueError(f"d_state must be even, got {d_state}")
        self.d_state = d_state
        self.dt_min = dt_min
        self.dt_max = dt_max
        pairs = (d_model, d_state // 2)
        self.log_dt = nn.Parameter(torch.empty(d_model))
        self.log_A_real = nn.Parameter(torch.empty(pairs))
        self.A_imag = nn.Parameter(torch.empty(pairs))
        # The last dimension holds real and imaginary part.
        self.B = nn.Parameter(torch.empty(*pairs, 2))
        self.C = nn.Parameter(torch.empty(2, *pairs, 2))
        self.P = nn.Parameter(torch.empty(*pairs, 2))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self):
        """Draws fresh steps and C; sets A, B and P to HiPPO-LegS."""
        Lambda, P, B = hippo_legs(self.d_state)
        self.log_dt.uniform_(math.log(self.dt_min), math.log(self.dt_max))
        self.log_A_real.copy_(torch.log(-Lambda.real))
        self.A_imag.copy_(Lambda.imag)
        self.B.copy_(torch.view_as_real(B))
        self.C.normal_(std=math.sqrt(0.5))
        self.P.copy_(torch.view_as_real(P))

    def discretize(self):
        """The bilinear rule.

        Returns
        -------
        A_bar : torch.Tensor
            (I - dt/2 A)^-1 (I + dt/2 A), [H, N, N].
        B_bar : torch.Tensor
            (I - dt/2 A)^-1 dt B, [H, N].
        C : torch.Tensor
            [2, H, N].
        """
        decay = torch.diag_embed(torch.exp(self.log_A_real))
        rotation = torch.diag_embed(self.A_imag)
        A = torch.cat(
            [
                torch.cat([-decay, -rotation], dim=-1),
                torch.cat([rotation, -decay], dim=-1),
            ],
            dim=-2,
        )
        # On a pair, P P^H x = 2 P Re(P^H z); C and its conjugate, 2 Re(C z).
        P = self.P.transpose(-1, -2).flatten(-2)
        A = A - 2 * P.unsqueeze(-1) * P.unsqueeze(-2)
        B = self.B.transpose(-1, -2).flatten(-2)
        C = 2 * torch.cat([self.C[..., 0], -self.C[..., 1]], dim=-1)
        dt = torch.exp(self.log_dt)[:, None, None]
        identity = torch.eye(self.d_state, dtype=A.dtype, device=A.device)
        bars = torch.linalg.solve(
            identity - dt / 2 * A,
            torch.cat([identity + dt / 2 * A, dt * B.unsqueeze(-1)], dim=-1),
        )
        return bars[..., :-1], bars[..., -1], C

    def forward(self, frames):
        """The kernels.

        With l = a b + c, K[l] is the product of a row C A_bar^(a b) and a
        column A_bar^c B_bar: some sqrt(L) of each make all of K.

        Arguments
        ---------
        frames : int
            Their length L.

        Returns
        -------
        torch.Tensor
            Forward and backward, [2, H, L].
        """
        A_bar, B_bar, C = self.discretize()
        b = 2 ** math.ceil(math.log2(frames) / 2)
        columns, A_block = _powers(A_bar, B_bar.unsqueeze(1), b)
        rows, _ = _powers(A_block.mT, C.transpose(0, 1), -(-frames // b))
        K = rows @ columns.mT  # [H, a * 2, b]
        K = K.unflatten(1, (-1, 2)).permute(2, 0, 1, 3).flatten(2)
        return K[..., :frames]


def _powers(A, v, count):
    """v, A v, A^2 v, ... by doubling: at least ``count``, and the next A^n.

    Arguments
    ---------
    A : torch.Tensor
        Matrices, [H, N, N].
    v : torch.Tensor
        Start vectors, [H, d, N].
    count : int
        How many powers are needed.

    Returns
    -------
    powers : torch.Tensor
        [H, n * d, N], n the next power of two.
    A : torch.Tensor
        A^n.
    """
    for _ in range((count - 1).bit_length()):
        v = torch.cat([v, v @ A.mT], dim=-2)
        A = A @ A
    return v, A


def hippo_legs(d_state):
    """HiPPO-LegS as diagonal plus low rank, half of each conjugate pair.

    The matrix is V (Lambda - P P^H) V^H: theorem 1 and appendix C.2 of the
    paper on S4.

    Arguments
    ---------
    d_state : int
        Size N of the state, even.

    Returns
    -------
    Lambda : torch.Tensor
        Complex, [N / 2].
    P, B : torch.Tensor
        In the basis V, complex, [N / 2].

    Example
    -------
    >>> Lambda, P, B = hippo_legs(16)
    >>> Lambda.shape, bool((Lambda.real == -0.5).all())
    (torch.Size([8]), True)
    """
    n = torch.arange(d_state, dtype=torch.float64)
    B = torch.sqrt(2 * n + 1)
    P = torch.sqrt(n + 0.5)
    # A + P P^T = -1/2 I + (skew-symmetric), so -i times the skew part is
    # Hermitian and has real eigenvalues.
    skew = -0.5 * torch.outer(B, B)
    skew = skew.tril(-1) - skew.tril(-1).T
    frequencies, V = torch.linalg.eigh(-1j * skew)
    V, frequencies = V[:, frequencies > 0], frequencies[frequencies > 0]
    Lambda = torch.complex(torch.full_like(frequencies, -0.5), frequencies)
    return Lambda, V.mH @ P.to(V.dtype), V.mH @ B.to(V.dtype)
