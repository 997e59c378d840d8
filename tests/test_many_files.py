"""Many recordings: what each would give alone, whatever the others do."""

import numpy as np
import pytest
import soundfile
import torch
from small_model import SEPFORMER, write_model
from speech_like import speak

from s4m_sb.audio import audio_info, read_audio
from s4m_sb.errors import InputError
from s4m_sb.inference import S4MSeparation
from s4m_sb.many_files import FileSeparator
from s4m_sb.recordings import find_recordings

SECONDS = [0.5, 1.0, 1.0, 0.9, 3.1, 2.9, 0.01, 2.95]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "s4m": write_model(folder / "s4m"),
        "sepformer": write_model(folder / "sepformer", SEPFORMER),
    }


@pytest.fixture(scope="module")
def model(folders):
    return S4MSeparation.from_hparams(folders["s4m"])


@pytest.fixture
def recordings(tmp_path):
    """Eight of several lengths; the second and the third are equally long."""
    for number, duration_s in enumerate(SECONDS):
        path = tmp_path / "in" / f"{number}.flac"
        path.parent.mkdir(exist_ok=True)
        signal = speak(2 * number, 0, duration_s, 16000)
        signal += speak(2 * number + 1, 0, duration_s, 16000)
        soundfile.write(path, 0.4 * signal, 16000)
    return find_recordings([tmp_path / "in"], tmp_path / "out")


def spy(model, monkeypatch):
    """Notes the shape of every batch that the model separates."""
    shapes = []
    separate_batch = model.separate_batch

    def separate_and_note(mix, *arguments):
        shapes.append(tuple(mix.shape))
        return separate_batch(mix, *arguments)

    monkeypatch.setattr(model, "separate_batch", separate_and_note)
    return shapes


def check(outcomes, recordings, model, normalize="none", **pieces):
    """All are written, as the interface gives them one by one."""
    assert sorted(o.recording.path for o in outcomes) == sorted(
        recording.path for recording in recordings
    )
    for outcome in outcomes:
        assert outcome.error == ""
        assert list(outcome.written) == outcome.recording.outputs(2)
        expected = model.separate_file(
            outcome.recording.path, normalize=normalize, **pieces
        )[0]
        for path, voice in zip(outcome.written, expected.T, strict=True):
            found, sample_rate = read_audio(path)
            assert sample_rate == 8000
            # float32 sums over a batch, and over padding
            torch.testing.assert_close(found, voice, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_batches_give_what_each_gives_alone(
    model, recordings, monkeypatch, batch_size
):
    shapes = spy(model, monkeypatch)
    separator = FileSeparator(model, "none", batch_size=batch_size)
    outcomes = list(separator.separate(recordings))
    sizes = [shape[0] for shape in shapes]
    assert (
        sizes
        == {
            None: [3, 3, 1, 1],
            1: [1] * 8,
            3: [3, 3, 1, 1],
        }[batch_size]
    )
    monkeypatch.undo()
    check(outcomes, recordings, model)
    assert all(separator.is_done(recording) for recording in recordings)


def test_one_by_one_is_bit_for_bit_the_interface(model, recordings):
    separator = FileSeparator(model, batch_size=1)
    for outcome in separator.separate(recordings):
        expected = model.separate_file(outcome.recording.path)[0]
        for path, voice in zip(outcome.written, expected.T, strict=True):
            assert torch.equal(read_audio(path)[0], voice)


def test_a_network_that_sees_padding_gets_none(
    folders, recordings, monkeypatch
):
    model = S4MSeparation.from_hparams(folders["sepformer"])
    shapes = spy(model, monkeypatch)
    outcomes = list(FileSeparator(model, "none").separate(recordings))
    assert sorted(shape[0] for shape in shapes) == [1] * 6 + [2]
    monkeypatch.undo()
    check(outcomes, recordings, model)


def test_a_batch_is_bounded_by_its_seconds(model, tmp_path, monkeypatch):
    for number in range(5):
        path = tmp_path / "in" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.zeros(8000 * (15 + number)), 8000)
    shapes = spy(model, monkeypatch)
    recordings = find_recordings([tmp_path / "in"], tmp_path / "out")
    assert len(list(FileSeparator(model).separate(recordings))) == 5
    assert shapes == [(3, 19 * 8000), (2, 16 * 8000)]


def test_long_ones_are_cut(model, recordings, monkeypatch):
    shapes = spy(model, monkeypatch)
    separator = FileSeparator(model, "none", chunk_s=1, overlap_s=0.2)
    outcomes = list(separator.separate(recordings))
    # three recordings of about 3 s, in pieces of 1 s; the others are whole
    cut = [shape for shape in shapes if shape[1] == 8000 and shape[0] == 4]
    assert len(cut) == 3
    assert max(shape[1] for shape in shapes) == 8000
    monkeypatch.undo()
    check(outcomes, recordings, model, chunk_s=1, overlap_s=0.2)


@pytest.mark.parametrize("chunk_s", [None, 0])
def test_above_a_minute_they_are_cut_unless_that_is_forbidden(
    model, tmp_path, monkeypatch, chunk_s
):
    noise = 0.1 * np.random.default_rng(0).standard_normal((61 * 8000, 2))
    soundfile.write(tmp_path / "long.wav", noise, 8000)
    soundfile.write(tmp_path / "minute.wav", noise[: 60 * 8000], 8000)
    shapes = spy(model, monkeypatch)
    recordings = find_recordings([tmp_path], tmp_path / "out")
    outcomes = list(FileSeparator(model, chunk_s=chunk_s).separate(recordings))
    assert [outcome.error for outcome in outcomes] == ["", ""]
    if chunk_s == 0:
        assert shapes == [(1, 61 * 8000), (1, 60 * 8000)]
    else:
        assert shapes == [(2, 30 * 8000), (1, 30 * 8000), (1, 60 * 8000)]
    for recording in recordings:
        for output in recording.outputs(2):
            frames = audio_info(recording.path).num_frames
            assert audio_info(output).num_frames == frames


def test_pictures_are_drawn_of_whole_and_cut_ones(model, recordings):
    separator = FileSeparator(model, chunk_s=1, plot=True)
    outcomes = list(separator.separate(recordings[3:5]))
    for outcome in outcomes:
        assert outcome.written[-1] == outcome.recording.picture
        assert outcome.recording.picture.stat().st_size > 10000
        assert separator.is_done(outcome.recording)


def test_one_that_fails_does_not_stop_its_batch(model, recordings):
    with_nan = np.full(16000, np.nan)
    names = [recording.path for recording in recordings]
    soundfile.write(names[1].with_suffix(".wav"), with_nan, 16000, "FLOAT")
    names[1].with_suffix(".wav").rename(names[1])  # equally long
    names[4].write_bytes(b"no audio")
    names[5].unlink()
    separator = FileSeparator(model, chunk_s=2)
    outcomes = list(separator.separate(recordings))
    errors = {o.recording.path: o.error for o in outcomes if o.error}
    assert set(errors) == {names[1], names[4], names[5]}
    assert f"{names[1]}: holds NaN" in errors[names[1]]
    assert f"{names[4]}: cannot be read as audio" in errors[names[4]]
    assert f"{names[5]}: no such file" in errors[names[5]]
    done = [
        recording for recording in recordings if separator.is_done(recording)
    ]
    assert len(done) == 5


@pytest.mark.parametrize(("chunk_s", "num_failed"), [(None, 2), (1, 5)])
def test_too_little_memory_is_a_failure_of_one(
    model, recordings, monkeypatch, chunk_s, num_failed
):
    separate_batch = model.separate_batch

    def separate_or_fail(mix, *arguments):
        if mix.shape[1] == 8000:  # the two of 1 s, the pieces of the long ones
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return separate_batch(mix, *arguments)

    monkeypatch.setattr(model, "separate_batch", separate_or_fail)
    separator = FileSeparator(model, chunk_s=chunk_s, batch_size=1)
    outcomes = list(separator.separate(recordings))
    errors = [outcome.error for outcome in outcomes if outcome.error]
    assert len(errors) == num_failed
    assert all("smaller --batch-size or --chunk" in error for error in errors)


def test_a_fault_of_the_program_is_not_hidden(model, recordings, monkeypatch):
    def fail(mix, *arguments):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(model, "separate_batch", fail)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(FileSeparator(model).separate(recordings))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize": "loud"}, "loud"),
        ({"chunk_s": -1}, "pieces of -1 s"),
        ({"chunk_s": 10, "overlap_s": 6}, "share 6 s"),
        ({"overlap_s": 20}, "pieces of 30 s that share 20 s"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(model, options, message):
    with pytest.raises(InputError, match=message):
        FileSeparator(model, **options)
