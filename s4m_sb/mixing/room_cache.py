"""Rooms on disk, simulated once and read by every epoch and process.

``<folder>/000000.npz`` and so on, one room each, as arrays that NumPy reads
without pickle: ``size_m``, ``microphone_m``, ``sources_m``, ``rt60_s``,
``sample_rate``, ``reverberant`` ``[S, R]`` and ``direct``, which has no
trailing zeros. Room i is a function of (seed, i); neither the number of
processes nor a restart can change a byte. ``rooms.py`` simulates them.
"""

import os
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import pad

from s4m_sb.errors import InputError
from s4m_sb.mixing.rooms import (
    Room,
    RoomResponses,
    check_numbers,
    draw_room,
    load_pyroomacoustics,
    room_responses,
)
from s4m_sb.system.claim import claim_folder
from s4m_sb.system.files import remove_left, replacing
from s4m_sb.system.processes import run_jobs

VERSION = 1  # of what is simulated and how it is kept


class CachedRooms:
    """Rooms that are simulated once and kept in a folder.

    One process prepares the folder; any number of them may then draw from
    it at once.

    Arguments
    ---------
    folder : str or os.PathLike
        Where the rooms are kept.
    num_rooms : int
        How many there are; more can be added later.
    num_sources : int
        In every room.
    sample_rate : int
        In Hz.
    seed : int
        Decides the rooms, at least 0.

    Raises
    ------
    InputError
        If a number is out of its range.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "rooms"
    >>> rooms = CachedRooms(
    ...     folder, num_rooms=2, num_sources=1, sample_rate=8000, seed=7
    ... )
    >>> rooms.prepare()
    >>> sorted(path.name for path in folder.iterdir())
    ['000000.npz', '000001.npz', 'settings.json']
    >>> room, responses = rooms.draw(np.random.default_rng(0))
    >>> responses.direct.shape == responses.reverberant.shape
    True
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        num_rooms: int,
        num_sources: int,
        sample_rate: int,
        seed: int,
    ):
        check_numbers(num_sources, sample_rate)
        if num_rooms < 1:
            raise InputError(f"num_rooms is {num_rooms}; give at least 1")
        if seed < 0:
            raise InputError(f"seed is {seed}; give at least 0")
        self.folder = Path(folder)
        self.num_rooms = num_rooms
        self.num_sources = num_sources
        self.sample_rate = sample_rate
        self.seed = seed

    def prepare(self, num_jobs: int = 1, progress: bool = False) -> None:
        """Simulates the rooms that the folder does not have yet.

        Called again after it was killed, it goes on where it was.

        Arguments
        ---------
        num_jobs : int
            Processes. One simulates about 5 rooms of two sources in a
            second, and needs up to 1.1 GB for those of the longest RT60.
        progress : bool
            Show a progress bar.

        Raises
        ------
        InputError
            If the folder was made for other rooms, holds something else or
            cannot be written, or pyroomacoustics is missing.
        """
        settings = {
            "version": VERSION,
            "num_sources": self.num_sources,
            "sample_rate": self.sample_rate,
            "seed": self.seed,
        }
        there = {path.name for path in self.folder.glob("*.npz")}
        missing = [
            index
            for index in range(self.num_rooms)
            if self._path(index).name not in there
        ]
        if missing:
            load_pyroomacoustics()
        claim_folder(self.folder, settings)
        try:
            remove_left(self.folder.glob(".*.tmp.npz"))
            for _ in run_jobs(
                self._simulate,
                missing,
                num_jobs,
                progress=progress,
                unit="room",
                num_done=self.num_rooms - len(missing),
            ):
                pass
        except OSError as error:
            raise InputError(
                f"{self.folder}: cannot be written ({error.strerror})"
            ) from error

    def draw(self, rng: np.random.Generator) -> tuple[Room, RoomResponses]:
        """Picks one of the rooms and reads it.

        Arguments
        ---------
        rng : np.random.Generator
            Decides which.

        Returns
        -------
        Room
            The room.
        RoomResponses
            What ``room_responses`` gives for it, to the last bit.

        Raises
        ------
        InputError
            If the room's file is missing or damaged, or is another room's.
        """
        index = int(rng.integers(self.num_rooms))
        path = self._path(index)
        room, sample_rate, responses = _read(path)
        expected = self._room(index)
        if (room, sample_rate) != (expected, self.sample_rate):
            raise InputError(
                f"{path}: holds {room} at {sample_rate} Hz, not {expected} at "
                f"{self.sample_rate} Hz; is this the folder of other rooms?"
            )
        return room, responses

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.npz"

    def _room(self, index: int) -> Room:
        rng = np.random.default_rng([self.seed, index])
        return draw_room(rng, self.num_sources)

    def _simulate(self, index: int) -> None:
        room = self._room(index)
        responses = room_responses(room, self.sample_rate)
        _write(self._path(index), room, self.sample_rate, responses)


def _write(
    path: Path, room: Room, sample_rate: int, responses: RoomResponses
) -> None:
    direct = responses.direct
    length = 1 + int(direct.abs().amax(dim=0).nonzero().max())
    with replacing(path) as temporary:
        np.savez(
            temporary,
            size_m=room.size_m,
            microphone_m=room.microphone_m,
            sources_m=room.sources_m,
            rt60_s=room.rt60_s,
            sample_rate=sample_rate,
            direct=direct[:, :length].numpy(),
            reverberant=responses.reverberant.numpy(),
        )


def _read(path: Path) -> tuple[Room, int, RoomResponses]:
    try:
        with np.load(path, allow_pickle=False) as file:
            room = Room(
                tuple(file["size_m"].tolist()),
                tuple(file["microphone_m"].tolist()),
                tuple(map(tuple, file["sources_m"].tolist())),
                file["rt60_s"].item(),
            )
            sample_rate = file["sample_rate"].item()
            direct = torch.from_numpy(file["direct"])
            reverberant = torch.from_numpy(file["reverberant"])
        direct = pad(direct, (0, reverberant.shape[1] - direct.shape[1]))
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: no such room; prepare the folder first"
        ) from error
    except Exception as error:  # NumPy, zipfile and tokenize have many
        raise InputError(
            f"{path}: is not a room's file, or damaged; remove it and prepare "
            "the folder again"
        ) from error
    return room, sample_rate, RoomResponses(direct, reverberant)
