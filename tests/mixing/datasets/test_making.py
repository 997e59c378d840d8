"""Data sets on disk: the layout, the exact sum, and the same bytes again."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from data_sets import (
    contents,
    draw_on_the_fly,
    make_data_set,
    mixtures_of,
    rows_of,
)
from torchaudio.functional import loudness

from s4m_sb.errors import InputError
from s4m_sb.mixing.corpus import read_corpus, source_splits
from s4m_sb.mixing.datasets.making import (
    MANIFEST,
    NOISE_MANIFEST,
    remake_mix_dataset,
)

COUNTS = (5, 3, 2)
SPLITS = dict(zip(("tr", "cv", "tt"), COUNTS, strict=True))
SETTINGS = {"num_mixtures": COUNTS, "segment_s": 0.5, "seed": 3}


def listed(made):
    """The manifest's utterances by split and speaker."""
    said = {}
    for split in source_splits(made / MANIFEST):
        corpus = read_corpus(made / MANIFEST, split)
        said[split] = {
            speaker: {Path(utterance.path) for utterance in spoken}
            for speaker, spoken in corpus.speakers.items()
        }
    return said


@pytest.fixture(scope="module")
def made(speech_folder, tmp_path_factory):
    """A data set that the tests read and do not change."""
    output = tmp_path_factory.mktemp("made")
    return make_data_set(speech_folder, output, **SETTINGS)


@pytest.fixture()
def flat_speech(tmp_path):
    """Twenty speakers, with no word about splits."""
    rng = np.random.default_rng(0)
    for speaker in range(20):
        folder = tmp_path / "flat" / f"{speaker:02d}"
        folder.mkdir(parents=True)
        noise = rng.uniform(-0.5, 0.5, 4000)
        soundfile.write(folder / "1.wav", noise, 8000)
    return tmp_path / "flat"


# What is made


@pytest.mark.parametrize("num_spks", [2, 3])
@pytest.mark.parametrize("rate, folder", [(8000, "wav8k"), (16000, "wav16k")])
def test_layout_and_exact_sum(speech_folder, tmp_path, num_spks, rate, folder):
    made = make_data_set(
        speech_folder,
        tmp_path,
        num_spks=num_spks,
        sample_rate=rate,
        **SETTINGS,
    )
    assert made == tmp_path / folder / "min"
    kinds = ["mix", "s1", "s2", "s3"][: num_spks + 1]
    for split, count in SPLITS.items():
        assert sorted(path.name for path in (made / split).iterdir()) == kinds
        names = sorted(path.name for path in (made / split / "mix").iterdir())
        assert len(names) == count
        for name in names:
            signals = {}
            for kind in kinds:
                signals[kind], rate_there = soundfile.read(
                    made / split / kind / name, dtype="float32"
                )
                assert rate_there == rate
                assert signals[kind].shape == (rate // 2,)
                assert np.abs(signals[kind]).mean() > 1e-3
            total = signals["s1"]
            for kind in kinds[2:]:
                total = total + signals[kind]
            np.testing.assert_array_equal(signals["mix"], total)


def test_names_sort_and_tell_the_levels(made):
    for split in SPLITS:
        names = sorted(path.stem for path in (made / split / "mix").iterdir())
        for index, name in enumerate(names):
            number, *parts = name.split("_talker")
            assert number == f"{index:06d}" and len(parts) == 2
            levels = []
            for kind, part in zip(("s1", "s2"), parts, strict=True):
                level_db = float(part.split("_")[1])
                path = made / split / kind / f"{name}.wav"
                levels.append(
                    (
                        level_db,
                        20 * np.log10(np.abs(soundfile.read(path)[0]).mean()),
                    )
                )
            (one, measured_one), (other, measured_other) = levels
            assert one == pytest.approx(-other)
            assert abs(one - other) <= 5.01
            assert one - other == pytest.approx(
                measured_one - measured_other,
                abs=0.011,  # two decimals stand in the name
            )


def test_speakers_come_from_their_split(made):
    speakers = {"tr": range(1, 7), "cv": range(7, 11), "tt": range(11, 15)}
    rows = rows_of(made)
    for split, numbers in speakers.items():
        said = {row["speaker"] for row in rows if row["split"] == split}
        assert said <= {f"talker{number:02d}" for number in numbers}
    mixtures = {}
    for row in rows:
        key = row["split"], row["mixture"]
        mixtures.setdefault(key, set()).add((row["source"], row["speaker"]))
    assert len(mixtures) == sum(COUNTS)
    for sources in mixtures.values():
        assert len(sources) == len({speaker for _, speaker in sources}) == 2


@pytest.mark.parametrize("names", [("train", "valid", "test"), tuple(SPLITS)])
def test_a_split_can_be_left_out(speech_folder, tmp_path, names):
    speech = tmp_path / "speech"
    shutil.copytree(speech_folder / "test", speech / names[2])
    made = make_data_set(
        speech, tmp_path / "out", num_mixtures=(0, 0, 2), segment_s=0.5
    )
    assert [path.name for path in made.iterdir() if path.is_dir()] == ["tt"]


def test_without_a_length_the_shortest_utterance_decides(
    speech_folder, tmp_path
):
    made = make_data_set(speech_folder, tmp_path, num_mixtures=(0, 0, 2))
    for path in made.glob("tt/*/*.wav"):
        assert soundfile.info(path).frames == 3 * 8000


def test_a_manifest_gives_what_its_folder_gives(speech_folder, tmp_path, made):
    manifest = speech_folder.parent / "manifest.csv"
    lines = ["file,speaker,split"]
    for path in speech_folder.rglob("talker*.*"):
        split, speaker, _ = path.relative_to(speech_folder).parts
        place = path.relative_to(speech_folder.parent).as_posix()
        lines.append(f"{place},{speaker},{split}")
    manifest.write_text("\n".join(lines) + "\n")
    listed = make_data_set(manifest, tmp_path, **SETTINGS)
    ours, theirs = contents(listed), contents(made)
    assert {name: data for name, data in ours.items() if ".wav" in name} == {
        name: data for name, data in theirs.items() if ".wav" in name
    }


def test_speakers_are_divided_where_nothing_is_said(flat_speech, tmp_path):
    divisions = []
    for seed, counts in ((1, (40, 3, 3)), (1, (0, 3, 3)), (2, (4, 3, 3))):
        output = tmp_path / f"{seed}-{counts[0]}"
        made = make_data_set(
            flat_speech, output, num_mixtures=counts, seed=seed
        )
        division = {split: set() for split in SPLITS}
        for row in rows_of(made):
            division[row["split"]].add(row["speaker"])
        divisions.append(division)
    for division in divisions:
        assert not division["tr"] & division["cv"]
        assert not division["tr"] & division["tt"]
        assert not division["cv"] & division["tt"]
        assert len(division["cv"]) == len(division["tt"]) == 2
    assert len(divisions[0]["tr"]) == 16
    # The same speakers are held out, whatever is made of the others.
    assert divisions[1]["cv"] == divisions[0]["cv"]
    assert divisions[2]["cv"] != divisions[0]["cv"]


def test_a_speaker_in_two_splits_is_told(speech_folder, tmp_path, caplog):
    speech = shutil.copytree(speech_folder, tmp_path / "speech")
    shutil.copytree(speech / "train" / "talker01", speech / "test" / "talker01")
    make_data_set(speech, tmp_path / "out", **SETTINGS)
    assert "tr and tt share 1 speakers (talker01" in caplog.text


# The manifest of the division


def test_dynamic_mixing_meets_no_speaker_held_out(flat_speech, tmp_path):
    made = make_data_set(
        flat_speech, tmp_path / "out", num_mixtures=(0, 20, 20), seed=5
    )
    held_out = {row["speaker"] for row in rows_of(made)}
    assert len(held_out) == 4
    mixtures = draw_on_the_fly(
        made / MANIFEST,
        num_mixtures=150,
        num_spks=2,
        sample_rate=8000,
        segment_s=0.1,
        split="train",
    )
    drawn = {
        source.speaker
        for index in range(len(mixtures))
        for source in mixtures.draw(index).plan.sources
    }
    everyone = {path.name for path in flat_speech.iterdir()}
    assert drawn == everyone - held_out


@pytest.mark.parametrize("counts", [(3, 3, 3), (0, 3, 3), (0, 0, 3)])
def test_every_speaker_is_listed_once(flat_speech, tmp_path, counts):
    made = make_data_set(flat_speech, tmp_path / "out", num_mixtures=counts)
    said = listed(made)
    assert [len(said[name]) for name in ("train", "valid", "test")] == [
        16,
        2,
        2,
    ]
    paths = [path for split in said.values() for path in split.values()]
    assert set.union(*paths) == set(flat_speech.rglob("*.wav"))
    # The split of a mixture is that of its speakers in the manifest.
    names = {"tr": "train", "cv": "valid", "tt": "test"}
    for row in rows_of(made):
        assert row["speaker"] in said[names[row["split"]]]


def test_folders_and_manifests_are_listed_with_their_splits(
    speech_folder, tmp_path, monkeypatch
):
    expected = {
        split.name: {
            speaker.name: set(speaker.iterdir()) for speaker in split.iterdir()
        }
        for split in speech_folder.iterdir()
    }
    monkeypatch.chdir(speech_folder.parent)  # relative sources
    made = make_data_set(
        speech_folder.name, tmp_path / "folder", num_mixtures=(0, 1, 1)
    )
    assert listed(made) == expected
    lines = ["path,speaker,split"]
    for split, speakers in expected.items():
        for speaker, paths in speakers.items():
            lines += [
                f"{path.relative_to(speech_folder)},{speaker},{split}"
                for path in paths
            ]
    (speech_folder / "list.csv").write_text("\n".join(lines))
    try:
        made = make_data_set(
            speech_folder / "list.csv",
            tmp_path / "list",
            num_mixtures=(1, 0, 0),
        )
    finally:
        (speech_folder / "list.csv").unlink()
    assert listed(made) == expected


def test_speaker_codes_are_listed_as_speakers(speech_folder, tmp_path):
    speech = tmp_path / "speech"
    for path in speech_folder.rglob("talker*.*"):
        _, _, name = path.relative_to(speech_folder).parts
        speech.mkdir(exist_ok=True)
        shutil.copy(
            path, speech / name.removeprefix("talker").replace("_", "a")
        )
    made = make_data_set(
        speech,
        tmp_path / "out",
        num_mixtures=(0, 1, 1),
        speaker_from="wsj0",
    )
    said = listed(made)
    assert sorted(speaker for split in said.values() for speaker in split) == [
        f"{number:02d}a" for number in range(1, 15)
    ]


def test_a_bad_split_that_is_left_out_is_told(speech_folder, tmp_path, caplog):
    speech = shutil.copytree(speech_folder, tmp_path / "speech")
    shutil.rmtree(speech / "train")
    (speech / "train").mkdir()
    made = make_data_set(speech, tmp_path / "out", num_mixtures=(0, 1, 1))
    assert listed(made).keys() == {"valid", "test"}
    assert "speech.csv goes without tr" in caplog.text


def test_a_lost_manifest_is_written_again(flat_speech, tmp_path):
    keys = {"num_mixtures": (1, 1, 1), "seed": 2}
    made = make_data_set(flat_speech, tmp_path / "out", **keys)
    before = contents(made)
    (made / MANIFEST).unlink()
    make_data_set(flat_speech, tmp_path / "out", **keys)
    assert contents(made) == before
    # Of the speech that was moved, too.
    moved = flat_speech.rename(tmp_path / "moved")
    make_data_set(moved, tmp_path / "out", **keys)
    paths = [path for split in listed(made).values() for path in split.values()]
    assert set.union(*paths) == set(moved.rglob("*.wav"))


def test_metadata_lists_the_speech_it_names(flat_speech, tmp_path):
    made = make_data_set(flat_speech, tmp_path / "out", num_mixtures=(4, 3, 3))
    again = remake_mix_dataset(
        made / "metadata.csv", flat_speech, tmp_path / "again"
    )
    ours, theirs = listed(again), listed(made)
    for split in ("train", "valid", "test"):
        assert ours[split].items() <= theirs[split].items()
    named = {row["file"] for row in rows_of(made)}
    paths = [path for split in ours.values() for path in split.values()]
    assert set.union(*paths) == {flat_speech / name for name in named}


# The same again


@pytest.mark.parametrize("num_jobs", [1, 2, 3])
def test_one_seed_gives_the_same_bytes(speech_folder, tmp_path, made, num_jobs):
    again = make_data_set(
        speech_folder, tmp_path, num_jobs=num_jobs, **SETTINGS
    )
    assert contents(again) == contents(made)
    # Three signals of every mixture, metadata, manifest and settings.
    assert len(contents(again)) == 3 * sum(COUNTS) + 3


def test_another_seed_gives_other_mixtures(speech_folder, tmp_path, made):
    other = make_data_set(speech_folder, tmp_path, **{**SETTINGS, "seed": 4})
    ours = {data for name, data in contents(other).items() if ".wav" in name}
    theirs = {data for name, data in contents(made).items() if ".wav" in name}
    assert len(ours) == 3 * sum(COUNTS) and not ours & theirs


@pytest.mark.parametrize("num_jobs", [1, 2])
def test_metadata_makes_the_same_bytes(speech_folder, tmp_path, made, num_jobs):
    moved = shutil.copytree(speech_folder, tmp_path / "moved")
    again = remake_mix_dataset(
        made / "metadata.csv", moved, tmp_path / "out", num_jobs=num_jobs
    )
    assert mixtures_of(contents(again)) == mixtures_of(contents(made))


# Over noise and in rooms

KINDS = {
    "noise": {"noise": True},
    "noise and rooms": {"noise": True, "reverb": True},
    "rooms": {"reverb": True},
}


@pytest.fixture(scope="module")
def make_kind(speech_folder, noise_folder):
    """Makes a data set of a kind."""

    def make(kind, output, **keys):
        keys = {**SETTINGS, **KINDS[kind], **keys}
        if "noise" in keys:
            keys["noise"] = noise_folder
        return make_data_set(speech_folder, output, **keys)

    return make


@pytest.fixture(scope="module")
def remake_from(speech_folder, noise_folder, tmp_path_factory):
    """Makes a data set again, from speech and noise that were moved."""
    moved = tmp_path_factory.mktemp("moved")
    shutil.copytree(speech_folder, moved / "speech")
    shutil.copytree(noise_folder, moved / "noise")

    def remake(made, output, **keys):
        if (made / NOISE_MANIFEST).exists():
            keys["noise"] = moved / "noise"
        return remake_mix_dataset(
            made / "metadata.csv", moved / "speech", output, **keys
        )

    return remake


@pytest.fixture(scope="module")
def kinds(make_kind, tmp_path_factory):
    """A data set of each kind that the tests read and do not change."""
    return {
        kind: make_kind(kind, tmp_path_factory.mktemp("kind")) for kind in KINDS
    }


def read_all(folder, name):
    """Every signal of a mixture by its folder."""
    found = {}
    for kind in folder.iterdir():
        found[kind.name], rate = soundfile.read(
            kind / f"{name}.wav", dtype="float32"
        )
        assert rate == 8000
    return found


def names_of(folder):
    (names,) = {
        tuple(sorted(path.stem for path in kind.iterdir()))
        for kind in folder.iterdir()
    }
    return names


def added(*signals):
    """The sum in the order of the arguments, in float32."""
    total = signals[0]
    for signal in signals[1:]:
        total = total + signal
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_sums_are_exact(kinds, kind):
    noisy = "noise" in KINDS[kind]
    suffixes = ("_anechoic", "_reverb") if "reverb" in KINDS[kind] else ("",)
    for split, count in SPLITS.items():
        names = names_of(kinds[kind] / split)
        assert len(names) == count
        for name in names:
            found = read_all(kinds[kind] / split, name)
            assert {len(signal) for signal in found.values()} == {4000}
            peaks = [np.abs(signal).max() for signal in found.values()]
            assert max(peaks) == pytest.approx(0.9)
            assert min(np.abs(x).mean() for x in found.values()) > 1e-4
            noise = found.pop("noise") if noisy else None
            for suffix in suffixes:
                s1, s2 = found.pop(f"s1{suffix}"), found.pop(f"s2{suffix}")
                sums = {"mix_clean": added(s1, s2)}
                if noisy:
                    sums["mix_both"] = added(s1, s2, noise)
                    sums["mix_single"] = added(s1, noise)
                for mixture, total in sums.items():
                    np.testing.assert_array_equal(
                        found.pop(mixture + suffix), total
                    )
            assert not found


@pytest.mark.parametrize("num_spks", [1, 3])
def test_one_or_three_speakers_in_noise(
    make_kind, remake_from, tmp_path, num_spks
):
    keys = {"num_spks": num_spks, "num_mixtures": (0, 0, 2)}
    made = make_kind("noise", tmp_path / "made", **keys)
    for name in names_of(made / "tt"):
        found = read_all(made / "tt", name)
        said = [found[f"s{n + 1}"] for n in range(num_spks)]
        for mixture, parts in {
            "mix_both": said,
            "mix_single": said[:1],
        }.items():
            np.testing.assert_array_equal(
                found[mixture], added(*parts, found["noise"])
            )
    again = remake_from(made, tmp_path / "again")
    assert mixtures_of(contents(again)) == mixtures_of(contents(made))


@pytest.mark.parametrize("kind", KINDS)
def test_the_speech_is_the_same_as_alone(kinds, made, kind):
    alone = rows_of(made)
    said = [row for row in rows_of(kinds[kind]) if row["source"] != "noise"]
    assert [{key: row[key] for key in alone[0]} for row in said] == alone


def test_speech_alone_has_nothing_of_noise_beside_it(made):
    first = (made / "metadata.csv").read_text().splitlines()[0]
    assert first == (
        "split,mixture,source,speaker,file,start,num_frames,sample_rate,"
        "level_db"
    )
    assert "noise" not in (made / "settings.json").read_text()
    assert not (made / NOISE_MANIFEST).exists()


def test_noise_comes_from_its_split(kinds, noise_folder):
    splits = {"tr": "train", "cv": "valid", "tt": "test"}
    rows = rows_of(kinds["noise"])
    heard = [row for row in rows if row["source"] == "noise"]
    assert {(row["split"], row["mixture"]) for row in heard} == {
        (row["split"], row["mixture"]) for row in rows
    }
    for row in heard:
        assert Path(row["file"]).parts[0] == splits[row["split"]]
        assert -6 <= float(row["snr_db"]) <= 3
        assert row["speaker"] == row["level_db"] == ""
    assert len({row["snr_db"] for row in heard}) == sum(COUNTS)
    # Dynamic mixing finds it divided likewise.
    for name in splits.values():
        listed = read_corpus(
            kinds["noise"] / NOISE_MANIFEST, name, "file", kind="noise"
        )
        found = {
            Path(recording.path)
            for recordings in listed.speakers.values()
            for recording in recordings
        }
        assert found == set((noise_folder / name).iterdir())


def test_noise_is_as_loud_as_the_metadata_say(kinds):
    for row in rows_of(kinds["noise and rooms"]):
        if row["source"] != "noise":
            continue
        found = read_all(
            kinds["noise and rooms"] / row["split"], row["mixture"]
        )
        # Softer, as torchaudio's loudness filters clip at full scale.
        s1_db, s2_db, noise_db = (
            float(loudness(torch.from_numpy(found[name])[None] / 10, 8000))
            for name in ("s1_anechoic", "s2_anechoic", "noise")
        )
        # In float32, and scaled since the noise was.
        assert max(s1_db, s2_db) - noise_db == pytest.approx(
            float(row["snr_db"]), abs=1e-3
        )


def test_a_range_of_levels_of_noise(make_kind, tmp_path):
    made = make_kind("noise", tmp_path, snr_range_db=(20, 20))
    levels = {row["snr_db"] for row in rows_of(made)}
    assert levels == {"", "20.0"}


@pytest.mark.parametrize("kind", ["noise and rooms", "rooms"])
def test_metadata_tell_of_the_rooms(kinds, kind):
    rooms = {}
    for row in rows_of(kinds[kind]):
        size = tuple(float(row[f"room_{axis}_m"]) for axis in "xyz")
        microphone = tuple(float(row[f"microphone_{axis}_m"]) for axis in "xyz")
        rt60_s = float(row["rt60_s"])
        assert 5 <= min(size[:2]) and max(size[:2]) <= 10
        assert 0.1 <= rt60_s <= 1
        rooms.setdefault((row["split"], row["mixture"]), set()).add(
            (size, microphone, rt60_s)
        )
        if row["source"] == "noise":  # from everywhere
            assert row["source_x_m"] == row["distance_m"] == ""
            continue
        source = [float(row[f"source_{axis}_m"]) for axis in "xyz"]
        # Four digits of each are written.
        assert float(row["distance_m"]) == pytest.approx(
            np.linalg.norm(np.subtract(source, microphone)), abs=1e-4
        )
    # One room a mixture, and no room twice: the splits share none.
    assert len(rooms) == sum(COUNTS)
    assert {len(found) for found in rooms.values()} == {1}
    assert len(set.union(*rooms.values())) == sum(COUNTS)


@pytest.mark.parametrize("num_jobs", [2, 3])
def test_noise_and_rooms_are_the_same_for_all_jobs(
    make_kind, kinds, tmp_path, num_jobs
):
    again = make_kind("noise and rooms", tmp_path, num_jobs=num_jobs)
    assert contents(again) == contents(kinds["noise and rooms"])
    # Eleven signals, metadata, two manifests and settings.
    assert len(contents(again)) == 11 * sum(COUNTS) + 4


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_make_noise_and_rooms_again(
    remake_from, kinds, tmp_path, kind
):
    again = remake_from(kinds[kind], tmp_path, num_jobs=2)
    assert mixtures_of(contents(again)) == mixtures_of(contents(kinds[kind]))
    if "noise" in KINDS[kind]:
        listed = source_splits(again / NOISE_MANIFEST)
        assert listed == {"train", "valid", "test"}


# What is refused


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"seed": 4}, "made with seed 3, now it is 4"),
        ({"num_mixtures": (5, 3, 3)}, r"made with count \[5, 3, 2\], now"),
        ({"segment_s": None}, "made with length 0.5, now it is None"),
        ({"level_range_db": (0, 0)}, r"made with levels \[-5.0, 5.0\]"),
        ({"num_spks": 3}, "made with num_spks 2, now it is 3"),
        ({"reverb": True}, "made with reverb None, now it is True"),
    ],
)
def test_other_settings_for_the_same_folder(speech_folder, made, keys, message):
    before = contents(made)
    with pytest.raises(InputError, match=message):
        make_data_set(speech_folder, made.parents[1], **{**SETTINGS, **keys})
    assert contents(made) == before


def test_other_speech_or_metadata_for_the_same_folder(
    speech_folder, tmp_path, made
):
    speech = shutil.copytree(speech_folder, tmp_path / "speech")
    next((speech / "train" / "talker01").iterdir()).unlink()
    with pytest.raises(InputError, match="with speech 42 utterances of 14"):
        make_data_set(speech, made.parents[1], **SETTINGS)
    with pytest.raises(InputError, match="made with metadata None"):
        remake_mix_dataset(
            made / "metadata.csv", speech_folder, made.parents[1]
        )


def test_other_noise_for_the_same_folder(make_kind, kinds, speech_folder):
    output = kinds["noise"].parents[1]
    with pytest.raises(InputError, match="noise 7 recordings .*, now it is No"):
        make_data_set(speech_folder, output, **SETTINGS)
    with pytest.raises(InputError, match=r"made with snr \[-6.0, 3.0\], now"):
        make_kind("noise", output, snr_range_db=(0, 3))


def test_noise_that_cannot_be_used(speech_folder, noise_folder, tmp_path):
    with pytest.raises(InputError, match="out: lies inside the noise"):
        make_data_set(speech_folder, noise_folder / "out", noise=noise_folder)
    with pytest.raises(InputError, match=r"snr_range_db is \[3, -3\]"):
        make_data_set(
            speech_folder, tmp_path, noise=noise_folder, snr_range_db=(3, -3)
        )
    assert not list(tmp_path.iterdir())


def test_noise_of_metadata_has_to_be_there(
    speech_folder, noise_folder, tmp_path, made, kinds
):
    table = kinds["noise"] / "metadata.csv"
    with pytest.raises(InputError, match="is noise; say where the noise is"):
        remake_mix_dataset(table, speech_folder, tmp_path)
    with pytest.raises(InputError, match="absent: no such folder of noise"):
        remake_mix_dataset(
            table, speech_folder, tmp_path, noise=tmp_path / "absent"
        )
    with pytest.raises(InputError, match="has no noise; leave .*noise"):
        remake_mix_dataset(
            made / "metadata.csv", speech_folder, tmp_path, noise=noise_folder
        )
    assert not list(tmp_path.iterdir())


def test_two_rates_share_a_folder(speech_folder, tmp_path):
    for rate in (8000, 16000):
        make_data_set(speech_folder, tmp_path, sample_rate=rate, **SETTINGS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "wav16k",
        "wav8k",
    ]


def test_an_official_tree_is_not_written_over(speech_folder, tmp_path):
    path = tmp_path / "wav8k" / "min" / "tr" / "mix" / "011a0101.wav"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match="holds other files and no settings"):
        make_data_set(speech_folder, tmp_path, **SETTINGS)
    assert contents(tmp_path) == {"wav8k/min/tr/mix/011a0101.wav": b"precious"}


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"num_mixtures": (0, 0, 0)}, "not all of them 0"),
        ({"num_mixtures": (1, -1, 0)}, r"num_mixtures is \[1, -1, 0\]"),
        ({"num_mixtures": (1, 1)}, r"num_mixtures is \[1, 1\]; give three"),
        ({"seed": -1}, "seed is -1"),
        ({"num_jobs": 0}, "num_jobs is 0"),
        ({"num_spks": 5}, "valid: holds 4 speakers with 0.5 s"),
        ({"segment_s": 20}, "train: holds 0 speakers with 20 s of speech"),
        ({"level_range_db": (3, 1)}, r"level_range_db is \[3, 1\]"),
        ({"speaker_from": "cab"}, "speaker_from is 'cab'"),
        ({"num_spks": 1}, "num_spks is 1; at least 2 can be mixed"),
        ({"noise": "absent"}, "absent: no such folder of noise"),
    ],
)
def test_bad_values_are_refused(speech_folder, tmp_path, keys, message):
    with pytest.raises(InputError, match=message):
        make_data_set(speech_folder, tmp_path, **{**SETTINGS, **keys})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "keys",
    [
        {"speed_range": (0.9, 1.1)},
        {"filter_range_db": (-6, 6)},
        {"noise_probability": 0.5},
        {"room_probability": 0.5},
    ],
)
def test_what_the_metadata_cannot_tell_is_refused(
    speech_folder, tmp_path, keys
):
    (name,) = keys
    with pytest.raises(InputError, match=f"{name} is .* metadata.csv does not"):
        make_data_set(speech_folder, tmp_path, **SETTINGS, **keys)
    assert not list(tmp_path.iterdir())


def test_unusable_folders_are_refused(speech_folder, flat_speech, tmp_path):
    with pytest.raises(InputError, match="no such folder of speech"):
        make_data_set(tmp_path / "absent", tmp_path / "out")
    with pytest.raises(InputError, match="absent: no such folder of speech"):
        remake_mix_dataset("any.csv", tmp_path / "absent", tmp_path / "out")
    with pytest.raises(InputError, match="lies inside the speech"):
        make_data_set(speech_folder, speech_folder / "out")
    with pytest.raises(InputError, match="20 speakers; .* at least 21 are"):
        make_data_set(flat_speech, tmp_path / "out", num_spks=7)
    speech = shutil.copytree(speech_folder, tmp_path / "speech")
    (speech / "tt").mkdir()
    with pytest.raises(InputError, match="both 'test' and 'tt'"):
        make_data_set(speech, tmp_path / "out")
    shutil.rmtree(speech / "tt")
    shutil.rmtree(speech / "valid")
    with pytest.raises(InputError, match="test, train but none for cv"):
        make_data_set(speech, tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file.*: cannot be used"):
        make_data_set(speech_folder, tmp_path / "file", **SETTINGS)


@pytest.mark.parametrize(
    "column, value, message",
    [
        ("split", "dev", "has the splits dev; only tr, cv, tt are known"),
        ("sample_rate", "16000", "different sample rates: 8000, 16000"),
    ],
)
def test_mixed_metadata_is_refused(
    speech_folder, tmp_path, made, column, value, message
):
    rows = rows_of(made)
    for row in rows:
        if row["mixture"] == rows[0]["mixture"]:
            row[column] = value
    table = tmp_path / "metadata.csv"
    with open(table, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(InputError, match=message):
        remake_mix_dataset(table, speech_folder, tmp_path / "out")


def test_mini_speech(mini_speech, tmp_path):
    made = make_data_set(
        mini_speech / "manifest.csv",
        tmp_path,
        num_mixtures=(4, 2, 2),
        segment_s=2,
        num_jobs=2,
    )
    splits = {"tr": "train", "cv": "valid", "tt": "test"}
    rows = rows_of(made)
    for split, name in splits.items():
        speakers = read_corpus(mini_speech / "manifest.csv", name).speakers
        said = {row["speaker"] for row in rows if row["split"] == split}
        assert said and said <= set(speakers)
