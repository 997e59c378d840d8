#!/usr/bin/env python3
"""Separates synthetic voices, of which the models that ship have heard none.

    python benchmarks/synthetic.py s4m-8k

Four voices of flite say the two sentences of `examples/README.md`, each pair
of them at once and at equal level, and the other way round. It needs flite
(`apt install flite`) and prints the improvement of each mixture.
"""

import argparse
import itertools
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

import torch  # noqa: E402

from s4m_sb import metrics  # noqa: E402
from s4m_sb.audio.files import read_audio  # noqa: E402
from s4m_sb.errors import InputError, one_line  # noqa: E402
from s4m_sb.inference.interface import S4MSeparation  # noqa: E402

VOICES = ("awb", "kal16", "rms", "slt")
RMS = 0.08  # of each voice: -22 dB full scale


def sentences() -> list[str]:
    """What the two talkers of the example say."""
    text = (REPOSITORY / "examples" / "README.md").read_text("utf-8")
    return re.findall(r"(?m)^\| `talker_\d\.wav` \|[^|]*\| (.*) \|$", text)


def speak(voice: str, sentence: str, sample_rate: int) -> torch.Tensor:
    """A voice says a sentence, ``[T]``."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "speech.wav"
        subprocess.run(
            ["flite", "-voice", voice, "-t", sentence, "-o", path], check=True
        )
        signal, _ = read_audio(path, sample_rate)
    return RMS * signal / signal.square().mean().sqrt()


def improvement(
    model: S4MSeparation, voices: tuple[str, str], said: list[str]
) -> float:
    """SI-SNRi of a mixture of two voices, the mean over both, in dB."""
    rate = model.hparams.sample_rate
    target = torch.nn.utils.rnn.pad_sequence(
        [speak(voice, s, rate) for voice, s in zip(voices, said, strict=True)]
    ).unsqueeze(0)  # [1, T, 2]
    mixture = target.sum(2)
    estimate = model.separate_batch(mixture)
    _, order = metrics.pit_si_snr(estimate=estimate, target=target)
    estimate = metrics.reorder(estimate, order)
    return float(metrics.si_snr_i(estimate, target, mixture).mean())


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="name of a shipped model, or a folder")
    model = S4MSeparation.from_hparams(parser.parse_args(argv).model)
    gains = []
    for voices in itertools.permutations(VOICES, 2):
        gains.append(improvement(model, voices, sentences()))
        print(f"{voices[0]:5} and {voices[1]:5}  {gains[-1]:5.1f} dB")
    print(
        f"{len(gains)} mixtures: SI-SNRi {min(gains):.1f} to {max(gains):.1f} "
        f"dB, {statistics.fmean(gains):.1f} dB on average"
    )


if __name__ == "__main__":
    try:
        main()
    except FileNotFoundError as error:
        sys.exit(f"synthetic.py: {error.filename}: is not installed")
    except InputError as error:
        sys.exit(f"synthetic.py: {one_line(error)}")
