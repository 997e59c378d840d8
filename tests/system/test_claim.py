"""A folder belongs to the settings that it was made with."""

import json
import os

import pytest

from s4m_sb.errors import InputError
from s4m_sb.system.claim import SETTINGS, claim_folder


def test_settings_are_written_once(tmp_path):
    folder = tmp_path / "a" / "b"
    settings = {"seed": 1, "levels": [0.5, 2.0], "name": None}
    claim_folder(folder, settings)
    written = (folder / SETTINGS).read_bytes()
    assert json.loads(written) == settings
    before = (folder / SETTINGS).stat().st_mtime_ns
    (folder / "made.txt").write_text("by the first run")
    claim_folder(folder, settings)
    assert (folder / SETTINGS).stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"seed": 2, "rate": 8}, "with seed 1, now it is 2; give another"),
        ({"seed": 1}, "with rate 8, now it is None"),
        ({"seed": 1, "rate": 8, "new": 3}, "with new None, now it is 3"),
    ],
)
def test_other_settings_are_refused(tmp_path, settings, message):
    claim_folder(tmp_path, {"seed": 1, "rate": 8})
    with pytest.raises(InputError, match=f"{tmp_path}: was made {message}"):
        claim_folder(tmp_path, settings)


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="holds other files and no settings"):
        claim_folder(tmp_path, {"seed": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_damaged_settings_are_named(tmp_path, text):
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(InputError, match=f"{SETTINGS}: is not a JSON object"):
        claim_folder(tmp_path, {"seed": 1})


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=f"{folder}: cannot be used"):
            claim_folder(folder, {"seed": 1})


def test_the_half_file_of_another_process_is_no_obstacle(tmp_path):
    (tmp_path / ".settings.123.tmp.json").write_text("{")
    claim_folder(tmp_path, {"seed": 1})


@pytest.mark.parametrize("seed", [1, 2])
def test_of_two_that_claim_at_once_one_is_first(tmp_path, monkeypatch, seed):
    link = os.link

    def link_late(source, target):
        monkeypatch.setattr(os, "link", link)
        claim_folder(tmp_path, {"seed": 1})
        link(source, target)

    monkeypatch.setattr(os, "link", link_late)
    if seed == 1:
        claim_folder(tmp_path, {"seed": seed})
    else:
        with pytest.raises(InputError, match="with seed 1, now it is 2"):
            claim_folder(tmp_path, {"seed": seed})
    assert [path.name for path in tmp_path.iterdir()] == [SETTINGS]
    assert json.loads((tmp_path / SETTINGS).read_text()) == {"seed": 1}


def test_a_disk_without_links_is_claimed_as_well(tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError(1, "Operation not permitted", source)

    monkeypatch.setattr(os, "link", refuse)
    claim_folder(tmp_path, {"seed": 1})
    assert [path.name for path in tmp_path.iterdir()] == [SETTINGS]
