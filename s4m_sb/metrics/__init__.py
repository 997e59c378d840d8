"""How good a separation is, and what a training minimises."""

from s4m_sb.metrics.silence import pit_sa_sdr_loss, pit_thresholded_snr_loss
from s4m_sb.metrics.snr import (
    FLOOR_DB,
    NO_NOISE_DB,
    WORST_PESQ,
    best_permutation,
    input_snr,
    pairwise_si_snr,
    pesq,
    pit_si_snr,
    pit_si_snr_loss,
    reorder,
    sdr,
    sdr_i,
    si_snr,
    si_snr_i,
    stoi,
)

__all__ = [
    "FLOOR_DB",
    "NO_NOISE_DB",
    "WORST_PESQ",
    "best_permutation",
    "input_snr",
    "pairwise_si_snr",
    "pesq",
    "pit_sa_sdr_loss",
    "pit_si_snr",
    "pit_si_snr_loss",
    "pit_thresholded_snr_loss",
    "reorder",
    "sdr",
    "sdr_i",
    "si_snr",
    "si_snr_i",
    "stoi",
]
