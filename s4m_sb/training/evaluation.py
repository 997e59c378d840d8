"""Evaluation on a test set: metrics of each item, their table, saved audio.

Above this file: `brain.py`. Below it: `results.py`, `summary.py`,
`score_figure.py`, and `s4m_sb.metrics`.
"""

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from speechbrain.utils.logger import get_logger

from s4m_sb import metrics
from s4m_sb.audio.files import write_audio
from s4m_sb.errors import InputError
from s4m_sb.network.lengths import num_samples
from s4m_sb.training.results import ResultsTable
from s4m_sb.training.score_figure import plot_improvement
from s4m_sb.training.summary import binned_means, write_summary

logger = get_logger(__name__)

PEAK = 0.9  # of the loudest signal in each group of saved files

# What a batch may say of its items, and how the summary groups them.
CONDITIONS = {
    "input_snr_db": {"width": 3.0},  # WHAM! has -6 to 3 dB
    "rt60_s": {"width": 0.2},  # WHAMR! has 0.1 to 1 s
}
# The mixture's own SI-SNR, the mean over the sources. Without noise it is
# about 0 dB, which should be inside a bin.
INPUT_SI_SNR = "input_si_snr_db"
INPUT_SI_SNR_BINS = {"width": 3.0, "edge": -1.5}
# The share of speech in which two or more talk; 0 and 1 inside a bin as well.
OVERLAP = "overlap"
OVERLAP_BINS = {"width": 0.2, "edge": -0.1}


class Evaluation:
    """Collects what a test set gives, batch by batch.

    Arguments
    ---------
    output_folder : str or os.PathLike
        Gets ``test_results.csv``, ``summary.json`` and, if si-snr is a
        metric and matplotlib is installed, ``si-snr_i.png``.
    sample_rate : int
        In Hz.
    test_metrics : list of str
        Out of `s4m_sb.metrics.METRICS`; each has a column, and another of
        its improvement over the mixture, ``<name>_i``. Both are means over
        the targets that are not silent, the improvement over those of them
        that are not all there is in the mixture. Behind them stand the
        `s4m_sb.metrics.ITEM_METRICS`: SI-SNR of items with one talker,
        leakage into the output of one who is silent, exchanges of voices.
    audio_folder : str or os.PathLike, optional
        Gets mixture, targets and estimates of the first items as WAV.
    num_audio : int
        For how many items; below 0 for all.

    Raises
    ------
    InputError
        If a metric is unknown or needs a package that is not installed.
    """

    def __init__(
        self,
        output_folder: str | os.PathLike,
        sample_rate: int,
        test_metrics: list[str],
        audio_folder: str | os.PathLike | None = None,
        num_audio: int = -1,
    ):
        metrics.check_metrics(test_metrics)
        self.output_folder = Path(output_folder)
        self.sample_rate = sample_rate
        self.test_metrics = test_metrics
        self.audio_folder = audio_folder
        self.num_audio = num_audio
        self.columns = [c for name in test_metrics for c in (name, f"{name}_i")]
        self.columns += metrics.ITEM_METRICS
        self._table: ResultsTable | None = None

    @torch.no_grad()
    def add(
        self,
        ids: list[str],
        estimate: torch.Tensor,
        target: torch.Tensor,
        mixture: torch.Tensor,
        lengths: torch.Tensor,
        conditions: dict[str, torch.Tensor] | None = None,
    ) -> None:
        """Rates a batch and writes a row an item.

        Arguments
        ---------
        ids : list of str
            Names of the items.
        estimate, target : torch.Tensor
            ``[B, T, S]``, the estimates in any order.
        mixture : torch.Tensor
            ``[B, T]``.
        lengths : torch.Tensor
            Relative, ``[B]``.
        conditions : dict of torch.Tensor, optional
            ``input_snr_db`` (speech over noise) and ``rt60_s``, each ``[B]``
            and not finite where unknown. Those of the first batch are columns,
            and `close` groups the items by them; a later batch may lack one.

        Raises
        ------
        InputError
            If a condition is unknown, not one of the first batch's, or has
            not one value an item.
        """
        known = _as_lists(conditions or {}, len(ids))
        estimate, target = estimate.float().cpu(), target.float().cpu()
        mixture, lengths = mixture.float().cpu(), lengths.cpu()
        order = metrics.assign(estimate, target, lengths)
        estimate = metrics.reorder(estimate, order)
        shares = metrics.overlap(target, self.sample_rate, lengths).tolist()
        known = {OVERLAP: shares} | known
        columns = {}
        for name in self.test_metrics:
            value, improvement = metrics.METRICS[name].rate(
                estimate, target, mixture, self.sample_rate, lengths
            )
            columns[name] = value.nanmean(1)  # [B]; silent targets are NaN
            columns[f"{name}_i"] = improvement.nanmean(1)
        for name, rate in metrics.ITEM_METRICS.items():
            columns[name] = rate(estimate, target, self.sample_rate, lengths)
        table = self._open(known)
        samples = num_samples(lengths, mixture.shape[1]).tolist()
        for i, (name, length) in enumerate(zip(ids, samples, strict=True)):
            if self.num_audio < 0 or len(table.rows) < self.num_audio:
                self._save_audio(
                    name,
                    estimate[i, :length],
                    target[i, :length],
                    mixture[i, :length],
                )
            table.add(
                name,
                {key: float(value[i]) for key, value in columns.items()}
                | {key: values[i] for key, values in known.items()},
            )

    def _open(self, known: Iterable[str]) -> ResultsTable:
        """The table, whose columns are known with the first batch."""
        if self._table is None:
            self._table = ResultsTable(
                self.output_folder / "test_results.csv", self.columns, known
            )
        late = [name for name in known if name not in self._table.conditions]
        if late:
            raise InputError(
                f"conditions: {', '.join(late)} came after the first batch"
            )
        return self._table

    def _save_audio(
        self,
        name: str,
        estimate: torch.Tensor,
        target: torch.Tensor,
        mixture: torch.Tensor,
    ) -> None:
        if self.audio_folder is None:
            return
        folder = Path(self.audio_folder)
        # SI-SNR does not fix the level of an estimate: it gets its target's.
        # That of a silent one stays beside the loudest, so that leaks show.
        level = target.norm(dim=0) / estimate.norm(dim=0).clamp(min=1e-8)
        level = level.where(level > 0, level.amax())
        groups = {
            f"item{name}_mix": mixture,
            **{
                f"item{name}_source{s + 1}": target[:, s]
                for s in range(target.shape[1])
            },
            **{
                f"item{name}_source{s + 1}hat": (estimate * level)[:, s]
                for s in range(target.shape[1])
            },
        }
        loudest = max(float(x.abs().max()) for x in groups.values())
        gain = PEAK / loudest if loudest > 0 else 1.0
        for stem, signal in groups.items():
            write_audio(folder / f"{stem}.wav", signal * gain, self.sample_rate)

    def close(self, about: dict[str, Any]) -> dict[str, float]:
        """Finishes the table, writes the summary and draws the figure.

        The summary has the average of each column (of ``ITEM_METRICS``, those
        that occur) and, for each condition that occurs, ``by_<condition>``,
        see `binned_means`; so it has for ``overlap``, the share of speech in
        which two or more talk, and for ``input_si_snr_db``, the SI-SNR of
        the mixture itself.

        Arguments
        ---------
        about : dict
            What else the summary shall say. Its ``dataset``, ``mixture`` and
            ``target`` also stand above the figure.

        Returns
        -------
        dict
            The average of each column.
        """
        table = self._open([])
        averages, rows = table.close(), table.rows
        averages = {
            name: value
            for name, value in averages.items()
            if name not in metrics.ITEM_METRICS or math.isfinite(value)
        }
        groups = {
            name: binned_means(rows, name, self.columns, **bins)
            for name, bins in CONDITIONS.items()
        }
        groups[OVERLAP] = binned_means(
            rows, OVERLAP, self.columns, **OVERLAP_BINS
        )
        points = []
        if "si-snr" in self.test_metrics:
            rows = [
                row | {INPUT_SI_SNR: row["si-snr"] - row["si-snr_i"]}
                for row in rows
                if math.isfinite(row["si-snr_i"])
            ]
            points = _points(rows, INPUT_SI_SNR)
            groups[INPUT_SI_SNR] = binned_means(
                rows, INPUT_SI_SNR, self.columns, **INPUT_SI_SNR_BINS
            )
        write_summary(
            self.output_folder / "summary.json",
            {
                "num_items": len(table.rows),
                **averages,
                "sample_rate": self.sample_rate,
                **about,
                **{f"by_{name}": bins for name, bins in groups.items() if bins},
            },
        )
        for name, value in averages.items():
            logger.info("Mean %s is %.2f", name, value)
        figure = self.output_folder / "si-snr_i.png"
        figure.unlink(missing_ok=True)  # of an earlier evaluation
        if points:
            by_overlap = None
            if len({row[OVERLAP] for row in rows}) > 1:
                by_overlap = (
                    _points(rows, OVERLAP),
                    _points(groups[OVERLAP], OVERLAP),
                )
            try:
                plot_improvement(
                    figure,
                    points,
                    _points(groups[INPUT_SI_SNR], INPUT_SI_SNR),
                    bin_db=INPUT_SI_SNR_BINS["width"],
                    title=_title(about, averages, len(points)),
                    by_overlap=by_overlap,
                )
            except ImportError as error:
                logger.info(
                    "No figure of SI-SNRi (%s); "
                    "pip install s4m_sb[eval] brings what it needs",
                    error,
                )
        return averages


def _as_lists(
    conditions: dict[str, torch.Tensor], num_items: int
) -> dict[str, list[float]]:
    lists = {}
    for name, values in conditions.items():
        if name not in CONDITIONS:
            raise InputError(
                f"conditions: {name!r} is unknown; choose from "
                f"{', '.join(CONDITIONS)}"
            )
        values = torch.as_tensor(values)  # a batch may have a list
        if values.shape != (num_items,):
            raise InputError(
                f"conditions: {name} has shape {tuple(values.shape)}; one "
                f"value per item is needed: ({num_items},)"
            )
        lists[name] = values.tolist()
    return lists


def _points(rows: list[dict[str, float]], by: str) -> list[tuple[float, float]]:
    """What SI-SNRi belongs to which value, where it is known."""
    return [
        (row[by], row["si-snr_i"])
        for row in rows
        if math.isfinite(row["si-snr_i"])
    ]


def _title(
    about: dict[str, Any], averages: dict[str, float], num_points: int
) -> str:
    data = ", ".join(
        f"{key}: {about[key]}"
        for key in ("dataset", "mixture", "target")
        if about.get(key) is not None
    )
    mean = averages["si-snr_i"]
    numbers = f"{num_points} utterances, mean SI-SNRi {mean:.1f} dB"
    of_items = ", ".join(
        f"{name} {averages[name]:.1f}"
        for name in metrics.ITEM_METRICS
        if name in averages
    )
    return "\n".join(line for line in (data, numbers, of_items) if line)
