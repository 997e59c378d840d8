"""How good are separated voices: SI-SNR, and SDR, PESQ, STOI by libraries.

Every function takes ``estimate`` and ``target`` as ``[B, T, S]`` (batch,
samples, sources) and gives ``[B, S]``, in dB where the unit is dB; higher is
better, and a negated one is called ``*_loss``. Computed in float32 at least.

Silence has a meaning here. A silent target (constant, or of an energy of at
most `EPS`, which over 4 s at 8 kHz is an RMS of -125 dBFS) has no SI-SNR: its
value is NaN, and the loss leaves it out. A silent estimate of an active
target gets the floor, -80 dB, and a gradient towards the target.
"""

import math
import warnings
from collections.abc import Callable

import torch

from s4m_sb.errors import InputError
from s4m_sb.network.lengths import num_samples, sample_mask

EPS = 1e-8  # SpeechBrain's: it makes -80 dB the lowest SI-SNR
FLOOR_DB = 10 * math.log10(EPS)
WORST_PESQ = 1.0  # "bad" on its scale
PESQ_PIECE_S = 30  # the library has room for 50 utterances, and no check
NO_NOISE_DB = 70.0  # 16-bit files round at about 80 dB below the speech


def si_snr(
    estimate: torch.Tensor,
    target: torch.Tensor,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """Scale-invariant signal-to-noise ratio, source by source.

    The estimate e and the target t are freed of their means; then
    ``10 log10(|a t|^2 / |e - a t|^2)`` with ``a = <e, t> / <t, t>``. The same
    number as SpeechBrain's ``cal_si_snr`` where that is defined.

    Arguments
    ---------
    estimate : torch.Tensor
        Separated sources in the targets' order, ``[B, T, S]``.
    target : torch.Tensor
        True sources, ``[B, T, S]``.
    lengths : torch.Tensor, optional
        Relative lengths, ``[B]``, 0 to 1: what lies behind
        ``round(length * T)`` samples counts for nothing, in the value and in
        the gradient.

    Returns
    -------
    torch.Tensor
        SI-SNR in dB, ``[B, S]``; NaN where the target is silent.

    Raises
    ------
    InputError
        If the shapes do not fit.

    Example
    -------
    >>> target = torch.tensor([1.0, -1.0, 1.0, -1.0]).view(1, 4, 1)
    >>> noise = torch.tensor([1.0, 1.0, -1.0, -1.0]).view(1, 4, 1)
    >>> si_snr(estimate=2 * target + 0.2 * noise, target=target)
    tensor([[20.0000]])
    """
    return _si_snr(*_prepare(estimate, target, lengths))


def pairwise_si_snr(
    estimate: torch.Tensor,
    target: torch.Tensor,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """SI-SNR of every estimate against every target.

    Arguments
    ---------
    estimate : torch.Tensor
        Separated sources in any order, ``[B, T, S]``.
    target : torch.Tensor
        True sources, ``[B, T, S]``.
    lengths : torch.Tensor, optional
        Relative lengths, ``[B]``.

    Returns
    -------
    torch.Tensor
        ``[B, S, S]`` in dB: entry ``[b, i, j]`` is estimate i against
        target j; NaN where target j is silent.

    Example
    -------
    >>> target = torch.randn(1, 100, 2)
    >>> values = pairwise_si_snr(estimate=target.flip(-1), target=target)
    >>> bool(values[0, 0, 1] > 60 > values[0, 0, 0])
    True
    """
    return _all_pairs(*_prepare(estimate, target, lengths))


def best_permutation(scores: torch.Tensor) -> torch.Tensor:
    """The assignment of estimates to targets with the highest total score.

    Exact for any number of sources: dynamic programming over the sets of
    estimates given away (2^S of them, instead of S! permutations), for all
    items of the batch at once.

    Arguments
    ---------
    scores : torch.Tensor
        ``[B, S, S]``: entry ``[b, i, j]`` is estimate i against target j.
        NaN counts as 0, so that a silent target takes what is left over.

    Returns
    -------
    torch.Tensor
        ``[B, S]``, integers: entry ``[b, j]`` is the estimate for target j.

    Example
    -------
    >>> best_permutation(torch.tensor([[[1.0, 9.0], [2.0, 8.0]]]))
    tensor([[1, 0]])
    """
    scores = scores.detach().nan_to_num(nan=0.0)
    num_items, num_sources, _ = scores.shape
    device = scores.device
    bit = 2 ** torch.arange(num_sources, device=device)
    sets = torch.arange(2**num_sources, device=device)
    holds = (sets.unsqueeze(1) & bit) > 0  # [2^S, S]
    total = scores.new_full((num_items, 2**num_sources), -math.inf)
    total[:, 0] = 0
    given = sets.new_zeros(num_items, 2**num_sources)
    for j in reversed(range(num_sources)):
        here = sets[holds.sum(1) == num_sources - j]  # serve targets j..S-1
        before = (here.unsqueeze(1) - bit).clamp(min=0)  # [M, S]
        candidates = total[:, before] + scores[:, None, :, j]  # [B, M, S]
        candidates = candidates.masked_fill(~holds[here], -math.inf)
        total[:, here], given[:, here] = candidates.max(dim=2)
    permutation = []
    left = sets[-1:].expand(num_items)  # from the full set back to none
    for _ in range(num_sources):
        estimate = given.gather(1, left.unsqueeze(1)).squeeze(1)
        permutation.append(estimate)
        left = left - bit[estimate]
    return torch.stack(permutation, dim=1)


def reorder(sources: torch.Tensor, permutation: torch.Tensor) -> torch.Tensor:
    """Puts estimates into the order of their targets.

    Arguments
    ---------
    sources : torch.Tensor
        ``[B, T, S]``.
    permutation : torch.Tensor
        ``[B, S]``, as `best_permutation` and `pit_si_snr` give it.

    Returns
    -------
    torch.Tensor
        ``[B, T, S]``.

    Example
    -------
    >>> reorder(torch.tensor([[[5.0, 7.0]]]), torch.tensor([[1, 0]]))
    tensor([[[7., 5.]]])
    """
    return sources.gather(2, permutation.unsqueeze(1).expand_as(sources))


def pit_si_snr(
    estimate: torch.Tensor,
    target: torch.Tensor,
    lengths: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """SI-SNR under the best assignment of estimates to targets.

    Arguments
    ---------
    estimate : torch.Tensor
        Separated sources in any order, ``[B, T, S]``.
    target : torch.Tensor
        True sources, ``[B, T, S]``.
    lengths : torch.Tensor, optional
        Relative lengths, ``[B]``.

    Returns
    -------
    torch.Tensor
        SI-SNR in dB of each target, ``[B, S]``; NaN where it is silent.
    torch.Tensor
        Which estimate belongs to each target, ``[B, S]``; see `reorder`.

    Example
    -------
    >>> target = torch.randn(1, 100, 3)
    >>> _, permutation = pit_si_snr(target[..., [2, 0, 1]], target)
    >>> permutation
    tensor([[1, 2, 0]])
    """
    values, permutation, _ = _pit_si_snr(estimate, target, lengths)
    return values, permutation


def pit_si_snr_loss(
    target: torch.Tensor,
    estimate: torch.Tensor,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """Negative SI-SNR under the best assignment, one number per mixture.

    Equals SpeechBrain's ``get_si_snr_with_pitwrapper`` on items of full
    length without silence, and has its argument order, target first, so that
    either can stand as ``loss`` in a recipe's YAML.

    Arguments
    ---------
    target : torch.Tensor
        True sources, ``[B, T, S]``.
    estimate : torch.Tensor
        Separated sources in any order, ``[B, T, S]``.
    lengths : torch.Tensor, optional
        Relative lengths, ``[B]``.

    Returns
    -------
    torch.Tensor
        ``[B]``, in dB, lower is better: the mean over the targets that are
        not silent; 0 with zero gradient where all are.

    Example
    -------
    >>> target = torch.randn(2, 100, 2)
    >>> loss = pit_si_snr_loss(target, target + 0.1 * torch.randn(2, 100, 2))
    >>> loss.shape
    torch.Size([2])
    """
    values, _, active = _pit_si_snr(estimate, target, lengths)
    total = values.masked_fill(~active, 0).sum(dim=1)
    return -total / active.sum(dim=1).clamp(min=1)


def si_snr_i(
    estimate: torch.Tensor,
    target: torch.Tensor,
    mixture: torch.Tensor,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """SI-SNR improvement: how much better than the mixture itself.

    Arguments
    ---------
    estimate : torch.Tensor
        Separated sources in the targets' order, ``[B, T, S]``.
    target : torch.Tensor
        True sources, ``[B, T, S]``.
    mixture : torch.Tensor
        What was separated, ``[B, T]``.
    lengths : torch.Tensor, optional
        Relative lengths, ``[B]``.

    Returns
    -------
    torch.Tensor
        In dB, ``[B, S]``; NaN where the target is silent, or is the mixture
        to 70 dB and better, as the voice of one who talks alone without
        noise: there is nothing to improve.

    Example
    -------
    >>> target = torch.randn(1, 100, 2)
    >>> mixture = target.sum(dim=2)
    >>> unchanged = mixture.unsqueeze(2).expand_as(target)
    >>> si_snr_i(estimate=unchanged, target=target, mixture=mixture)
    tensor([[0., 0.]])
    """
    before = si_snr(_as_estimate(mixture, target), target, lengths)
    improvement = si_snr(estimate, target, lengths) - before
    return improvement.masked_fill(before > NO_NOISE_DB, math.nan)


def input_snr(
    image: torch.Tensor,
    mixture: torch.Tensor,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """How far the speech in a mixture is above the noise.

    Arguments
    ---------
    image : torch.Tensor
        The sources as they are in the mixture, ``[B, T, S]``.
    mixture : torch.Tensor
        ``[B, T]``; what the sources leave of it is the noise.
    lengths : torch.Tensor, optional
        Relative lengths, ``[B]``.

    Returns
    -------
    torch.Tensor
        Power of all speakers together over that of the noise in dB, ``[B]``;
        NaN where the speech is silent or the noise below it by more than
        ``NO_NOISE_DB``, as rounding is.

    Example
    -------
    >>> image = torch.tensor([3.0, -3.0, 3.0, -3.0]).view(1, 4, 1)
    >>> noise = torch.tensor([[0.3, 0.3, -0.3, -0.3]])
    >>> input_snr(image=image, mixture=image.sum(2) + noise)
    tensor([20.0000])
    """
    speech = image.sum(dim=2)  # [B, T]
    noise = mixture - speech
    if lengths is not None:
        T = speech.shape[1]
        padding = ~sample_mask(num_samples(lengths, T), T)
        speech = speech.masked_fill(padding, 0.0)
        noise = noise.masked_fill(padding, 0.0)
    speech_power, noise_power = speech.square().sum(1), noise.square().sum(1)
    snr_db = 10 * torch.log10(speech_power / noise_power)
    return snr_db.masked_fill(
        (speech_power == 0) | ~(snr_db < NO_NOISE_DB), math.nan
    )


def sdr(
    estimate: torch.Tensor,
    target: torch.Tensor,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """Signal-to-distortion ratio of BSS-eval v3, by torchmetrics.

    The target may pass a filter of 512 taps for free, so that a short delay
    or a different microphone costs nothing. Not differentiable here.

    Arguments
    ---------
    estimate : torch.Tensor
        Separated sources in the targets' order, ``[B, T, S]``.
    target : torch.Tensor
        True sources, ``[B, T, S]``.
    lengths : torch.Tensor, optional
        Relative lengths, ``[B]``.

    Returns
    -------
    torch.Tensor
        In dB, ``[B, S]``; NaN where the target is silent, at least -80.

    Raises
    ------
    InputError
        If torchmetrics is not installed, or the shapes do not fit.
    """
    try:
        from torchmetrics.functional.audio import signal_distortion_ratio
    except ImportError as error:
        raise InputError(_not_installed("sdr", error)) from error

    def one(estimate: torch.Tensor, target: torch.Tensor) -> float:
        if not estimate.any():
            return FLOOR_DB
        try:
            value = float(signal_distortion_ratio(estimate, target))
        except torch.linalg.LinAlgError:
            value = math.nan
        if not math.isfinite(value):  # no unique filter, or no distortion
            value = float(
                signal_distortion_ratio(estimate, target, load_diag=1e-10)
            )
        return max(value, FLOOR_DB)

    return _one_by_one(one, estimate, target, lengths)


def sdr_i(
    estimate: torch.Tensor,
    target: torch.Tensor,
    mixture: torch.Tensor,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """SDR improvement over the mixture; see `sdr` and `si_snr_i`.

    Arguments
    ---------
    estimate : torch.Tensor
        Separated sources in the targets' order, ``[B, T, S]``.
    target : torch.Tensor
        True sources, ``[B, T, S]``.
    mixture : torch.Tensor
        What was separated, ``[B, T]``.
    lengths : torch.Tensor, optional
        Relative lengths, ``[B]``.

    Returns
    -------
    torch.Tensor
        In dB, ``[B, S]``; NaN where the target is silent.

    Raises
    ------
    InputError
        If torchmetrics is not installed, or the shapes do not fit.
    """
    return sdr(estimate, target, lengths) - sdr(
        _as_estimate(mixture, target), target, lengths
    )


def pesq(
    estimate: torch.Tensor,
    target: torch.Tensor,
    sample_rate: int,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """Perceived quality, ITU-T P.862, by torchmetrics and pesq.

    It is meant for a few sentences: a signal of more than 30 s is rated in
    equal pieces of at most 30 s, whose mean counts.

    Arguments
    ---------
    estimate : torch.Tensor
        Separated sources in the targets' order, ``[B, T, S]``.
    target : torch.Tensor
        True sources, ``[B, T, S]``.
    sample_rate : int
        In Hz: 8000 (narrow band) or 16000 (wide band).
    lengths : torch.Tensor, optional
        Relative lengths, ``[B]``.

    Returns
    -------
    torch.Tensor
        About 1 (bad) to 4.6, ``[B, S]``; 1 for a silent estimate, NaN where
        the target is silent or PESQ finds no speech.

    Raises
    ------
    InputError
        If pesq or torchmetrics is not installed, the sample rate is another
        one, or the shapes do not fit.
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
        raise InputError(_not_installed("pesq", error)) from error

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

    return _one_by_one(one, estimate, target, lengths)


def stoi(
    estimate: torch.Tensor,
    target: torch.Tensor,
    sample_rate: int,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """Short-time objective intelligibility, by torchmetrics and pystoi.

    Arguments
    ---------
    estimate : torch.Tensor
        Separated sources in the targets' order, ``[B, T, S]``.
    target : torch.Tensor
        True sources, ``[B, T, S]``.
    sample_rate : int
        In Hz.
    lengths : torch.Tensor, optional
        Relative lengths, ``[B]``.

    Returns
    -------
    torch.Tensor
        About 0 to 1, ``[B, S]``; NaN where the target is silent or shorter
        than STOI's window of 384 ms of speech.

    Raises
    ------
    InputError
        If pystoi or torchmetrics is not installed, or the shapes do not fit.
    """
    try:
        import pystoi  # noqa: F401  (torchmetrics needs it)
        from torchmetrics.functional.audio.stoi import (
            short_time_objective_intelligibility,
        )
    except ImportError as error:
        raise InputError(_not_installed("stoi", error)) from error

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

    return _one_by_one(one, estimate, target, lengths)


def _pit_si_snr(
    estimate: torch.Tensor,
    target: torch.Tensor,
    lengths: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Values, permutation and which targets are active, each ``[B, S]``."""
    estimate, target, active = _prepare(estimate, target, lengths)
    with torch.no_grad():
        permutation = best_permutation(_all_pairs(estimate, target, active))
    values = _si_snr(reorder(estimate, permutation), target, active)
    return values, permutation, active


def _prepare(
    estimate: torch.Tensor,
    target: torch.Tensor,
    lengths: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Both without mean and padding, ``[B, T, S]``; active ``[B, S]``."""
    _check(estimate, target)
    frames = _frames(target, lengths)
    estimate, _ = _centred(estimate, frames)
    target, mean = _centred(target, frames)
    return estimate, target, _is_active(target, mean)


def _all_pairs(
    estimate: torch.Tensor, target: torch.Tensor, active: torch.Tensor
) -> torch.Tensor:
    return _si_snr(  # [B, T, S, 1] against [B, T, 1, S]
        estimate.unsqueeze(3), target.unsqueeze(2), active.unsqueeze(1)
    )


def _si_snr(
    estimate: torch.Tensor, target: torch.Tensor, active: torch.Tensor
) -> torch.Tensor:
    """SI-SNR of signals without mean; behind dimension 1 they broadcast."""
    dot = (estimate * target).sum(dim=1)
    target_energy = target.square().sum(dim=1)
    scale = dot / (target_energy + EPS)
    noise = estimate - scale.unsqueeze(1) * target
    signal_energy = scale.square() * target_energy
    ratio = signal_energy / (noise.square().sum(dim=1) + EPS)
    value = 10 * torch.log10(ratio + EPS)
    # At an estimate of zero this has no slope. There, add a term that is
    # zero and has the slope of an estimate as loud as the target.
    silent = estimate.detach().square().sum(dim=1) <= EPS**2
    pull = 20 / math.log(10) * (scale - scale.detach())
    value = value + pull.masked_fill(~silent, 0)
    return torch.where(active, value, math.nan)


def _centred(
    signal: torch.Tensor, frames: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Without its mean over the frames, zero elsewhere; and that mean."""
    signal = signal.to(torch.promote_types(signal.dtype, torch.float32))
    if frames is None:
        mean = signal.sum(dim=1, keepdim=True) / max(signal.shape[1], 1)
        return signal - mean, mean
    count = frames.sum(dim=1, keepdim=True).clamp(min=1)
    mean = signal.masked_fill(~frames, 0).sum(dim=1, keepdim=True) / count
    return (signal - mean).masked_fill(~frames, 0), mean


def _is_active(centred: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Whether more is left than a mean's rounding error, ``[B, S]``."""
    energy = centred.detach().square().sum(dim=1)
    rounding = 8 * torch.finfo(mean.dtype).eps * mean.detach().squeeze(1)
    # Negated, so that a target with NaN is active and shows.
    return ~(energy <= EPS + centred.shape[1] * rounding.square())


def _frames(
    target: torch.Tensor, lengths: torch.Tensor | None
) -> torch.Tensor | None:
    """Which frames are no padding, ``[B, T, 1]``; None if all are valid."""
    if lengths is None:
        return None
    num_items, num_frames, _ = target.shape
    if lengths.shape != (num_items,):
        raise InputError(
            f"lengths has shape {tuple(lengths.shape)}; "
            f"one per item is needed: ({num_items},)"
        )
    samples = num_samples(lengths.to(target.device), num_frames)
    return sample_mask(samples, num_frames).unsqueeze(2)


def _check(estimate: torch.Tensor, target: torch.Tensor) -> None:
    if estimate.shape != target.shape or target.dim() != 3:
        raise InputError(
            f"estimate {tuple(estimate.shape)} and target "
            f"{tuple(target.shape)} must have one shape [B, T, S]"
        )


def _as_estimate(mixture: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    _check_mixture(mixture, target)
    return mixture.unsqueeze(2).expand_as(target)


def _check_mixture(mixture: torch.Tensor, target: torch.Tensor) -> None:
    if mixture.shape != target.shape[:2]:
        raise InputError(
            f"mixture {tuple(mixture.shape)} and target "
            f"{tuple(target.shape)} must be [B, T] and [B, T, S]"
        )


def _one_by_one(
    metric: Callable[[torch.Tensor, torch.Tensor], float],
    estimate: torch.Tensor,
    target: torch.Tensor,
    lengths: torch.Tensor | None,
) -> torch.Tensor:
    """Calls ``metric(estimate [T], target [T])`` without the padding."""
    _, _, active = _prepare(estimate, target, lengths)
    frames = _frames(target, lengths)
    values = torch.full(active.shape, math.nan, device=target.device)
    for item, source in active.nonzero().tolist():
        inside = slice(None) if frames is None else frames[item, :, 0]
        values[item, source] = metric(
            estimate[item, inside, source].detach().float().cpu(),
            target[item, inside, source].detach().float().cpu(),
        )
    return values


def _not_installed(metric: str, error: ImportError) -> str:
    return (
        f"{metric} needs {error.name or 'a library'}, which is not "
        "installed: pip install s4m_sb[eval]"
    )
