"""``s4m separate``: what becomes of each file, and what is said of it."""

import contextlib
import errno
import functools
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pytest
import soundfile
import torch
import torch.distributed
from command_line import run, run_or_exit
from small_model import write_model
from speech_like import speak

from s4m_sb.audio.files import audio_info, read_audio
from s4m_sb.commands import separate
from s4m_sb.errors import InputError
from s4m_sb.inference import spectrogram
from s4m_sb.inference.file_separator import FileSeparator
from s4m_sb.inference.interface import S4MSeparation
from s4m_sb.inference.levels import normalize_voices
from s4m_sb.inference.pieces import Pieces
from s4m_sb.inference.recordings import find_recordings
from s4m_sb.pretrained.shipped import shipped_names
from s4m_sb.system.ranks import Rank, deal


def repeat(path):
    """Makes a recording three times as long."""
    signal, sample_rate = soundfile.read(path)
    soundfile.write(path, np.tile(signal, 3), sample_rate)


def test_separate_writes_one_file_a_voice(model, mixture, tmp_path, capsys):
    output = tmp_path / "deep" / "out"
    assert run("separate", mixture, "--output", output, "--model", model) == 0
    assert sorted(path.name for path in output.iterdir()) == [
        "mix_s1.wav",
        "mix_s2.wav",
    ]
    expected = S4MSeparation.from_hparams(model).separate_file(mixture)
    for i in range(2):
        voice, sample_rate = read_audio(output / f"mix_s{i + 1}.wav")
        assert sample_rate == 8000
        assert torch.equal(voice, expected[0, :, i])
    captured = capsys.readouterr()
    (line,) = captured.out.splitlines()
    for name in ("mix.flac", "mix_s1.wav", "mix_s2.wav"):
        assert name in line
    assert captured.err == ""


@pytest.mark.parametrize("normalize", ["mixture", "none"])
def test_separate_normalizes_as_asked(model, mixture, tmp_path, normalize):
    arguments = ["--model", model, "--normalize", normalize]
    assert run("separate", mixture, "--output", tmp_path, *arguments) == 0
    interface = S4MSeparation.from_hparams(model)
    mix, _ = read_audio(mixture, 8000)
    expected = normalize_voices(
        interface.separate_batch(mix), mix[None], normalize
    )
    voice, _ = read_audio(tmp_path / "mix_s2.wav")
    assert torch.equal(voice, expected[0, :, 1])


def test_separate_in_half_precision(model, mixture, tmp_path):
    arguments = ["--model", model, "--precision", "bf16"]
    assert run("separate", mixture, "--output", tmp_path, *arguments) == 0
    half = S4MSeparation.from_hparams(model, run_opts={"precision": "bf16"})
    expected = half.separate_file(mixture)
    voice, _ = read_audio(tmp_path / "mix_s1.wav")
    assert torch.equal(voice, expected[0, :, 0])


def test_plot_draws_a_picture(model, mixture, tmp_path):
    arguments = ["--output", tmp_path / "out", "--model", model, "--plot"]
    assert run("separate", mixture, *arguments) == 0
    assert len(list((tmp_path / "out").iterdir())) == 3
    picture = matplotlib.image.imread(tmp_path / "out" / "mix.png")
    assert picture.std() > 0.1


def test_plot_without_matplotlib_fails_before_the_work(
    model, mixture, tmp_path, monkeypatch, capsys
):
    def missing():
        raise InputError("pip install s4m_sb[demo]")

    monkeypatch.setattr(spectrogram, "check_matplotlib", missing)
    output = tmp_path / "out"
    arguments = ["--output", output, "--model", model, "--plot"]
    assert run("separate", mixture, *arguments) == 2
    assert not output.exists()
    assert "s4m_sb[demo]" in capsys.readouterr().err


def test_bad_files_do_not_stop_the_others(model, mixture, tmp_path, capsys):
    silence = tmp_path / "silence.wav"
    soundfile.write(silence, np.zeros(800), 8000)
    text = tmp_path / "text.wav"
    text.write_text("no audio " * 99)
    missing = tmp_path / "missing.wav"
    output = tmp_path / "out"
    files = [missing, mixture, text, silence]
    assert run("separate", *files, "--output", output, "--model", model) == 2
    assert sorted(path.name for path in output.iterdir()) == [
        "mix_s1.wav",
        "mix_s2.wav",
        "silence_s1.wav",
        "silence_s2.wav",
    ]
    captured = capsys.readouterr()
    errors = [
        line
        for line in captured.err.replace("\r", "\n").splitlines()
        if line.startswith("s4m: error:")
    ]
    assert len(errors) == 3
    assert f"{missing}: no such file" in errors[0]
    assert f"{text}: cannot be read as audio" in errors[1]
    assert "2 of 4 files not separated" in errors[2]
    assert len(captured.out.splitlines()) == 2
    voice, _ = read_audio(output / "silence_s1.wav")
    assert (voice == 0).all()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a/x.wav", "b/x.flac"], "a/x.wav and b/x.flac would both write"),
        (["a/x.wav", "a/x.mp3"], "they differ in the suffix alone"),
        (["out/x.wav", "out/x_s1.wav"], "out/x_s1.wav would be replaced"),
    ],
)
def test_no_file_replaces_another(
    files, message, model, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.zeros(800), 8000)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert run("separate", *files, "--output", "out", "--model", model) == 2
    assert message in capsys.readouterr().err
    after = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert after == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "/no/such"], "/no/such: is neither"),
        (["--device", "abacus"], "--device abacus: "),
        (["--chunk", "-1"], "--chunk -1: give seconds"),
        (["--chunk", "nan"], "--chunk nan: give seconds"),
        (["--chunk", "0.001"], "--chunk 0.001: give at least 1 s"),
        (["--chunk", "soon"], "argument --chunk: invalid float value: 'soon'"),
        (["--overlap", "40"], "pieces of 30 s that share 40 s"),
        (["--batch-size", "0"], "--batch-size 0: give at least 1"),
        (["--normalize", "loud"], "argument --normalize: invalid choice"),
        (["--outptu", "out"], "unrecognized arguments: --outptu"),
        (["--device", "meta"], "--device meta: "),
        (["--voice", "1"], "--voice is for voices on stdout"),
        (["--output", "-", "--json"], "--json does not go with voices on"),
        (["--output", "-", "--plot"], "--plot does not go with voices on"),
    ],
)
def test_a_wrong_option_is_one_line(
    arguments, message, mixture, tmp_path, capsys
):
    words = ["separate", mixture, "--output", tmp_path, *arguments]
    assert run_or_exit(*words) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith(f"s4m: error: {message}")
    assert captured.out == ""


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", "a.wav: no such file"),
        ("empty", "a.wav: is empty"),
        ("none", "a.wav: has no samples"),
        ("nan", "a.wav: holds NaN"),
        ("phase", "a.wav: its channels cancel one another"),
        ("text", "a.wav: cannot be read as audio (format not recognised)"),
        ("head", "a.wav: cannot be read as audio"),
        ("list", "gone.wav: no such file"),
        ("folder", "folder: holds no audio files"),
    ],
)
def test_a_wrong_file_is_one_line(damage, message, model, tmp_path, capsys):
    path = tmp_path / "a.wav"
    if damage == "empty":
        path.touch()
    elif damage in ("none", "nan"):
        signal = np.full(800 * (damage == "nan"), np.nan)
        soundfile.write(path, signal, 8000, "FLOAT")
    elif damage == "phase":
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, 8000)
        soundfile.write(path, np.stack([noise, -noise], 1), 8000)
    elif damage == "text":
        path.write_text("hello " * 99)
    elif damage == "head":
        soundfile.write(path, np.zeros(800), 8000)
        path.write_bytes(path.read_bytes()[:30])
    elif damage == "list":
        path = tmp_path / "list.txt"
        path.write_text("gone.wav\n")
    elif damage == "folder":
        path = tmp_path / "folder"
        path.mkdir()
    output = tmp_path / "out"
    assert run("separate", path, "--output", output, "--model", model) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("s4m: error: ") and message in line
    assert captured.out == ""
    assert not output.exists()


@pytest.mark.parametrize("place", ["a.wav", "a.wav/deep", "/proc/out"])
def test_an_output_that_cannot_be_is_one_line(
    place, model, mixture, tmp_path, capsys
):
    (tmp_path / "a.wav").touch()
    output = tmp_path / place
    assert run("separate", mixture, "--output", output, "--model", model) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"s4m: error: {output}: ")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("empty", "hyperparams.yaml: no such file; is this a model folder?"),
        ("yaml", "hyperparams.yaml: "),
        ("half", "masknet"),
    ],
)
def test_a_wrong_model_is_one_line(damage, message, mixture, tmp_path, capsys):
    folder = tmp_path / "model"
    if damage == "half":
        write_model(folder)
        (file,) = folder.glob("masknet.*")
        file.unlink()
    else:
        folder.mkdir()
    if damage == "yaml":
        (folder / "hyperparams.yaml").write_text("a: [")
    arguments = ["--output", tmp_path / "out", "--model", folder]
    assert run("separate", mixture, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"s4m: error: {folder}") and message in line


def test_what_is_done_is_skipped_until_it_is_asked_for(
    model, mixture, tmp_path, capsys
):
    output = tmp_path / "out"
    arguments = ["separate", mixture, "--output", output, "--model", model]
    assert run(*arguments) == 0
    capsys.readouterr()
    first = (output / "mix_s1.wav").stat().st_mtime_ns
    assert run(*arguments) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "1 of 1 files were separated before; --overwrite" in line
    assert (output / "mix_s1.wav").stat().st_mtime_ns == first
    assert run(*arguments, "--overwrite") == 0
    assert (output / "mix_s1.wav").stat().st_mtime_ns > first


def test_pieces_are_those_of_the_interface(model, mixture, tmp_path):
    output = tmp_path / "out"
    repeat(mixture)
    pieces = ["--chunk", "1", "--overlap", "0.1", "--batch-size", "1"]
    arguments = ["--output", output, "--model", model, *pieces]
    assert run("separate", mixture, *arguments) == 0
    expected = S4MSeparation.from_hparams(model).separate_file(
        mixture, pieces=Pieces(1, 0.1, batch_size=1)
    )
    for i in range(2):
        voice, _ = read_audio(output / f"mix_s{i + 1}.wav")
        assert torch.equal(voice, expected[0, :, i])


@pytest.fixture
def folder(tmp_path):
    """Forty short recordings, one of which is none."""
    for number in range(40):
        path = tmp_path / "in" / f"{number % 4}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, speak(number, 0, 0.5, 8000), 8000)
    (tmp_path / "in" / "1" / "bad.wav").write_text("no audio " * 99)
    return tmp_path / "in"


def voices_below(folder):
    return sorted(folder.rglob("[!.]*.wav"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_goes_on(model, folder, tmp_path, capsys, number):
    output = tmp_path / "out"
    arguments = ["separate", folder, "--output", output, "--model", model]
    arguments += ["--batch-size", "1"]
    program = [sys.executable, "-m", "s4m_sb", *map(str, arguments)]
    with subprocess.Popen(
        program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while len(voices_below(output)) < 6:
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(number)
    assert process.returncode == (-9 if number == signal.SIGKILL else 143)
    before = {path: path.stat().st_mtime_ns for path in voices_below(output)}
    assert 6 <= len(before) < 80
    for path in before:
        assert audio_info(path).num_frames == 4000
    if number == signal.SIGTERM:
        assert len(list(output.rglob("*.wav"))) == len(before)

    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert "of 41 files were separated before" in captured.out
    assert "bad.wav: cannot be read as audio" in captured.err
    assert "1 of 41 files not separated" in captured.err
    after = {path: path.stat().st_mtime_ns for path in voices_below(output)}
    assert len(after) == 80
    for recording in range(40):
        place = output / str(recording % 4)
        voices = [place / f"{recording}_s{i}.wav" for i in (1, 2)]
        if all(voice in before for voice in voices):
            assert all(after[voice] == before[voice] for voice in voices)
    assert len(list(output.rglob("*.wav"))) == 80  # no halves of files left


def test_several_processes_share_the_work(model, folder, tmp_path):
    names = sorted(folder.rglob("*.wav"))
    (tmp_path / "list.txt").write_text(
        "\n".join(str(name.relative_to(tmp_path)) for name in names)
    )
    output = tmp_path / "out"
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    program += ["--nproc_per_node=2", "-m", "s4m_sb", "separate"]
    program += [tmp_path / "list.txt", "--output", output, "--model", model]
    program += ["--json"]
    result = subprocess.run(program, capture_output=True, text=True)
    # Both ranks finish, though one of them has a file that fails.
    assert len(voices_below(output)) == 80
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert sorted(line["path"] for line in lines) == sorted(map(str, names))
    status = Counter(line["status"] for line in lines)
    assert status == {"separated": 40, "failed": 1}
    assert result.returncode != 0
    errors = [
        line for line in result.stderr.splitlines() if "s4m: error:" in line
    ]
    assert len(errors) == 2
    assert "bad.wav: cannot be read as audio" in errors[0]
    assert "1 of 41 files not separated" in errors[1]


JSON_KEYS = [
    *("path", "status", "voices", "picture", "sample_rate"),
    *("duration_s", "elapsed_s", "truncated", "error"),
]


def test_json_says_what_became_of_each_file(model, mixture, tmp_path, capsys):
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio " * 99)
    output = tmp_path / "out"
    words = ["--output", output, "--model", model, "--plot", "--json"]
    assert run("separate", mixture, *words) == 0
    captured = capsys.readouterr()
    (line,) = captured.out.splitlines()
    done = json.loads(line)
    assert captured.err == ""
    assert list(done) == JSON_KEYS
    assert done.pop("elapsed_s") > 0
    assert done == {
        "path": str(mixture),
        "status": "separated",
        "voices": [str(output / "mix_s1.wav"), str(output / "mix_s2.wav")],
        "picture": str(output / "mix.png"),
        "sample_rate": 8000,
        "duration_s": 1.0,
        "truncated": False,
        "error": None,
    }
    assert run("separate", mixture, bad, *words) == 2
    captured = capsys.readouterr()
    skipped, failed = map(json.loads, captured.out.splitlines())
    assert list(skipped) == list(failed) == JSON_KEYS
    assert skipped == done | {"status": "skipped", "elapsed_s": None}
    assert (failed["path"], failed["status"]) == (str(bad), "failed")
    assert failed["voices"] == []
    assert failed["error"].startswith(f"{bad}: cannot be read as audio")
    assert "1 of 2 files were separated before" in captured.err
    assert "1 of 2 files not separated" in captured.err


@pytest.mark.parametrize("suffix", ["wav", "ogg", "mp3", "flac"])
def test_a_recording_that_was_cut_off_is_said_to_be(
    suffix, model, tmp_path, capsys
):
    path = tmp_path / f"call.{suffix}"
    soundfile.write(path, speak(0, 0, 12.0, 8000), 8000)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    output = tmp_path / "out"
    words = [path, "--output", output, "--model", model, "--json"]
    for status, before in [("separated", ""), ("skipped", " before")]:
        assert run("separate", *words) == 0
        captured = capsys.readouterr()
        said = json.loads(captured.out)
        seconds = said["duration_s"]
        assert (said["status"], said["truncated"]) == (status, True)
        assert 2 < seconds < 10
        assert captured.err.splitlines()[0] == (
            f"s4m: warning: {path}: was cut off; its first {seconds:.3f} s "
            f"were separated{before}"
        )
        assert captured.err.count("cut off") == 1
    # The rest of it comes, as by rsync, with the time that it always had.
    path.write_bytes(content)
    os.utime(path, (0, 0))
    assert run("separate", *words) == 0
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert (said["status"], said["truncated"]) == ("separated", False)
    # An MP3 file has what its last frame was filled with, too.
    assert 12.0 <= said["duration_s"] < 12.2
    assert captured.err == ""


def test_quiet_does_not_hide_that_a_recording_was_cut_off(
    model, mixture, tmp_path, capsysbinary
):
    mixture.write_bytes(mixture.read_bytes()[:-2000])
    output = ["--output", tmp_path / "out", "--quiet"]
    for words in (output, ["--output", "-"]):
        assert run("separate", mixture, *words, "--model", model) == 0
        (line,) = capsysbinary.readouterr().err.splitlines()
        assert line.startswith(b"s4m: warning: ") and b"was cut off" in line


def test_the_keys_of_json_are_explained(capsys):
    with pytest.raises(SystemExit):
        run("separate", "--help")
    described = capsys.readouterr().out
    for key in JSON_KEYS:
        assert re.search(rf"(?m)^  {key} ", described), key


def test_quiet_says_nothing_but_errors(model, mixture, tmp_path, capsys):
    words = ["--output", tmp_path / "out", "--model", model, "--quiet"]
    assert run("separate", mixture, *words) == 0
    assert run("separate", mixture, *words) == 0
    assert capsys.readouterr() == ("", "")
    assert run("separate", mixture, tmp_path / "gone.wav", *words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 2


def on_a_terminal(*words):
    """What the command writes to a terminal that its stderr is."""
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 120))
    program = [sys.executable, "-m", "s4m_sb", *map(str, words)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=end) as job:
        os.close(end)
        said = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while part := os.read(terminal, 1000):
                said += part
    os.close(terminal)
    assert job.returncode == 0
    return said.decode()


def test_a_terminal_sees_how_far_it_is_and_with_which_file(
    model, mixture, tmp_path
):
    soundfile.write(tmp_path / "other.wav", np.zeros(800), 8000)
    repeat(mixture)
    words = ["--model", model, "--chunk", "1", "--overlap", "0.1"]
    words += ["--output", tmp_path / "out"]
    said = on_a_terminal("separate", mixture, tmp_path / "other.wav", *words)
    assert "mix.flac: " in said and " of 3 s" in said  # the long one
    assert "2/2" in said and "other.wav" in said  # all of them
    words += ["--overwrite", "--quiet"]
    assert on_a_terminal("separate", mixture, *words) == ""


def test_names_that_are_no_text_are_written_as_they_are(model, tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    soundfile.write(path, np.zeros(800), 8000)
    program = [sys.executable, "-m", "s4m_sb", "separate", path]
    program += ["--output", tmp_path / "out", "--model", model]
    result = subprocess.run(program, capture_output=True)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.startswith(path + b" -> ")


def test_an_output_that_is_a_file_is_refused(model, mixture, capsys):
    assert run("separate", mixture, "--output", mixture) == 2
    assert "is a file" in capsys.readouterr().err


def test_a_model_that_does_not_ship_is_answered_by_those_that_do(
    mixture, tmp_path, capsys
):
    arguments = ["--output", tmp_path / "out", "--model", "s4m-9k"]
    assert run("separate", mixture, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for name in shipped_names():
        assert name in line


# What one of several processes or files does to the others


@pytest.fixture
def three(tmp_path):
    """Three recordings, of which the middle one is full scale."""
    (tmp_path / "in").mkdir()
    for number, peak in enumerate((0.5, 1.0, 0.25)):
        noise = np.random.default_rng(number).uniform(-1, 1, 4000)
        noise *= 0.99 * peak / np.abs(noise).max()
        soundfile.write(tmp_path / "in" / f"{number}.wav", noise, 8000)
    return tmp_path / "in"


def fail_with(error, monkeypatch):
    """The network fails with what is full scale."""
    separate_batch = S4MSeparation.separate_batch

    def separate_or_fail(model, mix, *arguments):
        if mix.abs().max() > 0.9:
            raise error
        return separate_batch(model, mix, *arguments)

    monkeypatch.setattr(S4MSeparation, "separate_batch", separate_or_fail)


@pytest.mark.parametrize("fault", [RuntimeError, ValueError])
def test_a_fault_with_one_file_comes_after_all_others(
    model, three, tmp_path, monkeypatch, capsys, fault
):
    fail_with(fault("cuDNN error: EXECUTION_FAILED"), monkeypatch)
    (three / "bad.wav").write_text("no audio " * 99)
    output = tmp_path / "out"
    words = ["separate", three, "--output", output, "--model", model]
    with pytest.raises(fault, match="cuDNN error"):
        run(*words)
    assert len(list(output.iterdir())) == 4
    error = capsys.readouterr().err
    assert "bad.wav: cannot be read as audio" in error
    assert f"1.wav: {fault.__name__}: cuDNN error: EXECUTION" in error


@pytest.mark.parametrize(
    ("fault", "code"),
    [(OSError(errno.ENOSPC, "No space left"), 2), (KeyboardInterrupt(), 130)],
)
def test_what_ends_the_run_does_not_hide_what_failed_before(
    model, three, tmp_path, monkeypatch, capsys, fault, code
):
    fail_with(fault, monkeypatch)
    (three / "bad.wav").write_text("no audio " * 99)
    output = tmp_path / "out"
    words = ["separate", three, "--output", output, "--model", model]
    assert run(*words) == code
    assert "bad.wav: cannot be read as audio" in capsys.readouterr().err


def plans_of_two(separator, found, overwrite=False):
    """What two processes plan that find recordings, each its own."""
    store = torch.distributed.HashStore()

    def plan(number):
        arguments = SimpleNamespace(overwrite=overwrite)
        rank = Rank(number, 2, store=store)
        known = [r for r in found[number] if rank.owns(str(r.path))]
        return separate._plan(arguments, rank, separator, known)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(plan, (0, 1)))


def write_zeros(path, num_frames):
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, np.zeros(num_frames), 8000)


@pytest.mark.parametrize("overwrite", [False, True])
def test_processes_share_what_is_left(model, tmp_path, overwrite):
    for number in range(8):
        write_zeros(tmp_path / "in" / f"{number}.wav", 800 - number)
    found = find_recordings([tmp_path / "in"], tmp_path / "out")
    separator = FileSeparator(S4MSeparation.from_hparams(model))
    # What the first of two processes had to do.
    before, _ = deal(found, range(8), 2)
    assert len(list(separator.separate(before))) == 4
    plans = plans_of_two(separator, [found, found], overwrite)
    left = [r for r in found if overwrite or r not in before]
    todo = [todo for _, todo in plans]
    assert sorted(map(str, sum(todo, []))) == sorted(map(str, left))
    assert len(todo[0]) == len(todo[1]) == len(left) / 2
    # The first speaks of all.
    done = [len(done) for done, _ in plans]
    assert done == ([0, 0] if overwrite else [4, 0])


def test_what_another_process_would_find_does_not_matter(model, tmp_path):
    """A recording has come, and one has gone, since the first has looked."""
    for name in "abcde":
        write_zeros(tmp_path / "in" / f"{name}.wav", 800)
    found = find_recordings([tmp_path / "in"], tmp_path / "out")
    write_zeros(tmp_path / "in" / "0.wav", 800)
    (tmp_path / "in" / "d.wav").unlink()
    later = find_recordings([tmp_path / "in"], tmp_path / "out")
    separator = FileSeparator(S4MSeparation.from_hparams(model))
    assert len(list(separator.separate(found[:1]))) == 1
    plans = plans_of_two(separator, [found, later])
    todo = sum([todo for _, todo in plans], [])
    assert sorted(todo, key=str) == found[1:]


def test_work_is_even_by_its_length_in_any_format(model, tmp_path):
    """By bytes each MP3 file stands behind one of the WAV files."""
    lengths = {"a.wav": 5000, "b.mp3": 60000, "c.wav": 3500, "d.mp3": 50000}
    for name, num_frames in lengths.items():
        write_zeros(tmp_path / "in" / name, num_frames)
    found = find_recordings([tmp_path / "in"], tmp_path / "out")
    sizes = [recording.path.stat().st_size for recording in found]
    assert sizes == sorted(sizes, reverse=True)
    separator = FileSeparator(S4MSeparation.from_hparams(model))
    plans = plans_of_two(separator, [found, []])
    names = [[recording.path.name for recording in todo] for _, todo in plans]
    assert names == [["a.wav", "b.mp3"], ["c.wav", "d.mp3"]]


def test_processes_do_each_recording_once(model, three, tmp_path):
    """And one alone reads the list, which comes through a pipe."""
    names = [f"in/{number}.wav" for number in range(3)]
    os.mkfifo(tmp_path / "list.txt")
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    program += ["--nproc_per_node=2", "-m", "s4m_sb", "separate", "--json"]
    program += [tmp_path / "list.txt", "--model", model]
    program += ["--output", tmp_path / "out"]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        content = "\n".join(names)
        write = functools.partial((tmp_path / "list.txt").write_text, content)
        threading.Thread(target=write, daemon=True).start()
        said, complaints = process.communicate()
    assert process.returncode == 0, complaints
    lines = [json.loads(line) for line in said.splitlines()]
    assert sorted((line["path"], line["status"]) for line in lines) == [
        (str(tmp_path / name), "separated") for name in names
    ]
    assert len(list((tmp_path / "out").rglob("*_s[12].wav"))) == 6
