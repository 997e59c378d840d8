"""Audio block by block: the same samples, in bounded memory, whole files."""

import errno
import io
import os

import numpy as np
import pytest
import soundfile
import torch
from speech_like import speak

from s4m_sb.audio import stream as audio_stream
from s4m_sb.audio.files import audio_info, read_audio
from s4m_sb.audio.stream import WavWriter, stream_audio, wav_header
from s4m_sb.errors import InputError
from s4m_sb.system.files import replacing


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(audio_stream, "BLOCK_FRAMES", 1000)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize("sample_rate", [None, 8000, 16000])
def test_blocks_are_the_file(tmp_path, suffix, num_channels, sample_rate):
    signal = speak(1, 0, 1.0, 16000)[:15999]
    channels = np.stack([signal, 0.5 * signal[::-1]], 1)[:, :num_channels]
    path = tmp_path / f"speech.{suffix}"
    soundfile.write(path, channels, 16000)
    blocks = list(stream_audio(path, sample_rate))
    whole, _ = read_audio(path, sample_rate)
    assert len(blocks) > 10
    if sample_rate == 8000 or suffix == "mp3":
        # float32 sums over the resampling filter, in another order; an MP3
        # decoder that rounds the last bit by where it was asked to stop
        torch.testing.assert_close(torch.cat(blocks), whole, atol=2e-6, rtol=0)
    else:
        assert torch.equal(torch.cat(blocks), whole)


def test_only_what_is_asked_for_is_read(tmp_path):
    path = tmp_path / "speech.wav"
    samples = np.zeros(5000)
    samples[3500] = np.nan
    soundfile.write(path, samples, 8000, subtype="FLOAT")
    blocks = stream_audio(path)
    assert len(next(blocks)) == 1000
    assert len(next(blocks)) == 1000
    with pytest.raises(InputError, match="speech.wav: holds NaN"):
        list(blocks)


@pytest.mark.parametrize("problem", ["missing", "empty", "text", "none"])
@pytest.mark.parametrize("sample_rate", [None, 16000])
def test_a_bad_file_is_named(tmp_path, problem, sample_rate):
    path = tmp_path / "bad.wav"
    if problem == "empty":
        path.write_bytes(b"")
    elif problem == "text":
        path.write_text("no audio at all, but text of some length " * 9)
    elif problem == "none":
        soundfile.write(path, np.zeros(0), 8000)
    with pytest.raises(InputError, match="bad.wav: "):
        list(stream_audio(path, sample_rate))


def test_what_is_written_is_read_bit_for_bit(tmp_path):
    path = tmp_path / "signal.wav"
    signal = 3 * torch.randn(4321)  # beyond full scale, too
    with WavWriter(path, 22050) as writer:
        for block in signal.split(500):
            writer.write(block)
    found, sample_rate = read_audio(path)
    assert torch.equal(found, signal)
    assert sample_rate == 22050
    info = soundfile.info(path)
    assert (info.subtype, info.format, info.channels) == ("FLOAT", "WAV", 1)
    assert path.stat().st_size < 4 * 4321 + 100


def test_nothing_is_a_file_too(tmp_path):
    path = tmp_path / "nothing.wav"
    with WavWriter(path, 8000):
        pass
    assert audio_info(path).num_frames == 0


def test_samples_are_changed_in_place(tmp_path):
    path = tmp_path / "signal.wav"
    signal = torch.randn(4321)
    with WavWriter(path, 8000) as writer:
        writer.write(signal[:100])
        writer.change(torch.neg)
        for block in signal[100:].split(1500):
            writer.write(block)
        writer.change(lambda samples: samples / 3)
    expected = torch.cat([-signal[:100], signal[100:]]) / 3
    assert torch.equal(read_audio(path)[0], expected)


def test_more_than_four_gigabytes_are_read_back(tmp_path):
    path = tmp_path / "day.wav"
    num_frames = 2**30 + 1000
    with WavWriter(path, 8000) as writer:
        writer.write(torch.ones(10))
        # A hole in the file instead of a day of samples.
        writer._file.seek(4 * (num_frames - 20), os.SEEK_CUR)
        writer.num_frames += num_frames - 20
        writer.write(torch.full((10,), 0.25))
    assert audio_info(path).num_frames == num_frames
    end, _ = read_audio(path, start=num_frames - 10)
    assert torch.equal(end, torch.full((10,), 0.25))
    start, _ = read_audio(path, num_frames=10)
    assert torch.equal(start, torch.ones(10))


@pytest.mark.skipif(
    not os.path.exists("/dev/full"), reason="no device that is always full"
)
def test_a_full_disk_is_an_os_error():
    with pytest.raises(OSError) as caught:
        with WavWriter("/dev/full", 8000) as writer:
            writer.write(torch.zeros(10**6))
    assert caught.value.errno == errno.ENOSPC


def test_an_interrupted_file_is_none(tmp_path):
    path = tmp_path / "voice.wav"
    with pytest.raises(KeyboardInterrupt):
        with replacing(path) as temporary, WavWriter(temporary, 8000) as writer:
            writer.write(torch.zeros(10**5))
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("num_channels", [1, 2, 5])
@pytest.mark.parametrize("num_frames", [0, 1, 1000])
def test_libsndfile_reads_what_follows_it(num_frames, num_channels):
    samples = np.arange(num_frames * num_channels, dtype="<f4")
    file = io.BytesIO(
        wav_header(num_frames, 22050, num_channels) + samples.tobytes()
    )
    info = soundfile.info(file)
    assert (info.format, info.subtype) == ("WAV", "FLOAT")
    assert (info.samplerate, info.channels) == (22050, num_channels)
    file.seek(0)
    found, _ = soundfile.read(file, dtype="float32", always_2d=True)
    assert np.array_equal(found, samples.reshape(num_frames, num_channels))


def test_beyond_four_gigabytes_it_is_rf64():
    at_most = (2**32 - 1 - len(wav_header(0, 8000)) + 8) // 8
    assert wav_header(at_most, 8000, 2).startswith(b"RIFF")
    assert wav_header(at_most + 1, 8000, 2).startswith(b"RF64")


@pytest.mark.parametrize("read", [read_audio, stream_audio])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_channels_that_cancel_are_not_silence(tmp_path, read, subtype):
    path = tmp_path / "upside down.wav"
    noise = 0.1 * np.random.default_rng(0).standard_normal(200000)
    soundfile.write(path, np.stack([noise, -noise], 1), 8000, subtype)
    with pytest.raises(InputError, match="upside down.wav: its channels can"):
        list(read(path))
    # What is a little different is left; so is silence, and a lone channel.
    for other in (-0.99 * noise, 0 * noise):
        soundfile.write(path, np.stack([noise, other], 1), 8000, subtype)
        assert list(read(path))
    soundfile.write(path, np.zeros((99, 2)), 8000, subtype)
    assert list(read(path))
