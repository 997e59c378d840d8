"""Speech and noise for each split: from folders, manifests, or divided."""

import shutil

import numpy as np
import pytest
import soundfile

from s4m_sb.errors import InputError
from s4m_sb.mixing.datasets.splits import noise_splits, speech_splits

SPLITS = ("tr", "cv", "tt")


@pytest.fixture()
def flat_noise(tmp_path):
    """Twelve recordings in folders that say nothing about splits."""
    for number in range(12):
        folder = tmp_path / "flat" / ("street" if number % 2 else "rain")
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{number}.wav", np.ones(800) / 2, 8000)
    return tmp_path / "flat"


def files(corpus):
    return {
        recording.path
        for recordings in corpus.speakers.values()
        for recording in recordings
    }


@pytest.mark.parametrize("names", [("train", "valid", "test"), SPLITS])
def test_folders_of_noise(noise_folder, tmp_path, names):
    folder = tmp_path / "noise"
    for name, ours in zip(("train", "valid", "test"), names, strict=True):
        shutil.copytree(noise_folder / name, folder / ours)
    found = noise_splits(folder, SPLITS, seed=0)
    for split, name in zip(SPLITS, names, strict=True):
        there = {str(path) for path in (folder / name).rglob("*.wav")}
        assert files(found[split]) == there and there


def test_a_manifest_of_speech_and_noise(noise_folder, speech_folder, tmp_path):
    lines = ["file,kind,split,speaker"]
    for kind, folder in (("noise", noise_folder), ("speech", speech_folder)):
        for path in folder.rglob("*.wav"):
            split = path.relative_to(folder).parts[0]
            speaker = path.parent.name if kind == "speech" else ""
            lines.append(f"{path},{kind},{split},{speaker}")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join(lines))
    noise = noise_splits(manifest, SPLITS, seed=0)
    speech = speech_splits(manifest, "folder", SPLITS, 2, seed=0)
    for split, name in zip(SPLITS, ("train", "valid", "test"), strict=True):
        for found, folder in ((noise, noise_folder), (speech, speech_folder)):
            there = {str(path) for path in (folder / name).rglob("*.wav")}
            assert files(found[split]) == there


def test_noise_without_splits_is_divided(flat_noise):
    first = noise_splits(flat_noise, SPLITS, seed=1)
    assert [len(files(first[split])) for split in SPLITS] == [10, 1, 1]
    assert set.union(*map(files, first.values())) == {
        str(path) for path in flat_noise.rglob("*.wav")
    }
    # The same, whatever is needed of it; another for another seed.
    assert noise_splits(flat_noise, ["tt"], seed=1) == first
    others = [noise_splits(flat_noise, SPLITS, seed=n) for n in range(2, 6)]
    assert any(other["tt"] != first["tt"] for other in others)


def test_every_split_gets_one_recording_at_least(flat_noise):
    for path in sorted(flat_noise.rglob("*.wav"))[3:]:
        path.unlink()
    found = noise_splits(flat_noise, SPLITS, seed=0)
    assert [len(files(found[split])) for split in SPLITS] == [1, 1, 1]
    next(flat_noise.rglob("*.wav")).unlink()
    with pytest.raises(InputError, match="2 recordings; .* at least 3 are"):
        noise_splits(flat_noise, SPLITS, seed=0)


def test_noise_in_two_splits_is_refused(noise_folder, tmp_path):
    lines = ["file,split"]
    for split in ("train", "valid", "test"):
        for path in (noise_folder / split).rglob("*.wav"):
            lines.append(f"{path},{split}")
    shared = next((noise_folder / "train").rglob("*.wav"))
    manifest = tmp_path / "noise.csv"
    manifest.write_text("\n".join([*lines, f"{shared},test"]))
    with pytest.raises(InputError, match=f"{shared.name} is in tr and in tt"):
        noise_splits(manifest, SPLITS, seed=0)
    # A link is the same recording, too.
    folder = shutil.copytree(noise_folder, tmp_path / "noise")
    (folder / "valid" / "link.wav").symlink_to(folder / "train" / shared.name)
    with pytest.raises(InputError, match="link.wav is in tr and in cv"):
        noise_splits(folder, SPLITS, seed=0)


def test_missing_noise_is_told(noise_folder, tmp_path, caplog):
    with pytest.raises(InputError, match="absent: no such folder of noise"):
        noise_splits(tmp_path / "absent", SPLITS, seed=0)
    folder = shutil.copytree(noise_folder, tmp_path / "noise")
    shutil.rmtree(folder / "valid")
    with pytest.raises(InputError, match="test, train but none for cv"):
        noise_splits(folder, SPLITS, seed=0)
    assert noise_splits(folder, ["tr", "tt"], seed=0).keys() == {"tr", "tt"}
    (folder / "valid").mkdir()
    with pytest.raises(InputError, match="'valid': holds no noise"):
        noise_splits(folder, SPLITS, seed=0)
    assert noise_splits(folder, ["tr", "tt"], seed=0).keys() == {"tr", "tt"}
    assert "noise.csv goes without cv" in caplog.text


def test_splits_that_nobody_asks_for_are_named(tmp_path, caplog):
    lines = ["file,speaker,split"]
    for split in ("train", "valid", "test", "dev"):
        for speaker in ("anna", "ben"):
            path = tmp_path / f"{split}_{speaker}.wav"
            soundfile.write(path, np.full(800, 0.1), 8000)
            lines.append(f"{path},{split}_{speaker},{split}")
    manifest = tmp_path / "speech.csv"
    manifest.write_text("\n".join(lines))
    speech_splits(manifest, "folder", ["tr", "cv", "tt"], 2, 0)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{manifest}: the speech of 1 other splits is left out ('dev'); "
        "test, train, valid are taken"
    )
