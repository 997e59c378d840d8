"""Recordings decoded once: the same samples, each file once."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from s4m_sb.errors import InputError
from s4m_sb.mixing.corpus import read_corpus, read_segment
from s4m_sb.mixing.decoded import decoded


@pytest.fixture
def speech(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("anna/1.ogg", "anna/2.ogg", "ben/1.ogg"):
        path = tmp_path / "speech" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.uniform(-0.5, 0.5, 9000), 16000)
    return read_corpus(tmp_path / "speech")


def test_the_samples_are_the_same(speech, tmp_path):
    copied = decoded(speech, tmp_path / "decoded")
    assert list(copied.speakers) == list(speech.speakers)
    for speaker, spoken in speech.speakers.items():
        for there, here in zip(spoken, copied.speakers[speaker], strict=True):
            assert (there.num_frames, there.sample_rate, there.speaker) == (
                here.num_frames,
                here.sample_rate,
                here.speaker,
            )
            for window in ((0, 3000, 1.0), (1234, 2000, 0.9)):
                start, num_frames, speed = window
                assert torch.equal(
                    read_segment(here, start, num_frames, 8000, speed),
                    read_segment(there, start, num_frames, 8000, speed),
                )


def test_each_is_decoded_once_and_again_when_it_changed(speech, tmp_path):
    folder = tmp_path / "decoded"
    decoded(speech, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(before) == 3
    again = decoded(speech, folder)
    assert before == {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    changed = speech.speakers["anna"][0].path
    soundfile.write(changed, np.zeros(500), 16000)
    os.utime(changed, ns=(1, 1))
    now = decoded(read_corpus(tmp_path / "speech"), folder)
    assert now.speakers["anna"][0] != again.speakers["anna"][0]
    assert now.speakers["ben"] == again.speakers["ben"]
    assert len(list(folder.iterdir())) == 4


def test_a_folder_that_cannot_be_written_is_named(speech, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="file: cannot be written"):
        decoded(speech, tmp_path / "file")


def test_a_damaged_recording_is_named(speech, tmp_path):
    path = speech.speakers["ben"][0].path
    with open(path, "wb") as file:
        file.write(b"no sound")
    with pytest.raises(InputError, match=r"ben/1\.ogg: cannot be read"):
        decoded(speech, tmp_path / "decoded")


def test_several_may_fill_the_folder_at_once(speech, tmp_path):
    folder = tmp_path / "decoded"
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: decoded(speech, folder), range(4)))
    assert all(corpus == made[0] for corpus in made)
    names = {path.name for path in folder.iterdir()}
    assert len(names) == 3  # and nothing half written beside them
    for spoken in made[0].speakers.values():
        assert all(Path(u.path).name in names for u in spoken)
