"""Metadata of data sets: plans out and in again, and what is refused."""

import csv
import dataclasses

import numpy as np
import pytest
import soundfile

from s4m_sb.errors import InputError
from s4m_sb.mixing.corpus import Utterance
from s4m_sb.mixing.datasets.metadata import (
    COLUMNS,
    NamedPlan,
    plan_rows,
    read_metadata,
    write_metadata,
)
from s4m_sb.mixing.plans import (
    MixturePlan,
    NoisePlan,
    Piece,
    Silence,
    SourcePlan,
)
from s4m_sb.mixing.rooms import Room


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


@pytest.fixture()
def noisy_plans(tmp_path, plans):
    """Two pieces of noise, and a room for each mixture."""
    path = tmp_path / "noise" / "rain" / "1.wav"
    path.parent.mkdir(parents=True)
    soundfile.write(path, np.ones(2000) / 2, 8000)
    rain = Utterance(str(path), "rain/1", 2000, 8000)
    pieces = (Piece(rain, 1800, 200), Piece(rain, 0, 200))
    return [
        dataclasses.replace(
            named,
            plan=dataclasses.replace(
                named.plan,
                noise=NoisePlan(pieces, -5.4321 + number),
                room=Room(
                    (6.1234, 7.0, 3.5 + number / 10),
                    (3.0, 3.5, 1.25),
                    ((2.0, 2.0, 1.0), (4.0001, 4.5, 0.1 + 0.2)),
                    0.4567,
                ),
            ),
        )
        for number, named in enumerate(plans)
    ]


def write(path, plans, root, noise_root=None):
    rows = [
        row for named in plans for row in plan_rows(named, root, noise_root)
    ]
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


def test_noise_and_rooms_come_back_as_they_were(tmp_path, noisy_plans):
    table = tmp_path / "metadata.csv"
    roots = (tmp_path / "speech", tmp_path / "noise")
    rows = write(table, noisy_plans, *roots)
    assert read_metadata(table, *roots) == noisy_plans
    heard = [row for row in rows if row["source"] == "noise"]
    assert {row["file"] for row in heard} == {"rain/1.wav"}
    assert [row["start"] for row in heard[:2]] == ["1800", "0"]
    # An empty cell where there is nothing to tell.
    assert {row["speaker"] + row["level_db"] for row in heard} == {""}
    for row in rows:
        assert row["rt60_s"] == "0.4567"
        assert (row["snr_db"] == "") == (row["source"] != "noise")
        assert (row["distance_m"] == "") == (row["source"] == "noise")


@pytest.fixture()
def talks(noisy_plans):
    """In the first mixture turns, in the second one talker alone."""
    plan = noisy_plans[0].plan
    anna, ben = plan.sources
    turns = dataclasses.replace(
        plan,
        sources=(
            dataclasses.replace(
                anna,
                pieces=(
                    Silence(50),
                    Piece(anna.pieces[0].utterance, 7, 200),
                    Piece(anna.pieces[1].utterance, 0, 20),
                    Silence(130),
                ),
            ),
            ben,
        ),
    )
    solo = dataclasses.replace(
        plan, sources=(SourcePlan((Silence(400),), 0.0), ben)
    )
    return [
        NamedPlan("tt", name, drawn)
        for name, drawn in (("turns", turns), ("solo", solo))
    ]


def test_silence_comes_back_as_it_was(tmp_path, talks):
    table = tmp_path / "metadata.csv"
    roots = (tmp_path / "speech", tmp_path / "noise")
    write(table, talks, *roots)
    assert read_metadata(table, *roots) == talks
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    spoken = [
        (row["mixture"], row["source"], row["begin"], row["num_frames"])
        for row in rows
        if row["file"] and row["speaker"]
    ]
    assert spoken == [
        ("turns", "s1", "50", "200"),
        ("turns", "s1", "250", "20"),
        ("turns", "s2", "0", "400"),
        ("solo", "s2", "0", "400"),
    ]
    silent = [row for row in rows if not row["file"]]
    assert [row["begin"] for row in silent] == ["0", "270", "0"]
    assert [row["speaker"] for row in silent] == ["anna", "anna", ""]
    assert {row["start"] for row in silent} == {""}
    # Rows that were read go out again as they came.
    write_metadata(tmp_path / "again.csv", rows)
    assert (tmp_path / "again.csv").read_bytes() == table.read_bytes()


@pytest.mark.parametrize(
    "line, changes, message",
    [
        (3, {"begin": "51"}, "line 3: begin is 51, .* s1 before it end at 50"),
        (2, {"begin": ""}, "line 2: has no begin"),
        (2, {"num_frames": "0"}, "line 2: silence of 0 samples"),
        (4, {"start": ""}, "line 4: has no start"),
        (4, {"file": ""}, "line 4: has no file"),
        (2, {"speaker": ""}, "line 2: has no speaker"),
        (2, {"level_db": "-3.0"}, "pieces of s1 differ in level_db"),
        (2, {"speaker": "eva"}, "pieces of s1 differ in speaker"),
    ],
)
def test_silence_that_is_not_what_it_says(
    tmp_path, talks, line, changes, message
):
    table = tmp_path / "metadata.csv"
    roots = (tmp_path / "speech", tmp_path / "noise")
    write(table, talks, *roots)
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rows[line - 2] |= changes
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(InputError, match=message):
        read_metadata(table, *roots)


def test_a_mixture_in_which_nobody_speaks_is_refused(tmp_path, talks):
    silence = SourcePlan((Silence(400),), 0.0)
    plan = dataclasses.replace(talks[1].plan, sources=(silence, silence))
    roots = (tmp_path / "speech", tmp_path / "noise")
    write(tmp_path / "metadata.csv", [NamedPlan("tt", "none", plan)], *roots)
    with pytest.raises(InputError, match="'none' of tt: nobody speaks"):
        read_metadata(tmp_path / "metadata.csv", *roots)


@pytest.mark.parametrize("without", ["noise", "room"])
def test_noise_and_rooms_go_alone(tmp_path, noisy_plans, without):
    plans = [
        dataclasses.replace(
            named, plan=dataclasses.replace(named.plan, **{without: None})
        )
        for named in noisy_plans
    ]
    table = tmp_path / "metadata.csv"
    roots = (tmp_path / "speech", tmp_path / "noise")
    rows = write(table, plans, *roots)
    assert ("snr_db" in rows[0]) == (without != "noise")
    assert ("rt60_s" in rows[0]) == (without != "room")
    assert read_metadata(table, *roots) == plans


def test_one_speaker_is_enough_in_noise(tmp_path, noisy_plans, plans):
    roots = (tmp_path / "speech", tmp_path / "noise")

    def alone(named):
        plan = named.plan
        room = plan.room
        if room is not None:
            room = dataclasses.replace(room, sources_m=room.sources_m[:1])
        plan = dataclasses.replace(plan, sources=plan.sources[:1], room=room)
        return dataclasses.replace(named, plan=plan)

    table = tmp_path / "metadata.csv"
    write(table, [alone(named) for named in noisy_plans], *roots)
    assert read_metadata(table, *roots) == [alone(n) for n in noisy_plans]
    write(table, [alone(named) for named in plans], *roots)
    with pytest.raises(InputError, match="has the sources s1; s1, s2 and"):
        read_metadata(table, *roots)


def test_the_noise_may_have_moved(tmp_path, noisy_plans):
    table = tmp_path / "metadata.csv"
    write(table, noisy_plans, tmp_path / "speech", tmp_path / "noise")
    moved = (tmp_path / "noise").rename(tmp_path / "elsewhere")
    (back, *_) = read_metadata(table, tmp_path / "speech", moved)
    path = back.plan.noise.pieces[0].utterance.path
    assert path == str(moved / "rain" / "1.wav")
    with pytest.raises(InputError, match="line 5: is noise; say where"):
        read_metadata(table, tmp_path / "speech")


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


def test_a_channel_is_not_lost_silently(tmp_path, plans):
    sources = plans[0].plan.sources
    filtered = SourcePlan(sources[0].pieces, -20.0, filter_db=(3.0,) * 6)
    plan = MixturePlan((filtered, sources[1]), 8000)
    with pytest.raises(ValueError, match="filter_db .* has no column"):
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
            r"'first' of tr: mixes a speaker twice \(anna, anna\)",
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


@pytest.mark.parametrize(
    "change_rows, message",
    [
        (change("snr_db", "", 5), "line 5: has no snr_db"),
        (change("snr_db", "soft", 5), "line 5: snr_db is 'soft', not a num"),
        (change("snr_db", "0.0", 5), "pieces of noise differ in snr_db"),
        (change("num_frames", "199", 5), r"length, \[400, 400, 399\]"),
        (change("start", "1801", 5), "line 5: samples 1801 to 2001"),
        (change("rt60_s", "", 5), "line 5: has no rt60_s"),
        (change("rt60_s", "0.5"), "'first' of tr: is in several rooms"),
        (change_all("rt60_s", "0.4567", "0"), "of tr: room: rt60_s is 0.0"),
        (change("source_x_m", "", 4), "line 4: has no source_x_m"),
        (change("source_x_m", "9.5", 4), r"room: \(9.5, 4.5, 0.3.*not inside"),
        (change("source_x_m", "1.5"), "pieces of s1 differ in position"),
        (change("microphone_z_m", "high"), "microphone_z_m is 'high'"),
        (change("level_db", "", 2), "line 2: has no level_db"),
        (
            lambda rows: [rows.pop(4), rows.pop(3)],
            "'first' of tr has no noise; others have",
        ),
        (
            lambda rows: [rows.pop(0) for _ in range(3)],
            "has the sources noise; s1, s2",
        ),
        (
            lambda rows: [row.pop("room_z_m") for row in rows],
            "has no column room_z_m",
        ),
    ],
)
def test_wrong_noise_and_rooms_are_refused(
    tmp_path, noisy_plans, change_rows, message
):
    table = tmp_path / "metadata.csv"
    roots = (tmp_path / "speech", tmp_path / "noise")
    rows = write(table, noisy_plans, *roots)
    change_rows(rows)
    write_metadata(table, rows)
    with pytest.raises(InputError, match=message) as caught:
        read_metadata(table, *roots)
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
