"""The level of separated voices; what a network learns has none."""

import torch

from s4m_sb.errors import InputError

NORMALIZATIONS = ("peak", "mixture", "none")

SILENT_PEAK = 1e-4  # three times the last bit of 16-bit audio, its dither
SILENT_VOICE = 1e-4  # a voice 80 dB below the loudest one is no voice


def normalize_voices(
    voices: torch.Tensor, mix: torch.Tensor, normalize: str
) -> torch.Tensor:
    """Gives separated voices a level.

    Arguments
    ---------
    voices : torch.Tensor
        ``[B, T, S]``.
    mix : torch.Tensor
        What was separated, ``[B, T]``.
    normalize : str
        "peak": each voice reaches 1, as in SpeechBrain. Silence stays
        silence: nothing is amplified that lies 80 dB below the loudest voice
        or comes from a mixture with a peak under 1e-4.
        "mixture": each voice as loud as in the mixture, and of its sign, by
        the least-squares gains with which the voices sum to the mixture.
        "none": as the network gives them.

    Returns
    -------
    torch.Tensor
        ``[B, T, S]``.

    Raises
    ------
    InputError
        If ``normalize`` is none of these.

    Example
    -------
    >>> voices = torch.tensor([[[0.5, 0.0], [-0.2, 0.0]]])
    >>> normalize_voices(voices, voices.sum(2), "peak")[0, 0]
    tensor([1., 0.])
    """
    check_normalization(normalize)
    if normalize == "none":
        return voices
    if normalize == "mixture":
        norms = voices.norm(dim=1, keepdim=True).clamp(min=1e-12)
        unit = voices / norms
        products = unit.mT @ unit  # [B, S, S]
        projections = unit.mT @ mix.unsqueeze(2)  # [B, S, 1]
        return voices * (_gains(products, projections).mT / norms)
    peaks = voices.abs().amax(dim=1)  # [B, S]
    mix_peak = mix.abs().amax(dim=1)  # [B]
    return voices / _divisors(peaks, mix_peak).unsqueeze(1)


def check_normalization(normalize: str) -> None:
    """Refuses an unknown way to normalize.

    Arguments
    ---------
    normalize : str
        See `normalize_voices`.

    Raises
    ------
    InputError
        If it is unknown.
    """
    if normalize not in NORMALIZATIONS:
        raise InputError(
            f"normalize={normalize!r}: give one of {', '.join(NORMALIZATIONS)}"
        )


class RunningLevel:
    """Normalizes voices that come in blocks, all blocks of a voice alike.

    To the result of `normalize_voices` on the whole, up to the rounding of
    sums in another order.

    Arguments
    ---------
    num_spks : int
        Number of voices.

    Example
    -------
    >>> level = RunningLevel(2)
    >>> voices = torch.tensor([[0.5, 0.1], [-0.2, 0.2]])
    >>> for block in voices.split(1):
    ...     level.add(block, block.sum(1))
    >>> voices / level.divisors("peak")
    tensor([[ 1.0000,  0.5000],
            [-0.4000,  1.0000]])
    """

    def __init__(self, num_spks: int):
        self.peaks = torch.zeros(num_spks)
        self.mix_peak = torch.zeros(())
        # In float64: there may be 10^9 samples.
        self.products = torch.zeros(num_spks, num_spks, dtype=torch.float64)
        self.projections = torch.zeros(num_spks, dtype=torch.float64)

    def add(self, voices: torch.Tensor, mix: torch.Tensor) -> None:
        """Takes in a block.

        Arguments
        ---------
        voices : torch.Tensor
            ``[n, S]``.
        mix : torch.Tensor
            What was separated, ``[n]``.
        """
        if len(mix) == 0:
            return
        self.peaks = torch.maximum(self.peaks, voices.abs().amax(dim=0))
        self.mix_peak = torch.maximum(self.mix_peak, mix.abs().amax())
        voices = voices.double()
        self.products += voices.T @ voices
        self.projections += voices.T @ mix.double()

    def divisors(self, normalize: str) -> torch.Tensor:
        """By what to divide the voices.

        Arguments
        ---------
        normalize : str
            See `normalize_voices`.

        Returns
        -------
        torch.Tensor
            ``[S]``; infinite for a voice that becomes silence.

        Raises
        ------
        InputError
            If ``normalize`` is unknown.
        """
        check_normalization(normalize)
        if normalize == "none":
            return torch.ones_like(self.peaks)
        if normalize == "peak":
            return _divisors(self.peaks[None], self.mix_peak[None])[0]
        norms = self.products.diagonal().sqrt().clamp(min=1e-12)
        gains = _gains(
            (self.products / norms / norms.unsqueeze(1)).unsqueeze(0),
            (self.projections / norms).view(1, -1, 1),
        )
        return (norms / gains.view(-1)).float()


def _divisors(peaks: torch.Tensor, mix_peak: torch.Tensor) -> torch.Tensor:
    """The peaks ``[B, S]``, but 1 for voices that are silent."""
    silent = peaks <= SILENT_VOICE * peaks.amax(dim=1, keepdim=True)
    silent = silent | (mix_peak <= SILENT_PEAK).unsqueeze(1)
    return peaks.masked_fill(silent, 1.0)


def _gains(products: torch.Tensor, projections: torch.Tensor) -> torch.Tensor:
    """Least-squares gains ``[B, S, 1]`` of voices of norm 1, 0 if silent."""
    # Voices that are nearly alike would get huge gains of opposite sign.
    ridge = 1e-3 * torch.eye(products.shape[1]).to(products)
    return torch.linalg.solve(products + ridge, projections)
