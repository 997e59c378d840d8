"""Lets the kit's tests and examples run here as they would in SpeechBrain."""

from pathlib import Path

import pytest

import speechbrain.lobes.models

speechbrain.lobes.models.__path__.append(str(Path(__file__).parent))


@pytest.fixture
def device():
    """The device of SpeechBrain's unit tests, "cpu" by default there."""
    return "cpu"
