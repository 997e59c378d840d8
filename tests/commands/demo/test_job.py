"""What the page does with a recording is what ``s4m separate`` does."""

import numpy as np
import pytest
import soundfile
import torch
from demo_process import EXAMPLE
from small_model import write_model
from speech_like import speak

from s4m_sb.audio.files import read_audio
from s4m_sb.commands.demo.job import check_length, separate_recording
from s4m_sb.commands.main import main
from s4m_sb.errors import InputError
from s4m_sb.inference.interface import S4MSeparation
from s4m_sb.inference.pieces import Pieces


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def model(folder):
    return S4MSeparation.from_hparams(folder)


def separate(path, model, folder, chunk_s=5):
    return separate_recording(path, model, folder, Pieces(chunk_s), 60)


@pytest.mark.parametrize("chunk_s", [2, 30])  # the example has 6.7 s
def test_it_gives_what_the_command_gives(model, folder, tmp_path, chunk_s):
    mixture, outcome = separate(EXAMPLE, model, tmp_path, chunk_s)
    words = ["separate", EXAMPLE, "--output", tmp_path / "out", "--model"]
    words += [folder, "--chunk", chunk_s]
    assert main([str(word) for word in words]) == 0
    assert len(outcome.voices) == 2
    for path in outcome.voices:
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()
    assert torch.equal(read_audio(mixture)[0], read_audio(EXAMPLE)[0])
    assert mixture.name == "two_talkers_mix.wav"
    assert outcome.picture.name == "two_talkers.png"
    assert outcome.picture.stat().st_size > 10000


def test_two_of_one_name_have_a_folder_each(model, tmp_path):
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / EXAMPLE.name
    soundfile.write(other, speak(0, 0, 1.0, 16000), 16000)
    first, second = (
        separate(path, model, tmp_path) for path in (EXAMPLE, other)
    )
    assert first[0].parent != second[0].parent
    assert len(read_audio(second[0])[0]) == 8000


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ("missing", "no such file"),
        ("text", "cannot be read as audio"),
        ("silent", "is silent; there are no voices in it"),
        ("nan", "holds NaN"),
        ("long", "lasts 61 s; this page takes recordings of up to 60 s"),
    ],
)
def test_what_cannot_be_separated_is_named(model, tmp_path, problem, message):
    path = tmp_path / "bad.wav"
    if problem == "text":
        path.write_text("no audio " * 99)
    elif problem != "missing":
        value = np.nan if problem == "nan" else 0
        length = 8000 * (61 if problem == "long" else 1)
        soundfile.write(path, np.full(length, float(value)), 8000, "FLOAT")
    with pytest.raises(InputError, match=message) as caught:
        separate(path, model, tmp_path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_length_is_said_as_people_say_it(tmp_path):
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(8000 * 605), 8000)
    with pytest.raises(InputError, match="lasts 10 min 5 s; .* to 10 min$"):
        check_length(path, max_seconds=600)
    check_length(path, max_seconds=605)
