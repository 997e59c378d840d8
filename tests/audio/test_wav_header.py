"""The header, read by libsndfile."""

import io

import numpy as np
import pytest
import soundfile

from s4m_sb.audio.wav_header import wav_header


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
