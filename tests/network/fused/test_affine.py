"""A scale and shift that wait are those that do not."""

import pytest
import torch
import torch.nn.functional as F

from s4m_sb.network.fused.affine import Affine, linear, scale_shift
from s4m_sb.network.fused.depthwise import DepthwiseConv


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def written_out(x):
    """The definition of `Affine`, with every frame's own scale and shift."""
    h = x.signal
    if x.scale is not None:
        times = h.shape[1] // x.scale.shape[1]
        scale = x.scale.repeat_interleave(times, 1)
        h = h * scale + x.shift.repeat_interleave(times, 1)
    return h if x.slope is None else F.prelu(h, x.slope)


def signals():
    """With P = 1, some and all frames, one scale for all items, a PReLU."""
    slope = torch.tensor([0.25], dtype=torch.float64)
    return {
        "bare": Affine(normal(2, 12, 3)),
        "PReLU": Affine(normal(2, 12, 3), slope=slope),
        "P = 1": Affine(normal(2, 12, 3), normal(2, 1, 3), normal(2, 1, 3)),
        "P = 4": Affine(normal(2, 12, 3), normal(2, 4, 3), normal(2, 4, 3)),
        "P = L": Affine(normal(2, 12, 3), normal(2, 12, 3), normal(2, 12, 3)),
        "all items": Affine(
            normal(2, 12, 3), normal(1, 4, 3), normal(1, 4, 3), slope
        ),
    }


@pytest.fixture(params=list(signals()))
def x(request):
    return signals()[request.param]


def with_gradients(x):
    return Affine(*(v if v is None else v.requires_grad_() for v in x[:4]))


def agree(x, ours, expected, parameters=()):
    """Outputs and gradients are the same."""
    inputs = [v for v in x[:4] if v is not None] + list(parameters)
    # float64, sums of some 20 products
    torch.testing.assert_close(ours, expected, atol=1e-13, rtol=0)
    weights = normal(*ours.shape)
    for mine, right in zip(
        torch.autograd.grad(ours, inputs, weights),
        torch.autograd.grad(expected, inputs, weights),
        strict=True,
    ):
        torch.testing.assert_close(mine, right, atol=1e-12, rtol=0)


def test_reading(x):
    x = with_gradients(x)
    agree(x, x.read(), written_out(x))


def test_a_linear_map(x):
    x = with_gradients(x)
    weight, bias = normal(5, 3).requires_grad_(), normal(5).requires_grad_()
    agree(
        x,
        linear(x, weight, bias),
        F.linear(written_out(x), weight, bias),
        [weight, bias],
    )


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution(x, stride, masked):
    x = with_gradients(x)
    conv = DepthwiseConv(3, 5, stride).double()
    mask = None
    if masked:
        mask = (torch.arange(12) < torch.tensor([[12], [7]])).double()[
            ..., None
        ]
    h = written_out(x) * (1 if mask is None else mask)
    expected = F.conv1d(h.mT, conv.weight, conv.bias, stride, 2, groups=3).mT
    agree(x, conv(x, mask), expected, conv.parameters())


@pytest.mark.parametrize("name", ["bare", "P = 1", "P = 4"])
@pytest.mark.parametrize("frames", [1, 4])
def test_a_further_scale_and_shift(name, frames):
    x = signals()[name]
    scale, shift = normal(2, frames, 3), normal(2, frames, 3)
    expected = written_out(Affine(written_out(x), scale, shift))
    torch.testing.assert_close(
        x.then(scale, shift).read(), expected, atol=1e-13, rtol=0
    )  # float64


@pytest.mark.parametrize("name", ["bare", "P = 1"])
def test_means_are_those_of_what_is_read(name):
    x = signals()[name]
    expected = written_out(x).unflatten(1, (4, 3)).mean(2)
    torch.testing.assert_close(x.mean(4), expected, atol=1e-13, rtol=0)


def test_a_spent_signal_is_overwritten_without_gradients_only(x):
    expected = written_out(x)
    for spent in (False, True):
        before = x.signal.clone()
        asked = x._replace(signal=before.clone(), spent=spent)
        with torch.no_grad():
            ours = asked.read()
        torch.testing.assert_close(ours, expected, atol=1e-13, rtol=0)
        assert spent or torch.equal(asked.signal, before)
        if spent:
            assert ours.data_ptr() == asked.signal.data_ptr()
    asked = x._replace(signal=before.clone().requires_grad_(), spent=True)
    asked.read()
    assert torch.equal(asked.signal, before)


@pytest.mark.parametrize("read", ["linear", "convolution"])
def test_readers_keep_their_inputs_alone(read):
    """What a backward pass needs is not a signal of its own."""
    x = with_gradients(signals()["P = 4"])
    weight, bias = normal(5, 3).requires_grad_(), normal(5)
    conv = DepthwiseConv(3, 5).double()
    known = {v.data_ptr() for v in (*x[:3], weight, bias, *conv.parameters())}
    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        linear(x, weight, bias) if read == "linear" else conv(x)
    assert kept
    assert {t.data_ptr() for t in kept} <= known


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_under_autocast(dtype):
    x = with_gradients(Affine(*(v.float() for v in signals()["P = 4"][:3])))
    weight = torch.randn(5, 3, requires_grad=True)
    bias = torch.zeros(5, requires_grad=True)
    conv = DepthwiseConv(3, 5)
    parameters = [*x[:3], weight, bias, *conv.parameters()]
    with torch.autocast("cpu", dtype):
        outputs = [linear(x, weight, bias), conv(x)]
    assert [y.dtype for y in outputs] == [dtype, dtype]
    gradients = torch.autograd.grad([y.sum() for y in outputs], parameters)
    exact = torch.autograd.grad(
        [linear(x, weight, bias).sum(), conv(x).sum()], parameters
    )
    for ours, expected in zip(gradients, exact, strict=True):
        assert ours.dtype == torch.float32
        # 8 bits of bfloat16, sums of up to 60 products of size 1 to 10
        torch.testing.assert_close(ours, expected, atol=0.5, rtol=0.05)


@pytest.mark.parametrize(
    "scale_shape, shift_shape",
    [((2, 1, 3), (2, 1, 3)), ((3,), (2, 1, 3)), ((2, 4, 3), (2, 4, 3))],
)
def test_scale_and_shift_are_a_multiply_add(scale_shape, shift_shape):
    inputs = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 4, 3), scale_shape, shift_shape)
    ]
    x, scale, shift = inputs
    # float64, one rounding more or less
    torch.testing.assert_close(
        scale_shift(*inputs), x * scale + shift, atol=1e-15, rtol=1e-15
    )
    assert torch.autograd.gradcheck(scale_shift, inputs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scale_and_shift_of_half_precision(dtype):
    x = torch.randn(2, 4, 3).to(dtype).requires_grad_()
    scale = torch.randn(2, 1, 3, requires_grad=True)
    shift = torch.randn(2, 1, 3, requires_grad=True)
    y = scale_shift(x, scale, shift)
    assert torch.equal(y, torch.addcmul(shift, x.float(), scale))
    gradients = torch.autograd.grad(y.sum(), [x, scale, shift])
    assert [g.dtype for g in gradients] == [dtype] + 2 * [torch.float32]


def test_what_several_read_is_written_out_without_gradients_only(x):
    expected = written_out(x)
    assert x.settled() is x
    with torch.no_grad():
        settled = x.settled()
    assert settled[1:] == (None, None, None, False)
    assert settled.signal.data_ptr() == x.signal.data_ptr()
    torch.testing.assert_close(settled.signal, expected, atol=1e-13, rtol=0)
