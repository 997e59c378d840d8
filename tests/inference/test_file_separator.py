"""Many recordings: what each would give alone, whatever the others do."""

import errno
import math
import os

import numpy as np
import pytest
import soundfile
import torch
from flac_from_pipe import write_flac_from_pipe
from small_model import SEPFORMER, write_model
from speech_like import speak

from s4m_sb.audio.files import audio_info, read_audio
from s4m_sb.errors import InputError
from s4m_sb.inference import file_separator
from s4m_sb.inference.file_separator import FileSeparator, batches_by_length
from s4m_sb.inference.interface import S4MSeparation
from s4m_sb.inference.pieces import Pieces
from s4m_sb.inference.recordings import find_recordings

# A recording is separated whole, or in pieces of one second.
WHOLE_OR_CUT = [{}, {"pieces": Pieces(1), "whole_s": 1}]
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


def check(outcomes, recordings, model, normalize="none", pieces=None):
    """All are written, as the interface gives them one by one."""
    assert sorted(o.recording.path for o in outcomes) == sorted(
        recording.path for recording in recordings
    )
    for outcome in outcomes:
        assert outcome.error == ""
        assert list(outcome.written) == outcome.recording.outputs(2)
        expected = model.separate_file(
            outcome.recording.path, normalize=normalize, pieces=pieces
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
    separator = FileSeparator(model, "none", Pieces(batch_size=batch_size))
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
    assert all(separator.done_before(recording) for recording in recordings)


def test_one_by_one_is_bit_for_bit_the_interface(model, recordings):
    separator = FileSeparator(model, pieces=Pieces(batch_size=1))
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


@pytest.fixture(params=["cpu", "cuda"])
def device(model, monkeypatch, request):
    """What the model says of where it is; it computes on the CPU."""
    move = torch.Tensor.to

    def stay(tensor, *where, **more):
        return move(tensor, *(w for w in where if w != "cuda"), **more)

    monkeypatch.setattr(model, "device", request.param)
    monkeypatch.setattr(torch.Tensor, "to", stay)
    return request.param


def test_a_batch_is_bounded_by_its_seconds(
    model, tmp_path, monkeypatch, device
):
    for number in range(5):
        path = tmp_path / "in" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.zeros(8000 * (11 + number)), 8000)
    shapes = spy(model, monkeypatch)
    recordings = find_recordings([tmp_path / "in"], tmp_path / "out")
    assert len(list(FileSeparator(model).separate(recordings))) == 5
    if device == "cpu":  # 30 s at most
        seconds = [(2, 15), (2, 13), (1, 11)]
    else:  # 60 s
        seconds = [(4, 15), (1, 11)]
    assert shapes == [(count, length * 8000) for count, length in seconds]


def test_long_ones_are_cut(model, recordings, monkeypatch):
    shapes = spy(model, monkeypatch)
    pieces = Pieces(1, 0.2)
    separator = FileSeparator(model, "none", pieces, whole_s=1)
    outcomes = list(separator.separate(recordings))
    # three recordings of about 3 s, in pieces of 1 s; the others are whole
    cut = [shape for shape in shapes if shape[1] == 8000 and shape[0] == 4]
    assert len(cut) == 3
    assert max(shape[1] for shape in shapes) == 8000
    monkeypatch.undo()
    check(outcomes, recordings, model, pieces=pieces)


@pytest.mark.parametrize("options", [{}, {"whole_s": math.inf}])
def test_above_a_minute_they_are_cut_unless_that_is_forbidden(
    model, tmp_path, monkeypatch, options, device
):
    noise = 0.1 * np.random.default_rng(0).standard_normal((61 * 8000, 2))
    soundfile.write(tmp_path / "long.wav", noise, 8000)
    soundfile.write(tmp_path / "minute.wav", noise[: 60 * 8000], 8000)
    shapes = spy(model, monkeypatch)
    recordings = find_recordings([tmp_path], tmp_path / "out")
    outcomes = list(FileSeparator(model, **options).separate(recordings))
    assert [outcome.error for outcome in outcomes] == ["", ""]
    if options:
        assert shapes == [(1, 61 * 8000), (1, 60 * 8000)]
    elif device == "cpu":  # where pieces are no faster together
        assert shapes == [(1, 30 * 8000)] * 3 + [(1, 60 * 8000)]
    else:
        assert shapes == [(2, 30 * 8000), (1, 30 * 8000), (1, 60 * 8000)]
    for recording in recordings:
        for output in recording.outputs(2):
            frames = audio_info(recording.path).num_frames
            assert audio_info(output).num_frames == frames


def test_pictures_are_drawn_of_whole_and_cut_ones(model, recordings):
    separator = FileSeparator(
        model, pieces=Pieces(1), whole_s=1, picture_width=6
    )
    outcomes = list(separator.separate(recordings[3:5]))
    for outcome in outcomes:
        assert outcome.written[-1] == outcome.recording.picture
        assert outcome.recording.picture.stat().st_size > 10000
        assert separator.done_before(outcome.recording)


def test_one_that_fails_does_not_stop_its_batch(model, recordings):
    with_nan = np.full(16000, np.nan)
    names = [recording.path for recording in recordings]
    soundfile.write(names[1].with_suffix(".wav"), with_nan, 16000, "FLOAT")
    names[1].with_suffix(".wav").rename(names[1])  # equally long
    names[4].write_bytes(b"no audio")
    names[5].unlink()
    separator = FileSeparator(model, pieces=Pieces(2), whole_s=2)
    outcomes = list(separator.separate(recordings))
    errors = {o.recording.path: o.error for o in outcomes if o.error}
    assert set(errors) == {names[1], names[4], names[5]}
    assert f"{names[1]}: holds NaN" in errors[names[1]]
    assert f"{names[4]}: cannot be read as audio" in errors[names[4]]
    assert f"{names[5]}: no such file" in errors[names[5]]
    done = [
        recording
        for recording in recordings
        if separator.done_before(recording)
    ]
    assert len(done) == 5


@pytest.mark.parametrize("options", [*WHOLE_OR_CUT, {"whole_s": math.inf}])
def test_one_that_does_not_say_its_length_is_like_the_others(
    model, recordings, options
):
    told = recordings[4].path
    untold = told.with_name("untold.flac")
    write_flac_from_pipe(untold, *soundfile.read(told))
    recordings += find_recordings([untold], recordings[0].place.parent)
    separator = FileSeparator(model, "none", **options)
    outcomes = list(separator.separate(recordings))
    assert [outcome.error for outcome in outcomes] == [""] * len(recordings)
    voices = [
        [read_audio(path)[0] for path in recordings[number].outputs(2)]
        for number in (4, -1)
    ]
    # float32 sums over another batch
    torch.testing.assert_close(voices[0], voices[1], atol=1e-5, rtol=1e-4)
    assert separator.done_before(recordings[-1]).duration_s == SECONDS[4]


NO_MEMORY = [
    MemoryError(),
    # of NumPy, PyTorch on a CPU and on a GPU, cuBLAS and oneDNN
    MemoryError("Unable to allocate 18.3 MiB for an array"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"),
    RuntimeError("could not create a primitive"),
]


@pytest.mark.parametrize(("whole_s", "num_failed"), [(60, 2), (1, 5)])
@pytest.mark.parametrize("error", NO_MEMORY)
def test_too_little_memory_is_a_failure_of_one(
    model, recordings, monkeypatch, whole_s, num_failed, error
):
    separate_batch = model.separate_batch

    def separate_or_fail(mix, *arguments):
        if mix.shape[1] == 8000:  # the two of 1 s, the pieces of the long ones
            raise error
        return separate_batch(mix, *arguments)

    monkeypatch.setattr(model, "separate_batch", separate_or_fail)
    separator = FileSeparator(
        model, pieces=Pieces(1, batch_size=1), whole_s=whole_s
    )
    outcomes = list(separator.separate(recordings))
    errors = [outcome.error for outcome in outcomes if outcome.error]
    assert len(errors) == num_failed
    assert all("smaller --batch-size or --chunk" in error for error in errors)


def test_what_does_not_fit_together_is_separated_in_smaller_batches(
    model, recordings, monkeypatch
):
    separate_batch = model.separate_batch
    together = spy(model, monkeypatch)
    separate_and_note = model.separate_batch

    def separate_or_fail(mix, *arguments):
        if mix.numel() > 25000:  # one of 3 s
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return separate_and_note(mix, *arguments)

    monkeypatch.setattr(model, "separate_batch", separate_or_fail)
    outcomes = list(FileSeparator(model, "none").separate(recordings))
    assert sorted(shape[0] for shape in together) == [1, 1, 1, 1, 1, 3]
    monkeypatch.setattr(model, "separate_batch", separate_batch)
    check(outcomes, recordings, model)


def test_one_too_large_to_be_read_does_not_stop_its_batch(
    model, recordings, monkeypatch
):
    large = recordings[1].path

    def read_or_fail(path, *arguments, **options):
        if path == large:
            raise MemoryError("Unable to allocate 18.3 MiB for an array")
        return read_audio(path, *arguments)

    monkeypatch.setattr(file_separator, "read_audio", read_or_fail)
    outcomes = list(FileSeparator(model).separate(recordings))
    assert len(outcomes) == len(recordings)
    (failed,) = [outcome for outcome in outcomes if outcome.error]
    assert failed.recording.path == large
    assert failed.error.startswith(f"{large}: takes more memory than there is")


def test_a_name_that_cannot_be_written_is_a_failure_of_one(
    model, recordings, tmp_path
):
    recordings[3].outputs(2)[1].mkdir(parents=True)
    recordings[4].outputs(2)[0].mkdir(parents=True)
    long_name = tmp_path / "in" / ("x" * 245 + ".wav")
    soundfile.write(long_name, np.zeros(800), 8000)
    recordings += find_recordings([long_name], tmp_path / "out")
    separator = FileSeparator(model, **WHOLE_OR_CUT[1])  # the first is cut
    assert not any(map(separator.done_before, recordings))
    outcomes = list(separator.separate(recordings))
    errors = {o.recording.path: o.error for o in outcomes if o.error}
    assert set(errors) == {recordings[3].path, recordings[4].path, long_name}
    assert errors[recordings[3].path].endswith("3_s2.wav: Is a directory")
    assert errors[recordings[4].path].endswith("4_s1.wav: Is a directory")
    assert errors[long_name].endswith(".wav: File name too long")
    assert sum(map(bool, map(separator.done_before, recordings))) == 6
    # all voices of a recording or none
    assert not recordings[3].outputs(2)[0].exists()
    assert not recordings[4].outputs(2)[1].exists()


@pytest.mark.parametrize("options", WHOLE_OR_CUT)
@pytest.mark.parametrize("picture_width", [None, 6])
def test_half_of_what_is_done_again_is_not_taken_for_done(
    model, recordings, monkeypatch, options, picture_width
):
    """What it replaced is gone when the first voice gets its name."""
    separator = FileSeparator(model, picture_width=picture_width, **options)
    recording = recordings[4]
    (outcome,) = separator.separate([recording])
    assert separator.done_before(recording)
    replace = os.replace

    class Killed(BaseException):
        pass

    for last in range(len(outcome.written)):
        for path in outcome.written:
            path.touch()
        left = iter(range(last + 1))

        def replace_some(source, target, left=left):
            if next(left, None) is None:
                raise Killed
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace_some)
            if last == len(outcome.written) - 1:
                assert len(list(separator.separate([recording]))) == 1
            else:
                with pytest.raises(Killed):
                    list(separator.separate([recording]))
                assert not separator.done_before(recording)
    assert separator.done_before(recording)


@pytest.mark.parametrize("options", WHOLE_OR_CUT)
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shapes do not fit"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_a_fault_of_program_or_disk_is_not_hidden(
    model, recordings, monkeypatch, options, error
):
    def fail(mix, *arguments):
        raise error

    monkeypatch.setattr(model, "separate_batch", fail)
    with pytest.raises(type(error)) as raised:
        list(FileSeparator(model, **options).separate(recordings))
    assert str(raised.value).startswith(str(error))


@pytest.mark.parametrize("options", WHOLE_OR_CUT)
def test_a_damaged_mp3_is_as_long_as_what_is_in_it(model, tmp_path, options):
    path = tmp_path / "in" / "damaged.mp3"
    path.parent.mkdir()
    soundfile.write(path, speak(0, 0, 8.0, 8000), 8000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    (recording,) = find_recordings([tmp_path / "in"], tmp_path / "out")
    num_frames = len(read_audio(path)[0])
    assert num_frames < 0.8 * audio_info(recording.path).num_frames_at(8000)
    separator = FileSeparator(model, **options)
    (outcome,) = separator.separate([recording])
    assert outcome.duration_s == num_frames / 8000
    again = separator.done_before(recording)
    assert again is not None
    assert again.duration_s == outcome.duration_s
    assert outcome.truncated and again.truncated


@pytest.mark.parametrize("options", WHOLE_OR_CUT)
@pytest.mark.parametrize("write", [soundfile.write, write_flac_from_pipe])
def test_a_flac_file_that_was_cut_off_is_separated_as_far_as_it_goes(
    model, tmp_path, options, write
):
    path = tmp_path / "in" / "call.flac"
    path.parent.mkdir()
    write(path, speak(0, 0, 8.0, 8000), 8000)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    (recording,) = find_recordings([tmp_path / "in"], tmp_path / "out")
    separator = FileSeparator(model, picture_width=4, **options)
    (outcome,) = separator.separate([recording])
    assert outcome.error == ""
    assert outcome.truncated
    found, _ = read_audio(path, partial=True)
    assert outcome.duration_s == len(found) / 8000 < 7
    again = separator.done_before(recording)
    assert again is not None and again.truncated
    path.write_bytes(whole)
    os.utime(path, (0, 0))
    assert separator.done_before(recording) is None
    (outcome,) = separator.separate([recording])
    assert (outcome.truncated, outcome.duration_s) == (False, 8.0)


def test_no_whole_recording_is_said_to_be_cut_off(model, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for rate in (8000, 44100):
        for suffix in ("wav", "flac", "ogg", "mp3", "aiff", "au", "w64"):
            path = folder / f"{suffix}{rate}.{suffix}"
            soundfile.write(path, speak(0, 0, 1.03, rate), rate)
    write_flac_from_pipe(folder / "pipe.flac", speak(0, 0, 1.0, 8000), 8000)
    found = find_recordings([folder], tmp_path / "out")
    separator = FileSeparator(model)
    outcomes = list(separator.separate(found))
    assert len(outcomes) == 15
    outcomes += [separator.done_before(recording) for recording in found]
    assert [str(o.recording) for o in outcomes if o.error or o.truncated] == []


@pytest.mark.parametrize("options", WHOLE_OR_CUT)
@pytest.mark.parametrize("fault", [RuntimeError, ValueError, OverflowError])
def test_the_fault_of_one_does_not_stop_the_others(
    model, recordings, monkeypatch, options, fault
):
    separate_batch = model.separate_batch
    full_scale = np.full(round(SECONDS[4] * 16000), 0.999)
    soundfile.write(recordings[4].path, full_scale, 16000)

    def separate_or_fail(mix, *arguments):
        if mix.mean(dim=1).max() > 0.5:
            raise fault("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")
        return separate_batch(mix, *arguments)

    monkeypatch.setattr(model, "separate_batch", separate_or_fail)
    separator = FileSeparator(model, **options)
    outcomes = []
    with pytest.raises(fault, match="cuDNN error"):
        for outcome in separator.separate(recordings):
            outcomes.append(outcome)
    assert len(outcomes) == len(recordings)
    (failed,) = [outcome for outcome in outcomes if outcome.error]
    name = recordings[4].path
    assert failed.error.startswith(f"{name}: {fault.__name__}: cuDNN error")


def test_an_unknown_level_is_refused(model):
    with pytest.raises(InputError, match="loud"):
        FileSeparator(model, "loud")


# Batches


@pytest.mark.parametrize("max_items", [None, 1, 3, 100])
@pytest.mark.parametrize("max_total", [None, 50, 5000])
@pytest.mark.parametrize("same_length", [False, True])
def test_what_a_batch_is(max_items, max_total, same_length):
    lengths = np.random.default_rng(0).integers(1, 100, size=300).tolist()
    batches = batches_by_length(lengths, max_items, max_total, same_length)
    assert sorted(sum(batches, [])) == list(range(300))
    longest = [max(lengths[i] for i in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)
    for batch, most in zip(batches, longest, strict=True):
        assert len(batch) <= (max_items or 300)
        if max_total is not None and len(batch) > 1:
            assert len(batch) * most <= max_total
        for i in batch:
            assert lengths[i] >= (1 if same_length else 0.75) * most


def test_equal_lengths_fill_their_batches():
    assert [len(batch) for batch in batches_by_length([5] * 10, 4)] == [4, 4, 2]
    assert batches_by_length([5] * 10, max_total=25)[0] == [0, 1, 2, 3, 4]
    assert batches_by_length([]) == []
