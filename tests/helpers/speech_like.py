"""Signals that behave like speech, made from nothing but a seed.

A talker has a pitch and a vocal tract length of their own, and speaks
in syllables: a voiced sound with three formants and a gliding pitch, at times
after a burst of noise, at times followed by a pause.
"""

import numpy as np

# Formants F1, F2, F3 in Hz of an average adult, vowels of "bee" to "boot".
VOWELS_HZ = np.array(
    [
        [300.0, 2300.0, 3000.0],
        [550.0, 1850.0, 2500.0],
        [750.0, 1250.0, 2600.0],
        [600.0, 900.0, 2500.0],
        [350.0, 900.0, 2300.0],
    ]
)
BANDWIDTHS_HZ = np.array([80.0, 120.0, 180.0])


def speak(talker: int, utterance: int, duration_s: float, sample_rate: int):
    """One utterance, float32, ``[T]``, the same at every call."""
    traits = np.random.default_rng([talker])
    pitch_hz = np.exp(traits.uniform(np.log(85.0), np.log(250.0)))
    vowels_hz = VOWELS_HZ * traits.uniform(0.85, 1.15)

    generator = np.random.default_rng([talker, utterance])
    num_frames = round(duration_s * sample_rate)
    pieces, length = [], 0
    while length < num_frames:
        draw = generator.random()
        if draw < 0.2:
            piece = _pause(generator, sample_rate)
        elif draw < 0.4:
            piece = _burst(generator, sample_rate)
        else:
            piece = _syllable(generator, sample_rate, pitch_hz, vowels_hz)
        pieces.append(piece)
        length += len(piece)
    signal = np.concatenate(pieces)[:num_frames]
    level = 10 ** (generator.uniform(-10.0, -3.0) / 20)
    signal *= level / np.abs(signal).max()
    # The floor of a quiet room, about -80 dB full scale.
    signal += 1e-4 * generator.standard_normal(num_frames)
    return signal.astype(np.float32)


def _syllable(generator, sample_rate, pitch_hz, vowels_hz):
    num_frames = round(generator.uniform(0.12, 0.3) * sample_rate)
    start, end = pitch_hz * generator.uniform(0.85, 1.2, size=2)
    track_hz = np.geomspace(start, end, num_frames)
    phase = 2 * np.pi * np.cumsum(track_hz) / sample_rate
    orders = np.arange(1, int(0.5 * sample_rate / track_hz.max()))
    harmonics_hz = orders * track_hz.mean()
    formants_hz = generator.choice(vowels_hz)
    # Resonances over a glottal source that falls by 6 dB an octave. [K]
    distance = (harmonics_hz[:, None] - formants_hz) / BANDWIDTHS_HZ
    gains = (1 / (1 + distance**2)).sum(axis=1) / orders**0.5
    voiced = gains @ np.sin(orders[:, None] * phase)
    return voiced * np.hanning(num_frames)


def _burst(generator, sample_rate):
    num_frames = round(generator.uniform(0.05, 0.12) * sample_rate)
    noise = np.diff(generator.standard_normal(num_frames + 1))
    return 0.1 * noise * np.hanning(num_frames)


def _pause(generator, sample_rate):
    return np.zeros(round(generator.uniform(0.1, 0.35) * sample_rate))
