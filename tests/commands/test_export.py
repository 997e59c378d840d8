"""``s4m export``: a training becomes a model that separates."""

import pytest
import soundfile
from small_model import train
from speech_like import speak

from s4m_sb.commands.main import main


@pytest.fixture
def mixture(tmp_path):
    path = tmp_path / "mix.flac"
    signal = 0.4 * (speak(1, 0, 1.0, 16000) + speak(2, 0, 1.0, 16000))
    soundfile.write(path, signal, 16000)
    return path


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_export_then_separate(mixture, tmp_path, capsys):
    train(tmp_path / "run")
    capsys.readouterr()
    folder = tmp_path / "model"
    arguments = ["--data", "speech", "--license", "mit", "--command", "make"]
    assert run("export", tmp_path / "run", folder, *arguments) == 0
    assert str(folder) in capsys.readouterr().out
    card = (folder / "README.md").read_text()
    assert "- Data: speech" in card
    assert "- Command: make" in card
    assert "license: mit" in card
    assert run("export", tmp_path / "run", folder) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"s4m: error: {folder}: exists")
    assert run("export", tmp_path / "run", folder, "--force") == 0
    output = tmp_path / "out"
    assert run("separate", mixture, "--output", output, "--model", folder) == 0
