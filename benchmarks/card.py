#!/usr/bin/env python3
"""Measures a model as its card states it, on talkers it never heard.

    python benchmarks/card.py s4m-8k PACK/manifest.csv results/card
    python benchmarks/card.py s4m-8k-noisy PACK/manifest.csv results/noisy \\
        --noise PACK/manifest.csv --reverb --snr 0 12

Makes the test mixtures as `s4m mix` does, separates each, and writes
`scores.csv` (a row for each mixture), `long.csv` (a row for each long
recording) and `card.md`, the tables that it prints.
"""

import argparse
import csv
import hashlib
import itertools
import statistics
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from tqdm import tqdm  # noqa: E402

from s4m_sb import metrics  # noqa: E402
from s4m_sb.audio.files import read_audio  # noqa: E402
from s4m_sb.errors import InputError, one_line  # noqa: E402
from s4m_sb.inference.interface import S4MSeparation  # noqa: E402
from s4m_sb.inference.pieces import Pieces  # noqa: E402
from s4m_sb.mixing.corpus import Utterance  # noqa: E402
from s4m_sb.mixing.datasets.layout import Content, folders  # noqa: E402
from s4m_sb.mixing.datasets.making import OPTIONS, make_mix_dataset  # noqa: E402
from s4m_sb.mixing.datasets.metadata import read_rows  # noqa: E402
from s4m_sb.mixing.datasets.splits import speech_splits  # noqa: E402
from s4m_sb.mixing.datasets.tables import list_mixtures, read_signal  # noqa: E402
from s4m_sb.mixing.rows import write_csv  # noqa: E402
from s4m_sb.system.files import replacing  # noqa: E402

LONG_S = 90.0
PAUSE_S = 10.0  # both are silent that long, twice in a long recording

GENDERS = {1: "same", 2: "different"}  # by how many there are in a mixture

Row = dict[str, str | float]


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("model", help="name of a shipped model, or a folder")
    add("speech", type=Path, help="manifest; its column gender is used")
    add("output_folder", type=Path, help="gets mixtures and scores")
    add("--noise", type=Path, help="folder or manifest")
    add("--snr", type=float, nargs=2, default=(-6.0, 3.0), metavar="DB")
    add("--reverb", action="store_true", help="every mixture in a room")
    add("--count", type=int, default=200, help="of mixtures")
    add("--pairs", type=int, default=20, help="of talkers, for 90 s each")
    add("--seed", type=int, default=1)
    add("--threads", type=int, default=1)
    add("--precision", choices=["fp32", "bf16"], default="fp32")
    arguments = parser.parse_args(argv)
    if arguments.count < 1 or arguments.pairs < 0:
        parser.error("argument --count, --pairs: must be above 0")
    return arguments


def genders(manifest: Path) -> dict[str, str]:
    """The gender of each speaker, where the manifest has that column."""
    with open(manifest, encoding="utf-8", newline="") as file:
        return {
            row["speaker"]: row["gender"]
            for row in csv.DictReader(file)
            if row.get("speaker") and row.get("gender")
        }


def score_mixtures(
    model: S4MSeparation, arguments: argparse.Namespace
) -> list[Row]:
    """Separates the mixtures of the test split, and each talker alone."""
    rate = model.hparams.sample_rate
    split = (
        make_mix_dataset(
            arguments.speech,
            arguments.output_folder / "mixtures",
            replace(
                OPTIONS,
                sample_rate=rate,
                segment_s=4.0,
                snr_range_db=tuple(arguments.snr),
            ),
            num_mixtures=(0, 0, arguments.count),
            seed=arguments.seed,
            noise=arguments.noise,
            reverb=arguments.reverb,
            progress=True,
        )
        / "tt"
    )
    noise, reverb = arguments.noise is not None, arguments.reverb
    named = {
        content: name for name, content in folders(2, noise, reverb).items()
    }
    kinds = {
        "mix": named[Content((0, 1), noise, reverb)],
        "s1": named[Content((0,), reverberant=reverb)],
        "s2": named[Content((1,), reverberant=reverb)],
    }
    speakers: dict[str, dict[str, str]] = {}
    for _, row in read_rows(split.parent / "metadata.csv"):
        speakers.setdefault(row["mixture"], {})[row["source"]] = row["speaker"]
    gender = genders(arguments.speech)

    rows = []
    for files in tqdm(list_mixtures(split, kinds, rate), desc="mixtures"):
        name = files["ID"]
        mix, *sources = (
            read_signal(files[f"{signal}_wav"], rate) for signal in kinds
        )
        target = torch.stack(sources, dim=1)[None]
        talkers = [speakers[name][source] for source in ("s1", "s2")]
        sexes = {gender.get(talker) for talker in talkers}
        rows.append(
            {
                "mixture": name,
                "gender": "" if None in sexes else GENDERS[len(sexes)],
            }
            | scores(model, mix[None], target)
            | {"one talker": alone(model, target[:, :, 0])}
        )
    return rows


def scores(
    model: S4MSeparation, mix: torch.Tensor, target: torch.Tensor
) -> dict[str, float]:
    """Rates the voices of a mixture: means over both, improvements too."""
    voices = model.separate_batch(mix)
    _, order = metrics.pit_si_snr(estimate=voices, target=target)
    voices = metrics.reorder(voices, order)
    rate = model.hparams.sample_rate
    values = {}
    for metric in metrics.METRICS.values():
        value, improvement = metric.rate(voices, target, mix, rate)
        values[metric.title] = float(value.mean())
        values[f"{metric.title}i"] = float(improvement.mean())
    return values


def alone(model: S4MSeparation, talker: torch.Tensor) -> float:
    """SI-SNR of the better output for a talker whom nobody disturbs, in dB."""
    voices = model.separate_batch(talker)
    target = talker[:, :, None].expand_as(voices)
    return float(metrics.si_snr(voices, target).max())


def score_long(
    model: S4MSeparation, arguments: argparse.Namespace
) -> list[Row]:
    """Separates long recordings in pieces: does each voice keep its output?

    Two talkers speak for 90 s, with two pauses of both. A window counts as
    exchanged if the outputs fit the talkers better the other way round there
    than as they do on the whole.
    """
    rate = model.hparams.sample_rate
    corpus = speech_splits(
        arguments.speech, "folder", ["tt"], 2, arguments.seed
    )["tt"]
    rng = np.random.default_rng(arguments.seed)
    rows = []
    for _ in tqdm(range(arguments.pairs), desc="long recordings"):
        names = sorted(rng.choice(sorted(corpus.speakers), 2, replace=False))
        num_frames = round(LONG_S * rate)
        target = torch.stack(
            [speech(corpus.speakers[name], rate, num_frames) for name in names]
        ).T[None]
        pause = round(PAUSE_S * rate)
        for start in (num_frames // 4, num_frames * 5 // 8):
            target[:, start : start + pause] = 0
        voices = model.separate_batch(
            target.sum(2), pieces=Pieces(batch_size=1)
        )
        exchanged = windows(voices, target, rate)
        rows.append(
            {
                "talkers": " ".join(names),
                "windows": len(exchanged),
                "exchanged": sum(exchanged),
            }
        )
    return rows


def speech(
    utterances: Iterable[Utterance], sample_rate: int, num_frames: int
) -> torch.Tensor:
    """A talker's utterances in a row, again and again, at an RMS of 0.05."""
    signal = torch.cat(
        [read_audio(one.path, sample_rate)[0] for one in utterances]
    )
    signal = signal.repeat(-(-num_frames // len(signal)))[:num_frames]
    return 0.05 * signal / signal.square().mean().sqrt()


def windows(
    voices: torch.Tensor, target: torch.Tensor, sample_rate: int
) -> list[bool]:
    """Whether the voices are exchanged, for each window with speech."""
    order = metrics.assign(voices, target)
    voices = metrics.reorder(voices, order)
    orders = metrics.order_in_windows(voices[0], target[0], sample_rate)
    straight = torch.arange(target.shape[2])
    return (orders != straight).any(dim=1).tolist()


def tables(rows: list[Row], long: list[Row], model: S4MSeparation) -> str:
    """The tables of the card, in Markdown."""
    groups = {"all": rows} | {
        f"{kind} gender": [row for row in rows if row["gender"] == kind]
        for kind in GENDERS.values()
    }
    groups = {name: group for name, group in groups.items() if group}
    sizes = " | ".join(f"{n} ({len(group)})" for n, group in groups.items())
    lines = [f"| metric | {sizes} |", "|---|" + "---|" * len(groups)]
    for i, metric in itertools.product(("i", ""), metrics.METRICS.values()):
        name, unit = metric.title + i, f" {metric.unit}".rstrip()
        means = [
            statistics.fmean(float(row[name]) for row in group)
            for group in groups.values()
        ]
        cells = " | ".join(f"{mean:.{metric.digits}f}{unit}" for mean in means)
        lines.append(f"| {name} | {cells} |")
    gains = [float(row["SI-SNRi"]) for row in rows]
    undisturbed = [float(row["one talker"]) for row in rows]
    silence = model.separate_batch(torch.zeros(1, 32000))
    lines += [
        "",
        f"SI-SNRi: median {statistics.median(gains):.2f} dB, below 0 dB for "
        f"{sum(gain < 0 for gain in gains)} mixtures, above 8 dB for "
        f"{sum(gain > 8 for gain in gains)}.",
        f"One talker alone: SI-SNR of the better output "
        f"{statistics.fmean(undisturbed):.1f} dB on average, "
        f"{statistics.median(undisturbed):.1f} dB in the median, "
        f"{min(undisturbed):.1f} dB at least.",
        f"Silence: the largest sample of the outputs is "
        f"{float(silence.abs().max()):g}.",
    ]
    if long:
        exchanged = [int(row["exchanged"]) for row in long]
        total = sum(int(row["windows"]) for row in long)
        lines.append(
            f"Two talkers for {LONG_S:g} s in quiet, with pauses, in pieces of "
            f"{Pieces.chunk_s:g} s: {sum(exchanged)} of {total} windows of "
            f"{metrics.WINDOW_S:g} s are exchanged, in "
            f"{sum(map(bool, exchanged))} of {len(long)} recordings."
        )
    lines.append(f"Weights: {fingerprint(model)}.")
    return "\n".join(lines) + "\n"


def fingerprint(model: S4MSeparation) -> str:
    """Tells the weights that were measured from any others."""
    digest = hashlib.sha256()
    for name, value in sorted(model.mods.state_dict().items()):
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    arguments = parse_arguments(argv)
    torch.set_num_threads(arguments.threads)
    model = S4MSeparation.from_hparams(
        arguments.model, run_opts={"precision": arguments.precision}
    )
    rows = score_mixtures(model, arguments)
    write_csv(arguments.output_folder / "scores.csv", rows)
    long = score_long(model, arguments)
    if long:
        write_csv(arguments.output_folder / "long.csv", long)
    text = tables(rows, long, model)
    with replacing(arguments.output_folder / "card.md") as temporary:
        temporary.write_text(text, "utf-8")
    print(text, end="")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"card.py: {one_line(error)}")
