"""Which recordings, where to, and what is done already."""

import os
import time

import numpy as np
import pytest
import soundfile

from s4m_sb.audio.files import audio_info
from s4m_sb.errors import InputError
from s4m_sb.inference.recordings import (
    Recording,
    find_recordings,
    remove_leftovers,
)
from s4m_sb.system.files import replacing


def write(path, num_frames=800, sample_rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(num_frames), sample_rate)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def places(recordings, folder):
    return [
        (
            r.path.relative_to(folder).as_posix(),
            r.place.relative_to(folder).as_posix(),
        )
        for r in recordings
    ]


def test_files_folders_and_lists(tmp_path):
    for name in ("in/b.wav", "in/a.wav", "in/deep/a.flac", "in/x.txt"):
        write(tmp_path / name) if "txt" not in name else None
    (tmp_path / "in" / "notes.txt").write_text("no list")
    (tmp_path / "list.txt").write_text(
        "\ufeff# two of them\ncalls/one.ogg\n\n  calls/two.v2.wav  \n",
        encoding="utf-8",
    )
    sources = [tmp_path / "in", tmp_path / "list.txt", tmp_path / "c.mp3"]
    recordings = find_recordings(sources, tmp_path / "out")
    assert places(recordings, tmp_path) == [
        ("in/a.wav", "out/a"),
        ("in/b.wav", "out/b"),
        ("in/deep/a.flac", "out/deep/a"),
        ("calls/one.ogg", "out/calls/one"),
        ("calls/two.v2.wav", "out/calls/two.v2"),
        ("c.mp3", "out/c"),
    ]
    assert [path.name for path in recordings[4].outputs(2)] == [
        "two.v2_s1.wav",
        "two.v2_s2.wav",
    ]


def test_relative_lines_of_a_list_keep_their_folders(tmp_path):
    elsewhere = tmp_path / "abs" / "c.wav"
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "list.txt").write_text(
        f"a/1.wav\nb/1.wav\n../up/2.wav\n./3.wav\n{elsewhere}\n"
    )
    recordings = find_recordings(
        [tmp_path / "lists" / "list.txt"], tmp_path / "out"
    )
    assert places(recordings, tmp_path) == [
        ("lists/a/1.wav", "out/a/1"),
        ("lists/b/1.wav", "out/b/1"),
        ("lists/../up/2.wav", "out/2"),
        ("lists/3.wav", "out/3"),
        ("abs/c.wav", "out/c"),
    ]


def test_what_comes_twice_counts_once(here):
    path = write(here / "in" / "a.wav")
    (here / "list.txt").write_text("in/a.wav\n./in/a.wav\nin/../in/a.wav\n")
    relative = type(here)("in", "a.wav")
    sources = [here / "list.txt", path, relative, here / "in", relative.parent]
    recordings = find_recordings(sources, here / "out")
    assert places(recordings, here) == [("in/a.wav", "out/in/a")]


def test_voices_inside_the_folder_are_no_recordings(tmp_path):
    write(tmp_path / "a.wav")
    write(tmp_path / "voices" / "a_s1.wav")
    recordings = find_recordings([tmp_path], tmp_path / "voices")
    assert places(recordings, tmp_path) == [("a.wav", "voices/a")]


@pytest.mark.parametrize(
    ("files", "sources", "output", "message"),
    [
        (["in/a.wav"], ["in"], "in", "in: its recordings and their voices"),
        (["in/a.py"], ["in"], "out", "in: holds no audio files"),
        (["a.wav"], ["a.wav"], "a.wav", "a.wav: is a file; --output"),
        ([], ["no.txt"], "out", "no.txt: no such list"),
        (["x.flac", "x.wav"], ["x.flac", "x.wav"], "out", "x.wav would both"),
        (["in/x.mp3", "in/x.wav"], ["in"], "out", "in the suffix alone"),
        (["in/X.wav", "y/x.wav"], ["in", "y"], "out", "y/x.wav would both"),
        (["out/x.wav"], ["out/x.wav", "out/x_s2.wav"], "out", "x_s2.wav would"),
    ],
)
def test_what_cannot_go_well_is_refused(here, files, sources, output, message):
    for name in files:
        path = here / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    names = [type(here)(source) for source in sources]
    with pytest.raises(InputError, match=message):
        find_recordings(names, type(here)(output))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# nothing\n\n",
        b"\xff\xfe\x00",
        b"a\0b.wav\n",
        "a.wav\n".encode("utf-16-le"),
    ],
)
def test_a_list_of_nothing_is_refused(tmp_path, content):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(InputError, match="list.txt: .*one a"):
        find_recordings([tmp_path / "list.txt"], tmp_path / "out")


@pytest.fixture
def done(tmp_path):
    """A recording of 999 samples at 16 kHz with its voices at 8 kHz."""
    path = write(tmp_path / "a.flac", 999, 16000)
    recording = Recording(path, tmp_path / "out" / "a")
    for voice in recording.outputs(2):
        write(voice, 500)
    return recording


def test_whole_voices_are_done(done):
    assert audio_info(done.path).num_frames_at(8000) == 500
    assert done.is_done(2, 8000)
    assert not done.is_done(3, 8000)
    assert not done.is_done(2, 16000)
    assert not done.is_done(2, 8000, plot=True)
    done.picture.touch()
    assert done.is_done(2, 8000, plot=True)


def test_a_recording_from_the_future_says_nothing_about_age(done):
    later = time.time() + 3600
    os.utime(done.path, (later, later))
    assert done.is_done(2, 8000)
    done.outputs(2)[1].unlink()
    assert not done.is_done(2, 8000)


@pytest.mark.parametrize(
    "damage", ["missing", "short", "empty", "rate", "older", "folder"]
)
def test_other_voices_are_not_done(done, damage):
    voice = done.outputs(2)[1]
    voice.unlink()
    if damage == "short":
        write(voice, 499)
    elif damage == "empty":
        voice.touch()
    elif damage == "rate":
        write(voice, 500, 16000)
    elif damage == "folder":
        voice.mkdir()
    elif damage == "older":
        write(voice, 500)
        recorded = done.path.stat().st_mtime
        os.utime(voice, (recorded - 10, recorded - 10))
    assert not done.is_done(2, 8000)


@pytest.mark.parametrize(
    ("suffix", "lengths", "expected"),
    [
        ("mp3", (500, 500), True),
        ("mp3", (300, 300), False),  # it holds more
        ("mp3", (300, 301), False),
        ("mp3", (501, 501), False),
        ("mp3", (0, 0), False),
        ("wav", (300, 300), False),
    ],
)
def test_voices_are_as_long_as_the_recording(
    tmp_path, suffix, lengths, expected
):
    path = write(tmp_path / f"a.{suffix}", 1000, 16000)
    recording = Recording(path, tmp_path / "out" / "a")
    assert audio_info(recording.path).num_frames_at(8000) == 500
    for voice, length in zip(recording.outputs(2), lengths, strict=True):
        write(voice, length)
    assert recording.is_done(2, 8000) is expected


def test_an_mp3_file_may_hold_less_than_it_says(tmp_path):
    path = write(tmp_path / "a.mp3", 24000, 8000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    recording = Recording(path, tmp_path / "out" / "a")
    held = audio_info(path, counted=True).num_frames
    assert held < audio_info(path).num_frames
    for length, done in ((held, True), (held - 1, False)):
        for voice in recording.outputs(2):
            write(voice, length)
        assert recording.is_done(2, 8000) is done


def test_a_recording_that_is_not_there_is_named(tmp_path):
    recording = Recording(tmp_path / "a.wav", tmp_path / "out" / "a")
    with pytest.raises(InputError, match="a.wav: no such file"):
        recording.is_done(2, 8000)


def test_halves_of_voices_are_removed_but_nothing_else(done):
    folder = done.place.parent
    halves = [".a_s1.01234567.tmp.wav", ".a.89abcdef.tmp.png"]
    others = [
        ".b_s1.01234567.tmp.wav",  # of another recording
        ".a_s1.tmp.wav",
    ]
    for name in halves + others:
        (folder / name).touch()
    with replacing(folder / "a_s2.wav") as written:
        written.touch()
        remove_leftovers([done], 2)
        names = [path.name for path in folder.iterdir()]
        others += ["a_s1.wav", "a_s2.wav", written.name]
        assert sorted(names) == sorted(others)
    remove_leftovers([Recording(done.path, folder / "missing" / "a")], 2)
