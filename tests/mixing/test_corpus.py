"""Speakers and utterances of folders and manifests, and windows of them."""

import csv
import os
import shutil

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.functional import resample

from s4m_sb.audio.files import read_audio
from s4m_sb.audio.resampling import resampling_ratio
from s4m_sb.errors import InputError
from s4m_sb.mixing import corpus as corpus_module
from s4m_sb.mixing.corpus import (
    Utterance,
    read_corpus,
    read_segment,
    resampled_length,
    source_splits,
)


def write_noise(path, num_frames=800, sample_rate=8000, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, num_frames)
    soundfile.write(path, noise.astype(np.float32), sample_rate)
    return path


def write_manifest(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def utterance_of(path, speaker="anna"):
    info = soundfile.info(path)
    return Utterance(str(path), speaker, info.frames, info.samplerate)


# What there is


def test_folder_of_speakers(speech_folder):
    corpus = read_corpus(speech_folder, "train")
    assert list(corpus.speakers) == [f"talker{i:02d}" for i in range(1, 7)]
    assert corpus.num_utterances == 18
    for speaker, spoken in corpus.speakers.items():
        assert [os.path.splitext(u.path)[1] for u in spoken] == [
            ".wav",
            ".flac",
            ".ogg",
        ]
        for utterance in spoken:
            assert utterance.speaker == speaker
            assert (utterance.num_frames, utterance.sample_rate) == (
                24000,
                8000,
            )


def test_folders_below_a_speaker_belong_to_him(tmp_path):
    write_noise(tmp_path / "103" / "1240" / "103-1240-0000.flac")
    write_noise(tmp_path / "103" / "1241" / "deeper" / "103-1241-0000.WAV")
    write_noise(tmp_path / "104" / "104-1.wav")
    corpus = read_corpus(tmp_path)
    assert {k: len(v) for k, v in corpus.speakers.items()} == {
        "103": 2,
        "104": 1,
    }


def test_other_and_hidden_files_are_passed_over(tmp_path):
    write_noise(tmp_path / "anna" / "1.wav")
    (tmp_path / "anna" / "._1.wav").write_bytes(b"not audio")
    (tmp_path / "anna" / "1.txt").write_text("hello")
    (tmp_path / "README.txt").write_text("hello")
    assert read_corpus(tmp_path).num_utterances == 1


def test_links_are_followed_but_not_in_circles(tmp_path):
    write_noise(tmp_path / "elsewhere" / "anna" / "1.wav")
    (tmp_path / "speech").mkdir()
    (tmp_path / "speech" / "anna").symlink_to(tmp_path / "elsewhere" / "anna")
    (tmp_path / "elsewhere" / "anna" / "up").symlink_to(tmp_path / "speech")
    corpus = read_corpus(tmp_path / "speech")
    assert {k: len(v) for k, v in corpus.speakers.items()} == {"anna": 1}


@pytest.mark.parametrize("nested", [False, True])
def test_wsj0_speakers_stand_in_the_file_names(tmp_path, nested):
    for name in ("01aa0101", "01aa0102", "01ba0101", "02CO0301"):
        folder = tmp_path / name[:3] if nested else tmp_path
        write_noise(folder / f"{name}.wav")
    corpus = read_corpus(tmp_path, speaker_from="wsj0")
    assert {k: len(v) for k, v in corpus.speakers.items()} == {
        "01a": 2,
        "01b": 1,
        "02c": 1,
    }


@pytest.mark.parametrize("column", ["file", "path", "wav"])
def test_manifest_and_folder_give_the_same(speech_folder, tmp_path, column):
    copied = shutil.copytree(speech_folder, tmp_path / "speech")
    rows = [
        {
            column: path.relative_to(tmp_path).as_posix(),
            "speaker": path.parent.name,
            "split": path.parent.parent.name,
        }
        for path in copied.rglob("talker*.*")
    ]
    rng = np.random.default_rng(0)
    for _ in range(3):  # whatever the order of the rows
        rng.shuffle(rows)
        manifest = write_manifest(tmp_path / "manifest.csv", rows)
        listed = read_corpus(manifest, "valid")
        assert listed.speakers == read_corpus(copied, "valid").speakers
    assert read_corpus(manifest).num_utterances == len(rows)
    assert source_splits(manifest) == {"train", "valid", "test"}
    assert source_splits(copied) == {"train", "valid", "test"}


def test_only_rows_of_kind_speech_count(tmp_path):
    write_noise(tmp_path / "a.wav")
    manifest = write_manifest(
        tmp_path / "manifest.csv",
        [
            {"file": "a.wav", "speaker": "anna", "kind": "speech"},
            {"file": "absent.wav", "speaker": "", "kind": "noise"},
        ],
    )
    assert list(read_corpus(manifest).speakers) == ["anna"]


def test_manifest_with_byte_order_mark_and_wsj0_names(tmp_path):
    write_noise(tmp_path / "01aa0101.wav")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("file\n01aa0101.wav\n", encoding="utf-8-sig")
    assert list(read_corpus(manifest, speaker_from="wsj0").speakers) == ["01a"]


def test_a_written_manifest_reads_as_what_was_written(
    speech_folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(speech_folder.parent)
    strange = tmp_path / 'a, "b"' / "é 1.wav"
    write_noise(strange)
    splits = {
        "train": read_corpus(speech_folder.name, "train"),
        "test": read_corpus(strange.parents[1]),
    }
    manifest = tmp_path / "elsewhere" / "speech.csv"
    corpus_module.write_manifest(manifest, splits)
    assert source_splits(manifest) == {"train", "test"}
    (utterance,) = read_corpus(manifest, "test").speakers['a, "b"']
    assert utterance == utterance_of(strange, 'a, "b"')
    assert read_corpus(manifest, "train").speakers == (
        read_corpus(speech_folder, "train").speakers
    )
    # Whole or not at all.
    before = manifest.read_bytes()
    with pytest.raises(AttributeError):
        corpus_module.write_manifest(manifest, {**splits, "valid": None})
    assert manifest.read_bytes() == before
    assert len(list(manifest.parent.iterdir())) == 1


def test_mini_speech_as_it_is(mini_speech):
    for split, speakers, utterances in (
        ("train", 287, 1187),
        ("valid", 38, 126),
        ("test", 20, 223),
    ):
        listed = read_corpus(mini_speech / "manifest.csv", split)
        assert len(listed.speakers) == speakers
        assert listed.num_utterances == utterances
        # All that there is stands in the large manifest, of more corpora.
        there = read_corpus(mini_speech / "speech", split).speakers
        assert listed.speakers.items() <= there.items()
        large = read_corpus(mini_speech / "manifest-large.csv", split)
        assert large.speakers == there


# What is refused


@pytest.mark.parametrize(
    "make, keys, message",
    [
        (lambda f: None, {}, "no such folder of speech, nor a manifest"),
        (lambda f: f.mkdir(), {}, "holds no speech"),
        (lambda f: f.mkdir(), {"split": "train"}, "train: no such folder"),
        (lambda f: f.mkdir(), {"speaker_from": "name"}, "'name'; use one of"),
        (
            lambda f: write_noise(f / "a.wav"),
            {},
            "beside the speakers' folders",
        ),
        (
            lambda f: write_noise(f / "ab.wav"),
            {"speaker_from": "wsj0"},
            "too short to begin with a speaker code",
        ),
        (lambda f: write_noise(f / "anna" / "a.wav", 0), {}, "has no samples"),
        (lambda f: f.write_bytes(bytes(range(256))), {}, "is not a CSV file"),
        (lambda f: f.write_text("speaker\nanna\n"), {}, "no column file"),
        (lambda f: f.write_text("file\na.wav\n"), {}, "no column speaker"),
        (
            lambda f: f.write_text("file,speaker\na.wav,anna\n"),
            {"split": "train"},
            "no column split; its columns are: file, speaker",
        ),
        (
            lambda f: f.write_text("file,speaker,split\na.wav,anna,dev\n"),
            {"split": "train"},
            "split 'train': holds no speech",
        ),
        (
            lambda f: f.write_text("file,speaker\na.wav,anna\nb.wav,\n"),
            {},
            "line 3: names no speaker",
        ),
        (
            lambda f: f.write_text("file,speaker\n,anna\n"),
            {},
            "line 2: names no",
        ),
        (
            lambda f: f.write_text("file,speaker\nabsent.wav,anna\n"),
            {},
            "absent.wav: no such file",
        ),
    ],
)
def test_unusable_sources_are_refused(tmp_path, make, keys, message):
    make(tmp_path / "speech")
    with pytest.raises(InputError, match=message) as caught:
        read_corpus(tmp_path / "speech", **keys)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_audio_is_named(tmp_path):
    write_noise(tmp_path / "anna" / "1.wav")
    (tmp_path / "anna" / "2.wav").write_text("not audio")
    with pytest.raises(InputError, match="2.wav: cannot be read as audio"):
        read_corpus(tmp_path)


# Windows


@pytest.mark.parametrize("speed", [1.0, 0.8, 0.97, 1.1])
@pytest.mark.parametrize("suffix", ["wav", "ogg"])
@pytest.mark.parametrize(
    "file_rate, sample_rate",
    [(8000, 8000), (16000, 8000), (8000, 16000), (44100, 8000), (11025, 8000)],
)
def test_a_window_is_cut_from_the_resampled_whole(
    tmp_path, file_rate, sample_rate, suffix, speed
):
    path = write_noise(tmp_path / f"a.{suffix}", 2 * file_rate, file_rate)
    utterance = utterance_of(path)
    whole, _ = read_audio(path)
    old, new = resampling_ratio(file_rate, sample_rate, speed)
    if old != new:
        whole = resample(whole, old, new)
    total = resampled_length(utterance, sample_rate, speed)
    assert len(whole) == total
    rng = np.random.default_rng(0)
    windows = [(0, total), (0, 1), (total - 1, 1), (total - 700, 700)]
    windows += [(int(s), 500) for s in rng.integers(total - 500, size=5)]
    for start, num_frames in windows:
        window = read_segment(utterance, start, num_frames, sample_rate, speed)
        torch.testing.assert_close(
            window,
            whole[start : start + num_frames],
            rtol=0,
            atol=1e-6,  # float32 sums over the filter, in another order
        )


def test_the_end_of_an_ogg_file_is_exact(mini_speech):
    # libsndfile's own seek is about 100 samples off in the last page.
    corpus = read_corpus(mini_speech / "manifest.csv", "valid")
    for spoken in list(corpus.speakers.values())[::6]:
        whole, rate = read_audio(spoken[0].path)
        for start in (len(whole) - 6000, len(whole) - 999):
            window = read_segment(spoken[0], start, 999, rate)
            assert torch.equal(window, whole[start : start + 999])


def test_only_the_window_is_read(tmp_path, monkeypatch):
    path = write_noise(tmp_path / "a.wav", 60 * 16000, 16000)
    read = []

    def spy(*args, **keys):
        signal, rate = read_audio(*args, **keys)
        read.append(len(signal))
        return signal, rate

    monkeypatch.setattr(corpus_module, "read_audio", spy)
    read_segment(utterance_of(path), 200000, 8000, 8000)
    # One second, and what the filter sees on both sides.
    assert len(read) == 1 and 16000 <= read[0] <= 16000 + 40


def test_speed_raises_the_pitch(tmp_path):
    time_s = np.arange(16000) / 16000
    path = tmp_path / "a.wav"
    soundfile.write(path, np.sin(2 * np.pi * 1000 * time_s) / 2, 16000)
    faster = read_segment(utterance_of(path), 1000, 4000, 8000, speed=1.25)
    spectrum = torch.fft.rfft(faster * torch.hann_window(4000)).abs()
    assert int(spectrum.argmax()) * 8000 / 4000 == 1250


@pytest.mark.parametrize("start, num_frames", [(-1, 5), (0, 0), (795, 6)])
def test_windows_outside_are_refused(tmp_path, start, num_frames):
    path = write_noise(tmp_path / "a.wav", 800)
    with pytest.raises(InputError, match="not inside its 800 samples"):
        read_segment(utterance_of(path), start, num_frames, 8000)


@pytest.mark.parametrize("num_frames, rate", [(700, 8000), (800, 16000)])
def test_a_file_that_changed_is_refused(tmp_path, num_frames, rate):
    path = write_noise(tmp_path / "a.wav", 800, 8000)
    utterance = utterance_of(path)
    write_noise(path, num_frames, rate)
    with pytest.raises(InputError, match="is not the file it was"):
        read_segment(utterance, 0, 800, 8000)


# What is left out is said


def test_rows_of_a_split_that_is_none_are_named(tmp_path, caplog):
    path = write_noise(tmp_path / "anna" / "1.wav")
    rows = [
        {"file": path, "speaker": "anna", "split": split}
        for split in ("train", "trian", "valid", "", "trian")
    ]
    manifest = write_manifest(tmp_path / "speech.csv", rows)
    assert read_corpus(manifest, "train").num_utterances == 1
    assert [record.getMessage() for record in caplog.records] == [
        f"{manifest}, line 3: split is 'trian'; it is not taken for 'train', "
        "nor are 1 rows like it",
        f"{manifest}, line 5: split is ''; it is not taken for 'train', "
        "nor are 0 rows like it",
    ]


def test_recordings_of_other_kinds_are_counted(tmp_path, caplog):
    write_noise(tmp_path / "anna" / "1.WAV")
    for name in ("3.MP3", "2.m4a", "notes.txt"):
        (tmp_path / "anna" / name).touch()
    assert read_corpus(tmp_path).num_utterances == 1
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{tmp_path}/anna/2.m4a: is left out, as is whatever else (2 in all) "
        "is not .wav, .flac, .ogg"
    )
