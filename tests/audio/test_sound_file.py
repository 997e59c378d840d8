"""Files that do not say how long they are hold what others hold."""

import numpy as np
import pytest
import soundfile
import torch
from flac_from_pipe import write_flac_from_pipe
from speech_like import speak

from s4m_sb.audio.files import audio_info, read_audio
from s4m_sb.audio.sound_file import UNKNOWN, SoundFile
from s4m_sb.audio.stream import stream_audio
from s4m_sb.errors import InputError

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


@pytest.mark.parametrize("use", [audio_info, read_audio, stream_audio])
def test_half_of_one_is_refused(tmp_path, use):
    path = tmp_path / "half.flac"
    write_flac_from_pipe(path, speak(1, 0, 4.0, 8000), 8000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="half.flac: cannot be read as audio"):
        list(use(path))
