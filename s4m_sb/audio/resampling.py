"""From one sample rate to another, whole or block by block."""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

import torch
import torchaudio.functional

from s4m_sb.errors import InputError

# torchaudio's sinc filter, whose reach decides how much of a signal it sees.
FILTER_WIDTH = 6
ROLLOFF = 0.99
MAX_TERM = 200
# torchaudio makes a filter of more than `old` coefficients for each of `new`
# phases. Above so many of them, those that do not vanish are made as needed.
MAX_COEFFICIENTS = 1e6
WEIGHTS_AT_ONCE = 2**20
# Recorders for bats reach 500 kHz, interfaces 768 kHz. A file of 1 Hz would
# become thousands of times as long.
LOWEST_RATE = 1000
HIGHEST_RATE = 768000


def check_rate(sample_rate: int) -> None:
    """Refuses sample rates that no sound has.

    Arguments
    ---------
    sample_rate : int
        In Hz.

    Raises
    ------
    InputError
        If it is not between 1 and 768 kHz.

    Example
    -------
    >>> check_rate(8000)
    >>> check_rate(1)
    Traceback (most recent call last):
    s4m_sb.errors.InputError: a sample rate of 1 Hz; it should be 1000 to ...
    """
    if not LOWEST_RATE <= sample_rate <= HIGHEST_RATE:
        raise InputError(
            f"a sample rate of {sample_rate} Hz; it should be {LOWEST_RATE} "
            f"to {HIGHEST_RATE} Hz"
        )


def resample(signal: torch.Tensor, old: int, new: int) -> torch.Tensor:
    """Makes ``new`` samples out of every ``old``.

    Arguments
    ---------
    signal : torch.Tensor
        ``[T]``.
    old : int
        Samples of the signal.
    new : int
        Samples of the result.

    Returns
    -------
    torch.Tensor
        ``[ceil(T * new / old)]``.
    """
    common = math.gcd(old, new)
    old, new = old // common, new // common
    if old * new > MAX_COEFFICIENTS:
        return _resample_slowly(signal, old, new)
    return torchaudio.functional.resample(
        signal, old, new, lowpass_filter_width=FILTER_WIDTH, rolloff=ROLLOFF
    )


def _resample_slowly(signal: torch.Tensor, old: int, new: int) -> torch.Tensor:
    """What torchaudio gives, in memory that the ratio does not change."""
    num_frames = -(-len(signal) * new // old)
    reach = resampling_reach(old, new)
    padded = torch.nn.functional.pad(signal, (reach, reach + 1))
    around = torch.arange(-reach, reach + 1, device=signal.device)
    bandwidth = min(old, new) * ROLLOFF
    results = []
    for outputs in torch.arange(num_frames, device=signal.device).split(
        max(1, WEIGHTS_AT_ONCE // len(around))
    ):
        nearest = (outputs * old // new).unsqueeze(1)  # [n, 1]
        behind = (outputs * old % new).double().unsqueeze(1) / new
        crossings = bandwidth / old * (around - behind)  # [n, taps]
        window = (math.pi / 2 * crossings / FILTER_WIDTH).cos().square()
        weights = crossings.sinc() * window * (bandwidth / old)
        weights[crossings.abs() > FILTER_WIDTH] = 0
        samples = padded[nearest + around + reach]
        results.append((samples * weights.to(signal.dtype)).sum(dim=1))
    return torch.cat(results)


def resample_blocks(
    blocks: Iterable[torch.Tensor], old: int, new: int
) -> Iterator[torch.Tensor]:
    """Resamples a signal that comes in blocks.

    Together the results are the whole signal resampled, to the rounding of
    sums in another order.

    Arguments
    ---------
    blocks : Iterable
        The signal in consecutive blocks ``[n]``.
    old : int
        Samples of the signal.
    new : int
        Samples of the result.

    Yields
    ------
    torch.Tensor
        Blocks of the result, ``[m]``.

    Example
    -------
    >>> blocks = torch.ones(1000).split(99)
    >>> sum(len(block) for block in resample_blocks(blocks, 441, 80))
    182
    """
    old, new = resampling_ratio(old, new)
    reach = resampling_reach(old, new)
    behind_max = math.ceil(reach / old) * old  # a whole number of periods
    held = torch.zeros(0)
    behind = 0  # samples of it whose results are out
    for block in blocks:
        held = torch.cat([held, block])
        ready = (len(held) - behind - reach) // old * old
        if ready > 0:
            end = behind + ready
            result = resample(held[: end + reach], old, new)
            yield result[behind // old * new : end // old * new]
            behind = min(behind_max, end)
            held = held[end - behind :]
    if len(held) > behind:
        yield resample(held, old, new)[behind // old * new :]


def resampling_reach(old: int, new: int) -> int:
    """Counts the samples on either side that a resampled one depends on.

    Arguments
    ---------
    old : int
        Samples of the signal.
    new : int
        Samples of the result.

    Returns
    -------
    int
        Samples of the signal; 0 if the rate stays.

    Example
    -------
    >>> resampling_reach(2, 1), resampling_reach(1, 1)
    (13, 0)
    """
    if old == new:
        return 0
    return math.ceil(FILTER_WIDTH * old / (min(old, new) * ROLLOFF))


def resampling_ratio(
    file_rate: int, sample_rate: int, speed: float = 1.0
) -> tuple[int, int]:
    """Gives how many samples become how many.

    The sinc filters grow with the terms of the ratio, so a speed other than
    1 is met within a quarter of a percent only; in steps of 0.01 it is exact
    for a file at the rate wanted, at half of it, or at a multiple.

    Arguments
    ---------
    file_rate : int
        Sample rate of the file in Hz.
    sample_rate : int
        Sample rate wanted in Hz.
    speed : float
        How much faster than recorded.

    Returns
    -------
    tuple[int, int]
        Samples of the file, samples of the result.

    Example
    -------
    >>> resampling_ratio(44100, 8000)
    (441, 80)
    >>> resampling_ratio(44100, 8000, speed=0.97)
    (647, 121)
    """
    ratio = Fraction(file_rate, sample_rate)
    if speed != 1.0:
        ratio = (ratio * Fraction(speed)).limit_denominator(MAX_TERM)
    return ratio.numerator, ratio.denominator
