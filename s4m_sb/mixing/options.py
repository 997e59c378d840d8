"""What mixtures shall be like: every option of drawing, documented once.

``drawing.py`` draws by them, for ``s4m mix`` and, by the same names, for
``dynamic_mixing_opts`` in a recipe's YAML. Those of noise are in
``noise.py``, those of turns in ``conversation.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from s4m_sb.audio.resampling import HIGHEST_RATE
from s4m_sb.errors import InputError
from s4m_sb.mixing.coloration import channel_frequencies
from s4m_sb.mixing.conversation import Conversation
from s4m_sb.mixing.noise import NoiseOptions
from s4m_sb.mixing.ranges import check_range, check_share

MIN_UTTERANCE_S = 0.5  # what is shorter is a click or a cut, not speech
SPEAKER_WEIGHTS = ("utterances", "duration", "uniform")


@dataclass(frozen=True, kw_only=True)
class MixingOptions(NoiseOptions):
    """The options of mixtures, beside those of their noise.

    Arguments
    ---------
    num_spks : int
        Speakers in a mixture, at least 2; 1 if there is noise or a room.
    sample_rate : int
        Sample rate of the mixtures in Hz; files at other rates are resampled.
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
        Play every speaker faster by a factor drawn from this range, e.g.
        ``[0.95, 1.05]``.
    silence_db : float
        A window whose mean absolute amplitude is below this level (dB of
        full scale) is silent, and drawn again; so is the speaker, where
        none of ``drawing.MAX_TRIES`` windows is better.
    min_utterance_s : float
        Utterances shorter than this in seconds are left out, unless they
        are joined.
    room_probability : float
        How often a mixture is in a room; 1 for always, and if there are
        none. What is said, dry, is the same as without.
    filter_range_db : tuple[float, float], optional
        Send every speaker through a channel, see ``coloration.py``, whose
        gains are drawn from this range in dB, e.g. ``[-6, 6]``. The targets
        have come through it; all else is the same as without.
    conversation : Conversation or mapping, optional
        Who speaks when, in mixtures of ``segment_s`` with ``join_short``:
        a ``Conversation`` or its arguments by name, e.g. ``{solo: 0.2,
        turns: 0.4}``. By default everybody speaks all the time.

    Raises
    ------
    InputError
        If a value is out of its range.

    Example
    -------
    >>> MixingOptions(num_spks=2, sample_rate=8000, segment_s=4).num_frames
    32000
    """

    num_spks: int
    sample_rate: int
    segment_s: float | None = None
    join_short: bool = False
    level_range_db: tuple[float, float] | None = None
    speaker_weights: str = "utterances"
    speed_range: tuple[float, float] | None = None
    silence_db: float = -60.0
    min_utterance_s: float = MIN_UTTERANCE_S
    room_probability: float = 1.0
    filter_range_db: tuple[float, float] | None = None
    conversation: Conversation | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.num_spks < 1:
            raise InputError(f"num_spks is {self.num_spks}; give at least 1")
        if not 1 <= self.sample_rate <= HIGHEST_RATE:
            raise InputError(
                f"sample_rate is {self.sample_rate}; give Hz above 0, at most "
                f"{HIGHEST_RATE}"
            )
        if self.segment_s is not None and not (
            1 <= self.segment_s * self.sample_rate < np.inf
        ):
            raise InputError(
                f"segment_s is {self.segment_s}; give seconds above 0"
            )
        if self.join_short and self.segment_s is None:
            raise InputError("join_short needs segment_s, the length to fill")
        if self.speaker_weights not in SPEAKER_WEIGHTS:
            raise InputError(
                f"speaker_weights is {self.speaker_weights!r}; use one of "
                + ", ".join(SPEAKER_WEIGHTS)
            )
        if not self.min_utterance_s >= 0:
            raise InputError(
                f"min_utterance_s is {self.min_utterance_s}; give seconds, at "
                "least 0"
            )
        if self.level_range_db is not None:
            check_range("level_range_db", self.level_range_db, -100.0, 100.0)
        if self.speed_range is not None:
            check_range("speed_range", self.speed_range, 0.5, 2.0)
        check_share("room_probability", self.room_probability)
        if self.filter_range_db is not None:
            check_range("filter_range_db", self.filter_range_db, -100.0, 100.0)
            channel_frequencies(self.sample_rate)  # there must be some
        if self.conversation is not None:
            conversation = Conversation.of(self.conversation)
            object.__setattr__(self, "conversation", conversation)
            if not self.join_short:
                raise InputError(
                    "conversation needs join_short and segment_s, the length "
                    "of the recordings"
                )

    @property
    def num_frames(self) -> int | None:
        """Samples of ``segment_s``."""
        if self.segment_s is None:
            return None
        return round(self.segment_s * self.sample_rate)

    @classmethod
    def among(
        cls, keys: Mapping[str, Any]
    ) -> tuple["MixingOptions", dict[str, Any]]:
        """Takes the options out of keys that say more than them.

        Arguments
        ---------
        keys : mapping
            Such as ``dynamic_mixing_opts``.

        Returns
        -------
        MixingOptions
            From the keys that have the names of options.
        dict
            The other keys.

        Raises
        ------
        InputError
            If a value is out of its range.
        TypeError
            If ``num_spks`` or ``sample_rate`` is missing.

        Example
        -------
        >>> keys = {"num_spks": 2, "sample_rate": 8000, "seed": 1}
        >>> MixingOptions.among(keys)[1]
        {'seed': 1}
        """
        names = {field.name for field in fields(cls)}
        options = {name: keys[name] for name in keys if name in names}
        rest = {name: keys[name] for name in keys if name not in names}
        return cls(**options), rest
