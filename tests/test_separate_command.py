"""``s4m separate``: what becomes of each file, and what is said of it."""

import errno
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch.distributed
from small_model import write_model

from s4m_sb.cli import main
from s4m_sb.commands import separate
from s4m_sb.inference import S4MSeparation
from s4m_sb.many_files import FileSeparator
from s4m_sb.ranks import Rank
from s4m_sb.recordings import find_recordings


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


@pytest.mark.parametrize("overwrite", [False, True])
def test_processes_share_what_is_left(model, tmp_path, overwrite):
    for number in range(8):
        path = tmp_path / "in" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.zeros(800 - number), 8000)
    recordings = find_recordings([tmp_path / "in"], tmp_path / "out")
    separator = FileSeparator(S4MSeparation.from_hparams(model))
    # What the first of two processes had to do.
    before = Rank(0, 2).share(
        recordings, [r.path.stat().st_size for r in recordings]
    )
    assert len(list(separator.separate(before))) == 4
    store = torch.distributed.HashStore()
    plans = {}

    def plan(number):
        rank = Rank(number, 2, store=store)
        arguments = SimpleNamespace(overwrite=overwrite)
        plans[number] = separate._plan(arguments, rank, separator, recordings)

    threads = [threading.Thread(target=plan, args=[i]) for i in (1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = [r for r in recordings if overwrite or r not in before]
    todo = [plans[number][2] for number in (0, 1)]
    assert sorted(map(str, sum(todo, []))) == sorted(map(str, left))
    assert len(todo[0]) == len(todo[1]) == len(left) / 2
    # The first speaks of all.
    assert [plans[number][0] for number in (0, 1)] == [8, 8]
    done = [len(plans[number][1]) for number in (0, 1)]
    assert done == ([0, 0] if overwrite else [4, 0])
