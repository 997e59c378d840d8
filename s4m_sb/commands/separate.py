"""``s4m separate``: the voices of audio files, one WAV file each."""

import argparse
import contextlib
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from s4m_sb.errors import InputError
from s4m_sb.pretrained.shipped import DEFAULT_MODEL, shipped_names

if TYPE_CHECKING:
    from s4m_sb.inference.file_separator import FileSeparator, Outcome
    from s4m_sb.inference.recordings import Recording
    from s4m_sb.system.ranks import Rank

PIPE = Path("-")
LEAST_CHUNK_S = 1.0  # far less, and the pieces of a recording never end

DESCRIPTION = """\
Separate the voices of audio files.

Writes <name>_s1.wav, <name>_s2.wav, ... for each file into the output folder,
as 32-bit float WAV at the model's sample rate. Files of any sample rate, and
any format that libsndfile reads; several channels are averaged.

Recordings of hours are separated in pieces, in bounded memory. A run that was
stopped goes on when the same command is given again: files whose voices are
there, as long as the recording and not older, are skipped. A file that fails
does not stop the others; all failures are listed at the end.

FILE may be -, a recording on stdin in any of these formats. Without --output
its voices go to stdout then, as the channels of one 32-bit float WAV file."""

JSON_KEYS = """\
--json prints one JSON object a line on stdout for each recording, as soon as
it is done; all messages go to stderr then:
  path         the recording; stdin for -
  status       separated, skipped (was separated before) or failed
  voices       list of the voices' paths; empty if it failed
  picture      path of the spectrograms, or null
  sample_rate  of the voices, in Hz; null if it failed
  duration_s   length of the recording; null if it failed
  elapsed_s    time that it took, or null; files that are separated together
               share theirs
  truncated    whether the recording was cut off: the voices are those of what
               there is of it, so many seconds as duration_s says
  error        why it failed, or null
"""

EXAMPLES = """\
examples:
  s4m separate meeting.wav --output separated
  s4m separate calls/*.flac --output separated --plot
  s4m separate meeting.wav --output separated --model my_model
  s4m separate archive/ more_files.txt --output separated
  cat meeting.ogg | s4m separate - > voices.wav
  sox meeting.mp3 -t wav - | s4m separate - --voice 1 | play -
  s4m separate archive/ --output separated --json | jq .duration_s
  torchrun --standalone --nproc_per_node=2 -m s4m_sb separate archive/ \\
      --output separated --device cuda
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``s4m separate``."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        type=Path,
        help="audio files; folders, for all audio below them; lists: text "
        "files (.txt) with one audio file a line, relative to the list; - "
        "for stdin; what comes twice counts once",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="folder for the voices; those of a folder's files lie in it as "
        "the files lie in the folder, those of a list's relative lines as "
        "they lie beside the list; - for stdout, if there is but one "
        "recording (default: stdout for the recording on stdin)",
    )
    parser.add_argument(
        "--voice",
        type=int,
        metavar="N",
        help="send this voice alone to stdout, from 1 on",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="separate again what was separated before",
    )
    model = parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="MODEL",
        help="name of a model of the package (s4m models lists them), model "
        "folder (s4m export makes them; ./NAME if a model of the package has "
        "its name), or owner/repository on the Hugging Face Hub "
        f"(default: {DEFAULT_MODEL})",
    )
    model.completer = _models_and_folders  # type: ignore[attr-defined]
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run whatever code the model's YAML names; only for models of "
        "people you trust (default: a model can only describe a network)",
    )
    parser.add_argument(
        "--normalize",
        choices=("mixture", "peak", "none"),
        default="mixture",
        help="level of the voices: as loud as in the mixture, which is their "
        "sum; each to full scale; or as the network gives them (default: "
        "mixture)",
    )
    parser.add_argument(
        "--chunk",
        type=float,
        metavar="SECONDS",
        help="separate recordings that are longer in pieces of so many "
        "seconds, at least 1, in memory for those of --batch-size; 0: never "
        "(default: recordings above 60 s in pieces of 30 s)",
    )
    parser.add_argument(
        "--overlap",
        type=float,
        metavar="SECONDS",
        help="seconds that consecutive pieces share, by which their voices "
        "are matched (default: 4, and at most a quarter of a piece)",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="files of about the same length, or pieces of a long one, that "
        "are separated at once (default: as many as make 60 s, or 30 s on a "
        "CPU, which is no faster with more)",
    )
    parser.add_argument(
        "--plot",
        action="store_true",
        help="also draw <name>.png, spectrograms of mixture and voices "
        "(needs matplotlib, and memory for the whole recording)",
    )
    parser.add_argument(
        "--device",
        default="cpu",
        metavar="NAME",
        help="where to compute, such as cuda; with torchrun, cuda is the GPU "
        "of each process's own (default: cpu)",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="numbers of the network: bf16 is faster where the processor "
        "computes with them, and costs little quality (default: fp32)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print JSON for programs to read, see below",
    )
    parser.add_argument(
        "--quiet",
        action="store_true",
        help="print errors and warnings alone: no progress bar, no line for "
        "each file",
    )


def _models_and_folders(prefix: str, **_) -> list[str]:
    """How what was typed after --model may go on, for argcomplete."""
    from argcomplete.completers import DirectoriesCompleter

    return [*shipped_names(), *DirectoriesCompleter()(prefix)]


def run(arguments: argparse.Namespace) -> None:
    """Runs ``s4m separate``.

    Raises
    ------
    InputError
        If the model cannot be loaded, outputs would overwrite one another,
        or a file cannot be separated; the other files are done first.
    """
    if arguments.output is None and arguments.files == [PIPE]:
        arguments.output = PIPE
    _check(arguments)

    from s4m_sb.commands.pipes import spooled_stdin
    from s4m_sb.system.processes import ended_by_sigterm
    from s4m_sb.system.ranks import this_rank

    rank = this_rank()
    if rank.count > 1 and PIPE in (*arguments.files, arguments.output):
        raise InputError("several processes cannot share -; give files")
    with ended_by_sigterm(), contextlib.ExitStack() as streams:
        separate = _to_stdout if arguments.output == PIPE else _into_folder
        stdin = None
        if PIPE in arguments.files:
            stdin = streams.enter_context(spooled_stdin())
        separate(arguments, rank, stdin)


def _check(arguments: argparse.Namespace) -> None:
    """Refuses options that do not go together, before any work is done."""
    if arguments.output is None:
        raise InputError(
            "--output DIR is missing: the folder for the voices; or - for "
            "stdout"
        )
    if arguments.output == PIPE:
        if len(arguments.files) > 1:
            raise InputError("stdout takes one recording; give --output DIR")
        for name in ("json", "plot"):
            if getattr(arguments, name):
                raise InputError(
                    f"--{name} does not go with voices on stdout; give "
                    "--output DIR"
                )
    elif arguments.voice is not None:
        raise InputError(
            "--voice is for voices on stdout; --output DIR gets all of them"
        )
    elif sys.stdout is None and (arguments.json or not arguments.quiet):
        raise InputError(
            "stdout is closed; what becomes of each file is said there "
            "(--quiet says nothing)"
        )
    if arguments.chunk is not None and not 0 <= arguments.chunk < math.inf:
        raise InputError(
            f"--chunk {arguments.chunk:g}: give seconds, or 0 to cut nothing"
        )
    if arguments.chunk and arguments.chunk < LEAST_CHUNK_S:
        raise InputError(
            f"--chunk {arguments.chunk:g}: give at least {LEAST_CHUNK_S:g} s, "
            "or 0 to cut nothing"
        )
    if arguments.batch_size is not None and arguments.batch_size < 1:
        raise InputError(
            f"--batch-size {arguments.batch_size}: give at least 1"
        )
    if arguments.plot:
        from s4m_sb.inference.spectrogram import check_matplotlib

        check_matplotlib()


def _to_stdout(
    arguments: argparse.Namespace, rank: "Rank", stdin: Path | None
) -> None:
    """One recording; its voices are the channels of one WAV file."""
    from s4m_sb.audio.stream import write_channels
    from s4m_sb.commands.pipes import binary_stdout
    from s4m_sb.commands.reports import print_warning
    from s4m_sb.inference.recordings import find_recordings
    from s4m_sb.system.folders import own_folder

    with binary_stdout() as stdout, own_folder("s4m.") as folder:
        recordings = find_recordings(arguments.files, folder, stdin)
        if len(recordings) > 1:
            raise InputError(
                f"stdout takes one recording, not {len(recordings)}; give "
                "--output DIR"
            )
        separator = _separator(arguments, rank)
        numbers = range(1, separator.num_spks + 1)
        if arguments.voice is not None and arguments.voice not in numbers:
            raise InputError(
                f"--voice {arguments.voice}: the model gives the voices 1 to "
                f"{separator.num_spks}"
            )
        (outcome,) = separator.separate(recordings)
        if outcome.error:
            raise InputError(outcome.error)
        print_warning(outcome)
        voices = outcome.voices
        if arguments.voice is not None:
            voices = voices[arguments.voice - 1 : arguments.voice]
        try:
            write_channels(stdout, voices)
        except OSError as error:
            raise OSError(error.errno, error.strerror, "stdout") from error


def _into_folder(
    arguments: argparse.Namespace, rank: "Rank", stdin: Path | None
) -> None:
    """Any number of recordings; those that fail are listed at the end."""
    from tqdm import tqdm

    from s4m_sb.commands.reports import Report
    from s4m_sb.inference.recordings import find_recordings

    recordings = []
    if rank.decides:
        found = find_recordings(arguments.files, arguments.output, stdin)
        recordings = [r for r in found if rank.owns(str(r.path))]
    separator = _separator(arguments, rank)
    with contextlib.ExitStack() as streams:
        report = Report(sys.stdout, arguments.json, arguments.quiet)
        if arguments.json:
            streams.enter_context(contextlib.redirect_stdout(sys.stderr))
        done, todo = _plan(arguments, rank, separator, recordings)
        for outcome in done:
            report.add(outcome)
        if done and not arguments.quiet:
            print(
                f"{len(done)} of {len(recordings)} files were separated "
                "before; --overwrite separates them again",
                flush=True,
            )
        bar = streams.enter_context(
            tqdm(
                total=len(todo),
                unit="file",
                disable=not _shows_progress(arguments, rank)
                or len(recordings) == 1,
            )
        )
        errors: dict[Recording, str] = {}
        fault = None
        try:
            for outcome in separator.separate(todo):
                report.add(outcome)
                if outcome.error:
                    errors[outcome.recording] = outcome.error
                bar.set_postfix_str(outcome.recording.path.name, refresh=False)
                bar.update()
        except BaseException as error:
            if error is not separator.fault:
                bar.close()
                _print_errors(errors.values())
                raise
            fault = error  # the others are done
    failures = rank.gather([errors[r] for r in todo if r in errors])
    if failures and len(recordings) == 1 and fault is None:
        raise InputError(failures[0])
    _print_errors(failures)
    if fault is not None:
        raise fault
    if failures:
        raise InputError(
            f"{len(failures)} of {len(recordings)} files not separated"
        )


def _plan(
    arguments: argparse.Namespace,
    rank: "Rank",
    separator: "FileSeparator",
    recordings: "list[Recording]",
) -> "tuple[list[Outcome], list[Recording]]":
    """What is done, and what is left for this process.

    What is left is shared, as all that is left may be of one process's share
    of all, and by length, as a byte of one format is more than of another.
    """
    from s4m_sb.inference.recordings import Recording

    done, left = [], []
    for recording in recordings:
        outcome = None
        if not arguments.overwrite:
            outcome = separator.done_before(recording)
        if outcome is None:
            left.append(recording)
        else:
            done.append(outcome)
    if rank.store is None:
        return done, left
    share = rank.share(
        [(str(r.path), str(r.place), r.name) for r in left],
        [_num_frames(r, separator.sample_rate) for r in left],
    )
    todo = [Recording(Path(path), Path(place), n) for path, place, n in share]
    return done, todo


def _print_errors(errors: Iterable[str]) -> None:
    from s4m_sb.commands.reports import printable

    for error in errors:
        print(f"s4m: error: {printable(error)}", file=sys.stderr)


def _separator(arguments: argparse.Namespace, rank: "Rank") -> "FileSeparator":
    from s4m_sb.inference.file_separator import (
        PICTURE_WIDTH,
        WHOLE_S,
        FileSeparator,
    )
    from s4m_sb.inference.interface import S4MSeparation
    from s4m_sb.inference.pieces import Pieces
    from s4m_sb.system.devices import check_device

    device = arguments.device
    if device == "cuda" and rank.local is not None:
        device = f"cuda:{rank.local}"
    check_device(device)
    whole_s, overlap_s = WHOLE_S, arguments.overlap
    if arguments.chunk is not None:
        whole_s = arguments.chunk or math.inf
    if arguments.chunk == 0:
        overlap_s = None  # of pieces that there are not
    pieces = Pieces(
        arguments.chunk or Pieces.chunk_s, overlap_s, arguments.batch_size
    )
    return FileSeparator(
        S4MSeparation.from_hparams(
            arguments.model,
            run_opts={"device": device, "precision": arguments.precision},
            trusted=arguments.trust,
        ),
        arguments.normalize,
        pieces,
        whole_s,
        PICTURE_WIDTH if arguments.plot else None,
        progress=_shows_progress(arguments, rank),
    )


def _shows_progress(arguments: argparse.Namespace, rank: "Rank") -> bool:
    return rank.number == 0 and not arguments.quiet and sys.stderr.isatty()


def _num_frames(recording: "Recording", sample_rate: int) -> int:
    from s4m_sb.audio.files import audio_info

    try:
        return audio_info(recording.path).num_frames_at(sample_rate)
    except InputError:
        return 0  # whoever is to separate it says why
