"""Conversations in which who speaks, leaks and changes is planted."""

import math

import pytest
import torch
from known_signals import voices

from s4m_sb import metrics
from s4m_sb.errors import InputError

RATE = 8000


def turns(*spans, num_seconds=10, seed=0):
    """Noise for talkers, each in his spans of seconds, ``[1, T, S]``."""
    noise = voices(1, num_seconds * RATE, len(spans), seed=seed)
    target = torch.zeros_like(noise)
    for talker, own in enumerate(spans):
        for start, end in own:
            span = slice(round(start * RATE), round(end * RATE))
            target[:, span, talker] = noise[:, span, talker]
    return target


def seconds(speaks):
    """When somebody speaks, as spans in seconds."""
    edges = torch.diff(speaks.int(), prepend=torch.zeros(1, dtype=torch.int))
    starts = (edges == 1).nonzero()[:, 0] * 0.02
    ends = (edges == -1).nonzero()[:, 0] * 0.02
    ends = torch.cat([ends, torch.full((len(starts) - len(ends),), math.nan)])
    pairs = torch.stack([starts, ends], 1).tolist()
    return [(round(a, 2), round(b, 2)) for a, b in pairs]


def test_turns_are_found_where_they_are():
    target = turns([(1, 3), (3.4, 5), (5.5, 6)], [(0.2, 0.4), (9, 9.5)], [])
    speaks = metrics.who_speaks(target, RATE)[0]
    # A pause of 0.4 s is part of a turn, one of 0.5 s is not.
    assert seconds(speaks[:, 0]) == [(1, 5), (5.5, 6)]
    assert seconds(speaks[:, 1]) == [(0.2, 0.4), (9, 9.5)]
    assert not speaks[:, 2].any()


@pytest.mark.parametrize("level", [1e-3, 1.0, 1e3])
def test_the_level_of_a_talker_does_not_matter_but_his_range_does(level):
    target = turns([(1, 3)], [(4, 6)])
    faint = turns([(6, 8)], [(0, 2)], seed=1)
    for gain_db, heard in ((-35, True), (-45, False)):
        whole = level * (target + 10 ** (gain_db / 20) * faint)
        speaks = metrics.who_speaks(whole, RATE)[0]
        assert bool(speaks[325:375, 0].all()) == heard  # 6.5 to 7.5 s
        assert bool(speaks[325:375, 0].any()) == heard


def test_a_constant_and_padding_are_silence():
    target = turns([(0, 4)], [(0, 10)])
    target[..., 1] = 0.5
    target[:, 5 * RATE :] = math.nan
    speaks = metrics.who_speaks(target, RATE, torch.tensor([0.5]))[0]
    assert seconds(speaks[:, 0]) == [(0, 4)]
    assert not speaks[:, 1].any()


def test_the_share_of_overlap():
    target = torch.cat(
        [
            turns([(0, 6)], [(4, 10)]),
            turns([(0, 6)], [(6, 10)]),
            turns([(0, 10)], [(0, 10)]),
            turns([(2, 4)], []),
            turns([], []),
        ]
    )
    share = metrics.overlap(target, RATE)
    assert share[:4].tolist() == pytest.approx([0.2, 0, 1, 0])
    assert share[4].isnan()
    three = turns([(0, 4)], [(3, 6)], [(3.5, 8)])
    assert float(metrics.overlap(three, RATE)) == pytest.approx(3 / 8)


@pytest.mark.parametrize("level_db", [-50.0, -20.0, 0.0, 6.0])
def test_a_leak_measures_its_level(level_db):
    gain = 10 ** (level_db / 20)
    target = turns([(0, 4)], [(6, 9)])
    estimate = target + gain * target.flip(-1)
    value = float(metrics.leakage(estimate, target, RATE))
    assert value == pytest.approx(level_db, abs=1e-3)  # float32
    # Only where one is silent beside another: not in noise when none speaks,
    # nor in errors while both do.
    overlapped = turns([(0, 5)], [(3, 5)])
    estimate = overlapped + gain * overlapped.flip(-1)
    estimate[:, 3 * RATE : 5 * RATE] *= 7
    estimate[:, 6 * RATE :] = 3.0
    value = float(metrics.leakage(estimate, overlapped, RATE))
    assert value == pytest.approx(level_db, abs=1e-3)


@pytest.mark.parametrize("gain", [0.05, 1.0, -20.0])
def test_the_level_of_the_outputs_does_not_matter_to_a_leak(gain):
    # Turns that fade: 45 dB below the voice, and therefore silent.
    faint = 10 ** (-45 / 20) * turns([(0, 10)], [(0, 10)], seed=1)
    target = turns([(0, 4)], [(6, 9)]) + faint
    leak = 0.1 * turns([(0, 4)], [(6, 9)]).flip(-1)
    value = float(metrics.leakage(gain * (target + leak), target, RATE))
    # The leak is of the voice without its faint part: 45 dB and less.
    assert value == pytest.approx(-20, abs=1e-2)
    perfect = float(metrics.leakage(gain * target, target, RATE))
    assert perfect == pytest.approx(metrics.FLOOR_DB)


def test_leaks_of_three_talkers_are_a_mean_over_those_who_are_silent():
    target = turns([(0, 4)], [], [])
    estimate = target.clone()
    estimate[..., 1] = 0.1 * target[..., 0]  # -20 dB
    value = float(metrics.leakage(estimate, target, RATE))
    # One output of two has it: half of 0.01.
    assert value == pytest.approx(10 * math.log10(0.005), abs=1e-3)


def test_where_nothing_can_leak_there_is_no_leakage():
    both, none = turns([(0, 10)], [(0, 10)]), turns([], [])
    target = torch.cat([both, none])
    assert metrics.leakage(target, target, RATE).isnan().all()
    perfect = turns([(0, 4)], [(5, 9)])
    assert float(metrics.leakage(perfect, perfect, RATE)) == pytest.approx(
        metrics.FLOOR_DB
    )
    one = voices(1, RATE, 1)
    assert metrics.leakage(one, one, RATE).isnan().all()


def test_padding_leaks_nothing():
    target = turns([(0, 2)], [(2.6, 4)])
    estimate = target + 0.1 * target.flip(-1)
    estimate[:, 4 * RATE :] = 1e3
    lengths = torch.tensor([0.4])
    value = float(metrics.leakage(estimate, target, RATE, lengths))
    assert value == pytest.approx(-20, abs=1e-3)


def test_single_talkers_alone_have_a_single_talkers_si_snr():
    target = torch.cat([turns([(0, 9)], [(0, 9)]), turns([(0, 9)], [])])
    target = torch.cat([target, turns([], [])])
    estimate = target + 0.1 * voices(*target.shape, seed=4)
    values = metrics.single_si_snr(estimate, target, RATE)
    assert values.isnan().tolist() == [True, False, True]
    expected = metrics.si_snr(estimate, target)[1, 0]
    assert torch.equal(values[1], expected)
    one = voices(1, RATE, 1)  # an item of one source is no conversation
    assert metrics.single_si_snr(one, one, RATE).isnan().all()


def test_the_voice_of_one_who_talks_alone_is_the_loud_output():
    target = turns([(0, 9)], [])
    leak = 0.05 * target[..., 0]  # a perfect copy, but for its level
    voice = target[..., 0] + 0.1 * voices(1, 10 * RATE, 1, seed=3)[..., 0]
    estimate = torch.stack([leak, voice], dim=2)
    assert metrics.assign(estimate, target).tolist() == [[1, 0]]
    _, by_si_snr = metrics.pit_si_snr(estimate, target)
    assert by_si_snr.tolist() == [[0, 1]]
    # Where all are active, it is the assignment of SI-SNR.
    target, estimate = voices(6, 400, 3), voices(6, 400, 3, seed=1)
    _, by_si_snr = metrics.pit_si_snr(estimate, target)
    assert torch.equal(metrics.assign(estimate, target), by_si_snr)


@pytest.mark.parametrize("num_sources", [2, 3])
@pytest.mark.parametrize("at_s", [8.5, 16.0, 20.0, 27.0, 39.0])
def test_a_planted_exchange_is_counted_once(num_sources, at_s):
    target = voices(1, 48 * RATE, num_sources)
    noise = 0.3 * voices(1, 48 * RATE, num_sources, seed=1)
    estimate = -3 * target + noise  # neither sign nor level counts
    order = [1, 0, 2][:num_sources]
    start = round(at_s * RATE)
    estimate[:, start:] = estimate[:, start:][..., order]
    value = metrics.exchanges(estimate, target, RATE)
    assert value.tolist() == pytest.approx([1 / 0.8])  # in 48 s
    assert metrics.exchanges(target, target, RATE).tolist() == [0]


def test_there_and_back_is_two_exchanges():
    target = voices(1, 60 * RATE, 2)
    estimate = target.clone()
    estimate[:, 20 * RATE : 40 * RATE] = estimate[
        :, 20 * RATE : 40 * RATE
    ].flip(-1)
    assert metrics.exchanges(estimate, target, RATE).tolist() == [2]
    orders = metrics.order_in_windows(estimate[0], target[0], RATE)
    # Windows of 8 s: from 24 to 40 s, and the greater part of neither side.
    assert orders[3:5].tolist() == [[1, 0], [1, 0]]
    assert orders[[0, 1, 5, 6]].tolist() == 4 * [[0, 1]]


def test_voices_are_followed_through_turns_and_pauses():
    # One talks for 16 s, none for 8 s, the other for 16 s, then both.
    target = turns([(0, 16), (40, 56)], [(24, 56)], num_seconds=56)
    estimate = target + 0.1 * target.flip(-1)
    assert metrics.exchanges(estimate, target, RATE).tolist() == [0]
    # The other comes out in the first one's output: an exchange, which holds.
    estimate[:, 20 * RATE :] = estimate[:, 20 * RATE :].flip(-1)
    orders = metrics.order_in_windows(estimate[0], target[0], RATE)
    assert orders.tolist() == 2 * [[0, 1]] + 4 * [[1, 0]]
    rate = metrics.exchanges(estimate, target, RATE)
    assert rate.tolist() == pytest.approx([60 / 56])


def test_an_exchange_of_two_leaves_the_silent_third_alone():
    target = turns([(0, 24)], [], [(0, 8), (16, 24)], num_seconds=24)
    estimate = target.clone()
    estimate[:, 8 * RATE :] = estimate[:, 8 * RATE :][..., [1, 0, 2]]
    orders = metrics.order_in_windows(estimate[0], target[0], RATE)
    assert orders.tolist() == [[0, 1, 2], [1, 0, 2], [1, 0, 2]]


def test_what_is_too_short_to_tell_has_no_exchanges():
    for num_seconds, known in ((4, False), (8, False), (16, True)):
        target = voices(1, num_seconds * RATE, 2)
        value = metrics.exchanges(target, target, RATE)
        assert bool(value.isfinite()) == known
    target = voices(2, 32 * RATE, 2)
    target[:, 16 * RATE :] = math.inf  # padding
    lengths = torch.tensor([0.5, 0.25])
    values = metrics.exchanges(target, target, RATE, lengths)
    assert values.isfinite().tolist() == [True, False]
    assert metrics.exchanges(turns([], []), turns([], []), RATE).isnan().all()


def test_shapes_that_do_not_fit_are_named():
    for metric in (metrics.leakage, metrics.exchanges):
        with pytest.raises(InputError, match=r"\(1, 9, 2\).*\(1, 8, 2\)"):
            metric(torch.zeros(1, 9, 2), torch.zeros(1, 8, 2), RATE)
