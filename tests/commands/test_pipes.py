"""Recordings through pipes: real processes, and what files would give."""

import io
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest
import soundfile
from flac_from_pipe import write_flac_from_pipe
from speech_like import speak

from s4m_sb.commands.main import main

S4M = [sys.executable, "-m", "s4m_sb"]


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    path = tmp_path_factory.mktemp("in") / "mix.wav"
    signal = 0.4 * (speak(1, 0, 1.0, 16000) + speak(2, 0, 1.0, 16000))
    soundfile.write(path, signal, 16000)
    return path


@pytest.fixture(scope="module")
def voices(model, mixture, tmp_path_factory):
    """What the file gives, ``[T, 2]``."""
    output = tmp_path_factory.mktemp("out")
    words = ["separate", mixture, "--output", output, "--model", model]
    assert main([str(word) for word in words]) == 0
    return np.stack(
        [
            soundfile.read(output / f"mix_s{i}.wav", dtype="float32")[0]
            for i in (1, 2)
        ],
        axis=1,
    )


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Where the processes put what they spool; they leave nothing there."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    left = [path for path in folder.iterdir() if path.name.startswith("s4m")]
    assert left == []


def separate(*words, **options):
    options = {"capture_output": True} | options
    return subprocess.run([*S4M, "separate", *map(str, words)], **options)


def read(wav):
    return soundfile.read(io.BytesIO(wav), dtype="float32")


@pytest.fixture
def here(monkeypatch, capsysbinary):
    """Runs the command in this process, with bytes on its stdin."""

    def run(*words, given=b""):
        stdin = io.TextIOWrapper(io.BytesIO(given))
        monkeypatch.setattr(sys, "stdin", stdin)
        code = main(["separate", *map(str, words)])
        return code, *capsysbinary.readouterr()

    return run


def test_a_pipe_gives_what_a_file_gives(model, mixture, voices):
    # cat mix.wav | s4m separate - > voices.wav
    result = separate("-", "--model", model, input=mixture.read_bytes())
    assert (result.returncode, result.stderr) == (0, b"")
    found, sample_rate = read(result.stdout)
    assert sample_rate == 8000
    assert np.array_equal(found, voices)
    info = soundfile.info(io.BytesIO(result.stdout))
    assert (info.format, info.subtype, info.channels) == ("WAV", "FLOAT", 2)
    # the sizes in the header are those of the file
    num_bytes = len(result.stdout)
    assert int.from_bytes(result.stdout[4:8], "little") == num_bytes - 8
    data = result.stdout.index(b"data")
    size = int.from_bytes(result.stdout[data + 4 : data + 8], "little")
    assert size == voices.nbytes == num_bytes - data - 8


@pytest.mark.parametrize("suffix", ["flac", "caf"])
def test_other_formats_come_through(
    here, model, mixture, voices, tmp_path, suffix
):
    path = tmp_path / f"mix.{suffix}"
    soundfile.write(path, *soundfile.read(mixture), subtype="PCM_16")
    code, out, err = here("-", "--model", model, given=path.read_bytes())
    assert (code, err) == (0, b"")
    assert np.array_equal(read(out)[0], voices)


def test_what_an_encoder_wrote_into_a_pipe_comes_through(
    here, model, mixture, voices, tmp_path
):
    path = tmp_path / "mix.flac"
    write_flac_from_pipe(path, *soundfile.read(mixture))
    code, out, err = here("-", "--model", model, given=path.read_bytes())
    assert (code, err) == (0, b"")
    assert np.array_equal(read(out)[0], voices)


def test_one_voice_and_a_file_on_stdout(here, model, mixture, voices):
    words = ["--output", "-", "--voice", 2, "--model", model]
    code, out, err = here(mixture, *words)
    assert (code, err) == (0, b"")
    assert np.array_equal(read(out)[0], voices[:, 1])


def test_a_recording_in_pieces_goes_through_too(here, model, mixture, tmp_path):
    signal, sample_rate = soundfile.read(mixture)
    longer = tmp_path / "mix.wav"
    soundfile.write(longer, np.tile(signal, 3), sample_rate)
    words = ["--model", model, "--chunk", 1, "--overlap", 0.1]
    assert here(longer, "--output", tmp_path, *words)[0] == 0
    code, out, err = here("-", *words, given=longer.read_bytes())
    assert (code, err) == (0, b"")
    for i, voice in enumerate(read(out)[0].T):
        path = tmp_path / f"mix_s{i + 1}.wav"
        assert np.array_equal(soundfile.read(path, dtype="float32")[0], voice)


@pytest.mark.skipif(shutil.which("sox") is None, reason="sox is not installed")
def test_it_stands_between_two_programs(model, mixture, voices, tmp_path):
    output = tmp_path / "voices.wav"
    python, model = sys.executable, str(model)
    # A WAV file from a pipe has no sizes in its header.
    line = (
        f"sox {mixture} -t wav - | {python} -m s4m_sb separate - --model "
        f"{model} | sox -t wav - {output}"
    )
    result = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert result.returncode == 0
    assert "s4m" not in result.stderr and "missing" not in result.stderr
    found, _ = soundfile.read(output, dtype="float32")
    # sox computes in 32-bit integers, and clips the largest
    np.testing.assert_allclose(found, voices, atol=1e-6)


def test_stdin_goes_into_a_folder_too(here, model, mixture, voices, tmp_path):
    output = tmp_path / "out"
    words = ["-", mixture, "--output", output, "--model", model]
    code, out, err = here(*words, given=mixture.read_bytes())
    assert (code, err) == (0, b"")
    assert len(list(output.iterdir())) == 4
    for i in (1, 2):
        path = output / f"stdin_s{i}.wav"
        found = soundfile.read(path, dtype="float32")[0]
        # float32 sums over a batch of two
        np.testing.assert_allclose(found, voices[:, i - 1], atol=1e-5)
        assert f"{path}".encode() in out


def test_a_reader_that_goes_ends_it_quietly(model, mixture):
    process = subprocess.Popen(
        [*S4M, "separate", mixture, "--output", "-", "--model", model],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()  # ... | head -c 0
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


@pytest.mark.skipif(
    not os.path.exists("/dev/full"), reason="no device that is always full"
)
def test_a_full_disk_is_one_line(model, mixture):
    with open("/dev/full", "wb") as full:
        result = separate(
            *(mixture, "--output", "-", "--model", model),
            capture_output=False,
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert result.returncode == 2
    assert result.stderr == b"s4m: error: stdout: No space left on device\n"


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        (b"", [], "stdin is empty"),
        (b"no audio " * 99, [], "stdin: cannot be read as audio"),
        ("nan", [], "stdin: holds NaN"),
        (
            "mixture",
            ["--voice", "3"],
            "--voice 3: the model gives the voices 1 to 2",
        ),
        (
            "mixture",
            ["--voice", "0"],
            "--voice 0: the model gives the voices 1 to 2",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_no_audio(
    here, content, words, message, model, mixture
):
    given = content
    if content == "mixture":
        given = mixture.read_bytes()
    elif content == "nan":
        file = io.BytesIO()
        soundfile.write(file, np.full(99, np.nan), 8000, "FLOAT", format="WAV")
        given = file.getvalue()
    code, out, err = here("-", "--model", model, *words, given=given)
    assert (code, out) == (2, b"")
    (line,) = err.decode().splitlines()
    assert line.startswith(f"s4m: error: {message}")


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
@pytest.mark.parametrize("closed", [False, True])
def test_a_terminal_is_no_recording(stream, closed, mixture):
    """Neither is a stream that is closed."""
    terminal, end = pty.openpty()
    options = {stream: end}
    if stream == "stdout":
        options |= {"input": mixture.read_bytes()}
    else:
        options |= {"stdout": subprocess.PIPE}
    program = [*S4M, "separate", "-"]
    if closed:
        sign = {"stdin": "<&-", "stdout": ">&-"}[stream]
        program = ["sh", "-c", f'"$@" {sign}', "sh", *program]
    result = subprocess.run(program, stderr=subprocess.PIPE, **options)
    os.close(terminal)
    os.close(end)
    assert result.returncode == 2
    (line,) = result.stderr.decode().splitlines()
    what = "closed" if closed else "a terminal"
    assert line.startswith(f"s4m: error: {stream} is {what}; ")
    assert "cat mixture.wav | s4m separate - > voices.wav" in line


def with_closed(sign, *words):
    """Runs ``s4m`` as a shell does, with one of its streams closed."""
    program = [sys.executable, "-m", "s4m_sb", *map(str, words)]
    return subprocess.run(
        ["sh", "-c", f'"$@" {sign}', "sh", *program],
        capture_output=True,
    )


def test_a_closed_stderr_takes_nothing_away(model, mixture, voices, tmp_path):
    words = ["separate", mixture, "--model", model, "--output"]
    result = with_closed("2>&-", *words, "-")
    assert result.returncode == 0
    assert np.array_equal(read(result.stdout)[0], voices)
    assert with_closed("2>&-", *words, tmp_path / "out").returncode == 0
    assert len(list((tmp_path / "out").glob("*.wav"))) == 2
    words = ["separate", tmp_path / "gone.wav", "--output", tmp_path / "none"]
    for wrong in (words, ["separate"], ["export", tmp_path, tmp_path]):
        result = with_closed("2>&-", *wrong)
        assert (result.returncode, result.stdout) == (2, b"")


@pytest.mark.parametrize("words", [["models"], ["completion", "bash"]])
def test_what_only_prints_needs_somewhere_to_print(words):
    result = with_closed(">&-", *words)
    assert result.returncode == 2
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("s4m: error: stdout is closed; ")


@pytest.mark.parametrize("options", [[], ["--json"], ["--json", "--quiet"]])
def test_a_report_needs_somewhere_to_go(model, mixture, tmp_path, options):
    output = tmp_path / "out"
    words = ["separate", mixture, "--output", output, "--model", model]
    result = with_closed(">&-", *words, *options)
    assert result.returncode == 2
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("s4m: error: stdout is closed; ")
    assert not output.exists()


def test_without_a_report_a_closed_stdout_takes_nothing_away(
    model, mixture, tmp_path
):
    output = tmp_path / "out"
    words = ["separate", mixture, "--output", output, "--model", model]
    result = with_closed(">&-", *words, "--quiet")
    assert (result.returncode, result.stderr) == (0, b"")
    assert len(list(output.glob("*.wav"))) == 2


def test_several_processes_do_not_share_a_pipe(mixture, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["separate", str(mixture), "--output", "-"]) == 2
    assert "several processes cannot share -" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_spooled_is_removed(number, mixture, temporary):
    process = subprocess.Popen(
        [*S4M, "separate", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # a shell lets what runs in the background ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    process.stdin.write(mixture.read_bytes())
    process.stdin.flush()  # more may come
    while not list(temporary.glob("s4m.*/stdin")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    said = process.stderr.read().decode()
    process.stdin.close()
    process.stderr.close()
    if number == signal.SIGINT:
        assert (process.wait(), said) == (130, "s4m: interrupted\n")
    else:
        assert (process.wait(), said) == (143, "")
