"""The server of the page: who is answered, what it asks, what it leaves."""

import contextlib
import http.client
import socket
import urllib.error
import urllib.request

import numpy as np
import pytest
import soundfile
from demo_process import MAX_MEGABYTES, upload

from s4m_sb.commands.demo.server import listen
from s4m_sb.errors import InputError

pytest.importorskip("gradio", reason="Gradio is not installed")


def answer_to(server, host, path="/"):
    """The status that a request to a host of that name gets."""
    address = server.url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Host": host})
        return connection.getresponse().status


def test_only_names_of_this_machine_are_answered(server):
    port = server.url.rpartition(":")[2]
    for host in ("localhost", "127.0.0.1", "[::1]"):
        assert answer_to(server, f"{host}:{port}") == 200
        assert answer_to(server, host) == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.a.org"):
        assert answer_to(server, host) == 400
        assert answer_to(server, host, "/gradio_api/info") == 400


def test_it_hands_on_nothing_from_elsewhere(server):
    # Whether these are asked, `test_the_server_asks_nobody` sees.
    for address in ("https://93.184.215.14/", "HTTP://93.184.215.14/a%20b"):
        for way in ("file=", "file/", "proxy="):
            path = f"/gradio_api/{way}{address}"
            assert answer_to(server, "localhost", path) == 404
    for path in ("/openapi.json", "/docs", "/redoc"):
        assert answer_to(server, "localhost", path) == 404


def test_it_listens_on_loopback_only(server):
    port = int(server.url.rpartition(":")[2])
    socket.create_connection(("127.0.0.1", port)).close()
    # All of 127.0.0.0/8 is this machine; a server of all addresses is here.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port))


def test_a_large_file_is_not_received(server, tmp_path):
    large = tmp_path / "large.wav"
    soundfile.write(large, np.zeros(MAX_MEGABYTES * 2**19 + 1), 8000)
    with pytest.raises(urllib.error.HTTPError, match="413"):
        upload(server, large)


@pytest.mark.parametrize("port", [-1, 2**16])
def test_a_port_that_cannot_be_is_refused(port):
    with pytest.raises(InputError, match=f"port is {port}"):
        listen("127.0.0.1", port)


def test_the_browser_is_told_to_ask_nobody_else(server):
    with urllib.request.urlopen(server.url) as answer:
        policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self' ")
    assert "http" not in policy and "*" not in policy


def test_the_server_asks_nobody(server):
    assert server.asked() == []


def test_nothing_is_left_when_it_ends(server):
    assert list(server.temporary.iterdir()) != []
    assert server.end() == 143  # 128 + SIGTERM
    assert list(server.temporary.iterdir()) == []
