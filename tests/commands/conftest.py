"""What the commands are given: a small model, and a mixture as a file."""

import pytest
import soundfile
from small_model import write_model
from speech_like import speak


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder of a model that the tests read and do not change."""
    return write_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def mixture(tmp_path):
    """A file that a test may change."""
    path = tmp_path / "mix.flac"
    signal = 0.4 * (speak(1, 0, 1.0, 16000) + speak(2, 0, 1.0, 16000))
    soundfile.write(path, signal, 16000)
    return path
