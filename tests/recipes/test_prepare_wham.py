"""CSV files of WHAM! and WHAMR!, of official trees and of broken ones."""

import csv
import logging
import shutil

import numpy as np
import pytest
import soundfile
from recipe_runs import WHAM, load_script

from s4m_sb.errors import InputError

prepare_wham = load_script(WHAM, "prepare_data").prepare_wham

LENGTHS = {"tr": [80, 100, 40], "cv": [50, 60], "tt": [123]}
KINDS = ("mix_both", "mix_clean", "mix_single", "s1", "s2")
# The folders of the official data sets, beside the scripts' own.
OFFICIAL = {
    "wham": (*KINDS, "noise"),
    "whamr": (
        *(
            f"{kind}_{room}"
            for kind in KINDS
            for room in ("anechoic", "reverb")
        ),
        "noise",
    ),
}


def name_of(number):
    return f"011a010{number}_1.23_20aa010b_-1.23.wav"


def write_tree(root, dataset, rate=8000):
    """The folder of a rate and a version, with tiny files of 16 bit."""
    for split, lengths in LENGTHS.items():
        for kind in OFFICIAL[dataset]:
            (root / split / kind).mkdir(parents=True)
            for number, length in enumerate(lengths):
                path = root / split / kind / name_of(number)
                soundfile.write(path, np.ones(length) / 4, rate)
    return root


@pytest.fixture
def wham(tmp_path):
    """WHAM! at 8 kHz, min."""
    return write_tree(tmp_path / "wav8k/min", "wham")


@pytest.fixture
def whamr(tmp_path):
    """WHAMR! at 8 kHz, min."""
    return write_tree(tmp_path / "wav8k/min", "whamr")


def read(table):
    with open(table, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def columns_of(root, split, table):
    """The folder in each column of a table, whose rows must be whole."""
    rows = read(table)
    assert [row["ID"] for row in rows] == [
        name_of(number).removesuffix(".wav")
        for number in range(len(LENGTHS[split]))
    ]
    folders = {}
    for column in list(rows[0])[2:]:
        if column.endswith("_wav"):
            (folder,) = {row[column].split("/")[-2] for row in rows}
            folders[column.removesuffix("_wav")] = folder
            for row in rows:
                path = root / split / folder / f"{row['ID']}.wav"
                assert row[column] == str(path)
    return folders


WHAM_COLUMNS = {
    "mix_both": {"mix": "mix_both", "s1": "s1", "s2": "s2"},
    "mix_clean": {"mix": "mix_clean", "s1": "s1", "s2": "s2"},
    "mix_single": {"mix": "mix_single", "s1": "s1"},
}


@pytest.mark.parametrize("rate, name", [(8000, "wav8k"), (16000, "wav16k")])
@pytest.mark.parametrize("version", ["min", "max"])
@pytest.mark.parametrize("above", ["", "wham"])
def test_official_wham(tmp_path, rate, name, version, above):
    root = tmp_path / "data" / above / name / version
    write_tree(root, "wham", rate)
    for mixture, expected in WHAM_COLUMNS.items():
        tables = prepare_wham(
            tmp_path / "data",
            tmp_path / "save",
            dataset="wham",
            mixture=mixture,
            num_spks=len(expected) - 1,
            sample_rate=rate,
            version=version,
        )
        for split, lengths in LENGTHS.items():
            table = tables[split]
            assert table == tmp_path / "save" / f"wham_{split}.csv"
            assert columns_of(root, split, table) == expected
            durations = [float(row["duration"]) for row in read(table)]
            # six digits are written
            expected_s = [length / rate for length in lengths]
            assert durations == pytest.approx(expected_s, rel=1e-5)


@pytest.mark.parametrize("mixture", KINDS[:3])
@pytest.mark.parametrize("target", ["anechoic", "reverb"])
def test_official_whamr(whamr, tmp_path, mixture, target):
    num_spks = 1 if mixture == "mix_single" else 2
    tables = prepare_wham(
        tmp_path,
        tmp_path / "save",
        dataset="whamr",
        mixture=mixture,
        target=target,
        num_spks=num_spks,
    )
    sources = ["s1", "s2"][:num_spks]
    expected = {"mix": f"{mixture}_reverb"}
    expected |= {source: f"{source}_{target}" for source in sources}
    if target == "anechoic":
        expected |= {
            f"{source}_image": f"{source}_reverb" for source in sources
        }
    for split in LENGTHS:  # the same target in each
        assert tables[split].name == f"whamr_{split}.csv"
        assert columns_of(whamr, split, tables[split]) == expected


@pytest.mark.parametrize("mixture", ["mix_both", "mix_clean"])
def test_whamr_has_what_wham_has(whamr, tmp_path, mixture):
    tables = prepare_wham(tmp_path, tmp_path / "save", mixture=mixture)
    assert columns_of(whamr, "cv", tables["cv"]) == {
        "mix": f"{mixture}_anechoic",
        "s1": "s1_anechoic",
        "s2": "s2_anechoic",
    }


def test_counts_are_reported_beside_the_official_ones(wham, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        prepare_wham(tmp_path, tmp_path / "save")
    assert (
        "wham_tr.csv: mix_both, 3 mixtures of 2 speakers (20000 in the "
        "official WHAM!)"
    ) in caplog.text


# ------------------------------------------------------ reverberation times


def rt60_in(table):
    return [row.get("rt60_s") for row in read(table)]


def test_reverberation_times_of_s4m_mix(whamr, tmp_path):
    # One row a piece of a source, as `s4m mix` writes them.
    lines = ["split,mixture,source,rt60_s\n"]
    for split, lengths in LENGTHS.items():
        for number in range(len(lengths)):
            stem = name_of(number).removesuffix(".wav")
            for source in ("s1", "s2"):
                lines.append(
                    f"{split},{stem},{source},0.{len(lengths)}{number}\n"
                )
    (whamr / "metadata.csv").write_text("".join(lines))
    tables = prepare_wham(tmp_path, tmp_path / "save", dataset="whamr")
    assert rt60_in(tables["tr"]) == ["0.30", "0.31", "0.32"]
    assert rt60_in(tables["cv"]) == ["0.20", "0.21"]
    # Without reverberation they mean nothing.
    tables = prepare_wham(tmp_path, tmp_path / "save", dataset="wham")
    assert rt60_in(tables["tr"]) == [None] * 3


def write_params(folder, names, header="utterance_id,room_x,T60"):
    folder.mkdir(exist_ok=True)
    for split in LENGTHS:
        rows = [f"{name},5.1,0.{i + 1}" for i, name in enumerate(names)]
        text = "\n".join([header, *rows])
        (folder / f"reverb_params_{split}.csv").write_text(text)
    return folder


def test_reverberation_times_of_whamr(whamr, tmp_path):
    kwargs = {"save_folder": tmp_path / "save", "dataset": "whamr"}
    tables = prepare_wham(tmp_path, **kwargs)
    assert rt60_in(tables["tr"]) == [None] * 3  # nobody knows them
    params = write_params(tmp_path / "data", [name_of(1), name_of(0)])
    tables = prepare_wham(tmp_path, **kwargs, reverb_params=params)
    assert rt60_in(tables["tr"]) == ["0.2", "0.1", "nan"]
    assert rt60_in(tables["tt"]) == ["0.2"]


@pytest.mark.parametrize(
    "names, header, message",
    [
        (["a.wav"], "utterance_id,room_x,T60", "names none of them"),
        (
            [name_of(0)],
            "utterance_id,room_x,RT",
            "columns utterance_id and T60",
        ),
        ([name_of(0)], "utterance_id,T60,x", None),
        ([], "", "names none of them"),
    ],
)
def test_unusable_reverberation_times(whamr, tmp_path, names, header, message):
    params = write_params(tmp_path / "data", names, header)
    kwargs = {"dataset": "whamr", "reverb_params": params}
    if message is None:  # the column holds 5.1, as the room's length
        tables = prepare_wham(tmp_path, tmp_path / "save", **kwargs)
        assert rt60_in(tables["tr"])[0] == "5.1"
        return
    with pytest.raises(InputError, match=message):
        prepare_wham(tmp_path, tmp_path / "save", **kwargs)


@pytest.mark.parametrize("rt60", ["none", "-0.1", "0", "inf"])
def test_a_reverberation_time_is_in_seconds(whamr, tmp_path, rt60):
    stem = name_of(0).removesuffix(".wav")
    text = f"split,mixture,rt60_s\ntr,{stem},{rt60}\n"
    (whamr / "metadata.csv").write_text(text)
    with pytest.raises(InputError, match=f"metadata.csv: .* is '{rt60}'"):
        prepare_wham(tmp_path, tmp_path / "save", dataset="whamr")


def test_every_split_has_its_reverb_params(whamr, tmp_path):
    params = write_params(tmp_path / "data", [name_of(0)])
    (params / "reverb_params_cv.csv").unlink()
    kwargs = {"dataset": "whamr", "reverb_params": params}
    with pytest.raises(InputError, match="reverb_params: missing .*_cv.csv$"):
        prepare_wham(tmp_path, tmp_path / "save", **kwargs)


# ------------------------------------------------------------ broken trees


def test_every_missing_folder_is_named_at_once(whamr, tmp_path):
    gone = [
        whamr / split / kind
        for split, kind in (
            ("tr", "mix_both_reverb"),
            ("cv", "s2_anechoic"),
            ("tt", "s1_reverb"),
        )
    ]
    for folder in gone:
        shutil.rmtree(folder)
    for folder in ("tr/mix_clean_reverb", "tt/mix_both_anechoic", "tr/noise"):
        shutil.rmtree(whamr / folder)  # they are not needed
    with pytest.raises(InputError) as caught:
        prepare_wham(tmp_path, tmp_path / "save", dataset="whamr")
    listed = ", ".join(str(folder) for folder in gone)
    assert str(caught.value) == f"data_folder: missing {listed}"
    assert not (tmp_path / "save").exists()


def test_wham_is_not_taken_for_whamr(wham, tmp_path):
    with pytest.raises(InputError) as caught:
        prepare_wham(tmp_path, tmp_path / "save", dataset="whamr")
    for kind in ("mix_both_reverb", "s1_anechoic", "s2_reverb"):
        assert str(wham / "tr" / kind) in str(caught.value)


def first(root, kind):
    return sorted((root / "tr" / kind).iterdir())[0]


@pytest.mark.parametrize(
    "break_it, keys, message",
    [
        (None, {"dataset": "wsj"}, "dataset is 'wsj'; use one of wham, whamr"),
        (None, {"mixture": "mix"}, "mixture is 'mix'; use one of mix_clean"),
        (None, {"target": "dry"}, "target is 'dry'; use one of anechoic, rev"),
        (None, {"target": "reverb"}, "wham has no reverberation"),
        (None, {"reverb_params": "/data"}, "reverb_params: dataset wham has"),
        (None, {"mixture": "mix_single"}, "num_spks is 2; in mix_single there"),
        (None, {"num_spks": 1}, "num_spks is 1; at least 2 are separated"),
        (None, {"num_spks": 3}, "missing .*/tr/s3"),
        (None, {"version": "max"}, "missing .*max/tr/mix_both, "),
        (None, {"version": "mid"}, "version is 'mid'"),
        (None, {"sample_rate": 16000}, "holds neither wav16k nor wham/wav16k"),
        (
            None,
            {"splits": ["train"]},
            r"splits is \['train'\]; give some of tr",
        ),
        (None, {"skip_prep": True}, "skip_prep: missing .*wham_tr.csv"),
        (
            lambda r: shutil.rmtree(r / "cv"),
            {},
            "missing .*cv/mix_both, .*cv/s1",
        ),
        (
            lambda r: (r / "cv/s3").mkdir(),
            {},
            "cv/s3: the mixtures have more sources than num_spks = 2",
        ),
        (lambda r: first(r, "s2").unlink(), {}, r"1 not in s2 \(011a0100"),
        (
            lambda r: soundfile.write(r / "cv/s1/x.wav", np.ones(9), 8000),
            {},
            r"cv: mix_both and s1 .* 1 only in s1 \(x.wav\)",
        ),
        (
            lambda r: soundfile.write(first(r, "s1"), np.ones(80), 16000),
            {},
            "has 16000 Hz, but sample_rate is 8000",
        ),
        (
            lambda r: soundfile.write(first(r, "s2"), np.ones(70), 8000),
            {},
            "s2/.*has 70 samples, its mixture 80",
        ),
        (lambda r: first(r, "mix_both").write_bytes(b""), {}, "wav: is empty"),
        (
            lambda r: [path.unlink() for path in r.glob("tt/mix_both/*")],
            {},
            "tt/mix_both: holds no .wav files",
        ),
    ],
)
def test_unusable_trees_are_refused(wham, tmp_path, break_it, keys, message):
    if break_it is not None:
        break_it(wham)
    with pytest.raises(InputError, match=message) as caught:
        prepare_wham(tmp_path, tmp_path / "save", **keys)
    assert "\n" not in str(caught.value)


def test_images_must_be_as_long_as_the_mixture(whamr, tmp_path):
    soundfile.write(first(whamr, "s2_reverb"), np.ones(79), 8000)
    with pytest.raises(InputError, match="s2_reverb/.*has 79 samples, its mix"):
        prepare_wham(tmp_path, tmp_path / "save", dataset="whamr")
    kwargs = {"dataset": "whamr", "mixture": "mix_single", "num_spks": 1}
    prepare_wham(tmp_path, tmp_path / "save", **kwargs)  # has no s2


def test_tables_can_be_kept_and_splits_left_out(wham, tmp_path):
    shutil.rmtree(wham / "tr")
    for skip_prep in (False, True):
        tables = prepare_wham(
            tmp_path,
            tmp_path / "save",
            splits=("cv", "tt"),
            skip_prep=skip_prep,
        )
        assert {split: len(read(table)) for split, table in tables.items()} == {
            "cv": 2,
            "tt": 1,
        }
