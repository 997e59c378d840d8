"""``s4m separate``: the voices of audio files, one WAV file each."""

import argparse
import sys
from pathlib import Path

from s4m_sb.errors import InputError

DESCRIPTION = """\
Separate the voices of audio files.

Writes <name>_s1.wav, <name>_s2.wav, ... for each file into the output folder,
as 32-bit float WAV at the model's sample rate. Files of any sample rate, and
any format that libsndfile reads; several channels are averaged."""

EXAMPLES = """\
examples:
  s4m separate meeting.wav --output separated
  s4m separate calls/*.flac --output separated --plot
  s4m separate meeting.wav --output separated --model my_model
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
        "files", nargs="+", metavar="FILE", type=Path, help="audio files"
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        type=Path,
        help="folder for the voices; files of the same name are replaced",
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
        "--plot",
        action="store_true",
        help="also draw <name>.png, spectrograms of mixture and voices "
        "(needs matplotlib)",
    )
    parser.add_argument(
        "--device",
        default="cpu",
        metavar="NAME",
        help="where to compute, such as cuda (default: cpu)",
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
    _check_outputs(arguments.files, arguments.output)
    if arguments.plot:
        from s4m_sb.spectrogram import check_matplotlib

        check_matplotlib()

    from tqdm import tqdm

    from s4m_sb.inference import DEFAULT_MODEL, S4MSeparation

    _check_device(arguments.device)
    model = S4MSeparation.from_hparams(
        arguments.model or DEFAULT_MODEL,
        run_opts={"device": arguments.device},
    )
    single = len(arguments.files) == 1
    num_failed = 0
    for path in tqdm(arguments.files, unit="file", disable=single):
        try:
            line = _separate_file(model, path, arguments)
        except InputError as error:
            if single:
                raise
            num_failed += 1
            tqdm.write(f"s4m: error: {error}", file=sys.stderr)
        else:
            tqdm.write(line)
    if num_failed:
        raise InputError(
            f"{num_failed} of {len(arguments.files)} files not separated"
        )


def _separate_file(model, path: Path, arguments: argparse.Namespace) -> str:
    """Writes the voices of one file; says what was written."""
    import torch

    from s4m_sb.audio import read_audio, write_audio
    from s4m_sb.inference import normalize_voices
    from s4m_sb.spectrogram import plot_separation

    sample_rate = model.hparams.sample_rate
    mixture, _ = read_audio(path, sample_rate)
    mixture = mixture.unsqueeze(0)  # [1, T]
    with torch.no_grad():
        voices = model.separate_batch(mixture).cpu()  # [1, T, S]
    scaled = normalize_voices(voices, mixture, arguments.normalize)[0]
    written = []
    for i, voice in enumerate(scaled.unbind(1), start=1):
        written.append(arguments.output / f"{path.stem}_s{i}.wav")
        write_audio(written[-1], voice, sample_rate)
    if arguments.plot:
        written.append(arguments.output / f"{path.stem}.png")
        plot_separation(
            written[-1],
            mixture[0],
            normalize_voices(voices, mixture, "mixture")[0],
            sample_rate,
            title=path.name,
        )
    return f"{path} -> {', '.join(map(str, written))}"


def _check_device(name: str) -> None:
    import torch

    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {name}: {reason}") from error


def _check_outputs(files: list[Path], output: Path) -> None:
    """Refuses runs in which one file would replace another."""
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file; --output takes a folder")
    by_stem: dict[str, Path] = {}
    for path in files:
        other = by_stem.setdefault(path.stem.casefold(), path)
        if other is not path:
            raise InputError(
                f"{other} and {path} would both write {path.stem}_s1.wav; "
                "separate them into two folders"
            )
    for path in files:
        stem, mark, number = path.stem.rpartition("_s")
        if (
            mark
            and number.isdigit()
            and path.suffix == ".wav"
            and stem.casefold() in by_stem
            and path.parent.resolve() == output.resolve()
        ):
            raise InputError(
                f"{path} would be replaced by a voice of "
                f"{by_stem[stem.casefold()]}; choose another --output"
            )
