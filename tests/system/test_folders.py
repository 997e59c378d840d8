"""A temporary folder goes with its process, however that ends."""

import subprocess
import sys
import tempfile

import pytest

from s4m_sb.system.folders import own_folder

HOLD = """
from s4m_sb.system.folders import own_folder
with own_folder("s4m-test-") as folder:
    (folder / "upload.wav").write_text("a recording")
    print(folder.name, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_it_is_removed_in_the_end(place, error):
    with pytest.raises(error), own_folder("s4m-test-") as folder:
        (folder / "deep").mkdir()
        assert folder.parent == place
        assert folder.stat().st_mode & 0o77 == 0
        raise error
    assert list(place.iterdir()) == []


def test_the_next_one_removes_what_a_killed_process_left(place):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        left = place / process.stdout.readline().strip()
        with own_folder("s4m-test-"):
            assert (left / "upload.wav").exists()  # it lives
        process.kill()
        process.wait()
    assert (left / "upload.wav").exists()
    with own_folder("s4m-other-"):
        assert left.exists()  # perhaps another program's
    with own_folder("s4m-test-") as folder:
        assert list(place.iterdir()) == [folder]


def test_a_link_is_not_followed(place):
    target = place / "documents"
    target.mkdir()
    (place / "s4m-test-link").symlink_to(target)
    (place / "s4m-test-file").write_text("a file")
    with own_folder("s4m-test-"):
        pass
    names = ["documents", "s4m-test-file", "s4m-test-link"]
    assert sorted(path.name for path in place.iterdir()) == names
