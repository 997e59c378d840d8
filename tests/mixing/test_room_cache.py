"""Rooms on disk are those that would be simulated, whatever happened."""

import os
import pickle
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch
from data_sets import contents
from process_groups import begun, kill_first

from s4m_sb.errors import InputError
from s4m_sb.mixing import rooms
from s4m_sb.mixing.room_cache import CachedRooms
from s4m_sb.mixing.rooms import draw_room, room_responses
from s4m_sb.system.files import replacing

# Reverberation that is simulated in milliseconds.
QUICK = ((0.2, 0.3),)
KEYS = {"num_rooms": 5, "num_sources": 2, "sample_rate": 8000, "seed": 11}


@pytest.fixture(autouse=True)
def quick_rooms(monkeypatch):
    monkeypatch.setattr(rooms, "RT60_S", QUICK)


@pytest.fixture
def prepared(tmp_path):
    cached = CachedRooms(tmp_path / "rooms", **KEYS)
    cached.prepare()
    return cached


def draws(cached, seed=0, number=20):
    """What is drawn one after the other, in a form that can be compared."""
    rng = np.random.default_rng(seed)
    drawn = [cached.draw(rng) for _ in range(number)]
    return [
        (room, *(response.numpy().tobytes() for response in responses))
        for room, responses in drawn
    ]


def test_drawn_rooms_are_those_that_would_be_simulated(prepared):
    expected = [
        draw_room(np.random.default_rng([KEYS["seed"], index]), 2)
        for index in range(KEYS["num_rooms"])
    ]
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(30):
        room, responses = prepared.draw(rng)
        seen.add(expected.index(room))
        for response, again in zip(
            responses, room_responses(room, 8000), strict=True
        ):
            assert response.dtype == torch.float32
            assert torch.equal(response, again)
    assert seen == set(range(KEYS["num_rooms"]))


def test_the_generator_decides_which(prepared):
    assert draws(prepared) == draws(prepared)
    assert draws(prepared) != draws(prepared, seed=1)


def test_processes_do_not_change_a_byte(prepared, tmp_path):
    parallel = CachedRooms(tmp_path / "parallel", **KEYS)
    parallel.prepare(num_jobs=2)
    assert contents(parallel.folder) == contents(prepared.folder)


def test_files_are_arrays_without_pickle(prepared):
    room, responses = prepared.draw(np.random.default_rng(0))
    found = 0
    for path in prepared.folder.glob("*.npz"):
        # Float32 samples of the reverberation, and some more.
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        assert path.stat().st_size < arrays["reverberant"].nbytes + 6000
        found += np.array_equal(
            arrays["reverberant"], responses.reverberant.numpy()
        )
        assert arrays["sample_rate"] == 8000
        assert arrays["sources_m"].shape == (2, 3)
    assert found == 1


def test_rooms_can_be_added(prepared, tmp_path):
    before = contents(prepared.folder)
    more = CachedRooms(prepared.folder, **KEYS | {"num_rooms": 7})
    more.prepare()
    after = contents(prepared.folder)
    assert before.items() <= after.items() and len(after) == len(before) + 2
    whole = CachedRooms(tmp_path / "whole", **KEYS | {"num_rooms": 7})
    whole.prepare()
    assert after == contents(whole.folder)


def test_nothing_is_done_twice(prepared, monkeypatch):
    monkeypatch.setattr(CachedRooms, "_simulate", None)
    prepared.prepare()


# Several processes, and the end of one

LONG = """
import sys
from s4m_sb.mixing import rooms
from s4m_sb.mixing.room_cache import CachedRooms
rooms.RT60_S = {quick}
CachedRooms(sys.argv[1], 50, 2, 8000, 11).prepare(num_jobs=2)
"""


def test_a_killed_run_goes_on(tmp_path):
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", LONG.format(quick=QUICK), folder]
    with begun(command) as process:
        deadline = time.monotonic() + 60
        while len(list(folder.glob("[!.]*.npz"))) < 10:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        kill_first(process)
    times = {path: path.stat().st_mtime_ns for path in folder.glob("[!.]*.npz")}
    assert 10 <= len(times) < 50
    # Half a file, as a kill can leave it, and one that is being written.
    left = folder / ".000049.01234567.tmp.npz"  # of no process
    left.write_bytes(b"PK")
    keys = KEYS | {"num_rooms": 50}
    with replacing(folder / "other.npz") as written:
        written.write_bytes(b"PK")
        CachedRooms(folder, **keys).prepare(num_jobs=2)
        assert written.exists()
    (folder / "other.npz").unlink()
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert not left.exists()
    for path in folder.glob(".*"):
        path.unlink()
    whole = CachedRooms(tmp_path / "whole", **keys)
    whole.prepare(num_jobs=2)
    assert contents(folder) == contents(whole.folder)


def test_two_processes_read_at_once(prepared):
    assert pickle.loads(pickle.dumps(prepared)).folder == prepared.folder
    with ProcessPoolExecutor(2) as pool:
        futures = [pool.submit(draws, prepared, 5, 100) for _ in range(2)]
        for future in futures:
            assert future.result() == draws(prepared, 5, 100)


def test_two_processes_may_prepare_at_once(prepared, tmp_path):
    shared = CachedRooms(tmp_path / "shared", **KEYS)
    with ProcessPoolExecutor(2) as pool:
        for future in [pool.submit(shared.prepare) for _ in range(2)]:
            future.result()
    assert contents(shared.folder) == contents(prepared.folder)


# What is refused


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"seed": 12}, "made with seed 11, now it is 12"),
        ({"num_sources": 3}, "made with num_sources 2, now it is 3"),
        ({"sample_rate": 16000}, "made with sample_rate 8000, now it is 16000"),
    ],
)
def test_a_folder_of_other_rooms_is_refused(prepared, changes, message):
    before = contents(prepared.folder)
    other = CachedRooms(prepared.folder, **KEYS | changes)
    with pytest.raises(InputError, match=f"{prepared.folder}: was {message}"):
        other.prepare()
    assert contents(prepared.folder) == before
    # And where nobody prepared it.
    with pytest.raises(InputError, match=r"00000\d.npz: holds .* not .*other"):
        other.draw(np.random.default_rng(0))


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "000000.npz").write_bytes(b"mine")
    with pytest.raises(InputError, match=f"{tmp_path}: holds other files"):
        CachedRooms(tmp_path, **KEYS).prepare()
    assert contents(tmp_path) == {"000000.npz": b"mine"}


def test_a_room_that_is_not_there_is_named(prepared):
    more = CachedRooms(prepared.folder, **KEYS | {"num_rooms": 10**6})
    with pytest.raises(InputError, match=r"\d{6}.npz: no such room; prepare"):
        more.draw(np.random.default_rng(0))


def one_room(folder):
    """A folder of one room, and its file."""
    cached = CachedRooms(folder, **KEYS | {"num_rooms": 1})
    cached.prepare()
    return cached, folder / "000000.npz"


def test_a_damaged_file_is_named(tmp_path):
    cached, path = one_room(tmp_path / "rooms")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [b"", b"RIFF", whole[:100], whole[: len(whole) // 2]]
    # A few bytes changed in the names, headers, arrays and the directory.
    places = [*range(0, 400, 7), len(whole) // 2, *range(-600, 0, 7)]
    for place in places:
        for bits in (0xFF, 0x08):
            changed = bytearray(whole)
            changed[place] ^= bits
            damaged.append(bytes(changed))
    room, expected = cached.draw(rng)
    num_named = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            same_room, responses = cached.draw(rng)
        except InputError as error:
            assert str(path) in str(error)
            num_named += 1
        else:
            # Some bytes of a zip file, such as dates, say nothing.
            assert same_room == room
            for response, again in zip(responses, expected, strict=True):
                assert torch.equal(response, again)
    assert num_named > 0.6 * len(damaged)
    path.unlink()
    cached.prepare()
    assert path.read_bytes() == whole


def test_another_rooms_file_is_named(prepared):
    files = sorted(prepared.folder.glob("*.npz"))
    for path in files[1:]:
        path.write_bytes(files[0].read_bytes())
    with pytest.raises(InputError, match=r"00000[1-4].npz: holds Room.* not "):
        draws(prepared)


def test_pickles_are_not_opened(tmp_path):
    cached, path = one_room(tmp_path / "rooms")
    with np.load(path) as file:
        arrays = dict(file)
    arrays["direct"] = np.array([{"a": 1}], dtype=object)
    np.savez(path, **arrays)
    with pytest.raises(InputError, match="000000.npz: is not a room's file"):
        cached.draw(np.random.default_rng(0))


def test_a_full_disk_is_one_clear_line(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    cached = CachedRooms(tmp_path / "rooms", **KEYS)
    for num_jobs in (1, 2):
        with pytest.raises(
            InputError,
            match=f"{cached.folder}: cannot be written .No space left on",
        ):
            cached.prepare(num_jobs)
    assert os.listdir(cached.folder) == ["settings.json"]


def test_reading_needs_no_pyroomacoustics(prepared, monkeypatch):
    expected = draws(prepared)
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    prepared.prepare()
    assert draws(prepared) == expected
    named = re.escape("pip install 's4m_sb[reverb]'")
    for num_jobs in (1, 2):
        more = CachedRooms(prepared.folder, **KEYS | {"num_rooms": 9})
        with pytest.raises(InputError, match=named):
            more.prepare(num_jobs)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_rooms": 0}, "num_rooms is 0"),
        ({"num_sources": 0}, "num_sources is 0"),
        ({"sample_rate": 0}, "sample_rate is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_impossible_numbers_are_refused(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        CachedRooms(tmp_path, **KEYS | changes)


def test_no_process_is_refused(tmp_path):
    with pytest.raises(InputError, match="num_jobs is 0"):
        CachedRooms(tmp_path / "rooms", **KEYS).prepare(num_jobs=0)
