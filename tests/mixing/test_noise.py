"""Noise is drawn at its level, and fitted to the speech."""

import collections

import numpy as np
import pytest
import soundfile
import torch

from s4m_sb.errors import InputError
from s4m_sb.mixing.corpus import read_corpus, source_splits
from s4m_sb.mixing.noise import (
    MAX_TRIES,
    SNR_RANGE_DB,
    NoiseDrawer,
    NoiseOptions,
)
from s4m_sb.mixing.rendering import read_pieces

RATE = 8000


def write_noise(folder, lengths, sample_rate=RATE):
    """White noise; ``lengths``: samples of each file."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name, num_frames in lengths.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise = rng.uniform(-0.3, 0.3, num_frames).astype(np.float32)
        soundfile.write(folder / name, noise, sample_rate, subtype="PCM_16")
    return read_corpus(folder, speaker_from="file", kind="noise")


def draws(drawer, count, num_frames=1000):
    return [
        drawer.draw(np.random.default_rng([5, i]), num_frames)
        for i in range(count)
    ]


def test_recordings_lie_in_any_folders(tmp_path):
    lengths = {"rain.wav": 80, "city/tram.flac": 90, "city/bar/a.wav": 70}
    corpus = write_noise(tmp_path, lengths)
    assert sorted(corpus.speakers) == ["city/bar/a", "city/tram", "rain"]


def test_a_manifest_tells_noise_from_speech(tmp_path):
    write_noise(tmp_path, {"rain.wav": 80, "wind.wav": 80, "anna.wav": 80})
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(
        "file,kind,split,speaker\nrain.wav,noise,train,\n"
        "wind.wav,noise,test,\nanna.wav,speech,valid,anna\n"
    )
    corpus = read_corpus(manifest, "train", "file", "noise")
    assert list(corpus.speakers) == ["rain"]
    assert source_splits(manifest, "noise") == {"train", "test"}
    assert source_splits(manifest) == {"valid"}
    with pytest.raises(InputError, match="split 'valid': holds no noise"):
        read_corpus(manifest, "valid", "file", "noise")


@pytest.mark.parametrize("num_frames", [1, 299, 300, 301, 1000])
def test_noise_is_cut_or_repeated(tmp_path, num_frames):
    corpus = write_noise(tmp_path, {"short.wav": 300})
    whole, _ = soundfile.read(tmp_path / "short.wav", dtype="float32")
    starts = set()
    for plan, signal in draws(NoiseDrawer(corpus, RATE), 50, num_frames):
        assert plan.num_frames == num_frames
        start = plan.pieces[0].start
        starts.add(start)
        if num_frames <= 300:
            assert len(plan.pieces) == 1
        expected = whole[(start + np.arange(num_frames)) % 300]
        assert torch.equal(signal, torch.from_numpy(expected))
    assert len(starts) > (1 if num_frames == 299 else 0)
    assert (num_frames == 300) == (starts == {0})


def test_what_is_drawn_is_read_again(tmp_path):
    corpus = write_noise(tmp_path, {"a.wav": 5000, "b.wav": 700}, 16000)
    for plan, signal in draws(NoiseDrawer(corpus, RATE), 20):
        assert torch.equal(signal, read_pieces(plan.pieces, RATE))


def test_long_recordings_are_drawn_more_often(tmp_path):
    corpus = write_noise(tmp_path, {"long.wav": 3000, "short.wav": 1000})
    drawn = draws(NoiseDrawer(corpus, RATE), 400, num_frames=10)
    names = collections.Counter(
        plan.pieces[0].utterance.speaker for plan, _ in drawn
    )
    # Four standard errors of 400 draws with a share of 3/4.
    assert names["long"] / 400 == pytest.approx(0.75, abs=0.087)


def test_levels_fill_their_range(tmp_path):
    corpus = write_noise(tmp_path, {"a.wav": 100})
    levels = [p.snr_db for p, _ in draws(NoiseDrawer(corpus, RATE), 400, 10)]
    low, high = SNR_RANGE_DB
    assert low <= min(levels) < low + 0.2 and high - 0.2 < max(levels) <= high
    twos = NoiseOptions(snr_range_db=(2, 2))
    assert {p.snr_db for p, _ in draws(NoiseDrawer(corpus, RATE, twos), 5)}
    # Four standard errors of the mean of 400 uniform draws over 9 dB.
    assert np.mean(levels) == pytest.approx((low + high) / 2, abs=0.52)


def test_silence_is_no_noise(tmp_path):
    write_noise(tmp_path, {"hum.wav": 4000})
    soundfile.write(tmp_path / "off.wav", np.zeros(40000), RATE)
    corpus = read_corpus(tmp_path, speaker_from="file", kind="noise")
    for plan, signal in draws(NoiseDrawer(corpus, RATE), 20):
        assert plan.pieces[0].utterance.speaker == "hum" and signal.any()
    (tmp_path / "hum.wav").unlink()
    corpus = read_corpus(tmp_path, speaker_from="file", kind="noise")
    with pytest.raises(InputError, match=f"{MAX_TRIES} windows .* silent"):
        draws(NoiseDrawer(corpus, RATE), 1)


@pytest.mark.parametrize("bad", [(3, -6), (-6,), (-200, 0), (0, np.nan)])
def test_bad_levels_are_refused(bad):
    with pytest.raises(InputError, match="snr_range_db is .*lower one first"):
        NoiseOptions(snr_range_db=bad)
