"""The figures of a model card, from one command."""

import csv
import statistics
import subprocess
import sys

import pytest
import torch
from recipe_runs import REPOSITORY, environment
from small_model import write_model

from s4m_sb.audio.files import read_audio
from s4m_sb.inference.interface import S4MSeparation
from s4m_sb.metrics import si_snr, si_snr_i

BENCHMARKS = REPOSITORY / "benchmarks"
sys.path.append(str(BENCHMARKS))

import card  # noqa: E402


def run(*arguments):
    return subprocess.run(
        [sys.executable, BENCHMARKS / "card.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(),
    )


@pytest.fixture(scope="module")
def manifest(speech_folder, tmp_path_factory):
    """Every second talker is a woman."""
    path = tmp_path_factory.mktemp("manifest") / "manifest.csv"
    talkers = sorted(speech_folder.glob("*/*"))
    lines = ["file,split,speaker,gender"]
    for number, talker in enumerate(talkers):
        for file in sorted(talker.iterdir()):
            split, gender = talker.parent.name, "mf"[number % 2]
            lines.append(f"{file},{split},{talker.name},{gender}")
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("where", ["quiet", "noise", "rooms"])
def test_figures_are_those_of_the_files(
    manifest, noise_folder, tmp_path, where
):
    folder, output = write_model(tmp_path / "model"), tmp_path / "card"
    options = ("--noise", noise_folder) if where != "quiet" else ()
    if where == "rooms":
        pytest.importorskip("pyroomacoustics")
        options += ("--reverb",)
    result = run(folder, manifest, output, "--count", 5, "--pairs", 1, *options)
    assert result.returncode == 0, result.stderr
    with open(output / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5

    split = output / "mixtures/wav8k/min/tt"
    mixed = "mix_both" if options else "mix"
    room = "_reverb" if where == "rooms" else ""
    model = S4MSeparation.from_hparams(folder)
    for row in rows:
        mixture, first, second = (
            read_audio(split / f"{kind}{room}" / f"{row['mixture']}.wav", 8000)[
                0
            ][None]
            for kind in (mixed, "s1", "s2")
        )
        target = torch.stack([first, second], dim=2)
        voices = model.separate_batch(mixture)
        gains = [
            float(si_snr_i(order, target, mixture).mean())
            for order in (voices, voices.flip(2))
        ]
        # one is a difference of means, the other a mean of differences
        assert float(row["SI-SNRi"]) == pytest.approx(max(gains), abs=1e-4)
        voices = model.separate_batch(first)
        alone = si_snr(voices, first[:, :, None].expand_as(voices)).max()
        assert float(row["one talker"]) == pytest.approx(float(alone), abs=1e-4)

    mean = statistics.fmean(float(row["SI-SNRi"]) for row in rows)
    table = (output / "card.md").read_text()
    assert result.stdout == table
    cells = next(
        line for line in table.splitlines() if line.startswith("| SI-SNRi |")
    ).split(" | ")
    assert cells[1].removesuffix(" |") == f"{mean:.2f} dB"
    kinds = [row["gender"] for row in rows]
    sizes = [f"all ({len(rows)})"] + [
        f"{kind} gender ({kinds.count(kind)})"
        for kind in ("same", "different")
        if kind in kinds
    ]
    assert table.splitlines()[0] == f"| metric | {' | '.join(sizes)} |"
    assert "the outputs is 0." in table
    assert f"Weights: {card.fingerprint(model)}." in table


def test_a_fingerprint_is_that_of_the_weights():
    first = S4MSeparation.from_hparams("s4m-8k")
    assert card.fingerprint(first) == card.fingerprint(
        S4MSeparation.from_hparams("s4m-8k")
    )
    with torch.no_grad():
        first.mods.decoder.weight[0, 0, 0].mul_(1 + 1e-6)
    assert card.fingerprint(first) != card.fingerprint(
        S4MSeparation.from_hparams("s4m-8k")
    )


def test_an_exchange_inside_a_recording_is_seen():
    target = torch.randn(1, 6400, 2)  # 8 windows of 8 s at 100 Hz
    voices = target.clone()
    assert card.windows(voices, target, 100) == [False] * 8
    voices[:, 4000:] = voices[:, 4000:].flip(2)
    assert card.windows(voices, target, 100) == [False] * 5 + [True] * 3
    # which output is whose does not matter, nor does a window of silence
    target[:, 800:1600] = 0
    voices[:, 800:1600] = 0
    assert card.windows(voices.flip(2), target, 100) == [False] * 4 + [True] * 3


def test_wrong_input_is_one_line(manifest, tmp_path):
    result = run("no-such-model", manifest, tmp_path / "out")
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("card.py: ")
    assert "Traceback" not in result.stderr
