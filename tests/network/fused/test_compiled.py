"""The compiled loops give what the plain operations give."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch.library import opcheck

from s4m_sb.network.fused import compiled
from s4m_sb.network.fused.compiled import (
    available,
    conv,
    fits,
    gate,
    read,
    read_backward,
    with_moments,
    without_kernels,
)
from s4m_sb.network.masknet import S4MMaskNet

pytestmark = pytest.mark.skipif(
    not available(), reason="no C++ compiler when the package was installed"
)

LENGTHS = (1, 2, 3, 5, 127, 128, 129, 260)  # tasks are of 128 frames
# items and frames of the scale, and whether there is a PReLU
READINGS = {
    "bare": (0, None, False),
    "PReLU": (0, None, True),
    "one scale": (2, 1, False),
    "one scale for all items, PReLU": (1, 1, True),
    "a scale for two frames": (2, 2, False),
    "a scale for two frames of all items": (1, 2, False),
    "a scale for every frame": (2, 0, False),
}


@pytest.fixture(params=[0, 1, 2])
def instruction_set(request):
    """Any processor's, AVX2 and AVX-512, as far as this one has them."""
    library = compiled._library
    before = library.s4m_instruction_set(-1)
    if library.s4m_instruction_set(request.param) != request.param:
        pytest.skip("this processor has no such instructions")
    yield
    library.s4m_instruction_set(before)


def drawn(reading, length, channels=32):
    """Signal, scale, shift and slope, all of which need gradients."""
    items, hold, has_slope = READINGS[reading]
    if hold == 2 and length % 2:
        length += 1
    parts = [torch.randn(2, length, channels), None, None, None]
    if items:
        frames = {0: length, 1: 1, 2: length // 2}[hold]
        parts[1] = 1 + torch.rand(items, frames, channels)
        parts[2] = torch.randn(items, frames, channels)
    if has_slope:
        parts[3] = torch.tensor([0.25])
    return [None if v is None else v.requires_grad_() for v in parts]


def plain(signal, scale, shift, slope):
    """What is read, as it is defined, in float64."""
    h = signal.double()
    if scale is not None:
        times = h.shape[1] // scale.shape[1]
        h = h * scale.double().repeat_interleave(times, 1)
        h = h + shift.double().repeat_interleave(times, 1)
    return h if slope is None else F.prelu(h, slope.double())


def plain_moments(y, counts):
    """Mean and variance of the frames that count, item by item."""
    items = [item[:count] for item, count in zip(y, counts, strict=True)]
    means = [item.mean(0, keepdim=True) for item in items]
    variances = [item.var(0, correction=0, keepdim=True) for item in items]
    return torch.stack(means), torch.stack(variances)


def agree(ours, expected, inputs, size=1.0):
    """Values and gradients are the same, to rounding."""
    weights = [torch.randn(y.shape) for y in ours]
    # float32: 24 bits of sums of up to 10 products
    for y, right in zip(ours, expected, strict=True):
        torch.testing.assert_close(
            y.double(), right.double(), atol=1e-5 * size, rtol=1e-5
        )
    inputs = [v for v in inputs if v is not None]
    results = [
        torch.autograd.grad(
            sum((y * w).sum() for y, w in zip(ys, weights, strict=True)), inputs
        )
        for ys in (ours, expected)
    ]
    for mine, right in zip(*results, strict=True):
        # and of sums over up to 520 frames
        bound = 1e-5 * max(1.0, right.detach().abs().max().item())
        torch.testing.assert_close(mine, right, atol=bound, rtol=1e-4)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.usefixtures("instruction_set")
def test_reading_and_its_gradients(reading, length):
    parts = drawn(reading, length)
    assert fits(*parts)
    expected = plain(*parts)
    held = [v for v in parts if v is not None]
    grad = torch.randn(expected.shape)
    theirs = torch.autograd.grad(expected, held, grad.double())
    with torch.no_grad():
        torch.testing.assert_close(
            read(*parts).double(), expected, atol=1e-5, rtol=1e-5
        )  # float32
        ours = read_backward(*parts, grad)
    assert [g is None for g in ours] == [v is None for v in parts]
    for mine, right in zip(
        [g for g in ours if g is not None], theirs, strict=True
    ):
        # float32, sums over up to 520 frames
        torch.testing.assert_close(mine, right, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.usefixtures("instruction_set")
def test_moments_and_their_gradients(length, told):
    x = torch.randn(2, length, 32, requires_grad=True)
    counts = [length, (length + 1) // 2] if told else [length] * 2
    valid = torch.tensor(counts) if told else None
    ours = with_moments(x, valid)
    expected = x, *plain_moments(x.double(), counts)
    agree(ours, expected, [x])
    with torch.no_grad():
        for mine, right in zip(with_moments(x, valid), ours, strict=True):
            assert torch.equal(mine, right)


@pytest.mark.usefixtures("instruction_set")
def test_a_large_offset_costs_no_digits_of_the_variance():
    x = 1000 + torch.randn(1, 8000, 16)
    _, mean, var = with_moments(x, None)
    exact = torch.var_mean(x.double(), 1, correction=0, keepdim=True)
    # float32 holds values near 1000 in steps of 6e-5
    torch.testing.assert_close(mean.double(), exact[1], atol=0, rtol=3e-7)
    torch.testing.assert_close(var.double(), exact[0], atol=0, rtol=3e-5)


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("left", [2, 4])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("reading", READINGS)
def test_a_convolution_its_moments_and_their_gradients(
    reading, length, stride, left, told
):
    parts = drawn(reading, length)
    length = parts[0].shape[1]
    counts = [length, (length + 1) // 2] if told else [length] * 2
    valid = torch.tensor(counts) if told else None
    weight = torch.randn(32, 1, 5, requires_grad=True)
    bias = torch.randn(32, requires_grad=True) if told else None
    h = plain(*parts)
    mask = torch.arange(length) < torch.tensor(counts)[:, None]
    h = torch.where(mask[..., None], h, 0.0)
    expected = F.conv1d(
        F.pad(h.mT, (left, 4 - left)),
        weight.double(),
        None if bias is None else bias.double(),
        stride,
        groups=32,
    ).mT
    found = [-(-count // stride) for count in counts]
    agree(
        conv(*parts, valid, weight, bias, stride, left),
        (expected, *plain_moments(expected, found)),
        [*parts, weight, bias],
        size=5.0,  # of the values
    )


@pytest.mark.parametrize("name", ["conv", "read", "gate"])
@pytest.mark.usefixtures("instruction_set")
def test_every_instruction_set_gives_the_same(name):
    parts = drawn("one scale", 260)
    weight = torch.randn(32, 1, 5)
    with torch.no_grad():
        calls = {
            "conv": lambda: conv(*parts, None, weight, None, 1, 2),
            "read": lambda: (read(*parts),),
            "gate": lambda: gate(*parts[:3], *parts[:3], *parts[1:3]),
        }
        ours = calls[name]()
        with without_kernels():
            h = plain(*parts)
            expected = {
                "conv": lambda: (
                    F.conv1d(h.mT, weight.double(), padding=2, groups=32).mT
                ),
                "read": lambda: h,
                "gate": lambda: torch.sigmoid(h) * parts[1].double(),
            }[name]()
    # float32
    torch.testing.assert_close(ours[0].double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("items", [1, 2])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.usefixtures("instruction_set")
def test_a_gate_and_its_gradients(length, items):
    signals = [torch.randn(2, length, 16) * 3 for _ in range(2)]
    scales = [torch.randn(items, 1, 16) for _ in range(6)]
    inputs = [signals[0], *scales[:2], signals[1], *scales[2:]]
    inputs = [v.requires_grad_() for v in inputs]
    g, g_scale, g_shift, v, v_scale, v_shift, scale, shift = [
        value.double() for value in inputs
    ]
    s = torch.sigmoid(g * g_scale + g_shift)
    agree(
        gate(*inputs),
        (scale * s, shift * s + v * v_scale + v_shift),
        inputs,
        size=3.0,  # of the values
    )


@torch.no_grad()
def test_a_gate_far_open_or_shut():
    wide = torch.linspace(-200, 200, 16 * 401).reshape(1, 401, 16)
    one, none = torch.ones(1, 1, 16), torch.zeros(1, 1, 16)
    ours, _ = gate(wide, one, none, wide, one, none, one, none)
    expected = torch.sigmoid(wide.double())
    # float32; below e^-87 there is e^-87
    torch.testing.assert_close(ours.double(), expected, atol=1e-37, rtol=1e-6)


@torch.no_grad()
def test_results_do_not_depend_on_the_number_of_threads():
    parts, weight = drawn("one scale", 1000), torch.randn(32, 1, 5)
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            results.append(conv(*parts, None, weight, None, 1, 2))
        finally:
            torch.set_num_threads(1)
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


def test_a_large_signal_goes_past_the_cache():
    x = torch.randn(1, 3000, 512)  # above the size at which it does
    weight = torch.randn(512, 1, 5)
    with torch.no_grad():
        ours, *_ = conv(x, None, None, None, None, weight, None, 1, 2)
    expected = F.conv1d(x.mT, weight, padding=2, groups=512).mT
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)  # float32


def network():
    torch.manual_seed(0)
    return S4MMaskNet(num_filters=5, d_model=16, d_hidden=32, num_repeats=3)


@pytest.mark.parametrize("num_frames", [None, [301, 150]])
@pytest.mark.parametrize("checkpoint_repeats", [False, True])
def test_a_network_gives_the_same_without_them(num_frames, checkpoint_repeats):
    net = network()
    net.checkpoint_repeats = checkpoint_repeats
    features = torch.randn(2, 5, 301, requires_grad=True)
    told = None if num_frames is None else torch.tensor(num_frames)
    weights = torch.randn(2, 2, 5, 301)

    def run():
        y = net(features, told)
        inputs = [features, *net.parameters()]
        gradients = torch.autograd.grad((y * weights).sum(), inputs)
        with torch.no_grad():
            return [y, net(features, told), *gradients]

    assert available()
    ours = run()
    with without_kernels():
        assert not fits(features)
        expected = run()
    for mine, right in zip(ours, expected, strict=True):
        # float32 through three repeats of some thirty norms
        bound = 1e-5 * max(1.0, right.detach().abs().max().item())
        torch.testing.assert_close(mine, right, atol=bound, rtol=1e-3)


@pytest.mark.parametrize(
    "signal",
    [
        torch.zeros(1, 4, 16, dtype=torch.float64),
        torch.zeros(1, 4, 16, dtype=torch.bfloat16),
        torch.zeros(1, 4, 15),
        torch.zeros(0, 4, 16),
        torch.zeros(1, 16, 4).mT,
        torch.zeros(1, 4, 16, device="meta"),
    ],
)
def test_other_signals_take_the_plain_way(signal):
    assert fits(torch.zeros(1, 4, 16))
    assert not fits(signal)


def test_scales_that_the_loops_cannot_take_go_the_plain_way():
    signal = torch.zeros(1, 12, 16)
    assert fits(signal, *torch.zeros(2, 1, 3, 16))  # 4 frames each
    assert not fits(signal, *torch.zeros(2, 1, 4, 16))  # 3 frames each
    assert not fits(signal, *torch.zeros(2, 1, 1, 16).double())
    assert not fits(signal, None, None, torch.zeros(16))  # a slope a channel


@pytest.mark.parametrize("name", ["conv", "gate", "moments", "read"])
def test_each_is_an_operator_as_pytorch_wants_it(name):
    """Schema, what it gives without values, gradients, tracing."""
    parts = drawn("one scale", 20, 16)
    operator = getattr(torch.ops.s4m_sb, name).default
    inputs = {
        "conv": (*parts, None, torch.randn(16, 1, 5), 1, 2, None),
        "gate": (*parts[:3], *parts[:3], *parts[1:3]),
        "moments": (parts[0].detach(), torch.tensor([20, 7])),
        "read": tuple(None if v is None else v.detach() for v in parts),
    }[name]
    opcheck(operator, inputs)


def test_what_exports_a_network_sees_one_operator():
    class Convolution(torch.nn.Module):
        def forward(self, x, weight):
            return conv(x, None, None, None, None, weight, None, 1, 2)[0]

    x, weight = torch.randn(1, 20, 16), torch.randn(16, 1, 5)
    program = torch.export.export(Convolution(), (x, weight))
    called = [
        str(node.target)
        for node in program.graph.nodes
        if node.op == "call_function" and "getitem" not in str(node.target)
    ]
    assert called == ["s4m_sb.conv.default"]
    assert torch.equal(program.module()(x, weight), Convolution()(x, weight))


def test_they_can_be_left_out():
    program = "from s4m_sb.network.fused import compiled as c\n"
    program += "print(c.available())"
    for value, answer in (("off", "False"), ("", "True")):
        result = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "S4M_SB_KERNELS": value},
            capture_output=True,
            text=True,
        )
        assert result.stdout.strip() == answer, result.stderr
