"""Scores of how speech sounds: PESQ and STOI, by their libraries.

Shapes, lengths, silence and errors: see `s4m_sb.metrics`.
"""

import math
import warnings

import torch

from s4m_sb.errors import InputError
from s4m_sb.metrics.contract import not_installed, one_by_one

WORST_PESQ = 1.0  # "bad" on its scale
PESQ_PIECE_S = 30  # the library has room for 50 utterances, and no check


def pesq(
    estimate: torch.Tensor,
    target: torch.Tensor,
    sample_rate: int,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """Perceived quality, ITU-T P.862, by torchmetrics and pesq.

    About 1 (bad) to 4.6, at 8000 Hz (narrow band) or 16000 Hz (wide band).
    1 for a silent estimate, NaN also where PESQ finds no speech. It is meant
    for a few sentences: a signal of more than 30 s is rated in equal pieces
    of at most 30 s, whose mean counts.
    """
    modes = {8000: "nb", 16000: "wb"}
    if sample_rate not in modes:
        raise InputError(
            f"sample_rate={sample_rate}: PESQ is defined at 8000 and 16000 Hz"
        )
    try:
        import pesq as library
        from torchmetrics.functional.audio.pesq import (
            perceptual_evaluation_speech_quality,
        )
    except ImportError as error:
        raise not_installed("pesq", error) from error

    def piece(estimate: torch.Tensor, target: torch.Tensor) -> float:
        if not target.any():
            return math.nan
        if not estimate.any():
            return WORST_PESQ
        try:
            return float(
                perceptual_evaluation_speech_quality(
                    estimate, target, sample_rate, modes[sample_rate]
                )
            )
        except (library.NoUtterancesError, library.BufferTooShortError):
            return math.nan

    def one(estimate: torch.Tensor, target: torch.Tensor) -> float:
        if not estimate.isfinite().all():
            return math.nan
        num_pieces = math.ceil(len(target) / (PESQ_PIECE_S * sample_rate))
        values = map(
            piece,
            estimate.tensor_split(num_pieces),
            target.tensor_split(num_pieces),
        )
        return float(torch.tensor(list(values)).nanmean())

    return one_by_one(one, estimate, target, lengths)


def stoi(
    estimate: torch.Tensor,
    target: torch.Tensor,
    sample_rate: int,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """Short-time objective intelligibility, by torchmetrics and pystoi.

    About 0 to 1; NaN also where the target is shorter than STOI's window of
    384 ms of speech.
    """
    try:
        import pystoi  # noqa: F401  (torchmetrics needs it)
        from torchmetrics.functional.audio.stoi import (
            short_time_objective_intelligibility,
        )
    except ImportError as error:
        raise not_installed("stoi", error) from error

    def one(estimate: torch.Tensor, target: torch.Tensor) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            try:
                return float(
                    short_time_objective_intelligibility(
                        estimate, target, sample_rate
                    )
                )
            except RuntimeWarning:  # too short: pystoi would give 1e-5
                return math.nan

    return one_by_one(one, estimate, target, lengths)
