"""One layer, two views, and what is kept between calls."""

import copy
import io
import pickle

import naive
import pytest
import torch
import torch.nn.functional as F

from s4m_sb.errors import InputError
from s4m_sb.network import s4
from s4m_sb.network.s4 import FeedForwardBlock, S4Block, S4Layer

BOTH = pytest.mark.parametrize("kernel", ["s4", "s4d"])
LENGTH = 300  # more than `step` takes in one piece


def signal(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype)


@BOTH
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("length", [1, 2, 3, 10, 50])
def test_convolution_is_the_double_sum(kernel, bidirectional, length):
    # Lag 0 and back belong to the first kernel, the next frame and on to
    # the second.
    layer = S4Layer(3, bidirectional=bidirectional, kernel=kernel).double()
    x = signal(2, length, 3)
    u = x.transpose(1, 2)
    expected = naive.convolve(u, naive.power_series(layer.ssm, length))
    expected = (expected + layer.D[:, None] * u).transpose(1, 2)
    ours = layer.convolve(x, layer.spectrum(length))
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-10)
    y = F.linear(F.gelu(expected), layer.mix.weight, layer.mix.bias)
    expected = y[..., :3] * torch.sigmoid(y[..., 3:])
    # float64 FFT of at most 100 points
    torch.testing.assert_close(layer(x), expected, atol=1e-12, rtol=1e-10)


def run_in_pieces(layer, x, sizes):
    state = layer.initial_state(len(x))
    pieces = []
    for piece in x.split(sizes, dim=1):
        y, state = layer.step(piece, state)
        pieces.append(y)
    return torch.cat(pieces, dim=1), state


def random_sizes(total):
    """Sizes that add up, with pieces of 0 and 1 frames among them."""
    sizes = [0, 1, 0, 1, 1]
    while sum(sizes) < total:
        size = int(torch.randint(0, 60, ()))
        sizes.append(min(size, total - sum(sizes)))
    return [*sizes, 0]


@BOTH
@pytest.mark.parametrize("split", ["whole", "frames", "random", "random"])
def test_recurrence_is_the_convolution(kernel, split):
    layer = S4Layer(3, bidirectional=False, kernel=kernel).double()
    x = signal(2, LENGTH, 3).requires_grad_()
    sizes = {"whole": [LENGTH], "frames": [1] * LENGTH}.get(split)
    inputs = [x, *layer.parameters()]
    weights = signal(2, LENGTH, 3)

    outputs, gradients = [], []
    for y in (
        layer(x),
        run_in_pieces(layer, x, sizes or random_sizes(LENGTH))[0],
    ):
        outputs.append(y)
        gradients.append(torch.autograd.grad((y * weights).sum(), inputs))
    # float64, 300 frames
    torch.testing.assert_close(*outputs, atol=1e-10, rtol=0)
    names = ["x", *(name for name, _ in layer.named_parameters())]
    for name, a, b in zip(names, *gradients, strict=True):
        # float64; gradients that sum over time reach 1e3
        torch.testing.assert_close(
            a, b, atol=1e-10, rtol=1e-10, msg=lambda m, n=name: f"{n}: {m}"
        )
        assert a.abs().max() > 0, name


@BOTH
@torch.no_grad()
def test_a_state_does_not_depend_on_the_split(kernel):
    layer = S4Layer(3, bidirectional=False, kernel=kernel).double()
    x = signal(2, LENGTH, 3)
    states = [
        run_in_pieces(layer, x, sizes)[1]
        for sizes in ([LENGTH], random_sizes(LENGTH), [1] * LENGTH)
    ]
    for state in states[1:]:
        # the same products in the same order
        torch.testing.assert_close(state, states[0], atol=1e-14, rtol=0)


@BOTH
@torch.no_grad()
def test_no_frames_leave_the_state_as_it_is(kernel):
    layer = S4Layer(3, bidirectional=False, kernel=kernel)
    _, state = layer.step(torch.randn(2, 5, 3), layer.initial_state(2))
    y, after = layer.step(torch.randn(2, 0, 3), state)
    assert y.shape == (2, 0, 3)
    assert torch.equal(after, state)


@BOTH
@torch.no_grad()
def test_causal_means_blind_to_the_future(kernel):
    layer = S4Layer(3, bidirectional=False, kernel=kernel).double()
    x = signal(1, 40, 3)
    changed = x.clone()
    changed[:, 25:] = signal(1, 15, 3)
    # float64 FFT rounding travels backward, nothing else does
    torch.testing.assert_close(
        layer(x)[:, :25], layer(changed)[:, :25], atol=1e-13, rtol=0
    )
    both = S4Layer(3, kernel=kernel).double()
    assert not torch.allclose(both(x)[:, :25], both(changed)[:, :25])


@BOTH
@torch.no_grad()
def test_float32_is_close_to_float64(kernel):
    layer = S4Layer(32, kernel=kernel)
    x = torch.randn(2, 1000, 32)
    exact = copy.deepcopy(layer).double()(x.double())
    # float32 FFT of 2000 points and kernels good to 1e-4 of their largest
    # value; outputs of size 1
    torch.testing.assert_close(layer(x).double(), exact, atol=1e-4, rtol=0)


@BOTH
def test_autocast_leaves_the_state_space_in_float32(kernel):
    layer = S4Layer(4, bidirectional=False, kernel=kernel)
    x = torch.randn(2, 30, 4).bfloat16()
    spectrum = layer.spectrum(30)
    convolved = layer.convolve(x.float(), spectrum)
    _, state = layer.step(x.float(), layer.initial_state(2))
    plain = layer(x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer.spectrum(30), spectrum)
        assert torch.equal(layer.convolve(x, spectrum), convolved)
        after = layer.step(x, layer.initial_state(2))[1]
        assert torch.equal(after, state)
        y = layer(x)
        y.float().square().sum().backward()
    assert y.dtype == torch.bfloat16
    # one bfloat16 product, 8 bits, outputs of size 1
    torch.testing.assert_close(y.float(), plain, atol=0.02, rtol=0.02)
    for name, parameter in layer.named_parameters():
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all(), name


@BOTH
def test_a_spectrum_may_be_shared(kernel):
    layer = S4Layer(3, kernel=kernel)
    x = torch.randn(2, 20, 3)
    assert torch.equal(layer(x, layer.spectrum(20)), layer(x))


def change_in_place(layer):
    layer.ssm.log_dt.add_(0.1)


def change_through_data(layer):
    layer.ssm.log_dt.data.add_(0.1)


def change_storage(layer):
    layer.ssm.C.data = layer.ssm.C.data * 2


def replace_parameter(layer):
    layer.ssm.C = torch.nn.Parameter(layer.ssm.C * 2)


def load(layer):
    layer.load_state_dict(S4Layer(4).state_dict())


def reset(layer):
    layer.ssm.reset_parameters()


def optimise(layer):
    with torch.enable_grad():
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
        layer(torch.randn(1, 10, 4)).sum().backward()
        optimizer.step()
    layer.zero_grad()


def fused_step(layer):
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1, fused=True)
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(
    "change",
    [
        change_in_place,
        change_through_data,
        change_storage,
        replace_parameter,
        load,
        reset,
        optimise,
        fused_step,
    ],
)
def test_a_kept_spectrum_is_never_out_of_date(change, mode):
    layer = S4Layer(4).eval()
    with mode():
        before = layer.spectrum(10)
        assert layer.spectrum(10) is before
    with torch.no_grad():
        change(layer)
    with mode():
        after = layer.spectrum(10)
        assert layer.spectrum(10) is after
        assert not torch.allclose(after, before)
        fresh = S4Layer(4).eval()
        fresh.load_state_dict(layer.state_dict())
        assert torch.equal(after, fresh.spectrum(10))


def test_a_layer_made_in_inference_mode_can_change():
    with torch.inference_mode():
        layer = S4Layer(4).eval()
        before = layer.spectrum(10)
        change_in_place(layer)
        assert not torch.allclose(layer.spectrum(10), before)


@torch.no_grad()
def test_a_kept_spectrum_has_the_length_and_the_precision_asked_for():
    layer = S4Layer(4).eval()
    first = layer.spectrum(10)
    assert layer.spectrum(11).shape != first.shape
    assert torch.equal(layer.spectrum(10), first)
    assert layer.double().spectrum(10).dtype == torch.complex128
    assert layer.float().spectrum(10).dtype == torch.complex64


@torch.no_grad()
def test_a_large_spectrum_is_not_kept(monkeypatch):
    layer = S4Layer(4).eval()
    monkeypatch.setattr(s4, "KEPT_BYTES", layer.spectrum(10).nbytes)
    small = layer.spectrum(10)
    assert layer.spectrum(10) is small
    large = layer.spectrum(1000)
    assert layer.spectrum(1000) is not large
    assert torch.equal(layer.spectrum(1000), large)


@torch.no_grad()
def test_what_is_kept_is_not_stored_with_a_model():
    layer = S4Layer(4).eval()
    before = len(pickle.dumps(layer))
    layer.spectrum(1000)
    assert len(pickle.dumps(layer)) == before


@torch.no_grad()
def test_threads_get_the_lengths_they_ask_for(monkeypatch):
    layer = S4Layer(4).eval()
    inner, made = layer._spectrum, []

    def interrupted(length):
        spectrum = inner(length)
        if not made:  # meanwhile another thread asks for another length
            made.append(length)
            made.append(layer.spectrum(1000))
        return spectrum

    monkeypatch.setattr(layer, "_spectrum", interrupted)
    assert torch.equal(layer.spectrum(10), inner(10))
    assert torch.equal(made[1], inner(1000))


def test_a_spectrum_for_fewer_frames_is_refused():
    layer = S4Layer(4)
    with pytest.raises(InputError, match="at most 360 frames, got 700"):
        layer(torch.randn(1, 700, 4), layer.spectrum(360))


def test_training_keeps_nothing():
    layer = S4Layer(4).eval()
    with torch.no_grad():
        kept = layer.spectrum(10)
    assert layer.spectrum(10).requires_grad
    assert layer.spectrum(10) is not layer.spectrum(10)
    with torch.no_grad():
        assert layer.spectrum(10) is not kept
        layer.train()
        assert layer.spectrum(10) is not layer.spectrum(10)


def copied(layer):
    return copy.deepcopy(layer)


def pickled(layer):
    return pickle.loads(pickle.dumps(layer))


def saved(layer):
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("duplicate", [copied, pickled, saved])
@torch.no_grad()
def test_a_copy_works_and_lives_on_its_own(duplicate):
    layer = S4Layer(4).eval()
    x = torch.randn(1, 10, 4)
    expected = layer(x)
    twin = duplicate(layer)
    assert torch.equal(twin(x), expected)
    change_in_place(twin)
    assert not torch.allclose(twin(x), expected)
    assert torch.equal(layer(x), expected)


def test_a_gradient_reaches_a_copied_layer():
    layer = S4Layer(4).eval()
    with torch.no_grad():
        layer.spectrum(10)
    twin = copy.deepcopy(layer).train()
    twin(torch.randn(1, 10, 4)).sum().backward()
    assert all(p.grad is not None for p in twin.parameters())


def test_reset_draws_a_fresh_D():
    layer = S4Layer(200)
    before = layer.D.detach().clone()
    layer.reset_parameters()
    assert not torch.equal(layer.D, before)
    assert abs(layer.D.std().item() - 1) < 0.2  # 200 draws of a unit normal


@BOTH
@pytest.mark.parametrize("length", [1, 30])
def test_residual_blocks_are_their_equations(kernel, length):
    s4_block = S4Block(6, kernel=kernel).double()
    feed_forward = FeedForwardBlock(6, expand=3).double()
    with torch.no_grad():
        for block in (s4_block, feed_forward):
            block.norm.weight.uniform_(0.5, 2)
            block.norm.bias.normal_()
    x = signal(2, length, 6)
    for ours, expected in (
        (s4_block(x), naive.s4_block(x.mT, s4_block).mT),
        (feed_forward(x), naive.feed_forward(x.mT, feed_forward).mT),
    ):
        # float64 FFT of at most 60 points
        torch.testing.assert_close(ours, expected, atol=1e-11, rtol=0)


@torch.no_grad()
def test_masked_frames_reach_no_other_frame():
    block = S4Block(6).double()
    x = signal(1, 20, 6)
    mask = (torch.arange(20) < 13).double()[None, :, None]
    noisy = torch.where(mask == 1, x, 100 * signal(1, 20, 6))
    # float64, FFTs of the same length
    torch.testing.assert_close(
        block(noisy, mask=mask)[:, :13],
        block(x[:, :13]),
        atol=1e-12,
        rtol=0,
    )


def test_a_bidirectional_layer_has_no_step():
    layer = S4Layer(3)
    with pytest.raises(InputError, match="bidirectional=False"):
        layer.step(torch.randn(1, 5, 3), layer.initial_state(1))


@pytest.mark.parametrize(
    "values, message",
    [
        ({"kernel": "s5"}, "kernel must be one of s4, s4d, got 's5'"),
        ({"d_model": 0}, "d_model must be at least 1, got 0"),
        ({"d_state": 3}, "d_state must be even and positive, got 3"),
        ({"dt_min": 1.0}, "is needed, got 1.0 and 0.1"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(InputError, match=message):
        S4Layer(**{"d_model": 4, **values})


def test_bad_expansion_is_named():
    with pytest.raises(InputError, match="expand must be at least 1, got 0"):
        FeedForwardBlock(4, expand=0)


def test_step_uses_pieces_shorter_than_this_test():
    assert s4.STEP_FRAMES < LENGTH


def test_step_discretises_once_in_evaluation():
    layer = S4Layer(4, bidirectional=False).eval()
    calls = []
    discretize = layer.ssm.discretize
    layer.ssm.discretize = lambda: calls.append(1) or discretize()
    with torch.no_grad():
        state = layer.initial_state(1)
        calls.clear()
        for _ in range(3):
            y, state = layer.step(torch.ones(1, 1, 4), state)
        assert len(calls) == 1
        layer.ssm.B.mul_(2)
        before = layer.step(torch.ones(1, 1, 4), layer.initial_state(1))[0]
    fresh = S4Layer(4, bidirectional=False)
    fresh.load_state_dict(layer.state_dict())
    after = fresh.step(torch.ones(1, 1, 4), fresh.initial_state(1))[0]
    assert torch.equal(before, after)
