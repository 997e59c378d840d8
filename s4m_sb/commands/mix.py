"""``s4m mix``: data sets like WSJ0-mix, WHAM! and WHAMR! from any speech."""

import argparse
from dataclasses import replace
from pathlib import Path

from s4m_sb.errors import InputError

DESCRIPTION = """\
Make a data set of mixtures from recordings of single speakers.

Makes OUTPUT/wav8k/min/{tr,cv,tt}/{mix,s1,s2,...}: the layout of WSJ0-mix;
with --noise that of WHAM!, with --noise and --reverb that of WHAMR!. The same
command goes on where it was stopped.

Everybody speaks all the time, or, with --conversation, in turns, with pauses
and overlaps; beside them lies metadata.csv, which says who speaks when: a row
that has a file is speech from the sample begin on, num_frames long."""

EXAMPLES = """\
examples:
  s4m mix my_speech my_mixtures --count 2000 500 500 --length 4
  s4m mix my_speech my_mixtures --num-spks 3 --sample-rate 16000
  s4m mix my_speech my_noisy_mixtures --noise my_noise --reverb
  s4m mix my_speech my_talks --conversation --solo 0.2 --length 30
  s4m mix my_speech copy --metadata my_mixtures/wav8k/min/metadata.csv
"""

# Options by the names that the package has for them: those of mixtures, of
# --conversation, and the rest.
MIXING = {
    "num_spks": "num_spks",
    "sample_rate": "sample_rate",
    "length": "segment_s",
    "levels": "level_range_db",
    "snr": "snr_range_db",
    "speaker_weights": "speaker_weights",
}
TURNS = {
    "solo": "solo",
    "turns": "turns",
    "turn_length": "turn_s",
    "gap": "gap_s",
    "pause": "pause",
    "pause_length": "pause_s",
}
OTHERS = {"count": "num_mixtures", "seed": "seed", "jobs": "num_jobs"}
# What a metadata file decides.
DRAWING = (*MIXING, "conversation", "count", "seed", "speaker_from", "reverb")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``s4m mix``."""
    parser.add_argument(
        "speech",
        metavar="SPEECH",
        help="folder with one folder a speaker, alone or in train, valid and "
        "test; or a manifest, a CSV file with the columns file, speaker and "
        "split. WAV, FLAC or Ogg",
    )
    parser.add_argument(
        "output", metavar="OUTPUT", help="folder of the data set"
    )
    parser.add_argument(
        "--num-spks",
        type=int,
        metavar="N",
        help="speakers in a mixture (default 2); 1 with noise or reverberation",
    )
    parser.add_argument(
        "--noise",
        metavar="NOISE",
        help="add noise from this folder, alone or in train, valid and test; "
        "or from a manifest, as for SPEECH, whose column kind says noise",
    )
    parser.add_argument(
        "--snr",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="range of the loudness of the loudest speaker over the noise, in "
        "dB (default -6 3, as in WHAM!)",
    )
    parser.add_argument(
        "--reverb",
        action="store_true",
        default=None,
        help="put every mixture into a room of its own, with the ranges of "
        "size, reverberation and distance of WHAMR! (needs pip install "
        "'s4m_sb[reverb]')",
    )
    parser.add_argument(
        "--sample-rate",
        type=int,
        metavar="HZ",
        help="sample rate of the mixtures (default 8000)",
    )
    parser.add_argument(
        "--length",
        type=float,
        metavar="SECONDS",
        help="length of every mixture, filled with several utterances of a "
        "speaker if need be (default: that of the shortest utterance in it)",
    )
    parser.add_argument(
        "--levels",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="range of the level of every further speaker against the first, "
        "in dB (default -5 5)",
    )
    parser.add_argument(
        "--count",
        type=int,
        nargs=3,
        metavar=("TR", "CV", "TT"),
        help="mixtures for training, validation and test, 0 to leave one out "
        "(default 2000 500 300); dynamic mixing needs none for training, it "
        "draws from the split train of the speech.csv beside metadata.csv",
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="random seed (default 0)"
    )
    parser.add_argument(
        "--speaker-from",
        choices=("folder", "wsj0"),
        help="where the speaker is named: in the folder or the manifest "
        "(default), or in the first three characters of the file's name",
    )
    parser.add_argument(
        "--speaker-weights",
        choices=("utterances", "duration", "uniform"),
        help="how often a speaker is drawn: in proportion to the number of "
        "utterances (default) or their duration, or all alike",
    )
    talk = parser.add_argument_group(
        "conversations",
        "In place of talking all the time; every mixture is a window of a "
        "conversation that began before it and ends after it.",
    )
    talk.add_argument(
        "--conversation",
        action="store_true",
        default=None,
        help="the speakers take turns in --length seconds; of more than two "
        "speakers, two to all of them take part",
    )
    talk.add_argument(
        "--solo",
        type=float,
        metavar="SHARE",
        help="share of the mixtures in which one speaker speaks alone and the "
        "others are silent (default 0)",
    )
    talk.add_argument(
        "--turns",
        type=float,
        metavar="SHARE",
        help="share of the mixtures in which the speakers take turns (default: "
        "all that are not solo); in the others all speak all the time",
    )
    talk.add_argument(
        "--turn-length",
        type=float,
        nargs=2,
        metavar=("SHORT", "LONG"),
        help="of turns in seconds, log-normal, 95 %% between, none "
        "beyond (default 0.5 8)",
    )
    talk.add_argument(
        "--gap",
        type=float,
        nargs=2,
        metavar=("MEAN", "DEVIATION"),
        help="from the end of a turn to the next in seconds, normal; below 0 "
        "they overlap (default 0.2 0.7: overlaps at 39 %% of the changes)",
    )
    talk.add_argument(
        "--pause",
        type=float,
        metavar="PROBABILITY",
        help="how often a turn is followed by a long pause instead (default "
        "0.1)",
    )
    talk.add_argument(
        "--pause-length",
        type=float,
        nargs=2,
        metavar=("SHORT", "LONG"),
        help="of it in seconds, uniform (default 1 4)",
    )
    parser.add_argument(
        "--metadata",
        metavar="FILE",
        help="make the data set again that has this metadata.csv; SPEECH is "
        "what it was made from, and --noise the noise, if it has any",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="processes (default: one a core)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Makes the data set.

    Raises
    ------
    InputError
        If they, or the speech, are unusable.
    """
    try:
        print(_make(arguments))
    except InputError as error:
        name, is_, rest = str(error).partition(" is ")
        for option, known in (MIXING | TURNS | OTHERS).items():
            if is_ and name == known:
                raise InputError(f"{_flag(option)} is {rest}") from error
        raise


def _make(arguments: argparse.Namespace) -> Path:
    from s4m_sb.mixing.conversation import Conversation
    from s4m_sb.mixing.datasets.making import (
        NUM_MIXTURES,
        OPTIONS as USUAL,
        make_mix_dataset,
        remake_mix_dataset,
    )
    from s4m_sb.system.processes import num_cores

    num_jobs = num_cores() if arguments.jobs is None else arguments.jobs
    given = {
        name: getattr(arguments, name)
        for name in DRAWING
        if getattr(arguments, name) is not None
    }
    turns = {
        name: getattr(arguments, name)
        for name in TURNS
        if getattr(arguments, name) is not None
    }
    if turns and not arguments.conversation:
        names = ", ".join(map(_flag, turns))
        raise InputError(f"{names}: of no use without --conversation")
    if arguments.metadata is not None:
        if given:
            names = ", ".join(map(_flag, given))
            raise InputError(f"--metadata decides {names}; leave it out")
        return remake_mix_dataset(
            arguments.metadata,
            arguments.speech,
            arguments.output,
            num_jobs=num_jobs,
            noise=arguments.noise,
            progress=True,
        )
    if arguments.noise is None and "snr" in given:
        raise InputError("--snr is of no use without --noise")
    mixing = {
        option: given[name] for name, option in MIXING.items() if name in given
    }
    if arguments.conversation:
        if arguments.length is None:
            raise InputError("--conversation needs --length, in seconds")
        mixing["join_short"] = True
        mixing["conversation"] = Conversation(
            **{TURNS[name]: value for name, value in turns.items()}
        )
    return make_mix_dataset(
        arguments.speech,
        arguments.output,
        replace(USUAL, **mixing),
        num_mixtures=tuple(given.get("count", NUM_MIXTURES)),
        seed=given.get("seed", 0),
        num_jobs=num_jobs,
        speaker_from=given.get("speaker_from", "folder"),
        noise=arguments.noise,
        reverb=given.get("reverb", False),
        progress=True,
    )


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")
