"""The one forward path: any length, any batch, any mask network."""

import math

import pytest
import torch
import torch.nn.functional as F
from speechbrain.lobes.models import conv_tasnet, dual_path
from torch import nn

from s4m_sb.errors import InputError
from s4m_sb.metrics import pit_si_snr_loss
from s4m_sb.network.filterbank import Decoder, Encoder
from s4m_sb.network.lengths import num_samples, sample_mask
from s4m_sb.network.masknet import S4MMaskNet
from s4m_sb.network.separate import separate


def networks(num_spks=2, **sizes):
    """Encoder, mask network and decoder, small."""
    small = {"d_model": 16, "d_hidden": 32, "num_repeats": 3}
    masknet = S4MMaskNet(num_spks=num_spks, **{**small, **sizes})
    return Encoder(), masknet, Decoder()


@torch.no_grad()
def test_the_output_is_as_long_as_the_input():
    encoder, masknet, decoder = networks(d_model=4, d_hidden=4, num_repeats=1)
    for T in [*range(1, 201), 8191, 8192, 100003]:
        sources = separate(torch.randn(1, T), None, encoder, masknet, decoder)
        assert sources.shape == (1, T, 2)
        assert sources.isfinite().all()


@pytest.mark.parametrize("num_spks", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 4])
@torch.no_grad()
def test_any_number_of_speakers_and_items(num_spks, batch):
    mixture = torch.randn(batch, 301)
    sources = separate(mixture, None, *networks(num_spks))
    assert sources.shape == (batch, 301, num_spks)


SAMPLES = [2000, 1999, 1501, 333, 5]


def uneven_batch(behind, dtype):
    """Mixtures with something behind their ends, and their lengths."""
    mixture = torch.randn(len(SAMPLES), max(SAMPLES), dtype=dtype)
    for item, n in enumerate(SAMPLES):
        rest = torch.full((max(SAMPLES) - n,), math.nan, dtype=dtype)
        mixture[item, n:] = rest if behind == "nan" else rest.uniform_(-9, 9)
    return mixture, torch.tensor(SAMPLES) / max(SAMPLES)


@pytest.mark.parametrize("s4_per_scale", [False, True])
@pytest.mark.parametrize("behind", ["noise", "nan"])
@torch.no_grad()
def test_a_batch_is_its_items_one_by_one(behind, s4_per_scale):
    nets = networks(s4_per_scale=s4_per_scale)
    mixture, lengths = uneven_batch(behind, torch.float32)
    sources = separate(mixture, lengths, *nets)
    for item, n in enumerate(SAMPLES):
        alone = separate(mixture[item : item + 1, :n], None, *nets)
        # float32, FFTs of other lengths; sources of size 1
        torch.testing.assert_close(
            sources[item, :n], alone[0], atol=1e-5, rtol=0
        )
        assert not sources[item, n:].any()


@pytest.mark.parametrize("s4_per_scale", [False, True])
@pytest.mark.parametrize("behind", ["noise", "nan"])
def test_a_batch_learns_what_its_items_teach(behind, s4_per_scale):
    nets = [net.double() for net in networks(s4_per_scale=s4_per_scale)]
    parameters = [p for net in nets for p in net.parameters()]
    mixture, lengths = uneven_batch(behind, torch.float64)
    targets = torch.randn(*mixture.shape, 2, dtype=torch.float64)
    sources = separate(mixture, lengths, *nets)
    loss = pit_si_snr_loss(targets, sources, lengths).sum()
    gradients = torch.autograd.grad(loss, parameters)
    total = [torch.zeros_like(p) for p in parameters]
    for item, n in enumerate(SAMPLES):
        alone = separate(mixture[item : item + 1, :n], None, *nets)
        loss = pit_si_snr_loss(targets[item : item + 1, :n], alone).sum()
        for so_far, gradient in zip(
            total, torch.autograd.grad(loss, parameters), strict=True
        ):
            so_far += gradient
    largest = max(gradient.abs().max() for gradient in total)
    for ours, expected in zip(gradients, total, strict=True):
        # float64; the SI-SNR of 5 samples alone costs three digits
        assert (ours - expected).abs().max() < 1e-10 * largest


@torch.no_grad()
def test_full_lengths_are_no_lengths():
    nets = networks()
    mixture = torch.randn(2, 777)
    torch.testing.assert_close(
        separate(mixture, torch.ones(2), *nets),
        separate(mixture, None, *nets),
        atol=1e-5,  # float32, sums in another order
        rtol=0,
    )


@torch.no_grad()
def test_the_mixture_is_left_alone():
    mixture = torch.randn(2, 100)
    before = mixture.clone()
    separate(mixture, torch.tensor([1.0, 0.5]), *networks())
    assert torch.equal(mixture, before)


def test_same_mixture_same_sources():
    nets = networks()
    mixture = torch.randn(1, 500)
    for net in nets:
        net.eval()
    with torch.no_grad():
        first = separate(mixture, None, *nets)
        separate(torch.randn(1, 900), None, *nets)  # another length between
        assert torch.equal(separate(mixture, None, *nets), first)


class Wrapped(nn.Module):
    """As a distributed wrapper does: the network is its ``module``."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *inputs):
        return self.module(*inputs)


@torch.no_grad()
def test_a_wrapped_network_gets_its_lengths():
    nets = networks()
    mixture = torch.randn(2, 800)
    lengths = torch.tensor([1.0, 0.6])
    plain = separate(mixture, lengths, *nets)
    wrapped = separate(mixture, lengths, *map(Wrapped, nets))
    assert torch.equal(wrapped, plain)


def sepformer(num_spks):
    """SpeechBrain's SepFormer, small."""

    def transformer():
        return dual_path.SBTransformerBlock(
            num_layers=1, d_model=16, nhead=2, d_ffn=16, norm_before=True
        )

    return dual_path.Dual_Path_Model(
        in_channels=16,
        out_channels=16,
        intra_model=transformer(),
        inter_model=transformer(),
        num_layers=1,
        norm="ln",
        K=20,
        num_spks=num_spks,
        linear_layer_after_inter_intra=False,
    )


def tasnet(num_spks):
    """SpeechBrain's Conv-TasNet, small."""
    return conv_tasnet.MaskNet(N=16, B=8, H=8, P=3, X=2, R=1, C=num_spks)


def speechbrains_way(mixture, encoder, masknet, decoder, num_spks):
    """Separation as SpeechBrain's scripts do it, source by source."""
    features = encoder(mixture)
    masked = torch.stack([features] * num_spks) * masknet(features)
    decoded = [decoder(source) for source in masked]
    sources = torch.stack(decoded, dim=-1)  # [B, T', S]
    missing = mixture.shape[1] - sources.shape[1]
    if missing > 0:
        sources = F.pad(sources, (0, 0, 0, missing))
    return sources[:, : mixture.shape[1]]


@pytest.mark.parametrize("make", [sepformer, tasnet])
@pytest.mark.parametrize("num_spks", [2, 3])
@pytest.mark.parametrize("samples", [800, 805])
@torch.no_grad()
def test_networks_of_speechbrain_run_as_speechbrain_runs_them(
    make, num_spks, samples
):
    encoder = dual_path.Encoder(kernel_size=16, out_channels=16)
    decoder = dual_path.Decoder(
        in_channels=16, out_channels=1, kernel_size=16, stride=8, bias=False
    )
    masknet = make(num_spks).eval()
    mixture = torch.randn(3, samples)
    expected = speechbrains_way(mixture, encoder, masknet, decoder, num_spks)
    ours = separate(mixture, None, encoder, masknet, decoder)
    # float32, one decoder call in place of several
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)
    # Lengths silence what stands behind the end, before and after.
    lengths = torch.tensor([1.0, 0.7, 0.4])
    mask = sample_mask(num_samples(lengths, samples), samples)
    expected = speechbrains_way(
        mixture * mask, encoder, masknet, decoder, num_spks
    )
    ours = separate(mixture, lengths, encoder, masknet, decoder)
    torch.testing.assert_close(
        ours,
        expected * mask.unsqueeze(-1),
        atol=1e-6,
        rtol=0,  # float32
    )


@pytest.mark.parametrize("our_part", ["encoder", "masknet", "decoder"])
@torch.no_grad()
def test_parts_may_be_mixed(our_part):
    # Ours beside two of SpeechBrain's, whose stride is half the kernel.
    parts = {
        "encoder": dual_path.Encoder(kernel_size=16, out_channels=16),
        "masknet": tasnet(2),
        "decoder": dual_path.Decoder(16, 1, 16, stride=8, bias=False),
    }
    parts[our_part] = {
        "encoder": Encoder(16, 16, 8),
        "masknet": S4MMaskNet(2, 16, 8, 8, num_repeats=1),
        "decoder": Decoder(16, 16, 8),
    }[our_part]
    mixture = torch.randn(2, 500)
    lengths = torch.tensor([1.0, 0.5])
    sources = separate(mixture, lengths, **parts)
    assert sources.shape == (2, 500, 2)
    assert not sources[1, 250:].any()


@pytest.mark.parametrize("shape", [(100,), (2, 0), (1, 100, 1)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(InputError, match=r"at least one sample, got \["):
        separate(torch.zeros(shape), None, *networks())


@torch.no_grad()
def test_items_come_out_as_alone_beside_speechbrains_filterbank():
    parts = (
        dual_path.Encoder(kernel_size=16, out_channels=16),
        S4MMaskNet(2, 16, 8, 8, num_repeats=2).eval(),
        dual_path.Decoder(16, 1, 16, stride=8, bias=False),
    )
    samples = [2000, 1001, 100, 7]
    mixture = torch.randn(4, 2000)  # what stands behind the ends is noise
    together = separate(mixture, torch.tensor(samples) / 2000, *parts)
    for item, length in enumerate(samples[:3]):
        alone = separate(mixture[item : item + 1, :length], None, *parts)
        torch.testing.assert_close(
            together[item, :length],
            alone[0],
            atol=1e-5,
            rtol=0,  # float32
        )
    assert together.isfinite().all()  # 7 samples are less than a window


def test_evaluation_does_not_wait_for_other_ranks(tmp_path, monkeypatch):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        parts = (Encoder(16, 16, 8), S4MMaskNet(2, 16, 8, 8, num_repeats=1))
        parts = [*parts, Decoder(16, 16, 8)]
        wrapped = [torch.nn.parallel.DistributedDataParallel(p) for p in parts]
        mixture = torch.randn(1, 300)
        called = []
        forward = torch.nn.parallel.DistributedDataParallel.forward
        monkeypatch.setattr(
            torch.nn.parallel.DistributedDataParallel,
            "forward",
            lambda self, *x: called.append(self) or forward(self, *x),
        )
        trained = separate(mixture, None, *wrapped)
        assert called == wrapped  # so that gradients are averaged
        with torch.no_grad():
            evaluated = separate(mixture, None, *wrapped)
        assert called == wrapped
        # the forward path without gradients rounds otherwise, in float32
        torch.testing.assert_close(trained, evaluated, rtol=1e-5, atol=1e-6)
    finally:
        torch.distributed.destroy_process_group()


def test_lengths_of_another_count_are_refused():
    mixture = torch.randn(3, 301)
    for count in (1, 2, 4):
        with pytest.raises(InputError, match=f"{count} lengths for 3 mix"):
            separate(mixture, torch.ones(count), *networks())
