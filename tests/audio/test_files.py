"""Audio files: the samples that are in them, or one clear line."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
import torch
from flac_from_pipe import write_flac_from_pipe
from speech_like import speak

from s4m_sb.audio.files import (
    UNKNOWN,
    SoundFile,
    audio_info,
    read_audio,
    write_audio,
)
from s4m_sb.audio.stream import WavWriter, stream_audio
from s4m_sb.errors import InputError

# format, subtype, largest error of a sample: half or one step of its grid
LOSSLESS = [
    ("wav", "PCM_16", 2.0**-15),
    ("wav", "PCM_24", 2.0**-23),
    ("wav", "PCM_32", 2.0**-24),
    ("wav", "PCM_U8", 2.0**-7),
    ("wav", "FLOAT", 0.0),
    ("wav", "DOUBLE", 0.0),
    ("flac", "PCM_16", 2.0**-15),
    ("flac", "PCM_24", 2.0**-23),
]


@pytest.fixture
def speech():
    return speak(1, 0, 2.0, 8000)


@pytest.mark.parametrize(("suffix", "subtype", "step"), LOSSLESS)
def test_every_lossless_format_gives_its_samples(
    tmp_path, speech, suffix, subtype, step
):
    path = tmp_path / f"speech.{suffix}"
    soundfile.write(path, speech, 8000, subtype=subtype)
    signal, sample_rate = read_audio(path)
    assert sample_rate == 8000
    assert signal.dtype == torch.float32
    assert signal.shape == (16000,)
    assert np.abs(signal.numpy() - speech).max() <= step


def test_ogg_is_close(tmp_path, speech):
    path = tmp_path / "speech.ogg"
    soundfile.write(path, speech, 8000)
    signal, _ = read_audio(path)
    assert signal.shape == (16000,)
    error = signal.numpy() - speech
    # a lossy format: noise well below the speech
    assert np.square(error).sum() < 0.1 * np.square(speech).sum()


@pytest.mark.parametrize("num_channels", [2, 5])
def test_channels_are_averaged(tmp_path, speech, num_channels):
    gains = np.arange(num_channels, dtype=np.float32)
    path = tmp_path / "channels.wav"
    soundfile.write(path, np.outer(speech, gains), 8000, subtype="FLOAT")
    signal, _ = read_audio(path)
    expected = torch.from_numpy(speech * gains.mean())
    # float32 rounding of a sum of five numbers
    torch.testing.assert_close(signal, expected, atol=1e-6, rtol=1e-6)
    assert audio_info(path).num_channels == num_channels


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_any_window_is_that_part_of_the_whole(tmp_path, speech, suffix):
    path = tmp_path / f"speech.{suffix}"
    soundfile.write(path, np.tile(speech, 4), 8000)
    whole, _ = read_audio(path)
    assert audio_info(path).num_frames == len(whole) == 64000
    for start, num_frames in [
        (0, 1),
        (0, 64000),
        (1, 500),
        (31999, 2),
        (63000, 1000),
        (63990, 500),  # beyond the end: what is there
        (12345, -1),
    ]:
        window, _ = read_audio(path, start=start, num_frames=num_frames)
        end = None if num_frames < 0 else start + num_frames
        # Vorbis frames overlap: decoded from another page, float32 rounding
        torch.testing.assert_close(window, whole[start:end], atol=1e-6, rtol=0)


@pytest.mark.parametrize("sample_rate", [16000, 44100, 11025, 44099])
def test_resampling_keeps_a_tone(tmp_path, sample_rate):
    seconds = np.arange(sample_rate) / sample_rate
    tone = 0.5 * np.sin(2 * np.pi * 440 * seconds)
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone, sample_rate, subtype="FLOAT")
    signal, rate = read_audio(path, sample_rate=8000)
    assert rate == 8000
    assert signal.shape == (8000,)
    expected = 0.5 * torch.sin(
        2 * torch.pi * 440 * torch.arange(8000, dtype=torch.float64) / 8000
    )
    # away from the ends: the resampler's filter is flat to half a percent
    torch.testing.assert_close(
        signal[100:-100], expected[100:-100].float(), atol=2.5e-3, rtol=0
    )


def test_what_is_written_is_read_bit_for_bit(tmp_path):
    signal = 3 * torch.randn(1000)  # beyond full scale, too
    path = tmp_path / "deep" / "signal.wav"
    write_audio(path, signal, 16000)
    found, sample_rate = read_audio(path)
    assert torch.equal(found, signal)
    assert sample_rate == 16000
    info = audio_info(path)
    assert (info.num_frames, info.sample_rate, info.num_channels) == (
        1000,
        16000,
        1,
    )
    assert soundfile.info(path).subtype == "FLOAT"


def test_the_same_signal_gives_the_same_bytes(tmp_path, monkeypatch):
    signal = torch.randn(1000)
    write_audio(tmp_path / "a.wav", signal, 8000)
    time.sleep(1.1)  # libsndfile would note the second
    write_audio(tmp_path / "b.wav", signal, 8000)
    assert (tmp_path / "a.wav").read_bytes() == (
        tmp_path / "b.wav"
    ).read_bytes()


def write_bad(path, problem):
    if problem == "folder":
        path.mkdir()
    elif problem == "empty":
        path.write_bytes(b"")
    elif problem == "text":
        path.write_text("no audio at all, but text of some length\n" * 9)
    elif problem == "cut off":
        soundfile.write(path, np.zeros(1000), 8000)
        path.write_bytes(path.read_bytes()[:20])
    elif problem == "no samples":
        soundfile.write(path, np.zeros(0), 8000)
    elif problem in ("nan", "inf"):
        samples = np.zeros(1000)
        samples[500] = float(problem)
        soundfile.write(path, samples, 8000, subtype="FLOAT")


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ("missing", "no such file"),
        ("folder", "is a folder"),
        ("empty", "is empty"),
        ("text", "cannot be read as audio"),
        ("cut off", "cannot be read as audio|has no samples"),
        ("no samples", "has no samples"),
        ("nan", "NaN or infinite"),
        ("inf", "NaN or infinite"),
    ],
)
def test_bad_files_are_one_line_with_their_name(tmp_path, problem, message):
    path = tmp_path / "bad.wav"
    write_bad(path, problem)
    with pytest.raises(InputError, match=message) as caught:
        read_audio(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    if problem in ("missing", "folder", "empty", "text"):
        with pytest.raises(InputError, match=message):
            audio_info(path)


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    path = tmp_path / "secret.wav"
    soundfile.write(path, np.zeros(1000), 8000)
    # root may read everything
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK)
    for read in (read_audio, audio_info):
        with pytest.raises(InputError, match="secret.wav: permission denied"):
            read(path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
def test_a_pipe_is_not_called_empty(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    for name in (path, os.devnull):
        for read in (read_audio, audio_info):
            with pytest.raises(InputError, match="not a file; send it to st"):
                read(name)


def test_a_window_behind_the_end_is_refused(tmp_path, speech):
    path = tmp_path / "speech.wav"
    soundfile.write(path, speech, 8000)
    with pytest.raises(InputError, match="no samples to read from 16000"):
        read_audio(path, start=16000, num_frames=10)


def test_nan_outside_of_the_window_is_no_matter(tmp_path):
    path = tmp_path / "bad.wav"
    write_bad(path, "nan")
    signal, _ = read_audio(path, start=0, num_frames=500)
    assert torch.equal(signal, torch.zeros(500))


# Files that do not say how long they are

NUM_FRAMES = 300001  # more than two blocks


@pytest.fixture(params=[1, 2])
def files(tmp_path, request):
    """A file that says its length, and the same that does not."""
    signal = speak(1, 0, 40.0, 8000)[:NUM_FRAMES]
    channels = np.stack([signal, 0.5 * signal[::-1]], 1)[:, : request.param]
    soundfile.write(tmp_path / "told.flac", channels, 8000)
    write_flac_from_pipe(tmp_path / "untold.flac", channels, 8000)
    assert soundfile.info(tmp_path / "untold.flac").frames == UNKNOWN
    return tmp_path / "told.flac", tmp_path / "untold.flac"


def test_its_samples_are_counted(files):
    told, untold = map(audio_info, files)
    assert told == untold
    assert told.num_frames == NUM_FRAMES


def test_it_is_read_like_any_other(files):
    told, untold = files
    assert torch.equal(read_audio(untold)[0], read_audio(told)[0])
    blocks = list(stream_audio(untold))
    assert len(blocks) > 2
    assert torch.equal(torch.cat(blocks), read_audio(told)[0])


@pytest.mark.parametrize(
    ("start", "num_frames"),
    [(0, 5), (1000, 5), (1000, -1), (NUM_FRAMES - 3, 9)],
)
def test_any_window_of_it_is_read(files, start, num_frames):
    told, untold = (
        read_audio(path, start=start, num_frames=num_frames)[0]
        for path in files
    )
    assert torch.equal(untold, told)


def test_a_window_behind_its_end_is_refused(files):
    with pytest.raises(InputError, match="no samples to read from 300001"):
        read_audio(files[1], start=NUM_FRAMES)


def test_what_says_its_length_is_not_read_to_count(tmp_path):
    path = tmp_path / "told.flac"
    soundfile.write(path, np.zeros(NUM_FRAMES), 8000)
    with SoundFile(path) as file:
        assert file.seekable()
        assert file.seek(NUM_FRAMES - 7) == NUM_FRAMES - 7
        assert [len(block) for block in file.by_blocks(5)] == [5, 2]


@pytest.fixture
def half(tmp_path):
    """The first half of a FLAC file of 4 s that came through a pipe."""
    path = tmp_path / "half.flac"
    write_flac_from_pipe(path, speak(1, 0, 4.0, 8000), 8000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def test_half_of_one_is_as_long_as_what_it_holds(half):
    held, _ = read_audio(half, partial=True)
    assert audio_info(half).num_frames == len(held)
    assert 8000 < len(held) < 24000


@pytest.mark.parametrize("use", [read_audio, stream_audio])
def test_half_of_one_is_refused(half, use):
    path = half
    with pytest.raises(InputError, match="half.flac: cannot be read as audio"):
        list(use(path))


@pytest.mark.parametrize("sample_rate", [1, 999, 768001, 2**31 - 1])
def test_a_rate_that_no_sound_has_is_refused(tmp_path, sample_rate):
    path = tmp_path / "slow.wav"
    soundfile.write(path, np.zeros(1000), sample_rate)
    message = f"slow.wav: says a sample rate of {sample_rate} Hz; it should"
    for use in (audio_info, read_audio, stream_audio):
        with pytest.raises(InputError, match=message):
            list(use(path))


@pytest.mark.parametrize("sample_rate", [1000, 2000, 192000, 768000])
def test_a_rate_that_some_sound_has_is_read(tmp_path, sample_rate):
    path = tmp_path / "bat.wav"
    soundfile.write(path, np.zeros(1000), sample_rate)
    assert read_audio(path, sample_rate=8000)[1] == 8000


def test_a_damaged_mp3_file_is_one_line_and_no_more(tmp_path, speech, capfd):
    path = tmp_path / "speech.mp3"
    soundfile.write(path, speech, 8000)
    content = path.read_bytes()
    noise = np.random.default_rng(1).integers(0, 256, len(content))
    noise = noise.astype(np.uint8).tobytes()
    for place, reason in ((200, "damaged"), (len(content) // 2, "unspecified")):
        path.write_bytes(content[:place] + noise[place:])
        with pytest.raises(InputError) as caught:
            read_audio(path)
        said = f"{path}: cannot be read as audio ({reason}"
        assert str(caught.value).startswith(said)
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def test_standard_error_may_be_closed(tmp_path, speech):
    path = tmp_path / "speech.mp3"
    soundfile.write(path, speech, 8000)
    program = (
        "import os, sys; os.close(2); "
        "from s4m_sb.audio.files import read_audio; "
        "print(len(read_audio(sys.argv[1])[0]))"
    )
    command = [sys.executable, "-c", program, str(path)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert int(found.stdout) >= len(speech)


@pytest.mark.parametrize("name", ["my talk.m4a", "b.MP4", "c.webm"])
def test_what_ffmpeg_reads_is_said(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(bytes(999))
    with pytest.raises(InputError) as caught:
        read_audio(path)
    quoted = f"'{path}'" if " " in name else path
    end = f", or: ffmpeg -i {quoted} -f wav - | s4m separate -"
    assert str(caught.value).endswith(end)


@pytest.mark.parametrize("sample_rate", [0, 1, 10**12])
def test_no_file_of_a_rate_that_no_sound_has_is_written(tmp_path, sample_rate):
    with pytest.raises(InputError, match=f"a sample rate of {sample_rate} Hz"):
        write_audio(tmp_path / "a.wav", torch.zeros(9), sample_rate)
    with pytest.raises(InputError, match=f"a sample rate of {sample_rate} Hz"):
        WavWriter(tmp_path / "a.wav", sample_rate)
    assert list(tmp_path.iterdir()) == []
