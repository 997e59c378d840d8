"""``s4m separate``: what becomes of each file, and what is said of it."""

import errno
import functools
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch.distributed
from small_model import write_model

from s4m_sb.commands import separate
from s4m_sb.commands.main import main
from s4m_sb.inference.file_separator import FileSeparator
from s4m_sb.inference.interface import S4MSeparation
from s4m_sb.inference.recordings import find_recordings
from s4m_sb.system.ranks import Rank, deal


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def folder(tmp_path):
    """Three recordings, of which the middle one is full scale."""
    (tmp_path / "in").mkdir()
    for number, peak in enumerate((0.5, 1.0, 0.25)):
        noise = np.random.default_rng(number).uniform(-1, 1, 4000)
        noise *= 0.99 * peak / np.abs(noise).max()
        soundfile.write(tmp_path / "in" / f"{number}.wav", noise, 8000)
    return tmp_path / "in"


def run(*arguments):
    return main([str(argument) for argument in arguments])


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
    model, folder, tmp_path, monkeypatch, capsys, fault
):
    fail_with(fault("cuDNN error: EXECUTION_FAILED"), monkeypatch)
    (folder / "bad.wav").write_text("no audio " * 99)
    output = tmp_path / "out"
    words = ["separate", folder, "--output", output, "--model", model]
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
    model, folder, tmp_path, monkeypatch, capsys, fault, code
):
    fail_with(fault, monkeypatch)
    (folder / "bad.wav").write_text("no audio " * 99)
    output = tmp_path / "out"
    words = ["separate", folder, "--output", output, "--model", model]
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


def test_processes_do_each_recording_once(model, folder, tmp_path):
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
