"""From the plan of a mixture to its samples.

A mixture is the sum of its images, the sources as they arrive at the
microphone, and of the noise. In a room an image is the source convolved with
a room impulse response, and the source itself is kept as its direct sound,
delayed as in the image. The channel that a voice came through is part of the
source, whoever hears the one hears the other.

Who does not speak is silent: his source is exactly zero there, but for the
few milliseconds that the direct sound of a room comes later; the image rings
on for as long as the room does. Within a mixture, speech is faded in and out
over ``FADE_S``.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from speechbrain.processing.signal_processing import (
    compute_amplitude,
    dB_to_amplitude,
    rescale,
)
from torchaudio.functional import loudness

from s4m_sb.errors import InputError
from s4m_sb.mixing.coloration import channel_response
from s4m_sb.mixing.corpus import read_segment
from s4m_sb.mixing.plans import MixturePlan, Piece, Silence, SourcePlan
from s4m_sb.mixing.rooms import RoomResponses, room_responses
from s4m_sb.network.fft import fft_length

PEAK = 0.9
LOUDNESS_BLOCK_S = 0.4  # of ITU-R BS.1770; what is shorter is repeated
LOUDNESS_PEAK = 0.25
FADE_S = 0.005


@dataclass(frozen=True)
class Mixture:
    """A mixture ``[T]`` and all that is in it.

    ``sources`` and ``images`` are ``[T, S]``: without a room the same, in a
    room the direct sound and the reverberant sound. ``noise`` is ``[T]``, or
    None. The mixture is ``add(images, noise)``.
    """

    mixture: torch.Tensor
    sources: torch.Tensor
    images: torch.Tensor
    noise: torch.Tensor | None
    plan: MixturePlan


def render(plan: MixturePlan) -> Mixture:
    """Makes a mixture from its plan.

    Arguments
    ---------
    plan : MixturePlan
        Files, windows, levels, speeds and channels, noise and room.

    Returns
    -------
    Mixture
        The same samples as when the plan was drawn.

    Raises
    ------
    InputError
        If a file is missing or is no longer what it was, the sources or the
        noise are of different length, or one of them is silent.
    """
    with one_thread():
        signals = [
            read_pieces(source.pieces, plan.sample_rate, source.speed)
            for source in plan.sources
        ]
        noise = responses = None
        if plan.noise is not None:
            noise = read_pieces(plan.noise.pieces, plan.sample_rate)
        if plan.room is not None:
            responses = room_responses(plan.room, plan.sample_rate)
        return mix(plan, signals, noise, responses)


def mix(
    plan: MixturePlan,
    signals: list[torch.Tensor],
    noise: torch.Tensor | None = None,
    responses: RoomResponses | None = None,
) -> Mixture:
    """Mixes what was read for a plan.

    Arguments
    ---------
    plan : MixturePlan
        The levels and channels.
    signals : list of torch.Tensor
        What each speaker says, ``[T]``.
    noise : torch.Tensor, optional
        ``[T]``, where the plan has noise.
    responses : RoomResponses, optional
        Where the plan has a room.

    Returns
    -------
    Mixture
        Its loudest signal, be it a part or a sum of some, peaks at ``PEAK``.

    Raises
    ------
    InputError
        If the lengths differ, or a signal is silent.
    """
    _check_signals(plan, signals, noise)
    direct, reverberant = [], []
    for number, (source, signal) in enumerate(
        zip(plan.sources, signals, strict=True)
    ):
        if source.filter_db:
            channel = channel_response(source.filter_db, plan.sample_rate)
            signal = _convolve(signal, channel)
        signal = _only_where_he_speaks(signal, source, plan.sample_rate)
        # The level where he speaks, as that of the whole signal.
        spoken = sum(piece.num_frames for piece in source.said)
        level_db = source.level_db
        level_db += 20 * math.log10(spoken / len(signal) or 1.0)
        if responses is None:
            direct.append(rescale(signal, None, level_db, scale="dB"))
            continue
        dry = _arriving(signal, source, responses.direct[number])
        wet = _arriving(signal, source, responses.reverberant[number])
        gain = dB_to_amplitude(level_db)
        gain /= float(compute_amplitude(dry)) or 1.0
        direct.append(gain * dry)
        reverberant.append(gain * wet)
    sources = torch.stack(direct, dim=1)  # [T, S]
    images = torch.stack(reverberant, dim=1) if reverberant else sources
    if noise is not None and plan.noise is not None:
        loudest_db = max(_loudness_db(x, plan.sample_rate) for x in direct)
        gain_db = loudest_db - plan.noise.snr_db
        gain_db -= _loudness_db(noise, plan.sample_rate)
        noise = 10 ** (gain_db / 20) * noise
    scale = PEAK / _peak(sources, images, noise)
    sources = sources * scale
    images = images * scale if reverberant else sources
    noise = None if noise is None else noise * scale
    return Mixture(add(images, noise), sources, images, noise, plan)


def add(sources: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
    """Adds sources and noise in an order that is always the same.

    Arguments
    ---------
    sources : torch.Tensor
        ``[T, S]``.
    noise : torch.Tensor or None
        ``[T]``.

    Returns
    -------
    torch.Tensor
        ``[T]``: the speakers in their order, which ``Tensor.sum`` does not
        promise, then the noise.
    """
    total = sources[:, 0]
    for source in sources.unbind(dim=1)[1:]:
        total = total + source
    return total if noise is None else total + noise


def read_pieces(
    pieces: Sequence[Piece | Silence], sample_rate: int, speed: float = 1.0
) -> torch.Tensor:
    """Reads pieces in a row.

    Arguments
    ---------
    pieces : sequence of Piece or Silence
        What to read; silence is zeros.
    sample_rate : int
        Of the result, in Hz.
    speed : float
        How much faster than recorded.

    Returns
    -------
    torch.Tensor
        Samples, ``[T]``.

    Raises
    ------
    InputError
        If a file is missing or is no longer what it was.
    """
    return torch.cat(
        [
            torch.zeros(piece.num_frames)
            if isinstance(piece, Silence)
            else read_segment(
                piece.utterance,
                piece.start,
                piece.num_frames,
                sample_rate,
                speed,
            )
            for piece in pieces
        ]
    )


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Computes with one thread of PyTorch.

    Long sums are split over the threads and so depend on their number; a
    mixture shall not.
    """
    num_threads = torch.get_num_threads()
    if num_threads > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if num_threads > 1:
            torch.set_num_threads(num_threads)


def _check_signals(
    plan: MixturePlan, signals: list[torch.Tensor], noise: torch.Tensor | None
) -> None:
    parts = [
        (source.said, signal)
        for source, signal in zip(plan.sources, signals, strict=True)
    ]
    if noise is not None and plan.noise is not None:
        parts.append((plan.noise.pieces, noise))
    for pieces, signal in parts:
        if len(signal) != len(signals[0]):
            raise InputError(
                f"parts of one mixture are {len(signals[0])} and "
                f"{len(signal)} samples long; they must be of equal length"
            )
        if pieces and not signal.any():
            raise InputError(
                f"{pieces[0].utterance.path}: is silent from sample "
                f"{pieces[0].start} on; silence cannot be mixed"
            )


def _only_where_he_speaks(
    signal: torch.Tensor, source: SourcePlan, sample_rate: int
) -> torch.Tensor:
    if source.spans == ((0, len(signal)),):
        return signal
    fade = round(FADE_S * sample_rate)
    kept = torch.zeros_like(signal)
    for begin, end in source.spans:
        kept[begin:end] = signal[begin:end]
        n = min(fade, (end - begin) // 2)
        rising = torch.linspace(0, 1, n + 2)[1:-1]
        if begin > 0:
            kept[begin : begin + n] *= rising
        if end < len(signal):
            kept[end - n : end] *= rising.flip(0)
    return kept


def _arriving(
    signal: torch.Tensor, source: SourcePlan, response: torch.Tensor
) -> torch.Tensor:
    arrived = _convolve(signal, response)
    heard = response.nonzero()  # the rest of what an FFT leaves is rounding
    first, last = int(heard[0]), int(heard[-1])
    silent = torch.ones(len(signal), dtype=torch.bool)
    for begin, end in source.spans:
        if (begin, end) == (0, len(signal)):
            return arrived
        silent[begin + first : end + last] = False
    return arrived.masked_fill(silent, 0)


def _convolve(signal: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
    # torchaudio's takes the exact length, at many times the cost.
    n = fft_length(len(signal) + len(response) - 1)
    spectrum = torch.fft.rfft(signal, n) * torch.fft.rfft(response, n)
    return torch.fft.irfft(spectrum, n)[: len(signal)]


def _loudness_db(signal: torch.Tensor, sample_rate: int) -> float:
    peak = float(signal.abs().max())
    if peak == 0:
        return -math.inf
    shortest = math.ceil(LOUDNESS_BLOCK_S * sample_rate)
    if len(signal) < shortest:
        signal = signal.repeat(-(-shortest // len(signal)))
    # At a common peak, which the filters (they amplify by 4 dB) do not clip
    # at 1, and whose loudness is above the gate for silence, -70 dB.
    signal = signal[None] * (LOUDNESS_PEAK / peak)
    loudness_db = float(loudness(signal, sample_rate))
    if not math.isfinite(loudness_db):  # a click and nothing more
        loudness_db = 10 * math.log10(float(signal.square().mean()))
    return loudness_db + 20 * math.log10(peak / LOUDNESS_PEAK)


def _peak(
    sources: torch.Tensor, images: torch.Tensor, noise: torch.Tensor | None
) -> torch.Tensor:
    signals = [sources, add(sources, None)]
    if images is not sources:
        signals += [images, add(images, None)]
    if noise is not None:
        # With one speaker or all of them, direct or reverberant.
        signals.append(noise)
        for parts in (sources, images):
            signals += [parts[:, 0] + noise, add(parts, noise)]
    return torch.stack([signal.abs().max() for signal in signals]).max()
