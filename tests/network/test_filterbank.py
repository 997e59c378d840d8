"""Every sample is seen, and comes back where it was."""

import pytest
import torch
import torch.nn.functional as F

from s4m_sb.errors import InputError
from s4m_sb.network.filterbank import Decoder, Encoder

SIZES = pytest.mark.parametrize(
    "kernel_size, stride", [(16, 4), (16, 8), (16, 16), (6, 3), (5, 1), (7, 3)]
)
BOTH = pytest.mark.parametrize("kind", [Encoder, Decoder])


@SIZES
@torch.no_grad()
def test_every_sample_is_seen_by_all_frames_that_can_cover_it(
    kernel_size, stride
):
    encoder = Encoder(1, kernel_size, stride)
    encoder.weight.fill_(1.0)
    for T in range(1, 40):
        seen = encoder(torch.eye(T))[:, 0]  # [T, L], one sample each
        assert seen.shape[1] == encoder.num_frames(T)
        taps = torch.arange(T) + kernel_size - stride  # place in the padding
        first = torch.clamp(-(-(taps - kernel_size + 1) // stride), min=0)
        expected = taps // stride + 1 - first
        assert torch.equal(seen.sum(1).long(), expected)
        # No frame sees nothing, so that there is none too many.
        assert (seen.sum(0) > 0).all()


@SIZES
@torch.no_grad()
def test_frames_are_products_with_the_filters(kernel_size, stride):
    encoder = Encoder(3, kernel_size, stride).double()
    x = torch.randn(2, 41, dtype=torch.float64)
    features = encoder(x)
    padded = F.pad(x, (kernel_size - stride, kernel_size))
    for frame in range(features.shape[2]):
        window = padded[:, frame * stride : frame * stride + kernel_size]
        expected = window @ encoder.weight[:, 0].T
        torch.testing.assert_close(
            features[:, :, frame],
            expected,
            atol=1e-13,
            rtol=0,  # float64
        )


@pytest.mark.parametrize(
    "kernel_size, stride", [(16, 4), (16, 8), (16, 16), (6, 3), (5, 1)]
)
@torch.no_grad()
def test_sample_t_stays_sample_t(kernel_size, stride):
    # Filters that copy one sample each, to a frame and back: every sample
    # returns as often as windows overlap.
    encoder = Encoder(kernel_size, kernel_size, stride)
    decoder = Decoder(kernel_size, kernel_size, stride)
    for bank in (encoder, decoder):
        bank.weight.copy_(torch.eye(kernel_size).unsqueeze(1))
    for T in range(1, 50):
        x = torch.randn(2, T)
        features = encoder(x)
        y = decoder(features)
        assert y.shape == (2, features.shape[2] * stride)
        assert y.shape[1] >= T
        expected = x * (kernel_size // stride)
        torch.testing.assert_close(y[:, :T], expected, atol=1e-5, rtol=0)


@SIZES
def test_numbers_of_frames_of_a_batch(kernel_size, stride):
    encoder = Encoder(1, kernel_size, stride)
    samples = torch.arange(1, 100)
    frames = encoder.num_frames(samples)
    assert frames.dtype == torch.int64
    assert frames.tolist() == [encoder.num_frames(n) for n in range(1, 100)]


@BOTH
def test_reset_draws_fresh_filters(kind):
    bank = kind()
    before = bank.weight.detach().clone()
    bank.reset_parameters()
    assert not torch.equal(bank.weight, before)
    assert list(bank.state_dict()) == ["weight"]
    torch.manual_seed(0)
    first = kind().weight
    torch.manual_seed(0)
    assert torch.equal(kind().weight, first)


@BOTH
@pytest.mark.parametrize(
    "values, message",
    [
        ({"num_filters": 0}, "num_filters must be at least 1, got 0"),
        ({"kernel_size": 0}, "kernel_size must be at least 1, got 0"),
        ({"stride": 0}, "stride must be at least 1, got 0"),
        ({"stride": 17}, "stride must be at most kernel_size = 16, got 17"),
    ],
)
def test_bad_sizes_are_named(kind, values, message):
    with pytest.raises(InputError, match=message):
        kind(**values)


@pytest.mark.parametrize("shape", [(5,), (2, 0), (1, 1, 5)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(InputError, match="at least one sample, got"):
        Encoder()(torch.zeros(shape))
