"""The channel a voice has come through: a smooth frequency response.

Microphones, telephones and distances colour a voice. `draw_gains` draws such
a colour, `channel_response` makes a filter of it, for ``rendering.py``.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from s4m_sb.errors import InputError
from s4m_sb.network.fft import fft_length

LOWEST_HZ = 125.0  # below it the gain is that at this frequency
RESPONSE_S = 0.256  # a whole number of periods of it


def channel_frequencies(sample_rate: int) -> list[float]:
    """Where the gains of a channel are: an octave from one to the next.

    Arguments
    ---------
    sample_rate : int
        In Hz.

    Returns
    -------
    list[float]
        From 125 Hz to at most half the sample rate, in Hz.

    Raises
    ------
    InputError
        If half the sample rate is below 125 Hz.

    Example
    -------
    >>> channel_frequencies(8000)
    [125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0]
    """
    if not sample_rate >= 2 * LOWEST_HZ:
        raise InputError(
            f"sample_rate is {sample_rate}; a channel has frequencies from "
            f"{LOWEST_HZ:g} Hz to half of it"
        )
    octaves = math.floor(math.log2(sample_rate / 2 / LOWEST_HZ))
    return [LOWEST_HZ * 2**octave for octave in range(octaves + 1)]


def draw_gains(
    rng: np.random.Generator,
    filter_range_db: tuple[float, float],
    sample_rate: int,
) -> tuple[float, ...]:
    """Draws the gains of a channel.

    Arguments
    ---------
    rng : numpy.random.Generator
        Decides everything.
    filter_range_db : tuple[float, float]
        Every gain is uniform in this range, in dB.
    sample_rate : int
        In Hz.

    Returns
    -------
    tuple[float, ...]
        In dB, one for each of ``channel_frequencies``.

    Example
    -------
    >>> draw_gains(np.random.default_rng(0), (-6, 6), 1000)
    (1.6435, -2.7626, -5.5083)
    """
    count = len(channel_frequencies(sample_rate))
    gains_db = rng.uniform(*filter_range_db, size=count)
    return tuple(round(float(gain_db), 4) for gain_db in gains_db)


def channel_response(
    gains_db: Sequence[float], sample_rate: int
) -> torch.Tensor:
    """The impulse response of a channel, of minimum phase.

    Between its frequencies the gain in dB is linear over the octaves, beyond
    them constant. Of all filters with these gains the one of minimum phase
    is over soonest, and like a room or a microphone it has no echo before
    the sound. It is made from the cepstrum: the logarithm of the gains is
    the real part of the transform of a signal; of a signal without a
    negative time it is the transform of what comes out folded.

    Arguments
    ---------
    gains_db : sequence of float
        In dB, one for each of ``channel_frequencies``.
    sample_rate : int
        In Hz.

    Returns
    -------
    torch.Tensor
        ``[R]``, about a quarter of a second.

    Raises
    ------
    InputError
        If the number of gains is not that of the frequencies.

    Example
    -------
    >>> response = channel_response([6.0] * 6, 8000)
    >>> response.shape, round(response[0].item(), 4)  # 10 ** (6 / 20)
    (torch.Size([2048]), 1.9953)
    >>> response[1:].abs().max() < 1e-6
    tensor(True)
    """
    frequencies = channel_frequencies(sample_rate)
    if len(gains_db) != len(frequencies):
        raise InputError(
            f"a channel at {sample_rate} Hz has {len(frequencies)} gains, got "
            f"{len(gains_db)}"
        )
    n = fft_length(math.ceil(RESPONSE_S * sample_rate))
    bins = np.fft.rfftfreq(n, 1 / sample_rate).clip(min=LOWEST_HZ)
    bins_db = np.interp(np.log2(bins), np.log2(frequencies), gains_db)
    cepstrum = np.fft.irfft(bins_db * (math.log(10) / 20), n)
    cepstrum[1 : n // 2] *= 2
    cepstrum[n // 2 + 1 :] = 0
    response = np.fft.irfft(np.exp(np.fft.rfft(cepstrum)), n)
    return torch.from_numpy(response).float()
