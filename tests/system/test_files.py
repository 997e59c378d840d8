"""A file is there whole or as it was; those below a folder are found once."""

import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from s4m_sb.system.files import files_below, remove_left, replacing


def test_the_file_appears_at_the_end_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "down" / "result.csv"
    with replacing(path) as temporary:
        temporary.write_text("a,b")
        assert temporary.suffix == ".csv"
        assert not path.exists()
    assert path.read_text() == "a,b"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "result.csv"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half of the n")
        assert path.read_text() == "old"
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_before_anything_is_written_leaves_no_file(tmp_path):
    with pytest.raises(ValueError), replacing(tmp_path / "result.csv"):
        raise ValueError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_is_not_touched(tmp_path):
    path = tmp_path / "result.csv"
    path.mkdir()
    with pytest.raises(OSError), replacing(path) as temporary:
        temporary.write_text("new")
    assert list(tmp_path.iterdir()) == [path]
    assert path.is_dir()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_an_error_of_the_system_names_the_file(tmp_path):
    path = tmp_path / "result.csv"
    with pytest.raises(OSError) as caught, replacing(path):
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"any")
    error = caught.value
    assert (error.errno, error.filename) == (errno.ENOSPC, str(path))
    # One of another file keeps its name.
    with pytest.raises(FileNotFoundError) as caught, replacing(path):
        os.stat(tmp_path / "absent")
    assert caught.value.filename == str(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


WRITES = """
import sys, time
from s4m_sb.system.files import replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print(temporary, flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def writing(path, *launcher):
    """Another process that writes a file, and does not come to an end."""
    process = subprocess.Popen(
        [*launcher, sys.executable, "-c", WRITES, str(path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Path(process.stdout.readline().strip()), process
        finally:
            process.kill()


def test_what_killed_processes_left_is_removed(tmp_path):
    others = [tmp_path / ".mine.tmp.wav", tmp_path / ".12345678.tmp.wav"]
    for path in others:
        path.touch()
    with writing(tmp_path / "a.wav") as (left, process):
        pass
    with (
        writing(tmp_path / "b.wav") as (theirs, _),
        replacing(tmp_path / "c.wav") as ours,
    ):
        assert left.exists() and theirs.read_text() == "half"
        remove_left(tmp_path.iterdir())
        assert sorted(tmp_path.iterdir()) == sorted([*others, theirs, ours])
    remove_left(tmp_path.iterdir())
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "c.wav"])


def unshare():
    """How to start the first process of a container, if that is allowed."""
    command = ["unshare", "--fork", "--pid", "--mount-proc"]
    with contextlib.suppress(OSError):
        if subprocess.run([*command, "true"], capture_output=True).returncode:
            return None
        return command
    return None


@pytest.mark.skipif(unshare() is None, reason="no containers here")
def test_two_containers_write_one_file(tmp_path):
    path = tmp_path / "a.wav"
    with (
        writing(path, *unshare()) as (one, first),
        writing(path, *unshare()) as (two, second),
    ):
        assert one != two  # each is process 1
        remove_left(tmp_path.iterdir())
        assert {one, two} == set(tmp_path.iterdir())


def test_a_file_is_for_those_that_others_would_be(tmp_path):
    (tmp_path / "plain").touch()
    with replacing(tmp_path / "a") as temporary:
        temporary.write_text("a")
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_folder_that_cannot_be_written_is_named_by_the_file(tmp_path):
    def refuse(path, *arguments):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", refuse)  # root may write everywhere
        with pytest.raises(PermissionError) as caught:
            with replacing(tmp_path / "a.wav"):
                pass
    assert caught.value.filename == str(tmp_path / "a.wav")


# The files below a folder


def test_names_count_whatever_their_case_and_depth(tmp_path):
    for name in ("a.wav", "b.WAV", "c.txt", ".d.wav", "deep/er/e.flac"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = sorted(files_below(tmp_path, (".wav", ".flac")))
    names = [path.relative_to(tmp_path).as_posix() for path in found]
    assert names == ["a.wav", "b.WAV", "deep/er/e.flac"]


def test_links_are_followed_but_not_in_circles(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.wav").touch()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "here")
    (found,) = files_below(tmp_path / "here", (".wav",))
    assert found == tmp_path / "here" / "link" / "a.wav"


def test_a_folder_that_cannot_be_read_is_not_left_out(tmp_path, monkeypatch):
    (tmp_path / "open").mkdir()
    (tmp_path / "shut").mkdir()
    scandir = os.scandir

    def scan_or_fail(path):
        if os.fspath(path).endswith("shut"):  # root may read everything
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan_or_fail)
    with pytest.raises(PermissionError, match="shut"):
        list(files_below(tmp_path, (".wav",)))
