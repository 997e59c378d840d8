"""One mixture of several speakers, drawn by a generator.

Drawing decides who speaks, when, which windows of which files, how fast and
how loud, over which noise, in which room and through which channels: a
``MixturePlan``. Everything else follows from the plan, so a plan that was
written down gives the same samples again (``rendering.py``).

``dynamic.py`` draws for training, ``mixing/datasets/making.py`` for data sets
on disk, both by ``options.py``. ``speakers.py`` says who can be drawn,
``conversation.py`` when he speaks; ``noise.py`` and ``rooms.py`` have the rest.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from speechbrain.processing.signal_processing import compute_amplitude

from s4m_sb.errors import InputError
from s4m_sb.mixing.coloration import draw_gains
from s4m_sb.mixing.conversation import Span
from s4m_sb.mixing.corpus import Corpus, Utterance, resampled_length
from s4m_sb.mixing.noise import NoiseDrawer
from s4m_sb.mixing.options import MixingOptions
from s4m_sb.mixing.plans import MixturePlan, Piece, Silence, SourcePlan
from s4m_sb.mixing.ranges import happens
from s4m_sb.mixing.rendering import Mixture, mix, one_thread, read_pieces
from s4m_sb.mixing.rooms import Room, RoomResponses
from s4m_sb.mixing.script import Script
from s4m_sb.mixing.speakers import Speakers

MAX_TRIES = 50

# SpeechBrain's statistics of the levels in WSJ0-mix, mean absolute
# amplitude in dB: the first speaker's, and the others' against the first.
FIRST_LEVEL_DB = (-27.43, 2.57)  # mean, standard deviation
OTHER_LEVEL_DB = (-2.51, 2.66)
LEVEL_BOUNDS_DB = (-45.0, 0.0)


class Rooms(Protocol):
    """Where mixtures get their rooms from, see ``rooms.FreshRooms``."""

    def draw(self, rng: np.random.Generator) -> tuple[Room, RoomResponses]:
        """Gives a room and its responses, decided by the generator."""


@dataclasses.dataclass(frozen=True)
class _Talker:
    """One who was drawn: what he has said, the order, how loud and fast."""

    spoken: tuple[Utterance, ...]
    order: np.ndarray
    level_db: float
    speed: float

    @property
    def row(self) -> list[Utterance]:
        """His utterances in that order."""
        return [self.spoken[i] for i in self.order]


class _Source(NamedTuple):
    plan: SourcePlan
    signal: torch.Tensor  # [T]


class MixtureDrawer:
    """Draws mixtures of different speakers from a corpus.

    Arguments
    ---------
    corpus : Corpus
        Who speaks.
    options : MixingOptions
        What the mixtures are like.
    noise : Corpus, optional
        Adds noise, read with ``speaker_from="file"``.
    rooms : Rooms, optional
        Puts mixtures into rooms with as many sources as speakers.

    Raises
    ------
    InputError
        If an option is of no effect or only two can be mixed, or the corpus
        has too few speakers.

    Example
    -------
    >>> from s4m_sb.audio.files import write_audio
    >>> from s4m_sb.mixing.corpus import read_corpus
    >>> folder = getfixture("tmp_path")
    >>> tone = torch.sin(torch.arange(8000) / 10)
    >>> write_audio(folder / "anna" / "low.wav", tone, 8000)
    >>> write_audio(folder / "ben" / "high.wav", tone**3, 8000)
    >>> options = MixingOptions(num_spks=2, sample_rate=8000, segment_s=0.5)
    >>> drawer = MixtureDrawer(read_corpus(folder), options)
    >>> drawn = drawer.draw(np.random.default_rng(0))
    >>> drawn.sources.shape
    torch.Size([4000, 2])
    >>> torch.equal(drawn.mixture, drawn.sources.sum(dim=1))
    True
    >>> from s4m_sb.mixing.rendering import render
    >>> torch.equal(drawn.mixture, render(drawn.plan).mixture)
    True
    """

    def __init__(
        self,
        corpus: Corpus,
        options: MixingOptions,
        noise: Corpus | None = None,
        rooms: Rooms | None = None,
    ):
        if options.num_spks < 2 and noise is rooms is None:
            raise InputError(
                f"num_spks is {options.num_spks}; at least 2 can be mixed, 1 "
                "with noise"
            )
        for kind, share, there in (
            ("noise_probability", options.noise_probability, noise),
            ("room_probability", options.room_probability, rooms),
        ):
            if there is None and share != 1:
                what = "is no noise" if "noise" in kind else "are no rooms"
                raise InputError(f"{kind} is {share}, but there {what}; give 1")
        self.options = options
        self.noise = (
            None
            if noise is None
            else NoiseDrawer(noise, options.sample_rate, options)
        )
        self.rooms = rooms
        self.speakers = Speakers(corpus, options)

    def draw(self, rng: np.random.Generator) -> Mixture:
        """Draws one mixture.

        Arguments
        ---------
        rng : numpy.random.Generator
            The mixture depends on its state and the corpus alone.

        Returns
        -------
        Mixture
            Signals and plan; ``render`` of the plan gives the same signals.

        Raises
        ------
        InputError
            If too few speakers have more to say than silence, or a file is
            unusable.
        """
        options = self.options
        spans = None
        if options.conversation is not None and options.num_frames is not None:
            spans = options.conversation.draw(
                rng, options.num_spks, options.num_frames, options.sample_rate
            )
        silent: list[int] = []  # of this draw alone: others know nothing of it
        while True:
            chosen = self.speakers.draw(rng, without=silent)
            with one_thread():
                sources = self._draw_sources(rng, chosen, spans)
                if len(sources) == options.num_spks:
                    return self._surround(rng, sources)
            silent.append(chosen[len(sources)])
            self.speakers.tell_of_silence(silent[-1], MAX_TRIES)

    def _surround(
        self, rng: np.random.Generator, sources: list[_Source]
    ) -> Mixture:
        # After the speech, so that it does not depend on what surrounds it.
        options = self.options
        signals = [source.signal for source in sources]
        noise_plan = noise = room = responses = None
        if self.noise is not None:
            noise_plan, noise = self.noise.draw(rng, len(signals[0]))
        if self.rooms is not None and happens(rng, options.room_probability):
            room, responses = self.rooms.draw(rng)
        # Last of all, so that nothing else depends on it.
        plan = MixturePlan(
            tuple(self._colour(rng, source.plan) for source in sources),
            options.sample_rate,
            noise_plan,
            room,
        )
        return mix(plan, signals, noise, responses)

    def _colour(
        self, rng: np.random.Generator, source: SourcePlan
    ) -> SourcePlan:
        range_db = self.options.filter_range_db
        if range_db is None or not source.said:
            return source
        gains_db = draw_gains(rng, range_db, self.options.sample_rate)
        return dataclasses.replace(source, filter_db=gains_db)

    def _draw_sources(
        self,
        rng: np.random.Generator,
        chosen: list[int],
        spans: list[list[Span]] | None,
    ) -> list[_Source]:
        # Ends before a speaker who is silent.
        spoken = [self.speakers.spoken[speaker] for speaker in chosen]
        levels_db = self._draw_levels(rng)
        speeds = [self._draw_speed(rng) for _ in spoken]
        orders = [rng.permutation(len(said)) for said in spoken]
        talkers = [
            _Talker(*drawn)
            for drawn in zip(spoken, orders, levels_db, speeds, strict=True)
        ]
        num_frames = self.options.num_frames
        if num_frames is None or not self.options.join_short:
            lengths = [self._length(t.row[0], t.speed) for t in talkers]
            num_frames = min([*lengths, num_frames or lengths[0]])
        throughout = [(0, num_frames)]
        sources: list[_Source] = []
        for talker, his in zip(
            talkers, spans or [throughout] * len(talkers), strict=True
        ):
            if his == throughout:
                source = self._draw_speech(rng, talker, num_frames)
            else:
                source = self._draw_turns(rng, talker, num_frames, his)
            if source is None:
                break
            sources.append(source)
        return sources

    def _draw_levels(self, rng: np.random.Generator) -> list[float]:
        first_db = np.clip(rng.normal(*FIRST_LEVEL_DB), *LEVEL_BOUNDS_DB)
        levels_db = [first_db]
        for _ in range(1, self.options.num_spks):
            if self.options.level_range_db is None:
                level_db = first_db + rng.normal(*OTHER_LEVEL_DB)
                level_db = np.clip(level_db, *LEVEL_BOUNDS_DB)
            else:
                level_db = first_db + rng.uniform(*self.options.level_range_db)
            levels_db.append(level_db)
        return [round(float(level_db), 4) for level_db in levels_db]

    def _draw_speed(self, rng: np.random.Generator) -> float:
        if self.options.speed_range is None:
            return 1.0
        low, high = self.options.speed_range
        speed = round(float(rng.uniform(low, high)), 2)
        return min(max(speed, low), high)

    def _draw_speech(
        self, rng: np.random.Generator, talker: _Talker, num_frames: int
    ) -> _Source | None:
        """One who speaks all the time; None if he is silent."""
        for _ in range(MAX_TRIES):
            pieces = self._draw_pieces(rng, talker, num_frames)
            source = self._read(talker, pieces)
            level_db = compute_amplitude(source.signal, scale="dB")
            if level_db >= self.options.silence_db:
                return source
            order = rng.permutation(len(talker.spoken))
            talker = dataclasses.replace(talker, order=order)
        return None

    def _draw_pieces(
        self, rng: np.random.Generator, talker: _Talker, num_frames: int
    ) -> list[Piece]:
        pieces = []
        for utterance in talker.row:
            total = self._length(utterance, talker.speed)
            if total < num_frames and not self.options.join_short:
                continue
            taken = min(total, num_frames)
            start = int(rng.integers(total - taken + 1))
            pieces.append(Piece(utterance, start, taken))
            num_frames -= taken
            if num_frames == 0:
                break
        return pieces

    def _draw_turns(
        self,
        rng: np.random.Generator,
        talker: _Talker,
        num_frames: int,
        spans: list[Span],
    ) -> _Source | None:
        """One who speaks in these spans; None if he is silent there."""
        if not spans:
            silence = SourcePlan((Silence(num_frames),), 0.0)
            return _Source(silence, torch.zeros(num_frames))
        first = self._length(talker.row[0], talker.speed)
        script = Script(
            talker.row,
            int(rng.integers(first)),
            self.options.sample_rate,
            talker.speed,
            self.options.silence_db,
        )
        pieces: list[Piece | Silence] = []
        at = 0
        for begin, end in spans:
            turn = script.take(end - begin)
            if turn is None:
                return None
            pieces += [Silence(begin - at), *turn]
            at = end
        pieces.append(Silence(num_frames - at))
        return self._read(talker, [x for x in pieces if x.num_frames])

    def _read(
        self, talker: _Talker, pieces: Sequence[Piece | Silence]
    ) -> _Source:
        return _Source(
            SourcePlan(tuple(pieces), talker.level_db, talker.speed),
            read_pieces(pieces, self.options.sample_rate, talker.speed),
        )

    def _length(self, utterance: Utterance, speed: float) -> int:
        return resampled_length(utterance, self.options.sample_rate, speed)
