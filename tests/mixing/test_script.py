"""What is said in turns: speech, in the order of the utterances, cut softly."""

import numpy as np
import pytest
import soundfile
import torch

from s4m_sb.mixing.corpus import read_corpus
from s4m_sb.mixing.rendering import read_pieces
from s4m_sb.mixing.script import LEAST_SPEECH, SLACK_S, Script

RATE = 8000


def bursts(length_s, on_s, period_s, rate=RATE):
    """Noise in bursts: words of one length, pauses between them."""
    time = np.arange(round(length_s * rate)) / rate
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, len(time))
    return (noise * (time % period_s < on_s)).astype(np.float32)


def write(folder, *signals, rate=RATE):
    (folder / "anna").mkdir()
    for number, signal in enumerate(signals):
        soundfile.write(folder / "anna" / f"{number}.wav", signal, rate)
    return read_corpus(folder).speakers["anna"]


def make(utterances, start=0, speed=1.0):
    return Script(utterances, start, RATE, speed, silence_db=-60.0)


def level(pieces, speed=1.0):
    return read_pieces(pieces, RATE, speed).abs()


def share_of_speech(signal):
    frames = signal[: len(signal) // 80 * 80].reshape(-1, 80)
    return float((frames.mean(dim=1) > 0.01).float().mean())


@pytest.mark.parametrize("rate", [8000, 16000, 11025])
@pytest.mark.parametrize("speed", [1.0, 0.87, 1.15])
def test_a_turn_has_its_length_and_quiet_ends(tmp_path, rate, speed):
    spoken = write(tmp_path, bursts(30, 0.4, 0.6, rate), rate=rate)
    script = make(spoken, start=1000, speed=speed)
    for num_frames in (4000, 9000, 12345):
        pieces = script.take(num_frames)
        assert sum(piece.num_frames for piece in pieces) == num_frames
        signal = level(pieces, speed)
        assert signal[:20].mean() < 0.01
        assert share_of_speech(signal) >= LEAST_SPEECH


def test_at_least_one_end_is_quiet_where_both_cannot_be(tmp_path):
    # Words of 1 s, pauses of 0.2 s; turns of 1.8 s: beginning and end
    # together can be moved over 1 s of the 1.2 s.
    spoken = write(tmp_path, bursts(30, 1.0, 1.2))
    for start in range(0, 40000, 3000):
        signal = level(make(spoken, start).take(14400))
        assert min(signal[:40].mean(), signal[-40:].mean()) < 0.01


def test_silence_is_skipped(tmp_path):
    gap = np.zeros(5 * RATE, np.float32)
    speech = bursts(4, 0.4, 0.5)
    spoken = write(tmp_path, np.concatenate([gap, speech, gap, gap, speech]))
    script = make(spoken)
    for _ in range(4):
        assert share_of_speech(level(script.take(RATE))) >= LEAST_SPEECH


def test_whoever_is_silent_says_nothing(tmp_path):
    spoken = write(tmp_path, np.full(3 * RATE, 1e-5, np.float32))
    assert make(spoken).take(RATE) is None


def test_nothing_is_said_twice_before_all_is_said(tmp_path):
    spoken = write(tmp_path, *[bursts(3, 0.4, 0.5) for _ in range(5)])
    script = make(spoken, start=RATE)
    said = [np.zeros(3 * RATE, int) for _ in spoken]
    for _ in range(6):  # 6 s and at most half a second before each: 9 s
        for piece in script.take(RATE):
            number = spoken.index(piece.utterance)
            said[number][piece.start : piece.start + piece.num_frames] += 1
    assert max(map(max, said)) == 1
    assert sum(map(sum, said)) == 6 * RATE
    order = [piece.utterance for piece in script._window((0, 0), 16 * RATE)[0]]
    assert order == [*spoken, spoken[0]]


def test_one_who_has_said_all_begins_again(tmp_path):
    spoken = write(tmp_path, bursts(1, 0.4, 0.5))
    pieces = make(spoken, start=100).take(5 * RATE)
    assert sum(piece.num_frames for piece in pieces) == 5 * RATE
    assert {piece.utterance for piece in pieces} == set(spoken)
    assert all(piece.num_frames > 0 for piece in pieces)


def test_turns_begin_soon_after_the_last(tmp_path):
    spoken = write(tmp_path, bursts(60, 0.4, 0.5))
    script = make(spoken)
    end = 0
    for _ in range(10):
        (piece,) = script.take(RATE)
        assert end <= piece.start <= end + SLACK_S * RATE
        end = piece.start + piece.num_frames
    assert torch.isfinite(level((piece,))).all()
