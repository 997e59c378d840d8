"""CSV files of data sets in the layout of WSJ0-mix, and what is refused."""

import csv
import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
from data_sets import make_data_set
from recipe_runs import WSJ0MIX, load_script
from speechbrain.dataio.dataset import DynamicItemDataset

from s4m_sb.errors import InputError
from s4m_sb.mixing.datasets.tables import OFFICIAL_COUNTS

LENGTHS = {"tr": [800, 1000, 400], "cv": [500, 600], "tt": [1234]}


prepare_wsj0mix = load_script(WSJ0MIX, "prepare_data").prepare_wsj0mix


def write_tree(root, num_spks=2, rate=8000):
    """A tree as the official scripts make it, with 16-bit files."""
    for split, lengths in LENGTHS.items():
        for kind in ["mix", *(f"s{k + 1}" for k in range(num_spks))]:
            folder = root / split / kind
            folder.mkdir(parents=True)
            for number, length in enumerate(lengths):
                name = f"011a010{number}_1.23_20aa010b_-1.23.wav"
                soundfile.write(folder / name, np.ones(length) / 4, rate)
    return root


def read(table):
    with open(table, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("num_spks", [2, 3])
@pytest.mark.parametrize("rate, name", [(8000, "wav8k"), (16000, "wav16k")])
@pytest.mark.parametrize("version", ["min", "max"])
@pytest.mark.parametrize("above", [False, True])
def test_official_trees(tmp_path, num_spks, rate, name, version, above):
    data = tmp_path / "anywhere"
    inner = data / f"{num_spks}speakers" if above else data
    tree = write_tree(inner / name / version, num_spks, rate)
    tables = prepare_wsj0mix(
        data,
        tmp_path / "save",
        num_spks=num_spks,
        sample_rate=rate,
        version=version,
    )
    kinds = ["mix", "s1", "s2", "s3"][: num_spks + 1]
    for split, lengths in LENGTHS.items():
        assert tables[split] == tmp_path / "save" / f"wsj_{split}.csv"
        rows = read(tables[split])
        assert list(rows[0]) == ["ID", "duration"] + [
            f"{kind}_wav" for kind in kinds
        ]
        assert [row["ID"] for row in rows] == sorted(row["ID"] for row in rows)
        assert [float(row["duration"]) for row in rows] == pytest.approx(
            [length / rate for length in lengths],
            rel=1e-5,  # six digits are written
        )
        for row in rows:
            for kind in kinds:
                path = tree / split / kind / f"{row['ID']}.wav"
                assert row[f"{kind}_wav"] == str(path)
    assert sorted(path.name for path in (tmp_path / "save").iterdir()) == [
        "wsj_cv.csv",
        "wsj_tr.csv",
        "wsj_tt.csv",
    ]


def test_a_tree_of_s4m_mix(speech_folder, tmp_path):
    make_data_set(
        speech_folder, tmp_path / "data", num_mixtures=(4, 3, 2), segment_s=0.5
    )
    tables = prepare_wsj0mix(tmp_path / "data", tmp_path / "save")
    for split, count in (("tr", 4), ("cv", 3), ("tt", 2)):
        rows = read(tables[split])
        assert len(rows) == count
        assert {row["duration"] for row in rows} == {"0.5"}


def test_speechbrain_reads_the_tables(tmp_path):
    write_tree(tmp_path / "data" / "wav8k" / "min")
    tables = prepare_wsj0mix(tmp_path / "data", tmp_path / "save")
    data = DynamicItemDataset.from_csv(
        tables["tr"], output_keys=["id", "duration", "mix_wav", "s2_wav"]
    )
    assert len(data) == 3
    item = data[0]
    assert item["duration"] == 0.1
    assert soundfile.info(item["s2_wav"]).frames == 800


def test_relative_folders_give_absolute_paths(tmp_path, monkeypatch):
    write_tree(tmp_path / "data" / "wav8k" / "min")
    monkeypatch.chdir(tmp_path)
    tables = prepare_wsj0mix("data", "save")
    assert all(Path(row["mix_wav"]).is_absolute() for row in read(tables["tr"]))


def test_counts_are_reported_beside_the_official_ones(
    tmp_path, caplog, monkeypatch
):
    monkeypatch.setitem(OFFICIAL_COUNTS, "tt", 1)
    write_tree(tmp_path / "wav8k" / "min")
    with caplog.at_level(logging.INFO):
        prepare_wsj0mix(tmp_path, tmp_path / "save")
    assert "3 mixtures of 2 speakers (20000 in the official" in caplog.text
    assert "2 mixtures of 2 speakers (5000 in the official" in caplog.text
    assert "1 mixtures of 2 speakers (as in the official" in caplog.text


def test_every_missing_folder_is_named_at_once(tmp_path):
    root = write_tree(tmp_path / "wav8k" / "min")
    gone = [root / "tr" / "s2", root / "tt" / "mix", root / "cv"]
    for folder in gone:
        folder.rename(tmp_path / f"moved-{folder.name}")
    with pytest.raises(InputError) as caught:
        prepare_wsj0mix(tmp_path, tmp_path / "save")
    for folder in (*gone[:2], gone[2] / "mix", gone[2] / "s1", gone[2] / "s2"):
        assert str(folder) in str(caught.value)
    assert str(root / "tr" / "mix") not in str(caught.value)
    assert not (tmp_path / "save").exists()


def test_a_wrong_number_of_files_is_named(tmp_path):
    root = write_tree(tmp_path / "wav8k" / "min")
    names = sorted(path.name for path in (root / "tr" / "s2").iterdir())
    (root / "tr" / "s2" / names[1]).rename(root / "tr" / "s2" / "other.wav")
    (root / "tr" / "s2" / names[2]).unlink()
    with pytest.raises(InputError) as caught:
        prepare_wsj0mix(tmp_path, tmp_path / "save")
    message = str(caught.value)
    assert "3 mixtures and 2 sources" in message
    assert f"2 not in s2 ({names[1]}, {names[2]})" in message
    assert "1 only in s2 (other.wav)" in message


def test_many_names_are_cut_short(tmp_path):
    root = write_tree(tmp_path / "wav8k" / "min")
    for number in range(40):
        soundfile.write(root / "cv" / "s1" / f"{number:02d}.wav", [0.5], 8000)
    with pytest.raises(InputError, match=r"40 only in s1 \(00.wav, 01.wav"):
        prepare_wsj0mix(tmp_path, tmp_path / "save")
    with pytest.raises(InputError, match=r"02.wav, ...\)$"):
        prepare_wsj0mix(tmp_path, tmp_path / "save")


def first(root, kind):
    return sorted((root / "tr" / kind).iterdir())[0]


@pytest.mark.parametrize(
    "break_it, keys, message",
    [
        (lambda r: None, {"num_spks": 1}, "num_spks is 1"),
        (lambda r: None, {"splits": ()}, r"splits is \[\]; give some of tr"),
        (lambda r: None, {"splits": ["dev"]}, r"splits is \['dev'\]"),
        (lambda r: None, {"version": "mid"}, "version is 'mid'"),
        (lambda r: None, {"version": "max"}, "missing .*max/tr/mix"),
        (
            lambda r: None,
            {"sample_rate": 16000},
            "holds neither wav16k nor 2speakers/wav16k",
        ),
        (
            lambda r: (r / "tr" / "s3").mkdir(),
            {},
            "s3: the mixtures have more sources than num_spks = 2",
        ),
        (lambda r: None, {"num_spks": 3}, "missing .*tr/s3"),
        (
            lambda r: [p.unlink() for p in r.glob("tr/*/*.wav")],
            {},
            "tr/mix: holds no .wav files",
        ),
        (
            lambda r: soundfile.write(first(r, "s1"), np.ones(800), 16000),
            {},
            "has 16000 Hz, but sample_rate is 8000",
        ),
        (
            lambda r: soundfile.write(first(r, "s2"), np.ones(700), 8000),
            {},
            "has 700 samples, its mixture 800",
        ),
        (lambda r: first(r, "mix").write_bytes(b""), {}, "wav: is empty"),
        (lambda r: first(r, "s1").write_text("no"), {}, "be read as audio"),
        (lambda r: None, {"skip_prep": True}, "skip_prep: missing .*wsj_tr"),
    ],
)
def test_unusable_trees_are_refused(tmp_path, break_it, keys, message):
    break_it(write_tree(tmp_path / "data" / "wav8k" / "min"))
    with pytest.raises(InputError, match=message) as caught:
        prepare_wsj0mix(tmp_path / "data", tmp_path / "save", **keys)
    assert "\n" not in str(caught.value)


def test_every_mixture_must_have_the_rate(tmp_path):
    root = write_tree(tmp_path / "wav8k" / "min")
    last = sorted((root / "tr" / "mix").iterdir())[-1]
    soundfile.write(last, np.ones(400), 16000)
    with pytest.raises(InputError, match=f"{last.name}: has 16000 Hz"):
        prepare_wsj0mix(tmp_path, tmp_path / "save")


@pytest.mark.parametrize("kind", ["mix", "s1", "s2"])
def test_every_source_must_be_as_long_as_its_mixture(tmp_path, kind):
    root = write_tree(tmp_path / "wav8k" / "min")
    last = sorted((root / "tr" / kind).iterdir())[-1]
    soundfile.write(last, np.ones(399), 8000)
    with pytest.raises(InputError) as caught:
        prepare_wsj0mix(tmp_path, tmp_path / "save")
    said = "s1/{}: has 400 samples, its mixture 399"
    if kind != "mix":
        said = kind + "/{}: has 399 samples, its mixture 400"
    assert said.format(last.name) in str(caught.value)
    assert not (tmp_path / "save").exists()


def test_training_mixtures_may_be_missing(speech_folder, tmp_path):
    make_data_set(
        speech_folder, tmp_path / "data", num_mixtures=(0, 3, 2), segment_s=0.5
    )
    with pytest.raises(InputError, match="missing .*tr/mix"):
        prepare_wsj0mix(tmp_path / "data", tmp_path / "save")
    for skip_prep in (False, True):
        tables = prepare_wsj0mix(
            tmp_path / "data",
            tmp_path / "save",
            splits=("cv", "tt"),
            skip_prep=skip_prep,
        )
        assert {split: len(read(table)) for split, table in tables.items()} == {
            "cv": 3,
            "tt": 2,
        }
    with pytest.raises(InputError, match="skip_prep: missing .*wsj_tr.csv$"):
        prepare_wsj0mix("absent", tmp_path / "save", skip_prep=True)


def test_tables_can_be_kept(tmp_path):
    write_tree(tmp_path / "wav8k" / "min")
    tables = prepare_wsj0mix(tmp_path, tmp_path / "save")
    tables["tr"].write_text("as it was")
    assert prepare_wsj0mix("absent", tmp_path / "save", skip_prep=True) == (
        tables
    )
    assert tables["tr"].read_text() == "as it was"
