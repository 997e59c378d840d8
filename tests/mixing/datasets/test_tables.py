"""What the recipes list and read again; see also test_prepare_data.py."""

import csv

import numpy as np
import pytest
import soundfile
import torch

from s4m_sb.errors import InputError
from s4m_sb.mixing.datasets.tables import (
    counted,
    find_root,
    list_mixtures,
    read_signal,
    read_table,
    table_paths,
)
from s4m_sb.mixing.rows import write_csv

KINDS = {"mix": "mix_both_reverb", "s1": "s1_anechoic", "s1_image": "s1_reverb"}


@pytest.fixture
def split(tmp_path):
    """A split with two mixtures, in folders that are not called as signals."""
    folder = tmp_path / "data/tr"
    for number, kind in enumerate(KINDS.values()):
        (folder / kind).mkdir(parents=True)
        for name, length in (("b", 300), ("a", 400)):
            path = folder / kind / f"{name}.wav"
            soundfile.write(path, np.full(length, number / 4), 8000)
    return folder


def test_a_table_is_read_as_it_was_written(split, tmp_path):
    rows = list_mixtures(split, KINDS, 8000)
    table = table_paths(tmp_path / "save", "any", ["tr"])["tr"]
    write_csv(table, rows)
    with open(table, newline="") as file:
        assert list(csv.DictReader(file)) == rows
    columns = ["mix_wav", "s1_wav", "s1_image_wav"]
    assert list(rows[0]) == ["ID", "duration", *columns]
    data = read_table(table, "/data", columns)
    data.set_output_keys(["id", "duration", *columns])
    assert [item["id"] for item in data] == ["a", "b"]
    assert [item["duration"] for item in data] == [0.05, 0.0375]
    for item in data:
        for column, kind in zip(columns, KINDS.values(), strict=True):
            assert item[column] == str(split / kind / f"{item['id']}.wav")


def test_the_kind_at_fault_is_named(split):
    (split / "s1_reverb/a.wav").unlink()
    with pytest.raises(InputError, match="1 not in s1_reverb .a.wav.$"):
        list_mixtures(split, KINDS, 8000)
    with pytest.raises(InputError, match="mix_both_reverb and s1_reverb must"):
        list_mixtures(split, KINDS, 8000)


def test_tables_that_do_not_fit_are_refused(tmp_path):
    table = tmp_path / "wsj_tr.csv"
    with pytest.raises(InputError, match="wsj_tr.csv: no such file"):
        read_table(table, "", [])
    table.write_text("ID,duration,mix_wav\n")
    with pytest.raises(InputError, match="wsj_tr.csv: lists no mixtures"):
        read_table(table, "", ["mix_wav"])
    table.write_text("ID,duration,mix_wav\na,1.0,a.wav\n")
    with pytest.raises(InputError, match="has no column s1_wav, s2_wav; is"):
        read_table(table, "", ["s2_wav", "mix_wav", "s1_wav"])


def test_the_data_folder_of_a_table_is_replaced(tmp_path):
    table = tmp_path / "wsj_tr.csv"
    table.write_text("ID,duration,mix_wav\na,1.0,$data_root/a.wav\n")
    data = read_table(table, "/elsewhere", ["mix_wav"])
    data.set_output_keys(["mix_wav"])
    assert data[0]["mix_wav"] == "/elsewhere/a.wav"


def test_signals_are_not_resampled(split):
    path = split / "s1_reverb/a.wav"
    assert torch.equal(read_signal(path, 8000), torch.full((400,), 0.5))
    with pytest.raises(InputError, match="has 8000 Hz, but sample_rate is 16"):
        read_signal(path, 16000)


@pytest.mark.parametrize("below", ["", "wham"])
def test_the_root_may_lie_one_folder_below(tmp_path, below):
    (tmp_path / below / "wav16k").mkdir(parents=True)
    root = find_root(tmp_path, "wham", 16000, "max")
    assert root == tmp_path / below / "wav16k/max"
    with pytest.raises(InputError, match="neither wav8k nor wham/wav8k"):
        find_root(tmp_path, "wham", 8000, "max")


def test_mixtures_of_one_speaker_are_counted():
    assert counted("cv", 5000, 1, "WHAM!") == (
        "5000 mixtures of 1 speaker (as in the official WHAM!)"
    )


def test_names_in_upper_case_count(split):
    for kind in KINDS.values():
        (split / kind / "a.wav").rename(split / kind / "a.WAV")
    rows = list_mixtures(split, KINDS, 8000)
    assert [row["ID"] for row in rows] == ["a", "b"]
    (split / "s1_reverb/a.WAV").rename(split / "s1_reverb/a.wav")
    with pytest.raises(InputError, match="1 not in s1_reverb .a.WAV."):
        list_mixtures(split, KINDS, 8000)


def test_no_recording_is_left_out_without_a_word(split):
    (split / "s1_reverb/c.flac").touch()
    with pytest.raises(InputError, match="s1_reverb/c.flac: is no .wav file"):
        list_mixtures(split, KINDS, 8000)
    (split / "s1_reverb/c.flac").rename(split / "s1_reverb/a.WAV")
    with pytest.raises(InputError, match="s1_reverb: holds both a.* and a"):
        list_mixtures(split, KINDS, 8000)


def test_tables_may_come_from_a_spreadsheet(tmp_path):
    table = tmp_path / "wsj_tr.csv"
    table.write_text("ID,duration,mix_wav\na,1.0, a.wav\n", "utf-8-sig")
    data = read_table(table, "", ["mix_wav"])
    data.set_output_keys(["id", "mix_wav"])
    assert list(data) == [{"id": "a", "mix_wav": "a.wav"}]


@pytest.mark.parametrize(
    "text, message",
    [
        ("ID,duration,mix_wav\na,1.0,a.wav\na,1.0,b.wav\n", "3: has the ID a "),
        ("ID,duration,mix_wav\na,1;0,a.wav\n", "2: the duration is '1;0', not"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path, text, message):
    table = tmp_path / "wsj_tr.csv"
    table.write_text(text)
    with pytest.raises(InputError, match=f"wsj_tr.csv, line {message}"):
        read_table(table, "", ["mix_wav"])
