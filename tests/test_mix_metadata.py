"""Metadata of data sets: plans out and in again, and what is refused."""

import csv

import numpy as np
import pytest
import soundfile

from s4m_sb.corpus import Utterance
from s4m_sb.errors import InputError
from s4m_sb.mix_metadata import (
    COLUMNS,
    NamedPlan,
    plan_rows,
    read_metadata,
    write_metadata,
)
from s4m_sb.plans import MixturePlan, Piece, SourcePlan


@pytest.fixture()
def plans(tmp_path):
    names = ["anna/1.wav", "anna/2, or not.wav", "ben/ä.wav"]
    said = []
    for name in names:
        path = tmp_path / "speech" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.ones(1000) / 2, 16000)
        said.append(Utterance(str(path), path.parent.name, 1000, 16000))
    anna = (Piece(said[0], 7, 300), Piece(said[1], 0, 100))
    ben = (Piece(said[2], 100, 400),)
    return [
        NamedPlan(
            split,
            name,
            MixturePlan(
                (SourcePlan(anna, -27.1234), SourcePlan(ben, 0.1 + 0.2)), 8000
            ),
        )
        for split in ("tr", "tt")
        for name in ("first", "second")
    ]


def write(path, plans, root):
    rows = [row for named in plans for row in plan_rows(named, root)]
    write_metadata(path, rows)
    return rows


def test_plans_come_back_as_they_were(tmp_path, plans):
    table = tmp_path / "metadata.csv"
    rows = write(table, plans, tmp_path / "speech")
    assert read_metadata(table, tmp_path / "speech") == plans
    assert len(rows) == 12
    assert {row["file"] for row in rows} == {
        "anna/1.wav",
        "anna/2, or not.wav",
        "ben/ä.wav",
    }


def test_the_speech_may_have_moved(tmp_path, plans):
    table = tmp_path / "metadata.csv"
    write(table, plans, tmp_path / "speech")
    moved = (tmp_path / "speech").rename(tmp_path / "elsewhere")
    (back, *_) = read_metadata(table, moved)
    path = back.plan.sources[0].pieces[0].utterance.path
    assert path == str(moved / "anna" / "1.wav")


def test_files_outside_the_root_keep_their_whole_path(tmp_path, plans):
    table = tmp_path / "metadata.csv"
    rows = write(table, plans, tmp_path / "other")
    assert rows[0]["file"] == str(tmp_path / "speech" / "anna" / "1.wav")
    assert read_metadata(table, tmp_path / "other") == plans


def test_a_speed_is_not_lost_silently(tmp_path, plans):
    sources = plans[0].plan.sources
    faster = SourcePlan(sources[0].pieces, -20.0, speed=1.1)
    plan = MixturePlan((faster, sources[1]), 8000)
    with pytest.raises(ValueError, match="speed 1.1 has no column"):
        plan_rows(NamedPlan("tr", "first", plan), tmp_path)


def change(column, value, line=2):
    def change_rows(rows):
        rows[line - 2][column] = value

    return change_rows


def change_all(column, old, new):
    def change_rows(rows):
        for row in rows:
            if row[column] == old:
                row[column] = new

    return change_rows


@pytest.mark.parametrize(
    "change_rows, message",
    [
        (lambda rows: rows.clear(), "names no mixtures"),
        (change("start", "x"), "line 2: start is 'x', not a whole number"),
        (change("num_frames", "1.5", 3), "line 3: num_frames is '1.5'"),
        (change("level_db", "loud"), "line 2: level_db is 'loud'"),
        (change("level_db", "nan"), "line 2: level_db is 'nan'"),
        (change("start", "-1"), "line 2: samples -1 to 299"),
        (
            change("start", "401", 3),
            "line 3: samples 401 to 501 .* 500 samples",
        ),
        (change("num_frames", "0"), "line 2: samples 7 to 7"),
        (change_all("sample_rate", "8000", "0"), "sample_rate is 0"),
        (change("sample_rate", "16000"), "has several sample rates"),
        (change("file", ""), "line 2: has no file"),
        (change("file", "anna/9.wav"), "anna/9.wav: no such file"),
        (change("mixture", "../x"), "mixture '../x' cannot be a file's name"),
        (change("split", "a/b"), "split 'a/b' cannot be a file's name"),
        (change("split", ".."), "split '..' cannot be a file's name"),
        (change("level_db", "-3.0"), "pieces of s1 differ in level_db"),
        (change("speaker", "carl"), "pieces of s1 differ in speaker"),
        (
            change_all("speaker", "ben", "anna"),
            r"'first' of tr: mixes a speaker with himself \(anna, anna\)",
        ),
        (change_all("num_frames", "400", "399"), r"in length, \[400, 399\]"),
        (change_all("source", "s2", "s3"), "has the sources s1, s3"),
        (change_all("source", "s2", "s1"), "has the sources s1; s1, s2"),
    ],
)
def test_wrong_values_are_refused(tmp_path, plans, change_rows, message):
    table = tmp_path / "metadata.csv"
    rows = write(table, plans, tmp_path / "speech")
    change_rows(rows)
    write_metadata(table, rows)
    with pytest.raises(InputError, match=message) as caught:
        read_metadata(table, tmp_path / "speech")
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such metadata file"):
        read_metadata(tmp_path / "absent.csv", tmp_path)
    table = tmp_path / "table.csv"
    table.write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="is not a CSV file of text"):
        read_metadata(table, tmp_path)
    with open(table, "w", newline="") as file:
        csv.writer(file).writerow(COLUMNS[:-2])
    with pytest.raises(InputError, match="no column sample_rate, level_db"):
        read_metadata(table, tmp_path)
