"""The files below a folder: all of them, and each once."""

import os

import pytest

from s4m_sb.system.folders import files_below


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
