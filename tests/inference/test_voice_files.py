"""Voices into files: all of them or none."""

import errno

import pytest
import torch

from s4m_sb.audio.files import read_audio
from s4m_sb.inference.voice_files import write_voices


@pytest.fixture
def outputs(tmp_path):
    return [tmp_path / f"s{number}.wav" for number in (1, 2, 3)]


def blocks():
    voices = torch.randn(100, 3)
    return list(zip(voices.sum(1).split(30), voices.split(30), strict=True))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_folder_in_the_way_leaves_all_as_it_was(outputs, number):
    write_voices(blocks(), outputs, 8000, "none")
    outputs[number].unlink()
    outputs[number].mkdir()
    others = [path for path in outputs if path.is_file()]
    before = [path.read_bytes() for path in others]
    with pytest.raises(IsADirectoryError) as caught:
        write_voices(blocks(), outputs, 8000, "none")
    assert caught.value.errno == errno.EISDIR
    assert caught.value.filename == str(outputs[number])
    assert [path.read_bytes() for path in others] == before
    assert len(list(outputs[0].parent.iterdir())) == 3


def test_what_fails_half_way_leaves_the_old_ones(outputs):
    def half():
        yield from blocks()[:2]
        raise KeyboardInterrupt

    first = blocks()
    write_voices(first, outputs, 8000, "none")
    with pytest.raises(KeyboardInterrupt):
        write_voices(half(), outputs, 8000, "none")
    whole = torch.cat([voices for _, voices in first])
    for path, voice in zip(outputs, whole.unbind(1), strict=True):
        assert torch.equal(read_audio(path)[0], voice)
