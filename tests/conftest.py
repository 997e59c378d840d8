"""Fixtures of all tests, and an environment in which they repeat exactly."""

import logging
import os
import random
from pathlib import Path

# One thread each, in subprocesses too: small tensors gain nothing from more.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import soundfile  # noqa: E402
import torch  # noqa: E402
from speech_like import speak  # noqa: E402

from s4m_sb.commands.main import main  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[1]
MINI_SPEECH = Path(
    os.environ.get(
        "S4M_MINI_SPEECH", REPOSITORY.parent / "shared/data/mini-speech"
    )
)
SAMPLE_RATE = 8000
NUM_TALKERS = {"train": 6, "valid": 4, "test": 4}
FORMATS = ("wav", "flac", "ogg")

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Every test starts from the same random state, whatever ran before."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def own_logging():
    """What a training lets the loggers write to ends with its test."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        if handler not in before:
            root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(scope="session")
def speech_folder(tmp_path_factory):
    """A corpus of generated speech: ``<split>/<talker>/<utterance>``.

    Fourteen talkers, none of them in two splits, each with one WAV, one FLAC
    and one Ogg file of 3 s at 8 kHz. Read-only for tests.
    """
    folder = tmp_path_factory.mktemp("speech")
    talker = 0
    for split, num_talkers in NUM_TALKERS.items():
        for _ in range(num_talkers):
            talker += 1
            place = folder / split / f"talker{talker:02d}"
            place.mkdir(parents=True)
            for utterance, suffix in enumerate(FORMATS):
                soundfile.write(
                    place / f"talker{talker:02d}_{utterance}.{suffix}",
                    speak(talker, utterance, 3.0, SAMPLE_RATE),
                    SAMPLE_RATE,
                )
    return folder


@pytest.fixture(scope="session")
def noise_folder(tmp_path_factory):
    """Generated noise: ``<split>/<recording>.wav``.

    Three recordings for training, two for validation and two for test, of
    0.3 to 2.1 s at 8 kHz, each of another colour. Read-only for tests.
    """
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    number = 0
    for split, count in {"train": 3, "valid": 2, "test": 2}.items():
        (folder / split).mkdir()
        for _ in range(count):
            number += 1
            white = rng.standard_normal(round(number * 0.3 * SAMPLE_RATE))
            coloured = np.convolve(white, rng.uniform(-1, 1, 20), mode="same")
            soundfile.write(
                folder / split / f"noise{number}.wav",
                0.5 * coloured / np.abs(coloured).max(),
                SAMPLE_RATE,
            )
    return folder


@pytest.fixture(scope="session")
def wham_folder(speech_folder, noise_folder, tmp_path_factory):
    """WHAM! in small, by ``s4m mix``. Read-only for tests."""
    return mix(speech_folder, noise_folder, tmp_path_factory.mktemp("wham"))


@pytest.fixture(scope="session")
def whamr_folder(speech_folder, noise_folder, tmp_path_factory):
    """WHAMR! in small, by ``s4m mix``. Read-only for tests."""
    folder = tmp_path_factory.mktemp("whamr")
    return mix(speech_folder, noise_folder, folder, "--reverb")


def mix(speech, noise, folder, *flags):
    """16 mixtures of half a second, and 3 each for validation and test."""
    words = [speech, folder, "--noise", noise, "--length", 0.5]
    words += ["--count", 16, 3, 3, "--jobs", 1, *flags]
    assert main(["mix", *map(str, words)]) == 0
    return folder


@pytest.fixture(scope="session")
def mini_speech():
    """The folder of the mini-speech pack; skips where it is not at hand."""
    if not (MINI_SPEECH / "manifest.csv").is_file():
        pytest.skip(f"no mini-speech in {MINI_SPEECH}; set S4M_MINI_SPEECH")
    return MINI_SPEECH
