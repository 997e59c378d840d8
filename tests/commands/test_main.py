"""The command line: its words, its help, and how it fails."""

import subprocess
import sys

import pytest
from command_line import run, run_or_exit

import s4m_sb
from s4m_sb.commands import separate
from s4m_sb.commands.main import COMMANDS
from s4m_sb.errors import InputError


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: COMMAND; see s4m --help"),
        (["divorce"], "invalid choice: 'divorce'"),
        (["separate"], "arguments are required: FILE; see s4m separate --help"),
        (["separate", "a.wav"], "--output DIR is missing"),
        (["separate", "-", "a.wav"], "--output DIR is missing"),
        (["separate", "-", "a.wav", "--output", "-"], "stdout takes one"),
        (["completion", "sh"], "invalid choice: 'sh'"),
    ],
)
def test_a_wrong_command_is_one_line(words, message, capsys):
    assert run_or_exit(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("s4m: error: ")
    assert message in line


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("of two\nlines"), 2, "s4m: error: of two lines"),
        (PermissionError(13, "Permission denied", "out"), 2, "out: Permission"),
        (KeyboardInterrupt(), 130, "s4m: interrupted"),
    ],
)
def test_errors_become_one_line_and_a_code(
    error, code, message, monkeypatch, capsys
):
    def fail(arguments):
        raise error

    monkeypatch.setattr(separate, "run", fail)
    assert run("separate", "a.wav", "--output", "out") == code
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        run(command, "--help")
    assert caught.value.code == 0
    assert f"usage: s4m {command} " in capsys.readouterr().out


def test_the_module_is_the_command():
    program = [sys.executable, "-m", "s4m_sb"]
    result = subprocess.run(
        [*program, "--version"], capture_output=True, text=True
    )
    assert result.stdout == f"s4m_sb {s4m_sb.__version__}\n"
    result = subprocess.run(program, capture_output=True, text=True)
    assert result.returncode == 2
    assert "COMMAND" in result.stderr
