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
    divisors = []
    for item, item_mix in zip(voices, mix, strict=True):
        level = Level(voices.shape[2], normalize)
        level.add(item, item_mix)
        divisors.append(level.divisors())
    return voices / torch.stack(divisors).unsqueeze(1).to(voices)


class Level:
    """The level of voices that come in blocks, all blocks of a voice alike.

    What `normalize_voices` gives to the whole, whatever the blocks, up to the
    rounding of sums in another order.

    Arguments
    ---------
    num_spks : int
        Number of voices.
    normalize : str
        As there.

    Raises
    ------
    InputError
        If ``normalize`` is unknown.

    Example
    -------
    >>> level = Level(2, "peak")
    >>> voices = torch.tensor([[0.5, 0.1], [-0.2, 0.2]])
    >>> for block in voices.split(1):
    ...     level.add(block, block.sum(1))
    >>> voices / level.divisors()
    tensor([[ 1.0000,  0.5000],
            [-0.4000,  1.0000]])
    """

    def __init__(self, num_spks: int, normalize: str):
        if normalize not in NORMALIZATIONS:
            raise InputError(
                f"normalize={normalize!r}: give one of "
                + ", ".join(NORMALIZATIONS)
            )
        self.normalize = normalize
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
        voices, mix = voices.cpu(), mix.cpu()  # not everywhere is float64
        self.peaks = torch.maximum(self.peaks, voices.abs().amax(dim=0))
        self.mix_peak = torch.maximum(self.mix_peak, mix.abs().amax())
        voices = voices.double()
        self.products += voices.T @ voices
        self.projections += voices.T @ mix.double()

    def divisors(self) -> torch.Tensor:
        """By what to divide the voices.

        Returns
        -------
        torch.Tensor
            ``[S]``; infinite for a voice that becomes silence.
        """
        if self.normalize == "none":
            return torch.ones_like(self.peaks)
        if self.normalize == "peak":
            silent = self.peaks <= SILENT_VOICE * self.peaks.max()
            if self.mix_peak <= SILENT_PEAK:
                silent = torch.ones_like(silent)
            return self.peaks.masked_fill(silent, 1.0)
        norms = self.products.diagonal().sqrt().clamp(min=1e-12)
        unit = self.products / norms / norms.unsqueeze(1)  # [S, S]
        # Voices that are nearly alike would get huge gains of opposite sign.
        ridge = 1e-3 * torch.eye(len(norms)).to(unit)
        gains = torch.linalg.solve(unit + ridge, self.projections / norms)
        return (norms / gains).float()  # infinite for a silent one
