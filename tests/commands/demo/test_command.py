"""``s4m demo``: what it refuses, and of what it warns."""

import sys

import pytest

from s4m_sb.commands.demo import server
from s4m_sb.commands.main import main

pytest.importorskip("gradio", reason="Gradio is not installed")


def test_other_hosts_are_warned_of(monkeypatch, capsys):
    monkeypatch.setattr(server, "serve", lambda *arguments: None)
    assert main(["demo", "--host", "0.0.0.0", "--port", "0"]) == 0
    said = capsys.readouterr().err
    assert "s4m: warning: whoever reaches" in said and "TMPDIR" in said
    assert main(["demo", "--port", "0"]) == 0
    # not empty: loggers that other tests set up write there as well
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-seconds", "0"], "--max-seconds is 0"),
        (["--max-megabytes", "nan"], "--max-megabytes is nan"),
        (["--port", "70000"], "port is 70000"),
        (["--host", "no such host"], "cannot listen on port 0 of no such host"),
        (["--device", "abacus"], "--device abacus: "),
        (["--model", "/no/such"], "/no/such: is neither"),
        (["--model", ""], "'': is neither"),
    ],
)
def test_a_wrong_option_is_one_line(arguments, message, capsys):
    assert main(["demo", "--port", "0", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"s4m: error: {message}")


def test_a_port_that_is_taken_is_one_line(capsys):
    with server.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert main(["demo", "--port", str(port)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "in use" in line and "--port" in line


def test_without_gradio_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo", "--port", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 's4m_sb[demo]'" in line
