"""Who speaks when: stretches of the time in which each talker speaks.

A recording of a given length is of one of three kinds.

- ``solo``: one talker speaks all the time, the others never.
- ``turns``: the talkers take turns. The recording is a window of a
  conversation that has been going on before it and goes on after it.
- overlapped: all talkers speak all the time, as in WSJ0-mix.

Turns are drawn one after the other:

- A turn is as long as a log-normal number says whose middle 95 % are
  ``turn_s``; what is outside is drawn again. Turns in spontaneous speech are
  skewed like that, with a mean of about 2 s (Levinson, 2016).
- The next turn begins a normally distributed time after the end of all those
  before it, of the mean and standard deviation ``gap_s``; below zero the two
  overlap. The default, 0.2 s and 0.7 s, is the response time of 0.2 s of ten
  languages (Stivers et al., 2009) and overlaps at 39 % of the changes (about
  40 % in Heldner and Edlund, 2010), made wider than theirs, so that overlaps
  last. An overlap never begins before the turn that it interrupts.
- With the probability ``pause`` there is a long pause instead, uniform in
  ``pause_s``, in which nobody speaks. Breaks of seconds are what a model
  has to keep voices over; people who think or eat make them.
- The next talker is another one than the last, all the others alike; after a
  long pause it may be the same.

With more than two talkers, two to all of them take part, equally likely. A
window in which not all who take part speak is drawn again, unless none of
``MAX_TRIES`` windows, which are too short then, is better; in a recording
of kind ``turns`` at least one talker speaks.

``script.py`` says what is said in a turn; ``drawing.py`` uses both.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from s4m_sb.errors import InputError
from s4m_sb.mixing.ranges import check_mean, check_range, check_share

MAX_TRIES = 50
SHORTEST_TURN_S = 0.25  # of what the ends of the window leave of a turn
BREATH_S = 0.1  # at least, between two turns of one talker
LONGEST_S = 3600.0  # of a turn or a pause
EARLIER = 4  # turns of the longest length before the window begins

Span = tuple[int, int]  # first sample, and the one after the last


@dataclass(frozen=True)
class Conversation:
    """How people take turns.

    Arguments
    ---------
    solo : float
        Share of the recordings in which only one talker speaks.
    turns : float, optional
        Share of those in which talkers take turns; the rest, if there is
        any, is overlapped. By default all that are not solo.
    turn_s : tuple[float, float]
        Short and long turns in seconds: 95 % are between, none outside.
    gap_s : tuple[float, float]
        From the end of a turn to the next, mean and standard deviation in
        seconds.
    pause : float
        Probability of a long pause instead.
    pause_s : tuple[float, float]
        Its shortest and longest length in seconds.

    Raises
    ------
    InputError
        If a value is out of its range.

    Example
    -------
    >>> rng = np.random.default_rng(3)
    >>> for spans in Conversation().draw(rng, 2, num_frames=80000, rate=8000):
    ...     print(spans)
    [(8408, 21923), (36479, 53527), (64021, 80000)]
    [(0, 8318), (18558, 31629), (39289, 71765)]
    """

    solo: float = 0.0
    turns: float | None = None
    turn_s: tuple[float, float] = (0.5, 8.0)
    gap_s: tuple[float, float] = (0.2, 0.7)
    pause: float = 0.1
    pause_s: tuple[float, float] = (1.0, 4.0)

    def __post_init__(self):
        check_share("solo", self.solo)
        check_share("turns", 0 if self.turns is None else self.turns)
        check_share("pause", self.pause)
        if self.solo + (self.turns or 0) > 1:
            raise InputError(
                f"solo is {self.solo} and turns is {self.turns}; they are "
                "shares of all recordings, together at most 1"
            )
        check_range("turn_s", self.turn_s, SHORTEST_TURN_S, LONGEST_S)
        check_range("pause_s", self.pause_s, 0, LONGEST_S)
        check_mean("gap_s", self.gap_s)

    @classmethod
    def of(cls, given: "Mapping | Conversation") -> "Conversation":
        """Reads a conversation from the plain values of a YAML file.

        Arguments
        ---------
        given : mapping or Conversation
            The arguments by name.

        Returns
        -------
        Conversation
            As it is, if it is one.

        Raises
        ------
        InputError
            If it is no mapping, has an unknown name, or a value is out of
            its range.

        Example
        -------
        >>> Conversation.of({"solo": 0.2}).turn_s
        (0.5, 8.0)
        >>> Conversation.of({"silence": 0.2})
        Traceback (most recent call last):
        s4m_sb.errors.InputError: conversation has no 'silence'; use solo, ...
        """
        if isinstance(given, Conversation):
            return given
        names = ", ".join(field.name for field in fields(cls))
        if not isinstance(given, Mapping):
            raise InputError(
                f"conversation is {given!r}; give some of {names}, by name"
            )
        for name in given:
            if name not in names.split(", "):
                raise InputError(f"conversation has no {name!r}; use {names}")
        return cls(**given)

    @property
    def least_share(self) -> float:
        """How much of a recording's length a talker should have said.

        All of it where one may speak all the time, else half of it; in turns
        that take more, words are said again.
        """
        return 0.5 if self.solo == 0 and self.turns in (None, 1) else 1.0

    def draw(
        self,
        rng: np.random.Generator,
        num_spks: int,
        num_frames: int,
        rate: int,
    ) -> list[list[Span]]:
        """Draws who speaks when.

        Arguments
        ---------
        rng : numpy.random.Generator
            Decides everything.
        num_spks : int
            Talkers there are.
        num_frames : int
            Samples of the recording.
        rate : int
            Samples a second.

        Returns
        -------
        list[list[tuple[int, int]]]
            For each talker where he begins and where he has ended, in
            samples and in the order of time; an empty list for one who
            never speaks.
        """
        kind = rng.random()
        throughout = [(0, num_frames)]
        if kind < self.solo:
            talker = int(rng.integers(num_spks))
            return [throughout if i == talker else [] for i in range(num_spks)]
        if self.turns is not None and kind >= self.solo + self.turns:
            return [throughout] * num_spks
        least = min(2, num_spks)
        count = int(rng.integers(least, num_spks + 1))
        talkers = rng.permutation(num_spks)[:count].tolist()
        best: list[list[Span]] = []
        for _ in range(MAX_TRIES):
            spans: list[list[Span]] = [[] for _ in range(num_spks)]
            for talker, start, end in self._turns(
                rng, talkers, num_frames, rate
            ):
                spans[talker].append((start, end))
            if sum(map(bool, spans)) > sum(map(bool, best)):
                best = spans
            if sum(map(bool, best)) == count:
                break
        if not best:  # a recording shorter than any turn
            best = [
                throughout if i == talkers[0] else [] for i in range(num_spks)
            ]
        return best

    def _turns(
        self,
        rng: np.random.Generator,
        talkers: list[int],
        num_frames: int,
        rate: int,
    ) -> list[tuple[int, int, int]]:
        """Turns within the window: who, from where, to where."""
        turns = []
        begin = -EARLIER * self.turn_s[1]
        begin += rng.uniform(0, self.turn_s[1])  # no rhythm at the beginning
        talker = talkers[int(rng.integers(len(talkers)))]
        over = begin  # when all turns so far are over
        own_end = dict.fromkeys(talkers, -math.inf)
        while begin * rate < num_frames:
            end = begin + self._turn_s(rng)
            start_frame = max(0, round(begin * rate))
            end_frame = min(num_frames, round(end * rate))
            if end_frame - start_frame >= SHORTEST_TURN_S * rate:
                turns.append((talker, start_frame, end_frame))
            own_end[talker] = end
            over = max(over, end)
            others = [other for other in talkers if other != talker]
            if rng.random() < self.pause:
                gap = rng.uniform(*self.pause_s)
                others = talkers
            else:
                gap = rng.normal(*self.gap_s)
            if others:
                talker = others[int(rng.integers(len(others)))]
            begin = max(over + gap, begin, own_end[talker] + BREATH_S)
        return turns

    def _turn_s(self, rng: np.random.Generator) -> float:
        short, long = map(math.log, self.turn_s)
        while True:
            turn = rng.normal((short + long) / 2, (long - short) / 4)
            if short <= turn <= long:
                return math.exp(turn)
