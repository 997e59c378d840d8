"""A recording that was cut off is known, in every format, and read as far."""

import numpy as np
import pytest
import soundfile
import torch
from flac_from_pipe import write_flac_from_pipe
from speech_like import speak

from s4m_sb.audio.files import audio_info, read_audio
from s4m_sb.audio.stream import WavWriter, stream_audio
from s4m_sb.audio.whole import is_whole
from s4m_sb.errors import InputError

FORMATS = [
    ("wav", {}),
    ("wav", {"subtype": "FLOAT"}),
    ("wav", {"subtype": "IMA_ADPCM"}),
    ("wav", {"format": "WAVEX"}),
    ("rf64", {"format": "RF64"}),
    ("w64", {}),
    ("aiff", {}),
    ("au", {}),
    ("flac", {}),
    ("ogg", {}),
    ("ogg", {"format": "OGG", "subtype": "OPUS"}),
    ("mp3", {}),
]


@pytest.fixture
def speech():
    return speak(1, 0, 8.0, 8000)


@pytest.mark.parametrize(("suffix", "options"), FORMATS)
@pytest.mark.parametrize("part", [0.3, 0.5, 0.9, 0.99])
def test_a_file_that_was_cut_off_is_known_and_read(
    tmp_path, speech, suffix, options, part
):
    path = tmp_path / f"speech.{suffix}"
    soundfile.write(path, speech, 8000, **options)
    assert is_whole(path)
    whole, _ = read_audio(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    assert not is_whole(path)
    for found in (
        read_audio(path, partial=True)[0],
        torch.cat(list(stream_audio(path, partial=True))),
    ):
        # The bytes of speech are not spread evenly.
        assert (part - 0.4) * len(whole) < len(found) < len(whole)
        if suffix != "mp3":  # whose last frames need those behind them
            # Others need those at the last page, or the rest of a block.
            lossy = suffix == "ogg" or "ADPCM" in str(options)
            kept = slice(0, len(found) - 2000 * lossy)
            # 1e-6: Vorbis, decoded from another page
            torch.testing.assert_close(
                found[kept], whole[kept], atol=1e-6, rtol=0
            )


def test_every_sample_before_the_fault_is_read(tmp_path, speech):
    path = tmp_path / "speech.flac"
    soundfile.write(path, np.tile(speech, 5), 8000)  # several blocks
    whole, _ = read_audio(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 4 // 5])
    found, _ = read_audio(path, partial=True)
    assert len(found) % 4096 == 0  # whole frames of FLAC
    assert torch.equal(found, whole[: len(found)])
    window, _ = read_audio(path, start=9, num_frames=300, partial=True)
    assert torch.equal(window, whole[9:309])


@pytest.mark.parametrize("use", [read_audio, stream_audio])
def test_a_flac_file_that_was_cut_off_is_refused_where_that_matters(
    tmp_path, speech, use
):
    path = tmp_path / "speech.flac"
    soundfile.write(path, speech, 8000)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError, match="speech.flac: cannot be read as aud"):
        list(use(path))


def test_what_could_be_read_tells_of_a_flac_file(tmp_path, speech):
    path = tmp_path / "speech.flac"
    soundfile.write(path, speech, 8000)
    seconds = len(speech) / 8000
    assert is_whole(path, seconds)
    assert not is_whole(path, seconds - 1 / 8000)
    path.write_bytes(path.read_bytes()[:-500])
    counted = audio_info(path, counted=True).num_frames
    assert counted == len(read_audio(path, partial=True)[0]) < len(speech)
    assert audio_info(path).num_frames == len(speech)
    assert not is_whole(path, counted / 8000)


def test_a_flac_file_without_a_length_is_whole_if_it_ends(tmp_path, speech):
    path = tmp_path / "speech.flac"
    write_flac_from_pipe(path, speech, 8000)
    assert is_whole(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert not is_whole(path)


@pytest.mark.parametrize("said", [2**32 - 1, 2**31 - 1, 2**31 - 4096 + 36])
def test_a_wav_file_from_a_pipe_is_whole(tmp_path, speech, said):
    path = tmp_path / "speech.wav"
    soundfile.write(path, speech, 8000)
    content = path.read_bytes()
    place = content.index(b"data") + 4
    size = said.to_bytes(4, "little")
    path.write_bytes(
        content[:4] + size + content[8:place] + size + content[place + 4 :]
    )
    assert audio_info(path).num_frames == len(speech)
    assert is_whole(path)


def test_what_stands_behind_the_samples_does_not_count(tmp_path, speech):
    path = tmp_path / "speech.wav"
    with WavWriter(path, 8000) as writer:
        writer.write(torch.from_numpy(speech))
    assert is_whole(path)
    path.write_bytes(path.read_bytes() + b"junk" * 100)
    assert is_whole(path)


def test_an_mp3_file_behind_a_tag(tmp_path, speech):
    path = tmp_path / "speech.mp3"
    soundfile.write(path, speech, 8000)
    content = path.read_bytes()
    tag = b"ID3\x04\0\0" + bytes([0, 0, 8, 0]) + bytes(1024)
    path.write_bytes(tag + content)
    assert is_whole(path)
    path.write_bytes((tag + content)[: len(content)])
    assert not is_whole(path)
