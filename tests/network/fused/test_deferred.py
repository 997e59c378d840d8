"""What waits gives what is done at once, and nobody can see a difference."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from s4m_sb.network.fused.deferred import (
    Deferred,
    gated,
    gradients,
    linear,
    written,
)
from s4m_sb.network.fused.depthwise import DepthwiseConv
from s4m_sb.network.fused.moments import channel_moments

SIGNALS = {
    "bare": (0, None, False),
    "PReLU": (0, None, True),
    "P = 1": (2, 1, False),
    "P = 4": (2, 4, False),
    "P = L": (2, 12, False),
    "all items": (1, 4, True),
}


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def written_out(signal, scale, shift, slope):
    """The definition, with every frame's own scale and shift."""
    h = signal
    if scale is not None:
        times = h.shape[1] // scale.shape[1]
        h = h * scale.repeat_interleave(times, 1)
        h = h + shift.repeat_interleave(times, 1)
    return h if slope is None else F.prelu(h, slope)


def drawn(name, dtype=torch.float64):
    """Signal, scale, shift and slope of one of the signals."""
    items, frames, has_slope = SIGNALS[name]
    parts = [normal(2, 12, 3), None, None, None]
    if items:
        parts[1:3] = normal(items, frames, 3), normal(items, frames, 3)
    if has_slope:
        parts[3] = torch.tensor([0.25], dtype=torch.float64)
    return [v if v is None else v.to(dtype) for v in parts]


@pytest.fixture(params=list(SIGNALS))
def parts(request):
    return drawn(request.param)


def deferred(parts, mask=None, made=False):
    """The signal, given by a caller or made by an operation."""
    signal, scale, shift, slope = parts
    x = Deferred.made(signal, mask) if made else Deferred(signal, mask)
    if scale is not None:
        x = x.then(scale, shift)
    return x if slope is None else x.prelu(slope)


def with_gradients(parts):
    return [v if v is None else v.requires_grad_() for v in parts]


def agree(parts, ours, expected, parameters=()):
    """Outputs and gradients are the same."""
    inputs = [v for v in parts if v is not None] + list(parameters)
    # float64, sums of some 20 products
    torch.testing.assert_close(ours, expected, atol=1e-13, rtol=0)
    weights = normal(*ours.shape)
    for mine, right in zip(
        torch.autograd.grad(ours, inputs, weights),
        torch.autograd.grad(expected, inputs, weights),
        strict=True,
    ):
        torch.testing.assert_close(mine, right, atol=1e-12, rtol=0)


def test_reading(parts):
    parts = with_gradients(parts)
    agree(parts, deferred(parts).read(), written_out(*parts))
    agree(parts, deferred(parts).computed().read(), written_out(*parts))
    agree(parts, written(*parts), written_out(*parts))


@pytest.mark.parametrize("frames", [1, 4, 12, 24])
def test_a_signal_gated_by_others(parts, frames):
    parts = with_gradients(parts)
    gate, value = normal(2, frames, 3), normal(2, frames, 3)
    others = [v.requires_grad_() for v in (gate, value)]
    times = max(1, 12 // frames)
    seen = [
        v[:, :: max(1, frames // 12)].repeat_interleave(times, 1)
        for v in others
    ]
    expected = written_out(*parts) * torch.sigmoid(seen[0]) + seen[1]
    ours = gated(deferred(parts), Deferred(gate), Deferred(value)).read()
    agree(parts, ours, expected, others)
    with torch.no_grad():
        scale, shift = normal(2, 1, 3), normal(2, 1, 3)
        x = Deferred(parts[0]).regained(scale, shift)
    torch.testing.assert_close(
        x.read(), parts[0] * scale + shift, atol=1e-14, rtol=0
    )  # float64


@pytest.mark.parametrize("widths", [(3, 5), (5, 3)])
def test_a_linear_map(parts, widths):
    # The bias of the wider one waits.
    parts = with_gradients(parts)
    layer = nn.Linear(*widths).double()
    if widths[0] == 5:
        parts = [
            v if v is None or v.shape[-1] == 1 else v[..., [0, 1, 2, 0, 1]]
            for v in parts
        ]
        parts = with_gradients([v if v is None else v.detach() for v in parts])
    agree(
        parts,
        linear(deferred(parts), layer).read(),
        layer(written_out(*parts)),
        layer.parameters(),
    )


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution(parts, stride, masked):
    parts = with_gradients(parts)
    conv = DepthwiseConv(3, 5, stride).double()
    x, h = deferred(parts), written_out(*parts)
    if masked:
        mask = torch.arange(12) < torch.tensor([[12], [7]])
        mask = mask.double().unsqueeze(-1)
        x, h = Deferred(x.read(), mask), h * mask
    expected = F.conv1d(h.mT, conv.weight, conv.bias, stride, 2, groups=3).mT
    y = conv(x)
    agree(parts, y.read(), expected, conv.parameters())
    if masked:
        assert torch.equal(y.mask, mask[:, ::stride])


@pytest.mark.parametrize("with_shift", [False, True])
@pytest.mark.parametrize("frames", [1, 2, 4, 12, 24])
def test_a_further_scale_and_shift(parts, frames, with_shift):
    # 24 are twice as many as the signal has: every second is taken
    parts = with_gradients(parts)
    scale = normal(2, frames, 3).requires_grad_()
    shift = normal(2, frames, 3).requires_grad_() if with_shift else None
    step = max(1, frames // 12)
    seen = [None if v is None else v[:, ::step] for v in (scale, shift)]
    if shift is None:
        seen[1] = torch.zeros_like(seen[0])
    h = written_out(written_out(*parts), *seen, None)
    further = [scale, *([shift] if with_shift else [])]
    agree(parts, deferred(parts).then(scale, shift).read(), h, further)


def test_a_further_prelu(parts):
    parts = with_gradients(parts)
    slope = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
    expected = F.prelu(written_out(*parts), slope)
    agree(parts, deferred(parts).prelu(slope).read(), expected, [slope])


@pytest.mark.parametrize("frames", [1, 4, 12])
def test_means_are_those_of_what_is_read(parts, frames):
    parts = with_gradients(parts)
    expected = written_out(*parts).unflatten(1, (frames, -1)).mean(2)
    agree(parts, deferred(parts).pool(frames), expected)


@pytest.mark.parametrize("masked", [False, True])
def test_moments_are_those_of_what_is_read(parts, masked):
    parts = with_gradients(parts)
    mask = None
    if masked:
        mask = (torch.arange(12) < torch.tensor([[12], [7]])).double()
        mask = mask.unsqueeze(-1)
    expected = channel_moments(written_out(*parts), mask)
    ours = deferred(parts, mask).moments
    agree(parts, torch.cat(ours), torch.cat(expected))


@torch.no_grad()
def test_moments_stay_those_of_the_signal_when_it_is_written_out(parts):
    expected = channel_moments(written_out(*parts))
    x = deferred(parts, made=True)
    x._stored.moments()  # known before it is written out
    for _ in range(2):
        for ours, theirs in zip(x.moments, expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-13, rtol=0)
        x.read()


@pytest.mark.parametrize("gradients_on", [False, True])
def test_what_the_caller_holds_is_never_overwritten(parts, gradients_on):
    """Neither what was given, nor what was handed out."""
    signal = parts[0].clone()
    scale = normal(1, 1, 3)
    slope = torch.tensor([0.5], dtype=torch.float64)
    with torch.set_grad_enabled(gradients_on):
        x = deferred(parts)
        handed = [x.read()]
        for further in (x.then(scale, scale), x.prelu(slope)):
            handed.append(further.read())
            del further
        before = [h.clone() for h in handed]
        x.then(scale).read()
        x.pool(4)
        gated(x, x, x).read()
        del x
    assert torch.equal(parts[0], signal)
    for h, value in zip(handed, before, strict=True):
        assert torch.equal(h, value)


@torch.no_grad()
def test_what_one_alone_holds_is_overwritten(parts):
    """And what two hold is not, until one of them has gone."""
    expected = written_out(*parts)
    place = parts[0].data_ptr()
    ours = deferred(parts, made=True).read()
    torch.testing.assert_close(ours, expected, atol=1e-13, rtol=0)
    assert ours.data_ptr() == place

    signal = parts[0].clone()
    first = Deferred.made(parts[0], None)
    second = first.then(normal(1, 1, 3))
    other = second.read()
    assert other.data_ptr() != place
    assert torch.equal(first.value(), signal)
    third = first.then(normal(1, 1, 3))
    del first
    assert third.read().data_ptr() == place


@torch.no_grad()
def test_what_has_been_written_out_is_not_computed_again(parts):
    x = deferred(parts)
    first = x.read()
    assert x.read() is first
    assert x.computed() is x


@pytest.mark.parametrize("read", ["linear", "convolution"])
def test_readers_keep_their_inputs_alone(read):
    """What a backward pass needs is not a signal of its own."""
    parts = with_gradients(drawn("P = 4"))
    x = deferred(parts)
    layer, conv = nn.Linear(3, 5).double(), DepthwiseConv(3, 5).double()
    known = {v.data_ptr() for v in parts[:3]}
    for module in (layer, conv):
        known |= {v.data_ptr() for v in module.parameters()}
    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        linear(x, layer) if read == "linear" else conv(x)
    assert kept
    assert {t.data_ptr() for t in kept} <= known


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_under_autocast(dtype):
    parts = with_gradients(drawn("P = 4", torch.float32))
    layer, conv = nn.Linear(3, 3), DepthwiseConv(3, 5)
    parameters = [*parts[:3], *layer.parameters(), *conv.parameters()]

    def outputs():
        x = deferred(parts)
        return [linear(x, layer).read(), conv(x).read()]

    with torch.autocast("cpu", dtype):
        half = outputs()
    assert [y.dtype for y in half] == [dtype, dtype]
    ours = torch.autograd.grad([y.sum() for y in half], parameters)
    exact = torch.autograd.grad([y.sum() for y in outputs()], parameters)
    for mine, expected in zip(ours, exact, strict=True):
        assert mine.dtype == torch.float32
        # 8 bits of bfloat16, sums of up to 60 products of size 1 to 10
        torch.testing.assert_close(mine, expected, atol=0.5, rtol=0.05)


def test_gradients_for_a_reader(parts):
    parts = with_gradients(parts)
    grad = normal(2, 12, 3)
    with torch.no_grad():
        ours = gradients(parts, grad, (True,) * 4)
    held = [v for v in parts if v is not None]
    expected = torch.autograd.grad(written_out(*parts), held, grad)
    for mine, right in zip(
        [g for g in ours if g is not None], expected, strict=True
    ):
        # float64, sums of some 20 products
        torch.testing.assert_close(mine, right, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_signal_of_half_precision_is_read_in_float32(dtype):
    signal = torch.randn(2, 4, 3).to(dtype).requires_grad_()
    scale = torch.randn(2, 1, 3, requires_grad=True)
    shift = torch.randn(2, 1, 3, requires_grad=True)
    y = written(signal, scale, shift)
    assert torch.equal(y, torch.addcmul(shift, signal.float(), scale))
    gradients = torch.autograd.grad(y.sum(), [signal, scale, shift])
    assert [g.dtype for g in gradients] == [dtype] + 2 * [torch.float32]
