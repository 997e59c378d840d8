"""Rooms as in WHAMR!, and what they do to sound: impulse responses.

A room here is a shoebox with a microphone and a few sources, drawn from the
ranges that Maciejewski et al. published for WHAMR! (arXiv 1910.10279, table
1). Its responses are simulated by the image source method of pyroomacoustics,
the extra ``[reverb]``. ``room_cache.py`` keeps them on disk.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch

from s4m_sb.errors import InputError

Point = tuple[float, float, float]

SPEED_OF_SOUND = 343.0  # in m/s, at 20 degrees
# Every response is this many samples late: a delay that falls between two
# samples is a windowed sinc, which begins that long before its middle.
DELAY = 40

SIDE_M = (5.0, 10.0)
HEIGHT_M = (3.0, 4.0)
RT60_S = ((0.1, 0.3), (0.2, 0.6), (0.4, 1.0))  # low, medium, high
OFF_CENTRE_M = (-0.2, 0.2)  # of the microphone
ELEVATION_M = (0.9, 1.8)  # of microphone and sources
RADIUS_M = (0.66, 2.0)  # from microphone to source in the floor plan
DIGITS = 4  # a tenth of a millimetre or millisecond

# All that decides the samples. One thread adds the reflections in one order;
# the table of the sinc has a step that is exact in binary; the high-pass
# filter, which runs backward as well, would ring before the direct sound.
CONSTANTS = {
    "c": SPEED_OF_SOUND,
    "frac_delay_length": 2 * DELAY + 1,
    "sinc_lut_granularity": 128,
    "rir_hpf_enable": False,
    "num_threads": 1,
}


@dataclass(frozen=True)
class Room:
    """A shoebox room with a microphone and sources.

    Arguments
    ---------
    size_m : tuple[float, float, float]
        Length, width and height in m.
    microphone_m : tuple[float, float, float]
        Where the microphone is, in m from a corner on the floor.
    sources_m : tuple[tuple[float, float, float], ...]
        Where the sources are, likewise.
    rt60_s : float
        Reverberation time in s, in which sound decays by 60 dB.

    Raises
    ------
    InputError
        If a size or the reverberation time is not positive, or something is
        outside the room or where the microphone is.

    Example
    -------
    >>> room = Room((5.0, 4.0, 3.0), (2.0, 2.0, 1.0), ((2.0, 3.5, 1.0),), 0.3)
    >>> room.distances_m
    (1.5,)
    """

    size_m: Point
    microphone_m: Point
    sources_m: tuple[Point, ...]
    rt60_s: float

    def __post_init__(self):
        for what, value in (("size_m", self.size_m), ("rt60_s", self.rt60_s)):
            if not np.all((np.array(value) > 0) & np.isfinite(value)):
                raise InputError(f"room: {what} is {value}; give above 0")
        if not self.sources_m:
            raise InputError("room: sources_m is empty; give one at least")
        for point in (self.microphone_m, *self.sources_m):
            inside = np.array(point) > 0, np.array(point) < self.size_m
            if not np.all(inside):
                raise InputError(
                    f"room: {point} is not inside a room of {self.size_m} m"
                )
        if not min(self.distances_m) > 0:
            raise InputError(
                f"room: a source is where the microphone is, {self.sources_m}"
            )

    @property
    def distances_m(self) -> tuple[float, ...]:
        """From the microphone to every source, in m."""
        return tuple(
            math.dist(self.microphone_m, source) for source in self.sources_m
        )


class RoomResponses(NamedTuple):
    """From every source to the microphone: two tensors ``[S, R]``, float32."""

    direct: torch.Tensor
    reverberant: torch.Tensor


class FreshRooms:
    """Rooms that are drawn and simulated whenever one is asked for.

    Arguments
    ---------
    num_sources : int
        In every room.
    sample_rate : int
        In Hz.

    Raises
    ------
    InputError
        If a number is not positive, or pyroomacoustics is missing.

    Example
    -------
    >>> rooms = FreshRooms(num_sources=2, sample_rate=8000)
    >>> room, responses = rooms.draw(np.random.default_rng(1))
    >>> room.rt60_s
    0.5871
    >>> responses.reverberant.shape
    torch.Size([2, 4737])
    """

    def __init__(self, num_sources: int, sample_rate: int):
        check_numbers(num_sources, sample_rate)
        load_pyroomacoustics()
        self.num_sources = num_sources
        self.sample_rate = sample_rate

    def draw(self, rng: np.random.Generator) -> tuple[Room, RoomResponses]:
        """Draws a room and simulates it.

        Arguments
        ---------
        rng : np.random.Generator
            Decides everything.

        Returns
        -------
        Room
            See ``draw_room``.
        RoomResponses
            See ``room_responses``.
        """
        room = draw_room(rng, self.num_sources)
        return room, room_responses(room, self.sample_rate)


def draw_room(rng: np.random.Generator, num_sources: int) -> Room:
    """Draws a room from the ranges of WHAMR!.

    Length and width 5 to 10 m, height 3 to 4 m. The reverberation is low,
    medium or high, equally likely, with an RT60 of 0.1 to 0.3, 0.2 to 0.6 or
    0.4 to 1 s. The microphone is at the middle of the floor plan, up to 0.2 m
    off in length and width; a source is 0.66 to 2 m away from it in the floor
    plan, in any direction. All of them are 0.9 to 1.8 m above the floor.
    Everything is uniform in its range and rounded to a tenth of a millimetre
    or millisecond, so that four digits in a text are the whole truth.

    The nearest wall is 2.3 m from the microphone, so that no source is
    outside.

    Arguments
    ---------
    rng : np.random.Generator
        Decides everything.
    num_sources : int
        In the room.

    Returns
    -------
    Room
        The room.
    """

    def draw(low_high: tuple[float, float]) -> float:
        return rng.uniform(*low_high)

    size = [draw(SIDE_M), draw(SIDE_M), draw(HEIGHT_M)]
    rt60_s = draw(RT60_S[rng.integers(len(RT60_S))])
    microphone = [
        size[0] / 2 + draw(OFF_CENTRE_M),
        size[1] / 2 + draw(OFF_CENTRE_M),
        draw(ELEVATION_M),
    ]
    sources = []
    for _ in range(num_sources):
        height, radius = draw(ELEVATION_M), draw(RADIUS_M)
        angle = draw((0, 2 * math.pi))
        sources.append(
            [
                microphone[0] + radius * math.cos(angle),
                microphone[1] + radius * math.sin(angle),
                height,
            ]
        )
    return Room(
        _rounded(size),
        _rounded(microphone),
        tuple(_rounded(source) for source in sources),
        round(float(rt60_s), DIGITS),
    )


def room_responses(room: Room, sample_rate: int) -> RoomResponses:
    """Simulates the sound of a room by the image source method.

    The walls are those of WHAMR!: of the amplitude of a sound they reflect
    ``1 - a``, with a from Sabine's formula for the RT60. (The formula is meant
    for the energy; pyroomacoustics took it for the amplitude when WHAMR! was
    made.) Sound in the middle of the ranges then decays by 60 dB in 0.5 to 0.9
    times the RT60 that the room names; with the energy's absorption it would
    be 1 to 1.7 times, and the reverberation 5 to 8 dB louder than in WHAMR!.
    A short RT60 in a large room gives an a above 1, in about one of 14 rooms.
    There, WHAMR!'s walls reflect ``1 - a < 0``; here they reflect nothing, and
    the reverberant response is the direct one. Reflections are followed until
    the RT60 is over, where the response ends.

    The direct response is that of the same source without walls, a pulse of
    ``1 / (4 pi distance)`` after ``distance / SPEED_OF_SOUND`` seconds. Both
    responses are ``DELAY`` samples late, so that they stay aligned: the
    direct response is the leading part of the reverberant one. The high-pass
    filter of pyroomacoustics is off, for it would ring before that pulse.

    The samples depend on the arguments alone, whatever the number of threads
    and the settings of pyroomacoustics.

    Arguments
    ---------
    room : Room
        The room.
    sample_rate : int
        In Hz.

    Returns
    -------
    RoomResponses
        Direct and reverberant, ``[S, R]`` each, with R the samples of the
        RT60 and ``DELAY`` more (the whole of the direct response, if the
        RT60 is shorter than that).

    Raises
    ------
    InputError
        If the rate is not positive, or pyroomacoustics is missing.

    Example
    -------
    >>> room = Room((5.0, 4.0, 3.0), (2.0, 2.0, 1.0), ((2.0, 3.5, 1.0),), 0.3)
    >>> direct, reverberant = room_responses(room, sample_rate=8000)
    >>> reverberant.shape
    torch.Size([1, 2440])
    >>> direct.argmax().item() == DELAY + round(1.5 / SPEED_OF_SOUND * 8000)
    True
    """
    check_numbers(len(room.sources_m), sample_rate)
    max_order = math.ceil(room.rt60_s * SPEED_OF_SOUND / min(room.size_m))
    direct = _simulate(room, sample_rate, max_order=0)
    reverberant = _simulate(room, sample_rate, max_order)
    num_frames = max(
        DELAY + math.ceil(room.rt60_s * sample_rate), *map(len, direct)
    )
    return RoomResponses(
        _stacked(direct, num_frames), _stacked(reverberant, num_frames)
    )


def check_numbers(num_sources: int, sample_rate: int) -> None:
    """Refuses numbers that no room has.

    Arguments
    ---------
    num_sources : int
        In every room.
    sample_rate : int
        In Hz.

    Raises
    ------
    InputError
        If one is not positive.
    """
    if num_sources < 1:
        raise InputError(f"num_sources is {num_sources}; give at least 1")
    if sample_rate < 1:
        raise InputError(f"sample_rate is {sample_rate}; give at least 1 Hz")


def load_pyroomacoustics() -> ModuleType:
    """Imports pyroomacoustics, which is optional.

    Returns
    -------
    module
        The package.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        import pyroomacoustics
    except ImportError as error:
        raise InputError(
            "rooms are simulated by pyroomacoustics, which is missing "
            f"({error}); pip install 's4m_sb[reverb]'"
        ) from error
    return pyroomacoustics


def _rounded(point: list[float]) -> Point:
    x, y, z = (round(float(value), DIGITS) for value in point)
    return x, y, z


def _simulate(room: Room, sample_rate: int, max_order: int) -> list[np.ndarray]:
    pyroomacoustics = load_pyroomacoustics()
    with _constants(pyroomacoustics.constants):
        simulation = pyroomacoustics.ShoeBox(
            room.size_m,
            fs=sample_rate,
            materials=pyroomacoustics.Material(_absorption(room)),
            max_order=max_order,
        )
        for source in room.sources_m:
            simulation.add_source(source)
        simulation.add_microphone(room.microphone_m)
        simulation.compute_rir()
    return simulation.rir[0]


def _absorption(room: Room) -> float:
    """The share of the energy that the walls absorb."""
    x, y, z = room.size_m
    surface_m2 = 2 * (x * y + x * z + y * z)
    sabine = 24 * math.log(10) * x * y * z
    sabine /= SPEED_OF_SOUND * surface_m2 * room.rt60_s
    return 1 - (1 - min(sabine, 1.0)) ** 2


def _stacked(responses: list[np.ndarray], num_frames: int) -> torch.Tensor:
    stacked = torch.zeros(len(responses), num_frames)  # [S, R]
    for row, response in zip(stacked, responses, strict=True):
        kept = torch.from_numpy(response[:num_frames])
        row[: len(kept)] = kept
    # The amplitude in pyroomacoustics is 1 / distance.
    return stacked / (4 * math.pi)


@contextlib.contextmanager
def _constants(constants) -> Iterator[None]:
    before = {name: constants.get(name) for name in CONSTANTS}
    for name, value in CONSTANTS.items():
        constants.set(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            constants.set(name, value)
