"""One mixture of several speakers, drawn by a generator.

Drawing decides who speaks, which windows of which files, how fast and how
loud, over which noise, in which room and through which channels: a
``MixturePlan``. Everything else follows from the plan, so a plan that was
written down gives the same samples again (``rendering.py``).

``dynamic.py`` draws for training, ``mixing/datasets/making.py`` for data sets
on disk; ``corpus.py`` has the speech, ``noise.py`` and ``rooms.py`` the rest.
"""

import dataclasses
import logging
from typing import Protocol

import numpy as np
import torch
from speechbrain.processing.signal_processing import compute_amplitude

from s4m_sb.errors import InputError
from s4m_sb.mixing.coloration import channel_frequencies, draw_gains
from s4m_sb.mixing.conversation import Conversation, Span
from s4m_sb.mixing.corpus import Corpus, Utterance, resampled_length
from s4m_sb.mixing.noise import NoiseDrawer
from s4m_sb.mixing.plans import MixturePlan, Piece, Silence, SourcePlan
from s4m_sb.mixing.rendering import Mixture, mix, one_thread, read_pieces
from s4m_sb.mixing.rooms import Room, RoomResponses
from s4m_sb.mixing.script import Script

logger = logging.getLogger(__name__)

MAX_TRIES = 50
MIN_UTTERANCE_S = 0.5  # what is shorter is a click or a cut, not speech
SPEAKER_WEIGHTS = ("utterances", "duration", "uniform")

# SpeechBrain's statistics of the levels in WSJ0-mix, mean absolute
# amplitude in dB: the first speaker's, and the others' against the first.
FIRST_LEVEL_DB = (-27.43, 2.57)  # mean, standard deviation
OTHER_LEVEL_DB = (-2.51, 2.66)
LEVEL_BOUNDS_DB = (-45.0, 0.0)


class Rooms(Protocol):
    """Where mixtures get their rooms from, see ``rooms.FreshRooms``."""

    def draw(self, rng: np.random.Generator) -> tuple[Room, RoomResponses]:
        """Gives a room and its responses, decided by the generator."""


class MixtureDrawer:
    """Draws mixtures of different speakers from a corpus.

    Arguments
    ---------
    corpus : Corpus
        Who speaks.
    num_spks : int
        Speakers in a mixture, at least 2; 1 if there is noise or a room.
    sample_rate : int
        Sample rate of the mixtures in Hz.
    segment_s : float, optional
        Length of a mixture in seconds. By default, and wherever an
        utterance is shorter, a mixture is as long as the shortest of its
        utterances.
    join_short : bool
        Put utterances of a speaker in a row until they fill ``segment_s``,
        so that every mixture has that length. Speakers who have not said
        enough are left out (in conversations that are all turns, half of it
        is enough).
    level_range_db : tuple[float, float], optional
        Draw the level of every further speaker against the first uniformly
        from this range in dB; by default SpeechBrain's statistics of
        WSJ0-mix.
    speaker_weights : str
        How often a speaker is drawn: in proportion to the number of
        ``"utterances"`` (as SpeechBrain does), their ``"duration"``, or
        ``"uniform"``.
    speed_range : tuple[float, float], optional
        Play every speaker faster by a factor drawn from this range.
    silence_db : float
        A window whose mean absolute amplitude is below this level (dB of
        full scale) is silent, and drawn again; so is the speaker, where
        none of ``MAX_TRIES`` windows is better.
    min_utterance_s : float
        Utterances shorter than this in seconds are left out, unless they
        are joined.
    noise : NoiseDrawer, optional
        Adds noise to every mixture. The speech is the same as without.
    rooms : Rooms, optional
        Puts every mixture into a room with as many sources as speakers. The
        speech, dry, is the same as without.
    noise_probability : float
        How often a mixture has noise; 1 for always, and if ``noise`` is None.
    room_probability : float
        How often a mixture is in a room, likewise.
    filter_range_db : tuple[float, float], optional
        Send every speaker through a channel, see ``coloration.py``, whose gains
        are drawn from this range in dB, e.g. ``[-6, 6]``. All else is the
        same as without.
    conversation : Conversation, optional
        Who speaks when, in mixtures of ``segment_s`` with ``join_short``; by
        default everybody all the time.

    Raises
    ------
    InputError
        If a value is out of its range or of no effect, or the corpus has too
        few speakers.

    Example
    -------
    >>> from s4m_sb.audio.files import write_audio
    >>> from s4m_sb.mixing.corpus import read_corpus
    >>> folder = getfixture("tmp_path")
    >>> tone = torch.sin(torch.arange(8000) / 10)
    >>> write_audio(folder / "anna" / "low.wav", tone, 8000)
    >>> write_audio(folder / "ben" / "high.wav", tone**3, 8000)
    >>> drawer = MixtureDrawer(read_corpus(folder), 2, 8000, segment_s=0.5)
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
        num_spks: int,
        sample_rate: int,
        segment_s: float | None = None,
        join_short: bool = False,
        level_range_db: tuple[float, float] | None = None,
        speaker_weights: str = "utterances",
        speed_range: tuple[float, float] | None = None,
        silence_db: float = -60.0,
        min_utterance_s: float = MIN_UTTERANCE_S,
        noise: NoiseDrawer | None = None,
        rooms: Rooms | None = None,
        noise_probability: float = 1.0,
        room_probability: float = 1.0,
        filter_range_db: tuple[float, float] | None = None,
        conversation: Conversation | None = None,
    ):
        if num_spks < 2 and (num_spks < 1 or noise is rooms is None):
            raise InputError(
                f"num_spks is {num_spks}; at least 2 can be mixed, 1 with noise"
            )
        if sample_rate < 1:
            raise InputError(f"sample_rate is {sample_rate}; give Hz above 0")
        if segment_s is not None and not 1 <= segment_s * sample_rate < np.inf:
            raise InputError(f"segment_s is {segment_s}; give seconds above 0")
        if join_short and segment_s is None:
            raise InputError("join_short needs segment_s, the length to fill")
        if speaker_weights not in SPEAKER_WEIGHTS:
            raise InputError(
                f"speaker_weights is {speaker_weights!r}; use one of "
                + ", ".join(SPEAKER_WEIGHTS)
            )
        if not min_utterance_s >= 0:
            raise InputError(
                f"min_utterance_s is {min_utterance_s}; give seconds, at "
                "least 0"
            )
        if level_range_db is not None:
            _check_range("level_range_db", level_range_db, -100.0, 100.0)
        if speed_range is not None:
            _check_range("speed_range", speed_range, 0.5, 2.0)
        _check_probability("noise_probability", noise_probability)
        _check_probability("room_probability", room_probability)
        if noise is None and noise_probability != 1:
            raise InputError(
                f"noise_probability is {noise_probability}, but there is no "
                "noise; give 1"
            )
        if rooms is None and room_probability != 1:
            raise InputError(
                f"room_probability is {room_probability}, but there are no "
                "rooms; give 1"
            )
        if filter_range_db is not None:
            _check_range("filter_range_db", filter_range_db, -100.0, 100.0)
            channel_frequencies(sample_rate)  # there must be some
        if conversation is not None and not join_short:
            raise InputError(
                "conversation needs join_short and segment_s, the length of "
                "the recordings"
            )
        self.num_spks = num_spks
        self.sample_rate = sample_rate
        self.num_frames = (
            None if segment_s is None else round(segment_s * sample_rate)
        )
        self.join_short = join_short
        self.level_range_db = level_range_db
        self.speed_range = speed_range
        self.silence_db = silence_db
        self.min_utterance_s = min_utterance_s
        self.noise = noise
        self.rooms = rooms
        self.noise_probability = noise_probability
        self.room_probability = room_probability
        self.filter_range_db = filter_range_db
        self.conversation = conversation
        self.root = corpus.root
        self.speakers = self._eligible(corpus)
        self._weights = _speaker_weights(self.speakers, speaker_weights)
        # Whose silence was told of; shared, so that workers tell it once.
        self._told = torch.zeros(
            len(self.speakers), dtype=torch.bool
        ).share_memory_()

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
        spans = None
        if self.conversation is not None and self.num_frames is not None:
            spans = self.conversation.draw(
                rng, self.num_spks, self.num_frames, self.sample_rate
            )
        silent: list[int] = []  # of this draw alone: others know nothing of it
        while True:
            chosen = self._draw_speakers(rng, silent)
            with one_thread():
                sources, signals = self._draw_sources(
                    rng, [self.speakers[speaker] for speaker in chosen], spans
                )
                if len(sources) == self.num_spks:
                    return self._surround(rng, sources, signals)
            silent.append(chosen[len(sources)])
            self._tell_of_silence(silent[-1])

    def _surround(
        self,
        rng: np.random.Generator,
        sources: list[SourcePlan],
        signals: list[torch.Tensor],
    ) -> Mixture:
        # After the speech, so that it does not depend on what surrounds it.
        noise_plan = noise = room = responses = None
        if self.noise is not None and _happens(rng, self.noise_probability):
            noise_plan, noise = self.noise.draw(rng, len(signals[0]))
        if self.rooms is not None and _happens(rng, self.room_probability):
            room, responses = self.rooms.draw(rng)
        # Last of all, so that nothing else depends on it.
        if self.filter_range_db is not None:
            sources = [
                dataclasses.replace(
                    source,
                    filter_db=draw_gains(
                        rng, self.filter_range_db, self.sample_rate
                    ),
                )
                if source.said
                else source
                for source in sources
            ]
        plan = MixturePlan(tuple(sources), self.sample_rate, noise_plan, room)
        return mix(plan, signals, noise, responses)

    def _draw_speakers(
        self, rng: np.random.Generator, silent: list[int]
    ) -> list[int]:
        weights = self._weights
        if silent:
            if len(self.speakers) - len(silent) < self.num_spks:
                names = [self.speakers[i][0].speaker for i in sorted(silent)]
                raise InputError(
                    f"{self.root}: the windows drawn from {len(silent)} of "
                    f"{len(self.speakers)} speakers ({', '.join(names)}) are "
                    f"all silent (below {self.silence_db:g} dB); a mixture of "
                    f"{self.num_spks} speakers needs as many who speak"
                )
            weights = weights.copy()
            weights[silent] = 0
            weights /= weights.sum()
        chosen = rng.choice(
            len(self.speakers), self.num_spks, replace=False, p=weights
        )
        return chosen.tolist()

    def _tell_of_silence(self, speaker: int) -> None:
        if self._told[speaker]:
            return
        self._told[speaker] = True
        first = self.speakers[speaker][0]
        logger.warning(
            f"{first.path}: {MAX_TRIES} windows drawn from speaker "
            f"{first.speaker!r} are all silent (below {self.silence_db:g} "
            "dB); other speakers are drawn instead"
        )

    def _draw_sources(
        self,
        rng: np.random.Generator,
        spoken: list[tuple[Utterance, ...]],
        spans: list[list[Span]] | None,
    ) -> tuple[list[SourcePlan], list[torch.Tensor]]:
        # Ends before a speaker who is silent.
        levels_db = self._draw_levels(rng)
        speeds = [self._draw_speed(rng) for _ in spoken]
        orders = [rng.permutation(len(utterances)) for utterances in spoken]
        num_frames = self.num_frames
        if num_frames is None or not self.join_short:
            lengths = [
                resampled_length(utterances[order[0]], self.sample_rate, speed)
                for utterances, order, speed in zip(
                    spoken, orders, speeds, strict=True
                )
            ]
            if num_frames is not None:
                lengths.append(num_frames)
            num_frames = min(lengths)
        sources: list[SourcePlan] = []
        signals: list[torch.Tensor] = []
        throughout = [(0, num_frames)]
        for utterances, order, level_db, speed, his in zip(
            spoken,
            orders,
            levels_db,
            speeds,
            spans or [throughout] * self.num_spks,
            strict=True,
        ):
            if his == throughout:
                drawn = self._draw_source(
                    rng, utterances, order, num_frames, level_db, speed
                )
            else:
                drawn = self._draw_turns(
                    rng, utterances, order, num_frames, level_db, speed, his
                )
            if drawn is None:
                break
            sources.append(drawn[0])
            signals.append(drawn[1])
        return sources, signals

    def _eligible(self, corpus: Corpus) -> list[tuple[Utterance, ...]]:
        speakers = list(corpus.speakers.values())
        enough = ""
        if self.num_frames is None or not self.join_short:
            speakers = [self._long_enough(spoken) for spoken in speakers]
            speakers = [spoken for spoken in speakers if spoken]
            if len(speakers) < len(corpus.speakers):
                shortest_s = self.min_utterance_s
                enough = f" with utterances of {shortest_s:g} s or more"
        else:
            fastest = self.speed_range[1] if self.speed_range else 1.0
            needed = self.num_frames
            if self.conversation is not None:
                needed = round(needed * self.conversation.least_share)
            speakers = [
                spoken
                for spoken in speakers
                if sum(
                    resampled_length(utterance, self.sample_rate, fastest)
                    for utterance in spoken
                )
                >= needed
            ]
            enough = f" with {needed / self.sample_rate:g} s of speech or more"
        left_out = len(corpus.speakers) - len(speakers)
        if left_out:
            logger.info(
                f"{corpus.root}: {len(speakers)} of {len(corpus.speakers)} "
                f"speakers{enough}, the other {left_out} left out"
            )
        if len(speakers) < self.num_spks:
            raise InputError(
                f"{corpus.root}: holds {len(speakers)} speakers{enough}; a "
                f"mixture of {self.num_spks} speakers needs as many"
            )
        return speakers

    def _long_enough(
        self, spoken: tuple[Utterance, ...]
    ) -> tuple[Utterance, ...]:
        return tuple(
            utterance
            for utterance in spoken
            if utterance.num_frames
            >= self.min_utterance_s * utterance.sample_rate
        )

    def _draw_levels(self, rng: np.random.Generator) -> list[float]:
        first_db = np.clip(rng.normal(*FIRST_LEVEL_DB), *LEVEL_BOUNDS_DB)
        levels_db = [first_db]
        for _ in range(1, self.num_spks):
            if self.level_range_db is None:
                level_db = first_db + rng.normal(*OTHER_LEVEL_DB)
                level_db = np.clip(level_db, *LEVEL_BOUNDS_DB)
            else:
                level_db = first_db + rng.uniform(*self.level_range_db)
            levels_db.append(level_db)
        return [round(float(level_db), 4) for level_db in levels_db]

    def _draw_speed(self, rng: np.random.Generator) -> float:
        if self.speed_range is None:
            return 1.0
        low, high = self.speed_range
        speed = round(float(rng.uniform(low, high)), 2)
        return min(max(speed, low), high)

    def _draw_source(
        self,
        rng: np.random.Generator,
        utterances: tuple[Utterance, ...],
        order: np.ndarray,
        num_frames: int,
        level_db: float,
        speed: float,
    ) -> tuple[SourcePlan, torch.Tensor] | None:
        for _ in range(MAX_TRIES):
            pieces = self._draw_pieces(
                rng, [utterances[i] for i in order], num_frames, speed
            )
            source = SourcePlan(pieces, level_db, speed)
            signal = read_pieces(pieces, self.sample_rate, speed)  # [T]
            if compute_amplitude(signal, scale="dB") >= self.silence_db:
                return source, signal
            order = rng.permutation(len(utterances))
        return None

    def _draw_turns(
        self,
        rng: np.random.Generator,
        utterances: tuple[Utterance, ...],
        order: np.ndarray,
        num_frames: int,
        level_db: float,
        speed: float,
        spans: list[Span],
    ) -> tuple[SourcePlan, torch.Tensor] | None:
        if not spans:
            silence = SourcePlan((Silence(num_frames),), 0.0)
            return silence, torch.zeros(num_frames)
        said = [utterances[i] for i in order]
        first = resampled_length(said[0], self.sample_rate, speed)
        script = Script(
            said,
            int(rng.integers(first)),
            self.sample_rate,
            speed,
            self.silence_db,
        )
        pieces: list[Piece | Silence] = []
        at = 0
        for begin, end in spans:
            if begin > at:
                pieces.append(Silence(begin - at))
            turn = script.take(end - begin)
            if turn is None:
                return None
            pieces += turn
            at = end
        if num_frames > at:
            pieces.append(Silence(num_frames - at))
        source = SourcePlan(tuple(pieces), level_db, speed)
        return source, read_pieces(pieces, self.sample_rate, speed)

    def _draw_pieces(
        self,
        rng: np.random.Generator,
        utterances: list[Utterance],
        num_frames: int,
        speed: float,
    ) -> tuple[Piece, ...]:
        pieces = []
        for utterance in utterances:
            total = resampled_length(utterance, self.sample_rate, speed)
            if total < num_frames and not self.join_short:
                continue
            taken = min(total, num_frames)
            start = int(rng.integers(total - taken + 1))
            pieces.append(Piece(utterance, start, taken))
            num_frames -= taken
            if num_frames == 0:
                break
        return tuple(pieces)


def _happens(rng: np.random.Generator, probability: float) -> bool:
    # What is certain takes no random number.
    return probability == 1 or bool(rng.random() < probability)


def _speaker_weights(
    speakers: list[tuple[Utterance, ...]], rule: str
) -> np.ndarray:
    if rule == "utterances":
        weights = [float(len(spoken)) for spoken in speakers]
    elif rule == "duration":
        weights = [
            sum(
                utterance.num_frames / utterance.sample_rate
                for utterance in spoken
            )
            for spoken in speakers
        ]
    else:
        weights = [1.0 for _ in speakers]
    return np.array(weights) / sum(weights)


def _check_probability(name: str, given: float) -> None:
    if not 0 <= given <= 1:
        raise InputError(f"{name} is {given}; give a number from 0 to 1")


def _check_range(
    name: str, given: tuple[float, float], lowest: float, highest: float
) -> None:
    bounds = list(given)
    if len(bounds) != 2 or not lowest <= bounds[0] <= bounds[1] <= highest:
        raise InputError(
            f"{name} is {bounds}; give two numbers [low, high] between "
            f"{lowest:g} and {highest:g}, the lower one first"
        )
