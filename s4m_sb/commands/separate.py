"""``s4m separate``: the voices of audio files, one WAV file each."""

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from s4m_sb.errors import InputError

DESCRIPTION = """\
Separate the voices of audio files.

Writes <name>_s1.wav, <name>_s2.wav, ... for each file into the output folder,
as 32-bit float WAV at the model's sample rate. Files of any sample rate, and
any format that libsndfile reads; several channels are averaged.

Recordings of hours are separated in pieces, in bounded memory. A run that was
stopped goes on when the same command is given again: files whose voices are
there, as long as the recording and not older, are skipped. A file that fails
does not stop the others; all failures are listed at the end."""

EXAMPLES = """\
examples:
  s4m separate meeting.wav --output separated
  s4m separate calls/*.flac --output separated --plot
  s4m separate meeting.wav --output separated --model my_model
  s4m separate archive/ more_files.txt --output separated
  torchrun --standalone --nproc_per_node=2 -m s4m_sb separate archive/ \\
      --output separated --device cuda
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``s4m separate``.

    Arguments
    ---------
    parser : argparse.ArgumentParser
        The command's own parser.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        type=Path,
        help="audio files; folders, for all audio below them; lists: text "
        "files (.txt) with one audio file a line, relative to the list",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        type=Path,
        help="folder for the voices; those of a folder's files lie in it as "
        "the files lie in the folder",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="separate again what was separated before",
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="model folder (s4m export makes them), name of a model of the "
        "package, or owner/repository on the Hugging Face Hub "
        "(default: the small model of the package)",
    )
    parser.add_argument(
        "--normalize",
        choices=("peak", "mixture", "none"),
        default="peak",
        help="level of the voices: each to full scale; as loud as in the "
        "mixture; or as the network gives them (default: peak)",
    )
    parser.add_argument(
        "--chunk",
        type=float,
        metavar="SECONDS",
        help="separate recordings that are longer in pieces of so many "
        "seconds, in memory for one of them; 0: never (default: recordings "
        "above 60 s in pieces of 30 s)",
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
        "are separated at once (default: as many as make 60 s)",
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


def run(arguments: argparse.Namespace) -> None:
    """Runs ``s4m separate``.

    Arguments
    ---------
    arguments : argparse.Namespace
        What `add_arguments` describes.

    Raises
    ------
    InputError
        If the model cannot be loaded, outputs would overwrite one another,
        or a file cannot be separated; the other files are done first.
    """
    from s4m_sb.recordings import find_recordings

    recordings = find_recordings(arguments.files, arguments.output)
    if arguments.plot:
        from s4m_sb.spectrogram import check_matplotlib

        check_matplotlib()

    from tqdm import tqdm

    from s4m_sb.inference import DEFAULT_MODEL, S4MSeparation
    from s4m_sb.many_files import FileSeparator
    from s4m_sb.ranks import this_rank

    rank = this_rank()
    device = arguments.device
    if device == "cuda" and rank.local is not None:
        device = f"cuda:{rank.local}"
    _check_device(device)
    separator = FileSeparator(
        S4MSeparation.from_hparams(
            arguments.model or DEFAULT_MODEL, run_opts={"device": device}
        ),
        arguments.normalize,
        arguments.chunk,
        arguments.overlap,
        arguments.batch_size,
        arguments.plot,
        progress=rank.number == 0 and sys.stderr.isatty(),
    )
    mine = rank.share(recordings, [_num_bytes(r.path) for r in recordings])
    todo = mine
    if not arguments.overwrite:
        todo = [r for r in mine if not separator.is_done(r)]
    if len(todo) < len(mine):
        print(
            f"{len(mine) - len(todo)} of {len(mine)} files were separated "
            "before; --overwrite separates them again"
        )
    errors = {}
    with (
        _ended_by_sigterm(),
        tqdm(
            total=len(todo),
            unit="file",
            disable=len(recordings) == 1 or rank.number > 0,
        ) as bar,
    ):
        for outcome in separator.separate(todo):
            if outcome.error:
                errors[outcome.recording] = outcome.error
            else:
                names = ", ".join(map(str, outcome.written))
                tqdm.write(f"{outcome.recording.path} -> {names}")
            bar.update()
    failures = rank.gather([errors[r] for r in recordings if r in errors])
    if failures and len(recordings) == 1:
        raise InputError(failures[0])
    for failure in failures:
        print(f"s4m: error: {failure}", file=sys.stderr)
    if failures:
        raise InputError(
            f"{len(failures)} of {len(recordings)} files not separated"
        )


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Cleans up before it ends, as after an interrupt of the keyboard."""

    def end(number, frame):
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _num_bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _check_device(name: str) -> None:
    import torch

    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {name}: {reason}") from error
