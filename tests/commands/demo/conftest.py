"""A server of the demo page for the tests of each file."""

import pytest
from demo_process import MAX_MEGABYTES, MAX_SECONDS, Server
from small_model import write_model


@pytest.fixture(scope="module")
def three_voices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "three-voices"
    return write_model(folder, num_spks=3)


@pytest.fixture(scope="module")
def server(tmp_path_factory, three_voices):
    server = Server(
        tmp_path_factory.mktemp("server"),
        *("--model", three_voices),
        *("--max-seconds", str(MAX_SECONDS)),
        *("--max-megabytes", str(MAX_MEGABYTES)),
    )
    yield server
    server.process.kill()
    server.process.wait()
