"""Pieces: nothing lost or added at the joints, and every voice in one place."""

import functools
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from speech_like import speak

from s4m_sb.errors import InputError
from s4m_sb.inference.chunking import _cut, match, separate_in_pieces
from s4m_sb.inference.pieces import Pieces

RATE = 2000  # enough for generated speech


def joined(recording, separate, chunk, overlap, batch_size=1, block=997):
    """All parts together, checked to be the recording."""
    parts = list(
        separate_in_pieces(
            recording.split(block),
            separate,
            Pieces(chunk, overlap, batch_size),
            sample_rate=1,
        )
    )
    assert torch.equal(torch.cat([mixture for mixture, _ in parts]), recording)
    return torch.cat([voices for _, voices in parts])


def permuting(separate, seed=0):
    """Gives the voices of every mixture in an order of its own."""
    generator = torch.Generator().manual_seed(seed)

    def separate_and_permute(mixture):
        voices = separate(mixture)
        orders = [
            torch.randperm(voices.shape[2], generator=generator)
            for _ in mixture
        ]
        return torch.stack(
            [
                voice[:, order]
                for voice, order in zip(voices, orders, strict=True)
            ]
        )

    return separate_and_permute


def mixture_of(voices):
    """The sum of voices, float64 [T], every sample with its number in it.

    The number stands in bits 21 to 41 behind the point, -126 dB full scale.
    """
    audible = (voices.sum(1) * 2**20).round() / 2**20
    return audible + torch.arange(len(voices)) * 2.0**-41


def oracle(voices):
    """Separates what `mixture_of` made, sample by sample."""

    def separate(mixture):
        number = (mixture * 2**20 - (mixture * 2**20).round()) * 2**21
        return voices[number.round().long()]

    return separate


def conversation(num_spks, silences=()):
    """90 s of generated speech, float64 [T, S], exactly zero in silences.

    A silence has the number of the talker, its start and its end in seconds.
    """
    talkers = [talker(number) for number in range(num_spks)]
    voices = torch.stack(talkers, dim=1)
    for number, start_s, end_s in silences:
        voices[start_s * RATE : end_s * RATE, number] = 0
    return voices


@functools.cache
def talker(number):
    parts = [speak(number, part, 5.0, RATE) for part in range(18)]
    return torch.from_numpy(np.concatenate(parts)).double()


def separated(voices, seed, batch_size=1):
    """By an oracle that permutes, in pieces of 6 s."""
    return joined(
        mixture_of(voices),
        permuting(oracle(voices), seed),
        6 * RATE,
        1 * RATE,
        batch_size,
        block=10**5,
    )


# Pieces


@pytest.mark.parametrize("num_frames", [1, 2, 99, 100, 101, 180, 181, 999])
@pytest.mark.parametrize(("chunk", "overlap"), [(100, 20), (100, 50), (2, 1)])
@pytest.mark.parametrize("block", [1, 7, 5000])
def test_pieces_cover_the_recording(num_frames, chunk, overlap, block):
    recording = torch.randn(num_frames)
    pieces = list(_cut(recording.split(block), chunk, overlap))
    end = 0
    for number, (start, piece) in enumerate(pieces):
        assert torch.equal(piece, recording[start : start + len(piece)])
        assert len(piece) == min(chunk, num_frames)
        if number:
            assert end - start >= overlap
            assert start > pieces[number - 1][0]
        assert start + len(piece) > end
        end = start + len(piece)
    assert end == num_frames
    # no more of them than it takes
    hop = chunk - overlap
    assert len(pieces) == max(1, -(-(num_frames - overlap) // hop))


def test_a_recording_is_read_as_it_is_needed():
    read, longest = [], 0

    def blocks():
        for number in range(100):
            read.append(number)
            yield torch.randn(100)

    def separate(mixture):
        nonlocal longest
        longest = max(longest, mixture.numel())
        return torch.stack([mixture, -mixture], dim=2)

    pieces = Pieces(1000, 100, batch_size=2)
    parts = separate_in_pieces(blocks(), separate, pieces, sample_rate=1)
    assert read == []
    next(parts)
    assert len(read) <= 21  # two pieces and the block that shows there is more
    assert sum(len(mixture) for mixture, _ in parts) == 10000
    assert longest == 2000


@pytest.mark.parametrize("batch_size", [1, 3])
def test_whoever_keeps_the_parts_keeps_nothing_else(batch_size):
    def separate(mixture):
        return torch.stack([mixture, -mixture], dim=2)

    recording = torch.randn(10000)
    pieces = Pieces(1000, 500, batch_size)
    parts = separate_in_pieces([recording], separate, pieces, sample_rate=1)
    mixtures, voices = zip(*parts, strict=True)
    storages = [sum(p.untyped_storage().nbytes() for p in voices)]
    assert len(voices) > 10
    assert storages == [recording.nbytes * 2]


# What the voices are


@pytest.mark.parametrize("num_frames", [1, 60, 99, 100, 101, 1234])
@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_sample_by_sample_nothing_changes(num_frames, batch_size):
    recording = torch.randn(num_frames)

    def separate(mixture):
        return torch.stack([mixture.relu(), mixture.clamp(max=0)], dim=2)

    voices = joined(recording, separate, 100, 20, batch_size, block=77)
    assert torch.equal(voices, separate(recording[None])[0])


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("num_spks", [1, 2, 3, 4])
@pytest.mark.parametrize("overlap", [40, 64, 150])
@pytest.mark.parametrize("rest", [0, 1, 77])
def test_a_network_of_short_reach_gives_the_whole(
    num_spks, overlap, rest, batch_size
):
    reach = overlap // 4
    filters = torch.randn(num_spks, 1, 2 * reach + 1)

    def separate(mixture):
        mixture = F.pad(mixture, (reach, reach)).unsqueeze(1)
        return F.conv1d(mixture, filters).mT

    # pieces that fill it, and some samples more
    recording = torch.randn(300 + 7 * (300 - overlap) + rest)
    voices = joined(recording, permuting(separate), 300, overlap, batch_size)
    expected = separate(recording[None])[0]
    order, _ = match(voices, expected)
    # float32 sums over the filter, in another order
    torch.testing.assert_close(voices, expected[:, order], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("num_spks", "batch_size"), [(2, 1), (2, 4), (4, 3)])
@pytest.mark.parametrize("seed", range(2))
def test_every_voice_stays_in_its_place(num_spks, batch_size, seed):
    voices = conversation(num_spks)
    found = separated(voices, seed, batch_size)
    order, _ = match(found, voices)
    assert torch.equal(found, voices[:, order])


SILENCES = {
    "nobody speaks for half a minute": [(0, 20, 50), (1, 20, 50)],
    "nobody speaks at first": [(0, 0, 15), (1, 0, 15)],
    "turns": [(i // 5 % 2, i, i + 5) for i in range(10, 90, 5)],
    "one speaks only now and then": [(1, 3, 40), (1, 44, 85)],
    "two of three": [(1, 20, 45), (2, 25, 50), (0, 60, 80), (2, 60, 75)],
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("case", SILENCES)
def test_a_voice_comes_back_to_its_place_after_silence(case, seed):
    num_spks = 1 + max(number for number, _, _ in SILENCES[case])
    voices = conversation(num_spks, SILENCES[case])
    found = separated(voices, seed)
    order, _ = match(found, voices)
    assert torch.equal(found, voices[:, order])


@pytest.mark.parametrize("speech", [(0, 0), (20, 26), (84, 90)])
def test_silence_is_separated_once(speech):
    start, end = speech
    silences = [(i, *s) for i in (0, 1) for s in ((0, start), (end, 90))]
    voices = conversation(2, silences)
    num_samples = 0

    def separate(mixture):
        nonlocal num_samples
        num_samples += mixture.numel()
        return oracle(voices)(mixture)

    joined(mixture_of(voices), separate, 6 * RATE, RATE, block=10**5)
    # 18 pieces of 6 s, the speech at most once again behind 2 s
    again = 8 * RATE * (start > 0) * 2
    assert num_samples <= 18 * 6 * RATE + again


def test_a_piece_in_which_little_is_said_is_separated_again():
    """By a network that needs context: it adds noise where most is silent.

    In the second piece only the overlap is sound, and the difference of the
    voices correlates by 0.4 with what it was.
    """
    voices = conversation(2, [(0, 6, 12), (1, 6, 12)])
    noise = torch.randn(len(voices), 2, dtype=torch.float64)

    def separate(mixture):
        found = oracle(voices)(mixture)
        sound = (found != 0).any(2, keepdim=True)  # [1, T, 1]
        if sound.double().mean() > 0.3:
            return found
        difference = found.diff(dim=2)[sound].square().mean().sqrt()
        level = difference * (1 / 0.4**2 - 1) ** 0.5 / 2**0.5
        return found + level * noise[: mixture.shape[1]] * sound

    found = joined(
        mixture_of(voices), permuting(separate), 6 * RATE, RATE, block=10**5
    )
    order, _ = match(found, voices)
    assert torch.equal(found, voices[:, order])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_enough(dtype):
    voices = conversation(2).to(dtype) * 1000  # squares that overflow
    numbers = torch.arange(len(voices)).float()
    separate = permuting(lambda mixture: voices[mixture.long()])
    found = joined(numbers, separate, 6 * RATE, RATE, block=10**5)
    order, _ = match(found, voices)
    assert torch.equal(found, voices[:, order])


# Matching


@pytest.mark.parametrize("num_spks", [1, 2, 3, 5])
def test_every_order_is_found(num_spks):
    before = torch.randn(500, num_spks) * torch.logspace(0, -1, num_spks)
    for order in itertools.islice(
        itertools.permutations(range(num_spks)), 0, None, 7
    ):
        voices = 3 * before[:, list(order)]
        found, correlation = match(before, voices)
        assert torch.equal(voices[:, found], 3 * before)
        assert correlation == pytest.approx(1, abs=1e-5)


def test_one_voice_tells_of_two():
    speech = torch.randn(1000)
    before = torch.stack([speech, torch.zeros(1000)], 1)
    order, correlation = match(before, 0.5 * before.flip(1))
    assert order.tolist() == [1, 0]
    assert correlation == pytest.approx(1, abs=1e-5)


def test_a_leak_of_the_other_voice_is_not_that_voice():
    speech = torch.randn(1000)
    before = torch.stack([speech, 0.3 * speech], 1)
    order, _ = match(before, torch.stack([0.2 * speech, speech], 1))
    assert order.tolist() == [1, 0]


@pytest.mark.parametrize("num_spks", [2, 3])
def test_silence_keeps_the_order_and_says_that_it_knows_nothing(num_spks):
    zeros = torch.zeros(100, num_spks)
    noise = 1e-3 * torch.randn(100, num_spks)
    in_order = list(range(num_spks))
    for before, voices in [(zeros, zeros), (zeros, noise), (noise, zeros)]:
        order, correlation = match(before, voices)
        assert order.tolist() == in_order
        assert correlation == 0
    assert match(noise, noise.flip(1), silence=1.0)[1] == 0


def test_chance_does_not_change_the_order():
    for _ in range(20):
        before, voices = torch.randn(2, 32000, 2)
        order, correlation = match(before, voices)
        assert order.tolist() == [0, 1]
        # four standard deviations of a correlation of 32000 samples
        assert abs(correlation) < 4 / 32000**0.5


def test_nothing_is_no_recording():
    with pytest.raises(InputError, match="without samples"):
        list(separate_in_pieces([], None, Pieces(), sample_rate=1))
