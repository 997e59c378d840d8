"""The slow twin: the mask network read off its equations, nothing more.

Signals are ``[B, C, L]``, every convolution is a convolution, every norm is
computed where it stands, and kernels anew in every repeat. How the state
space responds to its input is read in two ways:

- `by_sums`: kernels are power series of dense complex matrices, and their
  convolution is a double sum;
- `by_fourier`: as in the published code, kernels are Cauchy sums over the
  frequencies of an FFT, by which they are convolved as well.

The parameters are those of an `S4MMaskNet`, so that outputs, gradients and
costs of the two can be compared.
"""

import torch
import torch.nn.functional as F


def complete(half):
    """A vector of conjugate pairs from one of each pair."""
    return torch.cat([half, half.conj()], dim=-1)


def dense_system(ssm):
    """Ā ``[H, N, N]``, B̄ ``[H, N]``, C ``[directions, H, N]``, complex."""
    w = torch.complex(-torch.exp(ssm.log_A_real), ssm.A_imag)
    A = torch.diag_embed(complete(w))
    B = complete(torch.view_as_complex(ssm.B)).unsqueeze(-1)
    C = complete(torch.view_as_complex(ssm.C))
    dt = torch.exp(ssm.log_dt)[:, None, None]
    identity = torch.eye(A.shape[-1], dtype=A.dtype)
    if hasattr(ssm, "P"):
        P = complete(torch.view_as_complex(ssm.P)).unsqueeze(-1)
        A = A - P @ P.mH
        inverse = torch.linalg.inv(identity - dt / 2 * A)
        A_bar = inverse @ (identity + dt / 2 * A)
        B_bar = inverse @ (dt * B)
    else:
        A_bar = torch.matrix_exp(dt * A)
        B_bar = torch.linalg.inv(A) @ (A_bar - identity) @ B
    return A_bar, B_bar.squeeze(-1), C


def power_series(ssm, length):
    """K[l] = Re(C Āˡ B̄), one power after the other, ``[directions, H, L]``."""
    A_bar, state, C = dense_system(ssm)
    steps = []
    for _ in range(length):
        steps.append((C * state).sum(-1).real)
        state = (A_bar @ state.unsqueeze(-1)).squeeze(-1)
    return torch.stack(steps, dim=-1)


def convolve(u, K):
    """Sums over all pairs of frames, ``[B, H, L]``.

    K[0] weighs the frames now, one ago, ...; K[1] those one ahead, two
    ahead, ...
    """
    length = u.shape[-1]
    taps = torch.zeros(K.shape[1], length, length, dtype=K.dtype)
    for now in range(length):
        taps[:, now, : now + 1] = K[0, :, : now + 1].flip(-1)
        if len(K) == 2:
            taps[:, now, now + 1 :] = K[1, :, : length - now - 1]
    return torch.einsum("hts,bhs->bht", taps, u)


def by_sums(ssm, u):
    """K ∗ u, by the definition of either."""
    return convolve(u, power_series(ssm, u.shape[-1]))


def cauchy_series(ssm, length):
    """The kernel by its generating function, ``[directions, H, L]``.

    At the nodes z of an FFT, K^(z) is a sum of Cauchy terms 1 / (g(z) - w);
    the term of low rank follows by Woodbury's identity. C times (I - Ā^L)
    makes the infinite series one of L terms; the published code keeps that
    product as its parameter, so it is no part of the cost here.
    """
    w = complete(torch.complex(-torch.exp(ssm.log_A_real), ssm.A_imag))
    B = complete(torch.view_as_complex(ssm.B))
    P = complete(torch.view_as_complex(ssm.P))
    left = torch.stack([B, P])  # [2, H, N]
    right = torch.cat([_truncated(ssm, length), P.conj()[None]])
    index = torch.arange(length // 2 + 1, dtype=w.real.dtype)
    z = torch.exp(-2j * torch.pi * index / length)
    node = 2 * (1 - z) / (1 + z)  # [L / 2 + 1]
    dt = torch.exp(ssm.log_dt)[:, None]
    products = left[:, None] * right * dt  # [2, directions + 1, H, N]
    distances = node - (w * dt).unsqueeze(-1)  # [H, N, L / 2 + 1]
    r = (products.unsqueeze(-1) / distances).sum(-2)
    k = r[0, :-1] - r[1, :-1] * r[0, -1] / (1 + r[1, -1])
    return torch.fft.irfft(k * 2 / (1 + z), n=length)


def _truncated(ssm, length):
    if not hasattr(ssm, "_truncations"):
        ssm._truncations = {}
    if length not in ssm._truncations:
        with torch.no_grad():
            A_bar, _, C = dense_system(ssm)
            rest = C.unsqueeze(-2) @ torch.linalg.matrix_power(A_bar, length)
            ssm._truncations[length] = C - rest.squeeze(-2)
    return ssm._truncations[length]


def by_fourier(ssm, u):
    """K ∗ u, as the published code does it."""
    length = u.shape[-1]
    K = cauchy_series(ssm, length)
    taps = F.pad(K[0], (0, length))
    if len(K) == 2:
        taps = taps + F.pad(K[1].flip(-1), (length, 0))
    spectrum = torch.fft.rfft(u, n=2 * length) * torch.fft.rfft(taps)
    return torch.fft.irfft(spectrum, n=2 * length)[..., :length]


def conv(x, weight, bias=None, stride=1):
    """`Conv1d` with half its taps as padding; depthwise if it has to be."""
    weight = weight.reshape(weight.shape[0], -1, weight.shape[-1])
    return F.conv1d(
        x,
        weight,
        bias,
        stride=stride,
        padding=weight.shape[-1] // 2,
        groups=x.shape[1] // weight.shape[1],
    )


def linear(x, layer):
    """A 1×1 convolution."""
    return conv(x, layer.weight.unsqueeze(-1), layer.bias)


def global_norm(x, norm):
    """Normalises each item over its channels and frames."""
    centred = x - x.mean(dim=(1, 2), keepdim=True)
    var = centred.square().mean(dim=(1, 2), keepdim=True)
    x = centred / torch.sqrt(var + norm.eps)
    return norm.weight[:, None] * x + norm.bias[:, None]


def layer_norm(x, norm):
    """Normalises each frame over its channels."""
    centred = x - x.mean(dim=1, keepdim=True)
    var = centred.square().mean(dim=1, keepdim=True)
    x = centred / torch.sqrt(var + norm.eps)
    return norm.weight[:, None] * x + norm.bias[:, None]


def normed_conv(x, module, stride=1):
    """Depthwise convolution, then global norm."""
    return global_norm(
        conv(x, module.conv.weight, module.conv.bias, stride), module.norm
    )


def s4_block(x, block, respond=by_sums):
    """x + GLU(W GELU(K ∗ u + D u)) with u = LayerNorm(x)."""
    layer = block.layer
    u = layer_norm(x, block.norm)
    y = respond(layer.ssm, u)
    y = linear(F.gelu(y + layer.D[:, None] * u), layer.mix)
    value, gate = y.chunk(2, dim=1)
    return x + value * torch.sigmoid(gate)


def feed_forward(x, block):
    """x + W₂ GELU(W₁ LayerNorm(x))."""
    hidden = F.gelu(linear(layer_norm(x, block.norm), block.up))
    return x + linear(hidden, block.down)


def fuse(local, coarse, fusion):
    """norm(W₁ local) · σ(up(norm(W₂ coarse))) + up(norm(W₃ coarse))."""
    frames = local.shape[-1]
    gate = F.interpolate(normed_conv(coarse, fusion.gate), size=frames)
    value = F.interpolate(normed_conv(coarse, fusion.value), size=frames)
    return normed_conv(local, fusion.local) * torch.sigmoid(gate) + value


def multi_scale_block(x, block, start, respond=by_sums):
    """One repeat; ``start`` is the scale at which the top-down path starts."""
    h = global_norm(linear(x, block.expand), block.expand_norm)
    h = F.prelu(h, block.expand_act.weight)
    scales = []
    for k, module in enumerate(block.bottom_up):
        h = normed_conv(h, module, stride=1 if k == 0 else 2)
        scales.append(h)
    coarsest = scales[-1].shape[-1]
    pooled = sum(F.adaptive_avg_pool1d(scale, coarsest) for scale in scales)
    g = feed_forward(
        s4_block(pooled, block.global_s4, respond), block.global_ff
    )
    fused = [
        fuse(scale, g, fusion)
        for scale, fusion in zip(scales, block.fusions, strict=False)
    ]
    top = fused[start]
    for k in range(len(scales) - 2, -1, -1):
        top = fuse(fused[k], top, block.top_down[k])
        if len(block.scale_s4):
            top = s4_block(top, block.scale_s4[k], respond)
    return x + linear(top, block.project)


def bottleneck(net, features):
    """The mixture's features as every repeat gets them."""
    return linear(global_norm(features, net.input_norm), net.bottleneck)


def repeats(net, mixture, start, respond=by_sums):
    """The signal after each repeat of the shared block."""
    outputs = [multi_scale_block(mixture, net.block, start, respond)]
    for _ in range(net.num_repeats - 1):
        x = conv(
            mixture + outputs[-1],
            net.rejoin.weight[:, None, None],
            net.rejoin.bias,
        )
        x = F.prelu(x, net.rejoin.act.weight)
        outputs.append(multi_scale_block(x, net.block, start, respond))
    return outputs


def mask_scores(net, x):
    """The masks before their ReLU, ``[B, S·F, L]``."""
    return linear(F.prelu(x, net.output_act.weight), net.output)


def masks(net, features, start, respond=by_sums):
    """All of it: features ``[B, F, L]`` to masks ``[S, B, F, L]``.

    Frames of zeros follow the mixture's features until the coarsest scale
    comes out even.
    """
    frames = features.shape[-1]
    mixture = bottleneck(net, features)
    while mixture.shape[-1] % 2 ** (net.block.num_scales - 1):
        mixture = F.pad(mixture, (0, 1))
    x = repeats(net, mixture, start, respond)[-1][..., :frames]
    scores = mask_scores(net, x).unflatten(1, (net.num_spks, -1))
    return F.relu(scores).transpose(0, 1)
