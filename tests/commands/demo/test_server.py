"""The server of the page: who is answered, what it asks, what it leaves."""

import contextlib
import http.client
import socket
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
import soundfile
from demo_process import EXAMPLE, MAX_MEGABYTES, Server, post, upload

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


def files_of(server):
    """What lies where uploads and results do."""
    found = server.temporary.rglob("*")
    return {path for path in found if path.is_file()}


def wait_for(condition):
    """Waits until it is so; no longer than a busy machine may take."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


START = (
    b'--x\r\nContent-Disposition: form-data; name="files"; '
    b'filename="a.wav"\r\n\r\n'
)
SMALL_FILES = 20 * (START + bytes(MAX_MEGABYTES * 2**20 // 20) + b"\r\n")
FORM = "multipart/form-data; boundary=x"
MOST_UPLOADED = MAX_MEGABYTES * 2**20 + 2**16


def test_a_file_may_be_as_large_as_it_says(server, tmp_path):
    large = tmp_path / "large.wav"
    large.write_bytes(bytes(MAX_MEGABYTES * 2**20))
    assert upload(server, large)


@pytest.mark.parametrize(
    ("path", "kind", "start", "most"),
    [
        ("queue/join", "application/json", b'{"data": ["', 2**20),
        ("upload", FORM, START, MOST_UPLOADED),
        ("upload", FORM, SMALL_FILES, MOST_UPLOADED),
    ],
)
@pytest.mark.parametrize("is_told", [True, False])
def test_no_request_is_larger_than_that(
    server, path, kind, start, most, is_told
):
    before = files_of(server)
    address = server.url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=60)
    with contextlib.closing(connection):
        connection.putrequest("POST", f"/gradio_api/{path}")
        connection.putheader("Content-Type", kind)
        if is_told:
            connection.putheader("Content-Length", str(most + 1))
            connection.endheaders()
        else:
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
            body = start + bytes(most + 1 - len(start))
            connection.send(b"%x\r\n%s\r\n" % (len(body), body))
        assert connection.getresponse().status == 413
    assert files_of(server) == before


def test_nothing_stays_of_an_upload_that_is_cut_off(server):
    before = files_of(server)
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n"
            b"Content-Length: 1000000\r\n\r\n"
        )
        connection.sendall(START + bytes(100_000))
        wait_for(lambda: files_of(server) != before)
    wait_for(lambda: files_of(server) == before)


def test_pages_of_other_web_sites_are_refused(server):
    before = files_of(server)
    for origin in ("http://evil.example", "null", f"{server.url}0"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            upload(server, EXAMPLE, Origin=origin)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            post(server, "queue/join", b"{}", Origin=origin)
    assert files_of(server) == before
    assert upload(server, EXAMPLE, Origin=server.url)


def test_what_a_killed_server_left_and_what_is_old_is_removed(tmp_path):
    killed = Server(tmp_path)
    upload(killed, EXAMPLE)
    killed.process.kill()
    killed.process.wait()
    left = files_of(killed)
    assert left
    server = Server(tmp_path, keep_s=2)
    try:
        assert files_of(server) & left == set()
        upload(server, EXAMPLE)
        assert files_of(server)
        wait_for(lambda: not files_of(server))
    finally:
        server.end()
    assert list(server.temporary.iterdir()) == []


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
