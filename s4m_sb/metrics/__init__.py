"""How good a separation is, and what a training minimises.

What holds for every function here, unless it says otherwise:

``estimate`` and ``target`` are ``[B, T, S]`` (batch, samples, sources), in
one order; functions called ``pit_*`` take the estimates in any order and find
the best one for each item as a whole. ``mixture`` is ``[B, T]``. ``lengths``
are relative, ``[B]``, 0 to 1, and may be left out: what lies behind
``round(length * T)`` samples counts for nothing, in the value and in the
gradient. ``sample_rate`` is in Hz.

A value is ``[B, S]``, one a source, in dB where the unit is dB, computed in
float32 at least. Higher is better; a negated one is called ``*_loss``, is
``[B]``, one an item, and has the argument order of SpeechBrain, target first.
What ends in ``_i`` is the improvement over the mixture.

Silence has a meaning. A silent target (constant, or of an energy of at most
1e-8, which over 4 s at 8 kHz is an RMS of -125 dBFS) has no value: NaN. A
silent estimate of an active target gets the worst there is, -80 dB, and a
gradient towards the target. A target that is all there is in its mixture (to
70 dB), the voice of one who talks alone, has no improvement: NaN.

Shapes that do not fit, options out of range and libraries that are not
installed raise `InputError`.

A metric is one function (in ``snr.py`` or ``perceptual.py``, say) and one
line in ``registry.py``, from which results, cards and messages have it.
"""

from s4m_sb.metrics.contract import FLOOR_DB, NO_NOISE_DB
from s4m_sb.metrics.conversation import (
    WINDOW_S,
    assign,
    exchanges,
    leakage,
    order_in_windows,
    overlap,
    single_si_snr,
    who_speaks,
)
from s4m_sb.metrics.perceptual import WORST_PESQ, pesq, stoi
from s4m_sb.metrics.permutation import best_permutation, reorder
from s4m_sb.metrics.registry import (
    ITEM_METRICS,
    METRICS,
    Metric,
    card_titles,
    check_metrics,
)
from s4m_sb.metrics.silence import pit_sa_sdr_loss, pit_thresholded_snr_loss
from s4m_sb.metrics.snr import (
    input_snr,
    pairwise_si_snr,
    pit_si_snr,
    pit_si_snr_loss,
    sdr,
    sdr_i,
    si_snr,
    si_snr_i,
)

__all__ = [
    "FLOOR_DB",
    "ITEM_METRICS",
    "METRICS",
    "Metric",
    "NO_NOISE_DB",
    "WINDOW_S",
    "WORST_PESQ",
    "assign",
    "best_permutation",
    "card_titles",
    "check_metrics",
    "exchanges",
    "input_snr",
    "leakage",
    "order_in_windows",
    "overlap",
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
    "single_si_snr",
    "stoi",
    "who_speaks",
]
